"""How error messages show what a caller gave: on one line, the same on all ranks, and not all of what is long."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Sequence
from typing import Any

# How many entries of what is long are shown.
FEW = 16


class _Short(reprlib.Repr):
    """Of long sequences the first entries, of long texts both ends, of arrays the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.maxtuple = self.maxlist = self.maxset = self.maxfrozenset = self.maxdict = FEW
        self.maxstring = self.maxother = 120

    def repr_instance(self, x: object, level: int) -> str:
        shape = None if isinstance(x, type) else getattr(x, "shape", None)
        if shape:  # a rank's part of an array is nobody else's
            return f"<{type(x).__name__} of shape {tuple(shape)}>"
        return super().repr_instance(x, level)


_short = _Short()


def short_repr(value: object) -> str:
    """`value` as text for an error message.

    >>> shown([0] * 100_000), shown("both")
    ('[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...]', "'both'")
    """
    text = " ".join(_short.repr(value).split())
    return re.sub(r" at 0x[0-9a-f]+", "", text)  # which is another on each rank


def short_list(items: Sequence[Any], most: int = FEW) -> str:
    """Items with commas between them: of more than `most` the first.

    >>> listed(range(3)), listed(range(10_000))[-16:]
    ('0, 1, 2', '15 and 9984 more')
    """
    text = ", ".join(map(str, items[:most]))
    return f"{text} and {len(items) - most} more" if len(items) > most else text
