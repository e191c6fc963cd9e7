"""NUS-WIDE: lists of images, and one file of zeros and ones per concept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from skpartial._checks import check_choice, check_flag
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
    missing_files,
    read_bytes,
    read_lines,
)
from skpartial.labels._memory import check_fits

__all__ = ["load_nuswide"]

_SPLITS = ("train", "test")
_MISSING = ("warn", "drop", "ignore")
_CURE = (
    "extract ImageList.zip, Groundtruth.zip and ConceptsList.zip of NUS-WIDE so that the folder holds ImageList, "
    "Groundtruth and ConceptsList, and the images in Flickr"
)

_ABOUT = """\
Photographs from Flickr (Chua et al., CIVR 2009), annotated with 81 concepts. A label says whether the concept is
in the photograph. About a fifth of the photographs show no concept. Some are no longer available."""


def _concepts(root: Path) -> list[str]:
    """Names of the concepts, in the order of their list; without a list in alphabetical order, which is the same."""
    candidates = [root / "ConceptsList" / "Concepts81.txt", root / "Concepts81.txt"]
    if not any(path.exists() for path in candidates):
        files = (root / "Groundtruth" / "TrainTestLabels").glob("Labels_*_Train.txt")
        named = sorted(file.stem.removeprefix("Labels_").removesuffix("_Train") for file in files)
        if named:
            return named
    path = find(candidates, _CURE)
    names = read_lines(path)
    check_distinct(path, names, "lists the concept {} more than once")
    return names


def _column(path: Path, n_images: int) -> NDArray[np.int8]:
    """1 and -1 for the ones and zeros in a file with one line per image."""
    # As bytes, for speed: there are 81 files of up to 270,000 lines.
    contents = read_bytes(path, _CURE)
    digits = np.frombuffer(contents.translate(None, b" \t\r\n"), dtype=np.uint8)
    wrong = (digits != ord("0")) & (digits != ord("1"))
    if wrong.any():
        fault(path, f"holds {chr(digits[np.argmax(wrong)])!r}, but every line should be 0 or 1")
    if len(digits) != n_images:
        fault(path, f"holds {len(digits):,} labels, but the list of images {n_images:,} images")
    return np.where(digits == ord("1"), 1, -1).astype(np.int8)


def _part(root: Path, split: str, concepts: list[str]) -> tuple[list[str], NDArray[np.int8]]:
    """Names of the images in a part of the split, and their labels."""
    part = split.capitalize()
    path = root / "ImageList" / f"{part}Imagelist.txt"
    images = [line.replace("\\", "/") for line in read_lines(path, _CURE)]
    check_distinct(path, images, "lists the image {} more than once")
    check_fits((len(images), len(concepts)), "A complete label matrix", "read a subset")
    labels = np.empty((len(images), len(concepts)), dtype=np.int8)
    for j, concept in enumerate(concepts):
        name = f"Labels_{concept}_{part}.txt"
        labels[:, j] = _column(root / "Groundtruth" / "TrainTestLabels" / name, len(images))
    return images, labels


def _report(paths: NDArray[np.str_], missing: NDArray[np.bool_], *, dropped: bool) -> None:
    """Warn about missing photographs."""
    first = paths[np.argmax(missing)]
    kept = (
        "their rows are left out"
        if dropped
        else "missing='drop' leaves their rows out, missing='ignore' does not check"
    )
    warn(f"{missing.sum():,} of {len(paths):,} images of NUS-WIDE do not exist, such as {first}: {kept}.")


def load_nuswide(path: Any, *, subset: str = "all", missing: str = "warn", sparse: bool = False) -> Bunch:
    r"""Read NUS-WIDE, 81 concepts in 269,648 photographs from Flickr.

    Parameters
    ----------
    path : str or path-like
        The folder that holds ``ImageList`` (``TrainImagelist.txt``, ``TestImagelist.txt``),
        ``Groundtruth/TrainTestLabels`` (``Labels_airport_Train.txt`` and so on), perhaps
        ``ConceptsList/Concepts81.txt``, and the photographs in ``Flickr``, or in ``images``.
    subset : {"all", "train", "test"}, default="all"
        The official split, 161,789 photographs for training and 107,859 for testing.
    missing : {"warn", "drop", "ignore"}, default="warn"
        Treatment of missing photographs, many of which have been deleted: "warn" keeps their rows, with a warning;
        "drop" leaves them out, with a warning; "ignore" does not check, for use of features or labels only.
    sparse : bool, default=False
        Whether `target` is a csr_array.

    Returns
    -------
    Bunch
        With the attributes

        paths : ndarray of str, shape (n,)
            Paths of the photographs, in the order of their lists, train before test.
        target : ndarray or csr_array of int8, shape (n, 81)
            1 present, -1 absent.
        label_names : list of str
            The concepts, in the order of their list.
        split : ndarray of str, shape (n,)
            "train" or "test".
        missing : ndarray of str
            Paths of missing photographs, including rows left out; not with ``missing="ignore"``.
        DESCR : str
            A description.

    Raises
    ------
    ValueError
        If an argument is invalid, or a file is malformed. The message names it.
    OSError
        If a list or a file of labels does not exist or cannot be read.

    Warns
    -----
    UserWarning
        If photographs are missing: once, with their number.

    Notes
    -----
    22 % of the photographs show no concept; ``keep = (nus.target == 1).any(axis=1)`` selects the others. Published
    results use different selections: Cole et al. (CVPR 2021) and Kim et al. (CVPR 2022) use 210,260 photographs that
    they collected anew, with their own split.

    References
    ----------
    Chua, Tang, Hong, Li, Luo, Zheng: "NUS-WIDE: A Real-World Web Image Database from National University of Singapore",
    CIVR 2009.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skpartial.datasets import load_nuswide
    >>> here = tempfile.TemporaryDirectory()
    >>> folder = Path(here.name)
    >>> files = {
    ...     "ConceptsList/Concepts81.txt": "airport\nanimal\n",
    ...     "ImageList/TrainImagelist.txt": "actor\\0001_2124494179.jpg\n",
    ...     "Groundtruth/TrainTestLabels/Labels_airport_Train.txt": "0\n",
    ...     "Groundtruth/TrainTestLabels/Labels_animal_Train.txt": "1\n",
    ... }
    >>> for name, text in files.items():
    ...     (folder / name).parent.mkdir(parents=True, exist_ok=True)
    ...     _ = (folder / name).write_text(text)
    >>> load_nuswide(folder, subset="train", missing="ignore").target
    array([[-1,  1]], dtype=int8)
    >>> here.cleanup()
    """
    check_subset(subset, _SPLITS)
    check_choice(None, "missing", missing, _MISSING)
    check_flag(None, "sparse", sparse)
    root = as_folder(path, "ImageList/, Groundtruth/ and ConceptsList/ of NUS-WIDE")
    concepts = _concepts(root)
    splits = _SPLITS if subset == "all" else (subset,)
    parts = [_part(root, split, concepts) for split in splits]
    names = [name for images, _ in parts for name in images]
    check_distinct(root / "ImageList", names, "lists the image {} for training and for testing")
    split = np.repeat(splits, [len(images) for images, _ in parts])
    target = np.concatenate([labels for _, labels in parts])
    folder = root / "images" if (root / "images").is_dir() and not (root / "Flickr").is_dir() else root / "Flickr"
    paths = image_paths(folder, names)
    absent = np.zeros(len(paths), dtype=bool) if missing == "ignore" else missing_files(paths)
    if absent.any():
        _report(paths, absent, dropped=missing == "drop")
    kept = ~absent if missing == "drop" else np.ones(len(paths), dtype=bool)
    if not kept.any():
        raise FileNotFoundError(f"{folder} holds none of the {len(paths):,} listed images; {_CURE}.")
    return make_bunch(
        "NUS-WIDE",
        _ABOUT,
        paths=paths[kept],
        target=as_wanted(target[kept], sparse=sparse),
        label_names=concepts,
        split=split[kept],
        missing=None if missing == "ignore" else paths[absent],
    )
