"""Shapes and orders of elements: torch's values for every layout, and messages only where elements must move."""

from __future__ import annotations

import doctest
import math
import pickle
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp
from layouts import KINDS, layout_of, layouts

import minisplit as ms
from minisplit.core.transfer import elements_moved
from minisplit.ops.shape.layouts import canonical_layout, concat_layout, merge_axes, reshape_layout
from minisplit.testing import Whole, spmd, traffic
from minisplit.testing import strategies as st

Comm = ms.Communication
DTYPES = [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float32, torch.float64, torch.complex64]


def values(shape: tuple[int, ...], dtype: torch.dtype = torch.float64, shift: int = 0) -> torch.Tensor:
    return (torch.arange(math.prod(shape), dtype=torch.float64) + shift).reshape(shape).to(dtype)


def right(x: Any, whole: Any) -> bool:
    """Whether this rank's shards are those of `whole`, one tensor or several, under layouts that fit."""
    if not isinstance(x, ms.DNDarray):
        return len(x) == len(whole) and all(map(right, x, whole))
    if x.shape != tuple(whole.shape) or x.lshape != x.layout.lshape(x.comm.rank) or x.dtype is not whole.dtype:
        return False
    mine = whole[x.layout.box(x.comm.rank)].resolve_conj()
    return torch.equal(x.larray.resolve_conj(), mine)


def assert_all(check: Callable[..., bool], *axes: Iterable[Any]) -> None:
    """Assert that `check` holds for every case, once all are done: it may fail on one rank alone."""
    wrong = [case for case in product(*axes) if not check(*case)]
    assert wrong == []


def expanded(x: torch.Tensor, axis: Any) -> torch.Tensor:
    return x.reshape(np.expand_dims(np.empty(x.shape), axis).shape)


def padded(x: torch.Tensor, width: Any, **options: Any) -> torch.Tensor:
    pairs = np.broadcast_to(np.asarray(width), (x.ndim, 2))
    return torch.nn.functional.pad(x, pairs[::-1].flatten().tolist(), value=options.get("constant_values", 0))


def repeated(x: torch.Tensor, repeats: Any, axis: int | None = None) -> torch.Tensor:
    x = x.reshape(-1) if axis is None else x
    times = np.broadcast_to(np.asarray(repeats), (x.shape[axis or 0],)).tolist()
    return torch.repeat_interleave(x, torch.tensor(times, dtype=torch.int64), axis or 0)


def cut(x: torch.Tensor, parts: Any, axis: int = 0) -> Any:
    return torch.tensor_split(x, parts, axis)


