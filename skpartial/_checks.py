"""Checks of hyperparameters and arguments, with uniform error messages.

Such as "PartialBCE: eps must be a number in [0, 1), got 2." For arguments of functions `owner` is None, and the message
begins with the argument.
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

__all__ = [
    "check_choice",
    "check_flag",
    "check_least",
    "check_n_jobs",
    "check_number",
    "check_same_rows",
    "check_unmasked",
    "check_whole",
    "listed",
    "wrong_value",
]


def wrong_value(owner: object, name: str, what: str, value: object) -> ValueError:
    """The error that says what a parameter must be, and what was passed."""
    prefix = "" if owner is None else f"{type(owner).__name__}: "
    return ValueError(f"{prefix}{name} must be {what}, got {value!r}.")


def listed(choices: Sequence[object]) -> str:
    """The choices in words: 'a', 'b' or 'c'."""
    *others, last = map(repr, choices)
    return f"{', '.join(others)} or {last}" if others else last


def check_number(owner: object, name: str, value: Any, interval: str, what: str | None = None) -> float:
    """Check and return a number as a float; `interval` is in mathematical notation, such as "[0, 1)" or "(0, inf)".

    The message says that it must be a number in the interval, or `what` if that is plainer.
    """
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    if isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
        above = number > low or (number == low and interval[0] == "[")
        below = number < high or (number == high and interval[-1] == "]")
        if above and below:
            return number
    raise wrong_value(owner, name, what or f"a number in {interval}", value)


def check_whole(owner: object, name: str, value: Any, least: int, what: str | None = None) -> int:
    """Check and return a whole number of at least `least`; `what` as in `check_number`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise wrong_value(owner, name, what or f"a whole number of at least {least}", value)
    return int(value)


def check_least(owner: object, **least: float) -> None:
    """Refuse parameters below these bounds: an int bound asks for whole numbers, None passes if it is the default."""
    parameters = inspect.signature(type(owner)).parameters
    for name, bound in least.items():
        value = getattr(owner, name, None)
        if value is None and (name not in parameters or parameters[name].default is None):
            continue
        if isinstance(bound, int):
            check_whole(owner, name, value, bound)
        else:
            check_number(owner, name, value, f"[{bound:g}, inf)", f"a number of at least {bound:g}")


def check_choice(owner: object, name: str, value: Any, choices: Sequence[Hashable]) -> None:
    """Refuse a value that is not one of the choices."""
    try:
        known = isinstance(value, Hashable) and value in choices
    except TypeError:  # comparing with pandas' NA gives no truth value
        known = False
    if not known:
        raise wrong_value(owner, name, listed(choices), value)


def check_flag(owner: object, name: str, value: Any, what: str = "True or False") -> None:
    """Refuse a value that is neither True nor False; `what` as in `check_number`."""
    if not isinstance(value, bool | np.bool_):
        raise wrong_value(owner, name, what, value)


def check_unmasked(name: str, value: Any) -> None:
    """Refuse an array with masked entries, because most of NumPy ignores the mask."""
    rows = value if isinstance(value, list | tuple) else (value,)
    if any(isinstance(row, np.ma.MaskedArray) and np.ma.is_masked(row) for row in rows):
        raise ValueError(
            f"{name} has masked entries, but every entry is needed: fill them with {name}.filled(...), or "
            "leave these rows out."
        )


def check_n_jobs(owner: object, value: Any) -> None:
    """Refuse a number of jobs that is not valid in joblib."""
    if value is not None and (not isinstance(value, Integral) or isinstance(value, bool) or value == 0):
        raise wrong_value(owner, "n_jobs", "None or a whole number other than 0", value)


def check_same_rows(n_rows: int, n_labelled: int, name: str = "X", name_of_labels: str = "y") -> None:
    """Refuse labels whose number of rows differs from that of the features."""
    if n_rows != n_labelled:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {name} has {n_rows} rows, but "
            f"{name_of_labels} has {n_labelled}."
        )
