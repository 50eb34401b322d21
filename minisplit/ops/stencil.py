"""Stencils: operations that make an element from its neighbours along an axis. Ranks exchange halos for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import conv1d, conv2d, pad

from minisplit.core import collectives
from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import all_reduce_gradient, halo_exchange
from minisplit.core.error_text import short_repr
from minisplit.core.factories import full
from minisplit.core.layout import Layout, as_count, as_index, normalise_axes, normalise_axis, operand_layout
from minisplit.core.pytorch.dtypes import INTEGERS, as_number
from minisplit.ops.elementwise.apply import check_one_communicator, whole_operand
from minisplit.ops.elementwise.arithmetic import remainder
from minisplit.ops.elementwise.comparison import equal, greater, less, logical_and
from minisplit.ops.elementwise.selection import where
from minisplit.ops.fft.layouts import padded_factors
from minisplit.ops.fft.transforms import fft, ifft, irfft, rfft
from minisplit.ops.reductions.cumulative import cumulative_sum
from minisplit.ops.shape.broadcast import broadcast_to
from minisplit.ops.shape.join import concat
from minisplit.ops.shape.layouts import with_extent
from minisplit.ops.shape.reshape import ravel
from minisplit.ops.sorting.search import dtype_beside

Mode = Literal["full", "same", "valid"]
# The dtypes in which long arrays are convolved by Fourier transforms. Sums of products of integers are exact.
_TRANSFORMED = (torch.float32, torch.float64, torch.complex64, torch.complex128)


def diff(
    x: DNDarray,
    /,
    n: int = 1,
    axis: int = -1,
    prepend: DNDarray | complex | None = None,
    append: DNDarray | complex | None = None,
) -> DNDarray:
    """Return the differences of neighbours along an axis.

    Parameters
    ----------
    x : DNDarray
        The array. Neighbours that are bools differ by whether they are unequal.
    n : int, default 1
        How often to take differences. Each time the axis is shorter by 1.
    axis : int, default -1
        The axis.
    prepend : DNDarray or number, optional
        Elements that are first joined to `x` before it, as by `concat`. A number is an index of the axis full of
        it.
    append : DNDarray or number, optional
        Elements that are first joined to `x` after it.

    Returns
    -------
    DNDarray
        The differences. Split as `x`, with its counts, without the last `n` indices of the whole array.

    Raises
    ------
    IndexError
        If the axis is out of range.
    ValueError
        If `n` is negative, or `prepend` or `append` does not fit.

    Communication
    -------------
    Local unless `axis` is the split axis. Then collective: one exchange, in which each rank gets the `n` indices
    after its own. With `prepend` or `append` the exchange of `concat` before it.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.diff(ms.array([1, 4, 9, 16], split=0)).tolist()
    [3, 5, 7]
    """
    axis = normalise_axis(axis, as_dndarray(x).ndim, "axis")
    n = as_count(n, "n")
    if prepend is not None or append is not None:
        ends = [_end(part, x, axis) for part in (prepend, append)]
        x = concat([part for part in (ends[0], x, ends[1]) if part is not None], axis=axis)
    return _apply_stencil(lambda rows, n: torch.diff(rows, n, axis), x, axis, min(n, x.shape[axis]))


def _end(end: Any, x: DNDarray, axis: int) -> DNDarray | None:
    """Return what `diff` is to join to `x`, a number as an index of the axis that is full of it."""
    if end is None or isinstance(end, DNDarray):
        return end
    number = as_number(end, "prepend and append")
    shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    split = None if x.split == axis else x.split
    made = full(shape, number, dtype=dtype_beside(x.dtype, number), device=x.device, comm=x.comm, split=split)
    return made if split is None else made.redistribute(x.counts or ())


def gradient(
    f: DNDarray, /, *varargs: Any, axis: int | tuple[int, ...] | None = None, edge_order: int = 1
) -> DNDarray | tuple[DNDarray, ...]:
    """Return the slopes of `f` along axes, by differences of neighbours. It is `numpy.gradient`.

    Parameters
    ----------
    f : DNDarray
        The values. Any shape, split and counts.
    *varargs : number, or sequence of float or DNDarray
        The distance of neighbours, by default 1, or the coordinates along the axis; one for all axes, or one for
        each.
    axis : int or tuple of int, optional
        The axes. By default all of them.
    edge_order : {1, 2}, default 1
        The order of the differences at both ends. Between them it is 2.

    Returns
    -------
    DNDarray or tuple of DNDarray
        The slopes, in the dtype of `f`, or float64 for integers, and in the layout of `f`. One array for one axis,
        else a tuple.

    Raises
    ------
    IndexError
        If an axis is out of range.
    TypeError
        If `f` is not a DNDarray, or the spacings are neither one nor as many as axes.
    ValueError
        If an axis is too short, the coordinates do not fit, or for another order.

    Communication
    -------------
    Local along axes that are not split. Along the split axis collective: one exchange of the halos, and one of
    those of split coordinates, which first move to the counts of `f` if theirs are others. Along another axis than
    the split one split coordinates are gathered: one exchange.

    See Also
    --------
    diff : The differences themselves.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.gradient(ms.array([0.0, 1.0, 4.0, 9.0], split=0), 2.0).tolist()
    [0.5, 1.0, 2.0, 2.5]
    """
    f = as_dndarray(f, "f")
    if not (f.dtype.is_floating_point or f.dtype.is_complex):
        f = f.astype(torch.float64)
    axes = tuple(range(f.ndim)) if axis is None else normalise_axes(axis, f.ndim)
    if as_index(edge_order, "edge_order") not in (1, 2):
        raise ValueError(f"edge_order must be 1 or 2, got {short_repr(edge_order)}")
    spacings = list(varargs) or [1.0]
    if len(spacings) == 1 and np.ndim(spacings[0]) == 0:
        spacings *= len(axes)
    if len(spacings) != len(axes):
        raise TypeError(f"gradient takes one spacing, or one for each of {len(axes)} axes, got {len(varargs)}")
    for each in axes:
        if f.shape[each] <= edge_order:
            raise ValueError(
                f"gradient needs {edge_order + 1} indices or more for edge_order {edge_order}, but axis {each} of "
                f"{f.shape} has {f.shape[each]}"
            )
    found = [_slopes(f, each, spacing, edge_order) for each, spacing in zip(axes, spacings, strict=True)]
    return found[0] if len(found) == 1 else tuple(found)


def ediff1d(
    x: DNDarray, /, to_end: DNDarray | complex | None = None, to_begin: DNDarray | complex | None = None
) -> DNDarray:
    """Return the differences of neighbours among all elements, in row-major order.

    Parameters
    ----------
    x : DNDarray
        The array. Any shape, split and counts.
    to_end : DNDarray or number, optional
        What to put behind the differences.
    to_begin : DNDarray or number, optional
        What to put before them.

    Returns
    -------
    DNDarray
        The differences, 1-d, in the dtype of `x`. Split as `diff` of the flattened array, or as the result of
        `concat` if elements are added.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray.

    Communication
    -------------
    Local if `x` is replicated. Otherwise collective, as `ravel`, `diff`, and `concat` where something is added.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.ediff1d(ms.array([1, 4, 9], split=0), to_begin=0).tolist()
    [0, 3, 5]
    """
    differences = diff(ravel(as_dndarray(x)))
    parts = [
        each.astype(x.dtype).ravel() if isinstance(each, DNDarray) else full(1, each, dtype=x.dtype, comm=x.comm)
        for each in (to_begin, to_end)
        if each is not None
    ]
    if not parts:
        return differences
    return concat([*parts[: to_begin is not None], differences, *parts[to_begin is not None :]])


def unwrap(
    p: DNDarray, /, discont: float | None = None, axis: int = -1, *, period: float = 2 * math.pi
) -> DNDarray:
    """Add multiples of a period to angles along an axis, so that neighbours are no more than half of it apart.

    Parameters
    ----------
    p : DNDarray
        The angles. Any shape, split and counts.
    discont : float, optional
        From which distance of neighbours on a multiple is added. By default, and at least, half the period.
    axis : int, default -1
        The axis.
    period : float, default 2 * pi
        The period.

    Returns
    -------
    DNDarray
        The angles, in the dtype of `p`, or float64 for integers unless the period is an int. Split as `p`.

    Raises
    ------
    IndexError
        If the axis is out of range.
    TypeError
        If `p` is not a DNDarray, or its elements are complex.

    Communication
    -------------
    Local along axes that are not split. Along the split axis collective: one exchange of the halos, one scan, and
    one exchange that moves an index of each rank.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.unwrap(ms.array([0, 1, 3, 0, 2], split=0), period=4).tolist()
    [0, 1, 3, 4, 6]
    """
    axis = normalise_axis(axis, as_dndarray(p, "p").ndim, "axis")
    period = as_number(period, "period")
    if p.dtype.is_complex:
        raise TypeError(f"unwrap needs real numbers, got {p.dtype}")
    is_whole = p.dtype in INTEGERS and isinstance(period, int)
    x = p if is_whole or p.dtype.is_floating_point else p.astype(torch.float64)
    if not p.shape[axis]:
        return x.astype(x.dtype)
    half, rest = divmod(period, 2) if is_whole else (period / 2, 0)
    steps = diff(x, axis=axis)
    wrapped = remainder(steps + half, period) - half
    if not rest:
        # A step of half a period has two remainders: a positive one stays positive.
        wrapped = where(logical_and(equal(wrapped, -half), greater(steps, 0)), half, wrapped)
    limit = max(period / 2 if discont is None else discont, 0)
    corrections = where(less(abs(steps), limit), 0, wrapped - steps)
    return x + cumulative_sum(corrections, axis, dtype=x.dtype, include_initial=True)


def trapezoid(y: DNDarray, /, x: DNDarray | None = None, dx: float = 1.0, axis: int = -1) -> DNDarray:
    """Integrate `y` along an axis by the trapezoidal rule.

    Parameters
    ----------
    y : DNDarray
        The values of the function.
    x : DNDarray, optional
        The points at which it has them, in the shape of `y`, or 1-d for all. By default they are `dx` apart.
    dx : float, default 1.0
        The distance of the points.
    axis : int, default -1
        The axis.

    Returns
    -------
    DNDarray
        The integrals: the shape of `y` without the axis. Split as `y` if its split axis stays, otherwise
        replicated.

    Raises
    ------
    IndexError
        If the axis is out of range.
    ValueError
        If the points do not fit.

    Communication
    -------------
    Local without points, if `axis` is not the split axis. Along the split axis collective: one exchange with
    neighbours and one allreduce. Split points take one more exchange with neighbours, and one that brings them to
    the layout of `y` if theirs is another.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.trapezoid(ms.array([0.0, 1.0, 4.0], split=0), dx=2.0).item()
    6.0
    """
    axis = normalise_axis(axis, as_dndarray(y, "y").ndim, "axis")
    if x is not None and as_dndarray(x).shape not in (y.shape, y.shape[axis : axis + 1]):
        raise ValueError(f"x must have shape {y.shape}, as y, or {y.shape[axis : axis + 1]}, got shape {x.shape}")

    if not (y.dtype.is_floating_point or y.dtype.is_complex):
        y = y.astype(torch.float64)  # two of uint8 may have a sum that is none

    def mean_of_neighbours(rows: torch.Tensor, n: int) -> torch.Tensor:
        length = rows.shape[axis] - n
        return (rows.narrow(axis, n, length) + rows.narrow(axis, 0, length)) / 2

    heights = _apply_stencil(mean_of_neighbours, y, axis, min(1, y.shape[axis]))
    if x is None:
        return (heights * dx).sum(axis)
    widths = diff(x, axis=axis if x.ndim == y.ndim else 0)
    if x.ndim < y.ndim:
        # Points for all get axes of extent 1 behind theirs, so that they broadcast.
        widths = widths[(slice(None), *(None,) * (y.ndim - 1 - axis))]
    return (heights * widths).sum(axis)


def convolve(a: DNDarray, v: DNDarray, /, mode: Mode = "full") -> DNDarray:
    """Return the convolution of two arrays along their last axes.

    Its element k is the sum over j of `a[k - j] * v[j]`.

    Parameters
    ----------
    a : DNDarray
        One of the arrays, 1-d, or several such with batch axes before their own.
    v : DNDarray
        The other one, or one for each.
    mode : {"full", "same", "valid"}, default "full"
        Where: "full" wherever they overlap, "same" the middle of that, as long as the longer one, "valid" where
        all of the shorter one overlaps.

    Returns
    -------
    DNDarray
        The convolution; of bools whether any product is true. Split as the array that is longer along the last
        axis, with its counts, except that in mode "full" the last rank has the additional elements, or if they are
        many (see Notes) the counts are the default ones, and in mode "valid" the last elements are missing.

    Raises
    ------
    ValueError
        If an array has no axis, or other batch axes, or no elements, for another mode, or if they are on different
        communicators.
    RuntimeError
        If torch has no convolution of their dtype.

    Communication
    -------------
    Local if both are replicated. Otherwise collective: one exchange of the halos if the longer array is split
    along the last axis, and one exchange of the shorter array if it is split. If both are, and the shorter one has
    more than 16 MiB, it is not gathered: the messages of three Fourier transforms, and one exchange.

    See Also
    --------
    convolve2d : The same in two axes.

    Notes
    -----
    Such long arrays of floating point numbers are convolved by Fourier transforms, as by
    `scipy.signal.fftconvolve`: the error of an element is one of rounding beside the greatest ones, not beside
    itself, and NaN or an infinity in one makes NaN of all.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.convolve(ms.array([1.0, 2.0, 3.0], split=0), ms.array([1.0, 1.0])).tolist()
    [1.0, 3.0, 5.0, 3.0]
    """
    _check_convolution(a, v, 1, mode)
    long, short = (a, v) if a.shape[-1] >= v.shape[-1] else (v, a)
    is_large = short.split is not None and long.split is not None and short.nbytes > collectives.RING_BYTES
    if is_large and a.ndim == v.ndim == 1 and torch.promote_types(a.dtype, v.dtype) in _TRANSFORMED:
        return _convolve_by_transforms(long, short, mode)
    return _convolve(long, short, 1, mode)


def convolve2d(a: DNDarray, v: DNDarray, /, mode: Mode = "full") -> DNDarray:
    """Return the convolution of matrices in their last two axes, such as an image and a kernel.

    Its element (k, l) is the sum over i and j of `a[k - i, l - j] * v[i, j]`. It is `scipy.signal.convolve2d`.

    Parameters
    ----------
    a : DNDarray
        The image, or several with batch axes before its own.
    v : DNDarray
        The kernel, or one for each image.
    mode : {"full", "same", "valid"}, default "full"
        Where: "full" wherever they overlap, "same" the middle of that, of the shape of `a`, "valid" where all of
        `v` overlaps.

    Returns
    -------
    DNDarray
        The convolution; of bools whether any product is true. Split as `a`, with its counts, except that in mode
        "full" the last rank has the additional elements, and in mode "valid" the last elements are missing.

    Raises
    ------
    ValueError
        If an array has fewer than two axes, or other batch axes, or no elements, for another mode, if `v` is
        larger than `a` in mode "valid", or if they are on different communicators.
    RuntimeError
        If torch has no convolution of their dtype.

    Communication
    -------------
    Local if both are replicated, or `a` is split along a batch axis and `v` is replicated. Otherwise collective:
    one exchange of the halos if `a` is split along one of its two last axes, and one exchange of `v` if it is
    split.

    See Also
    --------
    convolve : The same along one axis.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.convolve2d(ms.eye(3, split=0), ms.ones((2, 2)), "valid").tolist()
    [[2.0, 1.0], [1.0, 2.0]]
    """
    _check_convolution(a, v, 2, mode)
    if mode == "valid" and any(m > n for n, m in zip(a.shape[-2:], v.shape[-2:], strict=True)):
        raise ValueError(f"mode 'valid' needs an a that is not smaller than v, got shapes {a.shape} and {v.shape}")
    return _convolve(a, v, 2, mode)


def _check_convolution(a: DNDarray, v: DNDarray, ndim: int, mode: str) -> None:
    check_one_communicator([as_dndarray(a, "a"), as_dndarray(v, "v")])
    batches = {x.shape[:-ndim] for x in (a, v)} - {()}
    if min(a.ndim, v.ndim) < ndim or 0 in (*a.shape[-ndim:], *v.shape[-ndim:]) or len(batches) > 1:
        raise ValueError(
            f"a convolution in {ndim} axes needs arrays that have as many, and elements in them, and before these "
            f"the same axes or none, got shapes {a.shape} and {v.shape}"
        )
    if mode not in ("full", "same", "valid"):
        raise ValueError(f"mode must be 'full', 'same' or 'valid', got {short_repr(mode)}")


def _convolve_by_transforms(x: DNDarray, kernel: DNDarray, mode: Mode) -> DNDarray:
    """Return the convolution of long split arrays, of which no rank has one whole. "same" is as long as `x`."""
    dtype, reach = torch.promote_types(x.dtype, kernel.dtype), kernel.size - 1
    first = {"full": 0, "same": reach // 2, "valid": reach}[mode]
    length = x.size + {"full": reach, "same": 0, "valid": -reach}[mode]
    n = math.prod(padded_factors(x.size + reach, x.comm.size))
    forward, backward = (fft, ifft) if dtype.is_complex else (rfft, irfft)
    product = forward(x.astype(dtype, copy=False), n) * forward(kernel.astype(dtype, copy=False), n)
    bounds = x.layout.offsets()[:-1].clip(max=length)
    # Those that mode "full" adds would make the shard of the last rank as large as the whole array.
    counts = None if mode == "full" else np.diff(bounds, append=length).tolist()
    return backward(product, n)[first : first + length].to_layout(with_extent(x.layout, 0, length, counts))


def _convolve(x: DNDarray, kernel: DNDarray, ndim: int, mode: Mode) -> DNDarray:
    """Return the convolution of `x` in its last axes, split as it. "same" is of its shape."""
    comm, has_own_kernels = x.comm, kernel.ndim > ndim
    if has_own_kernels and x.ndim == ndim:
        x = broadcast_to(x, (*kernel.shape[:-ndim], *x.shape))
    dtype = result_dtype = torch.promote_types(x.dtype, kernel.dtype)
    if dtype is torch.bool:
        dtype = torch.float32  # in which a sum of ones is never 0. torch has no products of bools
    function = conv1d if ndim == 1 else conv2d
    one = torch.ones((1,) * (ndim + 2), dtype=dtype, device=x.device)
    function(one, one)  # raises where torch refuses the dtype, on all ranks and before any message
    batch_ndim = x.ndim - ndim
    is_split_batch = x.split is not None and x.split < batch_ndim
    if has_own_kernels and is_split_batch:  # each rank needs the kernels of its own
        weights = kernel._align(
            operand_layout(kernel.layout, Layout(kernel.shape, x.split, comm.size, x.counts))
        ).larray
    else:
        weights = kernel._align(kernel.layout.with_split(None)).larray
        weights = weights if x.split is None else all_reduce_gradient(weights, comm)
    rows, layout, paddings, extents = x.larray, x.layout, [], []
    for axis in range(batch_ndim, x.ndim):
        extent, reach = x.shape[axis], kernel.shape[axis - x.ndim] - 1
        # Where the result begins in that of mode "full", and its length.
        first = {"full": 0, "same": reach // 2, "valid": reach}[mode]
        length = extent + {"full": reach, "same": 0, "valid": -reach}[mode]
        start, stop = 0, length
        if axis == x.split:
            bounds = x.layout.offsets()[:-1].clip(max=length)
            layout = with_extent(layout, axis, length, np.diff(bounds, append=length).tolist())
            ends = layout.offsets()
            rows = halo_exchange(rows, x.layout, _halo(ends[:-1], ends[1:], first, reach, extent)[:2].T, comm)
            start, stop = layout.span(comm.rank)
        else:
            layout = with_extent(layout, axis, length)
        before, after = _halo(start, stop, first, reach, extent)[2:].tolist()
        # A rank without a part of the result computes one too: its backward pass must run, since it is collective.
        paddings += [after if start < stop else reach + 1, before]
        extents.append(stop - start)
    rows = pad(rows.to(dtype), paddings[::-1])
    # torch's convolution is a correlation: its kernel is not reversed.
    weights = weights.to(dtype).flip(tuple(range(-ndim, 0)))
    number = math.prod(rows.shape[:batch_ndim])
    if not number:
        result = (rows.sum() + weights.sum()).expand(layout.lshape(comm.rank))
        return DNDarray(result.to(result_dtype), layout, comm)
    shape = rows.shape[batch_ndim:]
    if has_own_kernels:
        kernels = weights.reshape(number, 1, *weights.shape[-ndim:])
        result = function(rows.reshape(1, number, *shape), kernels, groups=number)
    else:
        result = function(rows.reshape(number, 1, *shape), weights[None, None])
    result = result.reshape(*rows.shape[:batch_ndim], *result.shape[2:])
    for place, extent in enumerate(extents):
        result = result.narrow(batch_ndim + place, 0, extent)
    return DNDarray(result.to(result_dtype).contiguous(), layout, comm)


def _slopes(f: DNDarray, axis: int, spacing: Any, edge_order: int) -> DNDarray:
    """The slopes along one axis. Collective along the split axis."""
    extent, rows, start, stop, low = f.shape[axis], f.larray, 0, f.shape[axis], 0
    is_cut = isinstance(spacing, DNDarray) and spacing.split is not None and f.split == axis
    whole = None if is_cut else whole_operand(spacing, "a spacing of gradient", f, f.layout, f.dtype)
    shape = tuple(spacing.shape if whole is None else whole.shape)
    if shape not in ((), (extent,)):
        raise ValueError(f"coordinates along axis {axis} must have shape {(extent,)}, got {shape}")
    spans = np.empty((0, 2), dtype=np.int64)
    if f.split == axis:
        spans = _gradient_spans(f.layout, edge_order)
        rows = halo_exchange(rows, f.layout, spans, f.comm)
        (start, stop), low = f.layout.span(f.comm.rank), int(spans[f.comm.rank, 0])
    if whole is None:  # cut as the values are
        check_one_communicator([f, spacing])
        near = spacing._align(Layout((extent,), 0, f.comm.size, f.layout.ragged))
        coordinates = halo_exchange(near.larray.to(f.device, f.dtype), near.layout, spans, f.comm)
    else:
        coordinates = whole[low : low + rows.shape[axis]] if shape else whole
    if rows.numel():
        distances: Any = (coordinates if shape else 1.0,)
        rows = torch.gradient(rows, spacing=distances, dim=axis, edge_order=edge_order)[0]
    elif shape:
        # torch refuses it. Of any function that derivatives of all orders depend on: on a rank without elements
        # too, the gradient of the coordinates is a collective call.
        rows = rows * coordinates.sin().sum()
    if not shape:
        rows = rows / coordinates
    return DNDarray(rows.narrow(axis, start - low, stop - start), f.layout, f.comm)


def _gradient_spans(layout: Layout, edge_order: int) -> NDArray[np.int64]:
    """The spans of the split axis that the ranks need for the slopes at their indices: a row for each rank."""
    bounds, extent = layout.offsets(), layout.extent
    start, stop = bounds[:-1], bounds[1:]
    low, high = (start - 1).clip(0), (stop + 1).clip(max=extent)
    # The one-sided differences at the ends of the axis may need more.
    low = np.where(stop == extent, np.minimum(low, extent - edge_order - 1), low)
    high = np.where(start == 0, np.maximum(high, edge_order + 1), high)
    return np.where(start == stop, (start, stop), (low, high)).T


def _halo(start: Any, stop: Any, first: int, reach: int, extent: int) -> NDArray[np.int64]:
    """The span of the longer array that elements `start` to `stop` of a convolution need, and zeros around it.

    Element k of the result, which is element k + `first` in mode "full", is made from that element and the `reach`
    ones before it. Of arrays of starts and stops it returns four arrays.
    """
    low, high = start + first - reach, stop + first
    found = (np.maximum(low, 0), np.minimum(high, extent), np.maximum(-low, 0), np.maximum(high - extent, 0))
    return np.where(start == stop, 0, found)


def _apply_stencil(
    function: Callable[[torch.Tensor, int], torch.Tensor], x: DNDarray, axis: int, n: int
) -> DNDarray:
    """Apply a function that makes an element of each index along an axis and the `n` indices after it."""
    layout, comm, extent = x.layout, x.comm, x.shape[axis] - n
    if layout.split != axis:
        return DNDarray(function(x.larray, n), with_extent(layout, axis, extent), comm)
    # The result is shorter at its end. So all ranks but the last ones keep their counts, and most their rows.
    bounds = layout.offsets().clip(max=extent)
    counts = np.diff(bounds).tolist()
    stops = np.where(counts, bounds[1:] + n, bounds[:-1])
    rows = halo_exchange(x.larray, layout, np.stack([bounds[:-1], stops], 1), comm)
    result = with_extent(layout, axis, extent, counts)
    # A rank without a part of the result has no rows, of which torch takes no differences.
    return DNDarray(function(rows, n if counts[comm.rank] else 0), result, comm)
