"""
What rows and entries without labels are worth
==============================================

Three tables, each the mean and the standard deviation over seeds of the mean average precision (percent) on a test
part of a quarter of the rows, with complete labels.

``rows``
    5, 10 and 20% of the training rows are labelled in full, the others not at all (Cevikalp et al. 2020, section 3.1,
    on the data at hand): the labelled rows alone, against relabellings that use all rows. ``digits`` are images of one
    label; on them the paper's accuracy is that of the highest score.
``entries``
    Of each label 3, 10 and 30% of the presences and of the absences are known, so that most rows are known in part.
``noise``
    10 to 50% of the training rows get labels that are drawn from the frequencies of the labels (Cevikalp et al. 2020,
    figure 3): RampWARP, WARP and cross-entropy; mean average precision and F1 of the three highest scores, per class.

Every method chooses its ``alpha`` by three-fold cross-validation on the training labels of the first seed, corrupted
ones where that is the experiment, from 1e-5 to 1e-3 times the mean squared distance of the features from their mean,
and keeps it for the other seeds. Ranking losses are trained by minibatches, with steps that shrink to nothing.
Peers are scikit-learn's, one label at a time: ``SelfTrainingClassifier`` over ``LogisticRegression``, and
``LabelSpreading`` over 10 neighbours of unit vectors. Run with ``--quick`` to see that it runs.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import normalize
from sklearn.semi_supervised import LabelSpreading as PeerSpreading
from sklearn.semi_supervised import SelfTrainingClassifier

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from _data import DataSet, Split, add_arguments, limit_threads, load, names, split

from skpartial import PartialLabelClassifier
from skpartial.labels import drop_labels
from skpartial.losses import WARP, RampWARP
from skpartial.metrics import mean_average_precision, top_k_scores
from skpartial.model_selection import PartialLabelKFold, PartialLabelShuffleSplit
from skpartial.regularizers import TransductiveHinge
from skpartial.relabeling import ClassDistribution, LabelSpreading, Propagation
from skpartial.solvers import Minibatch

ALPHAS = (1e-5, 1e-4, 1e-3)
Labels = NDArray[np.int8]
#: From training features, labels in {-1, 0, 1}, test features and a seed to scores of the test rows.
Method = Callable[[Any, Labels, Any, int], NDArray[Any]]


def spread_of(X: Any) -> float:
    """Mean squared distance of the features from their mean."""
    return float(np.var(X, axis=0).sum())


def tuned(relabeling: Any = None, loss: Any = "iu", *, regularizer: Any = None, ranking: bool = False) -> Method:
    """A linear classifier, its penalty by cross-validation on the first seed; ranking losses by minibatches."""
    chosen: dict[str, float] = {}
    solver = Minibatch(max_epochs=25, schedule="cosine") if ranking else "auto"

    def scores(X: Any, Y: Labels, X_test: Any, seed: int) -> NDArray[Any]:
        clf = PartialLabelClassifier(
            loss, relabeling=relabeling, regularizer=regularizer, solver=solver, random_state=seed
        )
        if seed == 0:
            grid = {"alpha": [alpha * spread_of(X) for alpha in ALPHAS]}
            cv = PartialLabelKFold(3, random_state=seed, unlabelled="train")
            chosen.update(GridSearchCV(clf, grid, cv=cv, refit=False).fit(X, Y).best_params_)
        return np.asarray(clf.set_params(**chosen).fit(X, Y).decision_function(X_test))

    return scores


def labelled_only(method: Method) -> Method:
    """A method on the rows that are labelled."""

    def scores(X: Any, Y: Labels, X_test: Any, seed: int) -> NDArray[Any]:
        rows = (Y != 0).any(axis=1)
        return method(X[rows], Y[rows], X_test, seed)

    return scores


def read_off(X: Any, Y: Labels, X_test: Any, seed: int) -> NDArray[Any]:
    """Label spreading, and for new rows the mean of the 10 nearest rows by cosine."""
    clf = PartialLabelClassifier("iu", relabeling=LabelSpreading(), alpha=ALPHAS[1] * spread_of(X), random_state=seed)
    spread = clf.fit(X, Y).spread_labels_
    reader = KNeighborsRegressor(
        10, metric="cosine", weights=lambda distances: np.maximum(1 - distances, 0) ** 8 + 1e-9
    )
    return np.asarray(reader.fit(X, np.nan_to_num(spread)).predict(X_test))


def label_by_label(make: Callable[[], Any], *, unit: bool = False) -> Method:
    """A classifier of scikit-learn's for each label, unlabelled rows marked by -1."""

    def scores(X: Any, Y: Labels, X_test: Any, seed: int) -> NDArray[Any]:
        X, X_test = (normalize(X), normalize(X_test)) if unit else (X, X_test)
        found = np.zeros((len(X_test), Y.shape[1]))
        for j, y in enumerate(Y.T):
            if {-1, 1} <= set(y.tolist()):
                target = np.where(y == 0, -1, y == 1)
                probabilities = make().fit(X, target).predict_proba(X_test)[:, 1]
                # Rows that nothing spreads to.
                found[:, j] = np.nan_to_num(probabilities, nan=float((y == 1).sum() / (y != 0).sum()))
        return found

    return scores


