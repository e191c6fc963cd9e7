"""Dropout of a linear head's inputs: how it trains, and how uncertain its logits are."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from skpartial import PartialLabelClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.features._choice import as_features
from skpartial.features._moments import InputUnits
from skpartial.heads import Ensemble, HeadContext, Linear
from skpartial.heads._linear import LinearModule
from skpartial.heads._module import build_head
from skpartial.labels import drop_labels
from skpartial.relabeling import Relabeling
from skpartial.solvers import FullBatch, Minibatch
from skpartial.training._predict import HeadPredictor


def some_head(dropout, n_members=1):
    head = Linear(dropout) if n_members == 1 else Ensemble(n_members=n_members)
    module = build_head(head, HeadContext(6, 3))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    module.set_units(InputUnits(0.5))
    return module


def rows(*, sparse=False):
    X = np.random.default_rng(0).standard_normal((8, 6))
    X[X < -0.5] = 0
    kept = sp.csr_array(X) if sparse else X
    return X, as_features(kept, dtype=torch.float32, device=torch.device("cpu"), max_resident_bytes=None)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_variance_is_that_of_many_passes(sparse):
    X, features = rows(sparse=sparse)
    head = some_head(0.3)
    predictor = HeadPredictor(head, features)
    samples = predictor.sampled_logits(None, 20_000, seed=1)
    exact = predictor.logit_variance(None, dropout=0.9, n_samples=2, seed=0)
    weight = 0.5 * head.weight.detach().numpy()
    np.testing.assert_allclose(exact, 0.3 / 0.7 * X**2 @ (weight**2).T, rtol=1e-5)
    np.testing.assert_allclose(samples.var(0), exact, rtol=0.1)
    np.testing.assert_allclose(samples.mean(0), predictor.logits(None), atol=0.1)


def test_heads_without_dropout_have_their_inputs_dropped():
    X, features = rows()
    head = some_head(0.0, n_members=4)
    exact = HeadPredictor(head, features).logit_variance(torch.tensor([2, 5]), dropout=0.4, n_samples=2, seed=0)
    mean = 0.5 * head.weight.detach().numpy().reshape(4, 3, 6).mean(axis=0)
    np.testing.assert_allclose(exact, 0.4 / 0.6 * X[[2, 5]] ** 2 @ (mean**2).T, rtol=1e-5)


class Looks(Relabeling):
    """Notes how uncertain logits are."""

    seen: list

    def relabel(self, context):
        Looks.seen.append(context.logit_variance(dropout=0.25).numpy())


def test_rounds_have_it_in_closed_form(partial_data):
    X, Y = partial_data
    Looks.seen = []
    clf = PartialLabelClassifier("iu", relabeling=Looks(), alpha=0.01, solver=FullBatch(rounds=2)).fit(X, Y)
    np.testing.assert_allclose(Looks.seen[0], 0.25 / 0.75 * X**2 @ (clf.coef_**2).T, rtol=1e-3)


@pytest.mark.parametrize("sparse", [False, True])
def test_it_trains_with_dropout_and_predicts_without(sparse):
    scenes = make_digit_scenes(100, random_state=0)
    Y = drop_labels(scenes.target, known=0.5, random_state=0)
    X = sp.csr_array(scenes.data) if sparse else scenes.data

    def fit(dropout, seed=0):
        solver = Minibatch(max_epochs=15)  # by when draws of other versions have learned as much
        return PartialLabelClassifier(head=Linear(dropout), alpha=0.0, solver=solver, random_state=seed).fit(X, Y)

    plain, dropped = fit(0.0), fit(0.5)
    assert np.abs(plain.coef_ - dropped.coef_).max() > 1e-3
    np.testing.assert_array_equal(fit(0.5).coef_, dropped.coef_)
    np.testing.assert_allclose(
        dropped.decision_function(X), X @ dropped.coef_.T + dropped.intercept_, rtol=1e-3, atol=1e-4
    )
    assert dropped.score(X, scenes.target) > 0.5


def test_zeros_of_sparse_rows_stay_zeros():
    module = LinearModule(6, 3, dropout=0.5)
    X, _ = rows()
    batch = torch.as_tensor(X).to_sparse_coo()
    torch.manual_seed(0)
    kept = module._dropped(batch).to_dense().numpy()
    assert set(np.unique((kept[X != 0] / X[X != 0]).round(6))) == {0.0, 2.0}
    assert not kept[X == 0].any()


def test_what_has_no_meaning_is_refused(partial_data):
    with pytest.raises(ValueError, match=r"Linear: dropout must be a number in \[0, 1\), got 1"):
        PartialLabelClassifier(head=Linear(1.0), alpha=0.01).fit(*partial_data)
    with pytest.raises(ValueError, match=r"the head Linear\(dropout=0.5\) drops features at random. Use solver=Minib"):
        PartialLabelClassifier(head=Linear(0.5), solver=FullBatch(), alpha=0.01).fit(*partial_data)
    with pytest.raises(ValueError, match="Ensemble: n_members must be a whole number of at least 1, got 0"):
        PartialLabelClassifier(head=Ensemble(n_members=0), alpha=0.01).fit(*partial_data)
