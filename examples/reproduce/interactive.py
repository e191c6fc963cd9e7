"""
Interactive learning of similarities, against what it starts from
=================================================================

What :class:`skpartial.regularizers.InteractiveSmoothness` adds to a logistic probe on frozen features, after Huynh and
Elhamifar, "Interactive Multi-Label CNN Learning with Partial Labels" (CVPR 2020):

- gain: by how much test mean average precision rises above that of the logistic probe, by method and by the share of
  labels that are known (the paper's Figures 3 and 4). All methods go on from the same optimum for five epochs of the
  same small steps; "refined" is the logistic loss itself, so that what it gains is the steps' doing.
- ablation: similarities of images and of labels left out, fixed, and learned (Table 4). Fixed similarities of images
  are those of the features alone, whose coefficients labels have no say in.
- groups: labels in five groups of equal size by how many known presences they have (Table 1).

Test labels are complete. Features are standardised. The strength of the penalty is the one that cross-validation on the
known training labels of the first seed chooses for the probe; all methods have it. What a method of the gains has to
choose beside it, such as weights and numbers of atoms of IMCL or the strategy of the curriculum, is chosen for every
seed by two-fold cross-validation on its known training labels, and never by test scores; what was chosen is printed.
Figures are means over seeds, with the standard deviation of the difference from the probe on the same seed.

Run it with ``--data`` naming the folder of the benchmarks' data sets; without it the digit scenes are used.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
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
from _data import add_arguments, limit_threads, load, names, split

ALPHAS = [1e-3, 1e-2, 1e-1, 1.0]
# Of yeast, scenes and photographs all three tables; of Corel, whose labels are many and rare, the groups.
MANY_LABELS = "corel5k"


class Task(NamedTuple):
    """Training labels of one seed, and complete test labels; features standardised."""

    X: Any
    Y: np.ndarray
    X_test: Any
    Y_test: np.ndarray
    alpha: float
    seed: int


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


def validated(candidates: dict[str, Callable[[Task], Any]]) -> Callable[[Task], Any]:
    """The candidate that is best on known labels of rows that were held out, fitted to all rows."""

    def fit(task: Task) -> Any:
        folds = list(PartialLabelKFold(2, shuffle=True, random_state=task.seed).split(task.X, task.Y))

        def score(candidate: Callable[[Task], Any]) -> float:
            found = [candidate(task._replace(X=task.X[a], Y=task.Y[a])).decision_function(task.X[b]) for a, b in folds]
            held = np.vstack([task.Y[b] for _, b in folds])
            # In one: of a few rows few labels have both signs known.
            return mean_average_precision(held, np.vstack(found))

        scores = {name: score(candidate) for name, candidate in candidates.items()}
        best = max(scores, key=lambda name: scores[name])
        print(f"    chosen for seed {task.seed}: {best}", file=sys.stderr, flush=True)
        return candidates[best](task)

    return fit


def methods(wanted: list[str] | None) -> dict[str, Callable[[Task], Any]]:
    """The probe, and all others or those that are wanted."""
    spaces = {"half as many dimensions as labels": 0.5, "as many": 1.0}
    found: dict[str, Callable[[Task], Any]] = {
        "logistic": probe,
        "refined": refined,
        "curriculum": validated(
            {name: partial(probe, relabeling=Curriculum(name)) for name in ("threshold", "proportion", "positives")}
        ),
        "LSEP": lambda task: refined(task, loss="lsep"),
        "WSABIE": validated({name: partial(wsabie, share=share) for name, share in spaces.items()}),
        "embedding, logistic": validated({name: partial(embedded, share=share) for name, share in spaces.items()}),
        "IMCL": validated({str(settings): partial(smooth, **settings) for settings in SMOOTHNESS}),
    }
    return {name: fit for name, fit in found.items() if wanted is None or name in ("logistic", *wanted)}


#: What IMCL may choose: published weights with few and with many atoms, and others.
SMOOTHNESS: list[dict[str, Any]] = [
    {"n_atoms": 5},
    {"n_atoms": 1},
    {"n_atoms": 1, "label_weight": 5.0, "feature_weight": 2.5},
    {"n_atoms": 1, "label_weight": 1.0, "feature_weight": 10.0},
]

ABLATION: dict[str, Callable[[Task], Any]] = {
    "not used / not used": probe,
    "refined": refined,
    "fixed / identity": lambda task: smooth(
        task, FixedSimilarities, n_atoms=1, label_graph="identity", learn_graph=False
    ),
    "fixed / learned": lambda task: smooth(task, FixedSimilarities, n_atoms=1),
    "learned / identity": lambda task: smooth(task, n_atoms=1, label_graph="identity", learn_graph=False),
    "learned / fixed": lambda task: smooth(task, n_atoms=1, learn_graph=False),
    "learned / learned": lambda task: smooth(task, n_atoms=1),
}


def make_tasks(name: str, directory: str | None, known: float, n_seeds: int, quick: bool) -> list[Task]:
    data, tasks, alpha = load(name, directory, quick=quick), [], None
    for seed in range(n_seeds):
        parts = split(data, test_size=0.3, seed=seed)
        Y, Y_test = (2 * labels.astype(np.int8) - 1 for labels in (parts.Y_train, parts.Y_test))
        dropped = np.asarray(drop_labels(Y, known=known, random_state=seed))
        scaler = StandardScaler(with_mean=not sp.issparse(parts.X_train)).fit(parts.X_train)
        X, X_test = (scaler.transform(part).astype(np.float32) for part in (parts.X_train, parts.X_test))
        if alpha is None:
            search = BatchedGridSearchCV(
                make_pipeline(PartialLabelClassifier(random_state=0)),
                {"partiallabelclassifier__alpha": ALPHAS},
                cv=PartialLabelKFold(3, shuffle=True, random_state=0),
            )
            alpha = search.fit(X, dropped).best_params_["partiallabelclassifier__alpha"]
        tasks.append(Task(X, dropped, X_test, Y_test, alpha, seed))
    return tasks


def gains(title: str, chosen: dict[str, Callable[[Task], Any]], tasks: list[Task]) -> dict[str, np.ndarray]:
    """Average precision of every label in percent, (seeds, L), by method; prints what each adds to the first."""
    found: dict[str, np.ndarray] = {}
    print(f"\n{title}")
    for name, fit in chosen.items():
        start = time.process_time()
        scores = [fit(task).decision_function(task.X_test) for task in tasks]
        found[name] = 100 * np.stack([average_precision_per_label(t.Y_test, s) for t, s in zip(tasks, scores)])
        means = np.nanmean(found[name], axis=1)
        base = np.nanmean(next(iter(found.values())), axis=1)
        text = f"{means.mean():6.2f}" if len(found) == 1 else summary(means - base)
        print(f"{name:22} {text:>14} {time.process_time() - start:7.0f} s", flush=True)
    return found


def summary(values: np.ndarray) -> str:
    return f"{values.mean():+6.2f} ± {values.std(ddof=1) if len(values) > 1 else 0:4.2f}"


def print_groups(title: str, found: dict[str, np.ndarray], tasks: list[Task], n_groups: int = 5) -> None:
    base_name, base = next(iter(found.items()))
    # In the order of known presences: known entries are drawn at random, so that labels have about equally many.
    groups = [np.array_split(np.argsort((task.Y == 1).sum(0), kind="stable"), n_groups) for task in tasks]

    def of(values: np.ndarray, group: int) -> np.ndarray:
        return np.array([np.nanmean(row[parts[group]]) for row, parts in zip(values, groups)])

    print(f"\n{title}\n{'':22} " + " ".join(f"{f'group {g + 1}':>14}" for g in range(n_groups)))
    print(f"{base_name:22} " + " ".join(f"{of(base, g).mean():14.2f}" for g in range(n_groups)))
    for name, values in list(found.items())[1:]:
        gains = (summary(of(values, g) - of(base, g)) for g in range(n_groups))
        print(f"{name:22} " + " ".join(f"{gain:>14}" for gain in gains), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--known", type=float, nargs="+", default=[0.1, 0.3, 0.5])
    parser.add_argument("--methods", nargs="+", help="some of those of the gains, beside the probe")
    parser.add_argument("--tables", nargs="+", default=["gain", "ablation", "groups"])
    options = parser.parse_args()
    warnings.simplefilter("ignore", UnfittableLabelsWarning)
    # Of few labels one a row is known at 10 %: then the graph is the identity.
    warnings.filterwarnings("ignore", message="No two labels are known to be present together")
    with limit_threads(options.threads):
        for name in names(options.data, options.datasets):
            for known in options.known if "gain" in options.tables and name != MANY_LABELS else []:
                tasks = make_tasks(name, options.data, known, options.seeds, options.quick)
                title = f"{name}, {known:.0%} known, alpha {tasks[0].alpha:g}: gain in mean average precision"
                gains(title, methods(options.methods), tasks)
            if "ablation" in options.tables and name != MANY_LABELS:
                known = options.known[min(1, len(options.known) - 1)]
                tasks = make_tasks(name, options.data, known, options.seeds, options.quick)
                title = f"{name}, {known:.0%} known: similarity of images / of labels"
                gains(title, ABLATION, tasks)
            if "groups" in options.tables and name == MANY_LABELS:
                known = options.known[-1]
                tasks = make_tasks(name, options.data, known, options.seeds, options.quick)
                title = f"{name}, {known:.0%} known, alpha {tasks[0].alpha:g}"
                found = gains(title, methods(options.methods), tasks)
                print_groups("the same by labels, from few known presences to many", found, tasks)


if __name__ == "__main__":
    main()
