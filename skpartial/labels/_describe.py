"""Description of a label matrix: what is known, and what can be learned from it."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skpartial.labels._forms import check_same_names
from skpartial.labels._matrix import LabelMatrix

__all__ = ["LabelDescription", "describe"]

# Number of labels listed in the repr, and named in a sentence.
_MAX_LISTED = 20
_MAX_NAMED = 5
_WIDTH = 100


@dataclass(frozen=True, repr=False, eq=False)
class LabelDescription:
    """Counts of known labels in a label matrix. Returned by :func:`describe`; its repr is the report.

    Attributes
    ----------
    n_rows, n_labels : int
        Shape of the label matrix.
    label_names : list of str or None
        The names of the labels, if Y has any.
    present_per_label, absent_per_label : ndarray of int64, shape (L,)
        Number of rows in which each label is known to be positive, and to be negative.
    present_per_row, absent_per_row : ndarray of int64, shape (n,)
        Number of labels known to be positive, and to be negative, in each row.
    """

    n_rows: int
    n_labels: int
    label_names: list[str] | None
    present_per_label: NDArray[np.int64]
    absent_per_label: NDArray[np.int64]
    present_per_row: NDArray[np.int64]
    absent_per_row: NDArray[np.int64]

    @property
    def n_present(self) -> int:
        """Number of known positives."""
        return int(self.present_per_label.sum())

    @property
    def n_absent(self) -> int:
        """Number of known negatives."""
        return int(self.absent_per_label.sum())

    @property
    def n_known(self) -> int:
        """Number of known entries."""
        return self.n_present + self.n_absent

    @property
    def n_unknown(self) -> int:
        """Number of unknown entries."""
        return self.n_rows * self.n_labels - self.n_known

    @property
    def known_per_label(self) -> NDArray[np.int64]:
        """Number of rows in which each label is known, shape (L,)."""
        return self.present_per_label + self.absent_per_label

    @property
    def unknown_per_label(self) -> NDArray[np.int64]:
        """Number of rows in which each label is unknown, shape (L,)."""
        return self.n_rows - self.known_per_label

    @property
    def known_per_row(self) -> NDArray[np.int64]:
        """Number of known labels in each row, shape (n,)."""
        return self.present_per_row + self.absent_per_row

    @property
    def proportion_known(self) -> float:
        """Proportion of all entries that are known, in [0, 1]."""
        return self.n_known / (self.n_rows * self.n_labels)

    @property
    def proportion_known_per_label(self) -> NDArray[np.float64]:
        """Proportion of the rows in which each label is known, shape (L,)."""
        return self.known_per_label / self.n_rows

    @property
    def proportion_known_per_row(self) -> NDArray[np.float64]:
        """Proportion of the labels that are known in each row, shape (n,)."""
        return self.known_per_row / self.n_labels

    @property
    def rows_without_known(self) -> NDArray[np.intp]:
        """Positions of the rows without any known label."""
        return np.flatnonzero(self.known_per_row == 0)

    @property
    def labels_without_known(self) -> NDArray[np.intp]:
        """Positions of the labels that are known in no row."""
        return np.flatnonzero(self.known_per_label == 0)

    @property
    def labels_only_present(self) -> NDArray[np.intp]:
        """Positions of the labels with known positives and no known negatives."""
        return np.flatnonzero((self.present_per_label > 0) & (self.absent_per_label == 0))

    @property
    def labels_only_absent(self) -> NDArray[np.intp]:
        """Positions of the labels with known negatives and no known positives."""
        return np.flatnonzero((self.absent_per_label > 0) & (self.present_per_label == 0))

    @property
    def is_complete(self) -> bool:
        """Whether every entry is known."""
        return self.n_unknown == 0

    @property
    def is_positive_only(self) -> bool:
        """Whether there are known positives, no known negatives, and some unknown entries."""
        return self.n_present > 0 and self.n_absent == 0 and not self.is_complete

    def _named(self, labels: NDArray[np.intp]) -> str:
        named = [str(j) if self.label_names is None else repr(self.label_names[j]) for j in labels[:_MAX_NAMED]]
        more = f" and {len(labels) - _MAX_NAMED} more" if len(labels) > _MAX_NAMED else ""
        return f"{'Label' if len(labels) == 1 else 'Each of the labels'} {', '.join(named)}{more}"

    @property
    def notes(self) -> list[str]:
        """Remarks on what the known labels allow, one or two sentences each."""
        notes = []
        if self.n_known == 0:
            return ["No label is known: there is nothing to learn from."]
        if self.is_complete:
            notes.append(
                f"Every entry is known ({self.present_per_row.mean():.2f} present per row on average): plain binary "
                "cross-entropy applies, loss='bce'."
            )
        elif self.is_positive_only:
            per_row = "One label per row is" if (self.present_per_row == 1).all() else "Some labels are"
            notes.append(
                f"{per_row} known to be present, none to be absent (positive-only labels). Use "
                "SinglePositiveClassifier: a loss that ignores unknown entries learns that everything is present. "
                "Score with unknown='absent'."
            )
            notes.append(
                "If 0 means absent in these labels, they are complete: "
                "convert them with skpartial.labels.recode(Y, present=1, absent=0)."
            )
        elif self.n_present == 0:
            notes.append("No label is known to be present in any row: no classifier can be learned.")
        else:
            notes.append(
                "Presences and absences are known: losses that ignore unknown entries apply ('partial_bce', 'iu'), and "
                "so do all others but 'bce'. Score over the known entries, unknown='ignore'."
            )
        partly = self.unknown_per_label > 0
        nothing, present, absent = self.labels_without_known, self.labels_only_present, self.labels_only_absent
        constant = np.flatnonzero(~partly & ((self.present_per_label == 0) | (self.absent_per_label == 0)))
        present, absent = present[partly[present]], absent[partly[absent]]
        if len(nothing):
            notes.append(f"{self._named(nothing)} cannot be learned or scored: no row says anything about it.")
        if len(present) and self.n_absent:
            notes.append(
                f"{self._named(present)} can only be learned where unknown entries are assumed absent: no row is known "
                "without it."
            )
        if len(absent) and self.n_present:
            notes.append(f"{self._named(absent)} cannot be learned: no row is known to have it.")
        if len(constant):
            notes.append(f"{self._named(constant)} cannot be learned: it is the same in all rows.")
        empty = len(self.rows_without_known)
        if empty:
            notes.append(
                f"{empty:,} {'row has' if empty == 1 else 'rows have'} no known label: without effect if the loss "
                "ignores unknown entries, all negative if it treats them as negative."
            )
            notes.append(
                "Rows without a known label can take part in training by a relabelling (LabelSpreading, Propagation, "
                "ClassDistribution); PartialLabelKFold(unlabelled='train') keeps them out of test folds."
            )
        if self.n_labels > 1 and self.present_per_row.max() <= 1:
            notes.append("No two labels are known to be present in one row: there is no co-occurrence to learn from.")
        return notes

    def __repr__(self) -> str:
        entries = self.n_rows * self.n_labels
        per_row, per_label = self.known_per_row, self.known_per_label
        lines = [
            f"{self.n_rows:,} rows, {self.n_labels:,} labels; {self.proportion_known:.1%} of {entries:,} entries known",
            f"  present {self.n_present:,}, absent {self.n_absent:,}, unknown {self.n_unknown:,}",
            f"  known labels per row: {per_row.min()} to {per_row.max()}, {per_row.mean():.2f} on average "
            f"({self.present_per_row.mean():.2f} present, {self.absent_per_row.mean():.2f} absent)",
            f"  known rows per label: {per_label.min():,} to {per_label.max():,}, {per_label.mean():,.2f} on average",
            "",
        ]
        shown = min(self.n_labels, _MAX_LISTED)
        names = [str(j) if self.label_names is None else self.label_names[j] for j in range(shown)]
        width = max(len("label"), *(len(name) for name in names))
        lines.append(f"  {'label':<{width}} {'present':>10} {'absent':>10} {'unknown':>10} {'known':>7}")
        unknown, proportion = self.unknown_per_label, self.proportion_known_per_label
        for j, name in enumerate(names):
            lines.append(
                f"  {name:<{width}} {self.present_per_label[j]:>10,} {self.absent_per_label[j]:>10,} "
                f"{unknown[j]:>10,} {proportion[j]:>7.1%}"
            )
        if shown < self.n_labels:
            lines.append(f"  ... and {self.n_labels - shown:,} more labels")
        lines.append("")
        lines.extend(
            fill(note, _WIDTH, initial_indent="- ", subsequent_indent="  ", break_long_words=False)
            for note in self.notes
        )
        return "\n".join(lines)


def describe(Y: Any, label_names: Any = None) -> LabelDescription:
    """Describe a label matrix: the known entries per label and per row, and what can be learned from them.

    Parameters
    ----------
    Y : array-like, DataFrame or sparse matrix, shape (n, L)
        Labels: 1 present, -1 absent, 0 unknown.
    label_names : array-like of str, shape (L,), or None, default=None
        Names of the labels; None takes the columns of a DataFrame, else positions.

    Returns
    -------
    LabelDescription
        Print it for a report; its attributes hold the numbers.

    Raises
    ------
    ValueError
        If Y is not a label matrix, the number of names is wrong, or the names are those of Y in another order.

    Examples
    --------
    >>> from skpartial.labels import describe
    >>> description = describe([[1, 0, -1], [0, 0, 1], [1, 0, 0]])
    >>> description
    3 rows, 3 labels; 44.4% of 9 entries known
      present 3, absent 1, unknown 5
      known labels per row: 1 to 2, 1.33 on average (1.00 present, 0.33 absent)
      known rows per label: 0 to 2, 1.33 on average
    <BLANKLINE>
      label    present     absent    unknown   known
      0              2          0          1   66.7%
      1              0          0          3    0.0%
      2              1          1          1   66.7%
    <BLANKLINE>
    - Presences and absences are known: losses that ignore unknown entries apply ('partial_bce', 'iu'), and so do all
    others but 'bce'. Score over the known entries, unknown='ignore'.
    - Label 1 cannot be learned or scored: no row says anything about it.
    - Label 0 can only be learned where unknown entries are assumed absent: no row is known without it.
    - No two labels are known to be present in one row: there is no co-occurrence to learn from.
    >>> description.labels_without_known
    array([1])
    """
    matrix = LabelMatrix.encode(Y, name="Y")
    names = matrix.names if label_names is None else label_names
    if names is not None and len(names) != matrix.n_labels:
        raise ValueError(f"label_names holds {len(names)} names, but Y has {matrix.n_labels} labels.")
    if matrix.names is not None and names is not None and set(names) == set(matrix.names):
        check_same_names(matrix.names, names, "label_names", "Y", "pass list(Y.columns), or None")
    return LabelDescription(
        n_rows=matrix.n_rows,
        n_labels=matrix.n_labels,
        label_names=None if names is None else [str(name) for name in names],
        present_per_label=matrix.count(1, axis=0),
        absent_per_label=matrix.count(-1, axis=0),
        present_per_row=matrix.count(1, axis=1),
        absent_per_row=matrix.count(-1, axis=1),
    )
