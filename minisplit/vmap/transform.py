"""`vmap` itself: a call checks, plans, moves the inputs, runs, agrees and wraps.

There is one pipeline for all calls. Memory is one place for the outputs, and a file is another: outputs in memory
are one block of all samples of a rank, outputs in files are one block after the other
(`minisplit.vmap.execution.stream`).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar, Unpack, overload

import torch
from torch import Tensor

from minisplit.core.array import DNDarray
from minisplit.core.communication.debug import debugging
from minisplit.core.communication.inside_vmap import inside_vmap
from minisplit.core.communication.protocol import Communication, Record
from minisplit.core.error_text import short_repr
from minisplit.core.pytorch.pytree import TreeSpec
from minisplit.core.pytorch.transforms import is_plain, is_tracked
from minisplit.core.random.generator import default
from minisplit.core.random.grids import mapped_key
from minisplit.core.storage import StoredArray, open_sink
from minisplit.vmap.autograd import Entry, describe_gradients, leave, move_inputs, substitute
from minisplit.vmap.batching_rules import MIXING, inside, right_rules
from minisplit.vmap.execution.autotune import MEMORY_BUDGET, Tuner, tuner_for
from minisplit.vmap.execution.compiled import CompiledTask, code_for
from minisplit.vmap.execution.execute import Advance, ChunkSize, VmapTask, infer, run
from minisplit.vmap.execution.loop import LoopTask
from minisplit.vmap.execution.stream import FileStream
from minisplit.vmap.execution.writing import WritingTask
from minisplit.vmap.functorch.distributions import DRAWING, mapped_dirichlet
from minisplit.vmap.functorch.internals import (
    temporarily_clear_interpreter_stack,
    unwrap,
    without_compilation,
)  # fmt: skip
from minisplit.vmap.functorch.random import RandomSource
from minisplit.vmap.inputs.batch import MAX_IMBALANCE, Batch, Dims, plan_batch, sample_shape
from minisplit.vmap.inputs.parameters import NO_PARAMETERS, Known, Parameters, check_same, not_compared, watched
from minisplit.vmap.inputs.references import (
    CAPTURING,
    check_same_call,
    find_captured,
    find_generators,
    find_references,
    fingerprint,
    names_in_reach,
)  # fmt: skip
from minisplit.vmap.nested import has_no_array, map_tensors
from minisplit.vmap.options import SPLIT, InFiles, InMemory, Options, Randomness, draw_bar, is_on_terminal
from minisplit.vmap.outcome import (
    Outcome,
    Outputs,
    agree_on_gradients,
    failure_record,
    settle,
    with_shapes,
)
from minisplit.vmap.plan import Plan, make_plan
from minisplit.vmap.pytree import (
    OutDims,
    Unmapped,
    flatten_in_dims,
    flatten_inputs,
    input_labels,
    no_array,
    unflatten_outputs,
)  # fmt: skip
from minisplit.vmap.reduction import reduce_over_ranks

_wrap = DNDarray._wrap
K = TypeVar("K")
# What a call returns, and the class of an array in it.
Returned = TypeVar("Returned")
Array = TypeVar("Array")
_NO_OTHERS: dict[int, Any] = {}
# What a call opens that has all inputs and outputs in memory, and no bar: no files, and nothing to tell of
# progress.
_NOTHING: AbstractContextManager[tuple[FileStream | None, Advance | None]] = nullcontext((None, None))


# What a type checker knows of a call: of a function whose outputs are declared as tensors, alone or in a tuple,
# list or dict, that they are arrays in the same; of any other one, and of files, nothing.
class Decorator(Protocol):
    """What `vmap` returns without a function, as type checkers see it."""

    @overload
    def __call__(self, func: Callable[..., Tensor], /) -> MappedFunction[tuple[DNDarray], DNDarray]: ...
    @overload
    def __call__(
        self, func: Callable[..., tuple[Tensor, Tensor]], /
    ) -> MappedFunction[tuple[DNDarray, DNDarray], DNDarray]: ...
    @overload
    def __call__(
        self, func: Callable[..., tuple[Tensor, Tensor, Tensor]], /
    ) -> MappedFunction[tuple[DNDarray, DNDarray, DNDarray], DNDarray]: ...
    @overload
    def __call__(
        self, func: Callable[..., tuple[Tensor, ...]], /
    ) -> MappedFunction[tuple[DNDarray, ...], DNDarray]: ...
    @overload
    def __call__(self, func: Callable[..., list[Tensor]], /) -> MappedFunction[list[DNDarray], DNDarray]: ...
    @overload
    def __call__(self, func: Callable[..., dict[K, Tensor]], /) -> MappedFunction[dict[K, DNDarray], DNDarray]: ...
    @overload
    def __call__(self, func: Callable[..., Any], /) -> MappedFunction[Any, Any]: ...


@overload
def vmap(
    func: Callable[..., Tensor], out_dims: Any = 0, randomness: Randomness = "error", **options: Unpack[InMemory]
) -> MappedFunction[tuple[DNDarray], DNDarray]: ...
@overload
def vmap(
    func: Callable[..., tuple[Tensor, Tensor]],
    out_dims: Any = 0,
    randomness: Randomness = "error",
    **options: Unpack[InMemory],
) -> MappedFunction[tuple[DNDarray, DNDarray], DNDarray]: ...
@overload
def vmap(
    func: Callable[..., tuple[Tensor, Tensor, Tensor]],
    out_dims: Any = 0,
    randomness: Randomness = "error",
    **options: Unpack[InMemory],
) -> MappedFunction[tuple[DNDarray, DNDarray, DNDarray], DNDarray]: ...
@overload
def vmap(
    func: Callable[..., tuple[Tensor, ...]],
    out_dims: Any = 0,
    randomness: Randomness = "error",
    **options: Unpack[InMemory],
) -> MappedFunction[tuple[DNDarray, ...], DNDarray]: ...
@overload
def vmap(
    func: Callable[..., list[Tensor]],
    out_dims: Any = 0,
    randomness: Randomness = "error",
    **options: Unpack[InMemory],
) -> MappedFunction[list[DNDarray], DNDarray]: ...
@overload
def vmap(
    func: Callable[..., dict[K, Tensor]],
    out_dims: Any = 0,
    randomness: Randomness = "error",
    **options: Unpack[InMemory],
) -> MappedFunction[dict[K, DNDarray], DNDarray]: ...
@overload
def vmap(
    func: Callable[..., Any], out_dims: Any = 0, randomness: Randomness = "error", **options: Unpack[InFiles]
) -> MappedFunction[Any, Any]: ...
@overload
def vmap(
    func: None = None, out_dims: Any = 0, randomness: Randomness = "error", **options: Unpack[InMemory]
) -> Decorator: ...
@overload
def vmap(
    func: None = None, out_dims: Any = 0, randomness: Randomness = "error", **options: Unpack[InFiles]
) -> Callable[[Callable[..., Any]], MappedFunction[Any, Any]]: ...
def vmap(
    func: Callable[..., Any] | None = None,
    out_dims: Any = 0,
    randomness: Randomness = "error",
    *,
    in_dims: Any = SPLIT,
    chunk_size: int | Literal["auto"] | None = None,
    memory_budget: int | None = None,
    max_imbalance: float = MAX_IMBALANCE,
    progress: bool = False,
    out: Any = None,
    resume: bool = False,
    loop: bool = False,
    compile: bool | dict[str, Any] = False,
    checkpoint: bool = False,
) -> Any:
    """Map a function of plain torch tensors, written for one sample, over axes of DNDarrays.

    Call the result with DNDarrays, alone or in nested tuples, lists and dicts: `y, z = ms.vmap(f, out_dims=(0,
    1))(a, b)`. `func` gets one index of the mapped axis of each mapped input at a time, and the whole of each
    other input. Keyword arguments are not mapped. `vmap` is also a decorator: `@ms.vmap`, `@ms.vmap(out_dims=1)`.

    Parameters
    ----------
    func : callable, optional
        A function of torch tensors that returns tensors, alone or in nested tuples, lists and dicts. Its results
        must not depend on the rank. It must not change its arguments or captured tensors, and must not make
        collective calls. Without a function `vmap` returns a decorator.
    out_dims : int, None, "sum", "mean", "max", "min", or a tuple, list or dict of them, default 0
        The axis of each output along which the samples lie: one for all outputs, or a tree that fits what `func`
        returns, down to any level. It becomes the output's split axis. Negative axes count from the end. None is
        for an output that is the same for every sample; it becomes replicated. A name reduces an output over the
        samples of all ranks, one chunk at a time; the result is replicated.
    randomness : {"error", "different", "same"}, default "error"
        What torch's random functions do in `func`. "error": they raise. "different": each sample gets its own
        numbers. They depend on `minisplit.random.seed`, the call and the global index of the sample, but not on
        ranks, counts or chunks. "same": all samples get the numbers of the first sample.
    in_dims : int, None, or a tuple, list or dict of them, default "split"
        The mapped axis of each input: one for all inputs, or a tuple for the positional arguments, down to any
        level. None is for an input that is not mapped. It may be anything that is the same on all ranks: tensors,
        to which gradients flow back, numbers, modules. An input that is split along another axis is re-split. If a
        replicated input is mapped, each rank takes its part, without a message. By default the mapped axes are the
        split axes, and replicated inputs are not mapped.
    chunk_size : int, "auto" or None, default None
        How many samples each rank maps at a time. The peak of memory is one chunk and the outputs that are not
        reduced. "auto" measures the fastest size on the first chunks, and keeps it for `func` and the kind of
        samples. None maps all of a rank's samples at once.
    memory_budget : int, optional
        How many bytes a chunk of "auto" may take on each rank. By default 512 MiB.
    max_imbalance : float, default 1.25
        If inputs must move, no rank gets more than this many times its fair share of the samples.
    progress : bool, default False
        Whether to show a progress bar on rank 0, if its standard error is a terminal. It needs tqdm.
    out : str or Path, or a tuple, list or dict of them, optional
        Files into which the outputs are written block by block, instead of into memory: one file, or a path for
        each output in the structure that `func` returns.
    resume : bool, default False
        Whether to continue an interrupted call with the same `out`, also on another number of ranks.
    loop : bool, default False
        Whether to run `func` on one sample after the other, and not on a chunk at once. It is for functions that
        cannot be mapped: `func` gets plain tensors, so it may convert them to numbers and NumPy arrays, and branch
        on their values.
    compile : bool or dict, default False
        Whether `torch.compile` compiles `func`, mapped over a chunk, once for all numbers of samples. A dict has
        options of `torch.compile`: `backend`, `mode`, `options`. It needs a C++ compiler. A function that cannot
        be compiled, or that draws random numbers, runs uncompiled, with a `PerformanceWarning` that says why.
    checkpoint : bool, default False
        Whether the backward pass computes each chunk again. Then the forward pass does not keep what its
        operations need for their gradients, and the backward pass keeps this for one chunk at a time.

    Returns
    -------
    MappedFunction
        A function of DNDarrays and of results of `minisplit.open`. It returns DNDarrays in the structure that
        `func` returns, and for a bare tensor a tuple of one DNDarray. Each rank has as many samples of the outputs
        as of the inputs. With `out` it returns StoredArrays. Its method `one` returns the only output itself, and
        its method `plan` says what a call will do. Without `func`, a decorator.

    Raises
    ------
    TypeError
        If an argument has a wrong type. In a call: if an input is not a DNDarray, or an output is not a tensor.
    ValueError
        If an argument has a value that is not allowed. In a call: if no input is mapped, if the inputs differ in
        their number of samples, communicator or device, or if `in_dims` or `out_dims` do not fit.
    RuntimeError
        In a call, if `func` changes an input or a captured tensor in place.
    Exception
        In a call, if `func` raises on one rank: all ranks raise the same exception. The rank and the global
        samples are in its text, and in its attributes `rank` and `samples`. It is a `RankError` if other ranks
        cannot make an exception of its class.

    Communication
    -------------
    Local. A call of the result is collective: one allreduce of three integers, in which the ranks agree on errors
    and outputs. If any input must move, one exchange comes before it, for all inputs together, with the fewest
    bytes. If some ranks have no samples, a broadcast tells them what the outputs are, and another one gives them
    each output with `out_dims=None`. One allreduce carries all sums and means of one dtype, and one all extremes.
    With `loop=True`, if gradients are to flow back, one allreduce tells which outputs require a gradient. The
    backward pass is collective if inputs were moved or replicated, or if extremes were found.

    See Also
    --------
    minisplit.open : Open an array in a file, to be mapped over block by block.

    Notes
    -----
    Gradients, Jacobians and nested `torch.vmap` work inside of `func`. Autograd flows back through a call, also to
    keyword arguments. If the result is called with tensors inside of another mapped function, it is
    `torch.vmap(func)`.

    Examples
    --------
    >>> import minisplit as ms
    >>> a, b = ms.arange(4, split=0), ms.ones((3, 4), split=1)
    >>> ms.vmap(lambda x: x * x).one(a).tolist()
    [0, 1, 4, 9]
    >>> y, z = ms.vmap(lambda x, v: (x * 2, x + v), out_dims=(0, 1))(a, b)
    >>> y.tolist()
    [0, 2, 4, 6]
    >>> z.shape, z.split
    ((3, 4), 1)
    >>> total, largest = ms.vmap(lambda x: (x, x * x), out_dims=("sum", "max"))(a)
    >>> total.item(), largest.item()
    (6, 9)
    """
    options = Options(
        out_dims,
        randomness,
        in_dims,
        chunk_size,
        memory_budget,
        max_imbalance,
        progress,
        out,
        resume,
        loop,
        compile,
        checkpoint,
    ).validate()
    return functools.partial(MappedFunction, options=options) if func is None else MappedFunction(func, options)


class MappedCall(NamedTuple):
    """What a call and its plan know before any message, from the arguments alone.

    `spec` says how the arrays lie in the arguments, with `others`, what is no array there, by its place; None if
    the arrays are the arguments themselves. `shards` are those of the arrays; None if an array is in a file.
    `captured` are the tensors that the function refers to. `traced` says whether a gradient is to flow back to any
    of all these.
    """

    arrays: Sequence[DNDarray | StoredArray]
    spec: TreeSpec | None
    others: dict[int, Any]
    comm: Communication
    unmapped: Unmapped | None
    batch: Batch
    shards: list[torch.Tensor] | None
    captured: list[torch.Tensor]
    traced: bool


class MappedFunction(Generic[Returned, Array]):
    """A function of DNDarrays, with the name and docstring of the one that it maps. Made by `minisplit.vmap`.

    Parameters
    ----------
    func : callable
        The function of one sample.
    options : Options
        All arguments of `minisplit.vmap` but the function.

    Attributes
    ----------
    func : callable
        As given.
    options : Options
        As given.
    """

    def __init__(self, func: Callable[..., Any], options: Options) -> None:
        if not callable(func):
            raise TypeError(
                f"vmap maps a function, got {short_repr(func)}; arrays go to what vmap returns: vmap(f)(x)"
            )
        self.func = func
        self.options = options
        self._out_dims = OutDims(options.out_dims)  # which has a cache too
        # Key: how the arrays lie in the arguments, and the number of dimensions of each, since a negative axis
        # counts from the end. It has no bound, as a function is called with few kinds of arguments.
        self._in_dims: dict[tuple[Any, ...], Dims] = {}
        # The same task in each call to which only arrays are given. Key: the mapped axes, and the rank.
        self._tasks: dict[tuple[Dims, int], VmapTask] = {}
        self._writes: set[str] = set()  # see `WritingTask`
        self._unused: Known = {}  # parameters that the function refers to, but does not compute with
        # Without `updated` the attributes are not copied: those of a callable object could be named like the ones
        # above.
        functools.update_wrapper(self, func, updated=())

    def __repr__(self) -> str:
        return f"<minisplit.vmap of {self._name}, {self.options}>"

    @property
    def _name(self) -> str:
        name = getattr(self.func, "__name__", None)
        return name if type(name) is str else type(self.func).__name__

    # Found by the first call, when all that the function names is defined, and kept, as they depend on code alone.
    @functools.cached_property
    def _names(self) -> frozenset[str]:
        return names_in_reach(self.func)

    @functools.cached_property
    def _func_in_context(self) -> Callable[..., Any]:
        """The function, with what it needs around it."""
        func = self.func
        if not self._names.isdisjoint(MIXING):
            func = inside(right_rules, func)
        if not self._names.isdisjoint(DRAWING):
            func = inside(mapped_dirichlet, func)
        captured = self._names & CAPTURING
        if captured == {"cond"} or (
            self.options.randomness != "error" and "compile" in captured <= {"compile", "cond"}
        ):
            # torch would compile what stands in the place of its functions: those that draw do so by NumPy.
            func = inside(without_compilation, func)
        return func

    def __reduce__(self) -> str | tuple[Any, ...]:
        # One that stands where its function's name is, as a decorator puts it, is found by that name.
        name = getattr(self, "__qualname__", "")
        if getattr(sys.modules.get(getattr(self, "__module__", "")), name, None) is self:
            return name
        return MappedFunction, (self.func, self.options)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Returned:
        """Map the function over the arguments. See `minisplit.vmap`.

        Parameters
        ----------
        *args : DNDarray, StoredArray, or nested tuples, lists and dicts of them
            The inputs; some or all are mapped. An input with None in `in_dims` may be anything that is the same on
            all ranks: tensors, numbers, modules.
        **kwargs : Any
            Passed on to the function, unmapped. The function gets a replicated DNDarray as a tensor.

        Returns
        -------
        tuple, list or dict of DNDarray or StoredArray
            The outputs, in the structure that the function returns. For a bare tensor, a tuple of one; `one`
            returns the array itself.

        Raises
        ------
        Exception
            What `minisplit.vmap` lists. The same on all ranks.

        Communication
        -------------
        Collective: one allreduce of three integers, and the messages that `minisplit.vmap` lists for inputs that
        must move, ranks that have no samples, and outputs that are reduced.
        """
        if inside_vmap() and has_no_array(args):
            mapped: Returned = map_tensors(self._func_in_context, self.options, args, kwargs)
            return mapped
        call = self._prepare(args, kwargs)
        comm, batch = call.comm, call.batch
        inputs: Sequence[Any] | None = call.shards
        if debugging():
            self._check_replicated(call, _whole(call, kwargs))
        in_files = inputs is None or self.options.out is not None
        if in_files and call.traced:
            raise ValueError(
                "no gradient flows through a map over files or into them: detach the inputs that require one, "
                "or call it in torch.no_grad()"
            )
        random = None if self.options.randomness == "error" else self._random_source(call)
        opened = self._open(call, random, _whole(call, kwargs)) if in_files or self.options.progress else _NOTHING
        task, parameters = self._watch(self._task(call, random), call)
        with opened as (files, advance):
            entry = None
            followed = [x for x in call.captured if is_tracked(x)] if call.traced else []
            if inputs is None or call.traced or not batch.aligned:
                entry, inputs, moved = move_inputs(call.arrays, batch, call.unmapped, followed, call.traced, comm)
                if call.traced:
                    func = substitute(task.func, followed, moved) if followed else task.func
                    gradients = describe_gradients(call.arrays, call.unmapped, followed)
                    task = replace(task, func=func, gradients=gradients, checkpoint=self.options.checkpoint)
                    call.captured.extend(moved)  # they are watched too
            outcome, outcomes = self._run(task, call, inputs, entry, files, advance)
            outputs = outcome.outputs
            record = _record(outcome, parameters, comm)
            highest = comm.agree(record)
            # The maximum is this rank's own record unless a rank failed or has other outputs: that is quickly
            # seen.
            is_same = highest is record or highest.tobytes() == record.tobytes()
            if outputs is None or batch.root is not None or not is_same:
                try:
                    outputs = settle(
                        comm,
                        batch,
                        outcome,
                        highest,
                        functools.partial(self._compare_parameters, call, parameters),
                    )
                except BaseException:
                    # The outcome has the function's own error, whose traceback leads to this frame: they would
                    # keep each other alive, and the inputs, until the garbage collector comes.
                    del outcome, outcomes
                    raise
            if parameters.fresh and batch.root is None:  # a rank without samples has had no part in it
                parameters.remember(comm, self._unused)
            if task.by_value and entry is not None:
                outputs = agree_on_gradients(comm, outputs, outcome.tensors, batch.samples, entry.is_apart)
            written, reduced = _write(files, outputs, outcome, outcomes, call)
            shards = outcome.tensors
            if shards is None or batch.root is not None or outputs.reductions:
                shards = _complete(shards, reduced, outputs, call, is_linked=entry is not None)
        if entry is not None:
            shards = leave(entry, shards, [output.dim is None for output in outputs.each], batch.root, comm)
        if outputs.reductions:
            # After that, so that also ranks without samples make what the backward pass makes of the message.
            shards = reduce_over_ranks(shards, outputs.reductions, batch.size, comm)
        arrays = [_wrap(shard, layout, comm) for shard, layout in zip(shards, outputs.layouts, strict=True)]
        if written is not None:
            arrays = [
                next(written) if isinstance(output.dim, int) else x
                for x, output in zip(arrays, outputs.each, strict=True)
            ]
        return unflatten_outputs(arrays, outputs.structure)  # type: ignore[no-any-return]

    def one(self, /, *args: Any, **kwargs: Any) -> Array:
        """Map a function that has one output over the arguments, and return that itself, in no tuple.

        Parameters
        ----------
        *args : Any
            The positional arguments of the call.
        **kwargs : Any
            Its keyword arguments.

        Returns
        -------
        DNDarray or StoredArray
            The output. Called with tensors inside of a mapped function, a tensor.

        Raises
        ------
        TypeError
            If the function returns several outputs, or a dict, say.
        Exception
            What a call raises. The same on all ranks.

        Communication
        -------------
        Collective, as a call.

        Examples
        --------
        >>> import minisplit as ms
        >>> x = ms.array([[3.0, 4.0], [6.0, 8.0]], split=0)
        >>> ms.vmap(lambda row: row.norm()).one(x).tolist()
        [5.0, 10.0]
        """
        outputs: Any = self(*args, **kwargs)
        if isinstance(outputs, tuple) and len(outputs) == 1:
            outputs = outputs[0]
        if isinstance(outputs, (DNDarray, StoredArray, torch.Tensor)):
            only: Array = outputs  # type: ignore[assignment]
            return only
        several = f"a tuple of {len(outputs)}" if type(outputs) is tuple else f"a {type(outputs).__name__}"
        raise TypeError(
            f"one() is for a function that returns one tensor, but {self._name} returned {several}: "
            "call vmap(f)(...), which returns all of them"
        )

    def plan(self, /, *args: Any, **kwargs: Any) -> Plan:
        """Return what a call with these arguments will do, as data. `print` shows it as a table.

        The outputs are inferred by a run of the function on tensors without data.

        Parameters
        ----------
        *args : DNDarray, StoredArray, or nested tuples, lists and dicts of them
            The positional arguments of the call.
        **kwargs : Any
            Its keyword arguments.

        Returns
        -------
        Plan
            The layouts of inputs and outputs, and the bytes and messages of the call. Its `outputs` are None if
            the function cannot run without data.

        Raises
        ------
        TypeError
            As a call does before its first message.
        ValueError
            As a call does before its first message.

        Communication
        -------------
        Local.

        Examples
        --------
        >>> import minisplit as ms
        >>> x = ms.ones((6, 2), split=0)
        >>> plan = ms.vmap(lambda v: v.sum()).plan(x)
        >>> plan.bytes_moved, plan.samples, [output.shape for output in plan.outputs]
        (0, 6, [(6,)])
        """
        call = self._prepare(args, kwargs)
        randomness = self.options.randomness
        random = None if randomness == "error" else RandomSource(None, same=randomness == "same")
        task = self._task(call, random)
        outcome = infer(task, call.arrays, call.batch)
        size, (begin, end) = self._chunk_size(call), call.batch.samples.span(call.comm.rank)
        # "auto" until the size is measured.
        settled: Any = (size.settled(end - begin) or "auto") if isinstance(size, Tuner) else size
        by_value = task.by_value and call.traced
        labels = [str(i) for i in range(len(call.arrays))]
        if call.spec is not None:
            labels = [label for i, label in enumerate(input_labels(call.spec)) if i not in call.others]
        why_not = task.why_not(call.arrays) if isinstance(task, CompiledTask) else None
        return make_plan(self._name, call.arrays, labels, call.batch, settled, outcome, by_value, why_not)

    def _prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MappedCall:
        """Check the arguments against each other, and decide which rank gets which samples. Local."""
        arrays: Sequence[Any] = args
        spec, others = None, _NO_OTHERS
        if {*map(type, args)} != {DNDarray}:
            arrays, spec, others = flatten_inputs(args)
            if others and self.options.in_dims == SPLIT:
                # A tensor may be this rank's part or the whole, which in_dims tells, or a keyword.
                raise no_array(spec, *next(iter(others.items())))
        layouts, itemsizes, shards, traced = [], [], [], False
        place: Any = None
        # Private attributes, not properties: six calls of a property would be a large part of this function, and a
        # small mapped call takes 30 us.
        for x in arrays:
            if isinstance(x, DNDarray):
                shard = x._larray
                layouts.append(x._layout)
                itemsizes.append(shard.itemsize)
                shards.append(shard)
                traced = traced or shard.requires_grad
                where = x._comm, shard.device
            else:
                # Every rank may read any part of a file: as of a replicated array, no part of it has to move.
                layouts.append(x.layout.with_split(None))
                itemsizes.append(x.dtype.itemsize)
                where = x.comm, x.device
            place = place or where
            if where != place:  # two GPUs differ as well, but only another type of device is an error
                _check_together(arrays)
        if place is None:
            raise ValueError("a mapped function needs at least one DNDarray as a positional argument, got none")
        comm = place[0]
        unmapped = Unmapped(kwargs, others, comm) if kwargs or others else None
        in_dims: Dims | None = None
        if self.options.in_dims != SPLIT:
            key = (spec, *others, None, *[layout.ndim for layout in layouts])
            in_dims = self._in_dims.get(key)
            if in_dims is None:
                in_dims = self._in_dims[key] = flatten_in_dims(self.options.in_dims, spec, arrays, others)
        elif len(shards) < len(arrays):
            in_dims = tuple([x.split for x in arrays])
        batch = plan_batch(tuple(layouts), tuple(itemsizes), in_dims, self.options.max_imbalance)
        captured = find_captured(self.func, [] if unmapped is None else unmapped.objects)
        if not traced and unmapped is not None:
            traced = bool(unmapped.traced)
        # What goes to files needs no gradient: a trained network may be mapped into them as it is.
        if not traced and captured and self.options.out is None:
            traced = any(map(is_tracked, captured))
        if not is_plain():
            traced = traced or any(map(is_tracked, shards))
        elif not torch.is_grad_enabled():
            traced = False
        known = shards if len(shards) == len(arrays) else None
        return MappedCall(arrays, spec, others, comm, unmapped, batch, known, captured, traced)

    def _run(
        self,
        task: VmapTask,
        call: MappedCall,
        inputs: Sequence[Any],
        entry: Entry | None,
        files: FileStream | None,
        advance: Advance | None,
    ) -> tuple[Outcome, Iterator[Outcome]]:
        """Map the first block of this rank's samples; return its outcome, and an iterator for the others.

        The first block has all samples if outputs go into memory. If no rank has samples the outputs are inferred.
        Local.
        """
        batch, rank = call.batch, call.comm.rank
        if batch.size == 0:
            return infer(task, call.arrays, batch), iter(())
        begin, end = batch.samples.span(rank)
        if begin == end:
            return Outcome(), iter(())
        captured = call.captured if call.unmapped is None else [*call.captured, *call.unmapped.tensors()]
        size = self._chunk_size(call)
        if files is None:
            pieces = [(0, end - begin, inputs)]
            # Not by `run_pieces`, with which a small call, of 31 us, would take 1.3 us more. In no local variable:
            # the traceback of an error leads to this frame, and they would keep each other.
            return _with_shapes_of_samples(
                run(task, pieces, end - begin, batch, rank, size, captured, entry, advance), call
            ), iter(())
        run_pieces = functools.partial(
            run, task, batch=batch, rank=rank, chunk_size=size, captured=captured, entry=entry, advance=advance
        )
        outcomes = files.outcomes(inputs, run_pieces)
        return next(outcomes), outcomes

    @contextmanager
    def _open(
        self, call: MappedCall, random: RandomSource | None, kwargs: dict[str, Any]
    ) -> Iterator[tuple[FileStream | None, Advance | None]]:
        """Open the files of a call, if it has any, and the bar. Collective if outputs go to files."""
        comm, out = call.comm, self.options.out
        with ExitStack() as stack:
            advance, files = None, None
            begin, end = call.batch.samples.span(comm.rank)
            if self.options.progress and comm.rank == 0 and begin < end and is_on_terminal():
                advance = stack.enter_context(draw_bar(end - begin, self._name))
            if call.shards is None or out is not None:
                # A graph would keep every block in memory.
                stack.enter_context(torch.no_grad())
                sink = None
                if out is not None:
                    sink = open_sink(out, comm, self._identify(call, random, kwargs), self.options.resume)
                    stack.enter_context(closing(sink))
                files = FileStream(call.batch, self.options.chunk_size, sink, comm, advance)
                stack.enter_context(closing(files))
            yield files, advance

    def _identify(self, call: MappedCall, random: RandomSource | None, kwargs: dict[str, Any]) -> str:
        """A text that differs between calls whose outputs differ."""
        options = self.options._replace(
            resume=False, progress=False, chunk_size=None, memory_budget=None, compile=False
        )
        inputs = ", ".join(f"{x.dtype} {x.shape}" for x in call.arrays)
        digests = ", ".join(f"{number:x}" for number in fingerprint(self.func, kwargs))
        drawn = "" if random is None else f", drawing by {random.key}"
        return f"{self._name} [{digests}] of {inputs}, {options}{drawn}"

    def _random_source(self, call: MappedCall) -> RandomSource:
        """From what the function's random functions take their numbers in this call. Local."""
        # Also without samples: the number of calls so far must not depend on the data.
        key = default.next_key(call.comm)
        samples = call.batch.samples
        same = self.options.randomness == "same"
        return RandomSource(mapped_key(key) if samples.size else None, same, samples.span(call.comm.rank)[0])

    def _task(self, call: MappedCall, random: RandomSource | None) -> VmapTask:
        """What is to be run. Local."""
        if random is not None or call.spec is not None or call.unmapped is not None or self.options.loop:
            return self._make_task(call, random)
        key = call.batch.in_dims, call.comm.rank
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = self._make_task(call, None)
        return task

    def _make_task(self, call: MappedCall, random: RandomSource | None) -> VmapTask:
        func, in_dims, name = self._func_of_tensors(call), call.batch.in_dims, self._name
        if self.options.compile is not False:
            code = code_for(self.func, self, self._names, self.options.compile)
            return CompiledTask(
                func,
                in_dims,
                self._out_dims,
                random,
                name=name,
                code=code,
                rank=call.comm.rank,
                known=self._writes,
            )
        if not self.options.loop:
            return WritingTask(func, in_dims, self._out_dims, random, name=name, known=self._writes)
        objects = [] if call.unmapped is None else call.unmapped.objects
        generators = find_generators(self.func, objects) if random is None else ()
        return LoopTask(func, in_dims, self._out_dims, random, name=name, generators=generators)

    def _func_of_tensors(self, call: MappedCall) -> Callable[..., Any]:
        """The mapped function as one of the flat inputs' tensors, with what is not mapped in this call."""
        func, spec, unmapped = self._func_in_context, call.spec, call.unmapped
        if spec is None and unmapped is None:
            return func
        unmapped = unmapped or Unmapped({}, {}, call.comm)

        def func_of_tensors(*tensors: torch.Tensor) -> Any:
            return func(*unmapped.args(tensors, spec), **unmapped.kwargs())

        return func_of_tensors

    def _chunk_size(self, call: MappedCall) -> ChunkSize:
        """The samples of a chunk, or for "auto" the tuner of this function and kind of samples."""
        if self.options.loop:
            return 1
        if self.options.chunk_size != "auto":
            return self.options.chunk_size
        batch = call.batch
        kinds = tuple(
            (x.dtype, sample_shape(x.shape, dim), x.device.type)
            for x, dim in zip(call.arrays, batch.in_dims, strict=True)
        )
        kind = kinds, batch.in_dims, torch.is_grad_enabled(), repr(self.options.compile)
        is_captured = self.options.compile is not False or not self._names.isdisjoint(CAPTURING)
        budget = self.options.memory_budget or MEMORY_BUDGET
        return tuner_for(self.func, self, kind, budget, batch.sample_bytes, is_captured)

    def _watch(self, task: VmapTask, call: MappedCall) -> tuple[VmapTask, Parameters]:
        """The task, and the parameters of modules that it may compute with. Local."""
        given = [] if call.unmapped is None else call.unmapped.tensors()
        if not (call.captured or given) or call.comm.size == 1 or not call.batch.size or not is_plain():
            return task, NO_PARAMETERS
        every = [x for x in (*call.captured, *given) if type(x) is torch.nn.Parameter]
        # What it is given counts, as autograd may put other tensors in its place.
        parameters = Parameters(every, not_compared(call.comm, every, self._unused), set(map(id, given)))
        if parameters.fresh:
            task = replace(task, func=watched(task.func, parameters.used))
        return task, parameters

    def _compare_parameters(self, call: MappedCall, parameters: Parameters) -> None:
        """ValueError, the same on all ranks, unless they have the same parameters. Collective."""
        fresh = set(map(id, parameters.fresh))

        def counts(x: torch.Tensor) -> bool:
            return id(x) in parameters.used or (id(x) not in fresh and id(x) not in self._unused)

        def name_of(parameter: torch.Tensor) -> str:
            objects = [] if call.unmapped is None else call.unmapped.objects
            found = find_references((self._name, self.func), *objects)
            return next((f"`{each.path()}`" for each in found if each.value is parameter), "as an argument")

        check_same(call.comm, parameters.every, counts, name_of)

    def _check_replicated(self, call: MappedCall, kwargs: dict[str, Any]) -> None:
        """Compare between the ranks, in debug mode, what must be the same on all."""
        check_same_call(call.comm, self.func, kwargs)
        for i, x in enumerate(call.arrays):
            if isinstance(x, DNDarray) and x.split is None:
                with temporarily_clear_interpreter_stack():  # see `functorch.checksum`
                    call.comm.check_replicated(unwrap(x.larray), f"replicated input {i}")


