"""Label matrices from annotations, names and classes."""

from __future__ import annotations

import sys
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn.datasets import load_svmlight_file
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MultiLabelBinarizer, label_binarize

from skpartial.labels import LabelMatrix, from_annotations, from_classes, from_names, recode

pd = pytest.importorskip("pandas")

quick = settings(max_examples=40, deadline=None)

label_arrays = arrays(np.int8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([-1, 0, 1]))
TRIPLES = [(0, "cat", 1), (0, "dog", -1), (2, "dog", True), (3, "ant", False)]
EXPECTED = np.array([[0, 1, -1], [0, 0, 0], [0, 0, 1], [-1, 0, 0]], dtype=np.int8)


@quick
@given(Y=label_arrays, shuffle=st.randoms(use_true_random=False), repeats=st.integers(1, 3))
def test_annotations_undo_taking_a_matrix_apart(Y, shuffle, repeats):
    names = [f"label {j}" for j in range(Y.shape[1])]
    files = [f"{i}.jpg" for i in range(Y.shape[0])]
    rows, columns = np.nonzero(Y)
    triples = list(zip(rows.tolist(), columns.tolist(), Y[rows, columns].tolist())) * repeats
    shuffle.shuffle(triples)
    size = {"n_rows": Y.shape[0], "n_labels": Y.shape[1], "output": "dense"}
    np.testing.assert_array_equal(from_annotations(triples, **size), Y)
    np.testing.assert_array_equal(from_annotations(iter(triples), **size), Y)
    np.testing.assert_array_equal(from_annotations(np.array(triples).reshape(-1, 3), **size), Y)
    np.testing.assert_array_equal(from_annotations(np.array(triples, dtype=float).reshape(-1, 3), **size), Y)
    named = [(files[i], names[j], value == 1) for i, j, value in triples]
    sparse = from_annotations(named, label_names=names, row_names=files, output="sparse")
    assert sparse.format == "csr"
    assert sparse.dtype == np.int8
    assert sparse.nnz == len(rows)
    assert sparse.has_canonical_format
    np.testing.assert_array_equal(sparse.toarray(), Y)
    frame = pd.DataFrame(named, columns=["row", "label", "value"])
    np.testing.assert_array_equal(from_annotations(frame, label_names=names, row_names=files), Y)
    np.testing.assert_array_equal(
        from_annotations(frame.to_dict("records"), label_names=names, row_names=files), Y, strict=True
    )


@quick
@given(Y=label_arrays, data=st.data())
def test_names_of_any_type_are_looked_up_by_value(Y, data):
    # Numbers are the point: shuffled positions must be names like any others, not positions.
    size = max(Y.shape)
    kinds = {
        "numbers": list(range(size)),
        "large": [1000 + i for i in range(size)],
        "floats": [i / 2 for i in range(size)],
        "tuples": [("album", i) for i in range(size)],
        "dates": list(pd.date_range("2024-01-01", periods=size)),
    }
    row_names, label_names = (
        data.draw(st.permutations(kinds[data.draw(st.sampled_from(sorted(kinds)))][:length])) for length in Y.shape
    )
    rows, columns = np.nonzero(Y)
    triples = [(row_names[i], label_names[j], int(Y[i, j])) for i, j in zip(rows, columns)]
    found, names = from_annotations(triples, row_names=row_names, label_names=label_names, return_names=True)
    np.testing.assert_array_equal(found, Y, strict=True)
    assert names == [str(name) for name in label_names]
    if triples:
        frame = pd.DataFrame({"row": [t[0] for t in triples], "label": [t[1] for t in triples], "value": 1})
        frame["value"] = [t[2] for t in triples]
        as_frame = from_annotations(frame, row_names=pd.Index(row_names, tupleize_cols=False), label_names=label_names)
        np.testing.assert_array_equal(as_frame, Y)


def test_numpy_and_pandas_integers_are_the_same_names():
    Y = [[0], [1]]
    for kind in (np.int64, np.int32, float, int):
        np.testing.assert_array_equal(from_annotations([(kind(7), "cat", 1)], row_names=np.array([8, 7])), Y)
        frame = pd.DataFrame({"row": np.array([7], dtype=kind), "label": ["cat"], "value": [1]})
        np.testing.assert_array_equal(from_annotations(frame, row_names=pd.Index([8, 7])), Y)


