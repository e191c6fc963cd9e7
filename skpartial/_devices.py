"""Where to compute."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

__all__ = ["autocast_dtype", "choose_device", "has_fast_bfloat16", "has_feature", "parse_device", "resolve_device"]


def parse_device(device: Any) -> torch.device | None:
    """The device of a name, whether there is one or not; None for "auto"."""
    if isinstance(device, str) and device == "auto":
        return None
    named = isinstance(device, str | torch.device)
    try:
        # A number would be a device of whatever kind this PyTorch was built for.
        chosen = torch.device(device) if named else None
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda") or (chosen.type == "cpu" and chosen.index):
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N', got {device!r}.")
    # Tensors on the CPU do not tell its index.
    return torch.device("cpu") if chosen.type == "cpu" else chosen


def resolve_device(device: Any) -> torch.device:
    """The device of a name; "auto" is CUDA where there is one."""
    chosen = parse_device(device)
    if chosen is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={str(device)!r} was asked for, but no CUDA device is available: use device='auto'.")
    if chosen.index is not None and chosen.type == "cuda" and chosen.index >= torch.cuda.device_count():
        raise ValueError(
            f"device={str(device)!r} was asked for, but there are {torch.cuda.device_count()} CUDA devices, counted "
            "from cuda:0."
        )
    return chosen


def choose_device(device: Any, X: Any, *, predicting: bool = False) -> torch.device:
    """Where to compute: where a CUDA tensor lies already, else as `device` says."""
    automatic = parse_device(device) is None
    if automatic and isinstance(X, torch.Tensor) and X.is_cuda:
        return X.device
    if predicting and not automatic and not torch.cuda.is_available():
        return torch.device("cpu")  # a model fitted on CUDA predicts on any machine
    return resolve_device(device)


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The narrower type that networks compute in, if any: "auto" takes bfloat16 on CUDA."""
    narrow = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.bfloat16 if narrow else None


@cache
def has_feature(name: str) -> bool:
    """Whether the processor has a feature, by PyTorch's name for it; older versions of PyTorch do not tell."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get(name, False))


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are two times as fast as in float32, or more: tensor cores, AMX, or AVX-512."""
    if device.type == "cuda":
        return bool(torch.cuda.get_device_capability(device) >= (8, 0))
    return device.type == "cpu" and (has_feature("amx_bf16") or has_feature("avx512_bf16"))
