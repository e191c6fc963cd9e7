"""
Curriculum labelling with a tenth of the labels known
=====================================================

Tables 2 and 4 and figures 5 and 6 of Durand, Mehrasa and Mori, "Learning a Deep ConvNet for Multi-label Classification
with Partial Labels" (CVPR 2019), by their protocol on data that fit on a desk:

- strategies (Table 2): every strategy of :class:`skpartial.relabeling.Curriculum` with its defaults, against the same
  classifier that labels nothing; and what it labels: the share of the unknown entries, of those that are present the
  share that is labelled so (TP), of those that are absent likewise (TN), and of all the share that is right. Of
  "positives" the rates say nothing, as it calls nothing absent.
- ablation (Table 4): cross-entropy of known entries, partial-BCE, the network of categories and relabelling, on frozen
  features, and on images of digits with a network. That one has learned to tell the first five digits on other scenes,
  which is the part that ImageNet plays elsewhere; then it learns all ten.
- normalisation (figures 5 and 6): partial-BCE over g(0.1) and over gamma, from one grid search.

Rows have a tenth of their labels known, test labels are complete, features are standardised. The strength of the
penalty is the one that cross-validation on the known training labels of the first seed chooses for the loss without
relabelling. Figures are percentages, means over seeds with their standard deviation; differences are from the
classifier without relabelling on the same seed.

Run it with ``--data`` naming the folder of the benchmarks' data sets; without it the digit scenes are used.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpartial import PartialLabelClassifier, heads
from skpartial.datasets import make_digit_scenes
from skpartial.exceptions import UnfittableLabelsWarning
from skpartial.images import Backbone
from skpartial.labels import drop_labels
from skpartial.losses import PartialBCE
from skpartial.metrics import mean_average_precision
from skpartial.model_selection import BatchedGridSearchCV, PartialLabelKFold
from skpartial.relabeling import Curriculum
from skpartial.solvers import Minibatch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from _data import add_arguments, limit_threads, load, names, split

ALPHAS = [1e-3, 1e-2, 1e-1, 1.0]
STRATEGIES = ["all", "threshold", "proportion", "positives", "ensemble", "uncertainty", "calibrated"]
SCORES = ["mAP", "exact", "macro F1", "micro F1"]
LABELLED = ["added", "TP", "TN", "right"]
GAMMAS = [-3, -1, -0.5, 0.5, 1, 3, 5]
WEIGHTS = [0.1, 0.3, 1, 3, 5, 10, 20, 50, 100, 300]
EVERYWHERE = {"linear": {}} | ({"gnn": {"head": "gnn"}} if hasattr(heads, "CategoryGNN") else {})


class Task(NamedTuple):
    """One seed: training rows with what is known of their labels and the truth, and test rows with complete labels."""

    X: Any
    Y: np.ndarray
    truth: np.ndarray
    X_test: Any
    Y_test: np.ndarray
    seed: int


def make_tasks(name: str, options: argparse.Namespace) -> list[Task]:
    data, tasks = load(name, options.data, quick=options.quick), []
    for seed in range(options.seeds):
        parts = split(data, test_size=0.25, seed=seed)
        truth, Y_test = (2 * labels.astype(np.int8) - 1 for labels in (parts.Y_train, parts.Y_test))
        Y = np.asarray(drop_labels(truth, known=options.known, random_state=seed))
        scaler = StandardScaler(with_mean=not sp.issparse(parts.X_train)).fit(parts.X_train)
        X, X_test = (scaler.transform(part).astype(np.float32) for part in (parts.X_train, parts.X_test))
        tasks.append(Task(X, Y, truth, X_test, Y_test, seed))
    return tasks


def chosen_alpha(task: Task, loss: str) -> float:
    """The strength of the penalty that known training labels speak for."""
    search = BatchedGridSearchCV(
        PartialLabelClassifier(loss, random_state=0),
        {"alpha": ALPHAS},
        cv=PartialLabelKFold(3, shuffle=True, random_state=0),
        refit=False,
    )
    results = search.fit(task.X, task.Y).cv_results_
    return float(ALPHAS[int(np.argmax(results["mean_test_score"]))])


def scores_of(clf: Any, X: Any, Y: np.ndarray) -> np.ndarray:
    """The four scores of Table 2, in percent."""
    logits = clf.decision_function(X)
    present, found = Y == 1, logits > 0
    f1 = [f1_score(present, found, average=average, zero_division=0) for average in ("macro", "micro")]
    return 100 * np.array([mean_average_precision(Y, logits), (present == found).all(axis=1).mean(), *f1])


def labelled(clf: Any, Y: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How much a curriculum labelled, and how right, in percent."""
    added = clf.relabeled_
    value, true = added["value"], truth[added["row"], added["label"]]

    def right(among: np.ndarray) -> float:
        return float((value[among] == true[among]).mean()) if among.any() else np.nan

    rates = [right(true == 1), right(true == -1), right(np.ones(len(value), dtype=bool))]
    return 100 * np.array([len(value) / (Y == 0).sum(), *rates])


