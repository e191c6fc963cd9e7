"""The transformer to frozen features: against the network run by hand, in pipelines, with a memory, with bad files."""

from __future__ import annotations

import os
import pickle
import sys
import time

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skpartial import PartialLabelClassifier
from skpartial.exceptions import ImageReadError
from skpartial.images import Backbone, FeatureStore, ImageFeatures
from skpartial.model_selection import cross_val_predict

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


class Counting(nn.Module):
    """Averages of the channels, their squares too; how many images it saw is noted outside of it."""

    seen: list[int] = []

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, images):
        self.seen.append(len(images))
        means = self.factor * images.mean((2, 3))
        return torch.cat([means, means**2], dim=1)


@pytest.fixture
def seen():
    """Sizes of the batches that Counting saw; one image more, of zeros, is seen by each fit."""
    Counting.seen.clear()
    return Counting.seen


@pytest.fixture(scope="module")
def pixels(scenes):
    return scenes[0][:20]


@pytest.fixture
def paths(pixels, tmp_path):
    names = [tmp_path / f"{i}.png" for i in range(len(pixels))]
    for name, image in zip(names, pixels):
        Image.fromarray(image).save(name)
    return names


def small(factor=1.0, **settings):
    return Backbone(Counting(factor), **{"image_size": 32, **settings})


def by_hand(pixels, factor=1.0):
    means = factor * ((pixels / 255 - MEAN) / STD).mean((1, 2))
    return np.concatenate([means, means**2], axis=1)


def test_features_are_the_networks(pixels, paths):
    """torchvision's network with the weights that the transformer started from."""
    transformer = ImageFeatures(Backbone("resnet18", weights=None, image_size=32), batch_size=7)
    found = transformer.fit_transform(pixels)
    assert found.dtype == np.float32
    assert found.shape == (20, transformer.n_features_out_) == (20, 512)
    model = torchvision.models.resnet18(weights=None)
    model.fc = nn.Identity()
    model.load_state_dict(transformer._loaded.module.state_dict())
    with torch.no_grad():
        expected = model.eval()(torch.tensor(((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2), dtype=torch.float32))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)
    np.testing.assert_allclose(transformer.transform(paths), found, atol=1e-5)
    np.testing.assert_allclose(transformer.transform(pixels / 255), found, atol=1e-4)


