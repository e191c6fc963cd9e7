"""Fixtures that the whole suite shares."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Before the first import of scipy: one of scikit-learn's checks is skipped without it.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import hypothesis
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

import skpartial
from skpartial.heads import Linear
from skpartial.labels import LabelMatrix
from skpartial.training import TrainingData
from skpartial.training._data import EntryWeights
from skpartial.training._problem import Problem

# Times of examples vary with the machine; what they compute does not.
hypothesis.settings.register_profile("skpartial", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("skpartial")

DATA = Path(__file__).parent / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a CUDA device where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device is at hand"))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _figures_closed() -> Iterator[None]:
    """Close what a test has drawn: matplotlib warns of more than 20 figures that are open, and warnings are errors."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, NDArray[np.float64]]]:
    """Reference arrays that the authors' released code computed, by file name."""

    def load(name: str) -> dict[str, NDArray[np.float64]]:
        with np.load(DATA / f"{name}.npz") as archive:
            return dict(archive)

    return load


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets, which do not travel with the package."""
    folder = os.environ.get("SKPARTIAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("real data are not at hand: set SKPARTIAL_DATA to the folder that holds features/")
    return Path(folder)


class Interpreter:
    """A process of its own that has imported the package, which takes seconds, and forks for every script that it runs.

    Its scripts are like those of `python SCRIPT ARGUMENT ...`, but that none has to import the package.
    """

    CODE = """
import json, os, runpy, sys, traceback
import sklearn.model_selection, torch
import skpartial.datasets, skpartial.images

torch.set_num_threads(1)
for line in sys.stdin:
    script, arguments, output = json.loads(line)
    child = os.fork()
    if child == 0:
        said = 2 if output is None else os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.argv, status = [script, *arguments], 0
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            status = int(bool(end.code))
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        os._exit(status)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

    def __init__(self, hash_seed: int) -> None:
        path = os.pathsep.join(filter(None, [str(Path(skpartial.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
        # Without a GPU, which processes would share.
        environment = {"PYTHONPATH": path, "PYTHONHASHSEED": str(hash_seed), "OMP_NUM_THREADS": "1"}
        environment |= {"CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo"}
        self._parent = subprocess.Popen(
            [sys.executable, "-c", self.CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **environment},
        )

    def start(self, script: object, *arguments: object, output: Path | None = None) -> None:
        """Begin to run a script; what it says goes into the file `output`."""
        call = str(script), list(map(str, arguments)), None if output is None else str(output)
        self._parent.stdin.write(f"{json.dumps(call)}\n".encode())
        self._child = int(self._parent.stdout.readline())

    def wait(self, seconds: float | None = None) -> int:
        """How it ended: 0, 1 after an error, or less a signal, such as that which ends it after so many seconds."""
        if seconds is not None and not select.select([self._parent.stdout], [], [], seconds)[0]:
            os.kill(self._child, signal.SIGKILL)
        return int(self._parent.stdout.readline())

    def run(self, script: object, *arguments: object, seconds: float | None = None) -> int:
        """Start and wait."""
        self.start(script, *arguments)
        return self.wait(seconds)

    def end(self) -> None:
        self._parent.kill()
        self._parent.communicate()


@pytest.fixture(scope="session")
def interpreters() -> Iterator[tuple[Interpreter, Interpreter]]:
    """Two that differ as those of two days do, in the seed of hashes."""
    if not hasattr(os, "fork"):
        pytest.skip("processes cannot be forked")
    both = Interpreter(1), Interpreter(2)
    yield both
    for interpreter in both:
        interpreter.end()


@pytest.fixture
def partial_data() -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Small linear problem with 5 labels, of which a third of the entries are known."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 6))
    logits = X @ rng.normal(size=(6, 5)) - 0.5
    complete = np.where(rng.logistic(size=logits.shape) < logits, 1, -1)
    return X, np.where(rng.random(complete.shape) < 0.35, complete, 0).astype(np.int8)


def never(record, parameters):
    return False


@pytest.fixture
def make_problem():
    """Makes linear problems from features as a solver sees them, and labels."""

    def make(features, Y, loss, *, alpha=0.1, weight=None, class_weight=None, **more):
        labels = LabelMatrix((sp.csr_array(Y) if sp.issparse(Y) else np.asarray(Y)).astype(np.int8))
        weights = EntryWeights(weight, class_weight, features.device, features.dtype)
        settings = {"head": Linear(), "relabeling": None, "regularizer": None, "seed": 0, "monitor": never}
        given = {"data": TrainingData(labels), "weights": weights, "loss": loss, "alpha": alpha}
        return Problem(features=features, **{**settings, **given, **more})

    return make
