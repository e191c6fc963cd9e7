"""Fits that one process and several must bring to the same end; run as a script it is one process of several.

python cases.py FOLDER RANK SIZE [NAME ...]
"""

from __future__ import annotations

import sys
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.distributed as dist
from torch import nn

from skpartial import PartialLabelClassifier, PartialLabelClassifierCV, SinglePositiveClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.heads import Ensemble, Head, Linear
from skpartial.images import Backbone
from skpartial.labels import drop_labels
from skpartial.losses import IgnoreUnknown, LargeLoss
from skpartial.regularizers import InteractiveSmoothness
from skpartial.relabeling import Curriculum
from skpartial.solvers import FullBatch, Minibatch

N_ROWS, N_FEATURES, N_LABELS = 301, 70, 4  # more features than Cholesky factors are made for


def data(dtype: type = np.float64) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_ROWS, N_FEATURES)).astype(dtype)
    logits = X @ rng.normal(size=(N_FEATURES, N_LABELS)) / 4 - 0.5
    complete = np.where(rng.logistic(size=logits.shape) < logits, 1, -1)
    return X, np.where(rng.random(complete.shape) < 0.6, complete, 0).astype(np.int8)


class Hidden(Head):
    def build(self, context: Any) -> nn.Module:
        return nn.Sequential(nn.Linear(context.n_features, 5), nn.Tanh(), nn.Linear(5, context.n_labels))


class Counting(nn.Module):
    """A part of a network that counts the rows that pass through it in training."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("n_rows", torch.zeros(()))

    def forward(self, x: Any) -> Any:
        if self.training:
            self.n_rows += len(x)
        return x


class CountingHead(Head):
    def build(self, context: Any) -> nn.Module:
        return nn.Sequential(Counting(), nn.Linear(context.n_features, context.n_labels))


def coefficients(clf: Any) -> dict[str, Any]:
    if getattr(clf, "head_parameters_", None):
        return {name: value for name, value in clf.head_parameters_.items() if value.dtype.kind == "f"}
    return {"coef": clf.coef_, "intercept": clf.intercept_, "loss": clf.history_[-1].get("loss", 0.0)}


def minibatch(loss: Any = "iu", kind: Any = PartialLabelClassifier, **parameters: Any) -> dict[str, Any]:
    X, Y = data()
    # Sums of halves of a batch are rounded otherwise, and Adam makes much of gradients that are next to nothing.
    solver = Minibatch(max_epochs=2, batch_size=64, optimizer="sgd", learning_rate=0.05)
    clf = kind(loss, **{"solver": solver, "random_state": 0, "alpha": 0.01, **parameters})
    return coefficients(clf.fit(X, np.maximum(Y, 0) if kind is SinglePositiveClassifier else Y))


class Failing(LargeLoss):
    """Rejects large losses, and may fail in the third epoch of a network."""

    fails = False

    def begin_epoch(self, state: Any, epoch: int, context: Any = None) -> None:
        super().begin_epoch(state, epoch, context)
        if epoch == 3 and Failing.fails and context.learned_features:
            raise InterruptedError


def images(norm: bool, checkpoint_dir: Any = None, regularizer: Any = None, **solver: Any) -> dict[str, Any]:
    scenes = make_digit_scenes(33, random_state=0)
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 4, 5, stride=4), *([nn.BatchNorm2d(4)] if norm else []), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    )
    clf = PartialLabelClassifier(
        Failing(),
        backbone=Backbone(body, weights=None, image_size=32, finetune="linear_init", augment=None),
        solver=Minibatch(**{"max_epochs": 2, "batch_size": 8, "optimizer": "sgd", "learning_rate": 0.1, **solver}),
        validation_fraction=0.25,
        checkpoint_dir=checkpoint_dir,
        regularizer=regularizer,
        random_state=0,
    )
    clf.fit(scenes.images, drop_labels(scenes.target, known=0.7, random_state=0))
    return {name: tensor.numpy() for name, tensor in clf.network_.state_dict().items()} | {
        "scores": [r["validation_score"] for r in clf.history_ if "validation_score" in r],
        "losses": [r["loss"] for r in clf.history_ if "loss" in r],
    }


def interrupted(*, restarted_with_shards: bool, **solver: Any) -> dict[str, Any]:
    """A fit that fails in its third epoch and is begun again; in one process it does not fail."""
    if not dist.is_initialized():
        return images(norm=False, max_epochs=4, **solver)
    folder, Failing.fails = Path(sys.argv[1]) / "checkpoints", True
    try:
        images(norm=False, checkpoint_dir=folder, max_epochs=4, **solver, shard_parameters=True)
    except InterruptedError:
        Failing.fails = False
    assert list(folder.glob("*/all.pt"))
    # With shards or without, it is the same fit.
    return images(norm=False, checkpoint_dir=folder, max_epochs=4, **solver, shard_parameters=restarted_with_shards)


def held() -> dict[str, Any]:
    """Numbers that a process holds of the parameters and of the moments of a ResNet, and how many there are."""
    from skpartial.solvers.gradient._gradient_steps import GradientSteps

    found, finish = {}, GradientSteps.finish

    def count(self: Any) -> None:
        body = list(self.module.body.parameters())
        moments = [self.optimizer.state[p][name] for p in body for name in ("exp_avg", "exp_avg_sq")]
        for name, tensors in (("parameters", body), ("moments", moments)):
            held = [t.to_local() if hasattr(t, "to_local") else t for t in tensors]
            found[name] = [sum(t.numel() for t in some) for some in (held, tensors)]
        finish(self)

    GradientSteps.finish = count
    try:
        scenes = make_digit_scenes(9, random_state=0)
        PartialLabelClassifier(
            "an",
            backbone=Backbone("resnet18", weights=None, image_size=32),
            solver=Minibatch(max_epochs=1, batch_size=9, shard_parameters=True),
            random_state=0,
        ).fit(scenes.images, scenes.target)
    finally:
        GradientSteps.finish = finish
    return found


def full_batch(loss: Any = "iu", X: Any = None, **parameters: Any) -> dict[str, Any]:
    given, Y = data()
    solver = parameters.pop("solver", FullBatch(tol=1e-12, rounds=3))
    clf = PartialLabelClassifier(loss, solver=solver, random_state=0, alpha=0.05, **parameters)
    return coefficients(clf.fit(given if X is None else X, Y))


def shared_products() -> dict[str, Any]:
    """How many rows the products of a convex solve are of."""
    from skpartial.solvers.convex._prepared import ScaledColumns

    found, backward = [], ScaledColumns.backward
    ScaledColumns.backward = lambda self, scores: found.append(scores.shape[1]) or backward(self, scores)
    try:
        full_batch()
    finally:
        ScaledColumns.backward = backward
    return {"rows": np.unique(found)}


def drawn_seed() -> dict[str, Any]:
    """Without a seed of the user's; held-out rows are drawn, too."""
    X, Y = data()
    clf = PartialLabelClassifier("iu", solver=Minibatch(max_epochs=1), validation_fraction=0.3).fit(X, Y)
    return {"coef": clf.coef_, "rows": clf.train_rows_}


