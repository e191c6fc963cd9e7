"""The report of each label against the metrics that it gathers, scikit-learn, and a simulation of its interval."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn.metrics
from scipy.special import expit
from scipy.stats import norm

from skpartial import PartialLabelClassifier, metrics
from skpartial.datasets import make_digit_scenes
from skpartial.labels import drop_labels
from skpartial.metrics import LabelReport, label_report
from skpartial.model_selection import TunedThresholdsCV

NAMES = list("abcdefghi")
SUMMARIES = ["macro", "weighted", "micro"]
COLUMNS = [
    "known",
    "positive",
    "negative",
    "average_precision",
    "average_precision_low",
    "average_precision_high",
    "roc_auc",
    "precision",
    "recall",
    "f1",
    "threshold",
    "brier",
]


@pytest.fixture
def frame(partly_known):
    return pd.DataFrame(partly_known[0], columns=NAMES), partly_known[1]


def test_what_it_gathers(frame):
    y, scores = frame
    report = label_report(y, scores)
    assert report.columns.tolist() == COLUMNS
    assert report.index.tolist() == NAMES + SUMMARIES
    of_labels = report.loc[NAMES]
    np.testing.assert_array_equal(of_labels["known"], (y != 0).sum())
    np.testing.assert_array_equal(of_labels["positive"], (y == 1).sum())
    np.testing.assert_array_equal(of_labels["negative"], (y == -1).sum())
    assert (report.loc[SUMMARIES, "known"] == (y != 0).sum().sum()).all()
    np.testing.assert_array_equal(of_labels["average_precision"], metrics.average_precision_per_label(y, scores))
    np.testing.assert_array_equal(of_labels["roc_auc"], metrics.roc_auc_per_label(y, scores))
    rates = metrics.precision_recall_f1(y, scores > 0.5, average=None)
    np.testing.assert_array_equal(of_labels[["precision", "recall", "f1"]].T, rates)
    assert report.loc["macro", "average_precision"] == pytest.approx(metrics.mean_average_precision(y, scores))
    assert report.loc["macro", "roc_auc"] == pytest.approx(metrics.mean_roc_auc(y, scores))
    for average in ("macro", "micro"):
        expected = metrics.precision_recall_f1(y, scores > 0.5, average=average)
        np.testing.assert_allclose(report.loc[average, ["precision", "recall", "f1"]].astype(float), expected)
    assert (of_labels["threshold"] == 0.5).all()


def test_scikit_learn_over_the_known_entries_together(frame):
    y, scores = frame
    known = y.to_numpy() != 0
    present, score = y.to_numpy()[known] == 1, scores[known]
    micro = label_report(y, scores).loc["micro"]
    assert micro["average_precision"] == pytest.approx(sklearn.metrics.average_precision_score(present, score))
    assert micro["roc_auc"] == pytest.approx(sklearn.metrics.roc_auc_score(present, score))
    assert micro["brier"] == pytest.approx(sklearn.metrics.brier_score_loss(present, score))
    for j, name in enumerate(NAMES[3:], start=3):
        column = known[:, j]
        expected = sklearn.metrics.brier_score_loss(y.to_numpy()[column, j] == 1, scores[column, j])
        assert label_report(y, scores).loc[name, "brier"] == pytest.approx(expected)


def test_scikit_learns_report_on_complete_labels(fully_known):
    y, scores = fully_known
    weights = np.random.default_rng(0).exponential(size=len(y))
    report = label_report(y, scores, sample_weight=weights)
    for average in ("macro", "micro", "weighted"):
        options = {"average": average, "sample_weight": weights}
        expected = sklearn.metrics.precision_recall_fscore_support(y == 1, scores > 0.5, zero_division=0, **options)
        np.testing.assert_allclose(report.loc[average, ["precision", "recall", "f1"]].astype(float), expected[:3])
        value = sklearn.metrics.average_precision_score(y == 1, scores, **options)
        assert report.loc[average, "average_precision"] == pytest.approx(value)
    briers = [sklearn.metrics.brier_score_loss(y[:, j] == 1, scores[:, j], sample_weight=weights) for j in range(11)]
    np.testing.assert_allclose(report["brier"].iloc[:11], briers)
    assert report.loc["macro", "brier"] == pytest.approx(np.mean(briers))


@pytest.mark.parametrize("unknown", ["ignore", "absent"])
def test_weights_are_repeated_rows(frame, unknown):
    y, scores = frame
    times = np.random.default_rng(5).integers(0, 3, size=len(y))
    found = label_report(y, scores, unknown=unknown, sample_weight=times)
    expected = label_report(y.loc[y.index.repeat(times)], np.repeat(scores, times, axis=0), unknown=unknown)
    # an interval is of as many presences as there are, however often each counts
    compared = [name for name in COLUMNS[3:] if not name.endswith(("low", "high"))]
    np.testing.assert_allclose(found[compared], expected[compared], rtol=1e-9)
    wider = found["average_precision_high"] - found["average_precision_low"]
    assert (wider.dropna() >= (expected["average_precision_high"] - expected["average_precision_low"]).dropna()).all()
    same = label_report(y, scores, unknown=unknown, sample_weight=np.full(len(y), 7.0))
    pd.testing.assert_frame_equal(same, label_report(y, scores, unknown=unknown))


@pytest.mark.parametrize("unknown", ["ignore", "absent"])
def test_sparse_labels_and_weights_of_entries(partly_known, unknown):
    y, scores = partly_known
    weights = np.random.default_rng(0).random(y.shape)
    for options in ({}, {"sample_weight": weights}, {"sample_weight": weights[:, 0]}):
        expected = label_report(y, scores, unknown=unknown, **options)
        pd.testing.assert_frame_equal(label_report(sp.csr_array(y), scores, unknown=unknown, **options), expected)
        guessed = label_report(sp.csr_array(y), scores, y_pred=sp.csr_array(scores > 0.5), unknown=unknown, **options)
        pd.testing.assert_frame_equal(guessed.drop(columns="threshold"), expected.drop(columns="threshold"))


def test_decisions_have_no_brier_and_their_own_threshold(frame):
    y, scores = frame
    logits = np.log(scores / (1 - scores + 1e-9) + 1e-9)
    report, of_probabilities = label_report(y, logits), label_report(y, scores)
    assert report["brier"].isna().all()
    assert (report.loc[NAMES, "threshold"] == 0).all()
    np.testing.assert_allclose(report["average_precision"], of_probabilities["average_precision"])
    np.testing.assert_allclose(report["recall"], of_probabilities["recall"])


def test_thresholds_of_predictions():
    scores = np.array([[0.1, 0.9, 0.3], [0.4, 0.2, 0.2], [0.7, 0.6, 0.1]])
    y = np.array([[-1, 1, -1], [1, -1, -1], [1, 1, 1]])
    predicted = np.array([[0, 0, 0], [1, 1, 0], [1, 1, 0]])
    # of the second label a lower score is predicted present than another one, of the third nothing is
    np.testing.assert_array_equal(label_report(y, scores, y_pred=predicted)["threshold"][:3], [0.4, np.nan, np.nan])


def test_thresholds_of_a_tuned_classifier():
    scenes = make_digit_scenes(400, random_state=0)
    Y = drop_labels(scenes.target, known=0.6, random_state=0)
    tuned = TunedThresholdsCV(PartialLabelClassifier(), cv=3, random_state=0).fit(scenes.data[:300], Y[:300])
    X, y = scenes.data[300:], Y[300:]
    report = label_report(y, tuned.predict_proba(X), y_pred=tuned.predict(X))
    assert ((report["threshold"][:10] >= tuned.thresholds_) | report["threshold"][:10].isna()).all()
    assert report.loc["macro", "f1"] == pytest.approx(metrics.f1(y, tuned.predict(X)))


def test_the_interval_is_boyds(frame):
    y, scores = frame
    row = label_report(y, scores, confidence_level=0.9).loc["e"]
    value, n = row["average_precision"], row["positive"]
    eta, tau = np.log(value / (1 - value)), 1 / np.sqrt(n * value * (1 - value))
    expected = expit([eta - norm.ppf(0.95) * tau, eta + norm.ppf(0.95) * tau])
    np.testing.assert_allclose(row[["average_precision_low", "average_precision_high"]].astype(float), expected)
    ends = label_report([[1, 1], [-1, -1], [1, 1]], [[0.9, 0.1], [0.1, 0.9], [0.8, 0.2]])
    assert ends.loc["0", "average_precision_high"] == 1
    assert 0.1 < ends.loc["0", "average_precision_low"] < 0.9


@pytest.mark.parametrize(("n_rows", "prevalence", "lowest"), [(100, 0.3, 0.93), (300, 0.05, 0.91)])
def test_how_often_the_interval_holds_the_truth(n_rows, prevalence, lowest):
    # Each of 1,000 labels is a sample of its own. The standard error of the proportion is 0.7 %.
    rng = np.random.default_rng(0)
    n_present = int(n_rows * prevalence)
    many = np.repeat([1, -1], [int(400_000 * prevalence), int(400_000 * (1 - prevalence))])
    truth = metrics.mean_average_precision(many[:, None], (rng.standard_normal(len(many)) + (many == 1))[:, None])
    y = np.repeat(np.repeat([1, -1], [n_present, n_rows - n_present])[:, None], 1000, axis=1)
    report = label_report(y, rng.standard_normal(y.shape) + (y == 1)).iloc[:1000]
    held = (report["average_precision_low"] <= truth) & (truth <= report["average_precision_high"])
    assert lowest < held.mean() < 0.99


def test_two_classifiers_side_by_side(frame):
    y, scores = frame
    other = scores[:, ::-1]
    both = label_report(y, {"old": scores, "new": other}, y_pred={"old": scores > 0.3, "new": other > 0.3})
    assert both["f1"].columns.tolist() == ["old", "new"]
    for name, one in (("old", scores), ("new", other)):
        alone = label_report(y, one, y_pred=one > 0.3)
        for column in COLUMNS[3:]:
            np.testing.assert_array_equal(both[column, name], alone[column])
        np.testing.assert_array_equal(both["known"], alone["known"])


def test_without_pandas(monkeypatch, frame):
    y, scores = frame
    expected, both = label_report(y, scores), label_report(y, {"old": scores, "new": scores})
    monkeypatch.setitem(sys.modules, "pandas", None)
    report = label_report(y, scores)
    assert isinstance(report, LabelReport)
    assert report.index == expected.index.tolist()
    assert report.columns == expected.columns.tolist()
    for column in COLUMNS:
        np.testing.assert_array_equal(report[column], expected[column])
    lines = repr(report).splitlines()
    assert len(lines) == 1 + len(NAMES) + 3
    assert lines[0].split() == COLUMNS
    assert len({len(line) for line in lines}) == 1
    assert lines[4].split()[:5] == [
        "d",
        *(str(v) for v in expected.loc["d"][:3].astype(int)),
        f"{expected.iloc[3, 3]:.3f}",
    ]
    assert lines[1].split()[4] == "-"
    with pytest.raises(KeyError, match="not one of the columns"):
        report["f2"]
    twice = label_report(y, {"old": scores, "new": scores})
    assert twice.columns == both.columns.tolist()
    assert "f1 old" in repr(twice)
    np.testing.assert_array_equal(twice["f1", "new"], both["f1", "new"])


def test_positive_only_labels(frame):
    y, scores = frame
    seen = y.clip(lower=0)
    with pytest.raises(ValueError, match='unknown="absent"'):
        label_report(seen, scores)
    report = label_report(seen, scores, unknown="absent")
    assert (report["negative"] == 0).all()
    expected = metrics.mean_average_precision(seen, scores, unknown="absent")
    assert report.loc["macro", "average_precision"] == pytest.approx(expected)


def test_errors(frame):
    y, scores = frame
    with pytest.raises(ValueError, match="confidence_level must be a number in"):
        label_report(y, scores, confidence_level=95)
    with pytest.raises(ValueError, match="shape of y_true"):
        label_report(y, scores[:, :3])
    with pytest.raises(ValueError, match="the same names"):
        label_report(y, scores, y_pred={"a": scores > 0.5})
    for wrong in ({}, {"a": scores}):
        with pytest.raises(ValueError, match="at least one classifier"):
            label_report(y, wrong, y_pred={"b": scores > 0.5})
    with pytest.raises(ValueError, match="same order"):
        label_report(y, pd.DataFrame(scores, columns=NAMES[::-1]))
    copies = y.copy(), scores.copy()
    label_report(y, scores)
    pd.testing.assert_frame_equal(y, copies[0])
    np.testing.assert_array_equal(scores, copies[1])
