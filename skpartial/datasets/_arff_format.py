"""The ARFF format of Weka: attributes, then dense rows of all values, or sparse rows of nonzero values."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skpartial.datasets._files import check_distinct, fault, read_text, shown

__all__ = ["Arff", "Attribute", "read_arff"]

_QUOTED = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""
_ATTRIBUTE = re.compile(rf"({_QUOTED}|[^\s{{'\"][^\s{{]*)\s*(\{{.*\}}|\w+.*)", re.DOTALL)
# A value of a row or of a list of nominal values, delimited by commas or the ends.
_VALUE = re.compile(rf"\s*((?:{_QUOTED}|[^,'\"])*)\s*(,|$)")
_NUMERIC = ("numeric", "real", "integer")


class Attribute(NamedTuple):
    """A column: its name and its nominal values, none for a number."""

    name: str
    values: tuple[str, ...]

    @property
    def codes(self) -> dict[str, float]:
        """The number for each nominal value: itself if all are numbers, else its position."""
        try:
            return {value: float(value) for value in self.values}
        except ValueError:
            return {value: float(i) for i, value in enumerate(self.values)}

    @property
    def is_number(self) -> bool:
        """Whether the numbers are the values themselves."""
        return all(_is_number(value) for value in self.values)


class Arff(NamedTuple):
    """Contents of a file: `values` are numbers, NaN for unknown, as a csr_array if the rows are sparse."""

    relation: str
    attributes: list[Attribute]
    values: Any


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _unquoted(text: str) -> str:
    """A name or value without its quotes."""
    text = text.strip()
    if len(text) > 1 and text[0] in "'\"" and text[-1] == text[0]:
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def _parts(text: str) -> list[str] | None:
    """The parts between commas outside quotes; None if a quote is not closed."""
    if "'" not in text and '"' not in text:
        return text.split(",")
    parts, at = [], 0
    while True:
        match = _VALUE.match(text, at)
        if match is None:
            return None
        parts.append(match[1].strip())
        at = match.end()
        if not match[2]:
            return parts


def _attribute(path: Path, text: str, line: int) -> Attribute:
    """The declaration of a column."""
    match = _ATTRIBUTE.fullmatch(text.strip())
    if match is None:
        fault(path, f"has the declaration {text.strip()!r}, which should be a name and a type", line)
    name, kind = _unquoted(match[1]), match[2].strip()
    if kind.startswith("{"):
        parts = _parts(kind[1:-1])
        if parts is None:
            fault(path, f"has a quote that is not closed in the values of {name!r}", line)
        values = tuple(_unquoted(part) for part in parts)
        if len(set(values)) < len(values):
            fault(path, f"declares a value of {name!r} more than once", line)
        return Attribute(name, values)
    if kind.split()[0].lower() not in _NUMERIC:
        fault(path, f"has the attribute {name!r} of type {kind!r}: only numbers and nominal values can be read", line)
    return Attribute(name, ())


def _header(path: Path, lines: list[str]) -> tuple[str, list[Attribute], int]:
    """The relation, the columns, and the position of the first line of data."""
    relation, attributes = "", []
    for i, line in enumerate(lines):
        text = line.strip()
        if not text or text.startswith("%"):
            continue
        keyword, _, rest = text.replace("\t", " ").partition(" ")
        match keyword.lower():
            case "@relation":
                relation = _unquoted(rest)
            case "@attribute":
                attributes.append(_attribute(path, rest, i + 1))
            case "@data":
                if not attributes:
                    fault(path, "declares no attributes")
                names = [attribute.name for attribute in attributes]
                check_distinct(path, names, "has the attribute {} more than once")
                return relation, attributes, i + 1
            case _:
                fault(path, f"begins with {text[:30]!r}, where @relation, @attribute or @data should be", i + 1)
    return fault(path, "has no @data")


class _Reader:
    """Reads the values of one file."""

    def __init__(self, path: Path, attributes: list[Attribute]) -> None:
        self.path, self.attributes = path, attributes
        self.codes = [attribute.codes for attribute in attributes]
        self.all_numbers = all(attribute.is_number for attribute in attributes)

    def number(self, j: int, text: str, line: int) -> float:
        """The number for a value of a column."""
        text = text.strip()
        if text == "?":
            return np.nan
        value = _unquoted(text)
        if self.attributes[j].values:
            if value in self.codes[j]:
                return self.codes[j][value]
            if not self.attributes[j].is_number or not _is_number(value) or float(value) not in self.codes[j].values():
                self.undeclared(j, value, line)
        elif not _is_number(value):
            fault(self.path, f"holds {value!r} for {self.attributes[j].name!r}, which should be a number", line)
        return float(value)

    def undeclared(self, j: int, value: object, line: int) -> None:
        """Refuse a nominal value that is not declared."""
        attribute = self.attributes[j]
        said = f"holds {value!r} for {attribute.name!r}, which may be {shown(attribute.values, 5)}"
        fault(self.path, said, line)

    def dense(self, rows: list[tuple[int, str]]) -> NDArray[np.float64]:
        """Rows of all values."""
        numbers = np.empty((len(rows), len(self.attributes)))
        for i, (line, text) in enumerate(rows):
            fields = _parts(text)
            if fields is None:
                fault(self.path, "has a quote that is not closed", line)
            if len(fields) != len(self.attributes):
                fault(self.path, f"has {len(fields)} values for {len(self.attributes)} attributes", line)
            try:
                if self.all_numbers:
                    numbers[i] = list(map(float, fields))
                    if np.isfinite(numbers[i]).all():
                        continue
            except ValueError:
                pass
            numbers[i] = [self.number(j, field, line) for j, field in enumerate(fields)]
        for j, codes in enumerate(self.codes):
            if not codes:
                continue
            wrong = ~np.isnan(numbers[:, j]) & ~np.isin(numbers[:, j], list(codes.values()))
            if wrong.any():
                i = int(np.argmax(wrong))
                self.undeclared(j, f"{numbers[i, j]:g}", rows[i][0])
        return numbers

    def sparse(self, rows: list[tuple[int, str]]) -> Any:
        """Rows of pairs of position and value; missing values are zero, or the first nominal value."""
        indices: list[int] = []
        numbers: list[float] = []
        starts = [0]
        for line, text in rows:
            if not text.startswith("{") or not text.endswith("}"):
                fault(self.path, "is not a sparse row in braces, unlike the first row", line)
            inside = text[1:-1].strip()
            pairs = _parts(inside) if inside else []
            if pairs is None:
                fault(self.path, "has a quote that is not closed", line)
            for pair in pairs:
                position, _, value = pair.strip().replace("\t", " ").partition(" ")
                if not position.isdecimal() or not value.strip():
                    fault(self.path, f"holds {pair.strip()!r}, which should be a position and a value", line)
                j = int(position)
                if j >= len(self.attributes):
                    fault(self.path, f"holds the position {j}, but there are {len(self.attributes)} attributes", line)
                indices.append(j)
                numbers.append(self.number(j, value, line))
            row = indices[starts[-1] :]
            if len(set(row)) < len(row):
                fault(self.path, "holds a position more than once", line)
            starts.append(len(indices))
        shape = (len(rows), len(self.attributes))
        return self._filled(sp.csr_array((np.array(numbers), np.array(indices, dtype=np.int64), starts), shape=shape))

    def _filled(self, matrix: Any) -> Any:
        """The matrix with missing nominal values stored, if they are not zero."""
        first = [next(iter(codes.values()), 0.0) for codes in self.codes]
        columns = np.flatnonzero(first)
        if not len(columns):
            return matrix
        stored = sp.csc_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape[::-1])
        left_out = stored[columns].toarray().T == 0
        rows, at = np.nonzero(left_out)
        filled = sp.csr_array((np.array(first)[columns[at]], (rows, columns[at])), shape=matrix.shape)
        return matrix + filled


def read_arff(path: Path) -> Arff:
    """Read a file of numbers and nominal values."""
    lines = read_text(path).split("\n")
    relation, attributes, start = _header(path, lines)
    texts = ((i + 1, line.strip()) for i, line in enumerate(lines[start:], start))
    rows = [(line, text) for line, text in texts if text and not text.startswith("%")]
    if not rows:
        fault(path, "has no rows after @data")
    reader = _Reader(path, attributes)
    values = reader.sparse(rows) if rows[0][1].startswith("{") else reader.dense(rows)
    return Arff(relation, attributes, values)
