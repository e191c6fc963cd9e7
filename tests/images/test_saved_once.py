"""A pickled classifier holds its network once, whatever its initial weights."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from skpartial import PartialLabelClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.heads import AveragePooling
from skpartial.images import Backbone
from skpartial.solvers import Minibatch

SCENES = make_digit_scenes(24, random_state=0)
SOLVER = Minibatch(max_epochs=1, learning_rate=0.02, batch_size=8)


def make_module():
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Conv2d(3, 300, 3, 4), nn.ReLU(), nn.Conv2d(300, 200, 3, 2), nn.ReLU())
    return nn.Sequential(wide, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def n_bytes(module):
    return sum(tensor.nbytes for tensor in module.state_dict().values())


def fit(backbone, **options):
    options = {"solver": SOLVER, "random_state": 0, **options}
    return PartialLabelClassifier("iu", backbone=backbone, **options).fit(SCENES.images, SCENES.target)


@pytest.mark.parametrize("head", ["linear", AveragePooling()])
@pytest.mark.parametrize("finetune", ["all", "linear_init", "head"])
def test_the_network_is_pickled_once(finetune, head):
    module = make_module()
    clf = fit(Backbone(module, finetune=finetune, image_size=32), head=head)
    saved = pickle.dumps(clf)
    assert n_bytes(module) < len(saved) < 1.1 * n_bytes(module)
    again = pickle.loads(saved)
    np.testing.assert_array_equal(again.decision_function(SCENES.images), clf.decision_function(SCENES.images))
    assert len(pickle.dumps(again)) < 1.1 * n_bytes(module)
    assert clf.backbone.model is module  # what was pickled is as it was
    changed = not np.array_equal(
        module[0][0].weight.detach(),
        clf.network_.state_dict()["body.0.0.weight"]
        if head == "linear"
        else clf.network_.state_dict()["body.module.0.0.weight"],
    )
    assert changed == (finetune != "head")


def test_a_module_by_itself():
    module = make_module()
    clf = fit(module)
    again = pickle.loads(pickle.dumps(clf))
    assert len(pickle.dumps(clf)) < 1.1 * n_bytes(module)
    np.testing.assert_array_equal(again.predict_proba(SCENES.images), clf.predict_proba(SCENES.images))


def test_a_loaded_classifier_goes_on_but_does_not_begin_anew():
    clf = fit(Backbone(make_module(), image_size=32), warm_start=True)
    again = pickle.loads(pickle.dumps(clf))
    again.fit(SCENES.images, SCENES.target)
    clf.fit(SCENES.images, SCENES.target)
    np.testing.assert_allclose(again.decision_function(SCENES.images), clf.decision_function(SCENES.images), atol=1e-5)
    for loaded in (again.set_params(warm_start=False), clone(again)):
        loaded = pickle.loads(pickle.dumps(loaded))
        with pytest.raises(ValueError, match="initial weights of the module Sequential were not saved"):
            loaded.fit(SCENES.images, SCENES.target)
    again.set_params(backbone=Backbone(make_module(), image_size=32)).fit(SCENES.images, SCENES.target)


def test_frozen_networks_begin_anew():
    clf = fit(Backbone(make_module(), finetune="head", image_size=32), solver="auto")
    again = pickle.loads(pickle.dumps(clf)).fit(SCENES.images, SCENES.target)
    np.testing.assert_allclose(again.coef_, clf.coef_, atol=1e-6)


def test_copies_hold_everything():
    clf = fit(Backbone(make_module(), image_size=32))
    expected = clf.decision_function(SCENES.images)
    for copied in (copy.copy(clf), copy.deepcopy(clf)):
        np.testing.assert_array_equal(copied.decision_function(SCENES.images), expected)
        copied.fit(SCENES.images, SCENES.target)  # from the first weights
        np.testing.assert_allclose(copied.decision_function(SCENES.images), expected, atol=1e-5)
    assert copy.copy(clf).backbone is clf.backbone
