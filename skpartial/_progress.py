"""Progress bars in a terminal or notebook, with rich; without it, lines of text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress_bar"]

# Number of lines of text that replace a bar.
_LINES = 10


@contextmanager
def progress_bar(what: str, total: int, *, shown: bool = True, unit: str = "") -> Iterator[Callable[[int], None]]:
    """Show a bar while a block runs; the block advances it through a callable.

    Parameters
    ----------
    what : str
        Text before the bar.
    total : int
        Number of steps.
    shown : bool, default=True
        Whether to show a bar at all.
    unit : str, default=""
        Text after the number of steps.

    Yields
    ------
    callable
        Advances the bar by a number of steps.
    """
    if not shown or total <= 0:
        yield lambda n_steps: None
        return
    try:
        from rich.errors import LiveError
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        yield _lines(what, total, unit)
        return
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    progress = Progress(*columns)
    try:
        progress.start()
    except LiveError:  # another bar is active, such as scikit-learn's callback
        yield lambda n_steps: None
        return
    try:
        task = progress.add_task(what, total=total)
        yield lambda n_steps: progress.advance(task, n_steps)
    finally:
        progress.stop()


def _lines(what: str, total: int, unit: str) -> Callable[[int], None]:
    done = 0

    def advance(n_steps: int) -> None:
        nonlocal done
        before, done = done, done + n_steps
        if before * _LINES // total != done * _LINES // total:
            print(f"{what} {done}/{total} {unit}".rstrip())

    return advance
