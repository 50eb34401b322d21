"""How Sphinx builds the site: `python3 dev.py docs`, or `sphinx-build docs docs/_build/html`."""

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
myst_enable_extensions = ["tasklist"]
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


def setup(app: Any) -> None:
    app.connect("builder-inited", lambda app: reference.write(Path(app.srcdir) / "reference"))
    app.connect("autodoc-process-docstring", docstrings.process)
    app.add_post_transform(linking.LinkNames)
