"""Pseudo-labels by class distribution: against a rule written out, and what must hold of numbers and weights."""

from __future__ import annotations

import numpy as np
import pytest

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.labels import drop_labels
from skpartial.relabeling import ClassDistribution, _class_distribution
from skpartial.solvers import FullBatch, Minibatch


def scenes_with(labelled=100, n=300):
    scenes = make_digit_scenes(n, random_state=0)
    Y = scenes.target.copy()
    Y[labelled:] = 0
    return scenes.data, Y, scenes.target


def test_two_rounds_by_hand():
    """A round on the labelled rows, then one with the surest unlabelled ones, all with weight 1."""
    X, Y, _ = scenes_with()
    rule = ClassDistribution(weights="equal", present_share=0.5, absent_share=0.8)
    clf = PartialLabelClassifier("iu", relabeling=rule, solver=FullBatch(rounds=2), alpha=0.05).fit(X, Y)
    first = PartialLabelClassifier("iu", alpha=0.05).fit(X, Y)
    logits, filled = first.decision_function(X[100:]), np.zeros((200, Y.shape[1]), dtype=int)
    for j in range(Y.shape[1]):
        share = ((Y[:100, j] == 1).sum() + 0.5) / 101
        order = np.argsort(logits[:, j])
        filled[order[: round(0.8 * (1 - share) * 200)], j] = -1
        filled[order[200 - round(0.5 * share * 200) :], j] = 1
    np.testing.assert_array_equal(clf.labels_in_use_[100:], filled)
    np.testing.assert_array_equal(clf.labels_in_use_[:100], Y[:100])
    by_hand = PartialLabelClassifier("iu", alpha=0.05).fit(X, np.concatenate([Y[:100], filled]))
    np.testing.assert_allclose(clf.coef_, by_hand.coef_, atol=1e-3)


def test_held_out_entries_come_back_and_weights_are_shares_of_presences():
    X, Y, _ = scenes_with()
    seen = []

    class Watched(ClassDistribution):
        def relabel(self, context):
            found = super().relabel(context)
            seen.append((found, {name: tensor.clone() for name, tensor in context.state.items()}))
            return found

    PartialLabelClassifier("iu", relabeling=Watched(), solver=FullBatch(rounds=4), alpha=0.05, random_state=0).fit(X, Y)
    (first, state), (second, _), (third, after), _ = seen
    rows, columns = state["held_out"].numpy().T
    assert (first[rows, columns] == 0).all()
    assert (Y[rows, columns] != 0).all()
    assert (first != Y).sum() == len(rows)
    for j in range(Y.shape[1]):  # a fifth of each label and sign
        for sign in (-1, 1):
            assert (Y[rows, columns] == sign)[columns == j].sum() == int(0.2 * (Y[:, j] == sign).sum())
    np.testing.assert_array_equal(second, Y)
    labels, weights = third.labels.toarray(), third.weights
    np.testing.assert_array_equal(labels[:100], Y[:100])
    assert (weights[:100] == 1).all()
    shares = after["calibration"][1].numpy()
    np.testing.assert_allclose(shares.mean(), (Y[rows, columns] == 1).mean(), atol=0.03)
    assert weights[100:][labels[100:] == 1].max() <= shares.max()
    assert weights[100:][labels[100:] == -1].max() <= 1 - shares.min()


def test_calibration_of_bins():
    logits = np.arange(100.0)[::-1]
    found = _class_distribution._calibration(logits, logits >= 50)
    np.testing.assert_allclose(found[0], np.arange(2, 100, 5))
    np.testing.assert_array_equal(found[1], np.arange(20) >= 10)
    few = _class_distribution._calibration(np.array([1.0, -1.0, 0.0]), np.array([True, False, True]))
    assert few.shape == (2, 20)
    np.testing.assert_array_equal(np.unique(few[0]), [-1, 0, 1])


def test_frequencies_given_serve_presences_only():
    X, Y, truth = scenes_with()
    seen = np.maximum(Y, 0)
    with pytest.raises(ValueError, match="no label of y has both known positives and known negatives: pass"):
        SinglePositiveClassifier(relabeling=ClassDistribution(), alpha=0.05).fit(X, seen)
    shares = (truth == 1).mean(axis=0)
    rule = ClassDistribution(frequencies=shares, weights="equal")
    clf = SinglePositiveClassifier(relabeling=rule, alpha=0.05).fit(X, seen)
    np.testing.assert_allclose(clf.label_frequencies_, shares)
    found = ((clf.labels_in_use_ == 1) & (seen == 0)).sum(axis=0)
    np.testing.assert_array_equal(found, np.round(shares * (seen == 0).sum(axis=0)))
    with pytest.raises(ValueError, match="frequencies must have shape"):
        SinglePositiveClassifier(relabeling=ClassDistribution(frequencies=[0.5])).fit(X, seen)


def test_minibatches_warm_up_and_repeat():
    X, Y, _ = scenes_with()
    Y[:100] = drop_labels(Y[:100], known=0.5, random_state=0)

    def fit():
        rule = ClassDistribution(warm_up=3)
        solver = Minibatch(max_epochs=5)
        return PartialLabelClassifier("iu", relabeling=rule, solver=solver, alpha=0.01, random_state=0).fit(X, Y)

    one, other = fit(), fit()
    np.testing.assert_array_equal(one.coef_, other.coef_)
    assert (one.labels_in_use_ != 0).mean() > 0.95


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (ClassDistribution(warm_up=0), "warm_up must be"),
        (ClassDistribution(present_share=1.5), r"present_share must be a number in \[0, 1\]"),
        (ClassDistribution(weights="raw"), "weights must be 'calibrated' or 'equal'"),
    ],
)
def test_odd_parameters(rule, message):
    X, Y, _ = scenes_with()
    with pytest.raises(ValueError, match=message):
        PartialLabelClassifier("iu", relabeling=rule).fit(X, Y)
