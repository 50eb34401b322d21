"""Random arrays: the same whatever holds them, and what their functions refuse."""

from __future__ import annotations

import hashlib
import pickle
from contextvars import copy_context
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hs

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.core.random import sampling
from minisplit.core.random.philox import WORD
from minisplit.testing import Whole, assert_equal, spmd
from minisplit.testing import strategies as st

# Each makes an array of a shape.
DRAWS: dict[str, Any] = {
    "rand": lambda shape, **how: ms.random.rand(*shape, **how),
    "rand double": lambda shape, **how: ms.random.rand(shape, dtype=torch.float64, **how),
    "rand half": lambda shape, **how: ms.random.rand(shape, dtype=torch.float16, **how),
    "randn": lambda shape, **how: ms.random.randn(*shape, **how),
    "randn double": lambda shape, **how: ms.random.randn(*shape, dtype=torch.float64, **how),
    "randn complex": lambda shape, **how: ms.random.randn(*shape, dtype=torch.complex64, **how),
    "randint": lambda shape, **how: ms.random.randint(-3, 3_000_000_000, shape, **how),
    "randint wide": lambda shape, **how: ms.random.randint(-(2**62), 2**62 + 5, shape, **how),
    "uniform": lambda shape, **how: ms.random.uniform(-2, 5, shape, **how),
    "normal": lambda shape, **how: ms.random.normal(3, 0.1, shape, **how),
    "exponential": lambda shape, **how: ms.random.exponential(2, shape, **how),
    "bernoulli": lambda shape, **how: ms.random.bernoulli(0.3, shape, **how),
    "poisson": lambda shape, **how: ms.random.poisson(20, shape, **how),
    "poisson small": lambda shape, **how: ms.random.poisson(1.5, shape, **how),
    "choice": lambda shape, **how: ms.random.choice(7, shape, **how),
    "choice weighed": lambda shape, **how: ms.random.choice(3, shape, p=[1, 0, 2], **how),
}
LIKE: dict[str, Any] = {
    "rand_like": ms.random.rand_like,
    "randn_like": lambda x: ms.random.randn_like(x, dtype=torch.float32),
    "randint_like": lambda x: ms.random.randint_like(x, 1000),
    "bernoulli": ms.random.bernoulli,
    "poisson": lambda x: ms.random.poisson(x * 30),
}


@given(
    ranks=st.ranks(),
    layout=st.layouts(st.shapes(max_side=9)),
    draws=hs.lists(hs.sampled_from(sorted(DRAWS)), min_size=1, max_size=3),
    seed=hs.integers(0, 2**64 - 1),
)
@spmd
def test_arrays_are_the_same_for_every_number_of_ranks_and_split(
    ranks: int, layout: Any, draws: list[str], seed: int
) -> None:
    def drawn(split: int | None) -> list[ms.DNDarray]:
        ms.random.seed(seed)
        return [DRAWS[name](layout.shape, split=split) for name in draws]

    for x, whole in zip(drawn(layout.split), drawn(None), strict=True):
        assert x.layout == layout.balanced()
        assert_equal(x, whole.larray)


@given(
    whole=st.dndarrays(st.shapes(max_side=9), torch.float64, elements=hs.floats(0, 1)),
    name=hs.sampled_from(sorted(LIKE)),
    seed=hs.integers(0, 99),
)
@spmd
def test_arrays_like_another_are_the_same_for_all_its_counts(whole: Whole, name: str, seed: int) -> None:
    x = whole.cut()
    with ms.random.fork(seed):
        cut = LIKE[name](x)
    with ms.random.fork(seed):
        replicated = LIKE[name](x.resplit(None))
    assert cut.layout == whole.layout
    assert cut.dtype == (torch.float32 if name == "randn_like" else torch.float64)
    assert_equal(cut, replicated.larray)


@given(x=st.dndarrays(st.shapes(min_dims=1), torch.int64), n=hs.integers(0, 9), seed=hs.integers(0, 99))
@spmd
def test_permutations_are_the_same_on_all_ranks(x: Whole, n: int, seed: int) -> None:
    array, rows = x.cut(), x.tensor.shape[0]
    with ms.random.fork(seed):
        moved, order = ms.random.permutation(array), ms.random.permutation(n, split=0)
        some = ms.random.choice(array, n % (rows + 1), replace=False)
    with ms.random.fork(seed):
        whole = [ms.random.randperm(k).larray for k in (rows, n, rows)]
    assert moved.layout == array.layout
    assert_equal(moved, x.tensor[whole[0]])
    assert_equal(order, whole[1])
    assert_equal(some, x.tensor[whole[2]][: n % (rows + 1)])
    assert sorted(whole[1].tolist()) == list(range(n))


