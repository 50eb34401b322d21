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
    """The collective calls that this rank makes, by kind, and the bytes that it sends to others in exchanges."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.bytes_sent = 0

    def __repr__(self) -> str:
        return f"<Traffic {dict(self.calls)}, {self.bytes_sent} bytes sent>"

    @property
    def collectives(self) -> int:
        """How many collective calls there were."""
        return self.calls.total()

    def _see(self, call: Call, args: tuple[Any, ...]) -> None:
        kind = str(call[0])
        self.calls[kind] += 1
        if kind == "exchange":
            self.bytes_sent += _sent(*args)


def _sent(*args: Any) -> int:
    """Bytes that an exchange sends: of a transfer, or of parcels."""
    match args:
        case torch.Tensor() as source, _, TransferPlan() as steps:
            return steps.elements_sent * source.itemsize
    return sum(parcel.nbytes for _, parcel in args[0])


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
