"""Several arrays joined to one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import cat, redistribute_all
from minisplit.core.layout import normalise_axis
from minisplit.core.performance_warning import warn_if_large
from minisplit.core.pytorch.dtypes import Dtype
from minisplit.core.transfer import elements_moved
from minisplit.ops.elementwise.alignment import LayoutPlan
from minisplit.ops.elementwise.apply import check_one_communicator, into
from minisplit.ops.shape.axes import expand_to, insert_axes
from minisplit.ops.shape.layouts import concat_layout

_LARGE_MOVE = (
    "joined arrays go to their places in the result. Those that are split alike, along another axis than the one "
    "along which they are joined, stay where they are"
)


def concat(
    arrays: Sequence[DNDarray], /, axis: int | None = 0, *, out: DNDarray | None = None, dtype: Dtype = None
) -> DNDarray:
    """Join arrays along an axis.

    Parameters
    ----------
    arrays : sequence of DNDarray
        The arrays. Their shapes agree, except along that axis.
    axis : int or None, default 0
        The axis. With None the elements of the arrays are joined in row-major order, as `ravel` returns them.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    dtype : torch.dtype, optional
        The dtype of the result. By default that to which those of the arrays are promoted.

    Returns
    -------
    DNDarray
        The arrays, one after the other, with the dtype to which torch promotes theirs. Split as one of the arrays,
        that for which the fewest bytes move and the first of equals; replicated only if all are. Along `axis` it
        has the default counts. But if no rank then has more elements than the fullest rank had, it has the counts
        of one array, and the elements before and after this array are on the first and last rank.

    Raises
    ------
    ValueError
        If there are no arrays, their shapes do not fit, or they are on different communicators.
    IndexError
        If the axis is out of range.
    TypeError
        If one of the arrays is not a DNDarray.

    Communication
    -------------
    Local where the arrays are split alike along another axis, or replicated. Otherwise collective: one exchange
    for all of them. With `axis=None` the messages of `ravel` come first.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.concat([ms.arange(2, split=0), ms.zeros(1, split=0)]).tolist()
    [0.0, 1.0, 0.0]
    """
    arrays = check_arrays(arrays, "concat")
    if dtype is not None:
        arrays = [x.astype(dtype, copy=False) for x in arrays]
    if axis is None:
        arrays, axis = [x.ravel() for x in arrays], 0
    axis = normalise_axis(axis, arrays[0].ndim, "axis")
    first = arrays[0].shape
    for place, x in enumerate(arrays):
        if x.ndim != len(first) or x.shape[:axis] + x.shape[axis + 1 :] != first[:axis] + first[axis + 1 :]:
            raise ValueError(
                f"joined arrays may differ along axis {axis} alone, but array 0 has shape {first} and array "
                f"{place} has {x.shape}"
            )
    # Arrays move in their own dtypes, and are promoted by torch.cat once they are there.
    itemsizes = tuple(x.larray.itemsize for x in arrays)
    return into(concat_as(arrays, axis, concat_layout(tuple(x.layout for x in arrays), axis, itemsizes)), out)


def concatenate(
    arrays: Sequence[DNDarray], /, axis: int | None = 0, *, out: DNDarray | None = None, dtype: Dtype = None
) -> DNDarray:
    """Join arrays along an axis. NumPy's name of `concat`.

    Parameters
    ----------
    arrays : sequence of DNDarray
        The arrays. Their shapes agree, except along that axis.
    axis : int or None, default 0
        The axis. With None the elements of the arrays are joined in row-major order.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    dtype : torch.dtype, optional
        The dtype of the result. By default that to which those of the arrays are promoted.

    Returns
    -------
    DNDarray
        The arrays, one after the other. Split as `concat` has it.

    Raises
    ------
    ValueError, IndexError, TypeError
        Where `concat` does.

    Communication
    -------------
    Local or collective as `concat`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.concatenate([ms.zeros((1, 3), split=1), ms.ones((2, 3), split=1)]).split
    1
    """
    return concat(arrays, axis=axis, out=out, dtype=dtype)


def append(x: DNDarray, /, values: DNDarray, axis: int | None = None) -> DNDarray:
    """Join two arrays along an axis, or their elements.

    Parameters
    ----------
    x : DNDarray
        The first array.
    values : DNDarray
        The second array.
    axis : int, optional
        The axis. By default the elements are joined in row-major order.

    Returns
    -------
    DNDarray
        `x` and after it `values`. Split as `concat` has it.

    Raises
    ------
    ValueError, IndexError, TypeError
        Where `concat` does.

    Communication
    -------------
    Local or collective as `concat`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.append(ms.arange(2, split=0), ms.full((1, 2), 7)).tolist()
    [0, 1, 7, 7]
    """
    return concat([x, values], axis=axis)


def stack(
    arrays: Sequence[DNDarray], /, axis: int = 0, *, out: DNDarray | None = None, dtype: Dtype = None
) -> DNDarray:
    """Join arrays of one shape along a new axis.

    Parameters
    ----------
    arrays : sequence of DNDarray
        The arrays.
    axis : int, default 0
        The place of the new axis in the result.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    dtype : torch.dtype, optional
        The dtype of the result. By default that to which those of the arrays are promoted.

    Returns
    -------
    DNDarray
        The arrays along the new axis, which is not split. Split as one of the arrays, that for which the fewest
        bytes move; replicated only if all are.

    Raises
    ------
    ValueError
        If there are no arrays, their shapes differ, or they are on different communicators.
    IndexError
        If the place of the axis is out of range.
    TypeError
        If one of the arrays is not a DNDarray.

    Communication
    -------------
    Local where the arrays are split alike, or replicated. Otherwise collective: one exchange.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.stack([ms.zeros(3, split=0), ms.ones(3, split=0)], axis=1).shape
    (3, 2)
    """
    arrays = check_arrays(arrays, "stack")
    for place, x in enumerate(arrays):
        if x.shape != arrays[0].shape:
            raise ValueError(
                f"stacked arrays must have one shape, but array 0 has {arrays[0].shape}, array {place} {x.shape}"
            )
    return concat([insert_axes(x, axis) for x in arrays], axis=axis, out=out, dtype=dtype)


def vstack(arrays: Sequence[DNDarray], /) -> DNDarray:
    """Join arrays along axis 0, 1-d arrays as rows.

    Parameters
    ----------
    arrays : sequence of DNDarray
        The arrays. Each is made at least 2-d, as by `atleast_2d`.

    Returns
    -------
    DNDarray
        The arrays, one below the other. Split as `concat` has it.

    Raises
    ------
    ValueError, TypeError
        Where `concat` does.

    Communication
    -------------
    Local or collective as `concat`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.vstack([ms.zeros(2, split=0), ms.ones(2, split=0)]).tolist()
    [[0.0, 0.0], [1.0, 1.0]]
    """
    return concat([expand_to(x, 2) for x in check_arrays(arrays, "vstack")], axis=0)


def hstack(arrays: Sequence[DNDarray], /) -> DNDarray:
    """Join arrays along axis 1, or 1-d arrays along axis 0.

    Parameters
    ----------
    arrays : sequence of DNDarray
        The arrays. Those without axes are made 1-d.

    Returns
    -------
    DNDarray
        The arrays, one beside the other. Split as `concat` has it.

    Raises
    ------
    ValueError, TypeError
        Where `concat` does.

    Communication
    -------------
    Local or collective as `concat`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.hstack([ms.zeros(2, split=0), ms.ones(2, split=0)]).tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    arrays = [expand_to(x, 1) for x in check_arrays(arrays, "hstack")]
    # A 1-d array has no axis 1, and is a row for NumPy.
    return concat(arrays, axis=min(1, arrays[0].ndim - 1))


