"""Plans of products of arrays, summed over labelled axes: of matrix products, or any einsum.

Text, numbers and layouts in, layouts out: no tensors, no MPI.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from string import ascii_letters, ascii_uppercase

from minisplit.core.layout import Layout
from minisplit.ops.elementwise.alignment import LayoutPlan, broadcast_shape

# A step multiplies some operands. It has their places in the list, from which they are taken, and the labels of
# their product, which is put at the end of the list.
Step = tuple[tuple[int, ...], str]


@dataclass(frozen=True, slots=True)
class Contraction(LayoutPlan):
    """A plan of a product.

    Attributes
    ----------
    equation : str
        What each rank computes with its shards, in the notation of `torch.einsum`.
    summed : bool
        Whether the work is split along an axis that the result does not have, so that an allreduce
        adds up the results of the ranks.
    """

    equation: str
    summed: bool = False


# Key: layouts, element sizes and labels. A loop makes the same few products again and again.
@lru_cache(maxsize=256)
def plan_contraction(
    layouts: tuple[Layout, ...], itemsizes: tuple[int, ...], terms: tuple[str, ...], output: str
) -> Contraction:
    """Choose the label along which the work is split: the one for which the fewest bytes are sent.

    `terms` has a label for each axis of each operand, no operand one label twice. Axes of one label have one
    extent, or extent 1 and are broadcast. The result has the labels of `output` and is summed over the others.

    Operands are split along the chosen label, and operands without it are needed whole. The result is split along
    it, or, if it does not have the label, replicated and summed. The counts are those of an operand that is split
    there, or else the balanced ones, and then the axis must have an index for every rank. A product of replicated
    operands is replicated. Raises ValueError for extents that do not fit.

    >>> tall, small = Layout((1000, 4), 0, ranks=2), Layout((4, 4), None, ranks=2)
    >>> plan_contraction((tall, small), (4, 4), ("ij", "jk"), "ik").result.split
    0
    >>> plan_contraction((tall, tall), (4, 4), ("ij", "ik"), "jk").summed
    True
    """
    extents = label_extents([x.shape for x in layouts], terms)
    ranks = layouts[0].ranks
    if ranks == 1:
        # Nothing is sent. The result is split as it would be on two ranks, so that a program sees the
        # same splits on any number of ranks.
        on_two = tuple(Layout(x.shape, x.split, 2) for x in layouts)
        plan = plan_contraction(on_two, itemsizes, terms, output)
        result = Layout(plan.result.shape, plan.result.split, 1)
        return Contraction(result, (None,) * len(layouts), plan.equation, plan.summed)
    equation, shape = f"{','.join(terms)}->{output}", tuple(extents[label] for label in output)
    if all(x.split is None for x in layouts):
        return Contraction(Layout(shape, None, ranks), (None,) * len(layouts), equation)

    def split_at(term: str, shape: tuple[int, ...], label: str, ragged: tuple[int, ...] | None) -> Layout:
        axis = term.find(label)
        has_label = axis >= 0 and shape[axis] == extents[label]
        return Layout(shape, axis, ranks, ragged) if has_label else Layout(shape, None, ranks)

    candidates = [
        Contraction(
            split_at(output, shape, label, ragged),
            tuple(split_at(term, x.shape, label, ragged) for term, x in zip(terms, layouts, strict=True)),
            equation,
            summed=label not in output,
        )
        for label, ragged in _candidate_splits(layouts, terms, output, extents)
    ]

    def bytes_sent(plan: Contraction) -> int:
        # An allreduce of n bytes sends at least 2 (ranks - 1) n bytes, over all ranks.
        reduced = plan.summed * 2 * (ranks - 1) * plan.result.size * max(itemsizes)
        return plan.bytes_moved(layouts, itemsizes) + reduced

    best = min(candidates, key=bytes_sent)
    needed = tuple(None if x == layout else layout for x, layout in zip(layouts, best.needed, strict=True))
    return replace(best, needed=needed)


def _candidate_splits(
    layouts: Sequence[Layout], terms: Sequence[str], output: str, extents: Mapping[str, int]
) -> Iterator[tuple[str, tuple[int, ...] | None]]:
    """Yield the labels along which the work may be split, and the counts. Labels of the result come first."""
    own_counts: dict[str, list[tuple[int, ...] | None]] = {}
    for x, term in zip(layouts, terms, strict=True):
        if x.split is not None and x.extent == extents[term[x.split]]:
            own_counts.setdefault(term[x.split], []).append(x.ragged)
    for label in dict.fromkeys(output + "".join(terms)):
        if label in own_counts or not own_counts or extents[label] >= layouts[0].ranks:
            yield from ((label, ragged) for ragged in dict.fromkeys(own_counts.get(label, [None])))


def label_extents(shapes: Sequence[tuple[int, ...]], terms: Sequence[str]) -> dict[str, int]:
    """Return the extent of every label. Raise a ValueError where axes of one label are neither alike nor 1.

    >>> label_extents([(2, 3), (1, 4)], ["ij", "ik"])
    {'i': 2, 'j': 3, 'k': 4}
    """
    extents: dict[str, int] = {}
    for shape, term in zip(shapes, terms, strict=True):
        for label, extent in zip(term, shape, strict=True):
            if extents.setdefault(label, extent) == 1:
                extents[label] = extent
            elif extent not in {1, extents[label]}:
                raise ValueError(
                    f"axes of one label must have one extent, or 1, but {label!r} stands for {extents[label]} and "
                    f"{extent} in {','.join(terms)} of shapes {' and '.join(map(str, shapes))}"
                )
    return extents


# Key: layouts and element sizes. It saves `matmul` the work of making the labels for each call.
@lru_cache(maxsize=256)
def plan_matmul(left: Layout, right: Layout, itemsizes: tuple[int, int]) -> Contraction:
    """Plan a product of vectors, matrices or batches of them. Raise a ValueError where they do not fit.

    >>> plan_matmul(Layout((4, 1000), 1, ranks=2), Layout((1000, 4), 0, ranks=2), (4, 4)).summed
    True
    """
    if not left.ndim or not right.ndim:
        raise ValueError(f"matmul needs at least one dimension, got shapes {left.shape} and {right.shape}")
    inner = left.shape[-1], right.shape[-2 if right.ndim > 1 else 0]
    if inner[0] != inner[1]:
        raise ValueError(
            f"a matrix product needs as many columns on the left as rows on the right, got shapes {left.shape} "
            f"and {right.shape}: {inner[0]} and {inner[1]}"
        )
    broadcast_shape([left.shape[:-2], right.shape[:-2]])
    # Capital letters label the batch axes, r the rows, i the inner axis, c the columns.
    batch = ascii_uppercase[: max(left.ndim, right.ndim, 2) - 2]
    rows, columns = "r" * (left.ndim > 1), "c" * (right.ndim > 1)
    terms = (
        batch[len(batch) - max(left.ndim - 2, 0) :] + rows + "i",
        batch[len(batch) - max(right.ndim - 2, 0) :] + "i" + columns,
    )
    return plan_contraction((left, right), itemsizes, terms, batch + rows + columns)


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
                "a label of the result must be one of an operand, and be there once, but "
                f"{subscripts!r} has {label!r} {'more than once' if n > 1 else 'in the result alone'}"
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
