"""Backbones: the networks of torchvision without their classifiers, their weights from files, and what is refused."""

from __future__ import annotations

import pickle
import re
import sys
import types
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from sklearn.base import clone
from torch import nn

from skpartial import PartialLabelClassifier, images
from skpartial.images import Backbone
from skpartial.solvers import Minibatch

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def reference(name, **arguments):
    """A network of torchvision's own, in evaluation mode, the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = torchvision.models.get_model(name, weights=None, **arguments)
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):  # as they are after training
                nn.init.uniform_(layer.running_mean, -0.1, 0.1)
                nn.init.uniform_(layer.running_var, 0.5, 1.5)
        return model.eval()


@pytest.fixture(scope="module")
def resnet():
    return reference("resnet18")


@pytest.fixture(scope="module")
def resnet_file(resnet, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def pixels():
    return torch.from_numpy(np.random.default_rng(0).integers(256, size=(3, 3, 64, 64), dtype=np.uint8))


def normalized(pixels):
    return (pixels / 255 - MEAN[:, None, None]) / STD[:, None, None]


def features(backbone, pixels):
    network = backbone.network(backbone.load(), None).eval()
    with torch.no_grad():
        return network(pixels)


# ------------------------------------------------------------------------------------------ networks of torchvision


@pytest.mark.parametrize(
    ("name", "width", "classifier", "layer"),
    [
        ("resnet18", 512, "fc", 0),
        ("squeezenet1_1", 512, "classifier", 1),
        ("mobilenet_v3_small", 1024, "classifier", 3),
        ("mobilenet_v2", 1280, "classifier", 1),
        ("shufflenet_v2_x0_5", 1024, "fc", 0),
        ("densenet121", 1024, "classifier", 0),
        ("mnasnet0_5", 1280, "classifier", 1),
        ("efficientnet_b0", 1280, "classifier", 1),
        ("regnet_y_400mf", 440, "fc", 0),
    ],
)
def test_features_are_what_the_classifier_takes(tmp_path, pixels, name, width, classifier, layer):
    """The network of torchvision with the same weights, whose last layer's input is watched."""
    model = reference(name)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    backbone = Backbone(name, weights=tmp_path / "weights.pth", image_size=64)
    last = getattr(model, classifier)
    last = last[layer] if isinstance(last, nn.Sequential) else last
    taken = []
    last.register_forward_hook(lambda module, inputs, output: taken.append(inputs[0]))
    with torch.no_grad():
        model(normalized(pixels))
    expected = taken[0].relu().mean((2, 3)) if taken[0].ndim == 4 else taken[0]
    assert backbone.load().n_features(False, name) == width
    found = features(backbone, pixels)
    assert found.shape == (3, width)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_auxiliary_classifiers_play_no_part(tmp_path, pixels):
    """GoogLeNet as torchvision hands it out with weights: its input is rescaled, its other classifiers are there."""
    model = reference("googlenet", transform_input=True, aux_logits=True, init_weights=False)
    torch.save(model.state_dict(), tmp_path / "with.pth")
    bare = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("aux")}
    torch.save(bare, tmp_path / "without.pth")
    model.fc = nn.Identity()
    with torch.no_grad():
        expected = model(normalized(pixels))
    for file in ("with", "without"):
        backbone = Backbone("googlenet", weights=tmp_path / f"{file}.pth", image_size=64, augment=None)
        torch.testing.assert_close(features(backbone, pixels), expected, atol=1e-5, rtol=1e-4)
    network = backbone.network(backbone.load(), nn.Linear(1024, 2)).train()
    assert network(pixels).shape == (3, 2)
    assert not any("aux" in name for name, _ in network.named_parameters())


def test_random_starts_follow_pytorchs_generator():
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(Backbone("squeezenet1_1", weights=None).load().module.features[0].weight)
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_sizes_of_images():
    load = Backbone("squeezenet1_1", weights=None).load
    assert load().image_size == (224, 224)
    for given, size in (
        (64, (64, 64)),
        ((32, 48), (32, 48)),
        ([32, 48], (32, 48)),
        (np.int64(40), (40, 40)),
        ((np.int32(5), 7), (5, 7)),
    ):
        assert Backbone("squeezenet1_1", weights=None, image_size=given).load().image_size == size


