"""From an estimator's parameters and validated data to the training task that a solver takes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_consistent_length

from skpartial import heads, losses, solvers
from skpartial._devices import choose_device
from skpartial._inputs import EncodedTarget, check_class_weight, check_features, check_label_names, encode_target
from skpartial.exceptions import AmbiguousLabelsWarning
from skpartial.regularizers import Regularizer
from skpartial.relabeling import Relabeling
from skpartial.solvers import FullBatch, Minibatch, Solver
from skpartial.solvers._features import as_features, compute_dtype
from skpartial.solvers._problem import EntryWeights, Problem, Validation

# Beyond this, "auto" prefers minibatches: a fixed number, so that the choice does not depend on the machine.
_FULL_BATCH_BYTES = 4 << 30

__all__ = [
    "check_parameters",
    "hold_out",
    "make_problem",
    "resolve_shorthand",
    "resolve_solver",
    "warn_if_ambiguous",
]


def check_parameters(estimator: Any) -> None:
    """Refuse hyperparameters of the estimator itself that have no meaning."""
    alpha = estimator.alpha
    if not isinstance(alpha, Real) or isinstance(alpha, bool) or not 0 <= float(alpha) < float("inf"):
        raise ValueError(f"alpha must be a number of at least 0, got {alpha!r}.")
    if estimator.precision not in ("auto", "float32", "float64"):
        raise ValueError(f"precision must be 'auto', 'float32' or 'float64', got {estimator.precision!r}.")
    if estimator.store_state not in (True, False, "auto"):
        raise ValueError(f"store_state must be True, False or 'auto', got {estimator.store_state!r}.")
    if estimator.backbone is not None:
        raise ValueError(
            f"backbone={estimator.backbone!r} is not supported: this version trains on features. Extract them first, "
            "and leave backbone=None."
        )
    if estimator.checkpoint_dir is not None:
        raise ValueError(
            "checkpoint_dir is not supported: this version trains on features in memory. Leave checkpoint_dir=None."
        )
    for name, kind in (("relabeling", Relabeling), ("regularizer", Regularizer)):
        value = getattr(estimator, name)
        if value is not None and not isinstance(value, kind):
            raise ValueError(f"{name} must be None or a skpartial {kind.__name__}, got {value!r}.")


def make_problem(
    estimator: Any,
    X: Any,
    target: EncodedTarget,
    sample_weight: NDArray[Any] | None,
    *,
    seed: int,
    held_out: tuple[Any, Callable[[NDArray[Any]], float]] | None = None,
) -> Problem:
    """Make the training task.

    Parameters
    ----------
    estimator : BasePartialLabelClassifier
        Gives the hyperparameters, which are checked.
    X : ndarray, csr_array or Tensor, shape (n, d)
        Validated features.
    target : EncodedTarget
        Labels and classes.
    sample_weight : ndarray of shape (n,) or (n, L), or None
        Validated weights.
    seed : int
        Of all random numbers.
    held_out : tuple of features and callable, or None, default=None
        Rows for validation, and how their logits are scored.

    Returns
    -------
    Problem
        Without a monitor, and without anything to go on from.
    """
    loss = losses.get(estimator.loss)
    loss.check(target.labels)
    check_parameters(estimator)
    device = choose_device(estimator.device, X)
    dtype = compute_dtype(X, estimator.precision)
    if isinstance(estimator.solver, Solver):
        estimator.solver._check_numbers(max_resident_bytes=0.0)
    budget = getattr(estimator.solver, "max_resident_bytes", None)
    validation = None
    if held_out is not None:
        validation = Validation(as_features(held_out[0], dtype=dtype, device=device), held_out[1])
        # A held-out set that cannot be scored is told before training, not after the first epoch.
        validation.score(np.zeros((held_out[0].shape[0], target.labels.n_labels)))
    class_weight = check_class_weight(estimator.class_weight, target, loss.traits().unknown, sample_weight)
    return Problem(
        features=as_features(X, dtype=dtype, device=device, max_resident_bytes=budget),
        labels=target.labels,
        weights=EntryWeights(sample_weight, class_weight, device, dtype),
        loss=loss,
        head=heads.get(estimator.head),
        relabeling=estimator.relabeling,
        regularizer=estimator.regularizer,
        alpha=float(estimator.alpha),
        seed=seed,
        monitor=lambda record, parameters: False,
        validation=validation,
    )


def resolve_solver(solver: Any, problem: Problem) -> Solver:
    """The solver that was asked for, or for "auto" the full-batch one where it can serve the problem within memory."""
    if not isinstance(solver, str) or solver != "auto":
        chosen = solvers.get(solver)
        chosen.check(problem)
        return chosen
    full = FullBatch()
    if full.refusal(problem) is not None or full.working_bytes(problem) > _FULL_BATCH_BYTES:
        return Minibatch()
    return full


def resolve_shorthand(name: str, value: str, parameters: list[str]) -> Any:
    """The object that a string stands for, when parameters of that object are set.

    Parameters
    ----------
    name : {"loss", "head", "solver"}
        The estimator's parameter.
    value : str
        Its shorthand.
    parameters : list of str
        The parameters of the object that are to be set.

    Returns
    -------
    Loss, Head or Solver
        With default parameters. For solver "auto" the only solver that has all of these parameters.
    """
    if name != "solver":
        return losses.get(value) if name == "loss" else heads.get(value)
    if value != "auto":
        return solvers.get(value)
    having = [kind for kind in (FullBatch, Minibatch) if set(parameters) <= set(kind().get_params())]
    if len(having) != 1:
        raise ValueError(
            f"solver='auto' cannot tell which solver is meant by solver__{parameters[0]}: set solver to FullBatch() or "
            "Minibatch() as well."
        )
    return having[0]()


def hold_out(
    estimator: Any, X: Any, target: EncodedTarget, X_val: Any, y_val: Any, rng: np.random.RandomState
) -> tuple[NDArray[np.int64] | None, tuple[Any, Callable[[NDArray[Any]], float]] | None]:
    """Rows by which the epoch is chosen: those passed, or a fraction of the training rows.

    Parameters
    ----------
    estimator : BasePartialLabelClassifier
        Gives `validation_fraction`.
    X : ndarray, csr_array or Tensor, shape (n, d)
        Validated features.
    target : EncodedTarget
        Labels and classes.
    X_val, y_val
        As passed by the user, or None.
    rng : RandomState
        Draws the rows.

    Returns
    -------
    rows : ndarray of int64, or None
        What is left to train on; None is all.
    held_out : tuple of features and callable, or None
        Held-out rows, and how their logits are scored.
    """
    if (X_val is None) != (y_val is None):
        raise ValueError("X_val and y_val belong together: pass both or neither.")
    if X_val is None:
        if estimator.validation_fraction is None:
            return None, None
        rows, held_rows = split_rows(X.shape[0], estimator.validation_fraction, rng)
        return rows, (X[held_rows], estimator._scorer(target.labels.take(held_rows)))
    if estimator.validation_fraction is not None:
        raise ValueError("Pass either X_val and y_val or validation_fraction, not both.")
    classes = target.classes if target.binary else None
    labels = encode_target(estimator, y_val, name="y_val", classes=classes, matrix=not target.binary).labels
    held_X = check_features(estimator, X_val, reset=False, maps=heads.get(estimator.head).takes_maps)
    check_consistent_length(held_X, labels)
    if labels.n_labels != target.labels.n_labels:
        raise ValueError(f"y_val has {labels.n_labels} labels, but y has {target.labels.n_labels}.")
    if target.labels.names is not None:
        check_label_names(target.labels.names, labels.names, "y_val")
    return None, (held_X, estimator._scorer(labels))


def split_rows(n_rows: int, fraction: Any, rng: np.random.RandomState) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Training and held-out rows, both in order."""
    if not isinstance(fraction, Real) or isinstance(fraction, bool) or not 0 < float(fraction) < 1:
        raise ValueError(f"validation_fraction must be None or a number in (0, 1), got {fraction!r}.")
    n_held = round(float(fraction) * n_rows)
    if not 0 < n_held < n_rows:
        raise ValueError(
            f"validation_fraction={fraction!r} of {n_rows} rows leaves {n_rows - n_held} to train on and {n_held} to "
            "validate on: both need at least one."
        )
    order = rng.permutation(n_rows)
    return np.sort(order[:-n_held]), np.sort(order[-n_held:])


def warn_if_ambiguous(estimator: Any, problem: Problem, *, stacklevel: int = 4) -> bool:
    """Warn of a matrix without -1 where 0 would be read otherwise than its author may have meant."""
    ambiguous = problem.loss.traits().unknown == "ignored" and not problem.labels.has_absent
    if ambiguous:
        warnings.warn(
            f"y holds no -1, so {type(estimator).__name__} knows of no absence and every label keeps zero weights: 0 "
            "means unknown. If 0 means absent, pass 2 * y - 1; if only presences were recorded, use "
            "SinglePositiveClassifier or loss='an'.",
            AmbiguousLabelsWarning,
            stacklevel=stacklevel,
        )
    return ambiguous
