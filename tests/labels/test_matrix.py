"""LabelMatrix: one type for every form of labels."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from skpartial.labels import LabelMatrix, _matrix, cooccurrence, from_annotations, recode

pd = pytest.importorskip("pandas")

quick = settings(max_examples=40, deadline=None)

GIVEN = np.array([[1, 0, -1, 0], [0, 0, 1, 1], [0, 0, 0, 0]], dtype=np.int8)

# 256 TiB as a dense matrix.
HUGE = LabelMatrix(sp.csr_array(([np.int8(1)], ([5], [7])), shape=(1 << 20, 1 << 28)))

label_arrays = arrays(np.int8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([-1, 0, 1]))

FORMS = {
    "int8": lambda Y: Y,
    "int64": lambda Y: Y.astype(np.int64),
    "float32": lambda Y: Y.astype(np.float32),
    "float64, Fortran": lambda Y: np.asfortranarray(Y, dtype=np.float64),
    "lists": lambda Y: Y.tolist(),
    "object": lambda Y: Y.astype(object),
    "torch": lambda Y: torch.tensor(Y, dtype=torch.float32, requires_grad=True),
    "pandas": lambda Y: pd.DataFrame(Y),
    "pandas nullable": lambda Y: pd.DataFrame(Y).astype("Int8"),
    "csr_array": sp.csr_array,
    "csc_matrix": sp.csc_matrix,
    "coo_array": sp.coo_array,
    "lil_array": sp.lil_array,
    "dok_array": sp.dok_array,
    "bsr_array": lambda Y: sp.bsr_array(Y, blocksize=(1, Y.shape[1])),
    "dia_array": sp.dia_array,
    "stored zeros": lambda Y: sp.csr_array((Y.ravel(), np.indices(Y.shape).reshape(2, -1)), shape=Y.shape),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@quick
@given(Y=label_arrays)
def test_every_form_is_read_alike(form, Y):
    matrix = LabelMatrix.encode(form(Y))
    assert matrix.values.dtype == np.int8
    np.testing.assert_array_equal(matrix.toarray(), Y)
    assert matrix.shape == Y.shape
    assert len(matrix) == Y.shape[0]
    assert matrix.n_known == np.abs(Y.astype(int)).sum()
    assert matrix.has_absent == (Y < 0).any()
    for axis in (0, 1):
        for sign in (1, -1):
            np.testing.assert_array_equal(matrix.count(sign, axis=axis), (sign == Y).sum(axis=axis))
        np.testing.assert_array_equal(matrix.count(axis=axis), (Y != 0).sum(axis=axis))
        np.testing.assert_array_equal(matrix.proportion_known(axis=axis), (Y != 0).mean(axis=axis))
    present = (Y == 1).astype(int)
    np.testing.assert_array_equal(matrix.cooccurrence(), present.T @ present)
    if matrix.is_sparse:
        assert matrix.values.format == "csr"
        assert matrix.values.nnz == matrix.n_known
        assert matrix.values.has_canonical_format


def test_uint_and_bool_have_no_absences():
    for dtype in (np.uint8, bool):
        Y = (GIVEN == 1).astype(dtype)
        np.testing.assert_array_equal(LabelMatrix.encode(Y).values, GIVEN == 1)
        np.testing.assert_array_equal(LabelMatrix.encode(sp.csc_array(Y)).toarray(), GIVEN == 1)


def test_counts_do_not_depend_on_the_block(monkeypatch):
    Y = np.random.RandomState(0).randint(-1, 2, size=(50, 7))
    whole = LabelMatrix.encode(Y)
    expected = [whole.count(sign, axis=axis) for sign in (None, 1, -1) for axis in (0, 1)] + [whole.cooccurrence()]
    monkeypatch.setattr(_matrix, "_BLOCK_ENTRIES", 20)
    blocks = [whole.count(sign, axis=axis) for sign in (None, 1, -1) for axis in (0, 1)] + [whole.cooccurrence()]
    for one, other in zip(expected, blocks):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="holds 7"):
        LabelMatrix.encode(np.vstack([Y, np.full(7, 7)]))


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("index", [slice(1, 3), np.array([2, 0]), np.array([True, False, True])])
def test_rows(make, index):
    matrix = LabelMatrix.encode(make(GIVEN))
    assert isinstance(matrix.rows(index), np.ndarray)
    np.testing.assert_array_equal(matrix.rows(index), GIVEN[index])
    taken = matrix.take(index)
    assert taken.is_sparse == matrix.is_sparse
    np.testing.assert_array_equal(taken.toarray(), GIVEN[index])


def test_names_are_those_of_the_columns():
    frame = pd.DataFrame(GIVEN, columns=["cat", "dog", 3, ("a", 1)])
    matrix = LabelMatrix.encode(frame)
    assert matrix.names.tolist() == ["cat", "dog", "3", "('a', 1)"]
    assert matrix.take([0]).names is matrix.names
    assert LabelMatrix.encode(GIVEN).names is None
    with pytest.raises(ValueError, match="more than one column named 'cat'"):
        LabelMatrix.encode(pd.DataFrame(GIVEN, columns=["cat", "dog", "cat", "cow"]))


def test_polars():
    pl = pytest.importorskip("polars")
    matrix = LabelMatrix.encode(pl.DataFrame(GIVEN, schema=list("abcd")))
    assert matrix.names.tolist() == list("abcd")
    np.testing.assert_array_equal(matrix.values, GIVEN)


def test_frames_of_arrow():
    """As pandas.read_parquet gives them when it is asked to."""
    pytest.importorskip("pyarrow")
    for dtype in ("int8[pyarrow]", "double[pyarrow]"):
        frame = pd.DataFrame(GIVEN, columns=list("abcd")).astype(dtype)
        matrix = LabelMatrix.encode(frame)
        assert matrix.names.tolist() == list("abcd")
        np.testing.assert_array_equal(matrix.values, GIVEN)
        with pytest.raises(ValueError, match=r"NaN or infinity.*from_nan"):
            LabelMatrix.encode(frame.mask(frame == 0))


def test_encoded_labels_are_returned_as_they_are():
    matrix = LabelMatrix.encode(GIVEN)
    assert LabelMatrix.encode(matrix) is matrix


def _read_only(Y):
    if sp.issparse(Y):
        for part in (Y.data, Y.indices, Y.indptr):
            part.flags.writeable = False
    else:
        Y.flags.writeable = False
    return Y


def test_input_is_not_touched():
    unsorted = sp.csr_array(
        (np.array([1, 0, -1, 1], dtype=np.int8), np.array([3, 1, 0, 2]), np.array([0, 3, 4])), shape=(2, 4)
    )
    before = [part.copy() for part in (unsorted.data, unsorted.indices, unsorted.indptr)]
    matrix = LabelMatrix.encode(_read_only(unsorted))
    for part, old in zip((unsorted.data, unsorted.indices, unsorted.indptr), before):
        np.testing.assert_array_equal(part, old)
    np.testing.assert_array_equal(matrix.toarray(), [[-1, 0, 0, 1], [0, 0, 1, 0]])
    matrix.cooccurrence()
    dense = LabelMatrix.encode(_read_only(GIVEN.copy()))
    dense.cooccurrence()
    np.testing.assert_array_equal(dense.values, GIVEN)


@pytest.mark.parametrize("values", [[1, 1], [1, -1], [1] * 257, [-1] * 257], ids=len)
@pytest.mark.parametrize("dtype", [np.int8, np.float64])
def test_duplicates_are_refused(values, dtype):
    # 257 times 1 is 1 in int8: adding up and looking at the sum is not enough.
    coo = sp.coo_array((np.array(values, dtype=dtype), (np.ones(len(values), int), np.zeros(len(values), int))), (3, 2))
    csr = sp.csr_array((coo.data, np.zeros(len(values), int), np.array([0, 0, len(values), len(values)])), shape=(3, 2))
    for Y in (coo, csr):
        with pytest.raises(ValueError, match="more than one value at row 1, label 0"):
            LabelMatrix.encode(Y)
        assert Y.nnz == len(values)


def test_stored_zeros_are_no_duplicates():
    coo = sp.coo_array((np.array([0, -1, 0]), (np.array([1, 1, 1]), np.array([0, 0, 0]))), (3, 2))
    np.testing.assert_array_equal(LabelMatrix.encode(coo).toarray(), [[0, 0], [-1, 0], [0, 0]])


@pytest.mark.parametrize(
    "Y, message",
    [
        ([1, 0], r"y must be a matrix of shape \(n_rows, n_labels\), got shape \(2,\)"),
        (np.zeros((2, 2, 2)), r"got shape \(2, 2, 2\)"),
        (np.zeros((0, 3)), "at least one row and one label"),
        (np.zeros((3, 0)), "at least one row and one label"),
        (sp.csr_array((0, 3)), "at least one row and one label"),
        (sp.coo_array(np.array([1, 0])), r"got shape \(2,\)"),
        ([[2, 0]], "Unknown label type: y holds 2; .*recode"),
        ([[0.5, 3, 0.25, -7]], r"Unknown label type: y holds -7.0, 0.25, 0.5;"),
        (np.array([[255, 0]], dtype=np.uint8), "y holds 255;"),
        (2 * np.array([[1, 0]], dtype=np.uint8) - 1, r"uint8\) cannot hold -1.*recode\(y, present=1, absent=0\)"),
        (2 * np.array([[1, 0]], dtype=np.uint16) - 1, r"y holds 65535;.*\(uint16\) cannot hold -1"),
        (np.array([[255, 7]], dtype=np.uint8), "y holds 7, 255; .*recode converts other codes"),
        (sp.csr_array([[3, 0]]), "y holds 3;"),
        ([[1, np.nan]], r"NaN or infinity.*0 means absent.*from_nan.*0 means unknown already.*y.fillna\(0\)"),
        ([[1, None]], "NaN or infinity.*from_nan"),
        ([[1, np.inf]], "NaN or infinity"),
        (sp.csr_array([[np.nan, 0]]), "NaN or infinity"),
        (pd.DataFrame({"a": pd.array([1, None], dtype="Int8")}), "NaN or infinity.*from_nan"),
        ([["cat"], ["dog"]], "Unknown label type: y holds 'cat', 'dog';.*from_names"),
        (np.array([["1", "0"]], dtype=object), "y holds '0', '1';.*from_names"),
        ([["cat"], ["dog", "cat"]], "rows of different lengths.*from_names"),
        ([[object()]], "values that are not numbers"),
        ([[1j]], "Unknown label type: y has dtype complex128"),
    ],
)
def test_errors(Y, message):
    with pytest.raises(ValueError, match=message):
        LabelMatrix.encode(Y)


FILES = [f"{i}.png" for i in range(6)]
SIGNS = [1, 0, -1, 1, 0, -1]
TICKS = ["x", None] * 3


@pytest.mark.parametrize(
    "columns, fault, cure",
    [
        ({"file": FILES, "cat": SIGNS}, "the column 'file'", r"y.drop\(columns=\['file'\]\)"),
        ({"file": FILES, "cat": TICKS}, "the column 'file'", r"y.drop\(columns=\['file'\]\)"),
        ({"sex": TICKS, "cat": SIGNS, "file": FILES}, "the columns 'sex', 'file'", r"\(columns=\['sex', 'file'\]\)"),
        ({"file": FILES, "other": FILES}, "text, such as '0.png'", "from_names, from_annotations and recode"),
        ({"cat": ["?", 1, 0, 0, 1, 0], "dog": SIGNS}, "'[?]' and numbers", r"recode\(y, present=..., absent=..., "),
        ({"cat": ["a", "b", "c"] * 2, "dog": TICKS}, "'a', 'b', 'c', 'x' and missing values", "what each value means"),
    ],
)
def test_text_in_a_table(columns, fault, cure):
    with pytest.raises(ValueError, match=f"y holds (text in )?{fault};.*{cure}"):
        LabelMatrix.encode(pd.DataFrame(columns))


@pytest.mark.parametrize(
    "column, answers",
    [(TICKS, ([1, 0], [1, -1])), (["yes", "no"], ([1, -1],)), (["no", "yes", np.nan], ([-1, 1, 0],))],
)
def test_text_that_stands_for_labels_is_converted_by_the_call_in_the_message(column, answers):
    y = pd.DataFrame({"cat": column, "dog": column}, dtype=object)
    with pytest.raises(ValueError) as caught:
        LabelMatrix.encode(y)
    calls = re.findall(r"skpartial\.labels\.(recode\(.*?\))", str(caught.value))
    assert len(calls) == len(answers)
    for call, answer in zip(calls, answers):
        converted = eval(call, {"recode": recode, "np": np, "y": y})
        assert LabelMatrix.encode(converted).values[: len(answer), 0].tolist() == answer


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="y_val holds 2"):
        LabelMatrix.encode([[2]], name="y_val")


def test_repr():
    assert repr(LabelMatrix.encode(GIVEN)) == "LabelMatrix(3 rows, 4 labels, 33.3% known)"


@pytest.mark.parametrize("make", [np.array, sp.csr_array, np.ndarray.tolist])
def test_torch_takes_rows_without_a_warning(make):
    """PyTorch warns of arrays that are read-only; by itself once a process only, hence a switch."""
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            taken = torch.from_numpy(LabelMatrix.encode(make(GIVEN)).rows(slice(0, 2)))
    finally:
        torch.set_warn_always(False)
    np.testing.assert_array_equal(taken.numpy(), GIVEN[:2])


@pytest.mark.parametrize(
    "make",
    [
        lambda: HUGE.toarray(),
        lambda: HUGE.rows(slice(None)),
        lambda: HUGE.cooccurrence(),
        lambda: cooccurrence(HUGE.values),
        lambda: from_annotations([(0, 0)], 1 << 30, n_labels=1 << 30),
        lambda: from_annotations([(0, 0)], 1 << 30, n_labels=1 << 30, output="pandas"),
        lambda: HUGE.rows(np.arange(1 << 19)),
    ],
    ids=["toarray", "rows", "cooccurrence", "function", "annotations", "pandas", "many_rows"],
)
def test_a_dense_matrix_that_cannot_fit_is_refused(make):
    with pytest.raises(
        ValueError, match=r"of shape \(\d+, \d+\) would take [\d,]+ GiB as a dense matrix, but there are"
    ):
        make()


def test_what_is_sparse_stays_so():
    assert HUGE.count(axis=1).sum() == 1
    assert from_annotations([(0, 0)], 1 << 20, n_labels=1 << 30, output="sparse").nnz == 1
    assert HUGE.take(slice(6)).values.nnz == 1
    # Codes by label look at these labels only.
    assert recode(HUGE.values, present={7: 2}, absent={7: 1}, unknown=0)[5, 7] == -1
