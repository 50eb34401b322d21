"""Differentiable collectives: what moves tensors between ranks, with the gradient that moves back.

Every collective here is linear in its tensors. So its backward pass is another collective, its transpose: that of
a gather is a cut, that of an all-to-all is the reverse all-to-all, that of a sum over the ranks is a copy.
One autograd function, `_Apply`, serves them all; a collective that is not linear (the extremes, the variance, QR)
subclasses `Collective` where it is computed, and says what its gradient is.

A replicated tensor has a replicated gradient: each rank has the whole of it, and it counts once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch

from minisplit.core.communication.protocol import Communication, messages_of
from minisplit.core.layout import Layout
from minisplit.core.transfer import TransferPlan, check_compatible, elements_moved, plan

# From which layout, and to which.
LayoutPair = tuple[Layout, Layout]
Tensors = Sequence[torch.Tensor]
Gradients = Sequence[torch.Tensor | None]


class Collective(ABC):
    """A function of this rank's tensors that all ranks call together, and its gradient.

    Subclasses are frozen dataclasses: what autograd keeps until the backward pass.

    Attributes
    ----------
    comm : Communication
        The ranks that make the call.
    keeps_tensors : bool
        Whether `backward` needs the inputs and outputs. A linear collective needs neither.
    """

    comm: Communication
    keeps_tensors = False

    @abstractmethod
    def forward(self, *tensors: torch.Tensor) -> Tensors:
        """Compute the outputs of this rank. No gradient is recorded here."""

    @abstractmethod
    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        """Compute the gradients of the inputs from those of the outputs.

        It is differentiable itself, since its own parts are. `kept` has inputs, then outputs, if `keeps_tensors`;
        `wanted` says which inputs require a gradient.
        """


class LinearCollective(Collective):
    """A collective whose gradient is another one, its transpose."""

    @abstractmethod
    def transpose(self) -> LinearCollective:
        """Return the collective that takes the gradients of the outputs to those of the inputs."""

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        return apply(self.transpose(), *gradients)


def apply(collective: Collective, *tensors: torch.Tensor) -> Tensors:
    """Call a collective, as part of autograd's graph where one of its tensors requires a gradient.

    Parameters
    ----------
    collective : Collective
        What to compute. The same on all ranks.
    *tensors : torch.Tensor
        This rank's inputs. Whether one requires a gradient must be the same on all ranks: backward passes are
        collective.

    Returns
    -------
    sequence of torch.Tensor
        This rank's outputs.
    """
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        outputs: Tensors = _Apply.apply(collective, *tensors)  # type: ignore[no-untyped-call]
        return outputs
    return collective.forward(*[x.detach() for x in tensors])


class _Apply(torch.autograd.Function):
    """The one autograd function of minisplit: a collective, and its gradient."""

    # The forward pass makes its calls in the thread of the program, which the communicator checks. The backward
    # pass may run in a thread of autograd, so it takes the communicator over.

    # In the form that transforms of torch.func around a call ask for.

    @staticmethod
    def forward(collective: Collective, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(collective.forward(*tensors))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        ctx.collective, *tensors = inputs
        ctx.mark_non_differentiable(*[x for x in output if not (x.is_floating_point() or x.is_complex())])
        if ctx.collective.keeps_tensors:
            ctx.save_for_backward(*tensors, *output)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        wanted = ctx.needs_input_grad[1:]
        # Not asked for in vain: after a first backward pass autograd refuses, which a second one through another
        # output must survive.
        kept = ctx.saved_tensors if ctx.collective.keeps_tensors else ()
        with taking_over(ctx.collective.comm):
            found = ctx.collective.backward(kept, gradients, wanted)
        return None, *found


def taking_over(comm: Communication) -> AbstractContextManager[None]:
    """Let this thread make the calls on `comm`, where it is autograd's.

    On a GPU autograd runs a backward pass in a thread of its own, while the one that called `backward()` waits. On
    one rank no call is made, and a communicator that was freed has nobody to take it over from.
    """
    return comm.taken_over() if comm.size > 1 else nullcontext()


def redistribute(shard: torch.Tensor, src: Layout, dst: Layout, comm: Communication) -> torch.Tensor:
    """Return this rank's shard under `dst` of the array whose shards under `src` are given.

    The result is always new memory. Each element that changes its rank is sent once. Where none does, no message
    is sent.

    Communication
    -------------
    Collective: one exchange. Its backward pass is the reverse exchange.
    """
    return apply(_Redistribute(comm, ((src, dst),)), shard)[0]


def redistribute_all(shards: Tensors, pairs: Sequence[LayoutPair], comm: Communication) -> Tensors:
    """Move several arrays, each from one layout to another, in one exchange. See `redistribute`.

    Communication
    -------------
    Collective: one exchange for all of them. Its backward pass is one exchange as well.
    """
    return apply(_Redistribute(comm, tuple(pairs)), *shards)


@dataclass(frozen=True, slots=True)
class _Redistribute(Collective):
    comm: Communication
    pairs: tuple[LayoutPair, ...]

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        comm = self.comm
        results: list[torch.Tensor] = []
        moving: list[tuple[torch.Tensor, torch.Tensor, TransferPlan]] = []
        for source, (src, dst) in zip(tensors, self.pairs, strict=True):
            check_compatible(src, dst)
            if src == dst or comm.size == 1:
                results.append(source.clone(memory_format=torch.contiguous_format))
                continue
            target = torch.empty(dst.lshape(comm.rank), dtype=source.dtype, device=source.device)
            results.append(target)
            steps = plan(src, dst, comm.rank)
            if elements_moved(src, dst):
                moving.append((source, target, steps))
            else:
                messages_of(source, target, steps)  # copies what stays on this rank, which is all
        if len(moving) == 1:
            comm.transfer(*moving[0])
        elif moving:
            parts = [messages_of(*each) for each in moving]
            send, recv = ([message for part in parts for message in part[side]] for side in (0, 1))
            purpose = [word for x, _, steps in moving for word in (x.dtype, steps.src, "to", steps.dst)]
            comm.exchange(send, recv, purpose)
        return results

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        # Only what is wanted is sent: an input of integers has a gradient of no use.
        places = [place for place, needed in enumerate(wanted) if needed]
        back = [self.pairs[place][::-1] for place in places]
        found = redistribute_all([gradients[place] for place in places], back, self.comm)
        by_place = dict(zip(places, found, strict=True))
        return [by_place.get(place) for place in range(len(wanted))]


def all_reduce(part: torch.Tensor, comm: Communication) -> torch.Tensor:
    """Return the sum of the ranks' parts, on all ranks.

    Communication
    -------------
    Collective: one allreduce. Its backward pass is local, since the gradient of a replicated array is replicated.
    """
    return apply(_AllReduce(comm), part)[0]


def all_reduce_gradient(whole: torch.Tensor, comm: Communication) -> torch.Tensor:
    """Return `whole`, which is the same on all ranks and of whose gradient each rank computes a part.

    A replicated operand beside a split one is such a tensor: each rank uses all of it for a part of the result.

    Communication
    -------------
    Local. Its backward pass is collective: one allreduce, so that the gradient is replicated too.
    """
    if not (whole.requires_grad and torch.is_grad_enabled()):
        return whole
    return apply(_AllReduceGradient(comm), whole)[0]


@dataclass(frozen=True, slots=True)
class _AllReduce(LinearCollective):
    comm: Communication

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        return [self.comm.allreduce(tensors[0])]

    def transpose(self) -> LinearCollective:
        return _AllReduceGradient(self.comm)


@dataclass(frozen=True, slots=True)
class _AllReduceGradient(LinearCollective):
    comm: Communication

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        return [tensors[0].view_as(tensors[0])]

    def transpose(self) -> LinearCollective:
        return _AllReduce(self.comm)


def broadcast(piece: torch.Tensor, shape: tuple[int, ...], root: int, comm: Communication) -> torch.Tensor:
    """Return the `piece`, of `shape`, of rank `root`, on all ranks. Other ranks pass any tensor of their array.

    Communication
    -------------
    Collective: one broadcast. Its backward pass is local: the gradient is replicated, and that of the root flows
    back.
    """
    return apply(Broadcast(comm, root, shape, tuple(piece.shape)), piece)[0]


@dataclass(frozen=True, slots=True)
class Broadcast(LinearCollective):
    """What the root has, on all ranks. Its `shape` is that of the other ranks' tensors, unless they differ."""

    comm: Communication
    root: int
    shape: tuple[int, ...] | None = None
    # Of the tensor that this rank passes, for its gradient.
    own_shape: tuple[int, ...] | None = None

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        (x,) = tensors
        if self.shape is not None and self.comm.rank != self.root:
            x = x.new_empty(self.shape)
        return [self.comm.broadcast(x, self.root)]

    def transpose(self) -> LinearCollective:
        return KeepOnRoot(self.comm, self.root, self.shape, self.own_shape)


