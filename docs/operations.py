"""Makes `operations.md`: `python docs/operations.py` writes it, from the docstrings of the public functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import reference
from communication_section import communication_of

import minisplit as ms

PAGE = Path(__file__).with_name("operations.md")
HEAD = """# All functions

Made by `docs/operations.py` from the docstrings: their first sentence, and their section "Communication". *Local*
is a call that sends no message. *Collective* is a call that every rank of the communicator must make.
"""


def page() -> str:
    """Return the text of the page."""
    parts, placed = [HEAD], set[str]()
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
