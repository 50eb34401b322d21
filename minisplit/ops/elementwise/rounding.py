"""Whole numbers near each element.

Tested with all elementwise functions in tests/ops/elementwise/test_apply.py.
"""

from __future__ import annotations

import torch

from minisplit.core.array import DNDarray
from minisplit.ops.elementwise.apply import unary


def ceil(x: DNDarray, /) -> DNDarray:
    """Round each element up.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.

    Returns
    -------
    DNDarray
        The least whole numbers that are not below, in the layout of `x` and with the dtype of `x`.

    Raises
    ------
    TypeError
        If `x` is no DNDarray.
    NotImplementedError
        If the elements are bools or complex.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.ceil(ms.array([-1.5, 0.2, 2.0], split=0)).tolist()
    [-1.0, 1.0, 2.0]
    """
    return unary(torch.ceil, x)


def fix(x: DNDarray, /) -> DNDarray:
    """Round each element towards zero, under NumPy's name for `trunc`.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.

    Returns
    -------
    DNDarray
        The nearest whole numbers towards zero, in the layout of `x` and with the dtype of `x`.

    Raises
    ------
    TypeError
        If `x` is no DNDarray.
    NotImplementedError
        If the elements are bools or complex.

    Communication
    -------------
    Local.

    See Also
    --------
    trunc : The same.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fix(ms.array([-1.5, 0.2, 2.0], split=0)).tolist()
    [-1.0, 0.0, 2.0]
    """
    return unary(torch.fix, x)


def floor(x: DNDarray, /) -> DNDarray:
    """Round each element down.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.

    Returns
    -------
    DNDarray
        The greatest whole numbers that are not above, in the layout of `x` and with the dtype of `x`.

    Raises
    ------
    TypeError
        If `x` is no DNDarray.
    NotImplementedError
        If the elements are bools or complex.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.floor(ms.array([-1.5, 0.2, 2.0], split=0)).tolist()
    [-2.0, 0.0, 2.0]
    """
    return unary(torch.floor, x)


def round(x: DNDarray, /) -> DNDarray:
    """Round each element to the nearest whole number.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.

    Returns
    -------
    DNDarray
        The nearest whole numbers, in the layout of `x` and with the dtype of `x`. Of two that are equally near it
        is the even one.

    Raises
    ------
    TypeError
        If `x` is no DNDarray.
    NotImplementedError
        If the elements are bools or complex.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.round(ms.array([-1.5, 0.2, 2.5], split=0)).tolist()
    [-2.0, 0.0, 2.0]
    """
    return unary(torch.round, x)


def trunc(x: DNDarray, /) -> DNDarray:
    """Round each element towards zero.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.

    Returns
    -------
    DNDarray
        The nearest whole numbers towards zero, in the layout of `x` and with the dtype of `x`.

    Raises
    ------
    TypeError
        If `x` is no DNDarray.
    NotImplementedError
        If the elements are bools or complex.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.trunc(ms.array([-1.5, 0.2, 2.0], split=0)).tolist()
    [-1.0, 0.0, 2.0]
    """
    return unary(torch.trunc, x)
