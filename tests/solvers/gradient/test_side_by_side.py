"""Candidates trained side by side end where each of them would end alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from skpartial.features._choice import as_features
from skpartial.heads import AveragePooling
from skpartial.labels import LabelMatrix
from skpartial.losses import (
    ROLE,
    AssumeNegative,
    AsymmetricLoss,
    Hill,
    IgnoreUnknown,
    LargeLoss,
    PairwiseRanking,
    PartialBCE,
    PseudoNegative,
)
from skpartial.regularizers import Regularizer
from skpartial.relabeling import Relabeling
from skpartial.solvers import Minibatch
from skpartial.solvers._base import solve_tasks
from skpartial.solvers.gradient._linear_pass import LinearPass
from skpartial.training import TrainingData
from skpartial.training._problem import Validation


@pytest.fixture
def problem(partial_data, make_problem):
    """Makes problems that share features, labels and weights."""
    X, Y = partial_data

    def make(X=X, Y=Y, dtype=torch.float64, weight=None, class_weight=None):
        features = as_features(5 * X + 1 if not sp.issparse(X) else X, dtype=dtype, device=torch.device("cpu"))

        def one(loss, alpha=1e-3, **more):
            settings = {"weight": weight, "class_weight": class_weight, "seed": 3, **more}
            return make_problem(features, Y, loss, alpha=alpha, **settings)

        return one

    return make


@pytest.fixture
def widths(monkeypatch):
    """How many heads each pass moved."""
    found = []
    run = LinearPass.run
    monkeypatch.setattr(LinearPass, "run", lambda self, *args: found.append(len(self.learners)) or run(self, *args))
    return found


def solver(**parameters):
    return Minibatch(**{"batch_size": 16, "max_epochs": 3, **parameters})


def check(tasks, widths, sizes, rtol=1e-12):
    """Solve alone and together, in groups of these sizes; returns the solutions."""
    alone = [solver.solve(problem) for solver, problem in tasks]
    widths.clear()
    together = solve_tasks(tasks)
    assert sorted(set(widths)) == sorted(set(sizes))
    for found, expected, (_, problem) in zip(together, alone, tasks, strict=True):
        for name in ("weight", "bias"):
            scale = np.abs(expected.parameters[name]).max()
            assert found.parameters[name].dtype == expected.parameters[name].dtype
            np.testing.assert_allclose(found.parameters[name], expected.parameters[name], rtol=rtol, atol=rtol * scale)
        assert found.n_iter == expected.n_iter == len(found.history)
        for record, other in zip(found.history, expected.history, strict=True):
            assert list(record) == list(other)
            assert record["epoch"] == other["epoch"]
            assert record["loss"] == pytest.approx(other["loss"], rel=rtol)
        np.testing.assert_array_equal(found.unfitted, expected.unfitted)
        assert (found.stopped, found.best_epoch, found.states) == (expected.stopped, None, {})
        assert found.data is problem.data
        rows = torch.tensor([5, 0, 7])
        torch.testing.assert_close(
            found.predictor.logits(rows), expected.predictor.logits(rows), rtol=10 * rtol, atol=10 * rtol
        )
    return together


SMOOTHINGS = [AssumeNegative(label_smoothing=0.05 * k, unknown_weight=1 - 0.2 * k) for k in range(4)]


@pytest.mark.parametrize("weights", [None, "rows", "entries", "classes"])
@pytest.mark.parametrize(
    "losses",
    [
        SMOOTHINGS,
        [IgnoreUnknown(), PartialBCE(gamma=1), PartialBCE(gamma=-1), AssumeNegative()],
        [AssumeNegative(eps=1e-5 * (1 + k)) for k in range(3)],
        [LargeLoss(delta=0.05 * k) for k in range(3)],
        [PairwiseRanking(), PairwiseRanking()],
        [AsymmetricLoss(), Hill(), LargeLoss("correct", delta=0.1)],
    ],
    ids=lambda losses: losses[-1].__class__.__name__ + str(len(losses)),
)
def test_losses_and_penalties(problem, partial_data, widths, losses, weights):
    rng = np.random.default_rng(0)
    Y = partial_data[1]
    weight = {"rows": rng.exponential(size=len(Y)), "entries": rng.exponential(size=Y.shape)}.get(weights)
    one = problem(weight=weight, class_weight=rng.exponential(size=(5, 3)) if weights == "classes" else None)
    tasks = [(solver(), one(loss, alpha=10.0**-k)) for k, loss in enumerate(losses)]
    solutions = check(tasks, widths, [len(losses)])
    assert not np.allclose(solutions[0].parameters["weight"], solutions[1].parameters["weight"], rtol=1e-3)


def test_each_has_rates_and_an_optimiser_of_its_own(problem, widths):
    one = problem()
    solvers = [
        solver(learning_rate=0.1),
        solver(learning_rate=0.01, schedule="cosine"),
        solver(warm_up=0.3),
        solver(optimizer="adamw", clip_norm=1e-3),
        solver(optimizer="sgd", momentum=0.5),
        solver(optimizer="sgd", momentum=0.0, learning_rate=0.3),
    ]
    check([(each, one(SMOOTHINGS[1])) for each in solvers], widths, [len(solvers)])


@pytest.mark.parametrize("X_of", [lambda X: sp.csr_array(X), lambda X: X], ids=["sparse", "float32"])
def test_kinds_of_features(problem, partial_data, widths, X_of):
    X = X_of(partial_data[0])
    one = problem(X=X, dtype=torch.float64 if sp.issparse(X) else torch.float32)
    tasks = [(solver(), one(loss)) for loss in SMOOTHINGS]
    check(tasks, widths, [4], rtol=1e-12 if sp.issparse(X) else 1e-4)


def test_a_label_without_both_signs(problem, partial_data, widths):
    Y = partial_data[1].copy()
    Y[:, 2] = np.abs(Y[:, 2])
    one = problem(Y=Y)
    (found, _) = check([(solver(), one(loss)) for loss in (IgnoreUnknown(), PartialBCE())], widths, [2])
    assert found.unfitted.tolist() == [False, False, True, False, False]
    assert not found.parameters["weight"][2].any()


def test_candidates_are_trained_in_blocks_of_bounded_size(problem, widths, monkeypatch):
    one = problem()
    n_labels, n_features = 5, one(IgnoreUnknown()).features.n_features
    monkeypatch.setattr("skpartial.solvers.gradient._side_by_side._BYTES", 3 * 4 * 8 * n_labels * (n_features + 1))
    tasks = [(solver(), one(IgnoreUnknown(), alpha=0.1 * k)) for k in range(7)]
    check(tasks, widths, [3, 1])


@pytest.mark.parametrize("entries", [1, 200])
def test_rows_prepared_in_chunks(problem, widths, monkeypatch, entries):
    monkeypatch.setattr("skpartial.solvers.gradient._linear_pass._ENTRIES", entries)
    one = problem()
    check([(solver(), one(loss)) for loss in SMOOTHINGS], widths, [4])


def test_monitors(problem):
    """Each hears of its own epochs, with its own parameters, and stops for itself."""
    one, heard = problem(), {}

    def monitor(name, last):
        def tell(record, parameters):
            heard.setdefault(name, []).append((record["epoch"], record["loss"], parameters()["weight"]))
            return record["epoch"] == last

        return tell

    tasks = [
        (solver(max_epochs=5), one(loss, monitor=monitor(k, last)))
        for k, (loss, last) in enumerate(zip(SMOOTHINGS, (2, 9, 4, 9)))
    ]
    alone = [solver.solve(problem) for solver, problem in tasks]
    expected, heard = heard, {}
    together = solve_tasks(tasks)
    for k, n_epochs in enumerate((2, 5, 4, 5)):
        assert [record[0] for record in heard[k]] == list(range(1, n_epochs + 1))
        assert (together[k].n_iter, together[k].stopped) == (n_epochs, n_epochs < 5)
        for record, other in zip(heard[k], expected[k], strict=True):
            assert record[1] == pytest.approx(other[1], rel=1e-12)
            np.testing.assert_allclose(record[2], other[2], rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(
            together[k].parameters["weight"], alone[k].parameters["weight"], rtol=1e-10, atol=1e-14
        )


def test_all_may_stop(problem):
    one = problem()
    tasks = [(solver(), one(loss, monitor=lambda record, parameters: True)) for loss in SMOOTHINGS]
    assert [solution.n_iter for solution in solve_tasks(tasks)] == [1, 1, 1, 1]


def test_a_diverging_loss_is_an_error(problem, partial_data):
    one = problem(dtype=torch.float32)
    rates = (1e-3, 1e30)
    tasks = [(solver(optimizer="sgd", learning_rate=rate, max_epochs=30), one(SMOOTHINGS[0])) for rate in rates]
    with pytest.raises(ValueError, match=r"training loss became .* lower solver__learning_rate \(now 1e\+30\)"):
        solve_tasks(tasks)


def test_what_has_no_batches_in_common(problem, partial_data, widths):
    one, Y = problem(), partial_data[1]
    base = solver().group(one(SMOOTHINGS[0]))
    # Neither loss, penalty nor rates, nor whose copy of the labels it is.
    assert solver(learning_rate=1.0, optimizer="sgd", schedule="cosine").group(one(PartialBCE(), alpha=0.0)) == base
    assert hash(base) == hash(solver().group(one(IgnoreUnknown())))
    others = [
        solver().group(one(SMOOTHINGS[0], seed=4)),
        solver(batch_size=8).group(one(SMOOTHINGS[0])),
        solver(max_epochs=4).group(one(SMOOTHINGS[0])),
        solver(shuffle=False).group(one(SMOOTHINGS[0])),
        solver().group(one(SMOOTHINGS[0], data=TrainingData(LabelMatrix(np.roll(Y, 1, axis=0))))),
        solver().group(one(LargeLoss())),
        solver().group(problem(weight=np.linspace(1, 2, len(Y)))(SMOOTHINGS[0])),
        solver().group(problem(class_weight=np.full((5, 3), 2.0))(SMOOTHINGS[0])),
        solver().group(one(SMOOTHINGS[0], incremental=True)),
    ]
    assert len({base, *others}) == 1 + len(others)
    # Sparse labels that are equal, too.
    sparse = [one(SMOOTHINGS[0], data=TrainingData(LabelMatrix(sp.csr_array(Y.astype(np.int8))))) for _ in range(2)]
    assert solver().group(sparse[0]) == solver().group(sparse[1])
    check([(solver(), problem) for problem in sparse], widths, [2])


class Nothing(Regularizer):
    def __call__(self, batch):
        return 0 * batch.logits.sum()


class Same(Relabeling):
    def relabel(self, context):
        return context.current.labels.toarray()


def test_what_is_trained_alone(problem):
    plain = problem()(IgnoreUnknown())
    zeros = {"weight": np.zeros((5, plain.features.n_features)), "bias": np.zeros(5)}
    alone = [
        replace(plain, loss=PseudoNegative()),
        replace(plain, loss=ROLE(2.0)),
        replace(plain, loss=LargeLoss("correct_permanently")),
        replace(plain, regularizer=Nothing()),
        replace(plain, relabeling=Same()),
        replace(plain, validation=Validation(plain.features, lambda logits: 0.0)),
        replace(plain, start=zeros),
        replace(plain, previous_states={"loss": {}}),
        replace(plain, optimizer_state={"units": (1.0, None)}),
        replace(plain, network=lambda head: head),
        replace(plain, head=AveragePooling()),
    ]
    assert solver().group(plain) is not None
    assert [solver().group(problem) for problem in alone] == [None] * len(alone)
    assert solver(patience=2).group(plain) is None
