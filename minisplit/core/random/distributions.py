"""The functions of `minisplit.random`: arrays that are the same for every number of ranks, split and counts.

Every number is a function of the seed, the stream, the number of the call and its own place in the global array.
So each rank makes its shard by itself. See docs/random.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.communication.protocol import Comm, Communication, sanitize_comm
from minisplit.core.conversion import tensor_of_numbers
from minisplit.core.error_text import short_repr
from minisplit.core.factories import ArraySpec, Shape, spec_like, spec_of
from minisplit.core.layout import Layout, as_count, as_index, layout_from_counts, normalise_shape
from minisplit.core.performance_warning import requested_move
from minisplit.core.pytorch.devices import Device, sanitize_device
from minisplit.core.pytorch.dtypes import Dtype, sanitize_dtype
from minisplit.core.random import sampling
from minisplit.core.random.generator import Generator, sanitize_generator
from minisplit.core.random.grids import ArrayGrid, shard_grid
from minisplit.core.random.philox import CallKey

# So many numbers each rank sorts by itself for a random order: it takes 0.1 s and 24 MiB. More are sorted by all
# ranks together.
_SORTED_ALONE = 2**20


def rand(
    *shape: Any,
    split: int | None = None,
    dtype: Dtype = None,
    device: Device = None,
    comm: Comm = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw numbers from 0 up to, but not including, 1.

    Parameters
    ----------
    *shape : int or sequence of int
        The shape of the array: its extents, or one sequence of them. Without any it is 0-d.
    split : int, optional
        The axis that is cut over the ranks. By default None: every rank holds the whole array. It changes no
        number.
    dtype : torch.dtype, optional
        A real or complex dtype. By default torch's default dtype.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.
    generator : Generator, optional
        The generator that draws. By default the default generator, see `seed`.

    Returns
    -------
    DNDarray
        The numbers. All multiples of 2^-24 (float32) or 2^-53 (float64) are equally likely. For a complex dtype
        this holds for both parts.

    Raises
    ------
    ValueError
        If an extent is negative, or the device is unknown.
    IndexError
        If `split` is out of range.
    TypeError
        If the dtype is an integer one, or another argument has a wrong type.

    Communication
    -------------
    Local. In debug mode collective: one allgather, which compares the states of the ranks.

    Examples
    --------
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
    return draw(sampling.uniform, spec_of(_shape_of(shape), real_dtype(dtype), split, device, comm), generator)


def randn(
    *shape: Any,
    split: int | None = None,
    dtype: Dtype = None,
    device: Device = None,
    comm: Comm = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw from the normal distribution of mean 0 and variance 1.

    Parameters
    ----------
    *shape : int or sequence of int
        The shape of the array: its extents, or one sequence of them. Without any it is 0-d.
    split : int, optional
        The axis that is cut over the ranks. By default None: every rank holds the whole array. It changes no
        number.
    dtype : torch.dtype, optional
        A real or complex dtype. By default torch's default dtype.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.
    generator : Generator, optional
        The generator that draws. By default the default generator, see `seed`.

    Returns
    -------
    DNDarray
        The numbers. The real and the imaginary part of complex ones have a variance of 1/2 each.

    Raises
    ------
    ValueError
        If an extent is negative, or the device is unknown.
    IndexError
        If `split` is out of range.
    TypeError
        If the dtype is an integer one, or another argument has a wrong type.

    Communication
    -------------
    Local. In debug mode collective: one allgather, which compares the states of the ranks.

    Notes
    -----
    The method is that of Box and Muller, "A note on the generation of random normal deviates", Annals of
    Mathematical Statistics 29, 1958.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.random.randn(3, 4, split=1).shape
    (3, 4)
    """
    return draw(sampling.normal, spec_of(_shape_of(shape), real_dtype(dtype), split, device, comm), generator)


