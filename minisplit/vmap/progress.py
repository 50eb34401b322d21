"""A bar for long runs in chunks, where somebody can see it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from minisplit.core.devices import rank_environment

_LAUNCHERS = {"mpiexec", "mpiexec.hydra", "mpirun", "orterun", "prterun", "prte", "srun"}


def check_installed() -> None:
    """ImportError, which says what to install, where there is no tqdm."""
    try:
        import tqdm  # noqa: F401, PLC0415 - an optional dependency
    except ImportError:
        raise ImportError('progress=True draws its bar with tqdm: pip install "minisplit[progress]"') from None


@contextmanager
def bar(samples: int, name: str) -> Iterator[Callable[[int], object]]:
    """A bar on standard error, and what tells it how many samples more have been mapped."""
    from tqdm import tqdm  # noqa: PLC0415 - an optional dependency

    with tqdm(total=samples, desc=f"vmap {name}, rank 0", unit=" samples", file=sys.stderr, ncols=80) as drawn:
        yield drawn.update


def on_a_terminal() -> bool:
    """Whether standard error ends on a terminal, also by way of a launcher, to which it is a pipe. Local."""
    if sys.stderr is None or sys.stderr.closed:
        return False
    if sys.stderr.isatty():
        return True
    return rank_environment() is not None and _launcher_on_a_terminal()


def _launcher_on_a_terminal() -> bool:
    """Whether the launcher that started this process, on this machine, writes its errors to a terminal. Linux."""
    process = os.getppid()
    try:
        while process > 1:
            name, _, rest = Path(f"/proc/{process}/stat").read_text().partition("(")[2].rpartition(")")
            if name in _LAUNCHERS:
                return os.readlink(f"/proc/{process}/fd/2").startswith(("/dev/pts/", "/dev/tty"))
            process = int(rest.split()[1])
    except (OSError, ValueError):  # other systems, other users' processes
        pass
    return False
