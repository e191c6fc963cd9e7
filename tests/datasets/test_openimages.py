"""Open Images: trees of the published layouts against the tables read by hand, and files that are wrong."""

from __future__ import annotations

import csv
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from skpartial.datasets import _csv_blocks, load_openimages
from skpartial.images._sources import as_source, holds_images

HEADER = "ImageID,Source,LabelName,Confidence\n"
CLASSES = ["/m/01yrx", "/m/0bt9lr", "/m/011k07", "/g/11c1rdz2h4xyz"]
NAMES = {"/m/01yrx": "Cat", "/m/0bt9lr": "Dog", "/m/011k07": "Tortoise", "/g/11c1rdz2h4xyz": "Bow, tie", "/m/0": "Dog"}
A, B, C = "000026e7ee790996", "000062a39995e348", "ffff21932da3ed01"
HUMAN = [(A, "/m/01yrx", "1"), (A, "/m/0bt9lr", "0"), (B, "/m/011k07", "1"), (B, "/m/0zzzz", "1")]
MACHINE = [
    (A, "/m/0bt9lr", "0.9"),
    (A, "/m/011k07", "0.5"),
    (C, "/m/01yrx", "0.7"),
    (C, "/m/011k07", "0.2"),
    (C, "/g/11c1rdz2h4xyz", "1.0"),
]
EXPECTED = {A: [1, -1, 1, 0], B: [0, 0, 1, 0], C: [1, 0, 0, 1]}


def lines(rows, source="verification"):
    return HEADER + "".join(f"{image},{source},{label},{value}\n" for image, label, value in rows)


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def described(header=""):
    return header + "".join(f'{key},"{name}"\n' for key, name in NAMES.items())


LISTED = "".join(f"{name}\n" for name in CLASSES)
LAYOUTS = {
    3: {
        "2017_11/classes-trainable.txt": LISTED,
        "2017_11/class-descriptions.csv": described(),
        "2017_11/train/annotations-human.csv": lines(HUMAN),
        "2017_11/train/annotations-machine.csv": lines(MACHINE, "machine"),
    },
    4: {
        "classes-trainable.txt": LISTED,
        "class-descriptions.csv": described(),
        "train/train-annotations-human-imagelabels.csv": lines(HUMAN),
        "train/train-annotations-machine-imagelabels.csv": lines(MACHINE, "machine"),
    },
    5: {
        "classes-trainable.txt": LISTED,
        "class-descriptions.csv": described(),
        "train-annotations-human-imagelabels.csv": lines(HUMAN),
        "train-annotations-machine-imagelabels.csv": lines(MACHINE, "machine"),
    },
    6: {
        "oidv6-classes-trainable.txt": LISTED,
        "oidv6-class-descriptions.csv": described("LabelName,DisplayName\n"),
        "oidv6-train-annotations-human-imagelabels.csv": lines(HUMAN),
        "train-annotations-machine-imagelabels.csv": lines(MACHINE, "machine"),
    },
    7: {
        "oidv7-classes-trainable.txt": LISTED,
        "oidv7-class-descriptions.csv": described("LabelName,DisplayName\n"),
        "oidv7-train-annotations-human-imagelabels.csv": lines(HUMAN),
        "oidv7-train-annotations-machine-imagelabels.csv": lines(MACHINE, "machine"),
    },
}


@pytest.fixture
def tree(tmp_path):
    return write(tmp_path, LAYOUTS[5])


@pytest.mark.parametrize("version", LAYOUTS)
@pytest.mark.parametrize("named", [True, False])
def test_published_layouts(tmp_path, version, named):
    folder = write(tmp_path, LAYOUTS[version])
    data = load_openimages(folder, version=version if named else None)
    assert [path[-20:-4] for path in data.paths] == [A, B, C]
    assert data.paths[1] == str(tmp_path / "train" / f"{B}.jpg")
    assert data.target.dtype == np.int8
    np.testing.assert_array_equal(data.target.toarray(), [EXPECTED[key] for key in (A, B, C)])
    assert data.target.nnz == 6
    assert data.label_ids == CLASSES
    assert data.label_names == ["Cat", "Dog", "Tortoise", "Bow, tie"]
    assert data.split.tolist() == ["train"] * 3
    assert "present 5, absent 1" in data.DESCR
    np.testing.assert_array_equal(load_openimages(folder, sparse=False).target, data.target.toarray())


