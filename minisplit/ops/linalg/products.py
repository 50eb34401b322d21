"""Products of two arrays: `matmul`, `tensordot`, `vecdot`, and those that are made of them; `cross` and `kron`.

Each but the last two is a contraction (`minisplit.ops.linalg.contraction`): the work is split along the axis for
which the fewest bytes are sent, and torch multiplies the shards. `cross` and `kron` sum over no axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, partial, reduce
from string import ascii_letters

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import all_reduce, all_reduce_gradient
from minisplit.core.layout import Layout, as_index, normalise_axes, normalise_axis
from minisplit.core.performance_warning import warn_if_large
from minisplit.ops.elementwise.alignment import broadcast_shape
from minisplit.ops.elementwise.apply import Torch, apply_elementwise, check_one_communicator, into, operand_shard
from minisplit.ops.linalg.contraction import Contraction, plan_contraction, plan_matmul
from minisplit.ops.linalg.ring import ring_product, travelling_operand
from minisplit.ops.shape.axes import insert_axes, moveaxis
from minisplit.ops.shape.layouts import without_axis
from minisplit.ops.shape.reshape import ravel

_SUM_WARNING = (
    "the work is split along the axis that is summed over, so that every rank gets all of the result. Split an "
    "operand along an axis that the result has"
)
# torch rounds each rank's product to half precision. So halves are multiplied and added up in float32, and rounded
# once: else 257 ones would be 256 in bfloat16.
_WIDE_SUMS = {torch.float16: torch.float32, torch.bfloat16: torch.float32}


def contract(compute: Torch, arrays: Sequence[DNDarray], plan: Contraction, in_ring: bool = True) -> DNDarray:
    """Move the arrays as the plan says, and let torch compute with the shards, in their common dtype.

    A large array that each rank would need whole goes around the ranks in blocks, where `in_ring` says that
    `compute` is the sum of products of the plan's equation.
    """
    comm, dtype = arrays[0]._comm, reduce(torch.promote_types, [x._larray.dtype for x in arrays])
    # torch has no products of bools. In float32 they are right: a sum of ones is never 0.
    compute_dtype = torch.float32 if dtype is torch.bool else dtype
    travelling = travelling_operand(arrays, plan) if in_ring else None
    if plan.summed or travelling is not None:
        compute_dtype = _WIDE_SUMS.get(compute_dtype, compute_dtype)
    _check_multiplies(compute_dtype, arrays[0]._larray.device)
    if plan.summed:
        warn_if_large(plan.result.size * compute_dtype.itemsize * (comm.size - 1), _SUM_WARNING, comm)
    shards = []
    for place, (x, needed) in enumerate(zip(arrays, plan.needed, strict=True)):
        shard = x._larray if place == travelling else operand_shard(x, needed, plan.result)
        if plan.summed and (needed or x._layout).split is None:
            # Each rank uses all of a replicated operand for its part of the sum.
            shard = all_reduce_gradient(shard, comm)
        shards.append(shard.to(compute_dtype))
    product = compute(*shards) if travelling is None else ring_product(shards, arrays, plan, travelling)
    if plan.summed:
        product = all_reduce(product, comm)
    return DNDarray._wrap(product.to(dtype), plan.result, comm)


# Key: dtype and device, of which there are few.
@cache
def _check_multiplies(dtype: torch.dtype, device: torch.device) -> None:
    """Raise torch's error for a dtype of which it has no products, on all ranks and before any message."""
    torch.matmul(*torch.zeros(2, 2, 2, dtype=dtype, device=device))


def contract_labels(
    arrays: Sequence[DNDarray], terms: tuple[str, ...], output: str, compute: Torch = torch.einsum
) -> DNDarray:
    """Contract arrays whose axes have these labels. `compute` takes the equation and the shards."""
    check_one_communicator(arrays)
    itemsizes = tuple(x._larray.itemsize for x in arrays)
    plan = plan_contraction(tuple(x._layout for x in arrays), itemsizes, terms, output)
    return contract(partial(compute, plan.equation), arrays, plan, in_ring=compute is torch.einsum)


