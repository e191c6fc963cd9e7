"""What is saved and loaded predicts the same, and goes on the same; whatever the package has, without a list of it."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import re
import stat
import subprocess
import sys
import warnings
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import safetensors
import scipy.sparse as sp
import sklearn
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.callback import ProgressBar
from sklearn.decomposition import PCA, KernelPCA
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import skpartial
from skpartial import (
    ImageFeatures,
    PartialLabelClassifier,
    PartialLabelClassifierCV,
    SinglePositiveClassifier,
    SinglePositiveClassifierCV,
    heads,
    images,
    losses,
    metrics,
    model_selection,
    regularizers,
    relabeling,
    solvers,
)
from skpartial._saving import _known
from skpartial.exceptions import InconsistentVersionWarning
from skpartial.images import Backbone
from skpartial.losses._registry import _by_name
from skpartial.model_selection import BatchedGridSearchCV, PartialLabelKFold, TunedThresholdsCV
from skpartial.solvers import FullBatch, Minibatch


def of(subpackage, base):
    """The classes of a kind that a subpackage exports."""
    found = [getattr(subpackage, name) for name in subpackage.__all__]
    return [kind for kind in found if inspect.isclass(kind) and issubclass(kind, base) and not inspect.isabstract(kind)]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "saved")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 6)).astype(np.float32)
    complete = np.where(X @ rng.normal(size=(6, 4)) > 0.3, 1, -1).astype(np.int8)
    Y = np.where(rng.random(complete.shape) < 0.5, complete, 0).astype(np.int8)
    Y[:20] = complete[:20]
    return X, Y, complete


def again(value, path, **more):
    skpartial.save(value, path)
    return skpartial.load(path, **more)


def fitted(estimator, *arrays, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(*arrays, **more)


def same(a, b):
    """Whether two values hold the same, all the way down."""
    assert type(a) is type(b), (a, b)
    if isinstance(a, np.ndarray | np.ma.MaskedArray) and a.dtype != object:
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a.to_dense().nan_to_num(7), b.to_dense().nan_to_num(7))
        assert a.dtype == b.dtype
    elif isinstance(a, np.ndarray):
        assert a.shape == b.shape
        same(a.ravel().tolist(), b.ravel().tolist())
    elif sp.issparse(a):
        same(a.toarray(), b.toarray())
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for pair in zip(a, b):
            same(*pair)
    elif isinstance(a, np.random.RandomState):
        same(a.get_state(legacy=False), b.get_state(legacy=False))
    elif isinstance(a, nn.Module):
        same(dict(a.state_dict()), dict(b.state_dict()))
        assert a.training == b.training
    elif hasattr(a, "__dict__") and not inspect.isroutine(a):
        same(vars(a), vars(b))
    elif isinstance(a, float | np.floating):
        assert a == b or (np.isnan(a) and np.isnan(b))
    else:
        assert a == b


def check_goes_on(clf, path, X, Y):
    """The loaded one is the same, and so are both after training has gone on."""
    loaded = again(clf, path)
    same(vars(clf), vars(loaded))
    np.testing.assert_array_equal(loaded.decision_function(X), clf.decision_function(X))
    before = clf.decision_function(X)
    for each in (clf, loaded):
        fitted(each, X, Y)
    np.testing.assert_array_equal(loaded.decision_function(X), clf.decision_function(X))
    return not np.array_equal(before, clf.decision_function(X))


@pytest.mark.parametrize("name", sorted(_by_name()))
def test_every_loss_goes_on(name, data, path):
    X, Y, complete = data
    loss = losses.get(name)
    if "expected_positives" in loss.get_params():
        loss.set_params(expected_positives=1.5)
    settings = {"solver": Minibatch(max_epochs=2, batch_size=20), "warm_start": True, "random_state": 0}
    clf = fitted(PartialLabelClassifier(loss, **settings), X, complete if name == "bce" else Y)
    assert check_goes_on(clf, path, X, complete if name == "bce" else Y)


@pytest.mark.parametrize("kind", of(heads, heads.Head), ids=lambda kind: kind.__name__)
def test_every_head_goes_on(kind, data, path):
    X, Y, _ = data
    head = kind()
    if head.takes_maps:
        X = np.random.default_rng(0).normal(size=(60, 3, 2, 2)).astype(np.float32)
    solver = Minibatch(max_epochs=1)
    clf = fitted(PartialLabelClassifier(head=head, solver=solver, warm_start=True, random_state=0), X, Y)
    assert check_goes_on(clf, path, X, Y)


@pytest.mark.parametrize("kind", of(relabeling, relabeling.Relabeling), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("solver", [Minibatch(max_epochs=3), FullBatch(rounds=2)], ids=["minibatch", "rounds"])
def test_every_relabelling_goes_on(kind, solver, data, path):
    X, Y, _ = data
    clf = PartialLabelClassifier(relabeling=kind(), solver=solver, warm_start=True, random_state=0)
    check_goes_on(fitted(clf, X, Y), path, X, Y)


@pytest.mark.parametrize("kind", of(regularizers, regularizers.Regularizer), ids=lambda kind: kind.__name__)
def test_every_regulariser_goes_on(kind, data, path):
    X, Y, _ = data
    clf = PartialLabelClassifier(regularizer=kind(), solver=Minibatch(max_epochs=2), warm_start=True, random_state=0)
    check_goes_on(fitted(clf, X, Y), path, X, Y)


SUBPACKAGES = (losses, heads, relabeling, regularizers, solvers, model_selection, images)


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for part in SUBPACKAGES
        for kind in of(part, BaseEstimator)
        if kind not in (TunedThresholdsCV, BatchedGridSearchCV)
    ],
    ids=lambda kind: kind.__name__,
)
def test_every_object_has_its_parameters(kind, path):
    value = kind("features") if kind is images.FeatureStore else kind()
    loaded = again(value, path)
    assert type(loaded) is kind
    same(loaded.get_params(), value.get_params())


def test_a_new_class_needs_no_list(data, path, monkeypatch):
    """A class that a subpackage exports is known by that alone."""

    class Tomorrow(losses.IgnoreUnknown):
        pass

    Tomorrow.__module__, Tomorrow.__qualname__ = "skpartial.losses._tomorrow", "Tomorrow"
    with pytest.raises(ValueError, match=r"cannot be saved to .*: loss: skpartial.losses._tomorrow.Tomorrow is not a"):
        skpartial.save(PartialLabelClassifier(Tomorrow()), path)
    monkeypatch.setattr(losses, "Tomorrow", Tomorrow, raising=False)
    monkeypatch.setattr(losses, "__all__", [*losses.__all__, "Tomorrow"])
    assert type(again(PartialLabelClassifier(Tomorrow()), path).loss) is Tomorrow


@pytest.mark.parametrize("loss", ["iu", losses.ExpectedPositives(1.5)], ids=["iu", "epr"])
def test_partial_fit_goes_on(loss, data, path):
    """With the moments of the optimiser, as a pickle does."""
    X, Y, _ = data
    clf = PartialLabelClassifier(loss, solver=Minibatch(batch_size=10), random_state=0).partial_fit(X, Y)
    clf.partial_fit(X[:30], Y[:30])
    loaded, pickled = again(clf, path), pickle.loads(pickle.dumps(clf))
    for each in (clf, loaded, pickled):
        each.partial_fit(X[30:], Y[30:])
    np.testing.assert_array_equal(loaded.coef_, clf.coef_)
    np.testing.assert_array_equal(pickled.coef_, clf.coef_)


def test_generators_go_on(data, path):
    X, Y, _ = data
    random = np.random.RandomState(3)
    cv = PartialLabelKFold(3, random_state=random)
    search = GridSearchCV(PartialLabelClassifier(random_state=random), {"alpha": [0.1, 1.0]}, cv=cv)
    loaded = again(search, path)
    # One generator for both, as it was.
    assert loaded.estimator.random_state is loaded.cv.random_state
    a, b = (fitted(clone(each.estimator), X, Y).coef_ for each in (search, loaded))
    np.testing.assert_array_equal(a, b)
    assert loaded.cv.random_state.randint(1 << 30) == random.randint(1 << 30)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SinglePositiveClassifier(),
        lambda: PartialLabelClassifierCV(3, cv=KFold(2), scoring=metrics.f1_micro_scorer),
        lambda: SinglePositiveClassifierCV([0.1, "auto"], cv=2),
        lambda: TunedThresholdsCV(PartialLabelClassifier(), cv=2, scoring=f1_score, thresholds=5),
        lambda: BatchedGridSearchCV(PartialLabelClassifier(), {"alpha": [1.0, 0.1]}, cv=2),
        lambda: GridSearchCV(
            make_pipeline(StandardScaler(), PCA(3), PartialLabelClassifier()),
            {"pca__n_components": [2, 3]},
            cv=2,
            scoring={"map": metrics.mean_average_precision_scorer, "match": make_scorer(metrics.exact_match)},
            refit="map",
        ),
        lambda: make_pipeline(StandardScaler(), TunedThresholdsCV(PartialLabelClassifier(), cv=2)),
    ],
    ids=["single", "cv", "single_cv", "thresholds", "batched", "search", "pipeline"],
)
def test_every_estimator_predicts_the_same(make, data, path):
    X, Y, _ = data
    estimator = make()
    if isinstance(estimator, SinglePositiveClassifier):
        Y = np.maximum(Y, 0)
    fitted(estimator, X, Y)
    loaded = again(estimator, path)
    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))
    np.testing.assert_array_equal(
        *(getattr(e, "predict_proba" if hasattr(e, "predict_proba") else "predict")(X) for e in (estimator, loaded))
    )
    shown = {name: value for name, value in vars(estimator).items() if name.endswith("_") and name != "scorer_"}
    for name, value in shown.items():
        if not isinstance(value, BaseEstimator):
            same(value, getattr(loaded, name))


def test_names_classes_and_forms(data, path):
    pd = pytest.importorskip("pandas")
    X, Y, complete = data
    frame = pd.DataFrame(X, columns=list("uvwxyz"))
    clf = fitted(PartialLabelClassifier(), frame, pd.DataFrame(Y, columns=["Löwe", "zebra", "a b", ""]))
    loaded = again(clf, path)
    same(loaded.label_names_, clf.label_names_)
    same(loaded.feature_names_in_, clf.feature_names_in_)
    assert loaded.predict(frame).tolist() == clf.predict(frame).tolist()
    words = np.where(complete[:, 0] > 0, "yes", "no")
    binary = fitted(PartialLabelClassifier(), X, words)
    np.testing.assert_array_equal(again(binary, path).predict(X), binary.predict(X))
    sparse = fitted(PartialLabelClassifier(relabeling=relabeling.Propagation()), X, sp.csr_array(Y))
    same(again(sparse, path).labels_in_use_, sparse.labels_in_use_)


Point = namedtuple("Point", "x y")
_VALUES = {
    "plain": [None, True, 3, -(2**70), 1.5, 0.1, "wörter\n\x00\ud800", [], [1, [2]], (), (1, (2,))],
    "floats": [float("nan"), float("inf"), -float("inf"), 1e-320, -0.0],
    "dicts": {1: "a", "\ud800": np.ones(2), (2, 3): {"b": None}, None: 4.0, "kind": "same"},
    "numbers": [np.float32(1.25), np.int64(-3), np.bool_(True), np.str_("a"), np.float64("nan")],
    "sets": [{1, 2}, frozenset("a"), range(1, 9, 2), slice(None, 3)],
    "paths": [Path("/tmp/ä"), torch.device("cuda:1")],
    "arrays": [np.arange(6).astype(kind).reshape(2, 3) for kind in "?bBhHiIlLqQefdFD"],
    "shapes": [np.zeros(()), np.zeros((0, 3)), np.asfortranarray(np.ones((2, 3))), np.arange(9)[::-2]],
    "words": [np.array(["a", "bcd"]), np.array(["a", None, 3, (1, 2)], dtype=object), np.array([], dtype="U1")],
    "times": [np.array(["2020-01-01", "NaT"], dtype="M8[D]"), np.array([3], dtype="m8[s]")],
    "records": [np.array([(1, 2.5, "a")], dtype=[("n", "i4"), ("x", "f8"), ("w", "U3")])],
    "masked": [np.ma.MaskedArray([1.0, 2.0], mask=[True, False])],
    "byte order": [np.arange(3, dtype=">f8").astype("f8"), np.arange(3, dtype=">i4").byteswap().view("<i4")],
    "sparse": [
        kind(np.array([[0, 1, 0], [2, 0, 0]])) for kind in (sp.csr_array, sp.csc_array, sp.coo_array, sp.csr_matrix)
    ],
    "tensors": [
        torch.arange(3),
        torch.ones(2, 2, dtype=torch.bfloat16),
        torch.tensor([True, False]),
        torch.eye(3)[:, 1:],
        torch.eye(3).to_sparse_coo(),
        torch.zeros(0, 2),
    ],
}


@pytest.mark.parametrize("name", _VALUES)
def test_values(name, path):
    """Every kind of value, as an attribute of an estimator."""
    loss = losses.IgnoreUnknown()
    loss.kept_ = _VALUES[name]
    same(again(loss, path).kept_, loss.kept_)


@pytest.mark.parametrize("bits", ["MT19937", "PCG64", "Philox", "SFC64"])
def test_generators(bits, path):
    loss = losses.IgnoreUnknown()
    loss.kept_ = [np.random.Generator(getattr(np.random, bits)(3)), np.random.RandomState(4), torch.Generator()]
    loss.kept_[0].normal(size=3)
    loss.kept_[1].normal()  # leaves half of a pair
    loss.kept_[2].manual_seed(5)
    loaded = again(loss, path).kept_
    assert loaded[0].normal() == loss.kept_[0].normal()
    assert loaded[1].normal() == loss.kept_[1].normal()
    assert torch.equal(torch.rand(2, generator=loaded[2]), torch.rand(2, generator=loss.kept_[2]))


def test_layout_stays(path):
    loss = losses.IgnoreUnknown()
    loss.kept_ = np.asfortranarray(np.ones((2, 3)))
    kept = again(loss, path).kept_
    assert kept.flags.f_contiguous
    assert kept.flags.writeable


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda: 3, r"kept_: main.<lambda>|kept_: .*<lambda> is not a function of this package"),
        (Point(1, 2), r"kept_: .*Point is not a class of this package: register it"),
        (KernelPCA(), r"kept_: sklearn.decomposition._kernel_pca.KernelPCA is not a class of this package.*skops"),
        ({"a": [b"bytes"]}, r"kept_.a.0: builtins.bytes is not supported"),
        (np.array([b"a"]), r"kept_: it is an array of type \|S1"),
        (np.zeros(2, dtype=np.longdouble), r"kept_: it is an array of type float128"),
        (BaseEstimator, r"kept_: builtins.type is not supported"),
    ],
)
def test_what_is_not_known_is_refused(value, message, path):
    loss = losses.IgnoreUnknown()
    loss.kept_ = value
    with pytest.raises(ValueError, match=f"IgnoreUnknown cannot be saved to '.*saved': {message}"):
        skpartial.save(loss, path)
    assert not os.path.exists(path)


def test_what_holds_itself_is_refused(path):
    loss = losses.IgnoreUnknown()
    loss.kept_ = [loss]
    with pytest.raises(ValueError, match="it contains itself"):
        skpartial.save(loss, path)
    for value, message in ((losses.IgnoreUnknown, "the class IgnoreUnknown"), ([1], "a list")):
        with pytest.raises(ValueError, match=f"save takes an estimator.*got {message}"):
            skpartial.save(value, path)


# ------------------------------------------------------------------------------------------------------ registration


class Mine(losses.IgnoreUnknown):
    def __init__(self, strength=1.0):
        super().__init__()
        self.strength = strength


class Net(nn.Sequential):
    def __init__(self, width=4):
        super().__init__(nn.Conv2d(3, width, 3, stride=4), nn.BatchNorm2d(width), nn.ReLU())


def darker(image):
    return image * 0.9


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch):
    monkeypatch.setattr(_known, "_registered", {})


def test_third_parties_are_registered(path):
    with pytest.raises(ValueError, match="register it with"):
        skpartial.save(Mine(), path)
    assert skpartial.register_for_saving(Mine) is Mine
    assert again(Mine(strength=2.0), path).strength == 2.0
    skpartial.register_for_saving(Mine)  # as a notebook's cell that is run again does
    _known._registered.clear()
    with pytest.raises(ValueError, match=r"saved' cannot be loaded: it holds an object of class '.*Mine', which"):
        skpartial.load(path)
    decorated = skpartial.register_for_saving(name="theirs.Mine")(Mine)
    assert type(again(decorated(), path)) is Mine
    for wrong, message in ((3, "takes a class or a function"), (lambda: 3, "got a lambda")):
        with pytest.raises(ValueError, match=message):
            skpartial.register_for_saving(wrong)
    with pytest.raises(ValueError, match="is already known"):
        skpartial.register_for_saving(Mine, name="skpartial.losses.ROLE")
    with pytest.raises(ValueError, match="choose another name"):
        skpartial.register_for_saving(Net, name="theirs.Mine")


class Words(dict):
    pass


class Slotted:
    __slots__ = ("word",)


def test_what_would_be_lost_is_refused(path):
    """Objects that are more than their attributes, registered or not."""
    pd = pytest.importorskip("pandas")
    loss = losses.IgnoreUnknown()
    for kind in (Words, Slotted, pd.DataFrame):
        skpartial.register_for_saving(kind)
        loss.kept_ = kind()
        with pytest.raises(ValueError, match=r"kept_: (.* is not supported|a DataFrame has data other than its)"):
            skpartial.save(loss, path)


class Plain:
    pass


def test_plain_objects_are_their_attributes(path):
    skpartial.register_for_saving(Plain)
    loss = losses.IgnoreUnknown()
    loss.kept_ = Plain()
    loss.kept_.word = "a"
    assert again(loss, path).kept_.word == "a"


def test_functions_are_registered(path):
    backbone = Backbone(augment=darker)
    with pytest.raises(ValueError, match=r"augment: .*darker is not a function of this package"):
        skpartial.save(backbone, path)
    skpartial.register_for_saving(darker)
    assert again(backbone, path).augment is darker


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, size=(24, 16, 16, 3), dtype=np.uint8)
    return pixels, np.where(rng.random((24, 3)) < 0.5, 1, -1)


@pytest.mark.parametrize("kind", of(heads, heads.Head), ids=lambda kind: kind.__name__)
def test_a_network_of_the_users_goes_on(kind, scenes, path):
    X, Y = scenes
    module = Net()
    module[0].bias.requires_grad_(False)
    backbone = Backbone(module, image_size=16)
    solver = Minibatch(max_epochs=1, learning_rate=1e-3)
    clf = PartialLabelClassifier(head=kind(), backbone=backbone, solver=solver, warm_start=True, random_state=0)
    fitted(clf, X, Y)
    skpartial.save(clf, path)
    with pytest.raises(ValueError, match=r"network of class '.*Net': pass a function .* with load\(path, modules"):
        skpartial.load(path)
    random = torch.random.get_rng_state()
    loaded = skpartial.load(path, modules={"Net": Net})
    assert torch.equal(random, torch.random.get_rng_state())
    assert not loaded.backbone.model[0].bias.requires_grad
    np.testing.assert_array_equal(loaded.decision_function(X), clf.decision_function(X))
    for each in (clf, loaded):
        fitted(each, X, Y)
    np.testing.assert_array_equal(loaded.decision_function(X), clf.decision_function(X))
    skpartial.register_for_saving(Net, make=lambda: Net(4))
    assert again(clf, path).predict(X).shape == Y.shape
    for wrong, message in (
        (lambda: Net(5), "has another shape"),
        (nn.Identity, "only the file has"),
        (list, "returns a list, not"),
    ):
        with pytest.raises(ValueError, match=message):
            skpartial.load(path, modules={"Net": wrong})


def test_a_network_that_was_pickled_before(scenes, path):
    """A pickle holds a module of the user's as it was fitted only, and so does what is saved of it: once."""
    X, Y = scenes
    backbone = Backbone(Net(), image_size=16)
    clf = fitted(PartialLabelClassifier(backbone=backbone, solver=Minibatch(max_epochs=1), random_state=0), X, Y)
    pickled = pickle.loads(pickle.dumps(clf))
    loaded = again(pickled, path, modules={"Net": Net})
    np.testing.assert_array_equal(loaded.decision_function(X), clf.decision_function(X))
    assert type(loaded.backbone.model) is type(pickled.backbone.model)


