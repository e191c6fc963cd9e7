"""Presences with background rows and a survey, in tables as R writes those of disdat."""

from __future__ import annotations

import numpy as np
import pytest

from skpartial.datasets import load_presence_only

PRESENCES = """\
"group","siteid","spid","x","y","occ","bc01","slope"
"bird",10,"awt2",1.5,2.5,1,20.5,3
"plant",10,"awt1",1.5,2.5,1,20.5,3
"bird",11,"awt2",1.5,2.5,1,21.5,NA
"bird",12,"awt7",1.5,2.5,1,22.5,5
"""
BACKGROUND = """\
"group","siteid","spid","x","y","occ","bc01","slope"
NA,10,NA,1.5,2.5,0,1,2
NA,11,NA,1.5,2.5,0,3,4
"""
SITES = """\
"group","siteid","x","y","bc01","slope"
"bird","s1",1,2,7,8
"bird","s2",1,2,9,10
"""
SEEN = """\
"group","siteid","x","y","awt2","awt9"
"bird","s1",1,2,0,1
"bird","s2",1,2,1,NA
"""
FILES = {"po": PRESENCES, "bg": BACKGROUND, "env": SITES, "pa": SEEN}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        (tmp_path / f"{name}.csv").write_text(text)
    return tmp_path


def load(folder, **settings):
    given = {"background": folder / "bg.csv", "survey": (folder / "env.csv", folder / "pa.csv"), **settings}
    return load_presence_only(folder / "po.csv", **given)


TARGET = np.array(
    [[0, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]] + [[0] * 4] * 2 + [[0, -1, 0, 1], [0, 1, 0, 0]]
)
DATA = [[20.5, 3], [20.5, 3], [21.5, np.nan], [22.5, 5], [1, 2], [3, 4], [7, 8], [9, 10]]


def test_all_three_kinds_of_rows(folder):
    bunch = load(folder)
    assert bunch.label_names == ["awt1", "awt2", "awt7", "awt9"]
    assert bunch.feature_names == ["bc01", "slope"]
    np.testing.assert_array_equal(bunch.target, TARGET)
    np.testing.assert_array_equal(bunch.data, DATA)
    assert bunch.target.dtype == np.int8
    assert bunch.background.tolist() == [False] * 4 + [True] * 2 + [False] * 2
    assert bunch.split.tolist() == ["train"] * 6 + ["test"] * 2
    assert bunch.groups[0] == bunch.groups[1]
    assert len(set(bunch.groups)) == 7


@pytest.mark.parametrize("subset", ["all", "train", "test"])
@pytest.mark.parametrize("merge_sites", [False, True])
def test_subsets_are_rows_of_all_and_sparse_is_the_same(folder, subset, merge_sites):
    everything = load(folder, merge_sites=merge_sites)
    part = load(folder, subset=subset, sparse=True, merge_sites=merge_sites)
    rows = np.isin(everything.split, ["train", "test"] if subset == "all" else [subset])
    assert part.target.format == "csr"
    np.testing.assert_array_equal(part.target.toarray(), everything.target[rows])
    for name in ("data", "background", "split", "groups"):
        np.testing.assert_array_equal(part[name], everything[name][rows])


def test_sites_are_merged_on_request(folder):
    bunch = load(folder, merge_sites=True)
    np.testing.assert_array_equal(bunch.target, [[1, 1, 0, 0], *TARGET[2:]])
    np.testing.assert_array_equal(bunch.data, DATA[1:])
    assert len(set(bunch.groups)) == len(bunch.groups)


def test_sites_keep_the_order_of_the_table(folder, refuses):
    path = folder / "po.csv"
    lines = PRESENCES.split("\n")
    path.write_text("\n".join([lines[0], *reversed(lines[1:5])]))
    bunch = load_presence_only(path, merge_sites=True)
    assert bunch.data[:, 0].tolist() == [22.5, 21.5, 20.5]
    assert bunch.target.tolist() == [[0, 0, 1], [0, 1, 0], [1, 1, 0]]
    path.write_text(PRESENCES.replace('"awt1",1.5,2.5,1,20.5', '"awt1",1.5,2.5,1,20.6'))
    refuses(lambda: load_presence_only(path, merge_sites=True), path, "has different features in rows of the site '10'")


def test_presences_alone_with_columns_of_any_name(tmp_path):
    path = tmp_path / "records.csv"
    path.write_text("species,rain,sun\nwren,1,2\n robin ,3,4\n")
    bunch = load_presence_only(path, label="species", features=["sun"])
    assert bunch.label_names == ["robin", "wren"]
    assert bunch.target.tolist() == [[0, 1], [1, 0]]
    assert bunch.data.tolist() == [[2], [4]]
    assert "groups" not in bunch
    with pytest.raises(ValueError, match="no rows for subset='test': pass survey"):
        load_presence_only(path, label="species", subset="test")


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("po", '"spid"', '"species"', "has no column 'spid'"),
        ("po", '"awt7"', "NA", "line 5, names no label in column 'spid'"),
        ("po", "22.5", "hot", "line 5, holds 'hot' in column 'bc01', which should be a number"),
        ("po", ',"bc01","slope"', ',"a","b"', "has no column of features"),
        ("pa", '"s2"', '"s3"', "has different sites from env.csv, or a different order"),
        ("pa", '"bird","s2",1,2,1,NA\n', "", "has 1 rows, but env.csv has 2"),
        ("pa", "2,1,NA", "2,1,2", "line 3, holds 2 for 'awt9', which should be 0 or 1"),
        ("pa", '"awt2","awt9"', '"spid","occ"', "has no column for any label"),
        ("bg", "NA,10", "10", "line 2, has 7 fields, but the header names 8 columns"),
        ("env", SITES, "", "is empty"),
        ("env", SITES, None, "does not exist"),
    ],
)
def test_what_is_malformed_is_named(folder, refuses, name, old, new, said):
    path = folder / f"{name}.csv"
    assert old in FILES[name]
    if new is None:
        path.unlink()
    else:
        path.write_text(FILES[name].replace(old, new))
    refuses(lambda: load(folder), path, said)


def test_tables_that_do_not_fit(folder, refuses):
    refuses(lambda: load(folder, features=["bc01", "dew"]), folder / "po.csv", "has no column 'dew'")
    (folder / "bg.csv").write_text("slope,rain\n1,2\n")
    assert load(folder).feature_names == ["slope"]
    assert "groups" not in load(folder)
    refuses(lambda: load(folder, features=["bc01"]), folder / "bg.csv", "has no column 'bc01'")
    refuses(lambda: load(folder, merge_sites=True), folder / "po.csv", "has no column 'siteid'")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"subset": "val"}, "subset must be"),
        ({"survey": "env.csv"}, "survey must be a pair"),
        ({"survey": ["env.csv"]}, "survey must be a pair"),
        ({"features": "bc01"}, "features must be a list"),
        ({"merge_sites": "siteid"}, "merge_sites must be"),
        ({"sparse": 0}, "sparse must be"),
        ({"background": 3}, "background must be a path"),
    ],
)
def test_arguments_are_checked(folder, wrong, said):
    with pytest.raises(ValueError, match=said):
        load(folder, **wrong)


def test_damage_of_any_kind(folder, withstands_damage):
    withstands_damage(folder, lambda: load(folder))
