"""CSV: a table of numbers as text, read and written by pyarrow.

Where a row begins is known only once the ends of lines before it are counted. Each rank counts those in a share of
the file, a buffer at a time, and one exchange of the counts tells every rank where its rows are. Then it parses
these.
"""

from __future__ import annotations

import csv as text_csv
import io
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.core.storage import Box, Reader
from minisplit.io.files import file_version
from minisplit.io.formats import tables
from minisplit.io.formats.base import OpenFile, Target, Writer, import_for
from minisplit.io.formats.numpy_dtypes import numpy_dtype

# Bytes of text that are searched, or parsed, at once.
_BUFFER = 4 * 2**20
# Rows that become text at once.
_WRITE_ROWS = 2**14
# In how many bytes at the end of a file empty lines are looked for.
_TAIL = 4096
# Some programs begin a file in UTF-8 with it.
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Csv(tables.TableFormat):
    """See `minisplit.io.formats.base.Format`. Options: `sep`; to write, `columns`, their names."""

    name = "csv"
    suffixes = (".csv",)
    read_options = ("sep",)
    write_options = ("columns", "sep")

    def dataset_names(self, path: str) -> list[str]:
        return _first_line(path, ",")[0]

    def open_reader(self, path: str, dataset: str | None, dtype: torch.dtype | None, **options: Any) -> Reader:
        # pyarrow parses no float16.
        parsed = torch.float64 if dtype is torch.float16 else tables.parsed_dtype(dtype, torch.float64)
        return CsvReader(path, dataset, parsed, options.get("sep", ","))

    def create(self, target: Target) -> None:
        names = tables.column_names(target)
        if names and all(map(_is_number, names)):
            raise ValueError(
                f"a first line of numbers would be read as a row: name a column by letters, got {names}"
            )
        import_for("pyarrow.csv", "CSV")
        with open(target.path, "w", encoding="utf-8", newline="") as file:
            if names is not None:
                separator = target.options.get("sep", ",")
                text_csv.writer(file, delimiter=separator, lineterminator="\n").writerow(names)

    def open_writer(self, target: Target) -> Writer:
        return CsvWriter(target)

    def serial_writes(self, options: dict[str, Any]) -> bool:
        # How many bytes the rows before those of a rank take is known once they are text.
        return True

    def open_to_append(self, target: Target) -> Reader:
        return self.open_reader(target.path, target.dataset, target.dtype, sep=target.options.get("sep", ","))

    def append_target(self, target: Target) -> Target:
        names, _ = _first_line(target.path, target.options.get("sep", ","))
        tables.check_columns(target, names)
        return super().append_target(target)

    def resize(self, target: Target, shape: tuple[int, ...]) -> None:
        """End the last line, and cut off the empty lines behind it: rows are added by writing them behind it."""
        with open(target.path, "r+b") as file:
            start = file.seek(max(file.seek(0, os.SEEK_END) - _TAIL, 0))
            text = file.read().rstrip(b"\r\n")
            file.truncate(start + len(text))
            file.seek(start + len(text))
            file.write(b"\n" if text else b"")