def self_training(X: Any, Y: Labels, X_test: Any, seed: int) -> NDArray[Any]:
    """scikit-learn's, with the middle penalty for every label."""
    C = 1 / (ALPHAS[1] * spread_of(X) * max(1, int((Y != 0).sum(axis=0).mean())))
    return label_by_label(lambda: SelfTrainingClassifier(LogisticRegression(C=C)))(X, Y, X_test, seed)


PEERS: dict[str, Method] = {
    "scikit-learn's SelfTrainingClassifier": self_training,
    "scikit-learn's LabelSpreading": label_by_label(lambda: PeerSpreading("knn", n_neighbors=10), unit=True),
}
ROWS: dict[str, Method] = {
    "labelled rows alone": labelled_only(tuned()),
    "Propagation": tuned(Propagation()),
    "LabelSpreading": tuned(LabelSpreading()),
    "LabelSpreading, read off by 10 nearest rows": read_off,
    "ClassDistribution": tuned(ClassDistribution()),
    "RampWARP, labelled rows alone": labelled_only(tuned(loss=RampWARP(), ranking=True)),
    "RampWARP with Propagation (the paper's)": tuned(Propagation(), RampWARP(), ranking=True),
    "RampWARP with TransductiveHinge": tuned(
        loss=RampWARP(unknown="ignore"), regularizer=TransductiveHinge(), ranking=True
    ),
    **PEERS,
}
ENTRIES: dict[str, Method] = {
    "known entries alone (IU)": tuned(),
    "known entries alone (PartialBCE, the default)": tuned(loss="partial_bce"),
    "LabelSpreading": tuned(LabelSpreading()),
    "LabelSpreading, read off by 10 nearest rows": read_off,
    "ClassDistribution": tuned(ClassDistribution()),
    "Propagation of entries": tuned(Propagation(fill="entries", n_neighbors=5)),
    **PEERS,
}
NOISE: dict[str, Method] = {
    "RampWARP": tuned(loss=RampWARP(), ranking=True),
    "WARP": tuned(loss=WARP(), ranking=True),
    "cross-entropy": tuned(),
}


def digits(quick: bool) -> DataSet:
    """Images of one digit each."""
    X, y = load_digits(return_X_y=True)
    chosen = slice(None, 600 if quick else None)
    return DataSet("digits", X[chosen].astype(np.float32), (y[chosen, None] == np.arange(10)).astype(np.int8))


def label_rows(Y: NDArray[np.int8], share: float, seed: int) -> Labels:
    """Labels of a share of the rows, all labels divided in proportion."""
    complete = 2 * Y - 1
    kept, _ = next(PartialLabelShuffleSplit(train_size=share, random_state=seed).split(Y, complete))
    labels = np.zeros_like(complete)
    labels[kept] = complete[kept]
    return labels


