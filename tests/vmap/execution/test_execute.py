"""Running one rank's samples in chunks."""

import pytest
import torch
from alive import Alive

from minisplit.core.communication.inside_vmap import inside_vmap
from minisplit.core.layout import Layout
from minisplit.vmap.execution.autotune import Tuner
from minisplit.vmap.execution.execute import VmapTask
from minisplit.vmap.execution.execute import run as run_pieces
from minisplit.vmap.inputs.batch import plan_batch
from minisplit.vmap.pytree import OutDims

pytestmark = pytest.mark.serial


def several(a, b):
    return a * b, b.sum(), a[:2]


def run(task, tensors, samples, chunk_size=None, advance=None):
    """Run on all samples of tensors in memory, on one rank."""
    batch = plan_batch(tuple(Layout(x.shape, 0, 1) for x in tensors), (8,) * len(tensors), task.in_dims)
    return run_pieces(task, [(0, samples, tensors)], samples, batch, 0, chunk_size, advance=advance)


def task(func, in_dims=(0,), out_dims=0):
    return VmapTask(func, in_dims, OutDims(out_dims))


@pytest.mark.parametrize("chunk_size", [None, 1, 2, 3, 7, 8, "auto"])
def test_chunks_give_what_one_vmap_gives(chunk_size):
    x, y = torch.randn(3, 7), torch.randn(7, 3)
    size = Tuner(2**20, 24) if chunk_size == "auto" else chunk_size
    outcome = run(task(several, (1, 0), (1, 0, -1)), (x, y), 7, size)
    for out, expected in zip(outcome.tensors, torch.vmap(several, (1, 0), (1, 0, -1))(x, y), strict=True):
        assert torch.equal(out, expected)
    assert tuple(output.dim for output in outcome.outputs.each) == (1, 0, 1)


def test_an_error_is_returned_with_the_chunk_it_came_from():
    def fails(x):
        assert inside_vmap()
        seen.append(x)
        if len(seen) == 2:
            raise RuntimeError("five")
        return x

    seen = []
    outcome = run(task(fails), (torch.arange(8),), 8, 3)
    assert (str(outcome.failure.error), outcome.failure.doing) == ("five", "mapping samples 3 to 5 of 8")
    assert outcome.failure.attributes == {"samples": range(3, 6)}
    assert outcome.tensors is None
    assert not inside_vmap()


@pytest.mark.parametrize("func", [lambda x: x, lambda x: x[:1], lambda x: x[:1].expand(3), lambda x: x * 1])
@pytest.mark.parametrize("chunk_size", [None, 3])
def test_outputs_have_memory_of_their_own(func, chunk_size):
    x = torch.zeros(4, 3)
    (out,) = run(task(func), (x,), 4, chunk_size).tensors
    out[0] += 1
    assert not x.any()
    assert not out[1:].any()


@pytest.mark.parametrize("out_dims", [0, 1, -1])
@pytest.mark.parametrize("shape", [(3,), (1,), (2, 1)])
def test_what_is_the_same_for_all_samples_is_repeated_along_its_axis(out_dims, shape):
    """Where torch.vmap gives something else for any axis but the first."""
    constant = torch.arange(1.0, 1 + torch.Size(shape).numel()).reshape(shape)
    (out,) = run(task(lambda x: constant, out_dims=out_dims), (torch.zeros(4),), 4).tensors
    assert torch.equal(out, torch.stack([constant] * 4, out_dims))


@pytest.mark.parametrize("chunk_size", [10, 64, 300])
@pytest.mark.parametrize("out_dims", [0, 1])
def test_peak_memory_is_the_outputs_and_one_chunk(chunk_size, out_dims):
    x = torch.zeros(1000, 16)
    doubled = task(lambda x: (torch.stack([x, x]), x * 2), out_dims=(out_dims, 0))
    with Alive() as seen:
        outcome = run(doubled, (x,), 1000, chunk_size)
    outputs = 3 * x.nbytes
    assert [out.untyped_storage().nbytes() for out in outcome.tensors] == [2 * x.nbytes, x.nbytes]
    assert seen.peak == outputs + 3 * 16 * 4 * chunk_size
    with Alive() as torchs:
        torch.vmap(doubled.func, out_dims=(out_dims, 0), chunk_size=chunk_size)(x)
    assert torchs.peak > 1.5 * outputs


def test_progress_advances_after_each_chunk():
    steps = []
    run(task(torch.sin), (torch.zeros(7),), 7, 3, steps.append)
    assert steps == [3, 3, 1]
