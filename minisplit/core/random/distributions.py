"""Random arrays that are the same for every number of ranks, split and counts: `minisplit.random`.

Every value is a function of the seed, the stream, the number of the call and its own place in the global array,
so each rank makes its shard by itself. See docs/random.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.communication.protocol import Communication, sanitize_comm
from minisplit.core.devices import Device, sanitize_device
from minisplit.core.dtypes import sanitize_dtype
from minisplit.core.layout import Layout, as_index, normalise_shape
from minisplit.core.performance_warning import requested_move
from minisplit.core.random import sampling
from minisplit.core.random.generator import Generator, sanitize_generator
from minisplit.core.random.philox import Key
from minisplit.core.random.sampling import IndexGrid

Shape = int | Sequence[int]
# From a field to its numbers, in the dtype and on the device of the array.
Draw = Callable[[IndexGrid, torch.dtype, torch.device], torch.Tensor]


def rand(
    *shape: Any,
    split: int | None = None,
    dtype: torch.dtype | None = None,
    device: Device = None,
    comm: Communication | None = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw numbers from 0 to below 1, all multiples of 2^-24 (float32) or 2^-53 (float64) as likely. Local.

    TypeError for a dtype of integers.

    >>> import minisplit as ms
    >>> with ms.random.fork(seed=1):
    ...     x, y = ms.random.rand(2, 3, split=0), ms.random.rand(2, 3, split=1)
    >>> x.tolist() == y.tolist()  # two calls
    False
    >>> with ms.random.fork(seed=1):
    ...     z = ms.random.rand(2, 3, split=1)
    >>> x.tolist() == z.tolist()
    True
    """
    return _made(sampling.uniform, _given(shape), _real(dtype), split, device, comm, generator)