@dataclass(frozen=True, slots=True)
class KeepOnRoot(LinearCollective):
    """What all ranks have, on the root alone, and zeros elsewhere: the transpose of a broadcast. Local."""

    comm: Communication
    root: int
    shape: tuple[int, ...] | None = None
    own_shape: tuple[int, ...] | None = None

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        (whole,) = tensors
        if self.comm.rank == self.root:
            return [whole.clone()]
        return [whole.new_zeros(whole.shape if self.own_shape is None else self.own_shape)]

    def transpose(self) -> LinearCollective:
        return Broadcast(self.comm, self.root, self.shape, self.own_shape)


def all_to_all(
    blocks: torch.Tensor,
    send_counts: list[int],
    recv_counts: list[int],
    axis: int,
    comm: Communication,
    purpose: tuple[object, ...],
) -> torch.Tensor:
    """Send `send_counts[r]` indices of `axis` of `blocks` to each rank r and return `recv_counts[r]` from each.

    It is MPI's `Alltoallv`. `purpose`, the same on all ranks, is compared in debug mode.

    Communication
    -------------
    Collective: one exchange. Its backward pass is the reverse exchange.
    """
    return apply(_AllToAll(comm, send_counts, recv_counts, axis, purpose), blocks)[0]


@dataclass(frozen=True, slots=True)
class _AllToAll(LinearCollective):
    comm: Communication
    send_counts: list[int]
    recv_counts: list[int]
    axis: int
    purpose: tuple[object, ...]

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        (blocks,), axis, me = tensors, self.axis, self.comm.rank
        shape = (*blocks.shape[:axis], sum(self.recv_counts), *blocks.shape[axis + 1 :])
        out = torch.empty(shape, dtype=blocks.dtype, device=blocks.device)
        send, recv = torch.split(blocks, self.send_counts, axis), torch.split(out, self.recv_counts, axis)
        recv[me].copy_(send[me])
        self.comm.exchange(
            [(peer, piece) for peer, piece in enumerate(send) if peer != me and piece.numel()],
            [(peer, piece) for peer, piece in enumerate(recv) if peer != me and piece.numel()],
            (blocks.dtype, *self.purpose),
        )
        return [out]

    def transpose(self) -> LinearCollective:
        return replace(self, send_counts=self.recv_counts, recv_counts=self.send_counts)


