"""Injects faults on one rank into every public function, in debug mode: all ranks must get one exception alike.

    python tests/injected_faults.py
    mpiexec -n 3 python tests/injected_faults.py

A fault is a call of the same function with an array of another shape, dtype or layout, with one argument more, or
of another function. How a function is called is found by trying, or stands in `SPECIAL`. It prints what did not
come out alike, and the totals.

    python tests/injected_faults.py --jobs 60 SEED

injects a sample of 60 of them without debug mode, each into a job of three MPI ranks, which then make one
allreduce. It prints what became of each job, and fails if one goes on for more than `PATIENCE` seconds.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import torch

import minisplit as ms
from minisplit.core.call_comparison import NOT_COMPARED
from minisplit.core.pytorch.pytree import pytree
from minisplit.launch.jobs import find_launcher

Arrays = dict[str, ms.DNDarray]
# The arguments of a call.
Given = tuple[tuple[Any, ...], dict[str, Any]]
Arguments = Callable[[ms.DNDarray], Given]
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


def given(*args: Any, **kwargs: Any) -> Given:
    return args, kwargs


# The arguments of most functions, given an array.
ARGUMENTS: list[Arguments] = [
    given,
    lambda x: given(x, x),
    lambda x: given(x, 0),
    lambda x: given(x, (4, 4)),
    lambda x: given([x, x]),
    lambda x: given(x, x, x),
    lambda x: given(x, torch.int64),
    lambda x: given(x, [0, 1, 2]),
    lambda x: given(x, 0, 1),
    lambda x: given(x, 1, 1, 0),
    lambda x: given("ij,jk->ik", x, x),
]


def total(*tensors: torch.Tensor) -> torch.Tensor:
    return tensors[0].sum()


def middle(x: torch.Tensor) -> torch.Tensor:
    return x[1:-1]


def made(x: ms.DNDarray) -> dict[str, Any]:
    """How to make an array like this."""
    return {"dtype": x.dtype, "split": x.split}


def one_element(x: ms.DNDarray) -> ms.DNDarray:
    """An array of one element, cut as `x` is."""
    return ms.ones((1,) * x.ndim, dtype=torch.int64, split=x.split)


def followed(x: ms.DNDarray) -> ms.DNDarray:
    return x.detach().requires_grad_() * 2


def all_on_rank_0(x: ms.DNDarray) -> list[int]:
    return [x.shape[x.split or 0]] + [0] * (x.comm.size - 1)


def stored(x: ms.DNDarray, suffix: str) -> str:
    """A file that has been saved: another one for each shape and dtype."""
    return f"{FOLDER[0]}/{len(x)} {x.dtype}.{suffix}"


# Of others.
SPECIAL: dict[str, Arguments] = {
    **dict.fromkeys(("empty", "ones", "zeros", "rand", "randn"), lambda x: given(x.shape, **made(x))),
    **dict.fromkeys(("eye", "tri", "randperm"), lambda x: given(len(x), split=x.split)),
    **dict.fromkeys(("geomspace", "linspace", "logspace"), lambda x: given(1, 2, len(x), split=x.split and 0)),
    **dict.fromkeys(("fftfreq", "rfftfreq", "arange"), lambda x: given(len(x), split=x.split)),
    **dict.fromkeys(("exponential",), lambda x: given(1.0, x.shape, split=x.split)),
    **dict.fromkeys(("normal", "uniform"), lambda x: given(0.0, 1.0, x.shape, split=x.split)),
    "choice": lambda x: given(x, (3,), split=x.split),
    "full": lambda x: given(x.shape, 3, **made(x)),
    "poisson": given,
    "bernoulli": lambda x: given(x * 0),
    "randint": lambda x: given(0, 5, x.shape, split=x.split),
    "randint_like": lambda x: given(x, 0, 5),
    "permutation": given,
    "apply_along_axis": lambda x: given(total, 0, x),
    "map_halo": lambda x: given(middle, x, 1, 0),
    "tree_map": lambda x: given(torch.clone, [x]),
    "bincount": lambda x: given(x.flatten().astype(torch.int64)),
    "cross": lambda x: given(x[:, :3], x[:, :3]),
    "dsplit": lambda x: given(ms.stack([x, x], axis=2), 2),
    "piecewise": lambda x: given(x, [x.isfinite()], [1.0]),
    "polyfit": lambda x: given(x[:, 0], x[:, 0], 1),
    "select": lambda x: given([x.isfinite()], [x]),
    "rsvd": lambda x: given(x, 2),
    "cg": lambda x: given(x.T @ x, x[:, 0]),
    "lanczos": lambda x: given(x.T + x, 2),
    "redistribute": lambda x: given(x, all_on_rank_0(x)),
    "redistribute_": lambda x: given(x, all_on_rank_0(x)),
    "to_layout": lambda x: given(x, x.layout.with_split(0)),
    **dict.fromkeys(("item", "__bool__", "__int__", "__float__", "__complex__"), lambda x: given(one_element(x))),
    "to_device": lambda x: given(x, "cpu"),
    "chunk": lambda x: given(x, 2),
    "retain_grad": lambda x: given(followed(x)),
    "backward": lambda x: given(followed(x).sum(1), x[:, 0]),
    "__array_function__": lambda x: given(x, np.sum, (ms.DNDarray,), (x,), {}),
    "__array_ufunc__": lambda x: given(x, np.exp, "__call__", x),
    "__deepcopy__": lambda x: given(x, {}),
    "datasets": lambda _: given(f"{FOLDER[0]}/names.h5"),
    "load": lambda x: given(stored(x, "npy"), dtype=x.dtype, split=x.split),
    "open": lambda x: given(stored(x, "npy"), dtype=x.dtype, split=x.split),
    "save": lambda x: given(x, f"{FOLDER[0]}/saved.npy"),
    "load_checkpoint": lambda x: given(stored(x, "safetensors")),
    "save_checkpoint": lambda x: given({"x": x}, f"{FOLDER[0]}/saved.safetensors"),
    "replicate": lambda x: given(torch.ones(x.shape, dtype=x.dtype)),
    "clip_grad_norm_": lambda x: given([x.detach().requires_grad_()], 1.0),
}
# What makes no call of the ranks: it takes and makes no split array, or raises whatever it is given. Seeds are
# compared when numbers are drawn, and the optimisers' layouts where their states have others.
LOCAL = {
    "__array_namespace_info__", "__index__", "__reduce_ex__", "broadcast_shapes", "cuda", "fork", "get_comm",
    "get_state", "gpu", "isdtype", "load_optimizer", "seed", "set_state", "warn_above",
}  # fmt: skip
# What needs a process group of torch.distributed, see tests/ops/test_dtensor.py.
OF_TORCH = {"from_dtensor", "to_dtensor"}
FAULTS = ("shape", "dtype", "layout", "counts", "argument", "function")
OWN_COMPARISON = {f"minisplit.{name}" for name in ("datasets", "load", "load_checkpoint", "open", "replicate")}
NAMESPACES = (ms, ms.linalg, ms.fft, ms.nn.utils, ms.random)


# The folder for files of the last run.
FOLDER: list[str] = []


def save_files() -> None:
    """Save what is loaded, in a folder that is there until the process ends."""
    comm = ms.get_comm()
    path = tempfile.mkdtemp() if comm.rank == 0 else ""
    if path:
        atexit.register(shutil.rmtree, path, ignore_errors=True)
    FOLDER[:] = [comm.broadcast_bytes(path.encode()).decode()]
    for name in ("float", "shape", "dtype"):
        x = make_arrays()[name]
        ms.save(x, stored(x, "npy"))
        ms.save_checkpoint({"x": x}, stored(x, "safetensors"))
    ms.save(x, f"{FOLDER[0]}/names.h5", "x")


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public functions and methods that the ranks call together, by name."""
    left_out = NOT_COMPARED | LOCAL | OF_TORCH
    for module in NAMESPACES:
        for name in module.__all__:
            function = getattr(module, name)
            if isinstance(function, types.FunctionType) and name not in left_out:
                yield f"{module.__name__}.{name}", function
    for name in dir(ms.DNDarray):
        method = getattr(ms.DNDarray, name)
        is_public = not name.startswith("_") or name.startswith("__")
        if isinstance(method, types.FunctionType) and name not in left_out and is_public:
            yield f"DNDarray.{name}", method
    yield "vmap", mapped


