"""A network of the categories: logits that look at each other before they are final."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, linear, normalize
from torch.utils.checkpoint import checkpoint
from typing_extensions import override

from skpartial._checks import check_choice, check_number, check_whole, wrong_value
from skpartial.heads._base import Head, HeadContext, ParameterGroup
from skpartial.heads._graph import companion_graph, user_graph
from skpartial.heads._linear import Linear
from skpartial.heads._module import HeadModule, build_head

__all__ = ["CategoryGNN"]

# States that are in memory at a time; what is beyond is computed in pieces of the batch, and once more for gradients.
_WORKING_BYTES = 1 << 27
# Numbers that autograd keeps of a step, in multiples of a state: of the messages, the gates and the state itself.
_KEPT_OF_A_STEP = 16
# Width of the states, unless there are fewer labels.
_HIDDEN = 64
# Steps of Adam that suit a recurrent unit of this width are shorter than those that suit an affine map.
_RATE, _LEAST_WIDTH = 0.3, 30


class _Messages(nn.Module):
    """What each category is told: the mean of what the others say, or those that a graph names."""

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
        # As arrays of their own, and not as a sparse tensor, so that they are saved as other buffers are.
        self.register_buffer("start", torch.as_tensor(edges.indptr[:-1].astype(np.int64)))
        self.register_buffer("neighbor", torch.as_tensor(edges.indices.astype(np.int64)))
        self.register_buffer("strength", torch.as_tensor(edges.data.astype(np.float32)))

    def forward(self, said: Tensor) -> Tensor:
        """Means (L, b, D) of what is said, (L, b, D)."""
        if self.full:
            # Of all others: one sum serves everyone.
            return (said.sum(0, keepdim=True) - said) * self.share
        strength = self.strength.to(said.dtype)
        told = embedding_bag(self.neighbor, said.flatten(1), self.start, mode="sum", per_sample_weights=strength)
        return told.view_as(said)


class CategoryNetwork(nn.Module):
    """What is added to the logits of categories that look at each other.

    Parameters
    ----------
    context : HeadContext
        Sizes, counts and seed.
    width : int
        Length D of a state.
    n_steps : int
        How often messages are sent.
    messages : _Messages
        Who hears whom.
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
        # Without PyTorch's own start, which draws from the generator that all share.
        self.unit: nn.GRUCell = torch.nn.utils.skip_init(nn.GRUCell, width, width)
        with torch.no_grad():
            for parameter in self.unit.parameters():
                parameter.copy_(uniform(*parameter.shape))
        self.readout = nn.Parameter(torch.zeros(width))
        self.own_readout = nn.Parameter(torch.zeros(n_labels, width))

    def _correction(self, logits: Tensor) -> Tensor:
        """What is added to logits (b, L), of rows that all fit into memory."""
        state = logits.T.unsqueeze(2) * self.direction.unsqueeze(1) + self.origin.unsqueeze(1)
        shape = state.shape
        for _ in range(self.n_steps):
            hidden = torch.relu(linear(state, self.message_in, self.message_in_bias))
            told = self.messages(linear(hidden, self.message_out, self.message_out_bias))
            state = self.unit(told.flatten(0, 1), state.flatten(0, 1)).view(shape)
        return torch.einsum("lbd,ld->bl", state, self.readout + self.own_readout)

    def forward(self, logits: Tensor) -> Tensor:
        """What is added to logits (b, L)."""
        n_labels, width = self.direction.shape
        row_bytes = _KEPT_OF_A_STEP * self.n_steps * n_labels * width * logits.element_size()
        n_rows = max(1, _WORKING_BYTES // row_bytes)
        # What is exported takes any number of rows, and does not look at it.
        if torch.compiler.is_compiling() or n_rows >= len(logits):
            return self._correction(logits)
        parts = logits.split(n_rows)
        if not torch.is_grad_enabled():
            return torch.cat([self._correction(part) for part in parts])
        return torch.cat(
            [checkpoint(self._correction, part, use_reentrant=False, preserve_rng_state=False) for part in parts]
        )


class CategoryGNNModule(HeadModule):
    """Logits of another head, and what a network of the categories adds to them.

    Parameters
    ----------
    base : HeadModule
        From features to logits.
    network : CategoryNetwork
        From these to what is added.
    n_features : int
        Width of the features, by which learning rates are compared.
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
    def inner(self) -> nn.Module:
        return self

    @property
    def scale(self) -> float:
        return self.base.scale

    @property
    def penalty_scale(self) -> float:
        return self.base.penalty_scale

    def set_scale(self, scale: float) -> None:
        self.base.set_scale(scale)

    def set_prior(self, prior: Tensor) -> None:
        self.base.set_prior(prior)

    def fix(self, labels: Tensor, prior: Tensor) -> None:
        # At once, whatever the base does: others hear of these labels.
        self.base.fix(labels, prior)
        self.fixed.copy_(labels)
        self.constant[labels] = prior[labels].to(self.constant.dtype)

    def settle(self, labels: Tensor, prior: Tensor) -> None:
        self.fix(labels, prior)
        self.base.settle(labels, prior)

    def arrays(self) -> dict[str, NDArray[Any]]:
        found = {name: tensor.detach().cpu().numpy().copy() for name, tensor in self.state_dict().items()}
        return found | {f"base.{name}": array for name, array in self.base.arrays().items()}

    def load_arrays(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.load_state_dict({name: torch.as_tensor(np.asarray(array)) for name, array in arrays.items()})
        prefix = "base."
        self.base.load_arrays(
            {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        )

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch."""
        logits = torch.where(self.fixed, self.constant, self.base(features))
        return logits + torch.where(self.fixed, 0, self.network(logits))


class CategoryGNN(Head):
    r"""Logits that are refined by a graph neural network whose nodes are the labels.

    Another head gives every label v a logit :math:`x_v`. It becomes a state, which is updated in T steps by what the
    states of the neighbours :math:`\Omega_v` say, and what is read from the last state is added to the logit:

    .. math::

        h_v^0 &= x_v e_v + c_v, \qquad
        m_v^t = \frac{1}{|\Omega_v|} \sum_{u \in \Omega_v} f(h_u^t), \qquad
        h_v^{t+1} = \mathrm{GRU}(h_v^t, m_v^t) \\
        x'_v &= x_v + (r + r_v) \cdot h_v^T

    with a perceptron f of one hidden layer of rectified units. By default all labels are neighbours of each other; the
    mean over all others is the mean over all less one's own, so that a step costs as much as there are labels, not
    pairs of them. The perceptron, the gated recurrent unit and the readout r are shared by all labels and steps: what
    is learned of frequent labels serves rare ones. A label's own are the vectors :math:`e_v, c_v, r_v`, of D numbers
    each. Readouts start at zero, so that training starts from the logits of the other head, :math:`c_v` at zero, and
    :math:`e_v` at the unit vectors, or at random directions where there are more labels than D.

    It needs :class:`~skpartial.solvers.Minibatch`, which "auto" takes. The short name is "gnn".

    Parameters
    ----------
    n_steps : int, default=3
        The number T of steps, at least 1.
    hidden_size : int or None, default=None
        The length D of a state. None takes 64, or the number of labels where that is less.
    graph : {"full", "cooccurrence"}, array-like, DataFrame or sparse matrix of shape (L, L), default="full"
        Who hears whom: everyone; each label those that it is most often known to be present with; or row v of a matrix
        holds the weights of what label v is told by the others, 0 for nothing. Rows are divided by the sum of the
        absolute values, and the diagonal plays no part. A DataFrame is put into the order of the labels by its names,
        where the labels have names. A label without neighbours is told zero.
    n_neighbors : int, default=20
        How many neighbours a label has at most under "cooccurrence", weighted by the rows that it shares with them.
    base : "linear" or Head, default="linear"
        What gives the logits that are refined. With a head that pools maps, such as
        :class:`~skpartial.heads.WeldonPooling`, this one takes maps.
    learning_rate : float, default=1.0
        Multiplies the learning rate of the network. At 1 it is 0.3 / max(D, 30) where that of a linear head is
        1 / max(d, 30).
    penalty : float, default=0.3
        L2 penalty of all parameters of the network, as a multiple of that of weights for features with a root mean
        square of 1. Without one the network can make logits larger at no cost, and so undo that of the weights; with
        one that is too strong its parameters go to zero, and the logits are those of `base`.

    Attributes
    ----------
    takes_maps : bool
        Whether `base` pools maps.

    Raises
    ------
    ValueError
        In `fit`, if a parameter is out of range, the graph has another shape or holds what is not finite, or no two
        labels are known to be present in the same row under "cooccurrence".

    Notes
    -----
    States of 5,000 labels take about 400 MB, whatever the batch: beyond that rows go through the network in pieces,
    which are computed once more for their gradients. One row takes 192 T L D bytes in float32 at T = 3: 61 MB of 5,000
    labels (D = 64).

    The paper leaves open how states start, how they are read, the width and the number of steps. Here they are a
    logit times a vector (in the paper's supplement, as it is quoted, a unit vector), and a readout that starts at zero.

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
        penalty: float = 0.3,
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
        """Whether the head whose logits are refined pools maps."""
        return isinstance(self.base, Head) and self.base.takes_maps

    @property
    def keeps_units(self) -> bool:  # type: ignore[override]
        """Whether `alpha` is meant for features as they are passed: as for the head whose logits are refined."""
        return not isinstance(self.base, Head) or self.base.keeps_units

    @property
    def draws(self) -> bool:  # type: ignore[override]
        """Whether the head whose logits are refined draws from PyTorch's own generator; the network does not."""
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
            raise wrong_value(self, "graph", "'full', 'cooccurrence' or a matrix with a row for each label", self.graph)
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
