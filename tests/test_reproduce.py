"""What keeps the runs of the papers' tables, and sets them beside published figures."""

import runpy
from argparse import ArgumentParser
from pathlib import Path

import pytest

REPRODUCE = Path(__file__).parents[1] / "examples" / "reproduce"
MODULE = runpy.run_path(str(REPRODUCE / "_runs.py"))
Runs, order, print_report = MODULE["Runs"], MODULE["order"], MODULE["print_report"]


def never():
    raise AssertionError("this run is in the file")


def test_runs_that_are_in_the_file_are_not_made_again(tmp_path):
    path = tmp_path / "runs.csv"
    runs = Runs(path, ("test", "rate"))
    for seed in (0, 1):
        runs.measure("t", "yeast", "an", seed, lambda s=seed: {"test": 40.1 + s, "rate": 0.1})
    again = Runs(path, ("test", "rate"))
    again.measure("t", "yeast", "an", 1, never)
    assert again.values("t", "yeast", "an", "test") == {"0": 40.1, "1": 41.1}
    assert again.values("t", "yeast", "an", "rate") == {"0": 0.1, "1": 0.1}
    assert again.data("t") == ["yeast"]
    assert again.data("another") == []
    with pytest.raises(SystemExit, match="not of this experiment"):
        Runs(path, ("test",))


@pytest.mark.parametrize("n_cut", [1, 5, 12])
def test_a_line_that_was_cut_off_is_made_again(tmp_path, n_cut):
    path = tmp_path / "runs.csv"
    runs = Runs(path, ("test",))
    for seed in (0, 1):
        runs.measure("t", "yeast", "an", seed, lambda s=seed: {"test": 40.1 + s})
    whole = path.read_bytes()
    path.write_bytes(whole[:-n_cut])
    again = Runs(path, ("test",))
    again.measure("t", "yeast", "an", 0, never)
    again.measure("t", "yeast", "an", 1, lambda: {"test": 41.1})
    assert again.values("t", "yeast", "an", "test") == {"0": 40.1, "1": 41.1}
    assert path.read_bytes() == whole


def test_report(tmp_path, capsys):
    runs = Runs(None, ("test",))
    for method, value in {"an": 40.0, "role": 44.0, "wan": 42.0, "own": 50.0}.items():
        for seed in (0, 1):
            runs.measure("t", "yeast", method, seed, lambda v=value, s=seed: {"test": v + 2 * s})
    runs.measure("t", "yeast", "lost", 0, lambda: {"test": float("nan")})
    capsys.readouterr()
    published = {"voc": {"an": 80.0, "role": 86.0, "wan": 84.0}}
    print_report(runs, "t", published, measure="test", methods=["an", "role", "wan", "own", "lost"])
    told = capsys.readouterr().out
    assert "an" in told
    lines = {line.split()[0]: line.split()[1:] for line in told.splitlines() if line[:1].isalpha()}
    assert lines["role"] == ["86.0", "|", "45.0", "±", "1.4"]
    assert lines["own"] == ["-", "|", "51.0", "±", "1.4"]
    assert lines["lost"] == ["-", "|", "-"]
    assert "published order on voc: role > wan > an\n" in told
    assert "measured order on yeast: own > role > wan > an\n" in told
    assert "rank correlation with voc: +1.00 over 3 methods\n  voc: The order is the published one.\n" in told
    print_report(runs, "another", published, measure="test", methods=["an"])
    assert capsys.readouterr().out == ""
    assert order({"a": 1.0, "b": 2.0}) == "b > a"


def test_a_run_has_some_of_the_measures_and_methods_may_be_left_out(tmp_path):
    path = tmp_path / "runs.csv"
    runs = Runs(path, ("mAP", "F1"), ["prop"])
    runs.measure("t", "yeast", "LabelSpreading", 0, never)
    runs.measure("t", "yeast", "with propagation", 0, lambda: {"mAP": 40.0})
    assert path.read_text(encoding="utf-8").splitlines()[1] == "t,yeast,with propagation,0,40.0,nan"
    assert runs.values("t", "yeast", "with propagation", "F1") == {}


def test_nothing_is_made_for_runs_that_are_in_the_file():
    runs, made = Runs(None, ("test",)), []

    def make():
        made.append(len(made))
        return 40.0

    for _ in range(2):
        runs.measure("t", "yeast", "an", 0, MODULE["later"](lambda data, more: {"test": data + more}, make, 2))
    assert made == [0]
    assert runs.values("t", "yeast", "an", "test") == {"0": 42.0}


def test_changes_are_told_seed_by_seed(capsys):
    runs = Runs(None, ("test",))
    for method, values in {"plain": (40.0, 50.0, 60.0), "better": (41.0, 51.5, 61.0)}.items():
        for seed, value in enumerate(values[: 2 if method == "better" else 3]):
            runs.measure("t", "yeast", method, seed, lambda v=value: {"test": v})
    assert runs.values("t", "yeast", "better", "test", base="plain") == {"0": 1.0, "1": 1.5}
    published = {"voc": {"better": 0.5}}
    print_report(runs, "t", published, measure="test", methods=["plain", "better"], base="plain", decimals=2)
    told = capsys.readouterr().out
    assert "|   50.00 ± 10.00\n" in told
    assert "0.50 |    +1.25 ± 0.35\n" in told


@pytest.mark.parametrize(
    "worse, sentence",
    [
        (
            (41.0, 42.0),
            "voc: Not in the published order: 1 of 1 pairs, 1 by more than the standard deviation over seeds, as",
        ),
        (
            (41.0, 39.5),
            "voc: Not in the published order: 1 of 1 pairs, none by more than the standard deviation over seeds.",
        ),
        (
            (40.0, 40.0),
            "voc: Not in the published order: 1 of 1 pairs, none by more than the standard deviation over seeds.",
        ),
        ((39.0, 38.0), "voc: The order is the published one."),
        ((41.0,), "voc: Not in the published order: 1 of 1 pairs (one seed)."),
    ],
)
def test_where_orders_differ_is_said(capsys, worse, sentence):
    runs = Runs(None, ("test",))
    for method, values in {"ramp": (40.0, 40.0), "warp": worse}.items():
        for seed, value in enumerate(values):
            runs.measure("t", "yeast", method, seed, lambda v=value: {"test": v})
    # An order alone, from the best to the worst.
    print_report(runs, "t", {"voc": ("ramp", "warp")}, measure="test", methods=["ramp", "warp"])
    told = capsys.readouterr().out
    assert "published order on voc: ramp > warp\n" in told
    assert f"\n  {sentence}" in told
    assert ("warp above ramp" in told) == (worse == (41.0, 42.0))


def test_options_that_every_script_has(capsys):
    parser = ArgumentParser()
    parser.add_argument("--quick", "--smoke", action="store_true")
    MODULE["add_run_arguments"](parser, {"1": "losses", "figure3": "noise", "penalty": "own"}, left_out=["penalty"])

    def parse(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["script", *arguments])
            return MODULE["parse"](parser)

    assert parse().table == ["1", "figure3"]
    assert parse("--table", "penalty", "1").table == ["penalty", "1"]
    assert (parse().seeds, parse("--smoke").seeds, parse("--smoke", "--seeds", "2").seeds) == (5, 1, 2)
    with pytest.raises(SystemExit):
        parse("--report")
    assert "--report wants the file" in capsys.readouterr().err


@pytest.mark.parametrize("table, name", [("1", "table 1"), ("figure3", "figure 3"), ("entries", "entries")])
def test_names_of_tables_are_spelled_out(table, name):
    assert MODULE["spelled"](table) == name
