"""Products of two split arrays without gathering one: its blocks go around the ranks, one at a time, in a ring.

A gather of an operand costs its bytes in the memory of each rank, however many ranks there are. In a ring a rank
has its own parts, and of the other operand the block that came and the one that comes. As many bytes are sent.
Large blocks go in pieces, one round after the other, so that beside the result there is a part of a block.
The gradient of one operand is such a product again, that of the other one a sum that goes around.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from string import ascii_letters

import numpy as np
import torch

from minisplit.core import collectives
from minisplit.core.array import DNDarray
from minisplit.core.collectives import Collective, Gradients, Tensors, apply, blocks_in_turn
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.core.performance_warning import warn_of_move
from minisplit.core.pytorch.dtypes import is_inexact
from minisplit.ops.linalg.contraction import Contraction, label_extents

# Blocks of several times so many bytes go in pieces, and in no more than so many: narrower ones are slower to
# multiply (eight of a block of 750 columns took a tenth more time), and each takes as many exchanges as there are
# other ranks.
PIECE_BYTES, PIECES = 2**22, 4


def travelling_operand(arrays: Sequence[DNDarray], plan: Contraction) -> int | None:
    """The place of the operand that goes around the ranks: the large one that the plan would gather, if any."""
    if len(arrays) != 2 or plan.summed or plan.result.split is None:
        return None
    gathered = [
        place
        for place, (x, needed) in enumerate(zip(arrays, plan.needed, strict=True))
        if needed is not None and needed.split is None and x.layout.split is not None
    ]
    if len(gathered) != 1 or arrays[gathered[0]].nbytes <= collectives.RING_BYTES:
        return None
    terms, output = _terms(plan.equation)
    extents = label_extents([x.shape for x in arrays], terms)
    # Axes that broadcast, or that one operand alone sums over, have gradients of another kind.
    fit = all(
        extents[label] == n and (label in output or label in other)
        for x, term, other in zip(arrays, terms, terms[::-1], strict=True)
        for label, n in zip(term, x.shape, strict=True)
    )
    return gathered[0] if fit else None


def ring_product(
    shards: Sequence[torch.Tensor], arrays: Sequence[DNDarray], plan: Contraction, travelling: int
) -> torch.Tensor:
    """This rank's shard of a product of which the plan would gather one operand. Collective."""
    terms, output = _terms(plan.equation)
    x, order = arrays[travelling], (1 - travelling, travelling)
    needed = plan.needed[travelling]
    if needed is not None:
        warn_of_move(x.larray.itemsize, x.layout, needed, x.comm)
    label = terms[travelling][x.layout.split or 0]
    own_terms = terms[order[0]], terms[order[1]]
    product = _Product(x.comm, own_terms, output, label, x.layout.counts or ())
    return apply(product, *(shards[place] for place in order))[0]


def sum_of_products(left: torch.Tensor, right: torch.Tensor, target: Layout, comm: Communication) -> torch.Tensor:
    """This rank's columns, by `target`, of `left @ right^H`, of both of which each rank has some. Collective."""
    return apply(_Sum(comm, ("ik", "jk"), "ij", "j", target.counts or ()), left, right.conj())[0]


def _terms(equation: str) -> tuple[tuple[str, ...], str]:
    inputs, output = equation.split("->")
    return tuple(inputs.split(",")), output


