"""
The default penalty, by rows and by known entries
=================================================

Test mean average precision by ``alpha`` relative to the mean squared distance of the features from their mean, and that
of ``alpha="auto"``, for some shares of the training rows, and of entries that are known ("single": one recorded
presence per row). The last columns say where the best penalty lies, by a parabola through the best three, and by how
much "auto" misses it. Run with ``--quick`` to see that it runs.
"""

from __future__ import annotations

import warnings
from argparse import ArgumentParser, Namespace

import numpy as np
import scipy.sparse as sp
from _data import DataSet, add_arguments, limit_threads, load, names, split
from numpy.typing import NDArray

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.labels import drop_labels, keep_single_positive
from skpartial.metrics import mean_average_precision

RELATIVE = np.array([3e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2])
_MOST_LABELS, _HELD_OUT = 100, 0.3


def seen(complete: NDArray[np.int8], setting: str, seed: int) -> NDArray[np.int8]:
    """Labels (1 present, 0 absent) as a share of them is known, or one presence per row."""
    if setting == "single":
        return np.asarray(keep_single_positive(complete, random_state=seed))
    if float(setting) == 1:
        return 2 * complete - 1
    return np.asarray(drop_labels(complete, known=float(setting), by="entry", random_state=seed))


def scores(data: DataSet, setting: str, share: float, seed: int, device: str) -> tuple[int, NDArray[np.float64]]:
    """Number of training rows, and the score of each penalty and of "auto"."""
    parts = split(data, test_size=_HELD_OUT, seed=seed)
    rows = np.random.default_rng(seed).permutation(len(parts.Y_train))[: max(2, int(share * len(parts.Y_train)))]
    X, Z = parts.X_train[rows], seen(parts.Y_train[rows], setting, seed)
    dense = X.toarray() if sp.issparse(X) else X
    distance = float(np.square(dense - dense.mean(0)).sum(1).mean())
    kind = SinglePositiveClassifier if setting == "single" else PartialLabelClassifier
    fixed = {"threshold": 0.5} if setting == "single" else {}  # which moves no ranking
    truth, found = 2 * parts.Y_test - 1, []
    for alpha in [*(RELATIVE * distance), "auto"]:
        clf = kind(alpha=alpha, device=device, **fixed).fit(X, Z)
        found.append(100 * float(mean_average_precision(truth, clf.decision_function(parts.X_test))))
    return len(rows), np.array(found)


def peak(values: NDArray[np.float64]) -> float:
    """Where a parabola through the best value and its neighbours is highest."""
    at, logs = int(values.argmax()), np.log10(RELATIVE)
    if at in (0, len(values) - 1):
        return float(RELATIVE[at])
    a, b, _ = np.polyfit(logs[at - 1 : at + 2], values[at - 1 : at + 2], 2)
    return float(10 ** (-b / (2 * a)))


def main(options: Namespace) -> None:
    columns = " ".join(f"{alpha:>5.0e}" for alpha in RELATIVE)
    print(f"{'data':12} {'known':>6} {'rows':>6} {columns}  auto  best at  missed")
    for name in names(options.data, options.datasets):
        data = load(name, options.data, quick=options.quick, n_scenes=options.scenes)
        frequent = np.sort(np.argsort(-data.Y.sum(axis=0), kind="stable")[:_MOST_LABELS])
        kept = data.Y[:, frequent].any(axis=1)
        data = DataSet(name, data.X[np.flatnonzero(kept)], data.Y[kept][:, frequent])
        for setting in options.settings:
            for share in options.rows:
                runs = [scores(data, setting, share, seed, options.device) for seed in range(options.seeds)]
                mean = np.mean([found for _, found in runs], axis=0)
                best = mean[:-1].max()
                told = " ".join(f"{value:5.1f}" for value in mean)
                print(
                    f"{name:12} {setting:>6} {runs[0][0]:>6} {told}  {peak(mean[:-1]):.1e}  {best - mean[-1]:.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    parser = ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    add_arguments(parser)
    parser.add_argument(
        "--settings", nargs="+", default=["0.03", "0.1", "0.3", "1", "single"], help="shares known, or single"
    )
    parser.add_argument("--rows", nargs="+", type=float, default=[1.0], help="shares of the rows (default: 1)")
    parser.add_argument("--scenes", type=int, default=2000, help="of the digit scenes (default: 2000)")
    parser.add_argument("--seeds", type=int, default=4, help="splits (default: 4)")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.settings, arguments.seeds = ["0.3", "single"], 1
    warnings.simplefilter("ignore")
    with limit_threads(arguments.threads):
        main(arguments)
