"""Images in HDF5 files: what the guide promises of them, in every place that slices, pickles or hashes X."""

from __future__ import annotations

import copy
import os
import pickle
import sys

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, ShuffleSplit, train_test_split

from skpartial import PartialLabelClassifier
from skpartial._fingerprint import identity
from skpartial.images import Backbone, HDF5Images, ImageFeatures
from skpartial.images._sources import as_source, holds_images
from skpartial.model_selection import PartialLabelKFold, cross_val_predict
from skpartial.solvers import Minibatch

h5py = pytest.importorskip("h5py")


@pytest.fixture
def file(patches, tmp_path):
    with h5py.File(tmp_path / "images.h5", "w") as opened:
        opened.create_dataset("train/images", data=patches[0][:60])
        opened.create_dataset("numbers", data=3)
        opened.create_dataset("deep", data=(257 * patches[0][:60].astype(np.uint16)))
    return tmp_path / "images.h5"


@pytest.fixture
def X(file):
    return HDF5Images(file, "train/images")


@pytest.fixture
def pixels(patches):
    return patches[0][:60]


def classifier(network, **settings):
    backbone = Backbone(network, finetune="head", image_size=16)
    return PartialLabelClassifier(backbone=backbone, alpha=0.1, random_state=0, **settings)


INDICES = {
    "shuffled": np.random.default_rng(0).permutation(60)[:20],
    "repeated": np.array([4, 1, 4, 0]),
    "negative": np.array([-1, 5, -60]),
    "mask": np.arange(60) % 3 == 0,
    "list": [7, 2],
    "slice": slice(50, 10, -7),
    "part": slice(3, 9),
    "nothing": [],
    "with ellipsis": (np.array([9, 3]), ...),
}


@pytest.mark.parametrize("kind", INDICES)
def test_rows_in_any_order(X, pixels, kind):
    rows = INDICES[kind]
    part = X[rows]
    rows = rows[0] if isinstance(rows, tuple) else rows
    expected = pixels[rows if isinstance(rows, slice) or len(rows) else slice(0)]
    assert isinstance(part, HDF5Images)
    assert part.shape == expected.shape
    assert (len(part), part.ndim, part.dtype) == (len(expected), 4, np.uint8)
    np.testing.assert_array_equal(np.asarray(part), expected)
    if len(part) > 1:  # and rows of rows
        np.testing.assert_array_equal(np.asarray(part[[1, 0, 1]]), expected[[1, 0, 1]])
        np.testing.assert_array_equal(part[1], expected[1])


def test_one_image(X, pixels):
    np.testing.assert_array_equal(X[np.int64(3)], pixels[3])
    np.testing.assert_array_equal(X[-1], pixels[-1])
    with pytest.raises(IndexError):
        X[60]
    with pytest.raises(IndexError, match="can only be indexed by rows"):
        X[:, 2]


def test_nothing_is_read_before_it_is_asked_for(X, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("was read")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", refuse)
    part = pickle.loads(pickle.dumps(X[[5, 3]]))
    with pytest.raises(AssertionError, match="was read"):
        np.asarray(part)


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda X: pickle.loads(pickle.dumps(X))])
def test_copies_open_the_file_again(X, pixels, copied, tmp_path, monkeypatch):
    """By its absolute path, wherever the process is."""
    part = X[[5, 3, 5]]
    again = copied(part)
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(np.asarray(again), pixels[[5, 3, 5]])
    assert repr(again) == repr(part)
    assert len(pickle.dumps(X[:5])) < 2000  # no pixels


@pytest.mark.skipif(not hasattr(os, "fork"), reason="has no forks")
def test_forks_do_not_share_a_file(X, monkeypatch):
    """Their positions in it would be one."""
    opened = X._source.open().file.id.id
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert X._source.open().file.id.id != opened


