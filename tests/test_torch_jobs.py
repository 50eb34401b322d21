"""Jobs of torch.distributed, started as a user starts them, and how they end. `test_jobs.py` has those of MPI."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jobs import Ended, job

from minisplit.launch.jobs import TorchLauncher

ROOT = Path(__file__).parent.parent
RUN = (ROOT / "minisplit" / "launch" / "rank.py",)
PRELUDE = """\
import os, sys, time
import torch
import minisplit as ms
from minisplit.core.communication import watchdog
watchdog.PATIENCE = 0.5
comm, rank = ms.WORLD, ms.WORLD.rank
x = ms.arange(6, split=0)
def wait():
    assert comm.allreduce(torch.ones(2)).tolist() == [comm.size] * 2
wait()
"""
pytestmark = [pytest.mark.serial, pytest.mark.jobs]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Ended]:
    def run(ranks: int, program: str, by: tuple[Any, ...] = (), **options: Any) -> Ended:
        (tmp_path / "program.py").write_text(PRELUDE + program.lstrip("\n"))
        ended: Ended = job(ranks, *by, tmp_path / "program.py", by=TorchLauncher(), limit=90, **options)
        return ended

    return run


def test_a_job_that_ends_well_says_nothing(run: Callable[..., Ended]) -> None:
    # One write for a line: torchrun starts Python with `-u`, under which `print` writes the line's end by itself,
    # and that of another rank may come between.
    done = run(3, "sys.stdout.write(f'{ms.vmap(torch.sin)(x)[0].shape}\\n')\nif rank == 0: time.sleep(1)")
    assert (done.status, done.err) == (0, "")
    assert done.out == "(6,)\n" * 3


@pytest.mark.parametrize("end", ["", "part.free()"])
def test_J3_the_first_call_is_an_exchange_in_which_a_rank_has_no_part(run: Callable[..., Ended], end: str) -> None:
    """All ranks make the process group in it."""
    done = run(3, f"part = comm.split(0)\nms.arange(6, split=0, comm=part).redistribute([3, 1, 2])\n{end}")
    assert (done.status, done.err) == (0, "")


def test_J1_an_uncaught_exception_on_one_rank_ends_the_job(run: Callable[..., Ended]) -> None:
    done = run(3, "if rank == 1: raise ValueError('spilled')\nwait()", anew=True)
    assert done.status != 0
    assert "[rank 1 of 3] uncaught exception; ending the job" in done.err
    assert "ValueError: spilled" in done.err


def test_J2_a_killed_rank_ends_the_job(run: Callable[..., Ended]) -> None:
    assert run(2, "if rank == 1: os.kill(os.getpid(), 9)\nwait()", anew=True).status != 0


@pytest.mark.parametrize("leave", ["sys.exit(3)", "os._exit(3)"])
def test_J2_a_rank_that_leaves_with_a_status_ends_the_job(run: Callable[..., Ended], leave: str) -> None:
    assert run(2, f"if rank == 1: {leave}\nwait()").status != 0


@pytest.mark.parametrize("leave", ["sys.exit(0)", "os._exit(0)"])
def test_J3_a_rank_that_leaves_early_is_not_waited_for(run: Callable[..., Ended], leave: str) -> None:
    done = run(2, f"if rank == 1: {leave}\nwait()", by=RUN)
    assert done.status != 0
    assert "rank 1 has left its program" in done.err or "a rank has left by os._exit(0)" in done.err


def test_J4_ctrl_c_ends_the_job(run: Callable[..., Ended]) -> None:
    program = "os.write(1, b'ready\\n')\nif rank == 0: time.sleep(60)\nwait()"
    assert run(2, program, anew=True, interrupt=lambda launcher: os.kill(launcher, signal.SIGINT)).status != 0


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("x.sum() if rank == 0 else x.resplit(None)", "has made another one"),
        ("x[0] if rank == 0 else x.sum(axis=0)\nwait()", "has made another one"),
        ("comm.allreduce(torch.ones(2 + rank))", "has made another one"),
        ("x.redistribute([2, 4]) if rank == 0 else wait()", "rank"),
        ("part = comm.split(0)\npart.allreduce(torch.ones(1)) if rank else wait()", "wait for each other"),
    ],
)
def test_J5_calls_that_differ_end_the_job(run: Callable[..., Ended], program: str, words: str) -> None:
    done = run(2, program)
    assert done.status != 0
    assert words in done.err


def test_J8_a_slow_rank_does_not_end_the_job(run: Callable[..., Ended]) -> None:
    done = run(2, "if rank == 0: time.sleep(4)\nwait()\nif rank == 1: time.sleep(4)\nx.sum().item()\nx[3].item()")
    assert (done.status, done.err) == (0, "")


def test_the_default_group_of_the_program_stays_its_own(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import torch, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "import minisplit as ms\n"
        "assert ms.arange(4, split=0).sum().item() == 6\n"
        "total = torch.ones(1)\ndist.all_reduce(total)\n"
        "assert total.item() == ms.WORLD.size == 2\n"
        "dist.destroy_process_group()\n"
        "assert ms.arange(4, split=0).sum().item() == 6\n"
    )
    done = job(2, tmp_path / "program.py", by=TorchLauncher(), limit=90, anew=True)
    assert (done.status, done.err) == (0, "")


def test_the_command_line_starts_it(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import sys\nimport minisplit as ms\nsys.stdout.write(f'{ms.WORLD}\\n')")
    words = ("-m", "minisplit", "run", "--engine", "torch", "-n", "2", str(tmp_path / "program.py"))
    done = job(1, by=_Plain(words), limit=90, anew=True)
    assert sorted(done.out.splitlines()) == [f"<TorchCommunication rank {rank} of 2>" for rank in (0, 1)]


class _Plain(TorchLauncher):
    """Starts Python once, with these words."""

    def __init__(self, words: tuple[str, ...]) -> None:
        object.__setattr__(self, "words", words)

    def command(self, ranks: int, *arguments: str) -> list[str]:
        words: tuple[str, ...] = self.__dict__["words"]
        return [sys.executable, *words]
