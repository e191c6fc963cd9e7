"""Warnings name the line of the user's code from which they come, whatever lies between."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpartial import PartialLabelClassifier
from skpartial.exceptions import AmbiguousLabelsWarning, UnfittableLabelsWarning
from skpartial.images import Backbone, ImageFeatures
from skpartial.metrics import mean_average_precision_unknown_absent_scorer
from skpartial.model_selection import BatchedGridSearchCV, TunedThresholdsCV
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
