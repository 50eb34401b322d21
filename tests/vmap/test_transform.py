"""`ms.vmap` on real ranks, against `torch.vmap` on the gathered inputs. V rows: the table of faults."""

import importlib
import inspect
import pickle
import pydoc
import sys
from collections import OrderedDict
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis.strategies import composite, integers, sampled_from
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.testing import spmd
from minisplit.testing import strategies as st
from minisplit.vmap.single import SingleOutput


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


def test_import_of_the_package_and_of_the_function():
    package = importlib.import_module("minisplit.vmap")
    importlib.import_module("minisplit.vmap.execution.execute")
    assert package.vmap is ms.vmap
    assert callable(ms.vmap)
    from minisplit.vmap import vmap

    assert vmap is ms.vmap


@ms.vmap(out_dims=-1)
def decorated(x):
    """Twice the sample."""
    return x * 2


@ms.vmap
def plain(x):
    return x + 1


def test_decorators_and_help():
    x = ms.ones((4, 3), split=0)
    assert decorated(x)[0].shape == (3, 4)
    assert plain(x)[0].tolist() == [[2.0] * 3] * 4
    text = pydoc.render_doc(decorated, renderer=pydoc.plaintext)
    assert "decorated" in text
    assert "Twice the sample." in text
    assert str(inspect.signature(decorated)) == "(x)"


def test_metadata_and_pickling():
    mapped = ms.vmap(torch.linalg.vector_norm, chunk_size=3)
    assert pickle.loads(pickle.dumps(mapped)).options == mapped.options
    assert pickle.loads(pickle.dumps(decorated)) is decorated

    def named(x):
        """Doc."""
        return x

    assert (ms.vmap(named).__name__, ms.vmap(named).__doc__) == ("named", "Doc.")


def test_aligned_inputs_cost_one_agreement_and_nothing_else(calls):
    x, y = ms.array(values(8, 3), split=0), ms.array(values(3, 8), split=1)
    calls.clear()
    ms.vmap(lambda a, b: (a + b, a, b.sum()), out_dims=(0, 1, 0))(x, y)
    others = here().size - 1
    # gloo sends so little to each of a few ranks.
    agreement = {"Allreduce": 1} if hasattr(here(), "mpi") else {"send": others, "recv": others}
    assert dict(calls) == (agreement if others else {})


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
    assert f"failed while mapping sample {sample} of 8" in text
    assert (caught.value.rank, caught.value.samples) == (rank, range(sample, sample + 1))
    if here().rank == rank:
        assert isinstance(caught.value.__cause__, torch.linalg.LinAlgError)


