"""Mapping block by block: over inputs that stay in files, into outputs that go there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from minisplit.core.array import DNDarray
from minisplit.core.collectives import redistribute_all
from minisplit.core.communication.agreement import ALL_WELL, Failure, agreement, raise_together
from minisplit.core.communication.agreement import failure_code as failing_rank
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.core.performance_warning import warn_of_moves
from minisplit.core.storage import Box, Sink, StoredArray
from minisplit.vmap import failure
from minisplit.vmap.batch import Batch, output_layout, sample_shape
from minisplit.vmap.description import described, failure_of, inferred
from minisplit.vmap.execute import NO_BAR, Advance, ChunkSize, run
from minisplit.vmap.functorch import Mapped, Task
from minisplit.vmap.outcome import Output, Outputs, agree_on_outputs, check_tellable, first_with_samples
from minisplit.vmap.pytree import output_labels, unflatten

Input = DNDarray | StoredArray
Interval = tuple[int, int]
# Bytes of the mapped inputs that are read at a time, while another block is mapped, where no chunk size is given.
BLOCK_BYTES = 2**26


@dataclass(frozen=True, slots=True)
class Job:
    """A mapped call in which an input or an output is in a file."""

    arrays: Sequence[Input]
    batch: Batch
    task: Task
    chunk_size: ChunkSize
    watched: Sequence[torch.Tensor]
    bar: AbstractContextManager[Advance] | None
    sink: Sink
    comm: Communication

    @property
    def block(self) -> int:
        """Samples of a block."""
        if isinstance(self.chunk_size, int):
            return self.chunk_size
        sizes = [
            x.dtype.itemsize * torch.Size(sample_shape(x.shape, dim)).numel()
            for x, dim in zip(self.arrays, self.batch.in_dims, strict=True)
            if dim is not None
        ]
        return max(1, BLOCK_BYTES // max(1, sum(sizes)))


class MemorySink:
    """Outputs in memory, as a mapped call has them."""

    def __init__(self, comm: Communication) -> None:
        self.comm = comm
        self.outputs: list[DNDarray] = []

    def done(self) -> Sequence[Interval]:
        return ()

    def create(
        self, layouts: Sequence[Layout], dtypes: Sequence[torch.dtype], names: Sequence[str], block: int
    ) -> None:
        kinds = list(zip(layouts, dtypes, strict=True))
        with agreement(self.comm, "making room for the outputs"):
            shards = [torch.empty(layout.lshape(self.comm.rank), dtype=dtype) for layout, dtype in kinds]
        self.outputs = [DNDarray(shard, layout, self.comm) for shard, layout in zip(shards, layouts, strict=True)]

    def write(self, output: int, box: Box, part: torch.Tensor) -> None:
        x = self.outputs[output]
        mine = x.layout.box(self.comm.rank)
        x.larray[tuple(slice(s.start - m.start, s.stop - m.start) for s, m in zip(box, mine, strict=True))] = part

    def record(self, start: int, stop: int) -> None:
        pass

    def finish(self) -> Sequence[DNDarray]:
        return self.outputs

    def close(self) -> None:
        pass


class Blocks:
    """The mapped inputs of a rank, some samples at a time; what is in files is read by a thread, a block ahead."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.first = job.batch.samples.span(job.comm.rank)[0]
        self.here = _in_memory(job)
        self.reader = ThreadPoolExecutor(1, "minisplit-reader")

    def __enter__(self) -> Blocks:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.shutdown(cancel_futures=True)

    def read(self, start: int, stop: int) -> list[torch.Tensor]:
        """The inputs of these global samples. An input that is not mapped is whole."""
        tensors = []
        for i, (x, dim) in enumerate(zip(self.job.arrays, self.job.batch.in_dims, strict=True)):
            if isinstance(x, StoredArray) and dim is not None:
                spans = [slice(0, n) for n in x.shape]
                spans[dim] = slice(start, stop)
                tensors.append(x.read(tuple(spans)))
            else:
                whole = self.here[i]
                tensors.append(whole if dim is None else whole.narrow(dim, start - self.first, stop - start))
        return tensors

    def each(self, intervals: Iterator[Interval]) -> Iterator[tuple[Interval, list[torch.Tensor]]]:
        """The blocks of these samples, in order."""
        wanted = next(intervals, None)
        ahead = self.reader.submit(self.read, *wanted) if wanted else None
        while wanted and ahead:
            here, inputs = wanted, ahead.result()
            wanted = next(intervals, None)
            ahead = self.reader.submit(self.read, *wanted) if wanted else None
            yield here, inputs


