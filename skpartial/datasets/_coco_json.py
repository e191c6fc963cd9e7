"""The JSON format of COCO, which most annotation tools can export."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from skpartial._checks import check_choice, check_flag
from skpartial.datasets._bunch import make_bunch
from skpartial.datasets._files import (
    as_path,
    check_distinct,
    complete_matrix,
    fault,
    image_paths,
    label_matrix,
    positions,
    read_json,
)

__all__ = ["CocoFile", "images_of", "items_of", "load_coco_json", "read_coco"]

# Outlines, keypoints, boxes and licences: most of a file, and not needed here.
_UNUSED = ("segmentation", "keypoints", "bbox", "licenses")

_ABOUT = """\
Annotations in the JSON format of COCO. A label says whether an image has an annotation of the category. If it has none,
the label is {unannotated}, unless the file lists the category as absent (neg_category_ids, as in LVIS)."""


class CocoFile(NamedTuple):
    """Contents of a file: images, categories, and annotated pairs of both, as positions."""

    image_ids: list[Any]
    file_names: list[str]
    categories: list[str]
    present: NDArray[np.int64]
    absent: NDArray[np.int64]


def items_of(content: Any, key: str, path: Path, needed: tuple[str, ...]) -> list[dict[str, Any]]:
    """A list of objects in the file, each checked for the required keys."""
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        fault(path, f"has no list {key!r}; a file of COCO holds images, annotations and categories")
    items: list[dict[str, Any]] = content[key]
    for i, item in enumerate(items):
        absent = None if not isinstance(item, dict) else next((name for name in needed if name not in item), None)
        if not isinstance(item, dict) or absent is not None:
            fault(path, f"has no {absent or needed[0]!r} in item {i} of {key!r}")
        if not isinstance(item[needed[0]], int | str):
            fault(path, f"has {needed[0]}={item[needed[0]]!r} in item {i} of {key!r}; it must be a number or a string")
    return items


def _file_name(image: dict[str, Any], path: Path) -> str:
    """The file of an image, relative to the folder of images; LVIS has a URL instead."""
    name = image.get("file_name")
    if name is None and isinstance(image.get("coco_url"), str):
        return "/".join(PurePosixPath(urlsplit(image["coco_url"]).path).parts[-2:])
    if not isinstance(name, str) or not name:
        fault(path, f"has no file_name for the image with id {image['id']!r}")
    return name


def _negatives(image: dict[str, Any], path: Path) -> list[Any]:
    """Ids of the categories that are verified to be absent from an image."""
    listed = image.get("neg_category_ids") or []
    if not isinstance(listed, list):
        fault(path, f"has neg_category_ids={listed!r} for the image with id {image['id']!r}, which should be a list")
    return listed


def images_of(content: Any, path: Path) -> tuple[list[Any], list[str]]:
    """Ids and names of the images in a file, checked to be distinct."""
    images = items_of(content, "images", path, ("id",))
    if not images:
        fault(path, "lists no images")
    ids, names = [image["id"] for image in images], [_file_name(image, path) for image in images]
    check_distinct(path, ids, "has the image id {} more than once")
    check_distinct(path, names, "lists the image {} more than once")
    return ids, names


def read_coco(path: Path, cure: str | None = None) -> CocoFile:
    """Read a file, and check that annotations, images and categories are consistent."""
    content = read_json(path, without=_UNUSED, cure=cure)
    image_ids, file_names = images_of(content, path)
    categories = items_of(content, "categories", path, ("id", "name"))
    annotations = items_of(content, "annotations", path, ("image_id", "category_id"))
    if not categories:
        fault(path, "lists no categories")
    names = [str(category["name"]) for category in categories]
    check_distinct(path, (category["id"] for category in categories), "has the category id {} more than once")
    check_distinct(path, names, "has the category {} more than once")
    image_at = {image: i for i, image in enumerate(image_ids)}
    category_at = {category["id"]: j for j, category in enumerate(categories)}

    def no_category(value: Any) -> str:
        return f"has category_id={value!r}, which is not the id of a category in it"

    rows = positions(
        path,
        (item["image_id"] for item in annotations),
        image_at,
        lambda value: f"has an annotation with image_id={value!r}, which is not the id of an image in it",
    )
    columns = positions(path, (item["category_id"] for item in annotations), category_at, no_category)
    present = np.unique(np.stack([rows, columns], axis=1), axis=0)
    negatives = [(i, category) for i, image in enumerate(content["images"]) for category in _negatives(image, path)]
    absent_rows = np.array([i for i, _ in negatives], dtype=np.int64)
    absent_columns = positions(path, (category for _, category in negatives), category_at, no_category)
    absent = np.unique(np.stack([absent_rows, absent_columns], axis=1), axis=0)
    n = len(categories)
    both = np.intersect1d(present[:, 0] * n + present[:, 1], absent[:, 0] * n + absent[:, 1])
    if len(both):
        i, j = divmod(int(both[0]), n)
        fault(path, f"says that {names[j]!r} is both present and absent in the image {file_names[i]!r}")
    return CocoFile(image_ids, file_names, names, present, absent)


def load_coco_json(path: Any, *, images: Any = None, unannotated: str = "unknown", sparse: bool = False) -> Bunch:
    """Read annotations in the JSON format of COCO, as exported by CVAT, Label Studio, Roboflow and others.

    A label is present in an image with at least one annotation of the category, whether a box, an outline or the whole
    image.

    Parameters
    ----------
    path : str or path-like
        The file, with lists of ``images`` (``id`` and ``file_name``), ``categories`` (``id`` and ``name``) and
        ``annotations`` (``image_id`` and ``category_id``). If training and test data are in separate files, read each
        of them.
    images : str or path-like or None, default=None
        The folder that the names of the image files are relative to. None is the folder of the file.
    unannotated : {"unknown", "absent"}, default="unknown"
        Meaning of a category without annotations in an image. "absent" is correct if every image was searched for every
        category.
    sparse : bool, default=False
        Whether `target` is a csr_array.

    Returns
    -------
    Bunch
        With the attributes

        paths : ndarray of str, shape (n,)
            Paths of the images, in the order of the file.
        target : ndarray or csr_array of int8, shape (n, L)
            1 present, 0 unknown, -1 if the file says absent: in images with ``neg_category_ids``, as in LVIS, or
            everywhere else with ``unannotated="absent"``.
        label_names : list of str
            The categories, in the order of the file.
        image_ids : ndarray, shape (n,)
            The ids of the images in the file.
        DESCR : str
            A description.

    Raises
    ------
    ValueError
        If an argument is invalid, or the file is malformed, has duplicates, or refers to an image or category that it
        does not list. The message names it.
    OSError
        If the file does not exist or cannot be read.

    See Also
    --------
    load_coco : For COCO itself, with its split.

    Examples
    --------
    >>> import json, tempfile
    >>> from pathlib import Path
    >>> from skpartial.datasets import load_coco_json
    >>> here = tempfile.TemporaryDirectory()
    >>> file = Path(here.name) / "annotations.json"
    >>> _ = file.write_text(json.dumps({
    ...     "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
    ...     "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    ...     "annotations": [{"id": 1, "image_id": 8, "category_id": 2}],
    ... }))
    >>> load_coco_json(file).target
    array([[0, 0],
           [0, 1]], dtype=int8)
    >>> here.cleanup()
    """
    check_choice(None, "unannotated", unannotated, ("unknown", "absent"))
    check_flag(None, "sparse", sparse)
    file = as_path(path)
    folder = file.parent if images is None else as_path(images, "images")
    coco = read_coco(file)
    shape = (len(coco.image_ids), len(coco.categories))
    if unannotated == "absent":
        target = complete_matrix(coco.present, shape, sparse=sparse)
    else:
        known = np.concatenate([coco.present, coco.absent])
        signs = np.repeat([1, -1], [len(coco.present), len(coco.absent)])
        target = label_matrix(known, signs, shape, sparse=sparse)
    return make_bunch(
        f"Annotations of {file.name}",
        _ABOUT.format(unannotated=unannotated),
        paths=image_paths(folder, coco.file_names),
        target=target,
        label_names=coco.categories,
        image_ids=np.array(coco.image_ids),
    )
