"""Maps from files and into files, and what becomes of one that was interrupted."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from files import on_rank_0
from torch.utils import _pytree as pytree

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.io import atomic, sink
from minisplit.io.formats.base import Target
from minisplit.io.formats.registry import format_of
from minisplit.io.sink import FileOutput, FileSink
from minisplit.testing import assert_equal, run

WHOLE = np.arange(68.0).reshape(17, 4)


@pytest.fixture
def folder(comm: ms.Communication, folder: Path) -> Path:
    """A folder that all ranks share, with x.npy in it."""
    on_rank_0(comm, lambda: np.save(folder / "x.npy", WHOLE))
    return folder


def double(v: torch.Tensor) -> torch.Tensor:
    return v * 2


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_from_a_file_to_files(folder: Path, chunk_size: int | None) -> None:
    x = ms.open(folder / "x.npy")
    assert (x.shape, x.dtype, x.split, x.nbytes, len(x)) == ((17, 4), torch.float64, 0, 544, 17)
    out = (folder / "sums.npy", folder / "double.npy", None)
    mapped = ms.vmap(lambda v: (v.sum(), v * 2, torch.ones(2)), (0, 1, None), chunk_size=chunk_size, out=out)
    sums, double, ones = mapped(x)
    assert isinstance(double, ms.StoredArray)
    assert (double.shape, double.split) == ((4, 17), 1)
    assert_equal(double.load(), torch.from_numpy(WHOLE.T * 2))
    assert_equal(sums.load(), torch.from_numpy(WHOLE.sum(1)))
    assert_equal(ones, torch.ones(2))
    np.testing.assert_array_equal(np.load(folder / "double.npy"), WHOLE.T * 2)
    assert sorted(path.name for path in folder.iterdir()) == ["double.npy", "sums.npy", "x.npy"]


@pytest.mark.serial
def test_the_new_names_of_outputs_are_handed_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If power fails after the call, the folder may otherwise have the name of the unfinished file still."""
    names, real = [], atomic._fsync

    def fsync(path: str) -> None:
        names.append(path if Path(path).is_file() else sorted(file.name for file in Path(path).iterdir()))
        real(path)

    monkeypatch.setattr(atomic, "_fsync", fsync)
    ms.vmap(double, out=tmp_path / "y.npy")(ms.arange(3, split=0))
    assert names[0] == str(tmp_path / ".y.npy.partial")
    assert "y.npy" in names[1]


@pytest.mark.parametrize("suffix", [".zarr", ".h5", ".safetensors"])
def test_other_formats(folder: Path, suffix: str) -> None:
    """17 samples in chunks of 3: a chunk has parts on two ranks."""
    mapped = ms.vmap(lambda v: v * 2, 1, chunk_size=3, out=folder / f"y{suffix}")
    (y,) = mapped(ms.open(folder / "x.npy"))
    assert_equal(y.load(), torch.from_numpy(WHOLE.T * 2))
    assert_equal(ms.load(folder / f"y{suffix}"), torch.from_numpy(WHOLE.T * 2))
    (z,) = ms.vmap(lambda v: v + 1, chunk_size=2, out=folder / f"z{suffix}")(y)
    assert_equal(z.load(), torch.from_numpy(WHOLE * 2 + 1))


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_several_outputs_in_one_file(folder: Path, suffix: str) -> None:
    mapped = ms.vmap(lambda v: {"sum": v.sum(), "twice": v * 2}, chunk_size=4, out=folder / f"y{suffix}")
    found = mapped(ms.open(folder / "x.npy"))
    assert ms.datasets(folder / f"y{suffix}") == ["sum", "twice"]
    assert_equal(found["sum"].load(), torch.from_numpy(WHOLE.sum(1)))
    assert_equal(ms.load(folder / f"y{suffix}", "twice"), torch.from_numpy(WHOLE * 2))


def test_other_dtypes_and_splits(folder: Path) -> None:
    x = ms.open(folder / "x.npy", split=1, dtype=torch.float32)
    (y,) = ms.vmap(double)(x)
    assert_equal(y, torch.from_numpy(WHOLE.T * 2).float())
    assert_equal(ms.open(folder / "x.npy", split=None).load(), torch.from_numpy(WHOLE))


def test_an_array_in_memory_into_a_file(folder: Path) -> None:
    (y,) = ms.vmap(double, out=str(folder / "y.npy"))(ms.array(WHOLE, split=0))
    assert_equal(y.load(), torch.from_numpy(WHOLE * 2))


