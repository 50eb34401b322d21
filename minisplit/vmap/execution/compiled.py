"""A mapped function that `torch.compile` has compiled: `vmap(func, compile=True)`.

What is compiled is all that a rank runs, `torch.vmap` of the function, so that its operations become few loops
over all samples of a chunk. Compiled code is for one kind of samples, of any number: their axis is marked as one
whose extent changes, and a single sample, for which torch would compile anew, is mapped twice.

Whatever fails in compiled code is run again as it is written. So errors are those of the function, and what cannot
be compiled has the right answer. Random functions cannot: they would draw from torch's generator.
"""

from __future__ import annotations

import inspect
import itertools
import re
import threading
import types
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from minisplit.core.array import DNDarray
from minisplit.core.collectives import Tensors
from minisplit.core.communication import inside_vmap
from minisplit.core.error_text import said_by
from minisplit.core.performance_warning import warn_of_performance
from minisplit.core.pytorch.transforms import is_plain
from minisplit.core.storage import StoredArray
from minisplit.vmap.execution.autotune import entries_of
from minisplit.vmap.execution.collect import Mapped
from minisplit.vmap.execution.execute import VmapTask
from minisplit.vmap.execution.writing import WritingTask
from minisplit.vmap.functorch import internals, rewrite
from minisplit.vmap.functorch.factories import is_refused_write
from minisplit.vmap.inputs.batch import Dims
from minisplit.vmap.pytree import Structure, flatten_outputs

# How many kinds of samples, and of numbers that the function uses, are compiled for one function. torch's own
# limit, 8, is for functions that are compiled by mistake for each value of something.
_MOST_KINDS = 16
# The most samples of a block, where torch compiles for one number of samples only.
_BLOCK = 4096
# Where one of these is in an error of torch's compiler, it may compile for one number of samples.
_ONE_NUMBER = ("ConstraintViolationError", "with symbolic sizes")
# Forward-mode derivatives, of derivatives of the other kind: torch does not compile them, and after it has tried
# it compiles nothing else any more in this thread.
_FORWARD, _REVERSE = {"hessian", "jacfwd", "jvp", "linearize"}, {"grad", "grad_and_value", "jacrev", "vjp"}
# With rounding_mode="trunc" the first are C's division of integers, as fmod is its remainder.
_DIVISIONS = {"div", "div_", "divide", "divide_", "fmod", "fmod_"}
# What conditions are about that are the same as long as nobody changes torch itself.
_OF_TORCH = (
    "G['__import_torch",
    "G['__builtins_dict",
    "G['torch']",
    "__import__('torch')",
    "list(dict.keys(__import__('torch')",
)
# Where torch and minisplit are, whose lines no program can change.
_LIBRARIES = str(Path(torch.__file__).parent), str(Path(__file__).parents[2])
# Makes the names of what is compiled different.
_numbers = itertools.count()
# torch compiles in one thread at a time, and ranks may be threads.
_lock = threading.RLock()


@dataclass(slots=True)
class Kind:
    """What is known of one kind of samples: whether there is code for it, and why not if there cannot be any.

    `size` is the number of samples of a block, where torch compiles for one number of samples only.
    """

    is_compiled: bool = False
    size: int | None = None
    why_not: str = ""


