"""Both classifiers as scikit-learn estimators."""

from __future__ import annotations

import pickle
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import skpartial
from skpartial import PartialLabelClassifier, SinglePositiveClassifier, metrics
from skpartial.exceptions import AmbiguousLabelsWarning, UnfittableLabelsWarning
from skpartial.labels import LabelMatrix
from skpartial.losses import AssumeNegative, IgnoreUnknown, PartialBCE
from skpartial.metrics import mean_average_precision
from skpartial.model_selection import PartialLabelKFold
from skpartial.solvers import FullBatch, Minibatch

BOTH = [PartialLabelClassifier, SinglePositiveClassifier]

# A minibatch mean over repeated rows is another random path than one over weighted rows.
STOCHASTIC = {
    "check_sample_weight_equivalence_on_dense_data": "batches of repeated rows differ from batches of weighted rows",
    "check_sample_weight_equivalence_on_sparse_data": "batches of repeated rows differ from batches of weighted rows",
}


@pytest.mark.filterwarnings("ignore::skpartial.exceptions.AmbiguousLabelsWarning")
@pytest.mark.filterwarnings("ignore::skpartial.exceptions.UnfittableLabelsWarning")
@parametrize_with_checks([PartialLabelClassifier(), SinglePositiveClassifier()])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore::skpartial.exceptions.AmbiguousLabelsWarning")
@pytest.mark.filterwarnings("ignore::skpartial.exceptions.UnfittableLabelsWarning")
@parametrize_with_checks(
    [PartialLabelClassifier(solver=Minibatch()), SinglePositiveClassifier(solver=Minibatch())],
    expected_failed_checks=lambda estimator: STOCHASTIC,
    xfail_strict=True,
)
def test_scikit_learn_checks_by_minibatches(estimator, check):
    check(estimator)


# ------------------------------------------------------------------------------------------------ search and scoring

SCORERS = sorted(name for name in metrics.__all__ if name.endswith("_scorer"))


def grid_search(scoring, **more):
    return GridSearchCV(
        make_pipeline(StandardScaler(), PartialLabelClassifier()),
        [
            {
                "partiallabelclassifier__loss": [PartialBCE()],
                "partiallabelclassifier__loss__gamma": [-1, 3],
                "partiallabelclassifier__alpha": [1e-4, 1.0],
            },
            {"partiallabelclassifier__loss": ["an", IgnoreUnknown()]},
        ],
        scoring=scoring,
        cv=3,
        n_jobs=2,
        error_score="raise",
        **more,
    )


@pytest.mark.parametrize("scoring", [None, "mean_average_precision_unknown_absent_scorer"])
def test_grid_search_in_a_pipeline(partial_data, scoring):
    X, Y = partial_data
    grid = grid_search(None if scoring is None else getattr(metrics, scoring)).fit(X, Y)
    scores = grid.cv_results_["mean_test_score"]
    assert scores.shape == (6,)
    assert np.isfinite(scores).all()
    # Strong and weak penalties differ, so that the search really set the parameters.
    assert abs(scores[0] - scores[1]) > 1e-4
    if scoring is None:
        assert grid.score(X, Y) == pytest.approx(mean_average_precision(Y, grid.decision_function(X)))


def test_a_search_by_all_scorers(partial_data):
    search = grid_search({name: getattr(metrics, name) for name in SCORERS}, refit=False).fit(*partial_data)
    for name in SCORERS:
        scores = search.cv_results_[f"mean_test_{name}"]
        assert np.isfinite(scores).all()
        # All five labels are in the top 5.
        assert (abs(scores[0] - scores[1]) > 1e-4) == ("_at_5" not in name)


def test_positive_only_labels_in_a_search(partial_data):
    X, Y = partial_data
    seen = np.where(Y == 1, 1, 0)
    scores = cross_val_score(SinglePositiveClassifier(), X, seen, cv=3, error_score="raise")
    assert ((scores > 0) & (scores < 1)).all()


