"""Checkpoints, from which an interrupted training continues."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import torch

from skpartial._warnings import warn

__all__ = ["Checkpoint", "CheckpointFolder"]

# Number of bytes read at a time.
_BLOCK = 1 << 20
# Hash function of the digest of a file, and its length in hexadecimal digits.
_DIGEST, _DIGITS = hashlib.sha256, 64
_LARGEST = 2**31 - 1
# Number of attempts to write a file while another process, with the same fit, removes the folder.
_ATTEMPTS = 20


class _Damaged(ValueError):
    """The file does not hold what was saved."""


class _Digested:
    """A file that computes a digest of its content, and keeps the error of a failed write, which PyTorch hides."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, _DIGEST()
        self.error: OSError | None = None

    def write(self, block: Any) -> int:
        """Write a block."""
        try:
            self._file.write(block)
        except OSError as error:
            self.error = self.error or error
            raise
        self.digest.update(block)
        return len(block)

    def flush(self) -> None:
        """Do nothing: the file itself is flushed at the end."""


class Checkpoint:
    """The state of one stage of training, in a file that holds only tensors, numbers and strings.

    The file is a PyTorch archive followed by one line, which names the fit, stage and epoch and ends with a digest of
    everything before.

    Parameters
    ----------
    folder : CheckpointFolder
        Folder of the fit.
    stage : str
        Name of the stage.
    """

    def __init__(self, folder: CheckpointFolder, stage: str) -> None:
        self._folder = folder
        self._line = f"\nskpartial checkpoint 1, fit {folder.path.name}, stage {stage}, epoch "
        self._path = folder.path / f"{stage}.pt"
        self._last = _LARGEST

    @property
    def _shorter(self) -> Path:
        return self._path.with_name(f"{self._path.stem}-{self._last}.pt")

    @property
    def path(self) -> Path:
        """The file; a separate one if an otherwise identical fit for more epochs has gone further."""
        with suppress(OSError, _Damaged), open(self._path, "rb") as file:
            if self._read_line(file)[1] > self._last:
                return self._shorter
        return self._path

    def save(self, content: dict[str, Any]) -> None:
        """Replace the file atomically."""
        with self._folder.told():
            path = self.path
            for _ in range(_ATTEMPTS - 1):
                # The same fit may end in another process and remove the folder while this process creates or uses it.
                with suppress(FileNotFoundError, FileExistsError):
                    self._replace(path, content)
                    return
            self._replace(path, content)

    def _replace(self, path: Path, content: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                digested = _Digested(file)
                try:
                    torch.save(content, digested)  # type: ignore[arg-type]
                    digested.write(f"{self._line}{content['epoch']:010d}, ".encode())
                except Exception as error:
                    raise digested.error or error from None
                file.write(digested.digest.hexdigest().encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise

    def load(self, last: int) -> dict[str, Any] | None:
        """Load the saved content to the CPU; None if nothing was saved. Nothing in the file is executed.

        Parameters
        ----------
        last : int
            The last epoch of this fit; a file from a later epoch is ignored, and left for a fit with more epochs.

        Returns
        -------
        dict or None
            The content.

        Raises
        ------
        ValueError
            If the file does not hold what was saved.
        """
        self._last = last
        found = [self._read(path) for path in (self._path, self._shorter)]
        return max((each for each in found if each[0] <= last), key=lambda each: each[0], default=(0, None))[1]

    def _read(self, path: Path) -> tuple[int, dict[str, Any] | None]:
        """Check that a file is complete; return its epoch, and its content unless the epoch is too late."""
        with self._folder.told():
            try:
                file = open(path, "rb")  # noqa: SIM115
            except FileNotFoundError:
                return 0, None
            with file:
                try:
                    return self._content(file)
                except (OSError, MemoryError):
                    raise
                except Exception as error:
                    # The error for a damaged archive depends on where it is damaged.
                    raise self.damaged(error, path) from error

    def _content(self, file: IO[bytes]) -> tuple[int, dict[str, Any] | None]:
        size, epoch, digest = self._read_line(file)
        file.seek(0)
        found = _DIGEST()
        while size > 0:
            block = file.read(min(size, _BLOCK))
            found.update(block)
            size -= len(block)
        if found.hexdigest().encode() != digest:
            raise _Damaged("its digest does not match")
        if epoch > self._last:
            return epoch, None
        file.seek(0)
        content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        if content["epoch"] != epoch:
            raise _Damaged("it names two different epochs")
        return epoch, content

    def _read_line(self, file: IO[bytes]) -> tuple[int, int, bytes]:
        """The length of the part covered by the digest, the epoch and the digest, from the last line of a file."""
        line = self._line.encode()
        length = len(line) + len("0000000000, ") + _DIGITS
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - length))
        noted = file.read(length)
        found = re.fullmatch(rb"(\d{10}), ([0-9a-f]{%d})" % _DIGITS, noted.removeprefix(line))
        if not noted.startswith(line) or found is None:
            raise _Damaged("it is incomplete, or from another fit")
        return size - _DIGITS, int(found[1]), found[2]

    def damaged(self, error: Exception, path: Path | None = None) -> ValueError:
        """The error for a file that cannot be used, with the reason."""
        reason = str(error) if isinstance(error, _Damaged) else type(error).__name__
        return ValueError(
            f"The checkpoint {str(path or self.path)!r} is damaged ({reason}): delete it to start this fit afresh."
        )

    def remove(self) -> None:
        """Remove the file, and remains of unfinished writes."""
        for path in {self.path, self._shorter}:
            for own in (path, *path.parent.glob(f"{path.name}.????????.part")):
                own.unlink(missing_ok=True)