def mapped(*arrays: ms.DNDarray) -> tuple[ms.DNDarray, ...]:
    return ms.vmap(lambda *rows: sum(row.sum() for row in rows))(*arrays)


def valid_call(title: str, function: Callable[..., Any], arrays: Arrays) -> tuple[str, Arguments] | None:
    """The name of an array of which a call of the function succeeds, and its arguments; None if there is none."""
    special = SPECIAL.get(title.rpartition(".")[2])
    for name, arguments in itertools.product(
        ("float", "vector", "int", "bool"), [special] if special else ARGUMENTS
    ):
        try:
            args, kwargs = arguments(arrays[name])
            function(*args, **kwargs)
        except Exception:
            continue
        return name, arguments
    return None


def faulty(
    fault: str, name: str, arguments: Arguments, function: Callable[..., Any], arrays: Arrays
) -> tuple[Callable[..., Any], Given] | None:
    """The function that is called with a fault, and its arguments; None if these are no others than without."""
    args, kwargs = arguments(arrays[name])
    if fault == "argument":
        return function, given(*args, 77, 77, **kwargs)
    if fault == "function":
        return (ms.max if function is not ms.max else ms.min), given(arrays[name])
    try:
        bad = arguments(arrays[fault])
    except Exception:  # no argument can be made of this array
        return None
    return None if repr(bad) == repr((args, kwargs)) else (function, bad)


