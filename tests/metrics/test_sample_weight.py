"""Weights in every metric: against scikit-learn on complete labels, and against rows that are repeated."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.model_selection import cross_val_score

from skpartial import PartialLabelClassifier, SinglePositiveClassifier, metrics
from skpartial.model_selection import TunedThresholdsCV

ALL = {
    "average_precision_per_label": metrics.average_precision_per_label,
    "voc": functools.partial(metrics.average_precision_per_label, interpolation="voc"),
    "mean_average_precision": metrics.mean_average_precision,
    "roc_auc_per_label": metrics.roc_auc_per_label,
    "mean_roc_auc": metrics.mean_roc_auc,
    "label_ranking_loss": metrics.label_ranking_loss,
    "label_ranking_loss_skip": functools.partial(metrics.label_ranking_loss, empty="skip"),
    "top_k_scores": metrics.top_k_scores,
    "top_k_scores_samples": functools.partial(metrics.top_k_scores, average="samples"),
    "precision_at_k": functools.partial(metrics.precision_at_k, k=2),
    "recall_at_k": functools.partial(metrics.recall_at_k, k=2),
}
OF_PREDICTIONS = {
    **{
        str(average): functools.partial(metrics.precision_recall_f1, average=average)
        for average in ("macro", "micro", "samples", None)
    },
    "precision": metrics.precision,
    "recall": metrics.recall,
    "f1": metrics.f1,
    "exact_match": metrics.exact_match,
    "hamming_loss": metrics.hamming_loss,
}
ALL |= {name: lambda y, s, metric=metric, **o: metric(y, s > 0.5, **o) for name, metric in OF_PREDICTIONS.items()}
OF_ROWS = ("label_ranking_loss", "top_k_scores_samples", "precision_at_k", "samples", "exact_match")


@pytest.fixture
def weights(fully_known):
    found = np.random.default_rng(3).exponential(size=len(fully_known[0]))
    found[5:9] = 0
    return found


def test_rankings_are_scikit_learns(fully_known, weights):
    (y, scores), present = fully_known, fully_known[0] == 1
    options = {"sample_weight": weights}
    expected = sklearn.metrics.average_precision_score(present, scores, average=None, **options)
    np.testing.assert_allclose(metrics.average_precision_per_label(y, scores, **options), expected, rtol=1e-12)
    assert metrics.mean_average_precision(y, scores, **options) == pytest.approx(expected.mean(), rel=1e-12)
    expected = sklearn.metrics.roc_auc_score(present, scores, average=None, **options)
    np.testing.assert_allclose(metrics.roc_auc_per_label(y, scores, **options), expected, rtol=1e-12)
    assert metrics.mean_roc_auc(y, scores, **options) == pytest.approx(expected.mean(), rel=1e-12)
    expected = sklearn.metrics.label_ranking_loss(present, scores, **options)
    assert metrics.label_ranking_loss(y, scores, **options) == pytest.approx(expected, rel=1e-12)
    # unweighted, each of them is another number
    assert metrics.mean_average_precision(y, scores) != pytest.approx(
        metrics.mean_average_precision(y, scores, **options), rel=1e-6
    )


@pytest.mark.parametrize("average", ["macro", "micro", "samples", None])
@pytest.mark.parametrize("zero_division", [0.0, 1.0])
def test_rates_are_scikit_learns(fully_known, weights, average, zero_division):
    y, scores = fully_known
    options = {"average": average, "sample_weight": weights, "zero_division": zero_division}
    expected = sklearn.metrics.precision_recall_fscore_support(y == 1, scores > 0.5, **options)[:3]
    np.testing.assert_allclose(metrics.precision_recall_f1(y, scores > 0.5, **options), expected, rtol=1e-12)
    for metric, value in zip((metrics.precision, metrics.recall, metrics.f1), expected):
        np.testing.assert_allclose(metric(y, scores > 0.5, **options), value, rtol=1e-12)


def test_exact_match_and_hamming_loss_are_scikit_learns(fully_known, weights):
    y, scores = fully_known
    predicted = np.where(np.random.default_rng(1).random(y.shape) < 0.9, y == 1, scores > 0.5)
    expected = sklearn.metrics.accuracy_score(y == 1, predicted, sample_weight=weights)
    assert metrics.exact_match(y, predicted, sample_weight=weights) == pytest.approx(expected, rel=1e-12)
    expected = sklearn.metrics.hamming_loss(y == 1, predicted, sample_weight=weights)
    assert metrics.hamming_loss(y, predicted, sample_weight=weights) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", sorted(ALL))
@pytest.mark.parametrize("unknown", ["ignore", "absent"])
def test_whole_weights_are_repeated_rows(partly_known, name, unknown):
    y, scores = partly_known
    times = np.random.default_rng(2).integers(0, 4, size=len(y))
    expected = ALL[name](np.repeat(y, times, axis=0), np.repeat(scores, times, axis=0), unknown=unknown)
    found = ALL[name](y, scores, unknown=unknown, sample_weight=times)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert not np.array_equal(found, ALL[name](y, scores, unknown=unknown), equal_nan=True)
    for other in (7 * times, sp.csr_array(y)):
        truth, weight = (other, times) if sp.issparse(other) else (y, other)
        np.testing.assert_allclose(ALL[name](truth, scores, unknown=unknown, sample_weight=weight), found, rtol=1e-12)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_weights_of_entries_are_weights_of_one_label_at_a_time(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    y = rng.choice([-1, 0, 1], size=(17, 3))
    y[:2] = [[1], [-1]]
    scores = rng.integers(0, data.draw(st.sampled_from([3, 1000])), size=y.shape)
    weights = rng.integers(0, 3, size=y.shape) * rng.random(y.shape)
    weights[:2] = 1
    for metric in (
        metrics.average_precision_per_label,
        metrics.roc_auc_per_label,
        lambda y, s, **o: metrics.precision_recall_f1(y, s > 1, average=None, **o)[2],
    ):
        found = metric(y, scores, sample_weight=weights)
        for j in range(3):
            column = metric(y[:, [j]], scores[:, [j]], sample_weight=weights[:, j])
            np.testing.assert_allclose(found[j], column[0], rtol=1e-12)
        # Of weight 0 is as good as unknown.
        hidden = np.where(weights > 0, y, 0)
        np.testing.assert_allclose(metric(hidden, scores, sample_weight=np.maximum(weights, 0)), found, rtol=1e-12)


def test_weights_of_entries_in_counts():
    y, predicted = np.array([[1, -1], [1, 1]]), np.array([[1, 1], [0, 1]])
    weights = np.array([[1.0, 2.0], [3.0, 4.0]])
    right, wrong, missed = 1 + 4, 2, 3
    expected = (right / (right + wrong), right / (right + missed), 2 * right / (2 * right + wrong + missed))
    found = metrics.precision_recall_f1(y, predicted, average="micro", sample_weight=weights)
    assert found == pytest.approx(expected, rel=1e-12)
    assert metrics.hamming_loss(y, predicted, sample_weight=weights) == pytest.approx((wrong + missed) / 10)


def test_what_is_no_weight(partly_known):
    y, scores = partly_known
    n = len(y)
    for metric in (metrics.mean_average_precision, metrics.hamming_loss, metrics.label_ranking_loss):
        guess = scores > 0.5
        with pytest.raises(ValueError, match=r"sample_weight must have shape \(83,\) or \(83, 9\).*got \(82,\)"):
            metric(y, guess, sample_weight=np.ones(n - 1))
        with pytest.raises(ValueError, match="finite numbers of at least 0"):
            metric(y, guess, sample_weight=-np.ones(n))
        with pytest.raises(ValueError, match="finite numbers of at least 0"):
            metric(y, guess, sample_weight=np.full(n, np.nan))
        with pytest.raises(ValueError, match="zero everywhere"):
            metric(y, guess, sample_weight=np.zeros(n))
        with pytest.raises(ValueError, match="real numbers"):
            metric(y, guess, sample_weight=["a"] * n)
        with pytest.raises(ValueError, match="zero"):
            metric(y, guess, sample_weight=np.arange(n) == 0)  # a row without a known label
    for name in OF_ROWS:
        with pytest.raises(ValueError, match="one weight per row, for a score that is a mean over rows"):
            ALL[name](y, scores, sample_weight=np.ones(y.shape))
    names = list("abcdefghi")
    frame = pd.DataFrame(np.ones(y.shape), columns=names[::-1])
    with pytest.raises(ValueError, match="same order"):
        metrics.mean_average_precision(pd.DataFrame(y, columns=names), scores, sample_weight=frame)


# ------------------------------------------------------------------------------------------- scorers and estimators


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((120, 6))
    y = np.where(X @ rng.standard_normal((6, 5)) + rng.standard_normal((120, 5)) > 0.3, 1, -1)
    y[rng.random(y.shape) < 0.4] = 0
    return X, y, rng.exponential(size=120), PartialLabelClassifier().fit(X, y)


@pytest.mark.parametrize("name", sorted(name for name in metrics.__all__ if name.endswith("_scorer")))
def test_scorers_pass_weights_on(problem, name):
    X, y, _, clf = problem
    times = np.arange(120) % 4
    scorer = getattr(metrics, name)
    expected = scorer(clf, np.repeat(X, times, axis=0), np.repeat(y, times, axis=0))
    assert scorer(clf, X, y, sample_weight=times) == pytest.approx(expected, rel=1e-12)


def test_weights_in_score(problem):
    X, y, weights, clf = problem
    logits = clf.decision_function(X)
    expected = metrics.mean_average_precision(y, logits, sample_weight=weights)
    assert clf.score(X, y, sample_weight=weights) == expected != clf.score(X, y)
    entries = np.random.default_rng(1).random(y.shape)
    expected = metrics.mean_average_precision(y, logits, sample_weight=entries)
    assert clf.score(X, y, entries) == expected
    tuned = TunedThresholdsCV(clf, cv="prefit", refit=False).fit(X, y)
    assert tuned.score(X, y, sample_weight=entries) == expected
    seen = np.maximum(y, 0)
    single = SinglePositiveClassifier().fit(X, seen)
    expected = metrics.mean_average_precision(
        seen, single.decision_function(X), unknown="absent", sample_weight=weights
    )
    assert single.score(X, seen, sample_weight=weights) == expected


def test_weights_in_the_score_of_two_classes(problem):
    X, _, weights, _ = problem
    y = np.where(X[:, 0] + np.random.default_rng(0).standard_normal(120) > 0, "yes", "no")
    clf = PartialLabelClassifier().fit(X, y)
    expected = sklearn.metrics.accuracy_score(y, clf.predict(X), sample_weight=weights)
    assert clf.score(X, y, sample_weight=weights) == expected != clf.score(X, y)


def test_routed_weights_in_cross_validation(problem):
    X, y, weights, _ = problem
    with config_context(enable_metadata_routing=True):
        clf = PartialLabelClassifier().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        found = cross_val_score(clf, X, y, cv=2, params={"sample_weight": weights})
        silent = PartialLabelClassifier().set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        unweighted = cross_val_score(silent, X, y, cv=2, params={"sample_weight": weights})
        scorer = copy.deepcopy(metrics.f1_macro_scorer).set_score_request(sample_weight=False)
        cross_val_score(clf, X, y, cv=2, scoring=scorer, params={"sample_weight": weights})
    expected, expected_unweighted = [], []
    for test in (slice(0, 60), slice(60, 120)):
        train = np.setdiff1d(np.arange(120), np.arange(120)[test])
        fitted = PartialLabelClassifier().fit(X[train], y[train], weights[train])
        expected.append(fitted.score(X[test], y[test], weights[test]))
        expected_unweighted.append(fitted.score(X[test], y[test]))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(unweighted, expected_unweighted, rtol=1e-6)
