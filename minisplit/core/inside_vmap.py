"""Whether this code is inside of a function that `minisplit.vmap` maps, where no rank may call the others."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar, Token

from minisplit.core.communication.debug import CollectiveError, describe_call

_mapped: ContextVar[bool] = ContextVar("minisplit_mapped", default=False)


def begin() -> Token[bool]:
    """A mapped function runs from here on, until `end` of what this returns. Local."""
    return _mapped.set(True)


def end(token: Token[bool]) -> None:
    """No mapped function runs any more."""
    _mapped.reset(token)


def inside_vmap() -> bool:
    """Whether a mapped function runs. Local."""
    return _mapped.get()


def refuse(call: Sequence[object]) -> None:
    """CollectiveError inside of a mapped function: ranks run it for other samples, some not at all."""
    if _mapped.get():
        raise CollectiveError(
            f"the mapped function made a collective call, {describe_call(call)}, but each rank runs it on its own "
            "samples, as often as it has chunks of them: call it before, and pass what it gives as an argument"
        )
