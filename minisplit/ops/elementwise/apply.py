"""How elementwise functions of torch are applied to DNDarrays.

`unary` and `binary` do it for one and two operands. They are called by every function of this folder, and begin
with the case that programs meet in loops: arrays of one layout. `apply_elementwise` takes any operands, `in_place`
changes an array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial, reduce
from typing import Any

import numpy as np
import torch

from minisplit.core.array import DNDarray, Operand, as_dndarray
from minisplit.core.collectives import all_reduce_gradient, redistribute
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication
from minisplit.core.conversion import tensor_of_numbers
from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout
from minisplit.core.performance_warning import warn_of_move
from minisplit.core.pytorch.dtypes import TORCH_INTS, is_inexact, nearest_float
from minisplit.core.pytorch.transforms import is_followed
from minisplit.ops.elementwise import special_cases
from minisplit.ops.elementwise.alignment import align, align_in_place

Torch = Callable[..., torch.Tensor]
# Whether an operation on these operands may fail on one rank alone, for the values that only this rank has.
MayFail = Callable[[Any, Any], bool]

# Python's numbers that every array takes. An int must be in the range of its integers.
_TAKEN = frozenset({float, complex, bool})
_SHIFTS = frozenset({"bitwise_left_shift", "bitwise_right_shift"})
_BITS = frozenset({"bitwise_and", "bitwise_or", "bitwise_xor"})
# Functions of which the result does not have the dtype of their integers: they take a number that this lacks.
_WIDE = frozenset({
    "atan2", "copysign", "divide", "hypot", "isclose", "logaddexp", "logaddexp2", "logical_and", "logical_or",
    "logical_xor", "nextafter",
})  # fmt: skip
_new = object.__new__


def unary(function: Torch, x: DNDarray, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Apply an elementwise function of torch that returns new memory to one array. Local without the last two.

    `out` and `where`: see `into`.
    """
    if type(x) is not DNDarray:
        x = as_dndarray(x)
    # What `DNDarray._wrap` does, written out here and in `binary`: the call would take 0.06 us more, where `sin`
    # of a small array takes 0.25 us beside torch's own time.
    result = _new(DNDarray)
    result._larray = function(x._larray)
    result._layout = x._layout
    result._comm = x._comm
    return result if out is None and where is True else into(result, out, where)


def binary(
    function: Torch,
    name: str,
    x1: Operand,
    x2: Operand,
    numbers: int = 2,
    may_fail: MayFail | None = None,
    out: DNDarray | None = None,
    where: DNDarray | bool = True,
) -> DNDarray:
    """Apply an elementwise function of torch to two arrays, or to an array and a number.

    `numbers` says in how many places torch's function takes a Python number: 2, 1 (the second only) or 0.
    Elsewhere it is given a 0-d tensor. `may_fail` says whether the operation may fail on one rank alone: then the
    ranks agree on that, which costs a message. `out` and `where`: see `into`.
    """
    if out is not None or where is not True:
        return into(binary(function, name, x1, x2, numbers, may_fail), out, where)
    if type(x1) is DNDarray:
        layout, comm = x1._layout, x1._comm
        if type(x2) is DNDarray:
            value: Any = x2._larray
            is_local = comm is x2._comm and (layout is x2._layout or layout == x2._layout)
        else:
            # All integer dtypes have the ints from 0 to 127. For others the dtype is looked up, in 0.2 us.
            value, kind = x2, type(x2)
            is_local = numbers != 0 and (
                kind in _TAKEN or (kind is int and (0 <= value < 128 or value in TORCH_INTS[x1._larray.dtype]))
            )
        if is_local and (may_fail is None or not may_fail(x1, x2)):
            result = _new(DNDarray)
            result._larray = function(x1._larray, value)
            result._layout = layout
            result._comm = comm
            return result
    elif type(x2) is DNDarray and numbers == 2 and may_fail is None:
        value, kind = x1, type(x1)
        if kind in _TAKEN or (kind is int and (0 <= value < 128 or value in TORCH_INTS[x2._larray.dtype])):
            return DNDarray._wrap(function(value, x2._larray), x2._layout, x2._comm)
    takes_numbers = numbers == 2 or (numbers == 1 and isinstance(x1, DNDarray))
    return apply_elementwise(partial(call_promoted, function), (x1, x2), name, takes_numbers, may_fail)


