"""Whether a function that `minisplit.vmap` maps runs at present: no rank may call the others from it."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar, Token

from minisplit.core.communication.debug import CollectiveError, describe_call

_mapped = ContextVar("minisplit_mapped", default=False)
# Whether a mapped function runs. It is the variable's own method, since every collective call asks.
inside_vmap = _mapped.get


def begin() -> Token[bool]:
    """Say that a mapped function runs from here on, until `end` of what this returns."""
    return _mapped.set(True)


def end(token: Token[bool]) -> None:
    """Say that the mapped function has returned."""
    _mapped.reset(token)


def refuse(call: Sequence[object]) -> None:
    """Raise CollectiveError where a mapped function runs: ranks run it for other samples, some not at all."""
    if _mapped.get():
        raise CollectiveError(
            f"the mapped function made a collective call, {describe_call(call)}, but each rank runs it once "
            "for each of its chunks: make the call before, and pass its result as an argument"
        )
