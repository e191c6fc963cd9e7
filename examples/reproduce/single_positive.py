"""Single positive labels: tables 1 and 2 of Cole et al. (CVPR 2021).

One present label of each training row is recorded, drawn by the published generator; 20 % of the training rows, with
complete labels, choose learning rate, batch size and epoch of each method; figures are mean average precision in per
cent. Table 1 is of complete test rows; table 2 of the training rows themselves, against their complete labels. On
features the classifier is linear. On images (``--images``) ``--table 1`` is the linear one too, on features of the
network, and ``--fine-tune`` trains the network as well, from the start or after linear initialisation.

    python examples/reproduce/single_positive.py --data DIR --csv runs.csv       # DIR/features/*.npz; else digit scenes
    python examples/reproduce/single_positive.py --images voc --path VOC2012 --fine-tune --csv runs.csv
"""

from __future__ import annotations

import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any, NamedTuple

from _runs import Runs, add_run_arguments, parse, print_report
from _single_positive_data import (
    SEED,
    Task,
    add_data_arguments,
    expected,
    image_tasks,
    limit_threads,
    published,
    tasks,
)

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.images import Backbone
from skpartial.losses import BCE, ROLE, AssumeNegative, ExpectedPositives, IgnoreUnknown, Loss, WeakAssumeNegative
from skpartial.metrics import mean_average_precision
from skpartial.solvers import Minibatch

RATES, BATCH_SIZES = (1e-2, 1e-3, 1e-4, 1e-5), (8, 16)
EPOCHS, EPOCHS_OF_FINE_TUNING = 25, 10
#: What the released code adds in the logarithm, and the mass that its label smoothing moves.
EPS, SMOOTHING = 1e-5, 0.1

LINEAR = published(
    """
    BCE      86.7 70.0 50.7 29.1
    BCE-LS   87.6 70.2 51.7 29.3
    IUN      86.4 67.0 49.0 19.4
    IU       82.6 60.8 43.6 16.1
    AN       84.2 62.3 46.2 17.2
    AN-LS    85.3 64.8 48.5 15.4
    WAN      84.1 63.1 45.8 17.9
    EPR      83.8 62.6 46.4 18.0
    ROLE     86.5 66.3 49.5 16.2
    """
)
FINE_TUNED = published(
    """
    BCE                  89.1 75.8 52.6 32.1
    BCE-LS               90.0 76.8 53.5 32.6
    IUN                  87.1 70.5 46.9 21.3
    IU                   83.2 59.7 42.9 17.9
    AN                   85.1 64.1 42.0 19.1
    AN-LS                86.7 66.9 44.9 17.9
    WAN                  86.5 64.8 46.3 20.3
    EPR                  85.5 63.3 46.0 20.0
    ROLE                 87.9 66.3 43.1 15.0
    AN-LS + LinearInit   86.5 69.2 50.5 16.6
    ROLE + LinearInit    88.2 69.0 51.0 16.8
    """
)
RECOVERED = published(
    """
    AN     85.8 63.8 49.3 16.8
    ROLE   90.3 69.5 56.0 19.6
    """
)
DEFAULT = "package's default"
TABLES = {"1": "complete test rows", "2": "the training rows, against their complete labels"}
#: The rows of table 2, or what could be.
TOLD_ONE_PRESENCE = ("AN", "AN-LS", "WAN", "EPR", "ROLE", DEFAULT)


class Method(NamedTuple):
    """A loss, and which of the labels it is told."""

    loss: Loss
    n_present: int | str = 1
    n_absent: int | str = 0


def methods(n_expected: float) -> dict[str, Method]:
    """The rows of table 1."""
    return {
        "BCE": Method(BCE(eps=EPS), "all", "all"),
        "BCE-LS": Method(BCE(SMOOTHING, eps=EPS), "all", "all"),
        "IUN": Method(IgnoreUnknown(eps=EPS), 1, "all"),
        "IU": Method(IgnoreUnknown(eps=EPS), 1, 1),
        "AN": Method(AssumeNegative(eps=EPS)),
        "AN-LS": Method(AssumeNegative(SMOOTHING, eps=EPS)),
        "WAN": Method(WeakAssumeNegative(eps=EPS)),
        "EPR": Method(ExpectedPositives(n_expected, eps=EPS)),
        "ROLE": Method(ROLE(n_expected, eps=EPS)),
    }


def classifier(method: Method, **settings: Any) -> Any:
    """Without a penalty, and scored on complete validation labels."""
    kind = SinglePositiveClassifier if method.n_absent == 0 else PartialLabelClassifier
    own = {"threshold": 0.5} if kind is SinglePositiveClassifier else {}
    return kind(method.loss, alpha=0.0, random_state=SEED, **own, **settings)


