"""Every form of labels at every door, parts of labels that lack a sign, and tables with names in other orders."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpartial import PartialLabelClassifier, SinglePositiveClassifier, metrics
from skpartial.exceptions import AmbiguousLabelsWarning, UnfittableLabelsWarning
from skpartial.heads import AveragePooling
from skpartial.images import Backbone
from skpartial.inspection import pointing_game
from skpartial.labels import (
    LabelMatrix,
    cooccurrence,
    describe,
    drop_labels,
    from_annotations,
    from_classes,
    from_nan,
    recode,
)
from skpartial.model_selection import BatchedGridSearchCV, PartialLabelKFold, TunedThresholdsCV, cross_val_predict
from skpartial.solvers import Minibatch
from skpartial.training import TrainingData

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")

NAMES = [f"label {j}" for j in range(8)]


def masked(Y):
    """What is masked would mean something else, were it read."""
    return np.ma.array(np.where(Y == 0, np.resize([1, -1], Y.shape), Y), mask=Y == 0)


def table(Y):
    return pa.table(dict(zip(NAMES, Y.T)))


def compressed(Y):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support")
        return torch.tensor(Y).to_sparse_csr()


FORMS = {
    "masked": masked,
    "list of masked rows": lambda Y: list(masked(Y)),
    "masked objects": lambda Y: masked(Y).astype(object),
    "lists": lambda Y: Y.tolist(),
    "pandas": lambda Y: pd.DataFrame(Y, columns=NAMES[: Y.shape[1]]),
    "pandas, nullable": lambda Y: pd.DataFrame(Y, columns=NAMES[: Y.shape[1]]).astype("Int8"),
    "pandas, of arrow": lambda Y: pd.DataFrame(Y, columns=NAMES[: Y.shape[1]]).astype("int8[pyarrow]"),
    "polars": lambda Y: pl.DataFrame(Y, schema=NAMES[: Y.shape[1]]),
    "pyarrow": table,
    "csc": sp.csc_array,
    "tensor": lambda Y: torch.tensor(Y, dtype=torch.float32, requires_grad=True),
    "tensor of bfloat16": lambda Y: torch.tensor(Y, dtype=torch.bfloat16),
    "sparse tensor": lambda Y: torch.tensor(Y).to_sparse(),
    "sparse tensor, csr": compressed,
}
NAMED = ("pandas", "pandas, nullable", "pandas, of arrow", "polars", "pyarrow")
in_every_form = pytest.mark.parametrize("name", FORMS)


def make_data(n=60, n_labels=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    Y = np.where(X @ rng.normal(size=(4, n_labels)) + rng.normal(size=(n, n_labels)) > 0, 1, -1).astype(np.int8)
    Y[rng.random(Y.shape) < 0.3] = 0
    return X, Y


X, Y = make_data()
SCORES = np.random.default_rng(1).normal(size=Y.shape)


@st.composite
def labels(draw, columns=None):
    """Label matrices, some of which lack a sign in some or all columns."""
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 5) if columns is None else columns))
    return draw(arrays(np.int8, shape, elements=st.sampled_from(draw(st.sampled_from([(-1, 0, 1), (0, 1), (-1, 0)])))))


def minibatch(**more):
    return PartialLabelClassifier(solver=Minibatch(max_epochs=2), random_state=0, **more)


# ------------------------------------------------------------------------------------------------- one door for forms

# From labels to something that depends on every entry.
READERS = {
    "encode": lambda Y: LabelMatrix.encode(Y).toarray(),
    "describe": lambda Y: [describe(Y).present_per_row, describe(Y).absent_per_label],
    "cooccurrence": cooccurrence,
    "recode": lambda Y: LabelMatrix.encode(recode(Y, present=1, absent=-1, unknown=0)).toarray(),
    "simulate": lambda Y: LabelMatrix.encode(drop_labels(Y, known=0.5, zero="unknown", random_state=0)).toarray(),
    "TrainingData": lambda Y: TrainingData.encode(Y).labels.toarray(),
    "metric": lambda Y: metrics.precision(Y, np.ones(LabelMatrix.encode(Y).shape), average=None, unknown="absent"),
    "pointing game": lambda Y: (
        lambda shape: (
            pointing_game(
                np.ones((*shape, 2, 2)),
                [{j: [[0, 0, 1, 1]] for j in range(shape[1])} for _ in range(shape[0])],
                Y,
                empty="zero",
            ).hits
        )
    )(LabelMatrix.encode(Y).shape),
}


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=60)
@given(Y=labels(), name=st.sampled_from(list(FORMS)))
def test_every_form_is_read_alike(reader, Y, name):
    read = READERS[reader]
    np.testing.assert_equal(read(FORMS[name](Y)), read(Y))
    names = LabelMatrix.encode(FORMS[name](Y)).names
    assert (None if names is None else list(names)) == (NAMES[: Y.shape[1]] if name in NAMED else None)


# Training takes its time: one problem at each of its doors.
FITS = {
    "fit": lambda Y: minibatch().fit(X, Y).coef_,
    "partial_fit": lambda Y: minibatch().partial_fit(X, Y).partial_fit(X, Y).coef_,
    "y_val": lambda Y_val: [
        record["validation_score"] for record in minibatch().fit(X, Y, X_val=X, y_val=Y_val).history_
    ],
    "warm start": lambda Y: minibatch(warm_start=True).fit(X, Y).fit(X, Y).coef_,
    "score": lambda Y_new: minibatch().fit(X, Y).score(X, Y_new),
    "single positive": lambda Y: SinglePositiveClassifier().fit(X, Y).coef_,
    "cross_val_predict": lambda Y: cross_val_predict(minibatch(), X, Y, cv=KFold(3), method="decision_function"),
    "thresholds": lambda Y: TunedThresholdsCV(minibatch(), cv=3, random_state=0).fit(X, Y).thresholds_,
    "batched search": lambda Y: (
        BatchedGridSearchCV(PartialLabelClassifier(), {"alpha": [1e-3, 1.0]}, cv=PartialLabelKFold(3, random_state=0))
        .fit(X, Y)
        .cv_results_["mean_test_score"]
    ),
}


@in_every_form
@pytest.mark.parametrize("door", FITS)
def test_every_form_is_trained_on_alike(door, name):
    np.testing.assert_array_equal(FITS[door](FORMS[name](Y)), FITS[door](Y))


@in_every_form
def test_every_form_in_a_search_of_scikit_learn(name):
    """It slices y itself, which it cannot where a tensor is sparse."""
    search = GridSearchCV(PartialLabelClassifier(), {"alpha": [1e-3, 1.0]}, cv=KFold(3), error_score="raise")
    expected = search.fit(X, Y).cv_results_["mean_test_score"]
    if name.startswith("sparse tensor"):
        with pytest.raises((TypeError, RuntimeError, IndexError, NotImplementedError)):
            search.fit(X, FORMS[name](Y))
    else:
        np.testing.assert_array_equal(search.fit(X, FORMS[name](Y)).cv_results_["mean_test_score"], expected)


def test_masks_at_the_doors_of_other_codings():
    coded = np.ma.array([[1, 0, 1], [0, 1, 1]], mask=[[False, False, True], [True, False, False]])
    expected = [[1, -1, 0], [0, 1, 1]]
    np.testing.assert_array_equal(from_nan(coded), expected)
    np.testing.assert_array_equal(recode(coded, present=1, absent=0), expected)
    # A masked entry needs no code.
    np.testing.assert_array_equal(recode(np.ma.array([[1, 7]], mask=[[0, 1]]), present=1), [[1, 0]])
    nulls = {"a": [1, None], "b": [0, 1]}
    for frame in (pa.table(nulls), pl.DataFrame(nulls)):
        np.testing.assert_array_equal(LabelMatrix.encode(from_nan(frame)).toarray(), [[1, -1], [0, 1]])
        assert type(from_nan(frame)) is type(frame)
    long = {"row": [0, 1], "label": ["a", "b"], "value": [1, -1]}
    np.testing.assert_array_equal(from_annotations(pa.table(long)), [[1, 0], [0, -1]])


def test_masks_are_part_of_what_a_checkpoint_belongs_to(tmp_path):
    """A fit on another mask is another fit."""
    clf = minibatch(checkpoint_dir=str(tmp_path))
    for form in ("masked", "sparse tensor"):
        np.testing.assert_array_equal(clf.fit(X, FORMS[form](Y)).coef_, minibatch().fit(X, Y).coef_)
    from skpartial._fingerprint import identity

    values = np.ones((2, 2))
    assert identity(np.ma.array(values, mask=np.eye(2))) != identity(np.ma.array(values, mask=1 - np.eye(2)))
    assert identity(torch.eye(2).to_sparse()) != identity(torch.eye(2).flip(0).to_sparse())


HIDDEN = np.ma.array(np.ones(Y.shape), mask=np.eye(*Y.shape))
CLASSES = np.ma.array(Y[:, 0] == 1, mask=np.arange(60) == 3)
BINARY = PartialLabelClassifier().fit(X, Y[:, 0] == 1)
MASKED_AND_REFUSED = {
    "X of fit": lambda: minibatch().fit(np.ma.array(X, mask=X > 2), Y),
    "X of predict": lambda: minibatch().fit(X, Y).predict(np.ma.array(X, mask=X > 2)),
    "X in rows": lambda: minibatch().fit(list(np.ma.array(X, mask=X > 2)), Y),
    "X_val": lambda: minibatch().fit(X, Y, X_val=np.ma.array(X, mask=X > 2), y_val=Y),
    "maps": lambda: minibatch(head=AveragePooling()).fit(
        np.ma.masked_equal(np.arange(960.0).reshape(60, 4, 2, 2), 3), Y
    ),
    "images": lambda: minibatch(backbone=Backbone(torch.nn.Flatten(), finetune="head")).fit(
        np.ma.masked_equal(np.arange(11520.0).reshape(60, 8, 8, 3), 3), Y
    ),
    "weights of rows": lambda: minibatch().fit(X, Y, HIDDEN[:, 0]),
    "weights of entries": lambda: minibatch().fit(X, Y, HIDDEN),
    "class_weight": lambda: minibatch(class_weight=HIDDEN[0]).fit(X, Y),
    "label_prior": lambda: minibatch().fit(X, Y, label_prior=HIDDEN),
    "targets": lambda: TrainingData.encode(Y, targets=HIDDEN),
    "weights of TrainingData": lambda: TrainingData.encode(Y, weights=HIDDEN),
    "scores": lambda: metrics.mean_average_precision(Y, HIDDEN),
    "scores of top k": lambda: metrics.top_k_scores(Y, HIDDEN, 1),
    "predictions": lambda: metrics.f1(Y, HIDDEN.astype(int)),
    "maps of pointing": lambda: pointing_game(np.ma.array(np.ones((1, 1, 2, 2)), mask=True), [{}]),
    "1-D y of fit": lambda: minibatch().fit(X, CLASSES),
    "1-D y of partial_fit": lambda: minibatch().partial_fit(X, CLASSES, classes=[False, True]),
    "1-D y of score": lambda: BINARY.score(X, CLASSES),
    "1-D y of cross_val_predict": lambda: cross_val_predict(minibatch(), X, CLASSES),
    "1-D y of thresholds": lambda: TunedThresholdsCV(minibatch()).fit(X, CLASSES),
    "1-D y of a search": lambda: BatchedGridSearchCV(minibatch(), {"alpha": [1]}).fit(X, CLASSES),
    "1-D y of folds": lambda: list(PartialLabelKFold(2).split(X, CLASSES)),
    "from_classes": lambda: from_classes(CLASSES),
    "from_annotations": lambda: from_annotations(np.ma.array([[0, 0, 1]], mask=[[0, 0, 1]])),
}


@pytest.mark.parametrize("call", MASKED_AND_REFUSED.values(), ids=MASKED_AND_REFUSED.keys())
def test_masks_where_every_entry_is_needed_are_refused(call):
    with pytest.raises(ValueError, match="has masked entries, but every entry is needed: fill"):
        call()


def test_a_masked_array_of_which_nothing_is_masked_is_an_array():
    expected = minibatch().fit(X, Y, np.ones(60)).coef_
    found = minibatch().fit(np.ma.array(X), np.ma.array(Y), np.ma.ones(60)).coef_
    np.testing.assert_array_equal(found, expected)
    assert metrics.mean_average_precision(Y, np.ma.array(SCORES)) == metrics.mean_average_precision(Y, SCORES)


RECORDS = np.array([(1, -1), (0, 1)], dtype=[("cat", "i1"), ("dog", "i1")])


@pytest.mark.parametrize(
    "form, message",
    [
        (RECORDS, "structured array with the fields cat, dog: pass pandas.DataFrame"),
        (RECORDS.view(np.recarray), "structured array with the fields cat, dog: pass pandas.DataFrame"),
        (pl.LazyFrame({"a": [1, -1]}), r"LazyFrame, which has no values yet: pass \w+.collect\(\)"),
        (torch.ones(2, 2, 2).to_sparse(1), r"sparse tensor of dense parts: pass \w+.to_dense\(\)"),
        (torch.empty(2, 2, device="meta"), "NumPy cannot hold: pass a dense tensor"),
    ],
    ids=["structured", "records", "lazy", "hybrid", "meta"],
)
def test_forms_that_are_read_nowhere_are_refused_everywhere(form, message):
    for door in (
        *(READERS[name] for name in ("encode", "describe", "recode", "TrainingData")),
        lambda Y: minibatch().fit(X[:2], Y),
        lambda Y: cross_val_predict(minibatch(), X[:2], Y, cv=2),
        lambda Y: metrics.mean_average_precision([[1, -1], [-1, 1]], Y),
        lambda Y: minibatch().fit(X[:2], [[1, -1], [-1, 1]], Y),
    ):
        with pytest.raises(ValueError, match=message):
            door(form)


@pytest.mark.parametrize("form", [np.array, pd.Series, pl.Series, pa.array])
def test_a_row_without_a_class_is_no_class(form):
    with pytest.raises(ValueError, match="NaN: row 1 has no class"):
        minibatch().fit(X[:3], form(["yes", None, "yes"]))


def test_scores_and_weights_of_every_kind():
    """Tables of nullable types, and bfloat16, hold numbers as well."""
    scores, weight = SCORES.round(1), np.abs(SCORES)
    halves = torch.tensor(scores).bfloat16()
    of_halves = halves.float().numpy()
    expected = metrics.mean_average_precision(Y, scores)
    for kind in ("Float64", "double[pyarrow]"):
        assert metrics.mean_average_precision(Y, pd.DataFrame(scores).astype(kind)) == expected
        found = minibatch().fit(X, Y, pd.DataFrame(weight).astype(kind)).coef_
        np.testing.assert_array_equal(found, minibatch().fit(X, Y, weight).coef_)
    assert metrics.mean_average_precision(Y, table(scores)) == expected
    assert metrics.mean_average_precision(Y, halves) == metrics.mean_average_precision(Y, of_halves)
    found = minibatch().fit(X, Y, halves.abs()).coef_
    np.testing.assert_array_equal(found, minibatch().fit(X, Y, np.abs(of_halves)).coef_)


# --------------------------------------------------------------------------------------------- parts without a sign


@settings(max_examples=60)
@given(labels(st.integers(2, 5)), st.integers(0, 2**32 - 1))
def test_single_positives_are_scored_alike_in_every_part(Y, seed):
    """By what was seen: a recorded absence, in this part or in another one, changes nothing."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(len(Y), 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnfittableLabelsWarning)
        warnings.simplefilter("ignore", AmbiguousLabelsWarning)
        clf = SinglePositiveClassifier().fit(X, np.where(rng.random(Y.shape) < 0.3, 1, 0))
    part = rng.random(len(Y)) < 0.6
    part[0] = True
    present, scores = Y[part] == 1, clf.decision_function(X[part])
    seen = np.flatnonzero(present.any(axis=0))
    assume(len(seen))
    expected = np.mean([average_precision_score(present[:, j], scores[:, j]) for j in seen])
    for form in (np.asarray, sp.csr_array):
        assert clf.score(X[part], form(Y[part])) == pytest.approx(expected, rel=1e-12)


