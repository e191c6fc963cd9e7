"""The minibatch solver: trains any loss and any head with the one training loop of the package."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import nullcontext
from typing import Literal

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from typing_extensions import override

from skpartial._checks import check_choice, check_flag, check_least, check_number
from skpartial._seeding import seeded
from skpartial._warnings import warn
from skpartial.features._moments import unit_scale
from skpartial.heads import Linear
from skpartial.heads._ensemble import members_of_linear
from skpartial.solvers._base import Solver
from skpartial.solvers.gradient._gradient_steps import GradientSteps
from skpartial.solvers.gradient._linear_steps import LinearSteps, is_linear
from skpartial.solvers.gradient._plan import Plan
from skpartial.solvers.gradient._side_by_side import batches_in_common, train_side_by_side
from skpartial.training._loop import train
from skpartial.training._problem import Problem, Solution

__all__ = ["Minibatch"]

# By how much the steps of Adam may move a logit of a linear head before they are told to be too large.
_JUMP = 5.0
# What the step size of Adam is multiplied by for linear heads; bench_learning_rates.py compares.
_OF_LINEAR = 0.3


class Minibatch(Solver):
    r"""Train by stochastic gradients over seeded, shuffled batches of rows.

    Batches are slices of tensors that stay on the device. Features are rescaled by one number inside the loop, so that
    a learning rate means the same whatever their units: it refers to features whose values have a root mean square of
    1. The L2 penalty and the fitted coefficients refer to the features as they were passed. With validation rows the
    best epoch is kept, else the last one.

    Rates in papers and in other software refer to the features as they are passed: ``rescale=False`` takes them so.
    Of rows of unit norm, of d features, the same steps are made by :math:`\sqrt{d}` times less here.

    Parameters
    ----------
    optimizer : {"adam", "adamw", "sgd"}, default="adam"
        Adam, Adam with decoupled weight decay, or gradient descent with momentum.
    learning_rate : float or None, default=None
        Step size; of a network that of its layers before the head. None takes a step that moves a logit by about the
        same amount whatever the number of features: 0.3 / d for a linear head of d features (1 / d for others) by Adam,
        and 0.1 / d where a regulariser refines a trained head; for a network 1e-5 where it is pretrained, as published,
        else 1e-3. A rate of a linear head of more than 5 / d gives a warning.
    max_epochs : int or None, default=None
        Passes over the training set. None takes 25, as published for linear classifiers, 5 where a regulariser refines
        a trained one, and 10 for networks.
    batch_size : int or None, default=None
        Rows in a batch. None takes 16 for networks and small training sets and up to 256 for large ones, so that an
        epoch has at least a hundred steps where possible.
    momentum : float, default=0.9
        Of "sgd".
    head_rate : float or None, default=None
        Step size of a network's head, as a multiple of `learning_rate`; None takes 10 where the network is pretrained,
        as published, else 1.
    weight_decay : float, default=0.0
        L2 penalty of a network's weights before the head, which has `alpha`.
    schedule : {"constant", "cosine"}, default="constant"
        Whether step sizes stay, or fall to zero like a cosine.
    warm_up : float, default=0.0
        Share of all steps in which step sizes rise from zero, in [0, 1).
    clip_norm : float or None, default=None
        Length that the gradient of all parameters is cut to.
    accumulate : int, default=1
        Pieces in which a batch passes through a network, to save memory: twice the forward passes, and the same
        gradients but for batch norms. Where memory runs out the number is doubled by itself, and a warning says so.
    patience : int or None, default=None
        Stop after this many epochs without a better validation score; without validation rows, without a lower
        training loss; where it does not run out a ConvergenceWarning says so. None always runs `max_epochs`.
    tol : float, default=1e-4
        What counts as a lower training loss for `patience`, relative to the best.
    shuffle : bool, default=True
        Whether rows are drawn in a new order in every epoch.
    rescale : bool, default=True
        Whether learning rates refer to features of a root mean square of 1. False leaves features as they are passed,
        to train at published rates, and what a loss learns beside the classifier at the published multiple of them
        (such as `estimate_rate` of ROLE). Networks see images as they are in any case.
    max_resident_bytes : float or None, default=None
        Features larger than this stay where they are and travel to the device by the batch; None takes what the device
        has free.

    Examples
    --------
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.solvers import Minibatch
    >>> clf = PartialLabelClassifier(loss="an", solver=Minibatch(learning_rate=1e-3, batch_size=16))
    >>> clf.set_params(solver__max_epochs=10).solver
    Minibatch(batch_size=16, learning_rate=0.001, max_epochs=10)
    """

    def __init__(
        self,
        optimizer: Literal["adam", "adamw", "sgd"] = "adam",
        learning_rate: float | None = None,
        max_epochs: int | None = None,
        batch_size: int | None = None,
        momentum: float = 0.9,
        head_rate: float | None = None,
        weight_decay: float = 0.0,
        schedule: Literal["constant", "cosine"] = "constant",
        warm_up: float = 0.0,
        clip_norm: float | None = None,
        accumulate: int = 1,
        patience: int | None = None,
        tol: float = 1e-4,
        shuffle: bool = True,
        rescale: bool = True,
        max_resident_bytes: float | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.momentum = momentum
        self.head_rate = head_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warm_up = warm_up
        self.clip_norm = clip_norm
        self.accumulate = accumulate
        self.patience = patience
        self.tol = tol
        self.shuffle = shuffle
        self.rescale = rescale
        self.max_resident_bytes = max_resident_bytes

    @override
    def length_parameters(self) -> tuple[str, ...]:
        # Schedules are laid out over all epochs.
        return ("max_epochs",) if self.schedule == "constant" and self.warm_up == 0 else ()

    @override
    def max_steps(self, problem: Problem) -> int:
        if self.max_epochs is None:
            return 10 if problem.network is not None else 5 if _refines(problem) else 25
        return int(self.max_epochs)

    @override
    def check(self, problem: Problem) -> None:
        check_choice(self, "optimizer", self.optimizer, ("adam", "adamw", "sgd"))
        check_choice(self, "schedule", self.schedule, ("constant", "cosine"))
        check_least(self, learning_rate=0.0, head_rate=0.0, weight_decay=0.0, clip_norm=0.0, max_resident_bytes=0.0)
        check_least(self, max_epochs=1, batch_size=1, accumulate=1, patience=1, tol=0.0)
        for name in ("momentum", "warm_up"):
            check_number(self, name, getattr(self, name), "[0, 1)")
        check_flag(self, "shuffle", self.shuffle)
        check_flag(self, "rescale", self.rescale)

    def plan(self, problem: Problem) -> Plan:
        """Settle what the parameters leave open.

        Parameters
        ----------
        problem : Problem
            The training task.

        Returns
        -------
        Plan
            Numbers for the loop.
        """
        batch_size, images = self.batch_size, problem.network is not None
        if batch_size is None:
            batch_size = 16 if images else int(np.clip(problem.features.n_rows // 100, 16, 256))
        learning_rate, head_rate = self.learning_rate, self.head_rate
        if not images:
            head_rate = 1.0
        elif head_rate is None:
            head_rate = 10.0 if problem.pretrained else 1.0
        if learning_rate is None and images:
            learning_rate = 1e-5 if problem.pretrained else 1e-3
        elif learning_rate is None:
            learning_rate = self._suitable_rate(problem)
        return Plan(
            optimizer=self.optimizer,
            learning_rate=float(learning_rate),
            momentum=float(self.momentum),
            head_rate=float(head_rate),
            weight_decay=float(self.weight_decay),
            schedule=self.schedule,
            warm_up=float(self.warm_up),
            clip_norm=None if self.clip_norm is None else float(self.clip_norm),
            accumulate=int(self.accumulate),
            max_epochs=self.max_steps(problem),
            batch_size=min(int(batch_size), problem.features.n_rows),
            shuffle=bool(self.shuffle),
            rescale=bool(self.rescale) and not images,
            patience=self.patience,
            tol=float(self.tol),
        )

    def _suitable_rate(self, problem: Problem) -> float:
        """The step size that suits a head on features."""
        rate = default_learning_rate(
            self.optimizer, problem.features.n_features, problem.labels.n_labels, self.momentum
        )
        if not self.rescale:
            # Steps of Adam have the size of the rate, those of gradient descent also that of the features.
            scale = unit_scale(problem.features, problem.weights.of_rows)
            rate *= scale if self.optimizer != "sgd" else scale**2
        if _refines(problem):
            # Near the optimum larger steps of minibatches do nothing but leave it.
            return 0.1 * rate
        # Linear heads rank best at smaller steps, in any units; others take longer to learn.
        linear = isinstance(problem.head, Linear) or members_of_linear(problem.head)
        return (_OF_LINEAR if linear and self.optimizer != "sgd" else 1) * rate

    def _warn_if_fast(self, problem: Problem) -> None:
        """Warn of a rate at which a step of Adam makes the logits of a linear head jump."""
        linear = isinstance(problem.head, Linear) and problem.network is None
        if self.learning_rate is None or not linear or self.optimizer == "sgd":
            return
        n_features, scale = problem.features.n_features, 1.0
        if not self.rescale:
            scale = unit_scale(problem.features, problem.weights.of_rows)
        jump = self.learning_rate * n_features / scale
        if jump <= _JUMP:
            return
        message = (
            f"learning_rate={self.learning_rate:g} moves the logits of {n_features} features by up to about {jump:.2g} "
            f"in a step, too much to settle: learning_rate=None takes {self._suitable_rate(problem):.2g}."
        )
        if self.rescale:
            message += (
                " Rates count for features scaled to a root mean square of 1: Minibatch(rescale=False) takes those that"
                " were published for features as they are."
            )
        warn(message)

    @override
    def solve(self, problem: Problem) -> Solution:
        self.check(problem)
        self._warn_if_fast(problem)
        plan = self.plan(problem)
        with seeded(problem.seed, problem.device) if problem.draws else nullcontext():
            learner = (LinearSteps if is_linear(problem, plan) else GradientSteps)(problem, plan)
            solution = train(problem, learner, plan.max_epochs, patience=plan.patience, tol=plan.tol)
        solution.optimizer_state = learner.optimizer_state()
        if plan.patience is not None and not solution.stopped:
            warn(
                f"Training did not stop improving within max_epochs={plan.max_epochs}: raise solver__max_epochs.",
                ConvergenceWarning,
            )
        return solution

    @override
    def group(self, problem: Problem) -> Hashable | None:
        self.check(problem)
        return batches_in_common(problem, self.plan(problem))

    @classmethod
    @override
    def solve_together(cls, tasks: Sequence[tuple[Solver, Problem]]) -> list[Solution]:
        if len(tasks) == 1:
            return super().solve_together(tasks)
        # The moments of the optimiser are not kept: what is trained side by side does not go on in `partial_fit`.
        plans = []
        for solver, problem in tasks:
            assert isinstance(solver, Minibatch)
            solver._warn_if_fast(problem)
            plans.append(solver.plan(problem))
        return train_side_by_side([problem for _, problem in tasks], plans)


def _refines(problem: Problem) -> bool:
    """Whether the head has been trained already, without the regulariser."""
    return problem.regularizer is not None and problem.regularizer.refines and problem.start is not None


def default_learning_rate(optimizer: str, n_features: int, n_labels: int, momentum: float) -> float:
    """Step size for features with a root mean square of 1, at which a head of them moves fast and is still stable.

    A step of Adam moves every weight by about the rate, so a logit of d features by up to rate x d. Gradient descent
    sees a gradient that is a mean over L labels, and momentum multiplies its steps by 1 / (1 - momentum).
    """
    if optimizer != "sgd":
        return 1 / max(n_features, 30)
    return 5 * (1 - momentum) * n_labels / max(n_features, 30)
