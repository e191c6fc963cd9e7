r"""Newton's method for many logistic problems that share their features.

For every label j the problem is, with targets and weights folded into :math:`a = w t` and :math:`s = w`,

.. math::

    F_j(w, b) = c \sum_i \left[ s_{ij} \operatorname{softplus}(x_{ij}) - a_{ij} x_{ij} \right]
    + \frac{\alpha}{2} \lVert w \rVert^2, \quad x_{ij} = f_i \cdot w + b

All labels advance together, each with its own step, line search and convergence, so that the work is products of the
feature matrix with tall blocks. The Newton direction comes from conjugate gradients, stopped early (truncated Newton)
and preconditioned by one randomised Nystrom sketch of the Gram matrix that all labels share. The logits are stored, so
the line search needs no product. Labels that have converged drop out of the block.

Sources: S. Nash, A. Sofer, "Assessing a search direction within a truncated-Newton method", Oper. Res. Lett. 1990;
Z. Frangella, J. Tropp, M. Udell, "Randomized Nystrom preconditioning", SIAM J. Matrix Anal. Appl. 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from skpartial.solvers._features import Features, overflow_error

__all__ = ["LogisticProblem", "NewtonResult", "minimize"]

# Entries of an element-wise pass at a time: its temporaries then stay in the processor's cache.
_BLOCK_ENTRIES = {"cpu": 1 << 17, "cuda": 1 << 26}
_SKETCH_RANK = 64
_MAX_LINE_SEARCH = 20
_MAX_CG = 250
# Conjugate gradients stop when k times the last gain is below this share of the decrease so far: early while far from
# the optimum, late where the decrease shall tell whether a label has converged.
_FORCING, _FORCING_CLOSE = 0.2, 0.02
# Close is a gap within this multiple of the tolerance.
_CAREFUL = 10.0

TargetBlocks = Callable[[slice], tuple[Tensor, Tensor]]


class LogisticProblem:
    """The data term of all labels: s and a for blocks of rows, scaled to each label's objective.

    Parameters
    ----------
    blocks : callable
        From a slice of rows to (s, a), each of shape (b, L).
    shape : tuple of int
        Rows and labels.
    dtype, device
        Of s and a.
    """

    # Up to this size s and a are kept; beyond it every pass asks the rule again.
    _CACHE_BYTES = 512 << 20

    def __init__(self, blocks: TargetBlocks, shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> None:
        self._blocks = blocks
        self.shape = shape
        self.dtype, self.device = dtype, device
        self.columns: Tensor | None = None
        self._cache: tuple[Tensor, Tensor] | None = None
        if 2 * shape[0] * shape[1] * dtype.itemsize <= self._CACHE_BYTES:
            s, a = torch.empty(2, *shape, dtype=dtype, device=device)
            for part in self.parts(shape[1]):
                s[part], a[part] = blocks(part)
            self._cache = s, a
        mass = torch.zeros(2, shape[1], dtype=torch.float64, device=device)
        #: In how many rows a label has weight.
        self.row_count = torch.zeros(shape[1], dtype=torch.int64, device=device)
        self.row_weight = torch.zeros(shape[0], dtype=dtype, device=device)
        for part in self.parts(shape[1]):
            s, a = self.block(part)
            mass[0] += s.sum(0, dtype=torch.float64)
            mass[1] += a.sum(0, dtype=torch.float64)
            self.row_weight[part] = s.mean(1)
            self.row_count += (s > 0).sum(0)
        self.weight_mass, self.present_mass = mass

    def parts(self, n_columns: int) -> Iterator[slice]:
        """Slices of rows whose blocks have about the same number of entries."""
        entries = _BLOCK_ENTRIES.get(self.device.type, 1 << 20)
        step = max(1, entries // max(1, n_columns))
        for start in range(0, self.shape[0], step):
            yield slice(start, min(start + step, self.shape[0]))

    def keep(self, columns: Tensor) -> None:
        """Restrict all further blocks to some labels, given as indices into the present ones."""
        if self._cache is not None:
            self._cache = (self._cache[0][:, columns].contiguous(), self._cache[1][:, columns].contiguous())
        self.columns = columns if self.columns is None else self.columns[columns]

    def columns_of(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Return s and a of some labels over all rows."""
        blocks = [self.block(part) for part in self.parts(self.shape[1])]
        return torch.cat([s[:, columns] for s, _ in blocks]), torch.cat([a[:, columns] for _, a in blocks])

    def block(self, part: slice) -> tuple[Tensor, Tensor]:
        """Blocks of s and a of a slice of rows, for the kept labels."""
        if self._cache is not None:
            return self._cache[0][part], self._cache[1][part]
        s, a = self._blocks(part)
        return (s, a) if self.columns is None else (s[:, self.columns], a[:, self.columns])


