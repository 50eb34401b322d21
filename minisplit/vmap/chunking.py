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
    error: BaseException | None = None
    start: int = 0
    stop: int = 0


def run(
    mapped: Callable[..., Any],
    shards: Sequence[torch.Tensor],
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
    wholes: Tensors = ()
    start, stop = 0, samples
    versions = _versions(shards)
    try:
        if chunk_size is None or chunk_size >= samples:
            wholes = _own_memory(as_tuple(mapped(*shards)), shards, samples)
            _check_versions(versions, shards)
            return Outcome(wholes)
        for start in range(0, samples, chunk_size):
            stop = min(start + chunk_size, samples)
            parts = [_narrow(x, dim, start, stop) for x, dim in zip(shards, in_dims, strict=True)]
            chunk = as_tuple(mapped(*parts))
            _check_versions(versions, shards)
            dims = axes_of(out_dims, len(chunk))
            wholes = wholes or tuple(map(_allocate, chunk, dims, (samples,) * len(chunk)))
            _check_like_the_first(chunk, wholes, dims)
            for whole, out, dim in zip(wholes, chunk, dims, strict=True):
                whole.narrow(dim, start, stop - start).copy_(out)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() on one rank would leave the others waiting
        return Outcome(None, error, start, stop)
    return Outcome(wholes)


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


def _check_like_the_first(chunk: Tensors, wholes: Tensors, dims: Sequence[int]) -> None:
    """ValueError where a chunk's outputs differ from the first chunk's in number, dtype or shape."""
    kinds = [[(x.dtype, x.select(d, 0).shape) for x, d in zip(xs, dims, strict=False)] for xs in (wholes, chunk)]
    if len(chunk) != len(wholes) or kinds[0] != kinds[1]:
        first, this = ([(dtype, tuple(shape)) for dtype, shape in kind] for kind in kinds)
        raise ValueError(f"func must return the same for every chunk, but gave {first} first and then {this}")


def _versions(shards: Sequence[torch.Tensor]) -> list[int]:
    """How often each input has been written to; tensors of inference mode do not count."""
    return [-1 if x.is_inference() else x._version for x in shards]


def _check_versions(before: list[int], shards: Sequence[torch.Tensor]) -> None:
    after = _versions(shards)
    if after != before:
        changed = next(i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new)
        raise RuntimeError(
            f"func changed input {changed} in place, which changes the caller's array on some ranks; "
            "use an operation that returns a new tensor, or clone() the argument first"
        )


def _own_memory(outputs: Tensors, shards: Sequence[torch.Tensor], samples: int) -> Tensors:
    """The outputs, copied where one is a part of something larger, repeats values, or shares memory.

    So no output keeps more memory alive than its own, nor changes when another tensor is written to. A captured
    tensor that `func` returns is repeated for every sample, which shows in its strides, but not for one sample.
    """
    taken = {x.untyped_storage().data_ptr() for x in shards}
    own = []
    for out in outputs:
        if out.device.type != shards[0].device.type:
            raise TypeError(
                f"func must return tensors on its inputs' device, {shards[0].device}, not {out.device}"
            )
        storage = out.untyped_storage()
        whole = storage.nbytes() == out.numel() * out.element_size() and samples > 1 and 0 not in out.stride()
        kept = (
            out if whole and storage.data_ptr() not in taken else out.clone(memory_format=torch.contiguous_format)
        )
        taken.add(kept.untyped_storage().data_ptr())
        own.append(kept)
    return tuple(own)