def test_presets_of_the_weights_that_were_asked_for(monkeypatch):
    """Weights of one network may be for images of another size than its default ones."""
    choices = []

    def make(name, weights=None, **arguments):
        choices.append((name, weights))
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 4))

    monkeypatch.setattr(torchvision.models, "get_model", make)
    known = torchvision.models.ViT_B_16_Weights
    for text, weights, size in (
        ("DEFAULT", known.IMAGENET1K_V1, 224),
        ("IMAGENET1K_V1", known.IMAGENET1K_V1, 224),
        ("IMAGENET1K_SWAG_E2E_V1", known.IMAGENET1K_SWAG_E2E_V1, 384),
    ):
        loaded = Backbone("vit_b_16", weights=text).load()
        assert choices[-1] == ("vit_b_16", weights)
        assert loaded.image_size == (size, size)
        torch.testing.assert_close(loaded.normalize.mean.flatten(), MEAN)
        assert Backbone("vit_b_16", weights=text, image_size=32).load().image_size == (32, 32)
    inception = Backbone("inception_v3").load()
    assert inception.image_size == (299, 299)


@pytest.mark.parametrize("error", [URLError("no network"), RuntimeError("invalid hash value"), OSError("disk full")])
@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1"])
def test_downloads_that_fail(monkeypatch, weights, error):
    def fail(*arguments, **keywords):
        raise error

    # Where torchvision's weights look for the file.
    monkeypatch.setattr(sys.modules["torchvision.models._api"], "load_state_dict_from_url", fail)
    with pytest.raises(ValueError, match=r"weights .*IMAGENET1K_V1 of 'resnet18' could not be downloaded") as caught:
        Backbone("resnet18", weights).load()
    calls = re.findall(r"ImageFeatures\(backbone=.*?\)\)", str(caught.value))
    features = [eval(call, {"ImageFeatures": images.ImageFeatures, "Backbone": Backbone}) for call in calls]
    assert [feature.backbone.weights for feature in features] == ["FILE", None]
    assert {feature.backbone.model for feature in features} == {"resnet18"}
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("name", ["resnet19", "fcn_resnet50", "r3d_18", "fasterrcnn_resnet50_fpn", "raft_small", ""])
def test_models_that_do_not_classify_images(monkeypatch, name):
    """Among them those of torchvision's that would start by downloading a part of themselves."""
    monkeypatch.setattr(torchvision.models, "get_model", None)
    with pytest.raises(ValueError, match=rf"torchvision has no image classification model '{name}'.*'timm/NAME'"):
        Backbone(name, weights=None).load()


def test_unknown_weights():
    with pytest.raises(ValueError, match=r"weights='IMAGENET1K_V9' is neither .* weights of resnet50: DEFAULT, .*_V2"):
        Backbone("resnet50", "IMAGENET1K_V9").load()


def test_images_of_a_size_that_a_network_cannot_take():
    loaded = Backbone("inception_v3", weights=None, image_size=32).load()
    with pytest.raises(ValueError, match=r"'inception_v3' cannot take images of 32 x 32 pixels \(.*\): choose image_s"):
        loaded.n_features(False, "inception_v3")


# -------------------------------------------------------------------------------------------------------------- maps


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "regnet_y_400mf"])
def test_maps_are_what_the_network_pools(pixels, name):
    """Their averages are its features, also where the network pools within its blocks too."""
    backbone = Backbone(name, weights=None, image_size=64)
    loaded = backbone.load()
    with torch.no_grad():
        expected = backbone.network(loaded, None).eval()(pixels)
        maps = backbone.network(loaded, None, takes_maps=True).eval().features(pixels)
    assert maps.ndim == 4
    assert maps.shape[2] > 1
    torch.testing.assert_close(maps.mean((2, 3)), expected, atol=1e-5, rtol=1e-4)
    assert loaded.n_features(True, name) == loaded.n_features(False, name) == expected.shape[1]


