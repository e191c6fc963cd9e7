"""Large loss: its rule by hand, its guards, both solvers, and the labels that it corrects."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.labels import keep_single_positive
from skpartial.losses import AssumeNegative, Block, LargeLoss
from skpartial.solvers import FullBatch, Minibatch

SCHEMES = ("reject", "correct", "correct_permanently")


def batch(seed, n=6, n_labels=5):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, n_labels, dtype=torch.float64, generator=generator) * 3
    labels = torch.randint(-1, 2, (n, n_labels), generator=generator)
    labels[torch.rand(n, n_labels, generator=generator) < 0.4] = 0
    return logits, labels


def largest(logits, labels, k):
    """Unknown entries of the k largest losses, by sorting."""
    losses = np.log1p(np.exp(logits.numpy()))
    unknown = np.flatnonzero(labels.numpy() == 0)
    chosen = unknown[np.argsort(-losses.ravel()[unknown], kind="stable")[:k]]
    mask = np.zeros(labels.numel(), dtype=bool)
    mask[chosen] = True
    return torch.tensor(mask.reshape(labels.shape))


@given(st.integers(0, 10**6), st.sampled_from(SCHEMES), st.integers(1, 6), st.floats(0, 0.5))
def test_value_is_that_of_modified_labels(seed, scheme, epoch, delta):
    logits, labels = batch(seed)
    loss = LargeLoss(scheme, delta=delta)
    n_steps = min(epoch - 1, 1) if scheme == "correct_permanently" else epoch - 1
    k = int(np.ceil(round(30 * n_steps * delta, 9)))
    modified = largest(logits, labels, k)
    if scheme == "reject":
        weights = (~modified).double()
        expected = AssumeNegative()(logits, labels, weights=weights) * weights.mean()
    else:
        expected = AssumeNegative()(logits, labels.masked_fill(modified, 1))
    torch.testing.assert_close(loss(logits, labels, epoch=epoch), expected)
    # Known entries keep their gradient whatever k is.
    ours, plain = (x.value_and_gradient(logits, labels, epoch=epoch).gradient for x in (loss, AssumeNegative()))
    torch.testing.assert_close(ours[labels != 0], plain[labels != 0])


@given(st.integers(0, 10**6), st.integers(1, 20), st.floats(0, 0.4))
def test_absolute_threshold(seed, epoch, delta):
    logits, labels = batch(seed)
    loss = LargeLoss("reject", delta=delta, threshold="absolute", initial_threshold=1.0)
    kept = loss.targets(Block(labels, logits, epoch=epoch, dtype=logits.dtype)).weight == 1
    limit = max(1.0 - epoch * delta, 0.0)
    expected = (labels != 0) | (torch.log1p(logits.exp()) <= limit)
    assert torch.equal(kept, expected)


@given(st.integers(0, 10**6), st.booleans())
def test_presences_never_decrease(seed, strict):
    logits, labels = batch(seed)
    loss, given_labels = LargeLoss("correct_permanently", delta=0.1, strict=strict), labels.clone()
    state = loss.init_state(labels)
    counts = []
    for epoch in range(1, 6):
        for rows in torch.arange(6).split(2):
            loss(logits[rows] * (-1) ** epoch, labels[rows], state, rows=rows, epoch=epoch)
        corrected = state["labels"]
        counts.append(int((corrected == 1).sum()))
        assert torch.equal(corrected[labels != 0], labels[labels != 0].to(corrected.dtype))
        assert ((corrected == labels) | (corrected == 1)).all()
    assert counts == sorted(counts)
    assert torch.equal(labels, given_labels)
    # One new entry a batch from the second epoch on, unless the threshold is strict: then k = 1 flips nothing.
    assert counts[1] == counts[0] if strict else counts[1] > counts[0] or not (labels == 0).any()


def test_equal_losses_are_modified_together():
    labels, logits = torch.zeros(1, 4), torch.tensor([[1.0, 1.0, 0.0, -1.0]])
    weight = LargeLoss(delta=0.25).targets(Block(labels, logits, epoch=2)).weight
    assert weight.tolist() == [[0, 0, 1, 1]]


def test_nothing_unknown_is_plain():
    logits, labels = batch(0)
    labels[labels == 0] = -1
    for scheme in SCHEMES:
        torch.testing.assert_close(
            LargeLoss(scheme, delta=1.0)(logits, labels, epoch=9), AssumeNegative()(logits, labels)
        )


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"scheme": "forget"}, "scheme must be 'reject', 'correct' or 'correct_permanently', got 'forget'"),
        ({"delta": 1.5}, r"delta must be a number in \[0, 1\], got 1.5"),
        ({"delta": -0.1}, r"delta must be a number in \[0, 1\], got -0.1"),
        ({"delta": float("nan")}, "delta must be a number"),
        ({"threshold": "soft"}, "threshold must be 'relative' or 'absolute'"),
        ({"threshold": "absolute", "delta": -1}, r"delta must be a number in \[0, inf\)"),
        ({"initial_threshold": 0}, r"initial_threshold must be a number in \(0, inf\)"),
        ({"strict": "yes"}, "strict must be True or False"),
    ],
)
def test_refusals(parameters, message, partial_data):
    with pytest.raises(ValueError, match=f"LargeLoss: {message}"):
        PartialLabelClassifier(LargeLoss(**parameters)).fit(*partial_data)


@pytest.fixture(scope="module")
def scenes():
    """Labels that the features tell well, of which one presence a row was recorded, and held-out rows."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((1200, 20)).astype(np.float32)
    Y = np.where(X @ rng.standard_normal((20, 6)) > 1.5, 1, -1)
    kept = (Y == 1).any(1)
    X, Y = X[kept], Y[kept]
    return X, Y, np.asarray(keep_single_positive(Y, random_state=0))


