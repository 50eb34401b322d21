"""Where the operands of a matrix product meet. Layouts in, layouts out: no tensors, no MPI."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from minisplit.core.layout import Layout
from minisplit.core.transfer import elements_moved
from minisplit.ops._align import broadcast


@dataclass(frozen=True, slots=True)
class Product:
    """A way to compute a matrix product: the layouts of result and operands.

    `summed`: each rank multiplies its part of the inner axis, and the products are added up over the ranks.
    """

    result: Layout
    left: Layout
    right: Layout
    summed: bool = False


@lru_cache(maxsize=256)
def meet_product(a: Layout, b: Layout, itemsizes: tuple[int, int], result_itemsize: int) -> Product:
    """Choose how operands of these layouts, of at least two dimensions, are multiplied: the way that sends least.

    The ways, by what of the result each rank computes: a part of a batch axis, of the rows (all ranks then need
    all of the right operand), of the columns (all of the left one), or a share of every element, by a part of the
    inner axis. Each part is cut as an operand is that need not move, where one is cut along that axis; replicated
    operands make a replicated result. Raises ValueError for shapes that do not fit.

    >>> tall, small = Layout((1000, 4), 0, ranks=2), Layout((4, 4), None, ranks=2)
    >>> meet_product(tall, small, (4, 4), 4).result.split
    0
    >>> meet_product(Layout((4, 1000), 1, ranks=2), tall, (4, 4), 4).summed
    True
    """
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(
            f"a matrix product needs as many columns on the left as rows on the right, got shapes {a.shape} and "
            f"{b.shape}: {a.shape[-1]} and {b.shape[-2]}"
        )
    if a.ranks == 1:  # nothing is sent: the result is split as it would be on two ranks
        way = meet_product(Layout(a.shape, a.split, 2), Layout(b.shape, b.split, 2), itemsizes, result_itemsize)
        result, left, right = (Layout(x.shape, x.split, 1) for x in (way.result, way.left, way.right))
        return Product(result, left, right, way.summed)
    shape = (*broadcast([a.shape[:-2], b.shape[:-2]]), a.shape[-2], b.shape[-1])
    if a.split is None and b.split is None:
        return Product(Layout(shape, None, a.ranks), a, b)

    def bytes_sent(way: Product) -> int:
        moved = itemsizes[0] * elements_moved(a, way.left) + itemsizes[1] * elements_moved(b, way.right)
        # What an allreduce sends at least.
        return moved + way.summed * 2 * (a.ranks - 1) * way.result.size * result_itemsize

    return min(_ways(a, b, shape), key=bytes_sent)


def _ways(a: Layout, b: Layout, shape: tuple[int, ...]) -> Iterator[Product]:
    ranks, ndim = a.ranks, len(shape)
    whole_a, whole_b = Layout(a.shape, None, ranks), Layout(b.shape, None, ranks)
    for axis in range(ndim - 2):
        for operand in (a, b):
            own = axis - (ndim - operand.ndim)
            if operand.split is not None and operand.split == own and operand.extent == shape[axis]:
                result = Layout(shape, axis, ranks, operand.ragged)
                yield Product(result, _part(a, result), _part(b, result))
    rows = Layout(shape, ndim - 2, ranks, a.ragged if a.split == a.ndim - 2 else None)
    yield Product(rows, Layout(a.shape, a.ndim - 2, ranks, rows.ragged), whole_b)
    columns = Layout(shape, ndim - 1, ranks, b.ragged if b.split == b.ndim - 1 else None)
    yield Product(columns, whole_a, Layout(b.shape, b.ndim - 1, ranks, columns.ragged))
    inner = [a.ragged] * (a.split == a.ndim - 1) + [b.ragged] * (b.split == b.ndim - 2)
    for ragged in inner or [None]:
        left, right = Layout(a.shape, a.ndim - 1, ranks, ragged), Layout(b.shape, b.ndim - 2, ranks, ragged)
        yield Product(Layout(shape, None, ranks), left, right, summed=True)


def _part(operand: Layout, result: Layout) -> Layout:
    """What each rank needs of an operand for its part of a batch axis of the result."""
    axis = (result.split or 0) - (result.ndim - operand.ndim)
    if axis >= 0 and operand.shape[axis] == result.extent:
        return Layout(operand.shape, axis, operand.ranks, result.ragged)
    return Layout(operand.shape, None, operand.ranks)