def test_validation_of_single_positives_is_their_score():
    """With a recorded absence in some of the held-out rows, and without one."""
    seen = np.maximum(Y, 0)
    with_absences = seen.copy()
    with_absences[:3] = np.minimum(Y[:3], -1)
    found = []
    for y_val in (with_absences, np.maximum(with_absences, 0)):
        clf = SinglePositiveClassifier(solver=Minibatch(max_epochs=2), random_state=0)
        found.append([r["validation_score"] for r in clf.fit(X, seen, X_val=X, y_val=y_val).history_])
    assert found[0] == found[1]


def test_three_recorded_absences_do_not_change_how_folds_are_scored():
    seen = np.maximum(Y, 0)
    some = seen.copy()
    some[[0, 1, 30], [0, 1, 2]] = -1
    clf = SinglePositiveClassifier()
    found = cross_val_score(clf, X, some, cv=KFold(5))
    expected = []
    for train, test in KFold(5).split(X):
        fitted = SinglePositiveClassifier().fit(X[train], some[train])
        truth = np.where(some[test] == 1, 1, -1)
        expected.append(metrics.mean_average_precision(truth, fitted.decision_function(X[test])))
    np.testing.assert_allclose(found, expected)


MATRICES_OF_ONE_LABEL = [name for name in FORMS if name not in ("lists", "tensor", "tensor of bfloat16")]


