"""Base class of both classifiers: scikit-learn's contract and the fitted state."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import Tags, check_random_state

from skpartial import heads
from skpartial._checks import wrong_value
from skpartial._chunks import is_chunked, pairs_of, read_chunks
from skpartial._documentation import Documented
from skpartial._fit import FitPlan, check_same_parameters, shift_intercepts
from skpartial._inputs import EncodedTarget, encode_target
from skpartial._predictions import Predictions
from skpartial._processes import fitting_processes
from skpartial._rows import Rows
from skpartial._sklearn_compat import has_callbacks
from skpartial._task import (
    check_input,
    check_parameters,
    hold_out,
    is_settled,
    load_images,
    open_checkpoints,
    resolve_shorthand,
)
from skpartial._unchanged import estimators_in, unchanged_on_failure
from skpartial._versioned import VersionedPickles
from skpartial.features._moments import Spread
from skpartial.labels._forms import check_label_names, check_same_names, is_vector
from skpartial.labels._frames import missing_entries
from skpartial.losses import Loss
from skpartial.regularizers import Regularizer
from skpartial.relabeling import Relabeling
from skpartial.solvers import Minibatch, Solver
from skpartial.training._problem import Monitor, Solution

__all__ = ["BasePartialLabelClassifier"]


class BasePartialLabelClassifier(
    VersionedPickles, CallbackSupportMixin, Predictions, Documented, ClassifierMixin, BaseEstimator, ABC
):
    """Base class of the classifiers: validates, encodes labels, picks the solver, fits and exposes fitted state."""

    n_features_in_: int
    n_iter_: int
    history_: list[dict[str, Any]]
    classes_: NDArray[Any]

    @abstractmethod
    def __init__(
        self,
        loss: str | Loss,
        *,
        backbone: Any,
        head: str | heads.Head,
        relabeling: Relabeling | None,
        regularizer: Regularizer | None,
        solver: str | Solver,
        alpha: float | Literal["auto"],
        class_weight: Any,
        validation_fraction: float | None,
        warm_start: bool,
        device: str | torch.device,
        precision: str,
        n_jobs: int | None,
        checkpoint_dir: str | None,
        store_state: bool | Literal["auto"],
        random_state: Any,
        verbose: int,
    ) -> None:
        self.loss = loss
        self.backbone = backbone
        self.head = head
        self.relabeling = relabeling
        self.regularizer = regularizer
        self.solver = solver
        self.alpha = alpha
        self.class_weight = class_weight
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.device = device
        self.precision = precision
        self.n_jobs = n_jobs
        self.checkpoint_dir = checkpoint_dir
        self.store_state = store_state
        self.random_state = random_state
        self.verbose = verbose

    # --------------------------------------------------------------------------------------------------- training

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        label_prior: Any = None,
    ) -> Self:
        """Train on features and a label matrix.

        Parameters
        ----------
        X : array-like, DataFrame, sparse matrix or torch.Tensor, shape (n, d), or maps of shape (n, C, h, w)
            Features, or feature maps for a head that pools them. With a backbone: images, as arrays, tensors, paths or
            any sequence of images (see :class:`skpartial.images.Backbone`). Memory maps and tensors, on the CPU or on
            CUDA, are used in place. Computation is in float64 for float64 input (and integers that float32 cannot
            hold), else in float32. An iterable of chunks, a pyarrow Parquet file or a Hugging Face data set is
            written to a temporary file first (see :doc:`/user_guide/beyond_memory`).
        y : array-like, DataFrame, sparse matrix or torch.Tensor, shape (n, L) or (n,)
            Labels: 1 present, -1 absent, 0 unknown. In a sparse matrix the stored 1 and -1 are known; masked entries
            of a masked array are unknown. 1-D y, or an array of one column, is plain binary classification
            with two classes; pass one label with unknown entries as a DataFrame of one column or a sparse matrix. Like
            X, y may come in chunks. It is None if X yields pairs of features and labels.
        sample_weight : array-like of shape (n,) or (n, L), or None, default=None
            Non-negative weights of rows or entries; weighted means divide by their sum.
        X_val, y_val : like X and y, default=None
            Held-out rows to choose the epoch, instead of `validation_fraction`.
        label_prior : array-like or DataFrame of shape (n, L), or None, default=None
            Prior probabilities that labels are positive, from another model or an expert; NaN where there is none. Only
            accepted if the loss or the relabelling uses them.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        ValueError
            If an argument has the wrong shape or values, or if the solver does not support the loss.

        Warns
        -----
        UnfittableLabelsWarning
            If labels have no known entry, or only one sign under a loss that ignores unknown entries.
        ConvergenceWarning
            If the solver stops before `tol` is reached.
        """
        # This encloses the callbacks: they are told of a failure before the attributes are restored.
        with unchanged_on_failure(self), read_chunks(X, y, X_val, y_val, images=self.backbone is not None) as read:
            X, y, X_val, y_val = read
            return self._fit(X, y, sample_weight, X_val=X_val, y_val=y_val, label_prior=label_prior)

    @with_callbacks
    def _fit(self, X: Any, y: Any, sample_weight: Any, *, X_val: Any, y_val: Any, label_prior: Any) -> Self:
        check_parameters(self)
        goes_on = self.warm_start and hasattr(self, "n_iter_")
        seed = self._draw_seed()
        folder = open_checkpoints(self, seed, X, y, sample_weight, X_val, y_val, label_prior)
        if folder is not None:
            seed = folder.seed(seed)
        images = load_images(self, seed)
        check = partial(check_input, self, images)
        checked = check(X, reset=not goes_on)
        target = encode_target(self, y, matrix=goes_on and not self._binary)
        given = Rows.check(checked, target, sample_weight, label_prior)
        readable, skipped = (None, None) if images is None else images.readable(given.X)
        usable = given.take(readable).rescaled()
        chosen, held_out = hold_out(self, usable.X, usable.target, X_val, y_val, np.random.RandomState(seed), check)

        plan = FitPlan.make(
            self, usable.take(chosen), seed=seed, held_out=held_out, images=images, alpha=self._chosen_alpha()
        )
        if goes_on:
            self._check_same_shape("warm_start=True", target, plan.stages[-1].problem.features.n_features)
            plan.go_on()
        passed = {"sample_weight": sample_weight, "label_prior": label_prior}
        metadata = {name: value for name, value in passed.items() if value is not None} or None
        context = self._init_callback_context(max_subtasks=plan.max_steps)
        context.call_on_fit_task_begin(estimator=self, X=usable.X, y=y, metadata=metadata)
        solution = plan.solve(self._monitor(plan, context, usable.X, y, metadata), folder)
        plan.accept(solution, shift=self._find_shift(plan, solution))
        if skipped is not None:
            self.skipped_ = skipped
        if chosen is not None or readable is not None:
            within = np.arange(given.target.labels.n_rows) if readable is None else readable
            self.train_rows_ = within if chosen is None else within[chosen]
        context.call_on_fit_task_end(estimator=self, X=usable.X, y=y, metadata=metadata, reconstruction_attributes={})
        if folder is not None and plan.stages[-1].problem.processes.is_first:
            folder.remove()
        return self

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one epoch on a batch of rows, starting from the current parameters.

        Takes minibatch steps, with the settings of `solver` if it is a `Minibatch`. The optimiser's moments live until
        the next `fit`. The units of features in training, and the value of ``alpha="auto"``, are those of a `fit`
        before, or of the first 1,000 rows of the stream. `validation_fraction` is not used.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`. Chunks of an iterable or a Parquet file are each trained on once, as they are read;
            `sample_weight` may come in chunks, too.
        classes : array-like, default=None
            For 1-D y the two classes, needed in the first call if its y does not hold both; for a label matrix the
            names of the labels, optional. Numbers are turned into text, as the columns of a DataFrame are.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        ValueError
            As in `fit`; also if the labels do not match those of earlier calls, or if the loss keeps a state for every
            row or follows a schedule of epochs.
        """
        with unchanged_on_failure(self):
            if not is_chunked(X):
                return self._partial_fit(X, y, classes, sample_weight)
            for rows, labels, weights in pairs_of(X, y, sample_weight):
                self._partial_fit(rows, labels, classes, weights)
            return self

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> Self:
        check_parameters(self)
        if self.backbone is not None:
            raise ValueError("partial_fit trains heads on features: with a backbone use fit and warm_start=True.")
        if self.relabeling is not None:
            raise ValueError(f"partial_fit cannot relabel with {self.relabeling!r}, which needs all rows: use fit.")
        first = not hasattr(self, "n_iter_")
        X = check_input(self, None, X, reset=first)
        target = encode_target(
            self, y, classes=self._classes_of_stream(y, classes, first), matrix=not first and not self._binary
        )
        names = None if classes is None or target.binary else _as_label_names(classes)
        known = getattr(self, "_spread", None)
        earlier = None if known is None else Spread(**known)
        rows = replace(Rows.check(X, target, sample_weight).rescaled(), earlier=earlier)
        check_same_names(target.labels.names, names, "classes", "y", "pass list(y.columns)")
        if not first:
            self._check_same_shape("partial_fit", target, self.n_features_in_)
        # The first rows of a stream may be too few to tell their spread.
        settled = not first and (earlier is None or is_settled(earlier))
        settings = self.solver.get_params() if isinstance(self.solver, Minibatch) else {}
        one_epoch = Minibatch(**{**settings, "max_epochs": 1, "patience": None})
        plan = FitPlan.make(
            self,
            rows,
            seed=self._draw_seed(),
            solver=one_epoch,
            incremental=True,
            alpha=self.alpha_ if settled and self._alpha_is_auto else None,
            warns=first,
        )
        (stage,) = plan.stages
        problem = stage.problem
        if problem.loss.traits().scheduled:
            raise ValueError(
                f"partial_fit cannot train {problem.loss!r}, which changes from epoch to epoch: a call does not say "
                "which epoch it belongs to. Use fit."
            )
        for part in problem.parts.values():
            if any(spec.per_row for spec in part.state_spec().values()):
                raise ValueError(
                    f"partial_fit cannot train {part!r}, which keeps a state for every training row: use fit."
                )
        if not first:
            start = self._parameters()
            if repr(problem.head) != repr(self._head):
                check_same_parameters(problem, start, self._head, "partial_fit", "call fit, or partial_fit of a clone,")
            problem.start = shift_intercepts(self._head, start, -self._shift)
            problem.first_epoch = self.n_iter_ + 1
            # Moments from equal rows say nothing about directions in which rows differ.
            if earlier is None or earlier.distance > 0:
                problem.optimizer_state = getattr(self, "_optimizer_state", None)
            problem.previous_states = dict(getattr(self, "_states", {}))
        solution = plan.solve(problem.monitor)
        shift, more = self._shift_of_stream(plan, solution, first=first)
        plan.accept(solution, names=names, past=None if first else self.history_, shift=shift, more=more)
        return self

    def _classes_of_stream(self, y: Any, classes: Any, first: bool) -> NDArray[Any] | None:
        """The two classes of 1-D y in a stream, if known; refuses classes that differ from those of earlier calls."""
        if classes is not None:
            _check_classes(classes)
        if not first:
            expected = self.classes_ if self._binary else self.label_names_
            if classes is not None:
                given = (np.asarray(classes) if self._binary else _as_label_names(classes)).tolist()
                if set(given) != set(expected.tolist()):
                    raise ValueError(
                        f"classes={classes!r} differ from the classes of earlier calls, {expected.tolist()}."
                    )
                if not self._binary and given != expected.tolist():
                    raise ValueError(
                        f"classes must name the labels in the order of earlier calls, {expected.tolist()}."
                    )
            return self.classes_ if self._binary else None
        if classes is None or not is_vector(y):
            return None
        try:
            known = np.unique(classes)
        except TypeError:
            raise ValueError(f"classes must be values of one type that can be sorted, got {classes!r}.") from None
        if len(known) != 2:
            raise ValueError(
                f"classes holds {len(known)} values: Only binary classification is supported if y is 1-D or an "
                "array of one column. To name labels, pass y as a matrix, or one label as a DataFrame."
            )
        return known

    def _check_parameters(self) -> None:
        """Check the hyperparameters that only this class has."""

    def _chosen_alpha(self) -> float | None:
        """The penalty that replaces "auto", if a search has chosen one."""
        return None

    def _find_shift(self, plan: FitPlan, solution: Solution) -> float | NDArray[Any]:
        """Number to add to the logits of a solution, so that a label is predicted where its logit is above 0."""
        return 0.0

    def _shift_of_stream(
        self, plan: FitPlan, solution: Solution, *, first: bool
    ) -> tuple[float | NDArray[Any], dict[str, Any]]:
        """The same after a part of a stream, with attributes that the next part needs."""
        return 0.0 if first else self._shift, {}

    def _draw_seed(self) -> int:
        try:
            rng = check_random_state(self.random_state)
        except (ValueError, TypeError):
            what = "None, a whole number in [0, 2**32 - 1] or a numpy.random.RandomState"
            raise wrong_value(self, "random_state", what, self.random_state) from None
        return fitting_processes().of_first(int(rng.randint(np.iinfo(np.int32).max)))

    def _monitor(self, plan: FitPlan, context: Any, X: Any, y: Any, metadata: Any) -> Monitor:
        """Report every epoch to scikit-learn's callbacks, and print it if `verbose`."""
        known = plan.attributes()
        prints = bool(self.verbose) and plan.stages[0].problem.processes.is_first

        def monitor(record: dict[str, Any], parameters: Callable[[], dict[str, Any]]) -> bool:
            if prints:
                numbers = " ".join(f"{key}={value:.6g}" for key, value in record.items())
                print(f"[{type(self).__name__}] {numbers}")
            if not has_callbacks(self):
                return False

            def fitted() -> dict[str, Any]:
                of_parameters = plan.parameter_attributes(parameters(), known["_head_context"])
                return known | of_parameters | {"n_iter_": 1}

            task = context.subcontext(task_name="epoch")
            task.call_on_fit_task_begin(estimator=self, X=X, y=y, metadata=metadata)
            return bool(
                task.call_on_fit_task_end(estimator=self, X=X, y=y, metadata=metadata, reconstruction_attributes=fitted)
            )

        return monitor

    # --------------------------------------------------------------------------------------------- fitted state

    def _check_same_shape(self, what: str, target: EncodedTarget, n_features: int) -> None:
        shape = (n_features, target.labels.n_labels)
        if shape != self._fitted_shape or target.binary != self._binary:
            raise ValueError(
                f"{what} continues a fit with {self._fitted_shape[0]} features and {self._fitted_shape[1]} labels, "
                f"but X has {shape[0]} features and y has {shape[1]} labels."
            )
        check_label_names(self.label_names_, target.labels.names, "y")

    def __getstate__(self) -> dict[str, Any]:
        """State to pickle, also for machines without the fit's device.

        A network that the user passed as a module is stored once, as fitted.
        """
        state: dict[str, Any] = super().__getstate__()
        state |= {name: _on_cpu(state[name]) for name in ("_optimizer_state", "_states") if name in state}
        if "network_" in state:
            from skpartial.images._backbones import sharing_weights

            state["backbone"] = sharing_weights(state["backbone"], state["network_"])
        return state

    def __copy__(self) -> Self:
        """A shallow copy of the whole state, unlike a pickle."""
        copied = type(self).__new__(type(self))
        copied.__dict__.update(vars(self))
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A deep copy of the whole state, unlike a pickle."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(copy.deepcopy(vars(self), memo))
        return copied

    # ------------------------------------------------------------------------------------------------ parameters

    def set_params(self, **params: Any) -> Self:
        """Set parameters, including those of loss, head and solver.

        Parameters
        ----------
        **params : dict
            Such as ``alpha=0.1`` or ``loss__gamma=3``. If the loss, head or solver is a string, it is replaced by the
            object that it stands for before parameters of that object are set.

        Returns
        -------
        self
            The estimator.

        Raises
        ------
        ValueError
            If a parameter does not exist; then none is set.
        """
        with unchanged_on_failure(*estimators_in(self, *params.values())):
            for name in ("loss", "head", "solver"):
                nested = [key.removeprefix(f"{name}__") for key in params if key.startswith(f"{name}__")]
                value = params.get(name, getattr(self, name))
                if nested and isinstance(value, str):
                    params[name] = resolve_shorthand(name, value, nested)
            result: Self = super().set_params(**params)
            return result

    def __sklearn_tags__(self) -> Tags:
        """Tags: multi-label and binary, dense and sparse features."""
        tags: Tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.classifier_tags.multi_class = False
        tags.target_tags.two_d_labels = True
        tags.input_tags.sparse = True
        return tags


def _check_classes(classes: Any) -> None:
    """Refuse `classes` of a stream that are not a list, or of which some are missing."""
    try:
        shape = np.shape(classes)
    except ValueError:
        shape = None
    if shape is None or len(shape) != 1:
        got = f"an array of shape {shape}" if shape else repr(classes)
        raise ValueError(f"classes must be None or a list of the classes or label names, got {got}.")
    if missing_entries(np.asarray(classes, dtype=object)).any():
        raise ValueError(f"classes must not hold missing values, got {classes!r}: give every class or label a name.")


def _as_label_names(classes: Any) -> NDArray[Any]:
    """Names of labels as text, like the columns of a DataFrame; refuses duplicates."""
    names = [str(name) for name in np.asarray(classes, dtype=object).tolist()]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"classes names the label {twice[0]!r} more than once: give every label its own name.")
    return np.array(names, dtype=object)


def _on_cpu(value: Any) -> Any:
    """Copies of nested lists, tuples and dicts with their tensors on the CPU."""
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_on_cpu(each) for each in value)
    return value
