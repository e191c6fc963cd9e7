"""Checkpoints: a fit that is killed goes on, and ends where one that was not killed ends."""

from __future__ import annotations

import hashlib
import os
import signal
import time

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from torch import nn

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.heads import LabelEmbedding, Linear
from skpartial.images import Backbone
from skpartial.labels import keep_single_positive
from skpartial.losses import ROLE, EntropyMaximization, LargeLoss
from skpartial.relabeling import Relabeling
from skpartial.solvers import FullBatch, Minibatch
from skpartial.training._checkpoints import Checkpoint


class Guess(Relabeling):
    """Random guesses about unknown entries, so that both the labels and the generator have to be kept."""

    def relabel(self, context):
        given = context.given.labels.toarray()
        drawn = torch.rand(given.shape, generator=context.generator).numpy()
        return np.where((given == 0) & (drawn < 0.2), 1, given).astype(np.int8)


@pytest.fixture
def killed(monkeypatch):
    """Interrupt training right after the n-th epoch has been saved, for each n of a list."""

    def arrange(moments):
        original, count = Checkpoint.save, 0

        def save(self, content):
            nonlocal count
            original(self, content)
            count += 1
            if count in moments:
                raise KeyboardInterrupt

        monkeypatch.setattr(Checkpoint, "save", save)

    return arrange


def finish(make, *data, **held):
    """Fit again and again until a fit is not interrupted."""
    for attempt in range(1, 20):
        clf = make()
        try:
            return clf.fit(*data, **held), attempt
        except KeyboardInterrupt:
            assert not hasattr(clf, "n_iter_")
    raise AssertionError("it never ended")


@pytest.mark.parametrize(
    "parameters",
    [
        {"loss": "iu", "solver": Minibatch(max_epochs=5)},
        {"loss": ROLE(2.0), "solver": Minibatch(max_epochs=5)},
        {
            "loss": ROLE(2.0, estimator="factorized", rank=3, storage="float16"),
            "solver": Minibatch("sgd", max_epochs=5),
        },
        {"loss": LargeLoss("correct_permanently", delta=0.05), "solver": Minibatch(max_epochs=5)},
        {"loss": LargeLoss("correct_permanently", delta=0.05), "solver": FullBatch(rounds=5)},
        {"loss": EntropyMaximization(0.1, 0.1, warm_up=1, n_epochs=4), "solver": Minibatch(max_epochs=5)},
        {"loss": "iu", "relabeling": Guess(), "solver": Minibatch(max_epochs=5)},
        {"loss": "iu", "relabeling": Guess(), "solver": FullBatch(rounds=5)},
        {"loss": "an", "solver": Minibatch("adamw", max_epochs=5, schedule="cosine", warm_up=0.1)},
        {"loss": "warp", "head": LabelEmbedding(3), "solver": Minibatch(max_epochs=5)},
    ],
    ids=str,
)
@pytest.mark.parametrize("validation", [False, True])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_it_ends_where_it_would_have_ended(partial_data, killed, tmp_path, parameters, validation):
    X, Y = partial_data
    held = {"X_val": X[90:], "y_val": Y[90:]} if validation else {}

    def make(**more):
        return PartialLabelClassifier(random_state=0, **parameters, **more)

    expected = make().fit(X[:90], Y[:90], **held)
    killed([1, 2, 4])
    clf, attempts = finish(lambda: make(checkpoint_dir=tmp_path), X[:90], Y[:90], **held)
    assert attempts == 4
    np.testing.assert_array_equal(clf.decision_function(X), expected.decision_function(X))
    for record, other in zip(clf.history_, expected.history_, strict=True):
        assert {**record, "seconds": 0} == {**other, "seconds": 0}
    assert clf.history_[-1]["seconds"] >= clf.history_[0]["seconds"]
    for name in ("label_estimates_", "corrected_labels_", "soft_negatives_", "labels_in_use_", "best_epoch_"):
        assert hasattr(clf, name) == hasattr(expected, name)
        np.testing.assert_array_equal(getattr(clf, name, 0), getattr(expected, name, 0))
    # A fit that has ended leaves nothing behind, and fitting again starts afresh.
    assert list(tmp_path.iterdir()) == []
    again = make(checkpoint_dir=tmp_path).fit(X[:90], Y[:90], **held)
    np.testing.assert_array_equal(again.decision_function(X), expected.decision_function(X))


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1), nn.MaxPool2d(2))