class _StoppedError(Exception):
    """A block failed; the argument is the `Failure`."""


def stream(job: Job) -> Any:
    """Map over all samples, and return the outputs in the structure that the function returns. Collective.

    Two agreements beside what the sink needs: on what the first blocks gave, before there is room for outputs, and
    at the end.
    """
    samples, comm = job.batch.samples, job.comm
    begin, end = samples.span(comm.rank)
    with torch.no_grad(), closing(job.sink), Blocks(job) as blocks, job.bar or NO_BAR as advance:
        left = list(_left(job.sink.done(), begin, end))
        mapped = _mapped(job, blocks.each(_pieces(left, job.block)))
        failure, mine, block, part = None, None, (begin, begin), None
        try:
            block, part = next(mapped, None) or _one_sample(job, blocks)
            with _stopping("describing the outputs"):
                if part is not None:
                    mine = described(part, with_values=samples.size > 0)
                    check_tellable(mine, samples)
        except _StoppedError as stopped:
            (failure,) = stopped.args
        outputs = agree_on_outputs(comm, samples, mine, failure)
        room = Room(job, outputs)
        constant = (
            {} if part is None else {i: part.outputs[i] for i, x in enumerate(outputs.each) if x.dim is None}
        )
        advance(end - begin - sum(stop - start for start, stop in left))
        try:
            while part is not None and left:
                room.write(block, part)
                advance(block[1] - block[0])
                part = None  # before the next one is made
                block, part = next(mapped, ((end, end), None))
        except _StoppedError as stopped:
            (failure,) = stopped.args
        _agree(comm, failure)
        written = iter(job.sink.finish())
        found = [
            next(written) if output.dim is not None else _replicated(job, constant.get(i), output)
            for i, output in enumerate(outputs.each)
        ]
    return unflatten(found, outputs.structure)


class Room:
    """Where the outputs go. Made by all ranks."""

    def __init__(self, job: Job, outputs: Outputs) -> None:
        self.sink, self.outputs, self.size = job.sink, outputs, job.batch.size
        self.layouts = [output_layout(output.shape, output.dim, job.batch.samples) for output in outputs.each]
        self.places = [i for i, output in enumerate(outputs.each) if output.dim is not None]
        names = output_labels(outputs.structure, len(self.layouts))
        self.sink.create(
            [self.layouts[i] for i in self.places],
            [outputs.each[i].dtype for i in self.places],
            [names[i] for i in self.places],
            job.block,
        )

    def write(self, block: Interval, part: Mapped) -> None:
        """Put what a block gave in its place, and take note of it. Local."""
        start, stop = block
        with _stopping(f"writing the outputs of samples {start} to {stop - 1} of {self.size}"):
            this = described(part, with_values=True)
            if this != self.outputs:
                raise ValueError(f"func must return the same for every chunk, but gave {self.outputs} and {this}")
            for place, i in enumerate(self.places):
                spans = [slice(0, n) for n in self.layouts[i].shape]
                spans[part.dims[i] or 0] = slice(start, stop)
                self.sink.write(place, tuple(spans), part.outputs[i])
            self.sink.record(start, stop)


def _mapped(job: Job, blocks: Iterator[tuple[Interval, list[torch.Tensor]]]) -> Iterator[tuple[Interval, Mapped]]:
    """What the function gives for each block; raises `_StoppedError` where reading or mapping one fails."""
    samples, rank = job.batch.samples, job.comm.rank
    offset = samples.span(rank)[0]
    while True:
        with _stopping("reading the inputs"):
            found = next(blocks, None)
        if found is None:
            return
        (start, stop), inputs = found
        task = job.task
        if task.draws is not None:
            task = replace(task, draws=task.draws._replace(first=start))
        outcome = run(task, inputs, stop - start, job.chunk_size, job.watched)
        if outcome.mapped is None:
            raise _StoppedError(failure_of(outcome, task, inputs, samples, rank, start - offset))
        del found, inputs
        yield (start, stop), outcome.mapped
        del outcome  # before the next one is made