def test_a_network_of_torchvision_is_there_once(scenes, path):
    X, Y = scenes
    features = fitted(ImageFeatures(Backbone("squeezenet1_1", weights=None, image_size=32)), X)
    pipeline = make_pipeline(features, PartialLabelClassifier())
    fitted(pipeline, X, Y)
    loaded = again(pipeline, path)
    np.testing.assert_array_equal(loaded.decision_function(X), pipeline.decision_function(X))
    n = sum(tensor.numel() for tensor in features._loaded.module.state_dict().values())
    assert 4 * n < os.path.getsize(path) < 4 * n + 50_000
    # Whatever it had in its cache is code to whoever unpickles it.
    features.set_params(memory="/nowhere")
    assert again(features, path).memory is None


def test_equal_tensors_are_there_once(path):
    loss, weights = losses.IgnoreUnknown(), np.random.default_rng(0).normal(size=(300, 300))
    loss.kept_ = [weights, weights.copy(), weights[:10], torch.from_numpy(weights), weights.reshape(100, 900)]
    kept = again(loss, path).kept_
    assert os.path.getsize(path) < 2.1 * weights.nbytes
    kept[0][:] = 0  # and yet loaded ones are apart
    same(kept[1], weights)
    same(kept[4], weights.reshape(100, 900))


