"""Images from wherever they lie: every kind gives the pixels that NumPy and Pillow give, and copies none of them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from skpartial import PartialLabelClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.exceptions import ImageReadError
from skpartial.images import Backbone
from skpartial.images._sources import ArraySource, ItemSource, as_source, holds_images

SIZE = (32, 32)


@pytest.fixture(scope="module")
def images():
    pixels = make_digit_scenes(6, random_state=0).images
    pixels.flags.writeable = False
    return pixels


@pytest.fixture
def paths(images, tmp_path):
    names = [tmp_path / f"{i}.png" for i in range(len(images))]
    for name, image in zip(names, images):
        Image.fromarray(image).save(name)
    return names


class Lazy:
    """What h5py or zarr offer, and no more: a shape and slices, which are counted."""

    def __init__(self, array, *, dtype=True):
        self.array, self.shape, self.reads = array, array.shape, []
        if dtype:
            self.dtype = array.dtype

    def __getitem__(self, rows):
        self.reads.append(rows)
        return self.array[rows]


def everything(source):
    """All rows, read as a block and one by one, which must agree."""
    block = source.read_rows(np.arange(len(source)))
    single = torch.stack([source.read(row) for row in range(len(source))])
    assert block.shape == (source.n_rows, 3, *source.size)
    assert torch.equal(block, single)
    return block.numpy()


def chw(images):
    return images.transpose(0, 3, 1, 2)


KINDS = {
    "channels last": lambda images: images,
    "channels first": lambda images: np.ascontiguousarray(chw(images)),
    "view": lambda images: chw(images),
    "fortran": np.asfortranarray,
    "tensor": lambda images: torch.tensor(images),
    "tensor channels first": lambda images: torch.tensor(images).permute(0, 3, 1, 2),
    "lazy": Lazy,
    "lazy without dtype": lambda images: Lazy(images, dtype=False),
    "list of arrays": list,
    "tuple of tensors": lambda images: tuple(torch.tensor(chw(images))),
    "list of Pillow images": lambda images: [Image.fromarray(image) for image in images],
    "transparent Pillow images": lambda images: [Image.fromarray(image).convert("RGBA") for image in images],
}


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_of_every_kind(images, kind):
    X = KINDS[kind](images)
    assert holds_images(X)
    found = everything(as_source(X, SIZE))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, chw(images))


def test_pixels_of_a_file(images, tmp_path):
    """Data sets of HDF5 take rows in increasing order only, each of them once."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "images.h5", "w") as file:
        X = file.create_dataset("images", data=images)
        assert holds_images(X)
        source = as_source(X, SIZE)
        np.testing.assert_array_equal(everything(source), chw(images))
        rows = np.array([4, 1, 4, 0])
        np.testing.assert_array_equal(source.read_rows(rows).numpy(), chw(images)[rows])


@pytest.mark.parametrize("kind", ["list", "tuple", "strings", "object array", "string array", "Series", "DataFrame"])
def test_paths_of_every_kind(images, paths, kind):
    strings = [str(path) for path in paths]
    X = {
        "list": paths,
        "tuple": tuple(paths),
        "strings": strings,
        "object array": np.array(paths, dtype=object),
        "string array": np.array(strings),
        "Series": pd.Series(strings, index=range(10, 16)),
        "DataFrame": pd.DataFrame({"file": strings}),
    }[kind]
    assert holds_images(X)
    np.testing.assert_array_equal(everything(as_source(X, SIZE)), chw(images))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ">f4"])
def test_floats_stay_floats(images, dtype):
    X = (images / 255).astype(dtype)
    for kind in (X, torch.tensor(X.astype(X.dtype.newbyteorder("="))), list(X), Lazy(X)):
        found = everything(as_source(kind, SIZE))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, chw(X).astype(np.float32))


