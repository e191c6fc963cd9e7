"""Groups of rows that belong together, and checks that splits keep them so."""

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
    """Groups of any hashable type, numbered in the order in which they occur.

    Parameters
    ----------
    groups : array-like of shape (n,)
        The group of each row.

    Returns
    -------
    ndarray of int, shape (n,)
        Their numbers.

    Raises
    ------
    ValueError
        If groups is no vector, or a row has none.
    """
    if hasattr(groups, "detach"):  # a torch tensor
        groups = groups.detach().cpu().numpy()
    if isinstance(groups, str) or len(getattr(groups, "shape", (0,))) != 1:
        what = repr(groups) if isinstance(groups, str) else f"shape {groups.shape}"
        raise ValueError(f"groups must be of shape (n_rows,), the group of each row; got {what}.")
    listed = as_list(groups)
    missing = next((row for row, group in enumerate(listed) if is_missing(group)), None)
    if missing is not None:
        raise ValueError(f"groups has no group at row {missing}; give a row that belongs to no other one of its own.")
    numbers: dict[Any, int] = {}
    try:
        codes = [numbers.setdefault(group, len(numbers)) for group in listed]
    except TypeError:
        raise ValueError("groups must hold hashable values: strings, numbers or tuples.") from None
    return np.array(codes, dtype=np.intp)


def check_groups_used(cv: Any, groups: Any) -> None:
    """Refuse groups where `cv` only says how many folds: scikit-learn makes those without regard to groups."""
    if groups is not None and (cv is None or isinstance(cv, Real)):
        raise ValueError(
            f"groups are passed, but cv={cv!r} makes folds without regard to them: pass a splitter that keeps groups "
            f"whole, cv=PartialLabelGroupKFold({5 if cv is None else cv})."
        )


def check_apart(splits: Iterable[Sequence[Any]], groups: Any, cv: Any) -> None:
    """Refuse splits with rows of a group on both sides: groups are passed to keep that from happening."""
    if groups is None:
        return
    codes = group_codes(groups)
    for train, test in splits:
        both = np.intersect1d(codes[train], codes[test])
        if len(both):
            group = as_list(groups)[int(np.argmax(codes == both[0]))]
            raise ValueError(
                f"cv={cv!r} puts rows of the group {group!r} into the training and into the test part of a split: pass "
                "a splitter that keeps groups whole, such as PartialLabelGroupKFold, or, where groups may be divided, "
                "the splits themselves as cv, without groups."
            )


def check_splitter(cv: Any, X: Any, y: Any, groups: Any) -> None:
    """Refuse groups that `cv`, which something else will ask for its splits, does not keep whole."""
    check_groups_used(cv, groups)
    if groups is not None and hasattr(cv, "split"):
        # A copy, because a RandomState in it would go on.
        check_apart(copy.deepcopy(cv).split(X, y, groups), groups, cv)
    elif isinstance(cv, list | tuple):
        check_apart(cv, groups, "[...]")
