"""`minisplit.vmap` of tensors inside of a function that it maps: that is `torch.vmap`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from minisplit.core.array import DNDarray
from minisplit.core.pytorch.pytree import pytree
from minisplit.core.storage import StoredArray
from minisplit.vmap.options import Options

_REDUCTIONS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "sum": torch.sum,
    "mean": torch.mean,
    "max": torch.amax,
    "min": torch.amin,
}


def has_no_array(args: tuple[Any, ...]) -> bool:
    """Whether there is no array of minisplit among these arguments."""
    return not any(isinstance(x, DNDarray | StoredArray) for x in pytree.tree_leaves(args))


def map_tensors(func: Callable[..., Any], options: Options, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Map a function over tensors by `torch.vmap`, with what it has of the options."""
    if options.out is not None or options.loop:
        name = "loop" if options.loop else "out"
        raise ValueError(
            f"{name}= is not for tensors: inside of a mapped function it is torch.vmap, which has none: "
            "loop over the samples in Python, and return what is to be kept"
        )
    mapped = torch.vmap(
        func,
        0 if isinstance(options.in_dims, str) else options.in_dims,
        pytree.tree_map(lambda dim: 0 if isinstance(dim, str) else dim, options.out_dims),
        options.randomness,
        chunk_size=options.chunk_size if isinstance(options.chunk_size, int) else None,
    )
    leaves, spec = pytree.tree_flatten(mapped(*args, **kwargs))
    # torch.vmap has found that they fit.
    dims = pytree._broadcast_to_and_flatten(options.out_dims, spec) or []
    reduced = [_REDUCTIONS[dim](x, 0) if isinstance(dim, str) else x for x, dim in zip(leaves, dims, strict=True)]
    return pytree.tree_unflatten(reduced, spec)