def test_maps_reach_the_head_and_gradients_the_network(pixels):
    backbone = Backbone("resnet18", weights=None, image_size=64, augment=None)
    loaded = backbone.load()
    head = nn.Sequential(nn.Conv2d(512, 5, 1), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    network = backbone.network(loaded, head, takes_maps=True).train()
    logits = network(pixels)
    assert logits.shape == (3, 5)
    logits.sum().backward()
    assert loaded.module.conv1.weight.grad.abs().max() > 0
    again = pickle.loads(pickle.dumps(network)).eval()
    with torch.no_grad():
        assert torch.equal(again(pixels), network.eval()(pixels))


def test_maps_leave_nothing_behind(pixels):
    """Whoever asked for maps before, nobody keeps those of later batches."""
    backbone = Backbone("resnet18", weights=None, image_size=64)
    loaded = backbone.load()
    networks = [backbone.network(loaded, None, takes_maps=True).eval() for _ in range(3)]
    loaded.n_features(True, "resnet18")
    with torch.no_grad():
        networks[0].features(pixels)
    for module in loaded.module.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    for network in networks:
        held = [value for part in network.modules() for value in vars(part).values() if isinstance(value, list)]
        assert not any(held)


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "mobilenet_v2", "densenet121"])
def test_networks_without_pooling_have_no_maps(name):
    loaded = Backbone(name, weights=None, image_size=32).load()
    with pytest.raises(ValueError, match=rf"'{name}' has no feature maps .*: use head='linear', or .*'resnet50'"):
        loaded.n_features(True, name)


def test_modules_that_answer_with_maps(network, pixels):
    backbone = Backbone(network, image_size=64)
    loaded = backbone.load()
    assert loaded.n_features(True, "it") == loaded.n_features(False, "it") == 16
    network.eval()
    with torch.no_grad():
        expected = network(normalized(pixels))
        maps = backbone.network(loaded, None, takes_maps=True).eval().features(pixels)
        averages = backbone.network(loaded, None).eval().features(pixels)
    torch.testing.assert_close(maps, expected)
    torch.testing.assert_close(averages, expected.mean((2, 3)))


# ------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("kind", ["pth", "pt", "checkpoint", "half", "safetensors", "str"])
def test_weights_of_a_file(tmp_path, resnet, pixels, kind):
    state = resnet.state_dict()
    path = tmp_path / f"weights.{kind if kind in ('pt', 'safetensors') else 'pth'}"
    if kind == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, path)
    elif kind == "checkpoint":
        torch.save({"epoch": 3, "state_dict": state}, path)
    elif kind == "half":
        torch.save(
            {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}, path
        )
    else:
        torch.save(state, path)
    with torch.no_grad():
        expected = resnet.avgpool(nn.Sequential(*list(resnet.children())[:-2])(normalized(pixels))).flatten(1)
    found = features(Backbone("resnet18", str(path) if kind == "str" else path, image_size=64), pixels)
    tolerance = 0.02 if kind == "half" else 1e-5
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    assert found.dtype == torch.float32


def test_a_classifier_is_not_needed(tmp_path, resnet, resnet_file, pixels):
    """Nor are counters of batches, nor is it an error if there is more."""
    kept = {
        name: tensor
        for name, tensor in resnet.state_dict().items()
        if not name.startswith("fc") and not name.endswith("num_batches_tracked")
    }
    torch.save({**kept, "head.weight": torch.zeros(2, 3)}, tmp_path / "bare.pth")
    found = features(Backbone("resnet18", tmp_path / "bare.pth", image_size=64), pixels)
    assert torch.equal(found, features(Backbone("resnet18", resnet_file, image_size=64), pixels))