def test_score_is_mean_average_precision_over_known_entries(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifier().fit(X[:80], Y[:80])
    expected = mean_average_precision(Y[80:], clf.decision_function(X[80:]))
    assert clf.score(X[80:], Y[80:]) == expected
    # What is unknown has no say.
    assert clf.score(X[80:], sp.csr_array(Y[80:])) == expected


def test_positive_only_labels_are_scored_with_unknown_as_absent(partial_data):
    X, Y = partial_data
    seen = np.where(Y == 1, 1, 0)
    clf = SinglePositiveClassifier().fit(X, seen)
    assert clf.score(X, seen) == mean_average_precision(seen, clf.decision_function(X), unknown="absent") < 1
    # A recorded absence, in all rows or in some, does not change how the others are read.
    assert clf.score(X, Y) == clf.score(X, seen)
    with pytest.raises(ValueError, match=r"If 0 means absent, pass skpartial.labels.recode\(y, "):
        PartialLabelClassifier("an").fit(X, Y).score(X, seen)


def test_searches_may_train_with_weights(partial_data):
    """And score with them, as scikit-learn's searches do where the score takes weights."""
    X, Y = partial_data
    weights = np.linspace(0.1, 2, len(X))
    folds = list(PartialLabelKFold(3).split(X, Y))
    search = GridSearchCV(PartialLabelClassifier(), {"alpha": [0.01, 10.0]}, cv=folds, error_score="raise")
    search.fit(X, Y, sample_weight=weights)
    train, test = folds[1]
    fold = PartialLabelClassifier(alpha=10.0).fit(X[train], Y[train], sample_weight=weights[train])
    weighted = fold.score(X[test], Y[test], sample_weight=weights[test])
    assert search.cv_results_["split1_test_score"][1] == pytest.approx(weighted)
    assert abs(fold.score(X[test], Y[test]) - weighted) > 1e-4
    expected = PartialLabelClassifier(alpha=search.best_params_["alpha"]).fit(X, Y, sample_weight=weights)
    np.testing.assert_array_equal(search.best_estimator_.coef_, expected.coef_)


def test_parameters_of_shorthands():
    clf = PartialLabelClassifier("partial_bce").set_params(loss__gamma=3, alpha=1.0)
    assert repr(clf.loss) == "PartialBCE(gamma=3)"
    assert SinglePositiveClassifier("an_ls").set_params(loss__unknown_weight=0.5).loss.label_smoothing == 0.05
    assert repr(clf.set_params(solver__learning_rate=0.1).solver) == "Minibatch(learning_rate=0.1)"
    assert repr(PartialLabelClassifier().set_params(solver__max_iter=7).solver) == "FullBatch(max_iter=7)"
    assert repr(PartialLabelClassifier(solver="minibatch").set_params(solver__tol=0.1).solver) == "Minibatch(tol=0.1)"
    with pytest.raises(ValueError, match=r"cannot tell which solver is meant by solver__tol"):
        PartialLabelClassifier().set_params(solver__tol=0.1)
    with pytest.raises(ValueError, match="Invalid parameter 'delta'"):
        PartialLabelClassifier().set_params(loss__delta=0.1)
    # A shorthand set in the same call is the one that is meant.
    assert repr(clf.set_params(loss="an", loss__unknown_weight=0.2).loss) == "AssumeNegative(unknown_weight=0.2)"


def test_shorthands_in_a_grid(partial_data):
    X, Y = partial_data
    grid = {"loss__gamma": [-1, 3], "solver__max_epochs": [1, 2]}
    search = GridSearchCV(PartialLabelClassifier("partial_bce", random_state=0), grid, cv=2, error_score="raise").fit(
        X, Y
    )
    assert len(set(search.cv_results_["mean_test_score"])) > 1
    for name, kind in (("full_batch", "iteration"), ("minibatch", "loss")):
        assert kind in PartialLabelClassifier(solver=name).fit(X, Y).history_[0]


def test_order_of_named_labels(partial_data):
    pandas = pytest.importorskip("pandas")
    X, Y = partial_data
    frame = pandas.DataFrame(Y, columns=list("abcde"))
    turned = frame[list("edcba")]
    clf = PartialLabelClassifier(solver=Minibatch(max_epochs=2), random_state=0).fit(X, frame)
    order = "must be in the same order as in fit"
    with pytest.raises(ValueError, match=f"labels of y {order}"):
        clf.score(X, turned)
    with pytest.raises(ValueError, match=f"labels of y_val {order}"):
        clf.fit(X, frame, X_val=X, y_val=turned)
    with pytest.raises(ValueError, match=f"labels of y {order}"):
        clf.partial_fit(X, turned)
    with pytest.raises(ValueError, match=f"labels of y {order}"):
        clone(clf).set_params(warm_start=True).fit(X, frame).fit(X, turned)
    with pytest.raises(ValueError, match=f"labels of sample_weight {order}"):
        clf.fit(X, frame, sample_weight=pandas.DataFrame(np.ones(Y.shape), columns=list("edcba")))
    with pytest.raises(ValueError, match="unexpected 'z', missing 'e'"):
        clf.score(X, frame.rename(columns={"e": "z"}))
    # Without names there is nothing to compare.
    assert clf.score(X, Y) == clf.score(X, frame)
    assert PartialLabelClassifier().fit(X, Y).score(X, turned) > 0


def test_class_weights_by_name(partial_data):
    pandas = pytest.importorskip("pandas")
    X, Y = partial_data
    frame = pandas.DataFrame(Y, columns=list("abcde"))
    expected = PartialLabelClassifier(class_weight=[1, 3, 1, 1, 0.5]).fit(X, frame).coef_
    for form in ({"b": 3, "e": 0.5}, pandas.Series({"e": 0.5, "b": 3.0})):
        np.testing.assert_array_equal(PartialLabelClassifier(class_weight=form).fit(X, frame).coef_, expected)
    with pytest.raises(ValueError, match=r"class_weight is a dict, but y has no label names.*\(5, 2\), those of neg"):
        PartialLabelClassifier(class_weight={"b": 3}).fit(X, Y)
    for y in (Y, frame):
        with pytest.raises(ValueError, match="its keys are names of labels") as caught:
            PartialLabelClassifier(class_weight={0: 1, 1: 3}).fit(X, y)
        call = re.search(r"class_weight=numpy(.*), which", str(caught.value))
        np.testing.assert_array_equal(eval(f"np{call[1]}"), [[1, 3]] * 5)
    with pytest.raises(ValueError, match="class_weight names 'f', which is not among the labels 'a', 'b'"):
        PartialLabelClassifier(class_weight={"f": 2}).fit(X, frame)


# ---------------------------------------------------------------------------------------------------------- prediction


@pytest.mark.parametrize("Classifier", BOTH)
def test_predictions(partial_data, Classifier):
    X, Y = partial_data
    clf = Classifier(device="cpu").fit(X, Y)
    logits, proba = clf.decision_function(X), clf.predict_proba(X)
    np.testing.assert_allclose(logits, X @ clf.coef_.T + clf.intercept_)
    np.testing.assert_allclose(proba, 1 / (1 + np.exp(-logits)))
    np.testing.assert_allclose(clf.predict_log_proba(X), np.log(proba))
    np.testing.assert_array_equal(clf.predict(X), (logits > 0).astype(int))
    assert clf.predict(X).dtype == np.int64
    np.testing.assert_array_equal(clf.classes_, np.tile([0, 1], (5, 1)))


def test_binary_predictions(partial_data):
    X, Y = partial_data
    y = np.where(Y[:, 0] == 1, "yes", "no")
    clf = PartialLabelClassifier().fit(X, y)
    assert clf.decision_function(X).shape == (120,)
    proba = clf.predict_proba(X)
    np.testing.assert_allclose(proba.sum(1), 1)
    np.testing.assert_array_equal(clf.predict(X), np.where(proba[:, 1] > 0.5, "yes", "no"))
    assert clf.coef_.shape == (1, 6)
    assert clf.score(X, y) == (clf.predict(X) == y).mean()


def test_probabilities_stay_inside_the_open_interval(partial_data):
    X, Y = (part[:40] for part in partial_data)
    for dtype in (np.float32, np.float64):
        clf = PartialLabelClassifier("an").fit(X.astype(dtype), Y)
        proba = clf.predict_proba(1e4 * X.astype(dtype))
        assert (proba > 0).all()
        assert (proba < 1).all()
        assert np.isfinite(clf.predict_log_proba(1e4 * X.astype(dtype))).all()


@pytest.mark.parametrize(
    "form", [pd.DataFrame, sp.csr_array, np.ma.array, LabelMatrix.encode], ids=["frame", "sparse", "masked", "encoded"]
)
@pytest.mark.parametrize("values", [(-1, 0), (0, 1), (-1, 1), (-1,), (0,), (1,), (-1, 0, 1)])
def test_a_column_of_labels_is_a_label_matrix(values, form):
    """In folds of a single label, unknown entries must not turn into a class, whatever a fold holds."""
    Y = form(np.resize(values, (12, 1)))
    X = np.random.default_rng(0).normal(size=(12, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnfittableLabelsWarning)
        warnings.simplefilter("ignore", AmbiguousLabelsWarning)
        clf = PartialLabelClassifier().fit(X, Y)
    assert clf.predict_proba(X).shape == (12, 1)


@pytest.mark.parametrize("form", [np.asarray, np.ndarray.tolist, torch.tensor], ids=["array", "list", "tensor"])
def test_an_array_of_one_column_is_two_classes(form):
    """As scikit-learn's checks want it: by its form, so that no fold is read otherwise than the whole."""
    X = np.random.default_rng(0).normal(size=(12, 2))
    for values in ((0, 1), (-1, 1), (3, 7)):
        told = rf"read as two classes, {values[0]} and {values[1]}.*DataFrame of one column, or scipy.sparse"
        with pytest.warns(DataConversionWarning, match=told):
            clf = PartialLabelClassifier().fit(X, form(np.resize(values, (12, 1))))
        np.testing.assert_array_equal(clf.coef_, PartialLabelClassifier().fit(X, np.resize(values, 12)).coef_)
    for values in ((-1, 0, 1), (-1, 0), (-1,), (0,), (1,)):
        with pytest.raises(ValueError, match=r"DataFrame of one column, or scipy\.sparse"):
            PartialLabelClassifier().fit(X, form(np.resize(values, (12, 1))))


def test_full_batch_does_not_depend_on_the_random_state(partial_data):
    X, Y = partial_data
    fitted = [PartialLabelClassifier(random_state=seed).fit(X, Y).coef_ for seed in (None, 1, 2)]
    np.testing.assert_array_equal(fitted[0], fitted[1])
    np.testing.assert_array_equal(fitted[0], fitted[2])


def test_sparse_labels_in_a_search(partial_data):
    X, Y = partial_data
    cv = PartialLabelKFold(3, random_state=0)
    searches = [
        GridSearchCV(PartialLabelClassifier(), {"alpha": [0.01, 1]}, cv=cv).fit(X, y) for y in (Y, sp.csr_array(Y))
    ]
    np.testing.assert_allclose(*(search.cv_results_["mean_test_score"] for search in searches))


def test_overflow_in_prediction_is_an_error(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifier("an").fit(X.astype(np.float32), Y)
    with pytest.raises(ValueError, match="predictions overflow float32: scale X"):
        clf.predict_proba(np.full((2, 6), 3e38, dtype=np.float32))


def test_unfitted():
    with pytest.raises(NotFittedError):
        PartialLabelClassifier().predict([[0.0]])


# -------------------------------------------------------------------------------------------------------------- inputs


def forms_of_X(X, folder):
    pandas = pytest.importorskip("pandas")
    memory_map = np.lib.format.open_memmap(folder / "X.npy", mode="w+", dtype=X.dtype, shape=X.shape)
    memory_map[:] = X
    memory_map.flush()
    read_only = X.copy()
    read_only.setflags(write=False)
    return {
        "fortran": np.asfortranarray(X),
        "read-only": read_only,
        "memory map": np.load(folder / "X.npy", mmap_mode="r"),
        "frame": pandas.DataFrame(X),
        "tensor": torch.tensor(X),
        "list": X.tolist(),
        "csr": sp.csr_matrix(X),
        "csc": sp.csc_array(X),
        "reversed": X[::-1].copy()[::-1],
        "big-endian": X.astype(X.dtype.newbyteorder(">")),
    }


@pytest.mark.parametrize("solver", [FullBatch(), Minibatch(max_epochs=2)], ids=["full", "mini"])
def test_forms_of_X(partial_data, tmp_path, solver):
    X, Y = partial_data
    expected = PartialLabelClassifier(solver=solver, random_state=0).fit(X, Y)
    for name, form in forms_of_X(X, tmp_path).items():
        clf = PartialLabelClassifier(solver=solver, random_state=0).fit(form, Y)
        np.testing.assert_allclose(clf.coef_, expected.coef_, rtol=1e-7, atol=1e-10, err_msg=name)
        logits = clf.decision_function(form)
        assert type(logits) is np.ndarray
        np.testing.assert_allclose(logits, expected.decision_function(X), rtol=1e-7, atol=1e-9, err_msg=name)


def test_half_precision_memory_map(partial_data, tmp_path):
    X, Y = partial_data
    X = X.astype(np.float16)
    np.save(tmp_path / "X.npy", X)
    clf = PartialLabelClassifier().fit(np.load(tmp_path / "X.npy", mmap_mode="r"), Y)
    assert clf.coef_.dtype == np.float32
    np.testing.assert_allclose(clf.coef_, PartialLabelClassifier().fit(X.astype(np.float32), Y).coef_, atol=1e-4)


@pytest.mark.parametrize(
    "dtype, computed",
    [(np.float16, np.float32), (np.uint8, np.float32), (bool, np.float32), (np.int64, np.float64)],
)
def test_computes_in_what_holds_every_value(partial_data, dtype, computed):
    X, Y = partial_data
    assert PartialLabelClassifier().fit((X > 0).astype(dtype), Y).coef_.dtype == computed


def forms_of_y(Y):
    pandas = pytest.importorskip("pandas")
    return {
        "int64": Y.astype(np.int64),
        "float": Y.astype(float),
        "object": Y.astype(object),
        "list": Y.tolist(),
        "frame": pandas.DataFrame(Y, columns=list("abcde")),
        "csr": sp.csr_matrix(Y),
        "csc": sp.csc_array(Y.astype(float)),
        "coo": sp.coo_array(Y),
        "tensor": torch.tensor(Y),
    }


@pytest.mark.parametrize("solver", [FullBatch(), Minibatch(max_epochs=2)], ids=["full", "mini"])
def test_forms_of_y(partial_data, solver):
    X, Y = partial_data
    expected = PartialLabelClassifier(solver=solver, random_state=0).fit(X, Y).coef_
    for name, form in forms_of_y(Y).items():
        clf = PartialLabelClassifier(solver=solver, random_state=0).fit(X, form)
        np.testing.assert_array_equal(clf.coef_, expected, err_msg=name)
        assert clf.label_names_.tolist() == (list("abcde") if name == "frame" else list("01234"))


def test_what_was_passed_is_left_alone(partial_data):
    X, Y = partial_data
    weights = np.random.default_rng(0).random(Y.shape)
    sparse = sp.csr_matrix(Y)
    before = [array.copy() for array in (X, Y, weights, sparse.data, sparse.indices)]
    for array in (X, Y, weights, sparse.data, sparse.indices):
        array.setflags(write=False)
    for solver in (FullBatch(), Minibatch(max_epochs=1)):
        for y in (Y, sparse):
            clf = PartialLabelClassifier(solver=solver, validation_fraction=0.2, class_weight="balanced")
            clf.fit(X, y, sample_weight=weights).predict(X)
            clf.partial_fit(X, y, sample_weight=weights)
    for array, copy in zip((X, Y, weights, sparse.data, sparse.indices), before):
        np.testing.assert_array_equal(array, copy)


def test_parameters_are_not_replaced(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifier("partial_bce", solver="auto", head="linear").fit(X, Y)
    assert (clf.loss, clf.solver, clf.head) == ("partial_bce", "auto", "linear")


# ------------------------------------------------------------------------------------------------------------- weights


def test_weights_of_entries_drop_entries(partial_data):
    """A weight of zero makes an entry unknown, up to the divisor, which alpha takes up."""
    X, Y = partial_data
    keep = np.random.default_rng(0).random(Y.shape) < 0.7
    weighted = PartialLabelClassifier("iu", alpha=1e-3, solver=FullBatch(tol=1e-12))
    weighted.fit(X, Y, sample_weight=keep.astype(float))
    dropped = PartialLabelClassifier("iu", alpha=1e-3 * keep.mean(), solver=FullBatch(tol=1e-12)).fit(X, Y * keep)
    np.testing.assert_allclose(weighted.coef_, dropped.coef_, atol=1e-6)


def test_class_weights_are_entry_weights(partial_data):
    X, Y = partial_data
    present, absent = np.arange(1, 6) / 2, np.arange(5, 0, -1) / 3
    entry = np.where(Y == 1, present, np.where(Y == -1, absent, 1.0))
    tight = FullBatch(tol=1e-12)
    expected = PartialLabelClassifier("iu", solver=tight, alpha=1e-4).fit(X, Y, sample_weight=entry)
    clf = PartialLabelClassifier("iu", solver=tight, alpha=1e-4, class_weight=np.column_stack([absent, present])).fit(
        X, Y
    )
    np.testing.assert_allclose(clf.coef_, expected.coef_, atol=1e-7)
    # Read as absent, unknown entries weigh as absent ones do.
    entry = np.where(Y == 1, present, 1.0)
    expected = PartialLabelClassifier("an", solver=tight, alpha=1e-4).fit(X, Y, sample_weight=entry)
    clf = PartialLabelClassifier("an", solver=tight, alpha=1e-4, class_weight=present).fit(X, Y)
    np.testing.assert_allclose(clf.coef_, expected.coef_, atol=1e-7)
    row = np.linspace(0.1, 2, len(X))
    both = PartialLabelClassifier("an", solver=tight, alpha=1e-4, class_weight=present).fit(X, Y, sample_weight=row)
    expected = PartialLabelClassifier("an", solver=tight, alpha=1e-4).fit(X, Y, sample_weight=entry * row[:, None])
    np.testing.assert_allclose(both.coef_, expected.coef_, atol=1e-7)


def test_balanced_class_weights(partial_data):
    X, Y = partial_data
    present, absent = (Y == 1).sum(0), (Y == -1).sum(0)
    total = present + absent
    weights = np.column_stack([total / (2 * absent), total / (2 * present)])
    clf = PartialLabelClassifier("iu", class_weight="balanced").fit(X, Y)
    np.testing.assert_allclose(clf.coef_, PartialLabelClassifier("iu", class_weight=weights).fit(X, Y).coef_)
    # With balanced signs the intercepts of labels without features carry no prior.
    flat = PartialLabelClassifier("iu", class_weight="balanced").fit(np.zeros_like(X), Y)
    np.testing.assert_allclose(flat.intercept_, 0, atol=1e-6)
    plain = PartialLabelClassifier("iu").fit(np.zeros_like(X), Y)
    np.testing.assert_allclose(plain.intercept_, np.log(present / absent), atol=1e-6)


# ------------------------------------------------------------------------------------------------ labels without both


def test_labels_that_cannot_be_fitted(partial_data):
    X, Y = partial_data
    Y = Y.copy()
    Y[:, 1] = 0
    Y[Y[:, 3] == -1, 3] = 0
    for solver in (FullBatch(), Minibatch(max_epochs=2)):
        with pytest.warns(UnfittableLabelsWarning, match=r"2 of 5 labels cannot be fitted \(1, 3\)") as record:
            clf = PartialLabelClassifier("iu", solver=solver, random_state=0).fit(X, Y)
        assert len(record) == 1
        assert not clf.coef_[[1, 3]].any()
        assert clf.coef_[[0, 2, 4]].any(1).all()
        n_present = (Y[:, 3] == 1).sum()
        np.testing.assert_allclose(clf.intercept_[[1, 3]], [0, np.log((n_present + 0.5) / 0.5)], rtol=1e-6)
        others = PartialLabelClassifier("iu", alpha=1e-4, solver=FullBatch(tol=1e-10)).fit(X, Y[:, [0, 2, 4]])
    with pytest.warns(UnfittableLabelsWarning):
        clf = PartialLabelClassifier("iu", alpha=1e-4, solver=FullBatch(tol=1e-10)).fit(X, Y)
    np.testing.assert_allclose(clf.coef_[[0, 2, 4]], others.coef_, atol=1e-4)


def test_matrix_without_absences(partial_data):
    X, Y = partial_data
    seen = np.where(Y == 1, 1, 0)
    with pytest.warns(AmbiguousLabelsWarning, match=r"If 0 means absent, pass skpartial.labels.recode\(y, ") as record:
        clf = PartialLabelClassifier().fit(X, seen)
    assert len(record) == 1
    assert not clf.coef_.any()
    # Whoever says how to read unknown entries is not asked.
    PartialLabelClassifier(AssumeNegative()).fit(X, seen)
    SinglePositiveClassifier().fit(X, seen)


def test_label_never_seen_present_under_assume_negative(partial_data):
    X, Y = partial_data
    seen = np.where(Y == 1, 1, 0)
    seen[:, 2] = 0
    with pytest.warns(UnfittableLabelsWarning, match=r"1 of 5 labels cannot be fitted \(2\)"):
        clf = SinglePositiveClassifier("an", threshold=0.5).fit(X, seen)
    np.testing.assert_allclose(clf.predict_proba(X)[:, 2], 0.5 / 121, rtol=1e-3)
    # Smoothing makes the problem well posed: the label is fitted, to its smoothed frequency.
    smoothed = SinglePositiveClassifier("an_ls", threshold=0.5).fit(X, seen)
    np.testing.assert_allclose(smoothed.predict_proba(X)[:, 2], 0.05, rtol=1e-2)


# ---------------------------------------------------------------------------------------------------- incremental fits


def test_partial_fit_takes_the_steps_of_fit(partial_data):
    """One epoch in one batch, however it is asked for."""
    X, Y = partial_data
    solver = Minibatch(batch_size=len(X), learning_rate=0.01, max_epochs=1)
    # "auto" counts on more rows to come in a stream.
    clf = PartialLabelClassifier(alpha=0.01, random_state=0)
    whole = clone(clf).set_params(solver=clone(solver).set_params(max_epochs=3)).fit(X, Y)
    stepwise = clf.set_params(solver=solver)
    for _ in range(3):
        stepwise.partial_fit(X, Y)
    # Adam's moments survive between calls; the order of rows in a batch only changes rounding.
    np.testing.assert_allclose(stepwise.coef_, whole.coef_, rtol=1e-6, atol=1e-9)
    assert stepwise.n_iter_ == 3
    assert [record["epoch"] for record in stepwise.history_] == [1, 2, 3]


def test_partial_fit_learns_from_a_stream(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifier(random_state=0)
    for _ in range(30):
        for start in range(0, 120, 40):
            clf.partial_fit(X[start : start + 40], Y[start : start + 40], classes=list("abcde"))
    assert clf.score(X, Y) > 0.95 * PartialLabelClassifier().fit(X, Y).score(X, Y)
    assert clf.label_names_.tolist() == list("abcde")
    with pytest.raises(
        ValueError,
        match="partial_fit continues a fit with 6 features and 5 labels, but X has 6 features and y has 3",
    ):
        clf.partial_fit(X, Y[:, :3])
    with pytest.raises(ValueError, match="6 features"):
        clf.partial_fit(X[:, :2], Y)


def test_partial_fit_keeps_what_a_one_sided_batch_does_not_show(partial_data):
    """A batch without a presence of some label, or without any, must not wipe out what earlier batches taught."""
    X, Y = partial_data
    clf = PartialLabelClassifier(random_state=0)
    for _ in range(20):
        clf.partial_fit(X, Y)
    before = clf.coef_.copy()
    one_sided = Y.copy()
    one_sided[one_sided[:, 0] == 1, 0] = 0
    clf.partial_fit(X, one_sided)
    clf.partial_fit(X, np.where(Y == 1, 1, 0))
    clf.partial_fit(X, np.zeros_like(Y))
    assert np.linalg.norm(clf.coef_ - before) < 0.3 * np.linalg.norm(before)
    with pytest.warns(AmbiguousLabelsWarning):
        PartialLabelClassifier().partial_fit(X, np.where(Y == 1, 1, 0))


def test_fit_forgets_what_partial_fit_left(partial_data):
    X, Y = partial_data
    fresh = PartialLabelClassifier(random_state=0).fit(X, Y)
    used = PartialLabelClassifier(random_state=0).partial_fit(X * 3, Y).fit(X, Y)
    np.testing.assert_array_equal(used.coef_, fresh.coef_)


# ----------------------------------------------------------------------------------------- validation and callbacks


def test_validation_rows_are_held_out(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifier(solver=Minibatch(max_epochs=5), validation_fraction=0.25, random_state=3).fit(X, Y)
    assert all(0 <= record["validation_score"] <= 1 for record in clf.history_)
    seed = np.random.RandomState(3).randint(np.iinfo(np.int32).max)
    order = np.random.RandomState(seed).permutation(120)
    train, held = np.sort(order[:-30]), np.sort(order[-30:])
    same = PartialLabelClassifier(solver=Minibatch(max_epochs=5), random_state=3)
    same.fit(X[train], Y[train], X_val=X[held], y_val=Y[held])
    np.testing.assert_array_equal(same.coef_, clf.coef_)
    np.testing.assert_array_equal(clf.train_rows_, train)
    assert not hasattr(same, "train_rows_")
    # The full-batch solver reports the score of its optimum.
    full = PartialLabelClassifier().fit(X[train], Y[train], X_val=X[held], y_val=Y[held])
    assert full.history_[-1]["validation_score"] == pytest.approx(full.score(X[held], Y[held]))


def test_scoring_monitor_sees_every_epoch(partial_data):
    X, Y = partial_data
    monitor = ScoringMonitor(scoring=metrics.mean_average_precision_scorer)
    clf = PartialLabelClassifier(solver=Minibatch(max_epochs=4), random_state=0).set_callbacks(monitor).fit(X, Y)
    epochs = [row["score"] for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(epochs) == 4
    assert epochs[-1] == pytest.approx(clf.score(X, Y))
    stopped = PartialLabelClassifier(solver=Minibatch(max_epochs=2), random_state=0).fit(X, Y)
    assert epochs[1] == pytest.approx(stopped.score(X, Y))
    assert len(set(epochs)) > 1


def test_bars_and_scoring_log_through_a_parallel_search(partial_data, capsys):
    pytest.importorskip("rich")
    X, Y = partial_data
    monitor = ScoringMonitor(scoring=metrics.mean_average_precision_scorer)
    clf = PartialLabelClassifier(solver=Minibatch(max_epochs=3), random_state=0).set_callbacks(monitor)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), clf), {"partiallabelclassifier__alpha": [0.1, 1]}, cv=2, n_jobs=2
    )
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, Y)
    # Four fits and the refit, each with three epochs and their root.
    log = monitor.get_logs().data
    assert len(log) == 5 * 4
    assert sum(row["task_name"] == "epoch" for row in log) == 15
    bars = [line for line in capsys.readouterr().out.splitlines() if "PartialLabelClassifier - fit" in line]
    assert len(bars) >= 5
    assert all("100%" in line for line in bars[-5:])


class StopAfter:
    """A callback that asks to stop."""

    def __init__(self, epochs):
        self.epochs, self.seen = epochs, 0

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.seen += 1
        return self.seen >= self.epochs


@pytest.mark.parametrize("solver", [FullBatch(tol=1e-12), Minibatch(max_epochs=9)], ids=["full", "mini"])
def test_callbacks_can_stop(partial_data, solver):
    X, Y = partial_data
    clf = PartialLabelClassifier(solver=solver, random_state=0).set_callbacks(StopAfter(2)).fit(X, Y)
    assert clf.n_iter_ == 2


def test_verbose_prints_a_line_an_epoch(partial_data, capsys):
    X, Y = partial_data
    PartialLabelClassifier(solver=Minibatch(max_epochs=3), verbose=1).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("[PartialLabelClassifier] epoch=1 loss=")
    PartialLabelClassifier(solver=Minibatch(max_epochs=3)).fit(X, Y)
    assert capsys.readouterr().out == ""


# ------------------------------------------------------------------------------------------------------- persistence


@pytest.mark.parametrize("Classifier", BOTH)
def test_pickle(partial_data, Classifier):
    X, Y = partial_data
    clf = Classifier().fit(X, Y)
    copy = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(copy.predict_proba(X), clf.predict_proba(X))
    stream = Classifier(random_state=0).partial_fit(X, Y)
    assert not any(isinstance(value, torch.Tensor) for value in vars(pickle.loads(pickle.dumps(stream))).values())
    assert "_optimizer_state" in pickle.loads(pickle.dumps(stream)).__dict__


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"loss": "bcee"}, "loss must be a Loss or one of .* got 'bcee'"),
        ({"loss": IgnoreUnknown}, r"write IgnoreUnknown\(\)"),
        ({"loss": "bce"}, "y holds .* unknown entries"),
        ({"head": "conv"}, "head must be 'linear', 'gnn', 'embedding' or"),
        ({"solver": "sgd"}, "solver must be 'auto', 'full_batch', 'minibatch', a FullBatch or a Minibatch, got 'sgd'"),
        ({"alpha": -1}, "alpha must be 'auto' or a number of at least 0, got -1"),
        ({"alpha": "scale"}, "alpha must be 'auto' or a number"),
        ({"alpha": float("nan")}, "alpha must be 'auto' or a number"),
        ({"class_weight": "equal"}, r"class_weight must be None, 'balanced', or an array of shape \(5,\) or \(5, 2\)"),
        ({"class_weight": [1, 2]}, r"class_weight must be None, 'balanced'"),
        ({"class_weight": [-1, 1, 1, 1, 1]}, "finite weights of at least 0"),
        ({"class_weight": {"a": 1}}, "class_weight is a dict, but y has no label names"),
        ({"validation_fraction": 1.5}, r"validation_fraction must be None or a number in \(0, 1\), got 1.5"),
        ({"validation_fraction": 0.001}, "leaves 120 to train on and 0 to validate on"),
        ({"device": "gpu"}, "device must be 'auto', 'cpu', 'cuda' or 'cuda:N', got 'gpu'"),
        ({"precision": "bf16"}, "precision must be 'auto', 'float32' or 'float64' on features, got 'bf16'"),
        ({"store_state": "yes"}, "store_state must be True, False or 'auto'"),
        ({"backbone": 50}, "backbone must be a name, a torch.nn.Module or a skpartial.images.Backbone, got 50"),
        ({"checkpoint_dir": 1}, "checkpoint_dir must be None or the path of a folder, got 1"),
        ({"relabeling": "curriculum"}, "relabeling must be None or a skpartial Relabeling"),
        ({"regularizer": 3}, "regularizer must be None or a skpartial Regularizer"),
    ],
)
def test_wrong_parameters(partial_data, parameters, message):
    X, Y = partial_data
    with pytest.raises(ValueError, match=message):
        PartialLabelClassifier(**parameters).fit(X, Y)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is at hand")
