"""One fit, from validated rows through stages and a solution to fitted attributes.

`fit`, `partial_fit` and the joint fits of a search all make a plan, solve it, and accept the solution. This module
fixes where each check belongs in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from torch import nn

from skpartial import heads, losses
from skpartial._alpha import warn_if_uneven
from skpartial._fingerprint import rows_key
from skpartial._rows import Rows
from skpartial._seeding import seeded
from skpartial._state import Stateful, TrainingContext
from skpartial._task import make_problem, resolve_solver, warn_if_ambiguous
from skpartial._warnings import running_search, warn
from skpartial.exceptions import UnfittableLabelsWarning
from skpartial.heads._ensemble import members_of_linear
from skpartial.heads._module import build_head
from skpartial.solvers import Solver
from skpartial.training._checkpoints import CheckpointFolder
from skpartial.training._problem import Monitor, Problem, Solution

if TYPE_CHECKING:
    from skpartial.images._task import ImageTask

__all__ = ["FitPlan", "Stage", "check_same_parameters", "shift_intercepts"]

# With `store_state="auto"`, results of the size of y are kept up to this many bytes.
_STORE_BYTES = 100_000_000
# Attributes that belong to one fit, in addition to the parameters; accepting another fit removes them.
_OF_ONE_FIT = (
    "_shift",
    "best_epoch_",
    "member_coef_",
    "member_intercept_",
    "network_",
    "skipped_",
    "train_rows_",
    "_optimizer_state",
    "_recorded",
    "_spread",
    "_states",
    "_state_rows",
)


@dataclass
class Stage:
    """A problem and its solver.

    Parameters
    ----------
    name : str
        "start" if the head is trained without the regulariser, "head" or "all".
    problem : Problem
        The training task.
    solver : Solver
        Its solver.
    """

    name: str
    problem: Problem
    solver: Solver


@dataclass
class FitPlan:
    """Plan of a fit.

    Parameters
    ----------
    estimator : BasePartialLabelClassifier
        Provides the hyperparameters, and receives the fitted attributes.
    rows : Rows
        Training rows.
    stages : list of Stage
        One stage; more if a network trains its head first, or if a regulariser refines a trained head.
    images : ImageTask or None
        The network, where X holds images.
    ambiguous : bool
        Whether a warning about ambiguous labels was given; then none is given about labels that cannot be fitted.
    """

    estimator: Any
    rows: Rows
    stages: list[Stage]
    images: ImageTask | None
    ambiguous: bool

    @classmethod
    def make(
        cls,
        estimator: Any,
        rows: Rows,
        *,
        seed: int,
        held_out: tuple[Any, Callable[[NDArray[Any]], float]] | None = None,
        images: ImageTask | None = None,
        solver: Solver | None = None,
        incremental: bool = False,
        alpha: float | None = None,
        warns: bool = True,
    ) -> FitPlan:
        """Plan a fit on validated rows.

        Parameters
        ----------
        estimator, rows, images
            As in the class; X of the rows may already be a solver's features.
        seed : int
            Seed for all random numbers.
        held_out : tuple of X and callable, or None, default=None
            Rows for validation, and the function that scores their logits.
        solver : Solver or None, default=None
            Replaces the estimator's solver.
        incremental : bool, default=False
            Whether these rows are one part of a stream.
        alpha : float or None, default=None
            Value of "auto" from an earlier part of the stream.
        warns : bool, default=True
            Whether to warn about ambiguous labels and uneven features.

        Returns
        -------
        FitPlan
            The plan; nothing is trained yet, and the estimator is unchanged.
        """
        how = estimator.solver if solver is None else solver

        refines = estimator.regularizer is not None and estimator.regularizer.refines and not incremental
        stages: list[Stage] = []

        def add(
            name: str, rows: Rows, held: Any, solver: Any, images: ImageTask | None = None, *, regularized: bool = True
        ) -> Problem:
            problem = make_problem(
                estimator,
                rows,
                seed=seed,
                held_out=None if held_out is None else (held, held_out[1]),
                images=images,
                alpha=stages[0].problem.alpha if stages else alpha,
                incremental=incremental,
            )
            if not regularized:
                problem.regularizer = None
            stages.append(Stage(name, problem, resolve_solver(solver, problem)))
            return problem

        def add_head(rows: Rows, held: Any, solver: Any) -> None:
            if refines:
                start = add("start", rows, held, "auto", regularized=False)
                rows = replace(rows, X=start.features)
                held = None if start.validation is None else start.validation.features
            add("head", rows, held, solver)

        held = None if held_out is None else held_out[0]
        if images is None:
            add_head(rows, held, how)
        else:
            finetune = images.backbone.finetune
            batches = images.batches(rows.X, keep=True)
            held_batches = None if held is None else images.batches(held, keep=True)
            if finetune != "all":
                features = replace(rows, X=images.features(batches))
                held_features = None if held_batches is None else images.features(held_batches)
                if finetune == "head":
                    add_head(features, held_features, how)
                else:
                    add("head", features, held_features, "auto", regularized=not refines)
            if finetune != "head":
                add("all", replace(rows, X=batches), held_batches, how, images)
        cls._check_agreement(stages)
        ambiguous = warns and not rows.target.binary and warn_if_ambiguous(estimator, stages[0].problem)
        if warns and images is None and isinstance(estimator.alpha, str):
            warn_if_uneven(stages[0].problem.features, rows.row_weight)
        return cls(estimator, rows, stages, images, ambiguous)

    @staticmethod
    def _check_agreement(stages: list[Stage]) -> None:
        """Refuse a fit that differs between processes, judged by a few numbers."""
        problem, solver = stages[-1].problem, stages[-1].solver
        if problem.processes.size == 1:
            return
        numbers = [
            ("rows of X", problem.features.n_rows),
            ("features", problem.features.n_features),
            ("labels", problem.labels.n_labels),
            ("known entries", float(np.asarray(problem.labels.count(axis=0)).sum())),
            ("a penalty", problem.alpha),
            ("steps at most", solver.max_steps(problem)),
        ]
        problem.processes.check_same(
            numbers,
            "fit must be called with the same arguments in every process, but process 0 has {first} and process {rank} "
            "has {other} ({what}).",
        )

    def go_on(self) -> None:
        """Start where the estimator's last fit ended, with its per-row state if the rows are the same."""
        estimator, stage = self.estimator, self.stages[-1]
        # The stages before the last one are done.
        self.stages, problem = [stage], stage.problem
        start = estimator._parameters() if problem.network is None else _arrays_of(estimator.network_)
        if problem.network is None and repr(problem.head) != repr(estimator._head):
            check_same_parameters(problem, start, estimator._head, "warm_start=True", "set warm_start=False")
        problem.start = shift_intercepts(problem.head, start, -estimator._shift)
        known = getattr(estimator, "_states", {})
        for name, state in known.items():
            part = problem.parts.get(name)
            if part is not None and not (_is_of_rows(part) and self._rows_key != estimator._state_rows):
                problem.previous_states[name] = state

    @cached_property
    def _rows_key(self) -> str:
        """A key that identifies the rows of this fit."""
        return rows_key(self.rows.X)

    @property
    def max_steps(self) -> int:
        """Largest number of reports to the monitor."""
        return sum(stage.solver.max_steps(stage.problem) for stage in self.stages)

    def solve(self, monitor: Monitor, folder: CheckpointFolder | None = None) -> Solution:
        """Solve the stages in order, each starting from the best head and states of the one before.

        Parameters
        ----------
        monitor : Monitor
            Called after every epoch or step.
        folder : CheckpointFolder or None, default=None
            Folder in which the state is saved after every epoch.

        Returns
        -------
        Solution
            Solution of the last stage, with the history of all stages.
        """
        history: list[dict[str, Any]] = []
        solution: Solution | None = None
        for stage in self.stages:
            stage.problem.monitor = monitor
            stage.problem.checkpoint = None if folder is None else folder.stage(stage.name)
            if solution is not None:
                prefix = "" if stage.problem.network is None else "head."
                stage.problem.start = {f"{prefix}{name}": value for name, value in solution.parameters.items()}
                stage.problem.previous_states = solution.states
            solution = stage.solver.solve(stage.problem)
            named = {"stage": stage.name} if len(self.stages) > 1 else {}
            history += [named | record for record in solution.history]
        assert solution is not None
        solution.history, solution.n_iter = history, len(history)
        return solution

    def attributes(self, names: NDArray[Any] | None = None) -> dict[str, Any]:
        """Fitted attributes that are known before training.

        Parameters
        ----------
        names : ndarray or None, default=None
            Names of the labels where y has none.

        Returns
        -------
        dict
            Fitted attributes.
        """
        target, problem = self.rows.target, self.stages[0].problem
        n_labels = target.labels.n_labels
        given = target.labels.names if names is None else names
        if given is not None and len(given) != n_labels:
            raise ValueError(f"classes names {len(given)} labels, but y has {n_labels}.")
        return {
            "classes_": target.classes,
            "label_names_": np.arange(n_labels).astype(str).astype(object) if given is None else given,
            "_binary": target.binary,
            "alpha_": problem.alpha,
            "_fitted_shape": (problem.features.n_features, n_labels),
            "_head": clone(problem.head),
            "_head_context": problem.head_context,
        }

    def parameter_attributes(self, parameters: dict[str, Any], context: heads.HeadContext) -> dict[str, Any]:
        """Fitted attributes for parameters: scikit-learn's names for a linear head, a module for a network.

        Parameters
        ----------
        parameters : dict of str to ndarray
            As returned by a solver.
        context : HeadContext
            The context that the head was built from.

        Returns
        -------
        dict
            Fitted attributes.
        """
        attributes: dict[str, Any] = {}
        head = self.stages[-1].problem.head
        if self.images is not None:
            whole = any(name.startswith("body.") for name in parameters)
            named = parameters if whole else {f"head.{name}": value for name, value in parameters.items()}
            attributes["network_"] = self.images.fitted(head, context, named)
            parameters = {name[5:]: value for name, value in named.items() if name.startswith("head.")}
        if isinstance(head, heads.Linear):
            return attributes | {
                "coef_": parameters["weight"],
                "intercept_": parameters["bias"],
                "head_parameters_": None,
            }
        if members_of_linear(head):
            shape = head.n_members, context.n_labels
            weight, bias = parameters["weight"].reshape(*shape, -1), parameters["bias"].reshape(shape)
            return attributes | {
                "coef_": weight.mean(axis=0),
                "intercept_": bias.mean(axis=0),
                "member_coef_": weight,
                "member_intercept_": bias,
                "head_parameters_": None,
            }
        return attributes | {"head_parameters_": parameters}

    def accept(
        self,
        solution: Solution,
        *,
        names: NDArray[Any] | None = None,
        past: list[dict[str, Any]] | None = None,
        shift: float | NDArray[Any] = 0.0,
        more: dict[str, Any] | None = None,
    ) -> None:
        """Set the fitted attributes all at once, and warn about labels that could not be fitted.

        Parameters
        ----------
        solution : Solution
            Solution of the last stage.
        names : ndarray or None, default=None
            Names of the labels where y has none.
        past : list of dict, or None, default=None
            The history of a fit that this one continues; its names and results stay, and its warnings were given.
        shift : float or ndarray of shape (L,), default=0.0
            Number to add to all logits in predictions.
        more : dict or None, default=None
            Further attributes of the estimator.
        """
        estimator, problem = self.estimator, self.stages[-1].problem
        found: dict[str, Any] = {"alpha_": problem.alpha} if past is not None else self.attributes(names)
        context = solution.head_context
        parameters = shift_intercepts(problem.head, solution.parameters, shift)
        found |= {"_head_context": context, "_shift": shift, "_alpha_is_auto": isinstance(estimator.alpha, str)}
        found |= self.parameter_attributes(parameters, context)
        found |= more or {}
        found["history_"] = [*(past or []), *solution.history]
        found["n_iter_"] = len(found["history_"])
        if solution.best_epoch is not None:
            found["best_epoch_"] = solution.best_epoch
        results = self._results(problem, solution)
        found |= results | {"_results": tuple(results)}
        if estimator.warm_start or past is not None or problem.incremental:
            of_rows = {name for name in solution.states if _is_of_rows(problem.parts[name])}
            if estimator.store_state is False:
                # So that pickling the estimator in between changes nothing.
                solution.states = {name: state for name, state in solution.states.items() if name not in of_rows}
            found |= {"_states": solution.states, "_state_rows": self._rows_key if of_rows else None}
        if problem.spread is not None:
            found["_spread"] = problem.spread._asdict()
        if problem.incremental:
            found["_optimizer_state"] = solution.optimizer_state
        gone = {*_OF_ONE_FIT, *getattr(estimator, "_results", ())}
        kept = {name: value for name, value in vars(estimator).items() if name not in gone}
        estimator.__dict__ = kept | found
        if past is None and not problem.incremental and solution.unfitted.any() and not self.ambiguous:
            warn_unfitted(estimator.label_names_[solution.unfitted], len(solution.unfitted), problem.loss)

    def _results(self, problem: Problem, solution: Solution) -> dict[str, Any]:
        """Fitted attributes of the loss, regulariser and relabelling, unless they are too large to keep."""
        store, large = self.estimator.store_state, problem.labels.n_rows * problem.labels.n_labels * 8 > _STORE_BYTES
        if not (not large if isinstance(store, str) else store):
            return {}
        context = TrainingContext(
            given=problem.data,
            current=solution.data,
            epoch=solution.best_epoch or solution.n_iter,
            n_features=problem.features.n_features,
            device=problem.device,
            predictor=solution.predictor,
        )
        results: dict[str, Any] = {}
        if problem.relabeling is not None:
            results["labels_in_use_"] = solution.data.labels.values
            if solution.data.targets is not None:
                results["targets_in_use_"] = solution.data.targets
        for name, part in problem.parts.items():
            results |= part.fitted_attributes(solution.states.get(name), context)
        return results


