"""Top-k metrics against scikit-learn on the chosen labels and against published code's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skpartial.metrics import precision_at_k, precision_recall_f1, recall_at_k, top_k_scores


def chosen(scores, k):
    """The k highest scores of each row, the first of equal ones, by a stable sort."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    y_pred = np.zeros(scores.shape, dtype=int)
    np.put_along_axis(y_pred, order, 1, axis=1)
    return y_pred


def test_published_standard_numbers(golden):
    golden = golden("metrics")
    result = top_k_scores(golden["true"], golden["pred_noties"], k=3, unknown="absent")
    np.testing.assert_allclose(100 * np.array(result[:3]), golden["standard_top3_cp_cr_cf1"], rtol=0, atol=1e-10)


def test_published_numbers_per_image(golden):
    golden = golden("metrics")
    result = top_k_scores(
        golden["true"], golden["pred_noties"], k=3, unknown="absent", average="samples", zero_division=1.0
    )
    # The published code adds 1.19e-7 to numerators, denominators and ratios: at most 3e-7 in each number.
    np.testing.assert_allclose(result, golden["rml_top3_pc_rc_f1c_po_ro_f1o"] / 100, rtol=0, atol=3e-7)


@pytest.mark.parametrize("k", [1, 3, 11])
@pytest.mark.parametrize("zero_division", [0.0, 1.0, np.nan])
def test_scikit_learn_on_fully_known_labels(fully_known, k, zero_division):
    y, scores = fully_known
    y[4] = -1
    y_pred = chosen(scores, k)
    options = {"zero_division": zero_division}
    result = top_k_scores(y, scores, k, **options)
    expected = sklearn.metrics.precision_recall_fscore_support(y == 1, y_pred, average="macro", **options)[:2]
    np.testing.assert_allclose(result[:2], expected, rtol=0, atol=1e-12)
    assert result.f1 == pytest.approx(2 * result.precision * result.recall / (result.precision + result.recall))
    expected = sklearn.metrics.precision_recall_fscore_support(y == 1, y_pred, average="micro", **options)[:3]
    np.testing.assert_allclose(result[3:], expected, rtol=0, atol=1e-12)

    expected = sklearn.metrics.precision_recall_fscore_support(y == 1, y_pred, average="samples", **options)[:3]
    result = top_k_scores(y, scores, k, average="samples", **options)
    np.testing.assert_allclose(result[:3], expected, rtol=0, atol=1e-12)
    assert precision_at_k(y, scores, k, **options) == pytest.approx(expected[0], rel=0, abs=1e-12)
    assert recall_at_k(y, scores, k, **options) == pytest.approx(expected[1], rel=0, abs=1e-12)


@given(
    hnp.arrays(np.int8, (5, 6), elements=st.sampled_from([-1, 0, 1])).filter(lambda y: (y == -1).any()),
    hnp.arrays(np.float64, (5, 6), elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0])),
    st.integers(1, 6),
    st.sampled_from(["ignore", "absent"]),
)
@settings(max_examples=100, deadline=None)
def test_equals_the_metrics_of_the_chosen_labels(y, scores, k, unknown):
    y_pred = chosen(scores, k)
    assert y_pred.sum() == 5 * k
    result = top_k_scores(y, scores, k, unknown=unknown)
    assert result[:2] == precision_recall_f1(y, y_pred, unknown=unknown)[:2]
    assert result[3:] == precision_recall_f1(y, y_pred, unknown=unknown, average="micro")
    by_row = precision_recall_f1(y, y_pred, unknown=unknown, average="samples")
    assert top_k_scores(y, scores, k, unknown=unknown, average="samples")[:3] == by_row
    assert precision_at_k(y, scores, k, unknown=unknown) == by_row[0]
    assert recall_at_k(y, scores, k, unknown=unknown) == by_row[1]


def test_single_precision_integers_and_sparse_labels(partly_known):
    y, scores = partly_known
    expected = top_k_scores(y, np.round(10 * scores))
    assert top_k_scores(y, np.round(10 * scores).astype(np.float32)) == expected
    assert top_k_scores(y, np.round(10 * scores).astype(np.uint8)) == expected
    assert top_k_scores(sp.csr_array(y), np.round(10 * scores)) == expected


def test_errors(partly_known):
    y, scores = partly_known
    for metric in (top_k_scores, precision_at_k, recall_at_k):
        with pytest.raises(ValueError, match='unknown="absent"'):
            metric(np.maximum(y, 0), scores)
        for k in (0, 10, 2.0, True):
            with pytest.raises(ValueError, match="k must be an integer from 1 to the number of labels, 9, got"):
                metric(y, scores, k)
        with pytest.raises(ValueError, match="NaN or infinity"):
            metric(y, np.where(y == 0, np.nan, scores))
        with pytest.raises(ValueError, match="zero_division must be"):
            metric(y, scores, zero_division="warn")
    with pytest.raises(ValueError, match="average must be 'macro' or 'samples', got 'micro'"):
        top_k_scores(y, scores, average="micro")
