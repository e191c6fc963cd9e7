"""CUB-200-2011, on trees of the published layout."""

from __future__ import annotations

import numpy as np
import pytest

from skpartial.datasets import load_cub

IMAGES = ["001.Black_footed_Albatross/a_1.jpg", "001.Black_footed_Albatross/a_2.jpg", "002.Laysan_Albatross/b_1.jpg"]
ATTRIBUTES = ["has_bill_shape::curved_(up_or_down)", "has_wing_color::blue", "has_wing_color::brown"]
PRESENT = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1]])
CERTAINTY = np.array([[4, 1, 3], [1, 2, 4], [1, 4, 3]])


def numbered(values):
    return "".join(f"{i + 1} {value}\n" for i, value in enumerate(values))


def make_cub(root, *, n_columns=5):
    """A tree as the archive makes it."""
    folder = root / "CUB_200_2011"
    (folder / "attributes").mkdir(parents=True)
    times = ["27.7080", "0", "1"][: n_columns - 4]
    lines = [
        " ".join(map(str, [i + 1, j + 1, PRESENT[i, j], CERTAINTY[i, j], *times])) for i in range(3) for j in range(3)
    ]
    files = {
        "images.txt": numbered(IMAGES),
        "train_test_split.txt": numbered([0, 1, 1]),
        "classes.txt": numbered(["001.Black_footed_Albatross", "002.Laysan_Albatross"]),
        "image_class_labels.txt": numbered([1, 1, 2]),
        "../attributes.txt": numbered(ATTRIBUTES),
        "attributes/certainties.txt": "1 not visible\n2 guessing\n3 probably\n4 definitely\n",
        "attributes/image_attribute_labels.txt": "\n".join(lines) + "\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def cub(tmp_path):
    return make_cub(tmp_path)


@pytest.mark.parametrize("n_columns", [5, 7])
def test_labels_paths_and_split(tmp_path, n_columns):
    folder = make_cub(tmp_path, n_columns=n_columns)
    bunch = load_cub(tmp_path)
    assert bunch.label_names == ATTRIBUTES
    np.testing.assert_array_equal(bunch.target, 2 * PRESENT - 1)
    np.testing.assert_array_equal(bunch.certainty, CERTAINTY)
    assert bunch.target.dtype == bunch.certainty.dtype == np.int8
    assert bunch.split.tolist() == ["test", "train", "train"]
    assert bunch.species.tolist() == ["001.Black_footed_Albatross"] * 2 + ["002.Laysan_Albatross"]
    assert bunch.paths[0] == str(folder / "images" / "001.Black_footed_Albatross" / "a_1.jpg")
    assert load_cub(folder).paths.tolist() == bunch.paths.tolist()


@pytest.mark.parametrize("least", [1, 2, 3, 4])
def test_entries_of_lesser_certainty_are_unknown(cub, least):
    expected = np.where(least <= CERTAINTY, 2 * PRESENT - 1, 0)
    np.testing.assert_array_equal(load_cub(cub, min_certainty=least).target, expected)
    sparse = load_cub(cub, min_certainty=least, sparse=True).target
    assert sparse.nnz == (least <= CERTAINTY).sum()
    np.testing.assert_array_equal(sparse.toarray(), expected)


@pytest.mark.parametrize("subset", ["train", "test"])
def test_subsets_are_rows_of_all(cub, subset):
    everything, part = load_cub(cub), load_cub(cub, subset=subset)
    rows = everything.split == subset
    for name in ("target", "certainty", "paths", "species", "split"):
        np.testing.assert_array_equal(part[name], everything[name][rows])


def test_numbers_are_identifiers_in_any_order(cub):
    (cub / "images.txt").write_text("30 x/c.jpg\n10 x/a.jpg\n20 x/b.jpg\n")
    (cub / "train_test_split.txt").write_text("10 1\n20 0\n30 1\n")
    (cub / "image_class_labels.txt").write_text("10 1\n20 2\n30 1\n")
    (cub.parent / "attributes.txt").write_text("7 seven\n5 five\n")
    lines = ["10 5 1 4 1", "10 7 0 3 1", "20 5 0 2 1", "30 7 1 4 1", "30 5 0 1 1", "20 7 1 1 1"]
    (cub / "attributes" / "image_attribute_labels.txt").write_text("\n".join(lines))
    bunch = load_cub(cub)
    assert bunch.label_names == ["seven", "five"]
    assert bunch.target.tolist() == [[1, -1], [-1, 1], [1, -1]]
    assert bunch.certainty.tolist() == [[4, 1], [3, 4], [1, 2]]
    assert bunch.split.tolist() == ["train", "train", "test"]


def test_what_has_no_line_is_unknown_and_told(cub):
    path = cub / "attributes" / "image_attribute_labels.txt"
    path.write_text("\n".join(path.read_text().split("\n")[:7]))
    with pytest.warns(UserWarning, match=r"image_attribute_labels\.txt has no line for 2 of 9 pairs") as caught:
        bunch = load_cub(cub)
    assert caught[0].filename == __file__
    assert bunch.target[2].tolist() == [-1, 0, 0]
    assert bunch.certainty[2].tolist() == [1, 0, 0]


def test_species_are_left_out_where_their_files_are(cub):
    (cub / "classes.txt").unlink()
    assert "species" not in load_cub(cub)


LABELS = "attributes/image_attribute_labels.txt"


@pytest.mark.parametrize(
    ("name", "contents", "said"),
    [
        (LABELS, b"1 1 0\n", "must have lines of image, attribute, presence, certainty and time"),
        (LABELS, b"1 1 0 4 9.5\n1 2 x 4 9.5\n", "must have lines of image, attribute"),
        (LABELS, b"1 1 0 4 1\n1 2 2 4 1\n", "line 2, has the presence 2, which should be 0 to 1"),
        (LABELS, b"1 1 0 5 1\n", "line 1, has the certainty 5, which should be 1 to 4"),
        (LABELS, b"1 1 0 4 1\n4 1 0 4 1\n", "line 2, names the image 4, which is not listed"),
        (LABELS, b"1 9 0 4 1\n", "line 1, names the attribute 9, which is not listed"),
        (LABELS, b"1 2 0 4 1\n1 2 1 4 1\n", "has image 1 and attribute 2 more than once"),
        (LABELS, b"", "is empty"),
        (LABELS, None, "does not exist; extract"),
        ("images.txt", b"1 a.jpg\n1 b.jpg\n", "has the number 1 more than once"),
        ("images.txt", b"1 a.jpg\n2 a.jpg\n3 c.jpg\n", "lists the image 'a.jpg' more than once"),
        ("images.txt", b"1\n", "has the line '1', which should be a number and a name"),
        ("images.txt", b"1 \xff\n", "line 1, is not UTF-8"),
        ("train_test_split.txt", b"1 0\n2 1\n", "has no line for the image 3"),
        ("train_test_split.txt", b"1 0\n2 1\n3 2\n", "has a number that is not 0 or 1"),
        ("train_test_split.txt", b"1 0\n2 1\n3 x\n", "has a line that is not two numbers"),
        ("image_class_labels.txt", b"1 1\n2 1\n3 3\n", "names the class 3, which classes.txt does not list"),
        ("images.txt", None, "does not exist; extract CUB_200_2011.tgz"),
    ],
)
def test_what_is_malformed_is_named(cub, refuses, name, contents, said):
    path = cub / name
    if contents is None:
        path.unlink()
        if name == "images.txt":
            path = cub / "CUB_200_2011" / name
    else:
        path.write_bytes(contents)
    refuses(lambda: load_cub(cub), path, said)


def test_a_subset_without_images(cub, refuses):
    (cub / "train_test_split.txt").write_text(numbered([1, 1, 1]))
    refuses(lambda: load_cub(cub, subset="test"), cub / "train_test_split.txt", "has no image for subset='test'")


@pytest.mark.parametrize(
    "wrong", [{"subset": "val"}, {"min_certainty": 0}, {"min_certainty": 5}, {"min_certainty": 2.0}, {"sparse": None}]
)
def test_arguments_are_checked(cub, wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        load_cub(cub, **wrong)


def test_damage_of_any_kind(cub, withstands_damage):
    withstands_damage(cub.parent, lambda: load_cub(cub))
