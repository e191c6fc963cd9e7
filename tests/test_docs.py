"""The documentation: complete, and every example on its pages runs."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import inspect
import io
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import RFE, RFECV, SelectFromModel, SelectKBest
from sklearn.inspection import PartialDependenceDisplay, permutation_importance
from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    StratifiedShuffleSplit,
    TunedThresholdClassifierCV,
    cross_val_score,
    cross_validate,
    learning_curve,
    train_test_split,
    validation_curve,
)
from sklearn.semi_supervised import SelfTrainingClassifier

import skpartial
from skpartial import PartialLabelClassifier
from skpartial.metrics import mean_average_precision_scorer
from skpartial.model_selection import PartialLabelKFold

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [
    path
    for path in sorted(DOCS.rglob("*.rst"))
    if not {"_build", "_templates", "generated", "auto_examples", "sg_execution_times.rst"}
    & set(path.relative_to(DOCS).parts)
]
SUBPACKAGES = [
    name
    for _, name, _ in pkgutil.iter_modules(skpartial.__path__)
    if not name.startswith("_") and hasattr(importlib.import_module(f"skpartial.{name}"), "__all__")
]


def listed(page: Path) -> set[str]:
    """Full names of what a page documents: entries of autosummary, and data described in place."""
    names: set[str] = set()
    module, indent = "", None
    for line in page.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\.\. module:: (\S+)", line):
            module = match[1]
        elif line.startswith(".. autosummary::"):
            indent = 3
        elif match := re.match(r"(?:\.\. data::|         ) (\w+)$", line):
            names.add(f"{module}.{match[1]}")
        elif line and not line.startswith(" "):
            indent = None
        elif indent is not None and (match := re.match(r" {3}(\w+)$", line)):
            names.add(f"{module}.{match[1]}")
    return names


def test_every_subpackage_has_a_page():
    contents = (DOCS / "api" / "index.rst").read_text(encoding="utf-8")
    in_contents = set(re.findall(r"^   (\w+)$", contents, flags=re.MULTILINE))
    assert SUBPACKAGES
    for name in SUBPACKAGES:
        assert name in in_contents, f"docs/api/index.rst does not list {name}"
        assert (DOCS / "api" / f"{name}.rst").is_file()


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_every_public_name_is_listed(name):
    public = {f"skpartial.{name}.{public}" for public in importlib.import_module(f"skpartial.{name}").__all__}
    assert listed(DOCS / "api" / f"{name}.rst") == public


def test_every_estimator_is_listed():
    public = {f"skpartial.{name}" for name in skpartial.__all__ if name != "__version__" and name not in SUBPACKAGES}
    assert public
    assert public <= listed(DOCS / "api" / "index.rst")


@pytest.mark.parametrize("name", ["", *SUBPACKAGES])
def test_every_public_class_is_documented_with_its_parameters(name):
    module = importlib.import_module(f"skpartial.{name}".rstrip("."))
    for cls in filter(inspect.isclass, map(vars(module).get, module.__all__)):
        text = inspect.getdoc(cls)
        assert text, cls.__name__
        assert not re.search(r"^ *\{\w+\}$", text, flags=re.MULTILINE), cls.__name__
        if issubclass(cls, BaseEstimator):
            for parameter in cls._get_param_names():
                assert re.search(rf"^(\w+, )*{parameter}(, \w+)* : ", text, flags=re.MULTILINE), f"{cls}({parameter})"


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_every_public_method_is_documented_with_its_parameters(name):
    # What overrides a method is documented where that is defined.
    subpackage = importlib.import_module(f"skpartial.{name}")
    for cls in filter(inspect.isclass, map(vars(subpackage).get, subpackage.__all__)):
        for method, function in inspect.getmembers(cls, inspect.isroutine):
            if method.startswith("_") or not getattr(function, "__module__", "").startswith("skpartial"):
                continue
            text = inspect.getdoc(function)
            assert text, f"{cls.__name__}.{method}"
            for parameter in list(inspect.signature(function).parameters)[not inspect.ismethod(function) :]:
                assert re.search(rf"\b{parameter}\b", text), f"{cls.__name__}.{method}({parameter})"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_examples_on_pages(page, monkeypatch):
    # Warnings are errors here: what a page shows must run clean, and what a page imports from docs must be found.
    monkeypatch.syspath_prepend(str(DOCS))
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testfile(str(page), module_relative=False, optionflags=options, encoding="utf-8")
    assert result.failed == 0


def test_there_are_examples_on_pages():
    with_examples = {page.name for page in PAGES if ">>>" in page.read_text(encoding="utf-8")}
    assert {"index.rst", "add_a_loss.rst", "losses.rst", "scikit_learn.rst"} <= with_examples


Y = np.array([[1, -1, 0], [-1, 0, 1], [0, 1, -1], [1, 0, -1]] * 10)
X = np.random.RandomState(0).normal(size=(len(Y), 4))
CLASSIFIER = PartialLabelClassifier()


@pytest.mark.parametrize(
    "refuse",
    [
        lambda: list(StratifiedKFold(2).split(X, Y)),
        lambda: HalvingGridSearchCV(CLASSIFIER, {"alpha": [0.1, 1]}).fit(X, Y),
        lambda: HalvingRandomSearchCV(CLASSIFIER, {"alpha": [0.1, 1]}).fit(X, Y),
        lambda: cross_val_score(CLASSIFIER, X, sp.csr_array(Y)),
        lambda: cross_validate(CLASSIFIER, X, sp.csr_array(Y)),
        lambda: learning_curve(CLASSIFIER, X, sp.csr_array(Y)),
        lambda: validation_curve(CLASSIFIER, X, sp.csr_array(Y), param_name="alpha", param_range=[1]),
        lambda: TunedThresholdClassifierCV(CLASSIFIER).fit(X, Y),
        lambda: CalibratedClassifierCV(CLASSIFIER).fit(X, Y),
        lambda: RFECV(CLASSIFIER).fit(X, Y),
        lambda: SelectKBest(k=2).fit(X, Y),
        lambda: SelfTrainingClassifier(CLASSIFIER).fit(X, Y),
        lambda: BaggingClassifier(CLASSIFIER).fit(X, Y),
        lambda: VotingClassifier([("one", CLASSIFIER)]).fit(X, Y),
        lambda: StackingClassifier([("one", CLASSIFIER)]).fit(X, Y),
        lambda: RocCurveDisplay.from_estimator(clone(CLASSIFIER).fit(X, Y), X, Y),
        lambda: PrecisionRecallDisplay.from_estimator(clone(CLASSIFIER).fit(X, Y), X, Y),
        lambda: PartialDependenceDisplay.from_estimator(clone(CLASSIFIER).fit(X, Y), X, [0], target=0),
        lambda: train_test_split(X[:12], np.eye(12), stratify=np.eye(12)),
    ],
)
def test_what_the_page_says_is_refused(refuse):
    with pytest.raises((ValueError, TypeError, NotImplementedError)):
        refuse()


def test_what_the_page_says_works():
    folds = PartialLabelKFold(2, random_state=0)
    assert RFECV(CLASSIFIER, scoring=mean_average_precision_scorer, cv=folds).fit(X, Y).n_features_in_ == 4
    for search in (GridSearchCV, RandomizedSearchCV):
        options = {"n_iter": 2} if search is RandomizedSearchCV else {}
        fitted = search(CLASSIFIER, {"alpha": [0.1, 1]}, cv=folds, **options).fit(X, sp.csr_array(Y))
        assert np.isfinite(fitted.best_score_)
    assert train_test_split(X, sp.csr_array(Y))[2].shape == (30, 3)
    assert SelectFromModel(CLASSIFIER, max_features=2).fit(X, Y).transform(X).shape == (40, 2)
    assert RFE(CLASSIFIER, n_features_to_select=2).fit(X, Y).n_features_ == 2
    assert validation_curve(CLASSIFIER, X, Y, param_name="alpha", param_range=[1], cv=folds)[1].shape == (1, 2)
    assert len(learning_curve(CLASSIFIER, X, Y, cv=folds, train_sizes=[0.9])[2]) == 1
    fitted = clone(CLASSIFIER).fit(X, Y)
    assert permutation_importance(fitted, X, Y, n_repeats=1).importances.shape == (4, 1)
    # Strata of whole rows: every combination is a class, unknown entries included.
    train, _ = next(StratifiedShuffleSplit(1, test_size=0.5, random_state=0).split(X, Y))
    combinations, counts = np.unique(Y[train], axis=0, return_counts=True)
    assert len(combinations) == 4
    assert set(counts) == {5}


def test_the_loss_of_the_page_has_an_example_that_runs(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    result = doctest.testmod(importlib.import_module("prior_target"))
    assert result.attempted > 0
    assert result.failed == 0


def test_readme_prints_what_it_says():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    promised = re.findall(r"^print\(.*\) +# ([\d.]+)", code, flags=re.MULTILINE)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert promised
    assert printed.getvalue().split() == promised


def test_the_gallery_begins_with_the_quickstart(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "extensions"))
    key = importlib.import_module("gallery_order").ByUse("examples")
    names = [path.name for path in (ROOT / "examples").glob("plot_*.py")]
    in_order = sorted([*names, "plot_of_tomorrow.py"], key=key)
    assert in_order[0] == "plot_quickstart.py"
    assert in_order[-1] == "plot_of_tomorrow.py"


def test_links_of_the_readme_lead_somewhere():
    for document in ("README.md", "CONTRIBUTING.md"):
        targets = re.findall(r"\]\(([^)]+)\)", (ROOT / document).read_text(encoding="utf-8"))
        assert targets
        for target in targets:
            assert (ROOT / target).exists(), f"{document} links to {target}"


def test_changelog_names_this_version():
    release = skpartial.__version__.split(".dev")[0]
    assert re.search(rf"^{re.escape(release)}\b", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
