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


@pytest.fixture(scope="session")
def patches():
    """Grey images with patches of four colours, which a small network learns in seconds, and what is in them."""
    rng = np.random.default_rng(0)
    images = rng.integers(90, 160, (160, 16, 16, 1)).repeat(3, axis=3).astype(np.uint8)
    complete = np.where(rng.random((160, 4)) < 0.4, 1, -1)
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], dtype=np.uint8)
    for i, j in zip(*np.nonzero(complete == 1)):
        top, left = rng.integers(13, size=2)
        images[i, top : top + 3, left : left + 3] = colours[j]
    return images, np.asarray(drop_labels(complete, known=0.5, random_state=0)), complete
