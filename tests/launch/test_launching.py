"""`python -m minisplit`: which launcher it takes, what a job is given, and what people see."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dev
import minisplit as ms
from minisplit.launch import checks, commands, doctor, jobs, selftest

ROOT = Path(__file__).parents[2]
SAY = {
    "MPICH": "echo HYDRA build details:",
    "Open MPI": "echo 'mpirun (Open MPI) 5.0.1'",
    "Intel MPI": "echo 'Intel(R) MPI Library for Linux* OS, Version 2021.14'",
    "SLURM": "echo slurm-wlm 22.05.8",
}
SETTINGS = {**jobs.SETTINGS, **jobs.ON_ONE_MACHINE}
pytestmark = [pytest.mark.serial, pytest.mark.jobs]


def program(path: Path, script: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


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
    monkeypatch.setattr(jobs, "library", lambda environment=None: found)
    return tmp_path


def cli(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "minisplit", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.parametrize(
    ("said", "orig", "expected"),
    [
        (["-m", "info"], ["python", "-P", "-m", "minisplit", "info"], True),
        (["-m"], ["python", "-mminisplit"], True),
        (["-m"], ["python", "-m", "minisplit.testing.worker"], False),
        (["-m", "minisplit"], ["python", "-m", "pdb", "minisplit"], False),
        (["-m", "-m", "minisplit"], ["python", "-m", "pdb", "-m", "minisplit"], False),
        (["script.py", "minisplit"], ["python", "script.py", "minisplit"], False),
        ([], [], False),
    ],
)
def test_only_the_program_itself_ends_at_its_import(
    said: list[str], orig: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", said)
    monkeypatch.setattr(sys, "orig_argv", orig)
    assert commands.asked() == expected


def test_the_commands_of_the_pages_exist() -> None:
    pages = [ROOT / "README.md", ROOT / "docs" / "clusters.md"]
    text = "".join(page.read_text() for page in pages)
    lines = re.findall(r"^python -m minisplit (.*?) *(?:#.*)?$", text, re.MULTILINE)
    assert len(lines) > 5
    for line in lines:
        chosen = commands.parser().parse_args(line.split())
        assert line.startswith(chosen.command)


# The launcher


@pytest.mark.parametrize("place", ["mpi/bin", "python", "path"])
def test_a_launcher_is_found_where_it_fits(place: str, machine: Path) -> None:
    # Of another MPI, and sought before.
    program(machine / "mpi" / "bin" / "mpirun", SAY["Open MPI"])
    right = program(machine / place / "mpiexec", SAY["MPICH"])
    assert jobs.find().program == right


def test_intel_mpi_starts_jobs_of_mpich(machine: Path) -> None:
    assert jobs.find(program(machine / "a", "")).program == str(machine / "a")
    right = program(machine / "path" / "mpirun", SAY["Intel MPI"])
    assert jobs.find().program == right


def test_no_launcher_fits(machine: Path) -> None:
    other = program(machine / "path" / "mpiexec", SAY["Open MPI"])
    with pytest.raises(jobs.LauncherError, match=r"mpi4py loads MPICH 4.2.0 from .*MINISPLIT_MPIEXEC") as caught:
        jobs.find()
    assert f"({other} is of Open MPI)" in str(caught.value)


def test_what_the_user_names_is_taken(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = program(machine / "mine", SAY["Open MPI"])
    monkeypatch.setenv("MINISPLIT_MPIEXEC", mine)
    assert jobs.find().program == mine
    wheel = program(machine / "wheel" / "bin" / "mpiexec", "")
    program(machine / "wheel" / "lib" / "libmpi.so", "")
    launcher = jobs.find(str(machine / "wheel"))
    assert launcher.program == wheel
    assert launcher.environment(2)["MPI4PY_LIBMPI"] == str(machine / "wheel" / "lib")
    for choice, problem in {"nothing": "neither a program", str(machine): "without bin/mpiexec"}.items():
        with pytest.raises(jobs.LauncherError, match=problem):
            jobs.find(choice)
    monkeypatch.setenv("MINISPLIT_MPIEXEC", "/nowhere/mpiexec")
    with pytest.raises(jobs.LauncherError, match="MINISPLIT_MPIEXEC is /nowhere/mpiexec, but there is no such"):
        jobs.find()


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
        f'if [ "$1" = --version ]; then {SAY["SLURM"]}; exit; fi\n{options} || {refuse}\n{ranks}',
    )


@pytest.mark.parametrize("does", SRUN)
def test_srun_is_taken_in_an_allocation_if_its_jobs_are_of_one_piece(
    does: str, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"vendor": "Open MPI", "version": "5.0.1", "path": str(machine / "mpi" / "lib" / "libmpi.so.40")}
    monkeypatch.setattr(jobs, "library", lambda environment=None: found)
    srun = srun_of(machine, does)
    mpiexec = program(machine / "path" / "mpiexec", SAY["Open MPI"])
    assert jobs.find().program == mpiexec
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    launcher = jobs.find()
    assert launcher.program == (srun if does == "fits" else mpiexec)
    assert ("--kill-on-bad-exit=1" in launcher.command(2)) == (does == "fits")


@pytest.mark.parametrize("does", SRUN)
def test_srun_is_taken_for_MPICH_only_where_there_is_no_launcher_of_it(
    does: str, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    srun = srun_of(machine, does)
    other = program(machine / "path" / "mpirun", SAY["Open MPI"])
    if does == "fits":
        assert jobs.find().program == srun
        assert jobs.vendor_of(srun) == "SLURM"
    else:
        with pytest.raises(jobs.LauncherError, match=r"no mpiexec of it was found") as caught:
            jobs.find()
        for cause in (f"{other} is of Open MPI", f"{srun} {'started' if 'another' in does else 'did not start'}"):
            assert cause in str(caught.value)
    mpiexec = program(machine / "path" / "mpiexec", SAY["MPICH"])
    assert jobs.find().program == mpiexec


def test_what_is_wrong_with_a_job_is_told(machine: Path) -> None:
    alone = f'{jobs.MARK}{{"rank": 0, "size": 1}}'
    two = jobs.Launcher(program(machine / "two", f"echo '{alone}'; echo '{alone}'"), "")
    assert "started 2 jobs of 1 rank: it is not of the MPI that mpi4py loads" in jobs.ask(two, 2, "x")[1]
    broken = jobs.Launcher(program(machine / "broken", "echo no route to host; exit 3"), "")
    assert jobs.ask(broken, 2, "x")[1].endswith("of 2 ranks: it ended with status 3\nno route to host")
    assert jobs.run(jobs.Launcher(program(machine / "slow", "exec /bin/sleep 60"), ""), 2, limit=0.1)[0] is None


def test_threads_are_shared_out_on_one_machine(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = jobs.Launcher("mpiexec", "")
    monkeypatch.setattr(jobs, "cores", lambda: 8)
    assert [launcher.environment(ranks)["OMP_NUM_THREADS"] for ranks in (1, 3, 16)] == ["8", "2", "1"]
    assert launcher.environment(2, threads=5)["OMP_NUM_THREADS"] == "5"
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert "OMP_NUM_THREADS" not in launcher.environment(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert launcher.environment(2)["OMP_NUM_THREADS"] == "3"


def test_dev_py_and_the_launcher_set_the_same() -> None:
    assert {"OMP_NUM_THREADS": "1", **SETTINGS} == dev.SETTINGS


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


# What people see


def test_J7_info_runs_without_an_mpi_library() -> None:
    nothing = {"MPI4PY_LIBMPI": "/nowhere/libmpi.so", "MINISPLIT_MPIEXEC": ""}
    done = cli("info", **nothing)
    assert done.returncode == 1, done.stderr
    assert "none that mpi4py can load (cannot load MPI library)" in done.stdout
    assert '`pip install "minisplit[mpich]"`' in done.stdout
    done = cli("run", __file__, **nothing)
    assert done.returncode == 1
    assert "minisplit: mpi4py found no MPI library" in done.stderr


def test_info_shows_a_job_that_works() -> None:
    done = cli("info")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"minisplit    {ms.__version__}, Python" in done.stdout
    assert "fit          yes: a job of 2 started and ended in" in done.stdout
    assert done.stdout.endswith("All is well.\n")


def test_info_shows_nodes_and_gpus(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rank = {"cores": 8, "threads": 8, "gpus": ["A GPU"] * 2, "cuda": "12.6", "cuda_aware": False}
    told = [rank | {"host": "a"}, rank | {"host": "b", "cores": 4}, rank | {"host": "a"}]
    monkeypatch.setattr(jobs, "ask", lambda *_: (told, ""))
    assert doctor.show_job(jobs.Launcher("mpiexec", ""), 3) == []
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        "ranks        2 on a, 1 on b",
        "threads      8 of each rank, which may use 4 to 8 cores",
        "GPUs         2 x A GPU",
        "CUDA-aware   no: messages go through the memory of the host",
    ]
    monkeypatch.setattr(jobs, "ask", lambda *_: ([], "it broke"))
    [problem] = doctor.show_job(jobs.Launcher("mpiexec", ""), 3)
    assert problem.startswith("it broke\nUse the launcher of the MPI library")


def test_extras_are_those_of_the_project() -> None:
    assert {"plot", "progress", "test"} <= set(doctor.extras())
    assert "mpich" not in doctor.extras()


def test_a_script_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["run", "nowhere.py"]) == 2
    assert capsys.readouterr().err == "minisplit: there is no script nowhere.py\n"


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
    done = cli("run", "-n", "2", str(script), "--a", "b")
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
    command = [sys.executable, str(jobs.HERE / "rank.py"), str(script)]
    done = subprocess.run(
        command, env=environment | {"PMI_FD": str(writing)}, pass_fds=[writing], check=False, timeout=60
    )
    os.close(writing)
    with open(reading, "rb") as told:
        assert (done.returncode, told.read()) == (3, b"")


def test_selftest_passes() -> None:
    done = cli("selftest", "-n", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok") == len(checks.CHECKS)
    assert "All is well." in done.stdout


def test_selftest_says_what_failed_and_what_to_do(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mpiexec = program(machine / "mpiexec", "echo 'passed agree on 2'; echo the end; exit 4")
    launcher = jobs.Launcher(mpiexec, "a test")
    assert selftest.selftest(launcher, [2]) == 1
    out = capsys.readouterr().out
    assert "    2  ok        FAILED    -         -         -  " in out
    assert "The job of 2 ended with status 4. The end of what it printed:\n\npassed agree on 2\nthe end" in out
    assert "python -m minisplit info" in out


def test_the_table_has_the_checks(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(checks.CHECKS) == selftest.NAMES
    ms.testing.run(checks.main, ranks=3)
    assert capsys.readouterr().out.splitlines() == [f"passed {name} on 3" for name in checks.CHECKS]
