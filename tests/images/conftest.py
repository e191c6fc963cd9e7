"""Small images and networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from skpartial.datasets import make_digit_scenes
from skpartial.labels import drop_labels, keep_single_positive


def small_network(width: int = 8) -> nn.Module:
    """A convolutional network from images to maps of 2 x `width` channels, the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for before, after in ((3, width), (width, 2 * width)):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        return nn.Sequential(*layers)


@pytest.fixture
def network() -> nn.Module:
    return small_network()


@pytest.fixture(scope="session")
def scenes():
    """Images, labels of which a third is known, one presence a row, and complete labels."""
    made = make_digit_scenes(120, random_state=0)
    partial = np.asarray(drop_labels(made.target, known=0.5, random_state=0))
    single = np.asarray(keep_single_positive(made.target, random_state=0))
    return made.images, partial, single, made.target


COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], dtype=np.uint8)


def draw_patches(n, seed):
    """Grey images, which of four colours they hold, each in a patch of 3 x 3 pixels, and the patches' upper corners."""
    rng = np.random.default_rng(seed)
    images = rng.integers(90, 160, (n, 16, 16, 1)).repeat(3, axis=3).astype(np.uint8)
    complete = np.where(rng.random((n, 4)) < 0.4, 1, -1)
    corners = np.full((n, 4, 2), -1)
    for i, j in zip(*np.nonzero(complete == 1)):
        top, left = corners[i, j] = rng.integers(13, size=2)
        images[i, top : top + 3, left : left + 3] = COLOURS[j]
    return images, complete, corners


@pytest.fixture(scope="session")
def patches():
    """Images that a small network learns in seconds, half of their labels, and all of them."""
    images, complete, _ = draw_patches(160, 0)
    return images, np.asarray(drop_labels(complete, known=0.5, random_state=0)), complete


@pytest.fixture(scope="session")
def unseen_patches():
    """More such images, all of their labels, and where the patches are."""
    return draw_patches(200, 99)
