"""Discrete Fourier transforms: a row per function."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Literal, Protocol

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import redistribute
from minisplit.core.layout import normalise_axes, normalise_axis
from minisplit.core.performance_warning import warn_of_move
from minisplit.ops.elementwise.apply import Torch, named
from minisplit.ops.fft import six_step
from minisplit.ops.fft.layouts import Kind, points, stages

Norm = Literal["backward", "ortho", "forward"]
Way = Literal["forward", "back"]

# torch's functions along several axes, of which the last one is of that kind.
_TORCH: dict[tuple[Way, Kind], Torch] = {
    ("forward", "complex"): torch.fft.fftn,
    ("forward", "half"): torch.fft.rfftn,
    ("forward", "real"): torch.fft.hfftn,
    ("back", "complex"): torch.fft.ifftn,
    ("back", "half"): torch.fft.ihfftn,
    ("back", "real"): torch.fft.irfftn,
}
_WHAT: dict[Kind, str] = {
    "complex": "Complex numbers, as many as there are points.",
    "half": "Of n points, the first n // 2 + 1 complex numbers{last}: the others are their mirror image.",
    "real": "Real numbers, of the first n // 2 + 1 numbers{last}, by default all: n = 2 * (extent - 1).",
}
_DOC = """The {title}, along {where}.

{what}

{points}: how many points there are; `x` is cut, or filled up with zeros, to that.
norm: "backward" or "forward", the way that has the factor 1 / n, or "ortho": both have its root.

Bools and integers are taken for torch's default dtype; else the precision is that of `x`.

Local where the split axis is not transformed. Else collective: the split goes to the longest other axis and back,
by two exchanges. Where no other has an index for every rank, as of 1-d arrays, the split axis is transformed by
the six-step method, by three exchanges, if its points have two factors that are not smaller than the number of
ranks. A lone axis without them, of a prime number of points, is gathered on every rank.

The result is split as `x`, with its counts where the extent is the same, and else the default ones.

Raises IndexError for an axis out of range, ValueError for {twice}fewer points than one, and another
norm, and torch's error for a dtype that it refuses: all on every rank.

