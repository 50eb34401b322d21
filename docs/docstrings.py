"""From the plain text of our docstrings to what Sphinx reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_DOCS = Path(__file__).parent
# `name: what it is`, which may go on in indented lines.
_ITEM = re.compile(r"^(\w+(?:, \w+)*): ")


def process(app: Any, what: str, name: str, thing: object, options: Any, lines: list[str]) -> None:
    """Sphinx's hook: change the lines of a docstring in place."""
    lines[:] = restructured("\n".join(lines)).splitlines()


def restructured(text: str) -> str:
    """A docstring as reStructuredText: code between backticks, parameters as a list, examples as they are.

    >>> restructured("Set `a`, a*b.\\n\\na: a number\\n    or two\\nb: another\\n\\n>>> 1 * 2\\n2")
    'Set ``a``, a\\\\*b.\\n\\n* ``a``: a number\\n  or two\\n* ``b``: another\\n\\n>>> 1 * 2\\n2'
    """
    return "\n\n".join(_block(block) for block in re.split(r"\n[ \t]*\n", text.strip("\n")))


def _block(block: str) -> str:
    if block.lstrip().startswith(">>>"):
        return block
    lines = block.splitlines()
    starts = [line for line in lines if not line.startswith(" ")]
    if starts and all(map(_ITEM.match, starts)):
        items = [_ITEM.sub(r"* `\1`: ", line) if line in starts else "  " + line.strip() for line in lines]
        return _inline("\n".join(items), bullet="* ")
    if block.startswith("- "):
        return _inline("\n".join(lines), bullet="- ")
    return _inline("\n".join(line.strip() for line in lines))


def _inline(text: str, bullet: str = "") -> str:
    """Code and plain text of a block, in which only bullets and backticks mean anything."""
    parts = re.split(r"`([^`]+)`", text)
    plain = [re.sub(r"([\\*|]|_\b)", r"\\\1", part) for part in parts[::2]]
    plain = [re.sub(r"\bdocs/(\w+)\.md", _page, part) for part in plain]
    parts[::2] = [re.sub(r"^\\\* ", bullet, part, flags=re.MULTILINE) for part in plain]
    # Code must not touch a letter behind it: `n`s.
    parts[1::2] = [f"``{code}``" for code in parts[1::2]]
    return "".join(part + ("\\ " if i % 2 and parts[i + 1][:1].isalnum() else "") for i, part in enumerate(parts))


def _page(match: re.Match[str]) -> str:
    return f":doc:`/{match[1]}`" if (_DOCS / f"{match[1]}.md").exists() else match[0]
