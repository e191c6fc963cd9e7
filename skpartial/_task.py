"""Build the training task of a solver from an estimator's parameters and validated data."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import torch
from numpy.typing import NDArray

from skpartial import heads, losses, solvers
from skpartial._alpha import resolve_alpha
from skpartial._checks import (
    check_flag,
    check_least,
    check_n_jobs,
    check_number,
    check_same_rows,
    check_whole,
    listed,
    wrong_value,
)
from skpartial._devices import choose_device, parse_device
from skpartial._fingerprint import fit_fingerprint
from skpartial._inputs import EncodedTarget, check_features, encode_target
from skpartial._processes import fitting_processes
from skpartial._rows import Rows
from skpartial._tensors import check_tensor
from skpartial._warnings import warn
from skpartial._weights import check_class_weight
from skpartial.exceptions import AmbiguousLabelsWarning
from skpartial.features._base import Features, compute_dtype
from skpartial.features._choice import as_features
from skpartial.features._moments import Spread
from skpartial.features._rows import take_rows
from skpartial.heads._ensemble import members_of_linear
from skpartial.labels._data import TrainingData
from skpartial.labels._forms import check_label_names
from skpartial.regularizers import Regularizer
from skpartial.relabeling import Relabeling
from skpartial.solvers import FullBatch, Minibatch, Solver
from skpartial.solvers._full_batch import WORKING_BYTES
from skpartial.training._checkpoints import CheckpointFolder
from skpartial.training._data import EntryWeights
from skpartial.training._problem import Problem, Validation

if TYPE_CHECKING:
    from skpartial.images._task import ImageTask

# Minimal share of rows without known labels for a warning, if the loss treats unknown labels as absent.
_SETTLED_ROWS = 1000
_MIN_EMPTY_SHARE = 0.5

__all__ = [
    "Rows",
    "check_input",
    "check_parameters",
    "features_options",
    "head_of",
    "hold_out",
    "is_settled",
    "load_images",
    "make_problem",
    "open_checkpoints",
    "predict_images",
    "resolve_shorthand",
    "resolve_solver",
    "warn_if_ambiguous",
]


def check_parameters(estimator: Any) -> None:
    """Raise an error for invalid hyperparameters of the estimator itself."""
    if not (isinstance(estimator.alpha, str) and estimator.alpha == "auto"):
        check_number(estimator, "alpha", estimator.alpha, "[0, inf)", "'auto' or a number of at least 0")
    precisions = ("auto", "float32", "float64") if estimator.backbone is None else ("auto", "float32", "bfloat16")
    if not isinstance(estimator.precision, str) or estimator.precision not in precisions:
        where = "on features" if estimator.backbone is None else "with a backbone"
        raise wrong_value(estimator, "precision", f"{listed(precisions)} {where}", estimator.precision)
    if not (isinstance(estimator.store_state, str) and estimator.store_state == "auto"):
        check_flag(estimator, "store_state", estimator.store_state, "True, False or 'auto'")
    check_flag(estimator, "warm_start", estimator.warm_start)
    if not isinstance(estimator.verbose, bool | np.bool_):
        check_whole(estimator, "verbose", estimator.verbose, 0, "a bool or a whole number of at least 0")
    check_n_jobs(estimator, estimator.n_jobs)
    estimator._check_parameters()
    parse_device(estimator.device)
    if estimator.validation_fraction is not None:
        _check_validation_fraction(estimator.validation_fraction)
    for name, kind in (("relabeling", Relabeling), ("regularizer", Regularizer)):
        value = getattr(estimator, name)
        if value is not None and not isinstance(value, kind):
            raise wrong_value(estimator, name, f"None or a skpartial {kind.__name__}", value)


def open_checkpoints(estimator: Any, seed: int, *data: Any) -> CheckpointFolder | None:
    """Open the folder with checkpoints of this fit, if the estimator has one."""
    directory = estimator.checkpoint_dir
    if directory is None:
        return None
    path = os.fspath(directory) if isinstance(directory, str | os.PathLike) else None
    if not isinstance(path, str) or not path or "\0" in path:
        raise wrong_value(estimator, "checkpoint_dir", "None or the path of a folder", directory)
    seeded = estimator.random_state is not None
    # Without a fixed random_state the fingerprint is of data and parameters only, and the checkpoint stores the seed.
    fingerprint = fit_fingerprint(estimator, seed if seeded else None, *data, **_resolved_parameters(estimator))
    try:
        return CheckpointFolder(directory, fingerprint, seeded=seeded)
    except RuntimeError as error:
        raise wrong_value(estimator, "checkpoint_dir", "a path whose home folder exists", directory) from error


def _resolved_parameters(estimator: Any) -> dict[str, Any]:
    """Resolve string parameters that do not depend on the data, and add further settings that identify a fit."""
    objects: dict[str, Any] = {"loss": losses.get(estimator.loss), "head": heads.get(estimator.head)}
    solver = estimator.solver
    if isinstance(solver, str) and solver != "auto":
        objects["solver"] = solver = solvers.get(solver)
    if estimator._chosen_alpha() is not None:
        objects["chosen_alpha"] = estimator._chosen_alpha()
    if estimator.relabeling is not None and estimator.relabeling.looks_ahead and isinstance(solver, Solver):
        # The number of epochs then changes the fit from its first epoch.
        objects["length"] = {name: getattr(solver, name) for name in solver.length_parameters()}
    return objects


def head_of(estimator: Any) -> heads.Head:
    """The head to train: the estimator's, adapted by the relabelling if there is one.

    Parameters
    ----------
    estimator : BasePartialLabelClassifier
        The estimator, with `head` and `relabeling`.

    Returns
    -------
    Head
        A value object.
    """
    head = heads.get(estimator.head)
    return head if estimator.relabeling is None else estimator.relabeling.adapt_head(head)


def load_images(estimator: Any, seed: int) -> ImageTask | None:
    """Load the network for images; None if X is features."""
    if estimator.backbone is None:
        return None
    # Import torchvision only if there are images.
    from skpartial import images
    from skpartial.images._network import FittedModule
    from skpartial.images._task import load_task

    backbone = images.get(estimator.backbone)
    continues = estimator.warm_start and hasattr(estimator, "n_iter_")
    if isinstance(backbone.model, FittedModule) and not continues:
        raise ValueError(
            f"The initial weights of the module {backbone.name} were not saved with the fine-tuned classifier: pass "
            "backbone=Backbone(module) again to train from the start, or set warm_start=True to continue from the "
            "fitted weights."
        )
    device, n_workers = choose_device(estimator.device, None), int(joblib.effective_n_jobs(estimator.n_jobs))
    return load_task(backbone, head_of(estimator), device, estimator.precision, n_workers, seed)


def check_input(estimator: Any, images: ImageTask | None, X: Any, *, reset: bool = False) -> Any:
    """Validate X as features, feature maps or images, according to the estimator's parameters."""
    if isinstance(X, torch.Tensor):
        X = check_tensor(X, "X")
    if images is not None:
        return images.source(X)
    try:
        return check_features(estimator, X, reset=reset, maps=head_of(estimator).takes_maps)
    except ValueError as error:
        from skpartial.images._sources import holds_images

        if getattr(X, "ndim", 1) < 3 and holds_images(X):
            raise ValueError(
                "X looks like images or their paths, but backbone=None takes features: set a network, such as "
                "backbone='resnet50', or extract features first with skpartial.ImageFeatures."
            ) from error
        raise


