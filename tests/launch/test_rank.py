"""How a rank of `python -m minisplit run` ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from launchers import run_command

from minisplit.launch import jobs

pytestmark = [pytest.mark.serial, pytest.mark.jobs]


@pytest.mark.parametrize("how", ["sys.exit(3)", "raise ValueError('of rank 1')"])
def test_J1_J2_a_rank_that_fails_before_it_imports_minisplit_ends_the_job(how: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "assert sys.argv[1:] == ['--a', 'b'] and __name__ == '__main__'\n"
        "rank = int(os.environ.get('PMI_RANK') or os.environ['OMPI_COMM_WORLD_RANK'])\n"
        f"if rank == 1: {how}\n"
        "from mpi4py import MPI\n"
        "MPI.COMM_WORLD.barrier()\n"
    )
    done = run_command("run", "-n", "2", str(script), "--a", "b")
    assert done.returncode == (3 if "exit" in how else 1), done.stderr
    if "raise" in how:
        assert f'Traceback (most recent call last):\n  File "{script}", line 4' in done.stderr
        assert "ValueError: of rank 1" in done.stderr


def test_J2_srun_is_left_to_end_the_job_by_itself(tmp_path: Path) -> None:
    # Of PMI_FD it understands other words than MPICH's launcher; and a signal would hide the status.
    script = tmp_path / "script.py"
    script.write_text("raise SystemExit(3)\n")
    reading, writing = os.pipe()
    environment = {name: value for name, value in os.environ.items() if name != "MPI_LOCALNRANKS"}
    command = [sys.executable, str(jobs.FOLDER / "rank.py"), str(script)]
    done = subprocess.run(
        command, env=environment | {"PMI_FD": str(writing)}, pass_fds=[writing], check=False, timeout=60
    )
    os.close(writing)
    with open(reading, "rb") as told:
        assert (done.returncode, told.read()) == (3, b"")
