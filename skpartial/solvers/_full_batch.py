"""The full-batch solver: convex losses to the optimum, iterative ones in convex rounds."""

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

# A gap of this size is none of rounding: without a penalty, labels that separate the rows have no optimum.
_NO_OPTIMUM = 1e-2
# Working memory of problems that are solved together: beyond this their products gain nothing from each other.
_TOGETHER_BYTES = 1 << 26
#: Working memory of the labels that are solved together; the others wait for their turn. A fixed number, so that
#: results do not depend on the machine.
WORKING_BYTES = 4 << 30


class FullBatch(Solver):
    r"""Solve all labels together, on features that stay in memory.

    Minimises, for every label j,

    .. math::

        F_j = \frac{L}{\sum_{ij} s_{ij}} \sum_i s_{ij} w_{ij} \ell(x_{ij}, t_{ij})
        + \frac{\alpha}{2} \lVert w_j \rVert^2

    with columns centred, and those that are much longer than most made shorter, inside, which changes no solution.
    Every step is Newton's, for all labels at once, each with its own step length and its own convergence, so that the
    work is products of the features with one block. There are three ways to find the steps:

    - up to 64 features, Cholesky factors of the Hessians, in float64 and to the limit of it;
    - for labels known in few rows, Cholesky factors in the dual, of matrices of these rows;
    - else conjugate gradients, preconditioned by a randomised Nystrom sketch of the features that the labels share.
      Labels known in less than a sixteenth of the rows are solved by these rows, gathered.

    Labels whose arrays would take more than 4 GiB are solved in blocks, one after the other. Logits and gradients are
    always computed in full. Where a processor multiplies bfloat16 more than twice as fast as
    float32, products with the Hessians of large float32 features are made with a copy in that type (half the size of
    X): that they are inexact costs nothing but a step now and then.

    With squared error in place of cross-entropy (``surrogate="squared"`` of a loss) there is a closed form: one factor
    for all labels whose rows weigh the same, and one for each other label, where that takes no longer than conjugate
    gradients. Logits are then recalibrated, by a positive number for each label, on what the training rows would be
    given by fits without them: coefficients are those of the optimum times that number.

    A loss whose targets depend on the logits, or a relabelling, is alternated with convex solves in rounds, each of
    which starts where the last one ended. Losses of another kind, other heads than the linear one, regularisers and
    networks are refused.

    Parameters
    ----------
    tol : float, default=1e-5
        A label has converged when its objective is estimated to lie within this relative gap of the optimum. In float32
        gaps below about 2e-6 cannot be told. With conjugate gradients the estimate is what the preconditioner promises
        by the gradient, times as much as steps have brought more than was promised: close but not a proof.
    max_iter : int, default=100
        Newton steps at most: of a round, or in a round of each group of labels that are solved by their own rows.
        Ordinary data take 3 to 20, columns whose units lie six decades apart up to 50, and labels that separate the
        rows up to 70 at a penalty of 1e-12; without a penalty such labels have no optimum, and take all.
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
        self, tol: float = 1e-5, max_iter: int = 100, rounds: int = 5, max_resident_bytes: float | None = None
    ) -> None:
        self.tol = tol
        self.max_iter = max_iter
        self.rounds = rounds
        self.max_resident_bytes = max_resident_bytes

    @staticmethod
    def _looks_at_logits(problem: Problem) -> bool:
        relabeling = problem.relabeling
        looks = relabeling is not None and not relabeling.settled_on_features
        return looks or problem.loss.traits().iterative

    def _rounds(self, problem: Problem) -> int:
        return self.rounds if self._looks_at_logits(problem) else 1

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
        if problem.network is not None:
            return "its backbone is fine-tuned"
        loss, traits = problem.loss, problem.loss.traits()
        if not isinstance(loss, PointwiseLoss) or not (traits.convex or traits.iterative):
            return f"the loss {loss!r} is neither convex nor a sequence of convex problems"
        if any(spec.learned for spec in loss.state_spec().values()):
            return f"the loss {loss!r} learns a state of its own"
        if members_of_linear(problem.head) is None:
            dropped = isinstance(problem.head, Linear)
            return f"the head {problem.head!r} {'drops features at random' if dropped else 'is not linear'}"
        if problem.regularizer is not None:
            return f"the regularizer {problem.regularizer!r} is a term of the batch"
        return None

    def _labels_at_once(self, problem: Problem) -> int:
        """How many labels are solved together; all if the loss or a relabelling looks at logits of whole rows."""
        n_labels = problem.labels.n_labels
        if self._looks_at_logits(problem):
            return n_labels
        return min(n_labels, max(1, WORKING_BYTES // self._bytes_of_labels(problem, 1)))

    @staticmethod
    def _bytes_of_labels(problem: Problem, n_labels: int) -> int:
        """About six arrays with an entry for each row, label and member of an ensemble."""
        features = problem.features
        return 6 * features.n_rows * n_labels * problem.head.n_members * features.dtype.itemsize

    def working_bytes(self, problem: Problem) -> int:
        """Memory that a fit takes beside the features, and what it reads again in every step if they are streamed.

        Parameters
        ----------
        problem : Problem
            The training task.

        Returns
        -------
        int
            Bytes: of the labels that are solved together, and of the features if they are not resident.
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
        # From strong penalties to weak ones, so that a block begins where the same loss found its last optimum.
        order = sorted(range(len(tasks)), key=lambda i: -tasks[i][1].alpha)
        found: list[Solution] = []
        last: dict[str, dict[str, NDArray[Any]]] = {}
        while len(found) < len(tasks):
            solver, problem = tasks[order[len(found)]]
            assert isinstance(solver, FullBatch)
            size = max(1, int(_TOGETHER_BYTES // solver.working_bytes(problem)))
            problems = [tasks[i][1] for i in order[len(found) : len(found) + size]]
            # Where rounds look at the logits, it matters from where they start.
            near = [None if solver._looks_at_logits(each) else last.get(repr(each.loss)) for each in problems]
            started = [replace(each, start=each.start or start) for each, start in zip(problems, near)]
            solutions = solver._solve_block(started, prepared)
            last.update((repr(each.loss), solution.parameters) for each, solution in zip(problems, solutions))
            found += solutions
        return [found[order.index(i)] for i in range(len(tasks))]

    def _solve_block(self, problems: Sequence[Problem], prepared: PreparedFeatures) -> list[Solution]:
        """Train on problems that are small enough to be worked on together."""
        for problem in problems:
            self.check(problem)
        at_once = self._labels_at_once(problems[0])
        learners = [
            ConvexRounds(problem, float(self.tol), int(self.max_iter), prepared, at_once) for problem in problems
        ]
        n_rounds = self._rounds(problems[0])
        trainings = [Training(problem, learner, n_rounds) for problem, learner in zip(problems, learners)]

        def run(going: Sequence[Training], epoch: int) -> list[None]:
            chosen = [learner for learner, training in zip(learners, trainings) if training in going]
            solve_rounds(chosen, epoch, [training.log.report for training in going])
            return [None] * len(going)

        solutions = train_together(trainings, run)
        for problem, learner, solution in zip(problems, learners, solutions):
            if not solution.stopped and learner.outcome is not None:
                self._warn_unconverged(learner.outcome, problem)
        return solutions

    def _warn_unconverged(self, outcome: Outcome, problem: Problem) -> None:
        few, wrong = int(outcome.unconverged.sum()), int(outcome.imprecise.sum())
        if not few:
            return
        gap = float(outcome.gap[outcome.unconverged].max())
        total = len(outcome.gap)
        dtype = str(problem.dtype).removeprefix("torch.")
        if wrong == few and (problem.alpha > 0 or gap < _NO_OPTIMUM):
            advice = ", or pass them in float64" if problem.dtype.itemsize < 8 else ", or increase alpha"
            message = (
                f"{few} of {total} labels are as close to their optimum as {dtype} allows (relative gap up to about "
                f"{gap:.1e}, tol={self.tol:g}). Standardise the features{advice}."
            )
        else:
            message = (
                f"{few} of {total} labels did not converge in max_iter={self.max_iter} steps (relative gap up to about "
                f"{gap:.1e}, tol={self.tol:g}). Increase alpha or max_iter."
            )
        warn(message, ConvergenceWarning)
