"""torch's functions of DNDarrays: with torch's arguments, and what torch returns, in any layout."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from layouts import dealt, layouts

import minisplit as ms
from minisplit.ops.torch_functions import functions
from minisplit.testing import assert_close

WHOLE = torch.tensor([[3.0, -1.5, 2.0], [0.5, 4.0, -2.5], [1.0, 7.5, -6.0], [2.5, 0.25, 9.0]])
Call = Callable[[Any], Any]
CALLS: dict[str, Call] = {
    "add, alpha=": lambda x: torch.add(x, x, alpha=3),
    "all": lambda x: torch.all(x > 0, dim=1, keepdim=True),
    "allclose": lambda x: torch.allclose(x, x, 1e-3),
    "amax, all": lambda x: torch.amax(x, dim=()),
    "argmax": lambda x: torch.argmax(x, 0, True),
    "argsort": lambda x: torch.argsort(x, 1, True),
    "argwhere": lambda x: torch.argwhere(x > 0),
    "atleast_3d": lambda x: list(torch.atleast_3d(x, x)),
    "bincount": lambda x: torch.bincount((x[:, 0] > 1).long(), minlength=4),
    "bitwise_not": lambda x: torch.bitwise_not(x > 0),
    "bmm": lambda x: torch.bmm(x[None], x.T[None]),
    "broadcast_tensors": lambda x: list(torch.broadcast_tensors(x, x[0])),
    "broadcast_to": lambda x: torch.broadcast_to(x[0], (2, 3)),
    "bucketize": lambda x: torch.bucketize(x, torch.tensor([0.0, 2.0]), right=True),
    "cat": lambda x: torch.cat([x, x], 1),
    "cat, by name": lambda x: torch.cat(tensors=(x, x), dim=0),
    "chunk": lambda x: list(torch.chunk(x, 3)),
    "clamp": lambda x: torch.clamp(x, min=0.2, max=0.8),
    "clone": torch.clone,
    "column_stack": lambda x: torch.column_stack([x[:, 0], x]),
    "count_nonzero": lambda x: torch.count_nonzero(x > 1, dim=0),
    "cov": lambda x: torch.cov(x, correction=0),
    "cross": lambda x: torch.cross(x, x[:1] + 1, dim=1),
    "cumsum": lambda x: torch.cumsum(x, 0, dtype=torch.float64),
    "det": lambda x: torch.det(x[:3]),
    "diag": lambda x: torch.diag(x[:, 0], 1),
    "diagonal": lambda x: torch.diagonal(x, -1, dim1=1, dim2=0),
    "diff": lambda x: torch.diff(x, 1, 0, prepend=x[:1]),
    "div": lambda x: (
        torch.div(x, 2, rounding_mode="trunc") + torch.div(x, 3, rounding_mode="floor") + torch.div(x, 4)
    ),
    "dot": lambda x: torch.dot(x[:, 0], x[:, 1]),
    "einsum": lambda x: torch.einsum("ij,kj->ik", x, x),
    "einsum of a list": lambda x: torch.einsum("ij,kj->ik", [x, x]),
    "eq": lambda x: torch.eq(x, 1.0),
    "flatten": lambda x: torch.flatten(x[None], 0, 1),
    "flip": lambda x: torch.flip(x, (0, 1)),
    "full_like": lambda x: torch.full_like(x, 3, dtype=torch.int64),
    "gradient": lambda x: list(torch.gradient(x, spacing=2.0)),
    "histogram": lambda x: list(torch.histogram(x, 4, range=(-5.0, 5.0))),
    "hsplit": lambda x: list(torch.hsplit(x, [1])),
    "index_select": lambda x: torch.index_select(x, 1, torch.tensor([2, 0])),
    "isclose": lambda x: torch.isclose(x, x + 1e-3, 1e-2, 1e-2),
    "isin": lambda x: torch.isin(x, x[0]),
    "kron": lambda x: torch.kron(x, x),
    "logsumexp": lambda x: torch.logsumexp(x, 1, keepdim=True),
    "masked_select": lambda x: torch.masked_select(x, x > 0),
    "matmul": lambda x: torch.matmul(x, torch.permute(x, (1, 0))),
    "matrix_power": lambda x: torch.matrix_power(x[:3], 2),
    "max": torch.max,
    "max of an axis": lambda x: torch.max(x, 1, keepdim=True),
    "max of two": lambda x: torch.max(x, -x),
    "mean": lambda x: torch.mean(x, (0, 1), True),
    "median": torch.median,
    "median of an axis": lambda x: list(torch.median(x, 0)),
    "median with NaN": lambda x: torch.median(torch.where(x > 8, torch.nan, x), 0, keepdim=True).values,
    "meshgrid": lambda x: list(torch.meshgrid(x[0], x[:, 0], indexing="ij")),
    "min of an axis": lambda x: torch.min(input=x, dim=0),
    "mm": lambda x: torch.mm(x, x.T),
    "nan_to_num": lambda x: torch.nan_to_num(torch.log(x), 0.0, neginf=1.0),
    "nanmedian": lambda x: torch.nanmedian(torch.log(x)),
    "nanmedian of an axis": lambda x: torch.nanmedian(torch.log(x), 0).values,
    "narrow": lambda x: torch.narrow(x, 1, 0, 2),
    "nonzero": lambda x: torch.nonzero(x > 0),
    "nonzero, as_tuple=": lambda x: list(torch.nonzero(x > 0, as_tuple=True)),
    "norm": lambda x: [
        torch.norm(x),
        torch.norm(x, 1),
        torch.norm(x, dim=0),
        torch.norm(x, p=3, dim=1, keepdim=True),
    ],
    "outer": lambda x: torch.outer(x[0], vec2=x[:, 1]),
    "permute": lambda x: torch.permute(x, (1, 0)),
    "prod": lambda x: torch.prod(x, 0),
    "quantile": lambda x: torch.quantile(x, 0.3, dim=1, keepdim=True, interpolation="lower"),
    "repeat_interleave": lambda x: torch.repeat_interleave(x, 2, dim=1),
    "reshape": lambda x: torch.reshape(x, (2, 6)),
    "roll": lambda x: torch.roll(x, 1, dims=0),
    "rot90": lambda x: torch.rot90(x, 1, [0, 1]),
    "round": lambda x: torch.round(x, decimals=1),
    "searchsorted": lambda x: torch.searchsorted(torch.sort(x[1]).values, x[0], right=True),
    "select": lambda x: torch.select(x, 1, 2),
    "sin": torch.sin,
    "sort": torch.sort,
    "sort of an axis": lambda x: torch.sort(x, dim=0, descending=True),
    "special.expm1": torch.special.expm1,
    "split": lambda x: list(torch.split(x, 3)),
    "split by sizes": lambda x: list(torch.split(x, [1, 2], dim=1)),
    "squeeze": lambda x: torch.squeeze(x[:, :1], 1),
    "stack": lambda x: torch.stack([x, x], dim=1),
    "std": lambda x: [
        torch.std(x),
        torch.std(x, 1),
        torch.std(x, False),
        torch.std(x, 0, unbiased=False, keepdim=True),
    ],
    "sub, alpha=": lambda x: torch.sub(x, x, alpha=0.5),
    "sum": torch.sum,
    "sum by place": lambda x: torch.sum(x, 1, True),
    "sum, dims": lambda x: torch.sum(x, dim=[0, 1], dtype=torch.float64),
    "t": torch.t,
    "take": lambda x: torch.take(x, torch.tensor([0, 5, 7])),
    "tensor_split": lambda x: list(torch.tensor_split(x, 3)),
    "tensordot": lambda x: torch.tensordot(x, x, dims=([1], [1])),
    "tile": lambda x: torch.tile(x, (2, 1)),
    "topk": lambda x: torch.topk(x, 2, dim=0),
    "trace": torch.trace,
    "transpose": lambda x: torch.transpose(x, 0, 1),
    "trapezoid": lambda x: torch.trapezoid(x, dx=0.5, dim=0),
    "tril": lambda x: torch.tril(x, diagonal=1),
    "unbind": lambda x: list(torch.unbind(x, 1)),
    "unique": lambda x: list(torch.unique(x > 0, return_inverse=True, return_counts=True)),
    "unique of rows": lambda x: torch.unique((x > 0).long(), dim=0),
    "unsqueeze": lambda x: torch.unsqueeze(x, 1),
    "vander": lambda x: torch.vander(x[0], 3, increasing=True),
    "var, dim": lambda x: torch.var(x, dim=0, correction=0),
    "vdot": lambda x: torch.vdot(x[0], x[1]),
    "vstack": lambda x: torch.vstack([x, x]),
    "where": lambda x: torch.where(x > 1, x, -x),
    "where of one": lambda x: list(torch.where(x > 1)),
    "zeros_like": lambda x: torch.zeros_like(x, dtype=torch.int32),
    "linalg.cond": torch.linalg.cond,
    "linalg.cholesky": lambda x: torch.linalg.cholesky(x.T @ x, upper=True),
    "linalg.cross": lambda x: torch.linalg.cross(x, x + 1, dim=-1),
    "linalg.eigh": lambda x: torch.linalg.eigh(x.T @ x).eigenvalues,
    "linalg.eigvalsh": lambda x: torch.linalg.eigvalsh(x[:3], "U"),
    "linalg.inv": lambda x: torch.linalg.inv(x[:3]),
    "linalg.lstsq": lambda x: torch.linalg.lstsq(x, x[:, :1]).solution,
    "linalg.matrix_exp": lambda x: torch.linalg.matrix_exp(x[:3] / 9),
    "linalg.matrix_norm": lambda x: torch.linalg.matrix_norm(x, 1),
    "linalg.matrix_power": lambda x: torch.linalg.matrix_power(x[:3], -1),
    "linalg.matrix_rank": torch.linalg.matrix_rank,
    "linalg.multi_dot": lambda x: torch.linalg.multi_dot([x, x.T, x]),
    "linalg.norm": lambda x: [
        torch.linalg.norm(x),
        torch.linalg.norm(x, 2),
        torch.linalg.norm(x, dim=1, keepdim=True),
    ],
    "linalg.pinv": torch.linalg.pinv,
    "linalg.qr": lambda x: abs(torch.linalg.qr(x).R),
    "linalg.slogdet": lambda x: list(torch.linalg.slogdet(x[:3])),
    "linalg.solve": lambda x: torch.linalg.solve(x[:3], x[1:].T[:, :2] if x.ndim == 3 else x[1:]),
    "linalg.solve_triangular": lambda x: torch.linalg.solve_triangular(x[:3].triu(), x[1:], upper=True),
    "linalg.svd": lambda x: torch.linalg.svd(x, full_matrices=False).S,
    "linalg.svdvals": torch.linalg.svdvals,
    "linalg.vecdot": lambda x: torch.linalg.vecdot(x, x, dim=0),
    "linalg.vector_norm": lambda x: torch.linalg.vector_norm(x, 1, dim=0, keepdim=True),
    "fft.fft": lambda x: torch.fft.fft(x, dim=0),
    "fft.rfft": lambda x: torch.fft.rfft(x, 5, 1, "ortho"),
    "fft.irfft": lambda x: torch.fft.irfft(x, norm=None),
    "fft.fft2": torch.fft.fft2,
    "fft.ifftn": lambda x: torch.fft.ifftn(x, dim=(0, 1)),
    "fft.fftshift": lambda x: torch.fft.fftshift(x, dim=0),
}
_UNARY = (
    "abs acosh arctan asinh atan ceil cos cosh deg2rad exp exp2 expm1 fix floor isfinite isnan logical_not neg "
    "positive rad2deg ravel reciprocal sgn sign signbit sinc sinh square tan tanh trunc fliplr"
)
CALLS |= {name: getattr(torch, name) for name in _UNARY.split()}
_BINARY = "arctan2 copysign fmax fmod ge greater hypot logaddexp logaddexp2 lt maximum mul nextafter not_equal pow"
CALLS |= {name: lambda x, name=name: getattr(torch, name)(x.abs(), x[0]) for name in _BINARY.split()}


@pytest.mark.parametrize("name", CALLS)
def test_torch_functions_of_arrays_are_ours(size: int, name: str) -> None:
    wanted = CALLS[name](WHOLE)
    for layout in layouts((4, 3), size):
        made = CALLS[name](dealt(WHOLE, layout))
        if isinstance(wanted, (tuple, list)):
            assert type(made) is type(wanted)
            assert len(made) == len(wanted)
            pairs = list(zip(made, wanted, strict=True))
        else:
            pairs = [(made, wanted)]
        for one, other in pairs:
            if isinstance(other, bool):
                assert one is other
                continue
            assert isinstance(one, ms.DNDarray)
            assert one.dtype is other.dtype
            np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=2e-4, atol=1e-5)


# What takes no array, and so never comes here; and `save`, which says what to call.
WITHOUT = {
    "arange", "asarray", "broadcast_shapes", "can_cast", "empty", "eye", "finfo", "from_dlpack", "from_numpy",
    "full", "iinfo", "linspace", "load", "logspace", "ones", "save", "set_printoptions", "vmap", "zeros",
    "fft.fftfreq", "fft.rfftfreq",
}  # fmt: skip


@pytest.mark.serial
def test_every_function_of_ours_that_torch_has_too_is_called() -> None:
    for space, theirs in {"": torch, "linalg.": torch.linalg, "fft.": torch.fft}.items():
        ours: Any = getattr(ms, space[:-1]) if space else ms
        for name in ours.__all__:
            function = getattr(theirs, name, None)
            if inspect.isfunction(getattr(ours, name)) and callable(function) and f"{space}{name}" not in WITHOUT:
                assert function in functions(), f"torch.{space}{name}"


def test_gradients_flow_through_torch_functions(size: int) -> None:
    for layout in layouts((4, 3), size):
        x, t = dealt(WHOLE, layout).requires_grad_(), WHOLE.clone().requires_grad_()
        for each in (x, t):
            (
                torch.sort(each, 0).values * torch.max(each, 1, keepdim=True).values + torch.std(each, 0)
            ).sum().backward()
        assert x.grad is not None
        assert_close(x.grad, t.grad, rtol=1e-4, atol=1e-5)


def test_results_are_written_into_arrays(raises_alike: Any) -> None:
    x = ms.array(WHOLE, split=0)
    out = ms.zeros((4, 3), split=1)
    assert torch.mul(x, 2, out=out) is out
    assert_close(out, WHOLE * 2)
    with raises_alike(TypeError, match=r"torch\.linalg\.solve of DNDarrays takes no left; it takes A, B"):
        torch.linalg.solve(x[:3], x[1:], left=False)


def test_torch_functions_that_minisplit_has_not_say_what_to_call(raises_alike: Any) -> None:
    x = ms.ones(3, split=0)
    assert torch.equal(x, x)
    assert (torch.numel(x), torch.is_floating_point(x), torch.is_complex(x)) == (3, True, False)
    with raises_alike(TypeError, match=r"torch's lgamma takes tensors, got a DNDarray: x\.torch\(\) is the whole"):
        torch.lgamma(x)