@dataclass(frozen=True, slots=True)
class _Ring(Collective):
    """A contraction of two tensors, in blocks along the axis with `label`, of which rank r has `counts[r]`."""

    comm: Communication
    terms: tuple[str, str]
    output: str
    label: str
    counts: tuple[int, ...]

    keeps_tensors = True

    def keep(self, inputs: Tensors, outputs: Tensors) -> Tensors:
        return inputs

    def tangent(self, kept: Tensors, tangents: Tensors) -> Gradients:
        first, second = (
            apply(self, *(tangents[each] if each == place else kept[each] for each in range(2)))[0]
            for place in range(2)
        )
        return [first + second]

    def batched(self, size: int) -> tuple[Collective, int]:
        # A batch lies along an axis behind the others, of which all tensors have one.
        more = next(each for each in ascii_letters if each not in "".join((*self.terms, self.output)))
        first, second = self.terms
        return replace(self, terms=(first + more, second + more), output=self.output + more), -1

    def has_batch(self, inputs: Sequence[bool]) -> Sequence[bool]:
        return [True]

    def pieces(self, bytes_of_index: int) -> Iterator[list[slice]]:
        """By pieces that go around, and by ranks: which indices of the axis with the label."""
        size = max(self.counts) * bytes_of_index
        pieces = max(1, min(PIECES, size // PIECE_BYTES))
        starts = np.cumsum([0, *self.counts]).tolist()
        for piece in range(pieces):
            yield [
                slice(start + count * piece // pieces, start + count * (piece + 1) // pieces)
                for start, count in zip(starts, self.counts, strict=False)
            ]

    def contract(self, tensors: Tensors, piece: slice, total: torch.Tensor | None = None) -> torch.Tensor:
        """The contraction for one piece of what has all blocks, added to `total` if that is given."""
        blocks = [
            x.narrow(term.index(self.label), piece.start, piece.stop - piece.start)
            if self.label in term and x.shape[term.index(self.label)] != piece.stop - piece.start
            else x
            for x, term in zip(tensors, self.terms, strict=True)
        ]
        terms = self.terms
        # A product of matrices is added up where it is: in memory of its own it would be as large as the result.
        if total is not None and is_inexact(total.dtype) and {len(x) for x in (*terms, self.output)} == {2}:
            if self.output[0] not in terms[0]:
                blocks, terms = blocks[::-1], terms[::-1]
            rows = blocks[0] if terms[0][0] == self.output[0] else blocks[0].mT
            return total.addmm_(rows, blocks[1] if terms[1][1] == self.output[1] else blocks[1].mT)
        part = torch.einsum(f"{','.join(self.terms)}->{self.output}", *blocks)
        return part if total is None else total.add_(part)


@dataclass(frozen=True, slots=True)
class _Product(_Ring):
    """The contraction of this rank's tensor with all blocks of the other one, of which each rank has one."""

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        own, block = tensors
        result: torch.Tensor | None = None
        axis, cut = self.output.find(self.label), self.terms[1].index(self.label)
        for pieces in self.pieces(block.itemsize * prod(block.shape[:cut]) * prod(block.shape[cut + 1 :])):
            mine = pieces[self.comm.rank]
            piece = block.narrow(cut, mine.start - sum(self.counts[: self.comm.rank]), mine.stop - mine.start)
            counts = [each.stop - each.start for each in pieces]
            # Contiguous, so that it is packed once and not in each step.
            for rank, each in blocks_in_turn(piece.contiguous(), cut, counts, self.comm):
                if axis < 0:
                    result = self.contract((own, each), pieces[rank], result)
                    continue
                part = self.contract((own, each), pieces[rank])
                if result is None:
                    result = part.new_empty((*part.shape[:axis], sum(self.counts), *part.shape[axis + 1 :]))
                result.narrow(axis, pieces[rank].start, counts[rank]).copy_(part)
        assert result is not None  # of this rank's own block
        return [result]

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        (own, block), (gradient,), (first, second) = kept, gradients, self.terms
        product = replace(self, terms=(self.output, second), output=first)
        total = _Sum(self.comm, (self.output, first), second, self.label, self.counts)
        return [
            apply(product, gradient, block.conj())[0] if wanted[0] else None,
            apply(total, gradient, own.conj())[0] if wanted[1] else None,
        ]


@dataclass(frozen=True, slots=True)
class _Sum(_Ring):
    """The sum over the ranks of the contractions of their two tensors, of which each rank gets its block."""

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        here, size, axis = self.comm.rank, self.comm.size, self.output.index(self.label)
        extents = dict(zip("".join(self.terms), (*tensors[0].shape, *tensors[1].shape), strict=True))
        shape = [self.counts[here] if x == self.label else extents[x] for x in self.output]
        rounds = list(self.pieces(tensors[0].itemsize * prod(shape[:axis]) * prod(shape[axis + 1 :])))
        result: torch.Tensor | None = None
        for pieces in rounds:
            total = self.contract(tensors, pieces[(here - 1) % size]).resolve_conj()
            for step in range(1, size):
                rank = (here - 1 - step) % size
                total = self.contract(tensors, pieces[rank], self._shift(total, pieces[rank], axis))
            if len(rounds) == 1:
                return [total]
            result = total.new_empty(shape) if result is None else result
            mine = pieces[here]
            result.narrow(axis, mine.start - sum(self.counts[:here]), mine.stop - mine.start).copy_(total)
        assert result is not None  # there is a round
        return [result]

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        places = ((0, 1), (1, 0))
        return [
            apply(
                _Product(self.comm, (self.terms[other], self.output), self.terms[place], self.label, self.counts),
                kept[other].conj(),
                gradients[0],
            )[0]
            if wanted[place]
            else None
            for place, other in places
        ]

    def _shift(self, total: torch.Tensor, piece: slice, axis: int) -> torch.Tensor:
        """Send the sum for one rank on to the next, and return that for `piece`, which comes."""
        here, size = self.comm.rank, self.comm.size
        received = total.new_empty((*total.shape[:axis], piece.stop - piece.start, *total.shape[axis + 1 :]))
        self.comm.exchange(
            [((here + 1) % size, total)] if total.numel() else [],
            [((here - 1) % size, received)] if received.numel() else [],
            (total.dtype, "sums in a ring", self.terms, self.output, self.counts),
        )
        return received
