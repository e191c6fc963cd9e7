r"""
Everything of CUDA in one short run: does it run, is it right, is it fast
========================================================================

For a machine with a GPU that is lent for minutes. One table, of one line for each part, each within its share of nine
minutes and whatever became of those before it:

- **tests**: those marked ``cuda``, which are skipped elsewhere;
- **linear fit**: ``FullBatch`` on the GPU and on the CPU, and how far their coefficients lie apart;
- **search**: ``BatchedGridSearchCV`` against ``GridSearchCV`` over the same classifier, both on the GPU;
- **minibatch epoch**: a linear head by CUDA graphs, by steps launched one by one, and in a bare PyTorch loop;
- **ResNet-50**: fine-tuning on 448 x 448 images in bfloat16, against a bare PyTorch loop on the same tensors.

"peak" is the memory that PyTorch held on the GPU; "fast paths" names those that were given up for the plain ones, which
should be none.

Run ``python bench_cuda.py``; without a GPU it says so and ends with exit code 2. ``--dry-run`` goes through all parts
on the CPU with tiny shapes, to see that the script runs.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from sklearn.model_selection import GridSearchCV
from torch import nn

from skpartial import PartialLabelClassifier
from skpartial.images import Backbone
from skpartial.losses import AssumeNegative
from skpartial.model_selection import BatchedGridSearchCV
from skpartial.solvers import FullBatch, Minibatch
from skpartial.solvers.gradient import _linear_pass

ROOT = Path(__file__).parents[2]
#: Seconds of the whole run, and of the tests.
BUDGET, BUDGET_OF_TESTS = 540, 150


@dataclass
class Sizes:
    """How much is computed."""

    fit: tuple[int, int, int] = (20_000, 2_048, 80)
    search: tuple[int, int, int] = (5_700, 2_048, 20)
    epoch: tuple[int, int, int] = (5_700, 2_048, 20)
    n_images: int = 512
    side: int = 448
    batch_size: int = 32
    network: str = "resnet50"
    n_epochs: int = 3


TINY = Sizes((200, 12, 3), (120, 12, 3), (200, 12, 3), 8, 32, 4, "resnet18", 3)


class Row(NamedTuple):
    """A line of the table."""

    part: str
    what: str
    seconds: float
    note: str = ""


def features(shape: tuple[int, int, int]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Features, and labels in {-1, 0, 1} that depend on some of them; half of the labels are unknown."""
    rng = np.random.default_rng(0)
    n, d, n_labels = shape
    X = rng.standard_normal((n, d), dtype=np.float32)
    scores = X[:, :64] @ rng.standard_normal((min(d, 64), n_labels)) + rng.logistic(size=(n, n_labels))
    return X, (np.where(scores > 0, 1, -1) * (rng.random((n, n_labels)) < 0.5)).astype(np.int8)


def seconds_of(work: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Seconds until all work on the device is done, and what came of it."""
    begun = time.perf_counter()
    found = work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun, found


# ------------------------------------------------------------------------------------------------------------- parts


def tests(device: str, sizes: Sizes) -> Iterator[Row]:
    """The tests that need a GPU; in a dry run they are counted."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider", "tests"]
    if device == "cpu":
        command += ["--collect-only"]
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=BUDGET_OF_TESTS, check=False)
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ["no output"]
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            print(line, flush=True)
    yield Row("tests", "marked cuda", time.perf_counter() - begun, lines[-1].strip("= "))


def linear_fit(device: str, sizes: Sizes) -> Iterator[Row]:
    """One fit to the optimum there and on the CPU."""
    X, Y = features(sizes.fit)

    def fit(where: str) -> PartialLabelClassifier:
        return PartialLabelClassifier("iu", solver=FullBatch(), alpha=1e-3, device=where, random_state=0).fit(X, Y)

    fit(device)  # libraries set themselves up
    there, found = seconds_of(lambda: fit(device), device)
    yield Row("linear fit", f"{sizes.fit} on {device}", there)
    here, expected = seconds_of(lambda: fit("cpu"), "cpu")
    apart = np.linalg.norm(found.coef_ - expected.coef_) / np.linalg.norm(expected.coef_)
    yield Row("linear fit", f"on the CPU, {torch.get_num_threads()} threads", here, f"coefficients {apart:.1e} apart")


def search(device: str, sizes: Sizes) -> Iterator[Row]:
    """A grid search, all candidates of a fold together and one after the other."""
    X, Y = features(sizes.search)
    grid = {"alpha": np.logspace(-4, -1, 5).tolist(), "loss__label_smoothing": [0.0, 0.05, 0.1]}
    clf = PartialLabelClassifier(AssumeNegative(), solver=FullBatch(), device=device, random_state=0)
    together, found = seconds_of(lambda: BatchedGridSearchCV(clf, grid, cv=3).fit(X, Y), device)
    yield Row("search", "BatchedGridSearchCV, 45 fits", together)
    alone, expected = seconds_of(lambda: GridSearchCV(clf, grid, cv=3).fit(X, Y), device)
    scores = (each.cv_results_["mean_test_score"] for each in (found, expected))
    yield Row("search", "GridSearchCV", alone, f"scores {np.abs(np.subtract(*scores)).max():.1e} apart")


