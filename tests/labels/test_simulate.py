"""Simulated incompleteness."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.stats import chisquare, hypergeom

from skpartial.labels import (
    LabelMatrix,
    _known_entries,
    drop_labels,
    flip_labels,
    keep_dense_rows,
    keep_single_positive,
)

pd = pytest.importorskip("pandas")

quick = settings(max_examples=40, deadline=None)

shapes = array_shapes(min_dims=2, max_dims=2, max_side=12)
complete = arrays(np.int8, shapes, elements=st.sampled_from([-1, 1]))
partial = arrays(np.int8, shapes, elements=st.sampled_from([-1, 0, 1]))
fractions = st.floats(0, 1)
seeds = st.integers(0, 2**32 - 1)

# Of each label, how many absences and presences are known.
SHARES = np.random.RandomState(5).random_sample((12, 2)).round(2)

SIMULATORS = {
    "drop by row": lambda Y, seed=0, **kw: drop_labels(Y, 0.4, seed, **kw),
    "drop by entry": lambda Y, seed=0, **kw: drop_labels(Y, 0.4, seed, by="entry", **kw),
    "drop by label": lambda Y, seed=0, **kw: drop_labels(Y, 0.4, seed, by="label", **kw),
    "single positive": lambda Y, seed=0, **kw: keep_single_positive(Y, seed, **kw),
    "positive and negative": lambda Y, seed=0, **kw: keep_single_positive(Y, seed, n_present=2, n_absent=1, **kw),
    "weighted": lambda Y, seed=0, **kw: keep_single_positive(
        Y, seed, n_absent=1, weights=np.arange(np.shape(Y)[1]), **kw
    ),
    "by frequency": lambda Y, seed=0, **kw: keep_single_positive(Y, seed, weights="frequency", **kw),
    "noisy+": lambda Y, seed=0, **kw: keep_single_positive(Y, seed, others="absent", **kw),
    "not at random": lambda Y, seed=0, **kw: drop_labels(Y, SHARES[: np.shape(Y)[1]], seed, by="entry", **kw),
    "not at random, exactly": lambda Y, seed=0, **kw: drop_labels(Y, SHARES[: np.shape(Y)[1]], seed, by="label", **kw),
    "dense rows": lambda Y, seed=0, **kw: keep_dense_rows(Y, 0.4, seed, **kw),
    "flip": lambda Y, seed=0, **kw: flip_labels(Y, 0.3, seed, **kw),
    "flip present": lambda Y, seed=0, **kw: flip_labels(Y, 0.3, seed, which="present", **kw),
}
every_simulator = pytest.mark.parametrize("simulate", SIMULATORS.values(), ids=SIMULATORS.keys())


def random_labels(shape=(40, 9), seed=3):
    return np.where(np.random.RandomState(seed).random_sample(shape) < 0.3, 1, -1).astype(np.int8)


# What all simulators have in common


@every_simulator
@quick
@given(Y=complete, seed=seeds)
def test_every_form_of_complete_labels_gives_the_same(simulate, Y, seed):
    expected = simulate(Y, seed)
    assert type(expected) is np.ndarray
    assert expected.dtype == np.int8
    indicator = (Y + 1) // 2
    # {-1, 1} is complete either way; 0 is absent unless it is said to be unknown.
    np.testing.assert_array_equal(simulate(Y, seed, zero="unknown"), expected)
    for dense in (indicator, indicator.astype(bool), indicator.astype(float), indicator.tolist()):
        np.testing.assert_array_equal(simulate(dense, seed), expected)
    for sparse in (sp.csr_array(indicator), sp.csc_matrix(indicator), sp.csr_array(Y)):
        answer = simulate(sparse, seed)
        assert isinstance(answer, sp.csr_array)
        assert answer.dtype == np.int8
        assert answer.indices.dtype == np.int32
        assert answer.has_canonical_format
        assert answer.nnz == np.count_nonzero(expected)
        np.testing.assert_array_equal(answer.toarray(), expected)


@every_simulator
@quick
@given(Y=partial, seed=seeds)
def test_what_is_unknown_stays_unknown(simulate, Y, seed):
    answer = simulate(Y, seed, zero="unknown")
    assert not answer[Y == 0].any()
    np.testing.assert_array_equal(simulate(sp.csr_array(Y), seed, zero="unknown").toarray(), answer)


@every_simulator
def test_frames_keep_their_names(simulate):
    Y = random_labels()
    names, index = [f"label {j}" for j in range(9)], np.arange(40) * 10
    answer = simulate(pd.DataFrame(Y, columns=names, index=index))
    pd.testing.assert_frame_equal(answer, pd.DataFrame(simulate(Y), columns=names, index=index))
    pl = pytest.importorskip("polars")
    answer = simulate(pl.DataFrame(Y, schema=names))
    assert answer.columns == names
    np.testing.assert_array_equal(answer.to_numpy(), simulate(Y))


@every_simulator
@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
def test_label_matrices_give_label_matrices(simulate, make):
    matrix = LabelMatrix(make(random_labels()), np.array(list("abcdefghi"), dtype=object))
    answer = simulate(matrix)
    assert isinstance(answer, LabelMatrix)
    assert answer.names is matrix.names
    assert answer.is_sparse == matrix.is_sparse
    np.testing.assert_array_equal(answer.toarray(), simulate(random_labels()))
    np.testing.assert_array_equal(matrix.toarray(), random_labels())


@every_simulator
def test_input_is_not_touched(simulate):
    Y = random_labels()
    Y.flags.writeable = False
    before = Y.copy()
    simulate(Y)
    np.testing.assert_array_equal(Y, before)
    sparse = sp.csr_array((Y + 1) // 2)
    parts = (sparse.data, sparse.indices, sparse.indptr)
    for part in parts:
        part.flags.writeable = False
    old = [part.copy() for part in parts]
    simulate(sparse)
    for part, was in zip((sparse.data, sparse.indices, sparse.indptr), old):
        np.testing.assert_array_equal(part, was)


@every_simulator
@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("zero", ["absent", "unknown"])
def test_labels_do_not_depend_on_the_block(simulate, make, zero, monkeypatch):
    Y = make(random_labels() if zero == "unknown" else (random_labels() + 1) // 2)
    if zero == "unknown":
        Y = make(
            np.where(np.random.RandomState(0).random_sample(Y.shape) < 0.5, Y.toarray() if sp.issparse(Y) else Y, 0)
        )
    whole = simulate(Y, zero=zero)
    monkeypatch.setattr(_known_entries, "_BLOCK_ENTRIES", 20)
    blocks = simulate(Y, zero=zero)
    np.testing.assert_array_equal(*(A.toarray() if sp.issparse(A) else A for A in (whole, blocks)))


@every_simulator
def test_seeds(simulate):
    Y = random_labels()
    np.testing.assert_array_equal(simulate(Y, 5), simulate(Y, np.random.RandomState(5)))
    assert (simulate(Y, 5) != simulate(Y, 6)).any()


@every_simulator
def test_zeros_beside_absences_are_refused(simulate):
    for Y in ([[1, 0, -1]], sp.csr_array([[1, 0, -1]])):
        with pytest.raises(ValueError, match=r"Y holds -1 and 0, .*Pass zero='unknown'"):
            simulate(Y)
    with pytest.raises(ValueError, match="zero must be 'absent' or 'unknown', got 'none'"):
        simulate([[1, 0]], zero="none")
    with pytest.raises(ValueError, match="NaN or infinity"):
        simulate([[1, np.nan]])


@pytest.mark.parametrize("simulate", [drop_labels, keep_dense_rows, flip_labels])
@pytest.mark.parametrize("value", [-0.1, 1.5, np.nan, "all", None, True, [0.1]])
def test_fractions_are_checked(simulate, value):
    name = "flipped" if simulate is flip_labels else "known"
    with pytest.raises(ValueError, match=rf"{name} must be a number in \[0, 1\], got"):
        simulate([[1, 0]], value)


# drop_labels


@quick
@given(Y=complete, known=fractions, seed=seeds)
def test_drop_by_row_keeps_an_exact_number(Y, known, seed):
    answer = drop_labels(Y, known, seed)
    assert ((answer == Y) | (answer == 0)).all()
    assert (np.count_nonzero(answer, axis=1) == round(known * Y.shape[1])).all()


@quick
@given(Y=partial, known=fractions, seed=seeds)
def test_drop_by_row_of_partial_labels(Y, known, seed):
    answer = drop_labels(Y, known, seed, zero="unknown")
    assert ((answer == Y) | (answer == 0)).all()
    for row, kept in zip(Y, answer):
        assert np.count_nonzero(kept) == round(known * np.count_nonzero(row))


@quick
@given(Y=complete, known=fractions, seed=seeds)
def test_drop_by_label_keeps_an_exact_number_of_both_signs(Y, known, seed):
    answer = drop_labels(Y, known, seed, by="label")
    assert ((answer == Y) | (answer == 0)).all()
    for column, kept in zip(Y.T, answer.T):
        for sign in (1, -1):
            there = (column == sign).sum()
            assert (kept == sign).sum() == max(round(known * there), 1 if known and there else 0)


@pytest.mark.parametrize("by", ["row", "label"])
def test_drop_is_uniform(by):
    # Every entry is kept equally often: 2000 matrices, 3 of 6 kept.
    n, shape = 2000, (6, 6)
    Y = np.ones(shape)
    kept = sum(drop_labels(Y, 0.5, seed, by=by).astype(int) for seed in range(n))
    assert (kept.sum(axis=1 if by == "row" else 0) == 3 * n).all()
    sd = np.sqrt(n * 0.25)
    assert np.abs(kept - n / 2).max() < 5 * sd
    assert np.abs(kept - n / 2).max() > sd / 5


def test_drop_by_entry_is_binomial():
    kept = np.count_nonzero(drop_labels(np.ones((2000, 50)), 0.3, by="entry"), axis=1)
    # Mean and variance of Binomial(50, 0.3), within four standard errors.
    assert kept.mean() == pytest.approx(15, abs=4 * np.sqrt(10.5 / 2000))
    assert kept.var() == pytest.approx(10.5, abs=4 * 10.5 * np.sqrt(2 / 2000))


@pytest.mark.parametrize("by", ["row", "entry", "label"])
def test_drop_all_or_nothing(by):
    Y = random_labels()
    np.testing.assert_array_equal(drop_labels(Y, 1.0, by=by), Y)
    assert not drop_labels(Y, 0.0, by=by).any()


@pytest.mark.parametrize("form", ["label", "sign", "both"])
@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
def test_drop_not_at_random(form, make):
    """Each label and sign is known as often as was asked for, within five standard errors, and exactly by label."""
    Y = random_labels((4000, 5))
    known = {"label": SHARES[:5, 0], "sign": SHARES[:1], "both": SHARES[:5]}[form]
    expected = np.broadcast_to(known[:, None] if form == "label" else known, (5, 2))
    by_entry = drop_labels(make(Y), known, by="entry")
    by_label = drop_labels(make(Y), known, by="label")
    for j in range(5):
        for share, sign in zip(expected[j], (-1, 1)):
            there = Y[:, j] == sign
            n_known = (by_entry[:, [j]] == sign).sum()
            assert abs(n_known - share * there.sum()) < 5 * np.sqrt(there.sum() * share * (1 - share))
            assert (by_label[:, [j]] == sign).sum() == round(share * there.sum())
    for answer in (by_entry, by_label):
        dense = answer.toarray() if sp.issparse(answer) else answer
        assert ((dense == Y) | (dense == 0)).all()


@pytest.mark.parametrize("by", ["entry", "label"])
def test_equal_shares_are_one_number(by):
    Y = random_labels()
    np.testing.assert_array_equal(drop_labels(Y, np.full((9, 2), 0.3), by=by), drop_labels(Y, 0.3, by=by))


@pytest.mark.parametrize(
    "known, by, message",
    [
        ([0.1, 0.2], "row", r"known must be a number in \[0, 1\], got \[0\.1, 0\.2\], with by='row'"),
        ([0.1, 0.2, 0.3], "entry", r"known must be a number or of shape \(2,\), \(2, 2\) or \(1, 2\), got \(3,\)"),
        ([0.1, 1.2], "label", r"known must hold numbers in \[0, 1\]"),
        ([0.1, np.nan], "entry", r"known must hold numbers in \[0, 1\]"),
        (["a", "b"], "entry", "known must be a number, or an array of numbers"),
        (2, "entry", r"known must be a number in \[0, 1\], got 2"),
        ("0.1", "entry", "known must be a number"),
        (None, "entry", "known must be a number"),
    ],
)
def test_shares_out_of_range(known, by, message):
    with pytest.raises(ValueError, match=message):
        drop_labels([[1, 0], [0, 1]], known, by=by)


def test_drop_errors():
    with pytest.raises(ValueError, match="by must be 'row', 'entry' or 'label', got 'column'"):
        drop_labels([[1, 0]], by="column")


# keep_single_positive

SELECTION = "3c21605e63df2c10d22c4aaf3b5158916d8384023c8a2cdd7b0072e271da14bc"


def published_protocol(clean, num_pos=1, num_neg=0, seed=1200):
    """The published protocol read literally, in Python's own terms: {0, 1} in, {-1, 0, 1} out."""
    generator = np.random.RandomState(seed)
    observed = []
    for labels in clean:
        row = [0] * len(labels)
        for wanted, number, mark in ((1, num_pos, 1), (0, num_neg, -1)):
            found = np.array([j for j, label in enumerate(labels) if label == wanted], dtype=int)
            generator.shuffle(found)
            for j in found if number == -1 else found[:number]:
                row[j] = mark
        observed.append(row)
    return np.array(observed)


