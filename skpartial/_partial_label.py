"""The classifier for partly known labels."""

from __future__ import annotations

from typing import Any, Literal

from skpartial._base import BasePartialLabelClassifier
from skpartial._docstrings import CLASSIFIER_ATTRIBUTES, CLASSIFIER_PARAMETERS, fill
from skpartial.heads import Head
from skpartial.losses import Loss
from skpartial.regularizers import Regularizer
from skpartial.relabeling import Relabeling
from skpartial.solvers import Solver

__all__ = ["PartialLabelClassifier"]


@fill(parameters=CLASSIFIER_PARAMETERS, attributes=CLASSIFIER_ATTRIBUTES)
class PartialLabelClassifier(BasePartialLabelClassifier):
    r"""Multi-label classifier for label matrices with unknown entries.

    Every row has several labels, each present (1), absent (-1) or unknown (0). By default a linear probe is fitted by
    binary cross-entropy over the known entries:

    .. math::

        \frac{1}{n L} \sum_{ij \text{ known}} \ell(x_{ij}, y_{ij}) + \frac{\alpha}{2 L} \lVert W \rVert^2

    with logits :math:`x_{ij}` and weights W. Other losses treat unknown entries in other ways; ``loss="partial_bce"``,
    for example, weighs each row by its proportion of known labels [1]_.

    Parameters
    ----------
    loss : str or Loss, default="iu"
        What is minimised, and what an unknown entry means; see :mod:`skpartial.losses`.
    {parameters}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    SinglePositiveClassifier : For labels with known positives only.

    References
    ----------
    .. [1] T. Durand, N. Mehrasa, G. Mori, "Learning a Deep ConvNet for Multi-label Classification with Partial
       Labels", CVPR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial import PartialLabelClassifier
    >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    >>> Y = np.array([[-1, 1], [1, 0], [0, 1], [-1, -1]])
    >>> clf = PartialLabelClassifier().fit(X, Y)
    >>> clf.predict(X)
    array([[0, 1],
           [1, 0],
           [1, 1],
           [0, 0]])
    >>> clf.score(X, Y)
    1.0
    """

    def __init__(
        self,
        loss: str | Loss = "iu",
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
