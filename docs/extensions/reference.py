"""What the page of a class shows: the methods that users call, apart from those that whoever writes a class defines."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from sklearn.base import BaseEstimator

import skpartial

_FIRST = ["fit", "partial_fit", "predict", "predict_proba", "decision_function", "transform", "score", "split"]
# Every estimator has these; scikit-learn documents them.
_ROUTINE = {"get_metadata_routing", "get_params", "set_params", "set_callbacks", "set_output"}
# What users make and hand over, and the page on how to write one.
_PARTS = {
    "losses": ("Loss", "add_a_loss"),
    "heads": ("Head", "add_a_method"),
    "solvers": ("Solver", "add_a_method"),
    "regularizers": ("Regularizer", "add_a_method"),
    "relabeling": ("Relabeling", "add_a_method"),
}


def class_pages() -> dict[str, dict[str, str | list[str]]]:
    """For each public estimator, by its full name: methods for users or methods for authors, and their page."""
    pages: dict[str, dict[str, str | list[str]]] = {}
    for module in _modules():
        base, guide = _PARTS.get(module.__name__.rpartition(".")[2], (None, ""))
        for name in getattr(module, "__all__", []):
            cls = getattr(module, name)
            if inspect.isclass(cls) and issubclass(cls, BaseEstimator) and not inspect.isabstract(cls):
                part = base is not None and issubclass(cls, getattr(module, base))
                shown = "for_authors" if part else "for_users"
                pages[f"{module.__name__}.{name}"] = {shown: _methods(cls), "guide": guide}
    return pages


def _modules():
    yield skpartial
    for _, name, _ in pkgutil.iter_modules(skpartial.__path__):
        if not name.startswith("_"):
            yield importlib.import_module(f"skpartial.{name}")


def _methods(cls: type) -> list[str]:
    """Public methods without what scikit-learn gives to all: the familiar ones first, then by definition."""
    own: dict[str, None] = {}
    for base in inspect.getmro(cls):
        if base.__module__.startswith("skpartial"):
            own.update(dict.fromkeys(vars(base)))
    names = [name for name in own if not name.startswith("_") and name not in _ROUTINE]
    names = [name for name in names if not (name.startswith("set_") and name.endswith("_request"))]
    names = [name for name in names if callable(getattr(cls, name))]
    return sorted(names, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
