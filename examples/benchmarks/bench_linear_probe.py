r"""
A linear probe on frozen features, against scikit-learn and skorch
==================================================================

For each data set and each proportion of known labels this script fits the same linear model by

- **skpartial**: ``PartialLabelClassifier`` with ``FullBatch()``, under the losses ``IgnoreUnknown``, ``PartialBCE`` and
  ``AssumeNegative``, and with ``Minibatch`` under ``IgnoreUnknown``;
- **scikit-learn**: one ``LogisticRegression`` (lbfgs) a label on the rows in which it is known, which is
  ``OneVsRestClassifier(LogisticRegression())`` where all labels are known; once with its default ``tol``, and once with
  the loosest of 1e-4, 1e-5, ... 1e-8 at which its objective lies within 1e-5 of the optimum;
- **skorch**: ``NeuralNet`` with a linear module and a masked binary cross-entropy, by minibatches with Adam.

All but PartialBCE and AssumeNegative minimise the same objective. For label j of n training rows it is

.. math:: F_j = \frac{1}{n} \sum_{i: y_{ij} \ne 0} \ln(1 + e^{-y_{ij} x_{ij}}) + \frac{\alpha}{2} \lVert w_j \rVert^2

so scikit-learn gets C = 1 / (alpha n). The table has the mean of F_j over labels, in float64, and how far it lies above
the optimum, as a fraction of it. The optimum is a lower bound from the dual problem, not the best of the methods.

A label takes part if both signs of it are known in the training part. Average precision is that of the test part, all
of whose labels are known. Features are float32 and as published: nothing is rescaled. alpha is the same for all
methods, chosen by 3-fold cross-validation on known training labels; the learning rates of the two methods that have one
by average precision on the known labels of a third of the training rows, after a fit on the others.

All methods run in this process with the same number of threads, in turn. Seconds are medians over the repeats, of
``fit`` alone and with all choices made. A method whose first fit takes longer than 20 s is timed once.

Run ``python bench_linear_probe.py --data DIR`` on real features, without ``--data`` on digit scenes, with ``--quick``
to see that it runs.
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import sklearn
import skorch
import torch
from _data import Split, add_arguments, limit_threads, load, names, split
from numpy.typing import NDArray
from scipy.special import entr, expit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.multiclass import OneVsRestClassifier
from torch import nn

import skpartial
from skpartial import PartialLabelClassifier
from skpartial.labels import drop_labels
from skpartial.losses import AssumeNegative, IgnoreUnknown, Loss, PartialBCE
from skpartial.metrics import mean_average_precision
from skpartial.solvers import FullBatch, Minibatch, Solver

SLOW_SECONDS = 20.0
EQUAL_OBJECTIVE = 1e-5
SKLEARN_TOLERANCES = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
ALPHAS = (1e-4, 1e-3, 1e-2)
LEARNING_RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
OURS = "skpartial IgnoreUnknown"


class Task(NamedTuple):
    """One training task: labels in {-1, 0, 1} for training, complete ones in {-1, 1} for the test."""

    X: Any
    Y: NDArray[np.int8]
    X_test: Any
    Y_test: NDArray[np.int8]
    alpha: float


class Linear(NamedTuple):
    """A fitted linear model: coefficients (L, d) and intercepts (L,)."""

    coef: NDArray[Any]
    intercept: NDArray[Any]


@dataclass
class Row:
    """A row of the table; None where a number does not apply."""

    data: str
    known: float
    alpha: float
    method: str
    objective: float | None
    gap: float | None
    mean_average_precision: float
    seconds: float
    repeats: int
    ratio: float


# ------------------------------------------------------------------------------------------------------- the methods


def fit_skpartial(task: Task, loss: Loss, solver: Solver) -> Linear:
    clf = PartialLabelClassifier(loss, solver=solver, alpha=task.alpha, device="cpu", random_state=0)
    clf.fit(task.X, task.Y)
    return Linear(clf.coef_, clf.intercept_)


def fit_sklearn(task: Task, tol: float) -> Linear:
    logistic = LogisticRegression(C=1 / (task.alpha * len(task.Y)), tol=tol, max_iter=10_000)
    if (task.Y != 0).all():
        models = OneVsRestClassifier(logistic).fit(task.X, task.Y == 1).estimators_
        return Linear(np.vstack([m.coef_ for m in models]), np.hstack([m.intercept_ for m in models]))
    coef, intercept = [], []
    for labels in task.Y.T:
        known = np.flatnonzero(labels)
        logistic.fit(task.X[known], labels[known])
        coef.append(logistic.coef_[0])
        intercept.append(logistic.intercept_[0])
    return Linear(np.array(coef), np.array(intercept))


class MaskedBCE(nn.Module):
    """Binary cross-entropy of the known entries, divided by the number of all entries."""

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        entries = nn.functional.softplus(-labels * logits)
        return (entries * (labels != 0)).sum() / labels.numel()


def fit_skorch(task: Task, learning_rate: float, batch_size: int, max_epochs: int) -> Linear:
    torch.manual_seed(0)
    net = skorch.NeuralNet(
        nn.Linear,
        module__in_features=task.X.shape[1],
        module__out_features=task.Y.shape[1],
        criterion=MaskedBCE,
        optimizer=torch.optim.Adam,
        optimizer__param_groups=[("weight", {"weight_decay": task.alpha / task.Y.shape[1]})],
        lr=learning_rate,
        batch_size=batch_size,
        max_epochs=max_epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    net.fit(task.X, task.Y.astype(np.float32))
    return Linear(net.module_.weight.detach().numpy(), net.module_.bias.detach().numpy())


# ------------------------------------------------------------------------------------------------------- the numbers


def logits(X: Any, model: Linear) -> NDArray[np.float64]:
    return X.astype(np.float64) @ model.coef.T.astype(np.float64) + model.intercept


def objectives(task: Task, model: Linear) -> NDArray[np.float64]:
    """Objective of each label, in float64."""
    loss = np.where(task.Y != 0, np.logaddexp(0, -task.Y * logits(task.X, model)), 0).sum(axis=0) / len(task.Y)
    return loss + task.alpha / 2 * np.square(model.coef, dtype=np.float64).sum(axis=1)


def lower_bounds(task: Task, model: Linear) -> NDArray[np.float64]:
    r"""What no model's objective can be below, for each label: the dual objective at the probabilities of a model.

    With the probability p_i of the wrong sign it is
    (1/n) sum_i H(p_i) - |sum_i p_i y_i f_i|^2 / (2 alpha n^2), for any p in [0, 1] with sum_i p_i y_i = 0, where H is
    the entropy in nats; the larger side is scaled down to meet the constraint. It is tight at the optimum.
    """
    wrong = np.where(task.Y != 0, expit(-task.Y * logits(task.X, model)), 0)
    sides = np.stack([np.where(np.equal(task.Y, sign), wrong, 0).sum(axis=0) for sign in (-1, 1)])
    present, absent = sides.min(axis=0) / sides[1], sides.min(axis=0) / sides[0]
    wrong *= np.where(task.Y == 1, present, absent)
    entropy = (entr(wrong) + entr(1 - wrong)).sum(axis=0) / len(task.Y)
    gradient = task.X.T.astype(np.float64) @ (wrong * task.Y) / len(task.Y)
    return entropy - np.square(gradient).sum(axis=0) / (2 * task.alpha)


def score(task: Task, model: Linear) -> float:
    return float(mean_average_precision(task.Y_test, logits(task.X_test, model)))


# ----------------------------------------------------------------------------------------------------- the benchmark


def make_task(parts: Split, known: float, alphas: Sequence[float], seed: int) -> Task:
    Y = drop_labels(parts.Y_train, known=known, random_state=seed)
    fittable = (Y == 1).any(axis=0) & (Y == -1).any(axis=0)
    Y = Y[:, fittable]
    alpha = alphas[0]
    if len(alphas) > 1:
        clf = PartialLabelClassifier(IgnoreUnknown(), device="cpu", random_state=seed)
        folds = KFold(3, shuffle=True, random_state=seed)
        alpha = GridSearchCV(clf, {"alpha": alphas}, cv=folds, refit=False).fit(parts.X_train, Y).best_params_["alpha"]
    return Task(parts.X_train, Y, parts.X_test, 2 * parts.Y_test[:, fittable] - 1, alpha)


def best_rate(task: Task, fit: Callable[[Task, float], Linear], seed: int) -> float:
    train, held_out = next(KFold(3, shuffle=True, random_state=seed).split(task.Y))
    part = Task(task.X[train], task.Y[train], task.X[held_out], task.Y[held_out], task.alpha)
    return max(LEARNING_RATES, key=lambda rate: score(part, fit(part, rate)))


def run_task(name: str, known: float, task: Task, options: argparse.Namespace) -> list[Row]:
    dense = task._replace(X=task.X.toarray()) if sp.issparse(task.X) else task
    in_float64 = task._replace(X=task.X.astype(np.float64))
    bound = lower_bounds(task, fit_skpartial(in_float64, IgnoreUnknown(), FullBatch(tol=1e-12, max_iter=1000))).mean()

    def gap(model: Linear) -> float:
        return float(objectives(task, model).mean() / bound - 1)

    tight = next((tol for tol in SKLEARN_TOLERANCES if gap(fit_sklearn(task, tol)) <= EQUAL_OBJECTIVE), None)
    tolerances = sorted({SKLEARN_TOLERANCES[0], tight or SKLEARN_TOLERANCES[-1]}, reverse=True)

    def by_skorch(task: Task, rate: float) -> Linear:
        return fit_skorch(task, rate, options.batch_size, options.epochs)

    def by_minibatch(task: Task, rate: float) -> Linear:
        solver = Minibatch(learning_rate=rate, batch_size=options.batch_size, max_epochs=options.epochs)
        return fit_skpartial(task, IgnoreUnknown(), solver)

    rates = {by_minibatch: best_rate(task, by_minibatch, options.seed)}
    rates[by_skorch] = best_rate(dense, by_skorch, options.seed)
    full_batch = FullBatch() if options.tol is None else FullBatch(tol=options.tol)
    methods: dict[str, Callable[[], Linear]] = {
        OURS: partial(fit_skpartial, task, IgnoreUnknown(), full_batch),
        "skpartial PartialBCE": partial(fit_skpartial, task, PartialBCE(), full_batch),
        "skpartial AssumeNegative": partial(fit_skpartial, task, AssumeNegative(), full_batch),
        **{f"scikit-learn lbfgs, tol={tol:g}": partial(fit_sklearn, task, tol) for tol in tolerances},
        f"skpartial Minibatch, lr={rates[by_minibatch]:g}": partial(by_minibatch, task, rates[by_minibatch]),
        f"skorch, lr={rates[by_skorch]:g}": partial(by_skorch, dense, rates[by_skorch]),
    }
    seconds: dict[str, list[float]] = {method: [] for method in methods}
    models = {}
    for _ in range(options.repeats):
        for method, fit in methods.items():
            if not seconds[method] or seconds[method][0] <= SLOW_SECONDS:
                start = time.perf_counter()
                models[method] = fit()
                seconds[method].append(time.perf_counter() - start)
    ours = statistics.median(seconds[OURS])
    rows = []
    for method, model in models.items():
        median = statistics.median(seconds[method])
        other = "PartialBCE" in method or "AssumeNegative" in method
        row = Row(
            data=name,
            known=known,
            alpha=task.alpha,
            method=method,
            objective=None if other else float(objectives(task, model).mean()),
            gap=None if other else gap(model),
            mean_average_precision=score(task, model),
            seconds=median,
            repeats=len(seconds[method]),
            ratio=median / ours,
        )
        print(table_line(row), flush=True)
        rows.append(row)
    return rows


def table_line(row: Row) -> str:
    objective = "" if row.objective is None or row.gap is None else f"{row.objective:.6g} | {row.gap:.1e}"
    once = "*" if row.repeats == 1 else ""
    return (
        f"| {row.data} | {row.known:.0%} | {row.method} | {objective or ' | '} | {row.mean_average_precision:.4f} | "
        f"{row.seconds:.3f}{once} | {row.ratio:.1f} |"
    )


def summarize(rows: list[Row]) -> None:
    """In how many tasks what is claimed of the linear probe holds in this run."""
    tasks = sorted({(row.data, row.known) for row in rows})
    counts = {"objective within 1e-5 of the optimum": 0, "mean average precision at least the peers', to 1e-3": 0}
    faster = {"scikit-learn": 0, "skorch": 0}
    for task in tasks:
        here = [row for row in rows if (row.data, row.known) == task]
        ours = next(row for row in here if row.method == OURS)
        peers = {peer: [row for row in here if row.method.startswith(peer)][-1] for peer in faster}
        assert ours.gap is not None
        equal, precise = counts
        counts[equal] += ours.gap <= EQUAL_OBJECTIVE
        best = max(row.mean_average_precision for row in peers.values())
        counts[precise] += ours.mean_average_precision >= best - 1e-3
        for peer, row in peers.items():
            faster[peer] += row.ratio > 1
    print(f"\n{OURS}, of {len(tasks)} tasks:\n")
    for claim, count in [*counts.items(), *((f"faster than {peer}", count) for peer, count in faster.items())]:
        print(f"- {claim}: {count}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--known", nargs="+", type=float, default=[0.1, 0.3, 1.0], help="proportions of known labels")
    parser.add_argument(
        "--alpha", nargs="+", type=float, default=ALPHAS, help="L2 penalties to choose from; one is taken as it is"
    )
    parser.add_argument("--tol", type=float, help="of FullBatch (default: its default)")
    parser.add_argument("--batch-size", type=int, default=16, help="of both minibatch methods (default: 16)")
    parser.add_argument("--epochs", type=int, default=25, help="of both minibatch methods (default: 25)")
    parser.add_argument("--repeats", type=int, default=3, help="fits of which the median is taken (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the split and of which labels are known")
    parser.add_argument("--csv", metavar="FILE", help="write the table there, too")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.epochs = 1, 3
    return options


def main(options: argparse.Namespace) -> None:
    rows: list[Row] = []
    print(
        f"skpartial {skpartial.__version__}, scikit-learn {sklearn.__version__}, skorch {skorch.__version__}, torch "
        f"{torch.__version__}, {platform.machine()}, {options.threads} thread(s), seed "
        f"{options.seed}; minibatches of {options.batch_size}, {options.epochs} epochs; medians of up to "
        f"{options.repeats} fits (* one fit)\n"
    )
    for name in names(options.data, options.datasets):
        data = load(name, options.data, quick=options.quick)
        parts = split(data, test_size=0.25, seed=options.seed)
        for known in options.known:
            task = make_task(parts, known, options.alpha, options.seed)
            n, d = task.X.shape
            print(f"\n{name}: {n} training rows, {d} features, {task.Y.shape[1]} labels, alpha={task.alpha:g}\n")
            print("| data | known | method | objective | above optimum | mAP | seconds | time / skpartial |")
            print("|---|---:|---|---:|---:|---:|---:|---:|")
            rows += run_task(name, known, task, options)
    summarize(rows)
    if options.csv:
        with open(options.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, list(asdict(rows[0])))
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)


if __name__ == "__main__":
    chosen = parse()
    with limit_threads(chosen.threads), warnings.catch_warnings():
        # Folds without a label's second sign, and fits stopped early by design: the table shows what became of them.
        warnings.simplefilter("ignore")
        main(chosen)
