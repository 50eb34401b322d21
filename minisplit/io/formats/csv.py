"""CSV: a table of numbers as text, read and written by pyarrow.

Where a row begins is known only once the ends of lines before it are counted. Each rank counts those in a share of
the file, a buffer at a time, and one exchange of the counts tells every rank where its rows are. Then it parses
these. Whether the end of a line is within quotes, and so belongs to a cell, depends on how many quotes there are
before it: a rank counts for both cases, and which of them it is the exchange tells as well.
"""

from __future__ import annotations

import csv as text_csv
import io
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication, first_difference
from minisplit.core.layout import Layout
from minisplit.core.storage import Box, Reader
from minisplit.io.files import ReplacedError, file_version
from minisplit.io.formats import tables
from minisplit.io.formats.base import OpenFile, Target, Writer, import_for, list_datasets
from minisplit.io.formats.numpy_dtypes import numpy_dtype

# Bytes of text that are searched, or parsed, at once.
_BUFFER = 4 * 2**20
# Rows that become text at once.
_WRITE_ROWS = 2**14
# In how many bytes at the end of a file empty lines are looked for.
_TAIL = 4096
# Some programs begin a file in UTF-8 with it.
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LF, _CR, _QUOTE = b'\n\r"'
# What ends a line, and what begins or ends a cell in which it does not.
_BREAK = re.compile(rb'"|\r\n|\r|\n')
# Bytes of a first line at most.
_MAX_HEAD = 2**26
# The texts of cells that are NaN, as in pandas.
_NULLS = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip


