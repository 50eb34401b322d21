"""parts.py: which parts of the tests run, when, and what is shown of them."""

from __future__ import annotations

import re
import threading
import time

import job
import parts
import pytest

pytestmark = pytest.mark.serial


def test_every_part_of_the_tests_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(job, "run", lambda title, *_: job.Result(title, passed=1))

    def titles(mpis: str, counts: list[int], everything: bool) -> list[str]:
        assert parts.test({name: {} for name in mpis}, counts, everything, [], "all") == 0
        live, table = capsys.readouterr().out.split("\n\n")[:2]
        found = re.findall(r"^(\w, .*?)  ", table, re.MULTILINE)
        shown = [
            line.removesuffix(": 1 passed in 0.0 s") for line in live.splitlines() if not line.endswith("...")
        ]
        assert sorted(shown) == sorted(found)
        return found

    assert titles("ab", [2], False) == ["a, 2 ranks", "a, threads, 2 ranks", "a, torch, 2 ranks", "b, 2 ranks"]
    everything = titles("a", [1, 2, 3, 4], True)
    assert everything[:5] == ["a, jobs", "a, examples", "a, pool", "a, serial", "a, properties"]
    assert everything[5:9] == ["a, 1 rank", "a, 2 ranks", "a, 4 ranks", "a, threads, 4 ranks"]
    assert everything[9:] == ["a, torch, 2 ranks", "a, torch, 3 ranks"]
    both = titles("ab", [1, 2, 3, 4], True)
    assert [title for title in everything if title not in both] == ["a, 2 ranks"]
    assert both[len(everything) - 1 :] == ["b, jobs", "b, examples", "b, pool", "b, 2 ranks", "b, serial"]


def test_one_engine_alone() -> None:
    def titles(engine: str, everything: bool = True) -> list[str]:
        return [part.title for part in parts.choose([2], everything, True, engine)]

    assert titles("torch") == titles("torch", False) == ["torch, 2 ranks"]
    assert titles("mpi", False) == ["2 ranks", "threads, 2 ranks"]
    assert not any("torch" in title for title in titles("mpi"))


@pytest.mark.parametrize("engine", ["mpi", "all"])
@pytest.mark.parametrize("mpis", [1, 2])
def test_everything_runs_on_one_to_four_ranks(engine: str, mpis: int) -> None:
    """Operations on one carrier of messages for each number of ranks, and what carries messages on more."""
    chosen = [
        part
        for number in range(mpis)
        for part in parts.choose([1, 2, 3, 4], True, number == 0, engine, alone=mpis == 1)
        if any("not serial" in argument for argument in part.arguments)
    ]
    with_operations = [part.title for part in chosen if "tests/ops" not in part.arguments]
    of_three = "torch, 3 ranks" if engine == "all" else "3 ranks"
    assert sorted(with_operations) == sorted(["1 rank", "2 ranks", of_three, "threads, 4 ranks"])
    left_out = [part.title for part in chosen if "tests/ops" in part.arguments]
    assert left_out == ["4 ranks", *(["torch, 2 ranks"] if engine == "all" else [])]


def test_all_runs_on_the_number_of_ranks_that_is_asked_for() -> None:
    for first in (True, False):
        for part in parts.choose([4], False, first):
            assert part.arguments[:2] == ("-m", "not serial")
            assert "--ignore" not in part.arguments


def test_derivatives_run_on_mpi_and_on_threads() -> None:
    """Their numbers do not depend on what carries the messages, and they take a quarter of a part's time."""
    chosen = [part for first in (True, False) for part in parts.choose([1, 2, 3, 4], True, first, alone=False)]
    without = [part.title for part in chosen if parts.DERIVATIVES[1] in part.arguments]
    assert without == ["4 ranks", "torch, 2 ranks", "torch, 3 ranks"]


def test_a_job_has_the_settings_of_its_mpi_and_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {}
    monkeypatch.setattr(parts, "CORES", 2)
    monkeypatch.setattr(parts, "SLOTS", 3)
    monkeypatch.setattr(job, "run", lambda title, *what: calls.setdefault(title, what) and job.Result(title))
    assert parts.test({"a": {"X": "1"}}, [2], False, ["-k", "x"], "all") == 1
    assert calls["a, 2 ranks"] == (2, {"X": "1"}, ["-m", "not serial", "-k", "x"], "mpi")
    calls.clear()
    assert parts.test({"a": {"X": "1"}}, [1, 2, 3, 4], True, [], "all") == 1
    assert calls["a, torch, 2 ranks"][1] == {"X": "1", "MINISPLIT_DEBUG": "1"}


def test_ranks_that_outnumber_the_cores_sleep_while_they_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "CORES", 2)
    assert [parts.SLEEP in parts.on_mpi(ranks).settings for ranks in (1, 2, 3, 4)] == [False, False, True, True]


def test_debug_mode_is_on_in_some_parts() -> None:
    """Of operations where properties draw again, of all else on two ranks."""
    chosen = parts.choose([1, 2, 3, 4], True, first=True)
    assert [part.title for part in chosen if parts.DEBUG in part.settings] == ["pool", "torch, 2 ranks"]


def test_parts_that_fail_are_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "run", lambda title, *_: job.Result(title, passed=1, failed="threads" in title))
    assert parts.test({"a": {}}, [2], False, [], "all") == 1


def test_slots_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three: parts of all slots alone, one of two slots beside one of one, then small ones in threes."""
    monkeypatch.setattr(parts, "SLOTS", 3)
    sizes = {"2 ranks": 3, "4 ranks": 2, "jobs": 1, "a": 1, "b": 1, "c": 1, "d": 1}
    work = {name: parts.Part(name, 0, (), slots=slots) for name, slots in sizes.items()}
    history: list[set[str]] = []
    running: set[str] = set()
    lock = threading.Lock()

    def run(name: str) -> job.Result:
        with lock:
            running.add(name)
            history.append(set(running))
        time.sleep(0.05)
        with lock:
            running.discard(name)
        return job.Result(name)

    with parts.workers(len(work)) as executor:
        assert {result.title for result in parts.run_side_by_side(executor, run, work)} == set(sizes)
    assert history[0] == {"2 ranks"}
    assert [names for names in history if "2 ranks" in names] == [{"2 ranks"}]
    assert max(len(names) for names in history if "4 ranks" in names) == 2
    assert max(map(len, history)) == 3


def test_ranks_that_cannot_sleep_while_they_wait_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "CORES", 2)
    monkeypatch.setattr(parts, "SLOTS", 3)
    slots = [
        {part.title: part.slots for part in parts.choose([1, 2, 3, 4], True, True, sleep=sleep) if part.slots > 1}
        for sleep in (True, False)
    ]
    assert slots == [{"2 ranks": 3, "4 ranks": 2}, {"pool": 3, "2 ranks": 3, "4 ranks": 3}]


def test_summary_ends_with_the_totals() -> None:
    results = [job.Result("serial", passed=3), job.Result("2 ranks", passed=4, failed=1), job.Result("3 ranks")]
    lines = parts.summary(results).splitlines()
    assert [line.split(maxsplit=6)[-1] for line in lines[2:4]] == ["FAILED", "no tests"]
    assert lines[-1] == "7 passed, 1 failed"
    results.append(job.Result("4 ranks", skipped=2))
    assert parts.summary(results).splitlines()[-1] == "7 passed, 1 failed, 2 skipped"
