"""Links from scikit-learn's diagrams of estimators to the documentation of a class."""

from __future__ import annotations

__all__ = ["Documented"]


class Documented:
    """Mixin that links the diagram of an object in a notebook to its page in the documentation of this package.

    It comes before `BaseEstimator` in the bases. Derived classes in other packages have no link.
    """

    _doc_link_module = "skpartial"
    _doc_link_template = "https://skpartial.readthedocs.io/en/stable/generated/{estimator_module}.{estimator_name}.html"
