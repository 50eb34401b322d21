"""CSV files as others write them, and who reads which lines."""

import csv
import io
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from files import EXAMPLES, on_rank_0, wait_for_all
from hypothesis import given, settings
from hypothesis import strategies as hypo

import minisplit as ms
from minisplit.io.formats.csv import CSV, CsvReader

ROWS = torch.randint(0, 10**6, (200, 3), generator=torch.manual_seed(3)) ** 2


@pytest.mark.serial
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2\n3,4", [[1, 2], [3, 4]]),
        ("a,b\r\n1,2\r\n3,4\r\n\r\n", [[1, 2], [3, 4]]),
        ("\ufeffa,b\n1e3,-inf\n", [[1000, -np.inf]]),
        ("\ufeff1,2\n", [[1, 2]]),
        ('"a","b"\n"1",\n', [[1, np.nan]]),
        ("a,a\n1,2\n", [[1, 2]]),
        ("7\n\n8\n", [[7], [np.nan], [8]]),
        ("a,b\n", np.empty((0, 2))),
        ("a,b", np.empty((0, 2))),
    ],
)
def test_csv_as_others_write_it(tmp_path, text, expected):
    (tmp_path / "x.csv").write_bytes(text.encode())
    np.testing.assert_array_equal(ms.load(tmp_path / "x.csv").numpy(), expected)


COMMENTS = hypo.sampled_from(["", "#", "#x", '#"', "##,1", "#\t'"])


@pytest.mark.serial
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    lines=hypo.lists(hypo.tuples(hypo.sampled_from(['1,"a"', '2,"#"', '3,"\r\n#"', "4,b", "", '5,""']), COMMENTS)),
    end=hypo.sampled_from(["\n", "\r\n", "\r"]),
    buffer=hypo.integers(1, 30),
    ranks=hypo.integers(1, 4),
)
def test_F11_comments(lines, end, buffer, ranks):
    """In lines of their own, behind rows, and what is none since it is in a cell."""
    text = "a,b" + end + "".join(f"{row}{comment}{end}" for row, comment in lines)
    expected = [int(row[0]) for row, _ in lines if row]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder, "x.csv")
        path.write_bytes(text.encode())
        patch.setattr("minisplit.io.formats.csv._BUFFER", buffer)
        for found in ms.testing.run(lambda: ms.load(path, "a", comment="#").tolist(), ranks=ranks):
            assert found == expected


LINES = hypo.lists(
    hypo.tuples(hypo.integers(0, 99), hypo.text(alphabet='ab,"\r\n é', max_size=9), hypo.integers(0, 3)),
    max_size=30,
)


@pytest.mark.serial
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    lines=LINES,
    end=hypo.sampled_from(["\n", "\r\n", "\r"]),
    buffer=hypo.integers(1, 70),
    ranks=hypo.integers(1, 4),
)
def test_F11_breaks_of_lines(lines, end, buffer, ranks):
    """Within quotes and outside, also between two buffers, and empty lines, as pandas and `csv` read them."""
    text = io.StringIO(newline="")
    # Python's older versions do not quote a lone CR by themselves.
    writer = csv.writer(text, lineterminator=end, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(["a", "name"])
    for number, name, empty in lines:
        text.write(end * empty)
        writer.writerow([number, name])
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder, "x.csv")
        path.write_bytes(text.getvalue().encode())
        patch.setattr("minisplit.io.formats.csv._BUFFER", buffer)
        for found in ms.testing.run(lambda: ms.load(path, "a").tolist(), ranks=ranks):
            assert found == [number for number, _, _ in lines]


