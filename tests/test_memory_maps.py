"""Memory maps stay on disk, also where some of their rows are held out."""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from skpartial import PartialLabelClassifier, _task
from skpartial._fingerprint import identity
from skpartial.features import _rows
from skpartial.features._matrix import StreamedFeatures
from skpartial.features._rows import MappedRows, is_mapped, release, shuffled, take_rows
from skpartial.heads import AveragePooling
from skpartial.solvers import FullBatch, Minibatch


@pytest.fixture
def held(monkeypatch):
    """How features are held in the fits of a test."""
    found = []
    hold = _task.as_features
    monkeypatch.setattr(
        _task, "as_features", lambda X, **options: found.append((X, hold(X, **options))) or found[-1][1]
    )
    return found


def mapped(X, path):
    np.save(path, X)
    return np.load(path, mmap_mode="r")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
@pytest.mark.parametrize("solver", [FullBatch(tol=1e-8), Minibatch(max_epochs=3)], ids=str)
def test_held_out_rows_are_not_copied(partial_data, tmp_path, held, solver, dtype):
    X, Y = partial_data
    X = (10 * X).astype(dtype)
    clf = PartialLabelClassifier(solver=solver, validation_fraction=0.25, random_state=0, alpha=0.1)
    expected = clf.fit(X, Y)
    coef, history, rows = expected.coef_, expected.history_, expected.train_rows_
    del held[:]
    clf.fit(mapped(X, tmp_path / "X.npy"), Y)
    np.testing.assert_array_equal(clf.train_rows_, rows)
    np.testing.assert_allclose(clf.coef_, coef, rtol=1e-3, atol=1e-4)
    assert clf.history_[-1]["validation_score"] == pytest.approx(history[-1]["validation_score"], abs=1e-6)
    assert len(held) == 2  # those that are trained on, and those that are held out
    for passed, features in held:
        assert isinstance(passed, MappedRows)
        assert isinstance(features, StreamedFeatures)
        assert features.X is passed


def test_without_held_out_rows_a_map_is_used_in_place(partial_data, tmp_path, held):
    X, Y = partial_data
    PartialLabelClassifier("iu").fit(mapped(X, tmp_path / "X.npy"), Y)
    ((passed, features),) = held
    assert is_mapped(passed)
    assert features.X.data_ptr() == passed.ctypes.data


def test_a_map_of_another_type_is_converted_by_the_chunk(partial_data, tmp_path, held):
    X, Y = partial_data
    X = (10 * X).astype(np.int16)
    found = PartialLabelClassifier("iu").fit(mapped(X, tmp_path / "X.npy"), Y)
    assert isinstance(held[0][1], StreamedFeatures)
    np.testing.assert_allclose(found.coef_, PartialLabelClassifier("iu").fit(X, Y).coef_, rtol=1e-3, atol=1e-4)


def test_maps_of_features(tmp_path, held):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(60, 5, 2, 2)), rng.integers(-1, 2, size=(60, 2))
    parameters = {"head": AveragePooling(), "solver": Minibatch(max_epochs=2), "validation_fraction": 0.3}
    clf = PartialLabelClassifier("iu", random_state=0, **parameters)
    expected = clf.fit(X, Y).decision_function(X)
    del held[:]
    np.testing.assert_allclose(clf.fit(mapped(X, tmp_path / "X.npy"), Y).decision_function(X), expected, rtol=1e-9)
    assert all(isinstance(passed, MappedRows) for passed, _ in held)


def test_warm_start_knows_rows_again(partial_data, tmp_path):
    X, Y = partial_data
    file = mapped(X, tmp_path / "X.npy")
    for form in (X, file):
        clf = PartialLabelClassifier("ll_cp", warm_start=True, validation_fraction=0.2, random_state=0)
        clf.set_params(solver=Minibatch(max_epochs=2)).fit(form, Y)
        assert clf.fit(form, Y).n_iter_ == 2