def test_what_is_told_of_a_failure_begins_in_the_function(raises_alike):
    with raises_alike(ZeroDivisionError, "while mapping sample") as caught:
        ms.vmap(lambda x: x * (1 // 0))(ms.ones(8, split=0))
    assert "minisplit/vmap" not in str(caught.value)
    assert "ms.vmap(lambda x: x * (1 // 0))" in str(caught.value)


def test_a_norm_of_the_batch_gets_a_hint(raises_alike):
    norm = torch.nn.BatchNorm1d(3)
    for x in (ms.ones((8, 3), split=0), ms.ones((8, 2, 3), split=0)):
        with raises_alike((RuntimeError, ValueError), "hint: func sees one sample, and the statistics"):
            ms.vmap(norm)(x)
    (y,) = ms.vmap(norm.eval(), in_dims=0)(ms.ones((8, 2, 3), split=0))
    assert y.shape == (8, 2, 3)


def test_of_minisplits_own_checks_the_last_line_is_told(raises_alike):
    with raises_alike(TypeError, "func must return a tensor") as caught:
        ms.vmap(lambda x: None)(ms.ones(8, split=0))
    assert str(caught.value).count("  File ") == 1


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


@pytest.mark.parametrize("dims", [True, 1.0, "0", (0, "x"), (0, True), (0.0,), {"a": 1.5}])
def test_V9_axes_of_a_wrong_type(raises_alike, dims):
    with raises_alike(TypeError, "out_dims.* must be an int or None"):
        ms.vmap(torch.sin, dims)
    with raises_alike(TypeError, "in_dims.* must be an int or None"):
        ms.vmap(torch.sin, in_dims=dims)


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
    with pytest.raises(ValueError, match="out_dims must not be empty"):
        ms.vmap(torch.sin, ())


@pytest.mark.parametrize(
    ("in_dims", "text"),
    [
        ((0, 0, 0), r"in_dims \(0, 0, 0\) does not fit the inputs, \(\*, \*\)"),
        (({"a": 0}, 0), "does not fit the inputs"),
        (2, r"axis 2 is out of range for input 0 of shape \(4, 2\); allowed: -2 to 1"),
        ((0, -3), "axis -3 is out of range for input 1"),
        (None, "in_dims is None for every input"),
        ((None, None), "in_dims is None for every input"),
        ((0, 1), r"along their mapped axes \(in_dims\): input 0 has 4 .*, input 1 has 2"),
    ],
)
def test_V9_in_dims_that_do_not_fit(raises_alike, in_dims, text):
    x = ms.zeros((4, 2), split=0)
    with raises_alike(ValueError, text):
        ms.vmap(torch.add, in_dims=in_dims)(x, x)


@pytest.mark.parametrize(
    ("out_dims", "text"),
    [
        ({"a": 0}, r"does not fit what func returned, \{'a': \*, 'b': \(\*, \*\)\}"),
        ({"a": 0, "b": (0, 0, 0)}, "does not fit what func returned"),
        ((0, 0), "does not fit what func returned"),
    ],
)
def test_V9_out_dims_that_do_not_fit_the_structure(raises_alike, out_dims, text):
    with raises_alike(ValueError, text):
        ms.vmap(lambda x: {"a": x, "b": (x, x)}, out_dims)(ms.zeros(5, split=0))


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        (1.0, "but it returned 1.0"),
        (None, "but it returned None"),
        ("text", "but it returned 'text'"),
        ([torch.ones(1), None], "but output 1 is None"),
        ({"a": torch.ones(1), "b": {"c": 2}}, "but output 1 is 2"),
        ((), r"but it returned \(\), which holds none"),
        ({}, r"but it returned \{\}, which holds none"),
        (ms.zeros(2), "but it returned a DNDarray; use its larray inside of func"),
    ],
    ids=str,
)
def test_V12_an_output_that_is_no_tensor(raises_alike, returned, text):
    with raises_alike(TypeError, f"func must return a tensor, or tuples, lists and dicts of tensors, {text}"):
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


def test_torchs_own_calls_with_arguments_that_are_not_mapped(raises_alike):
    """Of torch's tutorials on per-sample gradients and on ensembles, as they are written there."""
    weight, bias = values(3, 2).requires_grad_(), values(2).requires_grad_()
    x, y = values(5, 3), values(5, 2)

    def loss(params, buffers, x, y, power=2):
        return ((x @ params["w"] + params["b"] - y).abs() ** power).sum() * buffers.get("scale", 1)

    params, dims = {"w": weight, "b": bias}, (None, None, 0, 0)
    for buffers in ({}, {"scale": 3, "name": "net", "none": None, "module": torch.nn.Flatten()}):
        args = (deal(x, 0), deal(y, 1))
        grads = ms.vmap(grad(loss), in_dims=dims)({k: p.detach() for k, p in params.items()}, buffers, *args)
        want = torch.vmap(grad(lambda p, *a, b=buffers: loss(p, b, *a)), in_dims=(None, 0, 0))(params, x, y)
        torch.testing.assert_close(gathered(grads["w"]), want["w"])
        mapped = ms.vmap(loss, in_dims=dims)
        (losses,) = mapped(params, buffers, *args)
        got = torch.autograd.grad(losses.sum().torch(), [weight, bias])
        for each, p in zip(got, torch.autograd.grad(loss(params, buffers, x, y), [weight, bias]), strict=True):
            torch.testing.assert_close(each, p)
        assert [each.name for each in mapped.plan(params, buffers, *args).inputs] == ["2", "3"]
    stacked = {"w": ms.array(values(4, 3, 2), split=0)}
    (scores,) = ms.vmap(lambda p, b, x: x @ p["w"], in_dims=(0, 0, None))(stacked, {}, x)
    torch.testing.assert_close(gathered(scores), x @ values(4, 3, 2))
    with raises_alike(TypeError, "positional argument 1 must be a DNDarray, got Tensor"):
        ms.vmap(torch.add, in_dims=0)(ms.zeros(4, split=0), torch.zeros(4))
    with raises_alike(ValueError, "as a positional argument, got none"):
        ms.vmap(torch.add, in_dims=(None, None))(1, 2)
    if here().size > 1:
        other = torch.full((), float(here().rank))
        with ms.debug(), raises_alike(ValueError, "rank 1 has other arguments that are not mapped than rank 0"):
            ms.vmap(torch.add, in_dims=(0, None))(ms.zeros(4, split=0), other)