@dataclass
class NewtonResult:
    """Where Newton's method stopped.

    Parameters
    ----------
    weight : Tensor of shape (L, d)
        Coefficients.
    bias : Tensor of shape (L,)
        Intercepts.
    n_iter : int
        Newton steps taken.
    converged : Tensor of bool, shape (L,)
        Labels whose estimated relative gap is below the tolerance.
    gap : Tensor of shape (L,)
        The estimate at the last step, before that step was taken.
    """

    weight: Tensor
    bias: Tensor
    n_iter: int
    converged: Tensor
    gap: Tensor


class _Preconditioner:
    """Randomised Nystrom sketch of the weighted Gram matrix of [X, 1], shared by all labels."""

    def __init__(self, features: Features, row_weight: Tensor) -> None:
        d = features.n_features + 1
        rank = min(_SKETCH_RANK, d)
        # One seed for all: the answer to a convex problem shall not depend on the estimator's random state.
        generator = torch.Generator().manual_seed(0)
        test = torch.randn(d, rank, generator=generator, dtype=torch.float64)
        test = torch.linalg.qr(test).Q.to(device=features.device, dtype=features.dtype)
        projected = features.matmul(test[:-1]).add_(test[-1])
        projected *= (row_weight / row_weight.sum().clamp(min=torch.finfo(features.dtype).tiny))[:, None]
        sketch = torch.cat([features.rmatmul(projected), projected.sum(0, keepdim=True)]).double()
        test = test.double()
        # A shift of rounding size keeps the Cholesky factor real (Frangella et al., algorithm 2.1).
        shift = float(torch.finfo(features.dtype).eps * torch.linalg.matrix_norm(sketch)) + 1e-300
        sketch += shift * test
        if not bool(torch.isfinite(sketch).all()):
            raise overflow_error(features.dtype)
        core = test.T @ sketch
        values, vectors = torch.linalg.eigh((core + core.T) / 2)
        usable = values > values[-1].clamp(min=1e-300) * 1e-13
        root = vectors[:, usable] / values[usable].sqrt()
        left, singular, _ = torch.linalg.svd(sketch @ root, full_matrices=False)
        # Kept in float64: in float32, taking the sketched part of a residual away would leave rounding noise that is
        # larger than what shall remain once the largest eigenvalue is a million times the rest.
        self.basis = left
        self.values = (singular.square() - shift).clamp(min=0)
        #: Largest singular value of [X, 1], in units of a row.
        self.root_norm = float(self.values[0].sqrt())
        # A sketch of full rank has no unseen directions.
        self.complete = rank == d

    def scales(self, curvature: Tensor, penalty: Tensor) -> Tensor:
        """Relative inverse eigenvalues of each label's approximate Hessian, shape (rank, L)."""
        # What the penalty adds to the curvature along each direction of the sketch; the intercept is free.
        added = self.basis[:-1].square().T @ penalty.double()
        eigenvalues = self.values[:, None] * curvature.double() + added
        floor = eigenvalues[-1] if not self.complete else eigenvalues.amax(0) * 1e-12
        tiny = torch.finfo(eigenvalues.dtype).tiny
        return eigenvalues[-1].clamp(min=tiny) / torch.maximum(eigenvalues, floor).clamp(min=tiny)

    def apply(self, residual: Tensor, scales: Tensor) -> Tensor:
        """Approximate inverse Hessian times the residual, up to a factor for each label."""
        precise = residual.double()
        coordinates = self.basis.T @ precise
        return torch.addmm(precise, self.basis, coordinates * (scales - 1)).to(residual.dtype)