def test_maps_are_averaged(pixels, network):
    found = ImageFeatures(Backbone(network, image_size=32)).fit_transform(pixels)
    images = torch.tensor(((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2), dtype=torch.float32)
    with torch.no_grad():
        expected = network.eval()(images).mean((2, 3))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_random_networks_are_the_same_every_time(pixels):
    backbone = Backbone("squeezenet1_1", weights=None, image_size=32)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = ImageFeatures(backbone).fit_transform(pixels[:3])
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(ImageFeatures(backbone).fit_transform(pixels[:3]), first)


@pytest.mark.parametrize("batch_size", [1, 3, 20, 64, np.int64(7)])
def test_batches_do_not_matter(pixels, paths, seen, batch_size):
    transformer = ImageFeatures(small(), batch_size=batch_size).fit(pixels)
    seen.clear()
    np.testing.assert_allclose(transformer.transform(pixels), by_hand(pixels), atol=1e-5)
    assert seen == [len(part) for part in np.array_split(range(20), range(int(batch_size), 20, int(batch_size)))]
    np.testing.assert_allclose(transformer.transform(paths), by_hand(pixels), atol=1e-5)


@pytest.mark.parametrize("n_jobs", [1, 2, -1])
def test_threads_do_not_matter(pixels, paths, n_jobs):
    found = ImageFeatures(small(), batch_size=4, n_jobs=n_jobs).fit_transform(paths)
    np.testing.assert_allclose(found, by_hand(pixels), atol=1e-5)


def test_bfloat16_is_close(pixels):
    backbone = Backbone("resnet18", weights=None, image_size=32)
    exact = ImageFeatures(backbone, device="cpu", precision="float32").fit_transform(pixels[:4])
    short = ImageFeatures(backbone, device="cpu", precision="bfloat16").fit_transform(pixels[:4])
    assert short.dtype == np.float32
    assert np.abs(short - exact).max() > 0
    np.testing.assert_allclose(short, exact, atol=0.05 * np.abs(exact).max())
    automatic = ImageFeatures(backbone, device="cpu").fit_transform(pixels[:4])
    np.testing.assert_array_equal(automatic, exact)


def test_augmentation_plays_no_part(pixels):
    found = ImageFeatures(small(augment="crop", finetune="all")).fit_transform(pixels)
    np.testing.assert_allclose(found, by_hand(pixels), atol=1e-5)


def test_a_module_is_left_alone(pixels):
    module = Counting(2.0).train()
    transformer = ImageFeatures(Backbone(module, image_size=32)).fit(pixels)
    np.testing.assert_allclose(transformer.transform(pixels), by_hand(pixels, 2.0), atol=1e-4)
    with torch.no_grad():
        module.factor.fill_(5.0)
    np.testing.assert_allclose(transformer.transform(pixels), by_hand(pixels, 2.0), atol=1e-4)
    assert module.training


# ------------------------------------------------------------------------------------------------- as a transformer


def test_names_of_features(pixels, network):
    transformer = ImageFeatures(small()).fit(pixels)
    assert transformer.get_feature_names_out().tolist() == [f"counting_{i}" for i in range(6)]
    assert ImageFeatures(Backbone(network, image_size=16)).fit(pixels).get_feature_names_out()[15] == "sequential_15"
    with pytest.raises(NotFittedError):
        ImageFeatures().get_feature_names_out()


def test_frames(pixels, paths):
    transformer = ImageFeatures(small()).set_output(transform="pandas")
    series = pd.Series([str(path) for path in paths], index=range(100, 120))
    frame = transformer.fit_transform(series)
    assert frame.columns.tolist() == [f"counting_{i}" for i in range(6)]
    assert frame.index.tolist() == list(range(100, 120))
    np.testing.assert_allclose(frame.to_numpy(), by_hand(pixels), atol=1e-5)
    assert isinstance(transformer.transform(pixels), pd.DataFrame)


def test_in_a_pipeline(pixels, scenes):
    Y = scenes[1][:20]
    clf = PartialLabelClassifier(random_state=0)
    pipeline = make_pipeline(ImageFeatures(small()), StandardScaler(), clf).fit(pixels, Y)
    features = StandardScaler().fit_transform(by_hand(pixels))
    expected = clone(clf).fit(features.astype(np.float32), Y)
    np.testing.assert_allclose(pipeline.decision_function(pixels), expected.decision_function(features), atol=1e-3)
    assert pipeline[:-1].get_feature_names_out().tolist() == [f"counting_{i}" for i in range(6)]
    moved = clone(pipeline).set_params(imagefeatures__backbone__image_size=(8, 8)).fit(pixels, Y)
    assert moved[0]._loaded.image_size == (8, 8)


def test_clone_and_pickle(pixels, tmp_path):
    transformer = ImageFeatures(small(), batch_size=5, n_jobs=2, memory=str(tmp_path)).fit(pixels)
    copy = clone(transformer)
    assert (copy.batch_size, copy.n_jobs, copy.memory) == (5, 2, str(tmp_path))
    assert not hasattr(copy, "n_features_out_")
    again = pickle.loads(pickle.dumps(transformer))
    np.testing.assert_array_equal(again.transform(pixels), transformer.transform(pixels))
    assert repr(ImageFeatures("resnet18", batch_size=9)) == "ImageFeatures(backbone='resnet18', batch_size=9)"


def test_it_must_be_fitted(pixels):
    with pytest.raises(NotFittedError, match="ImageFeatures instance is not fitted"):
        ImageFeatures(small()).transform(pixels)


class Batches:
    """A callback that counts the batches that end, and the runs around them."""

    def __init__(self):
        self.ended, self.runs = [], 0

    def setup(self, estimator, context):
        self.runs += 1

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.ended.append(context.task_name)


def test_callbacks_see_every_batch(pixels):
    counter = Batches()
    transformer = ImageFeatures(small(), batch_size=6).set_callbacks(counter)
    transformer.fit(pixels).transform(pixels)
    assert counter.ended.count("batch") == 4
    assert len(counter.ended) == 5
    assert counter.runs == 1


def test_progress_bars(pixels, capsys):
    pytest.importorskip("rich")
    ImageFeatures(small(), batch_size=6).set_callbacks(ProgressBar()).fit_transform(pixels)
    bars = [line for line in capsys.readouterr().out.splitlines() if "ImageFeatures" in line]
    assert "100%" in bars[-1]


# -------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"batch_size": 2.0}, r"batch_size must be a whole number of at least 1, got 2\.0"),
        ({"batch_size": None}, "batch_size must be a whole number of at least 1, got None"),
        ({"precision": "float64"}, "precision must be 'auto', 'float32' or 'bfloat16', got 'float64'"),
        ({"backbone": 3}, "backbone must be a name"),
        ({"backbone": "resnet19"}, "torchvision has no image classification model 'resnet19'"),
        ({"backbone": Backbone("resnet18", on_error="pass")}, "Backbone: on_error must be"),
    ],
    ids=str,
)
def test_settings_out_of_range(pixels, settings, message):
    with pytest.raises(ValueError, match=message):
        ImageFeatures(**{"backbone": small(), **settings}).fit(pixels)