def test_kinds_and_thresholds(tree):
    human = load_openimages(tree, labels="human")
    np.testing.assert_array_equal(human.target.toarray(), [[1, -1, 0, 0], [0, 0, 1, 0]])
    machine = load_openimages(tree, labels="machine")
    np.testing.assert_array_equal(machine.target.toarray(), [[0, 1, 1, 0], [1, 0, 0, 1]])
    strict = load_openimages(tree, labels="machine", present_from=0.7, absent_to=0.2)
    np.testing.assert_array_equal(strict.target.toarray(), [[0, 1, 0, 0], [1, 0, -1, 1]])
    both = load_openimages(tree, present_from=0.95, absent_to=0.6)
    np.testing.assert_array_equal(both.target.toarray(), [[1, -1, -1, 0], [0, 0, 1, 0], [0, 0, -1, 1]])


def test_the_newest_file_is_taken(tree):
    """Whatever the validation set is called, and whatever else lies there."""
    write(tree, {"oidv7-val-annotations-human-imagelabels.csv": lines([(A, "/m/01yrx", "1")])})
    write(tree, {"oidv6-validation-annotations-human-imagelabels.csv": lines([(B, "/m/01yrx", "1")])})
    write(tree, {"validation-annotations-human-imagelabels.csv": lines([(C, "/m/01yrx", "1")])})
    for version, image in ((None, A), (7, A), (6, B), (5, C), (4, C)):
        data = load_openimages(tree, subset="val", version=version)
        assert list(data.paths) == [str(tree / "validation" / f"{image}.jpg")]
    with pytest.raises(FileNotFoundError):
        load_openimages(tree, subset="val", version=3)


def test_people_who_contradict_each_other(tree):
    rows = [(A, "/m/01yrx", "1"), (A, "/m/01yrx", "0"), (A, "/m/0bt9lr", "0"), (A, "/m/0bt9lr", "1")]
    rows += [(A, "/m/0bt9lr", "0"), (A, "/m/011k07", "1"), (A, "/m/011k07", "1")]
    write(tree, {"train-annotations-human-imagelabels.csv": lines(rows)})
    write(tree, {"train-annotations-machine-imagelabels.csv": lines([(A, "/m/01yrx", "1"), (A, "/m/011k07", "1")])})
    # The machine does not break the tie.
    data = load_openimages(tree)
    np.testing.assert_array_equal(data.target.toarray(), [[0, -1, 1, 0]])
    assert data.target.nnz == 2


def test_classes(tree):
    boxes = "/m/011k07,Tortoise\n/m/01yrx,Cat\n"
    write(tree, {"class-descriptions-boxable.csv": boxes})
    data = load_openimages(tree, classes="boxable")
    assert data.label_names == ["Tortoise", "Cat"]
    np.testing.assert_array_equal(data.target.toarray(), [[1, 1], [1, 0], [0, 1]])
    write(tree, {"oidv7-class-descriptions-boxable.csv": "LabelName,DisplayName\n" + boxes[::1].split("\n")[0] + "\n"})
    assert load_openimages(tree, classes="boxable").label_names == ["Tortoise"]
    assert load_openimages(tree, classes="boxable", version=6).label_names == ["Tortoise", "Cat"]
    every = load_openimages(tree, classes="all")
    assert every.label_names == ["Cat", "Dog (/m/0bt9lr)", "Tortoise", "Bow, tie", "Dog (/m/0)"]
    chosen = load_openimages(tree, classes=["Tortoise", "/m/01yrx"])
    assert chosen.label_ids == ["/m/011k07", "/m/01yrx"]
    np.testing.assert_array_equal(chosen.target.toarray(), [[1, 1], [1, 0], [0, 1]])
    with pytest.raises(ValueError, match="classes holds 'Unicorn', which is neither an id nor a name"):
        load_openimages(tree, classes=["Cat", "Unicorn"])


