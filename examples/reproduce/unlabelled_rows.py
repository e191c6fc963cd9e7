"""Rows and entries without labels: section 3.1 and figure 3 of Cevikalp et al. (2020) on features.

Mean average precision on a test part of a quarter of the rows, with complete labels, in per cent.

Table 1 (which has the paper's tables 1 and 2): 5, 10 and 20 % of the training rows are labelled in full, the others not
    at all: the labelled rows alone, against relabellings that use all rows. ``digits`` are images of one label; on them
    the paper's accuracy is that of the highest score.
``entries``: of each label 3, 10 and 30 % of the presences and of the absences are known, so that most rows are known in
    part.
Figure 3: 10 to 50 % of the training rows get labels that are drawn from the frequencies of the labels: RampWARP, WARP
    and cross-entropy; mean average precision and F1 of the three highest scores, per class.

Every method chooses its ``alpha`` by three-fold cross-validation on the training labels of the first seed, corrupted
ones where that is the experiment, from 1e-5 to 1e-3 times the mean squared distance of the features from their mean,
and keeps it for the other seeds. Ranking losses are trained by minibatches, with steps that shrink to nothing.
Peers are scikit-learn's, one label at a time: ``SelfTrainingClassifier`` over ``LogisticRegression``, and
``LabelSpreading`` over 10 neighbours of unit vectors.

    python examples/reproduce/unlabelled_rows.py --data DIR --csv runs.csv       # DIR/features/*.npz; else digit scenes
    python examples/reproduce/unlabelled_rows.py --table figure3 --shares 0.1 0.5 --csv runs.csv
"""

from __future__ import annotations

import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _runs import Published, Runs, add_run_arguments, parse, print_report, spelled
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import normalize
from sklearn.semi_supervised import LabelSpreading as PeerSpreading
from sklearn.semi_supervised import SelfTrainingClassifier

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from _data import DataSet, add_arguments, limit_threads, load, mean_squared_distance, names, split

from skpartial import PartialLabelClassifier
from skpartial.labels import drop_labels
from skpartial.losses import WARP, RampWARP
from skpartial.metrics import mean_average_precision, top_k_scores
from skpartial.model_selection import PartialLabelKFold, PartialLabelShuffleSplit
from skpartial.regularizers import TransductiveHinge
from skpartial.relabeling import ClassDistribution, LabelSpreading, Propagation
from skpartial.solvers import Minibatch

TABLES = {
    "1": "rows labelled in full and rows not labelled at all (tables 1 and 2)",
    "entries": "not of the paper: labels known in part",
    "figure3": "corrupted labels",
}
ALPHAS = (1e-5, 1e-4, 1e-3)
Labels = NDArray[np.int8]

_LABELLED = "labelled rows alone"
_RAMP = "RampWARP, labelled rows alone"
_PROPAGATED = "RampWARP with Propagation (the paper's)"
_WARP = "WARP, labelled rows alone"
# Of tables 1 and 2, by networks that start from ImageNet or at random. What labelled rows alone have by a cross-entropy
# of each label here is of softmax there.
ACCURACIES = {
    "CIFAR-10": {_RAMP: 89.24, _PROPAGATED: 91.46, _WARP: 85.41, _LABELLED: 89.32},
    "CIFAR-10 (random)": {_RAMP: 52.37, _PROPAGATED: 58.86, _WARP: 50.52, _LABELLED: 51.46},
    "STL-10": {_RAMP: 91.11, _PROPAGATED: 94.1, _WARP: 85.63, _LABELLED: 91.34},
    "STL-10 (random)": {_RAMP: 40.00, _PROPAGATED: 44.25, _WARP: 39.15, _LABELLED: 39.27},
}
#: Of figure 3 the text has this order: from the best to the worst.
UNDER_NOISE = {"CIFAR-10, COCO, NUS-WIDE (figure 3)": ("RampWARP", "WARP")}


@dataclass(frozen=True, eq=False)
class Task:
    """Training labels in {-1, 0, 1} of one seed, and complete test labels in {-1, 1}."""

    X: Any
    Y: Labels
    X_test: Any
    Y_test: Labels
    seed: int

    def labelled(self) -> Task:
        """Without the rows that are not labelled."""
        rows = (self.Y != 0).any(axis=1)
        return replace(self, X=self.X[rows], Y=self.Y[rows])


#: From the task of a run, and that of the first seed, on which a penalty is chosen, to scores of test rows.
Method = Callable[[Task, Task], NDArray[Any]]


