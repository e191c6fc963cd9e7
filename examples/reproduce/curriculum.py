"""Curriculum labelling: the protocol of tables 2 and 4 and of figures 5 and 6 of Durand et al. (CVPR 2019) on features.

Of the training labels 10 % of each row are known. Figures are of test rows labelled in full, in per cent: mean average
precision, exact match, macro and micro F1. Table 2 is of strategies: what each changes in the same fit without
relabelling; then the share of unknown training entries that it has labelled (the paper's has the known ones in it),
and, among the labels added, the true positive and true negative rates and the share of the presences that are right.
Table 4 is of the parts of the method; ``images`` is that table where a network can be fine-tuned: on scenes of digits,
by a small one that has learned to tell the first five of them on other scenes, which is the part that ImageNet has in
the paper. Figures 5 and 6 come from one grid search over g(0.1) and gamma of partial-BCE.

    python examples/reproduce/curriculum.py --data DIR --csv runs.csv            # DIR/features/*.npz; else digit scenes
    python examples/reproduce/curriculum.py --table figure5 figure6 --csv runs.csv --figures out.png
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from _runs import Runs, add_run_arguments, later, parse, print_report, spelled
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from sklearn.model_selection import PredefinedSplit
from sklearn.preprocessing import MaxAbsScaler, StandardScaler
from torch import nn

from skpartial import PartialLabelClassifier, heads
from skpartial.datasets import make_digit_scenes
from skpartial.images import Backbone
from skpartial.labels import drop_labels
from skpartial.losses import PartialBCE
from skpartial.metrics import mean_average_precision
from skpartial.model_selection import BatchedGridSearchCV
from skpartial.relabeling import Curriculum
from skpartial.solvers import Minibatch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from _data import add_arguments, limit_threads, load, mean_squared_distance, names, split

TABLES = {
    "2": "strategies of relabelling",
    "4": "parts of the method",
    "images": "table 4 on images of digits",
    "figure5": "mean average precision over g(0.1)",
    "figure6": "over gamma",
    "penalty": "not of the paper: validation of penalties of the network of categories",
}
PLAIN = "no relabelling"
STRATEGIES = ("threshold", "proportion", "positives", "ensemble", "uncertainty", "calibrated", "all")
SCORES = ("mAP", "0-1", "macro F1", "micro F1")
ADDED = ("labelled %", "TPR", "TNR", "present right")
RATES = """
TPR and TNR as in the paper's table: of the labels added to entries that are truly present, the share added as present
(recall among the labels added, not among all entries); of those that are absent, as absent. A strategy that adds
presences alone has 100 and 0: there the paper has the share of its presences that are right."""
# Relative to the mean squared distance of the features from their mean.
ALPHA = 2e-4
WEIGHTS_AT_A_TENTH = (0.5, 1, 2, 3, 5, 10, 20, 50)
GAMMAS = (-1, -0.5, 0.5, 1, 2, 3)
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)
ALPHA_FACTORS = (1, 5)
# Seeds of the choice of penalties begin here, so that no table has been made of them.
FRESH_SEED = 10
# BCE is that of known labels; what is with something is partial-BCE.
FROZEN = "BCE, frozen"
PARTS = (
    "BCE",
    "partial-BCE",
    "with categories",
    "with relabelling",
    "with both",
)

# Of table 2, by thresholds of 2, 80 %, 5, 2 and 0.3; "all" are two steps without a curriculum. The network of
# categories is in all of them.
_CHANGES = {
    "threshold": (0.34, 11.15, 4.33, 4.26, 95.29, 85.00, 98.50, None),
    "proportion": (0.17, 8.40, 3.70, 3.25, 96.24, 84.40, 98.10, None),
    "positives": (0.31, -4.58, -1.92, -2.23, 12.01, None, None, 79.07),
    "ensemble": (0.23, 11.31, 4.16, 4.33, 95.33, 84.80, 98.53, None),
    "uncertainty": (0.59, 12.07, 5.11, 4.95, 79.74, 68.96, 99.23, None),
    "all": (-1.49, 6.42, 2.32, 1.99, 100.0, 82.78, 96.40, None),
}
_ABLATION = {
    FROZEN: (66.21, 17.53, 62.74, 67.33),
    "BCE": (72.15, 22.04, 65.82, 70.09),
    "partial-BCE": (75.31, 24.51, 67.94, 71.18),
    "with categories": (75.82, 25.14, 68.40, 71.37),
    "with relabelling": (75.71, 30.52, 70.13, 73.87),
    "with both": (76.40, 32.12, 70.73, 74.37),
}


def by_measure(rows: Mapping[str, tuple[float | None, ...]], measures: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Published figures by measure and method."""
    columns = enumerate(measures)
    return {name: {m: row[place] for m, row in rows.items() if row[place] is not None} for place, name in columns}