def test_one_output_itself(raises_alike):
    x = deal(values(5, 3), 0)
    mapped = ms.vmap(torch.sum)
    assert mapped.one(x).shape == mapped(x)[0].shape == (5,)
    assert ms.vmap(lambda a: (a,)).one(x).shape == (5, 3)
    assert ms.vmap(lambda a: mapped.one(a) * 2).one(x).shape == (5, 3)
    for several, named in (
        (lambda a: (a, a), "a tuple of 2"),
        (lambda a: {"a": a}, "a dict"),
        (lambda a: [a], "a li"),
    ):
        with raises_alike(TypeError, f"but <lambda> returned {named}"):
            ms.vmap(several).one(x)
    # The output of a call as an argument: a tuple of one, also for in_dims.
    assert ms.vmap(lambda pair: pair[0], in_dims=((0,),))(mapped(x))[0].shape == (5,)
    with raises_alike(TypeError, r"one output in a tuple: write \(y,\) = "):
        ms.vmap(lambda pair: pair.sum())(mapped(x))


@pytest.mark.parametrize("wrong", [torch.zeros(4), 1.0, None, [1, 2]])
def test_V20_an_input_that_is_no_dndarray(raises_alike, wrong):
    with raises_alike(TypeError, r"positional argument 1 must be|input 1\[0\] must be a DNDarray"):
        ms.vmap(torch.add)(ms.zeros(4, split=0), wrong)
    with raises_alike(TypeError, r"input 0\['w'\]\[1\] must be a DNDarray, got"):
        ms.vmap(lambda p: p["w"][0])({"w": (ms.zeros(4, split=0), 1 if isinstance(wrong, list) else wrong)})


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"chunk_size": 0}, ValueError, "at least 1"),
        ({"chunk_size": -2}, ValueError, "at least 1"),
        ({"chunk_size": True}, TypeError, "chunk_size must be an int, None or 'auto', got True"),
        ({"chunk_size": "1"}, TypeError, "chunk_size must be an int, None or 'auto', got '1'"),
        ({"memory_budget": 5}, ValueError, "goes with chunk_size='auto'"),
        ({"memory_budget": 0, "chunk_size": "auto"}, ValueError, "at least 1"),
        ({"memory_budget": 1.5, "chunk_size": "auto"}, TypeError, "memory_budget must be an int"),
        ({"max_imbalance": 0.5}, ValueError, "max_imbalance must be at least 1"),
        ({"max_imbalance": float("nan")}, ValueError, "max_imbalance must be at least 1"),
        ({"max_imbalance": True}, TypeError, "max_imbalance must be a number"),
        ({"progress": 1}, TypeError, "progress must be True or False"),
        ({"chunk_size": 2.5}, TypeError, "chunk_size must be an int"),
        ({"randomness": "some"}, ValueError, "'error', 'same', 'different'"),
        ({"randomness": None}, ValueError, "randomness must be one of"),
    ],
)
def test_V21_bad_options_are_refused_at_once(raises_alike, options, kind, text):
    with raises_alike(kind, text):
        ms.vmap(torch.sin, **options)