def tuned(
    relabeling: Any = None,
    loss: Any = "iu",
    *,
    regularizer: Any = None,
    ranking: bool = False,
    labelled_only: bool = False,
) -> Method:
    """A linear classifier, its penalty by cross-validation on the first seed; ranking losses by minibatches."""
    solver = Minibatch(max_epochs=25, schedule="cosine") if ranking else "auto"

    def classifier(task: Task) -> PartialLabelClassifier:
        return PartialLabelClassifier(
            loss, relabeling=relabeling, regularizer=regularizer, solver=solver, random_state=task.seed
        )

    @lru_cache(maxsize=1)
    def chosen_alpha(first: Task) -> float:
        task = first.labelled() if labelled_only else first
        grid = {"alpha": [alpha * mean_squared_distance(task.X) for alpha in ALPHAS]}
        cv = PartialLabelKFold(3, random_state=task.seed, unlabelled="train")
        search = GridSearchCV(classifier(task), grid, cv=cv, refit=False).fit(task.X, task.Y)
        return float(search.best_params_["alpha"])

    def scores(task: Task, first: Task) -> NDArray[Any]:
        alpha = chosen_alpha(first)
        task = task.labelled() if labelled_only else task
        clf = classifier(task).set_params(alpha=alpha).fit(task.X, task.Y)
        return np.asarray(clf.decision_function(task.X_test))

    return scores


def read_off(task: Task, first: Task) -> NDArray[Any]:
    """Label spreading, and for new rows the mean of the 10 nearest rows by cosine."""
    alpha = ALPHAS[1] * mean_squared_distance(task.X)
    clf = PartialLabelClassifier("iu", relabeling=LabelSpreading(), alpha=alpha, random_state=task.seed)
    spread = clf.fit(task.X, task.Y).spread_labels_
    reader = KNeighborsRegressor(
        10, metric="cosine", weights=lambda distances: np.maximum(1 - distances, 0) ** 8 + 1e-9
    )
    return np.asarray(reader.fit(task.X, np.nan_to_num(spread)).predict(task.X_test))


def label_by_label(make: Callable[[], Any], *, unit: bool = False) -> Method:
    """A classifier of scikit-learn's for each label, unlabelled rows marked by -1."""

    def scores(task: Task, first: Task) -> NDArray[Any]:
        X, X_test = (normalize(task.X), normalize(task.X_test)) if unit else (task.X, task.X_test)
        found = np.zeros((len(X_test), task.Y.shape[1]))
        for j, y in enumerate(task.Y.T):
            if {-1, 1} <= set(y.tolist()):
                target = np.where(y == 0, -1, y == 1)
                probabilities = make().fit(X, target).predict_proba(X_test)[:, 1]
                # Rows that nothing spreads to.
                found[:, j] = np.nan_to_num(probabilities, nan=float((y == 1).sum() / (y != 0).sum()))
        return found

    return scores


def self_training(task: Task, first: Task) -> NDArray[Any]:
    """scikit-learn's, with the middle penalty for every label."""
    C = 1 / (ALPHAS[1] * mean_squared_distance(task.X) * max(1, int((task.Y != 0).sum(axis=0).mean())))
    return label_by_label(lambda: SelfTrainingClassifier(LogisticRegression(C=C)))(task, first)


