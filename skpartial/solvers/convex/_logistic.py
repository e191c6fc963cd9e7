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
from typing import Self

import torch
from torch import Tensor

from skpartial._processes import ALONE, Processes
from skpartial.features._matrix import BLOCK_BYTES, CHUNK_BYTES
from skpartial.training._targets import FoldedTargets, add_masses, prior_intercepts

__all__ = ["LogisticProblem", "rarer"]


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
    entries : Tensor of int64, shape (L,)
        The same number for labels whose weights and targets are the same: those of a label under several penalties.
    processes : Processes
        Which share the rows: sums over rows are over those of all of them.
    """

    processes: Processes = ALONE
    _largest_share = 0

    def __init__(self, targets: FoldedTargets, alpha: float, dtype: torch.dtype, device: torch.device) -> None:
        (n_rows, n_all), n_labels = targets.source.shape, targets.n_labels
        self.alpha = torch.full((n_labels,), alpha, dtype=torch.float64, device=device)
        scale = n_all / targets.source.total_weight()
        self.s, self.minus_a = torch.empty(2, n_labels, n_rows, dtype=dtype, device=device)
        absent, present = torch.zeros(2, n_labels, dtype=torch.float64, device=device)
        for part, s, a in targets.blocks():
            torch.mul(s.T, scale, out=self.s[:, part])
            torch.mul(a.T, -scale, out=self.minus_a[:, part])
            add_masses(absent, present, s, a)
        self.unfitted, self.prior = prior_intercepts(absent, present)
        # Sums into int64 take six times as long.
        self.count = (self.s > 0).sum(1, dtype=torch.int32).to(torch.int64)
        self.entries = torch.arange(n_labels, device=device)

    @property
    def row_weight(self) -> Tensor:
        """What each row counts for in a typical label, shape (n,)."""
        return self.s.mean(0)

    @classmethod
    def join(cls, problems: Sequence[Self]) -> Self:
        """Problems on the same rows as one, label after label."""
        if len(problems) == 1:
            return problems[0]
        joined = copy.copy(problems[0])
        for name in ("s", "minus_a", "alpha", "unfitted", "prior", "count"):
            setattr(joined, name, torch.cat([getattr(problem, name) for problem in problems]))
        entries: list[Tensor] = []
        for i, problem in enumerate(problems):
            like = next((j for j in range(i) if problem._has_entries_of(problems[j])), None)
            entries.append(problem.entries + sum(map(len, entries)) if like is None else entries[like])
        joined.entries = torch.cat(entries)
        return joined

    def _has_entries_of(self, other: Self) -> bool:
        return torch.equal(self.s, other.s) and torch.equal(self.minus_a, other.minus_a)

    def take(self, labels: Tensor, dtype: torch.dtype | None = None) -> Self:
        """The same problem for some of its labels, given as rising indices."""
        part = copy.copy(self)
        part.alpha, part.count, part.entries = self.alpha[labels], self.count[labels], self.entries[labels]
        everything = len(labels) == len(self.s)
        part.s, part.minus_a = ((x if everything else x[labels]).to(dtype or x.dtype) for x in (self.s, self.minus_a))
        return part

    def take_rows(self, rows: Tensor) -> Self:
        """The same problem without rows that weigh nothing, given the indices of the others."""
        part = copy.copy(self)
        part.s, part.minus_a = self.s[:, rows], self.minus_a[:, rows]
        return part

    def take_own_rows(self, labels: Tensor, rows: Tensor) -> Self:
        """The problem of labels (k,), each on the rows (k, m) of its own."""
        part = copy.copy(self)
        part.alpha, part.count, part.entries = self.alpha[labels], self.count[labels], self.entries[labels]
        part.s, part.minus_a = (x[labels].gather(1, rows) for x in (self.s, self.minus_a))
        return part

    def share(self, processes: Processes) -> Self:
        """The same problem, with the rows that are this process's share."""
        if processes.size == 1:
            return self
        part, n_rows = copy.copy(self), self.s.shape[1]
        own = processes.share(n_rows)
        part.s, part.minus_a, part.processes = self.s[:, own], self.minus_a[:, own], processes
        part._largest_share = processes.largest_share(n_rows)
        return part

    def blocks(self) -> Iterator[slice]:
        """Slices of labels whose entries are about as many; the same in all processes."""
        n_labels, n_rows = len(self.s), self._largest_share or self.s.shape[1]
        # On the CPU temporaries of a pass then stay in the processor's cache, but every message takes its time.
        small = self.s.device.type == "cpu" and self.processes.size == 1
        size = BLOCK_BYTES if small else CHUNK_BYTES
        step = max(1, size // (self.s.itemsize * n_rows))
        for start in range(0, n_labels, step):
            yield slice(start, min(start + step, n_labels))

    def data_term(self, part: slice, logits: Tensor) -> Tensor:
        """Data terms of a slice of labels in float64, shape (k,), at their logits (k, n)."""
        return self.over_rows(self.own_data_term(part, logits))

    def over_rows(self, sums: Tensor) -> Tensor:
        """Sums over all rows, from those over the rows of this process."""
        return self.processes.sum(sums)

    def own_data_term(self, part: slice, logits: Tensor) -> Tensor:
        """What the rows of this process add to the data terms."""
        terms = _surprise(logits).mul_(self.s[part])
        at_ends = torch.addcmul(self.minus_a[part], self.s[part], _is_positive(logits))
        return terms.addcmul_(at_ends, logits).sum(1).double()

    def residual(self, part: slice, logits: Tensor, q: Tensor) -> Tensor:
        """First derivatives of the data terms of a slice of labels in their logits, whose rarer signs have q."""
        positive = _is_positive(logits)
        at_ends = torch.addcmul(self.minus_a[part], self.s[part], positive)
        return at_ends.addcmul_(self.s[part], positive.mul_(q).mul_(-2).add_(q))

    def curvature(self, part: slice, q: Tensor) -> Tensor:
        """Second derivatives of the data terms of a slice of labels in logits whose rarer signs have q."""
        return torch.addcmul(q, q, q, value=-1).mul_(self.s[part])


def _is_positive(x: Tensor) -> Tensor:
    """1 where x is above zero and 0 elsewhere, in its type, which comparisons would have to be converted to."""
    return x.sign().clamp_(min=0)


def rarer(logits: Tensor) -> Tensor:
    """Probability of the sign that logits speak against."""
    return logits.abs().neg_().sigmoid_()


def _surprise(x: Tensor) -> Tensor:
    """Cross-entropy of the sign that logits speak for, the logarithm of 1 + exp(-|x|), to the digits of its type."""
    u = x.abs().neg_().exp_()
    if x.dtype == torch.float64:
        return u.log1p_()
    # In float32 log1p takes several times as long as log. What rounding 1 + u takes from u is put back.
    one_more = u + 1
    result = one_more.log()
    return result.add_(u.sub_(one_more - 1).div_(one_more))
