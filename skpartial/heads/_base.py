"""Base class of heads: value objects that build the module from features to logits."""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skpartial._documentation import Documented
from skpartial.labels import LabelMatrix

__all__ = ["Head", "HeadContext", "ParameterGroup", "check_signature"]


class HeadContext:
    """Everything that a head may use when it is built: sizes, and counts of the training labels.

    Parameters
    ----------
    n_features : int
        Width d of the features, or channels C of feature maps.
    n_labels : int
        Number of labels L.
    label_names : iterable of str, or None, default=None
        Names of the labels, where y has them.
    labels : LabelMatrix or None, default=None
        The training labels, from which counts are computed on demand; with None, counts are 0.
    seed : int, default=0
        Seed of `generator`.

    Attributes
    ----------
    counts : ndarray of int64, shape (L,)
        Number of rows of the training set in which each label is positive.
    cooccurrence : csr_array of int64, shape (L, L)
        Number of rows in which two labels are both positive; the diagonal holds `counts`.

    Examples
    --------
    >>> from skpartial.heads import HeadContext
    >>> from skpartial.labels import LabelMatrix
    >>> context = HeadContext(5, 3, labels=LabelMatrix.encode([[1, 1, 0], [1, -1, 0]]))
    >>> context.cooccurrence.toarray()
    array([[2, 1, 0],
           [1, 1, 0],
           [0, 0, 0]])
    """

    def __init__(
        self,
        n_features: int,
        n_labels: int,
        *,
        label_names: Iterable[str] | None = None,
        labels: LabelMatrix | None = None,
        seed: int = 0,
    ) -> None:
        self.n_features, self.n_labels = n_features, n_labels
        self.label_names = None if label_names is None else [str(name) for name in label_names]
        self.seed = seed
        self._labels = labels

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Number of rows in which each label is positive, shape (L,)."""
        if self._labels is None:
            return np.zeros(self.n_labels, dtype=np.int64)
        return np.asarray(self._labels.count(1, axis=0))

    @cached_property
    def cooccurrence(self) -> sp.csr_array:
        """Number of rows in which two labels are both positive, shape (L, L)."""
        if self._labels is None:
            return sp.csr_array((self.n_labels, self.n_labels), dtype=np.int64)
        present = sp.csr_array(self._labels.values == 1).astype(np.int64)
        return sp.csr_array(present.T @ present)

    @property
    def generator(self) -> torch.Generator:
        """Source of random numbers: a new one with the same seed at every access."""
        return torch.Generator().manual_seed(self.seed)

    def without_labels(self) -> HeadContext:
        """The context with the counts computed so far but without the labels, to rebuild the head for predictions.

        Returns
        -------
        HeadContext
            Small enough to be stored and pickled.
        """
        kept = copy.copy(self)
        kept._labels = None
        return kept


class ParameterGroup(NamedTuple):
    """Parameters of a head with the same penalty and learning rate.

    Parameters
    ----------
    parameters : sequence of torch.nn.Parameter
        The parameters.
    penalty : float, default=1.0
        L2 penalty of the parameters, as a multiple of the estimator's `alpha`.
    learning_rate : float, default=1.0
        Learning rate of the parameters, as a multiple of the rate of the head.
    """

    parameters: Sequence[nn.Parameter]
    penalty: float = 1.0
    learning_rate: float = 1.0


class Head(Documented, BaseEstimator, ABC):
    """Base class of heads: value objects that build the module from features to logits.

    A subclass defines `build`. Hyperparameters are arguments of the constructor, so that grids over `head__...` work.
    Everything else is done for it: features are scaled to a root mean square of 1, logits start from the log odds of
    the label frequencies, and labels that cannot be fitted have constant logits.

    The module of an ensemble also defines `member_logits`, from features to logits of shape (M, b, L); `forward`
    returns their mean.
    """

    #: Whether X holds feature maps, of shape (n, C, h, w), instead of rows of features.
    takes_maps: bool = False
    #: Whether `alpha` refers to features in the units in which they are passed, as for a linear head, and not to
    #: features scaled to a root mean square of 1.
    keeps_units: bool = False
    #: Whether the module draws from PyTorch's global generator when it is built or in training, like layers of
    #: :mod:`torch.nn` and dropout. That generator, which all threads share, is then seeded during a fit and restored.
    draws: bool = True
    #: Number of members, each trained separately with its own row weights: see :class:`Ensemble`.
    n_members: int = 1

    @abstractmethod
    def build(self, context: HeadContext) -> nn.Module:
        """Build the module.

        Parameters
        ----------
        context : HeadContext
            Sizes, names, counts and co-occurrence of the labels, and a source of random numbers. PyTorch's global
            generator is seeded as well.

        Returns
        -------
        torch.nn.Module
            A newly initialised module from (b, d), or (b, C, h, w), to (b, L).

        Raises
        ------
        ValueError
            If a hyperparameter is out of range; the message names it.
        """

    def parameter_groups(self, module: nn.Module) -> list[ParameterGroup]:
        """Penalties and learning rates of the parameters.

        Parameters
        ----------
        module : torch.nn.Module
            The module from `build`.

        Returns
        -------
        list of ParameterGroup
            Groups with all parameters to be trained. By default matrices are penalised, and vectors are not.
        """
        trained = [p for p in module.parameters() if p.requires_grad]
        return [
            ParameterGroup([p for p in trained if p.ndim > 1]),
            ParameterGroup([p for p in trained if p.ndim <= 1], penalty=0.0),
        ]

    def extra_penalty(self, module: nn.Module) -> Tensor | None:
        r"""A penalty that is not a sum over parameters, such as the penalty of a product of two matrices.

        Parameters
        ----------
        module : torch.nn.Module
            The module from `build`.

        Returns
        -------
        Tensor or None
            0-d and differentiable. It replaces :math:`\lVert W \rVert^2` in the penalty of a linear head, and is added
            to the penalties of `parameter_groups`. None, the default, means no such penalty.
        """
        return None


def check_signature(head: Head) -> None:
    """Raise an error for a head whose `build` takes sizes, as in the first version."""
    needed = [
        name
        for name, parameter in inspect.signature(head.build).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    if len(needed) > 1:
        name = type(head).__name__
        raise TypeError(
            f"{name}.build({', '.join(needed)}) is the form of an earlier version of skpartial: define "
            "build(self, context), and use context.n_features and context.n_labels."
        )
