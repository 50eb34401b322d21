"""Parquet: a table in columns, read and written by pyarrow.

Since only one writer can make a Parquet file, a table is saved as a folder with a file for each rank's rows, as
tools for large tables do. They, pandas and pyarrow read such a folder as one table. Both can be read here.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from minisplit.core.storage import Box, Reader
from minisplit.io.files import check_regular, open_pinned
from minisplit.io.formats import tables
from minisplit.io.formats.base import Target, Writer, import_for
from minisplit.io.formats.numpy_dtypes import torch_dtype

# The names of the parts that are written here, which sort as their first rows do.
_PART_NAME = re.compile(r"part-[0-9]{15}\.parquet")


class Parquet(tables.TableFormat):
    """See `minisplit.io.formats.base.Format`. Option to write: `columns`, their names."""

    name = "parquet"
    suffixes = (".parquet", ".pq")
    write_options = ("columns",)
    folders = True

    def dataset_names(self, path: str, **options: Any) -> list[str]:
        with open_pinned(path):
            return list(_open_file(_part_paths(path)[0]).schema_arrow.names)

    def open_reader(self, path: str, dataset: str | None, dtype: torch.dtype | None, **options: Any) -> Reader:
        return ParquetReader(path, dataset, dtype)

    def create(self, target: Target) -> None:
        writer, shape = self.open_writer(target), target.layout.shape
        if not target.layout.size:
            # No rank has rows to write, and a folder without a file has no columns.
            writer.write(tuple(slice(0, n) for n in shape), torch.empty(shape, dtype=target.dtype))

    def open_writer(self, target: Target) -> Writer:
        return ParquetWriter(target)

    def check_replaceable(self, path: str) -> None:
        if os.path.isfile(path):
            raise FileExistsError(
                errno.EEXIST, "a table is saved as a folder, which does not replace a file; remove it before", path
            )
        if any(not name.startswith("part-") for name in os.listdir(path)):
            raise FileExistsError(errno.EEXIST, "there is something else, which a table must not replace", path)

    def append_target(self, target: Target) -> Target:
        path = target.path
        if not os.path.isdir(path):
            raise ValueError(
                f"{path} is one file, but rows can only be added to a folder of files: load it, and save it"
            )
        parts = _part_paths(path)
        schema = _open_file(parts[0]).schema_arrow
        tables.check_columns(target, schema.names)
        types = {str(field.type) for field in schema}
        if len(types) > 1:
            raise TypeError(f"rows are added to columns of one dtype, but those of {path} have {', '.join(types)}")
        # A new part is named by its first row. Names of another form might sort behind it.
        if not _PART_NAME.fullmatch(os.path.basename(parts[-1])):
            raise ValueError(
                f"the last part of {path} is {parts[-1]}, and the name of a new part would not come after it"
            )
        options = {} if target.dataset else {"columns": schema.names}
        return replace(target, layout=self.write_layout(target), options=options)


class ParquetReader(tables.TableReader):
    """Reads the groups of rows, by which Parquet files are compressed, that have rows of a box."""

    def __init__(self, path: str, dataset: str | None, dtype: torch.dtype | None) -> None:
        with open_pinned(path) as pinned:
            self._files = [_open_file(part) for part in _part_paths(path)]
        self.version = pinned.version
        schema = self._files[0].schema_arrow
        super().__init__(path, schema.names, dataset)
        for file in self._files[1:]:
            if not file.schema_arrow.equals(schema):
                raise ValueError(f"the parts of {path} have different columns")
        self._names = schema.names
        # An array has one dtype: the one that holds the numbers of all of its columns.
        dtypes = [_field_dtype(schema.field(column), path) for column in self._columns]
        stored = torch_dtype(np.result_type(*dtypes), path) if dtypes else torch.float64
        self.dtype = tables.parsed_dtype(dtype, stored)
        self._groups = [(file, group) for file in self._files for group in range(file.metadata.num_row_groups)]
        rows = (file.metadata.row_group(group).num_rows for file, group in self._groups)
        self._bytes = sum(map(os.path.getsize, _part_paths(path)))
        self._starts = [0, *accumulate(rows)]
        self._set_rows(self._starts[-1])

    def stored_bytes(self) -> int:
        return self._bytes

    def _tables(self, rows: range, columns: list[int]) -> Iterator[tuple[int, Any]]:
        names = [self._names[column] for column in columns]
        for i, (file, group) in enumerate(self._groups):
            first, stop = max(self._starts[i], rows.start), min(self._starts[i + 1], rows.stop)
            if first < stop:
                # In the order of the file, whatever that of `names`.
                table = file.read_row_group(group, columns=names, use_threads=False).select(names)
                yield first, table.slice(first - self._starts[i], stop - first)

    def close(self) -> None:
        for file in self._files:
            file.close()


class ParquetWriter(Writer):
    """Writes a file of its own for each box."""

    def __init__(self, target: Target) -> None:
        self.path = target.path
        self._names = tables.column_names(target) or tables.default_names(target.layout)

    def write(self, box: Box, part: torch.Tensor) -> None:
        """Write a file, named by its first row: the order of the names is that of the rows."""
        path = os.path.join(self.path, f"part-{box[0].start:015d}.parquet")
        table = tables.arrow_table(part, self._names, "Parquet")
        import_for("pyarrow.parquet", "Parquet").write_table(table, path)


def _field_dtype(field: Any, path: str) -> Any:
    with suppress(NotImplementedError):
        # Not by `to_pandas_dtype`, for which pyarrow before 26 needs pandas.
        dtype = import_for("pyarrow", "Parquet").array([], field.type).to_numpy(zero_copy_only=False).dtype
        if dtype.kind in "biufc":
            return dtype
    raise TypeError(
        f"the column {field.name!r} of {path} holds {field.type}, no numbers; name a column that does: "
        "load(path, name)"
    )


def _part_paths(path: str) -> list[str]:
    """Return the files of a table, in the order of their rows."""
    if not os.path.isdir(path):
        return [path]
    # Other programs put files with metadata beside the parts.
    parts = sorted(name for name in os.listdir(path) if not name.startswith(("_", ".")))
    if not parts:
        raise ValueError(f"{path} is a folder without a part of a table")
    return [os.path.join(path, part) for part in parts]


def _open_file(path: str) -> Any:
    # Of a file that is missing pyarrow raises errors of its own, without the path.
    check_regular(path)
    with open(path, "rb"):
        return import_for("pyarrow.parquet", "Parquet").ParquetFile(path)


PARQUET = Parquet()