def test_V21_func_is_no_function(raises_alike):
    with raises_alike(TypeError, "vmap maps a function, got 3"):
        ms.vmap(3)


def test_arrays_given_to_vmap_itself(raises_alike):
    x = ms.arange(7, split=0)
    hint = r"<DNDarray of shape \(7,\)>.*; arrays go to what vmap returns: vmap\(f\)\(x\)"
    with raises_alike(TypeError, "vmap maps a function, got " + hint):
        ms.vmap(x)
    with raises_alike(TypeError, "out_dims must be an int or None, got " + hint):
        ms.vmap(torch.sin, x)


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
    with raises_alike(TypeError, r"'w'\['v'\] is a DNDarray split along 0"):
        ms.vmap(lambda a, w: a + w["v"])(x, w={"v": x})
    assert ms.vmap(lambda a, w: a + w["v"][1])(x, w={"v": ms.ones(3)})[0].tolist() == [2.0] * 4


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

    # Debug mode notices the state that makes them differ.
    with ms.debug(False), raises_alike(ValueError, "func must return the same for every chunk"):
        ms.vmap(func, chunk_size=1)(ms.ones(2 * here().size, split=0))


def test_repr_is_the_same_on_every_rank():
    assert repr(ms.vmap(torch.sin, chunk_size=2)) == "<minisplit.vmap of sin, out_dims=0, chunk_size=2>"
    assert repr(ms.vmap(torch.sin, None, in_dims=(1,))) == "<minisplit.vmap of sin, out_dims=None, in_dims=(1,)>"


def pushed(func):
    return lambda a, w: jvp(func, (a, w), (a, w))[1]


def pulled(func):
    return lambda a, w: vjp(func, a, w)[1](torch.ones((), dtype=a.dtype))[0]


@pytest.mark.parametrize("derive", [grad, jacrev, jacfwd, hessian, pushed, pulled])
def test_derivatives_and_nested_vmap(derive):
    def func(a, w):
        inner = torch.vmap(torch.sin)(a)
        return (inner * w).square().sum()

    whole, w = values(7, 3), values(3)
    outputs = ms.vmap(derive(func), chunk_size=2)(deal(whole, 0), ms.array(w))
    expected = torch.vmap(derive(func), (0, None))(whole, w)
    check(outputs, [(expected, 0)], outputs[0].counts)


def test_V10_negative_and_missing_axes():
    a, b, c = values(3, 6), values(6), values(2, 2)
    x, y, w = deal(a, 0), deal(b, 0, all_on(0, 6)), deal(c, 1)
    mapped = ms.vmap(lambda p, q, r: (p * q, r.sum(), p @ p), (-1, None, -1), in_dims=(-1, -1, None))
    outputs = mapped(x, y, w)
    check(outputs[::2], [((a.T * b[:, None]).T, 1), ((a * a).sum(0), 0)], outputs[0].counts)
    assert outputs[1].split is None
    assert outputs[1].tolist() == pytest.approx(float(c.sum()))
    assert (x.split, w.split) == (0, 1)


def test_one_object_with_a_negative_in_dim_is_called_with_2d_and_3d_arrays():
    mapped = ms.vmap(lambda v: v.sum(), in_dims=-1)
    for shape in ((3, 5), (2, 3, 4), (6,), (3, 5)):
        whole = values(*shape)
        (y,) = mapped(ms.array(whole, split=0))
        check([y], [(whole.reshape(-1, shape[-1]).sum(0), 0)], y.counts)


