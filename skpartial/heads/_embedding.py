"""Embeddings of labels and features in one low-dimensional space, as in WSABIE."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from skpartial._checks import check_whole
from skpartial.heads._base import Head, HeadContext, ParameterGroup
from skpartial.heads._module import AffineInput

__all__ = ["LabelEmbedding"]

# More dimensions cost time and improve little, even with many labels.
_COMPONENTS = 100
# Learning rate relative to a linear head on as many features; smaller, because both factors move at once.
_EMBEDDING_RATE = 0.3


class EmbeddingModule(AffineInput):
    """Inner products of embedded rows and embedded labels; also accepts sparse COO batches.

    Parameters
    ----------
    context : HeadContext
        Sizes and seed.
    n_components : int
        Dimension r of the space.
    """

    fixed: Tensor
    constant: Tensor

    def __init__(self, context: HeadContext, n_components: int) -> None:
        super().__init__()
        n_labels = context.n_labels
        # If features have a root mean square of 1, so have embeddings, approximately.
        drawn = torch.randn(n_components, context.n_features, generator=context.generator)
        self.projection = nn.Parameter(drawn / context.n_features**0.5)
        # Start at zero, so that logits start from the label frequencies.
        self.embedding = nn.Parameter(torch.zeros(n_labels, n_components))
        self.bias = nn.Parameter(torch.zeros(n_labels))
        self.register_buffer("fixed", torch.zeros(n_labels, dtype=torch.bool))
        self.register_buffer("constant", torch.zeros(n_labels))

    @property
    def input_weights(self) -> list[Tensor]:
        return [self.projection]

    @property
    def intercepts(self) -> list[Tensor]:
        return [self.bias]

    @torch.no_grad()
    def set_prior(self, prior: Tensor) -> None:
        self.bias.copy_(prior)

    def fix(self, labels: Tensor, prior: Tensor) -> None:
        # At once, since all labels influence the projection.
        self.fixed.copy_(labels)
        self.constant[labels] = prior[labels].to(self.constant.dtype)

    @torch.no_grad()
    def settle(self, labels: Tensor, prior: Tensor) -> None:
        self.fix(labels, prior)
        self.embedding[labels] = 0
        self.bias[labels] = self.constant[labels]

    def arrays(self) -> dict[str, NDArray[Any]]:
        found = {name: tensor.detach().cpu().numpy().copy() for name, tensor in self.state_dict().items()}
        found["projection"] *= found["projection"].dtype.type(self.input_scale)
        found["bias"] -= self.shift(found["projection"], found["embedding"])
        return found

    @torch.no_grad()
    def load_arrays(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.load_state_dict({name: torch.as_tensor(np.asarray(value)) for name, value in arrays.items()})
        shift = self.shift(np.asarray(arrays["projection"]), np.asarray(arrays["embedding"]))
        self.bias.add_(torch.as_tensor(shift).to(self.bias))
        self.projection.div_(self.input_scale)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch."""
        embedded = self.product(features, self.projection)
        logits = torch.addmm(self.bias, embedded, self.embedding.T, alpha=self.input_scale)
        return torch.where(self.fixed, self.constant, logits)


class LabelEmbedding(Head):
    r"""Logits as inner products of embedded features and embedded labels (WSABIE), a linear map of low rank.

    .. math::

        x = W V f + b, \quad V \in \mathbb{R}^{r \times d}, \; W \in \mathbb{R}^{L \times r}

    V embeds features f in a space of r dimensions, in which the embedding of each label is a row of W. Labels with
    similar embeddings share what is learned about them. WSABIE proper is this head with
    :class:`~skpartial.losses.WARP`; it can be combined with every other loss too.

    The source bounds the norm of each column of V and of each row of W. Here `alpha` penalises the product instead, by
    :math:`\frac{\alpha}{2L} \lVert W V \rVert^2`, the penalty of a linear head with weights W V. Values of `alpha`
    therefore mean the same as for a linear head, regardless of how V and W are scaled. With as many components as
    labels, the objective is that of the linear head.

    The head needs :class:`~skpartial.solvers.Minibatch`, which ``solver="auto"`` selects. The parameters of the module
    are `projection` (r, d), `embedding` (L, r) and `bias` (L,); a fitted estimator has them in `head_parameters_`.

    Parameters
    ----------
    n_components : int or None, default=None
        The dimension r. None takes 100, or the number of labels or of features if that is less. If the dimension is far
        below the number of labels, labels share components, and lose what the shared components cannot express.

    Raises
    ------
    ValueError
        In `fit`, if `n_components` is neither None nor a whole number of at least 1.

    Notes
    -----
    V starts at random, seeded by `random_state`, and W at zero, so that logits start from the label frequencies. A
    label that cannot be fitted has a constant logit and does not influence V.

    References
    ----------
    .. [1] J. Weston, S. Bengio, N. Usunier, "WSABIE: Scaling Up To Large Vocabulary Image Annotation", IJCAI 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.heads import LabelEmbedding
    >>> from skpartial.losses import WARP
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(60, 8)), rng.integers(-1, 2, size=(60, 5))
    >>> clf = PartialLabelClassifier(WARP(unknown="ignore"), head=LabelEmbedding(n_components=2), random_state=0)
    >>> clf = clf.fit(X, Y)
    >>> {name: clf.head_parameters_[name].shape for name in ("projection", "embedding")}
    {'projection': (2, 8), 'embedding': (5, 2)}
    """

    keeps_units = True
    draws = False

    def __init__(self, n_components: int | None = None) -> None:
        self.n_components = n_components

    @override
    def build(self, context: HeadContext) -> nn.Module:
        n_components = min(_COMPONENTS, context.n_labels, context.n_features)
        if self.n_components is not None:
            what = "None or a whole number of at least 1"
            n_components = check_whole(self, "n_components", self.n_components, 1, what)
        return EmbeddingModule(context, n_components)

    @override
    def parameter_groups(self, module: nn.Module) -> list[ParameterGroup]:
        assert isinstance(module, EmbeddingModule)
        n_components, n_features = module.projection.shape
        rate = _EMBEDDING_RATE * max(n_features, 30) / max(n_components, 30)
        return [
            ParameterGroup([module.projection, module.bias], penalty=0.0),
            ParameterGroup([module.embedding], penalty=0.0, learning_rate=rate),
        ]

    @override
    def extra_penalty(self, module: nn.Module) -> Tensor:
        assert isinstance(module, EmbeddingModule)
        # ||W V||^2 without the product, which may have millions of entries.
        return ((module.embedding.T @ module.embedding) * (module.projection @ module.projection.T)).sum()
