"""Fingerprints: alike for what is alike, and different for what is not."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from skpartial import PartialLabelClassifier
from skpartial._fingerprint import fit_fingerprint, identity, module_key
from skpartial.images import Backbone
from skpartial.losses import LargeLoss

RNG = np.random.default_rng(0)
NUMBERS = RNG.random((4, 3)).astype(np.float32)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: NUMBERS.copy(),
        lambda: sp.csr_array(NUMBERS),
        lambda: torch.from_numpy(NUMBERS.copy()),
        lambda: torch.from_numpy(NUMBERS).to(torch.bfloat16),
        lambda: torch.from_numpy(NUMBERS.copy()).requires_grad_(),
        lambda: [torch.from_numpy(NUMBERS.copy()), torch.zeros(2)],
        lambda: [NUMBERS.copy(), NUMBERS[:2].copy()],
        lambda: ["nowhere/a.png", "nowhere/b.png"],
        lambda: [0, 1, 1, 0],
    ],
)
def test_equal_data_have_equal_keys(make):
    assert identity(make()) == identity(make())


def test_other_data_have_other_keys(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    path = str(tmp_path / "a")
    keys = {
        identity(NUMBERS),
        identity(NUMBERS[::-1]),
        identity(NUMBERS.astype(np.float64)),
        identity(torch.from_numpy(NUMBERS)),
        identity(torch.from_numpy(NUMBERS).reshape(3, 4)),
        identity([path]),
        identity([path, path]),
        identity(["nowhere"]),
    }
    (tmp_path / "a").write_bytes(b"12")
    keys.add(identity([path]))
    assert len(keys) == 9


def test_modules():
    assert module_key(network()) == module_key(network())
    other = network()
    with torch.no_grad():
        other[0].bias[0] += 1e-6
    assert module_key(other) != module_key(network())
    assert module_key(nn.Sequential(*network(), nn.ReLU())) != module_key(network())


def test_parameters():
    def key(seed=0, data=NUMBERS, **parameters):
        return fit_fingerprint(PartialLabelClassifier(**parameters), seed, data)

    keys = [
        key(),
        key(seed=1),
        key(seed=None),
        key(alpha=1e-3),
        key(data=NUMBERS + 1),
        key(loss=LargeLoss()),
        key(loss=LargeLoss(delta=0.5)),
        key(backbone=Backbone(network())),
        key(backbone=Backbone(network(), augment=None)),
        key(device="cpu"),
        key(device=torch.device("cpu", 0)),
    ]
    assert len(set(keys)) == len(keys)
    assert key(backbone=Backbone(network())) == keys[7]
    assert key(verbose=1, n_jobs=4, checkpoint_dir="here") == keys[0]