def test_names_that_torchvision_gave_up(tmp_path, pixels):
    """Its files of densenets, as it hands them out, have names from before PyTorch refused dots in them."""
    state = reference("densenet121").state_dict()
    pattern = re.compile(r"(denselayer\d+\.(?:norm|conv))([12])\.")
    old = {pattern.sub(r"\1.\2.", name): tensor for name, tensor in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(state, tmp_path / "new.pth")
    torch.save(old, tmp_path / "old.pth")
    new, found = (
        features(Backbone("densenet121", tmp_path / f"{n}.pth", image_size=32), pixels) for n in ("new", "old")
    )
    assert torch.equal(found, new)


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.mark.parametrize("suffix", ["pth", "pt", "bin", "safetensors"])
def test_files_are_not_executed(tmp_path, suffix):
    if suffix == "safetensors":
        pytest.importorskip("safetensors")
    path, trace = tmp_path / f"weights.{suffix}", tmp_path / "trace"
    torch.save({"conv1.weight": Malicious(trace)}, path)
    with pytest.raises(ValueError, match=rf"weights\.{suffix}' is not a readable file of weights"):
        Backbone("resnet18", path).load()
    path.write_bytes(pickle.dumps(Malicious(trace)))
    with pytest.raises(ValueError, match="is not a readable file of weights"):
        Backbone("resnet18", path).load()
    assert not trace.exists()
    if suffix == "pth":  # the trap works
        pickle.loads(path.read_bytes())
        assert trace.exists()


def test_files_that_do_not_fit(tmp_path, resnet, resnet_file):
    with pytest.raises(
        ValueError, match=r"resnet18\.pth' lacks \d+ of the \d+ tensors of 'resnet34', 'layer1\.2\..* first"
    ):
        Backbone("resnet34", resnet_file).load()
    with pytest.raises(ValueError, match=r"lacks .*: it belongs to another network"):
        Backbone("squeezenet1_1", resnet_file).load()
    state = {**resnet.state_dict(), "conv1.weight": torch.zeros(64, 1, 7, 7)}
    torch.save(state, tmp_path / "grey.pth")
    message = r"grey\.pth' does not fit 'resnet18': 'conv1\.weight' has shape \(64, 1, 7, 7\), not \(64, 3, 7, 7\)"
    with pytest.raises(ValueError, match=message):
        Backbone("resnet18", tmp_path / "grey.pth").load()
    for content in ([torch.zeros(2)], {"state_dict": [1]}, {"a": 3}, torch.zeros(3)):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(ValueError, match=r"other\.pth' holds no dictionary of tensors"):
            Backbone("resnet18", tmp_path / "other.pth").load()


def test_files_that_are_none(tmp_path, resnet_file):
    with pytest.raises(ValueError, match=r"the file of weights '.*nowhere\.pth' does not exist"):
        Backbone("resnet18", tmp_path / "nowhere.pth").load()
    with pytest.raises(ValueError, match="is not a readable file of weights"):
        Backbone("resnet18", tmp_path).load()
    for content in (b"", b"not a file of weights", resnet_file.read_bytes()[:5000]):
        (tmp_path / "damaged.pth").write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged\.pth' is not a readable file of weights"):
            Backbone("resnet18", tmp_path / "damaged.pth").load()


# ------------------------------------------------------------------------------------------------ modules of the user


def test_a_module_is_copied(network, pixels):
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    loaded = Backbone(network, image_size=64).load()
    assert loaded.module is not network
    made = Backbone(network, image_size=64).network(loaded, nn.Linear(16, 2)).train()
    made(pixels).sum().backward()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(1)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_modules_of_another_type_compute_in_float32(network, pixels, dtype):
    expected = features(Backbone(network, image_size=64), pixels)
    found = features(Backbone(network.to(dtype), image_size=64), pixels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)
    assert network[0].weight.dtype == dtype


def test_modules_that_answer_with_something_else():
    class Pair(nn.Module):
        def forward(self, images):
            return images, images

    with pytest.raises(ValueError, match="'Pair' returns a tuple, not a tensor of features"):
        Backbone(Pair(), image_size=8).load().n_features(False, "Pair")
    with pytest.raises(ValueError, match=r"'Flat' returns shape \(192,\) for one image: it must be \(b, d\)"):
        Backbone(nn.Flatten(0), image_size=8).load().n_features(False, "Flat")
    with pytest.raises(ValueError, match=r"'Linear' cannot take images of 8 x 8 pixels \(.*\): choose image_size"):
        Backbone(nn.Linear(5, 2), image_size=8).load().n_features(False, "Linear")


def test_looking_at_a_module_leaves_its_mode(network):
    loaded = Backbone(network.train(), image_size=16).load()
    before = loaded.module[1].running_mean.clone()
    loaded.n_features(False, "it")
    assert all(module.training for module in loaded.module.modules())
    assert torch.equal(loaded.module[1].running_mean, before)


@pytest.mark.parametrize("batch_norm", ["train", "frozen"])
def test_batch_norms_may_stay_as_they_are(network, pixels, batch_norm):
    backbone = Backbone(network, image_size=64, batch_norm=batch_norm)
    made = backbone.network(backbone.load(), nn.BatchNorm1d(16)).train()
    made(pixels)
    norm = made.body[1]
    assert norm.training == (batch_norm == "train")
    assert torch.equal(norm.running_mean, torch.zeros(8)) == (batch_norm == "frozen")
    assert made.head.training  # the head's own are none of the network's
    assert not any(module.training for module in made.eval().modules())


# -------------------------------------------------------------------------------------------------------------- timm


def test_timm_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"Backbone 'timm/resnet10t' needs timm: pip install timm"):
        Backbone("timm/resnet10t").load()


