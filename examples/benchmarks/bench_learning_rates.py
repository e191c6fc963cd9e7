"""
Which learning rate minibatches need
====================================

Test mean average precision of ``Minibatch`` by learning rate, on features as they are, standardised, and with rows of
length 1: of ``IgnoreUnknown`` with 10% of the entries known, and of ``AssumeNegative`` and ``ROLE`` (told the mean
number of present labels) with one presence recorded in each row. Rates are told as multiples of 1 / d, for d features
of a root mean square of 1, as ``Minibatch`` counts them; "default" is ``learning_rate=None``. Each figure is a mean
over ``--seeds`` splits; a last column says how far the default is below the best rate. With ``--published`` rates
are those of features as they are passed, ``Minibatch(rescale=False)``, and are told as they are.
"""

from __future__ import annotations

import statistics
import warnings
from argparse import ArgumentParser, Namespace
from typing import Any

import numpy as np
from _data import DataSet, add_arguments, limit_threads, load, names, split
from bench_defaults import UNITS, in_units

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.labels import drop_labels, keep_single_positive
from skpartial.losses import ROLE
from skpartial.metrics import mean_average_precision
from skpartial.solvers import Minibatch

MULTIPLES = (0.03, 0.1, 0.3, 1.0, 3.0)
PUBLISHED = (1e-5, 1e-4, 1e-3, 3e-3, 1e-2)
LOSSES = {"iu": PartialLabelClassifier, "an": SinglePositiveClassifier, "role": SinglePositiveClassifier}
_MOST_LABELS = 50


def score(loss: str, solver: Minibatch, parts: Any, units: str, seed: int) -> float:
    """Test mean average precision of a fit."""
    X, X_test = in_units(units, parts.X_train, parts.X_test)
    if loss == "iu":
        Z = drop_labels(parts.Y_train, known=0.1, by="entry", random_state=seed)
    else:
        Z = keep_single_positive(parts.Y_train, random_state=seed)
    more = {} if loss == "iu" else {"threshold": 0.5}
    what = ROLE(float(parts.Y_train.sum(1).mean())) if loss == "role" else loss
    classifier = LOSSES[loss](what, solver=solver, random_state=seed, **more).fit(X, Z)
    signs = 2 * parts.Y_test.astype(np.int8) - 1
    return 100 * float(mean_average_precision(signs, classifier.decision_function(X_test)))


def compare(data: DataSet, options: Namespace) -> None:
    """Print the table of a data set."""
    d, rates = data.X.shape[1], options.multiples
    print(f"\n{data.name}: {data.X.shape[0]} x {d}, {data.Y.shape[1]} labels")
    what = "rate" if options.published else "rate x d"
    print(f"{'loss':5} {'units':13}" + "".join(f"{rate:>8g}" for rate in rates) + f" {'default':>8}  below ({what})")
    splits = [split(data, test_size=0.3, seed=seed) for seed in range(options.seeds)]
    for loss in options.losses:
        for units in options.units:
            solvers = [Minibatch(learning_rate=rate if options.published else rate / d) for rate in rates]
            solvers.append(Minibatch())
            for solver in solvers:
                solver.set_params(max_epochs=options.epochs)
                if options.published:
                    solver.set_params(rescale=False)
            means = [
                statistics.fmean(score(loss, solver, parts, units, seed) for seed, parts in enumerate(splits))
                for solver in solvers
            ]
            told = "".join(f"{mean:8.1f}" for mean in means[:-1])
            print(f"{loss:5} {units:13}{told} {means[-1]:8.1f} {max(means) - means[-1]:6.1f}", flush=True)


def main() -> None:
    """Run on all data sets."""
    parser = ArgumentParser(description=__doc__.split("\n")[1])
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, default=2, help="splits (default: 2)")
    parser.add_argument("--epochs", type=int, default=None, help="passes over the training set (default: Minibatch's)")
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--units", nargs="+", default=UNITS, choices=UNITS, help="units of the features")
    parser.add_argument("--published", action="store_true", help="rates of the features as they are passed")
    parser.add_argument("--multiples", nargs="+", type=float, help="rates, or multiples of 1 / d")
    options = parser.parse_args()
    options.multiples = options.multiples or (PUBLISHED if options.published else MULTIPLES)
    options.seeds = 1 if options.quick else options.seeds
    warnings.simplefilter("ignore")
    with limit_threads(options.threads):
        for name in names(options.data, options.datasets):
            data = load(name, options.data, quick=options.quick)
            frequent = np.sort(np.argsort(-data.Y.sum(axis=0), kind="stable")[:_MOST_LABELS])
            Y = data.Y[:, frequent]
            rows = np.flatnonzero(Y.any(axis=1))
            compare(DataSet(name, data.X[rows], Y[rows]), options)


if __name__ == "__main__":
    main()
