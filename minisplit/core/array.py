"""`DNDarray`: a global array, one plain torch tensor per rank, and the layout that says who owns what.

Methods and operators are written in the class. Those that are functions of `minisplit.ops` and no more are in that
from which it inherits, `minisplit.core.array_methods`. That package stands above this module: it hands itself over
once, when it is imported (`bind_operations`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.weak import WeakTensorKeyDictionary

from minisplit.core import array_methods
from minisplit.core.collectives import redistribute
from minisplit.core.communication.inside_vmap import inside_vmap
from minisplit.core.communication.protocol import Communication
from minisplit.core.indexing.getitem import get
from minisplit.core.indexing.index_arrays import Part
from minisplit.core.indexing.setitem import put
from minisplit.core.layout import Layout, PerRank, normalise_axis
from minisplit.core.performance_warning import warn_of_move
from minisplit.core.printing import local_html, local_repr
from minisplit.core.pytorch.devices import Device
from minisplit.core.pytorch.dtypes import Dtype
from minisplit.core.pytorch.pytree import pytree

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

Axis = int | tuple[int, ...] | None
# The types for which an operator answers itself. A tensor is among them because it is refused with an explanation:
# it could be this rank's part or the whole array, which nobody can tell.
_OPERAND_TYPES: tuple[type[Any], ...]
# `minisplit.ops`, once the package is imported.
_ops: Any = None
# The shards of arrays that are split over several ranks and that were asked for gradients, with their layout and
# communicator. See `minisplit.nn.optimisers`.
split_leaves = WeakTensorKeyDictionary()


class _Size(int):
    """A number of elements, which says what to write where it is called, as the size of a tensor is."""

    __slots__ = ()

    def __call__(self, *dim: int) -> NoReturn:
        which, place = (f"({dim[0]})", f"[{dim[0]}]") if dim else ("()", "")
        raise TypeError(
            f"size is the number of elements, as in NumPy: for torch's x.size{which} write x.shape{place}"
        )


def bind_operations(operations: ModuleType) -> None:
    """Give the methods of `DNDarray` the operations that they call.

    Parameters
    ----------
    operations : module
        `minisplit.ops`, which calls this at its end.
    """
    global _ops  # noqa: PLW0603 - set once, at import
    _ops = array_methods.operations = operations


class DNDarray(array_methods.DNDarrayMethods):
    """A global array, cut along one axis over the ranks of a communicator.

    The factories (`minisplit.array`, `minisplit.zeros`, ...) make it. Attributes and `repr` never communicate, so
    a single rank may print them. If the section "Communication" of a method says "Collective", every rank of
    `comm` must call the method.

    Parameters
    ----------
    larray : torch.Tensor
        This rank's shard.
    layout : Layout
        Who owns what. The same on every rank.
    comm : Communication
        The ranks that hold the array.

    Raises
    ------
    ValueError
        If the layout is for another number of ranks, or gives this rank a shard of another shape.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.arange(6, split=0)
    >>> x.shape, x.split, x.dtype
    ((6,), 0, torch.int64)
    >>> x.numpy()
    array([0, 1, 2, 3, 4, 5])
    """

    __slots__ = ("__weakref__", "_comm", "_larray", "_layout")

    # By identity, as a tensor is, although == compares elements.
    __hash__ = object.__hash__

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
        """Make the array of a shard that is known to fit: the constructor without its checks."""
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
        """Who owns what: shape, split and counts. The same on every rank."""
        return self._layout

    @property
    def comm(self) -> Communication:
        """The communicator whose ranks hold the array."""
        return self._comm

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the global array."""
        return self._layout.shape

    @property
    def gshape(self) -> tuple[int, ...]:
        """The shape of the global array, under Heat's name."""
        return self._layout.shape

    @property
    def lshape(self) -> tuple[int, ...]:
        """The shape of this rank's shard."""
        return tuple(self._larray.shape)

    @property
    def lshape_map(self) -> torch.Tensor:
        """The shapes of all shards as a `(size, ndim)` tensor of int64. Local."""
        table = torch.tensor(self.shape, dtype=torch.int64).repeat(self._comm.size, 1)
        if self.split is not None:
            table[:, self.split] = torch.tensor(self.counts)
        return table

    @property
    def split(self) -> int | None:
        """The axis that is cut over the ranks; None where every rank holds the whole array."""
        return self._layout.split

    @property
    def counts(self) -> PerRank:
        """How many indices of the split axis each rank holds; None for a replicated array."""
        return self._layout.counts

    @property
    def displs(self) -> PerRank:
        """The first index of the split axis of each rank; None for a replicated array."""
        return self._layout.displs

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._layout.ndim

    @property
    def size(self) -> int:
        """The number of elements of the global array."""
        return _Size(self._layout.size)

    @property
    def nbytes(self) -> int:
        """The bytes of the global array, each counted once."""
        return self.size * self._larray.element_size()

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the elements."""
        return self._larray.dtype

    @property
    def device(self) -> torch.device:
        """The device of this rank's shard."""
        return self._larray.device

    @property
    def itemsize(self) -> int:
        """The bytes of an element."""
        return self._larray.element_size()

    @property
    def real(self) -> DNDarray:
        """The real parts of the elements, in new memory. See `minisplit.real`."""
        return _ops.real(self)

    @property
    def imag(self) -> DNDarray:
        """The imaginary parts of the elements, 0 for real numbers. See `minisplit.imag`."""
        return _ops.imag(self)

    def numel(self) -> int:
        """Return the number of elements of the global array: `size`. Local."""
        return self.size

    def nelement(self) -> int:
        """Return the number of elements of the global array: `size`. Local."""
        return self.size

    def dim(self) -> int:
        """Return the number of axes: `ndim`. Local."""
        return self.ndim

    def element_size(self) -> int:
        """Return the bytes of an element: `itemsize`. Local."""
        return self.itemsize

    def is_floating_point(self) -> bool:
        """Return whether the dtype is a real floating-point one. Local."""
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        """Return whether the dtype is a complex one. Local."""
        return self.dtype.is_complex

    def create_lshape_map(self, force_check: bool = False) -> torch.Tensor:
        """Return the shapes of all shards, under Heat's name: `lshape_map`. Local."""
        return self.lshape_map

    def counts_displs(self) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
        """Return `counts` and `displs`, under Heat's name. Local."""
        return self.counts, self.displs

    def is_balanced(self) -> bool:
        """Return whether the first `n % size` ranks hold one index more than the others, as by default. Local."""
        return self._layout.is_balanced

    def is_distributed(self) -> bool:
        """Return whether the array is cut over more than one rank. Local."""
        return self.split is not None and self._comm.size > 1

    def __len__(self) -> int:
        """Return the extent of axis 0. Local."""
        if not self.shape:
            raise TypeError("a 0-d array has no length and no items: use item(), or reshape(1)")
        return self.shape[0]

    def __copy__(self) -> DNDarray:
        """Return an array that shares the memory of this one. Local."""
        return self._wrap(self._larray, self._layout, self._comm)

    def __deepcopy__(self, memo: dict[int, Any]) -> DNDarray:
        """Return a copy, as torch copies this rank's tensor; the copy of a leaf is a leaf. Local."""
        copied = self._wrap(deepcopy(self._larray, memo), self._layout, self._comm)
        # Optimisers are to know of it as of this one.
        return copied.requires_grad_() if copied.requires_grad else copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Raise TypeError, because a pickle would have one rank's part only, and its communicator."""
        raise TypeError(
            "an array cannot be pickled, as torch.save and multiprocessing do, since this rank has a part of it: "
            "write it by minisplit.save or save_checkpoint, or pickle x.torch(), the whole of it, or x.larray"
        )

    def __repr__(self) -> str:
        return local_repr(self._layout, self._comm.rank, self._larray)

    def _repr_html_(self) -> str:
        return local_html(self._layout, self._comm.rank, self._larray)

    def show(self) -> None:
        """Print the values of the global array on rank 0. Collective. See `minisplit.show`."""
        _ops.show(self)

    # Who owns what

    def to_layout(self, layout: Layout) -> DNDarray:
        """Return the array in another layout of its shape, or the array itself if it has this layout.

        Parameters
        ----------
        layout : Layout
            Who is to own what.

        Returns
        -------
        DNDarray
            The same elements. New memory, unless the layout is the array's own.

        Raises
        ------
        ValueError
            If the layout is of another shape or number of ranks.

        Communication
        -------------
        Collective: one exchange of the elements that change their rank. No message if none does.
        """
        return self if layout is self._layout or layout == self._layout else self._redistributed(layout)

    def _align(self, layout: Layout) -> DNDarray:
        """Return `to_layout(layout)` for an operation that needs the array there, and warn of a large move."""
        if layout is self._layout or layout == self._layout:
            return self
        warn_of_move(self._larray.element_size(), self._layout, layout, self._comm)
        return self._redistributed(layout)

    def resplit(self, axis: int | None = None) -> DNDarray:
        """Return a new array that is split along another axis, or gathered on every rank.

        Parameters
        ----------
        axis : int, optional
            The axis along which the result is split. By default None: every rank gets the whole array.

        Returns
        -------
        DNDarray
            The same elements in new memory. Its counts follow the default rule, but an array that is split along
            `axis` already keeps its own.

        Raises
        ------
        IndexError
            If the axis is out of range.
        TypeError
            If it is not an int.

        Communication
        -------------
        Collective: one exchange of the elements that change their rank.

        Examples
        --------
        >>> import minisplit as ms
        >>> x = ms.zeros((4, 6), split=0)
        >>> x.resplit(1).split, x.split
        (1, 0)
        """
        return self._redistributed(self._split_along(axis))

    def resplit_(self, axis: int | None = None) -> Self:
        """Split this array along `axis`, in place of its present layout. Collective. See `resplit`."""
        return self._become(self._split_along(axis))

    def _split_along(self, axis: int | None) -> Layout:
        return self._layout.with_split(None if axis is None else normalise_axis(axis, self.ndim, "axis"))

    def balance(self) -> DNDarray:
        """Return a new array with the default counts along the same split axis. Collective: one exchange."""
        return self._redistributed(self._layout.balanced())

    def balance_(self) -> Self:
        """Give this array the default counts. Collective: one exchange."""
        return self._become(self._layout.balanced())

    def redistribute(self, counts: Sequence[int]) -> DNDarray:
        """Return a new array with other counts along the same split axis.

        Parameters
        ----------
        counts : sequence of int
            How many indices of the split axis each rank is to hold.

        Returns
        -------
        DNDarray
            The same elements in new memory.

        Raises
        ------
        ValueError
            If the counts are not one number per rank, are negative, or do not add up to the axis' extent, or if
            the array is replicated.

        Communication
        -------------
        Collective: one exchange of the elements that change their rank.

        Examples
        --------
        >>> import minisplit as ms
        >>> x = ms.arange(5, split=0)
        >>> x.redistribute([5] + [0] * (x.comm.size - 1)).counts[0]
        5
        """
        return self._redistributed(self._layout.with_counts(counts))

    def redistribute_(self, counts: Sequence[int]) -> Self:
        """Give this array other counts. Collective. See `redistribute`."""
        return self._become(self._layout.with_counts(counts))

    def _redistributed(self, layout: Layout) -> DNDarray:
        """Return the array under another layout, always in memory of its own. Collective."""
        return self._wrap(redistribute(self._larray, self._layout, layout, self._comm), layout, self._comm)

    def _become(self, layout: Layout) -> Self:
        """Give this array another layout, for the methods that end in an underscore. Collective."""
        if self._larray.requires_grad and self._larray.is_leaf:
            # Else its gradient would stay behind, and an optimiser go on with a shard that is nobody's any more.
            raise RuntimeError(
                "the array is a leaf that requires a gradient, and an optimiser may hold its shard: it keeps its "
                "layout. Lay it out before requires_grad_(), or make a new one, as by resplit, balance or "
                "redistribute"
            )
        self._larray, self._layout = self._redistributed(layout)._larray, layout
        return self

    def to_dtensor(self, mesh: DeviceMesh | None = None) -> DTensor:
        """Return the array as a DTensor of torch, whose local tensors are the shards.

        Parameters
        ----------
        mesh : torch.distributed.device_mesh.DeviceMesh, optional
            A mesh of one dimension, with the processes of the communicator. By default one is made, once for each.

        Returns
        -------
        torch.distributed.tensor.DTensor
            Placed by `Shard(split)` or `Replicate`. It shares memory with the array if the counts are those of
            `torch.chunk` (of 10 indices four processes have 3, 3, 3 and 1). Otherwise it is a copy with these
            counts. Gradients flow back.

        Raises
        ------
        RuntimeError
            If the program has no process group of torch.distributed.
        ValueError
            If the mesh has several dimensions, or another number of processes.

        Communication
        -------------
        Local if the counts are those of torch. Otherwise collective: one exchange. Without a mesh torch makes one,
        and compares the ranks.

        See Also
        --------
        minisplit.from_dtensor : The other way, with an example.
        """
        return _ops.dtensor.to_dtensor(self, mesh)

    # The whole array, as other things

    def numpy(self) -> NDArray[Any]:
        """Return the global array as a NumPy array on every rank.

        Returns
        -------
        numpy.ndarray
            All elements, in host memory of its own.

        Communication
        -------------
        Collective: one exchange, which gathers the array. Local for a replicated one.
        """
        whole = self._redistributed(self._layout.with_split(None))._larray
        array: NDArray[Any] = whole.detach().cpu().resolve_conj().resolve_neg().numpy()
        return array

    def tolist(self) -> Any:
        """Return the global array as nested lists of Python numbers on every rank.

        Returns
        -------
        list or number
            Lists as deep as the array has axes; for a 0-d array its number.

        Communication
        -------------
        Collective: one exchange, which gathers the array. Local for a replicated one.
        """
        return self.to_layout(self._layout.with_split(None))._larray.tolist()

    def item(self) -> Any:
        """Return the only element as a Python number on every rank.

        Returns
        -------
        number
            A bool, int, float or complex, as the dtype has it.

        Raises
        ------
        ValueError
            If the array has another number of elements than one.

        Communication
        -------------
        Collective: one broadcast from the rank that has the element. Local for a replicated array.
        """
        if self.size != 1:
            raise ValueError(f"item() needs an array of one element, got shape {self.shape}")
        if self.counts is None:
            return self._larray.item()
        owner = self.counts.index(1)
        mine = self._larray.reshape(()) if self._comm.rank == owner else self._larray.new_empty(())
        return self._comm.broadcast(mine, owner).item()

    def __bool__(self) -> bool:
        """Return the truth of the only element. Collective. See `item`."""
        if self.size != 1:
            raise ValueError(
                f"the truth value of an array of shape {self.shape} is ambiguous: it needs one element"
            )
        return bool(self.item())

    def __int__(self) -> int:
        """Return the only element as an int. Collective. See `item`."""
        return int(self.item())

    def __float__(self) -> float:
        """Return the only element as a float. Collective. See `item`."""
        return float(self.item())

    def __complex__(self) -> complex:
        """Return the only element as a complex. Collective. See `item`."""
        return complex(self.item())

    def __format__(self, spec: str) -> str:
        """Return `repr(self)`, or format the only element (".3f"), which is collective. See `item`."""
        return format(self.item(), spec) if spec else str(self)

    def __index__(self) -> int:
        """Return the integer of a 0-d array, as in `range(x)`. Local."""
        return _ops.interop.to_index(self)

    def astype(self, dtype: Dtype, /, *, copy: bool = True, device: Device = None) -> DNDarray:
        """Return the array with another dtype. Local. See `minisplit.astype`."""
        return _ops.astype(self, dtype, copy=copy, device=device)

    def to_device(self, device: Device, /, *, stream: None = None) -> DNDarray:
        """Return the array on another device, or the array itself if it is there already.

        Parameters
        ----------
        device : str or torch.device
            "cpu", "gpu" or a device of torch.
        stream : None
            Always None: torch's current stream is used.

        Returns
        -------
        DNDarray
            The array, in the same layout.

        Raises
        ------
        ValueError
            If a stream is given.

        Communication
        -------------
        Local.
        """
        return _ops.interop.to_device(self, device, stream=stream)

    def __array__(self, dtype: np.dtype[Any] | None = None, *, copy: bool | None = None) -> NDArray[Any]:
        """Return the global array for `np.asarray(x)`. Collective where the array is split: it is gathered."""
        return _ops.interop.to_numpy(self, dtype, copy=copy)

    def __array_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call minisplit's function of the same name as NumPy's, or raise TypeError."""
        return _ops.numpy_functions.call(func, args, kwargs)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Call minisplit's function of the name of NumPy's ufunc (or operator), or raise TypeError."""
        return _ops.numpy_functions.call_ufunc(ufunc, method, inputs, kwargs)

    def __array_namespace__(self, /, *, api_version: str | None = None) -> ModuleType:
        """Return the namespace of the Python Array API standard for this array: minisplit. Local."""
        return _ops.interop.array_namespace(api_version)

    def __dlpack__(
        self,
        /,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[Any, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """Export the global array by the DLPack protocol. Collective where the array is split: it is gathered."""
        return _ops.interop.to_dlpack(self, stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)

    def __dlpack_device__(self, /) -> tuple[Any, int]:
        """Return the device of `__dlpack__`, as the protocol numbers devices. Local."""
        device: tuple[Any, int] = self._larray.__dlpack_device__()
        return device

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call minisplit's function that means the same as torch's, or raise TypeError.

        In a mapped function, torch computes with the tensor of a replicated array. Elsewhere the function of
        minisplit is called (see `minisplit.ops.torch_functions`).
        """
        if not inside_vmap():
            return _ops.torch_functions.call(func, args, kwargs or {})
        args, kwargs = pytree.tree_map_only(DNDarray, captured_tensor, (args, kwargs or {}))
        return func(*args, **kwargs)

    # Gradients

    @property
    def requires_grad(self) -> bool:
        """Whether autograd records what is done with the array. It can be set. The same on every rank."""
        return self._larray.requires_grad

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        """Whether autograd records what is done with the array. To set it is to call `requires_grad_`."""
        self.requires_grad_(requires_grad)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether autograd computes the gradient of this array, as torch's method does.

        Parameters
        ----------
        requires_grad : bool, default True
            Whether autograd is to record what is done with the array. The same on every rank.

        Returns
        -------
        DNDarray
            The array itself.

        Raises
        ------
        RuntimeError
            If the dtype is not a floating point or complex one, or the array is computed from others that require
            a gradient.

        Communication
        -------------
        Local. All ranks must make the same call, since backward passes are collective.

        Examples
        --------
        >>> import minisplit as ms
        >>> x = ms.arange(4.0, split=0).requires_grad_()
        >>> (x**2).sum().backward()
        >>> x.grad.tolist()
        [0.0, 2.0, 4.0, 6.0]
        """
        self._larray.requires_grad_(requires_grad)
        if self.is_distributed():
            split_leaves[self._larray] = self._layout, self._comm
        return self

    @property
    def grad(self) -> DNDarray | None:
        """The gradient that backward passes have added up, in the layout of the array, or None. It can be set.

        It shares its memory with `larray.grad`.
        """
        gradient = self._larray.grad
        return None if gradient is None else self._wrap(gradient, self._layout, self._comm)

    @grad.setter
    def grad(self, gradient: DNDarray | None) -> None:
        """The gradient that backward passes have added up, in the layout of the array, or None."""
        if gradient is not None:
            gradient = as_dndarray(gradient, "grad")
            if gradient._comm is not self._comm or gradient._layout != self._layout:
                raise ValueError(f"grad must have the array's layout, {self._layout}, got {gradient._layout}")
        self._larray.grad = None if gradient is None else gradient._larray

    @property
    def grad_fn(self) -> Any:
        """The node of autograd's graph that made this rank's shard; None for a leaf."""
        return self._larray.grad_fn

    @property
    def is_leaf(self) -> bool:
        """Whether the array is a leaf of autograd's graph: not computed from one that requires a gradient."""
        return self._larray.is_leaf

    @property
    def retains_grad(self) -> bool:
        """Whether the array keeps its gradient although it is not a leaf. See `retain_grad`."""
        return self._larray.retains_grad

    def retain_grad(self) -> None:
        """Keep the gradient of this array in backward passes, even if it is not a leaf. Local, on all ranks."""
        self._larray.retain_grad()

    def backward(
        self,
        gradient: DNDarray | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """Compute the gradient of this array with respect to all its leaves, and add it to their `grad`.

        An array of one element, split or replicated, is one loss. It counts once, for any number of ranks that
        have it. Each leaf gets its whole gradient, in the layout of the leaf.

        Parameters
        ----------
        gradient : DNDarray, optional
            The gradient of a loss with respect to this array, of its shape and in any layout. For an array of one
            element it is 1 by default.
        retain_graph : bool, optional
            Whether another backward pass through the same graph may follow. By default as `create_graph`.
        create_graph : bool, default False
            Whether the gradients can be differentiated again.
        inputs : DNDarray or torch.Tensor, or a sequence of them, optional
            The leaves that get gradients. By default all.

        Raises
        ------
        RuntimeError
            If the array requires no gradient on some rank, or has more elements than one and no `gradient` is
            given.
        TypeError
            If `gradient` is not a DNDarray.
        ValueError
            If `gradient` has another shape or communicator.

        Communication
        -------------
        Collective: one agreement, and the backward passes of the collective operations that led to the array. If
        `gradient` is in another layout, one exchange comes first.

        See Also
        --------
        torch.autograd.grad : The gradients themselves. It takes DNDarrays too.

        Examples
        --------
        >>> import minisplit as ms
        >>> x, w = ms.ones((6, 2), split=0), ms.ones(2).requires_grad_()
        >>> ((x @ w) ** 2).mean().backward()
        >>> w.grad.tolist(), w.grad.split
        ([4.0, 4.0], None)
        """
        _ops.autograd.backward((self,), (gradient,), retain_graph, create_graph, inputs)

    def detach(self) -> DNDarray:
        """Return an array with the same memory and layout that requires no gradient. Local."""
        return self._wrap(self._larray.detach(), self._layout, self._comm)

    # Items

    def __iter__(self) -> Iterator[DNDarray]:
        """Return an iterator over the items along axis 0.

        Raises
        ------
        TypeError
            If the array has no axes.

        Communication
        -------------
        Collective: one broadcast for each item where axis 0 is the split axis. Otherwise local.
        """
        return (self[index] for index in range(len(self)))

    def __getitem__(self, key: Any) -> DNDarray:
        """Return a copy of the elements that `key` selects, as in NumPy.

        Parameters
        ----------
        key : int, slice, None, Ellipsis, array, or tuple of these
            A slice may have any step. An array is a mask of one axis or several, or holds integers: a DNDarray, a
            tensor, a NumPy array or a list. Several arrays broadcast to one shape, as in NumPy. The same on every
            rank.

        Returns
        -------
        DNDarray
            The selected elements. How they are split follows from what selects along the split axis.

            - A slice and a mask leave rows on their ranks, so the counts of the result may be uneven. A negative
              step moves each rank's rows once, to the opposite rank.
            - An int gives a replicated result.
            - An array of integers gives a result that is split along the array's axis. It has the default counts,
              or those of the array if that is split. Each rank gets the rows that it needs from their owners.

        Raises
        ------
        IndexError
            If the key does not fit the array.
        ValueError
            If a step is 0, or a DNDarray in the key is on another communicator.

        Communication
        -------------
        Collective, but most keys need no message. An int along the split axis takes one broadcast, and integers
        along it take one exchange. A split array in the key takes a message for its bounds or counts; it is
        gathered unless it indexes the split axis. Along other axes no rows move.

        Examples
        --------
        >>> import minisplit as ms
        >>> x = ms.arange(6, split=0)
        >>> x[::-2].tolist(), x[-1].item(), x[[3, 3, 0]].tolist(), x[None, x.numpy() > 3].shape
        ([5, 3, 1], 5, [3, 3, 0], (1, 2))
        """
        shard, layout = get(self._part, self._parts(key), self._comm)
        return self._wrap(shard, layout, self._comm)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Set what `key` selects to a value that broadcasts to it.

        Each rank sets the rows that it owns, so the array's layout stays. Values are cast to the array's dtype. If
        an array of integers selects a row more than once, the row gets its last value. Autograd records the
        assignment: gradients flow to the value, and to the elements that are not set.

        Parameters
        ----------
        key : int, slice, None, Ellipsis, array, or tuple of these
            See `__getitem__`.
        value : number, torch.Tensor, numpy.ndarray or DNDarray
            What to set. A number, a tensor and a NumPy array are the same on every rank.

        Raises
        ------
        IndexError
            If the key does not fit the array.
        ValueError
            If the value does not broadcast to what the key selects, or is on another communicator.
        RuntimeError
            If the array is a leaf that requires a gradient. Then nothing has been set.

        Communication
        -------------
        Collective, as `__getitem__`. A replicated value needs no message. One exchange brings the parts of a split
        value to the ranks that set them. The backward pass sends the gradient of a split value by one exchange,
        and that of a replicated value by one allreduce.

        Examples
        --------
        >>> import minisplit as ms
        >>> x = ms.zeros(5, split=0)
        >>> x[1:4] = ms.arange(3, split=0)
        >>> x[[0, -1]] = 7
        >>> x.tolist()
        [7.0, 0.0, 1.0, 2.0, 7.0]
        """
        (value,) = self._parts((value,))
        put(self._part, self._parts(key), value, self._comm)

    @property
    def _part(self) -> Part:
        return Part(self._larray, self._layout)

    def _parts(self, operands: Any) -> Any:
        """Replace DNDarrays, alone or in a tuple, by their shards and layouts, for `minisplit.core.indexing`."""
        if isinstance(operands, tuple):
            return tuple(map(self._parts, operands))
        if not isinstance(operands, DNDarray):
            return operands
        if operands._comm is not self._comm:
            raise ValueError("a DNDarray in a key, or as a value, must be on the communicator of the indexed one")
        return operands._part

    if not TYPE_CHECKING:
        # Hidden from type checkers, which would take any attribute for one that is there.

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError, with a hint where minisplit, a tensor or an array of NumPy has the name."""
            hint = _ops.interop.hint_of_attribute(name) if _ops is not None else ""
            raise AttributeError(f"'DNDarray' object has no attribute {name!r}{hint}", name=name, obj=self)

    # Operators

    def _answers(self, other: object) -> bool:
        """Return whether an operator of this array computes with `other`, rather than leaving that to `other`.

        A tensor is left to torch in a mapped function, where it is one sample and this array stands for a tensor.
        """
        if type(other) is DNDarray:
            return True
        if isinstance(other, torch.Tensor) and inside_vmap():
            captured_tensor(self)  # raises where the ranks have different parts
            return False
        return isinstance(other, _OPERAND_TYPES)

    def __abs__(self) -> DNDarray:
        """Return the absolute values. Local. See `minisplit.abs`."""
        return _ops.abs(self)

    def __round__(self, digits: int | None = None) -> DNDarray:
        """Return the elements rounded to a number of decimals, for `round(x, 2)`. Local. See `minisplit.round`."""
        return _ops.round(self, digits or 0)

    def __neg__(self) -> DNDarray:
        """Return `-self`. Local. See `minisplit.negative`."""
        return _ops.negative(self)

    def __pos__(self) -> DNDarray:
        """Return a copy. Local. See `minisplit.positive`."""
        return _ops.positive(self)

    def __invert__(self) -> DNDarray:
        """Return `~self`. Local. See `minisplit.bitwise_invert`."""
        return _ops.bitwise_invert(self)

    def __eq__(self, other: object) -> DNDarray:  # type: ignore[override]
        """Return `self == other`, element by element. See `minisplit.equal`."""
        return _ops.equal(self, other) if self._answers(other) else _unlike("==", other)

    def __ne__(self, other: object) -> DNDarray:  # type: ignore[override]
        """Return `self != other`, element by element. See `minisplit.not_equal`."""
        return _ops.not_equal(self, other) if self._answers(other) else _unlike("!=", other)

    def __lt__(self, other: Operand) -> DNDarray:
        """Return `self < other`, element by element. See `minisplit.less`."""
        return _ops.less(self, other) if self._answers(other) else NotImplemented

    def __le__(self, other: Operand) -> DNDarray:
        """Return `self <= other`, element by element. See `minisplit.less_equal`."""
        return _ops.less_equal(self, other) if self._answers(other) else NotImplemented

    def __gt__(self, other: Operand) -> DNDarray:
        """Return `self > other`, element by element. See `minisplit.greater`."""
        return _ops.greater(self, other) if self._answers(other) else NotImplemented

    def __ge__(self, other: Operand) -> DNDarray:
        """Return `self >= other`, element by element. See `minisplit.greater_equal`."""
        return _ops.greater_equal(self, other) if self._answers(other) else NotImplemented

    def __add__(self, other: Operand) -> DNDarray:
        """Return `self + other`. See `minisplit.add`."""
        return _ops.add(self, other) if self._answers(other) else NotImplemented

    def __sub__(self, other: Operand) -> DNDarray:
        """Return `self - other`. See `minisplit.subtract`."""
        return _ops.subtract(self, other) if self._answers(other) else NotImplemented

    def __mul__(self, other: Operand) -> DNDarray:
        """Return `self * other`. See `minisplit.multiply`."""
        return _ops.multiply(self, other) if self._answers(other) else NotImplemented

    def __truediv__(self, other: Operand) -> DNDarray:
        """Return `self / other`. See `minisplit.divide`."""
        return _ops.divide(self, other) if self._answers(other) else NotImplemented

    def __floordiv__(self, other: Operand) -> DNDarray:
        """Return `self // other`. See `minisplit.floor_divide`."""
        return _ops.floor_divide(self, other) if self._answers(other) else NotImplemented

    def __mod__(self, other: Operand) -> DNDarray:
        """Return `self % other`. See `minisplit.remainder`."""
        return _ops.remainder(self, other) if self._answers(other) else NotImplemented

    def __divmod__(self, other: Operand) -> tuple[DNDarray, DNDarray]:
        """Return `self // other` and `self % other`. See `minisplit.divmod`."""
        return _ops.divmod(self, other) if self._answers(other) else NotImplemented

    def __pow__(self, other: Operand) -> DNDarray:
        """Return `self ** other`. See `minisplit.pow`."""
        return _ops.pow(self, other) if self._answers(other) else NotImplemented

    def __and__(self, other: Operand) -> DNDarray:
        """Return `self & other`. See `minisplit.bitwise_and`."""
        return _ops.bitwise_and(self, other) if self._answers(other) else NotImplemented

    def __or__(self, other: Operand) -> DNDarray:
        """Return `self | other`. See `minisplit.bitwise_or`."""
        return _ops.bitwise_or(self, other) if self._answers(other) else NotImplemented

    def __xor__(self, other: Operand) -> DNDarray:
        """Return `self ^ other`. See `minisplit.bitwise_xor`."""
        return _ops.bitwise_xor(self, other) if self._answers(other) else NotImplemented

    def __lshift__(self, other: Operand) -> DNDarray:
        """Return `self << other`. See `minisplit.bitwise_left_shift`."""
        return _ops.bitwise_left_shift(self, other) if self._answers(other) else NotImplemented

    def __rshift__(self, other: Operand) -> DNDarray:
        """Return `self >> other`. See `minisplit.bitwise_right_shift`."""
        return _ops.bitwise_right_shift(self, other) if self._answers(other) else NotImplemented

    def __radd__(self, other: Operand) -> DNDarray:
        """Return `other + self`. See `minisplit.add`."""
        return _ops.add(other, self) if self._answers(other) else NotImplemented

    def __rsub__(self, other: Operand) -> DNDarray:
        """Return `other - self`. See `minisplit.subtract`."""
        return _ops.subtract(other, self) if self._answers(other) else NotImplemented

    def __rmul__(self, other: Operand) -> DNDarray:
        """Return `other * self`. See `minisplit.multiply`."""
        return _ops.multiply(other, self) if self._answers(other) else NotImplemented

    def __rtruediv__(self, other: Operand) -> DNDarray:
        """Return `other / self`. See `minisplit.divide`."""
        return _ops.divide(other, self) if self._answers(other) else NotImplemented

    def __rfloordiv__(self, other: Operand) -> DNDarray:
        """Return `other // self`. See `minisplit.floor_divide`."""
        return _ops.floor_divide(other, self) if self._answers(other) else NotImplemented

    def __rmod__(self, other: Operand) -> DNDarray:
        """Return `other % self`. See `minisplit.remainder`."""
        return _ops.remainder(other, self) if self._answers(other) else NotImplemented

    def __rdivmod__(self, other: Operand) -> tuple[DNDarray, DNDarray]:
        """Return `other // self` and `other % self`. See `minisplit.divmod`."""
        return _ops.divmod(other, self) if self._answers(other) else NotImplemented

    def __rpow__(self, other: Operand) -> DNDarray:
        """Return `other ** self`. See `minisplit.pow`."""
        return _ops.pow(other, self) if self._answers(other) else NotImplemented

    def __rand__(self, other: Operand) -> DNDarray:
        """Return `other & self`. See `minisplit.bitwise_and`."""
        return _ops.bitwise_and(other, self) if self._answers(other) else NotImplemented

    def __ror__(self, other: Operand) -> DNDarray:
        """Return `other | self`. See `minisplit.bitwise_or`."""
        return _ops.bitwise_or(other, self) if self._answers(other) else NotImplemented

    def __rxor__(self, other: Operand) -> DNDarray:
        """Return `other ^ self`. See `minisplit.bitwise_xor`."""
        return _ops.bitwise_xor(other, self) if self._answers(other) else NotImplemented

    def __rlshift__(self, other: Operand) -> DNDarray:
        """Return `other << self`. See `minisplit.bitwise_left_shift`."""
        return _ops.bitwise_left_shift(other, self) if self._answers(other) else NotImplemented

    def __rrshift__(self, other: Operand) -> DNDarray:
        """Return `other >> self`. See `minisplit.bitwise_right_shift`."""
        return _ops.bitwise_right_shift(other, self) if self._answers(other) else NotImplemented

    def __iadd__(self, other: Operand) -> Self:
        """Change the array to `self + other`; its dtype and layout stay. See `minisplit.add`."""
        return _ops.in_place("add", self, other) if self._answers(other) else NotImplemented

    def __isub__(self, other: Operand) -> Self:
        """Change the array to `self - other`; its dtype and layout stay. See `minisplit.subtract`."""
        return _ops.in_place("subtract", self, other) if self._answers(other) else NotImplemented

    def __imul__(self, other: Operand) -> Self:
        """Change the array to `self * other`; its dtype and layout stay. See `minisplit.multiply`."""
        return _ops.in_place("multiply", self, other) if self._answers(other) else NotImplemented

    def __itruediv__(self, other: Operand) -> Self:
        """Change the array to `self / other`; its dtype and layout stay. See `minisplit.divide`."""
        return _ops.in_place("divide", self, other) if self._answers(other) else NotImplemented

    def __ifloordiv__(self, other: Operand) -> Self:
        """Change the array to `self // other`; its dtype and layout stay. See `minisplit.floor_divide`."""
        return _ops.in_place("floor_divide", self, other) if self._answers(other) else NotImplemented

    def __imod__(self, other: Operand) -> Self:
        """Change the array to `self % other`; its dtype and layout stay. See `minisplit.remainder`."""
        return _ops.in_place("remainder", self, other) if self._answers(other) else NotImplemented

    def __ipow__(self, other: Operand) -> Self:
        """Change the array to `self ** other`; its dtype and layout stay. See `minisplit.pow`."""
        return _ops.in_place("pow", self, other) if self._answers(other) else NotImplemented

    def __iand__(self, other: Operand) -> Self:
        """Change the array to `self & other`; its dtype and layout stay. See `minisplit.bitwise_and`."""
        return _ops.in_place("bitwise_and", self, other) if self._answers(other) else NotImplemented

    def __ior__(self, other: Operand) -> Self:
        """Change the array to `self | other`; its dtype and layout stay. See `minisplit.bitwise_or`."""
        return _ops.in_place("bitwise_or", self, other) if self._answers(other) else NotImplemented

    def __ixor__(self, other: Operand) -> Self:
        """Change the array to `self ^ other`; its dtype and layout stay. See `minisplit.bitwise_xor`."""
        return _ops.in_place("bitwise_xor", self, other) if self._answers(other) else NotImplemented

    def __ilshift__(self, other: Operand) -> Self:
        """Change the array to `self << other`; its dtype and layout stay. See `minisplit.bitwise_left_shift`."""
        return _ops.in_place("bitwise_left_shift", self, other) if self._answers(other) else NotImplemented

    def __irshift__(self, other: Operand) -> Self:
        """Change the array to `self >> other`; its dtype and layout stay. See `minisplit.bitwise_right_shift`."""
        return _ops.in_place("bitwise_right_shift", self, other) if self._answers(other) else NotImplemented

    def __matmul__(self, other: DNDarray) -> DNDarray:
        """Return `self @ other`. See `minisplit.matmul`."""
        return _ops.matmul(self, other) if self._answers(other) else NotImplemented

    def __rmatmul__(self, other: DNDarray) -> DNDarray:
        """Return `other @ self`. See `minisplit.matmul`."""
        return _ops.matmul(other, self) if self._answers(other) else NotImplemented

    # Other shapes

    @property
    def T(self) -> DNDarray:  # noqa: N802 - NumPy's name
        """The array with the order of its axes reversed. Local."""
        return _ops.transpose(self)

    @property
    def mT(self) -> DNDarray:  # noqa: N802 - the standard's name
        """The array with its last two axes swapped. Local."""
        return _ops.matrix_transpose(self)

    @property
    def H(self) -> DNDarray:  # noqa: N802 - torch's name
        """The conjugate of the array with the order of its axes reversed. Local."""
        return _ops.conj(self.T)

    @property
    def mH(self) -> DNDarray:  # noqa: N802 - torch's name
        """The conjugate of the array with its last two axes swapped. Local."""
        return _ops.conj(self.mT)

    def t(self) -> DNDarray:
        """Return the matrix with its axes swapped, or the vector itself. Local. `T` is for any number of axes."""
        if self.ndim > 2:
            raise ValueError(f"t() is for matrices, got shape {self.shape}; x.T reverses all axes, x.mT swaps two")
        return _ops.transpose(self)

    def reshape(self, *shape: int | Sequence[int], copy: bool | None = None) -> DNDarray:
        """Return the elements in another shape, given as one argument or several. See `minisplit.reshape`."""
        return _ops.reshape(self, shape[0] if len(shape) == 1 else shape, copy=copy)

    def transpose(self, *axes: int | Sequence[int] | None) -> DNDarray:
        """Return the array with its axes in another order, as NumPy's does. Local. See `minisplit.transpose`.

        `transpose(0, 1)` of a matrix is an error, because torch exchanges the axes, and NumPy changes nothing.
        """
        if axes == (0, 1) or (len(axes) == 2 != self.ndim and all(isinstance(axis, int) for axis in axes)):
            raise ValueError(
                f"transpose{axes} of shape {self.shape}: torch exchanges two axes so, NumPy takes the order of "
                f"all axes. Write x.swapaxes{axes}, or x.permute(...) with all axes"
            )
        return _ops.transpose(self, (axes[0] if len(axes) == 1 else axes) or None)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> DNDarray:
        """Return the elements of some axes, by default of all, along one. See `minisplit.flatten`."""
        if (start_dim, end_dim) == (0, -1):
            return _ops.flatten(self)
        first, last = (normalise_axis(each, self.ndim, "dim") for each in (start_dim, end_dim))
        if first > last:
            raise ValueError(f"flatten needs start_dim before end_dim, got {start_dim} and {end_dim}")
        extent = math.prod(self.shape[first : last + 1])
        return _ops.reshape(self, (*self.shape[:first], extent, *self.shape[last + 1 :]))

    def flip(self, *axes: int | Sequence[int] | None, axis: Axis = None, dims: Axis = None) -> DNDarray:
        """Return the array in reverse order along axes, given as one argument or several. See `minisplit.flip`."""
        named = axis if dims is None else dims
        return _ops.flip(self, named if not axes else axes[0] if len(axes) == 1 else axes)

    def roll(self, shift: Any = None, axis: Any = None, *, shifts: Any = None, dims: Any = None) -> DNDarray:
        """Shift the elements along axes, those beyond the end to the beginning. See `minisplit.roll`."""
        return _ops.roll(self, shift if shifts is None else shifts, axis if dims is None else dims)

    def tile(self, *reps: int | Sequence[int]) -> DNDarray:
        """Return copies of the array side by side, so many along each axis. See `minisplit.tile`."""
        return _ops.tile(self, reps[0] if len(reps) == 1 else reps)

    def repeat(
        self, repeats: int | Sequence[int] | DNDarray, axis: int | None = None, *more: Any, dim: int | None = None
    ) -> DNDarray:
        """Repeat each index of an axis, as NumPy's does. See `minisplit.repeat`."""
        if more:
            given = (repeats, axis, *more)
            raise TypeError(
                f"repeat takes repeats and an axis, as NumPy's: torch's x.repeat{given} is x.tile({given})"
            )
        return _ops.repeat(self, repeats, axis if dim is None else dim)

    def diagonal(
        self, offset: int = 0, axis1: int = 0, axis2: int = 1, *, dim1: int | None = None, dim2: int | None = None
    ) -> DNDarray:
        """Return the diagonals of the matrices in two axes, by default the first two. See `minisplit.diagonal`."""
        return _ops.diagonal(self, offset, axis1 if dim1 is None else dim1, axis2 if dim2 is None else dim2)

    def permute(self, *dims: int | Sequence[int]) -> DNDarray:
        """Return the array with its axes in another order. Local. See `minisplit.permute_dims`."""
        return _ops.permute_dims(self, dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims)

    def view(self, *shape: int | Sequence[int]) -> DNDarray:
        """Return the elements in another shape, as `reshape` does. See `minisplit.reshape`."""
        if shape and not isinstance(shape[0], (int, Sequence)):
            raise TypeError(f"view takes a shape, got {shape[0]}; x.astype(dtype) converts the elements")
        return self.reshape(*shape)

    def view_as(self, other: DNDarray) -> DNDarray:
        """Return the elements in the shape of another array. See `minisplit.reshape`."""
        return self.reshape(other.shape)

    def reshape_as(self, other: DNDarray) -> DNDarray:
        """Return the elements in the shape of another array. See `minisplit.reshape`."""
        return self.reshape(other.shape)

    def expand(self, *sizes: int | Sequence[int]) -> DNDarray:
        """Return the array broadcast to a shape; -1 is the extent it has. See `minisplit.broadcast_to`."""
        return _ops.interop.expand(self, sizes)

    def expand_as(self, other: DNDarray) -> DNDarray:
        """Return the array broadcast to the shape of another. See `minisplit.broadcast_to`."""
        return _ops.broadcast_to(self, other.shape)

    def narrow(self, dim: int, start: int, length: int) -> DNDarray:
        """Return a copy of `length` indices of an axis from `start` on. See `__getitem__`."""
        before = (slice(None),) * normalise_axis(dim, self.ndim, "dim")
        return self[(*before, slice(start, start + length))]

    def chunk(self, chunks: int, dim: int = 0) -> tuple[DNDarray, ...]:
        """Return parts along an axis, equal except the last one, as `torch.chunk`. See `minisplit.array_split`."""
        step = max(-(-self.shape[normalise_axis(dim, self.ndim, "dim")] // chunks), 1)
        return tuple(_ops.array_split(self, range(step, self.shape[dim], step), dim))

    # Elements by masks and indices

    def where(self, condition: DNDarray, other: Operand) -> DNDarray:
        """Return the elements where a condition is true, and of `other` elsewhere. See `minisplit.where`."""
        return _ops.where(condition, self, other)

    def masked_fill(self, mask: DNDarray, value: complex | DNDarray) -> DNDarray:
        """Return the array with another value where a mask is true; its dtype stays. See `minisplit.where`."""
        return _ops.astype(_ops.where(mask, value, self), self.dtype, copy=False)

    def masked_select(self, mask: DNDarray) -> DNDarray:
        """Return the elements where a mask is true, as a 1-d array. See `minisplit.extract`."""
        return _ops.extract(_ops.broadcast_to(mask, self.shape), self)

    def index_select(self, dim: int, index: DNDarray | Sequence[int]) -> DNDarray:
        """Return elements by their indices along an axis. See `minisplit.take`."""
        return _ops.take(self, index, dim)

    def compress(
        self, condition: DNDarray | Sequence[bool], axis: int | None = None, out: DNDarray | None = None
    ) -> DNDarray:
        """Return the indices of an axis for which a condition is true. See `minisplit.compress`."""
        return _ops.compress(condition, self, axis, out=out)

    # Copies and casts. Others are in `array_methods`

    def copy(self, order: str = "C") -> DNDarray:
        """Return a copy in new memory. Gradients flow through it. Local. `order` changes nothing."""
        return self._wrap(self._larray.clone(), self._layout, self._comm)

    def clone(self) -> DNDarray:
        """Return a copy in new memory. Gradients flow through it. Local."""
        return self.copy()

    def contiguous(self) -> DNDarray:
        """Return the array itself, because users need not know how a shard lies in memory. Local."""
        return self

    def to(self, *target: Any, dtype: Dtype = None, device: Device = None, copy: bool = False) -> DNDarray:
        """Return the array with a dtype, on a device, or with both those of another array. Local.

        Parameters
        ----------
        *target : torch.dtype, torch.device, str, DNDarray or torch.Tensor
            A dtype, a device, a device and a dtype, or an array or tensor that has both.
        dtype : torch.dtype, optional
            The dtype. By default it stays.
        device : str or torch.device, optional
            The device. By default it stays.
        copy : bool, default False
            Whether to copy an array that has both already.

        Returns
        -------
        DNDarray
            The array in the same layout, or the array itself if nothing changes.

        Raises
        ------
        TypeError
            If an argument is neither a dtype nor a device.

        Communication
        -------------
        Local.
        """
        return _ops.interop.convert(self, target, dtype, device, copy)

    def type_as(self, other: DNDarray) -> DNDarray:
        """Return the array with the dtype of another. Local. See `minisplit.astype`."""
        return _ops.astype(self, other.dtype, copy=False)

    def cpu(self) -> DNDarray:
        """Return the array with its shards in host memory, or the array itself if they are there. Local."""
        return self.to_device("cpu")

    def cuda(self) -> DNDarray:
        """Return the array with each shard on its rank's GPU, or the array itself if they are there. Local."""
        return self.to_device("gpu")

    def gpu(self) -> DNDarray:
        """Return the array with each shard on its rank's GPU, or the array itself if they are there. Local."""
        return self.to_device("gpu")

    def fill(self, value: complex) -> None:
        """Set all elements to a number. Local. See `__setitem__`."""
        self[...] = value

    def fill_(self, value: complex) -> Self:
        """Set all elements to a number, and return the array. Local. See `__setitem__`."""
        self[...] = value
        return self

    def zero_(self) -> Self:
        """Set all elements to 0, and return the array. Local. See `__setitem__`."""
        return self.fill_(0)

    def copy_(self, other: Any) -> Self:
        """Set the elements to those of another array, which broadcasts. See `__setitem__`."""
        self[...] = other
        return self

    def save(self, path: str, *arguments: Any, **options: Any) -> None:
        """Save the array to a file. Collective. See `minisplit.save`."""
        _ops.interop.save(self, path, *arguments, **options)

    # Last, since within the class the name of torch is this method's from here on.

    def torch(self) -> torch.Tensor:
        """Return the global array as a tensor on every rank. Gradients flow back through it.

        If all ranks compute the same loss from it, that is one loss, and each rank calls `backward` on its own.

        Returns
        -------
        torch.Tensor
            All elements, in memory of its own, on the array's device.

        Communication
        -------------
        Collective: one exchange, which gathers the array. Its backward pass is local. Local for a replicated one.

        Examples
        --------
        >>> import minisplit as ms
        >>> x = ms.arange(3.0, split=0).requires_grad_()
        >>> x.torch().prod().backward()
        >>> x.grad.tolist()
        [2.0, 0.0, 0.0]
        """
        return self._redistributed(self._layout.with_split(None))._larray


# What an operator takes beside an array.
Operand = DNDarray | complex | np.number[Any] | np.bool_
_OPERAND_TYPES = (DNDarray, int, float, complex, np.number, np.bool_, torch.Tensor, np.ndarray)


def captured_tensor(x: DNDarray) -> torch.Tensor:
    """Return the tensor with which a mapped function that has captured `x` computes.

    Raises
    ------
    TypeError
        If the tensor is not the same on all ranks, or requires a gradient: each rank would get a part of the
        gradient.
    """
    if x.split is not None:
        raise TypeError(
            f"the mapped function uses a DNDarray that is split along {x.split}, so each rank has another "
            "part: pass it as an argument to map over it, or capture it replicated (minisplit.resplit(x, None))"
        )
    if x.larray.requires_grad and torch.is_grad_enabled():
        raise TypeError(
            "the mapped function uses a DNDarray that requires a gradient, but each rank would get a part of the "
            "gradient: pass it as a keyword argument"
        )
    return x.larray


def as_dndarray(x: Any, name: str = "x") -> DNDarray:
    """Return `x` if it is a DNDarray. Otherwise raise a TypeError that names it and says how to make one."""
    if isinstance(x, DNDarray):
        return x
    # An array in a file, of a class above this one, can be loaded.
    made = f"{name}.load() is one" if hasattr(x, "load") else "make one with minisplit.array(..., split=...)"
    if isinstance(x, tuple) and len(x) == 1 and isinstance(x[0], DNDarray):
        made = "it has one output in a tuple: write (y,) = ..., or take its first, [0]"
    raise TypeError(f"{name} must be a DNDarray, got {type(x).__name__}; {made}")


def replicated(whole: torch.Tensor, comm: Communication) -> DNDarray:
    """Return the array of a tensor that is the same on all ranks. Local."""
    return DNDarray._wrap(whole, Layout(tuple(whole.shape), None, comm.size), comm)


def _unlike(operator: str, other: object) -> Any:
    """Return NotImplemented; raise TypeError for a list or tuple, of which Python would say False in silence."""
    # A class made of them that compares by a rule of its own is asked, as the tuple of one output.
    if isinstance(other, list | tuple) and type(other).__eq__ in {list.__eq__, tuple.__eq__}:
        raise TypeError(
            f"an operand of {operator} must be a DNDarray or a number, got {type(other).__name__}; make one "
            "with minisplit.array(..., split=...)"
        )
    return NotImplemented
