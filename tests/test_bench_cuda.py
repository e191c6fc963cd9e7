"""The script for a GPU that is lent for minutes runs, and says so where there is none."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "examples" / "benchmarks" / "bench_cuda.py"

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="examples are not at hand")


def call(monkeypatch, capsys, *options):
    """How the script ends, and what it says on both channels."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return end.value.code, capsys.readouterr()


def test_help(monkeypatch, capsys):
    code, said = call(monkeypatch, capsys, "--help")
    assert code == 0
    assert "--dry-run" in said.out


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is at hand")
def test_without_a_device(monkeypatch, capsys):
    code, said = call(monkeypatch, capsys)
    assert code == 2
    assert re.fullmatch(r"bench_cuda.py needs a CUDA device, [^\n]*\.\n", said.err)
    assert not said.out


def test_dry_run(tmp_path, interpreters):
    """All parts but the tests, which would run themselves."""
    parts = ("linear fit", "minibatch epoch", "fine-tuning", "search")
    interpreters[0].start(SCRIPT, "--dry-run", "--parts", *parts, output=tmp_path / "said")
    code, said = interpreters[0].wait(), (tmp_path / "said").read_text()
    assert code == 0, said
    assert "failed" not in said
    assert "given up" not in said
    for part, n_lines in (("linear fit", 2), ("minibatch epoch", 3), ("fine-tuning", 2), ("search", 2)):
        lines = [line for line in said.splitlines() if line.startswith(part)]
        assert len(lines) == n_lines
        assert all(re.search(r"\d\.\d{4} ", line) for line in lines)
    apart = [float(number) for number in re.findall(r"(\S+) apart", said)]
    assert len(apart) == 3
    assert max(apart) < 1e-3
