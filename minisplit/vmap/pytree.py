"""Structures of arguments and outputs: nested tuples, lists and dicts, and the mapped axes of their leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import torch

from minisplit.core.array import DNDarray
from minisplit.core.communication.protocol import Communication
from minisplit.core.error_text import short_repr
from minisplit.core.layout import as_index
from minisplit.core.pytorch.pytree import TreeSpec, pytree
from minisplit.core.pytorch.transforms import is_tracked
from minisplit.core.storage import StoredArray
from minisplit.vmap.inputs.batch import REDUCTIONS, Dims, OutDim
from minisplit.vmap.inputs.references import NUMBERS_AND_TEXTS
from minisplit.vmap.single import SingleOutput

# How a function's tensors lie in what it returned: None for a bare tensor, a number for a flat tuple of so many
# tensors, and else torch's tree. The first two are what most functions return, and take no walk through a tree.
Structure = int | TreeSpec | None


def flatten_inputs(args: tuple[Any, ...]) -> tuple[list[Any], TreeSpec, dict[int, Any]]:
    """The arrays in `args`, how all leaves lie in it, and those leaves that are no arrays, by their place."""
    leaves, spec = pytree.tree_flatten(args)
    others = {place: x for place, x in enumerate(leaves) if not isinstance(x, DNDarray | StoredArray)}
    arrays = [x for place, x in enumerate(leaves) if place not in others] if others else leaves
    return arrays, spec, others


def no_array(spec: TreeSpec, place: int, x: object) -> TypeError:
    """The error for an argument that is no array where one is mapped, or may be."""
    label = input_labels(spec)[place]
    where = "positional argument" if label.isdecimal() else "input"
    return TypeError(
        f"{where} {label} must be a DNDarray, got {type(x).__name__}; make it one with minisplit.array(..., "
        "split=...), or say that it is not mapped: by None in its place in in_dims, or by passing it by keyword"
        f"{hint_for_dataclass(x)}"
    )


def hint_for_dataclass(x: object) -> str:
    """What makes a structure of a dataclass, if `x` is one."""
    if not is_dataclass(x):
        return ""
    name = type(x).__name__
    return f"; a dataclass is a structure of its fields after torch.export.register_dataclass({name})"


def input_labels(spec: TreeSpec) -> list[str]:
    """What to call the inputs: `0`, or `1['weight']` for a leaf of a structure."""
    numbered = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    labels = [pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path(numbered)[0]]
    # The first key is the argument's place, [1], which is written without its brackets.
    return [label[1:].replace("]", "", 1) if label.startswith("[") else label for label in labels]


def output_labels(structure: Structure, outputs: int) -> list[str]:
    """What to call the outputs, as for inputs."""
    if structure is None or isinstance(structure, int):
        return [str(i) for i in range(outputs)]
    return input_labels(structure)


class Unmapped:
    """What every sample is given whole, beside arrays: keyword arguments, and positional ones that are no arrays.

    The function gets them as they are, a replicated DNDarray as its tensor. A split one is an error.

    Parameters
    ----------
    kwargs : dict
        The keyword arguments.
    others : mapping of int to object
        The leaves of the positional arguments that are no arrays, by their place among all leaves.
    comm : Communication
        The communicator of the inputs.

    Attributes
    ----------
    leaves : list
        What is in all of them, flat: first `others`.
    traced : list of int
        The places in `leaves` of the tensors to which gradients flow back.
    objects : list of (str, object)
        The leaves that may refer to tensors, as modules do, each with its name.
    """

    def __init__(self, kwargs: dict[str, Any], others: Mapping[int, Any], comm: Communication) -> None:
        leaves, self._spec = pytree.tree_flatten(kwargs)
        for place, x in enumerate(leaves):
            if not isinstance(x, DNDarray):
                continue
            if x.split is not None:
                path = pytree.tree_flatten_with_path(kwargs)[0][place][0]
                raise TypeError(
                    f"keyword argument {pytree.keystr(path)[1:].replace(']', '', 1)} is a DNDarray split along "
                    f"{x.split}, but keyword arguments are not mapped: pass it as a positional argument to map "
                    "over it, or replicated (minisplit.resplit(x, None))"
                )
            if x.comm is not comm:
                raise ValueError("a DNDarray as keyword argument must be on the communicator of the inputs")
            leaves[place] = x.larray
        self._places = list(others)
        self.leaves = [*others.values(), *leaves]
        self.traced = [
            place for place, x in enumerate(self.leaves) if isinstance(x, torch.Tensor) and is_tracked(x)
        ]
        name = f"{list(kwargs)}" if kwargs else "argument"
        self.objects = [(name, x) for x in self.leaves if not isinstance(x, (torch.Tensor, *NUMBERS_AND_TEXTS))]

    def tensors(self) -> list[torch.Tensor]:
        """The tensors among them."""
        return [x for x in self.leaves if isinstance(x, torch.Tensor)]

    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments."""
        kwargs: dict[str, Any] = pytree.tree_unflatten(self.leaves[len(self._places) :], self._spec)
        return kwargs

    def args(self, tensors: Sequence[torch.Tensor], spec: TreeSpec | None) -> Sequence[Any]:
        """The positional arguments, of which `tensors` are those that are arrays."""
        if spec is None:
            return tensors
        leaves = list(tensors)
        for place, x in zip(self._places, self.leaves, strict=False):
            leaves.insert(place, x)
        args: Sequence[Any] = pytree.tree_unflatten(leaves, spec)
        return args


