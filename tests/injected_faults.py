"""Injects faults on one rank into every public function, in debug mode: all ranks must get one exception alike.

    python tests/injected_faults.py
    mpiexec -n 3 python tests/injected_faults.py

A fault is a call of the same function with an array of another shape, dtype or layout, with one argument more, or
of another function. How a function is called is found by trying. It prints what did not come out alike, and the
totals.

    python tests/injected_faults.py --jobs 60 SEED

injects a sample of 60 of them without debug mode, each into a job of three MPI ranks, which then make one
allreduce. It prints what became of each job, and fails if one goes on for more than `PATIENCE` seconds.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import torch

import minisplit as ms
from minisplit.core.call_comparison import NOT_COMPARED
from minisplit.core.pytorch.pytree import pytree
from minisplit.launch.jobs import find_launcher

Arrays = dict[str, ms.DNDarray]
Call = Callable[[Arrays], Any]
RANKS = 3
# Seconds after a fault by which the job must have ended: the watchdog's 5, the grace it gives, and some to end.
PATIENCE = 10


def make_arrays() -> Arrays:
    """Arrays for valid calls, and for each fault the array that stands in the place of the first."""
    x = ms.arange(16, dtype=torch.float64, split=0).reshape(4, 4) + ms.eye(4, dtype=torch.float64, split=0) * 9
    return {
        "float": x,
        "int": ms.ones((4, 4), dtype=torch.int64, split=0),
        "bool": ms.ones((4, 4), dtype=torch.bool, split=0),
        "vector": ms.arange(4, dtype=torch.float64, split=0),
        "shape": ms.ones((7, 4), dtype=torch.float64, split=0),
        "dtype": ms.ones((4, 4), dtype=torch.complex128, split=0),
        "layout": x.resplit(1),
        "counts": x.redistribute([4] + [0] * (x.comm.size - 1)),
    }


# The arguments that come after the first array, or replace it.
ARGUMENTS: list[Callable[[ms.DNDarray], tuple[Any, ...]]] = [
    lambda x: (x,),
    lambda x: (x, x),
    lambda x: (x, 0),
    lambda x: (x, (4, 4)),
    lambda x: ([x, x],),
    lambda x: (x, x, x),
    lambda x: (x, torch.int64),
    lambda x: (x, [0, 1, 2]),
    lambda x: (x, 0, 1),
    lambda x: (x, 1, 1, 0),
    lambda x: ("ij,jk->ik", x, x),
]
FAULTS = ("shape", "dtype", "layout", "counts", "argument", "function")


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public functions, by name."""
    for module in (ms, ms.linalg, ms.fft):
        for name in module.__all__:
            function = getattr(module, name)
            if isinstance(function, types.FunctionType) and name not in NOT_COMPARED:
                yield f"{module.__name__}.{name}", function
    for name, method in vars(ms.DNDarray).items():
        is_public = not name.startswith("_") or name.startswith("__")
        if isinstance(method, types.FunctionType) and name not in NOT_COMPARED and is_public:
            yield f"DNDarray.{name}", method
    yield "vmap", mapped


def mapped(*arrays: ms.DNDarray) -> tuple[ms.DNDarray, ...]:
    return ms.vmap(lambda *rows: sum(row.sum() for row in rows))(*arrays)


def valid_call(function: Callable[..., Any], arrays: Arrays) -> tuple[str, Call] | None:
    """A call of the function that succeeds, and the name of its array; None if none is found."""
    for name, arguments in itertools.product(("float", "vector", "int", "bool"), ARGUMENTS):
        try:
            function(*arguments(arrays[name]))
        except Exception:
            continue
        return name, lambda arrays, name=name, arguments=arguments: function(*arguments(arrays[name]))
    return None


def faulty(fault: str, name: str, call: Call, function: Callable[..., Any], arrays: Arrays) -> Any:
    """Make the call with a fault."""
    if fault == "argument":
        return function(arrays[name], 77, 77)
    if fault == "function":
        return (ms.max if function is not ms.max else ms.min)(arrays[name])
    return call({**arrays, name: arrays[fault]})


