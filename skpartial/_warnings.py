"""Warnings that point at the line of the user's code from which they come, however many calls lie between."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn", "warn_slower"]

# What a user's call passes through on its way to a warning.
_PASSED_THROUGH = frozenset({"joblib", "skpartial", "sklearn", "torch"})


def warn(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Warn, with the first frame outside this package and those that call it as the origin.

    A warning that comes as an object is of its own class.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED_THROUGH:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def warn_slower(what: str, why: object) -> None:
    """Warn that a fast path is given up for the plain one, whose results are the same."""
    reason = f"{type(why).__name__}: {why}" if isinstance(why, Exception) else str(why)
    warn(f"{what} cannot be used here ({' '.join(reason.split())[:200]}): the fit goes on without, slower.")
