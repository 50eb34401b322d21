"""The options of `vmap`, validated, and the bar that `progress=True` draws."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict, get_args

from minisplit.core.error_text import short_repr
from minisplit.core.layout import as_index
from minisplit.core.pytorch.devices import rank_environment
from minisplit.core.pytorch.pytree import pytree
from minisplit.vmap.inputs.batch import MAX_IMBALANCE, REDUCTIONS
from minisplit.vmap.pytree import validate_dims

Randomness = Literal["error", "same", "different"]
_RANDOMNESS: tuple[Randomness, ...] = get_args(Randomness)
# in_dims: the mapped axes are the split axes.
SPLIT = "split"
# The options of torch.compile that a mapped function may have.
COMPILE_OPTIONS = ("backend", "mode", "options")
# Programs that start ranks, and pass on what these write to standard error.
_LAUNCHERS = {"mpiexec", "mpiexec.hydra", "mpirun", "orterun", "prterun", "prte", "srun"}


class InMemory(TypedDict, total=False):
    """The keyword arguments of `vmap` for outputs that stay in memory, as type checkers see them."""

    in_dims: Any
    chunk_size: int | Literal["auto"] | None
    memory_budget: int | None
    max_imbalance: float
    progress: bool
    loop: bool
    compile: bool | dict[str, Any]
    checkpoint: bool


class InFiles(InMemory, total=False):
    """Those for outputs that may go to files."""

    out: Any
    resume: bool


class Options(NamedTuple):
    """All arguments of `vmap` but the function."""

    # The defaults are those of `vmap`, for the text that leaves them out.

    out_dims: Any = 0
    randomness: Randomness = "error"
    in_dims: Any = SPLIT
    chunk_size: int | Literal["auto"] | None = None
    memory_budget: int | None = None
    max_imbalance: float = MAX_IMBALANCE
    progress: bool = False
    out: Any = None
    resume: bool = False
    loop: bool = False
    compile: bool | dict[str, Any] = False
    checkpoint: bool = False

    def validate(self) -> Options:
        """Return the options in the types they are to have.

        TypeError or ValueError for what is none of their values, ImportError for a bar without tqdm.
        """
        by_split = isinstance(self.in_dims, str) and self.in_dims == SPLIT
        if self.randomness not in _RANDOMNESS:
            raise ValueError(
                f"randomness must be one of {', '.join(map(repr, _RANDOMNESS))}, got {short_repr(self.randomness)}"
            )
        for name, flag in (
            ("progress", self.progress),
            ("resume", self.resume),
            ("loop", self.loop),
            ("checkpoint", self.checkpoint),
        ):
            if not isinstance(flag, bool):
                raise TypeError(f"{name} must be True or False, got {short_repr(flag)}")
        if self.progress and find_spec("tqdm") is None:
            raise ImportError('progress=True draws its bar with tqdm: pip install "minisplit[progress]"')
        _validate_compile(self.compile)
        if self.compile is not False and self.loop:
            raise ValueError(
                "compile= compiles what is mapped, and loop=True maps nothing: give one of them, or compile the "
                "function of one sample yourself: vmap(torch.compile(f), loop=True)"
            )
        # A structure of paths, which is compared with the outputs' once they are known.
        for path in pytree.tree_leaves(self.out):
            if path is not None and not isinstance(path, str | Path):
                raise TypeError(f"out must be a path, or one for each output, got {short_repr(path)}")
        if self.resume and self.out is None:
            raise ValueError("resume=True continues a call with the same out=, which is not given")
        return self._replace(
            out_dims=validate_dims(self.out_dims, "out_dims", REDUCTIONS),
            in_dims=self.in_dims if by_split else validate_dims(self.in_dims, "in_dims"),
            chunk_size=_validate_chunk_size(self.chunk_size),
            memory_budget=_validate_budget(self.memory_budget, self.chunk_size),
            max_imbalance=_validate_imbalance(self.max_imbalance),
        )

    def __str__(self) -> str:
        """`out_dims`, and every other option that is not as by default."""
        items = self._asdict()
        if isinstance(self.compile, dict):  # by name, since addresses differ between ranks
            items["compile"] = {
                name: getattr(x, "__name__", type(x).__name__) if callable(x) else x
                for name, x in self.compile.items()
            }
        return ", ".join(
            f"{name}={x!r}" for name, x in items.items() if name == "out_dims" or x != self._field_defaults[name]
        )


def _validate_compile(compile_: Any) -> None:
    if isinstance(compile_, bool):
        return
    if not isinstance(compile_, dict):
        raise TypeError(
            f"compile must be True, False or a dict of torch.compile's options, got {short_repr(compile_)}"
        )
    others = [name for name in compile_ if name not in COMPILE_OPTIONS]
    if others:
        raise ValueError(
            f"compile takes torch.compile's options {', '.join(COMPILE_OPTIONS)}, got {short_repr(others[0])}: "
            "what is mapped is always one graph, for any number of samples"
        )


def _validate_chunk_size(chunk_size: Any) -> int | Literal["auto"] | None:
    if chunk_size is None:
        return None
    if isinstance(chunk_size, str) and chunk_size == "auto":
        return "auto"
    if isinstance(chunk_size, bool) or not hasattr(chunk_size, "__index__"):
        raise TypeError(f"chunk_size must be an int, None or 'auto', got {short_repr(chunk_size)}")
    size = as_index(chunk_size, "chunk_size")
    if size < 1:
        raise ValueError(f"chunk_size must be at least 1 (or None for one chunk), got {size}")
    return size


def _validate_budget(budget: Any, chunk_size: Any) -> int | None:
    if budget is None:
        return None
    size = as_index(budget, "memory_budget")
    if size < 1:
        raise ValueError(f"memory_budget must be a number of bytes, at least 1, got {size}")
    if chunk_size != "auto":
        raise ValueError(f"memory_budget goes with chunk_size='auto', got {short_repr(chunk_size)}")
    return size


def _validate_imbalance(max_imbalance: Any) -> float:
    # True is an int for Python, and would pass as 1.
    if isinstance(max_imbalance, bool) or not isinstance(max_imbalance, (int, float)):
        raise TypeError(f"max_imbalance must be a number, got {short_repr(max_imbalance)}")
    if not max_imbalance >= 1:  # NaN is refused as well
        raise ValueError(f"max_imbalance must be at least 1, which means balanced, got {max_imbalance}")
    return float(max_imbalance)


@contextmanager
def draw_bar(samples: int, name: str) -> Iterator[Callable[[int], object]]:
    """Draw a bar on standard error; yields what is called with the number of samples that were mapped since."""
    from tqdm import tqdm  # noqa: PLC0415 - an optional dependency

    with tqdm(total=samples, desc=f"vmap {name}, rank 0", unit=" samples", file=sys.stderr, ncols=80) as bar:
        yield bar.update


def is_on_terminal() -> bool:
    """Whether standard error ends on a terminal, also by way of a launcher, to which it is a pipe. Local."""
    if sys.stderr is None or sys.stderr.closed:
        return False
    if sys.stderr.isatty():
        return True
    # Under a launcher standard error is a pipe, but the launcher may write what comes through it to a terminal.
    return rank_environment() is not None and _is_launcher_on_terminal()


def _is_launcher_on_terminal() -> bool:
    """Whether the launcher that started this process, on this machine, writes its errors to a terminal. Linux."""
    process = os.getppid()
    try:
        while process > 1:
            # "pid (name) state parent ...", where the name may have blanks and parentheses in it.
            name, _, rest = Path(f"/proc/{process}/stat").read_text().partition("(")[2].rpartition(")")
            if name in _LAUNCHERS:
                return os.readlink(f"/proc/{process}/fd/2").startswith(("/dev/pts/", "/dev/tty"))
            process = int(rest.split()[1])
    except (OSError, ValueError):  # other systems, other users' processes
        pass
    return False
