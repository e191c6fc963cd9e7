"""What happens to labels between epochs or rounds: the base of curricula and propagation."""

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
    """What a relabelling may look at, and its state.

    Parameters
    ----------
    given, current, epoch, n_epochs, n_features, learned_features, device, generator, predictor
        As in `TrainingContext`; `epoch` is the epoch or round about to begin.
    state : dict of str to Tensor, or None, default=None
        The relabelling's, which it may update in place.
    """

    state: State | None = None

    def is_due(self, refresh_every: int | None = None) -> bool:
        """Whether a relabelling that looks at nothing but features and given labels has something to do.

        Parameters
        ----------
        refresh_every : int or None, default=None
            Epochs after which it looks again where the features change; None is every epoch.

        Returns
        -------
        bool
            True before the first epoch; later only where the features are learned, and it is time.
        """
        if self.current is self.given:
            return True
        return self.learned_features and (self.epoch - 1) % (refresh_every or 1) == 0


class Relabeling(Stateful, Documented, BaseEstimator, ABC):
    """Base class of relabellings: value objects that rewrite labels between epochs or rounds.

    A subclass defines `relabel`. The labels that the user passed are never written to. One that remembers something
    defines `state_spec` and `start` as well, and finds its state in the context; nothing of it is learned by gradients.
    """

    #: Whether `relabel` is asked before the first epoch, too, when the head has learned nothing yet.
    from_start: ClassVar[bool] = False
    #: Whether it makes something of the `label_prior` that `fit` was passed.
    uses_prior: ClassVar[bool] = False
    #: Whether all is said before the first epoch unless the features are learned: then one convex round is enough.
    settled_on_features: ClassVar[bool] = False

    @property
    def looks_ahead(self) -> bool:
        """Whether what it does depends on how many epochs or rounds are planned (`context.n_epochs`)."""
        return False

    def adapt_head(self, head: Head) -> Head:
        """The head that is trained, which a relabelling may need to be of some kind.

        Parameters
        ----------
        head : Head
            The estimator's.

        Returns
        -------
        Head
            By default the same.
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
            Labels, with soft targets and weights if they come as `TrainingData`; None leaves everything as it is.
        """


def apply_relabeling(relabeling: Relabeling, context: RelabelingContext) -> TrainingData:
    """What is trained on after a relabelling, refused if it does not fit the training set.

    Parameters
    ----------
    relabeling : Relabeling
        The rule.
    context : RelabelingContext
        What it may look at.

    Returns
    -------
    TrainingData
        With the names and the prior that the user gave; `context.current` itself where nothing changes.

    Raises
    ------
    ValueError
        If the answer has another shape than the labels, or values that are none of labels.
    """
    answer = relabeling.relabel(context)
    if answer is None:
        return context.current
    name = "the result of relabeling"
    if isinstance(answer, TrainingData):
        # Made by hand, perhaps, and so not checked yet.
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
