"""What stands in a path's place, before anything is opened: pipes and devices would be waited for without end."""

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
    """What a path leads to if that is no file with contents of its own, such as "a named pipe"; None for a file.

    Parameters
    ----------
    path : str or path-like
        Links are followed.

    Returns
    -------
    str or None
        In words.

    Raises
    ------
    OSError
        If there is nothing.
    """
    mode = os.stat(path).st_mode
    return next((words for is_kind, words in _KINDS if is_kind(mode)), None)
