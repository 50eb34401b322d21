#!/usr/bin/env python3
"""Set up, run and test minisplit on this machine: `python3 dev.py demo`, `python3 dev.py test`.

Standard library only. Every command makes what it needs first: `.venv` with the tested versions of
constraints.txt, and an MPI library: the one on PATH if there is one, else the MPICH wheel, kept
beside the packages in `.venv/mpi`, so that it never shadows another MPI.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
EXTRAS = "test,examples,dev"
TEST_RANKS = (1, 2, 3, 4)
# Seconds without a line in any rank's log after which a test run counts as hanging, and for a whole run.
PATIENCE = float(os.environ.get("MINISPLIT_TEST_PATIENCE", "120"))
RUN_LIMIT = 1200.0

# Set unless the user has: what lets a job of any number of ranks start on one machine.
DEFAULTS = {
    "OMP_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}


class Problem(Exception):  # noqa: N818 - what a user has, not a fault of the program
    """Something that the user has to put right, said in one sentence."""


@dataclasses.dataclass(frozen=True)
class Mpi:
    """A launcher and, for an MPI of our own, the folder of its library (None: the system finds it)."""

    name: str
    mpiexec: Path
    library: Path | None

    def environment(self) -> dict[str, str]:
        chosen = {} if self.library is None else {"MPI4PY_LIBMPI": str(self.library)}
        return DEFAULTS | os.environ | chosen

    def command(self, ranks: int, *words: str) -> list[str]:
        return [str(self.mpiexec), "-n", str(ranks), str(PYTHON), *words]


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    try:
        set_up_venv()
        return int(COMMANDS[options.command](options))
    except Problem as problem:
        print(f"dev.py: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    job = argparse.ArgumentParser(add_help=False)
    job.add_argument("-n", type=positive, metavar="N", help="number of ranks")
    job.add_argument(
        "--mpi",
        choices=("auto", "mpich", "openmpi", "all"),
        default="auto",
        help="auto: the MPI on PATH, else MPICH; all (test only): MPICH, then Open MPI",
    )
    commands.add_parser("demo", parents=[job], help="run examples/digits.py (on 4 ranks)")
    test = commands.add_parser("test", parents=[job], help="run the tests (on 1, 2, 3 and 4 ranks)")
    test.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    run = commands.add_parser("run", parents=[job], help="run any script (on 4 ranks)")
    run.add_argument("script", nargs=argparse.REMAINDER, help="the script and its arguments")
    commands.add_parser("lint", help="run ruff and mypy")
    options = parser.parse_args(arguments)
    if options.command in {"demo", "run"} and options.mpi == "all":
        parser.error("--mpi all is for test only")
    if options.command == "run" and not options.script:
        parser.error("run needs a script")
    return options


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def demo(options: argparse.Namespace) -> int:
    return launch(options, ["examples/digits.py"])


def run(options: argparse.Namespace) -> int:
    return launch(options, options.script)


def launch(options: argparse.Namespace, words: list[str]) -> int:
    mpi, ranks = find_mpi(options.mpi), options.n or 4
    check_job_size(mpi, ranks)
    return subprocess.run(mpi.command(ranks, *words), env=mpi.environment(), check=False).returncode


def lint(_: argparse.Namespace) -> int:
    checks = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"])
    return max(subprocess.run([PYTHON, "-m", *check], cwd=ROOT, check=False).returncode for check in checks)


def set_up_venv() -> None:
    """Make `.venv`, unless its stamp says that it was made from the present dependency files."""
    if sys.version_info < (3, 11):  # noqa: UP036 - run by whatever Python there is
        raise Problem(f"minisplit needs Python 3.11 or newer, this is {sys.version.split()[0]}")
    sources = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    wanted = hashlib.sha256(b"\0".join([*sources, sys.version.encode(), EXTRAS.encode()])).hexdigest()
    stamp = VENV / "stamp"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    with only_one():
        if stamp.exists() and stamp.read_text() == wanted:
            return
        say("Setting up .venv, once: one or two minutes ...")
        started = time.monotonic()
        make = [sys.executable, "-m", "venv", *([] if PYTHON.exists() else ["--clear"]), str(VENV)]
        made = subprocess.run(make, capture_output=True, text=True, check=False)
        if made.returncode or not (VENV / "bin" / "pip").exists():
            raise Problem(
                "Python's venv module could not make .venv; on Debian and Ubuntu `apt install python3-venv` "
                f"brings it ({last_line(made.stdout + made.stderr)})"
            )
        # torch by itself and first: asked for together with others, pip may look at newer, far larger builds.
        pip("install", "-c", "constraints.txt", "torch")
        pip("install", "-c", "constraints.txt", "-e", f".[{EXTRAS}]")
        stamp.write_text(wanted)
        say(f"Set up in {time.monotonic() - started:.0f} s.")


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Hold a lock, so that two commands at once do not set up the same folder."""
    with (ROOT / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def pip(*words: str) -> None:
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", *words, "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise Problem(
            f"pip could not install what minisplit needs (is there a network?): "
            f"{errors[-1] if errors else last_line(done.stderr)}\n  the command was: {' '.join(command)}"
        )


def find_mpi(choice: str) -> Mpi:
    """The MPI to use: one on PATH for "auto", else a wheel in `.venv/mpi`, installed if need be."""
    found = shutil.which("mpiexec") or shutil.which("mpirun")
    if choice == "auto" and found and ROOT not in Path(found).parents:
        return Mpi("system", Path(found), None)
    name = "mpich" if choice == "auto" else choice
    home = VENV / "mpi" / name
    mpi = Mpi(name, home / "bin" / "mpiexec", home / "lib")
    stamp = home / "stamp"
    wanted = (ROOT / "constraints.txt").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        with only_one():
            say(f"Installing {name} ...")
            shutil.rmtree(home, ignore_errors=True)
            pip("install", "-c", "constraints.txt", "--ignore-installed", "--prefix", str(home), name)
            stamp.write_text(wanted)
    return mpi


def check_job_size(mpi: Mpi, ranks: int) -> None:
    """Raise Problem unless a job of `ranks` ranks is one; looked at once for each launcher and number."""
    key = f"{mpi.mpiexec.resolve()} {mpi.mpiexec.stat().st_mtime_ns} {ranks}"
    seen = VENV / "jobs"
    if seen.exists() and key in seen.read_text().splitlines():
        return
    probe = "from mpi4py import MPI; print(f'size={MPI.COMM_WORLD.size}', flush=True)"
    try:
        job = subprocess.run(
            mpi.command(ranks, "-c", probe),
            env=mpi.environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Problem(f"`{mpi.mpiexec} -n {ranks}` did not end within two minutes") from None
    sizes = re.findall(r"size=(\d+)", job.stdout)
    if job.returncode or len(sizes) != ranks:
        raise Problem(f"`{mpi.mpiexec} -n {ranks}` could not run {ranks} ranks: {last_line(job.stderr)}")
    if set(sizes) != {str(ranks)}:
        raise Problem(
            f"`{mpi.mpiexec} -n {ranks}` ran {ranks} jobs of {sizes[0]} rank: launcher and MPI library "
            "are not of one MPI; `--mpi mpich` uses a matching pair"
        )
    with seen.open("a") as file:
        file.write(key + "\n")


@dataclasses.dataclass
class Run:
    """One run of the tests: where its logs are, how it ended, and what each rank counted."""

    title: str
    ranks: int
    logs: Path
    status: int = 0
    hung: bool = False
    seconds: float = 0.0

    def counts(self) -> dict[str, int]:
        """Tests passed, failed and skipped, as rank 0 has them; a run that broke off fails once more."""
        file = self.logs / "rank-0.json"
        counts = {"passed": 0, "failed": 0, "skipped": 0}
        if file.exists():
            counts |= json.loads(file.read_text())
        if self.hung or (self.status and not counts["failed"]):
            counts["failed"] += 1
        return counts

    def verdict(self) -> str:
        if self.hung:
            return "HUNG"
        return "failed" if self.counts()["failed"] else "ok"


def test(options: argparse.Namespace) -> int:
    """Run the serial tests in one process, the others on each number of ranks; sum up at the end."""
    names = ("mpich", "openmpi") if options.mpi == "all" else (options.mpi,)
    ranks = (options.n,) if options.n else TEST_RANKS
    mpis = [find_mpi(name) for name in names]
    for mpi in mpis:
        for n in ranks:
            check_job_size(mpi, n)
    with tempfile.TemporaryDirectory(prefix="minisplit-test-") as folder:
        runs = []
        if not options.n:
            environment = mpis[0].environment() | {"MINISPLIT_MPIEXEC": str(mpis[0].mpiexec)}
            words = ["-m", "serial", *options.pytest]
            runs.append(watch("one process", 1, Path(folder), [str(PYTHON)], environment, words))
        for mpi in mpis:
            for n in ranks:
                words = ["-m", "not serial", *options.pytest]
                title = f"{n} rank{'s' * (n > 1)}, {mpi.name}"
                runs.append(watch(title, n, Path(folder), mpi.command(n), mpi.environment(), words))
        for finished in runs:
            if finished.verdict() != "ok":
                show(finished)
        return summarise(runs)


def watch(
    title: str, ranks: int, folder: Path, launcher: list[str], environment: dict[str, str], words: list[str]
) -> Run:
    """Run pytest under `launcher`, a log for each rank; end it with every rank's stack if it hangs."""
    logs = folder / title.replace(", ", "-").replace(" ", "-")
    logs.mkdir()
    outcome = Run(title, ranks, logs)
    started = time.monotonic()
    command = [*launcher, str(ROOT / "tests" / "rank.py"), str(logs), "-v", *words]
    print(f"{title:>18} ... ", end="", flush=True)
    with (logs / "launcher.log").open("wb") as log:
        job = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            outcome.status, outcome.hung = wait(job, logs)
        finally:
            end(job, logs)
    outcome.seconds = time.monotonic() - started
    counts = outcome.counts()
    told = f"{counts['passed']} passed" + (f", {counts['failed']} failed" if counts["failed"] else "")
    print(
        f"{told} in {outcome.seconds:.1f} s{'' if outcome.verdict() == 'ok' else ': ' + outcome.verdict()}",
        flush=True,
    )
    return outcome


def wait(job: subprocess.Popen[bytes], logs: Path) -> tuple[int, bool]:
    """Wait for the job; its status, and whether it hung: no log grew for a while, or it ran too long."""
    size, changed = -1, time.monotonic()
    limit = changed + RUN_LIMIT
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return job.wait(0.05 if size < 0 else 0.2), False
        now, grown = time.monotonic(), sum(file.stat().st_size for file in logs.glob("*.log"))
        if grown != size:
            size, changed = grown, now
        if now > changed + PATIENCE or now > limit:
            for pid in pids(logs):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGUSR1)
            time.sleep(1)
            return 1, True


def end(job: subprocess.Popen[bytes], logs: Path) -> None:
    """Leave no process of the job behind."""
    if job.poll() is None:
        for pid in [*pids(logs), job.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
    job.wait()


def pids(logs: Path) -> list[int]:
    return [int(text) for file in logs.glob("*.pid") if (text := file.read_text())]


def show(finished: Run) -> None:
    """Print what a person needs of a failed run: the lowest failing rank's report, or every rank's stack."""
    print(f"\n{finished.title}: {finished.verdict()}")
    logs = {rank: read(finished.logs / f"rank-{rank}.log") for rank in range(finished.ranks)}
    if finished.hung or not any("= FAILURES =" in text or "= ERRORS =" in text for text in logs.values()):
        for rank, text in logs.items():
            print(f"rank {rank}, the end of its output:\n{indent(text.splitlines()[-40:])}")
        print(f"launcher:\n{indent(read(finished.logs / 'launcher.log').splitlines()[-20:])}")
        return
    reports = {rank: text for rank, text in logs.items() if report(text)}
    own = {rank: text for rank, text in reports.items() if "see there" not in report(text)} or reports
    first = min(own)
    print(f"ranks with a failure of their own: {', '.join(map(str, own))}; rank {first} says:")
    print(indent(report(own[first]).splitlines()))


def report(log: str) -> str:
    """The part of a pytest log from its failures on."""
    match = re.search(r"^=+ (?:FAILURES|ERRORS) =+$", log, re.MULTILINE)
    return log[match.start() :] if match else ""


def summarise(runs: list[Run]) -> int:
    totals = {"passed": 0, "failed": 0, "skipped": 0}
    print(f"\n{'run':>18} {'passed':>7} {'failed':>7} {'skipped':>8} {'seconds':>8}")
    for finished in runs:
        counts = finished.counts()
        for name in totals:
            totals[name] += counts[name]
        numbers = f"{counts['passed']:>7} {counts['failed']:>7} {counts['skipped']:>8}"
        print(f"{finished.title:>18} {numbers} {finished.seconds:>8.1f}  {finished.verdict()}")
    print(f"\n{totals['passed']} passed, {totals['failed']} failed, {totals['skipped']} skipped")
    return 1 if totals["failed"] or not totals["passed"] else 0


def read(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else "(nothing)\n"


def indent(lines: list[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


def last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if re.search(r"\w", line)]
    return lines[-1].strip() if lines else "it said nothing"


def say(text: str, file: IO[str] | None = None) -> None:
    print(text, file=file or sys.stderr, flush=True)


COMMANDS = {"demo": demo, "test": test, "run": run, "lint": lint}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
