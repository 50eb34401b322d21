"""`.safetensors`: named arrays in one file, a header of JSON and then the numbers. It needs no package.

The format (https://huggingface.co/docs/safetensors): 8 bytes with the length of the header, the header, the arrays
one after the other without gaps, in row-major order and little-endian.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from typing import Any, NamedTuple

import torch

from minisplit.core.error_text import short_list
from minisplit.core.layout import Layout
from minisplit.core.storage import Reader
from minisplit.io.chunks import blocks
from minisplit.io.files import has_content, make_empty
from minisplit.io.formats.base import Format, Shape, Target, Writer, list_datasets, only_dataset
from minisplit.io.formats.raw import RawReader, RawWriter, contiguous_layout

# The longest header that the library of the format reads.
_MAX_HEADER = 100_000_000
_CODES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.uint16: "U16",
    torch.int32: "I32", torch.uint32: "U32", torch.int64: "I64", torch.uint64: "U64", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64", torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
DTYPES = {code: dtype for dtype, code in _CODES.items()}
# Shape and dtype of arrays, by their names.
Arrays = Mapping[str, tuple[Shape, torch.dtype]]


class TensorInfo(NamedTuple):
    """What a header says of an array: shape, the code of its dtype, its first byte in the file, and its length."""

    shape: Shape
    code: str
    offset: int
    nbytes: int


class Safetensors(Format):
    """See `minisplit.io.formats.base.Format`. No options."""

    name = "safetensors"
    suffixes = (".safetensors",)
    contents = "datasets"

    def dataset_names(self, path: str, **options: Any) -> list[str]:
        with open(path, "rb") as file:
            return list(read_header(file)[0])

    def open_reader(self, path: str, dataset: str | None, dtype: torch.dtype | None, **options: Any) -> Reader:
        with ExitStack() as stack:
            file = stack.enter_context(open(path, "rb"))
            tensors, _ = read_header(file)
            reader = open_array(file, tensors, only_dataset(path, list(tensors)) if dataset is None else dataset)
            stack.pop_all()  # the file stays open, until `close`
        return reader

    def write_layout(self, target: Target) -> Layout:
        dtype_code(target.dtype)
        return contiguous_layout(target.layout, target.dtype.itemsize)

    def create(self, target: Target) -> None:
        array = {target.array_name: (target.layout.shape, target.dtype)}
        if has_content(target.path):
            _rewrite(target.path, array)
        else:
            create_file(target.path, array, {})

    def resize(self, target: Target, shape: Shape) -> None:
        path, name = target.path, target.array_name
        with open(path, "rb") as file:
            dtype = array_dtype(name, read_header(file)[0][name], path)
        _rewrite(path, {name: (shape, dtype)}, resized=name)

    def open_writer(self, target: Target) -> Writer:
        with open(target.path, "rb") as file:
            info = read_header(file)[0][target.array_name]
        return RawWriter(target.path, info.offset, target.layout.shape)


def dtype_code(dtype: torch.dtype) -> str:
    """Return the format's name of a dtype; TypeError if it has none."""
    if dtype not in _CODES:
        raise TypeError(f"safetensors files have no {dtype}: convert it, save(x, path, dtype=...)")
    return _CODES[dtype]


def array_dtype(name: str, info: TensorInfo, path: str) -> torch.dtype:
    """Return the dtype of an array in a file; TypeError if torch does not have it."""
    if info.code not in DTYPES:
        raise TypeError(f"{name!r} in {path} holds {info.code}, which no array can; name another")
    return DTYPES[info.code]


