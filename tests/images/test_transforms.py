"""Normalisation and random changes: against torchvision and against what a change leaves as it is."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as v2
from torch import nn

from skpartial.images._network import Network
from skpartial.images._transforms import Augment, Normalize, unit_range

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def images():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.rand(4, 3, 10, 12)


def alike(n, side=9):
    """A batch of one image, which brightens from left to right and from top to bottom."""
    ramp = torch.linspace(0.1, 0.9, side)
    image = torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side), torch.full((side, side), 0.5)])
    return image.expand(n, 3, side, side)


def test_normalize_is_torchvisions(images):
    expected = v2.Normalize(MEAN, STD)(images)
    torch.testing.assert_close(Normalize(MEAN, STD)(images), expected)
    pixels = (255 * images).round().to(torch.uint8)
    before = pixels.clone()
    torch.testing.assert_close(Normalize(list(MEAN), list(STD))(pixels), v2.Normalize(MEAN, STD)(pixels / 255))
    assert torch.equal(pixels, before)


def test_normalize_takes_whole_numbers(images):
    """As some networks of timm have them."""
    found = Normalize((0, 0, 0), (1, 1, 1))(images)
    assert torch.equal(found, images)


def test_normalize_is_no_part_of_saved_weights(images):
    module = Normalize(MEAN, STD)
    assert module.state_dict() == {}
    again = pickle.loads(pickle.dumps(module))
    assert torch.equal(again(images), module(images))
    assert module.double()(images).dtype == torch.float64


def test_unit_range():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8)
    np.testing.assert_allclose(unit_range(pixels, torch.float32).numpy(), [0, 0.2, 1], rtol=1e-6)
    floats = torch.tensor([0.0, 0.2, 1.0])
    assert torch.equal(unit_range(floats, torch.float32), floats)


def test_flips_mirror_half_of_the_images():
    images = alike(2000)
    torch.manual_seed(0)
    found = Augment("flip")(images)
    mirrored = torch.tensor([bool(torch.equal(image, images[0].flip(2))) for image in found])
    left = torch.tensor([bool(torch.equal(image, images[0])) for image in found])
    assert bool((mirrored ^ left).all())
    assert abs(mirrored.float().mean() - 0.5) < 4 * 0.5 / 2000**0.5


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_flips_keep_the_type(dtype):
    images = (100 * alike(20)).to(dtype)
    found = Augment("flip")(images)
    assert found.dtype == dtype
    assert torch.equal(found.sort(3).values, images.sort(3).values)


@pytest.mark.parametrize("kind", ["flip", "crop"])
def test_draws_come_from_pytorchs_generator(images, kind):
    before = images.clone()
    torch.manual_seed(1)
    first = Augment(kind)(images.repeat(5, 1, 1, 1))
    torch.manual_seed(1)
    again = Augment(kind)(images.repeat(5, 1, 1, 1))
    other = Augment(kind)(images.repeat(5, 1, 1, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(images, before)


def test_crops_keep_half_of_the_area_and_the_range():
    """The slope of a ramp tells how wide the part is, its sign whether it is mirrored, its ends where it lies."""
    side = 65
    images = alike(1500, side)
    torch.manual_seed(0)
    found = Augment("crop")(images)
    assert found.shape == images.shape
    assert float(found.min()) >= 0.1 - 1e-5
    assert float(found.max()) <= 0.9 + 1e-5
    torch.testing.assert_close(found[:, 2], images[:, 2])
    # Away from the borders, at which reflection bends the ramp.
    inner = slice(3, -3)
    step = 0.8 / (side - 1)
    width = (found[:, 0, 32, inner].diff(dim=1) / step).mean(1)
    height = (found[:, 1, inner, 32].diff(dim=1) / step).mean(1)
    assert bool((height > 0).all())
    assert abs((width < 0).float().mean() - 0.5) < 4 * 0.5 / 1500**0.5
    width = width.abs()
    area, aspect = width * height, width / height
    assert float(area.min()) >= 0.5 - 1e-3
    assert float(area.max()) <= 1 + 1e-3
    assert float(area.max()) - float(area.min()) > 0.4
    assert float(aspect.max()) <= 4 / 3 + 1e-2
    assert float(aspect.min()) >= 3 / 4 - 1e-2
    # Parts lie anywhere within the image: their middles spread by as much as the rest of the image leaves.
    middle = (found[:, 0, 32, 32] - 0.5) / 0.8 * 2
    assert bool((middle.abs() <= 1 - width + 0.02).all())
    part = width < 0.9
    assert float((middle[part] / (1 - width[part])).std()) == pytest.approx(1 / 3**0.5, abs=0.05)


def test_crops_do_not_depend_on_the_other_images(images):
    """One set of draws, whatever is on the images: the change is linear in them."""
    changes = []
    for batch in (images, 3 * images + 1):
        torch.manual_seed(4)
        changes.append(Augment("crop")(batch))
    torch.testing.assert_close(3 * changes[0] + 1, changes[1])


def test_callables_see_one_image_at_a_time(images):
    seen = []

    def record(image):
        seen.append(tuple(image.shape))
        return image / len(seen)

    found = Augment(record)(images)
    assert seen == [(3, 10, 12)] * 4
    torch.testing.assert_close(found, images / torch.arange(1, 5.0)[:, None, None, None])


class TestAnswersOfCallables:
    """Predictions see no augmentation: what training sees must be images as those are."""

    @pytest.mark.parametrize(
        "kind",
        [
            v2.Normalize(MEAN, STD),
            v2.Normalize([0.5] * 3, [0.5] * 3),
            v2.Compose([v2.RandomHorizontalFlip(), v2.Normalize(MEAN, STD)]),
            nn.Sequential(nn.Identity(), v2.Normalize(MEAN, STD)),
            lambda image: 255 * image,
            lambda image: image - image.mean(),
            lambda image: image * torch.nan,
            lambda image: (3 * image).long(),
        ],
        ids=["imagenet", "half", "composed", "module", "bytes as floats", "centred", "nan", "integers"],
    )
    def test_numbers_that_are_no_pixels(self, images, kind):
        with pytest.raises(
            ValueError, match=r"augment must return .* in \[0, 1\] or of uint8, got (values from .*: normalise|torch)"
        ):
            Augment(kind)(images)

    @pytest.mark.parametrize(
        ("kind", "what"),
        [
            (lambda image: image[:, :5], r"shape \(3, 5, 12\)"),
            (lambda image: image[:1], r"shape \(1, 10, 12\)"),
            (lambda image: image[None], r"shape \(1, 3, 10, 12\)"),
            (lambda image: image.numpy(), "a ndarray"),
            (lambda image: (image, 1), "a tuple"),
            (lambda image: None, "a NoneType"),
        ],
        ids=["smaller", "grey", "batch", "array", "pair", "nothing"],
    )
    def test_what_is_no_image_like_the_one_given(self, images, kind, what):
        with pytest.raises(ValueError, match=rf"augment must return .* of the image, \(3, 10, 12\), got {what}"):
            Augment(kind)(images)

    def test_bytes_are_scaled(self, images):
        pixels = (255 * images).round().to(torch.uint8)
        found = Augment(v2.ToDtype(torch.uint8, scale=True))(pixels / 255)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, pixels / 255, atol=1.01 / 255, rtol=0)

    def test_other_floating_types(self, images):
        found = Augment(lambda image: image.double())(images)
        assert found.dtype == images.dtype
        assert torch.equal(found, images)


def test_torchvision_transforms(images):
    torch.manual_seed(0)
    found = Augment(v2.RandomHorizontalFlip(0.5))(images.repeat(50, 1, 1, 1))
    torch.manual_seed(0)
    flip = v2.RandomHorizontalFlip(0.5)
    expected = torch.stack([flip(image) for image in images.repeat(50, 1, 1, 1)])
    assert torch.equal(found, expected)
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(found, images.repeat(50, 1, 1, 1))]
    assert 60 < sum(mirrored) < 140


@pytest.mark.parametrize("as_bytes", [True, False])
def test_images_are_changed_before_they_are_normalized(images, as_bytes):
    """torchvision's changes of colours take images in [0, 1], and clamp to it; they play no part in evaluation."""
    pixels = (255 * images).round().to(torch.uint8)
    given = pixels if as_bytes else pixels / 255
    solarize = v2.RandomSolarize(0.5, p=1.0)
    network = Network(nn.Identity(), None, normalize=Normalize(MEAN, STD), augment=Augment(solarize), takes_maps=True)
    normalize = v2.Normalize(MEAN, STD)
    expected = torch.stack([normalize(solarize(image / 255)) for image in pixels])
    torch.testing.assert_close(network.train().features(given), expected)
    torch.testing.assert_close(network.eval().features(given), normalize(pixels / 255))
