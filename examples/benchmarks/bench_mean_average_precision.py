"""
Mean average precision against a loop over labels
=================================================

Times :func:`skpartial.metrics.mean_average_precision` on 20,000 rows and 80 labels against a loop over
scikit-learn's ``average_precision_score``, which scores the same known entries label by label. Both run in this
process, in turn; a row of the table holds the medians of five runs and their ratio.

The loop runs in one thread. ``mean_average_precision`` takes the threads that torch would; set ``OMP_NUM_THREADS=1``
for the ratio of one thread to one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from sklearn.metrics import average_precision_score

from skpartial.metrics import mean_average_precision

N_ROWS, N_LABELS, REPEATS = 20_000, 80, 5


def loop(y_true: np.ndarray, scores: np.ndarray) -> float:
    values = []
    for labels, column in zip(y_true.T, scores.T):
        known = labels != 0
        values.append(average_precision_score(labels[known] == 1, column[known]))
    return float(np.mean(values))


def seconds(function: Callable[[np.ndarray, np.ndarray], float], y_true: np.ndarray, scores: np.ndarray) -> float:
    start = time.perf_counter()
    function(y_true, scores)
    return time.perf_counter() - start


def main() -> None:
    rng = np.random.default_rng(0)
    print(f"{N_ROWS} rows, {N_LABELS} labels, {torch.get_num_threads()} thread(s), medians of {REPEATS}\n")
    print("scores    present  known   loop [ms]  skpartial [ms]   ratio")
    for present, known in [(0.036, 1.0), (0.5, 1.0), (0.036, 0.5), (0.036, 0.1)]:
        y_true = np.where(rng.random((N_ROWS, N_LABELS)) < present, 1, -1).astype(np.int8)
        y_true[rng.random(y_true.shape) >= known] = 0
        logits = 3 * rng.standard_normal((N_ROWS, N_LABELS)) + y_true
        for scores in (logits, logits.astype(np.float32)):
            difference = abs(mean_average_precision(y_true, scores) - loop(y_true, scores))
            if difference > 1e-12:
                raise AssertionError(f"mean_average_precision is off by {difference}")
            times = [
                (seconds(loop, y_true, scores), seconds(mean_average_precision, y_true, scores)) for _ in range(REPEATS)
            ]
            slow, fast = (1e3 * statistics.median(column) for column in zip(*times))
            print(f"{scores.dtype!s:8}  {present:6.1%}  {known:6.0%}  {slow:9.1f}  {fast:14.1f}  {slow / fast:5.1f}x")


if __name__ == "__main__":
    main()
