"""Makes the pages of the API reference, a section for each module, from the public names."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import operations

import minisplit as ms
from minisplit import testing
from minisplit.vmap import plans

# Which modules of minisplit.ops are on which page. One that is on none stops the build.
OPERATIONS = {
    "elementwise": ("Elementwise", "elementwise comparing"),
    "reductions": (
        "Reductions, statistics, searching",
        "reductions statistics cumulative differences covariances histograms quantiles searching sorting sets",
    ),
    "shapes": (
        "Shapes",
        "manipulation joining cutting spreading padding turning taking diagonals",
    ),
    "products": ("Products and convolution", "products multiplying einsum norms convolving"),
    "dtypes": ("dtypes", "dtypes inspection"),
}
SPACES = {"linalg": "Linear algebra", "fft": "Fourier transforms", "random": "Random numbers"}
MADE = (
    "array asarray from_numpy from_dlpack zeros ones full empty zeros_like ones_like full_like empty_like arange "
    "linspace eye tri"
).split()
MOVED = ["resplit", "balance", "redistribute"]
RANKS = ["get_comm", "use_comm", "debug"]


def write(folder: Path) -> None:
    """Write the pages, where they differ from those that are there."""
    folder.mkdir(exist_ok=True)
    pages = dict(pages_of_reference())
    missing = set(ms.__all__) - {name for page in pages.values() for name in words(page)} - constants()
    if missing:
        raise ValueError(f"docs/reference.py has no page for {', '.join(sorted(missing))}")
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def pages_of_reference() -> Iterator[tuple[str, str]]:
    yield "mapping", page("Mapping", "", function("vmap"), *(of_class(each) for each in plan_classes()))
    yield (
        "arrays",
        page(
            "Arrays and layouts",
            "",
            of_class("minisplit.DNDarray", "    :special-members: __getitem__, __setitem__, __iter__"),
            of_class("minisplit.Layout"),
            section("Making arrays", "", *map(function, MADE)),
            section("Moving them", "", *map(function, MOVED)),
        ),
    )
    modules = {module.__name__.rpartition(".")[2]: module for module in operations.modules()}
    public = {
        name: [called for called, _ in operations.public(module) if "." not in called]
        for name, module in modules.items()
    }
    placed = " ".join(names for _, names in OPERATIONS.values()).split()
    lost = {name for name, functions in public.items() if functions} - set(placed)
    if lost:
        raise ValueError(f"docs/reference.py has no page for the modules {', '.join(sorted(lost))}")
    for name, (title, chosen) in OPERATIONS.items():
        sections = [
            section(
                (inspect.getdoc(modules[each]) or "").split(".")[0].split(":")[0].split(",")[0],
                "",
                *map(function, public[each]),
                *named_tuples(each),
            )
            for each in chosen.split()
        ]
        yield name, page(title, "", *sections)
    for name, title in SPACES.items():
        yield name, page(title, "", *space(name))
    yield "ranks", page("Communicators, debug mode, errors", "", *communicators())
    yield "testing", page("Testing", "", *of_testing())


def page(title: str, text: str, *parts: str) -> str:
    return "\n".join([title, "=" * len(title), "", text, *parts])


def section(title: str, text: str, *parts: str) -> str:
    return "\n".join([title, "-" * len(title), "", text, *parts])


def function(name: str) -> str:
    return f".. autofunction:: minisplit.{name}\n"


def of_class(name: str, *options: str) -> str:
    return "\n".join([f".. autoclass:: {name}", "    :members:", "    :undoc-members:", *options, ""])


def plan_classes() -> list[str]:
    return [f"minisplit.vmap.plans.{each.__name__}" for each in (plans.Plan, plans.InputPlan, plans.OutputPlan)]


def named_tuples(module: str) -> list[str]:
    """The public classes that are made in a module of minisplit.ops."""
    return [
        f".. autoclass:: minisplit.{name}\n"
        for name in ms.__all__
        if inspect.isclass(made := getattr(ms, name)) and made.__module__ == f"minisplit.ops.{module}"
    ]


def space(name: str) -> list[str]:
    """All of a namespace: functions, and classes."""
    things = getattr(ms, name)
    return [
        f".. auto{'class' if inspect.isclass(getattr(things, each)) else 'function'}:: minisplit.{name}.{each}\n"
        for each in things.__all__
    ]


def communicators() -> list[str]:
    names = ["MPI_WORLD", "MPI_SELF"]
    world = [f".. py:data:: minisplit.{name}\n\n    {text}\n" for name, text in zip(names, DATA, strict=True)]
    classes = [of_class(f"minisplit.{name}") for name in ("Communication", "MPICommunication")]
    errors = [f".. autoexception:: minisplit.{name}\n" for name in ("CollectiveError", "RankError")]
    return [*world, *[f".. autofunction:: minisplit.{name}\n" for name in RANKS], *classes, *errors]


DATA = ("All ranks of the job, the communicator of new arrays.", "This rank alone.")


def of_testing() -> list[str]:
    names = [name for name in testing.__all__ if name != "strategies"]
    made = [
        of_class(f"minisplit.testing.{name}")
        if inspect.isclass(getattr(testing, name))
        else f".. autofunction:: minisplit.testing.{name}\n"
        for name in names
    ]
    drawn = [
        f".. autofunction:: minisplit.testing.strategies.{name}\n"
        for name, each in vars(testing.strategies).items()
        if inspect.isfunction(each) and each.__module__ == testing.strategies.__name__ and name[0] != "_"
    ]
    return [*made, section("Strategies", "What hypothesis draws.", *drawn)]


def words(text: str) -> set[str]:
    return {line.split("minisplit.")[1].split(".")[0] for line in text.splitlines() if ":: minisplit." in line}


def constants() -> set[str]:
    """Public names that are numbers, dtypes and devices, or namespaces, which have pages of their own."""
    return {
        name
        for name in ms.__all__
        if inspect.ismodule(each := getattr(ms, name)) or not (callable(each) or isinstance(each, ms.Communication))
    }
