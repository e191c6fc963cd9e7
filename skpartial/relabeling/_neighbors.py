"""Nearest rows: exact, in chunks of bounded size on the device of the features, or by the user's index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor

from skpartial._checks import wrong_value
from skpartial._state import TrainingContext

__all__ = ["check_index", "dense_rows", "nearest_rows"]

# Number of scores between rows held at a time: 8 MB in float32, which stay in the cache until the least are found.
_TILE_ENTRIES = 1 << 21
# Number of rows requested at a time: with a network they may be maps.
_BLOCK_ROWS = 1024


def check_index(owner: object, index: Any) -> None:
    """Check that an index can look up neighbours."""
    if index is not None and not (hasattr(index, "fit") and hasattr(index, "kneighbors")):
        what = "None or an object with fit and kneighbors, such as sklearn.neighbors.NearestNeighbors()"
        raise wrong_value(owner, "index", what, index)


def _blocks(context: TrainingContext, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows with their dense inputs of the head; maps are averaged, as for a linear head."""
    for part in rows.split(_BLOCK_ROWS):
        seen = context.features(part)
        dense = seen.to_dense() if seen.layout != torch.strided else seen
        yield part, dense.flatten(2).mean(2) if dense.ndim > 2 else dense


def dense_rows(context: TrainingContext, rows: Tensor) -> Tensor:
    """Features of some rows of the training set as one dense tensor (b, d)."""
    return torch.cat([block for _, block in _blocks(context, rows)])


def nearest_rows(
    context: TrainingContext,
    queries: Tensor,
    references: Tensor,
    n_neighbors: int,
    *,
    directions: bool = False,
    index: Any = None,
) -> tuple[Tensor, Tensor]:
    """The nearest references of each query, leaving out the query itself.

    Parameters
    ----------
    context : TrainingContext
        Provides the features.
    queries, references : Tensor of int64
        Indices of rows of the training set, ascending.
    n_neighbors : int
        Number of neighbours per query; there must be at least that many references besides the query.
    directions : bool, default=False
        Whether rows are first scaled to unit length, so that the nearest have the largest cosine.
    index : object or None, default=None
        Fitted to the references and used in place of the exact search.

    Returns
    -------
    distances : Tensor of float64, shape (q, n_neighbors)
        Euclidean distances, ascending.
    neighbors : Tensor of int64, shape (q, n_neighbors)
        Rows of the training set.
    """
    known = dense_rows(context, references)
    if directions:
        known = _unit(known)
    references = references.to(known.device)
    if index is not None:
        search: _Exact | _Indexed = _Indexed(known, index)
    else:
        search = _Exact(known)
    # Filled in block by block: small results that are kept between large temporaries would leave holes in memory.
    distances = torch.empty(len(queries), n_neighbors, dtype=torch.float64)
    neighbors = torch.empty(len(queries), n_neighbors, dtype=torch.int64)
    done = 0
    for rows, block in _blocks(context, queries):
        block = _unit(block) if directions else block
        # Position of each query among the references, if it is one.
        own = torch.searchsorted(references, rows.to(references.device))
        own[references[own.clamp(max=len(references) - 1)] != rows.to(own.device)] = -1
        lengths, found = search.find(block, own, n_neighbors)
        if not directions:
            # Differences, not products, are precise for small distances.
            lengths = torch.stack([torch.linalg.vector_norm(known[column] - block, dim=1) for column in found.T], dim=1)
        lengths, order = lengths.double().sort(dim=1, stable=True)
        part = slice(done, done + len(rows))
        distances[part], neighbors[part] = lengths.cpu(), references[found.gather(1, order)].cpu()
        done = part.stop
    return distances, neighbors


def _unit(rows: Tensor) -> Tensor:
    """Rows scaled to unit length; rows of zeros stay zero."""
    return torch.nn.functional.normalize(rows, dim=1)


class _Exact:
    """Products with all references, a chunk of queries at a time.

    Parameters
    ----------
    known : Tensor of shape (m, d)
        The references.
    """

    def __init__(self, known: Tensor) -> None:
        # Without centring, distances of rows far from zero would be lost in the rounding of their lengths.
        self._center = known.mean(0)
        centred = known - self._center
        # |q - r|^2 / 2 - |q|^2 / 2 = |r|^2 / 2 - q r: one product with an extra column.
        self._factor = torch.cat([-centred, centred.square().sum(1, keepdim=True) / 2], dim=1).T

    def find(self, block: Tensor, own: Tensor, n_neighbors: int) -> tuple[Tensor, Tensor]:
        """Distances to the nearest references, up to rounding, and their positions."""
        centred = block - self._center
        factor = torch.cat([centred, centred.new_ones(len(block), 1)], dim=1)
        width = max(n_neighbors, _TILE_ENTRIES // len(block))
        least = centred.new_empty(len(block), 0)
        positions = own.new_empty(len(block), 0)
        for start in range(0, self._factor.shape[1], width):
            scores = factor @ self._factor[:, start : start + width]
            inside = torch.nonzero((own >= start) & (own < start + scores.shape[1])).squeeze(1)
            scores[inside, own[inside] - start] = torch.inf
            if n_neighbors == 1:  # which takes a third of the time
                values, found = scores.min(1, keepdim=True)
            else:
                values, found = scores.topk(min(n_neighbors, scores.shape[1]), dim=1, largest=False)
            least, positions = torch.cat([least, values], dim=1), torch.cat([positions, found + start], dim=1)
            if least.shape[1] > n_neighbors:
                least, order = least.topk(n_neighbors, dim=1, largest=False)
                positions = positions.gather(1, order)
        squares = centred.square().sum(1, keepdim=True) + 2 * least
        return squares.clamp_(min=0).sqrt_(), positions


class _Indexed:
    """The user's index, fitted to the references.

    Parameters
    ----------
    known : Tensor of shape (m, d)
        The references.
    index : object
        Has `fit` and `kneighbors` like scikit-learn's NearestNeighbors; it is not changed.
    """

    def __init__(self, known: Tensor, index: Any) -> None:
        self._index = clone(index, safe=False)
        self._index.fit(known.cpu().numpy())

    def find(self, block: Tensor, own: Tensor, n_neighbors: int) -> tuple[Tensor, Tensor]:
        """Distances to the nearest references according to the index, and their positions."""
        asked = n_neighbors + bool((own >= 0).any())
        far, found = self._index.kneighbors(block.cpu().numpy(), n_neighbors=asked)
        lengths = torch.as_tensor(np.asarray(far, dtype=np.float64), device=own.device)
        positions = torch.as_tensor(np.asarray(found, dtype=np.int64), device=own.device)
        # The query itself, or else the farthest neighbour, goes to the end and is cut off.
        order = (positions == own[:, None]).int().argsort(dim=1, stable=True)[:, :n_neighbors]
        return lengths.gather(1, order), positions.gather(1, order)
