"""Running a mapped function on the samples of one rank, in chunks that are written into place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any, NamedTuple, NoReturn

import torch

from minisplit.core.array import DNDarray
from minisplit.core.collectives import Tensors
from minisplit.core.communication import inside_vmap
from minisplit.core.communication.agreement import Failure
from minisplit.core.communication.debug import debugging
from minisplit.core.storage import StoredArray
from minisplit.vmap import functorch
from minisplit.vmap.autograd import Entry, check_gradients
from minisplit.vmap.autotune import Tuner
from minisplit.vmap.batch import Batch, Dims, sample_shape
from minisplit.vmap.outcome import Outcome, Outputs, describe, explain, hint_for
from minisplit.vmap.pytree import OutDims, Structure, flatten_outputs
from minisplit.vmap.random import RandomSource

# Samples per `torch.vmap`: an int, None for all at once, or a tuner, which finds the fastest number.
ChunkSize = int | Tuner | None
# Some of a rank's samples, from one local number to another, and the inputs of these samples alone.
Piece = tuple[int, int, Tensors]
# Called with the number of samples that were mapped since the last time.
Advance = Callable[[int], object]


class Mapped(NamedTuple):
    """The outputs of a mapped function, and how they lie in what it returned.

    `dims` has the mapped axis of each, None for one that is the same for every sample.
    """

    outputs: list[torch.Tensor]
    dims: Dims
    structure: Structure


@dataclass(frozen=True, slots=True)
class VmapTask:
    """A function of tensors, the mapped axis of each tensor, and where the outputs are to have theirs.

    Random functions take their numbers from `random`; without it they raise.
    """

    func: Callable[..., Any]
    in_dims: Dims
    out_dims: OutDims
    random: RandomSource | None = None
    # To what gradients flow back, "" for none.
    gradients: str = ""

    def run(self, tensors: Tensors, samples: int, start: int = 0) -> Mapped:
        """Map over all of that many samples, at least one, of which the first is local number `start`.

        Raises what the function raises, and TypeError or ValueError where what it returns is not made of tensors,
        or does not fit `out_dims`.
        """
        # From functorch's parts rather than by torch.vmap: of the 39 us that torch.vmap takes for (x * y).sum() of
        # two arrays, 30 are its own handling of arguments (benchmarks/vmap_overhead.py), which is done once per
        # kind of call here.
        in_func = inside_vmap.begin()
        # "error" in any case: torch's own random functions would draw the same numbers on every rank.
        level = functorch.begin_vmap_level(samples, "error")
        try:
            batched = [
                x if dim is None else functorch.add_batch_dim(x, dim, level)
                for x, dim in zip(tensors, self.in_dims, strict=True)
            ]
            if self.random is None:
                returned = self.func(*batched)
            else:
                with self.random.replace_random_functions(start, samples, level):
                    returned = self.func(*batched)
            leaves: Tensors
            # Most functions return a bare tensor, which takes no walk through a tree.
            if isinstance(returned, torch.Tensor):
                leaves, structure = (returned,), None
            else:
                leaves, structure = flatten_outputs(returned)
            dims = self.out_dims.known.get((structure, *[x.ndim for x in leaves]))
            if dims is None:
                dims = self.out_dims.flatten(structure, leaves)
            outputs = [
                functorch.remove_batch_dim(x, level, samples, dim)
                if dim is not None and functorch.is_batchedtensor(x)
                else _same_for_all(i, x, dim, samples, level)
                for i, (x, dim) in enumerate(zip(leaves, dims, strict=True))
            ]
        finally:
            # Also after an error: on a level that is left open, everything that follows would be mapped.
            functorch.end_vmap_level()
            inside_vmap.end(in_func)
        return Mapped(outputs, dims, structure)

    def check_first(self, tensors: Tensors, part: Mapped, start: int) -> None:
        """Map the first sample of a chunk once more, alone: RuntimeError if the chunk gave it other outputs.

        That finds state which cannot be followed, as a counter of Python, and rules of torch that mix samples.
        """
        if self.random is None:
            singles = [
                x if dim is None else x.select(dim, 0).clone()
                for x, dim in zip(tensors, self.in_dims, strict=True)
            ]
            in_func = inside_vmap.begin()
            try:
                alone, _ = flatten_outputs(self.func(*singles))
            finally:
                inside_vmap.end(in_func)
        else:  # the random functions' numbers are those of a batch
            mapped = self.run([x.clone() for x in _narrow(tensors, self.in_dims, 0, 1)], 1, start)
            alone = _first_of_each(mapped)
        for i, (single, first) in enumerate(zip_longest(alone, _first_of_each(part))):
            if single is None or first is None or not _is_close(single, first):
                raise RuntimeError(
                    f"func gives output {i} of a sample another value or shape alone than among the samples of "
                    "its chunk, so that results would depend on ranks and chunks: it keeps state, draws by other "
                    "random functions than torch's, or uses a function of torch that mixes samples"
                )


def run(
    task: VmapTask,
    pieces: Iterable[Piece],
    count: int,
    batch: Batch,
    rank: int,
    chunk_size: ChunkSize = None,
    captured: Tensors = (),
    entry: Entry | None = None,
    advance: Advance | None = None,
) -> Outcome:
    """Map the consecutive samples of some pieces, `count` in all and at least one, `chunk_size` at a time.

    Where there is more than one chunk the outputs are allocated once, after the first, and each chunk is written
    into its place: the peak is the outputs and one chunk, where concatenating chunks needs twice the outputs.

    Nothing is raised but KeyboardInterrupt: what the function raises is in the outcome, since all ranks must hear
    of it. It is also a failure to change an input, or one of the tensors `captured`, in place.
    """
    doing, whole = "reading", None
    first = start = stop = begin = 0
    tensors: Tensors = ()
    try:
        for first, last, tensors in pieces:
            # Tensors of inference mode do not count how often they were written to.
            watched = [x for x in (*tensors, *captured) if not x.is_inference()]
            versions = [x._version for x in watched]
            start = first
            while start < last:
                stop = _end_of_chunk(chunk_size, first, last, start)
                doing = "mapping"
                if (start, stop) == (first, last):
                    chunk = tensors
                else:
                    chunk = _narrow(tensors, task.in_dims, start - first, stop - first)
                if isinstance(chunk_size, Tuner):
                    call = partial(task.run, chunk, stop - start, start)
                    part = chunk_size.run(stop - start, call, chunk[0].device)
                else:
                    part = task.run(chunk, stop - start, start)
                doing = "checking"
                if [x._version for x in watched] != versions:
                    _raise_changed(watched, versions, tensors)
                if whole is None:
                    begin = start
                    if debugging():
                        task.check_first(chunk, part, start)
                    _check_device(part, tensors[0].device)
                    whole = (_own_memory if stop - start == count else _allocate)(part, tensors, count)
                if stop - start < count:
                    _write(part, whole, start - begin, stop - begin)
                del part, chunk  # before the next ones are made
                if advance is not None:
                    advance(stop - start)
                start = stop
            doing, tensors, watched = "reading", (), []  # noqa: PLW2901 - before the next piece is waited for
        start, doing = begin, "checking"
        assert whole is not None, "there is at least one sample"
        check_gradients(whole.outputs, entry)
        outputs = _describe(whole, batch, task.gradients)
        message = outputs.pickled() if rank == batch.root else b""
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() on one rank would leave the others waiting
        if doing == "reading":
            return Outcome(failure=Failure(error, "reading the inputs", hint_for(error)))
        again = partial(_run_again, task, tensors, first) if doing == "mapping" else None
        return Outcome(failure=explain(error, start, stop, again, batch.samples, rank))
    return Outcome(whole.outputs, outputs, message=message)


def _end_of_chunk(chunk_size: ChunkSize, first: int, last: int, start: int) -> int:
    """Where the chunk ends that begins at sample `start` of the samples from `first` to `last`."""
    if chunk_size is None:
        return last
    if isinstance(chunk_size, int):
        return min(start + chunk_size, last)
    return start + chunk_size.size(last - first, last - start)


def infer(task: VmapTask, arrays: Sequence[DNDarray | StoredArray], batch: Batch) -> Outcome:
    """Find out what the outputs are from a run on one sample without data: for a plan, or for no samples at all.

    The outcome has their description, but no tensors. Local.
    """
    # One sample: torch.vmap maps no batch of zero.
    shapes = [
        target.shape if dim is None else (*target.shape[:dim], 1, *target.shape[dim + 1 :])
        for target, dim in zip(batch.targets, batch.in_dims, strict=True)
    ]
    traced = [isinstance(x, DNDarray) and x.larray.requires_grad and torch.is_grad_enabled() for x in arrays]
    try:
        with functorch.tensors_without_data():
            tensors = [
                torch.empty(shape, dtype=x.dtype, device=x.device, requires_grad=requires_grad)
                for shape, x, requires_grad in zip(shapes, arrays, traced, strict=True)
            ]
            mapped = task.run(tensors, 1)
        if batch.size == 0 and None in mapped.dims:
            raise ValueError(
                f"out_dims is None for output {mapped.dims.index(None)}, but there is no sample to compute it with"
            )
        kinds = [
            (x.dtype, x.shape, dim, x.requires_grad, 0) for x, dim in zip(mapped.outputs, mapped.dims, strict=True)
        ]
        return Outcome(outputs=describe(tuple(kinds), mapped.structure, batch.samples))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        doing = "inferring the outputs of a batch without samples"
        return Outcome(failure=Failure(error, doing, hint_for(error), {"samples": range(0)}))


def _describe(whole: Mapped, batch: Batch, gradients: str) -> Outputs:
    # Of an output that is the same for every sample the values, too, must be the same on all ranks.
    kinds = tuple(
        [
            (x.dtype, x.shape, dim, x.requires_grad, functorch.checksum(x) if dim is None else 0)
            for x, dim in zip(whole.outputs, whole.dims, strict=True)
        ]
    )
    return describe(kinds, whole.structure, batch.samples, gradients)


def _first_of_each(part: Mapped) -> list[torch.Tensor]:
    """The outputs of the first sample."""
    return [x if dim is None else x.select(dim, 0) for x, dim in zip(part.outputs, part.dims, strict=True)]


def _is_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are the same up to what another order of summation makes of them."""
    one, other = (functorch.unwrap(x).detach() for x in (one, other))
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    if not (one.is_floating_point() or one.is_complex()):
        return torch.equal(one, other)
    if one.itemsize < 4:
        one, other = one.float(), other.float()
    tolerance = 100 * torch.finfo(other.dtype).eps ** 0.5
    finite = other.abs().nan_to_num(0, 0)
    scale = float(finite.max()) if finite.numel() else 0.0
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


