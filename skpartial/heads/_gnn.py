"""A graph neural network over the labels, which refines their logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, linear, normalize
from torch.utils.checkpoint import checkpoint
from typing_extensions import override

from skpartial._checks import check_choice, check_number, check_whole, wrong_value
from skpartial.heads._base import Head, HeadContext, ParameterGroup
from skpartial.heads._graph import companion_graph, user_graph
from skpartial.heads._linear import Linear
from skpartial.heads._module import CombinedHead, HeadModule, build_head

__all__ = ["CategoryGNN"]

# Memory for states at a time; larger batches are computed in parts, and recomputed for gradients.
_WORKING_BYTES = 1 << 27
# Numbers that autograd keeps per step, as a multiple of the state: messages, gates and the state itself.
_KEPT_OF_A_STEP = 16
# Width of the states, unless there are fewer labels.
_HIDDEN = 64
# A recurrent unit of this width needs a lower learning rate of Adam than an affine map.
_RATE, _LEAST_WIDTH = 0.3, 30


class _Messages(nn.Module):
    """Messages to each label: the mean message of all other labels, or of the neighbours in a graph."""

    start: Tensor
    neighbor: Tensor
    strength: Tensor

    def __init__(self, context: HeadContext, graph: Any, n_neighbors: int) -> None:
        super().__init__()
        n_labels, self.full = context.n_labels, isinstance(graph, str) and graph == "full"
        self.share = 1 / max(n_labels - 1, 1)
        if self.full:
            return
        if isinstance(graph, str):
            edges = companion_graph(context.cooccurrence, n_neighbors)
        else:
            edges = user_graph(graph, context.label_names, n_labels)
        # As separate arrays, not as a sparse tensor, so that they are saved like other buffers.
        self.register_buffer("start", torch.as_tensor(edges.indptr[:-1].astype(np.int64)))
        self.register_buffer("neighbor", torch.as_tensor(edges.indices.astype(np.int64)))
        self.register_buffer("strength", torch.as_tensor(edges.data.astype(np.float32)))

    def forward(self, said: Tensor) -> Tensor:
        """Means (L, b, D) of the messages (L, b, D)."""
        if self.full:
            # The mean over all other labels, from one sum over all.
            return (said.sum(0, keepdim=True) - said) * self.share
        strength = self.strength.to(said.dtype)
        told = embedding_bag(self.neighbor, said.flatten(1), self.start, mode="sum", per_sample_weights=strength)
        return told.view_as(said)


class CategoryNetwork(nn.Module):
    """The correction that a graph neural network adds to the logits.

    Parameters
    ----------
    context : HeadContext
        Sizes, counts and seed.
    width : int
        Length D of a state.
    n_steps : int
        Number of message-passing steps.
    messages : _Messages
        The means over neighbours.
    """

    def __init__(self, context: HeadContext, width: int, n_steps: int, messages: _Messages) -> None:
        super().__init__()
        n_labels, draw = context.n_labels, context.generator
        self.n_steps, self.messages = n_steps, messages
        if width >= n_labels:
            direction = torch.eye(n_labels, width)
        else:
            direction = normalize(torch.randn(n_labels, width, generator=draw), dim=1)
        self.direction = nn.Parameter(direction)
        self.origin = nn.Parameter(torch.zeros(n_labels, width))

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter((2 * torch.rand(shape, generator=draw) - 1) / width**0.5)

        self.message_in, self.message_out = uniform(width, width), uniform(width, width)
        self.message_in_bias = nn.Parameter(torch.zeros(width))
        self.message_out_bias = nn.Parameter(torch.zeros(width))
        # Skip PyTorch's initialisation, which draws from the global generator.
        self.unit: nn.GRUCell = torch.nn.utils.skip_init(nn.GRUCell, width, width)
        with torch.no_grad():
            for parameter in self.unit.parameters():
                parameter.copy_(uniform(*parameter.shape))
        self.readout = nn.Parameter(torch.zeros(width))
        self.own_readout = nn.Parameter(torch.zeros(n_labels, width))

    def _correction(self, logits: Tensor) -> Tensor:
        """The correction of logits (b, L), for rows that fit into memory."""
        state = logits.T.unsqueeze(2) * self.direction.unsqueeze(1) + self.origin.unsqueeze(1)
        shape = state.shape
        for _ in range(self.n_steps):
            hidden = torch.relu(linear(state, self.message_in, self.message_in_bias))
            told = self.messages(linear(hidden, self.message_out, self.message_out_bias))
            state = self.unit(told.flatten(0, 1), state.flatten(0, 1)).view(shape)
        return torch.einsum("lbd,ld->bl", state, self.readout + self.own_readout)

    def forward(self, logits: Tensor) -> Tensor:
        """The correction of logits (b, L)."""
        n_labels, width = self.direction.shape
        row_bytes = _KEPT_OF_A_STEP * self.n_steps * n_labels * width * logits.element_size()
        n_rows = max(1, _WORKING_BYTES // row_bytes)
        # An exported graph must accept any number of rows.
        if torch.compiler.is_compiling() or n_rows >= len(logits):
            return self._correction(logits)
        parts = logits.split(n_rows)
        if not torch.is_grad_enabled():
            return torch.cat([self._correction(part) for part in parts])
        return torch.cat(
            [checkpoint(self._correction, part, use_reentrant=False, preserve_rng_state=False) for part in parts]
        )


class CategoryGNNModule(CombinedHead):
    """Logits of another head, plus the correction of a graph neural network.

    Parameters
    ----------
    base : HeadModule
        From features to logits.
    network : CategoryNetwork
        From the logits to the correction.
    n_features : int
        Width of the features, to which learning rates are relative.
    """

    fixed: Tensor
    constant: Tensor

    def __init__(self, base: HeadModule, network: CategoryNetwork, n_features: int) -> None:
        super().__init__()
        self.base, self.network, self.n_features = base, network, n_features
        n_labels = len(network.origin)
        self.register_buffer("fixed", torch.zeros(n_labels, dtype=torch.bool))
        self.register_buffer("constant", torch.zeros(n_labels))

    @property
    def parts(self) -> dict[str, HeadModule]:
        return {"base": self.base}

    def fix(self, labels: Tensor, prior: Tensor) -> None:
        # At once, even if the base waits: these labels send messages to others.
        self.base.fix(labels, prior)
        self.fixed.copy_(labels)
        self.constant[labels] = prior[labels].to(self.constant.dtype)

    def settle(self, labels: Tensor, prior: Tensor) -> None:
        self.fix(labels, prior)
        self.base.settle(labels, prior)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch."""
        logits = torch.where(self.fixed, self.constant, self.base(features))
        return logits + torch.where(self.fixed, 0, self.network(logits))


