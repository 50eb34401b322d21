"""`.safetensors`: named arrays in one file, a header of JSON and then the numbers. It needs no package.

As its specification has it: 8 bytes with the length of the header, the header, the arrays one after the other
without gaps, in row-major order and little-endian.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

import torch

from minisplit.core.layout import Layout
from minisplit.io.formats.base import Format, Reader, Writer, listed, no_options, the_one
from minisplit.io.formats.raw import RawReader, RawWriter, in_pieces

_DEFAULT = "data"
# The longest header that the library of the format reads.
_MOST = 100_000_000
_SWAPPED = sys.byteorder == "big"
_CODES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.uint16: "U16",
    torch.int32: "I32", torch.uint32: "U32", torch.int64: "I64", torch.uint64: "U64", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64", torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
Kinds = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
DTYPES = {code: dtype for dtype, code in _CODES.items()}


class Entry(NamedTuple):
    """An array of a file: what it is, and from which byte of the file on."""

    shape: tuple[int, ...]
    code: str
    offset: int
    nbytes: int


class Safetensors(Format):
    """See `minisplit.io.formats.base.Format`."""

    name = "safetensors"
    suffixes = (".safetensors",)
    named = True
    adds = True

    def names(self, path: str) -> list[str]:
        return list(header(path)[0])

    def open(
        self, path: str, dataset: str | None = None, *, dtype: torch.dtype | None = None, **options: Any
    ) -> Reader:
        no_options(self.name, options)
        arrays, _ = header(path)
        return reader(path, arrays, the_one(path, list(arrays)) if dataset is None else dataset)

    def placed(self, layout: Layout, dtype: torch.dtype, options: dict[str, Any]) -> Layout:
        no_options(self.name, options)
        code_of(dtype)
        return in_pieces(layout, dtype.itemsize)

    def create(
        self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype, options: dict[str, Any]
    ) -> None:
        name = dataset or _DEFAULT
        if not os.path.exists(path):
            create(path, {name: (layout.shape, dtype)}, {})
            return
        entries, metadata = header(path)
        arrays = {key: _kind(key, entry, path) for key, entry in entries.items() if key != name}
        _rewrite(path, {**arrays, name: (layout.shape, dtype)}, list(arrays), metadata)

    def extend(self, path: str, dataset: str | None, shape: tuple[int, ...]) -> None:
        entries, metadata = header(path)
        arrays = {key: _kind(key, entry, path) for key, entry in entries.items()}
        name = dataset or _DEFAULT
        _rewrite(path, {**arrays, name: (shape, arrays[name][1])}, list(arrays), metadata)

    def writer(
        self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype, options: dict[str, Any]
    ) -> Writer:
        return RawWriter(path, header(path)[0][dataset or _DEFAULT].offset, layout.shape)


def code_of(dtype: torch.dtype) -> str:
    """How the format calls a dtype; TypeError for those that it has not."""
    if dtype not in _CODES:
        raise TypeError(f"safetensors files have no {dtype}: convert it, save(x, path, dtype=...)")
    return _CODES[dtype]


def dtype_of(name: str, entry: Entry, path: str) -> torch.dtype:
    """The dtype of an array in a file; TypeError for those that there are only in such files."""
    if entry.code not in DTYPES:
        raise TypeError(f"{name!r} in {path} holds {entry.code}, which no array can; name another")
    return DTYPES[entry.code]


def create(path: str, arrays: Kinds, metadata: Mapping[str, str]) -> None:
    """Make a file with room for arrays of these shapes and dtypes."""
    told: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    # Those of long numbers first, so that each begins at a multiple of its length.
    for name, (shape, dtype) in sorted(arrays.items(), key=lambda item: -item[1][1].itemsize):
        if name == "__metadata__":
            raise ValueError("an array in a safetensors file cannot have the name '__metadata__'")
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        told[name] = {"dtype": code_of(dtype), "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(told, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _MOST:
        raise ValueError(f"{len(arrays)} arrays need a header of {len(text)} bytes, of at most {_MOST}")
    with open(path, "xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def _rewrite(path: str, arrays: Kinds, kept: Sequence[str], metadata: Mapping[str, str]) -> None:
    """Give a file room for other arrays, as a longer header moves what is behind it; `kept` are copied."""
    old, grown = header(path)[0], f"{path}.new"
    try:
        create(grown, arrays, metadata)
        new, _ = header(grown)
        with open(path, "rb") as source, open(grown, "r+b") as target:
            for name in kept:
                source.seek(old[name].offset)
                target.seek(new[name].offset)
                _copy(source, target, old[name].nbytes)
        os.replace(grown, path)
    finally:
        with suppress(FileNotFoundError):
            os.remove(grown)


def header(path: str) -> tuple[dict[str, Entry], dict[str, str]]:
    """The arrays of a file, and its metadata; ValueError for what is no such file, or is cut short."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        there = os.fstat(file.fileno()).st_size - 8
        if not 0 < length <= min(there, _MOST):
            raise ValueError(
                f"{path} is no safetensors file, or is truncated: it should have a header of {length} bytes, "
                f"and has {max(there, 0)}"
            )
        text = file.read(length)
    try:
        told = json.loads(text.decode())
        metadata = dict(told.pop("__metadata__", {}))
        arrays = {name: _entry(item, 8 + length) for name, item in told.items()}
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{path} is no safetensors file: its header is wrong: {error!r}") from error
    end = max((entry.offset + entry.nbytes for entry in arrays.values()), default=0)
    if end > there + 8:
        raise ValueError(f"{path} is truncated: its header tells of {end} bytes, but it has {there + 8}")
    return arrays, metadata


def reader(path: str, arrays: Mapping[str, Entry], name: str) -> RawReader:
    """A reader of one of the arrays that are in the file by its header."""
    if name not in arrays:
        raise KeyError(f"{path} has no dataset {name!r}, but {listed(list(arrays))}")
    entry = arrays[name]
    return RawReader(path, entry.offset, entry.shape, dtype_of(name, entry, path), swapped=_SWAPPED)


def _kind(name: str, entry: Entry, path: str) -> tuple[tuple[int, ...], torch.dtype]:
    return entry.shape, dtype_of(name, entry, path)


def _entry(item: dict[str, Any], start: int) -> Entry:
    begin, end = map(int, item["data_offsets"])
    entry = Entry(tuple(map(int, item["shape"])), item["dtype"], start + begin, end - begin)
    known = DTYPES.get(entry.code)  # newer versions of the format have more
    nbytes = entry.nbytes if known is None else math.prod(entry.shape) * known.itemsize
    if min(entry.shape, default=0) < 0 or begin < 0 or entry.nbytes < 0 or entry.nbytes != nbytes:
        raise ValueError(f"an array {entry.shape} of {entry.code} has {entry.nbytes} bytes")
    return entry


def _copy(source: BinaryIO, target: BinaryIO, length: int) -> None:
    while length:
        block = source.read(min(length, 2**22))
        if not block:
            raise ValueError("the file ends within an array")
        target.write(block)
        length -= len(block)


SAFETENSORS = Safetensors()