def test_identifiers_are_not_taken_for_positions():
    annotations = [(1000 + i, "cat", 1) for i in range(300)]
    with pytest.raises(ValueError, match=r"up to 1299, but only 300 of these occur.*row_names.*n_rows"):
        from_annotations(annotations)
    assert from_annotations(annotations, n_rows=1300).shape == (1300, 1)
    assert from_annotations(annotations, row_names=range(1000, 1300)).sum() == 300
    with pytest.raises(ValueError, match=r"labels .* up to 2, but only 1 .*label_names.*n_labels"):
        from_annotations([(0, 2, 1)])
    assert from_annotations([(0, 1, 1), (1, 1, 1), (3, 1, 1)]).shape == (4, 2)


@quick
@given(Y=label_arrays)
def test_values_of_any_coding(Y):
    size = {"n_rows": Y.shape[0], "n_labels": Y.shape[1]}
    for present, absent, unknown in [(1, 0, -1), ("yes", "no", "?"), (1, 0, np.nan), (0, 1, None)]:
        codes = {1: present, -1: absent, 0: unknown}
        triples = [(i, j, codes[int(Y[i, j])]) for i, j in np.ndindex(Y.shape) if Y[i, j] or unknown is not None]
        found = from_annotations(triples, present=present, absent=absent, unknown=unknown, **size)
        np.testing.assert_array_equal(found, Y, strict=True)
        frame = pd.DataFrame(triples, columns=["photo", "species", "seen"])
        columns = {"columns": ("photo", "species", "seen")}
        if len(frame):
            found = from_annotations(frame, present=present, absent=absent, unknown=unknown, **columns, **size)
            np.testing.assert_array_equal(found, Y)


def test_several_codes_booleans_and_missing_values():
    words = [("likely", 1), ("yes", 1), ("no", -1), ("?", 0), (None, 0)]
    triples = [(0, j, word) for j, (word, _) in enumerate(words)]
    found = from_annotations(triples, present=["yes", "likely"], absent="no", unknown=["?", np.nan])
    np.testing.assert_array_equal(found, [[sign for _, sign in words]])
    # False equals 0, which must not make it unknown or, with other codes, absent.
    found = from_annotations([(0, 0, False), (0, 1, 0), (0, 2, True)], unknown=0)
    np.testing.assert_array_equal(found, [[-1, 0, 1]])
    for value in (True, False):
        with pytest.raises(ValueError, match=f"value of annotation 0 is {value}, which none of present='yes'"):
            from_annotations([(0, 0, value)], present="yes", absent="no")
    nullable = pd.DataFrame({"row": [0, 1, 2], "label": "a", "value": pd.array([1, 0, None], dtype="Int8")})
    np.testing.assert_array_equal(from_annotations(nullable, absent=0, unknown=pd.NA), [[1], [-1], [0]])
    # What is unknown to one annotator contradicts nothing.
    np.testing.assert_array_equal(from_annotations([(0, 0, "?"), (0, 0, 1), (0, 0, "?")], unknown="?"), [[1]])


def test_outputs_and_names():
    sparse, names = from_annotations(TRIPLES, output="sparse", return_names=True)
    assert names == ["ant", "cat", "dog"]
    assert isinstance(sparse, sp.csr_array)
    np.testing.assert_array_equal(sparse.toarray(), EXPECTED)
    dense = from_annotations(TRIPLES)
    assert isinstance(dense, np.ndarray)
    assert dense.dtype == np.int8
    np.testing.assert_array_equal(dense, EXPECTED)
    frame = from_annotations(TRIPLES, output="pandas")
    pd.testing.assert_frame_equal(frame, pd.DataFrame(EXPECTED, columns=names))
    longer = from_annotations(TRIPLES, n_rows=6, label_names=["dog", "cat", "cow", "ant"])
    assert longer.shape == (6, 4)
    np.testing.assert_array_equal(longer[:4, [3, 1, 0]], EXPECTED)
    assert not longer[4:].any()
    assert not longer[:, 2].any()
    assert from_annotations([(0, 1, 1)], return_names=True)[1] is None


