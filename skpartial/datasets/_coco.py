"""MS-COCO: objects of 80 categories, or the words of image captions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from skpartial._checks import check_choice, check_flag, check_whole
from skpartial.datasets._bunch import make_bunch
from skpartial.datasets._coco_json import images_of, items_of, read_coco
from skpartial.datasets._files import (
    as_folder,
    check_subset,
    check_year,
    complete_matrix,
    fault,
    read_json,
)

__all__ = ["load_coco"]

_YEARS = (2014, 2017)
_SPLITS = ("train", "val")
_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")

_ABOUT = {
    "instances": """\
Photographs of Microsoft COCO (Lin et al., ECCV 2014), in which every object of 80 categories was outlined. A label says
whether an object of the category is in the photograph.""",
    "caption_words": """\
Photographs of Microsoft COCO (Lin et al., ECCV 2014), each described by five people in a sentence. A label says whether
one of them uses the word; the words are the most frequent ones in the captions of the training images. A word that
nobody uses is absent here, as in the papers, although its meaning may well be visible in the photograph.""",
}


class _Part(NamedTuple):
    """A part of the split: images in the order of the file, and pairs (row, label) of the positives."""

    image_ids: list[Any]
    file_names: list[str]
    present: NDArray[np.int64]


def _file(root: Path, kind: str, split: str, year: int) -> Path:
    return root / "annotations" / f"{kind}_{split}{year}.json"


def _cure(root: Path, year: int) -> str:
    return f"extract annotations_trainval{year}.zip of cocodataset.org in {root}, and the images beside it"


def _instances(root: Path, splits: Sequence[str], year: int) -> tuple[list[_Part], list[str]]:
    """Objects of the 80 categories in each part of the split."""
    parts, names = [], None
    for split in splits:
        path = _file(root, "instances", split, year)
        coco = read_coco(path, _cure(root, year))
        if names is not None and coco.categories != names:
            fault(path, f"has different categories from instances_{splits[0]}{year}.json")
        names = coco.categories
        parts.append(_Part(coco.image_ids, coco.file_names, coco.present))
    return parts, names or []


def _captions(path: Path, cure: str) -> tuple[list[Any], list[str], list[Counter[str]]]:
    """Ids and names of images, and the word counts of their captions."""
    content = read_json(path, cure=cure)
    ids, names = images_of(content, path)
    at = {image: i for i, image in enumerate(ids)}
    words: list[Counter[str]] = [Counter() for _ in ids]
    for item in items_of(content, "annotations", path, ("image_id", "caption")):
        if item["image_id"] not in at:
            fault(path, f"has a caption with image_id={item['image_id']!r}, which is not the id of an image in it")
        words[at[item["image_id"]]].update(_WORD.findall(str(item["caption"]).lower()))
    return ids, names, words


def _caption_words(
    root: Path, splits: Sequence[str], year: int, n_words: int, stop_words: frozenset[str]
) -> tuple[list[_Part], list[str]]:
    """The most frequent words of the training captions, most frequent first, in each part of the split."""
    read = {
        split: _captions(_file(root, "captions", split, year), _cure(root, year))
        for split in dict.fromkeys(("train", *splits))
    }
    counts: Counter[str] = Counter()
    for used in read["train"][2]:
        counts.update(used)
    usable = [(-count, word) for word, count in counts.items() if word not in stop_words]
    names = [word for _, word in sorted(usable)[:n_words]]
    if len(names) < n_words:
        path = _file(root, "captions", "train", year)
        fault(path, f"has {len(names)} different words in its captions, fewer than n_words={n_words}")
    at = {word: j for j, word in enumerate(names)}
    parts = []
    for split in splits:
        ids, files, words = read[split]
        pairs = [(i, at[word]) for i, used in enumerate(words) for word in used if word in at]
        parts.append(_Part(ids, files, np.array(pairs, dtype=np.int64).reshape(-1, 2)))
    return parts, names


def _in_order_of_ids(part: _Part) -> _Part:
    """The part with rows sorted by their ids as strings."""
    order = sorted(range(len(part.image_ids)), key=lambda i: str(part.image_ids[i]))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    present = np.stack([rank[part.present[:, 0]], part.present[:, 1]], axis=1)
    return _Part([part.image_ids[i] for i in order], [part.file_names[i] for i in order], present)


def _joined(parts: Sequence[_Part]) -> _Part:
    """Concatenate the parts of a split."""
    starts = np.cumsum([0, *(len(part.image_ids) for part in parts)])
    present = [part.present + np.array([start, 0]) for part, start in zip(parts, starts)]
    ids = [image for part in parts for image in part.image_ids]
    return _Part(ids, [file for part in parts for file in part.file_names], np.concatenate(present))


def _image_folder(root: Path, name: str) -> Path:
    nested = root / "images" / name
    return nested if nested.is_dir() and not (root / name).is_dir() else root / name


def load_coco(
    path: Any,
    *,
    subset: str = "all",
    year: int | str | None = None,
    labels: str = "instances",
    n_words: int = 1000,
    stop_words: Iterable[str] = (),
    drop_empty: bool = False,
    sparse: bool = False,
) -> Bunch:
    """Read Microsoft COCO: objects of 80 categories, or words of captions, in photographs.

    Every object of the 80 categories was outlined, so a category without objects is absent.

    Parameters
    ----------
    path : str or path-like
        The folder that holds ``annotations``, with ``instances_train2014.json`` and so on, and the images in
        ``train2014`` and ``val2014``, or in those folders in ``images``.
    subset : {"all", "train", "val"}, default="all"
        The official split; the labels of the test images are not published.
    year : {2014, 2017} or None, default=None
        The release; None for the one in the folder. 2014 has 82,783 images for training and 40,504 for validation, 2017
        has 118,287 and 5,000.
    labels : {"instances", "caption_words"}, default="instances"
        Labels: the categories of objects, or the most frequent words in the captions of the training images
        (``captions_train2014.json`` and so on), as in Huynh and Elhamifar.
    n_words : int, default=1000
        Number of words.
    stop_words : iterable of str, default=()
        Words to exclude from the labels, in lower case, such as "a" and "of", which are among the most frequent.
    drop_empty : bool, default=False
        Whether to leave out images without positive labels, as in the papers on single positives.
    sparse : bool, default=False
        Whether `target` is a csr_array.

    Returns
    -------
    Bunch
        With the attributes

        paths : ndarray of str, shape (n,)
            Paths of the photographs, train before val, each sorted by their ids as strings, as in Cole et al.: with
            ``drop_empty=True`` and their seed, :func:`~skpartial.labels.keep_single_positive` selects the same labels.
        target : ndarray or csr_array of int8, shape (n, 80) or (n, n_words)
            1 present, -1 absent.
        label_names : list of str
            Categories in the order of the file, or words, the most frequent first.
        split : ndarray of str, shape (n,)
            "train" or "val".
        image_ids : ndarray, shape (n,)
            The ids of the images.
        DESCR : str
            A description.

    Raises
    ------
    ValueError
        If an argument is invalid, or a file is malformed. The message names it.
    OSError
        If a file does not exist or cannot be read.

    See Also
    --------
    load_coco_json : For your own files in this format.

    Notes
    -----
    The words of a caption are its runs of letters and digits in lower case, including apostrophes and hyphens between
    them. The paper does not say how it splits captions, and its labels come from a file that was prepared elsewhere, so
    a few of the rarest words may differ. Here -1 means that nobody mentions the word: ``np.maximum(coco.target, 0)``
    is a positive-only matrix.

    References
    ----------
    Lin et al.: "Microsoft COCO: Common Objects in Context", ECCV 2014.

    Huynh, Elhamifar: "Interactive Multi-Label CNN Learning with Partial Labels", CVPR 2020, section 4.1.

    Examples
    --------
    >>> import json, tempfile
    >>> from pathlib import Path
    >>> from skpartial.datasets import load_coco
    >>> here = tempfile.TemporaryDirectory()
    >>> folder = Path(here.name)
    >>> (folder / "annotations").mkdir()
    >>> _ = (folder / "annotations/captions_train2014.json").write_text(json.dumps({
    ...     "images": [{"id": 9, "file_name": "COCO_train2014_000000000009.jpg"}],
    ...     "annotations": [{"image_id": 9, "caption": "A dog, and a dog's ball."}],
    ... }))
    >>> load_coco(folder, subset="train", labels="caption_words", n_words=3).label_names
    ['a', 'and', 'ball']
    >>> here.cleanup()
    """
    check_subset(subset, _SPLITS)
    check_choice(None, "labels", labels, tuple(_ABOUT))
    check_whole(None, "n_words", n_words, 1)
    for name, value in (("drop_empty", drop_empty), ("sparse", sparse)):
        check_flag(None, name, value)
    if isinstance(stop_words, str):
        raise ValueError(f"stop_words must be a list of words, got the string {stop_words!r}.")
    root = as_folder(path, "annotations/ and the images of COCO")
    kind = "instances" if labels == "instances" else "captions"
    there = [one for one in _YEARS if any(_file(root, kind, split, one).exists() for split in _SPLITS)]
    number = check_year(year, _YEARS, there, root)
    splits = _SPLITS if subset == "all" else (subset,)
    if labels == "instances":
        parts, names = _instances(root, splits, number)
    else:
        parts, names = _caption_words(root, splits, number, n_words, frozenset(stop_words))
    both = _joined([_in_order_of_ids(part) for part in parts])
    if len(set(both.image_ids)) < len(both.image_ids):
        fault(root / "annotations", "has files for train and val that list the same image")
    split = np.repeat(splits, [len(part.image_ids) for part in parts])
    kept = np.unique(both.present[:, 0]) if drop_empty else np.arange(len(both.image_ids))
    present = np.stack([np.searchsorted(kept, both.present[:, 0]), both.present[:, 1]], axis=1)
    folders = {name: _image_folder(root, f"{name}{number}") for name in splits}
    files = [folders[name] / file for name, file in zip(split, both.file_names)]
    return make_bunch(
        f"MS-COCO {number}",
        _ABOUT[labels],
        paths=np.array([str(file) for file in files])[kept],
        target=complete_matrix(present, (len(kept), len(names)), sparse=sparse),
        label_names=names,
        split=split[kept],
        image_ids=np.array(both.image_ids)[kept],
    )
