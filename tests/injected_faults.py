"""Injects faults on one rank into every public function, in debug mode: all ranks must get one exception alike.

    python tests/injected_faults.py
    mpiexec -n 3 python tests/injected_faults.py

A fault is a call of the same function with an array of another shape, dtype or layout, with one argument more, or
of another function. How a function is called is found by trying. It prints what did not come out alike, and the
totals.
"""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch

import minisplit as ms
from minisplit.core.call_comparison import NOT_COMPARED

Arrays = dict[str, ms.DNDarray]
Call = Callable[[Arrays], Any]
RANKS = 3


def make_arrays() -> Arrays:
    """Arrays for valid calls, and for each fault the array that stands in the place of the first."""
    x = ms.arange(16, dtype=torch.float64, split=0).reshape(4, 4) + ms.eye(4, dtype=torch.float64, split=0) * 9
    return {
        "float": x,
        "int": ms.ones((4, 4), dtype=torch.int64, split=0),
        "bool": ms.ones((4, 4), dtype=torch.bool, split=0),
        "vector": ms.arange(4, dtype=torch.float64, split=0),
        "shape": ms.ones((7, 4), dtype=torch.float64, split=0),
        "dtype": ms.ones((4, 4), dtype=torch.complex128, split=0),
        "layout": x.resplit(1),
        "counts": x.redistribute([4] + [0] * (x.comm.size - 1)),
    }


# The arguments that come after the first array, or replace it.
ARGUMENTS: list[Callable[[ms.DNDarray], tuple[Any, ...]]] = [
    lambda x: (x,),
    lambda x: (x, x),
    lambda x: (x, 0),
    lambda x: (x, (4, 4)),
    lambda x: ([x, x],),
    lambda x: (x, x, x),
    lambda x: (x, torch.int64),
    lambda x: (x, [0, 1, 2]),
    lambda x: (x, 0, 1),
    lambda x: (x, 1, 1, 0),
    lambda x: ("ij,jk->ik", x, x),
]
FAULTS = ("shape", "dtype", "layout", "counts", "argument", "function")


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public functions, by name."""
    for module in (ms, ms.linalg, ms.fft):
        for name in module.__all__:
            function = getattr(module, name)
            if isinstance(function, types.FunctionType) and name not in NOT_COMPARED:
                yield f"{module.__name__}.{name}", function
    for name, method in vars(ms.DNDarray).items():
        if isinstance(method, types.FunctionType) and name not in NOT_COMPARED and not name.startswith("_"):
            yield f"DNDarray.{name}", method


def valid_call(function: Callable[..., Any], arrays: Arrays) -> tuple[str, Call] | None:
    """A call of the function that succeeds, and the name of its array; None if none is found."""
    for name, arguments in itertools.product(("float", "vector", "int", "bool"), ARGUMENTS):
        try:
            function(*arguments(arrays[name]))
        except Exception:
            continue
        return name, lambda arrays, name=name, arguments=arguments: function(*arguments(arrays[name]))
    return None


def faulty(fault: str, name: str, call: Call, function: Callable[..., Any], arrays: Arrays) -> None:
    """Make the call with a fault."""
    if fault == "argument":
        function(arrays[name], 77, 77)
    elif fault == "function":
        (ms.max if function is not ms.max else ms.min)(arrays[name])
    else:
        call({**arrays, name: arrays[fault]})


def outcome(call: Callable[[], Any]) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def run(chosen: int | None = None, seed: int = 0) -> tuple[int, list[str], list[str]]:
    """Inject faults into all functions, or some chosen ones.

    Return how many, what did not come out alike, and the functions of which no valid call was found.
    """
    comm, number, wrong, untried = ms.get_comm(), 0, [], []
    with ms.debug(False):
        calls = [(name, function, valid_call(function, make_arrays())) for name, function in functions()]
    if chosen is not None:
        calls = calls[seed % len(calls) :: max(1, len(calls) // chosen)]
    for title, function, valid in calls:
        if valid is None:
            untried.append(title)
            continue
        name, call = valid
        for fault in FAULTS:
            bad = comm.rank == number % comm.size
            with ms.debug(False):
                arrays = make_arrays()  # anew, since some functions change them
            with ms.debug():
                got = outcome(
                    (lambda: faulty(fault, name, call, function, arrays)) if bad else (lambda: call(arrays))  # noqa: B023
                )
            texts = comm.allgather_object(got)
            number += 1
            if len(set(texts)) > 1 or "CollectiveError" not in texts[0]:
                wrong.append(f"{title} with another {fault}: {texts}")
    return number, wrong, untried


if __name__ == "__main__":
    with ms.debug():  # so that the functions are those that compare
        number, wrong, untried = run() if ms.MPI_WORLD.size > 1 else ms.testing.run(run, ranks=RANKS)[0]
    if ms.MPI_WORLD.rank == 0:
        print(*wrong, f"{number} faults, {len(wrong)} of them not alike on all ranks", sep="\n")
        print("not tried:", ", ".join(untried) or "none")
    sys.exit(bool(wrong))
