"""Digit scenes: small multi-label photographs composed of scikit-learn's handwritten digits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.utils import Bunch, check_random_state

from skpartial._checks import check_choice, check_whole

__all__ = ["make_digit_scenes"]

_LABEL_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# Ranges of the 1797 scans of load_digits, in its order; all digits are about equally frequent in every range.
_FILTER_SCANS = slice(0, 64)
_SCANS = {"all": (297, 1797), "train": (297, 1297), "test": (1297, 1797)}

_SIZE = 32
_SCAN = 8
# Corners of a 3 x 3 grid of cells of at least 10 pixels; a scan is shifted by up to 2 pixels in its cell.
_CORNERS = np.array([0, 11, 22])
_JITTER = 3

# Probabilities of 1, 2, 3 and 4 distinct digits in a scene.
_N_DISTINCT = np.array([0.2, 0.35, 0.3, 0.15])
# Probability that a digit in a scene occurs twice.
_REPEATED = 0.25
# Every scene has one of three themes, whose digits are more likely: this is the source of co-occurrence.
_THEMES = ((0, 3, 6, 9), (1, 4, 7), (2, 5, 8))
_THEME_BOOST = 1.2

# Scenes per block. Random numbers are drawn block by block, so changing it changes the data.
_BLOCK = 512
# Scenes per block of features: few enough to keep their 625 windows of 64 pixels in the cache.
_FEATURE_BLOCK = 16

_DESCR = """\
Digit scenes
------------

Multi-label images composed of handwritten digits (scikit-learn's `load_digits`: 8 x 8 scans from the test part of
the UCI set "Optical Recognition of Handwritten Digits"). A label says whether a digit occurs in the scene.

:Number of scenes: {n}
:Images: {size} x {size} pixels, RGB, uint8
:Labels: 10 ("zero" to "nine"), every one of them known: 1 present, -1 absent
:Scans: {n_scans} ({scans!r})
:Features: {n_features}, float32

A scene holds one to four distinct digits (2.4 on average), one in four of them twice, on the cells of a 3 x 3 grid,
shifted by up to two pixels and never overlapping. Small digits are more frequent than large ones, and digits of a
theme (0 3 6 9, 1 4 7, 2 5 8) tend to occur together. Strength of the ink, colour of ink and paper, direction of the
light and grain of the image vary.

