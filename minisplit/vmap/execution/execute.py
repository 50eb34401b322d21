"""Running a mapped function on the samples of one rank, in chunks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NoReturn

import torch
from torch.utils.checkpoint import checkpoint

from minisplit.core.array import DNDarray
from minisplit.core.collectives import Tensors
from minisplit.core.communication import inside_vmap
from minisplit.core.communication.agreement import Failure
from minisplit.core.communication.debug import debugging
from minisplit.core.storage import StoredArray
from minisplit.vmap.autograd import Entry, check_gradients
from minisplit.vmap.execution.autotune import Tuner
from minisplit.vmap.execution.collect import Collected, Kinds, Mapped, own_memory
from minisplit.vmap.functorch import internals
from minisplit.vmap.functorch.random import RandomSource
from minisplit.vmap.inputs.batch import Batch, Dims, sample_axis
from minisplit.vmap.outcome import Outcome, Outputs, describe, explain, hint_for
from minisplit.vmap.pytree import OutDims, flatten_outputs
from minisplit.vmap.reduction import reduce_chunk, result_dtype

# Samples per `torch.vmap`: an int, None for all at once, or a tuner, which finds the fastest number.
ChunkSize = int | Tuner | None
# Some of a rank's samples, from one local number to another, and the inputs of these samples alone.
Piece = tuple[int, int, Tensors]
# Called with the number of samples that were mapped since the last time.
Advance = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class VmapTask:
    """A function of tensors, the mapped axis of each tensor, and where the outputs are to have theirs.

    Random functions take their numbers from `random`; without it they raise.
    """

    # What the samples that the function gets at a time are called, and whether what it does may depend on their
    # values: then an output may depend on a tensor for some samples only (see `agree_on_gradients`).
    part: ClassVar[str] = "chunk"
    by_value: ClassVar[bool] = False

    func: Callable[..., Any]
    in_dims: Dims
    out_dims: OutDims
    random: RandomSource | None = None
    # To what gradients flow back, "" for none.
    gradients: str = ""
    # Whether a chunk is computed again in the backward pass, rather than that its intermediate results are kept.
    checkpoint: bool = False
    # Of the function, which must be the same on all ranks.
    name: str = ""

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
        level = internals.begin_vmap_level(samples, "error")
        try:
            batched = [
                x if dim is None else internals.add_batch_dim(x, dim, level)
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
                internals.remove_batch_dim(x, level, samples, 0 if isinstance(dim, str) else dim)
                if dim is not None and internals.is_batchedtensor(x)
                else _same_for_all(i, x, sample_axis(dim), samples, level)
                for i, (x, dim) in enumerate(zip(leaves, dims, strict=True))
            ]
        finally:
            # Also after an error: on a level that is left open, everything that follows would be mapped.
            internals.end_vmap_level()
            inside_vmap.end(in_func)
        return Mapped(outputs, dims, structure)

    def without_data(self) -> VmapTask:
        """What to run on tensors without data."""
        return self

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
        for i, (single, first) in enumerate(itertools.zip_longest(alone, _first_of_each(part))):
            if single is None or first is None or not _is_close(single, first):
                raise RuntimeError(
                    f"func gives another value or shape for output {i} if it gets a sample alone than if it gets "
                    "the whole chunk, so results would depend on ranks and chunks: func keeps state, draws by "
                    "random functions that are not torch's, or uses a function of torch that mixes samples"
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

    Where there is more than one chunk, and no gradient is to flow back, the outputs are allocated once, after the
    first, and each chunk is written into its place: the peak is the outputs and one chunk, where concatenating
    chunks needs twice the outputs. Of outputs that are reduced over the samples there is one chunk.

    Nothing is raised but KeyboardInterrupt: what the function raises is in the outcome, since all ranks must hear
    of it. It is also a failure to change an input, or one of the tensors `captured`, in place.
    """
    doing, whole = "reading", None
    collected: Collected | None = None
    first = start = stop = begin = 0
    tensors: Tensors = ()
    try:
        for first, last, tensors in pieces:
            # Tensors of inference mode do not count how often they were written to.
            watched = [x for x in (*tensors, *captured) if not x.is_inference()]
            versions = [x._version for x in watched]
            start = first
            chunks: Iterable[tuple[int, Tensors]] = ((last, tensors),)
            if isinstance(chunk_size, Tuner) and collected is None:
                chunk_size.begin_run(count, tensors[0].device)
            if chunk_size is not None:
                chunks = _chunks(tensors, task.in_dims, first, last, chunk_size, entry is not None)
            for stop, chunk in chunks:
                doing = "mapping"
                part = _map(task, chunk, stop - start, start, chunk_size)
                doing = "checking"
                if [x._version for x in watched] != versions:
                    _raise_changed(watched, versions, tensors)
                if collected is None:
                    begin = start
                    if debugging():
                        task.check_first(chunk, part, start)
                    _check_device(part, tensors[0].device)
                if stop - start == count and not task.out_dims.reduces:
                    whole = own_memory(part, tensors, count)
                else:
                    collected = collected or Collected(count, entry is not None, task.part)
                    collected.add(part, tensors, start - begin, stop - begin)
                del part, chunk  # before the next ones are made
                if advance is not None:
                    advance(stop - start)
                start = stop
            # Before the next piece is waited for.
            doing, tensors, watched, chunks = "reading", (), [], ()  # noqa: PLW2901
        start, doing = begin, "checking"
        if collected is not None:
            whole = collected.result()
        assert whole is not None, "there is at least one sample"
        if isinstance(chunk_size, Tuner):
            chunk_size.end_run()
        check_gradients(whole.outputs, entry)
        kinds = [] if collected is None else collected.kinds
        outputs = _describe(whole, kinds, batch, task)
        message = outputs.pickled() if rank == batch.root else b""
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() on one rank would leave the others waiting
        if doing == "reading":
            return Outcome(failure=Failure(error, "reading the inputs", hint_for(error)))
        again = partial(_run_again, task, tensors, first) if doing == "mapping" else None
        return Outcome(failure=explain(error, start, stop, again, batch.samples, rank))
    return Outcome(whole.outputs, outputs, message=message)


