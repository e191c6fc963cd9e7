"""Label estimates of a loss: a table, a factorised table, or a small network."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from skpartial._state import State, StateTensor

__all__ = ["ESTIMATORS", "CountPenalty", "EstimateNetwork", "Factorized", "LabelEstimator", "Table", "best_estimates"]

#: Estimates start in [0.4, 0.6] for unknown entries, and at 0.995 or 0.005 for known ones.
UNKNOWN_RANGE = math.log(0.6 / 0.4)
KNOWN_LOGIT = math.log(0.995 / 0.005)
# Bound on the logits of estimates passed from one stage of training to the next.
_CLIPPED_LOGIT = math.log((1 - 1e-5) / 1e-5)
# Maximal number for the mean estimate of a batch, whose equation is close to linear unless the penalty is very strong.
_NEWTON_STEPS = 40


class Estimates(NamedTuple):
    """The estimates of a batch, and the tensors that their derivatives need.

    Parameters
    ----------
    logits : Tensor of shape (b, L)
        Log odds of the estimates.
    saved : tuple of Tensor
        Tensors for `backward` of the estimator.
    """

    logits: Tensor
    saved: tuple[Tensor, ...]


class CountPenalty(NamedTuple):
    """The penalty on the mean number of positives in a batch.

    Parameters
    ----------
    share : float
        The expected share k / L of positive entries.
    weight : float
        Weight of the penalty.
    sample : Tensor broadcastable to (b, L), or None
        Weights of the entries.
    """

    share: float
    weight: float
    sample: Tensor | None


def best_estimates(labels: Tensor, logits: Tensor, penalty: CountPenalty) -> Tensor:
    r"""Log odds of the estimates that minimise their own terms in the loss of a batch, for given logits.

    Let t be the target to which cross-entropy alone draws an estimate: p for an unknown entry, and half-way between p
    and the label for a known one. At the minimum,

    .. math:: q - t + c_{ij} \, q (1 - q) = 0, \quad c_{ij} = \frac{2 \lambda (\bar q - k / L)}{1 + [ij \text{ known}]}

    so that every q follows from the mean of q, which is found by Newton's method.

    Parameters
    ----------
    labels : Tensor of shape (b, L)
        Values in {-1, 0, 1}.
    logits : Tensor of shape (b, L)
        Logits of the classifier.
    penalty : CountPenalty
        The penalty on the number of positives.

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
        """The root q of the quadratic, 1 - q, and the root of the discriminant, which is also the slope at q."""
        c = pull * share
        root = ((1 + c).square() - 4 * c * t).clamp_(min=0).sqrt_()
        # Each by the quotient without cancellation where there is one, else as one minus the other.
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
        # The excess rises with c, so the root is on the other side, whatever Newton's step says.
        low, high = (low, pull) if excess > 0 else (pull, high)
        step = pull - excess / (1 + strength * mean(share * q * u / root.clamp(min=1e-6)))
        pull = step if low < step < high else (low + high) / 2
    q, u, _ = solve(pull)
    return q.clamp(min=smallest).log_() - u.clamp(min=smallest).log_()


class LabelEstimator(ABC):
    """Base class of estimators, which give the log odds of label estimates for rows of the training set.

    Parameters
    ----------
    rank : int
        Width of the factors, or of the hidden layer.
    rate : float
        Learning rate, as a multiple of the classifier's rate.
    dtype : torch.dtype
        Type of the stored tensors with one entry per row.
    """

    def __init__(self, rank: int, rate: float, dtype: torch.dtype) -> None:
        self.rank, self.rate, self.dtype = rank, rate, dtype

    @abstractmethod
    def n_bytes(self, n_rows: int, n_labels: int) -> int:
        """Memory of the parameters and of the two moments that an optimiser keeps for each."""

    @abstractmethod
    def spec(self) -> dict[str, StateTensor]:
        """How the training loop treats the parameters."""

    @abstractmethod
    def start(self, labels: Tensor, generator: torch.Generator | None) -> State:
        """Initial parameters for a training set with labels (N, L), dense or sparse CSR."""

    def resume(self, previous: State, labels: Tensor) -> State:
        """Parameters from an earlier stage of training, for labels of which more may now be known."""
        return {name: previous[name].detach().clone() for name in self.spec()}

    @abstractmethod
    def forward(
        self, state: State, rows: Tensor | None, labels: Tensor, logits: Tensor, penalty: CountPenalty
    ) -> Estimates:
        """Estimates of a batch, from its labels, the classifier's logits (b, L) and the penalty."""

    @abstractmethod
    def backward(self, state: State, rows: Tensor | None, saved: tuple[Tensor, ...], upstream: Tensor) -> State:
        """Derivatives in the parameters, from those in the estimates' logits; for row tensors, in these rows only."""


def _of(tensor: Tensor, rows: Tensor | None, dtype: torch.dtype) -> Tensor:
    return (tensor if rows is None else tensor[rows]).to(dtype)


class Table(LabelEstimator):
    """One logit per entry of the training set."""

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
        """Estimates from an earlier stage of training; if a label now contradicts one, it restarts from the label."""
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
    """A product of row factors (N, r) and label factors (r, L), added to the logits of the known labels."""

    def n_bytes(self, n_rows: int, n_labels: int) -> int:
        return 3 * (n_rows * self.rank * self.dtype.itemsize + (self.rank + 1) * n_labels * 4)

    def spec(self) -> dict[str, StateTensor]:
        # The product sums `rank` factors: a step in each moves it by as many steps.
        learned = {"learned": True, "learning_rate_multiplier": self.rate / self.rank, "logits": True}
        return {
            "row_factors": StateTensor(per_row=True, **learned),  # type: ignore[arg-type]
            "label_factors": StateTensor(**learned),  # type: ignore[arg-type]
            "label_biases": StateTensor(learned=True, learning_rate_multiplier=self.rate, logits=True),
        }

    def start(self, labels: Tensor, generator: torch.Generator | None) -> State:
        n_rows, n_labels = labels.shape
        # The product then has the variance of the table's initial logits, which are uniform.
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
    """A network with one hidden layer, shared by all rows, that corrects the classifier's own estimates.

    The input is the classifier's probabilities and the known labels. The network starts at zero, where the estimates
    are those that minimise their own terms in the loss for the classifier's current logits.
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
