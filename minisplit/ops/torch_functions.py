"""What functions of torch do with DNDarrays: they call minisplit's of that name, or a function of this module.

The names and the order of the arguments are torch's, and what is returned is as torch has it: pairs of values and
indices, for example, in torch's named tuples.
"""

from __future__ import annotations

import functools
import itertools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from minisplit.core.array import DNDarray
from minisplit.core.layout import normalise_axis
from minisplit.ops import autograd, losses
from minisplit.ops.data_types import astype, result_type
from minisplit.ops.elementwise.arithmetic import add, divide, floor_divide, multiply, subtract, trunc
from minisplit.ops.elementwise.comparison import logical_not
from minisplit.ops.elementwise.floating import isnan
from minisplit.ops.elementwise.selection import maximum, minimum, where
from minisplit.ops.linalg.covariance import cov
from minisplit.ops.linalg.einsum import einsum
from minisplit.ops.linalg.norms import matrix_norm, norm, vector_norm
from minisplit.ops.linalg.products import cross
from minisplit.ops.linalg.solvers import solve_triangular
from minisplit.ops.reductions.functions import max, min, std, sum, var
from minisplit.ops.shape.axes import atleast_1d, atleast_2d, atleast_3d, squeeze, transpose
from minisplit.ops.shape.broadcast import broadcast_arrays, meshgrid
from minisplit.ops.shape.reshape import ravel
from minisplit.ops.shape.split import array_split, dsplit, hsplit, vsplit
from minisplit.ops.shape.take import take, take_along_axis
from minisplit.ops.sorting.histograms import histogram
from minisplit.ops.sorting.search import argmax, argmin, argwhere, nonzero, searchsorted
from minisplit.ops.sorting.sets import unique
from minisplit.ops.sorting.sort import sort_both, topk
from minisplit.ops.stencil import gradient