@settings(max_examples=80)
@given(labels(st.just(1)), st.sampled_from([*FORMS, "array"]), st.data())
def test_one_label_means_the_same_in_every_part(Y, name, data):
    """A matrix by its form stays one, whatever a part of it holds; an array of one column never is one."""
    rows = data.draw(arrays(bool, len(Y)))
    assume(rows.any())
    rng = np.random.default_rng(0)
    X = rng.normal(size=(len(Y), 2))
    whole, part = (form_of(name, y) for y in (Y, Y[rows]))
    shapes, messages = [], []
    for features, y in ((X, whole), (X[rows], part)):
        with warnings.catch_warnings():
            for kind in (UnfittableLabelsWarning, AmbiguousLabelsWarning):
                warnings.simplefilter("ignore", kind)
            try:
                shapes.append(PartialLabelClassifier().fit(features, y).predict_proba(features).shape[1])
            except (UserWarning, ValueError) as told:
                messages.append(str(told))
                shapes.append(None)
    assert shapes == ([1, 1] if name in MATRICES_OF_ONE_LABEL else [None, None])
    for y, message in zip((Y, Y[rows]), messages):
        told = "read as two classes" if set(y.ravel()) in ({0, 1}, {-1, 1}) else "holds"
        assert told in message
        assert "pass a DataFrame of one column, or scipy.sparse.csr_array" in message


