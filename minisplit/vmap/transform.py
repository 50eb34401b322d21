"""`vmap` itself: check, plan, move, run, agree, wrap."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from minisplit.core.communication import Communication
from minisplit.core.dndarray import DNDarray
from minisplit.core.layout import Layout, as_index
from minisplit.vmap.agreeing import Output, agree_on_outputs
from minisplit.vmap.chunking import Outcome, OutDims, Tensors, as_tuple, axes_of, run
from minisplit.vmap.planning import Batch, output_layout, plan_batch

_RANDOMNESS = ("error", "same", "different")


def vmap(
    func: Callable[..., Any],
    out_dims: OutDims = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> MappedFunction:
    """Map `func`, plain torch for one sample, over the split axes of DNDarrays.

    The result is called with DNDarrays: `y, z = ms.vmap(f, out_dims=(0, 1))(a, b)`. Each split input gives `func`
    one index of its split axis at a time; a replicated input (`split=None`) is given whole to every sample;
    keyword arguments are passed on unmapped. What `func` computes must not depend on the rank, and it must not
    change its arguments.

    out_dims: where the samples lie in each output: an int for all outputs or a tuple with one int for each.
        It becomes the output's split. Negative values count from the end.
    randomness: as in `torch.vmap`; only "error" (random functions raise) works so far.
    chunk_size: samples per `torch.vmap` and rank; None runs one on all of a rank's samples. The peak
        memory is the outputs plus one chunk.

    A call returns a tuple of DNDarrays, also for one output, each with as many samples per rank as the inputs
    have. Inputs with different counts are first moved to common ones (`minisplit.vmap.planning`);
    otherwise the call is collective for one small agreement alone. Gradients, Jacobians and nested
    `torch.vmap` inside `func` work.

    Raises TypeError or ValueError at once for wrong arguments. A call raises, the same on every
    rank: TypeError for an input that is no DNDarray or an output that is no tensor; ValueError
    where no input is split, their numbers of samples, communicators or devices
    differ, or `out_dims` does not fit the outputs; RuntimeError where `func` changes an input in place; and
    what `func` raises on any rank, with the rank and its global samples in the text (as a `RankError` where
    an exception of its class cannot be made from a text).

    >>> import minisplit as ms
    >>> a, b = ms.arange(4, split=0), ms.ones((3, 4), split=1)
    >>> y, z = ms.vmap(lambda x, v: (x * 2, x + v), out_dims=(0, 1))(a, b)
    >>> y.tolist()
    [0, 2, 4, 6]
    >>> z.shape, z.split
    ((3, 4), 1)
    """
    return MappedFunction(func, out_dims, randomness, chunk_size)


class MappedFunction:
    """What `vmap` returns: a function of DNDarrays, with the name and docstring of the one it maps."""

    def __init__(
        self, func: Callable[..., Any], out_dims: OutDims, randomness: str, chunk_size: int | None
    ) -> None:
        if not callable(func):
            raise TypeError(f"vmap maps a function, got {func!r} of type {type(func).__name__}")
        self.func = func
        self.out_dims = _checked_out_dims(out_dims)
        self.randomness = _checked_randomness(randomness)
        self.chunk_size = _checked_chunk_size(chunk_size)
        self._made: dict[tuple[int | None, ...], Callable[..., Any]] = {}
        # Not the attributes: those of a callable object could be named like the ones above.
        functools.update_wrapper(self, func, updated=())

    def __repr__(self) -> str:
        name = getattr(self.func, "__name__", type(self.func).__name__)
        return f"<minisplit.vmap of {name}, out_dims={self.out_dims}, chunk_size={self.chunk_size}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedFunction, (self.func, self.out_dims, self.randomness, self.chunk_size)

    def __call__(self, /, *args: Any, **kwargs: Any) -> tuple[DNDarray, ...]:
        """Map over the split axes of `args`, passing `kwargs` on. Collective. See `minisplit.vmap`."""
        arrays = _checked_inputs(args)
        kwargs = {name: _unmapped(name, value) for name, value in kwargs.items()}
        comm = arrays[0].comm
        for i, x in enumerate(arrays):
            if x.split is None:
                comm.check_replicated(x.larray, f"replicated input {i}")
        batch = plan_batch(tuple([x.layout for x in arrays]), tuple([x.larray.element_size() for x in arrays]))
        shards = [x.to_layout(target).larray for x, target in zip(arrays, batch.targets, strict=True)]
        outcome = self._run(shards, kwargs, batch, comm.rank)
        described = None if outcome.outputs is None else _described(self.out_dims, outcome.outputs)
        doing = _doing(outcome, batch.samples, comm.rank)
        outputs = agree_on_outputs(comm, batch.samples, described, outcome.error, doing)
        return _wrapped(outcome.outputs, outputs, batch.samples, shards[0].device, comm)

    def _run(self, shards: Sequence[torch.Tensor], kwargs: dict[str, Any], batch: Batch, rank: int) -> Outcome:
        """Run this rank's samples; a rank without any runs nothing, but where no rank has one all infer."""
        start, stop = batch.samples.span(rank)
        mapped = self._mapped(batch.in_dims, kwargs)
        if batch.size == 0:
            return _infer(mapped, shards, batch.in_dims)
        if start == stop:
            return Outcome(None)
        return run(mapped, shards, batch.in_dims, self.out_dims, stop - start, self.chunk_size)

    def _mapped(self, in_dims: tuple[int | None, ...], kwargs: dict[str, Any]) -> Callable[..., Any]:
        """`torch.vmap` of `func`, checked: without keyword arguments made once for each choice of axes."""
        made = None if kwargs else self._made.get(in_dims)
        if made is None:
            # torch takes longer to match a tuple of axes with the arguments than to map a small function.
            same = in_dims[0] if len(set(in_dims)) == 1 else None
            dims: int | tuple[int | None, ...] = in_dims if same is None else same
            # Bound here, since torch.vmap takes some names of keyword arguments for itself.
            one_sample = functools.partial(self._one_sample, kwargs)
            made = torch.vmap(one_sample, dims, self.out_dims, randomness=self.randomness)
            if not kwargs:
                self._made[in_dims] = made
        return made

    def _one_sample(self, kwargs: dict[str, Any], *sample: torch.Tensor) -> torch.Tensor | Tensors:
        """`func` on one sample; TypeError or ValueError unless it returns tensors that fit `out_dims`."""
        returned = self.func(*sample, **kwargs)
        if isinstance(returned, torch.Tensor):
            _check_out_dims(self.out_dims, (returned,))
            # A tuple of axes goes with a tuple of outputs.
            return (returned,) if isinstance(self.out_dims, tuple) else returned
        if not isinstance(returned, (tuple, list)) or not returned:
            what = "an empty sequence" if isinstance(returned, (tuple, list)) else type(returned).__name__
            raise TypeError(f"func must return a tensor or a tuple of tensors, but it returned {what}")
        for i, out in enumerate(returned):
            if not isinstance(out, torch.Tensor):
                raise TypeError(
                    f"func must return a tensor or a tuple of tensors, but output {i} is {type(out).__name__}"
                )
        _check_out_dims(self.out_dims, returned)
        return tuple(returned)