def summary(values: np.ndarray, sign: str = "+") -> str:
    # Where nothing is labelled present, or nothing at all, there is no rate.
    values = values[~np.isnan(values)]
    if not len(values):
        return f"{'-':>13}"
    return f"{values.mean():{sign}7.2f} ±{values.std(ddof=1) if len(values) > 1 else 0:5.2f}"


def line(name: str, values: np.ndarray, sign: str = "+") -> str:
    return f"{name:26}" + " ".join(summary(column, sign) for column in values.T)


def heading(columns: list[str]) -> str:
    return f"{'':26}" + " ".join(f"{column:>13}" for column in columns)


def strategies(name: str, options: argparse.Namespace) -> None:
    tasks = make_tasks(name, options)
    alpha = chosen_alpha(tasks[0], options.loss)
    for head, settings in EVERYWHERE.items():
        if head not in options.heads:
            continue
        print(f"\n{name}, {options.known:.0%} known, {options.loss}, head {head}, alpha {alpha:g}")
        print(heading([*SCORES, *LABELLED]))
        settings = settings | {"loss": options.loss, "alpha": alpha}
        base = np.stack([scores_of(fitted(task, settings), task.X_test, task.Y_test) for task in tasks])
        print(line("labels nothing", base, ""), flush=True)
        for strategy in options.strategies:
            start, rows, rates = time.perf_counter(), [], []
            for task in tasks:
                clf = fitted(task, settings | {"relabeling": Curriculum(strategy)})
                rows.append(scores_of(clf, task.X_test, task.Y_test))
                rates.append(labelled(clf, task.Y, task.truth))
            rest = " ".join(summary(column, "") for column in np.stack(rates).T)
            print(f"{line(strategy, np.stack(rows) - base)} {rest}", flush=True)
            print(f"    {strategy:22} {time.perf_counter() - start:7.1f} s", file=sys.stderr, flush=True)


def fitted(task: Task, settings: dict[str, Any]) -> Any:
    return PartialLabelClassifier(random_state=task.seed, **settings).fit(task.X, task.Y)


def variants(relabeling: Curriculum) -> dict[str, dict[str, Any]]:
    """Rows of Table 4, from the second on."""
    found: dict[str, dict[str, Any]] = {"BCE": {"loss": "iu"}, "partial-BCE": {"loss": "partial_bce"}}
    gnn = EVERYWHERE.get("gnn")
    if gnn is not None:
        found["partial-BCE, GNN"] = {"loss": "partial_bce"} | gnn
    found["partial-BCE, relabelling"] = {"loss": "partial_bce", "relabeling": relabeling}
    if gnn is not None:
        found["all"] = {"loss": "partial_bce", "relabeling": relabeling} | gnn
    return found


