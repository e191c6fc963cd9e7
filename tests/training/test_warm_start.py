"""What is remembered of rows under warm_start: kept by pickles, and given to these rows alone."""

from __future__ import annotations

import copy
import os
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from skpartial import PartialLabelClassifier
from skpartial._fingerprint import numbers_key, rows_key
from skpartial.images import Backbone
from skpartial.images._sources import as_source
from skpartial.losses import ROLE, EntropyMaximization, LargeLoss
from skpartial.regularizers import Regularizer
from skpartial.relabeling import Relabeling
from skpartial.solvers import Minibatch
from skpartial.training import StateTensor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(700, 6))
Y = np.where(RNG.random((700, 4)) < 0.4, np.where(X[:, :4] > RNG.normal(size=(700, 4)), 1, -1), 0).astype(np.int8)


class Offsets(Regularizer):
    """Draws logits towards offsets that are learned for every row."""

    def state_spec(self):
        return {"offsets": StateTensor(learned=True, per_row=True), "epochs": StateTensor()}

    def start(self, context, previous=None):
        return previous or {"offsets": torch.zeros(context.n_rows, context.n_labels), "epochs": torch.zeros(())}

    def end_epoch(self, state, epoch, context=None):
        state["epochs"] += 1

    def fitted_attributes(self, state, context=None):
        return {"n_epochs_in_all_": int(state["epochs"])}

    def __call__(self, batch):
        return ((batch.logits - batch.state["offsets"][batch.rows] - 1) ** 2).mean()


class Sticks(Relabeling):
    """Labels what the head is sure of, and never takes it back."""

    def state_spec(self):
        return {"labels": StateTensor(per_row=True)}

    def start(self, context, previous=None):
        return previous or {"labels": torch.zeros(context.n_rows, context.n_labels, dtype=torch.int8)}

    def relabel(self, context):
        kept, logits = context.state["labels"], context.logits().cpu()
        sure = (kept == 0) & (logits.abs() > logits.abs().quantile(0.9))
        kept.copy_(torch.where(sure, logits.sign().to(torch.int8), kept))
        given = context.given.labels.toarray()
        return np.where(given == 0, kept.numpy(), given)


METHODS = {
    "table": {"loss": ROLE(2.0)},
    "factors": {"loss": ROLE(2.0, estimator="factorized", rank=3, storage="float16")},
    "corrections": {"loss": LargeLoss("correct_permanently", delta=0.05)},
    "picked": {"loss": EntropyMaximization(0.1, 0.1, warm_up=1, n_epochs=3)},
    "regulariser": {"loss": "iu", "regularizer": Offsets()},
    "relabelling": {"loss": "iu", "relabeling": Sticks()},
}


def make(method="corrections", **more):
    settings = {"solver": Minibatch(max_epochs=2, batch_size=50), "warm_start": True, "random_state": 0}
    return PartialLabelClassifier(**(METHODS[method] | settings | more))


def results(clf):
    return {name: value for name, value in vars(clf).items() if name in ("coef_", "intercept_", *clf._results)}


def same(one, other):
    one, other = results(one), results(other)
    assert sorted(one) == sorted(other)
    return all(
        np.array_equal(one[name], other[name], equal_nan=np.asarray(one[name]).dtype.kind == "f") for name in one
    )


def forgotten(clf):
    """The same estimator without what it remembers of rows."""
    clf = copy.deepcopy(clf)
    clf._state_rows = "others"
    return clf


@pytest.mark.parametrize("store_state", ["auto", True])
@pytest.mark.parametrize("method", METHODS)
def test_pickles_go_on_as_if_there_was_none(method, store_state):
    clf = make(method, store_state=store_state).fit(X, Y)
    anew = forgotten(clf).fit(X, Y)
    copies = [pickle.loads(pickle.dumps(clf)), copy.deepcopy(clf), copy.copy(clf)]
    clf.fit(X, Y)
    assert not same(anew, clf)
    for other in copies:
        assert same(other.fit(X, Y), clf)
    if method == "regulariser":
        assert clf.n_epochs_in_all_ == 4


def test_large_states_are_kept(monkeypatch):
    """What is too large to be shown is still what the next fit goes on from."""
    monkeypatch.setattr("skpartial._fit._STORE_BYTES", 10)
    clf = make("table").fit(X, Y)
    assert not hasattr(clf, "label_estimates_")
    other = pickle.loads(pickle.dumps(clf))
    assert not same(forgotten(clf).fit(X, Y), clf.fit(X, Y))
    assert same(other.fit(X, Y), clf)


@pytest.mark.parametrize("method", ["table", "corrections", "regulariser", "relabelling"])
def test_without_states_rows_begin_anew_with_or_without_a_pickle(method):
    clf = make(method, store_state=False).fit(X, Y)
    kept = make(method).fit(X, Y)
    assert clf._states == {}
    assert len(pickle.dumps(kept)) > len(pickle.dumps(clf)) + Y.size
    other = pickle.loads(pickle.dumps(clf))
    assert same(other.fit(X, Y), clf.fit(X, Y))
    np.testing.assert_array_equal(clf.coef_, forgotten(kept).fit(X, Y).coef_)


def test_nothing_is_kept_without_warm_start():
    clf = make("table", warm_start=False).fit(X, Y)
    assert not hasattr(clf, "_states")


# -------------------------------------------------------------------------------------------------------- which rows


