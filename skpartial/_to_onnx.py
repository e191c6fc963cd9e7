"""Fitted classifiers as ONNX models, for machines without Python."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skpartial._base import BasePartialLabelClassifier
from skpartial.heads._module import rebuild_head
from skpartial.model_selection import TunedThresholdsCV

__all__ = ["to_onnx"]

_OPSET = 18
# Prefix of the names in the part that computes logits, including its input and output.
_BODY = "model/"
_FEATURES, _LOGITS = f"{_BODY}features", f"{_BODY}logits"
# ONNX's number for the type.
_INT64 = 7
# A file format version that runtimes of recent years can read.
_IR_VERSION = 10


@dataclass
class _Parts:
    """The parts of a fitted estimator, from the last step to the first.

    Parameters
    ----------
    classifier : BasePartialLabelClassifier
        Computes logits.
    scalers : list of StandardScaler
        The steps before it, in order.
    thresholds : ndarray of float64, or None
        Thresholds for the scores of labels, if labels have their own.
    on_probabilities : bool
        Whether these scores are probabilities rather than logits.
    """

    classifier: BasePartialLabelClassifier
    scalers: list[StandardScaler]
    thresholds: NDArray[np.float64] | None = None
    on_probabilities: bool = True


def to_onnx(estimator: BaseEstimator) -> Any:
    """Convert a fitted classifier to an ONNX model.

    Parameters
    ----------
    estimator : estimator
        A classifier of this package on features or images, a
        :class:`~skpartial.model_selection.TunedThresholdsCV` of one, or a pipeline of
        :class:`sklearn.preprocessing.StandardScaler` and one of these.

    Returns
    -------
    onnx.ModelProto
        Write it with ``onnx.save(model, path)``. The input ``X`` holds features (n, d), or images (n, channels, height,
        width) in [0, 1] of the size that the backbone takes; the model normalises them. Its type is float32, or float64
        if the fit was in float64. The outputs are ``probabilities``, as from `predict_proba`, and ``labels``, as from
        `predict`: int64, 1 for predicted labels by the estimator's thresholds, else 0, or the classes after a fit on
        1-D y. The number of rows is free.

    Raises
    ------
    ValueError
        If the estimator is of another kind, or has a step that cannot be converted.
    NotFittedError
        If the estimator is not fitted.
    ImportError
        If onnx is not installed, or onnxscript for a nonlinear head or a backbone: ``pip install skpartial[onnx]``.

    Notes
    -----
    Networks are converted by :func:`torch.onnx.export`.

    Examples
    --------
    >>> import pytest
    >>> _ = pytest.importorskip("onnx")
    >>> import numpy as np
    >>> from skpartial import PartialLabelClassifier, to_onnx
    >>> X, Y = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), np.array([[-1, 1], [1, -1], [0, 1], [-1, 0]])
    >>> model = to_onnx(PartialLabelClassifier().fit(X, Y))
    >>> [output.name for output in model.graph.output]
    ['probabilities', 'labels']
    """
    parts = _parts(estimator)
    onnx = _import("onnx")
    classifier = parts.classifier
    linear = not hasattr(classifier, "network_") and classifier.head_parameters_ is None
    # Keeps the exporter's names apart from the names of the other parts.
    body = onnx.compose.add_prefix(_linear(classifier) if linear else _exported(classifier), _BODY)
    (given,) = body.graph.input
    kind = given.type.tensor_type.elem_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    before, scales = _before(parts, dtype)
    after, constants = _after(parts, dtype)
    value = onnx.helper.make_tensor_value_info
    sides = [dim.dim_value for dim in given.type.tensor_type.shape.dim[1:]]
    columns, label_shape, label_kind = classifier._fitted_shape[1], ["n", classifier._fitted_shape[1]], _INT64
    if classifier._binary:
        columns, label_shape = 2, ["n"]
        label_kind = onnx.TensorProto.STRING if _are_words(classifier.classes_) else _INT64
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [*before, *body.graph.node, *after],
            "skpartial",
            [value("X", kind, ["n", *sides])],
            [value("probabilities", kind, ["n", columns]), value("labels", label_kind, label_shape)],
            [*scales, *body.graph.initializer, *constants],
        ),
        producer_name="skpartial",
        opset_imports=list(body.opset_import),
        functions=list(body.functions),
        ir_version=min(_IR_VERSION, onnx.IR_VERSION),
    )
    onnx.helper.set_model_props(model, {"label_names": "\n".join(map(str, classifier.label_names_))})
    onnx.checker.check_model(model)
    return model


def _import(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        raise ImportError(f"to_onnx needs {name}: pip install skpartial[onnx].") from None


def _parts(estimator: Any) -> _Parts:
    if isinstance(estimator, BasePartialLabelClassifier):
        check_is_fitted(estimator)
        return _Parts(estimator, [])
    if isinstance(estimator, TunedThresholdsCV):
        check_is_fitted(estimator)
        parts = _parts(estimator.estimator_)
        if parts.thresholds is not None:
            raise ValueError("to_onnx does not support a TunedThresholdsCV within another TunedThresholdsCV.")
        parts.thresholds, parts.on_probabilities = estimator.thresholds_, estimator._method == "predict_proba"
        return parts
    if isinstance(estimator, Pipeline):
        *steps, last = (step for _, step in estimator.steps if step is not None and step != "passthrough")
        other = next((step for step in steps if not isinstance(step, StandardScaler)), None)
        if other is None:
            for step in steps:
                check_is_fitted(step)
            parts = _parts(last)
            return _Parts(parts.classifier, [*steps, *parts.scalers], parts.thresholds, parts.on_probabilities)
        raise ValueError(
            f"to_onnx only supports pipelines of StandardScaler and a classifier, got a {type(other).__name__}: for "
            "images use the classifier's backbone, or convert other steps with skl2onnx and merge the models."
        )
    cure = ": pass its best_estimator_" if hasattr(estimator, "best_estimator_") else ""
    raise ValueError(f"to_onnx takes a classifier of skpartial, got a {type(estimator).__name__}{cure}.")


def _linear(classifier: Any) -> Any:
    """Features times weights, as a model from "features" to "logits"."""
    onnx = _import("onnx")
    helper, arrays = onnx.helper, onnx.numpy_helper
    dtype = np.promote_types(classifier.coef_.dtype, np.float32)
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    weight, bias = classifier.coef_.T.astype(dtype), classifier.intercept_.astype(dtype)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["features", "weight"], ["products"]),
            helper.make_node("Add", ["products", "bias"], ["logits"]),
        ],
        "linear",
        [helper.make_tensor_value_info("features", kind, ["n", weight.shape[0]])],
        [helper.make_tensor_value_info("logits", kind, ["n", weight.shape[1]])],
        [arrays.from_array(np.ascontiguousarray(weight), "weight"), arrays.from_array(bias, "bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])


class _Logits(nn.Module):
    """A head, or a network with one, and the number added to its logits."""

    def __init__(self, network: Any, head: nn.Module, shift: float) -> None:
        super().__init__()
        self.network, self.head, self.shift = network, head, shift

    def forward(self, features: Tensor) -> Tensor:
        """Logits of features, or of images in [0, 1]."""
        if self.network is not None:
            features = self.network.body(self.network.normalize(features))
            if features.ndim == 4 and not self.network.takes_maps:
                features = features.mean((2, 3))
        logits: Tensor = self.head(features) + self.shift
        return logits


def _exported(classifier: Any) -> Any:
    """The network or head, as a model from "features" to "logits"."""
    _import("onnxscript")
    shift = 0.0 if classifier.head_parameters_ is None else classifier._shift
    if hasattr(classifier, "network_"):
        network = copy.deepcopy(classifier.network_).cpu().eval()
        network.to(memory_format=torch.contiguous_format)
        module = _Logits(network, network.head, shift)
        example = torch.rand(2, network.channels, *network.image_size)
    else:
        if classifier._head.takes_maps:
            raise ValueError(
                "to_onnx does not know the size of the maps that this head pools: pass a classifier with a backbone."
            )
        head = rebuild_head(classifier._head, classifier._head_context, classifier.head_parameters_)
        module = _Logits(None, head, shift)
        example = torch.rand(2, classifier._fitted_shape[0], dtype=next(head.parameters()).dtype)
    with _quietly():
        try:
            # A step of its own, to detect a network that only accepts some numbers of rows.
            traced = torch.export.export(
                module.eval(), (example,), dynamic_shapes={"features": {0: torch.export.Dim("n")}}, strict=False
            )
            program = torch.onnx.export(
                traced,
                input_names=["features"],
                output_names=["logits"],
                opset_version=_OPSET,
                dynamo=True,
                verbose=False,
            )
        except Exception as error:
            # PyTorch's errors about operations that it cannot trace or that ONNX lacks.
            raise ValueError(
                f"{type(classifier).__name__} has a head or backbone that PyTorch cannot convert to ONNX ({error})."
            ) from error
    assert program is not None
    return program.model_proto


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the exporter's messages."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _are_words(classes: NDArray[Any]) -> bool:
    return classes.dtype.kind in "OU"


def _before(parts: _Parts, dtype: np.dtype[Any]) -> tuple[list[Any], list[Any]]:
    """From "X" to features, through the scalers."""
    onnx = _import("onnx")
    helper, arrays = onnx.helper, onnx.numpy_helper
    nodes, constants, name = [], [], "X"
    for i, scaler in enumerate(parts.scalers):
        steps = ("Sub", scaler.with_mean, scaler.mean_), ("Div", scaler.with_std, scaler.scale_)
        for operation, used, values in steps:
            if used:
                constant, made = f"scaler_{i}_{operation}", f"scaled_{i}_{operation}"
                constants.append(arrays.from_array(np.asarray(values, dtype=dtype), constant))
                nodes.append(helper.make_node(operation, [name, constant], [made]))
                name = made
    nodes.append(helper.make_node("Identity", [name], [_FEATURES]))
    return nodes, constants


def _after(parts: _Parts, dtype: np.dtype[Any]) -> tuple[list[Any], list[Any]]:
    """From logits to "probabilities" and "labels"."""
    onnx = _import("onnx")
    helper, arrays = onnx.helper, onnx.numpy_helper
    classifier, logits = parts.classifier, _LOGITS
    limits = np.finfo(dtype)
    low, high = np.array(limits.tiny, dtype), np.array(1 - limits.epsneg, dtype)
    constants = {"low": low, "high": high, "zero": np.array(0, dtype)}
    nodes = []
    if classifier._binary:
        nodes += [
            helper.make_node("Neg", [logits], ["against"]),
            helper.make_node("Concat", ["against", logits], ["both"], axis=1),
        ]
    nodes += [
        helper.make_node("Sigmoid", ["both" if classifier._binary else logits], ["sigmoid"]),
        helper.make_node("Clip", ["sigmoid", "low", "high"], ["probabilities"]),
    ]
    if parts.thresholds is None:
        nodes.append(helper.make_node("Greater", [logits, "zero"], ["present"]))
    else:
        scores = logits
        if parts.on_probabilities and classifier._binary:
            constants["second"] = np.array([1])
            nodes.append(helper.make_node("Gather", ["probabilities", "second"], ["of_second"], axis=1))
        if parts.on_probabilities:
            scores = "of_second" if classifier._binary else "probabilities"
        constants["thresholds"] = parts.thresholds
        # In float64, like the comparison in Python.
        nodes += [
            helper.make_node("Cast", [scores], ["scores"], to=onnx.TensorProto.DOUBLE),
            helper.make_node("Greater", ["scores", "thresholds"], ["present"]),
        ]
    if not classifier._binary:
        nodes.append(helper.make_node("Cast", ["present"], ["labels"], to=onnx.TensorProto.INT64))
    else:
        classes = classifier.classes_
        constants |= {"classes": classes.astype(object if _are_words(classes) else np.int64), "axis": np.array([1])}
        nodes += [
            helper.make_node("Cast", ["present"], ["which_column"], to=onnx.TensorProto.INT64),
            helper.make_node("Squeeze", ["which_column", "axis"], ["which"]),
            helper.make_node("Gather", ["classes", "which"], ["labels"], axis=0),
        ]
    return nodes, [arrays.from_array(np.asarray(value), name) for name, value in constants.items()]