def test_grey_images(images, tmp_path):
    grey = images[..., 0]
    expected = chw(images[..., [0, 0, 0]])
    for X in (grey, grey[..., None], grey[:, None], list(grey), list(grey[..., None]), torch.tensor(grey)):
        np.testing.assert_array_equal(everything(as_source(X, SIZE)), expected)
    flags = grey > 100
    for X in (flags, list(flags), [Image.fromarray(flag) for flag in flags]):
        found = as_source(X, SIZE)
        values = everything(found).astype(float)
        np.testing.assert_array_equal(values / values.max(), flags[:, None].repeat(3, axis=1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_pillow_images_are_what_their_files_are(images, tmp_path, mode):
    """Indices of a palette and inks are no colours."""
    image = Image.fromarray(images[0]).convert(mode)
    expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    before = image.tobytes()
    np.testing.assert_array_equal(as_source([image], SIZE).read(0).numpy(), expected)
    assert (image.mode, image.tobytes()) == (mode, before)


def test_ambiguous_shapes_are_read_as_the_squarer_image():
    rng = np.random.default_rng(0)
    for shape, last in (((2, 3, 4, 4), False), ((2, 4, 4, 3), True), ((2, 3, 16, 1), True), ((2, 3, 3, 3), True)):
        X = rng.integers(256, size=shape, dtype=np.uint8)
        expected = chw(X) if last else X
        source = as_source(X, expected.shape[2:])
        np.testing.assert_array_equal(everything(source), np.broadcast_to(expected, (2, 3, *expected.shape[2:]))[:, :3])


@pytest.mark.parametrize("channels", [1, 2, 4, 12])
def test_as_many_channels_as_the_network_takes(channels):
    """In every kind of X, last or first, of every type."""
    rng = np.random.default_rng(0)
    last = rng.integers(256, size=(5, 16, 20, channels), dtype=np.uint8)
    first = last.transpose(0, 3, 1, 2)
    kinds = [last, first, torch.tensor(last), Lazy(last), Lazy(np.ascontiguousarray(first)), list(last), list(first)]
    if channels == 1:
        kinds += [last[..., 0], list(last[..., 0]), [Image.fromarray(image) for image in last[..., 0]]]
    for X in kinds:
        source = as_source(X, (16, 20), channels)
        assert source.channels == source[np.array([1, 0])].channels == channels
        found = source.read_rows(np.arange(5))
        assert torch.equal(found, torch.stack([source.read(row) for row in range(5)]))
        np.testing.assert_array_equal(found.numpy(), first)
    deep = (257 * last.astype(np.uint16)).astype(np.uint16)
    for X in (deep, torch.tensor(deep), deep.astype(">u2"), Lazy(deep), list(deep)):
        found = as_source(X, (16, 20), channels).read_rows(np.array([3, 1]))
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), first[[3, 1]] / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "channels"), [((2, 8, 8), 4), ((2, 8, 8), 12), ((2, 8, 8, 3), 1), ((2, 3, 8, 8), 4), ((2, 8, 8, 1), 2)]
)
def test_other_channels_than_the_network_takes(shape, channels):
    with pytest.raises(ValueError, match=rf"X has shape .* with {channels} channels, as the network takes"):
        as_source(np.zeros(shape), (8, 8), channels)
    with pytest.raises(ImageReadError, match=rf"X\[0\] is not an image: .* with {channels} channels, as the net"):
        as_source(list(np.zeros(shape)), (8, 8), channels).read(0)


class Pairs(torch.utils.data.Dataset):
    """As data sets of torch are: a picture and its class."""

    def __len__(self):
        return 3

    def __getitem__(self, row):
        if row >= len(self):
            raise IndexError
        return torch.zeros(3, 8, 8), row


def test_data_sets_of_torch():
    X = Pairs()
    for pairs in (
        X,
        torch.utils.data.Subset(X, [2, 0]),
        torch.utils.data.TensorDataset(torch.zeros(3, 3, 8, 8), torch.ones(3)),
    ):
        assert holds_images(pairs)
        with pytest.raises(ImageReadError, match=r"X\[0\] is a tuple of an image and other data, as"):
            as_source(pairs, SIZE).read(0)
    Y = np.array([[1, -1], [-1, 1], [1, 1]])
    with pytest.raises(ValueError, match="X looks like images or their paths, but backbone=None takes features"):
        PartialLabelClassifier().fit(X, Y)
    clf = PartialLabelClassifier(backbone=Backbone(torch.nn.Flatten(), finetune="head", image_size=8))
    with pytest.raises(ImageReadError, match=r"X takes only images, such as .*, and y takes the labels"):
        clf.fit(X, Y)
    images = [image for image, _ in X]
    assert as_source(images, (8, 8)).read(2).shape == (3, 8, 8)


