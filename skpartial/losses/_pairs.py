"""Sums over pairs of a positive and a negative entry in the same row, without a tensor of pairs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from skpartial.losses._base import Step, mean_weight

__all__ = ["Hinge", "Pairs", "Sides", "sides_of"]


class Sides(NamedTuple):
    """The two sides of the pairs of each row, in double precision to sum over thousands of labels.

    The weight of a pair is the geometric mean of the weights of its two entries, so each side holds square roots.
    """

    logits: Tensor  # (n, L)
    present: Tensor  # (n, L), root of the weight of a positive entry, 0 for any other
    absent: Tensor  # (n, L), the same for entries that are negative or treated so
    divisor: Tensor | float

    @property
    def n_absent(self) -> Tensor:
        """Number of negative entries in each row."""
        return (self.absent > 0).sum(1)

    @property
    def n_counted(self) -> Tensor:
        """Number of positive and negative entries in each row."""
        return (self.present > 0).sum(1) + self.n_absent

    def step(self, value: Tensor, gradient: Tensor, dtype: torch.dtype) -> Step:
        """The mean loss and its gradient, from sums over pairs and entries."""
        return Step((value / self.divisor).to(dtype), gradient.div_(self.divisor).to(dtype), {})


def sides_of(logits: Tensor, labels: Tensor, weights: Tensor | None, unknown: str) -> Sides:
    x = logits.detach().double().contiguous()
    sample, divisor = mean_weight(weights, x)
    present = (labels == 1).double()
    absent = (labels == -1 if unknown == "ignore" else labels != 1).double()
    if sample is not None:
        root = sample.sqrt()
        present, absent = present.mul_(root), absent.mul_(root)
    return Sides(x, present, absent, divisor)


class Hinge(NamedTuple):
    """Sums over the negative entries above each threshold; there is one threshold per positive entry."""

    bucket: Tensor  # (n, L), number of thresholds in its row below an entry
    mass: Tensor  # (n, P), sum of the root weights of the entries above
    excess: Tensor  # (n, P), the same sum, each times its distance above


class Pairs:
    """Sums over all pairs of a positive and a negative entry, without a tensor of pairs.

    The positive entries of each row are sorted, and each negative entry is put into the bucket between two of them. The
    sums for a positive entry are then sums over buckets, and the sums for a negative entry are over the positive
    entries below it. This takes time O(L log P) per row with P positives.
    """

    def __init__(self, sides: Sides) -> None:
        self.sides = sides
        present = sides.present > 0
        most = int(present.sum(1).max()) if len(present) else 0
        # Rows with fewer positives are padded with scores that no entry exceeds.
        score = sides.logits.masked_fill(~present, torch.finfo(sides.logits.dtype).max)
        self.score, self.column = score.topk(max(1, most), dim=1, largest=False)
        self.weight = sides.present.gather(1, self.column)
        self._moment = sides.absent * sides.logits

    def hinge(self, margin: float) -> Hinge:
        """The terms max(0, margin - x_p + x_n), summed over n for each p."""
        threshold = self.score - margin
        bucket = torch.searchsorted(threshold, self.sides.logits)
        mass = self._above(self.sides.absent, bucket)
        return Hinge(bucket, mass, self._above(self._moment, bucket) - mass * threshold)

    def violators(self, hinge: Hinge) -> Tensor:
        """Number of negative entries above each threshold, regardless of weight; shape (n, P)."""
        return self._above(self.sides.absent.sign(), hinge.bucket).long()

    def _above(self, values: Tensor, bucket: Tensor) -> Tensor:
        """Sums of values over the entries above each threshold; values are 0 except for negative entries."""
        sums = values.new_zeros(len(values), self.score.shape[1] + 1).scatter_add_(1, bucket, values)
        return sums.flip(1).cumsum(1).flip(1)[:, 1:]

    def gradient(self, hinge: Hinge, coefficient: Tensor) -> Tensor:
        """Derivative in each logit of the sum over positive entries of coefficient times excess."""
        below = torch.nn.functional.pad(coefficient.cumsum(1), (1, 0))
        gradient = below.gather(1, hinge.bucket).mul_(self.sides.absent)
        return gradient.scatter_add_(1, self.column, -coefficient * hinge.mass)
