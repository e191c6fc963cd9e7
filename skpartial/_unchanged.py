"""All or nothing: a failure or interrupt leaves objects unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sklearn.base import BaseEstimator

__all__ = ["estimators_in", "unchanged_on_failure"]


@contextmanager
def unchanged_on_failure(*objects: Any) -> Iterator[None]:
    """Restore the attributes of objects if the block fails or is interrupted.

    Attribute values are not copied: the block must replace them, never change them in place.
    """
    before = [(each, dict(vars(each))) for each in objects]
    try:
        yield
    except BaseException:
        for each, attributes in before:
            # In one step, so that a second interrupt cannot leave half of it.
            each.__dict__ = attributes
        raise


def estimators_in(*values: Any) -> list[BaseEstimator]:
    """The estimators among values, and in their parameters, at any depth."""
    found: list[BaseEstimator] = []
    for value in values:
        if isinstance(value, BaseEstimator) and not isinstance(value, type):
            found += [value, *(part for part in value.get_params().values() if isinstance(part, BaseEstimator))]
    return found
