"""What tests of several solvers make."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from skpartial.heads import Linear
from skpartial.labels import LabelMatrix
from skpartial.solvers._problem import EntryWeights, Problem


def never(record, parameters):
    return False


@pytest.fixture
def make_problem():
    """Makes linear problems from features as a solver sees them, and labels."""

    def make(features, Y, loss, *, alpha=0.1, weight=None, class_weight=None, **more):
        labels = LabelMatrix((sp.csr_array(Y) if sp.issparse(Y) else np.asarray(Y)).astype(np.int8))
        weights = EntryWeights(weight, class_weight, features.device, features.dtype)
        settings = {"head": Linear(), "relabeling": None, "regularizer": None, "seed": 0, "monitor": never}
        given = {"labels": labels, "weights": weights, "loss": loss, "alpha": alpha}
        return Problem(features=features, **{**settings, **given, **more})

    return make
