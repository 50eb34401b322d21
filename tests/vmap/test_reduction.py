"""Outputs that are reduced over the samples, against torch's reductions of what `torch.vmap` gives for all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from alive import Alive
from hypothesis import given
from hypothesis import strategies as hs
from layouts import KINDS, dealt, layout_of

import minisplit as ms
from minisplit.testing import Whole, assert_close, assert_equal, run, spmd, traffic
from minisplit.testing import strategies as st
from minisplit.vmap.reduction import Pairwise, reduce_chunk

Comm = ms.Communication
HOW = ("sum", "mean", "max", "min")
OF_TORCH: dict[str, Any] = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax, "min": torch.amin}


def values(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def all_on(rank: int, extent: int, comm: Comm) -> list[int]:
    return [extent if r == rank % comm.size else 0 for r in range(comm.size)]


@hs.composite
def wholes(draw: hs.DrawFn) -> Whole:
    dtype = draw(
        hs.sampled_from(
            (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool)
        )
    )
    shape = (draw(hs.integers(1, 7)), *draw(st.shapes(max_dims=2, max_side=3)))
    return Whole(draw(st.tensors(shape, dtype)), draw(st.layouts(shape)))


@given(
    whole=wholes(),
    hows=hs.lists(hs.sampled_from((*HOW, 0, None)), min_size=1, max_size=5),
    chunk_size=hs.sampled_from((None, 1, 2, 3, "auto")),
    loop=hs.booleans(),
)
@spmd
def test_equals_torch_on_the_gathered_inputs_and_sends_what_it_plans(
    whole: Whole, hows: list[Any], chunk_size: Any, loop: bool
) -> None:
    """On small numbers, whose sums are exact in any order."""
    x, tensor = whole.cut(), whole.tensor
    inexact = tensor.is_floating_point()
    hows = ["sum" if how == "mean" and not inexact else how for how in hows]

    def func(v: torch.Tensor) -> list[Any]:
        return [torch.ones(2) if how is None else {"is": v} for how in hows]

    mapped = ms.vmap(func, hows, in_dims=0, chunk_size=chunk_size)
    with traffic() as seen:
        outputs = mapped(x)
    for how, output in zip(hows, outputs, strict=True):
        if how is None:
            assert_equal(output, torch.ones(2))
            continue
        want = tensor if how == 0 else OF_TORCH[how](tensor, 0)
        assert output["is"].split == (0 if how == 0 else None)
        (assert_close if how == "mean" else assert_equal)(output["is"], want)
    plan = mapped.plan(x)
    assert (seen.collectives if x.comm.size > 1 else 0) == plan.collectives
    assert plan.outputs is not None
    leaves = [x if how is None else x["is"] for x, how in zip(outputs, hows, strict=True)]
    assert [(x.shape, x.split, f"torch.{x.dtype}") for x in plan.outputs] == [
        (x.shape, x.split, str(x.dtype)) for x in leaves
    ]
    assert [x.reduction for x in plan.outputs] == [how if how in HOW else None for how in hows]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk_size", [None, 1, 3])
def test_every_layout(comm: Comm, how: str, kind: str, chunk_size: int | None) -> None:
    whole = values(7, 5)
    for split in (0, 1):
        x = dealt(whole, layout_of((7, 5), split, kind, comm.size), comm)
        y, z = ms.vmap(lambda v: (v * 3, v.sum()), (how, 0), in_dims=1, chunk_size=chunk_size)(x)
        assert (y.split, z.split) == (None, 0)
        assert_close(y, OF_TORCH[how](whole * 3, 1))
        assert_close(z, whole.sum(0))


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(("owner", "chunk_size", "loop"), [(None, 2, False), (0, None, True), (-1, 1, False)])
def test_V43_gradcheck(comm: Comm, how: str, owner: int | None, chunk_size: int | None, loop: bool) -> None:
    """A result that all ranks have counts once, for first and second derivatives; some ranks have no samples."""

    def loss(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.tanh(w @ x) * y

    def whole_call(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        a, b = ms.asarray(x, split=1), ms.asarray(y, split=0)
        if owner is not None:
            b = b.redistribute(all_on(owner, 4, comm))
        mapped = ms.vmap(loss, how, in_dims=(1, 0), chunk_size=chunk_size, loop=loop)
        (out,) = mapped(a, b, w=ms.asarray(w))
        return out.larray

    given = [values(*shape).requires_grad_() for shape in ((2, 4), (4,), (2, 2))]
    assert torch.autograd.gradcheck(whole_call, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(whole_call, given, fast_mode=True)


@hs.composite
def traced(draw: hs.DrawFn) -> Whole:
    shape = (draw(hs.integers(1, 6)), 2)
    # Few values, so that several samples have the extreme.
    numbers = draw(st.tensors(shape, torch.int64)) % 3
    return Whole(numbers.double().requires_grad_(), draw(st.layouts(shape, split=0)))


@given(whole=traced(), chunk_size=hs.sampled_from((None, 1, 2)), loop=hs.booleans())
@spmd
def test_V43_gradients_are_those_of_torch_also_of_extremes_that_several_samples_have(
    whole: Whole, chunk_size: Any, loop: bool
) -> None:
    x, w = whole.cut(), torch.ones(2, dtype=torch.float64, requires_grad=True)
    tensor, v = whole.tensor.detach().clone().requires_grad_(), w.detach().clone().requires_grad_()
    hows = ("max", "sum", "min", "mean", "max")

    def func(row: torch.Tensor) -> Any:
        return row * 2, row * w, row, row * row * w, torch.stack([row, w])

    def plain(row: torch.Tensor) -> Any:
        return row * 2, row * v, row, row * row * v, torch.stack([row, v])

    outputs = ms.vmap(func, hows, chunk_size=chunk_size, loop=loop)(x)
    wanted = [OF_TORCH[how](y, 0) for how, y in zip(hows, torch.vmap(plain)(tensor), strict=True)]
    weights = [torch.arange(1.0, 1 + y.numel(), dtype=torch.float64).view(y.shape) for y in wanted]
    for output, want in zip(outputs, wanted, strict=True):
        assert_close(ms.DNDarray(output.larray.detach(), output.layout, output.comm), want.detach())
    loss = sum((output.larray * weight).sum() for output, weight in zip(outputs, weights, strict=True))
    loss.backward()
    sum((want * weight).sum() for want, weight in zip(wanted, weights, strict=True)).backward()
    assert x.larray.grad is not None
    assert tensor.grad is not None
    assert_close(ms.DNDarray(x.larray.grad, x.layout, x.comm), tensor.grad)
    torch.testing.assert_close(w.grad, v.grad)


def test_outputs_that_depend_on_nothing_that_requires_a_gradient_require_none(comm: Comm) -> None:
    """Though they go by one message with others that do."""
    x = ms.ones((4, 3), split=0)
    w = torch.ones(3, requires_grad=True)
    a, b, c, d = ms.vmap(lambda v: (v * w, v, v * w, v), ("sum", "mean", "max", "min"))(x)
    assert [y.larray.requires_grad for y in (a, b, c, d)] == [True, False, True, False]
    (e,) = ms.vmap(lambda v: v * w, "mean")(x)
    for y in (a, c, e):  # an output may be changed in place
        y.larray.add_(1)
    (a.larray.sum() + c.larray.sum() + e.larray.sum()).backward()
    assert w.grad is not None
    assert w.grad.tolist() == [6.0] * 3


def test_third_derivatives_where_ranks_have_no_samples(comm: Comm) -> None:
    whole = values(2, 3)
    x = ms.array(whole, split=0).redistribute(all_on(0, 2, comm))

    def third(total: Any) -> torch.Tensor:
        w = torch.ones(3, dtype=torch.float64, requires_grad=True)
        found = total(w)
        for _ in range(2):
            (gradient,) = torch.autograd.grad(found, w, create_graph=True)
            found = (gradient * torch.arange(1.0, 4.0, dtype=torch.float64)).sum()
        (gradient,) = torch.autograd.grad(found, w)
        return gradient

    got = third(lambda w: ms.vmap(lambda v, w: torch.sin(v @ w) ** 3, "sum")(x, w=w)[0].larray)
    want = third(lambda w: (torch.sin(whole @ w) ** 3).sum())
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("chunk_size", [None, 1])
@pytest.mark.parametrize("loop", [False, True])
def test_V43_nan_is_the_extreme_and_infinities_are_numbers(comm: Comm, chunk_size: int | None, loop: bool) -> None:
    whole = torch.tensor([[1.0, float("inf"), -0.0], [float("nan"), 2.0, -float("inf")], [3.0, 1.0, 5.0]])
    x = ms.array(whole, split=0)
    x.larray.requires_grad_()
    outputs = ms.vmap(lambda v: (v, v, v, v), HOW, chunk_size=chunk_size, loop=loop)(x)
    for how, output in zip(HOW, outputs, strict=True):
        assert_equal(ms.DNDarray(output.larray.detach(), output.layout, comm), OF_TORCH[how](whole, 0))
    outputs[2].larray.sum().backward()
    assert_equal(ms.DNDarray(x.larray.grad, x.layout, comm), torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]))


@pytest.mark.parametrize("loop", [False, True])
def test_V43_a_batch_without_samples(comm: Comm, loop: bool, raises_alike: Any) -> None:
    x = ms.zeros((0, 3), split=0)
    mapped = ms.vmap(lambda v: (v, v, v.long()), ("sum", "mean", "sum"), loop=loop)
    a, b, c = mapped(x)
    assert_equal(a, torch.zeros(3))
    assert b.larray.isnan().all()
    assert (b.shape, c.dtype) == ((3,), torch.int64)
    assert mapped.plan(x).collectives == (comm.size > 1)
    for how in ("max", "min"):
        with raises_alike(IndexError, rf"a{how}\(\): Expected reduction dim 0 to have non-zero size"):
            ms.vmap(lambda v: v, how, loop=loop)(x)
    w = torch.ones(3, requires_grad=True)
    (y,) = ms.vmap(lambda v: v * w, "sum", loop=loop)(x)
    if not loop:  # where there was no sample that depends on it
        y.larray.sum().backward()
        assert w.grad is not None
        assert w.grad.tolist() == [0.0] * 3


def test_what_torch_refuses(comm: Comm, raises_alike: Any) -> None:
    x = ms.arange(6, split=0)
    for size in (0, 6):
        with raises_alike(RuntimeError, r"mean\(\): could not infer output dtype.*Got: (Long|torch.int64)"):
            ms.vmap(lambda v: v, "mean")(x[:size])
    z = ms.ones(6, split=0, dtype=torch.complex64)
    z.larray.requires_grad_()
    for context in (torch.no_grad(), torch.enable_grad()):
        with context, raises_alike(NotImplementedError, "not implemented for 'ComplexFloat'"):
            ms.vmap(lambda v: v, "max")(z)
    (total,) = ms.vmap(lambda v: v, "sum")(z.resplit(0))
    assert total.tolist() == 6
    for wrong in ("prod", ("sum", "x")):
        with raises_alike(
            TypeError, "out_dims must be an int or None, or 'sum', 'mean', 'max' or 'min', got '(prod|x)'"
        ):
            ms.vmap(lambda v: v, wrong)
    with raises_alike(TypeError, "in_dims must be an int or None, got 'sum'"):
        ms.vmap(lambda v: v, in_dims="sum")


def test_sums_of_halves_are_rounded_once(comm: Comm) -> None:
    x = ms.ones(5000, split=0, dtype=torch.float16)
    for chunk_size in (None, 7):
        a, b, c = ms.vmap(lambda v: (v, v, v > 0), ("sum", "mean", "sum"), chunk_size=chunk_size)(x)
        assert (a.dtype, a.tolist(), b.tolist(), c.dtype, c.tolist()) == (
            torch.float16,
            5000,
            1,
            torch.int64,
            5000,
        )


@pytest.mark.serial
def test_one_message_for_all_outputs_of_a_kind() -> None:
    def messages(counts: list[int], hows: Any) -> dict[str, int]:
        def body() -> dict[str, int]:
            x = ms.ones((6, 2), split=0).redistribute(counts)
            w = torch.ones(2, requires_grad=True)
            mapped = ms.vmap(lambda v: [v * w, v.long(), v, v * w, v.half(), v, v.sum()], hows, chunk_size=2)
            with traffic() as seen:
                outputs = mapped(x)
            assert mapped.plan(x).collectives == seen.collectives
            with traffic() as backward:
                outputs[0].larray.sum().backward()
            # Whether it has failed anywhere, and the gradient of w.
            assert dict(backward.calls) == {"agree": 1, "allreduce": 1}
            return dict(seen.calls)

        results = run(body, ranks=3)
        assert results == results[:1] * 3
        return results[0]

    kinds = {"agree": 1, "allreduce": 2}
    assert messages([2, 2, 2], "sum") == kinds
    assert messages([2, 2, 2], ["sum", "sum", "mean", "sum", "sum", "mean", 0]) == kinds
    assert messages([0, 6, 0], ["sum", "sum", "mean", "sum", "sum", "mean", 0]) == {**kinds, "broadcast_bytes": 1}
    assert messages([2, 2, 2], ["sum", "sum", "max", "sum", "sum", "min", 0]) == {"agree": 1, "allreduce": 3}


@pytest.mark.serial
def test_chunks_are_added_pairwise() -> None:
    """0.1 ten thousand times, each a chunk: one after the other the error would be some 1e-4 of the sum."""
    pairwise = Pairwise("sum")
    for i in range(10_000):
        pairwise.add(torch.tensor(0.1))
        assert len(pairwise.parts) == (i + 1).bit_count()
    assert abs(float(pairwise.result()) - 1000) < 1e-3
    mean = Pairwise("mean")
    for row in values(5, 3):
        mean.add(reduce_chunk("mean", row[None]))
    torch.testing.assert_close(mean.result(), values(5, 3).sum(0))


def test_gradients_of_samples_never_exist_together(comm: Comm) -> None:
    """Of 4000 gradients of 1000 numbers, 50 at a time: the peak is that of a chunk."""
    x, w = ms.ones((4000, 1), split=0), torch.ones(1000)
    mapped = ms.vmap(torch.func.grad(lambda w, v: (w * v).sum()), "sum", in_dims=(None, 0), chunk_size=50)
    replicated = ms.array(w)
    with ms.debug(False), Alive() as seen:
        (total,) = mapped(replicated, x)
    assert total.tolist() == [4000.0] * 1000
    assert seen.peak < 4 * 50 * w.nbytes


def test_random_numbers_are_those_of_the_samples(comm: Comm) -> None:
    def func(v: torch.Tensor) -> Any:
        drawn = torch.randint(1000, (3,))
        return drawn, drawn, drawn

    for chunk_size, loop in ((None, False), (2, False), (None, True)):
        x = ms.ones((7, 2), split=0).redistribute(all_on(-1, 7, comm))
        with ms.random.fork(seed=5):
            mapped = ms.vmap(func, ("sum", "max", 0), "different", chunk_size=chunk_size, loop=loop)
            total, best, each = mapped(x)
        with ms.random.fork(seed=5):
            (alone,) = ms.vmap(lambda v: func(v)[0], randomness="different")(ms.ones((7, 2), split=0))
        assert_equal(each, alone.numpy())
        assert_equal(total, alone.numpy().sum(0))
        assert_equal(best, alone.numpy().max(0))


def test_structures_keywords_and_what_does_not_fit(comm: Comm, raises_alike: Any) -> None:
    x = ms.array(values(5, 3), split=0)
    whole = values(5, 3)

    def func(v: torch.Tensor, scale: float) -> Any:
        return {"moments": (v * scale, v * v), "rows": v, "constant": torch.ones(2)}

    dims = {"moments": "mean", "rows": -1, "constant": None}
    found = ms.vmap(func, dims, chunk_size=2)(x, scale=3.0)
    assert_close(found["moments"][0], whole.mean(0) * 3)
    assert_close(found["moments"][1], (whole * whole).mean(0))
    assert_close(found["rows"], whole.T)
    assert_close(found["constant"], torch.ones(2))
    with raises_alike(ValueError, r"out_dims \('sum', 'sum'\) are for 2 outputs, but func returned 1"):
        ms.vmap(lambda v: v, ("sum", "sum"))(x)
    with ms.debug():
        assert_close(ms.vmap(lambda v: v * 2, "sum")(x)[0], whole.sum(0) * 2)


@pytest.mark.several
def test_outputs_that_differ_between_ranks(comm: Comm, raises_alike: Any) -> None:
    x = ms.ones((8, 3), split=0)
    with raises_alike(
        ValueError, r"\(3,\), the sum over the samples\) on rank 0; .*torch.float64 \(3,\), the sum"
    ):
        ms.vmap(lambda v: v.double() if comm.rank else v, "sum")(x)


@pytest.mark.serial
def test_the_table_of_a_plan_names_the_reduction() -> None:
    x = ms.ones((6, 2), split=0)
    plan = ms.vmap(lambda v: (v, v), ("mean", 0), chunk_size=2).plan(x)
    assert plan.outputs is not None
    assert [(output.reduction, output.split) for output in plan.outputs] == [("mean", None), (None, 0)]
    assert "0      (2,)   float32 mean         replicated" in str(plan)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("loop", [False, True])
def test_V33_torch_func_around_a_call(comm: Comm, how: str, loop: bool) -> None:
    whole, w = values(5, 3), values(3)
    x = ms.array(whole, split=0).redistribute(all_on(0, 5, comm))
    mapped = ms.vmap(lambda v, w: torch.tanh(v * w), how, chunk_size=2, loop=loop)

    def loss_of(w: torch.Tensor) -> torch.Tensor:
        return (mapped(x, w=w)[0].larray ** 2).sum()

    def plain(w: torch.Tensor) -> torch.Tensor:
        reduced: torch.Tensor = OF_TORCH[how](torch.tanh(whole * w), 0)
        return (reduced**2).sum()

    torch.testing.assert_close(torch.func.grad(loss_of)(w), torch.func.grad(plain)(w))
    torch.testing.assert_close(torch.func.vjp(loss_of, w)[0], plain(w))
    norms = [torch.func.grad(lambda w, f=f: torch.func.grad(f)(w).norm())(w) for f in (loss_of, plain)]
    torch.testing.assert_close(*norms)