@pytest.mark.parametrize("buffer", [1, 2, 3, 7, 64, 4 * 2**20])
@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ('a,name\n0,v\n1,"x\n5,y"\n2,z\n', {"columns": ["a"]}, [[0], [1], [2]]),
        ('a,name\r0,v\r1,"x\r5,y"\r2,z\r', {"columns": ["a"]}, [[0], [1], [2]]),
        ('"a\nb",c\n1,2\n', {}, [[1, 2]]),
        ("1,2\n\n3,4\n", {}, [[1, 2], [3, 4]]),
        ("\n\na,b\n1,2\n", {}, [[1, 2]]),
        ("NA,1\n2,3\n", {}, [[np.nan, 1], [2, 3]]),
        ("NA,1\n2,3\n", {"header": True}, [[2, 3]]),
        (",0,1\n0,5,6\n", {"header": True, "columns": ["0", "1"]}, [[5, 6]]),
        ("2001,2002\n1,2\n", {"header": True}, [[1, 2]]),
        ("made by me\n\na,b\n1,2\n", {"skip_rows": 2}, [[1, 2]]),
        ("7 lines\na,b\n1,2\n", {"header_lines": 2}, [[1, 2]]),
        ("a;b\n1,5;x\n", {"sep": ";", "decimal": ",", "na_values": ["x"]}, [[1.5, np.nan]]),
        ("a,b\n1,N/A\n<NA>,4\n", {}, [[1, np.nan], [np.nan, 4]]),
        ("a,b\n1,x\ny,4\n", {"na_values": "x", "columns": ["b"]}, [[np.nan], [4]]),
        ("a,b\nTrue,False\nfalse,TRUE\n", {}, [[True, False], [False, True]]),
        ("True\nFalse\n", {}, [[True], [False]]),
        ("a,b\nTrue,2\n3,FALSE\n,true\n", {}, [[1, 2], [3, 0], [np.nan, 1]]),
        ("a,b\nTrue,2\nFalse,x\n", {"columns": ["a"]}, [[True], [False]]),
        ("a,b\nTrue,False\n", {"dtype": torch.int64}, [[1, 0]]),
        ('a,b\n"1,234,567",2\n"-1,000.5", 3 \n', {"thousands": ","}, [[1234567, 2], [-1000.5, 3]]),
        ('"1,234",2\n', {"thousands": ","}, [[1234, 2]]),
        ("a;b\n1.234,5;NA\n", {"sep": ";", "decimal": ",", "thousands": "."}, [[1234.5, np.nan]]),
        ("1,5;2\n", {"sep": ";", "decimal": ","}, [[1.5, 2]]),
        ('# by me\na,b # names\n#\n1,2\n3,4 # the "last"\n', {"comment": "#"}, [[1, 2], [3, 4]]),
        ("a,b\r\n1,2#\r\n#x\r\n\r\n3,4\r\n#y", {"comment": "#"}, [[1, 2], [3, 4]]),
        ("a,b\r1,2#\r#x\r\r3,4\r#y\r", {"comment": "#"}, [[1, 2], [3, 4]]),
        ('a,c\n1,"#no"\n2,"x\n#no"\n#"\n3,4#\n', {"comment": "#", "columns": ["a"]}, [[1], [2], [3]]),
        ("7\n#x\n\n8\n", {"comment": "#"}, [[7], [8]]),
        ("1,2 # to,be\r\n#or,not\r\n3,4#to\r\n5,6\r\n", {"comment": "#"}, [[1, 2], [3, 4], [5, 6]]),
        ("1,2 # to,be\r#or,not\r3,4#to\r5,6", {"comment": "#"}, [[1, 2], [3, 4], [5, 6]]),
        ('x\ny\n% 5" wide\na,b\n1,2\n', {"comment": "%", "skip_rows": 2}, [[1, 2]]),
        ("a,b\n\n\n1,2\n" + "\n" * 9000, {}, [[1, 2]]),
    ],
)
def test_F11_text_as_others_write_it(comm, folder, monkeypatch, text, options, expected, buffer):
    wait_for_all(comm)
    monkeypatch.setattr("minisplit.io.formats.csv._BUFFER", buffer)
    on_rank_0(comm, lambda: (folder / "x.csv").write_bytes(text.encode()))
    np.testing.assert_array_equal(ms.load(folder / "x.csv", split=None, **options).numpy(), expected)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"", "x.csv is empty: it has no line of a table"),
        (b"\n\r\n", "x.csv is empty"),
        ("a,b\n1,2\n".encode("utf-16"), "x.csv has bytes that are 0, as text in UTF-16 has"),
        ("a,b\n1,2\n".encode("utf-16-le"), "as text in UTF-16 has"),
        ("é,b\n1,2\n".encode("latin-1"), "x.csv, line 1, is not in UTF-8"),
        ("\n1,2\né,b\n".encode("latin-1"), "x.csv, line 3, cannot be read: .*invalid value"),
        (b"a,b\n1,2\n3,4\n5,6,7\n8,9\nx,1\n", "x.csv, line 4, cannot be read: .*got 3: 5,6,7"),
        (b"a,b\n1,2\n3,x\n5,y\n", "x.csv, line 3, cannot be read: .*invalid value 'x'"),
        (b"\r\n\r\na,b\r\n1,2\r\n\r\n\r\n3,x\r\n", "x.csv, line 7, cannot be read"),
        (b'a,b\n"x\r\n\r",2\n', "x.csv, line 2, cannot be read"),
        (b'"a\r\r\n",b\r1,2\r3,x\r', "x.csv, line 5, cannot be read"),
        (b"1\n\n\nx\n", "x.csv, line 4, cannot be read"),
        (b'a,b\n1,2\n3,"4\n5,6\n', "x.csv, line 3: a quote is not closed"),
        (b'\na,"b\n1,2\n', "x.csv, line 2: a quote is not closed"),
        (b'a,b\n1,5" pipe\n2,3" pipe\n4,4\n', "x.csv, line 2, cannot be read"),
        (b"True,False\nTrue,3\n", "x.csv, line 2, cannot be read: .*'3'.*the first row has bools: .* give dtype="),
        (b"True,False\nTrue,\n", "has empty cells; load it with dtype=torch.float64"),
    ],
)
def test_F11_text_that_is_no_table(comm, folder, raises_alike, text, match):
    on_rank_0(comm, lambda: (folder / "x.csv").write_bytes(text))
    with raises_alike(ValueError, match):
        ms.load(folder / "x.csv")