def predict_images(estimator: Any, X: Any, *, members: bool = False) -> NDArray[Any]:
    """Logits (n, L) of images under the fitted network, or (M, n, L) for the members of an ensemble."""
    from skpartial.images._task import predict

    device = choose_device(estimator.device, None, predicting=True)
    return predict(estimator.network_, X, device, int(joblib.effective_n_jobs(estimator.n_jobs)), members=members)


def features_options(estimator: Any, X: Any) -> dict[str, Any]:
    """Arguments of `as_features` according to the estimator's parameters."""
    if isinstance(estimator.solver, Solver):
        check_least(estimator.solver, max_resident_bytes=0.0)
    if isinstance(X, Features):
        dtype, device = X.dtype, X.device
    else:
        dtype = torch.float32 if estimator.backbone is not None else compute_dtype(X, estimator.precision)
        device = choose_device(estimator.device, X)
    budget = getattr(estimator.solver, "max_resident_bytes", None)
    return {"dtype": dtype, "device": device, "max_resident_bytes": budget}


def make_problem(
    estimator: Any,
    rows: Rows,
    *,
    seed: int,
    held_out: tuple[Any, Callable[[NDArray[Any]], float]] | None = None,
    images: ImageTask | None = None,
    alpha: float | None = None,
    incremental: bool = False,
) -> Problem:
    """Make the training task.

    Parameters
    ----------
    estimator : BasePartialLabelClassifier
        The estimator, whose hyperparameters are checked.
    rows : Rows
        Validated features, or images to train a network on, with labels, weights and a prior.
    seed : int
        Seed of all random numbers.
    held_out : tuple of features and callable, or None, default=None
        Held-out rows, and a function that scores their logits.
    images : ImageTask or None, default=None
        The network for images, if it is trained as a whole.
    alpha : float or None, default=None
        Penalty that an earlier fit chose for "auto".
    incremental : bool, default=False
        Whether the rows are one batch of a stream.

    Returns
    -------
    Problem
        The task, without a monitor or a start to continue from.
    """
    loss, target = losses.get(estimator.loss), rows.target
    loss.check(target.labels)
    check_parameters(estimator)
    if estimator.regularizer is not None:
        estimator.regularizer.check(target.labels)
    check_prior_is_used(estimator, loss, rows.prior)
    options = features_options(estimator, rows.X)

    def convert(part: Any) -> Features:
        return part if isinstance(part, Features) else as_features(part, **options)

    if not isinstance(rows.X, Features):
        rows = replace(rows, X=convert(rows.X))
    validation = None
    if held_out is not None:
        validation = Validation(convert(held_out[0]), held_out[1])
        # Fail before training, not after the first epoch, if the held-out rows cannot be scored.
        try:
            validation.score(np.zeros((validation.features.n_rows, target.labels.n_labels)))
        except ValueError as error:
            raise ValueError(
                "The held-out rows (y_val or validation_fraction) cannot be scored, because no label has both a "
                "known positive and a known negative among them: hold out more rows, or others."
            ) from error
    class_weight = check_class_weight(
        estimator.class_weight, target, loss.traits().unknown, rows.weights, options["dtype"]
    )
    head = head_of(estimator)
    if alpha is None or not isinstance(estimator.alpha, str):
        alpha = resolve_alpha(
            estimator.alpha, loss, head, rows, whole_network=images is not None, incremental=incremental
        )
    return Problem(
        features=rows.X,
        data=TrainingData(target.labels, prior=rows.prior),
        weights=EntryWeights(rows.weights, class_weight, options["device"], options["dtype"]),
        loss=loss,
        head=head,
        relabeling=estimator.relabeling,
        regularizer=estimator.regularizer,
        alpha=alpha,
        seed=seed,
        monitor=lambda record, parameters: False,
        show_batches=int(estimator.verbose) > 1,
        validation=validation,
        network=None if images is None else images.network_to_train,
        pretrained=images is not None and images.backbone.is_pretrained,
        spread=_spread_of(rows, incremental=incremental),
        incremental=incremental,
        processes=fitting_processes(),
    )


