"""The time limit of collective calls; `tests/test_jobs.py` has the jobs that it ends."""

from __future__ import annotations

import pytest

from minisplit.core.communication.watchdog import time_limit


@pytest.mark.parametrize(
    ("text", "limit"), [("", None), ("0", None), ("inf", None), (" 2.5 ", 2.5), ("1e3", 1000.0)]
)
def test_J3_the_limit_is_in_seconds(monkeypatch: pytest.MonkeyPatch, text: str, limit: float | None) -> None:
    monkeypatch.setenv("MINISPLIT_TIMEOUT", text)
    assert time_limit() == limit


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "60s"])
def test_J3_the_limit_must_be_a_number(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MINISPLIT_TIMEOUT", text)
    with pytest.raises(ValueError, match=f"must be a number of seconds, or 0 for no limit, got '{text}'"):
        time_limit()


def test_J3_there_is_no_limit_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MINISPLIT_TIMEOUT", raising=False)
    assert time_limit() is None