def _map(task: VmapTask, chunk: Tensors, samples: int, start: int, chunk_size: ChunkSize) -> Mapped:
    """Map the samples of one chunk, which the tuner of chunk sizes measures."""
    if not (isinstance(chunk_size, Tuner) or task.checkpoint):
        return task.run(chunk, samples, start)
    run: Callable[[], Mapped] = partial(task.run, chunk, samples, start)
    if task.checkpoint and task.gradients:
        # Not the reentrant form, which `torch.autograd.grad` refuses. What is drawn depends on the samples alone,
        # so that no state of a generator has to be kept.
        run = partial(checkpoint, run, use_reentrant=False, preserve_rng_state=False)
    return chunk_size.run(samples, run, chunk[0].device) if isinstance(chunk_size, Tuner) else run()


def _chunks(
    tensors: Tensors, dims: Dims, first: int, last: int, chunk_size: int | Tuner, traced: bool
) -> Iterator[tuple[int, Tensors]]:
    """Where each chunk of the samples from `first` to `last` ends, and the inputs of its samples."""
    if isinstance(chunk_size, Tuner):
        start = first
        while start < last:
            stop = start + chunk_size.size(last - first, last - start)
            yield stop, _narrow(tensors, dims, start - first, stop - first)
            start = stop
    elif chunk_size >= last - first:
        yield last, tensors
    elif not traced:
        for start in range(first, last, chunk_size):
            stop = min(start + chunk_size, last)
            yield stop, _narrow(tensors, dims, start - first, stop - first)
    else:
        # All at once: the gradient of each `narrow` would be as large as that of all samples.
        pieces = [
            itertools.repeat(x) if dim is None else torch.split(x, chunk_size, dim)
            for x, dim in zip(tensors, dims, strict=True)
        ]
        for start, chunk in zip(range(first, last, chunk_size), zip(*pieces, strict=False), strict=False):
            yield min(start + chunk_size, last), chunk


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
        with internals.tensors_without_data():
            tensors = [
                torch.empty(shape, dtype=x.dtype, device=x.device, requires_grad=requires_grad)
                for shape, x, requires_grad in zip(shapes, arrays, traced, strict=True)
            ]
            mapped = task.without_data().run(tensors, 1)
            for x, dim in zip(mapped.outputs, mapped.dims, strict=True):
                if isinstance(dim, str):
                    reduce_chunk(dim, x)  # which torch may refuse
        if batch.size == 0:
            _check_without_samples(mapped)
        kinds = [
            (result_dtype(dim, x.dtype) if isinstance(dim, str) else x.dtype, x.shape, dim, x.requires_grad, 0)
            for x, dim in zip(mapped.outputs, mapped.dims, strict=True)
        ]
        return Outcome(outputs=describe(tuple(kinds), mapped.structure, batch.samples, name=task.name))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        doing = "inferring the outputs of a batch without samples"
        return Outcome(failure=Failure(error, doing, hint_for(error), {"samples": range(0)}))