# For each list of torch's parameters the functions that have it: torch's name, and ours after a colon where it is
# another one. Before the stroke stand arguments that ours have by place only, after the star those by name only.
# `dim=axes` is a parameter of torch and its name here; else _PARAMETERS has it.
_TABLE = {
    "input /": """
        abs absolute:abs acos acosh angle arccos:acos arccosh:acosh arcsin:asin arcsinh:asinh arctan:atan
        arctanh:atanh argwhere asin asinh atan atanh bitwise_not:bitwise_invert ceil conj conj_physical:conj
        corrcoef cos cosh deg2rad det:linalg.det exp exp2 expm1 fix fliplr flipud floor imag inverse:linalg.inv
        isfinite isinf isnan isneginf isposinf isreal linalg.matrix_exp log log10 log1p log2 logical_not
        matrix_exp:linalg.matrix_exp neg:negative negative positive rad2deg ravel real reciprocal sgn:sign sign
        signbit sin sinc sinh slogdet:linalg.slogdet special.exp2:exp2 special.expm1:expm1 special.log1p:log1p
        special.sinc:sinc sqrt square tan tanh trace trunc
    """,
    "A /": "linalg.det linalg.eig linalg.eigvals linalg.inv linalg.slogdet linalg.svdvals",
    "input other /": """
        arctan2:atan2 atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor copysign
        eq:equal equal:array_equal floor_divide fmax fmin fmod gcd ge:greater_equal greater greater_equal
        gt:greater hypot inner kron lcm le:less_equal less less_equal linalg.matmul logaddexp logaddexp2
        logical_and logical_or logical_xor lt:less matmul maximum minimum mul:multiply multiply ne:not_equal
        nextafter not_equal remainder vdot
    """,
    "input mat2 /": "bmm:matmul mm:matmul",
    "input vec /": "mv:matmul",
    "input vec2 /": "ger:outer outer",
    "input tensor /": "dot",
    "input values /": "heaviside",
    "input exponent /": "pow float_power:pow",
    "input other / rtol atol equal_nan": "allclose isclose",
    "elements test_elements / * assume_unique invert": "isin",
    "condition input other /": "where",
    "input / dim keepdim": "all any amax:max amin:min argmax argmin logsumexp special.logsumexp:logsumexp",
    "input / dim keepdim dtype": "mean nanmean nansum prod sum",
    "input / dim": "count_nonzero squeeze unsqueeze:expand_dims unbind:unstack",
    "input / dim dtype": "cumprod:cumulative_prod cumsum:cumulative_sum",
    "input q / dim keepdim interpolation=method": "nanquantile quantile",
    "input / dim descending * stable": "argsort",
    "input / dims": "flip",
    "input / dims=axes": "permute:permute_dims",
    "input / shifts dims": "roll",
    "input / k dims=axes": "rot90",
    "input / dim0=axis1 dim1=axis2": "swapdims:swapaxes transpose:swapaxes",
    "input / axis0=axis1 axis1=axis2": "swapaxes",
    "input / source destination": "movedim:moveaxis moveaxis",
    "input / offset dim1=axis1 dim2=axis2": "diagonal",
    "input / diagonal=k": "diag tril triu",
    "input / n dim prepend append": "diff",
    "input / min max": "clamp:clip clip",
    "input / nan posinf neginf": "nan_to_num",
    "input / * decimals": "round special.round:round",
    "input / shape": "reshape",
    "input / size=shape": "broadcast_to",
    "input / dims=reps": "tile",
    "input / repeats dim": "repeat_interleave:repeat",
    "input / indices dim": "take_along_dim:take_along_axis",
    "input / indices_or_sections dim": "tensor_split:array_split",
    "input / weights minlength": "bincount",
    "input boundaries / * right": "bucketize",
    "tensors / dim": "cat:concat concat concatenate stack",
    "tensors /": "column_stack dstack hstack row_stack:vstack vstack linalg.multi_dot",
    "a b / dims=axes": "tensordot",
    "x / N increasing": "vander",
    "y / x * dx dim": "trapezoid trapz:trapezoid",
    "input other / * dim": "linalg.cross",
    "x y / * dim": "linalg.vecdot",
    "input / dtype device": "empty_like ones_like zeros_like",
    "input fill_value / dtype device": "full_like",
    "A / * upper": "linalg.cholesky",
    "A / UPLO": "linalg.eigh linalg.eigvalsh",
    "A / p": "linalg.cond",
    "A / n": "linalg.matrix_power",
    "input / n": "matrix_power:linalg.matrix_power",
    "A / mode": "linalg.qr",
    "A / full_matrices": "linalg.svd",
    "A / ord": "linalg.matrix_norm",
    "A / * rtol": "linalg.matrix_rank linalg.pinv",
    "A B /": "linalg.solve",
    "A B / rcond=rtol": "linalg.lstsq",
    "A / * offset": "linalg.diagonal",
    "input / n dim norm": "fft.fft fft.ifft fft.rfft fft.irfft fft.hfft fft.ihfft",
    "input / s dim=axes norm": "fft.fft2 fft.ifft2 fft.rfft2 fft.irfft2 fft.fftn fft.ifftn fft.rfftn fft.irfftn",
    "input / dim=axes": "fft.fftshift fft.ifftshift",
}
# torch's named tuples of results, which hold what they are given.
_RESULTS: Any = torch.return_types
# torch's names of parameters, where minisplit has another.
_PARAMETERS = {"dim": "axis", "dims": "axis", "keepdim": "keepdims", "shifts": "shift"}
# What torch's functions take to mean what they do without: it is let pass, and changes nothing.
_WITHOUT_EFFECT = {"memory_format", "layout", "pin_memory", "driver"}


def call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do what a function of torch, called with DNDarrays, means. TypeError where minisplit has no such one."""
    found = functions().get(function)
    if found is not None:
        return found(*args, **kwargs)
    minisplit: Any = sys.modules["minisplit"]
    name = getattr(function, "__name__", str(function))
    space, _, last = name.partition("_") if name.startswith(("linalg_", "fft_")) else ("", "", name)
    suggestion = f"minisplit.{space and space + '.'}{last}"
    is_there = hasattr(getattr(minisplit, space) if space else minisplit, last)
    instead = f"{suggestion} takes arrays; " if is_there else ""
    if not is_there and hasattr(torch.nn.functional, name):
        instead = (
            f"minisplit.vmap({name}) maps it over samples, as it does a module; dim= then counts the axes of one "
            "sample (dim=0 is axis 1 of the array); "
        )
    raise TypeError(
        f"torch's {name} takes tensors, got a DNDarray: {instead}x.torch() is the whole array as a tensor on "
        "every rank, and minisplit.array(..., split=...) makes a DNDarray of a tensor"
    )


@functools.cache
def functions() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return torch's functions, and what does the same for DNDarrays, with torch's arguments."""
    found: dict[Any, Callable[..., Any]] = dict(_table())
    for name, ours in _WRITTEN.items():
        found[_of_torch(name)] = ours
    found |= losses.LOSSES
    found[torch.autograd.grad], found[torch.autograd.backward] = autograd.grad, autograd.backward
    found.pop(None, None)  # what this torch does not have
    return found


