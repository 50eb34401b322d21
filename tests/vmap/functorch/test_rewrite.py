"""Functions in graphs that are to be compiled: as exact as uncompiled ones, also where they are special."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from minisplit.vmap.functorch.rewrite import rewrite

pytestmark = pytest.mark.serial
INF = float("inf")
TANH, EXPM1 = torch.ops.aten.tanh.default, torch.ops.aten.expm1.default


@pytest.mark.parametrize(
    ("func", "dtype", "left"),
    [
        (torch.tanh, torch.float32, set()),
        (torch.tanh, torch.float64, {TANH}),
        (torch.expm1, torch.float32, set()),
        (torch.expm1, torch.float64, set()),
    ],
)
def test_what_is_rewritten_is_as_exact(
    func: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype, left: set[object]
) -> None:
    small = torch.logspace(-34, 1, 5001, dtype=dtype)
    x = torch.cat([torch.linspace(-25, 25, 20001, dtype=dtype), small, -small, torch.tensor([INF, -INF, 1e38])])
    traced = make_fx(func, tracing_mode="fake")(x)
    rewrite(traced.graph)
    traced.recompile()
    assert {node.target for node in traced.graph.nodes} & {TANH, EXPM1} == left
    torch.testing.assert_close(traced(x), func(x), rtol=5 * torch.finfo(dtype).eps, atol=0)
    special = traced(torch.tensor([0.0, -0.0, float("nan")], dtype=dtype))
    assert special[0] == special[1] == 0
    assert special[:2].signbit().tolist() == [False, True]
    assert special[2].isnan()
    for node in traced.graph.nodes:
        if node.op == "call_function":
            assert node.meta["val"].dtype in {dtype, torch.bool}