def test_row_names_become_the_index():
    frame = from_annotations(
        [("b.jpg", "cat", 1), ("a.jpg", "dog", -1)], row_names=["a.jpg", "b.jpg", "c.jpg"], output="pandas"
    )
    expected = pd.DataFrame({"cat": [0, 1, 0], "dog": [-1, 0, 0]}, index=["a.jpg", "b.jpg", "c.jpg"], dtype=np.int8)
    pd.testing.assert_frame_equal(frame, expected)


def test_frames_of_polars():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"value": [True, False], "label": ["cat", "dog"], "row": [0, 1], "who": ["x", "y"]})
    np.testing.assert_array_equal(from_annotations(frame), [[1, 0], [0, -1]])
    renamed = frame.rename({"row": "photo"})
    found = from_annotations(renamed, columns=("photo", "label", "value"), row_names=pl.Series([1, 0]))
    np.testing.assert_array_equal(found, [[0, -1], [1, 0]])


@pytest.mark.parametrize("output", ["dense", "sparse", "pandas"])
def test_the_matrix_survives_a_split(output):
    Y = from_annotations(TRIPLES, output=output)
    train, test, first, second = train_test_split(Y, np.arange(4), random_state=0)
    for part, rows in ((train, first), (test, second)):
        encoded = LabelMatrix.encode(part)
        np.testing.assert_array_equal(encoded.toarray(), EXPECTED[rows])
        assert (encoded.names is not None) == (output == "pandas")


@pytest.mark.parametrize("make", [from_annotations, from_names, from_classes])
def test_pandas_is_optional(make, monkeypatch):
    arguments = {from_annotations: TRIPLES, from_names: [["a"]], from_classes: ["a"]}[make]
    monkeypatch.setitem(sys.modules, "pandas", None)
    make(arguments)
    with pytest.raises(ImportError, match="output='pandas' needs pandas"):
        make(arguments, output="pandas")
    with pytest.raises(ValueError, match="output must be 'dense', 'sparse' or 'pandas', got 'csr'"):
        make(arguments, output="csr")