def form_of(name, y):
    return y if name == "array" else FORMS[name](y)


@pytest.mark.parametrize("name", MATRICES_OF_ONE_LABEL)
def test_one_label_in_folds_that_lack_a_sign(name):
    """Tools that slice keep the form, where every fold has a sign too few."""
    y = np.repeat([[-1], [0], [1]], 20, axis=0)
    folds = [(np.r_[20:60], np.r_[0:20]), (np.r_[0:20, 40:60], np.r_[20:40]), (np.r_[0:40], np.r_[40:60])]
    with warnings.catch_warnings():
        for kind in (UnfittableLabelsWarning, AmbiguousLabelsWarning):
            warnings.simplefilter("ignore", kind)
        found = cross_val_predict(PartialLabelClassifier(), X, FORMS[name](y), cv=folds, method="decision_function")
        expected = [PartialLabelClassifier().fit(X[a], sp.csr_array(y[a])).decision_function(X[b]) for a, b in folds]
    np.testing.assert_array_equal(found, np.concatenate(expected))


@pytest.mark.parametrize(
    "tool",
    [
        lambda y: cross_val_predict(PartialLabelClassifier(), X, y, cv=KFold(2)),
        lambda y: BatchedGridSearchCV(PartialLabelClassifier(), {"alpha": [1]}, cv=KFold(2)).fit(X, y),
        lambda y: TunedThresholdsCV(PartialLabelClassifier(), cv=2).fit(X, y),
    ],
    ids=["cross_val_predict", "search", "thresholds"],
)
def test_a_column_whose_parts_would_be_read_otherwise_is_refused_as_a_whole(tool):
    """Each half is two classes, -1 and 1 here and 0 and 1 there."""
    y = np.r_[np.resize([-1, 1], 30), np.resize([0, 1], 30)][:, None]
    with pytest.raises(ValueError, match=r"one column.*holds -1, 0 and 1, which is ambiguous.*scipy.sparse.csr_array"):
        tool(y)


