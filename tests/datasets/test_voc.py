"""PASCAL VOC, on trees of the published layout."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from skpartial.datasets import load_voc

OBJECT = """
    <object>
        <name>{name}</name>
        <pose>Left</pose>
        <truncated>1</truncated>
        <difficult>{difficult}</difficult>
        <bndbox><xmin>263</xmin><ymin>211</ymin><xmax>324</xmax><ymax>339</ymax></bndbox>
        <part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>
    </object>"""
DOCUMENT = """<annotation>
    <folder>VOC{year}</folder>
    <filename>{image}.jpg</filename>
    <source><database>The VOC Database</database></source>
    <size><width>500</width><height>375</height><depth>3</depth></size>
    <segmented>0</segmented>{objects}
</annotation>
"""
# Image: objects and whether they are difficult.
IMAGES = {
    "000012": [("car", 0), ("car", 1)],
    "000005": [("chair", 1), ("dog", 0), ("person", 1), ("person", 0)],
    "000007": [("chair", 1)],
    "000001": [("train", 0), ("person", 0)],
}
LISTS = {
    "train": ["000012", "000005"],
    "val": ["000007"],
    "test": ["000001"],
    "trainval": ["000005", "000007", "000012"],
}


def make_voc(folder, year=2007, lists=LISTS, ends="\n"):
    """A tree as the archives of a year make it."""
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    for image, objects in IMAGES.items():
        text = "".join(OBJECT.format(name=name, difficult=difficult) for name, difficult in objects)
        (folder / "Annotations" / f"{image}.xml").write_text(DOCUMENT.format(year=year, image=image, objects=text))
    for name, images in lists.items():
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_bytes(f"{ends.join(images)}{ends}".encode())
        # Lists a class, which are not for the reader.
        (folder / "ImageSets" / "Main" / f"dog_{name}.txt").write_text("".join(f"{image} -1\n" for image in images))
    return folder


@pytest.fixture
def voc(tmp_path):
    return make_voc(tmp_path / "VOCdevkit" / "VOC2007")


def signs(bunch, i):
    """What is present and what is unknown in a row."""
    names = np.array(bunch.label_names)
    return sorted(names[bunch.target[i] == 1]), sorted(names[bunch.target[i] == 0])


def test_labels_paths_and_split(tmp_path, voc):
    bunch = load_voc(tmp_path)
    assert bunch.split.tolist() == ["train", "train", "val", "test"]
    assert [path[len(str(voc)) + 1 :] for path in bunch.paths] == [
        f"JPEGImages/{name}.jpg" for name in ("000005", "000012", "000007", "000001")
    ]
    assert [signs(bunch, i) for i in range(4)] == [
        (["dog", "person"], ["chair"]),
        (["car"], []),
        ([], ["chair"]),
        (["person", "train"], []),
    ]
    assert bunch.target.shape == (4, 20)
    assert bunch.target.dtype == np.int8
    assert len(set(bunch.label_names)) == 20
    assert "present 5, absent 73, unknown 2" in bunch.DESCR


@pytest.mark.parametrize(("difficult", "sign"), [("present", 1), ("absent", -1), ("unknown", 0)])
def test_classes_with_difficult_objects_alone(tmp_path, voc, difficult, sign):
    bunch = load_voc(tmp_path, difficult=difficult)
    chair, person, car = (bunch.label_names.index(name) for name in ("chair", "person", "car"))
    assert bunch.target[:, chair].tolist() == [sign, -1, sign, -1]
    # One object that is not difficult is enough, whichever comes first.
    assert bunch.target[0, person] == 1
    assert bunch.target[1, car] == 1


@pytest.mark.parametrize("subset", ["all", "train", "val", "trainval", "test"])
def test_subsets_are_rows_of_all_and_sparse_is_the_same(tmp_path, voc, subset):
    everything, part = load_voc(tmp_path), load_voc(tmp_path, subset=subset, sparse=True)
    wanted = {"all": ("train", "val", "test"), "trainval": ("train", "val")}.get(subset, (subset,))
    rows = np.isin(everything.split, wanted)
    assert part.target.format == "csr"
    np.testing.assert_array_equal(part.target.toarray(), everything.target[rows])
    assert part.paths.tolist() == everything.paths[rows].tolist()
    assert part.split.tolist() == everything.split[rows].tolist()


def test_any_of_the_three_folders_may_be_given(tmp_path, voc):
    for folder in (tmp_path, voc.parent, voc, str(voc)):
        assert load_voc(folder).paths[0] == str(voc / "JPEGImages" / "000005.jpg")


def test_later_years_have_no_labels_of_the_test_images(tmp_path):
    make_voc(tmp_path / "VOC2012", 2012)
    assert set(load_voc(tmp_path, year="2012").split) == {"train", "val"}
    with pytest.raises(ValueError, match="VOC 2012 are not published"):
        load_voc(tmp_path, year=2012, subset="test")


def test_parts_that_were_not_extracted_are_left_out_of_all_alone(tmp_path):
    make_voc(tmp_path / "VOC2007", lists={"test": ["000001"]}, ends="\r\n")
    assert load_voc(tmp_path).split.tolist() == ["test"]
    with pytest.raises(FileNotFoundError, match=r"train\.txt does not exist; extract .* download=True\.$"):
        load_voc(tmp_path, subset="train")


def test_nothing_there_says_what_to_put_where(tmp_path):
    with pytest.raises(
        OSError, match=r"VOCdevkit/VOC2007/ImageSets/Main does not exist; .*VOCtrainval_.*download=True"
    ):
        load_voc(tmp_path / "nowhere")


def test_download_fetches_what_is_not_there(tmp_path, monkeypatch):
    fetched = []

    class Fake:
        def __init__(self, root, *, year, image_set, download):
            assert download
            fetched.append((root, year, image_set))
            if len(fetched) == 1:
                make_voc(tmp_path / "VOCdevkit" / "VOC2007")

    monkeypatch.setattr("torchvision.datasets.VOCDetection", Fake)
    assert len(load_voc(tmp_path, year=2007, download=True).paths) == 4
    assert fetched == [(str(tmp_path), "2007", "trainval")]
    load_voc(tmp_path, year="2007", download=True)
    assert len(fetched) == 1
    with pytest.raises(ValueError, match="needs a year"):
        load_voc(tmp_path, download=True)


def test_the_year_is_the_one_that_is_there(tmp_path):
    later = make_voc(tmp_path / "VOC2012", 2012)
    for folder in (tmp_path, later):
        assert load_voc(folder).DESCR.startswith("PASCAL VOC 2012\n")
    make_voc(tmp_path / "VOCdevkit" / "VOC2007", 2007)
    with pytest.raises(ValueError, match=r"holds the data of 2007 and 2012: choose one by year\.$"):
        load_voc(tmp_path)
    assert [len(load_voc(tmp_path, year=year).paths) for year in (2007, 2012)] == [4, 3]


def rewrite(name, old, new):
    def change(folder):
        path = folder / name
        contents = path.read_bytes()
        assert old in contents
        path.write_bytes(contents.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: rewrite("Annotations/000005.xml", b"</annotation>", b"")(f), r"000005\.xml is not well-formed XML"),
        (lambda f: (f / "Annotations/000005.xml").write_bytes(b""), r"000005\.xml is empty"),
        (lambda f: (f / "Annotations/000005.xml").unlink(), r"000005\.xml does not exist; extract"),
        (rewrite("Annotations/000005.xml", b">dog<", b">kite<"), r"000005\.xml names an object 'kite'"),
        (
            rewrite("Annotations/000005.xml", b"<difficult>1<", b"<difficult>x<"),
            r"000005\.xml has an object with difficult='x'",
        ),
        (rewrite("Annotations/000005.xml", b"<annotation>", b"<!DOCTYPE a><annotation>"), "declares a document type"),
        (rewrite("Annotations/000005.xml", b"dog", b"d\xffg"), r"000005\.xml is not well-formed XML"),
        (rewrite("ImageSets/Main/train.txt", b"000005", b"000012"), r"train\.txt lists the image '000012' more than"),
        (rewrite("ImageSets/Main/val.txt", b"000007", b"000005"), r"val\.txt lists the image '000005', .* earlier"),
        (lambda f: (f / "ImageSets/Main/val.txt").write_bytes(b"\n"), r"val\.txt is empty"),
        (lambda f: (f / "ImageSets/Main/val.txt").write_bytes(b"0\xe9"), r"val\.txt, line 1, is not UTF-8"),
    ],
)
def test_what_is_malformed_is_named_in_one_sentence(voc, damage, said):
    damage(voc)
    with pytest.raises((ValueError, OSError), match=said) as caught:
        load_voc(voc)
    message = str(caught.value)
    assert message.startswith(str(voc))
    assert message.endswith(".")
    assert message.count(". ") == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"year": 2006},
        {"year": "two"},
        {"subset": "testing"},
        {"difficult": True},
        {"sparse": 1},
        {"download": "yes"},
        {"path": None},
    ],
)
def test_arguments_are_checked(voc, wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        load_voc(**{"path": voc, **wrong})


def test_reading_needs_no_torchvision(voc, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    assert len(load_voc(voc).paths) == 4
    with pytest.raises(ImportError):
        load_voc(voc.parent.parent / "other", year=2012, download=True)


def test_damage_of_any_kind(voc, withstands_damage):
    withstands_damage(voc, lambda: load_voc(voc))
