"""CUB-200-2011: attributes of birds, with the certainty of the annotators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from skpartial._checks import check_flag, check_whole
from skpartial._warnings import warn
from skpartial.datasets._bunch import make_bunch
from skpartial.datasets._files import (
    as_folder,
    as_wanted,
    check_distinct,
    check_subset,
    fault,
    find,
    image_paths,
    read_bytes,
    read_lines,
)

__all__ = ["load_cub"]

_SPLITS = ("train", "test")
_CERTAINTIES = 4
_CURE = "extract CUB_200_2011.tgz there, which holds the folder CUB_200_2011 and attributes.txt"

_ABOUT = """\
Photographs of 200 species of birds (Wah et al., Caltech-UCSD Birds-200-2011). A label says whether an annotator saw the
attribute, such as a colour of the wings, in the photograph; `certainty` is how sure they were. Entries with a certainty
below {least} are unknown here."""


def _pairs(path: Path) -> dict[int, str]:
    """Read lines with a number and a name."""
    named: dict[int, str] = {}
    for line in read_lines(path, _CURE):
        number, _, name = line.partition(" ")
        if not number.isdecimal() or not name.strip():
            fault(path, f"has the line {line!r}, which should be a number and a name")
        if int(number) in named:
            fault(path, f"has the number {number} more than once")
        named[int(number)] = name.strip()
    return named


def _numbers_of(path: Path, images: list[int]) -> NDArray[np.int64]:
    """Read a number for each image."""
    values = _pairs(path)
    absent = next((image for image in images if image not in values), None)
    if absent is not None:
        fault(path, f"has no line for the image {absent}")
    if any(not value.isdecimal() for value in values.values()):
        fault(path, "has a line that is not two numbers")
    return np.array([int(values[image]) for image in images])


def _annotations(path: Path) -> NDArray[np.int64]:
    """Image, attribute, presence and certainty of each annotation."""
    read_bytes(path, _CURE)
    try:
        # Some copies have lines with more than five columns; the first four are always the same.
        lines: NDArray[np.int64] = np.loadtxt(path, dtype=np.int64, usecols=(0, 1, 2, 3), ndmin=2, encoding="utf-8-sig")
    except (ValueError, UnicodeDecodeError) as error:
        fault(path, f"must have lines of image, attribute, presence, certainty and time: {str(error).rstrip('.')}")
    for column, what, low, high in ((2, "presence", 0, 1), (3, "certainty", 1, _CERTAINTIES)):
        wrong = (lines[:, column] < low) | (lines[:, column] > high)
        if wrong.any():
            i = int(np.argmax(wrong))
            fault(path, f"has the {what} {lines[i, column]}, which should be {low} to {high}", i + 1)
    return lines


def _looked_up(path: Path, values: NDArray[np.int64], known: list[int], what: str) -> NDArray[np.int64]:
    """Positions of identifiers among the listed ones."""
    ids = np.array(known)
    order = np.argsort(ids)
    at = order[np.searchsorted(ids, values, sorter=order).clip(max=len(ids) - 1)]
    wrong = ids[at] != values
    if wrong.any():
        i = int(np.argmax(wrong))
        fault(path, f"names the {what} {values[i]}, which is not listed", i + 1)
    return at


def _matrices(path: Path, images: list[int], attributes: list[int]) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Labels and certainties, 0 without an annotation."""
    lines = _annotations(path)
    rows = _looked_up(path, lines[:, 0], images, "image")
    columns = _looked_up(path, lines[:, 1], attributes, "attribute")
    key = rows * len(attributes) + columns
    first, counts = np.unique(key, return_counts=True)
    if counts.max() > 1:
        row, column = divmod(int(first[np.argmax(counts)]), len(attributes))
        fault(path, f"has image {images[row]} and attribute {attributes[column]} more than once")
    shape = (len(images), len(attributes))
    labels, certainty = np.zeros(shape, dtype=np.int8), np.zeros(shape, dtype=np.int8)
    labels.flat[key] = 2 * lines[:, 2] - 1
    certainty.flat[key] = lines[:, 3]
    absent = labels.size - len(key)
    if absent:
        warn(f"{path} has no line for {absent:,} of {labels.size:,} pairs of image and attribute, which are unknown.")
    return labels, certainty


