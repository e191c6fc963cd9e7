"""Networks of torchvision and timm, without their classifiers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.error import URLError

import torchvision
from torch import nn

from skpartial.images._expects import Statistics
from skpartial.images._weights import load_weights

if TYPE_CHECKING:
    pass

__all__ = ["Architecture", "Body", "from_timm", "from_torchvision"]


class Architecture(NamedTuple):
    """A network of torchvision or timm, regardless of its weights.

    Parameters
    ----------
    model : str
        As in `Backbone`.
    image_size : int or None
        Side of the images, if the network takes only one size.
    """

    model: str
    image_size: int | None

    @property
    def n_parameters(self) -> int | None:
        """Number of parameters, including the classifier, if known before the network is made."""
        if self.model.startswith("timm/"):
            return None
        return int(torchvision.models.get_model_weights(self.model).DEFAULT.meta["num_params"])

    def make(self) -> nn.Module:
        """The network without its classifier, with random weights; nothing is downloaded.

        Returns
        -------
        torch.nn.Module
            As made by `Backbone.load`.

        Raises
        ------
        ValueError
            If the network does not exist.
        """
        if not self.model.startswith("timm/"):
            return _torchvision_network(self.model, self.image_size)
        name = self.model.removeprefix("timm/")
        if ":" in name or "/" in name:  # timm would look it up on the hub
            raise ValueError(f"Backbone: timm has no model {name!r} of its own.")
        return from_timm(name, None).module


@dataclass
class Body:
    """A network without its classifier, and known properties of its input images."""

    module: nn.Module
    image_size: int | None
    known: Statistics | None
    architecture: Architecture | None = None


def _without_classifier(model: nn.Module, name: str) -> nn.Module:
    """Replace the last layer, which is the classifier, by the identity."""
    if name.startswith("squeezenet"):  # its classifier is a convolution
        path = "classifier.1"
    else:
        path = [path for path, layer in model.named_modules() if isinstance(layer, nn.Linear)][-1]
    parent, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Identity())
    return model


def from_torchvision(name: str, weights: str | os.PathLike[str] | None) -> Body:
    name = name.lower()  # as in torchvision
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise ValueError(
            f"Backbone: torchvision has no image classification model {name!r}. Use a name from "
            "torchvision.models.list_models(module=torchvision.models), or 'timm/NAME' for a model of timm."
        )
    known = torchvision.models.get_model_weights(name)
    choice, path = None, None
    if weights is not None:
        text = os.fspath(weights)
        if text == "DEFAULT" or text in known.__members__:
            choice = known[text] if text != "DEFAULT" else known.DEFAULT
        elif Path(text).suffix or Path(text).exists():
            path = Path(text)
        else:
            raise ValueError(
                f"Backbone: weights={text!r} is neither a file nor a name of weights of {name}: "
                f"{', '.join(['DEFAULT', *known.__members__])}."
            )
    preset: Any = (choice or known.DEFAULT).transforms()
    # Vision transformers take images of one size, which depends on the weights.
    side = choice.meta["min_size"][0] if choice is not None and name.startswith("vit_") else None
    try:
        model = _torchvision_network(name, side, choice)
    except (URLError, OSError, RuntimeError) as error:
        raise ValueError(
            f"Backbone: the weights {choice} of {name!r} could not be downloaded ({error}). " + _if_offline(name)
        ) from error
    if path is not None:
        load_weights(model, path, name)
    size = None if choice is None else preset.crop_size[0]
    return Body(model, size, (tuple(preset.mean), tuple(preset.std)), Architecture(name, side))


def _if_offline(name: str) -> str:
    call = f"ImageFeatures(backbone=Backbone({name!r}, weights="
    return (
        f"If you are offline, pass the path of a file of weights, {call}'FILE')), or start at random, {call}None)); "
        "the classifiers take the same backbone."
    )


def _torchvision_network(name: str, image_size: int | None, weights: Any = None) -> nn.Module:
    """A network of torchvision without its classifiers, for images of a given size if it takes only one."""
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise ValueError(f"Backbone: torchvision has no image classification model {name!r}.")
    arguments: dict[str, Any] = {}
    if weights is None:
        if name in ("googlenet", "inception_v3"):
            # The input transformation that torchvision's own weights were trained with.
            arguments = {"aux_logits": False, "transform_input": True, "init_weights": False}
        if image_size is not None:
            arguments["image_size"] = image_size
    model = torchvision.models.get_model(name, weights=weights, **arguments)
    for auxiliary in ("aux1", "aux2", "AuxLogits"):  # auxiliary classifiers for training, which do not affect features
        if hasattr(model, auxiliary):
            setattr(model, auxiliary, None)
            model.aux_logits = False
    return _without_classifier(model, name)


def from_timm(name: str, weights: str | os.PathLike[str] | None) -> Body:
    try:
        import timm
    except ImportError:
        raise ValueError(f"Backbone 'timm/{name}' needs timm: pip install timm.") from None
    pretrained = weights == "DEFAULT"
    try:
        model = timm.create_model(name, pretrained=pretrained, num_classes=0)
    except Exception as error:
        # timm and the hub raise errors of many kinds, which all mean the same here.
        raise ValueError(
            f"Backbone: timm could not make {name!r} with weights={weights!r} ({error}). " + _if_offline(f"timm/{name}")
        ) from error
    if weights is not None and not pretrained:
        load_weights(model, Path(os.fspath(weights)), name)
    config: Any = model.pretrained_cfg  # a dictionary, unlike its type in timm
    known = tuple(config["mean"]), tuple(config["std"])
    return Body(model, config["input_size"][-1], known, Architecture(f"timm/{name}", None))
