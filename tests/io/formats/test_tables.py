"""What CSV and Parquet have in common: columns with names, of arrays of one or two axes."""

import numpy as np
import pyarrow.parquet
import pytest
import torch
from files import EXAMPLES, temporary_folder
from hypothesis import given, settings
from hypothesis import strategies as hypo

import minisplit as ms
from minisplit.testing import assert_equal, spmd
from minisplit.testing import strategies as st

DTYPES = (
    torch.bool, torch.uint8, torch.int16, torch.int64, torch.float16, torch.float32, torch.float64
)  # fmt: skip


@settings(max_examples=EXAMPLES)
@given(
    x=st.dndarrays(shape=st.shapes(max_dims=2), dtype=st.dtypes(DTYPES)).filter(
        lambda x: x.tensor.ndim and x.tensor.shape[1:] != (0,)
    ),
    suffix=hypo.sampled_from(["csv", "parquet"]),
)
@spmd
def test_a_table_is_the_same_again(x, suffix):
    with temporary_folder() as folder:
        path = f"{folder}/x.{suffix}"
        ms.save(x.cut(), path)
        y = ms.load(path, split=x.layout.split, dtype=x.tensor.dtype)
        assert_equal(y, x.tensor.reshape(y.shape))
        if x.tensor.ndim == 1 and suffix == "parquet":
            assert_equal(ms.load(path, "0"), x.tensor)


@pytest.mark.serial
def test_other_programs_read_the_tables(tmp_path):
    x = ms.array([[1.5, float("nan")], [float("inf"), -2e-300]], split=0)
    ms.save(x, tmp_path / "x.csv", columns=["a", "b"])
    ms.save(x, tmp_path / "x.parquet", columns=["a", "b"])
    table = np.genfromtxt(tmp_path / "x.csv", delimiter=",", names=True)
    assert table.dtype.names == ("a", "b")
    np.testing.assert_array_equal([list(row) for row in table], x.numpy())
    columns = pyarrow.parquet.read_table(tmp_path / "x.parquet")
    np.testing.assert_array_equal(columns["b"].to_numpy(), x.numpy()[:, 1])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_columns_stay_what_they_are(folder, raises_alike, suffix):
    path = folder / f"x.{suffix}"
    for start in (0, 5):
        ms.save(ms.arange(start, start + 5, split=0), path, "time", mode="extend")
    assert ms.datasets(path) == ["time"]
    assert_equal(ms.load(path, "time", dtype=torch.int64), torch.arange(10))
    with raises_alike(ValueError, "'time', got"):
        ms.save(ms.ones((4, 1), dtype=torch.int64, split=0), path, mode="extend", columns=["space"])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_part_of_columns(folder, suffix):
    """Ranks that share the columns read whole rows, or their columns."""
    x = torch.arange(60.0, dtype=torch.float64).reshape(12, 5)
    ms.save(ms.array(x, split=1), folder / f"x.{suffix}", columns=list("edcba"))
    assert_equal(ms.load(folder / f"x.{suffix}", split=1), x)
    assert_equal(ms.load(folder / f"x.{suffix}", "c"), x[:, 2])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_names_that_cannot_be(folder, raises_alike, suffix):
    with raises_alike(ValueError, "give dataset= or columns=, not both, got 'a' and"):
        ms.save(ms.ones(3, split=0), folder / f"x.{suffix}", "a", columns=["b"])
    with raises_alike(ValueError, "columns must be 2 different names"):
        ms.save(ms.ones((3, 2), split=0), folder / f"x.{suffix}", columns=["b", "b"])


@pytest.mark.serial
def test_empty_cells_are_no_integers(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,\n")
    with pytest.raises(ValueError, match=r"the column 'b' of .* has empty cells; load it with dtype="):
        ms.load(tmp_path / "x.csv", dtype=torch.int64)
    assert ms.load(tmp_path / "x.csv", "a", dtype=torch.int64).tolist() == [1]
