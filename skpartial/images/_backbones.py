"""Backbones: which network turns images into features, with which weights, and what of it is fine-tuned."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.error import URLError

import numpy as np
import torch
import torchvision
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skpartial._checks import check_choice, check_number, wrong_value
from skpartial._documentation import Documented
from skpartial._warnings import warn, warn_slower
from skpartial.images._expects import Statistics, check_statistics, count_channels, says, statistics
from skpartial.images._transforms import AUGMENTATIONS, Augment, Normalize, unit_range
from skpartial.images._weights import load_weights

if TYPE_CHECKING:
    from skpartial.heads import Head, HeadContext

__all__ = ["Architecture", "Backbone", "LoadedBackbone", "Network", "get"]

_FINETUNE = ("all", "head", "linear_init")
_ON_ERROR = ("raise", "skip")


class Architecture(NamedTuple):
    """Which network of torchvision or timm it is, whatever its weights.

    Parameters
    ----------
    model : str
        As of `Backbone`.
    image_size : int or None
        The side of the images for which it is made, where it takes no others.
    """

    model: str
    image_size: int | None

    @property
    def n_parameters(self) -> int | None:
        """How many parameters it has with its classifier, where that is known before it is made."""
        if self.model.startswith("timm/"):
            return None
        return int(torchvision.models.get_model_weights(self.model).DEFAULT.meta["num_params"])

    def make(self) -> nn.Module:
        """The network without its classifier, with random weights; nothing is downloaded.

        Returns
        -------
        torch.nn.Module
            As `Backbone.load` makes it.

        Raises
        ------
        ValueError
            If there is no such network.
        """
        if not self.model.startswith("timm/"):
            return _torchvision_network(self.model, self.image_size)
        name = self.model.removeprefix("timm/")
        if ":" in name or "/" in name:  # which timm looks up in the hub
            raise ValueError(f"Backbone: timm has no model {name!r} of its own.")
        return _from_timm(name, None).module


@dataclass
class _Body:
    """A network without its classifier, and what is known of the images that it takes."""

    module: nn.Module
    image_size: int | None
    known: Statistics | None
    architecture: Architecture | None = None


class _Maps(nn.Module):
    """A network that answers with what its last global average pooling takes in."""

    def __init__(self, module: nn.Module, pooling: str) -> None:
        super().__init__()
        self.module, self.pooling = module, pooling

    def forward(self, images: Tensor) -> Tensor:
        taken: list[Tensor] = []
        pooling = self.module.get_submodule(self.pooling)
        # Only for this call: other users of the module have no need of it.
        hook = pooling.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
        try:
            self.module(images)
        finally:
            hook.remove()
        return taken[-1]


class FittedModule(nn.Module):
    """Stands for the module that training began with, where a classifier was pickled: the network as it was fitted.

    A fit may go on from it, but not begin anew, as the first weights are gone.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.module(images)
        return found


class Network(nn.Module):
    """Images to logits: normalisation, random changes while training, backbone, head.

    Parameters
    ----------
    body : torch.nn.Module
        From images (b, channels, H, W) to features (b, d), or to maps (b, C, h, w).
    head : torch.nn.Module or None
        From those to logits; None leaves features, averaged over the regions of maps.
    normalize : Normalize
        What comes before, while training after `augment`.
    augment : torch.nn.Module or None
        Random changes.
    takes_maps : bool
        Whether the head pools maps itself.
    frozen_norms : bool
        Whether batch norms stay in evaluation mode while training.
    image_size : (height, width)
        What images are resized to before they come here.
    architecture : Architecture or None
        Which network the body is; None for a module of the user's.
    """

    def __init__(
        self,
        body: nn.Module,
        head: nn.Module | None,
        *,
        normalize: Normalize,
        augment: nn.Module | None = None,
        takes_maps: bool = False,
        frozen_norms: bool = False,
        image_size: tuple[int, int] = (224, 224),
        architecture: Architecture | None = None,
    ) -> None:
        super().__init__()
        self.normalize, self.augment, self.body, self.head = normalize, augment, body, head
        self.takes_maps, self.frozen_norms, self.image_size = takes_maps, frozen_norms, image_size
        self.architecture = architecture
        #: Of a fitted network: the head, and what it was built for.
        self.built: tuple[Head, HeadContext] | None = None
        #: Type that autocast computes in, or None.
        self.autocast: torch.dtype | None = None
        #: Whether maps lie with their channels last, which tensor cores prefer.
        self.channels_last = False

    def use_channels_last(self) -> None:
        """Let maps lie with their channels last from here on, as long as the device can do with that."""
        self.to(memory_format=torch.channels_last)
        self.channels_last = True

    def _through_body(self, images: Tensor) -> Tensor:
        try:
            found: Tensor = self.body(images)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if not self.channels_last:
                raise
            self.to(memory_format=torch.contiguous_format)
            self.channels_last = False
            found = self.body(images.contiguous())
            warn_slower("The layout of maps with their channels last", error)
        return found

    def train(self, mode: bool = True) -> Network:
        """Training mode, in which batch norms stay as they are if they are frozen."""
        super().train(mode)
        if self.frozen_norms:
            for module in self.body.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    @property
    def channels(self) -> int:
        """How many channels of images it takes."""
        return self.normalize.channels

    def features(self, images: Tensor) -> Tensor:
        """Features (b, d) of images, or maps where the head pools them."""
        if self.training and self.augment is not None:
            images = self.augment(unit_range(images, torch.float32))
        prepared = self.normalize(images)
        with torch.autocast(images.device.type, self.autocast or torch.bfloat16, enabled=self.autocast is not None):
            found = self._through_body(prepared)
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

    def member_logits(self, images: Tensor) -> Tensor:
        """Logits (M, b, L) of the members of an ensemble; of another head M is 1."""
        assert self.head is not None
        logits: Tensor = self.head.member_logits(self.features(images))  # type: ignore[operator]
        return logits


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
            body = _Body(module, trained_size, known)
        elif self.model.startswith("timm/"):
            body = _from_timm(self.model.removeprefix("timm/"), self.weights)
        else:
            body = _from_torchvision(self.model, self.weights)
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
        return _Maps(self.module, pooling[-1])

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


