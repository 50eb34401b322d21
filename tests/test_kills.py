"""A short run of `kills.py`."""

from __future__ import annotations

import kills
import pytest

pytestmark = pytest.mark.serial


def test_F3_killed_while_saving() -> None:
    total, wrong = kills.run(4, ["npy, over", "zarr, map over", "h5, add", "safetensors, extend one"])
    assert not wrong
    assert total["old"]
