"""`replicate`: rank 0's values on all ranks, whatever they are of."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

import minisplit as ms
from minisplit.core.communication.agreement import agreement

Comm = ms.Communication


def network(seed: int) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1).double())


def test_a_module_gets_the_values_of_rank_0_in_place(comm: Comm) -> None:
    net = network(comm.rank)
    net[1].num_batches_tracked += comm.rank
    before = list(net.parameters())
    with ms.testing.traffic() as seen:
        same = ms.replicate(net)
    with agreement(comm, "comparing"):
        assert same is net
        assert all(x is y for x, y in zip(net.parameters(), before, strict=True))
        for x, y in zip(net.state_dict().values(), network(0).state_dict().values(), strict=True):
            torch.testing.assert_close(x, y, rtol=0, atol=0)
        assert seen.calls == (Counter(allgather=1, broadcast=1) if comm.size > 1 else Counter())


def test_a_tree_of_anything_with_values(comm: Comm) -> None:
    mine = torch.arange(3.0) + comm.rank
    tree = {
        "tensors": [mine, mine.to(torch.bfloat16), mine.flip(0).flip(0), torch.tensor(True), mine[:0]],
        "parameter": torch.nn.Parameter(mine.clone()),
        "arrays": (mine.numpy(), np.float32(comm.rank), ms.DNDarray(mine, ms.Layout((3,), None, comm.size), comm)),
        "numbers": [comm.rank, comm.rank * 0.5, comm.rank > 0, None, "text"],
    }
    got = ms.replicate(tree)
    with agreement(comm, "comparing"):
        whole = torch.arange(3.0)
        for x, y in zip(got["tensors"][:3], (whole, whole.to(torch.bfloat16), whole), strict=True):
            torch.testing.assert_close(x, y)
        assert type(got["parameter"]) is torch.nn.Parameter
        assert (
            got["parameter"].tolist() == got["arrays"][0].tolist() == got["arrays"][2].tolist() == [0.0, 1.0, 2.0]
        )
        assert type(got["arrays"][1]) is np.float32
        assert got["numbers"] == [0, 0.0, False, None, "text"]
        assert mine.tolist() == [comm.rank, comm.rank + 1, comm.rank + 2]


@pytest.mark.several
def test_structures_that_differ(comm: Comm, raises_alike: Any) -> None:
    last = comm.rank == comm.size - 1
    for x in (
        torch.ones(2 + last),
        torch.ones(2, dtype=torch.int32 if last else None),
        [1] * (1 + last),
        f"{last}",
    ):
        with raises_alike(
            ValueError, match=f"the same structure on all ranks: rank 0 has .*, rank {comm.size - 1} "
        ):
            ms.replicate({"x": x})


def test_what_has_no_values_to_send(raises_alike: Any) -> None:
    with raises_alike(ValueError, match="replicate got an array split along 0"):
        ms.replicate([ms.ones(3, split=0)])
    with raises_alike(TypeError, match="replicate needs modules, tensors, NumPy arrays and numbers, got a object"):
        ms.replicate(object())
    with raises_alike(TypeError, match="replicate needs dense tensors"):
        ms.replicate(torch.eye(2).to_sparse())
