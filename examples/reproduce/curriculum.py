"""Curriculum labelling: the protocol of tables 2 and 4 and of figures 5 and 6 of Durand et al. (CVPR 2019) on features.

Of the training labels 10 % of each row are known. Every strategy is compared with the same fit without relabelling, on
test rows labelled in full: change in mean average precision, exact match, macro and micro F1, in percentage points;
then the share of unknown training entries that it has labelled (the paper's has the known ones in it), and, among the
labels added, the true positive and true negative rates and the share of the presences that are right. Figures 5 and 6
come from one grid search over g(0.1) and gamma of partial-BCE. Table 4 is made on images, too, where a network can be
fine-tuned: on scenes of digits, by a small one that has learned to tell the first five of them on other scenes, which
is the part that ImageNet has in the paper.

    python examples/reproduce/curriculum.py --data DIR               # DIR/features/*.npz; else digit scenes
    python examples/reproduce/curriculum.py --seeds 2 --datasets yeast --figures out.png
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.base import clone
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
from _data import add_arguments, limit_threads, load, names, split

STRATEGIES = ("threshold", "proportion", "positives", "ensemble", "uncertainty", "calibrated", "all")
SCORES = ("mAP", "0-1", "macro F1", "micro F1")
ADDED = ("labelled %", "TPR", "TNR", "present right")
RATES = (
    "TPR and TNR as in the paper's table: of the labels added to entries that are truly present, the share added as\n"
    "present (recall among the labels added, not among all entries); of those that are absent, as absent. A strategy\n"
    "that adds presences alone has 100 and 0: there the paper has the share of its presences that are right."
)
# Relative to the mean squared distance of the features from their mean.
ALPHA = 2e-4
WEIGHTS_AT_A_TENTH = (0.5, 1, 2, 3, 5, 10, 20, 50)
GAMMAS = (-1, -0.5, 0.5, 1, 2, 3)
PARTS = ("table2", "table4", "images", "figures", "penalty")
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)
# Seeds of the choice of penalties begin here, so that no table has been made of them.
FRESH_SEED = 10
_NEEDS_GNN = "needs heads.CategoryGNN"


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
        if sp.issparse(self.X):
            squares = self.X.multiply(self.X).mean(axis=0) - np.square(self.X.mean(axis=0))
            return ALPHA * float(np.sum(squares))
        return ALPHA * float(self.X.var(axis=0).sum())


def prepare(arguments: Namespace, name: str, seed: int, *, by: str = "row") -> Data:
    """Split, scale and drop labels."""
    parts = split(load(name, arguments.data, quick=arguments.quick), test_size=0.25, seed=seed)
    scaler = (MaxAbsScaler() if sp.issparse(parts.X_train) else StandardScaler()).fit(parts.X_train)
    truth, test = (2 * labels - 1 for labels in (parts.Y_train, parts.Y_test))
    known = drop_labels(truth, known=arguments.known, by=by, random_state=seed)
    return Data(scaler.transform(parts.X_train), np.asarray(known), truth, scaler.transform(parts.X_test), test)


def scores(clf: PartialLabelClassifier, data: Data) -> NDArray[np.float64]:
    """Mean average precision, exact match, macro and micro F1 on the test rows, in per cent."""
    logits, truth = clf.decision_function(data.X_test), data.test == 1
    predicted = logits > 0
    return 100 * np.array(
        [
            mean_average_precision(data.test, logits),
            (predicted == truth).all(axis=1).mean(),
            f1_score(truth, predicted, average="macro", zero_division=0),
            f1_score(truth, predicted, average="micro"),
        ]
    )


def added(clf: PartialLabelClassifier, data: Data) -> NDArray[np.float64]:
    """Share of the unknown entries labelled, true positive and true negative rate, right ones of the presences."""
    record = clf.relabeled_
    value, truth = record["value"], data.truth[record["row"], record["label"]]
    right = [value[mask] == truth[mask] for mask in (truth == 1, truth == -1, value == 1)]
    share = len(record) / (data.Y == 0).sum()
    return 100 * np.array([share, *(part.mean() if len(part) else np.nan for part in right)])


def table_2(arguments: Namespace, name: str, head: str) -> None:
    """Change that each strategy makes: mean and standard deviation over seeds."""
    changes: dict[str, list[NDArray[np.float64]]] = {strategy: [] for strategy in STRATEGIES}
    base = []
    for seed in range(arguments.seeds):
        data = prepare(arguments, name, seed)
        clf = PartialLabelClassifier("partial_bce", head=head, alpha=data.alpha, random_state=seed)
        plain = scores(clone(clf).fit(data.X, data.Y), data)
        base.append(plain)
        for strategy in STRATEGIES:
            found = clone(clf).set_params(relabeling=Curriculum(strategy)).fit(data.X, data.Y)
            changes[strategy].append(np.concatenate([scores(found, data) - plain, added(found, data)]))
    print(f"\nTable 2, {name}, head {head!r}: {arguments.known:.0%} known, {arguments.seeds} seeds")
    print(RATES)
    print(f"{'':14}" + "".join(f"{title:>15}" for title in (*SCORES, *ADDED)))
    print(f"{'no relabelling':14}" + cells(np.array(base)))
    for strategy, rows in changes.items():
        print(f"{strategy:14}" + cells(np.array(rows), signed=4))


def cells(rows: NDArray[np.float64], signed: int = 0) -> str:
    """Means and standard deviations of columns, the first ones with their signs."""
    texts = []
    for place, column in enumerate(rows.T):
        numbers = column[~np.isnan(column)]
        if not len(numbers):
            texts.append(f"{'-':>15}")
            continue
        mean, spread = numbers.mean(), numbers.std(ddof=1) if len(numbers) > 1 else 0.0
        texts.append(f"{mean:+9.2f} ±{spread:4.2f}" if place < signed else f"{mean:9.2f} ±{spread:4.2f}")
    return "".join(f"{text:>15}" for text in texts)


def table_4(arguments: Namespace, name: str) -> None:
    """What each part of the method brings. On features nothing is fine-tuned."""
    relabelling: Mapping[str, Any] = {"relabeling": Curriculum(arguments.strategy)}
    rows: dict[str, Mapping[str, Any]] = {
        "BCE of known labels": {"loss": "iu"},
        "partial-BCE": {},
        "  + network of categories": {"head": "gnn"},
        "  + relabelling": relabelling,
        "  + both": {"head": "gnn", **relabelling},
    }
    found: dict[str, list[NDArray[np.float64]]] = {title: [] for title in rows}
    for seed in range(arguments.seeds):
        data = prepare(arguments, name, seed)
        for title, settings in rows.items():
            if "head" in settings and not has_gnn():
                continue
            clf = PartialLabelClassifier("partial_bce", alpha=data.alpha, random_state=seed).set_params(**settings)
            found[title].append(scores(clf.fit(data.X, data.Y), data))
    print(f"\nTable 4, {name}: {arguments.known:.0%} known, relabelling by {arguments.strategy!r}")
    print(f"{'':27}" + "".join(f"{title:>15}" for title in SCORES))
    for title, values in found.items():
        print(f"{title:27}" + (cells(np.array(values)) if values else f"   {_NEEDS_GNN}"))


def penalty_of_categories(arguments: Namespace, name: str) -> None:
    """Validation mean average precision, on a quarter of the training rows, by penalty of the network of categories."""
    print(f"\nValidation of penalties, {name}: {arguments.known:.0%} known; of alpha, linear head, then {PENALTIES}")
    for seed in range(FRESH_SEED, FRESH_SEED + arguments.seeds):
        parts = split(load(name, arguments.data, quick=arguments.quick), test_size=0.25, seed=seed)
        order = np.random.default_rng(seed).permutation(len(parts.Y_train))
        held, rows = np.split(order, [len(order) // 4])
        scaler = StandardScaler().fit(parts.X_train[rows])
        truth = 2 * parts.Y_train - 1
        Y = np.asarray(drop_labels(truth[rows], known=arguments.known, random_state=seed))
        data = Data(
            scaler.transform(parts.X_train[rows]), Y, truth[rows], scaler.transform(parts.X_train[held]), truth[held]
        )
        for factor in (1, 5):
            found = [heads.Linear(), *(heads.CategoryGNN(penalty=penalty) for penalty in PENALTIES)]
            clf = PartialLabelClassifier(
                "partial_bce", alpha=factor * data.alpha, solver=Minibatch(), random_state=seed
            )
            values = [scores(clone(clf).set_params(head=head).fit(data.X, data.Y), data)[0] for head in found]
            print(
                f"seed {seed}, alpha {factor * ALPHA:g}: " + " ".join(f"{value:7.2f}" for value in values), flush=True
            )


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


def table_4_of_images(arguments: Namespace) -> None:
    """The same with a network on images, frozen and fine-tuned."""
    n_scenes, n_epochs = (200, 4) if arguments.quick else (1500, 10)
    solver = Minibatch(learning_rate=1e-3, head_rate=3.0, max_epochs=n_epochs, batch_size=16, schedule="cosine")
    test = make_digit_scenes(1000, scans="test", random_state=1)
    gnn: dict[str, Any] = {"head": "gnn"}
    relabelling: dict[str, Any] = {"relabeling": Curriculum(arguments.strategy)}
    rows: dict[str, dict[str, Any]] = {
        "BCE of known labels, frozen": {"loss": "iu", "backbone__finetune": "head", "solver": "auto"},
        "BCE, fine-tuned": {"loss": "iu"},
        "partial-BCE": {},
        "  + network of categories": gnn,
        "  + relabelling": relabelling,
        "  + both": gnn | relabelling,
    }
    rows = {title: settings for title, settings in rows.items() if "head" not in settings or has_gnn()}
    found: dict[str, list[NDArray[np.float64]]] = {title: [] for title in rows}
    for seed in range(arguments.seeds):
        train = make_digit_scenes(n_scenes, scans="train", random_state=seed)
        Y = drop_labels(train.target, known=arguments.known, random_state=seed)
        data = Data(train.images, Y, train.target, test.images, test.target)
        backbone = Backbone(pretrained(seed, n_scenes, n_epochs), image_size=32, augment=None)
        for title, settings in rows.items():
            clf = PartialLabelClassifier(
                "partial_bce", backbone=backbone, solver=solver, alpha=1e-4, random_state=seed, device="cpu"
            ).set_params(**settings)
            found[title].append(scores(clf.fit(data.X, data.Y), data))
    print(f"\nTable 4, images of digits: {arguments.known:.0%} known, relabelling by {arguments.strategy!r}")
    print(f"{'':27}" + "".join(f"{title:>15}" for title in SCORES))
    for title, values in found.items():
        print(f"{title:27}" + cells(np.array(values)), flush=True)


def grid(arguments: Namespace, name: str) -> NDArray[np.float64]:
    """Test mean average precision for each g(0.1) and gamma, seeds last, of one search a seed.

    Labels are dropped entry by entry: where every row has as many known, g is one number, and acts as the penalty does.
    """
    result = np.zeros((len(WEIGHTS_AT_A_TENTH), len(GAMMAS), arguments.seeds))
    for seed in range(arguments.seeds):
        data = prepare(arguments, name, seed, by="entry")
        stack = sp.vstack if sp.issparse(data.X) else np.vstack
        X, Y = stack([data.X, data.X_test]), np.vstack([data.Y, data.test])
        fold = PredefinedSplit(np.repeat([-1, 0], [len(data.Y), len(data.test)]))
        values = {"loss__weight_at": [(0.1, w) for w in WEIGHTS_AT_A_TENTH], "loss__gamma": list(GAMMAS)}
        clf = PartialLabelClassifier(PartialBCE(), alpha=data.alpha, random_state=seed)
        search = BatchedGridSearchCV(clf, values, cv=fold, refit=False).fit(X, Y)
        for params, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"]):
            place = WEIGHTS_AT_A_TENTH.index(params["loss__weight_at"][1]), GAMMAS.index(params["loss__gamma"])
            result[(*place, seed)] = 100 * score
    return result


def figures_5_and_6(arguments: Namespace, data_sets: list[str]) -> None:
    """Print the two slices of the grid, and draw them if a file is named."""
    results = {name: grid(arguments, name) for name in data_sets}
    by_weight = {name: result[:, GAMMAS.index(1)] for name, result in results.items()}
    by_gamma = {name: result[WEIGHTS_AT_A_TENTH.index(5)] for name, result in results.items()}
    print("\nFigure 5: mean average precision over g(0.1), gamma = 1")
    print(f"{'':14}" + "".join(f"{weight:>15}" for weight in WEIGHTS_AT_A_TENTH))
    for name, values in by_weight.items():
        print(f"{name:14}" + cells(values.T))
    print("\nFigure 6: mean average precision over gamma, g(0.1) = 5")
    print(f"{'':14}" + "".join(f"{gamma:>15}" for gamma in GAMMAS))
    for name, values in by_gamma.items():
        print(f"{name:14}" + cells(values.T))
    if arguments.figures is None:
        return
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    slices = ((WEIGHTS_AT_A_TENTH, by_weight, "g(0.1), gamma = 1"), (GAMMAS, by_gamma, "gamma, g(0.1) = 5"))
    for panel, (values, found, title) in zip(panels, slices):
        for name, result in found.items():
            change = result - result.mean(axis=0)
            panel.errorbar(values, change.mean(axis=1), change.std(axis=1), marker="o", capsize=2, label=name)
        panel.set(xlabel=title, ylabel="mean average precision, centred")
    panels[0].set_xscale("log")
    panels[0].legend(fontsize="small")
    figure.savefig(arguments.figures)


def has_gnn() -> bool:
    """Whether there is a network of categories."""
    return hasattr(heads, "CategoryGNN")


def main() -> None:
    """Print what was asked for."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, default=5, help="of splits and dropped labels (default: 5)")
    parser.add_argument("--known", type=float, default=0.1, help="share of the labels that is known (default: 0.1)")
    parser.add_argument("--strategy", default="proportion", help="of table 4 (default: proportion)")
    parser.add_argument("--gnn", action="store_true", help="table 2 with the network of categories, too: minutes more")
    parser.add_argument("--figures", metavar="FILE", help="where to draw figures 5 and 6")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="a part of it")
    arguments = parser.parse_args()
    wanted = arguments.only or PARTS
    data_sets = names(arguments.data, arguments.datasets)
    with limit_threads(arguments.threads):
        for name in data_sets:
            if "table2" in wanted:
                table_2(arguments, name, "linear")
                if arguments.gnn and has_gnn():
                    table_2(arguments, name, "gnn")
            if "table4" in wanted:
                table_4(arguments, name)
            if "penalty" in (arguments.only or ()):
                penalty_of_categories(arguments, name)
        if "images" in wanted:
            table_4_of_images(arguments)
        if "figures" in wanted:
            figures_5_and_6(arguments, data_sets)


if __name__ == "__main__":
    main()
