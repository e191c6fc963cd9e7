"""ROC-AUC and label ranking loss against their definitions, scikit-learn and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torchmetrics.functional.classification import multilabel_auroc

from skpartial.metrics import label_ranking_loss, mean_roc_auc, roc_auc_per_label

labels = hnp.arrays(np.int8, st.tuples(st.integers(1, 12), st.integers(1, 5)), elements=st.sampled_from([-1, 0, 1]))


@st.composite
def labels_and_scores(draw):
    y = draw(labels.filter(lambda y: (y == -1).any()))
    numbers = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1.0, 2.0])
    return y, draw(hnp.arrays(np.float64, y.shape, elements=numbers))


def pairs(present, absent, column):
    """Compare each present entry with each absent one: proportions that score lower, and as high."""
    if not present.any() or not absent.any():
        return np.nan, np.nan
    left, right = column[present][:, None], column[absent][None, :]
    return np.mean(left < right), np.mean(left == right)


@given(labels_and_scores())
@settings(max_examples=200, deadline=None)
def test_definitions_for_any_scores(case):
    y, scores = case
    for unknown in ("ignore", "absent"):
        absent = y == -1 if unknown == "ignore" else y != 1
        found = [pairs(y[:, j] == 1, absent[:, j], scores[:, j]) for j in range(y.shape[1])]
        expected = [1 - lower - tied / 2 for lower, tied in found]
        np.testing.assert_allclose(roc_auc_per_label(y, scores, unknown), expected, rtol=0, atol=1e-14)
        found = np.array([pairs(y[i] == 1, absent[i], scores[i]) for i in range(len(y))]).sum(axis=1)
        known = np.ones(len(y), bool) if unknown == "absent" else (y != 0).any(axis=1)
        expected = np.nan_to_num(found)[known].mean()
        assert label_ranking_loss(y, scores, unknown) == pytest.approx(expected, rel=0, abs=1e-14)
        if np.isfinite(found).any():
            expected = np.nanmean(found)
            assert label_ranking_loss(y, scores, unknown, empty="skip") == pytest.approx(expected, rel=0, abs=1e-14)


@given(labels_and_scores())
@settings(max_examples=50, deadline=None)
def test_reversed_scores_turn_the_area_round(case):
    y, scores = case
    np.testing.assert_allclose(
        roc_auc_per_label(y, scores), 1 - roc_auc_per_label(y, -scores), rtol=0, atol=1e-14, equal_nan=True
    )


def test_scikit_learn_on_fully_known_labels(fully_known):
    y, scores = fully_known
    expected = sklearn.metrics.roc_auc_score(y == 1, scores, average=None)
    np.testing.assert_allclose(roc_auc_per_label(y, scores), expected, rtol=0, atol=1e-12)
    assert mean_roc_auc(y, scores) == pytest.approx(expected.mean(), rel=0, abs=1e-12)
    y[:3], y[3:5] = 1, -1  # scikit-learn counts rows of one sign as 0
    expected = sklearn.metrics.label_ranking_loss(y == 1, scores)
    assert label_ranking_loss(y, scores) == pytest.approx(expected, rel=0, abs=1e-12)
    assert label_ranking_loss(np.maximum(y, 0), scores, "absent") == pytest.approx(expected, rel=0, abs=1e-12)


def test_scikit_learn_over_known_entries(partly_known):
    y, scores = partly_known
    expected = np.full(y.shape[1], np.nan)
    for j in range(3, y.shape[1]):
        known = y[:, j] != 0
        expected[j] = sklearn.metrics.roc_auc_score(y[known, j] == 1, scores[known, j])
    np.testing.assert_allclose(roc_auc_per_label(y, scores), expected, rtol=0, atol=1e-12)
    assert mean_roc_auc(y, scores, empty="zero") == pytest.approx(np.nansum(expected) / 9, rel=0, abs=1e-12)
    losses = [
        sklearn.metrics.label_ranking_loss([y[i, y[i] != 0] == 1], [scores[i, y[i] != 0]])
        for i in range(len(y))
        if (y[i] == 1).any() and (y[i] == -1).any()
    ]
    n_rows = (y != 0).any(axis=1).sum()
    assert len(losses) < n_rows < len(y)
    assert label_ranking_loss(y, scores) == pytest.approx(np.sum(losses) / n_rows, rel=0, abs=1e-12)
    assert label_ranking_loss(y, scores, empty="skip") == pytest.approx(np.mean(losses), rel=0, abs=1e-12)


def test_torchmetrics_with_ignore_index(partly_known):
    y, scores = partly_known
    y, scores = y[:, 3:], scores[:, 3:]
    target = torch.from_numpy(np.select([y == 1, y == -1], [1, 0], -7))
    expected = multilabel_auroc(torch.from_numpy(scores), target, num_labels=y.shape[1], average=None, ignore_index=-7)
    np.testing.assert_allclose(roc_auc_per_label(y, scores), expected.numpy(), rtol=0, atol=2e-7)


@pytest.mark.parametrize("unknown", ["ignore", "absent"])
def test_sparse_labels(partly_known, unknown):
    y, scores = partly_known
    for metric in (roc_auc_per_label, label_ranking_loss):
        np.testing.assert_array_equal(metric(sp.csr_array(y), scores, unknown), metric(y, scores, unknown))


def test_stacked_candidates(partly_known):
    y, scores = partly_known
    result = roc_auc_per_label(y, np.stack([scores, -scores]))
    np.testing.assert_array_equal(result[1], roc_auc_per_label(y, -scores))
    assert mean_roc_auc(y, np.stack([scores, -scores])).shape == (2,)


def test_errors(partly_known):
    y, scores = partly_known
    for metric in (roc_auc_per_label, mean_roc_auc, label_ranking_loss):
        with pytest.raises(ValueError, match='unknown="absent"'):
            metric(np.maximum(y, 0), scores)
    with pytest.raises(ValueError, match=r"No label can be scored.*assumed negative"):
        mean_roc_auc([[1, 1]], [[0.1, 0.2]], unknown="absent")
    with pytest.raises(ValueError, match="No row has both"):
        label_ranking_loss([[1, 0], [0, -1]], np.zeros((2, 2)), empty="skip")
    with pytest.raises(ValueError, match="shape of y_true"):
        label_ranking_loss(y, np.stack([scores, scores]))
    with pytest.raises(ValueError, match="empty must be 'zero' or 'skip', got 'nan'"):
        label_ranking_loss(y, scores, empty="nan")
