"""
Label propagation to many rows without labels
=============================================

Processor time and memory of the neighbour search of ``relabeling.Propagation`` for 1,000,000 unlabelled rows of 512
features against 50,000 labelled ones, as a ratio to that of the matrix products alone, which it cannot do without: of
the same rows, in tiles of the same size, in the same process. The features lie in a file and are read as a memory map,
so that the memory reported, how far the peak rises over what the process had before, is that of the search: it does not
grow with the number of unlabelled rows.

The products are timed on ``--sample`` chunks spread over all rows, and multiplied up; so is scikit-learn's
``NearestNeighbors(algorithm="brute")``, on one chunk. ``--rows 100000`` is a tenth of it, and ``--quick`` a hundredth:
the ratio is the same, the memory too.
"""

from __future__ import annotations

import resource
import tempfile
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _data import limit_threads
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from skpartial.relabeling import RelabelingContext
from skpartial.relabeling._neighbors import _BLOCK_ROWS, _TILE_ENTRIES, nearest_rows
from skpartial.training import TrainingData

_WRITTEN_AT_A_TIME = 10_000


class MappedRows:
    """Features in a file, as a fit would give them."""

    def __init__(self, X: NDArray[np.float32]) -> None:
        self.X = X

    def features(self, rows: Any) -> torch.Tensor:
        """Some of the rows."""
        return torch.from_numpy(self.X[rows.numpy()])


def write(path: Path, n: int, d: int) -> NDArray[np.float32]:
    """Rows of a mixture, written by the block."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((100, d)).astype(np.float32)
    X = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, d))
    for start in range(0, n, _WRITTEN_AT_A_TIME):
        size = min(_WRITTEN_AT_A_TIME, n - start)
        X[start : start + size] = centers[rng.integers(100, size=size)] + rng.standard_normal((size, d))
    X.flush()
    return np.load(path, mmap_mode="r")


def peak() -> int:
    """The most memory of the process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def product_seconds(X: NDArray[np.float32], known: torch.Tensor, n_labelled: int, sample: int) -> float:
    """Seconds of the products of all unlabelled rows with the labelled ones, from some chunks."""
    starts = np.linspace(n_labelled, max(n_labelled, len(X) - _BLOCK_ROWS), sample).astype(int)
    taken = []
    for start in starts:
        block = torch.from_numpy(X[start : start + _BLOCK_ROWS].copy())
        before = time.process_time()
        for tile in known.split(_TILE_ENTRIES // _BLOCK_ROWS):
            block @ tile.T
        taken.append((time.process_time() - before) / len(block))
    return float(np.median(taken)) * (len(X) - n_labelled)


def main(options: Namespace) -> None:
    n_labelled, n = options.labelled, options.rows + options.labelled
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        X = write(Path(folder) / "X.npy", n, options.features)
        labels = np.zeros((n, 1), dtype=np.int8)
        data = TrainingData.encode(labels)
        context = RelabelingContext(
            given=data, current=data, epoch=1, n_features=options.features, predictor=MappedRows(X)
        )
        labelled, others = torch.arange(n_labelled), torch.arange(n_labelled, n)
        known = torch.from_numpy(X[:n_labelled].copy())
        print(f"{options.rows:,} x {options.features} unlabelled, {n_labelled:,} labelled, {options.threads} threads")
        print("| neighbours | search, s | products alone, s | ratio | peak memory rises by, MB |")
        print("|---:|---:|---:|---:|---:|")
        for n_neighbors in options.neighbors:
            before = peak()
            products = product_seconds(X, known, n_labelled, options.sample)
            start = time.process_time()
            distances, neighbors = nearest_rows(context, others, labelled, n_neighbors)
            seconds = time.process_time() - start
            products = (products + product_seconds(X, known, n_labelled, options.sample)) / 2
            print(
                f"| {n_neighbors} | {seconds:.1f} | {products:.1f} | {seconds / products:.2f} | {peak() - before:,} |",
                flush=True,
            )
            chunk = X[n_labelled : n_labelled + 500]
            peer = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(known.numpy())
            start = time.process_time()
            far, found = peer.kneighbors(chunk)
            theirs = (time.process_time() - start) / len(chunk) * options.rows
            same = float((found == neighbors[: len(chunk)].numpy()).mean())
            error = float(np.abs(far - distances[: len(chunk)].numpy()).max())
            print(f"scikit-learn, brute force: {theirs:.1f} s; {same:.2%} the same rows, distances within {error:.1e}")


if __name__ == "__main__":
    parser = ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="unlabelled rows (default: 1000000)")
    parser.add_argument("--labelled", type=int, default=50_000, help="labelled rows (default: 50000)")
    parser.add_argument("--features", type=int, default=512, help="features of a row (default: 512)")
    parser.add_argument("--neighbors", type=int, nargs="+", default=[1, 10], help="neighbours (default: 1 10)")
    parser.add_argument("--sample", type=int, default=20, help="chunks by which products are timed (default: 20)")
    parser.add_argument("--threads", type=int, default=2, help="threads (default: 2)")
    parser.add_argument("--scratch", metavar="DIR", help="where 2 GB of features go (default: a temporary folder)")
    parser.add_argument("--quick", action="store_true", help="10,000 rows: does it run")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rows, arguments.sample = 10_000, 3
    with limit_threads(arguments.threads):
        main(arguments)
