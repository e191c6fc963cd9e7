r"""The convex problems of a round: one logistic regression per label, on shared features.

With targets t and weights w from the loss, :math:`s = w` and :math:`a = w t`, the objective of label j is

.. math::

    F_j(w, b) = \sum_i \left[ s_{ij} \operatorname{softplus}(x_{ij}) - a_{ij} x_{ij} \right]
    + \frac{\alpha}{2} \lVert w \rVert^2, \quad x_{ij} = f_i \cdot w + b

Derivatives are computed from the smaller of the two class probabilities, :math:`q = \sigma(-\lvert x \rvert)`. For
large :math:`\lvert x \rvert` the other one rounds to 1, but q keeps its digits.

Arrays have one row per label, so that sums over the training rows read contiguous memory. With few features, passes
over the entries take as long as the products with X, so they are made block by block, within the cache.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Self

import torch
from torch import Tensor

from skpartial._processes import ALONE, Processes
from skpartial.features._matrix import BLOCK_BYTES, CHUNK_BYTES
from skpartial.training._targets import FoldedTargets, add_sign_weights, prior_intercepts

__all__ = ["LogisticProblem", "smaller_probability"]


class LogisticProblem:
    """The data terms and penalties of all labels, with weights and targets fixed for this round.

    Parameters
    ----------
    targets : FoldedTargets
        Weights and targets; evaluated once.
    alpha : float
        L2 penalty on the weights of each label.
    dtype, device
        Type and device of the arrays.

    Attributes
    ----------
    s, minus_a : Tensor of shape (L, n)
        s and -a, multiplied by L over the sum of all sample weights, class weights included.
    alpha : Tensor of float64, shape (L,)
        L2 penalties.
    unfitted : Tensor of bool, shape (L,)
        Labels without positives or without negatives, which cannot be fitted.
    prior : Tensor of float64, shape (L,)
        Initial intercepts.
    count : Tensor of int64, shape (L,)
        Number of rows in which each label has non-zero weight.
    entries : Tensor of int64, shape (L,)
        Equal numbers mark labels with equal weights and targets, such as one label with several penalties.
    processes : Processes
        Processes that divide the rows; sums over rows include the rows of all processes.
    """

    processes: Processes = ALONE
    _largest_share = 0

    def __init__(self, targets: FoldedTargets, alpha: float, dtype: torch.dtype, device: torch.device) -> None:
        (n_rows, n_all_labels), n_labels = targets.source.shape, targets.n_labels
        self.alpha = torch.full((n_labels,), alpha, dtype=torch.float64, device=device)
        scale = n_all_labels / targets.source.total_weight()
        self.s, self.minus_a = torch.empty(2, n_labels, n_rows, dtype=dtype, device=device)
        negative, positive = torch.zeros(2, n_labels, dtype=torch.float64, device=device)
        for part, s, a in targets.blocks():
            torch.mul(s.T, scale, out=self.s[:, part])
            torch.mul(a.T, -scale, out=self.minus_a[:, part])
            add_sign_weights(negative, positive, s, a)
        self.unfitted, self.prior = prior_intercepts(negative, positive)
        # Summing in int64 takes six times as long.
        self.count = (self.s > 0).sum(1, dtype=torch.int32).to(torch.int64)
        self.entries = torch.arange(n_labels, device=device)

    @property
    def row_weight(self) -> Tensor:
        """Mean weight of each row over the labels, shape (n,)."""
        return self.s.mean(0)

    @classmethod
    def join(cls, problems: Sequence[Self]) -> Self:
        """Concatenate the labels of several problems on the same rows."""
        if len(problems) == 1:
            return problems[0]
        joined = copy.copy(problems[0])
        for name in ("s", "minus_a", "alpha", "unfitted", "prior", "count"):
            setattr(joined, name, torch.cat([getattr(problem, name) for problem in problems]))
        entries: list[Tensor] = []
        for i, problem in enumerate(problems):
            equal = next((j for j in range(i) if problem._has_equal_entries(problems[j])), None)
            entries.append(problem.entries + sum(map(len, entries)) if equal is None else entries[equal])
        joined.entries = torch.cat(entries)
        return joined

    def _has_equal_entries(self, other: Self) -> bool:
        return torch.equal(self.s, other.s) and torch.equal(self.minus_a, other.minus_a)

    def take(self, labels: Tensor, dtype: torch.dtype | None = None) -> Self:
        """The problem of some labels, given as ascending indices."""
        part = copy.copy(self)
        part.alpha, part.count, part.entries = self.alpha[labels], self.count[labels], self.entries[labels]
        all_labels = len(labels) == len(self.s)
        part.s, part.minus_a = ((x if all_labels else x[labels]).to(dtype or x.dtype) for x in (self.s, self.minus_a))
        return part

    def take_rows(self, rows: Tensor) -> Self:
        """The problem on some rows, given as indices, if all other rows have weight zero."""
        part = copy.copy(self)
        part.s, part.minus_a = self.s[:, rows], self.minus_a[:, rows]
        return part

    def take_own_rows(self, labels: Tensor, rows: Tensor) -> Self:
        """The problem of labels (k,), each on its own rows (k, m)."""
        part = copy.copy(self)
        part.alpha, part.count, part.entries = self.alpha[labels], self.count[labels], self.entries[labels]
        part.s, part.minus_a = (x[labels].gather(1, rows) for x in (self.s, self.minus_a))
        return part

    def share(self, processes: Processes) -> Self:
        """The problem with this process's share of the rows."""
        if processes.size == 1:
            return self
        part, n_rows = copy.copy(self), self.s.shape[1]
        rows = processes.share(n_rows)
        part.s, part.minus_a, part.processes = self.s[:, rows], self.minus_a[:, rows], processes
        part._largest_share = processes.largest_share(n_rows)
        return part

    def blocks(self) -> Iterator[slice]:
        """Slices of labels with about the same number of entries; equal in all processes."""
        n_labels, n_rows = len(self.s), self._largest_share or self.s.shape[1]
        # Small blocks keep temporaries in the CPU's cache; with several processes, each block costs a message.
        small = self.s.device.type == "cpu" and self.processes.size == 1
        size = BLOCK_BYTES if small else CHUNK_BYTES
        step = max(1, size // (self.s.itemsize * n_rows))
        for start in range(0, n_labels, step):
            yield slice(start, min(start + step, n_labels))

    def data_term(self, part: slice, logits: Tensor) -> Tensor:
        """Data terms (k,) of a slice of labels at their logits (k, n), in float64."""
        return self.sum_over_processes(self.local_data_term(part, logits))

    def sum_over_processes(self, sums: Tensor) -> Tensor:
        """Sums over all rows, given the sums over the rows of this process."""
        return self.processes.sum(sums)

    def local_data_term(self, part: slice, logits: Tensor) -> Tensor:
        """Data terms (k,) of a slice of labels, summed over the rows of this process only."""
        terms = _softplus_of_minus_abs(logits).mul_(self.s[part])
        # s p - a, with the probability p rounded to 0 or 1.
        saturated = torch.addcmul(self.minus_a[part], self.s[part], _is_positive(logits))
        return terms.addcmul_(saturated, logits).sum(1).double()

    def residual(self, part: slice, logits: Tensor, q: Tensor) -> Tensor:
        """First derivatives of the data terms of a slice of labels, given their logits and smaller probabilities."""
        positive = _is_positive(logits)
        saturated = torch.addcmul(self.minus_a[part], self.s[part], positive)
        return saturated.addcmul_(self.s[part], positive.mul_(q).mul_(-2).add_(q))

    def curvature(self, part: slice, q: Tensor) -> Tensor:
        """Second derivatives of the data terms of a slice of labels, given their smaller probabilities."""
        return torch.addcmul(q, q, q, value=-1).mul_(self.s[part])


def _is_positive(x: Tensor) -> Tensor:
    """1 where x is positive, else 0, in the type of x; a comparison would need a conversion."""
    return x.sign().clamp_(min=0)


def smaller_probability(logits: Tensor) -> Tensor:
    """Probability of the less likely class: the sigmoid of -|x|."""
    return logits.abs().neg_().sigmoid_()


def _softplus_of_minus_abs(x: Tensor) -> Tensor:
    """Cross-entropy of the more likely class: the logarithm of 1 + exp(-|x|), to the precision of the type of x."""
    u = x.abs().neg_().exp_()
    if x.dtype == torch.float64:
        return u.log1p_()
    # In float32 log1p takes several times as long as log. A first-order term corrects the rounding of 1 + u.
    one_more = u + 1
    result = one_more.log()
    return result.add_(u.sub_(one_more - 1).div_(one_more))
