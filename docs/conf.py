"""Sphinx: `make docs` writes the site to build/docs."""

import pyhue

project = "pyhue"
author = "The pyhue team"
version = release = pyhue.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings tell shapes and dtypes
napoleon_use_rtype = False  # what is returned is told by shape, not by type
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"pyhue {version}"
html_show_sphinx = html_show_copyright = False
html_copy_source = False
