"""`open`: arrays that stay in their file."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from pathlib import Path

import torch

from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication, sanitize_comm
from minisplit.core.dtypes import sanitize_dtype
from minisplit.core.layout import Layout
from minisplit.core.storage import StoredArray
from minisplit.io.collective import check_same, opened


def open(
    path: str | os.PathLike[str],
    dataset: str | None = None,
    *,
    split: int | None = 0,
    dtype: torch.dtype | None = None,
    format: str | None = None,
    comm: Communication | None = None,
) -> StoredArray:
    """An array in a file, of which nothing is read yet, for `minisplit.vmap` to map over. Collective.

    dataset: the name of the array, in a file of several. split: the axis along which ranks share it, evenly, or
    None where every rank is to have all of it. dtype: what elements are turned into as they are read; their own
    by default. format: that of the file, where its name does not tell.

    Raises on all ranks what opening raises on any, ValueError where the ranks see different files, and IndexError
    for a split out of range.

    >>> import minisplit as ms, numpy as np, tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder, "x.npy"), np.arange(6.0).reshape(3, 2))
    ...     x = ms.open(Path(folder, "x.npy"))
    ...     ms.vmap(lambda row: row.sum(), chunk_size=2)(x)[0].tolist()
    [1.0, 5.0, 9.0]
    """
    comm = sanitize_comm(comm)
    with ExitStack() as stack:
        with agreement(comm, f"opening {path}"):
            wanted = sanitize_dtype(dtype)
            reader = stack.enter_context(closing(opened(path, dataset, format, wanted, {})))
        check_same(comm, reader)
        layout = Layout(reader.shape, split, comm.size)
        stack.pop_all()  # closed with the array
    return StoredArray(reader, layout, comm, Path(path), dataset, wanted or reader.dtype)
