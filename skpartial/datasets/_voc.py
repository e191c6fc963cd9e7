"""PASCAL VOC: one XML document per image, and lists of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skpartial._checks import check_choice, check_flag
from skpartial.datasets._bunch import make_bunch
from skpartial.datasets._files import (
    as_path,
    as_wanted,
    check_distinct,
    check_subset,
    check_year,
    fault,
    find,
    image_paths,
    read_lines,
    read_xml,
)

__all__ = ["load_voc"]

_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_YEARS = (2007, 2008, 2009, 2010, 2011, 2012)
_SUBSETS = {"all": ("train", "val", "test"), "trainval": ("train", "val")}
_DIFFICULT = {"unknown": 0, "present": 1, "absent": -1}

_ABOUT = """\
Photographs of PASCAL Visual Object Classes (Everingham et al., International Journal of Computer Vision 2010), in
which every object of 20 classes was marked. A label says whether an object of the class is in the photograph. Classes
whose objects are all marked as difficult are {difficult} here."""


def _lists(root: Path, year: int) -> list[Path]:
    """Possible folders of a year's lists of images."""
    parts = ("ImageSets", "Main")
    return [root.joinpath(*place, *parts) for place in (("VOCdevkit", f"VOC{year}"), (f"VOC{year}",), ())]


def _years_in(root: Path) -> list[int]:
    """The years with data in a folder."""
    return [
        year
        for year in _YEARS
        if any(lists.is_dir() for lists in _lists(root, year)[:2])
        or (root.resolve().name == f"VOC{year}" and _lists(root, year)[2].is_dir())
    ]


def _download(path: Path, year: int, splits: tuple[str, ...]) -> None:
    """Download missing data."""
    from torchvision.datasets import VOCDetection

    lists = path / "VOCdevkit" / f"VOC{year}" / "ImageSets" / "Main"
    for image_set, wanted in (("trainval", {"train", "val"} & set(splits)), ("test", {"test"} & set(splits))):
        if wanted and not (lists / f"{image_set}.txt").exists():
            VOCDetection(str(path), year=str(year), image_set=image_set, download=True)


def _labels(path: Path, difficult: int, cure: str) -> dict[int, int]:
    """Signs of the classes in an image's document, including classes with difficult objects only."""
    labels: dict[int, int] = {}
    for item in read_xml(path, cure).iterfind("object"):
        name = (item.findtext("name") or "").strip()
        if name not in _CLASSES:
            fault(path, f"names an object {name!r}, which is not one of the 20 classes")
        is_difficult = (item.findtext("difficult") or "0").strip()
        if is_difficult not in ("0", "1"):
            fault(path, f"has an object with difficult={is_difficult!r}, which must be 0 or 1")
        j = _CLASSES.index(name)
        labels[j] = max(labels.get(j, -1), difficult) if is_difficult == "1" else 1
    return labels


def _splits(subset: str, year: int) -> tuple[str, ...]:
    """The parts of the split in a subset, if their labels are published."""
    splits = _SUBSETS.get(subset, (subset,))
    if year == 2007:
        return splits
    if subset == "test":
        raise ValueError(f"The labels of the test images of VOC {year} are not published: use subset='val'.")
    return tuple(part for part in splits if part != "test")


def _listed(lists: Path, splits: tuple[str, ...], cure: str) -> tuple[list[str], list[str]]:
    """Names of images, and the part of the split of each."""
    names: list[str] = []
    split: list[str] = []
    for part in splits:
        path = lists / f"{part}.txt"
        listed = sorted(read_lines(path, cure))
        check_distinct(path, listed, "lists the image {} more than once")
        twice = set(names) & set(listed)
        if twice:
            fault(path, f"lists the image {min(twice)!r}, which is also in an earlier part of the split")
        names += listed
        split += [part] * len(listed)
    return names, split


