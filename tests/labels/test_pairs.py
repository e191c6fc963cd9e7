"""Matrices of pairs of labels."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from skpartial.labels._pairs import label_pairs

pd = pytest.importorskip("pandas")

NAMES = ["cat", "dog", "cow"]
VALUES = np.arange(9.0).reshape(3, 3)


def frame(index=None, columns=None):
    return pd.DataFrame(VALUES, index=index, columns=columns)


@pytest.mark.parametrize("form", [np.asarray, np.ndarray.tolist, sp.csr_array, sp.coo_matrix, torch.tensor, frame])
def test_without_names_it_is_taken_as_it_is(form):
    found = label_pairs(form(VALUES.astype(int)) if form is not frame else frame(), NAMES, 3, "graph")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found.toarray() if sp.issparse(found) else found, VALUES)


@pytest.mark.parametrize("rows", [NAMES, ["cow", "cat", "dog"]])
@pytest.mark.parametrize("columns", [NAMES, ["dog", "cow", "cat"]])
def test_each_side_is_put_in_order(rows, columns):
    given = frame(rows, columns)
    found = label_pairs(given, np.array(NAMES, dtype=object), 3, "graph")
    for i, row in enumerate(NAMES):
        for j, column in enumerate(NAMES):
            assert found[i, j] == given.loc[row, column]
    pd.testing.assert_frame_equal(given, frame(rows, columns))


def test_names_on_one_side():
    np.testing.assert_array_equal(label_pairs(frame(columns=NAMES), NAMES, 3, "graph"), VALUES)
    np.testing.assert_array_equal(label_pairs(frame(index=NAMES), NAMES, 3, "graph"), VALUES)
    with pytest.raises(ValueError, match="graph has the labels in a different order from y in its columns only"):
        label_pairs(frame(columns=NAMES[::-1]), NAMES, 3, "graph")
    with pytest.raises(ValueError, match="graph has the labels in a different order from y in its index only"):
        label_pairs(frame(index=NAMES[::-1]), NAMES, 3, "graph")


@pytest.mark.parametrize("label_names", [None, ["0", "1", "2"]])
def test_names_where_labels_have_none_are_not_looked_at(label_names):
    np.testing.assert_array_equal(label_pairs(frame(NAMES, NAMES), label_names, 3, "graph"), VALUES)


def test_positions_are_put_in_order_too():
    shuffled = frame().loc[[2, 0, 1], [1, 2, 0]]
    np.testing.assert_array_equal(label_pairs(shuffled, ["0", "1", "2"], 3, "graph"), VALUES)


def test_a_table_of_polars():
    pl = pytest.importorskip("polars")
    np.testing.assert_array_equal(label_pairs(pl.DataFrame(VALUES, schema=NAMES), NAMES, 3, "graph"), VALUES)
    with pytest.raises(ValueError, match="in its columns only"):
        label_pairs(pl.DataFrame(VALUES, schema=NAMES[::-1]), NAMES, 3, "graph")


@pytest.mark.parametrize(
    "matrix, message",
    [
        (frame(NAMES, ["cat", "dog", "hen"]), "must name each label once, .*: 'cow' missing in its columns"),
        (frame(["cat", "cat", "dog"], NAMES), "must name each label once, .*: 'cow' missing in its index"),
        (pd.DataFrame(np.eye(4), [*NAMES, "cat"], [*NAMES, "cat"]), r"in its columns\."),
        (np.eye(2), r"graph must have shape \(3, 3\), a row and a column per label, got \(2, 2\)"),
        (np.ones(3), r"got \(3,\)"),
        ([["a"] * 3] * 3, "graph must be a matrix of numbers"),
        ([[1, 2, 3], [1]], "graph has rows of different lengths"),
    ],
)
def test_refusals(matrix, message):
    with pytest.raises(ValueError, match=message):
        label_pairs(matrix, NAMES, 3, "graph")