def test_one_object_with_a_negative_out_dim_returns_samples_of_1d_and_2d():
    mapped = ms.vmap(lambda v: v * 2, out_dims=-1)
    for shape in ((3, 5), (2, 3, 4), (6,), (3, 5)):
        whole = values(*shape)
        (y,) = mapped(ms.array(whole, split=0))
        check([y], [(whole.movedim(0, -1) * 2, len(shape) - 1)], y.counts)


def test_one_object_is_called_with_other_arguments_each_time():
    """What is remembered of one call must not be taken for another: each call follows each other one."""

    def func(a, b, shift=0.0):
        return {"a": a * b["x"] + shift, "shift": torch.as_tensor(shift)} if isinstance(b, dict) else a * b + shift

    last = here().size - 1
    x, y = values(6, 2), values(6, 2)
    calls = {
        "plain": lambda: (deal(x, 0), deal(y, 0), {}, x * y),
        "single precision": lambda: (deal(x.float(), 0), deal(y.float(), 0), {}, x.float() * y.float()),
        "fewer": lambda: (deal(x[:3], 0), deal(y[:3], 0), {}, x[:3] * y[:3]),
        "none": lambda: (deal(x[:0], 0), deal(y[:0], 0), {}, x[:0] * y[:0]),
        "one rank": lambda: (deal(x, 0, all_on(last, 6)), deal(y, 0, all_on(last, 6)), {}, x * y),
        "moved": lambda: (deal(x, 0, all_on(0, 6)), deal(y, 0), {}, x * y),
        "columns": lambda: (deal(x.T, 1), deal(y.T, 1), {}, x * y),
        "keyword": lambda: (deal(x, 0), deal(y, 0), {"shift": 3.0}, x * y + 3),
        "other keyword": lambda: (deal(x, 0), deal(y, 0), {"shift": torch.ones(2)}, x * y + 1),
        "one not mapped": lambda: (deal(x, 0), ms.array(y[0]), {}, x * y[0]),
        "structure": lambda: (deal(x, 0), {"x": deal(y, 0)}, {"shift": 3.0}, x * y + 3),
        "other value": lambda: (deal(x, 0), {"x": deal(y, 0)}, {"shift": 4.0}, x * y + 4),
    }
    mapped = ms.vmap(func)
    trees = ms.vmap(func, {"a": 0, "shift": None})
    for _ in range(2):
        for make in calls.values():
            a, b, keywords, expected = make()
            if isinstance(b, dict):
                outputs = trees(a, b, **keywords)
                assert outputs["shift"].tolist() == keywords["shift"]
                outputs = (outputs["a"],)
            else:
                outputs = mapped(a, b, **keywords)
            check(outputs, [(expected, 0)], outputs[0].counts)


def test_one_object_is_called_with_and_without_gradients():
    mapped, x = ms.vmap(lambda v: v * 3), ms.ones((4, 2), split=0)
    for traced in (False, True, False, True):
        x.larray.requires_grad_(traced)
        assert mapped(x)[0].larray.requires_grad is traced
        with torch.no_grad():
            assert not mapped(x)[0].larray.requires_grad


def test_V11_an_output_without_an_axis_that_depends_on_the_samples(raises_alike):
    with raises_alike(ValueError, "out_dims is None for output 1, so it must be the same for every sample"):
        ms.vmap(lambda x: (x, x * 0), (0, None))(ms.ones(5, split=0))


@pytest.mark.several
def test_V11_an_output_without_an_axis_that_differs_between_ranks(raises_alike):
    def func(x):
        return x, torch.tensor(float(here().rank == 1))

    with raises_alike(ValueError, "where out_dims is None the same values"):
        ms.vmap(func, (0, None))(ms.ones(8, split=0))


def test_V11_an_output_without_an_axis_that_differs_between_chunks(raises_alike):
    calls = []

    def func(x):
        calls.append(1)
        return x, torch.tensor(float(len(calls)))

    with ms.debug(False), raises_alike(ValueError, "output 1, but it is not the same for every chunk"):
        ms.vmap(func, (0, None), chunk_size=1)(ms.ones(3 * here().size, split=0))


