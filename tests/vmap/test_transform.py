"""`ms.vmap` on real ranks, against `torch.vmap` on the gathered inputs. V rows: the table of faults."""

import importlib
import pickle
import sys

import pytest
import torch
from hypothesis import given
from hypothesis.strategies import composite, integers, sampled_from
from torch.func import grad, hessian, jacrev

import minisplit as ms
from minisplit.core.errors import agreement
from minisplit.testing import spmd
from minisplit.testing import strategies as st


def here():
    return ms.get_comm()


def deal(whole, split, counts=None):
    """`whole`, which every rank has, as a DNDarray with the given counts."""
    x = ms.array(whole, split=split)
    return x if counts is None else x.redistribute(counts)


def values(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7)).to(dtype)


def all_on(rank, extent):
    return [extent if r == rank else 0 for r in range(here().size)]


def gathered(x):
    return x.resplit(None).larray


def check(outputs, expected, samples):
    """All outputs equal the expected ones, and are split along the out_dims with the samples' counts."""
    whole = [gathered(out) for out in outputs]
    with agreement(here(), "comparing"):
        assert len(outputs) == len(expected)
        for out, got, (want, dim) in zip(outputs, whole, expected, strict=True):
            assert (out.split, out.counts) == (dim, tuple(samples))
            assert out.shape == tuple(want.shape)
            assert out.dtype == want.dtype
            torch.testing.assert_close(got, want)


@composite
def inputs(draw):
    n, splits = draw(integers(1, 9)), (draw(integers(0, 1)), draw(integers(0, 2)))
    shapes = [[3], [2, 3]]
    for shape, split in zip(shapes, splits, strict=True):
        shape.insert(split, n)
    return tuple(
        draw(st.dndarrays(tuple(shape), torch.float64, split=split))
        for shape, split in zip(shapes, splits, strict=True)
    )


@given(
    inputs=inputs(),
    out_dims=sampled_from([(0, 1, 0), (-1, -2, -1), (1, 2, 0), 0, -1]),
    chunk_size=sampled_from([None, 1, 2, 5]),
)
@spmd
def test_equals_torch_vmap_on_the_gathered_inputs(inputs, out_dims, chunk_size):
    def func(a, b, scale):
        return a * scale, b @ a[:, None] * b, (a * b).sum()

    x, y = (whole.cut() for whole in inputs)
    outputs = ms.vmap(func, out_dims, chunk_size=chunk_size)(x, y, scale=3.0)
    expected = torch.vmap(func, (x.split, y.split), out_dims)(*(whole.tensor for whole in inputs), scale=3.0)
    dims = out_dims if isinstance(out_dims, tuple) else (out_dims,) * 3
    pairs = [(want, dim % want.ndim) for want, dim in zip(expected, dims, strict=True)]
    check(outputs, pairs, outputs[0].counts)
    with agreement(here(), "looking at the inputs"):
        assert (x.layout, y.layout) == tuple(whole.layout for whole in inputs)
        assert outputs[0].counts in {x.counts, y.counts, x.layout.balanced().counts}


def test_import_of_the_package_and_of_the_function():
    package = importlib.import_module("minisplit.vmap")
    importlib.import_module("minisplit.vmap.chunking")
    assert package.vmap is ms.vmap
    assert callable(ms.vmap)
    from minisplit.vmap import vmap

    assert vmap is ms.vmap


def test_metadata_and_pickling():
    mapped = ms.vmap(torch.linalg.vector_norm, chunk_size=3)
    assert pickle.loads(pickle.dumps(mapped)).chunk_size == 3

    def named(x):
        """Doc."""
        return x

    assert (ms.vmap(named).__name__, ms.vmap(named).__doc__) == ("named", "Doc.")


def test_aligned_inputs_cost_one_agreement_and_nothing_else(calls):
    x, y = ms.array(values(8, 3), split=0), ms.array(values(3, 8), split=1)
    calls.clear()
    ms.vmap(lambda a, b: (a + b, a, b.sum()), out_dims=(0, 1, 0))(x, y)
    assert dict(calls) == ({"Allreduce": 1} if here().size > 1 else {})