class Code:
    """What `torch.compile` has made of one function, for some kinds of samples.

    `never` says why it is not tried at all; "" if it is.
    """

    def __init__(self, name: str, names: frozenset[str], options: dict[str, Any]) -> None:
        more: dict[str, Any] = {}
        if "recompile_limit" in inspect.signature(torch.compile).parameters:
            more["recompile_limit"] = _MOST_KINDS
        if not options.get("mode"):  # torch takes either
            own = _of_the_compiler() if options.get("backend", "inductor") == "inductor" else {}
            more["options"] = {"guard_filter_fn": _of_the_program, **own, **(options.get("options") or {})}
        # torch keeps what it compiles with the code of a Python function, and what it has seen with its name. So
        # each mapped function needs one of its own: this one, under another name.
        code = _map.__code__.replace(co_name=f"vmap of {name} {next(_numbers)}")
        wrapper = types.FunctionType(code, globals())
        self.function: Callable[..., Any] = torch.compile(wrapper, fullgraph=True, **{**options, **more})
        self.direct = internals.DirectCode(wrapper)
        forward = names & _FORWARD
        self.never = ""
        if "hessian" in forward or (forward and names & _REVERSE):
            self.never = (
                f"torch does not compile forward-mode derivatives of gradients ({min(forward)}): of a function f "
                "to numbers jacrev(grad(f)) is the hessian, of any other one jacrev(jacrev(f))"
            )
        elif "cond" in names:
            self.never = "torch.cond is mapped by a rule of minisplit's own: torch.where(condition, a, b) compiles"
        elif names & _DIVISIONS:
            self.never = (
                f"compiled code would end the process where {min(names & _DIVISIONS)} divides integers by zero, "
                "which is an error: write a / b, a // b, or torch.remainder(a, b)"
            )
        # Key: mapped axes, dtypes, shapes of a sample, and what requires a gradient. It has no bound, as a
        # function is called with few kinds of samples.
        self.kinds: dict[object, Kind] = {}


def _of_the_program(guards: Sequence[Any]) -> list[bool]:
    """Which conditions to check in each call: not that functions of torch are still those that they were.

    Nor which transforms are around, of which there are none where compiled code is called.
    """
    return [
        not guard.name.startswith(_OF_TORCH) and guard.guard_type != "FUNCTORCH_STACK_MATCH" for guard in guards
    ]


def _of_the_compiler() -> dict[str, Any]:
    """Options for faster C++ code, of which some versions of torch have no others."""
    options = {
        # Where samples are read with gaps between them, as components of each, torch computes one after the other.
        # Steps of a solver take a fifth of the time if it reads them so, but computes several at once.
        "cpp.enable_tiling_heuristics": False,
        "post_grad_custom_post_pass": internals.graph_pass(rewrite.rewrite, rewrite.VERSION),
    }
    return {name: value for name, value in options.items() if name in internals.compiler_options()}


def _map(func: Callable[..., Any], in_dims: Dims, tensors: list[torch.Tensor]) -> Any:
    """What is compiled. "error" in any case: compiled code would draw from torch's generator."""
    return torch.vmap(func, in_dims, 0, "error")(*tensors)


# By function, and then by the options of torch.compile. An entry goes with its function, to which nothing that
# torch keeps refers but weakly.
_codes: weakref.WeakKeyDictionary[object, dict[object, Code]] = weakref.WeakKeyDictionary()


def code_for(
    func: Callable[..., Any], owner: object, names: frozenset[str], options: bool | dict[str, Any]
) -> Code:
    """The compiled code of a function, the same in every call. It is kept as long as the function lives.

    `names` are those in the code of the function and what it calls.
    """
    codes = entries_of(_codes, func, owner)
    given = options if isinstance(options, dict) else {}
    key = repr(given)
    if key not in codes:
        codes[key] = Code(getattr(func, "__name__", type(func).__name__), names, given)
    return codes[key]


