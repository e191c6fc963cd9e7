"""Backbones: networks that turn images into features, with their weights and fine-tuning."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skpartial._checks import check_choice, check_number, wrong_value
from skpartial._documentation import Documented
from skpartial._warnings import warn
from skpartial.images._architectures import Architecture, Body, from_timm, from_torchvision
from skpartial.images._expects import check_statistics, count_channels, says, statistics
from skpartial.images._network import FittedModule, Maps, Network
from skpartial.images._transforms import AUGMENTATIONS, Augment, Normalize

if TYPE_CHECKING:
    pass

__all__ = ["Backbone", "LoadedBackbone", "get", "sharing_weights"]

_FINETUNE = ("all", "head", "linear_init")
_ON_ERROR = ("raise", "skip")


class Backbone(Documented, BaseEstimator):
    """A network that turns images into features.

    Parameters
    ----------
    model : str or torch.nn.Module, default="resnet50"
        A classification network of torchvision by name, "timm/NAME" if timm is installed, or a module from images
        (b, channels, H, W), normalised by `mean` and `std`, to features (b, d) or maps (b, C, h, w). A module is never
        changed: training works on a copy. A pickled classifier that was fine-tuned from a module only holds the fitted
        module; to train it anew, pass the module again. The number of channels is taken from the first layer, else from
        the length of `mean` or `std`, else it is three.
    weights : str, path or None, default="DEFAULT"
        Pretrained weights: "DEFAULT" or another name in torchvision, which are downloaded once; or the path of a file
        of weights (.pth, .pt or .safetensors), for offline use; None for a random start. In a file, weights may be
        nested under keys such as "state_dict", and their names may have a common prefix such as "module.". Not used
        with a module, which has its own weights.
    finetune : {"all", "head", "linear_init"}, default="all"
        What `fit` trains. "all": everything, including the network. "head": only the head, on features that are
        computed once, without augmentation. "linear_init": first the head as with "head", then everything, starting
        from the best head and the best label estimates.
    image_size : int, pair of int or None, default=None
        Height and width to which images are resized, ignoring their aspect ratio; None is the size that the weights
        were trained with, else 224. The papers use 448.
    augment : {"flip", "crop"}, callable or None, default="flip"
        Random augmentation while everything is trained, drawn per image: mirroring, as published, or mirroring and
        cropping. A callable, such as a transform of torchvision.transforms.v2, is applied to one image (channels, H, W)
        in [0, 1] at a time and returns an image of that shape in [0, 1] or of uint8. It must not normalise: that comes
        after it, also in predictions.
    mean, std : float, sequence of float or None, default=None
        Mean and standard deviation of pixels in [0, 1], to normalise the channels of the network's input:
        ``(pixels - mean) / std``. None takes the values that the weights were trained with, also for modules that
        document them (`pretrained_cfg` in timm). For other modules with three channels they are ImageNet's,
        (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225). They are 0 and 1 (no change) for modules with other numbers of
        channels, or that contain torchvision's Normalize. For networks that need pixels in [-1, 1], pass
        ``mean=0.5, std=0.5``.
    batch_norm : {"train", "frozen"}, default="train"
        Whether the statistics of batch norms are updated in fine-tuning, or frozen.
    on_error : {"raise", "skip"}, default="raise"
        Treatment of unreadable images in `fit`: "raise" raises an error that names the first one; "skip" leaves their
        rows out and lists them in `skipped_`, for which it reads every image once before training.
    cache_bytes : float, default=2e9
        If the resized training images fit into this many bytes, they are decoded once and kept as uint8.
    compile : bool or str, default=False
        Whether to compile the network for training with :func:`torch.compile`, which takes a minute or more before the
        first step and may pay off in long fits on CUDA; a string names the backend. Predictions are not compiled.
        Older versions of PyTorch do not compile networks of PyTorch's own classes, such as
        :class:`torch.nn.Sequential`: wrap them in a module with its own ``forward``.

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
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        batch_norm: Literal["train", "frozen"] = "train",
        on_error: Literal["raise", "skip"] = "raise",
        cache_bytes: float = 2e9,
        compile: bool | str = False,
    ) -> None:
        self.model = model
        self.weights = weights
        self.finetune = finetune
        self.image_size = image_size
        self.augment = augment
        self.mean = mean
        self.std = std
        self.batch_norm = batch_norm
        self.on_error = on_error
        self.cache_bytes = cache_bytes
        self.compile = compile

    def check(self) -> None:
        """Check the parameters.

        Raises
        ------
        ValueError
            If a parameter is invalid; the message names it and its value.
        """
        if not isinstance(self.model, str | nn.Module):
            raise wrong_value(self, "model", "a name or a torch.nn.Module", self.model)
        for name, choices in (("finetune", _FINETUNE), ("batch_norm", ("train", "frozen")), ("on_error", _ON_ERROR)):
            check_choice(self, name, getattr(self, name), choices)
        if self.augment is not None and self.augment not in AUGMENTATIONS and not callable(self.augment):
            raise wrong_value(self, "augment", "'flip', 'crop', a callable or None", self.augment)
        if self.image_size is not None:
            sides = self.image_size if isinstance(self.image_size, tuple | list) else (self.image_size,) * 2
            whole = all(isinstance(side, int | np.integer) and not isinstance(side, bool) for side in sides)
            if not whole or len(sides) != 2 or min(sides) < 1:
                raise wrong_value(self, "image_size", "a whole number above 0, or a pair of them", self.image_size)
        if self.weights is not None and not isinstance(self.weights, str | os.PathLike):
            raise wrong_value(self, "weights", "a name, the path of a file, or None", self.weights)
        check_statistics(self)
        check_number(self, "cache_bytes", self.cache_bytes, "[0, inf]", "a number of at least 0")
        if not isinstance(self.compile, bool):
            backends = torch.compiler.list_backends(exclude_tags=())
            if self.compile not in backends:
                names = ", ".join(map(repr, sorted(backends)))
                raise wrong_value(self, "compile", f"a bool or one of {names}", self.compile)

    @property
    def name(self) -> str:
        """Name for messages: the model's name, or the class of a module."""
        model = self.model.module if isinstance(self.model, FittedModule) else self.model
        return model if isinstance(model, str) else type(model).__name__

    @property
    def is_pretrained(self) -> bool:
        """Whether the network is pretrained; a module is assumed to be."""
        return isinstance(self.model, nn.Module) or self.weights is not None

    def load(self) -> LoadedBackbone:
        """Create the network with its weights.

        Returns
        -------
        LoadedBackbone
            The network without its classifier, and the preparation of its images.

        Raises
        ------
        ValueError
            If the model does not exist, or its weights cannot be found, downloaded or used.
        """
        self.check()
        if isinstance(self.model, nn.Module):
            given = self.model.module if isinstance(self.model, FittedModule) else self.model
            module = copy.deepcopy(given).float()
            _notice_classifier(module)
            known, trained_size = says(module)
            body = Body(module, trained_size, known)
        elif self.model.startswith("timm/"):
            body = from_timm(self.model.removeprefix("timm/"), self.weights)
        else:
            body = from_torchvision(self.model, self.weights)
        sides = body.image_size or 224 if self.image_size is None else self.image_size
        height, width = sides if isinstance(sides, tuple | list) else (sides, sides)
        pixels = int(height), int(width)
        mean, std = statistics(self, count_channels(body.module, pixels), body.known)
        return LoadedBackbone(body.module, pixels, Normalize(mean, std), body.architecture)

    def network(self, loaded: LoadedBackbone, head: nn.Module | None, *, takes_maps: bool = False) -> Network:
        """The whole network, for training and predictions.

        Parameters
        ----------
        loaded : LoadedBackbone
            Result of `load`.
        head : torch.nn.Module or None
            Map from features to logits; None returns features.
        takes_maps : bool, default=False
            Whether the head pools maps itself.

        Returns
        -------
        Network
            Map from uint8 or floating-point images to logits.
        """
        return Network(
            loaded.body(takes_maps, self.name),
            head,
            normalize=loaded.normalize,
            augment=None if self.augment is None else Augment(self.augment),
            takes_maps=takes_maps,
            frozen_norms=self.batch_norm == "frozen",
            image_size=loaded.image_size,
            architecture=loaded.architecture,
        )


