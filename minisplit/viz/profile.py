"""`profile`: where the time of a block went on each rank: computing, moving, or waiting for others."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from minisplit.core.communication.debug import call_site
from minisplit.core.communication.protocol import Call, Communication, messages_sent, sanitize_comm
from minisplit.viz.timeline import draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Made:
    """A collective call of one rank: seconds since the block began, of which it waited for others at first."""

    kind: str
    site: str
    begin: float
    end: float
    waiting: float
    bytes_sent: int

    @property
    def moving(self) -> float:
        """Seconds from when the last rank had come."""
        return self.end - self.begin - self.waiting


@dataclass(frozen=True, slots=True)
class RankProfile:
    """One rank's part of a profile. Times are seconds."""

    rank: int
    seconds: float
    calls: tuple[Made, ...]

    @property
    def waiting(self) -> float:
        """Until the last rank had come to a call."""
        return sum(call.waiting for call in self.calls)

    @property
    def moving(self) -> float:
        """In calls, once all ranks had come."""
        return sum(call.moving for call in self.calls)

    @property
    def computing(self) -> float:
        """Outside of collective calls."""
        return self.seconds - self.waiting - self.moving

    @property
    def bytes_sent(self) -> int:
        """To other ranks, by exchanges."""
        return sum(call.bytes_sent for call in self.calls)


class Profile:
    """What `profile` has seen: `ranks`, complete on every rank once the block is over, and views of it.

    Where the block raised nothing is known of the other ranks, and `ranks` is empty.
    """

    def __init__(self, comm: Communication) -> None:
        self.comm = comm
        self.ranks: tuple[RankProfile, ...] = ()

    def __repr__(self) -> str:
        return f"<Profile of {len(self.ranks)} ranks, {sum(len(one.calls) for one in self.ranks)} calls>"

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """Seconds of each rank, and of each line of the program that made calls, as the mean over ranks. Local."""
        columns = ["rank", "seconds", "computing", "moving", "waiting", "calls", "MB sent"]
        rows = [columns]
        for one in self.ranks:
            parts = [
                f"{share / max(one.seconds, 1e-12):.0%}" for share in (one.computing, one.moving, one.waiting)
            ]
            numbers = [str(len(one.calls)), f"{one.bytes_sent / 1e6:.2f}"]
            rows.append([str(one.rank), f"{one.seconds:.4f}", *parts, *numbers])
        lines = ["".join(f"{cell:>11}" for cell in row) for row in rows]
        lines += ["", f"{'call':<34} {'times':>6} {'moving':>10} {'waiting':>10} {'MB sent':>9}"]
        groups: dict[tuple[str, str], list[Made]] = defaultdict(list)
        for one in self.ranks:
            for call in one.calls:
                groups[call.kind, call.site].append(call)
        ranks = max(len(self.ranks), 1)
        for (kind, site), calls in sorted(groups.items(), key=lambda item: -sum(map(_length, item[1]))):
            moving, waiting = sum(c.moving for c in calls) / ranks, sum(c.waiting for c in calls) / ranks
            name, size = f"{kind} at {site}"[-34:], sum(c.bytes_sent for c in calls) / 1e6
            lines.append(f"{name:<34} {len(calls) // ranks:>6} {moving:>10.5f} {waiting:>10.5f} {size:>9.2f}")
        return "\n".join(lines)

    def plot(self) -> Figure:
        """A timeline: a row for each rank, what it did in three colours. Local; needs matplotlib."""
        return draw([(one.rank, one.seconds, _spans(one)) for one in self.ranks])

    def save_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the calls in Chrome's trace format, for `chrome://tracing` or Perfetto. Rank 0 writes. Local."""
        if self.comm.rank != 0:
            return
        events: list[dict[str, Any]] = []
        for one in self.ranks:
            named = {"name": f"rank {one.rank}"}
            events.append({"name": "thread_name", "ph": "M", "pid": 0, "tid": one.rank, "args": named})
            for name, start, stop, details in _spans(one):
                event = {"name": details or name, "cat": name, "ph": "X", "pid": 0, "tid": one.rank}
                events.append({**event, "ts": start * 1e6, "dur": (stop - start) * 1e6})
        Path(path).write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}))