# ------------------------------------------------------------------------------------------ names in other orders

TABLES = {
    "pandas": lambda Y, names: pd.DataFrame(Y, columns=names),
    "polars": lambda Y, names: pl.DataFrame(Y, schema=names),
    "pyarrow": lambda Y, names: pa.table(dict(zip(names, Y.T))),
}
METRICS = [
    getattr(metrics, name)
    for name in metrics.__all__
    if inspect.isfunction(getattr(metrics, name)) and "y_true" in inspect.signature(getattr(metrics, name)).parameters
]
ORDER = "must be in the same order"


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
@settings(max_examples=15)
@given(order=st.permutations(range(3)), kinds=st.tuples(st.sampled_from(list(TABLES)), st.sampled_from(list(TABLES))))
def test_metrics_compare_names(metric, order, kinds):
    second = list(inspect.signature(metric).parameters)[1]
    answers = (SCORES > 0).astype(int) if second == "y_pred" else SCORES
    truth, given_ = TABLES[kinds[0]], TABLES[kinds[1]]
    names = NAMES[:3]
    expected = metric(Y, answers)
    np.testing.assert_equal(metric(truth(Y, names), given_(answers, names)), expected)
    np.testing.assert_equal(metric(truth(Y, names), answers), expected)
    np.testing.assert_equal(metric(truth(Y, names), pd.DataFrame(answers)), expected)  # without names
    turned = [names[j] for j in order]
    assume(turned != names)
    with pytest.raises(ValueError, match=rf"labels of {second} {ORDER} as in y_true: pass {second}\[y_true.columns\]"):
        metric(truth(Y, names), given_(answers[:, order], turned))
    with pytest.raises(ValueError, match=f"labels of {second} must be those of y_true: unexpected 'x'"):
        metric(truth(Y, names), given_(answers, ["x", *names[1:]]))


