"""Steps of an optimiser without its bookkeeping, which costs more than the step itself if there are few parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["DirectSteps"]

_Kernel = Callable[[dict[str, Any], list[Tensor], list[Tensor], list[list[Tensor]]], None]


def _sgd(group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor], moments: list[list[Tensor]]) -> None:
    getattr(torch, "_fused_sgd_")(  # noqa: B009 - private, and may disappear
        parameters,
        gradients,
        moments[0] if group["momentum"] else [],
        weight_decay=group["weight_decay"],
        momentum=group["momentum"],
        lr=group["lr"],
        dampening=group["dampening"],
        nesterov=group["nesterov"],
        maximize=group["maximize"],
        is_first_step=False,
    )


def _adam_like(name: str) -> _Kernel:
    def step(
        group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor], moments: list[list[Tensor]]
    ) -> None:
        counts, first, second = moments
        for count in counts:
            count.add_(1)
        beta1, beta2 = group["betas"]
        getattr(torch, name)(
            parameters,
            gradients,
            first,
            second,
            [],
            counts,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=group["maximize"],
        )

    return step


# For each optimiser: names of its moments, and the function that moves the parameters of a group.
_KERNELS: dict[type[torch.optim.Optimizer], tuple[tuple[str, ...], _Kernel]] = {
    torch.optim.SGD: (("momentum_buffer",), _sgd),
    torch.optim.Adam: (("step", "exp_avg", "exp_avg_sq"), _adam_like("_fused_adam_")),
    torch.optim.AdamW: (("step", "exp_avg", "exp_avg_sq"), _adam_like("_fused_adamw_")),
}


class DirectSteps:
    """Steps of SGD, Adam or AdamW by PyTorch's fused kernels; the moments stay in the state of the optimiser.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Optimiser of the parameters. After loading its state, make a new DirectSteps.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        names, self._kernel = _KERNELS[type(optimizer)]
        self._groups: list[tuple[dict[str, Any], list[Tensor], list[list[Tensor]]]] = []
        for group in optimizer.param_groups:
            parameters = group["params"]
            for parameter in parameters:
                state = optimizer.state[parameter]
                for name in names:
                    if state.get(name) is None:
                        scalar = torch.zeros((), dtype=torch.float32, device=parameter.device)
                        state[name] = scalar if name == "step" else torch.zeros_like(parameter)
            moments = [[optimizer.state[parameter][name] for parameter in parameters] for name in names]
            self._groups.append((group, parameters, moments))

    @staticmethod
    def serves(device: torch.device) -> bool:
        """Whether PyTorch has these kernels for a device."""
        return device.type in ("cpu", "cuda")

    def step(self) -> None:
        """Move all parameters by their gradients; a group in which one has no gradient is not moved."""
        for group, parameters, moments in self._groups:
            gradients = [parameter.grad for parameter in parameters]
            if all(gradient is not None for gradient in gradients):
                self._kernel(group, parameters, gradients, moments)  # type: ignore[arg-type]