class Csv(tables.TableFormat):
    """See `minisplit.io.formats.base.Format`. Options: `sep`; to write, `columns`, their names."""

    name = "csv"
    suffixes = (".csv",)
    read_options = ("sep", "header", "skip_rows", "na_values", "decimal", "columns")
    write_options = ("columns", "sep")

    def dataset_names(self, path: str) -> list[str]:
        with open(path, "rb") as file:
            return _head(file, ",")[0]

    def open_reader(self, path: str, dataset: str | None, dtype: torch.dtype | None, **options: Any) -> Reader:
        # pyarrow parses no float16.
        parsed = torch.float64 if dtype is torch.float16 else tables.parsed_dtype(dtype, torch.float64)
        return CsvReader(path, dataset, parsed, **options)

    def create(self, target: Target) -> None:
        names = tables.column_names(target)
        if names is None and not target.layout.size:
            # A file without a line would not tell how many columns there are.
            names = [f"column{number}" for number in tables.default_names(target.layout)]
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
        with open(target.path, "rb") as file:
            names, _ = _head(file, target.options.get("sep", ","))
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

    def __init__(
        self,
        path: str,
        dataset: str | None,
        dtype: torch.dtype,
        *,
        sep: str = ",",
        header: bool | None = None,
        skip_rows: int = 0,
        na_values: Sequence[str] = (),
        decimal: str = ".",
        columns: Sequence[str] | None = None,
    ) -> None:
        self._csv, self.dtype = import_for("pyarrow.csv", "CSV"), dtype
        self._separator, self._decimal, self._nulls = sep, decimal, [*_NULLS, *map(str, na_values)]
        self._file = open(path, "rb")  # noqa: SIM115 - until `close`
        try:
            self.version = file_version(self._file.fileno())
            self._names, self._begin = _head(self._file, sep, header, skip_rows)
            super().__init__(path, self._names, dataset)
            if columns is not None:
                if dataset is not None:
                    raise ValueError(f"give dataset= or columns=, not both, got {dataset!r} and {columns}")
                if missing := [name for name in columns if name not in self._names]:
                    raise KeyError(f"{path} has no column {missing[0]!r}, but {list_datasets(self._names)}")
                self._columns = [self._names.index(name) for name in columns]
            # Empty lines at the end are no rows.
            self._end = max(self._file.seek(0, os.SEEK_END), self._begin)
            while self._end > self._begin:
                start = max(self._end - _TAIL, self._begin)
                self._end = start + len(self._text(start, self._end).rstrip(b"\r\n"))
                if self._end > start:
                    break
        except BaseException:
            self.close()
            raise

    def build_index(self, comm: Communication) -> None:
        ends = comm.allgather_record(np.array([self._end, self._begin, zlib.crc32(self.version.encode())]))
        # Otherwise the shares that the ranks count would not be those of one file.
        if (other := first_difference(ends)) is not None:
            raise ReplacedError(
                f"the ranks must see the same file, not copies of it: rank 0 finds {ends[0, 0]} bytes of text, "
                f"rank {other} finds {ends[other, 0]}, or in another version"
            )
        buffers = range(self._begin, self._end, _BUFFER)
        share = max(1, -(-len(buffers) // comm.size))
        counts = np.zeros((share, 3), dtype=np.int64)
        with agreement(comm, f"counting the lines of {self._path}"):
            for i, start in enumerate(buffers[comm.rank * share : (comm.rank + 1) * share]):
                _, odd, number = self._line_ends(start)
                counts[i] = np.count_nonzero(~odd), np.count_nonzero(odd), number
        # Ranks at the end may have fewer buffers: their zeros do no harm.
        outside, inside, quotes = comm.allgather_record(counts.ravel()).reshape(-1, 3).T
        # Whether a buffer begins within quotes.
        self._inside = np.cumsum([0, *quotes]) % 2 == 1
        self._quoted = bool(quotes.any())
        if self._inside[-1]:
            raise ValueError(f"{self._path} has a quote that is not closed: it has {quotes.sum()} quotes")
        # How many lines end before each buffer.
        self._lines_before = np.cumsum([0, *np.where(self._inside[:-1], inside, outside)])
        self._rows = int(self._lines_before[-1]) + (self._end > self._begin)
        self._set_rows(self._rows)

    def _line_ends(self, start: int) -> tuple[NDArray[np.int64], NDArray[np.bool_], int]:
        """Return where in a buffer lines end, whether that is after an odd number of quotes, and how many quotes.

        Lines end with LF, CR or both. Of several columns, empty lines are no rows.
        """
        stop = min(start + _BUFFER, self._end)
        # With two characters before and one behind it.
        before = max(start - 2, self._begin)
        data = b"\n" * (2 - (start - before)) + self._text(before, min(stop + 1, self._end))
        text: NDArray[np.uint8] = np.frombuffer(data, np.uint8)
        middle, behind = text[2 : 2 + stop - start], text[3 : 3 + stop - start]
        is_end = middle == _LF
        if b"\r" in data:
            returns = middle == _CR
            returns[: len(behind)] &= behind != _LF
            is_end |= returns
        ends = np.flatnonzero(is_end)
        if len(self._names) > 1:
            # The character before the LF or CR LF that ends a line, which is the end of another one.
            last = np.where((text[ends + 1] == _CR) & (middle[ends] == _LF), text[ends], text[ends + 1])
            ends = ends[(last != _LF) & (last != _CR)]
        if b'"' not in data:
            return ends, np.zeros(len(ends), dtype=bool), 0
        quotes = np.flatnonzero(middle == _QUOTE)
        return ends, np.searchsorted(quotes, ends) % 2 == 1, len(quotes)

    def read_layout(self, layout: Layout) -> Layout:
        return layout if layout.split is None else layout.with_split(0)

    def _tables(self, rows: range, columns: list[int]) -> Iterator[tuple[int, Any]]:
        step = max(1, _BUFFER * self._rows // (self._end - self._begin))
        for start in range(rows.start, rows.stop, step):
            stop = min(start + step, rows.stop)
            yield start, self._parse_rows(start, stop, columns)

    def _parse_rows(self, start: int, stop: int, columns: list[int]) -> Any:
        """Return an Arrow table of some columns of rows; ValueError, which names the first row that is wrong."""
        try:
            table = self._parse(self._text(self._row_start(start), self._row_start(stop)), columns)
            if len(table) == stop - start:
                return table
            problem = f"it has the text of {len(table)} rows, so quotes are not where they should be"
        except ValueError as error:  # as pyarrow's own
            problem = str(error)
        if stop - start > 1:
            # By halves, so that the text does not depend on how many ranks share the rows.
            middle = (start + stop) // 2
            self._parse_rows(start, middle, columns)
            self._parse_rows(middle, stop, columns)
        raise ValueError(f"row {start} of {self._path}, behind its names, cannot be read: {problem}")

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
            parse_options=self._csv.ParseOptions(
                delimiter=self._separator,
                # In a table of one column an empty line is an empty cell.
                ignore_empty_lines=len(numbers) > 1,
                newlines_in_values=self._quoted,
            ),
            convert_options=self._csv.ConvertOptions(
                column_types=dict.fromkeys(chosen, arrow_type),
                include_columns=chosen,
                null_values=self._nulls,
                decimal_point=self._decimal,
            ),
        )
        return table.rename_columns([self._names[column] for column in columns])

    def _row_start(self, row: int) -> int:
        """Return from which byte on a row is; for the number of rows where the last one ends."""
        if row in {0, self._rows}:
            return self._end if row else self._begin
        buffer = int(np.searchsorted(self._lines_before, row)) - 1
        start = self._begin + buffer * _BUFFER
        ends, odd, _ = self._line_ends(start)
        ends = ends[odd == self._inside[buffer]]
        return start + 1 + int(ends[row - self._lines_before[buffer] - 1])

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


def _head(
    file: io.BufferedReader, separator: str, header: bool | None = None, skip_rows: int = 0
) -> tuple[list[str], int]:
    """Return the names of the columns, "0", "1" and so on where the file has none, and where its rows begin.

    ValueError for an empty file, and for text in another encoding than UTF-8.
    """
    path, start = file.name, len(_BYTE_ORDER_MARK) * (file.read(3) == _BYTE_ORDER_MARK)
    file.seek(0)
    # UTF-16 and UTF-32 have zeros in the bytes of every ASCII character.
    if b"\0" in file.read(_TAIL):
        raise ValueError(f"{path} has bytes that are 0, as text in UTF-16 has; save it in UTF-8")
    line, number = "", 0
    while not line.strip("\r\n") or number <= skip_rows:
        begin = start
        line, start, number = *_read_line(file, start), number + 1
        if start == begin:
            raise ValueError(f"{path} is empty: it has no line of a table, in {number - 1} lines")
    [cells] = text_csv.reader(io.StringIO(line, newline=""), delimiter=separator)
    if header is None:
        header = not all(map(_is_number, cells))
    return (cells, start) if header else (list(map(str, range(len(cells)))), begin)


def _read_line(file: io.BufferedReader, start: int) -> tuple[str, int]:
    """Return the line that begins at a byte, and where the next one begins; a break within quotes ends no line."""
    file.seek(start)
    line = b""
    while part := file.read(_TAIL):
        line += part
        quoted = False
        for found in _BREAK.finditer(line):
            quoted ^= found[0] == b'"'
            # A CR at the end may have its LF in the next part.
            if found[0] != b'"' and not quoted and (found[0] != b"\r" or found.end() < len(line)):
                line = line[: found.end()]
                return _decode(line, file.name, start), start + len(line)
        if len(line) > _MAX_HEAD:
            raise ValueError(f"{file.name} has no end of a line in its first {_MAX_HEAD} bytes")
    return _decode(line, file.name, start), start + len(line)


def _decode(line: bytes, path: str, start: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the names of the columns of {path}, in the line from byte {start} on, are not in UTF-8 ({error}); "
            "save it in UTF-8, or say header=False"
        ) from None


def _is_number(cell: str) -> bool:
    with suppress(ValueError):
        float(cell)
        return True
    return cell in _NULLS or cell.lower() in {"true", "false"}


CSV = Csv()
