"""What `vmap` is told beside the function, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch.utils import _pytree as pytree

from minisplit.core.error_text import short_repr
from minisplit.core.layout import as_index
from minisplit.vmap import progress
from minisplit.vmap.batch import MAX_IMBALANCE
from minisplit.vmap.pytree import checked_dims

_RANDOMNESS = ("error", "same", "different")
# in_dims: the mapped axes are the split axes.
SPLIT = "split"


class Options(NamedTuple):
    """What `vmap` was told beside the function, checked."""

    out_dims: Any = 0
    randomness: str = "error"
    in_dims: Any = SPLIT
    chunk_size: int | Literal["auto"] | None = None
    memory_budget: int | None = None
    max_imbalance: float = MAX_IMBALANCE
    progress: bool = False
    out: Any = None
    resume: bool = False

    @staticmethod
    def checked(**given: Any) -> Options:
        """The options; TypeError or ValueError for what is none of their values, ImportError without tqdm."""
        in_dims, chunk_size = given["in_dims"], given["chunk_size"]
        return Options(
            checked_dims(given["out_dims"], "out_dims"),
            _checked_randomness(given["randomness"]),
            in_dims if isinstance(in_dims, str) and in_dims == SPLIT else checked_dims(in_dims, "in_dims"),
            _checked_chunk_size(chunk_size),
            _checked_budget(given["memory_budget"], chunk_size),
            _checked_imbalance(given["max_imbalance"]),
            _checked_progress(given["progress"]),
            _checked_out(given["out"]),
            _checked_resume(given["resume"], given["out"]),
        )

    def told(self) -> str:
        """`out_dims` and what else is not as by default, for a text."""
        named = self._asdict().items()
        told = [f"{name}={x!r}" for name, x in named if name == "out_dims" or x != self._field_defaults[name]]
        return ", ".join(told)


def _checked_randomness(randomness: Any) -> str:
    if randomness not in _RANDOMNESS:
        raise ValueError(
            f"randomness must be one of {', '.join(map(repr, _RANDOMNESS))}, got {short_repr(randomness)}"
        )
    return str(randomness)


def _checked_chunk_size(chunk_size: Any) -> int | Literal["auto"] | None:
    if chunk_size is None:
        return None
    if isinstance(chunk_size, str) and chunk_size == "auto":
        return "auto"
    if isinstance(chunk_size, bool) or not hasattr(chunk_size, "__index__"):
        raise TypeError(f"chunk_size must be an int, None or 'auto', got {short_repr(chunk_size)}")
    checked = as_index(chunk_size, "chunk_size")
    if checked < 1:
        raise ValueError(f"chunk_size must be at least 1 (or None for one chunk), got {checked}")
    return checked


def _checked_budget(budget: Any, chunk_size: Any) -> int | None:
    if budget is None:
        return None
    checked = as_index(budget, "memory_budget")
    if checked < 1:
        raise ValueError(f"memory_budget must be a number of bytes, at least 1, got {checked}")
    if chunk_size != "auto":
        raise ValueError(f"memory_budget goes with chunk_size='auto', got {short_repr(chunk_size)}")
    return checked


def _checked_imbalance(max_imbalance: Any) -> float:
    if isinstance(max_imbalance, bool) or not isinstance(max_imbalance, (int, float)):
        raise TypeError(f"max_imbalance must be a number, got {short_repr(max_imbalance)}")
    if not max_imbalance >= 1:
        raise ValueError(f"max_imbalance must be at least 1, which means balanced, got {max_imbalance}")
    return float(max_imbalance)


def _checked_progress(is_shown: Any) -> bool:
    if not isinstance(is_shown, bool):
        raise TypeError(f"progress must be True or False, got {short_repr(is_shown)}")
    if is_shown:
        progress.check_installed()
    return is_shown


def _checked_out(out: Any) -> Any:
    """Paths, in a structure that is compared with the outputs' once they are known."""
    for path in [] if out is None else pytree.tree_leaves(out):
        if path is not None and not isinstance(path, str | Path):
            raise TypeError(f"out must be a path, or one for each output, got {short_repr(path)}")
    return out


def _checked_resume(resume: Any, out: Any) -> bool:
    if not isinstance(resume, bool):
        raise TypeError(f"resume must be True or False, got {short_repr(resume)}")
    if resume and out is None:
        raise ValueError("resume=True goes on with what a call has written to out=, which is not given")
    return resume