def randn(
    *shape: Any,
    split: int | None = None,
    dtype: torch.dtype | None = None,
    device: Device = None,
    comm: Communication | None = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw from the normal distribution of mean 0 and variance 1 (Box and Muller 1958). Local.

    Of complex dtypes real and imaginary part have a variance of 1/2 each. TypeError for a dtype of integers.

    >>> import minisplit as ms
    >>> ms.random.randn(3, 4, split=1).shape
    (3, 4)
    """
    return _made(sampling.normal, _given(shape), _real(dtype), split, device, comm, generator)


def uniform(
    low: float = 0.0,
    high: float = 1.0,
    size: Shape = (),
    *,
    split: int | None = None,
    dtype: torch.dtype | None = None,
    device: Device = None,
    comm: Communication | None = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw numbers from `low` to below `high`. Local.

    ValueError unless both are finite and `low < high`, TypeError for a dtype that is not real.

    >>> import minisplit as ms
    >>> x = ms.random.uniform(2, 3, 100, split=0).numpy()
    >>> bool(((2 <= x) & (x < 3)).all())
    True
    """
    low, high = float(low), float(high)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"uniform needs finite numbers with low < high, got {low} and {high}")

    def draw(field: IndexGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return sampling.stretched(sampling.uniform(field, dtype, device), low, high)

    return _made(draw, size, _real(dtype, parts=1), split, device, comm, generator)


def normal(
    mean: float = 0.0,
    std: float = 1.0,
    size: Shape = (),
    *,
    split: int | None = None,
    dtype: torch.dtype | None = None,
    device: Device = None,
    comm: Communication | None = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw from the normal distribution of that mean and standard deviation, two numbers. Local.

    ValueError where `std` is negative, TypeError for a dtype of integers.

    >>> import minisplit as ms
    >>> ms.random.normal(5, 0, 2, split=0).tolist()
    [5.0, 5.0]
    """
    mean, std = float(mean), float(std)
    if not std >= 0:
        raise ValueError(f"std must not be negative, got {std}")

    def draw(field: IndexGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return sampling.normal(field, dtype, device).mul_(std).add_(mean)

    return _made(draw, size, _real(dtype), split, device, comm, generator)


def exponential(
    rate: float = 1.0,
    size: Shape = (),
    *,
    split: int | None = None,
    dtype: torch.dtype | None = None,
    device: Device = None,
    comm: Communication | None = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw from the exponential distribution of mean `1 / rate`, a number; never 0. Local.

    ValueError unless `rate` is positive, TypeError for a dtype that is not real.

    >>> import minisplit as ms
    >>> bool((ms.random.exponential(2.0, 100, split=0).numpy() > 0).all())
    True
    """
    rate = float(rate)
    if not rate > 0:
        raise ValueError(f"rate must be positive, got {rate}")

    def draw(field: IndexGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return sampling.exponential(field, dtype, device).div_(rate)

    return _made(draw, size, _real(dtype, parts=1), split, device, comm, generator)


def bernoulli(
    p: float | DNDarray,
    size: Shape | None = None,
    *,
    split: int | None = None,
    dtype: torch.dtype | None = None,
    device: Device = None,
    comm: Communication | None = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw 1 with probability `p` and else 0, in torch's default dtype unless given. Local.

    `p` is a number, to 2^-32, or an array of which the result has the shape, layout and dtype; there, what is
    below 0 counts as 0 and what is above 1 as 1. ValueError for a number outside, or where `p` is an array
    and `size`, `split`, `device` or `comm` are given.

    >>> import minisplit as ms
    >>> ms.random.bernoulli(ms.array([0.0, 1.0], split=0)).tolist()
    [0.0, 1.0]
    """
    if isinstance(p, DNDarray):
        return _from(p, "p", sampling.bernoulli, (size, split, device, comm), dtype or p.dtype, generator)
    p = float(p)
    if not 0 <= p <= 1:
        raise ValueError(f"p must be from 0 to 1, got {p}")

    def draw(field: IndexGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return sampling.bernoulli(field, p, device).to(dtype)

    return _made(draw, size or (), _any(dtype), split, device, comm, generator)


def poisson(
    rate: float | DNDarray,
    size: Shape | None = None,
    *,
    split: int | None = None,
    dtype: torch.dtype | None = None,
    device: Device = None,
    comm: Communication | None = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw counts of the Poisson distribution of that mean, in torch's default dtype unless given. Local.

    `rate` is a number, or an array of which the result has the shape, layout and dtype; there, what is no positive
    number gives 0. ValueError for a number that is negative or not finite, or where `rate` is an array and `size`,
    `split`, `device` or `comm` are given.

    >>> import minisplit as ms
    >>> ms.random.poisson(0.0, 3, split=0).tolist()
    [0.0, 0.0, 0.0]
    """
    if isinstance(rate, DNDarray):
        return _from(rate, "rate", sampling.poisson, (size, split, device, comm), dtype or rate.dtype, generator)
    rate = float(rate)
    if not 0 <= rate < math.inf:
        raise ValueError(f"rate must be a finite number and not negative, got {rate}")

    def draw(field: IndexGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        rates = torch.full((field.rows, field.length), rate, dtype=torch.float64, device=device)
        return sampling.poisson(field, rates, device).to(dtype)

    return _made(draw, size or (), _any(dtype), split, device, comm, generator)


def randint(
    low: int,
    high: int | None = None,
    size: Shape = (),
    *,
    split: int | None = None,
    dtype: torch.dtype | None = None,
    device: Device = None,
    comm: Communication | None = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw integers from `low` to below `high`, or from 0 to below `low`; int64 unless given. Local.

    All are as likely, without a bias for any number of values (Lemire 2019). ValueError where there is no such
    integer, or the dtype cannot hold them.

    >>> import minisplit as ms
    >>> with ms.random.fork(seed=1):
    ...     ms.random.randint(0, 10, 8, split=0).tolist()
    [2, 3, 4, 7, 0, 2, 4, 1]
    """
    low, high = _span(low, high)
    dtype = _holding(low, high, sanitize_dtype(dtype) or torch.int64)

    def draw(field: IndexGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return sampling.integers(field, low, high, device).to(dtype)

    return _made(draw, size, dtype, split, device, comm, generator)


def rand_like(
    x: DNDarray, *, dtype: torch.dtype | None = None, split: int | None = None, generator: Generator | None = None
) -> DNDarray:
    """Draw as `rand`, with the shape, dtype, layout, device and communicator of `x`. Local.

    >>> import minisplit as ms
    >>> ms.random.rand_like(ms.zeros((2, 3), split=1)).split
    1
    """
    return _like(sampling.uniform, x, _real(dtype or as_dndarray(x).dtype), split, generator)


def randn_like(
    x: DNDarray, *, dtype: torch.dtype | None = None, split: int | None = None, generator: Generator | None = None
) -> DNDarray:
    """Draw as `randn`, with the shape, dtype, layout, device and communicator of `x`. Local.

    >>> import minisplit as ms
    >>> ms.random.randn_like(ms.zeros((2, 3), split=1)).shape
    (2, 3)
    """
    return _like(sampling.normal, x, _real(dtype or as_dndarray(x).dtype), split, generator)


def randint_like(
    x: DNDarray,
    low: int,
    high: int | None = None,
    *,
    dtype: torch.dtype | None = None,
    split: int | None = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw as `randint`, with the shape, dtype, layout, device and communicator of `x`. Local.

    >>> import minisplit as ms
    >>> ms.random.randint_like(ms.arange(4, split=0), 1).tolist()
    [0, 0, 0, 0]
    """
    low, high = _span(low, high)
    dtype = _holding(low, high, sanitize_dtype(dtype) or as_dndarray(x).dtype)

    def draw(field: IndexGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return sampling.integers(field, low, high, device).to(dtype)

    return _like(draw, x, dtype, split, generator)


def randperm(
    n: int,
    *,
    split: int | None = None,
    dtype: torch.dtype | None = None,
    device: Device = None,
    comm: Communication | None = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw an order of the integers from 0 to below `n`, all orders as likely; int64 unless given. Local.

    Every rank sorts `n` random keys, and keeps its part. ValueError where the dtype cannot hold them.

    >>> import minisplit as ms
    >>> sorted(ms.random.randperm(5, split=0).tolist())
    [0, 1, 2, 3, 4]
    """
    n = _extent(n, "n")
    dtype = _holding(0, max(n, 1), sanitize_dtype(dtype) or torch.int64)
    comm = sanitize_comm(comm)
    layout = Layout((n,), split, comm.size)
    order = _order(n, sanitize_generator(generator).next_key(comm), sanitize_device(device))
    return _part(order.to(dtype), layout, comm)


def permutation(x: int | DNDarray, *, split: int | None = None, generator: Generator | None = None) -> DNDarray:
    """Draw an order of the rows (axis 0) of `x`, or of the integers below it.

    Local for an int, else collective: the rows come in a new order, in the layout of `x`. TypeError for
    another thing, ValueError where `x` has no axis, or is an array and `split` is given.

    >>> import minisplit as ms
    >>> sorted(ms.random.permutation(ms.arange(2, 6, split=0)).tolist())
    [2, 3, 4, 5]
    """
    if not isinstance(x, DNDarray):
        return randperm(x, split=split, generator=generator)
    if x.ndim == 0 or split is not None:
        given = "a 0-d array" if x.ndim == 0 else f"split={split}"
        raise ValueError(f"permutation needs an array with an axis, whose split it keeps, got {given}")
    key = sanitize_generator(generator).next_key(x.comm)
    order = _order(x.shape[0], key, x.device)
    along = Layout((x.shape[0],), 0, x.comm.size, x.counts) if x.split == 0 else None
    with requested_move():
        moved: DNDarray = x[_part(order, along or Layout((x.shape[0],), None, x.comm.size), x.comm)]
    return moved.to_layout(x.layout)


def choice(
    a: int | DNDarray,
    size: Shape = (),
    replace: bool = True,
    p: Any = None,
    *,
    split: int | None = None,
    comm: Communication | None = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw rows (axis 0) of `a`, or integers below it, each of them at most once unless `replace`.

    `p`, as many numbers of any sum that are the same on all ranks, makes some more likely. Local for an
    int, else collective. Every rank looks at all of `p`, and without `replace` sorts as many keys as there are
    rows.

    ValueError where there are too few to choose from, or `p` does not fit; TypeError for another `a`.

    >>> import minisplit as ms
    >>> ms.random.choice(3, 4, p=[0, 2, 0], split=0).tolist()
    [1, 1, 1, 1]
    >>> sorted(ms.random.choice(ms.arange(5, 8, split=0), 3, replace=False).tolist())
    [5, 6, 7]
    """
    if isinstance(a, DNDarray):
        if a.ndim == 0 or (comm is not None and comm is not a.comm):
            raise ValueError("choice takes an array with an axis, and stays on its communicator")
        n, comm, device = a.shape[0], a.comm, a.device
    else:
        n, comm, device = _extent(a, "a"), sanitize_comm(comm), sanitize_device(None)
    shape = normalise_shape(size)
    layout, wanted = Layout(shape, split, comm.size), math.prod(shape)
    weights = None if p is None else _weights(p, n, device)
    there = n if weights is None else int((weights > 0).sum())
    if wanted > (there if not replace else wanted if there else 0):
        how = "" if replace else ", as many as there are without replacement"
        raise ValueError(f"size must be at most {there}{how}, got {wanted}")
    key = sanitize_generator(generator).next_key(comm)
    if replace:
        field = sampling.field_of(layout, comm.rank, key)
        if weights is None:
            mine = sampling.integers(field, 0, max(n, 1), device)
        else:
            drawn = sampling.uniform(field, torch.float64, device)
            mine = torch.searchsorted(sampling.cumulated(weights), drawn, right=True)
        index = DNDarray(mine.view(layout.lshape(comm.rank)), layout, comm)
    else:
        index = _part(_order(n, key, device, weights)[:wanted].view(shape), layout, comm)
    with requested_move():
        return a[index] if isinstance(a, DNDarray) else index


def _given(shape: tuple[Any, ...]) -> Shape:
    """A shape, given as ints or as one sequence."""
    return shape[0] if len(shape) == 1 else shape


def _any(dtype: torch.dtype | None) -> torch.dtype:
    return sanitize_dtype(dtype) or torch.get_default_dtype()


def _real(dtype: torch.dtype | None, parts: int = 2) -> torch.dtype:
    """The dtype, or the default; TypeError unless it is real, or complex where it may have two parts."""
    chosen = _any(dtype)
    sampling.check_real(chosen.to_real() if parts == 2 and chosen.is_complex else chosen)
    return chosen


def _extent(n: Any, name: str) -> int:
    extent = as_index(n, name)
    if extent < 0:
        raise ValueError(f"{name} must not be negative, got {extent}")
    return extent


def _span(low: Any, high: Any) -> tuple[int, int]:
    low = as_index(low, "low")
    low, high = (0, low) if high is None else (low, as_index(high, "high"))
    if not low < high:
        raise ValueError(f"low must be below high, got {low} and {high}")
    return low, high


def _holding(low: int, high: int, dtype: torch.dtype) -> torch.dtype:
    """`dtype`, or ValueError where it cannot hold the integers from `low` to below `high`."""
    if dtype is torch.bool:
        smallest, largest = 0, 1
    elif dtype.is_floating_point or dtype.is_complex:
        largest = int(2 / torch.finfo(dtype).eps)
        smallest = -largest
    else:
        smallest, largest = torch.iinfo(dtype).min, min(torch.iinfo(dtype).max, 2**63 - 1)
    if low < smallest or high - 1 > largest:
        raise ValueError(f"{dtype} cannot hold all integers from {low} to {high - 1}")
    return dtype


def _weights(p: Any, n: int, device: torch.device) -> torch.Tensor:
    if isinstance(p, DNDarray) and p.split is not None:
        raise ValueError("p must be the same on all ranks: replicate it by minisplit.resplit(p, None)")
    weights = torch.as_tensor(p.larray if isinstance(p, DNDarray) else p, dtype=torch.float64, device=device)
    if weights.shape != (n,):
        raise ValueError(f"p must be {n} numbers, one for each to choose from, got shape {tuple(weights.shape)}")
    if not bool(((weights >= 0) & weights.isfinite()).all()):
        found = f"{weights.min().item()} to {weights.max().item()}"
        raise ValueError(f"p must be finite numbers, none of them negative, got {found}")
    return weights


def _order(n: int, key: Key, device: torch.device, weights: torch.Tensor | None = None) -> torch.Tensor:
    """All numbers below `n` in random order, heavy ones earlier: as after waiting times of these rates."""
    waiting = sampling.exponential(IndexGrid(key, 1, n), torch.float64, device)[0]
    return (waiting if weights is None else waiting / weights).argsort(stable=True)


def _part(whole: torch.Tensor, layout: Layout, comm: Communication) -> DNDarray:
    """A whole that every rank has, cut; each part in memory of its own."""
    shard = whole[layout.box(comm.rank)] if whole.ndim else whole
    return DNDarray(shard.clone(memory_format=torch.contiguous_format), layout, comm)


def _made(
    draw: Draw,
    size: Shape,
    dtype: torch.dtype,
    split: int | None,
    device: Device,
    comm: Communication | None,
    generator: Generator | None,
) -> DNDarray:
    comm = sanitize_comm(comm)
    layout = Layout(size, split, comm.size)  # type: ignore[arg-type]
    return _drawn(draw, layout, dtype, sanitize_device(device), comm, generator)


def _like(draw: Draw, x: DNDarray, dtype: torch.dtype, split: int | None, generator: Generator | None) -> DNDarray:
    layout = x.layout if split is None else x.layout.with_split(split)
    return _drawn(draw, layout, dtype, x.device, x.comm, generator)


def _from(
    x: DNDarray,
    name: str,
    draw: Callable[..., torch.Tensor],
    others: tuple[object, ...],
    dtype: torch.dtype,
    generator: Generator | None,
) -> DNDarray:
    """Numbers of a distribution of which `x` has the parameters."""
    if any(other is not None for other in others):
        raise ValueError(
            f"{name} is an array, which has a size, split, device and comm: give none of them beside it"
        )

    def of(field: IndexGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return draw(field, x.larray.detach().reshape(field.rows, field.length), device).to(dtype)

    return _drawn(of, x.layout, _any(dtype), x.device, x.comm, generator)


def _drawn(
    draw: Draw,
    layout: Layout,
    dtype: torch.dtype,
    device: torch.device,
    comm: Communication,
    generator: Generator | None,
) -> DNDarray:
    key = sanitize_generator(generator).next_key(comm)
    shard = draw(sampling.field_of(layout, comm.rank, key), dtype, device)
    return DNDarray(shard.view(layout.lshape(comm.rank)), layout, comm)
