"""CSV: a table of numbers as text, read and written by pyarrow.

Where a row begins is known only once the ends of lines before it are counted. Each rank counts those in a share of
the file, a buffer at a time, and one exchange of the counts tells every rank where its rows are. Then it parses
these. Whether the end of a line ends a row depends on where the buffer begins: outside of quotes, within them, or
in a comment. A rank counts for each of these states, and which of them it is the exchange tells as well.
"""

from __future__ import annotations

import csv as text_csv
import io
import os
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication
from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout
from minisplit.core.storage import Box, Reader
from minisplit.io.files import file_version
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
# Where a buffer begins.
_OUTSIDE, _QUOTED, _COMMENT = range(3)
# The texts of cells that are NaN, as in pandas.
_NULLS = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip


class Csv(tables.TableFormat):
    """See `minisplit.io.formats.base.Format`. Options: `sep`; to write, `columns`, their names."""

    name = "csv"
    suffixes = (".csv",)
    read_options = (
        "sep",
        "header",
        "skip_rows",
        "header_lines",
        "comment",
        "na_values",
        "decimal",
        "thousands",
        "columns",
    )
    write_options = ("columns", "sep")
    list_options = read_options[:-1]

    def dataset_names(self, path: str, **options: Any) -> list[str]:
        with open(path, "rb") as file:
            return _head(file, CsvOptions(**options))[0]

    def open_reader(self, path: str, dataset: str | None, dtype: torch.dtype | None, **options: Any) -> Reader:
        columns = options.pop("columns", None)
        return CsvReader(path, dataset, dtype, CsvOptions(**options), columns)

    def create(self, target: Target) -> None:
        names = tables.column_names(target)
        if names is None and not target.layout.size:
            # A file without a line would not tell how many columns there are.
            names = [f"column{number}" for number in tables.default_names(target.layout)]
        if names and all(map(CsvOptions().is_number, names)):
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
            names, _ = _head(file, CsvOptions(target.options.get("sep", ",")))
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


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """How the text of a file is to be read. TypeError or ValueError for what cannot be."""

    sep: str = ","
    header: bool | None = None
    skip_rows: int = 0
    comment: str | None = None
    na_values: Sequence[str] = ()
    decimal: str = "."
    thousands: str | None = None
    header_lines: int | None = None

    def __post_init__(self) -> None:
        if self.header_lines is not None:  # Heat's name for lines before the numbers, names or not
            if self.header is not None or self.skip_rows:
                raise ValueError(
                    "give header_lines, or header and skip_rows: how many lines are before the numbers"
                )
            object.__setattr__(self, "skip_rows", self.header_lines)
            object.__setattr__(self, "header", False)
        signs = {name: getattr(self, name) for name in ("sep", "decimal", "comment", "thousands")}
        given = {name: sign for name, sign in signs.items() if sign is not None}
        for name, sign in given.items():
            if not isinstance(sign, str) or len(sign) != 1 or not sign.isascii() or sign in '"\r\n':
                raise ValueError(f"{name} must be one ASCII character that is no quote, got {short_repr(sign)}")
        for one, other in (
            ("comment", "sep"),
            ("comment", "decimal"),
            ("comment", "thousands"),
            ("thousands", "decimal"),
        ):
            if one in given and given[one] == given.get(other):
                raise ValueError(f"{one} and {other} must be different, got {given[one]!r} for both")
        if self.header is not None and not isinstance(self.header, bool):
            raise ValueError(f"header must be True, False or None, got {short_repr(self.header)}")
        if not isinstance(self.skip_rows, int) or self.skip_rows < 0:
            raise ValueError(f"skip_rows must be a number of lines, got {short_repr(self.skip_rows)}")

    @property
    def nulls(self) -> list[str]:
        """The texts of cells that are NaN."""
        own = [self.na_values] if isinstance(self.na_values, str) else self.na_values
        return [*_NULLS, *map(str, own)]

    def is_number(self, cell: str) -> bool:
        """Whether a cell is a number, a bool, or none at all."""
        cell = cell.strip()
        if cell in self.nulls or _is_bool(cell):
            return True
        with suppress(ValueError):
            float((cell.replace(self.thousands, "") if self.thousands else cell).replace(self.decimal, "."))
            return "_" not in cell  # which Python allows in numbers
        return False


