"""Where elementwise functions differ from torch's: infinities, NaN and signed zeros, by the Array API standard."""

from __future__ import annotations

import math
import operator

import numpy as np
import pytest
import torch
from layouts import dealt, layouts

import minisplit as ms
from minisplit.testing import assert_equal

INF, NAN = math.inf, math.nan
SPECIAL: list[tuple[str, list[complex], list[complex], list[complex]]] = [
    ("floor_divide", [INF, -INF, 1, 1, INF, 7.5], [2, 2, -INF, INF, INF, 2], [INF, -INF, -0.0, 0, NAN, 3]),
    ("remainder", [-0.0, 0.0, 4, -4, 5], [2, -2, -2, 2, -3], [0.0, -0.0, -0.0, 0.0, -1]),
    ("sign", [NAN, -INF], [], [NAN, -1]),
    ("acos", [complex(0, 0), complex(-0.0, -0.0)], [], [complex(math.pi / 2, -0.0), complex(math.pi / 2, 0)]),
    ("expm1", [complex(-INF, INF), complex(NAN, 0), complex(INF, 0)], [], [-1, complex(NAN, 0), complex(INF, 0)]),
    ("log1p", [complex(1, INF)], [], [complex(INF, math.pi / 2)]),
    ("tanh", [complex(INF, 2), complex(-INF, -2)], [], [complex(1, 0), complex(-1, -0.0)]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "first", "second", "expected"), SPECIAL)
def test_special_cases_of_the_standard(
    size: int, name: str, first: list[complex], second: list[complex], expected: list[complex]
) -> None:
    dtype = torch.complex128 if isinstance(first[0], complex) else torch.float64
    whole, other, wanted = (torch.tensor(list_, dtype=dtype) for list_ in (first, second, expected))
    parts = torch.view_as_real if dtype.is_complex else torch.clone

    def as_wanted(x: ms.DNDarray) -> bool:
        found, mine = parts(x.larray), parts(wanted[x.layout.box(x.comm.rank)])
        signs_agree = (found.signbit() == mine.signbit()) | found.isnan()
        return torch.allclose(found, mine, rtol=1e-6, atol=0, equal_nan=True) and bool(signs_agree.all())

    operands = [dealt(x, ms.Layout(tuple(whole.shape), 0, size)) for x in (whole, other) if len(x)]
    assert as_wanted(getattr(ms, name)(*operands))
    if name in {"floor_divide", "remainder"}:
        x = operands[0]
        x = operator.ifloordiv(x, operands[1]) if name == "floor_divide" else operator.imod(x, operands[1])
        assert as_wanted(x)


def test_the_gradient_of_a_remainder_of_zero_is_that_of_another(size: int) -> None:
    x = dealt(torch.tensor([4.0, 5.0, -4.0]), ms.Layout((3,), 0, size))
    x.larray.requires_grad_()
    (x % 2).larray.sum().backward()
    assert x.larray.grad is not None
    assert x.larray.grad.eq(1).all()


def test_fractions_and_whole_numbers(size: int) -> None:
    plain = np.array([math.inf, -math.inf, math.nan, -0.0, 0.0, 2.0, -2.5, -3.0, 0.75])
    for layout in layouts((9,), size):
        found = ms.modf(dealt(torch.from_numpy(plain), layout))
        for ours, theirs in zip(found, np.modf(plain), strict=True):
            assert_equal(ours, theirs)
            assert_equal(ms.signbit(ours), np.signbit(theirs))
            assert ours.layout == layout
    fraction, whole = ms.modf(ms.array([3, -2], split=0))
    assert fraction.dtype is whole.dtype is torch.float32
    x = ms.array([2.5, math.inf], split=0)
    x.larray.requires_grad_()
    ms.modf(x)[0].larray.sum().backward()
    assert x.larray.grad is not None
    assert x.larray.grad.eq(1).all()
