"""
A grid search of 60 fits: all candidates of a fold together, one by one, and by scikit-learn's logistic regression
==================================================================================================================

On each data set this script times ``fit`` of three searches over 12 candidates and 5 folds, without a final fit:

- **BatchedGridSearchCV** over ``PartialLabelClassifier``: 4 values of alpha and 3 of a parameter of the loss, which is
  the label smoothing of ``AssumeNegative``, or gamma of ``PartialBCE`` (``--loss partial_bce``);
- **GridSearchCV** over the same classifier and grid, one fit after the other;
- **GridSearchCV** over ``OneVsRestClassifier(LogisticRegression())``, which treats unknown labels as absent, as
  ``AssumeNegative`` does, with 12 values of C in the same range, 1 / (alpha n): with its default ``tol``, and with the
  loosest one of 1e-4, 1e-5, ... at which the first fold's objective lies within 1e-5 of the optimum for the weakest and
  the strongest penalty, on some labels (``--peer-labels``). Our searches solve to that gap.

All score by mean average precision over the known entries of the test part. The table has the highest mean score of
those that ran all fits, and for the second search the largest difference of a mean score from the first one's.

Seconds are medians over the repeats; the methods take turns, after a small search that is not timed. What takes longer
than 60 s is timed once (*). The logistic regression is timed on a few fits only, on one fold and with values of C over
the whole range, and its seconds are scaled to 60 fits (~): ``--peer-fits 60`` runs them all. ``--without`` leaves
methods out.

The data are synthetic, of the size of features of a ResNet-50 (5,700 x 2,048, 20 labels) and of a large set with short
features (44,000 x 120, 101 labels), with a part of the labels known (``--known``). With ``--data DIR`` the features of
``ucmerced`` take the place of the first. Run with ``--quick`` to see that it runs.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import sklearn
import torch
from _data import limit_threads, load, synthetic
from bench_linear_probe import EQUAL_OBJECTIVE, SKLEARN_TOLERANCES, fit_sklearn, fit_skpartial, lower_bounds, objectives
from bench_linear_probe import Task as LinearTask
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier

import skpartial
from skpartial import PartialLabelClassifier
from skpartial.labels import drop_labels
from skpartial.losses import IgnoreUnknown
from skpartial.metrics import mean_average_precision_scorer
from skpartial.model_selection import BatchedGridSearchCV, PartialLabelKFold
from skpartial.solvers import FullBatch, Minibatch

SLOW_SECONDS = 60.0
N_FOLDS = 5
ALPHAS = (1e-4, 1e-3, 1e-2, 1e-1)
LOSSES = {
    "an": {"loss": ["an"], "loss__label_smoothing": [0.0, 0.05, 0.1]},
    "partial_bce": {"loss": ["partial_bce"], "loss__gamma": [-1.0, 1.0, 3.0]},
}
N_CANDIDATES = 12
N_FITS = N_CANDIDATES * N_FOLDS
SIZES = {"long features": (5700, 2048, 20), "many rows": (44_000, 120, 101)}
QUICK_SIZES = {"long features": (300, 64, 6), "many rows": (600, 12, 15)}
BATCHED, ONE_BY_ONE, LOGISTIC = "BatchedGridSearchCV", "GridSearchCV", "GridSearchCV, LogisticRegression"
EQUAL = f"{LOGISTIC}, to an equal gap"


class Task(NamedTuple):
    """Features, and labels in {-1, 0, 1}."""

    name: str
    X: NDArray[np.float32]
    Y: NDArray[np.int8]


class Run(NamedTuple):
    """A search that was timed on some of the fits."""

    seconds: float
    n_fits: int
    scores: NDArray[np.float64]


class OneVsRest(OneVsRestClassifier):
    """One logistic regression a label, to which unknown labels are absent."""

    def fit(self, X: Any, y: Any) -> OneVsRest:
        return super().fit(X, y == 1)


# --------------------------------------------------------------------------------------------------------- the tasks


def make_task(name: str, shape: tuple[int, int, int], options: argparse.Namespace) -> Task:
    data = synthetic(name, shape, options.seed)
    return Task(name, data.X, drop_labels(2 * data.Y - 1, known=options.known, random_state=options.seed))


def make_tasks(options: argparse.Namespace) -> list[Task]:
    tasks = []
    for name, shape in (QUICK_SIZES if options.quick else SIZES).items():
        if options.datasets and name not in options.datasets:
            continue
        if name == "long features" and options.data is not None:
            data = load("ucmerced", options.data, quick=options.quick)
            Y = drop_labels(2 * data.Y - 1, known=options.known, random_state=options.seed)
            tasks.append(Task("ucmerced", data.X, Y))
        else:
            tasks.append(make_task(name, shape, options))
    return tasks


# ------------------------------------------------------------------------------------------------------ the searches


def ours(search: type[GridSearchCV], task: Task, options: argparse.Namespace) -> Run:
    solver: Any = Minibatch(max_epochs=options.epochs)
    if options.solver == "full_batch":
        solver = FullBatch() if options.tol is None else FullBatch(tol=options.tol)
    classifier = PartialLabelClassifier(solver=solver, device="cpu", random_state=options.seed)
    grid = {**LOSSES[options.loss], "alpha": ALPHAS}
    folds = PartialLabelKFold(N_FOLDS, random_state=options.seed)
    return timed(search(classifier, grid, cv=folds, refit=False), task, N_FITS)


def equal_tolerance(task: Task, options: argparse.Namespace) -> float:
    """The loosest ``tol`` of the logistic regression with which it comes as near to the optimum as our searches do."""
    train, _ = next(PartialLabelKFold(N_FOLDS, random_state=options.seed).split(task.X, task.Y))
    labels = np.linspace(0, task.Y.shape[1] - 1, min(options.peer_labels, task.Y.shape[1])).astype(int)
    X, Y = task.X[train], np.where(task.Y[np.ix_(train, labels)] == 1, 1, -1)
    tasks = [LinearTask(X, Y, X, Y, alpha) for alpha in (min(ALPHAS), max(ALPHAS))]
    bounds = []
    for part in tasks:
        exact = part._replace(X=X.astype(np.float64))
        bounds.append(lower_bounds(part, fit_skpartial(exact, IgnoreUnknown(), FullBatch(tol=1e-10, max_iter=1000))))

    def is_close(tol: float) -> bool:
        return all(
            objectives(part, fit_sklearn(part, tol)).mean() / bound.mean() - 1 <= EQUAL_OBJECTIVE
            for part, bound in zip(tasks, bounds)
        )

    return next((tol for tol in SKLEARN_TOLERANCES if is_close(tol)), SKLEARN_TOLERANCES[-1])


def logistic(task: Task, options: argparse.Namespace, tol: float = 1e-4) -> Run:
    n_train = len(task.X) * (N_FOLDS - 1) / N_FOLDS
    values = np.geomspace(1 / (max(ALPHAS) * n_train), 1 / (min(ALPHAS) * n_train), N_CANDIDATES)
    folds: Any = PartialLabelKFold(N_FOLDS, random_state=options.seed)
    if options.peer_fits < N_FITS:
        values = values[np.linspace(0, N_CANDIDATES - 1, min(options.peer_fits, N_CANDIDATES)).round().astype(int)]
        folds = list(folds.split(task.X, task.Y))[: max(1, options.peer_fits // N_CANDIDATES)]
    search = GridSearchCV(
        OneVsRest(LogisticRegression(tol=tol, max_iter=1000)),
        {"estimator__C": values},
        scoring=mean_average_precision_scorer,
        cv=folds,
        refit=False,
    )
    return timed(search, task, len(values) * (len(folds) if isinstance(folds, list) else N_FOLDS))


def timed(search: GridSearchCV, task: Task, n_fits: int) -> Run:
    start = time.perf_counter()
    search.fit(task.X, task.Y)
    return Run(time.perf_counter() - start, n_fits, search.cv_results_["mean_test_score"])


# ----------------------------------------------------------------------------------------------------- the benchmark


def run_task(task: Task, options: argparse.Namespace) -> None:
    methods: dict[str, Callable[[], Run]] = {
        BATCHED: lambda: ours(BatchedGridSearchCV, task, options),
        ONE_BY_ONE: lambda: ours(GridSearchCV, task, options),
        LOGISTIC: lambda: logistic(task, options),
    }
    left_out = {"one_by_one": ONE_BY_ONE, "logistic": LOGISTIC}
    for name in options.without:
        methods.pop(left_out[name])
    if LOGISTIC in methods:
        tol = equal_tolerance(task, options)
        methods[f"{EQUAL} (tol={tol:g})"] = lambda: logistic(task, options, tol)
    runs: dict[str, list[Run]] = {method: [] for method in methods}
    for _ in range(options.repeats):
        for method, run in methods.items():
            if not runs[method] or runs[method][0].seconds <= SLOW_SECONDS:
                runs[method].append(run())
    reference = runs[BATCHED][0]
    median = statistics.median(run.seconds for run in runs[BATCHED])
    for method, done in runs.items():
        seconds = statistics.median(run.seconds * N_FITS / run.n_fits for run in done)
        marks = ("*" if len(done) == 1 < options.repeats else "") + ("~" if done[0].n_fits < N_FITS else "")
        difference, best = "", f"{done[0].scores.max():.4f}" if done[0].n_fits == N_FITS else ""
        if method == ONE_BY_ONE:
            difference = f"{np.abs(done[0].scores - reference.scores).max():.1e}"
        print(
            f"| {task.name} | {method} | {done[0].n_fits} | {seconds:.2f}{marks} | {seconds / median:.1f} | {best} | "
            f"{difference} |",
            flush=True,
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument(
        "--data",
        metavar="DIR",
        default=os.environ.get("SKPARTIAL_DATA"),
        help="directory with features/ucmerced_resnet50.npz (default: the environment variable SKPARTIAL_DATA)",
    )
    parser.add_argument("--datasets", nargs="+", metavar="NAME", choices=list(SIZES), help="some of %(choices)s")
    parser.add_argument("--known", type=float, default=0.3, help="proportion of known labels (default: 0.3)")
    parser.add_argument("--loss", choices=list(LOSSES), default="an", help="default: an")
    parser.add_argument("--solver", choices=["full_batch", "minibatch"], default="full_batch", help="of our searches")
    parser.add_argument("--tol", type=float, help="of FullBatch (default: its default)")
    parser.add_argument("--epochs", type=int, default=10, help="of Minibatch (default: 10)")
    parser.add_argument(
        "--without", nargs="+", default=[], choices=["one_by_one", "logistic"], help="methods to leave out"
    )
    parser.add_argument(
        "--peer-fits", type=int, default=4, help="fits of the logistic regression that are timed (default: 4)"
    )
    parser.add_argument(
        "--peer-labels", type=int, default=5, help="labels by which its tol is chosen for an equal gap (default: 5)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="searches of which the median is taken (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of data, folds and which labels are known")
    parser.add_argument("--threads", type=int, default=1, help="threads of every method (default: 1)")
    parser.add_argument("--quick", action="store_true", help="few rows and labels: does it run, not how fast")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.epochs = 1, 2
    return options


def main(options: argparse.Namespace) -> None:
    print(
        f"skpartial {skpartial.__version__}, scikit-learn {sklearn.__version__}, torch {torch.__version__}, "
        f"{platform.machine()}, {options.threads} thread(s), seed {options.seed}, loss {options.loss}, solver "
        f"{options.solver}, {options.known:.0%} of the labels known; medians of up to {options.repeats} searches "
        f"(* one search, ~ scaled to {N_FITS} fits)"
    )
    ours(BatchedGridSearchCV, make_task("warm-up", QUICK_SIZES["many rows"], options), options)
    for task in make_tasks(options):
        print(f"\n{task.name}: {len(task.X)} rows, {task.X.shape[1]} features, {task.Y.shape[1]} labels\n")
        print(f"| data | search | fits timed | seconds for {N_FITS} fits | time / batched | best mAP | difference |")
        print("|---|---|---:|---:|---:|---:|---:|")
        run_task(task, options)


if __name__ == "__main__":
    chosen = parse()
    with limit_threads(chosen.threads), warnings.catch_warnings():
        # Folds without a label's second sign, and fits that stop early: the scores show what became of them.
        warnings.simplefilter("ignore")
        main(chosen)