def test_boxable_files_are_shorter(tree):
    write(tree, {"class-descriptions-boxable.csv": "/m/01yrx,Cat\n"})
    write(tree, {"train-annotations-human-imagelabels-boxable.csv": lines(HUMAN[:2])})
    assert load_openimages(tree, classes="boxable", labels="human").target.shape == (1, 1)
    assert load_openimages(tree, labels="human").target.shape == (2, 4)


def test_parts_of_the_split(tree):
    write(tree, {"oidv7-val-annotations-human-imagelabels.csv": lines([(C, "/m/01yrx", "0")])})
    write(tree, {"test/test-annotations-human-imagelabels.csv": lines([(A, "/m/01yrx", "1")])})
    data = load_openimages(tree, labels="human")
    assert data.split.tolist() == ["train", "train", "val", "test"]
    np.testing.assert_array_equal(data.target.toarray()[2:], [[-1, 0, 0, 0], [1, 0, 0, 0]])
    assert data.paths[2] == str(tree / "validation" / f"{C}.jpg")
    one = load_openimages(tree, labels="human", subset="val")
    assert list(one.paths) == [data.paths[2]]
    np.testing.assert_array_equal(one.target.toarray(), [[-1, 0, 0, 0]])


def test_paths_are_a_sequence(tree):
    paths = load_openimages(tree).paths
    assert len(paths) == 3
    listed = list(paths)
    assert list(paths[np.array([True, False, True])]) == listed[::2]
    assert list(paths[[2, 0]]) == [listed[2], listed[0]]
    assert list(paths[1:]) == listed[1:]
    assert paths[-1] == listed[-1]
    np.testing.assert_array_equal(np.asarray(paths), np.array(listed))
    train, test = train_test_split(paths, test_size=1, random_state=0)
    assert sorted([*train, *test]) == listed
    assert holds_images(paths)
    assert as_source(paths, (8, 8)).n_rows == 3
    assert repr(paths).startswith("<paths of 3 images: '")


# ------------------------------------------------------------------------------------------- any table, any block

