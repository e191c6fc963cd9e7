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

# Rows whose variances are computed at a time.
_ROWS = 4096


class LinearPredictor:
    """Predictions of the current weights and intercepts of a learner.

    Parameters
    ----------
    learner : ConvexRounds
        Its parameters are read at each call.
    features : Features
        The rows.
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
        """Logits (M, b, L) of the members of an ensemble; of another head M is 1."""
        members = self._scores(rows, self._learner.theta).unflatten(1, (self._learner.n_members, -1))
        return members.transpose(0, 1)

    def sampled_logits(self, rows: Tensor | None, n_samples: int, seed: int) -> Tensor:
        """Refused: the weights of a convex problem have no dropout."""
        raise ValueError("Predictions with dropout need a head with dropout layers, and solver=Minibatch().")

    def logit_variance(self, rows: Tensor | None, dropout: float, n_samples: int, seed: int) -> Tensor:
        """Variance (b, L) of the logits where features are dropped, in closed form."""
        index = torch.arange(self._features.n_rows) if rows is None else rows
        weight = self._learner.mean_theta[:, :-1]
        blocks = self._features.batches(index.split(_ROWS))
        return torch.cat([dropout_variance(block, weight, dropout) for block in blocks])


class ConvexRounds(Learner):
    """A linear head. Each pass moves it to the optimum of the loss, with the targets held fixed.

    Parameters
    ----------
    problem : Problem
        The training task.
    tol : float
        Estimated relative gap at which a label has converged.
    max_iter : int
        Steps of a round at most.
    prepared : PreparedFeatures
        Of the problem; may serve other learners as well.
    labels_at_once : int
        How many labels are solved together, block after block. A loss that looks at the logits needs all.
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
        #: Blocks of labels that are solved together, the same for each member of an ensemble.
        self.label_blocks = list(gen_batches(n_labels, labels_at_once))
        self._n_steps = 0
        self.n_members = members_of_linear(problem.head) or 1
        self._bootstrap = bootstrap_weights(problem.features.n_rows, self.n_members, problem.seed)
        shape = self.n_members * problem.labels.n_labels, problem.features.n_features + 1
        #: Weights, with the intercepts in the last column. The members of an ensemble follow each other.
        self.theta = torch.zeros(shape, dtype=problem.dtype, device=problem.device)
        self._started = problem.start is not None
        if problem.start is not None:
            self.theta[:, :-1] = torch.as_tensor(problem.start["weight"], dtype=problem.dtype)
            self.theta[:, -1] = torch.as_tensor(problem.start["bias"], dtype=problem.dtype)
        self.take(problem.data)
        self.start("relabeling", self.predictor(problem.features))

    def take(self, data: TrainingData) -> None:
        """Use these labels from now on."""
        problem = self.problem
        own = [None] if self._bootstrap is None else self._bootstrap
        self._sources = [
            DataSource(data, problem.weights.times(of_rows), problem.device, problem.dtype) for of_rows in own
        ]

    @property
    def mean_theta(self) -> Tensor:
        """Weights and intercepts of the mean logits, shape (L, d + 1)."""
        return self.theta if self.n_members == 1 else self.theta.unflatten(0, (self.n_members, -1)).mean(0)

    def predictor(self, features: Features) -> LinearPredictor:
        """Predictions of the current parameters for the rows of some features."""
        return LinearPredictor(self, features)

    def run(self, epoch: int, report: Report) -> None:
        """Solve one round, and report its steps."""
        solve_rounds([self], epoch, [report])

    def begin_round(self) -> None:
        """Clear the results of the last round."""
        # A copy: the parameters of the last round may be kept elsewhere as the best so far.
        self.theta = self.theta.clone()
        self._objective, gap = torch.zeros(2, len(self.theta), dtype=torch.float64, device=self.theta.device)
        self._fixed, self._told, imprecise = torch.zeros(3, len(self.theta), dtype=torch.bool, device=self.theta.device)
        self.outcome = Outcome(self.theta, gap, ~self._told, imprecise)

    def end_round(self) -> None:
        """Let the next round start from the parameters of this one."""
        self._started = True
        self.unfitted = self._fixed.unflatten(0, (self.n_members, -1)).all(0)

    def places(self, labels: slice) -> Tensor:
        """Rows of `theta` that belong to some labels, member after member."""
        everything = torch.arange(len(self.theta), device=self.theta.device)
        return everything.unflatten(0, (self.n_members, -1))[:, labels].flatten()

    def prepare(self, epoch: int, labels: slice) -> LogisticProblem:
        """The convex problem of some labels in a round; sets the parameters that it starts from."""
        members = [
            self._prepare(epoch, source, theta[labels], labels)
            for source, theta in zip(self._sources, self.theta.unflatten(0, (self.n_members, -1)))
        ]
        convex = LogisticProblem.join(members)
        self._fixed[self.places(labels)] = convex.unfitted
        return convex

    def _prepare(self, epoch: int, source: DataSource, theta: Tensor, labels: slice) -> LogisticProblem:
        """The problem of some labels of one member; changes its parameters in place."""
        problem, loss = self.problem, self.problem.loss
        assert isinstance(loss, PointwiseLoss)
        if not self._started and loss.traits().iterative:
            # A rule that looks at the logits first sees those of the prior, under its reading of unknown entries.
            starting = starting_rule(loss)
            if starting is not None:
                folded = FoldedTargets(problem, starting, source, state=self.state)
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

    def tell(self, labels: slice, objective: Tensor, gap: Tensor, theta: Callable[[], Tensor], report: Report) -> bool:
        """Report a step of some labels. The mean objective is over all blocks that have begun."""
        assert self.outcome is not None
        self._n_steps += 1
        places = self.places(labels)
        self._objective[places], self.outcome.gap[places], self._told[places] = objective, gap, True
        numbers = {
            "iteration": self._n_steps,
            "objective": float(self._objective[self._told & ~self._fixed].mean()),
            "relative_gap": float(self.outcome.gap[self._told].max()),
        }

        def parameters() -> dict[str, NDArray[Any]]:
            everything = self.theta.clone()
            everything[places] = theta()
            return _arrays(everything)

        return report(numbers, parameters)

    def accept(self, labels: slice, outcome: Outcome) -> None:
        """Store the results of some labels."""
        assert self.outcome is not None
        places = self.places(labels)
        for name, found in vars(outcome).items():
            getattr(self.outcome, name)[places] = found

    def tensors(self) -> dict[str, Tensor]:
        """The parameters, as they are."""
        return {"theta": self.theta, "unfitted": self.unfitted}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go back to parameters that `tensors` gave."""
        self.theta, self.unfitted = tensors["theta"], tensors["unfitted"]

    def parameters(self) -> dict[str, NDArray[Any]]:
        """Weights and intercepts as arrays of their own."""
        return _arrays(self.theta)

    def state_dict(self) -> dict[str, Any]:
        """Everything on which a round depends."""
        return {**self.tensors(), "states": self.saved_states(), "n_steps": self._n_steps}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from the result of `state_dict`."""
        self.load({name: saved[name].to(self.problem.device) for name in ("theta", "unfitted")})
        self.load_states(saved["states"])
        self._started, self._n_steps = True, saved["n_steps"]

    def finish(self) -> None:
        """Nothing is left to settle: a round gives labels that cannot be fitted their prior."""


