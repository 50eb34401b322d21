"""Checkpoints: what a program is to go on from, in one file, which any number of ranks loads.

The file is a safetensors file with all arrays, whose metadata have the structure of the state, as JSON. In that,
numbers and texts are as they are. Everything else is an object with one of the keys "array", "complex", "dict",
"list" and "tuple"; an array that is distributed has "cut" as well, with its split, ranks and counts.
"""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from typing import Any

import numpy as np
import torch

from minisplit.core.array import DNDarray
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication, sanitize_comm
from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout
from minisplit.core.pytorch.devices import Device, sanitize_device
from minisplit.core.pytorch.pytree import pytree
from minisplit.core.random.generator import State
from minisplit.io.atomic import atomic_replacement
from minisplit.io.collective import check_same_file, in_one_version
from minisplit.io.files import check_regular, file_version
from minisplit.io.formats import safetensors
from minisplit.io.formats.base import StrPath, path_text, shown_path
from minisplit.io.formats.raw import RawWriter, contiguous_layout
from minisplit.io.formats.safetensors import SAFETENSORS, TensorInfo
from minisplit.nn.optimisers import state_of

# The key of the structure among the metadata, and the version of its form.
_KEY, _VERSION = "minisplit", 1
# A rank's part of each array, and its layout, by the array's name in the file.
Shards = dict[str, tuple[torch.Tensor, Layout]]
# The name of an array in the file, the array as it was read, and the layout it is to have.
Part = tuple[str, DNDarray, Layout]


def save_checkpoint(state: Any, path: StrPath, *, comm: Communication | None = None) -> None:
    """Save the state of a program: a dict of DNDarrays, tensors and numbers.

    It is one safetensors file. Even after a failure there is the whole old file or the whole new one, as with
    `save`. Other programs find the arrays under their keys, joined by "/".

    Parameters
    ----------
    state : Any
        Nested dicts, lists and tuples of DNDarrays, tensors, numbers, strings, None and optimizers of torch.
        Everything except the DNDarrays must be the same on all ranks. The keys of dicts are strings or ints, as in
        the `state_dict()` of torch's modules. If parameters are split, give the optimizer itself, because its
        `state_dict()` has this rank's parts only; `minisplit.nn.utils.load_optimizer` loads it.
    path : str or os.PathLike
        The file.
    comm : Communication, optional
        The ranks that save. By default those of the first DNDarray in the state, or those in use.

    Raises
    ------
    TypeError
        If the state contains another type, or a dtype that safetensors files do not have.
    ValueError
        If the states of the ranks differ.
    OSError
        If the disk is full, or the file cannot be written, on any rank.

    Communication
    -------------
    Collective: nine small messages, and for each array one exchange if a rank's part is many short pieces of the
    file. All ranks raise the same error, or none.

    See Also
    --------
    minisplit.load_checkpoint : Load it again.

    Examples
    --------
    >>> import minisplit as ms, tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = ms.MPI_WORLD.broadcast_bytes(folder.encode()).decode() + "/step-7.safetensors"
    ...     ms.save_checkpoint({"x": ms.arange(5, split=0), "weights": [torch.ones(2)], "step": 7}, path)
    ...     state = ms.load_checkpoint(path)
    >>> state["x"].split, state["weights"], state["step"]
    (0, [tensor([1., 1.])], 7)
    """
    comms = (leaf.comm for leaf in pytree.tree_leaves(state) if isinstance(leaf, DNDarray))
    comm = sanitize_comm(comm or next(comms, None))
    packer = _Packer(comm)
    with agreement(comm, "putting together the state of a checkpoint"):
        file = path_text(path)
        text = json.dumps({"version": _VERSION, "state": packer.pack(state, "")})
    # Ranks must agree before the first array moves: with other arrays, or shapes, their messages would not fit.
    arrays = {name: (layout.shape, shard.dtype) for name, (shard, layout) in packer.shards.items()}
    comm.check_same(f"{text} {arrays}", "the state of a checkpoint")
    for name, (shard, layout) in packer.shards.items():
        if layout.split is None:
            comm.check_replicated(shard, f"the replicated array {name!r} of a checkpoint")

    def create(new_path: str) -> None:
        safetensors.create_file(new_path, arrays, {_KEY: text})

    with atomic_replacement(comm, file, SAFETENSORS.check_replaceable, create) as new_path:
        _write_shards(comm, new_path, file, packer.shards)


