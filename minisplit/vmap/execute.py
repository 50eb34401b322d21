"""Running a mapped function on one rank's samples, whole or in chunks written into place."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch

from minisplit.core.communication.debug import checksum
from minisplit.vmap.autotune import Tuner
from minisplit.vmap.batch import sample_shape
from minisplit.vmap.functorch import Mapped, Task, Tensors

# An int, None for all samples at once, or what measures.
ChunkSize = int | Tuner | None
# What is told how many samples have been mapped, since the last time.
Advance = Callable[[int], object]
NO_BAR: AbstractContextManager[Advance] = nullcontext(lambda _: None)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rank's run gave: its outputs, or the error and the local samples it was mapping.

    `in_func`: whether the error came while the function ran, rather than from what it did or returned.
    """

    mapped: Mapped | None
    error: BaseException | None = None
    start: int = 0
    stop: int = 0
    in_func: bool = False


def run(
    task: Task,
    shards: Tensors,
    samples: int,
    chunk_size: ChunkSize = None,
    watched: Tensors = (),
    bar: AbstractContextManager[Advance] | None = None,
) -> Outcome:
    """Run `task` on `samples` samples, at least one, `chunk_size` at a time.

    With more than one chunk the outputs are allocated once, after the first, and each chunk is written into
    its place: the peak is the output and one chunk, where concatenating chunks needs twice the output. What
    the function raises is returned, not raised; so is that it has changed an input, or one of the `watched`
    tensors, in place.
    """
    whole: Mapped | None = None
    versions = _versions(shards), _versions(watched)
    start, stop, in_func = 0, samples, False
    try:
        with bar or NO_BAR as advance:
            while start < samples:
                stop = start + _next_size(chunk_size, samples, samples - start)
                in_func = True
                part = _run_chunk(task, shards, start, stop, samples, chunk_size)
                in_func = False
                _check_versions(versions, shards, watched)
                if start == 0:
                    _check_device(part, shards[0].device)
                if stop - start == samples:
                    whole = _own_memory(part, shards, samples)
                else:
                    whole = whole or _allocate(part, samples)
                    _write(part, whole, start, stop)
                del part  # before the next one is made
                advance(stop - start)
                start = stop
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() on one rank would leave the others waiting
        return Outcome(None, error, start, stop, in_func)
    return Outcome(whole, stop=samples)


def run_part(task: Task, shards: Tensors, start: int, stop: int) -> Mapped:
    """Run `task` on the samples from `start` to `stop` alone."""
    parts = [
        x if dim is None else x.narrow(dim, start, stop - start)
        for x, dim in zip(shards, task.in_dims, strict=True)
    ]
    return task.run(parts, stop - start, start)


def _next_size(chunk_size: ChunkSize, samples: int, left: int) -> int:
    if isinstance(chunk_size, Tuner):
        return chunk_size.size(samples, left)
    return left if chunk_size is None else min(chunk_size, left)


def _run_chunk(task: Task, shards: Tensors, start: int, stop: int, samples: int, chunk_size: ChunkSize) -> Mapped:
    if isinstance(chunk_size, Tuner):
        return chunk_size.run(stop - start, partial(run_part, task, shards, start, stop), shards[0].device)
    if stop - start == samples:
        return task.run(shards, samples)
    return run_part(task, shards, start, stop)


def _allocate(part: Mapped, samples: int) -> Mapped:
    """Room for the outputs of all samples, given those of some. An output without an axis is there already."""
    wholes = []
    for out, dim in zip(part.outputs, part.dims, strict=True):
        if dim is None:
            wholes.append(out.clone(memory_format=torch.contiguous_format))
        else:
            shape = list(out.shape)
            shape[dim] = samples
            wholes.append(torch.empty(shape, dtype=out.dtype, device=out.device))
    return part._replace(outputs=wholes)


def _write(part: Mapped, whole: Mapped, start: int, stop: int) -> None:
    """Put a chunk's outputs in their place; ValueError where they differ in kind from the first chunk's."""
    first, this = _kinds(whole), _kinds(part)
    if first != this or part.structure != whole.structure:
        raise ValueError(f"func must return the same for every chunk, but gave {first} first and then {this}")
    for i, (out, room, dim) in enumerate(zip(part.outputs, whole.outputs, whole.dims, strict=True)):
        if dim is not None:
            room.narrow(dim, start, stop - start).copy_(out)
        elif start and checksum(out) != checksum(room):
            raise ValueError(f"out_dims is None for output {i}, but it is not the same for every chunk of samples")


def _kinds(mapped: Mapped) -> list[tuple[torch.dtype, tuple[int, ...]]]:
    """Dtype and shape per sample of each output."""
    return [(x.dtype, sample_shape(x.shape, dim)) for x, dim in zip(mapped.outputs, mapped.dims, strict=True)]


def _versions(tensors: Tensors) -> list[int]:
    """How often each tensor has been written to; those of inference mode do not count."""
    return [-1 if x.is_inference() else x._version for x in tensors]


def _check_versions(before: tuple[list[int], list[int]], shards: Tensors, watched: Tensors) -> None:
    if _versions(shards) != before[0]:
        changed = next(i for i, x in enumerate(shards) if not x.is_inference() and x._version != before[0][i])
        raise RuntimeError(
            f"func changed input {changed} in place, which changes the caller's array on some ranks; "
            "use an operation that returns a new tensor, or clone() the argument first"
        )
    if watched and _versions(watched) != before[1]:
        raise RuntimeError(
            "func changed in place a tensor that it captured or got by keyword, which each rank and each chunk "
            "would do for itself; return what is to be kept instead"
        )


def _check_device(part: Mapped, device: torch.device) -> None:
    for out in part.outputs:
        if out.device.type != device.type:
            raise TypeError(f"func must return tensors on its inputs' device, {device}, not {out.device}")


def _own_memory(part: Mapped, shards: Tensors, samples: int) -> Mapped:
    """The outputs, copied where one is a part of something larger, repeats values, or shares memory.

    So no output keeps more memory alive than its own, nor changes when another tensor is written to. A captured
    tensor that `func` returns is repeated for every sample, which shows in its strides, but not for one sample.
    """
    taken = {x.untyped_storage().data_ptr() for x in shards}
    own = []
    for out, dim in zip(part.outputs, part.dims, strict=True):
        storage = out.untyped_storage()
        address = storage.data_ptr()
        its_own = (
            dim is not None
            and samples > 1
            and address not in taken
            and storage.nbytes() == out.numel() * out.element_size()
            and 0 not in out.stride()
        )
        if not its_own:
            out = out.clone(memory_format=torch.contiguous_format)  # noqa: PLW2901
            address = out.untyped_storage().data_ptr()
        taken.add(address)
        own.append(out)
    return part._replace(outputs=own)