@pytest.mark.parametrize(("settings", "message"), [({"device": "abacus"}, "device must be"), ({"n_jobs": 0}, "n_jobs")])
def test_where_and_how_is_asked_when_computing(pixels, settings, message):
    with pytest.raises(ValueError, match=message):
        ImageFeatures(small(), **settings).fit_transform(pixels)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((5, 7)), "a backbone takes images: .* For rows of features use backbone=None"),
        ("image.jpg", "X is a single path"),
        ([], "X holds no images"),
        (np.zeros((5, 8, 8, 2)), "with 3 channels, as the network takes, or 1"),
    ],
    ids=["features", "path", "nothing", "channels"],
)
def test_what_is_no_image(pixels, X, message):
    transformer = ImageFeatures(small())
    with pytest.raises(ValueError, match=message):
        transformer.fit(X)
    with pytest.raises(ValueError, match=message):
        transformer.fit(pixels).transform(X)


# -------------------------------------------------------------------------------------------------------- bad files


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_first_bad_file_in_order_is_named(paths, n_jobs):
    paths[13].unlink()
    paths[6].write_bytes(b"")
    transformer = ImageFeatures(small(), batch_size=4, n_jobs=n_jobs).fit(paths)
    with pytest.raises(ImageReadError, match=r"6\.png' is not in a format that Pillow can read"):
        transformer.transform(paths)
    with pytest.raises(ImageReadError, match=r"13\.png' does not exist"):
        transformer.transform(paths[::-1])


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_bad_files_may_be_skipped(pixels, paths, n_jobs):
    paths[13].unlink()
    paths[6].write_bytes(paths[6].read_bytes()[:60])
    transformer = ImageFeatures(small(on_error="skip"), batch_size=4, n_jobs=n_jobs).fit(paths)
    with pytest.warns(UserWarning, match=r"^2 images could not be read, so their features are NaN: .*6\.png.*skipped_"):
        found = transformer.transform(paths)
    assert [row for row, _ in transformer.skipped_] == [6, 13]
    assert "13.png' does not exist" in transformer.skipped_[1][1]
    expected = by_hand(pixels)
    expected[[6, 13]] = np.nan
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # Without bad files nothing is said, and nothing is left over.
    np.testing.assert_allclose(transformer.transform(paths[:6]), expected[:6], atol=1e-5)
    assert transformer.skipped_ == []


def test_bad_files_and_nothing_else(paths):
    for path in paths:
        path.write_bytes(b"")
    transformer = ImageFeatures(small(on_error="skip")).fit(paths)
    with pytest.raises(ImageReadError, match=r"None of the 20 images can be read: .*0\.png'"):
        transformer.transform(paths)


