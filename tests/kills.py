"""Kills jobs while they save, and looks what is there then: the old or the new, and nothing that stays for ever.

    python tests/kills.py [--kills 100] [--seed 0] [--jobs 0] [WORD ...]

For each way of saving, or those with a WORD in their names, so many forked processes save, with their ranks as
threads, and are killed: half of them at a random moment, half of them before a random call that concerns files.
With `--jobs`, so many jobs of MPI are killed as well, one rank of each. Then another process reads, saves in the
same way once more, reads again, and lists the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

# What forked processes need, so that not each imports it.
import h5py  # noqa: F401
import pyarrow.csv
import pyarrow.parquet  # noqa: F401
import torch
import zarr  # noqa: F401

import minisplit as ms
from minisplit.io import atomic

# What each of these does to files is audited by Python. A killed process stops before one of them.
AUDITED = ("open", "os.", "fcntl.", "shutil.", "ctypes.dlsym")
# What a kill may leave; nothing only where a system cannot replace a folder in one step, and some only where there
# are several files, of which each is old or new.
GOOD = ("old", "new", "nothing", "some")
# Seconds after which a process that reads or saves hangs.
LIMIT = 60


class Way(NamedTuple):
    """A way of saving: what there is before, and the save, into a folder.

    `gap` if nothing may be between, `several` if there are several files, which are replaced one after the other.
    """

    prepare: Callable[[Path], None]
    save: Callable[[Path], None]
    gap: bool = False
    several: bool = False


def ones(value: float, *shape: int) -> ms.DNDarray:
    return ms.full(shape or (40, 3), value, dtype=torch.float64, split=0)


def nothing(folder: Path) -> None:
    """There is nothing before."""


def saving(name: str, value: float, dataset: str | None = None, **options: Any) -> Callable[[Path], None]:
    """Return a save of an array of one value."""
    return lambda folder: ms.save(ones(value), folder / name, dataset, **options)


def checkpoint(value: float) -> Callable[[Path], None]:
    state = {"step": value, "weights": torch.full((5,), value)}
    return lambda folder: ms.save_checkpoint({"x": ones(value), **state}, folder / "c.safetensors")


def mapping(value: float, *names: str) -> Callable[[Path], None]:
    """Return a mapped call whose outputs go to files, and which goes on with one that was interrupted."""

    def save(folder: Path) -> None:
        out = tuple(folder / name for name in names)
        ms.vmap(lambda v: tuple(v * value for _ in out), chunk_size=3, out=out, resume=True)(ones(1.0))

    return save


def without_exchange(save: Callable[[Path], None]) -> Callable[[Path], None]:
    """Return a save on a system that cannot exchange the names of two folders."""

    def save_there(folder: Path) -> None:
        atomic._exchange_names = lambda *_: False  # type: ignore[assignment] # in a process of its own
        save(folder)

    return save_there


def ways() -> dict[str, Way]:
    """Return all ways of saving, by their names."""
    found = {}
    for suffix in ("npy", "h5", "zarr", "safetensors", "csv", "parquet"):
        name = f"x.{suffix}"
        found[f"{suffix}, new"] = Way(nothing, saving(name, 1))
        found[f"{suffix}, over"] = Way(saving(name, 0), saving(name, 1))
        found[f"{suffix}, extend new"] = Way(nothing, saving(name, 1, mode="extend"))
        found[f"{suffix}, extend"] = Way(saving(name, 0, mode="extend"), saving(name, 1, mode="extend"))
    for suffix in ("h5", "zarr", "safetensors"):
        name = f"x.{suffix}"
        found[f"{suffix}, add"] = Way(saving(name, 0, "a"), saving(name, 1, "b", mode="a"))
        found[f"{suffix}, add over"] = Way(saving(name, 0, "a"), saving(name, 1, "a", mode="a"))
        found[f"{suffix}, extend one of two"] = Way(
            lambda folder, name=name: [
                ms.save(ones(0), folder / name, key, mode="extend") for key in ("a", "g/b")
            ],
            saving(name, 1, "g/b", mode="extend"),
        )
    found["zarr, add below groups"] = Way(saving("x.zarr", 0, "a"), saving("x.zarr", 1, "g/h/b", mode="a"))
    options = {"compression": "gzip", "chunks": (7, 3)}
    found["h5, compressed"] = Way(saving("x.h5", 0, **options), saving("x.h5", 1, **options))
    found["checkpoint, new"] = Way(nothing, checkpoint(1.0))
    found["checkpoint, over"] = Way(checkpoint(0.0), checkpoint(1.0))
    for suffix in ("npy", "h5", "zarr", "safetensors"):
        found[f"{suffix}, map"] = Way(nothing, mapping(2.0, f"x.{suffix}"))
        found[f"{suffix}, map over"] = Way(saving(f"x.{suffix}", 0), mapping(2.0, f"x.{suffix}"))
    for name in ("zarr, over", "zarr, extend", "zarr, map over", "zarr, extend one of two", "parquet, over"):
        way = found[name]
        found[f"{name}, in two steps"] = Way(way.prepare, without_exchange(way.save), gap=True)
    found["two maps"] = Way(nothing, mapping(2.0, "x.npy", "y.zarr"), several=True)
    return found


def contents(folder: Path) -> dict[str, Any]:
    """Return all that the files of a folder hold that have a name of their own, and not one of a save."""
    found: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("c."):
            state = ms.load_checkpoint(path)
            found[path.name] = [state["step"], state["x"].tolist(), state["weights"].tolist()]
        elif not path.name.startswith("."):
            names = ms.datasets(path) if path.suffix in {".h5", ".zarr", ".safetensors"} else [None]
            found[path.name] = {str(name): ms.load(path, name or None).tolist() for name in names}
    return found


def forked(body: Callable[..., Any], begun: Callable[[int], None] | None = None) -> Any:
    """Return what `body` returns in a process of its own, or the text of what it raises; None if it was killed.

    With `begun`, which is called with the number of the process, `body` is given a function that it calls when it
    begins.
    """
    read, write = os.pipe()
    process = os.fork()
    if not process:
        os.close(read)
        try:
            signal.alarm(LIMIT)
            text = json.dumps(body(lambda: os.write(write, b"!")) if begun else body())
        except BaseException as error:
            text = json.dumps(f"{type(error).__name__}: {error}")
        with os.fdopen(write, "w") as pipe:
            pipe.write(text)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        if begun and pipe.read(1) == b"!":
            begun(process)
        text = pipe.read().decode()
    os.waitpid(process, 0)
    return json.loads(text) if text else None


def save_in_steps(
    way: Way, folder: Path, ranks: int, last: int = 0, begin: Callable[[], Any] = int
) -> list[float]:
    """Save, and return how many calls that concern files that took, and how many seconds.

    Before the call with the number `last` the process is killed. `begin` is called before the first.
    """
    calls = 0

    def count(event: str, _: Any) -> None:
        nonlocal calls
        if event.startswith(AUDITED):
            calls += 1
            if calls == last:
                os.kill(os.getpid(), signal.SIGKILL)

    def body() -> float:
        ms.get_comm().allgather_object(0)
        if ms.get_comm().rank == 0:
            sys.addaudithook(count)
            begin()
        started = time.perf_counter()
        way.save(folder)
        return time.perf_counter() - started

    seconds = ms.testing.run(body, ranks=ranks)[0]
    return [calls, seconds]


class Case:
    """A way of saving, with what is there before and after one save, and after two; all in `folder`."""

    def __init__(self, name: str, way: Way, folder: Path, ranks: int, rng: random.Random) -> None:
        self.way, self.ranks, self.rng = way, ranks, rng
        self.work, self.before = folder / "work", folder / "before"
        self.before.mkdir()
        forked(lambda: way.prepare(self.before))
        self.states, self.lists = [], []
        shutil.copytree(self.before, self.work)
        for step in range(3):
            self.states.append(forked(lambda: contents(self.work)))
            self.lists.append(sorted(os.listdir(self.work)))
            if step < 2:
                took = forked(lambda: save_in_steps(way, self.work, ranks))
                # The first save has more to import.
                self.calls, self.seconds = took if isinstance(took, list) else (0, 0)
        if self.states[0] == self.states[1] or not all(isinstance(state, dict) for state in self.states):
            raise RuntimeError(f"{name}: {took}, {self.states}")

    def kill(self, at_call: bool) -> str:
        """Kill one process that saves, and return what is there then: "old" or "new", or what is wrong."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.before, self.work)
        last = self.rng.randrange(1, self.calls + 1) if at_call else 0
        delay = 0 if at_call else self.rng.uniform(0, self.seconds)

        def kill(process: int) -> None:
            if not at_call:
                time.sleep(delay)
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

        forked(lambda begin: save_in_steps(self.way, self.work, self.ranks, last, begin), kill)
        where = f"call {last}" if at_call else f"{delay * 1e3:.1f} ms"
        return self.look(where)

    def look(self, where: str) -> str:
        """Read what a killed save has left, save again, and read once more."""
        left = sorted(os.listdir(self.work))

        def read_and_save() -> list[dict[str, Any]]:
            there = contents(self.work)
            save_in_steps(self.way, self.work, 1 + self.ranks % 2)
            return [there, contents(self.work)]

        found = forked(read_and_save)
        if not isinstance(found, list):
            return f"killed at {where}: {found}, was {left}"
        there, again = found
        names = sorted(os.listdir(self.work))
        gap = self.way.gap and there != self.states[1] and any(name.endswith(".partial.old") for name in left)
        some = self.way.several and there not in self.states[:2]
        if some:
            some = all(value in [state.get(name) for state in self.states[:2]] for name, value in there.items())
        if there not in self.states[:2] and not gap and not some:
            return f"killed at {where}: there is {short(there)} in {left}"
        step = 0 if gap or some else self.states.index(there)
        if again != self.states[step + 1]:
            return f"killed at {where}: after the next save there is {short(again)}, was {left}"
        if names != self.lists[step + 1]:
            return f"killed at {where}: the next save leaves {names}"
        # What grows in place must not have more behind its end.
        sizes = [(self.work / name).stat().st_size for name in names if name.endswith(".npy")]
        expected = [128 + 24 * len(again[name]["None"]) for name in names if name.endswith(".npy")]
        outcome = "nothing" if gap else "some" if some else ("old", "new")[step]
        return outcome if sizes == expected else f"killed at {where}: it has {sizes} bytes, {left}"

    def kill_job(self, name: str) -> str:
        """Kill one rank of a job of two, while that saves."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.before, self.work)
        command = [sys.executable, "-m", "minisplit", "run", "-n", "2", __file__, "--save", name, str(self.work)]
        pipe = subprocess.PIPE
        job = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        assert job.stdout is not None
        assert job.stdin is not None
        processes = list(map(int, job.stdout.readline().split()))
        job.stdin.write("begin\n")
        job.stdin.flush()
        delay = self.rng.uniform(0, 2 * self.seconds)
        time.sleep(delay)
        with suppress(ProcessLookupError):
            os.kill(self.rng.choice(processes), signal.SIGKILL)
        job.communicate()
        return self.look(f"{delay * 1e3:.1f} ms of a job")


def short(value: object) -> str:
    text = str(value)
    return text if len(text) < 400 else f"{text[:200]} ... {text[-200:]}"


def run(kills: int, words: list[str], seed: int = 0, jobs: int = 0) -> tuple[Counter[str], list[str]]:
    """Kill so many processes for each way; return how many left the old and the new, and all that is wrong."""
    total: Counter[str] = Counter()
    wrong = []
    for name, way in ways().items():
        if words and not any(word in name for word in words):
            continue
        # By its name, so that a way is killed at the same moments, whichever others are.
        rng = random.Random(f"{seed} {name}")
        with tempfile.TemporaryDirectory() as folder:
            started, found = time.perf_counter(), Counter[str]()
            case = Case(name, way, Path(folder), 2, rng)
            outcomes = [case.kill(at_call=bool(i % 2)) for i in range(kills)]
            outcomes += [case.kill_job(name) for _ in range(jobs)]
            bad = [f"{name}: {outcome}" for outcome in outcomes if outcome not in GOOD]
            found.update(outcome if outcome in GOOD else "wrong" for outcome in outcomes)
        print(f"{name:28} {dict(found)} {time.perf_counter() - started:.0f} s", *bad[:3], sep="\n    ", flush=True)
        total += found
        wrong += bad
    return total, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("words", nargs="*")
    chosen = parser.parse_args()
    if chosen.save:
        name, folder = chosen.save
        ms.print0(*ms.MPI_WORLD.allgather_object(os.getpid()), flush=True)
        ms.MPI_WORLD.allgather_object(ms.MPI_WORLD.rank == 0 and sys.stdin.readline())
        ways()[name].save(Path(folder))
        return
    total, wrong = run(chosen.kills, chosen.words, chosen.seed, chosen.jobs)
    print(f"{sum(total.values())} kills: {dict(total)}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
