"""Runs of an experiment, kept in a CSV file, and set beside published figures."""

from __future__ import annotations

import csv
import math
import re
import statistics
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from textwrap import fill
from typing import Any

from scipy.stats import rankdata, spearmanr

__all__ = ["Published", "Runs", "add_run_arguments", "later", "order", "parse", "print_report", "spelled"]

_KEYS = ("table", "data", "method", "seed")
Measures = dict[str, float]
#: Of each data set of a paper the figures by method or, where there are none to be read, methods from the best on.
Published = Mapping[str, "Mapping[str, float] | Sequence[str]"]


def add_run_arguments(parser: ArgumentParser, tables: Mapping[str, str], *, left_out: Sequence[str] = ()) -> None:
    """Options that every script has: which tables, how many seeds, where runs are kept.

    Parameters
    ----------
    parser : ArgumentParser
        To which they are added.
    tables : mapping of str to str
        Numbers or names of tables, and what each is.
    left_out : sequence of str
        Tables that are made only if they are asked for.
    """
    told = "; ".join(f"{name}: {what}" for name, what in tables.items())
    but = f" but {', '.join(left_out)}" if left_out else ""
    parser.add_argument(
        "--table",
        nargs="+",
        choices=list(tables),
        default=[name for name in tables if name not in left_out],
        help=f"{told} (default: all{but})",
    )
    parser.add_argument("--methods", nargs="+", metavar="PART", help="rows whose names hold one of these")
    parser.add_argument("--seeds", type=int, help="how many (default: 5, with --smoke 1)")
    parser.add_argument("--csv", metavar="FILE", help="where runs are kept; those that are there are not made again")
    parser.add_argument("--report", action="store_true", help="print what is in the file, and run nothing")


def parse(parser: ArgumentParser) -> Namespace:
    """The options that were given."""
    options = parser.parse_args()
    if options.report and options.csv is None:
        parser.error("--report wants the file of the runs: --csv FILE")
    if options.seeds is None:
        options.seeds = 1 if options.quick else 5
    return options


def spelled(table: str) -> str:
    """A table's name in full: "table 1" of "1", "figure 3" of "figure3"."""
    return f"table {table}" if table.isdigit() else re.sub(r"^figure(?=\d)", "figure ", table)


def later(run: Callable[..., Measures], made: Callable[[], Any], *more: Any) -> Callable[[], Measures]:
    """A run on what is made only if it is needed."""
    return lambda: run(made(), *more)


class Runs:
    """What has been measured: a line a run, so that a script that was stopped goes on where it was.

    Parameters
    ----------
    path : str, Path or None
        A CSV file, which need not exist; None keeps nothing.
    measures : sequence of str
        Names of the figures of a run, the columns after table, data, method and seed.
    methods : sequence of str, optional
        Only methods whose names hold one of these are run.
    """

    def __init__(self, path: str | Path | None, measures: Sequence[str], methods: Sequence[str] | None = None) -> None:
        self.path, self.measures = None if path is None else Path(path), tuple(measures)
        self.methods = methods
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

    def measure(self, table: str, data: str, method: str, seed: int, run: Callable[[], Measures]) -> None:
        """Make a run and note its measures, unless that has been done before or the method is not wanted."""
        key = (table, data, method, str(seed))
        if key in self._found or not self._wanted(method):
            return
        # What a run does not have is not a number.
        self._found[key] = dict.fromkeys(self.measures, math.nan) | {k: float(value) for k, value in run().items()}
        self._append(key)
        print(f"  {table}, {data}, {method}, seed {seed}: {_told(self._found[key])}", flush=True)

    def _wanted(self, method: str) -> bool:
        return self.methods is None or any(part in method for part in self.methods)

    def _append(self, key: tuple[str, ...]) -> None:
        if self.path is None:
            return
        new = not self.path.exists() or not self.path.stat().st_size
        with self.path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow((*_KEYS, *self.measures))
            writer.writerow((*key, *(self._found[key][name] for name in self.measures)))

    def values(self, table: str, data: str, method: str, measure: str, *, base: str | None = None) -> dict[str, float]:
        """A figure by seed; with a base, by how much it is above that method's with the same seed."""
        found = {key[3]: each[measure] for key, each in self._found.items() if key[:3] == (table, data, method)}
        if base is not None:
            start = self.values(table, data, base, measure)
            found = {seed: value - start[seed] for seed, value in found.items() if seed in start}
        return {seed: value for seed, value in found.items() if not math.isnan(value)}

    def data(self, table: str) -> list[str]:
        """The data sets on which there are runs of a table."""
        return list(dict.fromkeys(key[1] for key in self._found if key[0] == table))


