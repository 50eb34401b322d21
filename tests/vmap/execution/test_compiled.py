"""Compiled maps: the same as uncompiled ones, from one compilation, or a warning that says why there is none."""

from __future__ import annotations

import functools
import gc
import os
import subprocess
import sys
import sysconfig
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any, NamedTuple

import pytest
import torch
from torch._dynamo.backends.registry import lookup_backend

import minisplit as ms
from minisplit.testing import spmd
from minisplit.vmap.execution import compiled
from minisplit.vmap.functorch import internals

RANKS = (3,)
here = ms.get_comm
W = torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.0, -1.0], [1.0, 1.0, 0.0]])


def values(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


class Counting:
    """A backend of torch.compile that needs no compiler, and counts what it is given."""

    def __init__(self, name: str = "eager") -> None:
        self.count, self.backend = 0, lookup_backend(name)

    def __call__(self, *args: Any) -> Any:
        self.count += 1
        return self.backend(*args)


class Pair(NamedTuple):
    product: torch.Tensor
    norm: torch.Tensor


def in_structures(x: Any, y: torch.Tensor, *, scale: torch.Tensor, power: int) -> Any:
    return {"pair": Pair(W @ x["a"] * scale, x["a"].norm()), "both": [(x["a"] + y) ** power, x["b"].sum()]}


def of_derivatives(x: torch.Tensor, y: torch.Tensor) -> Any:
    gradient = torch.func.grad(lambda v: (W @ v).sin().sum())
    return gradient(x), torch.func.jacrev(gradient)(y)


def on_one_number_of_samples(x: torch.Tensor) -> torch.Tensor:
    """Of which torch makes code for one number of samples only."""
    return torch.nn.functional.conv1d(x[None, None], W[None, :1])


def same(got: Any, expected: Any) -> None:
    leaves = [torch.utils._pytree.tree_flatten(each)[0] for each in (got, expected)]
    for x, y in zip(*leaves, strict=True):
        assert (x.split, x.counts, x.dtype) == (y.split, y.counts, y.dtype)
        torch.testing.assert_close(x.larray, y.larray)


@pytest.mark.parametrize("chunk_size", [None, 2, "auto"])
@spmd(ranks=(1, 3))
def test_one_compilation_serves_all_numbers_of_samples(ranks: int, chunk_size: Any) -> None:
    backend = Counting()
    dims = {"pair": Pair(1, 0), "both": ["sum", "max"]}
    in_dims = ({"a": 1, "b": 0}, None)
    mapped = ms.vmap(in_structures, dims, in_dims=in_dims, chunk_size=chunk_size, compile={"backend": backend})
    plain = ms.vmap(in_structures, dims, in_dims=in_dims)
    for n in (2 * ranks + 1, ranks, 7 * ranks, 1):
        x = {"a": ms.array(values(3, n), split=1), "b": ms.array(values(n, 2), split=0)}
        options = {"scale": torch.tensor(float(n)), "power": 2}
        same(mapped(x, ms.ones(3), **options), plain(x, ms.ones(3), **options))
    assert backend.count == 1
    assert mapped.plan(x, ms.ones(3), **options).compiled


@pytest.mark.parametrize("func", [of_derivatives, on_one_number_of_samples], ids=lambda f: f.__name__)
@spmd(ranks=RANKS)
def test_derivatives_and_blocks(ranks: int, func: Callable[..., Any]) -> None:
    backend, size = Counting(), ranks
    mapped = ms.vmap(func, compile={"backend": backend})
    for n in (3 * size, 5 * size, 1, 7 * size + 1):
        inputs = [ms.array(values(n, 3), split=0)] * (2 if func is of_derivatives else 1)
        same(mapped(*inputs), ms.vmap(func)(*inputs))
    # torch hands over the graph before it finds that it is for one number of samples only.
    assert backend.count == 1 if func is of_derivatives else 2


@pytest.mark.parametrize("n", [1, 8])
@spmd(ranks=RANKS)
def test_gradients_flow_through_compiled_code(ranks: int, n: int) -> None:
    """To inputs, to tensors by keyword, to those that the function captured, and where one is infinite."""
    backend = Counting("aot_eager")
    gradients = []
    for options in ({}, {"compile": {"backend": backend}}):
        leaves = [values(n, 3).abs().requires_grad_(), values(3).requires_grad_(), values(3).requires_grad_()]
        x, scale, w = leaves

        def func(v: torch.Tensor, scale: torch.Tensor, w: torch.Tensor = w) -> torch.Tensor:
            return (v.sqrt() * scale * w).sum()

        (y,) = ms.vmap(func, **options)(ms.array(x, split=0), scale=scale)
        ms.sum(y * y).backward()
        gradients.append([leaf.grad for leaf in leaves])
    torch.testing.assert_close(gradients[1], gradients[0])
    assert backend.count == (n > ranks)


@pytest.mark.serial
def test_an_infinite_derivative_of_a_lone_sample() -> None:
    """The sample that stands beside it in compiled code would make NaN of the gradient of what both share."""
    s = torch.zeros((), requires_grad=True)
    mapped = ms.vmap(lambda v: (v + s).sqrt(), compile={"backend": Counting("aot_eager")})
    for n in (2, 1):
        s.grad = None
        ms.sum(mapped(ms.array(torch.zeros(n), split=0))[0]).backward()
        assert s.grad is not None
        assert s.grad.item() == float("inf")


def prints(v: torch.Tensor) -> torch.Tensor:
    print(end="")
    return v * 2


def draws(v: torch.Tensor) -> torch.Tensor:
    return v + torch.rand(3)


def curvature(v: torch.Tensor) -> torch.Tensor:
    return torch.func.hessian(lambda z: (z**3).sum())(v)


def divides(v: torch.Tensor) -> torch.Tensor:
    return torch.div(v, 2, rounding_mode="trunc")


def writes(v: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(3)
    out[1] = v.sum()
    return out + v


REFUSED = {
    "writes": (writes, "it writes what differs between samples into a tensor that it makes"),
    "divides": (divides, "div divides integers by zero"),
    "prints": (prints, r"Unsupported: .*print.*line \d+: print\(end=\"\"\)"),
    "draws": (draws, "it draws random numbers"),
    "curvature": (curvature, r"forward-mode .*\(hessian\).*jacrev\(grad\(f\)\)"),
}


@pytest.mark.parametrize("name", REFUSED)
@spmd(ranks=RANKS)
def test_what_is_not_compiled_says_why_once_and_is_right(ranks: int, name: str) -> None:
    func, why = REFUSED[name]
    x = ms.array(values(2 * ranks, 3), split=0)
    backend = Counting()
    # Of each rank its own function: ranks may be threads, and code goes with the function.
    mapped = ms.vmap(functools.partial(func), randomness="different", compile={"backend": backend})
    with pytest.raises(ms.PerformanceWarning, match=f"compiles nothing here: .*{why}.*runs as it is"):
        mapped(x)
    ms.random.seed(3)
    got = mapped(x)  # in silence
    ms.random.seed(3)
    same(got, ms.vmap(func, randomness="different")(x))
    assert backend.count == 0
    plan = mapped.plan(x)
    assert not plan.compiled
    assert "not compiled: " in str(plan)
    assert plan.not_compiled


@spmd(ranks=RANKS)
def test_errors_are_those_of_the_function(ranks: int) -> None:
    matrices = torch.eye(2).repeat(3 * ranks, 1, 1)
    backend = Counting()
    mapped = ms.vmap(functools.partial(torch.linalg.cholesky), compile={"backend": backend})
    mapped(ms.array(matrices, split=0))
    bad = matrices.clone()
    bad[-2] = -1.0
    with pytest.raises(torch.linalg.LinAlgError, match="positive-definite") as raised:
        mapped(ms.array(bad, split=0))
    assert raised.value.samples == range(3 * ranks - 2, 3 * ranks - 1)
    assert raised.value.rank == ranks - 1
    same(mapped(ms.array(matrices, split=0)), ms.vmap(torch.linalg.cholesky)(ms.array(matrices, split=0)))
    assert backend.count == 1, "an error of a sample is no reason to compile anew"
    with pytest.raises(ZeroDivisionError, match="by zero"):
        ms.vmap(lambda m: m * (1 // 0), compile={"backend": backend})(ms.array(matrices, split=0))
    with pytest.raises(RuntimeError, match="changed input 0 in place"):
        ms.vmap(lambda m: m.add_(1), compile={"backend": backend})(ms.array(matrices.clone(), split=0))


@spmd(ranks=RANKS)
def test_ranks_may_differ_in_what_they_compile(ranks: int) -> None:
    """And yet agree on an output that is the same for all samples, to the last bit."""

    class Refusing(Counting):
        def __call__(self, *args: Any) -> Any:
            if here().rank == ranks - 1:
                raise RuntimeError("no compiler here")
            return super().__call__(*args)

    x = ms.array(values(2 * ranks, 3), split=0)

    def func(v: torch.Tensor) -> Any:
        return v.sin(), (W / 3).softmax(0).sum()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ms.PerformanceWarning)
        same(ms.vmap(func, (0, None), compile={"backend": Refusing()})(x), ms.vmap(func, (0, None))(x))


@spmd(ranks=RANKS)
def test_files(tmp_path: Any, ranks: int) -> None:
    path = tmp_path / str(ranks)
    path.mkdir(exist_ok=True)
    backend = Counting()
    x = ms.array(values(3 * ranks, 3), split=0)
    mapped = ms.vmap(lambda v: v.exp(), out=path / "y.npy", chunk_size=2, compile={"backend": backend})
    (y,) = mapped(x)
    torch.testing.assert_close(ms.load(path / "y.npy", split=0).larray, x.larray.exp())
    assert backend.count == 1
    assert y.shape == x.shape
    assert ms.vmap(prints, compile={"backend": backend}).plan(y).compiled, "as far as is known"


@pytest.mark.serial
def test_code_lives_as_long_as_the_function() -> None:
    def func(v: torch.Tensor) -> torch.Tensor:
        return v * 2

    backend = Counting()
    x = ms.array(values(4, 3), split=0)
    for _ in range(3):  # a mapped function of its own in each call
        ms.vmap(func, compile={"backend": backend})(x)
    assert backend.count == 1
    code = weakref.ref(compiled.code_for(func, None, frozenset(), {"backend": backend}))
    assert code() is not None
    del func
    gc.collect()
    assert code() is None


@pytest.mark.serial
def test_code_is_called_directly_until_what_it_depends_on_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside torch's own call of it: what the function captures, samples of another kind, torch's settings."""
    backend, direct = Counting(), []
    call = internals.DirectCode.call

    def counted(self: internals.DirectCode, *args: Any) -> Any:
        returned = call(self, *args)
        direct.append(returned is not None)
        return returned

    monkeypatch.setattr(internals.DirectCode, "call", counted)
    factor, offset = 2.0, torch.tensor([1.0, 2.0, 3.0])

    def func(v: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return v * factor + w + offset

    mapped = ms.vmap(func, compile={"backend": backend})

    def check(x: torch.Tensor, y: torch.Tensor, compilations: int, directly: bool) -> None:
        direct.clear()
        (got,) = mapped(ms.array(x, split=0, copy=False), ms.array(y, split=0, copy=False))
        torch.testing.assert_close(got.larray, x * factor + y + offset)
        assert backend.count == compilations
        assert any(direct) == directly

    x, y = values(4, 3), values(5, 3)[1:]
    check(x, y, 1, False)
    check(x, y, 1, True)
    check(x[:3], y[1:], 1, True)
    check(values(3, 4).T, y, 1, True)  # not contiguous
    check(x, x, 1, True)
    check(x[:1], y[:1], 1, True)
    offset = offset * 2
    check(x, y, 1, True)
    offset.add_(1)
    check(x, y, 1, True)
    factor = 3.0
    check(x, y, 2, False)
    check(x, y, 2, True)
    check(x.double(), y.double(), 3, False)
    offset = offset.double()
    check(x, y, 4, False)
    with torch.compiler.set_stance("force_eager"):
        check(x, y, 4, False)
    torch.compiler.reset()
    check(x, y, 5, False)
    check(x, y, 5, True)


@pytest.mark.serial
def test_functions_of_one_program_do_not_share_a_limit_of_compilations() -> None:
    backend = Counting()
    x = ms.array(values(4, 3), split=0)

    def scaled(factor: float) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda v: v * factor

    for factor in range(20):
        torch.testing.assert_close(
            ms.vmap(scaled(factor + 0.5), compile={"backend": backend})(x)[0].larray, x.larray * (factor + 0.5)
        )
    assert backend.count == 20


@pytest.mark.serial
def test_numbers_that_change_are_compiled_in_or_become_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch cannot make an argument of is compiled in, for a few numbers."""
    monkeypatch.setattr(compiled, "_MOST_KINDS", 2)
    backend = Counting()
    mapped = ms.vmap(lambda v, t, n: v * t + v**n, compile={"backend": backend})
    x = ms.array(values(4, 3), split=0)
    for t, n in ((1.5, 2), (2.5, 3), (3.5, 4), (4.5, 5)):
        torch.testing.assert_close(mapped(x, t=t, n=n)[0].larray, x.larray * t + x.larray**n)
    assert backend.count == 2
    mapped = ms.vmap(lambda v, t: v.sum() * t, compile={"backend": Counting("aot_eager")})
    mapped(x, t=1.5)
    mapped(x, t=2.5)
    with pytest.warns(ms.PerformanceWarning, match="2 kinds of samples and numbers.*as tensors of no axis"):
        torch.testing.assert_close(mapped(x, t=3.5)[0].larray, x.larray.sum(1) * 3.5)


@pytest.mark.serial
def test_within_transforms_the_function_runs_as_it_is() -> None:
    mapped = ms.vmap(lambda v: v.sin(), compile={"backend": Counting()})
    x = values(4, 3)
    with pytest.warns(ms.PerformanceWarning, match="transforms of torch.func"):
        got = torch.func.grad(lambda x: ms.sum(mapped(ms.array(x, split=0))[0]).larray)(x)
    torch.testing.assert_close(got, x.cos())


PROGRAM = """
import sys, warnings, torch, minisplit as ms
x = ms.array(torch.arange(12.0).reshape(4, 3), split=0)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", ms.PerformanceWarning)
    mapped = ms.vmap(lambda v: v.sin() * 2 + 1, compile=True)
    for n in (4, 1, 3):
        (y,) = mapped(x[:n].balance() if n < 4 else x)
        torch.testing.assert_close(y.larray, x.larray[:n].sin() * 2 + 1)
print(mapped.plan(x).compiled, *[w.message for w in caught if w.category is ms.PerformanceWarning])
"""


@pytest.mark.serial
@pytest.mark.parametrize("hidden", [False, True], ids=["found", "hidden"])
def test_the_compiler(hidden: bool, tmp_path: Any) -> None:
    """With a C++ compiler there is code of it; without one, or with one that is hidden, a warning says so."""
    env = dict(os.environ)
    if hidden:  # and what it has made before
        env |= {"CXX": "/nonexistent", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True)
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    if not hidden and which(env.get("CXX", "g++")) and not headers.exists():
        assert "CppCompileError" in done.stdout
    elif not hidden and which(env.get("CXX", "g++")):
        assert done.stdout == "True\n"
    else:
        assert done.stdout.startswith(
            "False vmap(compile=...) compiles nothing here: there is no C++ compiler: inst"
        )
