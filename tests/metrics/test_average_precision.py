"""Average precision against its definition, scikit-learn, torchmetrics and published code's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score
from torchmetrics.functional.classification import multilabel_average_precision

from skpartial.metrics import average_precision_per_label, mean_average_precision


def by_definition(y, scores, unknown="ignore"):
    """Mean over present entries of the precision at their score, by comparing all pairs."""
    values = []
    for labels, column in zip(y.T, scores.T):
        counted = labels != 0 if unknown == "ignore" else np.ones(len(labels), bool)
        present = labels[counted] == 1
        column = column[counted]
        if not present.any() or (unknown == "ignore" and present.all()):
            values.append(np.nan)
            continue
        at_least = column[None, :] >= column[present, None]
        values.append(np.mean((at_least & present).sum(1) / at_least.sum(1)))
    return np.array(values)


def voc_by_definition(present, column):
    """Area under the envelope of precision, threshold after threshold."""
    thresholds = np.unique(column)[::-1]
    points = [(present[column >= t].sum() / present.sum(), present[column >= t].mean()) for t in thresholds]
    area, reached = 0.0, 0.0
    for i, (recall, _) in enumerate(points):
        area += (recall - reached) * max(precision for _, precision in points[i:])
        reached = recall
    return area


labels = hnp.arrays(np.int8, st.tuples(st.integers(1, 14), st.integers(1, 4)), elements=st.sampled_from([-1, 0, 1]))


@st.composite
def labels_and_scores(draw):
    """Any label matrix with a known absence, and any finite scores: ties, zeros of both signs, the extremes."""
    y = draw(labels.filter(lambda y: (y == -1).any()))
    dtype, width = draw(st.sampled_from([(np.float64, 64), (np.float32, 32), (np.float16, 16)]))
    numbers = st.floats(allow_nan=False, allow_infinity=False, width=width)
    few = st.sampled_from([0.0, -0.0, 1.0, float(np.nextafter(dtype(1), dtype(2))), -1.0, 0.5])
    scores = draw(hnp.arrays(dtype, y.shape, elements=draw(st.sampled_from([numbers, few, numbers | few]))))
    return y, scores


@given(labels_and_scores())
@settings(max_examples=150, deadline=None)
def test_definition_for_any_scores(case):
    y, scores = case
    for unknown in ("ignore", "absent"):
        np.testing.assert_allclose(
            average_precision_per_label(y, scores, unknown), by_definition(y, scores, unknown), rtol=0, atol=1e-14
        )


@given(labels_and_scores(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_row_order_and_unknown_scores_do_not_matter(case, random):
    y, scores = case
    order = random.sample(range(len(y)), len(y))
    expected = average_precision_per_label(y, scores)
    np.testing.assert_allclose(average_precision_per_label(y[order], scores[order]), expected, rtol=0, atol=1e-14)
    elsewhere = np.where(y == 0, scores.dtype.type(np.nan), scores)
    np.testing.assert_array_equal(average_precision_per_label(y, elsewhere), expected)


@given(labels.filter(lambda y: (y == -1).any()), st.data())
@settings(max_examples=50, deadline=None)
def test_strictly_increasing_transforms_do_not_matter(y, data):
    scores = data.draw(hnp.arrays(np.int64, y.shape, elements=st.integers(-20, 20)))
    expected = average_precision_per_label(y, scores)
    for transformed in (3 * scores - 7, np.exp(scores), scores.astype(np.float32) ** 3, scores.astype(np.int8)):
        np.testing.assert_array_equal(average_precision_per_label(y, transformed), expected)


def test_scikit_learn_on_fully_known_labels(fully_known):
    y, scores = fully_known
    for values in (scores, scores.astype(np.float32), np.log(scores / (1 - scores + 1e-3) + 1e-3)):
        expected = average_precision_score(y == 1, values, average=None)
        np.testing.assert_allclose(average_precision_per_label(y, values), expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(average_precision_per_label(y, values, "absent"), expected, rtol=0, atol=1e-12)
        macro = average_precision_score(y == 1, values, average="macro")
        assert mean_average_precision(y, values) == pytest.approx(macro, rel=0, abs=1e-12)


def test_scikit_learn_label_by_label_over_known_entries(partly_known):
    y, scores = partly_known
    expected = np.full(y.shape[1], np.nan)
    for j in range(3, y.shape[1]):
        known = y[:, j] != 0
        expected[j] = average_precision_score(y[known, j] == 1, scores[known, j])
    np.testing.assert_allclose(average_precision_per_label(y, scores), expected, rtol=0, atol=1e-12)
    assert mean_average_precision(y, scores) == pytest.approx(np.nanmean(expected), rel=0, abs=1e-12)
    assert mean_average_precision(y, scores, empty="zero") == pytest.approx(np.nansum(expected) / 9, rel=0, abs=1e-12)
    assert np.isnan(mean_average_precision(y, scores, empty="nan"))


def test_torchmetrics_with_ignore_index(partly_known):
    y, scores = partly_known
    y, scores = y[:, 3:], scores[:, 3:]
    target = torch.from_numpy(np.select([y == 1, y == -1], [1, 0], -7))
    expected = multilabel_average_precision(
        torch.from_numpy(scores), target, num_labels=y.shape[1], average=None, ignore_index=-7
    )
    # torchmetrics divides in float32.
    np.testing.assert_allclose(average_precision_per_label(y, scores), expected.numpy(), rtol=0, atol=2e-7)


def test_distinct_doubles_never_become_ties():
    """Neighbouring doubles, far apart in size within one block, in an order that ties would change."""
    base = np.array([1e-300, 3e-17, 0.1, 1.0, 7.7, 1e300])
    scores = np.stack([base, np.nextafter(base, np.inf)]).ravel()[:, None]
    scores = np.concatenate([scores, -scores])
    y = np.tile(np.array([-1, 1], dtype=np.int8), len(scores) // 2)[np.argsort(np.argsort(scores[:, 0]))][:, None]
    for chosen in (slice(None), scores[:, 0] < 1e200, np.abs(scores[:, 0]) < 100):
        result = average_precision_per_label(y[chosen], scores[chosen])
        np.testing.assert_allclose(result, by_definition(y[chosen], scores[chosen]), rtol=0, atol=1e-15)
        assert result[0] > 0.5  # each present entry stands just before an absent one; were they tied, this were 0.5


def test_integers_beyond_doubles():
    scores = np.array([[2**60 + 1], [2**60], [2**60 + 2]])
    assert average_precision_per_label([[1], [-1], [-1]], scores)[0] == 0.5
    assert average_precision_per_label([[1], [-1], [-1]], scores.astype(np.uint64))[0] == 0.5


def test_voc_interpolation(fully_known, partly_known):
    for y, scores in (fully_known, partly_known):
        result = average_precision_per_label(y, scores, interpolation="voc")
        for j in np.flatnonzero(~np.isnan(result)):
            known = y[:, j] != 0
            assert result[j] == pytest.approx(voc_by_definition(y[known, j] == 1, scores[known, j]), rel=0, abs=1e-12)
        assert (result >= average_precision_per_label(y, scores) - 1e-15)[~np.isnan(result)].all()


def test_published_codes_numbers(golden):
    golden = golden("metrics")
    y = np.where(golden["true"] == 1, 1, -1)
    for name, expected in (("pred", "ap_sklearn_zero_rule"), ("pred_noties", "ap_noties_sklearn")):
        values = average_precision_per_label(y, golden[name], unknown="absent")
        np.testing.assert_allclose(np.nan_to_num(values), golden[expected], rtol=0, atol=1e-12)
        zero = mean_average_precision(golden["true"], golden[name], unknown="absent", empty="zero")
        assert zero == pytest.approx(golden[expected].mean(), rel=0, abs=1e-12)
    options = {"unknown": "absent", "interpolation": "voc"}
    voc = mean_average_precision(golden["true"], golden["pred_noties"], **options)
    assert 100 * voc == pytest.approx(float(golden["rml_voc_map_nonzero_classes"]), rel=0, abs=1e-10)
    assert np.isnan(mean_average_precision(golden["true"], golden["pred_noties"], empty="nan", **options))
    assert np.isnan(golden["rml_voc_map_with_empty_class"])


def test_positive_only_labels(partly_known):
    y, scores = partly_known
    positive = np.maximum(y, 0)
    with pytest.raises(ValueError, match='unknown="absent"'):
        mean_average_precision(positive, scores)
    expected = [average_precision_score(positive[:, j], scores[:, j]) for j in range(2, 9)]
    values = average_precision_per_label(positive, scores, unknown="absent")
    assert np.isnan(values[:2]).all()
    np.testing.assert_allclose(values[2:], expected, rtol=0, atol=1e-12)


def test_label_present_everywhere():
    scores = [[0.3], [0.2]]
    assert average_precision_per_label([[1], [1]], scores, unknown="absent") == 1.0
    assert np.isnan(average_precision_per_label([[1, -1], [1, 1]], [[0.3, 0.1], [0.2, 0.2]])[0])


def test_nothing_to_score():
    with pytest.raises(ValueError, match=r"No label can be scored.*known positive and a known negative"):
        mean_average_precision([[-1, 0], [-1, 0]], np.zeros((2, 2)))
    assert mean_average_precision([[-1, 0], [-1, 0]], np.zeros((2, 2)), empty="zero") == 0.0


def test_stacked_candidates(partly_known):
    y, scores = partly_known
    candidates = np.stack([scores, 1 - scores, np.zeros_like(scores)])
    per_label = average_precision_per_label(y, candidates)
    assert per_label.shape == (3, y.shape[1])
    means = mean_average_precision(y, candidates)
    for k, candidate in enumerate(candidates):
        np.testing.assert_array_equal(per_label[k], average_precision_per_label(y, candidate))
        assert means[k] == mean_average_precision(y, candidate)


def test_a_row_of_the_scores_may_be_anything_that_numpy_reads(fully_known):
    y, scores = fully_known
    expected = average_precision_per_label(y, scores)
    for given_scores in (scores.tolist(), np.asfortranarray(scores), torch.from_numpy(scores).requires_grad_()):
        np.testing.assert_array_equal(average_precision_per_label(y, given_scores), expected)
    rounded = torch.from_numpy(scores).bfloat16()
    expected = average_precision_per_label(y, rounded.double().numpy())
    np.testing.assert_array_equal(average_precision_per_label(y, rounded), expected)


@pytest.mark.parametrize("unknown", ["ignore", "absent"])
def test_sparse_labels(partly_known, unknown):
    y, scores = partly_known
    expected = average_precision_per_label(y, scores, unknown)
    for convert in (sp.csr_array, sp.csc_array, sp.coo_array, sp.csr_matrix):
        np.testing.assert_array_equal(average_precision_per_label(convert(y), scores, unknown), expected)


def test_nothing_is_written_to(partly_known):
    y, scores = partly_known
    y_before, scores_before = y.copy(), scores.copy()
    y.flags.writeable = scores.flags.writeable = False
    for unknown in ("ignore", "absent"):
        mean_average_precision(y, scores, unknown)
    np.testing.assert_array_equal(y, y_before)
    np.testing.assert_array_equal(scores, scores_before)


def test_a_million_entries_match_scikit_learn():
    """More than one block, and sums long enough for their rounding to show."""
    rng = np.random.default_rng(3)
    y = np.where(rng.random((50_000, 20)) < 0.5, 1, -1).astype(np.int8)
    scores = (rng.standard_normal(y.shape) + y).astype(np.float32)
    expected = [average_precision_score(y[:, j] == 1, scores[:, j]) for j in (0, 19)]
    np.testing.assert_allclose(average_precision_per_label(y, scores)[[0, 19]], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("y", "scores", "options", "message"),
    [
        ([1, -1], [0.1, 0.2], {}, "y_true must be a matrix"),
        ([[1, -1]], [0.1, 0.2], {}, r"shape of y_true, \(1, 2\) or \(K, 1, 2\), got \(2,\)"),
        ([[1, -1]], [[0.1, 0.2, 0.3]], {}, "got .1, 3."),
        ([[1, -1]], [["a", "b"]], {}, "scores must hold real numbers"),
        ([[1, 2]], [[0.1, 0.2]], {}, "y_true holds 2"),
        ([[1], [-1]], [[np.nan], [0.2]], {}, "NaN or infinity"),
        ([[1], [-1]], [[0.1], [np.inf]], {}, "NaN or infinity"),
        ([[1, -1]], [[0.1, 0.2]], {"unknown": "skip"}, "unknown must be 'ignore' or 'absent', got 'skip'"),
        ([[1, -1]], [[0.1, 0.2]], {"empty": "ignore"}, "empty must be 'skip', 'zero' or 'nan', got 'ignore'"),
        ([[1, -1]], [[0.1, 0.2]], {"interpolation": "coco"}, "interpolation must be None or 'voc', got 'coco'"),
    ],
)
def test_errors(y, scores, options, message):
    with pytest.raises(ValueError, match=message):
        mean_average_precision(y, scores, **options)


def test_sparse_scores_are_refused():
    with pytest.raises(TypeError, match="toarray"):
        mean_average_precision([[1, -1]], sp.csr_array([[0.1, 0.2]]))
