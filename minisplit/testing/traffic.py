"""Counting what crosses between ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from minisplit.core.communication import Call, Communication, sanitize_comm
from minisplit.core.transfer import TransferPlan


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
        kind = str(call[0])
        self.calls[kind] += 1
        if kind == "exchange":
            messages, size = _sent(*args)
            self.messages_sent += messages
            self.bytes_sent += size


def _sent(*args: Any) -> tuple[int, int]:
    """How many parcels an exchange sends, and their bytes: of a transfer, or of parcels."""
    match args:
        case torch.Tensor() as source, _, TransferPlan() as steps:
            return steps.messages_sent, steps.elements_sent * source.itemsize
    return len(args[0]), sum(parcel.nbytes for _, parcel in args[0])


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
    before, watched._observer = watched._observer, seen._see
    try:
        yield seen
    finally:
        watched._observer = before
