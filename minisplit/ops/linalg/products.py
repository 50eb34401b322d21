"""Products of two arrays: `matmul`, `tensordot`, `vecdot` and what is made of them.

Each is a contraction (`minisplit.ops.linalg.contraction`): the ranks share out one of its axes, the one
for which the fewest bytes are sent, and torch multiplies what each has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial, reduce
from string import ascii_letters

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import all_reduce, all_reduce_gradient
from minisplit.core.layout import Layout, as_index, normalise_axis
from minisplit.core.performance_warning import warn_if_large
from minisplit.ops.elementwise.alignment import broadcast_shape
from minisplit.ops.elementwise.apply import check_one_communicator, operand_shard
from minisplit.ops.elementwise.arithmetic import multiply
from minisplit.ops.linalg.contraction import Contraction, contraction, matrix_product
from minisplit.ops.shape.layouts import normalise_axes
from minisplit.ops.shape.manipulation import ravel

Compute = Callable[..., torch.Tensor]

_ADDED_UP = (
    "the axis that is summed over is shared out, so that every rank gets all of the result. Split an operand "
    "along an axis that the result has"
)
# In halves torch rounds each rank's product, so these are added up in float32 and rounded once.
_SUMMED_IN = {torch.float16: torch.float32, torch.bfloat16: torch.float32}


def contracted(compute: Compute, arrays: Sequence[DNDarray], way: Contraction) -> DNDarray:
    """Bring the arrays where `way` has them, and let torch compute with the shards, in their common dtype."""
    comm = arrays[0]._comm
    dtype = arrays[0]._larray.dtype
    if any(x._larray.dtype is not dtype for x in arrays):
        dtype = reduce(torch.promote_types, [x._larray.dtype for x in arrays])
    kind = dtype
    if dtype is torch.bool:  # of which torch has no products; sums of ones are never 0
        kind = torch.float32
    elif way.summed:
        kind = _SUMMED_IN.get(dtype, dtype)
    _check_computes(kind, arrays[0]._larray.device)
    if way.summed:
        warn_if_large(way.result.size * kind.itemsize * (comm.size - 1), _ADDED_UP, comm)
    shards = [_part(x, wanted, way).to(kind) for x, wanted in zip(arrays, way.needed, strict=True)]
    made = compute(*shards)
    if way.summed:
        made = all_reduce(made, comm)
    return DNDarray._wrap(made.to(dtype), way.result, comm)


@cache
def _check_computes(dtype: torch.dtype, device: torch.device) -> None:
    """torch's error for a dtype of which it has no products, before any message."""
    torch.matmul(*torch.zeros(2, 2, 2, dtype=dtype, device=device))


def _part(x: DNDarray, wanted: Layout | None, way: Contraction) -> torch.Tensor:
    """What this rank needs of an operand."""
    shard = operand_shard(x, wanted, way.result)
    # Of what is whole on all ranks each uses all, but for a part of the sum.
    return all_reduce_gradient(shard, x._comm) if way.summed and (wanted or x._layout).split is None else shard


def labelled(
    arrays: Sequence[DNDarray], terms: tuple[str, ...], output: str, compute: Compute = torch.einsum
) -> DNDarray:
    """The contraction of arrays whose axes have these labels; `compute` takes the equation and the shards."""
    check_one_communicator(arrays)
    itemsizes = tuple(x._larray.itemsize for x in arrays)
    way = contraction(tuple(x._layout for x in arrays), itemsizes, terms, output)
    return contracted(partial(compute, way.equation), arrays, way)


def matmul(x1: DNDarray, x2: DNDarray, /) -> DNDarray:
    """Matrix product of two arrays; leading axes are batches and broadcast, as in NumPy; `x1 @ x2`.

    A 1-d operand is a row on the left, a column on the right, and its axis is left out of the result.
    Local where the operands' layouts allow it: batches that are cut alike, rows of `x1` by a replicated `x2`, a
    replicated `x1` by columns of `x2`. Else collective: of the ways to share out the work the one that sends the
    fewest bytes; the result is split along the rows, columns or batch axis that
    ranks share out, and replicated where they share out the inner axis. dtypes are promoted by dtype alone; of
    bools it is whether any pair is true.

    Raises ValueError for shapes that do not fit, 0-d arrays and operands on different communicators, TypeError for
    what is no DNDarray, and torch's error for dtypes that it does not multiply: all on every rank.

    >>> import minisplit as ms
    >>> a, b = ms.ones((6, 2), split=0), ms.ones((2, 3))
    >>> ms.matmul(a, b).split, (a @ b).shape
    (0, (6, 3))
    """
    x1, x2 = as_dndarray(x1, "x1"), as_dndarray(x2, "x2")
    if x1._comm is not x2._comm:
        check_one_communicator([x1, x2])
    way = matrix_product(x1._layout, x2._layout, (x1._larray.itemsize, x2._larray.itemsize))
    return contracted(torch.matmul, (x1, x2), way)


