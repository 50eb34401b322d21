"""Where the operands of a product meet, be it of matrices or any other that is summed over labelled axes.

Layouts in, layouts out: no tensors, no MPI.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_uppercase

from minisplit.core.layout import Layout
from minisplit.core.transfer import elements_moved
from minisplit.ops.elementwise.alignment import broadcast_shape


@dataclass(frozen=True, slots=True)
class Contraction:
    """A way to compute a product: the layout of its result, and what each operand needs: None for its own.

    `equation` is what each rank does, as of `torch.einsum`. `summed`: the ranks share out an axis that the result
    does not have, and what they compute is added up.
    """

    equation: str
    result: Layout
    needed: tuple[Layout | None, ...]
    summed: bool = False


@lru_cache(maxsize=256)
def contraction(
    layouts: tuple[Layout, ...], itemsizes: tuple[int, ...], terms: tuple[str, ...], output: str
) -> Contraction:
    """Choose how operands of these layouts and bytes per element are multiplied: the way that sends least.

    An axis of an operand has the label that `terms` has for it, no operand one label twice. Axes of one label are
    of one extent, or 1 and broadcast; the result has those of `output` and is summed over the others.

    The ranks share out one label: operands are cut along it, those without it are needed whole, and the result is
    cut along it or, where it has it not, replicated and summed. Each part is as that of an operand that is cut
    there, or else even, and then there must be an index for every rank. Replicated operands make a replicated
    result. Raises ValueError for extents that do not fit.

    >>> tall, small = Layout((1000, 4), 0, ranks=2), Layout((4, 4), None, ranks=2)
    >>> contraction((tall, small), (4, 4), ("ij", "jk"), "ik").result.split
    0
    >>> contraction((tall, tall), (4, 4), ("ij", "ik"), "jk").summed
    True
    """
    extents = extents_of([x.shape for x in layouts], terms)
    ranks = layouts[0].ranks
    if ranks == 1:  # nothing is sent: the result is split as it would be on two ranks
        on_two = tuple(Layout(x.shape, x.split, 2) for x in layouts)
        way = contraction(on_two, itemsizes, terms, output)
        result = Layout(way.result.shape, way.result.split, 1)
        return Contraction(way.equation, result, (None,) * len(layouts), way.summed)
    equation = f"{','.join(terms)}->{output}"
    if all(x.split is None for x in layouts):
        shape = tuple(extents[label] for label in output)
        return Contraction(equation, Layout(shape, None, ranks), (None,) * len(layouts))

    def cut(term: str, shape: tuple[int, ...], label: str, ragged: tuple[int, ...] | None) -> Layout:
        axis = term.find(label)
        is_cut = axis >= 0 and shape[axis] == extents[label]
        return Layout(shape, axis, ranks, ragged) if is_cut else Layout(shape, None, ranks)

    ways = [
        Contraction(
            equation,
            cut(output, tuple(extents[other] for other in output), label, ragged),
            tuple(cut(term, x.shape, label, ragged) for term, x in zip(terms, layouts, strict=True)),
            summed=label not in output,
        )
        for label, ragged in _shares(layouts, terms, output, extents)
    ]

    def bytes_sent(way: Contraction) -> int:
        moves = zip(itemsizes, layouts, way.needed, strict=True)
        moved = sum(size * elements_moved(x, wanted or x) for size, x, wanted in moves)
        # What an allreduce sends at least.
        return moved + way.summed * 2 * (ranks - 1) * way.result.size * max(itemsizes)

    best = min(ways, key=bytes_sent)
    needed = tuple(None if x == wanted else wanted for x, wanted in zip(layouts, best.needed, strict=True))
    return Contraction(equation, best.result, needed, best.summed)


def _shares(
    layouts: Sequence[Layout], terms: Sequence[str], output: str, extents: Mapping[str, int]
) -> Iterator[tuple[str, tuple[int, ...] | None]]:
    """The labels that ranks may share out, and the counts to do it by; those of the result first."""
    own: dict[str, list[tuple[int, ...] | None]] = {}
    for x, term in zip(layouts, terms, strict=True):
        if x.split is not None and x.extent == extents[term[x.split]]:
            own.setdefault(term[x.split], []).append(x.ragged)
    for label in dict.fromkeys(output + "".join(terms)):
        if label in own or not own or extents[label] >= layouts[0].ranks:
            yield from ((label, ragged) for ragged in dict.fromkeys(own.get(label, [None])))


def extents_of(shapes: Sequence[tuple[int, ...]], terms: Sequence[str]) -> dict[str, int]:
    """The extent of every label; ValueError where axes of one label are neither alike nor 1.

    >>> extents_of([(2, 3), (1, 4)], ["ij", "ik"])
    {'i': 2, 'j': 3, 'k': 4}
    """
    extents: dict[str, int] = {}
    for shape, term in zip(shapes, terms, strict=True):
        for label, extent in zip(term, shape, strict=True):
            if extents.setdefault(label, extent) == 1:
                extents[label] = extent
            elif extent not in {1, extents[label]}:
                raise ValueError(
                    f"axes of one label have one extent, or 1, but {label!r} stands for {extents[label]} and "
                    f"{extent} in {','.join(terms)} of shapes {' and '.join(map(str, shapes))}"
                )
    return extents


@lru_cache(maxsize=256)
def matrix_product(left: Layout, right: Layout, itemsizes: tuple[int, int]) -> Contraction:
    """The contraction that is a product of vectors, matrices or batches of them. ValueError where they do not fit.

    >>> matrix_product(Layout((4, 1000), 1, ranks=2), Layout((1000, 4), 0, ranks=2), (4, 4)).summed
    True
    """
    if not left.ndim or not right.ndim:
        raise ValueError(f"matmul needs at least one dimension, got shapes {left.shape} and {right.shape}")
    inner = left.shape[-1], right.shape[-2 if right.ndim > 1 else 0]
    if inner[0] != inner[1]:
        raise ValueError(
            f"a matrix product needs as many columns on the left as rows on the right, got shapes {left.shape} "
            f"and {right.shape}: {inner[0]} and {inner[1]}"
        )
    broadcast_shape([left.shape[:-2], right.shape[:-2]])
    batch = ascii_uppercase[: max(left.ndim, right.ndim, 2) - 2]
    rows, columns = "r" * (left.ndim > 1), "c" * (right.ndim > 1)
    terms = (
        batch[len(batch) - max(left.ndim - 2, 0) :] + rows + "i",
        batch[len(batch) - max(right.ndim - 2, 0) :] + "i" + columns,
    )
    return contraction((left, right), itemsizes, terms, batch + rows + columns)
