"""
One epoch on a large label set: time and memory
===============================================

200,000 rows, 5,000 labels, 64 features, one present label a row in a sparse matrix: dense, the labels alone would take
a gigabyte, and a table of label estimates with its optimiser twelve. Every loss trains one epoch in a process of its
own, of which the peak of resident memory is read; what the libraries take before anything is trained is in the first
line. Rows lie around the prototype of their label, so that held-out scores tell training from none.
"""

from __future__ import annotations

import resource
import time
from argparse import ArgumentParser
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from skpartial import SinglePositiveClassifier
from skpartial.losses import ROLE, WARP, AssumeNegative, LargeLoss, Loss, RampWARP
from skpartial.solvers import Minibatch

LOSSES: dict[str, Loss | None] = {
    "nothing: data and libraries": None,
    "AN": AssumeNegative(),
    "LL-R": LargeLoss("reject"),
    "LL-Ct": LargeLoss("correct"),
    "LL-Cp": LargeLoss("correct_permanently"),
    "WARP": WARP(),
    "ramp-WARP": RampWARP(),
    "ROLE, factorized": ROLE(1.0, estimator="factorized"),
    "ROLE, network": ROLE(1.0, estimator="network"),
    "ROLE, table": ROLE(1.0),
    "ROLE, float16 table": ROLE(1.0, storage="float16"),
}


def make_data(rows: int, labels: int, features: int) -> tuple[NDArray[np.float32], sp.csr_array, NDArray[np.int64]]:
    """Rows around the prototype of their label, and what was recorded of them."""
    rng = np.random.default_rng(0)
    prototypes = rng.standard_normal((labels, features), dtype=np.float32)
    label = rng.integers(labels, size=rows)
    X = prototypes[label]
    X += rng.standard_normal(X.shape, dtype=np.float32)
    Y = sp.csr_array((np.ones(rows, np.int8), label, np.arange(rows + 1)), shape=(rows, labels))
    return X, Y, label


def run(name: str, shape: tuple[int, int, int], threads: int) -> tuple[str, float, float]:
    """What came of a loss: how often a held-out row's label is among the ten highest, seconds, and peak gigabytes."""
    torch.set_num_threads(threads)
    X, Y, label = make_data(*shape)
    loss, outcome = LOSSES[name], ""
    start = time.perf_counter()
    if loss is not None:
        held = len(X) // 100
        clf = SinglePositiveClassifier(loss, solver=Minibatch(max_epochs=1), store_state=False, random_state=0)
        try:
            clf.fit(X[held:], Y[held:])
        except ValueError as error:
            outcome = str(error)
        else:
            scores = clf.decision_function(X[:held])
            own = scores[np.arange(held), label[:held]]
            outcome = f"{((scores > own[:, None]).sum(axis=1) < 10).mean():.1%}"
    seconds = time.perf_counter() - start
    return outcome, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--labels", type=int, default=5_000)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--losses", nargs="+", choices=list(LOSSES), default=list(LOSSES), metavar="NAME")
    arguments = parser.parse_args()
    shape: Any = (arguments.rows, arguments.labels, arguments.features)
    print(f"{shape[0]} rows, {shape[1]} labels, {shape[2]} features, {arguments.threads} thread(s), one epoch")
    print(f"{'loss':28s} {'seconds':>8s} {'peak GB':>8s}  label among the ten highest, held-out rows")
    for name in arguments.losses:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            outcome, seconds, gigabytes = pool.submit(run, name, shape, arguments.threads).result()
        print(f"{name:28s} {seconds:8.1f} {gigabytes:8.2f}  {outcome}", flush=True)


if __name__ == "__main__":
    main()