#: On VOC 2007 and on COCO, by measure and method.
CHANGES, ABLATION = by_measure(_CHANGES, (*SCORES, *ADDED)), by_measure(_ABLATION, SCORES)
#: Of figures 5 and 6 the text has these orders: from the best to the worst.
ORDERS = {"figure5": ("g(0.1) = 20", "g(0.1) = 1"), "figure6": ("gamma = 1", "gamma = -1")}


class Data(NamedTuple):
    """Training rows of which a part of the labels is known, and complete test rows; labels in {-1, 0, 1}."""

    X: Any
    Y: NDArray[np.int8]
    truth: NDArray[np.int8]
    X_test: Any
    test: NDArray[np.int8]

    @property
    def alpha(self) -> float:
        """The L2 penalty that suits the scale of the features."""
        return ALPHA * mean_squared_distance(self.X)


def prepare(options: Namespace, name: str, seed: int, *, by: str = "row") -> Data:
    """Split, scale and drop labels."""
    parts = split(load(name, options.data, quick=options.quick), test_size=0.25, seed=seed)
    scaler = (MaxAbsScaler() if sp.issparse(parts.X_train) else StandardScaler()).fit(parts.X_train)
    truth, test = (2 * labels - 1 for labels in (parts.Y_train, parts.Y_test))
    known = drop_labels(truth, known=options.known, by=by, random_state=seed)
    return Data(scaler.transform(parts.X_train), np.asarray(known), truth, scaler.transform(parts.X_test), test)


def scores(clf: PartialLabelClassifier, data: Data) -> dict[str, float]:
    """Mean average precision, exact match, macro and micro F1 on the test rows, in per cent."""
    logits, truth = clf.decision_function(data.X_test), data.test == 1
    predicted = logits > 0
    found = (
        mean_average_precision(data.test, logits),
        (predicted == truth).all(axis=1).mean(),
        f1_score(truth, predicted, average="macro", zero_division=0),
        f1_score(truth, predicted, average="micro"),
    )
    return {name: 100 * value for name, value in zip(SCORES, found)}


def added(clf: PartialLabelClassifier, data: Data) -> dict[str, float]:
    """Share of the unknown entries labelled, true positive and true negative rate, right ones of the presences."""
    record = clf.relabeled_
    value, truth = record["value"], data.truth[record["row"], record["label"]]
    right = [value[mask] == truth[mask] for mask in (truth == 1, truth == -1, value == 1)]
    share = len(record) / (data.Y == 0).sum()
    found = (share, *(part.mean() if len(part) else np.nan for part in right))
    return {name: 100 * value for name, value in zip(ADDED, found)}


def titled(options: Namespace, table: str) -> str:
    """The name of a table or figure among the runs."""
    return f"{spelled(table)}, {100 * options.known:g}% known"


def table_2_of(options: Namespace, head: str) -> str:
    """The name of table 2 with a head."""
    return titled(options, f"table 2, head {head!r}")


def table_4_of(options: Namespace, kind: str) -> str:
    """The name of table 4 on features or images."""
    return titled(options, f"table 4 on {kind}, relabelling by {options.strategy!r}")


def run_table_2(options: Namespace, runs: Runs, name: str, head: str) -> None:
    """The same fit without relabelling, and with each strategy."""
    for seed in range(options.seeds):
        data = cache(partial(prepare, options, name, seed))
        for strategy in (PLAIN, *STRATEGIES):
            run = later(relabelled, data, head, strategy, seed)
            runs.measure(table_2_of(options, head), name, strategy, seed, run)


