"""The classifier for labels with known positives only."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from typing_extensions import override

from skpartial._base import BasePartialLabelClassifier
from skpartial._checks import check_number
from skpartial._docstrings import CLASSIFIER_ATTRIBUTES, CLASSIFIER_PARAMETERS, fill
from skpartial._fit import FitPlan
from skpartial._threshold import logits_of_strangers, recorded_mean, recorded_threshold, threshold_of
from skpartial.heads import Head
from skpartial.labels import LabelMatrix
from skpartial.losses import Loss
from skpartial.regularizers import Regularizer
from skpartial.relabeling import Relabeling
from skpartial.solvers import Solver
from skpartial.thresholds import Threshold
from skpartial.training._problem import Solution

__all__ = ["SinglePositiveClassifier"]

# In a stream, the mean probability of recorded positives forgets rows at this rate.
_ROWS_OF_STREAM = 1000


@fill(parameters=CLASSIFIER_PARAMETERS, attributes=CLASSIFIER_ATTRIBUTES)
class SinglePositiveClassifier(BasePartialLabelClassifier):
    r"""Multi-label classifier for label matrices with known positives only, such as one per row.

    A 1 is a label that was seen and a 0 is an unknown label; known negatives (-1) are allowed too. By default a linear
    probe is fitted with unknown entries assumed to be negative:

    .. math::

        \frac{1}{n L} \sum_{ij} \ell(x_{ij}, y_{ij} = 1) + \frac{\alpha}{2 L} \lVert W \rVert^2

    with logits :math:`x_{ij}` and weights W. This fits the probability that a label was recorded, which is far below
    one half for most positives. By default the intercepts are therefore raised after the fit, so that a label is
    predicted where this probability is at least `threshold_`: 0.45 times the mean probability of the recorded positives
    under a model that was not trained on them (after Elkan and Noto [1]_). Rankings within a label do not change, and
    `predict_proba` is above one half where `predict` is 1. If some complete labels are available,
    :class:`~skpartial.model_selection.TunedThresholdsCV` is better.

    `score` and validation always treat unknown entries as negative, whether or not y contains -1: if only known entries
    counted, every ranking of positive-only labels would be perfect.

    Parameters
    ----------
    loss : str or Loss, default="an"
        What is minimised, and what an unknown entry means; see :mod:`skpartial.losses`.
    {parameters}
    threshold : float in (0, 1), "auto" or a rule of skpartial.thresholds, default="auto"
        Lowest fitted probability at which a label is predicted; 0.5 leaves the fitted intercepts unchanged. "auto"
        estimates it by a second fit on two thirds of the rows, for the losses "an", "an_ls" and
        :class:`~skpartial.losses.LargeLoss`; class weights and smoothing are taken into account. For other losses,
        which raise the probabilities of unrecorded positives themselves, and for complete labels it is 0.5. A
        relabelling takes part in both fits. With
        :class:`~skpartial.thresholds.Prevalence`, labels are predicted as often as a given prevalence; with
        :class:`~skpartial.thresholds.Recall`, a given share of the recorded positives is found. Both need three more
        fits, each on two thirds of the rows. `partial_fit` keeps the threshold of a `fit` before, unless a number is
        given. Without one, "auto" is an average over about the last 1,000 rows, of probabilities after training on
        them, and a rule raises an error.

    Attributes
    ----------
    {attributes}
    threshold_ : float or ndarray of shape (L,)
        The threshold used; an array if each label has its own.

    See Also
    --------
    PartialLabelClassifier : For labels with known positives and known negatives.
    skpartial.labels.from_classes : Converts the classes of a multi-class data set to such a matrix.

    References
    ----------
    .. [1] C. Elkan, K. Noto, "Learning Classifiers from Only Positive and Unlabeled Data", KDD 2008.
    .. [2] E. Cole, O. Mac Aodha, T. Lorieul, P. Perona, D. Morris, N. Jojic, "Multi-Label Learning from Single
       Positive Labels", CVPR 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial import SinglePositiveClassifier
    >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    >>> seen = np.array([[0, 1], [1, 0], [0, 1], [0, 0]])
    >>> clf = SinglePositiveClassifier().fit(X, seen)
    >>> clf.predict_proba(X).shape
    (4, 2)
    """

    _unknown_in_scores: ClassVar[Literal["ignore", "absent"]] = "absent"

    def __init__(
        self,
        loss: str | Loss = "an",
        *,
        backbone: Any = None,
        head: str | Head = "linear",
        relabeling: Relabeling | None = None,
        regularizer: Regularizer | None = None,
        solver: str | Solver = "auto",
        alpha: float | Literal["auto"] = "auto",
        class_weight: Any = None,
        validation_fraction: float | None = None,
        warm_start: bool = False,
        device: Any = "auto",
        precision: str = "auto",
        n_jobs: int | None = None,
        checkpoint_dir: str | None = None,
        store_state: bool | Literal["auto"] = "auto",
        random_state: Any = None,
        verbose: int = 0,
        threshold: float | Literal["auto"] | Threshold = "auto",
    ) -> None:
        super().__init__(
            loss,
            backbone=backbone,
            head=head,
            relabeling=relabeling,
            regularizer=regularizer,
            solver=solver,
            alpha=alpha,
            class_weight=class_weight,
            validation_fraction=validation_fraction,
            warm_start=warm_start,
            device=device,
            precision=precision,
            n_jobs=n_jobs,
            checkpoint_dir=checkpoint_dir,
            store_state=store_state,
            random_state=random_state,
            verbose=verbose,
        )
        self.threshold = threshold

    @property
    def threshold_(self) -> float | NDArray[np.float64]:
        """The threshold used; an array if each label has its own."""
        threshold = np.asarray(expit(-np.asarray(self._shift, dtype=np.float64)))
        return threshold if threshold.ndim else float(threshold)

    @override
    def _check_parameters(self) -> None:
        if isinstance(self.threshold, Threshold):
            self.threshold.check()
        elif not (isinstance(self.threshold, str) and self.threshold == "auto"):
            what = "'auto', a number in (0, 1), or a rule such as skpartial.thresholds.Recall(0.9)"
            check_number(self, "threshold", self.threshold, "(0, 1)", what)

    @override
    def _find_shift(self, plan: FitPlan, solution: Solution) -> float | NDArray[np.float64]:
        if isinstance(self.threshold, Threshold):
            self.threshold.check(plan.rows.target.labels.n_labels)
            return -self.threshold.find(*logits_of_strangers(plan, solution))
        return _shift_of(self._resolve_threshold(plan, solution))

    @override
    def _shift_of_stream(
        self, plan: FitPlan, solution: Solution, *, first: bool
    ) -> tuple[float | NDArray[Any], dict[str, Any]]:
        # Absent if a fit has set the threshold: sum of probabilities of recorded positives, and of weights.
        earlier = getattr(self, "_recorded", (0.0, 0.0) if first else None)
        kept = {} if earlier is None else {"_recorded": earlier}
        if not isinstance(self.threshold, str | Threshold):
            return _shift_of(self.threshold), kept
        if earlier is None:
            return super()._shift_of_stream(plan, solution, first=first)
        if isinstance(self.threshold, Threshold):
            raise ValueError(
                f"partial_fit cannot apply threshold={self.threshold!r}, which needs all rows: call fit on some rows "
                "first, or pass a number or 'auto'."
            )
        complete = earlier == (0.0, 0.0) and _is_complete(plan.rows.target.labels)
        if complete or plan.stages[-1].problem.loss.traits().recorded is None:
            return 0.0, kept
        assert solution.predictor is not None
        share = float(np.exp(-plan.rows.n_counted / _ROWS_OF_STREAM))
        found = recorded_mean(plan, plan.rows, solution.predictor)
        recorded = share * earlier[0] + found[0], share * earlier[1] + found[1]
        return _shift_of(threshold_of(recorded, plan)), {"_recorded": recorded}

    def _resolve_threshold(self, plan: FitPlan, solution: Solution) -> float | NDArray[np.float64]:
        """The number that was given, or the estimate for "auto"."""
        if not isinstance(self.threshold, str):
            return float(self.threshold)
        if _is_complete(plan.rows.target.labels) or plan.stages[-1].problem.loss.traits().recorded is None:
            return 0.5
        return recorded_threshold(plan, solution)


def _shift_of(threshold: float | NDArray[np.float64]) -> float | NDArray[np.float64]:
    """What moves logits at a threshold to 0."""
    shift = -logit(threshold)
    return shift if np.ndim(shift) else float(shift)


def _is_complete(labels: LabelMatrix) -> bool:
    return labels.n_known == labels.n_rows * labels.n_labels
