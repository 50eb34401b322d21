"""`StoredArray`: an array in a file, of which ranks read what they need; and where a map writes its outputs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from minisplit.core.array import DNDarray
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication
from minisplit.core.devices import cpu
from minisplit.core.layout import Layout

# One slice per axis, with its start and its stop, as `Layout.box` gives it.
Box = tuple[slice, ...]


class Reader(Protocol):
    """One array of one file, opened on this rank. Local."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> torch.dtype: ...
    def read(self, box: Box) -> torch.Tensor:
        """That part of it, as a contiguous CPU tensor in native byte order; nothing else is read."""

    def close(self) -> None: ...


class StoredArray:
    """An array in a file: shape, dtype and layout as a `DNDarray` has them, but its elements stay where they are.

    Made by `minisplit.open`. `minisplit.vmap` maps over it block by block, so that it may be larger than memory.
    Attributes and `repr` never communicate.
    """

    __slots__ = ("__weakref__", "comm", "dataset", "dtype", "layout", "path", "reader")

    def __init__(
        self,
        reader: Reader,
        layout: Layout,
        comm: Communication,
        path: Path,
        dataset: str | None,
        dtype: torch.dtype,
    ) -> None:
        self.reader = reader
        self.layout = layout
        self.comm = comm
        self.path = path
        self.dataset = dataset
        self.dtype = dtype
        weakref.finalize(self, reader.close)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the global array."""
        return self.layout.shape

    @property
    def split(self) -> int | None:
        """The axis along which the ranks share it, which `vmap` maps over; None: each rank has all of it."""
        return self.layout.split

    @property
    def counts(self) -> tuple[int, ...] | None:
        """Indices of the split axis per rank; None without a split."""
        return self.layout.counts

    @property
    def device(self) -> torch.device:
        """Where what is read goes: the CPU."""
        return cpu

    @property
    def ndim(self) -> int:
        return self.layout.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.layout.size

    @property
    def nbytes(self) -> int:
        """Bytes that all elements take in memory, counted once."""
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        dataset = "" if self.dataset is None else f", dataset {self.dataset!r}"
        return f"<StoredArray {self.layout}, {self.dtype}, in {self.path.name}{dataset}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Only what is not there comes here."""
            hint = f"; load().{name} is that of the array in memory" if hasattr(DNDarray, name) else ""
            raise AttributeError(f"'StoredArray' object has no attribute {name!r}{hint}", name=name, obj=self)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a 0-d array has no length")
        return self.shape[0]

    def read(self, box: Box) -> torch.Tensor:
        """A part of the global array, from the file. Local."""
        return self.reader.read(box).to(self.dtype)

    def load(self) -> DNDarray:
        """The array in memory: each rank reads its shard. Collective, by one small message.

        Raises on all ranks what any rank's file system raises.
        """
        with agreement(self.comm, f"reading {self.path.name}"):
            shard = self.read(self.layout.box(self.comm.rank))
        return DNDarray(shard, self.layout, self.comm)


class Sink(Protocol):
    """Where the outputs of a map go, a block of samples after the other."""

    def done(self) -> Sequence[tuple[int, int]]:
        """From which global samples to which there is nothing left to compute. Local."""

    def create(
        self, layouts: Sequence[Layout], dtypes: Sequence[torch.dtype], names: Sequence[str], block: int
    ) -> None:
        """Make room for outputs that come in blocks of so many samples. Collective; raises alike on all ranks."""

    def write(self, output: int, box: Box, part: torch.Tensor) -> None:
        """Put a part of an output in its place. Local."""

    def record(self, start: int, stop: int) -> None:
        """Take note that everything of these global samples has been written. Local."""

    def finish(self) -> Sequence[Any]:
        """The outputs, complete. Collective; raises the same on all ranks."""

    def close(self) -> None:
        """Give back what the sink holds, also where the map has failed. Local."""


# From paths, the communicator, what tells one job from another, and whether to go on with an interrupted one.
Opener = Callable[[Any, Communication, str, bool], Sink]
_openers: list[Opener] = []


def set_sink_opener(opener: Opener) -> None:
    """Set what `open_sink` calls: the package that knows files stands above the one that maps."""
    _openers[:] = [opener]


def open_sink(out: Any, comm: Communication, job: str, resume: bool) -> Sink:
    """A sink for files. Collective."""
    return _openers[0](out, comm, job, resume)
