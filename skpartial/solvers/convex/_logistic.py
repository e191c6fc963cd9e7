r"""The convex problems of a round: one logistic regression a label, on features that all share.

For every label j, with the targets and weights of the loss folded into :math:`a = w t` and :math:`s = w`,

.. math::

    F_j(w, b) = \sum_i \left[ s_{ij} \operatorname{softplus}(x_{ij}) - a_{ij} x_{ij} \right]
    + \frac{\alpha}{2} \lVert w \rVert^2, \quad x_{ij} = f_i \cdot w + b

Where an entry is all but certain, its probability rounds to 1 while what it lacks of that, which is all that is left of
the derivatives, still has all its digits. So what is computed is the smaller of the two probabilities,
:math:`q = \sigma(-\lvert x \rvert)`.

Arrays have a row a label, so that the sums over the training rows run along memory. Passes over their entries take as
long as the products where there are few features: they are made block by block, and each number is read once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from skpartial.training._targets import FoldedTargets, add_masses, prior_intercepts

__all__ = ["LogisticProblem", "Point", "rarer"]

# Entries of an element-wise pass at a time: its temporaries then stay in the processor's cache.
_BLOCK_ENTRIES = {"cpu": 1 << 17, "cuda": 1 << 26}
_MAX_LINE_SEARCH = 30
# Relative descent of a step that is not short: the slopes at its ends tell that to a hundredth below.
_LONG_STEP = 1e-3


class LogisticProblem:
    """Weights and targets of all entries, as the rule of the loss gave them for this round.

    Parameters
    ----------
    targets : FoldedTargets
        The rule, asked once.
    alpha : float
        L2 penalty of a label's weights.
    dtype, device
        In which type and where both are kept.

    Attributes
    ----------
    s, minus_a : Tensor of shape (L, n)
        Scaled so that the objective of a label is as above.
    alpha : Tensor of float64, shape (L,)
        L2 penalties.
    unfitted : Tensor of bool, shape (L,)
        Labels that hold one sign only, or nothing.
    prior : Tensor of float64, shape (L,)
        The intercept that every label starts from.
    count : Tensor of int64, shape (L,)
        In how many rows a label weighs.
    """

    def __init__(self, targets: FoldedTargets, alpha: float, dtype: torch.dtype, device: torch.device) -> None:
        n_rows, n_labels = targets.source.shape
        self.alpha = torch.full((n_labels,), alpha, dtype=torch.float64, device=device)
        scale = n_labels / targets.source.total_weight()
        self.s, self.minus_a = torch.empty(2, n_labels, n_rows, dtype=dtype, device=device)
        absent, present = torch.zeros(2, n_labels, dtype=torch.float64, device=device)
        for part, s, a in targets.blocks():
            torch.mul(s.T, scale, out=self.s[:, part])
            torch.mul(a.T, -scale, out=self.minus_a[:, part])
            add_masses(absent, present, s, a)
        self.unfitted, self.prior = prior_intercepts(absent, present)
        # Sums into int64 take six times as long.
        self.count = (self.s > 0).sum(1, dtype=torch.int32).to(torch.int64)

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
        for name in ("s", "minus_a", "alpha", "unfitted", "prior", "count"):
            setattr(joined, name, torch.cat([getattr(problem, name) for problem in problems]))
        return joined

    def take(self, labels: Tensor, dtype: torch.dtype | None = None) -> LogisticProblem:
        """The same problem for some of its labels, given as rising indices."""
        part = copy.copy(self)
        part.alpha, part.count = self.alpha[labels], self.count[labels]
        everything = len(labels) == len(self.s)
        part.s, part.minus_a = ((x if everything else x[labels]).to(dtype or x.dtype) for x in (self.s, self.minus_a))
        return part

    def take_rows(self, rows: Tensor) -> LogisticProblem:
        """The same problem without rows that weigh nothing, given the indices of the others."""
        part = copy.copy(self)
        part.s, part.minus_a = self.s[:, rows], self.minus_a[:, rows]
        return part

    def take_own_rows(self, labels: Tensor, rows: Tensor) -> LogisticProblem:
        """The problem of labels (k,), each on the rows (k, m) of its own."""
        part = copy.copy(self)
        part.alpha, part.count = self.alpha[labels], self.count[labels]
        part.s, part.minus_a = (x[labels].gather(1, rows) for x in (self.s, self.minus_a))
        return part

    def blocks(self) -> Iterator[slice]:
        """Slices of labels whose entries are about as many."""
        n_labels, n_rows = self.s.shape
        step = max(1, _BLOCK_ENTRIES.get(self.s.device.type, 1 << 20) // n_rows)
        for start in range(0, n_labels, step):
            yield slice(start, min(start + step, n_labels))

    def data_term(self, part: slice, logits: Tensor) -> Tensor:
        """Data terms of a slice of labels in float64, shape (k,), at their logits (k, n)."""
        terms = _surprise(logits).mul_(self.s[part])
        at_ends = torch.addcmul(self.minus_a[part], self.s[part], _is_positive(logits))
        return terms.addcmul_(at_ends, logits).sum(1).double()


def _is_positive(x: Tensor) -> Tensor:
    """1 where x is above zero and 0 elsewhere, in its type, which comparisons would have to be converted to."""
    return x.sign().clamp_(min=0)


def rarer(x: Tensor, out: Tensor | None = None) -> Tensor:
    """Probability of the sign that logits speak against."""
    return torch.abs(x, out=out).neg_().sigmoid_()


def _residual(s: Tensor, minus_a: Tensor, x: Tensor, q: Tensor, out: Tensor | None = None) -> Tensor:
    """Derivatives of the loss in logits x whose rarer signs have probabilities q."""
    positive = _is_positive(x)
    out = torch.addcmul(minus_a, s, positive, out=out)
    return out.addcmul_(s, positive.mul_(q).mul_(-2).add_(q))


def _surprise(x: Tensor) -> Tensor:
    """Cross-entropy of the sign that logits speak for, the logarithm of 1 + exp(-|x|), to the digits of its type."""
    u = x.abs().neg_().exp_()
    if x.dtype == torch.float64:
        return u.log1p_()
    # In float32 log1p takes several times as long as log. What rounding 1 + u takes from u is put back.
    one_more = u + 1
    result = one_more.log()
    return result.add_(u.sub_(one_more - 1).div_(one_more))


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
    total : Tensor of float64, shape (L,)
        Its sum over the rows.
    curvature : Tensor of float64, shape (L,)
        Sum of the second derivatives over the rows.
    value : Tensor of float64, shape (L,)
        Objective.
    """

    def __init__(self, problem: LogisticProblem, theta: Tensor, logits: Tensor, penalty: Tensor) -> None:
        self.problem, self.theta, self.penalty = problem, theta, penalty
        self.residual = torch.empty_like(logits)
        self.total, self.curvature, self.value = torch.empty(3, len(theta), dtype=torch.float64, device=theta.device)
        self.move_to(logits)

    def move_to(self, logits: Tensor) -> None:
        """Take other logits for those of the parameters."""
        self.logits = logits
        problem = self.problem
        for part in problem.blocks():
            q = rarer(logits[part])
            self._take(part, _residual(problem.s[part], problem.minus_a[part], logits[part], q), q)
            self._evaluate(part)

    def curvatures(self) -> Tensor:
        """Second derivative of the data term in each logit, shape (L, n)."""
        result = torch.empty_like(self.logits)
        for part in self.problem.blocks():
            q = rarer(self.logits[part])
            torch.mul(self.problem.s[part], q.addcmul_(q, q, value=-1), out=result[part])
        return result

    def _take(self, part: slice, residual: Tensor, q: Tensor) -> None:
        """Note what follows from the probabilities of the rarer signs, which are overwritten."""
        self.residual[part] = residual
        self.total[part] = residual.sum(1)
        self.curvature[part] = torch.linalg.vecdot(self.problem.s[part], q.addcmul_(q, q, value=-1)).double()

    def _evaluate(self, part: slice) -> None:
        """Compute the objective."""
        self.value[part] = self.problem.data_term(part, self.logits[part])
        squares = self.theta[part].double().square() @ self.penalty.double()
        self.value[part] += 0.5 * self.problem.alpha[part] * squares

    def advance(
        self,
        direction: Tensor,
        along: Tensor,
        slope: Tensor,
        change: Tensor | None = None,
        reach: Tensor | None = None,
    ) -> Tensor:
        """Move every label along its direction to about the minimum on that line.

        Newton's method in a bracket on the stored logits, which needs no product with the features.

        Parameters
        ----------
        direction : Tensor of shape (L, d + 1)
            Step of the parameters.
        along : Tensor of shape (L, n)
            Step of the logits, but for the intercept's; may be of a narrower type.
        slope : Tensor of float64, shape (L,)
            Derivative along the direction; a label without descent stays where it is.
        change : Tensor of shape (L, n) or None, default=None
            Takes the changes of the residuals, rounded to its type. After a short step the objective then follows the
            slopes at both ends of it, instead of being computed anew.
        reach : Tensor of float64, shape (L,) or None, default=None
            Takes how far the logit moves that moves farthest of those with a weight.

        Returns
        -------
        Tensor of shape (L, 1)
            Lengths of the steps, in the type of the parameters.
        """
        problem, dtype = self.problem, self.theta.dtype
        penalty = self.penalty.double()
        wide, parameters = direction.double(), self.theta.double()
        linear = problem.alpha * ((wide * parameters) @ penalty)
        quadratic = problem.alpha * (wide.square() @ penalty)
        lengths = torch.empty_like(slope)
        for part in problem.blocks():
            q = torch.add(along[part], direction[part, -1:])
            line = _Line(problem.s[part], problem.minus_a[part], self.logits[part], q, linear[part], quadratic[part])
            step = line.search(slope[part], self.value[part])
            lengths[part] = step
            if reach is not None:
                reach[part] = q.abs_().mul_(problem.s[part] > 0).amax(1).double() * step
            self.theta[part] += direction[part] * step.to(dtype)[:, None]
            self.logits[part] = line.logits
            if change is None:
                self._take(part, line.residual, line.rarer)
                self._evaluate(part)
            else:
                torch.sub(line.residual, self.residual[part], out=change[part])
                self._take(part, line.residual, line.rarer)
                descent = -0.5 * step * (slope[part] + line.slope)
                if bool((descent > _LONG_STEP * self.value[part]).any()):
                    self._evaluate(part)
                else:
                    self.value[part] -= descent
        return lengths.to(dtype)[:, None]

    def keep(self, labels: Tensor) -> None:
        """Drop all but some of the labels, given as indices."""
        self.problem = self.problem.take(labels)
        for name in ("theta", "logits", "residual", "total", "curvature", "value"):
            setattr(self, name, getattr(self, name)[labels])


