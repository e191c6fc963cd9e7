"""What a user is told about labels."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from skpartial.labels import cooccurrence, describe

pd = pytest.importorskip("pandas")

quick = settings(max_examples=40, deadline=None)

label_arrays = arrays(np.int8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([-1, 0, 1]))


@quick
@given(Y=label_arrays)
def test_numbers(Y):
    for form in (Y, sp.csc_array(Y), pd.DataFrame(Y)):
        d = describe(form)
        assert (d.n_rows, d.n_labels) == Y.shape
        assert (d.n_present, d.n_absent, d.n_unknown) == tuple((sign == Y).sum() for sign in (1, -1, 0))
        assert d.n_known == d.n_present + d.n_absent
        assert d.proportion_known == pytest.approx((Y != 0).mean())
        for axis, where in ((0, "label"), (1, "row")):
            np.testing.assert_array_equal(getattr(d, f"present_per_{where}"), (Y == 1).sum(axis=axis))
            np.testing.assert_array_equal(getattr(d, f"absent_per_{where}"), (Y == -1).sum(axis=axis))
            np.testing.assert_array_equal(getattr(d, f"known_per_{where}"), (Y != 0).sum(axis=axis))
            np.testing.assert_allclose(getattr(d, f"proportion_known_per_{where}"), (Y != 0).mean(axis=axis))
        np.testing.assert_array_equal(d.unknown_per_label, (Y == 0).sum(axis=0))
        columns = [set(column) - {0} for column in Y.T]
        assert d.labels_without_known.tolist() == [j for j, signs in enumerate(columns) if not signs]
        assert d.labels_only_present.tolist() == [j for j, signs in enumerate(columns) if signs == {1}]
        assert d.labels_only_absent.tolist() == [j for j, signs in enumerate(columns) if signs == {-1}]
        assert d.rows_without_known.tolist() == [i for i, row in enumerate(Y) if not row.any()]
        assert d.is_complete == (Y != 0).all()
        assert d.is_positive_only == (not d.is_complete and (Y == 1).any() and not (Y == -1).any())
        assert d.notes
        assert repr(d).startswith(f"{Y.shape[0]} rows, {Y.shape[1]} labels; ")


def sentence(Y, start, **frame):
    found = [note for note in describe(pd.DataFrame(Y, **frame) if frame else Y).notes if note.startswith(start)]
    assert len(found) <= 1
    return found[0] if found else None


def test_what_is_possible():
    assert "loss='bce'" in sentence([[1, -1], [-1, 1]], "Every entry is known (1.00 present per row")
    assert "unknown='ignore'" in sentence([[1, -1], [0, 1]], "Presences and absences are known")
    positive_only = sentence([[1, 0], [0, 1]], "One label per row is known to be present, none to be absent")
    assert "SinglePositiveClassifier" in positive_only
    assert "unknown='absent'" in positive_only
    assert "recode(Y, present=1, absent=0)" in sentence([[1, 0], [0, 1]], "If 0 means absent")
    assert sentence([[1, 1], [0, 1]], "Some labels are known to be present, none to be absent")
    assert sentence([[0, -1], [0, -1]], "No label is known to be present in any row")
    assert describe([[0, 0]]).notes == ["No label is known: there is nothing to learn from."]


def test_what_is_not_possible():
    Y = [[1, 0, 1, -1, 1], [-1, 0, 0, 0, 1], [1, 0, 1, -1, 1]]
    names = ["good", "no one", "only there", "never there", "always"]
    notes = describe(pd.DataFrame(Y, columns=names)).notes
    assert "Label 'no one' cannot be learned or scored: no row says anything about it." in notes
    assert any(note.startswith("Label 'only there' can only be learned where unknown entries are") for note in notes)
    assert "Label 'never there' cannot be learned: no row is known to have it." in notes
    assert "Label 'always' cannot be learned: it is the same in all rows." in notes
    assert not any("good" in note for note in notes)
    assert sentence(Y, "Label 1 cannot be learned or scored")
    many = np.zeros((2, 9), dtype=int)
    many[:, 0] = [1, -1]
    assert sentence(many, "Each of the labels 1, 2, 3, 4, 5 and 3 more cannot be learned or scored")


def test_rows_without_labels_and_cooccurrence():
    assert sentence([[1, -1], [0, 0]], "1 row has no known label").endswith("if it treats them as negative.")
    assert sentence([[1, -1], [0, 0], [0, 0]], "2 rows have no known label")
    assert not sentence([[1, -1], [0, 1]], "1 row")
    assert sentence([[1, -1], [0, 1]], "No two labels are known to be present in one row")
    assert not sentence([[1, 1], [0, 1]], "No two labels")
    assert not sentence([[1], [-1]], "No two labels")


def test_repr_names_labels_and_stops():
    frame = pd.DataFrame(np.eye(30, dtype=int), columns=[f"thing {j}" for j in range(30)])
    text = repr(describe(frame))
    assert "\n  thing 0           1          0         29    3.3%\n" in text
    assert "thing 19" in text
    assert "thing 20" not in text
    assert "... and 10 more labels" in text
    assert max(map(len, text.splitlines())) <= 100
    assert describe(frame).label_names == [f"thing {j}" for j in range(30)]


def test_errors_name_the_argument():
    for function in (describe, cooccurrence):
        with pytest.raises(ValueError, match="Y holds 2"):
            function([[2]])


@quick
@given(Y=label_arrays)
def test_cooccurrence(Y):
    expected = [[sum(row[j] == 1 and row[k] == 1 for row in Y) for k in range(Y.shape[1])] for j in range(Y.shape[1])]
    for form in (Y, sp.csr_array(Y)):
        answer = cooccurrence(form)
        assert answer.dtype == np.int64
        np.testing.assert_array_equal(answer, expected)


def test_names_may_be_given():
    text = repr(describe([[1, -1], [0, 1]], label_names=["cat", "dog"]))
    assert "cat" in text
    assert "dog" in text
    with pytest.raises(ValueError, match="label_names holds 1 names, but Y has 2 labels"):
        describe([[1, -1]], label_names=["cat"])


def test_every_loss_that_a_note_names_exists():
    from skpartial import losses

    for Y in ([[1, 0], [0, 1]], [[1, -1], [0, 1]], [[1, -1], [-1, 1]]):
        for note in describe(Y).notes:
            for name in re.findall(r"(?<!unknown=)'([a-z_]+)'", note):
                losses.get(name)
