"""A label matrix as a picture."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from skpartial._checks import check_whole
from skpartial.inspection._plotting import ABSENT, PRESENT, UNKNOWN, pyplot, single_axes
from skpartial.labels import LabelMatrix
from skpartial.labels._forms import names_or_positions

__all__ = ["LabelMatrixDisplay"]

# More names than this are not readable along an axis.
_MAX_NAMES = 60


class LabelMatrixDisplay:
    """Picture of a label matrix: rows down, labels across; present, absent or unknown.

    Make one with :meth:`from_labels`.

    Parameters
    ----------
    values : ndarray of int8, shape (m, L)
        The rows drawn: 1 present, -1 absent, 0 unknown.
    rows : ndarray of int64, shape (m,)
        Indices of these rows in the whole matrix.
    proportion_known : ndarray of float64, shape (L,)
        Proportion of all rows in which each label is known.
    label_names : list of str
        Names of the labels.

    Attributes
    ----------
    image_ : matplotlib AxesImage
        The matrix.
    ax_, figure_ : matplotlib Axes and Figure
        The axes and the figure.

    See Also
    --------
    skpartial.labels.describe : The same as numbers and sentences.

    Examples
    --------
    >>> from skpartial.inspection import LabelMatrixDisplay
    >>> display = LabelMatrixDisplay.from_labels([[1, 0, -1], [0, 0, 1]])
    >>> display.proportion_known
    array([0.5, 0. , 1. ])
    """

    def __init__(
        self,
        values: NDArray[np.int8],
        *,
        rows: NDArray[np.int64],
        proportion_known: NDArray[np.float64],
        label_names: list[str],
    ) -> None:
        self.values, self.rows = values, rows
        self.proportion_known, self.label_names = proportion_known, label_names

    @classmethod
    def from_labels(cls, y: Any, *, label_names: Any = None, max_rows: int = 500, ax: Any = None) -> Self:
        """Draw a label matrix.

        Parameters
        ----------
        y : array-like, DataFrame or sparse matrix, shape (n, L)
            Labels: 1 present, -1 absent, 0 unknown.
        label_names : sequence of str or None, default=None
            Names of the labels; None takes the columns of a DataFrame, else positions.
        max_rows : int, default=500
            Largest number of rows to draw; of more rows, evenly spaced ones from the first to the last.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        LabelMatrixDisplay
            The display.

        Raises
        ------
        ValueError
            If `y` is not a label matrix, or the number of names is wrong.
        """
        labels = LabelMatrix.encode(y)
        names = names_or_positions(labels.names if label_names is None else label_names, labels.n_labels, "y")
        n_drawn = min(labels.n_rows, check_whole(None, "max_rows", max_rows, 1))
        rows = np.linspace(0, labels.n_rows - 1, n_drawn).round().astype(np.int64)
        values = np.concatenate([labels.rows(slice(int(row), int(row) + 1)) for row in rows])
        display = cls(values, rows=rows, proportion_known=labels.proportion_known(axis=0), label_names=names)
        return display.plot(ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        self
            With `ax_`, `figure_` and `image_`.
        """
        pyplot(self)
        from matplotlib.colors import ListedColormap
        from matplotlib.patches import Patch

        self.figure_, self.ax_ = single_axes(self, ax)
        colours = ListedColormap([ABSENT, UNKNOWN, PRESENT])
        self.image_ = self.ax_.imshow(
            self.values, cmap=colours, vmin=-1.5, vmax=1.5, aspect="auto", interpolation="nearest"
        )
        if len(self.label_names) <= _MAX_NAMES:
            names = [f"{name} ({share:.0%})" for name, share in zip(self.label_names, self.proportion_known)]
            self.ax_.set_xticks(range(len(names)), names, rotation=90)
            self.ax_.set_xlabel("label (known)")
        else:
            self.ax_.set_xlabel("label")
        row_of = self.rows
        self.ax_.yaxis.set_major_formatter(
            lambda place, _: str(row_of[round(place)]) if 0 <= round(place) < len(row_of) else ""
        )
        self.ax_.set_ylabel("row")
        kinds = ((PRESENT, "present", 1), (ABSENT, "absent", -1), (UNKNOWN, "unknown", 0))
        handles = [Patch(color=colour, label=name) for colour, name, value in kinds if (self.values == value).any()]
        self.ax_.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
        return self