def uniform(
    low: float = 0.0,
    high: float = 1.0,
    size: Shape = (),
    *,
    split: int | None = None,
    dtype: Dtype = None,
    device: Device = None,
    comm: Comm = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw numbers from `low` up to, but not including, `high`.

    Parameters
    ----------
    low : float, default 0.0
        The least number.
    high : float, default 1.0
        The end. It is not drawn.
    size : int or sequence of int, default ()
        The shape of the array. By default it is 0-d.
    split : int, optional
        The axis that is cut over the ranks. By default None: every rank holds the whole array. It changes no
        number.
    dtype : torch.dtype, optional
        A real dtype. By default torch's default dtype.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.
    generator : Generator, optional
        The generator that draws. By default the default generator, see `seed`.

    Returns
    -------
    DNDarray
        The numbers.

    Raises
    ------
    ValueError
        If an end is not finite, `low` is not below `high`, an extent is negative, or the device is unknown.
    IndexError
        If `split` is out of range.
    TypeError
        If the dtype is not real, or another argument is of another type.

    Communication
    -------------
    Local. In debug mode collective: one allgather, which compares the states of the ranks.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.random.uniform(2, 3, 100, split=0).numpy()
    >>> bool(((2 <= x) & (x < 3)).all())
    True
    """
    low, high = real_number(low, "low"), real_number(high, "high")
    # Of infinite ends the width would be infinite, and 0 times that is no number.
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"uniform needs finite numbers with low < high, got {low} and {high}")
    spec = spec_of(size, real_dtype(dtype, parts=1), split, device, comm)
    return draw(lambda *where: sampling.scale(sampling.uniform(*where), low, high), spec, generator)


def normal(
    mean: DNDarray | float = 0.0,
    std: DNDarray | float = 1.0,
    size: Shape | None = None,
    *,
    split: int | None = None,
    dtype: Dtype = None,
    device: Device = None,
    comm: Comm = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw from the normal distribution of a mean and a standard deviation.

    Parameters
    ----------
    mean : DNDarray or float, default 0.0
        The mean, or a mean for each number, which broadcast.
    std : DNDarray or float, default 1.0
        The standard deviation, or one for each number.
    size : int or sequence of int, optional
        The shape of the array. By default the shape to which the mean and the standard deviation broadcast: 0-d
        for numbers.
    split : int, optional
        The axis that is cut over the ranks. By default that of the means or standard deviations, if they have the
        shape of the array, else None: every rank holds the whole array. It changes no number.
    dtype : torch.dtype, optional
        A real or complex dtype. By default torch's default dtype.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.
    generator : Generator, optional
        The generator that draws. By default the default generator, see `seed`.

    Returns
    -------
    DNDarray
        The numbers.

    Raises
    ------
    ValueError
        If `std` or an extent is negative, the shapes do not broadcast, or the device is unknown.
    IndexError
        If `split` is out of range.
    TypeError
        If the dtype is an integer one, or another argument has a wrong type.

    Communication
    -------------
    Local. In debug mode collective: one allgather, which compares the states of the ranks. If `mean` or `std` is a
    split array, collective too: one allreduce, and an exchange if their layouts differ.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.random.normal(5, 0, 2, split=0).tolist()
    [5.0, 5.0]
    """
    arrays = [x for x in (mean, std) if isinstance(x, DNDarray)]
    if arrays:
        size = np.broadcast_shapes(*[x.shape for x in arrays]) if size is None else size
        return _normal_of_arrays(mean, std, size, split, dtype, device, comm or arrays[0].comm, generator)
    size = () if size is None else size
    mean, std = real_number(mean, "mean"), real_number(std, "std")
    # Not `std < 0`, which NaN would pass.
    if not std >= 0:
        raise ValueError(f"std must not be negative, got {std}")
    spec = spec_of(size, real_dtype(dtype), split, device, comm)
    return draw(lambda *where: sampling.normal(*where).mul_(std).add_(mean), spec, generator)


def exponential(
    scale: float = 1.0,
    size: Shape = (),
    *,
    split: int | None = None,
    dtype: Dtype = None,
    device: Device = None,
    comm: Comm = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw from the exponential distribution.

    Parameters
    ----------
    scale : float, default 1.0
        The mean, as in NumPy. torch's functions take a rate, which is `1 / scale`.
    size : int or sequence of int, default ()
        The shape of the array. By default it is 0-d.
    split : int, optional
        The axis that is cut over the ranks. By default None: every rank holds the whole array. It changes no
        number.
    dtype : torch.dtype, optional
        A real dtype. By default torch's default dtype.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.
    generator : Generator, optional
        The generator that draws. By default the default generator, see `seed`.

    Returns
    -------
    DNDarray
        The numbers. None of them is 0.

    Raises
    ------
    ValueError
        If `scale` is not positive, an extent is negative, or the device is unknown.
    IndexError
        If `split` is out of range.
    TypeError
        If the dtype is not real, or another argument is of another type.

    Communication
    -------------
    Local. In debug mode collective: one allgather, which compares the states of the ranks.

    Examples
    --------
    >>> import minisplit as ms
    >>> bool((ms.random.exponential(2.0, 100, split=0).numpy() > 0).all())
    True
    """
    scale = real_number(scale, "scale")
    if not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}")
    spec = spec_of(size, real_dtype(dtype, parts=1), split, device, comm)
    return draw(lambda *where: sampling.exponential(*where).mul_(scale), spec, generator)


def bernoulli(
    p: float | DNDarray,
    size: Shape | None = None,
    *,
    split: int | None = None,
    dtype: Dtype = None,
    device: Device = None,
    comm: Comm = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw 1 with a given probability, and 0 otherwise.

    Parameters
    ----------
    p : float or DNDarray
        The probability, from 0 to 1, rounded to 32 bits. An array has a probability for each element; a value
        below 0 counts as 0, and a value above 1 counts as 1.
    size : int or sequence of int, optional
        The shape of the array where `p` is a number. By default it is 0-d.
    split : int, optional
        The axis that is cut over the ranks. By default None: every rank holds the whole array.
        It must not be given with an array as `p`.
    dtype : torch.dtype, optional
        Any dtype. By default that of an array, else torch's default dtype.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.
    generator : Generator, optional
        The generator that draws. By default the default generator, see `seed`.

    Returns
    -------
    DNDarray
        Zeros and ones. With an array as `p` it has the shape and the layout of `p`.

    Raises
    ------
    ValueError
        If the number is not from 0 to 1, or `p` is an array and `size`, `split`, `device` or `comm` is given.
    IndexError
        If `split` is out of range.
    TypeError
        If an argument is of another type.

    Communication
    -------------
    Local. In debug mode collective: one allgather, which compares the states of the ranks.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.random.bernoulli(ms.array([0.0, 1.0], split=0)).tolist()
    [0.0, 1.0]
    """
    if isinstance(p, DNDarray):
        # The elements are not checked: a rank that fails alone would leave the others waiting in a later call.
        return draw_like(p, "p", sampling.bernoulli, (size, split, device, comm), dtype, generator)
    p = real_number(p, "p")
    if not 0 <= p <= 1:
        raise ValueError(f"p must be from 0 to 1, got {p}")
    spec = spec_of(() if size is None else size, dtype, split, device, comm)
    return draw(lambda grid, dtype, device: sampling.bernoulli(grid, p, device).to(dtype), spec, generator)


def poisson(
    rate: float | DNDarray,
    size: Shape | None = None,
    *,
    split: int | None = None,
    dtype: Dtype = None,
    device: Device = None,
    comm: Comm = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw counts of the Poisson distribution.

    Parameters
    ----------
    rate : float or DNDarray
        The mean. An array has a mean for each element; if it is not a positive number, the count is 0.
    size : int or sequence of int, optional
        The shape of the array where `rate` is a number. By default it is 0-d.
    split : int, optional
        The axis that is cut over the ranks. By default None: every rank holds the whole array.
        It must not be given with an array as `rate`.
    dtype : torch.dtype, optional
        Any dtype. By default that of an array, else torch's default dtype.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.
    generator : Generator, optional
        The generator that draws. By default the default generator, see `seed`.

    Returns
    -------
    DNDarray
        The counts. With an array as `rate` it has the shape and the layout of `rate`.

    Raises
    ------
    ValueError
        If the number is negative or not finite, or `rate` is an array and `size`, `split`, `device` or `comm` is
        given.
    IndexError
        If `split` is out of range.
    TypeError
        If an argument is of another type.

    Communication
    -------------
    Local. In debug mode collective: one allgather, which compares the states of the ranks.

    Notes
    -----
    Rates from 10 on use rejection: Hörmann, "The transformed rejection method for generating Poisson random
    variables", Insurance: Mathematics and Economics 12, 1993.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.random.poisson(0.0, 3, split=0).tolist()
    [0.0, 0.0, 0.0]
    """
    if isinstance(rate, DNDarray):
        return draw_like(rate, "rate", sampling.poisson, (size, split, device, comm), dtype, generator)
    rate = real_number(rate, "rate")
    if not 0 <= rate < math.inf:
        raise ValueError(f"rate must be a finite number and not negative, got {rate}")

    def sample(grid: ArrayGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        rates = torch.full((grid.rows, grid.length), rate, dtype=torch.float64, device=device)
        return sampling.poisson(grid, rates, device).to(dtype)

    return draw(sample, spec_of(() if size is None else size, dtype, split, device, comm), generator)


def randint(
    low: int,
    high: int | None = None,
    size: Shape = (),
    *,
    split: int | None = None,
    dtype: Dtype = None,
    device: Device = None,
    comm: Comm = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw integers from `low` up to, but not including, `high`.

    Parameters
    ----------
    low : int
        The least integer. If `high` is not given, the integers go from 0 to below `low`.
    high : int, optional
        The end. It is not drawn.
    size : int or sequence of int, default ()
        The shape of the array. By default it is 0-d.
    split : int, optional
        The axis that is cut over the ranks. By default None: every rank holds the whole array. It changes no
        number.
    dtype : torch.dtype, optional
        A dtype that holds all these integers. By default int64.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.
    generator : Generator, optional
        The generator that draws. By default the default generator, see `seed`.

    Returns
    -------
    DNDarray
        The integers. All are equally likely, for any number of values.

    Raises
    ------
    ValueError
        If there is no such integer, the dtype does not hold them, an extent is negative, or the device is unknown.
    IndexError
        If `split` is out of range.
    TypeError
        If an argument is of another type.

    Communication
    -------------
    Local. In debug mode collective: one allgather, which compares the states of the ranks.

    Notes
    -----
    The method is that of Lemire, "Fast random integer generation in an interval", ACM TOMACS 29, 2019.

    Examples
    --------
    >>> import minisplit as ms
    >>> with ms.random.fork(seed=1):
    ...     ms.random.randint(0, 10, 8, split=0).tolist()
    [4, 3, 7, 8, 4, 1, 4, 0]
    """
    low, high = _read_range(low, high)
    dtype = _check_holds(low, high, sanitize_dtype(dtype) or torch.int64)
    spec = spec_of(size, dtype, split, device, comm)
    return draw(lambda grid, dtype, device: sampling.integers(grid, low, high, device).to(dtype), spec, generator)


def rand_like(
    x: DNDarray, *, dtype: Dtype = None, split: int | None = None, generator: Generator | None = None
) -> DNDarray:
    """Draw numbers from 0 up to, but not including, 1, in the shape and layout of an array.

    Parameters
    ----------
    x : DNDarray
        The array that gives the result its shape, layout, device and communicator. Its elements are not used.
    dtype : torch.dtype, optional
        A real or complex dtype. By default that of `x`.
    split : int, optional
        Another axis to cut over the ranks, with the default counts. By default the result has the layout of `x`.
    generator : Generator, optional
        The generator that draws. By default the default generator, see `seed`.

    Returns
    -------
    DNDarray
        The numbers, as `rand` draws them.

    Raises
    ------
    IndexError
        If `split` is out of range.
    TypeError
        If the dtype is an integer one, or another argument has a wrong type.

    Communication
    -------------
    Local. In debug mode collective: one allgather, which compares the states of the ranks.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.random.rand_like(ms.zeros((2, 3), split=1)).split
    1
    """
    dtype = real_dtype(dtype or as_dndarray(x).dtype)
    return draw(sampling.uniform, spec_like(x, dtype, split), generator)


def randn_like(
    x: DNDarray, *, dtype: Dtype = None, split: int | None = None, generator: Generator | None = None
) -> DNDarray:
    """Draw from the normal distribution of mean 0 and variance 1, in the shape and layout of an array.

    Parameters
    ----------
    x : DNDarray
        The array that gives the result its shape, layout, device and communicator. Its elements are not used.
    dtype : torch.dtype, optional
        A real or complex dtype. By default that of `x`.
    split : int, optional
        Another axis to cut over the ranks, with the default counts. By default the result has the layout of `x`.
    generator : Generator, optional
        The generator that draws. By default the default generator, see `seed`.

    Returns
    -------
    DNDarray
        The numbers, as `randn` draws them.

    Raises
    ------
    IndexError
        If `split` is out of range.
    TypeError
        If the dtype is an integer one, or another argument has a wrong type.

    Communication
    -------------
    Local. In debug mode collective: one allgather, which compares the states of the ranks.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.random.randn_like(ms.zeros((2, 3), split=1)).shape
    (2, 3)
    """
    dtype = real_dtype(dtype or as_dndarray(x).dtype)
    return draw(sampling.normal, spec_like(x, dtype, split), generator)


def randint_like(
    x: DNDarray,
    low: int,
    high: int | None = None,
    *,
    dtype: Dtype = None,
    split: int | None = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw integers from `low` up to, but not including, `high`, in the shape and layout of an array.

    Parameters
    ----------
    x : DNDarray
        The array that gives the result its shape, layout, device and communicator. Its elements are not used.
    low : int
        The least integer. If `high` is not given, the integers go from 0 to below `low`.
    high : int, optional
        The end. It is not drawn.
    dtype : torch.dtype, optional
        A dtype that holds all these integers. By default that of `x`.
    split : int, optional
        Another axis to cut over the ranks, with the default counts. By default the result has the layout of `x`.
    generator : Generator, optional
        The generator that draws. By default the default generator, see `seed`.

    Returns
    -------
    DNDarray
        The integers, as `randint` draws them.

    Raises
    ------
    ValueError
        If there is no such integer, or the dtype does not hold them.
    IndexError
        If `split` is out of range.
    TypeError
        If an argument is of another type.

    Communication
    -------------
    Local. In debug mode collective: one allgather, which compares the states of the ranks.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.random.randint_like(ms.arange(4, split=0), 1).tolist()
    [0, 0, 0, 0]
    """
    low, high = _read_range(low, high)
    dtype = _check_holds(low, high, sanitize_dtype(dtype) or as_dndarray(x).dtype)
    spec = spec_like(x, dtype, split)
    return draw(lambda grid, dtype, device: sampling.integers(grid, low, high, device).to(dtype), spec, generator)


def randperm(
    n: int,
    *,
    split: int | None = None,
    dtype: Dtype = None,
    device: Device = None,
    comm: Comm = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw a random order of the integers from 0 to below `n`.

    Parameters
    ----------
    n : int
        The number of integers.
    split : int, optional
        The axis that is cut over the ranks. By default None: every rank holds the whole array. It changes no
        number.
    dtype : torch.dtype, optional
        A dtype that holds all these integers. By default int64.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.
    generator : Generator, optional
        The generator that draws. By default the default generator, see `seed`.

    Returns
    -------
    DNDarray
        The integers in one dimension. All orders are as likely.

    Raises
    ------
    ValueError
        If `n` is negative, the dtype does not hold the integers, or the device is unknown.
    IndexError
        If `split` is out of range.
    TypeError
        If an argument is of another type.

    Communication
    -------------
    Local for up to 2**20 integers, and without `split`. Otherwise collective: the messages of `minisplit.argsort`.
    In debug mode there is one more allgather, which compares the states of the ranks.

    Notes
    -----
    The order is that of `n` random numbers. Where it is local every rank sorts all of them, and keeps its part.

    Examples
    --------
    >>> import minisplit as ms
    >>> sorted(ms.random.randperm(5, split=0).tolist())
    [0, 1, 2, 3, 4]
    """
    n = as_count(n, "n")
    dtype = _check_holds(0, max(n, 1), sanitize_dtype(dtype) or torch.int64)
    spec = spec_of(n, dtype, split, device, comm)
    order = _draw_order(spec.layout, sanitize_generator(generator).next_key(spec.comm), spec.device, spec.comm)
    return DNDarray(order.larray.to(dtype), spec.layout, spec.comm)


def permutation(x: int | DNDarray, *, split: int | None = None, generator: Generator | None = None) -> DNDarray:
    """Draw a random order of the rows of an array, or of the integers below a number.

    Parameters
    ----------
    x : int or DNDarray
        The array with the rows (along axis 0), or the number of integers.
    split : int, optional
        0 to cut an order of integers over the ranks. Not with an array.
    generator : Generator, optional
        The generator that draws. By default the default generator, see `seed`.

    Returns
    -------
    DNDarray
        The rows of `x` in a new order, in the layout of `x`, or the integers from 0 to below `x`.

    Raises
    ------
    ValueError
        If `x` has no axis or is negative, or is an array and `split` is given.
    IndexError
        If `split` is out of range.
    TypeError
        If `x` is neither an int nor a DNDarray.

    Communication
    -------------
    Local for an int of up to 2**20. Collective for an array that is split along axis 0: one exchange of rows. For
    more integers or rows, also the messages of `randperm`.

    Examples
    --------
    >>> import minisplit as ms
    >>> sorted(ms.random.permutation(ms.arange(2, 6, split=0)).tolist())
    [2, 3, 4, 5]
    """
    if not isinstance(x, DNDarray):
        return randperm(x, split=split, generator=generator)
    if x.ndim == 0 or split is not None:
        given = "a 0-d array" if x.ndim == 0 else f"split={short_repr(split)}"
        raise ValueError(f"permutation needs an array with an axis, and keeps its split, got {given}")
    # An index with the counts of the rows gives a result with these counts, so that the rows move once.
    rows = layout_from_counts(x.counts) if x.counts and x.split == 0 else Layout(x.shape[:1], None, x.comm.size)
    with requested_move():
        order = _draw_order(rows, sanitize_generator(generator).next_key(x.comm), x.device, x.comm)
        return x[order].to_layout(x.layout)


def choice(
    a: int | DNDarray,
    size: Shape = (),
    replace: bool = True,
    p: Any = None,
    *,
    split: int | None = None,
    comm: Comm = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw rows of an array, or integers below a number.

    Parameters
    ----------
    a : int or DNDarray
        The array with the rows (along axis 0), or the number of integers.
    size : int or sequence of int, default ()
        How many rows or integers to draw, as a shape. By default one.
    replace : bool, default True
        Whether a row or an integer may be drawn more than once.
    p : array_like, optional
        The weights: a number for each row or integer, with any sum, the same on all ranks. By default all are
        equally likely.
    split : int, optional
        The axis of `size` that is cut over the ranks. By default None: every rank holds the whole result.
    comm : Communication, optional
        The ranks that hold the result. By default those of `a`, or the communicator in use.
    generator : Generator, optional
        The generator that draws. By default the default generator, see `seed`.

    Returns
    -------
    DNDarray
        An array with the axes of `size`, followed by the other axes of `a`.

    Raises
    ------
    ValueError
        If there are too few rows or integers to draw from, `p` does not fit, `a` has no axis, or it is on another
        communicator than `comm`.
    IndexError
        If `split` is out of range.
    TypeError
        If `a` is neither an int nor a DNDarray.

    Communication
    -------------
    Local for an int. Collective for an array that is split along axis 0: one exchange of rows. For more than 2**20
    rows or integers, without `replace` and `p`, also the messages of `topk` and `reshape`.

    Notes
    -----
    Every rank reads all of `p`. Without `replace` a random number for each row is sorted. For up to 2**20 rows, or
    with `p`, every rank sorts all of them.

    Examples
    --------
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
        n, comm, device = as_count(a, "a"), sanitize_comm(comm), sanitize_device(None)
    shape = normalise_shape(size)
    layout, count = Layout(shape, split, comm.size), math.prod(shape)
    weights = None if p is None else _read_weights(p, n, device)
    available = n if weights is None else int((weights > 0).sum())
    # With replacement there is no limit, if only there is something to draw from.
    if count > (available if not replace else count if available else 0):
        how = "" if replace else ", as many as there are without replacement"
        raise ValueError(f"size must be at most {available}{how}, got {count}")
    key = sanitize_generator(generator).next_key(comm)
    if replace:
        grid = shard_grid(layout, comm.rank, key)
        if weights is None:
            # max: where n is 0 the grid is empty, but a range of integers must not be.
            numbers = sampling.integers(grid, 0, max(n, 1), device)
        else:
            u = sampling.uniform(grid, torch.float64, device)
            # right: a number on a border belongs to the next weight. Otherwise u = 0 would draw the first integer
            # also where its weight is 0.
            numbers = torch.searchsorted(sampling.cumulative_shares(weights), u, right=True)
        index = DNDarray(numbers.view(layout.lshape(comm.rank)), layout, comm)
    else:
        index = _draw_distinct(n, count, layout, key, device, comm, weights)
    with requested_move():
        return a[index] if isinstance(a, DNDarray) else index


def _normal_of_arrays(
    mean: DNDarray | float,
    std: DNDarray | float,
    size: Shape,
    split: int | None,
    dtype: Dtype,
    device: Device,
    comm: Communication,
    generator: Generator | None,
) -> DNDarray:
    """Draw normal numbers, each of a mean and a deviation of its own. Collective where these are split."""
    is_negative = bool((std < 0).any()) if isinstance(std, DNDarray) else not real_number(std, "std") >= 0
    if is_negative:
        raise ValueError("std must not be negative, but an element is")
    shape = normalise_shape(size)
    if split is None:
        like = [x.split for x in (mean, std) if isinstance(x, DNDarray) and x.shape == shape]
        split = next((each for each in like if each is not None), None)
    spec = spec_of(shape, real_dtype(dtype), split, device, comm)
    return draw(sampling.normal, spec, generator) * std + mean


def real_number(value: Any, name: str) -> float:
    """A real number, or that in an array or tensor, as a float. TypeError for anything else."""
    if not isinstance(value, (str, bytes)):
        with suppress(TypeError, ValueError):
            return float(value)
    raise TypeError(f"{name} must be a real number, got {short_repr(value)} of type {type(value).__name__}")


def _shape_of(extents: tuple[Any, ...]) -> Shape:
    """A shape that is given as ints or as one sequence."""
    # As in torch: rand(2, 3) and rand((2, 3)) are the same, and rand(2) has one axis.
    return extents[0] if len(extents) == 1 else extents


def real_dtype(dtype: Dtype, parts: int = 2) -> torch.dtype:
    """The dtype, or torch's default. TypeError unless it is real, or complex where numbers may have two parts."""
    chosen = sanitize_dtype(dtype) or torch.get_default_dtype()
    sampling.check_real(chosen.to_real() if parts == 2 and chosen.is_complex else chosen)
    return chosen


def _read_range(low: Any, high: Any) -> tuple[int, int]:
    """The ends of a range of integers, which begins at 0 if one is given. ValueError for an empty one."""
    low = as_index(low, "low")
    low, high = (0, low) if high is None else (low, as_index(high, "high"))
    if not low < high:
        raise ValueError(f"low must be below high, got {low} and {high}")
    return low, high


def _check_holds(low: int, high: int, dtype: torch.dtype) -> torch.dtype:
    """The dtype. ValueError where it does not hold all integers from `low` to below `high`."""
    if dtype is torch.bool:
        smallest, largest = 0, 1
    elif dtype.is_floating_point or dtype.is_complex:
        # From here on the gaps between neighbours are larger than 1.
        largest = int(2 / torch.finfo(dtype).eps)
        smallest = -largest
    else:
        # The integers are drawn as int64, also for uint64.
        smallest, largest = torch.iinfo(dtype).min, min(torch.iinfo(dtype).max, 2**63 - 1)
    if low < smallest or high - 1 > largest:
        raise ValueError(f"{dtype} cannot hold all integers from {low} to {high - 1}")
    return dtype


def _read_weights(p: Any, n: int, device: torch.device) -> torch.Tensor:
    """The weights of a choice in double precision. ValueError for what does not fit."""
    if isinstance(p, DNDarray) and p.split is not None:
        raise ValueError("p must be the same on all ranks: replicate it by minisplit.resplit(p, None)")
    given = p.larray if isinstance(p, DNDarray) else p
    weights = tensor_of_numbers(given, "p", dtype=torch.float64, device=device)
    if weights.shape != (n,):
        raise ValueError(f"p must be {n} numbers, one for each to choose from, got shape {tuple(weights.shape)}")
    if not bool(((weights >= 0) & weights.isfinite()).all()):
        found = f"{weights.min().item()} to {weights.max().item()}"
        raise ValueError(f"p must be finite numbers, none of them negative, got {found}")
    return weights


def _random_order(n: int, key: CallKey, device: torch.device, weights: torch.Tensor | None = None) -> torch.Tensor:
    """All numbers below `n` in a random order.

    The order is that of waiting times, which are exponential, and whose rates are the weights. So the first number
    is each one with a probability in proportion to its weight, and so is the next among those that are left.
    """
    waiting = sampling.exponential(ArrayGrid(key, 1, n), torch.float64, device)[0]
    # A weight of 0 gives an infinite time, the last place. stable: equal times have the same order on all ranks.
    return (waiting if weights is None else waiting / weights).argsort(stable=True)


def _draw_order(layout: Layout, key: CallKey, device: torch.device, comm: Communication) -> DNDarray:
    """All numbers below the extent of a layout of one axis in a random order. It is the same in any layout."""
    if layout.split is None or not _is_sorted_together(layout.size, comm):
        return _cut(_random_order(layout.size, key, device), layout, comm)
    waiting = _waiting_times(layout, key, device, comm)
    order: DNDarray = waiting.__array_namespace__().argsort(waiting)
    return order


def _draw_distinct(
    n: int,
    count: int,
    layout: Layout,
    key: CallKey,
    device: torch.device,
    comm: Communication,
    weights: torch.Tensor | None,
) -> DNDarray:
    """The first `count` of all numbers below `n` in a random order, in this layout. The same in any layout."""
    if weights is not None or not _is_sorted_together(n, comm):
        return _cut(_random_order(n, key, device, weights)[:count].view(layout.shape), layout, comm)
    waiting = _waiting_times(Layout((n,), 0, comm.size), key, device, comm)
    with requested_move():
        first: DNDarray = waiting.__array_namespace__().topk(waiting, count, largest=False)[1]
        return first.reshape(layout.shape).to_layout(layout)


def _is_sorted_together(n: int, comm: Communication) -> bool:
    """Whether the ranks sort `n` numbers together. Of fewer each sorts all, without messages."""
    return comm.size > 1 and n > _SORTED_ALONE


def _waiting_times(layout: Layout, key: CallKey, device: torch.device, comm: Communication) -> DNDarray:
    """Exponential numbers, of which each rank draws its own."""
    grid = shard_grid(layout, comm.rank, key)
    return DNDarray(sampling.exponential(grid, torch.float64, device).view(layout.lshape(comm.rank)), layout, comm)


def _cut(whole: torch.Tensor, layout: Layout, comm: Communication) -> DNDarray:
    """The array of a tensor that every rank has whole. Each part is in memory of its own."""
    shard = whole[layout.box(comm.rank)] if whole.ndim else whole
    # clone: otherwise the memory of the whole tensor would live as long as the shard.
    return DNDarray(shard.clone(memory_format=torch.contiguous_format), layout, comm)


def draw_like(
    x: DNDarray,
    name: str,
    sample: Callable[[ArrayGrid, torch.Tensor, torch.device], torch.Tensor],
    others: tuple[object, ...],
    dtype: Dtype,
    generator: Generator | None,
) -> DNDarray:
    """Draw from distributions whose parameters are the elements of `x`, the argument `name`."""
    if any(other is not None for other in others):
        raise ValueError(f"{name} is an array, so size, split, device and comm are its own: do not give them")

    def sample_shard(grid: ArrayGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        # detach: what is drawn is no differentiable function of the parameters.
        return sample(grid, x.larray.detach().reshape(grid.rows, grid.length), device).to(dtype)

    return draw(sample_shard, spec_like(x, dtype, None), generator)


def draw(
    sample: Callable[[ArrayGrid, torch.dtype, torch.device], torch.Tensor],
    spec: ArraySpec,
    generator: Generator | None,
) -> DNDarray:
    """Draw the numbers of one call. Nothing may fail after the call has been counted."""
    key = sanitize_generator(generator).next_key(spec.comm)
    shard = sample(shard_grid(spec.layout, spec.comm.rank, key), spec.dtype, spec.device)
    return DNDarray._wrap(shard.view(spec.layout.lshape(spec.comm.rank)), spec.layout, spec.comm)
