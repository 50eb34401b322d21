"""`python -m minisplit info`: what is installed, whether it fits together, and what is missing."""

from __future__ import annotations

import platform
import re
import textwrap
import time
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

from minisplit.launch import jobs

NEEDED = ("torch", "mpi4py", "numpy")
# Extras that are not for users: an MPI shows as library and launcher, the others are for contributors.
HIDDEN_EXTRAS = {"mpich", "openmpi", "bench", "dev", "examples", "mutate"}


def info(ranks: int, choice: str | None, engine: str | None = None) -> int:
    """Print what is installed, and what the ranks of a job say of themselves.

    Parameters
    ----------
    ranks : int
        How many ranks that job has.
    choice : str, optional
        The launcher, or the folder of an MPI, as for `jobs.find_launcher`.
    engine : {"mpi", "torch"}, optional
        What carries the messages of the job.

    Returns
    -------
    int
        The exit status: 0 if jobs can be run, else 1.
    """
    problems: list[str] = []
    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    print_entry("minisplit", f"{own_version()}, {python}")
    print_entry("packages", ", ".join(f"{name} {version(name) or 'MISSING'}" for name in NEEDED))
    problems += [f"{name} is missing: pip install {name}" for name in NEEDED if not version(name)]
    launcher = None
    try:
        launcher = jobs.find_launcher(choice, ranks, engine)
    except jobs.LauncherError as error:
        problems.append(str(error))
    # With the launcher's environment: `--mpi FOLDER` may make mpi4py load another library than it would by itself.
    library = jobs.query_library(launcher.environment(ranks) if launcher else None)
    if "error" in library:
        print_entry("MPI library", f"none that mpi4py can load ({library['error']})")
    else:
        described = f"{library['vendor']} {library['version']}, of the standard {library['standard']}"
        print_entry("MPI library", described, library["path"])
    if isinstance(launcher, jobs.TorchLauncher):
        print_entry("engine", "torch: torch.distributed, by torchrun")
        problems += run_and_print(launcher, ranks)
    elif launcher:
        print_entry("engine", "mpi")
        vendor = jobs.vendor_of(launcher.program) or "of unknown make"
        print_entry("launcher", f"{vendor}, {launcher.origin}", launcher.program)
        if "error" not in library:
            problems += run_and_print(launcher, ranks)
    else:
        print_entry("launcher", "none that fits")
    for extra, missing in missing_by_extra().items():
        state = f'without {", ".join(missing)}: pip install "minisplit[{extra}]"' if missing else "yes"
        print_entry(f"[{extra}]", state)
    print("\n" + ("\n\n".join(map(wrap, problems)) or "All is well."))
    return 1 if problems else 0


def run_and_print(launcher: jobs.Launcher, ranks: int) -> list[str]:
    """Start a job, print what its ranks say of themselves, and return what is wrong."""
    started = time.monotonic()
    reports, problem = jobs.query_ranks(launcher, ranks, "-m", "minisplit.launch.rank_info")
    if problem:
        print_entry("fit", "NO")
        return [f"{problem}\nUse the launcher of the MPI library: --mpi PATH, or MINISPLIT_MPIEXEC=PATH."]
    print_entry("fit", f"yes: a job of {ranks} started and ended in {time.monotonic() - started:.1f} s")
    nodes = Counter(report["host"] for report in reports)
    per_node = ", ".join(f"{count} on {host}" for host, count in list(nodes.items())[:4])
    print_entry("ranks", f"{per_node}{', ...' * (len(nodes) > 4)}")
    threads, cores = value_range(reports, "threads"), value_range(reports, "cores")
    print_entry("threads", f"{threads} of each rank, which may use {cores} cores")
    first = reports[0]
    gpus = Counter(first["gpus"])
    built = f"torch is built for CUDA {first['cuda']}" if first["cuda"] else "torch is built without CUDA"
    names = ", ".join(f"{count} x {name}" for name, count in gpus.items())
    print_entry("GPUs", names or f"none on the node of rank 0; {built}")
    if gpus:
        aware = "yes" if first["cuda_aware"] else "no: messages go through the memory of the host"
        print_entry("CUDA-aware", aware)
    return []


def value_range(reports: list[dict[str, Any]], name: str) -> str:
    """The least and the greatest number that the ranks have of something, as text."""
    low, high = (extreme(report[name] for report in reports) for extreme in (min, max))
    return f"{low}" if low == high else f"{low} to {high}"


def print_entry(name: str, *lines: str) -> None:
    """Print lines beside their name, without those that are empty."""
    for title, line in zip([name, *[""] * len(lines)], filter(None, lines), strict=False):
        print(f"{title:12} {line}", flush=True)


def wrap(text: str) -> str:
    """Break text into lines of a terminal's width, none of which ends within a command."""
    lines = []
    for line in text.splitlines():
        # A NUL is no blank for textwrap, so it breaks no line within a command.
        unbroken = re.sub("`.*?`", lambda command: command[0].replace(" ", "\0"), line)
        lines.append(textwrap.fill(unbroken, 110, break_long_words=False, break_on_hyphens=False))
    return "\n".join(lines).replace("\0", " ")


def version(name: str) -> str:
    """The version of an installed package, or "" where it is missing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def own_version() -> str:
    """The version of minisplit, also where it is a checkout that was never installed."""
    # Not by an import of minisplit, which starts MPI, nor by its metadata, which a checkout does not have.
    text = (Path(__file__).parents[1] / "__init__.py").read_text()
    return text.partition('__version__ = "')[2].partition('"')[0]


def missing_by_extra() -> dict[str, list[str]]:
    """The packages of each extra of minisplit that are missing."""
    extras: dict[str, list[str]] = {}
    # A checkout that was never installed has no metadata, and so no extras to report.
    for line in metadata.requires("minisplit") or [] if version("minisplit") else []:
        match = re.match(r"([\w.-]+).*extra == ['\"]([\w-]+)", line)
        if match and match[2] not in HIDDEN_EXTRAS:
            extras.setdefault(match[2], []).extend([match[1]] * (not version(match[1])))
    return extras
