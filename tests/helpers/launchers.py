"""Stand-ins for launchers, and the real one of this environment."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

from minisplit.launch import jobs

ROOT = Path(__file__).parents[2]
# What launchers print when they are asked for their version.
VERSIONS = {
    "MPICH": "echo HYDRA build details:",
    "Open MPI": "echo 'mpirun (Open MPI) 5.0.1'",
    "Intel MPI": "echo 'Intel(R) MPI Library for Linux* OS, Version 2021.14'",
    "SLURM": "echo slurm-wlm 22.05.8",
}


@functools.cache
def launcher() -> jobs.Launcher:
    """The launcher of the MPI that this environment has. Kept: finding one may start other processes."""
    return jobs.find_launcher()


def job_environment(ranks: int, by: jobs.Launcher | None = None) -> dict[str, str]:
    """The environment of a job, without the settings of minisplit with which these tests run."""
    by = by or launcher()
    settings = {name: value for name, value in by.environment(ranks).items() if not name.startswith("MINISPLIT_")}
    return settings | ({"MINISPLIT_ENGINE": "torch"} if isinstance(by, jobs.TorchLauncher) else {})


def program(path: Path, script: str) -> str:
    """Write a shell script that can be run, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def run_command(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m minisplit` with these arguments, and with these environment variables."""
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "minisplit", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
