"""Draws the house in `design.md`: `python docs/house.py` writes each module, and what its docstring says it is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "minisplit"
PAGE = DOCS / "design.md"
# Where the house stands in the page.
_FENCED = re.compile(r"(?<=```\nminisplit/\n).*?(?=```)", re.DOTALL)


def lines(folder: Path = PACKAGE, indent: str = "  ") -> Iterator[str]:
    """Yield a line for each module and package below `folder`: its name, and its docstring's first sentence."""
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        if path.is_dir() and (path / "__init__.py").exists():
            yield f"{indent}{path.name + '/':{28 - len(indent)}}{summary(path / '__init__.py')}"
            yield from lines(path, indent + "  ")
        elif path.suffix == ".py" and (path.name != "__init__.py" or folder == PACKAGE):
            yield f"{indent}{path.name:{28 - len(indent)}}{summary(path)}"


def summary(path: Path) -> str:
    """Return the first line of a module's docstring, without its full stop."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0].rstrip(".")


def page() -> str:
    """Return the text of the page with the house as it is."""
    house = "".join(f"{line}\n" for line in lines())
    return _FENCED.sub(lambda _: house, PAGE.read_text(), count=1)


if __name__ == "__main__":
    PAGE.write_text(page())
