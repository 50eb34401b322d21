"""A mapped function that `torch.compile` has compiled: `vmap(func, compile=True)`.

What is compiled is all that a rank runs, `torch.vmap` of the function, so that its operations become few loops
over all samples of a chunk. Compiled code is for one kind of samples, of any number: their axis is marked as one whose
extent changes, and a single sample, for which torch would compile anew, is mapped twice.

Whatever fails in compiled code is run again as it is written. So errors are those of the function, and what cannot
be compiled has the right answer. Random functions cannot: they would draw from torch's generator.
"""

from __future__ import annotations

import inspect
import re
import threading
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from minisplit.core.collectives import Tensors
from minisplit.core.communication import inside_vmap
from minisplit.core.error_text import said_by
from minisplit.core.performance_warning import warn_of_performance
from minisplit.core.pytorch.transforms import is_plain
from minisplit.vmap.batch import Dims, sample_shape
from minisplit.vmap.execution.autotune import entries_of
from minisplit.vmap.execution.collect import Mapped
from minisplit.vmap.execution.execute import VmapTask
from minisplit.vmap.pytree import flatten_outputs

# How many kinds of samples, and of numbers that the function uses, are compiled for one function. torch's own
# limit, 8, is for functions that are compiled by mistake for each value of something.
_MOST_KINDS = 64
# torch compiles in one thread at a time, and ranks may be threads.
_lock = threading.RLock()


class Code:
    """What `torch.compile` has made of one function.

    `refused` says for which kinds of samples it makes nothing, and why.
    """

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        limit: dict[str, Any] = {}
        if "recompile_limit" in inspect.signature(torch.compile).parameters:
            limit["recompile_limit"] = _MOST_KINDS
        # torch keeps what it compiles with the code of a Python function, so that each mapped function needs a
        # function of its own, of another code: this one, under another name.
        code = _map.__code__.replace(co_name=f"vmap of {name}")
        wrapper = types.FunctionType(code, globals())
        # Not `dynamic=None`: then a second shape of samples, or a second number by keyword, would make slower code
        # for any shape. The axis of the samples is marked.
        self.function: Callable[..., Any] = torch.compile(
            wrapper, fullgraph=True, dynamic=False, **limit, **options
        )
        self.refused: dict[object, str] = {}


def _map(func: Callable[..., Any], in_dims: Dims, tensors: list[torch.Tensor]) -> Any:
    """What is compiled. "error" in any case: compiled code would draw from torch's generator."""
    return torch.vmap(func, in_dims, 0, "error")(*tensors)


# By function, and then by the options of torch.compile. An entry goes with its function, to which nothing that
# torch keeps refers but weakly.
_codes: weakref.WeakKeyDictionary[object, dict[object, Code]] = weakref.WeakKeyDictionary()


def code_for(func: Callable[..., Any], owner: object, options: bool | dict[str, Any]) -> Code:
    """The compiled code of a function, the same in every call. It is kept as long as the function lives."""
    codes = entries_of(_codes, func, owner)
    given = options if isinstance(options, dict) else {}
    key = repr(given)
    if key not in codes:
        codes[key] = Code(getattr(func, "__name__", type(func).__name__), given)
    return codes[key]


