"""Testing across rank counts: for minisplit itself, and for code that builds on it.

`spmd`, `strategies` and `Pool` need the packages of `pip install "minisplit[test]"`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from minisplit.testing.assertions import assert_close, assert_equal
from minisplit.testing.threads import ThreadCommunication, run
from minisplit.testing.traffic import Traffic, traffic
from minisplit.testing.whole import Whole

if TYPE_CHECKING:
    from minisplit.testing import strategies
    from minisplit.testing.pool import Pool
    from minisplit.testing.properties import spmd

__all__ = [
    "Pool", "ThreadCommunication", "Traffic", "Whole", "assert_close", "assert_equal", "run", "spmd", "strategies",
    "traffic",
]

_OPTIONAL = {"Pool": "pool", "spmd": "properties", "strategies": "strategies"}


def __getattr__(name: str) -> Any:
    """Import on first use what needs hypothesis, pytest or cloudpickle: a program need not have them."""
    if name not in _OPTIONAL:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_OPTIONAL[name]}")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'minisplit.testing.{name} needs {error.name}: pip install "minisplit[test]"', name=error.name
        ) from error
    return module if name == "strategies" else getattr(module, name)
