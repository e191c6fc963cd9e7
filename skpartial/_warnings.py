"""Warnings that point at the line of the user's code that caused them, and that a search gives once."""

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

# Packages between the user's call and the warning.
_PASSED_THROUGH = frozenset({"joblib", "skpartial", "sklearn", "torch"})
# A worker process tells one search from the next only by time: this many seconds without a fit.
_SILENCE = 30.0

# Where a warning comes from in this package.
_Place = tuple[str, int]
_told: WeakKeyDictionary[Parallel, set[_Place]] = WeakKeyDictionary()
_last: dict[_Place, float] = {}


class Search(NamedTuple):
    """A search, or another call that runs many fits for the user.

    Parameters
    ----------
    parallel : joblib.Parallel or None
        Runs the fits, a new one per call of the user; None in a worker process.
    in_fold : bool
        Whether this is one of its fits on a fold, and not the final one on all rows.
    stratified : bool or None
        Whether the folds are stratified by known labels; None if that is unknown.
    """

    parallel: Parallel | None
    in_fold: bool
    stratified: bool | None


def running_search() -> Search | None:
    """The search, or other call with parallel fits, that the current code runs for."""
    parallel, elsewhere, in_fold, stratified = None, False, False, None
    for frame in _frames():
        local = frame.f_locals
        owner = local.get("self")
        elsewhere = elsewhere or isinstance(owner, BatchedCalls)
        # The names of parameters in sklearn.model_selection._validation._fit_and_score and in our folds.
        in_fold = in_fold or ("train" in local and "test" in local)
        # The user called the outermost one.
        parallel = next((value for value in local.values() if isinstance(value, Parallel)), parallel)
        if "cv" in local or hasattr(owner, "cv"):
            cv = local.get("cv", getattr(owner, "cv", None))
            is_shorthand = cv is None or isinstance(cv, int | float)
            stratified = getattr(owner, "_stratifies", False) if is_shorthand else _stratifies(cv)
    return Search(parallel, in_fold, stratified) if elsewhere or parallel is not None else None


def _frames() -> Iterator[FrameType]:
    """The frames from the current one outwards, up to the user's own."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED_THROUGH:
        yield frame
        frame = frame.f_back


def _stratifies(cv: Any) -> bool | None:
    """Whether a splitter stratifies by labels; None for splits that are given as indices."""
    if not hasattr(cv, "split"):
        return None
    return type(cv).__module__.startswith("skpartial.") or "Stratified" in type(cv).__name__


def warn(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Warn from the first frame outside this package and its callers; once per search.

    `category` is ignored for a warning that is passed as an object.
    """
    caller = next(frame for frame in _frames() if frame.f_globals.get("__name__") != __name__)
    place = caller.f_code.co_filename, caller.f_lineno
    search = running_search()
    if search is None or not _was_told(place, search):
        warnings.warn(message, category, stacklevel=len(list(_frames())) + 1)
    # Only now: a filter may have turned the warning into an error.
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
    """Warn that the plain path replaces a fast one; the results are the same."""
    reason = f"{type(why).__name__}: {why}" if isinstance(why, Exception) else str(why)
    warn(f"{what} cannot be used here ({' '.join(reason.split())[:200]}): the fit continues without it, more slowly.")
