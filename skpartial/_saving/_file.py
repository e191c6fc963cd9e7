"""The files: tensors in the layout of safetensors, and a document in JSON among its metadata.

Tensors are known by a digest of what they hold, so that equal ones are there once, and no change to one goes unnoticed;
the document, which says what each of them is, has a digest in the metadata.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from contextlib import suppress
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from skpartial._files import what_is_no_file
from skpartial._saving._known import Refused

__all__ = ["TensorFile", "Tensors", "write_file"]

_FORMAT, _VERSION = "skpartial", "1"
# What safetensors reads of a header at most, all names and the document in it.
_LONGEST = 90_000_000


def _digest(tensor: Tensor) -> str:
    """A digest of the numbers of a contiguous tensor, their type and shape."""
    found = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    found.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


class Tensors:
    """Tensors that are to be written, equal ones once."""

    def __init__(self) -> None:
        self.by_name: dict[str, Tensor] = {}
        self._names: dict[str, str] = {}
        self._storages: set[int] = set()

    def add(self, tensor: Tensor, place: str) -> dict[str, str]:
        """Add a dense tensor by the name of its place; answers with what the document has of it."""
        whole = tensor.detach().cpu().contiguous()
        digest = _digest(whole)
        name = self._names.get(digest)
        if name is None:
            start = whole.untyped_storage().data_ptr()
            if start in self._storages:
                whole = whole.clone()  # the layout has no views
            self._storages.add(whole.untyped_storage().data_ptr())
            name = place.encode(errors="replace").decode()
            while name in self.by_name:
                name += "'"
            self.by_name[name], self._names[digest] = whole, name
        return {"tensor": name, "sha256": digest}


def write_file(path: str, document: Any, tensors: Tensors) -> None:
    """Write a file, whole or not at all; what was there before stays until then.

    Raises
    ------
    OSError
        If it cannot be written, with the path.
    """
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    size = len(text) + sum(len(name) + 200 for name in tensors.by_name)
    if size > _LONGEST:
        raise Refused(f"what it holds beside arrays takes {size / 1e6:.0f} MB as text, of which 90 can be saved")
    metadata = {
        "format": _FORMAT,
        "version": _VERSION,
        "document": text,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    target = os.path.realpath(path)
    mode = _mode_of(path, target)
    handle, part = tempfile.mkstemp(
        dir=os.path.dirname(target), prefix=f"{os.path.basename(target)[:100]}.", suffix=".part"
    )
    os.close(handle)
    try:
        try:
            safetensors.torch.save_file(tensors.by_name, part, metadata)
        except safetensors.SafetensorError as error:
            raise OSError(f"{path!r} cannot be written ({error}).") from error
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(part, mode)
        os.replace(part, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


def _mode_of(path: str, target: str) -> int:
    """Permissions of the file that is replaced, or of a new one."""
    try:
        other = what_is_no_file(target)
    except FileNotFoundError:
        folder = os.path.dirname(target)
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"{path!r} cannot be written: there is no folder {folder!r}.") from None
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
    if other is not None:
        raise OSError(f"{path!r} cannot be written: it is {other}.")
    return stat.S_IMODE(os.stat(target).st_mode)


class TensorFile:
    """A file that is read.

    Parameters
    ----------
    path : str
        Its path.

    Raises
    ------
    OSError
        If there is none, or it cannot be read.
    Refused
        If it is of another kind, of a later version, or damaged.
    """

    def __init__(self, path: str) -> None:
        other = what_is_no_file(path)
        if other is not None:
            raise Refused(f"it is {other}")
        with open(path, "rb"):
            pass  # so that what forbids it is told in the usual words
        try:
            self._file = safetensors.safe_open(path, framework="pt")
            metadata = self._file.metadata() or {}
        except safetensors.SafetensorError as error:
            raise Refused(f"it is no file that skpartial.save has written, or is damaged ({error})") from error
        if metadata.get("format") != _FORMAT or "document" not in metadata:
            raise Refused("it is no file that skpartial.save has written")
        if metadata.get("version") != _VERSION:
            raise Refused(
                f"it has version {str(metadata.get('version'))[:20]!r} of the format, and this version of skpartial "
                f"reads {_VERSION!r}: a later one may read it"
            )
        text = metadata["document"]
        if hashlib.sha256(text.encode()).hexdigest() != metadata.get("sha256"):
            raise Refused("it is damaged: its document is not what was written")
        self.document = json.loads(text)
        self._names = frozenset(self._file.keys())

    def _name(self, entry: Any) -> str:
        name = entry["tensor"]
        if not isinstance(name, str) or name not in self._names:
            raise Refused("it is damaged: a tensor is missing")
        return name

    def shape(self, entry: Any) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(self._file.get_slice(self._name(entry)).get_shape())

    def tensor(self, entry: Any) -> Tensor:
        """A tensor of its own, checked to be what the document has of it."""
        name = self._name(entry)
        # Not mapped to the file, which may be overwritten later.
        found: Tensor = self._file.get_tensor(name).clone(memory_format=torch.contiguous_format)
        if _digest(found) != entry["sha256"]:
            raise Refused(f"it is damaged: the tensor {name!r} is not what was written")
        return found
