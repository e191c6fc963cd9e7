r"""
The convex solver by the shape of the problem, against scikit-learn's
=====================================================================

One fit of ``PartialLabelClassifier(IgnoreUnknown(), solver=FullBatch())`` on synthetic features of three shapes, at two
penalties and three proportions of known labels, against one ``LogisticRegression`` (lbfgs) a label on the rows in which
it is known, at the loosest ``tol`` of 1e-4, 1e-5, ... at which its objective lies within 1e-5 of the optimum, or with
its default where that is not reached. Objective, optimum and mean average precision are those of
``bench_linear_probe.py``; a quarter of the rows is for the test.

All methods take turns in one process with equal threads; seconds are medians of ``--repeats``, of processor time, which
other processes disturb less. Where the peer is slow it is timed once (*), or on ``--peer-labels`` labels that are
spread over all frequencies, and scaled (~).

"In products" is the share of our fit that passes in products with X, timed in a fit of its own: what is left is spent
on passes over the logits, on directions and on checks. "Memory" is the highest growth of the process during a fit plus
the size of X, in multiples of that; "-" where the system does not tell. Labels without a known presence and a known
absence are left out. Run with ``--quick`` to see that it runs.
"""

from __future__ import annotations

import argparse
import ctypes
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import sklearn
import torch
from _data import limit_threads, split, synthetic
from bench_linear_probe import (
    EQUAL_OBJECTIVE,
    SKLEARN_TOLERANCES,
    Linear,
    Task,
    fit_sklearn,
    fit_skpartial,
    lower_bounds,
    objectives,
    score,
)

import skpartial
from skpartial.features._matrix import ResidentFeatures
from skpartial.features._scaled import Bfloat16Columns
from skpartial.losses import IgnoreUnknown
from skpartial.solvers import FullBatch

SHAPES = {"long features": (7600, 2048, 20), "many rows": (58_667, 120, 101), "many of both": (26_667, 2048, 80)}
QUICK_SHAPES = {"long features": (400, 128, 6), "many rows": (800, 70, 8), "many of both": (600, 100, 8)}
SLOW_SECONDS = 20.0


