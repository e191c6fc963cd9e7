"""What a head is: the module that turns features into logits."""

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
from torch import nn

from skpartial._documentation import Documented
from skpartial.labels import LabelMatrix

__all__ = ["Head", "HeadContext", "ParameterGroup", "check_signature"]


class HeadContext:
    """What a head is built for: sizes, and what the training labels say of each other.

    Parameters
    ----------
    n_features : int
        Width d of the features, or channels C of feature maps.
    n_labels : int
        Number of labels L.
    label_names : iterable of str, or None, default=None
        Names of the labels, where y has them.
    labels : LabelMatrix or None, default=None
        The training labels, from which counts are made when they are asked for; None counts nothing.
    seed : int, default=0
        Of `generator`.

    Attributes
    ----------
    counts : ndarray of int64, shape (L,)
        In how many rows of the training set each label is known to be present.
    cooccurrence : csr_array of int64, shape (L, L)
        In how many rows two labels are known to be present together; the diagonal holds `counts`.

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
        """In how many rows each label is present, shape (L,)."""
        if self._labels is None:
            return np.zeros(self.n_labels, dtype=np.int64)
        return np.asarray(self._labels.count(1, axis=0))

    @cached_property
    def cooccurrence(self) -> sp.csr_array:
        """In how many rows two labels are present together, shape (L, L)."""
        if self._labels is None:
            return sp.csr_array((self.n_labels, self.n_labels), dtype=np.int64)
        present = sp.csr_array(self._labels.values == 1).astype(np.int64)
        return sp.csr_array(present.T @ present)

    @property
    def generator(self) -> torch.Generator:
        """Source of random numbers: a new one, seeded alike, whenever it is asked for."""
        return torch.Generator().manual_seed(self.seed)

    def without_labels(self) -> HeadContext:
        """The same with what has been counted so far, to build the head again for predictions.

        Returns
        -------
        HeadContext
            Small, so that it can be kept and pickled.
        """
        kept = copy.copy(self)
        kept._labels = None
        return kept


class ParameterGroup(NamedTuple):
    """Parameters of a head that are trained alike.

    Parameters
    ----------
    parameters : sequence of torch.nn.Parameter
        Which ones.
    penalty : float, default=1.0
        Their L2 penalty, as a multiple of the estimator's `alpha`.
    learning_rate : float, default=1.0
        Their learning rate, as a multiple of the head's.
    """

    parameters: Sequence[nn.Parameter]
    penalty: float = 1.0
    learning_rate: float = 1.0


class Head(Documented, BaseEstimator, ABC):
    """Base class of heads: value objects that build the module from features to logits.

    A subclass defines `build`; hyperparameters are its constructor's arguments, so that grids over `head__...` work.
    Everything else is done for it: features arrive with a root mean square of 1 whatever their units, logits start from
    the log odds of the labels' frequencies, and labels that cannot be fitted have constant logits.

    The module of an ensemble defines `member_logits`, from features to logits of shape (M, b, L), whose mean its
    `forward` answers.
    """

    #: Whether X holds feature maps, of shape (n, C, h, w), instead of rows of features.
    takes_maps: bool = False
    #: Whether `alpha` is meant for features in the units in which they are passed, as that of a linear head is, and not
    #: for features scaled to a root mean square of 1.
    keeps_units: bool = False
    #: Whether its module draws from PyTorch's own generator, when it is built or in training, as layers of
    #: :mod:`torch.nn` and dropout do. That generator, which all threads share, is then seeded for a fit and put back.
    draws: bool = True
    #: Members that are trained each for itself, on rows that weigh differently: see :class:`Ensemble`.
    n_members: int = 1

    @abstractmethod
    def build(self, context: HeadContext) -> nn.Module:
        """Build the module.

        Parameters
        ----------
        context : HeadContext
            Sizes, names, counts and co-occurrence of the labels, and a source of random numbers. What PyTorch's own
            generator draws is seeded as well.

        Returns
        -------
        torch.nn.Module
            From (b, d), or (b, C, h, w), to (b, L), newly initialised.

        Raises
        ------
        ValueError
            If a hyperparameter is out of range; one sentence names it.
        """

    def parameter_groups(self, module: nn.Module) -> list[ParameterGroup]:
        """Which parameters are penalised, and how fast they learn.

        Parameters
        ----------
        module : torch.nn.Module
            What `build` made.

        Returns
        -------
        list of ParameterGroup
            Together all parameters that are to be trained. By default matrices are penalised, and vectors are not.
        """
        trained = [p for p in module.parameters() if p.requires_grad]
        return [
            ParameterGroup([p for p in trained if p.ndim > 1]),
            ParameterGroup([p for p in trained if p.ndim <= 1], penalty=0.0),
        ]


def check_signature(head: Head) -> None:
    """Refuse a head whose `build` takes sizes, as those of the first version did."""
    needed = [
        name
        for name, parameter in inspect.signature(head.build).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    if len(needed) > 1:
        name = type(head).__name__
        raise TypeError(
            f"{name}.build({', '.join(needed)}) is of an earlier version of skpartial: define build(self, context), "
            "and take context.n_features and context.n_labels."
        )