def _check_without_samples(mapped: Mapped) -> None:
    """Raise what is wrong about outputs that cannot be made of no samples at all."""
    for i, (x, dim) in enumerate(zip(mapped.outputs, mapped.dims, strict=True)):
        if dim is None:
            raise ValueError(f"out_dims is None for output {i}, but there is no sample to compute it with")
        if isinstance(dim, str) and dim in {"max", "min"}:
            reduce_chunk(dim, torch.empty((0, *x.shape[1:]), dtype=x.dtype))  # raises torch's error


def _describe(whole: Mapped, kinds: Kinds, batch: Batch, task: VmapTask) -> Outputs:
    """Describe the outputs of a run, given what they were per sample if some were put together from chunks."""
    by_value = task.by_value
    # Of an output that is the same for every sample the values, too, must be the same on all ranks.
    described = [
        (x.dtype, x.shape, dim, x.requires_grad and not by_value, internals.checksum(x) if dim is None else 0)
        for x, dim in zip(whole.outputs, whole.dims, strict=True)
    ]
    if task.out_dims.reduces:
        for i, (dim, (dtype, shape)) in enumerate(zip(whole.dims, kinds, strict=True)):
            if isinstance(dim, str):
                described[i] = (result_dtype(dim, dtype), torch.Size((1, *shape)), *described[i][2:])
    return describe(tuple(described), whole.structure, batch.samples, task.gradients, task.name)


def _first_of_each(part: Mapped) -> list[torch.Tensor]:
    """The outputs of the first sample."""
    axes = map(sample_axis, part.dims)
    return [x if axis is None else x.select(axis, 0) for x, axis in zip(part.outputs, axes, strict=True)]


def _is_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are the same up to what another order of summation makes of them."""
    one, other = (internals.unwrap(x).detach() for x in (one, other))
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
    if internals.maybe_get_level(x) == level:  # not that of a torch.vmap around the call
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
            raise changed_input(i)
    raise RuntimeError(
        "func changed in place a tensor that it captured or got by keyword, but each rank and each chunk "
        "would change it for itself; return the new value instead"
    )


def changed_input(i: int) -> RuntimeError:
    """The error for a function that writes into its arguments."""
    return RuntimeError(
        f"func changed input {i} in place, which changes the caller's array on some ranks; "
        "use an operation that returns a new tensor, or clone() the argument first"
    )


def _check_device(part: Mapped, device: torch.device) -> None:
    for out in part.outputs:
        # torch makes a text for each `type`: without the comparison before a small call took 1.3 us more, of 32.
        if out.device != device and out.device.type != device.type:
            raise TypeError(f"func must return tensors on its inputs' device, {device}, not {out.device}")