def test_missing_cuda(partial_data):
    X, Y = partial_data
    with pytest.raises(ValueError, match="device='cuda' was requested, but no CUDA device is available"):
        PartialLabelClassifier(device="cuda").fit(X, Y)
    # What was fitted elsewhere predicts here.
    clf = PartialLabelClassifier().fit(X, Y).set_params(device="cuda")
    assert clf.predict(X).shape == Y.shape


def test_wrong_data(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifier()
    bad = Y.astype(float)
    bad[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"y contains NaN.*from_nan"):
        clf.fit(X, bad)
    with pytest.raises(ValueError, match=r"y holds -2, 2; .* only 1 \(present\)"):
        clf.fit(X, Y * 2)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clf.fit(X, Y[:50])
    with pytest.raises(ValueError, match="X contains NaN"):
        clf.fit(np.where(X > 1, np.nan, X), Y)
    with pytest.raises(ValueError, match="X contains NaN or infinity"):
        clf.fit(torch.tensor(np.where(X > 1, np.inf, X)), Y)
    with pytest.raises(ValueError, match="tensor of shape"):
        clf.fit(torch.zeros(3, 2, 2, 2, 2), Y[:3])
    with pytest.raises(ValueError, match=r"from_names"):
        clf.fit(X[:2], [["cat"], ["dog", "cat"]])
    with pytest.raises(ValueError, match=r"X has 3 dimensions.*If X holds images, set a network.*ImageFeatures"):
        clf.fit(np.zeros((120, 4, 4)), Y)
    with pytest.raises(ValueError, match="1-D y holds -1, 0 and 1, which is ambiguous"):
        clf.fit(X, Y[:, 0])
    with pytest.raises(ValueError, match=r"If MultiOutputClassifier, .* leave it out: the classifier takes all labels"):
        MultiOutputClassifier(clf).fit(X, Y)
    with pytest.raises(ValueError, match="from_classes"):
        clf.fit(X, np.arange(120) % 4)
    with pytest.raises(ValueError, match="belong together"):
        clf.fit(X, Y, X_val=X)
    with pytest.raises(ValueError, match="y_val has 3 labels, but y has 5"):
        clf.fit(X, Y, X_val=X, y_val=Y[:, :3])
    with pytest.raises(ValueError, match="not both"):
        clone(clf).set_params(validation_fraction=0.1).fit(X, Y, X_val=X, y_val=Y)
    with pytest.raises(ValueError, match="6 features"):
        clf.fit(X, Y).predict(X[:, :4])


@pytest.mark.parametrize("absent, form", [(0, np.array), (0, list), (-1, np.array), (0, "Series"), (-1, "Series")])
def test_one_label_with_missing_values_is_converted_by_the_call_in_the_message(partial_data, absent, form):
    X, Y = partial_data
    values = np.select([Y[:, 0] == 1, Y[:, 0] == -1], [1.0, absent], np.nan)
    y = (pd.Series if form == "Series" else form)(values)
    with pytest.raises(ValueError, match=f"contains NaN: row {np.argmax(np.isnan(values))} has no class") as caught:
        PartialLabelClassifier().fit(X, y)
    call = re.search(r"unknown entries, pass (.*)\.$", str(caught.value))
    converted = eval(call[1], {"pandas": pd, "skpartial": skpartial, "y": y})
    np.testing.assert_array_equal(np.ravel(converted), Y[:, 0])
    assert PartialLabelClassifier().fit(X, converted).predict(X).shape == (120, 1)


@pytest.mark.parametrize(
    "weights, message",
    [
        (np.full(120, -1.0), "Negative values"),
        (np.full((120, 5), -1.0), "Negative values"),
        (np.zeros(120), "at least one non-zero"),
        (np.zeros((120, 5)), "zero everywhere"),
        (np.ones((120, 4)), r"sample_weight.shape == \(120, 4\), expected \(120,\) or \(120, 5\)"),
        (np.ones(7), "sample_weight.shape"),
        (np.full((120, 5), np.nan), "NaN"),
    ],
)
def test_wrong_weights(partial_data, weights, message):
    X, Y = partial_data
    with pytest.raises(ValueError, match=message):
        PartialLabelClassifier().fit(X, Y, sample_weight=weights)


def test_weights_in_reverse(partial_data):
    X, Y = partial_data
    weights = np.random.default_rng(0).random(Y.shape)
    for solver in ("full_batch", Minibatch(max_epochs=1)):
        expected = PartialLabelClassifier(solver=solver, random_state=0).fit(X, Y, sample_weight=weights[::-1].copy())
        clf = PartialLabelClassifier(solver=solver, random_state=0).fit(X, Y, sample_weight=weights[::-1])
        np.testing.assert_array_equal(clf.coef_, expected.coef_)


def test_matrix_weights_are_for_label_matrices(partial_data):
    X, Y = partial_data
    with pytest.raises(ValueError, match=r"expected \(120,\)"):
        PartialLabelClassifier().fit(X, Y[:, 0] == 1, sample_weight=np.ones((120, 1)))


@pytest.mark.cuda
@pytest.mark.parametrize("solver", [FullBatch(tol=1e-8), Minibatch(max_epochs=3)], ids=["full", "mini"])
@pytest.mark.parametrize("storage", ["host", "device", "streamed", "sparse"])
def test_cuda_equals_cpu(partial_data, solver, storage):
    X, Y = partial_data
    expected = PartialLabelClassifier(solver=solver, device="cpu", random_state=0).fit(X, Y)
    forms = {"host": X, "device": torch.tensor(X, device="cuda"), "streamed": X, "sparse": sp.csr_array(X)}
    solver = clone(solver).set_params(max_resident_bytes=1000 if storage == "streamed" else None)
    clf = PartialLabelClassifier(solver=solver, random_state=0).fit(forms[storage], Y)
    np.testing.assert_allclose(clf.coef_, expected.coef_, rtol=1e-5, atol=1e-6)
    logits = clf.decision_function(forms[storage])
    assert type(logits) is np.ndarray
    np.testing.assert_allclose(logits, expected.decision_function(X), rtol=1e-5, atol=1e-5)
    copy = pickle.loads(pickle.dumps(clf))
    assert all(not isinstance(value, torch.Tensor) for value in vars(copy).values())


@pytest.mark.parametrize("kind", [np.longdouble, np.int64, np.int16])
def test_types_of_features_that_pytorch_lacks_or_rounds(partial_data, kind):
    """Arrays and tensors of a type are computed alike: in float64 where float32 cannot hold every value."""
    X, Y = partial_data
    X = (1000 * X).astype(kind)
    clf = PartialLabelClassifier(alpha=1.0).fit(X, Y)
    assert clf.coef_.dtype == (np.float32 if kind == np.int16 else np.float64)
    np.testing.assert_allclose(clf.coef_, PartialLabelClassifier(alpha=1.0).fit(X.astype(float), Y).coef_, rtol=1e-4)
    if kind != np.longdouble:
        tensors = PartialLabelClassifier(alpha=1.0).fit(torch.tensor(X), Y)
        assert tensors.coef_.dtype == clf.coef_.dtype
        np.testing.assert_allclose(tensors.coef_, clf.coef_)


def test_a_column_stays_a_label_matrix_once_it_was_one(partial_data):
    """Held-out rows and later batches of one label may happen to hold no absence: 0 is unknown in them all the same."""
    X, Y = partial_data
    y = Y[:, [0]]
    seen = np.where(y == 1, 1, 0)
    clf = SinglePositiveClassifier(solver=Minibatch(max_epochs=2), random_state=0)
    clf.fit(X, sp.csr_array(y), X_val=X, y_val=seen)
    assert clf.predict_proba(X).shape == (len(X), 1)
    clf.partial_fit(X, seen)
    assert clf.predict_proba(X).shape == (len(X), 1)
    clf.set_params(warm_start=True).fit(X, seen)
    assert clf.predict_proba(X).shape == (len(X), 1)


def test_partial_fit_refuses_other_classes_and_relabelling(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifier(random_state=0).partial_fit(X, Y, classes=list("abcde"))
    clf.partial_fit(X, Y, classes=list("abcde"))
    with pytest.raises(ValueError, match="differ from the classes of earlier calls"):
        clf.partial_fit(X, Y, classes=list("abcdf"))
