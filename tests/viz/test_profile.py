"""Where time went: calls, lines and bytes are those of the program, and times fit together."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.testing import traffic
from minisplit.viz.profile import Profile, RankProfile, TimedCall, _rank_profiles, profile


def test_calls_lines_and_bytes(comm: ms.Communication, rank: int, size: int, tmp_path: Path) -> None:
    x = ms.ones((12, 8), split=0)
    with profile() as p, traffic() as seen:
        x.resplit(1)
        x.sum()
    with agreement(comm, "checking"):
        assert len(p.ranks) == size
        mine = p.ranks[rank]
        assert [call.kind for call in mine.calls] == (["exchange", "allreduce"] if size > 1 else [])
        assert all(call.site.startswith("test_profile.py:") for call in mine.calls)
        assert mine.bytes_sent == seen.bytes_sent
        assert seen.collectives == len(mine.calls)
        for one in p.ranks:
            assert min(one.computing, one.moving, one.waiting) >= 0
            assert abs(one.computing + one.moving + one.waiting - one.seconds) < 1e-9
        assert len(p.table().splitlines()) == 1 + size + 2 + len(mine.calls)
        assert comm._observer is None
        path = tmp_path / f"trace-{rank}.json"
        p.save_trace(path)
        assert path.exists() == (rank == 0)


@pytest.mark.several
@pytest.mark.processes
def test_who_comes_late_is_waited_for(rank: int) -> None:
    x = ms.ones(4, split=0)
    with ms.debug(False), ms.profile() as p:  # in debug mode the others wait in a comparison before the call
        if rank == 0:
            time.sleep(0.05)
        x.sum()
    assert p.ranks[0].waiting < 0.02
    assert all(one.waiting > 0.03 for one in p.ranks[1:])


def test_a_block_that_raises(comm: ms.Communication) -> None:
    with pytest.raises(ZeroDivisionError), ms.profile() as p:
        _ = 1 / 0
    assert (p.ranks, comm._observer) == ((), None)


def test_a_block_may_end_the_program() -> None:
    with pytest.raises(SystemExit), ms.profile():
        raise SystemExit(0)


def test_one_after_the_other(size: int) -> None:
    x, seen = ms.ones(4, split=0), ms.profile()
    for _ in range(2):
        with seen as p:
            x.sum()
        assert len(p.ranks[0].calls) == (size > 1)


@pytest.mark.serial
def test_views(tmp_path: Path) -> None:
    early = [["agree", "a.py:1", 1.0, 2.5, 0], ["exchange", "a.py:2", 2.6, 2.8, 4000]]
    late = [["agree", "a.py:1", 2.0, 2.5, 0], ["exchange", "a.py:2", 2.6, 2.7, 8000]]
    p = Profile(ms.MPI_SELF)
    p.ranks = _rank_profiles([(3.0, early), (2.9, late)])
    assert p.ranks[1] == RankProfile(
        1,
        2.9,
        (TimedCall("agree", "a.py:1", 2.0, 2.5, 0.0, 0), TimedCall("exchange", "a.py:2", 2.6, 2.7, 0.0, 8000)),
    )
    assert (round(p.ranks[0].waiting, 6), round(p.ranks[0].moving, 6)) == (1.0, 0.7)
    assert str(p).splitlines()[1].split() == ["0", "3.0000", "43%", "23%", "33%", "2", "0.00"]
    assert str(p).splitlines()[5].split()[:4] == ["agree", "at", "a.py:1", "1"]
    [axes] = p.plot().axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["rank 0", "rank 1"]
    assert axes.get_xlabel() == "seconds"
    p.save_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    assert {event["cat"] for event in spans} == {"computing", "moving", "waiting"}
    assert sum(event["dur"] for event in spans if event["tid"] == 1) == pytest.approx(2.9e6)
