"""The script for a GPU that is lent for minutes runs, and says so where there is none."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "examples" / "benchmarks" / "bench_cuda.py"

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="examples are not at hand")


def call(*options):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SCRIPT.parents[2]), *sys.path])}
    return subprocess.run(
        [sys.executable, SCRIPT, *options], capture_output=True, text=True, env=environment, check=False
    )


def test_help():
    done = call("--help")
    assert done.returncode == 0
    assert "--dry-run" in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is at hand")
def test_without_a_device():
    done = call()
    assert done.returncode == 2
    assert re.fullmatch(r"bench_cuda.py needs a CUDA device, [^\n]*\.\n", done.stderr)
    assert not done.stdout


def test_dry_run():
    """All parts but the tests, which would run themselves."""
    done = call("--dry-run", "--parts", "linear fit", "minibatch epoch", "fine-tuning", "search")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout
    assert "given up" not in done.stdout
    for part, n_lines in (("linear fit", 2), ("minibatch epoch", 3), ("fine-tuning", 2), ("search", 2)):
        lines = [line for line in done.stdout.splitlines() if line.startswith(part)]
        assert len(lines) == n_lines
        assert all(re.search(r"\d\.\d{4} ", line) for line in lines)
    apart = [float(number) for number in re.findall(r"(\S+) apart", done.stdout)]
    assert len(apart) == 3
    assert max(apart) < 1e-3
