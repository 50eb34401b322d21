"""What a function refers to, directly or not: the tensors, numbers and functions that are in its reach.

A function that is mapped runs on each rank, in each chunk. What it reads must be the same on all ranks, what it
writes into would depend on ranks and chunks, and a gradient that flows into it must be that of all samples. So
all of it has to be known, however the function comes by it.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dis import get_instructions
from typing import Any, NamedTuple

import numpy as np
import torch

from minisplit.core.array import DNDarray
from minisplit.core.communication.protocol import Communication
from minisplit.core.error_text import short_repr
from minisplit.core.pytorch.pytree import pytree
from minisplit.vmap.functorch.internals import checksum, is_compiled

# How many objects are looked at for one function, those that are reached in the fewest steps first. It bounds the
# time at some 5 ms: a function may have a list of a million numbers among its globals, which is walked in each
# call. A network of 200 layers has some 6,000 objects.
MOST_OBJECTS = 20_000
# What is not walked into: the objects of these packages refer to much, but not to what a user computes with.
LIBRARIES = frozenset({*sys.stdlib_module_names, "torch", "numpy", "mpi4py", "minisplit", "functorch", "sympy"})
NUMBERS_AND_TEXTS = (bool, int, float, complex, str, bytes, type(None))
_ATOMS = frozenset(NUMBERS_AND_TEXTS)
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType)
_FIXED = (*_FUNCTIONS, types.MethodType, functools.partial, tuple, frozenset)
# Of a class these are functions of the user in disguise, by which an object reaches its globals and closures.
_DESCRIPTORS = (staticmethod, classmethod, functools.cached_property, property)
# By these names a function calls what torch captures as a graph. "compile" stands for a compiled function.
CAPTURING = frozenset(
    {"compile", "cond", "while_loop", "scan", "associative_scan", "map", "flex_attention", "invoke_subgraph"}
)


class Reference(NamedTuple):
    """Something that a function refers to, and how: `trail` ends with the name of the last step to it.

    `is_fixed` says that it lies in no container or object, of which an item or attribute may be set at any time.
    """

    value: Any
    trail: tuple[Any, str]
    is_fixed: bool = True

    def path(self) -> str:
        """How the function comes by it, as Python would write it: `net.layers[0].weight`."""
        names, trail = [], self.trail
        while trail:
            trail, name = trail
            names.append(name)
        return "".join(reversed(names)).lstrip(".")


class _Names(NamedTuple):
    """The names that a function's code has, with those of the functions that it defines."""

    # In the order of the code, so that all ranks walk alike.
    globals: tuple[str, ...]
    attributes: tuple[str, ...]


# By code object, since to disassemble one takes 50 us. A program has few functions that it maps, and those that
# they refer to. The entries keep code alive, no data.
@functools.lru_cache(maxsize=4096)
def names_of(code: types.CodeType) -> _Names:
    """The names of globals, and of attributes, in a function's code."""
    return _Names(*[tuple(dict.fromkeys(each)) for each in _disassemble(code)])


def _disassemble(code: types.CodeType) -> tuple[list[str], list[str]]:
    found: tuple[list[str], list[str]] = [], []
    for instruction in get_instructions(code):
        if instruction.opname in {"LOAD_GLOBAL", "LOAD_NAME"}:
            found[0].append(instruction.argval)
        elif instruction.opname in {"LOAD_ATTR", "LOAD_METHOD"}:
            found[1].append(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            for names, more in zip(found, _disassemble(constant), strict=True):
                names.extend(more)
    return found


def find_references(*roots: tuple[str, object]) -> list[Reference]:
    """Return what these objects, each with a name, refer to: tensors, numbers, texts, functions. Local.

    And torch's random generators.

    It follows closures, the globals that a function names, defaults, `functools.partial`, bound methods, what a
    function wraps, attributes of objects and classes, modules of torch, and containers. It does not follow what
    only a call would give: properties, generators, files, objects of C.
    """
    found: list[Reference] = []
    seen: set[int] = set()
    queue: deque[Reference] = deque([Reference(x, ((), name)) for name, x in roots])
    # Each rank must walk alike, so not until a time is over.
    for _ in range(MOST_OBJECTS):
        if not queue:
            break
        reference = queue.popleft()
        value, trail, is_fixed = reference
        if type(value) in _ATOMS:
            found.append(reference)
            continue
        # Without data, as of a network that is there to be called with the parameters of others.
        if isinstance(value, torch.Tensor) and value.is_meta:
            continue
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, (torch.Tensor, torch.Generator, *_FUNCTIONS)):
            found.append(reference)
        if not isinstance(value, torch.Tensor):
            is_fixed = is_fixed and isinstance(value, _FIXED)
            queue.extend([Reference(x, (trail, name), is_fixed) for name, x in _children(value)])
    return found


