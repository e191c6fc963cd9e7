"""Files of data sets: read as a whole, with errors of one sentence that name the file.

Missing files raise FileNotFoundError (an OSError), malformed ones ValueError; both messages begin with the path.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from xml.etree import ElementTree

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skpartial._checks import check_choice
from skpartial._files import what_is_no_file
from skpartial.labels._frames import assemble
from skpartial.labels._memory import check_fits

__all__ = [
    "Table",
    "as_folder",
    "as_path",
    "as_wanted",
    "check_columns",
    "check_distinct",
    "check_subset",
    "check_year",
    "complete_matrix",
    "fault",
    "find",
    "image_paths",
    "label_matrix",
    "missing_files",
    "positions",
    "read_bytes",
    "read_json",
    "read_lines",
    "read_table",
    "read_text",
    "read_xml",
    "shown",
]


# Number of rows of a table that are read at a time.
_BLOCK = 4096


class Table(NamedTuple):
    """A table of text: a list of strings per column, and the line of the file on which each row ends."""

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]

    def numbers(self, name: str, cure: str = "") -> NDArray[np.float64]:
        """A column as numbers; blanks and NA are NaN. The error about other values ends with `cure`."""
        values = self.columns[name]
        # Convert each distinct value once: findings and labels have few.
        found = {value: _number(value) for value in set(values)}
        if None in found.values():
            i = next(i for i, value in enumerate(values) if found[value] is None)
            fault(self.path, f"holds {values[i]!r} in column {name!r}, which should be a number{cure}", self.lines[i])
        return np.array([found[value] for value in values], dtype=np.float64)


def _number(text: str) -> float | None:
    """A number, NaN for blanks and R's NA, None for anything else."""
    text = text.strip()
    try:
        return np.nan if text in ("", "NA") else float(text)
    except ValueError:
        return None


def fault(path: Path, what: str, line: int | None = None) -> NoReturn:
    """Raise an error about a file."""
    where = "" if line is None else f", line {line},"
    raise ValueError(f"{path}{where} {what}.") from None


def shown(values: Iterable[Any], most: int = 3) -> str:
    """The first few of many values, for a message."""
    listed = list(values)
    return ", ".join(map(repr, listed[:most])) + (", ..." if len(listed) > most else "")


def as_path(path: Any, name: str = "path") -> Path:
    """The user's argument as a path."""
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise ValueError(f"{name} must be a path, got {path!r}.")
    return Path(os.fspath(path))


def as_folder(path: Any, what: str) -> Path:
    """The user's path as an existing folder; `what` names its expected contents."""
    folder = as_path(path)
    if not folder.is_dir():
        wrong = "is a file" if folder.exists() else "does not exist"
        error = NotADirectoryError if folder.exists() else FileNotFoundError
        raise error(f"{folder} {wrong}; path must be the folder that holds {what}.")
    return folder


def find(candidates: Sequence[Path], cure: str) -> Path:
    """The first of several paths that exists; `cure` is the advice if none does."""
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise FileNotFoundError(f"{candidates[0]} does not exist; {cure}.")


def read_bytes(path: Path, cure: str | None = None) -> bytes:
    """The contents of a non-empty file; `cure` is the advice if it does not exist."""
    try:
        kind = what_is_no_file(path)
        if kind is not None:
            fault(path, f"is {kind}, not a file")
        contents = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist{'' if cure is None else f'; {cure}'}.") from None
    except OSError as error:
        raise type(error)(f"{path} cannot be read: {error.strerror or error}.") from None
    if not contents.strip():
        fault(path, "is empty")
    return contents


