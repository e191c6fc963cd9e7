"""Tables of presences and background rows, such as those of the disdat package of species distribution data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from skpartial._checks import check_flag
from skpartial.datasets._bunch import make_bunch
from skpartial.datasets._files import Table, as_path, check_subset, fault, label_matrix, read_table, shown
from skpartial.labels._frames import check_names

__all__ = ["load_presence_only"]

# Columns of disdat that are not features of a site: group of species, identifiers, coordinates, occurrence.
_NO_FEATURES = ("group", "siteid", "spid", "x", "y", "occ")

_ABOUT = """\
Records of presences: in each row one label was seen, and all others are unknown. Background rows were drawn at random
from the whole area, to show the range of the features; no label is known in them. Rows of a survey were searched for
every label that it lists."""


class _Part(NamedTuple):
    """Rows of one kind: features and known entries."""

    table: Table
    rows: NDArray[np.int64]
    labels: list[str]
    signs: NDArray[np.int8]


def _presences(table: Table, label: str) -> _Part:
    """Rows with one presence each."""
    names = [name.strip() for name in table.columns[label]]
    for line, name in zip(table.lines, names):
        if not name or name == "NA":
            fault(table.path, f"names no label in column {label!r}", line)
    return _Part(table, np.arange(len(names)), names, np.ones(len(names), dtype=np.int8))


def _background(table: Table) -> _Part:
    """Rows without known labels."""
    return _Part(table, np.array([], dtype=np.int64), [], np.array([], dtype=np.int8))


def _surveyed(sites: Table, seen: Table, others: Sequence[str]) -> _Part:
    """Rows that were searched: features in one table, 0 and 1 for each label in the other, in the same order."""
    if len(sites.lines) != len(seen.lines):
        fault(seen.path, f"has {len(seen.lines)} rows, but {sites.path.name} has {len(sites.lines)}")
    if "siteid" in sites.columns and "siteid" in seen.columns and sites.columns["siteid"] != seen.columns["siteid"]:
        fault(seen.path, f"has different sites from {sites.path.name}, or a different order")
    labels = [name for name in seen.columns if name not in others]
    if not labels:
        fault(seen.path, "has no column for any label")
    rows, names, signs = [], [], []
    for name in labels:
        values = seen.numbers(name)
        known = ~np.isnan(values)
        wrong = known & (values != 0) & (values != 1)
        if wrong.any():
            i = int(np.argmax(wrong))
            fault(seen.path, f"holds {values[i]:g} for {name!r}, which should be 0 or 1", seen.lines[i])
        rows.append(np.flatnonzero(known))
        names += [name] * int(known.sum())
        signs.append(np.where(values[known] == 1, 1, -1).astype(np.int8))
    return _Part(sites, np.concatenate(rows), names, np.concatenate(signs))


def _features(parts: Sequence[_Part], given: Sequence[str] | None, others: Sequence[str]) -> list[str]:
    """The columns that are features: the given ones, or all shared columns except `others`."""
    first = parts[0].table
    if given is None:
        names = [name for name in first.columns if name not in others]
        names = [name for name in names if all(name in part.table.columns for part in parts)]
        if not names:
            fault(first.path, f"has no column of features; its columns are {shown(first.columns, 8)}")
        return names
    for part in parts:
        absent = next((name for name in given if name not in part.table.columns), None)
        if absent is not None:
            fault(part.table.path, f"has no column {absent!r}, which features names")
    return list(given)


def _at_sites(
    data: NDArray[np.float64], groups: NDArray[np.str_], path: Path
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first row of each site, and the position of each row's site among them."""
    _, first, at = np.unique(groups, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    first, at = first[order], rank[at]
    differ = ~((data == data[first[at]]) | (np.isnan(data) & np.isnan(data[first[at]]))).all(axis=1)
    if differ.any():
        fault(
            path,
            f"has different features in rows of the site {str(groups[np.argmax(differ)])!r}, which cannot be merged",
        )
    return first, at


def load_presence_only(
    path: Any,
    *,
    subset: str = "all",
    background: Any = None,
    survey: Sequence[Any] | None = None,
    label: str = "spid",
    features: Sequence[str] | None = None,
    merge_sites: bool = False,
    sparse: bool = False,
) -> Bunch:
    r"""Read tables of presences, background rows and a survey, such as those of the disdat package.

    Parameters
    ----------
    path : str or path-like
        The table of presences, with one record per row, such as ``AWTtrain_po.csv``: a column with the label that was
        seen, and columns of features. In R, write such a table by ``write.csv(disPo("AWT"), "AWTtrain_po.csv",
        row.names = FALSE)``.
    subset : {"all", "train", "test"}, default="all"
        Presences and background are for training, the survey for testing.
    background : str or path-like or None, default=None
        A table of rows without known labels, with the same features, such as ``AWTtrain_bg.csv``.
    survey : pair of str or path-like, or None, default=None
        Two tables of surveyed sites in the same order: features, such as ``AWTtest_env_bird.csv``, and one column of 0
        and 1 per label, such as ``AWTtest_pa_bird.csv``. Labels without a column are unknown.
    label : str, default="spid"
        The column with the label that was seen.
    features : list of str or None, default=None
        The columns that are features. None takes all columns that the tables share, except `label` and disdat's columns
        ``group``, ``siteid``, ``x``, ``y`` and ``occ``.
    merge_sites : bool, default=False
        Whether to merge records with the same ``siteid`` into one row with several presences. Otherwise a label is
        unknown in other records of the place where it was seen, and losses that treat unknown as negative get it wrong.
    sparse : bool, default=False
        Whether `target` is a csr_array.

    Returns
    -------
    Bunch
        With the attributes

        data : ndarray of float64, shape (n, d)
            The features, NaN where blank or NA: presences, then background, then the survey.
        target : ndarray or csr_array of int8, shape (n, L)
            1 present, 0 unknown, and -1 for what a survey did not find.
        label_names : list of str
            The labels, sorted.
        feature_names : list of str
            The features.
        background : ndarray of bool, shape (n,)
            Mask of the background rows.
        split : ndarray of str, shape (n,)
            "train" or "test".
        groups : ndarray of str, shape (n,)
            The site of each row, if all tables have a column ``siteid``. Sites of the background and the survey are
            prefixed with the name of their part, because their numbers are independent.
        DESCR : str
            A description.

    Raises
    ------
    ValueError
        If an argument is invalid, or a table is malformed, lacks a column, or does not fit the others. The message
        names it.
    OSError
        If a file does not exist or cannot be read.

    References
    ----------
    Elith et al.: "Presence-only and Presence-absence Data for Comparing Species Distribution Modeling Methods",
    Biodiversity Informatics 15, 2020.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skpartial.datasets import load_presence_only
    >>> here = tempfile.TemporaryDirectory()
    >>> folder = Path(here.name)
    >>> _ = (folder / "po.csv").write_text("siteid,spid,occ,rain\n1,wren,1,3.5\n2,robin,1,0.5\n")
    >>> _ = (folder / "bg.csv").write_text("siteid,spid,occ,rain\n1,NA,0,2.5\n")
    >>> birds = load_presence_only(folder / "po.csv", background=folder / "bg.csv")
    >>> birds.target, birds.label_names
    (array([[0, 1],
           [1, 0],
           [0, 0]], dtype=int8), ['robin', 'wren'])
    >>> birds.data.ravel(), birds.background
    (array([3.5, 0.5, 2.5]), array([False, False,  True]))
    >>> here.cleanup()
    """
    check_subset(subset, ("train", "test"))
    for name, value in (("merge_sites", merge_sites), ("sparse", sparse)):
        check_flag(None, name, value)
    given = None if features is None else check_names(features, "features")
    if survey is not None and (isinstance(survey, str) or len(survey) != 2):
        raise ValueError(f"survey must be a pair of tables, features and labels, got {survey!r}.")
    others = (*_NO_FEATURES, label)
    file = as_path(path)
    parts = {"presences": _presences(read_table(file, [label]), label)}
    if background is not None:
        parts["background"] = _background(read_table(as_path(background, "background")))
    if survey is not None:
        sites, seen = (read_table(as_path(table, "survey")) for table in survey)
        parts["survey"] = _surveyed(sites, seen, others)
    columns = _features(list(parts.values()), given, others)
    return _joined(parts, columns, subset, file, merge_sites=merge_sites, sparse=sparse)


def _joined(
    parts: dict[str, _Part], columns: list[str], subset: str, path: Path, *, merge_sites: bool, sparse: bool
) -> Bunch:
    """Concatenate the parts."""
    tables = [part.table for part in parts.values()]
    sizes = [len(table.lines) for table in tables]
    kind = np.repeat(list(parts), sizes)
    data = np.concatenate([np.stack([table.numbers(name) for name in columns], axis=1) for table in tables])
    starts = np.cumsum([0, *sizes[:-1]])
    rows = np.concatenate([part.rows + start for part, start in zip(parts.values(), starts)])
    seen = [name for part in parts.values() for name in part.labels]
    signs = np.concatenate([part.signs for part in parts.values()])
    groups = None
    if all("siteid" in table.columns for table in tables):
        prefix = {"presences": "", "background": "background ", "survey": "survey "}
        named = [prefix[name] + site for name, part in parts.items() for site in part.table.columns["siteid"]]
        groups = np.array(named)
    first = np.arange(len(data))
    if merge_sites:
        if groups is None:
            fault(path, "or another table has no column 'siteid', which merge_sites needs")
        first, at = _at_sites(data, groups, path)
        rows = at[rows]
    names = sorted(set(seen))
    position = {name: j for j, name in enumerate(names)}
    entries = np.stack([rows, np.array([position[name] for name in seen]), signs], axis=1)
    entries = np.unique(entries, axis=0)
    target = label_matrix(entries[:, :2], entries[:, 2], (len(first), len(names)), sparse=sparse)
    split = np.where(kind == "survey", "test", "train")[first]
    kept = np.ones(len(first), dtype=bool) if subset == "all" else split == subset
    if not kept.any():
        raise ValueError(f"There are no rows for subset={subset!r}: pass survey, which holds the test rows.")
    return make_bunch(
        path.stem,
        _ABOUT,
        data=data[first][kept],
        target=target[kept],
        label_names=names,
        feature_names=columns,
        background=(kind == "background")[first][kept],
        split=split[kept],
        groups=None if groups is None else groups[first][kept],
    )
