"""From which score on positive-only labels are predicted."""

import numpy as np
import pytest
from scipy.special import logit
from sklearn.base import clone
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV

from skpartial import SinglePositiveClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.heads import CategoryGNN
from skpartial.labels import keep_single_positive
from skpartial.losses import ROLE, AssumeNegative
from skpartial.metrics import f1_micro_unknown_absent_scorer
from skpartial.model_selection import BatchedGridSearchCV
from skpartial.solvers import Minibatch
from skpartial.thresholds import Prevalence
from skpartial.training._predict import HeadPredictor

SCENES = make_digit_scenes(900, scans="train", random_state=0)
TEST = make_digit_scenes(400, scans="test", random_state=1)
X, SEEN = SCENES.data, keep_single_positive(SCENES.target)
TRUTH = TEST.target == 1


def test_about_as_many_labels_are_predicted_as_are_present():
    plain = SinglePositiveClassifier(threshold=0.5, random_state=0).fit(X, SEEN)
    clf = SinglePositiveClassifier(random_state=0).fit(X, SEEN)
    found, before = (model.predict(TEST.data).sum(1).mean() for model in (clf, plain))
    assert before < 0.2 * TRUTH.sum(1).mean()
    assert 0.7 < found / TRUTH.sum(1).mean() < 1.4
    best = max(f1_score(TRUTH, plain.predict_proba(TEST.data) >= t, average="micro") for t in np.geomspace(0.01, 0.9))
    assert f1_score(TRUTH, clf.predict(TEST.data), average="micro") > best - 0.05


def test_only_intercepts_move():
    plain = SinglePositiveClassifier(threshold=0.5, random_state=0).fit(X, SEEN)
    clf = SinglePositiveClassifier(random_state=0).fit(X, SEEN)
    np.testing.assert_array_equal(clf.coef_, plain.coef_)
    np.testing.assert_allclose(clf.intercept_, plain.intercept_ - logit(clf.threshold_), rtol=1e-5)
    # predict, decision_function and predict_proba agree, on what the threshold says.
    recorded = plain.predict_proba(TEST.data)
    np.testing.assert_array_equal(clf.predict(TEST.data), recorded > clf.threshold_)
    np.testing.assert_array_equal(clf.predict(TEST.data), clf.predict_proba(TEST.data) > 0.5)
    np.testing.assert_array_equal(clf.predict(TEST.data), clf.decision_function(TEST.data) > 0)
    assert plain.threshold_ == 0.5
    given = SinglePositiveClassifier(threshold=0.1).fit(X, SEEN)
    np.testing.assert_array_equal(given.predict(TEST.data), recorded > 0.1)


def test_it_is_what_held_out_presences_are_given():
    """The same, put together from public parts."""
    clf = SinglePositiveClassifier().fit(X, SEEN)
    order = np.random.RandomState(0).permutation(len(X))
    fitted, asked = np.sort(order[:600]), np.sort(order[600:])
    other = SinglePositiveClassifier(threshold=0.5, alpha=clf.alpha_).fit(X[fitted], SEEN[fitted])
    given = other.predict_proba(X[asked])[SEEN[asked] == 1].mean()
    assert clf.threshold_ == pytest.approx(0.45 * given, rel=1e-4)


@pytest.mark.parametrize(
    "parameters",
    [
        {"loss": "wan"},
        {"loss": ROLE(2.4), "solver": Minibatch(max_epochs=1)},
    ],
)
def test_where_probabilities_are_not_those_of_being_recorded(parameters):
    assert SinglePositiveClassifier(**parameters, random_state=0).fit(X, SEEN).threshold_ == 0.5


def f1_of(clf):
    return f1_score(TEST.target, clf.predict(TEST.data), average="micro")


@pytest.mark.parametrize("parameters", [{"loss": "an_ls"}, {"loss": "ll_r"}, {"class_weight": [2.0] * 10}], ids=str)
def test_losses_near_the_plain_one_have_a_threshold_of_their_own(parameters):
    half = SinglePositiveClassifier(**parameters, threshold=0.5, random_state=0).fit(X, SEEN)
    clf = SinglePositiveClassifier(**parameters, random_state=0).fit(X, SEEN)
    assert f1_of(clf) > f1_of(SinglePositiveClassifier().fit(X, SEEN)) - 0.03
    assert f1_of(clf) > f1_of(half) + 0.1


