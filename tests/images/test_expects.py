"""What networks expect of images: how many channels, with which mean and deviation, in every way of saying so."""

from __future__ import annotations

import types

import numpy as np
import pytest
import torch
import torchvision
import torchvision.transforms
import torchvision.transforms.v2 as v2
from PIL import Image
from sklearn.base import clone
from torch import nn

from skpartial import PartialLabelClassifier
from skpartial.heads import WeldonPooling
from skpartial.images import Backbone, ImageFeatures
from skpartial.images._expects import count_channels
from skpartial.inspection import class_activation_maps
from skpartial.solvers import Minibatch

IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def convolution(channels):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(channels, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU())


def expected_by(backbone):
    normalize = backbone.load().normalize
    return [round(value, 6) for value in normalize.mean.flatten().tolist()], [
        round(value, 6) for value in normalize.std.flatten().tolist()
    ]


# ---------------------------------------------------------------------------------------------------------- channels


class Repeats(nn.Module):
    """Makes three channels of one by itself."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 2, 1)

    def forward(self, images):
        return self.first(images.repeat(1, 3, 1, 1))


class Whole(nn.Module):
    """Has the attributes of a layer, as timm's networks have, and is none."""

    in_channels, num_features, in_features = 7, 512, 512

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 2, 1)

    def forward(self, images):
        return self.first(images)


class Strict(nn.Module):
    """Refuses what it was not made for before any layer sees it."""

    def __init__(self, channels):
        super().__init__()
        self.channels, self.first = channels, nn.Conv2d(channels, 2, 1)

    def forward(self, images):
        if images.shape[1] != self.channels:
            raise ValueError("wrong number of channels")
        return self.first(images)


class Backwards(nn.Module):
    """Whose layers were not made in the order in which they come."""

    def __init__(self):
        super().__init__()
        self.second, self.first = nn.Conv2d(7, 2, 1), nn.Conv2d(5, 7, 1)

    def forward(self, images):
        return self.second(self.first(images))


def grouped():
    return nn.Sequential(nn.Conv2d(8, 16, 3, groups=8), nn.ReLU())


def resnet_of(channels):
    network = torchvision.models.resnet18(weights=None)
    network.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    network.fc = nn.Identity()
    return network


