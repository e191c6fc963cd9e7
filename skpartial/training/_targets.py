"""Targets and weights of a pointwise loss over the whole training set, as the convex problem needs them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from skpartial._state import State
from skpartial.features._base import row_sums
from skpartial.losses import AssumeNegative, Block, IgnoreUnknown, Loss, PointwiseLoss
from skpartial.losses._entrywise import LogitsNeeded
from skpartial.losses._pointwise import Surrogate
from skpartial.training._data import DataSource
from skpartial.training._problem import Problem

# Entries that a rule is asked about at a time.
_BLOCK_ENTRIES = 1 << 20
# What an unknown entry means before there are logits that a loss could look at.
_SIMPLE_RULES: dict[str, type[PointwiseLoss]] = {"ignore": IgnoreUnknown, "absent": AssumeNegative}

__all__ = ["FoldedTargets", "add_masses", "prior_intercepts", "starting_masses", "starting_rule", "target_masses"]


class FoldedTargets:
    r"""Blocks of s = w and a = w t, with the sample weights in them: the entry's loss is s softplus(x) - a x.

    Parameters
    ----------
    problem : Problem
        Gives sample weights, type and device.
    loss : PointwiseLoss
        Gives targets and weights.
    source : DataSource
        The training data of this round.
    logits : Tensor of shape (n, L), or None
        For rules that look at them.
    state : dict of str to Tensor, or None
        The loss's.
    epoch : int
        The round.
    labels : slice, default=all
        Those of which blocks are made. A rule may look at all labels of a row, so that it is asked about all.
    """

    def __init__(
        self,
        problem: Problem,
        loss: PointwiseLoss,
        source: DataSource,
        *,
        logits: Tensor | None = None,
        state: State | None = None,
        epoch: int = 1,
        labels: slice = slice(None),
    ) -> None:
        self.problem, self.loss, self.source = problem, loss, source
        self.logits, self.state, self.epoch, self.labels = logits, state, epoch, labels

    @property
    def n_labels(self) -> int:
        """How many labels the blocks have."""
        return len(range(self.source.shape[1])[self.labels])

    def blocks(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Slices of rows with their s and a, each of shape (b, k) for k labels.

        A rule that looks at the logits may compare all entries with each other, so that it is asked once for all rows;
        another one is asked block by block.
        """
        n_rows, n_labels = self.source.shape
        step = n_rows if self.loss.traits().iterative else max(1, _BLOCK_ENTRIES // n_labels)
        for start in range(0, n_rows, step):
            part = slice(start, min(start + step, n_rows))
            s, a = self._of(part)
            yield part, s[:, self.labels], a[:, self.labels]

    def _of(self, part: slice) -> tuple[Tensor, Tensor]:
        known = self.source.rows(part)
        block = Block(
            known.labels,
            None if self.logits is None else self.logits[part],
            self.state,
            known.rows,
            self.epoch,
            self.problem.dtype,
            known.weights,
        )
        target, rule = self.loss.soft_targets(block, known.targets)
        weights = known.weights
        if weights is None:
            s = torch.ones_like(target) if rule is None else rule.expand_as(target)
        else:
            weights = weights[:, None] if weights.ndim == 1 else weights
            s = (weights if rule is None else rule * weights).expand_as(target)
        return s, s * target


def starting_rule(loss: Loss) -> PointwiseLoss | None:
    """The rule that a loss starts from, which does not look at the logits; None for what is no cross-entropy."""
    if not isinstance(loss, PointwiseLoss):
        return None
    traits = loss.traits()
    if not traits.iterative:
        return loss
    simple = _SIMPLE_RULES.get(traits.unknown)
    return None if simple is None else simple()


def starting_masses(
    problem: Problem, source: DataSource, state: State | None, epoch: int
) -> tuple[Tensor, Tensor] | None:
    """Weights of the absences and of the presences of every label before training; None for what is no cross-entropy.

    Parameters
    ----------
    problem : Problem
        Gives the loss.
    source : DataSource
        The training data of this pass.
    state : dict of str to Tensor, or None
        The loss's.
    epoch : int
        The pass.

    Returns
    -------
    tuple of two Tensors of shape (L,), or None
        As of `target_masses`.
    """
    rule = starting_rule(problem.loss)
    if rule is None:
        return None
    try:
        return target_masses(FoldedTargets(problem, rule, source, state=state, epoch=epoch))
    except LogitsNeeded:
        # A rule may look at them without being convex once its targets are fixed: it starts as an iterative one does.
        simple = _SIMPLE_RULES.get(problem.loss.traits().unknown)
        return None if simple is None else target_masses(FoldedTargets(problem, simple(), source, epoch=epoch))


def target_masses(targets: FoldedTargets) -> tuple[Tensor, Tensor]:
    """Weights of the absences and of the presences of every label, summed up over rows in float64."""
    absent, present = torch.zeros(2, targets.n_labels, dtype=torch.float64, device=targets.problem.device)
    for _, s, a in targets.blocks():
        add_masses(absent, present, s, a)
    return absent, present


def add_masses(absent: Tensor, present: Tensor, s: Tensor, a: Tensor) -> None:
    """Add the weights of a block's absences and presences to those of each label; each is summed up by itself.

    What is left of all weights without the presences would have lost absences far below the digits of these.
    """
    absent += row_sums((s - a).T)
    present += row_sums(a.T)


def prior_intercepts(absent: Tensor, present: Tensor, surrogate: Surrogate = "logistic") -> tuple[Tensor, Tensor]:
    """Which labels have one sign only, or nothing, and the intercept that every label starts from.

    The intercept of a one-sided label has no optimum: it keeps the log odds after half an entry of each sign is added.

    Parameters
    ----------
    absent, present : Tensor of shape (L,)
        Weights of the absences and of the presences.
    surrogate : {"logistic", "squared"}, default="logistic"
        By which an intercept alone is the best.

    Returns
    -------
    unfitted : Tensor of bool, shape (L,)
        Labels that cannot be fitted.
    intercepts : Tensor of float64, shape (L,)
        Log odds; of labels that can be fitted by squared error what is best by that.
    """
    unfitted = (present <= 0) | (absent <= 0)
    odds = torch.where(unfitted, (present + 0.5) / (absent + 0.5), present / absent)
    if surrogate == "squared":
        return unfitted, torch.where(unfitted, odds.log(), 2 * (present - absent) / (present + absent))
    return unfitted, odds.log()
