"""
The network of categories against the linear head: time and memory of a step
============================================================================

``CategoryGNN`` and ``Linear`` on random features, forward and backward, in batches of the same size. They take turns
in one process; seconds are medians. Memory is by how much a step raises the peak of resident memory in a process of its
own, after a first step of one row. The ratio of seconds depends on the width of the features, which the time of the
linear head depends on.

Run ``python bench_category_gnn.py`` on Linux; with ``--quick`` to see that it runs.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor, nn

from skpartial.heads import CategoryGNN, Head, HeadContext, Linear

HEADS: dict[str, Head] = {
    "linear": Linear(),
    "gnn": CategoryGNN(),
    "gnn, hidden_size=16": CategoryGNN(hidden_size=16),
}


def prepared(name: str, n_labels: int, options: argparse.Namespace) -> tuple[nn.Module, Tensor]:
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    head = HEADS[name].build(HeadContext(options.features, n_labels))
    features = torch.randn(options.batch_size, options.features)
    head(features[:1]).sum().backward()
    return head, features


def step(head: nn.Module, features: Tensor) -> tuple[float, float]:
    """Seconds of a pass forward and of one backward."""
    start = time.perf_counter()
    logits = head(features)
    middle = time.perf_counter()
    logits.backward(torch.full_like(logits, 1e-3))
    return middle - start, time.perf_counter() - middle


def megabytes(name: str, n_labels: int, options: argparse.Namespace) -> float:
    """By which a step raises the peak of resident memory."""
    head, features = prepared(name, n_labels, options)
    before = peak()
    step(head, features)
    return peak() - before


def peak() -> float:
    """Of resident memory of this process alone, in MB; getrusage would count the one that started it."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def seconds(n_labels: int, options: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Medians forward and backward of each head."""
    made = {name: prepared(name, n_labels, options) for name in HEADS}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in HEADS}
    for _ in range(options.repeats):
        for name, (head, features) in made.items():
            found[name].append(step(head, features))
    return {name: tuple(map(statistics.median, zip(*values))) for name, values in found.items()}  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--labels", nargs="+", type=int, default=[20, 80, 600, 5000])
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="few labels and features: does it run")
    options = parser.parse_args()
    if options.quick:
        options.labels, options.features, options.repeats = [20, 80], 64, 1
    setting = f"batches of {options.batch_size}, {options.features} features, {options.threads} thread(s)"
    print(f"torch {torch.__version__}, {setting}")
    print("| labels | head | forward, ms | backward, ms | both / linear | MB of a step | parameters / linear |")
    print("|---:|---|---:|---:|---:|---:|---:|")
    for n_labels in options.labels:
        times = seconds(n_labels, options)
        count = {name: sum(p.numel() for p in prepared(name, n_labels, options)[0].parameters()) for name in HEADS}
        for name, (forward, backward) in times.items():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                memory = pool.submit(megabytes, name, n_labels, options).result()
            ratio = (forward + backward) / sum(times["linear"])
            of_time = f"{1e3 * forward:.2f} | {1e3 * backward:.2f} | {ratio:.1f}"
            size = count[name] / count["linear"]
            print(f"| {n_labels} | {name} | {of_time} | {memory:.0f} | {size:.2f} |", flush=True)


if __name__ == "__main__":
    main()