@pytest.mark.parametrize(
    ("call", "kind", "match"),
    [
        (
            lambda folder: ms.vmap(lambda v: (v, v), out=folder / "y.npy")(ms.open(folder / "x.npy")),
            ValueError,
            "out has 1 paths, but func returns 2 mapped outputs",
        ),
        (
            lambda folder: ms.vmap(double, out=folder / "none" / "y.npy")(ms.open(folder / "x.npy")),
            FileNotFoundError,
            "none",
        ),
    ],
)
def test_errors_are_alike(
    folder: Path, raises_alike: Any, call: Callable[[Path], object], kind: type[Exception], match: str
) -> None:
    with raises_alike(kind, match=match):
        call(folder)


def test_F3_a_rank_that_cannot_write(folder: Path, rank: int, size: int, raises_alike: Any) -> None:
    """The old file is as it was; once there is room, the map goes on."""
    seen: list[int] = []

    def failing(v: torch.Tensor) -> torch.Tensor:
        seen.append(1)
        if rank == size - 1 and len(seen) == 2 and full:
            raise OSError(28, "No space left on device")
        return v * 2

    full = ["yes"]
    (_,) = ms.vmap(lambda v: v, out=folder / "y.npy")(ms.open(folder / "x.npy"))
    with raises_alike(OSError, match="No space left"):
        ms.vmap(failing, chunk_size=1, out=folder / "y.npy")(ms.open(folder / "x.npy"))
    np.testing.assert_array_equal(np.load(folder / "y.npy"), WHOLE)
    full.clear()
    ms.vmap(failing, chunk_size=1, out=folder / "y.npy", resume=True)(ms.open(folder / "x.npy"))
    np.testing.assert_array_equal(np.load(folder / "y.npy"), WHOLE * 2)


class Scale(torch.nn.Module):
    def __init__(self, weight: float, fails: bool = False) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor(weight))
        self.fails = fails

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        if self.fails:
            raise RuntimeError("lacks something")
        return v * self.weight


def test_what_is_resumed_must_be_the_same_call(folder: Path, raises_alike: Any) -> None:
    def scaled(by: float) -> Callable[[torch.Tensor], torch.Tensor]:
        def scale(v: torch.Tensor) -> torch.Tensor:
            if by == 2:
                raise ValueError("two")
            return v * by

        return scale

    x = ms.open(folder / "x.npy")
    with raises_alike(ValueError, match="two"):
        ms.vmap(scaled(2), out=folder / "y.npy")(x)
    for other in (double, scaled(3)):
        with raises_alike(ValueError, match="is of another call, so resume=True cannot go on with it"):
            ms.vmap(other, out=folder / "y.npy", resume=True)(x)
    with raises_alike(RuntimeError, match="lacks"):
        ms.vmap(Scale(2.0, fails=True), out=folder / "y.npy")(x)
    with raises_alike(ValueError, match="is of another call, so resume=True cannot go on with it"):
        ms.vmap(Scale(3.0), out=folder / "y.npy", resume=True)(x)  # the module has other weights
    ms.vmap(double, out=folder / "y.npy")(x)  # afresh
    assert not list(folder.glob(".y*"))


@pytest.mark.serial
def test_a_map_goes_on_with_another_number_of_ranks(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", WHOLE)
    mapped: list[int] = []

    def body(stop_after: int) -> None:
        left = list(range(stop_after))  # a number would make it another function

        def func(v: torch.Tensor) -> torch.Tensor:
            if not left:
                raise RuntimeError("enough")
            left.pop()
            mapped.append(1)
            return v + 1

        ms.vmap(func, chunk_size=2, out=tmp_path / "y.npy", resume=True)(ms.open(tmp_path / "x.npy"))

    with pytest.raises(RuntimeError, match="enough"):
        run(body, 1, ranks=3)
    assert len(mapped) == 3  # a block of 2 samples for each rank
    run(body, 99, ranks=2)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), WHOLE + 1)
    assert len(mapped) < 3 + 9 + 2


@pytest.mark.serial
def test_F3_killed_in_the_middle(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", WHOLE)
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        "import minisplit as ms\n"
        "count = []\n"
        "def func(v):\n"
        "    count.append(1)\n"
        "    if len(count) == int(sys.argv[1]): os.kill(os.getpid(), 9)\n"
        "    return v + 1\n"
        f"ms.vmap(func, chunk_size=2, out={str(tmp_path / 'y.npy')!r}, resume=True)"
        f"(ms.open({str(tmp_path / 'x.npy')!r}))\n"
        "print(len(count))\n"
    )
    killed = subprocess.run([sys.executable, program, "5"], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "y.npy").exists()
    resumed = subprocess.run([sys.executable, program, "0"], check=True, capture_output=True, text=True)
    assert resumed.stdout.split() == ["5"]  # of 9 blocks 4 had been written
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), WHOLE + 1)