@pytest.mark.serial
@pytest.mark.parametrize("shape", [(0, 3), (0,)])
def test_F11_a_table_without_rows_keeps_its_columns(tmp_path, shape):
    ms.save(ms.zeros(shape, split=0), tmp_path / "x.csv", mode="extend")
    assert ms.load(tmp_path / "x.csv").shape == (0, *(shape[1:] or (1,)))
    ms.save(ms.ones((2, *shape[1:]), split=0), tmp_path / "x.csv", mode="extend")
    assert ms.load(tmp_path / "x.csv").tolist() == [[1.0] * (shape[1:] or (1,))[0]] * 2


@pytest.mark.serial
def test_F11_many_columns_are_no_more_work_than_cells(tmp_path):
    (tmp_path / "x.csv").write_text("1," * 19_999 + "1\n")
    start = time.perf_counter()
    assert ms.load(tmp_path / "x.csv").shape == (1, 20_000)
    assert time.perf_counter() - start < 5


@pytest.mark.serial
def test_rows_may_be_long(tmp_path):
    x = torch.rand(2, 100_000, dtype=torch.float64)
    ms.save(ms.array(x), tmp_path / "x.csv")
    assert torch.equal(ms.load(tmp_path / "x.csv").larray, x)


@pytest.mark.parametrize("rows", [0, 1, 2, 200])
def test_rows_are_found_in_the_buffer_in_which_they_begin(comm, folder, monkeypatch, rows):
    monkeypatch.setattr("minisplit.io.formats.csv._BUFFER", 64)
    path, x = folder / "x.csv", ROWS[:rows]
    options = {"fmt": "%d", "delimiter": ";", "header": "a;b;c", "comments": ""}
    on_rank_0(comm, lambda: np.savetxt(path, x.numpy(), **options))
    assert ms.load(path, dtype=torch.int64, sep=";").tolist() == x.tolist()
    assert ms.load(path, "b", sep=";").tolist() == x[:, 1].tolist()
    assert ms.load(path, split=1, sep=";").tolist() == x.tolist()
    stored = ms.open(path, format="csv")
    assert stored.shape == (rows, 1)  # of text with no comma in it


@pytest.mark.serial
def test_a_rank_counts_the_lines_of_its_share_of_the_file(tmp_path, monkeypatch):
    """And reads a few bytes at both ends of the file."""
    monkeypatch.setattr("minisplit.io.formats.csv._BUFFER", 64)
    monkeypatch.setattr("minisplit.io.formats.csv._TAIL", 16)
    np.savetxt(tmp_path / "x.csv", ROWS.numpy(), fmt="%d", delimiter=",")
    bytes_read, text = Counter(), CsvReader._text

    def counting(self, start, stop):
        bytes_read[threading.get_ident()] += stop - start
        return text(self, start, stop)

    monkeypatch.setattr(CsvReader, "_text", counting)

    def body():
        assert ms.open(tmp_path / "x.csv").shape == (200, 3)
        return bytes_read[threading.get_ident()]

    size = (tmp_path / "x.csv").stat().st_size
    for read in ms.testing.run(body, ranks=4):
        # With three bytes around each buffer.
        assert read <= (size / 4 + 64) * 67 / 64 + 16