def find_captured(func: Any, objects: Sequence[tuple[str, object]] = ()) -> list[torch.Tensor]:
    """The tensors that a function refers to, and objects that it is given, each once. Local."""
    tensors = None if objects else find_tensors_at_once(func)
    if tensors is None:
        references = find_references(("func", func), *objects)
        tensors = [reference.value for reference in references if isinstance(reference.value, torch.Tensor)]
    return tensors


def find_generators(func: Any, objects: Sequence[tuple[str, object]] = ()) -> tuple[torch.Generator, ...]:
    """The random generators of torch that a function refers to, and objects that it is given. Local."""
    references = find_references(("func", func), *objects)
    return tuple([reference.value for reference in references if isinstance(reference.value, torch.Generator)])


def find_tensors_at_once(func: Any) -> list[torch.Tensor] | None:
    """The tensors that a function refers to, if it refers to tensors, numbers and libraries only; else None.

    A function of a small call is mostly of this kind. The walk takes 6 us, this takes 1 us, a call takes 30.
    """
    if type(func) is not types.FunctionType or func.__dict__ or func.__defaults__ or func.__kwdefaults__:
        return None
    variables = func.__globals__
    try:
        values = [cell.cell_contents for cell in func.__closure__ or ()]
    except ValueError:  # not set yet
        return None
    values += [variables.get(name) for name in names_of(func.__code__).globals]
    tensors = []
    for value in values:
        kind = type(value)
        if kind is torch.Tensor or kind is torch.nn.Parameter:
            if not value.is_meta:
                tensors.append(value)
        elif kind is types.ModuleType:
            if not is_library(value.__name__):
                return None
        elif kind not in _ATOMS:
            return None
    return tensors


def names_in_reach(func: Any) -> frozenset[str]:
    """The names in the code of a function and of those that it refers to, and of functions of libraries. Local.

    "compile" is among them if one of them is compiled.
    """
    names: set[str] = set()
    for reference in find_references(("func", func)):
        value = reference.value
        if isinstance(value, types.FunctionType) and not is_library(value.__globals__.get("__name__")):
            names.update(*names_of(value.__code__))
        elif isinstance(value, _FUNCTIONS):
            names.add(value.__name__)
            if is_compiled(value):
                names.add("compile")
    return frozenset(names)


@functools.cache
def is_library(module: object) -> bool:
    """Whether a module of this name is one of those that are not walked into."""
    return isinstance(module, str) and module.partition(".")[0] in LIBRARIES


def _children(x: Any) -> Iterator[tuple[str, Any]]:
    """What an object refers to in one step, with the name of the step."""
    if isinstance(x, types.FunctionType):
        yield from _children_of_function(x)
    elif isinstance(x, types.MethodType):
        yield ".__self__", x.__self__
        yield "", x.__func__
    elif isinstance(x, types.BuiltinMethodType):  # as `tensor.mul`; of a plain builtin function it is its module
        if not isinstance(x.__self__, types.ModuleType):
            yield ".__self__", x.__self__
    elif isinstance(x, functools.partial):
        yield ".func", x.func
        yield ".args", x.args
        for name, value in x.keywords.items():
            yield f".{name}", value
    elif isinstance(x, (dict, types.MappingProxyType)):
        for key, value in list(x.items()):
            yield f"[{short_repr(key)}]", value
    elif isinstance(x, (list, tuple, deque)):
        for i, value in enumerate(list(x)):
            yield f"[{i}]", value
    elif isinstance(x, (set, frozenset)):
        for value in sorted(x, key=short_repr):  # their order differs between processes
            yield "[...]", value
    elif isinstance(x, DNDarray):
        if x.split is None:  # the shards of a split one differ between ranks, and are no part of a function
            yield ".larray", x.larray
    elif isinstance(x, torch.nn.Module):
        for kind in (x._parameters, x._buffers, x._modules):
            for name, value in kind.items():
                yield f".{name}", value
        yield from _children_of_object(x, skip={"_parameters", "_buffers", "_modules"})
    elif isinstance(x, _DESCRIPTORS):
        for name in ("__func__", "func", "fget"):
            if hasattr(x, name):
                yield "", getattr(x, name)
    elif isinstance(x, type):
        if not is_library(x.__module__):
            for base in x.__bases__:
                yield "", base
            for name, value in list(vars(x).items()):
                if not name.startswith("__") or name in {"__call__", "__init__"}:
                    yield f".{name}", value
    elif not isinstance(x, types.ModuleType):
        if isinstance(x, types.SimpleNamespace) or not is_library(type(x).__module__):
            yield from _children_of_object(x)
        elif callable(x):  # as torch's wrappers of a function
            yield "", getattr(x, "__wrapped__", None)