class CheckpointFolder:
    """The checkpoints of one fit, in a separate folder.

    Parameters
    ----------
    directory : str or path-like
        The user's directory; "~" is the home directory.
    fingerprint : str
        Fingerprint of the parameters and data of the fit, and of the seed if the user passed one.
    seeded : bool
        Whether the user passed a seed; if not, the folder name includes the seed.
    """

    def __init__(self, directory: str | os.PathLike[str], fingerprint: str, *, seeded: bool) -> None:
        self._directory, self._fingerprint, self._seeded = directory, fingerprint, seeded
        self._parent = Path(directory).expanduser()
        self._stages: list[Checkpoint] = []
        self.path = self._parent / fingerprint

    def seed(self, proposed: int) -> int:
        """The seed that the fit started with, or the proposed one if it starts now."""
        if not self._seeded:
            proposed = self._left_seed(proposed)
            self.path = self._parent / f"{self._fingerprint}-{proposed}"
        return proposed

    def _left_seed(self, proposed: int) -> int:
        """The seed of the most recently interrupted fit, or else the proposed one."""
        left: list[tuple[float, int]] = []
        with self.told():
            for folder in self._parent.glob(f"{self._fingerprint}-*"):
                seed = folder.name.removeprefix(f"{self._fingerprint}-")
                if re.fullmatch("0|[1-9][0-9]{0,9}", seed) and int(seed) <= _LARGEST:
                    with suppress(FileNotFoundError):  # a fit that has just ended and removed its folder
                        left += [(file.stat().st_mtime, int(seed)) for file in folder.glob("*.pt")]
        return max(left)[1] if left else proposed

    def stage(self, name: str) -> Checkpoint:
        """The checkpoint of a stage."""
        self._stages.append(Checkpoint(self, name))
        return self._stages[-1]

    @contextmanager
    def told(self) -> Iterator[None]:
        """Name the parameter in errors of the file system."""
        try:
            yield
        except OSError as error:
            raise OSError(
                f"checkpoint_dir={os.fspath(self._directory)!r} cannot be used ({error.strerror or error}): free space "
                "or allow reading and writing there, choose another folder, or pass None to save nothing."
            ) from error

    def remove(self) -> None:
        """Remove the checkpoints of a fit that has ended, and the folder if it is then empty."""
        try:
            if self.path.is_symlink():
                raise OSError("it is a link, which is not followed")
            for checkpoint in self._stages:
                checkpoint.remove()
            self.path.rmdir()
        except FileNotFoundError:
            pass  # Nothing was saved, or the same fit has ended in another process too.
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                warn(
                    f"The fit has ended, but its checkpoints in {str(self.path)!r} could not be removed "
                    f"({error.strerror or error}): delete them."
                )
