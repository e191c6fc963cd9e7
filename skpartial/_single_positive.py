"""The classifier for labels of which only presences are known."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from skpartial._base import BasePartialLabelClassifier
from skpartial._docstrings import CLASSIFIER_ATTRIBUTES, CLASSIFIER_PARAMETERS, fill
from skpartial.heads import Head
from skpartial.losses import Loss
from skpartial.regularizers import Regularizer
from skpartial.relabeling import Relabeling
from skpartial.solvers import Solver

__all__ = ["SinglePositiveClassifier"]


@fill(parameters=CLASSIFIER_PARAMETERS, attributes=CLASSIFIER_ATTRIBUTES)
class SinglePositiveClassifier(BasePartialLabelClassifier):
    r"""Multi-label classifier for label matrices that hold presences only, such as one a row.

    A 1 is a label that was seen, a 0 one of which nothing is known; absences (-1) may be given too. By default a linear
    probe is fitted by assuming that unknown means absent, with label smoothing against the presences that this misses:

    .. math::

        \frac{1}{n L} \sum_{ij} \ell(x_{ij}, t_{ij}) + \frac{\alpha}{2 L} \lVert W \rVert^2, \quad
        t_{ij} = 0.95 \text{ if present}, \; 0.05 \text{ otherwise}

    Probabilities are those of having been seen, which is less than of being present: `predict` calls few labels
    present. Take ``loss="wan"``, ``class_weight="balanced"`` or
    :class:`~skpartial.model_selection.TunedThresholdsCV` where predictions matter and not only rankings.

    `score` and validation always read unknown entries as absent, whether or not y holds a -1: over known entries alone
    every ranking of positive-only labels is perfect, and a part of y must not be read otherwise than the whole.

    Parameters
    ----------
    loss : str or Loss, default="an_ls"
        What is minimised, and what an unknown entry means; see :mod:`skpartial.losses`.
    {parameters}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    PartialLabelClassifier : For labels of which both signs are known.
    skpartial.labels.from_classes : Turns the classes of a multi-class data set into such a matrix.

    References
    ----------
    .. [1] E. Cole, O. Mac Aodha, T. Lorieul, P. Perona, D. Morris, N. Jojic, "Multi-Label Learning from Single
       Positive Labels", CVPR 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial import SinglePositiveClassifier
    >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    >>> seen = np.array([[0, 1], [1, 0], [0, 1], [0, 0]])
    >>> clf = SinglePositiveClassifier(alpha=0.01).fit(X, seen)
    >>> clf.predict_proba(X).shape
    (4, 2)
    """

    _unknown_in_scores: ClassVar[Literal["ignore", "absent"]] = "absent"

    def __init__(
        self,
        loss: str | Loss = "an_ls",
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