def reverse_ranks(shard: torch.Tensor, layout: Layout, comm: Communication) -> torch.Tensor:
    """Give this rank's shard to the rank as far from the last as this one is from the first.

    Communication
    -------------
    Collective: one exchange. Its backward pass is one exchange as well.
    """
    counts, opposite = layout.counts or (), layout.ranks - 1 - comm.rank
    send_counts, recv_counts = [0] * layout.ranks, [0] * layout.ranks
    send_counts[opposite], recv_counts[opposite] = counts[comm.rank], counts[opposite]
    return all_to_all(shard, send_counts, recv_counts, layout.split or 0, comm, ("ranks reversed", layout))


def halo_exchange(
    shard: torch.Tensor, layout: Layout, spans: Sequence[tuple[int, int]], comm: Communication
) -> torch.Tensor:
    """Return what of the split axis lies in `spans[rank]`, which may overlap the spans of other ranks.

    Communication
    -------------
    Collective: one exchange, of what ranks do not have of their own; no message where all have all. Its backward
    pass is the reverse exchange.
    """
    axis, held = layout.split or 0, list(pairwise(layout.offsets().tolist()))
    mine, wanted = held[comm.rank], spans[comm.rank]
    own = _intersection(wanted, mine)
    kept = shard.narrow(axis, own[0] - mine[0], own[1] - own[0])
    if all(
        start >= stop or (first <= start and stop <= last)
        for (start, stop), (first, last) in zip(spans, held, strict=True)
    ):
        return kept
    pieces, send_counts, recv_counts = [shard.narrow(axis, 0, 0)], [0] * comm.size, [0] * comm.size
    for peer in range(comm.size):
        if peer == comm.rank:
            continue
        start, stop = _intersection(spans[peer], mine)
        pieces.append(shard.narrow(axis, start - mine[0], stop - start))
        send_counts[peer] = stop - start
        start, stop = _intersection(wanted, held[peer])
        recv_counts[peer] = stop - start
    purpose = ("spans of", layout, *spans)
    halo = all_to_all(torch.cat(pieces, axis), send_counts, recv_counts, axis, comm, purpose)
    before = sum(recv_counts[: comm.rank])
    after = sum(recv_counts) - before
    return torch.cat([halo.narrow(axis, 0, before), kept, halo.narrow(axis, before, after)], axis)


def _intersection(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """What two spans have in common; within `b`, also where that is nothing."""
    start = min(max(a[0], b[0]), b[1])
    return start, max(start, min(a[1], b[1]))
