"""`apply_along_axis`: a function of vectors, mapped over all of the other axes of an array."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.layout import normalise_axis
from minisplit.vmap.transform import vmap


def apply_along_axis(
    func1d: Callable[..., torch.Tensor], axis: int, x: DNDarray, /, *args: Any, **kwargs: Any
) -> DNDarray:
    """Apply a function of vectors along an axis, by `minisplit.vmap` over the others.

    Parameters
    ----------
    func1d : callable
        A function of a plain 1-d tensor and the other arguments. It returns a tensor of any shape, the same shape
        for all vectors.
    axis : int
        The axis along which the vectors lie.
    x : DNDarray
        The array. Any shape, split and counts.
    *args : Any
        Further arguments of the function.
    **kwargs : Any
        Further keyword arguments of the function.

    Returns
    -------
    DNDarray
        The results; their axes stand in place of `axis`. If `x` is split along another axis, the result has this
        split and its counts. Otherwise it is split along the longest of the other axes. It is replicated for a 1-d
        array.

    Raises
    ------
    IndexError
        If the axis is out of range.
    TypeError
        If `x` is not a DNDarray.

    Communication
    -------------
    Collective, as a call of `minisplit.vmap`: one small message, and one exchange if `x` is split along `axis`.

    See Also
    --------
    vmap : Says what errors, gradients and random numbers in the function mean.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.array([[3.0, 1.0], [2.0, 4.0]], split=0)
    >>> ms.apply_along_axis(lambda v: v - v.min(), 1, x).tolist()
    [[2.0, 0.0], [0.0, 2.0]]
    """
    axis = normalise_axis(axis, as_dndarray(x).ndim, "axis")
    function = partial(_call, func1d, args, kwargs)
    if x.ndim == 1:
        whole = x.to_layout(x.layout.with_split(None))
        return vmap(function, in_dims=0).one(whole[None])[0]  # type: ignore[no-any-return]
    others = [other for other in range(x.ndim) if other != axis]
    mapped = x.split if x.split in others else max(others, key=lambda other: x.shape[other])
    place = axis - (mapped < axis)
    # Counted from the front before the vectors, and from the back behind them: a result may have several axes.
    out_dim = mapped if mapped < axis else mapped - x.ndim
    return vmap(partial(_apply, function, place), out_dim, in_dims=mapped).one(x)  # type: ignore[no-any-return]


def _call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], vector: torch.Tensor
) -> Any:
    return function(vector, *args, **kwargs)


def _apply(function: Callable[[torch.Tensor], Any], axis: int, sample: torch.Tensor) -> Any:
    """Apply a function of vectors along an axis of a tensor, whose results take its place."""
    mapped = function
    for _ in range(sample.ndim - 1):
        mapped = torch.vmap(mapped)
    results = mapped(sample.movedim(axis, -1))
    last = range(sample.ndim - 1, results.ndim)
    return results.movedim(tuple(last), tuple(range(axis, axis + len(last))))
