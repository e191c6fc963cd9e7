"""Backbones: which network turns images into features, with which weights, and what of it is fine-tuned."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError

import torch
import torchvision
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skpartial.images._transforms import AUGMENTATIONS, Augment, Normalize

__all__ = ["Backbone", "LoadedBackbone", "Network", "get"]

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FINETUNE = ("all", "head", "linear_init")
_ON_ERROR = ("raise", "skip")


@dataclass
class _Body:
    """A network without its classifier, and how images are to be prepared for it."""

    module: nn.Module
    image_size: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]


class _Maps(nn.Module):
    """A network that answers with what its last global average pooling takes in."""

    def __init__(self, module: nn.Module, pooling: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._taken: list[Tensor] = []
        pooling.register_forward_hook(self._take)

    def _take(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._taken.append(inputs[0])

    def forward(self, images: Tensor) -> Tensor:
        self._taken.clear()
        self.module(images)
        maps = self._taken[-1]
        self._taken.clear()
        return maps


class Network(nn.Module):
    """Images to logits: normalisation, random changes while training, backbone, head.

    Parameters
    ----------
    body : torch.nn.Module
        From images (b, 3, H, W) to features (b, d), or to maps (b, C, h, w).
    head : torch.nn.Module or None
        From those to logits; None leaves features, averaged over the regions of maps.
    normalize, augment : torch.nn.Module or None
        What comes before.
    takes_maps : bool
        Whether the head pools maps itself.
    frozen_norms : bool
        Whether batch norms stay in evaluation mode while training.
    image_size : (height, width)
        What images are resized to before they come here.
    """

    def __init__(
        self,
        body: nn.Module,
        head: nn.Module | None,
        *,
        normalize: nn.Module,
        augment: nn.Module | None = None,
        takes_maps: bool = False,
        frozen_norms: bool = False,
        image_size: tuple[int, int] = (224, 224),
    ) -> None:
        super().__init__()
        self.normalize, self.augment, self.body, self.head = normalize, augment, body, head
        self.takes_maps, self.frozen_norms, self.image_size = takes_maps, frozen_norms, image_size
        #: Type that autocast computes in, or None.
        self.autocast: torch.dtype | None = None

    def train(self, mode: bool = True) -> Network:
        """Training mode, in which batch norms stay as they are if they are frozen."""
        super().train(mode)
        if self.frozen_norms:
            for module in self.body.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def features(self, images: Tensor) -> Tensor:
        """Features (b, d) of images, or maps where the head pools them."""
        prepared = self.normalize(images)
        if self.training and self.augment is not None:
            prepared = self.augment(prepared)
        with torch.autocast(images.device.type, self.autocast or torch.bfloat16, enabled=self.autocast is not None):
            found: Tensor = self.body(prepared)
        found = found.to(prepared.dtype)
        if found.ndim == 4 and not self.takes_maps:
            found = found.mean((2, 3))
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Logits (b, L), or features without a head."""
        found = self.features(images)
        if self.head is None:
            return found
        logits: Tensor = self.head(found)
        return logits


