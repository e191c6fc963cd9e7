"""
What a user gets who types nothing
==================================

Test mean average precision, micro F1 of ``predict``, labels a row predicted, expected calibration error and processor
seconds of the default classifiers and of what else may be typed, on features as they are, standardised, and with rows
of length 1; with 3, 10 and 30% of the entries known, and with one presence recorded in each row.

- default: ``PartialLabelClassifier()``, or ``SinglePositiveClassifier()`` on recorded presences;
- hindsight: the same with the ``alpha`` of a grid over six decades that is best on the test part;
- cross-validated: ``PartialLabelClassifierCV()`` or ``SinglePositiveClassifierCV()``;
- logistic regression at C=1, and with the weights of the classes balanced: scikit-learn's, a label, on its known
  entries, or with unknown as absent where presences alone are recorded;
- logistic, CV: scikit-learn's LogisticRegressionCV with ``scoring="average_precision"``, a label; slow, with
  ``--slow-peers`` only;
- ridge: scikit-learn's RidgeCV, with leave-one-out over the same grid, on the recorded presences (single positives
  only).

Each figure is a mean over ``--seeds`` splits, with its standard deviation. A line after each data set says by how many
points units move the default, and by how many it is below the best alpha in hindsight. Run with ``--quick`` to see that
it runs.
"""

from __future__ import annotations

import statistics
import time
import warnings
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from _data import DataSet, add_arguments, limit_threads, load, names, split
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, RidgeCV
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler, normalize

from skpartial import (
    PartialLabelClassifier,
    PartialLabelClassifierCV,
    SinglePositiveClassifier,
    SinglePositiveClassifierCV,
    losses,
)
from skpartial.labels import drop_labels, keep_single_positive
from skpartial.metrics import f1, mean_average_precision

UNITS = ("raw", "standardised", "unit rows")
SETTINGS = (0.03, 0.1, 0.3, "single")
RELATIVE = np.logspace(-6, 0, 13)
_MOST_LABELS = 100


class Scores(NamedTuple):
    """What is told of a method on a split."""

    mean_average_precision: float
    f1: float
    predicted: float
    calibration_error: float
    seconds: float


def in_units(units: str, train: Any, test: Any) -> tuple[Any, Any]:
    """Features as they are, standardised, or with rows of length 1."""
    if units == "standardised":
        scaler = StandardScaler(with_mean=not sp.issparse(train)).fit(train)
        return scaler.transform(train).astype(np.float32), scaler.transform(test).astype(np.float32)
    return (normalize(train), normalize(test)) if units == "unit rows" else (train, test)


