"""What fails or is interrupted leaves estimators as they were, whatever they hold and wherever that happens."""

from __future__ import annotations

import inspect
import sys
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from torch import nn

from skpartial import ImageFeatures, PartialLabelClassifier, SinglePositiveClassifier
from skpartial._fingerprint import module_key
from skpartial.images import Backbone
from skpartial.labels import drop_labels
from skpartial.losses import ROLE, LargeLoss, PartialBCE
from skpartial.model_selection import BatchedGridSearchCV, TunedThresholdsCV
from skpartial.regularizers import Regularizer
from skpartial.relabeling import Relabeling
from skpartial.solvers import FullBatch, Minibatch
from skpartial.training import StateTensor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4))
Y = np.asarray(drop_labels(np.where(X[:, :3] + RNG.normal(size=(40, 3)) > 0, 1, -1), known=0.7, random_state=0))
OTHER_X, OTHER_Y = X[:, :3] + 1, np.column_stack([Y, Y])[:, :2]
IMAGES = RNG.integers(0, 256, size=(12, 16, 16, 3)).astype(np.uint8)


class Remembers(Regularizer):
    """Goes on in the very tensors that it is given."""

    def state_spec(self):
        return {"sum": StateTensor(), "of_rows": StateTensor(per_row=True)}

    def start(self, context, previous=None):
        return previous or {"sum": torch.zeros(()), "of_rows": torch.zeros(context.n_rows)}

    def end_epoch(self, state, epoch, context=None):
        state["sum"] += 1
        state["of_rows"] += 1

    def __call__(self, batch):
        return 0 * batch.logits.sum()


class Breaks(Relabeling):
    """Interrupts the first relabelling."""

    def relabel(self, context):
        raise KeyboardInterrupt


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 5, stride=3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def plain(value):
    """A value as one that `==` compares, down to the numbers."""
    if isinstance(value, np.ndarray | torch.Tensor):
        return str(value.dtype), repr(value.tolist())  # in which NaN equals NaN
    if sp.issparse(value):
        return plain(value.toarray())
    if isinstance(value, nn.Module):
        return module_key(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, BaseEstimator):
        return type(value).__name__, plain(vars(value))
    return repr(value)


def minibatch(**more):
    return Minibatch(max_epochs=2, batch_size=16, **more)


def classifier(loss="iu", **more):
    return PartialLabelClassifier(loss, **{"solver": minibatch(), "random_state": 0, **more})


def streamed(optimizer):
    return classifier(solver=minibatch(optimizer=optimizer)).partial_fit(X, Y)


# What is fitted already, and what is done to it then.
MEMBERS = {
    "first fit": lambda: (classifier(), lambda clf: clf.fit(X, Y)),
    "other data": lambda: (classifier().fit(X, Y), lambda clf: clf.fit(OTHER_X, OTHER_Y)),
    "full batch": lambda: (
        classifier(LargeLoss(), solver=FullBatch(rounds=2)).fit(X, Y),
        lambda clf: clf.fit(OTHER_X, OTHER_Y),
    ),
    "validation": lambda: (classifier(validation_fraction=0.3).fit(X, Y), lambda clf: clf.fit(X, Y[:, ::-1])),
    "estimates": lambda: (classifier(ROLE(1.5), warm_start=True).fit(X, Y), lambda clf: clf.fit(X, Y)),
    "corrections": lambda: (
        classifier(LargeLoss("correct_permanently", delta=0.2), warm_start=True).fit(X, Y),
        lambda clf: clf.fit(X, Y),
    ),
    "regulariser": lambda: (classifier(regularizer=Remembers(), warm_start=True).fit(X, Y), lambda clf: clf.fit(X, Y)),
    "stream, adam": lambda: (streamed("adam"), lambda clf: clf.partial_fit(X + 1, Y)),
    "stream, sgd": lambda: (streamed("sgd"), lambda clf: clf.partial_fit(X + 1, Y)),
    "network": lambda: (
        classifier(backbone=Backbone(network(), image_size=16), warm_start=True).fit(IMAGES, Y[:12]),
        lambda clf: clf.fit(IMAGES, Y[:12, ::-1]),
    ),
    "thresholds": lambda: (
        TunedThresholdsCV(classifier(), cv=2, random_state=0).fit(X, Y),
        lambda clf: clf.fit(OTHER_X, OTHER_Y),
    ),
    "search": lambda: (
        BatchedGridSearchCV(classifier(), {"alpha": [1e-4, 1e-2]}, cv=2).fit(X, Y),
        lambda clf: clf.fit(OTHER_X, OTHER_Y),
    ),
    "features": lambda: (
        ImageFeatures(Backbone(network(), image_size=16)).fit(IMAGES),
        lambda features: features.set_params(backbone=Backbone(network(), image_size=8)).fit(IMAGES),
    ),
}


def interrupted(act, estimator, at):
    """Do something, and interrupt it at the n-th call of a function of the package; how many calls were made."""
    made = 0

    def trace(frame, event, arg):
        nonlocal made
        # Within a generator that is left half way and closed, Python itself would swallow what is raised.
        generates = frame.f_code.co_flags & inspect.CO_GENERATOR
        if not generates and "skpartial" in frame.f_globals.get("__name__", "").partition(".")[0]:
            made += 1
            if made == at:
                raise KeyboardInterrupt

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act(estimator)
    finally:
        sys.settrace(before)
    return made


