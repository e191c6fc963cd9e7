"""Files to pixels: against Pillow's own conversions, and what is said of files that are no images."""

from __future__ import annotations

import os
import socket
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps

from skpartial.exceptions import ImageReadError
from skpartial.images._decode import as_pixels, converted, read_image, same_type


def smooth(height=40, width=56):
    """A colourful image without hard edges, which JPEG and resizing change little."""
    y, x = np.mgrid[:height, :width]
    channels = (255 * y / (height - 1), 255 * x / (width - 1), 127 + 100 * np.sin(x / 9) * np.cos(y / 7))
    return np.stack(channels, axis=2).round().astype(np.uint8)


def hwc(tensor):
    assert tensor.dtype == torch.uint8
    return tensor.permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *(("1", "png"), ("L", "png"), ("LA", "png"), ("P", "png"), ("RGB", "png"), ("RGBA", "png"), ("P", "gif")),
        *(("CMYK", "tiff"), ("RGB", "bmp"), ("RGB", "webp"), ("YCbCr", "tiff"), ("L", "jpg"), ("CMYK", "jpg")),
    ],
)
def test_every_mode_is_what_pillow_makes_of_it(tmp_path, mode, suffix):
    Image.fromarray(smooth()).convert(mode).save(tmp_path / f"image.{suffix}")
    with Image.open(tmp_path / f"image.{suffix}") as image:
        assert image.mode == mode
        expected = np.asarray(image.convert("RGB"))
    found = read_image(tmp_path / f"image.{suffix}")
    assert found.shape == (3, 40, 56)
    np.testing.assert_array_equal(hwc(found), expected)


def test_lossless_files_hold_what_was_saved(tmp_path):
    Image.fromarray(smooth()).save(tmp_path / "image.png")
    np.testing.assert_array_equal(hwc(read_image(str(tmp_path / "image.png"))), smooth())


@pytest.mark.parametrize("transparency", [3, bytes(range(0, 250, 10))], ids=["colour", "table"])
@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_transparency_is_dropped_without_a_word(tmp_path, transparency, suffix):
    """Under the colours of a palette, of which one or all may be transparent."""
    image = Image.fromarray(smooth()).quantize(32)
    if suffix == "gif":
        image.save(tmp_path / "image.gif", transparency=3)
    else:
        image.save(tmp_path / "image.png", transparency=transparency)
    with Image.open(tmp_path / f"image.{suffix}") as saved:
        assert "transparency" in saved.info
    np.testing.assert_array_equal(hwc(read_image(tmp_path / f"image.{suffix}")), np.asarray(image.convert("RGB")))


def test_alpha_does_not_change_colours(tmp_path):
    alpha = np.arange(40 * 56, dtype=np.uint32).reshape(40, 56, 1) % 256
    Image.fromarray(np.concatenate([smooth(), alpha.astype(np.uint8)], axis=2)).save(tmp_path / "image.png")
    np.testing.assert_array_equal(hwc(read_image(tmp_path / "image.png")), smooth())


DEEP = np.linspace(0, 65535, 42).reshape(6, 7).astype(np.uint16)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", ["png", "tiff", "ppm", "jp2"])
def test_files_of_16_bits_keep_them(tmp_path, suffix, channels):
    """Of 0 to 65535, whatever mode Pillow opens them in; resized as floating numbers."""
    Image.fromarray(DEEP).save(tmp_path / f"deep.{suffix}")
    found = read_image(tmp_path / f"deep.{suffix}", channels=channels)
    assert found.dtype == torch.float32
    expected = np.broadcast_to(DEEP / 65535, (channels, 6, 7))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    resized = read_image(tmp_path / f"deep.{suffix}", (3, 7), channels)
    assert resized.shape == (channels, 3, 7)
    plain = Image.fromarray((DEEP / 65535).astype(np.float32)).resize((7, 3), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(resized[0].numpy(), np.asarray(plain), atol=1e-6)


def test_files_of_floating_numbers(tmp_path):
    values = np.random.default_rng(0).random((6, 7)).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "float.tiff")
    np.testing.assert_array_equal(read_image(tmp_path / "float.tiff", channels=1)[0].numpy(), values)
    Image.fromarray(4000 * values).save(tmp_path / "raw.tiff")
    with pytest.raises(
        ImageReadError, match=r"raw\.tiff' holds values from .*: floating-point images must be in \[0, 1\], div"
    ):
        read_image(tmp_path / "raw.tiff")


