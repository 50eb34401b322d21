"""What is rewritten in the graphs of compiled maps before they become C++ code: tanh, which is slow in it."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

# Changes with what `rewrite` does: code that is kept on disk is of one version.
VERSION = "minisplit 1"
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
_DTYPES = {torch.float32, torch.float16, torch.bfloat16}
_aten = torch.ops.aten


def rewrite(graph: fx.Graph) -> None:
    """Put products and sums, which are fused with what is around them, in the place of each tanh on a CPU.

    torch's compiler calls a function of Sleef, which takes 10 times as long as that of MKL in uncompiled code.
    """
    for node in list(graph.nodes):
        kind = node.meta.get("val")
        if (
            node.target is _aten.tanh.default
            and isinstance(kind, torch.Tensor)
            and (kind.device.type == "cpu" and kind.dtype in _DTYPES)
        ):
            with graph.inserting_before(node):
                node.replace_all_uses_with(_tanh(graph, node))
            graph.erase_node(node)


def _tanh(graph: fx.Graph, node: fx.Node) -> fx.Node:
    def call(operation: Any, *args: Any) -> fx.Node:
        made = graph.call_function(operation, args)
        made.meta = dict(node.meta)  # of the same shape and dtype
        return made

    def polynomial(x: fx.Node, coefficients: tuple[float, ...]) -> fx.Node:
        value: fx.Node | float = coefficients[0]
        for coefficient in coefficients[1:]:
            value = call(_aten.add.Tensor, call(_aten.mul.Tensor, x, value), coefficient)
        assert isinstance(value, fx.Node)
        return value

    x = call(_aten.clamp_max.default, call(_aten.clamp_min.default, node.args[0], -_LIMIT), _LIMIT)
    square = call(_aten.mul.Tensor, x, x)
    above = call(_aten.mul.Tensor, x, polynomial(square, _P))
    return call(_aten.div.Tensor, above, polynomial(square, _Q))
