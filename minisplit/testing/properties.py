"""`@spmd`: a test function that runs on several ranks."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import pytest
import torch
from hypothesis.errors import UnsatisfiedAssumption

from minisplit.core.pytorch.pytree import pytree
from minisplit.testing import threads
from minisplit.testing.pool import Pool
from minisplit.testing.whole import Whole, source

Test = TypeVar("Test", bound=Callable[..., Any])
# Flags of functions whose body does not run when they are called.
_DEFERRED = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR

# torch's comparison imports much at its first call: half a second that would count as that of the first example.
torch.testing.assert_close(torch.zeros(()), torch.zeros(()))


@overload
def spmd(test: Test, /) -> Test: ...
@overload
def spmd(*, ranks: Sequence[int]) -> Callable[[Test], Test]: ...
def spmd(test: Any = None, /, *, ranks: Sequence[int] | None = None) -> Any:
    """Run a test function on several ranks; every rank calls it.

    The number of ranks is that of the arrays (`Whole`) among the arguments, or the argument `ranks` of the test.
    With `hypothesis.given` above `@spmd`, both are drawn. Every rank has its own tensors. A failure says what
    happened on every rank, and how to run the example alone.

    The ranks are threads of this process, or with `MINISPLIT_TESTING=pool` in the environment those of an MPI job
    that is started once.

    Parameters
    ----------
    test : callable
        The test function, which `@spmd` decorates.
    ranks : sequence of int, optional
        With `@spmd(ranks=(1, 2, 3))` the test runs once for each of these numbers, under pytest.

    Returns
    -------
    callable
        The test. Its attribute `alone` runs one example, without hypothesis.

    Raises
    ------
    TypeError
        If `test` is not a plain function, for example a coroutine, or if `given` stands below `@spmd`.

    Communication
    -------------
    Local: the caller is not a rank.

    Examples
    --------
    >>> import minisplit as ms
    >>> @ms.testing.spmd
    ... def test_sum(ranks):
    ...     assert ms.ones(5, split=0).shape == (5,)
    >>> test_sum(ranks=3)
    """
    if ranks is None:
        return _on_ranks(test, fixed=False)
    if test is not None or not isinstance(ranks, Sequence):
        raise TypeError(f"write @spmd, or @spmd(ranks=(1, 2, 3)) with a sequence of numbers, not ranks={ranks!r}")
    return lambda test: pytest.mark.parametrize("ranks", ranks)(_on_ranks(test, fixed=True))


def _on_ranks(test: Callable[..., Any], fixed: bool) -> Any:
    _check_test(test)
    signature = inspect.signature(test)
    takes_ranks = "ranks" in signature.parameters

    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        __tracebackhide__ = True
        ranks = None if takes_ranks else kwargs.pop("ranks", None)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        ranks = bound.arguments.get("ranks", ranks)
        number = _number_of_ranks(ranks, list(bound.arguments.values()))
        try:
            if on_pool():
                results = default_pool()._call(test, args, kwargs, number)
            else:
                results = threads.run(lambda: test(*_copy(args), **_copy(kwargs)), ranks=number)
        except UnsatisfiedAssumption:
            # No failure: hypothesis draws another example.
            raise
        except BaseException as error:
            error.add_note(_how_to_run_alone(test, {**bound.arguments, "ranks": number}))
            raise
        # pytest and hypothesis complain of a test that returns something, so it must reach them.
        return next((result for result in results if result is not None), None)

    # So that a traceback begins in the file of the test. In one line, that of the decorator: any other one of that
    # file is one of the test's own, which hypothesis would take for run.
    on_ranks = lambda *args, __tracebackhide__=True, **kwargs: run(args, kwargs)  # noqa: E731
    on_ranks.__code__ = on_ranks.__code__.replace(
        co_filename=test.__code__.co_filename, co_firstlineno=test.__code__.co_firstlineno
    )
    wrapper: Any = functools.wraps(test)(on_ranks)
    if fixed and not takes_ranks:
        # pytest passes what it has parametrised to tests whose signature has it.
        parameter = inspect.Parameter("ranks", inspect.Parameter.KEYWORD_ONLY)
        wrapper.__signature__ = signature.replace(parameters=[*signature.parameters.values(), parameter])
    # `hypothesis.given` hands attributes on: this one reaches the test without hypothesis.
    wrapper.alone = wrapper
    return wrapper


@functools.cache
def default_pool() -> Pool:
    """Return the pool of this process, which starts at its first run and ends with the process."""
    return Pool()


def on_pool() -> bool:
    """Return whether `@spmd` runs tests on MPI ranks: MINISPLIT_TESTING is "pool" rather than "threads"."""
    chosen = os.environ.get("MINISPLIT_TESTING", "threads")
    if chosen not in {"threads", "pool"}:
        raise ValueError(f"MINISPLIT_TESTING must be threads or pool, got {chosen!r}")
    return chosen == "pool"


def _check_test(test: object) -> None:
    """Raise TypeError unless every rank can run the body of `test` by calling it."""
    if not inspect.isfunction(test):
        raise TypeError(f"@spmd stands right above a function, or as @spmd(ranks=(1, 2, 3)); this is {test!r}")
    if hasattr(test, "is_hypothesis_test"):
        raise TypeError(
            f"@spmd stands below @given: above it, every rank of {test.__name__} would draw for itself"
        )
    if test.__code__.co_flags & _DEFERRED:
        raise TypeError(f"{test.__name__} has `async` or `yield`, so that a call would not run its body")


def _number_of_ranks(ranks: int | None, values: list[object]) -> int:
    """Return the number for which all arguments are. TypeError for arguments that cannot go to ranks."""
    for value in values:
        # What hypothesis gives to draw from while a test runs: `data()`, `randoms()`.
        if type(value).__module__.startswith("hypothesis."):
            raise TypeError(
                f"a {type(value).__name__} cannot go to ranks, since each would draw for itself: draw before, by "
                "@hypothesis.strategies.composite, say"
            )
    numbers = {leaf.layout.ranks for leaf in pytree.tree_leaves(values) if isinstance(leaf, Whole)}
    if ranks is not None:
        numbers.add(ranks)
    if len(numbers) == 1:
        return numbers.pop()
    if not numbers:
        raise TypeError("the number of ranks is unknown: give ranks=, or draw it with strategies.ranks()")
    raise ValueError(f"the arguments are for different numbers of ranks: {sorted(numbers)}")


def _copy_leaf(value: Any) -> Any:
    """Return what one rank gets for an argument: also on threads it may change its tensors or call `backward`."""
    if isinstance(value, Whole):
        return Whole(_copy_leaf(value.tensor), value.layout)
    # `type`: of a subclass nobody knows how to copy it.
    if type(value) is torch.Tensor:
        return value.detach().clone().requires_grad_(value.requires_grad)
    return value.copy() if type(value) is np.ndarray else value


_copy = functools.partial(pytree.tree_map, _copy_leaf)


def _how_to_run_alone(test: Callable[..., Any], arguments: dict[str, Any]) -> str:
    """Return lines that run one example, in a Python that is started where pytest was."""
    name = test.__qualname__.rpartition("<locals>.")[2]
    owner = name.rpartition(".")[0]
    call_arguments = ", ".join(
        f"{key}={f'{owner}()' if owner and key == 'self' else source(value)}" for key, value in arguments.items()
    )
    folder = _import_folder(test)
    path = "" if folder == "." else f"    import sys; sys.path.insert(0, {folder!r})\n"
    return f"""To run this example alone:
{path}    from math import inf, nan
    import numpy, torch
    from minisplit import Layout
    from minisplit.testing import Whole
    from {test.__module__} import {name.partition(".")[0]}
    {name}.alone({call_arguments})"""


def _import_folder(test: Callable[..., Any]) -> str:
    """Return the folder from which Python imports the module of `test`, relative to the current one."""
    names = tuple(test.__module__.split("."))
    path = Path(test.__code__.co_filename).with_suffix("")
    return os.path.relpath(path.parents[len(names) - 1]) if path.parts[-len(names) :] == names else "."
