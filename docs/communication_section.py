"""Teaches numpydoc the section "Communication", in which our docstrings say what messages a call sends."""

from __future__ import annotations

from typing import Any

from numpydoc import docscrape, docscrape_sphinx, validate

NAME = "Communication"


def install() -> None:
    """Let numpydoc read, show and validate the section. It stands after Raises and Warns, before See Also."""
    if NAME in docscrape.NumpyDocString.sections:
        return
    docscrape.NumpyDocString.sections[NAME] = []
    place = validate.ALLOWED_SECTIONS.index("See Also")
    validate.ALLOWED_SECTIONS.insert(place, NAME)
    sphinx_docstring = docscrape_sphinx.SphinxDocString
    see_also = sphinx_docstring._str_see_also

    def section_and_see_also(self: Any, role: str) -> list[str]:
        # numpydoc's template has fixed places. The one of See Also comes right after ours.
        text = self._str_section(NAME)
        return [*text, *see_also(self, role)]

    sphinx_docstring._str_see_also = section_and_see_also


def communication_of(thing: object) -> str:
    """Return the text of the section in the docstring of a function or class, as one paragraph."""
    install()
    lines = docscrape.get_doc_object(thing)[NAME]
    return " ".join(" ".join(lines).split())
