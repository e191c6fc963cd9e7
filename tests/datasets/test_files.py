"""How files of data sets are read, and what is said of those that are not what they should be."""

from __future__ import annotations

import os

import numpy as np
import pytest

from skpartial.datasets import _files


@pytest.fixture
def write(tmp_path):
    def write_file(contents, name="file.txt"):
        path = tmp_path / name
        path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
        return path

    return write_file


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_any_line_ends_and_a_byte_order_mark(write, ends, mark):
    table = _files.read_table(write(mark + ends.join(["a,b", "1,é", "", '"2, 3","x"']) + ends))
    assert table.columns == {"a": ["1", "2, 3"], "b": ["é", "x"]}
    assert table.lines == [2, 4]
    assert _files.read_lines(write(mark + ends.join(["x  ", "", " y"]))) == ["x", "y"]


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (b"", "is empty"),
        (b" \r\n\n", "is empty"),
        (b"a,b\n1,\xff\n", "line 2, is not UTF-8 text (byte 0xff)"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), "UTF-16"),
        (b"a,b\n", "has a header, but no rows"),
        (b"a,a\n1,2\n", "has the column 'a' more than once"),
        (b"a,c\n1,2\n", "has no column 'b'; its columns are 'a', 'c'"),
        (b"a,b\n1,2\n\n3\n", "line 4, has 1 fields, but the header names 2 columns"),
        (b'a,b\n1,"2\n', "is not well-formed: unexpected end of data"),
    ],
)
def test_a_bad_table_is_told_in_one_sentence(write, contents, said):
    path = write(contents)
    with pytest.raises(ValueError) as caught:
        _files.read_table(path, needed=["b"])
    message = str(caught.value)
    assert message.startswith(str(path))
    assert said in message
    assert message.endswith(".")
    assert "\n" not in message


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"pipe is a named pipe, not a file\.$"):
        _files.read_bytes(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is a directory"):
        _files.read_bytes(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nothing does not exist; take it from there\.$"):
        _files.read_bytes(tmp_path / "nothing", "take it from there")


def test_a_file_that_may_not_be_read_is_named(write, monkeypatch):
    path = write("x")

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(PermissionError, match=r"file\.txt cannot be read: Permission denied\.$"):
        _files.read_bytes(path)


def test_numbers_of_a_column(write):
    table = _files.read_table(write("a,b\n1,2e3\n,NA\n-1.5, 4 \n"))
    np.testing.assert_array_equal(table.numbers("a"), [1, np.nan, -1.5])
    np.testing.assert_array_equal(table.numbers("b"), [2000, np.nan, 4])
    table = _files.read_table(write("a\n1\nNA\none\n"))
    with pytest.raises(ValueError, match=r"line 4, holds 'one' in column 'a', which should be a number\.$"):
        table.numbers("a")


def test_keys_of_json_are_dropped_at_every_depth(write):
    path = write('{"drop": [1], "kept": [{"drop": {"x": 1}, "id": 2}]}')
    assert _files.read_json(path, without=["drop"]) == {"kept": [{"id": 2}]}


@pytest.mark.parametrize(
    ("contents", "said"),
    [('{"a": [1,\n 2', "line 2, is not well-formed JSON"), ("[" * 100_000 + "]" * 100_000, "nested too deeply")],
)
def test_bad_json(write, contents, said):
    with pytest.raises(ValueError, match=rf"file\.txt.* {said}.*\.$"):
        _files.read_json(write(contents))


BOMB = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]><a>&y;</a>'


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ("<a><b></a>", "mismatched tag"),
        ("<a><b>", "no element found"),
        ("<a>&undeclared;</a>", "undefined entity"),
        ('<?xml version="1.0" encoding="klingon"?><a/>', "klingon|encoding"),
        (BOMB, "declares a document type"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', "declares a document type"),
        ('<!DOCTYPE a SYSTEM "http://localhost/a.dtd"><a/>', "declares a document type"),
    ],
)
def test_bad_xml(write, contents, said):
    with pytest.raises(ValueError, match=rf"(?s)file\.txt .*({said}).*\.$"):
        _files.read_xml(write(contents))


def test_xml_in_other_encodings_and_with_a_mark(write):
    latin = '<?xml version="1.0" encoding="iso-8859-1"?><a>é</a>'.encode("latin-1")
    assert _files.read_xml(write(latin)).text == "é"
    assert _files.read_xml(write("\ufeff<a>é</a>")).text == "é"


def test_missing_files_are_found_by_folder(tmp_path):
    (tmp_path / "x").mkdir()
    for name in ("x/1.jpg", "2.jpg"):
        (tmp_path / name).touch()
    paths = _files.image_paths(tmp_path, ["x\\1.jpg", "x/2.jpg", "2.jpg", "y/1.jpg"])
    assert _files.missing_files(paths).tolist() == [False, True, False, True]
    assert paths[0] == os.path.join(tmp_path, "x", "1.jpg")


def test_a_matrix_that_does_not_fit_is_refused_before_it_is_made():
    with pytest.raises(ValueError, match="use sparse=True"):
        _files.label_matrix([[0, 0]], [1], (10**5, 10**10), sparse=False)
    assert _files.label_matrix([[0, 0]], [1], (10**5, 10**10), sparse=True).nnz == 1