def apply_elementwise(
    function: Torch,
    operands: Sequence[Any],
    name: str,
    takes_numbers: bool = True,
    may_fail: MayFail | None = None,
) -> DNDarray:
    """Apply an elementwise function of torch to DNDarrays and numbers, where the fewest bytes have to move for it.

    `takes_numbers` says whether the function takes the numbers as they are. `may_fail`: see `binary`.
    """
    arguments = [
        x if type(x) is DNDarray else _check_operand(x, place, name) for place, x in enumerate(operands, 1)
    ]
    arrays = [x for x in arguments if isinstance(x, DNDarray)]
    if not arrays:
        raise TypeError(f"an operand of {name} must be a DNDarray, got {' and '.join(map(repr, arguments))}")
    check_one_communicator(arrays)
    comm, like = arrays[0]._comm, arrays[0]._larray
    agreed = _agreement(comm, name, may_fail, arguments)
    arguments = [_fitting(arrays, x, name) if type(x) is int else x for x in arguments]
    if not takes_numbers:
        arguments = [x if isinstance(x, DNDarray) else _scalar(x, like) for x in arguments]
    alignment = align(tuple([x._layout for x in arrays]), tuple([x._larray.itemsize for x in arrays]))
    if alignment.messages:
        # What torch refuses for the dtypes alone is refused before any message, and so on all ranks.
        function(*[_without_data(x) if isinstance(x, DNDarray) else x for x in arguments])
    needed = iter(alignment.needed)
    for place, x in enumerate(arguments):
        if isinstance(x, DNDarray):
            arguments[place] = operand_shard(x, next(needed), alignment.result)
    with agreed:
        shard = function(*arguments)
    # The operand's own layout, not an equal one: the next operation sees at once that two are the same.
    layout = alignment.result if alignment.like is None else arrays[alignment.like]._layout
    return DNDarray._wrap(shard, layout, comm)


def into(result: DNDarray, out: DNDarray | None, where: DNDarray | bool = True) -> DNDarray:
    """Return a result, or `out` with the result written into it, both where `where` is true.

    Elsewhere the elements of `out` stay, and a new array has zeros. Collective where one of them is in another
    layout than the array that is returned: one exchange for each.
    """
    if out is None and where is True:
        return result
    given = [x for x in (result, out, where) if isinstance(x, DNDarray)]
    if out is not None:
        as_dndarray(out, "out")
        # Of the dtypes alone, before any message.
        if not torch.can_cast(result.dtype, out.dtype):
            raise TypeError(
                f"out is of {out.dtype}, which has no place for results of {result.dtype}; cast them first"
            )
    check_one_communicator(given)
    if where is not True:
        where = as_mask(where, result)
        rest = out if out is not None else _replicated(result._larray.new_zeros(()), result)
        result = apply_elementwise(choose_where, (where, result, rest), "where")
    if out is None:
        return result
    value = result._larray
    if result._layout is not out._layout:
        value = operand_shard(result, align_in_place(result._layout, out._layout).needed[0], out._layout)
    out._larray.copy_(value)
    return out


def as_mask(where: DNDarray | bool, like: DNDarray) -> DNDarray:
    """Return what the argument `where` is as an array of bools. TypeError for anything else."""
    if isinstance(where, (bool, np.bool_)):
        return _replicated(torch.tensor(bool(where), device=like.device), like)
    if as_dndarray(where, "where").dtype is not torch.bool:
        raise TypeError(f"where must be bools, got {where.dtype}; compare it, as in x != 0")
    return where


