"""All or nothing: what fails or is interrupted leaves objects as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sklearn.base import BaseEstimator

__all__ = ["estimators_in", "unchanged_on_failure"]


@contextmanager
def unchanged_on_failure(*objects: Any) -> Iterator[None]:
    """Give objects the attributes that they had, where what is done to them fails or is interrupted.

    What attributes hold is not copied: it must be replaced, never changed in place.
    """
    before = [(each, dict(vars(each))) for each in objects]
    try:
        yield
    except BaseException:
        for each, attributes in before:
            # In one step, so that a second interrupt finds no half of it.
            each.__dict__ = attributes
        raise


def estimators_in(*values: Any) -> list[BaseEstimator]:
    """The estimators among values, and those in their parameters, of any depth."""
    found: list[BaseEstimator] = []
    for value in values:
        if isinstance(value, BaseEstimator) and not isinstance(value, type):
            found += [value, *(part for part in value.get_params().values() if isinstance(part, BaseEstimator))]
    return found
