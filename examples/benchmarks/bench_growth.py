r"""
How time and memory grow with rows and with labels
==================================================

Two series, each fit in a process of its own:

``rows``
    10,000, 100,000 and 1,000,000 rows of 512 features, 100 labels, a tenth of the entries known:
    ``PartialLabelClassifier()`` against scikit-learn's ``SGDClassifier(loss="log_loss")``, one for each label on the
    rows in which it is known.
``labels``
    100,000 rows of 512 features, one recorded presence per row in a sparse matrix, 100, 1,000 and 10,000 labels:
    ``SinglePositiveClassifier()`` and the same with the squared loss in closed form, against ``SGDClassifier`` for each
    label on all rows, and napkinXC's probabilistic label tree, which is made for such label sets (left out if napkinXC
    is not installed).

Rows lie around the prototype of their label in 32 dimensions, seen through 512 features. "Among the first ten" is the
share of held-out rows whose own label has one of the ten highest scores. Seconds are processor time, which other
processes disturb less. Memory is the highest resident memory of the process; the line "nothing" is that of data and
libraries alone. The exponent is that of the growth of the seconds from one size to the next: 1 is proportional.
``SGDClassifier`` is fitted for ``--peer-labels`` labels, spread over all, and its time multiplied up (~), so that it
has no scores to compare. Run with ``--quick`` to see that it runs.
"""

from __future__ import annotations

import math
import resource
import tempfile
import time
import warnings
from argparse import ArgumentParser
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from _data import limit_threads
from numpy.typing import NDArray
from sklearn.linear_model import SGDClassifier

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.labels import drop_labels
from skpartial.losses import AssumeNegative

_LATENT, _HELD = 32, 2_000


class Problem(NamedTuple):
    """Training rows, and held-out rows with their own label."""

    X: NDArray[np.float32]
    Y: Any
    X_test: NDArray[np.float32]
    own: NDArray[np.int64]


class Cell(NamedTuple):
    """One fit: which method on which data."""

    method: str
    series: str
    rows: int
    labels: int
    features: int
    threads: int
    peer_labels: int


def make(cell: Cell) -> Problem:
    """Rows around the prototype of their label; a tenth of the entries known, or one presence per row."""
    rng = np.random.default_rng(0)
    n = cell.rows + _HELD
    prototypes = rng.standard_normal((cell.labels, _LATENT), dtype=np.float32)
    seen = rng.standard_normal((_LATENT, cell.features), dtype=np.float32) / math.sqrt(_LATENT)
    own = rng.integers(cell.labels, size=n)
    X = np.empty((n, cell.features), dtype=np.float32)
    for start in range(0, n, 10_000):
        chosen = prototypes[own[start : start + 10_000]]
        latent = chosen + 0.5 * rng.standard_normal(chosen.shape, dtype=np.float32)
        X[start : start + 10_000] = latent @ seen + 0.5 * rng.standard_normal(
            (len(latent), cell.features), dtype=np.float32
        )
    train = own[: cell.rows]
    ones = sp.csr_array((np.ones(cell.rows, np.int8), train, np.arange(cell.rows + 1)), shape=(cell.rows, cell.labels))
    Y: Any = ones
    if cell.series == "rows":
        Y = drop_labels(2 * ones.toarray() - 1, known=0.1, random_state=0)
    return Problem(X[: cell.rows], Y, X[cell.rows :], own[cell.rows :])


def fit_skpartial(clf: Any) -> Callable[[Problem, Cell], Any]:
    """Scores of held-out rows."""
    return lambda problem, cell: clf.fit(problem.X, problem.Y).decision_function(problem.X_test)


def fit_sgd(problem: Problem, cell: Cell) -> None:
    """scikit-learn's, for some of the labels; its own time is multiplied up by the caller."""
    for j in np.linspace(0, cell.labels - 1, cell.peer_labels).astype(int):
        if sp.issparse(problem.Y):
            SGDClassifier(loss="log_loss", random_state=0).fit(problem.X, problem.Y[:, [j]].toarray().ravel())
        else:
            known = problem.Y[:, j] != 0
            SGDClassifier(loss="log_loss", random_state=0).fit(problem.X[known], problem.Y[known, j])


