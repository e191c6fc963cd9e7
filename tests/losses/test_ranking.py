"""Ranking losses: against the authors' released code, against loops over pairs, and as something to train by."""

from __future__ import annotations

import json
import math
import pickle
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.metrics import label_ranking_average_precision_score

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.labels import LabelMatrix, keep_single_positive
from skpartial.losses import WARP, PairwiseRanking, RampWARP
from skpartial.losses import _warp as module
from skpartial.solvers import Minibatch

RANKS = ("exact", "expected", "sample")
ALL = [
    PairwiseRanking(),
    PairwiseRanking(unknown="ignore"),
    PairwiseRanking(on="logit"),
    PairwiseRanking(on="logit", unknown="ignore"),
    *(WARP(rank=rank, unknown=unknown) for rank in RANKS for unknown in ("absent", "ignore")),
    *(RampWARP(rank=rank, leak=0.1) for rank in RANKS),
    RampWARP(),
    RampWARP(ramp=-0.5, kappa=0.7, unknown="ignore"),
]
REPEATABLE = [loss for loss in ALL if getattr(loss, "rank", None) != "sample"]  # rows drawn alike


@st.composite
def batches(draw):
    """Logits, many of them tied or at a kink, and labels with rows of one kind among others."""
    n, n_labels = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.normal(scale=draw(st.sampled_from([0.5, 2.0, 30.0])), size=(n, n_labels))
    if draw(st.booleans()):
        logits = np.round(2 * logits) / 2
    labels = rng.choice([-1, 0, 1], p=draw(st.sampled_from([(0.4, 0.3, 0.3), (0.1, 0.7, 0.2)])), size=(n, n_labels))
    for row, value in enumerate(draw(st.lists(st.sampled_from([-1, 0, 1, 2]), min_size=n, max_size=n))):
        if value != 2:
            labels[row] = value
    return torch.tensor(logits), torch.tensor(labels)


def harmonic(n):
    return sum(1 / j for j in range(1, n + 1))


def weight_of(trials, counted):
    """H of (m - 1) / q, rounded half away from zero."""
    return harmonic(math.floor((counted - 1) / trials + 0.5))


def first_violator(trials, violators, absent):
    """Probability that the first violator comes at a place of a random order."""
    return Fraction(math.comb(absent - trials, violators - 1), math.comb(absent, violators))


def expected_weight(violators, absent, counted):
    return sum(
        float(first_violator(q, violators, absent)) * weight_of(q, counted) for q in range(1, absent - violators + 2)
    )


def slow(loss, logits, labels, weights=None, weight_by_rank=None):
    """A ranking loss and its gradient by loops, as the formulas are written."""
    x, y = logits.numpy().astype(float), labels.numpy()
    n, n_labels = x.shape
    w = np.ones_like(x) if weights is None else np.broadcast_to(weights, x.shape)
    value, gradient = 0.0, np.zeros_like(x)
    pairwise = isinstance(loss, PairwiseRanking)
    margins = [(1.0, 1.0)] + ([(loss.ramp, loss.leak - 1)] if isinstance(loss, RampWARP) else [])
    s, slope = x, np.ones_like(x)
    if pairwise and loss.on == "probability":
        s = np.exp(-np.logaddexp(0, -x))
        slope = s * np.exp(-np.logaddexp(0, x))
    for i in range(n):
        counted = w[i] > 0
        present = [j for j in range(n_labels) if y[i, j] == 1 and counted[j]]
        absent = [
            j for j in range(n_labels) if y[i, j] in ((-1,) if loss.unknown == "ignore" else (-1, 0)) and counted[j]
        ]
        for p in present:
            violators = [q for q in absent if 1 - s[i, p] + s[i, q] > 0]
            factor = 1.0
            if not pairwise:
                if not violators:
                    continue
                if weight_by_rank is not None:
                    factor = weight_by_rank[i, p]
                elif loss.rank == "exact":
                    factor = harmonic(len(violators))
                else:
                    factor = expected_weight(len(violators), len(absent), len(present) + len(absent))
            for q in absent:
                for margin, share in margins:
                    short = margin - s[i, p] + s[i, q]
                    if short > 0:
                        c = factor * share * math.sqrt(w[i, p] * w[i, q])
                        value += c * short
                        gradient[i, p] -= c * slope[i, p]
                        gradient[i, q] += c * slope[i, q]
        if isinstance(loss, RampWARP):
            for sign, side in ((1, present), (-1, absent)):
                for j in side:
                    for margin, share in margins:
                        short = margin - sign * x[i, j]
                        if short > 0:
                            value += loss.kappa * share * w[i, j] * short
                            gradient[i, j] -= loss.kappa * share * w[i, j] * sign
    divisor = w.sum() or 1.0
    return value / divisor, gradient / divisor