def test_rows_of_a_map(tmp_path):
    X = np.arange(60.0).reshape(20, 3)
    rows = np.array([3, 5, 5, 19])
    file = mapped(X, tmp_path / "X.npy")
    for form in (file, file[:], np.asarray(file), file.view(np.ndarray)):  # views of a map are maps
        view = take_rows(form, rows)
        assert isinstance(view, MappedRows)
        assert (len(view), view.shape, view.ndim, view.dtype) == (4, (4, 3), 2, np.float64)
        for index in (slice(1, 3), np.array([3, 0]), slice(None)):
            np.testing.assert_array_equal(view[index], X[rows][index])
        np.testing.assert_array_equal(take_rows(view, np.array([3, 1]))[:], X[[19, 5]])
    assert isinstance(take_rows(X, rows), np.ndarray)  # what is in memory is copied, as products with it are faster


def resident():
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


on_linux = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="only Linux tells what is resident like that"
)


@pytest.fixture
def large(monkeypatch):
    """Maps are large from a kilobyte on."""
    monkeypatch.setattr(_rows, "LARGE_MAP_BYTES", 1000)


@on_linux
def test_pages_that_were_read_are_released(tmp_path):
    X = mapped(np.ones((1 << 14, 512), dtype=np.float32), tmp_path / "X.npy")  # 32 MB
    for form in (X, np.asarray(X), X[5:], MappedRows(np.asarray(X), np.arange(0, len(X), 2))):
        before = resident()
        form[:].sum()
        assert resident() - before > 24e6
        release(form)
        # Rows that were copied may be kept by the allocator.
        ctypes.CDLL(None).malloc_trim(0)
        assert resident() - before < 2e6
        assert form[7, 3] == 1 if isinstance(form, np.ndarray) else form[7][3] == 1


def test_what_was_written_to_a_map_survives(tmp_path):
    np.save(tmp_path / "X.npy", np.ones((3000, 3)))
    for mode in ("c", "r+"):
        X = np.load(tmp_path / "X.npy", mmap_mode=mode)
        X[2000] = 5
        release(X)
        assert X[2000].tolist() == [5, 5, 5]
    release(np.ones(3))
    release("no array")


