"""Seeded fits draw from generators of their own: what other threads draw from PyTorch's stays what it would be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch._dynamo  # which optimisers import, and which looks at all functions of PyTorch
from torch import nn

from skpartial import PartialLabelClassifier
from skpartial.features._matrix import ResidentFeatures
from skpartial.heads import AveragePooling, Head, Linear, WeldonPooling, WildcatPooling
from skpartial.heads._module import WrappedHead
from skpartial.losses._registry import _by_name
from skpartial.solvers import FullBatch, Minibatch
from skpartial.training._predict import HeadPredictor


class WithDropout(Head):
    """A head of PyTorch's own layers."""

    def build(self, context):
        return nn.Sequential(nn.Linear(context.n_features, 4), nn.Dropout(0.5), nn.Linear(4, context.n_labels))


@pytest.fixture
def untouchable(monkeypatch):
    """Refuses everything by which PyTorch's own generator is drawn from, seeded or put back."""

    def refuse(*args, **kwargs):
        raise AssertionError("PyTorch's own generator is touched")

    for name in ("manual_seed", "set_rng_state", "seed"):
        monkeypatch.setattr(torch, name, refuse)
        monkeypatch.setattr(torch.random, name, refuse)
    monkeypatch.setattr(torch.random, "fork_rng", refuse)
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", sorted(_by_name()))
def test_linear_heads(partial_data, untouchable, tmp_path, name):
    X, Y = partial_data
    Y = np.where(Y == 0, -1, Y) if name in ("bce", "csl") else Y
    for solver in (Minibatch(max_epochs=2), Minibatch(max_epochs=2, accumulate=2)):
        clf = PartialLabelClassifier(name, solver=solver, random_state=0, checkpoint_dir=tmp_path)
        clf.fit(X, Y).predict(X)


def test_full_batch_and_streams(partial_data, untouchable):
    X, Y = partial_data
    PartialLabelClassifier(solver=FullBatch(), random_state=0).fit(X, Y).predict(X)
    PartialLabelClassifier("iu", random_state=0).partial_fit(X, Y).partial_fit(X, Y).predict(X)


@pytest.mark.parametrize("head", [AveragePooling(), WeldonPooling(2), WildcatPooling()], ids=str)
def test_pooling_heads(untouchable, head):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(30, 4, 3, 3)), rng.integers(-1, 2, size=(30, 3))
    clf = PartialLabelClassifier("iu", head=head, solver=Minibatch(max_epochs=2), random_state=0)
    clf.fit(X, Y).predict(X)


def test_heads_that_draw_are_seeded_and_the_generator_put_back(partial_data):
    X, Y = partial_data
    assert WithDropout.draws
    assert not Linear().draws
    clf = PartialLabelClassifier("iu", head=WithDropout(), solver=Minibatch(max_epochs=2), random_state=0)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = clf.fit(X, Y).decision_function(X)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    np.testing.assert_array_equal(clf.fit(X, Y).decision_function(X), first)


def sampled(dropout, x, n_samples=2000, seed=0):
    """Logits under a dropout that is all there is of a head, and a scale that it needs to have a parameter."""
    module = nn.Sequential(
        dropout, nn.Flatten(), nn.utils.skip_init(nn.Linear, x[0].numel(), 2 * x[0].numel(), bias=False)
    ).eval()
    weight = torch.eye(x[0].numel()).repeat(2, 1)
    module[2].weight = nn.Parameter(weight)
    features = ResidentFeatures(x.flatten(1)) if x.ndim == 2 else None
    head = WrappedHead(module, len(weight)).eval()
    predictor = HeadPredictor(head, features)
    predictor._seen = lambda rows: iter([x])
    return predictor.sampled_logits(None, n_samples, seed)[..., : x[0].numel()]


@pytest.mark.parametrize(
    ("dropout", "shape"),
    [
        (nn.Dropout(0.3), (2, 6)),
        (nn.Dropout(0.0), (2, 6)),
        (nn.Dropout(1.0), (2, 6)),
        (nn.Dropout1d(0.3), (2, 3, 4)),
        (nn.Dropout2d(0.3), (2, 3, 2, 2)),
        (nn.Dropout3d(0.3), (2, 3, 2, 1, 2)),
        (nn.AlphaDropout(0.3), (2, 6)),
        (nn.FeatureAlphaDropout(0.3), (2, 3, 4)),
    ],
    ids=str,
)
def test_samples_under_dropout(untouchable, dropout, shape):
    """As PyTorch's dropout in training: the same values, about as often, and together where channels are dropped."""
    x = torch.arange(1.0, 1 + np.prod(shape)).reshape(shape) / 10
    found = sampled(dropout, x)
    expected = _in_training(dropout, x)
    assert not dropout.training
    for i in range(x[0].numel()):
        for row in range(len(x)):
            values, shares = np.unique(found[:, row, i].numpy().round(4), return_counts=True)
            wanted, wanted_shares = np.unique(expected[:, row, i].numpy().round(4), return_counts=True)
            np.testing.assert_allclose(values, wanted, atol=2e-4)
            np.testing.assert_allclose(shares / 2000, wanted_shares / 2000, atol=0.06)
    if x.ndim > 2:
        same = (found == 0) if "Alpha" not in str(dropout) else found < x.flatten(1) * 0
        per_channel = same.reshape(2000, *x.shape).flatten(3)
        assert ((per_channel.all(3)) | (~per_channel).all(3)).all()
    torch.testing.assert_close(sampled(dropout, x), found)
    if 0 < dropout.p < 1:
        assert not torch.equal(sampled(dropout, x, seed=1), found)


def _in_training(dropout, x):
    """The same 2000 times by PyTorch itself, whose generator is put back."""
    state = torch.get_rng_state()
    copies = x.repeat(2000, *[1] * (x.ndim - 1))
    module = type(dropout)(dropout.p).train()
    out = module(copies).reshape(2000, len(x), -1)
    torch._C.default_generator.set_state(state)
    return out