def test_smoothed_negatives_raise_the_threshold_from_their_own_probability():
    smoothed = AssumeNegative((0.0, 0.1))
    clf = SinglePositiveClassifier(smoothed).fit(X, SEEN)
    order = np.random.RandomState(0).permutation(900)
    fitted, asked = np.sort(order[:600]), np.sort(order[600:])
    other = SinglePositiveClassifier(smoothed, threshold=0.5, alpha=clf.alpha_).fit(X[fitted], SEEN[fitted])
    given = other.predict_proba(X[asked])[SEEN[asked] == 1].clip(0.1).mean()
    assert clf.threshold_ == pytest.approx(0.1 + 0.45 * (given - 0.1), rel=1e-4)


def test_class_weights_move_the_odds_of_their_label():
    weight = np.linspace(1, 4, 10)
    clf = SinglePositiveClassifier(class_weight=weight).fit(X, SEEN)
    # Up to the factor that the weights bring, all labels have the same threshold.
    np.testing.assert_allclose(logit(clf.threshold_) - np.log(weight), logit(clf.threshold_[0]), rtol=1e-6)
    pairs = SinglePositiveClassifier(class_weight=np.c_[3 * np.ones(10), 3 * weight]).fit(X, SEEN)
    np.testing.assert_allclose(pairs.threshold_, clf.threshold_, rtol=1e-3)


@pytest.mark.filterwarnings("ignore::skpartial.exceptions.AmbiguousLabelsWarning")
def test_weights_with_smoothing():
    """By the weighted optimum of the smoothed loss at a rate r of recording, for rows that tell nothing."""
    rng = np.random.default_rng(0)
    recorded = (rng.random((4000, 2)) < [0.1, 0.3]).astype(int)
    smoothing, weight = (0.02, 0.1), np.array([3.0, 0.5])
    nothing = np.zeros((4000, 1))
    clf = SinglePositiveClassifier(AssumeNegative(smoothing), class_weight=weight).fit(nothing, recorded)

    def fitted(r):
        return (weight * (1 - smoothing[0]) * r + smoothing[1] * (1 - r)) / (weight * r + 1 - r)

    half = clone(clf).set_params(threshold=0.5).fit(nothing, recorded)
    np.testing.assert_allclose(half.predict_proba(nothing)[0], fitted(recorded.mean(0)), rtol=1e-3)
    # The mean rate at which recorded entries are recorded.
    mean = (recorded.mean(0) @ recorded.sum(0)) / recorded.sum()
    np.testing.assert_allclose(clf.threshold_, fitted(0.45 * mean), rtol=0.03)


def parts(size):
    return [slice(start, start + size) for start in range(0, len(X), size)]


@pytest.mark.parametrize("size", [30, 300])
def test_a_stream_finds_about_the_threshold_of_a_fit(size):
    clf, whole = SinglePositiveClassifier(random_state=0), SinglePositiveClassifier().fit(X, SEEN)
    for _ in range(4):
        for part in parts(size):
            clf.partial_fit(X[part], SEEN[part])
    assert f1_of(clf) > f1_of(whole) - 0.06
    np.testing.assert_array_equal(clf.predict(X), clf.predict_proba(X) > 0.5)
    # Intercepts move by the newest threshold only.
    plain = SinglePositiveClassifier(random_state=0, threshold=0.5)
    for _ in range(4):
        for part in parts(size):
            plain.partial_fit(X[part], SEEN[part])
    np.testing.assert_allclose(clf.intercept_, plain.intercept_ - logit(clf.threshold_), rtol=1e-4)


def test_numbers_and_rules_in_a_stream():
    clf = SinglePositiveClassifier(threshold=0.1).partial_fit(X, SEEN)
    assert clf.threshold_ == pytest.approx(0.1)
    assert clf.set_params(threshold=0.2).partial_fit(X, SEEN).threshold_ == pytest.approx(0.2)
    rule = SinglePositiveClassifier(threshold=Prevalence(0.2))
    with pytest.raises(ValueError, match=r"Prevalence.*needs all rows: call fit on some rows first"):
        rule.partial_fit(X, SEEN)
    found = rule.fit(X, SEEN).threshold_
    np.testing.assert_array_equal(rule.partial_fit(X, SEEN).threshold_, found)
    stream = SinglePositiveClassifier("wan", random_state=0).partial_fit(X, SEEN)
    assert stream.threshold_ == 0.5
    # The stream goes on estimating where it may.
    assert stream.set_params(loss="an").partial_fit(X, SEEN).threshold_ < 0.4
    assert stream.set_params(threshold=0.6).partial_fit(X, SEEN).threshold_ == pytest.approx(0.6)
    assert stream.set_params(threshold="auto").partial_fit(X, SEEN).threshold_ < 0.4