@on_linux
@pytest.mark.parametrize(
    "solver, validation_fraction",
    [(FullBatch(tol=1e-2), None), (Minibatch(max_epochs=1, batch_size=64), 0.1)],
    ids=str,
)
def test_a_fit_of_a_large_map_keeps_little_of_it(tmp_path, large, monkeypatch, solver, validation_fraction):
    monkeypatch.setattr("skpartial.features._matrix.CHUNK_BYTES", 1 << 20)
    monkeypatch.setattr("skpartial._inputs.CHUNK_BYTES", 1 << 20)
    monkeypatch.setattr(StreamedFeatures.__init__, "__defaults__", (1 << 20,))
    monkeypatch.setattr("skpartial._fingerprint._BLOCK_BYTES", 1 << 20)
    # Around every row that is asked for by itself the system brings 64 kB to memory.
    monkeypatch.setattr("skpartial.training._predict._BATCH_BYTES", 1 << 18)
    rng = np.random.default_rng(0)
    file = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float32, (1 << 16, 1024))  # 268 MB
    file[::128] = rng.normal(size=(1 << 9, 1024))
    file.flush()
    Y = np.zeros((len(file), 1), dtype=np.int8)
    Y[::128, 0] = np.where(file[::128, 0] > 0, 1, -1)
    Y[1::2, 0] = -1
    Y = np.column_stack([Y, -Y])
    del file
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    clf = PartialLabelClassifier("iu", solver=solver, validation_fraction=validation_fraction, random_state=0)
    clf.fit(X[:4096], Y[:4096])  # what libraries load is theirs
    release(X)
    before, most, done = resident(), [0], threading.Event()

    def watch():
        while not done.wait(0.002):
            most[0] = max(most[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        clf.fit(X, Y).score(X, Y)
        identity(X)
    finally:
        done.set()
        watcher.join()
    assert 0 < most[0] - before < 160e6  # of 268, the sketch of the convex solver included


@pytest.mark.parametrize("solver", [FullBatch(tol=1e-8), Minibatch(max_epochs=2, shuffle=False)], ids=str)
def test_a_large_map_is_fitted_as_an_array(partial_data, tmp_path, large, held, solver):
    X, Y = partial_data
    clf = PartialLabelClassifier("iu", solver=solver, validation_fraction=0.25, random_state=0, alpha=0.1)
    expected = clf.fit(X, Y)
    coef, scores = expected.coef_, expected.decision_function(X)
    file = mapped(X, tmp_path / "X.npy")
    np.testing.assert_allclose(clf.fit(file, Y).coef_, coef, rtol=1e-6)
    np.testing.assert_allclose(clf.decision_function(file), scores, rtol=1e-6)
    assert all(isinstance(features, StreamedFeatures) for passed, features in held if isinstance(passed, MappedRows))
    clf.set_params(validation_fraction=None, solver__max_resident_bytes=1e12).fit(file, Y)
    assert not isinstance(held[-1][1], StreamedFeatures)  # as was asked for


def test_a_large_map_is_searched_for_what_is_not_finite(tmp_path, large):
    X, Y = np.zeros((100, 3)), np.ones((100, 2))
    for value in (np.nan, np.inf):
        X[70, 1] = value
        with pytest.raises(ValueError, match="Input X contains"):
            PartialLabelClassifier("an").fit(mapped(X, tmp_path / "X.npy"), Y)


def test_booleans_are_not_copied(tmp_path, held):
    X = mapped(np.random.default_rng(0).random((60, 3)) < 0.5, tmp_path / "X.npy")
    PartialLabelClassifier("an").fit(X, np.tile([[1, 0], [0, 1]], (30, 1)))
    assert is_mapped(held[0][0])


def test_rows_of_a_large_map_are_shuffled_within_windows(tmp_path, monkeypatch):
    monkeypatch.setattr(_rows, "_BLOCK_BYTES", 40)  # five rows
    monkeypatch.setattr(_rows, "_WINDOW_BYTES", 400)  # ten blocks
    X = mapped(np.arange(333.0), tmp_path / "X.npy")
    order = shuffled(X, torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_array_equal(np.sort(order), np.arange(333))
    for window in (order[:48], order[100:148], order[200:248]):
        blocks = window // 5
        assert len(np.unique(blocks)) <= 20  # of two windows at most, of which all rows are near
        assert (np.diff(blocks) != 0).mean() > 0.7  # and not one block after the other
    again = shuffled(X, torch.Generator().manual_seed(1)).numpy()
    assert (order[:50] // 5).tolist() != (again[:50] // 5).tolist()


def test_batches_of_a_large_map_are_drawn_so(partial_data, tmp_path, large, monkeypatch):
    X, Y = partial_data
    monkeypatch.setattr(_rows, "_BLOCK_BYTES", 10 * X[0].nbytes)
    monkeypatch.setattr("skpartial.features._matrix.announce", lambda *arguments: None)  # which takes whole pages
    monkeypatch.setattr(_rows, "_WINDOW_BYTES", 20 * X[0].nbytes)
    seen, batch = [], StreamedFeatures.batch
    monkeypatch.setattr(StreamedFeatures, "batch", lambda self, rows: seen.append(rows) or batch(self, rows))
    clf = PartialLabelClassifier("iu", solver=Minibatch(max_epochs=1, batch_size=20), random_state=0)
    clf.fit(mapped(X, tmp_path / "X.npy"), Y)
    batches = [rows for rows in seen if len(rows) == 20]
    assert len(batches) == 6
    assert all(len(np.unique(rows.numpy() // 10)) == 2 for rows in batches)
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(120))
