"""Groups of rows, and checks that splits keep them whole."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skpartial.labels._frames import as_list, is_missing

__all__ = ["check_apart", "check_groups_used", "check_splitter", "group_codes"]


def group_codes(groups: Any) -> NDArray[np.intp]:
    """Number groups of any hashable type in order of occurrence.

    Parameters
    ----------
    groups : array-like of shape (n,)
        The group of each row.

    Returns
    -------
    ndarray of int, shape (n,)
        Number of each row's group.

    Raises
    ------
    ValueError
        If groups is not a vector, or a row has no group.
    """
    if hasattr(groups, "detach"):  # a PyTorch tensor
        groups = groups.detach().cpu().numpy()
    if isinstance(groups, str) or len(getattr(groups, "shape", (0,))) != 1:
        what = repr(groups) if isinstance(groups, str) else f"shape {groups.shape}"
        raise ValueError(f"groups must have shape (n_rows,), one group per row, got {what}.")
    listed = as_list(groups)
    missing = next((row for row, group in enumerate(listed) if is_missing(group)), None)
    if missing is not None:
        raise ValueError(f"groups has no group at row {missing}: give a single row a group of its own.")
    numbers: dict[Any, int] = {}
    try:
        codes = [numbers.setdefault(group, len(numbers)) for group in listed]
    except TypeError:
        raise ValueError("groups must hold hashable values: strings, numbers or tuples.") from None
    return np.array(codes, dtype=np.intp)


def check_groups_used(cv: Any, groups: Any) -> None:
    """Refuse groups if `cv` is a number of folds, because scikit-learn's default folds ignore groups."""
    if groups is not None and (cv is None or isinstance(cv, Real)):
        raise ValueError(
            f"groups are passed, but the folds of cv={cv!r} ignore them: pass a splitter that keeps groups whole, "
            f"cv=PartialLabelGroupKFold({5 if cv is None else cv})."
        )


def check_apart(splits: Iterable[Sequence[Any]], groups: Any, cv: Any) -> None:
    """Refuse splits that have rows of one group on both sides."""
    if groups is None:
        return
    codes = group_codes(groups)
    for train, test in splits:
        both = np.intersect1d(codes[train], codes[test])
        if len(both):
            group = as_list(groups)[int(np.argmax(codes == both[0]))]
            raise ValueError(
                f"cv={cv!r} puts rows of the group {group!r} into both the training and the test part of a split: pass "
                "a splitter that keeps groups whole, such as PartialLabelGroupKFold, or, if groups may be divided, "
                "the splits themselves as cv, without groups."
            )


def check_splitter(cv: Any, X: Any, y: Any, groups: Any) -> None:
    """Refuse groups that `cv` does not keep whole, if other code will draw the splits."""
    check_groups_used(cv, groups)
    if groups is not None and hasattr(cv, "split"):
        # A copy, because drawing splits would advance a RandomState.
        check_apart(copy.deepcopy(cv).split(X, y, groups), groups, cv)
    elif isinstance(cv, list | tuple):
        check_apart(cv, groups, "[...]")
