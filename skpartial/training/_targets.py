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

# Number of entries per block.
_BLOCK_ENTRIES = 1 << 20
# Losses without logits that treat unknown entries in the same way as an iterative loss, which starts from them.
_STARTING_RULES: dict[str, type[PointwiseLoss]] = {"ignore": IgnoreUnknown, "absent": AssumeNegative}

__all__ = [
    "FoldedTargets",
    "add_sign_weights",
    "prior_intercepts",
    "sign_weights",
    "starting_rule",
    "starting_sign_weights",
]


class FoldedTargets:
    r"""Targets t and weights w of all entries, as s = w and a = w t: the loss of an entry is s softplus(x) - a x.

    The weights include sample weights and class weights.

    Parameters
    ----------
    problem : Problem
        The training task, for its type and device.
    loss : PointwiseLoss
        The rule that gives targets and weights.
    source : DataSource
        The training data of this round.
    logits : Tensor of shape (n, L), or None
        Current logits, for rules that depend on them.
    state : dict of str to Tensor, or None
        State of the loss.
    epoch : int
        The current round.
    labels : slice, default=all
        Labels to return. The rule is evaluated for all labels, because it may use whole rows.
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
        """Number of labels in the blocks."""
        return len(range(self.source.shape[1])[self.labels])

    def blocks(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Slices of rows with their s and a, each of shape (b, k) for k labels.

        A rule that depends on the logits may compare entries of different rows: it is evaluated once, for all rows.
        """
        n_rows, n_labels = self.source.shape
        step = n_rows if self.loss.traits().iterative else max(1, _BLOCK_ENTRIES // n_labels)
        for start in range(0, n_rows, step):
            part = slice(start, min(start + step, n_rows))
            s, a = self._rows(part)
            yield part, s[:, self.labels], a[:, self.labels]

    def _rows(self, part: slice) -> tuple[Tensor, Tensor]:
        """Evaluate the rule for a slice of rows: s and a of all labels."""
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
    """The loss itself, or a rule without logits for the first round of an iterative loss; None if not pointwise."""
    if not isinstance(loss, PointwiseLoss):
        return None
    traits = loss.traits()
    if not traits.iterative:
        return loss
    simple = _STARTING_RULES.get(traits.unknown)
    return None if simple is None else simple()


def starting_sign_weights(
    problem: Problem, source: DataSource, state: State | None, epoch: int
) -> tuple[Tensor, Tensor] | None:
    """Total weights of the negatives and positives of each label before training; None if the loss is not pointwise.

    Parameters
    ----------
    problem : Problem
        The training task, for its loss.
    source : DataSource
        The training data of this epoch.
    state : dict of str to Tensor, or None
        State of the loss.
    epoch : int
        The current epoch.

    Returns
    -------
    tuple of two Tensors of shape (L,), or None
        As in `sign_weights`.
    """
    rule = starting_rule(problem.loss)
    if rule is None:
        return None
    try:
        return sign_weights(FoldedTargets(problem, rule, source, state=state, epoch=epoch))
    except LogitsNeeded:
        # A rule may depend on the logits without being iterative: it starts in the same way.
        simple = _STARTING_RULES.get(problem.loss.traits().unknown)
        return None if simple is None else sign_weights(FoldedTargets(problem, simple(), source, epoch=epoch))


def sign_weights(targets: FoldedTargets) -> tuple[Tensor, Tensor]:
    """Total weights (L,) of the negatives and of the positives of each label, in float64."""
    negative, positive = torch.zeros(2, targets.n_labels, dtype=torch.float64, device=targets.problem.device)
    for _, s, a in targets.blocks():
        add_sign_weights(negative, positive, s, a)
    return negative, positive


def add_sign_weights(negative: Tensor, positive: Tensor, s: Tensor, a: Tensor) -> None:
    """Add the weights of the negatives and positives in a block to the totals of each label, in place.

    The totals are separate sums: the difference of the total weight and that of the positives would lose the digits of
    a few negatives.
    """
    negative += row_sums((s - a).T)
    positive += row_sums(a.T)


def prior_intercepts(negative: Tensor, positive: Tensor, surrogate: Surrogate = "logistic") -> tuple[Tensor, Tensor]:
    """Find labels that cannot be fitted, and the best intercept of each label without features.

    A label without positives or without negatives has no optimal intercept, and cannot be fitted. Its intercept is the
    log odds after adding half an entry of each sign.

    Parameters
    ----------
    negative, positive : Tensor of shape (L,)
        Total weights of the negatives and of the positives.
    surrogate : {"logistic", "squared"}, default="logistic"
        The loss that the intercepts minimise.

    Returns
    -------
    unfitted : Tensor of bool, shape (L,)
        Labels without positives or without negatives.
    intercepts : Tensor of float64, shape (L,)
        Log odds; for squared error, the mean of the logits 2 (2 t - 1) if the label can be fitted.
    """
    unfitted = (positive <= 0) | (negative <= 0)
    odds = torch.where(unfitted, (positive + 0.5) / (negative + 0.5), positive / negative)
    if surrogate == "squared":
        return unfitted, torch.where(unfitted, odds.log(), 2 * (positive - negative) / (positive + negative))
    return unfitted, odds.log()