@quick
@given(
    clean=arrays(np.int8, shapes, elements=st.sampled_from([0, 1])),
    n_present=st.sampled_from([0, 1, 2, "all"]),
    n_absent=st.sampled_from([0, 1, 3, "all"]),
    seed=st.sampled_from([1200, 0]),
)
def test_single_positive_is_the_published_protocol(clean, n_present, n_absent, seed):
    number = {"all": -1}
    expected = published_protocol(clean, number.get(n_present, n_present), number.get(n_absent, n_absent), seed)
    for Y in (clean, sp.csr_array(clean)):
        answer = keep_single_positive(Y, seed, n_present=n_present, n_absent=n_absent)
        np.testing.assert_array_equal(answer.toarray() if sp.issparse(Y) else answer, expected)


def test_the_default_seed_is_the_published_one():
    clean = (random_labels((200, 20)) + 1) // 2
    np.testing.assert_array_equal(keep_single_positive(clean), published_protocol(clean))
    # The number of absent labels kept changes no present one, because the absent are always shuffled.
    np.testing.assert_array_equal(keep_single_positive(clean, n_absent=3) == 1, published_protocol(clean) == 1)


def test_single_positive_of_a_committed_hash():
    """Which entry is kept in each of 5000 rows, as one number: the same on every machine and in every version."""
    # Of numbers that no generator makes, so that nothing but the draw itself can change the hash.
    i, j = np.ogrid[:5000, :80]
    clean = ((i * 7919 + j * 104729 + i * j * 31) % 101 < 4).astype(np.int8)
    assert 2 < clean.sum(axis=1).mean() < 4
    assert (clean.sum(axis=1) == 0).any()
    for Y in (clean, 2 * clean - 1, sp.csr_array(clean)):
        rows, columns = (keep_single_positive(Y) == 1).nonzero()
        order = np.argsort(rows, kind="stable")
        selection = np.column_stack([rows, columns])[order].astype("<i4")
        assert hashlib.sha256(selection.tobytes()).hexdigest() == SELECTION
    rows, columns = published_protocol(clean).nonzero()
    assert hashlib.sha256(np.column_stack([rows, columns]).astype("<i4").tobytes()).hexdigest() == SELECTION


