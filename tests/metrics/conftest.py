"""Label matrices and scores that the tests of metrics share."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(params=["distinct", "tied"])
def fully_known(request):
    """Labels without unknown entries, every label and most rows having both signs, and scores in (0, 1)."""
    rng = np.random.default_rng(7)
    y = np.where(rng.random((97, 11)) < 0.3, 1, -1).astype(np.int8)
    scores = 1 / (1 + np.exp(-rng.standard_normal(y.shape) - 0.5 * y))
    return y, np.round(scores, 1) if request.param == "tied" else scores


@pytest.fixture(params=["distinct", "tied"])
def partly_known(request):
    """Labels with unknown entries, and scores in (0, 1).

    Label 0 is unknown everywhere, label 1 lacks a known presence, label 2 a known absence; row 0 is all unknown.
    """
    rng = np.random.default_rng(8)
    y = rng.choice([-1, 0, 1], p=[0.4, 0.4, 0.2], size=(83, 9)).astype(np.int8)
    y[:, 0] = 0
    y[y[:, 1] == 1, 1] = 0
    y[y[:, 2] == -1, 2] = 0
    y[0] = 0
    scores = 1 / (1 + np.exp(-rng.standard_normal(y.shape) - 0.5 * y))
    return y, np.round(scores, 1) if request.param == "tied" else scores
