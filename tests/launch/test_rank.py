"""How a rank of `python -m minisplit run` ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from launchers import run_command

from minisplit.launch import jobs

pytestmark = [pytest.mark.serial, pytest.mark.jobs, pytest.mark.mpi]


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


def test_J3_a_rank_that_leaves_before_it_imports_minisplit_ends_the_job(tmp_path: Path) -> None:
    """The others wait for it in their import: for ever, as no watchdog is there yet."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "rank = int(os.environ.get('PMI_RANK') or os.environ['OMPI_COMM_WORLD_RANK'])\n"
        "if rank == 1: sys.exit(0)\n"
        "import minisplit\n"
    )
    done = run_command("run", "-n", "2", str(script))
    assert done.returncode == 1, done.stderr
    assert "a rank has left its program before it imported minisplit" in done.stderr


def test_J3_ranks_that_import_no_minisplit_leave_as_they_like(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import os, time\nif os.environ.get('PMI_RANK') == '1': time.sleep(1)\nprint('done')\n")
    done = run_command("run", "-n", "2", str(script))
    assert (done.returncode, done.stdout.count("done")) == (0, 2), done.stderr


def test_J3_a_rank_that_leaves_by_os_exit_ends_the_job(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os\n"
        "import numpy as np\n"
        "import minisplit as ms\n"
        "if ms.MPI_WORLD.rank == 0: os._exit(0)\n"
        "ms.MPI_WORLD.agree(np.zeros(1, int))\n"
    )
    done = run_command("run", "-n", "2", str(script))
    assert done.returncode not in {0, None}
    assert "a rank has left by os._exit(0), without MPI_Finalize; ending the job" in done.stderr