@pytest.mark.parametrize(
    "annotations, options, message",
    [
        ([(0, "cat", 1), (1, "cat", 1), (1, "cat", -1)], {}, "both present and absent for row 1, label 'cat'"),
        ([(0, 1, True), (0, 1, False)], {}, "both present and absent for row 0, label 1"),
        (
            [("b", "cat", 1), ("b", "cat", -1)],
            {"row_names": ["a", "b"], "label_names": ["cat"]},
            "both present and absent for row 'b', label 'cat'",
        ),
        (
            [(0, "cat", 0)],
            {},
            "value of annotation 0 is 0, which none of present=1, absent=-1 covers.*absent=0 if 0",
        ),
        ([(0, "cat", 1), (0, "dog", None)], {}, "value of annotation 1 is None"),
        ([(0, "cat", "1")], {}, "value of annotation 0 is '1'"),
        ([(0, "cat", 1)], {"present": "yes", "absent": "yes"}, "'yes' is given as present and as absent"),
        ([(0, "cat", 1)], {"present": None}, "present must be the code"),
        ([(0, "cat", 2.5)], {}, "value of annotation 0 is 2.5"),
        (
            pd.DataFrame({"row": [0], "label": ["a"], "value": pd.array([None], dtype="Int8")}),
            {},
            "annotation 0 is nan",
        ),
        ([(0, "cow", 1)], {"label_names": ["cat"]}, "label 'cow' of annotation 0 is not in label_names"),
        ([(0, 0, 1)], {"label_names": ["cat"]}, "label 0 of annotation 0 is not in label_names, which holds 'cat'"),
        ([(0, 1, 1)], {"n_labels": 1}, "label 1 of annotation 0 is outside 0 to 0"),
        ([(0, "cat", 1), (0, 1, 1)], {}, "label of annotation 1 is 1, but others are strings: pass label_names"),
        ([(0, [1], 1)], {}, r"label of annotation 0 must be a position, or one of label_names; got \[1\]"),
        ([(0, None, 1)], {}, r"label of annotation 0 is missing \(None\): leave out .*dropna\(subset=\['label'\]\)"),
        ([(0, "cat", 1), (0, np.nan, 1)], {}, r"label of annotation 1 is missing \(nan\): leave out annotations"),
        ([(0, "cat", 1), (0, None, 1)], {"label_names": ["cat"]}, "label of annotation 1 is missing"),
        ([(np.nan, "cat", 1)], {"row_names": ["a"]}, r"row of annotation 0 is missing \(nan\): .*\['row'\]"),
        ([(np.nan, "cat", 1)], {}, "row of annotation 0 is missing"),
        ([(0, "cat", 1)], {"n_labels": 3}, "label 'cat' of annotation 0 is a name, but label_names is None"),
        ([(4, 0, 1)], {"n_rows": 4}, "row 4 of annotation 0 is outside 0 to 3.*pass row_names if it is an ident"),
        ([(-1, 0, 1)], {}, "row -1 of annotation 0 is negative"),
        ([("a.jpg", 0, 1)], {}, "row 'a.jpg' of annotation 0 is a name, but row_names is None"),
        ([("x", 0, 1)], {"row_names": ["a"]}, "row 'x' of annotation 0 is not in row_names"),
        ([(0, "cat", 1)], {"row_names": [7, 8]}, "row 0 of annotation 0 is not in row_names, which holds 7, 8: add"),
        ([("7", "cat", 1)], {"row_names": [7, 8, 9, 10]}, "row '7' of .* not in row_names, which holds 7, 8, 9, ...:"),
        ([([7], "cat", 1)], {"row_names": [7]}, "rows of annotations must be hashable"),
        ([(0.5, 0, 1)], {}, "row of annotation 0 must be a position, or one of row_names; got 0.5"),
        ([(True, 0, 1)], {}, "row of annotation 0 must be a position, or one of row_names; got True"),
        (
            [(0,)],
            {},
            r"triples \(row, label, value\), pairs \(row, label\) of positives, or dicts, got \(0,\) at position 0",
        ),
        ([(0, "cat"), (0, "dog", 1)], {}, "of positives; there are 2 fields at position 0 and 3 at position 1"),
        ([(0, "cat")], {"absent": 0}, "absent=0 has no effect on annotations that are pairs .* without values"),
        ([(0, "cat")], {"unknown": "?"}, "unknown='\\?' has no effect"),
        ([(0, "cat")], {"aggregate": "mean"}, "aggregate='mean' has no effect"),
        ([(0, "cat", 0.67)], {"absent": 0}, "value of annotation 0 is 0.67, .*by the arguments threshold"),
        ([(0, "cat", 0.67)], {"threshold": 0.67}, "threshold is for shares between absent=0 and present=1, but"),
        ([(0, "cat", 1)], {"absent": 0, "threshold": 0.3}, r"threshold must be a number in \[0.5, 1\], or a pair"),
        ([(0, "cat", 1)], {"absent": 0, "threshold": (0.6, 0.4)}, "in ascending order, got"),
        ([(0, "cat", 1)], {"aggregate": "median"}, "aggregate must be 'mean', got 'median'"),
        ([(0, "cat", 1)], {"present": {"cow": 1}}, "present has codes for the label 'cow', which is not one of 'cat'"),
        (["cat"], {}, "got 'cat' at position 0"),
        ([3], {}, "got 3 at position 0"),
        ({"cat": [1, 0]}, {}, "annotations is a dict; pass a list of triples"),
        (
            [{"row": 0, "label": "cat"}],
            {},
            r"Annotation 0 has no 'value'; its keys are \['row', 'label'\].* by columns=",
        ),
        ([(0, 0, 1)], {"columns": "photo"}, r"columns must name .*rows and labels for positives only; got 'photo'"),
        ([(0, 0, 1)], {"columns": ("a", "b", "a")}, "columns must name .*got"),
        (np.zeros((3, 4)), {}, r"shape \(n_annotations, 3\), .* or \(n_annotations, 2\)"),
        (
            pd.DataFrame({"image": [0], "label": [0]}),
            {},
            "annotations has no column 'row'; its columns are .*'image'.* by columns=",
        ),
        ([], {}, "annotations is empty"),
        ([(0, 0, 1)], {"n_rows": 3, "row_names": ["a"]}, "n_rows is 3, but row_names has 1"),
        ([(0, 0, 1)], {"n_labels": 3, "label_names": ["a"]}, "n_labels is 3, but label_names has 1"),
        ([(0, 0, 1)], {"label_names": "cat"}, "label_names must be a list of names, got the string 'cat'"),
        ([(0, 0, 1)], {"label_names": ["cat", "cat"]}, "label_names holds 'cat' more than once"),
        ([(0, 1, 1)], {"label_names": [1, "1"]}, "label_names holds '1' more than once"),
        ([(0, 0, 1)], {"row_names": [1, 2, 1]}, "row_names holds 1 more than once"),
        ([(0, 0, 1)], {"row_names": [1, np.nan]}, "row_names has a missing value at position 1"),
        ([(0, 0, 1)], {"row_names": [[1]]}, "row_names must hold hashable values"),
    ],
)
def test_annotation_errors(annotations, options, message):
    with pytest.raises(ValueError, match=message):
        from_annotations(annotations, **options)


