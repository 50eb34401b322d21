"""Random programs on several arrays, on any number of ranks, against the same program on plain arrays."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as hs

import minisplit as ms
from minisplit.testing import Whole, assert_equal, spmd
from minisplit.testing import strategies as st

# (name, places of the arrays it takes, one more argument). STEPS: what it does to plain arrays, and to DNDarrays.
Step = tuple[str, tuple[int, ...], Any]


def cut_at(x: ms.DNDarray, shares: tuple[float, ...]) -> ms.DNDarray:
    """`x` with counts that are these shares of its split axis."""
    if x.split is None:
        return x.balance()
    bounds = [0, *sorted(round(share * x.layout.extent) for share in shares[: x.comm.size - 1]), x.layout.extent]
    return x.redistribute([stop - start for start, stop in pairwise(bounds)])


def put(x: Any, place: Any, value: Any) -> Any:
    x[place] = value
    return x


def plus(x: Any, y: Any) -> Any:
    x += y
    return x


def lessened(x: Any, factor: int) -> Any:
    x -= factor
    x *= factor
    return x


def sample(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a.sum() - 2 * b


def mapped(x: ms.DNDarray, y: ms.DNDarray, axis: int) -> ms.DNDarray:
    """Along `axis`, with the counts of those that are split there already."""
    (z,) = ms.vmap(sample, out_dims=-1)(*(a if a.split == axis else a.resplit(axis) for a in (x, y)))
    return z


def torch_mapped(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    return torch.vmap(sample, axis, -1)(torch.from_numpy(x), torch.from_numpy(y)).numpy()


STEPS: dict[str, tuple[Any, Any]] = {
    "resplit": (lambda x, axis: x.copy(), lambda x, axis: x.resplit(axis)),
    "resplit_": (lambda x, axis: x, lambda x, axis: x.resplit_(axis)),
    "balance": (lambda x, _: x.copy(), lambda x, _: x.balance()),
    "redistribute": (lambda x, shares: x.copy(), cut_at),
    "add": (lambda x, y, _: np.asarray(x + y), lambda x, y, _: x + y),
    "times": (lambda x, factor: np.asarray(x * factor), lambda x, factor: x * factor),
    "plus": (lambda x, y, _: plus(x, y), lambda x, y, _: plus(x, y)),
    "lessened": (lessened, lessened),
    "larger": (lambda x, y, _: np.where(x > y, x, 1 - y), lambda x, y, _: ms.where(x > y, x, 1 - y)),
    "get where": (lambda x, y, least: x[y >= least], lambda x, y, least: x[y >= least]),
    "put where": (lambda x, y, least: put(x, y < least, least), lambda x, y, least: put(x, y < least, least)),
    "get": (lambda x, key: np.array(x[key]), lambda x, key: x[key]),
    "put": (lambda x, y, key: put(x, key, y), lambda x, y, key: put(x, key, y)),
    "vmap": (torch_mapped, mapped),
}


@hs.composite
def programs(draw: hs.DrawFn) -> tuple[tuple[Whole, ...], list[Step]]:
    """Arrays, and steps that make sense for them: the steps are done on NumPy arrays while they are drawn."""
    wholes = draw(st.broadcastable_dndarrays(draw(hs.integers(1, 3)), torch.float64))
    arrays = [whole.tensor.numpy().copy() for whole in wholes]
    steps: list[Step] = []
    for _ in range(draw(hs.sampled_from([1, 2, 4, 4, 6, 6, 8, 8]))):  # the first is drawn most often
        step = draw(steps_for(arrays))
        if step is not None:
            steps.append(step)
            advance(arrays, step, 0)
    return wholes, steps


@hs.composite
def steps_for(draw: hs.DrawFn, arrays: list[np.ndarray]) -> Step | None:
    """A step that NumPy can do on these arrays; None where a key was drawn that the value does not fit."""
    i, j = (draw(hs.integers(0, len(arrays) - 1)) for _ in range(2))
    x, y = arrays[i], arrays[j]
    axes = [axis for axis, (n, m) in enumerate(zip(x.shape, y.shape, strict=False)) if n == m > 0]
    name = draw(hs.sampled_from(names_for(x, y, axes)))
    if name in {"resplit", "resplit_"}:
        return name, (i,), draw(hs.none() | axes_of(x))
    if name == "redistribute":
        return name, (i,), draw(hs.tuples(*[hs.sampled_from([0.0, 0.3, 0.5, 1.0])] * 3))
    if name in {"times", "lessened"}:
        return name, (i,), draw(hs.integers(-1, 2))
    if name == "get":
        return name, (i,), draw(keys(x))
    if name == "vmap":
        return name, (i, j), draw(hs.sampled_from(axes))
    if name in {"get where", "put where"}:
        return name, (i, j), draw(hs.integers(-1, 2))
    if name == "put":
        key = draw(keys(x))
        return (name, (i, j), key) if broadcasts(y, x[key], True) else None
    return (name, (i,), None) if name == "balance" else (name, (i, j), None)


def names_for(x: np.ndarray, y: np.ndarray, axes: list[int]) -> list[str]:
    """The steps that `x` and `y` allow, of the same extent along `axes`; rarely allowed ones count more."""
    names = ["resplit", "resplit_", "balance", "redistribute", "times", "lessened", "get"]
    if broadcasts(x, y):
        names += ["add", "larger"]
    if x is not y:
        names += ["put", *["plus", "plus"] * broadcasts(y, x, True)]
    if y.ndim > 0 and x.shape[: y.ndim] == y.shape:
        names += ["get where", "put where"]
    return names + ["vmap"] * 3 * bool(axes)


def axes_of(x: np.ndarray) -> hs.SearchStrategy[int | None]:
    return hs.sampled_from(range(x.ndim)) if x.ndim else hs.none()


@hs.composite
def keys(draw: hs.DrawFn, x: np.ndarray) -> Any:
    """A basic key, or slices with a mask or integers for one axis."""
    key: list[Any] = []
    for extent in x.shape[: draw(hs.integers(0, x.ndim))]:
        key.append(draw(hs.slices(extent) | hs.integers(-extent, extent - 1) if extent else hs.slices(extent)))
    if key and draw(hs.booleans()):
        axis = draw(hs.sampled_from(range(len(key))))
        extent = x.shape[axis]
        mask = hs.lists(hs.booleans(), min_size=extent, max_size=extent)
        places = hs.lists(hs.integers(-extent, extent - 1), max_size=4, unique_by=lambda n: n % extent)
        key = [part if isinstance(part, slice) else slice(None) for part in key]
        key[axis] = draw(mask | places) if extent else slice(None)
    return tuple(key)


def broadcasts(x: np.ndarray, y: np.ndarray, to_the_second: bool = False) -> bool:
    try:
        shape = np.broadcast_shapes(x.shape, y.shape)
    except ValueError:
        return False
    return shape == y.shape or not to_the_second


def advance(arrays: list[Any], step: Step, form: int) -> None:
    name, places, argument = step
    arrays.append(STEPS[name][form](*(arrays[place] for place in places), argument))


@given(program=programs())
@spmd
def test_programs_do_what_they_do_in_one_process(program: tuple[tuple[Whole, ...], list[Step]]) -> None:
    wholes, steps = program
    expected = [whole.tensor.numpy().copy() for whole in wholes]
    arrays = [whole.cut() for whole in wholes]
    for step in steps:
        advance(expected, step, 0)
        advance(arrays, step, 1)
        for x, array in zip(arrays, expected, strict=True):
            assert_equal(x, array)
