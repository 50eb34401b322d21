"""Running one rank's samples in chunks."""

import pytest
import torch

from minisplit.vmap.chunking import run

pytestmark = pytest.mark.serial


def mapped(x, y):
    return torch.vmap(lambda a, b: (a * b, b.sum(), a[:2]), in_dims=(1, 0), out_dims=(1, 0, -1))(x, y)


@pytest.mark.parametrize("chunk_size", [None, 1, 2, 3, 7, 8])
def test_chunks_give_what_one_vmap_gives(chunk_size):
    x, y = torch.randn(3, 7), torch.randn(7, 3)
    outcome = run(mapped, (x, y), (1, 0), (1, 0, -1), 7, chunk_size)
    for out, expected in zip(outcome.outputs, mapped(x, y), strict=True):
        assert torch.equal(out, expected)


def test_an_error_is_returned_with_the_chunk_it_came_from():
    def fails(x):
        if 5 in x:
            raise RuntimeError("five")
        return (x,)

    outcome = run(fails, (torch.arange(8),), (0,), 0, 8, 3)
    assert (str(outcome.error), outcome.start, outcome.stop) == ("five", 3, 6)
    assert outcome.outputs is None


@pytest.mark.parametrize("func", [lambda x: (x,), lambda x: (x[:, :1],), lambda x: (x[:1].expand(4, 3),)])
def test_outputs_have_memory_of_their_own(func):
    x = torch.zeros(4, 3)
    (out,) = run(func, (x,), (0,), 0, 4, None).outputs
    out[0] += 1
    assert not x.any()
    assert not out[1:].any()


@pytest.mark.parametrize("chunk_size", [10, 64, 300])
def test_peak_memory_is_the_output_and_one_chunk(chunk_size):
    """The largest number of output bytes alive at once, seen through the allocations of the mapped function."""
    alive = []

    def tracked(x):
        out = x + 1
        alive.append(out.untyped_storage().nbytes())
        return (out,)

    x = torch.zeros(1000, 16)
    (out,) = run(tracked, (x,), (0,), 0, 1000, chunk_size).outputs
    assert max(alive) == chunk_size * 16 * 4
    assert out.untyped_storage().nbytes() == x.untyped_storage().nbytes()
    assert torch.equal(out, x + 1)
