"""Seeds, streams and states of random numbers."""

from __future__ import annotations

import pickle
import random
import weakref
from contextvars import copy_context

import numpy as np
import pytest
import torch

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.core.random.philox import WORD


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
        seeds = comm.allgather_record(torch.tensor([seed & WORD, seed >> 32]).numpy())
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
    with raises_alike(RuntimeError, 'draw by torch.rand and the like, with .*randomness="different"'):
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
    ],
)
def test_what_is_no_state_is_refused(raises_alike, wrong, kind, text):
    before = ms.random.get_state()
    with raises_alike(kind, text):
        wrong()
    assert ms.random.get_state() == before


def test_a_generator_that_has_drawn_is_freed() -> None:
    """A context keeps each of its variables for ever, so that the generators have one in common."""
    before = len(copy_context())
    for seed in range(3):
        generator = ms.random.Generator(seed)
        freed = weakref.ref(generator)
        ms.random.rand(4, generator=generator)
        assert generator.get_state().call == 1
        del generator
        assert freed() is None
    ms.random.rand(4)
    assert len(copy_context()) <= before + 1


def test_a_seed_is_also_that_of_torch_numpy_and_python() -> None:
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    with ms.random.fork():
        drawn = []
        for _ in range(2):
            ms.random.seed(2**63 + 5)
            drawn.append((torch.rand(()).item(), np.random.rand(), random.random()))  # noqa: NPY002
    torch.set_rng_state(before[0])
    np.random.set_state(before[1])  # noqa: NPY002
    random.setstate(before[2])
    assert drawn[0] == drawn[1]