def is_settled(spread: Spread | None) -> bool:
    """Whether enough rows of a stream have been seen to fix the units of features and the value of "auto"."""
    return spread is not None and spread.n_rows >= _SETTLED_ROWS


def _spread_of(rows: Rows, *, incremental: bool) -> Spread | None:
    """The spread of a stream so far; of other rows if "auto" has measured it, and then for good."""
    if incremental:
        found = rows.earlier if rows.earlier is not None and is_settled(rows.earlier) else rows.spread
    elif "spread" in vars(rows):
        found = rows.spread._replace(n_rows=max(rows.spread.n_rows, _SETTLED_ROWS))
    else:
        return None
    # Equal rows tell no more about the units than one row does.
    return found if found.distance > 0 else found._replace(n_rows=min(found.n_rows, 1.0))


def check_prior_is_used(estimator: Any, loss: losses.Loss, prior: NDArray[Any] | None) -> None:
    """Raise an error if `label_prior` is passed but has no effect."""
    relabeling = estimator.relabeling
    if prior is None or loss.traits().uses_prior or (relabeling is not None and relabeling.uses_prior):
        return
    raise ValueError(
        f"label_prior is used by neither loss={estimator.loss!r} nor relabeling={relabeling!r}: omit it, or choose a "
        "relabelling that starts from it."
    )