# What each function is on the whole array. Of `concat_layout` ones the arguments are several arrays.
WHOLE: dict[str, Callable[..., Any]] = {
    "permute_dims": torch.permute,
    "transpose": lambda x, axes=None: x.permute(tuple(axes or range(x.ndim)[::-1])),
    "matrix_transpose": lambda x: x.mT,
    "swapaxes": torch.swapaxes,
    "moveaxis": torch.moveaxis,
    "expand_dims": expanded,
    "squeeze": lambda x, axis=None: x.squeeze() if axis is None else x.squeeze(axis),
    "reshape": lambda x, shape: x.reshape(shape),
    "ravel": torch.ravel,
    "flatten": torch.ravel,
    "flip": lambda x, axis=None: x.flip(tuple(range(x.ndim)) if axis is None else axis),
    "flipud": lambda x: x.flip(0),
    "fliplr": lambda x: x.flip(1),
    "rot90": lambda x, k=1, axes=(0, 1): x.rot90(k, axes),
    "atleast_1d": torch.atleast_1d,
    "atleast_2d": torch.atleast_2d,
    "atleast_3d": torch.atleast_3d,
    "roll": torch.roll,
    "tile": torch.tile,
    "repeat": repeated,
    "pad": padded,
    "tril": torch.tril,
    "triu": torch.triu,
    "unstack": torch.unbind,
    "broadcast_to": torch.broadcast_to,
    "array_split": cut,
    "split": cut,
    "vsplit": cut,
    "hsplit": lambda x, parts: cut(x, parts, min(1, x.ndim - 1)),
    "dsplit": lambda x, parts: cut(x, parts, 2),
}
# (function, shape, arguments), and whether no call of it needs a message, whatever the layout.
ROWS: list[tuple[str, tuple[int, ...], tuple[Any, ...], bool]] = [
    ("permute_dims", (5, 2, 3), ((2, 0, 1),), True),
    ("permute_dims", (), ((),), True),
    ("transpose", (5, 2, 3), (), True),
    ("transpose", (5, 3), ((0, -1),), True),
    ("matrix_transpose", (5, 2, 3), (), True),
    ("swapaxes", (5, 2, 3), (0, -1), True),
    ("moveaxis", (5, 2, 3), (0, -1), True),
    ("moveaxis", (5, 2, 3), ((2, 0), (0, 1)), True),
    ("expand_dims", (5, 3), (0,), True),
    ("expand_dims", (5, 3), ((1, -1),), True),
    ("expand_dims", (), (0,), True),
    ("squeeze", (5, 1, 3, 1), (), True),
    ("squeeze", (1, 5, 1), (-1,), True),
    ("squeeze", (1, 5, 1), ((0, 2),), True),
    ("squeeze", (1, 1), (), False),
    ("reshape", (6, 5), ((6, 5),), True),
    ("reshape", (2, 3, 5), ((6, 5),), False),
    ("reshape", (6, 4), ((24,),), False),
    ("reshape", (24,), ((4, -1),), False),
    ("reshape", (6, 4), ((3, 8),), False),
    ("reshape", (6, 4), ((4, 3, 2),), False),
    ("reshape", (1, 6, 1), ((2, 1, 3),), False),
    ("reshape", (7,), ((7, 1, 1),), True),
    ("reshape", (0, 4), ((2, 0, 5),), True),
    ("reshape", (1, 1), ((),), False),
    ("reshape", (), ((1, 1),), True),
    ("reshape", (12,), (12,), True),
    ("ravel", (4, 5), (), False),
    ("ravel", (7,), (), True),
    ("flatten", (4, 5), (), False),
    ("flip", (5, 3), (), False),
    ("flip", (5, 3), (0,), False),
    ("flip", (5, 3), ((1, 0),), False),
    ("flip", (), (), True),
    ("flipud", (5, 3), (), False),
    ("fliplr", (5, 3), (), False),
    *(("rot90", (5, 3), (k,), False) for k in (-1, 0, 1, 2, 3, 5)),
    ("rot90", (2, 5, 3), (1, (2, 1)), False),
    *((f"atleast_{n}d", (5, 3, 2)[:ndim], (), True) for n in (1, 2, 3) for ndim in range(4)),
    ("roll", (7, 3), (2, 0), False),
    ("roll", (7, 3), (-9, 0), False),
    ("roll", (7, 3), ((1, 2), (0, 1)), False),
    ("roll", (7, 3), ((1, 2), (0, 0)), False),
    ("roll", (7, 3), (4,), False),
    ("roll", (7, 3), (7, 0), True),
    ("roll", (0, 3), (1, 0), True),
    ("tile", (5, 2), ((2,),), False),
    ("tile", (5, 2), ((3, 1),), False),
    ("tile", (5, 2), ((7, 2),), False),
    ("tile", (5,), ((2, 1),), True),
    ("tile", (5, 2), ((0, 1),), False),
    ("tile", (0, 2), ((5, 1),), False),
    ("tile", (), ((2, 3),), True),
    ("repeat", (5, 2), (3, 0), True),
    ("repeat", (5, 2), (2, -1), True),
    ("repeat", (5, 2), ([0, 3, 1, 0, 2], 0), True),
    ("repeat", (5, 2), (np.array([2, 1]), 1), True),
    ("repeat", (5, 2), (torch.tensor([0]), 0), True),
    ("repeat", (5,), (2,), True),
    ("repeat", (5, 2), (2,), False),
    ("pad", (5, 2), (1,), True),
    ("pad", (5, 2), ((0, 2),), True),
    ("pad", (5, 2), (((1, 2), (0, 3)),), True),
    ("pad", (0, 2), (((1, 2), (0, 0)),), True),
    ("pad", (), (3,), True),
    ("tril", (5, 4), (), True),
    ("tril", (2, 5, 4), (-2,), True),
    ("triu", (5, 4), (1,), True),
    ("triu", (4, 5), (-1,), True),
    ("unstack", (3, 4), (), False),
    ("unstack", (3, 4, 2), (-1,), False),
    ("unstack", (3,), (), False),
    ("broadcast_to", (5, 3), ((2, 5, 3),), True),
    ("broadcast_to", (5, 1), ((5, 4),), False),
    ("broadcast_to", (1,), ((5, 4),), False),
    ("broadcast_to", (), ((3, 2),), True),
    ("array_split", (7, 3), (3,), True),
    ("array_split", (7, 3), ([2, 2, 9],), True),
    ("split", (6, 4), (2, 1), True),
    ("split", (6, 4), ([1, -2], 0), True),
    ("vsplit", (4, 2), (2,), True),
    ("hsplit", (4, 2), (2,), True),
    ("hsplit", (4,), ([1],), True),
    ("dsplit", (4, 2, 2), (2,), True),
]  # fmt: skip
JOINING = ["concat", "concatenate", "stack", "vstack", "hstack", "dstack", "column_stack"]
OTHERS = ["append", "tri", "broadcast_arrays", "broadcast_shapes", "meshgrid"]


