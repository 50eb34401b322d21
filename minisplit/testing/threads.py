"""Ranks as threads of this process: an SPMD function runs on any number of ranks, and cannot hang.

One rank runs at a time, and hands over where it must wait for others, in an order that depends on nothing but the
function: a run can be repeated exactly, and when no rank can go on, it is known at once who waits for whom.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from contextvars import copy_context
from threading import Lock, Thread
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch

from minisplit.core.communication.debug import CollectiveError, call_site, debugging, describe_call, texts_by_rank
from minisplit.core.communication.protocol import Call, Communication, Record, use_comm
from minisplit.core.communication.reduce_ops import RULES, MergeOp, ReduceOp
from minisplit.core.layout import as_index
from minisplit.testing import examples
from minisplit.testing.reporting import RETURNED, UnwoundError, failure, told

Result = TypeVar("Result")
Pieces = Sequence[tuple[int, torch.Tensor]]


def run(func: Callable[..., Result], /, *args: Any, ranks: int = 4, **kwargs: Any) -> list[Result]:
    """Call `func` once per rank, on threads of this process, and return what each rank returned.

    New arrays use a communicator of `ranks` ranks while `func` runs. Where ranks fail, the exception of the
    lowest one that failed by itself is raised, with every rank's traceback in its notes. When the ranks can never
    go on, because one has returned while others wait for it, say, `CollectiveError` tells what each rank
    does; when their collective calls differ, it is raised by those calls, on every rank. TypeError or
    ValueError where `ranks` is not a number of ranks.

    All ranks share the modules and the torch random generator of the process; the arguments are shared too.

    >>> import minisplit as ms
    >>> ms.testing.run(lambda: ms.arange(5, split=0).larray.tolist(), ranks=3)
    [[0, 1], [2, 3], [4]]
    """
    __tracebackhide__ = True
    ranks = checked_ranks(ranks)
    world = _World(ranks)
    group = _Group(world, range(ranks))
    comms = [ThreadCommunication(group, rank) for rank in range(ranks)]
    results: list[Any] = [None] * ranks
    gradients, shown = torch.is_grad_enabled(), examples.shown()

    def live(rank: int) -> None:
        __tracebackhide__ = True
        try:
            world.begin(rank)
            with use_comm(comms[rank]), torch.set_grad_enabled(gradients), examples.in_example(shown):
                results[rank] = func(*args, **kwargs)
        except BaseException as error:
            world.end(rank, error)
        else:
            world.end(rank, None)

    threads = [
        Thread(target=copy_context().run, args=(live, rank), name=f"rank {rank} of {ranks}", daemon=True)
        for rank in range(ranks)
    ]
    try:
        world.run(threads)
    finally:
        group.close()
    error = failure(world.errors, world.stories, world.stuck)
    if error is not None:
        raise error
    return results


def checked_ranks(ranks: int) -> int:
    """`ranks` as an int; TypeError or ValueError where it is no number of ranks."""
    number = as_index(ranks, "ranks")
    if number < 1:
        raise ValueError(f"ranks must be 1 or more, got {number}")
    return number


class _World:
    """The threads of one run, of which one runs at a time."""

    def __init__(self, ranks: int) -> None:
        self.turns = [Lock() for _ in range(ranks)]
        self.over = Lock()
        for lock in (*self.turns, self.over):
            lock.acquire()
        self.ready = [True] * ranks
        # What a rank that is not ready does, and in which call, for people.
        self.doing = [""] * ranks
        self.titles = [""] * ranks
        self.errors: list[BaseException | None] = [None] * ranks
        self.ended = [False] * ranks
        self.stories = [RETURNED] * ranks
        self.stuck = ""
        # Whoever gets a turn is taken out.
        self.stopping = False
        self.warnings = _warnings()

    def run(self, threads: Sequence[Thread]) -> None:
        """Let the ranks run until each has come to its end."""
        self.stopping = True
        try:
            try:
                for thread in threads:
                    thread.start()
                self.stopping = False
            finally:
                self.pass_on()  # where not all could be started, to those that wait already
            # In turns: a Ctrl-C that came just before is not seen while waiting.
            while not self.over.acquire(timeout=1):
                pass
        except BaseException:  # Ctrl-C, which may come as soon as the first rank runs
            self.stopping = True
            raise
        finally:
            _set_warnings(self.warnings)

    def begin(self, rank: int) -> None:
        self.take_turn(rank, "was not begun", self.warnings)

    def end(self, rank: int, error: BaseException | None) -> None:
        self.doing[rank] = "returned" if error is None else f"raised {type(error).__name__}"
        if error is not None:
            self.stories[rank] = told(error)
            if not isinstance(error, UnwoundError):
                self.errors[rank] = error
        self.ready[rank] = False
        self.ended[rank] = True
        self.pass_on()

    def wait(self, rank: int, title: str, doing: str) -> None:
        """Let others run until somebody makes this rank ready, or nobody can: `doing` it in the call `title`."""
        self.titles[rank], self.doing[rank] = title, doing
        self.ready[rank] = False
        mine = _warnings()
        self.pass_on()
        self.take_turn(rank, f"{doing}, {title}", mine)

    def take_turn(self, rank: int, doing: str, state: dict[str, Any]) -> None:
        self.turns[rank].acquire()
        _set_warnings(state)
        if self.stopping:
            raise UnwoundError(doing)

    def pass_on(self) -> None:
        if not any(self.ready) and not all(self.ended):
            waiting = [rank for rank, ended in enumerate(self.ended) if not ended]
            if not self.stopping:
                self.stuck = self.standstill(waiting)
                self.stopping = True
            self.wake(waiting)
        if any(self.ready):
            self.turns[self.ready.index(True)].release()
        else:
            self.over.release()

    def standstill(self, waiting: Sequence[int]) -> str:
        """Who waits for whom."""
        titles = {self.titles[rank] for rank in waiting}
        if len(titles) == 1:
            return f"{titles.pop()}: {texts_by_rank(self.doing)}"
        texts = list(self.doing)
        for rank in waiting:
            texts[rank] += f", {self.titles[rank]}"
        return f"the ranks waited for each other: {texts_by_rank(texts)}"

    def wake(self, ranks: Sequence[int]) -> None:
        for rank in ranks:
            self.ready[rank] = True


def _warnings() -> dict[str, Any]:
    """What `warnings.catch_warnings`, and so `pytest.warns`, sets for the whole process: a rank has its own."""
    return {name: getattr(warnings, name) for name in ("filters", "showwarning", "_showwarnmsg_impl")}


def _set_warnings(state: dict[str, Any]) -> None:
    if any(getattr(warnings, name) is not value for name, value in state.items()):
        vars(warnings).update(state)
        with warnings.catch_warnings():  # which makes the interpreter forget what it has shown already
            pass


class _Meeting:
    """One collective call: what each rank brought, and what comes of it."""

    __slots__ = ("brought", "calls", "error", "results", "sites")

    def __init__(self, size: int) -> None:
        self.calls: list[Call] = [()] * size
        self.sites = [""] * size
        self.brought: list[Any] = [None] * size
        self.results: Sequence[Any] = ()
        self.error = ""


class _Group:
    """The ranks of one communicator, as ranks of the world, and the call they make at present."""

    def __init__(self, world: _World, members: Sequence[int]) -> None:
        self.world = world
        self.members = members
        self.meeting = _Meeting(len(members))
        self.arrived = 0
        self.comms: list[ThreadCommunication] = []
        self.parts: list[_Group] = []

    def title(self, number: int) -> str:
        """How to call one of its calls in a text."""
        part = len(self.members) < len(self.world.turns)
        return (
            f"collective #{number}" + part * f" on the split-off part of ranks {', '.join(map(str, self.members))}"
        )

    def close(self) -> None:
        for comm in self.comms:
            comm._close("belonged to a run of minisplit.testing that has ended")
        for part in self.parts:
            part.close()


class ThreadCommunication(Communication):
    """The ranks of a `minisplit.testing.run`.

    Every collective call is a meeting of all ranks, which see to it that they all make the same one, with the
    same shapes, dtypes and layouts: `CollectiveError` on all of them if not. In debug mode the lines must be the
    same too.
    """

    __slots__ = ("_group",)

    def __init__(self, group: _Group, rank: int) -> None:
        super().__init__(rank, len(group.members))
        self._group = group
        group.comms.append(self)

    def __repr__(self) -> str:
        return f"<ThreadCommunication rank {self.rank} of {self.size}>"

    def _compare(self, call: Call) -> None:
        """Nothing: `_meet` does it for every call."""

    def _meet(self, brought: Any, combine: Callable[[list[Any]], Sequence[Any]]) -> Any:
        """Bring something, and return what `combine` makes of what all brought for this rank."""
        group = self._group
        world, meeting, me = group.world, group.meeting, group.members[self.rank]
        if world.stopping:
            raise UnwoundError("taken out, since the ranks cannot go on")
        call = self._call or ()
        meeting.calls[self.rank], meeting.sites[self.rank] = call, call_site()
        meeting.brought[self.rank] = brought
        group.arrived += 1
        if group.arrived < self.size:
            world.wait(
                me, group.title(self._calls), f"waited in {describe_call(call)} at {meeting.sites[self.rank]}"
            )
        else:
            group.meeting, group.arrived = _Meeting(self.size), 0
            self._conclude(meeting, combine)
            world.wake([other for other in group.members if other != me])
        if meeting.error:
            raise CollectiveError(meeting.error)
        return meeting.results[self.rank]

    def _conclude(self, meeting: _Meeting, combine: Callable[[list[Any]], Sequence[Any]]) -> None:
        same_lines = not debugging() or len(set(meeting.sites)) == 1
        if len(set(meeting.calls)) > 1 or not same_lines:
            texts = [
                f"{describe_call(call)} at {site}" for call, site in zip(meeting.calls, meeting.sites, strict=True)
            ]
            meeting.error = f"{self._group.title(self._calls)}: {texts_by_rank(texts, self._group.members)}"
            return
        try:
            meeting.results = combine(meeting.brought)
        except CollectiveError as error:
            meeting.error = f"{self._group.title(self._calls)}, {describe_call(meeting.calls[0])}: {error}"

    def _exchange(self, send: Pieces, recv: Pieces) -> None:
        self._meet((send, recv), _deliver)

    def _allreduce(self, total: torch.Tensor, op: ReduceOp | MergeOp) -> None:
        def combine(totals: list[torch.Tensor]) -> list[torch.Tensor]:
            return [torch.from_numpy(_reduced(totals, op))] * self.size

        total.copy_(self._meet(total, combine))

    def _scan(self, mine: torch.Tensor, before: torch.Tensor, op: ReduceOp) -> None:
        def combine(parts: list[torch.Tensor]) -> list[torch.Tensor]:
            return [torch.from_numpy(_reduced(parts[:rank], op)) if rank else before for rank in range(self.size)]

        found = self._meet(mine, combine)
        if self.rank:
            before.copy_(found)

    def _broadcast(self, tensor: torch.Tensor, root: int) -> torch.Tensor:
        def combine(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
            resolved = tensors[root].detach().resolve_conj().resolve_neg()
            return [resolved.clone(memory_format=torch.contiguous_format) for _ in tensors]

        found: torch.Tensor = self._meet(tensor, combine)
        return found.to(tensor.device)

    def _broadcast_bytes(self, data: bytes, root: int) -> bytes:
        found: bytes = self._meet(data, lambda datas: [datas[root]] * self.size)
        return found

    def _allgather(self, record: Record) -> Record:
        found: Record = self._meet(record, lambda records: [np.stack(records) for _ in records])
        return found

    def _allgather_text(self, text: str) -> list[str]:
        found: list[str] = self._meet(text, lambda texts: [list(texts) for _ in texts])
        return found

    def _agree(self, record: Record) -> Record:
        found: Record = self._meet(record, lambda records: [np.max(records, axis=0) for _ in records])
        return found

    def _split(self, color: int | None, key: int) -> ThreadCommunication | None:
        def combine(wishes: list[tuple[int | None, int]]) -> list[ThreadCommunication | None]:
            made: list[ThreadCommunication | None] = [None] * self.size
            for chosen in {color for color, _ in wishes if color is not None}:
                mates = sorted((key, rank) for rank, (color, key) in enumerate(wishes) if color == chosen)
                part = _Group(self._group.world, [self._group.members[rank] for _, rank in mates])
                self._group.parts.append(part)
                for place, (_, rank) in enumerate(mates):
                    made[rank] = ThreadCommunication(part, place)
            return made

        found: ThreadCommunication | None = self._meet((color, key), combine)
        return found

    def _free(self) -> None:
        self._meet(None, lambda nothing: nothing)

    def abort(self, status: int = 1) -> NoReturn:
        raise SystemExit(status)


def _reduced(parts: Sequence[torch.Tensor], op: ReduceOp | MergeOp) -> np.ndarray[Any, np.dtype[Any]]:
    # Not `ufunc.reduce`, which would sum small integers in a wider type.
    with np.errstate(all="ignore"):  # an overflow is no news to torch or MPI
        return np.array(functools.reduce(RULES[op], [part.numpy() for part in parts]))


def _deliver(brought: list[tuple[Pieces, Pieces]]) -> list[None]:
    """Copy what is sent to where it is awaited; CollectiveError unless each piece has a counterpart that fits."""
    flying: dict[tuple[int, int], list[torch.Tensor]] = {}
    for me, (send, _) in enumerate(brought):
        for peer, piece in send:
            flying.setdefault((me, peer), []).append(piece)
    for me, (_, recv) in enumerate(brought):
        for peer, target in recv:
            pieces = flying.get((peer, me))
            if not pieces:
                raise CollectiveError(
                    f"rank {me} awaits {_shown(target)} from rank {peer}, which sends it nothing"
                )
            piece = pieces.pop(0)
            if (piece.shape, piece.dtype) != (target.shape, target.dtype):
                raise CollectiveError(
                    f"rank {me} awaits {_shown(target)} from rank {peer}, which sends it {_shown(piece)}"
                )
            target.copy_(piece.detach())
    for (me, peer), pieces in flying.items():
        for piece in pieces:
            raise CollectiveError(f"rank {me} sends {_shown(piece)} to rank {peer}, which does not await it")
    return [None] * len(brought)


def _shown(tensor: torch.Tensor) -> str:
    return f"{tensor.dtype} of shape {tuple(tensor.shape)}"
