"""The minibatch solver, which trains any loss and any head with the training loop of the package."""

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

# Largest move of a logit of a linear head by a step of Adam without a warning.
_JUMP = 5.0
# Factor of the step size of Adam for linear heads; see bench_learning_rates.py.
_OF_LINEAR = 0.3


class Minibatch(Solver):
    r"""Train by stochastic gradients on seeded, shuffled batches of rows.

    Batches are slices of tensors that stay on the device. During training, features are centred (sparse ones by their
    products, so that they stay sparse) and divided by their root mean square, so that a learning rate means the same
    whatever the units of the features, and steps are not slowed down by their mean. Modules of your own get features
    that are scaled but not centred. The L2 penalty and the fitted
    coefficients refer to the features as passed. With validation rows the best epoch is kept, else the last one.

    Learning rates in papers and other software refer to the features as passed; use them with ``rescale=False``. For
    rows of unit norm with d features, the equivalent rate here is :math:`\sqrt{d}` times smaller.

    Parameters
    ----------
    optimizer : {"adam", "adamw", "sgd"}, default="adam"
        Adam, Adam with decoupled weight decay, or gradient descent with momentum.
    learning_rate : float or None, default=None
        Step size; with a network, the step size of the layers before the head. With None, a step moves a logit by about
        the same amount for any number of features. For Adam, it is 0.3 / d for a linear head on d features (1 / d for
        other heads), and 0.1 / d if a regulariser refines a trained head. For a network, it is 1e-5 if pretrained, as
        published, else 1e-3. With a linear head, a rate above 5 / d raises a warning.
    max_epochs : int or None, default=None
        Number of passes over the training set. None means 25 for linear classifiers, as published, 5 if a regulariser
        refines a trained one, and 10 for networks.
    batch_size : int or None, default=None
        Number of rows per batch. None means 16 for networks and small training sets, and up to 256 for large ones, as
        long as an epoch has at least a hundred steps.
    momentum : float, default=0.9
        Momentum of "sgd".
    head_rate : float or None, default=None
        Step size of a network's head, as a multiple of `learning_rate`; None means 10 if the network is pretrained, as
        published, else 1.
    weight_decay : float, default=0.0
        L2 penalty of a network's weights before the head; `alpha` penalises the head.
    schedule : {"constant", "cosine"}, default="constant"
        Whether step sizes are constant, or decrease to zero along a cosine. ``solver="auto"`` uses "cosine" for
        nonlinear heads on features, and if a regulariser refines a trained head.
    warm_up : float, default=0.0
        Share of all steps during which step sizes rise from zero, in [0, 1).
    clip_norm : float or None, default=None
        Maximal norm of the gradient of all parameters; longer gradients are scaled down.
    accumulate : int, default=1
        Number of parts in which a batch passes through a network, to save memory. This doubles the number of forward
        passes, and gives the same gradients except with batch normalisation. If memory runs out, the number is doubled,
        with a warning.
    shard_parameters : bool, default=False
        Whether processes that fit together (``torchrun``) divide the parameters of a network, their gradients and the
        moments of the optimiser among themselves (FSDP2), for networks whose training does not fit on one GPU. Steps
        are the same, with more messages. It has no effect in a single process, or without a network to train.
    patience : int or None, default=None
        Stop after this many epochs without a better validation score, or without a lower training loss if there are no
        validation rows. If training does not stop before `max_epochs`, a ConvergenceWarning is raised. With None,
        training always takes `max_epochs`.
    tol : float, default=1e-4
        Smallest decrease of the training loss that counts for `patience`, relative to the best loss.
    shuffle : bool, default=True
        Whether to shuffle the rows in every epoch.
    rescale : bool, default=True
        Whether learning rates refer to features scaled to a root mean square of 1. With False, features are used as
        passed, for training at published rates; parameters of a loss (such as the label estimates of ROLE) are then
        trained at the published multiple of the rate (`estimate_rate`). Images are never rescaled.
    max_resident_bytes : float or None, default=None
        Features larger than this stay where they are, and are copied to the device batch by batch; None means the free
        memory of the device.

    Examples
    --------
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.solvers import Minibatch
    >>> clf = PartialLabelClassifier(loss="an", solver=Minibatch(learning_rate=1e-3, batch_size=16))
    >>> clf.set_params(solver__max_epochs=10).solver
    Minibatch(batch_size=16, learning_rate=0.001, max_epochs=10)
    """

    placement_parameters = ("shard_parameters",)

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
        shard_parameters: bool = False,
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
        self.shard_parameters = shard_parameters
        self.patience = patience
        self.tol = tol
        self.shuffle = shuffle
        self.rescale = rescale
        self.max_resident_bytes = max_resident_bytes

    @override
    def length_parameters(self) -> tuple[str, ...]:
        # Schedules depend on the number of epochs.
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
        for name in ("shuffle", "rescale", "shard_parameters"):
            check_flag(self, name, getattr(self, name))

    def plan(self, problem: Problem) -> Plan:
        """Determine the values that the parameters leave open.

        Parameters
        ----------
        problem : Problem
            The training task.

        Returns
        -------
        Plan
            Settings of the training loop.
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
            shard_parameters=bool(self.shard_parameters),
            max_epochs=self.max_steps(problem),
            batch_size=min(int(batch_size), problem.features.n_rows),
            shuffle=bool(self.shuffle),
            rescale=bool(self.rescale) and not images,
            patience=self.patience,
            tol=float(self.tol),
        )

    def _suitable_rate(self, problem: Problem) -> float:
        """The default step size of a head on features."""
        rate = default_learning_rate(
            self.optimizer, problem.features.n_features, problem.labels.n_labels, self.momentum
        )
        if not self.rescale:
            # Steps of Adam scale with the rate, those of gradient descent also with the features.
            scale = unit_scale(problem.features, problem.weights.of_rows)
            rate *= scale if self.optimizer != "sgd" else scale**2
        if _refines(problem):
            # Near the optimum, larger steps on minibatches would only move away from it.
            return 0.1 * rate
        # Linear heads rank best at smaller steps, in any units; other heads learn more slowly.
        linear = isinstance(problem.head, Linear) or members_of_linear(problem.head)
        return (_OF_LINEAR if linear and self.optimizer != "sgd" else 1) * rate

    def _warn_if_fast(self, problem: Problem) -> None:
        """Warn of a rate at which a step of Adam changes the logits of a linear head too much."""
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
            f"learning_rate={self.learning_rate:g} with {n_features} features moves logits by up to about {jump:.2g} "
            f"per step, too much to converge: learning_rate=None takes {self._suitable_rate(problem):.2g}."
        )
        if self.rescale:
            message += (
                " Rates refer to features scaled to a root mean square of 1. For published rates, which refer to"
                " features as passed, use Minibatch(rescale=False)."
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
        # The moments of the optimiser are not kept: `partial_fit` does not continue training side by side.
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
    """Step size for features with a root mean square of 1 at which training is fast but stable.

    A step of Adam moves every weight by about the rate, and so a logit of d features by up to rate x d. For gradient
    descent, the gradient is a mean over L labels, and momentum multiplies the steps by 1 / (1 - momentum).
    """
    if optimizer != "sgd":
        return 1 / max(n_features, 30)
    return 5 * (1 - momentum) * n_labels / max(n_features, 30)
