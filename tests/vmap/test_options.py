"""The bar of long runs: on a terminal, by way of a launcher too, and nowhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
import torch
from launchers import job_environment, launcher

import minisplit as ms
from minisplit.testing import run
from minisplit.vmap import options

pytestmark = pytest.mark.serial
PROGRAM = """
import minisplit as ms, torch
(y,) = ms.vmap(torch.sin, chunk_size=2, progress=True)(ms.ones(20, split=0))
assert y.shape == (20,)
"""


def shown_on_a_terminal(command: list[str], errors_to: Any = None) -> str:
    """What a program, whose output is a terminal, writes to it."""
    here, there = pty.openpty()
    termios.tcsetwinsize(there, (30, 100))
    process = subprocess.Popen(
        command, env=job_environment(2), stdin=there, stdout=there, stderr=errors_to or there
    )
    os.close(there)
    text = b""
    while True:
        try:
            read = os.read(here, 4096)
        except OSError:  # the last writer has gone
            break
        if not read:
            break
        text += read
    os.close(here)
    assert process.wait() == 0, text.decode()
    return text.decode()


def launched(ranks: int) -> list[str]:
    return launcher().command(ranks, "-c", PROGRAM)


def test_one_bar_on_a_terminal_also_by_way_of_a_launcher() -> None:
    alone = shown_on_a_terminal([sys.executable, "-c", PROGRAM])
    assert "vmap sin, rank 0: 100%" in alone
    assert "20/20" in alone
    of_two = shown_on_a_terminal(launched(2))
    assert "vmap sin, rank 0: 100%" in of_two
    assert "10/10" in of_two, "the samples of rank 0"
    assert "rank 1" not in of_two


@pytest.mark.parametrize("ranks", [0, 2])
def test_silent_when_piped(ranks: int, tmp_path: Path) -> None:
    command = launched(ranks) if ranks else [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=job_environment(2), capture_output=True, text=True, check=True)
    assert "vmap" not in done.stdout + done.stderr
    with (tmp_path / "errors").open("w") as errors:
        assert "vmap" not in shown_on_a_terminal(command, errors)
    assert "vmap" not in (tmp_path / "errors").read_text()


def test_without_tqdm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=r"minisplit\[progress\]"):
        ms.vmap(torch.sin, progress=True)


def test_the_bar_ends_where_func_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.modules["minisplit.vmap.transform"], "is_on_terminal", lambda: True)
    calls = []

    def fails(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("three")
        return x

    with pytest.raises(RuntimeError, match="three"):
        run(lambda: ms.vmap(fails, chunk_size=1, progress=True)(ms.ones(5, split=0)), ranks=1)
    assert "2/5" in capsys.readouterr().err


def test_what_is_no_launcher_of_ours_is_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "_LAUNCHERS", frozenset())
    assert not options._is_launcher_on_terminal()


def test_no_terminal_where_there_is_no_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """On rank 0, which alone asks: the others would wait."""
    with open(os.devnull, "w") as closed:
        pass
    for file in (None, closed):
        monkeypatch.setattr(sys, "stderr", file)
        assert not options.is_on_terminal()


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"compile": 1}, TypeError, "compile must be True, False or a dict of torch.compile's options, got 1"),
        ({"compile": {"fullgraph": False}}, ValueError, "backend, mode, options, got 'fullgraph'"),
        ({"compile": True, "loop": True}, ValueError, r"vmap\(torch.compile\(f\), loop=True\)"),
    ],
)
def test_options_of_compilation(given: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        ms.vmap(torch.sin, **given)
    assert "compile={'backend': 'sin'}" in repr(ms.vmap(torch.sin, compile={"backend": torch.sin}))
