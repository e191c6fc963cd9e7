"""
Large loss in convex rounds, against its published minibatch protocol
=====================================================================

The loss is ``LargeLoss("reject")``: with ``FullBatch`` every round solves a convex problem over the whole training set
and then rejects anew; with ``Minibatch`` every batch of 16 rejects for itself, over 25 epochs, as published. Data,
labels, grids and scores are those of ``bench_losses.py``: one presence recorded in each row, hyperparameters and the
epoch or round chosen by mean average precision on a validation part whose labels are complete.

For each seed, the table has the test mean average precision of both choices, and the processor seconds of one fit of
each at these parameters: medians of ``--repeats`` fits that take turns in one process on one thread, with validation
after every epoch or round. Run with ``--quick`` to see that it runs.
"""

from __future__ import annotations

import statistics
import time
import warnings
from argparse import ArgumentParser, Namespace

from _data import DataSet, add_arguments, limit_threads, load, names
from bench_losses import EPOCHS, Candidate, Task, best, candidates, make_task, run

METHODS = {"rounds": "LL-R, in convex rounds", "minibatches": "LL-R"}


def processor_seconds(task: Task, candidate: Candidate, seed: int) -> float:
    start = time.process_time()
    run(task, candidate, seed)
    return time.process_time() - start


def compare(data: DataSet, options: Namespace) -> None:
    k = float(data.Y.sum(axis=1).mean())
    grids = candidates(k, options.epochs)
    ratios, gains = [], []
    for seed in range(options.seeds):
        task = make_task(data, seed)
        chosen, scores = {}, {}
        for method, name in METHODS.items():
            grid = grids[name][:: 4 if options.quick else 1]
            chosen[method], result = best([(candidate, run(task, candidate, seed)) for candidate in grid])
            scores[method] = 100 * result.test
        seconds: dict[str, list[float]] = {method: [] for method in METHODS}
        for _ in range(options.repeats):
            for method in METHODS:
                seconds[method].append(processor_seconds(task, chosen[method], seed))
        mine, theirs = (statistics.median(seconds[method]) for method in METHODS)
        ratios.append(theirs / mine)
        gains.append(scores["rounds"] - scores["minibatches"])
        print(
            f"| {data.name} | {seed} | {scores['rounds']:.2f} | {scores['minibatches']:.2f} | {gains[-1]:+.2f} | "
            f"{mine:.2f} | {theirs:.2f} | {ratios[-1]:.1f} |",
            flush=True,
        )
    print(
        f"| {data.name} | all | | | {statistics.mean(gains):+.2f} | | | {statistics.median(ratios):.1f} |", flush=True
    )


def main(options: Namespace) -> None:
    print("| data | seed | rounds, mAP | minibatches, mAP | gain | rounds, s | minibatches, s | ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name in names(options.data, options.datasets):
        compare(load(name, options.data, quick=options.quick), options)


if __name__ == "__main__":
    parser = ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, default=3, help="splits and draws of labels (default: 3)")
    parser.add_argument("--repeats", type=int, default=5, help="fits of which the median is taken (default: 5)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"of the minibatch protocol (default: {EPOCHS})")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.repeats, arguments.epochs = 1, 1, 3
    with limit_threads(arguments.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main(arguments)
