"""Which launcher `python -m minisplit` takes, and what a job is given; with `probe.py`, which asks the library."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from launchers import VERSIONS, program

from minisplit.launch import jobs

SETTINGS = {**jobs.SETTINGS, **jobs.ON_ONE_MACHINE}
pytestmark = [pytest.mark.serial, pytest.mark.jobs]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an MPICH library in `mpi/lib` and no launcher yet; `path` is on PATH."""
    for name in ("MINISPLIT_MPIEXEC", "OMP_NUM_THREADS", "MKL_NUM_THREADS", *SETTINGS):
        monkeypatch.delenv(name, raising=False)
    for name in list(os.environ):
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python" / "python"))
    found = {"vendor": "MPICH", "version": "4.2.0", "path": str(tmp_path / "mpi" / "lib" / "libmpi.so.12")}
    monkeypatch.setattr(jobs, "query_library", lambda environment=None: found)
    return tmp_path


@pytest.mark.parametrize("place", ["mpi/bin", "python", "path"])
def test_a_launcher_is_found_where_it_fits(place: str, machine: Path) -> None:
    # Of another MPI, and sought before.
    program(machine / "mpi" / "bin" / "mpirun", VERSIONS["Open MPI"])
    right = program(machine / place / "mpiexec", VERSIONS["MPICH"])
    assert jobs.find_launcher().program == right


def test_intel_mpi_starts_jobs_of_mpich(machine: Path) -> None:
    assert jobs.find_launcher(program(machine / "a", "")).program == str(machine / "a")
    right = program(machine / "path" / "mpirun", VERSIONS["Intel MPI"])
    assert jobs.find_launcher().program == right


def test_no_launcher_fits(machine: Path) -> None:
    other = program(machine / "path" / "mpiexec", VERSIONS["Open MPI"])
    with pytest.raises(jobs.LauncherError, match=r"mpi4py loads MPICH 4.2.0 from .*MINISPLIT_MPIEXEC") as caught:
        jobs.find_launcher()
    assert f"({other} is of Open MPI)" in str(caught.value)


