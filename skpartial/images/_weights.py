"""Files of weights, with the names and wrappers that training scripts use; nothing in them is executed."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from skpartial._files import what_is_no_file

__all__ = ["load_weights"]

# Layer names in torchvision's files of densenets, such as "norm.1", which are "norm1" in the network.
_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
# Some files lack the counters of batches, but nothing depends on them.
_COUNTER = "num_batches_tracked"
# Number of names in an error message.
_LISTED = 3


class _Ignored:
    """Empty placeholder for objects that training scripts save in addition to tensors, and that are not needed."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


# Options of a script, and NumPy numbers, such as the best score.
_BESIDE = (
    "argparse.Namespace",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
)


def load_weights(module: nn.Module, path: Path, name: str) -> None:
    """Load a file of weights into a network, without the weights of the removed classifier.

    They may be nested under keys, such as "state_dict_ema", and their names may have a common prefix, such as
    "module.backbone.". The only place with the names and shapes of the network is used.

    Parameters
    ----------
    module : torch.nn.Module
        Network to load into.
    path : Path
        A state dict saved by PyTorch, of which only numbers are read, or a safetensors file.
    name : str
        Name of the network in error messages.

    Raises
    ------
    ValueError
        If the file cannot be read, no part of it fits, or several different parts fit.
    """
    groups = list(_groups(_read(path)))
    if not groups:
        raise ValueError(f"Backbone: {str(path)!r} holds no dictionary of tensors.")
    own = module.state_dict()
    needed = {key: tuple(tensor.shape) for key, tensor in own.items() if not key.endswith(_COUNTER)}
    candidates = [group for whole in groups for group in whole.by_prefix(needed)]
    fitting = [group for group in candidates if group.fits(needed)]
    if not fitting:
        raise _misfit(path, name, needed, candidates, groups)
    # A part with exactly the names of the network takes precedence over all others.
    chosen = next((group for group in fitting if not group.place), fitting[0])
    others = [group for group in fitting if chosen.place and not group.equals(chosen, needed)]
    if others:
        raise ValueError(
            f"Backbone: {str(path)!r} holds weights of {name!r} more than once, under {chosen.place!r} and under "
            f"{others[0].place!r}: save the ones to use to a separate file."
        )
    own.update({key: chosen.tensors[key] for key in own if key in chosen.tensors})  # keeps versions of layers
    module.load_state_dict(own)


def _read(path: Path) -> Any:
    try:
        other = what_is_no_file(path)
    except OSError:
        raise ValueError(f"Backbone: the file of weights {str(path)!r} does not exist.") from None
    if other is not None:
        raise ValueError(f"Backbone: {str(path)!r} is not a readable file of weights: it is {other}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        stand_ins: list[Any] = [(_Ignored, known) for known in _BESIDE]
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # PyTorch's message explains how to execute the file anyway: do not pass on that advice.
        objects = re.search(r"GLOBAL (\S+) was not an allowed global", str(error))
        found = f"it holds objects of {objects[1]}, which would have to be executed" if objects else "it is damaged"
        raise ValueError(
            f"Backbone: {str(path)!r} is not a readable file of weights ({found}): save only model.state_dict()."
        ) from error
    except Exception as error:
        # A damaged file may raise anything.
        raise ValueError(f"Backbone: {str(path)!r} is not a readable file of weights ({error}).") from error


@dataclass
class _Group:
    """Tensors by name, and their place in the file: keys of dictionaries and the prefix of names."""

    place: str
    tensors: dict[str, Tensor]

    def by_prefix(self, needed: dict[str, Any]) -> Iterator[_Group]:
        """Groups of tensors with a common prefix, which is removed, for prefixes with every needed name.

        If there is no such prefix, the one with the most needed names.
        """
        by_last: dict[str, list[str]] = {}
        for key in needed:
            by_last.setdefault(key.rpartition(".")[2], []).append(key)
        found: Counter[str] = Counter()
        for key in self.tensors:
            for wanted in by_last.get(key.rpartition(".")[2], ()):
                if key == wanted or key.endswith(f".{wanted}"):
                    found[key.removesuffix(wanted)] += 1
        for prefix in [prefix for prefix, n in found.items() if n == len(needed)] or [
            p for p, _ in found.most_common(1)
        ]:
            cut = {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}
            yield _Group(f"{self.place}{prefix}", cut)

    def fits(self, needed: dict[str, tuple[int, ...]]) -> bool:
        """Whether all needed tensors are there with the right shapes."""
        return all(key in self.tensors and tuple(self.tensors[key].shape) == shape for key, shape in needed.items())

    def equals(self, other: _Group, needed: dict[str, Any]) -> bool:
        """Whether the needed tensors are equal in both."""
        return all(torch.equal(self.tensors[key], other.tensors[key].to(self.tensors[key].dtype)) for key in needed)


def _groups(content: Any) -> Iterator[_Group]:
    """Dictionaries of tensors, at any level of nesting."""
    waiting, seen = [("", content)], set()
    while waiting:
        place, held = waiting.pop(0)
        if not isinstance(held, dict) or id(held) in seen:  # a dictionary may contain itself
            continue
        seen.add(id(held))
        named = {_OLD_NAME.sub(r"\1\2", k): v for k, v in held.items() if isinstance(k, str) and isinstance(v, Tensor)}
        if named:
            yield _Group(place, named)
        waiting += [(f"{place}{key}/", value) for key, value in held.items() if isinstance(key, str)]


def _misfit(
    path: Path, name: str, needed: dict[str, tuple[int, ...]], candidates: list[_Group], groups: list[_Group]
) -> ValueError:
    """The error about the part of the file that is most similar to the network."""
    if not candidates:
        largest = max(groups, key=lambda group: len(group.tensors))
        return ValueError(
            f"Backbone: {str(path)!r} lacks {len(needed)} of the {len(needed)} tensors of {name!r}, "
            f"{_names(needed)}, under any prefix; it holds {_names(largest.tensors, largest.place)}: it belongs to "
            "another network."
        )
    best = max(candidates, key=lambda group: len(group.tensors.keys() & needed.keys()))
    missing = sorted(needed.keys() - best.tensors.keys())
    if missing:
        return ValueError(
            f"Backbone: {str(path)!r} lacks {len(missing)} of the {len(needed)} tensors of {name!r}, {missing[0]!r} "
            f"first; it holds {_names(best.tensors, best.place)}: it belongs to another network."
        )
    wrong = next(key for key, shape in needed.items() if tuple(best.tensors[key].shape) != shape)
    return ValueError(
        f"Backbone: {str(path)!r} does not fit {name!r}: {best.place + wrong!r} has shape "
        f"{tuple(best.tensors[wrong].shape)}, not {needed[wrong]}."
    )


def _names(tensors: dict[str, Any], place: str = "") -> str:
    """Some names of tensors, and the number of others."""
    listed = ", ".join(repr(place + key) for key in list(tensors)[:_LISTED])
    more = len(tensors) - _LISTED
    return f"{listed} and {more} more" if more > 0 else listed