def relabelled(data: Data, head: str, strategy: str, seed: int) -> dict[str, float]:
    """Scores with a strategy, and of the labels that it adds."""
    clf = PartialLabelClassifier("partial_bce", head=head, alpha=data.alpha, random_state=seed)
    if strategy == PLAIN:
        return scores(clf.fit(data.X, data.Y), data)
    clf.set_params(relabeling=Curriculum(strategy)).fit(data.X, data.Y)
    return scores(clf, data) | added(clf, data)


def parts(strategy: str) -> dict[str, dict[str, Any]]:
    """The rows of table 4: what each sets beside partial-BCE."""
    gnn: dict[str, Any] = {"head": "gnn"}
    relabelling: dict[str, Any] = {"relabeling": Curriculum(strategy)}
    return dict(zip(PARTS, ({"loss": "iu"}, {}, gnn, relabelling, gnn | relabelling)))


def run_table_4(options: Namespace, runs: Runs, name: str) -> None:
    """What each part of the method brings. On features nothing is fine-tuned."""
    for seed in range(options.seeds):
        data = cache(partial(prepare, options, name, seed))
        for method, settings in parts(options.strategy).items():
            run = later(on_features, data, settings, seed)
            runs.measure(table_4_of(options, "features"), name, method, seed, run)


