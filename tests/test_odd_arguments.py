"""Whatever is passed, a fit is right or says in one sentence which argument is wrong."""

from __future__ import annotations

import re
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpartial import ImageFeatures, PartialLabelClassifier, PartialLabelClassifierCV, SinglePositiveClassifier
from skpartial.heads import Ensemble, WeldonPooling
from skpartial.images import Backbone
from skpartial.images._decode import as_pixels
from skpartial.images._sources import as_source
from skpartial.losses import IgnoreUnknown, LargeLoss, PartialBCE, get
from skpartial.losses._pointwise import PointwiseLoss, Targets
from skpartial.losses._registry import _by_name
from skpartial.solvers import FullBatch, Minibatch

# Of every type that a parameter may be mistaken for.
ODD = [
    *("x", "", b"x", -1, 0, 1, 2, 1.5, -0.0, float("nan"), float("inf"), 1e39, 1e-300, 1e300, 10**30, -(10**30)),
    *(None, True, False, np.bool_(True), np.int64(3), np.float32(0.5), np.array(2), np.array([1, 2]), pd.NA),
    *(np.array(["auto", "b"]), [], [1], (1,), {}, {"a": 1}, set(), object(), int, slice(3), Decimal("0.5"), 1 + 2j),
    *("auto", "balanced", pd.Series([1.0, 2, 3]), torch.tensor(1.0), torch.tensor([1.0, 2, 3]), np.datetime64("2020")),
]
CLASSIFIERS = [(PartialLabelClassifier, FullBatch()), (SinglePositiveClassifier, Minibatch(max_epochs=1))]


def fits_or_names(name, fit, other="(?!)"):
    """That a call works, or raises one sentence with the name of what is wrong; returns what it gave."""
    try:
        with np.errstate(all="ignore"):
            return fit()
    except ValueError as error:
        text = str(error)
        assert re.search(rf"\b(\w+__)?{name}\b|{other}", text), text
        assert len(text) < 500
        return None


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 5)).astype(np.float32)
    Y = np.where(X[:, :3] + rng.normal(size=(40, 3)) > 0, 1, -1) * (rng.random((40, 3)) < 0.7)
    return X, Y.astype(np.int8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "solver"), CLASSIFIERS, ids=str)
@pytest.mark.parametrize("name", sorted(PartialLabelClassifier().get_params(deep=False)))
def test_parameters_of_classifiers(data, monkeypatch, tmp_path, kind, solver, name):
    monkeypatch.chdir(tmp_path)
    for value in ODD:
        clf = kind(**{"solver": solver, name: value})
        # A backbone of a wrong name is told by its own class.
        fitted = fits_or_names(name, lambda clf=clf: clf.fit(*data), "Backbone: ")
        assert fitted is None or np.isfinite(fitted.coef_).all(), (name, value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in (FullBatch, Minibatch) for name in sorted(kind().get_params())]
)
def test_parameters_of_solvers(data, kind, name):
    short = {"max_epochs": 1} if kind is Minibatch else {"max_iter": 5}
    for value in ODD:
        if name == "max_epochs" and isinstance(value, int) and value == 10**30:
            continue  # which is meant so
        clf = PartialLabelClassifier(solver=kind(**(short | {name: value})))
        fitted = fits_or_names(name, lambda clf=clf: clf.fit(*data))
        assert fitted is None or np.isfinite(fitted.coef_).all(), (name, value)


@pytest.mark.parametrize(
    ("name", "refused", "taken"),
    [
        ("verbose", ["x", -1, 1.5, None, []], [False, 0, np.int64(0)]),
        ("warm_start", ["x", 1, None, []], [True, False, np.bool_(False)]),
        ("n_jobs", ["x", 0, 1.5, True], [None, 1, -1, np.int64(2)]),
        ("store_state", ["x", 1, None], [True, np.bool_(True), "auto"]),
        ("device", ["mps", "meta", "xla", "vulkan", "cpu:1", "gpu", "", None, 0, True], ["auto", "cpu", "cpu:0"]),
        ("random_state", ["x", -1, 1.5, [], 2**32], [None, 0, np.random.RandomState(0)]),
        ("precision", ["x", None, np.array(["auto", "x"]), "bfloat16"], ["auto", "float32", "float64"]),
    ],
)
def test_settings(data, name, refused, taken):
    for value in refused:
        for train in ("fit", "partial_fit"):
            with pytest.raises(ValueError, match=rf"\b{name} must be"):
                getattr(PartialLabelClassifier(**{name: value}), train)(*data)
    for value in taken:
        PartialLabelClassifier("iu", **{name: value}).fit(*data)
    assert not hasattr(PartialLabelClassifier(store_state=np.bool_(False)).fit(*data), "corrected_labels_")
    clf = PartialLabelClassifier(LargeLoss("correct_permanently"), store_state=np.bool_(True)).fit(*data)
    assert clf.corrected_labels_.shape == data[1].shape


