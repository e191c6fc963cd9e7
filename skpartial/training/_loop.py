"""The training loop: passes over the training set, and everything that happens between passes."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from skpartial._processes import Processes, lost_processes_told
from skpartial._shards import whole
from skpartial._state import Predictor, State, TrainingContext
from skpartial.features._base import Features
from skpartial.heads import HeadContext
from skpartial.labels import LabelMatrix
from skpartial.labels._data import TrainingData
from skpartial.relabeling import RelabelingContext, apply_relabeling
from skpartial.training._problem import Monitor, Problem, Solution

__all__ = ["Learner", "Report", "Training", "train", "train_together"]

_Context = TypeVar("_Context", bound=TrainingContext)

#: Returns the current parameters as arrays.
Parameters = Callable[[], dict[str, NDArray[Any]]]
#: Takes the record of a step within a pass and a function that returns the parameters after it; True asks to stop.
Report = Callable[[dict[str, Any], Parameters], bool]

_OTHER_CHECKPOINT = (
    "The checkpoints of this fit end with epoch {first} for process 0, but with epoch {other} for process {rank}: "
    "checkpoint_dir must be a folder that all processes share."
)


class Learner(ABC):
    """The part that a solver trains: it has parameters and makes passes, epochs or convex rounds, over the data.

    Parameters
    ----------
    problem : Problem
        The training task.

    Attributes
    ----------
    states : dict of str to dict of str to Tensor
        States of the loss, regulariser and relabelling, by these names; passes update them in place.
    """

    #: Labels that could not be fitted and keep a prior intercept, of shape (L,).
    unfitted: Tensor
    #: Context that the head was built with.
    head_context: HeadContext

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.states: dict[str, State] = {}

    @property
    def state(self) -> State | None:
        """State of the loss."""
        return self.states.get("loss")

    def start(self, name: str, predictor: Predictor | None = None) -> None:
        """Create the state of a part of the problem: the loss, the regulariser or the relabelling."""
        problem, part = self.problem, self.problem.parts.get(name)
        spec = {} if part is None else part.state_spec()
        if part is None or not spec:
            return
        if name == "relabeling" and any(tensor.learned for tensor in spec.values()):
            raise ValueError(f"{part!r} declares a learned state, but relabellings have no gradient.")
        previous = problem.previous_states.get(name)
        if previous is not None and not set(spec) <= set(previous):
            previous = None  # from another relabelling, loss or regulariser
        if previous is not None:
            # A copy that may be changed in place: a failed fit must not change the state that it started from.
            previous = {key: tensor.clone().to(problem.device) for key, tensor in previous.items()}
        context = TrainingContext(
            given=problem.data,
            current=problem.data,
            n_features=problem.features.n_features,
            learned_features=problem.network is not None,
            device=problem.device,
            generator=torch.Generator().manual_seed(problem.seed),
            predictor=predictor,
        )
        state = part.start(context, previous)
        if state is None:
            return
        missing = sorted(set(spec) - set(state))
        if missing:
            raise ValueError(f"{part!r} describes {missing[0]!r} in state_spec, but start does not return it.")
        self.states[name] = {key: tensor.to(problem.device) for key, tensor in state.items()}

    def saved_states(self) -> dict[str, State]:
        """The states for a checkpoint."""
        return {name: {key: t.detach() for key, t in state.items()} for name, state in self.states.items()}

    @torch.no_grad()
    def load_states(self, saved: dict[str, State]) -> None:
        """Load the result of `saved_states`."""
        form = {name: {key: tensor.shape for key, tensor in state.items()} for name, state in self.states.items()}
        if form != {name: {key: tensor.shape for key, tensor in state.items()} for name, state in saved.items()}:
            raise ValueError("The states are from another training.")
        for name, state in saved.items():
            for key, tensor in state.items():
                self.states[name][key].copy_(tensor)

    @abstractmethod
    def predictor(self, features: Features) -> Predictor:
        """Predictions of the current parameters for the rows of some features."""

    @abstractmethod
    def take(self, data: TrainingData) -> None:
        """Train on other labels from now on."""

    @abstractmethod
    def run(self, epoch: int, report: Report) -> dict[str, Any] | None:
        """Make a pass; return its record, including the loss, or None if its steps have been reported instead."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The parameters, without copying."""

    @abstractmethod
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore parameters from the result of `tensors`."""

    @abstractmethod
    def parameters(self) -> dict[str, NDArray[Any]]:
        """Copies of the parameters as arrays, for features in the units in which they were passed."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that a pass depends on, as tensors, numbers and strings."""

    @abstractmethod
    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Load the result of `state_dict`."""

    @abstractmethod
    def finish(self) -> None:
        """Finish the parameters at the end of training."""


class _Best:
    """The best epoch so far, and the number of epochs since then."""

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
    """Records of epochs or steps, passed to the monitor; if it asks to stop in one process, all processes stop."""

    def __init__(self, monitor: Monitor, processes: Processes) -> None:
        self.monitor, self.processes = monitor, processes
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
        self.stopped = self.processes.any(self.monitor(self.records[-1], parameters))

    def report(self, numbers: dict[str, Any], parameters: Parameters) -> bool:
        self.add(numbers)
        self.tell(parameters)
        return self.stopped


def _copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _to_tensors(data: TrainingData) -> dict[str, Tensor]:
    """Training data as tensors, without the prior of the user: dense labels, or the parts of a sparse matrix."""
    labels = data.labels
    if labels.is_sparse:
        names = ("data", "indices", "indptr")
        saved = {name: torch.as_tensor(getattr(labels.values, name)) for name in names}
        saved["shape"] = torch.tensor(labels.shape)
    else:
        saved = {"dense": torch.as_tensor(labels.rows(slice(None)))}
    more = {"targets": data.targets, "weights": data.weights}
    return saved | {name: torch.as_tensor(part) for name, part in more.items() if part is not None}


def _from_tensors(saved: dict[str, Tensor], given: TrainingData) -> TrainingData:
    """Training data from the result of `_to_tensors`."""
    if "dense" in saved:
        values: Any = saved["dense"].numpy()
    else:
        parts = tuple(saved[name].numpy() for name in ("data", "indices", "indptr"))
        values = sp.csr_array(parts, shape=tuple(saved["shape"].tolist()))
    more = {name: saved[name].numpy() for name in ("targets", "weights") if name in saved}
    return TrainingData(LabelMatrix(values, given.labels.names), prior=given.prior, **more)


class Training:
    """Everything around the passes of one problem: relabelling, records, validation and checkpoints.

    Parameters
    ----------
    problem : Problem
        The training task.
    learner : Learner
        The learner that makes the passes.
    n_epochs, patience, tol
        As in `train`.
    """

    def __init__(
        self, problem: Problem, learner: Learner, n_epochs: int, *, patience: int | None = None, tol: float = 0.0
    ) -> None:
        self.problem, self.learner, self.n_epochs = problem, learner, n_epochs
        self.patience, self.tol = patience, tol
        self.log = _Log(problem.monitor, problem.processes)
        self._generator = torch.Generator().manual_seed(problem.seed)
        self._data = problem.data
        self._best, self._progress = _Best(), _Best()
        self._kept: dict[str, Any] | None = None
        #: The first remaining pass.
        self.first = problem.first_epoch
        #: The last pass, unless training stops earlier.
        self.last = problem.first_epoch + n_epochs - 1
        checkpoint = problem.checkpoint
        saved = None if checkpoint is None else checkpoint.load(self.last)
        problem.processes.check_same([("epoch", 0 if saved is None else saved["epoch"])], _OTHER_CHECKPOINT)
        if checkpoint is not None and saved is not None:
            try:
                self._load(saved)
            except (MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                # Any error from content of another form.
                raise checkpoint.damaged(error) from error

    def _load(self, saved: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        if saved["data"] is not None:
            self._data = _from_tensors(saved["data"], self.problem.data)
            self.learner.take(self._data)
        self.learner.load_state_dict(saved["learner"])
        self._generator.set_state(saved["generator"])
        self.log.load(saved["log"])
        vars(self._best).update(saved["best"])
        vars(self._progress).update(saved["progress"])
        kept, self.first = saved["kept"], saved["epoch"] + 1
        if kept is not None:
            device = self.problem.device
            states = {name: {key: t.to(device) for key, t in state.items()} for name, state in kept["states"].items()}
            data = self._data if kept["data"] is None else _from_tensors(kept["data"], self.problem.data)
            kept = {"tensors": kept["tensors"], "states": states, "data": data}
        self._kept = kept

    def _context(self, kind: type[_Context], epoch: int, **more: Any) -> _Context:
        problem = self.problem
        return kind(
            given=problem.data,
            current=self._data,
            epoch=epoch,
            n_epochs=self.n_epochs,
            n_features=problem.features.n_features,
            learned_features=problem.network is not None,
            device=problem.device,
            generator=self._generator,
            predictor=self.learner.predictor(problem.features),
            **more,
        )

    def begin(self, epoch: int) -> None:
        """Before a pass: relabel, and call the hooks of everything with a state."""
        problem, learner = self.problem, self.learner
        self.log.epoch = epoch
        relabeling = problem.relabeling
        if relabeling is not None and (relabeling.from_start or epoch > problem.first_epoch):
            context = self._context(RelabelingContext, epoch, state=learner.states.get("relabeling"))
            relabelled = apply_relabeling(relabeling, context)
            if relabelled is not self._data:
                self._data = relabelled
                learner.take(relabelled)
        for name, part in problem.parts.items():
            part.begin_epoch(learner.states.get(name), epoch, self._context(TrainingContext, epoch))

    def end(self, epoch: int, numbers: dict[str, Any] | None) -> None:
        """After a pass: add its record, unless already reported, validate and save."""
        problem, learner, log = self.problem, self.learner, self.log
        validation = problem.validation
        if numbers is not None:
            log.add(numbers)
            self._progress.update(-numbers["loss"], epoch, self.tol * abs(numbers["loss"]))
        for name, part in problem.parts.items():
            part.end_epoch(learner.states.get(name), epoch, self._context(TrainingContext, epoch))
        if validation is not None:
            logits = learner.predictor(validation.features).logits(None)
            if not bool(logits.isfinite().all()):
                raise ValueError(
                    f"Predictions for the held-out rows are no longer finite in epoch {epoch}: training diverges, or "
                    "values of X_val are far larger than those of X. Lower solver__learning_rate, or scale X_val "
                    "like X."
                )
            score = validation.score(logits.cpu().numpy())
            if log.records:
                log.records[-1]["validation_score"] = score
            if self._best.update(score, epoch):
                self._kept = {
                    "tensors": _copy(learner.tensors()),
                    "states": {name: _copy(state) for name, state in learner.states.items()},
                    "data": self._data,
                }
        if numbers is not None:
            log.tell(learner.parameters)
        waited = self._best.waited if validation is not None else self._progress.waited
        if self.patience is not None and waited >= self.patience:
            log.stopped = True
        if problem.checkpoint is not None:
            # In every process, because shards of parameters may have to be put together.
            content = self._content(epoch)
            if problem.processes.is_first:
                problem.checkpoint.save(content)

    def _content(self, epoch: int) -> dict[str, Any]:
        kept = self._kept
        if kept is not None:
            # Usually the labels of the best epoch are those now in use.
            data = None if kept["data"] is self._data else _to_tensors(kept["data"])
            kept = {**kept, "tensors": whole(kept["tensors"]), "data": data}
        return {
            "epoch": epoch,
            "data": None if self._data is self.problem.data else _to_tensors(self._data),
            "learner": self.learner.state_dict(),
            "generator": self._generator.get_state(),
            "log": self.log.state(),
            "best": vars(self._best),
            "progress": vars(self._progress),
            "kept": kept,
        }

    def solution(self) -> Solution:
        """The solution of the best pass by validation score, else of the last pass."""
        problem, learner, log = self.problem, self.learner, self.log
        if self._kept is not None:
            learner.states, self._data = self._kept["states"], self._kept["data"]
            learner.load(self._kept["tensors"])
        learner.finish()
        return Solution(
            parameters=learner.parameters(),
            states=learner.saved_states(),
            data=self._data,
            head_context=learner.head_context.without_labels(),
            history=log.records,
            n_iter=len(log.records),
            stopped=log.stopped,
            best_epoch=self._best.epoch,
            unfitted=learner.unfitted.cpu().numpy(),
            predictor=learner.predictor(problem.features),
        )


def train(
    problem: Problem, learner: Learner, n_epochs: int, *, patience: int | None = None, tol: float = 0.0
) -> Solution:
    """Make passes until training stops.

    Parameters
    ----------
    problem : Problem
        The training task.
    learner : Learner
        The learner that makes the passes.
    n_epochs : int
        Maximal number of passes.
    patience : int or None, default=None
        Number of passes without progress before stopping; progress of the validation score if there is one, else of the
        loss.
    tol : float, default=0.0
        Least relative progress of the loss that counts.

    Returns
    -------
    Solution
        The solution of the best pass by validation score, else of the last pass.
    """

    def run(trainings: Sequence[Training], epoch: int) -> list[dict[str, Any] | None]:
        return [learner.run(epoch, trainings[0].log.report)]

    with lost_processes_told(problem.processes):
        return train_together([Training(problem, learner, n_epochs, patience=patience, tol=tol)], run)[0]


def train_together(
    trainings: Sequence[Training],
    run: Callable[[Sequence[Training], int], Sequence[dict[str, Any] | None]],
) -> list[Solution]:
    """Make passes of several problems side by side, until each has stopped.

    Parameters
    ----------
    trainings : sequence of Training
        One per problem; all begin and end with the same pass.
    run : callable
        Takes the trainings that continue and the number of the pass, and makes the pass with all of the learners.
        Returns the result of `Learner.run` for each.

    Returns
    -------
    list of Solution
        One per problem.
    """
    for epoch in range(trainings[0].first, trainings[0].last + 1):
        going = [training for training in trainings if not training.log.stopped]
        if not going:
            break
        for training in going:
            training.begin(epoch)
        for training, numbers in zip(going, run(going, epoch)):
            training.end(epoch, numbers)
    return [training.solution() for training in trainings]
