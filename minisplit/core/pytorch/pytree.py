"""Nested tuples, lists and dicts, and the classes that programs register there: torch's module for them.

It is a private one of torch. All others of minisplit take it from here, so that this is the module to mend where
another version of torch has moved it.
"""

from __future__ import annotations

from torch.utils import _pytree

# Assignments: names that are imported are private for type checkers.
pytree = _pytree
TreeSpec = _pytree.TreeSpec