def fit_napkinxc(problem: Problem, cell: Cell) -> NDArray[Any]:
    """A label tree; scores of the ten labels that it ranks highest."""
    from napkinxc.models import PLT

    scores = np.full((len(problem.X_test), cell.labels), -np.inf)
    with tempfile.TemporaryDirectory() as folder:
        tree = PLT(str(Path(folder) / "plt"), threads=cell.threads, seed=0)
        tree.fit(sp.csr_matrix(problem.X), sp.csr_matrix(problem.Y, dtype=np.float32))
        for row, ranked in enumerate(tree.predict(sp.csr_matrix(problem.X_test), top_k=10)):
            scores[row, ranked] = -np.arange(len(ranked))
    return scores


METHODS: dict[str, Callable[[Problem, Cell], Any] | None] = {
    "nothing": None,
    "PartialLabelClassifier()": fit_skpartial(PartialLabelClassifier(random_state=0, device="cpu")),
    "SinglePositiveClassifier()": fit_skpartial(SinglePositiveClassifier(random_state=0, device="cpu")),
    "squared loss": fit_skpartial(
        SinglePositiveClassifier(AssumeNegative(surrogate="squared"), random_state=0, device="cpu")
    ),
    "SGDClassifier": fit_sgd,
    "napkinXC, PLT": fit_napkinxc,
}
SERIES = {
    "rows": ("nothing", "PartialLabelClassifier()", "SGDClassifier"),
    "labels": ("nothing", "SinglePositiveClassifier()", "squared loss", "SGDClassifier", "napkinXC, PLT"),
}


def run(cell: Cell) -> tuple[float, float, str]:
    """Processor seconds, peak gigabytes, and the share of held-out rows with their own label among the first ten."""
    with limit_threads(cell.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problem, fit = make(cell), METHODS[cell.method]
        start = time.process_time()
        scores = None if fit is None else fit(problem, cell)
        seconds = time.process_time() - start
        found = ""
        if scores is not None:
            own = scores[np.arange(_HELD), problem.own]
            found = f"{((scores > own[:, None]).sum(axis=1) < 10)[own > -np.inf].sum() / _HELD:.1%}"
        if cell.method == "SGDClassifier":
            seconds *= cell.labels / cell.peer_labels
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, found


def main() -> None:
    parser = ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--series", nargs="+", choices=list(SERIES), default=list(SERIES))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), metavar="NAME", help="default: all")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="of the series rows")
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 1_000, 10_000], help="of the series labels")
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--peer-labels", type=int, default=5, help="labels of SGDClassifier (default: 5)")
    parser.add_argument("--threads", type=int, default=1, help="threads of every method (default: 1)")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run?")
    options = parser.parse_args()
    n = 100_000
    if options.quick:
        n, options.rows, options.labels, options.features = 1_000, [5_000, 10_000], [10, 20], 16
    for series in options.series:
        growing = options.rows if series == "rows" else options.labels
        print(f"\n| {series} | method | s | exponent | peak GB | among the first ten |\n|---:|---|---:|---:|---:|---:|")
        for method in SERIES[series]:
            if method not in (options.methods or METHODS) or ("napkin" in method and not find_spec("napkinxc")):
                continue
            before: tuple[int, float] | None = None
            for size in growing:
                shape = (size, 100) if series == "rows" else (n, size)
                cell = Cell(method, series, *shape, options.features, options.threads, options.peer_labels)
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    seconds, gigabytes, found = pool.submit(run, cell).result()
                slope = "" if before is None else f"{math.log(seconds / before[1]) / math.log(size / before[0]):.2f}"
                about = "~" if method == "SGDClassifier" else ""
                if method == "nothing":
                    seconds_text, slope = "", ""
                else:
                    seconds_text, before = f"{about}{seconds:.1f}", (size, seconds)
                print(f"| {size:,} | {method} | {seconds_text} | {slope} | {gigabytes:.2f} | {found} |", flush=True)


if __name__ == "__main__":
    main()
