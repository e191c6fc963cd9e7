"""Losses by their short names."""

from __future__ import annotations

from skpartial.losses._base import Loss

__all__ = ["get"]


def _by_name() -> dict[str, Loss]:
    """A loss per short name, from the classes that this subpackage exports."""
    from skpartial import losses

    classes = [value for value in vars(losses).values() if isinstance(value, type) and issubclass(value, Loss)]
    return {name: kind(**parameters) for kind in classes for name, parameters in kind.short_names.items()}


def get(name: str | Loss) -> Loss:
    """The loss with a given short name and default hyperparameters.

    Parameters
    ----------
    name : str or Loss
        "bce", "iu" (ignore unknown), "partial_bce", "an" (assume negative), "an_ls" (with a smoothing of 0.05), "wan"
        (weak assume negative), "pseudo_negative", "epr" (expected positives), "role", "ll_r", "ll_ct", "ll_cp" (large
        loss: reject, correct, correct permanently), "pairwise", "warp", "ramp_warp", "lsep" and "zlpr" (log-sum-exp
        rankings), "asl" (asymmetric), "csl" (selective), "hill", "splc", "em" (entropy maximisation) or "gr"
        (generalised robust). A loss is returned unchanged.

    Returns
    -------
    Loss
        A new object for each call with a name.

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
    named = _by_name()
    if isinstance(name, str) and name in named:
        return named[name]
    if isinstance(name, type) and issubclass(name, Loss):
        raise ValueError(f"loss must be an object, got the class {name.__name__}: write {name.__name__}().")
    raise ValueError(f"loss must be a Loss or one of {', '.join(map(repr, sorted(named)))}, got {name!r}.")
