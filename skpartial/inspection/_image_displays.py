"""Photographs with activation maps, or with labels that training recovered or corrected."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skpartial._checks import check_whole
from skpartial.images._sources import as_source
from skpartial.inspection._activation_maps import class_activation_maps
from skpartial.inspection._plotting import axes_grid, chosen_labels
from skpartial.labels import LabelMatrix

__all__ = ["ActivationMapDisplay", "RecoveredLabelsDisplay"]

_RIGHT, _WRONG = "tab:green", "tab:red"


def _photographs(X: Any, rows: NDArray[np.int64], size: tuple[int, int], channels: int = 3) -> list[NDArray[Any]]:
    """Some images for matplotlib, (height, width, 3), or (height, width) for other numbers of channels."""
    source = as_source(X, size, channels)
    found = []
    for row in rows:
        image = source.read(int(row)).numpy()
        found.append(np.moveaxis(image, 0, -1) if len(image) == 3 else image.mean(axis=0))
    return found


def _size_of(estimator: Any, X: Any) -> tuple[int, int]:
    """The size of drawn images: that of the network's input, or their own if X is an array."""
    network = getattr(estimator, "network_", None)
    if network is not None:
        return int(network.image_size[0]), int(network.image_size[1])
    shape: tuple[int, ...] = np.shape(X) if hasattr(X, "shape") else ()
    if len(shape) in (3, 4):
        channels_first = len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3)
        first = 2 if channels_first else 1
        return shape[first], shape[first + 1]
    return 224, 224


class ActivationMapDisplay:
    """Class activation maps over photographs: the regions in which a label scores high.

    Make one with :meth:`from_estimator`.

    Parameters
    ----------
    images : list of ndarray, shape (height, width, 3) or (height, width)
        The photographs.
    maps : ndarray of float32, shape (n, m, height, width)
        The m maps of each photograph.
    labels : ndarray of int64, shape (n, m)
        Labels of the maps.
    logits : ndarray, shape (n, m)
        Logits of these labels.
    label_names : list of str
        Names of all labels.

    Attributes
    ----------
    photograph_images_, map_images_ : ndarray of matplotlib AxesImage, shape (n, m)
        The images drawn in each panel.
    ax_ : ndarray of matplotlib Axes, shape (n * m,)
        The panels, one row per photograph.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    class_activation_maps : The maps as an array.

    Examples
    --------
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.datasets import make_digit_scenes
    >>> from skpartial.images import Backbone
    >>> from skpartial.inspection import ActivationMapDisplay
    >>> scenes = make_digit_scenes(30, random_state=0)
    >>> backbone = Backbone("resnet18", weights=None, finetune="head", image_size=64)
    >>> clf = PartialLabelClassifier(backbone=backbone, random_state=0).fit(scenes.images, scenes.target)
    >>> display = ActivationMapDisplay.from_estimator(clf, scenes.images[:2])
    >>> display.maps.shape
    (2, 3, 64, 64)
    """

    def __init__(
        self,
        images: list[NDArray[Any]],
        maps: NDArray[np.float32],
        *,
        labels: NDArray[np.int64],
        logits: NDArray[Any],
        label_names: list[str],
    ) -> None:
        self.images, self.maps, self.labels, self.logits, self.label_names = images, maps, labels, logits, label_names

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, *, labels: Any = None, n_labels: int = 3, ax: Any = None) -> Self:
        """Draw the maps of a fitted classifier.

        Parameters
        ----------
        estimator : PartialLabelClassifier or SinglePositiveClassifier
            Fitted with a backbone that ends in a global average pooling.
        X : array of images or sequence of n paths
            The photographs, as for `estimator.predict`; each becomes a row of panels.
        labels : sequence of int or str, int, str or None, default=None
            Which labels, by position or name; None takes the highest-scored labels of each photograph.
        n_labels : int, default=3
            Number of highest-scored labels.
        ax : array of matplotlib Axes or None, default=None
            One per map; None makes a new figure.

        Returns
        -------
        ActivationMapDisplay
            The display.

        Raises
        ------
        ValueError
            If the classifier has no backbone, or there are no maps; see :func:`class_activation_maps`.
        """
        check_is_fitted(estimator)
        if not hasattr(estimator, "network_"):
            raise ValueError("estimator was fitted on features, without a backbone: there are no photographs to draw.")
        names = [str(name) for name in estimator.label_names_]
        scores = estimator.decision_function(X)
        if labels is None:
            n_labels = min(check_whole(None, "n_labels", n_labels, 1), len(names))
            chosen = np.argsort(-scores, axis=1, kind="stable")[:, :n_labels]
        else:
            chosen = np.tile(chosen_labels(names, labels), (len(scores), 1))
        used = np.unique(chosen)
        maps = class_activation_maps(estimator, X, labels=used)
        maps = np.take_along_axis(maps, np.searchsorted(used, chosen)[:, :, None, None], axis=1)
        size, channels = _size_of(estimator, X), estimator.network_.channels
        images = _photographs(X, np.arange(len(scores)), size, channels)
        logits = np.take_along_axis(scores, chosen, axis=1)
        return cls(images, maps, labels=chosen, logits=logits, label_names=names).plot(ax=ax)

    def plot(self, ax: Any = None, *, cmap: str = "inferno", alpha: float = 0.5) -> Self:
        """Draw.

        Parameters
        ----------
        ax : array of matplotlib Axes or None, default=None
            One per map; None makes a new figure.
        cmap : str, default="inferno"
            Colours of the maps. Maps of one photograph share a scale.
        alpha : float, default=0.5
            Opacity of the maps, in [0, 1].

        Returns
        -------
        self
            With `ax_`, `figure_`, `photograph_images_` and `map_images_`.
        """
        shape = self.labels.shape
        self.figure_, self.ax_ = axes_grid(self, ax, self.labels.size, shape[1], (2.2, 2.4))
        self.photograph_images_ = np.empty(shape, dtype=object)
        self.map_images_ = np.empty(shape, dtype=object)
        for place, axes in zip(np.ndindex(shape), self.ax_):
            image, of_image = self.images[place[0]], self.maps[place[0]]
            self.photograph_images_[place] = axes.imshow(image, cmap="gray" if image.ndim == 2 else None)
            self.map_images_[place] = axes.imshow(
                self.maps[place], cmap=cmap, alpha=alpha, vmin=of_image.min(), vmax=of_image.max()
            )
            axes.set_title(f"{self.label_names[self.labels[place]]}  {self.logits[place]:+.1f}", fontsize="medium")
            axes.set_axis_off()
        return self


