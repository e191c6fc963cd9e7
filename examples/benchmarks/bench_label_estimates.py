"""
Where ROLE keeps its label estimates
====================================

The published optimiser of ROLE is Adam over a table of all estimates, which moves every row in every step. The table
here is moved row by row, and what a row has drifted since it was last met is caught up in closed form. The first table
compares both, with other places to keep the estimates, by mean average precision on test rows and by that of the
estimates against the hidden labels of the training rows. Learning rate and all else are equal, so that differences are
those of the optimiser alone. The second shows what a step costs as the training set grows.
"""

from __future__ import annotations

import statistics
import time
import warnings
from argparse import ArgumentParser
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from _data import add_arguments, limit_threads, load, names
from bench_losses import Task, make_task, score
from torch import Tensor

from skpartial import SinglePositiveClassifier
from skpartial.losses import ROLE, StateTensor, Step
from skpartial.solvers import Minibatch


class DenseROLE(ROLE):
    """ROLE with one optimiser over the whole table, as published: the peer."""

    def state_spec(self) -> dict[str, StateTensor]:
        """The table as a tensor that belongs to no rows, so that the loop's own optimiser moves all of it."""
        spec = super().state_spec()
        return {**spec, "estimate_logits": replace(spec["estimate_logits"], per_row=False)}

    def value_and_gradient(self, logits: Tensor, labels: Tensor, state: Any = None, **arguments: Any) -> Step:
        """The gradient of the whole table: zero in the rows that are not in the batch."""
        step = super().value_and_gradient(logits, labels, state, **arguments)
        whole = torch.zeros_like(state["estimate_logits"])
        whole[arguments["rows"]] = step.state["estimate_logits"].to(whole.dtype)
        return Step(step.value, step.gradient, {"estimate_logits": whole})


VARIANTS = {
    "table, dense Adam": lambda k: DenseROLE(k),
    "table, row by row": lambda k: ROLE(k),
    "table in float16, row by row": lambda k: ROLE(k, storage="float16"),
    "factorized, rank 32": lambda k: ROLE(k, estimator="factorized"),
    "network, rank 32": lambda k: ROLE(k, estimator="network"),
    "network of rate 0: stateless": lambda k: ROLE(k, estimator="network", estimate_rate=0.0),
}


def run(task: Task, loss: ROLE, rate: float, seed: int, epochs: int) -> tuple[float, float, float]:
    """Test score, score of the estimates, and seconds an epoch."""
    solver = Minibatch(learning_rate=rate / max(task.X.shape[1], 30), max_epochs=epochs, batch_size=16)
    clf = SinglePositiveClassifier(loss, solver=solver, alpha=0.0, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf.fit(task.X, task.one)
    test, found = score(task.Y_test, clf.decision_function(task.X_test)), score(task.Y, clf.label_estimates_)
    return test, found, clf.history_[-1]["seconds"] / epochs


def main() -> None:
    parser = ArgumentParser(description=__doc__.split("\n")[1])
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    epochs = 3 if arguments.quick else 25
    with limit_threads(arguments.threads):
        for name in names(arguments.data, arguments.datasets):
            tasks = [make_task(load(name, arguments.data, quick=arguments.quick), s) for s in range(arguments.seeds)]
            print(f"\n{name}, {epochs} epochs, seeds 0 to {arguments.seeds - 1}: test score / estimates' score by seed")
            for variant, make in VARIANTS.items():
                rows = [
                    run(task, make((task.Y == 1).sum(1).mean()), 0.3, seed, epochs) for seed, task in enumerate(tasks)
                ]
                shown = "   ".join(f"{test:.4f} / {found:.4f}" for test, found, _ in rows)
                print(f"{variant:30s} {shown}   {1e3 * np.mean([r[2] for r in rows]):7.0f} ms an epoch", flush=True)

        print("\nmilliseconds a step of 16 rows, 100 labels, 64 features, by the number of training rows")
        sizes = (1_000, 4_000) if arguments.quick else (1_000, 10_000, 40_000)
        print(f"{'':30s}" + "".join(f"{n:>10d}" for n in sizes))
        rng = np.random.default_rng(0)
        for variant in list(VARIANTS)[:2]:
            found = []
            for n in sizes:
                X = rng.standard_normal((n, 64), dtype=np.float32)
                Y = (np.arange(100) == rng.integers(100, size=n)[:, None]).astype(np.int8)
                times = []
                for _ in range(3):
                    solver = Minibatch(max_epochs=1, batch_size=16)
                    clf = SinglePositiveClassifier(VARIANTS[variant](2.0), solver=solver, store_state=False)
                    # Steps enough to time, of a training set of n rows.
                    weights = np.ones(n, dtype=np.float32)
                    start = time.perf_counter()
                    clf.fit(X, Y, sample_weight=weights)
                    times.append(1e3 * (time.perf_counter() - start) / (n / 16))
                found.append(statistics.median(times))
            print(f"{variant:30s}" + "".join(f"{t:10.3f}" for t in found), flush=True)


if __name__ == "__main__":
    main()
