"""The kind of file behind a path, checked before it is opened: reading a pipe or device would block forever."""

from __future__ import annotations

import os
import stat

__all__ = ["what_is_no_file"]

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def what_is_no_file(path: str | os.PathLike[str]) -> str | None:
    """Describe a path that is not a regular file, such as "a named pipe"; None for a regular file.

    Parameters
    ----------
    path : str or path-like
        The path; links are followed.

    Returns
    -------
    str or None
        The description.

    Raises
    ------
    OSError
        If the path does not exist.
    """
    mode = os.stat(path).st_mode
    return next((words for is_kind, words in _KINDS if is_kind(mode)), None)
