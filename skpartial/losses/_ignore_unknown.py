"""Losses on known entries only: binary cross-entropy, ignore-unknown and partial-BCE."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from typing_extensions import override

from skpartial._checks import check_number, wrong_value
from skpartial.labels import LabelMatrix
from skpartial.losses._base import Traits
from skpartial.losses._entrywise import Block
from skpartial.losses._pointwise import PointwiseLoss, Surrogate, Targets

__all__ = ["BCE", "IgnoreUnknown", "PartialBCE"]


class BCE(PointwiseLoss):
    r"""Binary cross-entropy on complete labels, with optional label smoothing.

    .. math::

        \frac{1}{n L} \sum_{ij} -t_{ij} \log p_{ij} - (1 - t_{ij}) \log(1 - p_{ij}), \quad
        t_{ij} = 1 - s \text{ if present}, \; s \text{ if absent}

    The reference for every loss for incomplete labels. It raises an error for unknown entries. On complete labels,
    :class:`IgnoreUnknown` and :class:`AssumeNegative` equal it.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        The mass s in [0, 0.5) moved to the other side. A paper's smoothing of epsilon is s = epsilon / 2.
    eps : float, default=0.0
        The constant inside the logarithm, in [0, 1).
    surrogate : {"logistic", "squared"}, default="logistic"
        Cross-entropy, or the squared error in its place, which `FullBatch` minimises in closed form; see
        :ref:`the guide <squared-loss>`.

    References
    ----------
    .. [1] E. Cole, O. Mac Aodha, T. Lorieul, P. Perona, D. Morris, N. Jojic, "Multi-Label Learning from Single
       Positive Labels", CVPR 2021, equations 1 and 9.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import BCE
    >>> BCE()(torch.tensor([[2.0, -1.0]]), torch.tensor([[1, -1]]))
    tensor(0.2201)
    """

    short_names = {"bce": {}}

    def __init__(self, label_smoothing: float = 0.0, *, eps: float = 0.0, surrogate: Surrogate = "logistic") -> None:
        super().__init__(eps=eps, surrogate=surrogate)
        self.label_smoothing = label_smoothing

    @override
    def traits(self) -> Traits:
        return self._convex_traits("ignore")

    @override
    def check(self, labels: LabelMatrix | None = None) -> None:
        super().check(labels)
        check_number(self, "label_smoothing", self.label_smoothing, "[0, 0.5)")
        if labels is not None and labels.n_known < labels.n_rows * labels.n_labels:
            unknown = labels.n_rows * labels.n_labels - labels.n_known
            raise ValueError(
                f"BCE needs complete labels, but y holds {unknown} unknown entries (0). Use IgnoreUnknown or "
                "PartialBCE to leave them out, AssumeNegative to treat them as negative, or write -1 for negative."
            )

    @override
    def targets(self, block: Block) -> Targets:
        if bool(block.unknown.any()):
            raise ValueError("BCE needs complete labels, but `labels` holds unknown entries (0).")
        s = self.label_smoothing
        return Targets(block.present.mul_(1 - 2 * s).add_(s), None)


class IgnoreUnknown(PointwiseLoss):
    r"""Cross-entropy on the known entries; unknown entries contribute nothing (IU).

    .. math::

        \frac{1}{n L} \sum_{ij \text{ known}} -1[y_{ij} = 1] \log p_{ij} - 1[y_{ij} = -1] \log(1 - p_{ij})

    On labels with all negatives but only some positives known, this is the loss called IUN (ignore unobserved, with
    true negatives), which needs no class of its own. If only positives are known, predicting everything as positive
    minimises the loss.

    Parameters
    ----------
    eps : float, default=0.0
        The constant inside the logarithm, in [0, 1).
    surrogate : {"logistic", "squared"}, default="logistic"
        Cross-entropy, or the squared error in its place, which `FullBatch` minimises in closed form; see
        :ref:`the guide <squared-loss>`.

    References
    ----------
    .. [1] E. Cole et al., "Multi-Label Learning from Single Positive Labels", CVPR 2021, section 3.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import IgnoreUnknown
    >>> IgnoreUnknown()(torch.tensor([[2.0, -1.0]]), torch.tensor([[1, 0]]))
    tensor(0.0635)
    """

    short_names = {"iu": {}}

    @override
    def traits(self) -> Traits:
        return self._convex_traits("ignore")

    @override
    def targets(self, block: Block) -> Targets:
        return Targets(block.present, block.known)


class PartialBCE(PointwiseLoss):
    r"""Partial binary cross-entropy: known entries, weighted by the proportion of known labels in their row.

    .. math::

        \frac{1}{n} \sum_i \frac{g(p_i)}{L} \sum_{j \text{ known}}
        -1[y_{ij} = 1] \log p_{ij} - 1[y_{ij} = -1] \log(1 - p_{ij}), \quad g(p) = \alpha p^\gamma + \beta

    where :math:`p_i` is the proportion of known labels in row i. For a given :math:`\gamma`, the other two constants
    follow from g(1) = 1, so that a complete row counts as in :class:`BCE`, and from the weight at one other proportion.
    A row without any known label contributes nothing. The published equation lacks the minus sign.

    Parameters
    ----------
    gamma : float, default=1.0
        The exponent, not 0. With negative exponents the weight of sparse rows rises more steeply. The source finds 1
        best, -1 close, and 3 better where most labels are known.
    weight_at : pair of float, default=(0.1, 5.0)
        A proportion p0 in (0, 1) and the weight g(p0), at least 0. By default each known entry counts five times in a
        row with a tenth of the labels known. ``(p0, 1)`` makes g constant, which is :class:`IgnoreUnknown`;
        ``gamma=-1`` with ``(0.1, 10)`` is the mean over known entries.
    eps : float, default=0.0
        The constant inside the logarithm, in [0, 1).
    surrogate : {"logistic", "squared"}, default="logistic"
        Cross-entropy, or the squared error in its place, which `FullBatch` minimises in closed form; see
        :ref:`the guide <squared-loss>`.

    References
    ----------
    .. [1] T. Durand, N. Mehrasa, G. Mori, "Learning a Deep ConvNet for Multi-label Classification with Partial
       Labels", CVPR 2019, equations 1 and 2.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import PartialBCE
    >>> loss = PartialBCE(gamma=1, weight_at=(0.1, 5))
    >>> loss.row_weight(torch.tensor([0.1, 0.5, 1.0]))
    tensor([5.0000, 3.2222, 1.0000])
    >>> loss(torch.tensor([[2.0, -1.0]]), torch.tensor([[1, 0]]))
    tensor(0.2045)
    """

    short_names = {"partial_bce": {}}

    def __init__(
        self,
        gamma: float = 1.0,
        weight_at: tuple[float, float] = (0.1, 5.0),
        *,
        eps: float = 0.0,
        surrogate: Surrogate = "logistic",
    ) -> None:
        super().__init__(eps=eps, surrogate=surrogate)
        self.gamma = gamma
        self.weight_at = weight_at

    @override
    def traits(self) -> Traits:
        # Known entries have up to five times the weight that they have in `IgnoreUnknown`.
        return replace(self._convex_traits("ignore"), relative_alpha=4e-4, alpha_exponent=0.0)

    def coefficients(self) -> tuple[float, float]:
        r"""Constants of g, solved from g(1) = 1 and g(p0) = w0.

        .. math::

            \alpha = \frac{w_0 - 1}{p_0^\gamma - 1}, \quad \beta = 1 - \alpha

        Returns
        -------
        alpha, beta : float
            For the defaults -4.44 and 5.44.
        """
        p0, w0 = self.weight_at
        # Exact for small exponents too, where p0 to the power of gamma is close to 1.
        alpha = (w0 - 1) / math.expm1(self.gamma * math.log(p0))
        return alpha, 1 - alpha

    def row_weight(self, proportion: Tensor) -> Tensor:
        """Weight g(p) of a row.

        Parameters
        ----------
        proportion : Tensor
            Proportions of known labels, in [0, 1].

        Returns
        -------
        Tensor
            Of the same shape; 0 where nothing is known.

        Raises
        ------
        ValueError
            If g is negative at one of the proportions.
        """
        alpha, _ = self.coefficients()
        rise = torch.expm1(self.gamma * proportion.clamp(min=1e-30).log())
        weight = torch.where(proportion > 0, 1 + alpha * rise, 0.0)
        if bool((weight < 0).any()):
            lowest = float(proportion[weight < 0].min())
            raise ValueError(
                f"PartialBCE(gamma={self.gamma!r}, weight_at={self.weight_at!r}) gives rows with a proportion of "
                f"{lowest:.3g} known a negative weight: raise the weight in weight_at."
            )
        return weight

    @override
    def check(self, labels: LabelMatrix | None = None) -> None:
        super().check(labels)
        if check_number(self, "gamma", self.gamma, "[-100, 100]") == 0:
            raise ValueError(
                "PartialBCE: gamma must not be 0, which leaves g(p) = a + b undetermined. For weights that do not "
                "depend on the proportion of known labels, use IgnoreUnknown."
            )
        if not isinstance(self.weight_at, tuple | list) or len(self.weight_at) != 2:
            raise wrong_value(self, "weight_at", "a pair (proportion, weight), such as (0.1, 5)", self.weight_at)
        check_number(self, "weight_at[0], the proportion,", self.weight_at[0], "(0, 1)")
        check_number(self, "weight_at[1], the weight,", self.weight_at[1], "[0, inf)")

    @override
    def targets(self, block: Block) -> Targets:
        known = block.known
        weight = self.row_weight(known.mean(dim=1, keepdim=True))
        return Targets(block.present, known.mul_(weight))
