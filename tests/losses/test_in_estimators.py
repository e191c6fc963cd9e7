"""Every loss by its short name, in both estimators: fit, predict, clone, pickle and grid search."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.labels import keep_single_positive
from skpartial.losses import get
from skpartial.solvers import Minibatch

NAMES = [
    "iu",
    "partial_bce",
    "an",
    "an_ls",
    "wan",
    "pseudo_negative",
    "epr",
    "role",
    "ll_r",
    "ll_ct",
    "ll_cp",
    "pairwise",
    "warp",
    "ramp_warp",
    "lsep",
    "zlpr",
    "asl",
    "csl",
    "hill",
    "splc",
    "em",
    "gr",
]


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((240, 8)).astype(np.float32)
    Y = np.where(X @ rng.standard_normal((8, 4)) > 0.8, 1, -1)
    X, Y = X[(Y == 1).any(1)], Y[(Y == 1).any(1)]
    partial = np.where(rng.random(Y.shape) < 0.5, 0, Y)
    partial[:4] = Y[:4]
    return X, Y, partial, np.asarray(keep_single_positive(Y, random_state=0))


@pytest.mark.parametrize("kind", [PartialLabelClassifier, SinglePositiveClassifier])
@pytest.mark.parametrize("name", NAMES)
def test_trains_in_minibatches(scenes, kind, name):
    X, Y, partial, single = scenes
    positive_only = kind is SinglePositiveClassifier and name not in ("iu", "partial_bce", "lsep", "zlpr")
    loss = get(name).set_params(expected_positives=1.5) if name in ("epr", "role") else name
    Z = single if positive_only else partial
    before = Z.copy()
    clf = kind(loss, solver=Minibatch(max_epochs=8), random_state=0).fit(X, Z)
    np.testing.assert_array_equal(Z, before)
    scores = clf.decision_function(X)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.decision_function(X), scores)
    np.testing.assert_array_equal(clone(clf).fit(X, Z).decision_function(X), scores)
    assert clf.score(X, Y) > (Y == 1).mean() + 0.3


def test_searched_over(scenes):
    X, _, partial, _ = scenes
    losses = [get(name).set_params(expected_positives=1.5) if name in ("epr", "role") else get(name) for name in NAMES]
    clf = PartialLabelClassifier(solver=Minibatch(max_epochs=2), random_state=0)
    search = GridSearchCV(clf, {"loss": losses}, cv=2, error_score="raise").fit(X, partial)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    over_role = GridSearchCV(
        clf.set_params(loss="role"),
        {"loss__expected_positives": [1.0, 2.0], "loss__estimator": ["table", "network"]},
        cv=2,
        error_score="raise",
    ).fit(X, partial)
    assert hasattr(over_role.best_estimator_, "label_estimates_")