# ---------------------------------------------------------------------------------------------------------- resizing


def test_resizing_is_pillows(images, paths):
    expected = [np.asarray(Image.fromarray(image).resize((12, 20), Image.Resampling.BILINEAR)) for image in images]
    expected = chw(np.stack(expected)).astype(int)
    for X in (images, chw(images), list(images), Lazy(images), torch.tensor(images)):
        assert np.abs(everything(as_source(X, (20, 12))) - expected).max() <= 1
    np.testing.assert_array_equal(everything(as_source(paths, (20, 12))), expected)
    floats = everything(as_source(images / 255, (20, 12)))
    np.testing.assert_allclose(floats, expected / 255, atol=1.5 / 255)


def test_images_of_different_sizes_come_to_one():
    rng = np.random.default_rng(0)
    shapes = [(9, 14, 3), (3, 9, 14), (20, 5), (6, 6, 1), (7, 8, 3)]
    items = [rng.integers(256, size=shape, dtype=np.uint8) for shape in shapes]
    found = everything(as_source(items, (8, 10)))
    by_hand = [items[0], items[1].transpose(1, 2, 0), items[2], items[3][..., 0], items[4]]
    for image, array in zip(found, by_hand):
        expected = Image.fromarray(array).resize((10, 8), Image.Resampling.BILINEAR).convert("RGB")
        assert np.abs(image.transpose(1, 2, 0).astype(int) - np.asarray(expected)).max() <= 1
    held = np.empty(len(items), dtype=object)
    held[:] = items
    assert holds_images(held)
    np.testing.assert_array_equal(everything(as_source(held, (8, 10))), found)


def test_bytes_and_floats_in_one_list(images, paths):
    """Files are bytes: beside floating images they are scaled as those are."""
    X = [paths[0], images[1] / 255, images[2], str(paths[3])]
    found = as_source(X, SIZE).read_rows(np.arange(4)).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, chw(images[:4]) / 255, atol=1e-6)


# --------------------------------------------------------------------------------------------------- nothing is copied


def test_memory_maps(images, tmp_path):
    """Opened to be read only, whatever their type; the file does not change."""
    for name, X in (("bytes", images), ("floats", images / 255), ("foreign", (images / 255).astype(">f8"))):
        file = tmp_path / f"{name}.npy"
        np.save(file, X)
        content = file.read_bytes()
        mapped = np.load(file, mmap_mode="r")
        source = as_source(mapped, SIZE)
        assert source.X is mapped
        expected = chw(X) if name == "bytes" else chw(X).astype(np.float32)
        np.testing.assert_array_equal(everything(source), expected)
        assert file.read_bytes() == content


def test_indices_take_rows_and_no_pixels(images, paths):
    rows = np.array([4, 1, 1])
    for X in (images, torch.tensor(images), paths, Lazy(images)):
        whole = as_source(X, SIZE)
        part = whole[rows]
        assert len(part) == part.n_rows == 3
        assert part.shape == (3,)
        assert part.source is whole
        np.testing.assert_array_equal(everything(part), chw(images[rows]))
        again = part[np.array([2, 0])]
        np.testing.assert_array_equal(everything(again), chw(images[[1, 4]]))
        assert part.is_cheap == whole.is_cheap
    source = as_source(images, SIZE)
    assert source.X is images
    assert np.shares_memory(source[rows].source.X, images)


def test_lazy_arrays_are_read_by_the_row(images):
    lazy = Lazy(images)
    source = as_source(lazy, SIZE)
    assert lazy.reads == []
    source.read_rows(np.array([5, 2]))
    assert lazy.reads == [slice(5, 6), slice(2, 3)]


