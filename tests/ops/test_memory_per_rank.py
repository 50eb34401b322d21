"""No array need fit on one rank: no rank makes or receives more than a few times its fair share of what is there.

The calls are those of `test_all_operations`, on larger arrays. What gathers an operand is named below, with its
reason. An operation that begins to gather fails, and so does a name that is no longer true.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ops.test_all_operations import NUMPY, RENAMED, STANDARD
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import minisplit as ms
from minisplit.core import collectives
from minisplit.core.random import distributions
from minisplit.ops.linalg.split_matrix import condensed, one_matrix, panels, spectra, transposition
from minisplit.ops.linalg.split_matrix import divide_and_conquer as spectrum
from minisplit.testing import run

RANKS = 8
# The largest buffer of a rank over its fair share of the largest array. Where each rank has all of one it is 8.
LIMIT = 4.5

rng = np.random.default_rng(0)
N = 96
ARRAYS: dict[str, Any] = {
    **{key: rng.standard_normal((N + 8, N)) for key in "xyn"},
    **{key: rng.integers(1, 4, (N + 8, N)) for key in "ij"},
    **{key: rng.random((N + 8, N)) < 0.5 for key in "bc"},
    **{key: rng.standard_normal(N * N) for key in "vw"},
    "u": rng.uniform(-0.9, 0.9, (N + 8, N)),
    "p": rng.uniform(1.1, 3.0, (N + 8, N)),
    "z": rng.standard_normal((N + 8, N)) + 1j,
    "t": rng.standard_normal((16, 16, 40)),
    "row": rng.standard_normal(N),
    "one": rng.standard_normal((N + 8, 1)),
    "ordered": np.sort(rng.standard_normal(N * N)),
    "places": rng.integers(0, 100, 2048),
    "along": rng.integers(0, 100, (N, N)),
    "m": rng.standard_normal((N, N)) + N * np.eye(N),
    "stack": rng.standard_normal((16, 24, 24)) + 24 * np.eye(24),
    "spd": np.eye(N) * 5 + 0.1,
    "three": rng.standard_normal((2048, 3)),
    "tall": rng.standard_normal((2048, 4)),
}
Call = Callable[[Any, Any], Any]
# Where the calls of the other table name extents, or their arrays do not fit together here.
CALLS: dict[str, Call] = {
    "broadcast_to": lambda xp, a: xp.broadcast_to(a.one, (N + 8, N)),
    "diag": lambda xp, a: [xp.diag(a.row), xp.diag(a.m)],
    "kron": lambda xp, a: [xp.kron(a.row, a.row), xp.kron(a.one, a.row)],
    "matmul": lambda xp, a: [a.x @ a.m, a.row @ a.m, a.m @ a.row, a.x.T @ a.y],
    "meshgrid": lambda xp, a: list(xp.meshgrid(a.row, a.row)),
    "outer": lambda xp, a: xp.outer(a.row, a.row),
    "polyfit": lambda xp, a: xp.polyfit(a.v, a.w, 2),
    "reshape": lambda xp, a: [xp.reshape(a.x, (N, N + 8)), xp.reshape(a.t, (-1,)), xp.reshape(a.x, (2, -1, 8))],
    "convolve, both long": lambda xp, a: xp.convolve(a.v, a.w),
    "fft.fft, prime length": lambda xp, a: xp.fft.fft(a.v[:9209]),
    "random.choice": lambda xp, a: xp.random.choice(a.v, 4096, replace=False, split=0),
    "random.permutation": lambda xp, a: xp.random.permutation(a.v),
    "random.randperm": lambda xp, a: xp.random.randperm(N * N, split=0),
    # Of tall ones, and so quick: large ones are as `pinv` here.
    "linalg.cond": lambda xp, a: xp.linalg.cond(a.tall),
    "linalg.norm": lambda xp, a: xp.linalg.norm(a.tall, ord=2),
    "linalg.pinv": lambda xp, a: xp.linalg.pinv(a.x),
    "linalg.svdvals": lambda xp, a: xp.linalg.svdvals(a.tall),
    "linalg.lstsq, square": lambda xp, a: xp.linalg.lstsq(a.m, a.row)[0],
    "linalg.lstsq": lambda xp, a: xp.linalg.lstsq(a.tall, a.three[:, 0])[0],
    "linalg.outer": lambda xp, a: xp.linalg.outer(a.row, a.row),
    "linalg.solve": lambda xp, a: xp.linalg.solve(a.m, a.row),
    "linalg.solve_triangular": lambda xp, a: xp.linalg.solve_triangular(a.m, a.row),
    "linalg.svd": lambda xp, a: list(xp.linalg.svd(a.tall, full_matrices=False)),
}
# What still gathers, and why.
GATHERING: dict[str, str] = {
    "convolve2d": "the halo of a kernel as wide as the array is the whole array, if columns are split",
    "linalg.eig": "one square matrix is reduced to its Schur form by LAPACK on every rank",
}


# Those of them that do where columns are split alone.
OF_COLUMNS = {"convolve2d"}


class Used:
    """The arrays of a call, of which it keeps those that are asked for."""

    def __init__(self, arrays: dict[str, ms.DNDarray]) -> None:
        self.all, self.used = arrays, list[ms.DNDarray]()

    def __getattr__(self, name: str) -> ms.DNDarray:
        self.used.append(self.all[name])
        return self.used[-1]


class Buffers(TorchDispatchMode):
    """The bytes of the largest memory that torch makes or uses on this rank."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [x.untyped_storage().nbytes() for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        self.largest = max(self.largest, *sizes, 0)
        return result


OPERATIONS: dict[str, Call] = {
    **STANDARD, **NUMPY, **{name: calls[0] for name, calls in RENAMED.items()}, **CALLS,
}  # fmt: skip


def ratios(split: int) -> dict[str, float]:
    """By operation the largest buffer of this rank, over its fair share of the largest argument or result."""
    cut = {key: ms.array(x, split=split if x.shape[split:] >= (RANKS,) else 0) for key, x in ARRAYS.items()}
    found = {}
    for name, call in OPERATIONS.items():
        arguments = Used(cut)
        with Buffers() as seen:
            results = call(ms, arguments)
        arrays = [x for x in (*arguments.used, *tree_leaves(results)) if isinstance(x, ms.DNDarray)]
        found[name] = seen.largest * RANKS / max(x.nbytes for x in arrays)
    return found


@pytest.mark.serial
@pytest.mark.parametrize("split", [0, 1])
def test_no_rank_needs_more_than_some_shares(split: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collectives, "RING_BYTES", 2**13)
    # The matrices here are large, and panels as many times smaller.
    for module in (one_matrix, spectra):
        monkeypatch.setattr(module, "SMALL", N // 2)
    monkeypatch.setattr(transposition, "WIDTH", 8)
    for module, name in ((panels, "WIDTH"), (condensed, "WIDTH"), (spectrum, "LEAF"), (spectrum, "COLUMNS")):
        monkeypatch.setattr(module, name, 8)
    monkeypatch.setattr(distributions, "_SORTED_ALONE", 2**10)
    by_rank = run(ratios, split, ranks=RANKS)
    largest = {name: round(max(each[name] for each in by_rank), 1) for name in OPERATIONS}
    assert {name: ratio for name, ratio in largest.items() if ratio > LIMIT and name not in GATHERING} == {}
    gathering = GATHERING.keys() - (OF_COLUMNS if split == 0 else set())
    assert {name: ratio for name, ratio in largest.items() if ratio <= LIMIT and name in gathering} == {}
