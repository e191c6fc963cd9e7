"""
What choosing alpha costs
=========================

Processor seconds of ``PartialLabelClassifier()`` and ``PartialLabelClassifierCV()``, ten penalties on five folds and
the fit on all rows, with the entries known that ``--settings`` says; or of ``SinglePositiveClassifier()`` and
``SinglePositiveClassifierCV()`` with one presence recorded in each row. Seconds are the least of some repeats
(``--repeats``), since whatever else runs on a machine only adds to them. With ``--check`` the choice is compared with
that by folds that are solved to 1e-5: which of the penalties, and the largest difference of a mean score.

The synthetic data are 6,000 rows of 120 features with 50 labels; with ``--data DIR`` others follow. Run with
``--quick`` to see that it runs.
"""

from __future__ import annotations

import time
import warnings
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

import numpy as np
from _data import DataSet, add_arguments, limit_threads, load, names, synthetic
from bench_defaults import setting_of

from skpartial import (
    PartialLabelClassifier,
    PartialLabelClassifierCV,
    SinglePositiveClassifier,
    SinglePositiveClassifierCV,
)
from skpartial.labels import drop_labels, keep_single_positive
from skpartial.solvers import FullBatch


def least_seconds(fit: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        fitted = fit()
        seconds.append(time.process_time() - start)
    return min(seconds), fitted


def compare(data: DataSet, setting: Any, repeats: int, *, check: bool, seed: int) -> str:
    """A line of the table."""
    Y = 2 * data.Y - 1
    if setting == "single":
        Plain, Chosen = SinglePositiveClassifier, SinglePositiveClassifierCV
        Z = keep_single_positive(Y, random_state=seed)
    else:
        Plain, Chosen = PartialLabelClassifier, PartialLabelClassifierCV
        Z = drop_labels(Y, known=setting, by="entry", random_state=seed)
    Chosen(2, cv=2, random_state=seed).fit(data.X, Z)  # what a first call takes longer is not timed
    one, _ = least_seconds(lambda: Plain(random_state=seed).fit(data.X, Z), 2 * repeats)
    ten, found = least_seconds(lambda: Chosen(random_state=seed).fit(data.X, Z), repeats)
    line = f"{data.name:14} {setting!s:>7} {one:8.3f} {ten:8.2f} {ten / one:8.1f}"
    if check:
        exact = Chosen(solver=FullBatch(tol=1e-5), random_state=seed).fit(data.X, Z)
        apart = np.nanmax(np.abs(np.nanmean(found.scores_ - exact.scores_, axis=1)))
        choices = [int(np.flatnonzero(clf.alphas_ == clf.alpha_)[0]) for clf in (found, exact)]
        line += f" {choices[0]:>7} {choices[1]:>7} {apart:8.4f}"
    return line


def main() -> None:
    parser = ArgumentParser(description=__doc__.split("\n\n")[1])
    add_arguments(parser)
    parser.add_argument("--settings", nargs="+", default=(0.1, "single"), type=setting_of, help="known, or single")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--check", action="store_true", help="compare the choice with that by exact folds")
    options = parser.parse_args()
    print(f"{'data':14} {'known':>7} {'one fit':>8} {'CV':>8} {'times':>8}", end="")
    print(f" {'choice':>7} {'exact':>7} {'apart':>8}" if options.check else "")
    sets = [synthetic("synthetic", (600, 20, 5) if options.quick else (6000, 120, 50), 0)]
    sets += [load(name, options.data, quick=options.quick) for name in names(options.data, options.datasets)]
    with limit_threads(options.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for data in sets:
            for setting in options.settings:
                for seed in options.seeds:
                    line = compare(data, setting, options.repeats, check=options.check, seed=seed)
                    print(line, flush=True)


if __name__ == "__main__":
    main()