def _conjugate_gradients(
    features: Features,
    curvature: Tensor,
    gradient: Tensor,
    penalty: Tensor,
    preconditioner: _Preconditioner,
    tolerance: Tensor,
) -> tuple[Tensor, Tensor]:
    """Newton direction of every label, intercept last, and its product with the features."""
    scales = preconditioner.scales(curvature.sum(0), penalty)
    solution = torch.zeros_like(gradient)
    along = torch.zeros_like(curvature)
    residual = -gradient
    z = preconditioner.apply(residual, scales)
    direction = z.clone()
    rz = (residual * z).sum(0)
    running = rz > 0
    decrease = torch.zeros_like(rz)
    for iteration in range(1, min(_MAX_CG, 2 * features.n_features + 10) + 1):
        product = features.matmul(direction[:-1]).add_(direction[-1])
        weighted = product * curvature
        energy = (weighted * product).sum(0) + (penalty * direction[:-1].square()).sum(0)
        running &= energy > 0
        step = torch.where(running, rz / torch.where(energy > 0, energy, 1), 0)
        solution.addcmul_(direction, step)
        along.addcmul_(product, step)
        # Nash and Sofer's test: one more iteration would add little to the decrease of the quadratic model.
        gain = step * rz
        decrease += gain
        running &= iteration * gain > tolerance * decrease
        if not bool(running.any()):
            break
        image = torch.cat([features.rmatmul(weighted).addcmul_(direction[:-1], penalty), weighted.sum(0, keepdim=True)])
        residual.addcmul_(image, -step)
        z = preconditioner.apply(residual, scales)
        new_rz = (residual * z).sum(0)
        running &= new_rz > 0
        direction = torch.addcmul(z, direction, torch.where(running, new_rz / rz.clamp(min=1e-300), 0))
        rz = new_rz
    return solution, along


class _State:
    """Parameters, stored logits and derivatives of the labels that have not converged yet."""

    def __init__(self, problem: LogisticProblem, theta: Tensor, logits: Tensor, scale: float, penalty: Tensor) -> None:
        self.problem, self.theta, self.logits, self.scale, self.penalty = problem, theta, logits, scale, penalty

    def objective(self) -> Tensor:
        """Objective of each label."""
        value = torch.zeros(self.logits.shape[1], dtype=torch.float64, device=self.logits.device)
        for part in self.problem.parts(self.logits.shape[1]):
            s, a = self.problem.block(part)
            x = self.logits[part]
            value += (s * F.softplus(x) - a * x).sum(0, dtype=torch.float64)
        return value * self.scale + 0.5 * (self.penalty * self.theta[:-1].double().square()).sum(0)

    def derivatives(self) -> tuple[Tensor, Tensor]:
        """First and second derivative of the data term in each logit."""
        first = torch.empty_like(self.logits)
        second = torch.empty_like(self.logits)
        for part in self.problem.parts(self.logits.shape[1]):
            s, a = self.problem.block(part)
            p = torch.sigmoid(self.logits[part])
            torch.mul(s, p, out=first[part])
            torch.mul(first[part], 1 - p, out=second[part])
            first[part].sub_(a)
        first *= self.scale
        second *= self.scale
        return first, second

    def line_search(self, direction: Tensor, along: Tensor, slope: Tensor) -> Tensor:
        """Step length of each label: Newton's method on the convex function of the step, safeguarded by a bracket."""
        zero = torch.zeros_like(slope)
        low, high = zero.clone(), torch.full_like(slope, float("inf"))
        step = torch.ones_like(slope)
        weight_slope = (self.penalty * self.theta[:-1] * direction[:-1]).sum(0, dtype=torch.float64)
        weight_curvature = (self.penalty * direction[:-1].square()).sum(0, dtype=torch.float64)
        done = slope >= 0
        for _ in range(_MAX_LINE_SEARCH):
            first, second = zero.clone(), zero.clone()
            length = step.to(self.logits.dtype)
            for part in self.problem.parts(self.logits.shape[1]):
                s, a = self.problem.block(part)
                q = along[part]
                p = torch.sigmoid(torch.addcmul(self.logits[part], q, length))
                sp = s * p
                first += ((sp - a) * q).sum(0, dtype=torch.float64)
                second += (sp * (1 - p) * q * q).sum(0, dtype=torch.float64)
            first = first * self.scale + weight_slope + step * weight_curvature
            second = second * self.scale + weight_curvature
            done |= first.abs() <= 0.1 * slope.abs()
            if bool(done.all()):
                break
            low = torch.where(first < 0, step, low)
            high = torch.where(first >= 0, step, high)
            proposal = step - first / second.clamp(min=1e-300)
            middle = torch.where(torch.isinf(high), 2 * step, 0.5 * (low + high))
            inside = (proposal > low) & (proposal < high) & (proposal < 4 * step)
            step = torch.where(done, step, torch.where(inside, proposal, middle))
        return torch.where(slope >= 0, 0.0, step)