class Backbone(BaseEstimator):
    """A network that turns images into features.

    Parameters
    ----------
    model : str or torch.nn.Module, default="resnet50"
        A classification network of torchvision by name, "timm/NAME" if timm is installed, or a module from images
        (b, 3, H, W) to features (b, d) or maps (b, C, h, w). A module is never changed: training works on a copy.
    weights : str, path or None, default="DEFAULT"
        Pretrained weights: "DEFAULT" or another name of torchvision's, which are downloaded once; the path of a file
        of weights (.pth, .pt or .safetensors), for machines without a network; None for a random start. Not used with
        a module, which brings its own.
    finetune : {"all", "head", "linear_init"}, default="all"
        What `fit` trains. "all": everything, the network included. "head": the head alone, on features that are
        computed once, without augmentation. "linear_init": first the head like that, then everything, from the best
        head and the best label estimates.
    image_size : int, pair of int or None, default=None
        Height and width that images are resized to, without regard to their aspect ratio; None takes what the weights
        were trained with, else 224. The papers use 448.
    augment : {"flip", "crop"}, callable or None, default="flip"
        Random changes while everything is trained, drawn for each image: mirroring, as published, or mirroring and
        cropping. A callable is applied to one image (3, H, W) at a time, such as one of torchvision.transforms.v2.
    batch_norm : {"train", "frozen"}, default="train"
        Whether statistics of batch norms go on adapting in fine-tuning.
    on_error : {"raise", "skip"}, default="raise"
        What to do in `fit` about images that cannot be read: stop with an error that names the first, or leave these
        rows out and list them in `skipped_`. "skip" reads every image once before training.
    cache_bytes : float, default=2e9
        Training images that fit into this many bytes once resized are decoded once and kept as uint8.

    Examples
    --------
    >>> from skpartial.images import Backbone
    >>> Backbone("resnet18", weights=None, image_size=64)
    Backbone(image_size=64, model='resnet18', weights=None)
    """

    def __init__(
        self,
        model: str | nn.Module = "resnet50",
        weights: str | os.PathLike[str] | None = "DEFAULT",
        finetune: Literal["all", "head", "linear_init"] = "all",
        image_size: int | tuple[int, int] | None = None,
        augment: str | Callable[[Tensor], Tensor] | None = "flip",
        *,
        batch_norm: Literal["train", "frozen"] = "train",
        on_error: Literal["raise", "skip"] = "raise",
        cache_bytes: float = 2e9,
    ) -> None:
        self.model = model
        self.weights = weights
        self.finetune = finetune
        self.image_size = image_size
        self.augment = augment
        self.batch_norm = batch_norm
        self.on_error = on_error
        self.cache_bytes = cache_bytes

    def check(self) -> None:
        """Refuse parameters out of range.

        Raises
        ------
        ValueError
            Naming the parameter and its value.
        """
        if not isinstance(self.model, str | nn.Module):
            raise ValueError(f"Backbone: model must be a name or a torch.nn.Module, got {self.model!r}.")
        for name, choices in (("finetune", _FINETUNE), ("batch_norm", ("train", "frozen")), ("on_error", _ON_ERROR)):
            value = getattr(self, name)
            if value not in choices:
                listed = ", ".join(map(repr, choices[:-1])) + f" or {choices[-1]!r}"
                raise ValueError(f"Backbone: {name} must be {listed}, got {value!r}.")
        if self.augment is not None and self.augment not in AUGMENTATIONS and not callable(self.augment):
            raise ValueError(f"Backbone: augment must be 'flip', 'crop', a callable or None, got {self.augment!r}.")
        if self.image_size is not None:
            sides = self.image_size if isinstance(self.image_size, tuple | list) else (self.image_size,) * 2
            if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
                raise ValueError(
                    f"Backbone: image_size must be a whole number above 0, or a pair of them, got {self.image_size!r}."
                )

    @property
    def name(self) -> str:
        """What to call it: the model's name, or the class of a module."""
        return self.model if isinstance(self.model, str) else type(self.model).__name__

    @property
    def is_pretrained(self) -> bool:
        """Whether the network has learned something before; of a module that is taken for granted."""
        return isinstance(self.model, nn.Module) or self.weights is not None

    def load(self) -> LoadedBackbone:
        """Make the network, with its weights.

        Returns
        -------
        LoadedBackbone
            The network without its classifier, and how images are prepared for it.

        Raises
        ------
        ValueError
            If there is no such model, or its weights cannot be found, downloaded or used.
        """
        self.check()
        if isinstance(self.model, nn.Module):
            body = _Body(copy.deepcopy(self.model), None, _IMAGENET_MEAN, _IMAGENET_STD)
        elif self.model.startswith("timm/"):
            body = _from_timm(self.model.removeprefix("timm/"), self.weights)
        else:
            body = _from_torchvision(self.model, self.weights)
        sides = body.image_size or 224 if self.image_size is None else self.image_size
        height, width = (sides, sides) if isinstance(sides, int) else tuple(sides)
        return LoadedBackbone(body.module, (int(height), int(width)), Normalize(body.mean, body.std))

    def network(self, loaded: LoadedBackbone, head: nn.Module | None, *, takes_maps: bool = False) -> Network:
        """The whole network, for training and for predictions.

        Parameters
        ----------
        loaded : LoadedBackbone
            What `load` gave.
        head : torch.nn.Module or None
            From features to logits; None leaves features.
        takes_maps : bool, default=False
            Whether the head pools maps itself.

        Returns
        -------
        Network
            From uint8 or floating images to logits.
        """
        return Network(
            loaded.body(takes_maps, self.name),
            head,
            normalize=loaded.normalize,
            augment=None if self.augment is None else Augment(self.augment),
            takes_maps=takes_maps,
            frozen_norms=self.batch_norm == "frozen",
            image_size=loaded.image_size,
        )