def test_outputs_live_on_the_inputs_communicator():
    pair = here().split(here().rank // 2, here().rank)
    x = ms.arange(5, split=0, comm=pair)
    (y,) = ms.vmap(lambda a: a * 2)(x)
    assert y.comm is pair
    assert y.tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize("where", [0, -1])
def test_V1_func_fails_on_one_rank(raises_alike, where, chunk_size):
    matrices = torch.eye(3).repeat(8, 1, 1)
    matrices[where] *= -1
    x = ms.array(matrices, split=0)
    last = here().size - 1
    rank, sample = (0, 0) if where == 0 else (last, 7)
    with raises_alike(
        torch.linalg.LinAlgError, rf"rank {rank} of {here().size} failed while mapping sample"
    ) as caught:
        ms.vmap(torch.linalg.cholesky, chunk_size=chunk_size)(x)
    text = str(caught.value)
    assert "positive-definite" in text
    assert "Traceback" in text
    if here().size == 4:
        assert f"mapping samples {sample - sample % 2} to {sample - sample % 2 + 1} of 8" in text
    if here().rank == rank:
        assert isinstance(caught.value.__cause__, torch.linalg.LinAlgError)


def test_V2_the_lowest_failing_rank_is_raised(raises_alike):
    def func(x):
        raise (ValueError if here().rank == 0 else KeyError)("no")

    with raises_alike(ValueError, "rank 0 of"):
        ms.vmap(func)(ms.ones(8, split=0))


def test_a_key_error_is_readable(raises_alike):
    with raises_alike(KeyError, r"^weight\n  rank 0 of \d failed while mapping"):
        ms.vmap(lambda x: x * {}["weight"])(ms.ones(8, split=0))


class AwkwardError(Exception):
    def __init__(self, first, second):
        super().__init__(first, second)


def test_V3_an_exception_that_cannot_be_rebuilt(raises_alike):
    def func(x):
        raise AwkwardError("spam", 1)

    with raises_alike(ms.RankError, "AwkwardError"):
        ms.vmap(func)(ms.ones(8, split=0))


@pytest.mark.parametrize("more", [None, -1, 1])
@pytest.mark.parametrize("owner", [None, 0, -1])
@pytest.mark.parametrize("chunk_size", [None, 1])
def test_V4_fewer_samples_than_ranks_or_all_on_one(size, more, owner, chunk_size):
    extent = 1 if more is None else max(1, size + more)
    seen = []

    def func(x):
        seen.append(x.shape)
        return x.sum(), x.to(torch.int16)

    whole = values(2, extent)
    x = deal(whole, 1, None if owner is None else all_on(owner % size, extent))
    outputs = ms.vmap(func, (0, -1), chunk_size=chunk_size)(x)
    check(outputs, [(whole.sum(0), 0), (whole.to(torch.int16), 1)], x.counts)
    assert bool(seen) == (x.counts[here().rank] > 0), "func runs where there are samples, and only there"


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_V5_no_samples_at_all(chunk_size):
    shift = torch.ones(4)
    x = ms.zeros((0, 4), split=0)
    s, z = ms.vmap(lambda a: (a.sum(), (a + shift).double()), (0, 1), chunk_size=chunk_size)(x)
    assert (s.shape, s.split, z.shape, z.split, z.dtype) == ((0,), 0, (4, 0), 1, torch.float64)
    assert z.larray.shape == (4, 0)


def test_V5_no_samples_and_no_way_to_infer(raises_alike):
    with raises_alike(Exception, "inferring the outputs of a batch without samples"):
        ms.vmap(lambda a: torch.ones(int(a.sum().item())))(ms.zeros((0, 4), split=0))


def test_V6_sizes_differ(raises_alike):
    with raises_alike(ValueError, r"input 0 has 4 .*, input 1 has 5"):
        ms.vmap(torch.add)(ms.zeros(4, split=0), ms.zeros(5, split=0))


def test_V7_counts_and_axes_differ_and_one_is_replicated():
    a, b, c = values(6, 2), values(2, 6), values(2)
    x, y = deal(a, 0, all_on(here().size - 1, 6)), deal(b, 1)
    outputs = ms.vmap(lambda p, q, r: p * q + r)(x, y, ms.array(c))
    check(outputs, [(a * b.T + c, 0)], outputs[0].counts)
    assert outputs[0].is_balanced()


def test_V8_all_replicated_or_none(raises_alike):
    with raises_alike(ValueError, "no input has one: all are replicated"):
        ms.vmap(torch.sin)(ms.zeros(4))
    with raises_alike(ValueError, "at least one DNDarray"):
        ms.vmap(torch.sin)()


@pytest.mark.parametrize("out_dims", [True, 1.0, None, "0", (0, None), (0, True), (0.0,)])
def test_V9_out_dims_of_a_wrong_type(raises_alike, out_dims):
    with raises_alike(TypeError, "out_dims.* must be an int"):
        ms.vmap(torch.sin, out_dims)


@pytest.mark.parametrize(
    ("out_dims", "text"),
    [
        ((0, 0), r"out_dims \(0, 0\) are for 2 outputs, but func returned 1"),
        (3, r"axis 3 is out of range for an output of shape \(2,\) per sample; allowed: -2 to 1"),
        (-3, "axis -3 is out of range"),
    ],
)
@pytest.mark.parametrize("extent", [0, 1, 5])
def test_V9_out_dims_that_do_not_fit(raises_alike, out_dims, text, extent):
    with raises_alike(ValueError, text):
        ms.vmap(torch.sin, out_dims)(ms.zeros((extent, 2), split=0))


def test_V9_no_out_dims():
    with pytest.raises(ValueError, match="empty tuple"):
        ms.vmap(torch.sin, ())


@pytest.mark.parametrize("returned", [1.0, None, "text", [torch.ones(1), None], ms.zeros(2)], ids=str)
def test_V12_an_output_that_is_no_tensor(raises_alike, returned):
    with raises_alike(TypeError, r"func must return a tensor or a tuple of tensors, but (output|it returned)"):
        ms.vmap(lambda x: returned)(ms.zeros(5, split=0))


@pytest.mark.several
@pytest.mark.parametrize("many", [1, 40])
@pytest.mark.parametrize("differ", [lambda x: x.double(), lambda x: x.expand(2)])
def test_V13_outputs_differ_between_ranks(raises_alike, differ, many):
    def func(x):
        return (differ(x) if here().rank == here().size - 1 else x,) * many

    with raises_alike(ValueError, rf"on rank {here().size - 1}"):
        ms.vmap(func)(ms.zeros(8, split=0))


def test_many_outputs_reach_ranks_without_samples():
    x = deal(values(3, 2), 0, all_on(0, 3))
    outputs = ms.vmap(lambda a: tuple(a * i for i in range(40)))(x)
    check(outputs, [(gathered(x) * i, 0) for i in range(40)], x.counts)


def test_V19_inputs_on_different_communicators(raises_alike):
    other = here().split(0, here().rank)
    with raises_alike(ValueError, "all inputs must be on one communicator"):
        ms.vmap(torch.add)(ms.zeros(4, split=0), ms.zeros(4, split=0, comm=other))


@pytest.mark.parametrize("wrong", [torch.zeros(4), 1.0, None, [1, 2]])
def test_V20_an_input_that_is_no_dndarray(raises_alike, wrong):
    with raises_alike(TypeError, "positional argument 1 must be a DNDarray"):
        ms.vmap(torch.add)(ms.zeros(4, split=0), wrong)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"chunk_size": 0}, ValueError, "at least 1"),
        ({"chunk_size": -2}, ValueError, "at least 1"),
        ({"chunk_size": True}, TypeError, "chunk_size must be an int, got True"),
        ({"chunk_size": "1"}, TypeError, "chunk_size must be an int"),
        ({"chunk_size": 2.5}, TypeError, "chunk_size must be an int"),
        ({"randomness": "some"}, ValueError, "'error', 'same', 'different'"),
        ({"randomness": None}, ValueError, "randomness must be one of"),
        ({"randomness": "different"}, NotImplementedError, "not supported yet"),
    ],
)
def test_V21_bad_options_are_refused_at_once(raises_alike, options, kind, text):
    with raises_alike(kind, text):
        ms.vmap(torch.sin, **options)