def test_V11_an_output_without_an_axis_and_without_samples(raises_alike):
    with raises_alike(ValueError, "out_dims is None for output 0, but there is no sample"):
        ms.vmap(lambda x: torch.ones(3), None)(ms.ones(0, split=0))


@pytest.mark.parametrize("chunk_size", [None, 2, "auto"])
def test_replicated_outputs_reach_ranks_without_samples(chunk_size):
    w = torch.full((2,), float("nan"))
    x = deal(values(5), 0, all_on(here().size - 1, 5))
    y, z = ms.vmap(lambda a: (a * 2, w), (0, None), chunk_size=chunk_size)(x)
    assert (z.split, z.shape, y.counts) == (None, (2,), x.counts)
    assert z.larray.isnan().all()
    z.larray.zero_()
    assert w.isnan().all(), "the output has memory of its own"


class Pair(NamedTuple):
    first: Any
    rest: Any


@pytest.mark.parametrize("owner", [None, 0])
@pytest.mark.parametrize("many", [1, 60])
def test_structures_come_back_as_func_returns_them(owner, many):
    whole = values(6, 3)
    params = {"w": deal(whole, 0, None if owner is None else all_on(0, 6)), "b": ms.array(values(3))}

    def func(x, p):
        named = {f"output number {i}": x * i for i in range(many)}
        return Pair(p["w"] + x, [named, (p["b"] * x,), OrderedDict(z=x.sum())])

    pair = ms.vmap(func)(deal(whole, 0, None if owner is None else all_on(0, 6)), params)
    assert type(pair) is Pair
    named, (product,), ordered = pair.rest
    assert type(ordered) is OrderedDict
    assert list(named) == [f"output number {i}" for i in range(many)]
    outputs = [pair.first, product, ordered["z"], *named.values()]
    expected = [2 * whole, values(3) * whole, whole.sum(1), *[whole * i for i in range(many)]]
    check(outputs, [(want, 0) for want in expected], params["w"].counts)


def test_a_structure_that_ranks_without_samples_cannot_make(raises_alike):
    class Local(NamedTuple):
        first: Any

    (y,) = ms.vmap(Local)(deal(values(8), 0))
    assert type(ms.vmap(Local)(deal(values(8), 0))).__name__ == "Local"
    if here().size > 1:
        with raises_alike(TypeError, "func returned a Local that ranks without samples cannot make"):
            ms.vmap(Local)(deal(values(8), 0, all_on(0, 8)))
    assert y.shape == (8,)


def test_a_bare_tensor_comes_back_as_a_tuple_and_a_list_as_a_list():
    x = ms.ones(3, split=0)
    assert type(ms.vmap(lambda a: a)(x)) is SingleOutput
    assert type(ms.vmap(lambda a: [a, a], [0, -1])(x)) is list
    assert list(ms.vmap(lambda a: {"b": a, "a": a})(x)) == ["b", "a"]


FUNCTIONS_OF_ONE_VALUE = {
    "item": (lambda x: x + x.sum().item(), "use torch operations instead of item"),
    "float": (lambda x: x * float(x[0]), "use torch operations instead of item"),
    "numpy": (lambda x: torch.from_numpy(x.numpy()), "numpy\\(\\)"),
    "if": (lambda x: x if x.sum() > 0 else -x, "torch.where"),
    "allclose": (lambda x: x if torch.allclose(x, x) else -x, "torch.isclose"),
    "mask": (lambda x: x[x > 0], "keep all elements"),
    "nonzero": (torch.nonzero, "keep all elements"),
    "masked_select": (lambda x: torch.masked_select(x, x > 0), "keep all elements"),
    "out": (lambda x: torch.add(x, x, out=torch.zeros(3)), "cannot map this operation"),
    "random": (lambda x: x + torch.rand(3), 'randomness="different"'),
}


