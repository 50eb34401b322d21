"""How gradients cross a mapped call.

Autograd runs a node of its graph only where a gradient arrives, which may differ between ranks: one without
samples runs no function, for one. But the moves of the inputs, reversed, are collective. So all inputs come into a
call through one node, and every output is linked to that node by a token, a number without a meaning: where a
gradient arrives at an output, every rank comes to the inputs' node, once.

Autograd runs the nodes that could run next in the reverse order of their making. So every rank runs the inputs'
node after all nodes of its function, and the inputs' nodes of several calls in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from minisplit.core.array import DNDarray
from minisplit.core.collectives import Collective, Gradients, Tensors, apply, redistribute_all
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.core.performance_warning import warn_of_moves
from minisplit.core.storage import StoredArray
from minisplit.vmap.batch import Batch
from minisplit.vmap.pytree import Keywords


class InputMove(NamedTuple):
    """From which layout to which an input goes, and what must be added up.

    `reduce`: the ranks' tensors are the parts of a sum, which is made before the move. `reduce_gradient`: each
    rank uses all of the moved tensor for a part of a result, so that the ranks' gradients are the parts of a sum.
    """

    src: Layout
    dst: Layout
    reduce: bool = False
    reduce_gradient: bool = False

    def transpose(self) -> InputMove:
        """The move of the gradient."""
        return InputMove(self.dst, self.src, self.reduce_gradient, self.reduce)


def move_inputs(
    arrays: Sequence[DNDarray | StoredArray],
    batch: Batch,
    keywords: Keywords | None,
    traced: bool,
    comm: Communication,
) -> tuple[torch.Tensor | None, list[Any]]:
    """Return each input's shard under its target layout, and a token for `link` if gradients are to flow back.

    If `traced`, gradients are to flow back to inputs or keyword arguments. The keyword arguments are replaced by
    tensors that come out of the inputs' node.

    Of a mapped input that is in a file there is no shard: it is returned as it is. A file that every sample gets
    is read. Collective: one exchange if a shard must move, one agreement if a file is read.
    """
    places = [i for i, x in enumerate(arrays) if isinstance(x, DNDarray)]
    inputs: list[Any] = [x.larray if isinstance(x, DNDarray) else x for x in arrays]
    src, dst = [x.layout for x in arrays], batch.targets
    if batch.exchanges:
        warn_of_moves([(inputs[i].itemsize, src[i], dst[i]) for i in places], comm)
    if traced:
        # Every rank makes a part of the result from all of what is replicated.
        moves = [InputMove(src[i], dst[i], reduce_gradient=dst[i].split is None) for i in places]
        given = [] if keywords is None else [keywords.leaves[place] for place in keywords.traced]
        for x in given:
            layout = Layout(x.shape, None, comm.size)
            moves.append(InputMove(layout, layout, reduce_gradient=True))
        token, moved = enter([*inputs, *given], moves, comm)
        if keywords is not None:
            for place, x in zip(keywords.traced, moved[len(inputs) :], strict=True):
                keywords.leaves[place] = x
        return token, moved[: len(inputs)]
    for i in places:
        if src[i].split is None and dst[i].split is not None:
            # A view is enough: a mapped function must not write to its arguments.
            inputs[i] = inputs[i][dst[i].box(comm.rank)]
            src[i] = dst[i]
    shards = _move([inputs[i] for i in places], [InputMove(src[i], dst[i]) for i in places], comm)
    for i, x in zip(places, shards, strict=True):
        inputs[i] = x
    whole = [i for i, dim in enumerate(batch.in_dims) if dim is None and isinstance(arrays[i], StoredArray)]
    if whole:
        with agreement(comm, "reading the inputs that every sample gets"):
            for i in whole:
                inputs[i] = inputs[i].read(dst[i].box(comm.rank))
    return None, inputs


def enter(
    tensors: Tensors, moves: Sequence[InputMove], comm: Communication
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Move all tensors as one node of autograd's graph; return a token for `link`, and the moved tensors.

    Collective as the moves are, and so is the backward pass. The ranks' tensors must agree in whether they require
    gradients.
    """
    token, *moved = apply(_Enter(comm, tuple(moves)), *tensors)
    return token, moved


def link(token: torch.Tensor, output: torch.Tensor, comm: Communication) -> torch.Tensor:
    """Return an output from which a backward pass comes to the inputs' node, if by no other way. Local."""
    return apply(_Link(comm, token), token, output)[0]


@dataclass(frozen=True, slots=True)
class _Enter(Collective):
    """The moves of all inputs, in one exchange. The backward pass makes the transposed moves, also in one."""

    comm: Communication
    moves: tuple[InputMove, ...]

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        sums = [self.comm.allreduce(x) if move.reduce else x for x, move in zip(tensors, self.moves, strict=True)]
        moved = _move(sums, self.moves, self.comm)
        # The token is an output of this node, so that an edge to it is one to this node. Its gradient is zero.
        token = torch.zeros((), device=tensors[0].device)
        return [token, *[_alias(x) if y is x else y for x, y in zip(sums, moved, strict=True)]]

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        # Only what is wanted is sent: an input of integers has a gradient of no use.
        places = [i for i, needed in enumerate(wanted) if needed]
        token, *others = gradients
        selected = [others[i] for i in places]
        if torch.is_grad_enabled():
            # For second derivatives: where one arrives on any rank, all ranks must come to this pass' own nodes.
            selected = [link(token, gradient, self.comm) for gradient in selected]
        _, moved = enter(selected, [self.moves[i].transpose() for i in places], self.comm)
        by_place = dict(zip(places, moved, strict=True))
        return [by_place.get(i) for i in range(len(self.moves))]


@dataclass(frozen=True, slots=True)
class _Link(Collective):
    """An output as it is, with an edge of the graph to the token beside its own.

    The token is a field, for the backward pass of second derivatives. If all tensors were kept, the output would
    be too, and autograd would forbid to change it in place, as `y += 1` does after a mapped call.
    """

    comm: Communication
    token: torch.Tensor

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        return [_alias(tensors[1])]

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        both = torch.zeros_like(self.token), gradients[0]
        return [link(self.token, x, self.comm) for x in both] if torch.is_grad_enabled() else both


def _move(tensors: Tensors, moves: Sequence[InputMove], comm: Communication) -> Tensors:
    """The tensors, in one exchange for those whose layout changes. The others are returned as they are."""
    moving = [i for i, move in enumerate(moves) if move.src != move.dst]
    pairs = [(moves[i].src, moves[i].dst) for i in moving]
    moved = dict(zip(moving, redistribute_all([tensors[i] for i in moving], pairs, comm), strict=True))
    return [moved.get(i, x) for i, x in enumerate(tensors)]


def _alias(x: torch.Tensor) -> torch.Tensor:
    """A tensor of the same memory that is no view of `x`: autograd forbids to change views of a node in place."""
    plain = x.detach().resolve_conj().resolve_neg()
    alias: torch.Tensor = plain.new_empty(0).set_(plain)  # type: ignore[call-overload]
    return alias
