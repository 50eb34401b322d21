"""Arrays that stay in their file, and where a mapped call writes outputs that are not to be in memory.

`minisplit.vmap` reads and writes files through the classes here. The package `minisplit.io`, which knows the
formats of files, stands above it, and gives these classes their implementations.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import torch

from minisplit.core.array import DNDarray
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.core.pytorch.devices import cpu

# So many bytes are read from a file that has few, and otherwise this many times what it has: more than gzip, with
# its factor of 1,000, and zstd make of one value.
_CERTAIN, _MOST_EXPANSION = 2**30, 2**16
# One slice per axis, with its start and its stop, as `Layout.box` returns it.
Box = tuple[slice, ...]


class Reader:
    """One dataset of one file, opened on this rank. A format of files subclasses it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    # The file or folder, and another text for another version of it: by that ranks notice that some have opened
    # the old file, and some that which has replaced it.
    path: str
    version: str

    def description(self) -> str:
        """Return a text that is the same where ranks have opened the same array."""
        return f"{self.shape} {self.dtype}"

    def build_index(self, comm: Communication) -> None:
        """Find out with the other ranks where the rows are, and with that `shape`. Collective.

        Formats with a header know both when they are opened, so for them there is nothing to do.
        """

    def read_layout(self, layout: Layout) -> Layout:
        """Return the layout in which ranks best read an array that is to have `layout`: in long pieces. Pure."""
        return layout

    def read(self, box: Box) -> torch.Tensor:
        """Return a part as a contiguous CPU tensor in native byte order. Nothing else is read. Local."""
        raise NotImplementedError

    def stored_bytes(self) -> int | None:
        """Return how many bytes the file has of the array; None where it has all of them. Local."""
        return None

    def check_size(self, nbytes: int, what: str) -> None:
        """Raise ValueError if the file has too little for so many bytes, before memory is taken for them. Local.

        Otherwise a file of 1 kB that tells of 1 TiB, as HDF5 and Zarr files may, would end the job.
        """
        if nbytes <= _CERTAIN or (stored := self.stored_bytes()) is None or nbytes <= _MOST_EXPANSION * stored:
            return
        raise ValueError(
            f"{what} is to be of {nbytes} bytes, but its file has only {stored}, which are too few, however they "
            "are compressed; if nearly all its values are equal, map over it in blocks: vmap(...)(open(path))"
        )

    def close(self) -> None:
        """Close the file. Local."""