def matmul(x1: DNDarray, x2: DNDarray, /, *, out: DNDarray | None = None) -> DNDarray:
    """Multiply matrices: `x1 @ x2`.

    Parameters
    ----------
    x1 : DNDarray
        The left operand, of shape (..., m, k). A 1-d array is a row, and the result does not have its axis.
    x2 : DNDarray
        The right operand, of shape (..., k, n). A 1-d array is a column, and the result does not have its axis.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        The products, of shape (..., m, n); leading axes broadcast. Split along the rows, the columns or a batch
        axis, as the work is. If that is split along the inner axis, replicated. dtypes are promoted by dtype
        alone. Of bools it is whether any pair is true.

    Raises
    ------
    ValueError
        If the shapes do not fit, an operand is 0-d, or the operands are on different communicators.
    TypeError
        If an operand is not a DNDarray.
    RuntimeError
        If torch does not multiply the dtype. It is raised on every rank.

    Communication
    -------------
    Local for batches that are split alike, for rows of `x1` by a replicated `x2`, and for a replicated `x1` by
    columns of `x2`. Otherwise collective: one exchange for each operand that moves, and one allreduce where the
    work is split along the inner axis. The work is split along the axis for which the fewest bytes are sent. An
    operand of more than 16 MiB that each rank needs whole is not gathered: its blocks go around the ranks, by as
    many exchanges as there are other ranks.

    Examples
    --------
    >>> import minisplit as ms
    >>> a, b = ms.ones((6, 2), split=0), ms.ones((2, 3))
    >>> ms.matmul(a, b).split, (a @ b).shape
    (0, (6, 3))
    """
    x1, x2 = as_dndarray(x1, "x1"), as_dndarray(x2, "x2")
    check_one_communicator([x1, x2])
    plan = plan_matmul(x1._layout, x2._layout, (x1._larray.itemsize, x2._larray.itemsize))
    return into(contract(torch.matmul, (x1, x2), plan), out)


