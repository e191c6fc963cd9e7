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
from skpartial.losses import (
    ROLE,
    WARP,
    AssumeNegative,
    Block,
    EntropyMaximization,
    ExpectedPositives,
    LargeLoss,
    PseudoNegative,
    SelectiveLoss,
)
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
        plain = SinglePositiveClassifier("an", solver=solver, threshold=0.5, random_state=0).fit(X, Z)
        large = SinglePositiveClassifier(LargeLoss(scheme, delta=0.02), solver=solver, random_state=0).fit(X, Z)
        recall = [(clf.predict(X)[Y == 1] == 1).mean() for clf in (plain, large)]
        assert recall[1] > recall[0] + 0.05

    def test_full_batch_threshold_is_over_the_whole_set(self, scenes):
        """In the second round, the entries rejected are the largest losses of the first round's classifier."""
        X, _Y, Z = scenes
        an = SinglePositiveClassifier("an", threshold=0.5).fit(X, Z)
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
                SinglePositiveClassifier(loss, solver=solver, threshold=0.5, random_state=0).fit(X, Z)
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

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_partial_fit_is_refused(self, scheme, scenes):
        """Each call would count as an epoch, until everything was modified."""
        X, _, Z = scenes
        with pytest.raises(ValueError, match="changes from epoch to epoch: a call does not say which"):
            SinglePositiveClassifier(LargeLoss(scheme)).partial_fit(X, Z)

    def test_warm_start_knows_its_rows(self, scenes):
        """Corrections belong to rows: after a shuffle they are made anew, and not handed to others."""
        X, _, Z = scenes
        loss = LargeLoss("correct_permanently", delta=0.02)
        clf = SinglePositiveClassifier(loss, solver=Minibatch(max_epochs=3), warm_start=True, random_state=0)
        clf.fit(X, Z)
        order = np.random.default_rng(0).permutation(len(X))
        shuffled = clf.set_params(solver__max_epochs=1).fit(X[order], Z[order]).corrected_labels_
        np.testing.assert_array_equal(shuffled, Z[order])


class TestHandOver:
    """What a state starts from, and what counts beside it."""

    labels = torch.tensor([[1, 0, 0, 0], [-1, 0, 0, 1]])

    def test_absolute_corrections_last(self):
        loss = LargeLoss("correct_permanently", delta=0.1, threshold="absolute", initial_threshold=1.0)
        state = loss.init_state(self.labels)
        logits = torch.tensor([[0.0, 3, -3, 1], [4, 2, -1, -4]])
        loss(logits, self.labels, state, rows=torch.arange(2), epoch=1)
        assert state["labels"].tolist() == [[1, 1, 0, 1], [-1, 1, 0, 1]]

    def test_absolute_threshold_counts_the_constant(self):
        """With eps the loss of an absence at logit 20 is below 1.4, however sure the classifier is."""
        block = Block(torch.zeros(1, 1), torch.full((1, 1), 20.0))
        plain, capped = (
            LargeLoss(delta=0.1, threshold="absolute", initial_threshold=1.5, eps=eps).targets(block).weight.item()
            for eps in (0.0, 0.25)
        )
        assert (plain, capped) == (0, 1)

    def test_what_has_become_known_is_taken_from_the_user(self):
        loss = LargeLoss("correct_permanently")
        previous = {"labels": torch.ones(2, 4, dtype=torch.int8)}
        state = loss.init_state(self.labels, previous=previous)
        assert state["labels"].tolist() == [[1, 1, 1, 1], [-1, 1, 1, 1]]

    def test_relabelled_entries_count(self):
        loss = LargeLoss("correct_permanently")
        state = loss.init_state(torch.zeros(1, 3, dtype=torch.int8))
        block = Block(torch.tensor([[1, -1, 0]]), torch.zeros(1, 3), state, torch.tensor([0]))
        assert loss.targets(block).target.tolist() == [[1, 0, 0]]

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_rows_of_weight_zero_are_as_good_as_gone(self, scheme, scenes):
        X, _, Z = scenes
        weights = (np.arange(len(X)) % 2).astype(float)
        settings = {"solver": FullBatch(tol=1e-8), "alpha": 1e-2}
        loss = LargeLoss(scheme, delta=0.03)
        X = X.astype(np.float64)
        weighted = SinglePositiveClassifier(loss, **settings).fit(X, Z, sample_weight=weights)
        removed = SinglePositiveClassifier(loss, **settings).fit(X[1::2], Z[1::2])
        np.testing.assert_allclose(weighted.coef_, removed.coef_, atol=1e-6)
        rows = torch.tensor([0.0, 1.0])
        step = LargeLoss("reject", delta=1 / 6).value_and_gradient(
            torch.tensor([[3.0, 2, 1], [0, -1, -2]]), torch.zeros(2, 3), epoch=2, weights=rows
        )
        assert step.gradient[1, 0] == 0
        assert (step.gradient[1, 1:] > 0).all()

    def test_a_low_absolute_threshold_does_not_take_the_start_for_losses(self, scenes):
        """Before anything is fitted all unknown entries have the loss of the prior, which is small."""
        X, _, Z = scenes
        loss = LargeLoss("correct_permanently", delta=0.01, threshold="absolute", initial_threshold=0.6)
        clf = SinglePositiveClassifier(loss, solver=FullBatch(rounds=2)).fit(X, Z)
        assert 0 < (clf.corrected_labels_ != Z).mean() < 0.5


def test_another_loss_starts_afresh(scenes):
    """States are handed on under warm_start, but not from one kind of loss to another."""
    X, _, Z = scenes
    chain = [
        ExpectedPositives(2.0),
        LargeLoss("correct_permanently"),
        EntropyMaximization(0.1, pseudo_weight=0.1, warm_up=1, n_epochs=3),
        WARP(rank="sample"),
        PseudoNegative(),
        SelectiveLoss(),
        ROLE(2.0),
        ROLE(2.0, estimator="factorized", rank=3),
    ]
    clf = SinglePositiveClassifier(warm_start=True, solver=Minibatch(max_epochs=1), random_state=0)
    for loss in chain:
        assert np.isfinite(clf.set_params(loss=loss).fit(X, Z).coef_).all()
