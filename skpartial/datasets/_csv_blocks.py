"""Large tables of short fields, read in blocks: all fields are located at once, without creating strings."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skpartial._files import what_is_no_file
from skpartial.datasets._files import check_columns, fault, shown

__all__ = ["Block", "read_blocks"]

# Bytes of a block, so that its results stay in the processor's cache.
_BLOCK_BYTES = 1 << 20
# Bytes of the longest line, and of the longest field that can be compared.
_LONGEST_LINE = 1 << 20
_LONGEST_FIELD = 64
# Appended to the text, so that fields can be read from every position without overrun.
_PADDING = bytes(_LONGEST_FIELD + 8)
# Masks of the first n of eight bytes.
_MASKS = np.array([(1 << (8 * n)) - 1 for n in range(9)], dtype="<u8")
_COMMA, _NEWLINE, _RETURN, _QUOTE, _ZERO, _POINT = b',\n\r"0.'


class Block(NamedTuple):
    """Consecutive rows of a table: the text, and the positions of the fields of needed columns, (columns, n)."""

    path: Path
    names: Sequence[str]
    text: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    lines: NDArray[np.int64]

    def words(self, column: int, n_words: int | None = None) -> NDArray[np.uint64]:
        """The first 8 bytes of each field, the next 8, and so on: shape (n_words, n), zeros after the field's end.

        Parameters
        ----------
        column : int
            Position among the needed columns.
        n_words : int or None, default=None
            None is the number in the longest field.
        """
        starts, lengths = self.starts[column], self.lengths[column]
        shortest, longest = int(lengths.min()), int(lengths.max())
        if longest > _LONGEST_FIELD:
            line = int(self.lines[int(np.argmax(lengths))])
            fault(self.path, f"has {longest} bytes in column {self.names[column]!r}, not a short name", line)
        n_words = n_words or max(1, -(-longest // 8))
        # Eight bytes starting at every position of the text, as one number.
        eights = np.ndarray((len(self.text) - 7,), dtype="<u8", buffer=self.text, strides=(1,))
        found = np.empty((n_words, len(starts)), dtype="<u8")
        for k in range(n_words):
            found[k] = eights[starts + 8 * k if longest > 8 * k else starts]
            if shortest < 8 * (k + 1):
                found[k] &= _MASKS[np.minimum(np.maximum(lengths - 8 * k, 0), 8)]
        return found

    def field(self, row: int, column: int) -> str:
        """One field as text, for messages."""
        start = self.starts[column, row]
        return self.text[start : start + self.lengths[column, row]].tobytes().decode("utf-8", "replace")

    def numbers(self, column: int) -> NDArray[np.float64]:
        """A column of numbers from 0 to 1."""
        starts, lengths = self.starts[column], self.lengths[column]
        numbers = self.text[starts] - np.float64(_ZERO)
        if not (lengths == 1).all():
            self._longer_numbers(numbers, column)
        wrong = ~((numbers >= 0) & (numbers <= 1))
        if wrong.any():
            row = int(np.argmax(wrong))
            found = f"{self.field(row, column)!r} in column {self.names[column]!r}"
            fault(self.path, f"holds {found}, which should be a number from 0 to 1", int(self.lines[row]))
        return numbers

    def _longer_numbers(self, numbers: NDArray[np.float64], column: int) -> None:
        """Fill in the numbers with more than one digit."""
        starts, lengths = self.starts[column], self.lengths[column]
        point, tenth = self.text[starts + 1], self.text[starts + 2] - np.uint8(_ZERO)
        has_tenth = (lengths == 3) & (point == _POINT) & (tenth < 10)  # nearly all fields: 0.7
        numbers[has_tenth] += tenth[has_tenth] / 10
        for row in np.flatnonzero(~has_tenth & (lengths != 1)).tolist():
            try:
                numbers[row] = float(self.field(row, column))
            except ValueError:
                numbers[row] = np.nan


def read_blocks(path: Path, needed: Sequence[str]) -> Iterator[Block]:
    """Read some columns of a CSV file with a header.

    Fields may be quoted, line ends are LF or CRLF, and blank lines are skipped; such blocks are read more slowly.

    Parameters
    ----------
    path : Path
        The file; only one block at a time is in memory.
    needed : sequence of str
        Columns, in the order of the blocks.

    Yields
    ------
    Block
        A block of at least one row.

    Raises
    ------
    ValueError
        If the file is not such a table; the message names the line.
    OSError
        If it cannot be opened.
    """
    other = what_is_no_file(path)
    if other is not None:
        fault(path, f"is {other}, not a file")
    with open(path, "rb") as file:
        header = _header(path, file, needed)
        columns = [header.index(name) for name in needed]
        line, rest, any_row = 2, b"", False
        while chunk := file.read(_BLOCK_BYTES):
            end = chunk.rfind(b"\n") + 1
            if not end:
                if len(rest) + len(chunk) > _LONGEST_LINE:
                    fault(path, f"has a line of more than {_LONGEST_LINE:,} bytes: it is not such a table", line)
                rest += chunk
                continue
            text, rest = b"".join((rest, memoryview(chunk)[:end], _PADDING)), chunk[end:]
            block, n_lines = _block(path, text, header, columns, line)
            line += n_lines
            if block is not None:
                any_row = True
                yield block
        if rest:
            block, _ = _block(path, rest + b"\n" + _PADDING, header, columns, line)
            if block is not None:
                any_row = True
                yield block
    if not any_row:
        fault(path, "has a header, but no rows")


def _header(path: Path, file: BinaryIO, needed: Sequence[str]) -> list[str]:
    try:
        first = file.readline(_LONGEST_LINE).decode("utf-8-sig")
    except UnicodeDecodeError:
        fault(path, "is not UTF-8 text: save it as UTF-8", 1)
    if not first.strip():
        fault(path, "begins with a blank line instead of a header" if first else "is empty")
    if "\0" in first:
        fault(path, "holds NUL characters: it is not text, or text in UTF-16: save it as UTF-8")
    header = [name.strip() for name in next(csv.reader([first]))]
    check_columns(path, header, needed)
    # Columns that are not needed may occur twice.
    for name in needed:
        if header.count(name) > 1:
            fault(path, f"has more than one column {name!r}; its columns are {shown(header, 8)}")
    return header


def _block(path: Path, text: bytes, header: list[str], columns: list[int], line: int) -> tuple[Block | None, int]:
    """The rows in some whole lines, followed by padding, and the number of lines; None if there are no rows."""
    names = [header[j] for j in columns]
    padded = np.frombuffer(text, dtype=np.uint8)
    ends = _ends(path, padded[: -len(_PADDING)], len(header), line)
    if ends is not None:
        n_lines = ends.shape[1]
        lines = np.arange(line, line + n_lines)
    else:
        n_lines = text.count(b"\n")
        text, lines = _plain(path, text[: -len(_PADDING)], header, columns, line)
        if not text:
            return None, n_lines
        padded, columns = np.frombuffer(text + _PADDING, dtype=np.uint8), list(range(len(columns)))
        ends = _ends(path, padded[: -len(_PADDING)], len(columns), line)
        assert ends is not None
    starts, lengths = (np.empty((len(columns), ends.shape[1]), dtype=np.int64) for _ in range(2))
    for k, j in enumerate(columns):
        starts[k, 0] = 0 if j == 0 else ends[j - 1, 0] + 1
        starts[k, 1:] = (ends[-1, :-1] if j == 0 else ends[j - 1, 1:]) + 1
        np.subtract(ends[j], starts[k], out=lengths[k])
        if j == len(ends) - 1:
            lengths[k] -= padded[ends[j] - 1] == _RETURN
    return Block(path, names, padded, starts, lengths, lines), n_lines


def _ends(path: Path, text: NDArray[np.uint8], n_columns: int, line: int) -> NDArray[np.int64] | None:
    """Ends of the fields of each row, (n_columns, n); None if the text needs a full parser."""
    ends = np.flatnonzero(text <= _COMMA)
    marks = text[ends]
    pattern = b"," * (n_columns - 1) + b"\n"
    if marks.tobytes() != pattern * (len(marks) // n_columns):
        if (marks == 0).any():
            at = line + int(np.count_nonzero(marks[: int(np.argmax(marks == 0))] == _NEWLINE))
            fault(path, "holds NUL characters: it is damaged, or text in UTF-16: save it as UTF-8", at)
        if (marks == _QUOTE).any():
            return None
        ends = ends[(marks == _COMMA) | (marks == _NEWLINE)]
        if text[ends].tobytes() != pattern * (len(ends) // n_columns):
            return None
    return ends.reshape(-1, n_columns).T


def _plain(
    path: Path, text: bytes, header: list[str], columns: list[int], line: int
) -> tuple[bytes, NDArray[np.int64]]:
    """The needed columns only, without quotes or blank lines, and the line on which each row ends."""
    rows, lines = [], []
    try:
        reader = csv.reader(io.StringIO(text.decode("utf-8"), newline=""), strict=True)
        for row in reader:
            if not row:
                continue
            at = line - 1 + reader.line_num
            if len(row) != len(header):
                fault(path, f"has {len(row)} fields, but the header names {len(header)} columns", at)
            fields = [row[j] for j in columns]
            for name, field in zip((header[j] for j in columns), fields):
                if any(mark in field for mark in ',\n\r"'):
                    fault(path, f"holds {field!r} in column {name!r}, which should be a short name", at)
            rows.append(",".join(fields))
            lines.append(at)
    except csv.Error as error:
        fault(path, f"is not well-formed: {error}", line - 1 + reader.line_num)
    except UnicodeDecodeError as error:
        fault(path, "is not UTF-8 text: save it as UTF-8", line + text.count(b"\n", 0, error.start))
    return "".join(row + "\n" for row in rows).encode(), np.array(lines, dtype=np.int64)