def test_V21_func_is_no_function(raises_alike):
    with raises_alike(TypeError, "vmap maps a function, got 3"):
        ms.vmap(3)


def test_V18_random_functions_raise(raises_alike):
    with raises_alike(RuntimeError, "randomness"):
        ms.vmap(lambda x: x + torch.rand(()))(ms.zeros(5, split=0))


@pytest.mark.parametrize(
    "dtype",
    [torch.bool, torch.uint8, torch.int16, torch.int64, torch.float16, torch.bfloat16, torch.complex64],
)
def test_V22_dtypes(dtype):
    whole = (values(5, 3) * 10).to(dtype)
    x = deal(whole, 0, all_on(here().size - 1, 5))
    check(ms.vmap(lambda a: a.flip(0))(x), [(whole.flip(1), 0)], x.counts)


def test_V22_special_values_scalars_and_strides():
    whole = torch.tensor([[float("nan"), float("inf")], [5e-324, -0.0]]).repeat(3, 1)
    outputs = ms.vmap(lambda a: (a, a[0]))(ms.array(whole.T, split=1))
    got = [gathered(out) for out in outputs]
    assert torch.equal(got[0].nan_to_num(9), whole.nan_to_num(9))
    assert torch.equal(got[1].nan_to_num(9), whole[:, 0].nan_to_num(9))