class CsvReader(OpenFile, tables.TableReader):
    """Reads rows of text. Before `build_index` was called it has no shape, and cannot read."""

    _file: io.BufferedReader

    def __init__(self, path: str, dataset: str | None, dtype: torch.dtype, separator: str) -> None:
        self._csv = import_for("pyarrow.csv", "CSV")
        self._file = open(path, "rb")  # noqa: SIM115 - until `close`
        self.version = file_version(self._file.fileno())
        self._names, self._begin = _first_line(path, separator)
        super().__init__(path, self._names, dataset)
        self._separator, self.dtype = separator, dtype
        # Empty lines at the end are no rows.
        size = self._file.seek(0, os.SEEK_END)
        tail = self._text(max(size - _TAIL, self._begin), size)
        self._end = size - len(tail) + len(tail.rstrip(b"\r\n"))

    def build_index(self, comm: Communication) -> None:
        ends = comm.allgather_record(np.array([self._end]))[:, 0]
        # Otherwise the shares that the ranks count would not be those of one file.
        if other := int(np.argmax(ends != ends[0])):
            raise ValueError(
                f"the ranks must see the same file: rank 0 finds {ends[0]} bytes of text, rank {other} finds "
                f"{ends[other]}"
            )
        buffers = range(self._begin, self._end, _BUFFER)
        share = max(1, -(-len(buffers) // comm.size))
        counts = np.zeros(share, dtype=np.int64)
        with agreement(comm, f"counting the lines of {self._path}"):
            for i, start in enumerate(buffers[comm.rank * share : (comm.rank + 1) * share]):
                counts[i] = self._buffer(start).count(b"\n")
        # How many lines end before each buffer. Ranks at the end may have fewer buffers: their zeros do no harm.
        self._lines_before = np.cumsum([0, *comm.allgather_record(counts).ravel()])
        self._rows = int(self._lines_before[-1]) + (self._end > self._begin)
        self._set_rows(self._rows)

    def read_layout(self, layout: Layout) -> Layout:
        return layout if layout.split is None else layout.with_split(0)

    def _tables(self, rows: range, columns: list[int]) -> Iterator[tuple[int, Any]]:
        step = max(1, _BUFFER * self._rows // (self._end - self._begin))
        for start in range(rows.start, rows.stop, step):
            stop = min(start + step, rows.stop)
            table = self._parse(self._text(self._row_start(start), self._row_start(stop)), columns)
            if len(table) != stop - start:
                raise ValueError(
                    f"rows {start} to {stop} of {self._path} are {len(table)}: are there empty lines?"
                )
            yield start, table

    def _parse(self, text: bytes, columns: list[int]) -> Any:
        """Return an Arrow table of some columns of rows of text."""
        arrow_type = import_for("pyarrow", "CSV").from_numpy_dtype(numpy_dtype(self.dtype, "CSV"))
        # Numbers for names, as two columns in the file may have the same name.
        numbers = list(map(str, range(len(self._names))))
        chosen = [numbers[column] for column in columns]
        table = self._csv.read_csv(
            io.BytesIO(text),
            # A row must lie within a block. By default a block is 1 MiB.
            read_options=self._csv.ReadOptions(use_threads=False, column_names=numbers, block_size=len(text) + 1),
            # In a table of one column an empty line is an empty cell.
            parse_options=self._csv.ParseOptions(delimiter=self._separator, ignore_empty_lines=len(numbers) > 1),
            convert_options=self._csv.ConvertOptions(
                column_types=dict.fromkeys(chosen, arrow_type), include_columns=chosen, null_values=[""]
            ),
        )
        return table.rename_columns([self._names[column] for column in columns])

    def _row_start(self, row: int) -> int:
        """Return from which byte on a row is; for the number of rows where the last one ends."""
        if row in {0, self._rows}:
            return self._end if row else self._begin
        buffer = int(np.searchsorted(self._lines_before, row)) - 1
        start = self._begin + buffer * _BUFFER
        text: NDArray[np.uint8] = np.frombuffer(self._buffer(start), np.uint8)
        ends = np.flatnonzero(text == ord("\n"))
        return start + 1 + int(ends[row - self._lines_before[buffer] - 1])

    def _buffer(self, start: int) -> bytes:
        return self._text(start, min(start + _BUFFER, self._end))

    def _text(self, start: int, stop: int) -> bytes:
        self._file.seek(start)
        return self._file.read(stop - start)


class CsvWriter(OpenFile, Writer):
    """Writes rows behind those that are in the file."""

    def __init__(self, target: Target) -> None:
        self._csv, self._names = import_for("pyarrow.csv", "CSV"), tables.default_names(target.layout)
        self._options = self._csv.WriteOptions(include_header=False, delimiter=target.options.get("sep", ","))
        self._file = open(target.path, "ab")  # noqa: SIM115 - until `close`

    def write(self, box: Box, part: torch.Tensor) -> None:
        """Add rows: those of a box come after those of the boxes before it. Bools are 0 and 1."""
        if part.dtype is torch.bool:
            part = part.to(torch.uint8)
        for start in range(0, len(part), _WRITE_ROWS):
            table = tables.arrow_table(part[start : start + _WRITE_ROWS], self._names, "CSV")
            self._csv.write_csv(table, self._file, self._options)


def _first_line(path: str, separator: str) -> tuple[list[str], int]:
    """Return the names of the columns, "0", "1" and so on where the file has none, and where its rows begin."""
    with open(path, "rb") as file:
        line = file.readline()
    mark = len(_BYTE_ORDER_MARK) * line.startswith(_BYTE_ORDER_MARK)
    [cells] = list(text_csv.reader([line[mark:].decode()], delimiter=separator)) or [[]]
    if all(map(_is_number, cells)):
        return list(map(str, range(len(cells)))), mark
    return cells, len(line)


def _is_number(cell: str) -> bool:
    with suppress(ValueError):
        float(cell or "nan")
        return True
    return cell.lower() in {"true", "false"}


CSV = Csv()
