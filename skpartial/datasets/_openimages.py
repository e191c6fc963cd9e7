"""Open Images: a sparse label matrix from tables with one label per line and millions of lines."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils import Bunch

from skpartial._checks import check_choice, check_flag, check_number
from skpartial.datasets._csv_blocks import Block, read_blocks
from skpartial.datasets._files import as_folder, check_subset, fault
from skpartial.labels._frames import check_names
from skpartial.labels._memory import check_fits

__all__ = ["load_openimages"]

# Parts of the split, and their names in files; the first one is also the folder of the images.
_SPLITS = {"train": ("train",), "val": ("validation", "val"), "test": ("test",)}
_KINDS = {"both": ("human", "machine"), "human": ("human",), "machine": ("machine",)}
_VERSIONS = (3, 4, 5, 6, 7)
# Folders of the archives, in search order.
_FOLDERS = (".", "2017_11", "2018_04", "v5", "v6", "v7", "annotations", "metadata")
# Name of the first column in lists of classes with a header.
_HEADS = ("labelname", "id")
_COLUMNS = ("ImageID", "LabelName", "Confidence")
_WHERE = "download the files of labels and classes from https://storage.googleapis.com/openimages/web"

_ABOUT = """\
Open Images (Kuznetsova et al., International Journal of Computer Vision 2020): photographs with labels that people
verified as present or absent, and labels that a classifier proposed. All other labels are unknown. People override the
classifier; if people contradict each other, the majority decides."""


class _Found(NamedTuple):
    """Contents of a file of labels: image ids in order, and the known entries."""

    ids: NDArray[np.bytes_]
    entries: sp.csr_array


class _Classes(NamedTuple):
    """Labels: their ids in the files, their names, and a lookup of ids."""

    ids: list[str]
    names: list[str]

    def lookup(self) -> _Lookup:
        return _Lookup(self.ids)


class _Lookup:
    """Hash table for the positions of names among the known ones, vectorised over many names.

    Names are sequences of eight-byte numbers. Their sum with odd factors is the first place to look in the table; if it
    is taken, the next places follow.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        encoded = [name.encode() for name in ids]
        self.n_labels, self.n_words = len(ids), max(1, -(-max(map(len, encoded)) // 8))
        names = np.array(encoded, dtype=f"S{8 * self.n_words}")
        self.words = np.ascontiguousarray(names.view("<u8").reshape(len(names), self.n_words).T)
        self.lengths = np.array(list(map(len, encoded)))
        generator = np.random.RandomState(0)
        self.factors = generator.randint(1, 2**62, self.n_words, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        n_bits = len(ids).bit_length() + 3
        self.shift, self.table = np.uint64(64 - n_bits), np.full(1 << n_bits, -1, dtype=np.int64)
        for position, place in enumerate(self._places(self.words).tolist()):
            while self.table[place] >= 0:
                place = (place + 1) % len(self.table)
            self.table[place] = position

    def _places(self, words: NDArray[np.uint64]) -> NDArray[np.int64]:
        total = words[0] * self.factors[0]
        for word, factor in zip(words[1:], self.factors[1:]):
            total += word * factor
        return (total >> self.shift).astype(np.int64)

    def positions(self, block: Block, column: int) -> NDArray[np.int64]:
        """Position of each row's name; -1 if it is not known."""
        words, lengths = block.words(column, self.n_words), block.lengths[column]
        places = self._places(words)
        positions = self.table[places]
        rows = np.flatnonzero((positions >= 0) & ~self._same(positions, words, lengths))
        while len(rows):
            places[rows] = (places[rows] + 1) % len(self.table)
            positions[rows] = self.table[places[rows]]
            found = positions[rows]
            rows = rows[(found >= 0) & ~self._same(found, words[:, rows], lengths[rows])]
        return positions

    def _same(
        self, positions: NDArray[np.int64], words: NDArray[np.uint64], lengths: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        same: NDArray[np.bool_] = self.lengths[positions] == lengths
        for known, word in zip(self.words, words):
            same &= known[positions] == word
        return same


class _Paths(Sequence[str]):
    """Paths of images, each created on access: nine million ids take 150 MB, but their paths 2 GB."""

    def __init__(self, ids: NDArray[np.bytes_], folders: Sequence[str], codes: NDArray[np.int8]) -> None:
        self._ids, self._folders, self._codes = ids, folders, codes

    @property
    def shape(self) -> tuple[int]:
        return (len(self._ids),)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(object)

    ndim = 1

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, tuple):  # scikit-learn's index (rows, ...)
            rows = rows[0]
        if isinstance(rows, int | np.integer):
            return os.path.join(self._folders[self._codes[rows]], f"{self._ids[rows].decode()}.jpg")
        rows = rows if isinstance(rows, slice) else np.asarray(rows)
        return _Paths(self._ids[rows], self._folders, self._codes[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(list(self), dtype=dtype or np.str_)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:2])) + (", ..." if len(self) > 2 else "")
        return f"<paths of {len(self):,} images: {shown}>"


def _prefixes(version: int | None) -> list[str]:
    """Prefixes of file names, newest first; a version includes files of earlier versions that it did not replace."""
    newest = 7 if version is None else version
    return [f"oidv{v}-" for v in range(newest, 3, -1)] + [""]


def _label_file(folder: Path, split: str, kind: str, classes: Any, version: int | None) -> Path | None:
    """The file with one kind of labels for one part of the split; None if it does not exist."""
    prefixes = _prefixes(version)
    # Labels of the classes with boxes are also in a separate, shorter file.
    endings = ["-boxable", ""] if classes == "boxable" else ["", "-boxable"]
    candidates = []
    for place in _FOLDERS:
        for name in _SPLITS[split]:
            places = [folder / place, folder / place / name, folder / name / place]
            if version != 3:
                for (i, ending), (j, prefix) in product(enumerate(endings), enumerate(prefixes)):
                    file = f"{prefix}{name}-annotations-{kind}-imagelabels{ending}.csv"
                    candidates += [(i, j, at / file) for at in places]
            if version in (None, 3):
                candidates += [(0, len(prefixes), at / f"annotations-{kind}.csv") for at in places[1:]]
    # Stable: files of the requested classes first, newer before older, folders as listed.
    return next((file for *_, file in sorted(candidates, key=lambda c: c[:2]) if file.is_file()), None)


def _find(folder: Path, names: Sequence[str], version: int | None, what: str) -> Path:
    candidates = [
        folder / place / f"{prefix}{name}" for prefix in _prefixes(version) for name in names for place in _FOLDERS
    ]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"{folder} holds no {' or '.join(names)}, {what}; {_WHERE}.")


def _table(path: Path) -> Iterator[list[str]]:
    """Rows of a short file of classes: an id, and a name if there is one; without the header, if any."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                if not row or (reader.line_num == 1 and row[0].lower() in _HEADS):
                    continue
                if not row[0].strip():
                    fault(path, "has no label id", reader.line_num)
                yield [field.strip() for field in row]
    except UnicodeDecodeError:
        fault(path, "is not UTF-8 text: save it as UTF-8")
    except csv.Error as error:
        fault(path, f"is not well-formed: {error}", reader.line_num)


def _descriptions(path: Path) -> dict[str, str]:
    names: dict[str, str] = {}
    for row in _table(path):
        if len(row) < 2:
            fault(path, f"has no name for the label {row[0]!r}")
        names[row[0]] = row[1]
    return names


def _read_classes(folder: Path, classes: Any, version: int | None) -> _Classes:
    lists = {
        "trainable": (["classes-trainable.txt"], "the list of trainable classes"),
        "boxable": (
            ["class-descriptions-boxable.csv", "classes-bbox.txt", "classes-bbox-trainable.txt"],
            "the list of classes with boxes",
        ),
        "all": (["class-descriptions.csv", "classes.txt"], "the list of all classes"),
    }
    described: dict[str, str] = {}
    with suppress(FileNotFoundError):  # without it, ids are names
        described = _descriptions(_find(folder, ["class-descriptions.csv"], version, "the names of classes"))
    if isinstance(classes, str):
        path = _find(folder, *lists[classes][:1], version, lists[classes][1])
        rows = list(_table(path))
        if not rows:
            fault(path, "is empty")
        ids = [row[0] for row in rows]
        twice, count = Counter(ids).most_common(1)[0]
        if count > 1:
            fault(path, f"lists the class {twice!r} more than once")
        described = {**{row[0]: row[1] for row in rows if len(row) > 1 and row[1]}, **described}
    else:
        by_name = {name: key for key, name in described.items()}
        ids = [name if name in described else by_name.get(name, name) for name in classes]
        unknown = [name for name in ids if described and name not in described]
        if unknown:
            raise ValueError(
                f"classes holds {unknown[0]!r}, which is neither an id nor a name of a label in Open Images."
            )
    names = [described.get(key, key) for key in ids]
    counts = Counter(names)
    return _Classes(ids, [name if counts[name] == 1 else f"{name} ({key})" for name, key in zip(names, ids)])


def _distinct(ids: NDArray[np.bytes_]) -> tuple[NDArray[np.bytes_], NDArray[np.int32]]:
    """The distinct ids in order, and the position of each given id among them."""
    if (ids[1:] > ids[:-1]).all():
        return ids, np.arange(len(ids), dtype=np.int32)
    order = np.argsort(ids, kind="stable")  # fast on data with long sorted runs, as in these files
    ordered = ids[order]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    positions = np.empty(len(ids), dtype=np.int32)
    positions[order] = np.cumsum(new, dtype=np.int32) - 1
    return ordered[new], positions


def _runs(block: Block) -> tuple[NDArray[np.bytes_], NDArray[np.int32]]:
    """The image ids of a block, once per run of equal ids, and the position of each row's id among them."""
    words = block.words(0)
    new = np.ones(words.shape[1], dtype=bool)
    new[1:] = np.logical_or.reduce([word[1:] != word[:-1] for word in words])
    ids = np.ascontiguousarray(words[:, new].T).view(f"S{8 * len(words)}").ravel()
    if not block.lengths[0].all():
        fault(block.path, "has no image id", int(block.lines[int(np.argmin(block.lengths[0]))]))
    return ids, np.cumsum(new, dtype=np.int32) - 1


def _human(block: Block) -> NDArray[np.int8]:
    confidence = block.numbers(2)
    odd = (confidence != 0) & (confidence != 1)
    if odd.any():
        row = int(np.argmax(odd))
        what = f"has the confidence {block.field(row, 2)}, but labels by people must be 1 or 0"
        fault(block.path, what, int(block.lines[row]))
    return np.where(confidence == 1, 1, -1).astype(np.int8)


def _read_labels(path: Path, lookup: _Lookup, kind: str, thresholds: tuple[float, float | None]) -> _Found:
    """Read a file of labels, block by block; only known entries are kept."""
    present_from, absent_to = thresholds
    ids, rows, labels, signs = [], [], [], []
    n_runs = 0
    for block in read_blocks(path, _COLUMNS):
        block_ids, runs = _runs(block)
        if kind == "human":
            values = _human(block)
        else:
            confidence = block.numbers(2)
            values = (confidence >= present_from).astype(np.int8)
            if absent_to is not None:
                values[confidence <= absent_to] = -1
        columns = lookup.positions(block, 1)
        known = (columns >= 0) & (values != 0)
        ids.append(block_ids)
        rows.append(runs[known] + np.int32(n_runs))
        labels.append(columns[known].astype(np.int32))
        signs.append(values[known])
        n_runs += len(block_ids)
    distinct, positions = _distinct(np.concatenate(ids))
    row = positions[np.concatenate(rows)]
    rows.clear()
    shape = (len(distinct), lookup.n_labels)
    # Several labels of one entry are summed; a stored zero means that people disagree.
    entries = sp.csr_array(sp.coo_array((np.concatenate(signs), (row, np.concatenate(labels))), shape=shape))
    np.clip(entries.data, -1, 1, out=entries.data)
    return _Found(distinct, entries)


def _on_rows(found: _Found, positions: NDArray[np.int32], n_rows: int) -> sp.csr_array:
    """Entries moved to the rows of other images; both are in the order of their ids."""
    counts = np.zeros(n_rows, dtype=found.entries.indptr.dtype)
    counts[positions] = np.diff(found.entries.indptr)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(found.entries.indptr.dtype)
    shape = (n_rows, found.entries.shape[1])
    return sp.csr_array((found.entries.data, found.entries.indices, indptr), shape=shape)


def _combined(found: Sequence[_Found]) -> _Found:
    """All images of one part of the split; if several sources know an entry, the first one counts."""
    if len(found) == 1:
        ids, entries = found[0]
    else:
        ids, positions = _distinct(np.concatenate([part.ids for part in found]))
        places = np.split(positions, np.cumsum([len(part.ids) for part in found])[:-1])
        entries, more = (_on_rows(part, at, len(ids)) for part, at in zip(found, places))
        spoken = sp.csr_array((np.ones_like(entries.data), entries.indices, entries.indptr), shape=entries.shape)
        entries = entries + more - more.multiply(spoken)
    entries.eliminate_zeros()
    entries.sort_indices()
    return _Found(ids, entries)


def _image_folder(folder: Path, split: str) -> str:
    name = _SPLITS[split][0]
    candidates = [folder / name / "data", folder / "images" / name, folder / name]
    return str(next((place for place in candidates if place.is_dir()), folder / name))


def _check_arguments(subset: Any, classes: Any, labels: Any, version: Any, present_from: Any, absent_to: Any) -> None:
    check_subset(subset, tuple(_SPLITS))
    check_choice(None, "labels", labels, tuple(_KINDS))
    check_choice(None, "version", version, (None, *_VERSIONS))
    if isinstance(classes, str):
        check_choice(None, "classes", classes, ("trainable", "boxable", "all"))
    elif not check_names(classes, "classes"):
        raise ValueError("classes is empty: at least one label is needed.")
    check_number(None, "present_from", present_from, "[0, 1]")
    if absent_to is not None:
        check_number(None, "absent_to", absent_to, "[0, 1]")
        if absent_to >= present_from:
            raise ValueError(f"absent_to must be below present_from, {present_from!r}, got {absent_to!r}.")


def load_openimages(
    path: Any,
    *,
    subset: str = "all",
    classes: Any = "trainable",
    labels: str = "both",
    present_from: float = 0.5,
    absent_to: float | None = None,
    version: int | None = None,
    sparse: bool = True,
) -> Bunch:
    r"""Read the image-level labels of Open Images, versions 3 to 7: nine million photographs, thousands of labels.

    The tables are read block by block. Memory is needed for the image ids and the known entries, some dozens of bytes
    each, and never for a dense matrix.

    Parameters
    ----------
    path : str or path-like
        The folder with the published files under their original names: for version 3 the folders of the archives
        (``train/annotations-human.csv``), for later versions ``train-annotations-human-imagelabels.csv``,
        ``oidv6-train-annotations-human-imagelabels.csv`` and so on; and the lists of classes. It may also be the parent
        folder of ``2017_11``.
    subset : {"all", "train", "val", "test"}, default="all"
        The official split; "all" is every part with a file of labels, "val" is called "validation" in the files.
    classes : {"trainable", "boxable", "all"} or list of str, default="trainable"
        Which labels, in the order of the published list: "trainable" is ``classes-trainable.txt`` (5,000 in version 3),
        "boxable" the 600 labels with boxes in ``class-descriptions-boxable.csv``, "all" all labels in
        ``class-descriptions.csv``. A list holds ids ("/m/01yrx") or names ("Cat") of labels.
    labels : {"both", "human", "machine"}, default="both"
        Source of the labels: verified by people, proposed by a classifier, or both, where people override.
    present_from : float, default=0.5
        Smallest confidence of a machine label for present, in [0, 1]. All published confidences are at least 0.5.
    absent_to : float or None, default=None
        Largest confidence of a machine label for absent; in between it is unknown. None means never absent.
    version : {3, 4, 5, 6, 7} or None, default=None
        Which files to use if a folder holds several versions; None is the newest. A version includes the files of
        earlier versions that it did not replace.
    sparse : bool, default=True
        Whether `target` is a csr_array.

    Returns
    -------
    Bunch
        With the attributes

        paths : sequence of str, length n
            Paths of the photographs, sorted by id, train before val before test: ``path/train/<id>.jpg``. Each path is
            created on access. Indexing by rows or a mask gives another such sequence; NumPy converts it to an array.
        target : csr_array or ndarray of int8, shape (n, L)
            1 present, -1 absent, 0 unknown. One row per image that occurs in a file of labels.
        label_names : list of str
            Names of the labels, such as "Cat"; ambiguous names include the id.
        label_ids : list of str
            Ids of the labels in the files, such as "/m/01yrx".
        split : ndarray of str, shape (n,)
            "train", "val" or "test".
        DESCR : str
            A description.

    Raises
    ------
    ValueError
        If an argument is invalid, or a file is malformed; the message names the file and the line.
    OSError
        If a file does not exist.

    Notes
    -----
    If people contradict each other about an entry, the majority decides; at a tie it is unknown.

    References
    ----------
    A. Kuznetsova et al., "The Open Images Dataset V4", International Journal of Computer Vision 128, 2020.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from skpartial.datasets import load_openimages
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "classes-trainable.txt").write_text("/m/01yrx\n/m/0bt9lr\n")
    ...     _ = Path(folder, "class-descriptions.csv").write_text("/m/01yrx,Cat\n/m/0bt9lr,Dog\n")
    ...     _ = Path(folder, "train-annotations-human-imagelabels.csv").write_text(
    ...         "ImageID,Source,LabelName,Confidence\n"
    ...         "000026e7ee790996,verification,/m/01yrx,1\n"
    ...         "000062a39995e348,verification,/m/0bt9lr,0\n")
    ...     data = load_openimages(folder)
    >>> data.target.toarray()
    array([[ 1,  0],
           [ 0, -1]], dtype=int8)
    >>> data.label_names
    ['Cat', 'Dog']
    """
    _check_arguments(subset, classes, labels, version, present_from, absent_to)
    check_flag(None, "sparse", sparse)
    folder = as_folder(path, "the files of Open Images")
    files = {
        split: {kind: _label_file(folder, split, kind, classes, version) for kind in _KINDS[labels]}
        for split in _SPLITS
        if subset in ("all", split)
    }
    files = {split: {k: f for k, f in kinds.items() if f is not None} for split, kinds in files.items()}
    files = {split: kinds for split, kinds in files.items() if kinds}
    if not files:
        example = (
            f"{_SPLITS['train' if subset == 'all' else subset][0]}-annotations-{_KINDS[labels][0]}-imagelabels.csv"
        )
        raise FileNotFoundError(f"{folder} holds no file of labels such as {example}; {_WHERE}.")
    chosen = _read_classes(folder, classes if isinstance(classes, str) else check_names(classes, "classes"), version)
    lookup = chosen.lookup()
    parts = [
        _combined([_read_labels(f, lookup, kind, (present_from, absent_to)) for kind, f in kinds.items()])  # type: ignore[arg-type]
        for kinds in files.values()
    ]
    target = parts[0].entries if len(parts) == 1 else sp.vstack([part.entries for part in parts], format="csr")
    target = sp.csr_array(target)
    if not sparse:
        check_fits(target.shape, "A label matrix", "use sparse=True")
        target = target.toarray()
    codes = np.repeat(np.arange(len(parts), dtype=np.int8), [len(part.ids) for part in parts])
    return Bunch(
        paths=_Paths(np.concatenate([part.ids for part in parts]), [_image_folder(folder, s) for s in files], codes),
        target=target,
        label_names=chosen.names,
        label_ids=chosen.ids,
        # As objects, so that all rows of a part share one string.
        split=np.array(list(files), dtype=object)[codes],
        DESCR=_description(parts, list(files), chosen),
    )


def _description(parts: Sequence[_Found], splits: Sequence[str], classes: _Classes) -> str:
    present, absent = (sum(int(np.count_nonzero(p.entries.data == sign)) for p in parts) for sign in (1, -1))
    rows = ", ".join(f"{split} {len(part.ids):,}" for split, part in zip(splits, parts))
    facts = [
        f":Rows: {sum(len(part.ids) for part in parts):,} ({rows})",
        f":Labels: {len(classes.ids):,}; present {present:,}, absent {absent:,} entries, all others unknown",
    ]
    return "\n".join(["Open Images", "-----------", "", *facts, "", _ABOUT, ""])
