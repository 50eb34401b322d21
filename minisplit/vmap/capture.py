"""Numbers that tell mapped functions, with what they captured, and their keyword arguments from others."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from minisplit.core.array import DNDarray
from minisplit.core.communication.protocol import Communication
from minisplit.vmap.functorch import checksum, pytree
from minisplit.vmap.references import NUMBERS_AND_TEXTS, find_references


def fingerprint(func: Callable[..., Any], kwargs: dict[str, Any]) -> tuple[int, int]:
    """A number for a function, with what it refers to, and one for keyword arguments. Local."""
    return _digest(_references(("func", func))), _digest(_values(kwargs))


def fingerprint_constants(func: Callable[..., Any]) -> int:
    """A number for the numbers and texts that a function refers to. Ranks may differ in them. Local.

    Not for those in containers and objects, as a counter: a call that goes on finds it where the last one ended.
    """
    references = find_references(("func", func))
    constants = [x.value for x in references if x.is_fixed and isinstance(x.value, NUMBERS_AND_TEXTS)]
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


def _references(*roots: tuple[str, object]) -> Iterator[str]:
    """What says which function or object it is: names, code, and the tensors that it refers to."""
    for name, root in roots:
        yield f"{name}={getattr(root, '__module__', '')}.{getattr(root, '__qualname__', type(root).__qualname__)}"
    for reference in find_references(*roots):
        if isinstance(reference.value, torch.Tensor):
            yield f"{reference.path()}={checksum(reference.value):x}"
        elif isinstance(reference.value, types.FunctionType):
            yield from _bytecode(reference.value.__code__)


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
        elif isinstance(x, NUMBERS_AND_TEXTS):
            value = repr(x)
        else:
            value = "\0".join(_references(("", x)))
        yield f"{pytree.keystr(path)}={value}"
