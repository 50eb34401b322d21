"""The methods of arrays that are functions of minisplit: made by `docs/methods.py`, from these.

`DNDarray` has them from here. Those that are more than a call of a function stand there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack

from minisplit.core.pytorch.dtypes import Dtype

if TYPE_CHECKING:
    import torch

    from minisplit.core.array import Axis, DNDarray, Operand

# `minisplit.ops`, once the package is imported. See `minisplit.core.array.bind_operations`.
operations: Any = None


class TorchNames(TypedDict, total=False):
    """torch's names of `axis` and `keepdims`, which methods take as well."""

    dim: Any
    dims: Any
    keepdim: bool


def _read(name: str, others: Any, *more: Any, **own: Any) -> Any:
    """Return `axis`, and `keepdims` if the method has it, where they may have been given as torch has them."""
    found = dict(own)
    if more:
        # torch's second argument of these is not keepdim, but whether to correct the bias.
        if name in {"std", "var"} or len(more) > 1 or not isinstance(more[0], bool):
            example = "correction=1, keepdims=True" if name in {"std", "var"} else "dtype=..., keepdims=True"
            raise TypeError(f"{name}() takes other arguments than the axis by name: x.{name}(axis, {example})")
        found["keepdims"] = more[0]
    for key, value in others.items():
        ours = {"dim": "axis", "dims": "axis", "keepdim": "keepdims"}.get(key)
        if key == "unbiased":
            raise TypeError(f"{name}() has no argument 'unbiased': write correction={int(bool(value))}")
        if ours not in found:
            raise TypeError(f"{name}() has no argument {key!r}; see help(x.{name}): {', '.join(own)} ...")
        found[ours] = tuple(value) if isinstance(value, list) else value
    return tuple(found.values()) if len(found) > 1 else found["axis"]


class Casts:
    """The methods that are named as types are. Apart, since in the body of a class its names come first."""

    __slots__ = ()

    def bfloat16(self) -> DNDarray:
        """Return the array as bfloat16, or itself where it is that. See `minisplit.astype`."""
        return operations.astype(self, "bfloat16", copy=False)

    def bool(self) -> DNDarray:
        """Return the array as bool, or itself where it is that. See `minisplit.astype`."""
        return operations.astype(self, "bool", copy=False)

    def byte(self) -> DNDarray:
        """Return the array as uint8, or itself where it is that. See `minisplit.astype`."""
        return operations.astype(self, "uint8", copy=False)

    def cdouble(self) -> DNDarray:
        """Return the array as complex128, or itself where it is that. See `minisplit.astype`."""
        return operations.astype(self, "complex128", copy=False)

    def cfloat(self) -> DNDarray:
        """Return the array as complex64, or itself where it is that. See `minisplit.astype`."""
        return operations.astype(self, "complex64", copy=False)

    def char(self) -> DNDarray:
        """Return the array as int8, or itself where it is that. See `minisplit.astype`."""
        return operations.astype(self, "int8", copy=False)

    def double(self) -> DNDarray:
        """Return the array as float64, or itself where it is that. See `minisplit.astype`."""
        return operations.astype(self, "float64", copy=False)

    def float(self) -> DNDarray:
        """Return the array as float32, or itself where it is that. See `minisplit.astype`."""
        return operations.astype(self, "float32", copy=False)

    def half(self) -> DNDarray:
        """Return the array as float16, or itself where it is that. See `minisplit.astype`."""
        return operations.astype(self, "float16", copy=False)

    def int(self) -> DNDarray:
        """Return the array as int32, or itself where it is that. See `minisplit.astype`."""
        return operations.astype(self, "int32", copy=False)

    def long(self) -> DNDarray:
        """Return the array as int64, or itself where it is that. See `minisplit.astype`."""
        return operations.astype(self, "int64", copy=False)

    def short(self) -> DNDarray:
        """Return the array as int16, or itself where it is that. See `minisplit.astype`."""
        return operations.astype(self, "int16", copy=False)