def minimize(
    features: Features,
    problem: LogisticProblem,
    *,
    theta: Tensor,
    scale: float,
    penalty: Tensor,
    tol: float,
    max_iter: int,
    on_iteration: Callable[[Tensor, Tensor, Tensor], bool],
    active: Tensor,
    objectives: Tensor,
    gaps: Tensor,
) -> NewtonResult:
    """Minimise every label's objective to a relative gap.

    Parameters
    ----------
    features : Features
        X, shape (n, d).
    problem : LogisticProblem
        The data term.
    theta : Tensor of shape (d + 1, L)
        Where to start: weights, and intercepts in the last row. Overwritten with the result.
    scale : float
        The factor c of the data term.
    penalty : Tensor of shape (d, 1)
        L2 penalty of each weight, in the units of the features as given here.
    tol : float
        Estimated relative gap at which a label has converged.
    max_iter : int
        Newton steps at most.
    on_iteration : callable
        Called after every step with theta (d + 1, L), objectives (L,), and relative gaps (L,) as
        estimated before the step; True asks to stop.
    active : Tensor of int64
        The labels to fit; the others keep their start.
    objectives, gaps : Tensor of float64, shape (L,)
        Of the others, as reported with those of the labels to fit.

    Returns
    -------
    NewtonResult
        Parameters, and which labels converged.
    """
    eps = torch.finfo(features.dtype).eps
    tol = max(tol, 20 * eps)
    n_labels = theta.shape[1]
    converged = torch.ones(n_labels, dtype=torch.bool, device=theta.device)
    converged[active] = False
    n_iter = 0
    if len(active) and max_iter:
        preconditioner = _Preconditioner(features, problem.row_weight)
        if len(active) < n_labels:
            problem.keep(active)
        start = theta[:, active]
        if bool((start[:-1] != 0).any()):
            logits = features.matmul(start[:-1]).add_(start[-1])
        else:
            logits = start[-1].expand(features.n_rows, -1).clone()
        state = _State(problem, start, logits, scale, penalty)
        value = state.objective()
        forcing = torch.full((len(active),), _FORCING, dtype=features.dtype, device=theta.device)
        best_gap = torch.full((len(active),), float("inf"), dtype=torch.float64, device=theta.device)
        stalled = torch.zeros(len(active), dtype=torch.int64, device=theta.device)
    while len(active) and n_iter < max_iter:
        first, second = state.derivatives()
        gradient = torch.cat([features.rmatmul(first).addcmul_(state.theta[:-1], penalty), first.sum(0, keepdim=True)])
        norm = torch.linalg.vector_norm(gradient, dim=0)
        noise = 10 * eps * preconditioner.root_norm * first.abs().sum(0)
        del first
        direction, along = _conjugate_gradients(features, second, gradient, penalty, preconditioner, forcing)
        del second
        slope = (gradient.double() * direction.double()).sum(0)
        if not bool(torch.isfinite(slope).all() & torch.isfinite(value).all()):
            raise overflow_error(features.dtype)
        gap = 0.5 * slope.abs() / value.abs().clamp(min=torch.finfo(torch.float64).tiny)
        length = state.line_search(direction, along, slope).to(features.dtype)
        state.theta.addcmul_(direction, length)
        state.logits.addcmul_(along, length)
        del along
        value = state.objective()
        n_iter += 1

        theta[:, active] = state.theta
        gaps[active], objectives[active] = gap, value
        # A gap that no longer shrinks has met the rounding of the arithmetic: more steps cannot improve the result.
        stalled = torch.where(gap > 0.5 * best_gap, stalled + 1, 0)
        best_gap = torch.minimum(best_gap, gap)
        # A gap is an estimate: it counts once conjugate gradients have been run long enough to trust it.
        small = (gap <= tol) & (slope < 0)
        solved = small & (forcing < _FORCING) | (stalled >= 3) & (gap <= 1e3 * eps)
        forcing = torch.where(gap <= _CAREFUL * tol, _FORCING_CLOSE, _FORCING).to(forcing)
        # No descent left: at the optimum if the gradient is rounding noise, else beyond the arithmetic.
        solved |= (slope >= 0) & (norm <= noise)
        finished = solved | (slope >= 0)
        converged[active[solved]] = True
        if on_iteration(theta, objectives, gaps):
            break
        if bool(finished.any()):
            keep = torch.nonzero(~finished).squeeze(1)
            active = active[keep]
            best_gap, stalled, value, forcing = best_gap[keep], stalled[keep], value[keep], forcing[keep]
            if len(active):
                problem.keep(keep)
                state.theta = state.theta[:, keep].contiguous()
                state.logits = state.logits[:, keep].contiguous()
    return NewtonResult(theta[:-1].T, theta[-1], n_iter, converged, gaps)
