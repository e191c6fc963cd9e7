"""The estimator that both classifiers share: scikit-learn's contract, and fitted state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_consistent_length

from skpartial import heads
from skpartial._fingerprint import rows_key
from skpartial._inputs import EncodedTarget, check_label_names, check_sample_weight, encode_target
from skpartial._predictions import Predictions
from skpartial._sklearn_compat import has_callbacks
from skpartial._stages import Stage, make_stages, solve_stages, state_arrays
from skpartial._task import (
    Rows,
    check_input,
    hold_out,
    load_images,
    make_problem,
    open_checkpoints,
    resolve_shorthand,
    warn_if_ambiguous,
)
from skpartial._warnings import warn
from skpartial.exceptions import UnfittableLabelsWarning
from skpartial.losses import Loss, TrainingSet
from skpartial.regularizers import Regularizer
from skpartial.relabeling import Relabeling
from skpartial.solvers import Minibatch, Solver
from skpartial.training._problem import LabelSource, Monitor, Problem, Solution

if TYPE_CHECKING:
    from skpartial.images._task import ImageTask

__all__ = ["BasePartialLabelClassifier"]

_STORE_BYTES = 100_000_000


class BasePartialLabelClassifier(CallbackSupportMixin, Predictions, ClassifierMixin, BaseEstimator, ABC):
    """Shared part of the classifiers: validates, encodes labels, picks the solver, fits and exposes fitted state."""

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
        alpha: float,
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

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None) -> Self:
        """Train on features and a label matrix.

        Parameters
        ----------
        X : array-like, DataFrame, sparse matrix or torch.Tensor, shape (n, d), or maps of shape (n, C, h, w)
            Features, or feature maps for a head that pools them; with a backbone images, as arrays, tensors, paths or
            whatever gives them by row (see :class:`skpartial.images.Backbone`). Memory maps and tensors, on the CPU or
            on CUDA, are used where they are; float64 (and integers that float32 cannot hold) are computed in float64,
            everything else in float32.
        y : array-like, DataFrame, sparse matrix or torch.Tensor, shape (n, L) or (n,)
            Labels: 1 present, -1 absent, 0 unknown. Of a sparse matrix the stored 1 and -1 are known. 1-D y with two
            classes is plain binary classification.
        sample_weight : array-like of shape (n,) or (n, L), or None, default=None
            Non-negative weights of rows or of entries; weighted means divide by their sum.
        X_val, y_val : like X and y, default=None
            Held-out rows by which the epoch is chosen, instead of `validation_fraction`.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        ValueError
            If an argument has the wrong shape or values, or the solver cannot serve the loss; one sentence says which.

        Warns
        -----
        UnfittableLabelsWarning
            If labels have nothing known, or one sign only under a loss that ignores unknown entries.
        ConvergenceWarning
            If the solver stops before `tol` is reached.
        """
        goes_on = self.warm_start and hasattr(self, "n_iter_")
        seed = self._draw_seed()
        folder = open_checkpoints(self, seed, X, y, sample_weight, X_val, y_val)
        if folder is not None:
            seed = folder.seed(seed)
        images = load_images(self, seed)
        check = partial(check_input, self, images)
        checked = check(X, reset=not goes_on)
        target = encode_target(self, y, matrix=goes_on and not self._binary)
        given = Rows.check(checked, target, sample_weight)
        readable, skipped = (None, None) if images is None else images.readable(given.X)
        usable = given.take(readable).rescaled()
        chosen, held_out = hold_out(self, usable.X, usable.target, X_val, y_val, np.random.RandomState(seed), check)
        train = usable.take(chosen)

        stages, ambiguous = self._prepare(train, seed=seed, held_out=held_out, images=images)
        problem = stages[0].problem
        if goes_on:
            self._check_same_shape("warm_start=True", target, problem.features.n_features)
            # What was trained before goes on; what had to come before that is done.
            stages = stages[-1:]
            problem = stages[0].problem
            problem.start = self._parameters() if problem.network is None else state_arrays(self.network_)
            per_row = any(spec.per_row for spec in problem.loss.state_spec().values())
            # What was learned of rows is of use for these rows only, in this order.
            if not per_row or getattr(self, "_state_rows", None) == rows_key(train.X):
                problem.previous_state = getattr(self, "_loss_state", None)
        self._start_fit(target, problem.features.n_features)
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        context = self._init_callback_context(
            max_subtasks=sum(stage.solver.max_steps(stage.problem) for stage in stages)
        )
        context.call_on_fit_task_begin(estimator=self, X=usable.X, y=y, metadata=metadata)
        solution = solve_stages(stages, self._monitor(context, usable.X, y, metadata, images), folder)
        if skipped is not None:
            self.skipped_ = skipped
        if chosen is not None or readable is not None:
            within = np.arange(given.target.labels.n_rows) if readable is None else readable
            self.train_rows_ = within if chosen is None else within[chosen]
        if self.warm_start:
            self._loss_state, self._state_rows = solution.state, rows_key(train.X)
        self._accept(stages[-1].problem, solution, ambiguous=ambiguous, images=images)
        context.call_on_fit_task_end(estimator=self, X=usable.X, y=y, metadata=metadata, reconstruction_attributes={})
        if folder is not None:
            folder.remove()
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one epoch on a batch of rows, going on from what was fitted before.

        Minibatch steps are taken, with the settings of `solver` where it is a `Minibatch`; the optimiser's moments
        live until the next `fit` and are not pickled. `validation_fraction` plays no part.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array-like, default=None
            For 1-D y the two classes, needed in the first call; for a label matrix the names of the labels, optional.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        ValueError
            As in `fit`; also if the labels do not match those of earlier calls, if the loss keeps a state for every
            row, which later batches could not find, or if it follows a schedule of epochs, which a call is not.
        """
        if self.backbone is not None:
            raise ValueError("partial_fit trains heads on features: with a backbone use fit and warm_start=True.")
        first = not hasattr(self, "n_iter_")
        X = check_input(self, None, X, reset=first)
        known = None if first else self.classes_
        if first and classes is not None and np.asarray(y).ndim == 1:
            known = np.unique(classes)
            if len(known) != 2:
                raise ValueError(f"classes holds {len(known)} values: Only binary classification is supported.")
        if not first and classes is not None:
            expected = self.classes_ if self._binary else self.label_names_
            if set(np.asarray(classes).tolist()) != set(expected.tolist()):
                raise ValueError(f"classes={classes!r} are not those of earlier calls: {expected.tolist()}.")
        if self.relabeling is not None:
            raise ValueError(f"partial_fit cannot relabel with {self.relabeling!r}, which looks at all rows: use fit.")
        target = encode_target(
            self,
            y,
            classes=known if known is not None and known.ndim == 1 else None,
            matrix=not first and not self._binary,
        )
        check_consistent_length(X, target.labels)
        if not first:
            self._check_same_shape("partial_fit", target, self.n_features_in_)
        weights = check_sample_weight(sample_weight, X, target)
        solver = self.solver if isinstance(self.solver, Minibatch) else Minibatch()
        problem = make_problem(self, X, target, weights, seed=self._draw_seed())
        problem.incremental = True
        if first and not target.binary:
            warn_if_ambiguous(self, problem)
        if problem.loss.traits().scheduled:
            raise ValueError(
                f"partial_fit cannot train {problem.loss!r}, which changes from epoch to epoch: a call does not say "
                "which epoch it belongs to. Use fit."
            )
        if any(spec.per_row for spec in problem.loss.state_spec().values()):
            raise ValueError(
                f"partial_fit cannot train {problem.loss!r}, which keeps a state for every training row: use fit."
            )
        if not first:
            problem.start = self._parameters()
            problem.first_epoch = self.n_iter_ + 1
            problem.optimizer_state = getattr(self, "_optimizer_state", None)
            problem.previous_state = getattr(self, "_loss_state", None)
        one_epoch = Minibatch(**{**solver.get_params(), "max_epochs": 1, "patience": None})
        solution = one_epoch.solve(problem)
        if first:
            names = None if classes is None or target.binary else np.asarray(classes, dtype=object)
            self._start_fit(target, self.n_features_in_, names)
        past = [] if first else self.history_
        self._finish_fit(problem, solution)
        self.history_ = past + solution.history
        self.n_iter_ = len(self.history_)
        self._optimizer_state = solution.optimizer_state
        self._loss_state = solution.state
        return self

    def _draw_seed(self) -> int:
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _prepare(
        self,
        rows: Rows,
        *,
        seed: int,
        held_out: tuple[Any, Callable[[NDArray[Any]], float]] | None = None,
        images: ImageTask | None = None,
    ) -> tuple[list[Stage], bool]:
        """What is to be solved for a fit on validated rows, and whether a warning of ambiguous labels was given."""
        stages = make_stages(self, rows, seed=seed, held_out=held_out, images=images)
        ambiguous = not rows.target.binary and warn_if_ambiguous(self, stages[0].problem)
        return stages, ambiguous

    def _accept(
        self, problem: Problem, solution: Solution, *, ambiguous: bool, images: ImageTask | None = None
    ) -> None:
        """Take what a fit found as fitted state, and warn of labels that it could not fit."""
        self._finish_fit(problem, solution, images)
        if solution.unfitted.any() and not ambiguous:
            self._warn_unfitted(solution.unfitted)

    def _monitor(self, context: Any, X: Any, y: Any, metadata: Any, images: ImageTask | None) -> Monitor:
        """Report every epoch to scikit-learn's callbacks, and in words if `verbose`."""

        def monitor(record: dict[str, Any], parameters: Callable[[], dict[str, Any]]) -> bool:
            if self.verbose:
                numbers = " ".join(f"{key}={value:.6g}" for key, value in record.items())
                print(f"[{type(self).__name__}] {numbers}")
            if not has_callbacks(self):
                return False
            task = context.subcontext(task_name="epoch")
            task.call_on_fit_task_begin(estimator=self, X=X, y=y, metadata=metadata)
            return bool(
                task.call_on_fit_task_end(
                    estimator=self,
                    X=X,
                    y=y,
                    metadata=metadata,
                    reconstruction_attributes=lambda: self._parameter_attributes(parameters(), images) | {"n_iter_": 1},
                )
            )

        return monitor

    # --------------------------------------------------------------------------------------------- fitted state

    def _start_fit(self, target: EncodedTarget, n_features: int, names: NDArray[Any] | None = None) -> None:
        n_labels = target.labels.n_labels
        self.classes_ = target.classes
        self._binary = target.binary
        given = target.labels.names if names is None else names
        if given is not None and len(given) != n_labels:
            raise ValueError(f"classes names {len(given)} labels, but y has {n_labels}.")
        self.label_names_ = np.arange(n_labels).astype(str).astype(object) if given is None else given
        self._fitted_shape = (n_features, n_labels)
        for name in (
            "best_epoch_",
            "network_",
            "skipped_",
            "train_rows_",
            "_optimizer_state",
            "_loss_state",
            *getattr(self, "_results", ()),
        ):
            self.__dict__.pop(name, None)
        self._results: tuple[str, ...] = ()
        self._head = clone(heads.get(self.head))

    def _finish_fit(self, problem: Problem, solution: Solution, images: ImageTask | None = None) -> None:
        self.__dict__.update(self._parameter_attributes(solution.parameters, images))
        self.history_ = solution.history
        self.n_iter_ = solution.n_iter
        if solution.best_epoch is not None:
            self.best_epoch_ = solution.best_epoch
        large = problem.labels.n_rows * problem.labels.n_labels * 8 > _STORE_BYTES
        if self.store_state is True or (self.store_state == "auto" and not large):
            source = LabelSource(problem.labels, problem.device)
            training = None
            if solution.logits is not None:
                training = TrainingSet(problem.labels.n_rows, source.rows, solution.logits)
            results: dict[str, Any] = problem.loss.fitted_attributes(solution.state, training)
            if problem.relabeling is not None:
                results["relabeled_"] = solution.labels.values
            self.__dict__.update(results)
            self._results = tuple(results)

    def _check_same_shape(self, what: str, target: EncodedTarget, n_features: int) -> None:
        shape = (n_features, target.labels.n_labels)
        if shape != self._fitted_shape or target.binary != self._binary:
            raise ValueError(
                f"{what} goes on from a fit with {self._fitted_shape[0]} features and {self._fitted_shape[1]} labels, "
                f"but X has {shape[0]} features and y has {shape[1]} labels."
            )
        check_label_names(self.label_names_, target.labels.names, "y")

    def _warn_unfitted(self, unfitted: NDArray[np.bool_]) -> None:
        names = self.label_names_[unfitted]
        shown = ", ".join(map(str, names[:3])) + (", ..." if len(names) > 3 else "")
        warn(
            f"{len(names)} of {len(unfitted)} labels cannot be fitted ({shown}): nothing is known of them, or only one "
            "sign. They keep zero weights and a prior intercept. Annotate both signs, drop these labels, stratify the "
            "folds with skpartial.model_selection.PartialLabelKFold, or choose a loss that reads unknown as absent.",
            UnfittableLabelsWarning,
        )

    def _parameter_attributes(self, parameters: dict[str, Any], images: ImageTask | None = None) -> dict[str, Any]:
        """Fitted attributes of parameters: a linear head's have scikit-learn's names, a network comes as a module."""
        attributes: dict[str, Any] = {}
        if images is not None:
            whole = any(name.startswith("body.") for name in parameters)
            named = parameters if whole else {f"head.{name}": value for name, value in parameters.items()}
            attributes["network_"] = images.fitted(self._head.build(*self._fitted_shape), named)
            parameters = {name[5:]: value for name, value in named.items() if name.startswith("head.")}
        if isinstance(self._head, heads.Linear):
            return attributes | {
                "coef_": parameters["weight"],
                "intercept_": parameters["bias"],
                "head_parameters_": None,
            }
        return attributes | {"head_parameters_": parameters}

    def __getstate__(self) -> dict[str, Any]:
        """State without what only a running `partial_fit` needs."""
        state: dict[str, Any] = super().__getstate__()
        return {key: value for key, value in state.items() if key not in ("_optimizer_state", "_loss_state")}

    # ------------------------------------------------------------------------------------------------ parameters

    def set_params(self, **params: Any) -> Self:
        """Set parameters, those of loss, head and solver included.

        Parameters
        ----------
        **params : dict
            Such as ``alpha=0.1`` or ``loss__gamma=3``. Where the loss, head or solver is a shorthand, it is replaced by
            the object that it stands for before parameters of that object are set.

        Returns
        -------
        self
            The estimator.

        Raises
        ------
        ValueError
            If there is no such parameter.
        """
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
