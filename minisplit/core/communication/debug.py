"""Debug mode: whether it is on, and what its checks need to say."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Sequence
from contextvars import ContextVar, Token
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import torch

from minisplit.core.error_text import short_list

# Where minisplit's own code lies.
OURS = str(Path(__file__).parents[2]) + os.sep
# Autograd calls a backward pass from its own frames, and contextlib what minisplit does around a block.
_INSIDE = (OURS, str(Path(torch.__file__).parent) + os.sep, contextlib.__file__)
_debug: ContextVar[bool] = ContextVar("minisplit_debug")
_default = os.environ.get("MINISPLIT_DEBUG", "") not in {"", "0"}


class debug:  # noqa: N801 - used like a function
    """Check every collective call, from now on or for the length of a `with` block. Local.

    All ranks must turn it on and off at the same place. While it is on, the ranks compare kind, layout and line
    of the program before each collective call, and a `CollectiveError` on every rank names the calls that
    differ; without it an MPI library may take two different calls for one and return garbage. What should be
    the same on all ranks (the object given to `minisplit.array`, replicated inputs of a mapped function) is
    compared by checksum, and raises ValueError where it differs: `array` is collective then.

    `MINISPLIT_DEBUG=1` in the environment turns it on for a whole program. The choice holds for the present
    thread or asynchronous task. It costs a small message for each collective call.

    >>> import minisplit as ms
    >>> with ms.debug():
    ...     ms.arange(4, split=0).tolist()
    [0, 1, 2, 3]
    """

    __slots__ = ("_token",)

    def __init__(self, on: bool = True) -> None:
        self._token: Token[bool] = _debug.set(bool(on))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _debug.reset(self._token)


def debugging() -> bool:
    """Whether debug mode is on. Local."""
    return _debug.get(_default)


class CollectiveError(RuntimeError):
    """The ranks' collective calls do not fit together: the text names each rank's call and its line."""


def call_site(frame: FrameType | None = None) -> str:
    """`file.py:line` of the innermost frame of the program, see `is_inside`, from `frame` or here on."""
    frame = frame or sys._getframe(1)
    while frame.f_back is not None and is_inside(frame):
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def is_inside(frame: FrameType) -> bool:
    """Whether this is code of minisplit, torch or contextlib."""
    return frame.f_code.co_filename.startswith(_INSIDE)


def describe_call(call: Sequence[object]) -> str:
    """A call as text: `allreduce(torch.float32, (3,), sum)`."""
    kind, *details = call
    return f"{kind}({', '.join(map(str, details))})" if details else str(kind)


def texts_by_rank(texts: Sequence[str], names: Sequence[int] | None = None) -> str:
    """`rank 0 TEXT, ranks 1, 2 OTHER TEXT`: what each rank does, said once for ranks that do the same.

    `names` are the ranks' numbers where they are not 0, 1, 2 ... Of many ranks, or texts, the first are shown.

    >>> named_by_rank(["a", "b", "b"])
    'rank 0 a, ranks 1, 2 b'
    """
    ranks: dict[str, list[int]] = {}
    for rank, text in zip(names or range(len(texts)), texts, strict=True):
        ranks.setdefault(text, []).append(rank)
    return short_list([f"rank{'s' * (len(who) > 1)} {short_list(who)} {text}" for text, who in ranks.items()])


def checksum(value: torch.Tensor | str) -> int:
    """Return a number for the dtype, shape and bytes of a tensor, or for a text.

    It is the same for equal values, and for others but once in 2^63.
    """
    if isinstance(value, str):
        return _digest(value)
    host = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
    # A tensor of one element is contiguous with any stride, and keeps it where it is reshaped: 0 is none to view
    # by.
    flat = host.as_strided((host.numel(),), (1,)).view(torch.uint8).numpy() if host.numel() else b""
    return _digest(f"{host.dtype} {tuple(host.shape)}", flat)


def _digest(text: str, data: Any = b"") -> int:
    digest = hashlib.blake2b(text.encode(errors="backslashreplace"), digest_size=8)
    digest.update(data)
    return int.from_bytes(digest.digest()) >> 1
