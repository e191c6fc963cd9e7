"""Fixtures that the whole suite shares."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Before the first import of scipy: one of scikit-learn's checks is skipped without it.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import hypothesis
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from skpartial.heads import Linear
from skpartial.labels import LabelMatrix
from skpartial.training import TrainingData
from skpartial.training._data import EntryWeights
from skpartial.training._problem import Problem

# Times of examples vary with the machine; what they compute does not.
hypothesis.settings.register_profile("skpartial", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("skpartial")

DATA = Path(__file__).parent / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a CUDA device where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device is at hand"))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _figures_closed() -> Iterator[None]:
    """Close what a test has drawn: matplotlib warns of more than 20 figures that are open, and warnings are errors."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, NDArray[np.float64]]]:
    """Reference arrays that the authors' released code computed, by file name."""

    def load(name: str) -> dict[str, NDArray[np.float64]]:
        with np.load(DATA / f"{name}.npz") as archive:
            return dict(archive)

    return load


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets, which do not travel with the package."""
    folder = os.environ.get("SKPARTIAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("real data are not at hand: set SKPARTIAL_DATA to the folder that holds features/")
    return Path(folder)


@pytest.fixture
def partial_data() -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Small linear problem with 5 labels, of which a third of the entries are known."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 6))
    logits = X @ rng.normal(size=(6, 5)) - 0.5
    complete = np.where(rng.logistic(size=logits.shape) < logits, 1, -1)
    return X, np.where(rng.random(complete.shape) < 0.35, complete, 0).astype(np.int8)


def never(record, parameters):
    return False


@pytest.fixture
def make_problem():
    """Makes linear problems from features as a solver sees them, and labels."""

    def make(features, Y, loss, *, alpha=0.1, weight=None, class_weight=None, **more):
        labels = LabelMatrix((sp.csr_array(Y) if sp.issparse(Y) else np.asarray(Y)).astype(np.int8))
        weights = EntryWeights(weight, class_weight, features.device, features.dtype)
        settings = {"head": Linear(), "relabeling": None, "regularizer": None, "seed": 0, "monitor": never}
        given = {"data": TrainingData(labels), "weights": weights, "loss": loss, "alpha": alpha}
        return Problem(features=features, **{**settings, **given, **more})

    return make
