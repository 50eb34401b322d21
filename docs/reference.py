"""Writes the pages of the API reference: tables of the public names, for which autosummary makes a page each."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import minisplit as ms

# The pages: a title, and the modules whose public names are on it. A name is on the first page that fits it; the
# last page fits all.
PAGES = {
    "mapping": ("Mapping", ("minisplit.vmap",)),
    "arrays": ("Arrays and layouts", ("minisplit.core.array", "minisplit.core.layout", "minisplit.core.storage")),
    "creation": ("Making arrays", ("minisplit.core.conversion", "minisplit.core.factories")),
    "redistribution": ("Redistribution", ("minisplit.core.redistribution",)),
    "random": ("Random numbers", ("minisplit.core.random",)),
    "training": ("Training", ("minisplit.nn",)),
    "elementwise": ("Elementwise functions", ("minisplit.ops.elementwise",)),
    "reductions": ("Reductions", ("minisplit.ops.reductions",)),
    "shape": ("Shapes", ("minisplit.ops.shape",)),
    "sorting": ("Sorting, searching, sets, histograms", ("minisplit.ops.sorting",)),
    "linalg": ("Linear algebra", ("minisplit.ops.linalg",)),
    "fft": ("Fourier transforms", ("minisplit.ops.fft",)),
    "stencil": ("Differences, convolution, neighbours", ("minisplit.ops.stencil", "minisplit.ops.halos")),
    "polynomials": ("Polynomials and interpolation", ("minisplit.ops.polynomials", "minisplit.ops.interpolation")),
    "dtypes": ("dtypes, and what other libraries ask", ("minisplit.ops.data_types",)),
    "files": ("Files", ("minisplit.io",)),
    "communication": ("Communicators, debug mode, errors", ("minisplit.core.communication",)),
    "testing": ("Testing", ("minisplit.testing",)),
    "more": ("Pictures, profiles and more", ("minisplit",)),
}
# Public names that are imported when they are asked for.
LATE = ("MPICommunication", "TorchCommunication")
SPACES = {"random": ms.random, "linalg": ms.linalg, "fft": ms.fft, "nn.utils": ms.nn.utils, "testing": ms.testing}


def public_names() -> Iterator[tuple[str, str]]:
    """Yield each public function and class under its shortest name, with the module that makes it."""
    seen: set[int] = set()
    for space, module in {"": ms, **SPACES}.items():
        for name in (*module.__all__, *LATE * (module is ms)):
            thing = getattr(module, name)
            if id(thing) in seen or not (inspect.isroutine(thing) or inspect.isclass(thing)):
                continue
            if not thing.__module__.startswith("minisplit"):
                continue
            seen.add(id(thing))
            yield f"{space}.{name}".lstrip("."), thing.__module__


def public(name: str) -> Any:
    """Return what has a public name, such as `sum` or `linalg.qr`."""
    return functools.reduce(getattr, name.split("."), ms)


def names_on(page: str) -> tuple[str, list[str]]:
    """Return the title of a page of the reference, and the public names that its modules make."""
    title, modules = PAGES[page]
    prefixes = tuple(f"{module}." for module in modules)
    return title, [name for name, module in public_names() if f"{module}.".startswith(prefixes)]


def write(folder: Path) -> None:
    """Write the pages into `folder`, as `NAME.rst`. A page that is there and unchanged is left alone."""
    folder.mkdir(exist_ok=True)
    placed: set[str] = set()
    for page in PAGES:
        title, names = names_on(page)
        names = [name for name in names if name not in placed]
        placed.update(names)
        _write(folder / f"{page}.rst", title, ".. autosummary::", "   :toctree: generated", *names)
    _write(folder / "index.rst", "API reference", ".. toctree::", "   :maxdepth: 1", *PAGES)


def _write(path: Path, title: str, directive: str, option: str, *names: str) -> None:
    lines = [title, "=" * len(title), "", ".. currentmodule:: minisplit", "", directive, option, ""]
    text = "\n".join([*lines, *[f"   {name}" for name in names], ""])
    # An unchanged page keeps its time, so that Sphinx does not read it again.
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