def resolve_solver(solver: Any, problem: Problem) -> Solver:
    """The given solver; for "auto", the full-batch solver if it can solve the problem within its memory limit."""
    if not isinstance(solver, str) or solver != "auto":
        chosen = solvers.get(solver)
        chosen.check(problem)
        return chosen
    full = FullBatch()
    if full.refusal(problem) is not None or full.working_bytes(problem) > WORKING_BYTES:
        return Minibatch(schedule="cosine") if _needs_shrinking_steps(problem) else Minibatch()
    return full


def _needs_shrinking_steps(problem: Problem) -> bool:
    """Whether constant steps on minibatches would leave noise that costs more than it would take to remove it.

    They do so near the optimum, and for nonlinear heads, whose default steps are larger than those of linear heads.
    """
    if problem.regularizer is not None and problem.regularizer.refines:
        return True
    return problem.network is None and not problem.incremental and members_of_linear(problem.head) is None


def resolve_shorthand(name: str, value: str, parameters: list[str]) -> Any:
    """The object that a string stands for, for setting parameters of this object.

    Parameters
    ----------
    name : {"loss", "head", "solver"}
        Parameter of the estimator.
    value : str
        The string.
    parameters : list of str
        Parameters of the object to set.

    Returns
    -------
    Loss, Head or Solver
        Object with default parameters; for solver "auto", the only solver that has all these parameters.
    """
    if name != "solver":
        return losses.get(value) if name == "loss" else heads.get(value)
    if value != "auto":
        return solvers.get(value)
    matching = [kind for kind in (FullBatch, Minibatch) if set(parameters) <= set(kind().get_params())]
    if len(matching) != 1:
        named = ", ".join(f"solver__{parameter}" for parameter in parameters)
        known = {parameter for kind in (FullBatch, Minibatch) for parameter in kind().get_params()}
        for parameter in parameters:
            if parameter not in known:
                raise ValueError(f"Invalid parameter solver__{parameter}: neither FullBatch nor Minibatch has it.")
        why = "both solvers have" if matching else "no solver has all of"
        raise ValueError(
            f"solver='auto' cannot tell which solver is meant by {named}, as {why} these: also set solver=FullBatch() "
            "or solver=Minibatch()."
        )
    return matching[0]()


def hold_out(
    estimator: Any,
    X: Any,
    target: EncodedTarget,
    X_val: Any,
    y_val: Any,
    rng: np.random.RandomState,
    check: Callable[[Any], Any],
) -> tuple[NDArray[np.int64] | None, tuple[Any, Callable[[NDArray[Any]], float]] | None]:
    """Choose held-out rows: X_val and y_val, or a random fraction of the training rows.

    Parameters
    ----------
    estimator : BasePartialLabelClassifier
        The estimator, with `validation_fraction`.
    X : ndarray, csr_array or Tensor, shape (n, d), or ImageSource
        Validated training data.
    target : EncodedTarget
        Labels and classes.
    X_val, y_val
        Validation data as passed by the user, or None.
    rng : RandomState
        Random state that draws the rows.
    check : callable
        Function that validates `X_val` in the same way as X.

    Returns
    -------
    rows : ndarray of int64, or None
        Rows to train on; None means all.
    held_out : tuple of features and callable, or None
        Held-out rows, and a function that scores their logits.
    """
    if (X_val is None) != (y_val is None):
        raise ValueError("X_val and y_val belong together: pass both or neither.")
    if X_val is None:
        if estimator.validation_fraction is None:
            return None, None
        rows, held_rows = split_rows(X.shape[0], estimator.validation_fraction, rng)
        return rows, (take_rows(X, held_rows), estimator._scorer(target.labels.take(held_rows)))
    if estimator.validation_fraction is not None:
        raise ValueError("Pass either X_val and y_val or validation_fraction, not both.")
    classes = target.classes if target.binary else None
    labels = encode_target(estimator, y_val, name="y_val", classes=classes, matrix=not target.binary).labels
    held_X = check(X_val)
    check_same_rows(held_X.shape[0], labels.n_rows, "X_val", "y_val")
    if labels.n_labels != target.labels.n_labels:
        raise ValueError(f"y_val has {labels.n_labels} labels, but y has {target.labels.n_labels}.")
    check_label_names(target.labels.names, labels.names, "y_val")
    return None, (held_X, estimator._scorer(labels))