def test_names_of_devices_are_checked_by_predictions(data):
    clf = PartialLabelClassifier("iu").fit(*data)
    for device in ("mps", "gpu", 3):
        with pytest.raises(ValueError, match="device must be"):
            clf.set_params(device=device).predict(data[0])


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_jobs", "x"), ("n_jobs", 0), ("device", "mps"), ("batch_size", "x"), ("precision", [])],
)
def test_parameters_of_image_features(name, value):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2))
    images = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    features = ImageFeatures(**{"backbone": Backbone(network, image_size=4), name: value})
    with pytest.raises(ValueError, match=rf"\b{name} must be"):
        features.fit(images).transform(images)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["sample_weight", "X_val", "y_val", "label_prior", "y"])
def test_arguments_of_fit(data, name):
    X, Y = data
    odd = [np.zeros((40, 2)), np.ones(40), Y[:, :0], Y[:0], np.ones((40, 3, 2)), -np.ones(40), [None] * 40, ["a"] * 40]
    for value in [*ODD, *odd]:
        y, more = (value, {}) if name == "y" else (Y, {name: value})
        fits_or_names(name, lambda y=y, more=more: PartialLabelClassifier("iu").fit(X, y, **more), "Sample weights")


@pytest.mark.filterwarnings("ignore")
def test_classes_of_partial_fit(data):
    X, Y = data
    for y in (Y, (Y[:, 0] > 0).astype(int)):
        for value in [*ODD, Y, [None] * 3]:
            fits_or_names("classes", lambda y=y, v=value: PartialLabelClassifier("iu").partial_fit(X, y, classes=v))


@pytest.mark.parametrize(
    "empty",
    [[], [[]], np.empty(0), np.empty((40, 0)), np.empty((0, 3)), sp.csr_array((40, 0)), pd.DataFrame(index=range(40))],
)
def test_empty_y(data, empty):
    with pytest.raises(ValueError, match=r"^y has shape"):
        PartialLabelClassifier().fit(data[0], empty)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array, torch.tensor, pd.DataFrame])
def test_no_columns(data, form):
    with pytest.raises(ValueError, match=r"0 feature\(s\)|at least one (column|of each)"):
        PartialLabelClassifier().fit(form(np.empty((40, 0))), data[1])


def test_other_numbers_of_rows(data):
    X, Y = data
    with pytest.raises(ValueError, match="X has 40 rows, but y has 39"):
        PartialLabelClassifier().fit(X, Y[1:])
    with pytest.raises(ValueError, match="X_val has 40 rows, but y_val has 39"):
        PartialLabelClassifier().fit(X, Y, X_val=X, y_val=Y[1:])


# ------------------------------------------------------------------------------------------------------ forms of X


def forms(X):
    """The same features in every dense form."""
    wide, fields = np.zeros((40, 10), dtype=np.float32), np.zeros(40, dtype=[("a", "i1"), ("x", "f4", (5,))])
    wide[:, ::2], fields["x"] = X, X
    readonly = X.copy()
    readonly.flags.writeable = False
    plain = torch.tensor(X)
    return {
        "reversed": np.ascontiguousarray(X[::-1])[::-1],
        "reversed columns": np.ascontiguousarray(X[:, ::-1])[:, ::-1],
        "columns first": np.asfortranarray(X),
        "every other column": wide[:, ::2],
        "field": fields["x"],
        "unaligned": np.frombuffer(b"\0" + X.tobytes(), dtype=np.uint8)[1:].view(np.float32).reshape(X.shape),
        "other byte order": X.astype(X.dtype.newbyteorder()),
        "read-only": readonly,
        "long double": X.astype(np.longdouble),
        "objects": X.astype(object),
        "lists": X.tolist(),
        "frame": pd.DataFrame(X),
        "nullable frame": pd.DataFrame(X).astype("Float32"),
        "tensor": plain,
        "parameter": torch.nn.Parameter(plain),
        "transposed tensor": plain.T.contiguous().T,
        "negated view": torch.complex(plain, -plain).conj().imag,
    }


