"""Makes `operations.md`: `python docs/operations.py` writes it, from the docstrings of the public functions."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import reference
from communication_section import communication_of

import minisplit as ms

PAGE = Path(__file__).with_name("operations.md")
TESTS = PAGE.parents[1] / "tests"
HEAD = """# All functions

`docs/operations.py` makes this page from the docstrings: their first sentence, and their section "Communication".
A *local* call sends no message. A *collective* call must be made by every rank of the communicator.
"""
MEMORY = """## Memory

On each rank a call makes and receives tensors about as large as its shards. `tests/ops/test_memory_per_rank.py`
measures this for every operation on split arrays: on {ranks} ranks no tensor is larger than {limit} times the fair
share of the largest argument or result. Every rank has the whole of a replicated result. Arrays of no more than 16
MiB, and matrices of fewer than 512 rows or columns (2048 for eigenvalues and singular values), may be gathered if
that takes fewer messages. Only these functions gather larger ones:
"""


def memory() -> str:
    """Return the section on memory, from the list of the test that measures it."""
    sys.path.extend(str(folder) for folder in (TESTS, TESTS / "helpers") if str(folder) not in sys.path)
    rule = importlib.import_module("ops.test_memory_per_rank")
    rows = [f"| `{name}`{also} | {cell(reason)} |" for name, also, reason in exceptions(rule.GATHERING)]
    head = MEMORY.format(limit=rule.LIMIT, ranks=rule.RANKS)
    return "\n".join([head, "| | what each rank gathers, and why |", "| --- | --- |", *sorted(rows), ""])


def exceptions(gathering: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield each name of the test's list, what its call is beside the name, and the reason."""
    for each, reason in gathering.items():
        name, _, more = each.partition(", ")
        yield name, f", {more}" if more else "", reason


def page() -> str:
    """Return the text of the page."""
    parts, placed = [HEAD, memory()], set[str]()
    for name in reference.PAGES:
        title, names = reference.names_on(name)
        found = [(each, reference.public(each)) for each in names if each not in placed]
        placed.update(names)
        rows = [row(each, thing) for each, thing in found if inspect.isfunction(thing)]
        if not rows:  # classes alone
            continue
        parts.append("\n".join([f"## {title}", "", "| | | |", "| --- | --- | --- |", *sorted(rows), ""]))
    return "\n".join(parts)


def row(name: str, function: Callable[..., Any]) -> str:
    """Return the row of a table for one function, with its names in other namespaces."""
    first = (inspect.getdoc(function) or "").split("\n\n")[0]
    others = [
        f"{space}.{each}"
        for space, module in reference.SPACES.items()
        for each in module.__all__
        if getattr(module, each) is function and f"{space}.{each}" != name
    ]
    also = "".join(f", `{other}`" for other in others)
    return f"| `{name}{arguments(function)}`{also} | {cell(first)} | {cell(communication_of(function))} |"


def arguments(function: Callable[..., Any]) -> str:
    """Return the signature without annotations."""
    signature = inspect.signature(function)
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def cell(text: str) -> str:
    """Return the text of a table's cell: in one line, with bars that end no cell."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"{PAGE} has the operations of minisplit {ms.__version__}")
