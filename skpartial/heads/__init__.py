"""Heads: modules from features to logits."""

from skpartial.heads._base import Head, HeadContext, ParameterGroup
from skpartial.heads._embedding import LabelEmbedding
from skpartial.heads._ensemble import Ensemble
from skpartial.heads._gnn import CategoryGNN
from skpartial.heads._linear import Linear
from skpartial.heads._pooling import AveragePooling
from skpartial.heads._weldon import WeldonPooling, WildcatPooling

__all__ = [
    "AveragePooling",
    "CategoryGNN",
    "Ensemble",
    "Head",
    "HeadContext",
    "LabelEmbedding",
    "Linear",
    "ParameterGroup",
    "WeldonPooling",
    "WildcatPooling",
    "get",
]

_HEADS: dict[str, type[Head]] = {"linear": Linear, "gnn": CategoryGNN, "embedding": LabelEmbedding}


def get(head: str | Head) -> Head:
    """The head with a given short name.

    Parameters
    ----------
    head : str or Head
        "linear", "gnn", "embedding", or a head, which is returned unchanged.

    Returns
    -------
    Head
        A new object for each call with a name.

    Raises
    ------
    ValueError
        If there is no head of this name.

    Examples
    --------
    >>> from skpartial import heads
    >>> heads.get("gnn")
    CategoryGNN()
    """
    if isinstance(head, Head):
        return head
    if isinstance(head, str) and head in _HEADS:
        return _HEADS[head]()
    names = ", ".join(map(repr, _HEADS))
    raise ValueError(f"head must be {names} or a skpartial.heads.Head, got {head!r}.")
