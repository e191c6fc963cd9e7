"""Large losses: table 2 and figures 4 and 5 of Kim et al. (CVPR 2022).

One present label of each training row is recorded. Losses that doubt large losses of unknown entries, and reject
them (LL-R), correct them (LL-Ct) or correct them for good (LL-Cp), are compared with losses that take all for absent.
Complete validation labels choose learning rate, delta and epoch. "Precision" is figure 4's: how many per cent of the
modified labels of the training rows are present; of LL-Cp those corrected at the end, of the others those that the last
epoch would modify in all rows at once. Figure 5 is the test score over delta, for LL-Ct. On features the classifier is
linear and is trained by minibatches, as the networks are; "rounds" are the package's own, a convex problem each.

    python examples/reproduce/large_loss.py --data DIR --csv runs.csv            # DIR/features/*.npz; else digit scenes
    python examples/reproduce/large_loss.py --images coco --path COCO --fine-tune --csv runs.csv
"""

from __future__ import annotations

import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from _runs import Runs, add_run_arguments, parse, print_report
from _single_positive_data import (
    SEED,
    Labels,
    Task,
    add_data_arguments,
    expected,
    image_tasks,
    limit_threads,
    published,
    tasks,
)

from skpartial import SinglePositiveClassifier
from skpartial.images import Backbone
from skpartial.losses import ROLE, AssumeNegative, ExpectedPositives, LargeLoss, Loss, WeakAssumeNegative
from skpartial.metrics import mean_average_precision
from skpartial.solvers import FullBatch, Minibatch

RATES, BATCH_SIZE = (1e-2, 1e-3, 1e-4, 1e-5), 16
#: The searched shares of all entries that are modified more in each epoch.
DELTAS = (0.001, 0.002, 0.003, 0.004, 0.005)
EPOCHS, EPOCHS_OF_LINEAR = 10, 25
TABLES = {"2": "losses", "figure4": "precision of modified labels", "figure5": "test score over delta, for LL-Ct"}
_FOR_DELTA = "LL-Ct, delta {:.1%}"

END_TO_END = published(
    """
    AN      85.1 64.1 42.0 19.1
    WAN     86.5 64.8 46.3 20.3
    AN-LS   86.7 66.9 44.9 17.9
    EPR     85.5 63.3 46.0 20.0
    ROLE    87.9 66.3 43.1 15.0
    LL-R    89.2 71.0 47.4 19.5
    LL-Ct   89.0 70.5 48.0 20.4
    LL-Cp   88.4 70.7 48.3 20.1
    """
)
LINEAR_INIT = published(
    """
    AN      86.9 68.7 47.6 20.9
    WAN     87.1 68.0 47.5 21.1
    AN-LS   86.5 69.2 50.5 16.6
    EPR     84.9 66.8 48.1 21.2
    ROLE    88.2 69.0 51.0 16.8
    LL-R    89.4 71.9 49.1 21.5
    LL-Ct   89.3 71.6 49.6 21.8
    LL-Cp   88.3 71.0 49.4 21.4
    """
)
ROUNDS = ("LL-R, rounds", "LL-Ct, rounds", "LL-Cp, rounds")
_SCHEMES = {"LL-R": "reject", "LL-Ct": "correct", "LL-Cp": "correct_permanently"}


def large_losses(scheme: str, options: Namespace) -> list[Loss]:
    """One for each delta."""
    deltas = DELTAS[1:2] if options.quick else DELTAS
    return [LargeLoss(scheme, delta=delta) for delta in deltas]  # type: ignore[arg-type]


def methods(n_expected: float, options: Namespace) -> dict[str, list[Loss]]:
    """The rows of table 2: losses of which validation chooses one."""
    rows: dict[str, list[Loss]] = {
        "AN": [AssumeNegative()],
        "WAN": [WeakAssumeNegative()],
        "AN-LS": [AssumeNegative(0.1)],
        "EPR": [ExpectedPositives(n_expected)],
        "ROLE": [ROLE(n_expected)],
    }
    return rows | {name: large_losses(scheme, options) for name, scheme in _SCHEMES.items()}


def evaluate(clf: Any, task: Task, Y: Labels) -> dict[str, float]:
    """Mean average precision on test rows, precision of modified labels, and what was chosen."""
    test = 100 * mean_average_precision(task.test, clf.decision_function(task.X_test))
    loss, solver = clf.loss, clf.solver
    precision = 100 * precision_of_modified(clf, task, Y) if isinstance(loss, LargeLoss) else np.nan
    rate = solver.learning_rate if isinstance(solver, Minibatch) else 0.0
    return {"test": test, "precision": precision, "rate": rate, "delta": getattr(loss, "delta", np.nan)}


