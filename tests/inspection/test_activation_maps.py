"""Class activation maps: identities with the logits, and planted objects."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from torch import nn

import skpartial
from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.heads import AveragePooling, Head, WeldonPooling, WildcatPooling
from skpartial.images import Backbone
from skpartial.inspection import class_activation_maps, pointing_game
from skpartial.solvers import Minibatch


class Colours(nn.Module):
    """Maps that are known: the image itself in regions of 8 x 8 pixels, and each channel's square."""

    def forward(self, images):
        regions = nn.functional.avg_pool2d(images, 8)
        return torch.cat([regions, regions**2], 1)


class Averaged(nn.Module):
    """The same as features, by a pooling that can be found; `after` may come behind it."""

    def __init__(self, after=None):
        super().__init__()
        self.maps, self.pooling, self.after = Colours(), nn.AdaptiveAvgPool2d(1), after or nn.Identity()

    def forward(self, images):
        return self.after(self.pooling(self.maps(images)).flatten(1))


class Mean(nn.Module):
    """The same as features, by a method, after maps that are averaged on the way."""

    def forward(self, images):
        maps = Colours()(images)
        gate = nn.functional.adaptive_avg_pool2d(1 - maps, 1).mean(1, keepdim=True)
        return (maps + 0 * gate).mean([-1, -2])


class Largest(nn.Module):
    """Features that are no averages."""

    def forward(self, images):
        return Colours()(images).amax((2, 3))


class Tokens(nn.Module):
    """What a transformer does: attention over tokens, of which one is the feature."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(3, 1, batch_first=True)

    def forward(self, images):
        tokens = nn.functional.avg_pool2d(images, 8).flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0][:, 0]


class Perceptron(Head):
    """A head that is not linear."""

    takes_maps = True

    def build(self, context):
        return nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(context.n_features, 4),
            nn.ReLU(),
            nn.Linear(4, context.n_labels),
        )


@pytest.fixture(scope="module")
def scenes():
    made = make_digit_scenes(40, random_state=0)
    return made.images, made.target


def on_images(model, scenes, **settings):
    backbone = Backbone(model, weights=None, finetune="head", image_size=32)
    return PartialLabelClassifier(backbone=backbone, random_state=0, **settings).fit(*scenes)


@pytest.fixture(scope="module")
def colours(scenes):
    return on_images(Averaged(), scenes, solver="minibatch")


@pytest.fixture(scope="module")
def planted():
    """Maps with an object of a label's own channels in one region, and which region that is."""
    rng = np.random.default_rng(0)
    present = rng.random((120, 4)) < 0.4
    where = rng.integers(30, size=(120, 4))
    channels = np.linalg.qr(rng.standard_normal((10, 10)))[0][:4]
    X = 0.1 * rng.standard_normal((120, 10, 30))
    for i, j in zip(*np.nonzero(present)):
        X[i, :, where[i, j]] += 2 * channels[j]
    return X.reshape(120, 10, 5, 6), np.where(present, 1, -1), where


@pytest.mark.parametrize("head", ["linear", AveragePooling()], ids=repr)
@pytest.mark.parametrize("finetune", ["head", "all"])
def test_maps_of_a_resnet_average_to_the_logits(scenes, head, finetune):
    images = scenes[0]
    backbone = Backbone("resnet18", weights=None, finetune=finetune, image_size=64)
    solver = Minibatch(max_epochs=1)
    clf = PartialLabelClassifier(backbone=backbone, head=head, solver=solver, random_state=0).fit(*scenes)
    logits = clf.decision_function(images)
    maps = class_activation_maps(clf, images, upsample=False)
    assert maps.shape == (40, 10, 2, 2)
    assert maps.dtype == np.float32
    assert isinstance(maps, np.ndarray)
    bias = clf.network_.head.bias.detach().numpy()
    np.testing.assert_allclose(maps.mean((2, 3)) + bias, logits, atol=1e-4)
    assert maps.std((2, 3)).max() > 1e-3
    np.testing.assert_array_equal(clf.decision_function(images), logits)


