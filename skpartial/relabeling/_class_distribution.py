"""Pseudo-labels in the proportions in which labels occur, weighted by how often they turn out right."""

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

# Share of the known entries of each label and sign that are held out, and bins of their predictions.
_HELD_OUT, _N_BINS = 0.2, 20


class ClassDistribution(Relabeling):
    r"""Label unknown entries in the proportion in which each label occurs, the surest first.

    Of the :math:`u_j` rows in which label j is unknown, with :math:`\pi_j` its frequency among known entries, the
    :math:`\rho_+ \pi_j u_j` with the highest logits become present and the :math:`\rho_- (1 - \pi_j) u_j` with the
    lowest absent; the others stay unknown. This is done anew before every epoch, or convex round, after the warm-up.

    A threshold that is the same for all labels would make nearly every pseudo-label of a rare label an absence, and so
    would a classifier that has seen few presences; here the numbers of both are right on average.

    A pseudo-label weighs as much as held-out known entries with such a prediction have its sign: through the warm-up a
    fifth of the known entries of each label and sign is not trained on. Their predictions at its end are cut into 20
    bins of equal size; the share of presences in each, interpolated, is the weight of a presence, and what is missing
    to 1 that of an absence. Then an epoch trains on all known entries, before the first pseudo-labels.

    Parameters
    ----------
    warm_up : int, default=1
        Epochs, or convex rounds, on known entries alone, at least 1. Minibatches need a few: their first epoch has
        learned little.
    present_share, absent_share : float, default=1.0
        :math:`\rho_+` and :math:`\rho_-`, in [0, 1]. Below 1 the least sure entries stay unknown.
    weights : {"calibrated", "equal"}, default="calibrated"
        Whether pseudo-labels weigh by held-out entries, or like known ones; then nothing is held out.
    frequencies : array-like of shape (L,) or None, default=None
        :math:`\pi_j`, in [0, 1], where they are known otherwise: known entries that were not drawn at random do not
        tell them. None counts known entries.

    Attributes
    ----------
    label_frequencies_ : ndarray of shape (L,)
        Of the fitted classifier: :math:`\pi_j`.
    labels_in_use_ : ndarray of int8, shape (n, L)
        Of the fitted classifier: known labels and the last pseudo-labels.

    Raises
    ------
    ValueError
        If no label has both a known presence and a known absence and `frequencies` is None. Labels that lack one are
        left as they are.

    See Also
    --------
    LabelSpreading : Looks at neighbours instead of predictions.

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
        """Of each label, NaN where nothing tells."""
        if self.frequencies is not None:
            values = np.asarray(self.frequencies, dtype=np.float64)[None]
            found = probabilities(values, (1, given.n_labels), "ClassDistribution: frequencies")
            assert found is not None
            return found[0]
        present, absent = given.count(1, axis=0), given.count(-1, axis=0)
        if not ((present > 0) & (absent > 0)).any():
            raise ValueError(
                "ClassDistribution counts how often labels are present among known entries, but no label of y has "
                "known presences and known absences: pass frequencies."
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
        """Labels with the surest unknown entries of each filled in."""
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
    """Mean logit, ascending, and share of presences in bins of equal size; shape (2, bins)."""
    order = np.argsort(logits, kind="stable")
    # Of few entries a bin has one, and some have the same.
    edges = np.linspace(0, len(order), _N_BINS + 1)
    bins = [order[int(low) : max(int(low) + 1, int(high))] for low, high in pairwise(edges)]
    return np.array([[logits[part].mean() for part in bins], [present[part].mean() for part in bins]])
