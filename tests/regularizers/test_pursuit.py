"""The joint pursuit: against the released code's results, plain Python, scikit-learn, SciPy, and identities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from sklearn.linear_model import orthogonal_mp

from skpartial.regularizers import _pursuit as module
from skpartial.regularizers import joint_nnomp

GOLDEN = [("paper", "AY_paper", "paper"), ("paper_on_tfY", "Ydict_tf", "paper"), ("tf", "Ydict_tf", "code")]


@pytest.mark.parametrize("name, labels, mode", GOLDEN)
@pytest.mark.parametrize("c", [1, 2])
def test_golden(golden, name, labels, mode, c):
    arrays = {key.removeprefix("imcl_"): value for key, value in golden("similarities").items()}
    k, (label_weight, feature_weight) = int(arrays["k"]), arrays["lambda"]
    found = joint_nnomp(
        arrays["Fdict"],
        arrays[f"c{c}_{labels}"],
        arrays["Fq"],
        arrays[f"c{c}_yq"],
        n_atoms=k,
        label_weight=label_weight,
        feature_weight=feature_weight,
        mode=mode,
    )
    for q in range(len(arrays["Fq"])):
        expected = {part: arrays[f"c{c}_{name}_q{q}_{part}"] for part in ("support", "coef_label", "coef_feat")}
        n = len(expected["support"])
        np.testing.assert_array_equal(found.support[q], [*expected["support"], *[-1] * (k - n)])
        np.testing.assert_allclose(found.label_coef[q], [*expected["coef_label"], *[0] * (k - n)], atol=1e-12)
        np.testing.assert_allclose(found.feature_coef[q], [*expected["coef_feat"], *[0] * (k - n)], atol=1e-12)
        np.testing.assert_allclose(found.label_residual[q], arrays[f"c{c}_{name}_q{q}_res_label"], atol=1e-12)
        np.testing.assert_allclose(found.feature_residual[q], arrays[f"c{c}_{name}_q{q}_res_feat"], atol=1e-12)


def by_hand(F, Y, f, y, k, label_weight, feature_weight, mode):
    """One query, in plain Python: (support, label coefficients, feature coefficients)."""
    dot = lambda a, b: sum(s * t for s, t in zip(a, b))  # noqa: E731
    sides = [(label_weight, Y.tolist(), y.tolist()), (feature_weight, F.tolist(), f.tolist())]
    residuals, support, coefs = [list(y), list(f)], [], [[], []]
    while len(support) < k:
        best, chosen = -1.0, None
        for i in range(len(F)):
            products = [dot(r, atoms[i]) for r, (_, atoms, _) in zip(residuals, sides)]
            gains = [w * p * p / max(dot(a[i], a[i]), 1e-300) for p, (w, a, _) in zip(products, sides)]
            positive = all(p > 1e-9 for p, (w, _, _) in zip(products, sides) if w > 0 or mode == "paper")
            if (mode == "paper" or (positive and i not in support)) and sum(gains) > best + 1e-12:
                best, chosen, agrees = sum(gains), i, positive
        if chosen is None or not agrees or chosen in support:
            break
        support.append(chosen)
        for side, (_, atoms, query) in enumerate(sides):
            used = np.array([atoms[i] for i in support]).T
            if mode == "paper":
                coefs[side] = np.linalg.lstsq(used, query, rcond=1e-10)[0].clip(0)
            else:
                coefs[side] = nnls(used, query)[0]
            residuals[side] = query - used @ coefs[side]
    return support, *coefs


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    m, b, L, d = (draw(st.integers(low, top)) for low, top in ((1, 12), (1, 4), (2, 5), (2, 6)))  # no ties
    F, f = rng.normal(size=(m, d)), rng.normal(size=(b, d))
    if draw(st.booleans()):  # features of a network
        F, f = np.abs(F), np.abs(f)
    Y, y = rng.uniform(-0.5, 1, (m, L)), rng.uniform(-0.5, 1, (b, L))
    if draw(st.booleans()):
        F[rng.integers(m)] = 0
    weights = draw(st.sampled_from([(1.0, 0.5), (0.3, 2.0), (1.0, 0.0)]))
    return (F, Y, f, y), {"n_atoms": draw(st.integers(1, 5)), "label_weight": weights[0], "feature_weight": weights[1]}


@settings(max_examples=60)
@given(problems(), st.sampled_from([None, "paper"]))
def test_against_plain_python(problem, mode):
    (F, Y, f, y), options = problem
    found = joint_nnomp(F, Y, f, y, mode=mode, **options)
    for q in range(len(f)):
        support, label_coef, feature_coef = by_hand(F, Y, f[q], y[q], *options.values(), mode)
        n = len(support)
        np.testing.assert_array_equal(found.support[q], [*support, *[-1] * (options["n_atoms"] - n)])
        for coef, expected, atoms in ((found.label_coef, label_coef, Y), (found.feature_coef, feature_coef, F)):
            chosen = atoms[support]
            np.testing.assert_allclose(coef[q][:n] @ chosen, expected @ chosen, atol=1e-6)
            # More atoms than dimensions add up to the same in many ways, between which nonnegativity does not decide.
            if mode == "paper" or np.linalg.matrix_rank(chosen) == n:
                np.testing.assert_allclose(coef[q][:n], expected, atol=1e-6)


@settings(max_examples=60)
@given(problems(), st.sampled_from([None, "paper", "code"]))
def test_identities(problem, mode):
    (F, Y, f, y), options = problem
    found = joint_nnomp(F, Y, f, y, mode=mode, **options)
    filled = found.support >= 0
    # Atoms come first, each once, and what is not chosen has no coefficient.
    assert (np.diff(filled.astype(int), axis=1) <= 0).all()
    for row, used in zip(found.support, filled):
        assert len(set(row[used])) == used.sum()
    for coef, residual, query, atoms in (
        (found.label_coef, found.label_residual, y, Y),
        (found.feature_coef, found.feature_residual, f, F),
    ):
        assert not coef[~filled].any()
        np.testing.assert_allclose(residual, query - np.einsum("bk,bkp->bp", coef, atoms[found.support]), atol=1e-10)
        if mode != "code":
            assert (coef >= 0).all()
    if mode == "paper":
        return
    # With another atom residuals never grow, and the atoms before stay.
    fewer = joint_nnomp(F, Y, f, y, mode=mode, **(options | {"n_atoms": max(1, options["n_atoms"] - 1)}))
    np.testing.assert_array_equal(found.support[:, : fewer.support.shape[1]], fewer.support)
    for after, before in (
        (found.label_residual, fewer.label_residual),
        (found.feature_residual, fewer.feature_residual),
    ):
        assert (np.linalg.norm(after, axis=1) <= np.linalg.norm(before, axis=1) + 1e-9).all()
    if mode is None and options["feature_weight"] > 0:
        along = ((y @ Y.T) > 1e-9) & ((f @ F.T) > 1e-9)
        np.testing.assert_array_equal(filled[:, 0], along.any(1))


def test_an_orthonormal_dictionary_is_that_of_scikit_learn():
    """Of positive combinations of orthonormal atoms all pursuits find the largest coefficients."""
    rng = np.random.default_rng(0)
    atoms = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    queries = rng.uniform(0.1, 1, (5, 8)) @ atoms
    expected = orthogonal_mp(atoms.T, queries.T, n_nonzero_coefs=3).T
    for mode in (None, "paper", "code"):
        found = joint_nnomp(atoms, atoms, queries, queries, n_atoms=3, label_weight=1.0, feature_weight=1.0, mode=mode)
        coef = np.zeros((5, 8))
        np.put_along_axis(coef, found.support, found.label_coef, axis=1)
        usable = (expected[:, 0] == 0) if mode == "code" else slice(None)  # which takes atom 0 first or never
        np.testing.assert_allclose(coef[usable], expected[usable], atol=1e-10)
        np.testing.assert_array_equal(found.label_coef, found.feature_coef)


def test_without_signs_it_is_orthogonal_matching_pursuit():
    """With one side and atoms of both signs there is nothing left to prefer but the correlation."""
    rng = np.random.default_rng(1)
    half = rng.normal(size=(6, 10))
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    queries = rng.normal(size=(7, 10))
    both = np.concatenate([half, -half])
    found = joint_nnomp(both, both, queries, queries, n_atoms=1, label_weight=1.0, feature_weight=0.0)
    expected = orthogonal_mp(half.T, queries.T, n_nonzero_coefs=1).T
    np.testing.assert_array_equal(found.support[:, 0] % 6, np.abs(expected).argmax(1))
    np.testing.assert_allclose(found.label_coef[:, 0], np.abs(expected).max(1), atol=1e-12)


@pytest.mark.parametrize("mode", [None, "paper", "code"])
def test_blocks_types_and_order(monkeypatch, mode):
    rng = np.random.default_rng(0)
    F, Y = np.abs(rng.normal(size=(40, 6))), rng.uniform(-0.5, 1, (40, 5))
    f, y = np.abs(rng.normal(size=(9, 6))), rng.uniform(-0.5, 1, (9, 5))
    given = [a.copy() for a in (F, Y, f, y)]
    options = {"n_atoms": 4, "label_weight": 1.0, "feature_weight": 0.5, "mode": mode}
    whole = joint_nnomp(F, Y, f, y, **options)
    monkeypatch.setattr(module, "_BLOCK_PAIRS", 100)
    for part, again in zip(whole, joint_nnomp(F, Y, f, y, **options)):
        np.testing.assert_allclose(part, again, atol=1e-12)
    single = joint_nnomp(*(torch.tensor(a, dtype=torch.float32) for a in (F, Y, f, y)), **options)
    assert single.label_residual.dtype == torch.float32
    assert single.support.dtype == torch.int64
    np.testing.assert_array_equal(single.support, whole.support)
    np.testing.assert_allclose(single.feature_coef, whole.feature_coef, atol=1e-4)
    for a, b in zip((F, Y, f, y), given):
        np.testing.assert_array_equal(a, b)
    if mode is None:  # units do not matter but in the weights
        scaled = joint_nnomp(3 * F, Y, 3 * f, y, **(options | {"feature_weight": 0.5 / 9}))
        np.testing.assert_array_equal(scaled.support, whole.support)


def test_twins_share_what_they_explain():
    F, Y = np.eye(3), np.array([[1.0, 0], [1, 0], [1, 0]])
    found = joint_nnomp(F, Y, [[1.0, 1, 1]], [[2.0, 0]], n_atoms=3, label_weight=1e-6, feature_weight=1.0, mode="code")
    # Of three rows with the same labels the second and the third explain nothing more of them.
    assert np.isfinite(found.label_coef).all()
    np.testing.assert_allclose(found.label_residual, 0, atol=1e-9)


@pytest.mark.cuda
@pytest.mark.parametrize("mode", [None, "paper", "code"])
def test_cuda(mode):
    rng = np.random.default_rng(0)
    parts = np.abs(rng.normal(size=(60, 8))), rng.uniform(-0.5, 1, (60, 5)), np.abs(rng.normal(size=(7, 8)))
    parts = (*parts, rng.uniform(-0.5, 1, (7, 5)))
    options = {"n_atoms": 4, "label_weight": 1.0, "feature_weight": 0.5, "mode": mode}
    found = joint_nnomp(*(torch.tensor(part, device="cuda") for part in parts), **options)
    for one, other in zip(found, joint_nnomp(*parts, **options)):
        assert one.is_cuda
        np.testing.assert_allclose(one.cpu(), other, atol=1e-9)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"n_atoms": 0}, "n_atoms must be a whole number of at least 1, got 0"),
        ({"label_weight": -1.0}, r"label_weight must be a number in \[0, inf\), got -1"),
        ({"label_weight": 0.0, "feature_weight": 0.0}, "must not both be 0"),
        ({"mode": "tf"}, "mode must be None, 'paper' or 'code', got 'tf'"),
        ({"labels": np.ones((3, 2))}, "features and labels must have the same number of rows, got 4 and 3"),
        (
            {"query_labels": np.ones((2, 3))},
            "labels and query_labels must have the same number of columns, got 2 and 3",
        ),
        ({"query_features": np.ones(5)}, "query_features must be a matrix of real numbers"),
        ({"features": np.full((4, 5), np.nan)}, "features must hold finite numbers only"),
    ],
)
def test_refusals(change, message):
    parts = {
        "features": np.ones((4, 5)),
        "labels": np.ones((4, 2)),
        "query_features": np.ones((2, 5)),
        "query_labels": np.ones((2, 2)),
    }
    options = {"n_atoms": 2, "label_weight": 1.0, "feature_weight": 0.5}
    with pytest.raises(ValueError, match=message):
        joint_nnomp(**(parts | options | change))


def test_nothing_to_choose_from():
    found = joint_nnomp(
        np.ones((0, 3)),
        np.ones((0, 2)),
        np.ones((2, 3)),
        np.ones((2, 2)),
        n_atoms=2,
        label_weight=1.0,
        feature_weight=0.5,
    )
    assert (found.support == -1).all()
    np.testing.assert_array_equal(found.feature_residual, 1)


def test_the_code_leaves_out_a_query_that_is_in_the_dictionary():
    rng = np.random.default_rng(0)
    F = (100 + np.abs(rng.normal(size=(40, 30)))).astype(np.float32)
    Y = rng.uniform(0.1, 1, (40, 5)).astype(np.float32)
    options = {"n_atoms": 1, "label_weight": 1.0, "feature_weight": 0.5}
    others = joint_nnomp(F, Y, F[1:], Y[1:], mode="code", **options).support[:, 0]
    assert (others != np.arange(1, 40)).all()
    itself = joint_nnomp(F, Y, F[1:], Y[1:], **options).support[:, 0]
    np.testing.assert_array_equal(itself, np.arange(1, 40))
