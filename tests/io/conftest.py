"""The folder in which tests of files work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import minisplit as ms


@pytest.fixture
def folder(comm: ms.Communication, tmp_path: Path) -> Path:
    """A folder that all ranks share."""
    return Path(os.fsdecode(comm.broadcast_bytes(os.fsencode(tmp_path))))