def calibration_error(present: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean difference of frequency and probability over fifteen bins of equal width, weighted by their entries."""
    bins = np.minimum((15 * probabilities).astype(int), 14).ravel()
    counts = np.bincount(bins, minlength=15)
    difference = np.bincount(bins, (present - probabilities).ravel(), minlength=15)
    return float(np.abs(difference).sum() / counts.sum())


def evaluate(fit: Callable[[], tuple[np.ndarray, np.ndarray]], truth: np.ndarray) -> Scores:
    """Scores of a method, which answers with probabilities and predictions of the test rows."""
    start = time.process_time()
    probabilities, predicted = fit()
    seconds = time.process_time() - start
    signs = 2 * truth.astype(np.int8) - 1
    return Scores(
        100 * float(mean_average_precision(signs, probabilities)),
        100 * float(f1(signs, predicted, average="micro")),
        float(predicted.sum(axis=1).mean()),
        100 * calibration_error(truth, probabilities),
        seconds,
    )


def of_classifier(classifier: Any, X: Any, Z: Any, X_test: Any) -> tuple[np.ndarray, np.ndarray]:
    classifier.fit(X, Z)
    return classifier.predict_proba(X_test), classifier.predict(X_test)


def label_by_label(
    make: Callable[[np.ndarray], Any], X: Any, Z: np.ndarray, X_test: Any
) -> tuple[np.ndarray, np.ndarray]:
    """A classifier of two classes for each label, on its known entries; the prior where they have one sign."""
    probabilities = np.empty((X_test.shape[0], Z.shape[1]))
    for j, z in enumerate(Z.T):
        known = z != 0
        if len(np.unique(z[known])) < 2:
            probabilities[:, j] = (z[known] > 0).mean() if known.any() else 0.5
        else:
            probabilities[:, j] = make(z[known]).fit(X[known], z[known]).predict_proba(X_test)[:, 1]
    return probabilities, probabilities > 0.5


def ridge(X: Any, Z: np.ndarray, X_test: Any) -> tuple[np.ndarray, np.ndarray]:
    """RidgeCV as it is, on recorded presences."""
    X, X_test = (part.toarray() if sp.issparse(part) else part for part in (X, X_test))
    distance = float(np.square(X - X.mean(0)).sum(1).mean())
    scores = RidgeCV(len(X) * distance * RELATIVE[2:]).fit(X, (Z == 1).astype(np.float32)).predict(X_test)
    return np.clip(scores, 0, 1), scores > 0.5


def logistic(z: np.ndarray) -> LogisticRegression:
    """As it is."""
    return LogisticRegression()


def balanced_logistic(z: np.ndarray) -> LogisticRegression:
    """Both signs count alike."""
    return LogisticRegression(class_weight="balanced")


def cross_validated_logistic(z: np.ndarray) -> LogisticRegression:
    """Ten penalties by three folds, where both signs are in each."""
    if min((z > 0).sum(), (z < 0).sum()) < 3:
        return LogisticRegression()
    return LogisticRegressionCV(
        scoring="average_precision", cv=StratifiedKFold(3), l1_ratios=(0.0,), use_legacy_attributes=False
    )


def run(data: DataSet, units: str, setting: float | str, seed: int, options: Namespace) -> dict[str, Scores]:
    """Scores of all methods on a split."""
    parts = split(data, test_size=0.3, seed=seed)
    X, X_test = in_units(units, parts.X_train, parts.X_test)
    if setting == "single":
        Z = np.asarray(keep_single_positive(parts.Y_train, random_state=seed))
        kind: Any = SinglePositiveClassifier
        with_cv: Any = SinglePositiveClassifierCV
        complete = np.where(Z == 1, 1, -1)
    else:
        Z = np.asarray(drop_labels(parts.Y_train, known=setting, by="entry", random_state=seed))
        kind, with_cv, complete = PartialLabelClassifier, PartialLabelClassifierCV, Z
    default = kind(random_state=0)
    truth = parts.Y_test
    found = {"default": evaluate(lambda: of_classifier(default, X, Z, X_test), truth)}
    scale = default.alpha_ / losses.get(default.loss).traits().relative_alpha
    tried = [
        evaluate(lambda a=a: of_classifier(kind(alpha=a * scale, random_state=0), X, Z, X_test), truth)
        for a in RELATIVE
    ]
    found["hindsight"] = max(tried, key=lambda scores: scores.mean_average_precision)
    found["cross-validated"] = evaluate(lambda: of_classifier(with_cv(random_state=0), X, Z, X_test), truth)
    if options.peers:
        peers = {"logistic, C=1": logistic, "logistic, balanced": balanced_logistic}
        if options.slow_peers:
            peers["logistic, CV"] = cross_validated_logistic
        for name, make in peers.items():
            found[name] = evaluate(lambda make=make: label_by_label(make, X, complete, X_test), truth)
        if setting == "single":
            found["ridge"] = evaluate(lambda: ridge(X, Z, X_test), truth)
    return found


def told(values: list[Scores]) -> str:
    """Means, and the standard deviation of the first two."""
    columns = list(zip(*values))
    means = [statistics.fmean(column) for column in columns]
    spread = [statistics.stdev(column) if len(column) > 1 else 0.0 for column in columns]
    return (
        f"{means[0]:6.1f} ±{spread[0]:4.1f} {means[1]:6.1f} ±{spread[1]:4.1f} {means[2]:7.2f} {means[3]:7.1f} "
        f"{means[4]:8.2f}"
    )


def compare(data: DataSet, options: Namespace) -> None:
    """Print the table of a data set."""
    shape, n_labels = data.X.shape, data.Y.shape[1]
    print(f"\n{data.name}: {shape[0]} x {shape[1]}, {n_labels} labels, {data.Y.sum(1).mean():.2f} a row")
    print(
        f"{'known':>7} {'units':13} {'method':20} {'mAP':>12} {'micro F1':>12} {'present':>7} {'ECE':>7} {'seconds':>8}"
    )
    for setting in options.settings:
        of_units = []
        for units in options.units:
            found: dict[str, list[Scores]] = defaultdict(list)
            for seed in range(options.seeds):
                for name, scores in run(data, units, setting, seed, options).items():
                    found[name].append(scores)
            for name, values in found.items():
                print(f"{setting:>7} {units:13} {name:20} {told(values)}", flush=True)
            of_units.append([statistics.fmean(s[0] for s in found[name]) for name in ("default", "hindsight")])
        defaults = [default for default, _ in of_units]
        print(
            f"{setting:>7} units move the default by {max(defaults) - min(defaults):.2f} points; it is "
            f"{max(b - d for d, b in of_units):.2f} below the best alpha in hindsight at most",
            flush=True,
        )


def main() -> None:
    """Run on all data sets."""
    parser = ArgumentParser(description=__doc__.split("\n")[1])
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, default=5, help="splits (default: 5)")
    parser.add_argument("--units", nargs="+", default=UNITS, choices=UNITS, help="units of the features")
    parser.add_argument("--settings", nargs="+", default=SETTINGS, type=setting_of, help="shares known, or single")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="without scikit-learn's classifiers")
    parser.add_argument("--slow-peers", action="store_true", help="with LogisticRegressionCV")
    options = parser.parse_args()
    options.seeds = 1 if options.quick else options.seeds
    warnings.simplefilter("ignore")
    with limit_threads(options.threads):
        for name in names(options.data, options.datasets):
            data = load(name, options.data, quick=options.quick)
            frequent = np.sort(np.argsort(-data.Y.sum(axis=0), kind="stable")[:_MOST_LABELS])
            Y = data.Y[:, frequent]
            rows = np.flatnonzero(Y.any(axis=1))
            compare(DataSet(name, data.X[rows], Y[rows]), options)


def setting_of(text: str) -> float | str:
    """A share of known entries, or "single"."""
    return text if text == "single" else float(text)


if __name__ == "__main__":
    main()
