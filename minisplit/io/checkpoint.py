"""Checkpoints: what a program is to go on from, in one file, which any number of ranks loads.

The file is a safetensors file with all arrays, whose metadata tell how the state was put together, as JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from minisplit.core.array import DNDarray
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication, sanitize_comm
from minisplit.core.devices import Device, sanitize_device
from minisplit.core.layout import Layout
from minisplit.io.atomic import replacing
from minisplit.io.collective import Path
from minisplit.io.formats.base import path_of
from minisplit.io.formats.raw import RawWriter, in_pieces
from minisplit.io.formats.safetensors import DTYPES, SAFETENSORS, Entry, code_of, create, header, reader

_KEY, _VERSION = "minisplit", 1


def save_checkpoint(state: Any, path: Path, *, comm: Communication | None = None) -> None:
    """Save what a program is to go on from: a dict of DNDarrays, tensors and numbers. Collective.

    state: dicts, lists and tuples, in one another, of DNDarrays, tensors, numbers, texts and None. All but the
        DNDarrays is the same on all ranks. The keys of dicts are texts or ints, as in the `state_dict()` of
        torch's modules and optimizers.
    comm: the ranks that save, by default those of the first DNDarray in it, or those in use.

    It is one safetensors file, written as by `save`: whatever happens, there is the whole old one or the whole new
    one. Other programs find the arrays under the keys joined by "/". Raises the same on all ranks: TypeError for
    what is none of these, or a dtype that such files have not, ValueError where the ranks' states differ, and
    OSError as `save` does.

    >>> import minisplit as ms, tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = ms.MPI_WORLD.broadcast_bytes(folder.encode()).decode() + "/step-7.safetensors"
    ...     ms.save_checkpoint({"x": ms.arange(5, split=0), "weights": [torch.ones(2)], "step": 7}, path)
    ...     state = ms.load_checkpoint(path)
    >>> state["x"].split, state["weights"], state["step"]
    (0, [tensor([1., 1.])], 7)
    """
    theirs = (leaf.comm for leaf in pytree.tree_leaves(state) if isinstance(leaf, DNDarray))
    comm = sanitize_comm(comm or next(theirs, None))
    packer = _Packer(comm)
    with agreement(comm, "putting together the state of a checkpoint"):
        told = json.dumps({"version": _VERSION, "state": packer.pack(state, "")})
    arrays = packer.arrays
    kinds = {name: (layout.shape, shard.dtype) for name, (shard, layout) in arrays.items()}
    _check_same(comm, f"{told} {kinds}", "the state of a checkpoint")
    for name, (shard, layout) in arrays.items():
        if layout.split is None:
            comm.check_replicated(shard, f"the replicated array {name!r} of a checkpoint")
    name = path_of(path)
    with replacing(comm, name, SAFETENSORS.check_old) as beside:
        with agreement(comm, f"making {name}"):
            if comm.rank == 0:
                create(beside, kinds, {_KEY: told})
        _write(comm, beside, name, arrays)


def load_checkpoint(path: Path, *, device: Device = None, comm: Communication | None = None) -> Any:
    """Load what `save_checkpoint` saved, on any number of ranks. Collective.

    DNDarrays are split as they were, with the same counts on as many ranks, and the default ones on others;
    tensors are whole on every rank. device: where both are, by default the CPU.

    Raises the same on all ranks, as `load`; ValueError for a file that is no checkpoint.

    >>> import minisplit as ms, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = ms.MPI_WORLD.broadcast_bytes(folder.encode()).decode() + "/c.safetensors"
    ...     ms.save_checkpoint({"step": 3, "rates": (0.1, 0.01)}, path)
    ...     ms.load_checkpoint(path)
    {'step': 3, 'rates': (0.1, 0.01)}
    """
    comm = sanitize_comm(comm)
    with agreement(comm, f"opening {path}"):
        place, name = sanitize_device(device), path_of(path)
        entries, metadata = header(name)
        text = metadata.get(_KEY, "")
        tree = _tree(text, entries, name)
    _check_same(comm, f"{text} {entries}", "the checkpoint to load")
    parts: list[tuple[str, DNDarray, Layout]] = []
    with agreement(comm, f"reading its part of {path}"):
        for key, layout in _layouts(tree, entries, comm.size):
            placed = in_pieces(layout, DTYPES[entries[key].code].itemsize)
            with closing(reader(name, entries, key)) as source:
                shard = source.read(placed.box(comm.rank)).to(place)
            parts.append((key, DNDarray(shard, placed, comm), layout))
    arrays = {}
    while parts:  # none is kept twice
        key, x, layout = parts.pop()
        arrays[key] = x.to_layout(layout)
    return _unpack(tree, arrays)


class _Packer:
    """Puts the arrays of a state aside, and tells in JSON how it was put together."""

    def __init__(self, comm: Communication) -> None:
        self.comm = comm
        self.arrays: dict[str, tuple[torch.Tensor, Layout]] = {}

    def pack(self, value: Any, name: str) -> Any:
        if value is None or type(value) in {bool, int, float, str}:
            return value
        if isinstance(value, np.generic):
            return self.pack(value.item(), name)
        if isinstance(value, complex):
            return {"complex": [value.real, value.imag]}
        if isinstance(value, dict):
            if wrong := [key for key in value if type(key) not in {str, int}]:
                raise TypeError(
                    f"the keys of a dict in a checkpoint are texts or ints, got {wrong[0]!r} in {name!r}"
                )
            return {"dict": [[key, self.pack(item, f"{name}/{key}")] for key, item in value.items()]}
        if type(value) in {list, tuple}:
            items = [self.pack(item, f"{name}/{index}") for index, item in enumerate(value)]
            return {type(value).__name__: items}
        if isinstance(value, DNDarray):
            if value.comm is not self.comm:
                raise ValueError(f"the arrays of a checkpoint are on one communicator, {name!r} is on another")
            layout = value.layout
            return {**self._put(value.larray, layout, name), "cut": [layout.split, layout.ranks, layout.ragged]}
        if isinstance(value, torch.Tensor):
            return self._put(value, Layout(tuple(value.shape), None, self.comm.size), name)
        raise TypeError(
            f"a checkpoint holds DNDarrays, tensors, numbers, texts, None, dicts, lists and tuples, "
            f"but {name.lstrip('/')!r} is a {type(value).__name__}"
        )

    def _put(self, shard: torch.Tensor, layout: Layout, name: str) -> dict[str, Any]:
        name, taken = name.lstrip("/") or "state", {"__metadata__", *self.arrays}
        while name in taken:  # {"a/b": x, "a": {"b": y}}
            name += "'"
        real = shard.dtype == torch.complex128
        if real:  # which such files have not
            shard = torch.view_as_real(shard.resolve_conj())
            layout = Layout((*layout.shape, 2), layout.split, layout.ranks, layout.ragged)
        code_of(shard.dtype)
        self.arrays[name] = shard.detach(), layout
        return {"array": name, "real": real}


def _write(comm: Communication, beside: str, path: str, arrays: dict[str, tuple[torch.Tensor, Layout]]) -> None:
    """Write this rank's parts, of one array after the other."""
    error = None
    with agreement(comm, f"opening {path}"):
        entries, _ = header(beside)
    for name, (shard, layout) in arrays.items():
        placed = in_pieces(layout, shard.element_size())
        moved = DNDarray(shard, layout, comm).to_layout(placed).larray
        try:
            if error is None and (placed.split is not None or comm.rank == 0):
                with closing(RawWriter(beside, entries[name].offset, layout.shape)) as writer:
                    writer.write(placed.box(comm.rank), moved.cpu().resolve_conj().resolve_neg())
        except Exception as caught:  # raised below: the others may wait for this rank's part of the next array
            error = caught
    with agreement(comm, f"writing its part of {path}"):
        if error is not None:
            raise error


