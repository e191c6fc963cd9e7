r"""
Squared error in closed form against cross-entropy and scikit-learn's RidgeCV
=============================================================================

Speed: a fit on synthetic features of 16,000 rows and 512 columns with 1,000 labels, of which all presences and absences
are known, by squared error and by cross-entropy, and ten penalties with leave-one-out scores of every row, against
``RidgeCV`` with as many, which computes the same scores. Methods take turns in one process with equal threads; seconds
are medians over ``--repeats`` of processor time, which other processes disturb less, and ratios are to the fit by
squared error.

Quality: on real features, the test mean average precision (MAP) of both surrogates under penalties of 1e-5 to 1e-1
times the mean squared distance of the rows from their mean, with known shares of 10 and 30%, complete labels, and
single positives under AN-LS; a quarter of the rows is for the test. "best alpha" is the best of the penalties in
hindsight, by the mean over all seeds, in these units. There, micro F1 of ``predict`` and the expected calibration
error of ``predict_proba`` in 15 bins of equal width, against complete labels (%). After each mean comes the standard
deviation over seeds, and the difference is squared minus logistic, over the same splits. Run with ``--quick`` to see
that it runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import sklearn
import torch
from _data import Split, add_arguments, limit_threads, load, mean_squared_distance, names, split, synthetic
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import RidgeCV
from sklearn.metrics import f1_score

import skpartial
from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.features._matrix import ResidentFeatures
from skpartial.heads import Linear
from skpartial.labels import LabelMatrix, drop_labels, keep_single_positive
from skpartial.losses import AssumeNegative, IgnoreUnknown
from skpartial.metrics import mean_average_precision
from skpartial.solvers.convex._squared import leave_one_out
from skpartial.training import TrainingData
from skpartial.training._data import EntryWeights
from skpartial.training._problem import Problem

SHAPE, QUICK_SHAPE = (16_000, 512, 1000), (800, 64, 20)
RELATIVE_ALPHAS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
BINS = 15


def processor_seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def path(X: NDArray[Any], Y: NDArray[Any], alphas: list[float]) -> None:
    """Leave-one-out scores of every row under all penalties."""
    features = ResidentFeatures(torch.as_tensor(X))
    problem = Problem(
        features=features,
        data=TrainingData(LabelMatrix.encode(Y)),
        weights=EntryWeights(None, None, features.device, features.dtype),
        loss=IgnoreUnknown(surrogate="squared"),
        head=Linear(),
        relabeling=None,
        regularizer=None,
        alpha=0.0,
        seed=0,
        monitor=lambda record, parameters: False,
    )
    for _ in leave_one_out(problem, alphas):
        pass


def speed(shape: tuple[int, int, int], repeats: int, with_ridge: bool) -> None:
    data = synthetic("synthetic", shape, 0)
    X, Y = data.X, (2 * data.Y - 1).astype(np.int8)
    scale = mean_squared_distance(X)
    alphas = [scale * relative for relative in np.geomspace(1e-6, 1e-1, 10)]

    def fit(surrogate: str) -> Callable[[], Any]:
        return lambda: PartialLabelClassifier(IgnoreUnknown(surrogate=surrogate), alpha=1e-3 * scale).fit(X, Y)

    methods = {
        "squared error, one penalty": fit("squared"),
        "cross-entropy, one penalty": fit("logistic"),
        "squared error, ten penalties with leave-one-out": lambda: path(X, Y, alphas),
    }
    if with_ridge:
        ridge = RidgeCV(alphas=[4 * len(X) * alpha for alpha in alphas])
        methods["RidgeCV, ten penalties with leave-one-out"] = lambda: ridge.fit(X, Y)
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(repeats):
        for name, method in methods.items():
            if turn == 0 or not name.startswith("RidgeCV"):
                seconds[name].append(processor_seconds(method))
    base = statistics.median(seconds["squared error, one penalty"])
    print(f"\n{shape[0]} x {shape[1]}, {shape[2]} labels: processor seconds (times the first)")
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(f"  {name:<50}{median:8.2f} {median / base:8.1f}")


def calibration_error(probability: NDArray[Any], present: NDArray[Any]) -> float:
    """Expected calibration error over all entries."""
    p, y = probability.ravel(), present.ravel()
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    gaps = [abs(p[bins == i].sum() - y[bins == i].sum()) for i in range(BINS)]
    return float(sum(gaps)) / len(p)


def recorded(kind: str, part: Split, seed: int) -> NDArray[np.int8]:
    """What is known of the training labels."""
    Y = (2 * part.Y_train - 1).astype(np.int8)
    if kind == "single positive":
        return np.asarray(keep_single_positive(Y, random_state=seed))
    known = float(kind.split("%")[0]) / 100
    return Y if known == 1 else np.asarray(drop_labels(Y, known=known, random_state=seed))


def scores(kind: str, surrogate: str, alpha: float, part: Split, Y: NDArray[np.int8]) -> tuple[float, float, float]:
    """MAP, micro F1 and calibration error on the test rows, in percent."""
    clf: Any
    if kind == "single positive":
        clf = SinglePositiveClassifier(AssumeNegative(0.05, surrogate=surrogate), alpha=alpha)
    else:
        clf = PartialLabelClassifier(IgnoreUnknown(surrogate=surrogate), alpha=alpha)
    clf.fit(part.X_train, Y)
    precision = mean_average_precision(2 * part.Y_test - 1, clf.decision_function(part.X_test))
    f1 = f1_score(part.Y_test, clf.predict(part.X_test), average="micro", zero_division=0)
    return 100 * precision, 100 * f1, 100 * calibration_error(clf.predict_proba(part.X_test), part.Y_test)


def shown(values: NDArray[Any]) -> str:
    return f"{values.mean():6.2f} ±{values.std():5.2f}"


def quality(name: str, directory: str | None, seeds: int, quick: bool) -> None:
    data = load(name, directory, quick=quick)
    print(f"\n{name}: {len(data.Y)} rows, {data.Y.shape[1]} labels")
    print(f"  {'':<18}{'':<10}{'best alpha':>11}{'MAP, %':>15}{'micro F1':>15}{'calibration':>15}")
    for kind in ("single positive", "10% known", "30% known", "100% known"):
        found = np.empty((2, len(RELATIVE_ALPHAS), seeds, 3))
        for seed in range(seeds):
            part = split(data, test_size=0.25, seed=seed)
            scale, Y = mean_squared_distance(part.X_train), recorded(kind, part, seed)
            for i, surrogate in enumerate(("logistic", "squared")):
                for k, relative in enumerate(RELATIVE_ALPHAS):
                    found[i, k, seed] = scores(kind, surrogate, relative * scale, part, Y)
        best = found[..., 0].mean(2).argmax(1)
        for i, surrogate in enumerate(("logistic", "squared")):
            columns = "  ".join(shown(column) for column in found[i, best[i]].T)
            print(f"  {kind if i == 0 else '':<18}{surrogate:<10}{RELATIVE_ALPHAS[best[i]]:>9.0e}  {columns}")
        print(f"  {'':<18}{'difference':<10}{'':>11}{shown((found[1, best[1]] - found[0, best[0]])[:, 0])}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-ridge", action="store_true", help="leave out RidgeCV, which takes minutes")
    parser.add_argument("--only", choices=("speed", "quality"))
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(f"skpartial {skpartial.__version__}, scikit-learn {sklearn.__version__}, torch {torch.__version__}")
    with limit_threads(options.threads):
        if options.only != "quality":
            speed(QUICK_SHAPE if options.quick else SHAPE, options.repeats, not options.no_ridge)
        if options.only != "speed":
            for name in names(options.data, options.datasets):
                quality(name, options.data, 1 if options.quick else options.seeds, options.quick)


if __name__ == "__main__":
    main()
