"""Tables like those of CheXpert."""

from __future__ import annotations

import numpy as np
import pytest

from skpartial.datasets import load_chexpert
from skpartial.model_selection import PartialLabelGroupKFold

FINDINGS = ["No Finding", "Enlarged Cardiomediastinum", "Edema", "Support Devices"]
HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(FINDINGS)
ROWS = {
    "train": [
        "train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,-1.0,1.0",
        "train/patient00002/study2/view1_frontal.jpg,Female,87,Frontal,AP,,,-1.0,0.0",
        "train/patient00002/study1/view2_lateral.jpg,Female,83,Lateral,,,-1.0,0.0,",
    ],
    "valid": ["valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP,0.0,1.0,0.0,0.0"],
}
# 1, 0 and -1 as in the table, NaN for blank.
VALUES = np.array([[1, np.nan, -1, 1], [np.nan, np.nan, -1, 0], [np.nan, -1, 0, np.nan], [0, 1, 0, 0]])


def make_chexpert(folder, ends="\n"):
    """The folder as it is published."""
    folder.mkdir(parents=True)
    for name, rows in ROWS.items():
        lines = [HEADER, *(f"CheXpert-v1.0-small/{row}" for row in rows)]
        (folder / f"{name}.csv").write_bytes("".join(f"{line}{ends}" for line in lines).encode())
    return folder


@pytest.fixture
def folder(tmp_path):
    return make_chexpert(tmp_path / "CheXpert-v1.0-small")


def expected(blank, uncertain):
    return np.select([np.isnan(VALUES), VALUES == -1, VALUES == 1], [blank, uncertain, 1], -1)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_labels_paths_groups_and_split(tmp_path, ends):
    folder = make_chexpert(tmp_path / "CheXpert-v1.0-small", ends)
    bunch = load_chexpert(folder)
    assert bunch.label_names == FINDINGS
    np.testing.assert_array_equal(bunch.target, expected(0, 0))
    assert bunch.target.dtype == np.int8
    assert bunch.groups.tolist() == ["patient00001", "patient00002", "patient00002", "patient64541"]
    assert bunch.split.tolist() == ["train"] * 3 + ["val"]
    assert bunch.views.tolist() == ["Frontal", "Frontal", "Lateral", "Frontal"]
    assert bunch.paths[0] == str(folder / "train" / "patient00001" / "study1" / "view1_frontal.jpg")


SIGNS = {"unknown": 0, "present": 1, "absent": -1}


@pytest.mark.parametrize("blank", SIGNS)
@pytest.mark.parametrize("uncertain", SIGNS)
def test_policies_of_all_findings(folder, blank, uncertain):
    bunch = load_chexpert(folder, blank=blank, uncertain=uncertain)
    np.testing.assert_array_equal(bunch.target, expected(SIGNS[blank], SIGNS[uncertain]))
    sparse = load_chexpert(folder, blank=blank, uncertain=uncertain, sparse=True).target
    np.testing.assert_array_equal(sparse.toarray(), bunch.target)
    assert sparse.nnz == np.count_nonzero(bunch.target)


def test_policies_a_finding(folder):
    bunch = load_chexpert(folder, uncertain={"Edema": "present"}, blank={"No Finding": "absent", "Edema": "present"})
    np.testing.assert_array_equal(bunch.target, expected([-1, 0, 1, 0], [0, 0, 1, 0]))


@pytest.mark.parametrize(("subset", "file"), [("train", "train"), ("val", "valid")])
def test_subsets_are_rows_of_all_and_tables_can_be_read_alone(folder, subset, file):
    everything = load_chexpert(folder)
    rows = everything.split == subset
    for part in (load_chexpert(folder, subset=subset), load_chexpert(folder / f"{file}.csv")):
        for name in ("target", "paths", "groups", "split"):
            np.testing.assert_array_equal(part[name], everything[name][rows])


def test_folds_by_patient(folder):
    bunch = load_chexpert(folder, blank="absent", uncertain="present")
    for train, test in PartialLabelGroupKFold(2).split(bunch.paths, bunch.target, bunch.groups):
        assert not set(bunch.groups[train]) & set(bunch.groups[test])


def test_a_table_of_another_name_and_without_a_view(tmp_path):
    path = tmp_path / "my table.csv"
    path.write_text("Path,Sex,Edema,Mass\ndata/patient7/1.png,F,1,0\n")
    bunch = load_chexpert(path)
    assert bunch.label_names == ["Edema", "Mass"]
    assert bunch.paths.tolist() == [str(tmp_path / "data" / "patient7" / "1.png")]
    assert "split" not in bunch
    assert "views" not in bunch
    with pytest.raises(ValueError, match="is a single table: use subset='all'"):
        load_chexpert(path, subset="train")


