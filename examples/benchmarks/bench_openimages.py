"""Rate and memory of load_openimages on a file of ten million label rows, against pandas reading the same file.

    python examples/benchmarks/bench_openimages.py [--rows 10000000] [--kind human] [--data FOLDER]

The file is made here, of the published layout, in a temporary folder unless --data names one, where it stays. Each
reader runs in a process of its own, three times in turns; the shortest time counts. The peak is that of the process,
without what it had before it read.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np


def make(folder: Path, n_rows: int, kind: str, n_labels: int = 5000, per_image: int = 8) -> None:
    """Write a tree of one file of labels, images in the order of their ids, as the published files are."""
    generator = np.random.default_rng(0)
    names = [f"/m/0{j:x}{'xyz'[j % 3]}{j % 7}" for j in range(n_labels)]
    (folder / "classes-trainable.txt").write_text("".join(f"{name}\n" for name in names))
    with open(folder / f"train-annotations-{kind}-imagelabels.csv", "w") as file:
        file.write("ImageID,Source,LabelName,Confidence\n")
        image, source = 0, {"human": "verification", "machine": "machine"}[kind]
        for start in range(0, n_rows, 1 << 20):
            n = min(1 << 20, n_rows - start)
            labels = generator.integers(0, n_labels + n_labels // 5, n)  # some are not trainable
            images = image + np.cumsum(generator.random(n) < 1 / per_image) * 1_000_003
            image = int(images[-1])
            values = generator.integers(0, 2, n) if kind == "human" else generator.integers(5, 11, n) / 10
            file.writelines(
                f"{i:016x},{source},{names[j] if j < n_labels else f'/m/1{j:x}'},{v}\n"
                for i, j, v in zip(images.tolist(), labels.tolist(), values.tolist())
            )


def run(reader: str, folder: Path, kind: str) -> None:
    """Read once in this process and print seconds and the peak of memory in MB."""
    file = folder / f"train-annotations-{kind}-imagelabels.csv"
    if reader.startswith("load"):
        from skpartial.datasets import load_openimages as read
    else:
        import pandas as pd

        if reader.endswith("pyarrow"):
            import pyarrow.csv  # noqa: F401
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    if reader == "load_openimages":
        read(folder, labels=kind)
    elif reader == "pandas.read_csv":
        pd.read_csv(file)
    else:
        pd.read_csv(file, engine="pyarrow")
    seconds = time.perf_counter() - start
    print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--kind", choices=("human", "machine"), default="human")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run(arguments.run, arguments.data, arguments.kind)
        return
    with TemporaryDirectory() as temporary:
        folder = arguments.data or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"train-annotations-{arguments.kind}-imagelabels.csv"
        if not file.exists():
            make(folder, arguments.rows, arguments.kind)
        print(f"{arguments.rows:,} rows, {file.stat().st_size / 1e6:.0f} MB")
        best: dict[str, tuple[float, float]] = {}
        for _ in range(3):
            for reader in ("load_openimages", "pandas.read_csv", "pandas.read_csv pyarrow"):
                command = [sys.executable, __file__, "--data", str(folder), "--kind", arguments.kind, "--run", reader]
                output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                seconds, peak = map(float, output.split())
                best[reader] = min(best.get(reader, (np.inf, 0.0)), (seconds, peak))
        reference = best["pandas.read_csv"][0]
        print(f"{'reader':28}{'seconds':>9}{'rows/s':>12}{'ratio to pandas':>17}{'peak MB':>9}")
        for reader, (seconds, peak) in best.items():
            rate = arguments.rows / seconds
            print(f"{reader:28}{seconds:9.2f}{rate:12,.0f}{reference / seconds:17.2f}{peak:9.0f}")


if __name__ == "__main__":
    main()