def flatten_outputs(returned: Any) -> tuple[Sequence[torch.Tensor], Structure]:
    """The tensors that a function returned, and how they lie in it; TypeError for a leaf of any other kind."""
    if isinstance(returned, torch.Tensor):
        return (returned,), None
    # Not isinstance: a NamedTuple is a tuple as well, but is to come back as itself.
    if type(returned) is tuple and returned and all(isinstance(x, torch.Tensor) for x in returned):
        return returned, len(returned)
    leaves, spec = pytree.tree_flatten(returned)
    rule = "func must return a tensor, or tuples, lists and dicts of tensors"
    if not leaves:
        raise TypeError(f"{rule}, but it returned {short_repr(returned)}, which holds none")
    for i, x in enumerate(leaves):
        if not isinstance(x, torch.Tensor):
            hint = "; use its larray inside of func" if isinstance(x, DNDarray) else ""
            hint = hint or ("; torch.as_tensor makes one of it" if isinstance(x, np.ndarray | np.generic) else "")
            hint = hint or hint_for_dataclass(x)
            what = f"output {i} is" if spec.num_nodes > 1 else "it returned"
            plain = x is None or isinstance(x, (bool, int, float, complex, str))
            raise TypeError(f"{rule}, but {what} {short_repr(x) if plain else f'a {type(x).__name__}'}{hint}")
    return leaves, spec


def unflatten_outputs(leaves: Sequence[Any], structure: Structure) -> Any:
    """The leaves in the structure; a bare one as a tuple of one."""
    if structure is None:
        return SingleOutput(leaves)
    if isinstance(structure, int):
        return tuple(leaves)
    return pytree.tree_unflatten(list(leaves), structure)


def example_of(structure: Structure) -> Any:
    """A value with this structure, which other ranks can be sent: torch's trees themselves warn when unpickled."""
    if structure is None or isinstance(structure, int):
        return structure
    return pytree.tree_unflatten(list(range(structure.num_leaves)), structure)


def structure_of(example: Any) -> Structure:
    """The inverse of `example_of`."""
    return example if example is None or isinstance(example, int) else pytree.tree_structure(example)


class _Star:
    """A leaf, in the text of a structure."""

    def __repr__(self) -> str:
        return "*"


def structure_text(structure: Structure) -> str:
    """A structure with a star for each leaf; "" for a bare tensor and for a flat tuple."""
    if structure is None or isinstance(structure, int):
        return ""
    return repr(pytree.tree_unflatten([_Star()] * structure.num_leaves, structure))


def validate_dims(dims: Any, name: str, others: Sequence[str] = ()) -> Any:
    """Return `dims` with each leaf an int, None or one of the `others`, a tuple for a list at the top.

    TypeError or ValueError for anything else.
    """
    leaves, spec = pytree.tree_flatten(dims)
    if not leaves:
        raise ValueError(f"{name} must not be empty: give an int, None, or one of them for each")
    which = name if spec.num_nodes == 1 else f"every entry of {name}"
    try:
        leaves = [dim if dim is None or _is_one_of(dim, others) else as_index(dim, which) for dim in leaves]
    except TypeError as error:
        arrays = any(isinstance(x, DNDarray) for x in leaves)
        hint = "; arrays go to what vmap returns: vmap(f)(x)" if arrays else ""
        allowed = "must be an int or None"
        if others and any(isinstance(x, str) for x in leaves):
            allowed += f", or {', '.join(map(repr, others[:-1]))} or {others[-1]!r}"
        raise TypeError(str(error).replace("must be an int", allowed) + hint) from None
    validated = pytree.tree_unflatten(leaves, spec)
    # Arguments, and what functions return, are most often a tuple, which a list would not fit.
    return tuple(validated) if type(validated) is list else validated