def test_what_the_user_names_is_taken(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = program(machine / "mine", VERSIONS["Open MPI"])
    monkeypatch.setenv("MINISPLIT_MPIEXEC", mine)
    assert jobs.find_launcher().program == mine
    wheel = program(machine / "wheel" / "bin" / "mpiexec", "")
    program(machine / "wheel" / "lib" / "libmpi.so", "")
    launcher = jobs.find_launcher(str(machine / "wheel"))
    assert launcher.program == wheel
    assert launcher.environment(2)["MPI4PY_LIBMPI"] == str(machine / "wheel" / "lib")
    for choice, problem in {"nothing": "neither a program", str(machine): "without bin/mpiexec"}.items():
        with pytest.raises(jobs.LauncherError, match=problem):
            jobs.find_launcher(choice)
    monkeypatch.setenv("MINISPLIT_MPIEXEC", "/nowhere/mpiexec")
    with pytest.raises(jobs.LauncherError, match="MINISPLIT_MPIEXEC is /nowhere/mpiexec, but there is no such"):
        jobs.find_launcher()


# What SLURM 22.05 did: [mpich] by pmi2 or [openmpi] by pmix, [openmpi] by pmi2, [mpich] by pmix.
SRUN = {
    "fits": f"""echo '{jobs.MARK}{{"rank": '$rank', "size": 2}}'""",
    "of another MPI": f"""echo '{jobs.MARK}{{"rank": 0, "size": 1}}'""",
    "unsupported": "echo 'Abort(874136848): Fatal error in internal_Init_thread: Internal MPI error!'; exit 16",
}


def srun_of(machine: Path, does: str) -> str:
    """An srun that knows the options that `run` uses, and starts two ranks."""
    ranks = f"for rank in 0 1; do {SRUN[does]}; done"
    options = '[ "$1 $2 $3 $4" = "--kill-on-bad-exit=1 --quit-on-interrupt -n 2" ]'
    refuse = "{ echo srun: unrecognized option; exit 1; }"
    return program(
        machine / "path" / "srun",
        f'if [ "$1" = --version ]; then {VERSIONS["SLURM"]}; exit; fi\n{options} || {refuse}\n{ranks}',
    )


@pytest.mark.parametrize("does", SRUN)
def test_srun_is_taken_in_an_allocation_if_its_jobs_are_of_one_piece(
    does: str, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"vendor": "Open MPI", "version": "5.0.1", "path": str(machine / "mpi" / "lib" / "libmpi.so.40")}
    monkeypatch.setattr(jobs, "query_library", lambda environment=None: found)
    srun = srun_of(machine, does)
    mpiexec = program(machine / "path" / "mpiexec", VERSIONS["Open MPI"])
    assert jobs.find_launcher().program == mpiexec
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    launcher = jobs.find_launcher()
    assert launcher.program == (srun if does == "fits" else mpiexec)
    assert ("--kill-on-bad-exit=1" in launcher.command(2)) == (does == "fits")


@pytest.mark.parametrize("does", SRUN)
def test_srun_is_taken_for_MPICH_only_where_there_is_no_launcher_of_it(
    does: str, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    srun = srun_of(machine, does)
    other = program(machine / "path" / "mpirun", VERSIONS["Open MPI"])
    if does == "fits":
        assert jobs.find_launcher().program == srun
        assert jobs.vendor_of(srun) == "SLURM"
    else:
        with pytest.raises(jobs.LauncherError, match=r"no mpiexec of it was found") as caught:
            jobs.find_launcher()
        for cause in (f"{other} is of Open MPI", f"{srun} {'started' if 'another' in does else 'did not start'}"):
            assert cause in str(caught.value)
    mpiexec = program(machine / "path" / "mpiexec", VERSIONS["MPICH"])
    assert jobs.find_launcher().program == mpiexec


def test_what_is_wrong_with_a_job_is_told(machine: Path) -> None:
    alone = f'{jobs.MARK}{{"rank": 0, "size": 1}}'
    two = jobs.Launcher(program(machine / "two", f"echo '{alone}'; echo '{alone}'"), "")
    assert "started 2 jobs of 1 rank: it is not of the MPI that mpi4py loads" in jobs.query_ranks(two, 2, "x")[1]
    broken = jobs.Launcher(program(machine / "broken", "echo no route to host; exit 3"), "")
    assert jobs.query_ranks(broken, 2, "x")[1].endswith("of 2 ranks: it ended with status 3\nno route to host")
    assert (
        jobs.run_job(jobs.Launcher(program(machine / "slow", "exec /bin/sleep 60"), ""), 2, limit=0.1)[0] is None
    )


def test_threads_are_shared_out_on_one_machine(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = jobs.Launcher("mpiexec", "")
    monkeypatch.setattr(jobs, "count_cores", lambda: 8)
    assert [launcher.environment(ranks)["OMP_NUM_THREADS"] for ranks in (1, 3, 16)] == ["8", "2", "1"]
    assert launcher.environment(2, threads=5)["OMP_NUM_THREADS"] == "5"
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert "OMP_NUM_THREADS" not in launcher.environment(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert launcher.environment(2)["OMP_NUM_THREADS"] == "3"


def test_in_an_allocation_the_nodes_are_shared_out_by_SLURM(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = jobs.Launcher("mpiexec", "")
    assert launcher.environment(2).items() >= SETTINGS.items()
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    inside = launcher.environment(2)
    assert inside.items() >= jobs.SETTINGS.items()
    # With these Open MPI 5 puts all ranks on the first node.
    assert not inside.keys() & jobs.ON_ONE_MACHINE.keys()
    assert not inside.keys() & {"SRUN_CPUS_PER_TASK", "SLURM_OVERLAP"}


def test_ranks_do_not_inherit_the_PMI_of_what_a_launcher_has_srun_start(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_MPI_TYPE", "pmix")
    assert jobs.Launcher("mpiexec", "").environment(2)["SLURM_MPI_TYPE"] == "pmix"
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert jobs.Launcher("mpiexec", "").environment(2)["SLURM_MPI_TYPE"] == "none"
    assert jobs.Launcher("/bin/srun", "").environment(2)["SLURM_MPI_TYPE"] == "pmix"


def test_srun_is_told_what_it_passes_over(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = jobs.Launcher("srun", "")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    settings = launcher.environment(2)
    assert (settings["SRUN_CPUS_PER_TASK"], settings["SLURM_OVERLAP"]) == ("8", "1")
    monkeypatch.setenv("SRUN_CPUS_PER_TASK", "2")
    assert launcher.environment(2)["SRUN_CPUS_PER_TASK"] == "2"
