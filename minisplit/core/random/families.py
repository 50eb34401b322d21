"""Distributions of `ms.random` that are made of others: gamma, beta, Laplace, binomial and so on.

Each number depends on the seed, the stream, the number of the call and its own place alone, as all of `ms.random`.
"""

from __future__ import annotations

import math

import torch

from minisplit.core.array import DNDarray
from minisplit.core.communication.protocol import Comm
from minisplit.core.factories import Shape, spec_of
from minisplit.core.layout import as_count
from minisplit.core.pytorch.devices import Device
from minisplit.core.pytorch.dtypes import Dtype
from minisplit.core.random import rejection, sampling
from minisplit.core.random.distributions import draw, draw_like, real_dtype, real_number
from minisplit.core.random.generator import Generator
from minisplit.core.random.grids import ArrayGrid


def gamma(
    shape: DNDarray | float,
    scale: float = 1.0,
    size: Shape | None = None,
    *,
    split: int | None = None,
    dtype: Dtype = None,
    device: Device = None,
    comm: Comm = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw from the gamma distribution.

    Parameters
    ----------
    shape : float or DNDarray
        The shape, which torch calls the concentration. An array has one for each element: what is no positive
        number gives NaN.
    scale : float, default 1.0
        The scale, as in NumPy. torch's functions take a rate, which is `1 / scale`.
    size : int or sequence of int, optional
        The shape of the array where `shape` is a number. By default it is 0-d.
    split : int, optional
        The axis that is cut over the ranks. By default None: every rank holds the whole array.
        Not with an array as `shape`, which has all this.
    dtype : torch.dtype, optional
        A real dtype. By default that of an array, else torch's default dtype.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.
    generator : Generator, optional
        The generator that draws. By default the default generator, see `seed`.

    Returns
    -------
    DNDarray
        The numbers. With an array as `shape` it has the shape and the layout of `shape`.

    Raises
    ------
    ValueError
        If `shape` or `scale` is no finite number above 0, an extent is negative, the device is unknown, or `shape`
        is an array and `size`, `split`, `device` or `comm` is given.
    IndexError
        If `split` is out of range.
    TypeError
        If the dtype is not real, or another argument is of another type.

    Communication
    -------------
    Local. In debug mode collective: one allgather, which compares the states of the ranks.

    Notes
    -----
    By rejection: Marsaglia and Tsang, "A simple method for generating gamma variables", ACM Transactions on
    Mathematical Software 26, 2000.

    Examples
    --------
    >>> import minisplit as ms
    >>> bool((ms.random.gamma(2.0, 3.0, 100, split=0) > 0).all())
    True
    """
    scale = _positive(scale, "scale")
    if isinstance(shape, DNDarray):

        def sample_like(grid: ArrayGrid, shapes: torch.Tensor, device: torch.device) -> torch.Tensor:
            return rejection.gamma(grid, shapes).mul_(scale)

        return draw_like(shape, "shape", sample_like, (size, split, device, comm), dtype, generator)
    alpha = _positive(shape, "shape")

    def sample(grid: ArrayGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return _gamma(grid, alpha, device).mul_(scale).to(dtype)

    spec = spec_of(() if size is None else size, real_dtype(dtype, parts=1), split, device, comm)
    return draw(sample, spec, generator)


def chisquare(
    df: DNDarray | float,
    size: Shape | None = None,
    *,
    split: int | None = None,
    dtype: Dtype = None,
    device: Device = None,
    comm: Comm = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw from the chi-square distribution.

    Parameters
    ----------
    df : float or DNDarray
        The degrees of freedom. An array has one for each element: what is no positive number gives NaN.
    size : int or sequence of int, optional
        The shape of the array where `df` is a number. By default it is 0-d.
    split : int, optional
        The axis that is cut over the ranks. By default None: every rank holds the whole array.
        Not with an array as `df`, which has all this.
    dtype : torch.dtype, optional
        A real dtype. By default that of an array, else torch's default dtype.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.
    generator : Generator, optional
        The generator that draws. By default the default generator, see `seed`.

    Returns
    -------
    DNDarray
        The numbers. With an array as `df` it has the shape and the layout of `df`.

    Raises
    ------
    ValueError
        If `df` is no finite number above 0, an extent is negative, the device is unknown, or `df` is an array and
        `size`, `split`, `device` or `comm` is given.
    IndexError
        If `split` is out of range.
    TypeError
        If the dtype is not real, or another argument is of another type.

    Communication
    -------------
    Local. In debug mode collective: one allgather, which compares the states of the ranks.

    Notes
    -----
    Gamma numbers of shape `df / 2` and scale 2.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.random.chisquare(ms.ones((4, 2), split=1)).split
    1
    """
    if not isinstance(df, DNDarray):
        df = _positive(df, "df")
    return gamma(df / 2, 2.0, size, split=split, dtype=dtype, device=device, comm=comm, generator=generator)


def beta(
    a: float,
    b: float,
    size: Shape = (),
    *,
    split: int | None = None,
    dtype: Dtype = None,
    device: Device = None,
    comm: Comm = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw from the beta distribution.

    Parameters
    ----------
    a : float
        The exponent of the numbers, plus 1.
    b : float
        The exponent of what they lack to 1, plus 1.
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
        The numbers, from 0 to 1.

    Raises
    ------
    ValueError
        If `a` or `b` is no finite number above 0, an extent is negative, or the device is unknown.
    IndexError
        If `split` is out of range.
    TypeError
        If the dtype is not real, or another argument is of another type.

    Communication
    -------------
    Local. In debug mode collective: one allgather, which compares the states of the ranks.

    Notes
    -----
    The share of one gamma number in the sum of two.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.random.beta(2.0, 3.0, 100, split=0)
    >>> bool(((x >= 0) & (x <= 1)).all())
    True
    """
    first, second = _positive(a, "a"), _positive(b, "b")

    def sample(grid: ArrayGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        x, y = _gamma(grid, first, device), _gamma(_further(grid, 1), second, device)
        total = x + y
        # Of small exponents both may be too small for a float: then the share is 0 or 1, with these probabilities.
        is_one = sampling.bernoulli(_further(grid, 2), first / (first + second), device)
        return torch.where(total > 0, x / total, is_one.to(torch.float64)).to(dtype)

    return draw(sample, spec_of(size, real_dtype(dtype, parts=1), split, device, comm), generator)


def laplace(
    loc: float = 0.0,
    scale: float = 1.0,
    size: Shape = (),
    *,
    split: int | None = None,
    dtype: Dtype = None,
    device: Device = None,
    comm: Comm = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw from the Laplace distribution, in which exponential numbers have both signs.

    Parameters
    ----------
    loc : float, default 0.0
        The mean.
    scale : float, default 1.0
        The mean distance from it.
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
        If `loc` is not finite, `scale` is no finite number above 0, an extent is negative, or the device is
        unknown.
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
    >>> ms.random.laplace(size=(3, 4), split=1).shape
    (3, 4)
    """
    loc, scale = _finite(loc, "loc"), _positive(scale, "scale")

    def sample(grid: ArrayGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        distance = sampling.exponential(grid, dtype, device).mul_(scale)
        is_below = sampling.bernoulli(_further(grid, 1), 0.5, device)
        return torch.where(is_below, -distance, distance).add_(loc)

    return draw(sample, spec_of(size, real_dtype(dtype, parts=1), split, device, comm), generator)


def lognormal(
    mean: float = 0.0,
    sigma: float = 1.0,
    size: Shape = (),
    *,
    split: int | None = None,
    dtype: Dtype = None,
    device: Device = None,
    comm: Comm = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw numbers whose logarithm has a normal distribution.

    Parameters
    ----------
    mean : float, default 0.0
        The mean of the logarithm.
    sigma : float, default 1.0
        The standard deviation of the logarithm.
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
        If `mean` or `sigma` is not finite, `sigma` or an extent is negative, or the device is unknown.
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
    >>> ms.random.lognormal(0, 0, 2, split=0).tolist()
    [1.0, 1.0]
    """
    mean, sigma = _finite(mean, "mean"), _finite(sigma, "sigma")
    if sigma < 0:
        raise ValueError(f"sigma must not be negative, got {sigma}")
    spec = spec_of(size, real_dtype(dtype, parts=1), split, device, comm)
    return draw(lambda grid, dtype, device: sampling.log_normal(grid, dtype, device, mean, sigma), spec, generator)


def binomial(
    n: int,
    p: DNDarray | float,
    size: Shape | None = None,
    *,
    split: int | None = None,
    dtype: Dtype = None,
    device: Device = None,
    comm: Comm = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw how many of some trials succeed.

    Parameters
    ----------
    n : int
        The number of trials.
    p : float or DNDarray
        The probability of success, from 0 to 1. An array has one for each element: what is below 0 counts as 0,
        and what is above 1 as 1.
    size : int or sequence of int, optional
        The shape of the array where `p` is a number. By default it is 0-d.
    split : int, optional
        The axis that is cut over the ranks. By default None: every rank holds the whole array.
        Not with an array as `p`, which has all this.
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
        The counts. With an array as `p` it has the shape and the layout of `p`.

    Raises
    ------
    ValueError
        If `n` or an extent is negative, the number `p` is not from 0 to 1, the device is unknown, or `p` is an
        array and `size`, `split`, `device` or `comm` is given.
    IndexError
        If `split` is out of range.
    TypeError
        If an argument is of another type.

    Communication
    -------------
    Local. In debug mode collective: one allgather, which compares the states of the ranks.

    Notes
    -----
    Where 10 successes or more are expected by rejection: Hörmann, "The generation of binomial random variates",
    Journal of Statistical Computation and Simulation 46, 1993.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.random.binomial(7, 1.0, 2, split=0).tolist()
    [7.0, 7.0]
    """
    trials = as_count(n, "n")

    def sample_like(grid: ArrayGrid, p: torch.Tensor, device: torch.device) -> torch.Tensor:
        return rejection.binomial(grid, torch.full_like(p, trials, dtype=torch.float64), p)

    if isinstance(p, DNDarray):
        return draw_like(p, "p", sample_like, (size, split, device, comm), dtype, generator)
    share = _probability(p)

    def sample(grid: ArrayGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return sample_like(grid, _full(grid, share, device), device).to(dtype)

    return draw(sample, spec_of(() if size is None else size, dtype, split, device, comm), generator)


def geometric(
    p: float,
    size: Shape = (),
    *,
    split: int | None = None,
    dtype: Dtype = None,
    device: Device = None,
    comm: Comm = None,
    generator: Generator | None = None,
) -> DNDarray:
    """Draw how many trials it takes to the first success.

    Parameters
    ----------
    p : float
        The probability of success, above 0 and up to 1.
    size : int or sequence of int, default ()
        The shape of the array. By default it is 0-d.
    split : int, optional
        The axis that is cut over the ranks. By default None: every rank holds the whole array. It changes no
        number.
    dtype : torch.dtype, optional
        Any dtype. By default torch's default dtype.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.
    generator : Generator, optional
        The generator that draws. By default the default generator, see `seed`.

    Returns
    -------
    DNDarray
        The counts, from 1 on.

    Raises
    ------
    ValueError
        If `p` is not above 0 and up to 1, an extent is negative, or the device is unknown.
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
    >>> ms.random.geometric(1.0, 2, split=0).tolist()
    [1.0, 1.0]
    """
    share = _probability(p)
    if share == 0:
        raise ValueError("p must be above 0: without success there is no first one")
    rate = -math.log1p(-share) if share < 1 else math.inf

    def sample(grid: ArrayGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        waiting = sampling.exponential(grid, torch.float64, device)
        return waiting.div_(rate).ceil_().clamp_(min=1).to(dtype)

    return draw(sample, spec_of(size, dtype, split, device, comm), generator)


def _gamma(grid: ArrayGrid, shape: float, device: torch.device) -> torch.Tensor:
    """Numbers of the gamma distribution of scale 1 and one shape."""
    return rejection.gamma(grid, _full(grid, shape, device))


def _full(grid: ArrayGrid, value: float, device: torch.device) -> torch.Tensor:
    return torch.full((grid.rows, grid.length), value, dtype=torch.float64, device=device)


def _further(grid: ArrayGrid, number: int) -> ArrayGrid:
    """The places of a grid in another part of the call's words, for other numbers of the same elements."""
    return grid._replace(key=grid.key._replace(part=number))


def _finite(value: object, name: str) -> float:
    number = real_number(value, name)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number}")
    return number


def _positive(value: object, name: str) -> float:
    number = real_number(value, name)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {number}")
    return number


def _probability(value: object) -> float:
    number = real_number(value, "p")
    if not 0 <= number <= 1:
        raise ValueError(f"p must be from 0 to 1, got {number}")
    return number
