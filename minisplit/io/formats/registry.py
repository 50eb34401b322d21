"""The table of formats: a row per format, found by the end of a file's name."""

from __future__ import annotations

from minisplit.core.error_text import short_repr
from minisplit.io.formats.base import Format
from minisplit.io.formats.csv import CSV
from minisplit.io.formats.hdf5 import HDF5
from minisplit.io.formats.npy import NPY
from minisplit.io.formats.parquet import PARQUET
from minisplit.io.formats.safetensors import SAFETENSORS
from minisplit.io.formats.zarr import ZARR

FORMATS: dict[str, Format] = {format.name: format for format in (NPY, HDF5, ZARR, SAFETENSORS, CSV, PARQUET)}


def format_of(path: str, format: str | None = None) -> Format:
    """Return the format with the name `format`, or that of the end of `path`; ValueError if there is none.

    >>> format_of("a/b.npy").name
    'npy'
    """
    if format is not None:
        if not isinstance(format, str) or format not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {short_repr(format)}")
        return FORMATS[format]
    name = path.rstrip("/").lower()  # shells complete the name of a folder with a slash
    for row in FORMATS.values():
        if name.endswith(row.suffixes):
            return row
    known = ", ".join(suffix for row in FORMATS.values() for suffix in row.suffixes)
    raise ValueError(f"the name of {path} does not tell its format: it should end in {known}; or give format=")


def checked_format(path: str, dataset: str | None, format: str | None) -> Format:
    """Return the format of a file; TypeError or ValueError for a name that no dataset of that format can have."""
    chosen = format_of(path, format)
    if dataset is not None and not isinstance(dataset, str):
        raise TypeError(f"dataset must be a str or None, got {short_repr(dataset)}")
    if dataset is not None and chosen.contents == "array":
        raise ValueError(f"{chosen.name} files hold one array, which has no name, got dataset={dataset!r}")
    return chosen