def outcome(call: Callable[[], Any]) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def gathered(text: str, comm: ms.Communication) -> list[str]:
    """The texts of all ranks. One that was alone with its error learns here that the others waited for it."""
    for _ in range(2):
        with suppress(ms.CollectiveError):
            return comm.allgather_object(text)
    raise AssertionError(f"the ranks are apart after {text}")


def run(chosen: int | None = None, seed: int = 0) -> tuple[int, list[str], list[str]]:
    """Inject faults into all functions, or some chosen ones.

    Return how many, what did not come out alike, and the functions of which no valid call was found.
    """
    comm, number, wrong, untried = ms.get_comm(), 0, [], []
    titles = list(functions())
    if chosen is not None:
        titles = titles[seed % len(titles) :: max(1, len(titles) // chosen)]
    with ms.debug(False):
        save_files()
        calls = [(title, function, valid_call(title, function, make_arrays())) for title, function in titles]
    for title, function, valid in calls:
        if valid is None:
            untried.append(title)
            continue
        name, arguments = valid
        for fault in FAULTS:
            bad = comm.rank == number % comm.size
            with ms.debug(False):  # all ranks make all arguments, and anew, since some functions change them
                right = function, arguments(make_arrays()[name])
                wrong_call = faulty(fault, name, arguments, function, make_arrays())
            if wrong_call is None:
                continue
            called, (args, kwargs) = wrong_call if bad else right
            with ms.debug():
                got = outcome(functools.partial(called, *args, **kwargs))
            texts = gathered(got, comm)
            number += 1
            # These compare what files and modules hold, and say more of it.
            expected = "" if title in OWN_COMPARISON else "CollectiveError"
            if len(set(texts)) > 1 or texts[0] == "no error" or expected not in texts[0]:
                wrong.append(f"{title} with another {fault}: {texts}")
    return number, wrong, untried


# Without debug mode


def inject_alone(title: str, fault: str, bad_rank: int) -> None:
    """Make one call with a fault on one rank, and an allreduce, on each rank of this job; tell what came of it."""
    comm = ms.MPI_WORLD
    function = dict(functions())[title]
    save_files()
    found = valid_call(title, function, make_arrays())
    assert found, f"no valid call of {title} on {comm.size} ranks"
    name, arguments = found
    args, kwargs = arguments(make_arrays()[name])
    expected = values(function(*args, **kwargs))
    called, (args, kwargs) = function, arguments(make_arrays()[name])
    wrong_call = faulty(fault, name, arguments, function, make_arrays())
    assert wrong_call, f"{title} has no fault of {fault}"
    if comm.rank == bad_rank:
        called, (args, kwargs) = wrong_call
    comm.allreduce(torch.ones(1))
    tell(began=time.time())
    try:
        got = values(called(*args, **kwargs))
        error = ""
    except Exception as failure:
        got, error = "", f"{type(failure).__name__}: {failure}"
    sums = comm.allreduce(torch.full((3,), 10.0**comm.rank)).tolist()
    tell(rank=comm.rank, error=error, right=got == expected, total=sums)


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
    save_files()
    possible = []
    for title, function in functions():
        found = valid_call(title, function, make_arrays())
        possible += [
            (title, fault)
            for fault in FAULTS
            # On one rank, where no layout has other counts.
            if found and (fault == "counts" or faulty(fault, *found, function, make_arrays()))
        ]
    faults = choices.sample(possible, number)
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
