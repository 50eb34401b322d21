"""How Sphinx builds the site: `python3 dev.py docs`, or `sphinx-build docs docs/_build/html`."""

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import communication_section  # noqa: E402 - these lie beside this file, and beside it is minisplit
import linking  # noqa: E402
import reference  # noqa: E402

import minisplit as ms  # noqa: E402

project = "minisplit"
author = "the minisplit developers"
version = release = ms.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "sphinx_copybutton"]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
highlight_language = "text"
smartquotes = False
myst_enable_extensions = ["tasklist"]
myst_heading_anchors = 3
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
add_module_names = False
toc_object_entries_show_parents = "hide"
maximum_signature_line_length = 90
# Single backticks in docstrings: code, and a link where it names something.
default_role = "autolink"

pygments_dark_style = "github-dark"
html_theme = "furo"
html_title = f"minisplit {release}"
html_logo = html_favicon = "_static/logo.svg"
html_theme_options = {
    "source_repository": "https://github.com/minisplit/minisplit/",
    "source_branch": "main",
    "source_directory": "docs/",
}
myst_html_meta = {
    "description": "Arrays cut over processes, and plain PyTorch functions of one sample mapped over them.",
    "keywords": "PyTorch, vmap, MPI, torchrun, distributed arrays, per-sample gradients, Array API, Heat, DTensor",
}
# What is copied is the code, without the prompts and outputs of examples in docstrings.
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_selector = "div:not(.highlight-text) > div.highlight > pre"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False

communication_section.install()
reference.write(HERE / "reference")


def setup(app: Any) -> None:
    app.add_post_transform(linking.LinkNames)