def ablation(name: str, options: argparse.Namespace) -> None:
    tasks = make_tasks(name, options)
    alphas = {loss: chosen_alpha(tasks[0], loss) for loss in ("iu", "partial_bce")}
    print(f"\n{name}, {options.known:.0%} known, frozen features, alpha {alphas}")
    print(heading(SCORES))
    for variant, settings in variants(Curriculum(options.best)).items():
        settings = settings | {"alpha": alphas[settings["loss"]]}
        rows = [scores_of(fitted(task, settings), task.X_test, task.Y_test) for task in tasks]
        print(line(variant, np.stack(rows), ""), flush=True)


def pretrained(seed: int, n_scenes: int, n_epochs: int) -> torch.nn.Module:
    """A small network that tells the digits 0 to 4 on scenes of which these are known."""
    from torchvision.ops import Conv2dNormActivation

    scenes = make_digit_scenes(n_scenes, scans="train", random_state=100 + seed)
    torch.manual_seed(seed)
    start = torch.nn.Sequential(
        Conv2dNormActivation(3, 16, 3),
        Conv2dNormActivation(16, 16, 3, stride=2),
        Conv2dNormActivation(16, 32, 3, stride=2),
        Conv2dNormActivation(32, 64, 3),
        torch.nn.AdaptiveMaxPool2d(1),
        torch.nn.Flatten(),
    )
    solver = Minibatch(learning_rate=2e-3, head_rate=1.0, max_epochs=n_epochs, batch_size=16, schedule="cosine")
    clf = PartialLabelClassifier(
        "bce",
        backbone=Backbone(start, image_size=32, augment=None),
        solver=solver,
        alpha=1e-4,
        random_state=seed,
        device="cpu",
    )
    network: torch.nn.Module = clf.fit(scenes.images, scenes.target[:, :5]).network_.body
    return network


def ablation_of_images(options: argparse.Namespace) -> None:
    n_scenes, n_epochs = (200, 4) if options.quick else (2000, 12)
    solver = Minibatch(learning_rate=1e-3, head_rate=3.0, max_epochs=n_epochs, batch_size=16, schedule="cosine")
    test = make_digit_scenes(1000, scans="test", random_state=1)
    rows: dict[str, list[np.ndarray]] = {}
    for seed in range(options.seeds):
        train = make_digit_scenes(n_scenes, scans="train", random_state=seed)
        Y = drop_labels(train.target, known=options.known, random_state=seed)
        network = pretrained(seed, n_scenes, n_epochs)
        clf = PartialLabelClassifier(
            backbone=Backbone(network, image_size=32, augment=None),
            solver=solver,
            alpha=1e-4,
            random_state=seed,
            device="cpu",
        )
        frozen = {"loss": "iu", "backbone__finetune": "head"}
        for variant, settings in ({"BCE, frozen": frozen} | variants(Curriculum(options.best))).items():
            start = time.perf_counter()
            learned = clone(clf).set_params(**settings).fit(train.images, Y)
            rows.setdefault(variant, []).append(scores_of(learned, test.images, test.target))
            print(f"    {variant:26} {time.perf_counter() - start:7.1f} s", file=sys.stderr, flush=True)
    print(f"\nimages of digit scenes, {options.known:.0%} known")
    print(heading(SCORES))
    for variant, found in rows.items():
        print(line(variant, np.stack(found), ""))


