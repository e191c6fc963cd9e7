"""WELDON and WILDCAT pooling: against the formulas in NumPy, and on objects of one region in twenty-five."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skpartial import PartialLabelClassifier
from skpartial.heads import AveragePooling, HeadContext, WeldonPooling, WildcatPooling
from skpartial.solvers import FullBatch, Minibatch


@pytest.fixture(scope="module")
def objects():
    """Objects of 5 labels in one of 25 regions each, and labels of which half are unknown."""
    rng = np.random.default_rng(0)
    present = rng.random((200, 5)) < 0.3
    where = rng.integers(25, size=(200, 5))
    channels = rng.standard_normal((5, 12))
    X = 0.5 * rng.standard_normal((200, 12, 25))
    for i, j in zip(*np.nonzero(present)):
        X[i, :, where[i, j]] += channels[j]
    Y = np.where(present, 1, -1)
    return X.reshape(200, 12, 5, 5), np.where(rng.random(Y.shape) < 0.5, Y, 0), Y


def built(head, weight, bias):
    module = head.build(HeadContext(weight.shape[1], weight.shape[0])).double()
    module.load_state_dict({"weight": torch.as_tensor(weight), "bias": torch.as_tensor(bias)})
    return module


def pooled(scores, n_high, n_low, alpha):
    """The formula, by sorting."""
    ranked = np.sort(scores, axis=2)
    high = ranked[:, :, scores.shape[2] - n_high :].mean(2)
    return high if n_low == 0 else (high + alpha * ranked[:, :, :n_low].mean(2)) / 2


@pytest.mark.parametrize(
    "head, n_high, n_low, alpha",
    [
        (WeldonPooling(), 1, 1, 1.0),
        (WeldonPooling(3), 3, 3, 1.0),
        (WeldonPooling(3, 2), 3, 2, 1.0),
        (WeldonPooling(np.int64(2), 0), 2, 0, 1.0),
        (WeldonPooling(1.0, -1), 1, 0, 1.0),
        (WeldonPooling(100, 7), 12, 7, 1.0),
        (WildcatPooling(), 2, 2, 0.7),  # 0.2 of 12 regions is 2.4
        (WildcatPooling(0.3, 0.5, 0.5), 4, 6, 0.5),  # 3.6 and 6
        (WildcatPooling(0.01, 0.999), 1, 12, 0.7),
        (WildcatPooling(0.3, 0), 4, 0, 0.7),
        (WildcatPooling(0.3, 0.2, alpha=0), 4, 0, 0.0),
        (WildcatPooling(2, 3, alpha=1.5), 2, 3, 1.5),
    ],
    ids=repr,
)
def test_logits_are_the_formula(head, n_high, n_low, alpha):
    rng = np.random.default_rng(1)
    X, weight, bias = rng.standard_normal((6, 5, 3, 4)), rng.standard_normal((4, 5)), rng.standard_normal(4)
    module = built(head, weight, bias)
    scores = np.einsum("jc,nchw->njhw", weight, X).reshape(6, 4, 12)
    expected = pooled(scores, n_high, n_low, alpha) + bias
    np.testing.assert_allclose(module(torch.as_tensor(X)).detach(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("head", [WeldonPooling(2, 3), WildcatPooling(0.4, 0.2), WildcatPooling(3, 0)], ids=repr)
def test_the_gradient_is_that_of_the_value(head):
    torch.manual_seed(0)
    module = head.build(HeadContext(4, 3)).double()
    X = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)

    def logits(X, weight):
        return torch.func.functional_call(module, {"weight": weight}, (X,))

    assert torch.autograd.gradcheck(logits, (X, weight))


def test_regions_that_tie_share():
    """At the start all do, and the gradient is that of average pooling; otherwise only those at the boundary do."""
    X = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    gradients = []
    for head in (WeldonPooling(2), AveragePooling()):
        module = head.build(HeadContext(4, 3))
        module(X).square().sum().add(module(X).sum()).backward()
        gradients.append(module.weight.grad)
    assert gradients[1].abs().max() > 0.1
    torch.testing.assert_close(gradients[0], gradients[1])
    scores = torch.tensor([[[4.0, 1.0, 1.0, 1.0, 0.0]]], requires_grad=True)
    value = WeldonPooling(2, 0).build(HeadContext(1, 1)).pool(scores)
    assert value.item() == pytest.approx(2.5)
    value.sum().backward()
    torch.testing.assert_close(scores.grad[0, 0], torch.tensor([1 / 2, 1 / 6, 1 / 6, 1 / 6, 0]))


def test_with_all_regions_it_is_average_pooling(objects):
    X, Z, _ = objects
    # Only average pooling lets features be centred.
    solver = Minibatch(learning_rate=0.01, max_epochs=3, rescale=False)
    fits = [
        PartialLabelClassifier(head=head, solver=solver, random_state=0).fit(X, Z).decision_function(X)
        for head in (WeldonPooling(25), WeldonPooling(25, 0), WildcatPooling(30, alpha=0), AveragePooling())
    ]
    for logits in fits[:-1]:
        np.testing.assert_allclose(logits, fits[-1], rtol=1e-6, atol=1e-9)


def test_wildcat_with_equal_weights_is_weldon(objects):
    X, Z, _ = objects
    solver = Minibatch(max_epochs=3)
    weldon = PartialLabelClassifier(head=WeldonPooling(2, 3), solver=solver, random_state=0).fit(X, Z)
    wildcat = PartialLabelClassifier(head=WildcatPooling(2, 3, alpha=1), solver=solver, random_state=0).fit(X, Z)
    np.testing.assert_array_equal(weldon.decision_function(X), wildcat.decision_function(X))
    wildcat.set_params(head__alpha=0.5).fit(X, Z)
    assert abs(weldon.decision_function(X) - wildcat.decision_function(X)).max() > 0.1


def test_small_objects_are_found(objects):
    """Averages over 25 regions hide what shows in one."""
    X, Z, Y = objects
    scores = {}
    for head in (AveragePooling(), WeldonPooling(), WildcatPooling()):
        clf = PartialLabelClassifier(head=head, solver=Minibatch(max_epochs=40), random_state=0).fit(X, Z)
        scores[repr(head)] = clf.score(X, np.where(Z == 0, Y, 0))
    assert scores["WeldonPooling()"] > scores["AveragePooling()"] + 0.2
    assert scores["WildcatPooling()"] > scores["AveragePooling()"] + 0.1


def test_a_seed_gives_the_same_fit_and_others_numbers_stay(objects):
    X, Z, _ = objects
    clf = PartialLabelClassifier(head=WildcatPooling(), solver=Minibatch(max_epochs=3), random_state=3)
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first = clf.fit(X, Z).decision_function(X)
    torch.testing.assert_close(torch.rand(1), expected)
    np.testing.assert_array_equal(clone(clf).fit(X, Z).decision_function(X), first)
    assert (clone(clf).set_params(random_state=4).fit(X, Z).decision_function(X) != first).any()


@pytest.mark.parametrize(
    "head, message",
    [
        (WeldonPooling(0), r"WeldonPooling: k_max must be a share of the regions in \(0, 1\) or a whole .* got 0"),
        (WeldonPooling(-0.5), "k_max must be .* got -0.5"),
        (WeldonPooling(1.5), "k_max must be .* got 1.5"),
        (WeldonPooling(True), "k_max must be .* got True"),
        (WeldonPooling(float("nan")), "k_max must be .* got nan"),
        (WeldonPooling(float("inf")), "k_max must be .* got inf"),
        (WeldonPooling("2"), "k_max must be .* got '2'"),
        (WeldonPooling(1, 2.5), "k_min must be .* 0 for none, or None for k_max, got 2.5"),
        (WildcatPooling(k_max=None), "WildcatPooling: k_max must be .* got None"),
        (WildcatPooling(k_min="all"), "k_min must be .* got 'all'"),
        (WildcatPooling(alpha=-1), "WildcatPooling: alpha must be a number of at least 0, got -1"),
        (WildcatPooling(alpha="0.7"), "alpha must be a number of at least 0, got '0.7'"),
        (WildcatPooling(alpha=float("inf")), "alpha must be a number of at least 0, got inf"),
    ],
    ids=repr,
)
def test_parameters_out_of_range_are_refused(objects, head, message):
    X, Z, _ = objects
    with pytest.raises(ValueError, match=message):
        PartialLabelClassifier(head=head).fit(X, Z)


def test_what_it_cannot_train_on_is_refused(objects):
    X, Z, _ = objects
    with pytest.raises(ValueError, match=r"head=WeldonPooling\(\) takes feature maps .* but X has 2 dimensions"):
        PartialLabelClassifier(head=WeldonPooling()).fit(X.mean((2, 3)), Z)
    with pytest.raises(ValueError, match=r"the head WildcatPooling\(\) is not linear"):
        PartialLabelClassifier(head=WildcatPooling(), solver=FullBatch()).fit(X, Z)
