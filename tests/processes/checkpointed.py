"""A fit with checkpoints, of one of two processes as torchrun starts them, which may kill itself in the third epoch.

python checkpointed.py FOLDER RANK PORT RANK_OF_THE_KILLED
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from skpartial import PartialLabelClassifier
from skpartial.losses import IgnoreUnknown
from skpartial.solvers import Minibatch


class Deadly(IgnoreUnknown):
    """Ends its process in an epoch."""

    def begin_epoch(self, state: Any, epoch: int, context: Any = None) -> None:
        if epoch == 3 and os.environ.get("KILLED"):
            os.kill(os.getpid(), signal.SIGKILL)


def fit(folder: Path | None = None) -> PartialLabelClassifier:
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(40, 5)), rng.integers(-1, 2, size=(40, 3))
    clf = PartialLabelClassifier(
        Deadly(),
        solver=Minibatch(max_epochs=5, batch_size=16),
        checkpoint_dir=None if folder is None else str(folder / "checkpoints"),
        verbose=folder is not None,
        random_state=0,
        alpha=0.1,
    )
    return clf.fit(X, Y)


if __name__ == "__main__":
    folder, rank, port, killed = sys.argv[1:]
    os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    if killed == rank:
        os.environ["KILLED"] = "1"
    clf = fit(Path(folder))
    epochs = [record["epoch"] for record in clf.history_]
    np.savez(Path(folder) / f"{rank}.npz", coef=clf.coef_, epochs=epochs)
