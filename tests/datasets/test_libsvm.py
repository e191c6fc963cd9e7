"""Multi-label files of libsvm and of the Extreme Classification Repository."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import dump_svmlight_file

from skpartial.datasets import load_libsvm


@pytest.fixture
def write(tmp_path):
    def write_file(contents, name="set.svm"):
        path = tmp_path / name
        path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
        return path

    return write_file


LINES = "0,3 1:0.5 3:1.5\n # a comment\n2:2\n3,1,3 3:-1 # and another\n"
DATA = [[0.5, 0, 1.5], [0, 2, 0], [0, 0, -1]]


@pytest.mark.parametrize("encode", [str, lambda text: "\ufeff" + text.replace("\n", "\r\n")])
def test_labels_that_occur(write, encode):
    bunch = load_libsvm(write(encode(LINES)))
    assert bunch.label_names == ["0", "1", "3"]
    assert bunch.target.tolist() == [[1, -1, 1], [-1, -1, -1], [-1, 1, 1]]
    assert bunch.target.dtype == np.int8
    assert bunch.data.toarray().tolist() == DATA
    assert load_libsvm(write(encode(LINES)), n_features=5, zero_based=True).data.shape == (3, 5)


def test_labels_with_names_and_unlisted_ones_unknown(write):
    names = ["a", "b", "c", "d"]
    bunch = load_libsvm(write(LINES), label_names=names, unlisted="unknown")
    assert bunch.label_names == names
    assert bunch.target.tolist() == [[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 1]]


@pytest.mark.parametrize("unlisted", ["absent", "unknown"])
@pytest.mark.parametrize("names", [None, list("abcd")])
def test_sparse_is_the_same(write, unlisted, names):
    path = write(LINES)
    dense = load_libsvm(path, unlisted=unlisted, label_names=names).target
    sparse = load_libsvm(path, unlisted=unlisted, label_names=names, sparse=True).target
    assert sparse.format == "csr"
    assert sparse.nnz == np.count_nonzero(dense)
    np.testing.assert_array_equal(sparse.toarray(), dense)


def test_a_first_line_of_sizes(write):
    bunch = load_libsvm(write("3 5 4\n0,3 1:0.5 3:1.5\n 2:2\n3 4:-1\n"))
    assert bunch.label_names == ["0", "1", "2", "3"]
    assert bunch.target.tolist() == [[1, -1, -1, 1], [-1] * 4, [-1, -1, -1, 1]]
    # Counted from 0, even where no row has the first feature.
    assert bunch.data.toarray().tolist() == [[0, 0.5, 0, 1.5, 0], [0, 0, 2, 0, 0], [0, 0, 0, 0, -1]]


def test_what_scikit_learn_writes_is_read(tmp_path):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(20, 4)), (rng.random((20, 6)) < 0.4).astype(int)
    Y[0] = 1
    dump_svmlight_file(X, Y, str(tmp_path / "set.svm"), multilabel=True, zero_based=True)
    bunch = load_libsvm(tmp_path / "set.svm", zero_based=True)
    np.testing.assert_array_equal(bunch.target, 2 * Y - 1)
    np.testing.assert_allclose(bunch.data.toarray(), X)


@pytest.mark.parametrize(
    ("contents", "settings", "said"),
    [
        ("", {}, "is empty"),
        ("a,b 1:1\n", {}, "cannot be read as a multi-label libsvm file"),
        ("1 x:1\n", {}, "cannot be read as a multi-label libsvm file"),
        ("1 3:1\n", {"n_features": 2}, "cannot be read as a multi-label libsvm file"),
        ("1.5 1:1\n", {}, "holds the label 1.5, which should be a whole number"),
        ("-1 1:1\n", {"label_names": ["a"]}, "holds the label -1, which should be a whole number"),
        ("0,2 1:1\n", {"label_names": ["a", "b"]}, "holds the label 2, but there are 2 label names"),
        (" 1:1\n", {}, "lists no label in any row: pass label_names"),
        ("2 1 2\n1 0:1\n", {}, "holds 1 rows, but its first line says 2"),
        ("1 1 2\n3 0:1\n", {}, "holds the label 3, but there are 2 label names"),
        (b"1 1:1\n\xff\xfe 1:1\n", {}, "cannot be read"),
    ],
)
def test_what_is_malformed_is_named(write, refuses, contents, settings, said):
    path = write(contents)
    refuses(lambda: load_libsvm(path, **settings), path, said)


@pytest.mark.parametrize(
    "wrong", [{"unlisted": -1}, {"zero_based": "yes"}, {"sparse": 1}, {"n_features": 0}, {"label_names": ["a", "a"]}]
)
def test_arguments_are_checked(write, wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        load_libsvm(write(LINES), **wrong)


@pytest.mark.parametrize("text", [LINES, "3 5 4\n0,3 1:0.5 3:1.5\n 2:2\n3 4:-1\n"])
def test_damage_of_any_kind(write, tmp_path, withstands_damage, text):
    path = write(text)
    withstands_damage(tmp_path, lambda: load_libsvm(path), times=200)