@dataclass(eq=False, repr=False, slots=True, weakref_slot=True)
class StoredArray:
    """An array that stays in its file: `minisplit.vmap` maps over it block by block.

    It has shape, dtype and layout as a `DNDarray` has them, and may be larger than memory. `minisplit.open` makes
    it, and so does a mapped call with `out=`. The parameters are its attributes. These, and `repr`, are local.

    Parameters
    ----------
    reader : Reader
        The opened dataset. It is closed with the last reference to the array.
    layout : Layout
        Which rank maps over, and loads, which part.
    comm : Communication
        The ranks that share the array.
    path : pathlib.Path
        The file.
    dataset : str or None
        The name of the array in the file; None where it needs none.
    dtype : torch.dtype
        What elements are converted to as they are read.

    See Also
    --------
    minisplit.open : Open an array in a file.
    """

    reader: Reader
    layout: Layout
    comm: Communication
    path: Path
    dataset: str | None
    dtype: torch.dtype

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise TypeError: NumPy would take it for one object."""
        raise TypeError(
            f"{self.path} stays in its file: x.load() is a DNDarray, and np.asarray of that gathers it"
        )

    def __array_function__(self, func: Any, *_: Any) -> NoReturn:
        """Raise TypeError for functions of NumPy."""
        raise TypeError(
            f"numpy.{func.__name__} takes no array that stays in its file: x.load() is a DNDarray, for which "
            f"minisplit.{func.__name__} is there if minisplit has it"
        )

    __array_ufunc__ = None

    def __post_init__(self) -> None:
        # The array has no `close`, as it is used like any other one: its file is closed when nobody can read it.
        weakref.finalize(self, self.reader.close)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the global array."""
        return self.layout.shape

    @property
    def split(self) -> int | None:
        """The axis along which the ranks share it, which `vmap` maps over; None where each rank has all of it."""
        return self.layout.split

    @property
    def counts(self) -> tuple[int, ...] | None:
        """How many indices of the split axis each rank has; None without a split."""
        return self.layout.counts

    @property
    def device(self) -> torch.device:
        """The device of what is read: the CPU."""
        return cpu

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.layout.ndim

    @property
    def size(self) -> int:
        """Number of elements of the global array."""
        return self.layout.size

    @property
    def nbytes(self) -> int:
        """Bytes that all elements take in memory, counted once."""
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        dataset = "" if self.dataset is None else f", dataset {self.dataset!r}"
        return f"<StoredArray {self.layout}, {self.dtype}, in {self.path.name}{dataset}>"

    # Hidden from type checkers, which otherwise accept any attribute.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError; Python calls this for attributes that do not exist only."""
            hint = f"; load().{name} is that of the array in memory" if hasattr(DNDarray, name) else ""
            raise AttributeError(f"'StoredArray' object has no attribute {name!r}{hint}", name=name, obj=self)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a 0-d array has no length")
        return self.shape[0]

    def read(self, box: Box) -> torch.Tensor:
        """Read a part of the global array from the file.

        Parameters
        ----------
        box : tuple of slice
            A slice for each axis, with a start and a stop. It may reach over the parts of several ranks.

        Returns
        -------
        torch.Tensor
            The part, on the CPU, in the dtype of the array.

        Communication
        -------------
        Local.
        """
        size = math.prod(span.stop - span.start for span in box)
        self.reader.check_size(size * self.reader.dtype.itemsize, self.path.name)
        return self.reader.read(box).to(self.dtype)

    def load(self) -> DNDarray:
        """Load the array into memory: each rank reads its part.

        Returns
        -------
        DNDarray
            The array in the same layout, on the CPU.

        Raises
        ------
        OSError
            On all ranks, if the file cannot be read on any.

        Communication
        -------------
        Collective: one small message.
        """
        # A disk may fail under one rank alone, while the others would wait in the next collective call.
        with agreement(self.comm, f"reading {self.path.name}"):
            shard = self.read(self.layout.box(self.comm.rank))
        return DNDarray(shard, self.layout, self.comm)


class Sink(Protocol):
    """Where the outputs of a mapped call go, block by block, a block being some consecutive samples."""

    def done(self) -> Sequence[tuple[int, int]]:
        """Return ranges of global samples, (start, stop), whose outputs are there already. Local."""

    def create(
        self, layouts: Sequence[Layout], dtypes: Sequence[torch.dtype], names: Sequence[str], block: int
    ) -> None:
        """Make room for outputs that come in blocks of `block` samples. Collective, as are its errors."""

    def write(self, output: int, box: Box, part: torch.Tensor) -> None:
        """Write a part of the output with this number to its place. Local."""

    def record(self, start: int, stop: int, reduced: Sequence[torch.Tensor] = ()) -> None:
        """Note that all outputs of these global samples have been written. Local.

        `reduced` are those that are reduced over the samples, of all that this rank has recorded in this call.
        """

    def reduced(self) -> Sequence[Sequence[torch.Tensor]]:
        """Return what interrupted calls have recorded of outputs that are reduced: several to be merged. Local.

        Rank 0 has all of it.
        """

    def finish(self) -> Sequence[Any]:
        """Return the outputs, complete. Collective, as are its errors."""

    def close(self) -> None:
        """Close what is open, also after the mapped call has failed. Local."""


# What `open_sink` calls, with the same arguments. `minisplit.io` sets it when it is imported: `minisplit.vmap`,
# which calls `open_sink`, stands below that package and so cannot import it.
sink_opener: Callable[[Any, Communication, str, bool], Sink] | None = None


def open_sink(out: Any, comm: Communication, job: str, resume: bool) -> Sink:
    """Return a sink that writes to the files `out`, paths in the structure of the outputs. Collective.

    `job` is a text that is another one for another function or other inputs. With `resume` the sink goes on where
    an interrupted call with the same text stopped.
    """
    assert sink_opener is not None, "minisplit.io was imported"
    return sink_opener(out, comm, job, resume)
