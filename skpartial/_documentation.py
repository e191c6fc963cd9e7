"""Where the documentation of a class is: what scikit-learn's diagrams of estimators link to."""

from __future__ import annotations

__all__ = ["Documented"]


class Documented:
    """Lets the diagram of an object in a notebook link to its page in the documentation of this package.

    Before `BaseEstimator` among the bases. Of classes of other packages that derive from such a one, nothing is linked.
    """

    _doc_link_module = "skpartial"
    _doc_link_template = "https://skpartial.readthedocs.io/en/stable/generated/{estimator_module}.{estimator_name}.html"
