"""Where torch's private module of nested structures is imported: in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

import minisplit as ms
from minisplit.core.pytorch.pytree import TreeSpec, pytree

pytestmark = pytest.mark.serial


def test_no_other_module_imports_it() -> None:
    root = Path(ms.__file__).parent
    names = [
        path.relative_to(root).as_posix() for path in root.rglob("*.py") if "import _pytree" in path.read_text()
    ]
    assert names == ["core/pytorch/pytree.py"]


def test_structures_are_torchs() -> None:
    leaves, structure = pytree.tree_flatten({"a": (1, [2])})
    assert leaves == [1, 2]
    assert isinstance(structure, TreeSpec)
