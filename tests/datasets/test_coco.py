"""COCO, its captions, and files in its format, on trees of the published layout."""

from __future__ import annotations

import json

import numpy as np
import pytest

from skpartial.datasets import load_coco, load_coco_json

CATEGORIES = [
    {"supercategory": "person", "id": 1, "name": "person"},
    {"supercategory": "animal", "id": 18, "name": "dog"},
    {"supercategory": "animal", "id": 17, "name": "cat"},
]
# Image ids, and ids of categories of the objects in each.
OBJECTS = {"train": {9: [18, 18, 1], 30: [], 100: [17]}, "val": {42: [1], 8: [18]}}
CAPTIONS = {
    "train": {
        9: ["A man and a dog.", "The man's dog!"],
        30: ["A field, wide and empty"],
        100: ["a cat", "Cat on a mat"],
    },
    "val": {42: ["A man"], 8: ["A zebra, a dog"]},
}


def file_name(split, year, image):
    return f"COCO_{split}{year}_{image:012d}.jpg" if year == 2014 else f"{image:012d}.jpg"


def instances(split, year):
    """The content of a file of instances."""
    images = [{"id": i, "file_name": file_name(split, year, i), "width": 640, "height": 480} for i in OBJECTS[split]]
    objects = [
        {"id": 1000 * i + k, "image_id": i, "category_id": c, "bbox": [1.0, 2.0, 3.0, 4.0], "area": 12.0, "iscrowd": 0}
        | {"segmentation": [[1.0, 2.0, 4.0, 2.0, 4.0, 6.0]] if k else {"counts": [1, 2], "size": [3, 4]}}
        for i, categories in OBJECTS[split].items()
        for k, c in enumerate(categories)
    ]
    return {"info": {"year": year}, "licenses": [], "images": images, "annotations": objects, "categories": CATEGORIES}


def make_coco(root, year=2014):
    """A tree as the archives make it, without photographs."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        content = instances(split, year)
        (root / "annotations" / f"instances_{split}{year}.json").write_text(json.dumps(content))
        said = [
            {"image_id": i, "id": 10 * i + k, "caption": text}
            for i, texts in CAPTIONS[split].items()
            for k, text in enumerate(texts)
        ]
        content = {"info": {}, "images": content["images"], "licenses": [], "annotations": said}
        (root / "annotations" / f"captions_{split}{year}.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def coco(tmp_path):
    return make_coco(tmp_path)


@pytest.mark.parametrize("year", [2014, 2017])
def test_objects(tmp_path, year):
    bunch = load_coco(make_coco(tmp_path, year), year=year)
    assert bunch.label_names == ["person", "dog", "cat"]
    # By ids as strings: 100 before 30 before 9, 42 before 8.
    assert bunch.image_ids.tolist() == [100, 30, 9, 42, 8]
    assert bunch.target.tolist() == [[-1, -1, 1], [-1, -1, -1], [1, 1, -1], [1, -1, -1], [-1, 1, -1]]
    assert bunch.target.dtype == np.int8
    assert bunch.split.tolist() == ["train"] * 3 + ["val"] * 2
    assert bunch.paths[2] == str(tmp_path / f"train{year}" / file_name("train", year, 9))
    assert bunch.paths[3] == str(tmp_path / f"val{year}" / file_name("val", year, 42))


@pytest.mark.parametrize("labels", ["instances", "caption_words"])
@pytest.mark.parametrize("drop_empty", [False, True])
@pytest.mark.parametrize("subset", ["all", "train", "val"])
def test_subsets_are_rows_of_all_and_sparse_is_the_same(coco, labels, drop_empty, subset):
    settings = {"labels": labels, "n_words": 4}
    everything = load_coco(coco, **settings)
    part = load_coco(coco, subset=subset, drop_empty=drop_empty, sparse=True, **settings)
    rows = np.isin(everything.split, ["train", "val"] if subset == "all" else [subset])
    if drop_empty:
        rows &= (everything.target == 1).any(axis=1)
    assert part.label_names == everything.label_names
    assert part.target.format == "csr"
    np.testing.assert_array_equal(part.target.toarray(), everything.target[rows])
    for name in ("paths", "split", "image_ids"):
        assert part[name].tolist() == everything[name][rows].tolist()


def test_the_year_is_the_one_that_is_there(tmp_path):
    assert load_coco(make_coco(tmp_path, 2017)).paths[0] == str(tmp_path / "train2017" / file_name("train", 2017, 100))
    make_coco(tmp_path, 2014)
    with pytest.raises(ValueError, match=r"holds the data of 2014 and 2017: choose one by year\.$"):
        load_coco(tmp_path)
    assert load_coco(tmp_path, year="2014").DESCR.startswith("MS-COCO 2014\n")


def test_images_without_objects_are_dropped_on_request(coco):
    assert load_coco(coco, drop_empty=True).image_ids.tolist() == [100, 9, 42, 8]


def test_words_are_the_most_frequent_of_the_training_captions(coco):
    bunch = load_coco(coco, labels="caption_words", n_words=4)
    # a: 5 times, and: 2, cat: 2, dog: 2; "man's" is a word of its own.
    assert bunch.label_names == ["a", "and", "cat", "dog"]
    assert bunch.target.tolist() == [[1, -1, 1, -1], [1, 1, -1, -1], [1, 1, -1, 1], [1, -1, -1, -1], [1, -1, -1, 1]]
    # Those of the training captions, whichever images are asked for.
    assert load_coco(coco, labels="caption_words", n_words=4, subset="val").label_names == bunch.label_names
    words = load_coco(coco, labels="caption_words", n_words=3, stop_words=["a", "and"]).label_names
    assert words == ["cat", "dog", "empty"]
    with pytest.raises(
        ValueError, match=r"captions_train2014\.json has 12 different words in its captions, fewer than"
    ):
        load_coco(coco, labels="caption_words")


def test_photographs_may_be_in_a_folder_of_images(coco):
    (coco / "images" / "val2014").mkdir(parents=True)
    bunch = load_coco(coco)
    assert bunch.paths[3].startswith(str(coco / "images" / "val2014"))
    assert bunch.paths[0].startswith(str(coco / "train2014"))


def test_what_is_not_there_says_what_to_put_where(coco):
    with pytest.raises(
        OSError, match=r"instances_train2017\.json does not exist; extract annotations_trainval2017\.zip"
    ):
        load_coco(coco, year=2017)
    with pytest.raises(NotADirectoryError, match="must be the folder that holds annotations/"):
        load_coco(coco / "annotations" / "instances_train2014.json")
    (coco / "annotations" / "captions_train2014.json").unlink()
    with pytest.raises(OSError, match=r"captions_train2014\.json does not exist"):
        load_coco(coco, labels="caption_words", subset="val", n_words=2)


def change(content, where, value):
    """A copy of a file's content with something else in one place; None removes it."""
    content = json.loads(json.dumps(content))
    at = content
    for key in where[:-1]:
        at = at[key]
    if value is None:
        del at[where[-1]]
    elif isinstance(at, list) and where[-1] == len(at):
        at.append(value)
    else:
        at[where[-1]] = value
    return content


