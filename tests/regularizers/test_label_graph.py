"""Label graphs: co-occurrence by hand, and relations by name."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from skpartial import PartialLabelClassifier
from skpartial.labels import LabelMatrix
from skpartial.regularizers import InteractiveSmoothness, label_relations
from skpartial.regularizers._label_graph import cooccurrence_graph
from skpartial.solvers import Minibatch


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.booleans())
def test_cooccurrence_by_hand(seed, n_neighbors, sparse):
    rng = np.random.default_rng(seed)
    Y = rng.choice([-1, 0, 1], size=(rng.integers(1, 30), rng.integers(1, 7)))
    n_labels = Y.shape[1]
    graph = cooccurrence_graph(LabelMatrix.encode(sp.csr_array(Y) if sparse else Y), n_neighbors)
    for j in range(n_labels):
        rates = {}
        for i in set(range(n_labels)) - {j}:
            share = ((Y[:, i] == 1).sum() + 0.5) / ((Y[:, i] != 0).sum() + 1)
            together, both = ((Y[:, j] == 1) & (Y[:, i] == 1)).sum(), ((Y[:, j] == 1) & (Y[:, i] != 0)).sum()
            if together:
                rates[i] = (together + share) / (both + 1)
                assert graph.weights[i, j] == pytest.approx(max(0, rates[i] - share))
        joined = set(np.flatnonzero(graph.joined[:, j]))
        assert joined <= set(rates)
        assert len(joined) == min(n_neighbors, len(rates))
        left = [rate for i, rate in rates.items() if i not in joined]
        assert min([rates[i] for i in joined], default=1) >= max(left, default=0)
    normalized = graph.normalized()
    np.testing.assert_allclose(normalized.weights.sum(axis=0), 1)
    assert normalized.joined.diagonal().all()


def test_relations_by_name():
    graph = np.array([[0.9, 0.3, 0.0], [0.2, 0.7, 0.4], [0.0, 0.0, 0.6]])
    before = graph.copy()
    names = ["sky", "cloud", "bird"]
    expected = [("cloud", "bird", 0.4), ("sky", "cloud", 0.3), ("cloud", "sky", 0.2)]
    assert label_relations(graph, names) == expected
    assert label_relations(sp.csr_array(graph), names, n_relations=1) == expected[:1]
    assert label_relations(graph, names, target="sky") == [expected[2]]
    assert label_relations(graph)[0][:2] == ("1", "2")
    np.testing.assert_array_equal(graph, before)


def test_relations_of_an_estimator():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4))
    Y = pd.DataFrame({"sun": X[:, 0] > 0, "shade": (X[:, 0] > 0.2), "rain": X[:, 1] > 0}) * 2 - 1
    smooth = InteractiveSmoothness(n_atoms=1, learn_graph=False)
    clf = PartialLabelClassifier(regularizer=smooth, alpha=0.01, solver=Minibatch(max_epochs=1), random_state=0)
    strongest = label_relations(clf.fit(X, Y), n_relations=2)
    assert {relation.source for relation in strongest} == {"sun", "shade"}
    with pytest.raises(ValueError, match="has no label_graph_: fit it with"):
        label_relations(PartialLabelClassifier(alpha=0.01).fit(X, Y))


def test_refusals():
    with pytest.raises(ValueError, match=r"graph must be a square matrix, got shape \(2, 3\)"):
        label_relations(np.ones((2, 3)))
    with pytest.raises(ValueError, match="label_names holds 1 names, but graph has 2 labels"):
        label_relations(np.eye(2), ["a"])
    with pytest.raises(ValueError, match="target='c' is not one of the labels"):
        label_relations(np.eye(2), ["a", "b"], target="c")
    with pytest.raises(ValueError, match="n_relations must be a whole number of at least 1"):
        label_relations(np.eye(2), n_relations=0)