def create_file(path: str, arrays: Arrays, metadata: Mapping[str, str]) -> None:
    """Make a file with room for arrays of these shapes and dtypes."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    # Arrays of long numbers come first, so that each array begins at a multiple of the length of its numbers.
    for name, (shape, dtype) in sorted(arrays.items(), key=lambda item: -item[1][1].itemsize):
        if name == "__metadata__":
            raise ValueError("an array in a safetensors file cannot have the name '__metadata__'")
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": dtype_code(dtype), "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    # The specification allows spaces at the end, so that numbers are aligned in memory maps of other programs.
    text += b" " * (-len(text) % 8)
    if len(text) > _MAX_HEADER:
        raise ValueError(f"{len(arrays)} arrays need a header of {len(text)} bytes, of at most {_MAX_HEADER}")
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def _rewrite(path: str, arrays: Arrays, resized: str | None = None) -> None:
    """Give a file room for more arrays, or longer ones: a longer header moves all that is behind it.

    The other arrays are copied, and so is what there is of the array `resized`.
    """
    new_path = f"{path}.new"
    try:
        with open(path, "rb") as file:
            old, metadata = read_header(file)
            others = {
                name: (info.shape, array_dtype(name, info, path))
                for name, info in old.items()
                if name not in arrays
            }
            make_empty(new_path, like=path)
            create_file(new_path, {**others, **arrays}, metadata)
            with open(new_path, "rb") as new_file:
                new, _ = read_header(new_file)
            for name in (*others, *([resized] if resized else ())):
                nbytes = old[name].nbytes
                source = RawReader(file, old[name].offset, (nbytes,), torch.uint8)
                with closing(RawWriter(new_path, new[name].offset, (nbytes,))) as target:
                    for block, _ in blocks((slice(0, nbytes),), 1, 2**22):
                        target.write(block, source.read(block))
        # `path` is itself a copy beside the file that it replaces, so nobody sees this.
        os.replace(new_path, path)
    finally:
        with suppress(FileNotFoundError):
            os.remove(new_path)


def read_header(file: io.BufferedReader) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """Return the arrays of a file, and its metadata; ValueError for another file, or one that is cut short."""
    path, length = file.name, int.from_bytes(file.read(8), "little")
    size = os.fstat(file.fileno()).st_size
    if not 0 < length <= min(size - 8, _MAX_HEADER):
        raise ValueError(
            f"{path} is no safetensors file, or is truncated: it should have a header of {length} bytes, "
            f"and has {max(size - 8, 0)}"
        )
    text = file.read(length)
    try:
        header = json.loads(text.decode(), object_pairs_hook=_object)
        metadata = dict(header.pop("__metadata__", {}))
        arrays = {name: _tensor_info(item, 8 + length) for name, item in header.items()}
    # All that JSON of another form than that of a header raises.
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{path} is no safetensors file: its header is wrong: {error!r}") from error
    end = 8 + length
    for name, info in sorted(arrays.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if info.offset != end:
            what = "begins before the end of the one before it" if info.offset < end else "has a gap before it"
            raise ValueError(f"{path} is no safetensors file: its header is wrong: the array {name!r} {what}")
        end += info.nbytes
    if end > size:
        raise ValueError(f"{path} is truncated: its header tells of {end} bytes, but it has {size}")
    if end < size:
        raise ValueError(f"{path} has {size - end} bytes behind its last array, of which its header does not tell")
    return arrays, metadata


def open_array(file: io.BufferedReader, tensors: Mapping[str, TensorInfo], name: str) -> RawReader:
    """Open one of the arrays that the header of a file lists; KeyError, which lists them, for another name."""
    if name not in tensors:
        raise KeyError(f"{file.name} has no dataset {name!r}, but {list_datasets(list(tensors))}")
    info = tensors[name]
    dtype = array_dtype(name, info, file.name)
    return RawReader(file, info.offset, info.shape, dtype, swapped=sys.byteorder == "big")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON as a dict; ValueError for a name that is there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"names are there twice among {short_list([repr(name) for name, _ in pairs])}")
    return found


def _tensor_info(item: dict[str, Any], start: int) -> TensorInfo:
    begin, end = map(int, item["data_offsets"])
    info = TensorInfo(tuple(map(int, item["shape"])), item["dtype"], start + begin, end - begin)
    # Newer versions of the format have more dtypes: such an array cannot be loaded, but those beside it can.
    known = DTYPES.get(info.code)
    nbytes = info.nbytes if known is None else math.prod(info.shape) * known.itemsize
    if min(info.shape, default=0) < 0 or begin < 0 or info.nbytes < 0 or info.nbytes != nbytes:
        raise ValueError(f"an array {info.shape} of {info.code} has {info.nbytes} bytes")
    return info


SAFETENSORS = Safetensors()
