"""The one training loop: passes over the training set, and everything that happens between them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from skpartial.features._base import Features
from skpartial.labels import LabelMatrix
from skpartial.losses._base import State
from skpartial.relabeling import RelabelingContext, apply_relabeling
from skpartial.training._problem import Monitor, Problem, Solution

__all__ = ["Learner", "Report", "Training", "train", "train_together"]

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


class Training:
    """What happens around the passes of one problem: relabelling, records, validation, checkpoints.

    Parameters
    ----------
    problem : Problem
        The training task.
    learner : Learner
        What passes move.
    patience, tol
        As of `train`.
    """

    def __init__(self, problem: Problem, learner: Learner, *, patience: int | None = None, tol: float = 0.0) -> None:
        self.problem, self.learner = problem, learner
        self.patience, self.tol = patience, tol
        self.log = _Log(problem.monitor)
        self._generator = torch.Generator().manual_seed(problem.seed)
        self._labels = problem.labels
        self._best, self._progress = _Best(), _Best()
        self._kept: dict[str, Any] | None = None
        #: The first pass that is left to do.
        self.first = problem.first_epoch
        saved = None if problem.checkpoint is None else problem.checkpoint.load()
        if saved is not None:
            self._load(saved)

    def _load(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        if saved["labels"] is not None:
            self._labels = LabelMatrix(_from_tensors(saved["labels"]), self.problem.labels.names)
            self.learner.take(self._labels)
        self.learner.load_state_dict(saved["learner"])
        self._generator.set_state(saved["generator"])
        self.log.load(saved["log"])
        vars(self._best).update(saved["best"])
        vars(self._progress).update(saved["progress"])
        kept, self.first = saved["kept"], saved["epoch"] + 1
        if kept is not None and kept["state"] is not None:
            kept["state"] = {name: tensor.to(self.problem.device) for name, tensor in kept["state"].items()}
        self._kept = kept

    def begin(self, epoch: int) -> None:
        """Before a pass: relabel."""
        problem, learner = self.problem, self.learner
        self.log.epoch = epoch
        if problem.relabeling is None or epoch == problem.first_epoch:
            return
        context = RelabelingContext(
            epoch=epoch,
            given=problem.labels,
            current=self._labels,
            logits=lambda rows: learner.logits(problem.features, rows),
            features=problem.features.batch,
            generator=self._generator,
        )
        relabelled = apply_relabeling(problem.relabeling, context)
        if relabelled is not self._labels:
            self._labels = relabelled
            learner.take(relabelled)

    def end(self, epoch: int, numbers: dict[str, Any] | None) -> None:
        """After a pass: note its numbers, if they have not been reported, validate and save."""
        problem, learner, log = self.problem, self.learner, self.log
        validation = problem.validation
        if numbers is not None:
            log.add(numbers)
            self._progress.update(-numbers["loss"], epoch, self.tol * abs(numbers["loss"]))
        problem.loss.end_epoch(learner.state, epoch)
        if validation is not None:
            score = validation.score(learner.logits(validation.features).cpu().numpy())
            if log.records:
                log.records[-1]["validation_score"] = score
            if self._best.update(score, epoch):
                self._kept = {
                    "tensors": _copy(learner.tensors()),
                    "state": None if learner.state is None else _copy(learner.state),
                }
        if numbers is not None:
            log.tell(learner.parameters)
        waited = self._best.waited if validation is not None else self._progress.waited
        if self.patience is not None and waited >= self.patience:
            log.stopped = True
        if problem.checkpoint is not None:
            problem.checkpoint.save(self._content(epoch))

    def _content(self, epoch: int) -> dict[str, Any]:
        return {
            "epoch": epoch,
            "labels": None if self._labels is self.problem.labels else _to_tensors(self._labels),
            "learner": self.learner.state_dict(),
            "generator": self._generator.get_state(),
            "log": self.log.state(),
            "best": vars(self._best),
            "progress": vars(self._progress),
            "kept": self._kept,
        }

    def solution(self) -> Solution:
        """Of the best pass by validation score, else of the last."""
        problem, learner, log = self.problem, self.learner, self.log
        if self._kept is not None:
            learner.state = self._kept["state"]
            learner.load(self._kept["tensors"])
        learner.finish()
        return Solution(
            parameters=learner.parameters(),
            state=None if learner.state is None else {name: tensor.detach() for name, tensor in learner.state.items()},
            labels=self._labels,
            history=log.records,
            n_iter=len(log.records),
            stopped=log.stopped,
            best_epoch=self._best.epoch,
            unfitted=learner.unfitted.cpu().numpy(),
            logits=lambda rows: learner.logits(problem.features, rows),
        )


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

    def run(trainings: Sequence[Training], epoch: int) -> list[dict[str, Any] | None]:
        return [learner.run(epoch, trainings[0].log.report)]

    return train_together([Training(problem, learner, patience=patience, tol=tol)], n_epochs, run)[0]


def train_together(
    trainings: Sequence[Training],
    n_epochs: int,
    run: Callable[[Sequence[Training], int], Sequence[dict[str, Any] | None]],
) -> list[Solution]:
    """Make passes of several problems side by side, until each has made its last.

    Parameters
    ----------
    trainings : sequence of Training
        One a problem; all begin with the same pass.
    n_epochs : int
        Passes at most.
    run : callable
        Takes the trainings that go on and the number of the pass, which it makes with all of their learners; returns
        for each what `Learner.run` returns.

    Returns
    -------
    list of Solution
        One a problem.
    """
    last = trainings[0].problem.first_epoch + n_epochs
    for epoch in range(trainings[0].first, last):
        going = [training for training in trainings if not training.log.stopped]
        if not going:
            break
        for training in going:
            training.begin(epoch)
        for training, numbers in zip(going, run(going, epoch)):
            training.end(epoch, numbers)
    return [training.solution() for training in trainings]