def test_complete_labels_and_classes_need_none():
    assert SinglePositiveClassifier().fit(X, SCENES.target).threshold_ == 0.5
    assert SinglePositiveClassifier().fit(X, SEEN[:, 0] == 1).threshold_ == 0.5
    for y in (SCENES.target, SEEN[:, 0] == 1):
        clf = SinglePositiveClassifier(random_state=0)
        for part in parts(300):
            assert clf.partial_fit(X[part], y[part]).threshold_ == 0.5


def test_going_on_does_not_move_intercepts_twice():
    clf = SinglePositiveClassifier(warm_start=True, random_state=0).fit(X, SEEN)
    intercept, steps = clf.intercept_.copy(), clf.n_iter_
    assert clf.fit(X, SEEN).n_iter_ < steps
    np.testing.assert_allclose(clf.intercept_, intercept, atol=1e-3)
    # A stream goes on with the threshold of the fit before it.
    clf.set_params(solver=Minibatch(learning_rate=0.0)).partial_fit(X[:50], SEEN[:50])
    np.testing.assert_allclose(clf.intercept_, intercept, atol=1e-3)


def test_searches_see_it():
    grid = {"alpha": ["auto", 100.0]}
    options = {"cv": 3, "scoring": f1_micro_unknown_absent_scorer}
    plain = GridSearchCV(SinglePositiveClassifier(random_state=0), grid, **options).fit(X, SEEN)
    batched = BatchedGridSearchCV(SinglePositiveClassifier(random_state=0), grid, **options).fit(X, SEEN)
    scores = plain.cv_results_["mean_test_score"]
    np.testing.assert_allclose(batched.cv_results_["mean_test_score"], scores, atol=0.01)
    assert scores.max() > 0.4
    half = GridSearchCV(SinglePositiveClassifier(threshold=0.5), grid, **options).fit(X, SEEN)
    assert half.cv_results_["mean_test_score"].max() < scores.max() - 0.1


@pytest.mark.parametrize("threshold", [0, 1, -0.5, "half", None, True])
def test_wrong_thresholds(threshold):
    with pytest.raises(ValueError, match=r"threshold must be 'auto', a number in \(0, 1\), or a rule"):
        SinglePositiveClassifier(threshold=threshold).fit(X, SEEN)


def test_before_a_fit_there_is_none():
    assert not hasattr(SinglePositiveClassifier(), "threshold_")


def test_heads_without_intercepts_of_their_own():
    solver = Minibatch(max_epochs=3)
    head = CategoryGNN(n_steps=1, hidden_size=4)
    plain = SinglePositiveClassifier(head=head, solver=solver, threshold=0.5, random_state=0).fit(X, SEEN)
    clf = SinglePositiveClassifier(head=head, solver=solver, random_state=0).fit(X, SEEN)
    assert 0 < clf.threshold_ < 0.4
    expected = plain.decision_function(TEST.data) - logit(clf.threshold_)
    np.testing.assert_allclose(clf.decision_function(TEST.data), expected, atol=1e-5)


def test_rows_are_asked_about_in_blocks(monkeypatch):
    """With many labels the logits of all rows do not fit in memory; the threshold does not depend on the blocks."""
    scenes = make_digit_scenes(300, random_state=0)
    X, Y = scenes.data, keep_single_positive(scenes.target, random_state=0)
    whole = SinglePositiveClassifier(random_state=0).fit(X, Y)
    asked, logits = [], HeadPredictor.logits
    monkeypatch.setattr(HeadPredictor, "logits", lambda self, rows: asked.append(len(rows)) or logits(self, rows))
    monkeypatch.setattr("skpartial._threshold._ASKED_ENTRIES", 7 * Y.shape[1])
    in_blocks = SinglePositiveClassifier(random_state=0).fit(X, Y)
    assert (max(asked), sum(asked)) == (7, 100)
    np.testing.assert_allclose(in_blocks.intercept_, whole.intercept_, atol=1e-6)
