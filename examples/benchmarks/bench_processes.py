"""Seconds of a fit in one process and in several: what sharing saves, and what its messages cost.

    OMP_NUM_THREADS=1 python bench_processes.py
    OMP_NUM_THREADS=1 torchrun --standalone --nproc-per-node=2 bench_processes.py

Convex solves (float32, gap 1e-5) and epochs of minibatches on synthetic features, and an epoch of a small convolutional
network on synthetic images. Fits are timed in the first process, the least of some.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from skpartial import PartialLabelClassifier
from skpartial.images import Backbone
from skpartial.solvers import FullBatch, Minibatch

N_FITS = 3


def features(n_rows: int, n_features: int, n_labels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, n_features)).astype(np.float32)
    logits = X @ rng.normal(size=(n_features, n_labels)).astype(np.float32) / n_features**0.5
    complete = np.where(rng.logistic(size=logits.shape) < 2 * logits, 1, -1)
    return X, np.where(rng.random(complete.shape) < 0.5, complete, 0).astype(np.int8)


def seconds(fit: Callable[[], object]) -> float:
    found = []
    for _ in range(N_FITS):
        start = time.perf_counter()
        fit()
        found.append(time.perf_counter() - start)
    return min(found)


def main() -> None:
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    warnings.simplefilter("ignore")
    X, Y = features(20_000, 512, 50)

    def linear(solver: FullBatch | Minibatch) -> Callable[[], object]:
        return lambda: PartialLabelClassifier("iu", solver=solver, alpha=1e-3, random_state=0).fit(X, Y)

    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    )
    images = np.random.default_rng(0).integers(0, 256, (512, 32, 32, 3), dtype=np.uint8)

    def network(**solver: bool) -> Callable[[], object]:
        return lambda: PartialLabelClassifier(
            "iu",
            backbone=Backbone(body, weights=None, image_size=32),
            solver=Minibatch(max_epochs=1, batch_size=64, **solver),
            random_state=0,
        ).fit(images, Y[:512])

    timed = {
        "convex, 20,000 x 512 x 50": linear(FullBatch()),
        "minibatch epoch of a linear head, batches of 200": linear(Minibatch(max_epochs=1)),
        "the same, batches of 2,000": linear(Minibatch(max_epochs=1, batch_size=2000)),
        "epoch of a small network, 512 images of 32 x 32": network(),
        "the same, with shards of its parameters": network(shard_parameters=True),
    }
    for name, fit in timed.items():
        took = seconds(fit)
        if rank == 0:
            print(f"{name}: {took:.2f} s in {size} process{'es' * (size > 1)}", flush=True)


if __name__ == "__main__":
    main()
