"""`PerformanceWarning`: a call moves a large array, and would have moved less in another layout.

What moves an array because the program says so (`resplit`, `to_layout`, `load`) does not warn. An operation that
needs an array elsewhere than it is calls a function of this module first. Layouts and arguments alone decide
whether there is a warning, so that all ranks have it or none.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from contextvars import ContextVar

from minisplit.core.communication.debug import Setting, program_frame
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.core.transfer import elements_moved

# An array's bytes per element, its layout, and the one that it must have.
Move = tuple[int, Layout, Layout]

# Bytes that each rank receives on average: 1 GiB takes about a second on a fast network.
_limit = [int(os.environ.get("MINISPLIT_WARN_BYTES") or 2**30)]
_is_requested = ContextVar("minisplit_requested_move", default=False)


class PerformanceWarning(UserWarning):
    """A call moves a large array, without saying so by its name, or runs slower than it was to.

    See `warn_above`, and `compile=` of `vmap`.
    """


def warn_above(size: int | None) -> None:
    """Set the number of bytes above which a call warns that it moves an array.

    A call warns if it brings each rank more bytes of an array, and would have brought fewer in another layout:
    operands with different layouts, a sort along the split axis, rows selected by an array of integers. The
    warning, a `PerformanceWarning`, says what to do. A move that every layout needs, as in `resplit`, `numpy()` or
    `load`, gives no warning. The limit is 1 GiB by default, or what MINISPLIT_WARN_BYTES says. Rank 0 shows the
    warning; Python's filters hold for it as for any other.

    Parameters
    ----------
    size : int or None
        The number of bytes, the same on all ranks. None never warns.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.warn_above(2**30)
    """
    _limit[0] = sys.maxsize if size is None else int(size)


def requested_move() -> Setting:
    """Do not warn within a `with` block. For functions whose purpose is to move rows.

    `random.permutation` is one: it selects rows by an array of integers, which an indexing program is warned of.
    """
    return Setting(_is_requested.set(True))


def is_large(size: int, comm: Communication) -> bool:
    """Whether so many bytes, over all ranks, are more than each should get without a warning."""
    return size // comm.size > _limit[0]


def warn_of_move(itemsize: int, src: Layout, dst: Layout, comm: Communication) -> None:
    """Warn if an operation is about to make a large transfer."""
    if is_large(elements_moved(src, dst) * itemsize, comm):
        warn_of_moves([(itemsize, src, dst)], comm)


def warn_of_moves(moves: Sequence[Move], comm: Communication) -> None:
    """Warn if transfers that are made together are large. The text names the largest of them."""
    sizes = [elements_moved(src, dst) * itemsize for itemsize, src, dst in moves]
    if is_large(sum(sizes), comm):
        _, src, dst = moves[sizes.index(max(sizes))]
        why = f"an array that is {src} must be {dst} for it. Make it so, or move it once for several calls"
        warn_if_large(sum(sizes), why, comm)


def warn_if_large(size: int, why: str, comm: Communication) -> None:
    """Warn if an operation is about to move so many bytes, over all ranks, and they are many.

    `why` says what moves and, as another sentence, what to do, which resplit does. All ranks give the same.
    """
    if not is_large(size, comm) or _is_requested.get():
        return
    text = (
        f"this call brings {size / comm.size / 2**20:,.0f} MiB to each rank: {why} (minisplit.resplit); "
        "minisplit.warn_above(bytes) sets the limit"
    )
    warn_of_performance(text, comm.rank)


def warn_of_performance(text: str, rank: int) -> None:
    """Warn with this text, which rank 0 shows."""
    frame = program_frame(sys._getframe())  # the line that the warning names
    names = frame.f_globals
    show, registry = warnings.showwarning, names.setdefault("__warningregistry__", {})
    if rank:
        # A filter may make it an error, which all ranks must raise, but only one is to show it.
        warnings.showwarning = lambda *_, **__: None
        # Ranks that are threads share the module: in its registry the warning would count as shown already.
        registry = {}
    try:
        warnings.warn_explicit(
            text, PerformanceWarning, frame.f_code.co_filename, frame.f_lineno, names.get("__name__"), registry
        )
    finally:
        warnings.showwarning = show
