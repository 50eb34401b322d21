"""What the ranks of `python -m minisplit selftest` check: `python -m minisplit.launch.checks`, on every rank."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

import minisplit as ms
from minisplit.core.communication.agreement import agreement

SAMPLES = 103


def agree(comm: ms.Communication) -> None:
    """The ranks count each other."""
    ranks = comm.allreduce(torch.tensor([1, comm.rank])).tolist()
    assert ranks == [comm.size, sum(range(comm.size))], f"the ranks make {ranks}"


def exchange(comm: ms.Communication) -> None:
    """Rows become columns, and all lands on one rank, and comes back."""
    x = ms.arange(SAMPLES * 7, split=0).reshape((SAMPLES, 7))
    lumped = x.resplit(1).redistribute([7] + [0] * (comm.size - 1))
    expected = torch.arange(SAMPLES * 7).reshape(SAMPLES, 7).numpy()
    assert (lumped.resplit(0).numpy() == expected).all()


def vmap(comm: ms.Communication) -> None:
    """A mapped function gives what torch gives."""
    whole = torch.linspace(0, 1, SAMPLES * 9, dtype=torch.float64).reshape(SAMPLES, 3, 3)
    [found] = ms.vmap(torch.linalg.matrix_exp)(ms.array(whole, split=0))
    np.testing.assert_allclose(found.numpy(), torch.linalg.matrix_exp(whole).numpy(), rtol=1e-12)


def random(comm: ms.Communication) -> None:
    """Random numbers are the same however they are cut."""
    with ms.random.fork(7):
        cut = ms.random.rand(SAMPLES, split=0).numpy()
    with ms.random.fork(7):
        whole = ms.random.rand(SAMPLES).numpy()
    assert (cut == whole).all()


def error(comm: ms.Communication) -> None:
    """The function fails on the last rank, which has the last sample: all ranks get the error, and go on."""
    matrices = torch.eye(2).repeat(SAMPLES, 1, 1)
    matrices[-1] = -1.0
    try:
        ms.vmap(torch.linalg.cholesky)(ms.array(matrices, split=0))
    except RuntimeError:  # a LinAlgError, whose name torch has moved about
        agree(comm)
    else:
        raise AssertionError("an error of one rank was not raised")


CHECKS: dict[str, Callable[[ms.Communication], None]] = {
    check.__name__: check for check in (agree, exchange, vmap, random, error)
}


def main() -> None:
    comm = ms.get_comm()
    for name, check in CHECKS.items():
        with agreement(comm, f"checking {name}"):
            check(comm)
        if comm.rank == 0:
            print(f"passed {name} on {comm.size}", flush=True)


if __name__ == "__main__":
    main()
