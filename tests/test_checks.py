"""Checks of hyperparameters: what passes, and what the message says of what does not."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest

from skpartial._checks import check_choice, check_flag, check_least, check_number, check_whole


class Owner:
    def __init__(self, rate=None, size=3, share=0.5):
        self.rate = rate
        self.size = size
        self.share = share


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("[0, 1)", [0, np.float32(0.5), Fraction(1, 3)], [1, -1e-9, np.nan]),
        ("(0, 1]", [1, np.int8(1), 1e-9], [0, np.inf]),
        ("[0, inf)", [0, 1e300], [np.inf, -1]),
        ("[0, inf]", [0, np.inf], [-1, np.nan]),
        ("(-inf, 1)", [-1e300], [-np.inf, 1]),
    ],
)
def test_numbers(interval, inside, outside):
    for value in inside:
        assert check_number(Owner(), "rate", value, interval) == float(value)
    for value in [*outside, True, "0.5", None, [0.5], np.array(0.5), 0.5j]:
        with pytest.raises(ValueError, match=rf"^Owner: rate must be a number in {re.escape(interval)}, got "):
            check_number(Owner(), "rate", value, interval)
        with pytest.raises(ValueError, match=r"^Owner: rate must be small, got "):
            check_number(Owner(), "rate", value, interval, "small")


def test_whole_numbers():
    assert [type(check_whole(None, "k", value, 2)) for value in (2, np.uint8(7))] == [int, int]
    for value in (1, 2.0, True, "2", None):
        with pytest.raises(ValueError, match=r"^k must be a whole number of at least 2, got "):
            check_whole(None, "k", value, 2)


def test_choices_and_flags():
    check_choice(None, "by", "row", ("row", "entry", None))
    check_choice(None, "by", None, ("row", "entry", None))
    for value in ("rows", ["row"], np.array("row"), np.array(["row", "entry"])):
        with pytest.raises(ValueError, match=r"^by must be 'row', 'entry' or None, got "):
            check_choice(None, "by", value, ("row", "entry", None))
    check_flag(None, "shuffle", np.bool_(False))
    with pytest.raises(ValueError, match=r"^shuffle must be True or False, got 1\.$"):
        check_flag(None, "shuffle", 1)


def test_several_at_once():
    check_least(Owner(), rate=0.0, size=3, share=0.5)
    check_least(Owner(rate=0.0), rate=0.0, missing=1)
    with pytest.raises(ValueError, match="rate must be a number of at least 0, got -1"):
        check_least(Owner(rate=-1), rate=0.0)
    # None is a value only where it is the default.
    with pytest.raises(ValueError, match="size must be a whole number of at least 1, got None"):
        check_least(Owner(size=None), size=1)
    with pytest.raises(ValueError, match=r"size must be a whole number of at least 1, got 2\.5"):
        check_least(Owner(size=2.5), size=1)