class CsvReader(OpenFile, tables.TableReader):
    """Reads rows of text. Before `build_index` was called it has no axes, and cannot read."""

    _file: io.BufferedReader

    def __init__(
        self,
        path: str,
        dataset: str | None,
        dtype: torch.dtype | None,
        options: CsvOptions,
        columns: Sequence[str] | None = None,
    ) -> None:
        self._csv, self._options = import_for("pyarrow.csv", "CSV"), options
        self._comment = options.comment.encode() if options.comment else b""
        # Whether cells have what pyarrow does not take for a number.
        self._by_text = options.thousands is not None
        self._file = open(path, "rb")  # noqa: SIM115 - until `close`
        try:
            self.version = file_version(self._file.fileno())
            self._names, self._begin = _head(self._file, options)
            # In a table of one column an empty line is an empty cell.
            self._skips_empty = len(self._names) > 1 or bool(self._comment)
            super().__init__(path, self._names, dataset)
            if columns is not None:
                self._columns = self._chosen(columns, dataset)
            # Empty lines at the end are no rows.
            self._end = max(self._file.seek(0, os.SEEK_END), self._begin)
            while self._end > self._begin:
                start = max(self._end - _TAIL, self._begin)
                self._end = start + len(self._text(start, self._end).rstrip(b"\r\n"))
                if self._end > start:
                    break
            self.dtype, self.shape = self._dtype(dtype), ()
        except BaseException:
            self.close()
            raise

    def _chosen(self, columns: Sequence[str], dataset: str | None) -> list[int]:
        if isinstance(columns, str) or not all(isinstance(name, str) for name in columns):
            raise TypeError(
                f"columns must be a list of names, got {short_repr(columns)}; for one column give dataset="
            )
        if dataset is not None:
            raise ValueError(f"give dataset= or columns=, not both, got {dataset!r} and {short_repr(columns)}")
        if missing := [name for name in columns if name not in self._names]:
            raise KeyError(f"{self.path} has no column {missing[0]!r}, but {list_datasets(self._names)}")
        return [self._names.index(name) for name in columns]

    def _dtype(self, dtype: torch.dtype | None) -> torch.dtype:
        """Return the dtype of what is parsed: float64, unless another is asked for or the first row has bools."""
        self._guessed = dtype is None
        if dtype is not None:
            # pyarrow parses no float16.
            return torch.float64 if dtype is torch.float16 else tables.parsed_dtype(dtype, torch.float64)
        first, stop = _read_row(self._file, self._begin, self._options)
        cells = _split(self._file, stop - len(first), first, self._options, "replace")
        bools = [_is_bool(cells[column]) for column in self._columns if column < len(cells)]
        return torch.bool if bools and all(bools) else torch.float64

    def description(self) -> str:
        chosen = f", of which {self._columns}" * (len(self._columns) < len(self._names))
        return f"{self._end - self._begin} bytes of text in {len(self._names)} columns{chosen} as {self.dtype}"

    def build_index(self, comm: Communication) -> None:
        buffers = range(self._begin, self._end, _BUFFER)
        share = max(1, -(-len(buffers) // comm.size))
        # Of each buffer, for each state in which it may begin: how many rows end in it, its last state,
        # and whether a row goes on there.
        counts = np.zeros((share, 3 if self._comment else 2, 3), dtype=np.int64)
        with agreement(comm, f"counting the lines of {self.path}"):
            for i, start in enumerate(buffers[comm.rank * share : (comm.rank + 1) * share]):
                scans = self._scan(start)
                counts[i] = [(len(scan.row_ends), scan.state, scan.row_goes_on) for scan in scans]
        # Ranks at the end may have fewer buffers.
        found = comm.allgather_record(counts.ravel()).reshape(-1, *counts.shape[1:])[: len(buffers)]
        self._states, self._lines_before, goes_on = [_OUTSIDE], [0], 0
        for buffer in found.tolist():
            ended, state, goes_on = buffer[self._states[-1]]
            self._lines_before.append(self._lines_before[-1] + ended)
            self._states.append(state)
        if self._states[-1] == _QUOTED:
            with agreement(comm, f"looking for a quote in {self.path}"):
                line = self._line(self._last_quote())
                raise ValueError(f"{self.path}, line {line}: a quote is not closed")
        self._rows = self._lines_before[-1] + goes_on
        self._set_rows(self._rows)

    def _last_quote(self) -> int:
        for start in reversed(range(self._begin, self._end, _BUFFER)):
            at = self._text(start, min(start + _BUFFER, self._end)).rfind(b'"')
            if at >= 0:
                return start + at
        return self._begin

    def _scan(self, start: int) -> list[Scan]:
        """Return what is in a buffer, for each state in which it may begin."""
        stop = min(start + _BUFFER, self._end)
        # With two characters before and one behind it.
        before = max(start - 2, self._begin)
        context = b"\n" * (2 - (start - before)) + self._text(before, start)
        text, behind = self._text(start, stop), self._text(stop, min(stop + 1, self._end))
        if not self._comment:
            ends, odd, quotes = self._line_ends(context + text + behind, stop - start)
            goes_on = text[-1] not in (_LF, _CR)
            return [Scan(ends[odd == inside], (quotes + inside) % 2, goes_on) for inside in range(2)]
        scans = []
        for state in range(3):
            bare, last = _without_comments(text, self._comment, b"\n", state, behind)
            # A comment begins with a line end for the row before it, and a CR before one belongs to no LF.
            after_end = state == _COMMENT or (context.endswith(b"\r") and not text.startswith(b"\n"))
            ends, odd, _ = self._line_ends((b"\n\n" if after_end else context) + bare + behind, len(text))
            scans.append(Scan(ends[odd == (state == _QUOTED)], last, bare[-1] not in (_LF, _CR)))
        return scans

    def _line_ends(self, data: bytes, length: int) -> tuple[NDArray[np.int64], NDArray[np.bool_], int]:
        """Return where lines end, whether that is after an odd number of quotes, and how many quotes there are.

        `data` is text of this length, with two characters before and one behind it, if there is one. Lines end
        with LF, CR or both. Of several columns, empty lines are no rows.
        """
        text: NDArray[np.uint8] = np.frombuffer(data, np.uint8)
        middle, behind = text[2 : 2 + length], text[3 : 3 + length]
        is_end = middle == _LF
        if b"\r" in data:
            returns = middle == _CR
            returns[: len(behind)] &= behind != _LF
            is_end |= returns
        ends = np.flatnonzero(is_end)
        if self._skips_empty:
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
        """Return an Arrow table of some columns of rows; ValueError, which names the first line that is wrong."""
        begin = self._row_start(start)
        text = self._text(begin, self._row_start(stop))
        if self._comment:
            # The row before it may have ended where its comment began.
            within = start and self._text(begin - 1, begin) not in (b"\r", b"\n")
            text, _ = _without_comments(text, self._comment, b"\n", _COMMENT if within else _OUTSIDE)
        try:
            table = self._parse(text, columns)
            if len(table) == stop - start:
                return table
            problem = f"it has the text of {len(table)} rows, so quotes are not where they should be"
        except ValueError as error:  # as pyarrow's own
            problem = re.sub(r"Row #\d+: ", "", str(error))
        if stop - start > 1:
            # By halves, so that the text does not depend on how many ranks share the rows.
            middle = (start + stop) // 2
            self._parse_rows(start, middle, columns)
            self._parse_rows(middle, stop, columns)
        # Empty lines before it are those of the row, too.
        empty = len(text) - len(text.lstrip(b"\r\n")) if self._skips_empty else 0
        hint = "; the first row has bools: if others have numbers, give dtype=" * (
            self._guessed and self.dtype is torch.bool
        )
        raise ValueError(f"{self.path}, line {self._line(begin + empty)}, cannot be read: {problem}{hint}")

    def _parse(self, text: bytes, columns: list[int]) -> Any:
        """Return an Arrow table of some columns of rows of text."""
        arrow = import_for("pyarrow", "CSV")
        arrow_type, problem = arrow.from_numpy_dtype(numpy_dtype(self.dtype, "CSV")), None
        if not self._by_text:
            try:
                return self._parse_as(text, columns, arrow_type, self._options.nulls)
            except ValueError as error:  # perhaps since there are bools among numbers
                problem = error
        try:
            table = self._as_numbers(self._parse_as(text, columns, arrow.string(), []), arrow_type)
        except ValueError as error:
            raise problem or error from None
        self._by_text = True  # what comes next is likely to be alike
        return table

    def _parse_as(self, text: bytes, columns: list[int], arrow_type: Any, nulls: list[str]) -> Any:
        # Numbers for names, as two columns in the file may have the same name.
        numbers = list(map(str, range(len(self._names))))
        chosen = [numbers[column] for column in columns]
        table = self._csv.read_csv(
            io.BytesIO(text),
            # A row must lie within a block. By default a block is 1 MiB.
            read_options=self._csv.ReadOptions(use_threads=False, column_names=numbers, block_size=len(text) + 1),
            parse_options=self._csv.ParseOptions(
                delimiter=self._options.sep,
                ignore_empty_lines=self._skips_empty,
                newlines_in_values=b'"' in text,
            ),
            convert_options=self._csv.ConvertOptions(
                column_types=dict.fromkeys(chosen, arrow_type),
                include_columns=chosen,
                null_values=nulls,
                decimal_point=self._options.decimal,
            ),
        )
        return table.rename_columns([self._names[column] for column in columns])

    def _as_numbers(self, table: Any, arrow_type: Any) -> Any:
        """Return a table of texts as one of numbers: without marks between thousands, and bools as 0 and 1."""
        arrow, compute = import_for("pyarrow", "CSV"), import_for("pyarrow.compute", "CSV")
        nulls, bools = arrow.array(self._options.nulls), arrow.array(["true", "false"])
        columns = []
        for texts in table.columns:
            cells = compute.utf8_trim_whitespace(texts)
            cells = compute.if_else(compute.is_in(cells, value_set=nulls), None, cells)
            small = compute.utf8_lower(cells)
            as_digits = compute.if_else(compute.equal(small, "true"), "1", "0")
            if self._options.thousands is not None:
                cells = compute.replace_substring(cells, self._options.thousands, "")
            if self._options.decimal != ".":
                cells = compute.replace_substring(cells, self._options.decimal, ".")
            cells = compute.if_else(compute.is_in(small, value_set=bools), as_digits, cells)
            columns.append(compute.cast(cells, arrow_type))
        return arrow.table(columns, names=table.column_names)

    def _row_start(self, row: int) -> int:
        """Return from which byte on a row is; for the number of rows where the last one ends."""
        if row in {0, self._rows}:
            return self._end if row else self._begin
        buffer = bisect_left(self._lines_before, row) - 1
        start = self._begin + buffer * _BUFFER
        ends = self._scan(start)[self._states[buffer]].row_ends
        return start + 1 + int(ends[row - self._lines_before[buffer] - 1])

    def _line(self, offset: int) -> int:
        return _line_number(self._file, offset)

    def _text(self, start: int, stop: int) -> bytes:
        self._file.seek(start)
        return self._file.read(stop - start)


class Scan(NamedTuple):
    """What is in a buffer that begins in a state: where rows end, its last state, whether a row goes on there."""

    row_ends: NDArray[np.int64]
    state: int
    row_goes_on: bool


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


def _head(file: io.BufferedReader, options: CsvOptions) -> tuple[list[str], int]:
    """Return the names of the columns, "0", "1" and so on where the file has none, and where its rows begin.

    ValueError for an empty file, and for text in another encoding than UTF-8.
    """
    path, start = file.name, len(_BYTE_ORDER_MARK) * (file.read(3) == _BYTE_ORDER_MARK)
    file.seek(0)
    # UTF-16 and UTF-32 have zeros in the bytes of every ASCII character.
    if b"\0" in file.read(_TAIL):
        raise ValueError(f"{path} has bytes that are 0, as text in UTF-16 has; save it in UTF-8")
    for number in range(options.skip_rows):
        begin, (_, start) = start, _read_line(file, start, b"")
        if start == begin:
            raise ValueError(
                f"{path} has {number} lines, of which skip_rows={options.skip_rows} are to be left out"
            )
    line, begin = _read_row(file, start, options)
    if not line:
        raise ValueError(f"{path} is empty: it has no line of a table")
    header = options.header
    cells = _split(file, begin - len(line), line, options, "replace" if header is False else "strict")
    if header is None:
        header = not all(map(options.is_number, cells))
    if header:
        return cells, begin
    return list(map(str, range(len(cells)))), begin - len(line)


def _read_row(file: io.BufferedReader, start: int, options: CsvOptions) -> tuple[bytes, int]:
    """Return the first line from a byte on that is not empty, without a comment, and where the next one begins."""
    while True:
        line, stop = _read_line(file, start, (options.comment or "").encode())
        if stop == start or line.strip(b"\r\n" if options.comment is None else None):
            return line, stop
        start = stop


def _read_line(file: io.BufferedReader, start: int, comment: bytes) -> tuple[bytes, int]:
    """Return the line that begins at a byte, and where the next one begins; a break within quotes ends no line.

    A comment is as many spaces.
    """
    file.seek(start)
    line, quoted = b"", False
    # Twice as much each time: a line may have many cells.
    while part := file.read(max(len(line), _TAIL)):
        line += part
        bare = _without_comments(line, comment, b" ")[0] if comment else line
        quoted = False
        for found in _BREAK.finditer(bare):
            quoted ^= found[0] == b'"'
            # A CR at the end may have its LF in the next part.
            if found[0] != b'"' and not quoted and (found[0] != b"\r" or found.end() < len(line)):
                return bare[: found.end()], start + found.end()
        if len(line) > _MAX_HEAD:
            raise ValueError(
                f"{file.name}, line {_line_number(file, start)}, has no end in its first {_MAX_HEAD} bytes"
            )
    if quoted:
        raise ValueError(f"{file.name}, line {_line_number(file, start)}: a quote is not closed")
    return (_without_comments(line, comment, b" ")[0] if comment else line), start + len(line)


def _without_comments(
    text: bytes, comment: bytes, filler: bytes, state: int = _OUTSIDE, behind: bytes = b""
) -> tuple[bytes, int]:
    """Return text with as many fillers in the place of its comments, and the state in which it ends.

    `behind` is the character behind it: a comment goes on between CR and LF, whose LF would end a row otherwise.

    >>> _without_comments(b'1,2 # "two" ;"#3"', b"#", b".")
    (b'1,2 .............', 2)
    >>> _without_comments(b'2" ;"#3"', b"#", b".", _QUOTED)
    (b'2" ;"#3"', 0)
    """
    starts = {_OUTSIDE: b"", _QUOTED: rb'\A[^"]*"?|', _COMMENT: rb"\A[^\r\n]*|"}
    pieces, end, kind = [], 0, _OUTSIDE
    for found in re.finditer(starts[state] + rb'"[^"]*"?|' + re.escape(comment) + rb"[^\r\n]*", text):
        goes_on = state != _OUTSIDE and found.start() == 0
        kind = state if goes_on else _QUOTED if found[0].startswith(b'"') else _COMMENT
        pieces += [text[end : found.start()], filler * len(found[0]) if kind == _COMMENT else found[0]]
        end = found.end()
        if kind == _QUOTED and found[0].endswith(b'"') and (goes_on or len(found[0]) > 1):
            kind = _OUTSIDE
    rest = text[end:]
    within = not rest or (kind == _COMMENT and rest + behind == b"\r\n")
    return b"".join([*pieces, rest]), kind if within else _OUTSIDE


def _split(
    file: io.BufferedReader, start: int, line: bytes, options: CsvOptions, errors: str = "strict"
) -> list[str]:
    """Return the cells of the line that begins at a byte."""
    try:
        text = line.decode(errors=errors)
    except UnicodeDecodeError as error:
        where = f"{file.name}, line {_line_number(file, start)}"
        raise ValueError(f"{where}, is not in UTF-8 ({error}); save it in UTF-8, or say header=False") from None
    if options.comment:
        text = text.rstrip(" \r\n")
    return next(text_csv.reader(io.StringIO(text, newline=""), delimiter=options.sep), [])


def _line_number(file: io.BufferedReader, offset: int) -> int:
    """Return in which line of a file a byte is; the first is 1."""
    file.seek(0)
    number, last = 1, b""
    while part := file.read(min(_BUFFER, offset - file.tell())):
        number += part.count(b"\n") + part.count(b"\r") - part.count(b"\r\n")
        number -= last == b"\r" and part[:1] == b"\n"
        last = part[-1:]
    return number


def _is_bool(cell: str) -> bool:
    return cell.strip().lower() in {"true", "false"}


CSV = Csv()
