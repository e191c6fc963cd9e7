"""Metrics of predicted labels against scikit-learn and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn.metrics
import torch
import torchmetrics.functional.classification as torch_metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skpartial.metrics import exact_match, f1, hamming_loss, precision, precision_recall_f1, recall


def predictions(scores):
    y_pred = (scores > 0.5).astype(np.int64)
    y_pred[:, 4] = 0  # a label that is never predicted: its precision is 0 / 0
    return y_pred


@pytest.mark.parametrize("average", [None, "macro", "micro", "samples"])
@pytest.mark.parametrize("zero_division", [0.0, 1.0, np.nan])
def test_scikit_learn_on_fully_known_labels(fully_known, average, zero_division):
    y, scores = fully_known
    y[:, 5] = -1  # recall is 0 / 0
    y[2] = -1
    y_pred = predictions(scores)
    expected = sklearn.metrics.precision_recall_fscore_support(
        y == 1, y_pred, average=average, zero_division=zero_division
    )
    for truth, unknown in ((y, "ignore"), (np.maximum(y, 0), "absent")):
        options = {"average": average, "zero_division": zero_division, "unknown": unknown}
        result = precision_recall_f1(truth, y_pred, **options)
        for value, other in zip(result, expected):
            np.testing.assert_allclose(value, other, rtol=0, atol=1e-12)
        for function, value in zip((precision, recall, f1), result):
            np.testing.assert_array_equal(function(truth, y_pred, **options), value)


def test_scikit_learn_accuracy_and_hamming_on_fully_known_labels(fully_known):
    y, scores = fully_known
    y_pred = np.where(scores > 0.9, y != 1, y == 1)
    assert 0 < exact_match(y, y_pred) < 1
    assert exact_match(y, y_pred) == pytest.approx(sklearn.metrics.accuracy_score(y == 1, y_pred), rel=0, abs=1e-12)
    expected = sklearn.metrics.hamming_loss(y == 1, y_pred)
    assert hamming_loss(y, y_pred) == pytest.approx(expected, rel=0, abs=1e-12)


@pytest.mark.parametrize("zero_division", [0.0, 1.0, np.nan])
def test_scikit_learn_label_by_label_over_known_entries(partly_known, zero_division):
    y, scores = partly_known
    y_pred = predictions(scores)
    options = {"average": "binary", "zero_division": zero_division}
    expected = np.full((3, y.shape[1]), np.nan)
    for j in range(1, y.shape[1]):
        known = y[:, j] != 0
        expected[:, j] = sklearn.metrics.precision_recall_fscore_support(y[known, j] == 1, y_pred[known, j], **options)[
            :3
        ]
    result = precision_recall_f1(y, y_pred, average=None, zero_division=zero_division)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)
    result = precision_recall_f1(y, y_pred, average="macro", zero_division=zero_division)
    np.testing.assert_allclose(result, np.nanmean(expected, axis=1), rtol=0, atol=1e-12)
    known = y != 0
    expected = sklearn.metrics.precision_recall_fscore_support(y[known] == 1, y_pred[known], **options)[:3]
    result = precision_recall_f1(y, y_pred, average="micro", zero_division=zero_division)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)
    rows = [i for i in range(len(y)) if known[i].any()]
    expected = [
        sklearn.metrics.precision_recall_fscore_support(y[i, known[i]] == 1, y_pred[i, known[i]], **options)[:3]
        for i in rows
    ]
    result = precision_recall_f1(y, y_pred, average="samples", zero_division=zero_division)
    np.testing.assert_allclose(result, np.nanmean(expected, axis=0), rtol=0, atol=1e-12)


def test_rows_over_known_entries(partly_known):
    y, scores = partly_known
    y_pred = predictions(scores)
    known = y != 0
    wrong = (y == 1) != (y_pred == 1)
    rows = known.any(axis=1)
    assert not rows.all()
    assert hamming_loss(y, y_pred) == pytest.approx(wrong[known].mean(), rel=0, abs=1e-12)
    expected = np.mean([not wrong[i, known[i]].any() for i in np.flatnonzero(rows)])
    assert 0 < expected < 1
    assert exact_match(y, y_pred) == pytest.approx(expected, rel=0, abs=1e-12)


@pytest.mark.parametrize("average", ["none", "micro"])
def test_torchmetrics_with_ignore_index(partly_known, average):
    y, scores = partly_known
    y, y_pred = y[:, 3:], predictions(scores)[:, 3:]
    target = torch.from_numpy(np.select([y == 1, y == -1], [1, 0], -7))
    options = {"num_labels": y.shape[1], "average": average, "ignore_index": -7}
    chosen = None if average == "none" else average
    for metric, other in ((precision, "precision"), (recall, "recall"), (f1, "f1_score")):
        expected = getattr(torch_metrics, f"multilabel_{other}")(torch.from_numpy(y_pred), target, **options)
        np.testing.assert_allclose(metric(y, y_pred, average=chosen), expected.numpy(), rtol=0, atol=2e-7)
    distance = torch_metrics.multilabel_hamming_distance(torch.from_numpy(y_pred), target, **options)
    if average == "micro":
        assert hamming_loss(y, y_pred) == pytest.approx(float(distance), rel=0, abs=2e-7)


@given(
    hnp.arrays(np.int8, (6, 4), elements=st.sampled_from([-1, 0, 1])).filter(lambda y: (y == -1).any()),
    hnp.arrays(bool, (6, 4)),
    hnp.arrays(bool, (6, 4)),
)
@settings(max_examples=100, deadline=None)
def test_predictions_of_unknown_entries_do_not_matter(y, y_pred, other):
    changed = np.where(y == 0, other, y_pred)
    assert f1(y, y_pred, average="samples") == f1(y, changed, average="samples")
    assert f1(y, y_pred) == f1(y, changed)
    assert exact_match(y, y_pred) == exact_match(y, changed)
    assert hamming_loss(y, y_pred) == hamming_loss(y, changed)


@given(hnp.arrays(np.int8, (5, 3), elements=st.sampled_from([-1, 0, 1])).filter(lambda y: (y == -1).any()))
@settings(max_examples=50, deadline=None)
def test_the_truth_is_predicted_perfectly(y):
    assert hamming_loss(y, y) == 0.0
    assert exact_match(y, y) == 1.0
    assert f1(y, y, zero_division=1.0) == 1.0


@pytest.mark.parametrize("unknown", ["ignore", "absent"])
def test_every_form_of_labels_and_predictions(partly_known, unknown):
    y, scores = partly_known
    y_pred = predictions(scores)
    expected = precision_recall_f1(y, y_pred, unknown=unknown)
    matches = exact_match(y, y_pred, unknown)
    for truth in (y, sp.csr_array(y), torch.from_numpy(y)):
        for predicted in (y_pred == 1, 2 * y_pred - 1, sp.csr_array(y_pred), y_pred.astype(float), y_pred.tolist()):
            assert precision_recall_f1(truth, predicted, unknown=unknown) == expected
            assert exact_match(truth, predicted, unknown) == matches


def test_errors(partly_known):
    y, scores = partly_known
    y_pred = predictions(scores)
    for metric in (precision_recall_f1, precision, recall, f1, exact_match, hamming_loss):
        with pytest.raises(ValueError, match='unknown="absent"'):
            metric(np.maximum(y, 0), y_pred)
        with pytest.raises(ValueError, match="threshold scores first"):
            metric(y, scores + 0.01)
        with pytest.raises(ValueError, match=r"y_pred has shape \(83, 8\), but y_true has shape \(83, 9\)"):
            metric(y, y_pred[:, 1:])
        with pytest.raises(ValueError, match="y_true must be a matrix"):
            metric(y[:, 0], y_pred[:, 0])
    with pytest.raises(ValueError, match="average must be 'macro', 'micro', 'samples' or None, got 'weighted'"):
        f1(y, y_pred, average="weighted")
    for zero_division in ("warn", 0.5, True, None):
        with pytest.raises(ValueError, match="zero_division must be"):
            f1(y, y_pred, zero_division=zero_division)