def on_features(data: Data, settings: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Scores of a linear classifier with some parts of the method."""
    clf = PartialLabelClassifier("partial_bce", alpha=data.alpha, random_state=seed).set_params(**settings)
    return scores(clf.fit(data.X, data.Y), data)


def pretrained(seed: int, n_scenes: int, n_epochs: int) -> nn.Module:
    """A small network that knows the digits 0 to 4."""
    from torchvision.ops import Conv2dNormActivation

    scenes = make_digit_scenes(n_scenes, scans="train", random_state=100 + seed)
    torch.manual_seed(seed)
    start = nn.Sequential(
        Conv2dNormActivation(3, 16, 3),
        Conv2dNormActivation(16, 16, 3, stride=2),
        Conv2dNormActivation(16, 32, 3, stride=2),
        Conv2dNormActivation(32, 64, 3),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
    )
    solver = Minibatch(learning_rate=2e-3, head_rate=1.0, max_epochs=n_epochs, batch_size=16, schedule="cosine")
    backbone = Backbone(start, image_size=32, augment=None)
    clf = PartialLabelClassifier("bce", backbone=backbone, solver=solver, alpha=1e-4, random_state=seed, device="cpu")
    body: nn.Module = clf.fit(scenes.images, scenes.target[:, :5]).network_.body
    return body


def run_images(options: Namespace, runs: Runs) -> None:
    """Table 4 with a network on images, frozen and fine-tuned."""
    rows = {FROZEN: {"loss": "iu", "backbone__finetune": "head", "solver": "auto"}} | parts(options.strategy)
    for seed in range(options.seeds):
        made = cache(partial(scenes_and_network, options, seed))
        for method, settings in rows.items():
            run = later(on_images, made, options, settings, seed)
            runs.measure(table_4_of(options, "images"), "digit_scenes", method, seed, run)


def size_of(options: Namespace) -> tuple[int, int]:
    """How many scenes train a network, and for how many epochs."""
    return (200, 4) if options.quick else (1500, 10)


def scenes_and_network(options: Namespace, seed: int) -> tuple[Data, Backbone]:
    """Scenes of digits, others for the test, and the network that is fine-tuned."""
    train = make_digit_scenes(size_of(options)[0], scans="train", random_state=seed)
    test = make_digit_scenes(1000, scans="test", random_state=1)
    Y = drop_labels(train.target, known=options.known, random_state=seed)
    backbone = Backbone(pretrained(seed, *size_of(options)), image_size=32, augment=None)
    return Data(train.images, Y, train.target, test.images, test.target), backbone


def on_images(
    made: tuple[Data, Backbone], options: Namespace, settings: Mapping[str, Any], seed: int
) -> dict[str, float]:
    """Scores of a network with some parts of the method."""
    (data, backbone), n_epochs = made, size_of(options)[1]
    solver = Minibatch(learning_rate=1e-3, head_rate=3.0, max_epochs=n_epochs, batch_size=16, schedule="cosine")
    clf = PartialLabelClassifier(
        "partial_bce", backbone=backbone, solver=solver, alpha=1e-4, random_state=seed, device="cpu"
    ).set_params(**settings)
    return scores(clf.fit(data.X, data.Y), data)


def run_figures(options: Namespace, runs: Runs, name: str) -> None:
    """The slices of the grid that are figures 5 and 6."""
    for seed in range(options.seeds):
        found = cache(partial(grid, options, name, seed))
        for figure in ORDERS:
            for method, cell in slice_of(figure).items() if figure in options.table else ():
                runs.measure(titled(options, figure), name, method, seed, later(one_of, found, cell))


def one_of(found: Mapping[tuple[float, float], float], cell: tuple[float, float]) -> dict[str, float]:
    """A cell of the grid."""
    return {"mAP": found[cell]}


def slice_of(figure: str) -> dict[str, tuple[float, float]]:
    """The cells of a figure, (g(0.1), gamma), by its rows."""
    if figure == "figure5":
        return {f"g(0.1) = {weight}": (weight, 1) for weight in WEIGHTS_AT_A_TENTH}
    return {f"gamma = {gamma}": (5, gamma) for gamma in GAMMAS}


def grid(options: Namespace, name: str, seed: int) -> dict[tuple[float, float], float]:
    """Test mean average precision, in per cent, for each g(0.1) and gamma, of one search.

    Labels are dropped entry by entry: where every row has as many known, g is one number, and acts as the penalty does.
    """
    data = prepare(options, name, seed, by="entry")
    stack = sp.vstack if sp.issparse(data.X) else np.vstack
    X, Y = stack([data.X, data.X_test]), np.vstack([data.Y, data.test])
    fold = PredefinedSplit(np.repeat([-1, 0], [len(data.Y), len(data.test)]))
    values = {"loss__weight_at": [(0.1, w) for w in WEIGHTS_AT_A_TENTH], "loss__gamma": list(GAMMAS)}
    clf = PartialLabelClassifier(PartialBCE(), alpha=data.alpha, random_state=seed)
    found = BatchedGridSearchCV(clf, values, cv=fold, refit=False).fit(X, Y).cv_results_
    cells = ((params["loss__weight_at"][1], params["loss__gamma"]) for params in found["params"])
    return {cell: 100 * score for cell, score in zip(cells, found["mean_test_score"])}


def run_penalty(options: Namespace, runs: Runs, name: str) -> None:
    """Validation mean average precision, on a quarter of the training rows, by penalty of the network of categories."""
    for seed in range(FRESH_SEED, FRESH_SEED + options.seeds):
        data = cache(partial(held_out, options, name, seed))
        for factor in ALPHA_FACTORS:
            for method, head in penalised_heads(factor).items():
                run = later(with_head, data, factor, head, seed)
                runs.measure(titled(options, "penalty"), name, method, seed, run)


def penalised_heads(factor: int) -> dict[str, Any]:
    """The linear head, and networks of categories with penalties."""
    found = {"linear head": heads.Linear()} | {f"penalty {each}": heads.CategoryGNN(penalty=each) for each in PENALTIES}
    return {f"alpha {factor * ALPHA:g}, {name}": head for name, head in found.items()}


def held_out(options: Namespace, name: str, seed: int) -> Data:
    """Training rows alone, a quarter of them in the part of the test."""
    parts = split(load(name, options.data, quick=options.quick), test_size=0.25, seed=seed)
    order = np.random.default_rng(seed).permutation(len(parts.Y_train))
    held, rows = np.split(order, [len(order) // 4])
    scaler = StandardScaler().fit(parts.X_train[rows])
    truth = 2 * parts.Y_train - 1
    Y = np.asarray(drop_labels(truth[rows], known=options.known, random_state=seed))
    X, X_held = (scaler.transform(parts.X_train[part]) for part in (rows, held))
    return Data(X, Y, truth[rows], X_held, truth[held])


def with_head(data: Data, factor: int, head: Any, seed: int) -> dict[str, float]:
    """Scores of a head by minibatches, as the network of categories is trained."""
    clf = PartialLabelClassifier(
        "partial_bce", head=head, alpha=factor * data.alpha, solver=Minibatch(), random_state=seed
    )
    return scores(clf.fit(data.X, data.Y), data)


def report(options: Namespace, runs: Runs) -> None:
    """Print what has been measured beside the published figures."""
    if "2" in options.table:
        for head in ("linear", "gnn"):
            report_table_2(runs, table_2_of(options, head))
    for table, kind, methods in (("4", "features", PARTS), ("images", "images", (FROZEN, *PARTS))):
        for measure in SCORES if table in options.table else ():
            published = {"COCO": ABLATION[measure]}
            print_report(runs, table_4_of(options, kind), published, measure=measure, methods=methods, decimals=2)
    for figure, best_first in ORDERS.items():
        if figure in options.table:
            title, rows = titled(options, figure), slice_of(figure)
            print_report(runs, title, {"COCO": best_first}, measure="mAP", methods=rows, decimals=2)
    if "penalty" in options.table:
        rows = [method for factor in ALPHA_FACTORS for method in penalised_heads(factor)]
        print_report(runs, titled(options, "penalty"), {}, measure="mAP", methods=rows, decimals=2, orders=False)


def report_table_2(runs: Runs, table: str) -> None:
    """Print the changes that strategies make, and what is known of the labels that they add."""
    if not runs.data(table):
        return
    for measure in SCORES:
        published, rows = {"VOC 2007": CHANGES[measure]}, (PLAIN, *STRATEGIES)
        print_report(runs, table, published, measure=measure, methods=rows, base=PLAIN, decimals=2)
    print(RATES)
    for measure in ADDED:
        published = {"VOC 2007": CHANGES[measure]}
        print_report(runs, table, published, measure=measure, methods=STRATEGIES, orders=False)


def draw(options: Namespace, runs: Runs) -> None:
    """Draw figures 5 and 6."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    picture, panels = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for panel, figure, values in zip(panels, ORDERS, (WEIGHTS_AT_A_TENTH, GAMMAS)):
        table = titled(options, figure)
        for name in runs.data(table):
            found = [list(runs.values(table, name, method, "mAP").values()) for method in slice_of(figure)]
            change = np.array(found) - np.mean(found, axis=0)
            panel.errorbar(values, change.mean(axis=1), change.std(axis=1), marker="o", capsize=2, label=name)
        panel.set(ylabel="mean average precision, centred")
    panels[0].set(xscale="log", xlabel="g(0.1), gamma = 1")
    panels[1].set(xlabel="gamma, g(0.1) = 5")
    panels[0].legend(fontsize="small")
    picture.savefig(options.figures)


def run(options: Namespace, runs: Runs) -> None:
    """Make the runs that are missing."""
    for name in names(options.data, options.datasets):
        if "2" in options.table:
            for head in ("linear", "gnn") if options.gnn else ("linear",):
                run_table_2(options, runs, name, head)
        if "4" in options.table:
            run_table_4(options, runs, name)
        if "penalty" in options.table:
            run_penalty(options, runs, name)
        run_figures(options, runs, name)
    if "images" in options.table:
        run_images(options, runs)


def main() -> None:
    """Run what was asked for, and print it beside the published figures."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    add_arguments(parser)
    add_run_arguments(parser, TABLES, left_out=("penalty",))
    parser.add_argument("--known", type=float, default=0.1, help="share of the labels that is known (default: 0.1)")
    parser.add_argument("--strategy", default="proportion", help="of table 4 (default: proportion)")
    parser.add_argument("--gnn", action="store_true", help="table 2 with the network of categories, too: minutes more")
    parser.add_argument("--figures", metavar="FILE", help="where to draw figures 5 and 6")
    options = parse(parser)
    runs = Runs(options.csv, (*SCORES, *ADDED), options.methods)
    if not options.report:
        with limit_threads(options.threads):
            run(options, runs)
    report(options, runs)
    if options.figures is not None:
        draw(options, runs)


if __name__ == "__main__":
    main()