def _table() -> Iterator[tuple[Any, Callable[..., Any]]]:
    # By name, when all modules are imported: methods of arrays call this one, which is imported before some.
    minisplit: Any = sys.modules["minisplit"]
    for parameters, names in _TABLE.items():
        for pair in names.split():
            theirs, _, name = pair.partition(":")
            ours = functools.reduce(getattr, (name or theirs).split("."), minisplit)
            yield _of_torch(theirs), functools.partial(_call_ours, ours, theirs, parameters)


def _of_torch(name: str) -> Any:
    try:
        return functools.reduce(getattr, name.split("."), torch)
    except AttributeError:
        return None


def _call_ours(ours: Callable[..., Any], name: str, parameters: str, /, *args: Any, **kwargs: Any) -> Any:
    """Call a function of minisplit with the arguments of that of torch."""
    arrays, named, translation = _read(parameters)
    if len(args) > len(arrays) + len(named):
        raise TypeError(f"torch.{name} of DNDarrays takes {len(arrays) + len(named)} arguments, got {len(args)}")
    given = dict(zip((*arrays, *named), args, strict=False))
    known = {*arrays, *translation, *translation.values(), "out"}
    for key, value in kwargs.items():
        key = {"a": "input", "x": "input", "self": "input"}.get(key, key) if key not in known else key  # noqa: PLW2901
        if key in _WITHOUT_EFFECT or (key == "requires_grad" and not value) or (key == "out" and value is None):
            continue
        if key not in known or key in given:
            raise TypeError(
                f"torch.{name} of DNDarrays takes no {key}; it takes {', '.join((*arrays, *translation))}"
            )
        given[key] = value
    missing = [each for each in arrays if each not in given]
    if missing and name not in {"where"}:
        raise TypeError(f"torch.{name} needs {', '.join(missing)}")
    positional = [given.pop(each) for each in arrays if each in given]
    options = {translation.get(key, key): value for key, value in given.items()}
    for key in ("axis", "axes", "shift"):
        if isinstance(options.get(key), list):
            options[key] = tuple(options[key])
    # For torch no axes are all axes.
    if options.get("axis") == () and "keepdim" in parameters:
        options["axis"] = None
    if options.get("norm", "") is None:
        del options["norm"]
    return ours(*positional, **options)


@functools.cache
def _read(parameters: str) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, str]]:
    """Return torch's names of the arguments by place only, of those by place or name, and ours of the latter."""
    arrays, _, others = parameters.partition("/")
    names = [each.partition("=") for each in others.replace("*", "").split()]
    translation = {theirs: ours or _PARAMETERS.get(theirs, theirs) for theirs, _, ours in names}
    by_place = others.partition("*")[0].split()
    return tuple(arrays.split()), tuple(each.partition("=")[0] for each in by_place), translation


# Functions whose arguments or results are others than ours. Parameters have torch's names and order.


def _add(input: Any, other: Any, *, alpha: Any = 1, out: DNDarray | None = None) -> DNDarray:
    return add(input, other if alpha == 1 else multiply(other, alpha), out=out)


def _sub(input: Any, other: Any, *, alpha: Any = 1, out: DNDarray | None = None) -> DNDarray:
    return subtract(input, other if alpha == 1 else multiply(other, alpha), out=out)


def _div(input: Any, other: Any, *, rounding_mode: str | None = None, out: DNDarray | None = None) -> DNDarray:
    if rounding_mode is None:
        return divide(input, other, out=out)
    if rounding_mode == "floor":
        return floor_divide(input, other, out=out)
    if rounding_mode != "trunc":
        raise ValueError(f"rounding_mode must be None, 'trunc' or 'floor', got {rounding_mode!r}")
    return trunc(divide(input, other), out=out)


def _deviation(
    function: Callable[..., DNDarray],
    input: DNDarray,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
    axis: Any = None,
    out: DNDarray | None = None,
) -> DNDarray:
    dim = axis if dim is None else dim
    if isinstance(dim, bool):  # torch.std(x, False)
        dim, unbiased = None, dim
    correction = correction if correction is not None else float(unbiased is not False)
    return function(
        input, tuple(dim) if isinstance(dim, list) else dim, correction=correction, keepdims=keepdim, out=out
    )


