"""The full-batch solver: convex losses to the optimum, iterative ones in convex rounds."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from skpartial.heads._linear import Linear
from skpartial.labels import LabelMatrix
from skpartial.losses import PointwiseLoss
from skpartial.relabeling import RelabelingContext, apply_relabeling
from skpartial.solvers._base import Solver
from skpartial.solvers._convex import Outcome, solve_round
from skpartial.solvers._features import Features, StreamedFeatures
from skpartial.solvers._logistic import LogisticProblem
from skpartial.solvers._problem import LabelSource, Problem, Solution, start_state
from skpartial.solvers._targets import FoldedTargets

__all__ = ["FullBatch"]


class FullBatch(Solver):
    r"""Solve all labels together, on features that stay in memory.

    Minimises, for every label j,

    .. math::

        F_j = \frac{L}{\sum_{ij} s_{ij}} \sum_i s_{ij} w_{ij} \ell(x_{ij}, t_{ij})
        + \frac{\alpha}{2} \lVert w_j \rVert^2

    with columns standardised inside, which changes no solution. All labels advance together, each with its own step
    length and its own convergence, so that the work is products of the features with one block. Directions are those of
    L-BFGS, started in every step from a sketch of the features that the labels share, weighted by each label's
    curvature. Up to 64 features they are Newton's, in float64 and to the limit of it; Newton's they also are for labels
    that weigh in few rows, in a basis of these.

    A loss whose targets depend on the logits, or a relabelling, is alternated with convex solves in rounds, each of
    which starts where the last one ended.

    Parameters
    ----------
    tol : float, default=1e-5
        A label has converged when its objective is estimated to lie within this relative gap of the optimum. In float32
        gaps below about 2e-6 cannot be told.
    max_iter : int, default=500
        Steps in a round, at most.
    rounds : int, default=5
        Convex rounds of iterative losses and relabellings; convex losses take one.
    max_resident_bytes : float or None, default=None
        Features larger than this pass through the device in chunks; None takes what the device has free.

    Examples
    --------
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.solvers import FullBatch
    >>> PartialLabelClassifier(solver=FullBatch(tol=1e-6)).get_params()["solver__tol"]
    1e-06
    """

    def __init__(
        self, tol: float = 1e-5, max_iter: int = 500, rounds: int = 5, max_resident_bytes: float | None = None
    ) -> None:
        self.tol = tol
        self.max_iter = max_iter
        self.rounds = rounds
        self.max_resident_bytes = max_resident_bytes

    def _rounds(self, problem: Problem) -> int:
        return self.rounds if problem.loss.traits().iterative or problem.relabeling is not None else 1

    def max_steps(self, problem: Problem) -> int:
        """Steps over all rounds, at most.

        Parameters
        ----------
        problem : Problem
            The training task.

        Returns
        -------
        int
            `max_iter` times the number of rounds.
        """
        return self.max_iter * self._rounds(problem)

    def check(self, problem: Problem) -> None:
        """Refuse what is neither convex nor a sequence of convex problems.

        Parameters
        ----------
        problem : Problem
            The training task.

        Raises
        ------
        ValueError
            If the loss, the head or a regulariser needs minibatches, or a parameter is out of range.
        """
        self._check_numbers(tol=0.0, max_iter=1, rounds=1, max_resident_bytes=0.0)
        reason = self.refusal(problem)
        if reason is not None:
            raise ValueError(f"solver=FullBatch() cannot train this estimator: {reason}. Use solver=Minibatch().")

    def refusal(self, problem: Problem) -> str | None:
        """Why this solver cannot serve a problem.

        Parameters
        ----------
        problem : Problem
            The training task.

        Returns
        -------
        str or None
            The part that needs minibatches; None if it can.
        """
        loss, traits = problem.loss, problem.loss.traits()
        if not isinstance(loss, PointwiseLoss) or not (traits.convex or traits.iterative):
            return f"the loss {loss!r} is neither convex nor a sequence of convex problems"
        if any(spec.learned for spec in loss.state_spec().values()):
            return f"the loss {loss!r} learns a state of its own"
        if not isinstance(problem.head, Linear):
            return f"the head {problem.head!r} is not linear"
        if problem.regularizer is not None:
            return f"the regularizer {problem.regularizer!r} is a term of the batch"
        return None

    def working_bytes(self, problem: Problem) -> int:
        """Memory that a fit takes beside the features, and what it reads again in every step if they are streamed.

        Parameters
        ----------
        problem : Problem
            The training task.

        Returns
        -------
        int
            Bytes: about six arrays of the size of the labels, and the features if they are not resident.
        """
        features = problem.features
        streamed = features.n_features if isinstance(features, StreamedFeatures) else 0
        return features.n_rows * (6 * problem.labels.n_labels + streamed) * features.dtype.itemsize

    def solve(self, problem: Problem) -> Solution:
        """Train.

        Parameters
        ----------
        problem : Problem
            The training task.

        Returns
        -------
        Solution
            Parameters, state and history.

        Warns
        -----
        ConvergenceWarning
            If labels did not converge within `max_iter` steps.
        """
        self.check(problem)
        loss, labels, features = problem.loss, problem.labels, problem.features
        assert isinstance(loss, PointwiseLoss)
        source = LabelSource(labels, problem.device)
        generator = torch.Generator().manual_seed(problem.seed)
        state = start_state(problem)
        theta = torch.zeros(labels.n_labels, features.n_features + 1, dtype=problem.dtype, device=problem.device)
        if problem.start is not None:
            theta[:, :-1] = torch.as_tensor(problem.start["weight"], dtype=problem.dtype)
            theta[:, -1] = torch.as_tensor(problem.start["bias"], dtype=problem.dtype)

        history: list[dict[str, Any]] = []
        best: tuple[float, Solution] | None = None
        start = time.perf_counter()
        stopped = False
        for epoch in range(1, self._rounds(problem) + 1):
            relabels = problem.relabeling is not None and epoch > 1
            logits = None
            if loss.traits().iterative or relabels:
                logits = _predict(features, theta)
            if relabels:
                assert logits is not None
                labels = self._relabel(problem, labels, logits, generator, epoch)
                source = LabelSource(labels, problem.device)
            targets = FoldedTargets(problem, loss, source, logits=logits, state=state, epoch=epoch)
            convex = LogisticProblem(targets, problem.dtype, problem.device)
            del logits
            prior = convex.prior.to(problem.dtype)
            if epoch == 1 and problem.start is None:
                theta[:, -1] = prior
            theta[convex.unfitted] = torch.cat([torch.zeros_like(theta[:, :-1]), prior[:, None]], 1)[convex.unfitted]
            fitted = ~convex.unfitted

            def report(
                objective: Tensor,
                gap: Tensor,
                current: Callable[[], Tensor],
                epoch: int = epoch,
                fitted: Tensor = fitted,
            ) -> bool:
                nonlocal stopped
                history.append(
                    {
                        "epoch": epoch,
                        "iteration": len(history) + 1,
                        "objective": float(objective[fitted].mean()),
                        "relative_gap": float(gap.max()),
                        "seconds": time.perf_counter() - start,
                    }
                )
                stopped = problem.monitor(history[-1], lambda: _parameters(current()))
                return stopped

            outcome = solve_round(
                features,
                convex,
                theta,
                alpha=problem.alpha,
                tol=float(self.tol),
                max_iter=int(self.max_iter),
                report=report,
            )
            theta = outcome.theta
            loss.end_epoch(state, epoch)
            unfitted = convex.unfitted.cpu().numpy().copy()
            solution = Solution(_parameters(theta), state, labels, history, len(history), unfitted=unfitted)
            if problem.validation is not None:
                score = problem.validation.score(_predict(problem.validation.features, theta).cpu().numpy())
                if history:
                    history[-1]["validation_score"] = score
                if best is None or score > best[0]:
                    kept = None if state is None else {name: tensor.clone() for name, tensor in state.items()}
                    best = score, Solution(solution.parameters, kept, labels, history, 0, epoch, unfitted=unfitted)
            if stopped:
                break
        if not stopped:
            self._warn_unconverged(outcome, problem)
        if best is not None:
            solution = best[1]
            solution.n_iter = len(history)
        return solution

    def _warn_unconverged(self, outcome: Outcome, problem: Problem) -> None:
        few, wrong = int(outcome.unconverged.sum()), int(outcome.imprecise.sum())
        if not few:
            return
        gap = float(outcome.gap[outcome.unconverged].max())
        total = len(outcome.gap)
        dtype = str(problem.dtype).removeprefix("torch.")
        if wrong == few:
            message = (
                f"{few} of {total} labels are as close to their optimum as {dtype} allows (relative gap up to "
                f"{gap:.1e}, tol={self.tol:g}). Standardise the features, or pass them in float64."
            )
        else:
            message = (
                f"{few} of {total} labels did not converge in max_iter={self.max_iter} steps (relative gap up to "
                f"{gap:.1e}, tol={self.tol:g}). Increase alpha or max_iter."
            )
        warnings.warn(message, ConvergenceWarning, stacklevel=5)

    @staticmethod
    def _relabel(
        problem: Problem, labels: LabelMatrix, logits: Tensor, generator: torch.Generator, epoch: int
    ) -> LabelMatrix:
        assert problem.relabeling is not None
        context = RelabelingContext(
            epoch=epoch,
            given=problem.labels,
            current=labels,
            logits=lambda rows: logits if rows is None else logits[rows],
            features=problem.features.batch,
            generator=generator,
        )
        return apply_relabeling(problem.relabeling, context)


def _predict(features: Features, theta: Tensor) -> Tensor:
    """Logits of shape (n, L)."""
    return features.forward(theta[:, :-1]).add_(theta[:, -1:]).T.contiguous()


def _parameters(theta: Tensor) -> dict[str, Any]:
    """Weights and intercepts as arrays of their own."""
    host = theta.detach().cpu().numpy()
    return {"weight": np.ascontiguousarray(host[:, :-1]), "bias": host[:, -1].copy()}