def _without_classifier(model: nn.Module, name: str) -> nn.Module:
    """Replace the last layer, which tells classes apart, by nothing."""
    if name.startswith("squeezenet"):  # whose classifier is a convolution
        path = "classifier.1"
    else:
        path = [path for path, layer in model.named_modules() if isinstance(layer, nn.Linear)][-1]
    parent, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Identity())
    return model


def _from_torchvision(name: str, weights: str | os.PathLike[str] | None) -> _Body:
    name = name.lower()  # as torchvision has it
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise ValueError(
            f"Backbone: torchvision has no model {name!r} that classifies images. "
            "torchvision.models.list_models(module=torchvision.models) lists them; 'timm/NAME' is one of timm's."
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
                f"Backbone: weights={text!r} is neither a file nor one of {name}'s weights: "
                f"{', '.join(['DEFAULT', *known.__members__])}."
            )
    preset: Any = (choice or known.DEFAULT).transforms()
    # Vision transformers are made for images of one size, which weights may change.
    side = choice.meta["min_size"][0] if choice is not None and name.startswith("vit_") else None
    try:
        model = _torchvision_network(name, side, choice)
    except (URLError, OSError, RuntimeError) as error:
        raise ValueError(
            f"Backbone: the weights {choice} of {name!r} could not be downloaded ({error}). Without a network, pass "
            f"the path of a file of weights, Backbone({name!r}, weights='FILE'), or weights=None for a random start."
        ) from error
    if path is not None:
        load_weights(model, path, name)
    size = None if choice is None else preset.crop_size[0]
    return _Body(model, size, (tuple(preset.mean), tuple(preset.std)), Architecture(name, side))


def _torchvision_network(name: str, image_size: int | None, weights: Any = None) -> nn.Module:
    """A network of torchvision without its classifiers, made for images of a size where it takes no others."""
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise ValueError(f"Backbone: torchvision has no model {name!r} that classifies images.")
    arguments: dict[str, Any] = {}
    if weights is None:
        if name in ("googlenet", "inception_v3"):
            # The input that torchvision's own weights of them were trained with.
            arguments = {"aux_logits": False, "transform_input": True, "init_weights": False}
        if image_size is not None:
            arguments["image_size"] = image_size
    model = torchvision.models.get_model(name, weights=weights, **arguments)
    for auxiliary in ("aux1", "aux2", "AuxLogits"):  # classifiers that help in training, without a part in features
        if hasattr(model, auxiliary):
            setattr(model, auxiliary, None)
            model.aux_logits = False
    return _without_classifier(model, name)


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
    config: Any = model.pretrained_cfg  # a dictionary; timm's types do not say so
    known = tuple(config["mean"]), tuple(config["std"])
    return _Body(model, config["input_size"][-1], known, Architecture(f"timm/{name}", None))


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
    body = network.body.module if isinstance(network.body, _Maps) else network.body
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
