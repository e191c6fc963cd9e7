"""Checks of tensors that users pass."""

from __future__ import annotations

import torch

__all__ = ["check_tensor"]


def check_tensor(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """Validate a tensor, and convert it to a type that PyTorch computes with, without a copy if possible.

    Parameters
    ----------
    tensor : Tensor
        The tensor as passed.
    name : str
        Its name in error messages.

    Returns
    -------
    Tensor
        Dense and detached.

    Raises
    ------
    ValueError
        If it is sparse or nested, or has no values.
    """
    if tensor.is_nested or tensor.layout != torch.strided:
        kind = "nested tensor" if tensor.is_nested else f"tensor with layout {tensor.layout}"
        raise ValueError(f"{name} is a {kind}: pass a dense tensor or a scipy.sparse matrix.")
    if tensor.is_meta:
        raise ValueError(f"{name} is a tensor on PyTorch's meta device, which has no values: pass one that has.")
    plain = tensor.detach()
    if plain.is_quantized:
        return plain.dequantize()
    if plain.is_floating_point() and plain.itemsize == 1:  # such types are for storage only
        return plain.float()
    return plain.resolve_neg()