def shift_intercepts(head: heads.Head, parameters: dict[str, Any], shift: float | NDArray[Any]) -> dict[str, Any]:
    """Parameters of linear heads, or of a network with one, with a number added to all logits, or one per label.

    Other heads have no such parameters: there predictions add it to the logits.
    """
    is_linear = isinstance(head, heads.Linear) or members_of_linear(head)
    names = {"bias", "head.bias"} if np.any(shift) and is_linear else set()

    def shifted(bias: NDArray[Any]) -> NDArray[Any]:
        # Intercepts of the members follow each other.
        by_label = bias.reshape(-1, np.size(shift)) + np.asarray(shift, dtype=bias.dtype)
        return by_label.reshape(bias.shape)

    return {name: shifted(value) if name in names else value for name, value in parameters.items()}


def check_same_parameters(
    problem: Problem, start: Mapping[str, NDArray[Any]], fitted: heads.Head, what: str, cure: str
) -> None:
    """Refuse to continue a fit with a head whose parameters have other names or shapes.

    Parameters
    ----------
    problem : Problem
        The problem to be solved, with the new head.
    start : mapping of str to ndarray
        The fitted parameters.
    fitted : Head
        The fitted head.
    what, cure : str
        For the message: what continues the fit, and how to start again.
    """
    with seeded(problem.seed):
        built = build_head(problem.head, problem.head_context).arrays()
    if {name: np.shape(array) for name, array in built.items()} != {n: np.shape(a) for n, a in start.items()}:
        raise ValueError(
            f"{what} continues a fit with head={fitted!r}, whose parameters are not those of {problem.head!r}: {cure} "
            "to train the new head from the start."
        )


