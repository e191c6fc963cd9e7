r"""Squared error in closed form: ridge regressions of all labels, from as few factors as there are weights of rows.

With :math:`v = s / 4`, and logits :math:`z = 2 (2 t - 1)` to which entries are drawn, the objective of label j is

.. math::

    F_j(w, b) = \tfrac12 \sum_i v_{ij} (f_i \cdot w + b - z_{ij})^2 + \tfrac{\alpha}{2} \lVert w \rVert^2

Labels whose rows weigh the same share a factor, whatever their targets and penalties: of the Gram matrix of the centred
columns, or of the rows where these are fewer. It also tells the leverages h of the rows, and with them what each row
would be given by a fit without it, whose penalty is the same,

.. math::

    x^{(-i)}_{ij} = \frac{x_{ij} - h_{ij} z_{ij}}{1 - h_{ij}}, \quad
    h_{ij} = v_{ij} \Big( \frac{1}{\sum_i v_{ij}}
    + \tilde{f}_i^\top \big( \tilde{F}^\top V_j \tilde{F} + \alpha I \big)^{-1} \tilde{f}_i \Big)

where features with a tilde are centred by the weights of the label.

Source: R. Rifkin, R. Lippert, "Notes on regularized least squares", MIT CSAIL technical report 2007-025, sections 3 and
4, for a model without weights and intercept.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from skpartial.features._base import Features, overflow_error, row_sums
from skpartial.features._matrix import ResidentFeatures, StreamedFeatures
from skpartial.solvers.convex._logistic import LogisticProblem
from skpartial.solvers.convex._prepared import PreparedFeatures
from skpartial.solvers.convex._recalibration import positive_slopes
from skpartial.solvers.convex._solve import Outcome, Report, solve_round

__all__ = ["LeftOut", "SquaredProblem", "leave_one_out", "solve_squared_round"]

# Penalties of a factor from which its eigenvectors pay: then another penalty costs next to nothing.
_MANY_ALPHAS = 5
# Rows of a block, whose features are worked on in float64.
_BLOCK_ROWS = 2048
# Multiplications of a label's own factor at most, as multiples of those of about as many products with its rows as
# conjugate gradients take; and what is too little to matter.
_PRODUCTS, _LITTLE = 60, 1e10
# Labels that are scored at once, and whose scores are then worked on within the processor's cache.
_SCORED_LABELS, _BLOCK_LABELS = 256, 8
# Labels among those by which rounding is judged.
_CHECKED_LABELS = 8
# Closer to 1 leverages leave nothing of a row to judge it by.
_LARGEST_LEVERAGE = 1 - 1e-7


class SquaredProblem(LogisticProblem):
    """The same weights and targets, with squared error in place of cross-entropy."""

    def data_term(self, part: slice, logits: Tensor) -> Tensor:
        """Data terms of a slice of labels in float64, shape (k,), at their logits (k, n)."""
        s = self.s[part]
        aims = torch.where(s > 0, (-4 * self.minus_a[part]).div_(s).sub_(2), 0.0)
        return aims.sub_(logits).square_().mul_(s).sum(1).double().div_(8)

    def residual(self, part: slice, logits: Tensor, q: Tensor) -> Tensor:
        """First derivatives of the data terms of a slice of labels in their logits."""
        return torch.addcmul(self.minus_a[part], self.s[part], (0.25 * logits).add_(0.5))

    def curvature(self, part: slice, q: Tensor) -> Tensor:
        """Second derivatives of the data terms of a slice of labels."""
        return 0.25 * self.s[part]


class _Cholesky:
    """Inverse of a matrix B plus a penalty, by a Cholesky factor."""

    def __init__(self, matrix: Tensor, alpha: float) -> None:
        system = matrix.clone()
        system.diagonal().add_(alpha)
        self._factor, info = torch.linalg.cholesky_ex(system)
        self.usable = int(info) == 0 and bool(torch.isfinite(self._factor.diagonal()).all())
        self._alpha = alpha

    def times(self, columns: Tensor) -> Tensor:
        """The inverse times columns (p, k)."""
        return torch.cholesky_solve(columns, self._factor)

    def quadratic(self, rows: Tensor) -> Tensor:
        """The quadratic form of the inverse for rows (m, p), shape (m,)."""
        return torch.linalg.solve_triangular(self._factor, rows.T, upper=False).square_().sum(0)

    def shrinkage(self) -> Tensor:
        """The diagonal of B times the inverse, shape (p,)."""
        identity = torch.eye(len(self._factor), dtype=self._factor.dtype, device=self._factor.device)
        return 1 - self._alpha * self.quadratic(identity)


class _Spectral:
    """The same by eigenvectors, which serve every penalty; a pseudo-inverse where there is none."""

    def __init__(self, values: Tensor, vectors: Tensor, alpha: float) -> None:
        least = values[-1].clamp(min=0) * torch.finfo(values.dtype).eps * len(values)
        shifted = values.clamp(min=0) + alpha
        self._inverse = torch.where(shifted > least, 1 / shifted, 0.0)
        self._values, self._vectors = values.clamp(min=0), vectors

    def times(self, columns: Tensor) -> Tensor:
        return self._vectors @ ((self._vectors.T @ columns) * self._inverse[:, None])

    def quadratic_in_axes(self, squares: Tensor) -> Tensor:
        """The quadratic form for rows whose squared coordinates along the eigenvectors are given."""
        return squares @ self._inverse

    def shrinkage(self) -> Tensor:
        return self._vectors.square() @ (self._values * self._inverse)


class _Gram:
    """Products of centred features, weighted by what each row counts for: of columns, or of rows where these are fewer.

    Parameters
    ----------
    features : Features
        X, shape (n, d).
    rows : Tensor of int64, shape (m,), or None
        Which rows are taken; None is all.
    v : Tensor of float64, shape (m,)
        What each row counts for.
    """

    def __init__(self, features: Features, rows: Tensor | None, v: Tensor) -> None:
        self.features, self.rows, self.v, self.total = features, rows, v, v.sum()
        d = features.n_features
        self.dual = len(v) < d
        sums = torch.zeros(d, dtype=torch.float64, device=v.device)
        for part, X in self._blocks():
            sums += v[part] @ X
        self.center = sums / self.total
        if self.dual:
            self._root = torch.cat([self._weighted(part, X) for part, X in self._blocks()])
            self.matrix = self._root @ self._root.T
        else:
            self.matrix = torch.zeros(d, d, dtype=torch.float64, device=v.device)
            for part, X in self._blocks():
                root = self._weighted(part, X)
                self.matrix.addmm_(root.T, root)
        if not bool(torch.isfinite(self.matrix.diagonal()).all()):
            raise overflow_error(features.dtype)

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Slices of the rows with their features in float64, dense."""
        index = torch.arange(self.features.n_rows, device=self.v.device) if self.rows is None else self.rows
        X = self.features.X if isinstance(self.features, ResidentFeatures) else None
        for start in range(0, len(index), _BLOCK_ROWS):
            part = slice(start, min(start + _BLOCK_ROWS, len(index)))
            block = X[part] if X is not None and self.rows is None else self.features.batch(index[part])
            yield part, (block.to_dense() if block.is_sparse else block).double()

    def _weighted(self, part: slice, X: Tensor) -> Tensor:
        return (X - self.center).mul_(self.v[part].sqrt()[:, None])

    def sums(self, a: Tensor) -> Tensor:
        """Sums of centred rows weighted by a, shape (k, m): shape (d, k), float64."""
        found = torch.zeros(len(self.center), len(a), dtype=torch.float64, device=self.v.device)
        for part, X in self._blocks():
            # Centred, they lose no digits in their own type.
            found += (X - self.center).to(a.dtype).T @ a[:, part].T
        return found

    def inverses(self, alphas: Sequence[float]) -> Iterator[_Cholesky | _Spectral]:
        """Inverses for some penalties."""
        spectrum = None
        for alpha in alphas:
            if spectrum is None and len(alphas) < _MANY_ALPHAS:
                factor = _Cholesky(self.matrix, alpha)
                if factor.usable:
                    yield factor
                    continue
            if spectrum is None:
                spectrum = torch.linalg.eigh(self.matrix)
            yield _Spectral(*spectrum, alpha)

    def leverages(self, inverses: Sequence[_Cholesky | _Spectral]) -> Tensor:
        """Leverages of the rows under some penalties, shape (A, m)."""
        if self.dual:
            of_weights = torch.stack([inverse.shrinkage() for inverse in inverses])
        else:
            of_weights = self.v.new_empty(len(inverses), len(self.v))
            vectors = next((inverse._vectors for inverse in inverses if isinstance(inverse, _Spectral)), None)
            for part, X in self._blocks():
                root = self._weighted(part, X)
                squares = None if vectors is None else (root @ vectors).square_()
                for i, inverse in enumerate(inverses):
                    if isinstance(inverse, _Spectral):
                        assert squares is not None
                        of_weights[i, part] = inverse.quadratic_in_axes(squares)
                    else:
                        of_weights[i, part] = inverse.quadratic(root)
        return (of_weights + self.v / self.total).clamp_(0, _LARGEST_LEVERAGE)

    def weights(self, inverse: _Cholesky | _Spectral, a: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (k, d) of labels with v z = a - 2 v, and twice what they gain over an intercept alone (k,).

        What is the same for all rows, as 2 v is, adds nothing to sums of centred ones.
        """
        if not self.dual:
            sums = self.sums(a)
            weights = inverse.times(sums)
            return weights.T, (weights * sums).sum(0)
        root = self.v.sqrt()
        scaled = torch.where(root > 0, a.double() / root, 0.0)
        shares = inverse.times(scaled.T).T
        return shares @ self._root, (shares * (scaled @ self.matrix)).sum(1)


class _Group(NamedTuple):
    """Labels whose rows weigh the same, and these rows, None where they are all."""

    labels: Tensor
    rows: Tensor | None


def _groups(problem: SquaredProblem, labels: Tensor) -> list[_Group]:
    """Labels by the weights of their rows."""
    s = problem.s
    first = s[labels[0]]
    alike = torch.cat([(s[part] == first).all(1) for part in labels.split(256)])
    groups = [labels[alike]]
    others: dict[bytes, list[int]] = {}
    for label in labels[~alike].tolist():
        others.setdefault(hashlib.blake2b(s[label].cpu().numpy().tobytes()).digest(), []).append(label)
    groups += [torch.tensor(members, device=s.device) for members in others.values()]
    found = []
    for members in groups:
        rows = torch.nonzero(s[members[0]] > 0).squeeze(1)
        found.append(_Group(members, None if 2 * len(rows) > s.shape[1] else rows))
    return found


def _is_cheap(problem: SquaredProblem, features: Features, group: _Group) -> bool:
    """Whether a factor of its own costs no more than what conjugate gradients would take for these labels."""
    m = problem.s.shape[1] if group.rows is None else len(group.rows)
    d = features.n_features
    p, q = min(m, d), max(m, d)
    if isinstance(features, StreamedFeatures) and group.rows is not None:
        return False
    n_alphas = len(problem.alpha[group.labels].unique())
    factor = p**2 * q * (1 + n_alphas) + p**3 * (10 if n_alphas >= _MANY_ALPHAS else n_alphas)
    return factor <= max(_PRODUCTS * len(group.labels) * m * d, _LITTLE)


class _Solved(NamedTuple):
    """Labels with the same rows and penalty.

    Parameters
    ----------
    labels : Tensor of int64, shape (k,)
        Which.
    alpha : Tensor of float64, shape (k,)
        The penalty, repeated.
    theta : Tensor of shape (k, d + 1)
        Weights, and intercepts in the last column.
    minimum : Tensor of float64, shape (k,)
        Of the objectives.
    odds, odds_by_weight : Tensor of shape (n,)
        h / (1 - h) of all rows, and this over v; 0 for those that weigh nothing.
    """

    labels: Tensor
    alpha: Tensor
    theta: Tensor
    minimum: Tensor
    odds: Tensor
    odds_by_weight: Tensor


class LeftOut(NamedTuple):
    """Fits of some labels, and the scores that rows have by fits without them.

    Parameters
    ----------
    labels : Tensor of int64, shape (k,)
        Which labels.
    alpha : Tensor of float64, shape (k,)
        Their penalties.
    theta : Tensor of shape (k, d + 1)
        Weights, and intercepts in the last column, of the fits with all rows.
    scores : Tensor of shape (k, n)
        Of every row by a fit without it; where a label weighs nothing in a row, by the fit.
    objective : Tensor of float64, shape (k,)
        Minima of the objectives.
    gap : Tensor of float64, shape (k,)
        How far from them, relative to them, rounding has taken the parameters, as a few of the labels tell.
    """

    labels: Tensor
    alpha: Tensor
    theta: Tensor
    scores: Tensor
    objective: Tensor
    gap: Tensor


def _rows_of(matrix: Tensor, labels: Tensor) -> Tensor:
    """Rows of a matrix by rising indices, without a copy where these are all."""
    return matrix if len(labels) == len(matrix) else matrix[labels]


def _solve_group(
    problem: SquaredProblem, group: _Group, gram: _Gram, alphas: Sequence[tuple[float, Tensor]]
) -> Iterator[_Solved]:
    """The closed form for a group, whose labels are given by penalties."""
    rows, v, dtype = group.rows, gram.v, problem.s.dtype
    by_weight = torch.where(v > 0, 1 / v, 0.0)
    inverses = list(gram.inverses([alpha for alpha, _ in alphas]))
    for (alpha, labels), inverse, leverage in zip(alphas, inverses, gram.leverages(inverses)):
        # Signs do not matter to squares, and change only at the end.
        minus_a = _rows_of(problem.minus_a, labels)
        minus_a = minus_a if rows is None else minus_a[:, rows]
        weights, gain = gram.weights(inverse, minus_a)
        total = -row_sums(minus_a)
        squares = torch.cat([part.square().double() @ by_weight for part in minus_a.split(_BLOCK_LABELS)])
        minimum = 0.5 * (squares - total.square() / gram.total - gain)
        intercept = total / gram.total - 2 + weights @ gram.center
        theta = torch.cat([-weights, intercept[:, None]], dim=1).to(dtype)
        odds = torch.zeros(2, problem.s.shape[1], dtype=dtype, device=v.device)
        ratio = leverage / (1 - leverage)
        odds[:, slice(None) if rows is None else rows] = torch.stack([ratio, ratio * by_weight]).to(dtype)
        yield _Solved(labels, torch.full_like(total, alpha), theta, minimum, *odds)


def _in_parts(solved: Iterator[_Solved]) -> Iterator[list[_Solved]]:
    """What was solved, in lists of as many labels as are scored at once."""
    part: list[_Solved] = []
    for found in solved:
        for start in range(0, len(found.labels), _SCORED_LABELS):
            few = slice(start, start + _SCORED_LABELS)
            part.append(_Solved(*(tensor[few] for tensor in found[:4]), *found[4:]))
            if sum(len(each.labels) for each in part) >= _SCORED_LABELS:
                yield part
                part = []
    if part:
        yield part


def _leave_out(features: Features, problem: SquaredProblem, solved: Iterator[_Solved]) -> Iterator[LeftOut]:
    """Leave every row out of the fits of labels."""
    for part in _in_parts(solved):
        labels, alpha, theta, minimum = (torch.cat(each) for each in list(zip(*part))[:4])
        scores, start = features.scores(theta), 0
        few = torch.arange(min(len(labels), _CHECKED_LABELS), device=labels.device)
        reached = problem.take(labels[few]).data_term(slice(None), scores[few])
        reached += 0.5 * alpha[few] * theta[few, :-1].double().square().sum(1)
        error = ((reached - minimum[few]).abs() / reached.clamp(min=torch.finfo(torch.float64).tiny)).max()
        for each in part:
            plus_one, twice = each.odds + 1, 2 * each.odds
            for few in each.labels.split(_BLOCK_LABELS):
                # x + (x - z) h / (1 - h), with z = a / v - 2
                x = scores[start : start + len(few)]
                x.mul_(plus_one).add_(twice).addcmul_(problem.minus_a[few], each.odds_by_weight)
                start += len(few)
        yield LeftOut(labels, alpha, theta, scores, minimum, error.expand_as(minimum))


def _closed_form(
    prepared: PreparedFeatures, problem: SquaredProblem, groups: Sequence[_Group], alphas: Sequence[float] | None = None
) -> Iterator[LeftOut]:
    """Fits of groups of labels, under their own penalties or under each of some."""

    def solved() -> Iterator[_Solved]:
        for group in groups:
            s, labels = problem.s[group.labels[0]], group.labels
            v = 0.25 * (s if group.rows is None else s[group.rows]).double()
            gram = _Gram(prepared.features, group.rows, v)
            own = problem.alpha[labels]
            penalties = [(float(alpha), labels[own == alpha]) for alpha in own.unique()]
            given = penalties if alphas is None else [(alpha, labels) for alpha in alphas]
            yield from _solve_group(problem, group, gram, given)

    return _leave_out(prepared.features, problem, solved())


def leave_one_out(
    prepared: PreparedFeatures, problem: SquaredProblem, alphas: Sequence[float] | None = None
) -> Iterator[LeftOut]:
    """Scores of every row by fits without it, for all labels and some penalties.

    Parameters
    ----------
    prepared : PreparedFeatures
        Of the features X, shape (n, d).
    problem : SquaredProblem
        Weights and targets.
    alphas : sequence of float, or None, default=None
        Penalties; None takes each label's own.

    Yields
    ------
    LeftOut
        Of up to a few hundred labels that can be fitted, and penalties, at a time. The penalty is the same in relation
        to the sum over the rows, as in scikit-learn's RidgeCV, not to their mean.
    """
    labels = torch.nonzero(~problem.unfitted).squeeze(1)
    return _closed_form(prepared, problem, _groups(problem, labels) if len(labels) else [], alphas)


def _slopes(problem: SquaredProblem, labels: Tensor, scores: Tensor) -> Tensor:
    """What turns scores of labels into log odds, shape (k,)."""
    few = zip(labels.split(_BLOCK_LABELS), scores.split(_BLOCK_LABELS))
    return torch.cat([positive_slopes(x, problem.s[part], -problem.minus_a[part]) for part, x in few])


def solve_squared_round(
    prepared: PreparedFeatures, problem: SquaredProblem, theta: Tensor, *, tol: float, max_iter: int, report: Report
) -> Outcome:
    """Solve one round, and turn scores into log odds.

    Labels for which a factor would take longer than conjugate gradients are solved by these.

    Parameters
    ----------
    prepared, problem, theta, tol, max_iter, report
        As of `solve_round`; labels that can be fitted do not look where they start.

    Returns
    -------
    Outcome
        Parameters of the recalibrated logits: those of the optimum, times a positive number for each label.
    """
    features = prepared.features
    labels = torch.nonzero(~problem.unfitted).squeeze(1)
    if not len(labels):
        return solve_round(prepared, problem, theta, tol=tol, max_iter=max_iter, report=report)
    enough = max(tol, 20 * torch.finfo(theta.dtype).eps)
    theta = theta.clone()
    objective, gap = torch.zeros(2, len(theta), dtype=torch.float64, device=theta.device)
    groups = _groups(problem, labels)
    cheap = [group for group in groups if _is_cheap(problem, features, group)]
    for found in _closed_form(prepared, problem, cheap):
        objective[found.labels], gap[found.labels] = found.objective, found.gap
        slope = _slopes(problem, found.labels, found.scores)
        theta[found.labels] = (found.theta.double() * slope[:, None]).to(theta.dtype)
    imprecise = gap > 4 * enough
    outcome = Outcome(theta, gap, imprecise, imprecise)
    solved = torch.zeros_like(problem.unfitted)
    for group in cheap:
        solved[group.labels] = True
    left = labels[~solved[labels]]
    if len(left):
        return _solve_left(prepared, problem, outcome, objective, left, tol=tol, max_iter=max_iter, report=report)
    report(objective, gap, lambda: theta)
    return outcome


def _solve_left(
    prepared: PreparedFeatures,
    problem: SquaredProblem,
    outcome: Outcome,
    objective: Tensor,
    labels: Tensor,
    *,
    tol: float,
    max_iter: int,
    report: Report,
) -> Outcome:
    """Solve for labels that are left by products with the features, and complete an outcome by them."""
    part = copy.copy(problem)
    part.unfitted = torch.ones_like(problem.unfitted)
    part.unfitted[labels] = False
    theta = outcome.theta.clone()
    theta[labels, :-1] = 0
    theta[labels, -1] = -4 * problem.minus_a[labels].sum(1) / problem.s[labels].sum(1) - 2

    def tell(values: Tensor, gap: Tensor, current: Callable[[], Tensor]) -> bool:
        return report(torch.where(part.unfitted, objective, values), torch.maximum(gap, outcome.gap), current)

    found = solve_round(prepared, part, theta, tol=tol, max_iter=max_iter, report=tell)
    for few in labels.split(_SCORED_LABELS):
        scores = prepared.features.scores(found.theta[few])
        found.theta[few] *= _slopes(problem, few, scores).to(theta.dtype)[:, None]
    return Outcome(
        found.theta,
        torch.maximum(found.gap, outcome.gap),
        found.unconverged | outcome.unconverged,
        found.imprecise | outcome.imprecise,
    )
