"""What the other ranks are told of one rank's outcome: its outputs, or how it failed."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from minisplit.core.communication.agreement import Failure
from minisplit.core.communication.debug import checksum
from minisplit.core.layout import Layout
from minisplit.vmap import failure
from minisplit.vmap.batch import sample_shape
from minisplit.vmap.execute import Outcome, run_part
from minisplit.vmap.functorch import Mapped, Task
from minisplit.vmap.outcome import Output, Outputs, check_tellable
from minisplit.vmap.pytree import Structure


def failure_of(
    outcome: Outcome, task: Task, shards: Sequence[torch.Tensor], samples: Layout, rank: int, offset: int = 0
) -> Failure:
    """What to say of an outcome that is an error. `offset`: the local number of the first sample of `shards`."""
    assert outcome.error is not None
    found = failure.narrowed(outcome, lambda start, stop: run_part(task, shards, start, stop))
    found = replace(found, start=found.start + offset, stop=found.stop + offset)
    doing, which = failure.doing(found, samples, rank)
    return Failure(outcome.error, doing, failure.hint_for(outcome.error), {"samples": which})


def described_or_failed(outcome: Outcome, samples: Layout) -> tuple[Outputs | None, Outcome]:
    """What to tell the other ranks of an outcome; where that cannot be told, the outcome is that error."""
    if outcome.mapped is None:
        return None, outcome
    try:
        mine = described(outcome.mapped, with_values=samples.size > 0)
        check_tellable(mine, samples)
        return mine, outcome
    except Exception as error:
        return None, replace(outcome, mapped=None, error=error)


def described(mapped: Mapped, with_values: bool) -> Outputs:
    """What the other ranks must know of the outputs of this rank's samples."""
    kinds = [
        (x.dtype, x.shape, dim, x.requires_grad, checksum(x) >> 2 if dim is None and with_values else 0)
        for x, dim in zip(mapped.outputs, mapped.dims, strict=True)
    ]
    return _described_kinds(tuple(kinds), mapped.structure)


@functools.lru_cache(maxsize=256)
def _described_kinds(kinds: tuple[Any, ...], structure: Structure) -> Outputs:
    each = []
    for dtype, shape, dim, requires_grad, checked in kinds:
        each.append(Output(dtype, sample_shape(shape, dim), dim, requires_grad, checked))
    return Outputs(tuple(each), structure)


def inferred(task: Task, shards: Sequence[torch.Tensor], targets: Sequence[Layout] | None = None) -> Outcome:
    """The outputs where no rank has samples, or none are to be mapped: from a run on tensors without data.

    `targets` are the layouts that the shards will have, if not their own.
    """
    # Not at the top: it takes a second to import, and few programs need it.
    from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: PLC0415

    wholes = [x.shape for x in shards] if targets is None else [target.shape for target in targets]
    shapes = [
        shape if dim is None else (*shape[:dim], 1, *shape[dim + 1 :])
        for shape, dim in zip(wholes, task.in_dims, strict=True)
    ]
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True  # it would tell of errors that are told here
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            imagined = [
                torch.empty(shape, dtype=x.dtype, device=x.device, requires_grad=x.requires_grad)
                for shape, x in zip(shapes, shards, strict=True)
            ]
            mapped = task.run(imagined, 1)
        if targets is None and None in mapped.dims:
            raise ValueError(
                f"out_dims is None for output {mapped.dims.index(None)}, but there is no sample to compute it with"
            )
        return Outcome(mapped)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Outcome(None, error)
    finally:
        log.disabled = before
