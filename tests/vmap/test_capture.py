"""What tells a mapped function from others."""

from __future__ import annotations

import types

import pytest

from minisplit.vmap.capture import fingerprint


def chosen(v: int) -> bool:
    return v in {0, 8}


@pytest.mark.serial
def test_a_function_is_the_same_in_every_process() -> None:
    """Each orders its sets in its own way, those of texts by a seed of its own."""
    one, other = frozenset((0, 8)), frozenset((8, 0))
    assert repr(one) != repr(other)
    consts = [tuple(x if c == one else c for c in chosen.__code__.co_consts) for x in (one, other)]
    here, there = (types.FunctionType(chosen.__code__.replace(co_consts=c), {}, "chosen") for c in consts)
    assert fingerprint(here, {}) == fingerprint(there, {})
