"""Structures of inputs and outputs: nested tuples, lists and dicts, as `torch.utils._pytree` has them."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from minisplit.core.array import DNDarray
from minisplit.core.error_text import short_repr
from minisplit.core.layout import as_index
from minisplit.core.storage import StoredArray

# How a function's tensors lie in what it returned: None for a bare tensor, a number for a flat tuple of so many,
# which need no look into trees, and else the tree.
Structure = int | pytree.TreeSpec | None
Leaves = list[Any]


def flat_inputs(args: tuple[Any, ...]) -> tuple[Sequence[Any], pytree.TreeSpec | None]:
    """The arrays in `args`, and how they lie in it; None where they are a flat tuple of DNDarrays.

    TypeError for a leaf that is no DNDarray or StoredArray.
    """
    for x in args:
        if type(x) is not DNDarray:
            break
    else:
        return args, None
    leaves, spec = pytree.tree_flatten(args)
    for label, x in zip(input_labels(spec), leaves, strict=True):
        if not isinstance(x, DNDarray | StoredArray):
            where = "positional argument" if label.isdecimal() else "input"
            raise TypeError(
                f"{where} {label} must be a DNDarray, got {type(x).__name__}; make it one with "
                "minisplit.array(..., split=...), or pass it by keyword to have it unmapped"
            )
    return leaves, spec


def input_labels(spec: pytree.TreeSpec) -> list[str]:
    """What to call the inputs: `0`, or `1['weight']` for a leaf of a structure."""
    example = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    labels = [pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path(example)[0]]
    return [label[1:].replace("]", "", 1) if label.startswith("[") else label for label in labels]


def output_labels(structure: Structure, outputs: int) -> list[str]:
    """What to call the outputs, as for inputs."""
    if structure is None or isinstance(structure, int):
        return [str(i) for i in range(outputs)]
    return input_labels(structure)


def flat_outputs(returned: Any) -> tuple[Sequence[torch.Tensor], Structure]:
    """The tensors that a function returned, and how they lie in it; TypeError for a leaf of any other kind."""
    if isinstance(returned, torch.Tensor):
        return (returned,), None
    if type(returned) is tuple and returned and all(isinstance(x, torch.Tensor) for x in returned):
        return returned, len(returned)
    leaves, spec = pytree.tree_flatten(returned)
    wanted = "func must return a tensor, or tuples, lists and dicts of tensors"
    if not leaves:
        raise TypeError(f"{wanted}, but it returned {short_repr(returned)}, which holds none")
    for i, x in enumerate(leaves):
        if not isinstance(x, torch.Tensor):
            hint = "; use its larray inside of func" if isinstance(x, DNDarray) else ""
            what = f"output {i} is" if spec.num_nodes > 1 else "it returned"
            raise TypeError(f"{wanted}, but {what} {_described(x)}{hint}")
    return leaves, spec


def _described(x: object) -> str:
    return (
        short_repr(x) if x is None or isinstance(x, (bool, int, float, complex, str)) else f"a {type(x).__name__}"
    )


def unflatten(leaves: Sequence[Any], structure: Structure) -> Any:
    """The leaves in the structure; a bare one as a tuple of one."""
    if structure is None or isinstance(structure, int):
        return tuple(leaves)
    return pytree.tree_unflatten(list(leaves), structure)


def structure_text(structure: Structure) -> str | None:
    """The structure as text for other ranks; None where it has more in it than tuples, lists and dicts."""
    if structure is None or isinstance(structure, int):
        return "" if structure is None else str(structure)
    example = pytree.tree_unflatten(list(range(structure.num_leaves)), structure)
    try:
        text = repr(example)
        same = pytree.tree_structure(ast.literal_eval(text)) == structure
    except Exception:  # classes print themselves as they like
        return None
    return text if same else None


def structure_from_text(text: str) -> Structure:
    """The inverse of `structure_text`."""
    if not text:
        return None
    value = ast.literal_eval(text)
    return value if isinstance(value, int) else pytree.tree_structure(value)


def structure_bytes(structure: Structure) -> bytes:
    """Any structure, pickled, for ranks that have imported the same classes; TypeError where that cannot be."""
    if structure is None or isinstance(structure, int):
        return pickle.dumps(structure)
    example = pytree.tree_unflatten(list(range(structure.num_leaves)), structure)
    try:
        return pickle.dumps(example)
    except Exception as error:
        raise TypeError(
            f"func returned a {type(example).__name__} that ranks without samples cannot make, since it cannot be "
            f"pickled ({error}): define its classes at the top of a module"
        ) from error


def structure_from_bytes(data: bytes) -> Structure:
    """The inverse of `structure_bytes`."""
    value = pickle.loads(data)
    return value if value is None or isinstance(value, int) else pytree.tree_structure(value)


def checked_dims(dims: Any, name: str) -> Any:
    """`dims` with each leaf an int or None, a list for a tuple at the top; else TypeError or ValueError."""
    leaves, spec = pytree.tree_flatten(dims)
    if not leaves:
        raise ValueError(f"{name} must not be empty: give an int, None, or one of them for each")
    which = name if spec.num_nodes == 1 else f"every entry of {name}"
    try:
        leaves = [None if dim is None else as_index(dim, which) for dim in leaves]
    except TypeError as error:
        arrays = any(isinstance(x, DNDarray) for x in leaves)
        hint = "; arrays go to what vmap returns: vmap(f)(x)" if arrays else ""
        raise TypeError(str(error).replace("must be an int", "must be an int or None") + hint) from None
    checked = pytree.tree_unflatten(leaves, spec)
    return tuple(checked) if type(checked) is list else checked


def flat_in_dims(in_dims: Any, spec: pytree.TreeSpec | None, arrays: Sequence[Any]) -> tuple[int | None, ...]:
    """The mapped axis of each input, counted from the front; ValueError where `in_dims` does not fit."""
    if spec is None:
        spec = pytree.tree_structure(tuple(range(len(arrays))))
    flat = pytree._broadcast_to_and_flatten(in_dims, spec)
    if flat is None:
        raise ValueError(
            f"in_dims {in_dims} does not fit the inputs, {_shown(spec)}: it must be an int or None for all, or "
            "have the inputs' structure, down to any level"
        )
    for i, (dim, x) in enumerate(zip(flat, arrays, strict=True)):
        if dim is not None and not -x.ndim <= dim < x.ndim:
            allowed = f"allowed: {-x.ndim} to {x.ndim - 1}" if x.ndim else "it has no axis to map"
            raise ValueError(f"in_dims: axis {dim} is out of range for input {i} of shape {x.shape}; {allowed}")
    return tuple(None if dim is None else dim % x.ndim for dim, x in zip(flat, arrays, strict=True))


def _shown(spec: pytree.TreeSpec) -> str:
    """A structure with a star for each leaf."""
    return repr(pytree.tree_unflatten([_Star()] * spec.num_leaves, spec))


class _Star:
    def __repr__(self) -> str:
        return "*"


class OutDims:
    """Where the samples lie in each output: an int or None for all, or a tree that fits what is returned."""

    def __init__(self, tree: Any) -> None:
        self.tree = checked_dims(tree, "out_dims")
        self._flat: dict[Any, tuple[int | None, ...]] = {}

    def of(self, structure: Structure, outputs: Sequence[torch.Tensor]) -> tuple[int | None, ...]:
        """The axis for each output of one sample, counted from the front; ValueError where they do not fit."""
        key = structure, tuple([x.ndim for x in outputs])
        dims = self._flat.get(key)
        if dims is None:
            dims = self._flat[key] = self._checked(structure, outputs)
        return dims

    def _checked(self, structure: Structure, outputs: Sequence[torch.Tensor]) -> tuple[int | None, ...]:
        flat = self._spread(structure, len(outputs))
        for dim, out in zip(flat, outputs, strict=True):
            if dim is not None and not -out.ndim - 1 <= dim <= out.ndim:
                raise ValueError(
                    f"out_dims {self.tree}: axis {dim} is out of range for an output of shape {tuple(out.shape)} "
                    f"per sample; allowed: {-out.ndim - 1} to {out.ndim}"
                )
        return tuple(None if dim is None else dim % (out.ndim + 1) for dim, out in zip(flat, outputs, strict=True))

    def _spread(self, structure: Structure, outputs: int) -> list[int | None]:
        tree = self.tree
        if tree is None or isinstance(tree, int):
            return [tree] * outputs
        if isinstance(structure, pytree.TreeSpec):
            spec = structure
            if type(tree) is tuple and spec.type is list:
                tree = list(tree)
        else:  # a tuple of one axis goes with a bare tensor
            spec = pytree.tree_structure(tuple(range(outputs)))
        flat = pytree._broadcast_to_and_flatten(tree, spec)
        if flat is not None:
            return flat
        returned = pytree.tree_unflatten(list(range(outputs)), spec)
        if type(tree) is type(returned) and spec.type in {tuple, list} and len(tree) != len(returned):
            raise ValueError(f"out_dims {tree} are for {len(tree)} outputs, but func returned {len(returned)}")
        raise ValueError(
            f"out_dims {tree} does not fit what func returned, {_shown(spec)}: it must be an int or None for "
            "all, or have the structure of the outputs, down to any level"
        )