@dataclass
class LoadedBackbone:
    """A network without its classifier, and how images are prepared for it.

    Parameters
    ----------
    module : torch.nn.Module
        From normalised images to features, or to maps if they are its own output.
    image_size : (height, width)
        What images are resized to.
    normalize : torch.nn.Module
        From pixels to what the network expects.
    """

    module: nn.Module
    image_size: tuple[int, int]
    normalize: Normalize

    def body(self, maps: bool, name: str) -> nn.Module:
        """The module from images to features, or to maps; refused where the network has none."""
        if not maps or self._output(self.module).ndim == 4:
            return self.module
        pooling = [m for m in self.module.modules() if isinstance(m, nn.AdaptiveAvgPool2d)]
        if not pooling:
            raise ValueError(
                f"Backbone {name!r} has no feature maps that a head could pool: use head='linear', or a network that "
                "ends in a global average pooling, such as 'resnet50'."
            )
        return _Maps(self.module, pooling[-1])

    def n_features(self, maps: bool, name: str) -> int:
        """Width of the features, or channels of the maps."""
        found = self._output(self.body(maps, name))
        if found.ndim not in (2, 4):
            raise ValueError(
                f"Backbone {name!r} answers with shape {tuple(found.shape)} for one image: features are (b, d), maps "
                "are (b, C, h, w)."
            )
        return int(found.shape[1])

    def _output(self, module: nn.Module) -> Tensor:
        """What the module makes of a grey image."""
        training = module.training
        module.eval()
        with torch.no_grad():
            parameter = next(module.parameters(), torch.zeros(()))
            image = torch.zeros(1, 3, *self.image_size, dtype=parameter.dtype, device=parameter.device)
            found: Tensor = module(image)
        module.train(training)
        return found


def _without_classifier(model: nn.Module, name: str) -> nn.Module:
    """Replace the last layer, which tells classes apart, by nothing."""
    layers = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if name.startswith("squeezenet"):  # whose classifier is a convolution
        path = "classifier.1"
    elif layers:
        path = layers[-1][0]
    else:
        raise ValueError(f"Backbone {name!r} is no network that classifies images: name one of torchvision.models.")
    parent, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Identity())
    return model


def _from_torchvision(name: str, weights: str | os.PathLike[str] | None) -> _Body:
    try:
        known = torchvision.models.get_model_weights(name)
    except ValueError:
        raise ValueError(
            f"Backbone: torchvision has no model {name!r}. torchvision.models.list_models() lists them; 'timm/NAME' "
            "is one of timm's."
        ) from None
    arguments = {"aux_logits": True, "transform_input": False} if name in ("googlenet", "inception_v3") else {}
    choice, path = None, None
    if weights is not None:
        text = os.fspath(weights)
        if text == "DEFAULT" or text in known.__members__:
            choice = known[text] if text != "DEFAULT" else known.DEFAULT
        elif Path(text).suffix or Path(text).exists():
            path = Path(text)
        else:
            raise ValueError(
                f"Backbone: weights={text!r} is neither a file nor one of {name}'s weights: "
                f"{', '.join(['DEFAULT', *known.__members__])}."
            )
    preset: Any = known.DEFAULT.transforms() if len(known) else None
    try:
        # Aux classifiers are part of the weights, but not of the features.
        model = torchvision.models.get_model(name, weights=choice, **({} if choice is not None else arguments))
    except (URLError, OSError, RuntimeError) as error:
        raise ValueError(
            f"Backbone: the weights {choice} of {name!r} could not be downloaded ({error}). Without a network, pass "
            f"the path of a file of weights, Backbone({name!r}, weights='FILE'), or weights=None for a random start."
        ) from error
    if hasattr(model, "aux_logits"):
        model.aux_logits = False
    model = _without_classifier(model, name)
    if path is not None:
        load_weights(model, path, name)
    size = preset.crop_size[0] if choice is not None and preset is not None else None
    mean, std = (preset.mean, preset.std) if preset is not None else (_IMAGENET_MEAN, _IMAGENET_STD)
    return _Body(model, size, tuple(mean), tuple(std))


