"""What `__array_namespace_info__` says, and that arrays and functions agree with it."""

from __future__ import annotations

import pytest

import minisplit as ms
from minisplit.ops.array_api import DTYPES


def test_what_the_namespace_offers(size: int) -> None:
    info = ms.__array_namespace_info__()
    assert info.capabilities() == {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}
    assert info.default_device() == ms.zeros(1).device
    assert info.default_device() in info.devices()
    defaults = info.default_dtypes()
    assert defaults["real floating"] is ms.zeros(1).dtype
    assert defaults["integral"] is ms.arange(1).dtype
    assert info.dtypes() == DTYPES == {name: getattr(ms, name) for name in DTYPES}
    assert set(info.dtypes(kind=("bool", "unsigned integer"))) == {"bool", "uint8"}
    with pytest.raises(ValueError, match="integers"):
        info.dtypes(kind="integers")