def normalisation(name: str, options: argparse.Namespace) -> None:
    """One grid search: it trains on rows that lack labels and is scored on others, of which all are known."""
    data = load(name, options.data, quick=options.quick)
    X = data.X.toarray().astype(np.float32) if sp.issparse(data.X) else data.X
    truth = 2 * data.Y.astype(np.int8) - 1
    # Each label by itself, so that rows differ in how many are known, as otherwise g is one number.
    Y = np.asarray(drop_labels(truth, known=options.known, random_state=0, by="entry"))
    rng, n = np.random.default_rng(0), len(X)
    orders = [rng.permutation(n) for _ in range(options.seeds)]
    # Each row twice: first as it is trained on, then as it is scored on.
    folds = [(order[: 3 * n // 4], n + order[3 * n // 4 :]) for order in orders]
    search = BatchedGridSearchCV(
        make_pipeline(StandardScaler(), PartialLabelClassifier(PartialBCE(), random_state=0)),
        {
            "partiallabelclassifier__loss__gamma": GAMMAS,
            "partiallabelclassifier__loss__weight_at": [(0.1, weight) for weight in WEIGHTS],
            "partiallabelclassifier__alpha": ALPHAS,
        },
        cv=folds,
        refit=False,
        error_score="raise",
    ).fit(np.concatenate([X, X]), np.concatenate([Y, truth]))
    shape = len(ALPHAS), len(GAMMAS), len(WEIGHTS)
    folds_last = [search.cv_results_[f"split{fold}_test_score"] for fold in range(options.seeds)]
    found = 100 * np.stack(folds_last, axis=-1).reshape(*shape, -1)
    print(f"\n{name}, {options.known:.0%} known: mean average precision over g(0.1), gamma = 1")
    print_curves(found[:, GAMMAS.index(1)], WEIGHTS)
    print(f"{name}: over gamma, g(0.1) = 5")
    print_curves(found[:, :, WEIGHTS.index(5)], GAMMAS)
    if options.picture:
        draw(name, found, options)


def print_curves(found: np.ndarray, values: list[Any]) -> None:
    print(f"{'alpha':>8}" + "".join(f"{value:>8g}" for value in values))
    mean = found.mean(axis=-1)
    for alpha, row in zip([f"{alpha:g}" for alpha in ALPHAS] + ["best"], [*mean, mean.max(axis=0)]):
        print(f"{alpha:>8}" + "".join(f"{score:8.2f}" for score in row))
    # Of the differences between neighbouring values, on the same folds, the larger part is not luck.
    spread = (found - found.mean(axis=1, keepdims=True)).std(axis=-1).mean()
    print(f"standard deviation over {found.shape[-1]} splits, after the level of each: {spread:.2f}", flush=True)


def draw(name: str, found: np.ndarray, options: argparse.Namespace) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
    curves = found[:, GAMMAS.index(1)], found[:, :, WEIGHTS.index(5)]
    for axis, values, of_alpha in zip(axes, (WEIGHTS, GAMMAS), curves):
        mean = of_alpha.mean(axis=-1)
        for alpha, row in zip(ALPHAS, mean):
            axis.plot(values, row, "o-", markersize=3, label=f"alpha = {alpha:g}")
        axis.plot(values, mean.max(axis=0), color="black", linestyle="--", label="best alpha of each")
    axes[0].set(xscale="log", xlabel="g(0.1), with gamma = 1", ylabel="mean average precision, %")
    axes[1].set(xlabel="gamma, with g(0.1) = 5")
    axes[0].legend(fontsize="x-small")
    figure.suptitle(f"{name}, {options.known:.0%} known")
    path = Path(options.picture)
    figure.savefig(path.with_name(f"{path.stem}_{name}{path.suffix or '.png'}"), dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--known", type=float, default=0.1)
    parser.add_argument("--loss", default="partial_bce", help="of the strategies (default: partial_bce)")
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES, choices=STRATEGIES)
    parser.add_argument("--heads", nargs="+", default=list(EVERYWHERE), choices=list(EVERYWHERE))
    parser.add_argument("--best", default="threshold", choices=STRATEGIES, help="the strategy of the ablation")
    parser.add_argument("--picture", metavar="FILE", help="write figures 5 and 6 to FILE, with the data set's name")
    experiments = ["strategies", "ablation", "images", "normalisation"]
    parser.add_argument("--experiments", nargs="+", default=experiments, choices=experiments)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UnfittableLabelsWarning)
    of_features = {"strategies": strategies, "ablation": ablation, "normalisation": normalisation}
    with limit_threads(options.threads):
        for experiment in options.experiments:
            if experiment == "images":
                ablation_of_images(options)
                continue
            for name in names(options.data, options.datasets):
                of_features[experiment](name, options)


if __name__ == "__main__":
    main()
