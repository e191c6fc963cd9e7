"""Fit a memory map that is larger than memory, and measure how much memory that takes.

    python bench_beyond_memory.py --gigabytes 20 --folder /somewhere/with/room

Features are float32 of 512 columns in a file of the given size. Most of the file is a hole, which takes no room on
the disk but is read like any other file; every 16th block of a thousand rows holds numbers, from which ten labels are
made, of which half is known. The rows of zeros have few known labels, which are absent. Held-out rows, a twentieth of
all, choose the epoch. The file is deleted in the end.

Resident memory is what the system counts for the process, pages of the file included, sampled every 20 ms.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from skpartial import PartialLabelClassifier
from skpartial.solvers import FullBatch, Minibatch

N_FEATURES, N_LABELS, BLOCK, EVERY = 512, 10, 1000, 16


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def watched() -> Iterator[list[int]]:
    """The most bytes that were resident, and how many were so before."""
    found, done = [resident(), resident()], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            found[1] = max(found[1], resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()


def make(path: Path, gigabytes: float) -> tuple[np.memmap, np.ndarray]:
    n_rows = int(gigabytes * 1e9 / (4 * N_FEATURES))
    rng = np.random.default_rng(0)
    X = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n_rows, N_FEATURES))
    weights = rng.normal(size=(N_FEATURES, N_LABELS)) / N_FEATURES**0.5
    Y = np.where(rng.random((n_rows, N_LABELS), dtype=np.float32) < 0.05, -1, 0).astype(np.int8)
    for start in range(0, n_rows, BLOCK * EVERY):
        rows = slice(start, min(start + BLOCK, n_rows))
        X[rows] = rng.normal(size=(rows.stop - rows.start, N_FEATURES))
        signs = np.where(rng.logistic(size=(len(X[rows]), N_LABELS)) / 2 < X[rows] @ weights, 1, -1)
        Y[rows] = signs * (rng.random(signs.shape) < 0.5)
    X.flush()
    del X
    return np.load(path, mmap_mode="r"), Y


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=20)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--solver", choices=["auto", "minibatch", "full_batch"], default="auto")
    parser.add_argument("--epochs", type=int, default=1)
    arguments = parser.parse_args()
    solver = {
        "auto": "auto",
        "minibatch": Minibatch(max_epochs=arguments.epochs),
        "full_batch": FullBatch(tol=1e-3),
    }[arguments.solver]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        X, Y = make(Path(folder) / "X.npy", arguments.gigabytes)
        on_disk = os.stat(X.filename).st_blocks * 512
        clf = PartialLabelClassifier("iu", solver=solver, validation_fraction=0.05, random_state=0)
        start = time.perf_counter()
        with watched() as memory:
            clf.fit(X, Y)
        seconds = time.perf_counter() - start
        rows = slice(len(X) // BLOCK // EVERY // 2 * BLOCK * EVERY, None)
        rows = slice(rows.start, rows.start + BLOCK)
        print(
            f"{arguments.solver}: {X.nbytes / 1e9:.1f} GB ({on_disk / 1e9:.1f} GB on disk), {len(X):,} rows, "
            f"{torch.get_num_threads()} threads: {seconds:.0f} s, {memory[1] / 1e9:.2f} GB resident at most "
            f"({memory[0] / 1e9:.2f} GB before), validation score {clf.history_[-1]['validation_score']:.3f}, "
            f"on a thousand rows {clf.score(X[rows], Y[rows]):.3f}"
        )
        del X
    sys.stdout.flush()


if __name__ == "__main__":
    main()