def _length(call: Made) -> float:
    return call.end - call.begin


def _spans(one: RankProfile) -> list[tuple[str, float, float, str]]:
    """What a rank did from when to when: computing, waiting, moving, and in which call."""
    spans, now = [], 0.0
    for call in one.calls:
        text = f"{call.kind} at {call.site}"
        spans.append(("computing", now, call.begin, ""))
        spans.append(("waiting", call.begin, call.begin + call.waiting, text))
        spans.append(("moving", call.begin + call.waiting, call.end, text))
        now = call.end
    spans.append(("computing", now, one.seconds, ""))
    return [span for span in spans if span[2] > span[1]]


class profile:  # noqa: N801 - used like a function
    """See where the time of a `with` block goes on each rank: `with ms.profile() as p: ...`. Collective.

    comm: whose collective calls are seen, the communicator in use by default. Each is seen with its line in the
    program. A rank waits in a call until the last one has come, since call number k is the same one on all ranks,
    and moves data from then on. What lies between calls is computing. The ranks' clocks are set by three small
    messages at the beginning, so that their times can be compared to some microseconds; what was seen is told to
    all at the end. In between nothing is sent that would not be sent anyway.

    A block that raises does so as it would without a profile; then there is none.

    The result has `ranks`, `table()`, `plot()` and `save_trace(path)`. Ranks that are threads run one at a time,
    which shows as waiting.

    >>> import minisplit as ms
    >>> x = ms.ones((4, 4), split=0)
    >>> with ms.profile() as p:
    ...     y = x.resplit(1)
    >>> len(p.ranks) == x.comm.size, (p.ranks[0].bytes_sent > 0) == (x.comm.size > 1)
    (True, True)
    """

    def __init__(self, comm: Communication | None = None) -> None:
        self.comm = sanitize_comm(comm)

    def __enter__(self) -> Profile:
        self.found = Profile(self.comm)
        self.seen: list[list[Any]] = []
        for _ in range(3):
            self.comm.agree(np.zeros(1, dtype=np.int64))
        self.before, self.comm._observer = self.comm._observer, self._see
        self.started = time.perf_counter()
        return self.found

    def _see(self, call: Call, args: tuple[Any, ...]) -> Callable[[], object]:
        over = None if self.before is None else self.before(call, args)
        event = [str(call[0]), call_site(), time.perf_counter() - self.started, 0.0, messages_sent(call, args)[1]]
        self.seen.append(event)

        def end() -> None:
            event[3] = time.perf_counter() - self.started
            if over is not None:
                over()

        return end

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = time.perf_counter() - self.started
        self.comm._observer = self.before
        # Else the others may be anywhere: what nobody catches ends the job, as without a profile.
        if error is None:
            mine = json.dumps([seconds, self.seen]).encode()
            told = [json.loads(self.comm.broadcast_bytes(mine, root)) for root in range(self.comm.size)]
            self.found.ranks = _put_together(told)


def _put_together(told: Sequence[tuple[float, list[list[Any]]]]) -> tuple[RankProfile, ...]:
    """The ranks' profiles: call k is the same one on all, and begins when the last rank has come.

    >>> late = [(3.0, [["agree", "a.py:1", 1.0, 2.5, 0]]), (3.0, [["agree", "a.py:1", 2.0, 2.5, 0]])]
    >>> [round(one.waiting, 1) for one in _put_together(late)]
    [1.0, 0.0]
    """
    calls = min((len(seen) for _, seen in told), default=0)
    last = [max(seen[k][2] for _, seen in told) for k in range(calls)]
    ranks = []
    for rank, (seconds, seen) in enumerate(told):
        made = []
        for k, (kind, site, begin, end, size) in enumerate(seen):
            waited = min(max(last[k] - begin, 0.0), end - begin) if k < calls else 0.0
            made.append(Made(kind, site, begin, end, waited, size))
        ranks.append(RankProfile(rank, seconds, tuple(made)))
    return tuple(ranks)