def processor_seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def share_in_products(fit: Callable[[], Any]) -> float:
    """Share of a fit that passes in products with X."""
    inside = [0.0]

    def timed(product: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.process_time()
            result = product(*arguments, **options)
            inside[0] += time.process_time() - start
            return result

        return call

    kinds = (ResidentFeatures, Bfloat16Columns)
    patches = [
        patch.object(kind, name, timed(getattr(kind, name))) for kind in kinds for name in ("forward", "backward")
    ]
    for change in patches:
        change.start()
    try:
        total, _ = processor_seconds(fit)
    finally:
        for change in patches:
            change.stop()
    return inside[0] / total


def growth(fit: Callable[[], Any]) -> int | None:
    """Bytes by which the process grows at most during a fit; None where the system does not tell."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not status.exists():
        return None

    def kilobytes(entry: str) -> int:
        return int(next(line for line in status.read_text().splitlines() if line.startswith(entry)).split()[1])

    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed is not there to be taken again
        reset.write_text("5")  # the highest size from here on
    except (AttributeError, OSError):
        return None
    before = kilobytes("VmRSS")
    fit()
    return 1024 * (kilobytes("VmHWM") - before)


def time_peer(task: Task, tol: float, n_labels: int | None) -> tuple[float, Linear | None, str]:
    """Seconds, model and a mark; without a model where only some labels were fitted."""
    total = task.Y.shape[1]
    if n_labels is None or n_labels >= total:
        seconds, model = processor_seconds(lambda: fit_sklearn(task, tol))
        return seconds, model, ""
    some = np.linspace(0, total - 1, n_labels).astype(int)
    part = task._replace(Y=task.Y[:, some])
    seconds, _ = processor_seconds(lambda: fit_sklearn(part, tol))
    return seconds * total / n_labels, None, "~"


def run(name: str, known: float, task: Task, options: argparse.Namespace) -> None:
    def fit() -> Linear:
        return fit_skpartial(task, IgnoreUnknown(), FullBatch())

    exact = task._replace(X=task.X.astype(np.float64))
    bound = lower_bounds(task, fit_skpartial(exact, IgnoreUnknown(), FullBatch(tol=1e-10, max_iter=1000)))
    few = task.Y.shape[1] if options.peer_labels is None else options.peer_labels
    some = np.linspace(0, task.Y.shape[1] - 1, min(few, task.Y.shape[1])).astype(int)
    part = task._replace(Y=task.Y[:, some])

    def peer_is_close(tol: float) -> bool:
        return float(objectives(part, fit_sklearn(part, tol)).mean() / bound[some].mean() - 1) <= EQUAL_OBJECTIVE

    tol = next((tol for tol in SKLEARN_TOLERANCES if peer_is_close(tol)), SKLEARN_TOLERANCES[0])
    fit()
    ours: list[float] = []
    peers: list[float] = []
    mark, peer = "", None
    for _ in range(options.repeats):
        seconds, model = processor_seconds(fit)
        ours.append(seconds)
        if not peers or peers[0] < SLOW_SECONDS:
            seconds, peer, mark = time_peer(task, tol, options.peer_labels)
            peers.append(seconds)
    mark += "*" if len(peers) < options.repeats else ""
    gap = float(objectives(task, model).mean() / bound.mean() - 1)
    grown = growth(fit)
    memory = "-" if grown is None else f"{1 + grown / task.X.nbytes:.1f}"
    mine, theirs = statistics.median(ours), statistics.median(peers)
    other = "" if peer is None else f"{score(task, peer):.4f}"
    print(
        f"| {name} | {known:.0%} | {task.alpha:.2g} | {mine:.3f} | {theirs:.2f}{mark} | {theirs / mine:.1f} | "
        f"{gap:.1e} | {score(task, model):.4f} | {other} | {share_in_products(fit):.0%} | {memory} |",
        flush=True,
    )


def main(options: argparse.Namespace) -> None:
    print(
        f"skpartial {skpartial.__version__}, scikit-learn {sklearn.__version__}, torch {torch.__version__}, "
        f"{platform.machine()}, {options.threads} thread(s), medians of {options.repeats}\n"
    )
    print("| shape | known | alpha | s | lbfgs, s | ratio | above optimum | mAP | lbfgs mAP | in products | memory |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name, shape in (QUICK_SHAPES if options.quick else SHAPES).items():
        if options.shapes and name not in options.shapes:
            continue
        parts = split(synthetic(name, shape, options.seed), test_size=0.25, seed=options.seed)
        for alpha in options.alpha or (1e-3, 1 / len(parts.Y_train)):
            for known in options.known:
                kept = np.random.default_rng(options.seed).random(parts.Y_train.shape) < known
                Y = np.where(kept, 2 * parts.Y_train - 1, 0)
                fittable = (Y == 1).any(axis=0) & (Y == -1).any(axis=0)
                Y, Y_test = Y[:, fittable], 2 * parts.Y_test[:, fittable] - 1
                run(name, known, Task(parts.X_train, Y, parts.X_test, Y_test, alpha), options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), help="default: all")
    parser.add_argument("--known", nargs="+", type=float, default=[1.0, 0.1, 0.02], help="proportions of known labels")
    parser.add_argument("--alpha", nargs="+", type=float, help="L2 penalties (default: 1e-3, and 1 / n, which is C=1)")
    parser.add_argument("--peer-labels", type=int, help="labels that the peer is timed on (default: all)")
    parser.add_argument("--repeats", type=int, default=5, help="fits of which the median is taken (default: 5)")
    parser.add_argument("--threads", type=int, default=1, help="threads of every method (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the data, the split and of which labels are known")
    parser.add_argument("--quick", action="store_true", help="small shapes: does it run, not how fast")
    options = parser.parse_args()
    if options.quick:
        options.repeats = 1
    return options


if __name__ == "__main__":
    chosen = parse()
    with limit_threads(chosen.threads), warnings.catch_warnings():
        # Labels without a second sign, and peers that stop early: the table shows what became of them.
        warnings.simplefilter("ignore")
        main(chosen)
