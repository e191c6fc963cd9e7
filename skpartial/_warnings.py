"""Warnings that point at the line of the user's code from which they come, and that a search gives once."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from joblib import Parallel
from joblib.parallel import BatchedCalls

__all__ = ["Search", "running_search", "warn", "warn_slower"]

# What a user's call passes through on its way to a warning.
_PASSED_THROUGH = frozenset({"joblib", "skpartial", "sklearn", "torch"})
# A process that works for a search elsewhere cannot tell it from the next one but by time: seconds of silence.
_SILENCE = 30.0

# Where a warning comes from in this package.
_Place = tuple[str, int]
_told: WeakKeyDictionary[Parallel, set[_Place]] = WeakKeyDictionary()
_last: dict[_Place, float] = {}


class Search(NamedTuple):
    """What fits many times on behalf of a user's call.

    Parameters
    ----------
    parallel : joblib.Parallel or None
        What runs the fits, one for each call; None in another process.
    in_fold : bool
        Whether this is one of the fits it runs, and not a last one on all rows.
    stratified : bool or None
        Whether its folds regard what is known of the labels; None where that cannot be told.
    """

    parallel: Parallel | None
    in_fold: bool
    stratified: bool | None


def running_search() -> Search | None:
    """The search, or another call with parallel fits, on whose behalf the present code runs."""
    parallel, elsewhere, in_fold, stratified = None, False, False, None
    for frame in _frames():
        local = frame.f_locals
        owner = local.get("self")
        elsewhere = elsewhere or isinstance(owner, BatchedCalls)
        # So the parameters of sklearn.model_selection._validation._fit_and_score are called, and those of our folds.
        in_fold = in_fold or ("train" in local and "test" in local)
        # The outermost is the one that the user called.
        parallel = next((value for value in local.values() if isinstance(value, Parallel)), parallel)
        if "cv" in local or hasattr(owner, "cv"):
            cv = local.get("cv", getattr(owner, "cv", None))
            is_shorthand = cv is None or isinstance(cv, int | float)
            stratified = getattr(owner, "_stratifies", False) if is_shorthand else _stratifies(cv)
    return Search(parallel, in_fold, stratified) if elsewhere or parallel is not None else None


def _frames() -> Iterator[FrameType]:
    """From the present frame outwards, up to the user's own."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED_THROUGH:
        yield frame
        frame = frame.f_back


def _stratifies(cv: Any) -> bool | None:
    """Whether a splitter regards labels; of splits that were made already that cannot be told."""
    if not hasattr(cv, "split"):
        return None
    return type(cv).__module__.startswith("skpartial.") or "Stratified" in type(cv).__name__


def warn(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Warn, with the first frame outside this package and those that call it as the origin; once in a search.

    A warning that comes as an object is of its own class.
    """
    caller = next(frame for frame in _frames() if frame.f_globals.get("__name__") != __name__)
    place = caller.f_code.co_filename, caller.f_lineno
    search = running_search()
    if search is None or not _was_told(place, search):
        warnings.warn(message, category, stacklevel=len(list(_frames())) + 1)
    # Only now: a filter may have made an error of it.
    if search is not None:
        _note(place, search)


def _was_told(place: _Place, search: Search) -> bool:
    if search.parallel is not None:
        return place in _told.get(search.parallel, ())
    return time.monotonic() - _last.get(place, -_SILENCE) < _SILENCE


def _note(place: _Place, search: Search) -> None:
    if search.parallel is not None:
        _told.setdefault(search.parallel, set()).add(place)
    else:
        _last[place] = time.monotonic()


def warn_slower(what: str, why: object) -> None:
    """Warn that a fast path is given up for the plain one, whose results are the same."""
    reason = f"{type(why).__name__}: {why}" if isinstance(why, Exception) else str(why)
    warn(f"{what} cannot be used here ({' '.join(reason.split())[:200]}): the fit goes on without, slower.")