def test_caller_arrays_keep_their_layout_and_share_no_memory_with_outputs():
    x, y = deal(values(6), 0, all_on(0, 6)), deal(values(6), 0)
    a, b = ms.vmap(lambda p, q: (p, q))(x, y)
    a.larray.zero_()
    b.larray.zero_()
    assert x.counts == tuple(all_on(0, 6))
    assert torch.equal(gathered(x), values(6))
    assert torch.equal(gathered(y), values(6))


class Callable:
    """Has attributes named like those of the mapped function."""

    def __init__(self):
        self.func, self.out_dims, self.chunk_size = torch.cos, 7, "big"

    def __call__(self, x):
        return x * 2


def test_attributes_of_a_callable_object_are_its_own():
    assert ms.vmap(Callable())(ms.ones(4, split=0))[0].tolist() == [2.0] * 4
    module = torch.nn.Linear(3, 2)
    torch.nn.init.ones_(module.weight)
    torch.nn.init.ones_(module.bias)
    (y,) = ms.vmap(module)(ms.ones((5, 3), split=0))
    assert torch.equal(gathered(y), module(torch.ones(5, 3)))


def test_keyword_arguments_of_any_name():
    def func(x, func, chunk_size, self):
        return x * func + chunk_size - self

    (y,) = ms.vmap(func)(ms.ones(4, split=0), func=3, chunk_size=torch.tensor(4.0), self=1)
    assert y.tolist() == [6.0] * 4


def test_V16_dndarrays_as_keyword_arguments(raises_alike):
    x = ms.ones(4, split=0)
    assert ms.vmap(lambda a, w: a + w.sum())(x, w=ms.ones(3))[0].tolist() == [4.0] * 4
    with raises_alike(TypeError, "'w' is a DNDarray split along 0"):
        ms.vmap(lambda a, w: a + w)(x, w=x)


def test_sys_exit_in_func_leaves_nobody_waiting(raises_alike):
    def func(x):
        if here().rank == here().size - 1:
            sys.exit(3)
        return x

    with raises_alike(ms.RankError, f"rank {here().size - 1} of .* failed while mapping"):
        ms.vmap(func)(ms.ones(8, split=0))


@pytest.mark.parametrize("chunk_size", [None, 1])
def test_V15_a_change_in_place_is_an_error(raises_alike, chunk_size):
    with raises_alike(RuntimeError, "func changed input 1 in place"):
        ms.vmap(lambda x, y: x + y.mul_(5), chunk_size=chunk_size)(ms.ones(8, split=0), ms.ones(8, split=0))


def test_outputs_share_no_memory_with_what_func_captured_or_with_each_other():
    w = torch.zeros(3)
    (a,) = ms.vmap(lambda x: w)(ms.ones(here().size, split=0))
    a.larray.add_(1)
    assert not w.any()
    y, z = ms.vmap(lambda x: 2 * ((x * 2),))(ms.ones(6, split=0))
    y.larray.add_(5)
    assert z.tolist() == [2.0] * 6
    (u,) = ms.vmap(lambda x: (x * 2).unfold(0, 3, 1))(ms.ones((4, 5), split=0))
    u.larray.add_(1)
    assert gathered(u).unique().tolist() == [3.0]


def test_ranks_without_samples_know_whether_an_output_requires_grad():
    w = torch.ones(1, requires_grad=True)
    (y,) = ms.vmap(lambda x: x * w)(deal(torch.ones(4), 0, all_on(0, 4)))
    assert y.larray.requires_grad
    y.balance().larray.sum().backward()


@pytest.mark.parametrize(
    "later", [lambda x: x.double(), lambda x: x.expand(2), lambda x: (x, x)], ids=["dtype", "shape", "number"]
)
def test_V13_chunks_that_differ(raises_alike, later):
    calls = []

    def func(x):
        calls.append(1)
        return x if len(calls) == 1 else later(x)

    with raises_alike(ValueError, "func must return the same for every chunk"):
        ms.vmap(func, chunk_size=1)(ms.ones(2 * here().size, split=0))


def test_repr_is_the_same_on_every_rank():
    assert repr(ms.vmap(torch.sin, chunk_size=2)) == "<minisplit.vmap of sin, out_dims=0, chunk_size=2>"


@pytest.mark.parametrize("derive", [grad, jacrev, hessian])
def test_derivatives_and_nested_vmap(derive):
    def func(a, w):
        inner = torch.vmap(torch.sin)(a)
        return (inner * w).square().sum()

    whole, w = values(7, 3), values(3)
    outputs = ms.vmap(derive(func), chunk_size=2)(deal(whole, 0), ms.array(w))
    expected = torch.vmap(derive(func), (0, None))(whole, w)
    check(outputs, [(expected, 0)], outputs[0].counts)
