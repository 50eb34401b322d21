"""`load`, `save`, `datasets` and `open`, for files of all formats."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication, sanitize_comm
from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout
from minisplit.core.pytorch.devices import Device, sanitize_device
from minisplit.core.pytorch.dtypes import sanitize_dtype
from minisplit.core.storage import StoredArray
from minisplit.io.append import append_rows, find_dataset
from minisplit.io.atomic import atomic_replacement
from minisplit.io.collective import (
    check_same_dataset,
    in_one_version,
    on_rank_0,
    open_reader,
    read_part,
    write_parts,
)
from minisplit.io.files import check_regular, clear_leftovers
from minisplit.io.formats.base import Format, StrPath, Target, check_options, path_text, shown_path
from minisplit.io.formats.registry import checked_format, format_of
from minisplit.io.readers import PartReader


def load(
    path: StrPath,
    dataset: str | None = None,
    *,
    split: int | None = 0,
    counts: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
    device: Device = None,
    comm: Communication | None = None,
    format: str | None = None,
    slices: Sequence[slice | None] | None = None,
    **options: Any,
) -> DNDarray:
    """Load an array from a file; each rank reads only its part.

    Any number of ranks may load a file that any other number has saved. Big-endian numbers, Fortran order, chunks
    and compression are recognised. Nothing is ever unpickled.

    Parameters
    ----------
    path : str or os.PathLike
        The file; for Zarr, and tables in Parquet, a folder. A pattern such as `parts/*.npy` stands for several
        files as one array: their rows, in the order of the files' names.
    dataset : str, optional
        The name of an array in a file that has several, or of a column, which makes an array of one axis. By
        default the only array there, or the whole table.
    split : int or None, default 0
        The axis to split along; None replicates the array. An array without axes is replicated in any case.
    counts : sequence of int, optional
        How many indices of the split axis each rank has. By default the balanced counts.
    dtype : torch.dtype, optional
        The dtype of the array. By default that of the file. CSV has no dtype: by default it is bool if the first
        row has only True and False, and float64 otherwise.
    device : str or torch.device, optional
        The device of the array. By default the CPU.
    comm : Communication, optional
        The ranks that load. By default the communicator in use.
    format : {"npy", "hdf5", "zarr", "safetensors", "csv", "parquet"}, optional
        The format of the file. By default that of the end of its name.
    slices : sequence of slice or None, optional
        The part to load of each axis, in steps of 1. None, and missing axes, load the whole axis.
    **options : Any
        For CSV `sep`, the character between columns; `header`, whether the first line has names (by default if it
        is not all numbers); `skip_rows`, how many lines to skip before it; `header_lines`, instead of both, how
        many lines come before the numbers; `comment`, the character that begins a comment up to the end of the
        line; `na_values`, texts of cells that are NaN in addition to those of pandas; `decimal` and `thousands`,
        characters in numbers; `columns`, the names of the columns to load. For HDF5 `external=True`, for a dataset
        that reads its numbers from other files.

    Returns
    -------
    DNDarray
        The array.

    Raises
    ------
    OSError
        If the file is missing, or cannot be read, on any rank.
    ValueError
        If the file is truncated, of another format, or not the same on all ranks; if it has several arrays and
        `dataset` does not say which; if `counts` do not fit. For HDF5 files, the library raises OSError in some of
        these cases.
    KeyError
        If there is no dataset of that name. The text lists the datasets of the file.
    IndexError
        If `split` is out of range.
    TypeError
        If the file has no numbers, or for an option that the format does not have.
    ModuleNotFoundError
        If the packages of `pip install "minisplit[files]"` are missing.

    Communication
    -------------
    Collective: three small messages, for CSV five. There is one more exchange if a rank's part is many short
    pieces of the file. All ranks raise the same error, or none.

    See Also
    --------
    minisplit.open : Leave the array in its file, for `vmap` to read block by block.

    Examples
    --------
    >>> import minisplit as ms, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = ms.MPI_WORLD.broadcast_bytes(folder.encode()).decode() + "/x.npy"
    ...     ms.save(ms.arange(6, split=0), path)
    ...     x = ms.load(path, dtype=ms.float32)
    >>> x.split, x.tolist()
    (0, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    """
    comm = sanitize_comm(comm)

    def read() -> tuple[DNDarray, Layout]:
        with ExitStack() as stack:
            with agreement(comm, f"opening {shown_path(path)}"):
                to_device, to_dtype = sanitize_device(device), sanitize_dtype(dtype)
                reader = stack.enter_context(closing(open_reader(path, dataset, format, to_dtype, options)))
            check_same_dataset(comm, reader)
            with agreement(comm, f"reading its part of {shown_path(path)}"):
                if slices is not None:
                    reader = PartReader(reader, slices)
                # `split=0` is the default, so an array without axes must not be an error.
                layout = Layout(reader.shape, split if reader.shape else None, comm.size)
                if counts is not None:
                    layout = layout.with_counts(counts)
                # In this layout each rank reads few long pieces; one exchange then brings them where they belong.
                read_layout = reader.read_layout(layout)
                shard = read_part(reader, read_layout.box(comm.rank), to_dtype or reader.dtype, to_device)
        return DNDarray(shard, read_layout, comm), layout

    x, layout = in_one_version(read)
    return x.to_layout(layout)


def save(
    x: DNDarray,
    path: StrPath,
    dataset: str | None = None,
    *,
    mode: Literal["w", "a", "extend"] = "w",
    dtype: torch.dtype | None = None,
    format: str | None = None,
    **options: Any,
) -> None:
    """Save an array to one file; each rank writes its part.

    The file is written beside `path`, flushed to disk and renamed. So even after a failure there is the whole old
    file or the whole new one.

    Parameters
    ----------
    x : DNDarray
        The array. Any shape, split and counts. Rank 0 writes a replicated array.
    path : str or os.PathLike
        The file; for Zarr and Parquet it becomes a folder.
    dataset : str, optional
        The name of the array in the file; by default "data" (HDF5, safetensors) or none (Zarr). In a table it
        names the only column.
    mode : {"w", "a", "extend"}, default "w"
        "w" makes a new file. "a" adds the dataset to the file, or replaces the dataset of this name, and keeps the
        others (HDF5, safetensors, Zarr); HDF5 and safetensors files are copied for this. "extend" adds the rows of
        `x` (its slices along axis 0) behind those of the dataset, in the dataset's dtype, or makes the dataset if
        there is none. npy files grow in place, Zarr and Parquet grow by new files, other files are copied.
    dtype : torch.dtype, optional
        The dtype in the file. By default that of `x`. Only safetensors has bfloat16; tables have no complex
        numbers.
    format : {"npy", "hdf5", "zarr", "safetensors", "csv", "parquet"}, optional
        The format of the file. By default that of the end of its name.
    **options : Any
        The options of `h5py.Group.create_dataset`, such as `compression` (the ranks then write one after the
        other), and of `zarr.create_array`, such as `chunks`. For CSV and Parquet `columns`, the names of the
        columns, and for CSV `sep`.

    Raises
    ------
    OSError
        If the disk is full, or the file cannot be written, on any rank. No part of a file is left.
    TypeError
        If the format does not have the dtype, or an option.
    ValueError
        If the format cannot hold the shape, or a name is impossible.
    ModuleNotFoundError
        If the packages of `pip install "minisplit[files]"` are missing.

    Communication
    -------------
    Collective: seven small messages, with "extend" up to twelve, and one exchange if a rank's part is many short
    pieces of the file. CSV, and HDF5 with options, take one more small message for each rank. All ranks raise the
    same error, or none.

    Examples
    --------
    >>> import minisplit as ms, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = ms.MPI_WORLD.broadcast_bytes(folder.encode()).decode() + "/x.safetensors"
    ...     ms.save(ms.ones((2, 3), split=1), path, "a")
    ...     ms.save(ms.zeros(2), path, "b", mode="a")
    ...     sorted(ms.datasets(path))
    ['a', 'b']
    """
    x = as_dndarray(x)
    with agreement(x.comm, f"looking how to save to {shown_path(path)}"):
        file = path_text(path)
        chosen = checked_format(file, dataset, format)
        if not isinstance(mode, str) or mode not in {"w", "a", "extend"}:
            raise ValueError(
                "mode must be 'w' (a new file), 'a' (add a dataset to the file) or 'extend' (add rows to a "
                f"dataset), got {short_repr(mode)}"
            )
        check_options(chosen.name, options, chosen.write_options)
        saved_dtype, action = sanitize_dtype(dtype) or x.dtype, str(mode)
    if mode == "extend":
        action, dataset = find_dataset(x.comm, chosen, file, dataset)
    if action == "a" and chosen.contents != "datasets":
        raise ValueError(f"mode 'a' adds a dataset to a file, but to {chosen.name} files none can be added")
    if action == "a" and chosen.chunk_files and dataset is None:
        raise ValueError(f"mode 'a' adds a dataset to {file}: give its name, dataset=")
    if x.split is None:
        x.comm.check_replicated(x.larray, "the replicated array to save")
    # What is written, or moved before it, is no part of a graph.
    x = DNDarray(x.larray.detach(), x.layout, x.comm)
    target = Target(file, dataset, x.layout, saved_dtype, options)
    if action == "extend":
        append_rows(x, chosen, target)
        return
    if mode == "extend":
        # There is nothing yet to add rows to: the first call makes what later calls add to.
        target = replace(target, options=chosen.resizable_options(target))
    _save_dataset(x, chosen, target, added=action == "a")


def _save_dataset(x: DNDarray, format: Format, target: Target, added: bool) -> None:
    """Save an array to a new file, or add it to one, and replace the old file by that. Collective."""
    target = replace(target, layout=format.write_layout(target))
    x = x.to_layout(target.layout)
    store, dataset, is_folder = target.path, target.dataset, format.folders
    added_folder = added and format.chunk_files and dataset is not None
    if added_folder:
        # Its folder is made as a file of its own is, with the groups above it that are missing, and not a copy of
        # all.
        doing = f"adding {dataset!r} to {store}"

        def place() -> tuple[str, str | None]:
            clear_leftovers(os.path.realpath(store))  # where a killed job has moved the old folder aside
            return format.place_to_add(store, str(dataset))

        folder, inner = on_rank_0(x.comm, doing, place)
        target = replace(target, path=folder, dataset=inner)

    def create(new_path: str) -> None:
        if added_folder:
            # Now that no other job may add to the store.
            if format.place_to_add(store, str(dataset)) != (target.path, target.dataset):
                raise FileExistsError(errno.EEXIST, "another job has added to it meanwhile; add again", store)
            format.forget_shapes(store, target.path, new_path)
        format.create(replace(target, path=new_path))

    with atomic_replacement(
        x.comm,
        target.path,
        format.check_replaceable,
        create,
        folder=is_folder,
        copied=added and not added_folder,
        store=store if added_folder else None,
    ) as new_path:
        write_parts(x, format, replace(target, path=new_path))


def datasets(
    path: StrPath, *, format: str | None = None, comm: Communication | None = None, **options: Any
) -> list[str]:
    """List the datasets of a file by their names, or the columns of a table.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    format : {"npy", "hdf5", "zarr", "safetensors", "csv", "parquet"}, optional
        The format of the file. By default that of the end of its name.
    comm : Communication, optional
        The ranks that get the list. By default the communicator in use.
    **options : Any
        For CSV the options of `load` that concern its first line, such as `sep`.

    Returns
    -------
    list of str
        The names as rank 0 finds them; [""] for a file with one array that has no name.

    Raises
    ------
    OSError
        On all ranks, if rank 0 cannot read the file.
    ValueError
        If the file is truncated, or of another format.
    ModuleNotFoundError
        If the packages of `pip install "minisplit[files]"` are missing.

    Communication
    -------------
    Collective: two small messages.

    Examples
    --------
    >>> import minisplit as ms, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = ms.MPI_WORLD.broadcast_bytes(folder.encode()).decode() + "/x.npy"
    ...     ms.save(ms.zeros(3), path)
    ...     ms.datasets(path)
    ['']
    """

    def names() -> list[str]:
        file = path_text(path)
        check_regular(file)
        chosen = format_of(file, format)
        check_options(chosen.name, options, chosen.list_options)
        return chosen.dataset_names(file, **options)

    return on_rank_0(sanitize_comm(comm), f"listing {shown_path(path)}", names)


def open(
    path: StrPath,
    dataset: str | None = None,
    *,
    split: int | None = 0,
    dtype: torch.dtype | None = None,
    format: str | None = None,
    comm: Communication | None = None,
    **options: Any,
) -> StoredArray:
    """Open an array in a file without reading it, for `minisplit.vmap` to map over.

    Parameters
    ----------
    path : str or os.PathLike
        The file; for Zarr, and tables in Parquet, a folder. A pattern such as `parts/*.npy` stands for several
        files as one array: their rows, in the order of the files' names.
    dataset : str, optional
        The name of the array in a file that has several. By default the only array there.
    split : int or None, default 0
        The axis along which the ranks share the array evenly. None gives every rank the whole array.
    dtype : torch.dtype, optional
        The dtype to which elements are converted when they are read. By default that of the file.
    format : {"npy", "hdf5", "zarr", "safetensors", "csv", "parquet"}, optional
        The format of the file. By default that of the end of its name.
    comm : Communication, optional
        The ranks that share the array. By default the communicator in use.
    **options : Any
        The options of `load`: for CSV `sep` and others, for HDF5 `external`.

    Returns
    -------
    StoredArray
        The array in its file. The file is closed with the last reference to it.

    Raises
    ------
    OSError
        If the file is missing, or cannot be read, on any rank.
    ValueError
        If the file is truncated, of another format, or not the same on all ranks.
    KeyError
        If there is no dataset of that name.
    IndexError
        If `split` is out of range.

    Communication
    -------------
    Collective: two small messages, for CSV four. All ranks raise the same error, or none.

    See Also
    --------
    minisplit.load : Read the array into memory.

    Examples
    --------
    >>> import minisplit as ms, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = ms.MPI_WORLD.broadcast_bytes(folder.encode()).decode() + "/x.npy"
    ...     ms.save(ms.arange(6.0, split=0).reshape(3, 2), path)
    ...     x = ms.open(path)
    ...     ms.vmap(lambda row: row.sum(), chunk_size=2).one(x).tolist()
    [1.0, 5.0, 9.0]
    """
    comm = sanitize_comm(comm)

    def open_array() -> StoredArray:
        with ExitStack() as stack:
            with agreement(comm, f"opening {shown_path(path)}"):
                to_dtype = sanitize_dtype(dtype)
                reader = stack.enter_context(closing(open_reader(path, dataset, format, to_dtype, options)))
            check_same_dataset(comm, reader)
            layout = Layout(reader.shape, split, comm.size)
            stack.pop_all()  # the file stays open, and is closed with the array
        return StoredArray(reader, layout, comm, Path(path), dataset, to_dtype or reader.dtype)

    return in_one_version(open_array)
