"""Single positive labels on features: example-based average precision beside published figures of several papers.

One present label of each training row is recorded, drawn uniformly; a tenth of the rows validate and a tenth are for
the test, both with complete labels. The figure is scikit-learn's ``label_ranking_average_precision_score`` on the
test rows, in per cent. A linear classifier on the features as they are is set beside the published methods, which
train networks of a few layers on the same features: the package's default, which looks at no validation row, and the
same losses with an ``alpha`` that the validation rows choose.

    python examples/reproduce/example_based.py --data DIR --csv runs.csv         # DIR/features/*.npz; else digit scenes
"""

from __future__ import annotations

import warnings
from argparse import ArgumentParser, Namespace
from functools import partial
from typing import Any

import numpy as np
from _runs import Runs, add_run_arguments, parse, print_report
from _single_positive_data import SEED, Labels, add_data_arguments, limit_threads, load, names
from numpy.typing import NDArray
from sklearn.metrics import label_ranking_average_precision_score
from sklearn.model_selection import train_test_split

from skpartial import SinglePositiveClassifier
from skpartial.labels import keep_single_positive

PUBLISHED = {
    "scene": {"AN": 58.0, "WAN": 66.1, "ROLE": 70.0, "LL-Cp": 73.5, "SMILE": 72.2, "CRISP": 79.5},
    "yeast": {"AN": 53.1, "WAN": 69.8, "ROLE": 71.1, "LL-Cp": 70.0, "SMILE": 75.1, "CRISP": 75.8},
    "corel5k": {"AN": 21.7, "WAN": 24.1, "ROLE": 20.3, "LL-Cp": 25.9, "SMILE": 29.5, "CRISP": 30.4},
}
TABLES = {"features": "single positive labels on features"}
DEFAULT = "package's default"
TUNED = {f"{name}, alpha tuned": loss for name, loss in (("AN", "an"), ("AN-LS", "an_ls"), ("WAN", "wan"))}
#: Relative to what the default stands for.
FACTORS = 10.0 ** np.arange(-2, 2.5, 0.5)

Parts = tuple[tuple[Any, Labels], tuple[Any, Labels], tuple[Any, Labels]]


def make_parts(name: str, options: Namespace, seed: int) -> Parts:
    """Rows for training, validation and test; labels in {-1, 1}."""
    data = load(name, options.data, quick=options.quick)
    train, rest = train_test_split(np.arange(len(data.Y)), test_size=0.2, random_state=seed)
    val, test = train_test_split(rest, test_size=0.5, random_state=seed)
    make = [(data.X[rows], (2 * data.Y[rows] - 1).astype(np.int8)) for rows in (train, val, test)]
    return make[0], make[1], make[2]


def score(clf: SinglePositiveClassifier, part: tuple[Any, Labels]) -> float:
    """Example-based average precision in per cent, of rows with a presence."""
    X, truth = part
    rows: NDArray[np.bool_] = (truth == 1).any(axis=1)
    return 100 * float(label_ranking_average_precision_score(truth[rows] == 1, clf.decision_function(X[rows])))


def fit(parts: Parts, seed: int, **settings: Any) -> SinglePositiveClassifier:
    """On one recorded presence a row."""
    X, truth = parts[0]
    Y = keep_single_positive(truth, random_state=seed)
    return SinglePositiveClassifier(random_state=seed, threshold=0.5, **settings).fit(X, Y)


def default(parts: Parts, seed: int) -> dict[str, float]:
    """Of what is done if nothing is chosen."""
    return {"test": score(fit(parts, seed), parts[2]), "factor": 1.0}


def tuned(loss: str, parts: Parts, seed: int) -> dict[str, float]:
    """Of the penalty that is best on the validation rows."""
    alpha = fit(parts, seed, loss=loss).alpha_
    fitted = {factor: fit(parts, seed, loss=loss, alpha=factor * alpha) for factor in FACTORS}
    best = max(fitted, key=lambda factor: score(fitted[factor], parts[1]))
    return {"test": score(fitted[best], parts[2]), "factor": best}


def main() -> None:
    """Run what is missing, and print it beside the published figures."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_data_arguments(parser)
    add_run_arguments(parser, TABLES)
    options = parse(parser)
    runs = Runs(options.csv, ("test", "factor"), options.methods)
    with limit_threads(options.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # labels without a recorded presence
        wanted = [] if options.report else names(options.data, options.datasets)
        for name, seed in ((name, SEED + seed) for name in wanted for seed in range(options.seeds)):
            parts = make_parts(name, options, seed)
            runs.measure("features", name, DEFAULT, seed, partial(default, parts, seed))
            for method, loss in TUNED.items():
                runs.measure("features", name, method, seed, partial(tuned, loss, parts, seed))
    print_report(runs, "features", PUBLISHED, measure="test", methods=[*PUBLISHED["scene"], DEFAULT, *TUNED])


if __name__ == "__main__":
    main()
