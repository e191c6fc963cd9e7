"""Rows without any known label: what losses make of them, as the guide says, and what is said where there are many."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from skpartial import PartialLabelClassifier, SinglePositiveClassifier, losses
from skpartial.datasets import make_digit_scenes
from skpartial.exceptions import AmbiguousLabelsWarning
from skpartial.labels import describe
from skpartial.relabeling import Propagation

#: The guide's table: of no effect, towards absence, by the logits.
NONE = ("iu", "partial_bce", "pairwise", "warp")
ABSENT = ("an", "an_ls", "wan", "ramp_warp", "asl", "csl", "hill")
LATER = ("ll_r", "ll_ct", "ll_cp", "splc")  # absent in the first epoch, by the logits later
LOGITS = ("epr", "role", "em", "gr")


def slope_of_an_empty_row(name, epoch):
    loss = losses.get(name)
    labels = torch.tensor([[1, -1, 1, -1], [0, 0, 0, 0], [-1, 1, -1, -1], [1, -1, -1, 1]])
    logits = torch.tensor([[1.0, -1, 0, 0], [2.0, 0.5, -0.5, -2.0], [0, 0, 0, 0], [1, 1, -1, 0]])
    state = loss.init_state(labels, torch.Generator().manual_seed(0))
    return loss.value_and_gradient(logits, labels, state, rows=torch.arange(4), epoch=epoch).gradient[1]


@pytest.mark.parametrize("name", [*NONE, *ABSENT, *LATER, *LOGITS])
def test_what_losses_make_of_them(name):
    first, later = slope_of_an_empty_row(name, 1), slope_of_an_empty_row(name, 8)
    if name in NONE:
        assert not first.any()
        assert not later.any()
    elif name in ABSENT:
        assert (first >= 0).all()
        assert first.any()
        torch.testing.assert_close(first, later)
    elif name in LATER:
        assert (first > 0).all()
        assert (later <= 0).any()
    else:
        assert first.any()


def scenes(labelled):
    found = make_digit_scenes(100, random_state=0)
    Y = found.target.copy()
    Y[labelled:] = 0
    return found.data, Y


@pytest.mark.parametrize("loss", ["an", "ramp_warp"])
def test_many_of_them_are_told_where_they_are_read_as_absent(loss):
    X, Y = scenes(50)
    with pytest.warns(AmbiguousLabelsWarning, match=r"50 of 100 rows of y have no known label.*Propagation\(\)"):
        PartialLabelClassifier(loss, alpha=0.1, random_state=0).fit(X, Y)
    with pytest.warns(AmbiguousLabelsWarning, match="50 of 100 rows"):
        SinglePositiveClassifier(loss, alpha=0.1, random_state=0).fit(X, np.maximum(Y, 0))


def test_nothing_is_told_where_they_are_few_or_of_no_effect_or_made_use_of():
    X, Y = scenes(50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for loss in ("iu", "pairwise"):
            PartialLabelClassifier(loss, alpha=0.1, random_state=0).fit(X, Y)
        PartialLabelClassifier("an", relabeling=Propagation(), alpha=0.1).fit(X, Y)
        PartialLabelClassifier("an", alpha=0.1).fit(*scenes(60))


def test_a_description_says_how_many_and_what_can_be_done():
    found = describe(scenes(50)[1])
    assert len(found.rows_without_known) == 50
    text = " ".join(found.notes)
    assert "50 rows have no known label" in text
    for word in ("LabelSpreading", "Propagation", "ClassDistribution", "PartialLabelKFold(unlabelled='train')"):
        assert word in text
    assert "LabelSpreading" not in " ".join(describe(scenes(100)[1]).notes)
