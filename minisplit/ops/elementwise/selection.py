"""The greater or lesser of elements, and the choice between them.

Tested with all elementwise functions in tests/ops/elementwise/test_apply.py.
"""

from __future__ import annotations

import torch

from minisplit.core.array import DNDarray, Operand, as_dndarray
from minisplit.core.dtypes import INTEGERS
from minisplit.ops.elementwise.apply import apply_elementwise, binary, call_promoted


def clip(x: DNDarray, /, min: Operand | None = None, max: Operand | None = None) -> DNDarray:
    """Limit each element to a range.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    min : DNDarray or number, optional
        The lower bound. By default there is none. It broadcasts with `x`, as in NumPy.
    max : DNDarray or number, optional
        The upper bound. By default there is none. It broadcasts with `x`, as in NumPy.

    Returns
    -------
    DNDarray
        The numbers, where they are within the bounds; elsewhere the bound. Where the lower bound is above the
        upper one, the upper one. Split as one of the operands, as that for which the fewest bytes move.

    Raises
    ------
    TypeError
        If `x` is no DNDarray, or a bound is neither a DNDarray nor a number.
    ValueError
        If the shapes do not broadcast, or the arrays are on different communicators.
    NotImplementedError
        If the elements are complex.

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
    # torch.clip takes numbers or tensors as bounds, but not one of each.
    takes_numbers = not any(isinstance(bound, DNDarray) for bound in bounds)
    function = torch.clone if not bounds else _clip_above if min is None else torch.clip
    return apply_elementwise(function, (x, *bounds), "clip", takes_numbers)


def _clip_above(x: torch.Tensor, bound: torch.Tensor | complex) -> torch.Tensor:
    """Return `torch.clip` with the upper bound alone."""
    return torch.clip(x, max=bound)


def fmax(x1: Operand, x2: Operand, /) -> DNDarray:
    """Return the greater of two elements, or the one that is not NaN.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The numbers. At least one is a DNDarray. The shapes broadcast, as in NumPy.

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
    return binary(torch.fmax, "fmax", x1, x2, numbers=0)


def fmin(x1: Operand, x2: Operand, /) -> DNDarray:
    """Return the lesser of two elements, or the one that is not NaN.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The numbers. At least one is a DNDarray. The shapes broadcast, as in NumPy.

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
    return binary(torch.fmin, "fmin", x1, x2, numbers=0)


def maximum(x1: Operand, x2: Operand, /) -> DNDarray:
    """Return the greater of two elements.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The numbers. At least one is a DNDarray. The shapes broadcast, as in NumPy.

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
    return binary(torch.maximum, "maximum", x1, x2, numbers=0)


def minimum(x1: Operand, x2: Operand, /) -> DNDarray:
    """Return the lesser of two elements.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The numbers. At least one is a DNDarray. The shapes broadcast, as in NumPy.

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
    return binary(torch.minimum, "minimum", x1, x2, numbers=0)


def where(condition: DNDarray, x1: Operand, x2: Operand, /) -> DNDarray:
    """Choose each element from one of two arrays.

    Parameters
    ----------
    condition : DNDarray
        Bools: true where to take the element of `x1`.
    x1, x2 : DNDarray or number
        What to choose from. The three shapes broadcast, as in NumPy.

    Returns
    -------
    DNDarray
        The elements of `x1` where the condition is true, and of `x2` elsewhere. The dtype is that of
        `result_type(x1, x2)`. Split as one of the operands, as that for which the fewest bytes move.

    Raises
    ------
    TypeError
        If the condition is no DNDarray of bools, or an operand is neither a DNDarray nor a number.
    ValueError
        If the shapes do not broadcast, or the arrays are on different communicators.

    Communication
    -------------
    Local where the arrays have one layout, or only one of them is split. Otherwise collective: one exchange for
    each array that is not split as the result, or that is split along an axis on which it is broadcast.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.arange(4, split=0)
    >>> ms.where(x > 1, x, -1).tolist()
    [-1, -1, 2, 3]
    """
    if as_dndarray(condition, "condition").dtype is not torch.bool:
        raise TypeError(f"condition must be of dtype torch.bool, got {condition.dtype}; compare it, as in x != 0")
    # The condition is an operand as well: it broadcasts, and moves where that is cheaper.
    return apply_elementwise(_where, (condition, x1, x2), "where")


def _where(condition: torch.Tensor, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    """Return `torch.where`. The condition's dtype does not count in promotion."""
    return call_promoted(lambda a, b: torch.where(condition, a, b), x1, x2)
