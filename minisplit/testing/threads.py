"""Ranks as threads of this process: an SPMD function runs on any number of ranks, and cannot hang.

One rank runs at a time, until it must wait for others, and the lowest rank that can go on is next. So the order
depends on nothing but the function: a run can be repeated exactly, and when no rank can go on, it is known at once
who waits for whom.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch

from minisplit.core.communication.debug import CollectiveError, call_site, debugging, describe_call, texts_by_rank
from minisplit.core.communication.protocol import Call, Communication, Record, use_comm
from minisplit.core.communication.reduce_ops import MergeOp, ReduceOp, fold
from minisplit.core.layout import as_index
from minisplit.testing.examples import example_is_final, rank_in_example, traced_as_caller
from minisplit.testing.histories import call_title
from minisplit.testing.reporting import RETURNED, UnwoundError, combined_error, traceback_text

T = TypeVar("T")
Argument = TypeVar("Argument")
Result = TypeVar("Result")
Pieces = Sequence[tuple[int, torch.Tensor]]


def run(func: Callable[..., T], /, *args: Any, ranks: int = 4, **kwargs: Any) -> list[T]:
    """Call a function once per rank, on threads of this process, and return what each rank returned.

    New arrays use a communicator of these ranks while the function runs. The ranks share modules and torch's
    random generator, and all get the same arguments, not copies.

    Parameters
    ----------
    func : callable
        The function.
    *args : Any
        Its arguments, on all ranks.
    ranks : int, default 4
        The number of ranks.
    **kwargs : Any
        Its keyword arguments, on all ranks.

    Returns
    -------
    list
        The results, in the order of the ranks.

    Raises
    ------
    Exception
        The exception of the lowest rank that failed by itself, with every rank's traceback in the notes.
    CollectiveError
        If the ranks can never go on, for example because one has returned while others wait for it. The text says
        what each rank does. If the collective calls of the ranks differ, these calls raise it on every rank.
    TypeError
        If `ranks` is not an int.
    ValueError
        If `ranks` is less than 1.

    Communication
    -------------
    Local: the ranks are threads of the caller.

    See Also
    --------
    minisplit.testing.Pool : The same on ranks of MPI.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.testing.run(lambda: ms.arange(5, split=0).larray.tolist(), ranks=3)
    [[0, 1], [2, 3], [4]]
    """
    __tracebackhide__ = True
    ranks = as_index(ranks, "ranks")
    if ranks < 1:
        raise ValueError(f"ranks must be 1 or more, got {ranks}")
    scheduler = _Scheduler(ranks)
    group = _Group(scheduler, range(ranks))
    comms = [ThreadCommunication(group, rank) for rank in range(ranks)]
    results: list[Any] = [None] * ranks
    gradients, is_final, trace = torch.is_grad_enabled(), example_is_final(), sys.gettrace()

    def run_rank(rank: int) -> None:
        __tracebackhide__ = True
        try:
            scheduler.take_turn(rank, "was not begun", scheduler.warnings)
            with (
                use_comm(comms[rank]),
                torch.set_grad_enabled(gradients),
                rank_in_example(is_final),
                traced_as_caller(trace),
            ):
                results[rank] = func(*args, **kwargs)
        except BaseException as error:
            scheduler.end(rank, error)
        else:
            scheduler.end(rank, None)

    # In a copy of the context each: ranks see the caller's debug mode, and what one sets others do not see.
    # Daemons: a rank that is in an endless loop of its own must not keep the process from ending.
    threads = [
        Thread(target=copy_context().run, args=(run_rank, rank), name=f"rank {rank} of {ranks}", daemon=True)
        for rank in range(ranks)
    ]
    try:
        scheduler.run(threads)
    finally:
        # Later calls are refused: there are no ranks any more that would make them.
        for comm in scheduler.comms:
            comm._close("belonged to a run of minisplit.testing that has ended")
    reports = [RETURNED if error is None else traceback_text(error) for error in scheduler.errors]
    own_errors = [None if isinstance(error, UnwoundError) else error for error in scheduler.errors]
    error = combined_error(own_errors, reports, scheduler.deadlock)
    if error is not None:
        raise error
    return results


class _Scheduler:
    """Lets the threads of one run go on, one at a time."""

    def __init__(self, ranks: int) -> None:
        # Each thread waits for its lock, which the thread that has run before it releases; `run` waits for `over`.
        self.turns = [Lock() for _ in range(ranks)]
        self.over = Lock()
        for lock in (*self.turns, self.over):
            lock.acquire()
        self.ready = [True] * ranks
        # Those of all ranks, and the parts that are split off.
        self.comms: list[ThreadCommunication] = []
        # What a rank that is not ready does, and in which call, for texts.
        self.doing = [""] * ranks
        self.titles = [""] * ranks
        # What each rank has raised.
        self.errors: list[BaseException | None] = [None] * ranks
        self.ended = [False] * ranks
        # Why no rank can go on.
        self.deadlock = ""
        # Whether each rank that gets its turn is to be unwound.
        self.stopping = False
        # Each rank has filters of its own while it runs. These are the caller's.
        self.warnings = _warnings_state()

    def run(self, threads: Sequence[Thread]) -> None:
        """Let the ranks run until each has come to its end."""
        # If not all threads can be started, those that wait already are unwound.
        self.stopping = True
        try:
            try:
                for thread in threads:
                    thread.start()
                self.stopping = False
            finally:
                self.next_turn()
            # Not without a timeout: a Ctrl-C that came just before the wait would go unnoticed in it.
            while not self.over.acquire(timeout=1):
                pass
        except BaseException:  # Ctrl-C, which may come as soon as the first rank runs
            self.stopping = True
            raise
        finally:
            _set_warnings_state(self.warnings)

    def end(self, rank: int, error: BaseException | None) -> None:
        """Note how a rank has ended, and let another one run."""
        self.doing[rank] = "returned" if error is None else f"raised {type(error).__name__}"
        self.errors[rank] = error
        self.ready[rank] = False
        self.ended[rank] = True
        self.next_turn()

    def wait(self, rank: int, title: str, doing: str) -> None:
        """Let others run until one makes this rank ready, or none can: it is `doing` something in call `title`."""
        self.titles[rank], self.doing[rank] = title, doing
        self.ready[rank] = False
        state = _warnings_state()
        self.next_turn()
        self.take_turn(rank, f"{doing}, {title}", state)

    def take_turn(self, rank: int, doing: str, state: dict[str, Any]) -> None:
        """Wait until this rank may run; UnwoundError where it can never go on with what it is `doing`."""
        self.turns[rank].acquire()
        _set_warnings_state(state)
        if self.stopping:
            raise UnwoundError(doing)

    def next_turn(self) -> None:
        """Let the lowest rank that is ready run. If none is, unwind those that wait; if all have ended, end."""
        # Nobody can make a rank ready any more: a deadlock, whatever the ranks would have done next.
        if not any(self.ready) and not all(self.ended):
            waiting = [rank for rank, ended in enumerate(self.ended) if not ended]
            if not self.stopping:
                self.deadlock = self.describe_deadlock(waiting)
                self.stopping = True
            self.ready = [not ended for ended in self.ended]
        if any(self.ready):
            self.turns[self.ready.index(True)].release()
        else:
            self.over.release()

    def describe_deadlock(self, waiting: Sequence[int]) -> str:
        """Return who waits for whom, as text."""
        titles = {self.titles[rank] for rank in waiting}
        if len(titles) == 1:
            return f"{titles.pop()}: {texts_by_rank(self.doing)}"
        texts = list(self.doing)
        for rank in waiting:
            texts[rank] += f", {self.titles[rank]}"
        return f"the ranks waited for each other: {texts_by_rank(texts)}"


def _warnings_state() -> dict[str, Any]:
    """Return what `warnings.catch_warnings` sets for the whole process, and what is a rank's own here."""
    return {name: getattr(warnings, name) for name in ("filters", "showwarning", "_showwarnmsg_impl")}


