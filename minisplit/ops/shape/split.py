"""Several arrays out of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.layout import Layout, as_index, normalise_axis
from minisplit.ops.shape.layouts import reduce_layout, without_axis
from minisplit.ops.shape.reshape import contiguous_clone


def unstack(x: DNDarray, /, axis: int = 0) -> tuple[DNDarray, ...]:
    """Return the slices of `x` along an axis.

    Parameters
    ----------
    x : DNDarray
        The array.
    axis : int, default 0
        The axis.

    Returns
    -------
    tuple of DNDarray
        An array without that axis for each of its indices. Split as `x`; if `x` is split along that axis, evenly
        along the longest other one.

    Raises
    ------
    IndexError
        If the axis is out of range.

    Communication
    -------------
    Local unless `axis` is the split axis. Then collective: one exchange.

    Examples
    --------
    >>> import minisplit as ms
    >>> [y.tolist() for y in ms.unstack(ms.arange(6, split=0).reshape((3, 2)), axis=1)]
    [[0, 2, 4], [1, 3, 5]]
    """
    axis = normalise_axis(axis, as_dndarray(x).ndim, "axis")
    # Each result would be on one rank alone if the split stayed, and what is done with it the work of that rank.
    x = x._align(without_axis(x.layout, axis))
    layout = reduce_layout(x.layout, (axis,), keepdims=False).result
    return tuple(DNDarray(contiguous_clone(shard), layout, x.comm) for shard in x.larray.unbind(axis))


def array_split(x: DNDarray, /, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[DNDarray]:
    """Divide `x` along an axis into parts, which need not be equal.

    Parameters
    ----------
    x : DNDarray
        The array.
    indices_or_sections : int or sequence of int
        The number of parts (the first parts may be longer by 1), or the indices before which to divide.
    axis : int, default 0
        The axis.

    Returns
    -------
    list of DNDarray
        The parts, in new memory and split as `x`. Each index is on the rank that had it.

    Raises
    ------
    IndexError
        If the axis is out of range.
    ValueError
        If the number of parts is less than 1.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> [part.tolist() for part in ms.array_split(ms.arange(5, split=0), 2)]
    [[0, 1, 2], [3, 4]]
    """
    axis = normalise_axis(axis, as_dndarray(x).ndim, "axis")
    if isinstance(indices_or_sections, Iterable):
        bounds = [as_index(index, "every index of indices_or_sections") for index in indices_or_sections]
    else:
        parts = as_index(indices_or_sections, "indices_or_sections")
        if parts < 1:
            raise ValueError(f"indices_or_sections must be at least 1, got {parts}")
        # The rule of balanced layouts.
        bounds = list(Layout((x.shape[axis],), 0, parts).displs or ())[1:]
    before: tuple[slice, ...] = (slice(None),) * axis
    # None, not the extent: bounds may be negative or beyond the axis, as slices have it.
    ends: list[int | None] = [*bounds, None]
    return [x[(*before, slice(start, stop))] for start, stop in zip([0, *bounds], ends, strict=True)]


def split(x: DNDarray, /, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[DNDarray]:
    """Divide `x` along an axis into equal parts.

    Parameters
    ----------
    x : DNDarray
        The array.
    indices_or_sections : int or sequence of int
        The number of parts; or the indices before which to divide.
    axis : int, default 0
        The axis.

    Returns
    -------
    list of DNDarray
        The parts, as those of `array_split`.

    Raises
    ------
    IndexError
        If the axis is out of range.
    ValueError
        If the axis cannot be divided into that number of equal parts, or the number is less than 1.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> [part.shape for part in ms.split(ms.zeros((4, 3), split=0), [1, 3])]
    [(1, 3), (2, 3), (1, 3)]
    """
    axis = normalise_axis(axis, as_dndarray(x).ndim, "axis")
    given = indices_or_sections
    parts = 1 if isinstance(given, Iterable) else as_index(given, "indices_or_sections")
    if parts > 0 and x.shape[axis] % parts:
        raise ValueError(
            f"axis {axis} of shape {x.shape} cannot be cut into {parts} equal parts; array_split makes parts "
            "that differ by 1"
        )
    return array_split(x, indices_or_sections, axis)


def vsplit(x: DNDarray, /, indices_or_sections: int | Sequence[int]) -> list[DNDarray]:
    """Divide `x` along axis 0 into equal parts.

    Parameters
    ----------
    x : DNDarray
        The array.
    indices_or_sections : int or sequence of int
        The number of parts; or the indices before which to divide.

    Returns
    -------
    list of DNDarray
        The parts, as those of `array_split`.

    Raises
    ------
    IndexError, ValueError
        Where `split` does.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> len(ms.vsplit(ms.zeros((2, 2), split=0), 2))
    2
    """
    return split(x, indices_or_sections, 0)


def hsplit(x: DNDarray, /, indices_or_sections: int | Sequence[int]) -> list[DNDarray]:
    """Divide `x` along axis 1 into equal parts, or a 1-d array along axis 0.

    Parameters
    ----------
    x : DNDarray
        The array.
    indices_or_sections : int or sequence of int
        The number of parts; or the indices before which to divide.

    Returns
    -------
    list of DNDarray
        The parts, as those of `array_split`.

    Raises
    ------
    IndexError, ValueError
        Where `split` does.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> [part.shape for part in ms.hsplit(ms.zeros((3, 4), split=0), 2)]
    [(3, 2), (3, 2)]
    """
    return split(x, indices_or_sections, min(1, as_dndarray(x).ndim - 1))


def dsplit(x: DNDarray, /, indices_or_sections: int | Sequence[int]) -> list[DNDarray]:
    """Divide `x` along axis 2 into equal parts.

    Parameters
    ----------
    x : DNDarray
        The array.
    indices_or_sections : int or sequence of int
        The number of parts; or the indices before which to divide.

    Returns
    -------
    list of DNDarray
        The parts, as those of `array_split`.

    Raises
    ------
    IndexError, ValueError
        Where `split` does.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> [part.shape for part in ms.dsplit(ms.zeros((2, 1, 4), split=0), 2)]
    [(2, 1, 2), (2, 1, 2)]
    """
    return split(x, indices_or_sections, 2)