class DNDarrayMethods(Casts):
    """The methods of `DNDarray` that call a function of minisplit."""

    __slots__ = ()

    def abs(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the absolute value of each element. See `minisplit.abs`."""
        return operations.abs(self, out=out, where=where)

    def abs_(self) -> Self:
        """Change the array to `abs(self)`; its dtype and layout stay. See `minisplit.abs`."""
        return operations.abs(self, out=self)

    def absolute(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the absolute value of each element. See `minisplit.abs`."""
        return operations.abs(self, out=out, where=where)

    def absolute_(self) -> Self:
        """Change the array to `abs(self)`; its dtype and layout stay. See `minisplit.abs`."""
        return operations.abs(self, out=self)

    def acos(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the inverse cosine of each element. See `minisplit.acos`."""
        return operations.acos(self, out=out, where=where)

    def acos_(self) -> Self:
        """Change the array to `acos(self)`; its dtype and layout stay. See `minisplit.acos`."""
        return operations.acos(self, out=self)

    def acosh(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the inverse hyperbolic cosine of each element. See `minisplit.acosh`."""
        return operations.acosh(self, out=out, where=where)

    def acosh_(self) -> Self:
        """Change the array to `acosh(self)`; its dtype and layout stay. See `minisplit.acosh`."""
        return operations.acosh(self, out=self)

    def add(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Add two arrays, element by element. See `minisplit.add`."""
        return operations.add(self, x2, out=out, where=where)

    def add_(self, x2: Operand, /) -> Self:
        """Change the array to `add(self, x2)`; its dtype and layout stay. See `minisplit.add`."""
        return operations.add(self, x2, out=self)

    def all(
        self,
        axis: Axis = None,
        *more: Any,
        keepdims: bool = False,
        out: DNDarray | None = None,
        where: DNDarray | bool = True,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return whether all elements along axes are nonzero. See `minisplit.all`."""
        if others or more:
            axis, keepdims = _read("all", others, *more, axis=axis, keepdims=keepdims)
        return operations.all(self, axis, keepdims=keepdims, out=out, where=where)

    def allclose(
        self, x2: Operand, /, *, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
    ) -> bool:
        """Return whether all elements are equal within a tolerance. See `minisplit.allclose`."""
        return operations.allclose(self, x2, rtol=rtol, atol=atol, equal_nan=equal_nan)

    def amax(
        self,
        axis: Axis = None,
        *more: Any,
        keepdims: bool = False,
        out: DNDarray | None = None,
        initial: complex | None = None,
        where: DNDarray | bool = True,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return the greatest element along axes. See `minisplit.max`."""
        if others or more:
            axis, keepdims = _read("amax", others, *more, axis=axis, keepdims=keepdims)
        return operations.max(self, axis, keepdims=keepdims, out=out, initial=initial, where=where)

    def amin(
        self,
        axis: Axis = None,
        *more: Any,
        keepdims: bool = False,
        out: DNDarray | None = None,
        initial: complex | None = None,
        where: DNDarray | bool = True,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return the least element along axes. See `minisplit.min`."""
        if others or more:
            axis, keepdims = _read("amin", others, *more, axis=axis, keepdims=keepdims)
        return operations.min(self, axis, keepdims=keepdims, out=out, initial=initial, where=where)

    def angle(self, deg: bool = False) -> DNDarray:
        """Compute the argument of each element: the angle between it and the positive real axis.

        See `minisplit.angle`.
        """
        return operations.angle(self, deg)

    def any(
        self,
        axis: Axis = None,
        *more: Any,
        keepdims: bool = False,
        out: DNDarray | None = None,
        where: DNDarray | bool = True,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return whether any element along axes is nonzero. See `minisplit.any`."""
        if others or more:
            axis, keepdims = _read("any", others, *more, axis=axis, keepdims=keepdims)
        return operations.any(self, axis, keepdims=keepdims, out=out, where=where)

    def append(self, values: DNDarray, axis: int | None = None, **others: Unpack[TorchNames]) -> DNDarray:
        """Join two arrays along an axis, or their elements. See `minisplit.append`."""
        if others:
            axis = _read("append", others, axis=axis)
        return operations.append(self, values, axis)

    def arccos(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the inverse cosine of each element. See `minisplit.acos`."""
        return operations.acos(self, out=out, where=where)

    def arccos_(self) -> Self:
        """Change the array to `acos(self)`; its dtype and layout stay. See `minisplit.acos`."""
        return operations.acos(self, out=self)

    def arccosh(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the inverse hyperbolic cosine of each element. See `minisplit.acosh`."""
        return operations.acosh(self, out=out, where=where)

    def arccosh_(self) -> Self:
        """Change the array to `acosh(self)`; its dtype and layout stay. See `minisplit.acosh`."""
        return operations.acosh(self, out=self)

    def arcsin(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the inverse sine of each element. See `minisplit.asin`."""
        return operations.asin(self, out=out, where=where)

    def arcsin_(self) -> Self:
        """Change the array to `asin(self)`; its dtype and layout stay. See `minisplit.asin`."""
        return operations.asin(self, out=self)

    def arcsinh(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the inverse hyperbolic sine of each element. See `minisplit.asinh`."""
        return operations.asinh(self, out=out, where=where)

    def arcsinh_(self) -> Self:
        """Change the array to `asinh(self)`; its dtype and layout stay. See `minisplit.asinh`."""
        return operations.asinh(self, out=self)

    def arctan(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the inverse tangent of each element. See `minisplit.atan`."""
        return operations.atan(self, out=out, where=where)

    def arctan_(self) -> Self:
        """Change the array to `atan(self)`; its dtype and layout stay. See `minisplit.atan`."""
        return operations.atan(self, out=self)

    def arctan2(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the angle between the positive first axis and each point of a plane. See `minisplit.atan2`."""
        return operations.atan2(self, x2, out=out, where=where)

    def arctan2_(self, x2: Operand, /) -> Self:
        """Change the array to `atan2(self, x2)`; its dtype and layout stay. See `minisplit.atan2`."""
        return operations.atan2(self, x2, out=self)

    def arctanh(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the inverse hyperbolic tangent of each element. See `minisplit.atanh`."""
        return operations.atanh(self, out=out, where=where)

    def arctanh_(self) -> Self:
        """Change the array to `atanh(self)`; its dtype and layout stay. See `minisplit.atanh`."""
        return operations.atanh(self, out=self)

    def argmax(
        self,
        axis: int | None = None,
        *more: Any,
        keepdims: bool = False,
        out: DNDarray | None = None,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return the index of the greatest element along an axis, or in the whole array.

        See `minisplit.argmax`.
        """
        if others or more:
            axis, keepdims = _read("argmax", others, *more, axis=axis, keepdims=keepdims)
        return operations.argmax(self, axis, keepdims=keepdims, out=out)

    def argmin(
        self,
        axis: int | None = None,
        *more: Any,
        keepdims: bool = False,
        out: DNDarray | None = None,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return the index of the least element along an axis, or in the whole array. See `minisplit.argmin`."""
        if others or more:
            axis, keepdims = _read("argmin", others, *more, axis=axis, keepdims=keepdims)
        return operations.argmin(self, axis, keepdims=keepdims, out=out)

    def argsort(
        self,
        axis: int | None = -1,
        *,
        descending: bool = False,
        stable: bool = True,
        kind: str | None = None,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return the indices that sort the elements along an axis. See `minisplit.argsort`."""
        if others:
            axis = _read("argsort", others, axis=axis)
        return operations.argsort(self, axis, descending=descending, stable=stable, kind=kind)

    def argwhere(self) -> DNDarray:
        """Return the indices of the nonzero elements, a row for each. See `minisplit.argwhere`."""
        return operations.argwhere(self)

    def array_equal(self, x2: DNDarray, /, equal_nan: bool = False) -> bool:
        """Return whether two arrays have the same shape and equal elements, for any dtypes and layouts.

        See `minisplit.array_equal`.
        """
        return operations.array_equal(self, x2, equal_nan)

    def array_split(
        self, indices_or_sections: int | Sequence[int], axis: int = 0, **others: Unpack[TorchNames]
    ) -> list[DNDarray]:
        """Divide `x` along an axis into parts, which need not be equal. See `minisplit.array_split`."""
        if others:
            axis = _read("array_split", others, axis=axis)
        return operations.array_split(self, indices_or_sections, axis)

    def asin(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the inverse sine of each element. See `minisplit.asin`."""
        return operations.asin(self, out=out, where=where)

    def asin_(self) -> Self:
        """Change the array to `asin(self)`; its dtype and layout stay. See `minisplit.asin`."""
        return operations.asin(self, out=self)

    def asinh(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the inverse hyperbolic sine of each element. See `minisplit.asinh`."""
        return operations.asinh(self, out=out, where=where)

    def asinh_(self) -> Self:
        """Change the array to `asinh(self)`; its dtype and layout stay. See `minisplit.asinh`."""
        return operations.asinh(self, out=self)

    def atan(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the inverse tangent of each element. See `minisplit.atan`."""
        return operations.atan(self, out=out, where=where)

    def atan_(self) -> Self:
        """Change the array to `atan(self)`; its dtype and layout stay. See `minisplit.atan`."""
        return operations.atan(self, out=self)

    def atan2(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the angle between the positive first axis and each point of a plane. See `minisplit.atan2`."""
        return operations.atan2(self, x2, out=out, where=where)

    def atan2_(self, x2: Operand, /) -> Self:
        """Change the array to `atan2(self, x2)`; its dtype and layout stay. See `minisplit.atan2`."""
        return operations.atan2(self, x2, out=self)

    def atanh(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the inverse hyperbolic tangent of each element. See `minisplit.atanh`."""
        return operations.atanh(self, out=out, where=where)

    def atanh_(self) -> Self:
        """Change the array to `atanh(self)`; its dtype and layout stay. See `minisplit.atanh`."""
        return operations.atanh(self, out=self)

    def atleast_1d(self) -> DNDarray:
        """Return `x`, or a 1-d array of its element if it has no axes. See `minisplit.atleast_1d`."""
        return operations.atleast_1d(self)

    def atleast_2d(self) -> DNDarray:
        """Return `x` with axes of extent 1 up to two dimensions. A 1-d array becomes a row.

        See `minisplit.atleast_2d`.
        """
        return operations.atleast_2d(self)

    def atleast_3d(self) -> DNDarray:
        """Return `x` with axes of extent 1 up to three dimensions. See `minisplit.atleast_3d`."""
        return operations.atleast_3d(self)

    def average(
        self,
        axis: Axis = None,
        *more: Any,
        weights: DNDarray | None = None,
        keepdims: bool = False,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Compute the weighted mean along axes. See `minisplit.average`."""
        if others or more:
            axis, keepdims = _read("average", others, *more, axis=axis, keepdims=keepdims)
        return operations.average(self, axis, weights=weights, keepdims=keepdims)

    def bincount(self, weights: DNDarray | None = None, minlength: int = 0) -> DNDarray:
        """Count how often each integer from 0 to the greatest occurs. It is `numpy.bincount`.

        See `minisplit.bincount`.
        """
        return operations.bincount(self, weights, minlength)

    def bitwise_and(
        self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
    ) -> DNDarray:
        """Compute AND of the bits of two arrays, as the operator `&` does. See `minisplit.bitwise_and`."""
        return operations.bitwise_and(self, x2, out=out, where=where)

    def bitwise_and_(self, x2: Operand, /) -> Self:
        """Change the array to `bitwise_and(self, x2)`; its dtype and layout stay. See `minisplit.bitwise_and`."""
        return operations.bitwise_and(self, x2, out=self)

    def bitwise_invert(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Invert the bits of each element, as the operator `~` does. See `minisplit.bitwise_invert`."""
        return operations.bitwise_invert(self, out=out, where=where)

    def bitwise_invert_(self) -> Self:
        """Change the array to `bitwise_invert(self)`; its dtype and layout stay.

        See `minisplit.bitwise_invert`.
        """
        return operations.bitwise_invert(self, out=self)

    def bitwise_left_shift(
        self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
    ) -> DNDarray:
        """Shift the bits of integers to the left, as the operator `<<` does.

        See `minisplit.bitwise_left_shift`.
        """
        return operations.bitwise_left_shift(self, x2, out=out, where=where)

    def bitwise_left_shift_(self, x2: Operand, /) -> Self:
        """Change the array to `bitwise_left_shift(self, x2)`; its dtype and layout stay.

        See `minisplit.bitwise_left_shift`.
        """
        return operations.bitwise_left_shift(self, x2, out=self)

    def bitwise_not(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Invert the bits of each element, as the operator `~` does. See `minisplit.bitwise_invert`."""
        return operations.bitwise_invert(self, out=out, where=where)

    def bitwise_not_(self) -> Self:
        """Change the array to `bitwise_invert(self)`; its dtype and layout stay.

        See `minisplit.bitwise_invert`.
        """
        return operations.bitwise_invert(self, out=self)

    def bitwise_or(
        self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
    ) -> DNDarray:
        """Compute OR of the bits of two arrays, as the operator `|` does. See `minisplit.bitwise_or`."""
        return operations.bitwise_or(self, x2, out=out, where=where)

    def bitwise_or_(self, x2: Operand, /) -> Self:
        """Change the array to `bitwise_or(self, x2)`; its dtype and layout stay. See `minisplit.bitwise_or`."""
        return operations.bitwise_or(self, x2, out=self)

    def bitwise_right_shift(
        self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
    ) -> DNDarray:
        """Shift the bits of integers to the right, as the operator `>>` does.

        See `minisplit.bitwise_right_shift`.
        """
        return operations.bitwise_right_shift(self, x2, out=out, where=where)

    def bitwise_right_shift_(self, x2: Operand, /) -> Self:
        """Change the array to `bitwise_right_shift(self, x2)`; its dtype and layout stay.

        See `minisplit.bitwise_right_shift`.
        """
        return operations.bitwise_right_shift(self, x2, out=self)

    def bitwise_xor(
        self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
    ) -> DNDarray:
        """Compute exclusive OR of the bits of two arrays, as the operator `^` does.

        See `minisplit.bitwise_xor`.
        """
        return operations.bitwise_xor(self, x2, out=out, where=where)

    def bitwise_xor_(self, x2: Operand, /) -> Self:
        """Change the array to `bitwise_xor(self, x2)`; its dtype and layout stay. See `minisplit.bitwise_xor`."""
        return operations.bitwise_xor(self, x2, out=self)

    def bmm(self, x2: DNDarray, /, *, out: DNDarray | None = None) -> DNDarray:
        """Multiply matrices: `x1 @ x2`. See `minisplit.matmul`."""
        return operations.matmul(self, x2, out=out)

    def broadcast_to(self, shape: Sequence[int]) -> DNDarray:
        """Return `x` broadcast to a shape. See `minisplit.broadcast_to`."""
        return operations.broadcast_to(self, shape)

    def bucketize(self, boundaries: Any, *, right: bool = False) -> DNDarray:
        """Return which bucket each element of `x` is in. It is `torch.bucketize`. See `minisplit.bucketize`."""
        return operations.bucketize(self, boundaries, right=right)

    def can_cast(self, to: torch.dtype) -> bool:
        """Return whether a dtype can be cast to another by promotion. See `minisplit.can_cast`."""
        return operations.can_cast(self, to)

    def ceil(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Round each element up. See `minisplit.ceil`."""
        return operations.ceil(self, out=out, where=where)

    def ceil_(self) -> Self:
        """Change the array to `ceil(self)`; its dtype and layout stay. See `minisplit.ceil`."""
        return operations.ceil(self, out=self)

    def cholesky(self, *, upper: bool = False) -> DNDarray:
        """Return the Cholesky factors of symmetric or Hermitian positive definite matrices.

        See `minisplit.linalg.cholesky`.
        """
        return operations.linalg.cholesky(self, upper=upper)

    def choose(self, choices: Sequence[Operand], *, out: DNDarray | None = None, mode: str = "raise") -> DNDarray:
        """Choose each element from one of several arrays; `a` has the number of the array.

        See `minisplit.choose`.
        """
        return operations.choose(self, choices, out=out, mode=mode)

    def clamp(
        self,
        min: Operand | None = None,
        max: Operand | None = None,
        *,
        out: DNDarray | None = None,
        where: DNDarray | bool = True,
    ) -> DNDarray:
        """Limit each element to a range. See `minisplit.clip`."""
        return operations.clip(self, min, max, out=out, where=where)

    def clamp_(self, min: Operand | None = None, max: Operand | None = None) -> Self:
        """Change the array to `clip(self, min, max)`; its dtype and layout stay. See `minisplit.clip`."""
        return operations.clip(self, min, max, out=self)

    def clip(
        self,
        min: Operand | None = None,
        max: Operand | None = None,
        *,
        out: DNDarray | None = None,
        where: DNDarray | bool = True,
    ) -> DNDarray:
        """Limit each element to a range. See `minisplit.clip`."""
        return operations.clip(self, min, max, out=out, where=where)

    def clip_(self, min: Operand | None = None, max: Operand | None = None) -> Self:
        """Change the array to `clip(self, min, max)`; its dtype and layout stay. See `minisplit.clip`."""
        return operations.clip(self, min, max, out=self)

    def conj(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the complex conjugate of each element. See `minisplit.conj`."""
        return operations.conj(self, out=out, where=where)

    def conjugate(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the complex conjugate of each element. See `minisplit.conj`."""
        return operations.conj(self, out=out, where=where)

    def convolve(self, v: DNDarray, /, mode: str = "full") -> DNDarray:
        """Return the convolution of two arrays along their last axes. See `minisplit.convolve`."""
        return operations.convolve(self, v, mode)

    def convolve2d(self, v: DNDarray, /, mode: str = "full") -> DNDarray:
        """Return the convolution of matrices in their last two axes, such as an image and a kernel.

        See `minisplit.convolve2d`.
        """
        return operations.convolve2d(self, v, mode)

    def copysign(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Return the numbers of one array with the signs of another array. See `minisplit.copysign`."""
        return operations.copysign(self, x2, out=out, where=where)

    def copysign_(self, x2: Operand, /) -> Self:
        """Change the array to `copysign(self, x2)`; its dtype and layout stay. See `minisplit.copysign`."""
        return operations.copysign(self, x2, out=self)

    def copyto(self, src: Operand, /, *, where: DNDarray | bool = True) -> None:
        """Copy elements into an array, in place. See `minisplit.copyto`."""
        return operations.copyto(self, src, where=where)

    def corrcoef(self, y: DNDarray | None = None, rowvar: bool = True) -> DNDarray:
        """Return the correlations of variables: covariances divided by the roots of the variances.

        See `minisplit.corrcoef`.
        """
        return operations.corrcoef(self, y, rowvar)

    def cos(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the cosine of each element. See `minisplit.cos`."""
        return operations.cos(self, out=out, where=where)

    def cos_(self) -> Self:
        """Change the array to `cos(self)`; its dtype and layout stay. See `minisplit.cos`."""
        return operations.cos(self, out=self)

    def cosh(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the hyperbolic cosine of each element. See `minisplit.cosh`."""
        return operations.cosh(self, out=out, where=where)

    def cosh_(self) -> Self:
        """Change the array to `cosh(self)`; its dtype and layout stay. See `minisplit.cosh`."""
        return operations.cosh(self, out=self)

    def count_nonzero(
        self, axis: Axis = None, *more: Any, keepdims: bool = False, **others: Unpack[TorchNames]
    ) -> DNDarray:
        """Count the nonzero elements along axes. See `minisplit.count_nonzero`."""
        if others or more:
            axis, keepdims = _read("count_nonzero", others, *more, axis=axis, keepdims=keepdims)
        return operations.count_nonzero(self, axis, keepdims=keepdims)

    def cov(
        self,
        y: DNDarray | None = None,
        rowvar: bool = True,
        bias: bool = False,
        ddof: int | None = None,
        fweights: DNDarray | None = None,
        aweights: DNDarray | None = None,
    ) -> DNDarray:
        """Return the covariances of variables, as NumPy's `cov`. See `minisplit.cov`."""
        return operations.cov(self, y, rowvar, bias, ddof, fweights, aweights)

    def cross(
        self,
        x2: DNDarray,
        /,
        axisa: int = -1,
        axisb: int = -1,
        axisc: int = -1,
        axis: int = -1,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return the cross products of vectors of length 3. See `minisplit.cross`."""
        if others:
            axis = _read("cross", others, axis=axis)
        return operations.cross(self, x2, axisa, axisb, axisc, axis)

    def cumprod(
        self,
        axis: int | None = None,
        *,
        dtype: Dtype = None,
        out: DNDarray | None = None,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Compute the running products along an axis, or of all elements in row-major order.

        See `minisplit.cumprod`.
        """
        if others:
            axis = _read("cumprod", others, axis=axis)
        return operations.cumprod(self, axis, dtype=dtype, out=out)

    def cumsum(
        self,
        axis: int | None = None,
        *,
        dtype: Dtype = None,
        out: DNDarray | None = None,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Compute the running sums along an axis, or of all elements in row-major order.

        See `minisplit.cumsum`.
        """
        if others:
            axis = _read("cumsum", others, axis=axis)
        return operations.cumsum(self, axis, dtype=dtype, out=out)

    def cumulative_prod(
        self,
        axis: int | None = None,
        *,
        dtype: Dtype = None,
        include_initial: bool = False,
        out: DNDarray | None = None,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Compute the running products along an axis. See `minisplit.cumulative_prod`."""
        if others:
            axis = _read("cumulative_prod", others, axis=axis)
        return operations.cumulative_prod(self, axis, dtype=dtype, include_initial=include_initial, out=out)

    def cumulative_sum(
        self,
        axis: int | None = None,
        *,
        dtype: Dtype = None,
        include_initial: bool = False,
        out: DNDarray | None = None,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Compute the running sums along an axis. See `minisplit.cumulative_sum`."""
        if others:
            axis = _read("cumulative_sum", others, axis=axis)
        return operations.cumulative_sum(self, axis, dtype=dtype, include_initial=include_initial, out=out)

    def deg2rad(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Convert each element from degrees to radians. See `minisplit.deg2rad`."""
        return operations.deg2rad(self, out=out, where=where)

    def deg2rad_(self) -> Self:
        """Change the array to `deg2rad(self)`; its dtype and layout stay. See `minisplit.deg2rad`."""
        return operations.deg2rad(self, out=self)

    def det(self) -> DNDarray:
        """Return the determinants of square matrices. See `minisplit.linalg.det`."""
        return operations.linalg.det(self)

    def diag(self, k: int = 0) -> DNDarray:
        """Return the matrix that has a 1-d array on a diagonal, or a diagonal of a matrix.

        See `minisplit.diag`.
        """
        return operations.diag(self, k)

    def diff(
        self,
        n: int = 1,
        axis: int = -1,
        prepend: DNDarray | complex | None = None,
        append: DNDarray | complex | None = None,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return the differences of neighbours along an axis. See `minisplit.diff`."""
        if others:
            axis = _read("diff", others, axis=axis)
        return operations.diff(self, n, axis, prepend, append)

    def digitize(self, bins: Any, right: bool = False) -> DNDarray:
        """Return which bin each element of `x` is in. It is `numpy.digitize`. See `minisplit.digitize`."""
        return operations.digitize(self, bins, right)

    def div(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Divide two arrays, element by element. See `minisplit.divide`."""
        return operations.divide(self, x2, out=out, where=where)

    def div_(self, x2: Operand, /) -> Self:
        """Change the array to `divide(self, x2)`; its dtype and layout stay. See `minisplit.divide`."""
        return operations.divide(self, x2, out=self)

    def divide(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Divide two arrays, element by element. See `minisplit.divide`."""
        return operations.divide(self, x2, out=out, where=where)

    def divide_(self, x2: Operand, /) -> Self:
        """Change the array to `divide(self, x2)`; its dtype and layout stay. See `minisplit.divide`."""
        return operations.divide(self, x2, out=self)

    def divmod(self, x2: Operand, /) -> tuple[DNDarray, DNDarray]:
        """Divide two arrays and round down, element by element, and return the remainders as well.

        See `minisplit.divmod`.
        """
        return operations.divmod(self, x2)

    def dot(self, x2: DNDarray, /, *, out: DNDarray | None = None) -> DNDarray:
        """Multiply arrays as NumPy's `dot`, summed over the last axis of `x1` and the last but one of `x2`.

        See `minisplit.dot`.
        """
        return operations.dot(self, x2, out=out)

    def dsplit(self, indices_or_sections: int | Sequence[int]) -> list[DNDarray]:
        """Divide `x` along axis 2 into equal parts. See `minisplit.dsplit`."""
        return operations.dsplit(self, indices_or_sections)

    def ediff1d(
        self, to_end: DNDarray | complex | None = None, to_begin: DNDarray | complex | None = None
    ) -> DNDarray:
        """Return the differences of neighbours among all elements, in row-major order. See `minisplit.ediff1d`."""
        return operations.ediff1d(self, to_end, to_begin)

    def eq(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compare two arrays, element by element: whether `x1 == x2`. See `minisplit.equal`."""
        return operations.equal(self, x2, out=out, where=where)

    def equal(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compare two arrays, element by element: whether `x1 == x2`. See `minisplit.equal`."""
        return operations.equal(self, x2, out=out, where=where)

    def exp(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the exponential function of each element. See `minisplit.exp`."""
        return operations.exp(self, out=out, where=where)

    def exp_(self) -> Self:
        """Change the array to `exp(self)`; its dtype and layout stay. See `minisplit.exp`."""
        return operations.exp(self, out=self)

    def exp2(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute 2 to the power of each element. See `minisplit.exp2`."""
        return operations.exp2(self, out=out, where=where)

    def exp2_(self) -> Self:
        """Change the array to `exp2(self)`; its dtype and layout stay. See `minisplit.exp2`."""
        return operations.exp2(self, out=self)

    def expand_dims(self, axis: int | Sequence[int] = 0, **others: Unpack[TorchNames]) -> DNDarray:
        """Return `x` with additional axes of extent 1. See `minisplit.expand_dims`."""
        if others:
            axis = _read("expand_dims", others, axis=axis)
        return operations.expand_dims(self, axis)

    def expm1(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute `exp(x) - 1` of each element, precisely even near 0. See `minisplit.expm1`."""
        return operations.expm1(self, out=out, where=where)

    def expm1_(self) -> Self:
        """Change the array to `expm1(self)`; its dtype and layout stay. See `minisplit.expm1`."""
        return operations.expm1(self, out=self)

    def fabs(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the absolute value of each element. See `minisplit.abs`."""
        return operations.abs(self, out=out, where=where)

    def fabs_(self) -> Self:
        """Change the array to `abs(self)`; its dtype and layout stay. See `minisplit.abs`."""
        return operations.abs(self, out=self)

    def fill_diagonal(self, val: Any, wrap: bool = False) -> None:
        """Set the main diagonal of an array, in place. It is `numpy.fill_diagonal`.

        See `minisplit.fill_diagonal`.
        """
        return operations.fill_diagonal(self, val, wrap)

    def fix(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Round each element towards zero, under NumPy's name for `trunc`. See `minisplit.fix`."""
        return operations.fix(self, out=out, where=where)

    def fix_(self) -> Self:
        """Change the array to `fix(self)`; its dtype and layout stay. See `minisplit.fix`."""
        return operations.fix(self, out=self)

    def flatnonzero(self) -> DNDarray:
        """Return the indices of the nonzero elements in the array flattened in row-major order.

        See `minisplit.flatnonzero`.
        """
        return operations.flatnonzero(self)

    def fliplr(self) -> DNDarray:
        """Return `x` with its elements in reverse order along axis 1. See `minisplit.fliplr`."""
        return operations.fliplr(self)

    def flipud(self) -> DNDarray:
        """Return `x` with its elements in reverse order along axis 0. See `minisplit.flipud`."""
        return operations.flipud(self)

    def floor(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Round each element down. See `minisplit.floor`."""
        return operations.floor(self, out=out, where=where)

    def floor_(self) -> Self:
        """Change the array to `floor(self)`; its dtype and layout stay. See `minisplit.floor`."""
        return operations.floor(self, out=self)

    def floor_divide(
        self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
    ) -> DNDarray:
        """Divide two arrays and round down, element by element. See `minisplit.floor_divide`."""
        return operations.floor_divide(self, x2, out=out, where=where)

    def floor_divide_(self, x2: Operand, /) -> Self:
        """Change the array to `floor_divide(self, x2)`; its dtype and layout stay.

        See `minisplit.floor_divide`.
        """
        return operations.floor_divide(self, x2, out=self)

    def fmax(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Return the greater of two elements, or the one that is not NaN. See `minisplit.fmax`."""
        return operations.fmax(self, x2, out=out, where=where)

    def fmax_(self, x2: Operand, /) -> Self:
        """Change the array to `fmax(self, x2)`; its dtype and layout stay. See `minisplit.fmax`."""
        return operations.fmax(self, x2, out=self)

    def fmin(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Return the lesser of two elements, or the one that is not NaN. See `minisplit.fmin`."""
        return operations.fmin(self, x2, out=out, where=where)

    def fmin_(self, x2: Operand, /) -> Self:
        """Change the array to `fmin(self, x2)`; its dtype and layout stay. See `minisplit.fmin`."""
        return operations.fmin(self, x2, out=self)

    def fmod(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the remainders of divisions that round towards zero. See `minisplit.fmod`."""
        return operations.fmod(self, x2, out=out, where=where)

    def fmod_(self, x2: Operand, /) -> Self:
        """Change the array to `fmod(self, x2)`; its dtype and layout stay. See `minisplit.fmod`."""
        return operations.fmod(self, x2, out=self)

    def gcd(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the greatest common divisor of two arrays, element by element. See `minisplit.gcd`."""
        return operations.gcd(self, x2, out=out, where=where)

    def gcd_(self, x2: Operand, /) -> Self:
        """Change the array to `gcd(self, x2)`; its dtype and layout stay. See `minisplit.gcd`."""
        return operations.gcd(self, x2, out=self)

    def ge(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compare two arrays, element by element: whether `x1 >= x2`. See `minisplit.greater_equal`."""
        return operations.greater_equal(self, x2, out=out, where=where)

    def ge_(self, x2: Operand, /) -> Self:
        """Change the array to `greater_equal(self, x2)`; its dtype and layout stay.

        See `minisplit.greater_equal`.
        """
        return operations.greater_equal(self, x2, out=self)

    def ger(self, x2: DNDarray, /, *, out: DNDarray | None = None) -> DNDarray:
        """Return the products of each element of a vector and each of another: `x1[i] * x2[j]` at (i, j).

        See `minisplit.outer`.
        """
        return operations.outer(self, x2, out=out)

    def gradient(
        self,
        *varargs: Any,
        axis: int | tuple[int, ...] | None = None,
        edge_order: int = 1,
        **others: Unpack[TorchNames],
    ) -> DNDarray | tuple[DNDarray, ...]:
        """Return the slopes of `f` along axes, by differences of neighbours. It is `numpy.gradient`.

        See `minisplit.gradient`.
        """
        if others:
            axis = _read("gradient", others, axis=axis)
        return operations.gradient(self, *varargs, axis=axis, edge_order=edge_order)

    def greater(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compare two arrays, element by element: whether `x1 > x2`. See `minisplit.greater`."""
        return operations.greater(self, x2, out=out, where=where)

    def greater_(self, x2: Operand, /) -> Self:
        """Change the array to `greater(self, x2)`; its dtype and layout stay. See `minisplit.greater`."""
        return operations.greater(self, x2, out=self)

    def greater_equal(
        self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
    ) -> DNDarray:
        """Compare two arrays, element by element: whether `x1 >= x2`. See `minisplit.greater_equal`."""
        return operations.greater_equal(self, x2, out=out, where=where)

    def greater_equal_(self, x2: Operand, /) -> Self:
        """Change the array to `greater_equal(self, x2)`; its dtype and layout stay.

        See `minisplit.greater_equal`.
        """
        return operations.greater_equal(self, x2, out=self)

    def gt(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compare two arrays, element by element: whether `x1 > x2`. See `minisplit.greater`."""
        return operations.greater(self, x2, out=out, where=where)

    def gt_(self, x2: Operand, /) -> Self:
        """Change the array to `greater(self, x2)`; its dtype and layout stay. See `minisplit.greater`."""
        return operations.greater(self, x2, out=self)

    def halo(
        self,
        width: Any,
        axis: Any = None,
        *,
        mode: str = "valid",
        constant_values: complex = 0,
        **others: Unpack[TorchNames],
    ) -> torch.Tensor:
        """Return this rank's shard with its halo: the elements around it, which other ranks have (ghost cells).

        See `minisplit.halo`.
        """
        if others:
            axis = _read("halo", others, axis=axis)
        return operations.halo(self, width, axis, mode=mode, constant_values=constant_values)

    def heaviside(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the Heaviside step function. See `minisplit.heaviside`."""
        return operations.heaviside(self, x2, out=out, where=where)

    def heaviside_(self, x2: Operand, /) -> Self:
        """Change the array to `heaviside(self, x2)`; its dtype and layout stay. See `minisplit.heaviside`."""
        return operations.heaviside(self, x2, out=self)

    def histogram(
        self,
        bins: Any = 10,
        range: tuple[float | DNDarray, float | DNDarray] | None = None,
        weights: DNDarray | None = None,
        density: bool = False,
    ) -> tuple[DNDarray, DNDarray]:
        """Count the elements of `x` in bins. It is `numpy.histogram`. See `minisplit.histogram`."""
        return operations.histogram(self, bins, range, weights, density)

    def histogram2d(
        self,
        y: DNDarray,
        bins: Any = 10,
        range: Sequence[tuple[float, float] | None] | None = None,
        density: bool = False,
        weights: DNDarray | None = None,
    ) -> tuple[DNDarray, DNDarray, DNDarray]:
        """Count points of a plane in the cells of a grid. It is `numpy.histogram2d`.

        See `minisplit.histogram2d`.
        """
        return operations.histogram2d(self, y, bins, range, density, weights)

    def hsplit(self, indices_or_sections: int | Sequence[int]) -> list[DNDarray]:
        """Divide `x` along axis 1 into equal parts, or a 1-d array along axis 0. See `minisplit.hsplit`."""
        return operations.hsplit(self, indices_or_sections)

    def hypot(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the length of the hypotenuse for the legs in two arrays. See `minisplit.hypot`."""
        return operations.hypot(self, x2, out=out, where=where)

    def hypot_(self, x2: Operand, /) -> Self:
        """Change the array to `hypot(self, x2)`; its dtype and layout stay. See `minisplit.hypot`."""
        return operations.hypot(self, x2, out=self)

    def inner(self, x2: DNDarray, /) -> DNDarray:
        """Multiply arrays as NumPy's `inner`, summed over the last axes of both. See `minisplit.inner`."""
        return operations.inner(self, x2)

    def interp(
        self,
        xp: Any,
        fp: Any,
        left: complex | None = None,
        right: complex | None = None,
        period: float | None = None,
    ) -> DNDarray:
        """Interpolate linearly between the points of a table. It is `numpy.interp`. See `minisplit.interp`."""
        return operations.interp(self, xp, fp, left, right, period)

    def intersect1d(
        self, x2: DNDarray, /, assume_unique: bool = False, return_indices: bool = False
    ) -> DNDarray | tuple[DNDarray, DNDarray, DNDarray]:
        """Return the distinct elements that two arrays have in common. See `minisplit.intersect1d`."""
        return operations.intersect1d(self, x2, assume_unique, return_indices)

    def inv(self) -> DNDarray:
        """Return the inverses of square matrices. See `minisplit.linalg.inv`."""
        return operations.linalg.inv(self)

    def inverse(self) -> DNDarray:
        """Return the inverses of square matrices. See `minisplit.linalg.inv`."""
        return operations.linalg.inv(self)

    def invert(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Invert the bits of each element, as the operator `~` does. See `minisplit.bitwise_invert`."""
        return operations.bitwise_invert(self, out=out, where=where)

    def invert_(self) -> Self:
        """Change the array to `bitwise_invert(self)`; its dtype and layout stay.

        See `minisplit.bitwise_invert`.
        """
        return operations.bitwise_invert(self, out=self)

    def isclose(
        self, x2: Operand, /, *, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
    ) -> DNDarray:
        """Return whether elements are equal within a tolerance. See `minisplit.isclose`."""
        return operations.isclose(self, x2, rtol=rtol, atol=atol, equal_nan=equal_nan)

    def iscomplex(self) -> DNDarray:
        """Return whether the imaginary part of each element is not 0. See `minisplit.iscomplex`."""
        return operations.iscomplex(self)

    def isfinite(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Return whether each element is a finite number. See `minisplit.isfinite`."""
        return operations.isfinite(self, out=out, where=where)

    def isin(self, x2: Operand, /, *, assume_unique: bool = False, invert: bool = False) -> DNDarray:
        """Test whether each element of one array is in another. See `minisplit.isin`."""
        return operations.isin(self, x2, assume_unique=assume_unique, invert=invert)

    def isinf(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Return whether each element is infinite. See `minisplit.isinf`."""
        return operations.isinf(self, out=out, where=where)

    def isnan(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Return whether each element is NaN. See `minisplit.isnan`."""
        return operations.isnan(self, out=out, where=where)

    def isneginf(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Return whether each element is -inf. See `minisplit.isneginf`."""
        return operations.isneginf(self, out=out, where=where)

    def isposinf(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Return whether each element is inf. See `minisplit.isposinf`."""
        return operations.isposinf(self, out=out, where=where)

    def isreal(self) -> DNDarray:
        """Return whether the imaginary part of each element is 0. See `minisplit.isreal`."""
        return operations.isreal(self)

    def kron(self, x2: DNDarray, /) -> DNDarray:
        """Return the Kronecker product: each element of `x1` times all of `x2`, side by side.

        See `minisplit.kron`.
        """
        return operations.kron(self, x2)

    def kurtosis(
        self,
        axis: Axis = None,
        *more: Any,
        unbiased: bool = True,
        fisher: bool = True,
        keepdims: bool = False,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Compute the kurtosis along axes: the fourth moment about the mean, in units of the deviation.

        See `minisplit.kurtosis`.
        """
        if others or more:
            axis, keepdims = _read("kurtosis", others, *more, axis=axis, keepdims=keepdims)
        return operations.kurtosis(self, axis, unbiased=unbiased, fisher=fisher, keepdims=keepdims)

    def lcm(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the least common multiple of two arrays, element by element. See `minisplit.lcm`."""
        return operations.lcm(self, x2, out=out, where=where)

    def lcm_(self, x2: Operand, /) -> Self:
        """Change the array to `lcm(self, x2)`; its dtype and layout stay. See `minisplit.lcm`."""
        return operations.lcm(self, x2, out=self)

    def le(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compare two arrays, element by element: whether `x1 <= x2`. See `minisplit.less_equal`."""
        return operations.less_equal(self, x2, out=out, where=where)

    def le_(self, x2: Operand, /) -> Self:
        """Change the array to `less_equal(self, x2)`; its dtype and layout stay. See `minisplit.less_equal`."""
        return operations.less_equal(self, x2, out=self)

    def less(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compare two arrays, element by element: whether `x1 < x2`. See `minisplit.less`."""
        return operations.less(self, x2, out=out, where=where)

    def less_(self, x2: Operand, /) -> Self:
        """Change the array to `less(self, x2)`; its dtype and layout stay. See `minisplit.less`."""
        return operations.less(self, x2, out=self)

    def less_equal(
        self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
    ) -> DNDarray:
        """Compare two arrays, element by element: whether `x1 <= x2`. See `minisplit.less_equal`."""
        return operations.less_equal(self, x2, out=out, where=where)

    def less_equal_(self, x2: Operand, /) -> Self:
        """Change the array to `less_equal(self, x2)`; its dtype and layout stay. See `minisplit.less_equal`."""
        return operations.less_equal(self, x2, out=self)

    def log(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the natural logarithm of each element. See `minisplit.log`."""
        return operations.log(self, out=out, where=where)

    def log_(self) -> Self:
        """Change the array to `log(self)`; its dtype and layout stay. See `minisplit.log`."""
        return operations.log(self, out=self)

    def log10(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the logarithm to base 10 of each element. See `minisplit.log10`."""
        return operations.log10(self, out=out, where=where)

    def log10_(self) -> Self:
        """Change the array to `log10(self)`; its dtype and layout stay. See `minisplit.log10`."""
        return operations.log10(self, out=self)

    def log1p(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute `log(1 + x)` of each element, precisely even near 0. See `minisplit.log1p`."""
        return operations.log1p(self, out=out, where=where)

    def log1p_(self) -> Self:
        """Change the array to `log1p(self)`; its dtype and layout stay. See `minisplit.log1p`."""
        return operations.log1p(self, out=self)

    def log2(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the logarithm to base 2 of each element. See `minisplit.log2`."""
        return operations.log2(self, out=out, where=where)

    def log2_(self) -> Self:
        """Change the array to `log2(self)`; its dtype and layout stay. See `minisplit.log2`."""
        return operations.log2(self, out=self)

    def logaddexp(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the logarithm of the sum of the exponentials of two arrays. See `minisplit.logaddexp`."""
        return operations.logaddexp(self, x2, out=out, where=where)

    def logaddexp_(self, x2: Operand, /) -> Self:
        """Change the array to `logaddexp(self, x2)`; its dtype and layout stay. See `minisplit.logaddexp`."""
        return operations.logaddexp(self, x2, out=self)

    def logaddexp2(
        self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
    ) -> DNDarray:
        """Compute the logarithm, to base 2, of the sum of the powers of 2 of two arrays.

        See `minisplit.logaddexp2`.
        """
        return operations.logaddexp2(self, x2, out=out, where=where)

    def logaddexp2_(self, x2: Operand, /) -> Self:
        """Change the array to `logaddexp2(self, x2)`; its dtype and layout stay. See `minisplit.logaddexp2`."""
        return operations.logaddexp2(self, x2, out=self)

    def logical_and(
        self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
    ) -> DNDarray:
        """Return whether both of two elements are true. See `minisplit.logical_and`."""
        return operations.logical_and(self, x2, out=out, where=where)

    def logical_and_(self, x2: Operand, /) -> Self:
        """Change the array to `logical_and(self, x2)`; its dtype and layout stay. See `minisplit.logical_and`."""
        return operations.logical_and(self, x2, out=self)

    def logical_not(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Return whether each element is false. See `minisplit.logical_not`."""
        return operations.logical_not(self, out=out, where=where)

    def logical_not_(self) -> Self:
        """Change the array to `logical_not(self)`; its dtype and layout stay. See `minisplit.logical_not`."""
        return operations.logical_not(self, out=self)

    def logical_or(
        self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
    ) -> DNDarray:
        """Return whether at least one of two elements is true. See `minisplit.logical_or`."""
        return operations.logical_or(self, x2, out=out, where=where)

    def logical_or_(self, x2: Operand, /) -> Self:
        """Change the array to `logical_or(self, x2)`; its dtype and layout stay. See `minisplit.logical_or`."""
        return operations.logical_or(self, x2, out=self)

    def logical_xor(
        self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
    ) -> DNDarray:
        """Return whether exactly one of two elements is true. See `minisplit.logical_xor`."""
        return operations.logical_xor(self, x2, out=out, where=where)

    def logical_xor_(self, x2: Operand, /) -> Self:
        """Change the array to `logical_xor(self, x2)`; its dtype and layout stay. See `minisplit.logical_xor`."""
        return operations.logical_xor(self, x2, out=self)

    def logsumexp(
        self, axis: Axis = None, *more: Any, keepdims: bool = False, **others: Unpack[TorchNames]
    ) -> DNDarray:
        """Compute the logarithm of the sum of exponentials along axes. See `minisplit.logsumexp`."""
        if others or more:
            axis, keepdims = _read("logsumexp", others, *more, axis=axis, keepdims=keepdims)
        return operations.logsumexp(self, axis, keepdims=keepdims)

    def lt(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compare two arrays, element by element: whether `x1 < x2`. See `minisplit.less`."""
        return operations.less(self, x2, out=out, where=where)

    def lt_(self, x2: Operand, /) -> Self:
        """Change the array to `less(self, x2)`; its dtype and layout stay. See `minisplit.less`."""
        return operations.less(self, x2, out=self)

    def matmul(self, x2: DNDarray, /, *, out: DNDarray | None = None) -> DNDarray:
        """Multiply matrices: `x1 @ x2`. See `minisplit.matmul`."""
        return operations.matmul(self, x2, out=out)

    def matrix_exp(self) -> DNDarray:
        """Return the exponentials of square matrices. See `minisplit.linalg.matrix_exp`."""
        return operations.linalg.matrix_exp(self)

    def matrix_power(self, n: int) -> DNDarray:
        """Return powers of square matrices. See `minisplit.linalg.matrix_power`."""
        return operations.linalg.matrix_power(self, n)

    def matrix_transpose(self) -> DNDarray:
        """Return `x` with its last two axes swapped. See `minisplit.matrix_transpose`."""
        return operations.matrix_transpose(self)

    def max(
        self,
        axis: Axis = None,
        *more: Any,
        keepdims: bool = False,
        out: DNDarray | None = None,
        initial: complex | None = None,
        where: DNDarray | bool = True,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return the greatest element along axes. See `minisplit.max`."""
        if others or more:
            axis, keepdims = _read("max", others, *more, axis=axis, keepdims=keepdims)
        return operations.max(self, axis, keepdims=keepdims, out=out, initial=initial, where=where)

    def maximum(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Return the greater of two elements. See `minisplit.maximum`."""
        return operations.maximum(self, x2, out=out, where=where)

    def maximum_(self, x2: Operand, /) -> Self:
        """Change the array to `maximum(self, x2)`; its dtype and layout stay. See `minisplit.maximum`."""
        return operations.maximum(self, x2, out=self)

    def mean(
        self,
        axis: Axis = None,
        *more: Any,
        dtype: Dtype = None,
        keepdims: bool = False,
        out: DNDarray | None = None,
        where: DNDarray | bool = True,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Compute the mean along axes. See `minisplit.mean`."""
        if others or more:
            axis, keepdims = _read("mean", others, *more, axis=axis, keepdims=keepdims)
        return operations.mean(self, axis, dtype=dtype, keepdims=keepdims, out=out, where=where)

    def median(
        self,
        axis: Axis = None,
        *more: Any,
        keepdims: bool = False,
        out: DNDarray | None = None,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return the median along axes. See `minisplit.median`."""
        if others or more:
            axis, keepdims = _read("median", others, *more, axis=axis, keepdims=keepdims)
        return operations.median(self, axis, keepdims=keepdims, out=out)

    def min(
        self,
        axis: Axis = None,
        *more: Any,
        keepdims: bool = False,
        out: DNDarray | None = None,
        initial: complex | None = None,
        where: DNDarray | bool = True,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return the least element along axes. See `minisplit.min`."""
        if others or more:
            axis, keepdims = _read("min", others, *more, axis=axis, keepdims=keepdims)
        return operations.min(self, axis, keepdims=keepdims, out=out, initial=initial, where=where)

    def minimum(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Return the lesser of two elements. See `minisplit.minimum`."""
        return operations.minimum(self, x2, out=out, where=where)

    def minimum_(self, x2: Operand, /) -> Self:
        """Change the array to `minimum(self, x2)`; its dtype and layout stay. See `minisplit.minimum`."""
        return operations.minimum(self, x2, out=self)

    def mm(self, x2: DNDarray, /, *, out: DNDarray | None = None) -> DNDarray:
        """Multiply matrices: `x1 @ x2`. See `minisplit.matmul`."""
        return operations.matmul(self, x2, out=out)

    def mod(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the remainders of divisions that round down, as the operator `%` does.

        See `minisplit.remainder`.
        """
        return operations.remainder(self, x2, out=out, where=where)

    def mod_(self, x2: Operand, /) -> Self:
        """Change the array to `remainder(self, x2)`; its dtype and layout stay. See `minisplit.remainder`."""
        return operations.remainder(self, x2, out=self)

    def modf(self) -> tuple[DNDarray, DNDarray]:
        """Divide each element into a fraction and a whole number. See `minisplit.modf`."""
        return operations.modf(self)

    def moveaxis(self, source: int | Sequence[int], destination: int | Sequence[int]) -> DNDarray:
        """Return `x` with some axes moved to other places; the other axes keep their order.

        See `minisplit.moveaxis`.
        """
        return operations.moveaxis(self, source, destination)

    def movedim(self, source: int | Sequence[int], destination: int | Sequence[int]) -> DNDarray:
        """Return `x` with some axes moved to other places; the other axes keep their order.

        See `minisplit.moveaxis`.
        """
        return operations.moveaxis(self, source, destination)

    def mul(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Multiply two arrays, element by element. See `minisplit.multiply`."""
        return operations.multiply(self, x2, out=out, where=where)

    def mul_(self, x2: Operand, /) -> Self:
        """Change the array to `multiply(self, x2)`; its dtype and layout stay. See `minisplit.multiply`."""
        return operations.multiply(self, x2, out=self)

    def multiply(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Multiply two arrays, element by element. See `minisplit.multiply`."""
        return operations.multiply(self, x2, out=out, where=where)

    def multiply_(self, x2: Operand, /) -> Self:
        """Change the array to `multiply(self, x2)`; its dtype and layout stay. See `minisplit.multiply`."""
        return operations.multiply(self, x2, out=self)

    def mv(self, x2: DNDarray, /, *, out: DNDarray | None = None) -> DNDarray:
        """Multiply matrices: `x1 @ x2`. See `minisplit.matmul`."""
        return operations.matmul(self, x2, out=out)

    def nan_to_num(self, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> DNDarray:
        """Replace NaN and infinities by numbers. See `minisplit.nan_to_num`."""
        return operations.nan_to_num(self, nan, posinf, neginf)

    def nanargmax(
        self,
        axis: int | None = None,
        *more: Any,
        keepdims: bool = False,
        out: DNDarray | None = None,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return the index of the greatest element along an axis that is not NaN, or in the whole array.

        See `minisplit.nanargmax`.
        """
        if others or more:
            axis, keepdims = _read("nanargmax", others, *more, axis=axis, keepdims=keepdims)
        return operations.nanargmax(self, axis, keepdims=keepdims, out=out)

    def nanargmin(
        self,
        axis: int | None = None,
        *more: Any,
        keepdims: bool = False,
        out: DNDarray | None = None,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return the index of the least element along an axis that is not NaN, or in the whole array.

        See `minisplit.nanargmin`.
        """
        if others or more:
            axis, keepdims = _read("nanargmin", others, *more, axis=axis, keepdims=keepdims)
        return operations.nanargmin(self, axis, keepdims=keepdims, out=out)

    def nancumprod(
        self,
        axis: int | None = None,
        *,
        dtype: Dtype = None,
        out: DNDarray | None = None,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Compute the running products of the elements that are not NaN, along an axis or of all elements.

        See `minisplit.nancumprod`.
        """
        if others:
            axis = _read("nancumprod", others, axis=axis)
        return operations.nancumprod(self, axis, dtype=dtype, out=out)

    def nancumsum(
        self,
        axis: int | None = None,
        *,
        dtype: Dtype = None,
        out: DNDarray | None = None,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Compute the running sums of the elements that are not NaN, along an axis or of all elements.

        See `minisplit.nancumsum`.
        """
        if others:
            axis = _read("nancumsum", others, axis=axis)
        return operations.nancumsum(self, axis, dtype=dtype, out=out)

    def nanmax(
        self,
        axis: Axis = None,
        *more: Any,
        keepdims: bool = False,
        out: DNDarray | None = None,
        initial: complex | None = None,
        where: DNDarray | bool = True,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return the greatest element along axes that is not NaN. See `minisplit.nanmax`."""
        if others or more:
            axis, keepdims = _read("nanmax", others, *more, axis=axis, keepdims=keepdims)
        return operations.nanmax(self, axis, keepdims=keepdims, out=out, initial=initial, where=where)

    def nanmean(
        self,
        axis: Axis = None,
        *more: Any,
        keepdims: bool = False,
        dtype: Dtype = None,
        out: DNDarray | None = None,
        where: DNDarray | bool = True,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Compute the mean along axes of the elements that are not NaN. See `minisplit.nanmean`."""
        if others or more:
            axis, keepdims = _read("nanmean", others, *more, axis=axis, keepdims=keepdims)
        return operations.nanmean(self, axis, keepdims=keepdims, dtype=dtype, out=out, where=where)

    def nanmedian(
        self,
        axis: Axis = None,
        *more: Any,
        keepdims: bool = False,
        out: DNDarray | None = None,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return the median of the elements that are not NaN along axes. See `minisplit.nanmedian`."""
        if others or more:
            axis, keepdims = _read("nanmedian", others, *more, axis=axis, keepdims=keepdims)
        return operations.nanmedian(self, axis, keepdims=keepdims, out=out)

    def nanmin(
        self,
        axis: Axis = None,
        *more: Any,
        keepdims: bool = False,
        out: DNDarray | None = None,
        initial: complex | None = None,
        where: DNDarray | bool = True,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return the least element along axes that is not NaN. See `minisplit.nanmin`."""
        if others or more:
            axis, keepdims = _read("nanmin", others, *more, axis=axis, keepdims=keepdims)
        return operations.nanmin(self, axis, keepdims=keepdims, out=out, initial=initial, where=where)

    def nanpercentile(
        self,
        q: DNDarray | Sequence[float] | float,
        axis: Axis = None,
        *more: Any,
        method: str = "linear",
        keepdims: bool = False,
        out: DNDarray | None = None,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return percentiles of the elements that are not NaN along axes. See `minisplit.nanpercentile`."""
        if others or more:
            axis, keepdims = _read("nanpercentile", others, *more, axis=axis, keepdims=keepdims)
        return operations.nanpercentile(self, q, axis, method=method, keepdims=keepdims, out=out)

    def nanprod(
        self,
        axis: Axis = None,
        *more: Any,
        dtype: Dtype = None,
        keepdims: bool = False,
        out: DNDarray | None = None,
        initial: complex | None = None,
        where: DNDarray | bool = True,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Multiply the elements along axes that are not NaN. See `minisplit.nanprod`."""
        if others or more:
            axis, keepdims = _read("nanprod", others, *more, axis=axis, keepdims=keepdims)
        return operations.nanprod(
            self, axis, dtype=dtype, keepdims=keepdims, out=out, initial=initial, where=where
        )

    def nanquantile(
        self,
        q: DNDarray | Sequence[float] | float,
        axis: Axis = None,
        *more: Any,
        method: str = "linear",
        keepdims: bool = False,
        out: DNDarray | None = None,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return quantiles of the elements that are not NaN along axes. See `minisplit.nanquantile`."""
        if others or more:
            axis, keepdims = _read("nanquantile", others, *more, axis=axis, keepdims=keepdims)
        return operations.nanquantile(self, q, axis, method=method, keepdims=keepdims, out=out)

    def nanstd(
        self,
        axis: Axis = None,
        *more: Any,
        correction: float = 0.0,
        keepdims: bool = False,
        ddof: float | None = None,
        dtype: Dtype = None,
        out: DNDarray | None = None,
        where: DNDarray | bool = True,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Compute the standard deviation along axes of the elements that are not NaN. See `minisplit.nanstd`."""
        if others or more:
            axis, keepdims = _read("nanstd", others, *more, axis=axis, keepdims=keepdims)
        return operations.nanstd(
            self, axis, correction=correction, keepdims=keepdims, ddof=ddof, dtype=dtype, out=out, where=where
        )

    def nansum(
        self,
        axis: Axis = None,
        *more: Any,
        dtype: Dtype = None,
        keepdims: bool = False,
        out: DNDarray | None = None,
        initial: complex | None = None,
        where: DNDarray | bool = True,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Add up the elements along axes that are not NaN. See `minisplit.nansum`."""
        if others or more:
            axis, keepdims = _read("nansum", others, *more, axis=axis, keepdims=keepdims)
        return operations.nansum(self, axis, dtype=dtype, keepdims=keepdims, out=out, initial=initial, where=where)

    def nanvar(
        self,
        axis: Axis = None,
        *more: Any,
        correction: float = 0.0,
        keepdims: bool = False,
        ddof: float | None = None,
        dtype: Dtype = None,
        out: DNDarray | None = None,
        where: DNDarray | bool = True,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Compute the variance along axes of the elements that are not NaN. See `minisplit.nanvar`."""
        if others or more:
            axis, keepdims = _read("nanvar", others, *more, axis=axis, keepdims=keepdims)
        return operations.nanvar(
            self, axis, correction=correction, keepdims=keepdims, ddof=ddof, dtype=dtype, out=out, where=where
        )

    def ne(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compare two arrays, element by element: whether `x1 != x2`. See `minisplit.not_equal`."""
        return operations.not_equal(self, x2, out=out, where=where)

    def ne_(self, x2: Operand, /) -> Self:
        """Change the array to `not_equal(self, x2)`; its dtype and layout stay. See `minisplit.not_equal`."""
        return operations.not_equal(self, x2, out=self)

    def neg(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Negate each element. See `minisplit.negative`."""
        return operations.negative(self, out=out, where=where)

    def neg_(self) -> Self:
        """Change the array to `negative(self)`; its dtype and layout stay. See `minisplit.negative`."""
        return operations.negative(self, out=self)

    def negative(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Negate each element. See `minisplit.negative`."""
        return operations.negative(self, out=out, where=where)

    def negative_(self) -> Self:
        """Change the array to `negative(self)`; its dtype and layout stay. See `minisplit.negative`."""
        return operations.negative(self, out=self)

    def nextafter(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Return the next floating-point number after each element. See `minisplit.nextafter`."""
        return operations.nextafter(self, x2, out=out, where=where)

    def nextafter_(self, x2: Operand, /) -> Self:
        """Change the array to `nextafter(self, x2)`; its dtype and layout stay. See `minisplit.nextafter`."""
        return operations.nextafter(self, x2, out=self)

    def nonzero(self) -> tuple[DNDarray, ...]:
        """Return the indices of the nonzero elements. See `minisplit.nonzero`."""
        return operations.nonzero(self)

    def norm(
        self,
        ord: float | str | None = None,
        axis: Axis = None,
        *more: Any,
        keepdims: bool = False,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return norms of vectors or of matrices, as NumPy's `norm`. See `minisplit.norm`."""
        if others or more:
            axis, keepdims = _read("norm", others, *more, axis=axis, keepdims=keepdims)
        return operations.norm(self, ord, axis, keepdims=keepdims)

    def not_equal(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compare two arrays, element by element: whether `x1 != x2`. See `minisplit.not_equal`."""
        return operations.not_equal(self, x2, out=out, where=where)

    def not_equal_(self, x2: Operand, /) -> Self:
        """Change the array to `not_equal(self, x2)`; its dtype and layout stay. See `minisplit.not_equal`."""
        return operations.not_equal(self, x2, out=self)

    def outer(self, x2: DNDarray, /, *, out: DNDarray | None = None) -> DNDarray:
        """Return the products of each element of a vector and each of another: `x1[i] * x2[j]` at (i, j).

        See `minisplit.outer`.
        """
        return operations.outer(self, x2, out=out)

    def pad(self, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> DNDarray:
        """Return `x` with elements before and after it along its axes. See `minisplit.pad`."""
        return operations.pad(self, pad_width, mode, constant_values)

    def percentile(
        self,
        q: DNDarray | Sequence[float] | float,
        axis: Axis = None,
        *more: Any,
        method: str = "linear",
        keepdims: bool = False,
        out: DNDarray | None = None,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return percentiles along axes. See `minisplit.percentile`."""
        if others or more:
            axis, keepdims = _read("percentile", others, *more, axis=axis, keepdims=keepdims)
        return operations.percentile(self, q, axis, method=method, keepdims=keepdims, out=out)

    def permute_dims(self, axes: Sequence[int]) -> DNDarray:
        """Return `x` with its axes in another order. See `minisplit.permute_dims`."""
        return operations.permute_dims(self, axes)

    def piecewise(
        self,
        condlist: DNDarray | Sequence[DNDarray],
        funclist: Sequence[Callable[..., DNDarray] | complex],
        /,
        *args: Any,
        **kwargs: Any,
    ) -> DNDarray:
        """Compute a function that is defined by parts. See `minisplit.piecewise`."""
        return operations.piecewise(self, condlist, funclist, *args, **kwargs)

    def pinv(self, *, rtol: DNDarray | float | None = None) -> DNDarray:
        """Return the pseudo-inverses of matrices. See `minisplit.linalg.pinv`."""
        return operations.linalg.pinv(self, rtol=rtol)

    def pinverse(self, *, rtol: DNDarray | float | None = None) -> DNDarray:
        """Return the pseudo-inverses of matrices. See `minisplit.linalg.pinv`."""
        return operations.linalg.pinv(self, rtol=rtol)

    def polyfit(
        self, y: DNDarray, deg: int, rcond: DNDarray | float | None = None, *, w: DNDarray | None = None
    ) -> DNDarray:
        """Fit a polynomial to points by least squares. See `minisplit.polyfit`."""
        return operations.polyfit(self, y, deg, rcond, w=w)

    def positive(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Copy each element, as the operator `+x` does. See `minisplit.positive`."""
        return operations.positive(self, out=out, where=where)

    def positive_(self) -> Self:
        """Change the array to `positive(self)`; its dtype and layout stay. See `minisplit.positive`."""
        return operations.positive(self, out=self)

    def pow(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Raise the elements of an array to the powers in another. See `minisplit.pow`."""
        return operations.pow(self, x2, out=out, where=where)

    def pow_(self, x2: Operand, /) -> Self:
        """Change the array to `pow(self, x2)`; its dtype and layout stay. See `minisplit.pow`."""
        return operations.pow(self, x2, out=self)

    def prod(
        self,
        axis: Axis = None,
        *more: Any,
        dtype: Dtype = None,
        keepdims: bool = False,
        out: DNDarray | None = None,
        initial: complex | None = None,
        where: DNDarray | bool = True,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Multiply the elements along axes. See `minisplit.prod`."""
        if others or more:
            axis, keepdims = _read("prod", others, *more, axis=axis, keepdims=keepdims)
        return operations.prod(self, axis, dtype=dtype, keepdims=keepdims, out=out, initial=initial, where=where)

    def ptp(
        self,
        axis: Axis = None,
        *more: Any,
        keepdims: bool = False,
        out: DNDarray | None = None,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return the difference of the greatest and the least element along axes: peak to peak.

        See `minisplit.ptp`.
        """
        if others or more:
            axis, keepdims = _read("ptp", others, *more, axis=axis, keepdims=keepdims)
        return operations.ptp(self, axis, keepdims=keepdims, out=out)

    def qr(self, mode: Literal["reduced", "complete", "r"] = "reduced") -> Any:
        """Decompose matrices into orthonormal columns and upper triangles. See `minisplit.linalg.qr`."""
        return operations.linalg.qr(self, mode)

    def quantile(
        self,
        q: DNDarray | Sequence[float] | float,
        axis: Axis = None,
        *more: Any,
        method: str = "linear",
        keepdims: bool = False,
        out: DNDarray | None = None,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return quantiles along axes. See `minisplit.quantile`."""
        if others or more:
            axis, keepdims = _read("quantile", others, *more, axis=axis, keepdims=keepdims)
        return operations.quantile(self, q, axis, method=method, keepdims=keepdims, out=out)

    def rad2deg(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Convert each element from radians to degrees. See `minisplit.rad2deg`."""
        return operations.rad2deg(self, out=out, where=where)

    def rad2deg_(self) -> Self:
        """Change the array to `rad2deg(self)`; its dtype and layout stay. See `minisplit.rad2deg`."""
        return operations.rad2deg(self, out=self)

    def ravel(self) -> DNDarray:
        """Return the elements of `x`, in row-major order, as a 1-d array. See `minisplit.ravel`."""
        return operations.ravel(self)

    def reciprocal(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the reciprocal of each element. See `minisplit.reciprocal`."""
        return operations.reciprocal(self, out=out, where=where)

    def reciprocal_(self) -> Self:
        """Change the array to `reciprocal(self)`; its dtype and layout stay. See `minisplit.reciprocal`."""
        return operations.reciprocal(self, out=self)

    def remainder(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the remainders of divisions that round down, as the operator `%` does.

        See `minisplit.remainder`.
        """
        return operations.remainder(self, x2, out=out, where=where)

    def remainder_(self, x2: Operand, /) -> Self:
        """Change the array to `remainder(self, x2)`; its dtype and layout stay. See `minisplit.remainder`."""
        return operations.remainder(self, x2, out=self)

    def repeat_interleave(
        self, repeats: int | Sequence[int] | DNDarray, axis: int | None = None, **others: Unpack[TorchNames]
    ) -> DNDarray:
        """Repeat each index of an axis. See `minisplit.repeat`."""
        if others:
            axis = _read("repeat_interleave", others, axis=axis)
        return operations.repeat(self, repeats, axis)

    def rollaxis(self, axis: int, start: int = 0, **others: Unpack[TorchNames]) -> DNDarray:
        """Return `x` with one axis before another one. `moveaxis` is clearer. See `minisplit.rollaxis`."""
        if others:
            axis = _read("rollaxis", others, axis=axis)
        return operations.rollaxis(self, axis, start)

    def rot90(self, k: int = 1, axes: int | Sequence[int] = (0, 1)) -> DNDarray:
        """Rotate `x` by multiples of 90 degrees in the plane of two axes. See `minisplit.rot90`."""
        return operations.rot90(self, k, axes)

    def round(self, decimals: int = 0, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Round each element to the nearest whole number, or to a number of decimals. See `minisplit.round`."""
        return operations.round(self, decimals, out=out, where=where)

    def round_(self, decimals: int = 0) -> Self:
        """Change the array to `round(self, decimals)`; its dtype and layout stay. See `minisplit.round`."""
        return operations.round(self, decimals, out=self)

    def searchsorted(
        self, x2: DNDarray | float, /, *, side: Literal["left", "right"] = "left", sorter: DNDarray | None = None
    ) -> DNDarray:
        """Return where to insert elements in a sorted array, so that it stays sorted.

        See `minisplit.searchsorted`.
        """
        return operations.searchsorted(self, x2, side=side, sorter=sorter)

    def setdiff1d(self, x2: DNDarray, /, assume_unique: bool = False) -> DNDarray:
        """Return the distinct elements of one array that another does not have. See `minisplit.setdiff1d`."""
        return operations.setdiff1d(self, x2, assume_unique)

    def setxor1d(self, x2: DNDarray, /, assume_unique: bool = False) -> DNDarray:
        """Return the distinct elements that only one of two arrays has. See `minisplit.setxor1d`."""
        return operations.setxor1d(self, x2, assume_unique)

    def sgn(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Return the sign of each element. See `minisplit.sign`."""
        return operations.sign(self, out=out, where=where)

    def sgn_(self) -> Self:
        """Change the array to `sign(self)`; its dtype and layout stay. See `minisplit.sign`."""
        return operations.sign(self, out=self)

    def sign(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Return the sign of each element. See `minisplit.sign`."""
        return operations.sign(self, out=out, where=where)

    def sign_(self) -> Self:
        """Change the array to `sign(self)`; its dtype and layout stay. See `minisplit.sign`."""
        return operations.sign(self, out=self)

    def signbit(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Return whether the sign bit of each element is set. See `minisplit.signbit`."""
        return operations.signbit(self, out=out, where=where)

    def sin(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the sine of each element. See `minisplit.sin`."""
        return operations.sin(self, out=out, where=where)

    def sin_(self) -> Self:
        """Change the array to `sin(self)`; its dtype and layout stay. See `minisplit.sin`."""
        return operations.sin(self, out=self)

    def sinc(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the normalised cardinal sine of each element, `sin(pi x) / (pi x)`. See `minisplit.sinc`."""
        return operations.sinc(self, out=out, where=where)

    def sinc_(self) -> Self:
        """Change the array to `sinc(self)`; its dtype and layout stay. See `minisplit.sinc`."""
        return operations.sinc(self, out=self)

    def sinh(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the hyperbolic sine of each element. See `minisplit.sinh`."""
        return operations.sinh(self, out=out, where=where)

    def sinh_(self) -> Self:
        """Change the array to `sinh(self)`; its dtype and layout stay. See `minisplit.sinh`."""
        return operations.sinh(self, out=self)

    def skew(
        self,
        axis: Axis = None,
        *more: Any,
        unbiased: bool = True,
        keepdims: bool = False,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Compute the skewness along axes: the third moment about the mean, in units of the deviation.

        See `minisplit.skew`.
        """
        if others or more:
            axis, keepdims = _read("skew", others, *more, axis=axis, keepdims=keepdims)
        return operations.skew(self, axis, unbiased=unbiased, keepdims=keepdims)

    def sliding_window_view(
        self, window_shape: int | tuple[int, ...], axis: Any = None, **others: Unpack[TorchNames]
    ) -> DNDarray:
        """Return all windows of a given shape into an array. It is `numpy.lib.stride_tricks.sliding_window_view`.

        See `minisplit.sliding_window_view`.
        """
        if others:
            axis = _read("sliding_window_view", others, axis=axis)
        return operations.sliding_window_view(self, window_shape, axis)

    def slogdet(self) -> tuple[DNDarray, DNDarray]:
        """Return the signs, and logarithms of the absolute values, of the determinants of square matrices.

        See `minisplit.linalg.slogdet`.
        """
        return operations.linalg.slogdet(self)

    def sort(
        self,
        axis: int | None = -1,
        *,
        descending: bool = False,
        stable: bool = True,
        kind: str | None = None,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Sort the elements along an axis. See `minisplit.sort`."""
        if others:
            axis = _read("sort", others, axis=axis)
        return operations.sort(self, axis, descending=descending, stable=stable, kind=kind)

    def sqrt(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the square root of each element. See `minisplit.sqrt`."""
        return operations.sqrt(self, out=out, where=where)

    def sqrt_(self) -> Self:
        """Change the array to `sqrt(self)`; its dtype and layout stay. See `minisplit.sqrt`."""
        return operations.sqrt(self, out=self)

    def square(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the square of each element. See `minisplit.square`."""
        return operations.square(self, out=out, where=where)

    def square_(self) -> Self:
        """Change the array to `square(self)`; its dtype and layout stay. See `minisplit.square`."""
        return operations.square(self, out=self)

    def squeeze(self, axis: int | Sequence[int] | None = None, **others: Unpack[TorchNames]) -> DNDarray:
        """Return `x` without axes of extent 1. See `minisplit.squeeze`."""
        if others:
            axis = _read("squeeze", others, axis=axis)
        return operations.squeeze(self, axis)

    def std(
        self,
        axis: Axis = None,
        *more: Any,
        correction: float = 0.0,
        keepdims: bool = False,
        ddof: float | None = None,
        dtype: Dtype = None,
        out: DNDarray | None = None,
        where: DNDarray | bool = True,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Compute the standard deviation along axes. See `minisplit.std`."""
        if others or more:
            axis, keepdims = _read("std", others, *more, axis=axis, keepdims=keepdims)
        return operations.std(
            self, axis, correction=correction, keepdims=keepdims, ddof=ddof, dtype=dtype, out=out, where=where
        )

    def sub(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Subtract two arrays, element by element. See `minisplit.subtract`."""
        return operations.subtract(self, x2, out=out, where=where)

    def sub_(self, x2: Operand, /) -> Self:
        """Change the array to `subtract(self, x2)`; its dtype and layout stay. See `minisplit.subtract`."""
        return operations.subtract(self, x2, out=self)

    def subtract(self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Subtract two arrays, element by element. See `minisplit.subtract`."""
        return operations.subtract(self, x2, out=out, where=where)

    def subtract_(self, x2: Operand, /) -> Self:
        """Change the array to `subtract(self, x2)`; its dtype and layout stay. See `minisplit.subtract`."""
        return operations.subtract(self, x2, out=self)

    def sum(
        self,
        axis: Axis = None,
        *more: Any,
        dtype: Dtype = None,
        keepdims: bool = False,
        out: DNDarray | None = None,
        initial: complex | None = None,
        where: DNDarray | bool = True,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Add up the elements along axes. See `minisplit.sum`."""
        if others or more:
            axis, keepdims = _read("sum", others, *more, axis=axis, keepdims=keepdims)
        return operations.sum(self, axis, dtype=dtype, keepdims=keepdims, out=out, initial=initial, where=where)

    def svd(self, full_matrices: bool = True, compute_uv: bool = True) -> Any:
        """Decompose matrices into singular values and singular vectors. See `minisplit.linalg.svd`."""
        return operations.linalg.svd(self, full_matrices, compute_uv)

    def swapaxes(self, axis1: int, axis2: int) -> DNDarray:
        """Return `x` with two axes swapped. See `minisplit.swapaxes`."""
        return operations.swapaxes(self, axis1, axis2)

    def swapdims(self, axis1: int, axis2: int) -> DNDarray:
        """Return `x` with two axes swapped. See `minisplit.swapaxes`."""
        return operations.swapaxes(self, axis1, axis2)

    def take(
        self,
        indices: DNDarray | torch.Tensor | Sequence[int],
        axis: int | None = None,
        *,
        out: DNDarray | None = None,
        mode: str = "raise",
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Return the elements of `x` at indices of an axis, as `x[indices]` does along that axis.

        See `minisplit.take`.
        """
        if others:
            axis = _read("take", others, axis=axis)
        return operations.take(self, indices, axis, out=out, mode=mode)

    def take_along_axis(self, indices: DNDarray, axis: int = -1, **others: Unpack[TorchNames]) -> DNDarray:
        """Return the elements of `x` at indices of one axis that depend on the place along the other axes.

        See `minisplit.take_along_axis`.
        """
        if others:
            axis = _read("take_along_axis", others, axis=axis)
        return operations.take_along_axis(self, indices, axis)

    def take_along_dim(self, indices: DNDarray, axis: int = -1, **others: Unpack[TorchNames]) -> DNDarray:
        """Return the elements of `x` at indices of one axis that depend on the place along the other axes.

        See `minisplit.take_along_axis`.
        """
        if others:
            axis = _read("take_along_dim", others, axis=axis)
        return operations.take_along_axis(self, indices, axis)

    def tan(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the tangent of each element. See `minisplit.tan`."""
        return operations.tan(self, out=out, where=where)

    def tan_(self) -> Self:
        """Change the array to `tan(self)`; its dtype and layout stay. See `minisplit.tan`."""
        return operations.tan(self, out=self)

    def tanh(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Compute the hyperbolic tangent of each element. See `minisplit.tanh`."""
        return operations.tanh(self, out=out, where=where)

    def tanh_(self) -> Self:
        """Change the array to `tanh(self)`; its dtype and layout stay. See `minisplit.tanh`."""
        return operations.tanh(self, out=self)

    def tensor_split(
        self, indices_or_sections: int | Sequence[int], axis: int = 0, **others: Unpack[TorchNames]
    ) -> list[DNDarray]:
        """Divide `x` along an axis into parts, which need not be equal. See `minisplit.array_split`."""
        if others:
            axis = _read("tensor_split", others, axis=axis)
        return operations.array_split(self, indices_or_sections, axis)

    def tensordot(
        self, x2: DNDarray, /, axes: int | tuple[int | Sequence[int], int | Sequence[int]] = 2
    ) -> DNDarray:
        """Multiply two arrays, summed over pairs of axes. See `minisplit.tensordot`."""
        return operations.tensordot(self, x2, axes)

    def topk(
        self, k: int, axis: int = -1, largest: bool = True, sorted: bool = True, **others: Unpack[TorchNames]
    ) -> tuple[DNDarray, DNDarray]:
        """Return the greatest elements along an axis, or the least, and their indices. See `minisplit.topk`."""
        if others:
            axis = _read("topk", others, axis=axis)
        return operations.topk(self, k, axis, largest, sorted)

    def trace(
        self, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Dtype = None, *, out: DNDarray | None = None
    ) -> DNDarray:
        """Sum the diagonals of the matrices in two axes, by default the first two. See `minisplit.trace`."""
        return operations.trace(self, offset, axis1, axis2, dtype, out=out)

    def trapezoid(
        self, x: DNDarray | None = None, dx: float = 1.0, axis: int = -1, **others: Unpack[TorchNames]
    ) -> DNDarray:
        """Integrate `y` along an axis by the trapezoidal rule. See `minisplit.trapezoid`."""
        if others:
            axis = _read("trapezoid", others, axis=axis)
        return operations.trapezoid(self, x, dx, axis)

    def tril(self, k: int = 0) -> DNDarray:
        """Return `x` with zeros above a diagonal of each matrix. See `minisplit.tril`."""
        return operations.tril(self, k)

    def triu(self, k: int = 0) -> DNDarray:
        """Return `x` with zeros below a diagonal of each matrix. See `minisplit.triu`."""
        return operations.triu(self, k)

    def true_divide(
        self, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
    ) -> DNDarray:
        """Divide two arrays, element by element. See `minisplit.divide`."""
        return operations.divide(self, x2, out=out, where=where)

    def true_divide_(self, x2: Operand, /) -> Self:
        """Change the array to `divide(self, x2)`; its dtype and layout stay. See `minisplit.divide`."""
        return operations.divide(self, x2, out=self)

    def trunc(self, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
        """Round each element towards zero. See `minisplit.trunc`."""
        return operations.trunc(self, out=out, where=where)

    def trunc_(self) -> Self:
        """Change the array to `trunc(self)`; its dtype and layout stay. See `minisplit.trunc`."""
        return operations.trunc(self, out=self)

    def unbind(self, axis: int = 0, **others: Unpack[TorchNames]) -> tuple[DNDarray, ...]:
        """Return the slices of `x` along an axis. See `minisplit.unstack`."""
        if others:
            axis = _read("unbind", others, axis=axis)
        return operations.unstack(self, axis)

    def union1d(self, x2: DNDarray, /) -> DNDarray:
        """Return the distinct elements of two arrays together. See `minisplit.union1d`."""
        return operations.union1d(self, x2)

    def unique(
        self,
        return_index: bool = False,
        return_inverse: bool = False,
        return_counts: bool = False,
        axis: int | None = None,
        *,
        equal_nan: bool = False,
        **others: Unpack[TorchNames],
    ) -> Any:
        """Return the distinct elements of an array, and optionally their indices, inverse and counts.

        See `minisplit.unique`.
        """
        if others:
            axis = _read("unique", others, axis=axis)
        return operations.unique(self, return_index, return_inverse, return_counts, axis, equal_nan=equal_nan)

    def unique_all(self) -> tuple[DNDarray, DNDarray, DNDarray, DNDarray]:
        """Return the distinct elements of an array, where they are and how often each occurs.

        See `minisplit.unique_all`.
        """
        return operations.unique_all(self)

    def unique_counts(self) -> tuple[DNDarray, DNDarray]:
        """Return the distinct elements of an array, and how often each occurs. See `minisplit.unique_counts`."""
        return operations.unique_counts(self)

    def unique_inverse(self) -> tuple[DNDarray, DNDarray]:
        """Return the distinct elements of an array, and for each of its elements the index among them.

        See `minisplit.unique_inverse`.
        """
        return operations.unique_inverse(self)

    def unique_values(self) -> DNDarray:
        """Return the distinct elements of an array. See `minisplit.unique_values`."""
        return operations.unique_values(self)

    def unsqueeze(self, axis: int | Sequence[int] = 0, **others: Unpack[TorchNames]) -> DNDarray:
        """Return `x` with additional axes of extent 1. See `minisplit.expand_dims`."""
        if others:
            axis = _read("unsqueeze", others, axis=axis)
        return operations.expand_dims(self, axis)

    def unstack(self, axis: int = 0, **others: Unpack[TorchNames]) -> tuple[DNDarray, ...]:
        """Return the slices of `x` along an axis. See `minisplit.unstack`."""
        if others:
            axis = _read("unstack", others, axis=axis)
        return operations.unstack(self, axis)

    def unwrap(
        self,
        discont: float | None = None,
        axis: int = -1,
        *,
        period: float = 6.283185307179586,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Add multiples of a period to angles along an axis, so that neighbours are no more than half of it apart.

        See `minisplit.unwrap`.
        """
        if others:
            axis = _read("unwrap", others, axis=axis)
        return operations.unwrap(self, discont, axis, period=period)

    def vander(self, N: int | None = None, increasing: bool = False) -> DNDarray:
        """Return the powers of numbers, a row for each number: the Vandermonde matrix. See `minisplit.vander`."""
        return operations.vander(self, N, increasing)

    def var(
        self,
        axis: Axis = None,
        *more: Any,
        correction: float = 0.0,
        keepdims: bool = False,
        ddof: float | None = None,
        dtype: Dtype = None,
        out: DNDarray | None = None,
        where: DNDarray | bool = True,
        **others: Unpack[TorchNames],
    ) -> DNDarray:
        """Compute the variance along axes. See `minisplit.var`."""
        if others or more:
            axis, keepdims = _read("var", others, *more, axis=axis, keepdims=keepdims)
        return operations.var(
            self, axis, correction=correction, keepdims=keepdims, ddof=ddof, dtype=dtype, out=out, where=where
        )

    def vdot(self, x2: DNDarray, /) -> DNDarray:
        """Return the sum of the products of all elements of two arrays; the first array is conjugated.

        See `minisplit.vdot`.
        """
        return operations.vdot(self, x2)

    def vecdot(
        self, x2: DNDarray, /, axis: int = -1, *, out: DNDarray | None = None, **others: Unpack[TorchNames]
    ) -> DNDarray:
        """Return the dot products of vectors; the first vectors are conjugated. See `minisplit.vecdot`."""
        if others:
            axis = _read("vecdot", others, axis=axis)
        return operations.vecdot(self, x2, axis, out=out)

    def vsplit(self, indices_or_sections: int | Sequence[int]) -> list[DNDarray]:
        """Divide `x` along axis 0 into equal parts. See `minisplit.vsplit`."""
        return operations.vsplit(self, indices_or_sections)