def _check_validation_fraction(fraction: Any) -> float:
    return check_number(None, "validation_fraction", fraction, "(0, 1)", "None or a number in (0, 1)")


def split_rows(n_rows: int, fraction: Any, rng: np.random.RandomState) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Training rows and held-out rows, each in ascending order."""
    share = _check_validation_fraction(fraction)
    n_held = round(share * n_rows)
    if not 0 < n_held < n_rows:
        raise ValueError(
            f"validation_fraction={fraction!r} of {n_rows} rows leaves {n_rows - n_held} to train on and {n_held} to "
            "validate on: both need at least one."
        )
    order = rng.permutation(n_rows)
    return np.sort(order[:-n_held]), np.sort(order[-n_held:])


def warn_if_ambiguous(estimator: Any, problem: Problem) -> bool:
    """Warn if y has no -1 and the loss ignores zeros, which the user may have meant as absent; returns whether so."""
    ambiguous = problem.loss.traits().unknown == "ignore" and not problem.labels.has_absent
    if not problem.labels.n_known and problem.relabeling is None and not problem.incremental:
        warn(
            "y holds no known label (1 is present, -1 absent, 0 unknown), so nothing is learned. If 0 means absent, "
            "pass skpartial.labels.recode(y, present=1, absent=0).",
            AmbiguousLabelsWarning,
        )
        return True
    if ambiguous:
        assumes = estimator._unknown_in_scores == "absent"
        cure = "a loss that assumes negatives, such as 'an'" if assumes else "SinglePositiveClassifier"
        warn(
            f"y holds no -1: {type(estimator).__name__}(loss={estimator.loss!r}) reads 0 as unknown, so no label has "
            "negatives and all weights stay zero. If 0 means absent, pass skpartial.labels.recode(y, present=1, "
            f"absent=0); if only positives were recorded, use {cure}.",
            AmbiguousLabelsWarning,
        )
    _warn_if_empty(estimator, problem)
    return ambiguous


def _warn_if_empty(estimator: Any, problem: Problem) -> None:
    """Warn about many rows without any known label, if all their labels would be treated as absent."""
    traits, n_rows = problem.loss.traits(), problem.labels.n_rows
    if traits.unknown != "absent" or traits.rows_need_present or problem.relabeling is not None:
        return
    # With a single label, rows without it are the ordinary case.
    if problem.labels.n_labels == 1:
        return
    empty = int((problem.labels.count(axis=1) == 0).sum())
    if _MIN_EMPTY_SHARE * n_rows <= empty < n_rows:
        if problem.labels.has_absent:
            cure = (
                "If they are not annotated, add relabeling=skpartial.relabeling.Propagation(), use a loss that ignores "
                "unknown entries, or leave these rows out; if nothing is present in them, set their labels to -1."
            )
        else:
            cure = (
                "That is right for background rows, such as random sites; set their labels to -1 to say so. If nobody "
                "annotated them, leave them out."
            )
        warn(
            f"{empty} of {n_rows} rows of y have no known label, and loss={estimator.loss!r} treats all their labels "
            f"as absent. {cure}",
            AmbiguousLabelsWarning,
        )
