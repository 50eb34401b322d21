"""Which engine a process takes, and that no engine needs another one's library."""

from __future__ import annotations

import subprocess
import sys

import pytest

from minisplit.core.communication.engine import choose_engine

pytestmark = pytest.mark.serial

TORCH = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1234"}
TORCHRUN = TORCH | {"LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "x"}
MPICH = {"PMI_RANK": "1", "PMI_SIZE": "2"}
OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}
SRUN = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "1"}


@pytest.mark.parametrize(
    ("environ", "engine"),
    [
        ({}, "single"),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8"}, "single"),  # a batch script
        ({"WORLD_SIZE": "2"}, "single"),
        (MPICH, "mpi"),
        (OPEN_MPI, "mpi"),
        (SRUN, "mpi"),
        ({"PALS_RANKID": "0"}, "mpi"),
        ({"PMIX_RANK": "0"}, "mpi"),
        (TORCH, "torch"),
        (TORCHRUN, "torch"),
        (SRUN | TORCH, "torch"),
        (MPICH | SRUN | TORCH, "torch"),  # srun sets the variables of MPICH's launcher too
        (OPEN_MPI | TORCHRUN, "torch"),  # torchrun was started on each node by mpirun
        (OPEN_MPI | TORCH, "mpi"),
        (TORCHRUN | {"MINISPLIT_ENGINE": "mpi"}, "mpi"),
        (MPICH | {"MINISPLIT_ENGINE": "single"}, "single"),
        ({"MINISPLIT_ENGINE": "torch"}, "torch"),
    ],
    ids=str,
)
def test_the_choice(environ: dict[str, str], engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
    assert choose_engine(environ) == engine


def test_a_program_that_has_imported_MPI_means_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", sys)
    assert (choose_engine({}), choose_engine(TORCHRUN)) == ("mpi", "torch")


def test_a_name_that_is_none() -> None:
    with pytest.raises(ValueError, match="must be 'mpi', 'torch' or 'single', got 'nccl'"):
        choose_engine({"MINISPLIT_ENGINE": "nccl"})


PROGRAM = """
import sys
for name in ("mpi4py", "torch.distributed.elastic"):
    sys.modules[name] = None  # an import of it fails
import torch, minisplit as ms
(y,) = ms.vmap(lambda v: 2 * v)(ms.arange(5, split=0))
assert y.numpy().tolist() == [0, 2, 4, 6, 8]
assert (ms.WORLD.size, ms.MPI_WORLD, ms.MPI_SELF) == (1, ms.WORLD, ms.SELF)
print(ms.WORLD)
"""


@pytest.mark.parametrize("engine", ["", "single", "torch"])
def test_one_process_needs_no_mpi4py(engine: str) -> None:
    environ = {"MINISPLIT_ENGINE": engine, "PYTHONPATH": ":".join(sys.path)}
    if engine == "torch":
        environ |= {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout == f"<{'Torch' if engine == 'torch' else 'Single'}Communication rank 0 of 1>\n"


def test_a_process_that_a_rank_starts_by_spawn_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rank = {"PMI_RANK": "1", "PMI_SIZE": "2", "MINISPLIT_ENGINE": "mpi"}
    assert choose_engine(rank) == "mpi"
    for command in ("from multiprocessing.spawn import spawn_main", "from multiprocessing.forkserver import main"):
        monkeypatch.setattr(sys, "orig_argv", ["python", "-c", command])
        assert choose_engine(rank) == "single"
