"""Tables of annotations."""

from __future__ import annotations

import numpy as np
import pytest

from skpartial.datasets import load_annotations_csv

TABLE = "label,row,value,who\ncat,b/2.jpg,1,x\ndog,b/2.jpg,-1,y\ncat,a.jpg,,x\ndog,a.jpg,1,x\n"
WORDS = TABLE.replace(",1,", ",yes,").replace(",-1,", ",no,")


@pytest.fixture
def write(tmp_path):
    def write_file(contents, name="seen.csv"):
        path = tmp_path / name
        path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
        return path

    return write_file


@pytest.mark.parametrize("encode", [str, lambda text: "\ufeff" + text.replace("\n", "\r\n")])
@pytest.mark.parametrize(("text", "meaning"), [(TABLE, {}), (WORDS, {"present": "yes", "absent": "no"})])
def test_labels_paths_and_names(write, encode, text, meaning):
    path = write(encode(text))
    bunch = load_annotations_csv(path, **meaning)
    assert bunch.row_names == ["b/2.jpg", "a.jpg"]
    assert bunch.label_names == ["cat", "dog"]
    assert bunch.target.tolist() == [[1, -1], [0, 1]]
    assert bunch.target.dtype == np.int8
    assert bunch.paths.tolist() == [str(path.parent / "b" / "2.jpg"), str(path.parent / "a.jpg")]
    sparse = load_annotations_csv(path, sparse=True, **meaning).target
    assert sparse.nnz == 3
    np.testing.assert_array_equal(sparse.toarray(), bunch.target)


def test_rows_and_labels_in_the_order_wanted(write, tmp_path):
    names = ["c.jpg", "a.jpg", "b/2.jpg"]
    bunch = load_annotations_csv(write(TABLE), row_names=names, label_names=["owl", "dog", "cat"], images="photos")
    assert bunch.target.tolist() == [[0, 0, 0], [0, 1, 0], [0, -1, 1]]
    assert bunch.label_names == ["owl", "dog", "cat"]
    assert bunch.row_names == names
    assert bunch.paths[0].startswith("photos")


def test_presences_only_and_tabs(write):
    path = write(TABLE.replace(",", "\t"), "seen.tsv")
    bunch = load_annotations_csv(path, columns=("row", "label"), delimiter="\t")
    assert bunch.target.tolist() == [[1, 1], [1, 1]]


def test_opinions_are_aggregated_on_request(write):
    path = write("row,label,value\na,cat,1\na,cat,0\na,cat,1\nb,cat,0\n")
    bunch = load_annotations_csv(path, absent=0, aggregate="mean", threshold=0.6)
    assert bunch.target.tolist() == [[1], [-1]]


@pytest.mark.parametrize(
    ("contents", "settings", "said"),
    [
        ("", {}, "is empty"),
        ("row,label,value\n", {}, "has a header, but no rows"),
        (
            TABLE,
            {"columns": ("image", "label")},
            "has no column 'image'; its columns are 'label', 'row', 'value', 'who'",
        ),
        (TABLE + "cat,a.jpg\n", {}, "line 6, has 2 fields, but the header names 4 columns"),
        (TABLE + "cat,b/2.jpg,-1,y\n", {}, "annotations say both present and absent for row 'b/2.jpg', label 'cat'"),
        (TABLE + "cat,c.jpg,7,y\n", {}, "value of annotation 3 is 7.0"),
        (TABLE, {"row_names": ["a.jpg"]}, "row 'b/2.jpg' of annotation 0 is not in row_names"),
        (TABLE, {"label_names": ["dog"]}, "label 'cat' of annotation 0 is not in label_names"),
        (TABLE.encode() + b"\xff", {}, "line 6, is not UTF-8"),
        (TABLE + '"cat', {}, "is not well-formed"),
    ],
)
def test_what_is_malformed_is_named(write, contents, settings, said):
    path = write(contents)
    with pytest.raises(ValueError, match=said) as caught:
        load_annotations_csv(path, **settings)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"columns": ("row",)}, "columns must name"),
        ({"columns": "row"}, "columns must be a list"),
        ({"delimiter": ", "}, "delimiter must be one character"),
        ({"sparse": 1}, "sparse must be"),
        ({"row_names": ["a", "a"]}, "row_names holds 'a' more than once"),
    ],
)
def test_arguments_are_checked(write, wrong, said):
    with pytest.raises(ValueError, match=said):
        load_annotations_csv(write(TABLE), **wrong)
    with pytest.raises(TypeError, match="unexpected keyword argument 'output'"):
        load_annotations_csv(write(TABLE), output="pandas")


def test_damage_of_any_kind(write, tmp_path, withstands_damage):
    path = write(TABLE)
    withstands_damage(tmp_path, lambda: load_annotations_csv(path), times=100)
