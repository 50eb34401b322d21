"""Arrays broadcast to a common shape. They have all their elements in memory, as all arrays of minisplit."""

from __future__ import annotations

from collections.abc import Sequence

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout, normalise_shape
from minisplit.ops.elementwise.alignment import align, broadcast_shape
from minisplit.ops.elementwise.apply import operand_shard
from minisplit.ops.shape.axes import insert_axes
from minisplit.ops.shape.join import check_arrays
from minisplit.ops.shape.reshape import contiguous_clone


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape to which shapes broadcast.

    Parameters
    ----------
    *shapes : tuple of int
        The shapes.

    Returns
    -------
    tuple of int
        Their common shape by NumPy's rule. Without shapes it is `()`.

    Raises
    ------
    ValueError
        If they do not broadcast.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.broadcast_shapes((3, 1), (4,))
    (3, 4)
    """
    return broadcast_shape([normalise_shape(shape) for shape in shapes]) if shapes else ()


def broadcast_to(x: DNDarray, /, shape: Sequence[int]) -> DNDarray:
    """Return `x` broadcast to a shape.

    Parameters
    ----------
    x : DNDarray
        The array.
    shape : sequence of int
        The shape.

    Returns
    -------
    DNDarray
        An array of that shape with all its elements in memory. Split as `x`, with its counts; with the default
        counts if the split axis is one of extent 1 that becomes longer.

    Raises
    ------
    ValueError
        If `x` does not broadcast to that shape.

    Communication
    -------------
    Local, unless the split axis is one of extent 1 that becomes longer. Then collective: one exchange.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.broadcast_to(ms.arange(2, split=0), (3, 2)).tolist()
    [[0, 1], [0, 1], [0, 1]]
    """
    target = normalise_shape(shape)
    if broadcast_shape([as_dndarray(x).shape, target]) != target:
        raise ValueError(
            f"shape {x.shape} does not broadcast to {target}: each extent must be that of the target, or 1"
        )
    return _broadcast([x], target)[0]


def broadcast_arrays(*arrays: DNDarray) -> tuple[DNDarray, ...]:
    """Return arrays broadcast to their common shape, and in one layout.

    Parameters
    ----------
    *arrays : DNDarray
        The arrays.

    Returns
    -------
    tuple of DNDarray
        The arrays with all their elements in memory, in the layout that `minisplit.add` of them would have.

    Raises
    ------
    ValueError
        If their shapes do not broadcast, or they are on different communicators.

    Communication
    -------------
    Local where the layouts agree or at most one array is split. Otherwise collective: one exchange for each array
    that moves.

    Examples
    --------
    >>> import minisplit as ms
    >>> x, y = ms.broadcast_arrays(ms.zeros((3, 1), split=0), ms.zeros(2))
    >>> x.shape, y.shape, y.split
    ((3, 2), (3, 2), 0)
    """
    # Without arrays there is nothing to broadcast. NumPy has it so too, while `concat` of nothing is an error.
    checked = check_arrays(arrays, "broadcast_arrays") if arrays else []
    return _broadcast(checked, broadcast_shape([x.shape for x in checked])) if checked else ()


def meshgrid(*arrays: DNDarray, indexing: str = "xy") -> tuple[DNDarray, ...]:
    """Return the coordinates of the points of a grid.

    Parameters
    ----------
    *arrays : DNDarray
        The coordinates along each axis of the grid, 1-d.
    indexing : {"xy", "ij"}, default "xy"
        With "ij" axis i of the results is that of array i. With "xy" the first two are swapped.

    Returns
    -------
    tuple of DNDarray
        For each array the coordinate of every point, in one layout, as of `broadcast_arrays`.

    Raises
    ------
    ValueError
        If an array is not 1-d, or for another indexing.

    Communication
    -------------
    Local where at most one array is split. Otherwise collective: one exchange for each split array but one.

    Examples
    --------
    >>> import minisplit as ms
    >>> x, y = ms.meshgrid(ms.arange(3, split=0), ms.arange(2))
    >>> x.tolist(), y.split
    ([[0, 1, 2], [0, 1, 2]], 1)
    """
    if indexing not in {"xy", "ij"}:
        raise ValueError(f"indexing must be 'xy' or 'ij', got {short_repr(indexing)}")
    for place, x in enumerate(arrays):
        if as_dndarray(x, f"array {place}").ndim != 1:
            raise ValueError(f"meshgrid needs 1-d arrays, but array {place} has shape {x.shape}")
    axes = list(range(len(arrays)))
    # Points in a plane are (x, y), but a picture of it has y along its rows, which are axis 0.
    if indexing == "xy" and len(axes) > 1:
        axes[:2] = 1, 0
    return broadcast_arrays(
        *[insert_axes(x, [other for other in axes if other != axis]) for x, axis in zip(arrays, axes, strict=True)]
    )


def _broadcast(arrays: Sequence[DNDarray], shape: tuple[int, ...]) -> tuple[DNDarray, ...]:
    """The arrays broadcast to `shape`, in one layout."""
    comm = arrays[0].comm
    # The shape takes part as a replicated array of no bytes, so that it decides nothing but the shape.
    layouts = (*(x.layout for x in arrays), Layout(shape, None, comm.size))
    alignment = align(layouts, (*(x.larray.itemsize for x in arrays), 0))
    result = alignment.result
    shards = [operand_shard(x, needed, result) for x, needed in zip(arrays, alignment.needed, strict=False)]
    # A clone: elements of an expanded tensor share memory, and y.larray.add_(1) would add to them several times.
    return tuple(
        DNDarray(contiguous_clone(shard.expand(result.lshape(comm.rank))), result, comm) for shard in shards
    )
