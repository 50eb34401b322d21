"""How ranks agree on an error: what fails on one rank is raised on all of them, as the same exception."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NoReturn
from zlib import crc32

import numpy as np

from minisplit.core.communication.debug import OURS, CollectiveError
from minisplit.core.communication.protocol import Communication
from minisplit.core.error_text import encoded, said_by, traceback_of

# What a rank without an error puts into an agreement: less than minus any rank, so any failure is greater. The
# number of an operation, less than 2**32, is added to it.
ALL_WELL = -(2**62)


class _Lines(str):
    """Text that a KeyError, which shows the repr of its argument, shows in lines."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class RankError(RuntimeError):
    """A rank failed with an exception that other ranks cannot raise; the text says what it was."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong on this rank, and what to say about it on all ranks.

    Attributes
    ----------
    error : BaseException
        What this rank raised.
    doing : str
        Completes the sentence "rank 1 failed while ...".
    hint : str
        What to do about it.
    attributes : Mapping
        Attributes that the exception gets on every rank, beside `rank`, the first rank that failed.
    """

    error: BaseException
    doing: str
    hint: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)


class agreement:  # noqa: N801 - used like a function
    """Run the body of a `with` block on every rank; if it raises on any, raise the same exception on all.

    Parameters
    ----------
    comm : Communication
        The ranks that run the body.
    doing : str
        Completes the sentence "rank 1 failed while ...".
    operation : str, default ""
        What all ranks compute. Its number goes with the agreement: where a rank computes another one, those with
        the lesser number raise CollectiveError.

    Communication
    -------------
    Collective: one allreduce of 8 bytes where no rank raises.

    Examples
    --------
    >>> import minisplit as ms
    >>> with agreement(ms.MPI_WORLD, "dividing"):
    ...     1 / 0
    Traceback (most recent call last):
    ZeroDivisionError: ...
    """

    __slots__ = ("comm", "doing", "operation")

    def __init__(self, comm: Communication, doing: str, operation: str = "") -> None:
        self.comm = comm
        self.doing = doing
        self.operation = operation

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            return  # it ends the job, so there is nobody to ask
        code = failure_code(self.comm, error)
        if error is None and self.operation:
            code += crc32(self.operation.encode())
        greatest = int(self.comm.agree(np.array([code]))[0])
        if error is None and greatest == code:
            return
        if greatest < ALL_WELL + 2**32:
            raise CollectiveError(
                f"rank {self.comm.rank} of {self.comm.size} was {self.doing}, but another rank something else: "
                "all ranks must make the same calls; MINISPLIT_DEBUG=1 names them"
            )
        raise_together(self.comm, -greatest, None if error is None else Failure(error, self.doing))


def failure_code(comm: Communication, error: BaseException | None) -> int:
    """Return what a rank puts into an agreement: the maximum over the ranks is minus the first failing rank."""
    return ALL_WELL if error is None else -comm.rank


def raise_together(comm: Communication, first: int, failure: Failure | None) -> NoReturn:
    """Raise the exception of rank `first` on every rank, once all know that `first` failed. Collective.

    Type and text are the same everywhere: the type of the original, or `RankError` where any rank could not make
    an exception of that type from a text alone. So `except` takes all ranks down the same path. Each rank's own
    exception is the cause of what it raises.
    """
    if not 0 <= first < comm.size:
        raise CollectiveError(
            f"the ranks agreed on rank {first}, but there are {comm.size}: they have made "
            "different collective calls, and MPI took one for another; MINISPLIT_DEBUG=1 names them"
        )
    message = b""
    if comm.rank == first and failure is not None:
        text = _describe(failure, f"rank {first} of {comm.size} failed while {failure.doing}")
        message = pickle.dumps((_pickle_type(failure.error), text, {**failure.attributes, "rank": first}))
    kind, text, attributes = pickle.loads(comm.broadcast_bytes(message, first))
    error = _rebuild(kind, text)
    unable = int(comm.agree(np.array([int(error is None)]))[0])
    if error is None or unable:
        error = RankError(text)
    for name, value in attributes.items():
        with suppress(BaseException):  # a class may have no room for it, or its own way to set it
            setattr(error, name, value)
    try:
        raise error from (None if failure is None else failure.error)
    finally:
        # The traceback holds this frame. If the frame held the exception they would keep each other alive, and all
        # that the program had at hand, until the garbage collector comes.
        del error


def has_traceback_text(error: BaseException) -> bool:
    """Whether the text of an exception that ranks raise together has the traceback of this rank's own already."""
    cause = error.__cause__
    if cause is None:
        return False
    try:
        last = "".join(traceback.format_exception_only(cause)).strip().splitlines()[0]
    except BaseException:  # a class may fail to print itself
        return False
    return last in said_by(error)


def _describe(failure: Failure, context: str) -> str:
    """The text that all ranks raise: what the error says, where it came from, its traceback, and what to do."""
    indented = "\n".join(f"    {line}" for line in traceback_of(failure.error, OURS).splitlines())
    hint = f"\n  hint: {failure.hint}" if failure.hint else ""
    return encoded(f"{said_by(failure.error)}\n  {context}:\n{indented}{hint}").decode()


def _pickle_type(error: BaseException) -> bytes:
    try:
        return pickle.dumps(type(error))
    except BaseException:  # a class made inside a function has no name to send
        return b""


def _rebuild(kind: bytes, text: str) -> Exception | None:
    """An exception of the pickled type with `text`, or None where there cannot be one."""
    try:
        cls = pickle.loads(kind)
        error = cls(_Lines(text) if issubclass(cls, KeyError) else text)
        # Some cannot even print themselves, or say something else. KeyError shows the repr of its argument.
        is_right = type(error) is cls and text in error.args and text in str(error)
        return error if is_right and isinstance(error, Exception) else None
    except BaseException:  # constructors do what they like
        return None
