"""`save` and `load`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.base import BaseEstimator
from torch import nn

import skpartial
from skpartial._saving._file import TensorFile, write_file
from skpartial._saving._known import Refused
from skpartial._saving._networks import NETWORK_KINDS
from skpartial._saving._objects import OBJECT_KINDS
from skpartial._saving._values import VALUE_KINDS
from skpartial._saving._walk import Reader, Writer
from skpartial._warnings import warn
from skpartial.exceptions import InconsistentVersionWarning

__all__ = ["load", "save"]

_KINDS = (*VALUE_KINDS, *NETWORK_KINDS, *OBJECT_KINDS)


def save(estimator: BaseEstimator, path: str | os.PathLike[str]) -> None:
    """Save an estimator to a single file, which `load` reads without executing anything in it.

    The file has the layout of safetensors: arrays and networks are tensors, with equal ones stored once, and everything
    else is JSON in its metadata. It holds the contents of a pickle, so that a loaded estimator continues like the saved
    one. It leaves out `memory`, which is a folder on this machine.

    Parameters
    ----------
    estimator : estimator
        An estimator of this package, fitted or not; a loss, head, solver or backbone; or a pipeline, union or search of
        scikit-learn, with some of its scalers and decompositions. Other classes must be registered with
        :func:`register_for_saving`.
    path : str or path-like
        The file; no suffix is added. It is replaced as a whole, or, if there is an error, not at all.

    Raises
    ------
    ValueError
        If something in the estimator cannot be saved; the message names its place.
    OSError
        If the file cannot be written.

    See Also
    --------
    load : Loads such files.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import skpartial
    >>> X, Y = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), np.array([[-1, 1], [1, -1], [0, 1], [-1, 0]])
    >>> clf = skpartial.PartialLabelClassifier().fit(X, Y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "clf.safetensors")
    ...     skpartial.save(clf, path)
    ...     again = skpartial.load(path)
    >>> again
    PartialLabelClassifier()
    >>> bool((again.predict_proba(X) == clf.predict_proba(X)).all())
    True
    """
    path = os.fsdecode(path)
    if not isinstance(estimator, BaseEstimator):
        kind = f"the class {estimator.__name__}" if isinstance(estimator, type) else f"a {type(estimator).__name__}"
        raise ValueError(f"save takes an estimator, loss, head or similar object, got {kind}.")
    writer = Writer(_KINDS)
    try:
        root = writer.write(estimator, "")
        document = {"estimator": root, "classes": sorted(writer.classes), "versions": _versions()}
        write_file(path, document, writer.tensors)
    except Refused as error:
        raise ValueError(f"{type(estimator).__name__} cannot be saved to {path!r}: {error}.") from None


def load(path: str | os.PathLike[str], *, modules: Mapping[str, Callable[[], nn.Module]] | None = None) -> Any:
    """Load an estimator from a file of `save`.

    Nothing in the file is executed: it holds numbers, strings and arrays, and the names of classes and functions in a
    closed table: all of this package, some of scikit-learn, and registered ones.

    Parameters
    ----------
    path : str or path-like
        The file.
    modules : dict of str to callable, or None, default=None
        For networks that are your own modules: by class name, a callable without arguments that returns a module of the
        same structure. The tensors are in the file.

    Returns
    -------
    estimator
        The saved estimator, on the CPU.

    Raises
    ------
    ValueError
        If the file is of another kind, damaged, of a later version of the format, or has unknown names.
    OSError
        If the file cannot be read.

    Warns
    -----
    InconsistentVersionWarning
        If the file was written by another version of skpartial, or of scikit-learn if it holds objects of scikit-learn.

    See Also
    --------
    save : Saves such files.

    Notes
    -----
    Digests in the file detect damage; they are not a signature, and do not authenticate its author.
    """
    path = os.fsdecode(path)
    try:
        file = TensorFile(path)
        reader = Reader(_KINDS, file, dict(modules or {}))
        document = file.document
        estimator = reader.read(document["estimator"])
        if not isinstance(estimator, BaseEstimator):
            raise Refused("it holds no estimator")
        _compare_versions(type(estimator).__name__, document)
    except (OSError, MemoryError):
        raise
    except Refused as error:
        raise ValueError(f"{path!r} cannot be loaded: {error}.") from None
    except Warning:
        raise
    except Exception as error:
        # Malformed contents may raise anything.
        raise ValueError(f"{path!r} cannot be loaded: it is damaged ({type(error).__name__}: {error}).") from error
    return estimator


def _versions() -> dict[str, str]:
    packages = {"skpartial": skpartial, "scikit-learn": sklearn, "numpy": np, "torch": torch}
    return {name: str(package.__version__) for name, package in packages.items()}


def _compare_versions(name: str, document: Any) -> None:
    """Warn if another version wrote the file, in which contents may have another meaning."""
    here, there = _versions(), document["versions"]
    of_sklearn = any(kind.startswith("sklearn.") for kind in document["classes"])
    for package in ("skpartial", *(["scikit-learn"] if of_sklearn else [])):
        if there[package] != here[package]:
            warn(InconsistentVersionWarning(name, package, str(there[package])[:30], here[package]))