def _is_one_of(dim: object, others: Sequence[str]) -> bool:
    return isinstance(dim, str) and dim in others


def flatten_in_dims(
    in_dims: Any, spec: TreeSpec | None, arrays: Sequence[Any], others: Mapping[int, Any] | None = None
) -> Dims:
    """The mapped axis of each array, counted from the front; ValueError where `in_dims` does not fit.

    `others` are the leaves of `spec` that are no arrays: TypeError if one is to be mapped.
    """
    others = others or {}
    if spec is None:
        spec = pytree.tree_structure(tuple(range(len(arrays))))
    # For each leaf of `spec` what `in_dims` has there, or at a node above it; None if the two do not fit. The
    # output of a call is a class of tuple, which a plain one in `in_dims` would not fit.
    numbered = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    plain = pytree.tree_map_only(SingleOutput, tuple, numbered, is_leaf=lambda x: isinstance(x, SingleOutput))
    flat = pytree._broadcast_to_and_flatten(in_dims, pytree.tree_structure(plain))
    if flat is None:
        raise ValueError(
            f"in_dims {in_dims} does not fit the inputs, {structure_text(spec)}: it must be an int or None "
            "for all, or have the inputs' structure, down to any level"
        )
    for place, x in others.items():
        if flat[place] is not None:
            raise no_array(spec, place, x)
    dims = [dim for place, dim in enumerate(flat) if place not in others]
    for i, (dim, x) in enumerate(zip(dims, arrays, strict=True)):
        if dim is not None and not -x.ndim <= dim < x.ndim:
            allowed = f"allowed: {-x.ndim} to {x.ndim - 1}" if x.ndim else "it has no axis to map"
            raise ValueError(f"in_dims: axis {dim} is out of range for input {i} of shape {x.shape}; {allowed}")
    return tuple(None if dim is None else dim % x.ndim for dim, x in zip(dims, arrays, strict=True))


class OutDims:
    """Where the samples lie in each output: an int or None for all, or a tree that fits what is returned.

    Instead of an axis there may be the name of a reduction over the samples; `reduces` says whether there is one.
    `known` remembers the axes of each kind of outputs. Key: the structure, and the number of dimensions of each
    output, since a negative axis counts from the end. It has no bound, as a function returns few kinds of outputs.
    """

    def __init__(self, tree: Any) -> None:
        self.tree = validate_dims(tree, "out_dims", REDUCTIONS)
        self.reduces = any(isinstance(dim, str) for dim in pytree.tree_leaves(self.tree))
        self.known: dict[tuple[Any, ...], tuple[OutDim, ...]] = {}

    def flatten(self, structure: Structure, outputs: Sequence[torch.Tensor]) -> tuple[OutDim, ...]:
        """The axis for each output of one sample, counted from the front; ValueError where they do not fit."""
        flat = self._broadcast(structure, len(outputs))
        for dim, out in zip(flat, outputs, strict=True):
            if isinstance(dim, int) and not -out.ndim - 1 <= dim <= out.ndim:
                raise ValueError(
                    f"out_dims {self.tree}: axis {dim} is out of range for an output of shape {tuple(out.shape)} "
                    f"per sample; allowed: {-out.ndim - 1} to {out.ndim}"
                )
        dims = tuple(
            dim % (out.ndim + 1) if isinstance(dim, int) else dim for dim, out in zip(flat, outputs, strict=True)
        )
        self.known[structure, *[out.ndim for out in outputs]] = dims
        return dims

    def _broadcast(self, structure: Structure, outputs: int) -> list[OutDim]:
        """The axis for each output, as the program gave it; ValueError where the structures do not fit."""
        tree = self.tree
        if type(tree) in {int, str, type(None)}:
            return [tree] * outputs
        if isinstance(structure, TreeSpec):
            spec = structure
            if type(tree) is tuple and spec.type is list:
                tree = list(tree)  # which may be what the program gave: `validate_dims` has made a tuple of it
        else:  # a tuple of one axis goes with a bare tensor
            spec = pytree.tree_structure(tuple(range(outputs)))
        flat = pytree._broadcast_to_and_flatten(tree, spec)
        if flat is not None:
            return flat
        returned = pytree.tree_unflatten(list(range(outputs)), spec)
        if type(tree) is type(returned) and spec.type in {tuple, list} and len(tree) != len(returned):
            raise ValueError(f"out_dims {tree} are for {len(tree)} outputs, but func returned {len(returned)}")
        raise ValueError(
            f"out_dims {tree} does not fit what func returned, {structure_text(spec)}: it must be an int, None or "
            "a reduction for all, or have the structure of the outputs, down to any level"
        )
