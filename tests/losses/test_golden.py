"""Values and gradients against what the authors' released code gives on the same inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skpartial.losses import (
    BCE,
    ROLE,
    AssumeNegative,
    ExpectedPositives,
    IgnoreUnknown,
    LargeLoss,
    PartialBCE,
    WeakAssumeNegative,
)
from skpartial.solvers.gradient._row_steps import RowAdam

EPS = 1e-5

CASES = [
    ("bce", BCE(eps=EPS), "spml_true_pm1"),
    ("bce_ls", BCE(label_smoothing=0.1, eps=EPS), "spml_true_pm1"),
    ("iu", IgnoreUnknown(eps=EPS), "spml_obs_1pos_1neg"),
    ("an", AssumeNegative(eps=EPS), "spml_obs_single_pos"),
    ("an_ls", AssumeNegative(label_smoothing=0.1, eps=EPS), "spml_obs_single_pos"),
    ("an_ls_005", AssumeNegative(label_smoothing=0.05, eps=EPS), "spml_obs_single_pos"),
    ("an_ls_005", AssumeNegative(label_smoothing=(0.05, 0.05), eps=EPS), "spml_obs_single_pos"),
    ("wan", WeakAssumeNegative(eps=EPS), "spml_obs_single_pos"),
    ("wan", AssumeNegative(unknown_weight=1 / 6, eps=EPS), "spml_obs_single_pos"),
]


def check(loss, logits, labels, value, gradient):
    x = torch.tensor(logits, requires_grad=True)
    y = torch.tensor(labels)
    result = loss(x, y)
    result.backward()
    assert result.ndim == 0
    np.testing.assert_allclose(result.detach(), value, atol=1e-6, rtol=0)
    np.testing.assert_allclose(x.grad, gradient, atol=1e-6, rtol=0)
    closed_value, closed_gradient, _ = loss.value_and_gradient(x.detach(), y)
    np.testing.assert_allclose(closed_value, value, atol=1e-6, rtol=0)
    np.testing.assert_allclose(closed_gradient, gradient, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name, loss, labels", CASES, ids=lambda case: case if isinstance(case, str) else repr(case))
def test_single_positive_losses(golden, name, loss, labels):
    arrays = golden("losses")
    check(loss, arrays["spml_logits"], arrays[labels], arrays[f"spml_{name}_loss"], arrays[f"spml_{name}_grad"])


def test_ignoring_unknown_with_true_negatives(golden):
    """The loss called IUN is IgnoreUnknown on labels whose absences are all known."""
    arrays = golden("losses")
    labels = np.where(arrays["spml_true_pm1"] == -1, -1, arrays["spml_obs_single_pos"])
    check(IgnoreUnknown(eps=EPS), arrays["spml_logits"], labels, arrays["spml_iun_loss"], arrays["spml_iun_grad"])


@pytest.mark.parametrize(
    "name, loss",
    [
        # The paper rounds its constants to -4.45 and 5.45, under which a tenth known weighs 5.005.
        ("paper", PartialBCE(gamma=1, weight_at=(0.1, 5.005))),
        ("inv", PartialBCE(gamma=-1, weight_at=(0.1, 10))),
        ("bce", PartialBCE(gamma=1, weight_at=(0.1, 1))),
    ],
)
def test_partial_bce(golden, name, loss):
    arrays = golden("losses")
    alpha, beta, gamma = arrays[f"pbce_{name}_abg"]
    np.testing.assert_allclose(loss.coefficients(), [alpha, beta], atol=1e-12)
    assert loss.gamma == gamma
    check(loss, arrays["spml_logits"], arrays["pbce_y"], arrays[f"pbce_{name}_loss"], arrays[f"pbce_{name}_grad"])


def test_expected_positives(golden):
    arrays = golden("losses")
    loss = ExpectedPositives(expected_positives=float(arrays["spml_expected_num_pos"]), eps=EPS)
    whole = arrays["spml_epr_loss"]
    check(loss, arrays["spml_logits"], arrays["spml_obs_single_pos"], whole, arrays["spml_epr_grad"])
    without = ExpectedPositives(expected_positives=2.3, reg_weight=0, eps=EPS)
    logits, labels = torch.tensor(arrays["spml_logits"]), torch.tensor(arrays["spml_obs_single_pos"])
    np.testing.assert_allclose(loss(logits, labels) - without(logits, labels), arrays["spml_epr_reg"], atol=1e-6)


def test_role(golden):
    arrays = golden("losses")
    loss = ROLE(expected_positives=float(arrays["spml_expected_num_pos"]), eps=EPS)
    x = torch.tensor(arrays["spml_logits"], requires_grad=True)
    phi = torch.tensor(arrays["spml_role_phi"], requires_grad=True)
    rows, labels = torch.tensor(arrays["spml_role_idx"]), torch.tensor(arrays["spml_obs_single_pos"])
    value = loss(x, labels, {"estimate_logits": phi}, rows=rows)
    value.backward()
    np.testing.assert_allclose(value.detach(), arrays["spml_role_loss"], atol=1e-6)
    np.testing.assert_allclose(x.grad, arrays["spml_role_grad"], atol=1e-6)
    np.testing.assert_allclose(phi.grad, arrays["spml_role_grad_phi"], atol=1e-6)
    step = loss.value_and_gradient(x.detach(), labels, {"estimate_logits": phi.detach()}, rows=rows)
    np.testing.assert_allclose(step.state["estimate_logits"], arrays["spml_role_grad_phi"][rows], atol=1e-6)


def test_role_in_single_precision(golden):
    arrays = golden("losses")
    loss = ROLE(expected_positives=2.3, eps=EPS)
    x, phi = (torch.tensor(arrays[name], dtype=torch.float32) for name in ("spml_logits", "spml_role_phi"))
    rows, labels = torch.tensor(arrays["spml_role_idx"]), torch.tensor(arrays["spml_obs_single_pos"])
    step = loss.value_and_gradient(x, labels, {"estimate_logits": phi}, rows=rows)
    np.testing.assert_allclose(step.value, arrays["spml_role_f32_loss"], atol=2e-6)
    np.testing.assert_allclose(step.gradient, arrays["spml_role_grad"], atol=1e-6)
    # At a logit of 13 the released code's 1 - p loses a digit that the sigmoid of -13 keeps.
    np.testing.assert_allclose(step.gradient, arrays["spml_role_f32_grad"], atol=2e-6)


def test_role_steps_of_the_dense_optimiser(golden):
    """Rows that are not in a batch move by their momentum; the row-wise optimiser gets to the same place."""
    arrays = golden("losses")
    x = torch.tensor(arrays["spml_role_steps_logits0"], requires_grad=True)
    labels = torch.tensor(arrays["spml_role_steps_obs"])
    loss = ROLE(expected_positives=2.3, eps=EPS)
    optimizer = torch.optim.Adam([x], lr=1e-3)
    phi = torch.tensor(arrays["spml_role_phi"])
    steps = RowAdam(phi, 1e-2)
    for number, batch in enumerate(torch.tensor(arrays["spml_role_steps_batches"]), start=1):
        steps.catch_up(batch)
        step = loss.value_and_gradient(x.detach()[batch], labels[batch], {"estimate_logits": phi}, rows=batch)
        x.grad = torch.zeros_like(x).index_add(0, batch, step.gradient)
        steps.update(batch, step.state["estimate_logits"])
        optimizer.step()
        everything = phi.clone()
        steps.catch_up_all()
        np.testing.assert_allclose(x.detach(), arrays[f"spml_role_steps_x{number}"], atol=1e-6)
        np.testing.assert_allclose(phi, arrays[f"spml_role_steps_phi{number}"], atol=1e-6)
        if number > 1:
            assert (everything - phi).abs().max() > 5e-3  # what the drift is worth


def test_estimates_start_where_published(golden):
    arrays = golden("losses")
    labels = torch.tensor(arrays["spml_est_init_obs"])
    start = ROLE(expected_positives=1.0).init_state(labels, torch.Generator().manual_seed(0))["estimate_logits"]
    limit, present, absent = arrays["spml_est_init_consts"]
    np.testing.assert_allclose(start[labels == 1], present, rtol=1e-6)
    np.testing.assert_allclose(start[labels == -1], absent, rtol=1e-6)
    released = torch.tensor(arrays["spml_est_init_phi_seed0"])[labels == 0]
    unknown = start[labels == 0]
    assert unknown.abs().max() <= limit
    assert released.abs().max() <= limit
    assert len(unknown.unique()) == len(unknown)


SCHEMES = {
    "ll_LL-R": LargeLoss("reject", delta=0.1),
    "ll_LL-Ct": LargeLoss("correct", delta=0.1),
    "ll_LL-Cp": LargeLoss("correct_permanently", delta=0.1, strict=True),
    "later_llcp_fixed": LargeLoss("correct_permanently", delta=0.1),
}


@pytest.mark.parametrize("prefix", SCHEMES)
def test_large_loss(golden, prefix):
    """Three epochs of two batches each, and the labels after each epoch."""
    arrays = golden("losses")
    loss, labels = SCHEMES[prefix], torch.tensor(arrays["ll_obs"])
    given = labels.clone()
    state = loss.init_state(labels)
    for epoch, logits in enumerate(torch.tensor(arrays["ll_logits"]), start=1):
        for batch, rows in enumerate(torch.arange(8).split(4)):
            case = f"{prefix}_ep{epoch}_b{batch}"
            step = loss.value_and_gradient(logits[rows], labels[rows], state, rows=rows, epoch=epoch)
            np.testing.assert_allclose(step.value, arrays[f"{case}_loss"], atol=1e-6)
            np.testing.assert_allclose(step.gradient, arrays[f"{case}_grad"], atol=1e-6)
            if f"{case}_k" in arrays:
                assert loss.n_modified(20, epoch) == arrays[f"{case}_k"]
        corrected = labels if state is None else state["labels"]
        np.testing.assert_array_equal(corrected, arrays[f"{prefix}_obs_after_ep{epoch}"])
    assert torch.equal(labels, given)


def test_number_of_large_losses(golden):
    """Exact, where the released code's running subtraction adds one in 47 of 250 cases."""
    table = golden("losses")["ll_k_table"]
    ours = [LargeLoss(delta=percent / 100).n_modified(int(n), int(epoch)) for percent, n, epoch in table[:, :3]]
    np.testing.assert_array_equal(ours, table[:, 4])
    assert (table[:, 3] != table[:, 4]).sum() == 47


@pytest.mark.parametrize("scheme", ["reject", "correct"])
def test_large_loss_where_little_is_unknown(golden, scheme):
    """The released code then rejects or inverts known entries; here they keep their loss."""
    arrays = golden("losses")
    logits, labels = torch.tensor(arrays["ll_degenerate_logits"]), torch.tensor(arrays["ll_degenerate_obs"])
    gradient = LargeLoss(scheme, delta=0.9).value_and_gradient(logits, labels, epoch=2).gradient
    known = IgnoreUnknown().value_and_gradient(logits, labels).gradient
    torch.testing.assert_close(gradient[labels != 0], known[labels != 0])
    unknown = (torch.sigmoid(logits) - 1)[labels == 0] / 6 * (scheme == "correct")
    torch.testing.assert_close(gradient[labels == 0], unknown)
