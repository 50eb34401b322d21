"""CSV files as others write them, and who reads which lines."""

import threading
from collections import Counter

import numpy as np
import pytest
import torch
from files import on_rank_0

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


@pytest.mark.serial
def test_an_empty_line_in_the_middle(tmp_path):
    (tmp_path / "x.csv").write_text("1,2\n\n3,4\n")
    with pytest.raises(ValueError, match=r"rows 0 to 3 of .* are 2: are there empty lines"):
        ms.load(tmp_path / "x.csv")


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
        assert read <= size / 4 + 64 + 16


@pytest.mark.several
def test_F1_ranks_see_files_of_different_lengths(rank, size, folder, raises_alike):
    ms.save(ms.ones((3, 2), split=0), folder / "x.csv")
    ms.save(ms.ones((400, 2), split=0), folder / "y.csv")
    with raises_alike(ValueError, f"rank 0 finds 11 bytes of text, rank {size - 1} finds 1599"):
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
