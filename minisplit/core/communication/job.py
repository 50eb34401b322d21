"""What each engine tells of the job, and does for it: its ranks, its end, and the messages of its watchdogs.

Tested in tests/core/communication/test_single.py, tests/test_jobs.py and tests/test_torch_jobs.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from minisplit.core.communication.protocol import Communication

# The tags of messages between watchdogs: to end the job, to rank 0, and its questions.
END, TELL, ASK = 0, 1, 2


class Channel(ABC):
    """Messages between the watchdogs of the ranks, which neither wait for nor disturb what the program sends.

    A message is a tuple of numbers, texts and tuples. Those from one rank to another with one tag come in order.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size

    @abstractmethod
    def send(self, message: object, rank: int, tag: int) -> None:
        """Send a message, and go on at once."""

    @abstractmethod
    def receive(self, tag: int) -> object | None:
        """Return the next message with a tag, or None where none has come."""

    def end_others(self) -> None:
        """Tell the watchdogs of all other ranks that the job ends."""
        for rank in range(self.size):
            if rank != self.rank:
                self.send((), rank, END)

    @abstractmethod
    def has_come(self, tag: int) -> bool:
        """Whether a message with a tag has come."""

    @abstractmethod
    def all_have_left(self) -> bool:
        """Say that this rank has left its program, and return whether all have."""

    @abstractmethod
    def close(self) -> None:
        """Receive what is still under way. Collective."""


class Job(ABC):
    """The job that this process is a rank of.

    Attributes
    ----------
    world : Communication
        All ranks.
    own : Communication
        This rank alone.
    """

    world: Communication
    own: Communication
    # What has ended where `is_over`.
    ended = "the program has ended"

    @abstractmethod
    def open_channel(self) -> Channel | None:
        """Return the channel of the watchdog; None where it cannot have one. Collective."""

    @abstractmethod
    def gather(self, number: int) -> list[int]:
        """Return the ranks' numbers. Collective."""

    @abstractmethod
    def is_over(self) -> bool:
        """Whether messages can be sent no more."""

    @abstractmethod
    def call_at_end(self, close: Callable[[], None]) -> None:
        """Call `close` before messages can be sent no more."""

    @abstractmethod
    def fail_at_exit(self, status: int) -> None:
        """Let this rank end the job with a status once Python has closed its files."""

    def warn(self) -> str:
        """What the user should be told of how the job was started, or ""."""
        return ""
