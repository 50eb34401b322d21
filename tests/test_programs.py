"""Random programs on several arrays, on any number of ranks, against the same program on plain arrays."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as hs

import minisplit as ms
from minisplit.testing import Whole, assert_close, spmd
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


def places(x: torch.Tensor, key: Any) -> torch.Tensor:
    """Which elements of `x.flatten()` a key of NumPy selects: torch has no negative steps."""
    return torch.from_numpy(np.array(np.arange(x.numel()).reshape(x.shape)[key]))


def in_order(x: torch.Tensor) -> torch.Tensor:
    """A copy that can be written into, also of an expanded tensor."""
    return x.clone(memory_format=torch.contiguous_format)


def torch_put(x: torch.Tensor, key: Any, y: Any) -> torch.Tensor:
    selected = places(x, key)
    x.view(-1)[selected] = y.broadcast_to(selected.shape)
    return x


def constant(x: ms.DNDarray) -> ms.DNDarray:
    """`x` as a value to be assigned, which must not require a gradient."""
    return ms.array(x.larray.detach(), is_split=x.split) if x.larray.requires_grad else x


# What each step does to plain arrays of torch, and to DNDarrays.
STEPS: dict[str, tuple[Any, Any]] = {
    "resplit": (lambda x, axis: x.clone(), lambda x, axis: x.resplit(axis)),
    "resplit_": (lambda x, axis: x, lambda x, axis: x.resplit_(axis)),
    "balance": (lambda x, _: x.clone(), lambda x, _: x.balance()),
    "redistribute": (lambda x, shares: x.clone(), cut_at),
    "add": (lambda x, y, _: x + y, lambda x, y, _: x + y),
    "times": (lambda x, factor: x * factor, lambda x, factor: x * factor),
    "plus": (lambda x, y, _: plus(x, y), lambda x, y, _: plus(x, y)),
    "lessened": (lessened, lessened),
    "larger": (lambda x, y, _: torch.where(x > y, x, 1 - y), lambda x, y, _: ms.where(x > y, x, 1 - y)),
    "get where": (lambda x, y, least: x[y >= least], lambda x, y, least: x[y >= least]),
    "put where": (lambda x, y, least: put(x, y < least, least), lambda x, y, least: put(x, y < least, least)),
    "get": (lambda x, key: x.flatten()[places(x, key)].clone(), lambda x, key: x[key]),
    "put": (lambda x, y, key: torch_put(x, key, y.detach()), lambda x, y, key: put(x, key, constant(y))),
    "vmap": (lambda x, y, axis: torch.vmap(sample, axis, -1)(x, y), mapped),
    "sum": (lambda x, axis: x.sum(axis), lambda x, axis: x.sum(axis=axis)),
    "max": (lambda x, axis: x.amax(axis, keepdim=True), lambda x, axis: x.max(axis=axis, keepdims=True)),
    "cumsum": (torch.cumsum, lambda x, axis: ms.cumulative_sum(x, axis=axis)),
    "flip": (lambda x, axis: x.flip(axis), lambda x, axis: ms.flip(x, axis=axis)),
    "roll": (lambda x, axis: x.roll(2, axis), lambda x, axis: ms.roll(x, 2, axis=axis)),
    "sort": (lambda x, axis: x.sort(dim=axis, stable=True)[0], lambda x, axis: ms.sort(x, axis=axis)),
    "join": (lambda x, y, axis: torch.cat([x, y], axis), lambda x, y, axis: ms.concat([x, y], axis=axis)),
    "flatten": (lambda x, _: x.clone().flatten(), lambda x, _: ms.reshape(x, (-1,), copy=True)),
    "multiply": (lambda x, y, _: x @ y.mT, lambda x, y, _: x @ y.mT),
}
IN_PLACE = frozenset({"plus", "lessened", "put", "put where"})
ON_AN_AXIS = ("sum", "max", "cumsum", "flip", "roll", "sort")


@hs.composite
def programs(draw: hs.DrawFn) -> tuple[tuple[Whole, ...], list[Step]]:
    """Arrays, and steps that make sense for them: the steps are done on plain arrays while they are drawn."""
    wholes = draw(st.broadcastable_dndarrays(draw(hs.integers(1, 3)), torch.float64))
    arrays = [in_order(whole.tensor) for whole in wholes]
    steps: list[Step] = []
    for _ in range(draw(hs.sampled_from([1, 2, 4, 4, 6, 6, 8, 8]))):  # the first is drawn most often
        step = draw(steps_for(arrays))
        if step is not None:
            steps.append(step)
            advance(arrays, step, 0)
    return wholes, steps


@hs.composite
def steps_for(draw: hs.DrawFn, arrays: list[torch.Tensor]) -> Step | None:
    """A step that can be done on these arrays; None where a key was drawn that the value does not fit."""
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
    if name in ON_AN_AXIS:
        return name, (i,), draw(hs.integers(0, x.ndim - 1))
    if name in {"vmap", "join"}:
        return name, (i, j), draw(hs.sampled_from(axes))
    if name in {"get where", "put where"}:
        return name, (i, j), draw(hs.integers(-1, 2))
    if name == "put":
        key = draw(keys(x))
        return (name, (i, j), key) if broadcasts(y, places(x, key), True) else None
    return (name, (i,), None) if name in {"balance", "flatten"} else (name, (i, j), None)


def names_for(x: torch.Tensor, y: torch.Tensor, axes: list[int]) -> list[str]:
    """The steps that `x` and `y` allow, of the same extent along `axes`; rarely allowed ones count more."""
    names = ["resplit", "resplit_", "balance", "redistribute", "times", "lessened", "get", "flatten"]
    names += ON_AN_AXIS * (0 not in x.shape and x.ndim > 0)
    if broadcasts(x, y):
        names += ["add", "larger"]
    if x is not y:
        names += ["put", *["plus", "plus"] * broadcasts(y, x, True)]
    if y.ndim > 0 and x.shape[: y.ndim] == y.shape:
        names += ["get where", "put where"]
    if x.ndim == y.ndim == 2 and x.shape[1] == y.shape[1]:
        names.append("multiply")
    return names + ["vmap", "vmap", "vmap"] * bool(axes) + ["join"] * (bool(axes) and x.shape == y.shape)


def axes_of(x: torch.Tensor) -> hs.SearchStrategy[int | None]:
    return hs.sampled_from(range(x.ndim)) if x.ndim else hs.none()


@hs.composite
def keys(draw: hs.DrawFn, x: torch.Tensor) -> Any:
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


def broadcasts(x: torch.Tensor, y: torch.Tensor, to_the_second: bool = False) -> bool:
    try:
        shape = np.broadcast_shapes(x.shape, y.shape)
    except ValueError:
        return False
    return shape == y.shape or not to_the_second


def advance(arrays: list[Any], step: Step, form: int, with_gradients: bool = False) -> None:
    name, places, argument = step
    if with_gradients and name in IN_PLACE:
        # torch refuses a gradient where what it has kept for it was changed.
        arrays[places[0]] = arrays[places[0]] * 1
    result = STEPS[name][form](*(arrays[place] for place in places), argument)
    arrays.append(result if isinstance(result, ms.DNDarray) else result.contiguous())


@given(program=programs(), with_gradients=hs.sampled_from([False, False, True]))
@spmd
def test_programs_do_what_they_do_in_one_process(
    program: tuple[tuple[Whole, ...], list[Step]], with_gradients: bool
) -> None:
    """Also to gradients. Some 20,000 steps: `MINISPLIT_EXAMPLES=5000 pytest tests/test_programs.py`."""
    wholes, steps = program
    leaves = [in_order(whole.tensor).requires_grad_(with_gradients) for whole in wholes]
    split_leaves = [whole.cut() for whole in wholes]
    for x in split_leaves:
        x.larray.requires_grad_(with_gradients)
    # torch lets no leaf that requires a gradient be changed in place.
    expected: list[torch.Tensor] = [leaf * 1 for leaf in leaves]
    arrays: list[ms.DNDarray] = [leaf * 1 for leaf in split_leaves]
    for step in steps:
        advance(expected, step, 0, with_gradients)
        advance(arrays, step, 1, with_gradients)
        for x, array in zip(arrays, expected, strict=True):
            assert_close(x, array.detach())
    if with_gradients:
        sum((x * x).sum() for x in expected).backward()
        sum((x * x).sum().larray for x in arrays).backward()
        for leaf, x in zip(leaves, split_leaves, strict=True):
            assert_close(ms.array(x.larray.grad, is_split=x.split), leaf.grad)