@pytest.mark.parametrize(
    ("module", "channels"),
    [
        *((convolution(channels), channels) for channels in (1, 2, 3, 4, 12)),
        (resnet_of(12), 12),
        (nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)), 4),
        (nn.Sequential(nn.GroupNorm(2, 6), nn.Flatten(), nn.Linear(6 * 64, 2)), 6),
        (nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(20, 2, 1)), 5),
        (nn.Sequential(nn.Flatten(), nn.Linear(2 * 64, 3)), 2),
        (nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4 * 16, 3)), 4),
        (grouped(), 8),
        (Whole(), 2),
        (Repeats(), 1),
        (Strict(9), 9),
        (Backwards(), 5),
        (nn.Identity(), None),
        (nn.Flatten(), None),
        (nn.Linear(8, 2), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_channels_of_the_first_layer(module, channels):
    module.train()
    states = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert count_channels(module, (8, 8)) == channels
    assert all(part.training for part in module.modules())
    assert not any(part._forward_pre_hooks for part in module.modules())
    assert all(torch.equal(tensor, states[name]) for name, tensor in module.state_dict().items())
    loaded = Backbone(module, image_size=8).load()
    assert loaded.channels == (channels or 3)
    assert loaded.n_features(False, "it") > 0


def test_mean_says_how_many_channels_where_no_layer_does():
    for settings in ({"mean": [0.5] * 7}, {"std": (0.5,) * 7}, {"mean": np.full(7, 0.5), "std": 0.5}):
        assert Backbone(nn.Flatten(), image_size=4, **settings).load().n_features(False, "it") == 7 * 16
    message = r"mean must be a number, or one per channel of the network, which takes 4, got \(0.5, 0.5, 0.5\)"
    with pytest.raises(ValueError, match=message):
        Backbone(convolution(4), mean=(0.5, 0.5, 0.5)).load()
    with pytest.raises(ValueError, match="std must be a number, or one per channel of the network, which takes 3"):
        Backbone("squeezenet1_1", weights=None, std=[0.5] * 4).load()
    with pytest.raises(ValueError, match="std must be a number, or one per channel of the network, which takes 5"):
        Backbone(nn.Flatten(), mean=[0.5] * 5, std=[0.5] * 4).load()


@pytest.mark.parametrize("channels", [1, 2, 4, 12])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_networks_of_any_channels_learn_and_predict(channels, dtype):
    """All of them matter: what is to be learned is in the last one."""
    rng = np.random.default_rng(0)
    images = rng.random((40, 10, 10, channels)) / 8
    present = rng.random((40, 2)) < 0.5
    for j, rows in enumerate(present.T):
        images[np.ix_(np.flatnonzero(rows), range(5 * j, 5 * j + 5), range(10), [channels - 1])] += 0.6
    scale = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    X, Y = (scale * images).astype(dtype), np.where(present, 1, -1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(channels, 8, 5, stride=5), nn.LeakyReLU(), nn.Flatten())
    backbone = Backbone(network, image_size=10, augment=None)
    fitted = []
    for given in (X, np.ascontiguousarray(X.transpose(0, 3, 1, 2))):
        solver = Minibatch(learning_rate=0.02, max_epochs=15)
        clf = PartialLabelClassifier(backbone=backbone, solver=solver, random_state=0).fit(given, Y)
        fitted.append(clf.decision_function(given))
        assert clf.score(given, Y) > 0.95
        assert ImageFeatures(backbone).fit_transform(given).shape == (40, 32)
    np.testing.assert_allclose(fitted[0], fitted[1], atol=1e-5)
    with pytest.raises(ValueError, match=rf"with {channels} channels, as the network takes"):
        clf.predict(np.zeros((2, 10, 10, channels + 1), dtype=dtype))


def test_maps_of_other_channels():
    X = np.random.default_rng(0).random((12, 9, 9, 5)).astype(np.float32)
    Y = np.where(np.random.default_rng(1).random((12, 2)) < 0.5, 1, -1)
    clf = PartialLabelClassifier(
        "an", head=WeldonPooling(), backbone=Backbone(convolution(5), image_size=9), solver=Minibatch(max_epochs=1)
    ).fit(X, Y)
    assert class_activation_maps(clf, X).shape == (12, 2, 9, 9)


def test_files_for_a_network_of_one_channel(tmp_path):
    rng = np.random.default_rng(0)
    grey = rng.integers(256, size=(6, 9, 9), dtype=np.uint8)
    deep = rng.integers(65536, size=(6, 9, 9), dtype=np.uint16)
    for name, pixels in (("grey", grey), ("deep", deep)):
        paths = [tmp_path / f"{name}{i}.png" for i in range(6)]
        for path, image in zip(paths, pixels):
            Image.fromarray(image).save(path)
        features = ImageFeatures(Backbone(convolution(1), image_size=9))
        np.testing.assert_allclose(features.fit_transform(paths), features.fit_transform(pixels), atol=1e-6)


def test_the_advice_about_channels():
    message = r"cannot take images of 8 x 8 pixels \(.*\): choose image_size, or, if it does not take 3"
    with pytest.raises(ValueError, match=message):
        Backbone(nn.Linear(5, 2), image_size=8).load().n_features(False, "Linear")


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "convnext_atto", "mixer_s32_224"])
@pytest.mark.parametrize("channels", [3, 12])
def test_networks_of_timm(name, channels):
    timm = pytest.importorskip("timm")
    module = timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels)
    assert Backbone(module).load().channels == channels
    assert expected_by(Backbone(module))[0] == pytest.approx(
        list(module.pretrained_cfg["mean"]) if channels == 3 else [0] * 12
    )


# ------------------------------------------------------------------------------------------------- mean and deviation


def test_defaults():
    """ImageNet's of three channels; else pixels as they are."""
    assert expected_by(Backbone(convolution(3))) == IMAGENET
    assert expected_by(Backbone("squeezenet1_1", weights=None)) == IMAGENET
    for channels in (1, 2, 4, 12):
        assert expected_by(Backbone(convolution(channels))) == ([0.0] * channels, [1.0] * channels)


@pytest.mark.parametrize("normalize", [torchvision.transforms.Normalize, v2.Normalize])
def test_networks_that_normalise_themselves(normalize):
    """Else they would be given what was normalised twice."""
    network = nn.Sequential(nn.Sequential(normalize(*IMAGENET)), convolution(3))
    assert expected_by(Backbone(network, image_size=8)) == ([0.0] * 3, [1.0] * 3)
    pixels = torch.rand(2, 3, 8, 8)
    plain, whole = (Backbone(model, image_size=8) for model in (convolution(3), network))
    features = [b.network(b.load(), None).eval()(pixels) for b in (plain, whole)]
    torch.testing.assert_close(features[0], features[1])
    assert expected_by(Backbone(network, mean=0.5, std=0.5)) == ([0.5] * 3, [0.5] * 3)


def test_networks_that_say_what_they_were_trained_with():
    """As timm's do, wherever they are within a module."""
    trained = convolution(3)
    trained.pretrained_cfg = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "input_size": (3, 20, 20)}
    for module in (trained, nn.Sequential(trained, nn.ReLU())):
        assert expected_by(Backbone(module)) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
        assert Backbone(module).load().image_size == (20, 20)
        assert Backbone(module, image_size=9).load().image_size == (9, 9)
    changed = convolution(4)  # made for other images than its weights
    changed.pretrained_cfg = trained.pretrained_cfg
    assert expected_by(Backbone(changed)) == ([0.0] * 4, [1.0] * 4)
    for config in (None, {}, types.SimpleNamespace(mean=1), {"mean": (0, 0, 0)}):
        trained.pretrained_cfg = config
        assert expected_by(Backbone(trained)) == IMAGENET


