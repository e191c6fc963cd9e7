"""One present label a row, on features or on the images of a published data set."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from PIL import Image

from skpartial import ImageFeatures, datasets
from skpartial.datasets import make_digit_scenes
from skpartial.labels import keep_single_positive

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from _data import add_arguments, limit_threads, load, names, split

__all__ = [
    "IMAGE_SETS",
    "SEED",
    "Labels",
    "Task",
    "add_data_arguments",
    "expected",
    "image_tasks",
    "limit_threads",
    "load",
    "names",
    "published",
    "tasks",
]

Labels = NDArray[np.int8]
#: The data sets of both papers: how many labels are present in an image on average, which the methods are told.
IMAGE_SETS = {"voc": 1.5, "coco": 2.9, "nuswide": 1.9, "cub": 31.4}
#: The published seed of recorded labels, held-out rows, and all else.
SEED = 1200
_SHARE_HELD_OUT = 0.2


class Task(NamedTuple):
    """Training rows with complete labels, validation rows and test rows; labels in {-1, 1}."""

    name: str
    X: Any
    truth: Labels
    X_val: Any
    val: Labels
    X_test: Any
    test: Labels
    seed: int
    #: Of the rows of X in all rows from which some are held out, for which labels are recorded.
    rows: NDArray[np.int64]
    all_truth: Labels

    def recorded(self, *, n_present: int | str = 1, n_absent: int | str = 0) -> Labels:
        """Recorded labels, a number of each sign: drawn on all rows before some are held out, as published."""
        drawn = keep_single_positive(self.all_truth, self.seed, n_present=n_present, n_absent=n_absent)
        return np.asarray(drawn)[self.rows]


def make_task(name: str, train: tuple[Any, Labels], test: tuple[Any, Labels], seed: int) -> Task:
    """Hold the published share of the training rows out, drawn as published."""
    X, truth = train
    order = np.random.RandomState(seed).permutation(len(truth))
    n_val = round(_SHARE_HELD_OUT * len(truth))
    rows, held_out = np.sort(order[:-n_val]), np.sort(order[-n_val:])
    return Task(name, X[rows], truth[rows], X[held_out], truth[held_out], *test, seed, rows, truth)


def tasks(options: Namespace, seed: int) -> Iterator[Task]:
    """Features at hand, a quarter of them for the test; or those of the images that were named."""
    if options.images is not None:
        task = image_tasks(options, seed)
        network = ImageFeatures(options.backbone).fit(task.X)
        X, X_val, X_test = (network.transform(part) for part in (task.X, task.X_val, task.X_test))
        yield task._replace(X=X, X_val=X_val, X_test=X_test)
        return
    for name in names(options.data, options.datasets):
        parts = split(load(name, options.data, quick=options.quick), test_size=0.25, seed=seed)
        train, test = (
            (X, (2 * Y - 1).astype(np.int8)) for X, Y in ((parts.X_train, parts.Y_train), (parts.X_test, parts.Y_test))
        )
        yield make_task(name, train, test, seed)


def image_tasks(options: Namespace, seed: int) -> Task:
    """Images of one of the published data sets, in its official split; for a smoke test some that are made."""
    if options.images is None:
        with TemporaryDirectory() as folder:
            return _read(*make_voc(Path(folder)), seed)
    subsets, settings = _READ[options.images]
    read = partial(getattr(datasets, f"load_{options.images}"), options.path, **settings)
    return _read(options.images, *(read(subset=subset) for subset in subsets), seed)


#: The parts that train and test, and how labels were read.
_READ: dict[str, tuple[tuple[str, str], dict[str, Any]]] = {
    "voc": (("train", "val"), {"year": 2012, "difficult": "absent"}),
    "coco": (("train", "val"), {"year": 2014}),
    "nuswide": (("train", "test"), {"missing": "drop"}),
    "cub": (("train", "test"), {}),
}


def _read(name: str, train: Any, test: Any, seed: int) -> Task:
    """A task from two parts of a data set; rows in which nothing is present were left out."""
    parts = []
    for part in (train, test):
        truth = part.target.toarray() if sp.issparse(part.target) else np.asarray(part.target)
        rows = np.flatnonzero((truth == 1).any(axis=1))
        parts.append((np.asarray(part.paths)[rows], np.where(truth[rows] == 1, 1, -1).astype(np.int8)))
    return make_task(name, *parts, seed)


def make_voc(folder: Path) -> tuple[str, Any, Any]:
    """Scenes of digits under the names of VOC's classes, in its layout: that reading and training run."""
    classes = ["aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"]
    scenes = make_digit_scenes(60, random_state=0)
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    for number, (pixels, labels) in enumerate(zip(scenes.images, scenes.target)):
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{number:06}.jpg")
        objects = "".join(
            f"<object><name>{classes[k]}</name><difficult>0</difficult></object>" for k in np.flatnonzero(labels == 1)
        )
        (folder / "Annotations" / f"{number:06}.xml").write_text(f"<annotation>{objects}</annotation>")
    for subset, numbers in (("train", range(40)), ("val", range(40, 60))):
        text = "".join(f"{number:06}\n" for number in numbers)
        (folder / "ImageSets" / "Main" / f"{subset}.txt").write_text(text)
    train, test = (datasets.load_voc(folder, subset=subset) for subset in ("train", "val"))
    for part in (train, test):
        part.paths = [np.asarray(Image.open(path)) for path in part.paths]
    return "voc", train, test


def expected(task: Task) -> float:
    """How many labels are present in a row, as published, or counted on the complete training labels."""
    return IMAGE_SETS.get(task.name, float((task.truth == 1).sum(1).mean()))


def add_data_arguments(parser: ArgumentParser) -> None:
    """Where the data come from: features, or images of a published data set."""
    add_arguments(parser)
    parser.add_argument(
        "--images", choices=list(IMAGE_SETS), help="a published data set of images, instead of features"
    )
    parser.add_argument("--path", metavar="DIR", help="where it is")
    parser.add_argument("--backbone", default="resnet50", help="network of the images (default: resnet50)")


def published(table: str) -> dict[str, dict[str, float]]:
    """Figures by data set and method, from lines of a method and its figures on VOC, COCO, NUS-WIDE and CUB."""
    found: dict[str, dict[str, float]] = {name: {} for name in IMAGE_SETS}
    for line in table.strip().splitlines():
        method, *figures = line.rsplit(maxsplit=len(IMAGE_SETS))
        for name, figure in zip(IMAGE_SETS, figures):
            found[name][method.strip()] = float(figure)
    return found
