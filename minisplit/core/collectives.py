"""Differentiable collectives: what moves tensors between ranks, with the gradient that moves back.

Every collective here is linear in its tensors. So its backward pass is another collective, its transpose: that of
a gather is a cut, that of an all-to-all is the reverse all-to-all, that of a sum over the ranks is a copy.
`linear` makes such a pair. One autograd function, `_Apply`, serves them all; a collective that is not linear (the
extremes, the variance, QR) subclasses `Collective` where it is computed, and says what its gradient is.

A replicated tensor has a replicated gradient: each rank has the whole of it, and it counts once.

Forward mode and `torch.vmap` around a collective need no other code. The tangent of what is linear is the
collective of the tangent. A batch of calls is one call for tensors with one more axis, behind those that the
collective knows of, so that no split axis moves.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.communication.protocol import Communication, messages_of
from minisplit.core.layout import Layout
from minisplit.core.pytorch.devices import cpu
from minisplit.core.pytorch.dtypes import is_inexact
from minisplit.core.pytorch.graph_breaks import never_compiled
from minisplit.core.pytorch.transforms import (
    forward_mode,
    is_followed,
    is_in_old_batch,
    map_old_batch,
    spread,
    unpack_dual,
)  # fmt: skip
from minisplit.core.transfer import elements_moved, plan

# From how many bytes on an array goes around the ranks in a ring where each needs all of it. A smaller one is
# gathered: that is one exchange in place of `ranks - 1`, and no rank lacks so much memory.
RING_BYTES = 2**24

# From which layout, and to which.
LayoutPair = tuple[Layout, Layout]
Tensors = Sequence[torch.Tensor]
Gradients = Sequence[torch.Tensor | None]
Linear = Callable[[torch.Tensor], torch.Tensor]


class Collective(ABC):
    """A function of this rank's tensors that all ranks call together, with its gradient and its tangent.

    Subclasses are frozen dataclasses: what autograd keeps until the backward pass. Tensors may have further axes
    behind those of which a collective knows.

    Attributes
    ----------
    comm : Communication
        The ranks that make the call.
    keeps_tensors : bool
        Whether `backward` needs the inputs and outputs. A linear collective needs neither.
    is_one : bool
        Whether all outputs come of all inputs, and so have a batch if one input has. Else each comes of its own.
    """

    comm: Communication
    keeps_tensors = False
    is_one = True

    @abstractmethod
    def forward(self, *tensors: torch.Tensor) -> Tensors:
        """Compute the outputs of this rank. No gradient is recorded here."""

    @abstractmethod
    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        """Compute the gradients of the inputs from those of the outputs.

        It is differentiable itself, since its own parts are. `kept` is what `keep` returned, if `keeps_tensors`;
        `wanted` says which inputs require a gradient.
        """

    def tangent(self, kept: Tensors, tangents: Tensors) -> Gradients:
        """Compute the tangents of the outputs from those of the inputs: as the outputs, if it is linear.

        It is differentiable, as `backward` is.
        """
        return apply(self, *tangents)

    def batched(self, size: int) -> tuple[Collective, int]:
        """Return the collective of `size` calls, and the axis of the tensors along which these lie."""
        return self, -1

    def keep(self, inputs: Tensors, outputs: Tensors) -> Tensors:
        """Return the tensors that `backward` needs, if `keeps_tensors`."""
        return (*inputs, *outputs)

    def has_batch(self, inputs: Sequence[bool]) -> Sequence[bool]:
        """Which outputs have the calls of a batch along an axis, given which inputs do."""
        return inputs


def apply(collective: Collective, *tensors: torch.Tensor) -> Tensors:
    """Call a collective, as part of autograd's graph where one of its tensors is followed.

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
    if any(map(is_in_old_batch, tensors)):
        return map_old_batch(partial(apply, collective), tensors)
    if any(map(is_followed, tensors)):
        outputs: Tensors = _Apply.apply(collective, *tensors)  # type: ignore[no-untyped-call]
        return outputs
    return collective.forward(*[x.detach() for x in tensors])


def _no_view(x: torch.Tensor) -> torch.Tensor:
    """A tensor of the same memory that is no view: for forward mode, views come of views only."""
    if not x._is_view():
        return x
    plain = x.resolve_conj().resolve_neg()
    own: torch.Tensor = plain.new_empty(0).set_(plain)  # type: ignore[call-overload]
    return own


