"""`python -m minisplit selftest`, with the checks of `selftest_checks.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from launchers import program, run_command

import minisplit as ms
from minisplit.launch import jobs, selftest, selftest_checks

pytestmark = [pytest.mark.serial, pytest.mark.jobs, pytest.mark.mpi]


def test_selftest_passes() -> None:
    done = run_command("selftest", "-n", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok") == len(selftest_checks.CHECKS)
    assert "All is well." in done.stdout


def test_selftest_says_what_failed_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mpiexec = program(tmp_path / "mpiexec", "echo 'passed agree on 2'; echo the end; exit 4")
    launcher = jobs.Launcher(mpiexec, "a test")
    assert selftest.selftest(launcher, [2]) == 1
    out = capsys.readouterr().out
    assert "    2  ok        FAILED    -         -         -  " in out
    assert "The job of 2 ended with status 4. The end of what it printed:\n\npassed agree on 2\nthe end" in out
    assert "python -m minisplit info" in out


def test_the_table_has_the_checks(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(selftest_checks.CHECKS) == selftest.NAMES
    ms.testing.run(selftest_checks.main, ranks=3)
    assert capsys.readouterr().out.splitlines() == [f"passed {name} on 3" for name in selftest_checks.CHECKS]