def test_blocks_do_not_show(comm):
    """Rows that are longer than a block, and begin and end within counters."""
    shape = 3, 5 * sampling._BLOCK + 7
    for dtype in (torch.float32, torch.float64, torch.complex128):
        with ms.random.fork(seed=8):
            whole = ms.random.randn(shape, dtype=dtype)
        for split in (0, 1):
            with ms.random.fork(seed=8):
                assert_equal(ms.random.randn(shape, dtype=dtype, split=split), whole.larray)


@pytest.mark.serial
@pytest.mark.parametrize("draw", [sampling.normal, sampling.exponential, sampling.cauchy])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_do_not_show(draw, dtype):
    """torch gives each of its threads a part, in which the last numbers may be rounded otherwise."""
    before = torch.get_num_threads()
    field = sampling.IndexGrid((1, 2), 3, 5 * sampling._BLOCK + 7)
    try:
        drawn = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            drawn.append(draw(field, dtype, torch.device("cpu")))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*drawn)


def test_an_array_is_the_beginning_of_a_longer_one():
    with ms.random.fork(seed=8):
        short = ms.random.randn(6, 3, split=0)
    with ms.random.fork(seed=8):
        long = ms.random.randn(10, 3, split=1)
    assert_equal(short, long.numpy()[:6])


@pytest.mark.parametrize(
    ("draw", "digest"),
    [
        (lambda: ms.random.randint(0, 2**32, 1000, split=0), "cc78519641029332"),
        (lambda: ms.random.rand(1000, split=0, dtype=torch.float64), "b2629d4a5f4c4680"),
        (lambda: ms.random.randint(0, 10**6, 1000, split=0), "39c95a105a9f39d7"),
    ],
)
def test_the_numbers_are_those_of_every_machine_and_version(draw, digest):
    with ms.random.fork(seed=2026):
        x = draw()
    assert hashlib.blake2b(x.numpy().tobytes(), digest_size=8).hexdigest() == digest


def test_calls_streams_and_seeds_differ_and_the_same_seed_repeats():
    def draw(generator=None):
        return tuple(ms.random.randint(0, 2**62, 4, split=0, generator=generator).tolist())

    with ms.random.fork():
        drawn = []
        for seed in (0, 1, 2**64 - 1):
            assert ms.random.seed(seed) == seed
            drawn += [draw(), draw()]
        assert len(set(drawn)) == 6
        ms.random.seed(0)
        assert draw() == drawn[0]
        state = ms.random.get_state()
        assert state == ms.random.State(seed=0, stream=0, call=1)
        assert draw() == drawn[1]
        ms.random.set_state(pickle.loads(pickle.dumps(state)))
        assert draw() == drawn[1]
    streams = {draw(ms.random.Generator(0, stream)) for stream in (0, 1, 2**64 - 1)}
    assert len(streams) == 3
    assert drawn[0] in streams


def test_a_generator_leaves_the_others_alone():
    before = ms.random.get_state()
    g = ms.random.Generator(3, stream=2)
    first, second = (ms.random.rand(4, split=0, generator=g).tolist() for _ in range(2))
    assert ms.random.get_state() == before
    copy = pickle.loads(pickle.dumps(g))
    g.seed(3)
    assert g.get_state() == (3, 2, 0)
    assert ms.random.rand(4, generator=g).tolist() == first
    assert copy.get_state() == (3, 2, 2)
    assert repr(copy) == "Generator(3, stream=2) after 2 calls"
    copy.set_state(g.get_state())
    assert ms.random.rand(4, generator=copy).tolist() == second


def test_fork_goes_on_where_it_began():
    before = ms.random.get_state()
    with ms.random.fork(seed=5):
        ms.random.rand(3)
        assert ms.random.get_state() == (5, 0, 1)
    assert ms.random.get_state() == before
    with pytest.raises(ZeroDivisionError), ms.random.fork(seed=5):
        raise ZeroDivisionError
    assert ms.random.get_state() == before


def test_a_random_seed_is_one_for_all_ranks(comm):
    with ms.random.fork():
        seed = ms.random.seed()
        seeds = comm.allgather(torch.tensor([seed & WORD, seed >> 32]).numpy())
        with agreement(comm, "comparing"):
            assert (seeds == seeds[0]).all()
            assert ms.random.get_state() == (seed, 0, 0)
            assert seed > 2**32  # but for one in 2^32


