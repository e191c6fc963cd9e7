"""Predictions of the head being trained, for validation and for methods between passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from skpartial._processes import ALONE, Processes
from skpartial.features._base import Features
from skpartial.heads._linear import LinearModule, dropout_variance
from skpartial.heads._module import HeadModule

__all__ = ["HeadPredictor", "predict_logits"]

# Size in bytes of a batch for predictions.
_BATCH_BYTES = 16 << 20


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)


def _drop(module: Any, inputs: Any, output: Tensor, *, generator: torch.Generator) -> Tensor:
    """Apply the dropout of a module in evaluation mode to its output, with draws from a generator."""
    kind, p = type(module).__name__, float(module.p)
    shape = list(output.shape)
    if kind[-1] == "d" or kind == "FeatureAlphaDropout":  # Dropout1d and the like drop whole channels
        channel = output.ndim - 1 - int(kind[-2]) if kind[-1] == "d" else 1
        shape[channel + 1 :] = [1] * (output.ndim - channel - 1)
    kept = torch.rand(shape, generator=generator, device=output.device) >= p
    if "Alpha" not in kind:
        return output * kept / (1 - p) if p < 1 else torch.zeros_like(output)
    # Self-normalising: dropped units get the limit of SELU, and mean and variance are restored.
    low = -1.7580993408473766
    scale = ((1 - p) * (1 + p * low * low)) ** -0.5 if p < 1 else 0.0
    return scale * torch.where(kept, output, low) - scale * low * p


def _dropouts(head: nn.Module) -> list[Any]:
    return [module for module in head.modules() if isinstance(module, nn.modules.dropout._DropoutNd)]


def _batches(features: Features, rows: Tensor | None, n_batches: int | None = None) -> Iterator[Tensor]:
    index = torch.arange(features.n_rows) if rows is None else rows
    n_batches = n_batches or _n_batches(features, len(index))
    return iter(features.batches(index.tensor_split(n_batches)))


def _n_batches(features: Features, n_rows: int) -> int:
    return max(1, -(-n_rows // max(1, _BATCH_BYTES // max(1, features.row_bytes))))


def predict_logits(module: HeadModule, features: Features, *, members: bool = False) -> Tensor:
    """Logits (n, L) of all rows, or of all members (M, n, L), in evaluation mode and in batches."""
    logits = module.member_logits if members else module
    with _evaluating(module):
        return torch.cat([logits(batch) for batch in _batches(features, None)], dim=-2)


class HeadPredictor:
    """Predictions of a head for the rows of some features, in evaluation mode.

    Parameters
    ----------
    head : HeadModule
        The head.
    features : Features
        Rows of features, or images.
    network : torch.nn.Module or None, default=None
        Network that ends in the head, with a method `features` from images to inputs of the head. None if the rows are
        the inputs of the head.
    processes : Processes, default=one alone
        Processes that make the same calls and divide the rows among themselves.
    """

    def __init__(
        self,
        head: HeadModule,
        features: Features,
        network: nn.Module | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self._head, self._features, self._network, self._processes = head, features, network, processes

    def _of_rows(self, rows: Tensor | None, answer: Callable[[Tensor], Tensor], dim: int = 0) -> Tensor:
        """Results of a function of the head's inputs for some rows, joined along an axis."""
        index = torch.arange(self._features.n_rows) if rows is None else rows
        # As many batches in every process, in case they exchange parameters.
        n_batches = _n_batches(self._features, self._processes.largest_share(len(index)))
        n_batches = min(n_batches, max(1, len(index) // self._processes.size))

        def compute(part: Tensor) -> Tensor:
            with _evaluating(self._network or self._head):
                return torch.cat([answer(seen) for seen in self._seen(part, n_batches)], dim=dim)

        return self._processes.compute(compute, index, dim)

    def _seen(self, rows: Tensor | None, n_batches: int | None = None) -> Iterator[Tensor]:
        """Inputs of the head, batch by batch."""
        see: Any = None if self._network is None else self._network.features
        for batch in _batches(self._features, rows, n_batches):
            yield batch if see is None else see(batch)

    def logits(self, rows: Tensor | None) -> Tensor:
        """Logits (b, L)."""
        return self._of_rows(rows, self._head)

    def features(self, rows: Tensor | None) -> Tensor:
        """Inputs of the head: features (b, d), or maps (b, C, h, w)."""
        if self._network is None:  # inputs need no computation
            return torch.cat(list(self._seen(rows)))
        return self._of_rows(rows, lambda seen: seen)

    def member_logits(self, rows: Tensor | None) -> Tensor:
        """Logits (M, b, L) of the members of an ensemble; of another head M is 1."""
        return self._of_rows(rows, self._head.member_logits, dim=1)

    def sampled_logits(self, rows: Tensor | None, n_samples: int, seed: int) -> Tensor:
        """Logits (n_samples, b, L) with the head's dropout active; the features are computed once."""
        dropouts = _dropouts(self._head)
        if not dropouts:
            raise ValueError(
                "Predictions with dropout need a head with dropout layers, but this head has none: choose another head."
            )
        return torch.cat(list(self._samples(rows, dropouts, None, n_samples, seed)), dim=1)

    def logit_variance(self, rows: Tensor | None, dropout: float, n_samples: int, seed: int) -> Tensor:
        """Variance (b, L) of the logits under dropout of the head's inputs, or under the head's own dropout."""
        dropouts = _dropouts(self._head)
        if isinstance(self._head, LinearModule):
            rate = dropouts[0].p if dropouts else dropout
            weight = self._head.mean_weight * self._head.input_scale
            with _evaluating(self._network or self._head):
                return torch.cat([dropout_variance(seen, weight, rate) for seen in self._seen(rows)])
        inputs = None if dropouts else nn.Dropout(dropout)
        samples = self._samples(rows, dropouts, inputs, n_samples, seed)
        return torch.cat([part.var(0, correction=0) for part in samples])

    def _samples(
        self, rows: Tensor | None, dropouts: list[Any], inputs: nn.Module | None, n_samples: int, seed: int
    ) -> Iterator[Tensor]:
        """Logits (n_samples, b, L) of batches, with dropout active: the layers of the head, or one on the inputs."""
        generator = torch.Generator(next(self._head.parameters()).device).manual_seed(seed)
        with ExitStack() as stack:
            stack.enter_context(_evaluating(self._network or self._head))
            for module in dropouts:
                handle = module.register_forward_hook(partial(_drop, generator=generator))
                stack.callback(handle.remove)
            for seen in self._seen(rows):
                dense = seen.to_dense() if seen.is_sparse and inputs is not None else seen
                yield torch.stack(
                    [
                        self._head(dense if inputs is None else _drop(inputs, None, dense, generator=generator))
                        for _ in range(n_samples)
                    ]
                )
