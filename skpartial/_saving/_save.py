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
    """Save an estimator to one file, from which `load` makes it again without executing anything in it.

    The file has the layout of safetensors: arrays and networks as tensors, equal ones once, and everything else as JSON
    in its metadata. It holds what a pickle would, and the optimiser's moments of `partial_fit` besides, so that a
    loaded estimator goes on as the saved one would have; but no `memory`, which is a folder of pickles.

    Parameters
    ----------
    estimator : estimator
        Of this package, fitted or not; a loss, head, solver or backbone; or a pipeline, union or search of scikit-learn
        with some of its scalers and decompositions. Other classes have to be registered, see
        :func:`register_for_saving`.
    path : str or path-like
        The file, exactly so called. It is replaced as a whole, or in case of an error not at all.

    Raises
    ------
    ValueError
        If something in the estimator cannot be saved; the message says where it is.
    OSError
        If the file cannot be written.

    See Also
    --------
    load : The way back.

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
        raise ValueError(f"save takes an estimator, or a loss, head or the like, got {kind}.")
    writer = Writer(_KINDS)
    try:
        root = writer.write(estimator, "")
        document = {"estimator": root, "classes": sorted(writer.classes), "versions": _versions()}
        write_file(path, document, writer.tensors)
    except Refused as error:
        raise ValueError(f"{type(estimator).__name__} cannot be saved to {path!r}: {error}.") from None


def load(path: str | os.PathLike[str], *, modules: Mapping[str, Callable[[], nn.Module]] | None = None) -> Any:
    """Load an estimator that `save` has written.

    Nothing in the file is executed: it can name classes and functions of a closed table, those of this package, some of
    scikit-learn and those that were registered, and hold numbers, words and arrays for them.

    Parameters
    ----------
    path : str or path-like
        The file.
    modules : dict of str to callable, or None, default=None
        For networks that are modules of your own: by the name of the class, what is called without arguments and
        answers with one of the same structure. The tensors are in the file.

    Returns
    -------
    estimator
        As it was saved, on the CPU.

    Raises
    ------
    ValueError
        If it is no such file, damaged, of a later version of the format, or names what is not known; with its path.
    OSError
        If it cannot be read.

    Warns
    -----
    InconsistentVersionWarning
        If another version of skpartial, or of scikit-learn if objects of its are among them, has written the file.

    See Also
    --------
    save : Writes such files.

    Notes
    -----
    Digests in the file tell damage; they are no signature, and do not say who wrote it.
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
        # Whatever comes of content of another form.
        raise ValueError(f"{path!r} cannot be loaded: it is damaged ({type(error).__name__}: {error}).") from error
    return estimator


def _versions() -> dict[str, str]:
    packages = {"skpartial": skpartial, "scikit-learn": sklearn, "numpy": np, "torch": torch}
    return {name: str(package.__version__) for name, package in packages.items()}


def _compare_versions(name: str, document: Any) -> None:
    """Warn where another version may have meant something else."""
    here, there = _versions(), document["versions"]
    of_sklearn = any(kind.startswith("sklearn.") for kind in document["classes"])
    for package in ("skpartial", *(["scikit-learn"] if of_sklearn else [])):
        if there[package] != here[package]:
            warn(InconsistentVersionWarning(name, package, str(there[package])[:30], here[package]))
