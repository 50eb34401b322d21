"""CSV: a table of numbers as text, read and written by pyarrow.

To find its lines every rank goes through the file once, a buffer at a time; then it parses its own lines only.
"""

from __future__ import annotations

import csv as text_csv
import io
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
import torch

from minisplit.core.layout import Layout
from minisplit.core.storage import Box
from minisplit.io.formats.base import Format, Reader, Writer, needed
from minisplit.io.formats.numpy_dtypes import numpy_dtype
from minisplit.io.formats.tables import (
    arrow,
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

_BUFFER = 4 * 2**20
_ROWS = 2**14
# Where empty lines are looked for, at the end.
_TAIL = 4096
# With which some programs begin a file in UTF-8.
_MARK = b"\xef\xbb\xbf"


class Csv(Format):
    """See `base.Format`. Options: `sep`, and to write `columns`, the names in the first line."""

    name = "csv"
    suffixes = (".csv",)
    named = True
    table = True
    typed = False
    reading = ("sep",)

    def names(self, path: str) -> list[str]:
        with open(path, "rb") as file:
            return _head(file.readline(), ",")[0]

    def open(
        self, path: str, dataset: str | None = None, *, dtype: torch.dtype | None = None, **options: Any
    ) -> Reader:
        # pyarrow parses no float16.
        chosen = torch.float64 if dtype is torch.float16 else wanted_dtype(dtype, torch.float64)
        return _Reader(path, dataset, chosen, **_reading(**options))

    def placed(self, layout: Layout, dtype: torch.dtype, options: dict[str, Any]) -> Layout:
        _writing(**options)
        column_dtype(dtype, self.name)
        return rows_whole(layout, self.name)

    def create(
        self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype, options: dict[str, Any]
    ) -> None:
        columns, sep = _writing(**options)
        names = column_names(layout, dataset, columns)
        if names and all(map(_is_number, names)):
            raise ValueError(
                f"a first line of numbers would be read as a row: name a column by letters, got {names}"
            )
        needed("pyarrow.csv", "CSV")
        with open(path, "x", encoding="utf-8", newline="") as file:
            if names is not None:
                text_csv.writer(file, delimiter=sep, lineterminator="\n").writerow(names)

    def in_turns(self, options: dict[str, Any]) -> bool:
        return True

    def writer(
        self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype, options: dict[str, Any]
    ) -> Writer:
        return _Writer(path, numbered(layout), _writing(**options)[1])

    def extended(
        self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype, options: dict[str, Any]
    ) -> tuple[Layout, dict[str, Any]]:
        columns, sep = _writing(**options)
        with open(path, "rb") as file:
            check_columns(path, _head(file.readline(), sep)[0], dataset, columns)
        return self.placed(layout, dtype, options), options

    def extend(self, path: str, dataset: str | None, shape: tuple[int, ...]) -> None:
        """End the last line, and cut off the empty ones behind it."""
        with open(path, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            start = file.seek(max(size - _TAIL, 0))
            text = file.read().rstrip(b"\r\n")
            file.truncate(start + len(text))
            file.seek(start + len(text))
            file.write(b"\n" if text else b"")


def _reading(*, sep: str = ",") -> dict[str, str]:
    return {"sep": sep}


def _writing(*, columns: Sequence[str] | None = None, sep: str = ",") -> tuple[Sequence[str] | None, str]:
    return columns, sep


class _Reader:
    def __init__(self, path: str, dataset: str | None, dtype: torch.dtype, sep: str) -> None:
        self._csv = needed("pyarrow.csv", "CSV")
        self._path, self._sep, self.dtype = path, sep, dtype
        self._file = open(path, "rb")  # noqa: SIM115 - until `close`
        try:
            self._lines = _Lines(self._file, sep)
            self._columns = picked(path, self._lines.names, dataset)
        except BaseException:
            self.close()
            raise
        rows = self._lines.number
        self.shape: tuple[int, ...] = (rows, len(self._columns)) if dataset is None else (rows,)

    def placed(self, layout: Layout) -> Layout:
        return layout if layout.split is None else layout.with_split(0)

    def read(self, box: Box) -> torch.Tensor:
        rows, columns = place(box)
        found = torch.empty([len(rows), len(columns)], dtype=self.dtype)
        chosen = [self._columns[column] for column in columns]
        step = max(1, _BUFFER * self._lines.number // max(self._lines.length, 1))
        for start in range(rows.start, rows.stop if chosen else rows.start, step):
            stop = min(start + step, rows.stop)
            part = found[start - rows.start : stop - rows.start].numpy()
            fill(part, self._parsed(start, stop, chosen), self._path)
        return found if len(box) == 2 else found[:, 0]

    def _parsed(self, start: int, stop: int, chosen: list[int]) -> Any:
        """An Arrow table of some columns of some rows."""
        kind = arrow("CSV").from_numpy_dtype(numpy_dtype(self.dtype, "CSV"))
        # Numbers for names, as those in the file may be the same.
        names = list(map(str, range(len(self._lines.names))))
        mine = [names[column] for column in chosen]
        text = self._lines.rows(start, stop)
        table = self._csv.read_csv(
            io.BytesIO(text),
            # A row must lie within a block.
            read_options=self._csv.ReadOptions(use_threads=False, column_names=names, block_size=len(text) + 1),
            parse_options=self._csv.ParseOptions(delimiter=self._sep, ignore_empty_lines=len(names) > 1),
            convert_options=self._csv.ConvertOptions(
                column_types=dict.fromkeys(mine, kind), include_columns=mine, null_values=[""]
            ),
        )
        if len(table) != stop - start:
            raise ValueError(f"rows {start} to {stop} of {self._path} are {len(table)}: are there empty lines?")
        return table.rename_columns([self._lines.names[column] for column in chosen])

    def close(self) -> None:
        self._file.close()


class _Lines:
    """Where the rows of a file are: how many lines have ended before the end of each buffer of it."""

    def __init__(self, file: BinaryIO, sep: str) -> None:
        self._file = file
        self.names, self._begin = _head(self._file.readline(), sep)
        size = self._file.seek(0, os.SEEK_END)
        tail = self._slice(max(size - _TAIL, self._begin), size)
        self._end = size - len(tail) + len(tail.rstrip(b"\r\n"))
        starts = range(self._begin, self._end, _BUFFER)
        ended = [self._slice(start, min(start + _BUFFER, self._end)).count(b"\n") for start in starts]
        self._ended = np.cumsum([0, *ended])
        self.number = int(self._ended[-1]) + (self._end > self._begin)
        self.length = self._end - self._begin

    def rows(self, start: int, stop: int) -> bytes:
        """The text of some rows."""
        return self._slice(self._where(start), self._where(stop))

    def _where(self, row: int) -> int:
        """From which byte on a row is, or where the last one ends."""
        if row in {0, self.number}:
            return self._end if row else self._begin
        buffer = int(np.searchsorted(self._ended, row)) - 1
        start = self._begin + buffer * _BUFFER
        text = np.frombuffer(self._slice(start, min(start + _BUFFER, self._end)), np.uint8)
        return start + 1 + int(np.flatnonzero(text == ord("\n"))[row - self._ended[buffer] - 1])

    def _slice(self, start: int, stop: int) -> bytes:
        self._file.seek(start)
        return self._file.read(stop - start)


class _Writer:
    def __init__(self, path: str, names: list[str], sep: str) -> None:
        self._csv, self._names = needed("pyarrow.csv", "CSV"), names
        self._options = self._csv.WriteOptions(include_header=False, delimiter=sep)
        self._file = open(path, "ab")  # noqa: SIM115 - until `close`

    def write(self, box: Box, part: torch.Tensor) -> None:
        """Add rows: those of a box come after those of the boxes before it. Bools are 0 and 1."""
        if part.dtype is torch.bool:
            part = part.to(torch.uint8)
        for start in range(0, len(part), _ROWS):
            table = table_of(part[start : start + _ROWS], self._names, "CSV")
            self._csv.write_csv(table, self._file, self._options)

    def close(self) -> None:
        self._file.close()


def _head(line: bytes, sep: str) -> tuple[list[str], int]:
    """The names of the columns, and the length of their line: "0", "1" and so on where that has numbers."""
    marked = len(_MARK) * line.startswith(_MARK)
    [cells] = list(text_csv.reader([line[marked:].decode()], delimiter=sep)) or [[]]
    if all(map(_is_number, cells)):
        return list(map(str, range(len(cells)))), marked
    return cells, len(line)


def _is_number(cell: str) -> bool:
    with suppress(ValueError):
        float(cell or "nan")
        return True
    return cell.lower() in {"true", "false"}


CSV = Csv()
