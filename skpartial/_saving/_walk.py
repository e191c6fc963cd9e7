"""From a tree of values to a document and back; what the kinds of values are is said elsewhere."""

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
    """How values of one kind are written to a document and read from it.

    Parameters
    ----------
    name : str
        What the document calls it.
    holds : callable
        Whether a value is of the kind.
    write : callable
        From a `Writer` and a value to a dictionary for the document.
    read : callable
        From a `Reader` and that dictionary to the value.
    shared : bool, default=False
        Whether it matters that two places hold the same object, and not two that are equal.
    """

    name: str
    holds: Callable[[Any], bool]
    write: Callable[[Writer, Any], dict[str, Any]]
    read: Callable[[Reader, Any], Any]
    shared: bool = False


class Writer:
    """Writes values to a document, and their tensors beside it.

    Parameters
    ----------
    kinds : sequence of Kind
        The first that holds a value writes it.
    """

    def __init__(self, kinds: Sequence[Kind]) -> None:
        self._kinds = kinds
        self.tensors = Tensors()
        self._place: list[str] = []
        # By identity; what is written is kept, so that no other object gets its identity meanwhile.
        self._numbers: dict[int, int] = {}
        self._kept: list[Any] = []
        self._begun: set[int] = set()
        #: Names of the classes that were written.
        self.classes: set[str] = set()

    @property
    def place(self) -> str:
        """Where in the tree the present value is."""
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
        """Put a dense tensor beside the document."""
        return dict(self.tensors.add(tensor, self.place))

    def write(self, value: Any, name: str) -> Any:
        """What the document has of a value, which is called so within the one around it."""
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
                raise Refused(f"nothing is known of {kept.__module__}.{kept.__qualname__}")
            if not kind.shared:
                return {"kind": kind.name, **kind.write(self, value)}
            number = self._numbers.get(id(value))
            if number is not None:
                if number in self._begun:
                    raise Refused("it holds itself")
                return {"kind": "same", "as": number}
            number = self._numbers[id(value)] = len(self._kept)
            self._kept.append(value)
            self._begun.add(number)
            written = {"kind": kind.name, **kind.write(self, value)}
            self._begun.remove(number)
            return written


class Reader:
    """Reads what a `Writer` wrote.

    Parameters
    ----------
    kinds : sequence of Kind
        As for writing.
    file : TensorFile
        With the tensors.
    modules : dict of str to callable
        What makes modules, by the names of their classes.
    """

    def __init__(self, kinds: Sequence[Kind], file: TensorFile, modules: dict[str, Any]) -> None:
        self._kinds = {kind.name: kind for kind in kinds}
        self._file = file
        self.modules = modules
        self._objects: list[Any] = []

    def tensor(self, entry: Any) -> Tensor:
        """A dense tensor that is beside the document."""
        return self._file.tensor(entry)

    def shape(self, entry: Any) -> tuple[int, ...]:
        """The shape of such a tensor, which is not read."""
        return self._file.shape(entry)

    def read(self, entry: Any) -> Any:
        """The value of a part of the document."""
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
    raise Refused("it is damaged: an object holds itself")
