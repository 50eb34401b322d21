"""Which device a rank uses, and what launchers tell it."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

import minisplit as ms
from minisplit.core.pytorch import devices
from minisplit.core.pytorch.devices import cores, rank_environment, sanitize_device, threads_of_rank

LAUNCHER_NAMES = [name for names in devices._LAUNCHERS for name in names]


@pytest.fixture
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (*LAUNCHER_NAMES, "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("device", [None, "cpu", torch.device("cpu")], ids=repr)
def test_cpu(device: Any) -> None:
    assert sanitize_device(device) == ms.cpu == torch.device("cpu")


def test_a_device_with_an_index_is_kept() -> None:
    assert sanitize_device("cuda:3") == torch.device("cuda", 3)


@pytest.mark.parametrize("device", ["xpu9?", "", 2.5, ["cpu"]], ids=repr)
def test_unknown_device(device: Any) -> None:
    with pytest.raises(ValueError, match=r"device must be 'cpu', 'gpu' or a torch\.device, got "):
        sanitize_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["gpu", "cuda"])
def test_gpu_where_there_is_none(device: str) -> None:
    with pytest.raises(ValueError, match=f"device '{device}' was asked for, but torch sees no GPU"):
        sanitize_device(device)


@pytest.mark.parametrize(("local", "chosen"), [("0", 0), ("1", 1), ("5", 1)])
def test_ranks_of_a_node_take_turns_on_its_gpus(no_launcher: pytest.MonkeyPatch, local: str, chosen: int) -> None:
    no_launcher.setattr(torch.cuda, "is_available", lambda: True)
    no_launcher.setattr(torch.cuda, "device_count", lambda: 2)
    no_launcher.setenv("SLURM_PROCID", "40")
    no_launcher.setenv("SLURM_STEP_NUM_TASKS", "64")
    no_launcher.setenv("SLURM_LOCALID", local)
    assert sanitize_device("gpu") == torch.device("cuda", chosen)


def launched() -> tuple[int, ...]:
    told = rank_environment()
    assert told is not None
    return told.rank, told.size, told.local_rank


def test_torchrun_comes_before_what_has_started_it(no_launcher: pytest.MonkeyPatch) -> None:
    torchrun = {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    for name, value in {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2", **torchrun}.items():
        no_launcher.setenv(name, value)
    assert launched() == (5, 8, 1)


@pytest.mark.parametrize("names", devices._LAUNCHERS, ids=lambda names: names[0])
def test_launchers_are_recognised(no_launcher: pytest.MonkeyPatch, names: tuple[str, str, str]) -> None:
    assert rank_environment() is None
    for name, value in zip(names, ("5", "8", "1"), strict=True):
        no_launcher.setenv(name, value)
    assert launched() == (5, 8, 1)
    no_launcher.delenv(names[2])
    assert launched() == (5, 8, 5)
    no_launcher.setenv(names[1], "many")
    assert rank_environment() is None


def test_srun_tells_MPICH_the_rank_in_its_words_but_not_that_in_the_node(no_launcher: pytest.MonkeyPatch) -> None:
    for name, value in {"PMI_RANK": "5", "PMI_SIZE": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}.items():
        no_launcher.setenv(name, value)
    assert launched() == (5, 8, 1)
    no_launcher.setenv("SLURM_PROCID", "0")  # that of a launcher which srun has started, or of a shell
    assert launched() == (5, 8, 5)


def test_the_tasks_of_an_allocation_are_not_those_of_a_job(no_launcher: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}.items():
        no_launcher.setenv(name, value)  # as in a batch script
    assert rank_environment() is None


def test_this_launcher_agrees_with_mpi(rank: int, size: int) -> None:
    announced = rank_environment()
    if size == 1 or announced is None:
        pytest.skip("started without a launcher, or by one that is not known")
    assert announced[:2] == (rank, size)


@pytest.mark.parametrize(
    ("sets", "number", "wanted"),
    [
        ([5], 8, [8]),
        ([5, 5, 5], 8, [2, 2, 2]),
        ([5, 5, 6, 6, 6], 2, [1, 1, 1, 1, 1]),  # two machines of 2 cores
        ([1, 2, 3, 3], 4, [4, 4, 2, 2]),  # the launcher has bound the first two ranks
    ],
)
def test_ranks_share_the_cores_that_they_have_in_common(sets: list[int], number: int, wanted: list[int]) -> None:
    assert [threads_of_rank(rank, sets, number) for rank in range(len(sets))] == wanted


def test_cores_are_those_of_this_process() -> None:
    first, number = cores()
    assert 0 < number <= (os.cpu_count() or 1)
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert cores()[1] == 1
        assert (cores()[0] == first) == (number == 1)
    finally:
        os.sched_setaffinity(0, allowed)
