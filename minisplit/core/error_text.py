"""Values in error messages: on one line, the same on all ranks, and shortened where they are long."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Sequence
from typing import Any

# How many entries of a long sequence are shown.
FEW = 16


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
    text = " ".join(_short.repr(value).split())
    return re.sub(r" at 0x[0-9a-f]+", "", text)  # an object has another address on each rank


def short_list(items: Sequence[Any], most: int = FEW) -> str:
    """Return items with commas between them, the first `most` of them if they are more.

    >>> short_list(range(3)), short_list(range(10_000))[-16:]
    ('0, 1, 2', '15 and 9984 more')
    """
    text = ", ".join(map(str, items[:most]))
    return f"{text} and {len(items) - most} more" if len(items) > most else text
