"""Sphinx extension: what the scripts in examples/reproduce tell of the runs that are kept beside them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

_SCRIPTS = Path(__file__).parents[1] / "examples" / "reproduce"


def write_reports(app: Any) -> None:
    """Write docs/generated/reproduced/NAME.txt for each examples/reproduce/NAME.py."""
    folder = Path(app.srcdir) / "generated" / "reproduced"
    folder.mkdir(parents=True, exist_ok=True)
    for script in sorted(_SCRIPTS.glob("[a-z]*.py")):
        runs = _SCRIPTS / "results" / f"{script.stem}.csv"
        report = _report(script, runs) if runs.exists() else "No runs are kept yet."
        (folder / f"{script.stem}.txt").write_text(report.strip() + "\n", encoding="utf-8")


def _report(script: Path, runs: Path) -> str:
    command = [sys.executable, str(script), "--report", "--csv", str(runs)]
    return subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_reports)
    return {"parallel_read_safe": True}
