r"""
An epoch of a linear head by minibatches, against skorch and a plain PyTorch loop
================================================================================

Each of the three trains the same model, a linear head under cross-entropy with smoothed "unknown is absent" targets, by
Adam on batches of the same size:

- **skpartial**: ``SinglePositiveClassifier`` with ``AssumeNegative(label_smoothing=0.1)`` and ``Minibatch``;
- **skorch**: ``NeuralNet`` with ``nn.Linear`` and ``nn.BCEWithLogitsLoss``;
- **PyTorch**: a ``DataLoader`` over a ``TensorDataset``, ``nn.Linear``, autograd and ``torch.optim.Adam``.

They run in turn, in this process and with the same number of threads, a few epochs each. Seconds are medians of all
epochs but the first of each fit. "bare kernels" is what no loop over the same batches can go below with PyTorch's
kernels: rows gathered, two matrix products and a fused step of Adam, with nothing else; and its share of skpartial's
epoch. Each part is also timed alone. The parts add up to less than all of them in turn where what one leaves in the
processor's cache drives out what the next one needs.

The second table trains candidates that differ in label smoothing, alpha and learning rate: one by one with ``solve``,
and side by side as ``solve_tasks`` does it, to the same coefficients.

With ``--device cuda`` all of them train there, skpartial by CUDA graphs, and the bare kernels are launched one by one.

Run ``python bench_minibatch.py`` for synthetic features of 5,700 x 2,048 and 20 labels, with ``--data DIR`` for real
ones, with ``--quick`` to see that it runs.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import skorch
import torch
from _data import DataSet, add_arguments, limit_threads, load, names
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import skpartial
from skpartial import SinglePositiveClassifier
from skpartial.features._choice import as_features
from skpartial.heads import Linear
from skpartial.labels import LabelMatrix, keep_single_positive
from skpartial.losses import AssumeNegative
from skpartial.solvers import Minibatch
from skpartial.solvers._base import Solver, solve_tasks
from skpartial.training import TrainingData
from skpartial.training._data import EntryWeights
from skpartial.training._problem import Problem, Solution

SHAPE, QUICK_SHAPE = (5_700, 2_048, 20), (600, 64, 6)
SMOOTHING, ALPHA, LEARNING_RATE = 0.1, 1e-4, 1e-3


def synthetic(n_rows: int, n_features: int, n_labels: int) -> DataSet:
    """Features of which the first tell of the labels; about a fifth of the labels are present."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, n_features), dtype=np.float32)
    scores = X[:, :64] @ rng.standard_normal((min(64, n_features), n_labels))
    Y = (scores > np.quantile(scores, 0.8)).astype(np.int8)
    Y[np.arange(n_rows), scores.argmax(axis=1)] = 1
    return DataSet("synthetic", X, Y)


# --------------------------------------------------------------------------------------------- seconds of each epoch


def by_skpartial(X: NDArray[Any], Z: NDArray[Any], batch_size: int, n_epochs: int, device: str) -> list[float]:
    solver = Minibatch(learning_rate=LEARNING_RATE, batch_size=batch_size, max_epochs=n_epochs)
    clf = SinglePositiveClassifier(
        AssumeNegative(label_smoothing=SMOOTHING), solver=solver, alpha=ALPHA, device=device, random_state=0
    ).fit(X, Z)
    return np.diff([record["seconds"] for record in clf.history_]).tolist()


def by_skorch(X: NDArray[Any], Z: NDArray[Any], batch_size: int, n_epochs: int, device: str) -> list[float]:
    torch.manual_seed(0)
    net = skorch.NeuralNet(
        nn.Linear,
        module__in_features=X.shape[1],
        module__out_features=Z.shape[1],
        criterion=nn.BCEWithLogitsLoss,
        optimizer=torch.optim.Adam,
        optimizer__param_groups=[("weight", {"weight_decay": ALPHA / Z.shape[1]})],
        lr=LEARNING_RATE,
        batch_size=batch_size,
        max_epochs=n_epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        device=device,
    ).fit(X, smoothed(Z))
    seconds: list[float] = net.history[1:, "dur"]
    return seconds


