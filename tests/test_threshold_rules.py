"""Thresholds by a stated prevalence, or by a recall of the recorded presences."""

import pickle

import numpy as np
import pytest
from scipy.special import logit
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skpartial import SinglePositiveClassifier, SinglePositiveClassifierCV
from skpartial.datasets import make_digit_scenes
from skpartial.heads import CategoryGNN, Ensemble, Linear
from skpartial.labels import keep_single_positive
from skpartial.metrics import f1_micro_unknown_absent_scorer
from skpartial.solvers import Minibatch
from skpartial.thresholds import Prevalence, Recall, Threshold

SCENES = make_digit_scenes(600, scans="train", random_state=0)
TEST = make_digit_scenes(400, scans="test", random_state=1)
X, SEEN = SCENES.data, keep_single_positive(SCENES.target)
PRESENT = TEST.target == 1
SHARES = (SCENES.target == 1).mean(axis=0)
RNG = np.random.RandomState(0)
LOGITS = RNG.normal(size=(200, 3)).round(1)
RECORDED = RNG.uniform(size=LOGITS.shape) < [0.5, 0.05, 0.2]
WEIGHTS = RNG.randint(0, 4, size=LOGITS.shape).astype(float)


def best_cut(serves, x):
    """The highest cut between two scores that serves, by trying all."""
    levels = np.unique(x)
    cuts = np.concatenate([[levels[0] - 1], (levels[1:] + levels[:-1]) / 2, [levels[-1] + 1]])
    return max(cut for cut in cuts if serves(cut))


@pytest.mark.parametrize("recall", [0.1, 0.5, 0.9, 1.0])
def test_recall_is_the_highest_cut_that_finds_its_share(recall):
    found = Recall(recall).find(LOGITS, RECORDED, WEIGHTS)
    for j, cut in enumerate(found):
        w = WEIGHTS[:, j] * RECORDED[:, j]
        x = LOGITS[:, j]
        assert cut == pytest.approx(best_cut(lambda c, w=w, x=x: w[x > c].sum() >= recall * w.sum() - 1e-9, x))
    w = WEIGHTS * RECORDED
    common = best_cut(lambda c: w[c < LOGITS].sum() >= recall * w.sum() - 1e-9, LOGITS)
    assert Recall(recall, per_label=False).find(LOGITS, RECORDED, WEIGHTS) == pytest.approx(common)
    nothing = RECORDED & [True, True, False]
    own = Recall(recall).find(LOGITS, nothing, WEIGHTS)
    assert own[2] == pytest.approx(Recall(recall, per_label=False).find(LOGITS, nothing, WEIGHTS))


def test_prevalence_predicts_the_stated_share():
    shares = np.array([0.5, 0.02, 0.3])
    cuts = Prevalence(shares).find(LOGITS, RECORDED, np.ones_like(LOGITS))
    np.testing.assert_allclose((cuts < LOGITS).mean(axis=0), shares, atol=0.03)
    cut = Prevalence(0.25).find(LOGITS, RECORDED, np.ones_like(LOGITS))
    assert (cut < LOGITS).mean() == pytest.approx(0.25, abs=0.03)
    # A row of weight 2 is two rows.
    twice = np.repeat(LOGITS, WEIGHTS[:, 0].astype(int), axis=0)
    once = Prevalence(shares).find(LOGITS, RECORDED, WEIGHTS[:, :1] * np.ones(3))
    np.testing.assert_allclose(Prevalence(shares).find(twice, twice > 9, np.ones_like(twice)), once)


def test_labels_are_predicted_as_often_as_they_are_present_on_new_rows():
    clf = SinglePositiveClassifier(threshold=Prevalence(SHARES)).fit(X, SEEN)
    np.testing.assert_allclose(clf.predict(TEST.data).mean(axis=0), PRESENT.mean(axis=0), atol=0.08)
    assert clf.threshold_.shape == SHARES.shape
    common = SinglePositiveClassifier(threshold=Prevalence(SHARES.mean())).fit(X, SEEN)
    assert common.predict(TEST.data).mean() == pytest.approx(PRESENT.mean(), abs=0.03)
    assert isinstance(common.threshold_, float)


def test_recall_holds_on_new_presences():
    clf = SinglePositiveClassifier(threshold=Recall(0.8)).fit(X, SEEN)
    assert clf.predict(TEST.data)[PRESENT].mean() == pytest.approx(0.8, abs=0.06)
    lax = SinglePositiveClassifier(threshold=Recall(0.95)).fit(X, SEEN)
    assert (lax.predict(TEST.data) >= clf.predict(TEST.data)).all()