def test_as_images(X, pixels, file):
    assert holds_images(X)
    source = as_source(X, (16, 16))
    assert not source.is_cheap
    rows = np.array([4, 1, 4])
    np.testing.assert_array_equal(source.read_rows(rows).numpy(), pixels[rows].transpose(0, 3, 1, 2))
    deep = as_source(HDF5Images(file, "deep"), (16, 16)).read(7)
    np.testing.assert_allclose(deep.numpy(), pixels[7].transpose(2, 0, 1) / 255, atol=1e-6)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_searches(network, patches, X, pixels, n_jobs):
    """Scores of the arrays themselves, where rows are shuffled, and where they go to other processes."""
    Y = patches[1][:60]

    def search(given, n_jobs):
        folds = ShuffleSplit(2, random_state=0)
        return GridSearchCV(classifier(network), {"alpha": [0.1, 10.0]}, cv=folds, n_jobs=n_jobs).fit(given, Y)

    found, expected = search(X, n_jobs), search(pixels, None)
    np.testing.assert_allclose(found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])
    np.testing.assert_allclose(found.predict_proba(X[::-1]), expected.predict_proba(pixels[::-1]), atol=1e-6)


def test_splits(network, patches, X, pixels):
    Y = patches[1][:60]
    train, test = train_test_split(X, random_state=0)
    np.testing.assert_array_equal(np.asarray(train), train_test_split(pixels, random_state=0)[0])
    assert isinstance(test, HDF5Images)
    folds = PartialLabelKFold(2, shuffle=True, random_state=0)
    found, expected = (
        cross_val_predict(classifier(network), given, Y, cv=folds, method="decision_function") for given in (X, pixels)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("raw", [False, True], ids=["HDF5Images", "h5py"])
def test_fine_tuning_with_checkpoints_and_threads(network, patches, file, tmp_path, raw):
    """A fit shuffles its rows itself, keeps rows apart, and knows its data again: of a data set of h5py too."""
    Y = patches[1][:60]
    clf = PartialLabelClassifier(
        backbone=Backbone(network, image_size=16, cache_bytes=0),
        solver=Minibatch(max_epochs=1),
        checkpoint_dir=tmp_path / "fits",
        validation_fraction=0.2,
        n_jobs=2,
        random_state=0,
    )
    with h5py.File(file) as opened:
        given = opened["train/images"] if raw else HDF5Images(file, "train/images")
        found = clf.fit(given, Y).decision_function(given)
    expected = clf.fit(patches[0][:60], Y).decision_function(patches[0][:60])
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("raw", [False, True], ids=["HDF5Images", "h5py"])
def test_features_that_are_kept(network, file, tmp_path, pixels, raw):
    transformer = ImageFeatures(Backbone(network, image_size=16), memory=tmp_path / "memory")
    expected = ImageFeatures(Backbone(network, image_size=16)).fit_transform(pixels)
    with h5py.File(file) as opened:
        given = opened["train/images"] if raw else HDF5Images(file, "train/images")
        for _ in range(2):
            np.testing.assert_allclose(transformer.fit_transform(given), expected, atol=1e-6)


def test_what_they_are_known_by(X, file):
    keys = {identity(X), identity(X[::-1]), identity(X[:3]), identity(HDF5Images(file, "deep"))}
    with h5py.File(file) as opened:
        keys.add(identity(opened["train/images"]))
    assert len(keys) == 5
    assert identity(X[[1, 2]]) == identity(X[1:3]) == identity(X[[0, 1, 2]][1:])
    before = identity(X)
    os.utime(file, (0, 0))
    assert identity(X) != before


def test_refusals(file, tmp_path, monkeypatch):
    for name in ("nowhere", "train", "numbers"):
        with pytest.raises(ValueError, match=rf"images\.h5' has no data set of images named '{name}'"):
            HDF5Images(file, name)
    with pytest.raises(OSError, match=r"path must be an HDF5 file, got '.*', which is a directory"):
        HDF5Images(tmp_path, "images")
    with pytest.raises(FileNotFoundError):
        HDF5Images(tmp_path / "other.h5", "images")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(OSError, match="file signature not found"):
        HDF5Images(tmp_path / "text.h5", "images")
    with pytest.raises(ValueError, match="reading from a file makes a copy"):
        HDF5Images(file, "deep").__array__(copy=False)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match="needs h5py: pip install h5py"):
        HDF5Images(file, "deep")