def print_report(
    runs: Runs,
    table: str,
    published: Published,
    *,
    measure: str,
    methods: Iterable[str],
    base: str | None = None,
    decimals: int = 1,
    orders: bool = True,
) -> None:
    """Print published and measured figures of a table side by side, and how their orders agree.

    Parameters
    ----------
    runs : Runs
        What has been measured.
    table : str
        Its name among the runs.
    published : mapping of str to (mapping of str to float) or (sequence of str)
        Of each data set of the paper the figures by method, or methods from the best to the worst.
    measure : str
        Which figure of a run is compared.
    methods : iterable of str
        Rows, published or not.
    base : str, optional
        The method from which changes are told, seed by seed; its own row has the figure itself.
    decimals : int
        Of the figures.
    orders : bool
        Whether orders are told.
    """
    methods = list(methods)
    sets = [name for name in runs.data(table) if any(runs.values(table, name, m, measure) for m in methods)]
    if not sets:
        return
    change = "" if base is None else f"\n(changes from {base!r})"
    print(f"\n{table}: {measure}, published | measured, mean ± standard deviation over seeds{change}")
    known = {name: figures for name, figures in published.items() if isinstance(figures, Mapping)}
    first = max(24, *(len(method) + 2 for method in methods))
    widths = {name: max(9, len(name) + 2) for name in known}
    print(" " * first + "".join(f"{n:>{w}}" for n, w in widths.items()) + " |" + "".join(f"{n:>16}" for n in sets))
    for method in methods:
        of = None if method == base else base
        texts = (f"{known[n][method]:.{decimals}f}" if method in known[n] else "-" for n in known)
        told = "".join(f"{text:>{width}}" for text, width in zip(texts, widths.values()))
        found = (list(runs.values(table, name, method, measure, base=of).values()) for name in sets)
        cells = "".join(f"{_spread(values, decimals, signed=of is not None):>16}" for values in found)
        print(f"{method:{first}}{told} |{cells}")
    if orders:
        _print_orders(published, {n: {m: runs.values(table, n, m, measure) for m in methods} for n in sets})


def _print_orders(published: Published, measured: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Published orders, measured ones, and in what they differ."""
    ranked = {
        name: figures if isinstance(figures, Mapping) else {m: -float(place) for place, m in enumerate(figures)}
        for name, figures in published.items()
    }
    for name, figures in ranked.items():
        _print_wrapped(f"published order on {name}: {order(figures)}")
    for name, values in measured.items():
        found = {method: by_seed for method, by_seed in values.items() if by_seed}
        _print_wrapped(
            f"measured order on {name}: {order({m: statistics.fmean(v.values()) for m, v in found.items()})}"
        )
        for of, figures in ranked.items():
            common = {method: found[method] for method in found if method in figures}
            if len(common) > 2:
                means = [statistics.fmean(by_seed.values()) for by_seed in common.values()]
                agreement = spearmanr(means, [figures[method] for method in common]).statistic
                print(f"  rank correlation with {of}: {agreement:+.2f} over {len(common)} methods")
            if len(common) > 1:
                _print_wrapped(f"{of}: {_agreement(common, figures)}", indent="  ")


def _print_wrapped(text: str, indent: str = "") -> None:
    print(fill(indent + text, 118, subsequent_indent=indent + "    ", break_on_hyphens=False))


def _agreement(found: Mapping[str, Mapping[str, float]], figures: Mapping[str, float]) -> str:
    """A sentence on which measured figures by seed are in another order than published ones."""
    pairs = [pair for pair in combinations(found, 2) if figures[pair[0]] != figures[pair[1]]]
    # From the one that is published as better to the other.
    pairs = [(a, b) if figures[a] > figures[b] else (b, a) for a, b in pairs]
    gaps = {(a, b): [found[b][seed] - found[a][seed] for seed in found[a] if seed in found[b]] for a, b in pairs}
    turned = {pair: gap for pair, gap in gaps.items() if gap and statistics.fmean(gap) >= 0}
    if not turned:
        return "The order is the published one."
    start = f"Not in the published order: {len(turned)} of {len(pairs)} pairs"
    if all(len(gap) == 1 for gap in turned.values()):
        return f"{start} (one seed)."
    clear = [pair for pair, gap in turned.items() if len(gap) > 1 and statistics.fmean(gap) > statistics.stdev(gap)]
    clear.sort(key=lambda pair: -statistics.fmean(turned[pair]))
    largest = ", ".join(f"{b} above {a}" for a, b in clear[:3])
    listed = f", as {largest}" if clear else ""
    return f"{start}, {len(clear) or 'none'} by more than the standard deviation over seeds{listed}."


def order(figures: Mapping[str, float]) -> str:
    """Methods from the best to the worst."""
    ranks = rankdata([-value for value in figures.values()], method="ordinal")
    return " > ".join(method for _, method in sorted(zip(ranks, figures)))


def _spread(values: Sequence[float], decimals: int, *, signed: bool) -> str:
    if not values:
        return "-"
    sign = "+" if signed else ""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):{sign}.{decimals}f} ± {deviation:.{decimals}f}"


def _told(measures: Measures) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in measures.items() if not math.isnan(value))
