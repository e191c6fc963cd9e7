"""Searches whose fits are jobs of a dask cluster, by joblib's backend."""

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
from skpartial.solvers import Minibatch

distributed = pytest.importorskip("distributed", reason="dask is not installed: pip install skpartial[dask]")

# What the cluster says of this machine, and on its way out, is no concern of a search.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def client():
    # The workers are processes of their own, as on other machines; connections are over TCP.
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, worker_dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_a_search_over_a_cluster_is_the_local_one(client):
    scenes = make_digit_scenes(200, random_state=0)
    X, Y = scenes.data, drop_labels(scenes.target, known=0.4, random_state=0)
    grid = [
        {"loss": [PartialBCE()], "loss__gamma": [-1, 1], "alpha": [0.01, 1.0]},
        {"loss": ["ll_r"], "solver": [Minibatch(max_epochs=2)]},
    ]
    cv = PartialLabelKFold(2, random_state=0)
    search = GridSearchCV(PartialLabelClassifier(random_state=0), grid, cv=cv)
    local = search.fit(X, Y)
    scores, best, coef = local.cv_results_["mean_test_score"], local.best_params_, local.best_estimator_.coef_

    with distributed.get_task_stream(client) as tasks, joblib.parallel_config("dask"):
        found = search.fit(X, Y)
    assert {task["worker"] for task in tasks.data} <= set(client.scheduler_info()["workers"])
    assert len(tasks.data) >= 1  # and not here
    np.testing.assert_allclose(found.cv_results_["mean_test_score"], scores, rtol=1e-6)
    assert found.best_params_ == best
    np.testing.assert_allclose(found.best_estimator_.coef_, coef, rtol=1e-5, atol=1e-7)
