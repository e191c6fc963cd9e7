"""Pseudo-labels in proportion to label frequencies, weighted by their measured precision."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from skpartial._checks import check_choice, check_least, check_number
from skpartial._state import State, StateTensor, TrainingContext
from skpartial.labels import LabelMatrix
from skpartial.labels._data import TrainingData, probabilities
from skpartial.labels._matrix import present_share
from skpartial.relabeling._base import Relabeling, RelabelingContext

__all__ = ["ClassDistribution"]

# Share of the known entries of each label and sign that is held out, and number of bins of their predictions.
_HELD_OUT, _N_BINS = 0.2, 20


class ClassDistribution(Relabeling):
    r"""Label unknown entries in proportion to the frequency of each label, the most confident first.

    Let label j be unknown in :math:`u_j` rows, and let :math:`\pi_j` be its frequency among known entries. The
    :math:`\rho_+ \pi_j u_j` of these rows with the highest logits become positive and the :math:`\rho_- (1 - \pi_j)
    u_j` with the lowest negative; the others stay unknown. After the warm-up this is repeated before every epoch or
    convex round. With one threshold for all labels, or a classifier trained on few positives, nearly every pseudo-label
    of a rare label would be negative. Here the numbers of both are right on average.

    The weight of a pseudo-label is its estimated precision. During the warm-up, a fifth of the known entries of each
    label and sign is held out of training. At the end of the warm-up, their predictions are divided into 20 bins of
    equal size. The share of positives per bin, interpolated, is the weight of a positive pseudo-label, and 1 minus that
    share is the weight of a negative one. One epoch then trains on all known entries, before the first pseudo-labels.

    Parameters
    ----------
    warm_up : int, default=1
        Number of epochs or convex rounds on known entries only, at least 1. Minibatches need a few, as little is
        learned in the first epoch.
    present_share, absent_share : float, default=1.0
        :math:`\rho_+` and :math:`\rho_-`, in [0, 1]. Below 1, the least confident entries stay unknown.
    weights : {"calibrated", "equal"}, default="calibrated"
        Whether pseudo-labels are weighted by their precision on held-out entries, or like known entries; in that case
        nothing is held out.
    frequencies : array-like of shape (L,) or None, default=None
        :math:`\pi_j`, in [0, 1]. None counts known entries. Pass frequencies if the known entries are not a random
        sample.

    Attributes
    ----------
    label_frequencies_ : ndarray of shape (L,)
        Attribute of the fitted classifier: :math:`\pi_j`.
    labels_in_use_ : ndarray of int8, shape (n, L)
        Attribute of the fitted classifier: known labels and the last pseudo-labels.

    Raises
    ------
    ValueError
        If no label has both a known positive and a known negative and `frequencies` is None. Labels that lack one of
        the two are not changed.

    See Also
    --------
    LabelSpreading : Uses neighbours instead of predictions.

    References
    ----------
    .. [1] M.-K. Xie, J.-H. Xiao, H.-Z. Liu, G. Niu, M. Sugiyama, S.-J. Huang, "Class-Distribution-Aware Pseudo-Labeling
       for Semi-Supervised Multi-Label Learning", NeurIPS 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.datasets import make_digit_scenes
    >>> from skpartial.relabeling import ClassDistribution
    >>> scenes = make_digit_scenes(500, random_state=0)
    >>> Y = scenes.target.copy()
    >>> Y[100:] = 0
    >>> clf = PartialLabelClassifier("iu", relabeling=ClassDistribution(), alpha=0.01, random_state=0)
    >>> clf = clf.fit(scenes.data, Y)
    >>> found = np.mean(clf.labels_in_use_[100:] == 1, axis=0)
    >>> bool(np.all(np.abs(found - clf.label_frequencies_) < 0.01))
    True
    """

    from_start = True

    def __init__(
        self,
        warm_up: int = 1,
        present_share: float = 1.0,
        absent_share: float = 1.0,
        weights: Literal["calibrated", "equal"] = "calibrated",
        frequencies: Any = None,
    ) -> None:
        self.warm_up = warm_up
        self.present_share = present_share
        self.absent_share = absent_share
        self.weights = weights
        self.frequencies = frequencies

    def _check(self) -> None:
        check_least(self, warm_up=1)
        for name in ("present_share", "absent_share"):
            check_number(self, name, getattr(self, name), "[0, 1]")
        check_choice(self, "weights", self.weights, ("calibrated", "equal"))

    @override
    def state_spec(self) -> Mapping[str, StateTensor]:
        return {name: StateTensor() for name in ("n_passes", "frequencies", "held_out", "calibration")}

    @override
    def start(self, context: TrainingContext, previous: State | None = None) -> State | None:
        self._check()
        given = context.given.labels
        held = np.zeros((0, 2), dtype=np.int64)
        if self.weights == "calibrated":
            seed = int(torch.randint(1 << 31, (), generator=context.generator))
            held = _held_out(given, np.random.default_rng(seed))
        return {
            "n_passes": torch.zeros((), dtype=torch.int64),
            "frequencies": torch.as_tensor(self._frequencies(given)),
            "held_out": torch.as_tensor(held),
            "calibration": torch.zeros(2, _N_BINS, dtype=torch.float64),
        }

    def _frequencies(self, given: LabelMatrix) -> NDArray[np.float64]:
        """Frequency of each label, NaN where it cannot be estimated."""
        if self.frequencies is not None:
            values = np.asarray(self.frequencies, dtype=np.float64)[None]
            found = probabilities(values, (1, given.n_labels), "ClassDistribution: frequencies")
            assert found is not None
            return found[0]
        present, absent = given.count(1, axis=0), given.count(-1, axis=0)
        if not ((present > 0) & (absent > 0)).any():
            raise ValueError(
                "ClassDistribution estimates label frequencies from known entries, but no label of y has both known "
                "positives and known negatives: pass frequencies."
            )
        share = present_share(present, present + absent)
        return np.where((present > 0) & (absent > 0), share, np.nan)

    @override
    def relabel(self, context: RelabelingContext) -> Any:
        state, given = context.state, context.given.labels
        assert state is not None
        n_passes = int(state["n_passes"])
        state["n_passes"] += 1
        rows, columns = state["held_out"].cpu().numpy().T
        if n_passes < self.warm_up:
            if n_passes > 0 or not len(rows):
                return None
            labels = given.toarray()
            labels[rows, columns] = 0
            return labels
        labels, logits = given.toarray(), context.logits().double().cpu().numpy()
        if n_passes == self.warm_up and len(rows):
            found = _calibration(logits[rows, columns], labels[rows, columns] == 1)
            state["calibration"].copy_(torch.as_tensor(found))
            return labels
        filled = self._filled(labels, logits, state["frequencies"].cpu().numpy())
        if not len(rows):
            return filled
        precision = np.interp(logits, *state["calibration"].cpu().numpy())
        weights = np.where(labels != 0, 1.0, np.where(filled == 1, precision, 1 - precision))
        return TrainingData(LabelMatrix(filled, given.names), weights=np.where(filled == 0, 1.0, weights))

    def _filled(
        self, labels: NDArray[np.int8], logits: NDArray[np.float64], frequencies: NDArray[np.float64]
    ) -> NDArray[np.int8]:
        """Labels with the most confident unknown entries of each label filled in."""
        filled = labels.copy()
        for j in np.flatnonzero(~np.isnan(frequencies)):
            unknown = np.flatnonzero(labels[:, j] == 0)
            order = unknown[np.argsort(logits[unknown, j], kind="stable")]
            n_present = round(self.present_share * frequencies[j] * len(order))
            n_absent = round(self.absent_share * (1 - frequencies[j]) * len(order))
            filled[order[:n_absent], j] = -1
            filled[order[len(order) - n_present :], j] = 1
        return filled

    @override
    def fitted_attributes(self, state: State | None, context: TrainingContext | None = None) -> dict[str, Any]:
        assert state is not None
        return {"label_frequencies_": state["frequencies"].cpu().numpy()}


def _held_out(given: LabelMatrix, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions (m, 2) of a fifth of the known entries of each label and sign."""
    labels, found = given.toarray(), []
    for j in range(given.n_labels):
        for sign in (-1, 1):
            rows = np.flatnonzero(labels[:, j] == sign)
            chosen = rng.permutation(rows)[: int(_HELD_OUT * len(rows))]
            found.append(np.stack([chosen, np.full_like(chosen, j)], axis=1))
    return np.concatenate(found).astype(np.int64)


def _calibration(logits: NDArray[np.float64], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean logit, ascending, and share of positives in bins of equal size; shape (2, bins)."""
    order = np.argsort(logits, kind="stable")
    # With few entries, each bin has one entry, and some bins share one.
    edges = np.linspace(0, len(order), _N_BINS + 1)
    bins = [order[int(low) : max(int(low) + 1, int(high))] for low, high in pairwise(edges)]
    return np.array([[logits[part].mean() for part in bins], [present[part].mean() for part in bins]])
