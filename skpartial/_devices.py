"""Choice of device and precision."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

__all__ = ["autocast_dtype", "choose_device", "has_fast_bfloat16", "has_feature", "parse_device", "resolve_device"]


def parse_device(device: Any) -> torch.device | None:
    """The device with this name, available or not; None for "auto"."""
    if isinstance(device, str) and device == "auto":
        return None
    named = isinstance(device, str | torch.device)
    try:
        # PyTorch would take a number for a device of the kind that it was built for.
        chosen = torch.device(device) if named else None
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda") or (chosen.type == "cpu" and chosen.index):
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N', got {device!r}.")
    # The device of CPU tensors has no index.
    return torch.device("cpu") if chosen.type == "cpu" else chosen


def resolve_device(device: Any) -> torch.device:
    """The device with this name; "auto" is CUDA if available."""
    chosen = parse_device(device)
    if chosen is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={str(device)!r} was requested, but no CUDA device is available: use device='auto'.")
    if chosen.index is not None and chosen.type == "cuda" and chosen.index >= torch.cuda.device_count():
        raise ValueError(
            f"device={str(device)!r} was requested, but there are {torch.cuda.device_count()} CUDA devices, starting "
            "at cuda:0."
        )
    return chosen


def choose_device(device: Any, X: Any, *, predicting: bool = False) -> torch.device:
    """The device of X if it is a CUDA tensor, else the one that `device` names."""
    automatic = parse_device(device) is None
    if automatic and isinstance(X, torch.Tensor) and X.is_cuda:
        return X.device
    if predicting and not automatic and not torch.cuda.is_available():
        return torch.device("cpu")  # a model fitted on CUDA predicts on any machine
    return resolve_device(device)


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The narrower type of a network's computation, if any: "auto" is bfloat16 on CUDA."""
    narrow = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.bfloat16 if narrow else None


@cache
def has_feature(name: str) -> bool:
    """Whether the processor has a feature, by its name in PyTorch; False in older versions of PyTorch."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get(name, False))


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are at least twice as fast as in float32: tensor cores, AMX, or AVX-512."""
    if device.type == "cuda":
        return bool(torch.cuda.get_device_capability(device) >= (8, 0))
    return device.type == "cpu" and (has_feature("amx_bf16") or has_feature("avx512_bf16"))