@dataclass
class LoadedBackbone:
    """A network without its classifier, and the preparation of its images.

    Parameters
    ----------
    module : torch.nn.Module
        Map from normalised images to features, or to feature maps if the network outputs them.
    image_size : (height, width)
        Size to which images are resized.
    normalize : torch.nn.Module
        Normalisation of pixels for the network.
    architecture : Architecture or None, default=None
        The network's architecture; None for a user's module.
    """

    module: nn.Module
    image_size: tuple[int, int]
    normalize: Normalize
    architecture: Architecture | None = None

    @property
    def channels(self) -> int:
        """Number of channels of the input images."""
        return self.normalize.channels

    def body(self, maps: bool, name: str) -> nn.Module:
        """The module from images to features, or to maps; refused if the network has no maps."""
        if not maps or self._output(self.module, name).ndim == 4:
            return self.module
        pooling = [path for path, m in self.module.named_modules() if isinstance(m, nn.AdaptiveAvgPool2d)]
        if not pooling:
            raise ValueError(
                f"Backbone {name!r} has no feature maps that a head could pool: use head='linear', or a network that "
                "ends in a global average pooling, such as 'resnet50'."
            )
        return Maps(self.module, pooling[-1])

    def n_features(self, maps: bool, name: str) -> int:
        """Width of the features, or channels of the maps."""
        found = self._output(self.body(maps, name), name)
        if found.ndim not in (2, 4):
            raise ValueError(
                f"Backbone {name!r} returns shape {tuple(found.shape)} for one image: it must be (b, d) for features, "
                "or (b, C, h, w) for maps."
            )
        return int(found.shape[1])

    def _output(self, module: nn.Module, name: str) -> Tensor:
        """Output of the module for a grey image."""
        training = module.training
        module.eval()
        with torch.no_grad():
            parameter = next(module.parameters(), torch.zeros(()))
            image = torch.zeros(1, self.channels, *self.image_size, dtype=parameter.dtype, device=parameter.device)
            try:
                found = module(image)
            except Exception as error:
                # Networks raise various errors for images that are too small, or of a size that they do not take.
                height, width = self.image_size
                raise ValueError(
                    f"Backbone {name!r} cannot take images of {height} x {width} pixels ({error}): choose image_size, "
                    f"or, if it does not take {self.channels} channels, mean and std with one number per channel."
                ) from error
        module.train(training)
        if not isinstance(found, Tensor):
            raise ValueError(f"Backbone {name!r} returns a {type(found).__name__}, not a tensor of features.")
        return found