def test_images_are_found_where_the_folder_was_renamed(tmp_path):
    folder = make_chexpert(tmp_path / "renamed")
    image = folder / "train" / "patient00001" / "study1" / "view1_frontal.jpg"
    image.parent.mkdir(parents=True)
    image.touch()
    assert load_chexpert(folder, subset="train").paths[0] == str(image)


def test_a_byte_order_mark_and_quotes(folder):
    path = folder / "train.csv"
    before = load_chexpert(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"Support Devices", b'"Support Devices"'))
    after = load_chexpert(path)
    assert after.label_names == before.label_names
    np.testing.assert_array_equal(after.target, before.target)


def test_findings_beside_other_columns(folder):
    for path in folder.glob("*.csv"):
        header, *rows = path.read_text().splitlines()
        path.write_text("\n".join([f"{header},Patient ID", *(f"{row},A17" for row in rows)]))
    with pytest.raises(ValueError, match=r"'A17' in column 'Patient ID', .*pass findings= to choose"):
        load_chexpert(folder)
    bunch = load_chexpert(folder, findings=["Edema", "No Finding"])
    assert bunch.label_names == ["Edema", "No Finding"]
    np.testing.assert_array_equal(bunch.target, expected(0, 0)[:, [2, 0]])
    with pytest.raises(ValueError, match="has no column 'Oedema', which findings names; its columns are 'Path'"):
        load_chexpert(folder, findings=["Oedema"])
    with pytest.raises(ValueError, match="findings must be a list of names, got the string 'Edema'"):
        load_chexpert(folder, findings="Edema")
    with pytest.raises(ValueError, match="findings is empty: name at least one column"):
        load_chexpert(folder, findings=[])


def line(values, path="CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg"):
    return f"{HEADER}\n{path},Female,68,Frontal,AP,{values}\n"


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (line("1.0,,-1.0"), "line 2, has 8 fields, but the header names 9 columns"),
        (line("1.0,,-1.0,2.0"), "line 2, holds 2 for 'Support Devices', which should be 1, 0, -1 or blank"),
        (line("yes,,-1.0,1.0"), "line 2, holds 'yes' in column 'No Finding', which should be a number if .* findings="),
        (line("1,1,1,1") + line("1,1,1,1").split("\n")[1], "lists the image '.*' more than once"),
        (
            line("1,1,1,1", "study1/1.jpg"),
            "line 2, has the path 'study1/1.jpg', which has no folder of a patient",
        ),
        (line("1,1,1,1").replace("Path", "File"), "has no column 'Path'"),
        (line("1,1,1,1").replace("Edema", "No Finding"), "has the column 'No Finding' more than once"),
        ("Path,Sex,Age,Frontal/Lateral,AP/PA\np/patient1/x.jpg,F,1,Frontal,AP\n", "has no findings"),
        (HEADER + "\n", "has a header, but no rows"),
        ("", "is empty"),
        (line("1,1,1,1").encode("utf-16"), "is not UTF-8"),
    ],
)
def test_what_is_malformed_is_named(folder, refuses, contents, said):
    path = folder / "train.csv"
    path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    refuses(lambda: load_chexpert(folder), path, said)


def test_tables_must_fit_together(folder, refuses):
    path = folder / "valid.csv"
    path.write_text(path.read_text().replace("Edema", "Mass"))
    refuses(lambda: load_chexpert(folder), path, "has different findings from train.csv")


def test_what_is_not_there(folder, refuses):
    refuses(lambda: load_chexpert(folder, subset="test"), folder / "test.csv", "does not exist; path must be")
    refuses(lambda: load_chexpert(folder / "no.csv"), folder / "no.csv", "does not exist; path must be")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"subset": "valid"}, "subset must be"),
        ({"blank": "zero"}, "blank must be 'unknown', 'present' or 'absent', got 'zero'"),
        ({"uncertain": {"Mass": "present"}}, "uncertain names 'Mass', which is not a finding of the table"),
        ({"uncertain": {"Edema": 1}}, r"uncertain\['Edema'\] must be"),
        ({"sparse": "csr"}, "sparse must be"),
    ],
)
def test_arguments_are_checked(folder, wrong, said):
    with pytest.raises(ValueError, match=said):
        load_chexpert(folder, **wrong)


def test_damage_of_any_kind(folder, withstands_damage):
    withstands_damage(folder, lambda: load_chexpert(folder), times=100)
