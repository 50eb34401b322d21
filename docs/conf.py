"""How Sphinx builds the site: `python3 dev.py docs`, or `sphinx-build docs docs/_build/html`."""

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import docstrings  # noqa: E402 - these lie beside this file, and beside it is minisplit
import linking  # noqa: E402
import reference  # noqa: E402

import minisplit as ms  # noqa: E402

project = "minisplit"
author = "the authors of minisplit"
version = release = ms.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
highlight_language = "text"
smartquotes = False
myst_heading_anchors = 3
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
add_module_names = False
toc_object_entries_show_parents = "hide"
maximum_signature_line_length = 90

pygments_dark_style = "github-dark"
html_theme = "furo"
html_title = f"minisplit {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False


def without_missing(app: Any, docname: str, source: list[str]) -> None:
    """Leave out of the front page's contents what is not written yet."""
    if docname == "index":
        names = re.findall(r"^([\w/]+)$", source[0], re.MULTILINE)
        for name in {name for name in names if not list(HERE.glob(f"{name}.*"))}:
            source[0] = re.sub(rf"^{name}\n", "", source[0], flags=re.MULTILINE)


def setup(app: Any) -> None:
    app.connect("builder-inited", lambda app: reference.write(Path(app.srcdir) / "reference"))
    app.connect("source-read", without_missing)
    app.connect("autodoc-process-docstring", docstrings.process)
    app.add_post_transform(linking.LinkNames)
