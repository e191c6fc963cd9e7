"""Displays: what is drawn, against computations of its own."""

from __future__ import annotations

import itertools
import sys

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from matplotlib.colors import to_rgb
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpartial import PartialLabelClassifier, SinglePositiveClassifier, inspection, metrics
from skpartial.datasets import make_digit_scenes
from skpartial.images import Backbone
from skpartial.inspection import (
    ActivationMapDisplay,
    AveragePrecisionDisplay,
    HistoryDisplay,
    LabelMatrixDisplay,
    LossTrace,
    LossTraceDisplay,
    PrecisionRecallGridDisplay,
    RecoveredLabelsDisplay,
    ReliabilityDisplay,
    ROCGridDisplay,
    class_activation_maps,
)
from skpartial.labels import drop_labels, keep_single_positive
from skpartial.losses import ROLE, LargeLoss
from skpartial.relabeling import Curriculum
from skpartial.solvers import Minibatch


@pytest.fixture(scope="module")
def scenes():
    return make_digit_scenes(200, random_state=0)


@pytest.fixture(scope="module")
def known(scenes):
    names = [f"digit {j}" for j in range(10)]
    return pd.DataFrame(drop_labels(scenes.target, known=0.4, random_state=0), columns=names)


@pytest.fixture(scope="module")
def clf(scenes, known):
    return make_pipeline(StandardScaler(), PartialLabelClassifier("iu", alpha=0.1)).fit(scenes.data, known)


# ---------------------------------------------------------------------------------------------------- label matrix


def test_label_matrix(known):
    display = LabelMatrixDisplay.from_labels(known)
    np.testing.assert_array_equal(display.image_.get_array(), known.to_numpy())
    assert display.figure_ is display.ax_.figure
    names = [text.get_text() for text in display.ax_.get_xticklabels()]
    assert names[3] == f"digit 3 ({(known['digit 3'] != 0).mean():.0%})"
    colours = {value: display.image_.cmap(display.image_.norm(value))[:3] for value in (-1, 0, 1)}
    legend = {
        t.get_text(): h.get_facecolor()[:3]
        for t, h in zip(*(display.ax_.get_legend().get_texts(), display.ax_.get_legend().get_patches()))
    }
    assert legend == {"present": colours[1], "absent": colours[-1], "unknown": colours[0]}


def test_some_rows_of_a_sparse_label_matrix(known):
    _, ax = plt.subplots()
    display = LabelMatrixDisplay.from_labels(sp.csr_array(known.to_numpy()), max_rows=20, ax=ax)
    assert display.ax_ is ax
    assert display.rows[[0, -1]].tolist() == [0, 199]
    np.testing.assert_array_equal(display.image_.get_array(), known.to_numpy()[display.rows])
    assert ax.yaxis.get_major_formatter()(19, 0) == "199"
    with pytest.raises(ValueError, match="holds 2 names, but y has 10"):
        LabelMatrixDisplay.from_labels(known.to_numpy(), label_names=["a", "b"])


# ----------------------------------------------------------------------------------------------------------- curves


def curve_by_hand(present, scores):
    """Counts of present and absent entries that score at least as high, from the highest score down."""
    levels = np.unique(scores)[::-1]
    right = np.array([(present & (scores >= level)).sum() for level in levels])
    wrong = np.array([(~present & (scores >= level)).sum() for level in levels])
    return right, wrong


@pytest.mark.parametrize("unknown", ["ignore", "absent"])
def test_precision_recall_curves(scenes, known, clf, unknown):
    display = PrecisionRecallGridDisplay.from_estimator(clf, scenes.data, known, unknown=unknown)
    scores, y = clf.decision_function(scenes.data), known.to_numpy()
    assert len(display.lines_) == len(display.ax_) == 10
    for j, line in enumerate(display.lines_):
        counted = y[:, j] != 0 if unknown == "ignore" else np.ones(200, bool)
        right, wrong = curve_by_hand(y[counted, j] == 1, scores[counted, j])
        # the other way round, and with a last point of precision 1 and recall 0
        recall, precision = right / right[-1], right / (right + wrong)
        np.testing.assert_allclose(line.get_xdata()[-2::-1][: len(recall)], recall)
        np.testing.assert_allclose(line.get_ydata()[-2::-1][: len(recall)], precision)
        np.testing.assert_allclose(display.chance_lines_[j].get_ydata(), (y[counted, j] == 1).mean())
    expected = metrics.average_precision_per_label(known, scores, unknown)
    assert [axes.get_title() for axes in display.ax_] == [f"digit {j}  {expected[j]:.2f}" for j in range(10)]


