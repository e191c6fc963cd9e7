"""The full-batch solver: convex losses to the optimum, iterative losses in convex rounds."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from typing_extensions import override

from skpartial._checks import check_least
from skpartial._warnings import warn
from skpartial.features._matrix import StreamedFeatures
from skpartial.heads._ensemble import members_of_linear
from skpartial.heads._linear import Linear
from skpartial.losses import PointwiseLoss
from skpartial.solvers._base import Solver
from skpartial.solvers.convex._prepared import PreparedFeatures
from skpartial.solvers.convex._rounds import ConvexRounds, solve_rounds
from skpartial.solvers.convex._solve import Outcome
from skpartial.training._loop import Training, train_together
from skpartial.training._problem import Problem, Solution

__all__ = ["WORKING_BYTES", "FullBatch"]

# Larger gaps are not due to rounding: without a penalty, a label whose classes are separable has no optimum.
_MAX_ROUNDING_GAP = 1e-2
# Maximal working memory of problems solved together; larger problems gain nothing from shared products.
_PROBLEM_BYTES = 1 << 26
#: Maximal working memory of the labels solved together. It is fixed, so that results do not depend on the machine.
WORKING_BYTES = 4 << 30


class FullBatch(Solver):
    r"""Solve all labels together, with Newton's method on the whole training set.

    For each label j, it minimises

    .. math::

        F_j = \frac{L}{\sum_{ij} s_{ij}} \sum_i s_{ij} w_{ij} \ell(x_{ij}, t_{ij})
        + \frac{\alpha}{2} \lVert w_j \rVert^2

    Inside, columns are centred, and columns much longer than most are scaled down, which changes no solution. Newton
    steps are taken for all labels at once, with a step length and a convergence test per label, so that most of the
    work is matrix products with the features. The steps are computed in one of three ways:

    - up to 64 features, by Cholesky factorisation of the Hessians, to the precision of float64;
    - for labels known in few rows, by Cholesky factorisation in the dual, of matrices of these rows;
    - else by conjugate gradients, preconditioned by a randomised Nystrom sketch of the features that all labels share.
      Labels known in less than a sixteenth of the rows use a copy of only these rows.

    Labels whose arrays would take more than 4 GiB are solved in consecutive blocks. If the processor multiplies
    bfloat16 more than twice as fast as float32, products with the Hessians of large float32 features use a bfloat16
    copy (half the size of X), at the cost of an occasional additional step. Logits and gradients always have full
    precision.

    With squared error in place of cross-entropy (``surrogate="squared"`` of a loss) there is a closed form: one
    factorisation per set of labels with the same row weights, if it takes no longer than conjugate gradients. Logits
    are then recalibrated with a positive factor per label, fitted to leave-one-out scores of the training rows; the
    coefficients are the optimum times this factor.

    A loss whose targets depend on the logits, or a relabelling, alternates with convex solves in rounds, each starting
    from the last solution. Other losses, nonlinear heads, regularisers and fine-tuned networks are not supported.

    Parameters
    ----------
    tol : float, default=1e-5
        Estimated relative gap between objective and optimum at which a label has converged. In float32, gaps below
        about 2e-6 cannot be resolved. With conjugate gradients the preconditioner predicts the gap from the gradient,
        corrected by the ratio of actual to predicted decrease in earlier steps: a close estimate, not a bound.
    max_iter : int, default=100
        Maximal number of Newton steps per round; labels solved on their own rows are counted group by group. Ordinary
        data take 3 to 20 steps, columns with scales six decades apart up to 50, and labels with separable classes up to
        70 at a penalty of 1e-12. Without a penalty such labels have no optimum, and take all steps.
    rounds : int, default=5
        Number of convex rounds for iterative losses and relabellings; convex losses take one.
    max_resident_bytes : float or None, default=None
        Larger features are passed to the device in chunks; None means the free memory of the device.

    Examples
    --------
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.solvers import FullBatch
    >>> PartialLabelClassifier(solver=FullBatch(tol=1e-6)).get_params()["solver__tol"]
    1e-06
    """

    def __init__(
        self, tol: float = 1e-5, max_iter: int = 100, rounds: int = 5, max_resident_bytes: float | None = None
    ) -> None:
        self.tol = tol
        self.max_iter = max_iter
        self.rounds = rounds
        self.max_resident_bytes = max_resident_bytes

    @staticmethod
    def _depends_on_logits(problem: Problem) -> bool:
        """Whether targets depend on the logits, and therefore change between rounds."""
        relabeling = problem.relabeling
        relabels = relabeling is not None and not relabeling.settled_on_features
        return relabels or problem.loss.traits().iterative

    def _rounds(self, problem: Problem) -> int:
        return self.rounds if self._depends_on_logits(problem) else 1

    @override
    def length_parameters(self) -> tuple[str, ...]:
        return ("rounds",)

    @override
    def max_steps(self, problem: Problem) -> int:
        return self.max_iter * self._rounds(problem)

    @override
    def check(self, problem: Problem) -> None:
        check_least(self, tol=0.0, max_iter=1, rounds=1, max_resident_bytes=0.0)
        reason = self.refusal(problem)
        if reason is not None:
            raise ValueError(f"solver=FullBatch() cannot train this estimator: {reason}. Use solver=Minibatch().")

    def refusal(self, problem: Problem) -> str | None:
        """Why this solver cannot solve a problem.

        Parameters
        ----------
        problem : Problem
            The training task.

        Returns
        -------
        str or None
            The part that needs another solver; None if this one can solve the problem.
        """
        if problem.network is not None:
            return "its backbone is fine-tuned"
        loss, traits = problem.loss, problem.loss.traits()
        if not isinstance(loss, PointwiseLoss) or not (traits.convex or traits.iterative):
            return f"the loss {loss!r} is neither convex nor a sequence of convex problems"
        if any(spec.learned for spec in loss.state_spec().values()):
            return f"the loss {loss!r} has learned parameters"
        if members_of_linear(problem.head) is None:
            dropped = isinstance(problem.head, Linear)
            return f"the head {problem.head!r} {'drops features at random' if dropped else 'is not linear'}"
        if problem.regularizer is not None:
            return f"the regularizer {problem.regularizer!r} is computed from minibatches"
        return None

    def _labels_at_once(self, problem: Problem) -> int:
        """Number of labels solved together; all if targets depend on the logits, as they may depend on whole rows."""
        n_labels = problem.labels.n_labels
        if self._depends_on_logits(problem):
            return n_labels
        return min(n_labels, max(1, WORKING_BYTES // self._bytes_of_labels(problem, 1)))

    @staticmethod
    def _bytes_of_labels(problem: Problem, n_labels: int) -> int:
        """Size of about six arrays with an entry per row, label and member of an ensemble."""
        features = problem.features
        return 6 * features.n_rows * n_labels * problem.head.n_members * features.dtype.itemsize

    def working_bytes(self, problem: Problem) -> int:
        """Memory for a fit besides the features; for streamed features, also the bytes that each step reads.

        Parameters
        ----------
        problem : Problem
            The training task.

        Returns
        -------
        int
            Bytes for the labels solved together, plus the size of the features if they are streamed.
        """
        features = problem.features
        streamed = features.n_features if isinstance(features, StreamedFeatures) else 0
        labels = self._bytes_of_labels(problem, self._labels_at_once(problem))
        return labels + features.n_rows * streamed * features.dtype.itemsize

    @override
    def solve(self, problem: Problem) -> Solution:
        return self.solve_together([(self, problem)])[0]

    @override
    def group(self, problem: Problem) -> Hashable | None:
        if problem.checkpoint is not None:
            return None
        surrogate = problem.loss.surrogate if isinstance(problem.loss, PointwiseLoss) else None
        numbers = float(self.tol), int(self.max_iter), self._rounds(problem), problem.first_epoch
        return *numbers, problem.labels.shape, problem.head.n_members, surrogate

    @classmethod
    @override
    def solve_together(cls, tasks: Sequence[tuple[Solver, Problem]]) -> list[Solution]:
        prepared = PreparedFeatures(tasks[0][1].features, tasks[0][1].processes)
        # From strong to weak penalties: each block starts from the last optimum for the same loss.
        order = sorted(range(len(tasks)), key=lambda i: -tasks[i][1].alpha)
        solved: list[Solution] = []
        last: dict[str, dict[str, NDArray[Any]]] = {}
        while len(solved) < len(tasks):
            solver, problem = tasks[order[len(solved)]]
            assert isinstance(solver, FullBatch)
            size = max(1, int(_PROBLEM_BYTES // solver.working_bytes(problem)))
            problems = [tasks[i][1] for i in order[len(solved) : len(solved) + size]]
            # If targets depend on the logits, the solution depends on the start, which must not change.
            starts = [None if solver._depends_on_logits(each) else last.get(repr(each.loss)) for each in problems]
            started = [replace(each, start=each.start or start) for each, start in zip(problems, starts)]
            solutions = solver._solve_block(started, prepared)
            last.update((repr(each.loss), solution.parameters) for each, solution in zip(problems, solutions))
            solved += solutions
        return [solved[order.index(i)] for i in range(len(tasks))]

    def _solve_block(self, problems: Sequence[Problem], prepared: PreparedFeatures) -> list[Solution]:
        """Solve problems that are small enough to share their products."""
        for problem in problems:
            self.check(problem)
        at_once = self._labels_at_once(problems[0])
        learners = [
            ConvexRounds(problem, float(self.tol), int(self.max_iter), prepared, at_once) for problem in problems
        ]
        n_rounds = self._rounds(problems[0])
        trainings = [Training(problem, learner, n_rounds) for problem, learner in zip(problems, learners)]

        def run(active: Sequence[Training], epoch: int) -> list[None]:
            chosen = [learner for learner, training in zip(learners, trainings) if training in active]
            solve_rounds(chosen, epoch, [training.log.report for training in active])
            return [None] * len(active)

        solutions = train_together(trainings, run)
        for problem, learner, solution in zip(problems, learners, solutions):
            if not solution.stopped and learner.outcome is not None:
                self._warn_unconverged(learner.outcome, problem)
        return solutions

    def _warn_unconverged(self, outcome: Outcome, problem: Problem) -> None:
        n_unconverged, n_imprecise = int(outcome.unconverged.sum()), int(outcome.imprecise.sum())
        if not n_unconverged:
            return
        gap = float(outcome.gap[outcome.unconverged].max())
        total = len(outcome.gap)
        dtype = str(problem.dtype).removeprefix("torch.")
        if n_imprecise == n_unconverged and (problem.alpha > 0 or gap < _MAX_ROUNDING_GAP):
            advice = ", or pass them in float64" if problem.dtype.itemsize < 8 else ", or increase alpha"
            message = (
                f"{n_unconverged} of {total} labels are as close to their optimum as {dtype} allows (relative gap up "
                f"to about {gap:.1e}, tol={self.tol:g}). Standardise the features{advice}."
            )
        else:
            message = (
                f"{n_unconverged} of {total} labels did not converge in max_iter={self.max_iter} steps (relative gap "
                f"up to about {gap:.1e}, tol={self.tol:g}). Increase alpha or max_iter."
            )
        warn(message, ConvergenceWarning)