def check(loss, logits, labels, value, gradient, *, scale=1.0, weights=None, atol=1e-6):
    """Value and gradient of a call, and of the closed form, times a constant."""
    x, y = torch.as_tensor(logits).clone().requires_grad_(), torch.as_tensor(labels)
    result = loss(x, y, weights=weights)
    result.backward()
    step = loss.value_and_gradient(x.detach(), y, weights=weights)
    assert result.ndim == 0
    assert result.dtype == step.gradient.dtype == x.dtype
    for got, slope in ((result.detach(), x.grad), (step.value, step.gradient)):
        np.testing.assert_allclose(got * scale, value, atol=atol, rtol=1e-9)
        np.testing.assert_allclose(slope * scale, gradient, atol=atol, rtol=1e-9)


class TestReleasedCode:
    """The released code divides by 20 n, and by 10 n 20 where rows carry weights; the package, by the weights' sum."""

    def test_pairwise_ranking(self, golden):
        arrays = golden("losses")
        labels = arrays["spml_obs_single_pos"]
        check(PairwiseRanking(), arrays["spml_logits"], labels, arrays["spml_pr_loss"], arrays["spml_pr_grad"])

    @pytest.mark.parametrize("rank", RANKS)
    @pytest.mark.parametrize("source", ["rml_det", "rml_cc_det"])
    def test_where_the_order_of_draws_does_not_matter(self, golden, source, rank):
        arrays = golden("losses")
        logits, labels, cu = arrays["rml_det_x"], arrays["rml_det_y"], arrays["rml_det_cu"]
        self.compare(arrays, source, logits, labels, cu, rank)

    def test_with_given_orders_of_draws(self, golden, monkeypatch):
        """Trials counted here, in the order drawn by the reference."""
        arrays = golden("losses")
        logits, labels, cu = arrays["rml_x"], arrays["rml_y"], arrays["rml_cu"]
        trials = []
        for x, y, orders in zip(logits, labels, json.loads(str(arrays["rml_perm"]))):
            present, absent = np.flatnonzero(y == 1), np.flatnonzero(y != 1)
            of_row = {}
            for p, order in zip(present, orders):
                violated = [1 - x[p] + x[q] > 0 for q in absent[np.array(order, dtype=int)]]
                if any(violated):
                    of_row[x[p]] = 1 + violated.index(True)
            trials += [of_row[score] for score in sorted(of_row)]
        assert trials == [1, 1, 1]  # of 2, 2 and 5 violators among 4, 4 and 5: exact ranks differ
        monkeypatch.setattr(module, "_sampled_trials", lambda *_: torch.tensor(trials))
        self.compare(arrays, "rml", logits, labels, cu, "sample")

    def compare(self, arrays, source, logits, labels, cu, rank):
        n, n_labels = logits.shape
        supervised, with_weights = n_labels / 20, cu.sum() * n_labels / (10 * n * 20)
        for name, loss, scale, weights in [
            ("warp", WARP(rank=rank), supervised, None),
            ("sup", RampWARP(leak=0.1, rank=rank), supervised, None),
            ("ss", RampWARP(leak=0.1, kappa=1, rank=rank), with_weights, torch.tensor(cu)),
        ]:
            value, gradient = arrays[f"{source}_{name}_loss"], arrays[f"{source}_{name}_grad"]
            check(loss, logits, labels, value, gradient, scale=scale, weights=weights)


@given(batches(), st.sampled_from(REPEATABLE), st.sampled_from([None, "rows", "entries"]), st.integers(0, 2**32 - 1))
def test_loops_over_pairs(batch, loss, weighted, seed):
    logits, labels = batch
    rng = np.random.default_rng(seed)
    weights = rng.choice([0.0, 0.5, 1.0, 3.0], size=(len(labels), 1 if weighted == "rows" else labels.shape[1]))
    value, gradient = slow(loss, logits, labels, None if weighted is None else weights)
    given = {None: None, "rows": torch.tensor(weights[:, 0]), "entries": torch.tensor(weights)}[weighted]
    check(loss, logits, labels, value, gradient, weights=given, atol=1e-10)