@pytest.fixture
def timm(monkeypatch):
    """A stand-in that makes one network, and notes how it was asked."""
    module = types.ModuleType("timm")
    module.asked = []

    def create_model(name, pretrained=False, num_classes=1000):
        module.asked.append((name, pretrained, num_classes))
        if name != "small":
            raise RuntimeError(f"Unknown model ({name})")
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        model.pretrained_cfg = {"input_size": (3, 20, 28), "mean": (0, 0, 0), "std": (1, 1, 1)}
        return model

    module.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", module)
    return module


def test_networks_of_timm(timm, tmp_path):
    for weights, pretrained in (("DEFAULT", True), (None, False)):
        loaded = Backbone("timm/small", weights).load()
        assert timm.asked[-1] == ("small", pretrained, 0)
        assert loaded.image_size == (28, 28)
        assert loaded.normalize.mean.flatten().tolist() == [0, 0, 0]
        assert loaded.n_features(False, "small") == 4
        assert loaded.n_features(True, "small") == 4
    torch.save(loaded.module.state_dict(), tmp_path / "weights.pth")
    again = Backbone("timm/small", tmp_path / "weights.pth").load()
    assert timm.asked[-1] == ("small", False, 0)
    assert torch.equal(again.module[0].weight, loaded.module[0].weight)
    with pytest.raises(
        ValueError, match=r"timm could not make 'huge' with weights='DEFAULT' \(Unknown model \(huge\)\)"
    ):
        Backbone("timm/huge").load()
    with pytest.raises(ValueError, match=r"the file of weights 'IMAGENET1K_V1' does not exist"):
        Backbone("timm/small", "IMAGENET1K_V1").load()


def test_timm_itself(pixels):
    timm = pytest.importorskip("timm")
    backbone = Backbone("timm/resnet10t", weights=None, image_size=64)
    loaded = backbone.load()
    assert loaded.n_features(False, "resnet10t") == 512
    model = timm.create_model("resnet10t", pretrained=False, num_classes=0).eval()
    model.load_state_dict(loaded.module.state_dict())
    with torch.no_grad():
        found = backbone.network(loaded, None).eval()(pixels)
        torch.testing.assert_close(found, model(normalized(pixels)))


# ---------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": 18}, "model must be a name or a torch.nn.Module, got 18"),
        ({"model": nn.Linear}, "model must be a name or a torch.nn.Module, got <class"),
        ({"finetune": "some"}, "finetune must be 'all', 'head' or 'linear_init', got 'some'"),
        ({"batch_norm": "eval"}, "batch_norm must be 'train' or 'frozen', got 'eval'"),
        ({"batch_norm": ["train"]}, r"batch_norm must be 'train' or 'frozen', got \['train'\]"),
        ({"on_error": "ignore"}, "on_error must be 'raise' or 'skip', got 'ignore'"),
        ({"augment": "rotate"}, "augment must be 'flip', 'crop', a callable or None, got 'rotate'"),
        ({"augment": 3}, "augment must be 'flip', 'crop', a callable or None, got 3"),
        *(
            ({"image_size": size}, "image_size must be a whole number above 0, or a pair of them, got")
            for size in (0, -3, 32.0, True, "32", (32,), (32, 0), (32, 32, 3), (32, 1.5), [], ("32", "32"))
        ),
        *(
            ({"weights": weights}, "weights must be a name, the path of a file, or None, got")
            for weights in (3, b"a", {})
        ),
        *(
            ({"cache_bytes": size}, "cache_bytes must be a number of at least 0, got")
            for size in (-1, float("nan"), "1e9", None)
        ),
    ],
    ids=str,
)
def test_settings_out_of_range(settings, message):
    backbone = Backbone(**{"model": "squeezenet1_1", "weights": None, **settings})
    with pytest.raises(ValueError, match=f"Backbone: {message}"):
        backbone.load()