def _same_for_all(index: int, x: torch.Tensor, dim: int | None, samples: int, level: int) -> torch.Tensor:
    """Repeat along `dim` an output that is the same for every sample; ValueError if it is not, for None."""
    if dim is not None:  # torch.vmap repeats along the first axis, whatever out_dims says
        return x.unsqueeze(dim).expand(*x.shape[:dim], samples, *x.shape[dim:])
    if functorch.maybe_get_level(x) == level:  # not that of a torch.vmap around the call
        raise ValueError(
            f"out_dims is None for output {index}, so it must be the same for every sample, but it was computed "
            "from mapped inputs; give it an axis in out_dims"
        )
    return x


def _narrow(tensors: Tensors, dims: Dims, start: int, stop: int) -> Tensors:
    """The samples from `start` to `stop` of those in `tensors`."""
    return [x if dim is None else x.narrow(dim, start, stop - start) for x, dim in zip(tensors, dims, strict=True)]


def _run_again(task: VmapTask, tensors: Tensors, first: int, start: int, stop: int) -> Mapped:
    """Run some samples of a piece, which begins at local number `first`, once more."""
    return task.run(_narrow(tensors, task.in_dims, start - first, stop - first), stop - start, start)


def _raise_changed(watched: Tensors, versions: Sequence[int], tensors: Tensors) -> NoReturn:
    """RuntimeError that names the first of the watched tensors whose version is another one now."""
    changed = next(x for x, before in zip(watched, versions, strict=True) if x._version != before)
    for i, x in enumerate(tensors):
        if x is changed:
            raise RuntimeError(
                f"func changed input {i} in place, which changes the caller's array on some ranks; "
                "use an operation that returns a new tensor, or clone() the argument first"
            )
    raise RuntimeError(
        "func changed in place a tensor that it captured or got by keyword, which each rank and each chunk "
        "would do for itself; return what is to be kept instead"
    )