def by_loop(X: NDArray[Any], Z: NDArray[Any], batch_size: int, n_epochs: int, device: str) -> list[float]:
    torch.manual_seed(0)
    rows = TensorDataset(torch.from_numpy(X), torch.from_numpy(smoothed(Z)))
    loader = DataLoader(rows, batch_size=batch_size, shuffle=True)
    module, loss = nn.Linear(X.shape[1], Z.shape[1]).to(device), nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(
        [{"params": module.weight, "weight_decay": ALPHA / Z.shape[1]}, {"params": module.bias}], lr=LEARNING_RATE
    )
    seconds = []
    for _ in range(n_epochs):
        start = time.perf_counter()
        for features, targets in loader:
            optimizer.zero_grad()
            loss(module(features.to(device)), targets.to(device)).backward()
            optimizer.step()
        wait(device)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def wait(device: str) -> None:
    """Until the device has done what it was asked to."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def smoothed(Z: NDArray[Any]) -> NDArray[np.float32]:
    return np.where(Z == 1, 1 - SMOOTHING, SMOOTHING).astype(np.float32)


@torch.no_grad()
def by_kernels(X: NDArray[Any], Z: NDArray[Any], batch_size: int, parts: str, device: str) -> float:
    """Seconds of an epoch's gathers, products forward and backward, and steps of Adam: those whose initials are given.

    These are the kernels, and the layout, with which they took the least time.
    """
    data = torch.from_numpy(X).to(device)
    shape = (Z.shape[1], X.shape[1])
    weight, gradient, first, second = (torch.zeros(shape, device=device) for _ in range(4))
    bias, count = torch.zeros(shape[0], 1, device=device), torch.zeros((), device=device)
    batch, step = data[:batch_size].clone(), torch._fused_adam_
    residual = torch.full((shape[0], batch_size), 1e-4, device=device)
    wait(device)
    start = time.perf_counter()
    for rows in torch.randperm(len(data)).to(device).split(batch_size):
        features: Tensor = data.index_select(0, rows) if "g" in parts else batch[: len(rows)]
        if "f" in parts:
            torch.addmm(bias, weight, features.T)
        if "b" in parts:
            torch.mm(residual[:, : len(rows)], features, out=gradient)
        if "a" in parts:
            rates = {"lr": LEARNING_RATE, "beta1": 0.9, "beta2": 0.999, "weight_decay": ALPHA, "eps": 1e-8}
            counts = [count.add_(1)]
            step([weight], [gradient], [first], [second], [], counts, amsgrad=False, maximize=False, **rates)
    wait(device)
    return time.perf_counter() - start


def compare_epochs(data: DataSet, Z: NDArray[Any], batch_size: int, options: argparse.Namespace) -> None:
    methods: dict[str, Callable[..., list[float]]] = {
        "skpartial": by_skpartial,
        "skorch": by_skorch,
        "PyTorch loop": by_loop,
    }
    parts = {"gfba": "bare kernels", "g": "gather", "f": "forward", "b": "backward", "a": "Adam"}
    seconds: dict[str, list[float]] = {name: [] for name in [*methods, *parts.values()]}
    for _ in range(options.repeats):
        for name, method in methods.items():
            seconds[name] += method(data.X, Z, batch_size, options.epochs, options.device)
        for kernels, name in parts.items():
            for _ in range(options.epochs - 1):
                seconds[name].append(by_kernels(data.X, Z, batch_size, kernels, options.device))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name in [*methods, "bare kernels"]:
        ratio = median[name] / median["skpartial"]
        print(f"| {data.name} | {batch_size} | {name} | {median[name]:.4f} | {ratio:.2f} |", flush=True)
    alone = ", ".join(f"{name} {1e3 * median[name]:.1f} ms" for name in list(parts.values())[1:])
    print(f"| {data.name} | {batch_size} | each kernel alone: {alone} | | |", flush=True)


# ------------------------------------------------------------------------------------------------ several candidates


def candidates(data: DataSet, Z: NDArray[Any], batch_size: int, options: argparse.Namespace) -> list[Any]:
    features = as_features(data.X, dtype=torch.float32, device=torch.device(options.device))
    data_of_labels = TrainingData(LabelMatrix(Z.astype(np.int8)))
    weights = EntryWeights(None, None, features.device, features.dtype)
    tasks: list[tuple[Solver, Problem]] = []
    for k in range(options.candidates):
        problem = Problem(
            features=features,
            data=data_of_labels,
            weights=weights,
            loss=AssumeNegative(label_smoothing=0.1 * (k % 5) / 4),
            head=Linear(),
            relabeling=None,
            regularizer=None,
            alpha=10.0 ** -(2 + k // 5 % 4),
            seed=0,
            monitor=lambda record, parameters: False,
        )
        rate = LEARNING_RATE * (1 + k // 20)
        tasks.append((Minibatch(learning_rate=rate, batch_size=batch_size, max_epochs=options.epochs), problem))
    return tasks


def compare_candidates(data: DataSet, Z: NDArray[Any], batch_size: int, options: argparse.Namespace) -> None:
    tasks = candidates(data, Z, batch_size, options)
    ways: dict[str, Callable[[], list[Solution]]] = {
        "side by side": lambda: solve_tasks(tasks),
        "one by one": lambda: [solver.solve(problem) for solver, problem in tasks],
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    found = {}
    for _ in range(options.candidate_repeats):
        for way, solve in ways.items():
            start = time.perf_counter()
            found[way] = solve()
            seconds[way].append(time.perf_counter() - start)
    difference = max(
        float(np.abs(a.parameters["weight"] - b.parameters["weight"]).max() / np.abs(b.parameters["weight"]).max())
        for a, b in zip(*found.values())
    )
    median = {way: statistics.median(values) for way, values in seconds.items()}
    for way in ways:
        ratio = median[way] / median["side by side"]
        row = f"{data.name} | {batch_size} | {len(tasks)} | {way} | {median[way]:.2f} | {ratio:.2f} | {difference:.0e}"
        print(f"| {row} |", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[16, 256], help="(default: 16 256)")
    parser.add_argument("--device", default="cpu", help="where all of them compute (default: cpu)")
    parser.add_argument("--epochs", type=int, default=4, help="of every fit; the first is not counted (default: 4)")
    parser.add_argument("--repeats", type=int, default=5, help="turns of all methods (default: 5)")
    parser.add_argument("--candidates", type=int, default=60, help="trained side by side (default: 60; 0 for none)")
    parser.add_argument("--candidate-repeats", type=int, default=3, help="turns of the candidates (default: 3)")
    options = parser.parse_args()
    if options.quick:
        options.epochs, options.repeats, options.candidates, options.candidate_repeats = 2, 1, 6, 1
    return options


def main(options: argparse.Namespace) -> None:
    print(
        f"skpartial {skpartial.__version__}, skorch {skorch.__version__}, torch {torch.__version__}, "
        f"{platform.machine()}, {options.device}, {options.threads} thread(s); medians of {options.repeats} turns of "
        f"{options.epochs} epochs\n"
    )
    if options.data is None:
        sets = [synthetic(*(QUICK_SHAPE if options.quick else SHAPE))]
    else:
        wanted = options.datasets or ["ucmerced"]
        sets = [load(name, options.data, quick=options.quick) for name in names(options.data, wanted)]
    prepared = []
    for data in sets:
        has_some = data.Y.any(axis=1)
        data = data._replace(X=np.ascontiguousarray(data.X[has_some]), Y=data.Y[has_some])
        prepared.append((data, np.asarray(keep_single_positive(np.where(data.Y == 1, 1, -1), random_state=0))))
        print(f"{data.name}: {data.X.shape[0]} rows, {data.X.shape[1]} features, {data.Y.shape[1]} labels")
    print("\n| data | batch | method | seconds an epoch | time / skpartial |\n|---|---:|---|---:|---:|")
    for data, Z in prepared:
        for batch_size in options.batch_sizes:
            compare_epochs(data, Z, batch_size, options)
    if options.candidates:
        print("\n| data | batch | candidates | way | seconds | ratio | relative difference |")
        print("|---|---:|---:|---|---:|---:|---:|")
        for data, Z in prepared:
            for batch_size in options.batch_sizes:
                compare_candidates(data, Z, batch_size, options)


if __name__ == "__main__":
    chosen = parse()
    with limit_threads(chosen.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main(chosen)
