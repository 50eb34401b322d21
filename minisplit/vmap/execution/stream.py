"""The files of a mapped call: inputs that are read, and outputs that are written, a block of samples at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import Any

import numpy as np
import torch

from minisplit.core.communication.agreement import ALL_WELL, Failure, failure_code, raise_together
from minisplit.core.communication.protocol import Communication
from minisplit.core.storage import Sink, StoredArray
from minisplit.vmap.execution.execute import Advance, Piece
from minisplit.vmap.inputs.batch import Batch, box, sample_axis
from minisplit.vmap.outcome import Outcome, Outputs, hint_for
from minisplit.vmap.pytree import output_labels
from minisplit.vmap.reduction import Pairwise

Interval = tuple[int, int]
# `minisplit.vmap.execution.execute.run` for some pieces, which have that many samples in all.
RunPieces = Callable[[Iterable[Piece], int], Outcome]
# Bytes of the mapped inputs that are read at a time, while another block is mapped, where no chunk size is given.
# Two such blocks are little beside the memory of a rank, and a block takes far longer to read than a read takes to
# begin.
BLOCK_BYTES = 2**26


class FileStream:
    """Reads the inputs of this rank's samples that are in files, and writes the outputs, if they go to files.

    Outputs that go into memory are held for all samples at once, so that there is one outcome. Of outputs that go
    to files one block is held at a time, and there is an outcome for each. A thread reads a block ahead.

    `close` ends the thread.
    """

    def __init__(
        self,
        batch: Batch,
        chunk_size: object,
        sink: Sink | None,
        comm: Communication,
        advance: Advance | None,
    ) -> None:
        self.batch, self.sink, self.comm, self.advance = batch, sink, comm, advance
        self.first, self.end = batch.samples.span(comm.rank)
        # At least 1: a sample may have more bytes than a block, or none.
        samples_of_a_block = max(1, BLOCK_BYTES // max(1, batch.sample_bytes))
        self.block = chunk_size if isinstance(chunk_size, int) else samples_of_a_block
        done = () if sink is None else sink.done()
        # In local numbers, as those of the pieces that are mapped.
        self.left = [
            (start - self.first, stop - self.first) for start, stop in subtract(done, self.first, self.end)
        ]
        # One thread: blocks are read in order, and no more than one ahead is held. Files are read without Python's
        # lock.
        self.thread = ThreadPoolExecutor(1, "minisplit-reader")

    def close(self) -> None:
        """End the thread, without the reads that have not begun."""
        self.thread.shutdown(cancel_futures=True)

    def outcomes(self, inputs: Sequence[Any], run: RunPieces) -> Iterator[Outcome]:
        """Map this rank's samples, at least one. `inputs` are shards, or stored arrays to read samples from."""
        if self.sink is None:
            yield run(self._pieces(inputs, cut(self.left, self.block)), self.end - self.first)
            return
        if not self.left:  # after an interruption: one sample shows what the outputs are
            yield run(self._pieces(inputs, iter([(0, 1)])), 1)
            return
        pieces = self._pieces(inputs, cut(self.left, self.block))
        for start, stop in cut(self.left, self.block):
            # The iterator, not its next item: what reading raises must be in the outcome.
            yield run(islice(pieces, 1), stop - start)

    def write(
        self, outputs: Outputs, outcome: Outcome, outcomes: Iterator[Outcome], device: torch.device
    ) -> tuple[Iterator[Any], list[torch.Tensor]]:
        """Write the first outcome and all others to the sink. Collective.

        Return the arrays in files, and what this rank's blocks give of outputs that are reduced over the samples.
        """
        assert self.sink is not None
        mapped = [i for i, output in enumerate(outputs.each) if isinstance(output.dim, int)]
        names = output_labels(outputs.structure, len(outputs.each))
        self.sink.create(
            [outputs.layouts[i] for i in mapped],
            [outputs.each[i].dtype for i in mapped],
            [names[i] for i in mapped],
            self.block,
        )
        if self.advance is not None:
            self.advance(self.end - self.first - sum(stop - start for start, stop in self.left))
        failure = None
        pairwise = [Pairwise(output.how) for output in outputs.reductions]
        # The intervals end first where nothing is left: then the first outcome is of a sample that was written
        # before.
        for (start, stop), block in zip(cut(self.left, self.block), chain([outcome], outcomes), strict=False):
            failure = block.failure or self._write_block(
                self.sink, outputs, block, mapped, pairwise, start + self.first, stop + self.first
            )
            if failure is not None:
                break
        code = failure_code(self.comm, None if failure is None else failure.error)
        highest = int(self.comm.agree(np.array([code]))[0])
        if highest != ALL_WELL:
            raise_together(self.comm, -highest, failure)
        for parts in self.sink.reduced():  # before `finish`, which removes the journal
            for each, part in zip(pairwise, parts, strict=True):
                each.add(part.to(device))
        reduced = [
            each.result() if each.parts else output.of_no_samples(device)
            for output, each in zip(outputs.reductions, pairwise, strict=True)
        ]
        return iter(self.sink.finish()), reduced

    def _write_block(
        self,
        sink: Sink,
        outputs: Outputs,
        outcome: Outcome,
        mapped: Sequence[int],
        pairwise: Sequence[Pairwise],
        start: int,
        stop: int,
    ) -> Failure | None:
        """Write the outputs of the global samples from `start` to `stop`, and record that. Local."""
        tensors, described = outcome.tensors, outcome.outputs
        assert tensors is not None, "a block that did not fail has outputs"
        assert described is not None
        try:
            if described.digest != outputs.digest:
                raise ValueError(f"func must return the same for every chunk, but gave {outputs} and {described}")
            for place, i in enumerate(mapped):
                part = box(outputs.layouts[i].shape, sample_axis(outputs.each[i].dim) or 0, start, stop)
                sink.write(place, part, tensors[i])
                tensors[i] = torch.empty(0)  # so that its memory is free before the next block is mapped
            for output, each in zip(outputs.reductions, pairwise, strict=True):
                each.add(tensors[output.place])
            sink.record(start, stop, [each.result() for each in pairwise])
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            doing = f"writing the outputs of samples {start} to {stop - 1} of {self.batch.size}"
            return Failure(error, doing, hint_for(error))
        return None

    def _pieces(self, inputs: Sequence[Any], intervals: Iterator[Interval]) -> Iterator[Piece]:
        """The inputs of the samples of each interval of local numbers, in order."""
        # Not map(submit, intervals) as a whole: a future is made when the one before it is done, so that no more
        # than one block is read ahead.
        futures = (self.thread.submit(self._read, inputs, *interval) for interval in intervals)
        ahead = next(futures, None)
        while ahead is not None:
            piece = ahead.result()
            ahead = next(futures, None)
            yield piece

    def _read(self, inputs: Sequence[Any], start: int, stop: int) -> Piece:
        """The inputs of some samples. An input that is not mapped is whole."""
        tensors = []
        for x, dim in zip(inputs, self.batch.in_dims, strict=True):
            if isinstance(x, StoredArray):
                tensors.append(x.read(box(x.shape, dim or 0, start + self.first, stop + self.first)))
            else:
                tensors.append(x if dim is None else x.narrow(dim, start, stop - start))
        return start, stop, tensors


def subtract(done: Sequence[Interval], begin: int, end: int) -> Iterator[Interval]:
    """The samples from `begin` to `end` that are in none of the intervals `done`.

    >>> list(subtract([(2, 3), (0, 1)], 0, 5))
    [(1, 2), (3, 5)]
    """
    for start, stop in sorted(done):
        if begin < min(start, end):
            yield begin, min(start, end)
        begin = max(begin, stop)
    if begin < end:
        yield begin, end


def cut(intervals: Iterable[Interval], most: int) -> Iterator[Interval]:
    """Cut intervals into ones of at most `most` samples.

    >>> list(cut([(0, 3), (5, 6)], 2))
    [(0, 2), (2, 3), (5, 6)]
    """
    for start, stop in intervals:
        for begin in range(start, stop, most):
            yield begin, min(begin + most, stop)
