"""What is rewritten in the graphs of compiled maps before they become C++ code: functions that it is bad at."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

# Changes with what `rewrite` does: code that is kept on disk is of one version.
VERSION = "minisplit 2"
# A rational function, x p(x^2) / q(x^2), that is tanh to three units in float32's last place. Beyond the limit
# tanh is 1. The coefficients, highest power first, are those of Eigen and of XLA.
_LIMIT = 7.90531110763549805
_P = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
_Q = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
# Half-precision numbers are computed in float32.
_FLOAT32 = {torch.float32, torch.float16, torch.bfloat16}
_aten = torch.ops.aten


def rewrite(graph: fx.Graph) -> None:
    """Put other operations, which are fused with those around them, in the place of two functions on CPUs.

    For tanh torch's compiler calls a function of Sleef, which takes 10 times as long as that of MKL in uncompiled
    code. For expm1 it computes exp(x) - 1, which has no right digit where x is small.
    """
    for node in list(graph.nodes):
        kind = node.meta.get("val")
        if not (isinstance(kind, torch.Tensor) and kind.device.type == "cpu"):
            continue
        if node.target is _aten.tanh.default and kind.dtype in _FLOAT32:
            made = _tanh
        elif node.target is _aten.expm1.default and kind.dtype in {*_FLOAT32, torch.float64}:
            made = _expm1
        else:
            continue
        with graph.inserting_before(node):
            node.replace_all_uses_with(made(graph, node))
        graph.erase_node(node)


def _call(graph: fx.Graph, node: fx.Node, operation: Any, *args: Any, dtype: torch.dtype | None = None) -> fx.Node:
    """An operation whose result has the shape of `node`, and its dtype unless another one is given."""
    made = graph.call_function(operation, args)
    made.meta = dict(node.meta)
    if dtype is not None:
        made.meta["val"] = node.meta["val"].to(dtype)
    return made


def _tanh(graph: fx.Graph, node: fx.Node) -> fx.Node:
    def call(operation: Any, *args: Any) -> fx.Node:
        return _call(graph, node, operation, *args)

    def polynomial(x: fx.Node, coefficients: tuple[float, ...]) -> fx.Node:
        value = call(_aten.add.Tensor, call(_aten.mul.Tensor, x, coefficients[0]), coefficients[1])
        for coefficient in coefficients[2:]:
            value = call(_aten.add.Tensor, call(_aten.mul.Tensor, x, value), coefficient)
        return value

    x = call(_aten.clamp_max.default, call(_aten.clamp_min.default, node.args[0], -_LIMIT), _LIMIT)
    square = call(_aten.mul.Tensor, x, x)
    above = call(_aten.mul.Tensor, x, polynomial(square, _P))
    return call(_aten.div.Tensor, above, polynomial(square, _Q))


def _expm1(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """By Kahan's formula: what exp(x) was rounded to is the exponential of its logarithm, which is near x."""

    def call(operation: Any, *args: Any, dtype: torch.dtype | None = None) -> fx.Node:
        return _call(graph, node, operation, *args, dtype=dtype)

    x = node.args[0]
    exp = call(_aten.exp.default, x)
    less = call(_aten.sub.Tensor, exp, 1.0)
    near = call(_aten.div.Tensor, call(_aten.mul.Tensor, less, x), call(_aten.log.default, exp))
    is_one = call(_aten.eq.Scalar, exp, 1.0, dtype=torch.bool)
    is_far = call(_aten.gt.Scalar, call(_aten.abs.default, x), 1.0, dtype=torch.bool)
    return call(_aten.where.self, is_far, less, call(_aten.where.self, is_one, x, near))
