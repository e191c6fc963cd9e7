"""Where a loss keeps its own estimates of the labels: a table, a factorised table, or a small network."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from skpartial._state import State, StateTensor

__all__ = ["ESTIMATORS", "CountPenalty", "EstimateNetwork", "Factorized", "LabelEstimator", "Table", "best_estimates"]

#: Estimates start within [0.4, 0.6] where nothing is known, and at 0.995 or 0.005 where it is.
UNKNOWN_RANGE = math.log(0.6 / 0.4)
KNOWN_LOGIT = math.log(0.995 / 0.005)
# Estimates handed from one stage of training to the next stay within these.
_CLIPPED_LOGIT = math.log((1 - 1e-5) / 1e-5)
# Towards the mean estimate of a batch, at most: its equation is close to linear unless the penalty is very strong.
_NEWTON_STEPS = 40


class Estimates(NamedTuple):
    """The estimates of a batch, and what their derivatives need.

    Parameters
    ----------
    logits : Tensor of shape (b, L)
        Log odds of the estimates.
    saved : tuple of Tensor
        Of the estimator.
    """

    logits: Tensor
    saved: tuple[Tensor, ...]


class CountPenalty(NamedTuple):
    """The penalty on the mean number of presences in a batch.

    Parameters
    ----------
    share : float
        The share k / L of entries that are expected to be present.
    weight : float
        Its weight.
    sample : Tensor broadcastable to (b, L), or None
        Weights of the entries.
    """

    share: float
    weight: float
    sample: Tensor | None


def best_estimates(labels: Tensor, logits: Tensor, penalty: CountPenalty) -> Tensor:
    r"""Log odds of the estimates that minimise their own terms of the loss of a batch, for given logits.

    With the target t that cross-entropy alone draws an estimate to (p where nothing is known, half-way to the label
    where it is known), a batch's minimum has

    .. math:: q - t + c_{ij} \, q (1 - q) = 0, \quad c_{ij} = \frac{2 \lambda (\bar q - k / L)}{1 + [ij \text{ known}]}

    so that every q follows from the one number c, and that from the mean of q by Newton's method.

    Parameters
    ----------
    labels : Tensor of shape (b, L)
        Values in {-1, 0, 1}.
    logits : Tensor of shape (b, L)
        The classifier's.
    penalty : CountPenalty
        The penalty on the number of presences.

    Returns
    -------
    Tensor of shape (b, L)
        Log odds of the estimates.
    """
    present, known = (labels == 1).to(logits.dtype), (labels != 0).to(logits.dtype)
    share = 1 / (1 + known)
    smallest = torch.finfo(logits.dtype).tiny
    t = torch.sigmoid(logits).add_(present).mul_(share).clamp_(min=smallest)
    v = torch.sigmoid(-logits).add_(known - present).mul_(share).clamp_(min=smallest)  # 1 - t, to full precision
    sample = None if penalty.sample is None else penalty.sample.mean(1, keepdim=True)
    total = 1.0 if sample is None else float(sample.sum().clamp(min=smallest)) * t.shape[1]

    def mean(values: Tensor) -> float:
        return float(values.mean() if sample is None else (values * sample).sum() / total)

    def solve(pull: float) -> tuple[Tensor, Tensor, Tensor]:
        """The root q of its quadratic, 1 - q, and the root of its discriminant, which is also its slope there."""
        c = pull * share
        root = ((1 + c).square() - 4 * c * t).clamp_(min=0).sqrt_()
        # Each of the two as a quotient without cancellation where there is one, else as what the other leaves.
        q, u = 2 * t / (1 + c + root), 2 * v / (1 - c + root)
        return torch.where(c < -1, 1 - u, q), torch.where(c > 1, 1 - q, u), root

    strength = 2 * penalty.weight
    low, high = -strength * penalty.share, strength * (1 - penalty.share)
    pull = min(max(strength * (mean(t) - penalty.share), low), high)
    for _ in range(_NEWTON_STEPS):
        q, u, root = solve(pull)
        excess = pull - strength * (mean(q) - penalty.share)
        if abs(excess) <= 1e-7 * max(1.0, strength):
            break
        # The excess rises with c: whatever Newton's step says, the root is on its other side.
        low, high = (low, pull) if excess > 0 else (pull, high)
        step = pull - excess / (1 + strength * mean(share * q * u / root.clamp(min=1e-6)))
        pull = step if low < step < high else (low + high) / 2
    q, u, _ = solve(pull)
    return q.clamp(min=smallest).log_() - u.clamp(min=smallest).log_()


class LabelEstimator(ABC):
    """Base class of estimators: from rows of the training set to the log odds of label estimates.

    Parameters
    ----------
    rank : int
        Width of the factors, or of the hidden layer.
    rate : float
        Learning rate, as a multiple of the classifier's.
    dtype : torch.dtype
        Type in which what belongs to rows is kept.
    """

    def __init__(self, rank: int, rate: float, dtype: torch.dtype) -> None:
        self.rank, self.rate, self.dtype = rank, rate, dtype

    @abstractmethod
    def n_bytes(self, n_rows: int, n_labels: int) -> int:
        """Memory of the parameters, and of an optimiser's two moments of each."""

    @abstractmethod
    def spec(self) -> dict[str, StateTensor]:
        """How the training loop treats the parameters."""

    @abstractmethod
    def start(self, labels: Tensor, generator: torch.Generator | None) -> State:
        """Parameters for a training set whose labels (N, L) are dense, or sparse CSR."""

    def resume(self, previous: State, labels: Tensor) -> State:
        """Parameters from those of an earlier stage of training, on labels of which more may be known by now."""
        return {name: previous[name].detach().clone() for name in self.spec()}

    @abstractmethod
    def forward(
        self, state: State, rows: Tensor | None, labels: Tensor, logits: Tensor, penalty: CountPenalty
    ) -> Estimates:
        """Estimates of a batch, from its labels, the classifier's logits (b, L) and the penalty on their number."""

    @abstractmethod
    def backward(self, state: State, rows: Tensor | None, saved: tuple[Tensor, ...], upstream: Tensor) -> State:
        """Derivatives in the parameters, from those in the logits of the estimates; of row tensors in these rows."""


