"""Any function of `minisplit.ops.shape` with any arguments: values, gradients, and what is sent.

Each function has rows of its own in the test of its module.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp
from layouts import layouts
from shape_cases import JOINED, WHOLE, as_list, assert_all, call_joined, is_right, values, weights_of

import minisplit as ms
from minisplit.testing import Whole, spmd, traffic
from minisplit.testing import strategies as st

Comm = ms.Communication
KINDS_OF_NUMBERS = [torch.float64, torch.int32, torch.complex128, torch.bool, torch.float16]


@hyp.composite
def calls(draw: hyp.DrawFn) -> tuple[Whole, str, tuple[Any, ...]]:
    """An array, a function, and arguments that fit."""
    name = draw(hyp.sampled_from(sorted(WHOLE.keys() - {"dsplit", "hsplit", "vsplit", "split"})))
    least = {"matrix_transpose": 2, "fliplr": 2, "rot90": 2, "tril": 2, "triu": 2}.get(name, 1)
    whole = draw(
        st.dndarrays(st.shapes(min_dims=least, max_side=5), dtype=draw(hyp.sampled_from(KINDS_OF_NUMBERS)))
    )
    shape, ndim = whole.layout.shape, whole.layout.ndim
    axes, small = hyp.integers(-ndim, ndim - 1), hyp.integers(-6, 6)
    some = hyp.lists(hyp.integers(0, ndim - 1), unique=True, max_size=ndim).map(tuple)
    order = hyp.permutations(range(ndim)).map(tuple)
    ones = tuple(axis for axis in range(ndim) if shape[axis] == 1)
    given: dict[str, hyp.SearchStrategy[Any]] = {
        "permute_dims": hyp.tuples(order),
        "transpose": hyp.tuples(order),
        "swapaxes": hyp.tuples(axes, axes),
        "moveaxis": hyp.tuples(order, order),
        "rollaxis": hyp.tuples(axes, hyp.integers(-ndim, ndim)),
        "expand_dims": hyp.tuples(hyp.integers(-ndim - 1, ndim)),
        "squeeze": hyp.just((ones,)),
        "reshape": reshapings(shape),
        "flip": hyp.tuples(some),
        "roll": hyp.one_of(hyp.tuples(small, axes), hyp.tuples(small)),
        "tile": hyp.tuples(hyp.lists(hyp.integers(0, 5), min_size=1, max_size=ndim + 1).map(tuple)),
        "repeat": repetitions(shape),
        "pad": hyp.tuples(hyp.lists(hyp.tuples(*[hyp.integers(0, 3)] * 2), min_size=ndim, max_size=ndim)),
        "tril": hyp.tuples(small),
        "triu": hyp.tuples(small),
        "unstack": hyp.tuples(axes),
        "broadcast_to": hyp.tuples(hyp.just((2, *(3 if n == 1 else n for n in shape)))),
        "array_split": hyp.tuples(hyp.integers(1, 6), axes),
    }
    return whole, name, draw(given.get(name, hyp.just(())))


@hyp.composite
def reshapings(draw: hyp.DrawFn, shape: tuple[int, ...]) -> tuple[tuple[int, ...]]:
    """Shapes of as many elements, some with a -1 in them."""
    factors = [p for n in shape for p in {4: (2, 2), 0: (0,)}.get(n, (n,))]
    result = [1] * draw(hyp.integers(1, 4))
    for factor in draw(hyp.permutations(factors)):
        result[draw(hyp.integers(0, len(result) - 1))] *= factor
    if math.prod(shape) and draw(hyp.booleans()):
        result[draw(hyp.integers(0, len(result) - 1))] = -1
    return (tuple(result),)


@hyp.composite
def repetitions(draw: hyp.DrawFn, shape: tuple[int, ...]) -> tuple[Any, ...]:
    axis = draw(hyp.one_of(hyp.none(), hyp.integers(0, len(shape) - 1)))
    extent = math.prod(shape) if axis is None else shape[axis]
    counts = hyp.lists(hyp.integers(0, 3), min_size=extent, max_size=extent)
    return draw(hyp.one_of(hyp.integers(0, 3), counts)), axis


@given(call=calls())
@spmd
def test_any_arguments(call: tuple[Whole, str, tuple[Any, ...]]) -> None:
    whole, name, args = call
    x = whole.cut()
    result = getattr(ms, name)(x, *args)
    assert is_right(result, WHOLE[name](whole.tensor, *args))
    assert is_right(x, whole.tensor)


def assert_gradients(arrays: list[ms.DNDarray], wholes: list[torch.Tensor], ours: Any, theirs: Any) -> None:
    """Assert that gradients, and theirs, of a weighted sum are those of the whole arrays."""

    def weighted(parts: list[torch.Tensor], weights: list[torch.Tensor], shards: list[torch.Tensor]) -> Any:
        total = sum((part * part * weight).sum() for part, weight in zip(parts, weights, strict=True))
        return torch.autograd.grad(total, shards, allow_unused=True, materialize_grads=True)

    weights = [weights_of(part.shape, i) for i, part in enumerate(as_list(theirs))]
    mine = [weight[part.layout.box(part.comm.rank)] for weight, part in zip(weights, as_list(ours), strict=True)]
    # Of what is replicated every rank has the whole gradient.
    found = weighted([part.larray for part in as_list(ours)], mine, [x.larray for x in arrays])
    wanted = weighted(as_list(theirs), weights, wholes)
    for x, gradient, whole in zip(arrays, found, wanted, strict=True):
        assert torch.allclose(gradient, whole[x.layout.box(x.comm.rank)])


@given(call=calls())
@spmd
def test_gradients(call: tuple[Whole, str, tuple[Any, ...]]) -> None:
    whole, name, args = call
    real = whole.tensor.real if whole.tensor.is_complex() else whole.tensor
    tensor = real.to(torch.float64).clone().requires_grad_()
    x = Whole(tensor, whole.layout).cut()
    theirs = WHOLE[name](tensor, *args)
    if as_list(theirs):
        assert_gradients([x], [tensor], getattr(ms, name)(x, *args), theirs)


@hyp.composite
def joinings(draw: hyp.DrawFn) -> tuple[tuple[Whole, ...], str, tuple[Any, ...]]:
    name = draw(hyp.sampled_from(["concat", "stack", "broadcast_arrays", "meshgrid"]))
    if name == "broadcast_arrays":
        return draw(st.broadcastable_dndarrays(3, torch.float64)), name, ()
    if name == "meshgrid":
        one = st.dndarrays(st.shapes(1, 1, max_side=4), torch.float64)
        return draw(hyp.tuples(one, one, one)), name, (draw(hyp.sampled_from(["xy", "ij"])),)
    shape = draw(st.shapes(min_dims=1, max_side=4))
    axis = draw(hyp.integers(0, len(shape) - 1))
    others = [shape] * 3
    if name == "concat":
        others = [(*shape[:axis], draw(hyp.integers(0, 5)), *shape[axis + 1 :]) for _ in others]
    kinds = [draw(hyp.sampled_from([torch.float64, torch.float32, torch.int64])) for _ in others]
    wholes = [draw(st.dndarrays(other, kind)) for other, kind in zip(others, kinds, strict=True)]
    return tuple(wholes), name, (axis,)


@given(call=joinings())
@spmd
def test_any_arrays_together(call: tuple[tuple[Whole, ...], str, tuple[Any, ...]]) -> None:
    wholes, name, args = call
    tensors = [whole.tensor.requires_grad_(whole.tensor.is_floating_point()) for whole in wholes]
    arrays = [whole.cut() for whole in wholes]
    ours, theirs = call_joined(name, arrays, args), JOINED[name](tensors, *args)
    assert is_right(ours, theirs)
    assert all(map(is_right, arrays, tensors))
    tracked = [i for i, tensor in enumerate(tensors) if tensor.requires_grad]
    if tracked:
        assert_gradients([arrays[i] for i in tracked], [tensors[i] for i in tracked], ours, theirs)


def owners(layout: ms.Layout) -> torch.Tensor:
    """The rank that has each element; -1 where all do."""
    result = torch.full(layout.shape, -1)
    for rank in range(layout.ranks) if layout.split is not None else ():
        result[layout.box(rank)] = rank
    return result


def must_move(came_from: torch.Tensor, result: ms.Layout) -> int:
    """How many elements of the result are not on the rank that they were on."""
    return int(((came_from != owners(result)) & (came_from != -1)).sum())


@given(call=calls())
@spmd
def test_only_what_changes_its_rank_is_sent(call: tuple[Whole, str, tuple[Any, ...]]) -> None:
    whole, name, args = call
    x = whole.cut()
    with traffic() as seen:
        result = getattr(ms, name)(x, *args)
    if not isinstance(result, ms.DNDarray) or result.split is None or seen.collectives > 1:
        return
    sent = int(x.comm.allreduce(torch.tensor(seen.bytes_sent)))
    came_from = owners(x.layout)
    if name in {"tile", "broadcast_to"} and seen.collectives:  # copies: no rank is sent an element twice
        copies = 1 if name == "broadcast_to" else x.comm.size
        assert sent <= x.nbytes * max(copies, x.comm.size)
    elif name not in {"pad", "tril", "triu"}:
        assert sent == must_move(WHOLE[name](came_from, *args), result.layout) * x.larray.itemsize
    else:
        assert sent == 0


@given(call=joinings())
@spmd
def test_joining_sends_only_what_changes_its_rank(call: tuple[tuple[Whole, ...], str, tuple[Any, ...]]) -> None:
    wholes, name, args = call
    arrays = [whole.cut() for whole in wholes]
    if name not in {"concat", "stack"} or len({x.dtype for x in arrays}) > 1:
        return
    with traffic() as seen:
        result = call_joined(name, arrays, args)
    sent = int(arrays[0].comm.allreduce(torch.tensor(seen.bytes_sent)))
    came_from = JOINED[name]([owners(x.layout) for x in arrays], *args)
    if result.split is not None:
        assert sent == must_move(came_from, result.layout) * arrays[0].larray.itemsize


def test_errors_come_before_any_message(size: int) -> None:
    x, y = ms.ones((4, 4), split=0), ms.ones((4, 3), split=1)
    with traffic() as seen:
        for call in (lambda: ms.concat([x, y]), lambda: ms.reshape(x.T, (5, -1)), lambda: ms.roll(x, 1, (0, 5))):
            with pytest.raises((ValueError, IndexError)):
                call()
    assert seen.collectives == 0


def test_A16_results_stay_on_their_communicator(comm: Comm, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x = ms.ones((4, 6), split=1, comm=part)
    for result in (
        x.T,
        x.reshape(24),
        ms.roll(x, 1, 1),
        ms.concat([x, x], axis=1),
        ms.tile(x, (1, 2)),
        ms.flip(x),
    ):
        assert result.comm is part
    assert x.ravel().numpy().sum() == 24
    part.free()


def test_methods(size: int) -> None:
    calls: list[Callable[[Any], Any]] = [
        lambda x: x.mT,
        lambda x: x.swapaxes(0, 1),
        lambda x: x.squeeze(),
        lambda x: x.squeeze(1),
        lambda x: x.reshape(8, 3),
        lambda x: x.reshape((8, -1)),
        lambda x: x.flatten(),
        lambda x: x.ravel(),
    ]
    whole = values((4, 1, 6))

    def check(layout: ms.Layout) -> bool:
        x = Whole(whole, layout).cut()
        good = [is_right(call(x), call(whole)) for call in calls]
        turned, swapped = whole.permute(2, 1, 0), whole.permute(1, 0, 2)
        good += [
            is_right(x.T, turned),
            is_right(x.transpose(), turned),
            is_right(x.reshape([8, 3]), whole.reshape(8, 3)),
        ]
        good += [is_right(x.transpose(1, 0, 2), swapped), is_right(x.transpose((1, 0, 2)), swapped)]
        return all(good) and is_right(x.repeat(2, axis=0), whole.repeat_interleave(2, 0))

    assert_all(check, layouts((4, 1, 6), size))
    for name in ("T", "mT", "reshape", "transpose", "swapaxes", "squeeze", "flatten", "ravel", "repeat", "astype"):
        assert getattr(ms.DNDarray, name).__doc__


def test_A7_strided_and_conjugate_shards(size: int) -> None:
    whole = values((4, 6), torch.complex64) * (1 + 1j)
    wanted = whole.T.conj().resolve_conj()

    def check(layout: ms.Layout) -> bool:
        x = ms.DNDarray(whole.T.conj()[layout.box(ms.get_comm().rank)], layout, ms.get_comm())
        good = [is_right(x.reshape(24), wanted.reshape(24)), is_right(ms.roll(x, 1, 0), wanted.roll(1, 0))]
        return (
            all(good)
            and is_right(ms.concat([x, x]), torch.cat([wanted, wanted]))
            and is_right(ms.pad(x, 0), wanted)
        )

    assert_all(check, layouts((6, 4), size))
