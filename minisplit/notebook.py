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
    """Define the magic `%%ranks`: what `%load_ext minisplit.notebook` calls.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
        The shell of the notebook.
    """

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
    """Run a cell on ranks that are threads.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
        The shell of the notebook.
    cell : str
        The source of the cell.
    ranks : int
        How many ranks run it.

    Returns
    -------
    list of (str or None)
        The repr of the value of the last line on each rank; None where that is None or not an expression.
    """
    source = shell.transform_cell(cell)
    file = shell.compile.cache(source, raw_code=cell)  # so that tracebacks can show the lines
    tree = ast.parse(source, file)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    # dont_inherit: else the cell would get the `from __future__ import annotations` of this file.
    body = compile(tree, file, "exec", dont_inherit=True)
    value = None if last is None else compile(ast.Expression(last.value), file, "eval", dont_inherit=True)

    def run_on_rank() -> str | None:
        names = dict(shell.user_ns)
        exec(body, names)
        result = None if value is None else eval(value, names)
        return None if result is None else repr(result)

    return run(run_on_rank, ranks=ranks)


def cluster(ranks: int = 4) -> Any:
    """Start MPI ranks as engines of ipyparallel, for cells that begin with `%%px`.

    Takes the launcher that `python -m minisplit run` takes.

    Parameters
    ----------
    ranks : int, default 4
        How many ranks to start.

    Returns
    -------
    ipyparallel.Client
        The client of the engines. `client.shutdown(hub=True)` ends them; so does the end of the kernel.

    Raises
    ------
    ImportError
        If ipyparallel is missing.
    RuntimeError
        If no launcher is found.
    TimeoutError
        If the ranks do not start within a minute.
    """
    try:
        import ipyparallel  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise ImportError('cluster() needs ipyparallel: pip install "minisplit[notebook]"') from None

    launcher = jobs.find_launcher(ranks=ranks)
    engines = ipyparallel.Cluster(n=ranks, engines="mpi", log_level=30, engine_timeout=60)
    engines.config.MPILauncher.mpi_cmd = launcher.command(ranks)[:-3]  # without "-n", the number and Python
    engines.config.EngineLauncher.environment = launcher.environment(ranks)
    return engines.start_and_connect_sync(activate=True)