class _Line:
    """Objectives of some labels along their directions, as functions of the lengths of the steps.

    Parameters
    ----------
    s, minus_a, logits : Tensor of shape (k, n)
        The problem, and where the steps begin.
    q : Tensor of shape (k, n)
        Directions of the logits.
    linear, quadratic : Tensor of float64, shape (k,)
        Derivatives of the penalties.
    """

    def __init__(
        self, s: Tensor, minus_a: Tensor, logits: Tensor, q: Tensor, linear: Tensor, quadratic: Tensor
    ) -> None:
        self.s, self.minus_a, self.start, self.q = s, minus_a, logits, q
        self.linear, self.quadratic = linear, quadratic
        self.logits, self.rarer, self.residual = (torch.empty_like(q) for _ in range(3))

    def go(self, step: Tensor) -> None:
        """Logits, probabilities, residuals and slopes at the ends of steps."""
        torch.addcmul(self.start, self.q, step.to(self.q.dtype)[:, None], out=self.logits)
        _residual(self.s, self.minus_a, self.logits, rarer(self.logits, out=self.rarer), out=self.residual)
        self.slope = torch.linalg.vecdot(self.residual, self.q).double() + self.linear + step * self.quadratic

    def bend(self) -> Tensor:
        """Second derivatives where `go` went."""
        curvature = torch.addcmul(self.rarer, self.rarer, self.rarer, value=-1).mul_(self.s)
        return torch.linalg.vecdot(curvature.mul_(self.q), self.q).double() + self.quadratic

    def take(self, labels: Tensor) -> _Line:
        """The same for some of the labels."""
        tensors = (self.s, self.minus_a, self.start, self.q, self.linear, self.quadratic)
        return _Line(*(tensor[labels] for tensor in tensors))

    def put(self, labels: Tensor, line: _Line) -> None:
        """Take over where others went."""
        for name in ("logits", "rarer", "residual", "slope"):
            getattr(self, name)[labels] = getattr(line, name)

    def search(self, slope: Tensor, value: Tensor) -> Tensor:
        """Lengths of the steps, given slopes and objectives where they begin; `go` went there."""
        step = torch.where(slope < 0, 1.0, 0.0).to(torch.float64)
        self.go(step)
        bracket = torch.zeros_like(step), torch.full_like(step, float("inf"))
        return self._narrow_down(step, slope, value, bracket, _MAX_LINE_SEARCH)

    def _narrow_down(
        self, step: Tensor, slope: Tensor, value: Tensor, bracket: tuple[Tensor, Tensor], n_left: int
    ) -> Tensor:
        """Newton's method from where `go` went, for those labels that want another length."""
        first = self.slope
        # A step that ends before the minimum surely descends, so that it may be shorter than one beyond it; how far
        # that one can lie above the minimum is at most the step times the derivative at its end, by convexity.
        good = (first >= 0.5 * slope) & (first <= -0.1 * slope) & (step * first <= 0.1 * value)
        labels = torch.nonzero(~good & (slope < 0)).squeeze(1)
        if not len(labels):
            return step
        some = len(labels) < len(step)
        line = self.take(labels) if some else self
        if some:
            line.rarer = self.rarer[labels]
            step_of, first, slope, value = (tensor[labels] for tensor in (step, first, slope, value))
            low, high = (bound[labels] for bound in bracket)
        else:
            step_of, (low, high) = step, bracket
        low = torch.where(first < 0, step_of, low)
        high = torch.where(first >= 0, step_of, high)
        proposal = step_of - first / line.bend().clamp(min=1e-300)
        middle = torch.where(torch.isinf(high), 4 * step_of, 0.5 * (low + high))
        inside = (proposal > low) & (proposal < high) & (proposal < 8 * step_of)
        step_of = torch.where(inside, proposal, middle) if n_left else low
        line.go(step_of)
        if n_left:
            step_of = line._narrow_down(step_of, slope, value, (low, high), n_left - 1)
        if not some:
            return step_of
        self.put(labels, line)
        return step.index_copy(0, labels, step_of)