def test_what_is_cheap(images, paths):
    for X, size, cheap in (
        (images, SIZE, True),
        (chw(images), SIZE, True),
        (images[..., 0], SIZE, True),
        (torch.tensor(images), SIZE, True),
        (images, (16, 32), False),
        (Lazy(images), SIZE, False),
        (list(images), SIZE, False),
        (paths, SIZE, False),
    ):
        assert as_source(X, size).is_cheap is cheap


def test_nothing_is_written_to(images, paths):
    """Not even by a caller who writes to what was read."""
    X = images.copy()
    for given in (X, list(X), chw(X)):
        source = as_source(given, SIZE)
        source.read_rows(np.arange(3)).zero_()
    np.testing.assert_array_equal(X, images)
    grad = torch.rand(2, 3, 8, 8, requires_grad=True)
    assert not as_source(grad, (8, 8)).read(0).requires_grad
    assert not as_source(list(grad), (8, 8)).read(0).requires_grad
    assert grad.requires_grad


@pytest.mark.parametrize("kind", ["array", "tensor", "list", "paths"])
def test_pickles(images, paths, kind):
    X = {"array": images, "tensor": torch.tensor(images), "list": list(images), "paths": paths}[kind]
    source = as_source(X, (20, 12))
    for given in (source, source[np.array([3, 0])]):
        again = pickle.loads(pickle.dumps(given))
        assert (again.n_rows, again.size, again.is_cheap) == (given.n_rows, given.size, given.is_cheap)
        np.testing.assert_array_equal(everything(again), everything(given))


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("path", ["image.jpg", Path("image.jpg"), b"image.jpg"])
def test_a_single_path_is_no_list(path):
    with pytest.raises(ValueError, match=r"X is a single path, b?'image\.jpg': pass a list of paths"):
        as_source(path, SIZE)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([], "X holds no images"),
        (np.array([]), "X holds no images"),
        (pd.Series([], dtype=object), "X holds no images"),
        (np.zeros((0, 8, 8, 3)), r"shape \(0, 8, 8, 3\), but must have at least one image with at least one pixel"),
        (np.zeros((2, 8, 0, 3)), "at least one image with at least one pixel"),
        (np.zeros((2, 8, 8, 2)), r"shape \(2, 8, 8, 2\): images must be .* 3 channels, as the network takes, or 1"),
        (np.zeros((2, 5, 8, 8)), "with 3 channels, as the network takes, or 1"),
        (np.zeros((2, 4, 8, 8)), r"or 1: if the fourth is transparency, drop it by X\[:, :3\] or X\[\.\.\., :3\]"),
        (np.zeros((2, 8, 8, 4), dtype=np.uint8), "or 1: if the fourth is transparency"),
        (np.zeros((5, 7)), r"shape \(5, 7\), but a backbone takes images: .* For rows of features use backbone=None"),
        (torch.zeros(5, 7), "a backbone takes images"),
        (pd.DataFrame(np.zeros((5, 7))), "a backbone takes images"),
        (pd.DataFrame(np.zeros((5, 1))), "a backbone takes images"),
        (np.zeros((1, 2, 3, 4, 5)), "a backbone takes images"),
        (iter([np.zeros((8, 8))]), "X is a list_iterator: pass an array of images, or a list of paths"),
        (Image.new("RGB", (8, 8)), "X is a Image: pass an array of images"),
        (None, "X is a NoneType"),
        ({"a.jpg"}, "X is a set"),
        ({"image": np.zeros((2, 8, 8))}, "X is a dict: pass an array of images"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else type(value).__name__,
)
def test_what_is_refused_at_once(X, message):
    with pytest.raises(ValueError, match=message):
        as_source(X, SIZE)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (np.zeros(7), r"X\[1\] is not an image: it has shape \(7,\)"),
        ([1.0, 2.0], r"X\[1\] is not an image: it has shape \(2,\)"),
        (3.0, r"X\[1\] is not an image: it has shape \(\)"),
        (np.nan, r"X\[1\] is not an image: it has shape \(\)"),
        (None, r"X\[1\] is neither an image nor the path of one"),
        ([[1.0], [2.0, 3.0]], r"X\[1\] is neither an image nor the path of one: .*inhomogeneous"),
        (np.zeros((8, 8, 2)), r"X\[1\] is not an image: it has shape \(8, 8, 2\), not .* with 3 channels, as the net"),
        (np.zeros((8, 8, 4)), r"X\[1\] is not an image: it has shape \(8, 8, 4\), .* if the fourth is transparency"),
        (
            (torch.zeros(3, 8, 8), 1),
            r"X\[1\] is a tuple of an image and other data, as returned by torch data sets: X takes only images",
        ),
        ([np.zeros((8, 8)), np.zeros(4)], r"X\[1\] is a list of an image and other data"),
        (("a.jpg", 1), r"X\[1\] is a tuple of an image and other data"),
        ((Image.new("L", (8, 8)), "cat"), r"X\[1\] is a tuple of an image and other data"),
        ({"image": np.zeros((8, 8)), "label": 1}, r"X\[1\] is a dict of an image and other data"),
        (np.zeros((0, 8, 3), dtype=np.uint8), r"X\[1\] is not an image"),
        (np.zeros((8, 8), dtype=np.int64), r"X\[1\] holds torch\.int64: pass uint8"),
        (np.full((8, 8), 255.0), r"X\[1\] holds values from 255 to 255"),
        (b"\xff\xd8\xff", r"X\[1\] is a bytes object: pass the path of a file"),
        (Image.new("I", (8, 8)), r"X\[1\] has mode 'I', whose range is unknown: pass an array of its values"),
        (Image.new("F", (8, 8), 7.0), r"X\[1\] holds values from 7 to 7"),
        ("nowhere.jpg", r"'nowhere\.jpg' does not exist"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else type(value).__name__,
)
def test_items_that_are_no_images(images, item, message):
    source = as_source([images[0], item], SIZE)
    np.testing.assert_array_equal(source.read(0).numpy(), chw(images)[0])
    with pytest.raises(ImageReadError, match=message):
        source.read(1)
    with pytest.raises(ImageReadError, match=message):
        source.read_rows(np.arange(2))