@pytest.mark.parametrize(
    ("mean", "std", "found"),
    [
        (0.5, None, ([0.5] * 3, IMAGENET[1])),
        (None, 0.25, (IMAGENET[0], [0.25] * 3)),
        (0, 1, ([0.0] * 3, [1.0] * 3)),
        ((0.25, 0.5, 0.75), [0.5, 0.25, 1], ([0.25, 0.5, 0.75], [0.5, 0.25, 1.0])),
        (np.array([0.25, 0.5, 0.75]), torch.tensor([0.5, 0.25, 1]), ([0.25, 0.5, 0.75], [0.5, 0.25, 1.0])),
        (np.float32(0.5), torch.tensor(0.5), ([0.5] * 3, [0.5] * 3)),
    ],
    ids=["mean", "std", "as they are", "sequences", "arrays", "scalars"],
)
@pytest.mark.parametrize("model", ["squeezenet1_1", convolution(3)], ids=["named", "module"])
def test_mean_and_deviation_of_every_kind(model, mean, std, found):
    assert expected_by(Backbone(model, weights=None, mean=mean, std=std)) == found


def test_what_is_given_is_what_the_network_sees():
    """In features, while everything is trained, and in predictions."""
    X = np.random.default_rng(0).random((8, 5, 5, 3)).astype(np.float32)
    backbone = Backbone(nn.Flatten(), finetune="head", image_size=5, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    expected = ((X - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]).transpose(0, 3, 1, 2).reshape(8, -1)
    np.testing.assert_allclose(ImageFeatures(backbone).fit_transform(X), expected, atol=1e-5)
    Y = np.where(np.random.default_rng(1).random((8, 2)) < 0.5, 1, -1)
    clf = PartialLabelClassifier(backbone=backbone, alpha=1.0).fit(X, Y)
    plain = PartialLabelClassifier(alpha=1.0).fit(expected.astype(np.float32), Y)
    np.testing.assert_allclose(clf.decision_function(X), plain.decision_function(expected), atol=1e-3)
    assert clf.network_.normalize.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_features_of_another_mean_are_not_taken_from_memory(tmp_path):
    X = np.random.default_rng(0).random((4, 5, 5, 3)).astype(np.float32)
    found = [
        ImageFeatures(Backbone(nn.Flatten(), image_size=5, mean=mean), memory=tmp_path).fit_transform(X)
        for mean in (0.5, 0.25)
    ]
    assert np.abs(found[0] - found[1]).min() > 0.5


@pytest.mark.parametrize(
    "value", [123.675, (123.7, 116.3, 103.5), -0.1, np.nan, "0.5", True, [], [[0.5] * 3], {}, (0.5, None)]
)
@pytest.mark.parametrize("name", ["mean", "std"])
def test_values_out_of_range(name, value):
    message = rf"Backbone: {name} must be a number in .0, 1\], or one per channel \(.*divide values for bytes by 255"
    with pytest.raises(ValueError, match=message):
        Backbone(convolution(3), **{name: value}).load()


def test_no_deviation_at_all():
    for std in (0, [0.5, 0.0, 0.5]):
        with pytest.raises(ValueError, match=r"std must be a number in \(0, 1\]"):
            Backbone(convolution(3), std=std).load()


def test_they_are_parameters():
    backbone = Backbone("resnet18", mean=(0.5, 0.5, 0.5), std=0.5)
    assert repr(backbone) == "Backbone(mean=(0.5, 0.5, 0.5), model='resnet18', std=0.5)"
    assert clone(backbone).set_params(mean=None).get_params()["std"] == 0.5


# ------------------------------------------------------------------------------------------------- nothing to train


def test_augmentations_that_normalise_stop_a_fit(patches):
    """Of which the head of linear-init knows nothing yet."""
    images, Y, _ = patches
    for finetune in ("all", "linear_init"):
        backbone = Backbone(convolution(3), finetune=finetune, image_size=16, augment=v2.Normalize(*IMAGENET))
        with pytest.raises(ValueError, match="normalise by mean and std"):
            PartialLabelClassifier(backbone=backbone, solver=Minibatch(max_epochs=1)).fit(images[:20], Y[:20])


@pytest.mark.parametrize("module", [nn.Identity(), nn.Flatten(), nn.AvgPool2d(2)], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("finetune", ["all", "linear_init"])
def test_networks_without_parameters_are_not_trained(patches, module, finetune):
    images, Y, _ = patches
    clf = PartialLabelClassifier(backbone=Backbone(module, finetune=finetune, image_size=16), solver=Minibatch())
    message = (
        rf"'{type(module).__name__}' has no parameters to train with finetune='{finetune}': choose finetune='head'"
    )
    with pytest.raises(ValueError, match=message):
        clf.fit(images[:20], Y[:20])
    clf.set_params(backbone__finetune="head", solver="auto").fit(images[:20], Y[:20])
    assert clf.predict(images).shape == (160, 4)