>>> import minisplit as ms
>>> ms.fft.{name}(ms.ones({shape}, split=0)).shape
{shown}
"""


class Along(Protocol):
    """A transform along one axis, as it is called."""

    def __call__(
        self, x: DNDarray, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward"
    ) -> DNDarray: ...


class Over(Protocol):
    """A transform along several axes, as it is called."""

    def __call__(
        self,
        x: DNDarray,
        /,
        *,
        s: Sequence[int] | None = None,
        axes: Sequence[int] | None = None,
        norm: Norm = "backward",
    ) -> DNDarray: ...


def _along(name: str, way: Way, kind: Kind, title: str) -> Along:
    """Make the transform along one axis."""

    def operation(x: DNDarray, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> DNDarray:
        axes = (normalise_axis(axis, as_dndarray(x).ndim, "axis"),)
        return _transformed(x, axes, points((n,), (x.shape[axes[0]],), kind, "n"), way, kind, norm)

    shown = {"complex": "(4,)", "half": "(3,)", "real": "(6,)"}[kind]
    doc = _DOC.format(
        name=name,
        title=title,
        where="an axis",
        what=_WHAT[kind].format(last=""),
        points="`n`",
        twice="",
        shape=4,
        shown=shown,
    )
    return named(operation, name, doc, "minisplit.ops.fft")


def _over(name: str, way: Way, kind: Kind, title: str, default: tuple[int, ...] | None = None) -> Over:
    """Make the transform along several axes; None for all, or the last ones where `s` is given."""

    def operation(
        x: DNDarray,
        /,
        *,
        s: Sequence[int] | None = None,
        axes: Sequence[int] | None = default,
        norm: Norm = "backward",
    ) -> DNDarray:
        ndim = as_dndarray(x).ndim
        given = range(ndim)[-len(s) :] if axes is None and s else range(ndim) if axes is None else axes
        places = normalise_axes(given, ndim, "axes")
        if not places or len(places) != len(places if s is None else s):
            raise ValueError(
                f"{name} needs at least one axis, and in s a number of points for each, got axes={axes}, s={s}"
            )
        extents = [x.shape[axis] for axis in places]
        return _transformed(x, places, points(s or [None] * len(places), extents, kind, "s"), way, kind, norm)

    where = "`axes`" if default is None else "two axes"
    shown = {"complex": "(4, 4)", "half": "(4, 3)", "real": "(4, 6)"}[kind]
    doc = _DOC.format(
        name=name,
        title=title,
        where=where,
        what=_WHAT[kind].format(last=" along the last axis"),
        points="`s`",
        twice="an axis named twice, ",
        shape=(4, 4),
        shown=shown,
    )
    return named(operation, name, doc, "minisplit.ops.fft")


def _transformed(
    x: DNDarray, axes: tuple[int, ...], numbers: tuple[int, ...], way: Way, kind: Kind, norm: Norm
) -> DNDarray:
    """The transform along `axes`, the last of which is of that kind, with so many points."""
    if norm not in ("backward", "ortho", "forward"):
        raise ValueError(f"norm must be 'backward', 'ortho' or 'forward', got {norm!r}")
    comm, shard, layout = x.comm, x.larray, x.layout
    if not (x.dtype.is_floating_point or x.dtype.is_complex):
        shard = shard.to(torch.get_default_dtype())
    _result_dtype(_TORCH[way, kind], shard.dtype, shard.device)  # torch's errors
    number_of = dict(zip(axes, numbers, strict=True))
    for stage in stages(layout, axes, numbers, kind):
        if layout != stage.have:
            if layout.split == x.split:  # else it goes back
                warn_of_move(shard.itemsize, layout, stage.have, comm)
            shard = redistribute(shard, layout, stage.have, comm)
        layout = stage.result
        if stage.factors:
            last: Kind = kind if stage.is_last_kind else "complex"
            plain = partial(_locally, _TORCH[way, "complex"], norm)
            shard = six_step.along(shard, stage, last, -1 if way == "forward" else 1, plain, comm)
        elif stage.axes:
            function = _TORCH[way, kind if stage.is_last_kind else "complex"]
            sizes = tuple(number_of[axis] for axis in stage.axes)
            shard = _locally(function, norm, shard, stage.axes, sizes, layout.lshape(comm.rank))
    return DNDarray(shard, layout, comm)


def _locally(
    function: Torch,
    norm: Norm,
    shard: torch.Tensor,
    axes: tuple[int, ...],
    sizes: tuple[int, ...],
    shape: tuple[int, ...] = (),
) -> torch.Tensor:
    """torch's function; but it fails where there is nothing to transform. `shape` is that of its result."""
    if not shape:
        shape = tuple(sizes[axes.index(axis)] if axis in axes else n for axis, n in enumerate(shard.shape))
    if 0 not in shape:
        return function(shard, sizes, axes, norm)
    dtype = _result_dtype(function, shard.dtype, shard.device)
    return (shard if dtype.is_complex else shard.real).to(dtype).reshape(shape)


@lru_cache
def _result_dtype(function: Torch, dtype: torch.dtype, device: torch.device) -> torch.dtype:
    return function(torch.zeros(1, dtype=dtype, device=device), (1,), (0,)).dtype


fft = _along("fft", "forward", "complex", "Fourier transform")
hfft = _along("hfft", "forward", "real", "Fourier transform of a series that is its own conjugate mirror image")
ifft = _along("ifft", "back", "complex", "inverse of `fft`")
ihfft = _along("ihfft", "back", "half", "inverse of `hfft`")
irfft = _along("irfft", "back", "real", "inverse of `rfft`")
rfft = _along("rfft", "forward", "half", "Fourier transform of real numbers")

fftn = _over("fftn", "forward", "complex", "Fourier transform")
ifftn = _over("ifftn", "back", "complex", "inverse of `fftn`")
irfftn = _over("irfftn", "back", "real", "inverse of `rfftn`")
rfftn = _over("rfftn", "forward", "half", "Fourier transform of real numbers")

fft2 = _over("fft2", "forward", "complex", "Fourier transform", (-2, -1))
ifft2 = _over("ifft2", "back", "complex", "inverse of `fft2`", (-2, -1))
irfft2 = _over("irfft2", "back", "real", "inverse of `rfft2`", (-2, -1))
rfft2 = _over("rfft2", "forward", "half", "Fourier transform of real numbers", (-2, -1))
