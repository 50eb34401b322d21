"""Numbers that tell mapped functions, with what they captured, and their keyword arguments from others."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from minisplit.core.array import DNDarray
from minisplit.core.communication.debug import checksum
from minisplit.core.communication.protocol import Communication
from minisplit.core.pytree import pytree
from minisplit.vmap.execute import captured_tensors, captured_values


def fingerprint(func: Callable[..., Any], kwargs: dict[str, Any]) -> tuple[int, int]:
    """A number for a function, with what it captured, and one for keyword arguments. Local."""
    return _digest(_code(func)), _digest(_values(kwargs))


def fingerprint_constants(func: Callable[..., Any]) -> int:
    """A number for the numbers and texts that a function captured. Ranks may differ in them. Local."""
    constants = [x for x in captured_values(func) if isinstance(x, (int, float, complex, str, bytes))]
    return _digest(_values({"": constants}))


def check_same_call(comm: Communication, func: Callable[..., Any], kwargs: dict[str, Any]) -> None:
    """ValueError, the same on every rank, unless all map this function with these arguments. Collective."""
    digests = comm.compare(np.array(fingerprint(func, kwargs)))
    for column, what in enumerate(("another function", "other keyword arguments")):
        others = np.flatnonzero(digests[:, column] != digests[0, column])
        if len(others):
            raise ValueError(
                "every rank must map the same function with the same keyword arguments, but rank "
                f"{others[0]} has {what} than rank 0"
            )


# Seven bytes: a digest is a number below 2**56, which fits into the integers of a record.
def _digest(parts: Iterator[str]) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(errors="replace"), digest_size=7).digest())


def _code(func: object) -> Iterator[str]:
    """What says which function it is: its name, and its code where that is Python's, with what it captured."""
    yield f"{getattr(func, '__module__', '')}.{getattr(func, '__qualname__', type(func).__qualname__)}"
    # Of a builtin or a callable object the name must do.
    if isinstance(func, types.FunctionType):
        yield from _bytecode(func.__code__)
        yield from _values({"captured": captured_tensors(func)})


def _bytecode(code: types.CodeType) -> Iterator[str]:
    """The instructions of a function and its constants, among which are the functions that it defines."""
    yield code.co_code.hex()
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _bytecode(constant)
        elif isinstance(constant, frozenset):  # {"a", "b"}, whose order differs between processes
            yield repr(sorted(map(repr, constant)))
        else:
            yield repr(constant)


def _values(tree: dict[str, Any]) -> Iterator[str]:
    """Names and values: of tensors the checksum, of numbers and texts the text, of anything else the type."""
    for path, x in pytree.tree_flatten_with_path(tree)[0]:
        if isinstance(x, DNDarray):
            x = x.larray  # noqa: PLW2901
        if isinstance(x, torch.Tensor) and x.layout is torch.strided:
            value = f"{checksum(x):x}"
        else:
            value = repr(x) if isinstance(x, (int, float, complex, str, bytes, type(None))) else type(x).__name__
        yield f"{pytree.keystr(path)}={value}"
