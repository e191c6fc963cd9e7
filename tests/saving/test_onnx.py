"""ONNX models answer what estimators answer, in onnxruntime, whatever the number of rows."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch import nn

from skpartial import PartialLabelClassifier, SinglePositiveClassifier, SinglePositiveClassifierCV, heads, to_onnx
from skpartial.images import Backbone
from skpartial.model_selection import TunedThresholdsCV
from skpartial.solvers import Minibatch

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
onnx = pytest.importorskip("onnx", reason="onnx is not installed")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(2, 3, size=(80, 6))
    complete = np.where((X - 2) @ rng.normal(size=(6, 4)) > 1, 1, -1).astype(np.int8)
    return X, np.where(rng.random(complete.shape) < 0.6, complete, 0).astype(np.int8)


def fitted(estimator, *arrays):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(*arrays)


def check(estimator, X, given=None):
    """The same from a file of bytes, for one row, for none and for all."""
    model = to_onnx(estimator)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = X if given is None else given
    expected = getattr(estimator, "estimator_", estimator).predict_proba(X)
    for rows in (slice(None), slice(0, 1), slice(3, 8)):
        probabilities, labels = session.run(["probabilities", "labels"], {"X": given[rows]})
        tolerance = 1e-12 if given.dtype == np.float64 else 2e-6
        np.testing.assert_allclose(probabilities, expected[rows], rtol=1e-4, atol=tolerance)
        np.testing.assert_array_equal(labels, estimator.predict(X)[rows])
        assert labels.dtype == (object if labels.dtype == object else np.int64)
    return model


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "make",
    [
        lambda: PartialLabelClassifier(),
        lambda: SinglePositiveClassifier(),
        lambda: SinglePositiveClassifierCV(3, cv=2),
        lambda: PartialLabelClassifier(head=heads.Ensemble(), random_state=0),
        lambda: TunedThresholdsCV(PartialLabelClassifier(), cv=2),
        lambda: TunedThresholdsCV(PartialLabelClassifier(), cv=2, response_method="decision_function"),
    ],
    ids=["plain", "single", "single_cv", "ensemble", "thresholds", "decision_thresholds"],
)
def test_linear(make, dtype, data):
    X, Y = data
    X = X.astype(dtype)
    estimator = make()
    if isinstance(estimator, SinglePositiveClassifier):
        Y = np.maximum(Y, 0)
    fitted(estimator, X, Y)
    check(estimator, X)
    if isinstance(estimator, SinglePositiveClassifier):
        assert estimator._shift != 0


@pytest.mark.parametrize("classes", [["no", "yes"], [3, 7]])
@pytest.mark.parametrize("thresholds", [False, True])
def test_two_classes(classes, thresholds, data):
    X = data[0]
    y = np.array(classes)[(X[:, 0] > 3).astype(int)]
    estimator = PartialLabelClassifier()
    check(fitted(TunedThresholdsCV(estimator, cv=2, random_state=0) if thresholds else estimator, X, y), X)


def test_pipelines(data):
    X, Y = data
    plain = fitted(make_pipeline(StandardScaler(), "passthrough", PartialLabelClassifier()), X, Y)
    model = check(plain, X)
    assert {entry.key: entry.value for entry in model.metadata_props} == {"label_names": "0\n1\n2\n3"}
    inner = make_pipeline(StandardScaler(with_mean=False), StandardScaler(with_std=False), PartialLabelClassifier())
    tuned = fitted(TunedThresholdsCV(inner, cv=2, random_state=0), X, Y)
    check(tuned, X)


@pytest.mark.parametrize("head", [heads.CategoryGNN(), heads.Linear()], ids=["gnn", "linear"])
def test_heads(head, data):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    X, Y = (data[0] / 3).astype(np.float32), data[1]
    solver = Minibatch(max_epochs=2)
    clf = SinglePositiveClassifier(head=head, solver=solver, threshold=0.3, random_state=0)
    check(fitted(make_pipeline(StandardScaler(), clf), X, np.maximum(Y, 0)), X)


@pytest.mark.parametrize("head", [heads.Linear(), heads.WeldonPooling()], ids=repr)
def test_networks(head):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    rng = np.random.default_rng(0)
    X = rng.integers(0, 255, size=(12, 32, 32, 3), dtype=np.uint8)
    Y = np.where(rng.random((12, 3)) < 0.5, 1, -1)
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 5, stride=3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    backbone = Backbone(nn.Sequential(*layers), image_size=32)
    clf = PartialLabelClassifier(head=head, backbone=backbone, solver=Minibatch(max_epochs=2, learning_rate=0.01))
    given = (X.transpose(0, 3, 1, 2) / 255).astype(np.float32)
    check(fitted(TunedThresholdsCV(clf, cv=2, random_state=0), X, Y), X, given)


def test_what_cannot_be_written(data, monkeypatch):
    X, Y = data
    with pytest.raises(NotFittedError):
        to_onnx(PartialLabelClassifier())
    for wrong, message in (
        (StandardScaler(), "takes a classifier of skpartial, got a StandardScaler"),
        (
            fitted(GridSearchCV(PartialLabelClassifier(), {"alpha": [0.1]}, cv=2), X, Y),
            "a GridSearchCV: pass its best_estimator_",
        ),
        (fitted(make_pipeline(MinMaxScaler(), PartialLabelClassifier()), X, Y), "got a MinMaxScaler"),
    ):
        with pytest.raises(ValueError, match=message):
            to_onnx(wrong)
    maps = np.random.default_rng(0).normal(size=(80, 3, 2, 2)).astype(np.float32)
    clf = PartialLabelClassifier(head=heads.WildcatPooling(), solver=Minibatch(max_epochs=1))
    with pytest.raises(ValueError, match="the size of the maps"):
        to_onnx(fitted(clf, maps, Y))
    clf = fitted(PartialLabelClassifier(), X, Y)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install skpartial\[onnx\]"):
        to_onnx(clf)
