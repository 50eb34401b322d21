"""Arrays that are made from a rule: zeros, ones, ranges and the like. All local.

Each rank makes its own shard. All factories, those of `minisplit.random` too, check their arguments by an
`ArraySpec`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.communication.protocol import Comm, Communication, sanitize_comm
from minisplit.core.layout import Layout, as_count, as_index
from minisplit.core.pytorch.devices import Device, sanitize_device
from minisplit.core.pytorch.dtypes import INTEGERS, Dtype, as_element, as_number, check_in_range, sanitize_dtype

Shape = int | Sequence[int]


class ArraySpec(NamedTuple):
    """What array is to be made: its layout, dtype, device and communicator, all of them checked."""

    layout: Layout
    dtype: torch.dtype
    device: torch.device
    comm: Communication

    def make(self, function: Callable[..., torch.Tensor], **options: Any) -> DNDarray:
        """Make the array by a factory of torch, which is called for the shard."""
        shard = function(self.layout.lshape(self.comm.rank), dtype=self.dtype, device=self.device, **options)
        return DNDarray._wrap(shard, self.layout, self.comm)

    def make_from_index(self, function: Callable[[torch.Tensor], torch.Tensor]) -> DNDarray:
        """Make a 1-d array whose elements are a function of their global indices.

        `function` gets the indices of this rank. It must compute each element from its index alone, in int64 or in
        double precision: so no number of ranks changes a bit. Steps added to a rank's first element would round.
        """
        (part,) = self.layout.box(self.comm.rank)
        index = torch.arange(part.start, part.stop, device=self.device)
        return DNDarray._wrap(function(index).to(self.dtype), self.layout, self.comm)


def spec_of(shape: Shape, dtype: Dtype, split: int | None, device: Device, comm: Comm) -> ArraySpec:
    """Check the arguments that all factories have in common."""
    comm = sanitize_comm(comm)
    # The layout checks shape and split, so that all factories raise the same errors for them.
    layout = Layout(shape, split, comm.size)  # type: ignore[arg-type]
    dtype = sanitize_dtype(dtype) or torch.get_default_dtype()
    return ArraySpec(layout, dtype, sanitize_device(device), comm)


def spec_like(x: DNDarray, dtype: Dtype, split: int | None, device: Device = None, comm: Comm = None) -> ArraySpec:
    """Check the same arguments. Those that are None are taken from `x`, for its split also its counts."""
    x = as_dndarray(x)
    dtype = sanitize_dtype(dtype) or x.dtype
    device = x.device if device is None else device
    # The counts of `x` are for the ranks of its own communicator.
    if comm is not None and comm is not x.comm:
        return spec_of(x.shape, dtype, x.split if split is None else split, device, comm)
    layout = x.layout if split is None else x.layout.with_split(split)
    return ArraySpec(layout, dtype, sanitize_device(device), x.comm)


def full(
    shape: Shape,
    fill_value: complex | DNDarray,
    *,
    dtype: Dtype = None,
    split: int | None = None,
    device: Device = None,
    comm: Comm = None,
) -> DNDarray:
    """Make an array of one value.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the global array.
    fill_value : number or DNDarray
        The value of all elements: a number, or a 0-d array.
    dtype : torch.dtype, optional
        The dtype of the elements. By default that of the value.
    split : int, optional
        The axis that is cut over the ranks. By default None: every rank holds the whole array.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.

    Returns
    -------
    DNDarray
        The array, in which every element is `fill_value`.

    Raises
    ------
    ValueError
        If an extent is negative, `fill_value` has axes, or the device is unknown.
    IndexError
        If `split` is out of range.
    TypeError
        If an argument is of another type, or the value is complex and the dtype real.
    OverflowError
        If the value is not in the range of a dtype of integers.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.full((2, 2), 7, split=0).tolist()
    [[7, 7], [7, 7]]
    """
    value = number_of(fill_value, "fill_value")
    # Of zero: torch knows no dtype of 2**63.
    dtype = dtype or (
        fill_value.dtype if isinstance(fill_value, DNDarray) else torch.full((), type(value)()).dtype
    )
    return _filled(spec_of(shape, dtype, split, device, comm), value)


def zeros(
    shape: Shape, *, dtype: Dtype = None, split: int | None = None, device: Device = None, comm: Comm = None
) -> DNDarray:
    """Make an array of zeros.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the global array.
    dtype : torch.dtype, optional
        The dtype of the elements. By default torch's default dtype.
    split : int, optional
        The axis that is cut over the ranks. By default None: every rank holds the whole array.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.

    Returns
    -------
    DNDarray
        The array of zeros.

    Raises
    ------
    ValueError
        If an extent is negative, or the device is unknown.
    IndexError
        If `split` is out of range.
    TypeError
        If an argument is of another type.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.zeros((3, 2), split=0).dtype
    torch.float32
    """
    return spec_of(shape, dtype, split, device, comm).make(torch.zeros)


def ones(
    shape: Shape, *, dtype: Dtype = None, split: int | None = None, device: Device = None, comm: Comm = None
) -> DNDarray:
    """Make an array of ones.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the global array.
    dtype : torch.dtype, optional
        The dtype of the elements. By default torch's default dtype.
    split : int, optional
        The axis that is cut over the ranks. By default None: every rank holds the whole array.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.

    Returns
    -------
    DNDarray
        The array of ones.

    Raises
    ------
    ValueError
        If an extent is negative, or the device is unknown.
    IndexError
        If `split` is out of range.
    TypeError
        If an argument is of another type.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.ones(3, split=0).tolist()
    [1.0, 1.0, 1.0]
    """
    return spec_of(shape, dtype, split, device, comm).make(torch.ones)


def empty(
    shape: Shape, *, dtype: Dtype = None, split: int | None = None, device: Device = None, comm: Comm = None
) -> DNDarray:
    """Make an array without setting its elements.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the global array.
    dtype : torch.dtype, optional
        The dtype of the elements. By default torch's default dtype.
    split : int, optional
        The axis that is cut over the ranks. By default None: every rank holds the whole array.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.

    Returns
    -------
    DNDarray
        The array. Its elements have the values that memory happens to have.

    Raises
    ------
    ValueError
        If an extent is negative, or the device is unknown.
    IndexError
        If `split` is out of range.
    TypeError
        If an argument is of another type.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.empty((0, 4), split=1).shape
    (0, 4)
    """
    return spec_of(shape, dtype, split, device, comm).make(torch.empty)


def full_like(
    x: DNDarray,
    fill_value: complex | DNDarray,
    *,
    dtype: Dtype = None,
    split: int | None = None,
    device: Device = None,
    comm: Comm = None,
) -> DNDarray:
    """Make an array of one value with the shape and the layout of another array.

    Parameters
    ----------
    x : DNDarray
        The array that the new one is like. Its elements are not used.
    fill_value : number or DNDarray
        The value of all elements: a number, or a 0-d array.
    dtype : torch.dtype, optional
        The dtype of the elements. By default that of `x`.
    split : int, optional
        The axis that is cut over the ranks. If it is not the split axis of `x`, the counts are the default ones.
        By default the array has the layout of `x`, its counts included.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default that of `x`.
    comm : Communication, optional
        The ranks that hold the array. By default those that hold `x`.

    Returns
    -------
    DNDarray
        The array, in which every element is `fill_value`.

    Raises
    ------
    IndexError
        If `split` is out of range.
    TypeError
        If `x` is not a DNDarray, another argument is of another type, or the value is complex and the dtype real.
    ValueError
        If `fill_value` has axes, or the device is unknown.
    OverflowError
        If the value is not in the range of a dtype of integers.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.full_like(ms.zeros(2, split=0), 5).tolist()
    [5.0, 5.0]
    """
    return _filled(spec_like(x, dtype, split, device, comm), number_of(fill_value, "fill_value"))


def zeros_like(
    x: DNDarray, *, dtype: Dtype = None, split: int | None = None, device: Device = None, comm: Comm = None
) -> DNDarray:
    """Make an array of zeros with the shape and the layout of another array.

    Parameters
    ----------
    x : DNDarray
        The array that the new one is like. Its elements are not used.
    dtype : torch.dtype, optional
        The dtype of the elements. By default that of `x`.
    split : int, optional
        The axis that is cut over the ranks. If it is not the split axis of `x`, the counts are the default ones.
        By default the array has the layout of `x`, its counts included.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default that of `x`.
    comm : Communication, optional
        The ranks that hold the array. By default those that hold `x`.

    Returns
    -------
    DNDarray
        The array of zeros.

    Raises
    ------
    IndexError
        If `split` is out of range.
    TypeError
        If `x` is not a DNDarray, or another argument is of another type.
    ValueError
        If the device is unknown.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.zeros_like(ms.ones((2, 2), split=1)).split
    1
    """
    return spec_like(x, dtype, split, device, comm).make(torch.zeros)


def ones_like(
    x: DNDarray, *, dtype: Dtype = None, split: int | None = None, device: Device = None, comm: Comm = None
) -> DNDarray:
    """Make an array of ones with the shape and the layout of another array.

    Parameters
    ----------
    x : DNDarray
        The array that the new one is like. Its elements are not used.
    dtype : torch.dtype, optional
        The dtype of the elements. By default that of `x`.
    split : int, optional
        The axis that is cut over the ranks. If it is not the split axis of `x`, the counts are the default ones.
        By default the array has the layout of `x`, its counts included.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default that of `x`.
    comm : Communication, optional
        The ranks that hold the array. By default those that hold `x`.

    Returns
    -------
    DNDarray
        The array of ones.

    Raises
    ------
    IndexError
        If `split` is out of range.
    TypeError
        If `x` is not a DNDarray, or another argument is of another type.
    ValueError
        If the device is unknown.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.ones_like(ms.arange(2, split=0)).tolist()
    [1, 1]
    """
    return spec_like(x, dtype, split, device, comm).make(torch.ones)


def empty_like(
    x: DNDarray, *, dtype: Dtype = None, split: int | None = None, device: Device = None, comm: Comm = None
) -> DNDarray:
    """Make an array with the shape and the layout of another array, without setting its elements.

    Parameters
    ----------
    x : DNDarray
        The array that the new one is like. Its elements are not used.
    dtype : torch.dtype, optional
        The dtype of the elements. By default that of `x`.
    split : int, optional
        The axis that is cut over the ranks. If it is not the split axis of `x`, the counts are the default ones.
        By default the array has the layout of `x`, its counts included.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default that of `x`.
    comm : Communication, optional
        The ranks that hold the array. By default those that hold `x`.

    Returns
    -------
    DNDarray
        The array. Its elements have the values that memory happens to have.

    Raises
    ------
    IndexError
        If `split` is out of range.
    TypeError
        If `x` is not a DNDarray, or another argument is of another type.
    ValueError
        If the device is unknown.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.empty_like(ms.ones((2, 2), split=1)).shape
    (2, 2)
    """
    return spec_like(x, dtype, split, device, comm).make(torch.empty)


def arange(
    start: float | DNDarray,
    stop: float | DNDarray | None = None,
    step: float | DNDarray = 1,
    *,
    dtype: Dtype = None,
    split: int | None = None,
    device: Device = None,
    comm: Comm = None,
) -> DNDarray:
    """Make the numbers `start`, `start + step`, ... that lie before `stop`.

    Parameters
    ----------
    start : float or 0-d DNDarray
        The first number. If `stop` is not given, `start` is taken as `stop`, and the first number is 0.
    stop : float or 0-d DNDarray, optional
        Where the numbers end. It is not among them.
    step : float or 0-d DNDarray, default 1
        The distance of neighbours. It may be negative.
    dtype : torch.dtype, optional
        The dtype of the elements. By default int64 where all three are ints, else torch's default dtype.
    split : int, optional
        0 to cut the array over the ranks. By default None: every rank holds the whole array.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.

    Returns
    -------
    DNDarray
        The numbers in one dimension. Empty where `stop` does not lie in the direction of `step`.

    Raises
    ------
    ValueError
        If `step` is 0, or the device is unknown.
    IndexError
        If `split` is out of range.
    TypeError
        If an argument is of another type.
    OverflowError
        If a number is not in the range of a dtype of integers.

    Communication
    -------------
    Local.

    Notes
    -----
    Element i is `start + i * step`, computed in int64 or float64 from its global index i. So the elements do not
    depend on the number of ranks, and their last bits may differ from those of torch, which depend on the width of
    vectors.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.arange(1, 10, 3, split=0).tolist()
    [1, 4, 7]
    """
    if stop is None:
        start, stop = 0, start
    first, end, width = number_of(start, "start"), number_of(stop, "stop"), number_of(step, "step")
    if width == 0:
        raise ValueError("arange needs a step other than 0, got 0; full() repeats one value")
    is_integral = all(isinstance(value, int) for value in (first, end, width))
    span = end - first
    # Of ints the length is computed in ints: as floats those above 2^53 would be rounded.
    length = max(0, int(-(-span // width)) if is_integral else math.ceil(span / width))
    computed = torch.int64 if is_integral else torch.float64
    dtype = sanitize_dtype(dtype) or (torch.int64 if is_integral else None)
    spec = spec_of(length, dtype, split, device, comm)
    if length and spec.dtype in INTEGERS:
        check_in_range(first, spec.dtype, "the first number of arange")
        check_in_range(first + (length - 1) * width, spec.dtype, "the last number of arange")
    return spec.make_from_index(lambda index: first + index.to(computed) * width)


def linspace(
    start: complex | DNDarray,
    stop: complex | DNDarray,
    num: int = 50,
    *,
    endpoint: bool = True,
    dtype: Dtype = None,
    split: int | None = None,
    device: Device = None,
    comm: Comm = None,
) -> DNDarray:
    """Make evenly spaced numbers.

    Parameters
    ----------
    start : complex or 0-d DNDarray
        The first number.
    stop : complex or 0-d DNDarray
        The end.
    num : int, default 50
        How many numbers there are to be.
    endpoint : bool, default True
        Whether `stop` is the last of them.
    dtype : torch.dtype, optional
        The dtype of the elements. By default torch's default dtype, or its complex counterpart where an end is
        complex.
    split : int, optional
        0 to cut the array over the ranks. By default None: every rank holds the whole array.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.

    Returns
    -------
    DNDarray
        The numbers in one dimension.

    Raises
    ------
    ValueError
        If `num` is negative, or the device is unknown.
    IndexError
        If `split` is out of range.
    TypeError
        If an argument is of another type.

    Communication
    -------------
    Local.

    Notes
    -----
    Each element is computed in double precision from its global index, so that it does not depend on the number of
    ranks. It is computed from the nearer end, as torch does it: so both ends are exact.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.linspace(0, 1, 5, split=0).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    return _spaced(start, stop, num, endpoint, lambda index, value: value, dtype, split, device, comm)


