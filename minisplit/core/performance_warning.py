"""`PerformanceWarning`: where a call moves an unexpectedly large array, said once and not by every rank."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

from minisplit.core.communication.debug import is_inside
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.core.transfer import elements_moved

# An array's bytes per element, where it is, and where it must be.
Move = tuple[int, Layout, Layout]

# Bytes that each rank receives on the average: about a second on a fast network.
_limit = [int(os.environ.get("MINISPLIT_WARN_BYTES") or 2**30)]
_is_requested: ContextVar[bool] = ContextVar("minisplit_requested_move", default=False)


class PerformanceWarning(UserWarning):
    """A call that does not say so by its name moves a large array. See `warn_above`."""


def warn_above(size: int | None) -> None:
    """Warn where a call brings each rank more bytes of an array than so many; None: never. Local.

    That is for calls that in another layout of their arrays would have moved less, as operands with different
    layouts, a sort along the split axis, or rows selected by an array of integers; the warning says what to do.
    Not for what is there to move, as `resplit`, `numpy()` or `load`. By default 1 GiB, or what
    MINISPLIT_WARN_BYTES says. Rank 0 shows the warning, a `PerformanceWarning`, for which Python's filters hold as
    for any other. All ranks give the same size.

    >>> import minisplit as ms
    >>> ms.warn_above(2**30)
    """
    _limit[0] = sys.maxsize if size is None else int(size)


def is_large(size: int, comm: Communication) -> bool:
    """Whether so many bytes, over all ranks, are more than each should get without a warning."""
    return size // comm.size > _limit[0]


@contextmanager
def requested_move() -> Iterator[None]:
    """Warn of no move within a `with` block, which is that of a function that is called in order to move rows.

    `random.permutation` is one: it selects rows by an array of integers, which elsewhere deserves a warning.
    """
    token = _is_requested.set(True)
    try:
        yield
    finally:
        _is_requested.reset(token)


def warn_of_move(itemsize: int, src: Layout, dst: Layout, comm: Communication) -> None:
    """Warn if the transfer, which the caller has not asked for by name, is a large one. Alike on all ranks."""
    if is_large(elements_moved(src, dst) * itemsize, comm):
        warn_of_moves([(itemsize, src, dst)], comm)


def warn_of_moves(moves: Sequence[Move], comm: Communication) -> None:
    """The same of several transfers that are made together, of which the largest is named."""
    sizes = [elements_moved(src, dst) * itemsize for itemsize, src, dst in moves]
    if is_large(sum(sizes), comm):
        _, src, dst = moves[sizes.index(max(sizes))]
        why = f"an array that is {src} must be {dst} for it. Make it so, or move it once for several calls"
        warn_if_large(sum(sizes), why, comm)


def warn_if_large(size: int, why: str, comm: Communication) -> None:
    """Warn if so many bytes, over all ranks, are more than a call should move, unless it is a requested move.

    `why` says what moves and, as another sentence, what to do, which resplit does. The same on all ranks.
    """
    if not is_large(size, comm) or _is_requested.get():
        return
    frame = _caller()
    text = (
        f"this call brings {size / comm.size / 2**20:,.0f} MiB to each rank: {why} (minisplit.resplit); "
        "minisplit.warn_above(bytes) sets the limit"
    )
    where = frame.f_globals
    show, registry = warnings.showwarning, where.setdefault("__warningregistry__", {})
    if comm.rank:
        # A filter may make it an error, which all ranks must raise, but only one is to show it.
        warnings.showwarning = lambda *_, **__: None
        registry = {}  # in that of the module, it would count as shown for a rank that is a thread
    try:
        warnings.warn_explicit(
            text, PerformanceWarning, frame.f_code.co_filename, frame.f_lineno, where.get("__name__"), registry
        )
    finally:
        warnings.showwarning = show


def _caller() -> FrameType:
    """Where the program is that called minisplit: the line that the warning names."""
    frame = sys._getframe(1)
    while is_inside(frame) and frame.f_back is not None:
        frame = frame.f_back
    return frame
