"""Names of minisplit in the text become links to their place in the reference."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

_NAME = re.compile(r"(?:(?:ms|minisplit)\.)?([A-Za-z_][\w.]*)")
# Pages whose tables name functions as they are called in the namespace.
_BARE = {"operations"}


class LinkNames(SphinxPostTransform):
    """Link code that is a public name, or a call of it: `ms.sort`, `minisplit.sort(x)`."""

    default_priority = 400

    def run(self, **_: Any) -> None:
        for code in list(self.document.findall(nodes.literal)):
            found = self._target(code)
            if found is not None:
                docname, anchor = found
                link = make_refnode(self.app.builder, self.env.docname, docname, anchor, code.deepcopy())
                code.replace_self(link)

    def _target(self, code: nodes.literal) -> tuple[str, str] | None:
        text = code.astext()
        match = _NAME.match(text)
        if match is None or text[match.end() : match.end() + 1] not in {"", "("} or _within(code, nodes.reference):
            return None
        prefixed = text.startswith(("ms.", "minisplit."))
        if not prefixed and not (self.env.docname in _BARE and _within(code, nodes.table)):
            return None
        known = self.env.domains.python_domain.objects.get(f"minisplit.{match[1]}")
        return None if known is None else (known.docname, known.node_id)


def _within(node: nodes.Node, kind: type[nodes.Node]) -> bool:
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kind):
            return True
    return False
