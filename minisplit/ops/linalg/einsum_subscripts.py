"""What the subscripts of `einsum` mean, and in which order its operands are multiplied. Text and numbers only."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from string import ascii_letters

# A step: the places of the operands that are taken out, and the labels of their product, which is put at the end.
Step = tuple[tuple[int, ...], str]


@lru_cache(maxsize=256)
def parsed(subscripts: str, ndims: tuple[int, ...]) -> tuple[tuple[str, ...], str]:
    """The labels of the operands' axes and of the result's, with a letter for each axis of an ellipsis.

    ValueError for subscripts that are no such text, or do not fit operands of so many dimensions.

    >>> parsed("ij,jk", (2, 2)), parsed("...i->...", (2,))
    ((('ij', 'jk'), 'ik'), (('ai',), 'a'))
    """
    text = "".join(subscripts.split())
    given, arrow, wanted = text.partition("->")
    terms = given.split(",")
    for term in (*terms, wanted):
        letters = term.replace("...", "", 1)
        if not set(letters) <= set(ascii_letters):
            raise ValueError(
                f"subscripts must be letters, one ellipsis for each operand at most, commas, one '->', "
                f"got {term!r} in {subscripts!r}"
            )
    if len(terms) != len(ndims):
        raise ValueError(f"subscripts {subscripts!r} are for {len(terms)} operands, got {len(ndims)}")
    hidden = [_hidden(term, ndim, subscripts) for term, ndim in zip(terms, ndims, strict=True)]
    unused = [letter for letter in ascii_letters if letter not in text]
    if max(hidden) > len(unused):
        raise ValueError(
            f"einsum has {len(ascii_letters)} labels, too few for {subscripts!r} and {ndims} dimensions"
        )
    broadcast = "".join(unused[: max(hidden)])
    found = tuple(
        term.replace("...", broadcast[len(broadcast) - more :]) for term, more in zip(terms, hidden, strict=True)
    )
    if not arrow:
        once = sorted(label for label, n in Counter(given).items() if n == 1 and label in ascii_letters)
        return found, broadcast + "".join(once)
    output = wanted.replace("...", broadcast)
    for label, n in Counter(output).items():
        if n > 1 or not any(label in term for term in found):
            raise ValueError(
                f"the result has labels that an operand has, each once, but {subscripts!r} has {label!r} "
                f"{'more than once' if n > 1 else 'in the result alone'}"
            )
    return found, output


def _hidden(term: str, ndim: int, subscripts: str) -> int:
    """How many axes an ellipsis stands for."""
    named = len(term.replace("...", ""))
    if named > ndim or (named < ndim and "..." not in term):
        raise ValueError(f"{term!r} of {subscripts!r} names {named} axes, but the operand has {ndim}")
    return ndim - named


def steps(terms: Sequence[str], output: str, extents: Mapping[str, int]) -> list[Step]:
    """In which order to multiply: the two operands first whose product is smallest, and the first of equals.

    What no other operand and not the result has is summed over at once.

    >>> steps(["ij", "jk", "k"], "i", {"i": 9, "j": 9, "k": 9})
    [((1, 2), 'j'), ((0, 1), 'i')]
    """
    left, order = list(terms), []
    while len(left) > 2:
        products = {pair: _product(left, pair, output) for pair in combinations(range(len(left)), 2)}
        pair = min(products, key=lambda pair: math.prod(extents[label] for label in products[pair]))
        order.append((pair, products[pair]))
        left = [term for place, term in enumerate(left) if place not in pair] + [products[pair]]
    return [*order, (tuple(range(len(left))), output)]


def _product(terms: Sequence[str], pair: tuple[int, int], output: str) -> str:
    others = output + "".join(term for place, term in enumerate(terms) if place not in pair)
    return "".join(dict.fromkeys(label for place in pair for label in terms[place] if label in others))