def load_checkpoint(path: StrPath, *, device: Device = None, comm: Communication | None = None) -> Any:
    """Load what `save_checkpoint` saved, on any number of ranks.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    device : str or torch.device, optional
        The device of DNDarrays and tensors. By default the CPU.
    comm : Communication, optional
        The ranks that load. By default the communicator in use.

    Returns
    -------
    Any
        The state. DNDarrays keep their split. They keep their counts if the number of ranks is the same, and
        otherwise get balanced counts. Tensors are whole on every rank.

    Raises
    ------
    OSError
        If the file is missing, or cannot be read, on any rank.
    ValueError
        If the file is no checkpoint, is truncated, or is not the same on all ranks.

    Communication
    -------------
    Collective: three small messages, and for each array one exchange if a rank's part is many short pieces of the
    file. All ranks raise the same error, or none.

    See Also
    --------
    minisplit.save_checkpoint : Save a state.

    Examples
    --------
    >>> import minisplit as ms, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = ms.MPI_WORLD.broadcast_bytes(folder.encode()).decode() + "/c.safetensors"
    ...     ms.save_checkpoint({"step": 3, "rates": (0.1, 0.01)}, path)
    ...     ms.load_checkpoint(path)
    {'step': 3, 'rates': (0.1, 0.01)}
    """
    comm = sanitize_comm(comm)
    text, parts = in_one_version(lambda: _read_parts(comm, path, device))
    arrays = {}
    # One by one, so that never more than one array is there in two layouts.
    while parts:
        name, x, layout = parts.pop()
        arrays[name] = x.to_layout(layout)
    try:
        return json.loads(text, object_hook=lambda node: _unpack(node, arrays))
    except Exception as error:  # all that JSON of another form raises, and arrays that do not fit to it
        raise ValueError(f"{path} is no checkpoint of minisplit: its structure is wrong: {error!r}") from error


def _read_parts(comm: Communication, path: StrPath, device: Device) -> tuple[str, list[Part]]:
    """Return the structure in a file, and this rank's parts of its arrays, each with the layout it is to have.

    Collective. The file is opened once: by its name another version might be found for each array.
    """
    with ExitStack() as stack:
        with agreement(comm, f"opening {shown_path(path)}"):
            to_device, name_of_file = sanitize_device(device), path_text(path)
            check_regular(name_of_file)
            file = stack.enter_context(open(name_of_file, "rb"))
            tensors, metadata = safetensors.read_header(file)
            text, version = metadata.get(_KEY, ""), file_version(file.fileno())
            nodes = _array_nodes(text, tensors, name_of_file)
        check_same_file(comm, name_of_file, version, f"{text} {tensors}", f"a checkpoint of {len(nodes)} arrays")
        parts: list[Part] = []
        with agreement(comm, f"reading its part of {shown_path(path)}"):
            for node in nodes:
                name = node["array"]
                split, ranks, ragged = node.get("cut", (None, comm.size, None))
                # Counts of another number of ranks mean nothing here.
                counts = tuple(ragged) if ragged and ranks == comm.size else None
                layout = Layout(tensors[name].shape, split, comm.size, counts)
                read_layout = contiguous_layout(layout, safetensors.DTYPES[tensors[name].code].itemsize)
                reader = safetensors.open_array(file, tensors, name)
                shard = reader.read(read_layout.box(comm.rank)).to(to_device)
                parts.append((name, DNDarray(shard, read_layout, comm), layout))
    return text, parts