image_ids = st.sampled_from(["a", "0b", A, B, "an id that is longer than two words", "é"])
labels = st.sampled_from([*CLASSES, "/m/01yr", "/m/01yrxx", "/g/11c1rdz2h4xyz2", "/m/"])
confidences = st.sampled_from(["0", "1", "0.5", "0.75", "1.0", "0.49", ".6", "5e-1", "1.00"])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(image_ids, labels, confidences), min_size=1, max_size=30),
    end=st.sampled_from(["\n", "\r\n"]),
    quoted=st.booleans(),
    blank=st.booleans(),
    last_end=st.booleans(),
    order=st.permutations(["ImageID", "Source", "LabelName", "Confidence", "More"]),
    n_bytes=st.sampled_from([7, 64, 1 << 20]),
)
def test_any_table_in_blocks_of_any_size(tmp_path, rows, end, quoted, blank, last_end, order, n_bytes):
    records = [dict(zip(("ImageID", "LabelName", "Confidence"), row), Source="machine", More="a b+c") for row in rows]
    quote = '"' if quoted else ""
    texts = [",".join(order)] + [",".join(f"{quote}{record[name]}{quote}" for name in order) for record in records]
    if blank:
        texts.insert(1 + len(rows) // 2, "")
    write(tmp_path, {**LAYOUTS[5], "train-annotations-machine-imagelabels.csv": end.join(texts) + end * last_end})
    expected: dict[str, np.ndarray] = {}
    for image, label, value in rows:
        entries = expected.setdefault(image, np.zeros(4, dtype=int))
        if label in CLASSES and float(value) >= 0.5:
            entries[CLASSES.index(label)] = 1
    before, _csv_blocks._BLOCK_BYTES = _csv_blocks._BLOCK_BYTES, n_bytes
    try:
        data = load_openimages(tmp_path, labels="machine")
    finally:
        _csv_blocks._BLOCK_BYTES = before
    order = sorted(expected, key=str.encode)
    assert [path.rpartition("/")[2] for path in data.paths] == [f"{image}.jpg" for image in order]
    np.testing.assert_array_equal(data.target.toarray(), [expected[image] for image in order])


def many(n_rows, seed=0):
    generator = np.random.default_rng(seed)
    images = np.sort(generator.integers(0, n_rows // 5, n_rows))
    names = np.array([*CLASSES, "/m/07"])[generator.integers(0, 5, n_rows)]
    return [(f"{i:016x}", name, str(v)) for i, name, v in zip(images, names, generator.integers(0, 2, n_rows))]


def test_many_rows_as_the_csv_module_reads_them(tree):
    write(tree, {"train-annotations-human-imagelabels.csv": lines(many(60_000))})
    data = load_openimages(tree, labels="human")
    votes: dict[tuple[str, str], int] = {}
    images = set()
    with open(tree / "train-annotations-human-imagelabels.csv") as file:
        for row in csv.DictReader(file):
            images.add(row["ImageID"])
            key = row["ImageID"], row["LabelName"]
            votes[key] = votes.get(key, 0) + (1 if row["Confidence"] == "1" else -1)
    expected = np.zeros((len(images), 4), dtype=int)
    position = {image: i for i, image in enumerate(sorted(images))}
    for (image, name), vote in votes.items():
        if name in CLASSES:
            expected[position[image], CLASSES.index(name)] = np.sign(vote)
    np.testing.assert_array_equal(data.target.toarray(), expected)


def test_memory_is_that_of_the_known_entries(tree):
    """The file takes 43 bytes a row, an array of Python's strings 150; what is kept is about 13 a row here."""
    n_rows = 200_000
    write(tree, {"train-annotations-human-imagelabels.csv": lines(many(n_rows))})
    load_openimages(tree, labels="machine")  # what is imported and kept does not count
    tracemalloc.start()
    data = load_openimages(tree, labels="human")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert data.target.nnz > 80_000
    assert peak < 60 * n_rows


# ------------------------------------------------------------------------------------------------- what is wrong

HUMAN_FILE = "train-annotations-human-imagelabels.csv"


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is empty"),
        (HEADER, "has a header, but no rows"),
        (HEADER.encode("utf-16"), "NUL|UTF-8"),
        (lines(HUMAN).replace("ImageID", "Image"), "has no column 'ImageID'; its columns are 'Image', 'Source'"),
        (HEADER.strip() + ",ImageID\n", "has more than one column 'ImageID'"),
        (lines(HUMAN) + "a,b,c\n", "line 6, has 3 fields, but the header names 4 columns"),
        (lines(HUMAN) + "\n" + "a,b,c,1,2\n", "line 7, has 5 fields, but the header names 4 columns"),
        (lines(HUMAN)[:-12], "line 5, has 2 fields"),
        (
            lines([*HUMAN, (A, CLASSES[0], "yes")]),
            "line 6, holds 'yes' in column 'Confidence', which should be a number from 0",
        ),
        (lines([(A, CLASSES[0], "7"), *HUMAN]), "line 2, holds '7' in column 'Confidence'"),
        (lines([(A, CLASSES[0], "nan"), *HUMAN]), "line 2, holds 'nan'"),
        (lines([(A, CLASSES[0], ""), *HUMAN]), "line 2, holds '' in column 'Confidence'"),
        (
            lines([*HUMAN, (A, CLASSES[0], "0.5")]),
            "line 6, has the confidence 0.5, but labels by people must be 1 or 0",
        ),
        (lines([("", CLASSES[0], "1"), *HUMAN]), "line 2, has no image id"),
        (lines([("x" * 65, CLASSES[0], "1"), *HUMAN]), "line 2, has 65 bytes in column 'ImageID'"),
        (lines(HUMAN) + 'a,"b,c,1\n', "is not well-formed"),
        (lines(HUMAN) + f'"a,b",c,{CLASSES[0]},1\n', "line 6, holds 'a,b' in column 'ImageID'"),
        (lines(HUMAN) + "a,\0,c,1\n", "line 6, holds NUL characters"),
        (HEADER.encode() + b'\xff,"b",c,1\n', "line 2, is not UTF-8 text"),
        (HEADER + "x" * (3 << 20), "has a line of more than"),
    ],
)
def test_tables_that_are_wrong(tree, text, message):
    write(tree, {HUMAN_FILE: text})
    with pytest.raises(ValueError, match=rf"(?s){HUMAN_FILE}.*(?:{message})") as error:
        load_openimages(tree)
    assert str(error.value).startswith(str(tree))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "files, message",
    [
        ({"classes-trainable.txt": ""}, r"classes-trainable\.txt is empty"),
        ({"classes-trainable.txt": "/m/1\n/m/1\n"}, r"classes-trainable\.txt lists the class '/m/1' more than once"),
        ({"class-descriptions.csv": "/m/1\n"}, r"class-descriptions\.csv has no name for the label '/m/1'"),
        ({"class-descriptions.csv": b"/m/1,\xff\n"}, r"class-descriptions\.csv is not UTF-8 text"),
        ({"class-descriptions.csv": '/m/1,"a\n'}, r"class-descriptions\.csv, line 1, is not well-formed"),
        ({"class-descriptions.csv": "/m/1,a\n,b\n"}, r"class-descriptions\.csv, line 2, has no label id"),
    ],
)
def test_lists_that_are_wrong(tree, files, message):
    with pytest.raises(ValueError, match=message):
        load_openimages(write(tree, files))


