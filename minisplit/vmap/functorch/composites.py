"""Functions of torch that are written in Python and call random ones, as `gumbel_softmax` and those of `nn.init`.

A mode of torch sees the call of such a function and, if it makes that call, nothing of what is called within. Here
is the function's own code, without the question that brings it to the mode, so that this can stay on meanwhile.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import torch

_MODULES = frozenset({"torch.nn.functional", "torch.nn.init"})


def _is_not(*args: Any) -> bool:
    """Stand for `has_torch_function` and its kind: nothing but the function itself has a say in a call of it."""
    return False


class _Seen:
    """A module of torch as it is, but for some of its names."""

    def __init__(self, module: types.ModuleType, names: dict[str, Any]) -> None:
        self.__dict__.update(names)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


_QUESTIONS = {name: _is_not for name in dir(torch.overrides) if name.startswith("has_torch_function")}
_TORCH = _Seen(torch, {"overrides": _Seen(torch.overrides, _QUESTIONS)})


@functools.cache
def body_of(func: Any) -> Callable[..., Any] | None:
    """What such a function does, as a function that no mode sees; None for any other function."""
    if not isinstance(func, types.FunctionType) or func.__module__ not in _MODULES or func.__closure__:
        return None
    variables = {**func.__globals__, **_QUESTIONS, "torch": _TORCH}
    body = types.FunctionType(func.__code__, variables, func.__name__, func.__defaults__)
    body.__kwdefaults__ = func.__kwdefaults__
    return body
