"""Joint nonnegative orthogonal matching pursuit: reconstruct the labels and features of a row from a few other rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skpartial._checks import check_choice, check_number, check_unmasked, check_whole

__all__ = ["MODES", "JointPursuit", "Mode", "joint_nnomp", "pursue"]

Mode = Literal["paper", "code"] | None
MODES: tuple[Mode, ...] = (None, "paper", "code")

# Number of pairs of a query and an atom that are scored at a time.
_BLOCK_PAIRS = 1 << 24
# Singular values of the chosen atoms below this share of the largest count as zero: they are rounding errors.
_RANK_TOLERANCE = 1e-5
# From the released code: the least score of a choice, and the distance within which a row counts as the query itself.
_CODE_THRESHOLD, _CODE_SAME = 1e-3, 1e-3


class JointPursuit(NamedTuple):
    """Result of a pursuit: for each of b queries up to k atoms, in the order of choice.

    Parameters
    ----------
    support : array of int64, shape (b, k)
        Indices of the chosen rows of the dictionary, then -1.
    label_coef, feature_coef : array of shape (b, k)
        Coefficients of the labels and of the features of these rows; 0 where there is no row.
    label_residual : array of shape (b, L)
        Residual of the labels.
    feature_residual : array of shape (b, d)
        Residual of the features.
    """

    support: Any
    label_coef: Any
    feature_coef: Any
    label_residual: Any
    feature_residual: Any


#: Arguments: inner products of the chosen atoms, (b, s, s), and with the queries, (b, s), and the last coefficients.
_Solve = Callable[[Tensor, Tensor, Tensor], Tensor]


def _least_squares(gram: Tensor, products: Tensor, last: Tensor) -> Tensor:
    """Least-squares coefficients, of the smallest norm where atoms are linearly dependent."""
    inverse = torch.linalg.pinv(gram, rtol=_RANK_TOLERANCE**2, hermitian=True)
    return (inverse @ products[:, :, None]).squeeze(2)


def _clipped_least_squares(gram: Tensor, products: Tensor, last: Tensor) -> Tensor:
    """Least-squares coefficients, with negative ones set to 0."""
    return _least_squares(gram, products, last).clamp(min=0)


def _nonnegative_least_squares(gram: Tensor, products: Tensor, last: Tensor) -> Tensor:
    """Nonnegative least-squares coefficients, by the active-set method of Lawson and Hanson.

    For every query, the method solves for the coefficients that are free to be positive. If one would become negative,
    the move towards the solution stops where that coefficient is 0, and it is no longer free. Then the coefficient that
    reduces the residual most becomes free. The method starts from the last coefficients.
    """
    length = gram.diagonal(dim1=1, dim2=2).sqrt()
    length = torch.where(length > 0, length, 1)  # zero for queries that have stopped
    gram, products = gram / (length[:, :, None] * length[:, None]), products / length
    coef, negligible = last * length, _RANK_TOLERANCE**2 * products.abs().amax(1, keepdim=True)
    free = coef > 0
    for _ in range(3 * gram.shape[1]):
        descent = (products - (gram @ coef[:, :, None]).squeeze(2)).masked_fill_(free, 0)
        steepest, entering = descent.max(1, keepdim=True)
        if not bool((steepest > negligible).any()):
            break
        free = free.scatter(1, entering, _at(free, entering.squeeze(1))[:, None] | (steepest > negligible))
        for _ in range(gram.shape[1]):
            solved = _solve_free(gram, products, free)
            wrong = free & (solved <= 0)
            share = torch.where(wrong, coef / (coef - solved).clamp(min=torch.finfo(coef.dtype).tiny), 1)
            step = share.amin(1, keepdim=True)
            free = free & ~(wrong & (share <= step))
            coef = ((coef + step * (solved - coef)) * free).clamp_(min=0)
            if not bool(wrong.any()):
                break
    return coef / length


def _solve_free(gram: Tensor, products: Tensor, free: Tensor) -> Tensor:
    """Least squares over the free coefficients; the others are 0."""
    gram, products = gram * (free[:, :, None] & free[:, None]), products * free
    # A tiny ridge divides the fit evenly among equal atoms; one more solve of its residual removes the bias.
    diagonal = torch.ones_like(products).masked_fill_(free, _RANK_TOLERANCE**2)
    system = gram + torch.diag_embed(diagonal)
    solved = torch.linalg.solve(system, products)
    return solved + torch.linalg.solve(system, products - (gram @ solved[:, :, None]).squeeze(2))


class _Side:
    """Labels or features: one of the two reconstructions, which choose their atoms together.

    Parameters
    ----------
    atoms : Tensor of shape (m, p)
        The dictionary.
    queries : Tensor of shape (b, p)
        The rows to reconstruct.
    weight : float
        Weight of this side in the choice.
    n_atoms : int
        Maximal number of atoms.
    """

    def __init__(self, atoms: Tensor, queries: Tensor, weight: float, n_atoms: int) -> None:
        self.atoms, self.queries, self.weight = atoms, queries, weight
        self.residual = queries
        self.coef = queries.new_zeros(len(queries), n_atoms)
        self._chosen = queries.new_zeros(len(queries), n_atoms, queries.shape[1])
        self._squared = atoms.square().sum(1)
        # Inner products below this are rounding errors.
        rounding = 100 * torch.finfo(queries.dtype).eps
        self._negligible = rounding * queries.norm(dim=1)[:, None] * self._squared.sqrt()

    def correlations(self) -> Tensor:
        """Inner products of the residual with every atom, (b, m); 0 where negligible."""
        products = self.residual @ self.atoms.T
        return products.masked_fill_(products.abs() <= self._negligible, 0)

    def gains(self, correlations: Tensor) -> Tensor:
        """Reduction of the squared residual by every atom alone, times the weight, (b, m)."""
        # An atom of zeros has gain 0.
        return self.weight * correlations.square() / self._squared.clamp(min=torch.finfo(self.atoms.dtype).tiny)

    def add(self, step: int, chosen: Tensor, going: Tensor, solve: _Solve) -> None:
        """Add an atom for the queries that continue, and solve for all coefficients again."""
        self._chosen[:, step] = self.atoms[chosen] * going[:, None]
        used = self._chosen[:, : step + 1]
        wide = used.double()
        products = (wide @ self.queries.double()[:, :, None]).squeeze(2)
        found = solve(wide @ wide.mT, products, self.coef[:, : step + 1].double()).to(used.dtype)
        self.coef[:, : step + 1] = found
        self.residual = self.queries - (found[:, None] @ used).squeeze(1)


class _Choice(NamedTuple):
    """The next atom of every query, and whether to take it; both of shape (b,)."""

    chosen: Tensor
    accepted: Tensor


#: Arguments: the sides, masks of atoms already taken and of excluded ones, (b, m), and the step; returns the next
#: atoms.
_Rule = Callable[[tuple[_Side, _Side], Tensor, Tensor, int], _Choice]


def _sensible_rule(sides: tuple[_Side, _Side], taken: Tensor, excluded: Tensor, step: int) -> _Choice:
    """The largest gain among the atoms with positive inner products with both residuals."""
    total, allowed = torch.zeros_like(taken, dtype=sides[0].atoms.dtype), ~(taken | excluded)
    for side in sides:
        if side.weight > 0:
            correlations = side.correlations()
            allowed &= correlations > 0
            total += side.gains(correlations)
    best = total.masked_fill_(~allowed, -1).max(1)
    return _Choice(best.indices, best.values > 0)


def _paper_rule(sides: tuple[_Side, _Side], taken: Tensor, excluded: Tensor, step: int) -> _Choice:
    """The largest gain of all atoms, not taken if that atom has a negative inner product with a residual."""
    correlations = [side.correlations() for side in sides]
    total = sum(side.gains(c) for side, c in zip(sides, correlations))
    assert isinstance(total, Tensor)
    chosen = total.masked_fill_(excluded, -1).argmax(1)
    along = torch.stack([c.gather(1, chosen[:, None]).squeeze(1) for c in correlations]) > 0
    return _Choice(chosen, along.all(0) & ~_at(taken | excluded, chosen))


def _code_rule(sides: tuple[_Side, _Side], taken: Tensor, excluded: Tensor, step: int) -> _Choice:
    """The largest gain, after doubling gains where both sides agree and cancelling them where they do not."""
    correlations = [side.correlations() for side in sides]
    total = sum(side.gains(c) for side, c in zip(sides, correlations))
    signs = sum(c.sign() * (side.weight > 0) for side, c in zip(sides, correlations))
    assert isinstance(total, Tensor)
    best = (total * signs).masked_fill_(excluded, -torch.inf).max(1)
    # As in the released code, on which its results depend: empty slots count as atom 0.
    first = best.indices == 0 if step > 0 else torch.zeros_like(best.indices, dtype=torch.bool)
    return _Choice(best.indices, (best.values >= _CODE_THRESHOLD) & ~first & ~_at(taken, best.indices))


def _at(mask: Tensor, column: Tensor) -> Tensor:
    """One entry per row."""
    return mask.gather(1, column[:, None]).squeeze(1)


#: The rule and the solver of each mode.
_RULES: dict[Mode, tuple[_Rule, _Solve]] = {
    None: (_sensible_rule, _nonnegative_least_squares),
    "paper": (_paper_rule, _clipped_least_squares),
    "code": (_code_rule, _least_squares),
}


def pursue(
    atoms: tuple[Tensor, Tensor],
    queries: tuple[Tensor, Tensor],
    weights: tuple[float, float],
    n_atoms: int,
    *,
    mode: Mode = None,
    excluded: Tensor | None = None,
) -> JointPursuit:
    """Run the pursuit on tensors of one type and device; labels come before features.

    Parameters
    ----------
    atoms : tuple of Tensor, shapes (m, L) and (m, d)
        The dictionary.
    queries : tuple of Tensor, shapes (b, L) and (b, d)
        The rows to reconstruct.
    weights : tuple of float
        Weights of labels and features in the choice of atoms.
    n_atoms : int
        Maximal number of atoms per query.
    mode : {None, "paper", "code"}, default=None
        As in `joint_nnomp`.
    excluded : Tensor of bool, shape (b, m), or None, default=None
        Atoms that a query may not choose.

    Returns
    -------
    JointPursuit
        The result, as tensors.
    """
    n_queries, size = len(queries[0]), max(1, _BLOCK_PAIRS // max(1, len(atoms[0])))
    if excluded is None:
        excluded = torch.zeros(n_queries, len(atoms[0]), dtype=torch.bool, device=atoms[0].device)
    if n_queries > size:
        blocks = zip(queries[0].split(size), queries[1].split(size), excluded.split(size))
        parts = [pursue(atoms, (y, f), weights, n_atoms, mode=mode, excluded=out) for y, f, out in blocks]
        return JointPursuit(*(torch.cat(found) for found in zip(*parts)))
    if mode == "code":
        largest = max(weights) + 1e-4
        weights = (weights[0] / largest, weights[1] / largest)
        # Not by matrix products, which lose precision for short distances between long vectors.
        distances = torch.cdist(queries[1], atoms[1], compute_mode="donot_use_mm_for_euclid_dist")
        excluded = excluded | (distances < _CODE_SAME)
    sides = (
        _Side(atoms[0], queries[0], weights[0], n_atoms),
        _Side(atoms[1], queries[1], weights[1], n_atoms),
    )
    support = torch.full((n_queries, n_atoms), -1, device=excluded.device)
    taken, going = torch.zeros_like(excluded), torch.ones_like(excluded[:, :1]).any(1)
    if not len(atoms[0]):
        going[:] = False
    rule, solve = _RULES[mode]
    for step in range(n_atoms):
        if not bool(going.any()):
            break
        chosen, accepted = rule(sides, taken, excluded, step)
        going = going & accepted
        taken.scatter_(1, chosen[:, None], going[:, None] | _at(taken, chosen)[:, None])
        support[:, step] = torch.where(going, chosen, -1)
        for side in sides:
            side.add(step, chosen, going, solve)
    labels, features = sides
    return JointPursuit(support, labels.coef, features.coef, labels.residual, features.residual)


def _checked(name: str, value: Any) -> Tensor:
    """Check that a value is a matrix of finite numbers, and convert it."""
    check_unmasked(name, value)
    tensor = value.detach() if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    if tensor.ndim != 2 or tensor.is_complex():
        raise ValueError(f"{name} must be a matrix of real numbers, got {tensor.dtype} of shape {tuple(tensor.shape)}.")
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"{name} must hold finite numbers only.")
    return tensor


def joint_nnomp(
    features: Any,
    labels: Any,
    query_features: Any,
    query_labels: Any,
    *,
    n_atoms: int,
    label_weight: float,
    feature_weight: float,
    mode: Mode = None,
) -> JointPursuit:
    r"""Joint nonnegative orthogonal matching pursuit over features and labels.

    Find at most k rows of a dictionary whose weighted labels sum to the labels y of a query, and whose weighted
    features sum to the features f of the query, with separate coefficients:

    .. math::

        \min_{S, c, \bar c} \; \lambda_y \lVert y - \sum_{i \in S} c_i y_i \rVert^2
        + \lambda_f \lVert f - \sum_{i \in S} \bar c_i f_i \rVert^2,
        \quad c, \bar c \ge 0, \; |S| \le k

    Rows join the support S one by one. With residuals :math:`r_y` and :math:`r_f`, every row is scored by

    .. math::

        \lambda_y \frac{\langle r_y, y_i \rangle^2}{\lVert y_i \rVert^2}
        + \lambda_f \frac{\langle r_f, f_i \rangle^2}{\lVert f_i \rVert^2}

    and after each choice all coefficients of the support are solved for again, so that residuals never grow. All
    queries are processed together.

    Parameters
    ----------
    features : array-like or Tensor, shape (m, d)
        Features of the dictionary, used unchanged: no constant is added.
    labels : array-like or Tensor, shape (m, L)
        Labels of the dictionary: numeric values to be summed, with numbers in place of unknown entries.
    query_features : array-like or Tensor, shape (b, d)
        Features of the queries.
    query_labels : array-like or Tensor, shape (b, L)
        Labels of the queries.
    n_atoms : int
        Maximal number k of rows per query.
    label_weight, feature_weight : float
        Weights of labels and features in the choice, at least 0 and not both 0. A side of weight 0 has no influence on
        the choice, and is reconstructed from the rows that the other side chose.
    mode : {None, "paper", "code"}, default=None
        How rows and coefficients are chosen. None takes the best row among those with positive inner products with both
        residuals, and stops if there is none; coefficients are from nonnegative least squares. "paper" is Algorithm 2
        as printed: it takes the best of all rows, and stops if a residual has a negative inner product with that row,
        often before any choice; coefficients are from least squares, set to 0 where negative, so that a residual may
        grow. "code" follows the released code: scores are doubled where both inner products are positive, 0 where their
        signs differ, and negative where both are negative; weights are divided by the larger one plus 1e-4; a choice
        needs a score of 1e-3; rows with features within 1e-3 of the query are left out; row 0 is chosen first or never;
        and coefficients may be negative.

    Returns
    -------
    JointPursuit
        A named tuple `(support, label_coef, feature_coef, label_residual, feature_residual)`; `support` holds indices
        in the order of choice, then -1. Its items are tensors if `features` is one, else arrays.

    Raises
    ------
    ValueError
        If shapes do not match, values are not finite, or a parameter is out of range.

    Notes
    -----
    If a query is a row of the dictionary, the pursuit chooses that row: leave it out of the dictionary.

    Rows with similar labels make least squares ill-conditioned, with large coefficients of both signs that cancel each
    other. On real labels, setting the negative ones to 0 often makes the residual larger than before; the default
    therefore does not do so. A step costs a product of the residuals with the dictionary, 2 b m (L + d) operations.

    References
    ----------
    .. [1] D. Huynh, E. Elhamifar, "Interactive Multi-Label CNN Learning with Partial Labels", CVPR 2020, Algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial.regularizers import joint_nnomp
    >>> features, labels = np.eye(3), np.array([[1.0, 0], [0, 1], [-1, 0]])
    >>> found = joint_nnomp(
    ...     features, labels, [[0.5, 2, 0.4]], [[0.6, 1]], n_atoms=3, label_weight=1.0, feature_weight=0.5
    ... )
    >>> found.support  # the last row has the features, but not the labels
    array([[ 1,  0, -1]])
    >>> found.label_coef.round(2), found.feature_residual.round(2)
    (array([[1. , 0.6, 0. ]]), array([[0. , 0. , 0.4]]))
    """
    check_whole(None, "n_atoms", n_atoms, 1)
    weights = (
        check_number(None, "label_weight", label_weight, "[0, inf)"),
        check_number(None, "feature_weight", feature_weight, "[0, inf)"),
    )
    if not any(weights):
        raise ValueError("label_weight and feature_weight must not both be 0: all rows would score 0.")
    check_choice(None, "mode", mode, MODES)
    named = {"features": features, "labels": labels, "query_features": query_features, "query_labels": query_labels}
    F, Y, f, y = (_checked(name, value) for name, value in named.items())
    for what, (name, one), (other_name, other), axis in (
        ("rows", ("features", F), ("labels", Y), 0),
        ("rows", ("query_features", f), ("query_labels", y), 0),
        ("columns", ("features", F), ("query_features", f), 1),
        ("columns", ("labels", Y), ("query_labels", y), 1),
    ):
        if one.shape[axis] != other.shape[axis]:
            raise ValueError(
                f"{name} and {other_name} must have the same number of {what}, got {one.shape[axis]} and "
                f"{other.shape[axis]}."
            )
    dtype = torch.promote_types(torch.promote_types(F.dtype, Y.dtype), torch.promote_types(f.dtype, y.dtype))
    if not dtype.is_floating_point:
        dtype = torch.float64
    elif dtype.itemsize < 4:
        dtype = torch.float32
    F, Y, f, y = (part.to(device=F.device, dtype=dtype) for part in (F, Y, f, y))
    found = pursue((Y, F), (y, f), weights, n_atoms, mode=mode)
    return found if isinstance(features, Tensor) else JointPursuit(*(part.numpy() for part in found))