@dataclass(frozen=True, slots=True)
class CompiledTask(VmapTask):
    """What a `VmapTask` has, and the compiled code of its function. `rank` is this one."""

    code: Code = field(kw_only=True)
    rank: int = field(kw_only=True)

    def without_data(self) -> VmapTask:
        """The same for tensors without data, which are not worth compiling for."""
        return VmapTask(self.func, self.in_dims, self.out_dims, self.random, self.gradients)

    def why_not(self, tensors: Tensors) -> str:
        """Why samples of the kind in `tensors`, or arrays, have no compiled code, as far as is known; else ""."""
        return self.code.refused.get(self._kind(tensors), "") if self.code.refused else ""

    def run(self, tensors: Tensors, samples: int, start: int = 0) -> Mapped:
        """Map over all of that many samples. See `VmapTask.run`."""
        if (self.code.refused and self._kind(tensors) in self.code.refused) or (
            # A sample that is there twice would add its gradient of zero, which is NaN where a derivative is
            # infinite, to that of what all samples share.
            samples == 1 and torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
        ):
            return VmapTask.run(self, tensors, samples, start)
        if not is_plain():
            self._warn("transforms of torch.func, or forward mode, around the call have to see its operations")
            return VmapTask.run(self, tensors, samples, start)
        try:
            return self._run_compiled(tensors, samples, start)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever it is, the function may not have raised it
            mapped = VmapTask.run(self, tensors, samples, start)
            why = _reason(error)
        self.code.refused[self._kind(tensors)] = why
        self._warn(why)
        return mapped

    def _run_compiled(self, tensors: Tensors, samples: int, start: int) -> Mapped:
        inputs = [
            x if dim is None else _prepared(x, dim, samples) for x, dim in zip(tensors, self.in_dims, strict=True)
        ]
        in_func = inside_vmap.begin()
        try:
            with _lock:
                returned = self.code.function(self.func, self.in_dims, inputs)
        finally:
            inside_vmap.end(in_func)
        leaves, structure = flatten_outputs(returned)
        dims = self.out_dims.known.get((structure, *[x.ndim - 1 for x in leaves]))
        if dims is None:
            dims = self.out_dims.flatten(structure, [x[0] for x in leaves])
        outputs = [x.narrow(0, 0, 1) for x in leaves] if samples == 1 else list(leaves)
        same: list[torch.Tensor] = []
        for i, dim in enumerate(dims):
            if dim is None:
                # The values must be the same on all ranks, to the last bit, and on some they may not be compiled.
                one = [
                    x if axis is None else x.narrow(axis, 0, 1)
                    for x, axis in zip(tensors, self.in_dims, strict=True)
                ]
                same = same or VmapTask.run(self, one, 1, start).outputs
                outputs[i] = same[i]
            elif isinstance(dim, int) and dim:
                outputs[i] = outputs[i].movedim(0, dim)
        return Mapped(outputs, dims, structure)

    def _kind(self, tensors: Tensors) -> object:
        """What kind of samples there are in some tensors, or arrays."""
        return self.in_dims, *[
            (x.dtype, sample_shape(x.shape, dim)) for x, dim in zip(tensors, self.in_dims, strict=True)
        ]

    def _warn(self, why: str) -> None:
        warn_of_performance(f"compile= of vmap compiles nothing here: {why}. It runs as it is written", self.rank)


def _prepared(x: torch.Tensor, dim: int, samples: int) -> torch.Tensor:
    """A mapped input as compiled code takes it: for any number of samples."""
    # The strides of what is not contiguous would be compiled in.
    if samples == 1:
        x = torch.cat([x, x], dim)
    elif not x.is_contiguous():
        x = x.contiguous()
    else:  # marks are attributes of a tensor, and this one may be the program's
        x = x.view_as(x) if x.requires_grad else x.detach()
    # As `torch._dynamo.maybe_mark_dynamic` does.
    x._dynamo_weak_dynamic_indices = {dim}  # type: ignore[attr-defined]
    return x


def _reason(error: BaseException) -> str:
    """What keeps torch from compiling a function: which rule was broken, and at which line of it."""
    text = said_by(error)
    if "random operation while in randomness error mode" in text:
        return "it draws random numbers, and compiled code would not draw those that are the same on any ranks"
    if "InvalidCxxCompiler" in text:
        return (
            "there is no C++ compiler: install one (apt install g++, dnf install gcc-c++, conda install "
            "cxx-compiler, xcode-select --install), or set CXX to the one that there is"
        )
    if "recompile_limit" in text:
        return (
            f"it is compiled for {_MOST_KINDS} kinds of samples and numbers already: pass numbers that change "
            "from call to call as tensors of no axis"
        )
    rule = text.partition("\n")[0]
    explained = re.search(r"Explanation: (.+)", text)
    lines = re.findall(r'File "(.+)", line (\d+), in .+\n +(.+)', text)
    said = f"{type(error).__name__}: {rule}" + (f": {explained[1]}" if explained else "")
    return f"{said} ({lines[-1][0]}, line {lines[-1][1]}: {lines[-1][2]})" if lines else said
