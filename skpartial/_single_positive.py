"""The classifier for labels of which only presences are known."""

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
from skpartial._threshold import logits_of_strangers, recorded_threshold
from skpartial.heads import Head
from skpartial.losses import Loss
from skpartial.regularizers import Regularizer
from skpartial.relabeling import Relabeling
from skpartial.solvers import Solver
from skpartial.thresholds import Threshold
from skpartial.training._problem import Solution

__all__ = ["SinglePositiveClassifier"]


@fill(parameters=CLASSIFIER_PARAMETERS, attributes=CLASSIFIER_ATTRIBUTES)
class SinglePositiveClassifier(BasePartialLabelClassifier):
    r"""Multi-label classifier for label matrices that hold presences only, such as one per row.

    A 1 is a label that was seen, a 0 one of which nothing is known; absences (-1) may be given too. By default a linear
    probe is fitted by assuming that unknown means absent:

    .. math::

        \frac{1}{n L} \sum_{ij} \ell(x_{ij}, y_{ij} = 1) + \frac{\alpha}{2 L} \lVert W \rVert^2

    What is fitted are probabilities of having been recorded, which are far below one half for most labels that are
    present. By default intercepts are raised after the fit so that a label is predicted where its probability of having
    been recorded is at least `threshold_`, which is 0.45 times what recorded presences are given on average by a model
    that has not seen them (Elkan and Noto): rankings within a label stay, and `predict_proba` is above one half where
    `predict` says 1. Where some complete labels are at hand, :class:`~skpartial.model_selection.TunedThresholdsCV` does
    better.

    `score` and validation always read unknown entries as absent, whether or not y holds a -1: over known entries alone
    every ranking of positive-only labels is perfect, and a part of y must not be read otherwise than the whole.

    Parameters
    ----------
    loss : str or Loss, default="an"
        What is minimised, and what an unknown entry means; see :mod:`skpartial.losses`.
    {parameters}
    threshold : float in (0, 1), "auto" or a rule of skpartial.thresholds, default="auto"
        The fitted probability from which on a label is predicted to be present; 0.5 leaves intercepts as they were
        fitted. "auto" estimates it, with a second fit on two thirds of the rows, under a loss that takes every unknown
        entry for a full absence, without class weights, relabelling or smoothing of absences; else it is 0.5.
        :class:`~skpartial.thresholds.Prevalence` predicts labels as often as they are known to be present, and
        :class:`~skpartial.thresholds.Recall` so that a share of the recorded presences is found; both take three more
        fits, on two thirds of the rows each. `partial_fit` keeps the threshold of the fit that it goes on from.

    Attributes
    ----------
    {attributes}
    threshold_ : float or ndarray of shape (L,)
        The threshold that was used; an array where each label has its own.

    See Also
    --------
    PartialLabelClassifier : For labels of which both signs are known.
    skpartial.labels.from_classes : Turns the classes of a multi-class data set into such a matrix.

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
        """The threshold that was used."""
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
        return -float(logit(self._resolve_threshold(plan, solution)))

    def _resolve_threshold(self, plan: FitPlan, solution: Solution) -> float:
        """The number that was given, or for "auto" what is estimated."""
        if not isinstance(self.threshold, str):
            return float(self.threshold)
        labels = plan.rows.target.labels
        complete = labels.n_known == labels.n_rows * labels.n_labels
        plain = self.class_weight is None and self.relabeling is None
        if complete or not plain or not plan.stages[-1].problem.loss.traits().recorded:
            return 0.5
        return recorded_threshold(plan, solution)