class TestFit:
    @pytest.mark.parametrize("solver", [FullBatch(), Minibatch(max_epochs=6)])
    def test_corrections_are_mostly_right(self, scenes, solver):
        X, Y, Z = scenes
        given_labels = Z.copy()
        loss = LargeLoss("correct_permanently", delta=0.01)
        clf = SinglePositiveClassifier(loss, solver=solver, random_state=0).fit(X, Z)
        np.testing.assert_array_equal(Z, given_labels)
        corrected = clf.corrected_labels_
        assert corrected.dtype == np.int8
        changed = corrected != Z
        assert (corrected[changed] == 1).all()
        assert (Z[changed] == 0).all()
        n_rounds = 4 if isinstance(solver, FullBatch) else 5
        assert changed.mean() == pytest.approx(0.01 * n_rounds, rel=0.15)
        # A quarter of the unknown entries are presences; of those corrected nearly all.
        assert (Y[Z == 0] == 1).mean() < 0.3
        assert (Y[changed] == 1).mean() > 0.95

    @pytest.mark.parametrize("scheme", SCHEMES)
    @pytest.mark.parametrize("solver", [FullBatch(), Minibatch(max_epochs=5)])
    def test_fewer_presences_are_missed(self, scenes, scheme, solver):
        X, Y, Z = scenes
        plain = SinglePositiveClassifier("an", solver=solver, random_state=0).fit(X, Z)
        large = SinglePositiveClassifier(LargeLoss(scheme, delta=0.02), solver=solver, random_state=0).fit(X, Z)
        recall = [(clf.predict(X)[Y == 1] == 1).mean() for clf in (plain, large)]
        assert recall[1] > recall[0] + 0.05

    def test_full_batch_threshold_is_over_the_whole_set(self, scenes):
        """In the second round, the entries rejected are the largest losses of the first round's classifier."""
        X, _Y, Z = scenes
        an = SinglePositiveClassifier("an").fit(X, Z)
        loss = LargeLoss("correct_permanently", delta=0.03)
        clf = SinglePositiveClassifier(loss, solver=FullBatch(rounds=2)).fit(X, Z)
        k = int(np.ceil(Z.size * 0.03))
        logits = np.where(Z == 0, an.decision_function(X), -np.inf)
        expected = np.zeros(Z.shape, dtype=bool)
        expected.ravel()[np.argsort(-logits.ravel())[:k]] = True
        assert ((clf.corrected_labels_ != Z) != expected).sum() <= 2  # single precision decides at the threshold

    def test_no_share_is_assume_negative(self, scenes):
        X, _, Z = scenes
        for solver in (FullBatch(rounds=2), Minibatch(max_epochs=2)):
            plain, none = (
                SinglePositiveClassifier(loss, solver=solver, random_state=0).fit(X, Z)
                for loss in ("an", LargeLoss(delta=0.0))
            )
            np.testing.assert_allclose(plain.coef_, none.coef_, atol=2e-3)

    def test_sparse_labels_train_alike(self, scenes):
        X, _, Z = scenes
        for scheme in SCHEMES:
            dense, sparse = (
                SinglePositiveClassifier(
                    LargeLoss(scheme, delta=0.02), solver=Minibatch(max_epochs=3), random_state=0
                ).fit(X, y)
                for y in (Z, sp.csr_array(Z))
            )
            np.testing.assert_array_equal(dense.coef_, sparse.coef_)

    def test_warm_start_keeps_what_was_corrected(self, scenes):
        X, _, Z = scenes
        clf = SinglePositiveClassifier(
            LargeLoss("correct_permanently", delta=0.02),
            solver=Minibatch(max_epochs=3),
            warm_start=True,
            random_state=0,
        ).fit(X, Z)
        first = clf.corrected_labels_
        second = clf.set_params(solver__max_epochs=1).fit(X, Z).corrected_labels_
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(first, Z)
        again = clf.set_params(warm_start=False).fit(X, Z).corrected_labels_
        np.testing.assert_array_equal(again, Z)

    def test_partial_fit_is_refused_only_where_labels_are_kept(self, scenes):
        X, _, Z = scenes
        with pytest.raises(ValueError, match="keeps a state for every training row"):
            SinglePositiveClassifier(LargeLoss("correct_permanently")).partial_fit(X, Z)
        SinglePositiveClassifier(LargeLoss("correct")).partial_fit(X, Z)
