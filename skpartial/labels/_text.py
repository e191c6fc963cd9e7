"""Advice on labels that hold text: columns that are no labels, or codes to convert."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skpartial.labels._forms import listed_names
from skpartial.labels._frames import missing_entries

__all__ = ["OTHER_FORMS", "advice_on_text"]

# More distinct texts than this are no codes, but names or paths.
_MOST_CODES = 5
OTHER_FORMS = "skpartial.labels has from_names, from_annotations and recode for other forms."


def advice_on_text(values: NDArray[Any], names: NDArray[Any] | None, name: str) -> tuple[str, str]:
    """What is wrong with labels that hold text, and what to do about it.

    Parameters
    ----------
    values : ndarray of object or text, shape (n, L)
        The labels as given.
    names : ndarray of str, shape (L,), or None
        Names of the columns.
    name : str
        Name of the labels in messages.

    Returns
    -------
    fault, cure : str
        Parts of an error message.
    """
    is_text = np.frompyfunc(lambda value: isinstance(value, str | bytes), 1, 1)(values).astype(bool)
    missing = missing_entries(values)
    texts = [{str(value) for value in column[found]} for column, found in zip(values.T, is_text.T)]
    only_text = is_text.any(axis=0) & (is_text | missing).all(axis=0)
    if only_text.all():  # then the columns with many texts are no labels
        only_text = np.array([len(found) > _MOST_CODES for found in texts])
    if only_text.all():
        return f"holds text, such as {min(texts[0])!r}", OTHER_FORMS
    if not only_text.any():
        codes = sorted(set().union(*texts))
        has_numbers = bool((~is_text & ~missing).any())
        fault, cure = _advice_on_codes(codes, f"skpartial.labels.recode({name}, ", bool(missing.any()), has_numbers)
        return fault, cure if names is not None else f"{cure} If rows list their labels, use from_names."
    which = np.flatnonzero(only_text)
    columns = listed_names([int(j) if names is None else names[j] for j in which])
    # Names are text here, even if those of the table are numbers.
    told = names is not None and len(which) <= _MOST_CODES and not any(str(names[j]).isdigit() for j in which)
    drop = f", as in {name}.drop(columns=[{columns}])" if told else ""
    return (
        f"holds text in the column{'s' if len(which) > 1 else ''} {columns}",
        f"Select the columns of labels{drop}, and convert labels that are text with skpartial.labels.recode.",
    )


def _advice_on_codes(codes: list[str], call: str, has_missing: bool, has_numbers: bool) -> tuple[str, str]:
    """Advice on text that stands for labels. Only the author of the labels knows what it means."""
    others = ["numbers"] * has_numbers + ["missing values"] * has_missing
    fault = f"holds {' and '.join([', '.join(map(repr, codes)), *others])}"
    if len(codes) == 1 and others == ["missing values"]:
        return fault, (
            f"If {codes[0]!r} is present and a missing value unknown, pass {call}present={codes[0]!r}, "
            f"unknown=np.nan); if a missing value is absent, {call}present={codes[0]!r}, absent=np.nan)."
        )
    if len(codes) == 2 and not has_numbers:
        return fault, (
            f"If {codes[1]!r} is present and {codes[0]!r} absent, for example, pass {call}present={codes[1]!r}, "
            f"absent={codes[0]!r}{', unknown=np.nan' if has_missing else ''})."
        )
    return fault, f"Say what each value means: {call}present=..., absent=..., unknown=...); several values in lists."
