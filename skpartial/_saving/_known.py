"""The classes and functions that a file may name: a closed table, to which users can add their own."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar, overload

from sklearn.base import BaseEstimator
from torch import nn

import skpartial
from skpartial.heads import HeadContext

__all__ = ["Refused", "class_name", "find_class", "find_function", "full_name", "function_name", "make_module"]

_T = TypeVar("_T", bound=Callable[..., Any])

# Classes of scikit-learn that are used with classifiers of this package, with a state of numbers, arrays and strings.
_SKLEARN_CLASSES = {
    "sklearn.callback": ("ProgressBar",),
    "sklearn.decomposition": ("PCA", "TruncatedSVD"),
    "sklearn.feature_selection": ("VarianceThreshold",),
    "sklearn.impute": ("SimpleImputer",),
    "sklearn.model_selection": (
        "GridSearchCV",
        "GroupKFold",
        "GroupShuffleSplit",
        "KFold",
        "LeaveOneGroupOut",
        "PredefinedSplit",
        "ShuffleSplit",
        "StratifiedKFold",
    ),
    "sklearn.pipeline": ("FeatureUnion", "Pipeline"),
    "sklearn.preprocessing": (
        "MaxAbsScaler",
        "MinMaxScaler",
        "Normalizer",
        "RobustScaler",
        "StandardScaler",
    ),
}
_FUNCTION_MODULES = ("skpartial.metrics", "sklearn.metrics")
_NAME = re.compile(r"(?P<module>\w+(\.\w+)*)\.(?P<name>\w+)", re.ASCII)


class Refused(ValueError):
    """An object cannot be saved, or a file cannot be loaded; the message is a clause without a full stop."""


@dataclass
class _Registered:
    """A class or function that the user registered, and a callable that makes modules of the class."""

    kind: Any
    make: Callable[[], nn.Module] | None


_registered: dict[str, _Registered] = {}


@overload
def register_for_saving(kind: _T, *, name: str | None = None, make: Callable[[], nn.Module] | None = None) -> _T: ...


@overload
def register_for_saving(
    kind: None = None, *, name: str | None = None, make: Callable[[], nn.Module] | None = None
) -> Callable[[_T], _T]: ...


def register_for_saving(
    kind: Any = None, *, name: str | None = None, make: Callable[[], nn.Module] | None = None
) -> Any:
    """Allow `save` and `load` to handle a class or function from outside this package.

    `load` imports nothing by names in a file, so the loading program must register the class or function, too.

    Parameters
    ----------
    kind : class or function
        A scikit-learn estimator, such as your own loss or head or a step of a pipeline, which is restored from its
        parameters and attributes; a :class:`torch.nn.Module`; a splitter, dataclass or named tuple; or a function, such
        as the `augment` of a backbone. If it is left out, the result is a decorator with the other arguments.
    name : str or None, default=None
        Name in files; None takes module and name, such as "mypackage.losses.MyLoss", which differ between a notebook
        and a script.
    make : callable or None, default=None
        For a module: a callable without arguments that returns a module with the structure of the saved one. Its
        tensors are then overwritten. None calls the class.

    Returns
    -------
    class or function
        `kind`.

    Raises
    ------
    ValueError
        If it is neither a class nor a function, or the name is already taken.

    Examples
    --------
    >>> from skpartial import register_for_saving
    >>> from skpartial.losses import IgnoreUnknown
    >>> @register_for_saving
    ... class MyLoss(IgnoreUnknown):
    ...     pass
    """
    if kind is None:
        return lambda given: register_for_saving(given, name=name, make=make)
    if not inspect.isclass(kind) and not inspect.isfunction(kind):
        raise ValueError(f"register_for_saving takes a class or a function with a name, got {kind!r}.")
    if name is None:
        name = full_name(kind)
        if "<" in name and inspect.isfunction(kind) and kind.__name__ == "<lambda>":
            raise ValueError("register_for_saving takes functions with a name, got a lambda: pass name=, or use def.")
    other = _registered.get(name)
    # The same class again comes from a notebook cell that was run again.
    if name.partition(".")[0] in ("skpartial", "sklearn") and _public(name) is not None:
        raise ValueError(f"register_for_saving: {name!r} is already known.")
    if other is not None and full_name(other.kind) != full_name(kind):
        raise ValueError(f"register_for_saving: {name!r} is already {other.kind!r}: choose another name=.")
    _registered[name] = _Registered(kind, make)
    return kind


def full_name(kind: Any) -> str:
    """Module and name of a class or function."""
    return f"{kind.__module__}.{kind.__qualname__}"


@cache
def _subpackages() -> tuple[str, ...]:
    """Names of the public subpackages and of this package itself."""
    named = (f"skpartial.{name}" for name in (*skpartial.__all__, "training") if not name.startswith("_"))
    return "skpartial", *(name for name in named if find_spec(name) is not None)


def _public(name: str) -> Any:
    """The object with a public name in this package or an allowed name in scikit-learn; None for any other name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    module, last = match["module"], match["name"]
    if module in _SKLEARN_CLASSES:
        return getattr(import_module(module), last) if last in _SKLEARN_CLASSES[module] else None
    if module not in _FUNCTION_MODULES and module not in _subpackages():
        return None
    found = import_module(module)
    return getattr(found, last) if last in found.__all__ else None


