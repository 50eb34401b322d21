"""Elementwise functions and operators: torch's values for every layout, local where they can be.

All functions of minisplit.ops.elementwise are tested here alike: those of arithmetic, comparison, exponentials,
floating, logic, rounding, selection and trigonometry.
"""

from __future__ import annotations

import doctest
import math
import operator
import pickle
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from layouts import KINDS, dealt, layout_of, layouts

import minisplit as ms
from minisplit.core.pytorch.dtypes import INTEGERS
from minisplit.ops.elementwise.apply import apply_elementwise
from minisplit.testing import Whole, spmd
from minisplit.testing import strategies as st

Comm = ms.Communication
DTYPES = [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float32, torch.float64, torch.complex64]

UNARY = [
    "abs", "acos", "acosh", "angle", "asin", "asinh", "atan", "atanh", "bitwise_invert", "ceil", "conj", "cos",
    "cosh", "deg2rad", "exp", "exp2", "expm1", "fix", "floor", "imag", "isfinite", "isinf", "isnan", "isneginf",
    "isposinf", "isreal", "log", "log10", "log1p", "log2", "logical_not", "negative", "positive", "rad2deg",
    "real", "reciprocal", "round", "sign", "signbit", "sin", "sinc", "sinh", "sqrt", "square", "tan", "tanh",
    "trunc",
]  # fmt: skip
BINARY = [
    "add", "atan2", "bitwise_and", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor",
    "copysign", "divide", "equal", "floor_divide", "fmax", "fmin", "fmod", "gcd", "greater", "greater_equal",
    "heaviside", "hypot", "lcm", "less", "less_equal", "logaddexp", "logaddexp2", "logical_and", "logical_or",
    "logical_xor",
    "maximum", "minimum", "multiply", "nextafter", "not_equal", "pow", "remainder", "subtract",
]  # fmt: skip
OTHER_NAMES = {"bitwise_invert": "bitwise_not", "equal": "eq", "sign": "sgn"}


