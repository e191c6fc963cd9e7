"""Batches that threads read ahead: in order, the same for any number of threads, and kept once they are decoded."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from skpartial.exceptions import ImageReadError
from skpartial.images._batches import ImageBatches, readable_rows
from skpartial.images._sources import ImageSource, as_source

CPU = torch.device("cpu")


class Counted(ImageSource):
    """Images whose pixels are their row, counted as they are read; some of them are floating, some cannot be read."""

    def __init__(self, n_rows, *, floats=(), broken=(), delay=0.0):
        super().__init__(n_rows, (4, 5))
        self.floats, self.broken, self.delay = set(floats), set(broken), delay
        self.reads, self.threads, self.lock = [], set(), threading.Lock()

    def read(self, row):
        time.sleep(self.delay)
        with self.lock:
            self.reads.append(row)
            self.threads.add(threading.current_thread().name)
        if row in self.broken:
            raise ImageReadError(f"Image 'file{row}.jpg' is broken.")
        if row in self.floats:
            return torch.full((3, 4, 5), (row + 0.5) / 255)
        return torch.full((3, 4, 5), row, dtype=torch.uint8)

    def identity(self, rows=None):
        return f"{self.n_rows} counted images"


def batches_of(source, **settings):
    return ImageBatches(source, 7, torch.float32, CPU, **settings)


def parts_of(n, size=7, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).permutation(n)).split(size)


def no_threads_left():
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not any(thread.name.startswith("skpartial") for thread in threading.enumerate()):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("n_workers", [1, 3])
@pytest.mark.parametrize("cache_bytes", [0, 1e6])
def test_batches_come_in_order(n_workers, cache_bytes):
    source = Counted(40)
    batches = batches_of(source, n_workers=n_workers, cache_bytes=cache_bytes)
    for epoch in range(3):
        parts = parts_of(40, seed=epoch)
        found = list(batches.batches(iter(parts)))
        assert len(found) == len(parts)
        for part, images in zip(parts, found):
            assert images.dtype == torch.uint8
            assert torch.equal(images, part.to(torch.uint8)[:, None, None, None].expand(-1, 3, 4, 5))
    assert len(source.threads) <= n_workers
    assert all(name.startswith("skpartial") for name in source.threads)
    assert no_threads_left()


def test_threads_share_the_work():
    source = Counted(60, delay=0.002)
    list(batches_of(source, n_workers=3).batches(parts_of(60)))
    assert len(source.threads) == 3


@pytest.mark.parametrize("n_workers", [1, 3])
def test_threads_do_not_change_files(tmp_path, n_workers):
    rng = np.random.default_rng(0)
    paths = []
    for i in range(20):
        paths.append(tmp_path / f"{i}.jpg")
        Image.fromarray(rng.integers(256, size=(20, 30, 3), dtype=np.uint8)).save(paths[-1])
    with_threads = torch.cat(list(batches_of(as_source(paths, (8, 9)), n_workers=n_workers).batches(parts_of(20))))
    rows = torch.cat(parts_of(20)).tolist()
    expected = [np.asarray(Image.open(paths[row]).resize((9, 8), Image.Resampling.BILINEAR)) for row in rows]
    np.testing.assert_array_equal(with_threads.permute(0, 2, 3, 1).numpy(), np.stack(expected))


def test_images_are_read_once_where_they_are_kept():
    source = Counted(40)
    batches = batches_of(source, n_workers=3, cache_bytes=40 * 60)
    for epoch in range(3):
        list(batches.batches(parts_of(40, seed=epoch)))
    assert sorted(source.reads) == list(range(40))
    list(batches.batches([torch.tensor([3, 3, 5])]))
    assert len(source.reads) == 40
    assert torch.equal(batches.batch(torch.tensor([9, 2]))[:, 0, 0, 0], torch.tensor([9, 2], dtype=torch.uint8))
    # One byte less does not hold them.
    source = Counted(40)
    batches = batches_of(source, n_workers=2, cache_bytes=40 * 60 - 1)
    for epoch in range(3):
        list(batches.batches(parts_of(40, seed=epoch)))
    assert len(source.reads) == 120


def test_part_of_an_epoch_is_kept():
    source = Counted(40)
    batches = batches_of(source, cache_bytes=1e6)
    batches.batch(torch.arange(25))
    batches.batch(torch.arange(40))
    assert sorted(source.reads) == list(range(40))


def test_cheap_sources_need_neither_threads_nor_room(monkeypatch):
    images = np.random.default_rng(0).integers(256, size=(20, 6, 6, 3), dtype=np.uint8)
    monkeypatch.setattr("skpartial.images._batches.ThreadPoolExecutor", None)
    batches = batches_of(as_source(images, (6, 6)), n_workers=4, cache_bytes=1e9)
    parts = parts_of(20)
    for part, found in zip(parts, batches.batches(parts)):
        np.testing.assert_array_equal(found.numpy(), images[part.numpy()].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("n_workers", [1, 3])
@pytest.mark.parametrize("floats", [range(40), [0], [17], [39], range(0, 40, 3)], ids=str)
def test_floats_are_not_rounded(n_workers, floats):
    """Not even where room is left for bytes; among floats, bytes are scaled as those are."""
    source = Counted(40, floats=floats)
    batches = batches_of(source, n_workers=n_workers, cache_bytes=1e9)
    for epoch in range(2):
        parts = parts_of(40, seed=epoch)
        for part, images in zip(parts, batches.batches(parts)):
            half = torch.tensor([0.5 if int(row) in source.floats else 0.0 for row in part])
            values = images[:, 0, 0, 0].double()
            values = values if images.dtype == torch.uint8 else 255 * values
            np.testing.assert_allclose(values.numpy(), (part + half).numpy(), atol=1e-4)


def test_floating_images_amid_bytes_with_many_threads():
    """A thread that gives up keeping images leaves those that are about to keep one alone."""
    for seed in range(20):
        source = Counted(64, floats=[seed], delay=1e-4)
        batches = batches_of(source, n_workers=8, cache_bytes=1e9)
        assert sum(map(len, batches.batches(parts_of(64, size=32, seed=seed)))) == 64


@pytest.mark.parametrize("n_workers", [1, 3])
@pytest.mark.parametrize("cache_bytes", [0, 1e6])
def test_errors_name_the_first_file_in_order(n_workers, cache_bytes):
    source = Counted(40, broken=[11, 12, 30])
    batches = batches_of(source, n_workers=n_workers, cache_bytes=cache_bytes)
    served = []
    with pytest.raises(ImageReadError, match=r"'file11\.jpg' is broken"):
        served.extend(len(images) for images in batches.batches(torch.arange(40).split(5)))
    assert served == [5, 5]
    assert no_threads_left()
    # What can be read is still served.
    assert torch.equal(batches.batch(torch.tensor([3]))[0, 0, 0, 0], torch.tensor(3, dtype=torch.uint8))


@pytest.mark.parametrize("n_workers", [1, 3])
def test_a_loop_may_be_left_early(n_workers):
    source = Counted(4000)
    stream = batches_of(source, n_workers=n_workers).batches(torch.arange(4000).split(4))
    assert next(stream)[0, 0, 0, 0] == 0
    stream.close()
    assert no_threads_left()
    assert len(source.reads) <= 4 * 4


def test_only_a_few_batches_are_read_ahead():
    source = Counted(400)
    asked = []

    def ask():
        for part in torch.arange(400).split(10):
            asked.append(len(part))
            yield part

    stream = batches_of(source, n_workers=2).batches(ask())
    next(stream)
    assert len(asked) == 3
    next(stream)
    assert len(asked) == 4
    stream.close()


def test_no_batches():
    assert list(batches_of(Counted(4)).batches([])) == []


def test_some_rows():
    batches = batches_of(Counted(40), n_workers=2, cache_bytes=1e9).take(torch.tensor([30, 4, 4]))
    assert (batches.n_rows, batches.n_features, batches.n_workers) == (3, 7, 2)
    assert batches.batch(torch.tensor([2, 0]))[:, 0, 0, 0].tolist() == [4, 30]
    assert batches.row_bytes == 3 * 4 * 5 * 4


def test_products_are_not_defined():
    batches = batches_of(Counted(4))
    with pytest.raises(TypeError, match="no products with weights"):
        batches.forward(torch.zeros(1, 7))
    with pytest.raises(TypeError, match="no products with scores"):
        batches.backward(torch.zeros(1, 4))
    with pytest.raises(TypeError, match="no rows of features"):
        batches.blocks()


@pytest.mark.parametrize("n_workers", [1, 3])
def test_readable_rows(n_workers):
    rows, failures = readable_rows(Counted(12, broken=[0, 7, 3]), n_workers)
    assert rows.dtype == np.int64
    assert rows.tolist() == [1, 2, 4, 5, 6, 8, 9, 10, 11]
    assert failures == {row: f"Image 'file{row}.jpg' is broken." for row in (0, 3, 7)}
    assert list(failures) == [0, 3, 7]
    rows, failures = readable_rows(Counted(5), n_workers)
    assert rows.tolist() == [0, 1, 2, 3, 4]
    assert failures == {}
    rows, failures = readable_rows(Counted(2, broken=[0, 1]), n_workers)
    assert rows.tolist() == []
    assert len(failures) == 2


def test_other_errors_are_not_taken_for_unreadable_images():
    class Faulty(Counted):
        def read(self, row):
            raise KeyError("a fault of the program")

    with pytest.raises(KeyError, match="a fault of the program"):
        readable_rows(Faulty(3), 2)