@pytest.mark.parametrize("finetune", ["all", "linear_init"])
def test_networks(killed, tmp_path, finetune):
    """Weights, statistics of batch norms, augmentation, dropout, estimates: everything goes on."""
    scenes = make_digit_scenes(60, random_state=0)
    Y = np.asarray(keep_single_positive(scenes.target, random_state=0))

    def make(**more):
        return SinglePositiveClassifier(
            ROLE(2.4),
            backbone=Backbone(small_network(), image_size=32, augment="crop", finetune=finetune),
            solver=Minibatch(learning_rate=1e-3, max_epochs=4, batch_size=16),
            random_state=0,
            **more,
        )

    expected = make().fit(scenes.images, Y)
    killed([1, 3, 26, 28] if finetune == "linear_init" else [1, 3])
    clf, attempts = finish(lambda: make(checkpoint_dir=tmp_path), scenes.images, Y)
    assert attempts == (5 if finetune == "linear_init" else 3)
    np.testing.assert_array_equal(clf.decision_function(scenes.images), expected.decision_function(scenes.images))
    np.testing.assert_array_equal(clf.label_estimates_, expected.label_estimates_)
    assert list(tmp_path.iterdir()) == []


def test_without_a_seed_the_first_one_is_kept(partial_data, killed, tmp_path):
    X, Y = partial_data
    settings = {"solver": Minibatch(max_epochs=3), "validation_fraction": 0.3, "checkpoint_dir": tmp_path}
    killed([2])
    with pytest.raises(KeyboardInterrupt):
        PartialLabelClassifier(**settings).fit(X, Y)
    (folder,) = tmp_path.iterdir()
    started = torch.load(folder / "head.pt", weights_only=True)["log"]["records"]
    clf = PartialLabelClassifier(**settings).fit(X, Y)
    assert clf.history_[:2] == started


def test_each_fit_has_its_own(partial_data, killed, tmp_path):
    """Other data, parameters or seeds do not meet the checkpoint of this fit; other workers or a name do."""
    X, Y = partial_data
    base = {"solver": Minibatch(max_epochs=8), "random_state": 0, "checkpoint_dir": tmp_path}

    def interrupted(X=X, Y=Y, **change):
        killed([1])
        with pytest.raises(KeyboardInterrupt):
            PartialLabelClassifier(**{**base, **change}).fit(X, Y)
        return len(list(tmp_path.iterdir()))

    assert interrupted() == 1
    assert interrupted(verbose=0, n_jobs=2) == 1
    assert interrupted(alpha=1e-3) == 2
    assert interrupted(loss="an") == 3
    assert interrupted(loss=LargeLoss(delta=0.1)) == 4
    assert interrupted(loss=LargeLoss(delta=0.2)) == 5
    assert interrupted(random_state=1) == 6
    assert interrupted(X=X + 1e-9) == 7
    assert interrupted(Y=np.roll(Y, 1, axis=0)) == 8
    # How long training goes on makes no other fit, unless what is done in an epoch depends on it.
    assert interrupted(solver=Minibatch(max_epochs=9)) == 8
    assert interrupted(solver=Minibatch(max_epochs=3, schedule="cosine")) == 9
    assert interrupted(solver=Minibatch(max_epochs=4, schedule="cosine")) == 10
    assert interrupted(solver=Minibatch(max_epochs=3, warm_up=0.1)) == 11
    assert interrupted(solver=Minibatch(max_epochs=4, warm_up=0.1)) == 12
    # Nor does the name that an object has.
    assert interrupted(loss="iu", head=Linear()) == 12


def test_grid_search(partial_data, tmp_path):
    X, Y = partial_data
    solver = Minibatch(max_epochs=2)
    clf = PartialLabelClassifier("partial_bce", solver=solver, random_state=0, checkpoint_dir=str(tmp_path))
    grid = GridSearchCV(clf, {"loss__gamma": [-1, 1]}, cv=3, n_jobs=2).fit(X, Y)
    plain = GridSearchCV(clf.set_params(checkpoint_dir=None), {"loss__gamma": [-1, 1]}, cv=3).fit(X, Y)
    np.testing.assert_array_equal(grid.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "malicious", "forged"])
