"""Interactive learning of the similarities of labels and of images (IMCL)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from skpartial._checks import check_choice, check_flag, check_number, check_whole
from skpartial._state import State, StateTensor, TrainingContext
from skpartial.labels import LabelMatrix
from skpartial.regularizers._base import BatchContext, Regularizer
from skpartial.regularizers._label_graph import check_graph, cooccurrence_graph, normalized
from skpartial.regularizers._pursuit import MODES, Mode, pursue

__all__ = ["InteractiveSmoothness"]

# Rows of the bank whose logits are computed at a time.
_BLOCK_ROWS = 1024
# Batches by which the terms are weighed against the loss.
_BATCHES_MEASURED = 10
# Where the released code cuts logits off.
_LARGEST_LOGIT = 80.0


def _within_unit(weights: Tensor) -> Tensor:
    return weights.clamp(0, 1)


class InteractiveSmoothness(Regularizer):
    def __init__(
        self,
        label_weight: float = 1.0,
        feature_weight: float = 0.5,
        n_atoms: int = 5,
        n_neighbors_labels: int = 50,
        label_graph: Any = "cooccurrence",
        learn_graph: bool = True,
        bank_size: int = 4096,
        absent_value: float = -0.5,
        side_labels: Sequence[Any] | None = None,
        side_weight: float = 10.0,
        balance: bool = True,
        mode: Mode = None,
    ) -> None:
        self.label_weight = label_weight
        self.feature_weight = feature_weight
        self.n_atoms = n_atoms
        self.n_neighbors_labels = n_neighbors_labels
        self.label_graph = label_graph
        self.learn_graph = learn_graph
        self.bank_size = bank_size
        self.absent_value = absent_value
        self.side_labels = side_labels
        self.side_weight = side_weight
        self.balance = balance
        self.mode = mode

    refines = True
    graph_kind = "rate"; mix_known = False

    def check(self, labels):
        pass

    def state_spec(self):
        return {
            "bank_features": StateTensor(),
            "bank_values": StateTensor(),
            "bank_rows": StateTensor(),
            "oldest": StateTensor(),
            "graph": StateTensor(learned=bool(self.learn_graph), project=_within_unit),
            "graph_index": StateTensor(),
            "feature_scale": StateTensor(),
            "measured": StateTensor(),
        }

    def _side(self, labels):
        return []

    def _graph(self, labels):
        if isinstance(self.label_graph, str):
            if self.label_graph == "identity":
                return np.eye(labels.n_labels)
            r = cooccurrence_graph(labels, self.n_neighbors_labels)
            if self.graph_kind == "binary":
                r = (r > 0).astype(float)
            elif self.graph_kind == "reverse":
                full = cooccurrence_graph(labels, labels.n_labels)
                r = np.where(r > 0, full.T, 0)
            return normalized(r)
        return normalized(check_graph(self.label_graph, labels, "label_graph"))

    @torch.no_grad()
    def start(self, context, previous=None):
        size = min(int(self.bank_size), context.n_rows)
        rows = torch.randperm(context.n_rows, generator=context.generator)[:size].sort().values
        features = _vectors(context.features(rows))
        labels = context.labels(rows)
        graph = self._graph(context.given.labels)
        index = np.stack(graph.nonzero())
        values = self._values(labels, None, features.dtype)
        dt = features.dtype
        return {
            "bank_features": features.clone(),
            "bank_values": values,
            "bank_rows": rows.to(features.device),
            "oldest": torch.zeros((), dtype=torch.int64),
            "graph": torch.as_tensor(graph[tuple(index)], dtype=dt),
            "graph_index": torch.as_tensor(index),
            "feature_scale": (labels.shape[1] ** 0.5 * 0.5 / features.square().sum(1).mean().sqrt()).to(dt) if self.mode is None else torch.ones((), dtype=dt),
            "measured": torch.zeros(4, dtype=torch.float64),
        }

    def _values(self, labels, targets, dtype):
        absent = float(self.absent_value)
        values = torch.full(labels.shape, torch.nan, dtype=dtype, device=labels.device)
        values[labels == 1] = 1.0
        values[labels == -1] = absent
        if targets is not None:
            values = torch.where(targets.isnan(), values, absent + (1 - absent) * targets.to(dtype))
        return values

    def _predicted(self, logits):
        absent = float(self.absent_value)
        if self.mode == "code":
            e = torch.exp(2 * logits.clamp(-40, 40))
            return (e - 1) / (e - 1 / absent)
        return absent + (1 - absent) * torch.sigmoid(logits)

    def _dict(self, known, predicted, graph):
        unknown = known.isnan()
        if self.mix_known:
            return torch.where(unknown, predicted, known) @ graph
        return torch.where(unknown, predicted @ graph, known)

    def _similar(self, values, features, y, f, excluded, w):
        return pursue((values, features), (y, f), w, self.n_atoms, mode=self.mode, excluded=excluded)

    def __call__(self, batch):
        state = batch.state
        F = state["bank_features"]
        f = _vectors(batch.features).to(F.dtype)
        known = self._values(batch.labels, batch.targets, F.dtype)
        y = torch.where(known.isnan(), self._predicted(batch.logits).to(F.dtype), known)
        L = known.shape[1]
        graph = torch.zeros(L, L, dtype=F.dtype, device=F.device).index_put(tuple(state["graph_index"]), state["graph"])
        scale = state["feature_scale"]
        with torch.no_grad():
            bl = torch.cat([batch.head(p) for p in F.split(_BLOCK_ROWS)])
            dic = self._dict(state["bank_values"], self._predicted(bl), graph)
            excluded = state["bank_rows"] == batch.rows[:, None]
            found = self._similar(dic, F * scale, y.detach(), f.detach() * scale, excluded, (float(self.label_weight), float(self.feature_weight)))
        S = found.support.clamp(min=0)
        flat = S.flatten()
        pred = self._predicted(batch.head(F[flat]))
        rec = self._dict(state["bank_values"][flat], pred, graph).view(*S.shape, L)
        res = y - (found.label_coef[:, None] @ rec).squeeze(1)
        term = res.square().sum() / len(y)
        with torch.no_grad():
            m = state["measured"]
            if m[0] < _BATCHES_MEASURED:
                m += torch.stack([torch.ones(()), batch.loss, term.detach(), torch.zeros(())]).double()
        ratio = float(m[1] / m[2]) if self.balance else 1.0 / L
        self_stats = getattr(type(self), "stats", None)
        if self_stats is not None:
            self_stats.append((float(batch.loss), float(term), (found.support >= 0).sum(1).float().mean().item(), float(found.label_residual.square().sum() / len(y)), float(y.detach().square().sum()/len(y)), float(found.feature_residual.square().sum()/(f*scale).square().sum())))
        return self.label_weight * ratio * term

    def fitted_attributes(self, state, context=None):
        g = np.zeros((context.n_labels,) * 2)
        g[tuple(state["graph_index"].cpu().numpy())] = state["graph"].cpu().numpy()
        return {"label_graph_": g}


def _vectors(features):
    if features.is_sparse:
        features = features.to_dense()
    return features.flatten(2).mean(2) if features.ndim > 2 else features