def test_what_is_not_there(tree, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; path must be the folder"):
        load_openimages(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="is a file"):
        load_openimages(tree / HUMAN_FILE)
    with pytest.raises(FileNotFoundError, match=r"no file of labels such as test-annotations-human-imagelabels\.csv; "):
        load_openimages(tree, subset="test")
    with pytest.raises(FileNotFoundError, match="no file of labels such as validation-annotations-human"):
        load_openimages(tree, subset="val")
    with pytest.raises(FileNotFoundError, match=r"holds no class-descriptions-boxable\.csv or classes-bbox"):
        load_openimages(tree, classes="boxable")
    (tree / "class-descriptions.csv").unlink()
    assert load_openimages(tree).label_names == CLASSES
    (tree / HUMAN_FILE).unlink()
    assert load_openimages(tree).target.shape == (2, 4)
    with pytest.raises(FileNotFoundError, match="no file of labels"):
        load_openimages(tree, labels="human")


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"subset": "validation"}, "subset must be 'all', 'train', 'val' or 'test', got 'validation'"),
        ({"classes": "600"}, "classes must be 'trainable', 'boxable' or 'all', got '600'"),
        ({"classes": []}, "classes is empty"),
        ({"classes": [1]}, "classes must hold strings"),
        ({"labels": "people"}, "labels must be"),
        ({"version": 2}, "version must be"),
        ({"present_from": 2}, r"present_from must be a number in \[0, 1\]"),
        ({"absent_to": 0.5}, r"absent_to must be below present_from, 0\.5, got 0\.5"),
        ({"sparse": 1}, "sparse must be True or False"),
    ],
)
def test_arguments(tree, settings, message):
    with pytest.raises(ValueError, match=message):
        load_openimages(tree, **settings)
