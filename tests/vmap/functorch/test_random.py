"""V18: what a mapped function draws depends on seed, call, sample and position, not on ranks and chunks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from draws import OPS, WIDTH, Program, batches, programs, samples_of
from hypothesis import given
from hypothesis import strategies as hs

import minisplit as ms
from minisplit.testing import Whole, assert_equal, spmd


def alone(program: Program, randomness: str, part: ms.DNDarray, seed: int) -> tuple[ms.DNDarray, ...]:
    ms.random.seed(seed)
    outputs: tuple[ms.DNDarray, ...] = ms.vmap(program, randomness=randomness)(part)
    return outputs


@given(
    batch=batches(),
    program=programs(),
    randomness=hs.sampled_from(("different", "same")),
    chunk_size=hs.sampled_from((None, 1, 2, 3, "auto")),
    seed=hs.integers(0, 2**64 - 1),
    fewer=hs.integers(1, 9),
)
@spmd
def test_V18_programs_draw_the_same_on_all_ranks_counts_and_chunks(
    batch: Whole, program: Program, randomness: str, chunk_size: Any, seed: int, fewer: int
) -> None:
    x = batch.cut()
    ms.random.seed(seed)
    torchs = torch.get_rng_state()
    mapped = ms.vmap(program, randomness=randomness, chunk_size=chunk_size)
    assert mapped.plan(x).outputs is not None
    outputs = mapped(x)
    # On one rank, in one chunk; and the first samples of the batch alone.
    whole = ms.array(batch.tensor, split=0, comm=ms.MPI_SELF)
    expected, first = (alone(program, randomness, part, seed) for part in (whole, whole[:fewer]))
    for out, want, beginning in zip(outputs, expected, first, strict=True):
        assert out.counts == x.counts
        assert_equal(out, want.larray)
        assert torch.equal(want.larray[:fewer], beginning.larray)
    assert torch.equal(torch.get_rng_state(), torchs)
    assert ms.random.get_state() == (seed, 0, 1)


def batch(samples: int = 10) -> ms.DNDarray:
    return ms.array(samples_of(samples), split=0)


@pytest.mark.parametrize("name", sorted(OPS))
def test_V18_samples_draws_and_calls_differ(name):
    def twice(v):
        return OPS[name](v), OPS[name](v)

    def varied(v):
        return OPS[name](v * 0 + 0.5)

    with ms.random.fork(seed=3):
        many = ms.vmap(varied, randomness="different")(batch(40))[0].numpy()
        assert len({row.tobytes() for row in many}) > 8
        same = ms.vmap(varied, randomness="same")(batch(40))[0].numpy()
        assert len({row.tobytes() for row in same}) == 1
        a, b = (x.numpy() for x in ms.vmap(twice, randomness="different")(batch()))
        c, _ = (x.numpy() for x in ms.vmap(twice, randomness="different")(batch()))
    assert (a != b).any()
    assert (a != c).any()
    with ms.random.fork(seed=3):
        again = ms.vmap(varied, randomness="different")(batch(40))[0].numpy()
    assert (again == many).all()


def test_same_is_what_the_first_sample_draws_by_itself():
    with ms.random.fork(seed=1):
        (different,) = ms.vmap(lambda v: torch.randn(3), randomness="different")(batch())
    with ms.random.fork(seed=1):
        (same,) = ms.vmap(lambda v: torch.randn(3), out_dims=None, randomness="same")(batch())
    assert_equal(same, different.numpy()[0])


def test_inner_samples_differ_or_not_as_the_inner_vmap_says():
    def inner(randomness):
        return torch.vmap(lambda w: torch.rand(2), randomness=randomness)

    different, same = (
        ms.vmap(inner(randomness), randomness="different")(batch())[0].numpy()
        for randomness in ("different", "same")
    )
    assert len({row.tobytes() for sample in different for row in sample}) == 10 * WIDTH
    assert len({row.tobytes() for sample in same for row in sample}) == 10
    both = ms.vmap(inner("different"), randomness="same")(batch())[0].numpy()
    assert len({row.tobytes() for sample in both for row in sample}) == WIDTH


def chunked(chunk_size, randomness="same"):
    """Draws of a nested vmap in chunks, and of another one after it."""

    def twice(v):
        inner = torch.vmap(lambda w: (torch.rand(2), torch.randn(3)), chunk_size=chunk_size, randomness=randomness)
        return (*inner(v), *inner(v), torch.rand(2))

    return twice


@pytest.mark.parametrize("outer", ["same", "different"])
@pytest.mark.parametrize("inner_size", [1, 2, 3])
def test_V40_inner_samples_are_the_same_in_all_chunks_of_the_inner_vmap(outer, inner_size):
    torchs = torch.get_rng_state()
    with ms.random.fork(seed=4):
        found = ms.vmap(chunked(inner_size), randomness=outer, chunk_size=3)(batch())
    with ms.random.fork(seed=4):
        expected = ms.vmap(chunked(None), randomness=outer)(batch())
    assert torch.equal(torch.get_rng_state(), torchs)
    for got, want in zip(found, expected, strict=True):
        assert_equal(got, want.numpy())
    first, _, second, _, after = (x.numpy() for x in found)
    assert (first == first[:, :1]).all()
    assert (first[:, 0] != second[:, 0]).all(), "another call of the nested vmap draws other numbers"
    assert (second[:, 0] != after).all()
    different = ms.vmap(chunked(inner_size, "different"), randomness=outer)(batch())[0].numpy()
    assert len({row.tobytes() for row in different[0]}) == WIDTH


def test_an_error_after_draws_in_chunks_leaves_torchs_generator_as_it_was(raises_alike):
    def fails(v):
        chunked(2)(v)
        raise ValueError("after the draws")

    before = torch.get_rng_state()
    with raises_alike(ValueError, "after the draws"):
        ms.vmap(fails, randomness="different")(batch())
    assert torch.equal(before, torch.get_rng_state())


def _seeded_in_between(v):
    torch.manual_seed(len(v))
    return chunked(2)(v)


def test_a_batch_without_samples_has_outputs_and_counts_as_a_call():
    with ms.random.fork(seed=1):
        outputs = ms.vmap(Program(tuple(sorted(OPS))), randomness="different")(batch()[:0])
        assert ms.random.get_state().call == 1
    assert {out.shape for out in outputs} == {(0, WIDTH)}


def test_failing_samples_are_found_with_the_numbers_they_had(raises_alike):
    def fails(v):
        return torch.linalg.cholesky(torch.eye(2) * (0.9 - torch.rand(())))

    with ms.random.fork(seed=6):
        (drawn,) = ms.vmap(lambda v: torch.rand(()), randomness="different")(batch(20))
    wrong = (drawn.numpy() > 0.9).nonzero()[0]
    assert len(wrong)
    for chunk_size in (None, 3):
        with (
            ms.random.fork(seed=6),
            raises_alike(torch.linalg.LinAlgError, "failed while mapping sample") as caught,
        ):
            ms.vmap(fails, randomness="different", chunk_size=chunk_size)(batch(20))
        assert caught.value.samples[0] == wrong[0]


CAPTURED = torch.ones(4)


def _seeded(v):
    torch.manual_seed(len(v))
    return v


@pytest.mark.parametrize(
    ("func", "text"),
    [
        (
            lambda v: torch._sample_dirichlet(v + 1),
            "torch's _sample_dirichlet draws random numbers, but minisplit.vmap",
        ),
        (
            lambda v: torch.vmap(lambda w: torch.poisson(v + w), randomness="same")(v),
            'cannot draw numbers of a distribution that has parameters, .*: give it randomness="different"',
        ),
        (lambda v: v + torch.rand(4, generator=torch.Generator()), "torch's rand with generator= inside"),
        (lambda v: v + v.clone().normal_(generator=torch.Generator()), "torch's normal_ with generator= inside"),
        (lambda v: v + torch.rand(4, out=torch.empty(4)), "torch's rand with out= cannot be mapped"),
        (lambda v: v + CAPTURED.normal_(), "the same for all samples.*hint: fill a tensor that func makes"),
        (
            torch.vmap(lambda w: w + torch.rand(())),
            'that of the torch.vmap .*hint: give that one randomness="different"',
        ),
        (lambda v: v + torch.normal(v, -1.0), "std of normal must not be negative, got -1.0"),
        (lambda v: torch.bernoulli(v, 1.5), "p must be from 0 to 1, got 1.5"),
        (lambda v: torch.multinomial(v, 5), "num_samples must be at most 4 without replacement, got 5"),
        (lambda v: torch.randint(5, 5, (2,)), "low must be below high, got 5 and 5"),
        (_seeded, "has changed the state of torch's random generator"),
        (_seeded_in_between, "has changed the state of torch's random generator"),
    ],
)
def test_V18_what_has_no_rule_is_refused_by_name(raises_alike, func, text):
    before = torch.get_rng_state()
    with raises_alike(RuntimeError, f"(?s){text}"):
        ms.vmap(func, randomness="different")(batch())
    assert torch.equal(before, torch.get_rng_state())


def test_a_changed_tensor_that_is_the_same_for_all_may_stay_so():
    (x,) = ms.vmap(lambda v: torch.empty(4).normal_(), randomness="same")(batch())
    assert len({row.tobytes() for row in x.numpy()}) == 1


@pytest.mark.parametrize("training", [True, False])
def test_dropout_keeps_the_mean(training):
    def dropped(v):
        ones = torch.ones(200, 5)
        return torch.stack([F.dropout(ones, 0.3, training), F.alpha_dropout(ones, 0.3, training)])

    with ms.random.fork(seed=2):
        (x,) = ms.vmap(dropped, randomness="different")(batch(50))
    plain, alpha = x.numpy().transpose(1, 0, 2, 3)
    if not training:
        assert (x.numpy() == 1).all()
        return
    assert set(plain.ravel().tolist()) == {0.0, float(torch.tensor(1 / 0.7))}
    assert abs((plain == 0).mean() - 0.3) < 0.01
    a = (0.7 * (1 + 0.3 * 1.7580993408473766**2)) ** -0.5
    kept = a + 0.3 * a * 1.7580993408473766
    assert abs(float(alpha.max()) - kept) < 1e-6
    assert abs(float(alpha.min()) + 0.7 * a * 1.7580993408473766) < 1e-6
    assert abs((alpha == alpha.max()).mean() - 0.7) < 0.01


@pytest.mark.parametrize(
    ("dropout", "shape"),
    [
        (F.dropout1d, (6, 9)),
        (F.dropout1d, (2, 3, 9)),
        (F.dropout2d, (2, 3, 9)),
        (F.dropout2d, (2, 3, 2, 5)),
        (F.dropout3d, (6, 2, 2, 2)),
        (F.dropout3d, (2, 3, 2, 2, 2)),
        (F.feature_alpha_dropout, (2, 3, 9)),
        (torch.feature_dropout, (2, 3, 9)),
    ],
)
def test_channels_are_dropped_whole(dropout, shape):
    def dropped(v):
        return dropout(torch.ones(shape), 0.5, True).view(6, -1)

    with ms.random.fork(seed=2):
        (x,) = ms.vmap(dropped, randomness="different")(batch(30))
    channels = x.numpy()
    assert (channels == channels[..., :1]).all()
    assert 0.3 < (channels == channels.max()).mean() < 0.7
    assert len({sample.tobytes() for sample in channels[..., 0]}) > 15


def test_gradients_flow_through_what_is_drawn():
    x = batch(6)
    x.larray.requires_grad_()
    with ms.random.fork(seed=2):
        outputs = ms.vmap(lambda v: (v * torch.rand(WIDTH), torch.rand(WIDTH)), randomness="different")(x)
    with ms.random.fork(seed=2):
        (factors,) = ms.vmap(lambda v: torch.rand(WIDTH), randomness="different")(x)
    outputs[0].larray.sum().backward()
    assert not outputs[1].larray.requires_grad
    assert torch.equal(x.larray.grad, factors.larray.double())
