"""The pointing game: against results worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from skpartial.inspection import PointingGame, pointing_game


@pytest.fixture
def game():
    """Three images of 4 x 6 pixels (height x width) with maxima at known pixels, and boxes around some of them."""
    maps = np.full((3, 4, 4, 6), -1.0, dtype=np.float32)
    maxima = {  # (row, column)
        (0, 0): (1, 5),
        (0, 1): (3, 0),
        (0, 2): (0, 0),
        (1, 0): (2, 2),
        (1, 1): (0, 3),
        (1, 2): (2, 4),
        (2, 0): (3, 1),
        (2, 1): (1, 1),
        (2, 2): (0, 5),
    }
    for (i, j), (row, column) in maxima.items():
        maps[i, j, row, column] = 1
    boxes = [
        {0: [[4, 0, 6, 2]], 1: [[1, 2, 3, 4]]},  # hit; miss, to the left
        {0: [[0, 0, 2, 2], [2, 2, 4, 3]], 1: np.array([[0.0, 1, 6, 4]])},  # hit in the second; miss, above
        {0: [[2, 3, 3, 4]], 1: [[1, 1, 2, 2]], 2: []},  # miss; hit of one pixel; no box
    ]
    return maps, boxes


def test_by_hand(game):
    maps, boxes = game
    found = pointing_game(maps, boxes)
    assert isinstance(found, PointingGame)
    np.testing.assert_array_equal(found.hits, [2, 1, 0, 0])
    np.testing.assert_array_equal(found.misses, [1, 2, 0, 0])
    np.testing.assert_allclose(found.per_label, [2 / 3, 1 / 3, np.nan, np.nan])
    assert found.mean == pytest.approx(1 / 2)
    mean, per_label, _, _ = pointing_game(torch.as_tensor(maps), boxes)
    assert mean == found.mean
    np.testing.assert_array_equal(per_label, found.per_label)


def test_labels_without_a_box(game):
    maps, boxes = game
    assert pointing_game(maps, boxes, empty="zero").mean == pytest.approx(1 / 4)
    assert np.isnan(pointing_game(maps, boxes, empty="nan").mean)
    with pytest.raises(ValueError, match="No label can be scored: a label needs a box in one of the images"):
        pointing_game(maps, [{}, {1: []}, {2: np.empty((0, 4))}])
    assert pointing_game(maps, [{}, {}, {}], empty="zero").mean == 0


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array, pd.DataFrame])
def test_only_present_labels_count(game, kind):
    maps, boxes = game
    y = kind(np.array([[1, 0, 1, 1], [-1, 1, 0, 0], [1, 1, 1, -1]]))
    found = pointing_game(maps, boxes, y)
    np.testing.assert_array_equal(found.hits, [1, 1, 0, 0])
    np.testing.assert_array_equal(found.misses, [1, 1, 0, 0])


@pytest.mark.parametrize(
    "box, hit",
    [
        ((2, 1, 3, 2), True),  # the pixel itself
        ((1, 1, 2, 2), False),  # ends at its left
        ((3, 1, 4, 2), False),  # begins at its right
        ((2, 0, 3, 1), False),  # ends above
        ((2, 2, 3, 3), False),  # begins below
        ((2.4, 1.4, 2.6, 1.6), True),  # its centre
        ((2.0, 1.0, 2.4, 2.0), False),  # less than its centre
        ((0, 0, 6, 4), True),
        ((-0.5, -0.5, 6.5, 4.5), True),  # rounded outwards
    ],
)
def test_edges_of_boxes(box, hit):
    maps = np.zeros((1, 1, 4, 6))
    maps[0, 0, 1, 2] = 1
    found = pointing_game(maps, [{0: [box]}])
    assert found.hits[0] == hit
    assert found.misses[0] == (not hit)


def test_of_equal_pixels_the_first_counts():
    flat = np.zeros((1, 1, 2, 3))
    assert pointing_game(flat, [{0: [[0, 0, 1, 1]]}]).mean == 1
    assert pointing_game(flat, [{0: [[1, 0, 3, 2]]}]).mean == 0


def test_random_maps_hit_as_often_as_boxes_are_large():
    rng = np.random.default_rng(0)
    maps = rng.random((4000, 1, 8, 8))
    found = pointing_game(maps, [{np.int64(0): [[0, 0, 4, 8], [0, 0, 8, 2]]}] * 4000)  # 5/8 of the pixels
    assert found.mean == pytest.approx(5 / 8, abs=4 * np.sqrt(15 / 64 / 4000))
    assert found.hits[0] + found.misses[0] == 4000


@pytest.mark.parametrize(
    "change, message",
    [
        ({"maps": np.zeros((3, 4, 6))}, r"maps must be numbers of shape \(n, L, h, w\), got .* shape \(3, 4, 6\)"),
        ({"maps": np.zeros((3, 4, 0, 6))}, r"maps must be numbers of shape"),
        ({"maps": np.full((3, 4, 4, 6), "a")}, "maps must be numbers"),
        ({"maps": np.full((3, 4, 4, 6), np.nan)}, r"maps\[0, 0\] holds values that are not finite"),
        ({"boxes": [{}, {}]}, "boxes must hold one dict per image of maps, 3 in total"),
        ({"boxes": {0: {}, 1: {}, 2: {}}}, "boxes must hold one dict per image of maps, 3 in total"),
        ({"boxes": [{}, [[0, 0, 1, 1]], {}]}, r"boxes\[1\] must be a dict from labels to boxes"),
        ({"boxes": [{4: [[0, 0, 1, 1]]}, {}, {}]}, r"boxes\[0\] holds the label 4: .* from 0 to 3"),
        ({"boxes": [{"cat": [[0, 0, 1, 1]]}, {}, {}]}, r"boxes\[0\] holds the label 'cat'"),
        ({"boxes": [{True: [[0, 0, 1, 1]]}, {}, {}]}, r"boxes\[0\] holds the label True"),
        ({"boxes": [{0: [0, 0, 1, 1]}, {}, {}]}, r"boxes\[0\]\[0\] must be an array of shape \(m, 4\)"),
        ({"boxes": [{}, {1: [[0, 0, 1]]}, {}]}, r"boxes\[1\]\[1\] must be an array of shape \(m, 4\)"),
        ({"boxes": [{}, {1: None}, {}]}, r"boxes\[1\]\[1\] must be an array of shape \(m, 4\)"),
        ({"boxes": [{}, {1: [["a", 0, 1, 1]]}, {}]}, r"boxes\[1\]\[1\] must be an array of shape \(m, 4\)"),
        ({"boxes": [{}, {}, {2: [[3, 0, 3, 1]]}]}, r"boxes\[2\]\[2\] holds a box that is empty or not finite"),
        ({"boxes": [{}, {}, {2: [[0, 0, np.inf, 1]]}]}, r"holds a box that is empty or not finite"),
        ({"boxes": [{}, {}, {2: [[0, 0, 8, 1]]}]}, r"holds a box outside the 6 x 4 pixels .*: scale boxes"),
        ({"boxes": [{}, {}, {2: [[0, 0, 5, 6]]}]}, r"holds a box outside the 6 x 4 pixels"),
        ({"boxes": [{}, {}, {2: [[-3, 0, 5, 4]]}]}, r"holds a box outside the 6 x 4 pixels"),
        ({"y": np.ones((3, 3), dtype=int)}, r"y has shape \(3, 3\), but maps has 3 images and 4 labels"),
        ({"empty": "ignore"}, "empty must be 'skip', 'zero' or 'nan', got 'ignore'"),
    ],
)
def test_refusals(game, change, message):
    maps, boxes = game
    arguments = {"maps": maps, "boxes": boxes} | change
    with pytest.raises(ValueError, match=message):
        pointing_game(**arguments)
