"""A small network from a random start on digit scenes: what it learns from one presence a scene, or from a fifth."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.ops import Conv2dNormActivation

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.heads import WeldonPooling
from skpartial.images import Backbone
from skpartial.inspection import class_activation_maps
from skpartial.labels import drop_labels, keep_single_positive
from skpartial.losses import ROLE, IgnoreUnknown
from skpartial.solvers import Minibatch


@pytest.fixture(scope="module")
def test_scenes():
    """Scenes of handwriting that training does not see; by chance their mean average precision is 0.24."""
    return make_digit_scenes(400, scans="test", random_state=1)


def settings():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            Conv2dNormActivation(3, 16, 3),
            Conv2dNormActivation(16, 16, 3, stride=2),
            Conv2dNormActivation(16, 32, 3),
            Conv2dNormActivation(32, 32, 3, stride=2),
            Conv2dNormActivation(32, 64, 3),
        )
    return {
        "backbone": Backbone(network, image_size=32, augment=None),
        "head": WeldonPooling(k_max=3, k_min=0),
        "solver": Minibatch(learning_rate=2e-3, head_rate=1.0, max_epochs=20, batch_size=16, schedule="cosine"),
        "random_state": 0,
    }


def test_one_presence_a_scene(test_scenes):
    """Measured over three draws: 0.75 to 0.79. Other losses learn from one presence an image in test_fine_tuning.py."""
    train = make_digit_scenes(2000, scans="train", random_state=0)
    clf = SinglePositiveClassifier(ROLE(expected_positives=2.4), **settings())
    clf.fit(train.images, keep_single_positive(train.target, random_state=0))
    assert clf.score(test_scenes.images, test_scenes.target) > 0.55
    # It looks where the digit is: ink covers less than a third of a scene, and is darker than paper.
    zeros = test_scenes.images[test_scenes.target[:, 0] == 1][:50]
    maps = class_activation_maps(clf, zeros, labels=[0])[:, 0].reshape(50, -1)
    darkness = -torch.as_tensor(zeros).double().mean(3)
    around = nn.functional.avg_pool2d(darkness[:, None], 5, stride=1, padding=2, count_include_pad=False).reshape(
        50, -1
    )
    at_the_top = around.gather(1, torch.as_tensor(maps).argmax(1, keepdim=True))[:, 0]
    assert (at_the_top > around.median(1).values).double().mean() > 0.8


def test_a_fifth_of_the_labels(test_scenes):
    """Measured over three draws: 0.59 to 0.71, where AN, which takes the others for absent, reaches 0.40 to 0.48."""
    train = make_digit_scenes(2000, scans="train", random_state=0)
    clf = PartialLabelClassifier(IgnoreUnknown(), **settings())
    clf.fit(train.images, drop_labels(train.target, known=0.2, random_state=0))
    assert clf.score(test_scenes.images, test_scenes.target) > 0.55