def _check_out_dims(out_dims: OutDims, outputs: Sequence[torch.Tensor]) -> None:
    """ValueError unless `out_dims` has a valid axis for each output of one sample."""
    if isinstance(out_dims, tuple) and len(out_dims) != len(outputs):
        raise ValueError(f"out_dims {out_dims} are for {len(out_dims)} outputs, but func returned {len(outputs)}")
    for dim, out in zip(axes_of(out_dims, len(outputs)), outputs, strict=True):
        if not -out.ndim - 1 <= dim <= out.ndim:
            raise ValueError(
                f"out_dims {out_dims}: axis {dim} is out of range for an output of shape {tuple(out.shape)} "
                f"per sample; allowed: {-out.ndim - 1} to {out.ndim}"
            )


def _described(out_dims: OutDims, outputs: Tensors) -> tuple[Output, ...]:
    """What the other ranks must know of the outputs of all this rank's samples."""
    return _described_kinds(out_dims, tuple([(out.dtype, out.shape, out.requires_grad) for out in outputs]))


@functools.lru_cache(maxsize=256)
def _described_kinds(
    out_dims: OutDims, kinds: tuple[tuple[torch.dtype, torch.Size, bool], ...]
) -> tuple[Output, ...]:
    described = []
    for dim, (dtype, shape, requires_grad) in zip(axes_of(out_dims, len(kinds)), kinds, strict=True):
        axis = dim % len(shape)
        described.append(Output(dtype, (*shape[:axis], *shape[axis + 1 :]), axis, requires_grad))
    return tuple(described)


