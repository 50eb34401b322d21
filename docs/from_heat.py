"""Makes programs of minisplit of programs of Heat, by the table in `from-heat.md`.

`python docs/from_heat.py` writes those of the page.
`python docs/from_heat.py PROGRAM` prints what the table makes of a program. Capitals in the table stand for any
expression, and `...` for all further arguments, of which those that a program gives itself take the place of the
table's. Only the first row that fits is applied, and what it makes is not replaced again.
"""

from __future__ import annotations

import ast
import copy
import re
import sys
from collections.abc import Callable
from pathlib import Path

PAGE = Path(__file__).with_name("from-heat.md")
# A program of Heat, and that of minisplit beside it.
PAIRS = re.compile(
    r"(?<=<tr><td>\n\n```python\n)(.*?)(```\n\n</td><td>\n\n```python\n)(.*?)(?=```\n\n</td>)", re.DOTALL
)
Rule = tuple[ast.AST, ast.AST]


def rules() -> list[Rule]:
    """Return the rows of the page's first table, as code."""
    [table] = re.findall(r"^\| Heat \| minisplit \|\n\| --- .*\n((?:\|.*\n)+)", PAGE.read_text(), re.MULTILINE)
    found = []
    for row in table.splitlines():
        there, here = (re.findall(r"`(.*?)`", cell) for cell in row.strip("| ").split(" | "))
        found += [(_code(old), _code(new)) for old, new in zip(there, here, strict=True)]
    return found


def convert(source: str) -> str:
    """Return the program of minisplit that the table alone makes of a program of Heat."""
    ends = [0]
    for line in source.splitlines(keepends=True):
        ends.append(ends[-1] + len(line))

    def place(node: ast.AST) -> tuple[int, int]:
        return ends[node.lineno - 1] + node.col_offset, ends[node.end_lineno - 1] + node.end_col_offset

    def text(node: ast.AST) -> str:
        for old, new in table:
            parts: dict[str, ast.AST] = {}
            if _matches(old, node, parts):
                return _written(new, parts, text)
        start, end = place(node) if hasattr(node, "lineno") else (0, len(source))
        pieces = []
        for child in sorted(_placed(node), key=place):
            first, last = place(child)
            # A decorator stands before its function, and some nodes share their place.
            if start <= first:
                pieces += [source[start:first], text(child)]
                start = last
        return "".join([*pieces, source[start:end]])

    table = rules()
    return text(ast.parse(source))


def _code(text: str) -> ast.AST:
    # `...` may not stand behind keywords, where `**_` may.
    statement = ast.parse(text.replace("...", "**_")).body[0]
    return statement.value if isinstance(statement, ast.Expr) else statement


def _placed(node: ast.AST) -> list[ast.AST]:
    """Return the nearest nodes below a node that have a place in the source, which lists of arguments have not."""
    found = []
    for child in ast.iter_child_nodes(node):
        found += [child] if hasattr(child, "lineno") else _placed(child)
    return found


def _takes_rest(node: object) -> bool:
    return isinstance(node, ast.Call) and any(keyword.arg is None for keyword in node.keywords)


def _matches(old: object, node: object, parts: dict[str, ast.AST]) -> bool:
    """Whether code is that of a row; `parts` gets what its capitals and its `...` stand for."""
    if isinstance(old, ast.Name) and re.fullmatch("[A-Z]", old.id):
        parts[old.id] = node
        return isinstance(node, ast.expr) and not isinstance(node, ast.Starred)
    if type(old) is not type(node):
        return False
    if isinstance(node, ast.Call) and _takes_rest(old):
        named = {keyword.arg: keyword.value for keyword in old.keywords if keyword.arg}
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        first = len(old.args)
        if len(node.args) < first or not named.keys() <= given.keys():
            return False
        rest = [ast.keyword(name, value) for name, value in given.items() if name not in named]
        parts["..."] = ast.Call(ast.Name("_"), node.args[first:], rest)
        pairs = [(old.func, node.func), *zip(old.args, node.args[:first], strict=True)]
        pairs += [(value, given[name]) for name, value in named.items()]
        return all(_matches(*pair, parts) for pair in pairs)
    if isinstance(old, ast.AST):
        fields = [name for name in old._fields if name not in {"ctx", "kind"}]
        return all(_matches(getattr(old, name), getattr(node, name), parts) for name in fields)
    if isinstance(old, list):
        return len(old) == len(node) and all(_matches(*pair, parts) for pair in zip(old, node, strict=True))
    return bool(old == node)


def _written(new: ast.AST, parts: dict[str, ast.AST], text: Callable[[ast.AST], str]) -> str:
    """Return a row's right side with the code that its capitals and its `...` stand for."""
    new = copy.deepcopy(new)
    for call in [call for call in ast.walk(new) if _takes_rest(call)]:
        rest = parts["..."]
        given = {keyword.arg: keyword.value for keyword in rest.keywords}
        own = [keyword for keyword in call.keywords if keyword.arg and keyword.arg not in given]
        places = {f"_{place}_": value for place, value in [*enumerate(rest.args), *given.items()]}
        call.args += [ast.Name(f"_{place}_") for place in range(len(rest.args))]
        call.keywords = own + [ast.keyword(name, ast.Name(f"_{name}_")) for name in given]
        parts |= places
    written = f"({ast.unparse(new)})" if isinstance(new, ast.IfExp) else ast.unparse(new)

    def of(found: re.Match[str]) -> str:
        part = parts.get(found[1])
        if part is None:
            return found[1]
        # What is read an attribute of, or indexed, is bracketed where an operator would come later.
        bare = isinstance(part, ast.Name | ast.Attribute | ast.Call | ast.Subscript | ast.Constant)
        return text(part) if bare or written[found.end() :][:1] not in {".", "["} else f"({text(part)})"

    return re.sub(r"(?<![\w.])([A-Z]|_\w+_)\b(?!\w)", of, written)


def page() -> str:
    """Return the text of the page with the programs as the table makes them."""
    return PAIRS.sub(lambda found: found[1] + found[2] + convert(found[1]), PAGE.read_text())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(convert(Path(sys.argv[1]).read_text()), end="")
    else:
        PAGE.write_text(page())