@pytest.mark.shared_data
def test_single_positive_of_coco(shared_data):
    with np.load(shared_data / "features" / "coco2014_labels.npz") as data:
        full = np.unpackbits(data["full"], axis=1)
        # The published order of rows: image ids sorted as strings.
        full = full[np.argsort(data["image_id"].astype(str), kind="stable")]
    expected = published_protocol(full[:5000])
    np.testing.assert_array_equal(keep_single_positive(full)[:5000], expected)
    answer = keep_single_positive(sp.csr_array(full))
    assert (answer.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(answer[:5000].toarray(), expected)


@quick
@given(Y=complete, seed=seeds, data=st.data())
def test_weighted_single_positive(Y, seed, data):
    weights = data.draw(arrays(float, Y.shape[1], elements=st.sampled_from([0.0, 1e-300, 1.0, 1e300])))
    answer = keep_single_positive(Y, seed, n_absent=1, weights=weights)
    assert ((answer == Y) | (answer == 0)).all()
    np.testing.assert_array_equal((answer == 1).sum(axis=1), (Y == 1).any(axis=1))
    np.testing.assert_array_equal((answer == -1).sum(axis=1), (Y == -1).any(axis=1))
    for row, kept in zip(Y, answer):
        if (weights[row == 1] > 0).any():
            assert (weights[kept == 1] > 0).all()
    by_row = np.tile(weights, (len(Y), 1))
    np.testing.assert_array_equal(keep_single_positive(Y, seed, n_absent=1, weights=by_row), answer)


def test_weights_are_probabilities():
    weights = np.array([1.0, 2.0, 5.0, 100.0])
    Y = np.tile([1, 1, 1, -1], (20_000, 1))
    one = keep_single_positive(Y, 0, weights=weights)
    assert chisquare((one == 1).sum(axis=0)[:3], len(Y) * weights[:3] / 8).pvalue > 1e-3
    two = keep_single_positive(Y, 0, n_present=2, weights=weights)
    assert ((two == 1).sum(axis=1) == 2).all()
    # The one left out, drawing first one, then another in proportion to what is left.
    p = weights[:3] / 8
    left_out = [sum(p[i] * p[j] / (1 - p[i]) for i, j in ((a, b), (b, a))) for a, b in ((1, 2), (0, 2), (0, 1))]
    assert sum(left_out) == pytest.approx(1)
    assert chisquare((two[:, :3] == 0).sum(axis=0), len(Y) * np.array(left_out)).pvalue > 1e-3
    absent = keep_single_positive(-Y, 0, n_absent=1, weights=weights)
    assert chisquare((absent == -1).sum(axis=0)[:3]).pvalue > 1e-3


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
def test_single_positive_by_frequency(make):
    """Presences of three labels in 9000, 6000 and 3000 rows; where all three are, they are kept 3 : 2 : 1."""
    Y = np.zeros((9000, 4), dtype=int)
    Y[:, 0], Y[:6000, 1], Y[:3000, 2] = 1, 1, 1
    answer = keep_single_positive(make(Y), 0, weights="frequency")
    assert (answer.sum(axis=1) == 1).all()
    assert chisquare(answer[:3000].sum(axis=0)[:3], np.array([1500, 1000, 500])).pvalue > 1e-3
    assert chisquare(answer[3000:6000].sum(axis=0)[:2], np.array([1800, 1200])).pvalue > 1e-3
    np.testing.assert_array_equal(
        keep_single_positive(Y, 0, weights="frequency"), keep_single_positive(Y, 0, weights=Y.sum(axis=0))
    )


@quick
@given(Y=partial, seed=seeds)
def test_noisy_plus(Y, seed):
    """What is kept is the same presence; all else that was known is absent."""
    answer = keep_single_positive(Y, seed, others="absent", zero="unknown")
    kept = keep_single_positive(Y, seed, zero="unknown")
    np.testing.assert_array_equal(answer, np.where(kept == 1, 1, -(Y != 0).astype(int)))
    # The share of wrong labels is that of presences beyond the first of each row.
    assert (answer * Y == -1).sum() == (Y == 1).sum() - (Y == 1).any(axis=1).sum()


def test_noisy_plus_is_uniform():
    answer = keep_single_positive(np.tile([1, 1, 1, -1], (6000, 1)), 0, others="absent")
    assert (answer != 0).all()
    assert ((answer == 1).sum(axis=1) == 1).all()
    assert chisquare((answer == 1).sum(axis=0)[:3]).pvalue > 1e-3


def test_rows_whose_weights_are_zero_are_uniform():
    Y = np.tile([1, 1, 1, -1], (6000, 1))
    answer = keep_single_positive(Y, 0, weights=[0, 0, 0, 1])
    assert ((answer == 1).sum(axis=1) == 1).all()
    assert chisquare((answer == 1).sum(axis=0)[:3]).pvalue > 1e-3


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_present": -1}, "n_present must be a whole number of at least 0, or 'all', got -1"),
        ({"n_absent": 1.0}, "n_absent must be a whole number"),
        ({"n_present": True}, "n_present must be a whole number"),
        ({"n_present": "one"}, "n_present must be a whole number"),
        ({"weights": [1, 2, 3]}, r"weights must be of shape \(2,\) or \(1, 2\), got \(3,\)"),
        ({"weights": "rarity"}, "weights must be 'frequency', got 'rarity'"),
        ({"others": "noise"}, "others must be 'unknown' or 'absent', got 'noise'"),
        ({"others": "absent", "n_absent": 1}, "n_absent has no effect with others='absent'"),
        ({"weights": [1, -2]}, "weights must be finite and not negative"),
        ({"weights": [1, np.inf]}, "weights must be finite and not negative"),
    ],
)
def test_single_positive_errors(options, message):
    with pytest.raises(ValueError, match=message):
        keep_single_positive([[1, 0]], **options)


