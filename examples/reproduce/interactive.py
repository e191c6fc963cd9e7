"""Interactive learning of similarities: tables 1 and 4 and figure 3 of Huynh and Elhamifar (CVPR 2020) on features.

What InteractiveSmoothness adds to a logistic probe, in mean average precision on test rows labelled in full, in per
cent. Figure 3 is of methods and of shares of labels that are known, on all data sets but those of many labels, and
table 1 of labels in five groups of equal size, from few known presences to many, on those of many. Its methods go on
from the same optimum for five epochs of the same small steps; "refined" is the logistic loss itself, so that what it
gains is the steps' doing. Table 4 is an ablation, "similarities of images / of labels" left out, fixed or learned;
fixed ones of images are those of the features alone, whose coefficients labels have no say in.

Features are standardised. The strength of the penalty is the one that cross-validation on the known training labels of
the first seed chooses for the probe; all methods have it. What a method has to choose beside it, such as weights and
numbers of atoms of IMCL or the strategy of the curriculum, is chosen for every seed by two-fold cross-validation on its
known training labels, and never by test scores; what was chosen is printed.

    python examples/reproduce/interactive.py --data DIR --csv runs.csv           # DIR/features/*.npz; else digit scenes
"""

from __future__ import annotations

import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from _runs import Runs, add_run_arguments, later, parse, print_report, spelled
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpartial import PartialLabelClassifier
from skpartial.exceptions import UnfittableLabelsWarning
from skpartial.heads import LabelEmbedding
from skpartial.labels import drop_labels
from skpartial.losses import WARP
from skpartial.metrics import average_precision_per_label, mean_average_precision
from skpartial.model_selection import BatchedGridSearchCV, PartialLabelKFold
from skpartial.regularizers import BatchContext, InteractiveSmoothness, JointPursuit
from skpartial.relabeling import Curriculum
from skpartial.solvers import Minibatch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from _data import DataSet, add_arguments, limit_threads, load, names, split

TABLES = {
    "1": "labels by their known presences",
    "4": "similarities left out, fixed and learned",
    "figure3": "gain by the share of labels that is known (figures 3 and 4)",
}
GROUPS = tuple(f"group {number}" for number in range(1, 6))
ALPHAS = [1e-3, 1e-2, 1e-1, 1.0]
#: Of yeast, scenes and photographs all but table 1; of Corel, whose labels are many and rare, table 1.
MANY_LABELS = "corel5k"
BASE, ABLATION_BASE = "logistic", "not used / not used"

#: Table 1 where features are fixed, of Open Images by groups and of all labels.
_BY_GROUP = {
    "logistic": (69.47, 70.29, 74.79, 79.23, 85.49, 75.85),
    "Latent Noise (relevance)": (69.25, 69.75, 74.57, 78.85, 85.29, 75.54),
    "Latent Noise (visual)": (69.50, 70.32, 74.78, 79.22, 85.47, 75.86),
    "CNN-RNN": (68.85, 69.56, 74.02, 78.55, 84.47, 75.09),
    "LSEP": (69.49, 70.23, 74.81, 79.19, 85.47, 75.84),
    "Fast0Tag": (69.58, 70.41, 75.01, 79.41, 85.73, 76.03),
    "WSABIE": (69.23, 70.10, 75.06, 79.42, 85.50, 75.86),
    "curriculum": (69.77, 70.86, 75.45, 79.62, 85.91, 76.32),
    "IMCL": (69.91, 71.36, 75.94, 80.15, 86.32, 76.72),
}
BY_GROUP = {
    measure: {method: figures[place] for method, figures in _BY_GROUP.items()}
    for place, measure in enumerate((*GROUPS, "mAP"))
}
#: Table 4, with the graph of labels by how often they are present together.
BY_SIMILARITY = {
    "not used / not used": 85.49,
    "fixed / learned": 85.83,
    "learned / fixed": 85.99,
    "learned / learned": 86.26,
}
#: Of figures 3 and 4 the text has these orders: from the best to the worst.
ORDERS = {"CUB (figure 3)": ("IMCL", "curriculum"), "COCO (figure 4)": ("IMCL", "curriculum", "logistic")}


class Task(NamedTuple):
    """Training labels of one seed, and complete test labels; features standardised."""

    X: Any
    Y: np.ndarray
    X_test: Any
    Y_test: np.ndarray
    alpha: float
    seed: int


Fit = Callable[[Task], Any]


