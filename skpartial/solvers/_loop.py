"""The one training loop: passes over the training set, and everything that happens between them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from skpartial.labels import LabelMatrix
from skpartial.losses._base import State
from skpartial.relabeling import RelabelingContext, apply_relabeling
from skpartial.solvers._features import Features
from skpartial.solvers._problem import Monitor, Problem, Solution

__all__ = ["Learner", "Report", "train"]

#: Gives the present parameters as arrays.
Parameters = Callable[[], dict[str, NDArray[Any]]]
#: Takes the numbers of a step within a pass and how to get the parameters after it; True asks to stop.
Report = Callable[[dict[str, Any], Parameters], bool]


class Learner(ABC):
    """What a solver moves: it has parameters and makes a pass over the training set, an epoch or a convex round.

    Parameters
    ----------
    problem : Problem
        The training task.
    state : dict of str to Tensor, or None
        The state of the loss, which passes update in place.
    """

    #: Labels that could not be fitted and keep a prior intercept, of shape (L,).
    unfitted: Tensor

    def __init__(self, problem: Problem, state: State | None) -> None:
        self.problem, self.state = problem, state

    @abstractmethod
    def take(self, labels: LabelMatrix) -> None:
        """Train on other labels from here on."""

    @abstractmethod
    def run(self, epoch: int, report: Report) -> dict[str, Any] | None:
        """Make a pass; returns its numbers, the loss among them, or None if its steps have been reported instead."""

    @abstractmethod
    def logits(self, features: Features, rows: Tensor | None = None) -> Tensor:
        """Logits of all rows of some features, or of those asked for, shape (b, L)."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The parameters, as they are."""

    @abstractmethod
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go back to parameters that `tensors` gave."""

    @abstractmethod
    def parameters(self) -> dict[str, NDArray[Any]]:
        """The parameters as arrays of their own, in the units of the features as passed."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that a pass depends on, in tensors, numbers and words."""

    @abstractmethod
    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""

    @abstractmethod
    def finish(self) -> None:
        """Settle the parameters when training has ended."""


class _Best:
    """The best epoch so far, and how long ago it was."""

    def __init__(self) -> None:
        self.score = -float("inf")
        self.epoch: int | None = None
        self.waited = 0

    def update(self, score: float, epoch: int, margin: float = 0.0) -> bool:
        if score > self.score + margin:
            self.score, self.epoch, self.waited = score, epoch, 0
            return True
        self.waited += 1
        return False


