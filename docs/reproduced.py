"""Sphinx extension: what the scripts in examples/reproduce tell of the runs that are kept beside them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

_SCRIPTS = Path(__file__).parents[1] / "examples" / "reproduce"


def write_reports(app: Any) -> None:
    """Write docs/generated/reproduced/NAME.txt for each examples/reproduce/results/NAME.csv."""
    folder = Path(app.srcdir) / "generated" / "reproduced"
    folder.mkdir(parents=True, exist_ok=True)
    for runs in sorted((_SCRIPTS / "results").glob("*.csv")):
        script = _SCRIPTS / f"{runs.stem}.py"
        command = [sys.executable, str(script), "--report", "--csv", str(runs)]
        report = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout
        (folder / f"{runs.stem}.txt").write_text(report.strip() + "\n", encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_reports)
    return {"parallel_read_safe": True}
