"""Digit scenes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from scipy.signal import correlate2d
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpartial.datasets import _digits, make_digit_scenes
from skpartial.labels import describe, keep_single_positive


@pytest.fixture(scope="module")
def scenes():
    return make_digit_scenes(2000, random_state=0)


def test_shapes_and_types(scenes):
    assert scenes.images.shape == (2000, 32, 32, 3)
    assert scenes.images.dtype == np.uint8
    assert scenes.data.shape == (2000, 64)
    assert scenes.data.dtype == np.float32
    assert np.isfinite(scenes.data).all()
    assert scenes.target.shape == (2000, 10)
    assert scenes.target.dtype == np.int8
    assert describe(scenes.target).is_complete
    assert scenes.label_names == ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    assert "Number of scenes: 2000" in scenes.DESCR
    assert "1500 ('all')" in scenes.DESCR


def test_labels_are_skewed_and_correlated(scenes):
    present = scenes.target == 1
    n_distinct = present.sum(axis=1)
    proportions = np.bincount(n_distinct, minlength=5) / len(present)
    # Within four standard errors of what is said.
    np.testing.assert_allclose(proportions, [0, 0.2, 0.35, 0.3, 0.15], atol=4 * 0.5 / np.sqrt(2000))
    frequency = present.mean(axis=0)
    assert frequency[0] == pytest.approx(0.48, abs=0.04)
    assert frequency[9] == pytest.approx(0.12, abs=0.03)
    assert frequency.argmax() == 0
    together = (present.T.astype(int) @ present)[7, [1, 4]] / present[:, 7].sum()
    apart = (present.T.astype(int) @ present)[8, [1, 4]] / present[:, 8].sum()
    assert (together > apart + 0.1).all()


def test_the_same_seed_gives_the_same_scenes():
    one, other = (make_digit_scenes(600, random_state=7) for _ in range(2))
    for name in ("images", "data", "target"):
        np.testing.assert_array_equal(one[name], other[name])
    assert (one.images != make_digit_scenes(600, random_state=8).images).any()
    data, target = make_digit_scenes(600, return_X_y=True, random_state=np.random.RandomState(7))
    np.testing.assert_array_equal(data, one.data)
    np.testing.assert_array_equal(target, one.target)


GOLDEN_TARGET = [[0, 1], [1, 4, 6], [0, 3], [1, 2, 7, 8], [0], [1, 4, 5, 6]]
GOLDEN_HASH = "1203ac3f4bbce730"
GOLDEN_MEANS = [216.021, 195.6, 210.348, 202.979]
GOLDEN_DATA = [[0.72463, 0.75989, 0.50694, 0.48185], [0.43237, 0.4816, 0.52452, 0.43882]]


def test_golden():
    scenes = make_digit_scenes(20, random_state=0)
    assert [np.flatnonzero(row == 1).tolist() for row in scenes.target[:6]] == GOLDEN_TARGET
    assert hashlib.sha256(scenes.target.tobytes()).hexdigest()[:16] == GOLDEN_HASH
    np.testing.assert_allclose(scenes.images.mean(axis=(1, 2, 3))[:4], GOLDEN_MEANS, atol=0.01)
    np.testing.assert_allclose(scenes.data[:2, :4], GOLDEN_DATA, atol=1e-4)


class FullStrength(np.random.RandomState):
    """Draws ink of strength 1 only."""

    def uniform(self, low, high, size):
        return np.ones(size)


@pytest.mark.parametrize("scans, first, last", [("train", 297, 1297), ("test", 1297, 1797), ("all", 297, 1797)])
def test_scenes_show_what_their_labels_say(scans, first, last, monkeypatch):
    drawn = []
    draw_ink = _digits._draw_ink

    def draw_numbers(labels, digits, table, rng):
        # Every scan replaced by its own number, so that the ink says which scan lies where.
        numbered = np.arange(1, 1798, dtype=np.float32)[:, None, None] * np.ones((1, 8, 8), np.float32)
        drawn.append((labels, draw_ink(labels, numbered, table, rng)))
        return drawn[-1][1]

    monkeypatch.setattr(_digits, "_draw_ink", draw_numbers)
    make_digit_scenes(600, scans=scans, random_state=FullStrength(0))
    kinds = load_digits().target
    seen = set()
    for labels, ink in drawn:
        for row, canvas in zip(labels, ink):
            numbers, areas = np.unique(canvas[canvas > 0], return_counts=True)
            # Nothing overlaps: every scan is there whole, once or, where chance took it twice, on 128 pixels.
            assert set(areas) <= {64, 128}
            shown = numbers.astype(int) - 1
            assert set(kinds[shown]) == set(np.flatnonzero(row == 1))
            assert len(shown) <= 8
            seen.update(shown.tolist())
    assert min(seen) >= first
    assert max(seen) < last
    assert len(seen) > 0.5 * (last - first)


def test_train_and_test_share_no_scan():
    ranges = [set(range(*_digits._SCANS[name])) for name in ("train", "test")]
    filters = set(range(*_digits._FILTER_SCANS.indices(1797)))
    assert not ranges[0] & ranges[1]
    assert not filters & (ranges[0] | ranges[1])
    assert ranges[0] | ranges[1] == set(range(*_digits._SCANS["all"]))
    kinds = load_digits().target
    for name in ("train", "test"):
        counts = np.bincount(kinds[slice(*_digits._SCANS[name])])
        assert counts.min() > 0.09 * counts.sum()


def test_features_are_what_is_said(scenes):
    images = scenes.images[:3]
    filters = load_digits().images[:64] / 16
    for image, features in zip(images, scenes.data):
        dark = 1 - image.astype(float).mean(axis=-1) / 255
        ones = np.ones((8, 8))
        spread = correlate2d(dark**2, ones, "valid") - correlate2d(dark, ones, "valid") ** 2 / 64
        for k in (0, 13, 63):
            kernel = filters[k] - filters[k].mean()
            kernel /= np.sqrt((kernel**2).sum())
            expected = (correlate2d(dark, kernel, "valid") / np.sqrt(spread + 1)).max()
            assert features[k] == pytest.approx(expected, abs=1e-4)


def mean_average_precision(train, labels, test):
    scores = []
    for j in range(10):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(train.data, labels[:, j] == 1)
        scores.append(average_precision_score(test.target[:, j] == 1, model.decision_function(test.data)))
    return np.mean(scores)


def test_a_linear_probe_learns_and_missing_labels_hurt():
    train = make_digit_scenes(1000, scans="train", random_state=0)
    test = make_digit_scenes(1000, scans="test", random_state=1)
    full = mean_average_precision(train, train.target, test)
    assumed_absent = mean_average_precision(train, keep_single_positive(train.target), test)
    assert 0.78 < full < 0.9
    assert assumed_absent < full - 0.03


@pytest.mark.parametrize("n", [0, -1, 2.0, "ten", True, None])
def test_n_samples_is_checked(n):
    with pytest.raises(ValueError, match="n_samples must be a whole number of at least 1, got"):
        make_digit_scenes(n)


def test_scans_is_checked():
    with pytest.raises(ValueError, match="scans must be 'all', 'train' or 'test', got 'val'"):
        make_digit_scenes(1, scans="val")


def test_a_single_scene():
    assert make_digit_scenes(1, random_state=0).images.shape == (1, 32, 32, 3)
