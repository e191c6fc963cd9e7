"""Multi-label ARFF files, in which some of the columns are labels, as specified by Meka or Mulan."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils import Bunch

from skpartial._checks import check_flag
from skpartial.datasets._arff_format import Arff, Attribute, read_arff
from skpartial.datasets._bunch import make_bunch
from skpartial.datasets._files import as_path, as_wanted, check_subset, fault, read_xml, shown
from skpartial.labels._frames import check_names

__all__ = ["load_arff"]

_PRESENT = {"1", "true", "yes"}
_ABSENT = {"0", "false", "no"}
_NUMBER_OF_LABELS = re.compile(r"(?:^|[\s:])-C\s+(-?\d+)\b")
_NUMBER_OF_TRAINING_ROWS = re.compile(r"(?:^|[\s:])-split-number\s+(\d+)\b")

_ABOUT = """\
A multi-label data set in the ARFF format of Weka. 1 in the file means that a label is present, 0 that it is absent. A
question mark means unknown for labels, and NaN for features."""


def _first_or_last(k: int, attributes: Sequence[Attribute], path: Path) -> list[int]:
    """The first k columns, or the last -k if k is negative."""
    n = len(attributes)
    if not 0 < abs(k) <= n:
        fault(path, f"has {n} attributes, so {k} of them cannot be labels")
    return list(range(k)) if k > 0 else list(range(n + k, n))


def _names_in_xml(path: Path) -> list[str]:
    """The labels in an XML document of Mulan, at any level of its hierarchy."""
    names = [str(item.get("name")) for item in read_xml(path).iter() if item.tag.rpartition("}")[2] == "label"]
    if not names:
        fault(path, "names no labels; Mulan's document has one label element with a name per label")
    return names


def _beside(path: Path) -> Path | None:
    """Mulan's document next to a file: scene.xml for scene.arff and scene-train.arff."""
    stems = (path.stem, re.sub(r"[-_](train|test)$", "", path.stem))
    return next((there for stem in stems if (there := path.with_name(f"{stem}.xml")).is_file()), None)


def _label_columns(arff: Arff, labels: Any, path: Path) -> list[int]:
    """Positions of the columns that are labels."""
    if labels is None:
        named = _NUMBER_OF_LABELS.search(arff.relation)
        if named is not None:
            return _first_or_last(int(named[1]), arff.attributes, path)
        labels = _beside(path)
        if labels is None:
            fault(path, "does not specify which attributes are labels, and has no XML file next to it: pass labels")
    if isinstance(labels, Integral) and not isinstance(labels, bool):
        return _first_or_last(int(labels), arff.attributes, path)
    position = {attribute.name: j for j, attribute in enumerate(arff.attributes)}
    if isinstance(labels, str | os.PathLike):
        document = as_path(labels, "labels")
        names = _names_in_xml(document)
        where = f"that {document} names"
    else:
        names, where = check_names(labels, "labels"), "of labels"
    absent = next((name for name in names if name not in position), None)
    if absent is not None:
        fault(path, f"has no attribute {absent!r} {where}; its attributes are {shown(position, 5)}")
    columns = [position[name] for name in names]
    # In Mulan, the order in the document has no meaning.
    return sorted(set(columns)) if isinstance(labels, str | os.PathLike) else columns


def _word(value: str) -> str:
    """A nominal value in the form used above: 1 for 1.0."""
    try:
        return f"{float(value):g}"
    except ValueError:
        return value.lower()


def _signs(attribute: Attribute, column: NDArray[np.float64], path: Path) -> NDArray[np.int8]:
    """1, -1 and 0 for the values of a label."""
    signs, unread = np.zeros(len(column), dtype=np.int8), ~np.isnan(column)
    codes = {_word(value): code for value, code in attribute.codes.items()} or {"0": 0.0, "1": 1.0}
    # With -1, 0 and 1 it would be ambiguous which means absent.
    absent = _ABSENT if _ABSENT & set(codes) else {"-1"}
    for word, code in codes.items():
        if word in _PRESENT | absent:
            signs[column == code] = 1 if word in _PRESENT else -1
            unread &= column != code
    if unread.any():
        other = column[unread][0]
        value = next((value for value, code in attribute.codes.items() if code == other), f"{other:g}")
        fault(path, f"holds {value!r} for the label {attribute.name!r}, which should be 0, 1 or ?")
    return signs


def _split(arff: Arff, n_rows: int, path: Path) -> NDArray[np.str_] | None:
    """The split in Meka's relation, if any."""
    named = _NUMBER_OF_TRAINING_ROWS.search(arff.relation)
    if named is None:
        return None
    if int(named[1]) > n_rows:
        fault(path, f"names {named[1]} rows for training, but has {n_rows} rows")
    return np.where(np.arange(n_rows) < int(named[1]), "train", "test")


