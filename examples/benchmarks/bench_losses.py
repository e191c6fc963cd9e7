"""
Losses on real features, one presence recorded in each row
==========================================================

Test mean average precision of a linear classifier under each loss, with its spread over seeds, after the protocol of
Cole et al. (CVPR 2021, sections 6.1 and 6.2): of every training row one present label is kept, drawn by their
simulator, and everything else is unknown. Learning rate, hyperparameters of the loss and the epoch are chosen by mean
average precision on a validation part whose labels are complete, as published. Every loss has the same solver, the same
number of epochs and the same grid of learning rates; losses with hyperparameters are searched over those as well.

The references are cross-entropy on complete labels (BCE), and on one known presence and one known absence a row (IU).
The next columns are the source's Table 2: how well the hidden labels of the training rows are recovered, by the
classifier and, for ROLE, by its label estimates. "Lost by the end" is how far the validation score falls from the
chosen epoch to the last one: what a loss gains by withstanding memorisation is no gain where the epoch is chosen well.
The second table shows what units the features are in to matter little.

A seed draws the split, the labels kept, and all that is random in training.
"""

from __future__ import annotations

import csv
import json
import time
import warnings
from argparse import ArgumentParser
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from _data import DataSet, add_arguments, load, names, split
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.preprocessing import StandardScaler, normalize

from skpartial import SinglePositiveClassifier
from skpartial.labels import keep_single_positive
from skpartial.losses import (
    BCE,
    ROLE,
    AssumeNegative,
    EntropyMaximization,
    ExpectedPositives,
    GeneralizedRobust,
    IgnoreUnknown,
    LargeLoss,
    Loss,
    WeakAssumeNegative,
)
from skpartial.metrics import mean_average_precision
from skpartial.solvers import FullBatch, Minibatch, Solver

# Multiples of the default learning rate, which is the reciprocal of the number of features.
RATES = (0.03, 0.1, 0.3, 1.0, 3.0)
# Learning rates of ROLE's estimates, which are log odds and so have no other units.
ESTIMATE_RATES = (0.01, 0.03, 0.1)
ALPHAS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
EPOCHS = 25


class Task(NamedTuple):
    """Features and labels of a seed: complete ones in {-1, 1}, and of the training rows what was recorded."""

    X: Any
    Y: NDArray[np.int8]
    one: NDArray[np.int8]
    one_and_one: NDArray[np.int8]
    X_val: Any
    Y_val: NDArray[np.int8]
    X_test: Any
    Y_test: NDArray[np.int8]


class Candidate(NamedTuple):
    """What to train: labels are "one" presence a row, one presence "and one" absence, or "complete"."""

    loss: Loss
    labels: str
    solver: Solver
    alpha: float


class Result(NamedTuple):
    """Scores of the chosen epoch, the epoch, and the validation score after the last one."""

    validation: float
    last: float
    test: float
    recovery: float
    estimates: float
    epoch: int
    seconds: float


def make_task(data: DataSet, seed: int) -> Task:
    """60% of the rows to train on, 20% to choose by, 20% to test on, stratified."""
    outer = split(data, test_size=0.2, seed=seed)
    inner = split(DataSet(data.name, outer.X_train, outer.Y_train), test_size=0.25, seed=seed)
    Y, Y_val, Y_test = (2 * part - 1 for part in (inner.Y_train, inner.Y_test, outer.Y_test))
    one = np.asarray(keep_single_positive(Y, random_state=1200 + seed))
    one_and_one = np.asarray(keep_single_positive(Y, n_absent=1, random_state=1200 + seed))
    return Task(inner.X_train, Y, one, one_and_one, inner.X_test, Y_val, outer.X_test, Y_test)


