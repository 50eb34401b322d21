"""Products of any number of arrays, summed over labelled axes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from string import ascii_letters

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.ops.elementwise.apply import check_one_communicator
from minisplit.ops.linalg.contraction import extents_of
from minisplit.ops.linalg.einsum_subscripts import parsed, steps
from minisplit.ops.linalg.products import labelled
from minisplit.ops.shape.diagonal import diagonal_of
from minisplit.ops.shape.reshape import without_aliasing


def einsum(subscripts: str, /, *operands: DNDarray) -> DNDarray:
    """The sum of products that Einstein's convention writes: `einsum("ij,jk->ik", a, b)` is `a @ b`.

    subscripts: a letter for each axis, commas between operands, and the axes of the result after `->`;
        without it those that occur once, in alphabetical order. `...` stands for axes that broadcast. A letter
        twice in an operand takes its diagonal. What the result does not have is summed over.

    Operands are multiplied two at a time, first those whose product is smallest, each as `tensordot` does it:
    Local where layouts allow it, else collective, by an exchange, an allreduce or both. The result is split along
    what the ranks share out, and replicated where that is summed over. dtypes as of `matmul`.

    Raises ValueError for subscripts that are wrong or do not fit the operands, and operands on different
    communicators, TypeError for what is no DNDarray, torch's error for dtypes that it does not multiply.

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
    terms, output = parsed(subscripts, tuple(x.ndim for x in arrays))
    arrays, simple = map(list, zip(*map(_without_repetition, arrays, terms), strict=True))
    extents = extents_of([x.shape for x in arrays], simple)
    for places, labels in steps(simple, output, extents):
        made = labelled([arrays[place] for place in places], tuple(simple[place] for place in places), labels)
        arrays = [x for place, x in enumerate(arrays) if place not in places] + [made]
        simple = [term for place, term in enumerate(simple) if place not in places] + [labels]
    return without_aliasing(arrays[0], operands[0])


def _without_repetition(x: DNDarray, term: str) -> tuple[DNDarray, str]:
    """The array and its labels, each once: diagonals where there was one twice. Local."""
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
    """The product of two or more matrices, of which the first and the last may be vectors, in a good order.

    The two are multiplied first whose product is smallest. Local or collective as `einsum`, and with its errors.

    >>> import minisplit as ms
    >>> ms.linalg.multi_dot([ms.ones((9, 2), split=0), ms.ones((2, 9)), ms.ones((9, 1))]).shape
    (9, 1)
    """
    ndims = [as_dndarray(x, f"array {place}").ndim for place, x in enumerate(arrays)]
    if len(ndims) < 2 or any(n != 2 for n in ndims[1:-1]) or not {ndims[0], ndims[-1]} <= {1, 2}:
        raise ValueError(f"multi_dot needs two or more matrices, or vectors at the ends, got {ndims} dimensions")
    terms = [ascii_letters[place : place + 2] for place in range(len(ndims))]
    terms[0], terms[-1] = terms[0][-ndims[0] :], terms[-1][: ndims[-1]]
    for x, y in pairwise(arrays):
        if x.shape[-1] != y.shape[0]:
            raise ValueError(
                f"multi_dot needs as many columns on the left as rows on the right, got shapes {x.shape} and "
                f"{y.shape}: {x.shape[-1]} and {y.shape[0]}"
            )
    return einsum(f"{','.join(terms)}->{terms[0][:-1]}{terms[-1][1:]}", *arrays)
