"""What functions of NumPy do with DNDarrays: they call minisplit's of that name. None gathers in silence."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from minisplit.core.array import DNDarray
from minisplit.ops.reductions.functions import all, any, max, min, prod, sum

# NumPy's names of functions, where minisplit has another.
_RENAMED = {
    "absolute": "abs", "amax": "max", "amin": "min", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin",
    "arcsinh": "asinh", "arctan": "atan", "arctan2": "atan2", "arctanh": "atanh", "around": "round",
    "bitwise_not": "bitwise_invert", "conjugate": "conj", "degrees": "rad2deg", "fabs": "abs",
    "float_power": "pow",    "invert": "bitwise_invert", "left_shift": "bitwise_left_shift", "mod": "remainder",
    "power": "pow", "radians": "deg2rad", "right_shift": "bitwise_right_shift", "rint": "round",
    "row_stack": "vstack", "true_divide": "divide",
}  # fmt: skip
# NumPy's names of parameters, where minisplit has another.
_PARAMETERS = {"a_min": "min", "a_max": "max", "rcond": "rtol"}
# What changes how NumPy computes, and not what comes of it.
_WITHOUT_EFFECT = {"kind", "overwrite_input", "subok"}
# NumPy's defaults that are not ours.
_DEFAULTS: dict[str, dict[str, Any]] = {"unique": {"equal_nan": True}}
# Facts about an array, which need no elements, and what is one line.
_WRITTEN: dict[str, Callable[..., Any]] = {
    "copy": lambda a, order="K", subok=False: a.copy(),
    "copyto": lambda dst, src, casting="same_kind", where=True: sys.modules["minisplit"].copyto(
        dst, src, where=where
    ),
    "iscomplexobj": lambda x: x.dtype.is_complex,
    "isrealobj": lambda x: not x.dtype.is_complex,
    "ndim": lambda a: a.ndim,
    "shape": lambda a: a.shape,
    "size": lambda a, axis=None: a.size if axis is None else a.shape[axis],
}
# The reductions by ufuncs.
_REDUCTIONS: dict[str, Callable[..., DNDarray]] = {
    "add": sum, "logical_and": all, "logical_or": any, "maximum": max, "minimum": min, "multiply": prod,
}  # fmt: skip


def call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do what a function of NumPy, called with DNDarrays, means. TypeError where minisplit has no such one.

    NumPy would gather the arrays on every rank without a word.
    """
    name, space = function.__name__, function.__module__.removeprefix("numpy").removeprefix(".")
    if not space and name in _WRITTEN:
        return _WRITTEN[name](*args, **kwargs)
    minisplit = sys.modules["minisplit"]
    ours_name = _RENAMED.get(name, name) if not space else name
    ours = getattr({"": minisplit, "linalg": minisplit.linalg, "fft": minisplit.fft}.get(space), ours_name, None)
    if not inspect.isfunction(ours) or name == "save":  # np.save has its arguments in another order
        instead = "minisplit.save(x, path)" if name == "save" else "x.numpy() is the global array, on every rank"
        raise TypeError(f"{function.__module__}.{name} takes arrays of NumPy, got a DNDarray: {instead}")
    parameters = list(inspect.signature(ours).parameters.values())
    try:
        signature = inspect.signature(function)
    except ValueError:  # functions of NumPy 2.0 in C, such as `concatenate`, do not show theirs
        return ours(*args, **kwargs)
    arguments = signature.bind(*args, **kwargs).arguments
    positional: list[Any] = []
    named = dict(_DEFAULTS.get(name, {}))
    for place, parameter in enumerate(signature.parameters.values()):
        given = arguments.get(parameter.name, parameter.default)
        if given is parameter.default or parameter.name in _WITHOUT_EFFECT:
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional += given
        elif parameter.kind is parameter.VAR_KEYWORD:
            named |= given
        elif parameter.default is parameter.empty or (
            place < len(parameters) and parameters[place].kind is parameter.POSITIONAL_ONLY
        ):
            positional.append(given)
        else:
            named[_PARAMETERS.get(parameter.name, parameter.name)] = given
    unknown = sorted(set(named) - {each.name for each in parameters})
    if unknown and parameters[-1].kind is not inspect.Parameter.VAR_KEYWORD:
        raise TypeError(
            f"minisplit.{ours_name} has no {', '.join(unknown)}, which {function.__module__}.{name} has"
        )
    return ours(*positional, **named)


def call_ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do what a ufunc of NumPy, called with DNDarrays, means: a function of its name, or a reduction by it."""
    name = ufunc.__name__
    # Operators of NumPy's scalars make arrays of 0 axes of them.
    inputs = tuple(each[()] if isinstance(each, np.ndarray) and not each.ndim else each for each in inputs)
    out = kwargs.pop("out", None)
    if out is not None:
        kwargs["out"] = out[0]
        if len(out) != 1 or not isinstance(out[0], DNDarray):
            raise TypeError(
                f"out of numpy.{name} must be a DNDarray where an argument is one, got {type(out[0]).__name__}"
            )
    if method == "reduce" and name in _REDUCTIONS:
        axis = kwargs.pop("axis", 0)
        return _REDUCTIONS[name](inputs[0], inputs[1] if len(inputs) > 1 else axis, **kwargs)
    ours = getattr(sys.modules["minisplit"], _RENAMED.get(name, name), None)
    if method != "__call__" or not inspect.isfunction(ours):
        shown = f"numpy.{name}" if method == "__call__" else f"numpy.{name}.{method}"
        raise TypeError(
            f"{shown} takes arrays of NumPy, got a DNDarray: x.numpy() is the global array, on every rank"
        )
    unknown = sorted(set(kwargs) - set(inspect.signature(ours).parameters))
    if unknown:
        raise TypeError(f"minisplit.{ours.__name__} has no {', '.join(unknown)}, which numpy.{name} has")
    return ours(*inputs, **kwargs)