# ----------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("kind", ["array", "paths", "Series", "list"])
@pytest.mark.parametrize("as_memory", [True, False])
def test_features_are_kept(pixels, paths, seen, tmp_path, kind, as_memory):
    strings = [str(path) for path in paths]
    X = {"array": pixels, "paths": paths, "Series": pd.Series(strings), "list": list(pixels)}[kind]
    memory = joblib.Memory(tmp_path / "kept", verbose=0) if as_memory else str(tmp_path / "kept")
    first = ImageFeatures(small(), memory=memory).fit_transform(X)
    np.testing.assert_allclose(first, by_hand(pixels), atol=1e-5)
    # Another transformer, with whatever does not change features.
    transformer = ImageFeatures(small(augment="crop", cache_bytes=0), memory=memory, batch_size=3, n_jobs=2).fit(X)
    seen.clear()
    np.testing.assert_array_equal(transformer.transform(X), first)
    assert transformer.skipped_ == []
    assert seen == []
    # Some of the images, in another order, one of them twice.
    some = [6, 2, 2, 19]
    subset = X.iloc[some] if kind == "Series" else X[some] if kind == "array" else [X[row] for row in some]
    np.testing.assert_array_equal(transformer.transform(subset), first[some])
    assert seen == []


def test_only_what_is_new_is_computed(pixels, seen, tmp_path):
    transformer = ImageFeatures(small(), memory=tmp_path, batch_size=4).fit(pixels)
    seen.clear()
    transformer.transform(pixels[:7])
    assert seen == [4, 3]
    # New ones before, between and after those that are kept, and twice.
    rows = [12, 3, 15, 12, 0, 19]
    np.testing.assert_allclose(transformer.transform(pixels[rows]), by_hand(pixels[rows]), atol=1e-5)
    assert seen == [4, 3, 3]
    np.testing.assert_allclose(transformer.transform(pixels), by_hand(pixels), atol=1e-5)
    assert sum(seen) == 20


def test_folds_use_the_same_features(pixels, seen, tmp_path):
    Y = np.where(np.add.outer(np.arange(20), np.arange(3)) % 2, 1, -1)
    pipeline = make_pipeline(ImageFeatures(small(), memory=str(tmp_path)), PartialLabelClassifier(alpha=1e-2))
    ImageFeatures(small(), memory=str(tmp_path)).fit_transform(pixels)
    seen.clear()
    found = cross_val_predict(pipeline, pixels, Y, cv=KFold(4), method="decision_function")
    assert sum(size for size in seen if size > 1) == 0
    plain = make_pipeline(ImageFeatures(small()), PartialLabelClassifier(alpha=1e-2))
    expected = cross_val_predict(plain, pixels, Y, cv=KFold(4), method="decision_function")
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_was_computed_before_an_error_is_kept(paths, seen, tmp_path):
    paths[13].write_bytes(b"")
    transformer = ImageFeatures(small(), memory=tmp_path / "kept", batch_size=4).fit(paths)
    with pytest.raises(ImageReadError, match=r"13\.png'"):
        transformer.transform(paths)
    seen.clear()
    transformer.transform(paths[:12])
    assert seen == []


@pytest.fixture
def kept(pixels, tmp_path):
    """A transformer whose features of all images are kept in two files, and their folder."""
    transformer = ImageFeatures(small(), memory=tmp_path).fit(pixels)
    transformer.transform(pixels[:10])
    transformer.transform(pixels[10:])
    return transformer, next(folder for folder in tmp_path.iterdir())


class Boom:
    def __reduce__(self):
        return (pytest.fail, ("a stored file was executed",))


def cut(file):
    file.write_bytes(file.read_bytes()[:-20])


def empty(file):
    file.write_bytes(b"")


def pickled(file):
    np.save(file, np.array([Boom()], dtype=object), allow_pickle=True)


def others(file):
    np.save(file, np.zeros((10, 3)))