def _tree(text: str, entries: dict[str, Entry], path: str) -> Any:
    """How the state was put together; ValueError where the file does not tell."""
    try:
        told = json.loads(text)
        if told["version"] != _VERSION:
            raise ValueError(f"its version is {told['version']!r}, here is {_VERSION}")
        if missing := [node["array"] for node in _arrays(told["state"]) if node["array"] not in entries]:
            raise ValueError(f"the array {missing[0]!r} is missing")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is no checkpoint of minisplit ({error}); load its arrays by load()") from error
    return told["state"]


def _arrays(tree: Any) -> Iterator[dict[str, Any]]:
    """The nodes that are arrays."""
    if isinstance(tree, dict):
        if "array" in tree:
            yield tree
        for item in tree.get("dict", ()):
            yield from _arrays(item[1])
        for item in (*tree.get("list", ()), *tree.get("tuple", ())):
            yield from _arrays(item)


def _layouts(tree: Any, entries: dict[str, Entry], size: int) -> Iterator[tuple[str, Layout]]:
    """Each array with its layout on `size` ranks."""
    for node in _arrays(tree):
        split, ranks, ragged = node.get("cut", (None, size, None))
        counts = tuple(ragged) if ragged and ranks == size else None
        yield node["array"], Layout(entries[node["array"]].shape, split, size, counts)


def _unpack(tree: Any, arrays: dict[str, DNDarray]) -> Any:
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        x = arrays[tree["array"]]
        if tree["real"]:
            layout = Layout(x.shape[:-1], x.split, x.comm.size, x.layout.ragged)
            x = DNDarray(torch.view_as_complex(x.larray), layout, x.comm)
        return x if "cut" in tree else x.larray
    if "complex" in tree:
        return complex(*tree["complex"])
    if "dict" in tree:
        return {key: _unpack(item, arrays) for key, item in tree["dict"]}
    if "tuple" in tree:
        return tuple(_unpack(item, arrays) for item in tree["tuple"])
    return [_unpack(item, arrays) for item in tree["list"]]


def _check_same(comm: Communication, text: str, what: str) -> None:
    """ValueError, the same on every rank, unless all ranks have the same text."""
    digest = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest())
    found = comm.allgather(np.array([digest]))[:, 0]
    if (found != found[0]).any():
        other = int(np.argmax(found != found[0]))
        raise ValueError(f"{what} must be the same on all ranks, but that of rank {other} is not that of rank 0")
