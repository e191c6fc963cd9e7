"""Tensors that a user may pass, as plain numbers."""

from __future__ import annotations

import torch

__all__ = ["check_tensor"]


def check_tensor(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """A tensor as one that PyTorch computes with, without a copy where it is one.

    Parameters
    ----------
    tensor : Tensor
        As passed.
    name : str
        What error messages call it.

    Returns
    -------
    Tensor
        Dense and detached.

    Raises
    ------
    ValueError
        If it is sparse or nested, or holds no values.
    """
    if tensor.is_nested or tensor.layout != torch.strided:
        kind = "nested tensor" if tensor.is_nested else f"tensor with layout {tensor.layout}"
        raise ValueError(f"{name} is a {kind}: pass a dense tensor or a scipy.sparse matrix.")
    if tensor.is_meta:
        raise ValueError(f"{name} is a tensor on PyTorch's meta device, which holds no values: pass one that does.")
    plain = tensor.detach()
    if plain.is_quantized:
        return plain.dequantize()
    if plain.is_floating_point() and plain.itemsize == 1:  # such numbers are stored, but not computed with
        return plain.float()
    return plain.resolve_neg()
