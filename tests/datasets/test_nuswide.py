"""NUS-WIDE, on trees of the published layout."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from skpartial.datasets import load_nuswide

CONCEPTS = ["airport", "water", "animal"]
IMAGES = {
    "Train": ["actor\\0001_2124494179.jpg", "zoo\\0002_1.jpg", "actor\\0003_2.jpg"],
    "Test": ["zoo\\0004_3.jpg", "zoo\\0005_4.jpg"],
}
LABELS = {"Train": [[1, 0, 1], [0, 0, 0], [0, 1, 0]], "Test": [[0, 0, 1], [1, 1, 1]]}


def make_nuswide(root, ends="\r\n"):
    """A tree as the archives make it; of the photographs all but two are there."""
    for name in ("ImageList", "Groundtruth/TrainTestLabels", "ConceptsList", "Flickr/actor", "Flickr/zoo"):
        (root / name).mkdir(parents=True)
    (root / "ConceptsList" / "Concepts81.txt").write_bytes("".join(f"{name}{ends}" for name in CONCEPTS).encode())
    for part, images in IMAGES.items():
        (root / "ImageList" / f"{part}Imagelist.txt").write_bytes("".join(f"{name}{ends}" for name in images).encode())
        for concept, column in zip(CONCEPTS, zip(*LABELS[part])):
            path = root / "Groundtruth" / "TrainTestLabels" / f"Labels_{concept}_{part}.txt"
            path.write_text("".join(f"{value} \n" for value in column))
        for image in images:
            if image not in ("zoo\\0002_1.jpg", "zoo\\0005_4.jpg"):
                (root / "Flickr" / image.replace("\\", "/")).touch()
    return root


@pytest.fixture
def nus(tmp_path):
    return make_nuswide(tmp_path)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_labels_paths_and_split(tmp_path, ends):
    bunch = load_nuswide(make_nuswide(tmp_path, ends), missing="ignore")
    assert bunch.label_names == CONCEPTS
    np.testing.assert_array_equal(bunch.target, 2 * np.array(LABELS["Train"] + LABELS["Test"]) - 1)
    assert bunch.target.dtype == np.int8
    assert bunch.split.tolist() == ["train"] * 3 + ["test"] * 2
    assert bunch.paths[0] == str(tmp_path / "Flickr" / "actor" / "0001_2124494179.jpg")
    assert "missing" not in bunch


@pytest.mark.parametrize("subset", ["all", "train", "test"])
def test_subsets_are_rows_of_all_and_sparse_is_the_same(nus, subset):
    everything = load_nuswide(nus, missing="ignore")
    part = load_nuswide(nus, subset=subset, missing="ignore", sparse=True)
    rows = np.isin(everything.split, ["train", "test"] if subset == "all" else [subset])
    assert part.target.format == "csr"
    np.testing.assert_array_equal(part.target.toarray(), everything.target[rows])
    assert part.paths.tolist() == everything.paths[rows].tolist()


def test_missing_photographs_are_told_of_once(nus):
    with pytest.warns(UserWarning, match=r"^2 of 5 images .*zoo.0002_1\.jpg: missing='drop' leaves .*\.$") as caught:
        bunch = load_nuswide(nus)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert len(bunch.paths) == 5
    assert bunch.missing.tolist() == [str(nus / "Flickr" / "zoo" / name) for name in ("0002_1.jpg", "0005_4.jpg")]


def test_and_left_out_on_request(nus):
    everything = load_nuswide(nus, missing="ignore")
    with pytest.warns(UserWarning, match="2 of 5 images .* their rows are left out"):
        bunch = load_nuswide(nus, missing="drop")
    kept = [0, 2, 3]
    np.testing.assert_array_equal(bunch.target, everything.target[kept])
    assert bunch.paths.tolist() == everything.paths[kept].tolist()
    assert bunch.split.tolist() == everything.split[kept].tolist()
    assert len(bunch.missing) == 2


def test_nothing_is_said_where_all_are_there(nus):
    for name in ("0002_1.jpg", "0005_4.jpg"):
        (nus / "Flickr" / "zoo" / name).touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_nuswide(nus).missing) == 0


def test_photographs_may_be_in_images_and_concepts_beside_the_folders(nus):
    (nus / "Flickr").rename(nus / "images")
    (nus / "ConceptsList" / "Concepts81.txt").rename(nus / "Concepts81.txt")
    with pytest.warns(UserWarning, match="2 of 5"):
        assert load_nuswide(nus).paths[0].startswith(str(nus / "images"))


@pytest.mark.filterwarnings("ignore:5 of 5 images")
def test_no_photographs_at_all_are_refused_where_rows_are_dropped(nus, refuses):
    (nus / "Flickr").rename(nus / "elsewhere")
    refuses(lambda: load_nuswide(nus, missing="drop"), nus / "Flickr", "holds none of the 5 listed images")


def test_without_a_list_of_concepts_they_are_those_of_the_files(nus, refuses):
    path = nus / "ConceptsList" / "Concepts81.txt"
    listed = load_nuswide(nus, missing="ignore")
    path.unlink()
    bunch = load_nuswide(nus, missing="ignore")
    assert bunch.label_names == sorted(CONCEPTS)
    order = [CONCEPTS.index(name) for name in bunch.label_names]
    np.testing.assert_array_equal(bunch.target, listed.target[:, order])
    (nus / "Groundtruth" / "TrainTestLabels").rename(nus / "elsewhere")
    refuses(lambda: load_nuswide(nus, missing="ignore"), path, "does not exist; extract ImageList.zip")


LABELS_FILE = "Groundtruth/TrainTestLabels/Labels_water_Train.txt"


@pytest.mark.parametrize(
    ("name", "contents", "said"),
    [
        (LABELS_FILE, b"0\n0\n", "holds 2 labels, but the list of images 3 images"),
        (LABELS_FILE, b"0\n0\n2\n", "holds '2', but every line should be 0 or 1"),
        (LABELS_FILE, b"", "is empty"),
        (LABELS_FILE, None, "does not exist; extract"),
        ("ImageList/TrainImagelist.txt", b"a.jpg\nb.jpg\na.jpg\n", "lists the image 'a.jpg' more than once"),
        ("ImageList/TrainImagelist.txt", b"a.jpg\n\xe9.jpg\n", "line 2, is not UTF-8"),
        ("ImageList/TestImagelist.txt", None, "does not exist; extract"),
        ("ConceptsList/Concepts81.txt", b"airport\nairport\n", "lists the concept 'airport' more than once"),
    ],
)
def test_what_is_malformed_is_named(nus, refuses, name, contents, said):
    if contents is None:
        (nus / name).unlink()
    else:
        (nus / name).write_bytes(contents)
    refuses(lambda: load_nuswide(nus, missing="ignore"), nus / name, said)


def test_an_image_for_training_and_testing_is_refused(nus, refuses):
    (nus / "ImageList" / "TestImagelist.txt").write_text("zoo/0002_1.jpg\nx.jpg\n")
    refuses(
        lambda: load_nuswide(nus, missing="ignore"), nus / "ImageList", "'zoo/0002_1.jpg' for training and for test"
    )


@pytest.mark.parametrize("wrong", [{"subset": "val"}, {"missing": "error"}, {"sparse": 0}])
def test_arguments_are_checked(nus, wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        load_nuswide(nus, **wrong)
    with pytest.raises(OSError, match="does not exist; path must be the folder"):
        load_nuswide(nus / "nowhere")


def test_damage_of_any_kind(nus, withstands_damage):
    withstands_damage(nus, lambda: load_nuswide(nus))