@pytest.mark.parametrize("augment", [None, nn.Identity(), torch.sqrt], ids=["none", "module", "function"])
def test_augmentations_of_every_kind(network, pixels, augment):
    """They change images while the network trains, and only then."""
    backbone = Backbone(network, image_size=64, augment=augment)
    made = backbone.network(backbone.load(), None)
    changed = (pixels / 255).sqrt() if augment is torch.sqrt else pixels / 255
    with torch.no_grad():
        expected = {
            mode: network.train(mode)(normalized(255 * images)).mean((2, 3))
            for mode, images in ((False, pixels / 255), (True, changed))
        }
        for mode, values in expected.items():
            torch.testing.assert_close(made.train(mode)(pixels), values, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("cache_bytes", "kept"),
    [(0, False), (0.0, False), (np.int64(0), False), (10**4, True), (1e4, True), (np.float64(1e4), True)],
    ids=repr,
)
def test_memory_of_every_kind(network, cache_bytes, kept):
    """Images that fit into it are read once, others in every epoch."""
    pixels = np.random.default_rng(0).integers(256, size=(8, 16, 16, 3), dtype=np.uint8)

    class File:
        """What is no array is read image by image, or batch by batch."""

        shape, dtype, n_read = pixels.shape, pixels.dtype, 0

        def __getitem__(self, rows):
            self.n_read += len(pixels[rows])
            return pixels[rows]

    X, n_epochs = File(), 5
    backbone = Backbone(network, image_size=16, cache_bytes=cache_bytes)
    clf = PartialLabelClassifier(backbone=backbone, solver=Minibatch(max_epochs=n_epochs), random_state=0)
    clf.fit(X, np.tile([[1, -1], [-1, 1]], (4, 1)))
    assert X.n_read == (1 if kept else n_epochs) * len(pixels)


def test_settings_are_those_of_an_estimator(network):
    backbone = Backbone("resnet18", weights=None, image_size=(32, 48))
    assert repr(backbone) == "Backbone(image_size=(32, 48), model='resnet18', weights=None)"
    assert backbone.get_params()["augment"] == "flip"
    copy = clone(backbone).set_params(finetune="head")
    assert (copy.finetune, copy.image_size, backbone.finetune) == ("head", (32, 48), "all")
    assert pickle.loads(pickle.dumps(backbone)).get_params() == backbone.get_params()
    own = Backbone(network)
    assert "Conv2d" in repr(own)
    for again in (clone(own), pickle.loads(pickle.dumps(own))):
        assert again.model is not network
        for name, tensor in again.model.state_dict().items():
            assert torch.equal(tensor, network.state_dict()[name])


def test_names(network):
    assert Backbone("resnet18").name == "resnet18"
    assert Backbone("timm/resnet10t").name == "timm/resnet10t"
    assert Backbone(network).name == "Sequential"
    assert Backbone("resnet18").is_pretrained
    assert Backbone(network, weights=None).is_pretrained
    assert not Backbone("resnet18", weights=None).is_pretrained


def test_get(network):
    backbone = Backbone("resnet18")
    assert images.get(backbone) is backbone
    assert images.get("resnet18").get_params() == backbone.get_params()
    assert images.get(network).model is network
    for wrong in (None, 3, nn.Linear):
        with pytest.raises(
            ValueError, match=r"backbone must be a name, a torch\.nn\.Module or a skpartial\.images\.Back"
        ):
            images.get(wrong)
