"""A function that cannot be mapped, run on one sample after the other: `vmap(func, loop=True)`.

It gets plain tensors, of which it may take numbers and NumPy arrays, and it may do for one sample what it does not
do for another. All else is as in a map, with chunks of one sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from minisplit.core.collectives import Tensors
from minisplit.core.communication import inside_vmap
from minisplit.vmap.execution.collect import Mapped
from minisplit.vmap.execution.execute import VmapTask, changed_input
from minisplit.vmap.functorch import internals
from minisplit.vmap.functorch.random import bytes_of
from minisplit.vmap.pytree import flatten_outputs


@dataclass(frozen=True, slots=True)
class LoopTask(VmapTask):
    """A function of the tensors of one sample, and all that a `VmapTask` has.

    `generators` are those that the function refers to. Without `random` it must not draw from them, nor from
    torch's own, which is checked if there are data.
    """

    part: ClassVar[str] = "sample"
    by_value: ClassVar[bool] = True

    generators: tuple[torch.Generator, ...] = ()
    has_data: bool = True

    def without_data(self) -> LoopTask:
        """The same for tensors without data, in which the states of generators have none either."""
        return replace(self, has_data=False)

    def run(self, tensors: Tensors, samples: int, start: int = 0) -> Mapped:
        """Run the function on one sample, local number `start`. See `VmapTask.run`."""
        # Copies, since the function may write into them as NumPy arrays, which no tensor tells of.
        singles = [
            x if dim is None else x.select(dim, 0).clone(memory_format=torch.contiguous_format)
            for x, dim in zip(tensors, self.in_dims, strict=True)
        ]
        in_func = inside_vmap.begin()
        try:
            with self._drawing(start, singles[0].device):
                returned = self.func(*singles)
        finally:
            inside_vmap.end(in_func)
        for i, (x, dim) in enumerate(zip(singles, self.in_dims, strict=True)):
            if dim is not None and not x.is_inference() and x._version:
                raise changed_input(i)
        leaves, structure = flatten_outputs(returned)
        dims = self.out_dims.known.get((structure, *[x.ndim for x in leaves]))
        if dims is None:
            dims = self.out_dims.flatten(structure, leaves)
        outputs = [
            x if dim is None else x.unsqueeze(0 if isinstance(dim, str) else dim)
            for x, dim in zip(leaves, dims, strict=True)
        ]
        return Mapped(outputs, dims, structure)

    def _drawing(self, start: int, device: torch.device) -> AbstractContextManager[None]:
        """What torch's random functions do while the function runs on a sample."""
        own = [torch.default_generator]
        if device.type == "cuda":
            own.append(torch.cuda.default_generators[device.index or 0])
        if self.random is not None:
            return self.random.replace_for_one(start, internals.levels(), own)
        return refuse_random_functions([*own, *self.generators]) if self.has_data else nullcontext()


@contextmanager
def refuse_random_functions(generators: Sequence[torch.Generator]) -> Iterator[None]:
    """RuntimeError, as in a map, if one of these generators is drawn from within a `with` block."""
    before = [generator.get_state() for generator in generators]
    as_bytes = list(map(bytes_of, before))
    drawn_from = []
    try:
        yield
    finally:
        for generator, state, known in zip(generators, before, as_bytes, strict=True):
            if bytes_of(generator.get_state()) != known:
                generator.set_state(state)
                drawn_from.append(generator)
    if drawn_from:
        raise RuntimeError(
            "vmap: called random operation while in randomness error mode: func has drawn from a generator of "
            "torch, and would draw other numbers on another number of ranks"
        )
