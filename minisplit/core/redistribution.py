"""Changing who owns what: `resplit`, `balance` and `redistribute` as functions that return new arrays."""

from __future__ import annotations

from collections.abc import Sequence

from minisplit.core.array import DNDarray, as_dndarray


def resplit(x: DNDarray, axis: int | None = None) -> DNDarray:
    """Return `x` split along `axis`; None gathers it on every rank. Collective. See `DNDarray.resplit`.

    >>> import minisplit as ms
    >>> ms.resplit(ms.ones((2, 3), split=0), 1).split
    1
    """
    return as_dndarray(x).resplit(axis)


def balance(x: DNDarray) -> DNDarray:
    """Return `x` with the default counts: the first `n % size` ranks hold one index more. Collective.

    >>> import minisplit as ms
    >>> ms.balance(ms.array([1.0, 2.0], is_split=0)).is_balanced()
    True
    """
    return as_dndarray(x).balance()


def redistribute(x: DNDarray, counts: Sequence[int]) -> DNDarray:
    """Return `x` with `counts[r]` indices of the split axis on rank r. Collective.

    See `DNDarray.redistribute`.

    >>> import minisplit as ms
    >>> x = ms.zeros(7, split=0)
    >>> ms.redistribute(x, x.counts[::-1]).counts == x.counts[::-1]
    True
    """
    return as_dndarray(x).redistribute(counts)
