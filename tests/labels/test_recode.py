"""Other encodings, at the door."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn.model_selection import train_test_split

from skpartial.labels import LabelMatrix, from_nan, recode

pd = pytest.importorskip("pandas")

quick = settings(max_examples=40, deadline=None)

label_arrays = arrays(np.int8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([-1, 0, 1]))


def to_nan(Y):
    return np.where(Y == 0, np.nan, (Y + 1) / 2)


@quick
@given(Y=label_arrays)
def test_from_nan_undoes_to_nan(Y):
    answer = from_nan(to_nan(Y))
    assert answer.dtype == np.int8
    np.testing.assert_array_equal(answer, Y)


@quick
@given(Y=label_arrays, codes=st.permutations([0, 1, -1, 2, 7, 99]).map(lambda codes: codes[:3]))
def test_recode_undoes_any_coding(Y, codes):
    absent, unknown, present = codes
    coded = np.choose(Y + 1, [absent, unknown, present])
    np.testing.assert_array_equal(recode(coded, present=present, absent=absent, unknown=unknown), Y)
    words = np.array(["no", "?", "yes"])[Y + 1]
    np.testing.assert_array_equal(recode(words, present="yes", absent="no", unknown="?"), Y)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"cat": [1.0, np.nan, 0.0], "dog": [0.0, 1.0, np.nan]}, index=[5, 6, 7]),
        pd.DataFrame({"cat": [1, None, 0], "dog": [0, 1, None]}, index=[5, 6, 7], dtype="Int8"),
        pd.DataFrame({"cat": [True, None, False], "dog": [False, True, None]}, index=[5, 6, 7], dtype="boolean"),
        pd.DataFrame({"cat": [True, None, False], "dog": [0, 1, np.nan]}, index=[5, 6, 7], dtype=object),
    ],
    ids=["float", "Int8", "boolean", "object"],
)
def test_from_nan_of_a_frame(frame):
    before = frame.copy(deep=True)
    answer = from_nan(frame)
    expected = pd.DataFrame({"cat": [1, 0, -1], "dog": [-1, 1, 0]}, index=[5, 6, 7], dtype=np.int8)
    pd.testing.assert_frame_equal(answer, expected)
    pd.testing.assert_frame_equal(frame, before)
    train, _ = train_test_split(answer, random_state=0)
    assert LabelMatrix.encode(train).names.tolist() == ["cat", "dog"]


def test_from_nan_of_polars():
    pl = pytest.importorskip("polars")
    answer = from_nan(pl.DataFrame({"cat": [1, None, 0], "dog": [0, 1, None]}))
    assert isinstance(answer, pl.DataFrame)
    assert answer.columns == ["cat", "dog"]
    np.testing.assert_array_equal(answer.to_numpy(), [[1, -1], [0, 1], [-1, 0]])


def test_from_nan_of_arrow():
    pytest.importorskip("pyarrow")
    for dtype in ("int8[pyarrow]", "bool[pyarrow]", "double[pyarrow]"):
        frame = pd.DataFrame({"cat": [1, None, 0], "dog": [0, 1, None]}, index=[5, 6, 7], dtype=dtype)
        expected = pd.DataFrame({"cat": [1, 0, -1], "dog": [-1, 1, 0]}, index=[5, 6, 7], dtype=np.int8)
        pd.testing.assert_frame_equal(from_nan(frame), expected)


def test_from_nan_of_a_tensor():
    np.testing.assert_array_equal(from_nan(torch.tensor([[1.0, 0.0, float("nan")]])), [[1, -1, 0]])


def test_several_codes_and_missing_values():
    Y = np.array([["yes", "no", None], ["likely", "?", np.nan]], dtype=object)
    np.testing.assert_array_equal(
        recode(Y, present=["yes", "likely"], absent="no", unknown=["?", np.nan]), [[1, -1, 0], [1, 0, 0]]
    )
    nullable = pd.DataFrame({"cat": pd.array([1, 0, None], dtype="Int8")})
    np.testing.assert_array_equal(recode(nullable, present=1, absent=0, unknown=pd.NA), [[1], [-1], [0]])
    with pytest.raises(ValueError, match="<NA> is given as absent and as unknown"):
        recode(nullable, present=1, absent=[0, np.nan], unknown=pd.NA)
    # A missing value can also mean absence: whoever passes the labels knows.
    np.testing.assert_array_equal(recode([[1.0, np.nan]], present=1, absent=np.nan), [[1, -1]])


@quick
@given(Y=label_arrays, data=st.data())
def test_every_label_may_have_codes_of_its_own(Y, data):
    # A code for each sign of each label; what an argument says of all labels gives way.
    codes = [data.draw(st.permutations([0, 1, -1, 2])) for _ in range(Y.shape[1])]
    coded = np.column_stack([np.choose(Y[:, j] + 1, codes[j][:3]) for j in range(Y.shape[1])])
    by_label = {
        name: {j: codes[j][k] for j in range(Y.shape[1])} for k, name in enumerate(["absent", "unknown", "present"])
    }
    np.testing.assert_array_equal(recode(coded, **by_label), Y)
    names = [f"label {j}" for j in range(Y.shape[1])]
    named = {name: {names[j]: code for j, code in of.items()} for name, of in by_label.items()}
    answer = recode(pd.DataFrame(coded, columns=names), **named)
    np.testing.assert_array_equal(answer, Y)
    # One label of its own, the others as all.
    same = np.choose(Y + 1, [0, 9, 1])
    same[:, 0] = np.where(Y[:, 0] == 1, 9, same[:, 0])
    np.testing.assert_array_equal(recode(same[:, :1], present={0: [1, 9]}, absent=0), np.where(Y[:, :1] == -1, -1, 1))
    np.testing.assert_array_equal(recode(same, present={0: [1, 9]}, absent=0, unknown=9)[:, 1:], Y[:, 1:])


def test_codes_by_label_of_sparse_labels():
    coded = sp.csr_array(np.array([[1, 2], [2, 0]]))
    answer = recode(coded, present={0: [1, 2]}, absent={1: 2}, unknown=0)
    np.testing.assert_array_equal(answer.toarray(), [[1, -1], [1, 0]])


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, [None], ["?", None]])
def test_missing_values_are_unknown_by_any_name(missing):
    pl = pytest.importorskip("polars")
    columns = {"cat": [1, None, 0], "dog": [0, 1, None]}
    for frame in (pl.DataFrame(columns), pd.DataFrame(columns), pd.DataFrame(columns, dtype="Int8")):
        answer = recode(frame, present=1, absent=0, unknown=missing)
        assert type(answer) is type(frame)
        np.testing.assert_array_equal(answer.to_numpy(), [[1, -1], [0, 1], [-1, 0]])
    with pytest.raises(ValueError, match="none of present=1, absent=0 covers"):
        recode(pd.DataFrame(columns), present=1, absent=0)


def test_shares_and_a_threshold():
    shares = np.array([[1, 0.67, 0.5], [0.33, 0, np.nan]])
    for Y in (shares, pd.DataFrame(shares, dtype=object)):
        answer = recode(Y, present=1, absent=0, unknown=np.nan, threshold=0.67)
        np.testing.assert_array_equal(answer, [[1, 1, 0], [-1, -1, 0]])
        answer = recode(Y, present=1, absent=0, unknown=np.nan, threshold=(0.4, 0.4))
        np.testing.assert_array_equal(answer, [[1, 1, 1], [-1, -1, 0]])
    np.testing.assert_array_equal(recode([[0.5, 0.51]], present=1, absent=0, threshold=0.5), [[0, 1]])


def test_input_is_not_touched():
    Y = np.array([[1, None], [0, np.nan]], dtype=object)
    Y.flags.writeable = False
    np.testing.assert_array_equal(from_nan(Y), [[1, 0], [-1, 0]])
    sparse = sp.csr_array(np.array([[2, 0], [0, 1]]))
    sparse.data.flags.writeable = False
    recode(sparse, present=2, absent=1, unknown=0)
    np.testing.assert_array_equal(sparse.toarray(), [[2, 0], [0, 1]])


@quick
@given(Y=label_arrays)
def test_sparse_recode(Y):
    coded = np.choose(Y + 1, [2, 0, 1])
    coded[0, Y[0] == 0] = 9
    answer = recode(sp.coo_array(coded), present=1, absent=2, unknown=[0, 9])
    assert answer.format == "csr"
    assert answer.dtype == np.int8
    assert answer.nnz == np.count_nonzero(Y)
    np.testing.assert_array_equal(answer.toarray(), Y)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
@pytest.mark.parametrize("form", [np.asarray, pd.DataFrame, sp.csr_array, sp.coo_array, sp.csc_matrix])
def test_complete_labels_of_any_form_and_type(form, dtype):
    answer = recode(form(np.array([[1, 0, 0], [0, 1, 0]], dtype=dtype)), present=1, absent=0)
    assert np.asarray(answer).dtype == np.int8
    np.testing.assert_array_equal(answer, [[1, -1, -1], [-1, 1, -1]])


@pytest.mark.parametrize(
    "Y, codes, message",
    [
        ([[1, 0], [2, 0]], {"present": 1, "absent": 0}, r"Y holds 2 at row 1, label 0, .*present=1, absent=0"),
        ([[1, np.nan]], {"present": 1, "absent": 0}, "Y holds nan at row 0, label 1"),
        ([[1, -1, 0]], {"present": 1, "absent": 0, "unknown": np.nan}, "Y holds -1 at row 0, label 1"),
        ([[1, 0]], {"present": 1, "absent": 0, "unknown": [5, 0]}, "0 is given as absent and as unknown"),
        ([[1, 0]], {"present": 1, "absent": True}, "True is given as present and as absent"),
        ([[1, 0]], {"present": 1, "absent": np.nan}, "Y holds 0 at row 0, label 1"),
        ([[1, 0]], {"present": None, "absent": 0}, "present must be the code"),
        ([1, 0], {"present": 1, "absent": 0}, r"got shape \(2,\)"),
        (sp.csr_array([[1, 0]]), {"present": 1, "absent": 2}, "implicit zeros of a sparse Y are without a code"),
        ([[1, 0]], {"present": {2: 1}, "absent": 0}, "present has codes for the label 2, which is not one of 0, 1"),
        ([[1, 0]], {"present": {0: 1}, "absent": {0: 1}}, "1 is given as present and as absent"),
        ([[1, 0]], {"present": {0: 2}, "absent": 1}, "1 is given as present and as absent"),
        (
            [[0.67, 0]],
            {"present": 1, "absent": 0},
            "Y holds 0.67 at row 0, label 0, .*a share of annotators, pass thresh",
        ),
        ([[0.67]], {"present": 1, "absent": -1, "threshold": 0.5}, "threshold is for shares between absent=0 and "),
        ([[0.67]], {"present": {0: 1}, "absent": 0, "threshold": 0.5}, "cannot be combined with codes per label"),
        ([[0.67]], {"present": 1, "absent": 0, "threshold": 2}, "threshold must be a number in"),
        ([[1.5]], {"present": 1, "absent": 0, "threshold": 0.5}, "Y holds 1.5 at row 0"),
        (sp.csr_array([[1, 0, 3]]), {"present": 1, "unknown": 0}, "Y holds 3 at row 0, label 2"),
    ],
)
def test_errors(Y, codes, message):
    with pytest.raises(ValueError, match=message):
        recode(Y, **codes)


def test_one_label_is_a_table_of_one_column():
    for values, advice in (
        (pd.Series([1.0, np.nan]), r"Y\.to_frame\(\)"),
        (np.array([1.0, np.nan]), r"pandas.DataFrame\(Y\)"),
        ([1.0, np.nan], r"pandas.DataFrame\(Y\)"),
    ):
        with pytest.raises(ValueError, match=rf"got shape \(2,\)\. For one label, pass {advice}\."):
            from_nan(values)


def test_errors_name_the_column():
    table = pd.DataFrame({"cat": [1, 2], "file": ["a.png", "b.png"]})
    with pytest.raises(ValueError, match="Y holds 2 at row 1, label 'cat'"):
        recode(table[["cat"]], present=1)
    for convert in (from_nan, lambda Y: recode(Y, present=[1, 2])):
        with pytest.raises(ValueError, match=r"a.png at row 0, label 'file'.*if 'file' is not a column"):
            convert(table.replace(2, 1))


def test_from_nan_does_not_guess():
    hint = r"if -1 is absent and 0 unknown already, fill NaN with 0 instead, Y.fillna\(0\)"
    with pytest.raises(ValueError, match=f"Y holds -1.0 at row 0, label 1, which none of present=1, absent=0.*{hint}"):
        from_nan([[1, -1, np.nan]])
    with pytest.raises(ValueError, match="covers; define it by the arguments"):
        recode([[1, -1]], present=1)
    with pytest.raises(ValueError, match="Y holds 1 at row"):
        from_nan([["1", "0"]])
