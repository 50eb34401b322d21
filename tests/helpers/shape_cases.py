"""What functions of `minisplit.ops.shape` are on whole arrays, and how each is tested on every layout."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import numpy as np
import torch
from layouts import layouts

import minisplit as ms
from minisplit.testing import Whole, traffic

DTYPES = [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float32, torch.float64, torch.complex64]


def values(shape: tuple[int, ...], dtype: torch.dtype = torch.float64, shift: int = 0) -> torch.Tensor:
    return (torch.arange(math.prod(shape), dtype=torch.float64) + shift).reshape(shape).to(dtype)


def is_right(x: Any, whole: Any) -> bool:
    """Whether this rank's shards are those of `whole`, one tensor or several, under layouts that fit."""
    if not isinstance(x, ms.DNDarray):
        return len(x) == len(whole) and all(map(is_right, x, whole))
    if x.shape != tuple(whole.shape) or x.lshape != x.layout.lshape(x.comm.rank) or x.dtype is not whole.dtype:
        return False
    mine = whole[x.layout.box(x.comm.rank)].resolve_conj()
    return torch.equal(x.larray.resolve_conj(), mine)


def assert_all(check: Callable[..., bool], *axes: Iterable[Any]) -> None:
    """Assert that `check` holds for every case, once all are done: it may fail on one rank alone."""
    wrong = [case for case in product(*axes) if not check(*case)]
    assert wrong == []


def as_list(result: Any) -> list[Any]:
    return [result] if isinstance(result, (ms.DNDarray, torch.Tensor)) else list(result)


def functions_of(module: str) -> set[str]:
    """The public functions that a module of `minisplit.ops.shape` defines."""
    name = f"minisplit.ops.shape.{module}"
    public = {each: getattr(ms, each) for each in ms.__all__}
    return {each for each, x in public.items() if inspect.isfunction(x) and x.__module__ == name}


def expand_dims(x: torch.Tensor, axis: Any) -> torch.Tensor:
    return x.reshape(np.expand_dims(np.empty(x.shape), axis).shape)


def pad(x: torch.Tensor, width: Any, **options: Any) -> torch.Tensor:
    pairs = np.broadcast_to(np.asarray(width), (x.ndim, 2))
    return torch.nn.functional.pad(x, pairs[::-1].flatten().tolist(), value=options.get("constant_values", 0))


def repeat(x: torch.Tensor, repeats: Any, axis: int | None = None) -> torch.Tensor:
    x = x.reshape(-1) if axis is None else x
    times = np.broadcast_to(np.asarray(repeats), (x.shape[axis or 0],)).tolist()
    return torch.repeat_interleave(x, torch.tensor(times, dtype=torch.int64), axis or 0)


def array_split(x: torch.Tensor, parts: Any, axis: int = 0) -> Any:
    return torch.tensor_split(x, parts, axis)


# What each function is on the whole array. Of `concat` and others the arguments are several arrays: see `JOINED`.
WHOLE: dict[str, Callable[..., Any]] = {
    "permute_dims": torch.permute,
    "transpose": lambda x, axes=None: x.permute(tuple(axes or range(x.ndim)[::-1])),
    "matrix_transpose": lambda x: x.mT,
    "swapaxes": torch.swapaxes,
    "moveaxis": torch.moveaxis,
    # Extents that tell the axes apart.
    "rollaxis": lambda x, *to: x.permute([n - 1 for n in np.rollaxis(np.empty(range(1, x.ndim + 1)), *to).shape]),
    "expand_dims": expand_dims,
    "squeeze": lambda x, axis=None: x.squeeze() if axis is None else x.squeeze(axis),
    "reshape": lambda x, shape: x.reshape(shape),
    "ravel": torch.ravel,
    "flatten": torch.ravel,
    "flip": lambda x, axis=None: x.flip(tuple(range(x.ndim)) if axis is None else axis),
    "flipud": lambda x: x.flip(0),
    "fliplr": lambda x: x.flip(1),
    "rot90": lambda x, k=1, axes=(0, 1): x.rot90(k, axes),
    "atleast_1d": torch.atleast_1d,
    "atleast_2d": torch.atleast_2d,
    "atleast_3d": torch.atleast_3d,
    "roll": torch.roll,
    "tile": torch.tile,
    "repeat": repeat,
    "pad": pad,
    "tril": torch.tril,
    "triu": torch.triu,
    "unstack": torch.unbind,
    "broadcast_to": torch.broadcast_to,
    "array_split": array_split,
    "split": array_split,
    "vsplit": array_split,
    "hsplit": lambda x, parts: array_split(x, parts, min(1, x.ndim - 1)),
    "dsplit": lambda x, parts: array_split(x, parts, 2),
}


