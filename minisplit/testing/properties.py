"""`@spmd`: a test function that runs on several ranks."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, overload

import pytest
import torch

from minisplit.testing import threads
from minisplit.testing.pool import Pool
from minisplit.testing.whole import Whole

Test = TypeVar("Test", bound=Callable[..., Any])

# torch's comparison imports much at its first call: half a second that would count as that of the first example.
torch.testing.assert_close(torch.zeros(()), torch.zeros(()))


@overload
def spmd(test: Test, /) -> Test: ...
@overload
def spmd(*, ranks: Sequence[int]) -> Callable[[Test], Test]: ...
def spmd(test: Any = None, /, *, ranks: Sequence[int] | None = None) -> Any:
    """Run a test function on several ranks: every rank calls it, with a communicator of its own in use.

    The number of ranks is that of the arrays (`Whole`) among the arguments, or the argument `ranks`. Under
    `hypothesis.given`, which stands above it, both are drawn; `@spmd(ranks=(1, 2, 3))` runs
    the test once for each of these numbers, under pytest.

    The ranks are threads of this process, or with `MINISPLIT_TESTING=pool` in the environment those of an MPI job
    that is started once. A failure tells what happened on every rank, and how to run the example alone.

    >>> import minisplit as ms
    >>> @ms.testing.spmd
    ... def test_sum(ranks):
    ...     assert ms.ones(5, split=0).shape == (5,)
    >>> test_sum(ranks=3)
    """
    if ranks is None:
        return _on_ranks(test, fixed=False)
    return lambda test: pytest.mark.parametrize("ranks", ranks)(_on_ranks(test, fixed=True))


def _on_ranks(test: Callable[..., Any], fixed: bool) -> Any:
    signature = inspect.signature(test)
    wanted = "ranks" in signature.parameters

    def on_ranks(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        ranks = kwargs["ranks"] if wanted and "ranks" in kwargs else kwargs.pop("ranks", None)
        bound = signature.bind(*args, **kwargs)
        number = _number_of_ranks(ranks, bound.arguments.values())
        run = shared_pool().run if on_pool() else threads.run
        try:
            # One `ranks` is for the runner, and one perhaps for the test.
            run(functools.partial(test, *args, **kwargs), ranks=number)
        except BaseException as error:
            shown = dict(bound.arguments) if wanted else {**bound.arguments, "ranks": number}
            error.add_note(_alone(test, shown))
            raise

    # So that a traceback begins in the file of the test.
    on_ranks.__code__ = on_ranks.__code__.replace(
        co_filename=test.__code__.co_filename, co_firstlineno=test.__code__.co_firstlineno
    )
    wrapper: Any = functools.wraps(test)(on_ranks)
    if fixed and not wanted:
        ranks_too = inspect.Parameter("ranks", inspect.Parameter.KEYWORD_ONLY)
        wrapper.__signature__ = signature.replace(parameters=[*signature.parameters.values(), ranks_too])
    # `hypothesis.given` hands attributes on: this reaches the test with arguments of one's own.
    wrapper.alone = wrapper
    return wrapper


@functools.cache
def shared_pool() -> Pool:
    """The pool of this process, which starts at its first run and ends with the process."""
    return Pool()


def on_pool() -> bool:
    """Whether `@spmd` runs tests on MPI ranks: MINISPLIT_TESTING is "pool" rather than "threads"."""
    chosen = os.environ.get("MINISPLIT_TESTING", "threads")
    if chosen not in {"threads", "pool"}:
        raise ValueError(f"MINISPLIT_TESTING must be threads or pool, got {chosen!r}")
    return chosen == "pool"


def _number_of_ranks(ranks: int | None, values: Any) -> int:
    found = {whole.layout.ranks for value in values for whole in _wholes(value)}
    if ranks is not None:
        found.add(ranks)
    if len(found) == 1:
        return found.pop()
    if not found:
        raise TypeError("the number of ranks is unknown: give ranks=, or draw it with strategies.ranks()")
    raise ValueError(f"the arguments are for different numbers of ranks: {sorted(found)}")


def _wholes(value: Any) -> Iterator[Whole]:
    if isinstance(value, Whole):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _wholes(item)


def _alone(test: Callable[..., Any], arguments: dict[str, Any]) -> str:
    given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return f"""To run this example alone:
    from math import inf, nan
    import torch
    from minisplit import Layout
    from minisplit.testing import Whole
    from {test.__module__} import {test.__name__}
    {test.__name__}.alone({given})"""