@pytest.mark.parametrize(
    "model, head",
    [
        (Averaged(), "linear"),
        (Averaged(nn.Dropout(0.5)), "linear"),
        (Colours(), "linear"),
        (Mean(), "linear"),
        (Averaged(), AveragePooling()),
        (Colours(), AveragePooling(5.0)),
        (Colours(), WildcatPooling()),
    ],
    ids=lambda part: type(part).__name__ if isinstance(part, nn.Module) else repr(part),
)
def test_maps_are_the_weights_times_the_features(scenes, model, head):
    images = scenes[0]
    clf = on_images(model, scenes, head=head, solver=Minibatch(max_epochs=3))
    pixels = torch.as_tensor(images).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    features = Colours()((pixels - mean) / std).numpy()
    weight = clf.network_.head.weight.detach().numpy()
    expected = np.einsum("jc,nchw->njhw", weight, features)
    assert abs(expected).max() > 0.01
    np.testing.assert_allclose(class_activation_maps(clf, images, upsample=False), expected, rtol=1e-4, atol=1e-5)


def test_batches_and_pieces_do_not_matter(colours, scenes, monkeypatch):
    images = scenes[0]
    whole = class_activation_maps(colours, images)
    monkeypatch.setattr("skpartial.images._maps._BATCH", 7)
    monkeypatch.setattr("skpartial.inspection._activation_maps._PIECE_BYTES", 3 * 10 * 32 * 32 * 4)
    np.testing.assert_allclose(class_activation_maps(colours, images), whole, rtol=1e-6, atol=1e-6)


