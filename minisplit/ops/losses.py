"""Losses of `torch.nn.functional` that compare two arrays element by element, for DNDarrays.

They are called under torch's names, as `torch.nn.functional.mse_loss(x, y)`, and with torch's arguments.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.error_text import short_repr
from minisplit.ops.elementwise.apply import MayFail, apply_elementwise

Loss = Callable[..., torch.Tensor]
# Tensors, of which some are of one class and not of one element; and what torch had before `reduction`.
_NOT_TAKEN = ("weight", "pos_weight", "size_average", "reduce")


def _loss(function: Loss, may_fail: MayFail | None, /, *args: Any, **kwargs: Any) -> DNDarray:
    """Do what a loss of torch means for two arrays. Collective but for one layout and reduction "none"."""
    name = function.__name__
    arguments = inspect.signature(function).bind(*args, **kwargs).arguments
    for unknown in _NOT_TAKEN:
        if arguments.pop(unknown, None) is not None:
            raise TypeError(
                f"{name} of DNDarrays takes no {unknown}: reduction='none' gives the loss of each element, which "
                "can be weighted, and then reduced by mean() or sum()"
            )
    x, target = as_dndarray(arguments.pop("input"), "input"), as_dndarray(arguments.pop("target"), "target")
    # torch broadcasts some of them, with a warning, since it is most often a mistake.
    if x.shape != target.shape:
        raise ValueError(
            f"input and target of {name} must have one shape, got {x.shape} and {target.shape}; "
            "minisplit.broadcast_to makes it one"
        )
    reduction = arguments.pop("reduction", "mean")
    if reduction not in {"none", "mean", "sum"} and not (reduction == "batchmean" and name == "kl_div"):
        raise ValueError(f"reduction of {name} must be 'none', 'mean' or 'sum', got {short_repr(reduction)}")
    each = apply_elementwise(
        partial(function, **arguments, reduction="none"), (x, target), name, may_fail=may_fail
    )
    if reduction == "batchmean":
        return each.sum() / x.shape[0]
    return each if reduction == "none" else each.mean() if reduction == "mean" else each.sum()


def _is_checked(x: Any, target: Any) -> bool:
    """Whether torch looks at the values, which it may refuse on one rank alone."""
    return True


LOSSES: dict[Callable[..., Any], Callable[..., DNDarray]] = {
    function: partial(_loss, function, _is_checked if function is functional.binary_cross_entropy else None)
    for function in (
        functional.mse_loss,
        functional.l1_loss,
        functional.smooth_l1_loss,
        functional.huber_loss,
        functional.binary_cross_entropy,
        functional.binary_cross_entropy_with_logits,
        functional.kl_div,
        functional.poisson_nll_loss,
        functional.soft_margin_loss,
        functional.hinge_embedding_loss,
    )
}