@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_gradient_is_the_derivative(loss):
    """The weights of ranks are constants of the gradient, and constant near random logits."""
    rng = np.random.default_rng(5)
    logits, labels = rng.normal(scale=1.5, size=(5, 6)), torch.tensor(rng.choice([-1, 0, 1], size=(5, 6)))
    weights = torch.tensor(rng.random((5, 6)))
    x = torch.tensor(logits, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels, weights=weights), (x,), eps=1e-7, atol=1e-6)


@pytest.mark.parametrize("absent", [1, 2, 5, 6])
def test_expected_weight_is_the_mean_over_all_orders(absent):
    for violators in range(1, absent + 1):
        for present in (1, 3):
            counted = absent + present
            orders = permutations(range(absent))
            places = [min(order.index(violator) for violator in range(violators)) + 1 for order in orders]
            expected = np.mean([weight_of(place, counted) for place in places])
            got = module._expected_weight(*(torch.tensor([v]) for v in (violators, absent, counted)))
            assert got.item() == pytest.approx(expected, rel=1e-12)


def test_expected_weight_of_many_labels():
    """Exact rational probabilities, for each size together with others in one call."""
    sizes = [
        (1, 1, 2),
        (1, 60, 61),
        (30, 60, 400),
        (1, 1500, 1501),
        (2, 1500, 1700),
        (700, 1500, 3000),
        (1500, 1500, 1501),
    ]
    got = module._expected_weight(*(torch.tensor(column) for column in zip(*sizes)))
    np.testing.assert_allclose(got, [expected_weight(*size) for size in sizes], rtol=1e-9)


