"""Multi-label ARFF files of Mulan and Meka."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import arff as scipy_arff

from skpartial.datasets import load_arff

MULAN = """\
% A comment, and a relation without options.
@relation MultiLabelExample

@attribute feature1 numeric
@attribute label3 {0, 1}
@ATTRIBUTE 'feature 2, the second' REAL
@attribute\tlabel1 {0,1}
@attribute feature3 {low,'not so low',high}

@data
2.3,1,5.6,0,low
% between
1e-3, ?, -4, 1, 'not so low'
?,0,0,0,high
"""
XML = """\
<?xml version="1.0" encoding="utf-8"?>
<labels xmlns="http://mulan.sourceforge.net/labels">
<label name="label1"><label name="label3"></label></label>
</labels>
"""
DATA = np.array([[2.3, 5.6, 0], [1e-3, -4, 1], [np.nan, 0, 2]])
TARGET = np.array([[1, -1], [0, 1], [-1, -1]])


@pytest.fixture
def write(tmp_path):
    def write_file(contents, name="set.arff"):
        path = tmp_path / name
        path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
        return path

    return write_file


@pytest.mark.parametrize("encode", [str, lambda text: "\ufeff" + text.replace("\n", "\r\n")])
@pytest.mark.parametrize("name", ["set.arff", "set-train.arff", "set_test.arff"])
def test_labels_of_mulan(write, encode, name):
    path = write(encode(MULAN), name)
    document = write(encode(XML), "set.xml")
    for labels in (None, document, str(document)):
        bunch = load_arff(path, labels=labels)
        assert bunch.label_names == ["label3", "label1"]
        np.testing.assert_array_equal(bunch.target, TARGET)
        np.testing.assert_array_equal(bunch.data, DATA)
    assert bunch.target.dtype == np.int8
    assert bunch.feature_names == ["feature1", "feature 2, the second", "feature3"]
    assert bunch.categories == {"feature3": ("low", "not so low", "high")}
    assert "split" not in bunch
    assert bunch.DESCR.startswith("MultiLabelExample\n")


def test_labels_by_name_in_the_order_given(write):
    bunch = load_arff(write(MULAN), labels=["label1", "label3"])
    assert bunch.label_names == ["label1", "label3"]
    np.testing.assert_array_equal(bunch.target, TARGET[:, ::-1])


MEKA = """\
@relation '{name}'
@attribute a {{0,1}}
@attribute b {{0,1}}
@attribute c numeric
@attribute d {{0,1}}
@attribute e {{0,1}}
@data
1,0,7,?,0
0,?,8,0,1
1,1,9,1,1
"""
ROWS = np.array([[1, 0, 7, np.nan, 0], [0, np.nan, 8, 0, 1], [1, 1, 9, 1, 1]])


def signs(values):
    return np.nan_to_num(2 * values - 1, nan=0)


@pytest.mark.parametrize("option", ["x: -C 2", "x:-V -C 2 -t 3", "-C 2"])
def test_the_first_columns_are_labels_with_a_positive_number_of_meka(write, option):
    bunch = load_arff(write(MEKA.format(name=option)))
    assert bunch.label_names == ["a", "b"]
    np.testing.assert_array_equal(bunch.target, signs(ROWS[:, :2]))
    np.testing.assert_array_equal(bunch.data, ROWS[:, 2:])


def test_the_last_with_a_negative_one_or_as_the_user_says(write):
    path = write(MEKA.format(name="x: -C -2"))
    for read, columns in (
        (load_arff(path), [3, 4]),
        (load_arff(path, labels=1), [0]),
        (load_arff(path, labels=-1), [4]),
    ):
        assert read.label_names == ["abcde"[j] for j in columns]
        np.testing.assert_array_equal(read.target, signs(ROWS[:, columns]))


def test_the_split_of_meka(write):
    path = write(MEKA.format(name="x: -C 2 -split-number 2"))
    everything = load_arff(path)
    assert everything.split.tolist() == ["train", "train", "test"]
    for subset in ("train", "test"):
        part = load_arff(path, subset=subset)
        rows = everything.split == subset
        np.testing.assert_array_equal(part.target, everything.target[rows])
        np.testing.assert_array_equal(part.data, everything.data[rows])


SPARSE = """\
@relation 'x: -C 2'
@attribute a {0,1}
@attribute b {no,yes}
@attribute c numeric
@attribute d {5,6}
@attribute 'e e' {u,v,w}
@data
{0 1, 2 7}
{}
{1 yes,2 ?,3 6, 4 w}
{0 ?,4 'v'}
"""


def test_sparse_rows(write):
    bunch = load_arff(write(SPARSE))
    np.testing.assert_array_equal(bunch.target, [[1, -1], [-1, -1], [-1, 1], [0, -1]])
    assert sp.issparse(bunch.data)
    # What is left out is the first of the nominal values, 5 of the numbers 5 and 6.
    np.testing.assert_array_equal(bunch.data.toarray(), [[7, 5, 0], [0, 5, 0], [np.nan, 6, 2], [0, 5, 1]])
    assert bunch.data.nnz == 8


@pytest.mark.parametrize("text", [SPARSE, MEKA.format(name="-C 2"), MEKA.format(name="-C -2")])
def test_sparse_labels_are_the_same(write, text):
    path = write(text)
    dense, sparse = load_arff(path).target, load_arff(path, sparse=True).target
    assert sparse.format == "csr"
    assert sparse.nnz == np.count_nonzero(dense)
    np.testing.assert_array_equal(sparse.toarray(), dense)


@pytest.mark.parametrize(
    ("declared", "values", "expected"),
    [
        ("{0,1}", "010", [-1, 1, -1]),
        ("{1,0}", "010", [-1, 1, -1]),
        ("{-1,1}", ["-1", "1", "?"], [-1, 1, 0]),
        ("{0.0,1.0}", ["1.0", "0", "?"], [1, -1, 0]),
        ("{YES,NO}", ["NO", "YES", "?"], [-1, 1, 0]),
        ("{False,True}", ["False", "True", "?"], [-1, 1, 0]),
        ("numeric", ["0.0", "1", "?"], [-1, 1, 0]),
    ],
)
def test_words_for_present_and_absent(write, declared, values, expected):
    rows = "\n".join(f"{value},1" for value in values)
    path = write(f"@relation x\n@attribute y {declared}\n@attribute x numeric\n@data\n{rows}\n")
    assert load_arff(path, labels=1).target.ravel().tolist() == expected


def test_all_columns_may_be_labels(write):
    bunch = load_arff(write("@relation x\n@attribute a {0,1}\n@attribute b {0,1}\n@data\n0,1\n"), labels=2)
    assert bunch.target.tolist() == [[-1, 1]]
    assert bunch.data.shape == (1, 0)


NAMES = st.text(st.sampled_from("ab ,'\"\\%{}é?"), min_size=1, max_size=6).filter(lambda name: name == name.strip())


def quoted(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(NAMES, min_size=3, max_size=3, unique=True),
    values=st.lists(NAMES, min_size=2, max_size=4, unique=True),
    numbers=st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=5),
    data=st.data(),
)
def test_what_is_written_is_read(write, names, values, numbers, data):
    chosen = [data.draw(st.integers(0, len(values) - 1)) for _ in numbers]
    labels = [data.draw(st.sampled_from("01?")) for _ in numbers]
    declared = ",".join(map(quoted, values))
    number, word, label = map(quoted, names)
    header = (
        f"@relation x\n@attribute {number} real\n@attribute {word} {{{declared}}}\n@attribute {label} {{0,1}}\n@data\n"
    )
    shown = ["?" if x is None else repr(x) for x in numbers]
    rows = [f"{x}, {quoted(values[k])} ,{y}" for x, k, y in zip(shown, chosen, labels)]
    sparse = [f"{{0 {x},1 {quoted(values[k])}, 2 {y}}}" for x, k, y in zip(shown, chosen, labels)]
    for lines in (rows, sparse):
        bunch = load_arff(write(header + "\n".join(lines)), labels=[names[2]])
        found = bunch.data.toarray() if lines is sparse else bunch.data
        np.testing.assert_array_equal(found[:, 0], [np.nan if x is None else x for x in numbers])
        assert bunch.target.ravel().tolist() == [{"0": -1, "1": 1, "?": 0}[y] for y in labels]
        assert bunch.feature_names == names[:2]
        if "categories" in bunch and names[1] in bunch.categories:
            np.testing.assert_array_equal(found[:, 1], chosen)


def test_dense_rows_are_as_scipy_reads_them(write):
    path = write(MEKA.format(name="x"))
    table, _ = scipy_arff.loadarff(path)
    known = np.array([[np.nan if v in (b"?", "?") else float(v) for v in row] for row in table.tolist()])
    bunch = load_arff(path, labels=["b", "e"])
    np.testing.assert_array_equal(bunch.data, known[:, [0, 2, 3]])
    np.testing.assert_array_equal(bunch.target, signs(known[:, [1, 4]]))


HEAD = "@relation '-C 1'\n@attribute y {0,1}\n@attribute x numeric\n@attribute 'w w' {u,v}\n"


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ("", "is empty"),
        (HEAD, "has no @data"),
        (HEAD + "@data\n% nothing\n", "has no rows after @data"),
        ("@relation x\n@data\n1\n", "declares no attributes"),
        (HEAD + "@data\n1,2\n", "line 6, has 2 values for 3 attributes"),
        (HEAD + "@data\n0,1,u\n\n1,2,t\n", "line 8, holds 't' for 'w w', which may be 'u', 'v'"),
        (HEAD + "@data\n0,one,u\n", "line 6, holds 'one' for 'x', which should be a number"),
        (HEAD + "@data\n2,1,u\n", "line 6, holds '2' for 'y', which may be '0', '1'"),
        (HEAD + "@data\n0,1,'u\n", "line 6, has a quote that is not closed"),
        (HEAD + "@data\n{0 1}\n0,1,u\n", "line 7, is not a sparse row in braces"),
        (HEAD + "@data\n{0 1, 3 1}\n", "line 6, holds the position 3, but there are 3 attributes"),
        (HEAD + "@data\n{0 1, x}\n", "line 6, holds 'x', which should be a position and a value"),
        (HEAD + "@data\n{0 1, 0 1}\n", "line 6, holds a position more than once"),
        (HEAD + "@data\n{0 1, 2 'u}\n", "line 6, has a quote that is not closed"),
        (HEAD + "@attribute s string\n@data\n0,1,u,a\n", "line 5, has the attribute 's' of type 'string'"),
        (HEAD + "@attribute y real\n@data\n0,1,u,1\n", "has the attribute 'y' more than once"),
        (HEAD + "@attribute z {a,a}\n@data\n0,1,u,a\n", "line 5, declares a value of 'z' more than once"),
        (HEAD + "@attribute z {a,'b}\n@data\n0,1,u,a\n", "line 5, has a quote that is not closed in the values of 'z'"),
        (HEAD + "@attribute z\n@data\n0,1,u,a\n", "line 5, has the declaration 'z'"),
        (HEAD + "once\n@data\n0,1,u\n", "line 5, begins with 'once', where @relation"),
        (HEAD.encode() + b"@data\n0,1,\xff\n", "line 6, is not UTF-8"),
        (HEAD.replace("-C 1", "-C 4") + "@data\n0,1,u\n", "has 3 attributes, so 4 of them cannot be labels"),
        (HEAD.replace("-C 1", "-C 0") + "@data\n0,1,u\n", "has 3 attributes, so 0 of them cannot be labels"),
        (HEAD.replace("-C 1", "x") + "@data\n0,1,u\n", "does not specify which attributes are labels.* pass labels"),
        (HEAD.replace("-C 1", "-C 1 -split-number 2") + "@data\n0,1,u\n", "names 2 rows for training, but has 1 rows"),
        (HEAD.replace("-C 1", "-C 2") + "@data\n0,3,u\n", "holds '3' for the label 'x', which should be 0, 1 or"),
        (HEAD.replace("-C 1", "-C -1") + "@data\n0,3,v\n", "holds 'v' for the label 'w w', which should be 0, 1 or"),
        (HEAD.replace("{0,1}", "{-1,0,1}") + "@data\n-1,3,u\n", "holds '-1' for the label 'y', which should be 0, 1"),
    ],
)
def test_what_is_malformed_is_named(write, refuses, contents, said):
    path = write(contents)
    refuses(lambda: load_arff(path), path, said)


def test_labels_that_are_not_there(write, refuses, tmp_path):
    path = write(MULAN)
    refuses(lambda: load_arff(path, labels=["label1", "nose"]), path, "has no attribute 'nose' of labels")
    document = write(XML.replace("label3", "nose"), "other.xml")
    refuses(lambda: load_arff(path, labels=document), path, "has no attribute 'nose' that .*other.xml names")
    document.write_text("<labels/>")
    refuses(lambda: load_arff(path, labels=document), document, "names no labels")
    document.write_text(XML[:-12])
    refuses(lambda: load_arff(path, labels=document), document, "is not well-formed XML")
    document.write_text("<!DOCTYPE labels>" + XML.partition("\n")[2])
    refuses(lambda: load_arff(path, labels=document), document, "declares a document type")
    refuses(lambda: load_arff(path, labels=tmp_path / "no.xml"), tmp_path / "no.xml", "does not exist")
    refuses(lambda: load_arff(tmp_path / "no.arff"), tmp_path / "no.arff", "does not exist")
    refuses(
        lambda: load_arff(path, labels=["label1"], subset="train"), path, "names no split with rows for subset='train'"
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"subset": "val"}, "subset must be"),
        ({"sparse": 2}, "sparse must be"),
        ({"labels": [1]}, "labels must hold strings"),
        ({"labels": ["label1", "label1"]}, "more than once"),
    ],
)
def test_arguments_are_checked(write, wrong, said):
    with pytest.raises(ValueError, match=said):
        load_arff(write(MULAN), **wrong)


@pytest.mark.parametrize("text", [MULAN, MEKA.format(name="-C 2 -split-number 2"), SPARSE])
def test_damage_of_any_kind(write, tmp_path, withstands_damage, text):
    path = write(text)
    write(XML, "set.xml")
    withstands_damage(tmp_path, lambda: load_arff(path), times=150)
