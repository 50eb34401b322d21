"""Makes `operations.md`: `python docs/operations.py` writes it, from the docstrings of the public functions."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import minisplit as ms
from minisplit import ops

PAGE = Path(__file__).with_name("operations.md")
HEAD = """# All operations

Made from the docstrings by `docs/operations.py`; `help(ms.sort)` and so on have the whole. *Local* is a call that
sends no message, *collective* one that every rank of the communicator must make.
"""
SPACES = {
    name: module for name in ms.__all__ if inspect.ismodule(module := getattr(ms, name)) and name != "testing"
}


def page() -> str:
    """The text of the page."""
    parts = [HEAD]
    for module in modules():
        first: dict[str, str] = {}
        rows = [row(name, function, first) for name, function in public(module)]
        if rows:
            parts.append("\n".join([f"## {title(module)}", "", "| | | |", "| --- | --- | --- |", *rows, ""]))
    return "\n".join(parts)


def title(module: ModuleType) -> str:
    """What a module is about: the beginning of its docstring."""
    return re.split(r"[:,]|\.( |$)", inspect.getdoc(module) or "")[0]


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(ops.__path__, "minisplit.ops."):
        yield importlib.import_module(found.name)


def public(module: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public functions that this module makes, under all their names."""
    made = {id(x) for name, x in vars(module).items() if inspect.isfunction(x) and is_made_in(x, module)}
    for space, names in {"": ms, **{f"{name}.": space for name, space in SPACES.items()}}.items():
        for name in names.__all__:
            function = getattr(names, name)
            if id(function) in made:
                yield f"{space}{name}", function


def is_made_in(function: Callable[..., Any], module: ModuleType) -> bool:
    """Whether its code is there, or it was made there by a maker; else it was imported."""
    return function.__module__ == module.__name__ or (
        function.__module__ == "minisplit" and function.__name__ not in imported(module)
    )


def imported(module: ModuleType) -> set[str]:
    """The names that a module has from others."""
    tree = ast.parse(inspect.getsource(module))
    return {name.name for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names}


def row(name: str, function: Callable[..., Any], first: dict[str, str]) -> str:
    """A row of a table; `first` are the rows that were the first to say something of messages."""
    doc = (inspect.getdoc(function) or "").split(">>>")[0]
    what = sentences_of(doc.split("\n\n")[0])[0]
    sentences = sentences_of(doc)
    place = next(i for i, text in enumerate(sentences) if re.search(r"\b([Ll]ocal|[Cc]ollective)\b", text))
    messages = " ".join(
        [sentences[place], *[text for text in sentences[place + 1 :][:1] if text.startswith("Else")]]
    )
    same = first.setdefault(messages, name)
    told = messages if same == name or len(messages) < 30 else f"As `{same}`."
    return f"| `{name}{arguments(function)}` | {cell(what)} | {cell(told)} |"


def sentences_of(text: str) -> list[str]:
    return re.split(r"(?<=\.) (?=[A-Z`]|\w+: )", " ".join(text.split()))


def arguments(function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