def _check_device(part: Mapped, device: torch.device) -> None:
    for out in part.outputs:
        if out.device.type != device.type:
            raise TypeError(f"func must return tensors on its inputs' device, {device}, not {out.device}")


def _allocate(part: Mapped, tensors: Tensors, samples: int) -> Mapped:
    """Room for the outputs of all samples, given those of some. An output without an axis is there already."""
    wholes = []
    for out, dim in zip(part.outputs, part.dims, strict=True):
        if dim is None:
            # clone: the output may be a captured tensor, which must not change with the output.
            wholes.append(out.clone(memory_format=torch.contiguous_format))
        else:
            shape = list(out.shape)
            shape[dim] = samples
            wholes.append(out.new_empty(shape))
    return part._replace(outputs=wholes)


def _write(part: Mapped, whole: Mapped, start: int, stop: int) -> None:
    """Write a chunk's outputs into their place; ValueError where they differ in kind from the first chunk's."""
    before, now = _kinds(whole), _kinds(part)
    if before != now or part.structure != whole.structure:
        raise ValueError(f"func must return the same for every chunk, but gave {before} first and then {now}")
    for i, (out, room, dim) in enumerate(zip(part.outputs, whole.outputs, whole.dims, strict=True)):
        if dim is not None:
            room.narrow(dim, start, stop - start).copy_(out)
        # By bytes, as NaN is not equal to itself.
        elif start and functorch.checksum(out) != functorch.checksum(room):
            raise ValueError(f"out_dims is None for output {i}, but it is not the same for every chunk of samples")


def _kinds(mapped: Mapped) -> list[tuple[torch.dtype, tuple[int, ...]]]:
    """Dtype and shape per sample of each output."""
    return [(x.dtype, sample_shape(x.shape, dim)) for x, dim in zip(mapped.outputs, mapped.dims, strict=True)]


def _own_memory(part: Mapped, tensors: Tensors, samples: int) -> Mapped:
    """The outputs, copied where one is a part of something larger, repeats values, or shares memory.

    So no output keeps more memory alive than its own, nor changes when another tensor is written to. A captured
    tensor that `func` returns is repeated for every sample, which shows in its strides, but not for one sample.
    """
    taken = {functorch.unwrap(x).untyped_storage().data_ptr() for x in tensors}
    for i, (out, dim) in enumerate(zip(part.outputs, part.dims, strict=True)):
        storage = functorch.unwrap(out).untyped_storage()
        address = storage.data_ptr()
        if (
            dim is None
            or samples == 1
            or address in taken
            or storage.nbytes() != out.numel() * out.element_size()
            or 0 in out.stride()
        ):
            part.outputs[i] = out.clone(memory_format=torch.contiguous_format)
            address = functorch.unwrap(part.outputs[i]).untyped_storage().data_ptr()
        taken.add(address)
    return part
