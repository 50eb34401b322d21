"""The subscripts of `einsum`, and the order in which its operands are multiplied. Text and numbers only."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from string import ascii_letters

# A step multiplies some operands. It has their places in the list, from which they are taken, and the labels of
# their product, which is put at the end of the list.
Step = tuple[tuple[int, ...], str]


# Key: the text and the dimensions of the operands. Programs have few different subscripts.
@lru_cache(maxsize=256)
def parse_subscripts(subscripts: str, ndims: tuple[int, ...]) -> tuple[tuple[str, ...], str]:
    """Return the labels of the operands' axes and of the result's, with a letter for each axis of an ellipsis.

    Raise a ValueError for subscripts that are not such text, or do not fit operands of so many dimensions.

    >>> parse_subscripts("ij,jk", (2, 2)), parse_subscripts("...i->...", (2,))
    ((('ij', 'jk'), 'ik'), (('ai',), 'a'))
    """
    text = "".join(subscripts.split())
    inputs, arrow, output = text.partition("->")
    terms = inputs.split(",")
    for term in (*terms, output):
        letters = term.replace("...", "", 1)
        if not set(letters) <= set(ascii_letters):
            raise ValueError(
                f"subscripts must be letters, one ellipsis for each operand at most, commas, one '->', "
                f"got {term!r} in {subscripts!r}"
            )
    if len(terms) != len(ndims):
        raise ValueError(f"subscripts {subscripts!r} are for {len(terms)} operands, got {len(ndims)}")
    ellipses = [_ellipsis_ndim(term, ndim, subscripts) for term, ndim in zip(terms, ndims, strict=True)]
    unused = [letter for letter in ascii_letters if letter not in text]
    if max(ellipses) > len(unused):
        raise ValueError(
            f"einsum has {len(ascii_letters)} labels, too few for {subscripts!r} and {ndims} dimensions"
        )
    # The axes of ellipses are aligned at the back, as in broadcasting.
    broadcast = "".join(unused[: max(ellipses)])
    labels = tuple(
        term.replace("...", broadcast[len(broadcast) - ndim :]) for term, ndim in zip(terms, ellipses, strict=True)
    )
    if not arrow:
        once = sorted(label for label, n in Counter(inputs).items() if n == 1 and label in ascii_letters)
        return labels, broadcast + "".join(once)
    output = output.replace("...", broadcast)
    for label, n in Counter(output).items():
        if n > 1 or not any(label in term for term in labels):
            raise ValueError(
                f"the result has labels that an operand has, each once, but {subscripts!r} has {label!r} "
                f"{'more than once' if n > 1 else 'in the result alone'}"
            )
    return labels, output


def _ellipsis_ndim(term: str, ndim: int, subscripts: str) -> int:
    """Return for how many axes the ellipsis of a term stands."""
    letters = len(term.replace("...", ""))
    if letters > ndim or (letters < ndim and "..." not in term):
        raise ValueError(f"{term!r} of {subscripts!r} names {letters} axes, but the operand has {ndim}")
    return ndim - letters


def contraction_steps(terms: Sequence[str], output: str, extents: Mapping[str, int]) -> list[Step]:
    """Return in which order to multiply: first the two operands whose product is smallest, of equals the first.

    A label that no other operand and not the result has is summed over at once.

    >>> contraction_steps(["ij", "jk", "k"], "i", {"i": 9, "j": 9, "k": 9})
    [((1, 2), 'j'), ((0, 1), 'i')]
    """
    remaining, steps = list(terms), []
    while len(remaining) > 2:
        pairs = combinations(range(len(remaining)), 2)
        products = {pair: _product_labels(remaining, pair, output) for pair in pairs}
        pair = min(products, key=lambda pair: math.prod(extents[label] for label in products[pair]))
        steps.append((pair, products[pair]))
        remaining = [term for place, term in enumerate(remaining) if place not in pair] + [products[pair]]
    return [*steps, (tuple(range(len(remaining))), output)]


def _product_labels(terms: Sequence[str], pair: tuple[int, int], output: str) -> str:
    others = output + "".join(term for place, term in enumerate(terms) if place not in pair)
    return "".join(dict.fromkeys(label for place in pair for label in terms[place] if label in others))
