"""`PerformanceWarning`: where a call moves an unexpectedly large array, said once and not by every rank."""

from __future__ import annotations

import os
import sys
import warnings
from types import FrameType

from minisplit.core.communication import Communication
from minisplit.core.debugging import is_inside
from minisplit.core.layout import Layout
from minisplit.core.transfer import elements_moved

# Bytes that each rank receives on the average: about a second on a fast network.
_limit = [int(os.environ.get("MINISPLIT_WARN_BYTES") or 2**30)]


class PerformanceWarning(UserWarning):
    """A call that does not say so by its name moves a large array. See `warn_above`."""


def warn_above(size: int | None) -> None:
    """Warn where a call brings each rank more bytes of an array than so many; None: never. Local.

    That is for calls to which an array's layout does not fit, as of operands with different layouts, or which
    gather it, as `x.numpy()`; not for `resplit`, `balance` and `redistribute`, which are there to move. By default
    1 GiB, or what MINISPLIT_WARN_BYTES says. Rank 0 shows the warning, a `PerformanceWarning`, for which Python's
    filters hold as for any other. All ranks give the same size.

    >>> import minisplit as ms
    >>> ms.warn_above(2**30)
    """
    _limit[0] = sys.maxsize if size is None else int(size)


def warn_of_move(itemsize: int, src: Layout, dst: Layout, comm: Communication) -> None:
    """Warn if the transfer, which the caller has not asked for by name, is a large one. Alike on all ranks."""
    received = elements_moved(src, dst) * itemsize // src.ranks
    if received <= _limit[0]:
        return
    size = f"{received / 2**20:,.0f} MiB"
    text = (
        f"this call brings {size} to each rank: an array that is {src} must be {dst} for it. Give arrays "
        "one layout before (minisplit.resplit), or reduce first; minisplit.warn_above(bytes) sets the limit"
    )
    frame = _program()
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


def _program() -> FrameType:
    """Where the program is that called minisplit."""
    frame = sys._getframe(1)
    while is_inside(frame) and frame.f_back is not None:
        frame = frame.f_back
    return frame
