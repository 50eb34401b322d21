"""`dev.py bench`: measure minisplit beside its peers on each number of ranks; results go to benchmarks/out.

    .venv/bin/python benchmarks/run.py [-n RANKS] [PART OF A ROW'S NAME ...]

MINISPLIT_MPIEXEC and MPI4PY_LIBMPI choose the MPI, as for `python -m minisplit run`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
OUT = FOLDER / "out"
# Outside of the environment's own packages: what each peer needs that is not there without it.
PACKAGES = Path(sys.prefix) / "peers"
PEERS = {"Heat": ("heat==1.8.0",), "JAX": ("jax==0.10.2", "jaxlib==0.10.2", "ml_dtypes", "opt_einsum")}


def install_peers() -> None:
    """Install each peer once; without a peer, its columns are dashes."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    for name, packages in PEERS.items():
        stamp = PACKAGES / f"{name}-stamp"
        if stamp.exists():
            continue
        print(f"Installing {name} for comparison, once ...", flush=True)
        constraints = FOLDER.parent / "constraints.txt"
        command = [*pip, "-c", str(constraints), "--target", str(PACKAGES), *packages]
        if subprocess.run(command, check=False).returncode:
            print(f"Without {name}, then: its columns will be dashes.", flush=True)
        PACKAGES.mkdir(exist_ok=True)
        stamp.touch()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, metavar="RANKS", help="only on this many ranks")
    parser.add_argument("rows", nargs="*", help="only rows whose names have all of these parts")
    chosen = parser.parse_args()
    install_peers()
    OUT.mkdir(exist_ok=True)
    for old in OUT.glob("ranks-*.json"):
        old.unlink()
    # One thread for each rank, so that none has more cores than another.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    environment |= {"PYTHONPATH": str(PACKAGES), "PYTHONWARNINGS": "ignore"}
    steps = [["imports.py", str(OUT / "imports.json")]]
    for ranks in [chosen.n] if chosen.n else [1, 2, 3, 4]:
        # On 3 ranks only what is to show how times grow.
        rows = chosen.rows or ["scaling"] * (ranks == 3)
        steps.append(["compare.py", str(OUT / f"ranks-{ranks}.json"), *rows])
    steps.append(["report.py", str(OUT)])
    for script, *arguments in steps:
        command = [sys.executable]
        if script == "compare.py":
            ranks = Path(arguments[0]).stem.removeprefix("ranks-")
            print(f"On {ranks} ranks ...", flush=True)
            command += ["-m", "minisplit", "run", "-n", ranks]
        done = subprocess.run([*command, str(FOLDER / script), *arguments], env=environment, check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
