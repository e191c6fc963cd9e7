"""Backbones: which network turns images into features, with which weights, and what of it is fine-tuned."""

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
        changed: training works on a copy. A pickled classifier that was fine-tuned from a module holds it as it was
        fitted only, and needs it again to train anew. How many channels it takes is what its first layer says, or the
        length of `mean` or `std`, or else three.
    weights : str, path or None, default="DEFAULT"
        Pretrained weights: "DEFAULT" or another name of torchvision's, which are downloaded once; the path of a file
        of weights (.pth, .pt or .safetensors), for machines without a network, in which they may stand under other
        keys and names that begin alike, such as "state_dict" and "module."; None for a random start. Not used with a
        module, which brings its own.
    finetune : {"all", "head", "linear_init"}, default="all"
        What `fit` trains. "all": everything, the network included. "head": the head alone, on features that are
        computed once, without augmentation. "linear_init": first the head like that, then everything, from the best
        head and the best label estimates.
    image_size : int, pair of int or None, default=None
        Height and width that images are resized to, without regard to their aspect ratio; None takes what the weights
        were trained with, else 224. The papers use 448.
    augment : {"flip", "crop"}, callable or None, default="flip"
        Random changes while everything is trained, drawn for each image: mirroring, as published, or mirroring and
        cropping. A callable is applied to one image (channels, H, W) in [0, 1] at a time, such as one of
        torchvision.transforms.v2, and answers with an image of that shape in [0, 1] or of uint8: it does not normalise,
        which comes after it, in predictions too.
    mean, std : float, sequence of float or None, default=None
        Mean and standard deviation, of pixels in [0, 1], by which the channels are normalised before the network sees
        them: ``(pixels - mean) / std``. None takes what the weights were trained with, also of a module that says so
        (`pretrained_cfg` of timm's); for other modules that is ImageNet's, (0.485, 0.456, 0.406) and
        (0.229, 0.224, 0.225), if they take three channels, and 0 and 1, pixels as they are, if they take others or
        have a Normalize of torchvision's within. Networks that want pixels in [-1, 1] have ``mean=0.5, std=0.5``.
    batch_norm : {"train", "frozen"}, default="train"
        Whether statistics of batch norms go on adapting in fine-tuning.
    on_error : {"raise", "skip"}, default="raise"
        What to do in `fit` about images that cannot be read: stop with an error that names the first, or leave these
        rows out and list them in `skipped_`. "skip" reads every image once before training.
    cache_bytes : float, default=2e9
        Training images that fit into this many bytes once resized are decoded once and kept as uint8.
    compile : bool or str, default=False
        Whether training runs the network through :func:`torch.compile`, which takes a minute or more before the first
        step and may pay with long fits on CUDA; a string names the backend. Predictions run the network as it is, and
        so does training with older versions of PyTorch if its class is one of PyTorch's own, such as
        :class:`torch.nn.Sequential`: wrap it in a module with a ``forward`` of its own there.

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
        """Refuse parameters out of range.

        Raises
        ------
        ValueError
            Naming the parameter and its value.
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
        """What to call it: the model's name, or the class of a module."""
        model = self.model.module if isinstance(self.model, FittedModule) else self.model
        return model if isinstance(model, str) else type(model).__name__

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
            architecture=loaded.architecture,
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
    architecture : Architecture or None, default=None
        Which network it is; None for a module of the user's.
    """

    module: nn.Module
    image_size: tuple[int, int]
    normalize: Normalize
    architecture: Architecture | None = None

    @property
    def channels(self) -> int:
        """How many channels of images it takes."""
        return self.normalize.channels

    def body(self, maps: bool, name: str) -> nn.Module:
        """The module from images to features, or to maps; refused where the network has none."""
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
                f"Backbone {name!r} answers with shape {tuple(found.shape)} for one image: features are (b, d), maps "
                "are (b, C, h, w)."
            )
        return int(found.shape[1])

    def _output(self, module: nn.Module, name: str) -> Tensor:
        """What the module makes of a grey image."""
        training = module.training
        module.eval()
        with torch.no_grad():
            parameter = next(module.parameters(), torch.zeros(()))
            image = torch.zeros(1, self.channels, *self.image_size, dtype=parameter.dtype, device=parameter.device)
            try:
                found = module(image)
            except Exception as error:
                # Whatever a network says to images that are too small for it, or of a size that it is not made for.
                height, width = self.image_size
                raise ValueError(
                    f"Backbone {name!r} cannot take images of {height} x {width} pixels ({error}): choose image_size, "
                    f"or, if it takes other than {self.channels} channels, mean and std with a number for each."
                ) from error
        module.train(training)
        if not isinstance(found, Tensor):
            raise ValueError(f"Backbone {name!r} answers with a {type(found).__name__}, not with a tensor of features.")
        return found


#: What networks call the layers that tell classes apart.
_CLASSIFIERS = ("fc", "classifier", "head", "heads")


def _notice_classifier(module: nn.Module) -> None:
    """Warn of a network whose last part is a classifier still: its features would be logits of other classes."""
    layers = [(path, layer) for path, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    if not layers or layers[-1][0].partition(".")[0] not in _CLASSIFIERS:
        return
    path, last = layers[-1]
    sizes = ("in_features", "out_features") if isinstance(last, nn.Linear) else ("in_channels", "out_channels")
    taken, given = (getattr(last, size) for size in sizes)
    warn(
        f"Backbone: {type(module).__name__} still has its classifier, so that features would be its {given} outputs "
        f"and not the {taken} numbers before: put torch.nn.Identity() in the place of {path!r}."
    )


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


def sharing_weights(backbone: Any, network: Network) -> Any:
    """A fitted classifier's `backbone` for pickling with its network, so that no module is written twice.

    Parameters
    ----------
    backbone : str, torch.nn.Module or Backbone
        The hyperparameter.
    network : Network
        What was fitted.

    Returns
    -------
    str, torch.nn.Module or Backbone
        As it is, if it names a network. A module is replaced by that of the network: itself if training left it as it
        was, else in a :class:`FittedModule`.
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
    """Whether a module is as it was given."""
    ours, theirs = given.state_dict(), fitted.state_dict()
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and torch.equal(ours[name].cpu(), theirs[name].cpu()) for name in ours
    )
