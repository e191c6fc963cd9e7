r"""The convex problems of a round: one logistic regression a label, on features that all share.

For every label j, with the targets and weights of the loss folded into :math:`a = w t` and :math:`s = w`,

.. math::

    F_j(w, b) = \sum_i \left[ s_{ij} \operatorname{softplus}(x_{ij}) - a_{ij} x_{ij} \right]
    + \frac{\alpha}{2} \lVert w \rVert^2, \quad x_{ij} = f_i \cdot w + b

Arrays have a row a label, so that the sums over the training rows run along memory.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from skpartial.solvers._targets import FoldedTargets, prior_intercepts, total_weight

__all__ = ["LogisticProblem", "Point"]

# Entries of an element-wise pass at a time: its temporaries then stay in the processor's cache.
_BLOCK_ENTRIES = {"cpu": 1 << 16, "cuda": 1 << 26}
_MAX_LINE_SEARCH = 30


class LogisticProblem:
    """Weights and targets of all entries, as the rule of the loss gave them for this round.

    Parameters
    ----------
    targets : FoldedTargets
        The rule, asked once.
    alpha : float
        L2 penalty of a label's weights.
    dtype, device
        In which type and where s and a are kept.

    Attributes
    ----------
    s, a : Tensor of shape (L, n)
        Scaled so that the objective of a label is as above.
    alpha : Tensor of float64, shape (L,)
        L2 penalties.
    unfitted : Tensor of bool, shape (L,)
        Labels that hold one sign only, or nothing.
    prior : Tensor of float64, shape (L,)
        The intercept that every label starts from.
    """

    def __init__(self, targets: FoldedTargets, alpha: float, dtype: torch.dtype, device: torch.device) -> None:
        n_rows, n_labels = targets.source.matrix.shape
        self.alpha = torch.full((n_labels,), alpha, dtype=torch.float64, device=device)
        scale = n_labels / total_weight(targets.problem.weights, targets.source)
        self.s, self.a = torch.empty(2, n_labels, n_rows, dtype=dtype, device=device)
        for part, s, a in targets.blocks():
            torch.mul(s.T, scale, out=self.s[:, part])
            torch.mul(a.T, scale, out=self.a[:, part])
        masses = (x.sum(1, dtype=torch.float64) / scale for x in (self.s, self.a))
        self.unfitted, self.prior = prior_intercepts(*masses)

    @property
    def row_weight(self) -> Tensor:
        """What each row counts for in a typical label, shape (n,)."""
        return self.s.mean(0)

    @classmethod
    def join(cls, problems: Sequence[LogisticProblem]) -> LogisticProblem:
        """Problems on the same rows as one, label after label."""
        if len(problems) == 1:
            return problems[0]
        joined = copy.copy(problems[0])
        for name in ("s", "a", "alpha", "unfitted", "prior"):
            setattr(joined, name, torch.cat([getattr(problem, name) for problem in problems]))
        return joined

    def take(self, labels: Tensor, dtype: torch.dtype | None = None) -> LogisticProblem:
        """The same problem for some of its labels, given as rising indices."""
        part = copy.copy(self)
        part.alpha = self.alpha[labels]
        everything = len(labels) == len(self.s)
        part.s, part.a = ((x if everything else x[labels]).to(dtype or x.dtype) for x in (self.s, self.a))
        return part

    def take_rows(self, rows: Tensor) -> LogisticProblem:
        """The same problem without rows that weigh nothing, given the indices of the others."""
        part = copy.copy(self)
        part.s, part.a = self.s[:, rows], self.a[:, rows]
        return part

    def take_own_rows(self, labels: Tensor, rows: Tensor) -> LogisticProblem:
        """The problem of labels (k,), each on the rows (k, m) of its own."""
        part = copy.copy(self)
        part.alpha = self.alpha[labels]
        part.s, part.a = (x[labels].gather(1, rows) for x in (self.s, self.a))
        return part

    def blocks(self) -> Iterator[slice]:
        """Slices of labels whose entries are about as many."""
        n_labels, n_rows = self.s.shape
        step = max(1, _BLOCK_ENTRIES.get(self.s.device.type, 1 << 20) // n_rows)
        for start in range(0, n_labels, step):
            yield slice(start, min(start + step, n_labels))

    def data_term(self, part: slice, logits: Tensor) -> Tensor:
        """Data terms of a slice of labels in float64, shape (k,), at their logits (k, n)."""
        return (self.s[part] * F.softplus(logits) - self.a[part] * logits).sum(1, dtype=torch.float64)


class Point:
    """Where the labels stand: parameters, logits, and what follows from them.

    Parameters
    ----------
    problem : LogisticProblem
        The data term.
    theta : Tensor of shape (L, d + 1)
        Weights, and intercepts in the last column.
    logits : Tensor of shape (L, n)
        Of these weights; both are owned by the point from now on.
    penalty : Tensor of shape (d + 1,)
        What alpha is multiplied by for each weight, the square of its unit; 0 for the intercept.

    Attributes
    ----------
    residual : Tensor of shape (L, n)
        Derivative of the objective in each logit.
    curvature : Tensor of float64, shape (L,)
        Sum of the second derivatives over the rows.
    value : Tensor of float64, shape (L,)
        Objective.
    """

    def __init__(self, problem: LogisticProblem, theta: Tensor, logits: Tensor, penalty: Tensor) -> None:
        self.problem, self.theta, self.penalty = problem, theta, penalty
        self.residual = torch.empty_like(logits)
        self.value = torch.empty(len(theta), dtype=torch.float64, device=theta.device)
        self.curvature = torch.empty_like(self.value)
        self.move_to(logits)

    def move_to(self, logits: Tensor) -> None:
        """Take other logits for those of the parameters."""
        self.logits = logits
        for part in self.problem.blocks():
            self._refresh(part, torch.sigmoid(logits[part]))

    def _refresh(self, part: slice, p: Tensor) -> None:
        x, sp = self.logits[part], self.problem.s[part] * p
        torch.sub(sp, self.problem.a[part], out=self.residual[part])
        self.curvature[part] = (sp - sp * p).sum(1, dtype=torch.float64)
        self.value[part] = self.problem.data_term(part, x)
        self.value[part] += (
            0.5 * self.problem.alpha[part] * (self.theta[part].double().square() @ self.penalty.double())
        )

    def advance(self, direction: Tensor, along: Tensor, slope: Tensor) -> Tensor:
        """Move every label along its direction to about the minimum on that line.

        Newton's method in a bracket on the stored logits, which needs no product with the features.

        Parameters
        ----------
        direction : Tensor of shape (L, d + 1)
            Step of the parameters.
        along : Tensor of shape (L, n)
            Step of the logits.
        slope : Tensor of float64, shape (L,)
            Derivative along the direction; a label without descent stays where it is.

        Returns
        -------
        Tensor of shape (L, 1)
            Lengths of the steps, in the type of the parameters.
        """
        penalty = self.penalty.double()
        wide, parameters = direction.double(), self.theta.double()
        linear = self.problem.alpha * ((wide * parameters) @ penalty)
        quadratic = self.problem.alpha * (wide.square() @ penalty)
        lengths = torch.empty_like(slope)
        for part in self.problem.blocks():
            step, p = self._line_search(part, along[part], slope[part], linear[part], quadratic[part])
            lengths[part] = step
            self.theta[part] += direction[part] * step.to(direction.dtype)[:, None]
            self._refresh(part, p)
        return lengths.to(self.theta.dtype)[:, None]

    def keep(self, labels: Tensor) -> None:
        """Drop all but some of the labels, given as indices."""
        self.problem = self.problem.take(labels)
        for name in ("theta", "logits", "residual", "value", "curvature"):
            setattr(self, name, getattr(self, name)[labels])

    def _line_search(
        self, part: slice, q: Tensor, slope: Tensor, linear: Tensor, quadratic: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Lengths of the steps, and probabilities at their ends; the logits are moved there."""
        s, a, x, value = self.problem.s[part], self.problem.a[part], self.logits[part], self.value[part]
        step = torch.where(slope < 0, 1.0, 0.0).to(torch.float64)
        low, high = torch.zeros_like(step), torch.full_like(step, float("inf"))
        done = ~(slope < 0)
        for _ in range(_MAX_LINE_SEARCH):
            moved = torch.addcmul(x, q, step.to(q.dtype)[:, None])
            p = torch.sigmoid(moved)
            sp = s * p
            first = ((sp - a) * q).sum(1, dtype=torch.float64) + linear + step * quadratic
            # A step that ends before the minimum surely descends, so that it may be shorter than one beyond it; how far
            # that one can lie above the minimum is at most the step times the derivative at its end, by convexity.
            done |= (first >= 0.5 * slope) & (first <= -0.1 * slope) & (step * first <= 0.1 * value)
            if bool(done.all()):
                break
            second = ((sp - sp * p) * q * q).sum(1, dtype=torch.float64) + quadratic
            low = torch.where(first < 0, step, low)
            high = torch.where(first >= 0, step, high)
            proposal = step - first / second.clamp(min=1e-300)
            middle = torch.where(torch.isinf(high), 4 * step, 0.5 * (low + high))
            inside = (proposal > low) & (proposal < high) & (proposal < 8 * step)
            step = torch.where(done, step, torch.where(inside, proposal, middle))
        else:
            step = torch.where(done, step, low)
            moved = torch.addcmul(x, q, step.to(q.dtype)[:, None])
            p = torch.sigmoid(moved)
        x.copy_(moved)
        return step, p