def dstack(arrays: Sequence[DNDarray], /) -> DNDarray:
    """Join arrays along axis 2.

    Parameters
    ----------
    arrays : sequence of DNDarray
        The arrays. Each is made at least 3-d, as by `atleast_3d`.

    Returns
    -------
    DNDarray
        The arrays, one behind the other. Split as `concat` has it.

    Raises
    ------
    ValueError, TypeError
        Where `concat` does.

    Communication
    -------------
    Local or collective as `concat`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.dstack([ms.zeros(2, split=0), ms.ones(2, split=0)]).tolist()
    [[[0.0, 1.0], [0.0, 1.0]]]
    """
    return concat([expand_to(x, 3) for x in check_arrays(arrays, "dstack")], axis=2)


def column_stack(arrays: Sequence[DNDarray], /) -> DNDarray:
    """Join arrays along axis 1, 1-d arrays as columns.

    Parameters
    ----------
    arrays : sequence of DNDarray
        The arrays.

    Returns
    -------
    DNDarray
        The columns, one beside the other. Split as `concat` has it.

    Raises
    ------
    ValueError, TypeError
        Where `concat` does.

    Communication
    -------------
    Local or collective as `concat`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.column_stack([ms.zeros(2, split=0), ms.ones(2, split=0)]).tolist()
    [[0.0, 1.0], [0.0, 1.0]]
    """
    return concat([insert_axes(x, range(x.ndim, 2)) for x in check_arrays(arrays, "column_stack")], axis=1)


def check_arrays(arrays: Any, name: str) -> list[DNDarray]:
    """`arrays`, at least one, all DNDarrays on one communicator. TypeError or ValueError for others."""
    # A DNDarray can be iterated over, but that would send a message for each row.
    if isinstance(arrays, DNDarray) or not isinstance(arrays, Iterable):
        raise TypeError(f"{name} needs a sequence of DNDarrays, got {type(arrays).__name__}")
    checked = [as_dndarray(x, f"array {place}") for place, x in enumerate(arrays)]
    if not checked:
        raise ValueError(f"{name} needs at least one array, got none")
    check_one_communicator(checked)
    return checked


def concat_as(arrays: Sequence[DNDarray], axis: int, plan: LayoutPlan) -> DNDarray:
    """The arrays joined along `axis`, once each is in the layout that the plan has for it."""
    comm, shards = arrays[0].comm, [x.larray for x in arrays]
    pairs = [(x.layout, need or x.layout) for x, need in zip(arrays, plan.needed, strict=True)]
    moving = [place for place, (have, need) in enumerate(pairs) if have != need]
    if moving:
        # In one exchange for all of them, in which all messages are under way at once.
        size = sum(elements_moved(*pairs[place]) * shards[place].itemsize for place in moving)
        warn_if_large(size, _LARGE_MOVE, comm)
        moved = redistribute_all([shards[place] for place in moving], [pairs[place] for place in moving], comm)
        for place, shard in zip(moving, moved, strict=True):
            shards[place] = shard
    return DNDarray(cat(shards, axis), plan.result, comm)
