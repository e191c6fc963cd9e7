"""Attempts at a fast way of taking steps, which a device may not support."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from skpartial._warnings import warn_slower

__all__ = ["attempt"]


@torch.no_grad()
def attempt(optimizer: torch.optim.Optimizer, fast: Callable[[], Any], plain: Callable[[], Any], what: str) -> bool:
    """Take a step in a fast way; if that fails, restore the parameters and take it in a plain way.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Optimiser of the parameters.
    fast, plain : callable
        Each takes the step.
    what : str
        Name of the fast way in the warning, which is raised if only the plain way works.

    Returns
    -------
    bool
        Whether the fast way worked.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    before = [p.clone() for p in parameters]
    kept = {
        p: {name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()}
        for p, state in optimizer.state.items()
    }
    try:
        fast()
    except Exception as error:
        for parameter, value in zip(parameters, before):
            parameter.copy_(value)
        optimizer.state.clear()
        optimizer.state.update(kept)
        plain()
        warn_slower(what, error)
        return False
    return True
