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
    r"""Solve all labels together by Newton's method.

    The objective for label j is

    .. math::

        F_j = \frac{L}{\sum_{ij} s_{ij}} \sum_i s_{ij} w_{ij} \ell(x_{ij}, t_{ij})
        + \frac{\alpha}{2} \lVert w_j \rVert^2

    with logits x, targets t and weights w of the loss, sample weights s and coefficients :math:`w_j`. Every Newton step
    is computed for all labels at once, so that X is multiplied by matrices and not by vectors; each label has its own
    step length and stops when it has converged. Steps are found in one of three ways:

    - for up to 64 features, by Cholesky factors of the Hessians, in float64;
    - for labels known in few rows, by Cholesky factors in the dual, with matrices of the size of these rows;
    - else by conjugate gradients, preconditioned by a randomised Nystrom sketch of the features that all labels share.
      Labels known in less than a sixteenth of the rows are solved on a copy of these rows.

    Internally, the columns of X are centred, and columns much longer than most are shortened; the solution does not
    change. Labels whose arrays would take more than 4 GiB are solved in blocks, one after the other. If the processor
    multiplies bfloat16 more than twice as fast as float32, products of large float32 features with the Hessians use a
    bfloat16 copy of X. Logits and gradients are always computed at full precision, so this does not change the
    optimum, but may take a few more steps.

    For the squared error (``surrogate="squared"`` of a loss) there is a closed form: one Cholesky factor for all labels
    with the same weights of rows, and one for each other label, unless conjugate gradients are faster. Then the
    coefficients of each label are multiplied by a positive number, which calibrates leave-one-out logits of the
    training rows.

    If the targets of the loss depend on the logits, or with a relabelling, targets and convex problems are updated in
    turn, in several rounds; each round starts where the last one ended. Other losses, nonlinear heads, regularisers and
    networks raise an error.

    Parameters
    ----------
    tol : float, default=1e-5
        A label has converged when the estimated relative gap between its objective and the optimum is below this. In
        float32, gaps below about 2e-6 cannot be measured. With conjugate gradients, the gap is estimated from the
        preconditioned gradient, corrected by how far earlier steps exceeded such estimates; it is not a bound. Labels
        with up to 64 features are solved to the precision of float64, whatever `tol`.
    max_iter : int, default=100
        Maximal number of Newton steps per round, also for each group of labels that are solved on their own rows.
        Typical data take 3 to 20 steps, columns whose scales differ by a factor of a million up to 50, and labels that
        can be separated up to 70 at a penalty of 1e-12. Without a penalty, such labels have no optimum and take all
        steps.
    rounds : int, default=5
        Number of rounds for iterative losses and relabellings; convex losses take one.
    max_resident_bytes : float or None, default=None
        Features larger than this are transferred to the device in chunks; None means the free memory of the device.

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
        """Reason why this solver cannot solve a problem.

        Parameters
        ----------
        problem : Problem
            The training task.

        Returns
        -------
        str or None
            The part that needs minibatches, or None if the solver can solve the problem.
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
        """Memory that a fit needs in addition to resident features, plus the size of streamed features.

        Parameters
        ----------
        problem : Problem
            The training task.

        Returns
        -------
        int
            Bytes for the labels that are solved together, and of the features that every step reads again.
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