@quick
@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=4), min_size=1, max_size=6))
def test_from_names_agrees_with_multilabel_binarizer(rows):
    names = list("fedcba")
    expected = MultiLabelBinarizer(classes=names).fit_transform(rows)
    for form in (rows, map(set, rows), map(tuple, rows)):
        answer = from_names(form, names)
        assert answer.dtype == np.int8
        np.testing.assert_array_equal(answer, expected)
    np.testing.assert_array_equal(from_names(rows, names, output="sparse").toarray(), expected)
    if any(rows):
        Y, found = from_names(rows, return_names=True)
        assert found == sorted({name for row in rows for name in row})
        np.testing.assert_array_equal(Y, expected[:, [names.index(name) for name in found]])


@quick
@given(Y=label_arrays, data=st.data())
def test_names_of_any_type_are_taken(Y, data):
    kinds = {
        "numbers": list(range(9)),
        "floats": [float(j) for j in range(9)],
        "tuples": [("chest", j) for j in range(9)],
        "dates": list(pd.date_range("2024-01-01", periods=9)),
    }
    names = kinds[data.draw(st.sampled_from(sorted(kinds)))][: Y.shape[1]]
    shuffled = data.draw(st.permutations(names))
    rows = [tuple(names[j] for j in np.flatnonzero(row == 1)) for row in Y]
    expected = (Y == 1).astype(np.int8)
    found, given_names = from_names(rows, shuffled, return_names=True)
    np.testing.assert_array_equal(found[:, [shuffled.index(name) for name in names]], expected)
    assert given_names == [str(name) for name in shuffled]
    # Presences listed as pairs are the same, and so are numbers of another type.
    pairs = [(i, name) for i, row in enumerate(rows) for name in row]
    np.testing.assert_array_equal(from_annotations(pairs, n_rows=len(Y), label_names=names), expected, strict=True)
    if isinstance(names[0], float):
        np.testing.assert_array_equal(from_names(map(np.array, rows), np.arange(len(names))), expected)
    if expected.any(axis=0).all():
        np.testing.assert_array_equal(from_names(rows), expected)


