"""`python -m minisplit info`, with the reports of `rank_info.py`."""

from __future__ import annotations

import pytest
from launchers import run_command

import minisplit as ms
from minisplit.launch import info, jobs

pytestmark = [pytest.mark.serial, pytest.mark.jobs]


def test_J7_info_runs_without_an_mpi_library() -> None:
    nothing = {"MPI4PY_LIBMPI": "/nowhere/libmpi.so", "MINISPLIT_MPIEXEC": ""}
    done = run_command("info", **nothing)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "none that mpi4py can load (cannot load MPI library)" in done.stdout
    assert "engine       torch: torch.distributed, by torchrun" in done.stdout
    nothing["MINISPLIT_ENGINE"] = "mpi"
    done = run_command("info", **nothing)
    assert done.returncode == 1, done.stderr
    assert '`pip install "minisplit[mpich]"`' in done.stdout
    done = run_command("run", __file__, **nothing)
    assert done.returncode == 1
    assert "minisplit: mpi4py found no MPI library" in done.stderr


def test_info_shows_a_job_that_works() -> None:
    done = run_command("info")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"minisplit    {ms.__version__}, Python" in done.stdout
    assert "fit          yes: a job of 2 started and ended in" in done.stdout
    assert done.stdout.endswith("All is well.\n")


def test_info_shows_nodes_and_gpus(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rank = {"cores": 8, "threads": 8, "gpus": ["A GPU"] * 2, "cuda": "12.6", "cuda_aware": False}
    told = [rank | {"host": "a"}, rank | {"host": "b", "cores": 4}, rank | {"host": "a"}]
    monkeypatch.setattr(jobs, "query_ranks", lambda *_: (told, ""))
    assert info.run_and_print(jobs.Launcher("mpiexec", ""), 3) == []
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        "ranks        2 on a, 1 on b",
        "threads      8 of each rank, which may use 4 to 8 cores",
        "GPUs         2 x A GPU",
        "CUDA-aware   no: messages go through the memory of the host",
    ]
    monkeypatch.setattr(jobs, "query_ranks", lambda *_: ([], "it broke"))
    [problem] = info.run_and_print(jobs.Launcher("mpiexec", ""), 3)
    assert problem.startswith("it broke\nUse the launcher of the MPI library")


def test_extras_are_those_of_the_project() -> None:
    assert {"plot", "progress", "test"} <= set(info.missing_by_extra())
    assert "mpich" not in info.missing_by_extra()