def heaviside(x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    """torch has it for operands of one dtype only."""
    common = torch.result_type(x1, x2)
    operands = [torch.as_tensor(x, dtype=common) for x in (x1, x2)]
    return torch.heaviside(*operands)


def imag(x: torch.Tensor) -> torch.Tensor:
    """As NumPy: torch has none of real numbers."""
    return torch.imag(x) if x.is_complex() else torch.zeros_like(x)


def of_bits(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A function of bits, of which ours raise TypeError for other operands."""

    def call(*operands: Any) -> torch.Tensor:
        try:
            return function(*operands)
        except (NotImplementedError, RuntimeError):
            raise TypeError from None

    return call


def torch_of(name: str) -> Callable[..., torch.Tensor]:
    if name in {"heaviside", "imag"}:
        return {"heaviside": heaviside, "imag": imag}[name]
    if name.startswith("bitwise_"):
        return of_bits(getattr(torch, OTHER_NAMES.get(name, name)))
    function: Callable[..., torch.Tensor] = getattr(torch, OTHER_NAMES.get(name, name))
    return function


def values(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, shift: int = 0) -> torch.Tensor:
    """Small numbers of both signs, none of them zero."""
    count = math.prod(shape)
    numbers = torch.tensor([(i * 7 + shift) % 11 / 4 - 1.4 for i in range(count)], dtype=torch.float64)
    whole = numbers if dtype.is_floating_point or dtype.is_complex else (numbers.abs() * 3 + 1).floor()
    if dtype.is_complex:
        whole = torch.complex(whole, whole.flip(0) + 1)
    return whole.to(dtype).reshape(shape)


def same(x: torch.Tensor, y: torch.Tensor) -> bool:
    # Vectors of another length round in another way.
    return x.dtype is y.dtype and x.shape == y.shape and torch.allclose(x, y, rtol=1e-6, atol=0, equal_nan=True)


def right(x: Any, whole: Any) -> bool:
    """Whether this rank's shard is that of `whole`; or both are one type of exception."""
    if not isinstance(x, ms.DNDarray) or isinstance(whole, type):
        return x is whole
    fits = x.shape == tuple(whole.shape) and x.lshape == x.layout.lshape(x.comm.rank)
    return fits and same(x.larray, whole[x.layout.box(x.comm.rank)])


def outcome(call: Callable[..., Any], *operands: Any) -> Any:
    try:
        return call(*operands)
    except Exception as error:
        return type(error)


def assert_all(check: Callable[..., bool], *axes: Iterable[Any]) -> None:
    """Assert that `check` holds for every case, once all are done: it may fail on one rank alone."""
    wrong = [case for case in product(*axes) if not check(*case)]
    assert wrong == []


def test_no_function_of_the_standard_is_missing() -> None:
    assert {*UNARY, *BINARY, "clip", "where"} <= set(ms.__all__)


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_array(size: int, name: str) -> None:
    def check(dtype: torch.dtype, layout: ms.Layout) -> bool:
        whole = values((5, 3), dtype)
        x = dealt(whole, layout)
        result = outcome(getattr(ms, name), x)
        wanted = outcome(lambda: torch_of(name)(whole).resolve_conj())
        good = right(result, wanted)
        if isinstance(result, ms.DNDarray):
            good &= result.layout is layout
            result.larray.zero_()  # it has memory of its own
        return good and right(x, whole)

    assert_all(check, DTYPES, layouts((5, 3), size))


def test_numbers_for_nan_and_infinities(size: int) -> None:
    def check(dtype: torch.dtype, options: dict[str, float], layout: ms.Layout) -> bool:
        whole = torch.tensor([[math.nan, 1.5], [math.inf, -math.inf], [0.0, -1.0]], dtype=torch.float64)
        whole = whole.to(dtype) if dtype.is_floating_point or dtype.is_complex else values((3, 2), dtype)
        x = dealt(whole, layout)
        result = ms.nan_to_num(x, **options)
        good = right(result, torch.nan_to_num(whole, **options)) and result.layout is layout
        result.larray.zero_()
        return good and torch.equal(x.larray.isnan(), whole[layout.box(x.comm.rank)].isnan())

    assert_all(check, DTYPES, [{}, {"nan": 7.0, "posinf": 9.0, "neginf": -9.0}], layouts((3, 2), size))


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_arrays(size: int, name: str) -> None:
    def check(dtypes: tuple[torch.dtype, torch.dtype], places: tuple[ms.Layout, ms.Layout]) -> bool:
        a, b = values((5, 3), dtypes[0]), values((5, 3), dtypes[1], shift=4)
        result = outcome(getattr(ms, name), dealt(a, places[0]), dealt(b, places[1]))
        return right(result, outcome(torch_of(name), a, b))

    pairs = list(product(layouts((5, 3), size), repeat=2))
    assert_all(check, product(DTYPES, DTYPES), [pairs[0], *pairs[6::7]])
    assert_all(check, [(torch.float32, torch.float32)], pairs)


@pytest.mark.parametrize("name", BINARY)
def test_arrays_and_numbers(size: int, name: str) -> None:
    def check(number: Any, dtype: torch.dtype, layout: ms.Layout) -> bool:
        plain = number.item() if isinstance(number, np.generic) else number
        whole = values(layout.shape, dtype)
        x = dealt(whole, layout)
        second = right(outcome(getattr(ms, name), x, number), outcome(with_numbers, name, whole, plain))
        first = right(outcome(getattr(ms, name), number, x), outcome(with_numbers, name, plain, whole))
        return first and second

    numbers = [3, 2.5, True, 1 + 2j, np.int64(3), np.float32(2.5), np.bool_(True)]
    assert_all(check, numbers, DTYPES, [ms.Layout((), None, size), ms.Layout((5,), 0, size)])


def with_numbers(name: str, *operands: Any) -> torch.Tensor:
    """torch's function of a tensor and a number, which it may not take as it is."""
    try:
        return torch_of(name)(*operands)
    except TypeError:
        dtype = torch.result_type(*operands)
        return torch_of(name)(
            *(x if isinstance(x, torch.Tensor) else torch.tensor(x, dtype=dtype) for x in operands)
        )


def test_a_number_keeps_its_precision() -> None:
    x = ms.ones(3, dtype=torch.float64, split=0)
    for result in (ms.maximum(x, 1.1), ms.maximum(1.1, x), 0.1 + x, ms.clip(x, 1.1), ms.where(x > 2, x, 1.1)):
        assert result.tolist() == [1.1] * 3


BITS = ["and_", "or_", "xor", "lshift", "rshift"]
OPERATORS = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", *BITS]


@pytest.mark.parametrize("name", [*OPERATORS, "eq", "ne", "lt", "le", "gt", "ge"])
def test_operators(size: int, name: str) -> None:
    apply = getattr(operator, name)
    theirs_of = of_bits(apply) if name in BITS else apply

    def check(dtype: torch.dtype, layout: ms.Layout) -> bool:
        a, b = values((4, 3), dtype), values((4, 3), dtype, shift=5)
        x, y = dealt(a, layout), dealt(b, ms.Layout((4, 3), 0, size))
        pairs = (((x, y), (a, b)), ((x, 2), (a, 2)), ((2, x), (2, a)))
        results = [right(outcome(apply, *ours), outcome(theirs_of, *theirs)) for ours, theirs in pairs]
        return all(results)

    assert_all(check, [torch.int64, torch.float32], layouts((4, 3), size))


@pytest.mark.parametrize("name", ["abs", "neg", "pos", "invert"])
def test_operators_of_one_array(size: int, name: str) -> None:
    apply, whole = getattr(operator, name), values((4, 3), torch.int64)
    assert_all(lambda layout: right(apply(dealt(whole, layout)), apply(whole)), layouts((4, 3), size))


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_in_place(size: int, name: str) -> None:
    apply = getattr(operator, f"i{name.strip('_')}")
    theirs = of_bits(apply) if name in BITS else apply

    def check(dtype: torch.dtype, layout: ms.Layout, other: Any, place: ms.Layout | None) -> bool:
        x = dealt(values((4, 3), dtype), layout)
        y = other if place is None else dealt(other, place)
        shard = x.larray
        result = outcome(apply, x, y)
        good = right(result, outcome(theirs, values((4, 3), dtype), other))
        kept = x.larray is shard and x.layout is layout and (result is x or isinstance(result, type))
        return good and kept and (place is None or right(y, other))

    kinds, here = [torch.int64, torch.float32], layouts((4, 3), size)
    for other in (values((4, 3), torch.int64, 5), values((3,), torch.float32, 5), values((4, 1), torch.int64)):
        assert_all(check, kinds, here, [other], layouts(tuple(other.shape), size))
    assert_all(check, kinds, here, [2, 2.5, np.int8(2)], [None])


@pytest.mark.parametrize("name", ["add", "maximum", "less", "copysign", "bitwise_xor"])
def test_a_0d_array_promotes_as_any_other(size: int, name: str) -> None:
    kinds = (torch.int16, torch.uint8) if "bit" in name else (torch.float64, torch.float32)
    a, b = values((), kinds[0]), values((5,), kinds[1], shift=4)
    x, y = dealt(a, ms.Layout((), None, size)), dealt(b, ms.Layout((5,), 0, size))
    assert right(getattr(ms, name)(x, y), torch_of(name)(a, b.to(kinds[0])))
    assert right(getattr(ms, name)(y, x), torch_of(name)(b.to(kinds[0]), a))
    whole = ms.where(y > 0, x, y)
    assert whole.dtype is kinds[0]


@given(three=st.broadcastable_dndarrays(3, torch.float64))
@spmd
def test_any_layouts_that_broadcast(three: tuple[Whole, Whole, Whole]) -> None:
    kinds = (torch.float64, torch.float32, torch.int64)
    a, b, c = (whole.tensor.to(kind) for whole, kind in zip(three, kinds, strict=True))
    x, y, z = (Whole(tensor, whole.layout).cut() for tensor, whole in zip((a, b, c), three, strict=True))
    done = [
        (x * y, a * b.double()),
        (y + z, b + c.float()),
        (ms.where(z > 2, x, y), torch.where(c > 2, a, b.double())),
        (ms.clip(x, y, z), torch.clip(a, b, c)),
    ]
    assert_all(lambda pair: right(*pair), [*done, (x, a), (y, b), (z, c)])


@given(two=st.broadcastable_dndarrays(2, torch.float64))
@spmd
def test_gradients_are_those_of_the_whole_arrays(two: tuple[Whole, Whole]) -> None:
    wholes = [whole.tensor.clone().requires_grad_() for whole in two]
    arrays = [Whole(tensor, whole.layout).cut() for tensor, whole in zip(wholes, two, strict=True)]
    ours = arrays[0] * arrays[1] + arrays[0]
    wanted = wholes[0] * wholes[1] + wholes[0]
    weights = values(tuple(wanted.shape), torch.float64, 3)
    gradients = torch.autograd.grad(wanted, wholes, weights)
    mine = weights[ours.layout.box(ours.comm.rank)]
    found = torch.autograd.grad(ours.larray, [x.larray for x in arrays], mine)
    pairs = zip(arrays, found, gradients, strict=True)
    assert_all(lambda case: right(ms.DNDarray(case[1], case[0].layout, case[0].comm), case[2]), pairs)


def test_second_derivatives_of_a_shared_operand(size: int, rank: int) -> None:
    """Of sum(w * w * x) by the replicated w, with x cut."""
    x = values((5,), torch.float64)
    w = ms.array(torch.tensor(3.0, dtype=torch.float64))
    w.larray.requires_grad_()
    part = (w * w * dealt(x, ms.Layout((5,), 0, size))).larray.sum()
    (first,) = torch.autograd.grad(part, w.larray, create_graph=True)
    (second,) = torch.autograd.grad(first, w.larray)
    assert math.isclose(first.item(), 6 * x.sum().item())
    assert math.isclose(second.item(), 2 * x.sum().item())


def test_no_message_where_the_layouts_agree(size: int, calls: Counter[str]) -> None:
    for layout in layouts((6, 4), size):
        x, y = (dealt(values((6, 4), shift=i), layout) for i in range(2))
        z = ms.where(ms.exp(x) + y > 1, 2 - x, ms.maximum(y, 1)) // y
        z += x
        z *= ms.ones(4)  # replicated: each rank takes its part
        z = z + ms.ones((6, 1)) + ms.ones((6, 4)) + ms.array(2.0)
        assert z.layout is layout if layout.split is not None else z.layout == layout
    ms.arange(6, split=0) // 2
    ms.arange(6, split=0) ** 2
    assert calls == Counter()


def test_what_moves_moves_once(size: int) -> None:
    x, y = ms.ones((2 * size, 2 * size), split=0), ms.ones((2 * size, 2 * size), dtype=torch.int32, split=1)
    with ms.testing.traffic() as seen:
        total = y + x.larray.dtype.itemsize * x  # x has as many bytes per element as y
    assert total.split == 1
    assert seen.calls == ({"exchange": 1} if size > 1 else {})


def test_a_replicated_operand_is_cut_without_a_copy(size: int) -> None:
    seen: list[torch.Tensor] = []

    def add(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        seen.append(b)
        return a + b

    whole = ms.arange(4 * size)
    apply_elementwise(add, (ms.arange(4 * size, split=0), whole), "add")
    assert seen[0].untyped_storage().data_ptr() == whole.larray.untyped_storage().data_ptr()


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: x + ms.ones(4), ValueError, r"shapes \(6,\) and \(4,\) do not broadcast: axis -1 has"),
        (lambda x: ms.where(x > 0, x, ms.ones(4)), ValueError, r"shapes \(6,\) and \(6,\) and \(4,\) do not"),
        (lambda x: x.__iadd__(ms.ones((2, 6))), ValueError, r"keeps the shape \(6,\), but \(2, 6\) would make"),
        (lambda x: x & x, TypeError, "needs bools or integers, got torch.float32"),
        (lambda x: x & ms.arange(6), TypeError, "needs bools or integers, got torch.float32"),
        (lambda x: ms.arange(6, split=0).__iadd__(x), RuntimeError, "type Float can't be cast to .* Long"),
        (lambda x: ms.arange(6, split=0).__iadd__(2.5), RuntimeError, "type Float can't be cast to .* Long"),
        (lambda x: ms.arange(6, split=0) ** -1, RuntimeError, "Integers to negative integer powers"),
        (lambda x: x + torch.ones(6), TypeError, r"operand 2 of add .* got Tensor; .*array\(\.\.\., split="),
        (lambda x: torch.ones(6) + x, TypeError, r"operand 1 of add .* got Tensor; .* minisplit\.array"),
        (lambda x: np.ones(6) * x, TypeError, r"operand 1 of multiply .* got ndarray; .* minisplit\.array"),
        (lambda x: x == np.ones(6), TypeError, r"operand 2 of equal .* got ndarray; .* minisplit\.array"),
        (lambda x: x.__iadd__(torch.tensor(1.0)), TypeError, r"operand 2 of add must be .* got Tensor; .*array"),
        (lambda x: x + "a", TypeError, r"unsupported operand type\(s\) for \+: 'DNDarray' and 'str'"),
        (lambda x: [1.0] * 6 - x, TypeError, r"unsupported operand type\(s\) for -: 'list' and 'DNDarray'"),
        (lambda x: ms.add(x, None), TypeError, "operand 2 of add must be a DNDarray or a number, got NoneType"),
        (lambda x: ms.add(1, 2.0), TypeError, r"an operand of add must be a DNDarray, got 1 and 2\.0"),
        (lambda x: ms.exp(torch.ones(6)), TypeError, r"x must be a DNDarray, got Tensor; make one with"),
        (lambda x: ms.exp(2.0), TypeError, "x must be a DNDarray, got float"),
        (lambda x: ms.clip(2.0, x, x), TypeError, "x must be a DNDarray, got float"),
        (lambda x: ms.clip(x, 1j), TypeError, "clip needs numbers that have an order, got .* and the bounds 1j"),
        (lambda x: ms.where(x, x, x), TypeError, r"condition must be of dtype torch\.bool, got torch\.float32"),
        (lambda x: ms.where(True, x, x), TypeError, "condition must be a DNDarray, got bool"),
        (lambda x: ms.where(x > 0, x), TypeError, "two to choose from, or the condition alone; one is missing"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind_of_layout", KINDS)
def test_errors_before_any_message(
    size: int, kind_of_layout: str, call: Any, kind: Any, words: str, raises_alike: Any, calls: Counter[str]
) -> None:
    x = dealt(values((6,)), layout_of((6,), 0, kind_of_layout, size))
    with raises_alike(kind, match=words):
        try:
            call(x)
        finally:
            assert calls == Counter()
    assert right(x, values((6,)))


def test_a_dtype_that_torch_refuses_is_refused_before_any_message(
    size: int, raises_alike: Any, calls: Counter[str]
) -> None:
    x, y = ms.ones((4, 4), split=0), ms.ones((4, 4), split=1)
    leaf = ms.ones((4, 4), split=0)
    leaf.larray.requires_grad_()
    for call, kind, words in (
        (lambda: x | y, TypeError, "needs bools or integers, got torch.float32"),
        (lambda: ms.arange(4, split=0).__itruediv__(ms.ones(1, split=0)), RuntimeError, "can't be cast"),
        (lambda: leaf.__iadd__(y), RuntimeError, "a leaf Variable that requires grad"),
        (lambda: leaf.__iadd__(1), RuntimeError, "a leaf Variable that requires grad"),
    ):
        with raises_alike(kind, match=words):
            try:
                call()
            finally:
                assert not set(calls) & {"Isend", "Irecv", "Allreduce"}
        calls.clear()  # raises_alike made some
    with torch.no_grad():
        leaf += y
    assert right(leaf, torch.full((4, 4), 2.0).requires_grad_())


@pytest.mark.parametrize("call", [ms.add, operator.iadd, operator.lt, lambda x, y: ms.where(y > 0, y, x)])
def test_A12_operands_on_different_communicators(comm: Comm, call: Any, raises_alike: Any) -> None:
    kinds = "(MPI|Thread|Torch|Single)Communication"
    words = rf"operands must be on one communicator, got {kinds} of \d+ ranks and another"
    same_ranks = comm.split(0)
    assert same_ranks is not None
    for other in (ms.MPI_SELF, same_ranks):
        with raises_alike(ValueError, match=words):
            call(ms.ones(3, split=0), ms.ones(3, split=0, comm=other))
    same_ranks.free()


def test_A16_results_stay_on_their_communicator(comm: Comm, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x, y = ms.ones((4, 4), split=0, comm=part), ms.ones((4, 4), split=1, comm=part)
    for result in (x + y, x * 2, -x, ms.where(x > y, x, y)):
        assert result.comm is part
    assert (x + y).numpy().sum() == 32
    part.free()


@pytest.mark.parametrize("function", [ms.floor_divide, ms.remainder, ms.fmod, operator.ifloordiv, operator.imod])
def test_a_zero_divisor_of_one_rank_is_an_error_of_all(size: int, function: Any, raises_alike: Any) -> None:
    divisors = torch.ones(2 * size, dtype=torch.int64)
    divisors[-1] = 0
    with raises_alike(
        RuntimeError, match=rf"ZeroDivisionError\n  rank {size - 1} of {size} failed while computing "
    ):
        function(ms.arange(2 * size, split=0), ms.array(divisors, split=0))
    with raises_alike(RuntimeError, match="ZeroDivisionError"):  # ranks without elements meet no zero
        function(ms.arange(1, split=0), 0)
    with np.errstate(divide="ignore"):
        assert function(ms.ones(3, split=0), ms.zeros(3, split=0)).shape == (3,)


# Those whose results have the dtype of the integers.
INTEGRAL = [
    "add", "bitwise_and", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor",
    "floor_divide", "fmax", "fmin", "fmod", "gcd", "heaviside", "lcm", "maximum", "minimum", "multiply", "pow",
    "remainder", "subtract",
]  # fmt: skip


@pytest.mark.parametrize("name", INTEGRAL)
def test_A19_numbers_outside_of_integers_are_refused(size: int, name: str, raises_alike: Any) -> None:
    function = getattr(ms, name)
    for dtype, ints in INTEGERS.items():
        # The last rank has the only element.
        x = dealt(torch.ones(1, dtype=dtype), layout_of((1,), 0, "one rank", size))
        low, high = ints[0], min(ints[-1], 2**63 - 1)
        for number in (low - 1, high + 1, 2**70):
            words = rf"beside an array of {dtype} must be from {low} to {high}, got {number} in {name}"
            for operands in ((x, number), (number, x)):
                with raises_alike(OverflowError, match=words):
                    function(*operands)
        if dtype not in {torch.uint16, torch.uint32, torch.uint64} and name != "pow":
            assert function(x, high).dtype is function(high, x).dtype is dtype
            assert outcome(function, x, np.int64(low)) is not OverflowError


def test_A19_numbers_outside_of_integers_in_place_and_in_choices(size: int, raises_alike: Any) -> None:
    x = ms.array([1, 200], dtype=torch.uint8, split=0)
    for change in (operator.iadd, operator.isub, operator.imul, operator.ifloordiv, operator.iand):
        with raises_alike(OverflowError, match=r"must be from 0 to 255, got -1 in"):
            change(x, -1)
    with raises_alike(OverflowError, match="from 0 to 255, got 300 in where"):
        ms.where(x > 1, x, 300)
    with raises_alike(OverflowError, match="from 0 to 255, got 300 in clip"):
        ms.clip(x, 300)
    assert ms.where(x > 1, 300, -1).tolist() == [-1, 300]
    # As NumPy: a limit that no number of the dtype reaches limits none.
    assert ms.clip(x, -1, 30).tolist() == [1, 30]
    assert ms.clip(x, 2, 300).tolist() == [2, 200]
    assert ms.clip(x, -(2**70), 2**70).tolist() == [1, 200]
    assert x.tolist() == [1, 200]


def test_A19_numbers_outside_of_integers_by_their_values() -> None:
    plain = np.array([1, 5, 44, 200], dtype=np.uint8)
    x, wide = ms.array(plain, split=0), plain.astype(np.float64)
    for name, number in product(
        ("divide", "atan2", "copysign", "hypot", "logaddexp", "isclose"), (300, -1, 2**70)
    ):
        for ours, numpy in (((x, number), (wide, float(number))), ((number, x), (float(number), wide))):
            found, wanted = getattr(ms, name)(*ours), getattr(np, {"atan2": "arctan2"}.get(name, name))(*numpy)
            np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-6)
    assert ms.logical_and(x, 256).tolist() == [True] * 4
    assert ms.searchsorted(x, 256).item() == ms.searchsorted(x, 2**70).item() == 4
    assert ms.isin(x, 256).tolist() == ms.isin(x, 2**70).tolist() == [False] * 4


def test_the_rule_for_functions_of_bits(size: int, raises_alike: Any) -> None:
    x, b = ms.ones(3, split=0), ms.ones(3, dtype=torch.bool, split=0)
    with raises_alike(TypeError, match=r"bitwise_left_shift needs integers, got torch\.float32 and int; cast"):
        _ = x << 1
    with raises_alike(TypeError, match=r"bitwise_right_shift needs integers, got int and torch\.float32"):
        _ = 1 >> x
    with raises_alike(TypeError, match=r"bitwise_and needs bools or integers, got torch\.bool and float"):
        _ = b & 1.5
    with raises_alike(TypeError, match=r"bitwise_left_shift needs integers, got torch\.bool and torch\.bool"):
        _ = b << b
    with raises_alike(TypeError, match=r"bitwise_invert needs bools or integers, got torch\.float32"):
        _ = ~x
    with raises_alike(TypeError, match=r"bitwise_or needs bools or integers, got torch\.float32 and int"):
        x |= 1
    with raises_alike(TypeError, match=r"bitwise_xor needs bools or integers, got torch\.float32 and torch\.bool"):
        _ = x ^ b.resplit(None)


def test_other_classes_may_take_part() -> None:
    class Other:
        def __radd__(self, x: Any) -> str:
            return "mine"

        __rlt__ = __gt__ = __radd__

    x = ms.ones(3, split=0)
    assert x + Other() == "mine"
    assert (x < Other()) == "mine"
    x += Other()
    assert x == "mine"


def test_arrays_hash_by_identity_and_equal_nothing_foreign() -> None:
    x, y = ms.ones(3, split=0), ms.ones(3, split=0)
    assert len({x, y, x}) == 2
    assert (x == None) is False  # noqa: E711
    assert (x != "x") is True


def test_a_chain_of_broadcast_operands_in_debug_mode(size: int) -> None:
    with ms.debug():
        x = ms.ones((4, 6), split=1) + ms.ones((4, 1), split=0) * ms.arange(6, split=0)
        assert right(x, torch.ones(4, 6) + torch.arange(6.0))


def test_A7_conjugate_and_negative_views(size: int) -> None:
    whole, other = values((4, 3), torch.complex64).conj(), ms.ones((4, 3), split=0)

    def check(layout: ms.Layout) -> bool:
        x, y = (
            ms.DNDarray(view[layout.box(ms.get_comm().rank)], layout, ms.get_comm())
            for view in (whole, whole.imag)
        )
        total, product = x + other, y * other
        good = right(total, whole.resolve_conj() + 1) and right(product, whole.imag.resolve_neg())
        return good and right(ms.conj(x), whole.conj())

    assert_all(check, layouts((4, 3), size))


@pytest.mark.processes  # doctest writes to the standard output, which is one for all threads
@pytest.mark.parametrize("name", [*UNARY, *BINARY, "clip", "where"])
def test_a_function_has_a_name_and_an_example(name: str) -> None:
    function = getattr(ms, name)
    assert (function.__name__, function.__qualname__) == (name, name)
    assert pickle.loads(pickle.dumps(function)) is function
    (example,) = doctest.DocTestFinder().find(function, name, globs={})
    ran = doctest.DocTestRunner(verbose=False).run(example)
    assert ran.attempted > 1
    assert ran.failed == 0