@pytest.mark.serial
def test_ranks_on_threads_draw_for_themselves():
    def drawn():
        return ms.random.rand(3).tolist()

    generator = ms.random.Generator(4)
    with ms.random.fork(seed=4):
        results = ms.testing.run(lambda: (drawn(), ms.random.rand(3, generator=generator).tolist()), ranks=3)
        assert ms.random.get_state() == (4, 0, 0)
        assert copy_context().run(drawn) == results[0][0]
    assert results == [(results[0][0], results[0][0])] * 3


@pytest.mark.several
def test_debug_mode_tells_of_ranks_that_draw_differently(rank, raises_alike):
    with ms.debug(), ms.random.fork(seed=1):
        if rank == 1:
            ms.random.get_state()
            with ms.debug(False):
                ms.random.rand(1)
        with raises_alike(ms.CollectiveError, r"rank 1 draws call 1 of seed 1, stream 0"):
            ms.random.rand(3, split=0)


def test_a_draw_within_a_mapped_function_is_refused(raises_alike):
    with raises_alike(RuntimeError, 'draw within it by torch.rand and the like, with .*randomness="different"'):
        ms.vmap(lambda x: x + ms.random.rand(()).larray)(ms.zeros(5, split=0))


@pytest.mark.parametrize(
    ("wrong", "kind", "text"),
    [
        (lambda: ms.random.seed(-1), ValueError, r"seed must be from 0 to 2\*\*64 - 1, got -1"),
        (lambda: ms.random.seed(2**64), ValueError, "seed must be from 0"),
        (lambda: ms.random.seed(1.5), TypeError, "seed must be an int, got 1.5"),
        (lambda: ms.random.Generator(1, -1), ValueError, "stream must be from 0"),
        (lambda: ms.random.set_state(5), TypeError, "state must be what get_state"),
        (
            lambda: ms.random.rand(2, generator=torch.Generator()),
            TypeError,
            "must be a minisplit.random.Generator",
        ),
        (lambda: ms.random.rand(2, dtype=torch.int64), TypeError, "not torch.int64"),
        (lambda: ms.random.randn(-2), ValueError, "extents must not be negative"),
        (lambda: ms.random.uniform(2, 2), ValueError, "low < high, got 2.0 and 2.0"),
        (lambda: ms.random.uniform(dtype=torch.complex64), TypeError, "not torch.complex64"),
        (lambda: ms.random.normal(0, -1), ValueError, "std must not be negative, got -1.0"),
        (lambda: ms.random.exponential(0), ValueError, "rate must be positive"),
        (lambda: ms.random.bernoulli(1.1), ValueError, "p must be from 0 to 1, got 1.1"),
        (lambda: ms.random.bernoulli(ms.zeros(3), 3), ValueError, "p is an array, which has a size"),
        (lambda: ms.random.poisson(float("inf")), ValueError, "rate must be a finite number"),
        (lambda: ms.random.randint(3, 3), ValueError, "low must be below high, got 3 and 3"),
        (
            lambda: ms.random.randint(0, 300, 3, dtype=torch.uint8),
            ValueError,
            "torch.uint8 cannot hold all integers",
        ),
        (lambda: ms.random.randint(2**63, 2**63 + 1), ValueError, "torch.int64 cannot hold"),
        (lambda: ms.random.randperm(-1), ValueError, "n must not be negative"),
        (lambda: ms.random.randperm(300, dtype=torch.uint8), ValueError, "cannot hold all integers from 0 to 299"),
        (lambda: ms.random.permutation(ms.zeros(())), ValueError, "needs an array with an axis"),
        (
            lambda: ms.random.choice(3, 4, replace=False),
            ValueError,
            "size must be at most 3, as many as there are without replacement, got 4",
        ),
        (lambda: ms.random.choice(0, 1), ValueError, "size must be at most 0, got 1"),
        (
            lambda: ms.random.choice(3, 2, replace=False, p=[0, 1, 0]),
            ValueError,
            "size must be at most 1, .* got 2",
        ),
        (lambda: ms.random.choice(3, 1, p=[1, 2]), ValueError, r"p must be 3 numbers, .* got shape \(2,\)"),
        (lambda: ms.random.choice(2, 1, p=[1, -2]), ValueError, "none of them negative"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_it_counts(raises_alike, wrong, kind, text):
    before = ms.random.get_state()
    with raises_alike(kind, text):
        wrong()
    assert ms.random.get_state() == before
