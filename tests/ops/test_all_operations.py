"""Every operation, in any layouts: the values, dtypes and shapes of an oracle, and what all of them promise.

The oracle is array-api-strict for what the Python Array API standard has, and NumPy for the rest. Each row of the
table is written once, for both. What is special about an operation has tests of its own.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import array_api_strict
import numpy as np
import pytest
import torch
from layouts import KINDS, layout_of
from other_device import DEVICE, DeviceTensor, OtherDevice

import minisplit as ms
from minisplit.core.collectives import redistribute
from minisplit.core.communication.agreement import agreement

rng = np.random.default_rng(0)
ARRAYS: dict[str, Any] = {
    "x": rng.standard_normal((5, 4)),
    "y": rng.standard_normal((5, 4)),
    "row": rng.standard_normal(4),
    "u": rng.uniform(-0.9, 0.9, (5, 4)),
    "p": rng.uniform(1.1, 3.0, (5, 4)),
    "i": rng.integers(-6, 7, (5, 4)),
    "j": rng.integers(1, 5, (5, 4)),
    "b": rng.random((5, 4)) < 0.5,
    "c": rng.random((5, 4)) < 0.5,
    "z": rng.standard_normal((5, 4)) + 1j * rng.standard_normal((5, 4)),
    "n": np.where(rng.random((5, 4)) < 0.3, np.nan, rng.standard_normal((5, 4))),
    "t": rng.standard_normal((3, 2, 4)),
    "one": rng.standard_normal((5, 1)),
    "v": rng.standard_normal(9),
    "w": rng.standard_normal(9),
    "ordered": np.sort(rng.standard_normal(9)),
    "places": rng.integers(0, 5, 6),
    "along": rng.integers(0, 5, (3, 4)),
    "m": rng.standard_normal((4, 4)) + 4 * np.eye(4),
    "stack": rng.standard_normal((3, 4, 4)) + 4 * np.eye(4),
    "spd": np.eye(4) * 5 + 0.1,
    "three": rng.standard_normal((5, 3)),
    "tall": rng.standard_normal((9, 3)),
}
Call = Callable[[Any, Any], Any]

_UNARY = {
    "u": "acos asin atan atanh cos cosh exp expm1 log1p sin sinh tan tanh abs ceil floor round trunc sign square "
    "negative positive signbit",
    "p": "acosh asinh log log2 log10 sqrt reciprocal",
    "n": "isfinite isinf isnan",
    "b": "logical_not bitwise_invert",
    "z": "conj imag real",
}
_BINARY = {
    "x y": "add subtract multiply divide atan2 copysign equal not_equal greater greater_equal less less_equal "
    "hypot logaddexp maximum minimum nextafter",
    "p y": "pow remainder floor_divide",
    "i j": "bitwise_and bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift",
    "b c": "logical_and logical_or logical_xor",
}
_REDUCTIONS = "all any count_nonzero max mean min prod std sum var"


def _one(name: str, key: str) -> Call:
    return lambda xp, a: getattr(xp, name)(getattr(a, key))


def _two(name: str, keys: str) -> Call:
    first, second = keys.split()
    return lambda xp, a: getattr(xp, name)(getattr(a, first), getattr(a, second))


def _reduced(name: str) -> Call:
    def call(xp: Any, a: Any) -> Any:
        function = getattr(xp, name)
        return [
            function(a.x),
            *[function(a.x, axis=axis, keepdims=keep) for axis in (0, 1) for keep in (True, False)],
        ]

    return call


# What the standard has.
STANDARD: dict[str, Call] = {
    **{name: _one(name, key) for key, names in _UNARY.items() for name in names.split()},
    **{name: _two(name, keys) for keys, names in _BINARY.items() for name in names.split()},
    **{name: _reduced(name) for name in _REDUCTIONS.split()},
    "argmax": lambda xp, a: [xp.argmax(a.x), xp.argmax(a.x, axis=0), xp.argmax(a.x, axis=1, keepdims=True)],
    "argmin": lambda xp, a: [xp.argmin(a.x), xp.argmin(a.x, axis=0), xp.argmin(a.x, axis=1, keepdims=True)],
    "argsort": lambda xp, a: [xp.argsort(a.i, axis=0), xp.argsort(a.i, axis=1, descending=True), xp.argsort(a.v)],
    "astype": lambda xp, a: xp.astype(a.i, xp.float32),
    "broadcast_arrays": lambda xp, a: list(xp.broadcast_arrays(a.x, a.row, a.one)),
    "broadcast_to": lambda xp, a: [xp.broadcast_to(a.one, (2, 5, 4)), xp.broadcast_to(a.row, (5, 4))],
    "clip": lambda xp, a: [xp.clip(a.x, -0.5, 0.5), xp.clip(a.x, min=a.u), xp.clip(a.x, max=a.row)],
    "concat": lambda xp, a: [xp.concat([a.x, a.y, a.x], axis=0), xp.concat([a.x, a.one], axis=1)],
    "cumulative_prod": lambda xp, a: [
        xp.cumulative_prod(a.x, axis=0),
        xp.cumulative_prod(a.v, include_initial=True),
    ],
    "cumulative_sum": lambda xp, a: [xp.cumulative_sum(a.x, axis=0), xp.cumulative_sum(a.v, include_initial=True)],
    "diff": lambda xp, a: [xp.diff(a.x, axis=0), xp.diff(a.x, axis=1, n=2), xp.diff(a.v, n=3)],
    "expand_dims": lambda xp, a: [xp.expand_dims(a.x, axis=0), xp.expand_dims(a.x, axis=-1)],
    "flip": lambda xp, a: [xp.flip(a.x), xp.flip(a.x, axis=0), xp.flip(a.x, axis=1)],
    "full_like": lambda xp, a: xp.full_like(a.x, 3),
    "isin": lambda xp, a: xp.isin(a.i, a.places),
    "matmul": lambda xp, a: [xp.matmul(a.x, a.m), a.row @ a.m, a.m @ a.row, xp.matmul(a.stack, a.m)],
    "matrix_transpose": lambda xp, a: [xp.matrix_transpose(a.x), xp.matrix_transpose(a.t)],
    "meshgrid": lambda xp, a: [*xp.meshgrid(a.v, a.row), *xp.meshgrid(a.v, a.row, indexing="ij")],
    "moveaxis": lambda xp, a: xp.moveaxis(a.t, (0, 1), (1, 2)),
    "nonzero": lambda xp, a: list(xp.nonzero(a.i)),
    "ones_like": lambda xp, a: xp.ones_like(a.x),
    "permute_dims": lambda xp, a: xp.permute_dims(a.t, (2, 0, 1)),
    "repeat": lambda xp, a: [xp.repeat(a.x, 2, axis=0), xp.repeat(a.x, 3, axis=1)],
    "reshape": lambda xp, a: [xp.reshape(a.x, (4, 5)), xp.reshape(a.t, (-1,)), xp.reshape(a.x, (2, 2, 5))],
    "roll": lambda xp, a: [xp.roll(a.x, 2), xp.roll(a.x, -1, axis=0), xp.roll(a.x, (1, 2), axis=(0, 1))],
    "searchsorted": lambda xp, a: [xp.searchsorted(a.ordered, a.w), xp.searchsorted(a.ordered, a.w, side="right")],
    "sort": lambda xp, a: [xp.sort(a.x, axis=0), xp.sort(a.x, axis=1, descending=True), xp.sort(a.v)],
    "squeeze": lambda xp, a: xp.squeeze(a.one, axis=1),
    "stack": lambda xp, a: [xp.stack([a.x, a.y]), xp.stack([a.x, a.y], axis=-1)],
    "take": lambda xp, a: [xp.take(a.x, a.places, axis=0), xp.take(a.v, a.places)],
    "take_along_axis": lambda xp, a: xp.take_along_axis(a.x, a.along, axis=0),
    "tensordot": lambda xp, a: [xp.tensordot(a.x, a.y), xp.tensordot(a.x, a.m, axes=1)],
    "tile": lambda xp, a: [xp.tile(a.x, (2, 1)), xp.tile(a.row, (2, 3))],
    "tril": lambda xp, a: [xp.tril(a.x), xp.tril(a.t, k=-1)],
    "triu": lambda xp, a: [xp.triu(a.x), xp.triu(a.t, k=1)],
    "unique_all": lambda xp, a: [xp.unique_all(a.i)[0], xp.unique_all(a.i)[3]],
    "unique_counts": lambda xp, a: list(xp.unique_counts(a.i)),
    "unique_inverse": lambda xp, a: list(xp.unique_inverse(a.i)),
    "unique_values": lambda xp, a: xp.unique_values(a.i),
    "unstack": lambda xp, a: [*xp.unstack(a.x), *xp.unstack(a.x, axis=1)],
    "vecdot": lambda xp, a: [xp.vecdot(a.z, a.z), xp.vecdot(a.x, a.y, axis=-2)],
    "where": lambda xp, a: [xp.where(a.b, a.x, a.row), xp.where(a.b, 0.0, a.x)],
    "zeros_like": lambda xp, a: xp.zeros_like(a.x),
    "linalg.cholesky": lambda xp, a: xp.linalg.cholesky(a.spd),
    "linalg.cross": lambda xp, a: xp.linalg.cross(a.three, a.three[::-1, :]),
    "linalg.det": lambda xp, a: [xp.linalg.det(a.m), xp.linalg.det(a.stack)],
    "linalg.diagonal": lambda xp, a: [xp.linalg.diagonal(a.x, offset=-1), xp.linalg.diagonal(a.stack)],
    "linalg.eig": lambda xp, a: xp.sum(xp.linalg.eig(a.m)[0]),
    "linalg.eigh": lambda xp, a: xp.linalg.eigh(a.spd)[0],
    "linalg.eigvals": lambda xp, a: xp.sum(xp.linalg.eigvals(a.stack), axis=-1),
    "linalg.eigvalsh": lambda xp, a: xp.linalg.eigvalsh(a.spd),
    "linalg.inv": lambda xp, a: [xp.linalg.inv(a.m), xp.linalg.inv(a.stack)],
    "linalg.matmul": lambda xp, a: xp.linalg.matmul(a.x, a.m),
    "linalg.matrix_norm": lambda xp, a: [xp.linalg.matrix_norm(a.x), xp.linalg.matrix_norm(a.t, ord=1)],
    "linalg.matrix_power": lambda xp, a: [xp.linalg.matrix_power(a.m, 3), xp.linalg.matrix_power(a.stack, -1)],
    "linalg.matrix_rank": lambda xp, a: [xp.linalg.matrix_rank(a.tall), xp.linalg.matrix_rank(a.stack)],
    "linalg.matrix_transpose": lambda xp, a: xp.linalg.matrix_transpose(a.x),
    "linalg.outer": lambda xp, a: xp.linalg.outer(a.v, a.row),
    "linalg.pinv": lambda xp, a: [xp.linalg.pinv(a.tall), xp.linalg.pinv(a.x.T)],
    "linalg.qr": lambda xp, a: [xp.matmul(*xp.linalg.qr(a.tall)), xp.abs(xp.linalg.qr(a.tall)[1])],
    "linalg.slogdet": lambda xp, a: list(xp.linalg.slogdet(a.stack)),
    "linalg.solve": lambda xp, a: [xp.linalg.solve(a.m, a.row), xp.linalg.solve(a.stack, a.m)],
    "linalg.svd": lambda xp, a: [xp.linalg.svd(a.tall)[1], xp.abs(xp.linalg.svd(a.tall, full_matrices=False)[0])],
    "linalg.svdvals": lambda xp, a: [xp.linalg.svdvals(a.tall), xp.linalg.svdvals(a.x.T)],
    "linalg.tensordot": lambda xp, a: xp.linalg.tensordot(a.x, a.m, axes=1),
    "linalg.trace": lambda xp, a: [xp.linalg.trace(a.x), xp.linalg.trace(a.stack, offset=1)],
    "linalg.vecdot": lambda xp, a: xp.linalg.vecdot(a.x, a.row),
    "linalg.vector_norm": lambda xp, a: [xp.linalg.vector_norm(a.x), xp.linalg.vector_norm(a.x, axis=0, ord=3)],
    "fft.fft": lambda xp, a: [xp.fft.fft(a.z, axis=0), xp.fft.fft(a.z, n=6)],
    "fft.ifft": lambda xp, a: [xp.fft.ifft(a.z, axis=0), xp.fft.ifft(a.z, norm="ortho")],
    "fft.fftn": lambda xp, a: [xp.fft.fftn(a.z), xp.fft.fftn(a.z, s=(3, 6), axes=(0, 1))],
    "fft.ifftn": lambda xp, a: xp.fft.ifftn(a.z),
    "fft.rfft": lambda xp, a: [xp.fft.rfft(a.x, axis=0), xp.fft.rfft(a.v)],
    "fft.irfft": lambda xp, a: [xp.fft.irfft(a.z, axis=0), xp.fft.irfft(a.z, n=5)],
    "fft.rfftn": lambda xp, a: xp.fft.rfftn(a.x),
    "fft.irfftn": lambda xp, a: xp.fft.irfftn(a.z),
    "fft.hfft": lambda xp, a: xp.fft.hfft(a.z, axis=0),
    "fft.ihfft": lambda xp, a: xp.fft.ihfft(a.x, axis=0),
    "fft.fftshift": lambda xp, a: [xp.fft.fftshift(a.x), xp.fft.fftshift(a.x, axes=0)],
    "fft.ifftshift": lambda xp, a: xp.fft.ifftshift(a.x),
}
# What NumPy users reach for beside it.
NUMPY: dict[str, Call] = {
    **{name: _one(name, "u") for name in ["deg2rad", "exp2", "fix", "rad2deg", "sinc"]},
    **{name: _one(name, "n") for name in ["isneginf", "isposinf", "isreal"]},
    **{name: _two(name, "n y") for name in ["fmax", "fmin", "fmod"]},
    **{name: _two(name, "i j") for name in ["gcd", "lcm"]},
    "logaddexp2": _two("logaddexp2", "x y"),
    "allclose": lambda xp, a: [xp.allclose(a.x, a.x), xp.allclose(a.x, a.y)],
    "angle": lambda xp, a: [xp.angle(a.z), xp.angle(a.x, deg=True)],
    "append": lambda xp, a: [xp.append(a.x, a.y), xp.append(a.x, a.y, axis=1)],
    "apply_along_axis": lambda xp, a: [
        xp.apply_along_axis(lambda v: v - v.sum(), 0, a.x),
        xp.apply_along_axis(lambda v: v[:2].prod(), 1, a.t),
    ],
    "argwhere": lambda xp, a: xp.argwhere(a.i),
    "array_equal": lambda xp, a: [xp.array_equal(a.x, a.x), xp.array_equal(a.x, a.y)],
    "array_split": lambda xp, a: list(xp.array_split(a.x, 3, axis=0)),
    "atleast_1d": lambda xp, a: xp.atleast_1d(a.v),
    "atleast_2d": lambda xp, a: xp.atleast_2d(a.v),
    "atleast_3d": lambda xp, a: [xp.atleast_3d(a.v), xp.atleast_3d(a.x)],
    "average": lambda xp, a: [xp.average(a.x), xp.average(a.x, axis=0, weights=a.p)],
    "bincount": lambda xp, a: [xp.bincount(a.places), xp.bincount(a.places, minlength=8)],
    "choose": lambda xp, a: [xp.choose(a.j - 1, [a.x, a.y, a.u, a.row]), xp.choose(a.i, [a.x, 0.5], mode="wrap")],
    "column_stack": lambda xp, a: xp.column_stack([a.v, a.w]),
    "compress": lambda xp, a: [
        xp.compress(a.b[:, 0], a.x, axis=0),
        xp.compress(a.c[0], a.x),
        xp.compress([True, False], a.t, axis=2),
    ],
    "concatenate": lambda xp, a: xp.concatenate([a.x, a.y]),
    "convolve": lambda xp, a: [xp.convolve(a.v, a.row), xp.convolve(a.v, a.row, mode="same")],
    "corrcoef": lambda xp, a: xp.corrcoef(a.x),
    "cov": lambda xp, a: [xp.cov(a.x), xp.cov(a.x, rowvar=False)],
    "cross": lambda xp, a: xp.cross(a.three, a.three[::-1, :]),
    "cumprod": lambda xp, a: [xp.cumprod(a.x), xp.cumprod(a.x, axis=0)],
    "cumsum": lambda xp, a: [xp.cumsum(a.x), xp.cumsum(a.x, axis=0)],
    "diag": lambda xp, a: [xp.diag(a.v, 1), xp.diag(a.x)],
    "diagonal": lambda xp, a: [xp.diagonal(a.x), xp.diagonal(a.m, offset=1)],
    "digitize": lambda xp, a: [xp.digitize(a.x, a.ordered), xp.digitize(a.i, [0, 3], right=True)],
    "divmod": lambda xp, a: list(xp.divmod(a.i, a.j)),
    "dot": lambda xp, a: [xp.dot(a.v, a.w), xp.dot(a.x, a.m)],
    "dsplit": lambda xp, a: list(xp.dsplit(a.t, 2)),
    "dstack": lambda xp, a: [xp.dstack([a.x, a.y]), xp.dstack([a.v, a.w])],
    "ediff1d": lambda xp, a: [xp.ediff1d(a.t), xp.ediff1d(a.v, to_begin=a.w, to_end=a.row)],
    "einsum": lambda xp, a: [xp.einsum("ij,kj->ik", a.x, a.y), xp.einsum("ii", a.m), xp.einsum("ij->j", a.x)],
    "extract": lambda xp, a: [xp.extract(a.b, a.x), xp.extract(a.i, a.x)],
    "fft.fft2": lambda xp, a: xp.fft.fft2(a.z),
    "fft.ifft2": lambda xp, a: xp.fft.ifft2(a.z),
    "fft.irfft2": lambda xp, a: xp.fft.irfft2(a.z),
    "fft.rfft2": lambda xp, a: xp.fft.rfft2(a.x),
    "flatnonzero": lambda xp, a: xp.flatnonzero(a.i),
    "flatten": lambda xp, a: a.t.flatten(),
    "fliplr": lambda xp, a: xp.fliplr(a.x),
    "flipud": lambda xp, a: xp.flipud(a.x),
    "gradient": lambda xp, a: [
        *xp.gradient(a.x),
        xp.gradient(a.v, a.ordered, edge_order=2),
        xp.gradient(a.t, axis=2),
    ],
    "heaviside": lambda xp, a: xp.heaviside(a.x, a.y),
    "histogram": lambda xp, a: list(xp.histogram(a.x, bins=5, range=(-1, 1))),
    "histogram2d": lambda xp, a: list(xp.histogram2d(a.v, a.w, bins=3)),
    "hsplit": lambda xp, a: list(xp.hsplit(a.x, 2)),
    "hstack": lambda xp, a: [xp.hstack([a.x, a.one]), xp.hstack([a.v, a.w])],
    "inner": lambda xp, a: [xp.inner(a.v, a.w), xp.inner(a.x, a.y)],
    "interp": lambda xp, a: [xp.interp(a.x, a.ordered, a.v), xp.interp(a.x, a.w, a.v, period=1.5)],
    "intersect1d": lambda xp, a: [
        xp.intersect1d(a.i, a.places),
        *xp.intersect1d(a.i, a.along, return_indices=True),
    ],
    "isclose": lambda xp, a: xp.isclose(a.x, a.x + 1e-9),
    "iscomplex": lambda xp, a: [xp.iscomplex(a.z), xp.iscomplex(a.x)],
    "kron": lambda xp, a: [xp.kron(a.x, a.one), xp.kron(a.v, a.row)],
    "linalg.cond": lambda xp, a: [xp.linalg.cond(a.tall), xp.linalg.cond(a.stack, 1), xp.linalg.cond(a.m, -2)],
    "linalg.lstsq": lambda xp, a: [xp.linalg.lstsq(a.tall, a.v)[0], xp.linalg.lstsq(a.tall, a.v)[3]],
    "linalg.multi_dot": lambda xp, a: xp.linalg.multi_dot([a.x, a.m, a.row]),
    "linalg.norm": lambda xp, a: [xp.linalg.norm(a.x), xp.linalg.norm(a.x, ord=2), xp.linalg.norm(a.v, ord=3)],
    "median": lambda xp, a: [xp.median(a.x), xp.median(a.x, axis=0), xp.median(a.v)],
    "modf": lambda xp, a: list(xp.modf(a.x)),
    "nan_to_num": lambda xp, a: xp.nan_to_num(a.n),
    "nanargmax": lambda xp, a: [xp.nanargmax(a.n), xp.nanargmax(a.n, axis=0), xp.nanargmax(a.i, axis=1)],
    "nanargmin": lambda xp, a: [xp.nanargmin(a.n), xp.nanargmin(a.n, axis=0, keepdims=True)],
    "nancumprod": lambda xp, a: [xp.nancumprod(a.n), xp.nancumprod(a.n, axis=0)],
    "nancumsum": lambda xp, a: [xp.nancumsum(a.n), xp.nancumsum(a.n, axis=1)],
    "nanmax": lambda xp, a: [xp.nanmax(a.n), xp.nanmax(a.n, axis=1)],
    "nanmean": lambda xp, a: [xp.nanmean(a.n), xp.nanmean(a.n, axis=1)],
    "nanmedian": lambda xp, a: [xp.nanmedian(a.n), xp.nanmedian(a.n, axis=1)],
    "nanmin": lambda xp, a: [xp.nanmin(a.n), xp.nanmin(a.n, axis=1)],
    "nanpercentile": lambda xp, a: [xp.nanpercentile(a.n, 30), xp.nanpercentile(a.n, 70, axis=1)],
    "nanprod": lambda xp, a: [xp.nanprod(a.n), xp.nanprod(a.n, axis=0)],
    "nanquantile": lambda xp, a: [xp.nanquantile(a.n, 0.3), xp.nanquantile(a.n, 0.7, axis=1)],
    "nanstd": lambda xp, a: [xp.nanstd(a.n), xp.nanstd(a.n, axis=1)],
    "nansum": lambda xp, a: [xp.nansum(a.n), xp.nansum(a.n, axis=0)],
    "nanvar": lambda xp, a: [xp.nanvar(a.n), xp.nanvar(a.n, axis=0)],
    "outer": lambda xp, a: xp.outer(a.v, a.row),
    "pad": lambda xp, a: [xp.pad(a.x, 1), xp.pad(a.x, ((0, 2), (1, 0)), constant_values=3)],
    "percentile": lambda xp, a: [xp.percentile(a.x, 30), xp.percentile(a.x, 30, axis=0)],
    "piecewise": lambda xp, a: xp.piecewise(a.x, [a.x < 0, a.x > 1], [-1, 1, lambda x: x**2]),
    "polyfit": lambda xp, a: [xp.polyfit(a.ordered, a.v, 2), xp.polyfit(a.v, a.tall, 3, w=a.w)],
    "polyval": lambda xp, a: [xp.polyval(a.row, a.x), xp.polyval([2.0, 0.0, 1.0], a.x)],
    "ptp": lambda xp, a: [xp.ptp(a.x), xp.ptp(a.i, axis=0), xp.ptp(a.x, axis=1, keepdims=True)],
    "quantile": lambda xp, a: [xp.quantile(a.x, 0.3), xp.quantile(a.x, 0.7, axis=0)],
    "ravel": lambda xp, a: xp.ravel(a.t),
    "rollaxis": lambda xp, a: [xp.rollaxis(a.t, 2), xp.rollaxis(a.t, 0, 3), xp.rollaxis(a.t, -1, -2)],
    "rot90": lambda xp, a: [xp.rot90(a.x), xp.rot90(a.x, 2), xp.rot90(a.t, 3, axes=(1, 2))],
    "select": lambda xp, a: [xp.select([a.b, a.c], [a.x, a.row], 7.0), xp.select([a.b, a.c], [a.i, 2])],
    "setdiff1d": lambda xp, a: [xp.setdiff1d(a.i, a.places), xp.setdiff1d(a.v, a.w, assume_unique=True)],
    "setxor1d": lambda xp, a: xp.setxor1d(a.i, a.places),
    "split": lambda xp, a: list(xp.split(a.x, [1, 3], axis=0)),
    "swapaxes": lambda xp, a: xp.swapaxes(a.t, 0, 2),
    "trace": lambda xp, a: [xp.trace(a.x), xp.trace(a.m, offset=1)],
    "transpose": lambda xp, a: [xp.transpose(a.t), xp.transpose(a.t, (1, 0, 2))],
    "trapezoid": lambda xp, a: [xp.trapezoid(a.x), xp.trapezoid(a.x, axis=0), xp.trapezoid(a.v, a.ordered)],
    "union1d": lambda xp, a: xp.union1d(a.i, a.places),
    "unique": lambda xp, a: xp.unique(a.i),
    "unwrap": lambda xp, a: [
        xp.unwrap(a.v * 5),
        xp.unwrap(a.x * 5, axis=0, discont=4),
        xp.unwrap(a.i, axis=0, period=5),
    ],
    "vander": lambda xp, a: [xp.vander(a.v, 4), xp.vander(a.row, increasing=True), xp.vander(a.places, 3)],
    "vdot": lambda xp, a: xp.vdot(a.z, a.z),
    "vsplit": lambda xp, a: list(xp.vsplit(a.x, [2])),
    "vstack": lambda xp, a: [xp.vstack([a.x, a.y]), xp.vstack([a.v, a.w])],
}


def _product_of_transforms(a: Any, v: Any) -> Any:
    """The convolution of two matrices."""
    shape = [n + m - 1 for n, m in zip(a.shape, v.shape, strict=True)]
    return np.fft.irfft2(np.fft.rfft2(a, shape) * np.fft.rfft2(v, shape), shape)


def _moment(x: Any, order: int, axis: int | None) -> Any:
    """A moment about the mean, in units of the deviation."""
    deviations = x - x.mean(axis, keepdims=True)
    return (deviations**order).mean(axis) / (deviations**2).mean(axis) ** (order / 2)


def _unbiased(kurtosis: Any, n: int) -> Any:
    """The excess kurtosis of `n` numbers without the bias of a sample."""
    return ((n**2 - 1) * kurtosis - 3 * (n - 1) ** 2) / ((n - 2) * (n - 3))


# What has other names elsewhere: ours, and what NumPy has instead.
RENAMED: dict[str, tuple[Call, Call]] = {
    "convolve2d": (
        lambda xp, a: [xp.convolve2d(a.x, a.m[:3, :2]), xp.convolve2d(a.x, a.m[:2], "valid")],
        lambda xp, a: [_product_of_transforms(a.x, a.m[:3, :2]), _product_of_transforms(a.x, a.m[:2])[1:-1, 3:4]],
    ),
    "kurtosis": (
        lambda xp, a: [xp.kurtosis(a.x, 0, unbiased=False), xp.kurtosis(a.x), xp.kurtosis(a.x, 1, fisher=False)],
        lambda xp, a: [
            _moment(a.x, 4, 0) - 3,
            _unbiased(_moment(a.x, 4, None), 20),
            _unbiased(_moment(a.x, 4, 1), 4) + 3,
        ],
    ),
    "skew": (
        lambda xp, a: [xp.skew(a.x, 0, unbiased=False, keepdims=True), xp.skew(a.x)],
        lambda xp, a: [_moment(a.x, 3, 0)[None], _moment(a.x, 3, None) * math.sqrt(20 * 19) / 18],
    ),
    "bucketize": (lambda xp, a: xp.bucketize(a.x, a.ordered), lambda xp, a: xp.searchsorted(a.ordered, a.x)),
    "linalg.cg": (
        lambda xp, a: xp.linalg.cg(a.spd, a.row, rtol=1e-13)[0],
        lambda xp, a: xp.linalg.solve(a.spd, a.row),
    ),
    "linalg.lanczos": (
        lambda xp, a: xp.linalg.lanczos(a.spd, 1, a.row)[1],
        lambda xp, a: (a.row @ a.spd @ a.row / (a.row @ a.row)).reshape(1, 1),
    ),
    "linalg.matrix_exp": (
        lambda xp, a: xp.linalg.matrix_exp(a.spd * 0.1),
        lambda xp, a: sum(xp.linalg.matrix_power(a.spd * 0.1, n) / math.factorial(n) for n in range(30)),
    ),
    "linalg.rsvd": (
        lambda xp, a: xp.linalg.rsvd(a.tall, min(a.tall.shape))[1],
        lambda xp, a: xp.linalg.svd(a.tall)[1],
    ),
    "linalg.solve_triangular": (
        lambda xp, a: [
            xp.linalg.solve_triangular(a.m, a.row),
            xp.linalg.solve_triangular(a.stack, a.m, lower=True),
        ],
        lambda xp, a: [xp.linalg.solve(xp.triu(a.m), a.row), xp.linalg.solve(xp.tril(a.stack), a.m)],
    ),
    "logsumexp": (lambda xp, a: xp.logsumexp(a.x, axis=0), lambda xp, a: xp.log(xp.exp(a.x).sum(0))),
    "map_halo": (
        lambda xp, a: [
            xp.map_halo(lambda u: u[2:] * u[:-2], a.v, 1, mode="wrap"),
            xp.map_halo(lambda u: u[2:] * u[:-2], a.x, (0, 2), 0),
        ],
        lambda xp, a: [xp.roll(a.v, -1) * xp.roll(a.v, 1), a.x[2:] * a.x[:-2]],
    ),
    "norm": (lambda xp, a: xp.norm(a.x, axis=0), lambda xp, a: xp.linalg.norm(a.x, axis=0)),
    "sliding_window_view": (
        lambda xp, a: [xp.sliding_window_view(a.x, 3, 0), xp.sliding_window_view(a.t, (2, 2, 3))],
        lambda xp, a: [
            xp.lib.stride_tricks.sliding_window_view(a.x, 3, 0),
            xp.lib.stride_tricks.sliding_window_view(a.t, (2, 2, 3)),
        ],
    ),
    "topk": (lambda xp, a: xp.topk(a.x, 2, axis=0)[0], lambda xp, a: xp.sort(a.x, axis=0)[::-1][:2]),
}
# NumPy's arguments, by its names, which the standard has not.
ARGUMENTS: dict[str, Call] = {
    "argsort, axis=None": lambda xp, a: xp.argsort(a.x, axis=None),
    "means of integers": lambda xp, a: [
        getattr(xp, name)(x, axis=axis)
        for name in ("mean", "std", "var", "nanmean", "nanvar")
        for x in (a.i, a.b)
        for axis in (None, 0)
    ],
    "choose, by name": lambda xp, a: xp.choose(a.j - 1, choices=[a.x, a.y, a.u, a.row]),
    "cross, axisa=": lambda xp, a: [
        xp.cross(a.x[:3], a.y[1:4], axisa=0, axisb=0, axisc=0),
        xp.cross(a.three, a.three[::-1], axisc=0),
    ],
    "diff, prepend=": lambda xp, a: [
        xp.diff(a.x, prepend=0, axis=0),
        xp.diff(a.i, axis=1, prepend=0.5, append=2),
        xp.diff(a.x, 2, 0),
    ],
    "eigvalsh, UPLO=": lambda xp, a: xp.linalg.eigvalsh(a.m, UPLO="U"),
    "outer of matrices": lambda xp, a: xp.outer(a.x, a.one),
    "qr, mode=": lambda xp, a: abs(xp.linalg.qr(a.tall, mode="r")),
    "sort, axis=None": lambda xp, a: [xp.sort(a.x, axis=None), xp.sort(a.x, 0, kind="stable")],
    "svd, compute_uv=": lambda xp, a: xp.linalg.svd(a.tall, compute_uv=False),
    "take, axis=None": lambda xp, a: [
        xp.take(a.x, [7, 3, -1]),
        xp.take(a.x, [7, 3, -1], axis=1, mode="wrap"),
        xp.take(a.x, [7, 3, -1], axis=0, mode="clip"),
    ],
    "tril of vectors": lambda xp, a: [xp.tril(a.v, 1), xp.triu(a.row, -1)],
    "unique, axis=": lambda xp, a: [
        xp.unique(a.i[:, :1] > 0, axis=0),
        *xp.unique(a.j[:, :2] > 2, axis=0, return_index=True, return_counts=True),
        xp.unique(a.x > 9, axis=1),
    ],
    "names": lambda xp, a: [
        xp.pad(a.x, pad_width=((1, 0), (0, 2))),
        xp.quantile(a.x, q=0.3, axis=0),
        xp.repeat(a.x, repeats=2, axis=0),
        xp.tile(a.x, reps=(2, 1)),
        *xp.split(a.x, indices_or_sections=[1, 2]),
        xp.sum(a.x, axis=0, keepdims=1),
        xp.std(a.x, ddof=1),
        xp.std(a.x, correction=1),
        xp.var(a.i, 0, dtype=xp.float64),
        xp.nanstd(a.n, axis=1, dtype=xp.float64),
        xp.concatenate([a.x, a.i], dtype=xp.float32),
        xp.stack([a.i, a.j], dtype=xp.float64),
        xp.array_equal(a.n, a.n, equal_nan=True),
        xp.array_equal(a.n, a.n),
    ],
}


def _masked(name: str) -> Call:
    """A reduction of what a mask selects, or of all, with a number before it, and with a place for the result."""
    takes_initial = name.removeprefix("nan") in {"sum", "prod", "max", "min"}
    first = {"initial": 0.25} if takes_initial else {}

    def call(xp: Any, a: Any) -> Any:
        function, x = getattr(xp, name), a.n if name.startswith("nan") else a.x
        out = xp.zeros(4, dtype=xp.float64)
        masks = ((None, a.u > -0.7), (0, a.row > -2), (1, a.u > -0.7))
        found = function(x, axis=0, where=a.u > -0.7, out=out, **first)
        return [
            found,
            out,
            *[function(x, axis=axis, where=mask, **first) for axis, mask in masks],
            *[function(x, axis=0, **first)] * takes_initial,
        ]

    return call


_OF_NUMBERS = "nanmax nanmean nanmin nanprod nanstd nansum nanvar"
ARGUMENTS |= {
    f"{name}, where=": _masked(name) for name in f"{_REDUCTIONS} {_OF_NUMBERS}".split() if name != "count_nonzero"
}


def _written(names: str, *keys: str) -> Call:
    """Elementwise functions with `out=` and `where=`, in an array of zeros, and into an argument."""

    def call(xp: Any, a: Any) -> Any:
        found = []
        for name in names.split():
            function, operands = getattr(xp, name), [getattr(a, key) for key in keys]
            like = function(*operands)
            out = xp.zeros(like.shape, dtype=like.dtype)
            assert function(*operands, out=out) is out
            found += [out, function(*operands, out=xp.ones_like(out), where=a.b)]
            if xp is ms:
                found.append(function(*operands, where=a.b))
            else:
                found.append(function(*operands, out=xp.zeros_like(out), where=a.b))
        return found

    return call


ARGUMENTS |= {
    "out= of one": _written("exp sin sqrt negative isnan logical_not floor", "p"),
    "out= of two": _written("add subtract multiply divide less equal logaddexp maximum", "p", "row"),
    "out= of integers": _written("floor_divide remainder gcd bitwise_and", "i", "j"),
}


def _set_parts(xp: Any, a: Any) -> Any:
    x, m = a.x.copy(), a.m.copy()
    x[1:, ::-1] = a.u[:-1] * a.row
    x[[4, 0, 4]] = a.m[:3] ** 2
    m[2] = a.row
    m[a.m > 1] = m[0, 0] * a.row[1]
    m[1, [0, 3]] *= 3
    return [x, m]


ARGUMENTS["x[key] = value"] = _set_parts
# What takes or gives no array, or what no oracle has: these have tests of their own.
ELSEWHERE = {
    "__array_namespace_info__", "arange",  "copyto", "array", "asarray", "balance", "broadcast_shapes", "can_cast",
    "datasets", "empty", "empty_like", "eye", "fft.fftfreq", "fft.rfftfreq", "fill_diagonal", "finfo",
    "from_dlpack", "from_dtensor", "from_numpy", "full", "geomspace", "get_comm", "halo", "iinfo", "isdtype",
    "linspace", "load", "load_checkpoint", "logspace", "ones", "open", "plot_layout", "print0",
    "redistribute", "replicate", "resplit", "result_type", "save", "save_checkpoint", "set_printoptions", "show",
    "tree_map", "tri", "vmap", "warn_above", "zeros",
}  # fmt: skip


def named() -> Iterator[str]:
    """The public functions of arrays."""
    for space, module in {"": ms, "linalg.": ms.linalg, "fft.": ms.fft}.items():
        for name in module.__all__:
            if inspect.isfunction(getattr(module, name)):
                yield f"{space}{name}"


def test_the_tables_have_every_operation() -> None:
    assert set(named()) - ELSEWHERE == {*STANDARD, *NUMPY, *RENAMED}


def calls_of(name: str) -> tuple[Call, list[Any]]:
    """What to call with ours, and what the oracle gives."""
    xp: Any = array_api_strict if name in STANDARD else np
    same = {key: (call, call) for key, call in (STANDARD | NUMPY | ARGUMENTS).items()}
    call, other = (same | RENAMED)[name]
    return call, flat(other(xp, SimpleNamespace(**{key: xp.asarray(value) for key, value in ARRAYS.items()})))


def flat(result: Any) -> list[Any]:
    return list(result) if isinstance(result, list) else [result]


def dealings(size: int) -> Iterator[dict[str, ms.Layout]]:
    """Layouts for all arrays: alike, and each another."""
    for split in (None, 0, 1):
        for kind in KINDS if split is not None else KINDS[:1]:
            yield {
                key: layout_of(x.shape, None if split is None else min(split, x.ndim - 1), kind, size)
                for key, x in ARRAYS.items()
            }
    for turn in range(3):
        yield {
            key: layout_of(x.shape, (place + turn) % (x.ndim + 1) - 1 if (place + turn) % (x.ndim + 1) else None,
                           KINDS[(place + turn) % 3], size)
            for place, (key, x) in enumerate(ARRAYS.items())
        }  # fmt: skip


@pytest.mark.parametrize("name", [*STANDARD, *NUMPY, *ARGUMENTS, *RENAMED])
def test_values_are_those_of_the_oracle_in_any_layout(comm: ms.Communication, name: str) -> None:
    call, expected = calls_of(name)
    for layouts in dealings(comm.size):
        arrays = dealt(layouts, comm)
        results = flat(call(ms, SimpleNamespace(**arrays)))
        for result, wanted in zip(results, expected, strict=True):
            compare(result, wanted, comm)
        with agreement(comm, "looking at the arguments"):
            assert all(unchanged(x, ARRAYS[key], layouts[key]) for key, x in arrays.items())


def is_dispatched(name: str) -> bool:
    """Whether NumPy has a function of this name, which asks its arguments what to do."""
    return callable(functools.reduce(lambda space, each: getattr(space, each, None), name.split("."), np))


# Without calls that NumPy does not know, and those that make arrays of NumPy for their results.
CALLED = [name for name in (*STANDARD, *NUMPY) if is_dispatched(name) and name not in {"argsort", "sort"}]
CALLED += [name for name in ARGUMENTS if "where=" not in name and "out=" not in name]


@pytest.mark.parametrize("name", CALLED)
def test_functions_of_numpy_that_are_called_with_arrays_are_ours(comm: ms.Communication, name: str) -> None:
    call, expected = calls_of(name)
    results = flat(call(np, SimpleNamespace(**dealt(list(dealings(comm.size))[-1], comm))))
    for result, wanted in zip(results, expected, strict=True):
        compare(result, wanted, comm)


@pytest.mark.several
def test_A16_results_stay_on_a_sub_communicator(comm: ms.Communication) -> None:
    part = comm.split(int(comm.rank > 0))
    assert part is not None
    with agreement(comm, "calling every operation on a part of the ranks"):
        layouts = list(dealings(part.size))[-1]
        for name in (*STANDARD, *NUMPY, *RENAMED):
            call, expected = calls_of(name)
            results = flat(call(ms, SimpleNamespace(**dealt(layouts, part))))
            for result, wanted in zip(results, expected, strict=True):
                compare(result, wanted, part)


# The numbers of which gradients are taken: no NaNs, and eigenvalues that differ.
SMOOTH = ARRAYS | {"n": ARRAYS["y"] * 1.1, "spd": ARRAYS["spd"] + np.diag(np.arange(4.0))}
WHOLES = {key: torch.from_numpy(x) for key, x in SMOOTH.items() if np.issubdtype(x.dtype, np.inexact)}
# Of these torch has no derivatives, and says so.
REFUSED = {"floor_divide", "heaviside"}
# Of these no result has a gradient. The edges of the bins, which are floats, depend on the elements.
CONSTANT = {"histogram2d", "linalg.lanczos"}
# Of the arguments of NumPy those that change how a gradient flows.
DIFFERENTIATED = (
    "cross, axisa=", "diff, prepend=", "max, where=", "nanvar, where=", "out= of two", "sum, where=",
    "take, axis=None", "x[key] = value",
)  # fmt: skip
# The step of the numerical derivatives, whose error is of its square, and of rounding over it.
STEP = 1e-5


def as_loss(name: str, layouts: dict[str, ms.Layout], comm: ms.Communication) -> Callable[..., torch.Tensor]:
    """An operation as a function of whole tensors, whose result is one number: the weighted sum of its results."""
    call, _ = calls_of(name)
    fixed = dealt(layouts, comm)

    def loss(*wholes: torch.Tensor) -> torch.Tensor:
        cut = {
            key: ms.DNDarray(
                redistribute(whole, layouts[key].with_split(None), layouts[key], comm), layouts[key], comm
            )
            for key, whole in zip(WHOLES, wholes, strict=True)
        }
        total = torch.zeros((), dtype=torch.float64)
        for result in flat(call(ms, SimpleNamespace(**fixed | cut))):
            if isinstance(result, ms.DNDarray) and (result.dtype.is_floating_point or result.dtype.is_complex):
                whole = result.torch()
                weights = torch.linspace(0.5, 1.5, whole.numel(), dtype=torch.float64).reshape(whole.shape)
                total = total + (weights * (whole.real - whole.imag if whole.is_complex() else whole)).sum()
        return total

    return loss


def towards(gradients: Iterable[torch.Tensor | None], directions: list[torch.Tensor]) -> torch.Tensor:
    """The derivative in one direction, by the gradients of all tensors."""
    pairs = zip(gradients, directions, strict=True)
    return sum(
        ((g.conj() * v).real.sum() for g, v in pairs if g is not None), torch.zeros((), dtype=torch.float64)
    )


def directions(seed: int) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)  # the same on all ranks
    drawn = {key: torch.randn(x.shape, dtype=x.dtype, generator=draw) for key, x in WHOLES.items()}
    return [*(drawn | {"spd": drawn["spd"] + drawn["spd"].mT}).values()]


def numerical(function: Callable[..., torch.Tensor], along: list[torch.Tensor]) -> torch.Tensor:
    """The derivative of a function of all tensors in one direction, by central differences."""
    ahead, behind = (
        function(*(x + step * v for x, v in zip(WHOLES.values(), along, strict=True))) for step in (STEP, -STEP)
    )
    return (ahead - behind) / (2 * STEP)


@pytest.mark.derivatives
@pytest.mark.parametrize("name", [*STANDARD, *NUMPY, *DIFFERENTIATED, *RENAMED])
@pytest.mark.parametrize("dealing", [3, 9], ids=["on one rank", "each another"])
def test_gradients_of_first_and_second_order(comm: ms.Communication, name: str, dealing: int) -> None:
    """What `gradcheck` and `gradgradcheck` do in fast mode, in directions that all ranks share."""
    loss = as_loss(name, list(dealings(comm.size))[dealing], comm)
    one, other = directions(1), directions(2)

    def slope(*wholes: torch.Tensor) -> torch.Tensor:
        leaves = (
            [x.detach().requires_grad_() for x in wholes] if not any(x.requires_grad for x in wholes) else wholes
        )
        total = loss(*leaves)
        if not total.requires_grad:
            return torch.zeros((), dtype=torch.float64)
        return towards(torch.autograd.grad(total, leaves, create_graph=True, allow_unused=True), one)

    leaves = [x.clone().requires_grad_() for x in WHOLES.values()]
    with agreement(comm, "comparing derivatives"):
        if name in REFUSED:
            with pytest.raises(RuntimeError, match=r"derivative for .* is not implemented"):
                slope(*leaves)
            return
        if name in CONSTANT:
            assert not loss(*leaves).requires_grad
            return
        first = slope(*leaves)
        torch.testing.assert_close(first.detach(), numerical(loss, one), rtol=1e-5, atol=1e-6)
        second = (
            torch.autograd.grad(first, leaves, allow_unused=True) if first.requires_grad else [None] * len(one)
        )
        wanted = numerical(slope, other).detach()
        torch.testing.assert_close(towards(second, other), wanted, rtol=1e-4, atol=1e-5)


# The operations for which the host has to wait for a device, by what it has to know. Where a sort moves elements
# between ranks, these decide how many go where.
READ = {
    "the result, a Python value": "allclose array_equal",
    "whether there is an error": "average choose digitize linalg.cond linalg.lstsq linalg.matrix_rank linalg.norm "
    "linalg.pinv linalg.rsvd linalg.svd linalg.svdvals nanargmax nanargmin polyfit take take_along_axis",
    "the shape of the result": "argwhere bincount compress extract flatnonzero histogram2d intersect1d nonzero "
    "setdiff1d setxor1d union1d unique unique_all unique_counts unique_inverse unique_values",
    "whether there is more to be done": "linalg.cg linalg.lanczos",
    "what ranks send": "argsort isin median nanmedian nanpercentile nanquantile percentile quantile sort topk",
}


@pytest.mark.serial
@pytest.mark.parametrize(("split", "kind"), [(0, "balanced"), (1, "ragged")])
def test_on_another_device_nothing_is_read_back_but_what_the_host_must_know(split: int, kind: str) -> None:
    layouts = {key: layout_of(x.shape, min(split, x.ndim - 1), kind, 2) for key, x in ARRAYS.items()}
    allowed = {name for names in READ.values() for name in names.split()}
    calls = {name: calls_of(name) for name in (*STANDARD, *NUMPY, *RENAMED)}

    def on_each_rank() -> None:
        comm = ms.get_comm()
        arrays = {
            key: ms.DNDarray(DeviceTensor(x.larray), x.layout, comm) for key, x in dealt(layouts, comm).items()
        }
        for name, (call, expected) in calls.items():
            with OtherDevice() as device:
                results = flat(call(ms, SimpleNamespace(**arrays)))
                assert not device.reads or name in allowed, f"{name} reads by {device.reads}"
                for result, wanted in zip(results, expected, strict=True):
                    assert isinstance(wanted, bool) or result.device == DEVICE, name
                    compare(result, wanted, comm)

    ms.testing.run(on_each_rank, ranks=2)


def dealt(layouts: dict[str, ms.Layout], comm: ms.Communication) -> dict[str, ms.DNDarray]:
    return {
        key: ms.DNDarray(torch.from_numpy(x)[layouts[key].box(comm.rank)].clone(), layouts[key], comm)
        for key, x in ARRAYS.items()
    }


def unchanged(x: ms.DNDarray, whole: Any, layout: ms.Layout) -> bool:
    mine = torch.from_numpy(whole)[layout.box(x.comm.rank)]
    return x.layout is layout and np.array_equal(
        x.larray.numpy(), mine.numpy(), equal_nan=mine.dtype.is_floating_point
    )


def compare(result: Any, wanted: Any, comm: ms.Communication) -> None:
    if isinstance(wanted, bool):
        assert result is wanted
        return
    whole = np.asarray(wanted)
    assert result.comm is comm
    assert result.lshape == result.layout.lshape(comm.rank)
    assert result.shape == whole.shape
    assert result.dtype is getattr(torch, str(whole.dtype))
    np.testing.assert_allclose(result.numpy(), whole, rtol=1e-9, atol=1e-11)