def test_32_bits_have_no_range(tmp_path):
    """Converting to RGB, as the advice once was, would make all of it white."""
    Image.fromarray(np.full((5, 6), 70000, dtype=np.int32)).save(tmp_path / "deep.tiff")
    with pytest.raises(ImageReadError, match=r"deep\.tiff' has mode 'I', whose range is unknown: pass an array") as e:
        read_image(tmp_path / "deep.tiff", (4, 4))
    assert "RGB" not in str(e.value)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_grey_for_networks_of_one_channel(tmp_path, mode):
    Image.fromarray(smooth()).convert(mode).save(
        tmp_path / "image.tiff" if mode in ("CMYK", "YCbCr") else tmp_path / "image.png"
    )
    path = next(tmp_path.iterdir())
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB").convert("L"))
    found = read_image(path, channels=1)
    assert found.shape == (1, 40, 56)
    assert np.abs(found[0].numpy().astype(int) - expected).max() <= (0 if mode not in ("1", "L", "LA") else 1)


def test_four_channels_of_a_file_are_those_of_rgba(tmp_path):
    alpha = np.arange(40 * 56, dtype=np.uint32).reshape(40, 56, 1) % 256
    rgba = np.concatenate([smooth(), alpha.astype(np.uint8)], axis=2)
    Image.fromarray(rgba).save(tmp_path / "image.png")
    np.testing.assert_array_equal(hwc(read_image(tmp_path / "image.png", channels=4)), rgba)
    Image.fromarray(smooth()).save(tmp_path / "rgb.png")
    Image.fromarray(DEEP).save(tmp_path / "deep.png")
    for name, channels in (("rgb", 4), ("image", 12), ("rgb", 2), ("deep", 4)):
        with pytest.raises(ImageReadError, match=rf"{name}\.png' has mode .* takes images with {channels} channels"):
            read_image(tmp_path / f"{name}.png", channels=channels)


