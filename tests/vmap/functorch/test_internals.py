"""That no other module of `minisplit.vmap` imports private modules of torch, and that those do what is needed."""

from __future__ import annotations

import ast
import logging
import re
from pathlib import Path

import pytest
import torch

from minisplit.vmap.functorch import internals as names

pytestmark = pytest.mark.serial
FOLDER = Path(names.__file__).parent.parent


def imported(file: Path) -> set[str]:
    """The modules that a file imports, with the names that it imports from them."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("file", sorted(FOLDER.rglob("*.py")), ids=lambda file: file.name)
def test_private_names_of_torch_are_imported_in_one_module(file: Path) -> None:
    private = {name for name in imported(file) if name.startswith("torch.") and "._" in name}
    assert bool(private) == (file.name == "internals.py"), private
    assert file.name == "internals.py" or not re.search(r"torch\._(?!_|standard)", file.read_text())


def test_tensors_without_data_have_shapes_and_no_memory() -> None:
    log = logging.getLogger("torch._subclasses.fake_tensor")
    captured = torch.ones(3)
    with names.tensors_without_data():
        assert log.disabled
        x = torch.empty(2**50, 3) + captured
        with pytest.raises(RuntimeError):
            x.sum().item()
    assert x.shape == (2**50, 3)
    assert not log.disabled


def test_a_level_maps_and_is_left() -> None:
    level = names.begin_vmap_level(4, "error")
    try:
        x = names.add_batch_dim(torch.arange(8).view(2, 4), 1, level)
        assert (x.shape, names.is_batchedtensor(x), names.maybe_get_level(x)) == ((2,), True, level)
        with pytest.raises(RuntimeError, match="randomness error mode"):
            torch.rand(2)
        y = names.remove_batch_dim(x.sum(), level, 4, 0)
    finally:
        names.end_vmap_level()
    assert y.tolist() == [4, 6, 8, 10]
    assert not names.get_interpreter_stack()
