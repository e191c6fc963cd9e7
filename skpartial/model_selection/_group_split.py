"""Splitters that keep groups of rows whole and spread the known positives and negatives of every label evenly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.model_selection import BaseCrossValidator, BaseShuffleSplit
from sklearn.utils import check_random_state, indexable

from skpartial._checks import check_flag, check_whole
from skpartial._sklearn_compat import validate_shuffle_split
from skpartial.model_selection._groups import group_codes
from skpartial.model_selection._stratification import deal_out, indicators

__all__ = ["PartialLabelGroupKFold", "PartialLabelGroupShuffleSplit"]


def _check(splitter: Any, y: Any, groups: Any) -> None:
    name = type(splitter).__name__
    if y is None:
        raise ValueError(f"{name} splits by the labels: pass y.")
    if groups is None:
        raise ValueError(f"{name} keeps groups of rows together: pass groups, the group of each row.")


def _grouped(y: Any, groups: Any) -> tuple[NDArray[np.intp], sp.csr_array]:
    """The group number of each row, and the counts of every group."""
    codes = group_codes(groups)
    belongs = sp.csr_array((np.ones(len(codes), np.int32), (codes, np.arange(len(codes)))))
    return codes, sp.csr_array(belongs @ indicators(y))


class PartialLabelGroupKFold(BaseCrossValidator):
    r"""K folds of whole groups, each with about equally many known positives and known negatives of every label.

    Rows of one patient, one place or one film resemble each other, so scores are too high if some of them are in the
    training part. Here all rows of a group are in one fold. Groups are assigned one after the other, starting with the
    rarest label and with large groups, each to the fold where it adds least to

    .. math:: \sum_{c} \sum_{f} \Bigl(\frac{n_{cf}}{T_c} - \frac{1}{K}\Bigr)^2

    where f runs over the K folds and c over the known positives of each label, the known negatives of each label, and
    the rows; :math:`n_{cf}` of :math:`T_c` are in fold f. Finally, groups are moved between folds while this improves
    the sum.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shuffle : bool, default=True
        Whether to assign groups in a partly random order. If False, every call gives the same folds.
    random_state : int, RandomState instance or None, default=None
        Seed for the order and for ties, with `shuffle`; an int gives the same folds in every call.

    See Also
    --------
    PartialLabelKFold : For independent rows.
    PartialLabelGroupShuffleSplit : One or several random splits of groups.
    sklearn.model_selection.StratifiedGroupKFold : For classes.

    Notes
    -----
    With metadata routing it requests `groups`, like scikit-learn's `GroupKFold`. 10,000 groups of 80 labels take
    about two seconds.

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial.model_selection import PartialLabelGroupKFold
    >>> patients = np.repeat(["ann", "bob", "cid", "dan", "eve", "fay"], 5)
    >>> Y = np.full((30, 1), -1)
    >>> Y[:15] = 1                                                  # three patients have it, three do not
    >>> for train, test in PartialLabelGroupKFold(3, random_state=0).split(Y, Y, patients):
    ...     print(len(set(patients[test])), (Y[test] == 1).sum(), set(patients[train]) & set(patients[test]))
    2 5 set()
    2 5 set()
    2 5 set()
    """

    # Requested by default, as in scikit-learn's own splitters of groups.
    __metadata_request__split: ClassVar[dict[str, bool]] = {"groups": True}

    n_splits: int
    shuffle: bool
    random_state: Any

    def __init__(self, n_splits: int = 5, *, shuffle: bool = True, random_state: Any = None) -> None:
        self.n_splits = check_whole(self, "n_splits", n_splits, 2)
        check_flag(self, "shuffle", shuffle)
        if not shuffle and random_state is not None:
            raise ValueError("random_state has no effect without shuffle: leave it None, or set shuffle=True.")
        self.shuffle = shuffle
        self.random_state = random_state

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
        groups : array-like of shape (n,)
            The group of each row: numbers, strings or anything hashable.

        Returns
        -------
        iterator of (train, test)
            Row indices, ascending.

        Raises
        ------
        ValueError
            If y is missing or not a label matrix, groups are missing or incomplete, or there are fewer groups than
            folds.
        """
        _check(self, y, groups)
        folds: Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]] = super().split(X, y, groups)
        return folds

    def _iter_test_masks(self, X: Any = None, y: Any = None, groups: Any = None) -> Iterator[NDArray[np.bool_]]:
        codes, counts = _grouped(y, groups)
        if counts.shape[0] < self.n_splits:
            raise ValueError(
                f"Cannot split {counts.shape[0]} groups into n_splits={self.n_splits} folds: every fold needs a group."
            )
        rng = check_random_state(self.random_state if self.shuffle else 0)
        folds = deal_out(counts, np.full(self.n_splits, 1 / self.n_splits), rng, n_required=self.n_splits)[codes]
        for fold in range(self.n_splits):
            yield folds == fold


