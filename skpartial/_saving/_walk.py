"""Conversion of a tree of values to a document and back; the kinds of values are defined elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from skpartial._saving._file import TensorFile, Tensors
from skpartial._saving._known import Refused

__all__ = ["Kind", "Reader", "Writer"]


@dataclass
class Kind:
    """Writing to a document and reading of one kind of values.

    Parameters
    ----------
    name : str
        Name in the document.
    holds : callable
        Whether a value is of the kind.
    write : callable
        Maps a `Writer` and a value to a dictionary for the document.
    read : callable
        Maps a `Reader` and that dictionary to the value.
    shared : bool, default=False
        Whether the identity of an object that occurs in two places matters.
    """

    name: str
    holds: Callable[[Any], bool]
    write: Callable[[Writer, Any], dict[str, Any]]
    read: Callable[[Reader, Any], Any]
    shared: bool = False


class Writer:
    """Writes values to a document, and tensors separately.

    Parameters
    ----------
    kinds : sequence of Kind
        The first kind that holds a value writes it.
    """

    def __init__(self, kinds: Sequence[Kind]) -> None:
        self._kinds = kinds
        self.tensors = Tensors()
        self._place: list[str] = []
        # By identity; written objects are kept alive, so that no other object gets the same identity.
        self._numbers: dict[int, int] = {}
        self._kept: list[Any] = []
        self._begun: set[int] = set()
        #: Names of the classes that were written.
        self.classes: set[str] = set()

    @property
    def place(self) -> str:
        """Place of the current value in the tree."""
        return ".".join(filter(None, self._place))

    @contextmanager
    def _at(self, name: str) -> Iterator[None]:
        self._place.append(name)
        try:
            yield
        except Refused as error:
            if not getattr(error, "placed", False):
                error = Refused(f"{self.place or 'it'}: {error}" if self.place else str(error))
                error.placed = True  # type: ignore[attr-defined]
            raise error from None
        finally:
            self._place.pop()

    def tensor(self, tensor: Tensor) -> dict[str, Any]:
        """Add a dense tensor to the file."""
        return dict(self.tensors.add(tensor, self.place))

    def write(self, value: Any, name: str) -> Any:
        """The entry of a value in the document; `name` is its name in the enclosing value."""
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float and value - value == 0:  # finite
            return value
        with self._at(name):
            if type(value) is list:
                return [self.write(item, str(i)) for i, item in enumerate(value)]
            kind = next((kind for kind in self._kinds if kind.holds(value)), None)
            if kind is None:
                kept = type(value)
                raise Refused(f"{kept.__module__}.{kept.__qualname__} is not supported")
            if not kind.shared:
                return {"kind": kind.name, **kind.write(self, value)}
            number = self._numbers.get(id(value))
            if number is not None:
                if number in self._begun:
                    raise Refused("it contains itself")
                return {"kind": "same", "as": number}
            number = self._numbers[id(value)] = len(self._kept)
            self._kept.append(value)
            self._begun.add(number)
            written = {"kind": kind.name, **kind.write(self, value)}
            self._begun.remove(number)
            return written


class Reader:
    """Reads the output of a `Writer`.

    Parameters
    ----------
    kinds : sequence of Kind
        Kinds, as for writing.
    file : TensorFile
        File with the tensors.
    modules : dict of str to callable
        Callables that make modules, by class name.
    """

    def __init__(self, kinds: Sequence[Kind], file: TensorFile, modules: dict[str, Any]) -> None:
        self._kinds = {kind.name: kind for kind in kinds}
        self._file = file
        self.modules = modules
        self._objects: list[Any] = []

    def tensor(self, entry: Any) -> Tensor:
        """A dense tensor in the file."""
        return self._file.tensor(entry)

    def shape(self, entry: Any) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return self._file.shape(entry)

    def read(self, entry: Any) -> Any:
        """The value for an entry of the document."""
        if entry is None or isinstance(entry, bool | int | float | str):
            return entry
        if isinstance(entry, list):
            return [self.read(item) for item in entry]
        name = entry.get("kind")
        if name == "same":
            number = entry["as"]
            if type(number) is not int or not 0 <= number < len(self._objects):
                raise Refused("it is damaged: an object is missing")
            return self._objects[number]()
        kind = self._kinds.get(name) if isinstance(name, str) else None
        if kind is None:
            raise Refused(f"it holds a value of an unknown kind, {str(name)[:50]!r}")
        if not kind.shared:
            return kind.read(self, entry)
        number = len(self._objects)
        self._objects.append(_not_yet)
        value = kind.read(self, entry)
        self._objects[number] = lambda: value
        return value


def _not_yet() -> Any:
    raise Refused("it is damaged: an object contains itself")