@dataclass(frozen=True, slots=True)
class CompiledTask(WritingTask):
    """What a `WritingTask` has, and the compiled code of its function. `rank` is this one."""

    code: Code = field(kw_only=True)
    rank: int = field(kw_only=True)

    def without_data(self) -> VmapTask:
        """The same for tensors without data, which are not worth compiling for."""
        return WritingTask(
            self.func, self.in_dims, self.out_dims, self.random, self.gradients, name=self.name, known=self.known
        )

    def why_not(self, arrays: Sequence[DNDarray | StoredArray]) -> str:
        """Why samples of these arrays have no compiled code, as far as is known; else ""."""
        traced = [isinstance(x, DNDarray) and x.larray.requires_grad and torch.is_grad_enabled() for x in arrays]
        known = self.code.kinds.get(self._kind(arrays, traced))
        return self.code.never or ("" if known is None else known.why_not)

    def run(self, tensors: Tensors, samples: int, start: int = 0) -> Mapped:
        """Map over all of that many samples. See `VmapTask.run`."""
        if samples > 1 and is_plain():
            mapped = self._run_directly(tensors, samples, start)
            if mapped is not None:
                return mapped
        kinds, kind = self.code.kinds, self._kind(tensors, [x.requires_grad for x in tensors])
        known = kinds.get(kind) or Kind(why_not=self.code.never)
        # A sample that is there twice would add its gradient of zero, which is NaN where a derivative is infinite,
        # to that of what all samples share.
        is_alone = samples == 1 if known.size is None else samples % known.size
        # Samples that fill less than half of a block are mapped faster as they are.
        is_few = known.size is not None and 2 * samples < known.size
        if (known.why_not and kind in kinds) or is_few or (is_alone and self.gradients):
            return WritingTask.run(self, tensors, samples, start)
        if not is_plain():
            known = Kind(why_not="transforms of torch.func, or forward mode, around it must see its operations")
        elif not known.why_not:
            mapped, known = self._try_compiled(tensors, samples, start, known)
            if mapped is not None or known.size is not None:
                kinds[kind] = known
            if mapped is not None:
                return mapped
            if not known.why_not:  # now in blocks
                return self.run(tensors, samples, start)
        mapped = WritingTask.run(self, tensors, samples, start)  # raises what the function raises
        if is_plain():
            kinds[kind] = known
        warn_of_performance(
            f"vmap(compile=...) compiles nothing here: {known.why_not}. The function runs as it is", self.rank
        )
        return mapped

    def _run_directly(self, tensors: Tensors, samples: int, start: int) -> Mapped | None:
        """The outputs by code that is there already; None if there is none for these samples, or it fails."""
        try:
            with _lock:
                returned = self.code.direct.call(self.func, self.in_dims, list(tensors))
        except Exception:  # for which the function itself is to be asked
            return None
        return None if returned is None else self._finish(*flatten_outputs(returned), tensors, samples, start)

    def _try_compiled(self, tensors: Tensors, samples: int, start: int, known: Kind) -> tuple[Mapped | None, Kind]:
        """The outputs, or None where compiled code fails, and what is known of these samples then."""
        try:
            try:
                mapped = self._run_compiled(tensors, samples, start, known)
            except Exception:
                if not known.is_compiled:
                    raise
                # Where a number by keyword is another one, torch tries code for any number first.
                mapped = self._run_compiled(tensors, samples, start, Kind(size=known.size))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever it is, the function may not have raised it
            if known.size is None and any(sign in f"{type(error).__name__}: {error}" for sign in _ONE_NUMBER):
                return None, Kind(size=-(-samples // -(-samples // _BLOCK)))  # blocks of one size
            return None, Kind(why_not=_reason(error))
        return mapped, Kind(is_compiled=True, size=known.size)

    def _run_compiled(self, tensors: Tensors, samples: int, start: int, known: Kind) -> Mapped:
        """Map over all samples, in blocks of one size if torch can compile for that number of samples only."""
        size = known.size
        if size is None:
            inputs = [
                x if dim is None else _filled(x, dim, max(samples, 2))
                for x, dim in zip(tensors, self.in_dims, strict=True)
            ]
            if not known.is_compiled:
                inputs = [
                    x if dim is None else _marked(x, dim) for x, dim in zip(inputs, self.in_dims, strict=True)
                ]
            leaves, structure = self._call(inputs, known)
        else:
            parts = []
            for first in range(0, samples, size):
                inputs = [
                    x if dim is None else _filled(x.narrow(dim, first, min(size, samples - first)), dim, size)
                    for x, dim in zip(tensors, self.in_dims, strict=True)
                ]
                part, structure = self._call(inputs, known)
                parts.append(part)
            leaves = [torch.cat(pieces) if len(parts) > 1 else pieces[0] for pieces in zip(*parts, strict=True)]
        return self._finish(leaves, structure, tensors, samples, start)

    def _finish(
        self, leaves: Sequence[torch.Tensor], structure: Structure, tensors: Tensors, samples: int, start: int
    ) -> Mapped:
        """The outputs of compiled code, whose samples lie along axis 0, as those of `VmapTask.run`."""
        dims = self.out_dims.known.get((structure, *[x.ndim - 1 for x in leaves]))
        if dims is None:
            dims = self.out_dims.flatten(structure, [x[0] for x in leaves])
        outputs = [x if len(x) == samples else x.narrow(0, 0, samples) for x in leaves]
        if not any(dims) and None not in dims:
            return Mapped(outputs, dims, structure)
        same: list[torch.Tensor] = []
        for i, dim in enumerate(dims):
            if dim is None:
                # The values must be the same on all ranks, to the last bit, and on some they may not be compiled.
                one = [
                    x if axis is None else x.narrow(axis, 0, 1)
                    for x, axis in zip(tensors, self.in_dims, strict=True)
                ]
                same = same or WritingTask.run(self, one, 1, start).outputs
                outputs[i] = same[i]
            elif isinstance(dim, int) and dim:
                outputs[i] = outputs[i].movedim(0, dim)
        return Mapped(outputs, dims, structure)

    def _call(self, inputs: list[torch.Tensor], known: Kind) -> tuple[Sequence[torch.Tensor], Structure]:
        """Run the compiled code, or compile it. The outputs have their samples along axis 0."""
        in_func = inside_vmap.begin()
        try:
            with _lock, nullcontext() if known.is_compiled else internals.compiling():
                returned = self.code.direct.call(self.func, self.in_dims, inputs)
                if returned is None:
                    returned = self.code.function(self.func, self.in_dims, inputs)
                    self.code.direct.find()
                return flatten_outputs(returned)
        finally:
            inside_vmap.end(in_func)

    def _kind(self, tensors: Sequence[Any], traced: Sequence[bool]) -> object:
        """What kind of samples there are in tensors, or arrays, of which some require a gradient."""
        return self.in_dims, *[
            (x.dtype, requires_grad, x.shape if dim is None else x.shape[:dim] + x.shape[dim + 1 :])
            for x, requires_grad, dim in zip(tensors, traced, self.in_dims, strict=True)
        ]


def _filled(x: torch.Tensor, dim: int, samples: int) -> torch.Tensor:
    """A mapped input as compiled code takes it: contiguous, as strides are compiled in, and with enough samples.

    What is missing is the last one again: there may be errors in a sample of another kind. It is another tensor
    than the program's, also where two inputs are the same, which would be compiled in as well.
    """
    missing = samples - x.shape[dim]
    if missing:
        return torch.cat([x, *[x.narrow(dim, -1, 1)] * missing], dim)
    x = x.contiguous()
    return x if x.requires_grad else x.detach()


def _marked(x: torch.Tensor, dim: int) -> torch.Tensor:
    """The same tensor for torch's compiler, which is told that it may have any number of samples.

    Of one that begins later in its memory than others, as a part of an array, it would make code for such alone.
    """
    if x.storage_offset():
        x = x.clone(memory_format=torch.contiguous_format)
    internals.mark_dynamic(x, dim)
    return x


def _reason(error: BaseException) -> str:
    """What keeps torch from compiling a function: which rule was broken, and at which line of it."""
    text = said_by(error)
    if "random operation while in randomness error mode" in text:
        return "it draws random numbers, and compiled code would not draw those that are the same on any ranks"
    if is_refused_write(error):
        return (
            "it writes what differs between samples into a tensor that it makes: make that with zeros_like of an "
            "argument, or stack the parts"
        )
    if "InvalidCxxCompiler" in text:
        return (
            "there is no C++ compiler: install one (apt install g++, dnf install gcc-c++, conda install "
            "cxx-compiler, xcode-select --install), or set CXX to the one that there is"
        )
    if "RecompileLimit" in type(error).__name__:
        return (
            f"it is compiled for {_MOST_KINDS} kinds of samples and numbers already: pass numbers that change "
            "from call to call as tensors of no axis"
        )
    rule = re.sub(r"raised:\n", "raised ", text).partition("\n")[0]  # of a backend the next line says what
    explained = re.search(r"Explanation: (.+)", text)
    said = f"{type(error).__name__}: {rule}" + (f": {explained[1]}" if explained else "")
    # The last line that is the program's, below which are those of torch.
    lines = re.findall(r'File "(.+)", line (\d+), in .+\n +(.+)', text)
    own = [line for line in lines if not line[0].startswith(_LIBRARIES)]
    return said + "".join(f" ({file}, line {number}: {code})" for file, number, code in own[-1:])