def load_voc(
    path: Any,
    *,
    subset: str = "all",
    year: int | str | None = None,
    difficult: str = "unknown",
    sparse: bool = False,
    download: bool = False,
) -> Bunch:
    """Read PASCAL VOC, 20 classes of objects in photographs.

    Every object of these classes was marked, so a class without objects is absent. Some objects are marked as
    difficult, for example if they can only be recognised by context. The official evaluation of a class leaves out
    images that only have difficult objects of it, as do the metrics of this package if the entry is unknown.

    Parameters
    ----------
    path : str or path-like
        The folder that contains ``VOCdevkit``, or ``VOCdevkit`` itself, or the folder of one year, such as ``VOC2007``.
        The folder of the year contains ``Annotations`` (one XML document per image), ``ImageSets/Main``
        (``train.txt``, ``val.txt``, ``test.txt``) and ``JPEGImages``.
    subset : {"all", "train", "val", "trainval", "test"}, default="all"
        The official split. "all" is train and val, and test if its list exists. The labels of the test images after
        2007 are not published.
    year : {2007, ..., 2012} or None, default=None
        Year of the challenge, as a number or a string. None is the year in the folder.
    difficult : {"unknown", "present", "absent"}, default="unknown"
        Meaning of a class whose objects in an image are all marked as difficult.
    sparse : bool, default=False
        Whether `target` is a csr_array.
    download : bool, default=False
        Whether to download missing data (1 to 2 GB) into ``path/VOCdevkit`` by torchvision; needs `year`.

    Returns
    -------
    Bunch
        With the attributes

        paths : ndarray of str, shape (n,)
            Paths of the photographs, sorted by name, train before val before test.
        target : ndarray or csr_array of int8, shape (n, 20)
            1 present, -1 absent, 0 unknown.
        label_names : list of str
            "aeroplane" to "tvmonitor".
        split : ndarray of str, shape (n,)
            "train", "val" or "test".
        DESCR : str
            A description.

    Raises
    ------
    ValueError
        If an argument is invalid, the folder holds several years and none is given, or a file is malformed. The message
        names it.
    OSError
        If a file does not exist or cannot be read.

    Notes
    -----
    Cole et al. (CVPR 2021) use 2012, train for training and val for testing, and leave out images without positive
    labels: ``keep = (voc.target == 1).any(axis=1)``. :func:`~skpartial.labels.keep_single_positive` with their seed
    then selects the same labels.

    References
    ----------
    Everingham, Van Gool, Williams, Winn, Zisserman: "The PASCAL Visual Object Classes (VOC) Challenge", International
    Journal of Computer Vision 88, 2010.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skpartial.datasets import load_voc
    >>> here = tempfile.TemporaryDirectory()
    >>> folder = Path(here.name)
    >>> for name in ("Annotations", "ImageSets/Main"):
    ...     (folder / "VOC2007" / name).mkdir(parents=True)
    >>> document = "<annotation><object><name>dog</name><difficult>0</difficult></object></annotation>"
    >>> _ = (folder / "VOC2007/Annotations/000005.xml").write_text(document)
    >>> _ = (folder / "VOC2007/ImageSets/Main/train.txt").write_text("000005")
    >>> voc = load_voc(folder, subset="train")
    >>> voc.target[:, 10:13], voc.label_names[11]
    (array([[-1,  1, -1]], dtype=int8), 'dog')
    >>> here.cleanup()
    """
    check_subset(subset, ("train", "val", "trainval", "test"))
    check_choice(None, "difficult", difficult, tuple(_DIFFICULT))
    for name, value in (("sparse", sparse), ("download", download)):
        check_flag(None, name, value)
    root = as_path(path)
    if download and year is None:
        raise ValueError("download=True needs a year: pass year=2007 or year=2012, for example.")
    number = check_year(year, _YEARS, _years_in(root), root)
    splits = _splits(subset, number)
    if download:
        _download(root, number, splits)
    cure = (
        f"extract the archives of VOC {number}, VOCtrainval_*.tar and for 2007 VOCtest_*.tar, so that {root} holds "
        f"VOCdevkit/VOC{number}, or pass download=True"
    )
    lists = find(_lists(root, number), cure)
    if subset == "all":
        splits = tuple(part for part in splits if (lists / f"{part}.txt").exists()) or splits
    names, split = _listed(lists, splits, cure)
    folder = lists.parent.parent
    target = np.full((len(names), len(_CLASSES)), -1, dtype=np.int8)
    for i, name in enumerate(names):
        for j, sign in _labels(folder / "Annotations" / f"{name}.xml", _DIFFICULT[difficult], cure).items():
            target[i, j] = sign
    return make_bunch(
        f"PASCAL VOC {number}",
        _ABOUT.format(difficult=difficult),
        paths=image_paths(folder / "JPEGImages", (f"{name}.jpg" for name in names)),
        target=as_wanted(target, sparse=sparse),
        label_names=_CLASSES,
        split=np.array(split),
    )