def _is_of_rows(part: Stateful) -> bool:
    """Whether a part keeps a state per training row."""
    return any(map(attrgetter("per_row"), part.state_spec().values()))


def warn_unfitted(names: NDArray[Any], n_labels: int, loss: losses.Loss) -> None:
    """Warn about labels that could not be fitted, with advice for the loss and the folds in use."""
    shown = ", ".join(map(str, names[:3])) + (", ..." if len(names) > 3 else "")
    if loss.traits().unknown == "absent":
        why, cures = "they have no known positive, or only positives", ["record positives", "drop these labels"]
    else:
        why, cures = "they have no known entry, or only one sign", ["annotate both signs", "drop these labels"]
    search = running_search()
    if search is not None and search.in_fold:
        where = "cannot be fitted in a fold"
        if search.stratified:
            cures += ["take fewer folds"]
        else:
            # A worker process cannot tell which folds these are.
            unless = ", unless it made these" if search.stratified is None else ""
            cures += [f"stratify the folds with skpartial.model_selection.PartialLabelKFold{unless}"]
        more = " Other folds may have such labels, too; the warning is given once."
    else:
        where, more = "cannot be fitted", ""
    if loss.traits().unknown == "ignore":
        cures += ["choose a loss that treats unknown as negative"]
    advice = ", ".join(cures[:-1]) + ", or " + cures[-1]
    warn(
        f"{len(names)} of {n_labels} labels {where} ({shown}): {why}. They get a prior intercept only, whatever X "
        f"holds. {advice[0].upper()}{advice[1:]}.{more}",
        UnfittableLabelsWarning,
    )


def _arrays_of(module: nn.Module) -> dict[str, NDArray[Any]]:
    """Parameters and buffers of a module as arrays."""
    return {name: np.asarray(tensor.detach().cpu().numpy()) for name, tensor in module.state_dict().items()}