def test_only_intercepts_move_and_all_predictions_agree():
    plain = SinglePositiveClassifier(threshold=0.5).fit(X, SEEN)
    clf = pickle.loads(pickle.dumps(SinglePositiveClassifier(threshold=Recall(0.8)).fit(X, SEEN)))
    np.testing.assert_array_equal(clf.coef_, plain.coef_)
    np.testing.assert_allclose(clf.intercept_, plain.intercept_ - logit(clf.threshold_), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(clf.predict(TEST.data), plain.predict_proba(TEST.data) > clf.threshold_)
    np.testing.assert_array_equal(clf.predict(TEST.data), clf.predict_proba(TEST.data) > 0.5)
    np.testing.assert_array_equal(clf.predict(TEST.data), clf.decision_function(TEST.data) > 0)


@pytest.mark.parametrize("head", [CategoryGNN(n_steps=1, hidden_size=4), Ensemble(n_members=2), Linear()], ids=str)
def test_other_heads_and_going_on(head):
    settings = {"head": head, "solver": Minibatch(max_epochs=2), "random_state": 0, "warm_start": True}
    plain = SinglePositiveClassifier(threshold=0.5, **settings).fit(X, SEEN)
    clf = SinglePositiveClassifier(threshold=Recall(0.8), **settings).fit(X, SEEN)
    expected = plain.decision_function(TEST.data) - logit(clf.threshold_)
    np.testing.assert_allclose(clf.decision_function(TEST.data), expected, atol=1e-4)
    before = clf.decision_function(TEST.data)
    clf.set_params(solver__learning_rate=0.0).partial_fit(X, SEEN)
    np.testing.assert_allclose(clf.decision_function(TEST.data), before, atol=1e-3)


def test_it_is_a_parameter_like_others():
    clf = SinglePositiveClassifier(threshold=Recall(0.8))
    assert clone(clf).get_params()["threshold__recall"] == 0.8
    grid = {"threshold": [Recall()], "threshold__recall": [0.5, 0.8]}
    search = GridSearchCV(SinglePositiveClassifier(), grid, cv=2, scoring=f1_micro_unknown_absent_scorer).fit(X, SEEN)
    assert len(set(search.cv_results_["mean_test_score"])) == 2
    chosen = SinglePositiveClassifierCV(2, cv=2, threshold=Prevalence(0.24), random_state=0).fit(X, SEEN)
    assert chosen.predict(X).mean() == pytest.approx(0.24, abs=0.05)


def test_one_of_your_own():
    class Middle(Threshold):
        def find(self, logits, recorded, weights):
            return np.median(logits, axis=0)

    clf = SinglePositiveClassifier(threshold=Middle()).fit(X, SEEN)
    np.testing.assert_allclose(clf.predict(X).mean(axis=0), 0.5, atol=0.05)


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        (Recall(0.0), r"Recall: recall must be a number in \(0, 1\], got 0.0"),
        (Recall(0.5, per_label="no"), "Recall: per_label must be"),
        (Prevalence(1.5), r"must be a number in \(0, 1\), the mean number of labels per row divided by .*, got 1.5"),
        (Prevalence([0.5, 0.0]), r"got \[0.5, 0.0\]"),
        (Prevalence([0.5, 0.2]), "prevalence has 2 numbers, but y has 10 labels"),
        (Recall, "threshold must be 'auto', a number"),
    ],
)
def test_what_has_no_meaning(threshold, message):
    with pytest.raises(ValueError, match=message):
        SinglePositiveClassifier(threshold=threshold).fit(X, SEEN)


@pytest.mark.filterwarnings("ignore::skpartial.exceptions.UnfittableLabelsWarning")
@pytest.mark.parametrize("threshold", [Prevalence(0.5), Recall(0.9), "auto"])
@pytest.mark.parametrize("row", range(5))
def test_weight_on_a_single_row(threshold, row):
    X, Y = np.random.RandomState(0).randn(60, 4), np.eye(4, dtype=int)[np.arange(60) % 4]
    weights = np.zeros(60)
    weights[row] = 1
    clf = SinglePositiveClassifier(threshold=threshold).fit(X, Y, sample_weight=weights)
    assert np.isfinite(clf.threshold_).all()
