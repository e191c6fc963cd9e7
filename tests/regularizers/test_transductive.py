"""The transductive hinge: against its formula, and by what it does to scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from skpartial import PartialLabelClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.losses import RampWARP
from skpartial.regularizers import BatchContext, TransductiveHinge
from skpartial.solvers import Minibatch


def batch(logits, labels, **more):
    return BatchContext(logits, logits, labels, torch.arange(len(logits)), nn.Identity(), 1, **more)


def test_value_and_gradient():
    logits = torch.tensor([[0.5, -3.0], [0.25, -0.5], [2.0, 0.1]], requires_grad=True)
    labels = torch.tensor([[1, 0], [0, 0], [0, 0]])
    value = TransductiveHinge(2.0)(batch(logits, labels))
    assert float(value.detach()) == pytest.approx(2 * (0.75 + 0.5 + 0 + 0.9) / 6)
    value.backward()
    np.testing.assert_allclose(logits.grad, 2 * np.array([[0, 0], [-1, 1], [0, -1]]) / 6, rtol=1e-6)
    targets = torch.tensor([[np.nan, np.nan], [0.5, np.nan], [np.nan, np.nan]])
    assert float(TransductiveHinge()(batch(logits, labels, targets=targets)).detach()) == pytest.approx(0.9 / 6)


def test_scores_of_unlabelled_rows_leave_the_middle():
    scenes = make_digit_scenes(200, random_state=0)
    Y = scenes.target.copy()
    Y[50:] = 0
    how = {"alpha": 1e-3, "solver": Minibatch(max_epochs=10), "random_state": 0}
    inside = []
    for regularizer in (None, TransductiveHinge(5.0)):
        clf = PartialLabelClassifier(RampWARP(unknown="ignore"), regularizer=regularizer, **how).fit(scenes.data, Y)
        inside.append((np.abs(clf.decision_function(scenes.data[50:])) < 1).mean())
    assert inside[1] < 0.7 * inside[0]
    with pytest.raises(ValueError, match="TransductiveHinge: weight must be"):
        PartialLabelClassifier(RampWARP(unknown="ignore"), regularizer=TransductiveHinge(-1)).fit(scenes.data, Y)
