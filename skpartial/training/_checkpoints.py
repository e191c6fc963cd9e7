"""Checkpoints: what a training that is killed goes on from."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

__all__ = ["Checkpoint", "CheckpointFolder"]

_SETTINGS = "fit.json"


def _replace(path: Path, write: Any) -> None:
    """Write a file so that at any moment there is the old one or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class Checkpoint:
    """The state of one stage of training, in a file that holds tensors, numbers and words only.

    Parameters
    ----------
    path : Path
        The file.
    seed : int
        Of the fit, noted beside it.
    """

    def __init__(self, path: Path, seed: int) -> None:
        self.path, self.seed = path, seed

    def save(self, content: dict[str, Any]) -> None:
        """Replace the file, whole or not at all."""
        settings = self.path.parent / _SETTINGS
        if not settings.exists():
            _replace(settings, lambda file: file.write(json.dumps({"seed": self.seed}).encode()))
        _replace(self.path, lambda file: torch.save(content, file))

    def load(self) -> dict[str, Any] | None:
        """What was saved, on the CPU; None if nothing was. Nothing in the file is executed."""
        if not self.path.exists():
            return None
        try:
            content: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:
            # What a damaged archive raises depends on where it is damaged.
            raise ValueError(
                f"The checkpoint {str(self.path)!r} is damaged ({type(error).__name__}): delete it to start this fit "
                "afresh."
            ) from error
        return content


class CheckpointFolder:
    """The checkpoints of one fit, in a folder of its own.

    Parameters
    ----------
    directory : str or path-like
        The user's.
    fingerprint : str
        Of the parameters and the data of the fit.
    """

    def __init__(self, directory: str | os.PathLike[str], fingerprint: str) -> None:
        self.path = Path(directory) / fingerprint
        self._seed = 0

    def seed(self, proposed: int) -> int:
        """The seed that the fit began with, or the proposed one if it begins now."""
        path = self.path / _SETTINGS
        if path.exists():
            try:
                proposed = int(json.loads(path.read_text(encoding="utf-8"))["seed"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"The checkpoint {str(path)!r} is damaged ({type(error).__name__}): delete its folder to start "
                    "this fit afresh."
                ) from error
        self._seed = proposed
        return proposed

    def stage(self, name: str) -> Checkpoint:
        """The checkpoint of a stage."""
        return Checkpoint(self.path / f"{name}.pt", self._seed)

    def remove(self) -> None:
        """Remove the folder of a fit that has ended."""
        if self.path.exists():
            for file in self.path.iterdir():
                file.unlink(missing_ok=True)
            self.path.rmdir()
