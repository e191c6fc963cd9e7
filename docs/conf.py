"""Configuration of the documentation: ``sphinx-build -W -b html docs docs/_build/html``, without a network."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

# The examples and the workers that they start share the machine with the build.
os.environ.setdefault("OMP_NUM_THREADS", "1")

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "extensions"))

import ziamath
from docutils import nodes
from reference import class_pages

import skpartial

project = "skpartial"
author = "The skpartial developers"
copyright = "2026, The skpartial developers"
version = release = skpartial.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "mathml",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "reproduced",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "**/GALLERY_HEADER.rst"]
html_math_renderer = "mathml"
# With a font for formulas, for systems that have none.
html_static_path = ["_static", str(Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf")]
html_css_files = ["pages.css"]
toc_object_entries_show_parents = "hide"
default_role = "code"
nitpicky = False

autosummary_generate = True
autosummary_context = {"class_pages": class_pages()}
autodoc_typehints = "none"
autodoc_member_order = "bysource"
# Members are listed by the templates, which leave out what scikit-learn gives to every estimator.
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "pydata_sphinx_theme"
html_title = f"skpartial {release}"
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "header_links_before_dropdown": 4,
    "show_toc_level": 2,
    "secondary_sidebar_items": [],
}
# Contents of the page are on the left, so that code has the whole width to the right of it.
html_sidebars = {"**": ["page-toc", "sidebar-nav-bs"]}
html_show_sourcelink = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"[\\/]plot_",
    "ignore_pattern": r"__init__\.py|[\\/]bench_",
    "nested_sections": False,
    "abort_on_example_error": True,
    "min_reported_time": 1,
    "show_memory": False,
    "show_signature": False,
    # A table of times needs scripts from the network.
    "write_computation_times": False,
    "download_all_examples": False,
    "copyfile_regex": r"GALLERY_HEADER\.rst",
    "reference_url": {"skpartial": None},
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("skpartial",),
    "within_subsection_order": "gallery_order.ByUse",
}

# Docstrings that come from scikit-learn refer to its glossary and user guide, which are not here.
_FOREIGN_ROLE = re.compile(r":term:`([^`<]+?)(?: *<[^`>]*>)?`|:ref:`([^`<]+?) *<metadata_routing>`")


# A reference such as "[1] E. Cole et al." is no list whose first item is E.
_INITIAL = re.compile(r"^(\.\. \[\w[\w-]*\] )(?=[A-Z]\. )")


def mend_docstring(app, what, name, obj, options, lines):
    """Leave the words of foreign references, and the initials of authors."""
    lines[:] = [_FOREIGN_ROLE.sub(lambda match: f"``{match[1]}``" if match[1] else match[2], line) for line in lines]
    lines[:] = [_INITIAL.sub(r"\1\\", line) for line in lines]


def keep_numbers_whole(app, doctree):
    """Let cells of a table break before a spread, such as ± 0.3, but neither within it nor within 1e-4."""
    for entry in doctree.findall(nodes.entry):
        for text in list(entry.findall(nodes.Text)):
            whole = re.sub(r"(?<=\de)-(?=\d)", "\N{NON-BREAKING HYPHEN}", text.replace("± ", "±\N{NO-BREAK SPACE}"))
            if not isinstance(text.parent, nodes.literal):
                text.parent.replace(text, nodes.Text(whole))


def setup(app):
    """Register what is above, after numpydoc has put docstrings together."""
    app.connect("autodoc-process-docstring", mend_docstring, priority=900)
    app.connect("doctree-read", keep_numbers_whole)
