"""`python -m minisplit info`: what is here, whether it fits together, and what is missing."""

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
# What a program may need; the others are for those who develop minisplit.
NO_EXTRAS = {"mpich", "openmpi", "bench", "dev", "examples"}


def info(ranks: int, choice: str | None) -> int:
    """Print what is here, by asking a job of that many ranks. Returns 0 if jobs can be run, else 1."""
    problems: list[str] = []
    show(
        "minisplit",
        f"{own_version()}, Python {platform.python_version()} on {platform.system()} {platform.machine()}",
    )
    show("packages", ", ".join(f"{name} {version(name) or 'MISSING'}" for name in NEEDED))
    problems += [f"{name} is missing: pip install {name}" for name in NEEDED if not version(name)]
    launcher = None
    try:
        launcher = jobs.find(choice, ranks)
    except jobs.LauncherError as error:
        problems.append(str(error))
    found = jobs.library(launcher.environment(ranks) if launcher else None)
    if "error" in found:
        show("MPI library", f"none that mpi4py can load ({found['error']})")
        problems += [f"There is no MPI library. {jobs.INSTALL}"] * (not problems)
    else:
        show(
            "MPI library",
            f"{found['vendor']} {found['version']}, of the standard {found['standard']}",
            found["path"],
        )
    if launcher:
        show(
            "launcher",
            f"{jobs.vendor_of(launcher.program) or 'of unknown make'}, {launcher.found}",
            launcher.program,
        )
        if "error" not in found:
            problems += show_job(launcher, ranks)
    else:
        show("launcher", "none that fits")
    for extra, missing in extras().items():
        show(f"[{extra}]", f'without {", ".join(missing)}: pip install "minisplit[{extra}]"' if missing else "yes")
    print("\n" + ("\n\n".join(map(wrapped, problems)) or "All is well."))
    return 1 if problems else 0


def show_job(launcher: jobs.Launcher, ranks: int) -> list[str]:
    """Start a job, show what its ranks say, and return what is wrong."""
    began = time.monotonic()
    told, problem = jobs.ask(launcher, ranks, "-m", "minisplit.launch.facts")
    if problem:
        show("fit", "NO")
        return [f"{problem}\nUse the launcher of the MPI library: --mpi PATH, or MINISPLIT_MPIEXEC=PATH."]
    show("fit", f"yes: a job of {ranks} started and ended in {time.monotonic() - began:.1f} s")
    nodes = Counter(entry["host"] for entry in told)
    per_node = ", ".join(f"{count} on {host}" for host, count in list(nodes.items())[:4])
    show("ranks", f"{per_node}{', ...' * (len(nodes) > 4)}")
    show("threads", f"{several(told, 'threads')} of each rank, which may use {several(told, 'cores')} cores")
    first = told[0]
    gpus = Counter(first["gpus"])
    built = f"torch is built for CUDA {first['cuda']}" if first["cuda"] else "torch is built without CUDA"
    show("GPUs", ", ".join(f"{n} x {name}" for name, n in gpus.items()) or f"none on the node of rank 0; {built}")
    if gpus:
        aware = "yes" if first["cuda_aware"] else "no: messages go through the memory of the host"
        show("CUDA-aware", aware)
    return []


def several(told: list[dict[str, Any]], name: str) -> str:
    low, high = (rule(entry[name] for entry in told) for rule in (min, max))
    return f"{low}" if low == high else f"{low} to {high}"


def show(name: str, *lines: str) -> None:
    for title, line in zip([name, *[""] * len(lines)], filter(None, lines), strict=False):
        print(f"{title:12} {line}", flush=True)


def wrapped(text: str) -> str:
    """In lines of a terminal's width, none of which ends within a command."""
    lines = []
    for line in text.splitlines():
        whole = re.sub("`.*?`", lambda command: command[0].replace(" ", "\0"), line)
        lines.append(textwrap.fill(whole, 110, break_long_words=False, break_on_hyphens=False))
    return "\n".join(lines).replace("\0", " ")


def version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def own_version() -> str:
    """Also where minisplit is a checkout that was never installed."""
    text = (Path(__file__).parents[1] / "__init__.py").read_text()
    return text.partition('__version__ = "')[2].partition('"')[0]


def extras() -> dict[str, list[str]]:
    """The extras of minisplit, with the packages of each that are missing."""
    found: dict[str, list[str]] = {}
    for line in metadata.requires("minisplit") or [] if version("minisplit") else []:
        named = re.match(r"([\w.-]+).*extra == ['\"]([\w-]+)", line)
        if named and named[2] not in NO_EXTRAS:
            found.setdefault(named[2], []).extend([named[1]] * (not version(named[1])))
    return found
