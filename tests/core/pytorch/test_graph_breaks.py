"""`torch.compile` around code that calls minisplit: right values, and not a word about it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from launchers import job_environment, launcher

import minisplit as ms

Function = Callable[[ms.DNDarray], torch.Tensor]


def with_debug_mode(x: ms.DNDarray) -> torch.Tensor:
    with ms.debug():
        return x.sum().larray * 2


def through_a_function(x: ms.DNDarray) -> torch.Tensor:
    w = torch.ones(2, dtype=torch.float64, requires_grad=True)
    loss = ms.vmap(lambda v: (v * w).sum())(x)[0].sum().larray
    return torch.autograd.grad(loss * 2, w)[0]


def rows(x: ms.DNDarray) -> torch.Tensor:
    return torch.stack([row.larray for row in x]).sum() * 2


CASES: list[Function] = [
    lambda x: ms.vmap(lambda v: v * 2)(x)[0].sum().larray * 2,
    lambda x: ms.vmap(lambda v: v + torch.rand(2), randomness="same")(x.resplit(0))[0].larray.shape[1] * x.larray,
    lambda x: x.sum().larray * 2,
    lambda x: (x * 2 + x).resplit(None).larray * 2,
    lambda x: x[1:3].resplit(None).larray * 2,
    lambda x: torch.ones(2) * x.sum().item(),
    lambda x: torch.sin(x).larray * 2,
    lambda x: x.comm.allreduce(x.larray.sum()) * 2,
    lambda x: ms.array(x.larray, is_split=0).larray * 2,
    lambda x: ms.random.rand(4, split=0, generator=ms.random.Generator(3)).larray * 2,
    lambda x: ms.sort(x.flatten())[0].larray * x.layout.counts[0],
    with_debug_mode,
    through_a_function,
    rows,
    lambda x: ms.vmap(lambda v: torch.cond(v.sum() > 4, torch.sin, torch.cos, (v,)))(x)[0].larray * 2,
]


def check(func: Function) -> None:
    x = ms.arange(8, dtype=torch.float64, split=0).reshape(4, 2)
    compiled = torch.compile(func, backend="eager")
    for _ in range(2):
        assert torch.equal(compiled(x), func(x))


# torch itself looks for the .grad of a tensor that has none, and hides the warning where that is no error.
@pytest.mark.filterwarnings("ignore:The .grad attribute")
@pytest.mark.parametrize("func", CASES)
def test_V35_compiled_code_calls_minisplit(func: Function) -> None:
    check(func)


@pytest.mark.serial
@pytest.mark.jobs
@pytest.mark.parametrize("ranks", [1, 3])
def test_V35_without_a_word(ranks: int) -> None:
    """Warnings, and what torch logs of graphs that it has to end, go to standard error."""
    command = launcher().command(ranks, "-W", "always", __file__)
    settings = job_environment(ranks) | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n" * ranks, "")


def test_V35_only_the_program_is_compiled() -> None:
    """Not minisplit, nor what it maps: that would be compiled for samples of this rank."""
    graphs: list[Any] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph

    def func(x: ms.DNDarray, w: torch.Tensor) -> torch.Tensor:
        return ms.vmap(lambda v: v.sin() + 1)(x)[0].sum().larray * w.cos()

    x, w = ms.arange(4.0, split=0), torch.ones(2)
    assert torch.equal(torch.compile(func, backend=backend)(x, w), func(x, w))
    operations = [node.name for graph in graphs for node in graph.graph.nodes if node.op.startswith("call")]
    assert sorted(operations) == ["cos", "mul"]


def test_V35_a_mapped_function_or_operation_itself() -> None:
    x = ms.arange(4.0, split=0)
    (y,) = torch.compile(ms.vmap(torch.sin), backend="eager")(x)
    assert y.tolist() == x.larray.new_tensor(range(4)).sin().tolist()
    assert torch.compile(ms.sum, backend="eager")(x).item() == 6


def test_V35_a_full_graph_is_refused_by_torch(size: int) -> None:
    x = ms.arange(2.0 * size, split=0)
    with pytest.raises(RuntimeError, match="a call of minisplit may communicate with other ranks"):
        torch.compile(lambda x: ms.vmap(torch.sin)(x)[0].larray * 2, backend="eager", fullgraph=True)(x)
    local = torch.compile(lambda x: x.larray * 2 + x.shape[0], backend="eager", fullgraph=True)
    assert torch.equal(local(x), x.larray * 2 + 2 * size)


@pytest.mark.serial
def test_the_import_does_not_import_the_compiler() -> None:
    script = "import sys, minisplit; print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


if __name__ == "__main__":
    for case in CASES[:: ms.MPI_WORLD.size]:  # all on one rank; to compile takes a while
        check(case)
    os.write(1, b"done\n")