def _scores(features: Features, theta: Tensor, processes: Processes) -> Tensor:
    """Scores of all rows (k, n), of which every process works out its share."""
    if processes.size == 1 or features.n_rows < processes.size:
        return features.scores(theta)
    own = features.part(processes.share(features.n_rows))
    return processes.together(own.scores(theta), features.n_rows, dim=1)


def solve_rounds(learners: Sequence[ConvexRounds], epoch: int, reports: Sequence[Report]) -> None:
    """Solve one round of several learners of the same features together.

    Parameters
    ----------
    learners : sequence of ConvexRounds
        Of the same prepared features, surrogate, tolerance and number of steps.
    epoch : int
        The round.
    reports : sequence of Report
        One a learner, told of every step; if one of several asks to stop, the others go on.
    """
    stopped = [False] * len(learners)
    for learner in learners:
        learner.begin_round()
    for labels in learners[0].label_blocks:
        convex = LogisticProblem.join([learner.prepare(epoch, labels) for learner in learners])
        # After a stop, the labels of later blocks keep their starting parameters.
        if not all(stopped):
            _solve_labels(learners, labels, convex, reports, stopped)
        del convex  # before the next one is made
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
    arrived = [False] * len(learners)

    def tell(objective: Tensor, gap: Tensor, current: Callable[[], Tensor]) -> bool:
        def of(part: slice) -> Callable[[], Tensor]:
            return lambda: current()[part]

        for i, (learner, part, report) in enumerate(zip(learners, parts, reports)):
            if not (stopped[i] or arrived[i]):
                stopped[i] = learner.tell(labels, objective[part], gap[part], of(part), report)
                # Later steps belong to the other learners.
                arrived[i] = len(learners) > 1 and float(gap[part].max()) <= first.tol
        return any(stopped) and all(stop or there for stop, there in zip(stopped, arrived))

    theta = torch.cat([learner.theta[own] for learner, own in zip(learners, places)])
    tol, max_iter = first.tol, first.max_iter
    if isinstance(convex, SquaredProblem):
        outcome = solve_squared_round(first.prepared, convex, theta, tol=tol, max_iter=max_iter, report=tell)
    else:
        outcome = solve_round(first.prepared, convex, theta, tol=tol, max_iter=max_iter, report=tell)
    for learner, part in zip(learners, parts):
        learner.accept(labels, outcome.of(part))


def _arrays(theta: Tensor) -> dict[str, NDArray[Any]]:
    host = theta.detach().cpu().numpy()
    return {"weight": np.ascontiguousarray(host[:, :-1]), "bias": host[:, -1].copy()}