def _of(tensor: Tensor, rows: Tensor | None, dtype: torch.dtype) -> Tensor:
    return (tensor if rows is None else tensor[rows]).to(dtype)


class Table(LabelEstimator):
    """One logit for every entry of the training set."""

    def n_bytes(self, n_rows: int, n_labels: int) -> int:
        return 3 * n_rows * n_labels * self.dtype.itemsize

    def spec(self) -> dict[str, StateTensor]:
        return {
            "estimate_logits": StateTensor(learned=True, learning_rate_multiplier=self.rate, per_row=True, logits=True)
        }

    def start(self, labels: Tensor, generator: torch.Generator | None) -> State:
        dense = labels.to_dense() if labels.layout == torch.sparse_csr else labels
        logits = torch.empty(dense.shape, dtype=torch.float32)
        logits.uniform_(-UNKNOWN_RANGE, UNKNOWN_RANGE, generator=generator)
        logits[dense == 1] = KNOWN_LOGIT
        logits[dense == -1] = -KNOWN_LOGIT
        return {"estimate_logits": logits.to(self.dtype)}

    def resume(self, previous: State, labels: Tensor) -> State:
        """Estimates from an earlier stage of training; one that turned out to be wrong starts again from its label."""
        clipped = previous["estimate_logits"].detach().clamp(-_CLIPPED_LOGIT, _CLIPPED_LOGIT)
        known = (labels.to_dense() if labels.layout == torch.sparse_csr else labels).to(clipped)
        clipped = torch.where(known * clipped < 0, KNOWN_LOGIT * known, clipped)
        return {"estimate_logits": clipped.to(self.dtype, copy=True)}

    def forward(
        self, state: State, rows: Tensor | None, labels: Tensor, logits: Tensor, penalty: CountPenalty
    ) -> Estimates:
        return Estimates(_of(state["estimate_logits"], rows, logits.dtype), ())

    def backward(self, state: State, rows: Tensor | None, saved: tuple[Tensor, ...], upstream: Tensor) -> State:
        return {"estimate_logits": upstream}


