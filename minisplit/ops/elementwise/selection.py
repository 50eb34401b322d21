"""The greater or lesser of elements, and the choice between them.

Tested with all elementwise functions in tests/ops/elementwise/test_apply.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np
import torch

from minisplit.core.array import DNDarray, Operand, as_dndarray, replicated
from minisplit.core.error_text import short_repr
from minisplit.core.factories import full_like
from minisplit.core.pytorch.dtypes import INTEGERS, as_element
from minisplit.ops.data_types import astype
from minisplit.ops.elementwise.apply import apply_elementwise, binary, choose_where, into
from minisplit.ops.elementwise.arithmetic import remainder
from minisplit.ops.elementwise.comparison import equal


def clip(
    x: DNDarray,
    /,
    min: Operand | None = None,
    max: Operand | None = None,
    *,
    out: DNDarray | None = None,
    where: DNDarray | bool = True,
) -> DNDarray:
    """Limit each element to a range.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    min : DNDarray or number, optional
        The lower bound. By default there is none. It broadcasts with `x`, as in NumPy.
    max : DNDarray or number, optional
        The upper bound. By default there is none. It broadcasts with `x`, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The numbers, where they are within the bounds; elsewhere the bound. Where the lower bound is above the
        upper one, the upper one. Split as one of the operands, as that for which the fewest bytes move.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, a bound is neither a DNDarray nor a number, or a number is complex.
    ValueError
        If the shapes do not broadcast, or the arrays are on different communicators.

    Communication
    -------------
    Local where the arrays have one layout, or only one of them is split. Otherwise collective: one exchange for
    each array that is not split as the result, or that is split along an axis on which it is broadcast.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.clip(ms.arange(5, split=0), 1, 3).tolist()
    [1, 1, 2, 3, 3]
    """
    dtype = as_dndarray(x).dtype
    # As NumPy: an int beyond the dtype on its own side limits nothing.
    if type(min) is int and dtype in INTEGERS and min < INTEGERS[dtype][0]:
        min = None
    if type(max) is int and dtype in INTEGERS and max > INTEGERS[dtype][-1]:
        max = None
    bounds = [bound for bound in (min, max) if bound is not None]
    if bounds and (dtype.is_complex or any(isinstance(bound, (complex, np.complexfloating)) for bound in bounds)):
        shown = ", ".join(str(bound.dtype) if isinstance(bound, DNDarray) else str(bound) for bound in bounds)
        raise TypeError(f"clip needs numbers that have an order, got {dtype} and the bounds {shown}")
    # torch.clip takes numbers or tensors as bounds, but not one of each.
    takes_numbers = not any(isinstance(bound, DNDarray) for bound in bounds)
    function = torch.clone if not bounds else _clip_above if min is None else torch.clip
    return into(apply_elementwise(function, (x, *bounds), "clip", takes_numbers), out, where)


def _clip_above(x: torch.Tensor, bound: torch.Tensor | complex) -> torch.Tensor:
    """Return `torch.clip` with the upper bound alone."""
    return torch.clip(x, max=bound)


def fmax(x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Return the greater of two elements, or the one that is not NaN.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The numbers. At least one is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The greater numbers; NaN where both are. The dtype is that of `result_type`. Split as one of the operands,
        as that for which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    RuntimeError
        If the elements are complex.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    See Also
    --------
    maximum : NaN where an element is NaN.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fmax(ms.array([1.0, float('nan')], split=0), 0.0).tolist()
    [1.0, 0.0]
    """
    return binary(torch.fmax, "fmax", x1, x2, numbers=0, out=out, where=where)