class FixedSimilarities(InteractiveSmoothness):
    """Similar rows by their features alone: nothing that the classifier learns changes them."""

    def _similar(self, batch: BatchContext, state: Any, *values: Any) -> JointPursuit:
        by_features = InteractiveSmoothness(**(self.get_params() | {"label_weight": 0.0, "feature_weight": 1.0}))
        found = InteractiveSmoothness._similar(by_features, batch, state, *values)
        return found._replace(label_coef=found.feature_coef)


def probe(task: Task, **more: Any) -> PartialLabelClassifier:
    return PartialLabelClassifier(alpha=task.alpha, random_state=task.seed, **more).fit(task.X, task.Y)


def refined(task: Task, clf: PartialLabelClassifier | None = None, **more: Any) -> PartialLabelClassifier:
    """The probe, or a classifier that takes its place, taken further with another loss by the steps of a refinement."""
    clf = clf or probe(task)
    rate = 0.1 / max(task.X.shape[1], 30)
    clf.set_params(warm_start=True, solver=Minibatch(learning_rate=rate, max_epochs=5, schedule="cosine"), **more)
    return clf.fit(task.X, task.Y)


def embedded(task: Task, share: float) -> PartialLabelClassifier:
    """The probe's loss on labels in a space of a share of as many dimensions."""
    head = LabelEmbedding(max(2, round(share * min(task.Y.shape[1], 100))))
    # Steps that stay large end beside the optimum of a strong penalty.
    return probe(task, head=head, solver=Minibatch(schedule="cosine"))


def wsabie(task: Task, share: float) -> PartialLabelClassifier:
    """As published: from the logistic optimum on, by the ranking loss."""
    return refined(task, embedded(task, share), loss=WARP(unknown="ignore"))


def smooth(task: Task, kind: type = InteractiveSmoothness, **settings: Any) -> PartialLabelClassifier:
    return probe(task, regularizer=kind(**settings))


def validated(candidates: dict[str, Fit]) -> Fit:
    """The candidate that is best on known labels of rows that were held out, fitted to all rows."""

    def fit(task: Task) -> Any:
        folds = list(PartialLabelKFold(2, shuffle=True, random_state=task.seed).split(task.X, task.Y))

        def score(candidate: Fit) -> float:
            found = [candidate(task._replace(X=task.X[a], Y=task.Y[a])).decision_function(task.X[b]) for a, b in folds]
            held = np.vstack([task.Y[b] for _, b in folds])
            # In one: of a few rows few labels have both signs known.
            return mean_average_precision(held, np.vstack(found))

        scores = {name: score(candidate) for name, candidate in candidates.items()}
        best = max(scores, key=lambda name: scores[name])
        print(f"    chosen for seed {task.seed}: {best}", file=sys.stderr, flush=True)
        return candidates[best](task)

    return fit


#: What IMCL may choose: published weights with few and with many atoms, and others.
SMOOTHNESS: list[dict[str, Any]] = [
    {"n_atoms": 5},
    {"n_atoms": 1},
    {"n_atoms": 1, "label_weight": 5.0, "feature_weight": 2.5},
    {"n_atoms": 1, "label_weight": 1.0, "feature_weight": 10.0},
]
STRATEGIES = ("threshold", "proportion", "positives")
SPACES = {"half as many dimensions as labels": 0.5, "as many": 1.0}
METHODS: dict[str, Fit] = {
    BASE: probe,
    "refined": refined,
    "curriculum": validated({name: partial(probe, relabeling=Curriculum(name)) for name in STRATEGIES}),
    "LSEP": partial(refined, loss="lsep"),
    "WSABIE": validated({name: partial(wsabie, share=share) for name, share in SPACES.items()}),
    "embedding, logistic": validated({name: partial(embedded, share=share) for name, share in SPACES.items()}),
    "IMCL": validated({str(settings): partial(smooth, **settings) for settings in SMOOTHNESS}),
}
ABLATION: dict[str, Fit] = {
    ABLATION_BASE: probe,
    "refined": refined,
    "fixed / identity": partial(smooth, kind=FixedSimilarities, n_atoms=1, label_graph="identity", learn_graph=False),
    "fixed / learned": partial(smooth, kind=FixedSimilarities, n_atoms=1),
    "learned / identity": partial(smooth, n_atoms=1, label_graph="identity", learn_graph=False),
    "learned / fixed": partial(smooth, n_atoms=1, learn_graph=False),
    "learned / learned": partial(smooth, n_atoms=1),
}


def tasks_of(name: str, options: Namespace, known: float) -> Callable[[int], Task]:
    """The task of a seed, made if it is needed, with the penalty that is chosen on the first seed's."""
    data = cache(partial(load, name, options.data, quick=options.quick))
    alpha = cache(lambda: chosen_alpha(make_task(data(), known, 0)))
    return cache(lambda seed: make_task(data(), known, seed)._replace(alpha=alpha()))


