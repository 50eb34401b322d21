"""In debug mode, the comparison of what the ranks call: each public function or method, with its arguments.

Messages alone do not say what they are for: a mean and a sum of one array send the same, and a wrong axis raises
on its rank before any message. So on entry the ranks compare name and arguments of each call on split arrays, and
of what all call together without one, as to load files.

Functions and methods are replaced by ones that compare when debug mode is first turned on, so that a program
without it does not pay for it. A function that was imported by name before that is not compared.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch

from minisplit.core.array import DNDarray
from minisplit.core.communication.debug import debugging, when_debugging
from minisplit.core.communication.inside_vmap import inside_vmap
from minisplit.core.communication.protocol import Communication, get_comm
from minisplit.core.error_text import short_repr
from minisplit.core.pytorch.graph_breaks import break_graph
from minisplit.core.pytorch.pytree import pytree

# What one rank may call alone, of any array, and what compares its arguments itself: what `array` is given differs
# between the ranks where it is a part.
NOT_COMPARED = frozenset(
    {
        "__array_namespace__", "__dlpack_device__", "__getattr__", "__init__", "__len__", "__repr__",
        "__torch_function__", "array", "asarray", "contiguous", "counts_displs", "create_lshape_map", "dim",
        "element_size", "from_dlpack", "from_numpy", "is_balanced", "is_complex", "is_distributed",
        "is_floating_point", "nelement", "numel", "plot_layout", "print0", "set_printoptions", "show", "vmap",
    }
)  # fmt: skip
# What all ranks call together whatever it is given, also where that is no array. The first argument may differ: a
# node may have a copy of the file, under a path of its own, and what is replicated is rank 0's.
_COLLECTIVE = frozenset({"datasets", "load", "load_checkpoint", "open", "replicate"})
_MAY_DIFFER = ("path", "x")  # what it is called there
_PLAIN = (bool, int, float, complex, str, bytes, type(None), slice, torch.dtype, torch.device, type(Ellipsis))
# Whether a call is under way: the functions that it calls in turn are not compared.
_inside: ContextVar[bool] = ContextVar("minisplit_inside_call", default=False)


def compare_calls(namespaces: Iterable[types.ModuleType | type]) -> None:
    """Compare the calls of all public functions and methods in these, once debug mode is turned on."""
    when_debugging(functools.partial(_replace, tuple(namespaces)))


def _replace(namespaces: Iterable[types.ModuleType | type]) -> None:
    comparing: dict[types.FunctionType, Callable[..., Any]] = {}  # a function may have several names
    for namespace in namespaces:
        for name, function in list(vars(namespace).items()):
            is_public = not name.startswith("_") or name.startswith("__")
            if isinstance(function, types.FunctionType) and is_public and name not in NOT_COMPARED:
                setattr(namespace, name, comparing.setdefault(function, _comparing(function)))
    for original, compared in comparing.items():
        # Pickle, for one, looks for a function where it was defined.
        module = sys.modules[original.__module__]
        if getattr(module, original.__name__, None) is original:
            setattr(module, original.__name__, compared)


def _comparing(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function like the given one, which first compares its call in debug mode."""

    @functools.wraps(function)
    def compared(*args: Any, **kwargs: Any) -> Any:
        if not debugging() or _inside.get() or inside_vmap():
            return function(*args, **kwargs)
        comm = _ranks_of(function.__name__, args, kwargs)
        if comm is not None and comm.is_usable():
            first = function.__name__ in _COLLECTIVE
            arguments = [
                *map(_describe, args[first:]),
                *(f"{name}={_describe(x)}" for name, x in kwargs.items() if not (first and name in _MAY_DIFFER)),
            ]
            comm.compare_call((function.__qualname__.replace("DNDarrayMethods", "DNDarray"), *arguments))
        token = _inside.set(True)
        try:
            return function(*args, **kwargs)
        finally:
            _inside.reset(token)

    break_graph(compared)
    return compared


def _ranks_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Communication | None:
    """The ranks that must make a call alike: those of its first array that is split. None for none."""
    for x in pytree.tree_leaves((args, kwargs)):
        if isinstance(x, DNDarray) and x.split is not None:
            return x.comm
    if kwargs.get("split") is None and name not in _COLLECTIVE:
        return None
    comm = kwargs.get("comm")
    return comm if isinstance(comm, Communication) else get_comm()


def _describe(x: Any) -> str:
    """A text that is the same on all ranks for what they must have alike."""
    if isinstance(x, DNDarray):
        return f"{x.dtype} {x.layout}"
    # Not its values, nor its shape: where they must be the same the function compares them, and says so better.
    if isinstance(x, (torch.Tensor, np.ndarray)):
        return f"{type(x).__name__} of {x.dtype}"
    if isinstance(x, (list, tuple)):
        return f"[{', '.join(map(_describe, x))}]"
    if isinstance(x, dict):
        return f"{{{', '.join(f'{short_repr(key)}: {_describe(value)}' for key, value in x.items())}}}"
    # The texts of minisplit's own objects say what they are, but that of a communicator also says the rank.
    if isinstance(x, _PLAIN) or (type(x).__module__.startswith("minisplit.") and not isinstance(x, Communication)):
        return repr(x)
    return getattr(x, "__qualname__", type(x).__name__)