class _Log:
    """Records of epochs or steps, which the monitor is told of."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.records: list[dict[str, Any]] = []
        self.epoch = 0
        self.stopped = False
        self.start = time.perf_counter()

    def add(self, numbers: dict[str, Any]) -> None:
        self.records.append({"epoch": self.epoch, **numbers, "seconds": time.perf_counter() - self.start})

    def state(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self.start
        return {"records": self.records, "stopped": self.stopped, "seconds": seconds}

    def load(self, saved: dict[str, Any]) -> None:
        self.records, self.stopped = saved["records"], saved["stopped"]
        self.start = time.perf_counter() - saved["seconds"]

    def tell(self, parameters: Parameters) -> None:
        self.stopped = self.monitor(self.records[-1], parameters)

    def report(self, numbers: dict[str, Any], parameters: Parameters) -> bool:
        self.add(numbers)
        self.tell(parameters)
        return self.stopped


def _copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _to_tensors(labels: LabelMatrix) -> dict[str, Tensor]:
    """Labels as tensors: all of them, or the parts of a sparse matrix."""
    if not labels.is_sparse:
        return {"dense": torch.as_tensor(labels.rows(slice(None)))}
    parts = {"data": labels.values.data, "indices": labels.values.indices, "indptr": labels.values.indptr}
    return {name: torch.as_tensor(part) for name, part in parts.items()} | {"shape": torch.tensor(labels.shape)}


def _from_tensors(saved: dict[str, Tensor]) -> Any:
    if "dense" in saved:
        return saved["dense"].numpy()
    parts = (saved[name].numpy() for name in ("data", "indices", "indptr"))
    return sp.csr_array(tuple(parts), shape=tuple(saved["shape"].tolist()))


def train(
    problem: Problem, learner: Learner, n_epochs: int, *, patience: int | None = None, tol: float = 0.0
) -> Solution:
    """Make passes until one of them is the last.

    Parameters
    ----------
    problem : Problem
        The training task.
    learner : Learner
        What passes move.
    n_epochs : int
        Passes at most.
    patience : int or None, default=None
        Passes without progress before stopping: of the validation score if there is one, else of the loss.
    tol : float, default=0.0
        Progress of the loss that counts, relative to it.

    Returns
    -------
    Solution
        Of the best pass by validation score, else of the last.
    """
    generator = torch.Generator().manual_seed(problem.seed)
    labels, validation = problem.labels, problem.validation
    log = _Log(problem.monitor)
    best, progress = _Best(), _Best()
    kept: dict[str, Any] | None = None
    first = problem.first_epoch
    saved = None if problem.checkpoint is None else problem.checkpoint.load()
    if saved is not None:
        if saved["labels"] is not None:
            labels = LabelMatrix(_from_tensors(saved["labels"]), problem.labels.names)
            learner.take(labels)
        learner.load_state_dict(saved["learner"])
        generator.set_state(saved["generator"])
        log.load(saved["log"])
        vars(best).update(saved["best"])
        vars(progress).update(saved["progress"])
        kept, first = saved["kept"], saved["epoch"] + 1
        if kept is not None and kept["state"] is not None:
            kept["state"] = {name: tensor.to(problem.device) for name, tensor in kept["state"].items()}
    for epoch in range(first, problem.first_epoch + n_epochs):
        if log.stopped:
            break
        if problem.relabeling is not None and epoch > problem.first_epoch:
            context = RelabelingContext(
                epoch=epoch,
                given=problem.labels,
                current=labels,
                logits=lambda rows: learner.logits(problem.features, rows),
                features=problem.features.batch,
                generator=generator,
            )
            relabelled = apply_relabeling(problem.relabeling, context)
            if relabelled is not labels:
                labels = relabelled
                learner.take(labels)
        log.epoch = epoch
        numbers = learner.run(epoch, log.report)
        if numbers is not None:
            log.add(numbers)
            progress.update(-numbers["loss"], epoch, tol * abs(numbers["loss"]))
        problem.loss.end_epoch(learner.state, epoch)
        if validation is not None:
            score = validation.score(learner.logits(validation.features).cpu().numpy())
            if log.records:
                log.records[-1]["validation_score"] = score
            if best.update(score, epoch):
                kept = {
                    "tensors": _copy(learner.tensors()),
                    "state": None if learner.state is None else _copy(learner.state),
                }
        if numbers is not None:
            log.tell(learner.parameters)
        waited = best.waited if validation is not None else progress.waited
        if patience is not None and waited >= patience:
            log.stopped = True
        if problem.checkpoint is not None:
            content = {
                "epoch": epoch,
                "labels": None if labels is problem.labels else _to_tensors(labels),
                "learner": learner.state_dict(),
                "generator": generator.get_state(),
                "log": log.state(),
                "best": vars(best),
                "progress": vars(progress),
                "kept": kept,
            }
            problem.checkpoint.save(content)
    if kept is not None:
        learner.state = kept["state"]
        learner.load(kept["tensors"])
    learner.finish()
    return Solution(
        parameters=learner.parameters(),
        state=None if learner.state is None else {name: tensor.detach() for name, tensor in learner.state.items()},
        labels=labels,
        history=log.records,
        n_iter=len(log.records),
        stopped=log.stopped,
        best_epoch=best.epoch,
        unfitted=learner.unfitted.cpu().numpy(),
        logits=lambda rows: learner.logits(problem.features, rows),
    )
