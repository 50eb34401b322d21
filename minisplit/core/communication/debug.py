"""Debug mode: whether it is on, and what its checks need to say."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from pathlib import Path
from types import FrameType
from typing import Any, Self

import torch

from minisplit.core.communication.buffers import as_bytes
from minisplit.core.error_text import ranks_named, short_list
from minisplit.core.pytorch.transforms import outside_transforms, unwrap

# Where minisplit's own code lies.
OURS = str(Path(__file__).parents[2]) + os.sep
# Autograd calls a backward pass from its own frames, and contextlib what minisplit does around a block.
_INSIDE = (OURS, str(Path(torch.__file__).parent) + os.sep, contextlib.__file__)
_debug = ContextVar("minisplit_debug", default=os.environ.get("MINISPLIT_DEBUG", "") not in {"", "0"})
# Whether debug mode is on. It is the variable's own method, without a function around it, since every collective
# call asks.
debugging = _debug.get
# What is to be done when debug mode is first turned on.
_when_debugging: list[Callable[[], None]] = []


class Setting:
    """A context variable that was set, from now on or for the length of a `with` block."""

    __slots__ = ("_token",)

    def __init__(self, token: Token[Any]) -> None:
        self._token = token

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._token.var.reset(self._token)


class debug(Setting):  # noqa: N801 - used like a function
    """Check every collective call, from now on or for the length of a `with` block.

    All ranks must turn it on and off at the same place. While it is on, the ranks compare each call of a function
    or method on split arrays: name, arguments and line of the program; and then each message that it sends. Where
    calls differ, a `CollectiveError` on every rank shows them; without debug mode ranks get values of different
    functions, and an MPI library may take two different calls for one and return garbage. What should be the same
    on all ranks (the object given to `minisplit.array`, replicated inputs of a mapped function) is compared by
    checksum, and raises ValueError where it differs: `array` is collective then.

    `MINISPLIT_DEBUG=1` in the environment turns it on for a whole program. The choice holds for the present thread
    or asynchronous task. It costs a small message for each collective call.

    Parameters
    ----------
    on : bool, default True
        Whether debug mode is on from here.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> with ms.debug():
    ...     ms.arange(4, split=0).tolist()
    [0, 1, 2, 3]
    """

    __slots__ = ()

    def __init__(self, on: bool = True) -> None:
        super().__init__(_debug.set(bool(on)))
        if on:
            _prepare()


def when_debugging(action: Callable[[], None]) -> None:
    """Call a function once, when debug mode is first turned on, or now if it is on."""
    _when_debugging.append(action)
    if debugging():
        _prepare()


def _prepare() -> None:
    while _when_debugging:
        _when_debugging.pop()()


class CollectiveError(RuntimeError):
    """The ranks' collective calls do not fit together: the text names each rank's call and its line."""


def call_site(frame: FrameType | None = None) -> str:
    """Return `file.py:line` of the innermost frame of the program, from `frame` or here on."""
    frame = program_frame(frame or sys._getframe(1))
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def program_frame(frame: FrameType) -> FrameType:
    """Return the innermost frame of the program, from `frame` outwards, or else the outermost frame."""
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INSIDE):
        frame = frame.f_back
    return frame


def describe_call(call: Sequence[object]) -> str:
    """Return a call as text: `allreduce(torch.float32, (3,), sum)`."""
    kind, *details = call
    return f"{kind}({', '.join(map(str, details))})" if details else str(kind)


def texts_by_rank(texts: Sequence[str], names: Sequence[int] | None = None) -> str:
    """Return what each rank does, said once for ranks that do the same. Of many ranks, or texts, the first.

    `names` are the ranks' numbers where they are not 0, 1, 2 ...

    >>> texts_by_rank(["a", "b", "b"])
    'rank 0 a, ranks 1, 2 b'
    """
    ranks: dict[str, list[int]] = {}
    for rank, text in zip(names or range(len(texts)), texts, strict=True):
        ranks.setdefault(text, []).append(rank)
    return short_list([f"{ranks_named(who)} {text}" for text, who in ranks.items()])


def checksum(value: torch.Tensor | str) -> int:
    """Return a number for a text, or for dtype, shape and bytes of a tensor. Others have it once in 2^63."""
    data: Any = b""
    if isinstance(value, str):
        text = value
    else:
        with outside_transforms():
            host = unwrap(value).detach().cpu().resolve_conj().resolve_neg().contiguous()
            text = f"{host.dtype} {tuple(host.shape)}"
            data = as_bytes(host).numpy()
    digest = hashlib.blake2b(text.encode(errors="backslashreplace"), digest_size=8)
    digest.update(data)
    return int.from_bytes(digest.digest()) >> 1  # a record holds signed integers of 64 bits