def test_roc_curves_of_some_labels(scenes, known, clf):
    display = ROCGridDisplay.from_estimator(clf, scenes.data, known, labels=["digit 7", 2])
    assert display.label_names == ["digit 7", "digit 2"]
    scores, y = clf.decision_function(scenes.data), known.to_numpy()
    for j, line in zip((7, 2), display.lines_):
        counted = y[:, j] != 0
        right, wrong = curve_by_hand(y[counted, j] == 1, scores[counted, j])
        area = np.trapezoid(line.get_ydata(), line.get_xdata())
        assert area == pytest.approx(metrics.roc_auc_per_label(known, scores)[j])
        # scikit-learn leaves out points on a straight line
        points = set(zip(right / right[-1], wrong / wrong[-1])) | {(0.0, 0.0)}
        assert set(zip(line.get_ydata(), line.get_xdata())) <= points
    again = ROCGridDisplay.from_predictions(known, -scores, labels=[7, 2])
    again.plot(ax=display.ax_)
    assert again.figure_ is display.figure_
    assert len(display.ax_[0].lines) == 4


def test_weights_in_curves(known, scenes, clf):
    scores = clf.decision_function(scenes.data)
    times = np.random.default_rng(0).integers(0, 3, size=200)
    weighted = PrecisionRecallGridDisplay.from_predictions(known, scores, sample_weight=times)
    repeated = PrecisionRecallGridDisplay.from_predictions(
        known.loc[np.repeat(known.index, times)], np.repeat(scores, times, axis=0)
    )
    np.testing.assert_allclose(weighted.average_precision, repeated.average_precision)
    np.testing.assert_allclose(weighted.prevalence, repeated.prevalence)


def test_what_has_no_curve(scenes, known, clf):
    scores = clf.decision_function(scenes.data)
    y = known.copy()
    y["digit 4"] = y["digit 4"].clip(lower=0)
    assert "digit 4" not in ROCGridDisplay.from_predictions(y, scores).label_names
    with pytest.raises(ValueError, match="'digit 4' cannot be drawn"):
        ROCGridDisplay.from_predictions(y, scores, labels="digit 4")
    with pytest.raises(ValueError, match="array of 10 axes"):
        ROCGridDisplay.from_predictions(known, scores, ax=plt.gca())
    with pytest.raises(ValueError, match='unknown="absent"'):
        ROCGridDisplay.from_predictions(known.clip(lower=0), scores)
    with pytest.raises(ValueError, match="must be in the same order"):
        ROCGridDisplay.from_estimator(clf, scenes.data, known[known.columns[::-1]])
    two = PartialLabelClassifier().fit(scenes.data, scenes.target[:, 0])
    with pytest.raises(ValueError, match="for multi-label classifiers"):
        ROCGridDisplay.from_estimator(two, scenes.data, known)


def test_many_labels_draw_those_with_most_presences():
    rng = np.random.default_rng(0)
    y = np.where(rng.random((60, 30)) < np.linspace(0.1, 0.6, 30), 1, -1)
    display = PrecisionRecallGridDisplay.from_predictions(y, rng.random(y.shape))
    chosen = [int(name) for name in display.label_names]
    assert len(chosen) == 20
    assert min((y == 1).sum(0)[chosen]) >= max(np.delete((y == 1).sum(0), chosen))


# ------------------------------------------------------------------------------------- number known and reliability


