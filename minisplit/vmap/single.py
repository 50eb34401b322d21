"""The tuple in which a mapped call returns one bare output: used as an array, it says what to write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from minisplit.core.array import DNDarray
from minisplit.core.pytorch.pytree import pytree

T = TypeVar("T")

_RULE = "one output in a tuple: write (y,) = minisplit.vmap(f)(x), or y = minisplit.vmap(f).one(x)"


class SingleOutputError(TypeError, AttributeError):
    """The tuple of one output was used as if it were the output."""

    # An AttributeError too, so that `hasattr` says no, as of any tuple.


def _refuse(name: str) -> Callable[..., Any]:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise SingleOutputError(f"{name}: this is {_RULE}")

    refuse.__name__ = refuse.__qualname__ = name
    return refuse


def _compare(name: str) -> Callable[[Any, Any], Any]:
    own = getattr(tuple, name)

    def compare(self: Any, other: Any) -> Any:
        # `hasattr` finds NumPy's arrays and scalars, and whatever else is an array.
        if isinstance(other, (DNDarray, int, float, complex)) or hasattr(other, "__array__"):
            raise SingleOutputError(f"{name}: this is {_RULE}")
        return own(self, other)

    compare.__name__ = compare.__qualname__ = name
    return compare


class SingleOutput(tuple[T]):
    """The output of a function that returns a bare tensor, in a tuple, as of one that returns several.

    `(y,) = ...`, `[0]`, `len` and iteration are a tuple's. Where it is used as an array it raises a TypeError that
    says what to write: otherwise `2 * ms.vmap(f)(x)` would be a tuple of two, and `np.asarray` of it gather an
    array with an axis too many.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        """Raise an error, which says what to write where an array has the attribute."""
        if not name.startswith("_") and (hasattr(DNDarray, name) or hasattr(torch.Tensor, name)):
            raise SingleOutputError(f"{name}: this is {_RULE}")
        raise AttributeError(f"'SingleOutput' object has no attribute {name!r}", name=name, obj=self)

    def __getitem__(self, key: Any) -> Any:
        """Return the output, for 0 and -1, or a slice of the tuple."""
        try:
            return tuple.__getitem__(self, key)
        except (IndexError, TypeError) as error:
            raise type(error)(f"{error}: this is {_RULE}") from None

    def __add__(self, other: Any) -> Any:
        """Return this tuple and another one, joined. An error for anything else."""
        return tuple(self) + other if isinstance(other, tuple) else _refuse("__add__")(self)

    def __radd__(self, other: Any) -> Any:
        """Return another tuple and this one, joined. An error for anything else."""
        return other + tuple(self) if isinstance(other, tuple) else _refuse("__radd__")(self)

    # Of a tuple they are repetition.
    __mul__ = __rmul__ = _refuse("__mul__")
    __hash__ = tuple.__hash__

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Raise an error: torch asks this where a tensor was expected."""
        _refuse(getattr(func, "__name__", "a function of torch"))(None)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Raise an error: NumPy asks this for operators and elementwise functions."""
        _refuse(ufunc.__name__)(self)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Raise an error: NumPy asks this where an array was expected."""
        _refuse(getattr(func, "__name__", "a function of NumPy"))(self)


for _name in (
    *("sub", "rsub", "truediv", "rtruediv", "floordiv", "rfloordiv", "mod", "rmod", "divmod", "rdivmod"),
    *("pow", "rpow", "matmul", "rmatmul", "and", "rand", "or", "ror", "xor", "rxor", "lshift", "rlshift"),
    *("rshift", "rrshift", "neg", "pos", "invert", "abs", "float", "int", "complex", "round"),
    *("array", "dlpack", "dlpack_device", "setitem"),
):
    setattr(SingleOutput, f"__{_name}__", _refuse(f"__{_name}__"))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(SingleOutput, f"__{_name}__", _compare(f"__{_name}__"))
# For torch it is a tuple of one, as an argument or within one.
pytree.register_pytree_node(
    SingleOutput,
    lambda x: (list(x), None),
    lambda leaves, _: SingleOutput(leaves),
    serialized_type_name="minisplit.SingleOutput",
    flatten_with_keys_fn=lambda x: ([(pytree.SequenceKey(i), y) for i, y in enumerate(x)], None),
)