PEERS: dict[str, Method] = {
    "scikit-learn's SelfTrainingClassifier": self_training,
    "scikit-learn's LabelSpreading": label_by_label(lambda: PeerSpreading("knn", n_neighbors=10), unit=True),
}
ROWS: dict[str, Method] = {
    _LABELLED: tuned(labelled_only=True),
    "Propagation": tuned(Propagation()),
    "LabelSpreading": tuned(LabelSpreading()),
    "LabelSpreading, read off by 10 nearest rows": read_off,
    "ClassDistribution": tuned(ClassDistribution()),
    _RAMP: tuned(loss=RampWARP(), ranking=True, labelled_only=True),
    _PROPAGATED: tuned(Propagation(), RampWARP(), ranking=True),
    "RampWARP with TransductiveHinge": tuned(
        loss=RampWARP(unknown="ignore"), regularizer=TransductiveHinge(), ranking=True
    ),
    **PEERS,
}
ENTRIES: dict[str, Method] = {
    "known entries alone (IU, the default)": tuned(),
    "known entries alone (PartialBCE)": tuned(loss="partial_bce"),
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


def digits(*, quick: bool) -> DataSet:
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


class Experiment(NamedTuple):
    """What a table compares: methods, on labels that are made, of some shares of rows or entries, of data sets."""

    methods: dict[str, Method]
    make: Callable[..., Labels]
    shares: tuple[float, ...]
    datasets: tuple[str, ...]
    measures: tuple[str, ...]
    published: Published


EXPERIMENTS = {
    "1": Experiment(
        ROWS,
        label_rows,
        (0.05, 0.1, 0.2),
        ("digits", "ucmerced", "scene", "yeast"),
        ("mAP", "accuracy"),
        ACCURACIES,
    ),
    "entries": Experiment(ENTRIES, label_entries, (0.03, 0.1, 0.3), ("ucmerced", "yeast"), ("mAP",), {}),
    "figure3": Experiment(
        NOISE, corrupt, (0.1, 0.2, 0.3, 0.4, 0.5), ("ucmerced", "scene", "yeast"), ("mAP", "F1"), UNDER_NOISE
    ),
}


def make_task(data: Callable[[], DataSet], make: Callable[..., Labels], share: float, seed: int) -> Task:
    """A test part of a quarter of the rows, and labels of a share of the training part."""
    parts = split(data(), test_size=0.25, seed=seed)
    return Task(parts.X_train, make(parts.Y_train, share, seed), parts.X_test, 2 * parts.Y_test - 1, seed)


def measured(table: str, name: str, task: Callable[[int], Task], method: Method, seed: int) -> dict[str, float]:
    """The figures of a run, in per cent."""
    truth, scores = task(seed).Y_test, method(task(seed), task(0))
    found = {"mAP": 100 * mean_average_precision(truth, scores)}
    if table == "figure3":
        found["F1"] = 100 * top_k_scores(truth, scores, k=min(3, truth.shape[1])).f1
    elif name == "digits":
        found["accuracy"] = 100 * float((scores.argmax(axis=1) == truth.argmax(axis=1)).mean())
    return found


def titled(table: str, share: float) -> str:
    """The name of a table with a share among the runs."""
    what = {"1": "of the rows labelled", "entries": "known", "figure3": "of the rows corrupted"}[table]
    return f"{spelled(table)}, {100 * share:g}% {what}"


def shares(options: Namespace, table: str) -> tuple[float, ...]:
    """Shares of rows or entries: those asked for, else the table's; one of them to see that it runs."""
    of_table = EXPERIMENTS[table].shares
    return tuple(options.shares or (of_table[1:2] if options.quick else of_table))


def run(options: Namespace, runs: Runs, table: str) -> None:
    """Make the runs of a table that are missing."""
    experiment = EXPERIMENTS[table]
    available = ["digits", *names(options.data, None)]
    for name in options.datasets or [name for name in experiment.datasets if name in available] or available[-1:]:
        read = digits if name == "digits" else partial(load, name, options.data)
        data = cache(partial(read, quick=options.quick))
        for share in shares(options, table):
            task = cache(partial(make_task, data, experiment.make, share))
            for method, scores in experiment.methods.items():
                for seed in range(options.seeds):
                    of_run = partial(measured, table, name, task, scores, seed)
                    runs.measure(titled(table, share), name, method, seed, of_run)


def report(options: Namespace, runs: Runs, table: str) -> None:
    """Print what has been measured beside the published figures."""
    experiment = EXPERIMENTS[table]
    for share in shares(options, table):
        for measure in experiment.measures:
            # In tables 1 and 2 the paper has accuracies alone.
            published = {} if table == "1" and measure == "mAP" else experiment.published
            methods = dict.fromkeys((*experiment.methods, *(method for each in published.values() for method in each)))
            title, orders = titled(table, share), bool(published)
            print_report(runs, title, published, measure=measure, methods=methods, orders=orders)


def main() -> None:
    """Run what was asked for, and print it beside the published figures."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_arguments(parser)
    add_run_arguments(parser, TABLES)
    parser.add_argument("--shares", nargs="+", type=float, metavar="SHARE", help="other shares than the table's")
    options = parse(parser)
    runs = Runs(options.csv, ("mAP", "accuracy", "F1"), options.methods)
    with limit_threads(options.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for table in options.table if not options.report else ():
            run(options, runs, table)
    for table in options.table:
        report(options, runs, table)


if __name__ == "__main__":
    main()