def load_arff(path: Any, *, subset: str = "all", labels: Any = None, sparse: bool = False) -> Bunch:
    r"""Read a multi-label ARFF file of Mulan or Meka.

    Parameters
    ----------
    path : str or path-like
        The file, with rows of all values, or sparse rows in braces.
    subset : {"all", "train", "test"}, default="all"
        A part of the split, if the relation of a Meka file names one (``-split-number 1000``: the first 1000 rows are
        for training). Most data sets have separate files for training and testing instead: read each of them.
    labels : None, int, list of str, or path, default=None
        Which attributes are labels: the first k for a number k, or the last -k if it is negative; a list of names; or
        the path of Mulan's XML document, which names them. None takes the number in Meka's relation, as in
        ``@relation 'music: -C 6'``, else the XML document next to the file: ``scene.xml`` for ``scene.arff`` or
        ``scene-train.arff``.
    sparse : bool, default=False
        Whether `target` is a csr_array. `data` is a csr_array if the rows of the file are sparse.

    Returns
    -------
    Bunch
        With the attributes

        data : ndarray or csr_array of float64, shape (n, d)
            The attributes that are not labels; NaN for a question mark. A nominal attribute is given by its value if
            all of its values are numbers, else by the position of its value among the declared ones.
        target : ndarray or csr_array of int8, shape (n, L)
            1 present, -1 absent (0 in the file), 0 unknown (a question mark).
        label_names : list of str
            The labels, in the order of the file, or of `labels` if it is a list.
        feature_names : list of str
            The attributes that are not labels.
        categories : dict of str to tuple of str
            The values of the nominal attributes that are given by position in `data`.
        split : ndarray of str, shape (n,)
            "train" or "test", if the relation names a split.
        DESCR : str
            A description.

    Raises
    ------
    ValueError
        If the file is malformed, holds an attribute of strings or dates or a value that is not declared, or does not
        specify which attributes are labels. The message names the file.
    OSError
        If a file does not exist or cannot be read.

    Notes
    -----
    As in Weka, a value that a sparse row leaves out is zero, or the first declared value of a nominal attribute.

    References
    ----------
    Tsoumakas, Spyromitros-Xioufis, Vilcek, Vlahavas: "Mulan: A Java Library for Multi-Label Learning", JMLR 12, 2011.

    Read, Reutemann, Pfahringer, Holmes: "Meka: A Multi-label/Multi-target Extension to Weka", JMLR 17, 2016.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skpartial.datasets import load_arff
    >>> here = tempfile.TemporaryDirectory()
    >>> file = Path(here.name) / "music.arff"
    >>> _ = file.write_text(
    ...     "@relation 'music: -C 2'\n"
    ...     "@attribute calm {0,1}\n"
    ...     "@attribute sad {0,1}\n"
    ...     "@attribute tempo numeric\n"
    ...     "@data\n"
    ...     "1,?,90\n"
    ...     "0,1,?\n"
    ... )
    >>> music = load_arff(file)
    >>> music.target, music.label_names
    (array([[ 1,  0],
           [-1,  1]], dtype=int8), ['calm', 'sad'])
    >>> music.data
    array([[90.],
           [nan]])
    >>> here.cleanup()
    """
    check_subset(subset, ("train", "test"))
    check_flag(None, "sparse", sparse)
    file = as_path(path)
    arff = read_arff(file)
    columns = _label_columns(arff, labels, file)
    features = [j for j in range(len(arff.attributes)) if j not in set(columns)]
    values = arff.values
    given = values[:, columns].toarray() if sp.issparse(values) else values[:, columns]
    target = np.stack([_signs(arff.attributes[j], column, file) for j, column in zip(columns, given.T)], axis=1)
    data = values[:, features]
    if sp.issparse(data):
        data.eliminate_zeros()
    split = _split(arff, len(target), file)
    kept = slice(None)
    if subset != "all":
        if split is None or not (split == subset).any():
            fault(file, f"names no split with rows for subset={subset!r}")
        kept = split == subset
    nominal = {attribute.name: attribute.values for attribute in map(arff.attributes.__getitem__, features)}
    return make_bunch(
        arff.relation.partition(":")[0].strip() or file.stem,
        _ABOUT,
        data=data[kept],
        target=as_wanted(target[kept], sparse=sparse),
        label_names=[arff.attributes[j].name for j in columns],
        feature_names=list(nominal),
        categories={j: v for j, v in nominal.items() if not Attribute(j, v).is_number},
        split=None if split is None else split[kept],
    )
