"""The file format: tensors in the layout of safetensors, and a JSON document in its metadata.

Tensors are identified by a digest of their contents, so equal tensors are stored once, and changes are detected. The
document, which describes each tensor, has a digest in the metadata.
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
# Largest header that safetensors reads, including all names and the document.
_LONGEST = 90_000_000


def _digest(tensor: Tensor) -> str:
    """A digest of the values, type and shape of a contiguous tensor."""
    found = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


class Tensors:
    """Tensors to write; equal ones are stored once."""

    def __init__(self) -> None:
        self.by_name: dict[str, Tensor] = {}
        self._names: dict[str, str] = {}
        self._storages: set[int] = set()

    def add(self, tensor: Tensor, place: str) -> dict[str, str]:
        """Add a dense tensor, named by its place; return its entry for the document."""
        whole = tensor.detach().cpu().contiguous()
        if whole.numel() == 1:
            # PyTorch takes one number for contiguous, whatever its strides.
            whole = whole.clone(memory_format=torch.contiguous_format)
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
    """Write a file completely or not at all; an existing file is kept until then.

    Raises
    ------
    OSError
        If the file cannot be written; the message names the path.
    """
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    size = len(text) + sum(len(name) + 200 for name in tensors.by_name)
    if size > _LONGEST:
        raise Refused(f"its contents other than arrays take {size / 1e6:.0f} MB as text, but at most 90 can be saved")
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
    """Permissions of the file to replace, or of a new file."""
    try:
        other = what_is_no_file(target)
    except FileNotFoundError:
        folder = os.path.dirname(target)
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"{path!r} cannot be written: the folder {folder!r} does not exist.") from None
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
    if other is not None:
        raise OSError(f"{path!r} cannot be written: it is {other}.")
    return stat.S_IMODE(os.stat(target).st_mode)


class TensorFile:
    """A file to read.

    Parameters
    ----------
    path : str
        Path of the file.

    Raises
    ------
    OSError
        If the file does not exist or cannot be read.
    Refused
        If the file is of another kind, of a later version, or damaged.
    """

    def __init__(self, path: str) -> None:
        other = what_is_no_file(path)
        if other is not None:
            raise Refused(f"it is {other}")
        with open(path, "rb"):
            pass  # so that the usual message reports the reason
        try:
            self._file = safetensors.safe_open(path, framework="pt")
            metadata = self._file.metadata() or {}
        except safetensors.SafetensorError as error:
            raise Refused(f"it was not written by skpartial.save, or is damaged ({error})") from error
        if metadata.get("format") != _FORMAT or "document" not in metadata:
            raise Refused("it was not written by skpartial.save")
        if metadata.get("version") != _VERSION:
            raise Refused(
                f"it has version {str(metadata.get('version'))[:20]!r} of the format, but this version of skpartial "
                f"reads {_VERSION!r}: use a later version"
            )
        text = metadata["document"]
        if hashlib.sha256(text.encode()).hexdigest() != metadata.get("sha256"):
            raise Refused("it is damaged: its document does not match its digest")
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
        """A copy of a tensor, checked against the document."""
        name = self._name(entry)
        # A copy, because the mapped file may be overwritten later.
        found: Tensor = self._file.get_tensor(name).clone(memory_format=torch.contiguous_format)
        if _digest(found) != entry["sha256"]:
            raise Refused(f"it is damaged: the tensor {name!r} does not match its digest")
        return found