def _children_of_function(x: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(x.__code__.co_freevars, x.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # not set yet
            continue
        yield f".{name}", value
    for name, value in x.__dict__.items():  # where `functools.wraps` puts the function that is wrapped
        yield f".{name}", value
    # torch's own wrappers, as those of `torch.func.grad` and `torch.compile`, have the user's function in their
    # closure. Their globals are torch's.
    variables = x.__globals__
    if is_library(variables.get("__name__")):
        return
    yield ".__defaults__", x.__defaults__
    for name, value in (x.__kwdefaults__ or {}).items():
        yield f".{name}", value
    names = names_of(x.__code__)
    for name in names.globals:
        value = variables.get(name)
        if isinstance(value, types.ModuleType):
            if not is_library(value.__name__):
                for attribute in names.attributes:
                    if attribute in vars(value):
                        yield f".{name}.{attribute}", vars(value)[attribute]
        elif name in variables:
            yield f".{name}", value


def _children_of_object(x: object, skip: set[str] | frozenset[str] = frozenset()) -> Iterator[tuple[str, Any]]:
    for name, value in list(getattr(x, "__dict__", {}).items()):
        if name not in skip and (
            value or not isinstance(value, dict)
        ):  # a module has a dozen empty dicts of hooks
            yield f".{name}", value
    for kind in type(x).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            try:
                yield f".{name}", object.__getattribute__(x, name)
            except AttributeError:  # not set, or a name that Python has changed
                continue
    yield "", type(x)


class Fingerprint(NamedTuple):
    """Numbers for a function with the tensors and functions that it refers to, and for keyword arguments.

    `constants` is one for the numbers and texts that the function refers to, in which ranks may differ. Not for
    those in containers and objects, as a counter: a call that goes on finds it where the last one ended.
    """

    func: int
    kwargs: int
    constants: int


def fingerprint(func: Callable[..., Any], kwargs: dict[str, Any]) -> Fingerprint:
    """What tells a call of a function from others. Local."""
    references = find_references(("func", func))
    constants = [x.value for x in references if x.is_fixed and isinstance(x.value, NUMBERS_AND_TEXTS)]
    return Fingerprint(
        _digest(_identity("func", func, references)), _digest(_values(kwargs)), _digest(_values({"": constants}))
    )


def check_same_call(comm: Communication, func: Callable[..., Any], kwargs: dict[str, Any]) -> None:
    """ValueError, the same on every rank, unless all map this function with these arguments. Collective."""
    digests = comm.compare(np.array(fingerprint(func, kwargs)[:2]))
    for column, what in enumerate(("another function", "other arguments that are not mapped")):
        others = np.flatnonzero(digests[:, column] != digests[0, column])
        if len(others):
            raise ValueError(
                "every rank must map the same function with the same arguments that are not mapped, but rank "
                f"{others[0]} has {what} than rank 0"
            )


# Seven bytes: a digest is a number below 2**56, which fits into the integers of a record.
def _digest(parts: Iterator[str]) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(errors="replace"), digest_size=7).digest())


def _identity(name: str, x: object, references: Sequence[Reference]) -> Iterator[str]:
    """What says which function or object it is: names, code, and the tensors that it refers to."""
    yield f"{name}={getattr(x, '__module__', '')}.{getattr(x, '__qualname__', type(x).__qualname__)}"
    for reference in references:
        if isinstance(reference.value, torch.Tensor):
            yield f"{reference.path()}={checksum(reference.value):x}"
        elif isinstance(reference.value, types.FunctionType):
            yield from _bytecode(reference.value.__code__)


def _bytecode(code: types.CodeType) -> Iterator[str]:
    """The instructions of a function and its constants, among which are the functions that it defines."""
    yield code.co_code.hex()
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _bytecode(constant)
        elif isinstance(constant, frozenset):  # {"a", "b"}, whose order differs between processes
            yield repr(sorted(map(repr, constant)))
        else:
            yield repr(constant)


def _values(tree: dict[str, Any]) -> Iterator[str]:
    """Names and values: of tensors the checksum, of numbers and texts the text, of anything else the type."""
    for path, x in pytree.tree_flatten_with_path(tree)[0]:
        if isinstance(x, DNDarray):
            x = x.larray  # noqa: PLW2901
        if isinstance(x, torch.Tensor) and x.layout is torch.strided:
            value = f"{checksum(x):x}"
        elif isinstance(x, NUMBERS_AND_TEXTS):
            value = repr(x)
        else:
            value = "\0".join(_identity("", x, find_references(("", x))))
        yield f"{pytree.keystr(path)}={value}"
