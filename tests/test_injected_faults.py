"""A short run of `injected_faults.py`."""

from __future__ import annotations

import injected_faults
import pytest


@pytest.mark.several
def test_A18_injected_faults(size: int) -> None:
    number, wrong, untried = injected_faults.run(chosen=12, seed=size)
    assert not wrong
    assert not untried
    assert number > 50


@pytest.mark.serial
@pytest.mark.jobs
def test_A18_a_fault_without_debug_mode_ends_the_job() -> None:
    """One rank raises TypeError before the others' message, and goes on."""
    outcome, _, said = injected_faults.start_job("minisplit.any", "argument", 0)
    assert outcome == "ended by the watchdog", said
