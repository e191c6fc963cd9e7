"""Searches whose fits are tasks of ray, by joblib's backend."""

from __future__ import annotations

import joblib
import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from skpartial import PartialLabelClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.labels import drop_labels
from skpartial.losses import PartialBCE
from skpartial.model_selection import PartialLabelKFold

ray = pytest.importorskip("ray", reason="ray is not installed: pip install ray")

# What ray says of this machine is no concern of a search.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def local_ray():
    from ray.util.joblib import register_ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    register_ray()
    yield
    ray.shutdown()


def test_a_search_over_ray_is_the_local_one(local_ray, monkeypatch):
    scenes = make_digit_scenes(200, random_state=0)
    X, Y = scenes.data, drop_labels(scenes.target, known=0.4, random_state=0)
    grid = {"loss": [PartialBCE()], "loss__gamma": [-1, 1], "alpha": [0.01, 1.0]}
    search = GridSearchCV(PartialLabelClassifier(random_state=0), grid, cv=PartialLabelKFold(2, random_state=0))
    local = search.fit(X, Y)
    scores, best = local.cv_results_["mean_test_score"], local.best_params_

    fitted_here = []
    fit = PartialLabelClassifier.fit
    monkeypatch.setattr(PartialLabelClassifier, "fit", lambda self, *data: fitted_here.append(1) or fit(self, *data))
    with joblib.parallel_config("ray", n_jobs=2):
        found = search.fit(X, Y)
    assert len(fitted_here) == 1  # on all rows, at the end
    np.testing.assert_allclose(found.cv_results_["mean_test_score"], scores, rtol=1e-6)
    assert found.best_params_ == best
