"""What a head is: the module that turns features into logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from sklearn.base import BaseEstimator
from torch import nn

__all__ = ["Head"]


class Head(BaseEstimator, ABC):
    """Base class of heads: value objects that build the module from features to logits.

    A subclass defines `build`; hyperparameters are its constructor's arguments, so that grids over `head__...` work.
    """

    #: Whether X holds feature maps, of shape (n, C, h, w), instead of rows of features.
    takes_maps: ClassVar[bool] = False

    @abstractmethod
    def build(self, n_features: int, n_labels: int) -> nn.Module:
        """Build the module.

        Parameters
        ----------
        n_features : int
            Width d of the features, or channels of the feature maps.
        n_labels : int
            Number of labels L.

        Returns
        -------
        torch.nn.Module
            From (b, d), or (b, C, h, w), to (b, L), newly initialised.

        Raises
        ------
        ValueError
            If a hyperparameter is out of range; one sentence names it.
        """
