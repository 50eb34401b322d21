"""Differentiable collectives: what moves tensors between ranks, with the gradient that moves back.

Every collective here is linear in its tensors. So its backward pass is another collective, its transpose: that of
a gather is a cut, that of an all-to-all is the reverse all-to-all, that of a sum over the ranks is a copy.
`linear` makes such a pair. One autograd function, `_Apply`, serves them all; a collective that is not linear (the
extremes, the variance, QR) subclasses `Collective` where it is computed, and says what its gradient is.

A replicated tensor has a replicated gradient: each rank has the whole of it, and it counts once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from minisplit.core.communication.protocol import Communication, messages_of
from minisplit.core.layout import Layout
from minisplit.core.transfer import elements_moved, plan

# From which layout, and to which.
LayoutPair = tuple[Layout, Layout]
Tensors = Sequence[torch.Tensor]
Gradients = Sequence[torch.Tensor | None]
Linear = Callable[[torch.Tensor], torch.Tensor]


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
        comm = ctx.collective.comm
        # On a GPU autograd runs this in a thread of its own, while the one that called `backward()` waits. On one
        # rank no call is made, and a communicator that was freed has nobody to take it over from.
        with comm.taken_over() if comm.size > 1 else nullcontext():
            found = ctx.collective.backward(kept, gradients, wanted)
        return None, *found


def linear(tensor: torch.Tensor, comm: Communication, forward: Linear, transpose: Linear) -> torch.Tensor:
    """Return `forward(tensor)`, a collective whose gradient is another one, its transpose.

    `transpose` is differentiable itself: most often it is made by this function too.
    """
    if tensor.requires_grad and torch.is_grad_enabled():
        return apply(_Linear(comm, forward, transpose), tensor)[0]
    return forward(tensor)


@dataclass(frozen=True, slots=True)
class _Linear(Collective):
    comm: Communication
    function: Linear
    transpose: Linear

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        return [self.function(tensors[0])]

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        return [self.transpose(gradients[0])]


def redistribute(shard: torch.Tensor, src: Layout, dst: Layout, comm: Communication) -> torch.Tensor:
    """Return this rank's shard under `dst` of the array whose shards under `src` are given.

    The result is always new memory. Each element that changes its rank is sent once. Where none does, no message
    is sent.

    Communication
    -------------
    Collective: one exchange. Its backward pass is the reverse exchange.
    """
    if shard.requires_grad and torch.is_grad_enabled():
        return apply(_Redistribute(comm, ((src, dst),)), shard)[0]
    moved = elements_moved(src, dst)
    if src == dst or comm.size == 1:
        return shard.clone(memory_format=torch.contiguous_format)
    move = plan(src, dst, comm.rank)
    target = torch.empty(move.target_shape, dtype=shard.dtype, device=shard.device)
    if moved:
        comm.transfer(shard, target, move)
    else:
        messages_of(shard, target, move)  # copies what stays on this rank, which is all
    return target


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
        comm, moves = self.comm, [elements_moved(src, dst) > 0 for src, dst in self.pairs]
        if sum(moves) < 2:
            return [redistribute(x, *pair, comm) for x, pair in zip(tensors, self.pairs, strict=True)]
        # What moves goes by one exchange for all of it.
        results, purpose = [], list[object]()
        send, recv = list[tuple[int, torch.Tensor]](), list[tuple[int, torch.Tensor]]()
        for x, (src, dst), is_moving in zip(tensors, self.pairs, moves, strict=True):
            if not is_moving:
                results.append(redistribute(x, src, dst, comm))
                continue
            move = plan(src, dst, comm.rank)
            results.append(torch.empty(move.target_shape, dtype=x.dtype, device=x.device))
            sent, received = messages_of(x, results[-1], move)
            send += sent
            recv += received
            purpose += [x.dtype, src, "to", dst]
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
    return linear(part, comm, comm.allreduce, partial(all_reduce_gradient, comm=comm))


def all_reduce_gradient(whole: torch.Tensor, comm: Communication) -> torch.Tensor:
    """Return `whole`, which is the same on all ranks and of whose gradient each rank computes a part.

    A replicated operand beside a split one is such a tensor: each rank uses all of it for a part of the result.

    Communication
    -------------
    Local. Its backward pass is collective: one allreduce, so that the gradient is replicated too.
    """
    if not (whole.requires_grad and torch.is_grad_enabled()):
        return whole
    return linear(whole, comm, lambda x: x.view_as(x), partial(all_reduce, comm=comm))


def broadcast(piece: torch.Tensor, shape: tuple[int, ...], root: int, comm: Communication) -> torch.Tensor:
    """Return the `piece`, of `shape`, of rank `root`, on all ranks. Other ranks pass any tensor of their array.

    Communication
    -------------
    Collective: one broadcast. Its backward pass is local: the gradient is replicated, and that of the root flows
    back.
    """
    own_shape = tuple(piece.shape)

    def send(piece: torch.Tensor) -> torch.Tensor:
        return comm.broadcast(piece if comm.rank == root else piece.new_empty(shape), root)

    return linear(piece, comm, send, lambda gradient: keep_on_root(gradient, own_shape, root, comm))


def keep_on_root(whole: torch.Tensor, shape: tuple[int, ...], root: int, comm: Communication) -> torch.Tensor:
    """Return what all ranks have on the root, and zeros of `shape` elsewhere: the transpose of a broadcast."""
    whole_shape = tuple(whole.shape)

    def keep(whole: torch.Tensor) -> torch.Tensor:
        return whole.clone() if comm.rank == root else whole.new_zeros(shape)

    return linear(whole, comm, keep, lambda gradient: broadcast(gradient, whole_shape, root, comm))


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

    def exchange(blocks: torch.Tensor) -> torch.Tensor:
        shape = (*blocks.shape[:axis], sum(recv_counts), *blocks.shape[axis + 1 :])
        out = torch.empty(shape, dtype=blocks.dtype, device=blocks.device)
        send, recv = torch.split(blocks, send_counts, axis), torch.split(out, recv_counts, axis)
        recv[comm.rank].copy_(send[comm.rank])
        comm.exchange(
            [(peer, piece) for peer, piece in enumerate(send) if peer != comm.rank and piece.numel()],
            [(peer, piece) for peer, piece in enumerate(recv) if peer != comm.rank and piece.numel()],
            (blocks.dtype, *purpose),
        )
        return out

    def send_back(gradient: torch.Tensor) -> torch.Tensor:
        return all_to_all(gradient, recv_counts, send_counts, axis, comm, purpose)

    return linear(blocks, comm, exchange, send_back)


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
    axis, rank, bounds, wanted = layout.split or 0, comm.rank, layout.offsets(), np.array(spans)
    begin, end = bounds[:-1], bounds[1:]
    # What the ranks want of this rank's part, and what this rank wants of theirs. What it has of its own stays.
    give, take = wanted.clip(bounds[rank], bounds[rank + 1]), wanted[rank, :, None].clip(begin, end)
    kept = shard.narrow(axis, int(give[rank, 0] - bounds[rank]), int(give[rank, 1] - give[rank, 0]))
    if ((wanted[:, 0] >= wanted[:, 1]) | ((begin <= wanted[:, 0]) & (wanted[:, 1] <= end))).all():
        return kept
    give[rank], take[:, rank] = bounds[rank], 0
    send_counts, recv_counts = np.diff(give)[:, 0].tolist(), np.diff(take, axis=0)[0].tolist()
    starts = (give[:, 0] - bounds[rank]).tolist()
    pieces = [shard.narrow(axis, start, count) for start, count in zip(starts, send_counts, strict=True)]
    purpose = ("spans of", layout, *spans)
    halo = all_to_all(torch.cat(pieces, axis), send_counts, recv_counts, axis, comm, purpose)
    before = sum(recv_counts[:rank])
    after = sum(recv_counts) - before
    return torch.cat([halo.narrow(axis, 0, before), kept, halo.narrow(axis, before, after)], axis)
