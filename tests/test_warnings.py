"""Warnings name the line of the user's code from which they come, whatever lies between."""

from __future__ import annotations

import inspect
import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpartial import PartialLabelClassifier, PartialLabelClassifierCV
from skpartial.exceptions import AmbiguousLabelsWarning, UnfittableLabelsWarning
from skpartial.images import Backbone, ImageFeatures
from skpartial.metrics import mean_average_precision_unknown_absent_scorer
from skpartial.model_selection import BatchedGridSearchCV, PartialLabelKFold, TunedThresholdsCV
from skpartial.solvers import FullBatch, Minibatch

RNG = np.random.RandomState(0)
X = RNG.normal(size=(60, 4))
Y = np.where(X @ RNG.normal(size=(4, 3)) + RNG.normal(size=(60, 3)) > 0, 1, -1)
ALL_PRESENT = np.where([True, False, False], 1, Y)
POSITIVE = np.where(Y == 1, 1, 0)
SCORING = mean_average_precision_unknown_absent_scorer
FEW_STEPS = PartialLabelClassifier(solver=FullBatch(max_iter=1, tol=1e-12))
IMPATIENT = PartialLabelClassifier(solver=Minibatch(max_epochs=2, patience=2), random_state=0)
ALONE = clone(FEW_STEPS).set_params(warm_start=True)
GRID = {"solver__tol": [1e-12, 1e-13]}


def features_of_what_is_no_image():
    backbone = Backbone("resnet18", weights=None, image_size=32, on_error="skip")
    images = [np.zeros((8, 8, 3), np.uint8), "/no/such/image.png"]
    return ImageFeatures(backbone).fit(images).transform(images)


@pytest.mark.parametrize(
    ("call", "category"),
    [
        (lambda: FEW_STEPS.fit(X, Y), ConvergenceWarning),
        (lambda: IMPATIENT.fit(X, Y), ConvergenceWarning),
        (lambda: PartialLabelClassifier().fit(X, POSITIVE), AmbiguousLabelsWarning),
        (lambda: PartialLabelClassifier().fit(X, ALL_PRESENT), UnfittableLabelsWarning),
        (lambda: PartialLabelClassifier().partial_fit(X, POSITIVE), AmbiguousLabelsWarning),
        (lambda: make_pipeline(StandardScaler(), FEW_STEPS).fit(X, Y), ConvergenceWarning),
        (lambda: GridSearchCV(FEW_STEPS, GRID, scoring=SCORING, cv=2, n_jobs=1).fit(X, Y), ConvergenceWarning),
        (lambda: BatchedGridSearchCV(FEW_STEPS, GRID, scoring=SCORING, cv=2).fit(X, Y), ConvergenceWarning),
        (lambda: BatchedGridSearchCV(ALONE, GRID, scoring=SCORING, cv=2).fit(X, Y), UserWarning),
        (lambda: cross_val_score(FEW_STEPS, X, Y, scoring=SCORING, cv=2), ConvergenceWarning),
        (lambda: TunedThresholdsCV(FEW_STEPS, cv=2).fit(X, Y), ConvergenceWarning),
        (features_of_what_is_no_image, UserWarning),
    ],
)
def test_the_origin_is_the_line_of_the_user(call, category):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    caught = [warning for warning in caught if issubclass(warning.category, category)]
    assert caught
    lines, first = inspect.getsourcelines(call)
    for warning in caught:
        assert warning.filename == __file__
        assert first <= warning.lineno < first + len(lines)


RARE = np.where(np.arange(60)[:, None] < 4, [1, 1, 1], np.where(Y[:, :1] > 0, [-1, 1, -1], [-1, -1, 1]))


def warnings_of(call, category=UnfittableLabelsWarning):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught if issubclass(warning.category, category)]


def search(cv=5, **params):
    return GridSearchCV(PartialLabelClassifier(), {"alpha": [1e-3, 1e-2]}, scoring=SCORING, cv=cv, **params)


def test_a_search_warns_once_of_labels_and_advises_what_is_not_done_yet():
    rare = np.where(np.arange(60)[:, None] < 1, 1, np.where(Y == 1, [-1, 1, 1], -1))
    (said,) = warnings_of(lambda: search().fit(X, RARE))
    assert "1 of 3 labels cannot be fitted in a fold (0)" in said
    assert "stratify the folds with skpartial.model_selection.PartialLabelKFold, or choose a loss" in said
    (said,) = warnings_of(lambda: search(PartialLabelKFold(3, random_state=0)).fit(X, rare))
    assert "PartialLabelKFold" not in said
    assert "take fewer folds" in said
    # Each search for itself.
    assert len(warnings_of(lambda: [search().fit(X, RARE) for _ in range(2)])) == 2
    assert len(warnings_of(lambda: cross_val_score(PartialLabelClassifier(), X, RARE, scoring=SCORING))) == 1


def test_no_advice_on_folds_where_there_are_none_nor_on_a_loss_that_is_in_use():
    (said,) = warnings_of(lambda: PartialLabelClassifier().fit(X, ALL_PRESENT))
    assert "fold" not in said
    assert "treats unknown as negative" in said
    (said,) = warnings_of(lambda: PartialLabelClassifier("an").fit(X, ALL_PRESENT))
    assert "fold" not in said
    assert "treats unknown as negative" not in said
    assert len(warnings_of(lambda: [PartialLabelClassifier().fit(X, ALL_PRESENT) for _ in range(2)])) == 2


