"""Makes the pages of the API reference, from the public names: no page lists functions by hand."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from pathlib import Path

import operations

import minisplit as ms
from minisplit import testing
from minisplit.vmap import plan

# Which modules of minisplit.ops are on which page. One that is on none stops the build.
OPERATIONS = {
    "elementwise": ("Elementwise", "elementwise comparing"),
    "reductions": (
        "Reductions, statistics, searching",
        "reductions statistics cumulative differences covariances histograms quantiles searching sorting sets",
    ),
    "shapes": ("Shapes", "manipulation joining cutting spreading padding turning taking diagonals"),
    "products": ("Products and convolution", "products multiplying einsum norms convolving"),
    "dtypes": ("dtypes", "dtypes inspection"),
}
SPACES = {"linalg": "Linear algebra", "fft": "Fourier transforms", "random": "Random numbers"}
# Of minisplit.core.
MADE = ("conversion", "factories")
MOVED = ("redistribution",)
RANKS = ("mpi", "communication", "debugging", "errors")

MEMBERS = ["    :members:", "    :undoc-members:", "    :special-members: __getitem__, __setitem__, __iter__"]


def write(folder: Path) -> None:
    """Write the pages, where they differ from those that are there."""
    folder.mkdir(exist_ok=True)
    pages = dict(all_pages())
    rest = [
        name for name in public_names() if not any(f":: minisplit.{name}\n" in text for text in pages.values())
    ]
    if rest:
        pages["more"] = page("Files, pictures and more", *map(entry, rest))
    pages["index"] = page("API reference", ".. toctree::\n    :maxdepth: 2\n", *[f"    {name}" for name in pages])
    for path in folder.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def all_pages() -> Iterator[tuple[str, str]]:
    classes = (plan.Plan, plan.InputPlan, plan.OutputPlan)
    described_classes = [described(f"{plan.__name__}.{each.__name__}", each) for each in classes]
    yield "mapping", page("Mapping", entry("vmap"), *described_classes)
    yield (
        "arrays",
        page(
            "Arrays and layouts",
            entry("DNDarray"),
            entry("Layout"),
            section("Making arrays", *made_in(MADE)),
            section("Moving them", *made_in(MOVED)),
        ),
    )
    yield from operation_pages()
    for name, names in operations.SPACES.items():
        yield name, page(SPACES.get(name, name), *[entry(f"{name}.{each}") for each in names.__all__])
    yield "ranks", page("Communicators, debug mode, errors", *made_in(RANKS))
    names = [name for name in testing.__all__ if name != "strategies"]
    drawn = [
        f"testing.strategies.{name}"
        for name, each in vars(testing.strategies).items()
        if inspect.isfunction(each) and each.__module__ == testing.strategies.__name__ and name[0] != "_"
    ]
    strategies = section("Strategies for hypothesis", *map(entry, drawn))
    yield "testing", page("Testing", *[entry(f"testing.{name}") for name in names], strategies)


def operation_pages() -> Iterator[tuple[str, str]]:
    modules = {module.__name__.rpartition(".")[2]: module for module in operations.modules()}
    functions = {
        name: [called for called, _ in operations.public(module) if "." not in called]
        for name, module in modules.items()
    }
    placed = " ".join(names for _, names in OPERATIONS.values()).split()
    lost = {name for name, called in functions.items() if called} - set(placed)
    if lost:
        raise ValueError(f"docs/reference.py has no page for the modules {', '.join(sorted(lost))}")
    for name, (title, chosen) in OPERATIONS.items():
        sections = []
        for each in chosen.split():
            classes = [made for made in public_names() if is_class(made, f"minisplit.ops.{each}")]
            heading = operations.title(modules[each])
            sections.append(section(heading, *map(entry, [*functions[each], *classes])))
        yield name, page(title, *sections)


def public_names() -> list[str]:
    """All but namespaces, dtypes, devices and numbers."""
    things = {name: getattr(ms, name) for name in ms.__all__}
    return [name for name, each in things.items() if callable(each) or isinstance(each, ms.Communication)]


def made_in(modules: tuple[str, ...]) -> list[str]:
    """The entries of what modules of minisplit.core make. A communicator is made by the module of its class."""
    paths = {f"minisplit.core.{module}" for module in modules}
    return [entry(name) for name in public_names() if getattr(ms, name).__module__ in paths]


def is_class(name: str, module: str) -> bool:
    return inspect.isclass(getattr(ms, name)) and getattr(ms, name).__module__ == module


def page(title: str, *parts: str) -> str:
    return "\n".join([title, "=" * len(title), "", *parts])


def section(title: str, *parts: str) -> str:
    return "\n".join([title, "-" * len(title), "", *parts])


def entry(name: str) -> str:
    """What makes Sphinx describe `minisplit.NAME`."""
    return described(f"minisplit.{name}", functools.reduce(getattr, name.split("."), ms))


def described(path: str, thing: object) -> str:
    if isinstance(thing, ms.Communication):
        text = "This rank alone." if thing is ms.MPI_SELF else "All ranks of the job."
        return f".. py:data:: {path}\n\n    {text}\n"
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return f".. autoexception:: {path}\n"
    if not inspect.isclass(thing):
        return f".. autofunction:: {path}\n"
    return "\n".join([f".. autoclass:: {path}", *([] if issubclass(thing, tuple) else MEMBERS), ""])