def listed(result: Any) -> list[Any]:
    return [result] if isinstance(result, (ms.DNDarray, torch.Tensor)) else list(result)


@pytest.mark.parametrize(("name", "shape", "args", "local"), ROWS)
def test_functions_of_one_array(
    size: int, name: str, shape: tuple[int, ...], args: tuple[Any, ...], local: bool
) -> None:
    def check(dtype: torch.dtype, layout: ms.Layout) -> bool:
        whole = values(shape, dtype)
        x = Whole(whole, layout).cut()
        with traffic() as seen:
            result = getattr(ms, name)(x, *args)
        good = right(result, WHOLE[name](whole, *args))
        if local or layout.split is None:
            good &= seen.collectives == 0
        good &= seen.collectives <= (3 if name == "roll" and len(args) == 1 else 1)
        for part in listed(result):
            good &= part.comm is x.comm
            part.larray.zero_()  # it has memory of its own
        return good and right(x, whole) and x.layout == layout

    assert_all(check, DTYPES, layouts(shape, size))


def test_every_function_is_in_the_table() -> None:
    assert set(WHOLE) == {name for name, *_ in ROWS}
    assert {*WHOLE, *JOINING, *OTHERS} <= set(ms.__all__)


def stacked(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda arrays, axis=0: function(list(arrays), axis)


def flat_or_cat(arrays: Any, axis: int | None = 0) -> torch.Tensor:
    return torch.cat([x.reshape(-1) for x in arrays], 0) if axis is None else torch.cat(list(arrays), axis)


def meshed(arrays: Any, indexing: str = "xy") -> list[torch.Tensor]:
    """As of torch, which refuses several dtypes."""
    places = torch.meshgrid(*[torch.arange(len(x)) for x in arrays], indexing=indexing)
    return [x[place] for x, place in zip(arrays, places, strict=True)]


JOINED: dict[str, Callable[..., Any]] = {
    "concat": flat_or_cat,
    "concatenate": flat_or_cat,
    "stack": stacked(torch.stack),
    "vstack": lambda arrays: torch.vstack(tuple(arrays)),
    "hstack": lambda arrays: torch.hstack(tuple(arrays)),
    "dstack": lambda arrays: torch.dstack(tuple(arrays)),
    "append": flat_or_cat,
    "column_stack": lambda arrays: torch.column_stack(tuple(arrays)),
    "broadcast_arrays": lambda arrays: [x.clone() for x in torch.broadcast_tensors(*arrays)],
    "meshgrid": meshed,
}
# (function, shapes, arguments): layouts of every pair are tried.
JOINED_ROWS: list[tuple[str, tuple[tuple[int, ...], ...], tuple[Any, ...]]] = [
    ("concat", ((5, 3), (4, 3)), ()),
    ("concat", ((5, 3), (5, 2)), (1,)),
    ("concat", ((5, 3), (5, 2)), (-1,)),
    ("concat", ((5, 3), (0, 3)), (0,)),
    ("concat", ((5, 3), (2,)), (None,)),
    ("concat", ((4,), (1,)), ()),
    ("concatenate", ((2, 3), (7, 3)), (0,)),
    ("stack", ((5, 3), (5, 3)), ()),
    ("stack", ((5, 3), (5, 3)), (-1,)),
    ("stack", ((), ()), ()),
    ("vstack", ((3,), (4, 3)), ()),
    ("vstack", ((), (3, 1)), ()),
    ("hstack", ((3, 2), (3, 5)), ()),
    ("hstack", ((3,), (4,)), ()),
    ("dstack", ((3,), (1, 3)), ()),
    ("dstack", ((3, 2), (3, 2, 4)), ()),
    ("append", ((3, 2), (4, 2)), (0,)),
    ("append", ((3, 2), (4,)), (None,)),
    ("column_stack", ((3,), (3, 4)), ()),
    ("broadcast_arrays", ((5, 1), (4,)), ()),
    ("broadcast_arrays", ((5, 4), (5, 4)), ()),
    ("meshgrid", ((5,), (3,)), ()),
    ("meshgrid", ((5,), (3,)), ("ij",)),
]


def call_joined(name: str, arrays: list[ms.DNDarray], args: tuple[Any, ...]) -> Any:
    if name == "meshgrid":
        return ms.meshgrid(*arrays, **({"indexing": args[0]} if args else {}))
    if name == "append":
        return ms.append(*arrays, axis=args[0])
    return ms.broadcast_arrays(*arrays) if name == "broadcast_arrays" else getattr(ms, name)(arrays, *args)


@pytest.mark.parametrize(("name", "shapes", "args"), JOINED_ROWS)
def test_functions_of_several_arrays(size: int, name: str, shapes: Any, args: tuple[Any, ...]) -> None:
    def check(dtypes: tuple[torch.dtype, torch.dtype], places: tuple[ms.Layout, ms.Layout]) -> bool:
        wholes = [values(shape, kind, 3 * i) for i, (shape, kind) in enumerate(zip(shapes, dtypes, strict=True))]
        arrays = [Whole(*pair).cut() for pair in zip(wholes, places, strict=True)]
        with traffic() as seen:
            result = call_joined(name, arrays, args)
        good = right(result, JOINED[name](wholes, *args))
        good &= seen.collectives <= (2 if name in {"broadcast_arrays", "meshgrid"} or None in args else 1)
        for part in listed(result):
            part.larray.zero_()
        return good and all(map(right, arrays, wholes))

    pairs = list(product(*(layouts(shape, size) for shape in shapes)))
    assert_all(check, [(torch.float32, torch.float32), (torch.int64, torch.bfloat16)], pairs)
    assert_all(check, product(DTYPES, DTYPES), pairs[-1:])


@hyp.composite
def calls(draw: hyp.DrawFn) -> tuple[Whole, str, tuple[Any, ...]]:
    """An array, a function, and arguments that fit."""
    name = draw(hyp.sampled_from(sorted({name for name, *_ in ROWS} - {"dsplit", "hsplit", "vsplit", "split"})))
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


KINDS_OF_NUMBERS = [torch.float64, torch.int32, torch.complex128, torch.bool, torch.float16]


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
    assert right(result, WHOLE[name](whole.tensor, *args))
    assert right(x, whole.tensor)


def weights_of(shape: Any, shift: int = 0) -> torch.Tensor:
    return (values(tuple(shape), torch.float64, 1 + shift) * 0.7).sin()


def assert_gradients(arrays: list[ms.DNDarray], wholes: list[torch.Tensor], ours: Any, theirs: Any) -> None:
    """Assert that gradients, and theirs, of a weighted sum are those of the whole arrays."""

    def weighted(parts: list[torch.Tensor], weights: list[torch.Tensor], shards: list[torch.Tensor]) -> Any:
        total = sum((part * part * weight).sum() for part, weight in zip(parts, weights, strict=True))
        return torch.autograd.grad(total, shards, allow_unused=True, materialize_grads=True)

    weights = [weights_of(part.shape, i) for i, part in enumerate(listed(theirs))]
    mine = [weight[part.layout.box(part.comm.rank)] for weight, part in zip(weights, listed(ours), strict=True)]
    # Of what is replicated every rank has the whole gradient.
    found = weighted([part.larray for part in listed(ours)], mine, [x.larray for x in arrays])
    wanted = weighted(listed(theirs), weights, wholes)
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
    if listed(theirs):
        assert_gradients([x], [tensor], getattr(ms, name)(x, *args), theirs)


@pytest.mark.parametrize(
    ("name", "shape", "args"), [row[:3] for row in ROWS if row[0] in {"reshape", "ravel", "tile"}]
)
def test_gradients_of_what_moves(size: int, name: str, shape: tuple[int, ...], args: tuple[Any, ...]) -> None:
    def check(layout: ms.Layout) -> bool:
        whole = values(shape).requires_grad_()
        x = Whole(whole, layout).cut()
        ours, theirs = getattr(ms, name)(x, *args), WHOLE[name](whole, *args)
        weights = weights_of(theirs.shape)
        (wanted,) = torch.autograd.grad(theirs, whole, weights)
        (found,) = torch.autograd.grad(ours.larray, x.larray, weights[ours.layout.box(x.comm.rank)])
        return torch.allclose(found, wanted[layout.box(x.comm.rank)])

    assert_all(check, layouts(shape, size))


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
    assert right(ours, theirs)
    assert all(map(right, arrays, tensors))
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


def test_where_results_are_split(size: int) -> None:
    x = ms.zeros((2 * size, 3, 4), split=0)
    assert (x.T.split, x.mT.split, ms.moveaxis(x, 0, 1).split, ms.expand_dims(x, (0, 2)).split) == (2, 0, 1, 1)
    ragged = Whole(torch.ones(6, 4), layout_of((6, 4), 0, "ragged", size)).cut()
    assert ragged.reshape(6, 2, 2).counts == ragged.counts
    assert ragged.ravel().counts == tuple(4 * n for n in ragged.counts or ())
    assert ms.roll(ragged, 1, 0).layout == ms.tril(ragged).layout == ragged.layout
    assert ms.flip(ragged, 0).counts == (ragged.counts or ())[::-1]
    assert ms.repeat(ragged, 3, 0).counts == tuple(3 * n for n in ragged.counts or ())
    padded = ms.pad(ragged, (1, 2))
    assert (sum(padded.counts or ()), padded.larray[:, 1:3].sum().item()) == (9, 2.0 * ragged.lshape[0])
    assert ms.stack([ragged, ragged]).layout == ms.Layout((2, 6, 4), 1, size, ragged.layout.ragged)
    assert ms.concat([x, x]).layout == ms.Layout((4 * size, 3, 4), 0, size)
    assert ms.concat([ms.zeros((9, 2)), ms.zeros((9, 3), split=0)], axis=1).split == 0
    assert {y.split for y in ms.unstack(x, axis=0)} == {1}
    assert ms.broadcast_to(ms.zeros((1, 3), split=0), (2 * size, 3)).layout == ms.Layout((2 * size, 3), 0, size)
    assert type(ms.broadcast_arrays(x)) is type(ms.broadcast_arrays()) is type(ms.meshgrid(x[:, 0, 0])) is tuple
    assert [y.split for y in ms.meshgrid(ms.zeros(3), ms.zeros(4, split=0))] == [0, 0]
    last = ms.squeeze(Whole(torch.ones(1, 5), ms.Layout((1, 5), 0, size)).cut())
    assert last.counts == (5, *[0] * (size - 1))


@pytest.mark.serial
def test_layouts_for_many_ranks() -> None:
    ranks = 1000
    rows = ms.Layout((10**6, 6), 0, ranks)
    # A few indices go to neighbours.
    shifted = reshape_layout(rows, (3 * 10**5, 20))
    assert shifted.split == 0
    assert elements_moved(merge_axes(rows), merge_axes(shifted)) < 20 * ranks
    assert reshape_layout(ms.Layout((100,), 0, 2, (48, 52)), (10, 10)).counts == (5, 5)  # 50 is nearer than 40
    # Not onto two ranks, though fewer elements would move.
    assert reshape_layout(ms.Layout((10**6,), 0, ranks), (2, 5 * 10**5)) == ms.Layout((2, 5 * 10**5), 1, ranks)
    assert canonical_layout(reshape_layout(rows, (10**3, 10**3, 2, 3))) == canonical_layout(rows)
    # One row more makes none but its own rank send anything.
    even, one = ms.Layout((10**6,), 0, ranks), ms.Layout((1,), 0, ranks)
    both = concat_layout((even, one), 0, (4, 4))
    assert both.needed[0] == even
    assert both.result.counts == (*[1000] * (ranks - 1), 1001)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.permute_dims(x, (0, 0)), ValueError, r"axes \(0, 0\) names an axis .* more than once"),
        (lambda x: ms.permute_dims(x, (0,)), ValueError, r"each axis of shape \(6, 2\) once, got \(0,\)"),
        (lambda x: ms.permute_dims(x, (0, 2)), IndexError, "axes 2 is out of range for 2 dimensions"),
        (lambda x: ms.matrix_transpose(x[:, 0]), ValueError, r"at least 2 dimensions, got shape \(6,\)"),
        (lambda x: ms.tril(x[:, 0]), ValueError, r"at least 2 dimensions, got shape \(6,\)"),
        (lambda x: ms.moveaxis(x, (0, 1), 0), ValueError, r"as many sources as destinations, got \(0, 1\) and 0"),
        (lambda x: ms.expand_dims(x, 3), IndexError, "axis 3 is out of range for 3 dimensions"),
        (lambda x: ms.squeeze(x, 0), ValueError, r"extent 1, got axis \(0,\) of shape \(6, 2\)"),
        (lambda x: ms.reshape(x, (5, 2)), ValueError, r"12 elements does not fit .* \(5, 2\), which has 10"),
        (lambda x: ms.reshape(x, (-1, 5)), ValueError, r"fit shape \(-1, 5\): 12 is no multiple of 5"),
        (lambda x: ms.reshape(x, (-1, -1)), ValueError, r"but for one -1, got shape \(-1, -1\)"),
        (lambda x: ms.reshape(x, (2.0, 6)), TypeError, "every extent of a shape must be an int, got 2.0"),
        (lambda x: ms.flip(x, 2), IndexError, "axis 2 is out of range"),
        (lambda x: ms.fliplr(x[:, 0]), IndexError, "axis 1 is out of range for 1 dimensions"),
        (lambda x: ms.rot90(x, axes=(0,)), ValueError, r"from one axis to another, got axes \(0,\)"),
        (lambda x: ms.roll(x, (1, 2), 0), ValueError, r"one shift for each axis, got shift \(1, 2\) and axis 0"),
        (lambda x: ms.roll(x, 1.5, 0), TypeError, "shift must be an int, got 1.5"),
        (lambda x: ms.tile(x, -1), ValueError, r"repetitions must not be negative, got \(-1,\)"),
        (lambda x: ms.repeat(x, [1, 2], axis=0), ValueError, r"one int, or 6, .*, got shape \(2,\)"),
        (lambda x: ms.repeat(x, -1, axis=0), ValueError, "repeats must not be negative, got -1"),
        (lambda x: ms.repeat(x, 1.5, axis=0), TypeError, "repeats must be ints, got 1.5"),
        (lambda x: ms.pad(x, 1, "mean"), ValueError, "mode must be one of constant, edge, .* got 'mean'"),
        (lambda x: ms.pad(x[:0], 1, "edge"), ValueError, r"axis 0 of shape \(0, 2\) has no elements"),
        (lambda x: ms.pad(x, -1), ValueError, "none negative, got -1"),
        (lambda x: ms.pad(x, (1, 2, 3)), ValueError, r"or 2 such pairs, .*, got \(1, 2, 3\)"),
        (lambda x: ms.unstack(x, axis=2), IndexError, "axis 2 is out of range"),
        (lambda x: ms.split(x, 4), ValueError, r"axis 0 of shape \(6, 2\) cannot be cut into 4 equal parts"),
        (lambda x: ms.array_split(x, 0), ValueError, "must be at least 1, got 0"),
        (lambda x: ms.broadcast_to(x, (6, 3)), ValueError, r"shapes \(6, 2\) and \(6, 3\) do not broadcast"),
        (lambda x: ms.broadcast_to(x, (2,)), ValueError, r"shape \(6, 2\) does not broadcast to \(2,\)"),
        (lambda x: ms.broadcast_arrays(x, x.T[:, :5]), ValueError, r"\(6, 2\) and \(2, 5\) do not broadcast"),
        (lambda x: ms.concat([x, x[:, :1]]), ValueError, r"shape \(6, 2\) and array 1 has \(6, 1\)"),
        (lambda x: ms.concat([]), ValueError, "concat needs at least one array, got none"),
        (ms.concat, TypeError, "concat needs a sequence of DNDarrays, got DNDarray"),
        (lambda x: ms.concat([x, x.larray]), TypeError, "array 1 must be a DNDarray, got Tensor"),
        (lambda x: ms.concat([x[0, 0]]), IndexError, "axis 0 is out of range for 0 dimensions"),
        (lambda x: ms.stack([x, x.T]), ValueError, r"array 0 has \(6, 2\), array 1 \(2, 6\)"),
        (ms.meshgrid, ValueError, r"array 0 has shape \(6, 2\)"),
        (lambda x: ms.meshgrid(indexing="ji"), ValueError, "'xy' or 'ij', got 'ji'"),
        (lambda x: ms.broadcast_shapes((2,), (3,)), ValueError, r"\(2,\) and \(3,\) do not broadcast"),
        (lambda x: ms.reshape(x.larray, (12,)), TypeError, "x must be a DNDarray, got Tensor"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind_of_layout", KINDS)
def test_errors(size: int, kind_of_layout: str, call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    x = Whole(values((6, 2)), layout_of((6, 2), 0, kind_of_layout, size)).cut()
    with raises_alike(kind, match=words):
        call(x)


def test_errors_come_before_any_message(size: int) -> None:
    x, y = ms.ones((4, 4), split=0), ms.ones((4, 3), split=1)
    with traffic() as seen:
        for call in (lambda: ms.concat([x, y]), lambda: ms.reshape(x.T, (5, -1)), lambda: ms.roll(x, 1, (0, 5))):
            with pytest.raises((ValueError, IndexError)):
                call()
    assert seen.collectives == 0


@pytest.mark.parametrize("name", ["concat", "stack", "broadcast_arrays"])
def test_A12_arrays_on_different_communicators(name: str, raises_alike: Any) -> None:
    x, y = ms.ones(3, split=0), ms.ones(3, split=0, comm=ms.MPI_SELF)
    with raises_alike(ValueError, match="operands must be on one communicator"):
        call_joined(name, [x, y], ())
    with raises_alike(ValueError, match="operands must be on one communicator"):
        ms.repeat(x, ms.ones(3, dtype=torch.int64, comm=ms.MPI_SELF))


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


def test_triangles_of_ones(size: int) -> None:
    for split in (None, 0, 1):
        for args in ((4,), (3, 5), (3, 5, -1), (3, 5, 2)):
            assert right(ms.tri(*args, split=split), torch.from_numpy(np.tri(*args, dtype=np.float32)))
    assert ms.tri(3, dtype=torch.int8).dtype is torch.int8


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
        good = [right(call(x), call(whole)) for call in calls]
        turned, swapped = whole.permute(2, 1, 0), whole.permute(1, 0, 2)
        good += [right(x.T, turned), right(x.transpose(), turned), right(x.reshape([8, 3]), whole.reshape(8, 3))]
        good += [right(x.transpose(1, 0, 2), swapped), right(x.transpose((1, 0, 2)), swapped)]
        return all(good) and right(x.repeat(2, axis=0), whole.repeat_interleave(2, 0))

    assert_all(check, layouts((4, 1, 6), size))
    for name in ("T", "mT", "reshape", "transpose", "swapaxes", "squeeze", "flatten", "ravel", "repeat", "astype"):
        assert getattr(ms.DNDarray, name).__doc__


def test_reshape_without_a_copy(size: int, raises_alike: Any) -> None:
    x = ms.zeros((6, 4), split=0)
    y = ms.reshape(x, (6, 2, 2), copy=False)
    y.larray.fill_(3)
    assert right(x, torch.full((6, 4), 3.0))
    apart = ms.DNDarray(x.larray.T.contiguous().T, x.layout, x.comm)
    with raises_alike(ValueError, match="copy=False, but the shard of this rank has to be copied"):
        ms.reshape(apart, (24,), copy=False)
    if size > 1:
        with raises_alike(ValueError, match="copy=False, but elements change their rank from .* split 1 over"):
            ms.reshape(x.resplit(1), (24,), copy=False)


def test_repeats_that_are_split(size: int) -> None:
    x, times = values((5, 2)), torch.tensor([0, 2, 1, 0, 3])

    def check(layout: ms.Layout, other: ms.Layout) -> bool:
        result = ms.repeat(Whole(x, layout).cut(), Whole(times, other).cut(), axis=0)
        return right(result, x.repeat_interleave(times, 0))

    assert_all(check, layouts((5, 2), size), layouts((5,), size))


def test_padding_of_every_dtype(size: int) -> None:
    for dtype, value in ((torch.bool, True), (torch.int8, -3), (torch.complex64, 1 - 2j), (torch.bfloat16, 0.5)):
        for layout in layouts((3, 2), size):
            result = ms.pad(Whole(values((3, 2), dtype), layout).cut(), ((1, 0), (0, 2)), constant_values=value)
            wanted = torch.full((4, 4), value, dtype=dtype)
            wanted[1:, :2] = values((3, 2), dtype)
            assert right(result, wanted)


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric", "wrap"])
def test_padding_with_what_is_there(size: int, mode: str) -> None:
    """Also by more than there is; and the gradient of each element counts its copies."""
    for shape, widths in (
        ((7,), (2, 3)),
        ((4, 3), ((1, 0), (0, 2))),
        ((2, 1), ((5, 9), (1, 3))),
        ((3, 0), ((1, 1), (0, 0))),
    ):
        whole = values(shape)
        places = torch.from_numpy(np.pad(values(shape, torch.int64).numpy(), widths, mode))
        for layout in layouts(shape, size):
            x = Whole(whole, layout).cut()
            x.larray.requires_grad_()
            with traffic() as seen:
                result = ms.pad(x, widths, mode)
            assert right(result, places.to(torch.float64))
            assert seen.collectives <= (layout.split is not None)
            (mine,) = torch.autograd.grad(result.larray.sum(), x.larray)
            wanted = torch.bincount(places.flatten(), minlength=whole.numel()).reshape(shape).to(torch.float64)
            assert right(ms.DNDarray(mine, layout, x.comm), wanted)
    for dtype in DTYPES:
        x = ms.array(values((5, 2), dtype), split=0)
        wanted = torch.from_numpy(np.pad(values((5, 2)).numpy(), 2, mode)).to(dtype)
        assert right(ms.pad(x, 2, mode), wanted)


def test_padding_sends_what_the_ends_need(size: int) -> None:
    x = ms.ones((4 * size, 2), split=0)
    for mode, sent in (
        ("edge", 0),
        ("symmetric", 0),
        ("wrap", 3 if size > 1 and x.comm.rank in {0, size - 1} else 0),
    ):
        with traffic() as seen:
            ms.pad(x, ((3, 3), (0, 0)), mode)
        assert seen.bytes_sent == sent * 2 * 4
        assert seen.collectives == (mode == "wrap" and size > 1)


def test_A7_strided_and_conjugate_shards(size: int) -> None:
    whole = values((4, 6), torch.complex64) * (1 + 1j)
    wanted = whole.T.conj().resolve_conj()

    def check(layout: ms.Layout) -> bool:
        x = ms.DNDarray(whole.T.conj()[layout.box(ms.get_comm().rank)], layout, ms.get_comm())
        good = [right(x.reshape(24), wanted.reshape(24)), right(ms.roll(x, 1, 0), wanted.roll(1, 0))]
        return all(good) and right(ms.concat([x, x]), torch.cat([wanted, wanted])) and right(ms.pad(x, 0), wanted)

    assert_all(check, layouts((6, 4), size))


@pytest.mark.mpi  # doctest writes to the standard output, which is one for all threads
@pytest.mark.parametrize("name", [*WHOLE, *JOINING, *OTHERS])
def test_a_function_has_a_name_and_an_example(name: str) -> None:
    function = getattr(ms, name)
    assert (function.__name__, function.__qualname__) == (name, name)
    assert pickle.loads(pickle.dumps(function)) is function
    (example,) = doctest.DocTestFinder().find(function, name, globs={})
    ran = doctest.DocTestRunner(verbose=False).run(example)
    assert ran.attempted > 1
    assert ran.failed == 0