def _with_shapes_of_samples(outcome: Outcome, call: MappedCall) -> Outcome:
    """The same, but that an error which may be one of shapes says what those of a sample are."""
    if outcome.failure is None:
        return outcome
    shapes = [sample_shape(x.shape, dim) for x, dim in zip(call.arrays, call.batch.in_dims, strict=True)]
    return outcome._replace(failure=with_shapes(outcome.failure, shapes))


def _record(outcome: Outcome, parameters: Parameters, comm: Communication) -> Record:
    """What this rank puts into the agreement, also about parameters that are not compared yet. Local."""
    if outcome.outputs is None:
        return failure_record(comm, outcome.failure)
    number = parameters.fingerprint() if parameters.fresh else 0
    return outcome.outputs.record_with(number) if number else outcome.outputs.record


def _whole(call: MappedCall, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments, and under a name that none has, what is no array among the positional ones."""
    return {**kwargs, "": [*call.others.values()]} if call.others else kwargs


def _check_together(arrays: Sequence[DNDarray | StoredArray]) -> None:
    """ValueError where the inputs differ in communicator, or in the type of their device."""
    comm, device = arrays[0].comm, arrays[0].device
    for i, x in enumerate(arrays):
        if x.comm is not comm:
            raise ValueError(
                f"all inputs must be on one communicator: input 0 is on one of {comm.size} ranks, "
                f"input {i} on another of {x.comm.size}; give both the same comm="
            )
        if x.device.type != device.type:
            raise ValueError(f"all inputs must be on one device: input 0 is on {device}, input {i} on {x.device}")


def _write(
    files: FileStream | None, outputs: Outputs, outcome: Outcome, outcomes: Iterator[Outcome], call: MappedCall
) -> tuple[Iterator[Any] | None, Sequence[torch.Tensor]]:
    """See `FileStream.write`. Without files to write there is nothing. Collective if there are."""
    if files is None or files.sink is None:
        return None, ()
    return files.write(outputs, outcome, outcomes, call.arrays[0].device)


def _complete(
    tensors: Sequence[torch.Tensor] | None,
    reduced: Sequence[torch.Tensor],
    outputs: Outputs,
    call: MappedCall,
    is_linked: bool,
) -> list[torch.Tensor]:
    """This rank's shard of each output, where some ranks have no samples, all have none, or outputs are reduced.

    `reduced` is what this rank gives to the reduced outputs, if it is not among its `tensors`.


    Collective where ranks without samples get a replicated output, unless `leave` gives it: one broadcast for
    each.
    """
    comm, root, device = call.comm, call.batch.root, call.arrays[0].device
    reductions = {output.place: output for output in outputs.reductions}
    shards = []
    for i, (output, layout) in enumerate(zip(outputs.each, outputs.layouts, strict=True)):
        if tensors is not None:
            x = tensors[i]
        elif i in reductions:
            x = reductions[i].of_no_samples(device)
        else:
            shape = layout.lshape(comm.rank)
            x = torch.empty(shape, dtype=output.dtype, device=device, requires_grad=output.requires_grad)
        if output.dim is None and root is not None and not is_linked:
            received = comm.broadcast(x, root)
            x = x if tensors is not None else received.requires_grad_(output.requires_grad)
        shards.append(x)
    for each, x in zip(outputs.reductions, reduced, strict=False):
        shards[each.place] = x
    return shards
