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
from skpartial.solvers._convex import ConvexSolver
from skpartial.solvers._features import StreamedFeatures
from skpartial.solvers._newton import LogisticProblem
from skpartial.solvers._problem import LabelSource, Problem, Solution
from skpartial.solvers._targets import FoldedTargets, prior_intercepts

__all__ = ["FullBatch"]


class FullBatch(Solver):
    r"""Solve all labels together by Newton's method, on features that stay in memory.

    Minimises, for every label j,

    .. math::

        F_j = \frac{L}{\sum_{ij} s_{ij}} \sum_i s_{ij} w_{ij} \ell(x_{ij}, t_{ij})
        + \frac{\alpha}{2} \lVert w_j \rVert^2

    by Newton's method, each label with its own step length and its own convergence. Labels with weight in few rows (not
    more than features, nor than 512) are solved by rows, one Cholesky factor a step, and count as one step in
    `history_`. The others advance together by truncated steps of conjugate gradients with a preconditioner that they
    share, in a basis of the rows where there are fewer rows than features, else with every column in a unit of its own.
    A loss whose targets depend on the logits, or a relabelling, is alternated with convex solves in rounds, each of
    which starts where the last one ended.

    Parameters
    ----------
    tol : float, default=1e-4
        A label has converged when its objective is estimated to lie within this relative gap of the optimum. One more
        step is taken from there. In float32 gaps below about 2e-6 cannot be told.
    max_iter : int, default=100
        Newton steps in a round, at most.
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
        self, tol: float = 1e-4, max_iter: int = 100, rounds: int = 5, max_resident_bytes: float | None = None
    ) -> None:
        self.tol = tol
        self.max_iter = max_iter
        self.rounds = rounds
        self.max_resident_bytes = max_resident_bytes

    def _rounds(self, problem: Problem) -> int:
        return self.rounds if problem.loss.traits().iterative or problem.relabeling is not None else 1

    def max_steps(self, problem: Problem) -> int:
        """Newton steps over all rounds, at most.

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
        for name, low in (("tol", 0.0), ("max_iter", 1), ("rounds", 1)):
            value = getattr(self, name)
            if not isinstance(value, int | float | np.number) or isinstance(value, bool) or not value >= low:
                raise ValueError(f"FullBatch: {name} must be a number of at least {low}, got {value!r}.")
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
        loss, labels = problem.loss, problem.labels
        features = problem.features
        solve_round = ConvexSolver(problem, tol=float(self.tol), max_iter=int(self.max_iter))
        assert isinstance(loss, PointwiseLoss)
        source = LabelSource(labels, problem.device)
        generator = torch.Generator().manual_seed(problem.seed)
        state = loss.init_state(source.all(), generator) if loss.state_spec() else None
        theta = torch.zeros(features.n_features + 1, labels.n_labels, dtype=problem.dtype, device=problem.device)
        warm = problem.start is not None
        if problem.start is not None:
            theta[:-1] = torch.as_tensor(problem.start["weight"], dtype=problem.dtype).T
            theta[-1] = torch.as_tensor(problem.start["bias"], dtype=problem.dtype)

        history: list[dict[str, Any]] = []
        best: tuple[float, Solution] | None = None
        unfitted = torch.zeros(labels.n_labels, dtype=torch.bool)
        unconverged, largest_gap, stopped = 0, 0.0, False
        n_rounds = self._rounds(problem)
        for epoch in range(1, n_rounds + 1):
            logits = features.matmul(theta[:-1]).add_(theta[-1]) if loss.traits().iterative or epoch > 1 else None
            if problem.relabeling is not None and epoch > 1:
                assert logits is not None
                labels = self._relabel(problem, labels, logits, generator, epoch)
                source = LabelSource(labels, problem.device)
            targets = FoldedTargets(problem, loss, source, logits=logits, state=state, epoch=epoch)
            convex = LogisticProblem(targets, labels.shape, problem.dtype, problem.device)
            scale = labels.n_labels / targets.total_weight
            unfitted, prior = prior_intercepts(convex.weight_mass, convex.present_mass)
            if epoch == 1 and not warm:
                theta[-1] = prior.to(problem.dtype)
            theta[:-1, unfitted] = 0
            theta[-1, unfitted] = prior[unfitted].to(problem.dtype)
            start = time.perf_counter()

            fitted = ~unfitted

            def report(
                objective: Tensor,
                gap: Tensor,
                weights: Callable[[], Tensor],
                epoch: int = epoch,
                start: float = start,
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
                stopped = problem.monitor(history[-1], lambda: _parameters(weights()))
                return stopped

            unconverged, largest_gap = solve_round(convex, theta, fitted.to(problem.device), scale=scale, report=report)
            loss.end_epoch(state, epoch)
            solution = Solution(
                _parameters(theta),
                state,
                labels,
                history,
                len(history),
                unfitted=unfitted.cpu().numpy().copy(),
            )
            if problem.validation is not None:
                held_out = problem.validation.features.matmul(theta[:-1]).add_(theta[-1])
                score = problem.validation.score(held_out.cpu().numpy())
                if history:
                    history[-1]["validation_score"] = score
                if best is None or score > best[0]:
                    kept = None if state is None else {name: tensor.clone() for name, tensor in state.items()}
                    best = (
                        score,
                        Solution(solution.parameters, kept, labels, history, 0, epoch, unfitted=solution.unfitted),
                    )
            if stopped:
                break
        if unconverged and not stopped:
            warnings.warn(
                f"{unconverged} of {labels.n_labels} labels did not converge in max_iter={self.max_iter} steps "
                f"(relative gap up to {largest_gap:.1e}, tol={self.tol:g}). Scale the features, increase "
                "alpha or max_iter.",
                ConvergenceWarning,
                stacklevel=4,
            )
        if best is not None:
            solution = best[1]
            solution.n_iter = len(history)
        return solution

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


def _parameters(theta: Tensor) -> dict[str, Any]:
    """Weights and intercepts as arrays of their own: the solver goes on writing to theta."""
    host = theta.detach().cpu().numpy()
    return {"weight": np.ascontiguousarray(host[:-1].T), "bias": host[-1].copy()}
