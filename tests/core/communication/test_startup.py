"""What `import minisplit` does, and that nothing else does it; `tests/test_jobs.py` has whole jobs."""

from __future__ import annotations

import ast
import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import minisplit as ms
from minisplit.core.communication import startup
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import sanitize_comm
from minisplit.core.pytorch.devices import rank_environment

Comm = ms.Communication
PACKAGE = Path(ms.__file__).parent


@pytest.mark.processes
def test_the_default_communicator(comm: Comm) -> None:
    assert ms.get_comm() is ms.MPI_WORLD
    assert sanitize_comm(None) is ms.MPI_WORLD
    launched = rank_environment()
    assert launched is None or (comm.rank, comm.size) == (launched.rank, launched.size)
    assert repr(comm) == f"<{type(comm).__name__} rank {comm.rank} of {comm.size}>"


@pytest.mark.serial
def test_only_start_runs_at_import() -> None:
    """No module of the core has a call as a statement of its own."""
    calls = {}
    for file in [PACKAGE / "__init__.py", *(PACKAGE / "core").rglob("*.py")]:
        statements = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.Expr)]
        if texts := [ast.unparse(node) for node in statements if not isinstance(node.value, ast.Constant)]:
            calls[str(file.relative_to(PACKAGE))] = texts
    # The collector of garbage has a pause while modules are imported; the third one only marks functions, the
    # fourth keeps what debug mode is to do when it is turned on.
    assert [text.partition("(")[0] for text in calls.pop("__init__.py")] == [
        "start",
        "gc.disable",
        "break_graphs",
        "compare_calls",
    ]
    assert not calls


@pytest.mark.processes
def test_J1_uncaught_exceptions_are_printed_and_end_the_job(
    monkeypatch: pytest.MonkeyPatch, rank: int, size: int
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(type(ms.WORLD), "abort", lambda self, status=1: ended.append(status))
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    try:
        raise ValueError("lost")
    except ValueError as error:
        startup.end_job(type(error), error, error.__traceback__)
    assert ended == [1]
    first, *rest = stream.getvalue().splitlines()
    assert first == f"[rank {rank} of {size}] uncaught exception; ending the job"
    assert rest[0].startswith("Traceback")
    assert rest[-1] == "ValueError: lost"


@pytest.mark.processes
def test_J1_the_hook_is_there_with_several_ranks(size: int) -> None:
    hooks: dict[bool, Any] = {True: startup.end_job, False: sys.__excepthook__}
    assert sys.excepthook is hooks[size > 1]


@pytest.mark.processes
def test_J1_a_traceback_that_is_in_the_text_is_not_printed_twice(
    comm: Comm, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    monkeypatch.setattr(type(ms.WORLD), "abort", lambda self, status=1: None)
    monkeypatch.setattr(startup, "time", SimpleNamespace(sleep=lambda seconds: None))
    stream = io.StringIO()
    with pytest.raises(ValueError, match="lost on 0") as caught, agreement(comm, "testing"):
        raise ValueError(f"lost on {rank}")
    monkeypatch.setattr(sys, "stderr", stream)
    startup.end_job(caught.type, caught.value, caught.tb)
    printed = stream.getvalue()
    # Other ranks' own failures are not those of the text.
    assert printed.count("ValueError: lost on 0") == 2, "as a headline, and below its traceback"
    assert ("direct cause" in printed) == (rank > 0)
