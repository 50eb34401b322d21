"""What the arguments `where=`, `initial=` and `out=` of reductions mean, which have NumPy's meaning.

Tested in tests/ops/reductions/test_functions.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.pytorch.dtypes import Dtype, as_element, sanitize_dtype
from minisplit.ops.data_types import astype
from minisplit.ops.elementwise.alignment import align_in_place
from minisplit.ops.elementwise.apply import as_mask, check_one_communicator, operand_shard
from minisplit.ops.elementwise.arithmetic import abs, divide, subtract
from minisplit.ops.elementwise.comparison import greater
from minisplit.ops.elementwise.exponentials import square
from minisplit.ops.elementwise.selection import where as choose
from minisplit.ops.reductions.reduce import (
    Axis,
    accumulation_dtype,
    check_inexact,
    plan_reduction,
    sum_dtype,
    with_fractions,
)

Where = DNDarray | bool
Reduction = Callable[..., DNDarray]
Combination = Callable[..., DNDarray]


def in_dtype(x: DNDarray, dtype: Dtype) -> DNDarray:
    """Return `x` cast to a dtype that has fractions, or as it is for None. TypeError for another one. Local."""
    wanted = sanitize_dtype(dtype)
    if wanted is None:
        return as_dndarray(x)
    check_inexact(wanted, "a variance")
    return astype(x, wanted, copy=False)


def masked(x: DNDarray, where: Where, value: complex) -> DNDarray:
    """Return `x` with `value` where the mask is false, in the layout of `x`. Collective where the mask moves."""
    if where is True:
        return x
    x = as_dndarray(x)
    filler = x._larray.new_tensor(value)
    return DNDarray._wrap(torch.where(_mask_shard(x, where), x._larray, filler), x._layout, x._comm)


def selected(x: DNDarray, where: Where) -> DNDarray:
    """Return the mask as an array of the shape and layout of `x`. Collective where it moves."""
    x = as_dndarray(x)
    shard = _mask_shard(x, where).expand(x._larray.shape)
    return DNDarray._wrap(shard, x._layout, x._comm)


def _mask_shard(x: DNDarray, where: Where) -> torch.Tensor:
    mask = as_mask(where, x)
    check_one_communicator([x, mask])
    return operand_shard(mask, align_in_place(mask._layout, x._layout).needed[0], x._layout)


def with_initial(
    reduction: Reduction,
    combination: Combination,
    x: DNDarray,
    axis: Axis,
    keepdims: bool,
    initial: Any,
    options: dict[str, Any],
) -> DNDarray:
    """Reduce, and combine the results with a number that is there before the first element."""
    x = as_dndarray(x)
    reduced = plan_reduction(x, axis, keepdims)[1]
    dtype = sum_dtype(x.dtype, sanitize_dtype(options["dtype"])) if "dtype" in options else x.dtype
    number = torch.tensor(as_element(initial, dtype, "initial"), dtype=dtype, device=x.device)
    shape = reduced.result.lshape(x._comm.rank)
    first = DNDarray._wrap(number.expand(shape).clone(), reduced.result, x._comm)
    if not reduced.count:  # of no elements the extremes are nothing
        return first
    result = reduction(x, axis, keepdims=keepdims, **options)
    return astype(combination(result, first), result.dtype, copy=False)


def masked_mean(sum: Reduction, x: DNDarray, mask: DNDarray, axis: Axis, dtype: Any, keepdims: bool) -> DNDarray:
    """Return the means of the elements that a mask of the layout of `x` selects; NaN where there are none."""
    wide = accumulation_dtype(dtype)
    total = sum(masked(astype(x, wide, copy=False), mask, 0), axis, keepdims=keepdims)
    return astype(divide(total, sum(mask, axis, keepdims=keepdims)), dtype, copy=False)


def masked_variance(
    sum: Reduction, x: DNDarray, mask: DNDarray, axis: Axis, correction: float, keepdims: bool
) -> DNDarray:
    """Return the variances of the elements that a mask of the layout of `x` selects."""
    x, reduced = plan_reduction(x, axis, keepdims)
    dtype = with_fractions(x.dtype)
    numbers = masked(astype(x, accumulation_dtype(dtype), copy=False), mask, 0)
    dtype = dtype.to_real() if dtype.is_complex else dtype
    # With the reduced axes, so that the mean broadcasts to the numbers.
    count = sum(mask, axis, keepdims=True)
    mean = divide(sum(numbers, axis, keepdims=True), count)
    deviations = abs(masked(subtract(numbers, mean), mask, 0))
    squares = sum(square(deviations), axis, keepdims=True)
    freedom = subtract(count, correction)
    # A negative divisor would give a negative variance.
    result = choose(greater(freedom, 0), divide(squares, freedom), float("nan"))
    shard = result.larray.reshape(reduced.result.lshape(x.comm.rank))
    return DNDarray(shard.to(dtype), reduced.result, x.comm)


def check_initial(initial: Any, where: Where, name: str) -> None:
    """Raise ValueError where a mask may leave no element to choose the extreme of."""
    if where is not True and initial is None:
        raise ValueError(f"{name} of the elements that a mask selects, where there may be none, needs initial=")
