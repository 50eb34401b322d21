"""Whether a mapped function runs; `tests/vmap` has the mapped functions."""

from __future__ import annotations

import pytest

import minisplit as ms
from minisplit.core.communication import inside_vmap

pytestmark = pytest.mark.serial


def test_calls_are_refused_between_begin_and_end() -> None:
    inside_vmap.refuse(("agree", 1))
    token = inside_vmap.begin()
    assert inside_vmap.inside_vmap()
    with pytest.raises(ms.CollectiveError, match=r"the mapped function made a collective call, agree\(1\), but"):
        inside_vmap.refuse(("agree", 1))
    inside_vmap.end(token)
    assert not inside_vmap.inside_vmap()
    inside_vmap.refuse(("agree", 1))