@pytest.mark.parametrize("name", FUNCTIONS_OF_ONE_VALUE)
def test_V14_what_a_sample_has_no_value_for_comes_with_a_hint(raises_alike, name):
    func, hint = FUNCTIONS_OF_ONE_VALUE[name]
    with raises_alike(RuntimeError, f"(?s)failed while mapping sample 0 of .*\n  hint: .*{hint}"):
        ms.vmap(func)(ms.ones((5, 3), split=0))


def test_V15_a_change_of_a_captured_tensor_is_an_error(raises_alike):
    total, scale = torch.zeros(3), torch.ones(3)
    x = ms.ones((5, 3), split=0)

    def sums(a):
        total.add_(scale)
        return a

    with raises_alike(RuntimeError, "func changed in place a tensor that it captured or got by keyword"):
        ms.vmap(sums)(x)
    with raises_alike(RuntimeError, "func changed in place a tensor that it captured or got by keyword"):
        ms.vmap(lambda a, w: a + w.mul_(2))(x, w=torch.ones(3))
    with raises_alike(RuntimeError, "hint: func changes in place a tensor that has no axis for the samples"):
        ms.vmap(lambda a: total.add_(a) * 2)(x)


def test_V16_captured_dndarrays(raises_alike):
    x = ms.ones((5, 3), split=0)
    w, cut, traced = ms.arange(3), ms.arange(3, split=0), ms.ones(3)
    traced.larray.requires_grad_()
    (y,) = ms.vmap(lambda a: (a + w) * 2 - w[0] + torch.sin(0 * w) + (w - a) - torch.dot(w.larray.float(), a))(x)
    a, v = torch.ones(3), torch.arange(3)
    assert y.resplit(None).larray[-1].tolist() == ((a + v) * 2 + (v - a) - 3).tolist()
    for func in (lambda a: a + cut, lambda a: cut + a, lambda a: torch.add(a, cut)):
        with raises_alike(TypeError, "uses a DNDarray that is split along 0.*pass it as an argument"):
            ms.vmap(func)(x)
    with raises_alike(TypeError, "requires a gradient.*as a keyword argument"):
        ms.vmap(lambda a: a * traced)(x)


def test_torch_functions_outside_of_a_mapped_function_say_what_to_call(raises_alike):
    for call in (torch.lgamma, lambda x: torch.ones(3) * x, lambda x: torch.add(torch.ones(3), x)):
        with raises_alike(TypeError, "takes tensors, got a DNDarray|must be a DNDarray or a number"):
            call(ms.ones(3, split=0))


@pytest.mark.several
@pytest.mark.parametrize("owner", [None, 0])
def test_V17_a_collective_call_in_func(raises_alike, owner):
    x = deal(torch.ones(8), 0, None if owner is None else all_on(owner, 8))
    with raises_alike(ms.CollectiveError, "the mapped function made a collective call, allreduce"):
        ms.vmap(lambda a: a + here().allreduce(torch.ones(1)))(x)


def test_V19_inputs_on_different_devices(raises_alike):
    with raises_alike(ValueError, "all inputs must be on one device: input 0 is on cpu, input 1 on meta"):
        ms.vmap(torch.add)(ms.zeros(4, split=0), ms.zeros(4, split=0, device="meta"))


def test_V22_complex_and_0d_samples_of_strided_shards():
    whole = torch.complex(values(3, 8), values(8, 3).T).conj()
    x = ms.asarray(whole, split=1)
    y, z = ms.vmap(lambda a: (a[0] * 1j, a.conj()), (0, -1))(x)
    check([y, z], [(whole[0] * 1j, 0), (whole.conj(), 1)], x.counts)
    (w,) = ms.vmap(lambda a: ~a)(ms.array(torch.tensor([True, False]).repeat(4)[::2], split=0))
    assert w.tolist() == [False] * 4


