"""Images in: networks fine-tuned in `fit`, or trained by the head alone, in every place where estimators go."""

from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.exceptions import ImageReadError
from skpartial.heads import AveragePooling, WeldonPooling
from skpartial.images import Backbone, ImageFeatures
from skpartial.inspection import class_activation_maps
from skpartial.labels import keep_single_positive
from skpartial.losses import ROLE, AssumeNegative, EntropyMaximization, ExpectedPositives, LargeLoss
from skpartial.solvers import FullBatch, Minibatch

QUICK = Minibatch(learning_rate=3e-3, head_rate=1.0, max_epochs=2, batch_size=32)


def backbone(network, **settings):
    return Backbone(network, **{"image_size": 32, "augment": None, **settings})


def test_a_network_learns_and_is_left_alone(network, patches):
    images, Y, complete = patches
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    clf = PartialLabelClassifier(
        backbone=backbone(network, image_size=16),
        solver=Minibatch(learning_rate=1e-2, head_rate=1.0, max_epochs=12, batch_size=16),
        random_state=0,
    ).fit(images, Y)
    assert clf.history_[-1]["loss"] < 0.7 * clf.history_[0]["loss"]
    assert clf.score(images, complete) > 0.99
    assert (clf.network_.body[0].weight - network[0].weight).abs().max() > 0.01
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert clf.coef_.shape == (4, 16)
    assert clf.predict(images).shape == Y.shape
    assert not hasattr(clf, "n_features_in_")


@pytest.mark.parametrize(
    "loss", [AssumeNegative(), ROLE(expected_positives=1.6), LargeLoss("reject", delta=0.01)], ids=["AN", "ROLE", "LL"]
)
def test_one_presence_an_image(network, patches, unseen_patches, loss):
    """A network from a random start. Measured over three draws: 0.97 to 0.99, where chance has 0.39."""
    images, _, complete = patches
    clf = SinglePositiveClassifier(
        loss,
        backbone=backbone(network, image_size=16),
        head=WeldonPooling(k_max=1, k_min=0),
        solver=Minibatch(learning_rate=1e-2, head_rate=1.0, max_epochs=12, batch_size=16),
        random_state=0,
    ).fit(images, keep_single_positive(complete, random_state=0))
    unseen, labels, corners = unseen_patches
    assert clf.score(unseen, labels) > 0.9
    # It looks where the patch is, to within four pixels, a position of its maps: measured 0.86 to 0.97, by chance 0.27.
    red = labels[:, 0] == 1
    maps = class_activation_maps(clf, unseen[red], labels=[0])[:, 0]
    highest = np.array([np.unravel_index(each.argmax(), each.shape) for each in maps])
    off = np.abs(highest - (corners[red, 0] + 1)).max(axis=1)
    assert (off <= 4).mean() > 0.75


def test_the_fitted_network_is_what_predicts(network, scenes):
    """Logits by hand, from the fitted network's parts."""
    images, Y, _, _ = scenes
    clf = PartialLabelClassifier(backbone=backbone(network), solver=QUICK, random_state=0).fit(images, Y)
    fitted = clf.network_
    assert not fitted.training
    assert all(tensor.device.type == "cpu" for tensor in fitted.state_dict().values())
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        maps = fitted.body((pixels - mean[:, None, None]) / std[:, None, None])
    by_hand = maps.mean((2, 3)).numpy() @ clf.coef_.T + clf.intercept_
    np.testing.assert_allclose(clf.decision_function(images), by_hand, atol=1e-4)
    copy = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(copy.decision_function(images[:9]), clf.decision_function(images[:9]))


