"""Splitters that spread the known positives and negatives of every label evenly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import BaseCrossValidator, BaseShuffleSplit, StratifiedKFold, StratifiedShuffleSplit
from sklearn.utils import check_random_state

from skpartial._checks import check_choice, check_flag, check_whole
from skpartial._sklearn_compat import num_samples, validate_shuffle_split
from skpartial.labels import LabelMatrix
from skpartial.labels._forms import plain
from skpartial.model_selection._folds import is_one_dimensional
from skpartial.model_selection._stratification import deal_out, indicators

__all__ = ["PartialLabelKFold", "PartialLabelShuffleSplit"]


def _check(splitter: Any, y: Any, groups: Any) -> None:
    name = type(splitter).__name__
    if y is None:
        raise ValueError(f"{name} splits by the labels: pass y.")
    if groups is not None:
        raise ValueError(
            f"{name} does not use groups and would put rows of one group on both sides of a split: use "
            f"{name.replace('PartialLabel', 'PartialLabelGroup')}, or leave groups out."
        )


def _check_unlabelled(splitter: Any, value: Any) -> Any:
    check_choice(splitter, "unlabelled", value, ("split", "train"))
    return value


def _labelled_rows(y: Any, n_rows: int, unlabelled: str) -> NDArray[np.intp]:
    """Rows to assign: all rows, or those with a known label."""
    if unlabelled == "split" or is_one_dimensional(y):
        return np.arange(n_rows)
    rows = np.flatnonzero(LabelMatrix.encode(y, name="y").count(axis=1) > 0)
    if not len(rows):
        raise ValueError("y has no known label in any row, so there is nothing to split by.")
    return rows


class PartialLabelKFold(BaseCrossValidator):
    r"""K folds, each with about equally many known positives and known negatives of every label.

    A fold can only train or test a label by its known entries. If few labels are known, purely random folds often
    leave a label without any known positive. Here rows are assigned one after the other, starting with the rarest label
    as in iterative stratification [1]_, each to the fold where it adds least to

    .. math:: \sum_{c} \sum_{f} \Bigl(\frac{n_{cf}}{T_c} - \frac{1}{K}\Bigr)^2

    where f runs over the K folds and c over the known positives of each label, the known negatives of each label, and
    the rows; :math:`n_{cf}` of :math:`T_c` are in fold f. Finally, rows are moved between folds while this improves the
    sum. Labels with fewer known entries than folds are spread as widely as possible.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shuffle : bool, default=True
        Whether to assign rows in random order. If False, every call gives the same folds.
    random_state : int, RandomState instance or None, default=None
        Seed for the order and for ties, with `shuffle`; an int gives the same folds in every call.
    unlabelled : {"split", "train"}, default="split"
        Treatment of rows without any known label: "split" assigns them like all others; "train" puts them into every
        training part, for relabellings that learn from them. In a test part they can only be scored if unknown counts
        as negative.

    See Also
    --------
    PartialLabelGroupKFold : For rows in groups that must stay whole.
    PartialLabelShuffleSplit : One or several random splits.
    sklearn.model_selection.StratifiedKFold : For classes; used here for 1-D y.

    Notes
    -----
    Fold sizes differ slightly. Time and memory grow with the number of known entries; a sparse y stays sparse.

    References
    ----------
    .. [1] K. Sechidis, G. Tsoumakas, I. Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial.model_selection import PartialLabelKFold
    >>> Y = np.zeros((40, 2), dtype=int)
    >>> Y[:4, 0], Y[4:8, 0], Y[8:12, 1], Y[12:, 1] = 1, -1, 1, -1
    >>> for train, test in PartialLabelKFold(n_splits=4, random_state=0).split(Y, Y):
    ...     print((Y[test] == 1).sum(axis=0), (Y[test] == -1).sum(axis=0))
    [1 1] [1 7]
    [1 1] [1 7]
    [1 1] [1 7]
    [1 1] [1 7]
    """

    n_splits: int
    shuffle: bool
    random_state: Any
    unlabelled: str

    def __init__(
        self,
        n_splits: int = 5,
        *,
        shuffle: bool = True,
        random_state: Any = None,
        unlabelled: Literal["split", "train"] = "split",
    ) -> None:
        self.n_splits = check_whole(self, "n_splits", n_splits, 2)
        check_flag(self, "shuffle", shuffle)
        if not shuffle and random_state is not None:
            raise ValueError("random_state has no effect without shuffle: leave it None, or set shuffle=True.")
        self.shuffle = shuffle
        self.random_state = random_state
        self.unlabelled = _check_unlabelled(self, unlabelled)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Number of folds.

        Parameters
        ----------
        X, y, groups : object, default=None
            Not used; there for compatibility.

        Returns
        -------
        int
            `n_splits`.
        """
        return self.n_splits

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Rows of the training and test part of every fold.

        Parameters
        ----------
        X : indexable of length n
            Features; only their number is used.
        y : array-like, DataFrame or sparse matrix, shape (n, L) or (n,)
            Labels in {-1, 0, 1}; 1-D y holds classes.
        groups : None
            Refused, because it would be of no effect: :class:`PartialLabelGroupKFold` keeps groups whole.

        Returns
        -------
        iterator of (train, test)
            Row indices, ascending.

        Raises
        ------
        ValueError
            If y is missing or not a label matrix, groups are passed, or there are fewer rows than folds.
        """
        _check(self, y, groups)
        splits: Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]] = super().split(X, y)
        return splits

    def _iter_test_masks(self, X: Any = None, y: Any = None, groups: Any = None) -> Iterator[NDArray[np.bool_]]:
        n_rows = num_samples(X)
        if is_one_dimensional(y):
            by_class = StratifiedKFold(self.n_splits, shuffle=self.shuffle, random_state=self.random_state)
            for _, test in by_class.split(np.empty((n_rows, 0)), plain(y, "y")):
                mask = np.zeros(n_rows, dtype=bool)
                mask[test] = True
                yield mask
            return
        rows = _labelled_rows(y, n_rows, self.unlabelled)
        if len(rows) < self.n_splits:
            raise ValueError(
                f"Cannot split {len(rows)} rows into n_splits={self.n_splits} folds: every fold needs a row."
            )
        # Ties are always broken at random; without shuffle, with a fixed seed.
        rng = check_random_state(self.random_state if self.shuffle else 0)
        folds = np.full(n_rows, -1)
        shares = np.full(self.n_splits, 1 / self.n_splits)
        folds[rows] = deal_out(indicators(y)[rows], shares, rng, n_required=self.n_splits)
        for fold in range(self.n_splits):
            yield folds == fold


class PartialLabelShuffleSplit(BaseShuffleSplit):
    """Random splits that divide the known positives and negatives of every label proportionally.

    The splits are drawn independently, each by the rule of :class:`PartialLabelKFold`. For a single split into a
    training and a test part, take the first one:
    ``train, test = next(PartialLabelShuffleSplit(test_size=0.2, random_state=0).split(X, Y))``.

    Parameters
    ----------
    n_splits : int, default=10
        Number of splits.
    test_size : float, int or None, default=None
        Proportion of rows, in (0, 1), or number of rows in the test part. None is the rest of `train_size`, or 0.1.
    train_size : float, int or None, default=None
        The same for the training part. None is the rest; rows in neither part are left out.
    random_state : int, RandomState instance or None, default=None
        Seed; an int gives the same splits in every call.
    unlabelled : {"split", "train"}, default="split"
        Treatment of rows without any known label: "split" assigns them like all others; "train" puts them into the
        training part, for relabellings that learn from them, and sizes then count only the other rows. In a test part
        they can only be scored if unknown counts as negative.

    See Also
    --------
    PartialLabelGroupShuffleSplit : For rows in groups that must stay whole.
    PartialLabelKFold : Folds that hold every row once.
    sklearn.model_selection.StratifiedShuffleSplit : For classes; used here for 1-D y.

    Notes
    -----
    Part sizes may differ from the requested ones by a few rows: a proportional division of the labels takes precedence.

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial.model_selection import PartialLabelShuffleSplit
    >>> Y = np.zeros((40, 1), dtype=int)
    >>> Y[:4], Y[4:20] = 1, -1
    >>> train, test = next(PartialLabelShuffleSplit(test_size=0.25, random_state=0).split(Y, Y))
    >>> len(train), len(test), int((Y[test] == 1).sum()), int((Y[test] == -1).sum())
    (30, 10, 1, 4)
    """

    n_splits: int
    test_size: float | int | None
    train_size: float | int | None
    random_state: Any
    unlabelled: str

    def __init__(
        self,
        n_splits: int = 10,
        *,
        test_size: float | int | None = None,
        train_size: float | int | None = None,
        random_state: Any = None,
        unlabelled: Literal["split", "train"] = "split",
    ) -> None:
        n_splits = check_whole(self, "n_splits", n_splits, 1)
        super().__init__(n_splits=n_splits, test_size=test_size, train_size=train_size, random_state=random_state)
        self.unlabelled = _check_unlabelled(self, unlabelled)

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Rows of the training and test part of every split.

        Parameters
        ----------
        X : indexable of length n
            Features; only their number is used.
        y : array-like, DataFrame or sparse matrix, shape (n, L) or (n,)
            Labels in {-1, 0, 1}; 1-D y holds classes.
        groups : None
            Refused, because it would be of no effect: :class:`PartialLabelGroupShuffleSplit` keeps groups whole.

        Returns
        -------
        iterator of (train, test)
            Row indices; ascending for a label matrix.

        Raises
        ------
        ValueError
            If y is missing or not a label matrix, groups are passed, or the sizes do not fit the number of rows.
        """
        _check(self, y, groups)
        splits: Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]] = super().split(X, y)
        return splits

    def _iter_indices(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        n_rows = num_samples(X)
        if is_one_dimensional(y):
            by_class = StratifiedShuffleSplit(
                self.n_splits, test_size=self.test_size, train_size=self.train_size, random_state=self.random_state
            )
            yield from by_class.split(np.empty((n_rows, 0)), plain(y, "y"))
            return
        rows = _labelled_rows(y, n_rows, self.unlabelled)
        n_train, n_test = validate_shuffle_split(
            len(rows), self.test_size, self.train_size, default_test_size=self._default_test_size
        )
        counts = indicators(y)[rows]
        rng = check_random_state(self.random_state)
        sizes = np.array([n_train, n_test, len(rows) - n_train - n_test]) / len(rows)
        for _ in range(self.n_splits):
            parts = np.zeros(n_rows, dtype=np.int64)
            parts[rows] = deal_out(counts, sizes[sizes > 0], rng, n_required=2)
            yield np.flatnonzero(parts == 0), np.flatnonzero(parts == 1)