class RecoveredLabelsDisplay:
    """Images with labels that training recovered or corrected, the most certain first.

    The recovered labels of unknown entries are, in this order of preference, the weak labels of a curriculum
    (`relabeled_`), the labels corrected by a large loss (`corrected_labels_`), or the estimates of ROLE
    (`label_estimates_`) of at least one half.

    Make one with :meth:`from_estimator`.

    Parameters
    ----------
    images : list of ndarray
        The photographs.
    rows : ndarray of int64, shape (m,)
        Indices of their rows in X.
    labels : list of ndarray of int64
        The recovered labels of each image.
    is_right : list of ndarray of bool, or None
        Whether the labels are truly present, if known.
    n_recovered : int
        Number of recovered entries in all images.
    label_names : list of str
        Names of all labels.

    Attributes
    ----------
    images_ : list of matplotlib AxesImage
        The images drawn.
    ax_ : ndarray of matplotlib Axes, shape (m,)
        The panels; their titles name the labels.
    figure_ : matplotlib Figure
        The figure.

    Examples
    --------
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.datasets import make_digit_scenes
    >>> from skpartial.inspection import RecoveredLabelsDisplay
    >>> from skpartial.labels import drop_labels
    >>> from skpartial.relabeling import Curriculum
    >>> scenes = make_digit_scenes(200, random_state=0)
    >>> Y = drop_labels(scenes.target, known=0.3, random_state=0)
    >>> clf = PartialLabelClassifier("iu", relabeling=Curriculum("threshold")).fit(scenes.data, Y)
    >>> display = RecoveredLabelsDisplay.from_estimator(clf, scenes.images, Y, y_true=scenes.target, n_images=4)
    >>> display.rows.shape, len(display.labels)
    ((4,), 4)
    """

    def __init__(
        self,
        images: list[NDArray[Any]],
        *,
        rows: NDArray[np.int64],
        labels: list[NDArray[np.int64]],
        is_right: list[NDArray[np.bool_]] | None,
        n_recovered: int,
        label_names: list[str],
    ) -> None:
        self.images, self.rows, self.labels, self.is_right = images, rows, labels, is_right
        self.n_recovered, self.label_names = n_recovered, label_names

    @classmethod
    def from_estimator(
        cls, estimator: Any, images: Any, y: Any, *, y_true: Any = None, n_images: int = 12, ax: Any = None
    ) -> Self:
        """Draw the labels that a fitted classifier recovered in its training images.

        Parameters
        ----------
        estimator : PartialLabelClassifier or SinglePositiveClassifier
            Fitted with a curriculum, a large loss that corrects for good, or ROLE.
        images : array of images or sequence of n paths
            The images of the training rows, whether it was fitted on the images or on their features.
        y : array-like, DataFrame or sparse matrix, shape (n, L)
            The training labels.
        y_true : array-like, DataFrame or sparse matrix, shape (n, L), or None, default=None
            True labels, 1 present, -1 absent: the title of an image is then green if all its recovered labels are
            present, else red.
        n_images : int, default=12
            Largest number of images to draw.
        ax : array of matplotlib Axes or None, default=None
            One per image; None makes a new figure.

        Returns
        -------
        RecoveredLabelsDisplay
            The display.

        Raises
        ------
        ValueError
            If nothing was recovered, or shapes differ.
        """
        check_is_fitted(estimator)
        check_whole(None, "n_images", n_images, 1)
        labels = LabelMatrix.encode(y)
        rows, columns, scores = _recovered(estimator, labels)
        n_given = images.shape[0] if hasattr(images, "shape") else len(images)
        if n_given != labels.n_rows:
            raise ValueError(f"There are {n_given} images, but y has {labels.n_rows} rows.")
        if len(rows) == 0:
            raise ValueError("Training recovered no positive label, so there is nothing to draw.")
        order = np.argsort(-scores, kind="stable")
        chosen = rows[order][np.sort(np.unique(rows[order], return_index=True)[1])[:n_images]]
        of_images = [columns[order][rows[order] == row] for row in chosen]
        is_right = None
        if y_true is not None:
            truth = LabelMatrix.encode(y_true, name="y_true")
            if truth.shape != labels.shape:
                raise ValueError(f"y_true has shape {truth.shape}, but y has shape {labels.shape}.")
            is_right = [
                truth.rows(slice(int(row), int(row) + 1))[0, found] == 1 for row, found in zip(chosen, of_images)
            ]
        channels = estimator.network_.channels if hasattr(estimator, "network_") else 3
        return cls(
            _photographs(images, chosen, _size_of(estimator, images), channels),
            rows=chosen,
            labels=of_images,
            is_right=is_right,
            n_recovered=len(rows),
            label_names=[str(name) for name in estimator.label_names_],
        ).plot(ax=ax)

    def plot(self, ax: Any = None, *, n_columns: int = 4) -> Self:
        """Draw.

        Parameters
        ----------
        ax : array of matplotlib Axes or None, default=None
            One per image; None makes a new figure.
        n_columns : int, default=4
            Number of images side by side in a new figure.

        Returns
        -------
        self
            With `ax_`, `figure_` and `images_`.
        """
        self.figure_, self.ax_ = axes_grid(self, ax, len(self.images), n_columns, (2.2, 2.4))
        self.images_ = []
        for i, axes in enumerate(self.ax_):
            image = self.images[i]
            self.images_.append(axes.imshow(image, cmap="gray" if image.ndim == 2 else None))
            colour = None if self.is_right is None else _RIGHT if self.is_right[i].all() else _WRONG
            title = ", ".join(f"+{self.label_names[j]}" for j in self.labels[i])
            axes.set_title(title, fontsize="medium", **({} if colour is None else {"color": colour}))
            axes.set_axis_off()
        return self


