"""The result of every reader: a Bunch with the label matrix and a description."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils import Bunch

__all__ = ["make_bunch"]


def _counts(values: NDArray[np.str_]) -> str:
    """Counts of each distinct value, in order of first occurrence."""
    names, first, counts = np.unique(values, return_index=True, return_counts=True)
    return ", ".join(f"{names[i]} {counts[i]:,}" for i in np.argsort(first))


def make_bunch(title: str, about: str, *, target: Any, label_names: Sequence[str], **more: Any) -> Bunch:
    """Assemble a Bunch; `about` explains the labels, `more` are further attributes, left out if None."""
    given = {name: value for name, value in more.items() if value is not None}
    known = target.data if sp.issparse(target) else target
    present, absent = (int(np.count_nonzero(known == sign)) for sign in (1, -1))
    n_rows, n_labels = target.shape
    unknown = n_rows * n_labels - present - absent
    facts = [f":Rows: {n_rows:,}" + (f" ({_counts(given['split'])})" if "split" in given else "")]
    if "groups" in given:
        facts.append(f":Groups: {len(np.unique(given['groups'])):,}")
    facts.append(f":Labels: {n_labels:,}; present {present:,}, absent {absent:,}, unknown {unknown:,} entries")
    if "data" in given:
        facts.append(f":Features: {given['data'].shape[1]:,}")
    description = "\n".join([title, "-" * len(title), "", *facts, "", about, ""])
    return Bunch(target=target, label_names=list(label_names), **given, DESCR=description)