def _one_sample(job: Job, blocks: Blocks) -> tuple[Interval, Mapped | None]:
    """What the outputs are where this rank has nothing left to compute: of its first sample, if it has one."""
    samples = job.batch.samples
    begin, end = samples.span(job.comm.rank)
    if samples.size == 0:
        outcome = inferred(
            job.task, [torch.empty([1] * x.ndim, dtype=x.dtype).expand(x.shape) for x in job.arrays]
        )
        if outcome.error is not None:
            raise _StoppedError(failure_of(outcome, job.task, (), samples, job.comm.rank))
        return (0, 0), outcome.mapped
    if begin == end:
        return (begin, end), None
    return next(_mapped(job, blocks.each(iter([(begin, begin + 1)]))))


class _stopping:  # noqa: N801 - used like a function
    """Turn what the body raises into `_StoppedError`."""

    def __init__(self, doing: str) -> None:
        self.doing = doing

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is not None and not isinstance(error, KeyboardInterrupt | _StoppedError):
            raise _StoppedError(Failure(error, self.doing, failure.hint_for(error))) from error


def _agree(comm: Communication, failure: Failure | None) -> None:
    """Raise on all ranks what stopped any. Collective."""
    verdict = int(comm.agree(np.array([failing_rank(comm, None if failure is None else failure.error)]))[0])
    if verdict != ALL_WELL:
        raise_together(comm, -verdict, failure)


def _replicated(job: Job, mine: torch.Tensor | None, output: Output) -> DNDarray:
    """An output that is the same for all samples. Collective where some ranks have no sample."""
    samples, comm = job.batch.samples, job.comm
    x = torch.empty(output.shape, dtype=output.dtype) if mine is None else mine
    if 0 in (samples.counts or ()):
        x = comm.broadcast(x, first_with_samples(samples))
    return DNDarray(x, Layout(output.shape, None, comm.size), comm)


def _in_memory(job: Job) -> dict[int, torch.Tensor]:
    """This rank's part of each input that is in memory, or is read whole for every sample. Collective."""
    arrays, batch, comm = job.arrays, job.batch, job.comm
    here = {i: x for i, x in enumerate(arrays) if isinstance(x, DNDarray)}
    found = {i: x.larray for i, x in here.items()}
    moving = [i for i, x in here.items() if x.layout != batch.targets[i]]
    ways = [(here[i].layout, batch.targets[i]) for i in moving]
    warn_of_moves([(found[i].itemsize, *way) for i, way in zip(moving, ways, strict=True)], comm)
    found |= zip(moving, redistribute_all([found[i] for i in moving], ways, comm), strict=True)
    stored = {i: x for i, x in enumerate(arrays) if isinstance(x, StoredArray) and batch.in_dims[i] is None}
    if stored:
        with agreement(comm, "reading the inputs that every sample gets"):
            for i, x in stored.items():
                found[i] = x.read(tuple(slice(0, n) for n in x.shape))
    return found


def _left(done: Sequence[Interval], begin: int, end: int) -> Iterator[Interval]:
    """The samples from `begin` to `end` that are in none of the intervals.

    >>> list(_left([(2, 3), (0, 1)], 0, 5))
    [(1, 2), (3, 5)]
    """
    for start, stop in sorted(done):
        if begin < min(start, end):
            yield begin, min(start, end)
        begin = max(begin, stop)
    if begin < end:
        yield begin, end


def _pieces(intervals: Sequence[Interval], most: int) -> Iterator[Interval]:
    """The intervals, cut into ones of at most so many samples."""
    for start, stop in intervals:
        for begin in range(start, stop, most):
            yield begin, min(begin + most, stop)


def stand_ins(arrays: Sequence[Input], batch: Batch, comm: Communication) -> list[DNDarray]:
    """Arrays of the inputs' shapes that take no memory, for plans: those in files where the plan wants them."""
    return [
        x
        if isinstance(x, DNDarray)
        else DNDarray(torch.empty([1] * x.ndim, dtype=x.dtype).expand(target.lshape(comm.rank)), target, comm)
        for x, target in zip(arrays, batch.targets, strict=True)
    ]