def test_a_transformer_made_for_larger_images(path):
    """Weights may change what a vision transformer is made for."""
    from skpartial.images._architectures import Architecture

    assert Architecture("vit_b_16", 384).n_parameters > 80_000_000
    with torch.device("meta"):
        assert Architecture("vit_b_16", 384).make().encoder.pos_embedding.shape[1] == 24 * 24 + 1
        assert Architecture("vit_b_16", None).make().encoder.pos_embedding.shape[1] == 14 * 14 + 1


# ------------------------------------------------------------------------------------------------- files and versions


def test_save_writes_exactly_its_path(tmp_path, monkeypatch):
    clf = PartialLabelClassifier()
    monkeypatch.chdir(tmp_path)
    for name in ("plain", Path("dotted.v1.bin"), "ünï cödé", "x" * 200):
        skpartial.save(clf, name)
        assert sorted(os.listdir()) == [str(name)]
        skpartial.load(name)
        os.chmod(name, 0o640)
        skpartial.save(clf, name)
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o640
        os.remove(name)
    skpartial.save(clf, "target")
    os.symlink("target", "link")
    skpartial.save(PartialLabelClassifier("an"), "link")
    assert os.path.islink("link")
    assert skpartial.load("target").loss == "an"
    with safetensors.safe_open("target", framework="np") as file:
        assert file.metadata()["format"] == "skpartial"