def flipped(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 255
    file.write_bytes(bytes(content))


@pytest.mark.parametrize("ending", ["features", "index"])
@pytest.mark.parametrize("damage", [cut, empty, pickled, others, flipped])
def test_damaged_files_are_computed_anew(pixels, seen, kept, damage, ending):
    transformer, folder = kept
    expected = by_hand(pixels)
    damage(sorted(folder.glob(f"*.{ending}.npy"))[0])
    seen.clear()
    with pytest.warns(UserWarning, match=r"^The features in .*index\.npy are damaged \(.*\) and are computed again\.$"):
        np.testing.assert_allclose(transformer.transform(pixels), expected, atol=1e-5)
    assert sum(seen) == (1 if damage is flipped else 10)
    # And kept again.
    seen.clear()
    np.testing.assert_allclose(transformer.transform(pixels), expected, atol=1e-5)
    assert seen == []


def test_half_of_a_file_is_nothing(pixels, seen, kept):
    """A process that was killed may leave features without an index, one that deletes an index without features."""
    transformer, folder = kept
    sorted(folder.glob("*.features.npy"))[0].unlink()
    sorted(folder.glob("*.index.npy"))[1].unlink()
    seen.clear()
    np.testing.assert_allclose(transformer.transform(pixels), by_hand(pixels), atol=1e-5)
    assert sum(seen) == 20


def test_what_killed_processes_left_is_removed(pixels, kept):
    transformer, folder = kept
    for name, age in (("a.features.npy", 7200), ("b.index.npy.part", 7200), ("c.features.npy", 60)):
        (folder / name).write_bytes(b"begun")
        os.utime(folder / name, (time.time() - age,) * 2)
    transformer.transform(255 - pixels)
    left = {file.name for file in folder.iterdir()}
    assert "c.features.npy" in left
    assert not {"a.features.npy", "b.index.npy.part"} & left
    assert len(left) == 7


def test_a_store_is_bounded(pixels, tmp_path):
    store = FeatureStore(tmp_path, max_bytes=3 * (256 + 36 + 24 + 40))
    transformer = ImageFeatures(small(), memory=store).fit(pixels)
    for row in range(8):
        transformer.transform(pixels[row : row + 1])
        files = list(tmp_path.glob("*/*"))
        assert sum(file.stat().st_size for file in files) <= store.max_bytes
        for age, index in enumerate(sorted(tmp_path.glob("*/*.index.npy"), key=os.path.getmtime, reverse=True)):
            os.utime(index, (10**9 - age, 10**9 - age))
    assert len(files) >= 4
    # The last one is there still, the first is not.
    for row, n_seen in ((7, 0), (0, 1)):
        Counting.seen.clear()
        transformer.transform(pixels[row : row + 1])
        assert sum(Counting.seen) == n_seen


def test_a_folder_that_cannot_be_written_costs_nothing_else(pixels, tmp_path, monkeypatch):
    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    transformer = ImageFeatures(small(), memory=tmp_path).fit(pixels)
    monkeypatch.setattr(np, "save", full)
    with pytest.warns(UserWarning, match="cannot be stored in .*: No space left on device"):
        np.testing.assert_allclose(transformer.transform(pixels), by_hand(pixels), atol=1e-5)


@pytest.mark.parametrize("memory", [3, object(), FeatureStore(3), FeatureStore("x", max_bytes=0)])
def test_what_is_no_memory(pixels, memory):
    with pytest.raises(ValueError, match=r"memory must be a folder|path must be a path|max_bytes must be a number"):
        ImageFeatures(small(), memory=memory).fit(pixels).transform(pixels)


def test_a_memory_that_is_a_file(pixels, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"memory must be a folder, but .* is a file"):
        ImageFeatures(small(), memory=tmp_path / "file").fit_transform(pixels)


def test_a_memory_without_a_place_keeps_nothing(pixels, seen):
    transformer = ImageFeatures(small(), memory=joblib.Memory(None)).fit(pixels)
    seen.clear()
    for _ in range(2):
        np.testing.assert_allclose(transformer.transform(pixels), by_hand(pixels), atol=1e-5)
    assert sum(seen) == 40


@pytest.mark.parametrize("verbose", [0, 1, True])
@pytest.mark.parametrize("with_rich", [True, False])
def test_verbose_shows_a_bar(pixels, capsys, monkeypatch, verbose, with_rich):
    if with_rich:
        pytest.importorskip("rich")
    else:
        monkeypatch.setitem(sys.modules, "rich.progress", None)
    ImageFeatures(small(), batch_size=3, verbose=verbose).fit_transform(pixels)
    output = capsys.readouterr().out
    if not verbose:
        assert output == ""
        return
    assert "20/20" in output
    assert "ImageFeatures" in output
    assert "images" in output
    if not with_rich:
        assert 2 <= output.count("\n") <= 10


def test_what_verbose_can_be(pixels):
    with pytest.raises(ValueError, match="verbose must be a bool or a whole number of at least 0, got -1"):
        ImageFeatures(small(), verbose=-1).fit(pixels)


# ----------------------------------------------------------------------------------------- what is mostly a mistake


@pytest.mark.parametrize(
    "make, sentence",
    [
        (
            torchvision.models.resnet18,
            "ResNet still has its classifier, .* its 1000 outputs .* the 512 .* replace 'fc'",
        ),
        (torchvision.models.mobilenet_v3_small, "MobileNetV3 still .* the 1024 .* replace 'classifier.3'"),
        (torchvision.models.squeezenet1_1, "SqueezeNet still .* the 512 .* replace 'classifier.1'"),
    ],
)
def test_a_classifier_is_noticed(pixels, make, sentence):
    module = make(weights=None)
    with pytest.warns(UserWarning, match=f"^Backbone: {sentence}"):
        ImageFeatures(Backbone(module, image_size=32)).fit(pixels)


def test_nothing_is_said_without_a_classifier(pixels):
    module = torchvision.models.resnet18(weights=None)
    module.fc = nn.Identity()
    assert ImageFeatures(Backbone(module, image_size=32)).fit(pixels).n_features_out_ == 512
    ImageFeatures(Backbone("resnet18", weights=None, image_size=32)).fit(pixels)


@pytest.mark.parametrize("shape", [(32, 48, 3), (32, 48, 4)])
def test_a_lone_photograph_is_noticed(pixels, shape):
    transformer = ImageFeatures(small()).fit(pixels)
    with pytest.raises(
        ValueError, match=r"X has shape \(32, 48, .\), which looks like a single image .* pass X\[None\]"
    ):
        transformer.transform(np.zeros(shape, dtype=np.uint8))
    assert transformer.transform(np.zeros((1, 32, 48, 3), dtype=np.uint8)).shape == (1, 6)
    assert transformer.transform(np.zeros((3, 32, 48), dtype=np.uint8)).shape == (3, 6)  # grey ones


def test_what_a_memory_tells_apart(pixels, paths, seen, tmp_path):
    memory = str(tmp_path / "kept")

    def run(backbone, **settings):
        """Features, and whether the network ran."""
        transformer = ImageFeatures(backbone, memory=memory, **settings).fit(paths)
        seen.clear()
        return transformer.transform(paths), bool(seen)

    first, ran = run(small())
    assert ran
    assert not run(small())[1]
    found, ran = run(small(2.0))
    assert ran
    np.testing.assert_allclose(found, by_hand(pixels, 2.0), atol=1e-5)
    assert run(small(image_size=(16, 32)))[1]
    assert run(small(), precision="bfloat16")[1]
    assert not run(small(), precision="float32")[1]
    # A file that changes.
    Image.fromarray(255 - pixels[3]).save(paths[3])
    os.utime(paths[3], ns=(10**18, 10**18))
    found, ran = run(small())
    assert ran
    changed = pixels.copy()
    changed[3] = 255 - changed[3]
    np.testing.assert_allclose(found, by_hand(changed), atol=1e-5)
    np.testing.assert_array_equal(np.delete(found, 3, 0), np.delete(first, 3, 0))
    assert not run(small())[1]


def test_a_memory_keeps_skipped_files_too(paths, seen, tmp_path):
    paths[4].write_bytes(b"")
    memory = str(tmp_path / "kept")
    for n_seen in (19, 0):
        transformer = ImageFeatures(small(on_error="skip"), memory=memory).fit(paths)
        seen.clear()
        with pytest.warns(UserWarning, match="1 images could not be read"):
            found = transformer.transform(paths)
        assert sum(seen) == n_seen
        assert np.isnan(found[4]).all()
        assert [row for row, _ in transformer.skipped_] == [4]
    # Who wants an error gets one.
    with pytest.raises(ImageReadError, match=r"4\.png'"):
        ImageFeatures(small(), memory=memory).fit_transform(paths)