def test_average_precision_against_number_known(scenes, known, clf):
    report = metrics.label_report(known, clf.decision_function(scenes.data)).iloc[:10]
    display = AveragePrecisionDisplay.from_estimator(clf, scenes.data, known)
    np.testing.assert_array_equal(display.points_.get_xdata(), report["known"])
    np.testing.assert_allclose(display.points_.get_ydata(), report["average_precision"])
    ends = np.array([segment[:, 1] for segment in display.intervals_.get_segments()])
    expected = report[["average_precision_low", "average_precision_high"]].to_numpy()
    # an interval that leaves its value out is drawn up to it
    value = report["average_precision"].to_numpy()
    np.testing.assert_allclose(
        ends, np.column_stack([np.minimum(expected[:, 0], value), np.maximum(expected[:, 1], value)])
    )
    assert [text.get_text() for text in display.ax_.texts] == list(known.columns)
    trained = drop_labels(scenes.target, known=0.1, random_state=3)
    other = AveragePrecisionDisplay.from_predictions(
        known, clf.decision_function(scenes.data), y_train=trained, count="present"
    )
    np.testing.assert_array_equal(other.points_.get_xdata(), (trained == 1).sum(0))
    with pytest.raises(ValueError, match="y_train has 3 labels, but y has 10"):
        AveragePrecisionDisplay.from_estimator(clf, scenes.data, known, y_train=trained[:, :3])


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_reliability(scenes, known, clf, strategy):
    display = ReliabilityDisplay.from_estimator(clf, scenes.data, known, n_bins=5, strategy=strategy)
    y, p = known.to_numpy(), clf.predict_proba(scenes.data)
    mask = y != 0
    present, p = y[mask] == 1, p[mask]
    edges = np.linspace(0, 1, 6) if strategy == "uniform" else np.quantile(p, np.linspace(0, 1, 6))
    edges[-1] += 1e-9
    expected = []
    for low, high in itertools.pairwise(edges):
        chosen = (p >= low) & (p < high)
        if chosen.any():
            expected.append((p[chosen].mean(), present[chosen].mean(), chosen.sum()))
    across, up, counts = np.transpose(expected)
    np.testing.assert_allclose(display.line_.get_xdata(), across, rtol=1e-6)
    np.testing.assert_allclose(display.line_.get_ydata(), up)
    np.testing.assert_array_equal(display.counts, counts)
    assert counts.sum() == mask.sum()
    error = (counts * np.abs(across - up)).sum() / counts.sum()
    assert display.ece == pytest.approx(error)
    assert f"ECE {error:.3f}" in display.ax_.get_legend().get_texts()[1].get_text()


def test_reliability_of_one_label_and_of_perfect_probabilities(known):
    certain = (known.to_numpy() == 1).astype(float)
    assert ReliabilityDisplay.from_predictions(known, certain).ece == 0
    wrong = certain.copy()
    wrong[:, 2] = 1 - wrong[:, 2]
    display = ReliabilityDisplay.from_predictions(known, wrong, labels="digit 2")
    assert display.ece == 1
    assert display.counts.sum() == (known["digit 2"] != 0).sum()
    with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
        ReliabilityDisplay.from_predictions(known, 3 * certain)


# --------------------------------------------------------------------------------------------------------- training


def test_history(scenes, known):
    solver = Minibatch(max_epochs=4)
    clf = PartialLabelClassifier("iu", solver=solver, validation_fraction=0.3, random_state=0)
    clf.fit(scenes.data, known)
    display = HistoryDisplay.from_estimator(make_pipeline(clf))
    assert display.quantities == ["loss", "validation_score"]
    for key, line in display.lines_.items():
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4])
        np.testing.assert_array_equal(line.get_ydata(), [record[key] for record in clf.history_])
    assert [line.get_xdata()[0] for line in display.ax_[0].lines[1:]] == [clf.best_epoch_]
    assert HistoryDisplay.from_estimator(clf, quantities="loss").quantities == ["loss"]
    with pytest.raises(ValueError, match="holds no 'accuracy'"):
        HistoryDisplay.from_estimator(clf, quantities=["accuracy"])
    with pytest.raises(ValueError, match="has no history_"):
        HistoryDisplay.from_estimator(StandardScaler().fit(scenes.data))


