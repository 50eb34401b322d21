"""Nested tuples, lists and dicts, and the classes that programs register there: torch's module for them.

It is a private one of torch. All others of minisplit take it from here, so that this is the module to mend where
another version of torch has moved it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from torch.utils import _pytree

# Assignments: names that are imported are private for type checkers.
pytree = _pytree
TreeSpec = _pytree.TreeSpec


def is_tree(x: Any) -> bool:
    """Whether an object that an array may be made of is a structure of such objects, rather than one of them.

    Dicts, and the classes that programs register, are. A sequence is numbers, as for NumPy, unless its first item
    is a structure.
    """
    if isinstance(x, (tuple, list, deque)):
        return bool(x) and is_tree(x[0])
    return type(x) in _pytree.SUPPORTED_NODES


def tree_map(func: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Call a function for each leaf of a tree, and return the results as a tree of the same structure.

    It is torch's function of that name, of `torch.utils._pytree`. Structures are nested tuples, lists and dicts,
    named tuples, and the classes that a program registers there.

    Parameters
    ----------
    func : callable
        A function of one leaf, such as an array, or of one of each tree.
    tree : tuple, list, dict or object
        The structure. Anything else is a leaf.
    *others : tuple, list, dict or object
        Further structures, like the first.

    Returns
    -------
    tuple, list, dict or object
        The results, in the structure of `tree`.

    Raises
    ------
    ValueError
        If the structures differ.

    Communication
    -------------
    Local, except for the calls that `func` makes.

    Examples
    --------
    >>> import minisplit as ms
    >>> network = {"weight": ms.ones((4, 2), split=0), "bias": ms.zeros(4, split=0)}
    >>> ms.tree_map(lambda x: x.shape, network)
    {'weight': (4, 2), 'bias': (4,)}
    """
    return pytree.tree_map(func, tree, *others)