def _from_timm(name: str, weights: str | os.PathLike[str] | None) -> _Body:
    try:
        import timm
    except ImportError:
        raise ValueError(f"Backbone 'timm/{name}' needs timm: pip install timm.") from None
    pretrained = weights == "DEFAULT"
    try:
        model = timm.create_model(name, pretrained=pretrained, num_classes=0)
    except Exception as error:
        # timm and the hub behind it raise errors of many kinds, all of which mean the same here.
        raise ValueError(
            f"Backbone: timm could not make {name!r} with weights={weights!r} ({error}). Without a network, pass the "
            "path of a file of weights, or weights=None for a random start."
        ) from error
    if weights is not None and not pretrained:
        load_weights(model, Path(os.fspath(weights)), name)
    config = model.pretrained_cfg
    return _Body(model, config["input_size"][-1], tuple(config["mean"]), tuple(config["std"]))


def load_weights(module: nn.Module, path: Path, name: str) -> None:
    """Load a file of weights into a network; those of a classifier, which it lacks, are left out.

    Parameters
    ----------
    module : torch.nn.Module
        Written to.
    path : Path
        A state dict saved by PyTorch, of which only numbers are read, or a safetensors file.
    name : str
        What error messages call the network.
    """
    if not path.exists():
        raise ValueError(f"Backbone: the file of weights {str(path)!r} does not exist.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError:
        raise ValueError(f"Backbone: {str(path)!r} needs safetensors to be read: pip install safetensors.") from None
    except Exception as error:
        # A damaged file fails in many ways; one that holds more than numbers is refused by weights_only.
        raise ValueError(f"Backbone: {str(path)!r} is no readable file of weights ({error}).") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"Backbone: {str(path)!r} holds no dictionary of tensors.")
    own = module.state_dict()
    missing = sorted(set(own) - set(state))
    # Counters of batches are not in every file, and nothing depends on them.
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(
            f"Backbone: {str(path)!r} lacks {len(missing)} of the {len(own)} tensors of {name!r}, {missing[0]!r} "
            "first: it belongs to another network."
        )
    wrong = [key for key in own if key in state and own[key].shape != state[key].shape]
    if wrong:
        raise ValueError(
            f"Backbone: {str(path)!r} does not fit {name!r}: {wrong[0]!r} has shape {tuple(state[wrong[0]].shape)}, "
            f"not {tuple(own[wrong[0]].shape)}."
        )
    module.load_state_dict({key: state.get(key, value) for key, value in own.items()})


def get(backbone: str | nn.Module | Backbone) -> Backbone:
    """The backbone of a name or module, with default settings; a backbone is returned as it is.

    Parameters
    ----------
    backbone : str, torch.nn.Module or Backbone
        Such as "resnet50".

    Returns
    -------
    Backbone
        A new object for a name or a module.

    Raises
    ------
    ValueError
        If it is none of these.

    Examples
    --------
    >>> from skpartial import images
    >>> images.get("resnet18")
    Backbone(model='resnet18')
    """
    if isinstance(backbone, Backbone):
        return backbone
    if isinstance(backbone, str | nn.Module):
        return Backbone(backbone)
    raise ValueError(f"backbone must be a name, a torch.nn.Module or a skpartial.images.Backbone, got {backbone!r}.")