class _Packer:
    """Collects the arrays of a state, and makes of the rest what JSON can hold."""

    def __init__(self, comm: Communication) -> None:
        self.comm = comm
        self.shards: Shards = {}

    def pack(self, value: Any, name: str) -> Any:
        """Return the structure of a value, of which `name` are the keys above it."""
        # `type`, as a bool is an int and an enum may be a str, but comes back as neither.
        if value is None or type(value) in {bool, int, float, str}:
            return value
        # Losses, say, are often NumPy's numbers. They come back as Python's.
        if isinstance(value, np.generic):
            return self.pack(value.item(), name)
        if isinstance(value, complex):
            return {"complex": [value.real, value.imag]}
        if isinstance(value, dict):
            if wrong := [key for key in value if type(key) not in {str, int}]:
                raise TypeError(
                    f"the keys of a dict in a checkpoint are texts or ints, got {short_repr(wrong[0])} in {name!r}"
                )
            # Pairs, as JSON makes texts of the ints among the keys of an object.
            return {"dict": [[key, self.pack(item, f"{name}/{key}")] for key, item in value.items()]}
        # A State of random numbers comes back as a plain tuple, which set_state takes.
        if isinstance(value, State):
            value = tuple(value)
        if type(value) in {list, tuple}:
            items = [self.pack(item, f"{name}/{index}") for index, item in enumerate(value)]
            return {type(value).__name__: items}
        if isinstance(value, DNDarray):
            if value.comm is not self.comm:
                raise ValueError(f"the arrays of a checkpoint are on one communicator, {name!r} is on another")
            layout = value.layout
            return self._add(value.larray, layout, name) | {"cut": [layout.split, layout.ranks, layout.ragged]}
        if isinstance(value, torch.optim.Optimizer):
            return self.pack(state_of(value), name)
        if isinstance(value, torch.Tensor):
            return self._add(value, Layout(tuple(value.shape), None, self.comm.size), name)
        raise TypeError(
            f"a checkpoint holds DNDarrays, tensors, numbers, texts, None, dicts, lists and tuples, "
            f"but {name.lstrip('/')!r} is a {type(value).__name__}"
        )

    def _add(self, shard: torch.Tensor, layout: Layout, name: str) -> dict[str, Any]:
        name = name.lstrip("/") or "state"
        # In {"a/b": x, "a": {"b": y}} the keys of both arrays are joined to one name.
        while name in self.shards or name == "__metadata__":
            name += "'"
        is_real = shard.dtype == torch.complex128
        if is_real:
            # A dtype that such files do not have: saved as pairs of real numbers.
            shard = torch.view_as_real(shard.resolve_conj())
            layout = Layout((*layout.shape, 2), layout.split, layout.ranks, layout.ragged)
        # A dtype that cannot be saved is an error now, before there is a file.
        safetensors.dtype_code(shard.dtype)
        self.shards[name] = shard.detach(), layout
        return {"array": name, "real": is_real}


def _write_shards(comm: Communication, new_path: str, path: str, shards: Shards) -> None:
    """Write this rank's parts, of one array after the other. Collective."""
    error = None
    with agreement(comm, f"opening {path}"), open(new_path, "rb") as file:
        tensors, _ = safetensors.read_header(file)
    for name, (shard, layout) in shards.items():
        write_layout = contiguous_layout(layout, shard.element_size())
        moved = DNDarray(shard, layout, comm).to_layout(write_layout).larray
        try:
            if error is None and (write_layout.split is not None or comm.rank == 0):
                with closing(RawWriter(new_path, tensors[name].offset, layout.shape)) as writer:
                    writer.write(write_layout.box(comm.rank), moved.cpu().resolve_conj().resolve_neg())
        except Exception as caught:
            # Raised once all arrays have moved: the others may wait for this rank's part of the next one.
            error = caught
    with agreement(comm, f"writing its part of {path}"):
        if error is not None:
            raise error


def _array_nodes(text: str, tensors: dict[str, TensorInfo], path: str) -> list[dict[str, Any]]:
    """Return the nodes of a structure that are arrays; ValueError where the file does not have them."""
    nodes: list[dict[str, Any]] = []

    def collect(node: dict[str, Any]) -> dict[str, Any]:
        nodes.extend([node] if "array" in node else [])
        return node

    try:
        content = json.loads(text, object_hook=collect)
        if content["version"] != _VERSION:
            raise ValueError(f"its version is {content['version']!r}, here is {_VERSION}")
        if missing := [node["array"] for node in nodes if node["array"] not in tensors]:
            raise ValueError(f"the array {missing[0]!r} is missing")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is no checkpoint of minisplit ({error}); load its arrays by load()") from error
    return nodes


def _unpack(node: dict[str, Any], arrays: dict[str, DNDarray]) -> Any:
    """Return the value of a node, whose own nodes are values already: JSON is read from the inside out."""
    if "array" in node:
        x = arrays[node["array"]]
        if node["real"]:
            layout = Layout(x.shape[:-1], x.split, x.comm.size, x.layout.ragged)
            x = DNDarray(torch.view_as_complex(x.larray), layout, x.comm)
        return x if "cut" in node else x.larray
    if "complex" in node:
        return complex(*node["complex"])
    if "dict" in node:
        return dict(node["dict"])
    if "tuple" in node:
        return tuple(node["tuple"])
    # The outermost node has the version and the state.
    return node["state"] if "state" in node else node["list"]