def scores(clf: Any, task: Task) -> dict[str, float]:
    """Mean average precision on test rows, and on the training rows, in per cent."""
    parts = ((task.test, task.X_test), (task.truth, task.X))
    found = [100 * mean_average_precision(truth, clf.decision_function(X)) for truth, X in parts]
    return {"test": found[0], "training": found[1]}


def chosen(method: Method, task: Task, candidates: Iterator[dict[str, Any]]) -> dict[str, float]:
    """Scores of the candidate whose best epoch has the best score on the validation rows."""
    Y = task.recorded(n_present=method.n_present, n_absent=method.n_absent)
    best, found = -1.0, None
    for settings in candidates:
        clf = classifier(method, **settings).fit(task.X, Y, X_val=task.X_val, y_val=task.val)
        score = max(record["validation_score"] for record in clf.history_)
        if score > best:
            best, found = score, scores(clf, task) | {"rate": settings["solver"].learning_rate}
    assert found is not None
    return found


def linear(options: Namespace) -> Iterator[dict[str, Any]]:
    """Candidates of a linear classifier."""
    rates, sizes, epochs = (RATES[:2], (16,), 2) if options.quick else (RATES, BATCH_SIZES, EPOCHS)
    for rate, size in product(rates, sizes):
        yield {"solver": Minibatch("adam", rate, epochs, size)}


def fine_tuned(options: Namespace, finetune: str) -> Iterator[dict[str, Any]]:
    """Candidates of a network that is trained as well."""
    rates, sizes, epochs = (RATES[2:3], (16,), 1) if options.quick else (RATES, BATCH_SIZES, EPOCHS_OF_FINE_TUNING)
    name, size, weights = ("resnet18", 64, None) if options.quick else (options.backbone, 448, "DEFAULT")
    backbone = Backbone(name, weights=weights, image_size=size, finetune=finetune)  # type: ignore[arg-type]
    for rate, size in product(rates, sizes):
        yield {"backbone": backbone, "solver": Minibatch("adam", rate, epochs, size, head_rate=1.0)}


def run_linear(options: Namespace, runs: Runs) -> None:
    """Tables 1 and 2 with linear classifiers."""
    for seed in range(SEED, SEED + options.seeds):
        for task in tasks(options, seed):
            for name, method in methods(expected(task)).items():
                if "1" not in options.table and name not in TOLD_ONE_PRESENCE:
                    continue
                runs.measure("linear", task.name, name, seed, partial(chosen, method, task, linear(options)))
            runs.measure("linear", task.name, DEFAULT, seed, partial(default, task))


def default(task: Task) -> dict[str, float]:
    """Of what this package does if nothing is chosen: neither rate nor epoch, nor a validation row."""
    return scores(SinglePositiveClassifier(random_state=SEED).fit(task.X, task.recorded()), task) | {"rate": 0.0}


def run_fine_tuned(options: Namespace, runs: Runs) -> None:
    """Table 1 with networks."""
    for seed in range(SEED, SEED + options.seeds):
        task = image_tasks(options, seed)
        rows = [(name, method, "all") for name, method in methods(expected(task)).items()]
        rows += [(f"{name} + LinearInit", method, "linear_init") for name, method, _ in rows if name in _INITIALISED]
        for name, method, finetune in rows:
            runs.measure(
                "fine-tuned", task.name, name, seed, partial(chosen, method, task, fine_tuned(options, finetune))
            )


def report(options: Namespace, runs: Runs) -> None:
    """Print what has been measured beside the published figures."""
    if "1" in options.table:
        print_report(runs, "linear", LINEAR, measure="test", methods=[*LINEAR["voc"], DEFAULT])
    if "2" in options.table:
        print_report(runs, "linear", RECOVERED, measure="training", methods=TOLD_ONE_PRESENCE)
    if "1" in options.table:
        print_report(runs, "fine-tuned", FINE_TUNED, measure="test", methods=FINE_TUNED["voc"])


_INITIALISED = ("AN-LS", "ROLE")


def main() -> None:
    """Run what was asked for, and print it beside the published figures."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_data_arguments(parser)
    add_run_arguments(parser, TABLES)
    parser.add_argument("--fine-tune", action="store_true", help="table 1 with networks, which wants a GPU")
    options = parse(parser)
    runs = Runs(options.csv, ("test", "training", "rate"), options.methods)
    with limit_threads(options.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # labels without a second sign among the recorded ones
        if not options.report and not options.fine_tune:
            run_linear(options, runs)
        if not options.report and (options.fine_tune or options.quick) and "1" in options.table:
            run_fine_tuned(options, runs)
    report(options, runs)


if __name__ == "__main__":
    main()