def _repeat(x: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    """The tensor once for each call of a batch, which costs no memory."""
    return x.unsqueeze(axis).expand((size, *x.shape) if axis == 0 else (*x.shape, size))


@never_compiled
class _Apply(torch.autograd.Function):
    """The one autograd function of minisplit: a collective, and its gradient."""

    # The forward pass makes its calls in the thread of the program, which the communicator checks. The backward
    # pass may run in a thread of autograd, so it takes the communicator over.

    # In the form that transforms of torch.func around a call ask for.

    @staticmethod
    def forward(collective: Collective, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(map(_no_view, collective.forward(*tensors)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        ctx.collective, *tensors = inputs
        ctx.mark_non_differentiable(*[x for x in output if not is_inexact(x.dtype)])
        ctx.are_differentiable = [is_inexact(x.dtype) for x in output]
        if ctx.collective.keeps_tensors:
            kept = ctx.collective.keep(tensors, output)
            ctx.save_for_backward(*kept)
            ctx.save_for_forward(*kept)

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
            found = ctx.collective.backward(kept, [*map(spread, gradients)], wanted)
        return None, *found

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        kept = [unpack_dual(x).primal for x in ctx.saved_tensors] if ctx.collective.keeps_tensors else ()
        # Torch turns forward mode off here, without which a tangent of a tangent would lose its second half.
        with forward_mode():
            found = ctx.collective.tangent(kept, [*map(spread, tangents)])
        return tuple(x if has_one else None for x, has_one in zip(found, ctx.are_differentiable, strict=True))

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], collective: Collective, *tensors: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, ...], tuple[int | None, ...]]:
        batched, axis = collective.batched(info.batch_size)
        moved = [
            x.movedim(dim, axis)
            if dim is not None
            else _repeat(x, axis, info.batch_size)
            if collective.is_one
            else x
            for x, dim in zip(tensors, in_dims[1:], strict=True)
        ]
        outputs = tuple(apply(batched, *moved))
        has_batch = collective.has_batch([collective.is_one or dim is not None for dim in in_dims[1:]])
        return outputs, tuple(axis % x.ndim if has else None for x, has in zip(outputs, has_batch, strict=True))


def linear(tensor: torch.Tensor, comm: Communication, forward: Linear, transpose: Linear) -> torch.Tensor:
    """Return `forward(tensor)`, a collective whose gradient is another one, its transpose.

    `transpose` is differentiable itself: most often it is made by this function too.
    """
    if is_followed(tensor):
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
    if is_followed(shard):
        return apply(_Redistribute(comm, ((src, dst),)), shard)[0]
    src, dst = (_with_axes_of(shard, layout) for layout in (src, dst))
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

    is_one = False

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        comm, moves = self.comm, [elements_moved(src, dst) > 0 for src, dst in self.pairs]
        if sum(moves) < 2:
            return [redistribute(x, *pair, comm) for x, pair in zip(tensors, self.pairs, strict=True)]
        # What moves goes by one exchange for all of it.
        results, purpose = [], list[object]()
        send, recv = list[tuple[int, torch.Tensor]](), list[tuple[int, torch.Tensor]]()
        for x, pair, is_moving in zip(tensors, self.pairs, moves, strict=True):
            if not is_moving:
                results.append(redistribute(x, *pair, comm))
                continue
            src, dst = (_with_axes_of(x, layout) for layout in pair)
            move = plan(src, dst, comm.rank)
            results.append(torch.empty(move.target_shape, dtype=x.dtype, device=x.device))
            sent, received = messages_of(x, results[-1], move)
            send += sent
            recv += received
            purpose += [x.dtype, src, "to", dst]
        # They lie on one device, but where a program moves arrays of several in one call.
        devices = {x.device.type for x in tensors}
        comm.exchange(send, recv, purpose, tensors[0].device if len(devices) == 1 else cpu)
        return results

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        # Only what is wanted is sent: an input of integers has a gradient of no use.
        places = [place for place, needed in enumerate(wanted) if needed]
        back = [self.pairs[place][::-1] for place in places]
        found = redistribute_all([gradients[place] for place in places], back, self.comm)
        by_place = dict(zip(places, found, strict=True))
        return [by_place.get(place) for place in range(len(wanted))]


def _with_axes_of(shard: torch.Tensor, layout: Layout) -> Layout:
    """The layout with the axes that a shard has behind those of the layout, if it has more."""
    if shard.ndim == len(layout.shape):
        return layout
    more = tuple(shard.shape[len(layout.shape) :])
    return Layout((*layout.shape, *more), layout.split, layout.ranks, layout.ragged)


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
    if not is_followed(whole):
        return whole
    return linear(whole, comm, alias, partial(all_reduce, comm=comm))


def alias(x: torch.Tensor) -> torch.Tensor:
    """Return a tensor of the same memory, for a linear collective that changes nothing.

    Writing into one is noticed where autograd needs the other. It is no view for autograd, which forbids to write
    into views that come out of a function of several outputs, and asks of their tangents that they be views as
    well.
    """
    return x.detach().resolve_conj().resolve_neg()


def broadcast(piece: torch.Tensor, shape: tuple[int, ...], root: int, comm: Communication) -> torch.Tensor:
    """Return the `piece`, of `shape`, of rank `root`, on all ranks. Other ranks pass any tensor of their array.

    Communication
    -------------
    Collective: one broadcast. Its backward pass is local: the gradient is replicated, and that of the root flows
    back.
    """
    return _broadcast(piece, tuple(piece.shape), shape, root, comm)


def keep_on_root(whole: torch.Tensor, shape: tuple[int, ...], root: int, comm: Communication) -> torch.Tensor:
    """Return what all ranks have on the root, and zeros of `shape` elsewhere: the transpose of a broadcast.

    Communication
    -------------
    Local. Its backward pass is collective: one broadcast.
    """
    return _keep_on_root(whole, shape, tuple(whole.shape), root, comm)


# Both shapes are those without the axes of a batch, which a gradient may have.
def _broadcast(
    piece: torch.Tensor, own: tuple[int, ...], shape: tuple[int, ...], root: int, comm: Communication
) -> torch.Tensor:
    def send(piece: torch.Tensor) -> torch.Tensor:
        like = piece if comm.rank == root else piece.new_empty((*shape, *piece.shape[len(own) :]))
        return comm.broadcast(like, root)

    return linear(piece, comm, send, lambda gradient: _keep_on_root(gradient, own, shape, root, comm))


def _keep_on_root(
    whole: torch.Tensor, own: tuple[int, ...], shape: tuple[int, ...], root: int, comm: Communication
) -> torch.Tensor:
    def keep(whole: torch.Tensor) -> torch.Tensor:
        return whole.clone() if comm.rank == root else whole.new_zeros((*own, *whole.shape[len(shape) :]))

    return linear(whole, comm, keep, lambda gradient: _broadcast(gradient, own, shape, root, comm))


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
        send, recv = _pieces(blocks, send_counts, axis), _pieces(out, recv_counts, axis)
        if comm.rank in send:
            recv.pop(comm.rank).copy_(send.pop(comm.rank))
        comm.exchange([*send.items()], [*recv.items()], (blocks.dtype, *purpose), blocks.device)
        return out

    def send_back(gradient: torch.Tensor) -> torch.Tensor:
        return all_to_all(gradient, recv_counts, send_counts, axis, comm, purpose)

    return linear(blocks, comm, exchange, send_back)


def _pieces(x: torch.Tensor, counts: Sequence[int], axis: int) -> dict[int, torch.Tensor]:
    """Cut `counts[r]` indices of `axis` for each rank r. Ranks without elements have none.

    Of 65,536 ranks a halo has two: views for all of them would take most of a second.
    """
    if not x.numel():
        return {}
    starts = (np.cumsum(counts) - counts).tolist()
    return {peer: x.narrow(axis, starts[peer], counts[peer]) for peer in np.flatnonzero(counts).tolist()}


def join_elements(tensors: Tensors) -> torch.Tensor:
    """The elements of tensors of one dtype, one after the other, for one message in place of several."""
    return torch.cat([x.reshape(-1) for x in tensors])


def cut_elements(joined: torch.Tensor, like: Tensors) -> list[torch.Tensor]:
    """Undo `join_elements`. Of several each has memory of its own: else one would keep all of them alive."""
    pieces = [
        piece.reshape(x.shape)
        for piece, x in zip(torch.split(joined, [x.numel() for x in like]), like, strict=True)
    ]
    return pieces if len(pieces) == 1 else [piece.clone() for piece in pieces]


def cat(pieces: Tensors, axis: int) -> torch.Tensor:
    """Return pieces joined along an axis, each of which gets a gradient in the backward pass.

    `torch.cat` has none for a piece without elements that has one axis. A rank with such a piece would not come to
    the collective call that other ranks make for the gradient of a gradient.
    """
    if pieces[0].ndim > 1:
        return torch.cat(list(pieces), axis)
    return torch.cat([x.unsqueeze(-1) for x in pieces]).squeeze(-1)


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


def blocks_in_turn(
    shard: torch.Tensor, axis: int, counts: Sequence[int], comm: Communication
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield each rank and its shard of an array that is split along `axis`, this rank's first: a ring.

    A rank has two of the shards at a time, where a gather gives it all. For autograd they are constants.

    Communication
    -------------
    Collective: an exchange with both neighbours before each shard but the first. All ranks must take all of them.
    """
    block = shard.detach().resolve_conj()
    yield comm.rank, block
    to, source = (comm.rank - 1) % comm.size, (comm.rank + 1) % comm.size
    for step in range(1, comm.size):
        rank = (comm.rank + step) % comm.size
        following = block.new_empty((*block.shape[:axis], counts[rank], *block.shape[axis + 1 :]))
        comm.exchange(
            [(to, block)] if block.numel() else [],
            [(source, following)] if following.numel() else [],
            (block.dtype, "shards in turn", axis, *counts),
        )
        block = following
        yield rank, block


def halo_exchange(
    shard: torch.Tensor, layout: Layout, spans: Sequence[tuple[int, int]] | NDArray[np.int64], comm: Communication
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
    # Not of ranks that get nothing, which are nearly all of many.
    pieces = [shard.narrow(axis, starts[peer], send_counts[peer]) for peer in np.flatnonzero(send_counts).tolist()]
    pieces = pieces or [shard.narrow(axis, 0, 0)]
    # A checksum: texts of all spans would take most of the time on many ranks.
    purpose = ("spans of", layout, zlib.crc32(wanted.tobytes()))
    halo = all_to_all(cat(pieces, axis), send_counts, recv_counts, axis, comm, purpose)
    before = sum(recv_counts[:rank])
    after = sum(recv_counts) - before
    return cat([halo.narrow(axis, 0, before), kept, halo.narrow(axis, before, after)], axis)
