"""What a run on several ranks says when it fails: one exception, and what happened on every rank."""

from __future__ import annotations

import textwrap
import traceback
from collections.abc import Sequence
from pathlib import Path

from minisplit.core.communication.debug import CollectiveError

_HERE = str(Path(__file__).parent)


class UnwoundError(BaseException):
    """Takes a rank that can never go on out of the function it runs. Not an error of that function's."""


RETURNED = "It returned."


def told(error: BaseException) -> str:
    """The traceback of `error` as text, without the frames of this package."""
    try:
        shown = traceback.TracebackException.from_exception(error)
        shown.stack[:] = [frame for frame in shown.stack if not frame.filename.startswith(_HERE)]
        if isinstance(error, UnwoundError):
            return f"It {error}\n{''.join(shown.stack.format())}".rstrip()
        return "".join(shown.format()).rstrip()
    except Exception as unprintable:  # classes may fail to print themselves
        return f"{type(error).__name__}, which cannot be printed: {unprintable!r}"


def failure(
    errors: Sequence[BaseException | None], stories: Sequence[str], stuck: str, traced: bool = True
) -> BaseException | None:
    """The one exception to raise for what happened on the ranks, None if all is well.

    `errors` holds what each rank raised by itself, `stories` what is to be told of each rank (its traceback, say),
    and `stuck` says why the ranks could not go on, if so. The lowest rank that raised something wins. `traced`:
    the errors have their tracebacks, which need not be told again.
    """
    first = next((rank for rank, error in enumerate(errors) if error is not None), None)
    if first is None and not stuck:
        return None
    error = CollectiveError(stuck) if first is None else errors[first]
    assert error is not None
    groups: dict[str, list[int]] = {}
    for rank, story in enumerate(stories):
        groups.setdefault(story, []).append(rank)
    for story, ranks in groups.items():
        who = f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))} of {len(stories)}"
        if first in ranks and traced:
            error.add_note(f"This was raised on {who}.")
        else:
            error.add_note(f"{who}:\n{textwrap.indent(story, '    ')}")
    return error