def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "file"
    skpartial.save(PartialLabelClassifier(), path)
    before = path.read_bytes()
    broken = PartialLabelClassifier(class_weight=object())
    with pytest.raises(ValueError, match="class_weight"):
        skpartial.save(broken, path)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        skpartial.save(PartialLabelClassifier("an"), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["file"]
    monkeypatch.undo()
    with pytest.raises(OSError, match=r"nowhere/file' cannot be written: the folder"):
        skpartial.save(PartialLabelClassifier(), tmp_path / "nowhere" / "file")
    with pytest.raises(OSError, match="it is a directory"):
        skpartial.save(PartialLabelClassifier(), tmp_path)
    with pytest.raises(OSError, match="it is a device"):
        skpartial.save(PartialLabelClassifier(), "/dev/null")


def test_other_versions_warn(data, path, monkeypatch):
    X, Y, _ = data
    pipeline = fitted(make_pipeline(StandardScaler(), PartialLabelClassifier()), X, Y)
    skpartial.save(pipeline, path)
    skpartial.load(path)
    monkeypatch.setattr(sklearn, "__version__", "9.9")
    with pytest.warns(InconsistentVersionWarning, match=r"Pipeline was written with version .* of scikit-learn and is"):
        skpartial.load(path)
    monkeypatch.undo()
    skpartial.save(pipeline[-1], path)
    monkeypatch.setattr(skpartial, "__version__", "9.9")
    with pytest.warns(
        InconsistentVersionWarning, match=r"written with version .* of skpartial and is read with .* 9.9"
    ):
        skpartial.load(path)


@pytest.mark.parametrize(
    "estimator",
    [PartialLabelClassifier(), TunedThresholdsCV(None), ImageFeatures(), BatchedGridSearchCV(None, {})],
    ids=lambda each: type(each).__name__,
)
def test_pickles_of_other_versions_warn(estimator, monkeypatch):
    pickled = pickle.dumps(estimator)
    same(vars(pickle.loads(pickled)), vars(estimator))
    same(vars(copy.deepcopy(estimator)), vars(estimator))
    monkeypatch.setattr(skpartial, "__version__", "9.9")
    with pytest.warns(InconsistentVersionWarning, match=f"{type(estimator).__name__} was written with version"):
        pickle.loads(pickled)


def test_callbacks_and_routing_stay(data, path):
    clf = PartialLabelClassifier().set_callbacks(ProgressBar())
    assert isinstance(again(clf, path)._skl_callbacks[0], ProgressBar)
    with sklearn.config_context(enable_metadata_routing=True):
        clf = PartialLabelClassifier().set_fit_request(sample_weight=True, label_prior="prior")
        asked = again(clf, path).get_metadata_routing().fit.requests
        assert asked == clf.get_metadata_routing().fit.requests


def test_importing_and_loading_are_light(data, path):
    """A classifier of features is loaded without what only images or plots need."""
    X, Y, _ = data
    skpartial.save(fitted(PartialLabelClassifier("em"), X, Y), path)
    code = (
        "import sys, skpartial; skpartial.load(sys.argv[1]); "
        "assert not {'torchvision', 'timm', 'PIL', 'matplotlib'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True, env={**os.environ})


def test_a_network_of_timm_is_made_by_its_name(scenes, path):
    pytest.importorskip("timm")
    X, _ = scenes
    features = fitted(ImageFeatures(Backbone("timm/resnet10t", weights=None, image_size=32)), X)
    np.testing.assert_array_equal(again(features, path).transform(X), features.transform(X))


def test_nothing_in_the_package_reads_what_could_be_executed():
    """A pickle in disguise is opened by these."""
    opens = re.compile(
        r"\b(pickle|joblib|cloudpickle|dill)\.loads?\(|allow_pickle(?!=False)|(?<!\.)\b(eval|exec)\(|weights_only=False"
    )
    for file in Path(skpartial.__file__).parent.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        code = re.sub(r'"""[\s\S]*?"""', "", text)
        assert not opens.search(code), file
        assert len(re.findall(r"torch\.load\(", code)) == len(re.findall("weights_only=True", code)), file


def test_one_number_with_strides(tmp_path):
    """Of which PyTorch says that it is contiguous."""
    clf = PartialLabelClassifier(class_weight=np.ones((1, 3))[:, 1])
    skpartial.save(clf, tmp_path / "clf")
    np.testing.assert_array_equal(skpartial.load(tmp_path / "clf").class_weight, [1])
