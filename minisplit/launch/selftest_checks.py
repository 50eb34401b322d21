"""The checks of `python -m minisplit selftest`: each rank runs `python -m minisplit.launch.selftest_checks`.

Tested in tests/launch/test_selftest.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

import minisplit as ms
from minisplit.core.communication.agreement import agreement

# So many that the ranks have different numbers of samples.
SAMPLES = 103


def agree(comm: ms.Communication) -> None:
    """Check that the ranks count each other."""
    totals = comm.allreduce(torch.tensor([1, comm.rank])).tolist()
    assert totals == [comm.size, sum(range(comm.size))], f"the ranks make {totals}"


def exchange(comm: ms.Communication) -> None:
    """Check that rows become columns, that one rank gets all of them, and that they become rows again."""
    x = ms.arange(SAMPLES * 7, split=0).reshape((SAMPLES, 7))
    # Then on one rank, so that the others have empty shards, from which messages are neither sent nor awaited.
    on_first_rank = x.resplit(1).redistribute([7] + [0] * (comm.size - 1))
    expected = torch.arange(SAMPLES * 7).reshape(SAMPLES, 7).numpy()
    assert (on_first_rank.resplit(0).numpy() == expected).all()


def vmap(comm: ms.Communication) -> None:
    """Check that a mapped function returns what torch returns."""
    matrices = torch.linspace(0, 1, SAMPLES * 9, dtype=torch.float64).reshape(SAMPLES, 3, 3)
    result = ms.vmap(torch.linalg.matrix_exp).one(ms.array(matrices, split=0))
    np.testing.assert_allclose(result.numpy(), torch.linalg.matrix_exp(matrices).numpy(), rtol=1e-12)


def random(comm: ms.Communication) -> None:
    """Check that random numbers do not depend on the split."""
    with ms.random.fork(7):
        split = ms.random.rand(SAMPLES, split=0).numpy()
    with ms.random.fork(7):
        replicated = ms.random.rand(SAMPLES).numpy()
    assert (split == replicated).all()


def error(comm: ms.Communication) -> None:
    """Check that all ranks get the error of the last rank, which has the last sample, and can go on."""
    matrices = torch.eye(2).repeat(SAMPLES, 1, 1)
    matrices[-1] = -1.0
    try:
        ms.vmap(torch.linalg.cholesky)(ms.array(matrices, split=0))
    except RuntimeError:  # a LinAlgError, which versions of torch have in different modules
        agree(comm)
    else:
        raise AssertionError("an error of one rank was not raised")


CHECKS: dict[str, Callable[[ms.Communication], None]] = {
    check.__name__: check for check in (agree, exchange, vmap, random, error)
}


def main() -> None:
    """Run the checks; rank 0 prints each that has passed on all ranks."""
    comm = ms.get_comm()
    for name, check in CHECKS.items():
        with agreement(comm, f"checking {name}"):
            check(comm)
        if comm.rank == 0:
            print(f"passed {name} on {comm.size}", flush=True)


if __name__ == "__main__":
    main()
