"""The pointing game: the proportion of maps whose maximum is on an object."""

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
    """Result of :func:`pointing_game`.

    Parameters
    ----------
    mean : float
        Mean of `per_label`, in [0, 1].
    per_label : ndarray of float64, shape (L,)
        Proportion of hits among hits and misses of each label; NaN for a label without either.
    hits, misses : ndarray of int64, shape (L,)
        Numbers of images with the label whose maximum is in one of its boxes (hits), or outside (misses).

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
            f"{where} must be an array of shape (m, 4), one row (x_min, y_min, x_max, y_max) per box, got {boxes!r}."
        )
    if not np.isfinite(found).all() or not (found[:, :2] < found[:, 2:]).all():
        raise ValueError(f"{where} holds a box that is empty or not finite: x_min < x_max and y_min < y_max must hold.")
    # Rounding may move a box over the edge; a box further out belongs to an image of a different size.
    if found.min() < -1 or (found[:, 2] > width + 1).any() or (found[:, 3] > height + 1).any():
        raise ValueError(
            f"{where} holds a box outside the {width} x {height} pixels (width x height) of the maps: scale boxes to "
            "the maps, or clip them."
        )
    return found


def pointing_game(maps: Any, boxes: Any, y: Any = None, *, empty: Empty = "skip") -> PointingGame:
    r"""Proportion of maps whose highest pixel is on an object of the label.

    For every image i and every label j that is present in it, the map is a hit if its highest pixel is in any box of
    the label, else a miss:

    .. math::

        \mathrm{acc}_j = \frac{\mathrm{hits}_j}{\mathrm{hits}_j + \mathrm{misses}_j}, \quad
        \mathrm{mean} = \frac{1}{L} \sum_j \mathrm{acc}_j

    Parameters
    ----------
    maps : array-like, shape (n, L, h, w)
        One map per image and label, as from :func:`class_activation_maps`. Among equally high pixels the first one
        counts, row by row.
    boxes : sequence of n dicts of int to array-like of shape (m, 4)
        For each image, the boxes (x_min, y_min, x_max, y_max) of its objects by position of the label in `maps`. Boxes
        are in pixels of the maps: they extend from the left edge of pixel x_min to the left edge of pixel x_max, so
        (0, 0, w, h) is the whole map. A pixel is in a box if its centre is. A label that is left out, or has no box, is
        not present.
    y : array-like, DataFrame or sparse matrix, shape (n, L), or None, default=None
        Labels: 1 present, -1 absent, 0 unknown. Only boxes of labels with 1 count. None counts all boxes.
    empty : {"skip", "zero", "nan"}, default="skip"
        How a label without boxes counts in the mean: not at all, as 0, or as NaN.

    Returns
    -------
    PointingGame
        The mean over labels, and the proportion, hits and misses of each label.

    Raises
    ------
    ValueError
        If the shapes do not match, a box is empty or outside the maps, a map that counts is not finite, or `empty`
        is "skip" and no label has a box.

    See Also
    --------
    class_activation_maps : The maps of a classifier.

    Notes
    -----
    Boxes of Pascal VOC count pixels from 1 and include the last pixel: here they are (x_min - 1, y_min - 1, x_max,
    y_max). If the image and the maps differ in size, scale the boxes to the maps.

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
            f"maps must be numbers of shape (n, L, h, w), got an array of {maps.dtype} with shape {maps.shape}."
        )
    n_rows, n_labels, height, width = maps.shape
    if isinstance(boxes, Mapping) or not hasattr(boxes, "__len__") or len(boxes) != n_rows:
        raise ValueError(f"boxes must hold one dict per image of maps, {n_rows} in total, in the same order.")
    labels = None if y is None else LabelMatrix.encode(y)
    if labels is not None and labels.shape != (n_rows, n_labels):
        raise ValueError(f"y has shape {labels.shape}, but maps has {n_rows} images and {n_labels} labels.")
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