def minibatch_epoch(device: str, sizes: Sizes) -> Iterator[Row]:
    """An epoch of a linear head in batches of 16."""
    X, Y = features(sizes.epoch)
    resident = torch.tensor(X, device=device)

    def fit() -> PartialLabelClassifier:
        solver = Minibatch(learning_rate=1e-3, batch_size=16, max_epochs=10)
        return PartialLabelClassifier("an", solver=solver, device=device, random_state=0).fit(resident, Y)

    def epoch(clf: PartialLabelClassifier) -> float:
        return statistics.median(np.diff([record["seconds"] for record in clf.history_]))

    recorded = fit()
    what = "skpartial, CUDA graphs" if device == "cuda" else "skpartial"
    yield Row("minibatch epoch", what, epoch(recorded))
    can_record = _linear_pass.can_record
    _linear_pass.can_record = lambda device: False
    try:
        plain = fit()
    finally:
        _linear_pass.can_record = can_record
    apart = np.linalg.norm(recorded.coef_ - plain.coef_) / np.linalg.norm(plain.coef_)
    yield Row("minibatch epoch", "skpartial, step by step", epoch(plain), f"coefficients {apart:.1e} apart")
    targets = torch.tensor(Y == 1, dtype=torch.float32, device=device)
    head = nn.Linear(X.shape[1], Y.shape[1]).to(device)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3, weight_decay=1e-5, fused=True)

    def loop() -> None:
        for rows in torch.randperm(len(X), device=device).split(16):
            nn.functional.binary_cross_entropy_with_logits(head(resident[rows]), targets[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()

    loop()
    yield Row("minibatch epoch", "bare PyTorch loop", seconds_of(loop, device)[0])


def fine_tuning(device: str, sizes: Sizes) -> Iterator[Row]:
    """Epochs of a network on images in memory."""
    rng = np.random.default_rng(0)
    shape = (sizes.n_images, sizes.side, sizes.side, 3)
    images = rng.integers(0, 256, size=shape, dtype=np.uint8)
    Y = rng.choice(np.array([-1, 1], dtype=np.int8), size=(sizes.n_images, 20))
    backbone = Backbone(sizes.network, weights=None, image_size=sizes.side, augment="flip")
    solver = Minibatch(learning_rate=1e-5, max_epochs=sizes.n_epochs, batch_size=sizes.batch_size)
    clf = PartialLabelClassifier("an", backbone=backbone, solver=solver, device=device, random_state=0)
    clf.fit(images, Y)
    epoch = float(np.diff([record["seconds"] for record in clf.history_]).min())
    pace = f"{sizes.n_images / epoch:.0f} images a second"
    yield Row("fine-tuning", f"skpartial, {sizes.network} at {sizes.side}", epoch, pace)

    network = torchvision.models.get_model(sizes.network, weights=None)
    network.fc = nn.Linear(network.fc.in_features, 20)
    network.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5, fused=True)
    pixels, targets = torch.tensor(images).permute(0, 3, 1, 2), torch.tensor(Y == 1, dtype=torch.float32)

    def loop() -> None:
        for rows in torch.randperm(len(pixels)).split(sizes.batch_size):
            batch = pixels[rows]
            batch = (batch.pin_memory() if device == "cuda" else batch).to(device, non_blocking=True)
            batch = (batch.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                logits = network(batch)
            nn.functional.binary_cross_entropy_with_logits(logits.float(), targets[rows].to(device)).backward()
            optimizer.step()
            optimizer.zero_grad()

    loop()
    bare = seconds_of(loop, device)[0]
    share = f"{sizes.n_images / bare:.0f} images a second; skpartial at {bare / epoch:.0%} of its pace"
    yield Row("fine-tuning", "bare PyTorch loop", bare, share)


PARTS: dict[str, Callable[[str, Sizes], Iterator[Row]]] = {
    "linear fit": linear_fit,
    "minibatch epoch": minibatch_epoch,
    "fine-tuning": fine_tuning,
    "tests": tests,
    "search": search,
}


# ------------------------------------------------------------------------------------------------------------- table


@contextmanager
def noted_fallbacks(found: list[str]) -> Iterator[None]:
    """Collects the names of fast paths that were given up."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    found += [str(w.message).partition(" cannot be used here")[0] for w in caught if "slower" in str(w.message)]


def run(device: str, sizes: Sizes, parts: list[str], budget: float = BUDGET) -> int:
    """Run the parts and print the table; returns how many failed."""
    begun, failed = time.perf_counter(), 0
    print(f"PyTorch {torch.__version__} on {torch.cuda.get_device_name() if device == 'cuda' else 'the CPU'}")
    print(f"{'part':16s} {'what':36s} {'seconds':>9s} {'peak MB':>8s}  note", flush=True)
    for part in parts:
        if time.perf_counter() - begun > budget:
            print(f"{part:16s} left out: no time")
            continue
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        fallbacks: list[str] = []
        try:
            with noted_fallbacks(fallbacks):
                for row in PARTS[part](device, sizes):
                    peak = torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else float("nan")
                    print(f"{row.part:16s} {row.what:36s} {row.seconds:9.4f} {peak:8.0f}  {row.note}", flush=True)
        except Exception as error:
            # The other parts are still worth their minutes.
            failed += 1
            print(f"{part:16s} failed: {type(error).__name__}: {error}", flush=True)
        if fallbacks:
            print(f"{part:16s} fast paths given up: {', '.join(sorted(set(fallbacks)))}", flush=True)
    print(f"{time.perf_counter() - begun:.0f} seconds in all")
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--dry-run", action="store_true", help="on the CPU with tiny shapes: does the script run?")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="some of the parts")
    arguments = parser.parse_args()
    if not arguments.dry_run and not torch.cuda.is_available():
        print(
            "bench_cuda.py needs a CUDA device, and there is none: --dry-run goes through it on the CPU.",
            file=sys.stderr,
        )
        raise SystemExit(2)
    device, sizes = ("cpu", TINY) if arguments.dry_run else ("cuda", Sizes())
    raise SystemExit(1 if run(device, sizes, arguments.parts) else 0)


if __name__ == "__main__":
    main()
