"""Tables like CheXpert's: one column per finding, with blank and uncertain entries."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from skpartial._checks import check_choice, check_flag
from skpartial.datasets._bunch import make_bunch
from skpartial.datasets._files import (
    Table,
    as_path,
    as_wanted,
    check_distinct,
    check_subset,
    fault,
    find,
    read_table,
    shown,
)
from skpartial.labels._frames import check_names

__all__ = ["load_chexpert"]

_FILES = {"train": "train", "val": "valid", "test": "test"}
_NO_FINDINGS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")
_POLICIES = {"unknown": 0, "present": 1, "absent": -1}
_PATIENT = re.compile(r"(?:^|[/\\])(patient[^/\\]*)[/\\]")

_ABOUT = """\
Chest radiographs, with findings extracted from the reports (Irvin et al., AAAI 2019). Findings that a report does not
mention are blank, hedged findings are uncertain; the meaning of both was chosen when the table was read. The rows of a
patient are a group."""


def _policy(name: str, given: Any, findings: Sequence[str]) -> NDArray[np.int8]:
    """The sign for blank or uncertain entries, per finding."""
    if not isinstance(given, Mapping):
        check_choice(None, name, given, tuple(_POLICIES))
        return np.full(len(findings), _POLICIES[given], dtype=np.int8)
    signs = np.zeros(len(findings), dtype=np.int8)
    for finding, policy in given.items():
        if finding not in findings:
            raise ValueError(
                f"{name} names {finding!r}, which is not a finding of the table; these are {shown(findings, 20)}."
            )
        check_choice(None, f"{name}[{finding!r}]", policy, tuple(_POLICIES))
        signs[findings.index(finding)] = _POLICIES[policy]
    return signs


def _findings(table: Table, wanted: Sequence[str] | None) -> list[str]:
    """Columns that are findings: the wanted ones, else all after AP/PA, or without it all but the known other ones."""
    names = list(table.columns)
    if wanted is not None:
        strange = [name for name in wanted if name not in names]
        if strange:
            fault(table.path, f"has no column {strange[0]!r}, which findings names; its columns are {shown(names, 20)}")
        return list(wanted)
    after = names[names.index("AP/PA") + 1 :] if "AP/PA" in names else names
    found = [name for name in after if name not in _NO_FINDINGS]
    if not found:
        fault(table.path, f"has no findings, which are the columns after AP/PA; its columns are {shown(names, 8)}")
    return found


def _labels(
    table: Table, findings: Sequence[str], blank: NDArray[np.int8], uncertain: NDArray[np.int8]
) -> NDArray[np.int8]:
    """Signs of the findings of a table."""
    labels = np.empty((len(table.lines), len(findings)), dtype=np.int8)
    for j, finding in enumerate(findings):
        values = table.numbers(finding, " if it is a finding; pass findings= to choose the columns of findings")
        unread = np.isnan(values)
        strange = ~unread & ~np.isin(values, (1, 0, -1))
        if strange.any():
            i = int(np.argmax(strange))
            said = f"holds {values[i]:g} for {finding!r}, which should be 1, 0, -1 or blank"
            fault(table.path, said, table.lines[i])
        labels[:, j] = np.select([unread, values == -1, values == 1], [blank[j], uncertain[j], 1], -1)
    return labels


def _patients(table: Table) -> list[str]:
    """The patient in each path."""
    found = [_PATIENT.search(path) for path in table.columns["Path"]]
    for line, path, match in zip(table.lines, table.columns["Path"], found):
        if match is None:
            fault(table.path, f"has the path {path!r}, which has no folder of a patient, such as patient00001", line)
    return [match[1] for match in found if match is not None]


def _image_folder(folder: Path, name: str) -> tuple[Path, int]:
    """The folder that the table's paths are relative to, and the number of leading parts to leave out.

    Paths begin with the name of the published folder, CheXpert-v1.0-small, which holds the table but may be renamed.
    """
    parts = name.replace("\\", "/").split("/")
    for root, skipped in ((folder, 0), (folder.parent, 0), (folder, 1)):
        if root.joinpath(*parts[skipped:]).exists():
            return root, skipped
    return (folder.parent, 0) if parts[0] == folder.resolve().name else (folder, 0)


def _paths(table: Table) -> list[str]:
    """Paths of the images."""
    names = [name.replace("\\", "/") for name in table.columns["Path"]]
    check_distinct(table.path, names, "lists the image {} more than once")
    root, skipped = _image_folder(table.path.parent, names[0])
    if skipped:
        names = [name.partition("/")[2] for name in names]
    return [os.path.join(root, name) for name in names]


def _tables(path: Path, subset: str) -> dict[str, Table]:
    """The tables of a subset."""
    cure = "path must be a table such as train.csv, or the CheXpert folder that holds train.csv and valid.csv"
    if path.is_dir():
        wanted = _FILES if subset == "all" else {subset: _FILES[subset]}
        files = {split: path / f"{name}.csv" for split, name in wanted.items()}
        there = {split: file for split, file in files.items() if file.exists()}
        if not there:
            find(list(files.values()), cure)
        return {split: read_table(file, ["Path"]) for split, file in there.items()}
    stems = {name: split for split, name in _FILES.items()}
    split = stems.get(path.stem, "")
    if subset not in ("all", split):
        raise ValueError(f"{path} is a single table: use subset='all', or pass the CheXpert folder as path.")
    return {split: read_table(path, ["Path"], cure=cure)}


def load_chexpert(
    path: Any,
    *,
    subset: str = "all",
    findings: Sequence[str] | None = None,
    blank: Any = "unknown",
    uncertain: Any = "unknown",
    sparse: bool = False,
) -> Bunch:
    r"""Read a table like CheXpert's: one row per image, one column per finding.

    Parameters
    ----------
    path : str or path-like
        A table such as ``train.csv``, or the folder ``CheXpert-v1.0-small`` that holds ``train.csv`` and ``valid.csv``.
        The columns are ``Path``, Sex, Age, Frontal/Lateral, AP/PA and then any number of findings: 1 is present, 0
        absent, -1 uncertain, and blank not mentioned.
    subset : {"all", "train", "val", "test"}, default="all"
        The official split, in the files ``train.csv``, ``valid.csv`` and ``test.csv``; "all" is all files that exist.
    findings : list of str or None, default=None
        Columns that hold findings, in this order. None takes all columns after AP/PA, or without it all columns but
        Path, Sex, Age and Frontal/Lateral; name the findings if the table has other columns, such as identifiers.
    blank, uncertain : {"unknown", "present", "absent"} or dict, default="unknown"
        Meaning of blank and of uncertain entries. A dict gives it per finding, with unknown for all others:
        ``uncertain={"Edema": "present", "Cardiomegaly": "absent"}``. The paper's U-Ignore is "unknown", U-Ones
        "present" and U-Zeros "absent".
    sparse : bool, default=False
        Whether `target` is a csr_array.

    Returns
    -------
    Bunch
        With the attributes

        paths : ndarray of str, shape (n,)
            Paths of the images, in the order of the table.
        target : ndarray or csr_array of int8, shape (n, L)
            1 present, -1 absent, 0 unknown.
        label_names : list of str
            The findings, including "No Finding".
        groups : ndarray of str, shape (n,)
            The patient of each path, such as "patient00001", for
            :class:`~skpartial.model_selection.PartialLabelGroupKFold`.
        views : ndarray of str, shape (n,)
            "Frontal" or "Lateral", if the table has this column.
        split : ndarray of str, shape (n,)
            "train", "val" or "test", if the name of the file tells.
        DESCR : str
            A description.

    Raises
    ------
    ValueError
        If an argument is invalid, or a table is malformed. The message names it.
    OSError
        If a file does not exist or cannot be read.

    Notes
    -----
    "No Finding" is treated like any other finding. It is never 0 in the published table, so it has no negatives unless
    ``blank={"No Finding": "absent"}`` declares blank entries to be absent, because such a report has findings.

    References
    ----------
    Irvin et al.: "CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert Comparison", AAAI 2019.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skpartial.datasets import load_chexpert
    >>> here = tempfile.TemporaryDirectory()
    >>> table = Path(here.name) / "train.csv"
    >>> _ = table.write_text(
    ...     "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Edema,Fracture\n"
    ...     "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,,-1.0,1.0\n"
    ...     "CheXpert-v1.0-small/train/patient00002/study1/view1_frontal.jpg,Male,55,Frontal,AP,1.0,0.0,\n"
    ... )
    >>> load_chexpert(table).target
    array([[ 0,  0,  1],
           [ 1, -1,  0]], dtype=int8)
    >>> chexpert = load_chexpert(table, uncertain={"Edema": "present"}, blank={"No Finding": "absent"})
    >>> chexpert.target, chexpert.groups.tolist()
    (array([[-1,  1,  1],
           [ 1, -1,  0]], dtype=int8), ['patient00001', 'patient00002'])
    >>> here.cleanup()
    """
    check_subset(subset, tuple(_FILES))
    check_flag(None, "sparse", sparse)
    tables = _tables(as_path(path), subset)
    wanted = None if findings is None else check_names(findings, "findings")
    if wanted == []:
        raise ValueError("findings is empty: name at least one column, or pass None to take all columns of findings.")
    names: list[str] = []
    for table in tables.values():
        named = _findings(table, wanted)
        names = names or named
        if set(named) != set(names):
            fault(table.path, f"has different findings from {next(iter(tables.values())).path.name}")
    signs = [_policy(name, given, names) for name, given in (("blank", blank), ("uncertain", uncertain))]
    parts = list(tables.values())
    target = np.concatenate([_labels(table, names, *signs) for table in parts])
    has_views = all("Frontal/Lateral" in table.columns for table in parts)
    return make_bunch(
        "CheXpert",
        _ABOUT,
        paths=np.array([name for table in parts for name in _paths(table)]),
        target=as_wanted(target, sparse=sparse),
        label_names=names,
        groups=np.array([patient for table in parts for patient in _patients(table)]),
        views=np.array([view for table in parts for view in table.columns["Frontal/Lateral"]]) if has_views else None,
        split=None if "" in tables else np.repeat(list(tables), [len(table.lines) for table in parts]),
    )