The features in `data` are responses to {n_features} filters, which are digit scans that occur in no scene and whose
labels are not used: the correlation of the scan with each image window, divided by the window's contrast, and
maximised over all positions. They suit a linear model without solving the task for it.
"""


def _draw_labels(n: int, rng: RandomState) -> NDArray[np.int8]:
    """Digits in each scene: (n, 10) of 1 and -1."""
    log_weights: NDArray[np.float64] = np.tile(-np.log(np.arange(10) + 2.0), (len(_THEMES), 1))
    for i, digits in enumerate(_THEMES):
        log_weights[i, list(digits)] += _THEME_BOOST
    theme = rng.randint(len(_THEMES), size=n)
    n_distinct = 1 + np.searchsorted(np.cumsum(_N_DISTINCT)[:-1], rng.random_sample(n), side="right")
    # The largest of log-weights plus Gumbel noise are a weighted draw without replacement.
    keys = log_weights[theme] - np.log(-np.log1p(-rng.random_sample((n, 10))))
    rank = np.argsort(np.argsort(-keys, axis=1), axis=1)
    return np.where(rank < n_distinct[:, None], 1, -1).astype(np.int8)


def _draw_ink(
    labels: NDArray[np.int8], digits: NDArray[np.float32], table: NDArray[np.intp], rng: RandomState
) -> NDArray[np.float32]:
    """Ink of the digits: (n, size, size) in [0, 1]."""
    n = len(labels)
    rows, kinds = np.nonzero(labels == 1)
    times = 1 + (rng.random_sample(len(rows)) < _REPEATED)
    rows, kinds = np.repeat(rows, times), np.repeat(kinds, times)
    first = np.searchsorted(rows, np.arange(n))
    cells = np.argsort(rng.random_sample((n, len(_CORNERS) ** 2)), axis=1)
    cell = cells[rows, np.arange(len(rows)) - first[rows]]
    scans = table[kinds, (rng.random_sample(len(rows)) * (table[kinds] >= 0).sum(axis=1)).astype(np.intp)]
    top = _CORNERS[cell // len(_CORNERS)] + rng.randint(_JITTER, size=len(rows))
    left = _CORNERS[cell % len(_CORNERS)] + rng.randint(_JITTER, size=len(rows))
    strength = rng.uniform(0.5, 1.0, size=len(rows)).astype(np.float32)
    ink = np.zeros((n, _SIZE, _SIZE), dtype=np.float32)
    offset = np.arange(_SCAN)
    vertical, horizontal = (top[:, None] + offset)[:, :, None], (left[:, None] + offset)[:, None, :]
    ink[rows[:, None, None], vertical, horizontal] = digits[scans] * strength[:, None, None]
    return ink


def _photograph(ink: NDArray[np.float32], rng: RandomState) -> NDArray[np.uint8]:
    """Dark ink on light paper, in uneven light, with grain: (n, size, size, 3)."""
    n = len(ink)
    paper = rng.uniform(200, 250, size=(n, 1)) - rng.uniform(0, 25, size=(n, 3))
    pen = rng.uniform(0, 90, size=(n, 3))
    across = np.linspace(-0.5, 0.5, _SIZE, dtype=np.float32)
    slope = rng.uniform(-0.12, 0.12, size=(n, 2)).astype(np.float32)
    light = 1 + slope[:, :1, None] * across[:, None] + slope[:, 1:, None] * across
    amount = rng.uniform(10, 35, size=(n, 1, 1)).astype(np.float32)
    grain = amount * rng.standard_normal(ink.shape).astype(np.float32)
    images = np.empty((*ink.shape, 3), dtype=np.uint8)
    for channel in range(3):
        light_paper, drop = (
            values[:, None, None].astype(np.float32) for values in (paper[:, channel], (paper - pen)[:, channel])
        )
        images[..., channel] = np.clip(np.rint((light_paper - drop * ink) * light + grain), 0, 255)
    return images


def _filter_responses(images: NDArray[np.uint8], filters: NDArray[np.float32]) -> NDArray[np.float32]:
    r"""Largest normalised correlation of each filter with a window of each image.

    .. math:: f_k(I) = \max_u \frac{\langle F_k, I_u \rangle}{\sqrt{\|I_u - \bar I_u\|^2 + 1}}

    with :math:`I_u` the 8 x 8 windows of the image's darkness in [0, 1] and :math:`F_k` of zero mean and unit norm.
    The 1 prevents windows of bare paper, whose only contrast is grain, from responding as strongly as ink.
    """
    flat = filters.reshape(len(filters), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    responses = np.empty((len(images), len(flat)), dtype=np.float32)
    for start in range(0, len(images), _FEATURE_BLOCK):
        dark = 1 - images[start : start + _FEATURE_BLOCK].sum(axis=-1, dtype=np.float32) / (3 * 255)
        view: NDArray[np.float32] = np.lib.stride_tricks.sliding_window_view(dark, (_SCAN, _SCAN), axis=(1, 2))
        # Positions last, so that products and maxima run along contiguous memory.
        windows = view.transpose(0, 3, 4, 1, 2).reshape(len(dark), _SCAN * _SCAN, -1)
        contrast = np.square(windows).sum(axis=1) - np.square(windows.sum(axis=1)) / windows.shape[1]
        correlation = flat @ windows
        correlation /= np.sqrt(np.maximum(contrast, 0) + 1)[:, None]
        responses[start : start + _FEATURE_BLOCK] = correlation.max(axis=-1)
    return responses


def make_digit_scenes(
    n_samples: int = 1000, *, scans: str = "all", return_X_y: bool = False, random_state: Any = None
) -> Any:
    """Make multi-label images composed of real handwritten digits.

    Each scene shows one to four distinct digits of scikit-learn's :func:`~sklearn.datasets.load_digits` on one
    sheet; its labels say which digits occur. All labels are known: remove some with
    :func:`skpartial.labels.drop_labels` or :func:`skpartial.labels.keep_single_positive`. Nothing is downloaded.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of scenes.
    scans : {"all", "train", "test"}, default="all"
        Source of the handwritten digits. Calls with different seeds draw from the same scans; to test on handwriting
        that was not in training, make training scenes from "train" (1000 scans) and test scenes from "test" (500
        others). "all" is both.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` only.
    random_state : int, RandomState or None, default=None
        The same int gives the same scenes.

    Returns
    -------
    Bunch or (data, target)
        With the attributes

        images : ndarray of uint8, shape (n_samples, 32, 32, 3)
            Dark ink on light paper, RGB, with uneven light and grain.
        data : ndarray of float32, shape (n_samples, 64)
            Features for a linear model: the largest correlation of each of 64 filters with an 8 x 8 window of the
            image, divided by the window's contrast. The filters are digit scans that occur in no scene.
        target : ndarray of int8, shape (n_samples, 10)
            1 where the digit is present, -1 where it is absent. "zero" is present in 48 % of the scenes, "nine"
            in 12 %.
        label_names : list of str
            "zero" to "nine".
        DESCR : str
            A description.

    Raises
    ------
    ValueError
        If n_samples is not a positive integer, or scans is invalid.

    Notes
    -----
    On standardised features, one logistic regression per label (``C=0.1``), trained on 1000 scenes of "train", has a
    mean average precision of about 0.83 on scenes of "test". With one known positive per scene, and unknown treated as
    negative, it has about 0.77. A random ranking of the scenes has 0.24.

    Examples
    --------
    >>> from skpartial.datasets import make_digit_scenes
    >>> scenes = make_digit_scenes(100, random_state=0)
    >>> scenes.images.shape, scenes.data.shape, scenes.target.shape
    ((100, 32, 32, 3), (100, 64), (100, 10))
    >>> [name for name, label in zip(scenes.label_names, scenes.target[0]) if label == 1]
    ['zero', 'one']
    """
    check_whole(None, "n_samples", n_samples, 1)
    check_choice(None, "scans", scans, tuple(_SCANS))
    rng = check_random_state(random_state)
    source = load_digits()
    digits = (source.images / 16).astype(np.float32)
    first, last = _SCANS[scans]
    chosen = [first + np.flatnonzero(source.target[first:last] == kind) for kind in range(10)]
    table = np.full((10, max(map(len, chosen))), -1, dtype=np.intp)
    for kind, of_kind in enumerate(chosen):
        table[kind, : len(of_kind)] = of_kind

    images = np.empty((n_samples, _SIZE, _SIZE, 3), dtype=np.uint8)
    target = np.empty((n_samples, 10), dtype=np.int8)
    for start in range(0, n_samples, _BLOCK):
        stop = min(start + _BLOCK, n_samples)
        target[start:stop] = _draw_labels(stop - start, rng)
        images[start:stop] = _photograph(_draw_ink(target[start:stop], digits, table, rng), rng)
    data = _filter_responses(images, digits[_FILTER_SCANS])
    if return_X_y:
        return data, target
    return Bunch(
        images=images,
        data=data,
        target=target,
        label_names=list(_LABEL_NAMES),
        DESCR=_DESCR.format(n=n_samples, size=_SIZE, n_scans=last - first, scans=scans, n_features=data.shape[1]),
    )