def waiting_paths(folder):
    """Paths at which a reader would wait for ever, or read for ever."""
    os.mkfifo(folder / "pipe.png")
    (folder / "link.png").symlink_to(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket.png"))
    return {"pipe.png": "a named pipe", "link.png": "a named pipe", "socket.png": "a socket", "/dev/zero": "a device"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_paths_that_are_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # paths of sockets must be short
    kinds = waiting_paths(Path())
    for path, what in kinds.items():
        with pytest.raises(ImageReadError, match=rf"{path}' cannot be decoded: it is {what}, not a file"):
            read_image(path)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tiff", "webp"])
def test_truncated_files(tmp_path, suffix, keep):
    path = tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(0).integers(256, size=(60, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(ImageReadError, match=rf"cut\.{suffix}'"):
        read_image(path, (16, 16))


@pytest.mark.parametrize("content", [b"", b"no image at all\n" * 50, b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_other_files_are_no_images(tmp_path, content):
    (tmp_path / "notes.jpg").write_bytes(content)
    with pytest.raises(
        ImageReadError, match=r"notes\.jpg' (is not in a format that Pillow can read|cannot be decoded)"
    ):
        read_image(tmp_path / "notes.jpg")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tiff", "webp", "bmp", "ppm", "tga", "dds", "ico", "pcx"])
def test_damaged_files_raise_no_other_error(tmp_path, suffix):
    """Whatever bytes change, a file gives pixels or an ImageReadError; the order of draws is fixed."""
    path = tmp_path / f"bad.{suffix}"
    Image.fromarray(smooth(20, 24)).save(path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(25):
        damaged = bytearray(content)
        for position in rng.integers(min(len(content), 150), size=5):
            damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on what it finds
            try:
                assert read_image(path, (8, 8)).shape == (3, 8, 8)
            except ImageReadError as error:
                errors.append(str(error))
    assert errors
    assert all(f"bad.{suffix}'" in error for error in errors)


def test_any_error_of_a_decoder_names_the_file(tmp_path, monkeypatch):
    """Libraries behind Pillow raise what they like: RuntimeError for AVIF, NotImplementedError for DDS."""
    Image.fromarray(smooth()).save(tmp_path / "image.png")

    def fail(self, mode):
        raise RuntimeError("decoding of colour planes failed")

    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(ImageReadError, match=r"image\.png' cannot be decoded: decoding of colour planes failed"):
        read_image(tmp_path / "image.png")


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(ImageReadError, match=r"nowhere\.jpg' does not exist"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageReadError, match=r"cannot be decoded: .*directory"):
        read_image(tmp_path)
    with pytest.raises(ImageReadError, match=r"cannot be decoded: .*null"):
        read_image("a\0b.jpg")


@pytest.mark.parametrize("limit", [100, 2000], ids=["error", "warning"])
@pytest.mark.parametrize("filtered", ["error", "ignore"])
def test_decompression_bombs(tmp_path, monkeypatch, limit, filtered):
    """Pillow warns above its limit and raises above twice that; both are refused here, before anything is decoded."""
    Image.fromarray(smooth()).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    monkeypatch.setattr(Image.Image, "convert", None)
    with warnings.catch_warnings():
        warnings.simplefilter(filtered)
        with pytest.raises(ImageReadError, match=r"bomb\.png'.*(bomb|40 pixels, more than PIL.Image.MAX_IMAGE)"):
            read_image(tmp_path / "bomb.png")
    monkeypatch.undo()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 56)
    np.testing.assert_array_equal(hwc(read_image(tmp_path / "bomb.png")), smooth())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_image(tmp_path / "bomb.png").shape == (3, 40, 56)


@pytest.mark.parametrize("size", [(20, 28), (7, 50), (90, 30)])
def test_resizing_is_pillows(tmp_path, size):
    Image.fromarray(smooth()).save(tmp_path / "image.png")
    expected = Image.fromarray(smooth()).resize(size[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(hwc(read_image(tmp_path / "image.png", size)), np.asarray(expected))


def test_large_jpegs_are_decoded_smaller(tmp_path, monkeypatch):
    """At a fraction of their size, which changes the result by little more than rounding."""
    Image.fromarray(smooth(640, 480)).save(tmp_path / "image.jpg", quality=95)
    drafted = []
    load = Image.Image.convert
    monkeypatch.setattr(Image.Image, "convert", lambda self, mode: drafted.append(self.size) or load(self, mode))
    found = hwc(read_image(tmp_path / "image.jpg", (64, 64))).astype(int)
    assert drafted == [(240, 320)]  # the smallest fraction of at least twice the target
    monkeypatch.undo()
    with Image.open(tmp_path / "image.jpg") as image:
        plain = np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(found - plain).max() <= 8
    assert np.abs(found - plain).mean() < 1
    # A size that is not much smaller is decoded in full.
    with Image.open(tmp_path / "image.jpg") as image:
        plain = np.asarray(image.convert("RGB").resize((400, 600), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(hwc(read_image(tmp_path / "image.jpg", (600, 400))), plain)


def test_pillow_images_are_left_alone():
    image = Image.fromarray(smooth()).quantize(32)
    image.info["transparency"] = bytes(range(32))
    before = image.tobytes()
    found = converted(image, "it")
    assert found.mode == "RGB"
    assert (image.mode, image.tobytes(), image.info["transparency"]) == ("P", before, bytes(range(32)))


# ----------------------------------------------------------------------------------------------------------- numbers


def test_numbers_of_every_type():
    rng = np.random.default_rng(0)
    values = rng.random((2, 3, 4, 5))
    pixels = (255 * values).astype(np.uint8)
    assert torch.equal(as_pixels(pixels, "X"), torch.from_numpy(pixels))
    for dtype, tolerance in ((np.float64, 1e-7), (np.float32, 1e-7), (np.float16, 1e-3)):
        found = as_pixels(values.astype(dtype), "X")
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), values, atol=tolerance)
    np.testing.assert_allclose(as_pixels(torch.tensor(values).bfloat16(), "X").numpy(), values, atol=4e-3)
    found = as_pixels(values > 0.5, "X")
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), values > 0.5)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 12])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_channels_are_those_of_the_network(channels, dtype):
    values = np.random.default_rng(0).random((2, channels, 4, 5))
    numbers = values.astype(dtype) if dtype == np.float32 else (np.iinfo(dtype).max * values).astype(dtype)
    found = as_pixels(numbers, "X", channels)
    assert found.shape == (2, channels, 4, 5)
    scale = 1 if dtype in (np.uint8, np.float32) else 65535
    np.testing.assert_allclose(found.numpy(), numbers / scale, rtol=1e-6)
    for other in {1, 3, 4, 5} - {channels} - ({3} if channels == 1 else set()):
        with pytest.raises(ImageReadError, match=rf"X has {channels} channels, but .* takes {other}"):
            as_pixels(numbers, "X", other)


def test_one_channel_is_repeated_for_three():
    values = np.random.default_rng(0).random((2, 1, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(as_pixels(values, "X").numpy(), values[:, [0, 0, 0]])
    np.testing.assert_array_equal(as_pixels(values[0], "X").numpy(), values[0, [0, 0, 0]])


def test_a_fourth_channel_is_not_dropped():
    message = r"takes 3: if the fourth is transparency, drop it by X\[:, :3\] or X\[\.\.\., :3\]"
    with pytest.raises(ImageReadError, match=message):
        as_pixels(np.zeros((2, 4, 5, 5), dtype=np.uint8), "X")


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.int16, np.uint32, np.complex64])
def test_other_types_are_refused(dtype):
    message = r"here holds torch\.\w+: pass uint8, or floating point in \[0, 1\], divided by .*; uint16 is read as"
    with pytest.raises(ImageReadError, match=message):
        as_pixels(np.zeros((3, 4, 4), dtype=dtype), "here")


@pytest.mark.parametrize("value", [255.0, -1.0, 1.01, np.nan, np.inf])
def test_floats_lie_between_0_and_1(value):
    image = np.zeros((3, 4, 4))
    image[1, 2, 3] = value
    with pytest.raises(ImageReadError, match=r"X holds values from .*: floating-point images must be in \[0, 1\]"):
        as_pixels(image, "X")


def test_rounding_may_leave_the_interval_by_a_little():
    image = np.full((3, 2, 2), 1.0005)
    np.testing.assert_allclose(as_pixels(image, "X").numpy(), image, rtol=1e-6)


def test_one_type_for_all():
    pixels = torch.arange(12, dtype=torch.uint8).reshape(3, 2, 2) * 20
    floats = torch.rand(3, 2, 2)
    alike = same_type([pixels, pixels])
    assert alike[0] is pixels
    mixed = same_type([pixels, floats])
    assert mixed[1] is floats
    np.testing.assert_allclose(mixed[0].numpy(), pixels.numpy() / 255, rtol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [None, (20, 28)])
def test_photographs_are_upright(tmp_path, orientation, size):
    """However the camera was held: as Pillow's own tool turns them."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(smooth()).save(tmp_path / "image.png", exif=exif)
    with Image.open(tmp_path / "image.png") as image:
        turned = ImageOps.exif_transpose(image)
    expected = turned if size is None else turned.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(hwc(read_image(tmp_path / "image.png", size)), np.asarray(expected))


def test_turned_jpegs_are_not_decoded_too_small(tmp_path):
    """A JPEG is decoded at a fraction of its size, of which turning takes nothing away."""
    pixels = np.asarray(Image.fromarray(smooth()).resize((800, 400), Image.Resampling.BICUBIC))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(pixels).save(tmp_path / "image.jpg", exif=exif, quality=95)
    found = hwc(read_image(tmp_path / "image.jpg", (200, 50))).astype(int)
    expected = np.asarray(Image.fromarray(np.rot90(pixels, -1)).resize((50, 200), Image.Resampling.BILINEAR))
    assert np.abs(found - expected).mean() < 3


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_notes_do_not_cost_the_picture(tmp_path):
    Image.fromarray(smooth()).save(
        tmp_path / "image.jpg", quality=95, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7fdamaged"
    )
    assert read_image(tmp_path / "image.jpg").shape == (3, 40, 56)
