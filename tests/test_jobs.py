"""Whole jobs, started as a user starts them: examples, and exceptions that nobody catches."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What dev.py sets for serial runs; these tests start jobs of their own.
MPIEXEC = os.environ.get("MINISPLIT_MPIEXEC", "mpiexec")
pytestmark = pytest.mark.serial


def job(ranks, *words, timeout=100):
    return subprocess.run(
        [MPIEXEC, "-n", str(ranks), sys.executable, *words],
        # A copy: it leaves out what an MPI in this process, a job of one rank, set for itself.
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=ROOT,
    )


@pytest.mark.parametrize("ranks", [1, 3])
def test_the_digits_example(ranks, tmp_path):
    done = job(ranks, "examples/digits.py")
    assert done.returncode == 0, done.stderr
    assert "largest difference from torch.vmap" in done.stdout
    assert (ROOT / "examples/out/strangest-digits.png").stat().st_size > 10_000


@pytest.mark.parametrize("failing", [0, 1])
def test_J1_an_uncaught_exception_on_one_rank_ends_the_job(failing):
    """The other rank waits in a collective call, and would wait for ever."""
    script = f"""
import minisplit as ms, torch
if ms.MPI_WORLD.rank == {failing}:
    raise ValueError("spilled")
ms.MPI_WORLD.allreduce(torch.ones(1))
"""
    done = job(2, "-c", script, timeout=30)
    assert done.returncode != 0
    assert f"[rank {failing} of 2] uncaught exception" in done.stderr
    assert "ValueError: spilled" in done.stderr


def test_J6_jobs_of_one_rank_are_told():
    script = "import minisplit as ms; print(ms.MPI_WORLD.size)"
    alone = {
        name: value for name, value in os.environ.items() if not name.startswith(("PMI", "OMPI_COMM", "SLURM"))
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=alone | {"SLURM_PROCID": "1", "SLURM_NTASKS": "4"},
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.strip() == "1"
    assert "the launcher started 4 processes, but the MPI library sees one" in done.stderr


def test_J7_no_mpi_library():
    script = "import minisplit"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"MPI4PY_LIBMPI": "/nowhere/libmpi.so"},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 1
    assert "minisplit found no MPI library" in done.stderr
    assert 'pip install "minisplit[mpich]"' in done.stderr
