"""
Joint matching pursuit: a step of the batch against loops over its rows
=======================================================================

Times :func:`skpartial.regularizers.joint_nnomp` on a batch of queries against the same pursuit in NumPy, row by row,
and against scikit-learn's ``orthogonal_mp`` on features alone, which reconstructs one side, with coefficients of any
sign. All run in this process, in turn, on the same number of threads. A row of the table holds the median time of the
batch and the ratios of the others to it, for several sizes of the bank and numbers of atoms k. The loops run on some of
the queries, and their time is scaled to all.

Features are in float32, as in training; scikit-learn's pursuit works on them as they are.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from _data import limit_threads
from scipy.optimize import nnls
from sklearn.linear_model import orthogonal_mp

from skpartial.regularizers import joint_nnomp

N_QUERIES, N_FEATURES, N_LABELS, N_IN_LOOPS = 32, 512, 80, 4
LABEL_WEIGHT, FEATURE_WEIGHT = 1.0, 0.5


def row_by_row(F: np.ndarray, Y: np.ndarray, f: np.ndarray, y: np.ndarray, k: int) -> np.ndarray:
    """The supports, by the rule of the default mode."""
    supports = np.full((len(f), k), -1)
    lengths = [(atoms**2).sum(1) for atoms in (Y, F)]
    for q, queries in enumerate(zip(y, f)):
        residuals, chosen = list(queries), []
        for _ in range(k):
            products = [atoms @ residual for atoms, residual in zip((Y, F), residuals)]
            weighed = zip((LABEL_WEIGHT, FEATURE_WEIGHT), products, lengths)
            gains = sum(weight * product**2 / length for weight, product, length in weighed)
            gains[(products[0] <= 0) | (products[1] <= 0)] = -1
            gains[chosen] = -1
            best = int(gains.argmax())
            if gains[best] <= 0:
                break
            chosen.append(best)
            for side, (atoms, query) in enumerate(zip((Y, F), queries)):
                coef = nnls(atoms[chosen].T.astype(np.float64), query.astype(np.float64))[0]
                residuals[side] = (query - coef @ atoms[chosen]).astype(np.float32)
        supports[q, : len(chosen)] = chosen
    return supports


def seconds(function: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(size: int, k: int, repeats: int) -> str:
    """A row of the table."""
    rng = np.random.default_rng(size)
    F, f = (np.maximum(rng.standard_normal((n, N_FEATURES)), 0).astype(np.float32) for n in (size, N_QUERIES))
    Y, y = (rng.uniform(-0.5, 1, (n, N_LABELS)).astype(np.float32) for n in (size, N_QUERIES))
    tensors = [torch.from_numpy(part) for part in (F, Y, f, y)]
    weights = {"n_atoms": k, "label_weight": LABEL_WEIGHT, "feature_weight": FEATURE_WEIGHT}
    few_f, few_y = f[:N_IN_LOOPS], y[:N_IN_LOOPS]
    batch = seconds(lambda: joint_nnomp(*tensors, **weights), repeats)
    loop = seconds(lambda: row_by_row(F, Y, few_f, few_y, k), repeats)
    one_side = seconds(lambda: orthogonal_mp(F.T, few_f.T, n_nonzero_coefs=k), repeats)
    found = joint_nnomp(*tensors, **weights).support.numpy()[:N_IN_LOOPS]
    equal = (found == row_by_row(F, Y, few_f, few_y, k)).mean()
    scale = N_QUERIES / N_IN_LOOPS / batch
    return f"{size:7,} {k:2}   {1e3 * batch:10.1f}  {scale * loop:9.1f}x  {scale * one_side:11.1f}x  {equal:13.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 4000, 16000], help="rows in the bank")
    parser.add_argument("--atoms", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a small bank: does it run, not how fast")
    options = parser.parse_args()
    print(f"{N_QUERIES} queries, {N_FEATURES} features, {N_LABELS} labels, {options.threads} thread(s)\n")
    print("   bank  k   batch [ms]  row by row  scikit-learn  equal supports")
    with limit_threads(options.threads):
        for size in [300] if options.quick else options.sizes:
            for k in options.atoms:
                print(measure(size, k, options.repeats), flush=True)


if __name__ == "__main__":
    main()
