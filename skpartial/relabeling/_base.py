"""Base class of relabellings, which change labels between epochs or rounds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from sklearn.base import BaseEstimator

from skpartial._documentation import Documented
from skpartial._state import State, Stateful, TrainingContext
from skpartial.heads import Head
from skpartial.labels import LabelMatrix
from skpartial.labels._data import TrainingData

__all__ = ["Relabeling", "RelabelingContext", "apply_relabeling"]


@dataclass(frozen=True, kw_only=True)
class RelabelingContext(TrainingContext):
    """Everything that a relabelling may use, including its state.

    Parameters
    ----------
    given, current, epoch, n_epochs, n_features, learned_features, device, generator, predictor
        As in `TrainingContext`; `epoch` is the epoch or round about to begin.
    state : dict of str to Tensor, or None, default=None
        State of the relabelling, which it may update in place.
    """

    state: State | None = None

    def is_due(self, refresh_every: int | None = None) -> bool:
        """Whether a relabelling that uses only features and given labels has to run now.

        Parameters
        ----------
        refresh_every : int or None, default=None
            Number of epochs after which it runs again if the features change; None means every epoch.

        Returns
        -------
        bool
            True before the first epoch; later only if the features are learned and `refresh_every` epochs have passed.
        """
        if self.current is self.given:
            return True
        return self.learned_features and (self.epoch - 1) % (refresh_every or 1) == 0


class Relabeling(Stateful, Documented, BaseEstimator, ABC):
    """Base class of relabellings: value objects that rewrite labels between epochs or rounds.

    A subclass defines `relabel`. The labels passed by the user are never modified. If it has a state, it also defines
    `state_spec` and `start`, and finds the state in the context; no part of it is learned by gradients.
    """

    #: Whether `relabel` is also called before the first epoch, when the head has learned nothing yet.
    from_start: ClassVar[bool] = False
    #: Whether it uses the `label_prior` passed to `fit`.
    uses_prior: ClassVar[bool] = False
    #: Whether labels change only before the first epoch if the features are fixed: then one convex round is enough.
    settled_on_features: ClassVar[bool] = False

    @property
    def looks_ahead(self) -> bool:
        """Whether the labels depend on the number of planned epochs or rounds (`context.n_epochs`)."""
        return False

    def adapt_head(self, head: Head) -> Head:
        """The head to train, for a relabelling that needs a certain kind of head.

        Parameters
        ----------
        head : Head
            Head of the estimator.

        Returns
        -------
        Head
            By default the same head.
        """
        return head

    @abstractmethod
    def relabel(self, context: RelabelingContext) -> Any:
        """Labels for the epoch about to begin.

        Parameters
        ----------
        context : RelabelingContext
            The epoch, the labels, the current predictions, and the state.

        Returns
        -------
        TrainingData, or matrix of shape (n, L) with values in {-1, 0, 1}, or None
            New labels; `TrainingData` may include soft targets and weights. None changes nothing.
        """


def apply_relabeling(relabeling: Relabeling, context: RelabelingContext) -> TrainingData:
    """Run a relabelling and return the new training data; raises an error if it does not match the training set.

    Parameters
    ----------
    relabeling : Relabeling
        The rule.
    context : RelabelingContext
        Everything that the rule may use.

    Returns
    -------
    TrainingData
        The new data, with the names and the prior passed by the user; `context.current` itself if nothing changes.

    Raises
    ------
    ValueError
        If the result has another shape than the labels, or invalid values.
    """
    answer = relabeling.relabel(context)
    if answer is None:
        return context.current
    name = "the result of relabeling"
    if isinstance(answer, TrainingData):
        # Possibly built by hand, so not yet checked.
        found = TrainingData.encode(answer.labels, targets=answer.targets, weights=answer.weights, name=name)
    else:
        found = TrainingData.encode(answer, name=name)
    if found.labels.shape != context.given.labels.shape:
        raise ValueError(
            f"{type(relabeling).__name__}.relabel returned labels of shape {found.labels.shape}, but the training set "
            f"has labels of shape {context.given.labels.shape}."
        )
    labels = LabelMatrix(found.labels.values, context.given.labels.names)
    return replace(found, labels=labels, prior=context.given.prior)
