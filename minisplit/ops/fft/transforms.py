"""Discrete Fourier transforms, under NumPy's names.

torch transforms the axes that are not split. For the split axis the array is split along another axis and back,
or it is transformed by the six-step method (`minisplit.ops.fft.six_step`), by a convolution where that has no
factors (`minisplit.ops.fft.bluestein`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Literal

import torch

from minisplit.core import collectives
from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import redistribute
from minisplit.core.error_text import short_repr
from minisplit.core.layout import normalise_axes, normalise_axis
from minisplit.core.performance_warning import warn_of_move
from minisplit.ops.fft.bluestein import transform_by_convolution
from minisplit.ops.fft.layouts import Kind, count_points, plan_stages
from minisplit.ops.fft.six_step import transform_split_axis

Norm = Literal["backward", "ortho", "forward"]
# Numbers of points, or axes. None stands for those of the array.
Ints = Sequence[int] | None
Dims = tuple[int, ...]
# The sign of the exponent: -1 of a transform, 1 of an inverse one.
Sign = Literal[-1, 1]
Torch = Callable[..., torch.Tensor]

# torch's functions along several axes, whose kind is that along the last one.
_TORCH: dict[tuple[Sign, Kind], Torch] = {
    (-1, "complex"): torch.fft.fftn,
    (-1, "half"): torch.fft.rfftn,
    (-1, "real"): torch.fft.hfftn,
    (1, "complex"): torch.fft.ifftn,
    (1, "half"): torch.fft.ihfftn,
    (1, "real"): torch.fft.irfftn,
}


def fft(x: DNDarray, /, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> DNDarray:
    """Transform along an axis: the discrete Fourier transform.

    Parameters
    ----------
    x : DNDarray
        The numbers, real or complex.
    n : int, optional
        The number of points. The axis is truncated, or padded with zeros, to that. By default its extent.
    axis : int, default -1
        The axis.
    norm : {"backward", "ortho", "forward"}, default "backward"
        Which transform is divided by the number of points: the inverse one, both by its root, or this one.

    Returns
    -------
    DNDarray
        The transform, which is complex, with `n` numbers along the axis. Split as `x`, with its counts where the
        extent is the same, else the default ones.

    Raises
    ------
    IndexError
        If the axis is out of range.
    ValueError
        If there is not at least one point, or the norm is another.
    RuntimeError
        If torch refuses the dtype.

    Communication
    -------------
    Local where the split axis is not transformed. Otherwise collective: two exchanges, which move the split to the
    longest other axis and back. If no other axis has an index for every rank, as of 1-d arrays, there are three
    exchanges: the split axis is transformed by the six-step method, if the number of points has two factors that
    are not smaller than the number of ranks. Without such factors, as for a prime number, an array of more than 16
    MiB is transformed by a convolution, in nine exchanges. A smaller one whose other axes have extent 1 is
    gathered by one.

    Notes
    -----
    The six-step method is that of Bailey, "FFTs in external or hierarchical memory" (1990), the convolution that
    of Bluestein, "A linear filtering approach to the computation of discrete Fourier transform" (1970). The
    precision is that of `x`, of bools and integers that of torch's default dtype.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fft.fft(ms.ones(4, split=0)).shape
    (4,)
    """
    return _transform_axis(x, n, axis, norm, -1, "complex")


def ifft(x: DNDarray, /, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> DNDarray:
    """Transform back along an axis: the inverse of `minisplit.fft.fft`.

    Parameters
    ----------
    x : DNDarray
        The transform, real or complex.
    n : int, optional
        The number of points. The axis is truncated, or padded with zeros, to that. By default its extent.
    axis : int, default -1
        The axis.
    norm : {"backward", "ortho", "forward"}, default "backward"
        Which transform is divided by the number of points: this one, both by its root, or the forward one.

    Returns
    -------
    DNDarray
        The numbers, which are complex, `n` along the axis. Split as `x`, with its counts where the extent
        is the same, else the default ones.

    Raises
    ------
    IndexError
        If the axis is out of range.
    ValueError
        If there is not at least one point, or the norm is another.
    RuntimeError
        If torch refuses the dtype.

    Communication
    -------------
    Local where the split axis is not transformed. Otherwise collective: the exchanges of `minisplit.fft.fft`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fft.ifft(ms.ones(4, split=0)).shape
    (4,)
    """
    return _transform_axis(x, n, axis, norm, 1, "complex")


def rfft(x: DNDarray, /, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> DNDarray:
    """Transform real numbers along an axis: the first half of their discrete Fourier transform.

    The other half is its mirror image, conjugated.

    Parameters
    ----------
    x : DNDarray
        The numbers, which must be real.
    n : int, optional
        The number of points. The axis is truncated, or padded with zeros, to that. By default its extent.
    axis : int, default -1
        The axis.
    norm : {"backward", "ortho", "forward"}, default "backward"
        Which transform is divided by the number of points: the inverse one, both by its root, or this one.

    Returns
    -------
    DNDarray
        The half of the transform, which is complex, with `n // 2 + 1` numbers along the axis. Split as `x`, with
        its counts where the extent is the same, else the default ones.

    Raises
    ------
    IndexError
        If the axis is out of range.
    ValueError
        If there is not at least one point, or the norm is another.
    RuntimeError
        If torch refuses the dtype.

    Communication
    -------------
    Local where the split axis is not transformed. Otherwise collective: the exchanges of `minisplit.fft.fft`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fft.rfft(ms.ones(4, split=0)).shape
    (3,)
    """
    return _transform_axis(x, n, axis, norm, -1, "half")


def irfft(x: DNDarray, /, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> DNDarray:
    """Transform back to real numbers along an axis: the inverse of `minisplit.fft.rfft`.

    Parameters
    ----------
    x : DNDarray
        The first half of the transform; `n // 2 + 1` of its numbers are used.
    n : int, optional
        The number of points. The axis is truncated, or padded with zeros, to `n // 2 + 1` numbers.
        By default 2 * (extent - 1).
    axis : int, default -1
        The axis.
    norm : {"backward", "ortho", "forward"}, default "backward"
        Which transform is divided by the number of points: this one, both by its root, or the forward one.

    Returns
    -------
    DNDarray
        The numbers, which are real, `n` along the axis. Split as `x`, with its counts where the extent
        is the same, else the default ones.

    Raises
    ------
    IndexError
        If the axis is out of range.
    ValueError
        If there is not at least one point, or the norm is another.
    RuntimeError
        If torch refuses the dtype.

    Communication
    -------------
    Local where the split axis is not transformed. Otherwise collective: the exchanges of `minisplit.fft.fft`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fft.irfft(ms.ones(4, split=0)).shape
    (6,)
    """
    return _transform_axis(x, n, axis, norm, 1, "real")


def hfft(x: DNDarray, /, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> DNDarray:
    """Transform a Hermitian series along an axis, which gives real numbers.

    A Hermitian series is its own mirror image, conjugated, so that its first half is given.

    Parameters
    ----------
    x : DNDarray
        The first half of the series; `n // 2 + 1` of its numbers are used.
    n : int, optional
        The number of points. The axis is truncated, or padded with zeros, to `n // 2 + 1` numbers.
        By default 2 * (extent - 1).
    axis : int, default -1
        The axis.
    norm : {"backward", "ortho", "forward"}, default "backward"
        Which transform is divided by the number of points: the inverse one, both by its root, or this one.

    Returns
    -------
    DNDarray
        The transform, which is real, with `n` numbers along the axis. Split as `x`, with its counts where the
        extent is the same, else the default ones.

    Raises
    ------
    IndexError
        If the axis is out of range.
    ValueError
        If there is not at least one point, or the norm is another.
    RuntimeError
        If torch refuses the dtype.

    Communication
    -------------
    Local where the split axis is not transformed. Otherwise collective: the exchanges of `minisplit.fft.fft`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fft.hfft(ms.ones(4, split=0)).shape
    (6,)
    """
    return _transform_axis(x, n, axis, norm, -1, "real")


def ihfft(x: DNDarray, /, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> DNDarray:
    """Transform real numbers back to a Hermitian series: the inverse of `minisplit.fft.hfft`.

    Parameters
    ----------
    x : DNDarray
        The numbers, which must be real.
    n : int, optional
        The number of points. The axis is truncated, or padded with zeros, to that. By default its extent.
    axis : int, default -1
        The axis.
    norm : {"backward", "ortho", "forward"}, default "backward"
        Which transform is divided by the number of points: this one, both by its root, or the forward one.

    Returns
    -------
    DNDarray
        The first half of the series, which is complex, with `n // 2 + 1` numbers along the axis. Split as `x`,
        with its counts where the extent is the same, else the default ones.

    Raises
    ------
    IndexError
        If the axis is out of range.
    ValueError
        If there is not at least one point, or the norm is another.
    RuntimeError
        If torch refuses the dtype.

    Communication
    -------------
    Local where the split axis is not transformed. Otherwise collective: the exchanges of `minisplit.fft.fft`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fft.ihfft(ms.ones(4, split=0)).shape
    (3,)
    """
    return _transform_axis(x, n, axis, norm, 1, "half")


def fftn(x: DNDarray, /, s: Ints = None, axes: Ints = None, norm: Norm = "backward") -> DNDarray:
    """Transform along several axes: the discrete Fourier transform.

    Parameters
    ----------
    x : DNDarray
        The numbers, real or complex.
    s : sequence of int, optional
        The number of points along each axis, -1 for the default. The axes are truncated, or padded with zeros,
        to that. By default their extents.
    axes : sequence of int, optional
        The axes. By default all of them, or the last ones where `s` is given.
    norm : {"backward", "ortho", "forward"}, default "backward"
        Which transform is divided by the number of points: the inverse one, both by its root, or this one.

    Returns
    -------
    DNDarray
        The transform, which is complex, with `s` numbers along the axes. Split as `x`, with its counts where the
        extent is the same, else the default ones.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is named twice, there is none, there is not at least one point along each, `s` is of another
        length than `axes`, or the norm is another.
    RuntimeError
        If torch refuses the dtype.

    Communication
    -------------
    Local where the split axis is not transformed. Otherwise collective: the exchanges of `minisplit.fft.fft`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fft.fftn(ms.ones((4, 4), split=0)).shape
    (4, 4)
    """
    return _transform_axes(x, s, axes, norm, -1, "complex", "fftn")


def ifftn(x: DNDarray, /, s: Ints = None, axes: Ints = None, norm: Norm = "backward") -> DNDarray:
    """Transform back along several axes: the inverse of `minisplit.fft.fftn`.

    Parameters
    ----------
    x : DNDarray
        The transform, real or complex.
    s : sequence of int, optional
        The number of points along each axis, -1 for the default. The axes are truncated, or padded with zeros,
        to that. By default their extents.
    axes : sequence of int, optional
        The axes. By default all of them, or the last ones where `s` is given.
    norm : {"backward", "ortho", "forward"}, default "backward"
        Which transform is divided by the number of points: this one, both by its root, or the forward one.

    Returns
    -------
    DNDarray
        The numbers, which are complex, `s` along the axes. Split as `x`, with its counts where the extent
        is the same, else the default ones.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is named twice, there is none, there is not at least one point along each, `s` is of another
        length than `axes`, or the norm is another.
    RuntimeError
        If torch refuses the dtype.

    Communication
    -------------
    Local where the split axis is not transformed. Otherwise collective: the exchanges of `minisplit.fft.fft`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fft.ifftn(ms.ones((4, 4), split=0)).shape
    (4, 4)
    """
    return _transform_axes(x, s, axes, norm, 1, "complex", "ifftn")


def rfftn(x: DNDarray, /, s: Ints = None, axes: Ints = None, norm: Norm = "backward") -> DNDarray:
    """Transform real numbers along several axes: the first half of their Fourier transform.

    The half is that along the last one of the axes. The other half is its mirror image, conjugated.

    Parameters
    ----------
    x : DNDarray
        The numbers, which must be real.
    s : sequence of int, optional
        The number of points along each axis, -1 for the default. The axes are truncated, or padded with zeros,
        to that. By default their extents.
    axes : sequence of int, optional
        The axes. By default all of them, or the last ones where `s` is given.
    norm : {"backward", "ortho", "forward"}, default "backward"
        Which transform is divided by the number of points: the inverse one, both by its root, or this one.

    Returns
    -------
    DNDarray
        The half of the transform, which is complex, with `s[-1] // 2 + 1` numbers along the last axis. Split as
        `x`, with its counts where the extent is the same, else the default ones.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is named twice, there is none, there is not at least one point along each, `s` is of another
        length than `axes`, or the norm is another.
    RuntimeError
        If torch refuses the dtype.

    Communication
    -------------
    Local where the split axis is not transformed. Otherwise collective: the exchanges of `minisplit.fft.fft`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fft.rfftn(ms.ones((4, 4), split=0)).shape
    (4, 3)
    """
    return _transform_axes(x, s, axes, norm, -1, "half", "rfftn")


def irfftn(x: DNDarray, /, s: Ints = None, axes: Ints = None, norm: Norm = "backward") -> DNDarray:
    """Transform back to real numbers along several axes: the inverse of `minisplit.fft.rfftn`.

    Parameters
    ----------
    x : DNDarray
        The first half of the transform; `s[-1] // 2 + 1` of its numbers along the last axis are used.
    s : sequence of int, optional
        The number of points along each axis, -1 for the default. The axes are truncated, or padded with zeros,
        to that, the last one to `s[-1] // 2 + 1` numbers. By default their extents, along the last one
        2 * (extent - 1).
    axes : sequence of int, optional
        The axes. By default all of them, or the last ones where `s` is given.
    norm : {"backward", "ortho", "forward"}, default "backward"
        Which transform is divided by the number of points: this one, both by its root, or the forward one.

    Returns
    -------
    DNDarray
        The numbers, which are real, `s` along the axes. Split as `x`, with its counts where the extent
        is the same, else the default ones.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is named twice, there is none, there is not at least one point along each, `s` is of another
        length than `axes`, or the norm is another.
    RuntimeError
        If torch refuses the dtype.

    Communication
    -------------
    Local where the split axis is not transformed. Otherwise collective: the exchanges of `minisplit.fft.fft`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fft.irfftn(ms.ones((4, 4), split=0)).shape
    (4, 6)
    """
    return _transform_axes(x, s, axes, norm, 1, "real", "irfftn")


def fft2(x: DNDarray, /, s: Ints = None, axes: Sequence[int] = (-2, -1), norm: Norm = "backward") -> DNDarray:
    """Transform along two axes: the discrete Fourier transform.

    Parameters
    ----------
    x : DNDarray
        The numbers, real or complex.
    s : sequence of int, optional
        The number of points along each axis, -1 for the default. The axes are truncated, or padded with zeros,
        to that. By default their extents.
    axes : sequence of int, default (-2, -1)
        The axes.
    norm : {"backward", "ortho", "forward"}, default "backward"
        Which transform is divided by the number of points: the inverse one, both by its root, or this one.

    Returns
    -------
    DNDarray
        The transform, which is complex, with `s` numbers along the axes. Split as `x`, with its counts where the
        extent is the same, else the default ones.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is named twice, there is none, there is not at least one point along each, `s` is of another
        length than `axes`, or the norm is another.
    RuntimeError
        If torch refuses the dtype.

    Communication
    -------------
    Local where the split axis is not transformed. Otherwise collective: the exchanges of `minisplit.fft.fft`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fft.fft2(ms.ones((4, 4), split=0)).shape
    (4, 4)
    """
    return _transform_axes(x, s, axes, norm, -1, "complex", "fft2")


def ifft2(x: DNDarray, /, s: Ints = None, axes: Sequence[int] = (-2, -1), norm: Norm = "backward") -> DNDarray:
    """Transform back along two axes: the inverse of `minisplit.fft.fft2`.

    Parameters
    ----------
    x : DNDarray
        The transform, real or complex.
    s : sequence of int, optional
        The number of points along each axis, -1 for the default. The axes are truncated, or padded with zeros,
        to that. By default their extents.
    axes : sequence of int, default (-2, -1)
        The axes.
    norm : {"backward", "ortho", "forward"}, default "backward"
        Which transform is divided by the number of points: this one, both by its root, or the forward one.

    Returns
    -------
    DNDarray
        The numbers, which are complex, `s` along the axes. Split as `x`, with its counts where the extent
        is the same, else the default ones.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is named twice, there is none, there is not at least one point along each, `s` is of another
        length than `axes`, or the norm is another.
    RuntimeError
        If torch refuses the dtype.

    Communication
    -------------
    Local where the split axis is not transformed. Otherwise collective: the exchanges of `minisplit.fft.fft`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fft.ifft2(ms.ones((4, 4), split=0)).shape
    (4, 4)
    """
    return _transform_axes(x, s, axes, norm, 1, "complex", "ifft2")


def rfft2(x: DNDarray, /, s: Ints = None, axes: Sequence[int] = (-2, -1), norm: Norm = "backward") -> DNDarray:
    """Transform real numbers along two axes: the first half of their Fourier transform.

    The half is that along the last one of the axes. The other half is its mirror image, conjugated.

    Parameters
    ----------
    x : DNDarray
        The numbers, which must be real.
    s : sequence of int, optional
        The number of points along each axis, -1 for the default. The axes are truncated, or padded with zeros,
        to that. By default their extents.
    axes : sequence of int, default (-2, -1)
        The axes.
    norm : {"backward", "ortho", "forward"}, default "backward"
        Which transform is divided by the number of points: the inverse one, both by its root, or this one.

    Returns
    -------
    DNDarray
        The half of the transform, which is complex, with `s[-1] // 2 + 1` numbers along the last axis. Split as
        `x`, with its counts where the extent is the same, else the default ones.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is named twice, there is none, there is not at least one point along each, `s` is of another
        length than `axes`, or the norm is another.
    RuntimeError
        If torch refuses the dtype.

    Communication
    -------------
    Local where the split axis is not transformed. Otherwise collective: the exchanges of `minisplit.fft.fft`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fft.rfft2(ms.ones((4, 4), split=0)).shape
    (4, 3)
    """
    return _transform_axes(x, s, axes, norm, -1, "half", "rfft2")


def irfft2(x: DNDarray, /, s: Ints = None, axes: Sequence[int] = (-2, -1), norm: Norm = "backward") -> DNDarray:
    """Transform back to real numbers along two axes: the inverse of `minisplit.fft.rfft2`.

    Parameters
    ----------
    x : DNDarray
        The first half of the transform; `s[-1] // 2 + 1` of its numbers along the last axis are used.
    s : sequence of int, optional
        The number of points along each axis, -1 for the default. The axes are truncated, or padded with zeros,
        to that, the last one to `s[-1] // 2 + 1` numbers. By default their extents, along the last one
        2 * (extent - 1).
    axes : sequence of int, default (-2, -1)
        The axes.
    norm : {"backward", "ortho", "forward"}, default "backward"
        Which transform is divided by the number of points: this one, both by its root, or the forward one.

    Returns
    -------
    DNDarray
        The numbers, which are real, `s` along the axes. Split as `x`, with its counts where the extent
        is the same, else the default ones.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is named twice, there is none, there is not at least one point along each, `s` is of another
        length than `axes`, or the norm is another.
    RuntimeError
        If torch refuses the dtype.

    Communication
    -------------
    Local where the split axis is not transformed. Otherwise collective: the exchanges of `minisplit.fft.fft`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fft.irfft2(ms.ones((4, 4), split=0)).shape
    (4, 6)
    """
    return _transform_axes(x, s, axes, norm, 1, "real", "irfft2")


def _transform_axis(x: DNDarray, n: int | None, axis: int, norm: Norm, sign: Sign, kind: Kind) -> DNDarray:
    """Transform along one axis."""
    axis = normalise_axis(axis, as_dndarray(x).ndim, "axis")
    return _transform(x, (axis,), count_points((n,), (x.shape[axis],), kind, "n"), norm, sign, kind)


def _transform_axes(x: DNDarray, s: Ints, axes: Ints, norm: Norm, sign: Sign, kind: Kind, name: str) -> DNDarray:
    """Transform along several axes."""
    ndim = as_dndarray(x).ndim
    given = range(ndim)[-len(s) :] if axes is None and s else range(ndim) if axes is None else axes
    places = normalise_axes(given, ndim, "axes")
    if not places or len(places) != len(places if s is None else s):
        raise ValueError(
            f"{name} needs at least one axis, and in s a number of points for each, "
            f"got axes={short_repr(axes)}, s={short_repr(s)}"
        )
    extents = [x.shape[axis] for axis in places]
    return _transform(x, places, count_points(s or [None] * len(places), extents, kind, "s"), norm, sign, kind)


def _transform(x: DNDarray, axes: Dims, numbers: Dims, norm: Norm, sign: Sign, kind: Kind) -> DNDarray:
    """Transform along `axes`, with so many points each. `kind` is that along the last one."""
    if norm not in ("backward", "ortho", "forward"):
        raise ValueError(f"norm must be 'backward', 'ortho' or 'forward', got {short_repr(norm)}")
    comm, shard, layout = x.comm, x.larray, x.layout
    # NumPy takes integers for float64. Like torch, we take them for its default dtype.
    if not (x.dtype.is_floating_point or x.dtype.is_complex):
        shard = shard.to(torch.get_default_dtype())
    _result_dtype(_TORCH[sign, kind], shard.dtype, shard.device)  # raises torch's errors before any message
    points = dict(zip(axes, numbers, strict=True))
    # Each stage begins in a layout of its own, to which the array moves by one exchange if its layout is another.
    most = collectives.RING_BYTES // shard.dtype.to_complex().itemsize
    for stage in plan_stages(layout, axes, numbers, kind, most):
        if layout != stage.before:
            if layout.split == x.split:  # the move back is no surprise
                warn_of_move(shard.itemsize, layout, stage.before, comm)
            shard = redistribute(shard, layout, stage.before, comm)
        layout, stage_kind = stage.after, kind if stage.axes[-1:] == axes[-1:] else "complex"
        if stage.is_convolution:
            n = points[layout.split or 0]
            there, back = (partial(_transform_shard, _TORCH[way, "complex"]) for way in (-1, 1))
            shard = transform_by_convolution(shard, stage, n, stage_kind, sign, (there, back), comm)
            shard = shard * _scale(n, norm, sign)
        elif stage.factors:
            local = partial(_transform_shard, partial(_TORCH[sign, "complex"], norm=norm))
            shard = transform_split_axis(shard, stage, stage_kind, sign, local, comm)
        elif stage.axes:
            sizes = tuple(points[axis] for axis in stage.axes)
            transform = partial(_TORCH[sign, stage_kind], norm=norm)
            shard = _transform_shard(transform, shard, stage.axes, sizes, layout.lshape(comm.rank))
    return DNDarray(shard, layout, comm)


def _scale(points: int, norm: Norm, sign: Sign) -> float:
    """The factor of a transform: see `norm`."""
    return points**-0.5 if norm == "ortho" else 1 / points if (norm == "forward") == (sign < 0) else 1.0


def _transform_shard(
    transform: Torch, shard: torch.Tensor, axes: Dims, sizes: Dims, shape: Dims = ()
) -> torch.Tensor:
    """Transform this rank's shard. `shape` is that of the result; by default it has `sizes` along `axes`."""
    shape = shape or tuple(sizes[axes.index(axis)] if axis in axes else n for axis, n in enumerate(shard.shape))
    if 0 not in shape:
        return transform(shard, sizes, axes)
    # torch refuses to transform an empty tensor.
    dtype = transform(shard.new_zeros(1), (1,), (0,)).dtype
    return (shard if dtype.is_complex else shard.real).to(dtype).reshape(shape)


# Key: torch's function, dtype and device, of which there are few.
@lru_cache(maxsize=128)
def _result_dtype(function: Torch, dtype: torch.dtype, device: torch.device) -> torch.dtype:
    return function(torch.zeros(1, dtype=dtype, device=device), (1,), (0,)).dtype