def test_tuned_thresholds_advise_no_folds_that_they_make_themselves():
    rare = np.where(np.arange(60)[:, None] < 1, 1, np.where(Y == 1, [-1, 1, 1], -1))
    (said,) = warnings_of(lambda: TunedThresholdsCV(PartialLabelClassifier(), cv=2, random_state=0).fit(X, rare))
    assert "PartialLabelKFold" not in said


def test_an_error_that_a_filter_makes_of_a_warning_is_raised_by_every_fold():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", ConvergenceWarning)
        with pytest.raises(ValueError, match="All the 3 fits failed"):
            cross_val_score(FEW_STEPS, X, Y, scoring=SCORING, cv=3)


def test_a_process_that_works_for_a_search_warns_once():
    code = f"""
import numpy as np, sys
from sklearn.model_selection import GridSearchCV
from skpartial import PartialLabelClassifier, PartialLabelClassifierCV
from skpartial.metrics import mean_average_precision_unknown_absent_scorer as scoring
X, Y = np.array({X.round(3).tolist()}), np.array({RARE.tolist()})
GridSearchCV(PartialLabelClassifier(), {{"alpha": [1e-3, 1e-2, 1e-1, 1]}}, scoring=scoring, cv=5, n_jobs=2).fit(X, Y)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # One for each process.
    assert 1 <= done.stderr.count("labels cannot be fitted in a fold") <= 2, done.stderr
    assert "unless it made these" in done.stderr


TABLE = np.random.default_rng(0).normal(size=(60, 5)) * [600, 400, 5, 0.8, 0.15]
TABLE_Y = np.where(TABLE[:, :2] + TABLE[:, 1:3] * [1, 100] > 0, 1, -1)


def test_columns_in_different_units():
    words = r"A quarter of the columns of X have standard deviations of at most .*scale X first"
    with pytest.warns(UserWarning, match=words) as record:
        PartialLabelClassifier().fit(TABLE, TABLE_Y)
    assert len(record) == 1
    with pytest.warns(UserWarning, match=words) as record:
        GridSearchCV(PartialLabelClassifier(), {"loss": ["iu", "partial_bce"]}, cv=2).fit(TABLE, TABLE_Y)
    assert len(record) == 1
    # Features of one unit, in any unit; scaled ones; and a penalty of the user's.
    PartialLabelClassifier().fit(1e6 * TABLE[:, :2], TABLE_Y)
    make_pipeline(StandardScaler(), PartialLabelClassifier()).fit(TABLE, TABLE_Y)
    PartialLabelClassifier(alpha=0.1).fit(TABLE, TABLE_Y)
    # Rows of weight 0 do not exist.
    far = np.r_[TABLE[:, :2], 1e6 * TABLE[:, :1] * [0, 1]]
    PartialLabelClassifier().fit(far, np.r_[TABLE_Y, TABLE_Y], np.repeat([1, 0], 60))


def test_labels_of_which_none_is_known():
    for loss in ("iu", "an"):
        with pytest.warns(AmbiguousLabelsWarning, match="y holds no known label"):
            PartialLabelClassifier(loss).fit(TABLE[:, :1], np.zeros_like(TABLE_Y))


@pytest.mark.parametrize(("has_absent", "cure"), [(True, "Propagation"), (False, "right for background rows")])
def test_rows_without_known_labels(has_absent, cure):
    Y = TABLE_Y.copy() if has_absent else np.maximum(TABLE_Y, 0)
    Y[20:] = 0
    with pytest.warns(AmbiguousLabelsWarning, match=cure):
        PartialLabelClassifier("an").fit(TABLE[:, :1], Y)


@pytest.mark.parametrize(
    ("scoring", "instead"),
    [
        ("f1_macro", "skpartial.metrics.f1_macro_scorer, or f1_macro_unknown_absent_scorer if"),
        ("accuracy", "skpartial.metrics.exact_match_scorer"),
        ("mean_average_precision", "skpartial.metrics.mean_average_precision_scorer"),
        (["f1_micro"], "skpartial.metrics.f1_micro_scorer"),
        ({"loss": "neg_log_loss"}, "a scorer such as"),
    ],
)
def test_names_of_metrics_that_know_no_unknown_labels(scoring, instead):
    X = TABLE[:, :1]
    with pytest.raises(ValueError, match=f"which know no unknown labels. Pass {instead}"):
        BatchedGridSearchCV(PartialLabelClassifier(), {"alpha": [1, 2]}, scoring=scoring, refit=False).fit(X, TABLE_Y)
    if isinstance(scoring, str):
        with pytest.raises(ValueError, match=instead):
            PartialLabelClassifierCV(scoring=scoring).fit(X, TABLE_Y)
    # One column of classes is what these metrics are made for.
    BatchedGridSearchCV(PartialLabelClassifier(), {"alpha": [1, 2]}, scoring="f1", cv=2).fit(X, TABLE_Y[:, 0])