def test_the_head_alone_is_a_linear_probe(network, scenes):
    images, Y, _, _ = scenes
    settings = backbone(network, finetune="head")
    clf = PartialLabelClassifier(backbone=settings, random_state=0).fit(images, Y)
    features = ImageFeatures(settings).fit_transform(images)
    probe = PartialLabelClassifier(random_state=0).fit(features, Y)
    np.testing.assert_allclose(clf.coef_, probe.coef_, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(clf.decision_function(images), probe.decision_function(features), atol=1e-4)
    assert "iteration" in clf.history_[0]  # to the optimum, by the full-batch solver


def test_linear_init_goes_on_from_the_best_head(network, scenes):
    images, _, single, _ = scenes
    still = Minibatch(learning_rate=1e-12, max_epochs=1, batch_size=32)
    frozen = {"batch_norm": "frozen"}
    head = SinglePositiveClassifier(backbone=backbone(network, finetune="head"), random_state=0).fit(images, single)
    both = SinglePositiveClassifier(
        backbone=backbone(network, finetune="linear_init", **frozen), solver=still, random_state=0
    ).fit(images, single)
    # A second stage that does not move ends where the first one did.
    np.testing.assert_allclose(both.decision_function(images), head.decision_function(images), atol=1e-4)
    assert [record["stage"] for record in both.history_] == ["head"] * len(head.history_) + ["all"]
    assert both.n_iter_ == len(both.history_)
    # One that does moves the network as well.
    moved = clone(both).set_params(solver__learning_rate=1e-3).fit(images, single)
    drift = moved.network_.body[0].weight - network[0].weight
    assert drift.abs().max() > 1e-4


def test_linear_init_hands_label_estimates_on(network, scenes):
    images, _, single, complete = scenes
    loss = ROLE((complete == 1).sum(1).mean())
    still = Minibatch(learning_rate=1e-12, max_epochs=1, batch_size=32)
    settings = {"random_state": 0, "alpha": 1e-3}
    head = SinglePositiveClassifier(
        loss, backbone=backbone(network, finetune="head"), solver=Minibatch(), **settings
    ).fit(images, single)
    both = SinglePositiveClassifier(
        loss, backbone=backbone(network, finetune="linear_init"), solver=still, **settings
    ).fit(images, single)
    np.testing.assert_allclose(both.label_estimates_, head.label_estimates_, atol=1e-4)


@pytest.mark.parametrize(
    "loss",
    [
        *("bce", "iu", "partial_bce", "an", "an_ls", "wan", "pseudo_negative", "ll_r", "ll_ct", "ll_cp"),
        *("pairwise", "warp", "ramp_warp", "asl", "csl", "hill", "splc", "em", "gr", ExpectedPositives(2.4)),
        *(ROLE(2.4), ROLE(2.4, estimator="factorized", rank=4), ROLE(2.4, estimator="network", rank=4)),
        EntropyMaximization(0.1, pseudo_weight=0.1, warm_up=1, n_epochs=3),
    ],
    ids=str,
)
def test_every_loss_trains_a_network(network, scenes, loss):
    images, partial, single, complete = scenes
    Y = {"bce": complete, "iu": partial, "partial_bce": partial}.get(str(loss), single)
    clf = SinglePositiveClassifier(loss, backbone=backbone(network), solver=QUICK, random_state=0)
    clf.fit(images[:48], Y[:48])
    logits = clf.decision_function(images[:48])
    assert np.isfinite(logits).all()
    assert len(clf.history_) == 2
    moved = (clf.network_.body[0].weight - network[0].weight).abs().max()
    assert moved > 1e-4


@pytest.mark.parametrize("finetune", ["all", "head", "linear_init"])
def test_pooled_heads_take_the_maps(network, scenes, finetune):
    images, _, single, _ = scenes
    clf = SinglePositiveClassifier(
        LargeLoss("reject"),
        backbone=backbone(network, finetune=finetune),
        head=AveragePooling(boost=5),
        solver=QUICK,
        threshold=0.5,
        random_state=0,
    ).fit(images, single)
    with torch.no_grad():
        maps = clf.network_.body(clf.network_.normalize(torch.from_numpy(images).permute(0, 3, 1, 2))).numpy()
    scores = np.einsum("jc,nchw->njhw", clf.head_parameters_["weight"], maps)
    expected = np.where(scores > 0, 5 * scores, scores).mean((2, 3)) + clf.head_parameters_["bias"]
    np.testing.assert_allclose(clf.decision_function(images), expected, atol=1e-4)


def test_images_of_every_kind_are_the_same_images(network, scenes, tmp_path):
    images, Y, _, _ = scenes
    images, Y = images[:40], Y[:40]
    paths = []
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        paths.append(str(tmp_path / f"{i}.png"))
    np.save(tmp_path / "all.npy", images)
    kinds = [
        images,
        images.transpose(0, 3, 1, 2),
        torch.from_numpy(images),
        np.load(tmp_path / "all.npy", mmap_mode="r"),
        paths,
        np.array(paths, dtype=object),
        list(images),
    ]
    clf = PartialLabelClassifier(backbone=backbone(network), solver=QUICK, random_state=0)
    expected = clf.fit(images, Y).decision_function(images)
    for kind in kinds[1:]:
        again = clone(clf).fit(kind, Y)
        np.testing.assert_allclose(again.decision_function(kind), expected, atol=1e-5)


def test_grid_search_and_validation(network, scenes):
    images, Y, single, _ = scenes
    single = np.where(np.arange(120)[:, None] % 10 == np.arange(10), 1, single)  # every label in every fold
    grid = GridSearchCV(
        SinglePositiveClassifier("ll_r", backbone=backbone(network), solver=QUICK, random_state=0),
        {"loss__delta": [0.001, 0.1], "backbone__finetune": ["all", "head"]},
        cv=2,
        n_jobs=2,
    ).fit(images[:60], single[:60])
    assert np.isfinite(grid.cv_results_["mean_test_score"]).all()
    clf = PartialLabelClassifier(backbone=backbone(network), solver=QUICK, validation_fraction=0.3, random_state=0)
    clf.fit(images, Y)
    scores = [record["validation_score"] for record in clf.history_]
    assert clf.best_epoch_ == 1 + int(np.argmax(scores))


def test_same_seed_same_network(scenes):
    images, Y, _, _ = scenes
    solver = Minibatch(max_epochs=1, batch_size=16, learning_rate=1e-3)

    def fit(seed):
        settings = Backbone("shufflenet_v2_x0_5", weights=None, image_size=32, augment="crop")
        clf = PartialLabelClassifier(backbone=settings, solver=solver, random_state=seed)
        return clf.fit(images[:33], Y[:33]).decision_function(images[:33])

    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    first = fit(0)
    assert torch.equal(torch.rand(2), expected)
    np.testing.assert_array_equal(first, fit(0))
    assert not np.allclose(first, fit(1))


def test_unreadable_images(network, tmp_path):
    """Ten of a thousand: the error names the first; skipping lists all ten and trains on the rest."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(1000):
        paths.append(str(tmp_path / f"{i:04d}.png"))
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(paths[-1])
    bad = sorted(rng.choice(1000, 10, replace=False).tolist())
    for i in bad:
        with open(paths[i], "wb") as file:
            file.write(b"no image")
    Y = rng.choice([-1, 0, 1], size=(1000, 3))
    solver = Minibatch(max_epochs=1, batch_size=100, learning_rate=1e-3)
    settings = backbone(network, image_size=8)
    with pytest.raises(ImageReadError, match=f"{bad[0]:04d}.png"):
        PartialLabelClassifier(backbone=backbone(network, image_size=8, finetune="head")).fit(paths, Y)
    clf = PartialLabelClassifier(backbone=settings, solver=solver, random_state=0)
    clf.set_params(backbone__on_error="skip")
    with pytest.warns(UserWarning, match="10 of 1000 images cannot be read and are left out"):
        clf.fit(paths, Y)
    assert [row for row, _ in clf.skipped_] == bad
    assert all(f"{row:04d}.png" in message for row, message in clf.skipped_)
    good = np.setdiff1d(np.arange(1000), bad)
    rest = PartialLabelClassifier(backbone=settings, solver=solver, random_state=0)
    rest.fit([paths[i] for i in good], Y[good])
    np.testing.assert_array_equal(rest.coef_, clf.coef_)
    with pytest.raises(ImageReadError, match=f"{bad[0]:04d}.png"):
        clf.predict(paths)


class TestSteps:
    def fit(self, network, scenes, *, loss="ll_ct", **settings):
        images, _, single, _ = scenes
        solver = Minibatch(**{**QUICK.get_params(), **settings})
        frozen = backbone(network, batch_norm="frozen")
        return SinglePositiveClassifier(loss, backbone=frozen, solver=solver, random_state=0).fit(images, single)

    @pytest.mark.parametrize("loss", ["ll_ct", ROLE(2.4), "warp"])
    def test_pieces_have_the_gradients_of_the_whole_batch(self, network, scenes, loss):
        """Also under losses that compare the entries of a batch."""
        images = scenes[0]
        # Plain gradient descent: Adam would magnify rounding.
        whole = self.fit(network, scenes, loss=loss, optimizer="sgd")
        pieces = self.fit(network, scenes, loss=loss, optimizer="sgd", accumulate=3)
        np.testing.assert_allclose(
            pieces.decision_function(images), whole.decision_function(images), rtol=1e-3, atol=1e-4
        )

    def test_pieces_draw_the_same_augmentation(self, network, scenes):
        images, _, single, _ = scenes
        fits = []
        for accumulate in (2, 4):
            settings = Backbone(network, image_size=32, augment="crop", batch_norm="frozen")
            solver = Minibatch(optimizer="sgd", learning_rate=1e-3, max_epochs=1, batch_size=40, accumulate=accumulate)
            clf = SinglePositiveClassifier("an", backbone=settings, solver=solver, random_state=0)
            fits.append(clf.fit(images, single).history_[0]["loss"])
        # Pieces of different sizes draw different numbers, but about the same loss.
        assert fits[0] == pytest.approx(fits[1], rel=0.1)

    def test_memory_that_runs_out_halves_the_pieces(self, network, scenes):
        images = scenes[0]
        whole = self.fit(network, scenes, optimizer="sgd")

        class Hungry(nn.Module):
            def __init__(self, inner):
                super().__init__()
                self.inner = inner

            def forward(self, x):
                if self.training and len(x) > 10:
                    raise torch.OutOfMemoryError("not enough")
                return self.inner(x)

        with pytest.warns(UserWarning, match="ran out in a batch of 32 images") as caught:
            spared = self.fit(Hungry(network), scenes, optimizer="sgd")
        assert len([w for w in caught if "ran out" in str(w.message)]) == 1
        np.testing.assert_allclose(
            spared.decision_function(images), whole.decision_function(images), rtol=1e-3, atol=1e-4
        )

    def test_memory_too_small_for_one_image_is_an_error(self, scenes):
        class Starving(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.ones(1))

            def forward(self, x):
                if self.training:
                    raise torch.OutOfMemoryError("not enough")
                return x.mean((2, 3)) * self.weight

        with (
            pytest.warns(UserWarning, match="smaller parts"),
            pytest.raises(ValueError, match="lower solver__batch_size, or the image_size"),
        ):
            self.fit(Starving(), scenes)

    def test_schedule(self, network, scenes):
        """Rates in the order of steps, seen through heads of which every step is as long as its rate."""

        def lengths(**settings):
            moved = []

            def save(self, content):
                moved.append(content["learner"]["module"]["head.weight"].clone())

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("skpartial.training._checkpoints.Checkpoint.save", save)
                patch.setattr("skpartial.training._checkpoints.CheckpointFolder.seed", lambda self, seed: seed)
                images, _, single, _ = scenes
                solver = Minibatch("sgd", learning_rate=1e-6, momentum=0.0, batch_size=120, max_epochs=8, **settings)
                frozen = backbone(network, batch_norm="frozen")
                SinglePositiveClassifier(
                    "an", backbone=frozen, solver=solver, random_state=0, checkpoint_dir="nowhere", alpha=0.0
                ).fit(images, single)
            steps = [torch.zeros_like(moved[0]), *moved]
            found = np.array([float((b - a).norm()) for a, b in pairwise(steps)])
            return found / found.max()

        epochs = np.arange(8) / 8
        np.testing.assert_allclose(lengths(), 1, atol=1e-2)
        np.testing.assert_allclose(lengths(schedule="cosine"), 0.5 * (1 + np.cos(np.pi * epochs)), atol=2e-2)
        np.testing.assert_allclose(lengths(warm_up=0.5), [0, 0.25, 0.5, 0.75, 1, 1, 1, 1], atol=2e-2)

    def test_clipping_bounds_a_step(self, network, scenes):
        settings = {"optimizer": "sgd", "momentum": 0.0, "max_epochs": 1, "batch_size": 120, "learning_rate": 1.0}
        clipped = self.fit(network, scenes, loss="an", clip_norm=1e-3, **settings)
        pairs = zip(clipped.network_.body.parameters(), network.parameters())
        parts = [float((new - old).detach().square().sum()) for new, old in pairs]
        head = np.square(clipped.coef_).sum()  # from zero
        length = float(sum(parts) + head) ** 0.5
        assert length <= 1.001e-3

    def test_separate_rates(self, network, scenes):
        settings = {"optimizer": "sgd", "momentum": 0.0, "max_epochs": 1, "batch_size": 120, "loss": "an"}
        slow = self.fit(network, scenes, learning_rate=1e-3, head_rate=1.0, **settings)
        fast = self.fit(network, scenes, learning_rate=1e-3, head_rate=10.0, **settings)
        np.testing.assert_allclose(fast.coef_, 10 * slow.coef_, rtol=1e-4, atol=1e-9)
        # The first step of all: heads start from zero, so that the network feels nothing yet.
        assert torch.equal(fast.network_.body[0].weight, slow.network_.body[0].weight)

    def test_weight_decay_shrinks_the_network_only(self, network, scenes):
        settings = {"optimizer": "sgd", "momentum": 0.0, "max_epochs": 1, "batch_size": 120, "loss": "an"}
        decayed = self.fit(network, scenes, learning_rate=1e-2, weight_decay=0.5, **settings)
        expected = (1 - 1e-2 * 0.5) * network[0].weight
        torch.testing.assert_close(decayed.network_.body[0].weight, expected)
        torch.testing.assert_close(decayed.network_.body[1].weight, network[1].weight)  # norms have none

    def test_batch_norms(self, network, scenes):
        images, _, single, _ = scenes
        frozen = self.fit(network, scenes)
        assert torch.equal(frozen.network_.body[1].running_mean, network[1].running_mean)
        clf = SinglePositiveClassifier(backbone=backbone(network), solver=QUICK, random_state=0).fit(images, single)
        assert not torch.equal(clf.network_.body[1].running_mean, network[1].running_mean)

    def test_a_last_batch_of_one_image(self, network, scenes):
        images, _, single, _ = scenes
        solver = Minibatch(learning_rate=1e-3, max_epochs=1, batch_size=32)
        deep = nn.Sequential(*network, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(16))
        clf = SinglePositiveClassifier(backbone=backbone(deep), solver=solver, random_state=0)
        assert np.isfinite(clf.fit(images[:65], single[:65]).decision_function(images[:3])).all()


def test_bfloat16_is_close(network, scenes):
    images, Y, _, _ = scenes
    fits = [
        PartialLabelClassifier(backbone=backbone(network), solver=QUICK, precision=precision, random_state=0)
        .fit(images, Y)
        .decision_function(images)
        for precision in ("float32", "bfloat16")
    ]
    assert not np.array_equal(*fits)
    assert np.corrcoef(fits[0].ravel(), fits[1].ravel())[0, 1] > 0.98


class Own(nn.Module):
    """A network with a class of its own: older versions of PyTorch compile no module of PyTorch's own classes."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, images):
        return self.layers(images)


@pytest.mark.parametrize("head", ["linear", AveragePooling(boost=2.0)], ids=["features", "maps"])
def test_compiled_networks_train_alike(network, scenes, head):
    """By the backend that traces and then runs what it found: PyTorch's own wants a compiler of C++ and a minute."""
    images, Y, _, _ = scenes
    network = Own(network)
    fits = []
    for how in (False, "eager"):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        clf = PartialLabelClassifier(backbone=backbone(network, compile=how), head=head, solver=QUICK, random_state=0)
        fits.append(clf.fit(images, Y))
        assert bool(torch._dynamo.utils.counters["stats"]["unique_graphs"]) == bool(how)
    np.testing.assert_allclose(fits[1].decision_function(images), fits[0].decision_function(images), atol=1e-4)
    copy = pickle.loads(pickle.dumps(fits[1]))
    np.testing.assert_array_equal(copy.decision_function(images), fits[1].decision_function(images))
    assert copy.network_.body._compiled_call_impl is None


@pytest.mark.cuda
class TestCuda:
    """What the processor does not show: the same network on a device."""

    def test_equals_the_processor(self, network, scenes):
        images, Y, _, _ = scenes
        fits = [
            PartialLabelClassifier(
                backbone=backbone(network), solver=QUICK, device=device, precision="float32", random_state=0
            ).fit(images, Y)
            for device in ("cpu", "cuda")
        ]
        logits = [clf.decision_function(images) for clf in fits]
        assert np.corrcoef(logits[0].ravel(), logits[1].ravel())[0, 1] > 0.999
        fits[1].set_params(device="cpu")
        np.testing.assert_allclose(fits[1].decision_function(images), logits[1], atol=2e-2)
        copy = pickle.loads(pickle.dumps(fits[1]))
        assert all(tensor.device.type == "cpu" for tensor in copy.network_.state_dict().values())

    @pytest.mark.parametrize("loss", ["an", "role", "large_loss"])
    def test_narrow_by_default(self, network, scenes, loss):
        images, _, single, complete = scenes
        clf = SinglePositiveClassifier(loss, backbone=backbone(network), solver=QUICK, random_state=0)
        assert np.isfinite(clf.fit(images, single).decision_function(images)).all()
        wide = clone(clf).set_params(precision="float32").fit(images, single)
        assert abs(wide.score(images, complete) - clf.score(images, complete)) < 0.05

    def test_memory_that_runs_out_makes_pieces(self, network):
        """A budget that holds the images and one piece, not a whole batch."""
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (64, 256, 256, 3), dtype=np.uint8)
        single = np.eye(4, dtype=int)[rng.integers(4, size=64)]
        solver = Minibatch(learning_rate=1e-3, max_epochs=1, batch_size=64)
        clf = SinglePositiveClassifier(backbone=backbone(network, image_size=256), solver=solver, random_state=0)
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(400e6 / total)
        try:
            with pytest.warns(UserWarning, match="ran out in a batch of 64 images"):
                clf.fit(images, single)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        assert np.isfinite(clf.history_[-1]["loss"])

    def test_features(self, network, scenes):
        images = scenes[0]
        wide, narrow = (
            ImageFeatures(backbone(network), device=device, precision=precision).fit_transform(images)
            for device, precision in (("cpu", "float32"), ("cuda", "auto"))
        )
        np.testing.assert_allclose(narrow, wide, atol=0.05 * np.abs(wide).max())


