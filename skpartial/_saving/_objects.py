"""Objects: estimators (by their parameters and attributes), named tuples, functions, scorers."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from torch import nn

from skpartial._saving._known import Refused, class_name, find_class, find_function, function_name
from skpartial._saving._walk import Kind, Reader, Writer
from skpartial._sklearn_compat import (
    BaseScorer,
    MetadataRequest,
    MultimetricScorer,
    PassthroughScorer,
    Scorer,
    make_requests,
    requests_in,
)

__all__ = ["OBJECT_KINDS"]

# Classes with a cache on this machine: a folder of pickles that the next transform or fit would execute.
_WITH_CACHE = ("skpartial.ImageFeatures", "sklearn.pipeline.Pipeline")


def _write_object(writer: Writer, value: Any) -> Any:
    kind = type(value)
    name = class_name(kind)
    writer.classes.add(name)
    if isinstance(value, tuple):
        return {"class": name, "items": [writer.write(item, key) for key, item in zip(kind._fields, value)]}
    attributes, parameters = dict(vars(value)), {}
    if not isinstance(value, BaseEstimator):
        _check_plain(kind)
    else:
        parameters = value.get_params(deep=False)
        attributes = {key: item for key, item in attributes.items() if key not in parameters}
        if name in _WITH_CACHE:
            parameters = parameters | {"memory": None}
    return {
        "class": name,
        "parameters": {key: writer.write(item, key) for key, item in parameters.items()},
        "attributes": {key: writer.write(item, key) for key, item in attributes.items()},
    }


def _check_plain(kind: type) -> None:
    """Refuse a class whose objects are more than their attributes."""
    own = any(getattr(kind, name) is not getattr(object, name) for name in ("__getstate__", "__reduce__"))
    if own or hasattr(kind, "__setstate__") or any(vars(base).get("__slots__") for base in kind.__mro__):
        raise Refused(f"a {kind.__name__} has data other than its attributes, which cannot be saved")


def _read_object(reader: Reader, entry: Any) -> Any:
    kind = find_class(entry["class"])
    if "items" in entry:
        if not issubclass(kind, tuple):
            raise Refused("it is damaged: an object of another class")
        return kind(*[reader.read(item) for item in entry["items"]])
    parameters = {key: reader.read(item) for key, item in entry["parameters"].items()}
    if issubclass(kind, BaseEstimator):
        unknown = sorted(parameters.keys() - inspect.signature(kind).parameters.keys())
        if unknown:
            raise Refused(f"{kind.__name__} has no parameter {unknown[0][:50]!r} in this version of the package")
        value: Any = kind(**parameters)
    else:
        value = object.__new__(kind)
    attributes = {key: reader.read(item) for key, item in entry["attributes"].items()}
    if not all(key.isidentifier() and not key.startswith("__") for key in attributes):
        raise Refused("it is damaged: an invalid attribute")
    requests = attributes.get("_metadata_request")
    if isinstance(requests, MetadataRequest):
        attributes["_metadata_request"] = make_requests(value, requests_in(requests))
    vars(value).update(attributes)
    return value


def _is_object(value: Any) -> bool:
    """Whether a value is of a class with parameters or attributes, which may be in the table."""
    if isinstance(value, type | nn.Module | dict | list | set | str | bytes | int | np.ndarray) or inspect.isroutine(
        value
    ):
        return False
    return hasattr(value, "__dict__") or (isinstance(value, tuple) and hasattr(value, "_fields"))


def _write_scorer(writer: Writer, scorer: Any) -> Any:
    if isinstance(scorer, PassthroughScorer):
        return {"of": "score", "estimator": writer.write(scorer._estimator, "estimator")}
    if isinstance(scorer, MultimetricScorer):
        return {
            "of": "several",
            "scorers": writer.write(scorer._scorers, "scorers"),
            "raises": bool(scorer._raise_exc),
        }
    if type(scorer) not in _scorer_classes().values():
        raise Refused(f"it is a scorer of class {type(scorer).__name__}")
    return {
        "of": type(scorer).__name__,
        "function": writer.write(scorer._score_func, "function"),
        "sign": int(scorer._sign),
        "options": writer.write(scorer._kwargs, "options"),
        "response": writer.write(scorer._response_method, "response"),
    }


def _read_scorer(reader: Reader, entry: Any) -> Any:
    of = entry["of"]
    if of == "score":
        return PassthroughScorer(reader.read(entry["estimator"]))
    if of == "several":
        return MultimetricScorer(scorers=reader.read(entry["scorers"]), raise_exc=bool(entry["raises"]))
    function, options, response = (reader.read(entry[name]) for name in ("function", "options", "response"))
    return _scorer_classes()[of](function, int(entry["sign"]), options, response)


_SCORERS = (BaseScorer, MultimetricScorer, PassthroughScorer)


def _scorer_classes() -> dict[str, Any]:
    from skpartial.metrics._scorers import LabelScorer

    return {"LabelScorer": LabelScorer, "_Scorer": Scorer}


OBJECT_KINDS = (
    Kind("scorer", lambda value: isinstance(value, _SCORERS), _write_scorer, _read_scorer),
    Kind(
        "requests",
        lambda value: isinstance(value, MetadataRequest),
        lambda writer, value: {"methods": writer.write(requests_in(value), "methods")},
        lambda reader, entry: make_requests(None, reader.read(entry["methods"])),
    ),
    Kind(
        "function",
        inspect.isfunction,
        lambda writer, value: {"function": function_name(value)},
        lambda reader, entry: find_function(entry["function"]),
    ),
    Kind("object", _is_object, _write_object, _read_object, shared=True),
)
