"""A short run of `injected_faults.py`."""

from __future__ import annotations

import injected_faults
import pytest

pytestmark = pytest.mark.several


def test_A18_injected_faults(size: int) -> None:
    number, wrong, _ = injected_faults.run(chosen=12, seed=size)
    assert not wrong
    assert number > 50