# keep_dense_rows


@quick
@given(Y=complete, known=fractions, seed=seeds)
def test_dense_rows(Y, known, seed):
    answer = keep_dense_rows(Y, known, seed)
    dense = answer.any(axis=1)
    assert dense.sum() == round(known * len(Y))
    np.testing.assert_array_equal(answer, np.where(dense[:, None], Y, 0))


def test_dense_rows_are_uniform():
    kept = np.mean([keep_dense_rows(np.ones((20, 1)), 0.3, seed) for seed in range(2000)], axis=0)
    assert np.abs(kept - 0.3).max() < 5 * np.sqrt(0.21 / 2000)


# flip_labels


@quick
@given(Y=complete, flipped=fractions, seed=seeds)
def test_flips(Y, flipped, seed):
    answer = flip_labels(Y, flipped, seed)
    assert (np.abs(answer) == 1).all()
    assert (answer != Y).sum() == round(flipped * Y.size)
    np.testing.assert_array_equal(flip_labels(answer, flipped, seed), Y)


@quick
@given(Y=partial, flipped=fractions, seed=seeds, which=st.sampled_from(["known", "present", "absent"]))
def test_flips_of_partial_labels(Y, flipped, seed, which):
    answer = flip_labels(Y, flipped, seed, which=which, zero="unknown")
    concerned = {"known": Y != 0, "present": Y == 1, "absent": Y == -1}[which]
    np.testing.assert_array_equal(answer[~concerned], Y[~concerned])
    np.testing.assert_array_equal(np.abs(answer), np.abs(Y))
    assert (answer != Y).sum() == round(flipped * concerned.sum())