def tensordot(
    x1: DNDarray, x2: DNDarray, /, axes: int | tuple[int | Sequence[int], int | Sequence[int]] = 2
) -> DNDarray:
    """Multiply two arrays, summed over pairs of axes.

    Parameters
    ----------
    x1 : DNDarray
        The first array.
    x2 : DNDarray
        The second array.
    axes : int or pair of sequences of int, default 2
        The axes to sum over: those of `x1` and those of `x2`, pair by pair. A number `n` stands for the last `n`
        axes of `x1` and the first `n` axes of `x2`; 0 gives the outer product.

    Returns
    -------
    DNDarray
        The products. They have the other axes of `x1`, then those of `x2`. Split along an axis, as the work is.
        If that is split along an axis that is summed over, replicated. dtypes as of `minisplit.matmul`.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If paired axes are of different extents, an axis is named twice, or the operands are on different
        communicators.
    TypeError
        If an operand is not a DNDarray.

    Communication
    -------------
    Local where the layouts allow it, as in `minisplit.matmul`. Otherwise collective: one exchange for each operand
    that moves, and one allreduce where the work is split along an axis that is summed over.

    Examples
    --------
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
            f"axes that are summed over must have one extent, but axes {left} of {x1.shape} and "
            f"{right} of {x2.shape} differ"
        )
    labels, others = ascii_letters[: x1.ndim], iter(ascii_letters[x1.ndim :])
    summed = {labels[axis] for axis in left}
    term = "".join(labels[left[right.index(axis)]] if axis in right else next(others) for axis in range(x2.ndim))
    return contract_labels((x1, x2), (labels, term), "".join(x for x in labels + term if x not in summed))


def vecdot(x1: DNDarray, x2: DNDarray, /, axis: int = -1, *, out: DNDarray | None = None) -> DNDarray:
    """Return the dot products of vectors; the first vectors are conjugated.

    Parameters
    ----------
    x1 : DNDarray
        The first vectors. Their conjugates are taken.
    x2 : DNDarray
        The second vectors. The axes other than `axis` broadcast.
    axis : int, default -1
        The axis of the vectors in both arrays. It must count from the back if they differ in their number of
        dimensions.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        The dot products: the broadcast shape without `axis`. Split along an axis, as the work is. If that is
        split along `axis`, replicated. dtypes as of `minisplit.matmul`.

    Raises
    ------
    IndexError
        If the axis is out of range.
    ValueError
        If vectors are of different lengths, shapes do not broadcast, or the operands are on different
        communicators.
    TypeError
        If an operand is not a DNDarray.

    Communication
    -------------
    Local for arrays that are split alike along another axis. Otherwise collective: one exchange for each operand
    that moves, and one allreduce where the work is split along `axis`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.vecdot(ms.array([1j, 2.0], split=0), ms.array([1j, 3.0])).item()
    (7+0j)
    """
    x1, x2, axis = check_vectors(x1, x2, axis, "vecdot")
    # Labels count from the back, so that axes that broadcast onto each other have the same.
    terms = ascii_letters[: x1.ndim][::-1], ascii_letters[: x2.ndim][::-1]
    output = max(terms, key=len).replace(ascii_letters[-axis - 1], "")
    return into(contract_labels((x1, x2), terms, output, partial(_vecdot_shards, axis)), out)


def _vecdot_shards(axis: int, equation: str, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    # torch's vecdot is faster than its einsum, but it stores all products: too many for arrays that broadcast, and
    # rounded ones for halves.
    if a.shape == b.shape and a.dtype.itemsize > 2 and (a.is_floating_point() or a.is_complex()):
        products: torch.Tensor = torch.linalg.vecdot(a, b, dim=axis)
        return products
    return _conjugate_einsum(equation, a, b)


def _conjugate_einsum(equation: str, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.einsum(equation, a.conj(), b)


def check_vectors(x1: DNDarray, x2: DNDarray, axis: int, name: str) -> tuple[DNDarray, DNDarray, int]:
    """Return two arrays of vectors, and their axis counted from the back. Raise an error unless they fit."""
    x1, x2 = as_dndarray(x1, "x1"), as_dndarray(x2, "x2")
    if as_index(axis, "axis") >= 0 and x1.ndim != x2.ndim:
        raise ValueError(
            f"axis {axis} of {name} names different axes of {x1.shape} and {x2.shape}: count it from the back"
        )
    ndim = min(x1.ndim, x2.ndim)
    axis = normalise_axis(axis, ndim, "axis") - ndim
    if x1.shape[axis] != x2.shape[axis]:
        raise ValueError(
            f"{name} needs vectors of one length, got {x1.shape[axis]} and {x2.shape[axis]} along axis {axis} of "
            f"shapes {x1.shape} and {x2.shape}"
        )
    broadcast_shape([x1.shape, x2.shape])
    return x1, x2, axis


def dot(x1: DNDarray, x2: DNDarray, /, *, out: DNDarray | None = None) -> DNDarray:
    """Multiply arrays as NumPy's `dot`, summed over the last axis of `x1` and the last but one of `x2`.

    It is `minisplit.matmul` for vectors and matrices, and `minisplit.multiply` if one is 0-d.

    Parameters
    ----------
    x1 : DNDarray
        The first array.
    x2 : DNDarray
        The second array. If it is 1-d, its only axis is summed over.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        The products. Split as those of `minisplit.tensordot`.

    Raises
    ------
    ValueError
        If the axes are of different extents, or the operands are on different communicators.
    TypeError
        If an operand is not a DNDarray.

    Communication
    -------------
    Local or collective as `minisplit.tensordot`, with its messages.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.dot(ms.arange(3, split=0), ms.arange(3, split=0)).item()
    5
    """
    return into(_sum_over_last(x1, x2, -2), out)


def inner(x1: DNDarray, x2: DNDarray, /) -> DNDarray:
    """Multiply arrays as NumPy's `inner`, summed over the last axes of both.

    It is `minisplit.multiply` if one is 0-d.

    Parameters
    ----------
    x1 : DNDarray
        The first array.
    x2 : DNDarray
        The second array.

    Returns
    -------
    DNDarray
        The products. Split as those of `minisplit.tensordot`.

    Raises
    ------
    ValueError
        If the axes are of different extents, or the operands are on different communicators.
    TypeError
        If an operand is not a DNDarray.

    Communication
    -------------
    Local or collective as `minisplit.tensordot`, with its messages.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.inner(ms.ones((2, 3), split=0), ms.ones((4, 3))).shape
    (2, 4)
    """
    return _sum_over_last(x1, x2, -1)


def _sum_over_last(x1: DNDarray, x2: DNDarray, axis: int) -> DNDarray:
    """Multiply arrays, summed over the last axis of `x1` and this one of `x2`. 0-d arrays are factors."""
    if not as_dndarray(x1, "x1").ndim or not as_dndarray(x2, "x2").ndim:
        return x1 * x2
    return tensordot(x1, x2, axes=(-1, max(axis, -x2.ndim)))


def vdot(x1: DNDarray, x2: DNDarray, /) -> DNDarray:
    """Return the sum of the products of all elements of two arrays; the first array is conjugated.

    Parameters
    ----------
    x1 : DNDarray
        The first array. Its conjugate is taken.
    x2 : DNDarray
        The second array, of as many elements. Arrays of different shapes are flattened.

    Returns
    -------
    DNDarray
        The sum, 0-d and replicated.

    Raises
    ------
    ValueError
        If the arrays are of different sizes, or on different communicators.
    TypeError
        If an operand is not a DNDarray.

    Communication
    -------------
    Local for replicated arrays. Otherwise collective: one allreduce, one exchange where an array moves to the
    layout of the other, and the messages of `minisplit.ravel` where the shapes differ.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.vdot(ms.ones((2, 3), split=1), ms.ones((2, 3), split=1)).item()
    6.0
    """
    if as_dndarray(x1, "x1").size != as_dndarray(x2, "x2").size:
        raise ValueError(f"vdot needs arrays of one size, got shapes {x1.shape} and {x2.shape}")
    if x1.shape != x2.shape:
        x1, x2 = x1.ravel(), x2.ravel()
    term = ascii_letters[: x1.ndim]
    return contract_labels((x1, x2), (term, term), "", _conjugate_einsum)


def outer(x1: DNDarray, x2: DNDarray, /, *, out: DNDarray | None = None) -> DNDarray:
    """Return the products of each element of a vector and each of another: `x1[i] * x2[j]` at (i, j).

    Parameters
    ----------
    x1 : DNDarray
        The first vector. Of arrays with several axes all elements count, as one row.
    x2 : DNDarray
        The second vector.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        The matrix of the products. Split along the axis of one operand; no element of this operand moves.

    Raises
    ------
    ValueError
        If the operands are on different communicators.
    TypeError
        If an operand is not a DNDarray.

    Communication
    -------------
    Local if one operand is replicated. Otherwise collective: one exchange, which gathers an operand. Where an
    operand has several axes also that of `ravel`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.outer(ms.arange(3, split=0), ms.arange(2)).tolist()
    [[0, 0], [0, 1], [0, 2]]
    """
    x1, x2 = as_dndarray(x1, "x1"), as_dndarray(x2, "x2")
    x1, x2 = (x if x.ndim == 1 else ravel(x) for x in (x1, x2))
    return into(tensordot(x1, x2, 0), out)


def cross(
    x1: DNDarray,
    x2: DNDarray,
    /,
    axisa: int = -1,
    axisb: int = -1,
    axisc: int = -1,
    axis: int = -1,
) -> DNDarray:
    """Return the cross products of vectors of length 3.

    Parameters
    ----------
    x1 : DNDarray
        The first vectors.
    x2 : DNDarray
        The second vectors. The axes other than `axis` broadcast.
    axisa, axisb, axisc : int, default -1
        The axes of the vectors in `x1`, `x2` and the result.
    axis : int, default -1
        The axis of the vectors in all arrays, where these three are not given. It must count from the back if the
        arrays differ in their number of dimensions.

    Returns
    -------
    DNDarray
        The cross products, of the broadcast shape. Split as the result of an elementwise function, but not along
        `axis`.

    Raises
    ------
    IndexError
        If the axis is out of range.
    ValueError
        If vectors are not of length 3, shapes do not broadcast, or the operands are on different communicators.
    TypeError
        If an operand is not a DNDarray.

    Communication
    -------------
    Local where the layouts agree, or only one operand is split. Otherwise collective: one exchange
    for each operand that moves. An operand that is split along `axis` is split along its longest
    other axis first, by one exchange.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.cross(ms.array([1, 0, 0], split=0), ms.array([0, 1, 0])).tolist()
    [0, 0, 1]
    """
    if {axisa, axisb, axisc} != {-1}:
        x1, x2 = moveaxis(x1, axisa, -1), moveaxis(x2, axisb, -1)
        return moveaxis(cross(x1, x2), -1, axisc)
    x1, x2, axis = check_vectors(x1, x2, axis, "cross")
    if x1.shape[axis] != 3:
        raise ValueError(f"cross needs vectors of length 3, got {x1.shape[axis]} along axis {axis} of {x1.shape}")
    operands = [x._align(without_axis(x.layout, x.ndim + axis)) for x in (x1, x2)]
    return apply_elementwise(partial(_cross_shards, axis), operands, "cross")


def _cross_shards(axis: int, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    # Unlike torch.linalg.cross, this promotes dtypes and broadcasts axes that only one operand has.
    return a.roll(-1, axis) * b.roll(-2, axis) - a.roll(-2, axis) * b.roll(-1, axis)


def kron(x1: DNDarray, x2: DNDarray, /) -> DNDarray:
    """Return the Kronecker product: each element of `x1` times all of `x2`, side by side.

    Parameters
    ----------
    x1 : DNDarray
        The first array. The operand with fewer axes gets axes of extent 1 at the front.
    x2 : DNDarray
        The second array.

    Returns
    -------
    DNDarray
        The product. Its extents are the products of the extents of the operands. Split along the split axis of one
        operand: of the larger one, if both are split. If that is `x2`, the counts are the default ones.

    Raises
    ------
    ValueError
        If the operands are on different communicators.
    TypeError
        If an operand is not a DNDarray.

    Communication
    -------------
    Local if `x2` is replicated. Otherwise collective: one exchange for each split operand. The operand along which
    the result is not split is gathered. If the result is split as `x2`, each rank gets the indices of `x2` that
    its part of the result repeats.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.kron(ms.array([1, 10], split=0), ms.array([1, 2])).tolist()
    [1, 2, 10, 20]
    """
    x1, x2 = as_dndarray(x1, "x1"), as_dndarray(x2, "x2")
    check_one_communicator([x1, x2])
    ndim = max(x1.ndim, x2.ndim)
    left, right = insert_axes(x1, range(ndim - x1.ndim)), insert_axes(x2, range(ndim - x2.ndim))
    shape = tuple(n * m for n, m in zip(left.shape, right.shape, strict=True))
    if right.split is not None and (left.split is None or left.nbytes < right.nbytes):
        return _kron_split_as_right(left, right, Layout(shape, right.split, x1._comm.size))
    # An index of `x1` makes a block of as many indices as `x2` has, which is on the rank of that index.
    counts = left.counts and tuple(n * right.shape[left.split or 0] for n in left.counts)
    result = Layout(shape, left.split, x1._comm.size, counts)
    dtype = torch.promote_types(x1.dtype, x2.dtype)
    return DNDarray(torch.kron(left.larray.to(dtype), _gather(right, result).to(dtype)), result, x1._comm)


def _gather(x: DNDarray, result: Layout) -> torch.Tensor:
    """Return a whole operand, all of which each rank uses for its shard. Collective if the operand is split."""
    return operand_shard(x, x.layout.with_split(None), result)


def _kron_split_as_right(left: DNDarray, right: DNDarray, result: Layout) -> DNDarray:
    """Return the Kronecker product in the layout `result`, whose split axis is that of `right`. Collective."""
    # Along the split axis, of extent m in `right`, index i of the result is the product of index i // m of `left`
    # and index i % m of `right`. Along the others it is a product of a column by a row.
    split, extent = right.split or 0, max(right.layout.extent, 1)
    indices = torch.arange(result.extent, device=right.device)
    repeated = right[(slice(None),) * split + (indices % extent,)]
    own = indices[result.box(right.comm.rank)[split]] // extent
    columns, rows = [], []
    for axis, (n, m) in enumerate(zip(left.shape, right.shape, strict=True)):
        columns += [len(own)] if axis == split else [n, 1]
        rows += [len(own)] if axis == split else [1, m]
    dtype = torch.promote_types(left.dtype, right.dtype)
    a = _gather(left, result).index_select(split, own).to(dtype).reshape(columns)
    b = repeated.larray.to(dtype).reshape(rows)
    return DNDarray((a * b).reshape(result.lshape(right.comm.rank)), result, right.comm)