class PartialLabelGroupShuffleSplit(BaseShuffleSplit):
    """Random splits of whole groups that divide the known positives and negatives of every label proportionally.

    The splits are drawn independently, each by the rule of :class:`PartialLabelGroupKFold`. For a single split into a
    training and a test part, take the first one:
    ``train, test = next(PartialLabelGroupShuffleSplit(test_size=0.2, random_state=0).split(X, Y, groups))``.

    Parameters
    ----------
    n_splits : int, default=5
        Number of splits.
    test_size : float, int or None, default=None
        Proportion of groups, in (0, 1), or number of groups in the test part, as in scikit-learn's `GroupShuffleSplit`.
        The known labels and the rows are divided in this proportion, so the number of groups may differ. None is the
        rest of `train_size`, or 0.2.
    train_size : float, int or None, default=None
        The same for the training part. None is the rest; groups in neither part are left out.
    random_state : int, RandomState instance or None, default=None
        Seed; an int gives the same splits in every call.

    See Also
    --------
    PartialLabelShuffleSplit : For independent rows.
    PartialLabelGroupKFold : Folds that hold every group once.
    sklearn.model_selection.GroupShuffleSplit : Without regard to labels.

    Notes
    -----
    With metadata routing it requests `groups`, like scikit-learn's `GroupShuffleSplit`.

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial.model_selection import PartialLabelGroupShuffleSplit
    >>> patients = np.repeat(np.arange(10), 4)
    >>> Y = np.where(patients < 5, 1, -1)[:, None]
    >>> splitter = PartialLabelGroupShuffleSplit(test_size=0.4, random_state=0)
    >>> train, test = next(splitter.split(Y, Y, patients))
    >>> len(train), len(test), int((Y[test] == 1).sum()), int((Y[test] == -1).sum())
    (24, 16, 8, 8)
    """

    __metadata_request__split: ClassVar[dict[str, bool]] = {"groups": True}

    n_splits: int
    test_size: float | int | None
    train_size: float | int | None
    random_state: Any

    def __init__(
        self,
        n_splits: int = 5,
        *,
        test_size: float | int | None = None,
        train_size: float | int | None = None,
        random_state: Any = None,
    ) -> None:
        n_splits = check_whole(self, "n_splits", n_splits, 1)
        super().__init__(n_splits=n_splits, test_size=test_size, train_size=train_size, random_state=random_state)
        self._default_test_size = 0.2

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Rows of the training and test part of every split.

        Parameters
        ----------
        X : indexable of length n
            Features; only their number is used.
        y : array-like, DataFrame or sparse matrix, shape (n, L) or (n,)
            Labels in {-1, 0, 1}; 1-D y holds classes.
        groups : array-like of shape (n,)
            The group of each row: numbers, strings or anything hashable.

        Returns
        -------
        iterator of (train, test)
            Row indices, ascending.

        Raises
        ------
        ValueError
            If y is missing or not a label matrix, groups are missing or incomplete, or the sizes do not fit the number
            of groups.
        """
        _check(self, y, groups)
        splits: Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]] = super().split(X, y, groups)
        return splits

    def _iter_indices(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        X, y, groups = indexable(X, y, groups)
        codes, counts = _grouped(y, groups)
        n_groups = counts.shape[0]
        n_train, n_test = validate_shuffle_split(
            n_groups, self.test_size, self.train_size, default_test_size=self._default_test_size
        )
        rng = check_random_state(self.random_state)
        sizes = np.array([n_train, n_test, n_groups - n_train - n_test]) / n_groups
        for _ in range(self.n_splits):
            parts = deal_out(counts, sizes[sizes > 0], rng, n_required=2)[codes]
            yield np.flatnonzero(parts == 0), np.flatnonzero(parts == 1)
