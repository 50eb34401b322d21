"""Counting collective calls, and what is sent between ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from minisplit.core.communication.protocol import Call, Communication, messages_sent, sanitize_comm


class Traffic:
    """The collective calls that this rank makes, and what it sends to other ranks in exchanges.

    Attributes
    ----------
    calls : collections.Counter
        How many calls there were of each method, such as "allreduce".
    messages_sent : int
        How many messages this rank sent to others in exchanges.
    bytes_sent : int
        How many bytes these messages had.

    See Also
    --------
    minisplit.testing.traffic : Count the calls in a `with` block.
    """

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


@contextmanager
def traffic(comm: Communication | None = None) -> Iterator[Traffic]:
    """Count the collective calls made in a `with` block.

    Messages of debug mode are not counted, nor calls on one rank, which send nothing.

    Parameters
    ----------
    comm : Communication, optional
        The communicator whose calls are counted. By default that in use.

    Yields
    ------
    Traffic
        The counts, which grow while the block runs.

    Raises
    ------
    TypeError
        If `comm` is no communicator.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.ones((4, 4), split=0)
    >>> with ms.testing.traffic() as counts:
    ...     y = x.resplit(1)
    >>> counts.collectives == (x.comm.size > 1)
    True
    """
    watched, counts = sanitize_comm(comm), Traffic()
    # Blocks may be inside of one another, and of `minisplit.profile`: all see the calls.
    outer = watched._observer

    # Counted as a call begins: one that raises, on all ranks, was made as well.
    def observe(call: Call, args: tuple[Any, ...]) -> Callable[[], object] | None:
        messages, size = messages_sent(call, args)
        counts.calls[str(call[0])] += 1
        counts.messages_sent += messages
        counts.bytes_sent += size
        return None if outer is None else outer(call, args)

    watched._observer = observe
    try:
        yield counts
    finally:
        watched._observer = outer