def load_cub(path: Any, *, subset: str = "all", min_certainty: int = 1, sparse: bool = False) -> Bunch:
    r"""Read Caltech-UCSD Birds-200-2011, 312 attributes of birds in 11,788 photographs.

    Parameters
    ----------
    path : str or path-like
        The folder that holds ``CUB_200_2011`` and ``attributes.txt``, or ``CUB_200_2011`` itself, with ``images.txt``,
        ``train_test_split.txt``, ``attributes/image_attribute_labels.txt`` and the photographs in ``images``.
    subset : {"all", "train", "test"}, default="all"
        The official split, 5,994 photographs for training and 5,794 for testing.
    min_certainty : {1, 2, 3, 4}, default=1
        Lowest certainty of known entries: 1 not visible, 2 guessing, 3 probably, 4 definitely. Entries with a lower
        certainty are unknown. With 1, as in the papers, all entries are known, and attributes that are not visible are
        absent.
    sparse : bool, default=False
        Whether `target` is a csr_array.

    Returns
    -------
    Bunch
        With the attributes

        paths : ndarray of str, shape (n,)
            Paths of the photographs, in the order of their list.
        target : ndarray or csr_array of int8, shape (n, 312)
            1 present, -1 absent, 0 unknown.
        label_names : list of str
            The attributes, such as "has_bill_shape::curved_(up_or_down)".
        certainty : ndarray of int8, shape (n, 312)
            1 to 4 as above, 0 if the file has no line.
        species : ndarray of str, shape (n,)
            Species, such as "001.Black_footed_Albatross", if ``classes.txt`` and ``image_class_labels.txt`` exist.
        split : ndarray of str, shape (n,)
            "train" or "test".
        DESCR : str
            A description.

    Raises
    ------
    ValueError
        If an argument is invalid, or a file is malformed. The message names it.
    OSError
        If a file does not exist or cannot be read.

    Warns
    -----
    UserWarning
        If pairs of image and attribute have no line, as in a truncated file.

    References
    ----------
    Wah, Branson, Welinder, Perona, Belongie: "The Caltech-UCSD Birds-200-2011 Dataset", California Institute of
    Technology, CNS-TR-2011-001, 2011.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skpartial.datasets import load_cub
    >>> here = tempfile.TemporaryDirectory()
    >>> folder = Path(here.name) / "CUB_200_2011"
    >>> (folder / "attributes").mkdir(parents=True)
    >>> files = {
    ...     "images.txt": "1 001.Black_footed_Albatross/a.jpg\n",
    ...     "train_test_split.txt": "1 0\n",
    ...     "../attributes.txt": "1 has_wing_color::blue\n2 has_wing_color::brown\n",
    ...     "attributes/image_attribute_labels.txt": "1 1 0 1 27.7\n1 2 1 3 27.7\n",
    ... }
    >>> for name, text in files.items():
    ...     _ = (folder / name).write_text(text)
    >>> load_cub(folder).target, load_cub(folder, min_certainty=2).target
    (array([[-1,  1]], dtype=int8), array([[0, 1]], dtype=int8))
    >>> here.cleanup()
    """
    check_subset(subset, _SPLITS)
    if check_whole(None, "min_certainty", min_certainty, 1) > _CERTAINTIES:
        raise ValueError(f"min_certainty must be 1, 2, 3 or 4, got {min_certainty!r}.")
    check_flag(None, "sparse", sparse)
    root = as_folder(path, "CUB_200_2011/ and attributes.txt")
    folder = find([root / "CUB_200_2011" / "images.txt", root / "images.txt"], _CURE).parent
    named = _pairs(folder / "images.txt")
    check_distinct(folder / "images.txt", named.values(), "lists the image {} more than once")
    attributes = _pairs(find([folder.parent / "attributes.txt", folder / "attributes" / "attributes.txt"], _CURE))
    images = list(named)
    is_train = _numbers_of(folder / "train_test_split.txt", images)
    if not set(is_train.tolist()) <= {0, 1}:
        fault(folder / "train_test_split.txt", "has a number that is not 0 or 1")
    split = np.where(is_train == 1, "train", "test")
    labels, certainty = _matrices(folder / "attributes" / "image_attribute_labels.txt", images, list(attributes))
    labels[certainty < min_certainty] = 0
    kept = np.ones(len(images), dtype=bool) if subset == "all" else split == subset
    if not kept.any():
        fault(folder / "train_test_split.txt", f"has no image for subset={subset!r}")
    species = _species(folder, images)
    return make_bunch(
        "Caltech-UCSD Birds-200-2011",
        _ABOUT.format(least=min_certainty),
        paths=image_paths(folder / "images", named.values())[kept],
        target=as_wanted(labels[kept], sparse=sparse),
        label_names=list(attributes.values()),
        certainty=certainty[kept],
        species=None if species is None else species[kept],
        split=split[kept],
    )


def _species(folder: Path, images: list[int]) -> NDArray[np.str_] | None:
    """The species of each image, if the files are there."""
    if not (folder / "classes.txt").exists() or not (folder / "image_class_labels.txt").exists():
        return None
    names = _pairs(folder / "classes.txt")
    numbers = _numbers_of(folder / "image_class_labels.txt", images).tolist()
    unlisted = next((number for number in numbers if number not in names), None)
    if unlisted is not None:
        fault(folder / "image_class_labels.txt", f"names the class {unlisted}, which classes.txt does not list")
    return np.array([names[number] for number in numbers])