def _set_warnings_state(state: dict[str, Any]) -> None:
    if any(getattr(warnings, name) is not value for name, value in state.items()):
        vars(warnings).update(state)
        with warnings.catch_warnings():  # which makes the interpreter forget which warnings it has printed
            pass


@dataclass(slots=True)
class _PendingCall:
    """One collective call: for each rank that has come to it call, site and argument, and what each rank gets."""

    arrivals: dict[int, tuple[Call, str, Any]] = field(default_factory=dict)
    results: Sequence[Any] = ()
    error: str = ""


class _Group:
    """A group of ranks, of which each has a communicator: its members, and the call that they make now."""

    def __init__(self, scheduler: _Scheduler, members: Sequence[int]) -> None:
        self.scheduler = scheduler
        self.members = members
        self.pending = _PendingCall()

    def title(self, number: int) -> str:
        """Return the name of one of its calls in texts."""
        return call_title(number, self.members, len(self.members) < len(self.scheduler.turns))


class ThreadCommunication(Communication):
    """The communicator of a `minisplit.testing.run`, whose ranks are threads.

    In every collective call the ranks check that all make the same call, with the same shapes, dtypes and layouts.
    If not, all ranks raise a `CollectiveError`. In debug mode the lines of the program must be the same too. `run`
    makes these communicators; a program need not.

    Parameters
    ----------
    group : object
        The group of ranks that the communicator is of.
    rank : int
        The rank of the thread that uses it.
    """

    __slots__ = ("_group",)

    def __init__(self, group: _Group, rank: int) -> None:
        super().__init__(rank, len(group.members))
        self._group = group
        group.scheduler.comms.append(self)

    def __repr__(self) -> str:
        return f"<ThreadCommunication rank {self.rank} of {self.size}>"

    def _compare(self, call: Call) -> None:
        """Do nothing: `_call_together` compares every call, also without debug mode."""

    def _meet(self) -> None:
        self._call_together(None, lambda _: [None] * self.size)

    def _call_together(self, argument: Argument, combine: Callable[[list[Argument]], Sequence[Result]]) -> Result:
        """Return this rank's part of what `combine` makes of the arguments of all ranks.

        The last rank that comes to the call calls `combine`.
        """
        group = self._group
        scheduler, pending, world_rank = group.scheduler, group.pending, group.members[self.rank]
        if scheduler.stopping:
            raise UnwoundError("taken out, since the ranks cannot go on")
        call, site = self._call[1] if self._call else (), call_site()
        pending.arrivals[self.rank] = call, site, argument
        if len(pending.arrivals) < self.size:
            scheduler.wait(world_rank, group.title(self._calls), f"waited in {describe_call(call)} at {site}")
        else:
            group.pending = _PendingCall()
            self._complete(pending, combine)
            # The others go on, each once its turn comes. This rank was not waiting.
            for member in group.members:
                scheduler.ready[member] = True
        if pending.error:
            raise CollectiveError(pending.error)
        result: Result = pending.results[self.rank]
        return result

    def _complete(self, pending: _PendingCall, combine: Callable[[list[Any]], Sequence[Any]]) -> None:
        """Set the results of a call to which all ranks have come, or the error that all raise."""
        title = self._group.title(self._calls)
        calls, sites, arguments = zip(*(pending.arrivals[rank] for rank in range(self.size)), strict=True)
        if len(set(calls)) > 1 or (debugging() and len(set(sites)) > 1):
            texts = [f"{describe_call(call)} at {site}" for call, site in zip(calls, sites, strict=True)]
            pending.error = f"{title}: {texts_by_rank(texts, self._group.members)}"
            return
        try:
            pending.results = combine(list(arguments))
        except CollectiveError as error:
            pending.error = f"{title}, {describe_call(calls[0])}: {error}"

    def _exchange(self, send: Pieces, recv: Pieces, device: torch.device) -> None:
        self._call_together((send, recv), _deliver)

    def _allreduce(self, total: torch.Tensor, op: ReduceOp | MergeOp) -> None:
        # One for all: each rank copies it.
        total.copy_(self._call_together(total, lambda totals: [fold(totals, op)] * self.size))

    def _scan(self, tensor: torch.Tensor, before: torch.Tensor, op: ReduceOp) -> None:
        def combine(parts: list[torch.Tensor]) -> list[torch.Tensor]:
            return [fold(parts[:rank], op) if rank else before for rank in range(self.size)]

        result = self._call_together(tensor, combine)
        if self.rank:
            before.copy_(result)

    def _broadcast(self, tensor: torch.Tensor, root: int) -> torch.Tensor:
        def combine(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
            resolved = tensors[root].detach().resolve_conj().resolve_neg()
            # Each rank has a copy: on MPI none sees what another one does to it.
            return [resolved.clone(memory_format=torch.contiguous_format) for _ in tensors]

        return self._call_together(tensor, combine).to(tensor.device)

    def _broadcast_bytes(self, data: bytes, root: int) -> bytes:
        return self._call_together(data, lambda datas: [datas[root]] * self.size)

    def _allgather(self, record: Record) -> Record:
        return self._call_together(record, lambda records: [np.stack(records) for _ in records])

    def _alltoall(self, record: Record) -> Record:
        return self._call_together(record, lambda records: list(np.stack(records, axis=1)))

    def _allgather_text(self, text: str) -> list[str]:
        return self._call_together(text, lambda texts: [list(texts) for _ in texts])

    def _agree(self, record: Record) -> Record:
        return self._call_together(record, lambda records: [np.max(records, axis=0) for _ in records])

    def _split(self, color: int | None, key: int) -> ThreadCommunication | None:
        def combine(arguments: list[tuple[int | None, int]]) -> list[ThreadCommunication | None]:
            comms: list[ThreadCommunication | None] = [None] * self.size
            for chosen in {color for color, _ in arguments if color is not None}:
                members = sorted((key, rank) for rank, (color, key) in enumerate(arguments) if color == chosen)
                part = _Group(group.scheduler, [group.members[rank] for _, rank in members])
                for part_rank, (_, rank) in enumerate(members):
                    comms[rank] = ThreadCommunication(part, part_rank)
            return comms

        group = self._group
        return self._call_together((color, key), combine)

    def _free(self) -> None:
        self._call_together(None, lambda nothing: nothing)

    def abort(self, status: int = 1) -> NoReturn:
        """Raise SystemExit on this rank, which ends the run.

        Parameters
        ----------
        status : int, default 1
            The status of the job.

        Communication
        -------------
        Local.
        """
        raise SystemExit(status)


def _deliver(arguments: list[tuple[Pieces, Pieces]]) -> list[None]:
    """Copy what is sent to where it is awaited; CollectiveError unless each piece has a counterpart that fits."""
    in_flight: dict[tuple[int, int], list[torch.Tensor]] = {}
    for rank, (send, _) in enumerate(arguments):
        for peer, piece in send:
            in_flight.setdefault((rank, peer), []).append(piece)
    for rank, (_, recv) in enumerate(arguments):
        for peer, target in recv:
            # In the order in which they were sent, as MPI has it for messages between two ranks.
            pieces = in_flight.get((peer, rank))
            sent = pieces.pop(0) if pieces else None
            if sent is None or (sent.shape, sent.dtype) != (target.shape, target.dtype):
                awaited, what = _describe_tensor(target), _describe_tensor(sent)
                raise CollectiveError(f"rank {rank} awaits {awaited} from rank {peer}, which sends it {what}")
            target.copy_(sent.detach())
    for (rank, peer), pieces in in_flight.items():
        for piece in pieces:
            what = _describe_tensor(piece)
            raise CollectiveError(f"rank {rank} sends {what} to rank {peer}, which does not await it")
    return [None] * len(arguments)


def _describe_tensor(tensor: torch.Tensor | None) -> str:
    return "nothing" if tensor is None else f"{tensor.dtype} of shape {tuple(tensor.shape)}"