class Factorized(LabelEstimator):
    """A product of row factors (N, r) and label factors (r, L), on top of what is known."""

    def n_bytes(self, n_rows: int, n_labels: int) -> int:
        return 3 * (n_rows * self.rank * self.dtype.itemsize + (self.rank + 1) * n_labels * 4)

    def spec(self) -> dict[str, StateTensor]:
        # A step of every factor moves the product by as many steps.
        learned = {"learned": True, "learning_rate_multiplier": self.rate / self.rank, "logits": True}
        return {
            "row_factors": StateTensor(per_row=True, **learned),  # type: ignore[arg-type]
            "label_factors": StateTensor(**learned),  # type: ignore[arg-type]
            "label_biases": StateTensor(learned=True, learning_rate_multiplier=self.rate, logits=True),
        }

    def start(self, labels: Tensor, generator: torch.Generator | None) -> State:
        n_rows, n_labels = labels.shape
        # The product then spreads like the table's first logits, which are uniform.
        spread = UNKNOWN_RANGE / math.sqrt(3 * self.rank)
        return {
            "row_factors": torch.randn(n_rows, self.rank, generator=generator).mul_(spread).to(self.dtype),
            "label_factors": torch.randn(self.rank, n_labels, generator=generator),
            "label_biases": torch.zeros(n_labels),
        }

    def forward(
        self, state: State, rows: Tensor | None, labels: Tensor, logits: Tensor, penalty: CountPenalty
    ) -> Estimates:
        factors = _of(state["row_factors"], rows, logits.dtype)
        known = labels.to(logits.dtype) * KNOWN_LOGIT
        product = torch.addmm(state["label_biases"].to(logits.dtype), factors, state["label_factors"].to(logits.dtype))
        return Estimates(product.add_(known), (factors,))

    def backward(self, state: State, rows: Tensor | None, saved: tuple[Tensor, ...], upstream: Tensor) -> State:
        (factors,) = saved
        return {
            "row_factors": upstream @ state["label_factors"].to(upstream.dtype).T,
            "label_factors": factors.T @ upstream,
            "label_biases": upstream.sum(0),
        }


class EstimateNetwork(LabelEstimator):
    """A correction, by a network of one hidden layer that all rows share, of what the classifier itself would estimate.

    The network sees the classifier's probabilities and the known labels, and starts at zero: then estimates are those
    that minimise their own terms of the loss for the classifier's present logits.
    """

    def n_bytes(self, n_rows: int, n_labels: int) -> int:
        return 3 * 4 * (2 * n_labels * self.rank + self.rank + self.rank * n_labels + n_labels)

    def spec(self) -> dict[str, StateTensor]:
        hidden = StateTensor(learned=True, learning_rate_multiplier=self.rate / self.rank, logits=True)
        bias = StateTensor(learned=True, learning_rate_multiplier=self.rate, logits=True)
        return {"hidden_weights": hidden, "hidden_biases": hidden, "output_weights": hidden, "output_biases": bias}

    def start(self, labels: Tensor, generator: torch.Generator | None) -> State:
        n_labels = labels.shape[1]
        bound = 1 / math.sqrt(n_labels)
        weights = torch.empty(2 * n_labels, self.rank).uniform_(-bound, bound, generator=generator)
        return {
            "hidden_weights": weights,
            "hidden_biases": torch.zeros(self.rank),
            "output_weights": torch.zeros(self.rank, n_labels),
            "output_biases": torch.zeros(n_labels),
        }

    def forward(
        self, state: State, rows: Tensor | None, labels: Tensor, logits: Tensor, penalty: CountPenalty
    ) -> Estimates:
        local = {name: tensor.to(logits.dtype) for name, tensor in state.items() if name in self.spec()}
        p, z = torch.sigmoid(logits), labels.to(logits.dtype)
        inputs = torch.cat([p, z], dim=1)
        hidden = F.relu(torch.addmm(local["hidden_biases"], inputs, local["hidden_weights"]))
        correction = torch.addmm(local["output_biases"], hidden, local["output_weights"])
        return Estimates(best_estimates(labels, logits, penalty) + correction, (inputs, hidden))

    def backward(self, state: State, rows: Tensor | None, saved: tuple[Tensor, ...], upstream: Tensor) -> State:
        inputs, hidden = saved
        inner = (upstream @ state["output_weights"].to(upstream.dtype).T).masked_fill_(hidden == 0, 0)
        return {
            "hidden_weights": inputs.T @ inner,
            "hidden_biases": inner.sum(0),
            "output_weights": hidden.T @ upstream,
            "output_biases": upstream.sum(0),
        }


ESTIMATORS: dict[str, type[LabelEstimator]] = {"table": Table, "factorized": Factorized, "network": EstimateNetwork}
