"""Tables of annotations, with one line per annotated pair of image and label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.utils import Bunch

from skpartial._checks import check_flag
from skpartial.datasets._bunch import make_bunch
from skpartial.datasets._files import as_path, image_paths, read_table
from skpartial.labels import from_annotations
from skpartial.labels._frames import check_names

__all__ = ["load_annotations_csv"]

_MEANING = ("present", "absent", "unknown", "aggregate", "threshold")

_ABOUT = """\
Annotations in a table, one line per annotated pair of image and label. Entries without a line are unknown."""


def _plain(values: list[str]) -> list[Any]:
    """Values as numbers if all are numbers or blank, with blanks as None."""
    stripped = [value.strip() for value in values]
    try:
        return [float(value) if value else None for value in stripped]
    except ValueError:
        return [value or None for value in stripped]


def load_annotations_csv(
    path: Any,
    *,
    columns: Sequence[str] = ("row", "label", "value"),
    row_names: Sequence[str] | None = None,
    label_names: Sequence[str] | None = None,
    images: Any = None,
    delimiter: str = ",",
    sparse: bool = False,
    **meaning: Any,
) -> Bunch:
    r"""Read a table of annotations, one line per annotated pair of image and label; all other entries are unknown.

    Parameters
    ----------
    path : str or path-like
        The table, with a header: CSV, or with another `delimiter`.
    columns : sequence of str, default=("row", "label", "value")
        The columns with images, labels and values; only images and labels if every line means present.
    row_names : list of str or None, default=None
        All images, in the desired order. None takes the images in the table, in its order; images without any
        annotation need `row_names`.
    label_names : list of str or None, default=None
        All labels, in the desired order. None takes the labels in the table, sorted.
    images : str or path-like or None, default=None
        The folder that the names of images are relative to. None is the folder of the table.
    delimiter : str, default=","
        Separator of columns, such as ``"\t"`` for tabs.
    sparse : bool, default=False
        Whether `target` is a csr_array.
    **meaning
        Meaning of values, as in :func:`~skpartial.labels.from_annotations`: `present` (1), `absent` (-1), `unknown`,
        and for several annotations of one entry `aggregate` and `threshold`. Values are numbers if the whole column is
        numeric, else strings; a blank is unknown.

    Returns
    -------
    Bunch
        With the attributes

        paths : ndarray of str, shape (n,)
            Paths of the images: the names in the table, in the folder `images`.
        target : ndarray or csr_array of int8, shape (n, L)
            1 present, -1 absent, 0 unknown.
        label_names : list of str
            The labels.
        row_names : list of str
            The images as named in the table.
        DESCR : str
            A description.

    Raises
    ------
    ValueError
        If the table is malformed, lacks a column, holds an undefined value, an image or label that is not in
        `row_names` or `label_names`, or contradictory annotations without `aggregate`. The message names the file.
    OSError
        If the file does not exist or cannot be read.

    See Also
    --------
    skpartial.labels.from_annotations : The same for lists and DataFrames.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skpartial.datasets import load_annotations_csv
    >>> here = tempfile.TemporaryDirectory()
    >>> file = Path(here.name) / "seen.csv"
    >>> _ = file.write_text("photo,species,seen\na.jpg,cat,yes\na.jpg,dog,no\nb.jpg,dog,yes\n")
    >>> seen = load_annotations_csv(file, columns=("photo", "species", "seen"), present="yes", absent="no")
    >>> seen.target, seen.label_names, seen.row_names
    (array([[ 1, -1],
           [ 0,  1]], dtype=int8), ['cat', 'dog'], ['a.jpg', 'b.jpg'])
    >>> here.cleanup()
    """
    check_flag(None, "sparse", sparse)
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise ValueError(f"delimiter must be one character, got {delimiter!r}.")
    wanted = check_names(columns, "columns")
    if len(wanted) not in (2, 3):
        raise ValueError(f"columns must name the columns of images, labels and perhaps values, got {columns!r}.")
    unknown = next((name for name in meaning if name not in _MEANING), None)
    if unknown is not None:
        raise TypeError(f"load_annotations_csv() got an unexpected keyword argument {unknown!r}")
    file = as_path(path)
    folder = file.parent if images is None else as_path(images, "images")
    table = read_table(file, wanted, delimiter=delimiter)
    fields: list[list[Any]] = [[value.strip() for value in table.columns[name]] for name in wanted[:2]]
    fields += [_plain(table.columns[name]) for name in wanted[2:]]
    names = check_names(row_names if row_names is not None else dict.fromkeys(fields[0]), "row_names")
    said = [fields_of for fields_of in zip(*fields) if fields_of[-1] is not None]
    try:
        target, labels = from_annotations(
            said,
            row_names=names,
            label_names=sorted(set(fields[1])) if label_names is None else label_names,
            output="sparse" if sparse else "dense",
            return_names=True,
            **meaning,
        )
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return make_bunch(
        f"Annotations of {file.name}",
        _ABOUT,
        paths=image_paths(folder, names),
        target=target,
        label_names=labels,
        row_names=names,
    )
