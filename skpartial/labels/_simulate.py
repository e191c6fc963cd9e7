"""Simulation of incomplete or wrong labels from complete ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.random import sample_without_replacement

from skpartial._checks import check_choice, check_number, check_whole
from skpartial.labels._known_entries import Block, KnownEntries, smallest

__all__ = ["drop_labels", "flip_labels", "keep_dense_rows", "keep_single_positive"]


def _check_count(value: Any, name: str) -> int | None:
    """A number of labels per row, None for all."""
    if isinstance(value, str) and value == "all":
        return None
    return check_whole(None, name, value, 0, "a whole number of at least 0, or 'all'")


def _known_shares(known: Any, by: str, n_labels: int) -> NDArray[np.float64]:
    """The shares of each label's negatives and positives that stay known, shape (L, 2)."""
    if np.ndim(known) == 0:
        return np.full((n_labels, 2), check_number(None, "known", known, "[0, 1]"))
    if by == "row":
        raise ValueError(
            f"known must be a number in [0, 1], got {known!r}, with by='row': use by='entry' or 'label' for several."
        )
    try:
        shares = np.asarray(known, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError("known must be a number, or an array of numbers, in [0, 1].") from None
    if shares.shape not in ((n_labels,), (n_labels, 2), (1, 2)):
        raise ValueError(
            f"known must be a number or of shape {(n_labels,)}, {(n_labels, 2)} or (1, 2), got {shares.shape}."
        )
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError("known must hold numbers in [0, 1].")
    return np.array(np.broadcast_to(shares[:, None] if shares.ndim == 1 else shares, (n_labels, 2)))


def drop_labels(
    Y: Any, known: float | ArrayLike = 0.1, random_state: Any = 0, *, by: str = "row", zero: str = "absent"
) -> Any:
    r"""Make labels unknown at random and keep a given proportion of them.

    Parameters
    ----------
    Y : array-like, DataFrame or sparse matrix, shape (n, L)
        Complete labels in {-1, 1} or {0, 1}; `zero` says what a 0 is.
    known : float, or array-like of shape (L,), (L, 2) or (1, 2), default=0.1
        The proportion of labels that stay known, in [0, 1]. With "entry" and "label", also one proportion per label,
        (L,), or one for its negatives and one for its positives, (L, 2); (1, 2) applies to all labels. Then labels are
        not missing at random: ``[[0.01, 0.3]]`` is a data set in which people mostly note what they see.
    random_state : int, RandomState or None, default=0
        The same int gives the same labels, whether Y is dense or sparse.
    by : {"row", "entry", "label"}, default="row"
        How the known labels are drawn:

        - "row": exactly ``round(known * L)`` labels in each row, drawn uniformly without replacement (Durand et al.);
          from the known labels if Y is incomplete.
        - "entry": each entry with probability `known`, independently of all others.
        - "label": for each label, ``round(known * m)`` of its m positives, and likewise of its negatives, at least one
          each unless `known` is 0 (the released code of Huynh and Elhamifar).
    zero : {"absent", "unknown"}, default="absent"
        What a 0 in Y is. With "absent" Y is complete: {0, 1} labels of which 0 is absent, or {-1, 1}; 0 and -1
        together are refused. With "unknown" labels are dropped from those that are known. The implicit zeros of a
        sparse Y are zeros like all others.

    Returns
    -------
    ndarray of int8, DataFrame or csr_array of int8, shape (n, L)
        1 present, -1 absent, 0 unknown. A DataFrame for a DataFrame, with its columns and index; a csr_array for a
        sparse matrix.

    Raises
    ------
    ValueError
        If an argument is not one of the above.

    Notes
    -----
    ``round`` is Python's, which rounds halves to even. If ``known * L`` rounds to 0, no label of the row is kept.

    References
    ----------
    T. Durand, N. Mehrasa and G. Mori, "Learning a Deep ConvNet for Multi-label Classification with Partial Labels",
    CVPR 2019, section 4. D. Huynh and E. Elhamifar, "Interactive Multi-Label CNN Learning with Partial Labels",
    CVPR 2020.

    Examples
    --------
    >>> from skpartial.labels import drop_labels
    >>> drop_labels([[1, 0, 0, 1], [0, 0, 1, 0]], known=0.5, random_state=0)
    array([[ 1,  0,  0,  1],
           [-1,  0,  1,  0]], dtype=int8)

    All positives of the first label, half of the other positives, no negatives:

    >>> drop_labels([[1, 0, 1], [1, 1, 1], [0, 1, 1]], known=[[0, 1], [0, 0.5], [0, 0.5]], by="label")
    array([[1, 0, 1],
           [1, 0, 1],
           [0, 1, 0]], dtype=int8)
    """
    check_choice(None, "by", by, ("row", "entry", "label"))
    if np.ndim(known) == 0:
        check_number(None, "known", known, "[0, 1]")
    entries = KnownEntries(Y, zero)
    shares = _known_shares(known, by, entries.n_labels)
    rng = check_random_state(random_state)
    if by == "label":
        return _drop_by_label(entries, shares, rng)

    def kept() -> Iterator[Block]:
        for block in entries.blocks():
            keys = rng.random_sample(len(block.columns))
            if by == "row":
                yield block.only(smallest(keys, block.counts, np.rint(shares[0, 0] * block.counts).astype(np.int64)))
            else:
                yield block.only(keys < shares[block.columns, (block.signs == 1).astype(np.int64)])

    return entries.result(kept())


def _drop_by_label(entries: KnownEntries, shares: NDArray[np.float64], rng: RandomState) -> Any:
    values = entries.matrix.values
    by_column = sp.csc_array(values) if sp.issparse(values) else values
    keep_rows, keep_columns, keep_signs = [], [], []
    for j in range(entries.n_labels):
        if sp.issparse(by_column):
            stored = slice(by_column.indptr[j], by_column.indptr[j + 1])
            column = np.zeros(entries.n_rows, dtype=np.int8)
            column[by_column.indices[stored]] = by_column.data[stored]
        else:
            column = by_column[:, j]
        for sign in (1, -1):
            candidates = np.flatnonzero(column != 1 if sign == -1 and entries.zeros_absent else column == sign)
            known = float(shares[j, int(sign == 1)])
            n_kept = max(round(known * len(candidates)), int(known > 0 and len(candidates) > 0))
            rows = candidates[np.argsort(rng.random_sample(len(candidates)), kind="stable")[:n_kept]]
            keep_rows.append(rows)
            keep_columns.append(np.full(n_kept, j, dtype=np.int64))
            keep_signs.append(np.full(n_kept, sign, dtype=np.int8))
    rows, columns, signs = np.concatenate(keep_rows), np.concatenate(keep_columns), np.concatenate(keep_signs)
    order = np.lexsort((columns, rows))
    counts = np.bincount(rows, minlength=entries.n_rows)
    return entries.result(iter([Block(0, counts, columns[order], signs[order])]))


def keep_single_positive(
    Y: Any,
    random_state: Any = 1200,
    *,
    n_present: int | str = 1,
    n_absent: int | str = 0,
    weights: ArrayLike | str | None = None,
    others: str = "unknown",
    zero: str = "absent",
) -> Any:
    """Keep one positive label per row, drawn at random; all others become unknown, or negative.

    Without `weights` the labels are exactly those of the published protocol (Cole et al.): the same seed and the same
    order of rows and labels give the labels of the published experiments. Their default seed is 1200, used anew for
    each file of labels, on the whole official training set before any split.

    Parameters
    ----------
    Y : array-like, DataFrame or sparse matrix, shape (n, L)
        Complete labels in {-1, 1} or {0, 1}; `zero` says what a 0 is.
    random_state : int, RandomState or None, default=1200
        The same int gives the same labels, whether Y is dense or sparse.
    n_present : int or "all", default=1
        Number of positives to keep per row; all if a row has fewer, none if it has none.
    n_absent : int or "all", default=0
        Number of negatives to keep per row. 1 gives the labels of the published ignore-unknown (IU) baseline. It does
        not change which positives are kept.
    weights : "frequency", array-like of shape (L,) or (n, L), or None, default=None
        How likely each label is to be annotated, relative to the others in its row (for example the size of the object,
        or how often people name it). Positives are drawn one after the other with probabilities proportional to the
        weights, or uniformly in a row whose positives all have weight 0. Negatives are drawn uniformly. "frequency"
        weighs each label by its number of positives. The random numbers differ from those of the published protocol.
    others : {"unknown", "absent"}, default="unknown"
        What the labels that are not kept become. "absent" turns the other positives into false negatives, as if
        annotators named one thing and the rest were taken to be absent (noisy+ of Durand et al.); all known entries
        stay known.
    zero : {"absent", "unknown"}, default="absent"
        What a 0 in Y is. With "absent" Y is complete: {0, 1} labels of which 0 is absent, or {-1, 1}; 0 and -1
        together are refused. With "unknown" labels are drawn from those that are known.

    Returns
    -------
    ndarray of int8, DataFrame or csr_array of int8, shape (n, L)
        1 present, 0 unknown, and -1 absent with `n_absent` or ``others="absent"``. A DataFrame for a DataFrame, with
        its columns and index; a csr_array for a sparse matrix.

    Raises
    ------
    ValueError
        If an argument is not one of the above.

    References
    ----------
    E. Cole, O. Mac Aodha, T. Lorieul, P. Perona, D. Morris and N. Jojic, "Multi-Label Learning from Single Positive
    Labels", CVPR 2021, section 5.1. J. Arroyo, P. Perona and E. Cole, "Understanding Label Bias in Single Positive
    Multi-Label Learning", ICLR 2023 Tiny Papers, for `weights`. T. Durand, N. Mehrasa and G. Mori, "Learning a Deep
    ConvNet for Multi-label Classification with Partial Labels", CVPR 2019, for `others`.

    Examples
    --------
    >>> from skpartial.labels import keep_single_positive
    >>> keep_single_positive([[1, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]])
    array([[1, 0, 0, 0],
           [0, 0, 0, 1],
           [0, 0, 0, 0]], dtype=int8)
    >>> keep_single_positive([[1, 0, 1, 1], [0, 1, 0, 1]], others="absent")
    array([[ 1, -1, -1, -1],
           [-1, -1, -1,  1]], dtype=int8)
    """
    number = {1: _check_count(n_present, "n_present"), -1: _check_count(n_absent, "n_absent")}
    check_choice(None, "others", others, ("unknown", "absent"))
    if others == "absent" and number[-1] != 0:
        raise ValueError("n_absent has no effect with others='absent', which keeps all negatives: leave it out.")
    entries = KnownEntries(Y, zero)
    rng = check_random_state(random_state)
    if weights is None:
        kept = _published_draw(entries, number, rng)
    else:
        kept = _weighted_draw(entries, number, _check_weights(weights, entries), rng)
    if others == "absent":
        return entries.result(block._replace(signs=np.where(keep, 1, -1).astype(np.int8)) for block, keep in kept)
    return entries.result(block.only(keep) for block, keep in kept)


#: Known entries, and a mask of the entries to keep.
_Draw = Iterator[tuple[Block, NDArray[np.bool_]]]


def _published_draw(entries: KnownEntries, number: dict[int, int | None], rng: RandomState) -> _Draw:
    for block in entries.blocks():
        keep = np.zeros(len(block.columns), dtype=bool)
        # Positions of the positive and of the negative entries, and where those of each row begin.
        signed = {sign: np.flatnonzero(block.signs == sign) for sign in (1, -1)}
        ends = np.cumsum(block.counts)
        bounds = {sign: [0, *np.searchsorted(positions, ends).tolist()] for sign, positions in signed.items()}
        for i in range(len(block.counts)):
            for sign in (1, -1):
                candidates = signed[sign][bounds[sign][i] : bounds[sign][i + 1]]
                # In place, in a copy that is not needed again. Negatives are shuffled even if none is kept, because
                # that advances the generator: otherwise all later rows would differ from the published ones.
                rng.shuffle(candidates)
                keep[candidates[: number[sign]]] = True
        yield block, keep


def _weighted_draw(
    entries: KnownEntries, number: dict[int, int | None], weights: NDArray[np.float64], rng: RandomState
) -> _Draw:
    for block in entries.blocks():
        rows = block.rows
        weight = weights[block.columns] if weights.ndim == 1 else weights[block.start + rows, block.columns]
        weight = np.where(block.signs == 1, weight, 1.0)
        present_weight = np.bincount(rows, weight * (block.signs == 1), minlength=len(block.counts))
        weight[(block.signs == 1) & (present_weight[rows] == 0)] = 1.0
        # The smallest of exponential variates divided by weights are a weighted draw without replacement.
        keys = -np.log1p(-rng.random_sample(len(rows)))
        with np.errstate(divide="ignore", over="ignore"):
            keys = keys / weight
        keep = np.zeros(len(rows), dtype=bool)
        for sign in (1, -1):
            candidates = (block.signs == sign) & (weight > 0)
            counts = np.bincount(rows[candidates], minlength=len(block.counts))
            limit = number[sign]
            keep[candidates] = smallest(
                keys[candidates], counts, counts if limit is None else np.minimum(counts, limit)
            )
        yield block, keep


def _check_weights(weights: ArrayLike | str, entries: KnownEntries) -> NDArray[np.float64]:
    if isinstance(weights, str):
        check_choice(None, "weights", weights, ("frequency",))
        counts = np.zeros(entries.n_labels)
        for block in entries.blocks():
            counts += np.bincount(block.columns[block.signs == 1], minlength=entries.n_labels)
        return counts
    shape = entries.matrix.shape
    array = np.asarray(weights, dtype=np.float64)
    if array.shape not in (shape[1:], shape):
        raise ValueError(f"weights must be of shape {shape[1:]} or {shape}, got {array.shape}.")
    if not np.isfinite(array).all() or (array < 0).any():
        raise ValueError("weights must be finite and not negative.")
    return array


def keep_dense_rows(Y: Any, known: float = 0.1, random_state: Any = 0, *, zero: str = "absent") -> Any:
    """Keep all labels of some rows, drawn at random, and no labels of the other rows.

    The alternative to :func:`drop_labels` for the same annotation effort (Durand et al. call it dense labels).

    Parameters
    ----------
    Y : array-like, DataFrame or sparse matrix, shape (n, L)
        Complete labels in {-1, 1} or {0, 1}; `zero` says what a 0 is.
    known : float, default=0.1
        The proportion of rows that keep their labels: exactly ``round(known * n)`` rows.
    random_state : int, RandomState or None, default=0
        The same int gives the same labels, whether Y is dense or sparse.
    zero : {"absent", "unknown"}, default="absent"
        What a 0 in Y is. With "absent" Y is complete: {0, 1} labels of which 0 is absent, or {-1, 1}; 0 and -1
        together are refused. With "unknown" the rows keep their known labels.

    Returns
    -------
    ndarray of int8, DataFrame or csr_array of int8, shape (n, L)
        1 present, -1 absent, 0 unknown. A DataFrame for a DataFrame, with its columns and index; a csr_array for a
        sparse matrix.

    Raises
    ------
    ValueError
        If an argument is not one of the above.

    References
    ----------
    T. Durand, N. Mehrasa and G. Mori, "Learning a Deep ConvNet for Multi-label Classification with Partial Labels",
    CVPR 2019, section 4.

    Examples
    --------
    >>> from skpartial.labels import keep_dense_rows
    >>> keep_dense_rows([[1, 0], [0, 1], [0, 0], [1, 1]], known=0.5)
    array([[ 0,  0],
           [ 0,  0],
           [-1, -1],
           [ 1,  1]], dtype=int8)
    """
    known = check_number(None, "known", known, "[0, 1]")
    entries = KnownEntries(Y, zero)
    rng = check_random_state(random_state)
    dense = np.zeros(entries.n_rows, dtype=bool)
    dense[rng.permutation(entries.n_rows)[: round(known * entries.n_rows)]] = True

    def kept() -> Iterator[Block]:
        for block in entries.blocks():
            yield block.only(np.repeat(dense[block.start : block.start + len(block.counts)], block.counts))

    return entries.result(kept())


def flip_labels(
    Y: Any, flipped: float = 0.1, random_state: Any = 0, *, which: str = "known", zero: str = "absent"
) -> Any:
    """Flip known labels at random: positives become negative, negatives become positive.

    Parameters
    ----------
    Y : array-like, DataFrame or sparse matrix, shape (n, L)
        Complete labels in {-1, 1} or {0, 1}; `zero` says what a 0 is.
    flipped : float, default=0.1
        The proportion of labels to flip: exactly ``round(flipped * m)`` of the m candidates, drawn uniformly without
        replacement from the whole matrix.
    random_state : int, RandomState or None, default=0
        The same int flips the same entries, whether Y is dense or sparse. With ``which="known"``, flipping twice with
        the same seed restores the labels.
    which : {"known", "present", "absent"}, default="known"
        Which labels may be flipped. "present" makes false negatives only, the typical mistake of annotators of many
        labels.
    zero : {"absent", "unknown"}, default="absent"
        What a 0 in Y is. With "absent" Y is complete: {0, 1} labels of which 0 is absent, or {-1, 1}; 0 and -1
        together are refused. With "unknown" zeros do not change.

    Returns
    -------
    ndarray of int8, DataFrame or csr_array of int8, shape (n, L)
        1 present, -1 absent, 0 unknown. A DataFrame for a DataFrame, with its columns and index; a csr_array for a
        sparse matrix.

    Raises
    ------
    ValueError
        If an argument is not one of the above.

    References
    ----------
    T. Durand, N. Mehrasa and G. Mori, "Learning a Deep ConvNet for Multi-label Classification with Partial Labels",
    CVPR 2019, section 4 (noisy labels).

    Examples
    --------
    >>> from skpartial.labels import flip_labels
    >>> flip_labels([[1, -1, -1, 1], [-1, 1, 1, -1]], flipped=0.25, random_state=0)
    array([[ 1, -1,  1,  1],
           [-1,  1, -1, -1]], dtype=int8)
    """
    flipped = check_number(None, "flipped", flipped, "[0, 1]")
    check_choice(None, "which", which, ("known", "present", "absent"))
    entries = KnownEntries(Y, zero)
    rng = check_random_state(random_state)

    def concerned(block: Block) -> NDArray[np.intp]:
        if which == "known":
            return np.arange(len(block.signs))
        return np.flatnonzero(block.signs == (1 if which == "present" else -1))

    total = sum(len(concerned(block)) for block in entries.blocks())
    n_flipped = round(flipped * total)
    chosen = np.sort(sample_without_replacement(total, n_flipped, random_state=rng)) if n_flipped else np.empty(0, int)

    def wrong() -> Iterator[Block]:
        first = 0
        for block in entries.blocks():
            candidates = concerned(block)
            low, high = np.searchsorted(chosen, [first, first + len(candidates)])
            signs = block.signs.copy()
            signs[candidates[chosen[low:high] - first]] *= -1
            first += len(candidates)
            yield block._replace(signs=signs)

    return entries.result(wrong())
