"""Data in chunks: iterables, Parquet files, data sets that behave as those of the Hugging Face hub."""

from __future__ import annotations

import tempfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from skpartial import PartialLabelClassifier, PartialLabelClassifierCV, SinglePositiveClassifier
from skpartial.images import Backbone
from skpartial.labels import LabelMatrix
from skpartial.solvers import Minibatch

MINIBATCH = {"solver": Minibatch(max_epochs=2, batch_size=16), "random_state": 0}


def chunked(array, n_rows=50):
    """A generator: it can be read once."""
    return (array[start : start + n_rows] for start in range(0, array.shape[0], n_rows))


@pytest.fixture(params=[{}, MINIBATCH], ids=["full batch", "minibatch"])
def expected(request, partial_data):
    """Parameters, and what a fit on arrays finds with them."""
    return request.param, PartialLabelClassifier("iu", **request.param).fit(*partial_data)


@pytest.fixture
def left(tmp_path, monkeypatch):
    """The folder of temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def assert_same(found, expected):
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-9)
    np.testing.assert_allclose(found.intercept_, expected.intercept_, rtol=1e-9)


def test_an_iterable(partial_data, expected, left):
    X, Y = partial_data
    parameters, whole = expected
    forms = {
        "y whole": (chunked(X), Y),
        "y in chunks of its own": (chunked(X), chunked(Y, 33)),
        "pairs": (zip(chunked(X), chunked(Y)), None),
        "sparse labels": (zip(chunked(X), map(sp.csr_array, chunked(Y))), None),
        "label matrices": (([x, LabelMatrix.encode(y)] for x, y in zip(chunked(X), chunked(Y))), None),
        "tensors": (zip(map(torch.tensor, chunked(X)), map(torch.tensor, chunked(Y))), None),
        "y alone": (X, chunked(Y, 7)),
    }
    for name, (rows, labels) in forms.items():
        found = PartialLabelClassifier("iu", **parameters).fit(rows, labels)
        np.testing.assert_allclose(found.coef_, whole.coef_, rtol=1e-9, err_msg=name)
        assert not list(left.iterdir()), name
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y)), batch_size=32
    )
    assert_same(PartialLabelClassifier("iu", **parameters).fit(loader), whole)
    np.testing.assert_allclose(whole.decision_function(loader), whole.decision_function(X), rtol=1e-12)
    np.testing.assert_array_equal(whole.predict(chunked(X, 7)), whole.predict(X))
    assert whole.score(chunked(X), Y) == pytest.approx(whole.score(X, Y), abs=1e-12)


def test_chunks_are_on_disk_while_they_are_fitted(partial_data, left):
    X, Y = partial_data
    found = []

    class Looks(SinglePositiveClassifier):
        def _fit(self, X, y, *arguments, **more):
            found.append((type(X), X.dtype, sum(file.stat().st_size for file in left.glob("*/*"))))
            return super()._fit(X, y, *arguments, **more)

    Looks().fit(chunked(X.astype(np.float32)), np.maximum(Y, 0))
    assert found == [(np.memmap, np.float32, 4 * X.size)]
    assert not list(left.iterdir())


def test_held_out_chunks(partial_data, left):
    X, Y = partial_data
    clf = PartialLabelClassifier("iu", **MINIBATCH)
    expected = clf.fit(X[:80], Y[:80], X_val=X[80:], y_val=Y[80:]).history_[-1]["validation_score"]
    for held, labels in ((chunked(X[80:], 9), Y[80:]), (zip(chunked(X[80:]), chunked(Y[80:])), None)):
        clf.fit(chunked(X[:80]), Y[:80], X_val=held, y_val=labels)
        assert clf.history_[-1]["validation_score"] == pytest.approx(expected, abs=1e-12)
    clf.set_params(validation_fraction=0.25)
    rows = clf.fit(X, Y).train_rows_
    np.testing.assert_array_equal(clf.fit(chunked(X), Y).train_rows_, rows)
    assert not list(left.iterdir())


def test_sparse_rows_and_frames(partial_data):
    X, Y = partial_data
    expected = PartialLabelClassifier("iu").fit(sp.csr_array(X), Y)
    assert_same(PartialLabelClassifier("iu").fit(map(sp.csr_array, chunked(X)), Y), expected)
    frames = [
        (pd.DataFrame(x).add_prefix("x"), pd.DataFrame(y).add_prefix("y")) for x, y in zip(chunked(X), chunked(Y))
    ]
    found = PartialLabelClassifier("iu").fit(iter(frames))
    np.testing.assert_allclose(found.coef_, PartialLabelClassifier("iu").fit(X, Y).coef_, rtol=1e-9)
    assert found.label_names_.tolist() == ["y0", "y1", "y2", "y3", "y4"]


def test_two_classes(partial_data):
    X, Y = partial_data
    y = np.where(Y[:, 0] + X[:, 0] > 0, "dog", "cat")
    expected = PartialLabelClassifier("bce").fit(X, y)
    assert_same(PartialLabelClassifier("bce").fit(zip(chunked(X), chunked(y))), expected)


def test_choice_of_alpha(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifierCV(loss="iu", cv=3, random_state=0).fit(X, Y)
    assert_same(PartialLabelClassifierCV(loss="iu", cv=3, random_state=0).fit(chunked(X), Y), clf)


def test_partial_fit_takes_a_step_of_its_own_with_each_chunk(partial_data):
    X, Y = partial_data
    weights = np.linspace(0.5, 1.5, len(X))
    expected = PartialLabelClassifier("iu", random_state=0)
    for rows in (slice(0, 50), slice(50, 100), slice(100, 120)):
        expected.partial_fit(X[rows], Y[rows], sample_weight=weights[rows])
    for rows, labels in ((chunked(X), Y), (chunked(X), chunked(Y)), (zip(chunked(X), chunked(Y)), None)):
        found = PartialLabelClassifier("iu", random_state=0).partial_fit(rows, labels, sample_weight=weights)
        assert found.n_iter_ == 3
        np.testing.assert_array_equal(found.coef_, expected.coef_)


def test_parquet(partial_data, expected, tmp_path):
    X, Y = partial_data
    parameters, whole = expected
    columns = pa.table({f"x{i}": column for i, column in enumerate(X.T)})
    vectors = pa.table({"embedding": pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), X.shape[1])})
    lists = pa.table({"embedding": pa.array(X.tolist())})
    mixed = pa.table({"a": X[:, 0], "rest": pa.array(X[:, 1:].tolist())})
    for number, table in enumerate((columns, vectors, lists, mixed)):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(table, path, row_group_size=33)
        with pq.ParquetFile(path) as file:
            assert file.num_row_groups == 4
            assert_same(PartialLabelClassifier("iu", **parameters).fit(file, Y), whole)
            np.testing.assert_allclose(whole.decision_function(file), whole.decision_function(X), rtol=1e-12)
    files = pyarrow.dataset.dataset([tmp_path / "0.parquet"])
    assert_same(PartialLabelClassifier("iu", **parameters).fit(files, Y), whole)
    assert_same(PartialLabelClassifier("iu", **parameters).fit(columns.to_reader(max_chunksize=7), Y), whole)


class Hub:
    """What a data set of `datasets` offers, as far as it is used."""

    def __init__(self, **columns):
        self._columns, self._format = columns, None
        self.column_names = list(columns)
        self.num_rows = len(next(iter(columns.values())))
        self.shape = (self.num_rows, len(columns))

    def with_format(self, kind):
        assert kind == "numpy"
        return self

    def __len__(self):
        return self.num_rows

    def __getitem__(self, rows):
        return {name: values[rows] for name, values in self._columns.items()}


def test_a_hub_dataset(partial_data, expected):
    X, Y = partial_data
    parameters, whole = expected
    for hub in (Hub(embedding=X), Hub(a=X[:, 0], rest=X[:, 1:])):
        assert_same(PartialLabelClassifier("iu", **parameters).fit(hub, Y), whole)
        np.testing.assert_allclose(whole.decision_function(hub), whole.decision_function(X), rtol=1e-12)
    with pytest.raises(ValueError, match=r"Column 'name' of X holds <U1, not numbers: select the columns"):
        PartialLabelClassifier("iu").fit(Hub(embedding=X, name=np.full(len(X), "a")), Y)


def test_images_of_a_hub_dataset():
    rng = np.random.default_rng(0)
    pictures, Y = rng.integers(0, 256, (12, 16, 16, 3), dtype=np.uint8), rng.integers(-1, 2, (12, 2))
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 5, stride=4), nn.AdaptiveAvgPool2d(1))
    clf = PartialLabelClassifier(
        "iu", backbone=Backbone(body, weights=None, image_size=16, finetune="head"), random_state=0
    )
    expected = clf.fit(pictures, Y).decision_function(pictures)
    hub = Hub(image=pictures, id=np.arange(12))
    np.testing.assert_allclose(clf.fit(hub, Y).decision_function(hub), expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"X has the columns \['a', 'b'\]: choose the one with the images"):
        clf.fit(Hub(a=pictures, b=pictures), Y)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda X, Y: (iter([]), Y), "X yields no rows: an exhausted iterator"),
        (lambda X, Y: (iter([]), None), "X yields no chunk: an exhausted iterator"),
        (lambda X, Y: (chunked(X), None), "Chunk 0 of X has no labels: pass y, whole or in chunks, or pairs"),
        (lambda X, Y: (chunked(X), chunked(Y[:60])), "X has 120 rows, but y has 60"),
        (lambda X, Y: (chunked(X), Y[:60]), "X has 120 rows, but y has 60"),
        (lambda X, Y: (zip(chunked(X), chunked(Y)), Y), "pairs of features and labels, so y must be None"),
        (lambda X, Y: (iter([X[:9], X[9:, :2]]), Y), r"Chunk 1 of X has shape \(111, 2\), but rows of the first one"),
        (
            lambda X, Y: (iter([X[:9].astype(np.float32), X[9:]]), Y),
            "Chunk 1 of X holds float64, but the first one holds float32",
        ),
        (lambda X, Y: (iter([X[0], X[1]]), Y), r"Chunk 0 of X has shape \(6,\): an iterable must yield arrays of rows"),
        (lambda X, Y: (iter([X.tolist()]), Y), "Chunk 0 of X is a list: an iterable must yield arrays"),
        (lambda X, Y: (iter([X.astype(str)]), Y), "X must hold numbers, but chunk 0 holds <U"),
        (lambda X, Y: (iter([np.full_like(X, np.nan)]), Y), "Input X contains NaN"),
        (
            lambda X, Y: (iter([pd.DataFrame(X), pd.DataFrame(X).add_prefix("x")]), Y),
            "Chunk 1 of X has different columns from the chunk before",
        ),
        (
            lambda X, Y: (zip(chunked(X, 60), [Y[:60], Y[60:, :2]]), None),
            "y has 2 labels in one chunk and 5 in the one before",
        ),
    ],
)
def test_what_does_not_fit_together(partial_data, left, make, message):
    X, Y = partial_data
    clf = PartialLabelClassifier("iu")
    with pytest.raises(ValueError, match=message):
        clf.fit(*make(X, Y))
    assert not hasattr(clf, "coef_")
    assert not list(left.iterdir())


def test_partial_fit_is_undone_where_a_chunk_is_refused(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifier("iu", random_state=0).partial_fit(X, Y)
    coef = clf.coef_.copy()
    with pytest.raises(ValueError, match="X has at least 100 rows, but y or sample_weight has 70"):
        clf.partial_fit(chunked(X), Y[:70])
    with pytest.raises(ValueError, match="y has more rows than X, which has 50"):
        clf.partial_fit(chunked(X[:50]), chunked(Y))
    assert clf.n_iter_ == 1
    np.testing.assert_array_equal(clf.coef_, coef)


def test_chunks_of_mixed_kinds_and_surplus_labels_or_weights_are_refused():
    X = np.random.default_rng(0).normal(size=(40, 5))
    Y = np.where(X[:, :3] > 0, 1, -1)
    dense, sparse = X[:20], sp.csr_array(X[20:])
    for chunks in ([dense, sparse], [sparse, dense]):
        with pytest.raises(ValueError, match=r"Chunks of X must be all dense or all sparse, but chunk 1 differs"):
            PartialLabelClassifier("bce").fit(iter(chunks), Y)
    solver = Minibatch(max_epochs=1)
    with pytest.raises(ValueError, match="y has more rows than X, which has 20"):
        PartialLabelClassifier("bce", solver=solver).partial_fit(iter([dense]), Y.tolist())
    with pytest.raises(ValueError, match="sample_weight holds 40 weights for the 20 rows"):
        PartialLabelClassifier("bce", solver=solver).partial_fit(iter([dense]), Y[:20], sample_weight=np.ones(40))
