"""The default penalty: relative to the spread of the features."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skpartial import PartialLabelClassifier, SinglePositiveClassifier, _task
from skpartial.datasets import make_digit_scenes
from skpartial.features._choice import as_features
from skpartial.features._moments import spread
from skpartial.heads import AveragePooling, CategoryGNN, Head
from skpartial.images import Backbone
from skpartial.labels import drop_labels, keep_single_positive
from skpartial.losses import AssumeNegative, IgnoreUnknown, get
from skpartial.metrics import mean_average_precision
from skpartial.model_selection import BatchedGridSearchCV
from skpartial.solvers import FullBatch, Minibatch

SCENES = make_digit_scenes(300, random_state=0)
X, Y = SCENES.data.astype(np.float64), drop_labels(SCENES.target, known=0.3, random_state=0)


def relative(Y, weight=None, n=None):
    """The penalty of `IgnoreUnknown` for features of spread 1: grows with the share known, and falls with the rows."""
    traits = IgnoreUnknown().traits()
    known = (np.asarray(Y) != 0).astype(float)
    share = np.average(known.mean(1) if np.ndim(weight) < 2 else known, weights=weight)
    return traits.relative_alpha * share**traits.alpha_exponent * by_rows(len(Y) if n is None else n)


def by_rows(n):
    """What a number of rows does to the penalty."""
    return (n / 1000) ** -0.75


RELATIVE = relative(Y)


def distance(X, weight=None):
    """By NumPy, in one go."""
    mean = np.average(X, axis=0, weights=weight)
    return np.average(np.square(X - mean).sum(1), weights=weight)


def held(X, dtype=torch.float64):
    return as_features(X, dtype=dtype, device=torch.device("cpu"))


def mean_squared_distance(features, row_weight=None):
    return spread(features, row_weight).mean_squared_distance


def test_mean_squared_distance():
    weight = np.random.default_rng(0).uniform(size=len(X))
    weight[::3] = 0
    for w in (None, weight):
        passed = None if w is None else torch.tensor(w)
        for matrix in (X, sp.csr_array(X), sp.csr_array(np.maximum(X - np.median(X), 0))):
            dense = matrix.toarray() if sp.issparse(matrix) else matrix
            assert mean_squared_distance(held(matrix), passed) == pytest.approx(distance(dense, w), rel=1e-12)
    # Two passes: far from zero one in float64 would have lost all digits, and float32 has them already.
    far = X[:, :5] + 1e9
    assert mean_squared_distance(held(far)) == pytest.approx(distance(X[:, :5]), rel=1e-6)
    # What a row of no weight holds does not matter.
    strange = X.copy()
    strange[::3] = 1e200
    assert mean_squared_distance(held(strange), torch.tensor(weight)) == pytest.approx(distance(X, weight), rel=1e-12)


def test_rows_that_are_alike():
    for alike in (np.full((9, 3), 0.1), np.zeros((9, 3)), np.full((9, 1), 1e-9)):
        assert mean_squared_distance(held(alike)) == 1
    assert mean_squared_distance(held(X), torch.zeros(len(X))) == 1


# Few rows: some labels have one sign only.
@pytest.mark.filterwarnings("ignore::skpartial.exceptions.UnfittableLabelsWarning")
def test_maps_have_a_row_for_every_position():
    maps = X[:32].reshape(32, 4, 4, 4).astype(np.float32)
    positions = maps.transpose(0, 2, 3, 1).reshape(-1, 4).astype(np.float64)
    weight = np.linspace(0, 1, 32)
    found = mean_squared_distance(held(maps, torch.float32), torch.tensor(weight))
    assert found == pytest.approx(distance(positions, np.repeat(weight, 16)), rel=1e-6)
    clf = PartialLabelClassifier(head=AveragePooling(), solver=Minibatch(max_epochs=1)).fit(maps, Y[:32])
    assert clf.alpha_ == pytest.approx(relative(Y[:32]) * distance(positions), rel=1e-6)


class Hidden(Head):
    """A hidden layer."""

    def build(self, context):
        hidden = torch.nn.Linear(context.n_features, 4)
        return torch.nn.Sequential(hidden, torch.nn.ReLU(), torch.nn.Linear(4, context.n_labels))


def test_other_heads_have_it_for_features_of_size_one():
    clf = PartialLabelClassifier(head=Hidden(), solver=Minibatch(max_epochs=1), random_state=0).fit(3 * X, Y)
    assert clf.alpha_ == pytest.approx(RELATIVE * distance(X) / np.square(X).mean(), rel=1e-2)
    network = PartialLabelClassifier(head=CategoryGNN(), solver=Minibatch(max_epochs=1), random_state=0).fit(3 * X, Y)
    assert network.alpha_ == pytest.approx(RELATIVE * distance(3 * X))


@settings(max_examples=10)
@given(
    scale=st.floats(1e-6, 1e6),
    kind=st.sampled_from([PartialLabelClassifier, SinglePositiveClassifier]),
)
def test_units_do_not_matter(scale, kind):
    labels = Y if kind is PartialLabelClassifier else keep_single_positive(SCENES.target)
    one = kind(random_state=0).fit(X, labels)
    other = kind(random_state=0).fit(scale * X + scale, labels)
    assert other.alpha_ == pytest.approx(scale**2 * one.alpha_, rel=1e-6)
    np.testing.assert_allclose(other.predict_proba(scale * X + scale), one.predict_proba(X), atol=1e-3)


@pytest.mark.parametrize("solver", [FullBatch(), Minibatch(max_epochs=2)])
@pytest.mark.parametrize("convert", [np.asarray, sp.csr_array])
def test_it_is_the_number_that_it_stands_for(solver, convert):
    auto = PartialLabelClassifier(solver=solver, random_state=0).fit(convert(X), Y)
    assert auto.alpha_ == pytest.approx(RELATIVE * distance(X), rel=1e-12)
    given_ = PartialLabelClassifier(solver=solver, random_state=0, alpha=auto.alpha_).fit(convert(X), Y)
    np.testing.assert_array_equal(given_.coef_, auto.coef_)
    assert PartialLabelClassifier(alpha=0.25).fit(X, Y).alpha_ == 0.25


def test_each_loss_has_its_own():
    labels = keep_single_positive(SCENES.target)
    for loss in ("an", "wan", "an_ls", "ll_r", AssumeNegative(surrogate="squared")):
        clf = SinglePositiveClassifier(loss).fit(X, labels)
        assert clf.alpha_ == pytest.approx(get(loss).traits().relative_alpha * by_rows(len(X)) * distance(X))
        relative = clone(clf).fit(2 * X, labels).alpha_ / distance(2 * X)
        assert clf.alpha_ / distance(X) == pytest.approx(relative)
    assert AssumeNegative().traits().relative_alpha > IgnoreUnknown().traits().relative_alpha


def test_grows_with_the_share_of_known_entries():
    few, rows = drop_labels(SCENES.target, known=0.1, random_state=0), np.arange(len(X)) % 2
    fewer = np.where(rows[:, None] == 1, few, 0)
    for labels in (few, fewer, SCENES.target, sp.csr_array(few)):
        known = labels.toarray() if sp.issparse(labels) else labels
        assert PartialLabelClassifier().fit(X, labels).alpha_ == pytest.approx(relative(known) * distance(X))
    weighted = PartialLabelClassifier().fit(X, fewer, sample_weight=rows)  # rows of no weight do not count
    assert weighted.alpha_ == pytest.approx(relative(few[1::2]) * distance(X[1::2]))
    assert relative(few) < relative(Y) < relative(SCENES.target)
    # Others have one strength for all shares.
    alphas = {PartialLabelClassifier("partial_bce").fit(X, labels).alpha_ for labels in (few, Y)}
    assert len(alphas) == 1


def test_weights_of_rows_and_entries():
    rng = np.random.default_rng(0)
    rows, entries = rng.integers(0, 3, len(X)), rng.uniform(size=Y.shape)
    weighted = PartialLabelClassifier().fit(X, Y, sample_weight=rows)
    repeated = PartialLabelClassifier().fit(np.repeat(X, rows, axis=0), np.repeat(Y, rows, axis=0))
    assert weighted.alpha_ == pytest.approx(repeated.alpha_, rel=1e-9)
    by_entry = PartialLabelClassifier().fit(X, Y, sample_weight=entries)
    assert by_entry.alpha_ == pytest.approx(relative(Y, entries) * distance(X, entries.mean(1)), rel=1e-6)


@pytest.mark.parametrize("solver", [FullBatch(), Minibatch(max_epochs=1)])
def test_falls_with_the_number_of_rows(solver):
    clf = PartialLabelClassifier(solver=solver, random_state=0)
    one = clf.fit(X, Y).alpha_
    assert clf.fit(np.tile(X, (16, 1)), np.tile(Y, (16, 1))).alpha_ == pytest.approx(one / 8)
    # Whole numbers stand for repeated rows; of other weights only ratios count.
    assert clf.fit(X, Y, sample_weight=np.full(len(X), 16)).alpha_ == pytest.approx(one / 8)
    for weight in (1.0, 1 / len(X), 1e-30, 2.5, 1e30):
        assert clf.fit(X, Y, sample_weight=np.full(len(X), weight)).alpha_ == pytest.approx(one)


def test_the_best_penalty_falls_as_it_does():
    """Against held-out scenes: the penalty for few rows is too strong for many, and that for very many is too weak."""
    few, many = 300, 4800
    scenes = make_digit_scenes(many + 1500, random_state=1)
    features, complete = scenes.data, np.where(scenes.target == 1, 1, -1)

    def score(n, alpha):
        clf = PartialLabelClassifier(alpha=alpha).fit(features[:n], complete[:n])
        return mean_average_precision(complete[many:], clf.decision_function(features[many:])), clf.alpha_

    (score_few, alpha_few), (score_many, _) = score(few, "auto"), score(many, "auto")
    assert score(many, alpha_few)[0] < score_many - 0.005
    assert score(few, alpha_few * by_rows(1e5) / by_rows(few))[0] < score_few - 0.01


@pytest.mark.filterwarnings("ignore::skpartial.exceptions.UnfittableLabelsWarning")
def test_afresh_in_each_fit_and_kept_in_a_stream(monkeypatch):
    monkeypatch.setattr(_task, "_SETTLED_ROWS", 150)
    clf = PartialLabelClassifier(random_state=0).partial_fit(X[:100], Y[:100])
    # Of a stream the end is not known: it counts as many rows.
    assert clf.alpha_ == pytest.approx(relative(Y[:100], n=10_000) * distance(X[:100]))
    settled = clf.partial_fit(3 * X[100:150], Y[100:150]).alpha_
    so_far = np.r_[X[:100], 3 * X[100:150]]
    assert settled == pytest.approx(relative(Y[100:150], n=10_000) * distance(so_far))
    assert clf.partial_fit(10 * X, Y).alpha_ == settled
    assert clf.fit(10 * X, Y).alpha_ == pytest.approx(RELATIVE * distance(10 * X))
    # A fit settles it for the stream that follows.
    assert clf.partial_fit(X[:10], Y[:10]).alpha_ == pytest.approx(RELATIVE * distance(10 * X))
    assert clf.set_params(alpha=0.5).partial_fit(X, Y).alpha_ == 0.5


def test_modules_of_a_stream_get_a_penalty_by_all_parts_so_far():
    clf = PartialLabelClassifier(head=Hidden(), random_state=0).partial_fit(X[:100], Y[:100])
    settled = clf.partial_fit(3 * X[100:150], Y[100:150]).alpha_
    so_far = np.r_[X[:100], 3 * X[100:150]]
    # They see features with a root mean square of 1.
    expected = relative(Y[100:150], n=10_000) * distance(so_far) / np.square(so_far).mean()
    assert settled == pytest.approx(expected)


def test_each_fold_of_a_search_has_its_own():
    grid = {"alpha": ["auto", 1.0], "loss": ["iu", "partial_bce"]}
    plain = GridSearchCV(PartialLabelClassifier(), grid, cv=3).fit(X, Y)
    batched = BatchedGridSearchCV(PartialLabelClassifier(), grid, cv=3).fit(X, Y)
    np.testing.assert_allclose(batched.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"], atol=1e-4)
    assert batched.best_estimator_.alpha_ == pytest.approx(plain.best_estimator_.alpha_)


@pytest.mark.filterwarnings("ignore::skpartial.exceptions.UnfittableLabelsWarning")
def test_networks_that_learn_their_features():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 5, stride=4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    images, labels = SCENES.images[:24], Y[:24]
    alphas = {}
    for finetune in ("head", "all", "linear_init"):
        backbone = Backbone(network, image_size=32, finetune=finetune)
        clf = PartialLabelClassifier(backbone=backbone, solver=Minibatch(max_epochs=1), random_state=0)
        alphas[finetune] = clf.fit(images, labels).alpha_
    assert alphas["all"] == 1e-4
    # The head goes on with the penalty of the stage that trained it alone.
    assert alphas["linear_init"] == pytest.approx(alphas["head"], rel=1e-6) != 1e-4


def test_features_that_overflow():
    with pytest.raises(ValueError, match="so large that training overflows"):
        PartialLabelClassifier().fit(1e200 * X, Y)
