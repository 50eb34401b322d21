"""Other shapes and orders of one array's elements, under the names of the Python Array API standard and NumPy.

Every function returns an array with memory of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.communication.protocol import Communication
from minisplit.core.devices import Device
from minisplit.core.factories import ones
from minisplit.core.layout import Layout, as_index, normalise_axes, normalise_axis
from minisplit.core.performance_warning import warn_if_large
from minisplit.ops.elementwise.apply import named
from minisplit.ops.shape.layouts import (
    Axes,
    elements_crossing,
    infer_shape,
    permute_layout,
    reshape_layout,
)
from minisplit.ops.shape.reshape import insert_axes, own_memory, reshape_to, view_as, without_aliasing

_REGROUPED = (
    "in the new shape ranks have other elements than in the old one. Where x is split along axis 0 most of them "
    "stay where they are"
)


def permute_dims(x: DNDarray, /, axes: Sequence[int]) -> DNDarray:
    """Return `x` with its axes in another order: axis i is axis `axes[i]` of `x`. Local.

    The split goes with its axis and keeps its counts. Raises ValueError unless `axes` has each axis once,
    IndexError for one out of range.

    >>> import minisplit as ms
    >>> y = ms.permute_dims(ms.zeros((2, 3, 4), split=0), (2, 0, 1))
    >>> y.shape, y.split
    ((4, 2, 3), 1)
    """
    x = as_dndarray(x)
    order = normalise_axes(axes, x.ndim, "axes")
    if len(order) != x.ndim:
        raise ValueError(f"axes must name each axis of shape {x.shape} once, got {order}")
    return DNDarray(own_memory(x.larray.permute(order)), permute_layout(x.layout, order), x.comm)


def transpose(x: DNDarray, /, axes: Sequence[int] | None = None) -> DNDarray:
    """Return `x` with its axes in the order `axes`; None turns it round. Local. See `permute_dims`.

    >>> import minisplit as ms
    >>> ms.transpose(ms.zeros((2, 3), split=0)).split
    1
    """
    return permute_dims(x, range(as_dndarray(x).ndim)[::-1] if axes is None else axes)


def matrix_transpose(x: DNDarray, /) -> DNDarray:
    """Return `x` with its last two axes swapped. Local. ValueError for fewer than two dimensions.

    >>> import minisplit as ms
    >>> ms.matrix_transpose(ms.zeros((5, 2, 3), split=2)).shape
    (5, 3, 2)
    """
    return swapaxes(of_matrices(x), -2, -1)


def swapaxes(x: DNDarray, /, axis1: int, axis2: int) -> DNDarray:
    """Return `x` with two axes swapped. Local. IndexError for an axis out of range.

    >>> import minisplit as ms
    >>> ms.swapaxes(ms.zeros((2, 3, 4), split=0), 0, 2).split
    2
    """
    order = list(range(as_dndarray(x).ndim))
    first, second = normalise_axis(axis1, x.ndim, "axis1"), normalise_axis(axis2, x.ndim, "axis2")
    order[first], order[second] = second, first
    return permute_dims(x, order)


def moveaxis(x: DNDarray, /, source: Axes, destination: Axes) -> DNDarray:
    """Return `x` with the axes `source` at the places `destination`, the others in their order. Local.

    Raises IndexError for an axis out of range, ValueError for one named twice and for other numbers of sources
    and destinations.

    >>> import minisplit as ms
    >>> ms.moveaxis(ms.zeros((2, 3, 4), split=0), 0, -1).shape
    (3, 4, 2)
    """
    old = normalise_axes(source, as_dndarray(x).ndim, "source")
    new = normalise_axes(destination, x.ndim, "destination")
    if len(old) != len(new):
        raise ValueError(f"moveaxis needs as many sources as destinations, got {source} and {destination}")
    order = [axis for axis in range(x.ndim) if axis not in old]
    for place, axis in sorted(zip(new, old, strict=True)):
        order.insert(place, axis)
    return permute_dims(x, order)


def expand_dims(x: DNDarray, /, axis: Axes = 0) -> DNDarray:
    """Return `x` with an axis of extent 1 at each place that `axis` names in the result. Local.

    The split goes with its axis. Raises IndexError for a place out of range, ValueError for one named twice.

    >>> import minisplit as ms
    >>> y = ms.expand_dims(ms.zeros((2, 3), split=1), (0, -1))
    >>> y.shape, y.split
    ((1, 2, 3, 1), 2)
    """
    return without_aliasing(insert_axes(as_dndarray(x), axis), x)


# At which places axes are added to an array of so many axes, to make it one of 1, 2 or 3.
_ADDED: dict[int, tuple[tuple[int, ...], ...]] = {1: ((0,),), 2: ((0, 1), (0,)), 3: ((0, 1, 2), (0, 2), (2,))}


def with_dimensions(x: Any, ndim: int) -> DNDarray:
    """`x` with axes of extent 1 up to `ndim` dimensions, where NumPy puts them, in the memory of `x`. Local."""
    return x if as_dndarray(x).ndim >= ndim else insert_axes(x, _ADDED[ndim][x.ndim])


def _at_least(ndim: int) -> Callable[[DNDarray], DNDarray]:
    """Make the function that adds axes up to `ndim`."""

    def operation(x: DNDarray, /) -> DNDarray:
        return without_aliasing(with_dimensions(x, ndim), x)

    name = f"atleast_{ndim}d"
    doc = f"""Return `x` with axes of extent 1 up to {ndim} dimensions, where NumPy puts them. Local.

    >>> import minisplit as ms
    >>> ms.{name}(ms.zeros((2, 3, 4), split=1)).split
    1
    """
    return named(operation, name, doc)


atleast_1d = _at_least(1)
atleast_2d = _at_least(2)
atleast_3d = _at_least(3)


def squeeze(x: DNDarray, /, axis: Axes | None = None) -> DNDarray:
    """Return `x` without the axes that `axis` names, or, for None, without all those of extent 1.

    Local, also where the split axis goes: what is on one rank stays there, split along another axis. Only a
    result without axes is collective, and replicated. Raises IndexError for an axis out of range, ValueError for
    one whose extent is not 1.

    >>> import minisplit as ms
    >>> ms.squeeze(ms.zeros((1, 3, 1), split=1)).split
    0
    """
    ones = tuple(place for place, extent in enumerate(as_dndarray(x).shape) if extent == 1)
    axes = ones if axis is None else normalise_axes(axis, x.ndim)
    if not set(axes) <= set(ones):
        raise ValueError(f"squeeze takes away axes of extent 1, got axis {axes} of shape {x.shape}")
    shape = tuple(extent for place, extent in enumerate(x.shape) if place not in axes)
    if x.split in axes or x.split is None:
        return without_aliasing(reshape_to(x, reshape_layout(x.layout, shape)), x)
    split = x.split - sum(place < x.split for place in axes)
    return without_aliasing(reshape_to(x, Layout(shape, split, x.comm.size, x.layout.ragged)), x)


def reshape(x: DNDarray, /, shape: Axes, *, copy: bool | None = None) -> DNDarray:
    """Return the elements of `x`, in row-major order, in another shape, which may have one -1.

    Local where the ranks' parts are whole indices of an axis of the result: where axes before the split one are
    joined or cut, and axes after it, also with it. Else collective: each element that changes its rank is sent
    once, by one exchange.

    - Where an axis of the result has as many elements before it as the split one, the result is split along that,
      and the ranks' bounds go to the next whole index of it: only what lies between goes to a neighbour.
    - Where there is none, or a rank would thus have more than 1.25 times what the fullest had, and more than with
      the default counts, the result is split evenly along its longest axis, or the longest to which one exchange
      leads. There may be none if few axes are as long as there are ranks: then there are two.

    What one rank has all of stays there.

    copy: False shares memory with `x`; on all ranks or none, which takes a small message.

    Raises ValueError for a shape that does not fit, or, with `copy=False`, where elements change their rank or a
    shard cannot be seen in that shape.

    >>> import minisplit as ms
    >>> x = ms.arange(24, split=0).reshape((4, 6))
    >>> x.shape, x.split, ms.reshape(x, (2, -1, 3)).shape
    ((4, 6), 0, (2, 4, 3))
    """
    layout = reshape_layout(as_dndarray(x).layout, infer_shape(shape, x.size))
    if copy is False:
        return view_as(x, layout)
    warn_if_large(elements_crossing(x.layout, layout) * x.larray.itemsize, _REGROUPED, x.comm)
    return without_aliasing(reshape_to(x, layout), x)


def ravel(x: DNDarray, /) -> DNDarray:
    """Return the elements of `x`, in row-major order, as a 1-d array. See `reshape`: for split 0 it is Local.

    >>> import minisplit as ms
    >>> ms.ravel(ms.zeros((2, 3), split=0)).shape
    (6,)
    """
    return reshape(x, -1)


def flatten(x: DNDarray, /) -> DNDarray:
    """Return the elements of `x`, in row-major order, as a 1-d array. See `reshape`: for split 0 it is Local.

    >>> import minisplit as ms
    >>> ms.flatten(ms.zeros((2, 3), split=0)).shape
    (6,)
    """
    return ravel(x)


def flip(x: DNDarray, /, axis: Axes | None = None) -> DNDarray:
    """Return `x` run through backwards along `axis`, an int or several; None stands for all.

    Local where the split axis is not among them; else collective, as `x[::-1]`: each rank's part goes to the
    rank opposite, so that the counts are mirrored. Raises IndexError for an axis out of range, ValueError for
    one named twice.

    >>> import minisplit as ms
    >>> ms.flip(ms.arange(3, split=0)).tolist()
    [2, 1, 0]
    """
    axes = range(as_dndarray(x).ndim) if axis is None else normalise_axes(axis, x.ndim)
    return x[tuple(slice(None, None, -1 if place in axes else None) for place in range(x.ndim))]


def _triangular(function: Callable[..., torch.Tensor], where: str) -> Callable[..., DNDarray]:
    """Make the function that keeps one side of the matrices in the last two axes."""

    def operation(x: DNDarray, /, k: int = 0) -> DNDarray:
        x = of_matrices(x)
        rows, columns = x.layout.box(x.comm.rank)[-2:]
        offset = as_index(k, "k") + rows.start - columns.start
        return DNDarray(function(x.larray, offset), x.layout, x.comm)

    name = function.__name__
    doc = f"""Return `x` with zeros {where} diagonal `k` of the matrices in its last two axes. Local.

    Diagonals count from 0, the main one, upward. The result has the layout of `x`. ValueError for fewer than two
    dimensions.

    >>> import minisplit as ms
    >>> ms.{name}(ms.ones((4, 4), split=0), k=1).split
    0
    """
    return named(operation, name, doc)


tril = _triangular(torch.tril, "above")
triu = _triangular(torch.triu, "below")


def tri(
    n_rows: int,
    n_cols: int | None = None,
    /,
    k: int = 0,
    *,
    dtype: torch.dtype | None = None,
    split: int | None = None,
    device: Device = None,
    comm: Communication | None = None,
) -> DNDarray:
    """Make a matrix with ones on and below diagonal `k`, else zeros. Local. See `tril`.

    >>> import minisplit as ms
    >>> ms.tri(2, 3, split=0).tolist()
    [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]
    """
    shape = (n_rows, n_rows if n_cols is None else n_cols)
    return tril(ones(shape, dtype=dtype, split=split, device=device, comm=comm), k)


def of_matrices(x: Any) -> DNDarray:
    """`x` if it is a DNDarray of at least two dimensions; else TypeError or ValueError."""
    if as_dndarray(x).ndim < 2:
        raise ValueError(f"matrices need at least 2 dimensions, got shape {x.shape}")
    array: DNDarray = x
    return array
