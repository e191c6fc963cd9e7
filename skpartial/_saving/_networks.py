"""Networks: their architecture, and their tensors, stored once."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from skpartial._saving._known import Refused, full_name, make_module
from skpartial._saving._walk import Kind, Reader, Writer
from skpartial._seeding import seeded
from skpartial.heads import Head, HeadContext
from skpartial.heads._module import build_head

__all__ = ["NETWORK_KINDS"]

_AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}


_MODULES = ("skpartial.images._backbones", "skpartial.images._network")


def _is(name: str) -> Any:
    """Whether a value is of a class in skpartial.images, which is only imported if there are images."""

    def holds(value: Any) -> bool:
        kind = type(value)
        return kind.__module__ in _MODULES and kind.__name__ == name

    return holds


# --------------------------------------------------------------------------------------------------------- tensors


def _named(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a state dict, as stored in the module."""
    names = module.state_dict(keep_vars=True)
    others = [name for name, value in names.items() if not isinstance(value, Tensor)]
    if others:
        raise Refused(f"its state has {others[0]!r}, which is not a tensor")
    return dict(names)


def _write_state(writer: Writer, module: nn.Module) -> dict[str, Any]:
    named = _named(module)
    frozen = [name for name, value in named.items() if isinstance(value, nn.Parameter) and not value.requires_grad]
    return {
        "tensors": {name: writer.write(value.detach(), name) for name, value in named.items()},
        "frozen": frozen,
        "training": module.training,
    }


def _read_state(reader: Reader, entry: Any, module: nn.Module, what: str) -> None:
    """Overwrite the tensors of a module, in their types, with the saved ones."""
    named = _named(module)
    written = entry["tensors"]
    different = sorted(named.keys() ^ written.keys())
    if different:
        where = "file" if different[0] in written else "network"
        raise Refused(f"{what} is a different network from the saved one: only the {where} has {different[0][:100]!r}")
    for name, own in named.items():
        found = reader.read(written[name])
        if not isinstance(found, Tensor) or found.shape != own.shape:
            raise Refused(f"{what} is a different network from the saved one: {name!r} has another shape")
        # Replaced in place, so that a tensor that the network uses in two places stays shared.
        own.data = found
    frozen = set(entry["frozen"])
    for name, own in named.items():
        if isinstance(own, nn.Parameter):
            own.requires_grad_(name not in frozen)
    module.train(bool(entry["training"]))


# ---------------------------------------------------------------------------------------------------------- modules


def _write_module(writer: Writer, module: nn.Module) -> Any:
    return {"class": full_name(type(module)), "state": _write_state(writer, module)}


def _read_module(reader: Reader, entry: Any) -> nn.Module:
    with seeded(0):
        module = make_module(entry["class"], reader.modules)
    _read_state(reader, entry["state"], module, f"the result of the function for {entry['class'].rpartition('.')[2]!r}")
    return module


# ------------------------------------------------------------------------------------------------------- backbones


def _write_body(writer: Writer, module: nn.Module, architecture: Any) -> Any:
    if architecture is None:
        return writer.write(module, "module")
    return {"architecture": list(architecture), "state": _write_state(writer, module)}


def _read_body(reader: Reader, entry: Any) -> tuple[nn.Module, Any]:
    from skpartial.images._architectures import Architecture

    if "architecture" not in entry:
        module = reader.read(entry)
        if not isinstance(module, nn.Module):
            raise Refused("it is damaged: something else instead of a network")
        return module, None
    architecture = Architecture(*entry["architecture"])
    model, side = architecture
    if not isinstance(model, str) or not (side is None or (type(side) is int and 1 <= side <= 4096)):
        raise Refused("it is damaged: a network of another kind")
    shapes = _shapes(reader, entry["state"])
    # Only the classifier is left out of a saved network: refuse to make a network far larger than the saved tensors.
    if (architecture.n_parameters or 0) > 4 * sum(map(math.prod, shapes.values())) + 10_000_000:
        raise Refused(f"it is damaged: {model!r} has more parameters than were saved")
    with seeded(0):
        module = _made_to_fit(architecture.make, shapes, repr(model))
    _read_state(reader, entry["state"], module, repr(model))
    return module, architecture


