"""Values and gradients against what the authors' released code gives on the same inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skpartial.losses import BCE, AssumeNegative, IgnoreUnknown, PartialBCE, WeakAssumeNegative

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
