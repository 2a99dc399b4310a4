"""Settings of the documentation. Nothing here needs the network."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # for mathml.py

# Docstring examples of the command line wrap at the terminal's width; builds must not differ.
os.environ.setdefault("COLUMNS", "100")

project = "dcorr"
author = "The dcorr authors"
copyright = author
version = release = installed_version("dcorr")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "matplotlib.sphinxext.plot_directive",
    "mathml",
]
exclude_patterns = ["_build"]

# Markdown
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3

# Docstrings: Google style; the project's own sections keep their names.
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Gradient", "Protocol", ("Reference", "References")]
default_role = "code"  # dcorr_models writes `name` with single backticks
autodoc_member_order = "groupwise"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 88

html_math_renderer = "mathml"

# Figures are drawn by code in the page's source, so that none is older than the code.
plot_include_source = False
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("svg", 100)]

# Look
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["extra.css"]
html_title = f"dcorr {release}"
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def skip_tuple_fields(
    app: Any, what: str, name: str, member: Any, skip: bool, options: Any
) -> bool | None:
    """Leaves out the fields of named tuples that say only their position."""
    doc = getattr(member, "__doc__", None) or ""
    return True if doc.startswith("Alias for field number") else None


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", skip_tuple_fields)
