"""Linear heads are trained by products alone, and end where autograd and PyTorch's own optimisers take them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from skpartial import PartialLabelClassifier
from skpartial.features._choice import as_features
from skpartial.losses import (
    ROLE,
    WARP,
    AssumeNegative,
    AsymmetricLoss,
    EntropyMaximization,
    ExpectedPositives,
    IgnoreUnknown,
    LargeLoss,
    PartialBCE,
    PseudoNegative,
    WeakAssumeNegative,
)
from skpartial.regularizers import Regularizer
from skpartial.solvers import Minibatch
from skpartial.solvers.gradient._direct_steps import DirectSteps
from skpartial.solvers.gradient._gradient_steps import GradientSteps
from skpartial.solvers.gradient._linear_pass import LinearPass
from skpartial.solvers.gradient._linear_steps import LinearSteps
from skpartial.training._loop import train

LOSSES = [
    IgnoreUnknown(),
    PartialBCE(),
    AssumeNegative(label_smoothing=0.1),
    AssumeNegative(label_smoothing=(0.0, 0.1), unknown_weight=0.3, eps=1e-5),
    WeakAssumeNegative(),
    PseudoNegative(),
    LargeLoss(delta=0.05),
    LargeLoss("correct_permanently", delta=0.05),
    ExpectedPositives(2.0),
    ROLE(2.0),
    ROLE(2.0, estimator="factorized", rank=3),
    EntropyMaximization(0.1, 0.1, warm_up=1, n_epochs=3),
    AsymmetricLoss(),
    WARP(),
]


@pytest.fixture
def both_ways(monkeypatch):
    """Fit by products, and by autograd, which other heads are trained by; checks which way was taken."""
    passes = []
    run = LinearPass.run
    monkeypatch.setattr(LinearPass, "run", lambda self, *args: passes.append(self) or run(self, *args))

    def fit(loss, X, Y, *, sample_weight=None, fast=True, estimator=None, **parameters):
        fitted = []
        for by_products in (True, False):
            passes.clear()
            with monkeypatch.context() as patch:
                if not by_products:
                    patch.setattr("skpartial.solvers._minibatch.is_linear", lambda problem, plan: False)
                settings = {"batch_size": 16, "max_epochs": 3, **parameters}
                clf = PartialLabelClassifier(
                    loss, solver=Minibatch(**settings), random_state=0, **{"alpha": 1e-3, **(estimator or {})}
                )
                fitted.append(clf.fit(X, Y, sample_weight=sample_weight))
            assert bool(passes) == (by_products and fast)
        return fitted

    return fit


def assert_equal(found, expected, rtol=1e-9):
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=rtol, atol=rtol * np.abs(expected.coef_).max())
    np.testing.assert_allclose(found.intercept_, expected.intercept_, rtol=rtol, atol=rtol)
    for record, other in zip(found.history_, expected.history_, strict=True):
        assert record["loss"] == pytest.approx(other["loss"], rel=rtol)
    for name in ("label_estimates_", "corrected_labels_"):
        assert hasattr(found, name) == hasattr(expected, name)
        np.testing.assert_allclose(getattr(found, name, 0), getattr(expected, name, 0), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("weights", [None, "rows", "entries"])
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_losses(partial_data, both_ways, loss, weights):
    X, Y = partial_data
    rng = np.random.default_rng(0)
    weight = None if weights is None else rng.exponential(size=len(X) if weights == "rows" else Y.shape)
    if weight is not None:
        weight[3:30] = 0  # whole batches may weigh nothing
    assert_equal(*both_ways(loss, X, Y, sample_weight=weight, batch_size=7))


@pytest.mark.parametrize(
    "parameters",
    [
        {"optimizer": "adamw"},
        {"optimizer": "sgd"},
        {"optimizer": "sgd", "momentum": 0.0},
        {"schedule": "cosine"},
        {"warm_up": 0.3},
        {"optimizer": "sgd", "schedule": "cosine", "warm_up": 0.3},
        {"clip_norm": 1e-3},
        {"optimizer": "sgd", "clip_norm": 1e-2},
        {"shuffle": False, "batch_size": 50},
        {"max_resident_bytes": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "loss", [AssumeNegative(label_smoothing=0.1), LargeLoss(delta=0.05), ROLE(2.0, estimator="factorized", rank=3)]
)
def test_settings(partial_data, both_ways, loss, parameters):
    X, Y = partial_data
    found, expected = both_ways(loss, 5 * X + 1, Y, **parameters)
    # A step of Adam is as long where its gradient is rounding as where it is not.
    assert_equal(found, expected, rtol=1e-7)
    if "max_resident_bytes" not in parameters:
        plain, _ = both_ways(loss, 5 * X + 1, Y)
        assert not np.allclose(found.coef_, plain.coef_, rtol=1e-5)


@pytest.mark.parametrize("estimator", [{"alpha": 0.0}, {"alpha": 3.0}, {"class_weight": "balanced"}], ids=str)
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_penalty_and_class_weights(partial_data, both_ways, estimator, optimizer):
    X, Y = partial_data
    assert_equal(*both_ways(IgnoreUnknown(), X, Y, optimizer=optimizer, estimator=estimator), rtol=1e-7)


def test_weights_of_any_mean(partial_data, make_problem):
    """Estimators hand over weights of mean 1; a solver does not count on it."""
    X, Y = partial_data
    features = as_features(X, dtype=torch.float64, device=torch.device("cpu"))
    weight = np.random.default_rng(0).exponential(size=len(X)) * 30
    problem = make_problem(features, Y, PartialBCE(), weight=weight)
    plan = Minibatch("sgd", batch_size=16, max_epochs=3).plan(problem)
    found, expected = (train(problem, kind(problem, plan), 3) for kind in (LinearSteps, GradientSteps))
    np.testing.assert_allclose(found.parameters["weight"], expected.parameters["weight"], rtol=1e-9)
    assert found.history[-1]["loss"] == pytest.approx(expected.history[-1]["loss"], rel=1e-9)
    # Going back to where a pass began, in the midst of training, goes back to the moments, too.
    learner = LinearSteps(problem, plan)
    learner.run(1, report=lambda numbers, parameters: False)
    saved = copy.deepcopy(learner.state_dict())
    ends = []
    for _ in range(2):
        learner.run(2, report=lambda numbers, parameters: False)
        ends.append(learner.parameters()["weight"])
        learner.load_state_dict(saved)
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("entries", [1, 200])
@pytest.mark.parametrize("loss", [PartialBCE(), LargeLoss(delta=0.05)])
def test_rows_prepared_in_chunks(partial_data, both_ways, monkeypatch, loss, entries):
    monkeypatch.setattr("skpartial.solvers.gradient._linear_pass._ENTRIES", entries)
    assert_equal(*both_ways(loss, *partial_data))


@pytest.mark.parametrize("loss", [PartialBCE(), LargeLoss(delta=0.05)])
def test_sparse_features(partial_data, both_ways, loss):
    X, Y = partial_data
    found, expected = both_ways(loss, sp.csr_array(X), Y)
    assert_equal(found, expected)
    assert_equal(found, both_ways(loss, X, Y)[0])


def test_float32(partial_data, both_ways):
    X, Y = (array.astype(np.float32) for array in partial_data)
    found, expected = both_ways(AssumeNegative(label_smoothing=0.1), X, Y)
    assert found.coef_.dtype == np.float32
    assert_equal(found, expected, rtol=1e-4)


class Nothing(Regularizer):
    def __call__(self, batch):
        return 0 * batch.logits.sum()


def test_what_needs_autograd_has_it(partial_data, both_ways):
    both_ways("iu", *partial_data, fast=False, estimator={"regularizer": Nothing()})
    both_ways("iu", *partial_data, fast=False, accumulate=2)


def test_partial_fit_goes_on_with_the_moments(partial_data, monkeypatch):
    X, Y = partial_data
    streams = []
    for by_products in (True, False):
        with monkeypatch.context() as patch:
            if not by_products:
                patch.setattr("skpartial.solvers._minibatch.is_linear", lambda problem, plan: False)
            clf = PartialLabelClassifier("iu", solver=Minibatch(batch_size=16), random_state=0)
            for part in (slice(60), slice(60, 120), slice(60)):
                clf.partial_fit(X[part], Y[part])
            streams.append(clf)
    assert_equal(*streams)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "make",
    [
        lambda groups: torch.optim.Adam(groups, lr=0.01, betas=(0.8, 0.99)),
        lambda groups: torch.optim.AdamW(groups, lr=0.01, weight_decay=0.2),
        lambda groups: torch.optim.SGD(groups, lr=0.01, momentum=0.7),
        lambda groups: torch.optim.SGD(groups, lr=0.01),
    ],
)
def test_direct_steps_are_those_of_the_optimiser(make, dtype):
    """Over changes of the rate, a group that has no gradient for a while, and a state that is handed on."""

    def run(direct):
        generator = torch.Generator().manual_seed(0)
        parameters = [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in ((3, 4), (3,))]
        groups = [{"params": parameters[:1], "weight_decay": 0.1}, {"params": parameters[1:]}]
        optimizer = make(groups)
        for t in range(12):
            if t == 6:
                saved, optimizer = optimizer.state_dict(), make(groups)
                optimizer.load_state_dict(saved)
            if t in (0, 6):
                step = DirectSteps(optimizer).step if direct else optimizer.step
            for i, parameter in enumerate(parameters):
                gradient = torch.randn(parameter.shape, generator=generator).to(dtype)
                parameter.grad = None if i == 1 and 2 < t < 5 else gradient
            optimizer.param_groups[0]["lr"] = 0.01 * (1 + t)
            with torch.no_grad():
                step()
        return [parameter.detach() for parameter in parameters]

    for found, expected in zip(run(True), run(False)):
        torch.testing.assert_close(found, expected, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=0)