@cache
def n_calls(member):
    for _ in range(2):  # of which the first may import modules as well
        estimator, act = MEMBERS[member]()
        made = interrupted(act, estimator, -1)
    return made


@pytest.mark.parametrize("member", MEMBERS)
@given(share=st.floats(0, 1))
@settings(max_examples=12)
def test_an_interrupt_anywhere_leaves_all_as_it_was(member, share):
    estimator, act = MEMBERS[member]()
    parameters = plain(estimator.get_params(deep=True))
    before = plain(vars(estimator))
    at = 1 + int(share * (n_calls(member) - 1))
    with pytest.raises(KeyboardInterrupt):
        interrupted(act, estimator, at)
    if member == "features":  # its parameters were set before
        parameters, estimator.backbone = None, MEMBERS[member]()[0].backbone
    assert plain(vars(estimator)) == before
    if parameters is not None:
        assert plain(estimator.get_params(deep=True)) == parameters


def test_something_changes_if_nothing_interrupts():
    """Else the test above would pass with nothing done."""
    for make in MEMBERS.values():
        estimator, act = make()
        before = plain(vars(estimator))
        act(estimator)
        assert plain(vars(estimator)) != before


@pytest.mark.parametrize("make", [PartialLabelClassifier, SinglePositiveClassifier])
def test_after_a_failed_first_fit_nothing_is_fitted(make):
    clf = make(relabeling=Breaks(), solver=minibatch())
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, Y)
    for broken in (clf, make(alpha=-1)):
        if broken is not clf:
            with pytest.raises(ValueError, match="alpha"):
                broken.fit(X, Y)
        for name in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
            with pytest.raises(NotFittedError):
                getattr(broken, name)(X)
        with pytest.raises(NotFittedError):
            broken.score(X, Y)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TunedThresholdsCV(classifier(), scoring=lambda y, predicted: 1 / 0, cv=2),
        lambda: TunedThresholdsCV(classifier(alpha=-1), cv=2),
        lambda: BatchedGridSearchCV(classifier(), {"alpha": [1e-2]}, cv=2, refit=lambda results: 1 / 0),
        lambda: BatchedGridSearchCV(classifier(), {"alpha": [-1.0]}, cv=2, error_score="raise"),
    ],
    ids=["metric", "estimator", "choice", "candidate"],
)
def test_after_a_failed_first_search_nothing_is_fitted(make):
    search = make()
    with pytest.raises((ZeroDivisionError, ValueError)):
        search.fit(X, Y)
    assert set(vars(search)) == set(search.get_params(deep=False))
    with pytest.raises(NotFittedError):
        search.predict(X)


def test_images_that_are_refused_leave_the_transformer():
    features = ImageFeatures(Backbone(network(), image_size=16))
    with pytest.raises(ValueError, match="single path"):
        features.fit("a.png")
    with pytest.raises(NotFittedError):
        features.transform(IMAGES)


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss__gamma": 3, "nonsense": 1},
        {"alpha": 7, "solver__max_epochs": 9, "loss__nonsense": 1},
        {"loss": "iu", "loss__gamma": 3},
        {"solver__max_epochs": 9, "solver__nonsense": 1},
        {"head__nonsense": 1, "loss__gamma": 3},
        {"backbone__image_size": 8, "backbone__nonsense": 1},
        {"relabeling__nonsense": 1, "loss__gamma": 2},
    ],
    ids=str,
)
def test_parameters_are_set_all_or_none(wrong):
    for loss, solver, head in (("partial_bce", "minibatch", "linear"), (PartialBCE(), Minibatch(), "linear")):
        clf = PartialLabelClassifier(loss, solver=solver, head=head, backbone=Backbone(network()), relabeling=Breaks())
        given = clf.get_params(deep=False)
        before = plain(given)
        with pytest.raises(ValueError, match=r"nonsense|gamma"):
            clf.set_params(**wrong)
        assert all(clf.get_params(deep=False)[name] is value for name, value in given.items())
        assert plain(clf.get_params(deep=False)) == before
    mine = PartialBCE()
    with pytest.raises(ValueError, match="nonsense"):
        clf.set_params(loss=mine, loss__gamma=5, nonsense=1)
    assert mine.gamma == 1.0


def test_callbacks_are_torn_down_where_a_fit_is_interrupted():
    told = SimpleNamespace(setup=0, teardown=0)

    class Counts:
        def setup(self, estimator, context):
            told.setup += 1

        def teardown(self, estimator, context):
            told.teardown += 1

        def on_fit_task_begin(self, *args, **kwargs):
            return None

        def on_fit_task_end(self, *args, **kwargs):
            raise KeyboardInterrupt

    clf = classifier().set_callbacks(Counts())
    before = dict(vars(clf))
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, Y)
    assert (told.setup, told.teardown) == (1, 1)
    assert vars(clf) == before