def test_flips_are_uniform():
    Y = random_labels((30, 30))
    flipped = np.array([flip_labels(Y, 0.2, seed) != Y for seed in range(400)])
    assert np.abs(flipped.sum(axis=0) - 80).max() < 5 * np.sqrt(400 * 0.16)
    # How many of the 180 flips fall on the first 10 rows is hypergeometric.
    first = flipped[:, :10].sum(axis=(1, 2))
    law = hypergeom(900, 300, 180)
    assert first.mean() == pytest.approx(law.mean(), abs=4 * law.std() / 20)
    assert first.std() == pytest.approx(law.std(), rel=0.15)


def test_flip_errors():
    with pytest.raises(ValueError, match="which must be 'known', 'present' or 'absent', got 'all'"):
        flip_labels([[1, 0]], which="all")


# Golden labels: a seed means the same labels in every version.


def written(Y):
    return ["".join("-.+"[value + 1] for value in row) for row in Y]


GOLDEN_Y = ["+-+--+", "-+--+-", "++-+--", "---+-+", "+----+"]
GOLDEN = {
    "drop by row": ["...--.", "-..-..", "..-.-.", "-...-.", "+.-..."],
    "drop by entry": ["......", "...-..", "..-+-.", "......", "+.-..."],
    "drop by label": ["+.+...", "..--+.", ".+..--", "-..+.+", ".--.-."],
    "single positive": [".....+", ".+....", "...+..", ".....+", ".....+"],
    "positive and negative": ["..+.-+", "-+..+.", "+..+.-", ".-.+.+", "+-...+"],
    "weighted": ["....-+", "...-+.", "...+-.", "....-+", "..-..+"],
    "by frequency": ["+.....", ".+....", "...+..", ".....+", "+....."],
    "noisy+": ["-----+", "-+----", "---+--", "-----+", "-----+"],
    "not at random": ["+.+-.+", ".+.-..", "+.-+-.", "......", "+.-..+"],
    "not at random, exactly": ["+.+-.+", ".+--+.", "++...-", "-..+.+", "+--.-."],
    "dense rows": ["+-+--+", "......", "++-+--", "......", "......"],
    "flip": ["+----+", "-+---+", "+--+-+", "---+-+", "--++++"],
    "flip present": ["+-+--+", "-+----", "+--+--", "---+-+", "------"],
}


@pytest.mark.parametrize("name", SIMULATORS)
def test_golden(name):
    Y = np.array([["-.+".index(sign) - 1 for sign in row] for row in GOLDEN_Y])
    assert written(SIMULATORS[name](Y)) == GOLDEN[name]