def choose_where(condition: torch.Tensor, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    """Return `torch.where`. The condition's dtype does not count in promotion."""
    return call_promoted(lambda a, b: torch.where(condition, a, b), x1, x2)


def _replicated(scalar: torch.Tensor, like: DNDarray) -> DNDarray:
    return DNDarray._wrap(scalar, Layout((), None, like._comm.size), like._comm)


def call_promoted(function: Torch, *operands: Any) -> torch.Tensor:
    """Call `function`, having promoted the tensors to one dtype if 0-d tensors are among them.

    For torch a 0-d tensor counts less: float64 of shape () and float32 of shape (5,) give float32. In the Python
    Array API standard dtypes alone decide, whatever the shapes.
    """
    tensors = [x for x in operands if isinstance(x, torch.Tensor)]
    if len({x.dtype for x in tensors}) > 1 and len({x.ndim == 0 for x in tensors}) > 1:
        common = reduce(torch.promote_types, [x.dtype for x in tensors])
        operands = tuple([x.to(common) if isinstance(x, torch.Tensor) else x for x in operands])
    return function(*operands)


def divides_integers(x1: Any, x2: Any) -> bool:
    """Return whether a rank may meet an integer zero divisor, at which torch raises on a CPU."""
    if _is_inexact(x1) or _is_inexact(x2):
        return False
    # torch takes a number modulo 2**bits: for uint8 a divisor of 256 is 0.
    return isinstance(x2, DNDarray) or int(x2) % 2 ** (8 * x1.dtype.itemsize) == 0


def _is_inexact(x: Any) -> bool:
    """Return whether an operand is a floating-point or complex array or number."""
    if isinstance(x, DNDarray):
        return is_inexact(x.dtype)
    return isinstance(x, (float, complex, np.inexact))


# The operators that change an array in place and are not torch's method of their name. They may fail on one rank
# alone, for the zeros that only this rank divides by.
_DIVISIONS: dict[str, Torch] = {"floor_divide": special_cases.floor_divide_, "remainder": special_cases.remainder_}


def in_place(name: str, x: DNDarray, other: Operand) -> DNDarray:
    """Change `x` to the operation `name` of `x` and `other`, and return it. Its layout and dtype stay."""
    may_fail = divides_integers if name in _DIVISIONS else None
    change = _DIVISIONS.get(name) or getattr(torch.Tensor, f"{name}_")
    other = value = _check_operand(other, 2, name)
    value = other = _fitting((x,), other, name) if type(other) is int else other
    if name in _SHIFTS or name in _BITS:
        check_bits(name, x, other)
    if isinstance(other, DNDarray):
        check_one_communicator([x, other])
        value = other._larray
        if other._layout is not x._layout:
            alignment = align_in_place(other._layout, x._layout)
            if alignment.messages:
                probe = _without_data(x)
                # torch lets no leaf that requires a gradient be changed: that is seen before any message, too.
                probe.requires_grad_(x._larray.is_leaf and x._larray.requires_grad)
                change(probe, _without_data(other))
            value = operand_shard(other, alignment.needed[0], x._layout)
    with _agreement(x._comm, name, may_fail, (x, other)):
        change(x._larray, value)
    return x


def _check_operand(x: Any, place: int, name: str) -> Any:
    """Return `x`, or a number of NumPy as one of Python. TypeError for what is neither number nor DNDarray."""
    # np.float64 is a float of Python as well.
    if isinstance(x, (DNDarray, int, float, complex)) and not isinstance(x, np.generic):
        return x
    if isinstance(x, (np.number, np.bool_)):
        return x.item()
    raise TypeError(
        f"operand {place} of {name} must be a DNDarray or a number, got {type(x).__name__}; make a DNDarray of it "
        "with minisplit.array(..., split=...) if every rank has all of it, with is_split= if each has a part"
    )


def _fitting(arrays: Sequence[DNDarray], number: int, name: str) -> float:
    """Return an int, as a float where torch takes no such int. OverflowError where integers stay integers."""
    # Without bools, with which torch promotes no unsigned integers but bytes: where(condition, x, 1) has one.
    dtypes = [x.dtype for x in arrays if x.dtype is not torch.bool] or [torch.bool]
    dtype = dtypes[0] if len(dtypes) == 1 else reduce(torch.promote_types, dtypes)
    if number in TORCH_INTS[dtype]:
        return number
    if not (is_inexact(dtype) or name in _WIDE):
        ints = TORCH_INTS[dtype]
        raise OverflowError(
            f"a number beside an array of {dtype} must be from {ints[0]} to {ints[-1]}, got {short_repr(number)} "
            f"in {name}; cast the array to a wider dtype (astype) for it"
        )
    return nearest_float(number)


def check_bits(name: str, *operands: Any) -> None:
    """Raise TypeError unless all operands have bits: bools, of which a shift takes none, and integers."""
    kinds = "integers" if name in _SHIFTS else "bools or integers"
    dtypes = [x.dtype if isinstance(x, DNDarray) else type(x) for x in operands]
    if any(map(_is_inexact, operands)) or (name in _SHIFTS and {*dtypes} <= {torch.bool, bool, np.bool_}):
        shown = " and ".join(each.__name__ if isinstance(each, type) else str(each) for each in dtypes)
        raise TypeError(f"{name} needs {kinds}, got {shown}; cast them (astype)")


def check_one_communicator(arrays: Sequence[DNDarray]) -> None:
    """Raise ValueError unless all arrays are on one communicator."""
    first = arrays[0]._comm
    for x in arrays[1:]:
        if x._comm is not first:
            raise ValueError(
                f"operands must be on one communicator, got {type(first).__name__} of {first.size} ranks and "
                f"another {type(x._comm).__name__} of {x._comm.size}; array(x.numpy(), comm=...) goes to another"
            )


def _agreement(
    comm: Communication, name: str, may_fail: MayFail | None, operands: Sequence[Any]
) -> AbstractContextManager[None]:
    """Return the agreement within which an operation is computed, if it may fail on one rank alone."""
    if may_fail is None or not may_fail(*operands):
        return nullcontext()
    return agreement(comm, f"computing {name}", name)


def _scalar(number: Any, like: torch.Tensor) -> torch.Tensor:
    """Return a number as a tensor that has the same effect on the result's dtype beside `like`."""
    return torch.tensor(number, dtype=torch.result_type(like, number), device=like.device)


def _without_data(x: DNDarray) -> torch.Tensor:
    """Return a tensor without elements, for which torch's functions raise what they would for the dtype of `x`."""
    return x._larray.new_empty((0,) * len(x._layout.shape))


def whole_operand(
    values: Any, name: str, x: DNDarray, result: Layout, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Return all of an operand of which every rank needs all for its shard of the result, such as a table.

    `values` is an array, or numbers that every rank has: a tensor of the program gets its whole gradient on every
    rank. Collective where an array is split: one exchange.
    """
    if isinstance(values, DNDarray):
        check_one_communicator([x, values])
        return operand_shard(values, values.layout.with_split(None), result).to(x.device, dtype or values.dtype)
    whole = tensor_of_numbers(values, name, dtype=dtype, device=x.device)
    return whole if result.split is None else all_reduce_gradient(whole, x.comm)


def operand_shard(x: DNDarray, wanted: Layout | None, result: Layout) -> torch.Tensor:
    """Return what this rank needs of `x` for its shard of the result. `wanted` is None where it has that.

    Collective where `x` is split and `wanted` is another layout: one exchange.
    """
    shard, src = x._larray, x._layout
    if wanted is not None and wanted != src:
        # A replicated operand is cut without a copy, but not within autograd: all ranks must send its gradient.
        if src.split is None and wanted.split is not None and not is_followed(shard):
            start, stop = wanted.span(x._comm.rank)
            return shard.narrow(wanted.split, start, stop - start)
        warn_of_move(shard.itemsize, src, wanted, x._comm)
        shard, src = redistribute(shard, src, wanted, x._comm), wanted
    # Each rank uses a replicated operand for its part of the result, and so has a part of the gradient only.
    return all_reduce_gradient(shard, x._comm) if src.split is None and result.split is not None else shard
