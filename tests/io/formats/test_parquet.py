"""Parquet files and folders of them, as others write them."""

import datetime

import pyarrow
import pyarrow.parquet
import pytest

import minisplit as ms

pytestmark = pytest.mark.serial


def write_table(path, columns, **options):
    path.parent.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path, **options)


@pytest.mark.parametrize("column", [["text"], [[1.0, 2.0]], [None], [datetime.datetime(2026, 1, 1)]], ids=str)
def test_F1_columns_of_something_else(tmp_path, column):
    write_table(tmp_path / "x.parquet", {"a": [1.0], "b": column})
    with pytest.raises(TypeError, match=r"the column 'b' of .* holds (string|list|null|timestamp).*, no numbers"):
        ms.load(tmp_path / "x.parquet")
    assert ms.load(tmp_path / "x.parquet", "a").tolist() == [1.0]


def test_rows_lie_in_groups_of_several_files(tmp_path):
    columns = {"a": list(range(20)), "b": [0.5 * i for i in range(20)]}
    for part in range(3):
        write_table(tmp_path / f"x.pq/part-{part}", columns, row_group_size=7)
    (tmp_path / "x.pq" / "_metadata").write_text("of another program")
    rows = [[i, 0.5 * i] for i in range(20)] * 3
    for loaded in ms.testing.run(lambda: ms.load(tmp_path / "x.pq").tolist(), ranks=4):
        assert loaded == rows
    assert ms.load(tmp_path / "x.pq", "b", split=None).tolist() == [row[1] for row in rows]


def test_parts_that_do_not_fit_together(tmp_path):
    write_table(tmp_path / "x.pq/part-0", {"a": [1.0]})
    write_table(tmp_path / "x.pq/part-1", {"b": [1.0]})
    with pytest.raises(ValueError, match=r"the parts of .* have different columns"):
        ms.load(tmp_path / "x.pq")
    (tmp_path / "y.pq").mkdir()
    with pytest.raises(ValueError, match="is a folder without a part of a table"):
        ms.load(tmp_path / "y.pq")


def test_what_cannot_grow(tmp_path):
    write_table(tmp_path / "one.parquet", {"a": [1.0]})
    with pytest.raises(ValueError, match="is one file"):
        ms.save(ms.ones(2, dtype=ms.float64), tmp_path / "one.parquet", mode="extend")
    write_table(tmp_path / "m.pq/part-0", {"a": [1.0], "b": [1]})
    with pytest.raises(TypeError, match="of one dtype"):
        ms.save(ms.ones((2, 2), dtype=ms.float64), tmp_path / "m.pq", mode="extend")


def test_parts_that_others_have_named(tmp_path):
    for i in range(2):
        write_table(tmp_path / f"x.parquet/part-0000{i}-ab.parquet", {"a": [float(i)]})
    with pytest.raises(ValueError, match="the name of a new part would not come after it"):
        ms.save(ms.ones((1, 1)), tmp_path / "x.parquet", mode="extend")


def test_F1_more_rows_are_told_of_than_there_are(tmp_path):
    path = tmp_path / "x.parquet"
    write_table(path, {"a": [1.0, 2.0, 3.0]})
    content = path.read_bytes()
    footer = content.index(b"schema")
    wrong = []
    # The number of rows, in the footer, is 3, as a signed number of one byte.
    for i in range(footer, len(content)):
        if content[i] == 6:
            path.write_bytes(content[:i] + bytes([14]) + content[i + 1 :])
            try:
                loaded = ms.load(path).tolist()
            except (ValueError, OSError) as error:
                wrong.append(str(error))
            else:
                assert loaded == [[1.0], [2.0], [3.0]]
    assert any("tells of 7 rows where it has 3" in text for text in wrong)


def test_F1_rows_that_no_file_of_its_size_can_have(tmp_path):
    write_table(tmp_path / "x.parquet", {"a": [1.0, 2.0, 3.0]})
    x = ms.open(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="which are too few, however they are compressed"):
        x.read((slice(0, 2**37), slice(0, 1)))