def make_task(data: DataSet, known: float, seed: int) -> Task:
    """Split, drop labels and standardise."""
    parts = split(data, test_size=0.3, seed=seed)
    Y, Y_test = (2 * labels.astype(np.int8) - 1 for labels in (parts.Y_train, parts.Y_test))
    dropped = np.asarray(drop_labels(Y, known=known, random_state=seed))
    scaler = StandardScaler(with_mean=not sp.issparse(parts.X_train)).fit(parts.X_train)
    X, X_test = (scaler.transform(part).astype(np.float32) for part in (parts.X_train, parts.X_test))
    return Task(X, dropped, X_test, Y_test, np.nan, seed)


def chosen_alpha(task: Task) -> float:
    """The probe's penalty, by cross-validation on known labels."""
    search = BatchedGridSearchCV(
        make_pipeline(PartialLabelClassifier(random_state=0)),
        {"partiallabelclassifier__alpha": ALPHAS},
        cv=PartialLabelKFold(3, shuffle=True, random_state=0),
    )
    return float(search.fit(task.X, task.Y).best_params_["partiallabelclassifier__alpha"])


def scores(task: Task, fit: Fit) -> dict[str, float]:
    """Mean average precision of all labels and of groups of them, in per cent, and the penalty."""
    found = 100 * average_precision_per_label(task.Y_test, fit(task).decision_function(task.X_test))
    # In the order of known presences: known entries are drawn at random, so that labels have about equally many.
    groups = np.array_split(found[np.argsort((task.Y == 1).sum(0), kind="stable")], len(GROUPS))
    by_group = {name: np.nanmean(group) if len(group) else np.nan for name, group in zip(GROUPS, groups)}
    return {"mAP": np.nanmean(found), **by_group, "alpha": task.alpha}


def titled(table: str, known: float) -> str:
    """The name of a table or figure among the runs."""
    return f"{spelled(table)}, {100 * known:g}% known"


def shares(options: Namespace) -> Mapping[str, list[float]]:
    """Of each table that is wanted, the shares of labels that are known."""
    middle = options.known[min(1, len(options.known) - 1)]
    found = {"figure3": options.known, "4": [middle], "1": [middle]}
    return {table: known for table, known in found.items() if table in options.table}


def run(options: Namespace, runs: Runs) -> None:
    """Make the runs that are missing."""
    for name in names(options.data, options.datasets):
        for table, each in shares(options).items():
            if (table == "1") == (name == MANY_LABELS) or options.quick:
                for known in each:
                    run_table(options, runs, table, name, known)


def run_table(options: Namespace, runs: Runs, table: str, name: str, known: float) -> None:
    """A table of a data set, with a share of the labels known."""
    task = tasks_of(name, options, known)
    for method, fit in (ABLATION if table == "4" else METHODS).items():
        for seed in range(options.seeds):
            runs.measure(titled(table, known), name, method, seed, later(scores, partial(task, seed), fit))


def report(options: Namespace, runs: Runs) -> None:
    """Print what has been measured beside the published figures."""
    for table, title in ((table, titled(table, known)) for table, each in shares(options).items() for known in each):
        show = partial(print_report, runs, title, decimals=2)
        if table == "figure3":
            show(ORDERS, measure="mAP", methods=METHODS, base=BASE)
        elif table == "4":
            show({"Open Images": BY_SIMILARITY}, measure="mAP", methods=ABLATION, base=ABLATION_BASE)
        else:
            rows = dict.fromkeys((*METHODS, *_BY_GROUP))
            for measure, figures in BY_GROUP.items():
                show({"Open Images": figures}, measure=measure, methods=rows, base=BASE)


def main() -> None:
    """Run what was asked for, and print it beside the published figures."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    add_arguments(parser)
    add_run_arguments(parser, TABLES)
    parser.add_argument("--known", type=float, nargs="+", help="shares of labels (default: 0.1 0.3 0.5; smoke: 0.5)")
    options = parse(parser)
    options.known = options.known or ([0.5] if options.quick else [0.1, 0.3, 0.5])
    runs = Runs(options.csv, ("mAP", *GROUPS, "alpha"), options.methods)
    if not options.report:
        with limit_threads(options.threads), warnings.catch_warnings():
            warnings.simplefilter("ignore", UnfittableLabelsWarning)
            # Of few labels one a row is known at 10 %: then the graph is the identity.
            warnings.filterwarnings("ignore", message="No two labels are known to be positive in the same row")
            run(options, runs)
    report(options, runs)


if __name__ == "__main__":
    main()