@pytest.mark.parametrize(
    "solver", [FullBatch(), Minibatch(max_epochs=2), Minibatch(max_epochs=2, accumulate=2)], ids=str
)
def test_forms_of_features(data, solver):
    X, Y = data
    clf = PartialLabelClassifier("iu", solver=solver, precision="float32", random_state=0)
    expected = clf.fit(X, Y).decision_function(X)
    for name, form in forms(X).items():
        found = clf.fit(form, Y)
        np.testing.assert_allclose(found.decision_function(form), expected, rtol=1e-3, atol=1e-4, err_msg=name)
        one = form.iloc[:1] if hasattr(form, "iloc") else form[:1]
        np.testing.assert_allclose(found.decision_function(one), expected[:1], rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("rows", [np.s_[::-1], np.s_[::-1, ::-1], np.s_[:, ::-1], np.s_[::2]], ids=str)
def test_one_row_of_a_reversed_array(data, rows):
    """Whose stride NumPy leaves as it is, however odd."""
    X, Y = data
    clf = PartialLabelClassifier("iu").fit(X, Y)
    for dtype in (np.float32, np.float64, ">f4"):
        odd = X.astype(dtype)[rows][:1]
        np.testing.assert_allclose(clf.decision_function(odd), odd @ clf.coef_.T + clf.intercept_, rtol=1e-5, atol=1e-5)


def test_one_channel_of_reversed_images():
    grey = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    for odd in (grey[::-1], grey[::-1][:, ::-1, ::-1]):
        np.testing.assert_array_equal(as_pixels(odd, "X"), np.repeat(odd, 3, 0))


ODD_TENSORS = {
    "sparse": lambda x: x.to_sparse(),
    "csr": lambda x: x.to_sparse_csr(),
    "meta": lambda x: x.to("meta"),
    "nested": lambda x: torch.nested.nested_tensor(list(x)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ODD_TENSORS)
def test_tensors_without_a_plain_array(data, kind):
    X, Y = (torch.tensor(part) for part in data)
    odd = ODD_TENSORS[kind]
    for name, y, more in (
        ("X", Y, {}),
        ("y", odd(Y.float()), {}),
        ("sample_weight", Y, {"sample_weight": odd(torch.ones(Y.shape))}),
        ("label_prior", Y, {"label_prior": odd(torch.ones(Y.shape))}),
    ):
        if name == "y" and kind in ("sparse", "csr"):
            continue  # which are read as SciPy's sparse matrices are
        with pytest.raises(ValueError, match=rf"^{name} (is a .*tensor|is sparse|must be a dense array)"):
            PartialLabelClassifier().fit(odd(X) if name == "X" else X, y, **more)
    clf = PartialLabelClassifier("iu").fit(X, Y)
    with pytest.raises(ValueError, match=r"^X is a .*tensor"):
        clf.predict(odd(X))
    with pytest.raises(ValueError, match=r"^X is a .*tensor"):
        as_source(odd(torch.zeros(2, 3, 4, 4)), (4, 4))


def test_narrow_tensors(data):
    X, Y = data
    clf = PartialLabelClassifier("iu")
    for dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float16):
        narrow = torch.tensor(X).to(dtype)
        found = clf.fit(narrow, torch.tensor(Y).to(dtype), sample_weight=torch.ones(40).to(dtype)).coef_
        np.testing.assert_allclose(found, clf.fit(narrow.float(), Y).coef_, rtol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch will give them up
        quantized = torch.quantize_per_tensor(torch.tensor(X), 0.1, 0, torch.qint8)
    np.testing.assert_allclose(clf.fit(quantized, Y).coef_, clf.fit(quantized.dequantize(), Y).coef_, rtol=1e-6)


@pytest.mark.parametrize("values", [np.zeros((40, 2), "m8[s]"), np.zeros((40, 2), "M8[s]")])
def test_times_are_no_features(data, values):
    with pytest.raises((ValueError, TypeError), match="X must hold numbers"):
        PartialLabelClassifier().fit(values, data[1])


# --------------------------------------------------------------------------------------------- sparse X, any setting


@pytest.mark.parametrize(
    "settings",
    [
        {"accumulate": 2},
        {"accumulate": 7, "clip_norm": 0.1},
        {"accumulate": 100},
        {"accumulate": 2, "optimizer": "sgd", "schedule": "cosine", "warm_up": 0.1},
        {"clip_norm": 0.1, "optimizer": "adamw"},
        {"patience": 1, "max_resident_bytes": 0, "accumulate": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("loss", ["iu", "role", "warp"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_sparse_rows_train_as_dense_ones(data, settings, loss):
    X, Y = data
    X = X * (np.abs(X) > 0.5)
    clf = PartialLabelClassifier(loss, solver=Minibatch(max_epochs=2, **settings), random_state=0)
    expected = clf.fit(X, Y).coef_
    np.testing.assert_allclose(clf.fit(sp.csr_array(X), Y).coef_, expected, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------------- losses that look at the logits


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.1])
@pytest.mark.parametrize("threshold", ["relative", "absolute"])
@pytest.mark.parametrize("scheme", ["reject", "correct", "correct_permanently"])
def test_large_loss_with_eps(data, scheme, threshold, eps):
    X, Y = data[0].astype(np.float64), data[1]
    loss = LargeLoss(scheme, delta=0.1, threshold=threshold, eps=eps)
    # Adam would make much of the last digits of gradients that are nearly zero.
    clf = PartialLabelClassifier(loss, solver=Minibatch("sgd", max_epochs=3), random_state=0).fit(X, Y)
    found = clf.coef_
    near = clf.set_params(loss__eps=eps + 1e-12).fit(X, Y).coef_
    np.testing.assert_allclose(found, near, rtol=1e-9, atol=1e-10)
    if eps:
        with pytest.raises(ValueError, match="neither convex nor"):
            clf.set_params(solver=FullBatch()).fit(X, Y)


@pytest.mark.parametrize("eps", [0.0, 1e-5])
@pytest.mark.parametrize("name", sorted(_by_name()))
def test_every_loss_trains(data, name, eps):
    X, Y = data
    loss = get(name)
    loss.set_params(**({"eps": eps} if "eps" in loss.get_params() else {}))
    Y = np.where(Y == 0, -1, Y) if name in ("bce", "csl") else Y
    clf = PartialLabelClassifier(loss, solver=Minibatch(max_epochs=2), random_state=0)
    assert np.isfinite(clf.fit(X, Y).coef_).all()


class Confident(PointwiseLoss):
    """Believes what it predicts, and tells nobody that it looks at the logits."""

    def targets(self, block):
        return Targets(torch.where(block.labels == 0, (block.needed_logits > 0).to(block.dtype), block.present), None)


def test_a_rule_that_looks_at_logits_unannounced(data):
    clf = PartialLabelClassifier(Confident(), solver=Minibatch(max_epochs=2), random_state=0).fit(*data)
    assert np.isfinite(clf.coef_).all()


# -------------------------------------------------------------------------------------------- weights of any size


@pytest.mark.parametrize("solver", [FullBatch(), Minibatch(max_epochs=2)], ids=str)
@pytest.mark.parametrize("size", [1e-300, 1e-40, 1e39, 1e300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_size_of_weights_does_not_matter(data, dtype, size, solver):
    X, Y = data[0].astype(dtype), data[1]
    rng = np.random.default_rng(0)
    clf = PartialLabelClassifier("iu", solver=solver, random_state=0)
    for weights in (rng.random(40), rng.random((40, 3))):
        expected = clf.fit(X, Y, sample_weight=weights).coef_
        np.testing.assert_allclose(clf.fit(X, Y, sample_weight=weights * size).coef_, expected, rtol=1e-3, atol=1e-4)
        first, second = (PartialLabelClassifier("iu", random_state=0) for _ in range(2))
        for part in (slice(20), slice(20, 40)):
            first.partial_fit(X[part], Y[part], sample_weight=weights[part])
            second.partial_fit(X[part], Y[part], sample_weight=weights[part] * size)
        np.testing.assert_allclose(second.coef_, first.coef_, rtol=1e-3, atol=1e-4)
    # Of labels without unknown entries there is nothing that weighs 1.
    Y, weights = np.where(Y == 0, 1, Y), 1 + rng.random((3, 2))
    expected = clf.set_params(class_weight=weights, loss="an").fit(X, Y).coef_
    found = clf.set_params(class_weight=weights * size).fit(X, Y).coef_
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("solver", [FullBatch(), Minibatch(max_epochs=2)], ids=str)
@pytest.mark.parametrize("size", [1e39, 1e-40, 1e300])
def test_ratios_of_class_weights_that_the_type_cannot_hold(data, size, solver):
    X, Y = data
    clf = PartialLabelClassifier("iu", class_weight=np.full(3, size), solver=solver)
    with pytest.raises(ValueError, match=r"class_weight holds weights between .* float32 cannot hold"):
        clf.fit(X, Y)
    if size == 1e39:
        assert np.isfinite(clf.fit(X.astype(np.float64), Y).coef_).all()


def test_weights_that_leave_nothing(data):
    X, Y = data
    nothing = np.where((Y == 1).any(1), 0.0, 1.0)
    weights = np.column_stack([np.zeros(3), np.ones(3)])
    clf = PartialLabelClassifier("an", class_weight=weights)
    with pytest.raises(ValueError, match=r"sample_weight, class_weight and .* must have a positive and finite sum"):
        clf.fit(X, Y, sample_weight=nothing)


# --------------------------------------------------------------------------------------------------- divergence


@pytest.mark.filterwarnings("ignore:learning_rate=.* moves logits")
@pytest.mark.parametrize("validation", [None, 0.3])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("epochs", [1, 2, 20])
def test_diverged_fits(data, optimizer, epochs, validation):
    """Whether the loss, the parameters or only the predictions leave the range first."""
    X, Y = data
    for rate in (1e10, 1e20, 1e30, 1e37, 3e38):
        for batch_size in (8, 40):
            solver = Minibatch(optimizer, rate, max_epochs=epochs, batch_size=batch_size)
            clf = PartialLabelClassifier("iu", solver=solver, validation_fraction=validation, random_state=0)
            fitted = fits_or_names("learning_rate", lambda clf=clf: clf.fit(X, Y))
            assert fitted is None or np.isfinite(fitted.coef_).all()
    if optimizer == "adam" or epochs > 1:
        with pytest.raises(ValueError, match=r"no longer finite|became"):
            clf.fit(X, Y)


@pytest.mark.filterwarnings("ignore:learning_rate=.* moves logits")
@pytest.mark.parametrize("solver", [FullBatch(), Minibatch(max_epochs=2, learning_rate=10.0)], ids=str)
def test_held_out_rows_beyond_the_range(data, solver):
    X, Y = data
    clf = PartialLabelClassifier(PartialBCE(), solver=solver)
    with pytest.raises(ValueError, match=r"held-out rows .*X_val"):
        clf.fit(X, Y, X_val=X * np.float32(1e38), y_val=Y)


def test_odd_shapes_of_maps(data):
    for shape in ((40, 5), (40, 5, 2), (40, 5, 2, 0), (0, 5, 2, 2), (40, 0, 2, 2)):
        with pytest.raises(ValueError, match=r"^head=.*maps|^X has shape"):
            PartialLabelClassifier(IgnoreUnknown(), head=WeldonPooling()).fit(np.zeros(shape), data[1])


# ------------------------------------------------------------------------ conventions, and what is asked for by mistake


def test_a_pipeline_scores_under_metadata_routing(partial_data):
    X, Y = partial_data
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(StandardScaler(), PartialLabelClassifier()).fit(X, Y)
        assert pipeline.score(X, Y) == pipeline[-1].score(pipeline[:-1].transform(X), Y)


@pytest.mark.parametrize("new", ["gnn", "embedding", Ensemble(n_members=2)], ids=repr)
def test_warm_start_refuses_another_head(partial_data, new):
    X, Y = partial_data
    clf = PartialLabelClassifier(warm_start=True, random_state=0).fit(X, Y)
    with pytest.raises(ValueError, match="warm_start=True continues a fit with head=Linear"):
        clf.set_params(head=new).fit(X, Y)


def test_parameters_that_no_solver_has():
    with pytest.raises(ValueError, match="Invalid parameter solver__lr: neither FullBatch nor Minibatch has it"):
        PartialLabelClassifier().set_params(solver__lr=0.1)
    with pytest.raises(ValueError, match="by solver__max_iter, solver__max_epochs, as no solver has all of these"):
        PartialLabelClassifier().set_params(solver__max_iter=3, solver__max_epochs=3)


def test_a_scorer_without_numbers_is_named(partial_data, recwarn):
    X, Y = partial_data
    clf = PartialLabelClassifierCV(2, cv=2, scoring=lambda clf, X, y: float("nan"))
    warnings.simplefilter("always")
    clf.fit(X, Y)
    assert any(re.search("scoring=.* returned no number", str(warning.message)) for warning in recwarn)
    with pytest.raises(ValueError, match="alphas must be a whole number of at least 1, or a sequence"):
        PartialLabelClassifierCV(alphas=(10.0**k for k in range(3))).fit(X, Y)


def test_words_are_not_taken_for_files(partial_data):
    _, Y = partial_data
    with pytest.raises(ValueError, match="could not convert string to float"):
        PartialLabelClassifier().fit(pd.DataFrame({"city": ["town"] * len(Y)}), Y)
    with pytest.raises(ValueError, match="X looks like images or their paths"):
        PartialLabelClassifier().fit(["a.JPG"] * len(Y), Y)
