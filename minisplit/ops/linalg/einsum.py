"""Products of any number of arrays, summed over labelled axes: `einsum` and chains of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from string import ascii_letters

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.ops.elementwise.apply import check_one_communicator
from minisplit.ops.linalg.contraction import contraction_steps, label_extents, parse_subscripts
from minisplit.ops.linalg.products import contract_labels
from minisplit.ops.shape.diagonal import diagonal_of
from minisplit.ops.shape.reshape import without_aliasing


def einsum(subscripts: str, /, *operands: DNDarray) -> DNDarray:
    """Sum products of arrays over labelled axes, by Einstein's convention.

    Parameters
    ----------
    subscripts : str
        A letter for each axis, commas between operands, and the axes of the result after `->`. Without `->` the
        result has those that occur once, in alphabetical order. `...` stands for axes that broadcast. A letter
        that an operand has twice takes its diagonal. What the result does not have is summed over.
    *operands : DNDarray
        The arrays.

    Returns
    -------
    DNDarray
        The sums. Split as the work of the last product, or replicated if that is split along an axis that is
        summed over. dtypes as of `minisplit.matmul`.

    Raises
    ------
    ValueError
        If the subscripts are wrong or do not fit the operands, or these are on different communicators.
    TypeError
        If an operand is not a DNDarray, or the subscripts are not text.

    Communication
    -------------
    Local where the layouts allow it. Otherwise collective: for each product of two arrays one exchange for each
    operand that moves, and one allreduce where the work is split along an axis that is summed over.

    Notes
    -----
    Operands are multiplied two at a time, first the pair with the smallest product.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.array([[1, 2], [3, 4]], split=0)
    >>> ms.einsum("ii", x).item(), ms.einsum("ij,kj,k->i", x, x, ms.arange(2)).tolist()
    (5, [11, 25])
    """
    if not isinstance(subscripts, str):
        raise TypeError(f"subscripts must be a str, and come first, got {type(subscripts).__name__}")
    arrays = [as_dndarray(x, f"operand {place}") for place, x in enumerate(operands, 1)]
    if not arrays:
        raise ValueError("einsum needs an array for each part of the subscripts, got none")
    check_one_communicator(arrays)
    labels, output = parse_subscripts(subscripts, tuple(x.ndim for x in arrays))
    arrays, terms = map(list, zip(*map(_take_diagonals, arrays, labels), strict=True))
    # Each step takes its factors out of the list, and puts their product at the end.
    for places, product_term in contraction_steps(terms, output, label_extents([x.shape for x in arrays], terms)):
        factors, factor_terms = [arrays[place] for place in places], tuple(terms[place] for place in places)
        others = [place for place in range(len(arrays)) if place not in places]
        arrays = [*[arrays[place] for place in others], contract_labels(factors, factor_terms, product_term)]
        terms = [*[terms[place] for place in others], product_term]
    # A transpose or a diagonal is a view. If y = einsum("ij->ji", x) shared memory
    # with x, y.add_(1) would change x.
    return without_aliasing(arrays[0], operands[0])


def _take_diagonals(x: DNDarray, term: str) -> tuple[DNDarray, str]:
    """Return an operand and its labels, each once: of axes that have one label it takes the diagonal. Local."""
    for label in dict.fromkeys(term):
        while term.count(label) > 1:
            first, second = term.index(label), term.rindex(label)
            if x.shape[first] != x.shape[second]:
                raise ValueError(
                    f"a label twice in an operand needs axes of one extent, but {label!r} of {term!r} stands for "
                    f"{x.shape[first]} and {x.shape[second]}"
                )
            x = diagonal_of(x, 0, first, second)
            term = "".join(other for place, other in enumerate(term) if place not in (first, second)) + label
    return x, term


def multi_dot(arrays: Sequence[DNDarray], /) -> DNDarray:
    """Multiply two or more matrices, in an order that needs little work.

    Parameters
    ----------
    arrays : sequence of DNDarray
        The matrices. The first and the last one may be vectors.

    Returns
    -------
    DNDarray
        The product. Split as the result of `minisplit.einsum`.

    Raises
    ------
    ValueError
        If there are fewer than two arrays, they are not matrices, their shapes do not fit, or
        they are on different communicators.
    TypeError
        If one is not a DNDarray.

    Communication
    -------------
    Local or collective as `minisplit.einsum`, with its messages.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.linalg.multi_dot([ms.ones((9, 2), split=0), ms.ones((2, 9)), ms.ones((9, 1))]).shape
    (9, 1)
    """
    ndims = [as_dndarray(x, f"array {place}").ndim for place, x in enumerate(arrays)]
    if len(ndims) < 2 or any(n != 2 for n in ndims[1:-1]) or not {ndims[0], ndims[-1]} <= {1, 2}:
        raise ValueError(f"multi_dot needs two or more matrices, or vectors at the ends, got {ndims} dimensions")
    for x, y in pairwise(arrays):
        if x.shape[-1] != y.shape[0]:
            raise ValueError(
                f"multi_dot needs as many columns on the left as rows on the right, got shapes {x.shape} and "
                f"{y.shape}: {x.shape[-1]} and {y.shape[0]}"
            )
    terms = [ascii_letters[place : place + 2] for place in range(len(ndims))]
    terms[0], terms[-1] = terms[0][-ndims[0] :], terms[-1][: ndims[-1]]
    return einsum(f"{','.join(terms)}->{terms[0][:-1]}{terms[-1][1:]}", *arrays)
