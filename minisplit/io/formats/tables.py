"""What CSV and Parquet have in common: arrays of one or two axes as columns of numbers with names, by pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from numpy.typing import NDArray

from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout
from minisplit.core.storage import Box, Reader
from minisplit.io.formats.base import Format, Target, import_for, list_datasets
from minisplit.io.formats.numpy_dtypes import NUMPY_DTYPES, numpy_dtype


class TableFormat(Format):
    """A format of tables: what it can hold, and who writes which rows of it."""

    contents = "columns"

    def write_layout(self, target: Target) -> Layout:
        layout, dtype, name = target.layout, target.dtype, self.name
        if dtype.is_complex:
            raise TypeError(f"{name} files have no {dtype}: save real and imag, or use .npy, .h5 or .zarr")
        numpy_dtype(dtype, name)
        if layout.ndim not in {1, 2}:
            raise ValueError(f"{name} files hold tables, of 1 or 2 axes, got shape {layout.shape}; reshape it")
        # Rows of no columns are no text, and Parquet counts them by its columns: their number would be lost.
        if layout.ndim == 2 and layout.shape[0] > layout.size:
            raise ValueError(f"{name} files hold no rows without columns, got shape {layout.shape}")
        # Every rank has whole rows, since a line of text, and a row of a part, have one writer.
        return layout if layout.split is None else layout.with_split(0)


class TableReader(Reader):
    """Reads all columns of a table, as an array of two axes, or the column `dataset`, as one of one axis.

    A format subclasses it: `_tables` yields Arrow tables, and `_set_rows` is called once the rows are counted.
    """

    def __init__(self, path: str, names: Sequence[str], dataset: str | None) -> None:
        self.path, self._dataset = path, dataset
        self._columns = list(range(len(names)))
        if dataset is not None:
            if dataset not in names:
                raise KeyError(f"{path} has no column {dataset!r}, but {list_datasets(names)}")
            self._columns = [list(names).index(dataset)]

    def _set_rows(self, number: int) -> None:
        self.shape = (number, len(self._columns)) if self._dataset is None else (number,)

    def _tables(self, rows: range, columns: list[int]) -> Iterator[tuple[int, Any]]:
        """Yield tables of these columns, which together have these rows, each with its first row."""
        raise NotImplementedError

    def read(self, box: Box) -> torch.Tensor:
        rows, *rest = (range(span.start, span.stop) for span in box)
        columns = [self._columns[column] for column in (rest[0] if rest else [0])]
        # One axis of rows for a column, which has no axis of columns.
        part = torch.empty([len(rows), len(columns)], dtype=self.dtype)
        if part.numel():
            filled = 0
            for start, table in self._tables(rows, columns):
                first = start - rows.start
                _fill_columns(part[first : first + len(table)].numpy(), table, self.path)
                filled += len(table)
            if filled != len(rows):
                raise ValueError(f"{self.path} tells of {len(rows)} rows where it has {filled}")
        return part if rest else part[:, 0]


def parsed_dtype(dtype: torch.dtype | None, default: torch.dtype) -> torch.dtype:
    """Return the dtype to parse columns as: the dtype that the caller asks for, unless no column can have it."""
    return default if dtype is None or dtype.is_complex or dtype not in NUMPY_DTYPES else dtype


def column_names(target: Target) -> list[str] | None:
    """Return the names to write, `dataset` being that of an only column; None where none were given."""
    dataset, columns, number = target.dataset, target.options.get("columns"), len(default_names(target.layout))
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


def default_names(layout: Layout) -> list[str]:
    """Return the names of columns that have none: "0", "1" and so on."""
    return list(map(str, range(1 if layout.ndim == 1 else layout.shape[1])))


def check_columns(target: Target, names: Sequence[str]) -> None:
    """Raise ValueError unless the columns of `target`, if they have names, are those of a table with `names`."""
    given = [target.dataset] if target.dataset is not None else target.options.get("columns")
    if given is not None and list(map(str, given)) != list(names):
        there = f"{target.path} has {list_datasets(names)}"
        raise ValueError(f"rows that are added have the columns that are there: {there}, got {given}")


def arrow_table(part: torch.Tensor, names: Sequence[str], name: str) -> Any:
    """Return an Arrow table of the rows of `part`."""
    rows = part.numpy().reshape(part.shape[0], len(names))
    arrow = import_for("pyarrow", name)
    return arrow.table([arrow.array(column) for column in rows.T], names=list(names))


def _fill_columns(target: NDArray[Any], table: Any, path: str) -> None:
    """Set the columns of `target` to those of an Arrow table; empty cells are NaN, or else a ValueError."""
    for column, (name, values) in zip(target.T, zip(table.column_names, table.columns, strict=True), strict=True):
        # Only floats have a number that means "none".
        if values.null_count and target.dtype.kind != "f":
            raise ValueError(f"the column {name!r} of {path} has empty cells; load it with dtype=torch.float64")
        column[:] = values.to_numpy()