def outcome(call: Callable[[], Any]) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def run(chosen: int | None = None, seed: int = 0) -> tuple[int, list[str], list[str]]:
    """Inject faults into all functions, or some chosen ones.

    Return how many, what did not come out alike, and the functions of which no valid call was found.
    """
    comm, number, wrong, untried = ms.get_comm(), 0, [], []
    with ms.debug(False):
        calls = [(name, function, valid_call(function, make_arrays())) for name, function in functions()]
    if chosen is not None:
        calls = calls[seed % len(calls) :: max(1, len(calls) // chosen)]
    for title, function, valid in calls:
        if valid is None:
            untried.append(title)
            continue
        name, call = valid
        for fault in FAULTS:
            bad = comm.rank == number % comm.size
            with ms.debug(False):
                arrays = make_arrays()  # anew, since some functions change them
            with ms.debug():
                got = outcome(
                    (lambda: faulty(fault, name, call, function, arrays)) if bad else (lambda: call(arrays))  # noqa: B023
                )
            texts = comm.allgather_object(got)
            number += 1
            if len(set(texts)) > 1 or "CollectiveError" not in texts[0]:
                wrong.append(f"{title} with another {fault}: {texts}")
    return number, wrong, untried


# Without debug mode


def inject_alone(title: str, fault: str, bad_rank: int) -> None:
    """Make one call with a fault on one rank, and an allreduce, on each rank of this job; tell what came of it."""
    comm = ms.MPI_WORLD
    function = dict(functions())[title]
    found = valid_call(function, make_arrays())
    assert found, f"no valid call of {title} on {comm.size} ranks"
    name, call = found
    expected = values(call(make_arrays()))
    arrays = make_arrays()
    comm.allreduce(torch.ones(1))
    tell(began=time.time())
    try:
        if comm.rank == bad_rank:
            got = values(faulty(fault, name, call, function, arrays))
        else:
            got = values(call(arrays))
        error = ""
    except Exception as failure:
        got, error = "", f"{type(failure).__name__}: {failure}"
    total = comm.allreduce(torch.full((3,), 10.0**comm.rank)).tolist()
    tell(rank=comm.rank, error=error, right=got == expected, total=total)


def tell(**record: Any) -> None:
    os.write(1, f"{json.dumps(record)}\n".encode())


def values(result: Any) -> str:
    """What a call gave to this rank, as text."""
    leaves = [x.larray if isinstance(x, ms.DNDarray) else x for x in pytree.tree_leaves(result)]
    return str([x.tolist() if isinstance(x, torch.Tensor) else str(x) for x in leaves])


def start_job(title: str, fault: str, bad_rank: int) -> tuple[str, float, str]:
    """Inject a fault into a job. Return what became of it, after how many seconds, and what it said."""
    launcher = find_launcher()
    command = launcher.command(RANKS, __file__, "--one", title, fault, str(bad_rank))
    settings = {name: x for name, x in launcher.environment(RANKS).items() if not name.startswith("MINISPLIT_")}
    process = subprocess.Popen(
        command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        out, err = (text.decode() for text in process.communicate(timeout=120))
        ended, now = True, time.time()
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = (text.decode() for text in process.communicate())
        ended, now = False, time.time()
    records = []
    for line in out.splitlines():
        with suppress(ValueError):
            records.append(json.loads(line))
    began = max((record["began"] for record in records if "began" in record), default=now)
    told = [record for record in records if "rank" in record]
    return classify(ended, process.returncode, told, bad_rank, err), now - began, f"{told}\n{err}"


def classify(ended: bool, status: int, told: list[dict[str, Any]], bad_rank: int, err: str) -> str:
    """What became of a job, in a few words."""
    if not ended:
        return "did not end"
    if "all ranks must make the same calls; ending the job" in err:
        return "ended by the watchdog"
    if status or len(told) < RANKS:
        return "ended otherwise, as by the MPI library"
    errors = {record["error"] for record in told}
    if any(record["total"] != [111.0] * 3 for record in told):
        return "went on, with a wrong sum in the next call"
    if len(errors) == 1 and errors != {""}:
        return "the same exception on all ranks"
    others = [record for record in told if record["rank"] != bad_rank]
    if all(record["right"] for record in others):
        error = next(record["error"] for record in told if record["rank"] == bad_rank)
        return f"right on the other ranks, {'an exception' if error else 'other values'} on this one"
    if any(record["error"] for record in others):
        return "an exception on other ranks, not on all alike"
    return "wrong values on other ranks, in silence"


def run_jobs(number: int, seed: int) -> bool:
    """Inject a sample of faults, each into a job of its own; return whether none took too long."""
    choices = random.Random(seed)
    titles = [title for title, function in functions() if valid_call(function, make_arrays())]
    faults = choices.sample(list(itertools.product(titles, FAULTS)), number)
    counts: Counter[str] = Counter()
    longest: dict[str, float] = {}
    in_time = True
    for title, fault in faults:
        bad_rank = choices.randrange(RANKS)
        outcome, seconds, said = start_job(title, fault, bad_rank)
        counts[outcome] += 1
        longest[outcome] = max(seconds, longest.get(outcome, 0.0))
        in_time = in_time and seconds <= PATIENCE
        print(f"{title} with another {fault} on rank {bad_rank}: {outcome}, {seconds:.1f} s", flush=True)
        if seconds > PATIENCE or outcome not in {"ended by the watchdog", "the same exception on all ranks"}:
            print(*[f"    {line[:800]}" for line in said.splitlines()[:6]], sep="\n", flush=True)
    print(f"{number} faults of seed {seed}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for outcome, count in counts.most_common():
        print(f"{count:5} {outcome}, after {longest[outcome]:.1f} s at most")
    return in_time


def main() -> int:
    """Inject faults as the command line says; return the exit status."""
    match sys.argv[1:]:
        case ["--one", title, fault, bad_rank]:
            inject_alone(title, fault, int(bad_rank))
            return 0
        case ["--jobs", number, *seed]:
            return not run_jobs(int(number), int(*seed))
    with ms.debug():  # so that the functions are those that compare
        number, wrong, untried = run() if ms.MPI_WORLD.size > 1 else ms.testing.run(run, ranks=RANKS)[0]
    if ms.MPI_WORLD.rank == 0:
        print(*wrong, f"{number} faults, {len(wrong)} of them not alike on all ranks", sep="\n")
        print("not tried:", ", ".join(untried) or "none")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