FRAME = pd.DataFrame(Y, columns=NAMES[:3])
SCORERS = {name: getattr(metrics, name) for name in metrics.__all__ if name.endswith("_scorer") and "at_5" not in name}
FITTED = {
    "classifier": PartialLabelClassifier(),
    "pipeline": make_pipeline(StandardScaler(), PartialLabelClassifier()),
    "search": GridSearchCV(PartialLabelClassifier(), {"alpha": [1e-2]}, cv=KFold(2)),
    "thresholds": TunedThresholdsCV(PartialLabelClassifier(), random_state=0),
    "search of pipelines": GridSearchCV(
        make_pipeline(StandardScaler(), PartialLabelClassifier()), {"partiallabelclassifier__alpha": [1]}, cv=KFold(2)
    ),
}


@pytest.mark.parametrize("kind", FITTED)
def test_scorers_compare_names_with_those_of_the_fit(kind):
    fitted = FITTED[kind].fit(X, FRAME)
    for score in (*SCORERS.values(), lambda model, X, y: model.score(X, y)):
        assert score(fitted, X, FRAME) == score(fitted, X, Y)
        for to_table in TABLES.values():
            with pytest.raises(ValueError, match=rf"labels of y {ORDER} as in fit: pass y\[clf"):
                score(fitted, X, to_table(Y[:, ::-1], NAMES[2::-1]))
        with pytest.raises(ValueError, match="labels of y must be those of fit: unexpected 'x'"):
            score(fitted, X, FRAME.rename(columns={NAMES[0]: "x"}))