def _is_savable(kind: Any) -> bool:
    """Whether objects of a class consist of parameters and attributes, without side effects on creation."""
    if not inspect.isclass(kind) or inspect.isabstract(kind):
        return False
    splitter = hasattr(kind, "get_n_splits")
    named_tuple = issubclass(kind, tuple) and hasattr(kind, "_fields")
    return issubclass(kind, BaseEstimator | HeadContext) or splitter or named_tuple or is_dataclass(kind)


def class_name(kind: type) -> str:
    """The name of a class in files.

    Raises
    ------
    Refused
        If it has no name.
    """
    for name, known in _registered.items():
        if known.kind is kind:
            return name
    root = kind.__module__.partition(".")[0]
    places = _subpackages() if root == "skpartial" else _SKLEARN_CLASSES if root == "sklearn" else ()
    for place in places:
        # A class is exported by the package of its module, so that nothing else needs to be imported.
        if place == "skpartial" or f"{kind.__module__}.".startswith(f"{place}."):
            name = f"{place}.{kind.__name__}"
            if _public(name) is kind and (root == "sklearn" or _is_savable(kind)):
                return name
    raise Refused(
        f"{full_name(kind)} is not a class of this package: register it with skpartial.register_for_saving, or save "
        "other estimators of scikit-learn with skops (https://skops.readthedocs.io)"
    )


def find_class(name: Any) -> type:
    """The class with a name in a file.

    Raises
    ------
    Refused
        If there is no such class in the table.
    """
    if isinstance(name, str):
        registered = _registered[name].kind if name in _registered else None
        if inspect.isclass(registered) and not issubclass(registered, nn.Module):
            return registered
        public = _public(name)
        if public is not None and (name.startswith("sklearn.") or _is_savable(public)) and inspect.isclass(public):
            return public
    raise Refused(
        f"it holds an object of class {_shown(name)}, which is not in this package: if the class is yours, register it "
        "with skpartial.register_for_saving first"
    )


def function_name(function: Any) -> str:
    """The name of a function in files.

    Raises
    ------
    Refused
        If it has no name.
    """
    for name, known in _registered.items():
        if known.kind is function:
            return name
    for module in _FUNCTION_MODULES:
        name = f"{module}.{getattr(function, '__name__', '')}"
        if _public(name) is function:
            return name
    raise Refused(
        f"{full_name(function)} is not a function of this package: register it with skpartial.register_for_saving"
    )


def find_function(name: Any) -> Any:
    """The function with a name in a file.

    Raises
    ------
    Refused
        If there is no such function in the table.
    """
    if isinstance(name, str):
        found = _registered[name].kind if name in _registered else None
        if found is None and name.rpartition(".")[0] in _FUNCTION_MODULES:
            found = _public(name)
        if inspect.isfunction(found):
            return found
    raise Refused(
        f"it names the function {_shown(name)}, which is not in this package: if it is yours, register it with "
        "skpartial.register_for_saving first"
    )


def make_module(name: Any, given: dict[str, Any]) -> nn.Module:
    """A module of a class that a file names, made by a callable that the user passed or registered.

    Raises
    ------
    Refused
        If there is no such callable.
    """
    if isinstance(name, str):
        for key in (name, name.rpartition(".")[2]):
            if key in given:
                return _made(given[key], name)
        if name in _registered:
            known = _registered[name]
            return _made(known.make or known.kind, name)
    short = name.rpartition(".")[2] if isinstance(name, str) else name
    raise Refused(
        f"it holds the tensors of a network of class {_shown(name)}: pass a function that makes one, with "
        f"load(path, modules={{{_shown(short)}: make}}) or skpartial.register_for_saving"
    )


def _made(make: Any, name: str) -> nn.Module:
    module = make()
    if not isinstance(module, nn.Module):
        raise Refused(f"the function that makes {name!r} returns a {type(module).__name__}, not a torch.nn.Module")
    return module


def _shown(name: Any) -> str:
    """A name from a file, shortened to at most a line."""
    text = repr(name)
    return text if len(text) <= 100 else f"{text[:100]}..."
