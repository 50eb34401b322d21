"""What the controller of a pool and its ranks tell each other."""

from __future__ import annotations

import functools
import sys
from typing import Any, NamedTuple

from minisplit.testing.histories import Progress


class Hello(NamedTuple):
    """The first word of a rank."""

    rank: int
    size: int
    process: int


class Job(NamedTuple):
    """A function to run on the first `ranks` ranks.

    Examples are numbered; `generation` is the number of the communicator of so many ranks.
    """

    example: int
    ranks: int
    generation: int
    function: bytes
    arguments: bytes
    debugging: bool
    gradients: bool
    shown: bool | None


class Interrupt(NamedTuple):
    """Ends an example."""

    example: int


class Failure(NamedTuple):
    """An exception, pickled where that is possible, and as text."""

    pickled: bytes | None
    kind: str
    text: str
    trace: str


class Report(NamedTuple):
    """What a rank tells of an example.

    `clean` is False where messages of it may still be under way; `abandoned` counts the communicators that the
    rank gave up so far.
    """

    example: int
    progress: Progress
    result: bytes = b""
    failure: Failure | None = None
    clean: bool = True
    abandoned: int = 0


def class_of_controller(module: str, qualname: str) -> Any:
    """The class of that name in a module that the controller has imported."""
    return functools.reduce(getattr, qualname.split("."), sys.modules[module])


def itself(value: Any) -> Any:
    """What something is sent as in its place."""
    return value