DAMAGE = [
    (("images",), None, "has no list 'images'"),
    (("annotations",), {}, "has no list 'annotations'"),
    (("categories",), [], "lists no categories"),
    (("images",), [], "lists no images"),
    (("images", 0), "a.jpg", "has no 'id' in item 0 of 'images'"),
    (("images", 0, "id"), None, "has no 'id' in item 0 of 'images'"),
    (("images", 0, "id"), [9], r"has id=\[9\] in item 0 of 'images'"),
    (("images", 0, "file_name"), None, "has no file_name for the image with id 9"),
    (("images", 1, "id"), 9, "has the image id 9 more than once"),
    (("images", 1, "file_name"), file_name("train", 2014, 9), "lists the image 'COCO_.*9.jpg' more than once"),
    (("categories", 1, "id"), 1, "has the category id 1 more than once"),
    (("categories", 1, "name"), "cat", "has the category 'cat' more than once"),
    (("annotations", 0, "category_id"), 5, "has category_id=5, which is not the id of a category"),
    (("annotations", 0, "category_id"), [5], r"has category_id=\[5\], which"),
    (("annotations", 0, "category_id"), None, "has no 'category_id' in item 0 of 'annotations'"),
    (("annotations", 0, "image_id"), 10, "has an annotation with image_id=10, which is not the id of an image"),
    (("images", 0, "neg_category_ids"), [1], "says that 'person' is both present and absent in the image"),
    (("images", 0, "neg_category_ids"), [3], "has category_id=3"),
    (("images", 0, "neg_category_ids"), 3, "has neg_category_ids=3 for the image with id 9, which should be a list"),
]


@pytest.mark.parametrize(("where", "value", "said"), DAMAGE, ids=[said for _, _, said in DAMAGE])
def test_what_is_malformed_is_named_in_one_sentence(coco, where, value, said):
    path = coco / "annotations" / "instances_train2014.json"
    path.write_text(json.dumps(change(instances("train", 2014), where, value)))
    for read, given in ((load_coco, coco), (load_coco_json, path)):
        with pytest.raises(ValueError, match=said) as caught:
            read(given)
        assert str(caught.value).startswith(f"{path} ")
        assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (b"", "is empty"),
        (b'{"images": [', "is not well-formed JSON"),
        (b'{"a": "\xff"}', "is not UTF-8"),
        (b"[1]", "list"),
    ],
)
def test_files_that_are_no_json_of_coco(tmp_path, contents, said):
    path = tmp_path / "file.json"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=rf"file\.json.* {said}.*\.$"):
        load_coco_json(path)