def test_loss_traces(scenes):
    X, Y = scenes.data, keep_single_positive(scenes.target, random_state=0)
    kept = []

    class Keep(LossTrace):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator):
            if context.task_name == "epoch":
                kept.append(fitted_estimator.decision_function(X))
            super().on_fit_task_end(estimator, context, fitted_estimator=fitted_estimator)

    clf = SinglePositiveClassifier("an", solver=Minibatch(max_epochs=3), random_state=0)
    clf.set_callbacks(Keep(X, Y, scenes.target)).fit(X, Y)
    display = LossTraceDisplay.from_estimator(clf, name="AN")
    cost = np.log1p(np.exp(np.array(kept)))
    true, false = (Y == 0) & (scenes.target == -1), (Y == 0) & (scenes.target == 1)
    np.testing.assert_array_equal(display.true_line_.get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(display.true_line_.get_ydata(), cost[:, true].mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(display.false_line_.get_ydata(), cost[:, false].mean(axis=1), rtol=1e-5)
    assert display.true_line_.get_label() == "truly absent, AN"
    other = LossTraceDisplay.from_predictions(kept, Y, scenes.target, ax=display.ax_, linestyle="--")
    np.testing.assert_allclose(other.false_line_.get_ydata(), display.false_line_.get_ydata(), rtol=1e-5)
    assert len(display.ax_.lines) == 4
    clf.fit(X, Y)  # begins anew
    assert len(LossTraceDisplay.from_estimator(clf).true_negative) == 3
    with pytest.raises(ValueError, match="no LossTrace callback"):
        LossTraceDisplay.from_estimator(PartialLabelClassifier())
    with pytest.raises(ValueError, match=r"logits must have shape \(n_epochs, 200, 10\)"):
        LossTraceDisplay.from_predictions(kept[0], Y, scenes.target)
    with pytest.raises(ValueError, match="y_true must have"):
        LossTraceDisplay.from_predictions(kept, Y, Y)


# ----------------------------------------------------------------------------------------------------------- images


@pytest.fixture(scope="module")
def seeing(scenes):
    backbone = Backbone("resnet18", weights=None, finetune="head", image_size=64)
    return PartialLabelClassifier(backbone=backbone, random_state=0).fit(scenes.images[:40], scenes.target[:40])


def test_activation_maps_over_photographs(scenes, seeing):
    X = scenes.images[:2]
    display = ActivationMapDisplay.from_estimator(seeing, X, n_labels=2)
    maps, logits = class_activation_maps(seeing, X), seeing.decision_function(X)
    assert display.ax_.shape == (4,)
    for i in range(2):
        best = np.argsort(-logits[i])[:2]
        np.testing.assert_array_equal(display.labels[i], best)
        photographs = [display.photograph_images_[i, k].get_array() for k in range(2)]
        assert photographs[0].shape[:2] == (64, 64)
        np.testing.assert_array_equal(photographs[0], photographs[1])
        # enlarged, and so nearly the same on average
        assert photographs[0].mean() == pytest.approx(X[i].mean(), rel=0.05)
        for k, j in enumerate(best):
            np.testing.assert_allclose(display.map_images_[i, k].get_array(), maps[i, j], rtol=1e-5, atol=1e-4)
            assert display.ax_[2 * i + k].get_title() == f"{j}  {logits[i, j]:+.1f}"
    named = ActivationMapDisplay.from_estimator(seeing, X, labels=["3"])
    np.testing.assert_allclose(named.map_images_[1, 0].get_array(), maps[1, 3], rtol=1e-5, atol=1e-4)


def test_activation_maps_need_photographs(scenes, clf):
    with pytest.raises(ValueError, match="without a backbone"):
        ActivationMapDisplay.from_estimator(clf[-1], scenes.images)


def recovered_by(display, scenes):
    for i, (row, axes) in enumerate(zip(display.rows, display.ax_)):
        np.testing.assert_array_equal(display.images_[i].get_array().squeeze(), scenes.images[row].squeeze())
        assert axes.get_title() == ", ".join(f"+{j}" for j in display.labels[i])
        right = (scenes.target[row, display.labels[i]] == 1).all()
        assert to_rgb(axes.title.get_color()) == to_rgb("tab:green" if right else "tab:red")
    return {(row, j) for row, labels in zip(display.rows.tolist(), display.labels) for j in labels.tolist()}


@pytest.mark.filterwarnings("ignore::skpartial.exceptions.UnfittableLabelsWarning")
def test_labels_that_a_curriculum_recovered(scenes, known):
    Y = known.to_numpy()[:120]
    clf = PartialLabelClassifier(
        "iu",
        relabeling=Curriculum("threshold"),
        solver=Minibatch(max_epochs=12, learning_rate=0.07),
        validation_fraction=0.2,
        random_state=0,
    ).fit(scenes.data[:120], Y)
    display = RecoveredLabelsDisplay.from_estimator(
        clf, scenes.images[:120], Y, y_true=scenes.target[:120], n_images=500
    )
    record = clf.relabeled_[clf.relabeled_["value"] == 1]
    expected = set(zip(clf.train_rows_[record["row"]].tolist(), record["label"].tolist()))
    assert expected
    assert recovered_by(display, scenes) == expected
    best = RecoveredLabelsDisplay.from_estimator(clf, scenes.images[:120], Y, n_images=1)
    assert best.rows.tolist() == [clf.train_rows_[record["row"][np.argmax(record["score"])]]]


@pytest.mark.parametrize("loss", [LargeLoss("correct_permanently", delta=0.01), ROLE(expected_positives=3)])
@pytest.mark.filterwarnings("ignore::skpartial.exceptions.UnfittableLabelsWarning")
def test_labels_that_a_loss_recovered(scenes, loss):
    Y = keep_single_positive(scenes.target[:24], random_state=0)
    solver = Minibatch(max_epochs=5, learning_rate=0.03)
    clf = SinglePositiveClassifier(loss, solver=solver, random_state=0).fit(scenes.data[:24], Y)
    display = RecoveredLabelsDisplay.from_estimator(clf, scenes.images[:24], Y, y_true=scenes.target[:24], n_images=500)
    found = clf.corrected_labels_ == 1 if isinstance(loss, LargeLoss) else clf.label_estimates_ >= 0.5
    expected = set(map(tuple, np.argwhere(found & (Y == 0)).tolist()))
    assert 0 < len(expected) == display.n_recovered
    assert recovered_by(display, scenes) == expected


def test_nothing_was_recovered(scenes, clf):
    with pytest.raises(ValueError, match="kept no relabeled_, corrected_labels_"):
        RecoveredLabelsDisplay.from_estimator(clf[-1], scenes.images, scenes.target)
    Y = keep_single_positive(scenes.target, random_state=0)
    few = SinglePositiveClassifier(LargeLoss("correct_permanently", delta=0.0), solver=Minibatch(max_epochs=1)).fit(
        scenes.data, Y
    )
    with pytest.raises(ValueError, match="recovered no positive label"):
        RecoveredLabelsDisplay.from_estimator(few, scenes.images, Y)
    with pytest.raises(ValueError, match="fitted on 200 rows"):
        RecoveredLabelsDisplay.from_estimator(few, scenes.images, Y[:100])


# -------------------------------------------------------------------------------------------------------------- all


def test_without_matplotlib(monkeypatch, known):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.delattr(matplotlib, "pyplot", raising=False)
    with pytest.raises(ImportError, match=r"LabelMatrixDisplay.plot needs matplotlib: pip install matplotlib"):
        LabelMatrixDisplay.from_labels(known)


def test_every_display_is_made_as_scikit_learns_are():
    displays = [getattr(inspection, name) for name in inspection.__all__ if name.endswith("Display")]
    assert len(displays) == 9
    for display in displays:
        assert any(hasattr(display, f"from_{what}") for what in ("estimator", "predictions", "labels"))
        assert callable(display.plot)
