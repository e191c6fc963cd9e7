"""The pointing game: how often the maximum of a map lies on an object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skpartial._checks import check_choice
from skpartial.labels import LabelMatrix
from skpartial.labels._forms import plain
from skpartial.metrics._ranking import Empty, _mean

__all__ = ["PointingGame", "pointing_game"]


class PointingGame(NamedTuple):
    """What :func:`pointing_game` finds.

    Parameters
    ----------
    mean : float
        Mean of `per_label`, in [0, 1].
    per_label : ndarray of float64, shape (L,)
        Hits over hits and misses of each label; NaN for a label without either.
    hits, misses : ndarray of int64, shape (L,)
        Images with the label whose maximum lies in one of its boxes, and the others.

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial.inspection import pointing_game
    >>> pointing_game(np.eye(2)[None, None], [{0: [[0, 0, 1, 1]]}]).hits
    array([1])
    """

    mean: float
    per_label: NDArray[np.float64]
    hits: NDArray[np.int64]
    misses: NDArray[np.int64]


def _check_boxes(boxes: Any, where: str, height: int, width: int) -> NDArray[np.float64]:
    try:
        found = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.empty(())
    if not found.size and found.ndim:
        return np.empty((0, 4))
    if found.ndim != 2 or found.shape[1] != 4:
        raise ValueError(
            f"{where} must be an array of shape (m, 4), a row (x_min, y_min, x_max, y_max) for each box, got {boxes!r}."
        )
    if not np.isfinite(found).all() or not (found[:, :2] < found[:, 2:]).all():
        raise ValueError(f"{where} holds a box that is empty or not finite: x_min < x_max and y_min < y_max must hold.")
    # Rounding may take a box over the edge; a box further out belongs to an image of another size.
    if found.min() < -1 or (found[:, 2] > width + 1).any() or (found[:, 3] > height + 1).any():
        raise ValueError(
            f"{where} holds a box outside the {width} x {height} pixels (width x height) of the maps: scale boxes to "
            "the maps, or clip them."
        )
    return found


def pointing_game(maps: Any, boxes: Any, y: Any = None, *, empty: Empty = "skip") -> PointingGame:
    r"""How often the highest pixel of a label's map lies on an object of that label.

    For every image i and every label j that is present in it, a hit if the highest pixel of the map lies in any of the
    label's boxes, else a miss:

    .. math::

        \mathrm{acc}_j = \frac{\mathrm{hits}_j}{\mathrm{hits}_j + \mathrm{misses}_j}, \quad
        \mathrm{mean} = \frac{1}{L} \sum_j \mathrm{acc}_j

    Parameters
    ----------
    maps : array-like, shape (n, L, h, w)
        A map for each image and label, such as :func:`class_activation_maps` gives. Of equally high pixels the first
        counts, row by row.
    boxes : sequence of n dicts of int to array-like of shape (m, 4)
        For each image, by position of the label in `maps`, the boxes (x_min, y_min, x_max, y_max) of its objects, in
        pixels of the maps: they begin at the left of pixel x_min and end at the left of pixel x_max, so that
        (0, 0, w, h) is the whole map. A pixel lies in a box if its centre does. A label that is left out, or has no
        box, is not present.
    y : array-like, DataFrame or sparse matrix, shape (n, L), or None, default=None
        Labels: 1 present, -1 absent, 0 unknown. Only boxes of labels that are 1 count; the others are ignored. None
        counts all boxes.
    empty : {"skip", "zero", "nan"}, default="skip"
        What a label without any box contributes to the mean: nothing, 0, or NaN.

    Returns
    -------
    PointingGame
        The mean over labels, and each label's proportion, hits and misses.

    Raises
    ------
    ValueError
        If the shapes do not fit, a box is empty or lies outside the maps, a map that counts is not finite, or `empty`
        is "skip" and no label has a box.

    See Also
    --------
    class_activation_maps : The maps of a classifier.

    Notes
    -----
    The boxes of Pascal VOC count pixels from 1 and include the last one: (x_min - 1, y_min - 1, x_max, y_max) are the
    same boxes here. Boxes in an image of another size than the maps are to be scaled.

    References
    ----------
    .. [1] J. Zhang, S. A. Bargal, Z. Lin, J. Brandt, X. Shen, S. Sclaroff, "Top-Down Neural Attention by Excitation
       Backprop", IJCV 2018 (there with a margin of 15 pixels around boxes; here without).
    .. [2] Y. Kim, J. M. Kim, Z. Akata, J. Lee, "Large Loss Matters in Weakly Supervised Multi-Label Classification",
       CVPR 2022 (table 4).

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial.inspection import pointing_game
    >>> maps = np.zeros((2, 2, 4, 6))
    >>> maps[0, 0, 1, 5] = maps[0, 1, 3, 0] = maps[1, 0, 2, 2] = 1
    >>> boxes = [{0: [[4, 0, 6, 2]], 1: [[1, 2, 3, 4]]}, {0: [[0, 0, 2, 2], [2, 2, 4, 3]]}]
    >>> found = pointing_game(maps, boxes)
    >>> found.mean
    0.5
    >>> found.per_label
    array([1., 0.])
    """
    check_choice(None, "empty", empty, ("skip", "zero", "nan"))
    maps = plain(maps, "maps")
    if maps.ndim != 4 or maps.dtype.kind not in "biuf" or 0 in maps.shape:
        raise ValueError(
            f"maps must be numbers of shape (n, L, h, w), got an array of {maps.dtype} of shape {maps.shape}."
        )
    n_rows, n_labels, height, width = maps.shape
    if isinstance(boxes, Mapping) or not hasattr(boxes, "__len__") or len(boxes) != n_rows:
        raise ValueError(f"boxes must hold a dict for each of the {n_rows} images of maps, in their order.")
    labels = None if y is None else LabelMatrix.encode(y)
    if labels is not None and labels.shape != (n_rows, n_labels):
        raise ValueError(f"y has shape {labels.shape}, but maps are of {n_rows} images and {n_labels} labels.")
    hits, misses = np.zeros(n_labels, dtype=np.int64), np.zeros(n_labels, dtype=np.int64)
    for i, of_image in enumerate(boxes):
        if not isinstance(of_image, Mapping):
            raise ValueError(f"boxes[{i}] must be a dict from labels to boxes, got {of_image!r}.")
        present = None if labels is None else labels.rows(slice(i, i + 1))[0] == 1
        for j, of_label in of_image.items():
            if not isinstance(j, int | np.integer) or isinstance(j, bool) or not 0 <= j < n_labels:
                raise ValueError(
                    f"boxes[{i}] holds the label {j!r}: labels are positions in maps, from 0 to {n_labels - 1}."
                )
            found = _check_boxes(of_label, f"boxes[{i}][{j}]", height, width)
            if not len(found) or (present is not None and not present[j]):
                continue
            one = maps[i, j]
            if not np.isfinite(one).all():
                raise ValueError(f"maps[{i}, {j}] holds values that are not finite.")
            row, column = divmod(int(one.argmax()), width)
            centre = np.array([column + 0.5, row + 0.5])
            hit = ((found[:, :2] <= centre) & (centre < found[:, 2:])).all(1).any()
            (hits if hit else misses)[j] += 1
    counted = hits + misses
    per_label = np.divide(hits, counted, out=np.full(n_labels, np.nan), where=counted > 0)
    return PointingGame(_mean(per_label, empty, "a box in one of the images"), per_label, hits, misses)