def test_from_names_takes_what_svmlight_files_hold(tmp_path):
    path = tmp_path / "labels.svm"
    path.write_text("0,2 1:0.5\n1 2:1.0\n 1:1.0\n")
    _, y = load_svmlight_file(path, multilabel=True)
    np.testing.assert_array_equal(from_names(y, label_names=range(4)), [[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(from_names(y), [[1, 0, 1], [0, 1, 0], [0, 0, 0]])


def test_pairs_of_every_form():
    # As in COCO: several boxes of one category on an image, identifiers for both.
    boxes = [{"image_id": 9, "category_id": 18, "bbox": [0, 0, 1, 1]}] * 2 + [{"image_id": 7, "category_id": 1}]
    names = {"row_names": [7, 8, 9], "label_names": [1, 18]}
    expected = np.array([[1, 0], [0, 0], [0, 1]], dtype=np.int8)
    columns = ("image_id", "category_id")
    pairs = [(box["image_id"], box["category_id"]) for box in boxes]
    for form in (pairs, np.array(pairs), iter(pairs)):
        np.testing.assert_array_equal(from_annotations(form, **names), expected, strict=True)
    for form in (boxes, pd.DataFrame(boxes)):
        np.testing.assert_array_equal(from_annotations(form, columns=columns, **names), expected, strict=True)
    frame = from_annotations(pairs, output="pandas", **names)
    assert frame.columns.tolist() == ["1", "18"]


@pytest.mark.parametrize("key", ["list", "tuple"])
def test_composite_keys(key):
    table = pd.DataFrame(
        {
            "patient": ["a", "a", "b"],
            "study": [1, 2, 1],
            "finding": ["x", "y", "x"],
            "side": [0, 1, 1],
            "says": [1, -1, 1],
        }
    )
    index = pd.MultiIndex.from_frame(table[["patient", "study"]])
    keys = {"list": list, "tuple": tuple}[key]
    columns = (keys(["patient", "study"]), keys(["finding", "side"]), "says")
    expected = np.diag([1, -1, 1])
    names = [("x", 0), ("y", 1), ("x", 1)]
    for form in (table, table.to_dict("records")):
        found = from_annotations(form, columns=columns, row_names=index, label_names=names)
        np.testing.assert_array_equal(found, expected)
        found = from_annotations(form, columns=columns[:2], row_names=index, label_names=names)
        np.testing.assert_array_equal(found, np.eye(3))
    with pytest.raises(ValueError, match="annotations has no column 'site'; its columns are"):
        from_annotations(table, columns=(["patient", "site"], "finding", "says"))


@quick
@given(
    votes=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from(["yes", "no", "?"])), min_size=1),
    threshold=st.sampled_from([None, 0.5, 0.6, 2 / 3, 1.0, (0.0, 0.5), (0.2, 0.8)]),
)
def test_the_share_of_annotators_decides(votes, threshold):
    codes = {"present": "yes", "absent": "no", "unknown": "?"}
    found = from_annotations(votes, 4, n_labels=3, aggregate="mean", threshold=threshold, **codes)
    low, high = (
        (0.5, 0.5) if threshold is None else threshold if isinstance(threshold, tuple) else (1 - threshold, threshold)
    )
    for i, j in np.ndindex(4, 3):
        said = [vote == "yes" for row, label, vote in votes if (row, label) == (i, j) and vote != "?"]
        share = Fraction(sum(said), len(said)) if said else None
        near = 1e-9
        expected = 0 if share is None else int(share >= high - near) - int(share <= low + near)
        assert found[i, j] == expected
    numbers = [(i, j, {"yes": 1, "no": 0, "?": None}[vote]) for i, j, vote in votes]
    same = from_annotations(numbers, 4, n_labels=3, absent=0, unknown=None, aggregate="mean", threshold=threshold)
    np.testing.assert_array_equal(same, found)


def test_values_that_are_shares():
    shares = [1.0, 0.67, 0.5, 0.33, 0, None]
    triples = [(0, j, share) for j, share in enumerate(shares)]
    codes = {"absent": 0, "unknown": None}
    for extra in ({}, {"aggregate": "mean"}):
        found = from_annotations(triples, threshold=0.67, **codes, **extra)
        np.testing.assert_array_equal(found, [[1, 1, 0, -1, -1, 0]])
        found = from_annotations(triples, threshold=(0.0, 0.5), **codes, **extra)
        np.testing.assert_array_equal(found, [[1, 1, 1, 0, -1, 0]])
    # Shares are averaged before they decide.
    np.testing.assert_array_equal(from_annotations([(0, 0, 0.9), (0, 0, 0.2)], absent=0, aggregate="mean"), [[1]])
    with pytest.raises(
        ValueError, match="both present and absent for row 0, label 0: resolve it, or pass aggregate='mean'"
    ):
        from_annotations([(0, 0, 0.9), (0, 0, 0.2)], absent=0, threshold=0.5)


def test_codes_by_label():
    triples = [(0, "Edema", -1), (0, "Fracture", -1), (1, "Edema", 0), (1, "Fracture", 1)]
    found = from_annotations(triples, present={"Edema": [1, -1]}, absent=0, unknown=-1)
    np.testing.assert_array_equal(found, [[1, 0], [-1, 1]])
    frame = pd.DataFrame({"Edema": [-1, 0], "Fracture": [-1, 1]})
    same = recode(frame, present={"Edema": [1, -1]}, absent=0, unknown=-1)
    np.testing.assert_array_equal(same, found)


def test_from_names_takes_a_series():
    frame = from_names(pd.Series([["cat"], [], {"dog"}]), output="pandas")
    pd.testing.assert_frame_equal(frame, pd.DataFrame({"cat": [1, 0, 0], "dog": [0, 0, 1]}, dtype=np.int8))


def test_the_index_of_a_series_is_kept():
    index = pd.Index(["b.jpg", "a.jpg"], name="photo")
    names = from_names(pd.Series([["cat"], []], index=index), output="pandas")
    pd.testing.assert_frame_equal(names, pd.DataFrame({"cat": [1, 0]}, index=index, dtype=np.int8))
    classes = from_classes(pd.Series(["dog", "cat"], index=index), output="pandas")
    pd.testing.assert_frame_equal(classes, pd.DataFrame({"cat": [0, 1], "dog": [1, 0]}, index=index, dtype=np.int8))


@pytest.mark.parametrize(
    "present, names, message",
    [
        ([["cat"], "dog"], None, r"Row 1 of present must be a list of names, .* got 'dog'"),
        ([["cat"], None], None, "Row 1 of present must be a list of names, .* got None"),
        ([["cat", 3]], None, "names of different types, which cannot be sorted: pass label_names"),
        (
            [[1, 0, 0], [0, 0, 1]],
            None,
            "Row 0 of present holds 0 2 times, .* matrix of 0 and 1 use skpartial.labels.rec",
        ),
        ([[1.0, np.nan]], None, "Row 0 of present holds nan: leave missing names out"),
        ([[["cat"]]], None, "Row 0 of present holds a name that is not hashable"),
        ([[1.0]], [1, "1"], "label_names holds '1' more than once"),
        (pd.DataFrame({"labels": [["cat"]]}), None, "present is a DataFrame: pass the column"),
        ([["cat"], ["cow"]], ["cat"], "Row 1 of present holds 'cow', which is not in label_names"),
        ({"a.jpg": ["cat"]}, None, r"present is a dict: pass list\(present.values\(\)\)"),
        ([[], []], None, "names no label"),
        ([], ["cat"], "names no label"),
    ],
)
def test_from_names_errors(present, names, message):
    with pytest.raises(ValueError, match=message):
        from_names(present, names)


@quick
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12))
def test_from_classes_agrees_with_label_binarize(y):
    classes = [3, -3, 2, -2, 1, -1, 0]
    expected = label_binarize(y, classes=classes)
    for form in (y, np.array(y), np.array(y, dtype=float), pd.Series(y, dtype=int), torch.tensor(y)):
        np.testing.assert_array_equal(from_classes(form, classes), expected)
    Y, names = from_classes(y, return_names=True)
    assert names == [str(kind) for kind in np.unique(y)]
    np.testing.assert_array_equal(Y, np.equal.outer(y, np.unique(y)))
    assert Y.dtype == np.int8
    np.testing.assert_array_equal(from_classes(y, output="sparse").toarray(), Y)


def test_from_classes_of_strings():
    frame = from_classes(["b", "a"], output="pandas")
    pd.testing.assert_frame_equal(frame, pd.DataFrame({"a": [0, 1], "b": [1, 0]}, dtype=np.int8))


@pytest.mark.parametrize(
    "y, classes, message",
    [
        ([[1, 0]], None, r"of shape \(n_rows,\), one class per row; got shape \(1, 2\)"),
        ([1.0, np.nan], None, "no class at row 1"),
        (np.array(["a", None], dtype=object), None, "no class at row 1"),
        (["a", "c"], ["a", "b"], "y holds 'c' at row 1, which is not in classes"),
        (["a"], ["a", "a"], "classes holds a class more than once"),
        (np.array(["a", 1], dtype=object), None, "values of different types, which cannot be sorted"),
        ([], None, "must not be empty"),
    ],
)
def test_from_classes_errors(y, classes, message):
    with pytest.raises(ValueError, match=message):
        from_classes(y, classes)