#: Names of the classification layers of networks.
_CLASSIFIERS = ("fc", "classifier", "head", "heads")


def _notice_classifier(module: nn.Module) -> None:
    """Warn about a network that still ends in a classifier: its features would be logits of other classes."""
    layers = [(path, layer) for path, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    if not layers or layers[-1][0].partition(".")[0] not in _CLASSIFIERS:
        return
    path, last = layers[-1]
    sizes = ("in_features", "out_features") if isinstance(last, nn.Linear) else ("in_channels", "out_channels")
    taken, given = (getattr(last, size) for size in sizes)
    warn(
        f"Backbone: {type(module).__name__} still has its classifier, so features would be its {given} outputs instead "
        f"of the {taken} values before: replace {path!r} by torch.nn.Identity()."
    )


def get(backbone: str | nn.Module | Backbone) -> Backbone:
    """The backbone for a name or module, with default settings; a backbone is returned unchanged.

    Parameters
    ----------
    backbone : str, torch.nn.Module or Backbone
        Backbone, such as "resnet50".

    Returns
    -------
    Backbone
        A new object for a name or a module.

    Raises
    ------
    ValueError
        If it is of another type.

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


def sharing_weights(backbone: Any, network: Network) -> Any:
    """The `backbone` of a fitted classifier for pickling with its network, so that no module is stored twice.

    Parameters
    ----------
    backbone : str, torch.nn.Module or Backbone
        The hyperparameter.
    network : Network
        The fitted network.

    Returns
    -------
    str, torch.nn.Module or Backbone
        Unchanged if it is a name. A module is replaced by the module in the network: directly if training did not
        change it, else in a :class:`FittedModule`.
    """
    settings = get(backbone)
    if isinstance(settings.model, str):
        return backbone
    body = network.body.module if isinstance(network.body, Maps) else network.body
    assert isinstance(body, nn.Module)
    model = body if _same_weights(settings.model, body) else FittedModule(body)
    if not isinstance(backbone, Backbone):
        return model
    return type(backbone)(**{**backbone.get_params(deep=False), "model": model})


def _same_weights(given: nn.Module, fitted: nn.Module) -> bool:
    """Whether a fitted module equals the given one."""
    ours, theirs = given.state_dict(), fitted.state_dict()
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and torch.equal(ours[name].cpu(), theirs[name].cpu()) for name in ours
    )
