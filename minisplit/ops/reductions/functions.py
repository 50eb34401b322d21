"""Reductions: a row per function. Names are those of the Python Array API standard, and NumPy's beside them."""

from __future__ import annotations

import torch

from minisplit.core.collectives import all_reduce
from minisplit.ops.reductions.extremes import extreme
from minisplit.ops.reductions.moments import variance
from minisplit.ops.reductions.reduce import (
    Dims,
    accumulation,
    intersection,
    product,
    reduction,
    union,
)


def _prod(shard: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
    # torch's takes one axis.
    for dim in sorted(dims, reverse=True):
        shard = torch.prod(shard, dim, keepdim)
    return shard


def _any(shard: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
    return torch.any(shard != 0, dims, keepdim)


def _all(shard: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
    return torch.all(shard != 0, dims, keepdim)


def _count_nonzero(shard: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
    return torch.sum(shard != 0, dims, keepdim)


def _nansum(shard: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
    return torch.sum(torch.where(shard.isnan(), 0, shard), dims, keepdim)


def _nanprod(shard: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
    return _prod(torch.where(shard.isnan(), 1, shard), dims, keepdim)


all = reduction(_all, intersection, "all", "Whether all elements are other than zero", True)
any = reduction(_any, union, "any", "Whether an element is other than zero", True)
count_nonzero = reduction(_count_nonzero, all_reduce, "count_nonzero", "How many elements are other than zero", 6)
max = extreme("max", "The greatest element", 1.0)
mean = accumulation(torch.sum, all_reduce, "mean", "The mean", 1.0, is_mean=True)
min = extreme("min", "The least element", 1.0)
nanprod = accumulation(_nanprod, product, "nanprod", "The product of what is not NaN", 1.0)
nansum = accumulation(_nansum, all_reduce, "nansum", "The sum of what is not NaN", 6.0)
prod = accumulation(_prod, product, "prod", "The product", 1.0)
std = variance("std", "The standard deviation", 0.0, is_root=True)
sum = accumulation(torch.sum, all_reduce, "sum", "The sum", 6.0)
var = variance("var", "The variance", 0.0)
