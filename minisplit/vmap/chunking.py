"""Running a mapped function on one rank's samples, whole or in chunks written into place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Tensors = tuple[torch.Tensor, ...]
OutDims = int | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rank's run gave: its outputs, or the error and the local samples it was mapping."""

    outputs: Tensors | None
    error: Exception | None = None
    start: int = 0
    stop: int = 0


def run(
    mapped: Callable[..., Any],
    shards: Sequence[torch.Tensor],
    kwargs: dict[str, Any],
    in_dims: Sequence[int | None],
    out_dims: OutDims,
    samples: int,
    chunk_size: int | None,
) -> Outcome:
    """Run `mapped`, a `torch.vmap`ped function, on `samples` samples, at most `chunk_size` at a time.

    With more than one chunk the outputs are allocated once, after the first, and each chunk is written into
    its place: the peak is the output and one chunk, where concatenating chunks needs twice the output. What
    `mapped` raises is returned, not raised.
    """
    wholes: list[torch.Tensor] = []
    start, stop = 0, samples
    try:
        if chunk_size is None or chunk_size >= samples:
            outputs = as_tuple(mapped(*shards, **kwargs))
            return Outcome(tuple([_own_memory(out, shards) for out in outputs]))
        for start in range(0, samples, chunk_size):
            stop = min(start + chunk_size, samples)
            parts = [_narrow(x, dim, start, stop) for x, dim in zip(shards, in_dims, strict=True)]
            chunk = as_tuple(mapped(*parts, **kwargs))
            dims = axes_of(out_dims, len(chunk))
            wholes = wholes or [_allocate(out, dim, samples) for out, dim in zip(chunk, dims, strict=True)]
            for whole, out, dim in zip(wholes, chunk, dims, strict=True):
                whole.narrow(dim, start, stop - start).copy_(out)
    except Exception as error:
        return Outcome(None, error, start, stop)
    return Outcome(tuple(wholes))


def as_tuple(returned: torch.Tensor | Tensors) -> Tensors:
    """The outputs of a mapped function, also of one that returns a bare tensor."""
    return (returned,) if isinstance(returned, torch.Tensor) else returned


def axes_of(out_dims: OutDims, outputs: int) -> tuple[int, ...]:
    """The mapped axis of each of so many outputs."""
    return out_dims if isinstance(out_dims, tuple) else (out_dims,) * outputs


def _narrow(x: torch.Tensor, dim: int | None, start: int, stop: int) -> torch.Tensor:
    return x if dim is None else x.narrow(dim, start, stop - start)


def _allocate(chunk: torch.Tensor, dim: int, samples: int) -> torch.Tensor:
    shape = list(chunk.shape)
    shape[dim] = samples
    return torch.empty(shape, dtype=chunk.dtype, device=chunk.device)


def _own_memory(out: torch.Tensor, shards: Sequence[torch.Tensor]) -> torch.Tensor:
    """A copy where `out` is a view of an input or repeats one value, so that no two arrays share memory."""
    storage = out.untyped_storage().data_ptr()
    repeats = any(step == 0 and n > 1 for step, n in zip(out.stride(), out.shape, strict=True))
    if repeats or (storage and any(storage == x.untyped_storage().data_ptr() for x in shards)):
        return out.clone(memory_format=torch.contiguous_format)
    return out