def _shapes(reader: Reader, state: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of the saved tensors of a module."""
    return {name: reader.shape(part) for name, part in state["tensors"].items()}


def _made_to_fit(make: Callable[[], nn.Module], shapes: dict[str, tuple[int, ...]], what: str) -> nn.Module:
    """Make a module and check its shapes against the saved ones; first without allocating memory, if possible."""
    with suppress(NotImplementedError), torch.device("meta"):
        if {name: tuple(tensor.shape) for name, tensor in _named(make()).items()} != shapes:
            raise Refused(f"it is damaged: {what} has different tensors from the saved ones")
    return make()


def _write_normalize(writer: Writer, normalize: Any) -> Any:
    return [writer.write(getattr(normalize, name), name) for name in ("mean", "std")]


def _read_normalize(reader: Reader, entry: Any) -> Any:
    from skpartial.images._transforms import Normalize

    mean, std = (reader.read(part) for part in entry)
    return Normalize(mean.ravel().tolist(), std.ravel().tolist())


def _write_loaded(writer: Writer, loaded: Any) -> Any:
    return {
        "body": _write_body(writer, loaded.module, loaded.architecture),
        "image_size": list(loaded.image_size),
        "normalize": _write_normalize(writer, loaded.normalize),
    }


def _read_loaded(reader: Reader, entry: Any) -> Any:
    from skpartial.images._backbones import LoadedBackbone

    module, architecture = _read_body(reader, entry["body"])
    return LoadedBackbone(module, tuple(entry["image_size"]), _read_normalize(reader, entry["normalize"]), architecture)


def _write_network(writer: Writer, network: Any) -> Any:
    body, pooling = network.body, None
    if network.takes_maps and hasattr(body, "pooling") and type(body).__name__ == "_Maps":
        body, pooling = body.module, body.pooling
    if network.augment is not None or network.built is None:
        raise Refused("it is a network in training")
    head, context = network.built
    return {
        "body": _write_body(writer, body, network.architecture),
        "pooling": pooling,
        "head": writer.write(head, "head"),
        "context": writer.write(context, "context"),
        "state": _write_state(writer, network.head),
        "normalize": _write_normalize(writer, network.normalize),
        "takes_maps": network.takes_maps,
        "frozen_norms": network.frozen_norms,
        "image_size": list(network.image_size),
        "autocast": None if network.autocast is None else str(network.autocast).removeprefix("torch."),
        "channels_last": network.channels_last,
    }


def _read_network(reader: Reader, entry: Any) -> Any:
    from skpartial.images._network import Maps, Network

    body, architecture = _read_body(reader, entry["body"])
    if entry["pooling"] is not None:
        body.get_submodule(entry["pooling"])
        body = Maps(body, entry["pooling"])
    head, context = (reader.read(entry[name]) for name in ("head", "context"))
    if not isinstance(head, Head) or not isinstance(context, HeadContext):
        raise Refused("it is damaged: something else instead of a head")
    with seeded(context.seed):
        module = _made_to_fit(lambda: build_head(head, context), _shapes(reader, entry["state"]), "its head")
    _read_state(reader, entry["state"], module, "its head")
    network = Network(
        body,
        module,
        normalize=_read_normalize(reader, entry["normalize"]),
        takes_maps=bool(entry["takes_maps"]),
        frozen_norms=bool(entry["frozen_norms"]),
        image_size=tuple(entry["image_size"]),
        architecture=architecture,
    )
    network.built = head, context
    network.autocast = None if entry["autocast"] is None else _AUTOCAST[entry["autocast"]]
    if entry["channels_last"]:
        network.use_channels_last()
    return network.eval()


def _read_fitted(reader: Reader, entry: Any) -> Any:
    from skpartial.images._network import FittedModule

    return FittedModule(reader.read(entry["module"]))


NETWORK_KINDS = (
    Kind("network", _is("Network"), _write_network, _read_network, shared=True),
    Kind("backbone", _is("LoadedBackbone"), _write_loaded, _read_loaded, shared=True),
    Kind(
        "fitted",
        _is("FittedModule"),
        lambda writer, value: {"module": writer.write(value.module, "module")},
        _read_fitted,
        shared=True,
    ),
    Kind("module", lambda value: isinstance(value, nn.Module), _write_module, _read_module, shared=True),
)
