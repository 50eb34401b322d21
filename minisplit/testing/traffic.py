"""Counting what crosses between ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from minisplit.core.communication.protocol import Call, Communication, messages_sent, sanitize_comm


class Traffic:
    """The collective calls that this rank makes, by kind, and what it sends to others in exchanges."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.messages_sent = 0
        self.bytes_sent = 0

    def __repr__(self) -> str:
        return f"<Traffic {dict(self.calls)}, {self.messages_sent} messages of {self.bytes_sent} bytes sent>"

    @property
    def collectives(self) -> int:
        """How many collective calls there were."""
        return self.calls.total()

    def _see(self, call: Call, args: tuple[Any, ...]) -> None:
        self.calls[str(call[0])] += 1
        messages, size = messages_sent(call, args)
        self.messages_sent += messages
        self.bytes_sent += size


@contextmanager
def traffic(comm: Communication | None = None) -> Iterator[Traffic]:
    """Count the collective calls made on `comm`, the communicator in use by default, in a `with` block. Local.

    What debug mode sends is not counted, nor are calls on one rank, which send nothing.

    >>> import minisplit as ms
    >>> x = ms.ones((4, 4), split=0)
    >>> with ms.testing.traffic() as seen:
    ...     y = x.resplit(1)
    >>> seen.collectives == (x.comm.size > 1)
    True
    """
    watched, seen = sanitize_comm(comm), Traffic()
    before = watched._observer

    def see(call: Call, args: tuple[Any, ...]) -> Callable[[], object] | None:
        seen._see(call, args)
        return None if before is None else before(call, args)

    watched._observer = see
    try:
        yield seen
    finally:
        watched._observer = before