@pytest.mark.parametrize("kind", TABLES)
def test_everything_beside_y_has_its_order(kind):
    turned = TABLES[kind](np.full(Y.shape, 0.5), NAMES[2::-1])
    calls = {
        "sample_weight": lambda: minibatch().fit(X, FRAME, turned),
        "label_prior": lambda: minibatch().fit(X, FRAME, label_prior=turned),
        "y_val": lambda: minibatch().fit(X, FRAME, X_val=X, y_val=TABLES[kind](Y, NAMES[2::-1])),
        "the targets of labels": lambda: TrainingData.encode(FRAME, targets=turned),
        "the weights of labels": lambda: TrainingData.encode(FRAME, weights=turned),
        "the prior of labels": lambda: TrainingData.encode(FRAME, prior=turned),
        "classes": lambda: minibatch().partial_fit(X, FRAME, classes=NAMES[2::-1]),
        "label_names": lambda: describe(FRAME, label_names=NAMES[2::-1]),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"The labels of {name} {ORDER}"):
            call()
    clf = minibatch().partial_fit(X, Y, classes=NAMES[:3])
    with pytest.raises(ValueError, match="classes must name the labels in the order of earlier calls"):
        clf.partial_fit(X, Y, classes=NAMES[2::-1])
    assert describe(FRAME, label_names=["x", "y", "z"]).label_names == ["x", "y", "z"]


# ------------------------------------------------------------------------------------------------- -1 beside NaN

CHEXPERT = np.array([[1.0, 0.0], [-1.0, np.nan], [np.nan, 1.0]])


@pytest.mark.parametrize(
    "form",
    [np.asarray, np.ndarray.tolist, torch.tensor, lambda Y: TABLES["pandas"](Y, ["a", "b"]), table, sp.csr_array],
    ids=["array", "lists", "tensor", "pandas", "pyarrow", "sparse"],
)
def test_minus_one_beside_nan_has_two_codings(form, monkeypatch):
    monkeypatch.setattr("skpartial.labels._matrix._BLOCK_ENTRIES", 2)  # NaN and -1 in different blocks
    both = r"-1 is uncertain and 0 absent.*recode\(y, present=1, absent=0, unknown=\[-1, np.nan\]\).*fillna\(0\)"
    for Y in (CHEXPERT, CHEXPERT[::-1].copy()):
        for door in (LabelMatrix.encode, lambda Y: minibatch().fit(X[:3], Y)):
            with pytest.raises(ValueError, match=both):
                door(form(Y))
    with pytest.raises(ValueError, match=r"convert {0, 1, NaN}.*from_nan"):
        LabelMatrix.encode(form(np.abs(CHEXPERT)))


def test_from_nan_names_both_codings_of_minus_one():
    with pytest.raises(ValueError, match=r"Y.fillna\(0\).*uncertain and 0 absent.*unknown=\[-1, np.nan\]"):
        from_nan(CHEXPERT)
    np.testing.assert_array_equal(
        recode(CHEXPERT, present=1, absent=0, unknown=[-1, np.nan]), [[1, -1], [0, 0], [0, 1]]
    )