@pytest.mark.several
def test_V24_another_function_or_other_arguments_on_a_rank(raises_alike):
    x, last = ms.ones(8, split=0), here().rank == here().size - 1
    with ms.debug():
        func = (lambda a: a * 2) if last else (lambda a: a * 3)
        with raises_alike(ValueError, f"rank {here().size - 1} has another function than rank 0"):
            ms.vmap(func)(x)
        shift = torch.ones(2) * last
        with raises_alike(ValueError, "another function than rank 0"):
            ms.vmap(lambda a: a + shift.sum())(x)
        for other in (torch.ones(1) * last, {"deep": [torch.ones(1) * last]}):
            differs = f"rank {here().size - 1} has other arguments that are not mapped than rank 0"
            with raises_alike(ValueError, differs):
                ms.vmap(lambda a, w: a)(x, w=other)
        for other in (float(last), {"deep": [float(last)]}):
            with raises_alike(ms.CollectiveError, "MappedFunction.__call__"):
                ms.vmap(lambda a, w: a)(x, w=other)
        assert ms.vmap(lambda a, w: a + w)(x, w=2.0)[0].tolist() == [3.0] * 8


@pytest.mark.several
def test_V24_a_function_of_another_name_on_a_rank(raises_alike):
    """Without debug mode, in the message that is sent anyway."""
    last = here().size - 1
    with ms.debug(False):
        x = ms.ones(8, split=0)
        with raises_alike(ValueError, rf"func must be the same.* of sin on rank.*; .* of cos on rank {last}"):
            ms.vmap(torch.cos if here().rank == last else torch.sin)(x)


@pytest.mark.parametrize("chunk_size", [None, 1, "auto"])
def test_V25_memory_runs_out_in_one_chunk(raises_alike, chunk_size):
    last = here().size - 1

    def func(a):
        return a + (torch.empty(2**53) if here().rank == last else a).sum()

    with raises_alike(RuntimeError, rf"(?s)rank {last} of .*\n  hint: .*set chunk_size, to a number or to 'auto'"):
        ms.vmap(func, chunk_size=chunk_size)(ms.ones(2 * here().size, split=0))
    with raises_alike(MemoryError, "hint: a chunk of fewer samples"):
        ms.vmap(lambda a: [0] * 2**60)(ms.ones(here().size, split=0))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_functions(backend):
    compiled = torch.compile(lambda a: (a.sin() ** 2).sum(), backend=backend)
    whole = values(6, 3)
    (y,) = ms.vmap(compiled)(ms.array(whole, split=0))
    check([y], [((whole.sin() ** 2).sum(1), 0)], y.counts)


class CannotShowError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class ShowsANumberError(Exception):
    def __str__(self) -> str:
        return 3  # type: ignore[return-value]  # noqa: PLE0307


class NoArgumentsError(Exception):
    @property
    def args(self) -> Any:  # type: ignore[override]
        raise ValueError("no arguments")


class OfItsOwn(BaseException):
    pass


ODD = [
    CannotShowError,
    ShowsANumberError,
    NoArgumentsError,
    OfItsOwn,
    SystemExit,
    GeneratorExit,
    MemoryError,
    StopIteration,
]


@pytest.mark.parametrize("kind", [*ODD, RecursionError])
def test_V30_exceptions_of_one_rank_that_are_odd(kind: type[BaseException], rank: int, size: int) -> None:
    """The same on all ranks, and the communicator is clean afterwards."""

    def deeper(v: torch.Tensor) -> torch.Tensor:
        return deeper(v)

    def failing(v: torch.Tensor) -> torch.Tensor:
        if rank == size - 1:
            if kind is RecursionError:
                return deeper(v)
            raise kind
        return v

    x = ms.ones((2 * size, 3), split=0)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is compared below
        ms.vmap(failing)(x)
    shown = x.comm.allgather_object(f"{type(caught.value).__name__}: {caught.value}")
    assert len(set(shown)) == 1
    assert f"rank {size - 1} of {size} failed while mapping" in shown[0]
    assert x.sum().item() == 6 * size