def candidates(k: float, epochs: int) -> dict[str, list[Candidate]]:
    """The grid of every method, for k present labels in a row on average."""
    losses: dict[str, tuple[str, list[Loss]]] = {
        "BCE, complete labels": ("complete", [BCE()]),
        "IU, one present and one absent": ("and one", [IgnoreUnknown()]),
        "AN": ("one", [AssumeNegative()]),
        "AN-LS": ("one", [AssumeNegative(s) for s in (0.05, 0.1, 0.2)]),
        "WAN": ("one", [WeakAssumeNegative()]),
        "EPR": ("one", [ExpectedPositives(k, reg_weight=w) for w in (1.0, 10.0)]),
        "LL-R": ("one", [LargeLoss("reject", delta=d) for d in (0.001, 0.003, 0.01, 0.03)]),
        "LL-Ct": ("one", [LargeLoss("correct", delta=d) for d in (0.001, 0.003, 0.01, 0.03)]),
        "LL-Cp": ("one", [LargeLoss("correct_permanently", delta=d) for d in (0.001, 0.003, 0.01, 0.03)]),
        "GR": ("one", [GeneralizedRobust()]),
        "EM": ("one", [EntropyMaximization(a) for a in (0.05, 0.2)]),
        "EM + APL": ("one", [EntropyMaximization(0.1, pseudo_weight=b) for b in (0.02, 0.2)]),
    }
    epoch: dict[str, Any] = {"max_epochs": epochs, "batch_size": 16}
    grid = {
        name: [
            Candidate(loss, labels, Minibatch(learning_rate=rate, **epoch), 0.0) for loss, rate in product(kinds, RATES)
        ]
        for name, (labels, kinds) in losses.items()
    }
    grid["ROLE"] = [
        Candidate(ROLE(k, estimate_rate=100 * step / rate), "one", Minibatch(learning_rate=rate, **epoch), 0.0)
        for step, rate in product(ESTIMATE_RATES, RATES)
    ]
    for name, kinds in {
        "AN, to the optimum": [AssumeNegative()],
        "AN-LS, to the optimum": [AssumeNegative(s) for s in (0.05, 0.1, 0.2)],
        "LL-R, in convex rounds": [LargeLoss("reject", delta=d) for d in (0.01, 0.02, 0.04, 0.08)],
        "LL-Ct, in convex rounds": [LargeLoss("correct", delta=d) for d in (0.01, 0.02, 0.04, 0.08)],
        "LL-Cp, in convex rounds": [LargeLoss("correct_permanently", delta=d) for d in (0.01, 0.02, 0.04, 0.08)],
    }.items():
        grid[name] = [Candidate(loss, "one", FullBatch(), alpha) for loss, alpha in product(kinds, ALPHAS)]
    return grid