def test_paths_go_by_the_structure_not_by_their_order(folder: Path) -> None:
    mapped = ms.vmap(lambda v: {"a": v, "b": v * 2}, out={"b": folder / "b.npy", "a": folder / "a.npy"})
    found = mapped(ms.open(folder / "x.npy"))
    np.testing.assert_array_equal(np.load(folder / "a.npy"), WHOLE)
    assert_equal(found["b"].load(), torch.from_numpy(WHOLE * 2))


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (("y.h5", "y.h5"), "a different one for each mapped output"),
        ((None, None), "a different one for each mapped output"),
        (("y.npy", "z.csv"), r"out cannot be z\.csv: csv files cannot be written block by block"),
        ({"a": "y.npy", "b": "z.npy"}, r"as func returns them \(0, 1\)"),
    ],
)
def test_paths_that_cannot_be(folder: Path, raises_alike: Any, names: Any, match: str) -> None:
    out = pytree.tree_map(lambda name: None if name is None else folder / name, names)
    with raises_alike(ValueError, match=match):
        ms.vmap(lambda v: (v, v * 2), out=out)(ms.open(folder / "x.npy"))


def test_outputs_that_would_have_one_name(folder: Path, raises_alike: Any) -> None:
    with raises_alike(ValueError, match="outputs need different names in one file"):
        ms.vmap(lambda v: {"a/b": v, "a": {"b": v}}, out=folder / "y.h5")(ms.open(folder / "x.npy"))


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def test_F3_what_was_written_is_lost_or_half_made(
    folder: Path, comm: ms.Communication, raises_alike: Any, suffix: str, lost: bool
) -> None:
    """Either no block had been written, or all that had been is gone: it starts afresh."""
    full, seen, x = ["yes"], [], ms.open(folder / "x.npy")

    def failing(v: torch.Tensor) -> torch.Tensor:
        seen.append(1)
        if full and len(seen) == 1 + lost:
            raise OSError(28, "No space left on device")
        return v * 2

    mapped = ms.vmap(failing, chunk_size=1, out=folder / f"y{suffix}", resume=True)
    # Debug mode would map the first sample twice, and count it twice.
    with ms.debug(False), raises_alike(OSError, match="No space left"):
        mapped(x)
    if comm.rank == 0:
        partial = folder / f".y{suffix}.partial"
        if lost:
            shutil.move(partial, folder / "elsewhere")
        else:
            partial.touch()
    full.clear()
    comm.agree(np.zeros(1, dtype=np.int64))
    (y,) = mapped(x)
    assert_equal(y.load(), torch.from_numpy(WHOLE * 2))


def test_what_is_resumed_may_have_chunks_of_another_size(comm: ms.Communication) -> None:
    """Then no rank has a chunk of the file to itself."""
    layout = ms.Layout((8, 2), 0, ranks=2)
    target = Target(".y.zarr.partial", None, layout, torch.float64, {"chunks": (2, 2)})
    output = FileOutput(Path("y.zarr"), format_of("y.zarr"), target)
    assert (output.shares_chunks(resumed=False), output.shares_chunks(resumed=True)) == (False, True)


def test_V24_another_function_on_one_rank(folder: Path, rank: int, size: int, raises_alike: Any) -> None:
    if size > 1:
        with ms.debug(), raises_alike(ValueError, match="every rank must map the same function"):
            ms.vmap(double if rank else torch.sqrt)(ms.open(folder / "x.npy"))


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def test_F6_of_two_calls_with_one_output_one_is_refused(
    folder: Path, comm: ms.Communication, raises_alike: Any, suffix: str, resume: bool
) -> None:
    """The first returned with what the second had half written."""

    def other(v: torch.Tensor) -> torch.Tensor:
        if ms.get_comm().rank == 0:
            x = ms.array(WHOLE, split=0, comm=ms.MPI_SELF)
            with pytest.raises(BlockingIOError, match="another job is writing to the file"):
                ms.vmap(double, out=folder / f"y{suffix}", resume=resume)(x)
        return v * 3

    with ms.debug(False):
        (y,) = ms.vmap(other, chunk_size=3, out=folder / f"y{suffix}")(ms.open(folder / "x.npy"))
    assert_equal(y.load(), torch.from_numpy(WHOLE * 3))
    (y,) = ms.vmap(double, out=folder / f"y{suffix}")(ms.open(folder / "x.npy"))  # it was given free
    assert sorted(path.name for path in folder.iterdir()) == ["x.npy", f"y{suffix}"]


def fails(v: torch.Tensor) -> torch.Tensor:
    raise OSError("killed")


