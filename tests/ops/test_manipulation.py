"""Shapes and orders of elements: torch's values for every layout, and messages only where elements must move."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp

import minisplit as ms
from minisplit.testing import Whole, spmd, traffic
from minisplit.testing import strategies as st

Comm = ms.Communication
KINDS = ["balanced", "ragged", "one rank"]
DTYPES = [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float32, torch.float64, torch.complex64]


def values(shape: tuple[int, ...], dtype: torch.dtype = torch.float64, shift: int = 0) -> torch.Tensor:
    return (torch.arange(math.prod(shape), dtype=torch.float64) + shift).reshape(shape).to(dtype)


def layout_of(shape: tuple[int, ...], split: int | None, kind: str, size: int) -> ms.Layout:
    if split is None or kind == "balanced":
        return ms.Layout(shape, split, size)
    extent = shape[split]
    counts = [0] * (size - 1) + [extent]
    if kind == "ragged":  # most on the last rank, nothing on the first of three or more
        counts[size // 2] += extent // 3
        counts[-1] -= extent // 3
    return ms.Layout(shape, split, size, tuple(counts))


def layouts(shape: tuple[int, ...], size: int) -> list[ms.Layout]:
    cut = [layout_of(shape, split, kind, size) for split in range(len(shape)) for kind in KINDS]
    return [ms.Layout(shape, None, size), *cut]


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


# What each function is on the whole array. Of `joined` ones the arguments are several arrays.
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
JOINING = ["concat", "concatenate", "stack", "vstack", "hstack", "column_stack"]
OTHERS = ["broadcast_arrays", "broadcast_shapes", "meshgrid"]


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
    ("column_stack", ((3,), (3, 4)), ()),
    ("broadcast_arrays", ((5, 1), (4,)), ()),
    ("broadcast_arrays", ((5, 4), (5, 4)), ()),
    ("meshgrid", ((5,), (3,)), ()),
    ("meshgrid", ((5,), (3,)), ("ij",)),
]


def call_joined(name: str, arrays: list[ms.DNDarray], args: tuple[Any, ...]) -> Any:
    if name == "meshgrid":
        return ms.meshgrid(*arrays, **({"indexing": args[0]} if args else {}))
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
    least = {"matrix_transpose": 2, "tril": 2, "triu": 2}.get(name, 1)
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
