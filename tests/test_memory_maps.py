"""Memory maps stay on disk, also where some of their rows are held out."""

from __future__ import annotations

import numpy as np
import pytest

from skpartial import PartialLabelClassifier, _task
from skpartial.features._matrix import StreamedFeatures
from skpartial.features._rows import MappedRows, is_mapped, take_rows
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
