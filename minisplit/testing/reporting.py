"""What a run on several ranks raises when it fails: one exception, with what happened on every rank as notes.

Tested in tests/testing/test_threads.py and test_pool.py.
"""

from __future__ import annotations

import textwrap
import traceback
from collections.abc import Sequence
from pathlib import Path

from minisplit.core.communication.debug import CollectiveError
from minisplit.core.error_text import ranks_named

_THIS_PACKAGE = str(Path(__file__).parent)
# The report of a rank that has returned.
RETURNED = "It returned."


class UnwoundError(BaseException):
    """Takes a rank that can never go on out of the function it runs. It is no error of that function."""


def traceback_text(error: BaseException) -> str:
    """Return the traceback of `error` without the frames of this package."""
    try:
        trace = traceback.TracebackException.from_exception(error)
        trace.stack[:] = [frame for frame in trace.stack if not frame.filename.startswith(_THIS_PACKAGE)]
        if isinstance(error, UnwoundError):
            return f"It {error}\n{''.join(trace.stack.format())}".rstrip()
        return "".join(trace.format()).rstrip()
    except Exception as unprintable:  # classes may fail to print themselves
        return f"{type(error).__name__}, which cannot be printed: {unprintable!r}"


def combined_error(
    errors: Sequence[BaseException | None], reports: Sequence[str], deadlock: str, *, traced: bool = True
) -> BaseException | None:
    """Return the one exception to raise for what happened on the ranks; None if all is well.

    `errors` holds what each rank raised by itself, `reports` what the notes say of each rank (its traceback, say),
    and `deadlock` says why the ranks could not go on, if they could not. The lowest rank that raised something
    wins. With `traced` the errors have their tracebacks, so that the notes need not repeat that of the winner.
    """
    first = next((rank for rank, error in enumerate(errors) if error is not None), None)
    if first is None and not deadlock:
        return None
    error = CollectiveError(deadlock) if first is None else errors[first]
    assert error is not None
    # Ranks that say the same are named together: of many ranks most do.
    ranks_of: dict[str, list[int]] = {}
    for rank, report in enumerate(reports):
        ranks_of.setdefault(report, []).append(rank)
    for report, ranks in ranks_of.items():
        who = f"{ranks_named(ranks)} of {len(reports)}"
        if first in ranks and traced:
            error.add_note(f"This was raised on {who}.")
        else:
            error.add_note(f"{who}:\n{textwrap.indent(report, '    ')}")
    return error
