"""Tables of presences and background rows, such as those of the disdat package on the distribution of species."""

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

# Columns of disdat that describe a record and no site: group of species, identifiers, coordinates, occurrence.
_NO_FEATURES = ("group", "siteid", "spid", "x", "y", "occ")

_ABOUT = """\
Records of presences: in each row a label was seen, and what else is there is unknown. Background rows were taken at
random from everywhere, to tell what is usual; nothing is known of them. Rows of a survey were searched for every label
that it lists."""


class _Part(NamedTuple):
    """Rows of one kind: features, and entries that are known."""

    table: Table
    rows: NDArray[np.int64]
    labels: list[str]
    signs: NDArray[np.int8]


def _presences(table: Table, label: str) -> _Part:
    """A presence a row."""
    names = [name.strip() for name in table.columns[label]]
    for line, name in zip(table.lines, names):
        if not name or name == "NA":
            fault(table.path, f"names no label in column {label!r}", line)
    return _Part(table, np.arange(len(names)), names, np.ones(len(names), dtype=np.int8))


def _background(table: Table) -> _Part:
    """Rows of which nothing is known."""
    return _Part(table, np.array([], dtype=np.int64), [], np.array([], dtype=np.int8))


def _surveyed(sites: Table, seen: Table, others: Sequence[str]) -> _Part:
    """Rows that were searched: features in one table, 0 and 1 for each label in the other, in the same order."""
    if len(sites.lines) != len(seen.lines):
        fault(seen.path, f"has {len(seen.lines)} rows, but {sites.path.name} has {len(sites.lines)}")
    if "siteid" in sites.columns and "siteid" in seen.columns and sites.columns["siteid"] != seen.columns["siteid"]:
        fault(seen.path, f"has other sites than {sites.path.name}, or in another order")
    labels = [name for name in seen.columns if name not in others]
    if not labels:
        fault(seen.path, "has no column of a label")
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
    """The columns that are features: those given, or all that every table has but the others."""
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
    """The first row of each site, and the position of every row's site among them."""
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
    r"""Read tables of presences, of background rows and of a survey, such as those of the disdat package.

    Parameters
    ----------
    path : str or path-like
        The table of presences, one record per row, such as ``AWTtrain_po.csv``: a column that names what was seen, and
        columns of features. R's packages become such tables by ``write.csv(disPo("AWT"), "AWTtrain_po.csv", row.names =
        FALSE)``.
    subset : {"all", "train", "test"}, default="all"
        Presences and background are for training, the survey for testing.
    background : str or path-like or None, default=None
        A table of rows of which nothing is known, with the same features, such as ``AWTtrain_bg.csv``.
    survey : pair of str or path-like, or None, default=None
        Two tables of sites that were searched, in the same order: features, such as ``AWTtest_env_bird.csv``, and a
        column of 0 and 1 for each label, such as ``AWTtest_pa_bird.csv``. Labels that have no column in it are unknown.
    label : str, default="spid"
        The column that names what was seen.
    features : list of str or None, default=None
        The columns that are features. None takes what all tables have, but for `label` and disdat's columns ``group``,
        ``siteid``, ``x``, ``y`` and ``occ``.
    merge_sites : bool, default=False
        Whether records of the same ``siteid`` become one row with several presences. Otherwise a label that was seen at
        the same place is unknown in the row of another, which losses that assume absence get wrong.
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
            What was seen, sorted.
        feature_names : list of str
            The features.
        background : ndarray of bool, shape (n,)
            Which rows are background.
        split : ndarray of str, shape (n,)
            "train" or "test".
        groups : ndarray of str, shape (n,)
            The sites, where all tables have a column ``siteid``: records of a site belong together. Those of background
            and survey begin with the name of their part, since their numbers are others.
        DESCR : str
            A description.

    Raises
    ------
    ValueError
        If an argument is none of the above, or a table is malformed, has no such columns, or does not fit to the
        others: the message names it.
    OSError
        If a file is not there or cannot be read.

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
        raise ValueError(f"survey must be a pair of tables, features and labels; got {survey!r}.")
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
    """The parts one after the other."""
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
            fault(path, "or another of the tables has no column 'siteid', by which sites could be merged")
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
        raise ValueError(f"There are no rows for subset={subset!r}: pass survey, which holds those for testing.")
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
