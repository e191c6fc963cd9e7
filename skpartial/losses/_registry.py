"""Losses by their short names."""

from __future__ import annotations

from collections.abc import Callable

from skpartial.losses._assume_negative import AssumeNegative, PseudoNegative, WeakAssumeNegative
from skpartial.losses._base import Loss
from skpartial.losses._ignore_unknown import BCE, IgnoreUnknown, PartialBCE

__all__ = ["get"]

_BY_NAME: dict[str, Callable[[], Loss]] = {
    "bce": BCE,
    "iu": IgnoreUnknown,
    "partial_bce": PartialBCE,
    "an": AssumeNegative,
    "an_ls": lambda: AssumeNegative(label_smoothing=0.05),
    "wan": WeakAssumeNegative,
    "pseudo_negative": PseudoNegative,
}


def get(name: str | Loss) -> Loss:
    """The loss of a short name, with its default hyperparameters.

    Parameters
    ----------
    name : str or Loss
        "bce", "iu" (ignore unknown), "partial_bce", "an" (assume negative), "an_ls" (with a smoothing of 0.05), "wan"
        (weak assume negative) or "pseudo_negative". A loss is returned as it is.

    Returns
    -------
    Loss
        A new object for a name.

    Raises
    ------
    ValueError
        If there is no loss of this name.

    Examples
    --------
    >>> from skpartial import losses
    >>> losses.get("an_ls")
    AssumeNegative(label_smoothing=0.05)
    """
    if isinstance(name, Loss):
        return name
    if isinstance(name, str) and name in _BY_NAME:
        return _BY_NAME[name]()
    if isinstance(name, type) and issubclass(name, Loss):
        raise ValueError(f"loss must be an object, got the class {name.__name__}: write {name.__name__}().")
    raise ValueError(f"loss must be a Loss or one of {', '.join(map(repr, _BY_NAME))}, got {name!r}.")
