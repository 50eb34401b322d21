"""Break modules at random places, and show what no test notices: `dev.py mutate core/transfer io/chunks`.

The mutations are Cosmic Ray's, made in a copy of the checkout. Each is tested on threads, by the tests of its
module: tests/core/test_transfer.py for core/transfer, or all of tests/core where there is no such file.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cosmic_ray.work_item import MutationSpec

ROOT = Path(__file__).resolve().parent.parent
# What nearly always leaves the meaning as it is: `int | None` in an annotation. Decorators are left out as well:
# most are caches.
HARMLESS = "core/ReplaceBinaryOperator_BitOr_"
PYTEST = "-m pytest -x -q -p no:cacheprovider --on-threads 3 -m"


def files_of(module: str) -> list[Path]:
    """The files that `core/transfer` or a package means."""
    path = ROOT / "minisplit" / module
    if path.is_dir():
        return sorted(file for file in path.rglob("*.py") if file.name != "__init__.py")
    if not path.with_suffix(".py").exists():
        sys.exit(f"there is no module {path}.py")
    return [path.with_suffix(".py")]


def tests_of(file: Path) -> Path:
    """The tests of a module, or else those of its package, relative to the root."""
    folder = Path("tests") / file.relative_to(ROOT / "minisplit").parent
    tests = folder / f"test_{file.stem}.py"
    return tests if (ROOT / tests).exists() else folder


def choose(file: Path, number: int, seed: int, folder: Path) -> list[MutationSpec]:
    """Choose mutations of a file: places in it first, all with the same probability, then one mutation of each."""
    from cosmic_ray.commands.init import init
    from cosmic_ray.work_db import use_db

    lines = file.read_text().splitlines()
    by_place: dict[tuple[int, int], list[MutationSpec]] = defaultdict(list)
    with use_db(folder / "session.sqlite") as session:
        init([file], session, {})
        for item in session.work_items:
            for mutation in item.mutations:
                decorator = lines[mutation.start_pos[0] - 1].startswith("@")
                if not decorator and not mutation.operator_name.startswith(HARMLESS):
                    by_place[mutation.start_pos].append(mutation)
    rng = random.Random(f"{seed} {file.relative_to(folder)}")
    places = rng.sample(sorted(by_place), min(number, len(by_place)))
    return [rng.choice(sorted(by_place[place], key=lambda m: (m.operator_name, m.occurrence))) for place in places]


def main() -> int:
    """Mutate the modules that are named on the command line; return 1 where a mutation survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="+", help="such as core/transfer; a package is all its modules")
    parser.add_argument("--number", type=int, default=20, help="of mutations in each module; default: 20")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--marks", default="not jobs", help="which tests run; default: all that start no jobs")
    chosen = parser.parse_args()
    survived = 0
    with tempfile.TemporaryDirectory(prefix="minisplit-mutate-") as temporary:
        folder = Path(temporary)
        for name in ("minisplit", "tests", "docs"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("_build"))
        for name in ("pyproject.toml", "README.md", "dev.py"):
            shutil.copy(ROOT / name, folder)
        os.chdir(folder)
        os.environ.update(PYTHONPATH=temporary, OMP_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="")
        for original in [file for module in chosen.modules for file in files_of(module)]:
            survived += test_mutations(original, folder, chosen)
    return min(survived, 1)


def test_mutations(original: Path, folder: Path, chosen: argparse.Namespace) -> int:
    """Test mutations of one module, show those that survive, and return how many did."""
    from cosmic_ray.mutating import mutate_and_test

    file, tests = folder / original.relative_to(ROOT), tests_of(original)
    command = [sys.executable, *shlex.split(PYTEST), chosen.marks, str(tests)]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{tests} must pass before anything is broken:\n{done.stdout}{done.stderr}")
    limit = 30 + 3 * (time.monotonic() - started)
    mutations = choose(file, chosen.number, chosen.seed, folder)
    print(f"{original.relative_to(ROOT)}: {len(mutations)} mutations, tested by {tests}", flush=True)
    survived = 0
    for mutation in mutations:
        result = mutate_and_test([mutation], shlex.join(command), limit)
        if not result.is_killed:
            survived += 1
            print(f"\nSURVIVED {mutation.operator_name} in line {mutation.start_pos[0]}", flush=True)
            print(result.diff.replace(str(folder), ""), flush=True)
    print(f"{len(mutations) - survived} of {len(mutations)} were noticed\n", flush=True)
    return survived


if __name__ == "__main__":
    sys.exit(main())