def test_a_damaged_checkpoint_is_refused(partial_data, killed, tmp_path, damage):
    X, Y = partial_data
    clf = PartialLabelClassifier(solver=Minibatch(max_epochs=3), random_state=0, checkpoint_dir=tmp_path)
    killed([1])
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, Y)
    (folder,) = tmp_path.iterdir()
    file = folder / "head.pt"
    whole = file.read_bytes()
    if damage in ("malicious", "forged"):
        import pickle

        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "executed"),)

        torch.save({"epoch": Evil()}, file, pickle_module=pickle)
        if damage == "forged":
            line = whole[whole.rindex(b"\nskpartial") : -64]
            begun = file.read_bytes() + line
            file.write_bytes(begun + hashlib.sha256(begun).hexdigest().encode())
    else:
        file.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b""}.get(damage, b"no checkpoint"))
    with pytest.raises(ValueError, match=rf"The checkpoint '.*{file.name}' is damaged .*: delete"):
        clf.fit(X, Y)
    assert not (tmp_path / "executed").exists()
    file.write_bytes(whole)
    clf.fit(X, Y)


def test_a_fit_that_is_refused_leaves_nothing(partial_data, tmp_path):
    X, Y = partial_data
    for wrong in ({"alpha": -1}, {"loss": "bce"}, {"loss": LargeLoss(delta=-1)}):
        with pytest.raises(ValueError):
            PartialLabelClassifier(checkpoint_dir=tmp_path, **wrong).fit(X, Y)
    assert list(tmp_path.iterdir()) == []


def test_refusals(partial_data, tmp_path):
    X, Y = partial_data
    with pytest.raises(ValueError, match="checkpoint_dir must be None or the path of a folder, got 3"):
        PartialLabelClassifier(checkpoint_dir=3).fit(X, Y)
    settings = Backbone(small_network(), image_size=32, augment=lambda image: image)
    images = np.zeros((120, 32, 32, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="checkpoint_dir needs parameters that can be pickled"):
        PartialLabelClassifier(backbone=settings, checkpoint_dir=tmp_path).fit(images, Y)


SCRIPT = """
import sys
import numpy as np
import torch
from torch import nn
from skpartial import SinglePositiveClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.images import Backbone
from skpartial.labels import keep_single_positive
from skpartial.losses import ROLE
from skpartial.solvers import Minibatch

folder, out = sys.argv[1:]
scenes = make_digit_scenes(100, random_state=0)
Y = np.asarray(keep_single_positive(scenes.target, random_state=0))
torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.MaxPool2d(4))
clf = SinglePositiveClassifier(
    ROLE(2.4),
    backbone=Backbone(network, image_size=32, augment="crop"),
    solver=Minibatch(learning_rate=1e-3, max_epochs=48, batch_size=8),
    random_state=0,
    checkpoint_dir=folder or None,
)
clf.fit(scenes.images, Y)
np.savez(out, logits=clf.decision_function(scenes.images), estimates=clf.label_estimates_)
"""


def test_killed_five_times(tmp_path, interpreters):
    """SIGKILL at random moments, wherever in an epoch that is: equal weights in the end, and nothing lost."""
    script, folder = tmp_path / "fit.py", tmp_path / "checkpoints"
    script.write_text(SCRIPT)
    one_day, another = interpreters
    rng, epochs = np.random.default_rng(0), []
    begun = time.perf_counter()
    assert one_day.run(script, "", tmp_path / "whole.npz") == 0
    seconds = time.perf_counter() - begun
    for _ in range(5):  # a third in all, should the machine be quicker now
        moment = seconds * rng.uniform(0.03, 0.12)
        assert one_day.run(script, folder, tmp_path / "killed.npz", seconds=moment) == -signal.SIGKILL
        saved = sorted(folder.glob("*/all.pt"))
        epochs.append(torch.load(saved[0], weights_only=True)["epoch"] if saved else 0)
    assert epochs == sorted(epochs)
    assert another.run(script, folder, tmp_path / "killed.npz") == 0
    with np.load(tmp_path / "whole.npz") as expected, np.load(tmp_path / "killed.npz") as found:
        for name in ("logits", "estimates"):
            np.testing.assert_array_equal(found[name], expected[name])
    assert not any(folder.iterdir())
