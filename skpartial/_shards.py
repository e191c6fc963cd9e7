"""Parameters of a network divided among processes, by PyTorch's fully sharded data parallelism (FSDP2)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from skpartial._processes import Processes

__all__ = ["clip_norm", "is_shard", "load_optimizer", "local", "shard", "shards_like", "sum_gradients", "whole"]


def shard(body: nn.Module, device: torch.device) -> nn.Module:
    """A copy of a network that holds this process's shards of its parameters.

    The blocks of the network put their parameters together one after the other, for as long as each computes.

    Parameters
    ----------
    body : torch.nn.Module
        The network, with the same parameters in every process. It moves to the CPU, so that no device holds all of it.
    device : torch.device
        Device of this process.

    Returns
    -------
    torch.nn.Module
        The copy, on the device.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if body._compiled_call_impl is not None:
        raise ValueError(
            "Minibatch(shard_parameters=True) cannot train a compiled network: use Backbone(compile=False)."
        )
    # FSDP2 cannot divide tensors that are stored channels last.
    body = copy.deepcopy(body.cpu()).to(memory_format=torch.contiguous_format)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in (*_blocks(body), body):
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    return body


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The members of sequences of modules, such as the residual blocks of a ResNet; they do not overlap."""
    sequences = (nn.Sequential, nn.ModuleList)
    for child in module.children():
        if isinstance(child, sequences) or not isinstance(module, sequences):
            yield from _blocks(child)
        elif next(child.parameters(), None) is not None:
            yield child


def is_shard(tensor: Any) -> bool:
    """Whether a tensor is divided among the processes."""
    return isinstance(tensor, Tensor) and hasattr(tensor, "full_tensor")


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds."""
    found: Any = tensor
    return found.to_local() if is_shard(tensor) else found


def whole(value: Any) -> Any:
    """Put the divided tensors in dicts, lists and tuples together, on the CPU. All processes have to call this."""
    if is_shard(value):
        return value.full_tensor().cpu()
    if isinstance(value, Mapping):
        return {key: whole(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(whole, value))
    return value


def shards_like(tensors: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """Divide tensors as others of the same names and shapes are divided. All processes have to call this."""
    return {name: _shard_like(tensor, like[name]) for name, tensor in tensors.items()}


def _shard_like(value: Any, other: Any) -> Any:
    """A whole tensor, divided as another of its shape; anything else as it is."""
    if not is_shard(other) or is_shard(value) or getattr(value, "shape", None) != other.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(other.device), other.device_mesh, other.placements)


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load the state of an optimiser with whole tensors. All processes have to call this."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = {
        i: {name: _shard_like(value, parameters[i]) for name, value in moments.items()}
        for i, moments in saved["state"].items()
    }
    optimizer.load_state_dict(saved | {"state": state})


def sum_gradients(parameters: Sequence[nn.Parameter], processes: Processes) -> None:
    """Sum the gradients of the processes, which FSDP2 has averaged if they are divided."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    processes.sum_all(gradient for gradient in gradients if not is_shard(gradient))
    if processes.size > 1:
        for gradient in gradients:
            if is_shard(gradient):
                local(gradient).mul_(processes.size)


def clip_norm(parameters: Sequence[nn.Parameter], largest: float, processes: Processes) -> None:
    """Scale all gradients down together if their norm is larger than allowed."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not any(map(is_shard, gradients)):
        nn.utils.clip_grad_norm_(parameters, largest)
        return
    of_shards, of_others = (local(gradients[0]).new_zeros(()) for _ in range(2))
    for gradient in gradients:
        total = of_shards if is_shard(gradient) else of_others
        total += local(gradient).square().sum()
    norm = (processes.sum(of_shards) + of_others).sqrt()
    factor = (largest / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        local(gradient).mul_(factor)
