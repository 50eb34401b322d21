"""What CSV and Parquet have in common: arrays of one or two axes as columns of numbers with names, by pyarrow."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout
from minisplit.core.storage import Box
from minisplit.io.formats.base import listed, needed
from minisplit.io.formats.numpy_dtypes import numpy_dtype


def arrow(name: str) -> ModuleType:
    return needed("pyarrow", name)


def column_dtype(dtype: torch.dtype, name: str) -> np.dtype[Any]:
    """NumPy's dtype of columns that hold `dtype`; TypeError for those that no column has."""
    if dtype.is_complex:
        raise TypeError(f"{name} files have no {dtype}: save real and imag, or use .npy, .h5 or .zarr")
    return numpy_dtype(dtype, name)


def wanted_dtype(dtype: torch.dtype | None, default: torch.dtype) -> torch.dtype:
    """The dtype to parse columns as: the one that the caller wants, unless no column can have it."""
    try:
        return default if dtype is None or not column_dtype(dtype, "") else dtype
    except TypeError:
        return default


def rows_whole(layout: Layout, name: str) -> Layout:
    """The layout in which every rank has whole rows; ValueError for what is no table. Pure."""
    if layout.ndim not in {1, 2}:
        raise ValueError(f"{name} files hold tables, of 1 or 2 axes, got shape {layout.shape}; reshape it")
    if layout.ndim == 2 and layout.shape[0] > layout.size:
        raise ValueError(f"{name} files hold no rows without columns, got shape {layout.shape}")
    return layout if layout.split is None else layout.with_split(0)


def column_names(layout: Layout, dataset: str | None, columns: Sequence[str] | None) -> list[str] | None:
    """The names to write, of which `dataset` is that of a single column; None where none were given."""
    number = len(numbered(layout))
    if dataset is not None:
        if columns is not None:
            raise ValueError(f"give dataset= or columns=, not both, got {dataset!r} and {short_repr(columns)}")
        columns = [dataset]
    if columns is None:
        return None
    names = list(map(str, columns))
    if len(names) != number or len(set(names)) != number:
        raise ValueError(
            f"columns must be {number} different names, one for each column, got {short_repr(columns)}"
        )
    return names


def numbered(layout: Layout) -> list[str]:
    """The names of columns that have none: "0", "1" and so on."""
    return list(map(str, range(1 if layout.ndim == 1 else layout.shape[1])))


def picked(path: str, names: Sequence[str], dataset: str | None) -> list[int]:
    """The numbers of the columns of a dataset: of all, or of the one that has this name."""
    if dataset is None:
        return list(range(len(names)))
    if dataset not in names:
        raise KeyError(f"{path} has no column {dataset!r}, but {listed(names)}")
    return [names.index(dataset)]


def check_columns(path: str, there: Sequence[str], dataset: str | None, columns: Sequence[str] | None) -> None:
    """ValueError unless rows of these columns, where they are named, can be added to a table with those."""
    wanted = [dataset] if dataset is not None else columns
    if wanted is not None and list(map(str, wanted)) != list(there):
        raise ValueError(
            f"rows that are added have the columns that are there: {path} has {listed(there)}, got {wanted}"
        )


def table_of(part: torch.Tensor, names: Sequence[str], name: str) -> Any:
    """An Arrow table of the rows of `part`."""
    rows = part.numpy().reshape(part.shape[0], len(names))
    return arrow(name).table([arrow(name).array(column) for column in rows.T], names=list(names))


def fill(target: NDArray[Any], table: Any, path: str) -> None:
    """Set the columns of `target` to those of an Arrow table; empty cells are NaN, or else a ValueError."""
    for column, (name, values) in zip(target.T, zip(table.column_names, table.columns, strict=True), strict=True):
        if values.null_count and target.dtype.kind != "f":
            raise ValueError(f"the column {name!r} of {path} has empty cells; load it with dtype=torch.float64")
        start = 0
        for chunk in values.chunks:
            column[start : start + len(chunk)] = chunk.to_numpy(zero_copy_only=False)
            start += len(chunk)


def place(box: Box) -> tuple[range, range]:
    """Rows and columns of a box; of a single column it is the first."""
    rows, columns = box if len(box) == 2 else (box[0], slice(0, 1))
    return range(rows.start, rows.stop), range(columns.start, columns.stop)
