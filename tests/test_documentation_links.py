"""Diagrams of estimators link to pages that the documentation has."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skpartial
from skpartial import PartialLabelClassifier, heads, images, losses, model_selection, regularizers, relabeling, solvers

MODULES = (images, losses, heads, solvers, regularizers, relabeling, model_selection, skpartial)
# Of names in two places, the last counts.
CLASSES = {
    name: (f"{module.__name__}.{name}", getattr(module, name))
    for module in MODULES
    for name in module.__all__
    if inspect.isclass(getattr(module, name)) and issubclass(getattr(module, name), BaseEstimator)
}


def documented_pages():
    """The pages that autosummary makes of the lists in docs/api."""
    pages = set()
    for path in sorted((Path(__file__).parents[1] / "docs" / "api").glob("*.rst")):
        module = ""
        for line in path.read_text().splitlines():
            named = re.match(r"\.\. (?:current)?module:: (\S+)", line)
            module = named[1] if named else module
            if re.fullmatch(r"   \w+", line):
                pages.add(f"{module}.{line.strip()}")
    return pages


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_class_links_to_its_page(name):
    place, kind = CLASSES[name]
    if inspect.isabstract(kind):
        return
    link = kind.__new__(kind)._get_doc_link()
    page = link.rpartition("/")[2].removesuffix(".html")
    assert link.startswith("https://skpartial.")
    assert page == place
    assert page in documented_pages()


def test_the_diagram_of_a_pipeline_and_of_a_class_of_others():
    pipeline = make_pipeline(StandardScaler(), PartialLabelClassifier())
    html = pipeline._repr_html_()
    assert "skpartial.PartialLabelClassifier.html" in html
    assert "sklearn.preprocessing.StandardScaler.html" in html

    class Own(PartialLabelClassifier):
        pass

    assert Own()._get_doc_link() == ""
