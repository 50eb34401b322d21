"""Checkpoints: what is saved by some ranks is loaded by others, and what cannot be saved says so on all."""

import json

import pytest
import safetensors.torch
import torch
from files import on_rank_0

import minisplit as ms
from minisplit.io.formats import raw
from minisplit.io.formats.safetensors import create_file


def same(one, other):
    if isinstance(one, ms.DNDarray | torch.Tensor):
        return type(one) is type(other) and one.dtype == other.dtype and one.tolist() == other.tolist()
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


def state_of(comm):
    ragged = [3] + [0] * (comm.size - 1)
    return {
        "x": ms.arange(3, split=0, comm=comm).redistribute(ragged),
        "z": ms.ones((2, 4), dtype=torch.complex128, split=1, comm=comm),
        "whole": ms.full(3, 2.5, dtype=torch.bfloat16, comm=comm),
        "empty": [ms.zeros((0, 2), split=0, comm=comm), (), {}, []],
        "optimizer": {
            0: {"step": torch.tensor(7.0), "exp_avg": torch.randn(2, 3, generator=torch.manual_seed(1))}
        },
        "numbers": (1, -2.5, float("inf"), float("nan"), True, None, 2j, "text", 2**70),
        "a/b": torch.zeros(2),
        "a": {"b": torch.ones(2), "__metadata__": torch.ones(1).conj()},
        "__metadata__": torch.tensor([1j]).conj(),
    }


def test_a_state_comes_back(comm, folder):
    path = f"{folder}/state.ckpt"
    state = state_of(comm)
    ms.save_checkpoint(state, path)
    loaded = ms.load_checkpoint(path)
    assert same(loaded, state)
    assert loaded["x"].layout == state["x"].layout
    assert loaded["z"].split == 1
    assert safetensors.torch.load_file(path)["optimizer/0/exp_avg"].shape == (2, 3)


def test_random_numbers_go_on_from_a_checkpoint(folder):
    with ms.random.fork(3):
        ms.save_checkpoint({"draws": ms.random.get_state()}, f"{folder}/draws.ckpt")
        expected = ms.random.rand(3).tolist()
        ms.random.set_state(ms.load_checkpoint(f"{folder}/draws.ckpt")["draws"])
        assert ms.random.rand(3).tolist() == expected


@pytest.mark.serial
@pytest.mark.parametrize(("saving", "loading"), [(1, 3), (3, 1), (3, 2), (4, 4)])
def test_another_number_of_ranks_loads_it(tmp_path, saving, loading):
    path = tmp_path / "state.ckpt"
    ms.testing.run(lambda: ms.save_checkpoint(state_of(ms.get_comm()), path), ranks=saving)

    def load():
        loaded = ms.load_checkpoint(path)
        assert same(loaded, state_of(ms.get_comm()))
        assert loaded["x"].is_balanced() == (saving != loading or loading == 1)
        assert loaded["x"].split == 0

    ms.testing.run(load, ranks=loading)


@pytest.mark.parametrize(
    ("state", "match"),
    [
        ({"a": [object()]}, "'a/0' is a object"),
        ({"a": {(1, 2): 3}}, r"texts or ints, got \(1, 2\) in '/a'"),
        ({"a": torch.empty(2, dtype=torch.float8_e4m3fnuz)}, "no torch.float8_e4m3fnuz"),
    ],
)
def test_what_a_checkpoint_cannot_hold(raises_alike, state, match):
    with raises_alike(TypeError, match):
        ms.save_checkpoint(state, "never.ckpt")


@pytest.mark.several
def test_ranks_save_different_states(rank, raises_alike):
    with raises_alike(ValueError, "the state of a checkpoint must be the same on every rank"):
        ms.save_checkpoint({"loss": rank}, "never.ckpt")
    with raises_alike(ValueError, "but rank 0 has checksum [0-9a-f]+, rank 1 has checksum"):
        ms.save_checkpoint({"w": torch.zeros(1 + rank)}, "never.ckpt")
    with ms.debug(), raises_alike(ValueError, "the replicated array 'w'"):
        ms.save_checkpoint({"w": torch.full((2,), rank)}, "never.ckpt")


def test_what_is_no_checkpoint(comm, raises_alike, folder):
    ms.save(ms.zeros(3), f"{folder}/x.safetensors")
    with raises_alike(ValueError, "is no checkpoint of minisplit"):
        ms.load_checkpoint(f"{folder}/x.safetensors")
    with raises_alike(FileNotFoundError, "missing"):
        ms.load_checkpoint(f"{folder}/missing")
    if comm.rank == 0:
        told = {"minisplit": json.dumps({"version": 1, "state": {"array": "x", "real": False}})}
        create_file(f"{folder}/y", {}, told)
    with raises_alike((ValueError, FileNotFoundError), "the array 'x' is missing|No such file"):
        ms.load_checkpoint(f"{folder}/y")


def test_F3_a_failing_rank_leaves_the_old_checkpoint(comm, rank, size, raises_alike, folder, monkeypatch):
    path = f"{folder}/c"
    ms.save_checkpoint({"x": ms.zeros(size, split=0), "y": ms.zeros((2, size), split=1)}, path)
    real = raw.write_at

    def full(*args):
        if ms.get_comm().rank == size - 1:
            raise OSError(28, "No space left on device")
        real(*args)

    monkeypatch.setattr(raw, "write_at", full)
    with raises_alike(OSError, rf"rank {size - 1} of {size} failed while writing its part"):
        ms.save_checkpoint({"x": ms.ones(size, split=0), "y": ms.zeros((2, size), split=1)}, path)
    assert ms.load_checkpoint(path)["x"].tolist() == [0.0] * size


def test_F1_a_structure_that_is_none(comm, folder, raises_alike):
    path = folder / "c.safetensors"
    ms.save_checkpoint({"a": [1, (2,)], "x": ms.ones(3, split=0)}, path)
    on_rank_0(comm, lambda: path.write_bytes(path.read_bytes().replace(b"tuple", b"tuqle")))
    with raises_alike(ValueError, "is no checkpoint of minisplit: its structure is wrong"):
        ms.load_checkpoint(path)