def tensordot(
    x1: DNDarray, x2: DNDarray, /, *, axes: int | tuple[int | Sequence[int], int | Sequence[int]] = 2
) -> DNDarray:
    """Product of two arrays, summed over axes: `axes[0]` of `x1` and `axes[1]` of `x2`, pair by pair.

    axes: a number stands for so many last axes of `x1` and first ones of `x2`; 0 for the outer product.

    The result has the other axes of `x1`, then those of `x2`. Collective but where the layouts allow it to be
    local, as in `matmul`: the ranks share out an axis of the result, which is then split along it, or one of those
    summed over; then it is replicated, by one allreduce. dtypes as there.

    Raises ValueError for axes of different extents or named twice, IndexError for one out of range, and what
    `matmul` does.

    >>> import minisplit as ms
    >>> ms.tensordot(ms.ones((2, 3, 4), split=1), ms.ones((4, 2)), axes=((2, 0), (0, 1))).tolist()
    [8.0, 8.0, 8.0]
    """
    x1, x2 = as_dndarray(x1, "x1"), as_dndarray(x2, "x2")
    if isinstance(axes, Iterable):
        first, second = axes
        left, right = normalise_axes(first, x1.ndim, "axes[0]"), normalise_axes(second, x2.ndim, "axes[1]")
    else:
        number = as_index(axes, "axes")
        if not 0 <= number <= min(x1.ndim, x2.ndim):
            raise ValueError(
                f"axes must be from 0 to {min(x1.ndim, x2.ndim)} for shapes {x1.shape} and {x2.shape}, got {axes}"
            )
        left, right = tuple(range(x1.ndim - number, x1.ndim)), tuple(range(number))
    if [x1.shape[axis] for axis in left] != [x2.shape[axis] for axis in right]:
        raise ValueError(
            f"axes that are summed over have one extent, but axes {left} of {x1.shape} and {right} of {x2.shape} "
            "differ"
        )
    names = ascii_letters[: x1.ndim]
    others = iter(ascii_letters[x1.ndim :])
    term = "".join(names[left[right.index(axis)]] if axis in right else next(others) for axis in range(x2.ndim))
    summed = {names[axis] for axis in left}
    return labelled((x1, x2), (names, term), "".join(name for name in names + term if name not in summed))


