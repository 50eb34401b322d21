"""`vmap` itself: check, plan, move, run, agree, wrap."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

import torch
from torch.utils import _pytree as pytree

from minisplit.core.array import DNDarray
from minisplit.core.communication.debug import debugging
from minisplit.core.communication.protocol import Communication
from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout
from minisplit.core.random.generator import default
from minisplit.core.storage import Sink, StoredArray, open_sink
from minisplit.vmap.arguments import Keywords, check_together, move_inputs
from minisplit.vmap.autograd import leave
from minisplit.vmap.autotune import MEMORY_BUDGET, Tuner, tuner_for
from minisplit.vmap.batch import MAX_IMBALANCE, Batch, output_layout, plan_batch, sample_shape
from minisplit.vmap.capture import captured, check_same_call, fingerprint, settings
from minisplit.vmap.description import described, described_or_failed, failure_of, inferred
from minisplit.vmap.execute import ChunkSize, Outcome, run
from minisplit.vmap.functorch import Mapped, Task
from minisplit.vmap.options import SPLIT, Options
from minisplit.vmap.outcome import Outputs, agree_on_outputs, first_with_samples
from minisplit.vmap.plan import Plan, make_plan
from minisplit.vmap.progress import bar, on_a_terminal
from minisplit.vmap.pytree import OutDims, flat_in_dims, flat_inputs, unflatten
from minisplit.vmap.random import Source
from minisplit.vmap.stream import Input, Job, MemorySink, stand_ins, stream

_wrap = DNDarray._wrap


@overload
def vmap(
    func: Callable[..., Any],
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    in_dims: Any = SPLIT,
    chunk_size: int | Literal["auto"] | None = None,
    memory_budget: int | None = None,
    max_imbalance: float = MAX_IMBALANCE,
    progress: bool = False,
    out: Any = None,
    resume: bool = False,
) -> MappedFunction: ...
@overload
def vmap(
    func: None = None,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    in_dims: Any = SPLIT,
    chunk_size: int | Literal["auto"] | None = None,
    memory_budget: int | None = None,
    max_imbalance: float = MAX_IMBALANCE,
    progress: bool = False,
    out: Any = None,
    resume: bool = False,
) -> Callable[[Callable[..., Any]], MappedFunction]: ...
def vmap(
    func: Callable[..., Any] | None = None,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    in_dims: Any = SPLIT,
    chunk_size: int | Literal["auto"] | None = None,
    memory_budget: int | None = None,
    max_imbalance: float = MAX_IMBALANCE,
    progress: bool = False,
    out: Any = None,
    resume: bool = False,
) -> MappedFunction | Callable[[Callable[..., Any]], MappedFunction]:
    """Map `func`, plain torch for one sample, over axes of DNDarrays.

    The result is called with DNDarrays, alone or in nested tuples, lists and dicts:
    `y, z = ms.vmap(f, out_dims=(0, 1))(a, b)`. Each mapped input gives `func` one index of its mapped axis at a
    time; what is not mapped is given whole to every sample; keyword arguments are passed on unmapped. What `func`
    computes must not depend on the rank, and it must not change its arguments. Also a decorator: `@ms.vmap`,
    `@ms.vmap(out_dims=1)`.

    out_dims: where the samples lie in each output: an int for all outputs, or a tuple, list or dict that fits what
        `func` returns, down to any level. It becomes the output's split. Negative values count from the
        end. None means "the same for every sample": a replicated output.
    randomness: "error": random functions raise. "different": each sample draws other numbers, by torch's
        functions, that depend on `minisplit.random.seed`, the call and the global sample alone, not on ranks,
        counts or chunks; "same": all samples draw what the first would. See docs/random.md.
    in_dims: the mapped axis of each input: an int or None for all, or a tuple for the positional arguments, down
        to any level. Without it the mapped axes are the split axes, and replicated inputs are not mapped. An
        input that is split along another axis is re-split; of a replicated one each rank takes its part, with no
        message.
    chunk_size: samples per `torch.vmap` and rank; None runs one on all of a rank's samples; "auto" measures the
        fastest on the first chunks, and remembers it for `func` and the shapes. The peak
        memory is the outputs plus one chunk.
    memory_budget: bytes that a chunk of "auto" may take on each rank, 512 MiB by default.
    max_imbalance: where inputs must move, no rank gets more than so many times its fair share of the samples.
    progress: show a bar on rank 0, if its standard error ends on a terminal (needs tqdm).
    out: a file to which the outputs go, a block after the other, rather than into memory; or a path for each, in
        the structure that `func` returns. A call then returns StoredArrays. See docs/files.md.
    resume: go on with what an interrupted call like this one has written, also on another number of ranks.

    A call returns DNDarrays in the structure that `func` returns, a bare tensor as a tuple of one, each with as
    many samples per rank as the inputs have. Inputs that are not aligned are first moved, in one exchange, to the
    counts for which the fewest bytes move (docs/plans.md); `.plan(...)` tells what will be moved, without a
    message. Otherwise the call is collective for one small agreement alone. Gradients, Jacobians and nested
    `torch.vmap` inside `func` work, and autograd flows back through the call, also to keyword arguments: its
    backward pass is collective where inputs were moved or replicated. See docs/gradients.md.

    Raises TypeError or ValueError at once for wrong arguments. A call raises, the same on every
    rank: TypeError for an input that is no DNDarray or an output that is no tensor; ValueError
    where no input is mapped, their numbers of samples, communicators or devices
    differ, or `in_dims` or `out_dims` do not fit; RuntimeError where `func` changes an input or a captured tensor
    in place; and what `func` raises on any rank, with the rank and its global samples in the text and as its
    attributes `rank` and `samples` (as a `RankError` where an exception of its class cannot be made from a text).

    >>> import minisplit as ms
    >>> a, b = ms.arange(4, split=0), ms.ones((3, 4), split=1)
    >>> y, z = ms.vmap(lambda x, v: (x * 2, x + v), out_dims=(0, 1))(a, b)
    >>> y.tolist()
    [0, 2, 4, 6]
    >>> z.shape, z.split
    ((3, 4), 1)
    """
    options = Options.checked(
        out_dims=out_dims,
        randomness=randomness,
        in_dims=in_dims,
        chunk_size=chunk_size,
        memory_budget=memory_budget,
        max_imbalance=max_imbalance,
        progress=progress,
        out=out,
        resume=resume,
    )
    return functools.partial(MappedFunction, options=options) if func is None else MappedFunction(func, options)


class MappedFunction:
    """What `vmap` returns: a function of DNDarrays, with the name and docstring of the one it maps."""

    def __init__(self, func: Callable[..., Any], options: Options) -> None:
        if not callable(func):
            raise TypeError(
                f"vmap maps a function, got {short_repr(func)}; arrays go to what vmap returns: vmap(f)(x)"
            )
        self.func = func
        self.options = options
        self._out_dims = OutDims(options.out_dims)
        self._in_dims: dict[Any, tuple[int | None, ...]] = {}
        # Not the attributes: those of a callable object could be named like the ones above.
        functools.update_wrapper(self, func, updated=())

    def __repr__(self) -> str:
        return f"<minisplit.vmap of {self._name}, {self.options.told()}>"

    @property
    def _name(self) -> str:
        return getattr(self.func, "__name__", type(self.func).__name__)

    def __reduce__(self) -> str | tuple[Any, ...]:
        # One that stands where its function's name is, as a decorator puts it, is found by that name.
        name = getattr(self, "__qualname__", "")
        if getattr(sys.modules.get(getattr(self, "__module__", "")), name, None) is self:
            return name
        return MappedFunction, (self.func, self.options)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Map over `args`, passing `kwargs` on. Collective. See `minisplit.vmap`."""
        arrays, spec = flat_inputs(args)
        comm = check_together(arrays)
        keywords = Keywords(kwargs, comm) if kwargs else None
        batch = self._batch(arrays, spec)
        if debugging():
            self._check_replicated(arrays, kwargs, comm)
        if self.options.out is not None or (spec is not None and any(map(_is_stored, arrays))):
            return self._streamed(arrays, spec, batch, keywords, kwargs, comm)
        token, shards = move_inputs(arrays, batch, keywords, comm)
        task = Task(self._of_tensors(spec, keywords), batch.in_dims, self._out_dims, self._draws(batch, comm))
        outcome = self._run(task, shards, batch, comm.rank, keywords)
        mine, outcome = described_or_failed(outcome, batch.samples)
        failure = None if outcome.error is None else failure_of(outcome, task, shards, batch.samples, comm.rank)
        outputs = agree_on_outputs(comm, batch.samples, mine, failure)
        larrays = _larrays(outcome.mapped, outputs, batch.samples, shards[0].device, comm)
        if token is not None:
            larrays = [leave(token, x) if x.requires_grad else x for x in larrays]
        layouts = [output_layout(output.shape, output.dim, batch.samples) for output in outputs.each]
        return unflatten(
            [_wrap(larray, layout, comm) for larray, layout in zip(larrays, layouts, strict=True)],
            outputs.structure,
        )

    def _streamed(
        self,
        arrays: Sequence[Input],
        spec: pytree.TreeSpec | None,
        batch: Batch,
        keywords: Keywords | None,
        kwargs: dict[str, Any],
        comm: Communication,
    ) -> Any:
        """Map block by block. Collective."""
        given = [*[x.larray for x in arrays if isinstance(x, DNDarray)], *(keywords.tensors() if keywords else ())]
        if torch.is_grad_enabled() and any(x.requires_grad for x in given):
            raise ValueError(
                "no gradient flows through a map over files or into them: detach the inputs that require one, "
                "or call it in torch.no_grad()"
            )
        draws, out = self._draws(batch, comm), self.options.out
        if out is None:
            sink: Sink = MemorySink(comm)
        else:
            sink = open_sink(out, comm, self._job(arrays, draws, kwargs), self.options.resume)
        task = Task(self._of_tensors(spec, keywords), batch.in_dims, self._out_dims, draws)
        shards = [x.larray for x in stand_ins(arrays, batch, comm)]
        watched = captured(self.func) + (keywords.tensors() if keywords else [])
        start, stop = batch.samples.span(comm.rank)
        short_repr = self.options.progress and comm.rank == 0 and on_a_terminal()
        told = bar(stop - start, self._name) if short_repr else None
        return stream(Job(arrays, batch, task, self._chunk_size(shards, batch), watched, told, sink, comm))

    def _job(self, arrays: Sequence[Input], draws: Source | None, kwargs: dict[str, Any]) -> str:
        """What tells calls apart whose outputs differ, as text."""
        told = self.options._replace(resume=False, progress=False, chunk_size=None, memory_budget=None).told()
        inputs = ", ".join(f"{x.dtype} {x.shape}" for x in arrays)
        told_apart = (*fingerprint(self.func, kwargs), settings(self.func))
        drawn = "" if draws is None else f", drawing by {draws.key}"
        return f"{self._name} [{', '.join(f'{number:x}' for number in told_apart)}] of {inputs}, {told}{drawn}"

    def plan(self, /, *args: Any, **kwargs: Any) -> Plan:
        """What a call with these arguments will do, as data: `print(plan)` is a table. Local: nothing is sent.

        `plan.bytes_moved` is summed over the ranks, `plan.collectives` counts the collective calls, debug mode's
        own left out; `plan.plot()` draws who holds what before and after. The outputs are inferred by a run of the
        function on tensors without data (torch's fake tensors); where that fails, `plan.outputs` is None.

        Raises what a call would raise for these arguments before its first message.

        >>> import minisplit as ms
        >>> x = ms.ones((6, 2), split=0)
        >>> plan = ms.vmap(lambda v: v.sum()).plan(x)
        >>> plan.bytes_moved, plan.samples, [output.shape for output in plan.outputs]
        (0, 6, [(6,)])
        """
        arrays, spec = flat_inputs(args)
        comm = check_together(arrays)
        keywords = Keywords(kwargs, comm) if kwargs else None
        batch = self._batch(arrays, spec)
        arrays = stand_ins(arrays, batch, comm) if any(map(_is_stored, arrays)) else arrays
        task = Task(self._of_tensors(spec, keywords), batch.in_dims, self._out_dims, self._draws())
        outcome = inferred(task, [x.larray for x in arrays], targets=batch.targets)
        chunk_size = self._chunk_size([x.larray for x in arrays], batch)
        start, stop = batch.samples.span(comm.rank)
        size: int | Literal["auto"] | None = (
            (chunk_size.settled(stop - start) or "auto") if isinstance(chunk_size, Tuner) else chunk_size
        )
        mine = outcome.error if outcome.mapped is None else described(outcome.mapped, with_values=False)
        return make_plan(self._name, arrays, spec, batch, size, mine)

    def _draws(self, batch: Batch | None = None, comm: Communication | None = None) -> Source | None:
        """What the function's random functions draw from: of one call, where it has samples, else nothing."""
        if self.options.randomness == "error":
            return None
        same = self.options.randomness == "same"
        if batch is None or comm is None:
            return Source(None, same)
        key = default.next_key(comm)
        return Source(key if batch.size else None, same, batch.samples.span(comm.rank)[0])

    def _batch(self, arrays: Sequence[Input], spec: pytree.TreeSpec | None) -> Batch:
        in_dims = None
        if spec is not None and any(map(_is_stored, arrays)):
            return self._batch_of_files(arrays, spec)
        if self.options.in_dims != SPLIT:
            key = spec, tuple([x.ndim for x in arrays])
            in_dims = self._in_dims.get(key)
            if in_dims is None:
                in_dims = self._in_dims[key] = flat_in_dims(self.options.in_dims, spec, arrays)
        layouts, sizes = tuple([x.layout for x in arrays]), tuple([x.dtype.itemsize for x in arrays])
        return plan_batch(layouts, sizes, in_dims, self.options.max_imbalance)

    def _batch_of_files(self, arrays: Sequence[Input], spec: pytree.TreeSpec) -> Batch:
        """Every rank may read any part of a file: as of a replicated array, no part of it has to move."""
        if self.options.in_dims == SPLIT:
            in_dims = tuple([x.layout.split for x in arrays])
        else:
            in_dims = flat_in_dims(self.options.in_dims, spec, arrays)
        layouts = [x.layout.with_split(None) if _is_stored(x) else x.layout for x in arrays]
        sizes = tuple([x.dtype.itemsize for x in arrays])
        return plan_batch(tuple(layouts), sizes, in_dims, self.options.max_imbalance)

    def _of_tensors(self, spec: pytree.TreeSpec | None, keywords: Keywords | None) -> Callable[..., Any]:
        """The mapped function as one of the flat inputs' tensors, with the keyword arguments it is given."""
        func = self.func
        if spec is None and keywords is None:
            return func

        def of_tensors(*tensors: torch.Tensor) -> Any:
            args = tensors if spec is None else pytree.tree_unflatten(list(tensors), spec)
            return func(*args, **({} if keywords is None else keywords.filled()))

        return of_tensors

    def _run(
        self, task: Task, shards: Sequence[torch.Tensor], batch: Batch, rank: int, keywords: Keywords | None
    ) -> Outcome:
        """Run this rank's samples; a rank without any runs nothing, but where no rank has one all infer."""
        start, stop = batch.samples.span(rank)
        if batch.size == 0:
            return inferred(task, shards)
        if start == stop:
            return Outcome(None)
        watched = captured(self.func)
        if keywords is not None:
            watched += keywords.tensors()
        short_repr = self.options.progress and rank == 0 and on_a_terminal()
        told = bar(stop - start, self._name) if short_repr else None
        return run(task, shards, stop - start, self._chunk_size(shards, batch), watched, told)

    def _chunk_size(self, shards: Sequence[torch.Tensor], batch: Batch) -> ChunkSize:
        if self.options.chunk_size != "auto":
            return self.options.chunk_size
        shapes = [
            sample_shape(target.shape, dim) for target, dim in zip(batch.targets, batch.in_dims, strict=True)
        ]
        kind = (
            tuple((x.dtype, shape, x.device.type) for x, shape in zip(shards, shapes, strict=True)),
            batch.in_dims,
        )
        size = sum(
            x.itemsize * math.prod(shape)
            for x, shape, dim in zip(shards, shapes, batch.in_dims, strict=True)
            if dim is not None
        )
        budget = self.options.memory_budget or MEMORY_BUDGET
        return tuner_for(self.func, self, (kind, torch.is_grad_enabled()), budget, size)

    def _check_replicated(self, arrays: Sequence[Input], kwargs: dict[str, Any], comm: Communication) -> None:
        """What debug mode compares between the ranks."""
        check_same_call(comm, self.func, kwargs)
        for i, x in enumerate(arrays):
            if isinstance(x, DNDarray) and x.split is None:
                comm.check_replicated(x.larray, f"replicated input {i}")


def _is_stored(x: Input) -> bool:
    return isinstance(x, StoredArray)


def _larrays(
    mapped: Mapped | None, outputs: Outputs, samples: Layout, device: torch.device, comm: Communication
) -> list[torch.Tensor]:
    """This rank's shard of each output. Collective where ranks without samples get a replicated output."""
    if mapped is not None and samples.size and (None not in mapped.dims or 0 not in (samples.counts or ())):
        return mapped.outputs
    larrays = []
    for i, output in enumerate(outputs.each):
        if mapped is not None and samples.size:
            x = mapped.outputs[i]
        else:
            shape = output_layout(output.shape, output.dim, samples).lshape(comm.rank)
            x = torch.empty(shape, dtype=output.dtype, device=device, requires_grad=output.requires_grad)
        if output.dim is None and samples.size:
            there = comm.broadcast(x, first_with_samples(samples))
            x = x if mapped is not None else there.requires_grad_(output.requires_grad)
        larrays.append(x)
    return larrays