@pytest.mark.several
def test_F1_ranks_see_files_of_different_lengths(rank, size, folder, raises_alike):
    ms.save(ms.ones((3, 2), split=0), folder / "x.csv")
    ms.save(ms.ones((400, 2), split=0), folder / "y.csv")
    with raises_alike(
        ValueError, f"rank 0 has 11 bytes of text in 2 columns .*, rank {size - 1} has 1599 bytes of text"
    ):
        ms.load(folder / ("y.csv" if rank == size - 1 else "x.csv"))


@pytest.mark.serial
def test_a_reader_is_used_again(tmp_path):
    """Its index does not depend on what was read before."""
    np.savetxt(tmp_path / "x.csv", ROWS.numpy(), fmt="%d", delimiter=",")
    reader = CSV.open_reader(str(tmp_path / "x.csv"), None, torch.int64)
    reader.build_index(ms.MPI_SELF)
    for rows, columns in ((slice(5, 9), slice(0, 3)), (slice(190, 200), slice(1, 2)), (slice(0, 6), slice(0, 3))):
        assert torch.equal(reader.read((rows, columns)), ROWS[rows, columns])
    reader.close()


def test_a_last_line_without_an_end(comm, folder):
    path = folder / "x.csv"
    for text in (b"a;b\n1;2\n3;4\n\n", b"a;b\n1;2\n3;4"):
        on_rank_0(comm, lambda text=text: path.write_bytes(text))
        ms.save(ms.ones((3, 2), split=0), path, mode="extend", sep=";")
        assert ms.load(path, sep=";").tolist() == [[1, 2], [3, 4], [1, 1], [1, 1], [1, 1]]


@pytest.mark.serial
def test_text_keeps_its_integers(tmp_path):
    for _ in range(2):
        ms.save(ms.array([[2**53 + 1]]), tmp_path / "x.csv", mode="extend")
    assert (tmp_path / "x.csv").read_text() == f"{2**53 + 1}\n" * 2


def test_names_behind_another_separator(comm, folder, raises_alike):
    path = folder / "x.csv"
    on_rank_0(comm, lambda: path.write_text("% by me\na;b\n1;2\n"))
    assert ms.datasets(path, sep=";", comment="%") == ["a", "b"]
    assert ms.datasets(path, sep=";", skip_rows=1) == ["a", "b"]
    stored = ms.open(path, sep=";", skip_rows=1)
    assert stored.shape == (1, 2)
    (sums,) = ms.vmap(lambda row: row.sum())(stored)
    assert sums.tolist() == [3.0]
    with raises_alike(TypeError, "csv files have no option 'columns'"):
        ms.datasets(path, columns=["a"])
    with raises_alike(TypeError, "npy files have no option 'sep'"):
        ms.datasets(folder / "x.npy", sep=";")


@pytest.mark.parametrize(
    ("options", "kind", "match"),
    [
        ({"sep": ";;"}, ValueError, "sep must be one ASCII character that is no quote, got ';;'"),
        ({"decimal": ""}, ValueError, "decimal must be one ASCII character"),
        ({"comment": 3}, ValueError, "comment must be one ASCII character that is no quote, got 3"),
        ({"thousands": '"'}, ValueError, "thousands must be one ASCII character"),
        ({"thousands": "."}, ValueError, "thousands and decimal must be different"),
        ({"comment": ","}, ValueError, "comment and sep must be different"),
        ({"header_lines": 1, "skip_rows": 1}, ValueError, "give header_lines, or header and skip_rows"),
        ({"skip_rows": -1}, ValueError, "skip_rows must be a number of lines, got -1"),
        ({"skip_rows": 9}, ValueError, "x.csv has 2 lines, of which skip_rows=9"),
        ({"columns": "a"}, TypeError, "columns must be a list of names, got 'a'"),
        ({"columns": ["c"]}, KeyError, "x.csv has no column 'c', but 'a', 'b'"),
        ({"columns": ["a"], "dataset": "a"}, ValueError, "give dataset= or columns=, not both"),
    ],
)
def test_F11_options_that_cannot_be(comm, folder, raises_alike, options, kind, match):
    on_rank_0(comm, lambda: (folder / "x.csv").write_text("a,b\n1,2\n"))
    with raises_alike(kind, match):
        ms.load(folder / "x.csv", **options)