def test_expected_weight_in_blocks(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    ranges = (1, 9), (9, 20), (20, 40)
    sizes = [torch.randint(low, high, (50,), generator=generator) for low, high in ranges]
    whole = module._expected_weight(*sizes)
    monkeypatch.setattr(module, "_BLOCK", 100)
    assert torch.equal(module._expected_weight(*sizes), whole)


@given(st.integers(1, 40), st.data())
def test_sampled_place_inverts_the_distribution(absent, data):
    violators = data.draw(st.integers(1, absent))
    uniform = data.draw(st.floats(0, 1, exclude_max=True))
    survival, place = Fraction(1), 0
    while survival > uniform + 1e-12:
        place += 1
        survival -= first_violator(place, violators, absent)
    got = module._sampled_trials(*(torch.tensor([v]) for v in (violators, absent, uniform)))
    # Rounding may move numbers at the edge of two places.
    before = survival + first_violator(place, violators, absent) if place else Fraction(1)
    assert got.item() == place or min(abs(float(survival) - uniform), abs(float(before) - uniform)) < 1e-9


LABELS = torch.tensor([[1, -1, -1, 0, 0, 1, -1, -1], [0, -1, 1, -1, -1, -1, 1, -1], [1, 1, 1, 1, 1, 1, 1, -1]])


@pytest.mark.parametrize("unknown", ["absent", "ignore"])
@pytest.mark.parametrize("loss", [WARP(), RampWARP(kappa=0.1)], ids=repr)
def test_mean_of_sampled_ranks_is_the_expected_rank(loss, unknown):
    logits = 2 * torch.randn(3, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sampled = clone(loss).set_params(rank="sample", unknown=unknown)
    values = torch.stack([sampled(logits, LABELS, epoch=epoch) for epoch in range(1, 1501)])
    expected = clone(loss).set_params(rank="expected", unknown=unknown)(logits, LABELS)
    assert values.std() > 1e-3
    # Four standard errors: beyond once in 16,000.
    assert abs(values.mean() - expected) < 4 * values.std() / len(values) ** 0.5


class TestDraws:
    loss = WARP(rank="sample")

    def gradient(self, rows, state=None, epoch=1):
        generator = torch.Generator().manual_seed(3)
        logits, labels = torch.randn(40, 9, generator=generator), torch.randint(-1, 2, (40, 9), generator=generator)
        step = self.loss.value_and_gradient(logits[rows], labels[rows], state, rows=rows, epoch=epoch)
        return step.gradient * len(rows)

    def test_order_of_batches_does_not_matter(self):
        state = self.loss.init_state(LABELS, torch.Generator().manual_seed(7))
        assert state["seed"].dtype == torch.int64
        order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
        whole = self.gradient(torch.arange(40), state, 2)
        torch.testing.assert_close(self.gradient(order, state, 2), whole[order])
        parts = torch.cat([self.gradient(part, state, 2) for part in order.split(7)])
        torch.testing.assert_close(parts, whole[order])

    def test_seed_row_and_epoch_matter(self):
        rows = torch.arange(40)
        first = self.gradient(rows, {"seed": torch.tensor(1)})
        assert not torch.equal(first, self.gradient(rows, {"seed": torch.tensor(2)}))
        assert not torch.equal(first, self.gradient(rows, {"seed": torch.tensor(1)}, epoch=2))
        assert torch.equal(self.gradient(rows), self.gradient(rows, {"seed": torch.tensor(0)}))
        logits = torch.tensor([[0.0, 1, 1] + [-9] * 6]).expand(30, 9)  # 2 violators of 8
        labels = torch.tensor([[1] + [0] * 8]).expand(30, 9)
        assert len(self.loss.value_and_gradient(logits, labels).gradient[:, 0].unique()) > 1

    def test_state_goes_with_the_rank(self):
        assert set(self.loss.state_spec()) == {"seed"}
        previous = {"seed": torch.tensor(5)}
        assert self.loss.init_state(LABELS, previous=previous) == previous
        for rank in ("exact", "expected"):
            loss = RampWARP(rank=rank)
            assert loss.state_spec() == {}
            assert loss.init_state(LABELS) is None


@given(batches(), st.lists(st.integers(0, 3), min_size=6, max_size=6), st.sampled_from(REPEATABLE))
def test_weights_are_repetitions(batch, counts, loss):
    logits, labels = batch
    repeats = torch.tensor(counts[: len(labels)])
    if repeats.sum() == 0:
        repeats[0] = 1
    repeated = loss(logits.repeat_interleave(repeats, 0), labels.repeat_interleave(repeats, 0))
    by_row = loss(logits, labels, weights=repeats.double())
    by_entry = loss(logits, labels, weights=repeats.double()[:, None].expand_as(logits))
    torch.testing.assert_close(by_row, repeated, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(by_entry, repeated, rtol=1e-9, atol=1e-12)


@given(batches(), st.sampled_from(ALL), st.integers(0, 2**32 - 1))
def test_what_is_left_out_is_not_seen(batch, loss, seed):
    """Unknown entries under "ignore", and entries of weight zero under any loss."""
    logits, labels = batch
    rng = np.random.default_rng(seed)
    noise = torch.tensor(rng.normal(scale=10, size=logits.shape))
    weights = torch.tensor(rng.choice([0.0, 1.0, 2.0], size=logits.shape))
    hidden = weights == 0
    if loss.unknown == "ignore":
        hidden |= labels == 0
    moved = torch.where(hidden, noise, logits)
    step, other = (loss.value_and_gradient(x, labels, weights=weights) for x in (logits, moved))
    torch.testing.assert_close(step.value, other.value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(step.gradient, other.gradient, rtol=1e-12, atol=1e-12)
    assert (step.gradient[hidden] == 0).all()


@pytest.mark.parametrize("loss", ALL, ids=repr)
@pytest.mark.parametrize("label", [-1, 0, 1])
@pytest.mark.parametrize("n_labels", [1, 4])
def test_rows_of_one_kind_have_no_ranking_term(loss, label, n_labels):
    logits, labels = torch.linspace(-2, 2, 3 * n_labels).reshape(3, n_labels), torch.full((3, n_labels), label)
    value, gradient, _ = loss.value_and_gradient(logits, labels)
    if isinstance(loss, RampWARP) and not (label == 0 and loss.unknown == "ignore"):
        t = logits if label == 1 else -logits
        ramps = (1 - t).clamp(min=0) - (1 - loss.leak) * (loss.ramp - t).clamp(min=0)
        torch.testing.assert_close(value, loss.kappa * ramps.mean())
    else:
        assert value == 0
        assert (gradient == 0).all()


@pytest.mark.parametrize("loss", ALL, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_stable_at_extreme_logits(loss, dtype):
    logits = torch.tensor([[1e4, -1e4, 1e4], [-1e4, 1e4, -1e4]], dtype=dtype)
    step = loss.value_and_gradient(logits, torch.tensor([[1, -1, 0], [1, -1, 0]]))
    assert step.value.dtype == step.gradient.dtype == dtype
    assert torch.isfinite(step.value)
    assert torch.isfinite(step.gradient).all()


@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_a_batch_without_rows(loss):
    step = loss.value_and_gradient(torch.zeros(0, 3), torch.zeros(0, 3))
    assert step.value == 0
    assert step.gradient.shape == (0, 3)


def test_identities_between_the_losses():
    logits = torch.randn(6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.randint(-1, 2, (6, 8), generator=torch.Generator().manual_seed(1))
    for rank in RANKS:
        torch.testing.assert_close(RampWARP(kappa=0, leak=1, rank=rank)(logits, labels), WARP(rank)(logits, labels))
    # A ramp that ends beyond all differences is a hinge.
    torch.testing.assert_close(RampWARP(ramp=-50, kappa=0)(logits, labels), WARP()(logits, labels))
    # With one absent entry at most one is violated, and its rank is 1.
    one = torch.tensor([[1, 1, 1, -1, 1, 1, 1, 1]]).expand(6, 8)
    torch.testing.assert_close(WARP()(logits, one), PairwiseRanking(on="logit")(logits, one))


@pytest.mark.parametrize(
    "loss",
    [
        PairwiseRanking(),
        PairwiseRanking(on="logit"),
        WARP(),
        WARP(rank="expected"),
        RampWARP(),
        RampWARP(rank="expected"),
    ],
    ids=repr,
)
def test_thousands_of_labels(loss):
    """A tensor of pairs of labels would take 26 GB."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(256, 5000, generator=generator)
    labels = torch.zeros(256, 5000, dtype=torch.int8)
    labels.scatter_(1, torch.randint(5000, (256, 3), generator=generator), 1)
    step = loss.value_and_gradient(logits, labels)
    rows = [131]
    value, gradient = slow(loss, logits[rows], labels[rows])
    np.testing.assert_allclose(step.gradient[rows] * 256, gradient, rtol=1e-5, atol=1e-12)
    few = torch.zeros(256)
    few[rows] = 1
    assert loss(logits, labels, weights=few).item() == pytest.approx(value, rel=1e-5)


def test_thousands_of_labels_drawn():
    logits, labels = torch.zeros(64, 5000), torch.zeros(64, 5000)
    labels[:, 7] = 1
    # All violate: the first drawn does, and the rank is m - 1.
    for rank in RANKS:
        expected = harmonic(4999) * 4999 / 5000
        assert WARP(rank)(logits, labels).item() == pytest.approx(expected, rel=1e-6)


@pytest.fixture(scope="module")
def ranked():
    """The two labels of highest score, of eight linear ones, are present: a ranking that a linear head can learn."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(700, 10))
    scores = X @ rng.normal(size=(10, 8))
    Y = np.where(scores >= np.sort(scores, axis=1)[:, [-2]], 1, -1)
    return X[:400], Y[:400], X[400:], Y[400:] == 1


@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_trains_a_partial_label_classifier(ranked, loss):
    """Two of eight at random have a mean of 0.45; the true scores, 1."""
    X, Y, X_test, present = ranked
    Y = np.where(np.random.default_rng(1).random(Y.shape) < 0.6, Y, 0)
    solver = Minibatch(max_epochs=15, learning_rate=0.05)
    clf = PartialLabelClassifier(loss=loss, solver=solver, random_state=0).fit(X, Y)
    assert label_ranking_average_precision_score(present, clf.decision_function(X_test)) > 0.85
    losses = [record["loss"] for record in clf.history_]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "loss", [PairwiseRanking(), WARP(), WARP("sample"), RampWARP(), RampWARP(rank="sample")], ids=repr
)
def test_trains_a_single_positive_classifier(ranked, loss):
    X, Y, X_test, present = ranked
    Y = keep_single_positive(Y, random_state=0)
    solver = Minibatch(max_epochs=15, learning_rate=0.05)
    clf, again = (SinglePositiveClassifier(loss=loss, solver=solver, random_state=0).fit(X, Y) for _ in range(2))
    np.testing.assert_array_equal(clf.coef_, again.coef_)
    assert label_ranking_average_precision_score(present, clf.decision_function(X_test)) > 0.85


@pytest.mark.parametrize(
    "loss", [PairwiseRanking(unknown="ignore"), WARP(unknown="ignore"), RampWARP(unknown="ignore")]
)
def test_leaving_unknown_out_needs_absences(loss):
    labels = LabelMatrix.encode([[1, 0], [0, 1]])
    assert loss.traits().unknown == "ignore"
    with pytest.raises(ValueError, match=f"{type(loss).__name__} learns from known negatives, but y holds no -1"):
        loss.check(labels)
    reading = clone(loss).set_params(unknown="absent")
    assert reading.traits().unknown == "absent"
    reading.check(labels)


@pytest.mark.parametrize(
    "loss, message",
    [
        (PairwiseRanking(on="score"), "PairwiseRanking: on must be 'probability' or 'logit', got 'score'"),
        (PairwiseRanking(unknown="present"), "PairwiseRanking: unknown must be 'absent' or 'ignore', got 'present'"),
        (WARP(rank="round"), "WARP: rank must be 'exact', 'expected' or 'sample', got 'round'"),
        (WARP(unknown=None), "WARP: unknown must be 'absent' or 'ignore', got None"),
        (RampWARP(ramp=1), r"RampWARP: ramp must be a number in \(-inf, 1\), got 1"),
        (RampWARP(kappa=-1), r"RampWARP: kappa must be a number in \[0, inf\), got -1"),
        (RampWARP(leak=1.5), r"RampWARP: leak must be a number in \[0, 1\], got 1.5"),
        (RampWARP(rank=3), "RampWARP: rank must be"),
    ],
)
def test_hyperparameters_out_of_range(loss, message):
    with pytest.raises(ValueError, match=message):
        loss.check()
    with pytest.raises(ValueError, match=message):
        loss(torch.zeros(1, 2), torch.ones(1, 2))


@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_value_objects(loss):
    copy = pickle.loads(pickle.dumps(clone(loss)))
    assert repr(copy) == repr(loss)
    assert copy.get_params() == loss.get_params()


@settings(max_examples=30)
@given(batches(), st.sampled_from(ALL))
def test_inputs_are_left_alone(batch, loss):
    logits, labels = batch
    before = logits.clone(), labels.clone()
    weights = torch.full((len(labels),), 2.0)
    loss(logits, labels, weights=weights)
    loss.value_and_gradient(logits, labels)
    assert torch.equal(logits, before[0])
    assert torch.equal(labels, before[1])
    assert (weights == 2).all()


def test_ranks_are_among_the_labels_that_count():
    """By hand: of 9 labels 5 are known, one present and two of the four absent ones violate."""
    labels = torch.tensor([[1, -1, -1, -1, -1, 0, 0, 0, 0]])
    logits = torch.tensor([[0.0, 0.5, -0.5, -3, -3, 9, 9, 9, 9]])
    # The first violator is met at place 1, 2 or 3 of a random order of four, with probability 1/2, 1/3 and 1/6;
    # round((5 - 1) / q) is 4, 2 and 1.
    harmonic = {1: 1.0, 2: 1.5, 4: 1 + 1 / 2 + 1 / 3 + 1 / 4}
    weight = harmonic[4] / 2 + harmonic[2] / 3 + harmonic[1] / 6
    hinges = 1.5 + 0.5
    value = WARP(rank="expected", unknown="ignore")(logits, labels)
    exact = WARP(rank="exact", unknown="ignore")(logits, labels)
    assert float(value / exact) == pytest.approx(weight / harmonic[2])
    assert float(exact) == pytest.approx(harmonic[2] * hinges / 9)


@pytest.mark.parametrize("loss", [PairwiseRanking(), WARP(), RampWARP()], ids=repr)
def test_one_label_has_no_ranks(loss):
    X, y = np.arange(6.0)[:, None], np.array([[-1], [1], [-1], [1], [1], [-1]])
    for labels in (sp.csr_array(y), y[:, 0]):
        with pytest.raises(ValueError, match="ranks the labels of each row, but y has only one label"):
            PartialLabelClassifier(loss).fit(X, labels)


def test_whole_numbers_are_no_logits():
    for loss in (PairwiseRanking(), WARP(), RampWARP()):
        with pytest.raises(ValueError, match=r"logits must be a floating tensor of shape \(n, L\), got torch.int64"):
            loss(torch.tensor([[2, -1, 0]]), torch.tensor([[1, 0, -1]]))
