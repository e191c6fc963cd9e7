"""Convex rounds: the passes of the full-batch solver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import gen_batches
from torch import Tensor

from skpartial._processes import Processes
from skpartial.features._base import Features
from skpartial.heads._ensemble import members_of_linear
from skpartial.heads._linear import dropout_variance
from skpartial.labels._data import TrainingData
from skpartial.losses import PointwiseLoss
from skpartial.solvers.convex._logistic import LogisticProblem
from skpartial.solvers.convex._prepared import PreparedFeatures
from skpartial.solvers.convex._solve import Outcome, solve_round
from skpartial.solvers.convex._squared import SquaredProblem, solve_squared_round
from skpartial.training._data import DataSource, bootstrap_weights
from skpartial.training._loop import Learner, Report
from skpartial.training._problem import Problem
from skpartial.training._targets import FoldedTargets, prior_intercepts, sign_weights, starting_rule

__all__ = ["ConvexRounds", "solve_rounds"]

# Number of rows per block of variances.
_BLOCK_ROWS = 4096


class LinearPredictor:
    """Predictions of the current weights and intercepts of a learner.

    Parameters
    ----------
    learner : ConvexRounds
        The learner, whose current parameters are used in each call.
    features : Features
        The rows to predict.
    """

    def __init__(self, learner: ConvexRounds, features: Features) -> None:
        self._learner, self._features = learner, features

    def logits(self, rows: Tensor | None) -> Tensor:
        """Logits (b, L)."""
        return self._scores(rows, self._learner.mean_theta)

    def _scores(self, rows: Tensor | None, theta: Tensor) -> Tensor:
        if rows is None:
            return _scores(self._features, theta, self._learner.problem.processes).T.contiguous()
        return self._features.batch(rows) @ theta[:, :-1].T + theta[:, -1]

    def features(self, rows: Tensor | None) -> Tensor:
        """Features (b, d)."""
        return self._features.batch(torch.arange(self._features.n_rows) if rows is None else rows)

    def member_logits(self, rows: Tensor | None) -> Tensor:
        """Logits (M, b, L) of the members of an ensemble; other heads have M = 1."""
        members = self._scores(rows, self._learner.theta).unflatten(1, (self._learner.n_members, -1))
        return members.transpose(0, 1)

    def sampled_logits(self, rows: Tensor | None, n_samples: int, seed: int) -> Tensor:
        """Raise an error: a linear head without dropout has no samples."""
        raise ValueError("Predictions with dropout need a head with dropout layers, and solver=Minibatch().")

    def logit_variance(self, rows: Tensor | None, dropout: float, n_samples: int, seed: int) -> Tensor:
        """Variance (b, L) of the logits under dropout of the features, in closed form."""
        index = torch.arange(self._features.n_rows) if rows is None else rows
        weight = self._learner.mean_theta[:, :-1]
        blocks = self._features.batches(index.split(_BLOCK_ROWS))
        return torch.cat([dropout_variance(block, weight, dropout) for block in blocks])


class ConvexRounds(Learner):
    """A linear head; each pass finds the optimum of the loss with fixed targets.

    Parameters
    ----------
    problem : Problem
        The training task.
    tol : float
        Estimated relative gap at which a label has converged.
    max_iter : int
        Maximal number of Newton steps per round.
    prepared : PreparedFeatures
        Prepared features of the problem, which other learners may share.
    labels_at_once : int
        Number of labels per block; blocks are solved one after the other. A loss that depends on the logits needs one
        block for all labels.
    """

    #: Result of the last round, if there was one.
    outcome: Outcome | None = None

    def __init__(
        self, problem: Problem, tol: float, max_iter: int, prepared: PreparedFeatures, labels_at_once: int
    ) -> None:
        super().__init__(problem)
        self.start("loss")
        self.head_context = problem.head_context
        self.tol, self.max_iter, self.prepared = tol, max_iter, prepared
        n_labels = problem.labels.n_labels
        #: Blocks of labels to solve together, the same for each member of an ensemble.
        self.label_blocks = list(gen_batches(n_labels, labels_at_once))
        self._n_steps = 0
        self.n_members = members_of_linear(problem.head) or 1
        self._bootstrap = bootstrap_weights(problem.features.n_rows, self.n_members, problem.seed)
        shape = self.n_members * problem.labels.n_labels, problem.features.n_features + 1
        #: Weights, and intercepts in the last column; one member of an ensemble after the other.
        self.theta = torch.zeros(shape, dtype=problem.dtype, device=problem.device)
        self._started = problem.start is not None
        if problem.start is not None:
            self.theta[:, :-1] = torch.as_tensor(problem.start["weight"], dtype=problem.dtype)
            self.theta[:, -1] = torch.as_tensor(problem.start["bias"], dtype=problem.dtype)
        self.take(problem.data)
        self.start("relabeling", self.predictor(problem.features))

    def take(self, data: TrainingData) -> None:
        """Train on other labels from now on."""
        problem = self.problem
        row_weights = [None] if self._bootstrap is None else self._bootstrap
        self._sources = [
            DataSource(data, problem.weights.times(of_rows), problem.device, problem.dtype) for of_rows in row_weights
        ]

    @property
    def mean_theta(self) -> Tensor:
        """Parameters (L, d + 1) with the mean logits of the members."""
        return self.theta if self.n_members == 1 else self.theta.unflatten(0, (self.n_members, -1)).mean(0)

    def predictor(self, features: Features) -> LinearPredictor:
        """Predictions of the current parameters for the rows of some features."""
        return LinearPredictor(self, features)

    def run(self, epoch: int, report: Report) -> None:
        """Solve one round, and report its steps."""
        solve_rounds([self], epoch, [report])

    def begin_round(self) -> None:
        """Clear the results of the last round."""
        # Copy, because the parameters of the last round may be stored as the best so far.
        self.theta = self.theta.clone()
        self._objective, gap = torch.zeros(2, len(self.theta), dtype=torch.float64, device=self.theta.device)
        self._member_unfitted, self._reported, imprecise = torch.zeros(
            3, len(self.theta), dtype=torch.bool, device=self.theta.device
        )
        self.outcome = Outcome(self.theta, gap, ~self._reported, imprecise)

    def end_round(self) -> None:
        """Let the next round start from the parameters of this one."""
        self._started = True
        self.unfitted = self._member_unfitted.unflatten(0, (self.n_members, -1)).all(0)

    def places(self, labels: slice) -> Tensor:
        """Row indices of some labels in `theta`, for one member after the other."""
        indices = torch.arange(len(self.theta), device=self.theta.device)
        return indices.unflatten(0, (self.n_members, -1))[:, labels].flatten()

    def prepare(self, epoch: int, labels: slice) -> LogisticProblem:
        """The convex problem of some labels in a round; sets their initial parameters."""
        members = [
            self._prepare(epoch, source, theta[labels], labels)
            for source, theta in zip(self._sources, self.theta.unflatten(0, (self.n_members, -1)))
        ]
        convex = LogisticProblem.join(members)
        self._member_unfitted[self.places(labels)] = convex.unfitted
        return convex

    def _prepare(self, epoch: int, source: DataSource, theta: Tensor, labels: slice) -> LogisticProblem:
        """The convex problem of some labels of one member; sets their initial parameters theta in place."""
        problem, loss = self.problem, self.problem.loss
        assert isinstance(loss, PointwiseLoss)
        if not self._started and loss.traits().iterative:
            # A rule that depends on the logits first gets those of the intercepts alone.
            rule = starting_rule(loss)
            if rule is not None:
                folded = FoldedTargets(problem, rule, source, state=self.state)
                theta[:, -1] = prior_intercepts(*sign_weights(folded))[1].to(problem.dtype)
        logits = None
        if loss.traits().iterative:
            logits = _scores(problem.features, theta, problem.processes).T.contiguous()
        targets = FoldedTargets(problem, loss, source, logits=logits, state=self.state, epoch=epoch, labels=labels)
        kind = SquaredProblem if loss.surrogate == "squared" else LogisticProblem
        convex = kind(targets, problem.alpha, problem.dtype, problem.device)
        prior = convex.prior.to(problem.dtype)
        if not self._started:
            theta[:, -1] = prior
        theta[convex.unfitted, :-1] = 0
        theta[convex.unfitted, -1] = prior[convex.unfitted]
        return convex

    def report_step(
        self, labels: slice, objective: Tensor, gap: Tensor, theta: Callable[[], Tensor], report: Report
    ) -> bool:
        """Report a step of some labels, with the mean objective of all blocks so far; returns whether to stop."""
        assert self.outcome is not None
        self._n_steps += 1
        places = self.places(labels)
        self._objective[places], self.outcome.gap[places], self._reported[places] = objective, gap, True
        numbers = {
            "iteration": self._n_steps,
            "objective": float(self._objective[self._reported & ~self._member_unfitted].mean()),
            "relative_gap": float(self.outcome.gap[self._reported].max()),
        }

        def parameters() -> dict[str, NDArray[Any]]:
            current = self.theta.clone()
            current[places] = theta()
            return _arrays(current)

        return report(numbers, parameters)

    def accept(self, labels: slice, outcome: Outcome) -> None:
        """Store the results of some labels."""
        assert self.outcome is not None
        places = self.places(labels)
        for name, values in vars(outcome).items():
            getattr(self.outcome, name)[places] = values

    def tensors(self) -> dict[str, Tensor]:
        """The parameters, without copying."""
        return {"theta": self.theta, "unfitted": self.unfitted}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore parameters from the result of `tensors`."""
        self.theta, self.unfitted = tensors["theta"], tensors["unfitted"]

    def parameters(self) -> dict[str, NDArray[Any]]:
        """Copies of weights and intercepts as arrays."""
        return _arrays(self.theta)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a round depends on."""
        return {**self.tensors(), "states": self.saved_states(), "n_steps": self._n_steps}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Load the result of `state_dict`."""
        self.load({name: saved[name].to(self.problem.device) for name in ("theta", "unfitted")})
        self.load_states(saved["states"])
        self._started, self._n_steps = True, saved["n_steps"]

    def finish(self) -> None:
        """Do nothing: a round already sets the prior of labels that cannot be fitted."""