def _checked_out_dims(out_dims: Any) -> OutDims:
    if isinstance(out_dims, (tuple, list)):
        if not out_dims:
            raise ValueError("out_dims must not be an empty tuple: give one int for each output")
        return tuple(as_index(dim, "every entry of out_dims") for dim in out_dims)
    return as_index(out_dims, "out_dims (or every entry of a tuple)")


def _checked_randomness(randomness: Any) -> str:
    if randomness not in _RANDOMNESS:
        raise ValueError(f"randomness must be one of {', '.join(map(repr, _RANDOMNESS))}, got {randomness!r}")
    if randomness != "error":
        raise NotImplementedError(
            f"randomness={randomness!r} is not supported yet: torch would draw the same numbers on every rank. "
            "Draw outside of func, with each rank seeded apart, and map over the draws"
        )
    return str(randomness)


def _checked_chunk_size(chunk_size: Any) -> int | None:
    if chunk_size is None:
        return None
    checked = as_index(chunk_size, "chunk_size")
    if checked < 1:
        raise ValueError(f"chunk_size must be at least 1 (or None for one chunk), got {checked}")
    return checked


def _checked_inputs(args: tuple[Any, ...]) -> tuple[DNDarray, ...]:
    if not args:
        raise ValueError("a mapped function needs at least one DNDarray as a positional argument, got none")
    first = args[0]
    for i, x in enumerate(args):
        if not isinstance(x, DNDarray):
            raise TypeError(
                f"positional argument {i} must be a DNDarray, got {type(x).__name__}; make it one with "
                "minisplit.array(..., split=...), or pass it by keyword to have it unmapped"
            )
        if x.comm is not first.comm:
            raise ValueError(
                f"all inputs must be on one communicator: input 0 is on one of {first.comm.size} ranks, "
                f"input {i} on another of {x.comm.size}; give both the same comm="
            )
        if x.device.type != first.device.type:
            raise ValueError(
                f"all inputs must be on one device: input 0 is on {first.device}, input {i} on {x.device}"
            )
    return args


def _unmapped(name: str, value: Any) -> Any:
    """A keyword argument as `func` gets it: of a replicated DNDarray its tensor; a split one is a TypeError."""
    if not isinstance(value, DNDarray):
        return value
    if value.split is None:
        return value.larray
    raise TypeError(
        f"keyword argument {name!r} is a DNDarray split along {value.split}, but keyword arguments are not "
        "mapped: pass it as a positional argument to map over it, or replicated (minisplit.resplit(x, None))"
    )


def _infer(
    mapped: Callable[..., Any],
    shards: Sequence[torch.Tensor],
    in_dims: Sequence[int | None],
) -> Outcome:
    """The outputs of a batch without samples: their shapes from a run on tensors without data."""
    # Not at the top: it takes a second to import, and few programs need it.
    from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: PLC0415

    def imagined(x: torch.Tensor, dim: int | None) -> torch.Tensor:
        shape = x.shape if dim is None else (*x.shape[:dim], 1, *x.shape[dim + 1 :])
        return torch.empty(shape, dtype=x.dtype, device=x.device)

    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            return Outcome(as_tuple(mapped(*map(imagined, shards, in_dims))))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Outcome(None, error)


def _doing(outcome: Outcome, samples: Layout, rank: int) -> str:
    if outcome.error is None:
        return ""
    if samples.size == 0:
        return "inferring the outputs of a batch without samples"
    first = samples.span(rank)[0]
    start, last = first + outcome.start, first + outcome.stop - 1
    which = f"sample {start}" if start == last else f"samples {start} to {last}"
    return f"mapping {which} of {samples.size}"


def _wrapped(
    larrays: Tensors | None,
    outputs: tuple[Output, ...],
    samples: Layout,
    device: torch.device,
    comm: Communication,
) -> tuple[DNDarray, ...]:
    layouts = [output_layout(output.shape, output.dim, samples) for output in outputs]
    if larrays is None or samples.size == 0:
        larrays = tuple(
            torch.empty(
                layout.lshape(comm.rank), dtype=output.dtype, device=device, requires_grad=output.requires_grad
            )
            for output, layout in zip(outputs, layouts, strict=True)
        )
    return tuple(DNDarray(larray, layout, comm) for larray, layout in zip(larrays, layouts, strict=True))