def vecdot(x1: DNDarray, x2: DNDarray, /, *, axis: int = -1) -> DNDarray:
    """Products of the vectors along `axis` of two arrays, the conjugates of those of `x1`; other axes broadcast.

    axis: of both arrays, counted from the back; from the front only where they have as many dimensions.

    Collective but where the layouts allow it to be local: arrays that are cut alike along another axis. The result
    is replicated where the ranks share out the vectors, by one allreduce. dtypes as of `matmul`.

    Raises ValueError for vectors of different lengths and shapes that do not broadcast, IndexError for an axis
    out of range, and what `matmul` does.

    >>> import minisplit as ms
    >>> ms.vecdot(ms.array([1j, 2.0], split=0), ms.array([1j, 3.0])).item()
    (7+0j)
    """
    x1, x2, axis = along(x1, x2, axis, "vecdot")
    terms = ascii_letters[: x1.ndim][::-1], ascii_letters[: x2.ndim][::-1]
    output = max(terms, key=len).replace(ascii_letters[-axis - 1], "")

    def compute(equation: str, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        # Faster, but it keeps all products: of arrays that broadcast too many, and of halves rounded ones.
        if a.shape == b.shape and a.dtype.itemsize > 2 and (a.is_floating_point() or a.is_complex()):
            found: torch.Tensor = torch.linalg.vecdot(a, b, dim=axis)
            return found
        return _conjugate_einsum(equation, a, b)

    return labelled((x1, x2), terms, output, compute)


def _conjugate_einsum(equation: str, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.einsum(equation, a.conj(), b)


def along(x1: DNDarray, x2: DNDarray, axis: int, name: str) -> tuple[DNDarray, DNDarray, int]:
    """Two arrays that broadcast, but for an axis of both, and this axis counted from the back."""
    x1, x2 = as_dndarray(x1, "x1"), as_dndarray(x2, "x2")
    least = min(x1.ndim, x2.ndim)
    if as_index(axis, "axis") >= 0 and x1.ndim != x2.ndim:
        raise ValueError(
            f"axis {axis} of {name} names different axes of {x1.shape} and {x2.shape}: count it from the back"
        )
    axis = normalise_axis(axis, least, "axis") - least
    if x1.shape[axis] != x2.shape[axis]:
        raise ValueError(
            f"{name} needs vectors of one length, got {x1.shape[axis]} and {x2.shape[axis]} along axis {axis} of "
            f"shapes {x1.shape} and {x2.shape}"
        )
    broadcast_shape([x1.shape, x2.shape])
    return x1, x2, axis


def dot(x1: DNDarray, x2: DNDarray, /) -> DNDarray:
    """NumPy's `dot`: summed over the last axis of `x1` and the last but one of `x2`, or its only one.

    So it is `matmul` for vectors and matrices, and `multiply` where one is 0-d. Local or collective as
    `tensordot`, and with its errors.

    >>> import minisplit as ms
    >>> ms.dot(ms.arange(3, split=0), ms.arange(3, split=0)).item()
    5
    """
    return _summed(x1, x2, -2)


def inner(x1: DNDarray, x2: DNDarray, /) -> DNDarray:
    """NumPy's `inner`: summed over the last axes of both, and `multiply` where one is 0-d.

    Local or collective as `tensordot`, and with its errors.

    >>> import minisplit as ms
    >>> ms.inner(ms.ones((2, 3), split=0), ms.ones((4, 3))).shape
    (2, 4)
    """
    return _summed(x1, x2, -1)


def _summed(x1: DNDarray, x2: DNDarray, axis: int) -> DNDarray:
    if not as_dndarray(x1, "x1").ndim or not as_dndarray(x2, "x2").ndim:
        return multiply(x1, x2)
    return tensordot(x1, x2, axes=(-1, max(axis, -x2.ndim)))


def vdot(x1: DNDarray, x2: DNDarray, /) -> DNDarray:
    """The sum of the products of all elements of two arrays of one size, the conjugates of those of `x1`.

    Arrays of different shapes are raveled, see `ravel`. Collective where one is split, by one allreduce, and what
    brings them to one layout; the result is replicated. ValueError for different sizes, and what `matmul` raises.

    >>> import minisplit as ms
    >>> ms.vdot(ms.ones((2, 3), split=1), ms.ones((2, 3), split=1)).item()
    6.0
    """
    if as_dndarray(x1, "x1").size != as_dndarray(x2, "x2").size:
        raise ValueError(f"vdot needs arrays of one size, got shapes {x1.shape} and {x2.shape}")
    if x1.shape != x2.shape:
        x1, x2 = ravel(x1), ravel(x2)
    term = ascii_letters[: x1.ndim]
    return labelled((x1, x2), (term, term), "", _conjugate_einsum)


def outer(x1: DNDarray, x2: DNDarray, /) -> DNDarray:
    """The products of each element of a 1-d array and each of another: `x1[i] * x2[j]` at (i, j).

    The result is split along the axis of one operand, of which no element moves. Local where the other is
    replicated; else collective: that is gathered. ValueError for other than 1-d arrays, and what `matmul` raises.

    >>> import minisplit as ms
    >>> ms.outer(ms.arange(3, split=0), ms.arange(2)).tolist()
    [[0, 0], [0, 1], [0, 2]]
    """
    if as_dndarray(x1, "x1").ndim != 1 or as_dndarray(x2, "x2").ndim != 1:
        raise ValueError(f"outer needs 1-d arrays, got shapes {x1.shape} and {x2.shape}; ravel them, say")
    return tensordot(x1, x2, axes=0)