def score(Y: NDArray[np.int8], scores: NDArray[Any]) -> float:
    """Mean average precision over the labels that are present at all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        return float(mean_average_precision(Y, scores))


def run(task: Task, candidate: Candidate, seed: int) -> Result:
    """Train one candidate; the learning rate is stated as a multiple of the default."""
    torch.set_num_threads(1)
    solver = candidate.solver
    if isinstance(solver, Minibatch):
        assert solver.learning_rate is not None
        scale = 1 / max(task.X.shape[1], 30)
        solver = Minibatch(**{**solver.get_params(), "learning_rate": solver.learning_rate * scale})
    labels = {"complete": task.Y, "one": task.one, "and one": task.one_and_one}[candidate.labels]
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf = SinglePositiveClassifier(candidate.loss, solver=solver, alpha=candidate.alpha, random_state=seed)
        clf.fit(task.X, labels, X_val=task.X_val, y_val=task.Y_val)
    seconds = time.perf_counter() - start
    trained = clf.decision_function(task.X)
    estimates = getattr(clf, "label_estimates_", trained)
    return Result(
        validation=score(task.Y_val, clf.decision_function(task.X_val)),
        last=clf.history_[-1]["validation_score"],
        test=score(task.Y_test, clf.decision_function(task.X_test)),
        recovery=score(task.Y, trained),
        estimates=score(task.Y, estimates),
        epoch=clf.best_epoch_,
        seconds=seconds,
    )


def best(results: list[tuple[Candidate, Result]]) -> tuple[Candidate, Result]:
    """The candidate of the best validation score."""
    return max(results, key=lambda pair: pair[1].validation)


def spread(values: list[float]) -> str:
    """Mean and standard deviation over seeds, in percent."""
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{100 * np.mean(values):5.1f} ± {100 * deviation:3.1f}"


def describe(candidate: Candidate) -> str:
    """What was chosen, in a few words."""
    solver = candidate.solver
    step = f"rate {solver.learning_rate:g}" if isinstance(solver, Minibatch) else f"alpha {candidate.alpha:g}"
    parameters = {
        key: value
        for key, value in candidate.loss.get_params().items()
        if key not in ("expected_positives", "scheme") and value != type(candidate.loss)().get_params()[key]
    }
    return ", ".join([step, *(f"{key} {value}" for key, value in parameters.items())])


def compare(data: DataSet, arguments: Any) -> list[dict[str, Any]]:
    """Every method on every seed of a data set; prints the first table."""
    tasks = [make_task(data, seed) for seed in range(arguments.seeds)]
    epochs = 3 if arguments.quick else EPOCHS
    jobs = []
    for seed, task in enumerate(tasks):
        k = float((task.Y == 1).sum(axis=1).mean())
        for name, grid in candidates(k, epochs).items():
            if arguments.methods is None or name in arguments.methods:
                jobs += [(name, seed, candidate) for candidate in (grid[:2] if arguments.quick else grid)]
    results = Parallel(n_jobs=arguments.n_jobs)(delayed(run)(tasks[seed], c, seed) for _, seed, c in jobs)
    chosen: dict[str, list[tuple[Candidate, Result]]] = {}
    for name in dict.fromkeys(name for name, _, _ in jobs):
        for seed in range(arguments.seeds):
            mine = [(c, r) for (other, s, c), r in zip(jobs, results) if other == name and s == seed]
            chosen.setdefault(name, []).append(best(mine))

    rows, n_labels = tasks[0].Y.shape
    print(
        f"\n{data.name}: {rows} training rows, {data.X.shape[1]} features, {n_labels} labels, {k:.2f} present in a row"
    )
    print(
        f"{'loss':32s} {'test':>12s} {'train, by classifier':>21s} {'by estimates':>13s} {'lost by the end':>15s} "
        f"{'s':>6s}  chosen (seed 0)"
    )
    for name, picks in chosen.items():
        columns = [spread([getattr(r, field) for _, r in picks]) for field in ("test", "recovery", "estimates")]
        if "ROLE" not in name:
            columns[2] = ""
        columns.append(f"{100 * np.mean([r.validation - r.last for _, r in picks]):5.1f}")
        seconds = np.mean([r.seconds for _, r in picks])
        print(
            f"{name:32s} {columns[0]:>12s} {columns[1]:>21s} {columns[2]:>13s} {columns[3]:>15s} {seconds:6.1f}  "
            f"{describe(picks[0][0])}",
            flush=True,
        )
    return [
        {"data": data.name, "method": name, "seed": seed, **result._asdict(), "chosen": describe(candidate)}
        for name, picks in chosen.items()
        for seed, (candidate, result) in enumerate(picks)
    ]


def units(data: DataSet, arguments: Any) -> None:
    """The same losses, with default parameters, on the same features in other units."""
    task = make_task(data, 0)
    k = float((task.Y == 1).sum(axis=1).mean())
    scaler = StandardScaler(with_mean=not hasattr(task.X, "tocsr")).fit(task.X)
    kinds = {
        "as they are": lambda X: X,
        "times 1000": lambda X: X * np.float32(1000),
        "standardised": lambda X: scaler.transform(X).astype(np.float32),
        "rows of unit norm": normalize,
        "unit norm, times 30": lambda X: normalize(X) * np.float32(30),
    }
    losses = {"AN": AssumeNegative(), "ROLE": ROLE(k), "LL-R": LargeLoss("reject"), "GR": GeneralizedRobust()}
    solver = Minibatch(learning_rate=1.0, max_epochs=3 if arguments.quick else EPOCHS, batch_size=16)
    print(f"\n{data.name}: test score at the default learning rate, in other units (seed 0)")
    print(f"{'features':24s}" + "".join(f"{name:>8s}" for name in losses))
    for kind, change in kinds.items():
        changed = task._replace(X=change(task.X), X_val=change(task.X_val), X_test=change(task.X_test))
        grid = [Candidate(loss, "one", solver, 0.0) for loss in losses.values()]
        found = Parallel(n_jobs=arguments.n_jobs)(delayed(run)(changed, c, 0) for c in grid)
        print(f"{kind:24s}" + "".join(f"{100 * r.test:8.1f}" for r in found))


def main() -> None:
    parser = ArgumentParser(description=__doc__.split("\n")[1])
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, ... (default: 5)")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="some of the methods, by the names in the table")
    parser.add_argument("--n-jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--csv", metavar="FILE", help="write one line for each method and seed")
    arguments = parser.parse_args()
    rows = []
    for name in names(arguments.data, arguments.datasets):
        data = load(name, arguments.data, quick=arguments.quick)
        rows += compare(data, arguments)
        if arguments.methods is None:
            units(data, arguments)
    print(f"\n{json.dumps({'epochs': EPOCHS, 'rates': RATES, 'seeds': arguments.seeds})}")
    if arguments.csv:
        with open(arguments.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