def of_sequence(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda arrays, axis=0: function(list(arrays), axis)


def concat(arrays: Any, axis: int | None = 0) -> torch.Tensor:
    return torch.cat([x.reshape(-1) for x in arrays], 0) if axis is None else torch.cat(list(arrays), axis)


def meshgrid(arrays: Any, indexing: str = "xy") -> list[torch.Tensor]:
    """As of torch, which refuses several dtypes."""
    places = torch.meshgrid(*[torch.arange(len(x)) for x in arrays], indexing=indexing)
    return [x[place] for x, place in zip(arrays, places, strict=True)]


JOINED: dict[str, Callable[..., Any]] = {
    "concat": concat,
    "concatenate": concat,
    "stack": of_sequence(torch.stack),
    "vstack": lambda arrays: torch.vstack(tuple(arrays)),
    "hstack": lambda arrays: torch.hstack(tuple(arrays)),
    "dstack": lambda arrays: torch.dstack(tuple(arrays)),
    "append": concat,
    "column_stack": lambda arrays: torch.column_stack(tuple(arrays)),
    "broadcast_arrays": lambda arrays: [x.clone() for x in torch.broadcast_tensors(*arrays)],
    "meshgrid": meshgrid,
}


def call_joined(name: str, arrays: list[ms.DNDarray], args: tuple[Any, ...]) -> Any:
    if name == "meshgrid":
        return ms.meshgrid(*arrays, **({"indexing": args[0]} if args else {}))
    if name == "append":
        return ms.append(*arrays, axis=args[0])
    return ms.broadcast_arrays(*arrays) if name == "broadcast_arrays" else getattr(ms, name)(arrays, *args)


def check_row(size: int, name: str, shape: tuple[int, ...], args: tuple[Any, ...], local: bool) -> None:
    """Values, messages and memory of a function, on every dtype and layout. `local`: no message may be sent."""

    def check(dtype: torch.dtype, layout: ms.Layout) -> bool:
        whole = values(shape, dtype)
        x = Whole(whole, layout).cut()
        with traffic() as seen:
            result = getattr(ms, name)(x, *args)
        good = is_right(result, WHOLE[name](whole, *args))
        if local or layout.split is None:
            good &= seen.collectives == 0
        good &= seen.collectives <= (3 if name == "roll" and len(args) == 1 else 1)
        for part in as_list(result):
            good &= part.comm is x.comm
            part.larray.zero_()  # it has memory of its own
        return good and is_right(x, whole) and x.layout == layout

    assert_all(check, DTYPES, layouts(shape, size))


def check_joined_row(size: int, name: str, shapes: Any, args: tuple[Any, ...]) -> None:
    """The same of a function of two arrays, on every pair of layouts."""

    def check(dtypes: tuple[torch.dtype, torch.dtype], places: tuple[ms.Layout, ms.Layout]) -> bool:
        wholes = [values(shape, kind, 3 * i) for i, (shape, kind) in enumerate(zip(shapes, dtypes, strict=True))]
        arrays = [Whole(*pair).cut() for pair in zip(wholes, places, strict=True)]
        with traffic() as seen:
            result = call_joined(name, arrays, args)
        good = is_right(result, JOINED[name](wholes, *args))
        good &= seen.collectives <= (2 if name in {"broadcast_arrays", "meshgrid"} or None in args else 1)
        for part in as_list(result):
            part.larray.zero_()
        return good and all(map(is_right, arrays, wholes))

    pairs = list(product(*(layouts(shape, size) for shape in shapes)))
    assert_all(check, [(torch.float32, torch.float32), (torch.int64, torch.bfloat16)], pairs)
    assert_all(check, product(DTYPES, DTYPES), pairs[-1:])


def weights_of(shape: Any, shift: int = 0) -> torch.Tensor:
    return (values(tuple(shape), torch.float64, 1 + shift) * 0.7).sin()


def check_gradients(size: int, name: str, shape: tuple[int, ...], args: tuple[Any, ...]) -> None:
    """Gradients of a function, on every layout."""

    def check(layout: ms.Layout) -> bool:
        whole = values(shape).requires_grad_()
        x = Whole(whole, layout).cut()
        ours, theirs = getattr(ms, name)(x, *args), WHOLE[name](whole, *args)
        weights = weights_of(theirs.shape)
        (wanted,) = torch.autograd.grad(theirs, whole, weights)
        (found,) = torch.autograd.grad(ours.larray, x.larray, weights[ours.layout.box(x.comm.rank)])
        return torch.allclose(found, wanted[layout.box(x.comm.rank)])

    assert_all(check, layouts(shape, size))