def _other_labels(labels: LabelMatrix, seen: tuple[int, ...]) -> ValueError:
    return ValueError(
        f"y has shape {labels.shape}, but estimator was fitted on {seen[0]} rows and {seen[1]} labels: "
        "pass the training labels."
    )


def _recovered(estimator: Any, labels: LabelMatrix) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Unknown entries that training labelled positive: rows and columns of `labels`, and certainties."""
    train_rows = getattr(estimator, "train_rows_", np.arange(labels.n_rows))
    if hasattr(estimator, "relabeled_"):
        record = estimator.relabeled_
        in_use = getattr(estimator, "labels_in_use_", None)
        seen = (len(train_rows), labels.n_labels) if in_use is None else in_use.shape
        if seen != (len(train_rows), labels.n_labels) or train_rows.max() >= labels.n_rows:
            raise _other_labels(labels, seen)
        record = record[record["value"] == 1]
        # The score of "uncertainty" is a variance: lower is more certain.
        sign = -1 if getattr(estimator.relabeling, "strategy", None) == "uncertainty" else 1
        return train_rows[record["row"]], record["label"], sign * record["score"]
    corrected = getattr(estimator, "corrected_labels_", None)
    estimates = getattr(estimator, "label_estimates_", None)
    found = corrected if corrected is not None else estimates
    if found is None:
        raise ValueError(
            f"{type(estimator).__name__} kept no relabeled_, corrected_labels_ or label_estimates_: fit it with a "
            "Curriculum, a LargeLoss that corrects for good or ROLE, and store_state=True."
        )
    if found.shape != (len(train_rows), labels.n_labels) or train_rows.max() >= labels.n_rows:
        raise _other_labels(labels, found.shape)
    unknown = labels.rows(slice(None))[train_rows] == 0
    rows, columns = np.nonzero(unknown & (found == 1 if corrected is not None else found >= 0.5))
    return train_rows[rows], columns, np.asarray(found[rows, columns], dtype=np.float64)
