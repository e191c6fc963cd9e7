"""Log-sum-exp losses: against loops over pairs and entries, autograd, identities, and as something to train by."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import label_ranking_average_precision_score

from skpartial import PartialLabelClassifier
from skpartial.labels import LabelMatrix
from skpartial.losses import LSEP, ZLPR, get
from skpartial.solvers import FullBatch, Minibatch

LOSSES = [LSEP(), ZLPR(), LSEP(unknown_weight=0.3), ZLPR(unknown_weight=0.3)]


@st.composite
def batches(draw):
    n, n_labels = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.normal(scale=draw(st.sampled_from([0.5, 5.0])), size=(n, n_labels))
    labels = rng.choice([-1, 0, 1], size=(n, n_labels))
    labels[0] = draw(st.sampled_from([-1, 0, 1]))  # a row of one kind among others
    return torch.tensor(logits), torch.tensor(labels), torch.tensor(rng.uniform(0.1, 3, (n, n_labels)))


def by_loops(loss, logits, labels, weights=None):
    """Sums as they are written."""
    total, divisor = 0.0, 0.0
    for i, (x, z) in enumerate(zip(logits.tolist(), labels.tolist())):
        w = [1.0] * len(x) if weights is None else weights[i].tolist()
        used = [1.0 if value else loss.unknown_weight for value in z]
        counted = [a for a, u in zip(w, used) if u > 0]
        row = sum(counted) / len(counted) if counted else 0.0
        inner = [u * a / row if counted else 0.0 for a, u in zip(w, used)]
        present = [j for j, value in enumerate(z) if value == 1]
        absent = [j for j, value in enumerate(z) if value != 1]
        if isinstance(loss, LSEP):
            pairs = itertools.product(present, absent)
            value = math.log1p(sum(math.sqrt(inner[p] * inner[q]) * math.exp(x[q] - x[p]) for p, q in pairs))
        else:
            value = math.log1p(sum(inner[p] * math.exp(-x[p]) for p in present))
            value += math.log1p(sum(inner[q] * math.exp(x[q]) for q in absent))
        total += row * value
        divisor += sum(w)
    return total / divisor


@settings(max_examples=25)
@given(batches(), st.sampled_from(LOSSES), st.booleans())
def test_value_and_gradient(batch, loss, weighted):
    logits, labels, weights = batch
    weights = weights if weighted else None
    value, gradient, _ = loss.value_and_gradient(logits, labels, weights=weights)
    assert float(value) == pytest.approx(by_loops(loss, logits, labels, weights), rel=1e-10, abs=1e-12)
    step = 1e-5
    for i, j in np.ndindex(*logits.shape):
        moved = [logits.clone() for _ in range(2)]
        moved[0][i, j] += step
        moved[1][i, j] -= step
        up, down = (by_loops(loss, each, labels, weights) for each in moved)
        assert float(gradient[i, j]) == pytest.approx((up - down) / (2 * step), abs=1e-6)


@settings(max_examples=15)
@given(batches(), st.sampled_from(LOSSES))
def test_identities(batch, loss):
    logits, labels, _ = batch
    value, gradient, _ = loss.value_and_gradient(logits, labels)
    # A weight for each row is that for each of its entries; a row of weight 2 is two rows.
    rows = torch.arange(1.0, len(logits) + 1, dtype=torch.float64)
    by_row = loss(logits, labels, weights=rows)
    torch.testing.assert_close(by_row, loss(logits, labels, weights=rows[:, None].expand(logits.shape)))
    again = torch.arange(len(logits)).repeat_interleave(rows.long())
    torch.testing.assert_close(by_row, loss(logits[again], labels[again]))
    if loss.unknown_weight == 0:
        assert not gradient[labels == 0].any()
        noise = torch.where(labels == 0, 100.0, 0.0)
        torch.testing.assert_close(loss(logits + noise, labels), value)
    if isinstance(loss, LSEP):  # the order alone counts
        torch.testing.assert_close(loss(logits + 3, labels), value)
        torch.testing.assert_close(gradient.sum(1), torch.zeros(len(logits), dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_extremes(loss):
    labels = torch.tensor([[1, -1, 0], [1, -1, 1], [0, 0, 0]])
    for size in (1e4, -1e4):
        logits = torch.tensor([[size, -size, 0.0]] * 3)
        value, gradient, _ = loss.value_and_gradient(logits, labels)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()
        assert value.dtype == gradient.dtype == torch.float32
    assert loss.value_and_gradient(torch.zeros(1, 3), labels[:1] * 0, weights=torch.zeros(1)).value == 0


def test_one_pair_is_logistic():
    """Of one label ZLPR is cross-entropy; of one pair LSEP is that of the difference."""
    x, y = torch.tensor([[0.3], [-2.0]]), torch.tensor([[1], [-1]])
    torch.testing.assert_close(ZLPR()(x, y), get("bce")(x, y))
    pair = torch.tensor([[0.3, -2.0]])
    torch.testing.assert_close(2 * LSEP()(pair, torch.tensor([[1, -1]])), get("bce")(pair[:, :1] - pair[:, 1:], y[:1]))


def test_refusals(partial_data):
    X, Y = partial_data
    for loss in (LSEP(), ZLPR()):
        with pytest.raises(ValueError, match=f"{type(loss).__name__} learns from known negatives"):
            PartialLabelClassifier(loss).fit(X, Y.clip(0))
        with pytest.raises(ValueError, match=r"unknown_weight must be a number in \[0, inf\), got -1"):
            PartialLabelClassifier(type(loss)(unknown_weight=-1)).fit(X, Y)
    LSEP(unknown_weight=1).check(LabelMatrix.encode(Y.clip(0)))
    with pytest.raises(ValueError, match="y has only one label"):
        LSEP().check(LabelMatrix.encode(Y[:, :1]))
    with pytest.raises(ValueError, match="neither convex nor"):
        PartialLabelClassifier("zlpr", solver=FullBatch()).fit(X, Y)


@pytest.mark.parametrize("name", ["lsep", "zlpr"])
def test_learns(partial_data, name):
    X, Y = partial_data
    complete = np.where(X @ np.linalg.lstsq(X, Y, rcond=None)[0] > 0, 1, -1)
    clf = PartialLabelClassifier(name, solver=Minibatch(max_epochs=30), alpha=1e-3, random_state=0).fit(X, Y)
    mixed = np.abs(complete.sum(1)) < complete.shape[1]
    scores = clf.decision_function(X)
    assert label_ranking_average_precision_score(complete[mixed] == 1, scores[mixed]) > 0.9
    if name == "zlpr":
        known = Y != 0
        assert ((clf.predict(X) == 1)[known] == (Y == 1)[known]).mean() > 0.7