def label_entries(Y: NDArray[np.int8], share: float, seed: int) -> Labels:
    """Labels of a share of the presences and absences of each label."""
    return np.asarray(drop_labels(2 * Y - 1, known=share, by="label", random_state=seed))


def corrupt(Y: NDArray[np.int8], share: float, seed: int) -> Labels:
    """A share of the rows with labels drawn from the frequencies, until there is one."""
    rng, noisy = np.random.default_rng(seed), Y.copy()
    frequencies = Y.mean(axis=0)
    for row in rng.permutation(len(Y))[: round(share * len(Y))]:
        noisy[row] = 0
        while not noisy[row].any():
            noisy[row] = rng.random(Y.shape[1]) < frequencies
    return 2 * noisy - 1


EXPERIMENTS: dict[str, tuple[dict[str, Method], Callable[..., Labels], tuple[float, ...], tuple[str, ...]]] = {
    "rows": (ROWS, label_rows, (0.05, 0.1, 0.2), ("digits", "ucmerced", "scene", "yeast")),
    "entries": (ENTRIES, label_entries, (0.03, 0.1, 0.3), ("ucmerced", "yeast")),
    "noise": (NOISE, corrupt, (0.1, 0.2, 0.3, 0.4, 0.5), ("ucmerced", "scene", "yeast")),
}


def measures(experiment: str, data: DataSet, truth: Labels, scores: NDArray[Any]) -> Iterator[float]:
    """The numbers of a cell, in percent."""
    yield 100 * mean_average_precision(truth, scores)
    if experiment == "noise":
        yield 100 * top_k_scores(truth, scores, k=min(3, truth.shape[1])).f1
    elif data.name == "digits":
        yield 100 * float((scores.argmax(axis=1) == truth.argmax(axis=1)).mean())


def cell(values: list[list[float]]) -> str:
    """Mean and standard deviation of every measure over the seeds."""
    spread = statistics.stdev if len(values) > 1 else lambda _: 0.0
    return " / ".join(f"{statistics.mean(each):.1f} ± {spread(each):.1f}" for each in zip(*values))


def main(options: Namespace) -> None:
    methods, make, shares, datasets = EXPERIMENTS[options.experiment]
    shares = tuple(options.shares or shares)
    available = ["digits", *names(options.data, None)]
    for name in options.datasets or [name for name in datasets if name in available] or available[-1:]:
        data = digits(options.quick) if name == "digits" else load(name, options.data, quick=options.quick)
        print(f"| {name} | {' | '.join(f'{share:.0%}' for share in shares)} | s |")
        print(f"|---|{'---|' * (len(shares) + 1)}", flush=True)
        for method, score in methods.items():
            if options.methods is not None and not any(part in method for part in options.methods):
                continue
            start, cells = time.process_time(), []
            for share in shares:
                values = []
                for seed in range(options.seeds):
                    part: Split = split(data, test_size=0.25, seed=seed)
                    Y = make(part.Y_train, share, seed)
                    found = score(part.X_train, Y, part.X_test, seed)
                    values.append(list(measures(options.experiment, data, 2 * part.Y_test - 1, found)))
                cells.append(cell(values))
            print(f"| {method} | {' | '.join(cells)} | {time.process_time() - start:.0f} |", flush=True)
        print()


if __name__ == "__main__":
    parser = ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--experiment", choices=list(EXPERIMENTS), default="rows")
    parser.add_argument("--methods", nargs="+", metavar="PART", help="those whose names hold one of these")
    parser.add_argument("--shares", nargs="+", type=float, metavar="SHARE", help="other shares than the table's")
    parser.add_argument("--seeds", type=int, default=5, help="splits and draws of labels (default: 5)")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds = 1
    with limit_threads(arguments.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main(arguments)
