"""tanh in graphs that are to be compiled: the same to some units in the last place, also where it is special."""

from __future__ import annotations

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from minisplit.vmap.functorch.rewrite import rewrite

pytestmark = pytest.mark.serial
INF = float("inf")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tanh_is_products_and_sums_where_these_are_as_exact(dtype: torch.dtype) -> None:
    small = torch.logspace(-34, 1, 5001, dtype=dtype)
    x = torch.cat([torch.linspace(-25, 25, 20001, dtype=dtype), small, -small, torch.tensor([INF, -INF, 1e38])])
    traced = make_fx(torch.tanh, tracing_mode="fake")(x)
    rewrite(traced.graph)
    traced.recompile()
    is_left = any(node.target is torch.ops.aten.tanh.default for node in traced.graph.nodes)
    assert is_left == (dtype == torch.float64)
    torch.testing.assert_close(traced(x), torch.tanh(x), rtol=4 * torch.finfo(dtype).eps, atol=0)
    special = traced(torch.tensor([0.0, -0.0, float("nan")], dtype=dtype))
    assert special[0] == special[1] == 0
    assert special[:2].signbit().tolist() == [False, True]
    assert special[2].isnan()
