"""Running a mapped function on one rank's samples, whole or in chunks written into place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rank's run gave: its outputs, or the error and the local samples it was mapping."""

    outputs: Tensors | None
    error: Exception | None = None
    start: int = 0
    stop: int = 0


def run(
    mapped: Callable[..., Tensors],
    shards: Sequence[torch.Tensor],
    in_dims: Sequence[int | None],
    out_dims: Callable[[Tensors], Sequence[int]],
    samples: int,
    chunk_size: int | None,
) -> Outcome:
    """Run `mapped`, a `torch.vmap`ped function, on `samples` samples, at most `chunk_size` at a time.

    With more than one chunk the outputs are allocated once, after the first, and each chunk is written into its
    place: the peak is the output and one chunk, where concatenating chunks needs twice the output.
    `out_dims` gives the mapped axis of each output. What `mapped` raises is returned, not raised.
    """
    outputs: Tensors = ()
    start = stop = 0
    try:
        for start, stop in _chunks(samples, chunk_size):
            parts = [_narrow(x, dim, start, stop) for x, dim in zip(shards, in_dims, strict=True)]
            chunk = mapped(*parts)
            if stop - start == samples:
                return Outcome(tuple(_own_memory(out, shards) for out in chunk))
            dims = out_dims(chunk)
            if not outputs:
                outputs = tuple(_allocate(out, dim, samples) for out, dim in zip(chunk, dims, strict=True))
            for whole, out, dim in zip(outputs, chunk, dims, strict=True):
                whole.narrow(dim, start, stop - start).copy_(out)
    except Exception as error:
        return Outcome(None, error, start, stop)
    return Outcome(outputs)


def _chunks(samples: int, chunk_size: int | None) -> Iterator[tuple[int, int]]:
    step = samples if chunk_size is None else chunk_size
    for start in range(0, samples, step):
        yield start, min(start + step, samples)


def _narrow(x: torch.Tensor, dim: int | None, start: int, stop: int) -> torch.Tensor:
    return x if dim is None or stop - start == x.shape[dim] else x.narrow(dim, start, stop - start)


def _allocate(chunk: torch.Tensor, dim: int, samples: int) -> torch.Tensor:
    shape = (*chunk.shape[:dim], samples, *chunk.shape[dim + 1 :])
    return torch.empty(shape, dtype=chunk.dtype, device=chunk.device)


def _own_memory(out: torch.Tensor, shards: Sequence[torch.Tensor]) -> torch.Tensor:
    """A copy where `out` is a view of an input or repeats one value, so that no two arrays share memory."""
    storage = out.untyped_storage().data_ptr()
    repeats = any(step == 0 and n > 1 for step, n in zip(out.stride(), out.shape, strict=True))
    if repeats or (storage and any(storage == x.untyped_storage().data_ptr() for x in shards)):
        return out.clone(memory_format=torch.contiguous_format)
    return out
