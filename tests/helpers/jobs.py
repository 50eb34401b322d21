"""Whole jobs, started as a user starts them."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import forked
from launchers import job_environment, launcher

ROOT = Path(__file__).parent.parent.parent


class Ended(NamedTuple):
    status: int
    out: str
    err: str


def job(ranks, *words, limit=40, interrupt=None, by=None, anew=False, **settings):
    """Run a job with these environment variables to its end, and make sure that it leaves no process behind.

    `by` is its launcher, by default that of MPI. `interrupt` is called with the launcher's process once each rank
    has printed "ready". Its ranks are forked from a process that has imported torch; `anew` means that they are
    started by Python itself.
    """
    mark = f"{forked.MARK}={uuid.uuid4()}"
    by = by or launcher()
    environment = job_environment(ranks, by) | dict([mark.split("=")]) | settings
    python = sys.executable if anew else forked.python()
    command = [python if word == sys.executable else word for word in by.command(ranks, *map(str, words))]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        mpiexec = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=ROOT,
            start_new_session=True,
        )
        ends = time.monotonic() + limit
        try:
            while mpiexec.poll() is None and time.monotonic() < ends:
                time.sleep(0.05)
                if interrupt and os.pread(out.fileno(), 100, 0).count(b"ready") == ranks:
                    time.sleep(0.5)  # for the ranks to come to where they wait
                    interrupt(mpiexec.pid)
                    interrupt = None
            timed_out = mpiexec.poll() is None
            ends = time.monotonic() + 2
            while not timed_out and processes(mark) and time.monotonic() < ends:
                time.sleep(0.05)
            left = processes(mark)
        finally:
            for process in {mpiexec.pid, *processes(mark)}:
                with suppress(OSError):
                    os.kill(process, signal.SIGKILL)
            mpiexec.wait()
        out.seek(0)
        err.seek(0)
        ended = Ended(mpiexec.returncode, out.read(), err.read())
    assert not timed_out, f"the job does not end:\n{ended.out}\n{ended.err}"
    assert not left, f"the job left processes behind:\n{ended.out}\n{ended.err}"
    return ended


def processes(mark):
    """The processes with this in their environment; none where there is no /proc to tell."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark.encode() in environment.read_bytes():
                found.append(int(environment.parent.name))
    return found