def test_maps_are_enlarged_as_images_are(colours, scenes):
    images = scenes[0]
    small = torch.as_tensor(class_activation_maps(colours, images, upsample=False))
    assert small.shape == (40, 10, 4, 4)
    large = class_activation_maps(colours, images)
    assert large.shape == (40, 10, 32, 32)
    # The two pixels next to the centre of a region of 8 are 1/16 of the way to the next region on either side.
    middles = large.reshape(40, 10, 4, 8, 4, 8)[:, :, :, 3:5, :, 3:5].mean((3, 5))
    mixing = 15 / 16 * np.eye(4) + (np.eye(4, k=1) + np.eye(4, k=-1)) / 32
    mixing[0, 0] += 1 / 32
    mixing[3, 3] += 1 / 32
    np.testing.assert_allclose(middles, mixing @ small.numpy() @ mixing.T, rtol=1e-4, atol=1e-5)
    other = class_activation_maps(colours, images, upsample=(8, 12))
    expected = nn.functional.interpolate(small, (8, 12), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(other, expected, rtol=1e-6, atol=1e-6)


def test_labels_by_position_and_by_name(colours, scenes, planted):
    images = scenes[0]
    every = class_activation_maps(colours, images, upsample=False)
    for labels, expected in (([7, 2], [7, 2]), (np.array([3]), [3]), (4, [4]), (["1", 0], [1, 0])):
        chosen = class_activation_maps(colours, images, labels=labels, upsample=False)
        np.testing.assert_allclose(chosen, every[:, expected], rtol=1e-5, atol=1e-6)
    X, Y, _ = planted
    named = pd.DataFrame(Y, columns=["cat", "dog", "cow", "emu"])
    clf = PartialLabelClassifier(head=WeldonPooling(), solver=Minibatch(max_epochs=2), random_state=0).fit(X, named)
    maps = class_activation_maps(clf, X, upsample=False)
    np.testing.assert_array_equal(class_activation_maps(clf, X, labels=["emu", "dog"], upsample=False), maps[:, [3, 1]])
    np.testing.assert_array_equal(class_activation_maps(clf, X, labels="cow", upsample=False), maps[:, [2]])
    for labels in (["ant"], [4], [-1], [True], [0.0]):
        with pytest.raises(ValueError, match="which is neither an index below 4 nor one of label_names_"):
            class_activation_maps(clf, X, labels=labels, upsample=False)
    with pytest.raises(ValueError, match="labels is empty"):
        class_activation_maps(clf, X, labels=[], upsample=False)


@pytest.mark.parametrize("kind", [np.float64, np.float32, torch.float32])
def test_feature_maps_average_to_the_logits(planted, kind):
    X, Y, _ = planted
    X = torch.as_tensor(X, dtype=kind) if isinstance(kind, torch.dtype) else X.astype(kind)
    clf = PartialLabelClassifier(head=AveragePooling(), solver=Minibatch(max_epochs=3), random_state=0).fit(X, Y)
    maps = class_activation_maps(clf, X, upsample=False)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(
        maps.mean((2, 3)) + clf.head_parameters_["bias"], clf.decision_function(X), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("head", [AveragePooling(), WeldonPooling(), WildcatPooling(0.1)], ids=repr)
def test_the_maximum_lies_at_the_object(planted, head):
    X, Y, where = planted
    clf = SinglePositiveClassifier("an", head=head, solver=Minibatch(max_epochs=40), random_state=0).fit(X, Y == 1)
    maps = class_activation_maps(clf, X, upsample=False)
    shown = Y == 1
    assert (maps.reshape(120, 4, 30).argmax(2) == where)[shown].mean() > 0.95
    # Where the object is absent, no region stands out like that.
    assert maps.max((2, 3))[~shown].mean() < 0.6 * maps.max((2, 3))[shown].mean()
    # Enlarged, the maximum stays in the object's region, which the pointing game sees.
    top, left = 8 * (where // 6), 8 * (where % 6)
    corners = np.stack([left, top, left + 8, top + 8], axis=2)
    boxes = [{j: corners[i, [j]] for j in range(4)} for i in range(120)]
    large = class_activation_maps(clf, X, upsample=(40, 48))
    assert pointing_game(large, boxes, Y).mean > 0.95
    assert pointing_game(large, boxes, -Y).mean < 0.3


def test_binary_labels_have_one_map(planted):
    X, Y, _ = planted
    clf = PartialLabelClassifier(head=AveragePooling(), solver=Minibatch(max_epochs=2)).fit(X, Y[:, 0])
    maps = class_activation_maps(clf, X, upsample=False)
    assert maps.shape == (120, 1, 5, 6)
    np.testing.assert_allclose(
        maps[:, 0].mean((1, 2)) + clf.head_parameters_["bias"], clf.decision_function(X), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "model",
    [
        Largest(),
        Averaged(nn.Tanh()),
        Averaged(nn.Linear(6, 6)),
        Tokens(),
        # As in VGG, the pooling is not global, and layers follow.
        nn.Sequential(Colours(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 6)),
    ],
    ids=["largest", "nonlinear", "mixed", "tokens", "layers"],
)
def test_a_network_without_maps_is_refused(scenes, model):
    clf = on_images(model, scenes, solver=Minibatch(max_epochs=1))
    with pytest.raises(ValueError, match="are not averages of feature maps, so a linear head cannot score"):
        class_activation_maps(clf, scenes[0])


def test_refusals(planted, colours, scenes):
    X, Y, _ = planted
    with pytest.raises(TypeError, match="estimator must be a PartialLabelClassifier or a SinglePositiveClassifier"):
        class_activation_maps(LogisticRegression(), X)
    with pytest.raises(NotFittedError):
        class_activation_maps(PartialLabelClassifier(head=AveragePooling()), X)
    with pytest.raises(ValueError, match="was fitted on rows of features with head=Linear"):
        class_activation_maps(PartialLabelClassifier().fit(X.mean((2, 3)), Y), X)
    solver = Minibatch(max_epochs=1)
    perceptron = PartialLabelClassifier(head=Perceptron(), solver=solver).fit(X, Y)
    with pytest.raises(ValueError, match=r"head=Perceptron\(\), which does not score labels per region"):
        class_activation_maps(perceptron, X, upsample=False)
    clf = PartialLabelClassifier(head=AveragePooling(), solver=solver).fit(X, Y)
    with pytest.raises(ValueError, match=r"upsample=True needs the size .* pass upsample=\(height, width\)"):
        class_activation_maps(clf, X)
    for upsample in ((0, 4), (4,), 4, "auto", (4.0, 4.0), None):
        with pytest.raises(ValueError, match="upsample must be True, False or a pair"):
            class_activation_maps(clf, X, upsample=upsample)
    with pytest.raises(ValueError, match="X has 6 features, but PartialLabelClassifier is expecting 10"):
        class_activation_maps(clf, X[:, :6], upsample=False)
    with pytest.raises(ValueError, match="overflow float32"):
        class_activation_maps(clf, 1e39 * X, upsample=False)
    with pytest.raises(ValueError, match=r"X has shape \(40, 5\)"):
        class_activation_maps(colours, np.zeros((40, 5)))


def test_the_package_imports_it_on_first_use():
    assert skpartial.__getattr__("inspection").class_activation_maps is class_activation_maps
    assert "inspection" in skpartial.__all__
