"""Simulated incompleteness: complete labels in, incomplete or wrong ones out."""

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
    """A number of labels a row, None for all of them."""
    if isinstance(value, str) and value == "all":
        return None
    return check_whole(None, name, value, 0, "a number of labels, 0 or more, or 'all'")


def _known_shares(known: Any, by: str, n_labels: int) -> NDArray[np.float64]:
    """The share of each label that stays known, (L, 2): where it is absent, and where it is present."""
    if np.ndim(known) == 0:
        return np.full((n_labels, 2), check_number(None, "known", known, "[0, 1]"))
    if by == "row":
        raise ValueError(
            f"known must be a number in [0, 1], got {known!r}, with by='row': take by='entry' or 'label' for several."
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
        The proportion of labels that stay known, from 0 to 1. With "entry" and "label" also one a label, (L,), or for
        each label those of where it is absent and where it is present, (L, 2); (1, 2) is the same for all labels. So
        labels are missing not at random: ``[[0.01, 0.3]]`` is a data set in which people mostly note what they see.
    random_state : int, RandomState or None, default=0
        The same int gives the same labels, whether Y is dense or sparse.
    by : {"row", "entry", "label"}, default="row"
        How the proportion is kept:

        - "row": of each row, exactly ``round(known * L)`` labels, drawn uniformly without replacement (Durand et
          al.); of the known ones where Y is incomplete.
        - "entry": each entry with probability `known`, independently of all others.
        - "label": of each label, ``round(known * m)`` of the m rows in which it is present, and likewise of those in
          which it is absent, at least one each unless `known` is 0 (the released code of Huynh and Elhamifar).
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
    ``round`` is Python's: a half goes to the even neighbour. Where ``known * L`` rounds to 0, no label of the row is
    kept.

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

    All presences of the first label, half of those of the others, no absence:

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
    """Keep one present label of each row, drawn at random; everything else becomes unknown, or absent.

    Without `weights` the labels are those of the published protocol (Cole et al.), bit for bit: the same seed and the
    same order of rows and labels give the labels that published experiments trained on. Their default seed is 1200,
    used anew for each file of labels, on the whole official training set before any split.

    Parameters
    ----------
    Y : array-like, DataFrame or sparse matrix, shape (n, L)
        Complete labels in {-1, 1} or {0, 1}; `zero` says what a 0 is.
    random_state : int, RandomState or None, default=1200
        The same int gives the same labels, whether Y is dense or sparse.
    n_present : int or "all", default=1
        Number of present labels to keep in each row; all of them where a row has fewer. A row without any stays
        unknown.
    n_absent : int or "all", default=0
        Number of absent labels to keep in each row. 1 gives the labels that the published ignore-unknown (IU)
        baseline trains on. It changes no present label.
    weights : "frequency", array-like of shape (L,) or (n, L), or None, default=None
        How likely each label is to be the one annotated, of the same scale within a row (the size of the object, say,
        or how often people name it): present labels are drawn one after the other with probabilities proportional to
        the weights, uniformly in a row whose present labels all have weight 0. Absent labels are drawn uniformly.
        "frequency" weighs each label by the number of rows in which it is present. This is a stream of random numbers
        of its own, unlike the published one.
    others : {"unknown", "absent"}, default="unknown"
        What the labels that are not kept become. "absent" makes the presences among them wrong, as where annotators
        name one thing and the rest is read as absent (noisy+ of Durand et al.); all known entries stay known.
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
        raise ValueError(
            "n_absent has no meaning with others='absent', where all absent labels are kept: leave it out."
        )
    entries = KnownEntries(Y, zero)
    rng = check_random_state(random_state)
    if weights is None:
        kept = _published_draw(entries, number, rng)
    else:
        kept = _weighted_draw(entries, number, _check_weights(weights, entries), rng)
    if others == "absent":
        return entries.result(block._replace(signs=np.where(keep, 1, -1).astype(np.int8)) for block, keep in kept)
    return entries.result(block.only(keep) for block, keep in kept)


#: Known entries, and which of them are kept.
_Draw = Iterator[tuple[Block, NDArray[np.bool_]]]


def _published_draw(entries: KnownEntries, number: dict[int, int | None], rng: RandomState) -> _Draw:
    for block in entries.blocks():
        keep = np.zeros(len(block.columns), dtype=bool)
        # Positions of the present entries, and of the absent ones, with where each row's begin.
        signed = {sign: np.flatnonzero(block.signs == sign) for sign in (1, -1)}
        ends = np.cumsum(block.counts)
        bounds = {sign: [0, *np.searchsorted(positions, ends).tolist()] for sign, positions in signed.items()}
        for i in range(len(block.counts)):
            for sign in (1, -1):
                candidates = signed[sign][bounds[sign][i] : bounds[sign][i + 1]]
                # In place, in a copy that nobody needs again. The absent ones are shuffled even if none is kept,
                # because that advances the generator: without it all later rows would differ from the published.
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
        # The smallest of exponential numbers divided by weights are a weighted draw without replacement.
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
    """Keep all labels of some rows, drawn at random, and none of the others.

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
        together are refused. With "unknown" the rows keep what is known of them.

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
    """Make known labels wrong at random: present ones absent, absent ones present.

    Parameters
    ----------
    Y : array-like, DataFrame or sparse matrix, shape (n, L)
        Complete labels in {-1, 1} or {0, 1}; `zero` says what a 0 is.
    flipped : float, default=0.1
        The proportion of labels to flip: exactly ``round(flipped * m)`` of the m labels concerned, drawn uniformly
        without replacement from the whole matrix.
    random_state : int, RandomState or None, default=0
        The same int flips the same entries, whether Y is dense or sparse; with ``which="known"``, flipping twice with
        one seed restores the labels.
    which : {"known", "present", "absent"}, default="known"
        Which labels are concerned. "present" makes false absences only, the kind of mistake that annotators of many
        labels make.
    zero : {"absent", "unknown"}, default="absent"
        What a 0 in Y is. With "absent" Y is complete: {0, 1} labels of which 0 is absent, or {-1, 1}; 0 and -1
        together are refused. With "unknown" zeros stay as they are.

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
