"""Values in error messages: on one line, the same on all ranks, and shortened where they are long."""

from __future__ import annotations

import re
import reprlib
import traceback
from collections.abc import Sequence
from typing import Any

# How many entries of a long sequence are shown.
FEW = 16
# How many characters of each end of a long traceback are shown.
LONG = 20_000


class _Short(reprlib.Repr):
    """A repr of bounded length: the first entries of a sequence, both ends of a text, the shape of an array."""

    def __init__(self) -> None:
        super().__init__()
        self.maxtuple = self.maxlist = self.maxset = self.maxfrozenset = self.maxdict = FEW
        self.maxstring = self.maxother = 120

    def repr_instance(self, x: object, level: int) -> str:
        shape = None if isinstance(x, type) else getattr(x, "shape", None)
        # Its elements may be a rank's own, and the text must be the same on all ranks. A DNDarray names its
        # rank, also where it has one element.
        if shape or (shape is not None and hasattr(x, "lshape")):
            return f"<{type(x).__name__} of shape {tuple(shape)}>"
        return super().repr_instance(x, level)


_short = _Short()


def short_repr(value: object) -> str:
    """Return a value as text for an error message.

    >>> short_repr([0] * 100_000), short_repr("both")
    ('[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...]', "'both'")
    """
    try:
        text = " ".join(_short.repr(value).split())
    except BaseException:  # objects of users do what they like, and other ranks may wait for this text
        text = f"<{type(value).__name__} that cannot be shown>"
    return re.sub(r" at 0x[0-9a-f]+", "", text)  # an object has another address on each rank


def said_by(error: BaseException) -> str:
    """Return what an exception says; the name of its type where it says nothing, or cannot.

    >>> said_by(ValueError("no such row")), said_by(KeyError("a")), said_by(KeyError())
    ('no such row', 'a', 'KeyError')
    """
    try:
        first = error.args[0] if error.args else ""
        # Without the quotes that a KeyError puts around its text.
        text = first if isinstance(first, str) and first else str(error)
        return str.__str__(text) or type(error).__name__
    except BaseException:  # `__str__` and `args` of users fail, or end the program
        return type(error).__name__


def traceback_of(error: BaseException, ours: str = "") -> str:
    """Return the traceback of an exception as text, without the frames of files in `ours` at its top."""
    try:
        trace = traceback.TracebackException.from_exception(error)
        program = (i for i, frame in enumerate(trace.stack) if not (ours and frame.filename.startswith(ours)))
        # Where there is no frame of the program, the last one stays.
        del trace.stack[: next(program, len(trace.stack) - 1)]
        text = "".join(trace.format()).rstrip()
        return text if len(text) <= 2 * LONG else f"{text[:LONG]}\n...\n{text[-LONG:]}"
    except BaseException:  # as above; also where exceptions are nested too deeply, or memory has run out
        return f"{type(error).__name__}, whose traceback cannot be shown"


def encoded(text: str) -> bytes:
    """Return a text as bytes. File names may hold what UTF-8 cannot; other ranks would wait for it."""
    return text.encode(errors="backslashreplace")


def counted(number: int, word: str) -> str:
    """Return a number with what it counts.

    >>> counted(1, "rank"), counted(3, "rank")
    ('1 rank', '3 ranks')
    """
    return f"{number} {word}{'s' * (number != 1)}"


def ranks_named(ranks: Sequence[int]) -> str:
    """Return ranks by their numbers.

    >>> ranks_named([1]), ranks_named([0, 2])
    ('rank 1', 'ranks 0, 2')
    """
    return f"rank{'s' * (len(ranks) != 1)} {short_list(ranks)}"


def short_list(items: Sequence[Any], most: int = FEW) -> str:
    """Return items with commas between them, the first `most` of them if they are more.

    >>> short_list(range(3)), short_list(range(10_000))[-16:]
    ('0, 1, 2', '15 and 9984 more')
    """
    text = ", ".join(map(str, items[:most]))
    return f"{text} and {len(items) - most} more" if len(items) > most else text