def logspace(
    start: complex | DNDarray,
    stop: complex | DNDarray,
    num: int = 50,
    *,
    endpoint: bool = True,
    base: complex | DNDarray = 10.0,
    dtype: Dtype = None,
    split: int | None = None,
    device: Device = None,
    comm: Comm = None,
) -> DNDarray:
    """Make numbers whose logarithms are evenly spaced.

    Parameters
    ----------
    start : complex or 0-d DNDarray
        The logarithm of the first number: `base ** start`.
    stop : complex or 0-d DNDarray
        The logarithm of the end.
    num : int, default 50
        How many numbers there are to be.
    endpoint : bool, default True
        Whether `base ** stop` is the last of them.
    base : complex or 0-d DNDarray, default 10.0
        The base of the logarithms.
    dtype : torch.dtype, optional
        The dtype of the elements. By default torch's default dtype, or its complex counterpart where an end is
        complex.
    split : int, optional
        0 to cut the array over the ranks. By default None: every rank holds the whole array.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.

    Returns
    -------
    DNDarray
        The numbers in one dimension.

    Raises
    ------
    ValueError
        If `num` is negative, or the device is unknown.
    IndexError
        If `split` is out of range.
    TypeError
        If an argument is of another type.

    Communication
    -------------
    Local.

    See Also
    --------
    geomspace : The same from the ends themselves.

    Notes
    -----
    Each element is computed in double precision from its global index, as those of `linspace`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.logspace(0, 2, 3, split=0).tolist()
    [1.0, 10.0, 100.0]
    """
    number = number_of(base, "base")

    def power(index: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = number**exponent
        return result

    spaced, others = (start, stop, num, endpoint), (dtype, split, device, comm)
    return _spaced(*spaced, power, *others, is_complex=isinstance(number, complex))


def geomspace(
    start: complex | DNDarray,
    stop: complex | DNDarray,
    num: int = 50,
    *,
    endpoint: bool = True,
    dtype: Dtype = None,
    split: int | None = None,
    device: Device = None,
    comm: Comm = None,
) -> DNDarray:
    """Make numbers with a constant ratio between neighbours.

    Parameters
    ----------
    start : complex or 0-d DNDarray
        The first number.
    stop : complex or 0-d DNDarray
        The end.
    num : int, default 50
        How many numbers there are to be.
    endpoint : bool, default True
        Whether `stop` is the last of them.
    dtype : torch.dtype, optional
        The dtype of the elements. By default torch's default dtype, or its complex counterpart where an end is
        complex.
    split : int, optional
        0 to cut the array over the ranks. By default None: every rank holds the whole array.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.

    Returns
    -------
    DNDarray
        The numbers in one dimension. The ends are exact.

    Raises
    ------
    ValueError
        If an end is 0, real ends have different signs, `num` is negative, or the device is unknown.
    IndexError
        If `split` is out of range.
    TypeError
        If an argument is of another type.

    Communication
    -------------
    Local.

    See Also
    --------
    logspace : The same from the logarithms of the ends.

    Notes
    -----
    Each element is computed in double precision from its global index, as those of `linspace`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.geomspace(1, 8, 4, split=0).tolist()
    [1.0, 2.0, 4.0, 8.0]
    """
    first, last = number_of(start, "start"), number_of(stop, "stop")
    is_complex = isinstance(first, complex) or isinstance(last, complex)
    if first == 0 or last == 0 or not (is_complex or (first > 0) == (last > 0)):
        raise ValueError(f"geomspace needs ends other than 0, and real ones of one sign, got {start} and {stop}")
    # As NumPy: the first number is made positive, so that a spiral of complex ones turns the shorter way round.
    turn = first / abs(first)
    # NumPy's logarithm: cmath.log10(1000) is less than 3.
    low, high = (np.log10(end / turn).item() for end in (first, last))

    def power(index: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
        result = torch.where(index == 0, first, turn * 10**exponent)
        return torch.where(index == num - 1, last, result) if endpoint and num > 1 else result

    return _spaced(low, high, num, endpoint, power, dtype, split, device, comm, is_complex=is_complex)


def _spaced(
    start: Any,
    stop: Any,
    num: int,
    endpoint: bool,
    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    dtype: Dtype,
    split: int | None,
    device: Device,
    comm: Comm,
    *,
    is_complex: bool = False,
) -> DNDarray:
    """Make a function of the global indices and of evenly spaced numbers, which are in double precision."""
    num = as_count(num, "num")
    start, stop = number_of(start, "start"), number_of(stop, "stop")
    gaps = num - 1 if endpoint else num
    # Of one number or none there is no gap to divide by.
    step = (stop - start) / gaps if gaps > 0 else 0.0
    is_complex = is_complex or isinstance(start, complex) or isinstance(stop, complex)
    computed = torch.complex128 if is_complex else torch.float64
    default = torch.get_default_dtype()
    dtype = sanitize_dtype(dtype) or (default.to_complex() if is_complex else default)

    def value(index: torch.Tensor) -> torch.Tensor:
        # From the nearer end: `start + gaps * step` may miss `stop` by a bit. A single number is the first one.
        upward = start + index.to(computed) * step
        is_low = index < max((gaps + 1) // 2, 1)
        return function(index, torch.where(is_low, upward, stop - (gaps - index).to(computed) * step))

    return spec_of(num, dtype, split, device, comm).make_from_index(value)


def eye(
    n_rows: int,
    n_cols: int | None = None,
    *,
    k: int = 0,
    dtype: Dtype = None,
    split: int | None = None,
    device: Device = None,
    comm: Comm = None,
) -> DNDarray:
    """Make a matrix with ones on a diagonal, and zeros elsewhere.

    Parameters
    ----------
    n_rows : int
        The number of rows.
    n_cols : int, optional
        The number of columns. By default `n_rows`.
    k : int, default 0
        The diagonal: 0 is the main one, positive ones are above it.
    dtype : torch.dtype, optional
        The dtype of the elements. By default torch's default dtype.
    split : int, optional
        The axis that is cut over the ranks. By default None: every rank holds the whole array.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.

    Returns
    -------
    DNDarray
        The matrix.

    Raises
    ------
    ValueError
        If an extent is negative, or the device is unknown.
    IndexError
        If `split` is out of range.
    TypeError
        If an argument is of another type.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.eye(2, 3, k=1, split=1).tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    # Not torch.eye, which has no diagonal but the main one.
    x = zeros((n_rows, n_rows if n_cols is None else n_cols), dtype=dtype, split=split, device=device, comm=comm)
    rows, columns = x.layout.box(x.comm.rank)
    # The diagonal of the matrix is another one of a shard that starts below or beside the first element.
    offset = as_index(k, "k") + rows.start - columns.start
    if -x.lshape[0] < offset < x.lshape[1]:
        x.larray.diagonal(offset).fill_(1)
    return x


def number_of(value: Any, name: str) -> Any:
    """A number, or that in an array or tensor of no axis. ValueError for one with axes, TypeError for others."""
    if not isinstance(value, (DNDarray, torch.Tensor)):
        return as_number(value, name)
    if value.ndim:
        hint = "; see broadcast_to" if name == "fill_value" else ""
        raise ValueError(f"{name} must be a number or a 0-d array, got shape {tuple(value.shape)}{hint}")
    return value.item()


def _filled(spec: ArraySpec, value: Any) -> DNDarray:
    """The array of one number, which must be in its dtype."""
    return spec.make(torch.full, fill_value=as_element(value, spec.dtype, "fill_value"))
