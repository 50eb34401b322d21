"""`profile`: where the time of a block goes on each rank: computing, moving, or waiting for others."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minisplit.core.communication.debug import call_site
from minisplit.core.communication.protocol import Call, Communication, messages_sent, sanitize_comm
from minisplit.viz.timeline import Span, draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class TimedCall:
    """A collective call of one rank.

    Parameters
    ----------
    kind : str
        The method of `Communication`, such as "allreduce".
    site : str
        The line of the program, as file.py:line.
    begin : float
        Seconds from the beginning of the block to the beginning of the call.
    end : float
        Seconds from the beginning of the block to the end of the call.
    waiting : float
        Seconds until the last rank arrived at the call.
    bytes_sent : int
        Bytes sent to other ranks, by exchanges.
    """

    kind: str
    site: str
    begin: float
    end: float
    waiting: float
    bytes_sent: int

    @property
    def moving(self) -> float:
        """Seconds in the call after the last rank arrived."""
        return self.end - self.begin - self.waiting


@dataclass(frozen=True, slots=True)
class RankProfile:
    """One rank's part of a profile.

    Parameters
    ----------
    rank : int
        The rank.
    seconds : float
        How long the block took.
    calls : tuple of TimedCall
        Its collective calls, in their order.
    """

    rank: int
    seconds: float
    calls: tuple[TimedCall, ...]

    @property
    def waiting(self) -> float:
        """Seconds in calls before the last rank arrived."""
        return sum(call.waiting for call in self.calls)

    @property
    def moving(self) -> float:
        """Seconds in calls after the last rank arrived."""
        return sum(call.moving for call in self.calls)

    @property
    def computing(self) -> float:
        """Seconds outside of collective calls."""
        return self.seconds - self.waiting - self.moving

    @property
    def bytes_sent(self) -> int:
        """Bytes sent to other ranks, by exchanges."""
        return sum(call.bytes_sent for call in self.calls)

    def spans(self) -> list[Span]:
        """Return what the rank did from when to when: computing, waiting, moving, and in which call.

        Returns
        -------
        list of tuple
            Tuples of what it did, start and stop in seconds, and the call, in the order of time.

        Communication
        -------------
        Local.
        """
        spans, now = [], 0.0
        for call in self.calls:
            text, arrived = f"{call.kind} at {call.site}", call.begin + call.waiting
            spans.append(("computing", now, call.begin, ""))
            spans += [("waiting", call.begin, arrived, text), ("moving", arrived, call.end, text)]
            now = call.end
        spans.append(("computing", now, self.seconds, ""))
        return [span for span in spans if span[2] > span[1]]


class Profile:
    """What `profile` has recorded, and views of it.

    Parameters
    ----------
    comm : Communication
        The communicator whose calls are recorded.

    Attributes
    ----------
    comm : Communication
        The communicator.
    ranks : tuple of RankProfile
        The profiles of all ranks, on every rank, once the block is over. Empty before the end of the block, and if
        the block has raised, because the ranks then exchange nothing.

    See Also
    --------
    minisplit.profile : Make one.
    """

    def __init__(self, comm: Communication) -> None:
        self.comm = comm
        self.ranks: tuple[RankProfile, ...] = ()

    def __repr__(self) -> str:
        return f"<Profile of {len(self.ranks)} ranks, {sum(len(rank.calls) for rank in self.ranks)} calls>"

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """Return the shares of each rank, and the calls of each line of the program, as text.

        Returns
        -------
        str
            Two tables. Seconds of calls are means over the ranks.

        Communication
        -------------
        Local.
        """
        columns = ["rank", "seconds", "computing", "moving", "waiting", "calls", "MB sent"]
        rows = [columns]
        for rank in self.ranks:
            times = (rank.computing, rank.moving, rank.waiting)
            # Not by 0, where the clock did not advance: a block without a call may take less than its tick.
            shares = [f"{seconds / max(rank.seconds, 1e-12):.0%}" for seconds in times]
            numbers = [str(len(rank.calls)), f"{rank.bytes_sent / 1e6:.2f}"]
            rows.append([str(rank.rank), f"{rank.seconds:.4f}", *shares, *numbers])
        lines = ["".join(f"{cell:>11}" for cell in row) for row in rows]
        lines += ["", f"{'call':<34} {'times':>6} {'moving':>10} {'waiting':>10} {'MB sent':>9}"]
        calls_of: dict[tuple[str, str], list[TimedCall]] = defaultdict(list)
        for rank in self.ranks:
            for call in rank.calls:
                calls_of[call.kind, call.site].append(call)
        number = max(len(self.ranks), 1)
        # The lines that take longest come first.
        slowest_first = sorted(calls_of.items(), key=lambda item: -sum(call.end - call.begin for call in item[1]))
        for (method, site), calls in slowest_first:
            moving, waiting = (sum(c.moving for c in calls) / number, sum(c.waiting for c in calls) / number)
            name, size = f"{method} at {site}"[-34:], sum(c.bytes_sent for c in calls) / 1e6
            lines.append(f"{name:<34} {len(calls) // number:>6} {moving:>10.5f} {waiting:>10.5f} {size:>9.2f}")
        return "\n".join(lines)

    def plot(self) -> Figure:
        """Return a timeline with a row for each rank; three colours show what it did.

        Returns
        -------
        matplotlib.figure.Figure
            The figure.

        Raises
        ------
        ImportError
            If matplotlib is missing.

        Communication
        -------------
        Local.
        """
        return draw([(rank.rank, rank.seconds, rank.spans()) for rank in self.ranks])

    def save_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the calls in Chrome's trace format, for `chrome://tracing` or Perfetto. Only rank 0 writes.

        Parameters
        ----------
        path : str or os.PathLike
            The file, of JSON.

        Raises
        ------
        OSError
            On rank 0, if the file cannot be written.

        Communication
        -------------
        Local.
        """
        if self.comm.rank != 0:
            return
        events: list[dict[str, Any]] = []
        for rank in self.ranks:
            # "M" is an event with metadata, "X" one with begin and duration, in microseconds.
            name = {"name": f"rank {rank.rank}"}
            events.append({"name": "thread_name", "ph": "M", "pid": 0, "tid": rank.rank, "args": name})
            for activity, start, stop, call in rank.spans():
                event = {"name": call or activity, "cat": activity, "ph": "X", "pid": 0, "tid": rank.rank}
                events.append({**event, "ts": start * 1e6, "dur": (stop - start) * 1e6})
        Path(path).write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}))