def other_arguments() -> dict[str, Any]:
    X, Y = data()
    rank = dist.get_rank() if dist.is_initialized() else 0
    try:
        PartialLabelClassifier("iu").fit(X[rank:], Y[rank:])
    except ValueError as error:
        return {"message": str(error)}
    return {"message": ""}


def in_a_search() -> dict[str, Any]:
    """Jobs of joblib's fit alone, whatever processes there are."""
    from sklearn.model_selection import GridSearchCV

    X, Y = data()
    grid = {"alpha": [0.01, 1.0]}
    found = {}
    for n_jobs in (1, 2):
        search = GridSearchCV(PartialLabelClassifier("iu"), grid, n_jobs=n_jobs, cv=2)
        if n_jobs == 2:
            import joblib

            with joblib.parallel_config("threading"):
                search.fit(X, Y)
        else:
            search.fit(X, Y)
        found[f"scores_{n_jobs}"] = search.cv_results_["mean_test_score"]
    return found


CASES: dict[str, Any] = {
    "linear": minibatch,
    "large loss": lambda: minibatch(LargeLoss("reject", delta=0.1)),
    "corrected labels": lambda: minibatch(LargeLoss("correct_permanently", delta=0.1)),
    "estimates of rows": lambda: minibatch("role", SinglePositiveClassifier),
    "module": lambda: minibatch(head=Hidden()),
    "counted": lambda: {"rows": minibatch(head=CountingHead())["module.0.n_rows"]},
    "shared products": shared_products,
    "members": lambda: minibatch(head=Ensemble(n_members=2)),
    "accumulate": lambda: minibatch(
        solver=Minibatch(max_epochs=2, batch_size=64, optimizer="sgd", learning_rate=0.05, accumulate=3)
    ),
    "small batches": lambda: minibatch(
        solver=Minibatch(max_epochs=1, batch_size=1, optimizer="sgd", learning_rate=0.01)
    ),
    "curriculum": lambda: minibatch(relabeling=Curriculum()),
    "dropout": lambda: minibatch(head=Linear(dropout=0.2)),
    "regularizer": lambda: minibatch(
        regularizer=InteractiveSmoothness(n_atoms=2), solver=Minibatch(max_epochs=1, batch_size=64)
    ),
    "images": lambda: images(norm=False),
    "batch norm": lambda: images(norm=True),
    "shards": lambda: images(norm=False, shard_parameters=True, accumulate=3, clip_norm=0.5),
    "shards, interrupted": lambda: interrupted(restarted_with_shards=True, optimizer="adam", learning_rate=1e-3),
    "shards, then none": lambda: interrupted(restarted_with_shards=False, optimizer="adam", learning_rate=1e-3),
    "shards, regularizer": lambda: images(False, regularizer=InteractiveSmoothness(n_atoms=2), shard_parameters=True),
    "shards held": held,
    "shards, batch norm": lambda: images(norm=True, shard_parameters=True),
    "convex": full_batch,
    "convex, float32": lambda: full_batch(X=data(np.float32)[0], solver=FullBatch(tol=1e-7)),
    "convex, sparse": lambda: full_batch(X=sp.csr_array(np.where(np.abs(data()[0]) > 1, data()[0], 0))),
    "convex, streamed": lambda: full_batch(solver=FullBatch(tol=1e-12, max_resident_bytes=0)),
    "convex, squared": lambda: full_batch(IgnoreUnknown(surrogate="squared")),
    "rounds": lambda: full_batch(LargeLoss("reject", delta=0.05)),
    "seed": drawn_seed,
    "choice of alpha": lambda: {"alpha": PartialLabelClassifierCV(loss="iu", cv=2).fit(*data()).alpha_},
    "other arguments": other_arguments,
    "search": in_a_search,
}


def run(name: str) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CASES[name]()


if __name__ == "__main__":
    folder, rank, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size, timeout=timedelta(seconds=60)
    )
    for name in sys.argv[4:] or CASES:
        np.savez(folder / f"{name} {rank}.npz", **run(name))
    dist.destroy_process_group()
