"""Operations on DNDarrays, each under its public name: plain torch on the shards, once operands are aligned.

`minisplit` has the same names. The methods of `DNDarray` call them here.
"""

import sys

from minisplit.core.array import bind_operations
from minisplit.ops import (  # noqa: F401 - methods call them
    autograd, dtensor, fft, interop, linalg, numpy_functions, torch_functions,
)
from minisplit.ops.data_types import (
    Finfo, Iinfo, __array_namespace_info__, astype, can_cast, finfo, iinfo, isdtype, result_type,
)
from minisplit.ops.display import print0, set_printoptions, show
from minisplit.ops.elementwise.apply import in_place  # noqa: F401 - as `x += y` does
from minisplit.ops.elementwise.arithmetic import (
    abs, add, ceil, divide, divmod, fix, floor, floor_divide, fmod, gcd, heaviside, lcm, modf, multiply,
    negative, positive, remainder, round, sign, subtract, trunc,
)
from minisplit.ops.elementwise.comparison import (
    bitwise_and, bitwise_invert, bitwise_left_shift, bitwise_or, bitwise_right_shift, bitwise_xor, equal, greater,
    greater_equal, isclose, less, less_equal, logical_and, logical_not, logical_or, logical_xor, not_equal,
)
from minisplit.ops.elementwise.exponentials import (
    exp, exp2, expm1, log, log1p, log2, log10, logaddexp, logaddexp2, pow, reciprocal, sqrt, square,
)
from minisplit.ops.elementwise.floating import (
    angle, conj, copysign, imag, iscomplex, isfinite, isinf, isnan, isneginf, isposinf, isreal, nan_to_num,
    nextafter, real, signbit,
)
from minisplit.ops.elementwise.selection import (
    choose, clip, copyto, fmax, fmin, maximum, minimum, piecewise, select, where,
)
from minisplit.ops.elementwise.trigonometry import (
    acos, acosh, asin, asinh, atan, atan2, atanh, cos, cosh, deg2rad, hypot, rad2deg, sin, sinc, sinh, tan, tanh,
)
from minisplit.ops.halos import halo, map_halo, sliding_window_view
from minisplit.ops.interpolation import interp
from minisplit.ops.linalg.covariance import corrcoef, cov
from minisplit.ops.linalg.einsum import einsum
from minisplit.ops.linalg.norms import norm
from minisplit.ops.linalg.products import cross, dot, inner, kron, matmul, outer, tensordot, vdot, vecdot
from minisplit.ops.polynomials import polyfit, polyval, vander
from minisplit.ops.reductions.composed import (
    allclose, array_equal, average, logsumexp, nanmax, nanmean, nanmin, nanprod, nanstd, nansum, nanvar, ptp,
)
from minisplit.ops.reductions.cumulative import (
    cumprod, cumsum, cumulative_prod, cumulative_sum, nancumprod, nancumsum,
)
from minisplit.ops.reductions.higher_moments import kurtosis, skew
from minisplit.ops.reductions.functions import all, any, count_nonzero, max, mean, min, prod, std, sum, var
from minisplit.ops.shape.axes import (
    atleast_1d, atleast_2d, atleast_3d, expand_dims, matrix_transpose, moveaxis, permute_dims, rollaxis, squeeze,
    swapaxes, transpose,
)
from minisplit.ops.shape.broadcast import broadcast_arrays, broadcast_shapes, broadcast_to, meshgrid
from minisplit.ops.shape.diagonal import diag, diagonal, fill_diagonal, trace, tri, tril, triu
from minisplit.ops.shape.flip import flip, fliplr, flipud, roll, rot90
from minisplit.ops.shape.join import append, column_stack, concat, concatenate, dstack, hstack, stack, vstack
from minisplit.ops.shape.pad import pad
from minisplit.ops.shape.reshape import flatten, ravel, reshape
from minisplit.ops.shape.split import array_split, dsplit, hsplit, split, unstack, vsplit
from minisplit.ops.shape.take import compress, extract, take, take_along_axis
from minisplit.ops.shape.tile import repeat, tile
from minisplit.ops.sorting.histograms import bincount, bucketize, digitize, histogram, histogram2d
from minisplit.ops.sorting.quantiles import median, nanmedian, nanpercentile, nanquantile, percentile, quantile
from minisplit.ops.sorting.search import (
    argmax, argmin, argwhere, flatnonzero, nanargmax, nanargmin, nonzero, searchsorted,
)
from minisplit.ops.sorting.sets import (
    UniqueAll, UniqueCounts, UniqueInverse, intersect1d, isin, setdiff1d, setxor1d, union1d, unique, unique_all,
    unique_counts, unique_inverse, unique_values,
)
from minisplit.ops.sorting.sort import argsort, sort, topk
from minisplit.ops.stencil import convolve, convolve2d, diff, ediff1d, gradient, trapezoid, unwrap

