"""`DNDarray`: a global array, one plain torch tensor per rank, and the layout that says who owns what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import _pytree as pytree

from minisplit.core.collectives import redistribute
from minisplit.core.communication.protocol import Communication
from minisplit.core.indexing.getitem import get, put
from minisplit.core.indexing.index_arrays import Part
from minisplit.core.inside_vmap import inside_vmap
from minisplit.core.layout import Layout, normalise_axis
from minisplit.core.performance_warning import warn_of_move
from minisplit.core.printing import local_html, local_repr


class DNDarray:
    """A global array cut along one axis over the ranks of a communicator.

    Made by the factories (`minisplit.array`, `minisplit.zeros`, ...) from a shard, the layout, which every
    rank knows in full, and a communicator. Attributes and `repr` never communicate, so a lone rank may
    print them; methods that say "Collective" must be called by every rank of `comm`.

    >>> import minisplit as ms
    >>> x = ms.arange(6, split=0)
    >>> x.shape, x.split, x.dtype
    ((6,), 0, torch.int64)
    >>> x.numpy()
    array([0, 1, 2, 3, 4, 5])
    """

    __slots__ = ("__weakref__", "_comm", "_larray", "_layout")

    def __init__(self, larray: torch.Tensor, layout: Layout, comm: Communication) -> None:
        if layout.ranks != comm.size:
            raise ValueError(f"the layout is for {layout.ranks} ranks, but the communicator has {comm.size}")
        if tuple(larray.shape) != layout.lshape(comm.rank):
            raise ValueError(
                f"rank {comm.rank} holds a shard of shape {tuple(larray.shape)}, "
                f"but the layout gives it {layout.lshape(comm.rank)}"
            )
        self._larray = larray
        self._layout = layout
        self._comm = comm

    @staticmethod
    def _wrap(larray: torch.Tensor, layout: Layout, comm: Communication) -> DNDarray:
        """The array of a shard that is known to fit: the constructor without its checks."""
        array = object.__new__(DNDarray)
        array._larray = larray
        array._layout = layout
        array._comm = comm
        return array

    @property
    def larray(self) -> torch.Tensor:
        """This rank's shard, a plain torch tensor that shares its memory with the array."""
        return self._larray

    @property
    def layout(self) -> Layout:
        """Who owns what: shape, split and counts. Equal on every rank."""
        return self._layout

    @property
    def comm(self) -> Communication:
        """The communicator whose ranks hold the array."""
        return self._comm

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the global array."""
        return self._layout.shape

    @property
    def gshape(self) -> tuple[int, ...]:
        """Shape of the global array, under Heat's name."""
        return self._layout.shape

    @property
    def lshape(self) -> tuple[int, ...]:
        """Shape of this rank's shard."""
        return tuple(self._larray.shape)

    @property
    def lshape_map(self) -> torch.Tensor:
        """Shapes of all shards as a `(size, ndim)` tensor of int64. Local."""
        table = torch.tensor(self.shape, dtype=torch.int64).repeat(self._comm.size, 1)
        if self.split is not None:
            table[:, self.split] = torch.tensor(self.counts)
        return table

    @property
    def split(self) -> int | None:
        """The axis that is cut over the ranks; None where every rank holds the whole array."""
        return self._layout.split

    @property
    def counts(self) -> tuple[int, ...] | None:
        """Indices of the split axis per rank; None for a replicated array."""
        return self._layout.counts

    @property
    def displs(self) -> tuple[int, ...] | None:
        """First index of the split axis per rank; None for a replicated array."""
        return self._layout.displs

    @property
    def ndim(self) -> int:
        return self._layout.ndim

    @property
    def size(self) -> int:
        """Number of elements of the global array."""
        return self._layout.size

    @property
    def nbytes(self) -> int:
        """Bytes of the global array, counted once."""
        return self.size * self._larray.element_size()

    @property
    def dtype(self) -> torch.dtype:
        return self._larray.dtype

    @property
    def device(self) -> torch.device:
        """The device of this rank's shard."""
        return self._larray.device

    def is_balanced(self) -> bool:
        """Whether the counts follow the rule that the first `n % size` ranks hold one index more. Local."""
        return self._layout.is_balanced

    def is_distributed(self) -> bool:
        """Whether the array is cut over more than one rank. Local."""
        return self.split is not None and self._comm.size > 1

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a 0-d array has no length and no items: use item(), or reshape(1)")
        return self.shape[0]

    def __iter__(self) -> Iterator[DNDarray]:
        """The items along axis 0, in turn. Collective: where that is the split axis, one broadcast for each.

        Raises TypeError for a 0-d array.
        """
        return (self[index] for index in range(len(self)))

    def __getitem__(self, key: Any) -> DNDarray:
        """What `key` selects, as NumPy and in memory of its own. Collective, but most keys need no message.

        A key is an int, a slice with any step, None, Ellipsis, a mask of one axis or several, an array of integers
        (DNDarrays, tensors, NumPy arrays, lists), or a tuple of them, where arrays broadcast to one shape as in
        NumPy. All ranks pass the same key. Of the split axis

        - a slice and a mask leave rows where they are: the result has the counts that come of that. A negative
          step moves each rank's rows once, to the rank opposite;
        - an int gives a replicated result, by one broadcast;
        - an array of integers gives a result that is split along the array's axis: with the default counts, or as
          the array itself where that is split. Each rank gets the rows it needs from their owners, once.

        Along other axes no rows move. A split array in the key costs a message for its bounds or counts, and is
        gathered unless the axis that it indexes is the split one.

        Raises, on all ranks, IndexError for a key that does not fit the array, ValueError for a step of 0 and for
        DNDarrays of another communicator.

        >>> import minisplit as ms
        >>> x = ms.arange(6, split=0)
        >>> x[::-2].tolist(), x[-1].item(), x[[3, 3, 0]].tolist(), x[None, x.numpy() > 3].shape
        ([5, 3, 1], 5, [3, 3, 0], (1, 2))
        """
        shard, layout = get(self._part, self._parts(key), self._comm)
        return DNDarray(shard, layout, self._comm)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Set what `key` selects, see `__getitem__`, to a value that broadcasts to it. Collective.

        Each rank sets rows that it owns: the array's layout stays. A number, tensor, NumPy array or replicated
        DNDarray is the same on every rank and needs no message; what is missing of a split DNDarray is moved.
        Values are cast to the array's dtype. Where an array of integers selects a row more than once, its last
        value counts.

        Raises what `__getitem__` does, ValueError for a value that does not broadcast, RuntimeError
        for gradients: of an array that is a leaf requiring one, or of a value; then nothing has been set.

        >>> import minisplit as ms
        >>> x = ms.zeros(5, split=0)
        >>> x[1:4] = ms.arange(3, split=0)
        >>> x[[0, -1]] = 7
        >>> x.tolist()
        [7.0, 0.0, 1.0, 2.0, 7.0]
        """
        (value,) = self._parts((value,))
        put(self._part, self._parts(key), value, self._comm)

    def __repr__(self) -> str:
        return local_repr(self._layout, self._comm.rank, self._larray)

    def _repr_html_(self) -> str:
        return local_html(self._layout, self._comm.rank, self._larray)

    def to_layout(self, layout: Layout) -> DNDarray:
        """Return the array under another layout of its shape; itself where that is its own. Collective."""
        if layout is self._layout or layout == self._layout:
            return self
        warn_of_move(self._larray.element_size(), self._layout, layout, self._comm)
        return self._moved(layout)

    def _back(self, layout: Layout) -> DNDarray:
        """`to_layout` of a result, to where an operand was that has been moved: no second warning."""
        return self if layout == self._layout else self._moved(layout)

    def resplit(self, axis: int | None = None) -> DNDarray:
        """Return a new array split along `axis`; None gathers it on every rank. Collective.

        Counts follow the default rule, but an array that is split along `axis` already keeps its own.
        Raises IndexError for an axis out of range, TypeError for no int.

        >>> import minisplit as ms
        >>> x = ms.zeros((4, 6), split=0)
        >>> x.resplit(1).split, x.split
        (1, 0)
        """
        if axis is not None:
            axis = normalise_axis(axis, self.ndim, "axis")
        return self._moved(self._layout.with_split(axis))

    def resplit_(self, axis: int | None = None) -> Self:
        """Split this array along `axis`, in place of its present layout. Collective. See `resplit`."""
        return self._become(self.resplit(axis))

    def balance(self) -> DNDarray:
        """Return a new array with the default counts along the same split axis. Collective."""
        return self._moved(self._layout.balanced())

    def balance_(self) -> Self:
        """Give this array the default counts. Collective."""
        return self._become(self.balance())

    def redistribute(self, counts: Sequence[int]) -> DNDarray:
        """Return a new array of which rank r holds `counts[r]` indices of the split axis. Collective.

        Only what changes its rank is sent. Raises ValueError where the counts are not one number per rank, are
        negative, do not add up to the axis' length, or the array is replicated.

        >>> import minisplit as ms
        >>> x = ms.arange(5, split=0)
        >>> x.redistribute([5] + [0] * (x.comm.size - 1)).counts[0]
        5
        """
        return self._moved(self._layout.with_counts(counts))

    def redistribute_(self, counts: Sequence[int]) -> Self:
        """Give this array other counts. Collective. See `redistribute`."""
        return self._become(self.redistribute(counts))

    def numpy(self) -> NDArray[Any]:
        """Return the global array as a NumPy array on every rank, in host memory of its own. Collective."""
        whole = self._moved(self._layout.with_split(None))._larray
        array: NDArray[Any] = whole.detach().cpu().resolve_conj().resolve_neg().numpy()
        return array

    def tolist(self) -> Any:
        """Return the global array as nested lists of Python numbers on every rank. Collective."""
        return self.to_layout(self._layout.with_split(None))._larray.tolist()

    def item(self) -> Any:
        """Return the only element as a Python number on every rank. Collective.

        Raises ValueError for an array of any other size than 1.
        """
        if self.size != 1:
            raise ValueError(f"item() needs an array of one element, got shape {self.shape}")
        if self.counts is None:
            return self._larray.item()
        owner = self.counts.index(1)
        mine = self._larray.reshape(()) if self._comm.rank == owner else self._larray.new_empty(())
        return self._comm.broadcast(mine, owner).item()

    def __bool__(self) -> bool:
        """Truth of the only element. Collective. ValueError for an array of any other size than 1."""
        if self.size != 1:
            raise ValueError(
                f"the truth value of an array of shape {self.shape} is ambiguous: it needs one element"
            )
        return bool(self.item())

    def __int__(self) -> int:
        """The only element as an int. Collective. See `item`."""
        return int(self.item())

    def __float__(self) -> float:
        """The only element as a float. Collective. See `item`."""
        return float(self.item())

    def __complex__(self) -> complex:
        """The only element as a complex. Collective. See `item`."""
        return complex(self.item())

    @property
    def _part(self) -> Part:
        return Part(self._larray, self._layout)

    def _parts(self, operands: Any) -> Any:
        """DNDarrays, alone or in a tuple, as shards with their layouts; ValueError for another communicator's."""
        if isinstance(operands, tuple):
            return tuple(map(self._parts, operands))
        if not isinstance(operands, DNDarray):
            return operands
        if operands._comm is not self._comm:
            raise ValueError("a DNDarray in a key, or as a value, must be on the communicator of the indexed one")
        return operands._part

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Let torch compute with a replicated array in a mapped function; elsewhere call what means the same in
        minisplit (`minisplit.ops.interop`), or raise TypeError."""
        if not inside_vmap():
            return cls._call_torch(func, args, kwargs or {})
        args, kwargs = pytree.tree_map_only(DNDarray, captured_tensor, (args, kwargs or {}))
        return func(*args, **kwargs)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Only what is not there comes here."""
            hint = f"; x.larray.{name} is that of this rank's tensor" if hasattr(torch.Tensor, name) else ""
            raise AttributeError(f"'DNDarray' object has no attribute {name!r}{hint}", name=name, obj=self)

    # NumPy's arrays and scalars leave operators to this class, rather than taking it apart.
    __array_ufunc__ = None
    __hash__ = object.__hash__  # by identity, though == compares elements

    if TYPE_CHECKING:  # set by the modules of minisplit.ops

        def _unary(self) -> DNDarray: ...
        def _binary(self, other: Operand) -> DNDarray: ...
        def _in_place(self, other: Operand) -> Self: ...

        __abs__ = __invert__ = __neg__ = __pos__ = _unary
        __eq__ = __ne__ = _binary  # type: ignore[assignment]
        __lt__ = __le__ = __gt__ = __ge__ = _binary
        __add__ = __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = _binary
        __and__ = __or__ = __xor__ = __lshift__ = __rshift__ = _binary
        __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rfloordiv__ = __rmod__ = __rpow__ = _binary
        __rand__ = __ror__ = __rxor__ = __rlshift__ = __rrshift__ = _binary
        __iadd__ = __isub__ = __imul__ = __itruediv__ = __ifloordiv__ = __imod__ = __ipow__ = _in_place
        __iand__ = __ior__ = __ixor__ = __ilshift__ = __irshift__ = _in_place

        def _reduce(self, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> DNDarray: ...
        def _accumulate(
            self,
            axis: int | tuple[int, ...] | None = None,
            *,
            dtype: torch.dtype | None = None,
            keepdims: bool = False,
        ) -> DNDarray: ...
        def _spread(
            self,
            axis: int | tuple[int, ...] | None = None,
            *,
            correction: float = 0.0,
            keepdims: bool = False,
        ) -> DNDarray: ...
        def _arg_reduce(self, axis: int | None = None, *, keepdims: bool = False) -> DNDarray: ...
        def nonzero(self) -> tuple[DNDarray, ...]: ...

        all = any = max = min = _reduce
        mean = prod = sum = _accumulate
        std = var = _spread

        def _cumulate(self, axis: int | None = None, *, dtype: torch.dtype | None = None) -> DNDarray: ...

        cumprod = cumsum = _cumulate
        argmax = argmin = _arg_reduce

        def show(self) -> None: ...
        @property
        def T(self) -> DNDarray: ...  # noqa: N802
        @property
        def mT(self) -> DNDarray: ...  # noqa: N802
        def __matmul__(self, other: DNDarray) -> DNDarray: ...
        def __rmatmul__(self, other: DNDarray) -> DNDarray: ...
        @staticmethod
        def _call_torch(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...
        def __array_namespace__(self, /, *, api_version: str | None = None) -> ModuleType: ...
        def __array__(self, dtype: np.dtype[Any] | None = None, *, copy: bool | None = None) -> NDArray[Any]: ...
        def __dlpack__(
            self,
            /,
            *,
            stream: int | None = None,
            max_version: tuple[int, int] | None = None,
            dl_device: tuple[Any, int] | None = None,
            copy: bool | None = None,
        ) -> Any: ...
        def __dlpack_device__(self, /) -> tuple[Any, int]: ...
        def __index__(self) -> int: ...
        def to_device(self, device: str | torch.device | None, /, *, stream: None = None) -> DNDarray: ...
        def reshape(self, *shape: int | Sequence[int], copy: bool | None = None) -> DNDarray: ...
        def transpose(self, *axes: int | Sequence[int] | None) -> DNDarray: ...
        def squeeze(self, axis: int | Sequence[int] | None = None) -> DNDarray: ...
        def swapaxes(self, axis1: int, axis2: int) -> DNDarray: ...
        def flatten(self) -> DNDarray: ...
        def ravel(self) -> DNDarray: ...
        def repeat(self, repeats: int | Sequence[int] | DNDarray, axis: int | None = None) -> DNDarray: ...
        def astype(self, dtype: torch.dtype, *, copy: bool = True) -> DNDarray: ...

    def _moved(self, layout: Layout) -> DNDarray:
        return self._wrap(redistribute(self._larray, self._layout, layout, self._comm), layout, self._comm)

    def _become(self, other: DNDarray) -> Self:
        self._larray, self._layout = other._larray, other._layout
        return self


def captured_tensor(x: DNDarray) -> torch.Tensor:
    """What a mapped function that has captured `x` computes with; TypeError unless it is the same on all ranks."""
    if x.split is not None:
        raise TypeError(
            f"the mapped function uses a DNDarray that is split along {x.split}, of which each rank has another "
            "part: pass it as an argument to map over it, or capture it replicated (minisplit.resplit(x, None))"
        )
    if x.larray.requires_grad and torch.is_grad_enabled():
        raise TypeError(
            "the mapped function uses a DNDarray that requires a gradient, of which each rank would get a part: "
            "pass it as a keyword argument"
        )
    return x.larray


# What an operator takes beside an array.
Operand = DNDarray | complex | np.number[Any] | np.bool_


def as_dndarray(x: Any, name: str = "x") -> DNDarray:
    """Return `x` if it is a DNDarray; else a TypeError that names it."""
    if isinstance(x, DNDarray):
        return x
    # An array in a file, of a class above this one, can be loaded.
    made = f"{name}.load() is one" if hasattr(x, "load") else "make one with minisplit.array(..., split=...)"
    raise TypeError(f"{name} must be a DNDarray, got {type(x).__name__}; {made}")
