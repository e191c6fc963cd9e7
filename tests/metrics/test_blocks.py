"""Results do not depend on how the work is cut into blocks, and the memory it takes does not grow with the labels."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from skpartial import metrics
from skpartial.metrics import _encode


def every_metric(y, scores, unknown):
    predicted = scores > 0.5
    yield metrics.average_precision_per_label(y, scores, unknown)
    yield metrics.average_precision_per_label(y, scores, unknown, interpolation="voc")
    yield metrics.roc_auc_per_label(y, scores, unknown)
    yield metrics.label_ranking_loss(y, scores, unknown)
    yield metrics.precision_recall_f1(y, predicted, average=None, unknown=unknown)
    yield metrics.precision_recall_f1(y, predicted, average="samples", unknown=unknown)
    yield metrics.exact_match(y, predicted, unknown)
    yield metrics.hamming_loss(y, predicted, unknown)
    yield metrics.top_k_scores(y, scores, unknown=unknown)
    yield metrics.top_k_scores(y, scores, unknown=unknown, average="samples")


@pytest.mark.parametrize("unknown", ["ignore", "absent"])
@pytest.mark.parametrize("threads", [1, 2])
def test_block_size_and_threads_do_not_matter(monkeypatch, partly_known, unknown, threads):
    y, scores = partly_known
    expected = list(every_metric(y, scores, unknown))
    monkeypatch.setattr(_encode, "_BLOCK_ENTRIES", 1)
    monkeypatch.setattr(_encode, "_BLOCK_LABELS", 2)
    monkeypatch.setattr(_encode, "_TRANSPOSED_ROWS", 5)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for truth in (y, sp.csr_array(y)):
        for value, other in zip(every_metric(truth, scores, unknown), expected):
            np.testing.assert_allclose(value, other, rtol=0, atol=1e-14)


def test_an_error_in_a_thread_reaches_the_caller(monkeypatch):
    monkeypatch.setattr(_encode, "_BLOCK_ENTRIES", 1)
    monkeypatch.setattr(_encode, "_BLOCK_LABELS", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(ValueError, match="NaN or infinity"):
        metrics.mean_average_precision([[1, 1, 1], [-1, -1, -1]], [[0.1, 0.2, 0.3], [0.1, 0.1, np.nan]])


@pytest.mark.parametrize("unknown", ["ignore", "absent"])
def test_memory_stays_below_a_fraction_of_the_scores(unknown):
    rng = np.random.default_rng(0)
    scores = rng.random((20_000, 400))
    rows, columns = rng.integers(20_000, size=60_000), rng.integers(400, size=60_000)
    y = np.zeros(scores.shape, dtype=np.int8)
    y[rows, columns] = rng.choice([-1, 1], size=60_000)
    y = sp.csr_array(y)
    for metric in (metrics.mean_average_precision, metrics.label_ranking_loss, metrics.top_k_scores):
        tracemalloc.start()
        try:
            metric(y, scores, unknown=unknown)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < scores.nbytes / 2
