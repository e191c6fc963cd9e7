"""Generated label matrices and features: finite probabilities or a clear error, never NaN, never silence."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.exceptions import AmbiguousLabelsWarning, UnfittableLabelsWarning
from skpartial.losses import (
    LSEP,
    ROLE,
    SPLC,
    WARP,
    ZLPR,
    AssumeNegative,
    AsymmetricLoss,
    EntropyMaximization,
    ExpectedPositives,
    GeneralizedRobust,
    Hill,
    IgnoreUnknown,
    LargeLoss,
    PairwiseRanking,
    PartialBCE,
    PseudoNegative,
    RampWARP,
    SelectiveLoss,
    WeakAssumeNegative,
)
from skpartial.solvers import FullBatch, Minibatch

EXPECTED_WARNINGS = (AmbiguousLabelsWarning, UnfittableLabelsWarning, ConvergenceWarning, DataConversionWarning)
# What may be said of generated input: values too large, and an array of one column, which counts as 1-D y.
EXPECTED_ERRORS = re.compile(
    r"overflows? float|training loss became|no longer finite|only one class|one column, which is read as two classes"
)

LOSSES = [
    IgnoreUnknown(),
    PartialBCE(),
    PartialBCE(gamma=-1),
    AssumeNegative(),
    AssumeNegative(label_smoothing=0.1),
    AssumeNegative(unknown_weight=0.0),
    WeakAssumeNegative(),
    IgnoreUnknown(eps=1e-5),
    PseudoNegative(),
    ExpectedPositives(0.7),
    ROLE(0.7),
    ROLE(0.7, estimator="factorized", rank=2, storage="float16"),
    ROLE(0.7, estimator="network", rank=2),
    LargeLoss("reject", delta=0.2),
    LargeLoss("correct", delta=0.2),
    LargeLoss("correct_permanently", delta=0.2),
    LargeLoss("correct", delta=0.3, threshold="absolute"),
    PairwiseRanking(),
    PairwiseRanking("logit"),
    WARP(),
    RampWARP(rank="sample"),
    LSEP(unknown_weight=0.5),
    ZLPR(unknown_weight=1.0),
    AsymmetricLoss(),
    SelectiveLoss(),
    Hill(),
    SPLC(),
    EntropyMaximization(pseudo_weight=0.2, warm_up=1, n_epochs=3),
    GeneralizedRobust(),
]


@st.composite
def problems(draw):
    n, d, n_labels = draw(st.integers(1, 12)), draw(st.integers(1, 5)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = rng.normal(size=(n, d)) * 10.0 ** draw(st.sampled_from([-300, -30, -5, 0, 0, 0, 5, 18, 30, 150, 307]))
    if draw(st.booleans()):
        X[:, rng.integers(d)] = draw(st.sampled_from([0.0, 1.0, 1e6]))
    if draw(st.booleans()):
        X[rng.random(X.shape) < 0.5] = 0
    Y = rng.choice(
        [-1, 0, 1], p=draw(st.sampled_from([(0.3, 0.4, 0.3), (0, 0.8, 0.2), (0.05, 0.9, 0.05)])), size=(n, n_labels)
    )
    if draw(st.booleans()):
        Y[:, rng.integers(n_labels)] = draw(st.sampled_from([-1, 0, 1]))
    if draw(st.booleans()):
        Y[rng.integers(n)] = 0
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    with np.errstate(over="ignore"):
        X = np.clip(X, np.finfo(dtype).min, np.finfo(dtype).max).astype(dtype)
    return X, Y.astype(np.int8)


def fit_and_predict(clf, X, Y, X_new, *, converged=False):
    """Probabilities, or None after an error that may be expected, or if a fit did not converge but should have."""
    with warnings.catch_warnings():
        for category in EXPECTED_WARNINGS:
            warnings.simplefilter("ignore", category)
        if converged:
            warnings.simplefilter("error", ConvergenceWarning)
        try:
            clf.fit(X, Y)
            proba = clf.predict_proba(X_new)
        except ConvergenceWarning:
            return None
        except ValueError as error:
            if not EXPECTED_ERRORS.search(str(error)) or "\n" in str(error):
                raise
            return None
    assert np.isfinite(proba).all()
    assert ((proba > 0) & (proba < 1)).all()
    if hasattr(clf, "coef_"):
        assert np.isfinite(clf.coef_).all()
        assert np.isfinite(clf.intercept_).all()
    assert set(np.unique(clf.predict(X_new))) <= {-1, 0, 1}
    return proba


@pytest.mark.parametrize("Classifier", [PartialLabelClassifier, SinglePositiveClassifier])
@settings(max_examples=75, suppress_health_check=[HealthCheck.too_slow])
@given(
    problems(),
    st.sampled_from(LOSSES),
    st.sampled_from(["auto", Minibatch(max_epochs=2), Minibatch("sgd", max_epochs=2)]),
    st.sampled_from([0.0, 1e-4, 1.0, 1e6]),
    st.sampled_from([np.asarray, sp.csr_array]),
)
@example((np.zeros((1, 1)), np.ones((1, 2), dtype=np.int8)), IgnoreUnknown(), "auto", 0.0, np.asarray)
@example(
    (np.full((3, 2), 3e38, dtype=np.float32), np.eye(3, 2, dtype=np.int8)), AssumeNegative(), "auto", 0.0, np.asarray
)
def test_any_problem(Classifier, problem, loss, solver, alpha, form):
    X, Y = problem
    # One label has no ranks: such a y is refused, which has its own test.
    assume(Y.shape[1] > 1 or not isinstance(loss, PairwiseRanking | WARP | RampWARP | LSEP))
    clf = Classifier(loss, solver=solver, alpha=alpha, random_state=0)
    proba = fit_and_predict(clf, form(X), form(Y) if form is sp.csr_array else Y, form(X))
    if proba is not None and not clf._binary:
        assert proba.shape == Y.shape


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(problems(), st.integers(0, 2**32 - 1))
def test_rows_in_another_order_are_the_same_problem(problem, seed):
    X, Y = problem
    X = X.astype(np.float64)  # in float32, features of 1e29 leave gaps that are seen in the probabilities
    order = np.random.default_rng(seed).permutation(len(X))
    clf = PartialLabelClassifier("an_ls", alpha=0.1, solver=FullBatch(tol=1e-8))
    fitted = [
        fit_and_predict(clf, rows, sp.csr_array(labels), X, converged=True)
        for rows, labels in ((X, Y), (X[order], Y[order]))
    ]
    if all(proba is not None for proba in fitted):
        np.testing.assert_allclose(fitted[0], fitted[1], atol=1e-3)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(problems())
def test_labels_do_not_influence_each_other(problem):
    """One label fitted alone, or among others, under losses without row weights."""
    X, Y = problem
    X = np.clip(X.astype(np.float64), -1e3, 1e3)
    solver = FullBatch(tol=1e-10)
    together = fit_and_predict(PartialLabelClassifier("an_ls", alpha=0.1, solver=solver), X, sp.csr_array(Y), X)
    alone = fit_and_predict(PartialLabelClassifier("an_ls", alpha=0.1, solver=solver), X, sp.csr_array(Y[:, :1]), X)
    np.testing.assert_allclose(together[:, 0], alone[:, 0], atol=1e-4)


@pytest.mark.parametrize("Classifier", [PartialLabelClassifier, SinglePositiveClassifier])
def test_a_prior_is_all_that_constant_features_allow(Classifier):
    Y = np.array([[1, -1], [1, 1], [-1, 1], [1, -1]])
    proba = Classifier("an").fit(np.ones((4, 3)), Y).predict_proba(np.ones((1, 3)))
    np.testing.assert_allclose(proba, [[0.75, 0.5]], atol=1e-3)
