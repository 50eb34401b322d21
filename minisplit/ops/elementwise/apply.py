"""The makers of operations: from a function of torch to the same function of DNDarrays."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from typing import Any, TypeVar

import numpy as np
import torch

from minisplit.core.array import DNDarray, Operand, as_dndarray
from minisplit.core.collectives import all_reduce_gradient
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.ops.elementwise import special_cases
from minisplit.ops.elementwise.alignment import align, align_in_place

Torch = Callable[..., torch.Tensor]
Unary = Callable[[DNDarray], DNDarray]
Binary = Callable[[Operand, Operand], DNDarray]
# Whether an operation on these operands may fail on one rank alone, for the values that only this rank has.
MayFail = Callable[[Any, Any], bool]
Made = TypeVar("Made", bound=Callable[..., Any])

_PYTHON_NUMBERS = frozenset({int, float, complex, bool})
_FLOATS = "ms.ones(6, split=0)"
_wrap = DNDarray._wrap

_UNARY_DOC = """Elementwise `torch.{torch}`. Local.

The result has the layout of `x` and memory of its own. Raises TypeError for anything but a DNDarray, and torch's
error for a dtype that it refuses.

>>> import minisplit as ms, torch
>>> ms.{name}({example}).split
0
"""
_BINARY_DOC = """Elementwise `torch.{torch}` of two arrays, or of an array and a number.

Shapes broadcast as in NumPy; dtypes promote as torch's do, whatever the shapes. Local where the layouts agree,
or where only one operand is split; else collective: of the operands' layouts the result gets the one for which
the fewest bytes move.{more}

Raises ValueError for shapes that do not broadcast and operands on different communicators, TypeError for
anything but DNDarrays and numbers, and torch's error for dtypes that it refuses: all on every rank.

>>> import minisplit as ms
>>> ms.{name}({example}, 2).split
0
"""
_MAY_FAIL_DOC = """