def test_warm_start(network, scenes):
    images, Y, _, _ = scenes
    clf = PartialLabelClassifier(backbone=backbone(network), solver=QUICK, warm_start=True, random_state=0)
    first = clf.fit(images, Y).decision_function(images)
    clf.set_params(solver__learning_rate=1e-12, backbone__batch_norm="frozen").fit(images, Y)
    np.testing.assert_allclose(clf.decision_function(images), first, atol=1e-4)


def test_binary_y(network, scenes):
    images, _, _, complete = scenes
    y = np.where(complete[:, 0] == 1, "zero", "none")
    clf = PartialLabelClassifier(backbone=backbone(network), solver=QUICK, random_state=0).fit(images, y)
    assert set(clf.predict(images)) <= {"zero", "none"}
    assert clf.predict_proba(images).shape == (120, 2)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"solver": FullBatch()}, "cannot train this estimator: its backbone is fine-tuned. Use solver=Minibatch"),
        ({"precision": "float64"}, "precision must be 'auto', 'float32' or 'bfloat16' with a backbone, got 'float64'"),
        ({"backbone": 3}, "backbone must be a name, a torch.nn.Module or a skpartial.images.Backbone, got 3"),
        ({"backbone__finetune": "some"}, "Backbone: finetune must be 'all', 'head' or 'linear_init', got 'some'"),
        ({"backbone__compile": "tpu"}, "Backbone: compile must be a bool or one of .*'inductor'.*, got 'tpu'"),
        ({"backbone__model": "resnet19"}, "torchvision has no image classification model 'resnet19'"),
    ],
)
def test_refusals(network, scenes, change, message):
    images, Y, _, _ = scenes
    clf = PartialLabelClassifier(backbone=backbone(network), solver=QUICK).set_params(**change)
    with pytest.raises(ValueError, match=message):
        clf.fit(images, Y)


