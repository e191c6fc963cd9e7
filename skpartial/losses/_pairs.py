"""Pairs of a present and an absent entry of the same row, summed over without a tensor of pairs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from skpartial.losses._base import Step, mean_weight

__all__ = ["Hinge", "Pairs", "Sides", "sides_of"]


class Sides(NamedTuple):
    """The two sides of the pairs of each row, in double precision: sums over thousands of labels keep their digits.

    A pair weighs the geometric mean of its two entries' weights, hence the roots: they multiply to the pair's weight.
    """

    logits: Tensor  # (n, L)
    present: Tensor  # (n, L), root of the weight of a present entry, 0 for any other
    absent: Tensor  # (n, L), the same of entries that are absent or read so
    divisor: Tensor | float

    @property
    def n_absent(self) -> Tensor:
        """Absent entries in each row."""
        return (self.absent > 0).sum(1)

    @property
    def n_counted(self) -> Tensor:
        """Present and absent entries in each row."""
        return (self.present > 0).sum(1) + self.n_absent

    def step(self, value: Tensor, gradient: Tensor, dtype: torch.dtype) -> Step:
        """The mean that the sums over pairs and entries make."""
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
    """What the absent entries above a threshold add up to; one threshold for each present entry."""

    bucket: Tensor  # (n, L), how many thresholds of its row an entry is above
    mass: Tensor  # (n, P), sum of the root weights of the entries above
    excess: Tensor  # (n, P), sum of these times how far each is above


class Pairs:
    """Sums over all pairs of a present and an absent entry, without a tensor of pairs.

    The present entries of each row are sorted, and each absent entry is put between two of them; what a present entry
    sees are then sums over buckets, and what an absent entry sees, sums over the present entries below it. That takes
    O(L log P) for a row with P presences.
    """

    def __init__(self, sides: Sides) -> None:
        self.sides = sides
        present = sides.present > 0
        most = int(present.sum(1).max()) if len(present) else 0
        # Rows with fewer presences end in scores that nothing is above.
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
        """How many absent entries are above each threshold, whatever they weigh; shape (n, P)."""
        return self._above(self.sides.absent.sign(), hinge.bucket).long()

    def _above(self, values: Tensor, bucket: Tensor) -> Tensor:
        """Sums over the entries above each threshold, of values that are 0 but for absent entries."""
        sums = values.new_zeros(len(values), self.score.shape[1] + 1).scatter_add_(1, bucket, values)
        return sums.flip(1).cumsum(1).flip(1)[:, 1:]

    def gradient(self, hinge: Hinge, coefficient: Tensor) -> Tensor:
        """Derivative in each logit of the excess of each present entry, times a coefficient, summed."""
        below = torch.nn.functional.pad(coefficient.cumsum(1), (1, 0))
        gradient = below.gather(1, hinge.bucket).mul_(self.sides.absent)
        return gradient.scatter_add_(1, self.column, -coefficient * hinge.mass)