def test_files_of_train_and_val_must_fit_together(coco):
    path = coco / "annotations" / "instances_val2014.json"
    content = instances("val", 2014)
    path.write_text(json.dumps(change(content, ("categories", 0, "name"), "people")))
    with pytest.raises(ValueError, match=r"val2014\.json has different categories from instances_train2014\.json\.$"):
        load_coco(coco)
    path.write_text(json.dumps(change(content, ("images", 2), {"id": 9, "file_name": "9.jpg"})))
    with pytest.raises(ValueError, match="list the same image"):
        load_coco(coco)


def test_captions_of_images_that_are_not_listed(coco):
    path = coco / "annotations" / "captions_val2014.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()), ("annotations", 0, "image_id"), 43)))
    with pytest.raises(ValueError, match=r"captions_val2014\.json has a caption with image_id=43"):
        load_coco(coco, labels="caption_words", n_words=2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"year": 2015},
        {"subset": "test"},
        {"labels": "captions"},
        {"n_words": 0},
        {"stop_words": "a"},
        {"drop_empty": None},
        {"sparse": "no"},
    ],
)
def test_arguments_are_checked(coco, wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        load_coco(coco, **wrong)


class TestCocoJson:
    """Files of any tool in the format of COCO."""

    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "_annotations.coco.json"
        path.write_bytes(
            b"\xef\xbb\xbf" + json.dumps(instances("train", 2014), indent=1).replace("\n", "\r\n").encode()
        )
        return path

    def test_what_is_not_annotated_is_unknown(self, path):
        bunch = load_coco_json(path)
        assert bunch.target.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
        assert bunch.label_names == ["person", "dog", "cat"]
        assert bunch.image_ids.tolist() == [9, 30, 100]
        assert bunch.paths[0] == str(path.parent / file_name("train", 2014, 9))
        sparse = load_coco_json(path, sparse=True).target
        assert sparse.nnz == 3
        np.testing.assert_array_equal(sparse.toarray(), bunch.target)

    def test_or_absent_on_request(self, path):
        expected = [[1, 1, -1], [-1, -1, -1], [-1, -1, 1]]
        assert load_coco_json(path, unannotated="absent").target.tolist() == expected
        assert load_coco_json(path, unannotated="absent", sparse=True).target.toarray().tolist() == expected

    def test_absences_that_the_file_states(self, path):
        content = change(instances("train", 2014), ("images", 0, "neg_category_ids"), [17])
        content = change(content, ("images", 2, "neg_category_ids"), [1, 18])
        path.write_text(json.dumps(content))
        bunch = load_coco_json(path)
        assert bunch.target.tolist() == [[1, 1, -1], [0, 0, 0], [-1, -1, 1]]
        np.testing.assert_array_equal(load_coco_json(path, sparse=True).target.toarray(), bunch.target)

    def test_images_elsewhere_and_by_address(self, path):
        content = change(instances("train", 2014), ("images", 0, "file_name"), "sub\\a.jpg")
        content = change(content, ("images", 1, "file_name"), None)
        content["images"][1]["coco_url"] = "http://images.cocodataset.org/train2017/000000000030.jpg"
        path.write_text(json.dumps(content))
        paths = load_coco_json(path, images=path.parent / "photos").paths
        assert paths[0] == str(path.parent / "photos" / "sub" / "a.jpg")
        assert paths[1] == str(path.parent / "photos" / "train2017" / "000000000030.jpg")

    def test_ids_may_be_strings_and_there_may_be_no_annotations(self, path):
        content = {"images": [{"id": "x", "file_name": "x.jpg"}], "categories": [{"id": "c", "name": 7}]}
        path.write_text(json.dumps({**content, "annotations": []}))
        bunch = load_coco_json(path)
        assert bunch.target.tolist() == [[0]]
        assert bunch.label_names == ["7"]

    def test_arguments_are_checked(self, path):
        with pytest.raises(ValueError, match="unannotated"):
            load_coco_json(path, unannotated=0)
        with pytest.raises(ValueError, match="images must be a path"):
            load_coco_json(path, images=["a.jpg"])


@pytest.mark.parametrize("labels", ["instances", "caption_words"])
def test_damage_of_any_kind(coco, withstands_damage, labels):
    withstands_damage(coco, lambda: load_coco(coco, labels=labels, n_words=2))