def read_text(path: Path, cure: str | None = None) -> str:
    """The text of a file in UTF-8, with or without a byte order mark, with any line ends."""
    contents = read_bytes(path, cure)
    try:
        text = contents.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = contents.count(b"\n", 0, error.start) + 1
        fault(path, f"is not UTF-8 text (byte 0x{contents[error.start]:02x}): save it as UTF-8", line)
    if "\0" in text:
        fault(path, "holds NUL characters: it is not text, or text in UTF-16: save it as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path, cure: str | None = None) -> list[str]:
    """The lines of a file that are not blank, stripped of white space."""
    return [line.strip() for line in read_text(path, cure).split("\n") if line.strip()]


def read_table(path: Path, needed: Iterable[str] = (), *, delimiter: str = ",", cure: str | None = None) -> Table:
    """A table with a header, such as CSV, and with the needed columns; blank lines are skipped."""
    reader = csv.reader(io.StringIO(read_text(path, cure)), delimiter=delimiter, strict=True)
    header: list[str] = []
    columns: list[list[str]] = []
    rows: list[list[str]] = []
    ends: list[int] = []
    try:
        for row in filter(None, reader):
            if not header:
                header = _header(path, row, needed)
                columns = [[] for _ in header]
                continue
            if len(row) != len(header):
                said = f"has {len(row)} fields, but the header names {len(header)} columns"
                fault(path, said, reader.line_num)
            rows.append(row)
            ends.append(reader.line_num)
            # Columns grow by blocks: garbage collection would scan millions of rows again and again.
            if len(rows) == _BLOCK:
                _extend(columns, rows)
    except csv.Error as error:
        fault(path, f"is not well-formed: {error}", reader.line_num)
    if not ends:
        fault(path, "has a header, but no rows")
    _extend(columns, rows)
    return Table(path, dict(zip(header, columns)), ends)


def _header(path: Path, row: list[str], needed: Iterable[str]) -> list[str]:
    """Names of columns, checked for duplicates and for the needed ones."""
    header = [name.strip() for name in row]
    check_distinct(path, header, "has the column {} more than once")
    check_columns(path, header, needed)
    return header


def check_columns(path: Path, header: Sequence[str], needed: Iterable[str]) -> None:
    """Refuse a table that lacks a column."""
    for name in needed:
        if name not in header:
            fault(path, f"has no column {name!r}; its columns are {shown(header, 8)}")


def _extend(columns: list[list[str]], rows: list[list[str]]) -> None:
    """Append rows to columns."""
    for column, values in zip(columns, zip(*rows)):
        column.extend(values)
    rows.clear()


def read_json(path: Path, *, without: Sequence[str] = (), cure: str | None = None) -> Any:
    """The contents of a JSON file, without some keys of its objects, which are dropped while reading."""

    def drop(item: dict[str, Any]) -> dict[str, Any]:
        for key in without:
            item.pop(key, None)
        return item

    text = read_text(path, cure)
    try:
        return json.loads(text, object_hook=drop if without else None)
    except json.JSONDecodeError as error:
        fault(path, f"is not well-formed JSON: {error.msg} at column {error.colno}", error.lineno)
    except RecursionError:
        fault(path, "is nested too deeply to be read")


class _WithoutDoctype(ElementTree.TreeBuilder):
    """Refuses a document type declaration, the only place where entities can be declared.

    The standard parser does not fetch external entities, but expands internal ones, which with an old expat can take
    gigabytes. No layout that is read here has such a declaration, so nothing is lost.
    """

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Called at the start of the declaration, before its contents are read."""
        raise _DoctypeError


class _DoctypeError(ValueError):
    pass


def read_xml(path: Path, cure: str | None = None) -> ElementTree.Element:
    """The root of an XML document; a document type declaration, which may declare entities, is refused."""
    parser = ElementTree.XMLParser(target=_WithoutDoctype())
    try:
        parser.feed(read_bytes(path, cure))
        root: ElementTree.Element = parser.close()
    except _DoctypeError:
        fault(path, "declares a document type, which is refused: its entities may expand without limit")
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        fault(path, f"is not well-formed XML: {error}")
    return root


def check_year(year: Any, years: Sequence[int], there: Sequence[int], folder: Path) -> int:
    """The year of a release as a number; may be a string; None is the year of the folder, or the first."""
    if year is None:
        if len(there) > 1:
            raise ValueError(f"{folder} holds the data of {' and '.join(map(str, there))}: choose one by year.")
        return there[0] if there else years[0]
    number = int(year) if isinstance(year, str) and year.isdecimal() else year
    check_choice(None, "year", number, years)
    return int(number)


def check_subset(subset: Any, choices: Sequence[str]) -> None:
    """Refuse a subset that a data set does not have."""
    check_choice(None, "subset", subset, ("all", *choices))


def check_distinct(path: Path, values: Iterable[Any], what: str) -> None:
    """Refuse duplicates; `what` is the message, with {} in the place of the value."""
    value, count = next(iter(Counter(values).most_common(1)), (None, 0))
    if count > 1:
        fault(path, what.format(repr(value)))


def positions(
    path: Path, values: Iterable[Any], among: dict[Any, int], what: Callable[[Any], str]
) -> NDArray[np.int64]:
    """Positions of values among the known ones; `what` is the message about the first unknown value."""
    found = []
    for value in values:
        try:
            found.append(among[value])
        except (KeyError, TypeError):
            fault(path, what(value))
    return np.array(found, dtype=np.int64)


def image_paths(folder: Path, names: Iterable[str]) -> NDArray[np.str_]:
    """Paths of images in a folder, as an array that can be indexed by a mask; backslashes become slashes."""
    return np.array([os.path.join(folder, name.replace("\\", "/")) for name in names], dtype=np.str_)


def missing_files(paths: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Mask of the paths without a file; each folder is listed once, which is faster than checking every file."""
    listings: dict[str, set[str]] = {}
    missing = np.empty(len(paths), dtype=bool)
    for i, path in enumerate(paths.tolist()):
        folder, name = os.path.split(path)
        if folder not in listings:
            listings[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        missing[i] = name not in listings[folder]
    return missing


def label_matrix(pairs: Any, values: Any, shape: tuple[int, int], *, sparse: bool) -> Any:
    """The label matrix with given values at distinct pairs of row and label: an int8 array, or a csr_array."""
    if not sparse:
        check_fits(shape, "A label matrix", "use sparse=True")
    rows, labels = np.asarray(pairs, dtype=np.int64).T
    return assemble(rows, labels, np.asarray(values, dtype=np.int8), shape, "sparse" if sparse else "dense")


def complete_matrix(pairs: Any, shape: tuple[int, int], *, sparse: bool) -> Any:
    """The label matrix that is positive at pairs of row and label, and negative everywhere else."""
    check_fits(shape, "A complete label matrix", "read a subset")
    dense = np.full(shape, -1, dtype=np.int8)
    rows, labels = np.asarray(pairs, dtype=np.int64).T
    dense[rows, labels] = 1
    return as_wanted(dense, sparse=sparse)


def as_wanted(dense: NDArray[np.int8], *, sparse: bool) -> Any:
    """A label matrix unchanged, or as a csr_array of its known entries."""
    return sp.csr_array(dense) if sparse else dense