class CategoryGNN(Head):
    r"""Logits refined by a graph neural network whose nodes are the labels.

    Another head computes the logit :math:`x_v` of each label v. The initial state of the label comes from this logit.
    It is updated in T steps by messages from the neighbours :math:`\Omega_v`, and a readout of the last state is added
    to the logit:

    .. math::

        h_v^0 &= x_v e_v + c_v, \qquad
        m_v^t = \frac{1}{|\Omega_v|} \sum_{u \in \Omega_v} f(h_u^t), \qquad
        h_v^{t+1} = \mathrm{GRU}(h_v^t, m_v^t) \\
        x'_v &= x_v + (r + r_v) \cdot h_v^T

    where f is a perceptron with one hidden layer of rectified units. By default all labels are neighbours of each
    other. The mean over all other labels is computed from the sum over all, so the cost of a step grows with the number
    of labels, not of pairs. The perceptron, the gated recurrent unit and the readout r are shared by all labels and
    steps, so that rare labels benefit from frequent ones. Each label has its own vectors :math:`e_v, c_v, r_v` of D
    numbers each. Readouts start at zero, so that training starts from the logits of the other head. :math:`c_v` starts
    at zero, and :math:`e_v` at the unit vectors, or at random directions if there are more labels than D.

    The head needs :class:`~skpartial.solvers.Minibatch`, which ``solver="auto"`` selects. The short name is "gnn".

    Parameters
    ----------
    n_steps : int, default=3
        The number T of steps, at least 1.
    hidden_size : int or None, default=None
        The length D of a state. None takes 64, or the number of labels if that is less.
    graph : {"full", "cooccurrence"}, array-like, DataFrame or sparse matrix of shape (L, L), default="full"
        Neighbours of each label. "full": all other labels. "cooccurrence": the labels that are most often positive
        together with it. Row v of a matrix holds the weights of the messages to label v, 0 for none; rows are divided
        by the sum of the absolute values, and the diagonal is ignored. If labels have names, a DataFrame is reordered
        by its names. A label without neighbours receives zeros.
    n_neighbors : int, default=20
        Maximal number of neighbours per label for "cooccurrence", weighted by the number of rows that both share.
    base : "linear" or Head, default="linear"
        The head whose logits are refined. If it pools maps, like :class:`~skpartial.heads.WeldonPooling`, this head
        takes maps too.
    learning_rate : float, default=1.0
        Multiplies the learning rate of the network. At 1, the rate is 0.3 / max(D, 30) where the rate of a linear head
        is 1 / max(d, 30).
    penalty : float, default=1.0
        L2 penalty of all parameters of the network, as a multiple of the penalty of weights for features with a root
        mean square of 1. Without it, the network can increase logits at no cost, and so undo the penalty of the
        weights. If it is too strong, the parameters go to zero, and the logits are those of `base`: at the default
        this often happens. If labels depend on each other in a way that features do not show, try 0.1.

    Attributes
    ----------
    takes_maps : bool
        Whether `base` pools maps.

    Raises
    ------
    ValueError
        In `fit`, if a parameter is out of range, the graph has another shape or non-finite values, or `graph` is
        "cooccurrence" and no two labels are positive in the same row.

    Notes
    -----
    States of 5,000 labels take about 400 MB for any batch size: larger batches go through the network in parts, which
    are recomputed for their gradients. One row takes 192 T L D bytes in float32, with T = 3: 61 MB for 5,000 labels (D
    = 64).

    The paper does not specify the initial states, the readout, the width and the number of steps. Here the initial
    state is the logit times a vector (a unit vector in the paper's supplement, as quoted elsewhere), and the readout
    starts at zero.

    References
    ----------
    .. [1] T. Durand, N. Mehrasa, G. Mori, "Learning a Deep ConvNet for Multi-label Classification with Partial
       Labels", CVPR 2019, section 3.2, equations 3 to 6.
    .. [2] K. Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
       Translation", EMNLP 2014 (the gated recurrent unit).

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.heads import CategoryGNN
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(60, 5)), rng.integers(-1, 2, size=(60, 4))
    >>> clf = PartialLabelClassifier(head=CategoryGNN(n_steps=2), alpha=1e-2, random_state=0)
    >>> clf.fit(X, Y).predict_proba(X).shape
    (60, 4)
    """

    def __init__(
        self,
        n_steps: int = 3,
        hidden_size: int | None = None,
        graph: Any = "full",
        n_neighbors: int = 20,
        base: str | Head = "linear",
        learning_rate: float = 1.0,
        penalty: float = 1.0,
    ) -> None:
        self.n_steps = n_steps
        self.hidden_size = hidden_size
        self.graph = graph
        self.n_neighbors = n_neighbors
        self.base = base
        self.learning_rate = learning_rate
        self.penalty = penalty

    @property
    def takes_maps(self) -> bool:  # type: ignore[override]
        """Whether `base` pools maps."""
        return isinstance(self.base, Head) and self.base.takes_maps

    @property
    def keeps_units(self) -> bool:  # type: ignore[override]
        """Whether `alpha` refers to features in the units in which they are passed: as for `base`."""
        return not isinstance(self.base, Head) or self.base.keeps_units

    @property
    def draws(self) -> bool:  # type: ignore[override]
        """Whether `base` draws from PyTorch's global generator; the network does not."""
        return isinstance(self.base, Head) and self.base.draws

    @override
    def build(self, context: HeadContext) -> nn.Module:
        n_steps = check_whole(self, "n_steps", self.n_steps, 1)
        n_neighbors = check_whole(self, "n_neighbors", self.n_neighbors, 1)
        width = min(_HIDDEN, context.n_labels)
        if self.hidden_size is not None:
            width = check_whole(self, "hidden_size", self.hidden_size, 1, "None or a whole number of at least 1")
        if isinstance(self.graph, str):
            check_choice(self, "graph", self.graph, ("full", "cooccurrence"))
        elif self.graph is None:
            raise wrong_value(self, "graph", "'full', 'cooccurrence' or a matrix with one row per label", self.graph)
        messages = _Messages(context, self.graph, n_neighbors)
        network = CategoryNetwork(context, width, n_steps, messages)
        return CategoryGNNModule(build_head(self._base_head(), context), network, context.n_features)

    def _base_head(self) -> Head:
        if isinstance(self.base, Head):
            return self.base
        if isinstance(self.base, str) and self.base == "linear":
            return Linear()
        raise wrong_value(self, "base", "'linear' or a skpartial.heads.Head", self.base)

    @override
    def parameter_groups(self, module: nn.Module) -> list[ParameterGroup]:
        assert isinstance(module, CategoryGNNModule)
        factor = check_number(self, "learning_rate", self.learning_rate, "[0, inf)", "a number of at least 0")
        penalty = check_number(self, "penalty", self.penalty, "[0, inf)", "a number of at least 0")
        n_features, width = module.n_features, module.network.direction.shape[1]
        rate = _RATE * max(n_features, _LEAST_WIDTH) / max(width, _LEAST_WIDTH)
        return [
            *self._base_head().parameter_groups(module.base.inner),
            ParameterGroup(list(module.network.parameters()), penalty=penalty, learning_rate=factor * rate),
        ]

    @override
    def extra_penalty(self, module: nn.Module) -> Tensor | None:
        assert isinstance(module, CategoryGNNModule)
        return self._base_head().extra_penalty(module.base.inner)
