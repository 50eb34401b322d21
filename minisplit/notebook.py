"""Ranks in a notebook: `%load_ext minisplit.notebook`, then cells that begin with `%%ranks 4`.

Needs the packages of `pip install "minisplit[notebook]"`.
"""

from __future__ import annotations

import ast
from typing import Any

from minisplit.launch import jobs
from minisplit.testing import run

USAGE = "%%ranks takes the number of ranks, and nothing else: %%ranks 4"


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext` calls: defines the magic `%%ranks`."""

    def ranks(line: str, cell: str) -> None:
        """Run the cell once per rank: `%%ranks 4`. The ranks are threads of the kernel.

        Each rank has the notebook's names, and keeps to itself what the cell assigns: nothing outlasts the cell.
        Shows, for each rank, the value of the last line.
        """
        if not line.strip().isdecimal():
            raise ValueError(f"{USAGE}, got {line!r}")
        for rank, value in enumerate(run_cell(shell, cell, int(line))):
            if value is not None:
                print(f"rank {rank}: {value}")

    shell.register_magic_function(ranks, "cell", "ranks")


def run_cell(shell: Any, cell: str, ranks: int) -> list[str | None]:
    """How each rank writes the value of the cell's last line; None where that has none."""
    source = shell.transform_cell(cell)
    file = shell.compile.cache(source, raw_code=cell)  # for the lines in tracebacks
    tree = ast.parse(source, file)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    body = compile(tree, file, "exec", dont_inherit=True)  # the `from __future__` of this file
    value = None if last is None else compile(ast.Expression(last.value), file, "eval", dont_inherit=True)

    def live() -> str | None:
        names = dict(shell.user_ns)
        exec(body, names)
        result = None if value is None else eval(value, names)
        return None if result is None else repr(result)

    return run(live, ranks=ranks)


def cluster(ranks: int = 4) -> Any:
    """Start MPI ranks as engines of ipyparallel, for cells that begin with `%%px`, and return its client.

    Takes the launcher that `python -m minisplit run` takes. `client.shutdown(hub=True)` ends the ranks; so does
    the end of the kernel. ImportError without ipyparallel; RuntimeError where there is no launcher; TimeoutError
    where the ranks do not come up within a minute.
    """
    try:
        import ipyparallel  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise ImportError('cluster() needs ipyparallel: pip install "minisplit[notebook]"') from None

    launcher = jobs.find(ranks=ranks)
    engines = ipyparallel.Cluster(n=ranks, engines="mpi", log_level=30, engine_timeout=60)
    engines.config.MPILauncher.mpi_cmd = launcher.command(ranks)[:-3]  # without "-n", the number and Python
    engines.config.EngineLauncher.environment = launcher.environment(ranks)
    return engines.start_and_connect_sync(activate=True)