def _scores(features: Features, theta: Tensor, processes: Processes) -> Tensor:
    """Scores (k, n) of all rows; each process computes its share."""
    if processes.size == 1 or features.n_rows < processes.size:
        return features.scores(theta)
    part = features.part(processes.share(features.n_rows))
    return processes.together(part.scores(theta), features.n_rows, dim=1)


def solve_rounds(learners: Sequence[ConvexRounds], epoch: int, reports: Sequence[Report]) -> None:
    """Solve one round of several learners together.

    Parameters
    ----------
    learners : sequence of ConvexRounds
        Learners with the same prepared features, surrogate, tolerance and number of steps.
    epoch : int
        The current round.
    reports : sequence of Report
        One function per learner, called after every step; a learner that asks to stop does not stop the others.
    """
    stopped = [False] * len(learners)
    for learner in learners:
        learner.begin_round()
    for labels in learners[0].label_blocks:
        convex = LogisticProblem.join([learner.prepare(epoch, labels) for learner in learners])
        # After a stop, the labels of later blocks keep their starting parameters.
        if not all(stopped):
            _solve_labels(learners, labels, convex, reports, stopped)
        del convex  # free its memory before the next block
    for learner in learners:
        learner.end_round()


def _solve_labels(
    learners: Sequence[ConvexRounds],
    labels: slice,
    convex: LogisticProblem,
    reports: Sequence[Report],
    stopped: list[bool],
) -> None:
    """Solve one round for some of the labels; updates `stopped`."""
    first, places = learners[0], [learner.places(labels) for learner in learners]
    size = len(places[0])
    parts = [slice(start, start + size) for start in range(0, size * len(learners), size)]
    converged = [False] * len(learners)

    def report_all(objective: Tensor, gap: Tensor, current: Callable[[], Tensor]) -> bool:
        def of(part: slice) -> Callable[[], Tensor]:
            return lambda: current()[part]

        for i, (learner, part, report) in enumerate(zip(learners, parts, reports)):
            if not (stopped[i] or converged[i]):
                stopped[i] = learner.report_step(labels, objective[part], gap[part], of(part), report)
                # After convergence, steps belong to the other learners.
                converged[i] = len(learners) > 1 and float(gap[part].max()) <= first.tol
        return any(stopped) and all(stop or done for stop, done in zip(stopped, converged))

    theta = torch.cat([learner.theta[rows] for learner, rows in zip(learners, places)])
    tol, max_iter = first.tol, first.max_iter
    if isinstance(convex, SquaredProblem):
        outcome = solve_squared_round(first.prepared, convex, theta, tol=tol, max_iter=max_iter, report=report_all)
    else:
        outcome = solve_round(first.prepared, convex, theta, tol=tol, max_iter=max_iter, report=report_all)
    for learner, part in zip(learners, parts):
        learner.accept(labels, outcome.of(part))


def _arrays(theta: Tensor) -> dict[str, NDArray[Any]]:
    host = theta.detach().cpu().numpy()
    return {"weight": np.ascontiguousarray(host[:, :-1]), "bias": host[:, -1].copy()}
