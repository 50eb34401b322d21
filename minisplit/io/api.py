"""`load`, `save`, `datasets`: what all formats have in common."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any, Literal

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication, sanitize_comm
from minisplit.core.devices import Device, sanitize_device
from minisplit.core.dtypes import sanitize_dtype
from minisplit.core.layout import Layout
from minisplit.io.append import extend, find
from minisplit.io.atomic import replacing
from minisplit.io.collective import Path, check_same, checked, opened, read_part, write_parts
from minisplit.io.formats.base import path_of
from minisplit.io.formats.registry import format_of


def load(
    path: Path,
    dataset: str | None = None,
    *,
    split: int | None = 0,
    counts: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
    device: Device = None,
    comm: Communication | None = None,
    format: str | None = None,
    **options: Any,
) -> DNDarray:
    """Load an array from a file, of which each rank reads only its part. Collective.

    The end of the name, or `format`, tells the format: `npy`, `hdf5`, `zarr`, `safetensors`, `csv`, `parquet`.

    dataset: the name of an array in a file that has several, or of a column, which makes an array of one axis;
        None is the only array there, or the whole table.
    split, counts: how the array is cut, by default along axis 0 with the default counts. `split=None` replicates
        it; so is an array without axes. Any number of ranks may load what any other number saved.
    dtype: None is that of the file; for CSV, which has none, float64. Big-endian numbers, Fortran order, chunks
        and compression need no mention.
    options: `sep` for CSV, the character between its columns.

    Raises the same on all ranks, before there is an array: OSError for a file that is missing or cannot be read
    on some rank; ValueError, or the OSError of h5py, for one that is truncated, of another format, or not the same
    on all ranks; KeyError or ValueError, listing what is there, for a dataset that is not, or is not named;
    TypeError for what are no numbers (nothing is ever unpickled); ModuleNotFoundError where the packages of
    `pip install "minisplit[files]"` are missing.

    >>> import minisplit as ms, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = ms.MPI_WORLD.broadcast_bytes(folder.encode()).decode() + "/x.npy"
    ...     ms.save(ms.arange(6, split=0), path)
    ...     x = ms.load(path, dtype=ms.float32)
    >>> x.split, x.tolist()
    (0, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    """
    comm = sanitize_comm(comm)
    with ExitStack() as stack:
        with agreement(comm, f"opening {path}"):
            place, wanted = sanitize_device(device), sanitize_dtype(dtype)
            reader = stack.enter_context(closing(opened(path, dataset, format, wanted, options)))
        check_same(comm, reader)
        layout = Layout(reader.shape, split if reader.shape else None, comm.size)
        if counts is not None:
            layout = layout.with_counts(counts)
        placed = reader.placed(layout)
        with agreement(comm, f"reading its part of {path}"):
            shard = read_part(reader, placed.box(comm.rank), wanted or reader.dtype, place)
    return DNDarray(shard, placed, comm).to_layout(layout)


def save(
    x: DNDarray,
    path: Path,
    dataset: str | None = None,
    *,
    mode: Literal["w", "a", "extend"] = "w",
    dtype: torch.dtype | None = None,
    format: str | None = None,
    **options: Any,
) -> None:
    """Save an array to a file, to which all ranks write their parts. Collective.

    The end of the name, or `format`, tells the format, as for `load`. The file is written beside `path`, handed to
    the disk and renamed: whatever happens, there is the whole old file, or the whole new one.

    dataset: the name of the array in the file; by default "data" (HDF5, safetensors) or none (Zarr). Of a
        table it names the only column.
    mode: "w" makes a new file; "a" adds the dataset to the file, or replaces that of its name, and keeps the
        others (HDF5, safetensors, Zarr). HDF5 and safetensors files are copied for that. "extend" adds the rows of
        `x`, its slices along axis 0, behind those of the dataset, in its dtype, or makes it if there is none. npy
        files grow in place, Zarr and Parquet by files beside those that are there; others are copied.
    dtype: what to save it as; None is its own. Only safetensors has bfloat16; tables have no complex numbers.
    options: those of `h5py.Group.create_dataset`, as `compression`, with which the ranks write in turns, and of
        `zarr.create_array`, as `chunks`; for CSV and Parquet `columns`, their names, for CSV `sep`.

    Of a replicated array rank 0 writes all. Raises the same on all ranks, and leaves no part of a file: OSError
    where the disk is full or the file cannot be written, TypeError for a dtype that the format has not, ValueError
    for a shape or a name that cannot be.

    >>> import minisplit as ms, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = ms.MPI_WORLD.broadcast_bytes(folder.encode()).decode() + "/x.safetensors"
    ...     ms.save(ms.ones((2, 3), split=1), path, "a")
    ...     ms.save(ms.zeros(2), path, "b", mode="a")
    ...     sorted(ms.datasets(path))
    ['a', 'b']
    """
    x, name = as_dndarray(x), path_of(path)
    row = checked(format_of(name, format), dataset)
    if mode not in {"w", "a", "extend"}:
        raise ValueError(
            f"mode must be 'w' (a new file), 'a' (add a dataset to the file) or 'extend' (add rows to a dataset), "
            f"got {mode!r}"
        )
    kind, how = sanitize_dtype(dtype) or x.dtype, str(mode)
    if mode == "extend":
        how, dataset = find(x.comm, row, name, dataset)
    if how == "a" and not row.adds:
        raise ValueError(f"mode 'a' adds a dataset to a file, but to {row.name} files none can be added")
    if how == "a" and row.folders and dataset is None:
        raise ValueError(f"mode 'a' adds a dataset to {name}: give its name, dataset=")
    if x.split is None:
        x.comm.check_replicated(x.larray, "the replicated array to save")
    x = DNDarray(x.larray.detach(), x.layout, x.comm)
    if how == "extend":
        extend(x, kind, row, name, dataset, options)
        return
    if mode == "extend":
        options = row.extensible(x.layout, kind, options)
    layout = row.placed(x.layout, kind, options)
    x, copied = x.to_layout(layout), how == "a"
    if copied and row.folders and dataset is not None:
        folder = row.folder(name, dataset)
        with agreement(x.comm, f"adding {dataset!r} to {name}"):
            if x.comm.rank == 0:
                row.add(name, dataset)
        name, dataset, copied = folder, None, False
    with replacing(x.comm, name, row.check_old, copied=copied) as beside:
        with agreement(x.comm, f"making {name}"):
            if x.comm.rank == 0:
                row.create(beside, dataset, layout, kind, options)
        write_parts(x, kind, row, beside, dataset, options)


def datasets(path: Path, *, format: str | None = None, comm: Communication | None = None) -> list[str]:
    """List the datasets of a file by their names, as rank 0 finds them; the columns of a table. Collective.

    [""] for a file with one array that has no name. Raises as `load` does, on all ranks.

    >>> import minisplit as ms, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = ms.MPI_WORLD.broadcast_bytes(folder.encode()).decode() + "/x.npy"
    ...     ms.save(ms.zeros(3), path)
    ...     ms.datasets(path)
    ['']
    """
    comm = sanitize_comm(comm)
    told = b""
    with agreement(comm, f"listing {path}"):
        name = path_of(path)
        row = format_of(name, format)
        if comm.rank == 0:
            told = json.dumps(row.names(name)).encode()
    names: list[str] = json.loads(comm.broadcast_bytes(told))
    return names