def precision_of_modified(clf: Any, task: Task, Y: Labels) -> float:
    """Share of presences among the unknown entries that are modified at the end."""
    if clf.loss.scheme == "correct_permanently":
        modified = (np.asarray(clf.corrected_labels_) == 1) & (Y == 0)
    else:
        # The loss of an unknown entry grows with its logit.
        logits = np.where(Y == 0, clf.decision_function(task.X), -np.inf)
        n_modified = round((clf.n_iter_ - 1) * clf.loss.delta * Y.size)
        modified = np.zeros(Y.shape, bool)
        modified.flat[np.argsort(-logits, axis=None)[:n_modified]] = True
    return float((task.truth[modified] == 1).mean()) if modified.any() else np.nan


def chosen(losses: list[Loss], task: Task, candidates: list[dict[str, Any]]) -> dict[str, float]:
    """Of all losses and settings the one that does best on the validation rows."""
    Y, best, found = task.recorded(), -1.0, None
    for loss, settings in product(losses, candidates):
        clf = SinglePositiveClassifier(loss, random_state=SEED, threshold=0.5, **settings)
        clf.fit(task.X, Y, X_val=task.X_val, y_val=task.val)
        score = clf.score(task.X_val, task.val)
        if score > best:
            best, found = score, evaluate(clf, task, Y)
    assert found is not None
    return found


def linear(options: Namespace) -> list[dict[str, Any]]:
    """Settings of linear classifiers by minibatches."""
    rates, epochs = (RATES[:1], 3) if options.quick else (RATES, EPOCHS_OF_LINEAR)
    return [{"alpha": 0.0, "solver": Minibatch("adam", rate, epochs, BATCH_SIZE)} for rate in rates]


def run_linear(options: Namespace, runs: Runs) -> None:
    """Table 2 and figures 4 and 5 on features."""
    in_rounds: list[dict[str, Any]] = [{"solver": FullBatch(rounds=EPOCHS)}]
    for seed in range(SEED, SEED + options.seeds):
        for task in tasks(options, seed):
            rows = methods(expected(task), options)
            for name, losses in rows.items():
                if "2" in options.table or ("figure4" in options.table and name in _SCHEMES):
                    runs.measure("linear", task.name, name, seed, partial(chosen, losses, task, linear(options)))
            for name in ROUNDS if {"2", "figure4"} & set(options.table) else ():
                losses = rows[name.partition(",")[0]]
                runs.measure("linear", task.name, name, seed, partial(chosen, losses, task, in_rounds))
            for loss in rows["LL-Ct"] if "figure5" in options.table else ():
                name = _FOR_DELTA.format(loss.delta)  # type: ignore[attr-defined]
                runs.measure("linear", task.name, name, seed, partial(chosen, [loss], task, linear(options)))


def fine_tuned(options: Namespace, finetune: str) -> Iterator[dict[str, Any]]:
    """Settings of networks."""
    rates, epochs = (RATES[2:3], 1) if options.quick else (RATES, EPOCHS)
    name, size, weights = ("resnet18", 64, None) if options.quick else (options.backbone, 448, "DEFAULT")
    backbone = Backbone(name, weights=weights, image_size=size, finetune=finetune)  # type: ignore[arg-type]
    for rate in rates:
        solver = Minibatch("adam", rate, epochs, BATCH_SIZE, head_rate=10.0)
        yield {"alpha": 0.0, "backbone": backbone, "solver": solver}


def run_fine_tuned(options: Namespace, runs: Runs) -> None:
    """Table 2 with networks, from the start and after linear initialisation."""
    for seed in range(SEED, SEED + options.seeds):
        task = image_tasks(options, seed)
        for name, losses in methods(expected(task), options).items():
            for finetune in ("all", "linear_init"):
                settings = list(fine_tuned(options, finetune))
                runs.measure(finetune, task.name, name, seed, partial(chosen, losses, task, settings))


def report(options: Namespace, runs: Runs) -> None:
    """Print what has been measured beside the published figures."""
    if "2" in options.table:
        print_report(runs, "linear", LINEAR_INIT, measure="test", methods=[*LINEAR_INIT["voc"], *ROUNDS])
    if "figure4" in options.table:
        print_report(runs, "linear", {}, measure="precision", methods=[*_SCHEMES, *ROUNDS])
    if "figure5" in options.table:
        print_report(runs, "linear", {}, measure="test", methods=[_FOR_DELTA.format(delta) for delta in DELTAS])
    if "2" in options.table:
        print_report(runs, "all", END_TO_END, measure="test", methods=END_TO_END["voc"])
        print_report(runs, "linear_init", LINEAR_INIT, measure="test", methods=LINEAR_INIT["voc"])


def main() -> None:
    """Run what was asked for, and print it beside the published figures."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_data_arguments(parser)
    add_run_arguments(parser, TABLES)
    parser.add_argument("--fine-tune", action="store_true", help="table 2 with networks, which wants a GPU")
    options = parse(parser)
    runs = Runs(options.csv, ("test", "precision", "rate", "delta"), options.methods)
    with limit_threads(options.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # labels without a recorded presence
        if not options.report and not options.fine_tune:
            run_linear(options, runs)
        if not options.report and (options.fine_tune or options.quick) and "2" in options.table:
            run_fine_tuned(options, runs)
    report(options, runs)


if __name__ == "__main__":
    main()