Integers by integers are collective in any case, but for a divisor that is a number other than 0: one rank alone
may meet a 0. Then all raise RuntimeError; elsewhere the result is that of torch."""


def unary(function: Torch, name: str | None = None, *, example: str = _FLOATS) -> Unary:
    """Make the elementwise operation of one array. `example` is an argument for its docstring."""

    def operation(x: DNDarray, /) -> DNDarray:
        if type(x) is not DNDarray:
            x = as_dndarray(x)
        return _wrap(function(x._larray), x._layout, x._comm)

    name = name or function.__name__
    return named(operation, name, _UNARY_DOC.format(torch=function.__name__, name=name, example=example))


def binary(
    function: Torch,
    name: str | None = None,
    *,
    numbers: int = 2,
    may_fail: MayFail | None = None,
    example: str = _FLOATS,
) -> Binary:
    """Make the elementwise operation of two arrays, or of an array and a number.

    numbers: in how many places torch's function takes a Python number: 2, 1 (the second only) or 0.
        Elsewhere it is given a 0-d tensor.
    may_fail: whether the operation may fail on one rank alone, which costs an agreement.
    """
    name = name or function.__name__
    of_any_shapes = promoting(function)

    def operation(x1: Operand, x2: Operand, /) -> DNDarray:
        if type(x1) is DNDarray:
            if type(x2) is DNDarray:
                y: Any = x2._larray
                aligned = x1._comm is x2._comm and (x1._layout is x2._layout or x1._layout == x2._layout)
            else:
                y, aligned = x2, numbers != 0 and type(x2) in _PYTHON_NUMBERS
            if aligned and (may_fail is None or not may_fail(x1, x2)):
                return _wrap(function(x1._larray, y), x1._layout, x1._comm)
        elif numbers == 2 and type(x2) is DNDarray and type(x1) in _PYTHON_NUMBERS and may_fail is None:
            return _wrap(function(x1, x2._larray), x2._layout, x2._comm)
        native = numbers == 2 or (numbers == 1 and isinstance(x1, DNDarray))
        return apply_elementwise(of_any_shapes, (x1, x2), name, native=native, may_fail=may_fail)

    more = "" if may_fail is None else _MAY_FAIL_DOC
    doc = _BINARY_DOC.format(torch=function.__name__, name=name, example=example, more=more)
    return named(operation, name, doc)


def apply_elementwise(
    function: Torch,
    operands: Sequence[Any],
    name: str,
    *,
    native: bool = True,
    may_fail: MayFail | None = None,
) -> DNDarray:
    """Apply an elementwise function of torch to DNDarrays and numbers, having aligned the arrays.

    native: whether the function takes the numbers as they are.
    """
    operands = [_operand(x, place, name) for place, x in enumerate(operands, 1)]
    arrays = [x for x in operands if isinstance(x, DNDarray)]
    if not arrays:
        raise TypeError(f"an operand of {name} must be a DNDarray, got {' and '.join(map(repr, operands))}")
    check_one_communicator(arrays)
    agreed = _agreement(arrays[0]._comm, name, may_fail, operands)
    if not native:
        operands = [x if isinstance(x, DNDarray) else _scalar(x, arrays[0]._larray) for x in operands]

    def applied(shards: Iterable[torch.Tensor]) -> torch.Tensor:
        rest = iter(shards)
        return function(*[next(rest) if isinstance(x, DNDarray) else x for x in operands])

    meeting = align(tuple([x._layout for x in arrays]), tuple([x._larray.itemsize for x in arrays]))
    if meeting.messages:
        applied(map(_without_data, arrays))  # what torch refuses, before any message
    shards = [operand_shard(x, wanted, meeting.result) for x, wanted in zip(arrays, meeting.needed, strict=True)]
    with agreed:
        made = applied(shards)
    # The operand's own: the next operation sees at once that two are the same.
    layout = meeting.result if meeting.like is None else arrays[meeting.like]._layout
    return _wrap(made, layout, arrays[0]._comm)


def promoting(function: Torch) -> Torch:
    """`function`, for which a 0-d tensor counts in promotion as one of any other shape: for torch it does not."""

    def promoted(*operands: Any) -> torch.Tensor:
        tensors = [x for x in operands if isinstance(x, torch.Tensor)]
        if len({x.dtype for x in tensors}) > 1 and len({x.ndim == 0 for x in tensors}) > 1:
            common = reduce(torch.promote_types, [x.dtype for x in tensors])
            operands = tuple([x.to(common) if isinstance(x, torch.Tensor) else x for x in operands])
        return function(*operands)

    return promoted


def divides_integers(x1: Any, x2: Any) -> bool:
    """Whether a rank may meet an integer zero divisor, at which torch raises on a CPU."""
    if _is_inexact(x1) or _is_inexact(x2):
        return False
    # torch takes a number modulo 2**bits: of uint8s 256 is 0.
    return isinstance(x2, DNDarray) or int(x2) % 2 ** (8 * x1.dtype.itemsize) == 0


def _is_inexact(x: Any) -> bool:
    if isinstance(x, DNDarray):
        return x.dtype.is_floating_point or x.dtype.is_complex
    return isinstance(x, (float, complex, np.inexact))


# The operators that change an array in place: torch's method, and whether it may fail on one rank alone.
_IN_PLACE: dict[str, tuple[Torch, MayFail | None]] = {
    "add": (torch.Tensor.add_, None),
    "subtract": (torch.Tensor.sub_, None),
    "multiply": (torch.Tensor.mul_, None),
    "divide": (torch.Tensor.div_, None),
    "floor_divide": (special_cases.floor_divide_, divides_integers),
    "remainder": (special_cases.remainder_, divides_integers),
    "pow": (torch.Tensor.pow_, None),
    "bitwise_and": (torch.Tensor.bitwise_and_, None),
    "bitwise_or": (torch.Tensor.bitwise_or_, None),
    "bitwise_xor": (torch.Tensor.bitwise_xor_, None),
    "bitwise_left_shift": (torch.Tensor.bitwise_left_shift_, None),
    "bitwise_right_shift": (torch.Tensor.bitwise_right_shift_, None),
}


def in_place(name: str, x: DNDarray, other: Operand) -> DNDarray:
    """Change `x` to the operation `name` of `x` and `other`, and return it. Its layout and dtype stay."""
    change, may_fail = _IN_PLACE[name]
    other = value = _operand(other, 2, name)
    if isinstance(other, DNDarray):
        check_one_communicator([x, other])
        value = _fitted(other, x, change)
    with _agreement(x._comm, name, may_fail, (x, other)):
        change(x._larray, value)
    return x


def named(operation: Made, name: str, doc: str, within: str = "minisplit") -> Made:
    """Give a made function the name under which it is public, and its documentation."""
    operation.__name__ = operation.__qualname__ = name
    operation.__module__ = within
    operation.__doc__ = inspect.cleandoc(doc)
    return operation


def _operand(x: Any, place: int, name: str) -> Any:
    """`x`, a number of NumPy as one of Python; TypeError for what is neither number nor DNDarray."""
    if isinstance(x, (DNDarray, int, float, complex)) and not isinstance(x, np.generic):
        return x
    if isinstance(x, (np.number, np.bool_)):
        return x.item()
    raise TypeError(
        f"operand {place} of {name} must be a DNDarray or a number, got {type(x).__name__}; make a DNDarray of it "
        "with minisplit.array(..., split=...) if every rank has all of it, with is_split= if each has a part"
    )


def check_one_communicator(arrays: Sequence[DNDarray]) -> None:
    """ValueError unless all arrays are on one communicator."""
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
    if may_fail is None or not may_fail(*operands):
        return nullcontext()
    return agreement(comm, f"computing {name}")


def _scalar(number: Any, like: torch.Tensor) -> torch.Tensor:
    """A number as a tensor that has the same effect on the result's dtype beside `like`."""
    return torch.tensor(number, dtype=torch.result_type(like, number), device=like.device)


def _without_data(x: DNDarray) -> torch.Tensor:
    """A tensor without elements, for which torch's functions raise what they would for the dtype of `x`."""
    return x._larray.new_empty((0,) * x.ndim)


def operand_shard(x: DNDarray, wanted: Layout | None, result: Layout) -> torch.Tensor:
    """What this rank needs of `x` for its shard of the result; `wanted` is None where it has that."""
    layout = wanted or x._layout
    tracked = x._larray.requires_grad and torch.is_grad_enabled()
    if wanted is None:
        shard = x._larray
    elif x.split is None and wanted.split is not None and not tracked:
        start, stop = wanted.span(x._comm.rank)
        shard = x._larray.narrow(wanted.split, start, stop - start)
    else:
        shard = x._align(wanted)._larray
    return all_reduce_gradient(shard, x._comm) if layout.split is None and result.split is not None else shard


def _fitted(x: DNDarray, target: DNDarray, change: Torch) -> torch.Tensor:
    """What this rank needs of `x` to change its shard of `target`."""
    if x._layout is target._layout:
        return x._larray
    meeting = align_in_place(x._layout, target._layout)
    if meeting.messages:
        probe = _without_data(target)
        if target._larray.is_leaf:  # which torch does not let be changed
            probe.requires_grad_(target._larray.requires_grad)
        change(probe, _without_data(x))
    return operand_shard(x, meeting.needed[0], meeting.result)