@pytest.mark.parametrize("kind", [lambda X: X, torch.tensor, Lazy], ids=["array", "tensor", "lazy"])
@pytest.mark.parametrize("wrong", [lambda X: X.astype(np.int64), lambda X: X.astype(float)], ids=["integers", "0..255"])
def test_arrays_of_other_numbers(images, kind, wrong):
    source = as_source(kind(wrong(images)), SIZE)
    with pytest.raises(ImageReadError, match=r"X\[2\] holds .* in \[0, 1\]"):
        source.read(2)
    with pytest.raises(ImageReadError, match=r"X.* holds .* in \[0, 1\]"):
        source.read_rows(np.arange(3))


def test_strings_in_an_array_of_images():
    with pytest.raises(ImageReadError, match=r"X\[0\] is neither an image nor the path of one"):
        as_source(np.full((2, 8, 8), "a"), SIZE).read(0)


@pytest.mark.parametrize(
    ("X", "answer"),
    [
        (np.zeros((2, 8, 8)), True),
        (torch.zeros(2, 3, 8, 8), True),
        (np.zeros((2, 8)), False),
        (np.zeros(8), False),
        (np.array(3.0), False),
        (torch.zeros(2, 8), False),
        (pd.DataFrame(np.zeros((2, 8))), False),
        (pd.DataFrame(np.zeros((2, 1))), False),
        ([[0.0, 1.0], [2.0, 3.0]], False),
        ([], False),
        (np.array([]), False),
        (["a.jpg"], True),
        ((Path("a.jpg"),), True),
        ([np.zeros((8, 8))], True),
        ([np.zeros(8)], False),
        ([Image.new("RGB", (8, 8))], True),
        ([Image.new("L", (8, 8))], True),
        (None, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_holds_images(X, answer):
    assert holds_images(X) is answer


def test_kinds_of_sources(images, paths):
    assert isinstance(as_source(images, SIZE), ArraySource)
    assert isinstance(as_source(paths, SIZE), ItemSource)
