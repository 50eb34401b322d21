"""The parts of the tests, and how `dev.py test` runs them side by side: `parts.py JSON`, see `test`."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import nlargest

import job
from job import Result


@dataclass(frozen=True)
class Part:
    """A part of the tests: on how many MPI ranks pytest runs, 0 for a plain process, and with what arguments.

    `slots` are those that it takes of `SLOTS`. Ranks that are threads run one at a time, so they take one.
    """

    title: str
    ranks: int
    arguments: tuple[str, ...]
    settings: tuple[tuple[str, str], ...] = ()
    slots: int = 1
    # What carries messages between the ranks.
    engine: str = "mpi"
    # Of parts with as many slots: in about how many seconds it ends.
    length: int = 0


CORES = os.cpu_count() or 1
# One more: parts wait now and then, those of jobs most of the time.
SLOTS = CORES + 1
# One part runs in debug mode what another one runs without.
DEBUG = ("MINISPLIT_DEBUG", "1")
# Ranks that wait in MPICH sleep, where else they would keep others from a core: the tests of jobs wait for 5 s and
# more at a time, and some files of tests took 119 s on 4 ranks of 2 cores without this, and 105 s with it.
SLEEP = ("MPIR_CVAR_ENABLE_HEAVY_YIELD", "1")
OPERATIONS = ("--ignore", "tests/ops")
FILES = ("--ignore", "tests/io")
# Derivatives of operations are made of other operations, and so alike on every engine.
DERIVATIVES = ("-m", "not serial and not derivatives")
# Ranks that are threads run one at a time. Handed from core to core, some tests took 63 s, and on one core 43 s.
FIRST_CORE, LAST_CORE = ("--core", "0"), ("--core", "-1")
SERIAL = Part("serial", 0, ("-m", "serial and not spmd and not jobs"), length=200)
# Of the serial tests, jobs and examples those that are about MPI, for each further one.
SERIAL_OF_MPI = Part("serial", 0, ("-m", "serial and mpi and not spmd and not jobs"), length=10)
JOBS = Part("jobs", 0, ("-m", "jobs and not examples"), (SLEEP,), length=300)
JOBS_OF_MPI = Part("jobs", 0, ("-m", "jobs and mpi and not examples"), length=70)
EXAMPLES = Part("examples", 0, ("-m", "examples"), (SLEEP,), length=100)
EXAMPLES_OF_MPI = Part("examples", 0, ("-m", "examples and mpi"), length=15)
PROPERTIES = Part("properties", 0, ("-m", "spmd", *FIRST_CORE), length=140)


def on_threads(ranks: int) -> Part:
    arguments = ("-m", "not serial", "--on-threads", str(ranks), *LAST_CORE)
    return Part(f"threads, {count_ranks(ranks)}", 0, arguments, length=60 * ranks)


def on_mpi(ranks: int, *arguments: str, sleep: bool = False) -> Part:
    """Ranks of MPI. `sleep` says whether they can while they wait; if not, several of them keep all cores busy."""
    settings = (SLEEP,) if ranks > CORES else ()
    slots = 1 if ranks == 1 else CORES if sleep and settings else SLOTS
    return Part(
        count_ranks(ranks), ranks, ("-m", "not serial", *arguments), settings, slots, length=40 + 20 * ranks
    )


def on_torch(ranks: int, *arguments: str, settings: tuple[tuple[str, str], ...] = ()) -> Part:
    """Ranks that are processes of torch.distributed: they wait without keeping a core busy."""
    arguments = ("-m", "not serial", *arguments)
    title = f"torch, {count_ranks(ranks)}"
    return Part(title, ranks, arguments, settings, engine="torch", length=50 * ranks)


def on_pool(examples: int, *, sleep: bool = False) -> Part:
    """Properties that draw again on the ranks of an MPI job, fewer examples: each costs more there."""
    settings = (SLEEP, ("MINISPLIT_TESTING", "pool"), ("MINISPLIT_EXAMPLES", str(examples)), DEBUG)
    return Part("pool", 0, ("-m", "drawn"), settings, 1 if sleep else SLOTS, length=4 * examples)


def count_ranks(ranks: int) -> str:
    return f"{ranks} rank{'s' * (ranks > 1)}"


def choose(
    counts: Sequence[int],
    everything: bool,
    first: bool,
    engine: str = "all",
    alone: bool = True,
    sleep: bool = False,
) -> list[Part]:
    """The parts to run with one MPI, which is `alone` or one of several: what is the same with each runs once.

    Where `everything` is asked for, the numbers of ranks are 1 to 4, and `counts` is not used. `sleep` says
    whether ranks of this MPI can while they wait.
    """
    if engine == "torch":
        return [*map(on_torch, counts)] if first else []
    if not everything:
        others = [*map(on_threads, counts), *(map(on_torch, counts) if engine == "all" else ())]
        return [*map(on_mpi, counts), *(others if first else ())]
    if not first:
        return [JOBS_OF_MPI, EXAMPLES_OF_MPI, on_pool(5, sleep=sleep), on_mpi(2), SERIAL_OF_MPI]
    # The tests of operations run once on each number of ranks, on what is quickest there: operations communicate
    # by way of what is tested on every engine. Two MPIs share the numbers of ranks.
    on_ranks = [on_mpi(1), *([on_mpi(2)] if alone else []), on_mpi(4, *OPERATIONS, *DERIVATIVES, sleep=sleep)]
    on_ranks.append(on_threads(4))
    if engine == "all":
        on_ranks.append(on_torch(2, *OPERATIONS, *DERIVATIVES, settings=(DEBUG,)))
    on_ranks.append(on_torch(3, *FILES, *DERIVATIVES) if engine == "all" else on_mpi(3))
    return [JOBS, EXAMPLES, on_pool(10, sleep=sleep), SERIAL, PROPERTIES, *on_ranks]


def test(
    mpis: Mapping[str, Mapping[str, str]],
    counts: Sequence[int],
    everything: bool,
    pytest_arguments: Sequence[str],
    engine: str,
) -> int:
    """Run the tests, show what comes of them, and return the exit status.

    Parameters
    ----------
    mpis : Mapping
        The environment variables that choose each MPI, by its name.
    counts : sequence of int
        On how many ranks the tests run.
    everything : bool
        Whether tests run as well that need no ranks, or draw the number of ranks.
    pytest_arguments : sequence of str
        More arguments of pytest.
    engine : {"mpi", "torch", "all"}
        What carries messages between ranks.

    Returns
    -------
    int
        0 if tests passed and none failed, else 1.
    """
    work = {
        f"{name}, {part.title}": (part, {**settings, **dict(part.settings)})
        for number, (name, settings) in enumerate(mpis.items())
        for part in choose(counts, everything, number == 0, engine, len(mpis) == 1, sleep=name == "mpich")
    }

    def run(title: str) -> Result:
        part, settings = work[title]
        print(f"{title} ...", flush=True)
        return job.run(title, part.ranks, settings, [*part.arguments, *pytest_arguments], part.engine)

    results = {}
    with workers(len(work)) as executor:
        for result in run_side_by_side(executor, run, {title: part for title, (part, _) in work.items()}):
            results[result.title] = result
            show(result)
    print(f"\n{summary([results[title] for title in work])}", flush=True)
    passed, failed = (sum(getattr(result, name) for result in results.values()) for name in ("passed", "failed"))
    return 0 if passed and not failed else 1


def run_side_by_side(
    executor: ThreadPoolExecutor, run: Callable[[str], Result], parts: Mapping[str, Part]
) -> Iterator[Result]:
    """Run all parts, each as soon as there are slots for it: those of most slots first, of these the longest.

    Ranks that wait for a message may keep their cores busy, so these parts take all slots. Beside other parts 4
    ranks took 290 s for what takes them 122 s alone.
    """
    waiting = sorted(parts, key=lambda title: (-parts[title].slots, -parts[title].length))
    running: dict[Future[Result], str] = {}
    while waiting or running:
        free = SLOTS - sum(parts[title].slots for title in running.values())
        for title in tuple(waiting):
            if parts[title].slots <= free:
                free -= parts[title].slots
                waiting.remove(title)
                running[executor.submit(run, title)] = title
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            del running[future]
            yield future.result()


@contextmanager
def workers(number: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that each watch a job; Ctrl-C ends their jobs."""
    with ThreadPoolExecutor(number) as executor:
        try:
            yield executor
        except BaseException:
            job.INTERRUPTED.set()
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def show(result: Result) -> None:
    failed = f", {result.failed} FAILED" if result.failed else ""
    print(f"{result.title}: {result.passed} passed{failed} in {result.seconds:.1f} s", flush=True)
    if result.report:
        print(f"\n{result.report}\n", flush=True)


def summary(results: Sequence[Result]) -> str:
    """A table of the results, and the totals as its last line."""
    width = max(len(result.title) for result in results)
    lines = [f"{'':{width}}  passed  failed  skipped  seconds"]
    for result in results:
        counts = f"{result.passed:6}  {result.failed:6}  {result.skipped:7}  {result.seconds:7.1f}"
        lines.append(f"{result.title:{width}}  {counts}  {result.status}")
    files = [
        (seconds, f"{file} on {result.title}") for result in results for file, seconds in result.files.items()
    ]
    lines += [
        "",
        "The slowest files, in seconds:",
        *(f"{took:7.1f}  {file}" for took, file in nlargest(10, files)),
    ]
    skipped = sum(result.skipped for result in results)
    total = f"{sum(result.passed for result in results)} passed, {sum(result.failed for result in results)} failed"
    return "\n".join([*lines, "", total + (f", {skipped} skipped" if skipped else "")])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(test(**json.loads(sys.argv[1])))
    except KeyboardInterrupt:
        sys.exit("\ndev.py: interrupted")