def fmin(x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Return the lesser of two elements, or the one that is not NaN.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The numbers. At least one is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The lesser numbers; NaN where both are. The dtype is that of `result_type`. Split as one of the operands,
        as that for which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    RuntimeError
        If the elements are complex.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    See Also
    --------
    minimum : NaN where an element is NaN.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fmin(ms.array([1.0, float('nan')], split=0), 0.0).tolist()
    [0.0, 0.0]
    """
    return binary(torch.fmin, "fmin", x1, x2, numbers=0, out=out, where=where)


def maximum(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Return the greater of two elements.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The numbers. At least one is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The greater numbers; NaN where one is. The dtype is that of `result_type`. Split as one of the operands, as
        that for which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    RuntimeError
        If the elements are complex.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    See Also
    --------
    max : The greatest element along an axis.
    fmax : NaN only where both elements are NaN.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.maximum(ms.arange(4, split=0), 2).tolist()
    [2, 2, 2, 3]
    """
    return binary(torch.maximum, "maximum", x1, x2, numbers=0, out=out, where=where)


def minimum(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Return the lesser of two elements.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The numbers. At least one is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The lesser numbers; NaN where one is. The dtype is that of `result_type`. Split as one of the operands, as
        that for which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    RuntimeError
        If the elements are complex.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    See Also
    --------
    min : The least element along an axis.
    fmin : NaN only where both elements are NaN.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.minimum(ms.arange(4, split=0), 2).tolist()
    [0, 1, 2, 2]
    """
    return binary(torch.minimum, "minimum", x1, x2, numbers=0, out=out, where=where)


@overload
def where(condition: DNDarray, /) -> tuple[DNDarray, ...]: ...
@overload
def where(condition: DNDarray, x1: Operand, x2: Operand, /) -> DNDarray: ...
def where(
    condition: DNDarray, x1: Operand | None = None, x2: Operand | None = None, /
) -> DNDarray | tuple[DNDarray, ...]:
    """Choose each element from one of two arrays, or find where a condition is true.

    Parameters
    ----------
    condition : DNDarray
        Bools: true where to take the element of `x1`. Numbers, of which 0 is false, where nothing is chosen.
    x1, x2 : DNDarray or number, optional
        What to choose from: both or neither. The three shapes broadcast, as in NumPy.

    Returns
    -------
    DNDarray or tuple of DNDarray
        The elements of `x1` where the condition is true, and of `x2` elsewhere. The dtype is that of
        `result_type(x1, x2)`. Split as one of the operands, as that for which the fewest bytes move. With the
        condition alone, the indices that `nonzero` returns.

    Raises
    ------
    TypeError
        If the condition is not a DNDarray of bools, an operand is neither a DNDarray nor a number, or only one
        operand is given.
    ValueError
        If the shapes do not broadcast, or the arrays are on different communicators.

    Communication
    -------------
    Local where the arrays have one layout, or only one of them is split. Otherwise collective: one exchange for
    each array that is not split as the result, or that is split along an axis on which it is broadcast. With the
    condition alone that of `nonzero`.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.arange(4, split=0)
    >>> ms.where(x > 1, x, -1).tolist()
    [-1, -1, 2, 3]
    >>> ms.where(x > 1)[0].tolist()
    [2, 3]
    """
    as_dndarray(condition, "condition")
    if x1 is None and x2 is None:
        return condition.nonzero()
    if x1 is None or x2 is None:
        raise TypeError("where takes a condition and two to choose from, or the condition alone; one is missing")
    if condition.dtype is not torch.bool:
        raise TypeError(f"condition must be of dtype torch.bool, got {condition.dtype}; compare it, as in x != 0")
    # The condition is an operand as well: it broadcasts, and moves where that is cheaper.
    return apply_elementwise(choose_where, (condition, x1, x2), "where")


def copyto(dst: DNDarray, src: Operand, /, *, where: DNDarray | bool = True) -> None:
    """Copy elements into an array, in place.

    Parameters
    ----------
    dst : DNDarray
        The array to write into. Its layout and dtype stay.
    src : DNDarray or number
        What to write. It broadcasts to `dst`, as in NumPy.
    where : DNDarray or bool, default True
        Bools, which broadcast: which elements to write.

    Raises
    ------
    TypeError
        If `dst` is not a DNDarray, has no place for the dtype of `src`, or `where` is no array of bools.
    ValueError
        If the shapes do not broadcast to that of `dst`, or the arrays are on different communicators.

    Communication
    -------------
    Local where the arrays have one layout, or `src` and `where` are replicated. Otherwise collective: one exchange
    for each array that is in another layout than `dst`.

    See Also
    --------
    DNDarray.__setitem__ : `dst[...] = src`, and parts of `dst`.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.arange(4, split=0)
    >>> ms.copyto(x, 0, where=x > 1)
    >>> x.tolist()
    [0, 1, 0, 0]
    """
    if not isinstance(src, DNDarray):
        number = torch.tensor(as_element(src, as_dndarray(dst, "dst").dtype, "src"), dtype=dst.dtype)
        src = replicated(number.to(dst.device), dst.comm)
    into(src, dst, where)


def select(condlist: Sequence[DNDarray], choicelist: Sequence[Operand], /, default: Operand = 0) -> DNDarray:
    """Choose each element from the array of the first condition that is true.

    Parameters
    ----------
    condlist : sequence of DNDarray
        Conditions: bools.
    choicelist : sequence of DNDarray or number
        What to choose from, an array for each condition. All shapes broadcast, as in NumPy.
    default : DNDarray or number, default 0
        What to take where no condition is true.

    Returns
    -------
    DNDarray
        The elements chosen. The dtype is that of `result_type` of all choices. Split as one of the arrays.

    Raises
    ------
    TypeError
        If a condition is not a DNDarray of bools, or a choice neither a DNDarray nor a number.
    ValueError
        If there is no condition, or not as many choices; or the shapes do not broadcast, or the arrays are on
        different communicators.

    Communication
    -------------
    Local where the arrays have one layout, or only one of them is split. Otherwise collective: for each condition
    as `where`.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.arange(6, split=0)
    >>> ms.select([x < 2, x > 3], [x, 10 * x], -1).tolist()
    [0, 1, -1, -1, 40, 50]
    """
    if not condlist or len(condlist) != len(choicelist):
        raise ValueError(
            f"select needs a choice for each condition, and at least one, got {len(condlist)} conditions and "
            f"{len(choicelist)} choices"
        )
    result = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = where(condition, choice, result)
    return result  # type: ignore[return-value]


def choose(
    a: DNDarray, /, choices: Sequence[Operand], *, out: DNDarray | None = None, mode: str = "raise"
) -> DNDarray:
    """Choose each element from one of several arrays; `a` has the number of the array.

    Parameters
    ----------
    a : DNDarray
        The numbers of the arrays: integers.
    choices : sequence of DNDarray or number
        The arrays to choose from. All shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    mode : {"raise", "wrap", "clip"}, default "raise"
        What to do with a number out of range: raise, take the remainder of its division by the number of arrays,
        or take the nearest number.

    Returns
    -------
    DNDarray
        The elements chosen. The dtype is that of `result_type` of all choices. Split as one of the arrays.

    Raises
    ------
    TypeError
        If `a` is not a DNDarray of integers, or a choice neither a DNDarray nor a number.
    ValueError
        If a number is no array's, there are no choices, for another mode; or the shapes do not broadcast, or the
        arrays are on different communicators.

    Communication
    -------------
    Local where the arrays have one layout, or only one of them is split, unless the mode is "raise" and `a` is
    split: then collective, one small allreduce. Otherwise for each array as `where`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.choose(ms.array([0, 2, 1], split=0), [ms.arange(3, split=0), 10, 20]).tolist()
    [0, 20, 10]
    """
    if as_dndarray(a, "a").dtype not in INTEGERS:
        raise TypeError(f"a of choose must be integers, got {a.dtype}")
    last = len(choices) - 1
    if mode not in {"raise", "wrap", "clip"} or last < 0:
        raise ValueError(f"choose needs choices, and mode 'raise', 'wrap' or 'clip', got {short_repr(mode)}")
    a = astype(a, torch.int64, copy=False)  # bytes cannot be compared with 256
    numbers = remainder(a, last + 1) if mode == "wrap" else clip(a, 0, last)
    if mode == "raise" and not equal(numbers, a).all().item():
        raise ValueError(f"a of choose must be from 0 to {last}, the last of the choices; see mode")
    # The last one stays where no other is chosen: it is broadcast with the numbers in any case.
    result = choices[last]
    for number, choice in enumerate(choices[:last]):
        result = where(equal(numbers, number), choice, result)
    chosen: Any = where(equal(numbers, last), result, result) if last == 0 else result
    return into(chosen, out)


def piecewise(
    x: DNDarray,
    condlist: DNDarray | Sequence[DNDarray],
    funclist: Sequence[Callable[..., DNDarray] | complex],
    /,
    *args: Any,
    **kwargs: Any,
) -> DNDarray:
    """Compute a function that is defined by parts.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    condlist : DNDarray or sequence of DNDarray
        Conditions: bools, of shapes that broadcast with `x`. Where several are true the last one counts.
    funclist : sequence of callable or number
        For each condition a function of `x`, or a number; and one more for where no condition is true, by default
        0.
    *args : Any
        Further arguments of the functions.
    **kwargs : Any
        Further keyword arguments of the functions.

    Returns
    -------
    DNDarray
        The values, in the dtype of `x`. Split as one of the arrays.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, or a condition no DNDarray of bools.
    ValueError
        If there are not as many functions as conditions, or one more; or the shapes do not broadcast.

    Communication
    -------------
    Local where the arrays have one layout, or only one of them is split. Otherwise collective: for each condition
    as `where`. The functions may send messages of their own.

    Notes
    -----
    A function is called once, with all of `x`, and not with the elements for which its condition is true, as in
    NumPy: so it must work element by element.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.arange(-2.0, 3.0, split=0)
    >>> ms.piecewise(x, [x < 0, x > 1], [lambda x: -x, 10, 5]).tolist()
    [2.0, 1.0, 5.0, 5.0, 10.0]
    """
    conditions = [condlist] if isinstance(condlist, DNDarray) else list(condlist)
    if len(funclist) - len(conditions) not in {0, 1}:
        raise ValueError(
            f"piecewise needs a function for each condition, and at most one more, got {len(conditions)} "
            f"conditions and {len(funclist)} functions"
        )
    values = [value(x, *args, **kwargs) if callable(value) else value for value in funclist]
    result = values.pop() if len(values) > len(conditions) else 0
    if not isinstance(result, DNDarray):
        result = full_like(x, result)
    for condition, value in zip(conditions, values, strict=True):
        result = where(condition, value, result)
    return astype(result, x.dtype, copy=False)
