"""
The table of the README: skpartial against what people do without it
====================================================================

Aerial photographs (UC Merced, ResNet-50 features, 17 labels) with one label in ten known, or one presence per
photograph. The table shows mean average precision and micro F1 on test photographs with complete labels, and the share
of all labels that are predicted to be "unknown".

Each of scikit-learn's ways is one LogisticRegression per label on standardised features: at C=1, the default, and at
the C of a grid with the best mean average precision on the test photographs, which a user could not know. skpartial
runs on raw features, with its defaults and with the penalty that its cross-validation chooses from the known labels.
Each figure is the mean and the standard deviation over ``--seeds`` splits. ``--quick`` shows that it runs; without
``--data`` it uses digit scenes.
"""

from __future__ import annotations

import warnings
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from _data import Split, add_arguments, limit_threads, load, names, split
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.preprocessing import StandardScaler

from skpartial import (
    PartialLabelClassifier,
    PartialLabelClassifierCV,
    SinglePositiveClassifier,
    SinglePositiveClassifierCV,
)
from skpartial.labels import drop_labels, keep_single_positive
from skpartial.metrics import f1, mean_average_precision

PENALTIES = [1e-4, 1e-3, 1e-2, 0.1, 1]


class Answer(NamedTuple):
    """What a method says of test rows, shape (n, L) each: scores, and labels with 0 for those it calls unknown."""

    scores: NDArray[np.floating]
    labels: NDArray[np.integer]


def by_column(X: NDArray, Y: NDArray, X_test: NDArray, penalty: float) -> Answer:
    """One LogisticRegression a label, on the rows where it is 1 or -1."""
    scores = np.zeros((len(X_test), Y.shape[1]))
    for j, column in enumerate(Y.T):
        known = column != 0
        signs = np.unique(column[known])
        if len(signs) == 2:
            model = LogisticRegression(C=penalty, max_iter=1000).fit(X[known], column[known])
            scores[:, j] = model.decision_function(X_test)
        elif len(signs) == 1:
            scores[:, j] = signs[0]
    return Answer(scores, np.where(scores > 0, 1, -1))


def unknown_as_absent(X: NDArray, Y: NDArray, X_test: NDArray, penalty: float) -> Answer:
    return by_column(X, np.where(Y == 1, 1, -1), X_test, penalty)


def multi_output(X: NDArray, Y: NDArray, X_test: NDArray, penalty: float) -> Answer:
    """The matrix of -1, 0 and 1 as it is: three classes a label, scored by the probability of the class 1."""
    model = MultiOutputClassifier(LogisticRegression(C=penalty, max_iter=1000)).fit(X, Y)
    scores = np.column_stack([probabilities[:, -1] for probabilities in model.predict_proba(X_test)])
    return Answer(scores, model.predict(X_test))


def by_skpartial(
    clf: PartialLabelClassifier | SinglePositiveClassifier, X: NDArray, Y: NDArray, X_test: NDArray
) -> Answer:
    clf.fit(X, Y)
    return Answer(clf.decision_function(X_test), 2 * clf.predict(X_test) - 1)


PEERS: dict[str, Callable[..., Answer]] = {
    "unknown as absent": unknown_as_absent,
    "a column's known rows": by_column,
    "MultiOutputClassifier": multi_output,
}


def figures(answer: Answer, Y_test: NDArray) -> tuple[float, float, float]:
    """Mean average precision, micro F1 and the share of labels called unknown, in percent."""
    present = (answer.labels == 1).astype(int)
    of_labels = f1(Y_test, present, average="micro"), np.mean(answer.labels == 0)
    return tuple(100 * float(value) for value in (mean_average_precision(Y_test, answer.scores), *of_labels))


def run(parts: Split, seed: int, penalties: list[float]) -> dict[tuple[str, str], tuple[float, float, float]]:
    complete, Y_test = 2 * parts.Y_train - 1, 2 * parts.Y_test - 1
    X, X_test = parts.X_train, parts.X_test
    scaler = StandardScaler().fit(X)
    scaled = scaler.transform(X), scaler.transform(X_test)
    ceiling = by_skpartial(PartialLabelClassifier("bce"), X, complete, X_test)
    results = {("all labels known", "complete"): figures(ceiling, Y_test)}
    known_labels = {
        "a tenth known": drop_labels(complete, known=0.1, random_state=seed),
        "one presence": keep_single_positive(complete, random_state=seed),
    }
    for task, Y in known_labels.items():
        presences_only = not (Y == -1).any()
        default = SinglePositiveClassifier() if presences_only else PartialLabelClassifier()
        results["skpartial, defaults", task] = figures(by_skpartial(default, X, Y, X_test), Y_test)
        searched = (SinglePositiveClassifierCV if presences_only else PartialLabelClassifierCV)(random_state=0)
        results["skpartial, cross-validated", task] = figures(by_skpartial(searched, X, Y, X_test), Y_test)
        for name, peer in PEERS.items():
            if task == "one presence" and peer is not unknown_as_absent:
                continue  # no column has a second class, or the two that there are mean present and absent
            found = {penalty: figures(peer(scaled[0], Y, scaled[1], penalty), Y_test) for penalty in penalties}
            results[f"{name}, C=1", task] = found[1]
            results[f"{name}, best C", task] = max(found.values())
    return results


def main() -> None:
    parser = ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, default=5, help="splits (default: 5)")
    options = parser.parse_args()
    wanted = options.datasets or names(options.data, None)[:1]
    for name in wanted:
        data = load(name, options.data, quick=options.quick)
        collected = defaultdict(list)
        for seed in range(1 if options.quick else options.seeds):
            parts = split(data, test_size=0.25, seed=seed)
            for key, values in run(parts, seed, [0.01, 1] if options.quick else PENALTIES).items():
                collected[key].append(values)
        print(f"\n{name}: {len(parts.X_train)} training rows, {len(collected[key])} splits\n")
        print("| labels | method | mAP | micro F1 | called unknown |\n|---|---|---:|---:|---:|")
        for (method, task), rows in sorted(collected.items(), key=lambda item: item[0][1]):
            cells = [f"{np.mean(column):.1f} ± {np.std(column):.1f}" for column in zip(*rows)]
            print(f"| {task} | {method} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    with limit_threads(1), warnings.catch_warnings():
        # scikit-learn's fits that stop at max_iter, and rare labels of which one sign is known.
        warnings.simplefilter("ignore")
        main()
