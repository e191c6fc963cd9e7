"""Multi-label libsvm (svmlight) files, and those of the Extreme Classification Repository with a line of sizes."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_svmlight_file
from sklearn.utils import Bunch

from skpartial._checks import check_choice, check_flag, check_whole
from skpartial.datasets._bunch import make_bunch
from skpartial.datasets._files import as_path, complete_matrix, fault, label_matrix, read_bytes
from skpartial.labels._frames import check_names

__all__ = ["load_libsvm"]

# Rows, features and labels, as in the first line of files of the Extreme Classification Repository.
_SIZES = re.compile(rb"\s*(\d+)\s+(\d+)\s+(\d+)\s*\r?\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_ABOUT = """\
A multi-label data set in the libsvm format. A label is present in the rows that list it, and {unlisted} elsewhere."""


def _columns(labels: NDArray[np.float64], names: list[str] | None, path: Path) -> tuple[NDArray[np.int64], list[str]]:
    """Positions of labels, and their names: the numbers that occur, or names for 0, 1, 2 and so on."""
    odd = (labels != np.rint(labels)) | ((labels < 0) & (names is not None))
    if odd.any():
        fault(path, f"holds the label {labels[odd][0]:g}, which should be a whole number of at least 0")
    numbers = labels.astype(np.int64)
    if names is not None:
        if numbers.max(initial=-1) >= len(names):
            fault(path, f"holds the label {numbers.max()}, but there are {len(names)} label names, counted from 0")
        return numbers, names
    if not len(numbers):
        fault(path, "lists no label in any row: pass label_names")
    occurring, positions = np.unique(numbers, return_inverse=True)
    return positions, [str(number) for number in occurring.tolist()]


def load_libsvm(
    path: Any,
    *,
    label_names: Sequence[str] | None = None,
    n_features: int | None = None,
    zero_based: bool | str = "auto",
    unlisted: str = "absent",
    sparse: bool = False,
) -> Bunch:
    r"""Read a multi-label libsvm file, with one line per row: ``0,3 1:0.5 7:1.2`` for labels 0 and 3.

    Parameters
    ----------
    path : str or path-like
        The file. A first line of three numbers holds the numbers of rows, features and labels, as in the Extreme
        Classification Repository.
    label_names : list of str or None, default=None
        Names of labels 0, 1, 2 and so on. None takes the numbers that occur, in order, or all numbers if the first line
        holds the number of labels. Training and test files need the same names.
    n_features : int or None, default=None
        Number of features. None takes the largest feature number that occurs, or the number in the first line. Training
        and test files need the same number.
    zero_based : bool or "auto", default="auto"
        Whether features are counted from 0. "auto" means True if a feature 0 occurs, or there is a line of sizes.
    unlisted : {"absent", "unknown"}, default="absent"
        Meaning of labels that a row does not list.
    sparse : bool, default=False
        Whether `target` is a csr_array; `data` always is.

    Returns
    -------
    Bunch
        With the attributes

        data : csr_array of float64, shape (n, d)
            The features.
        target : ndarray or csr_array of int8, shape (n, L)
            1 present; all others -1 absent, or 0 unknown.
        label_names : list of str
            The labels.
        DESCR : str
            A description.

    Raises
    ------
    ValueError
        If an argument is invalid, or the file is malformed or does not match its line of sizes. The message names it.
    OSError
        If the file does not exist or cannot be read.

    See Also
    --------
    sklearn.datasets.load_svmlight_file : Used to read the lines.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skpartial.datasets import load_libsvm
    >>> here = tempfile.TemporaryDirectory()
    >>> file = Path(here.name) / "yeast.svm"
    >>> _ = file.write_text("0,3 1:0.5 3:1.5\n1 2:1\n")
    >>> yeast = load_libsvm(file)
    >>> yeast.target, yeast.label_names
    (array([[ 1, -1,  1],
           [-1,  1, -1]], dtype=int8), ['0', '1', '3'])
    >>> yeast.data.toarray()
    array([[0.5, 0. , 1.5],
           [0. , 1. , 0. ]])
    >>> here.cleanup()
    """
    check_choice(None, "unlisted", unlisted, ("absent", "unknown"))
    check_choice(None, "zero_based", zero_based, (True, False, "auto"))
    check_flag(None, "sparse", sparse)
    if n_features is not None:
        check_whole(None, "n_features", n_features, 1)
    names = None if label_names is None else check_names(label_names, "label_names")
    file = as_path(path)
    contents = read_bytes(file).removeprefix(_BYTE_ORDER_MARK)
    sizes = _SIZES.match(contents)
    if sizes is not None:
        contents = contents[sizes.end() :]
        n_features = int(sizes[2]) if n_features is None else n_features
        names = [str(j) for j in range(int(sizes[3]))] if names is None else names
        zero_based = True if zero_based == "auto" else zero_based
    try:
        data, listed = load_svmlight_file(
            io.BytesIO(contents), n_features=n_features, multilabel=True, zero_based=zero_based
        )
    except (ValueError, UnicodeDecodeError) as error:
        fault(file, f"cannot be read as a multi-label libsvm file: {str(error).rstrip('.')}")
    if sizes is not None and len(listed) != int(sizes[1]):
        fault(file, f"holds {len(listed)} rows, but its first line says {int(sizes[1])}")
    rows = np.repeat(np.arange(len(listed)), [len(labels) for labels in listed])
    columns, names = _columns(np.array([label for labels in listed for label in labels]), names, file)
    pairs = np.unique(np.stack([rows, columns], axis=1), axis=0)
    shape = (len(listed), len(names))
    if unlisted == "absent":
        target = complete_matrix(pairs, shape, sparse=sparse)
    else:
        target = label_matrix(pairs, np.ones(len(pairs)), shape, sparse=sparse)
    return make_bunch(file.stem, _ABOUT.format(unlisted=unlisted), data=data, target=target, label_names=names)