__all__ = [
    "Finfo", "Iinfo", "UniqueAll", "UniqueCounts", "UniqueInverse", "__array_namespace_info__", "abs", "acos",
    "acosh", "add", "all", "allclose", "angle", "any", "append", "argmax", "argmin", "argsort", "argwhere",
    "array_equal", "array_split", "asin", "asinh", "astype", "atan", "atan2", "atanh", "atleast_1d",
    "atleast_2d", "atleast_3d", "average", "bincount", "bitwise_and", "bitwise_invert", "bitwise_left_shift",
    "bitwise_or", "bitwise_right_shift", "bitwise_xor", "broadcast_arrays", "broadcast_shapes", "broadcast_to",
    "bucketize", "can_cast", "ceil", "choose", "clip", "column_stack", "compress", "concat", "concatenate",
    "conj", "convolve", "convolve2d", "copysign", "copyto", "corrcoef", "cos", "cosh", "count_nonzero", "cov",
    "cross", "cumprod", "cumsum", "cumulative_prod", "cumulative_sum", "deg2rad", "diag", "diagonal", "diff",
    "digitize", "divide", "divmod", "dot", "dsplit", "dstack", "ediff1d", "einsum", "equal", "exp", "exp2",
    "expand_dims", "expm1", "extract", "fft", "fill_diagonal", "finfo", "fix", "flatnonzero", "flatten", "flip",
    "fliplr", "flipud", "floor", "floor_divide", "fmax", "fmin", "fmod", "gcd", "gradient", "greater",
    "greater_equal", "halo", "heaviside", "histogram", "histogram2d", "hsplit", "hstack", "hypot", "iinfo",
    "imag", "inner", "interp", "intersect1d", "isclose", "iscomplex", "isdtype", "isfinite", "isin", "isinf",
    "isnan", "isneginf", "isposinf", "isreal", "kron", "kurtosis", "lcm", "less", "less_equal", "linalg", "log",
    "log1p", "log2", "log10", "logaddexp", "logaddexp2", "logical_and", "logical_not", "logical_or",
    "logical_xor", "logsumexp", "map_halo", "matmul", "matrix_transpose", "max", "maximum", "mean", "median",
    "meshgrid", "min", "minimum", "modf", "moveaxis", "multiply", "nan_to_num", "nanargmax", "nanargmin",
    "nancumprod", "nancumsum", "nanmax", "nanmean", "nanmedian", "nanmin", "nanpercentile", "nanprod",
    "nanquantile", "nanstd", "nansum", "nanvar", "negative", "nextafter", "nonzero", "norm", "not_equal",
    "outer", "pad", "percentile", "permute_dims", "piecewise", "polyfit", "polyval", "positive", "pow", "print0",
    "prod", "ptp", "quantile", "rad2deg", "ravel", "real", "reciprocal", "remainder", "repeat", "reshape",
    "result_type", "roll", "rollaxis", "rot90", "round", "searchsorted", "select", "set_printoptions",
    "setdiff1d", "setxor1d", "show", "sign", "signbit", "sin", "sinc", "sinh", "skew", "sliding_window_view",
    "sort", "split", "sqrt", "square", "squeeze", "stack", "std", "subtract", "sum", "swapaxes", "take",
    "take_along_axis", "tan", "tanh", "tensordot", "tile", "topk", "trace", "transpose", "trapezoid", "tri",
    "tril", "triu", "trunc", "union1d", "unique", "unique_all", "unique_counts", "unique_inverse",
    "unique_values", "unstack", "unwrap", "vander", "var", "vdot", "vecdot", "vsplit", "vstack", "where",
]

bind_operations(sys.modules[__name__])