def forms(numbers, folder):
    """The same rows in whatever holds them."""
    map_of = np.lib.format.open_memmap(folder / "X.npy", "w+", numbers.dtype, numbers.shape)
    map_of[:] = numbers
    return [
        numbers.copy(),
        np.asfortranarray(numbers),
        np.repeat(numbers, 2, axis=1)[:, ::2],
        numbers.astype(numbers.dtype.newbyteorder()),
        map_of,
        torch.from_numpy(numbers.copy()),
    ]


def test_the_same_rows_are_known_in_any_form(tmp_path):
    dense = np.where(RNG.random(X.shape) < 0.5, X, 0)
    assert len({numbers_key(form) for form in forms(dense, tmp_path)}) == 1
    order = RNG.permutation(len(X))
    assert {numbers_key(form, order) for form in forms(dense, tmp_path)} == {numbers_key(dense[order])}
    sparse = sp.csr_array(dense)
    unsorted = sparse.copy()
    for start, stop in zip(unsorted.indptr, unsorted.indptr[1:]):
        unsorted.indices[start:stop] = unsorted.indices[start:stop][::-1].copy()
        unsorted.data[start:stop] = unsorted.data[start:stop][::-1].copy()
    unsorted.has_sorted_indices = unsorted.has_canonical_format = False
    before = unsorted.indices.copy()
    wide = sparse.copy()
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    assert len({numbers_key(form) for form in (sparse, unsorted, wide)}) == 1
    np.testing.assert_array_equal(unsorted.indices, before)  # nothing that was passed is sorted


@given(row=st.integers(0, len(X) - 1), column=st.integers(0, X.shape[1] - 1), form=st.integers(0, 3))
def test_a_single_number_makes_other_rows(row, column, form):
    changed = X.copy()
    changed[row, column] = np.nextafter(changed[row, column], np.inf)
    as_form = [np.asarray, sp.csr_array, torch.from_numpy, lambda X: as_source(X.reshape(-1, 1, 2, 3), (4, 4))][form]
    assert rows_key(as_form(changed)) != rows_key(as_form(X))
    assert rows_key(as_form(X.copy())) == rows_key(as_form(X))


def test_other_rows_have_other_keys(monkeypatch):
    monkeypatch.setattr("skpartial._fingerprint._BLOCK_BYTES", 1000)  # several blocks
    keys = [
        rows_key(each)
        for each in (X, X[::-1], X[:-1], X.astype(np.float32), X.reshape(-1, 3), np.roll(X, 1, 0), sp.csr_array(X))
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("row", [0, 1, 350, 698, 699])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array, torch.from_numpy], ids=["dense", "sparse", "tensor"])
def test_states_are_not_given_to_other_rows(form, row):
    clf = make("corrections").fit(form(X), Y)
    changed = X.copy()
    changed[row] = -changed[row]
    expected = forgotten(clf).fit(form(changed), Y)
    going_on = copy.deepcopy(clf)
    going_on._state_rows = rows_key(torch.from_numpy(changed) if form is not sp.csr_array else form(changed))
    assert not same(going_on.fit(form(changed), Y), expected)  # what would be if they were
    assert same(clf.fit(form(changed), Y), expected)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 5, stride=3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def pictures(folder):
    paths = []
    for i in range(30):
        pixels = np.random.default_rng(i).integers(0, 256, size=(16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        paths.append(str(folder / f"{i}.png"))
    return paths


def test_images_on_disk_are_known_by_paths_sizes_and_times(tmp_path):
    paths = pictures(tmp_path)
    key = rows_key(as_source(paths, (16, 16)))
    assert rows_key(as_source(np.array(paths), (8, 8))) == key
    rows = np.array([3, 7, 4])
    assert rows_key(as_source(paths, (16, 16))[rows]) == rows_key(as_source([paths[i] for i in rows], (16, 16)))
    assert rows_key(as_source(paths, (16, 16))[rows][[2, 0]]) == rows_key(as_source([paths[4], paths[3]], (16, 16)))
    assert rows_key(as_source(paths[::-1], (16, 16))) != key
    os.utime(paths[17], ns=(1, 1))
    changed = rows_key(as_source(paths, (16, 16)))
    assert changed != key
    assert rows_key(as_source(paths, (16, 16))[rows]) == rows_key(as_source([paths[i] for i in rows], (16, 16)))
    Image.new("RGB", (16, 16)).save(paths[18])
    os.utime(paths[18], ns=(1, 1))
    assert rows_key(as_source(paths, (16, 16))) != changed


@pytest.mark.parametrize("on", ["paths", "arrays", "list", "lazy"])
def test_states_of_images(tmp_path, on):
    class Lazy:
        """What gives slices alone."""

        def __init__(self, numbers):
            self.numbers, self.shape, self.dtype = numbers, numbers.shape, numbers.dtype

        def __getitem__(self, rows):
            assert isinstance(rows, slice)
            return self.numbers[rows]

        def __len__(self):
            return len(self.numbers)

    paths = pictures(tmp_path)
    numbers = np.stack([np.asarray(Image.open(path)) for path in paths])
    images = {"paths": paths, "arrays": numbers, "list": list(numbers), "lazy": Lazy(numbers)}[on]
    settings = {"backbone": Backbone(network(), image_size=16), "solver": Minibatch(max_epochs=2, batch_size=10)}
    for more in ({}, {"validation_fraction": 0.5}):
        clf = make("corrections", **settings, **more).fit(images, Y[:30])
        copied, anew = pickle.loads(pickle.dumps(clf)), forgotten(clf).fit(images, Y[:30])
        clf.fit(images, Y[:30])
        np.testing.assert_array_equal(copied.fit(images, Y[:30]).corrected_labels_, clf.corrected_labels_)
        assert not np.array_equal(anew.corrected_labels_, clf.corrected_labels_)
