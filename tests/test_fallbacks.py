"""What only a CUDA device can show may not be the only way there: each fast path gives way to the plain one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from skpartial import PartialLabelClassifier
from skpartial.images import Backbone
from skpartial.images._batches import ImageBatches
from skpartial.images._sources import as_source
from skpartial.solvers import Minibatch
from skpartial.solvers.gradient import _direct_steps, _linear_pass
from skpartial.solvers.gradient._recording import same_moves


def classifier(**solver):
    return PartialLabelClassifier(
        "iu", solver=Minibatch(**{"batch_size": 8, "max_epochs": 4} | solver), alpha=1e-3, random_state=0
    )


def assert_falls_back(fit, expected, what):
    """The same as without the fast path, and one warning of it."""
    with pytest.warns(UserWarning, match=what) as found:
        clf = fit()
    assert len([w for w in found if "more slowly" in str(w.message)]) == 1
    np.testing.assert_allclose(clf.coef_, expected.coef_, rtol=1e-10, atol=1e-13)
    assert [record["loss"] for record in clf.history_] == pytest.approx([r["loss"] for r in expected.history_])


class Fails:
    def __init__(self, work, device):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")


class FailsToPlay:
    def __init__(self, work, device):
        self.work = work

    def play(self):
        self.work()  # something has moved already
        raise RuntimeError("CUDA error: launch failure")


class PlaysNothing:
    def __init__(self, work, device):
        pass

    def play(self):
        pass


class PlaysTwice:
    def __init__(self, work, device):
        self.work = work

    def play(self):
        self.work()
        self.work()


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("recording", [Fails, FailsToPlay, PlaysNothing, PlaysTwice])
def test_recorded_steps(partial_data, monkeypatch, recording, optimizer):
    """Also where what was recorded raises nothing, but is wrong."""
    X, Y = partial_data
    expected = classifier(optimizer=optimizer).fit(X, Y)
    monkeypatch.setattr(_linear_pass, "can_record", lambda device: True)
    monkeypatch.setattr(_linear_pass, "_PLAYS", 1)
    monkeypatch.setattr(_linear_pass, "Recording", recording)
    assert_falls_back(lambda: classifier(optimizer=optimizer).fit(X, Y), expected, "CUDA graph")


def test_same_moves():
    before, end = [torch.zeros(4), torch.ones(2)], [torch.full((4,), 1.0), torch.ones(2)]
    assert same_moves(before, end, end)
    assert same_moves(before, [end[0] + 1e-3, end[1]], end)
    assert not same_moves(before, before, end)
    assert not same_moves(before, [2 * end[0], end[1]], end)
    assert not same_moves(before, [end[0], end[1] + 0.1], end)
    assert not same_moves(before, [end[0] * torch.nan, end[1]], end)
    diverged = [end[0] * torch.nan, end[1]]
    assert same_moves(before, diverged, diverged)  # which the loss tells


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_fused_kernels(partial_data, monkeypatch, optimizer):
    X, Y = partial_data
    expected = classifier(optimizer=optimizer).fit(X, Y)
    for name in ("_fused_adam_", "_fused_adamw_", "_fused_sgd_"):

        def fail(parameters, *args, **kwargs):
            parameters[0].fill_(7)  # not before something has moved
            raise RuntimeError("no kernel image is available for execution on the device")

        monkeypatch.setattr(_direct_steps.torch, name, fail)
    # Adam's own step uses them as well.
    adam = optimizer != "sgd"
    with pytest.warns(UserWarning, match="fused") as found:
        clf = classifier(optimizer=optimizer).fit(X, Y)
    assert len(found) == (2 if adam else 1)
    np.testing.assert_allclose(clf.coef_, expected.coef_, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_fused_optimisers_of_other_heads(partial_data, monkeypatch, optimizer):
    """Whether making them fails, or their first step."""
    X, Y = partial_data
    fit = lambda: classifier(optimizer=optimizer, accumulate=2).fit(X, Y)  # noqa: E731
    expected = fit()
    kernel = f"_fused_{optimizer}_"
    with monkeypatch.context() as patch:

        def fail(*args, **kwargs):
            raise RuntimeError("no kernel image is available")

        patch.setattr(torch, kernel, fail)
        assert_falls_back(fit, expected, "fused=True")
    kind = torch.optim.AdamW if optimizer == "adamw" else torch.optim.Adam
    make = kind.__init__

    def refuse(self, *args, fused=None, **kwargs):
        if fused:
            raise RuntimeError("`fused=True` requires all the params to be floating point Tensors of supported devices")
        make(self, *args, **kwargs)

    monkeypatch.setattr(kind, "__init__", refuse)
    assert_falls_back(fit, expected, "fused=True")


class Picky(nn.Module):
    """A network that cannot do with channels last."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        if not self.convolution.weight.is_contiguous():
            raise RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED")
        return self.convolution(images).mean((2, 3))


def test_channels_last():
    torch.manual_seed(0)
    backbone = Backbone(Picky(), image_size=8, augment=None)
    network = backbone.network(backbone.load(), nn.Linear(4, 2)).eval()
    images = torch.rand(2, 3, 8, 8)
    expected = network(images)
    network.use_channels_last()
    assert not network.body.convolution.weight.is_contiguous()
    with pytest.warns(UserWarning, match="channels-last .*more slowly"):
        found = network(images)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(network(images), expected)  # without another warning
    network.body.forward = lambda images: (_ for _ in ()).throw(RuntimeError("broken"))
    with pytest.raises(RuntimeError, match="broken"):
        network(images)


def test_pinned_memory(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, size=(6, 8, 8, 3)).astype(np.uint8)
    batches = ImageBatches(as_source(images, (8, 8)), 4, torch.float32, torch.device("cuda"))
    sent = []

    def to(self, *args, **kwargs):
        sent.append(args)
        return self

    def fail(self):
        raise RuntimeError("CUDA error: OS call failed or operation not supported on this OS")

    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(torch.Tensor, "pin_memory", fail)
    image = torch.zeros(1, 3, 8, 8)
    with pytest.warns(UserWarning, match="Pinned memory cannot be used"):
        assert batches._send(image) is image
    assert batches._send(image) is image
    assert len(sent) == 2