@pytest.mark.serial
@pytest.mark.parametrize("suffix", [".npy", ".zarr", ".h5"])
@pytest.mark.parametrize("moved", [True, False])
def test_F10_killed_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, moved: bool) -> None:
    """A folder that was replaced has the name of the unfinished one: a call that resumed took it for its own."""
    ms.save(ms.zeros((17, 4), dtype=torch.float64), tmp_path / f"y{suffix}")
    mapped = ms.vmap(double, chunk_size=3, out=tmp_path / f"y{suffix}", resume=True)
    real = sink.move_into_place

    def killed(*names: str) -> None:
        if moved:
            real(*names)
        raise OSError("killed")

    monkeypatch.setattr(sink, "move_into_place", killed)
    with pytest.raises(OSError, match="killed"):
        mapped(ms.array(WHOLE, split=0))
    monkeypatch.undo()
    (y,) = mapped(ms.array(WHOLE, split=0))
    assert_equal(y.load(), torch.from_numpy(WHOLE * 2))
    assert [path.name for path in tmp_path.iterdir()] == [f"y{suffix}"]


def test_F6_another_call_has_written_to_one_of_the_outputs(folder: Path, raises_alike: Any) -> None:
    """Its half was taken for that of the call that is resumed."""
    left = [3]

    def both(v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if not left[0]:
            raise OSError("killed")
        left[0] -= 1
        return v * 2, v * 3

    two = ms.vmap(both, chunk_size=1, out=(folder / "y.npy", folder / "z.npy"), resume=True)
    with ms.debug(False):
        with raises_alike(OSError, match="killed"):
            two(ms.open(folder / "x.npy"))
        with raises_alike(OSError, match="killed"):
            ms.vmap(fails, chunk_size=1, out=folder / "z.npy")(ms.open(folder / "x.npy"))
        left[0] = 99
        with raises_alike(ValueError, match=r"\.z\.npy\.journal is of another call"):
            two(ms.open(folder / "x.npy"))
        ms.vmap(double, out=folder / "z.npy")(ms.open(folder / "x.npy"))
        _, z = two(ms.open(folder / "x.npy"))  # afresh
    assert_equal(z.load(), torch.from_numpy(WHOLE * 3))


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def test_a_link_stays_a_link(folder: Path, comm: ms.Communication, suffix: str) -> None:
    on_rank_0(comm, (folder / "far").mkdir)
    on_rank_0(comm, lambda: (folder / f"y{suffix}").symlink_to(folder / "far" / f"z{suffix}"))
    ms.vmap(double, out=folder / f"y{suffix}")(ms.open(folder / "x.npy"))
    assert (folder / f"y{suffix}").is_symlink()
    assert_equal(ms.load(folder / "far" / f"z{suffix}"), torch.from_numpy(WHOLE * 2))


@pytest.mark.parametrize("text", ["", "half of a jo"])
def test_F10_a_journal_that_was_half_written(folder: Path, comm: ms.Communication, text: str) -> None:
    """The call was killed while it wrote what it is: the next one starts afresh."""
    on_rank_0(comm, (folder / ".y.npy.journal").mkdir)
    on_rank_0(comm, lambda: (folder / ".y.npy.journal" / "new").write_text(text))
    (y,) = ms.vmap(double, out=folder / "y.npy", resume=True)(ms.open(folder / "x.npy"))
    assert_equal(y.load(), torch.from_numpy(WHOLE * 2))


def test_F10_half_a_line_of_a_journal(folder: Path, comm: ms.Communication, raises_alike: Any) -> None:
    """ "0 17" cut short was taken for the samples from 0 to 1."""
    mapped = ms.vmap(double, chunk_size=1, out=folder / "y.npy", resume=True)
    real = FileSink.finish

    def finish(sink: FileSink) -> None:
        with agreement(sink.comm, "being killed"):
            raise OSError("killed")

    ms.get_comm().agree(np.zeros(1, dtype=np.int64))
    FileSink.finish = finish  # type: ignore[method-assign, assignment]
    try:
        with raises_alike(OSError, match="killed"):
            mapped(ms.open(folder / "x.npy"))
    finally:
        ms.get_comm().agree(np.zeros(1, dtype=np.int64))
        FileSink.finish = real  # type: ignore[method-assign]

    def cut() -> None:
        """As if a rank had been killed while it noted the last sample, and had not written it."""
        for log in (folder / ".y.npy.journal").glob("done-*"):
            log.write_text("")
        (folder / ".y.npy.journal" / "done-0-1").write_text("0 5\n5 1")
        written = np.load(folder / ".y.npy.partial")
        written[5:] = -1
        (folder / ".y.npy.partial").write_bytes(b"")
        with (folder / ".y.npy.partial").open("wb") as file:
            np.save(file, written)

    on_rank_0(comm, cut)
    (y,) = mapped(ms.open(folder / "x.npy"))
    assert_equal(y.load(), torch.from_numpy(WHOLE * 2))