def _extreme(
    function: Callable[..., DNDarray],
    arg_function: Callable[..., DNDarray],
    of_two: Callable[..., DNDarray],
    result: Any,
    input: DNDarray,
    dim: Any = None,
    keepdim: bool = False,
    *,
    other: Any = None,
    out: Any = None,
) -> Any:
    other = dim if isinstance(dim, DNDarray) else other
    if other is not None:
        return of_two(input, other, out=out)
    if dim is None:
        return function(input, out=out)
    return result((function(input, dim, keepdims=keepdim), arg_function(input, dim, keepdims=keepdim)))


def _sort(input: DNDarray, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Any:
    return _RESULTS.sort(sort_both(input, dim, descending))


def _topk(input: DNDarray, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    return _RESULTS.topk(topk(input, k, dim, largest, sorted))


def _median(skips_nan: bool, input: DNDarray, dim: int | None = None, keepdim: bool = False) -> Any:
    """Return the lower one of two middle elements, and where it is."""
    axis = 0 if dim is None else normalise_axis(dim, input.ndim, "dim")
    values, indices = sort_both(ravel(input) if dim is None else input, axis, False)
    numbers = sum(logical_not(isnan(values)), axis, keepdims=True)
    extent = values.shape[axis]
    middle = floor_divide(subtract(numbers, 1), 2)
    # NaN where there is one: the last of the sorted elements.
    middle = maximum(middle, 0) if skips_nan else where(numbers < extent, extent - 1, middle)
    found = [take_along_axis(each, middle, axis) for each in (values, indices)]
    if dim is None:
        return squeeze(found[0], axis)
    result = _RESULTS.nanmedian if skips_nan else _RESULTS.median
    return result(tuple(found if keepdim else [squeeze(each, axis) for each in found]))


def _unique(
    input: DNDarray,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    return unique(input, return_inverse=return_inverse, return_counts=return_counts, axis=dim)


def _histogram(
    input: DNDarray, bins: Any, *, range: Any = None, weight: DNDarray | None = None, density: bool = False
) -> Any:
    counts, edges = histogram(input, bins, range, weight, density)
    both = tuple(astype(each, input.dtype, copy=False) for each in (counts, edges))
    return _RESULTS.histogram(both)


def _split(tensor: DNDarray, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[DNDarray, ...]:
    extent, sizes = tensor.shape[dim], split_size_or_sections
    if isinstance(sizes, int):
        return tuple(array_split(tensor, range(sizes, extent, sizes), dim))
    if math.fsum(sizes) != extent:
        raise ValueError(f"the sizes must add up to {extent}, as dim {dim} is long, got {list(sizes)}")
    return tuple(array_split(tensor, list(itertools.accumulate(sizes))[:-1], dim))


def _gradient(input: DNDarray, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> Any:
    axis = tuple(dim) if isinstance(dim, list) else dim
    found = gradient(
        input, *(spacing if isinstance(spacing, (list, tuple)) else [spacing]), axis=axis, edge_order=edge_order
    )
    return list(found) if isinstance(found, tuple) else [found]


def _nonzero(input: DNDarray, *, as_tuple: bool = False) -> Any:
    return nonzero(input) if as_tuple else argwhere(input)


def _searchsorted(
    sorted_sequence: DNDarray, input: Any, *, right: bool = False, side: Any = None, sorter: DNDarray | None = None
) -> DNDarray:
    return searchsorted(sorted_sequence, input, side=side or ("right" if right else "left"), sorter=sorter)


def _norm(
    input: DNDarray, p: Any = "fro", dim: Any = None, keepdim: bool = False, out: Any = None, dtype: Any = None
) -> Any:
    x = input if dtype is None else astype(input, dtype)
    if p == "nuc":
        return matrix_norm(x, ord="nuc", keepdims=keepdim)
    axis = tuple(dim) if isinstance(dim, list) else dim
    return vector_norm(x, axis=axis, keepdims=keepdim, ord=2 if p in {"fro", None} else p)


def _linalg_norm(
    A: DNDarray,  # noqa: N803
    ord: Any = None,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> DNDarray:
    axis = tuple(dim) if isinstance(dim, list) else dim
    x = A if dtype is None else astype(A, dtype)
    return norm(x, ord, axis, keepdims=keepdim)


def _vector_norm(
    x: DNDarray, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> DNDarray:
    axis = tuple(dim) if isinstance(dim, list) else dim
    return vector_norm(x if dtype is None else astype(x, dtype), axis=axis, keepdims=keepdim, ord=ord)


def _solve_triangular(
    A: DNDarray,  # noqa: N803
    B: DNDarray,  # noqa: N803
    *,
    upper: bool,
    left: bool = True,
    unitriangular: bool = False,
) -> DNDarray:
    if not left:
        raise ValueError("solve_triangular of DNDarrays takes left=True only: transpose both matrices")
    return solve_triangular(A, B, lower=not upper, unit_diagonal=unitriangular)


def _cov(input: DNDarray, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> DNDarray:
    return cov(input, ddof=correction, fweights=fweights, aweights=aweights)


def _take(input: DNDarray, index: Any) -> DNDarray:
    return take(ravel(input), index, 0)


def _select(input: DNDarray, dim: int, index: int) -> DNDarray:
    return input[(*(slice(None),) * normalise_axis(dim, input.ndim, "dim"), index)]


def _cross(input: DNDarray, other: DNDarray, dim: int | None = None) -> DNDarray:
    if dim is None:  # torch's default: the first axis of length 3
        dim = next((axis - input.ndim for axis, n in enumerate(input.shape) if n == 3), -1)
    return cross(input, other, axis=dim)


def _each(function: Callable[..., DNDarray], *tensors: Any) -> Any:
    """Call a function of one array with each of several."""
    if len(tensors) == 1 and not isinstance(tensors[0], (list, tuple)):
        return function(tensors[0])
    return tuple(map(function, tensors[0] if len(tensors) == 1 else tensors))


def _list(tensors: tuple[Any, ...]) -> Sequence[DNDarray]:
    return tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors


def _meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[DNDarray, ...]:
    return meshgrid(*_list(tensors), indexing=indexing or "ij")


def _einsum(equation: str, *operands: Any) -> DNDarray:
    return einsum(equation, *_list(operands))


def _pieces(
    function: Callable[..., list[DNDarray]], input: DNDarray, indices_or_sections: Any
) -> tuple[DNDarray, ...]:
    return tuple(function(input, indices_or_sections))


_EXTREMES = {
    "max": functools.partial(_extreme, max, argmax, maximum, _RESULTS.max),
    "min": functools.partial(_extreme, min, argmin, minimum, _RESULTS.min),
}
_WRITTEN: dict[str, Callable[..., Any]] = {
    **_EXTREMES,
    "add": _add,
    "atleast_1d": functools.partial(_each, atleast_1d),
    "atleast_2d": functools.partial(_each, atleast_2d),
    "atleast_3d": functools.partial(_each, atleast_3d),
    "broadcast_tensors": lambda *tensors: broadcast_arrays(*_list(tensors)),
    "chunk": DNDarray.chunk,
    "clone": lambda input, *, memory_format=None: input.clone(),
    "cov": _cov,
    "cross": _cross,
    "div": _div,
    "divide": _div,
    "dsplit": functools.partial(_pieces, dsplit),
    "einsum": _einsum,
    "flatten": DNDarray.flatten,
    "gradient": _gradient,
    "histogram": _histogram,
    "hsplit": functools.partial(_pieces, hsplit),
    "index_select": DNDarray.index_select,
    "is_complex": DNDarray.is_complex,
    "is_floating_point": DNDarray.is_floating_point,
    "linalg.norm": _linalg_norm,
    "linalg.solve_triangular": _solve_triangular,
    "linalg.vector_norm": _vector_norm,
    "masked_select": DNDarray.masked_select,
    "median": functools.partial(_median, False),
    "meshgrid": _meshgrid,
    "nanmedian": functools.partial(_median, True),
    "narrow": DNDarray.narrow,
    "nonzero": _nonzero,
    "norm": _norm,
    "numel": DNDarray.numel,
    "result_type": result_type,
    "searchsorted": _searchsorted,
    "select": _select,
    "sort": _sort,
    "split": _split,
    "std": functools.partial(_deviation, std),
    "sub": _sub,
    "subtract": _sub,
    "t": lambda input: transpose(input) if input.ndim < 3 else input.t(),
    "take": _take,
    "topk": _topk,
    "true_divide": _div,
    "unique": _unique,
    "var": functools.partial(_deviation, var),
    "vsplit": functools.partial(_pieces, vsplit),
}