def test_other_refusals(network, scenes):
    images, Y, _, _ = scenes
    clf = PartialLabelClassifier(backbone=backbone(network), solver=QUICK)
    with pytest.raises(ValueError, match="a backbone takes images"):
        clf.fit(np.zeros((120, 5)), Y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clf.fit(images[:-1], Y)
    with pytest.raises(ValueError, match="with a backbone use fit and warm_start=True"):
        clf.partial_fit(images, Y)
    with pytest.raises(ValueError, match="precision must be 'auto', 'float32' or 'float64' on features"):
        PartialLabelClassifier(precision="bfloat16").fit(np.zeros((120, 5)), Y)
    with pytest.raises(ValueError, match=r"X has 4 dimensions.*backbone='resnet50', or .*ImageFeatures"):
        PartialLabelClassifier().fit(images, Y)
    for paths in (["a.jpg"] * 120, np.array(["a.jpg"] * 120, dtype=object)):
        with pytest.raises(ValueError, match="X looks like images or their paths, but backbone=None takes features"):
            PartialLabelClassifier().fit(paths, Y)
    diverging = Minibatch("sgd", learning_rate=1e20, max_epochs=5)
    with pytest.raises(ValueError, match=r"training loss became .* lower solver__learning_rate"):
        PartialLabelClassifier(backbone=backbone(network), solver=diverging, random_state=0).fit(images, Y)
