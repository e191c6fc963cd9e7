"""Runs of an experiment, kept in a CSV file, and set beside published figures."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from scipy.stats import rankdata, spearmanr

__all__ = ["Runs", "order", "print_report"]

_KEYS = ("table", "data", "method", "seed")
Measures = dict[str, float]


class Runs:
    """What has been measured: a line a run, so that a script that was stopped goes on where it was.

    Parameters
    ----------
    path : str, Path or None
        A CSV file, which need not exist; None keeps nothing.
    measures : sequence of str
        Names of the figures of a run, the columns after table, data, method and seed.
    """

    def __init__(self, path: str | Path | None, measures: Sequence[str]) -> None:
        self.path, self.measures = None if path is None else Path(path), tuple(measures)
        self._found: dict[tuple[str, ...], Measures] = {}
        if self.path is not None and self.path.exists():
            self._read(self.path)

    def _read(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        # The last line may have been cut off.
        whole, _, _ = text.rpartition("\n")
        lines = csv.reader(whole.splitlines())
        header = next(lines, None)
        if header is not None and tuple(header) != (*_KEYS, *self.measures):
            raise SystemExit(f"{path} is not of this experiment: its first line is {','.join(header)}.")
        for line in lines:
            self._found[tuple(line[:4])] = dict(zip(self.measures, map(float, line[4:])))
        if whole and text != whole + "\n":
            path.write_text(whole + "\n", encoding="utf-8")

    def measure(self, table: str, data: str, method: str, seed: int, run: Callable[[], Measures]) -> Measures:
        """Measures of a run, which is made and noted unless it has been before."""
        key = (table, data, method, str(seed))
        if key not in self._found:
            self._found[key] = {name: float(value) for name, value in run().items()}
            self._append(key)
            print(f"  {table}, {data}, {method}, seed {seed}: {_told(self._found[key])}", flush=True)
        return self._found[key]

    def _append(self, key: tuple[str, ...]) -> None:
        if self.path is None:
            return
        new = not self.path.exists() or not self.path.stat().st_size
        with self.path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow((*_KEYS, *self.measures))
            writer.writerow((*key, *(self._found[key][name] for name in self.measures)))

    def values(self, table: str, data: str, method: str, measure: str) -> list[float]:
        """A figure of all seeds."""
        found = [found[measure] for key, found in self._found.items() if key[:3] == (table, data, method)]
        return [value for value in found if not math.isnan(value)]

    def data(self, table: str) -> list[str]:
        """The data sets on which there are runs of a table."""
        return list(dict.fromkeys(key[1] for key in self._found if key[0] == table))


def print_report(
    runs: Runs, table: str, published: Mapping[str, Mapping[str, float]], *, measure: str, methods: Iterable[str]
) -> None:
    """Print published and measured figures of a table side by side, and how their orders agree.

    Parameters
    ----------
    runs : Runs
        What has been measured.
    table : str
        Its name among the runs.
    published : mapping of str to mapping of str to float
        Of each data set of the paper the figures by method.
    measure : str
        Which figure of a run is compared.
    methods : iterable of str
        Rows, published or not.
    """
    sets, methods = runs.data(table), list(methods)
    if not sets:
        return
    print(f"\n{table}: {measure}, published | measured, mean ± standard deviation over seeds")
    print(f"{'':24}" + "".join(f"{name:>9}" for name in published) + " |" + "".join(f"{name:>16}" for name in sets))
    for method in methods:
        known = "".join(
            f"{figures[method]:9.1f}" if method in figures else f"{'-':>9}" for figures in published.values()
        )
        measured = "".join(f"{_spread(runs.values(table, name, method, measure)):>16}" for name in sets)
        print(f"{method:24}{known} |{measured}")
    for name, figures in published.items():
        print(f"order on {name}: {order(figures)}")
    for name in sets:
        found = {method: runs.values(table, name, method, measure) for method in methods}
        means = {method: statistics.fmean(values) for method, values in found.items() if values}
        print(f"order on {name}: {order(means)}")
        for of, figures in published.items():
            common = [method for method in means if method in figures]
            if len(common) > 2:
                agreement = spearmanr([means[m] for m in common], [figures[m] for m in common]).statistic
                print(f"  rank correlation with {of}: {agreement:+.2f} over {len(common)} methods")


def order(figures: Mapping[str, float]) -> str:
    """Methods from the best to the worst."""
    ranks = rankdata([-value for value in figures.values()], method="ordinal")
    return " > ".join(method for _, method in sorted(zip(ranks, figures)))


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{statistics.fmean(values):.1f} ± {statistics.stdev(values) if len(values) > 1 else 0:.1f}"


def _told(measures: Measures) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in measures.items())