class profile:  # noqa: N801 - used like a function
    """Measure where the time of a `with` block goes on each rank: `with ms.profile() as p: ...`.

    A rank waits in a collective call until the last rank arrives, and moves data from then on. The time between
    calls is computing. Each call is recorded with its line in the program. If the block raises, there is no
    profile. Ranks that are threads run one at a time, so most of their time is waiting.

    Parameters
    ----------
    comm : Communication, optional
        The communicator whose calls are recorded. By default that in use.

    Raises
    ------
    TypeError
        If `comm` is no communicator.

    Communication
    -------------
    Collective: three small messages at the beginning of the block, which synchronise the ranks' clocks up to some
    microseconds, and one broadcast for each rank at its end. In between a profile sends nothing.

    See Also
    --------
    minisplit.Profile : The object that the block gets.

    Notes
    -----
    Call number k is the same call on all ranks, so the last rank that begins it is the one for which others wait.

    Examples
    --------
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
        self._profile = Profile(self.comm)
        self._events: list[list[Any]] = []
        # All ranks leave an allreduce at about the same time. The first calls may set up connections.
        for _ in range(3):
            self.comm.agree(np.zeros(1, dtype=np.int64))
        self._outer, self.comm._observer = self.comm._observer, self._observe
        self._start = time.perf_counter()
        return self._profile

    def _observe(self, call: Call, args: tuple[Any, ...]) -> Callable[[], object]:
        outer_end = None if self._outer is None else self._outer(call, args)
        event = [str(call[0]), call_site(), time.perf_counter() - self._start, 0.0, messages_sent(call, args)[1]]
        self._events.append(event)

        def end() -> None:
            event[3] = time.perf_counter() - self._start
            if outer_end is not None:
                outer_end()

        return end

    def __exit__(self, error_type: object, error: BaseException | None, trace: object) -> None:
        seconds = time.perf_counter() - self._start
        self.comm._observer = self._outer
        # After an error the others may be anywhere, and would not make these calls: an error that nobody catches
        # ends the job, as without a profile.
        if error is None:
            data = json.dumps([seconds, self._events]).encode()
            events = [json.loads(self.comm.broadcast_bytes(data, root)) for root in range(self.comm.size)]
            self._profile.ranks = _rank_profiles(events)


def _rank_profiles(events: Sequence[tuple[float, list[list[Any]]]]) -> tuple[RankProfile, ...]:
    """Return the ranks' profiles: call k is the same one on all, and moves data once the last rank has come.

    >>> late = [(3.0, [["agree", "a.py:1", 1.0, 2.5, 0]]), (3.0, [["agree", "a.py:1", 2.0, 2.5, 0]])]
    >>> [round(rank.waiting, 1) for rank in _rank_profiles(late)]
    [1.0, 0.0]
    """
    common = min((len(calls) for _, calls in events), default=0)
    last_begins = [max(calls[k][2] for _, calls in events) for k in range(common)]
    ranks = []
    for rank, (seconds, calls) in enumerate(events):
        timed = []
        for k, (method, site, begin, end, size) in enumerate(calls):
            # Not more than the call took: clocks are not quite the same, and a sender need not wait.
            waiting = min(max(last_begins[k] - begin, 0.0), end - begin) if k < common else 0.0
            timed.append(TimedCall(method, site, begin, end, waiting, size))
        ranks.append(RankProfile(rank, seconds, tuple(timed)))
    return tuple(ranks)
