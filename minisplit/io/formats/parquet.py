"""Parquet: a table in columns, read and written by pyarrow.

Since only one writer can make a Parquet file, a table is saved as a folder with a file for each rank's rows, as
tools for large tables do. They, pandas and pyarrow read such a folder as one table. Both can be read here.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from minisplit.core.layout import Layout
from minisplit.core.storage import Box
from minisplit.io.formats.base import Format, Reader, Writer, needed, no_options
from minisplit.io.formats.numpy_dtypes import torch_dtype
from minisplit.io.formats.tables import (
    check_columns,
    column_dtype,
    column_names,
    fill,
    numbered,
    picked,
    place,
    rows_whole,
    table_of,
    wanted_dtype,
)

# What the parts are called that are written here.
_NAMES = re.compile(r"part-[0-9]{15}\.parquet")


class Parquet(Format):
    """See `minisplit.io.formats.base.Format`. Option to write: `columns`, their names."""

    name = "parquet"
    suffixes = (".parquet", ".pq")
    named = True
    table = True

    def names(self, path: str) -> list[str]:
        return list(_file(_parts(path)[0]).schema_arrow.names)

    def open(
        self, path: str, dataset: str | None = None, *, dtype: torch.dtype | None = None, **options: Any
    ) -> Reader:
        no_options(self.name, options)
        return _Reader(path, dataset, dtype)

    def placed(self, layout: Layout, dtype: torch.dtype, options: dict[str, Any]) -> Layout:
        _writing(**options)
        column_dtype(dtype, self.name)
        return rows_whole(layout, self.name)

    def create(
        self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype, options: dict[str, Any]
    ) -> None:
        os.mkdir(path)
        writer = self.writer(path, dataset, layout, dtype, options)
        if not layout.size:
            whole = tuple(slice(0, n) for n in layout.shape)
            writer.write(whole, torch.empty(layout.shape, dtype=dtype))

    def check_old(self, path: str) -> None:
        if os.path.isdir(path) and any(not name.startswith("part-") for name in os.listdir(path)):
            raise FileExistsError(errno.EEXIST, "there is something else, which a table must not replace", path)

    def writer(
        self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype, options: dict[str, Any]
    ) -> Writer:
        return _Writer(path, column_names(layout, dataset, _writing(**options)) or numbered(layout))

    def extended(
        self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype, options: dict[str, Any]
    ) -> tuple[Layout, dict[str, Any]]:
        if not os.path.isdir(path):
            raise ValueError(
                f"{path} is one file, and only to a folder of them rows are added: load it, and save it"
            )
        parts = _parts(path)
        schema = _file(parts[0]).schema_arrow
        check_columns(path, schema.names, dataset, _writing(**options))
        kinds = {str(field.type) for field in schema}
        if len(kinds) > 1:
            raise TypeError(f"rows are added to columns of one dtype, but those of {path} have {', '.join(kinds)}")
        if not _NAMES.fullmatch(os.path.basename(parts[-1])):
            raise ValueError(f"the last part of {path} is {parts[-1]}, and no new one would come behind it")
        return self.placed(layout, dtype, options), {} if dataset else {"columns": schema.names}


def _writing(*, columns: Sequence[str] | None = None) -> Sequence[str] | None:
    return columns


class _Reader:
    def __init__(self, path: str, dataset: str | None, dtype: torch.dtype | None) -> None:
        self._path = path
        self._files = [_file(part) for part in _parts(path)]
        schema = self._files[0].schema_arrow
        for file in self._files[1:]:
            if not file.schema_arrow.equals(schema):
                raise ValueError(f"the parts of {path} have different columns")
        chosen = picked(path, schema.names, dataset)
        self._columns = [schema.names[column] for column in chosen]
        kinds = [_kind(schema.field(column), path) for column in chosen]
        found = torch_dtype(np.result_type(*kinds), path) if kinds else torch.float64
        self.dtype = wanted_dtype(dtype, found)
        groups = [
            (file, group, file.metadata.row_group(group).num_rows)
            for file in self._files
            for group in range(file.metadata.num_row_groups)
        ]
        ends = list(accumulate(rows for _, _, rows in groups))
        self._groups = [
            (end - rows, end, file, group) for end, (file, group, rows) in zip(ends, groups, strict=True)
        ]
        rows = ends[-1] if ends else 0
        self.shape: tuple[int, ...] = (rows, len(chosen)) if dataset is None else (rows,)

    def placed(self, layout: Layout) -> Layout:
        return layout

    def read(self, box: Box) -> torch.Tensor:
        rows, columns = place(box)
        found = torch.empty([len(rows), len(columns)], dtype=self.dtype)
        names = [self._columns[column] for column in columns]
        for start, end, file, group in self._groups:
            first, last = max(start, rows.start), min(end, rows.stop)
            if first < last and names:
                table = file.read_row_group(group, columns=names, use_threads=False).select(names)
                part = table.slice(first - start, last - first)
                fill(found[first - rows.start : last - rows.start].numpy(), part, self._path)
        return found if len(box) == 2 else found[:, 0]

    def close(self) -> None:
        for file in self._files:
            file.close()


class _Writer:
    def __init__(self, path: str, names: list[str]) -> None:
        self._path, self._names = path, names

    def write(self, box: Box, part: torch.Tensor) -> None:
        """Write a file, named by its first row: the order of the names is that of the rows."""
        table = table_of(part, self._names, "Parquet")
        name = os.path.join(self._path, f"part-{box[0].start:015d}.parquet")
        needed("pyarrow.parquet", "Parquet").write_table(table, name)

    def close(self) -> None:
        pass


def _kind(field: Any, path: str) -> Any:
    with suppress(NotImplementedError):
        # Not by `to_pandas_dtype`, for which pyarrow before 26 needs pandas.
        kind = needed("pyarrow", "Parquet").array([], field.type).to_numpy(zero_copy_only=False).dtype
        if not kind.hasobject:
            return kind
    raise TypeError(f"the column {field.name!r} of {path} holds {field.type}, no numbers")


def _parts(path: str) -> list[str]:
    """The files of a table, in the order of their rows."""
    if not os.path.isdir(path):
        return [path]
    parts = sorted(name for name in os.listdir(path) if not name.startswith(("_", ".")))
    if not parts:
        raise ValueError(f"{path} is a folder without a part of a table")
    return [os.path.join(path, part) for part in parts]


def _file(path: str) -> Any:
    with open(path, "rb"):  # for the usual errors
        return needed("pyarrow.parquet", "Parquet").ParquetFile(path)


PARQUET = Parquet()
