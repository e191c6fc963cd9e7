"""What keeps the runs of the papers' tables, and sets them beside published figures."""

import runpy
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
        assert runs.measure("t", "yeast", "an", seed, lambda s=seed: {"test": 40.1 + s, "rate": 0.1})["rate"] == 0.1
    again = Runs(path, ("test", "rate"))
    assert again.measure("t", "yeast", "an", 1, never) == {"test": 41.1, "rate": 0.1}
    assert again.values("t", "yeast", "an", "test") == [40.1, 41.1]
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
    assert again.measure("t", "yeast", "an", 0, never) == {"test": 40.1}
    assert again.measure("t", "yeast", "an", 1, lambda: {"test": 41.1}) == {"test": 41.1}
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
    assert "order on yeast: own > role > wan > an" in told
    assert "rank correlation with voc: +1.00 over 3 methods" in told
    print_report(runs, "another", published, measure="test", methods=["an"])
    assert capsys.readouterr().out == ""
    assert order({"a": 1.0, "b": 2.0}) == "b > a"
