"""Checkpoints in a world of damaged files, full disks, links, and other fits at work in the same folder."""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from skpartial import PartialLabelClassifier
from skpartial.images import Backbone
from skpartial.losses import LargeLoss
from skpartial.solvers import FullBatch, Minibatch
from skpartial.training import _checkpoints
from skpartial.training._checkpoints import Checkpoint, CheckpointFolder

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5))
Y = np.where(RNG.random((60, 3)) < 0.5, np.where(X[:, :3] > RNG.normal(size=(60, 3)), 1, -1), 0)
IMAGES = RNG.integers(0, 256, size=(20, 16, 16, 3)).astype(np.uint8)


def classifier(folder=None, max_epochs=4, **more):
    settings = {"loss": "iu", "solver": Minibatch(max_epochs=max_epochs, batch_size=20), "random_state": 0}
    return PartialLabelClassifier(checkpoint_dir=folder, **(settings | more))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 5, stride=3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def on_images(folder=None, max_epochs=3, **more):
    backbone = Backbone(network(), image_size=16, finetune="linear_init")
    return classifier(folder, max_epochs, backbone=backbone, **more)


def weights(clf):
    return np.column_stack([clf.coef_, clf.intercept_])


def saved_epochs(act, killed_after=None):
    """The epochs that were saved while something is done; after so many it is killed."""
    original, epochs = Checkpoint.save, []

    def save(self, content):
        original(self, content)
        epochs.append((self.path.parent, content["epoch"]))
        if len(epochs) == killed_after:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "save", save)
        act()
    return epochs


def killed(clf, after, *data):
    """Kill a fit after so many epochs of it have been saved; what is left in its folder."""
    with pytest.raises(KeyboardInterrupt):
        saved_epochs(lambda: clf.fit(*(data or (X, Y))), after)
    return {path.relative_to(clf.checkpoint_dir): path.read_bytes() for path in clf.checkpoint_dir.glob("*/*")}


# -------------------------------------------------------------------------------------------------- damaged content


def strangers(folder):
    """Files that are whole, and not those of the fit that finds them."""
    made = [
        killed(classifier(folder / "alpha", alpha=1e-2), 2),
        killed(classifier(folder / "seed", random_state=1), 1),
        killed(classifier(folder / "data"), 3, X + 1, Y),
        killed(classifier(folder / "unseeded", random_state=None), 1),
        killed(on_images(folder / "images"), 3, IMAGES, Y[:20]),
    ]
    found = [content for files in made for content in files.values()]
    torch.save({"epoch": 1, "learner": {}}, folder / "other.pt")
    np.savez(folder / "other.npz", X)
    return [*found, (folder / "other.pt").read_bytes(), (folder / "other.npz").read_bytes(), b"", b"\n" * 500]


def damage(rng, whole, others, later):
    """Something else than a file that was saved: what was done, and what it holds then."""
    size = len(whole)
    kind = rng.choice(["bit", "bits", "truncated", "foreign", "spliced", "line", "longer", "hole", "moved"])
    other = others[rng.integers(len(others))]
    at = int(rng.integers(1, size))
    if kind in ("bit", "bits"):
        content = bytearray(whole)
        for bit in rng.integers(8 * size, size=1 if kind == "bit" else 5):
            content[bit // 8] ^= 1 << (bit % 8)
        return kind, bytes(content)
    if kind == "truncated":
        return kind, whole[:at] if rng.random() < 0.5 else whole[at:]
    if kind == "foreign":
        return kind, other
    if kind == "spliced":
        other = later if rng.random() < 0.5 else other
        return kind, whole[:at] + other[at:]
    if kind == "line":  # that of another file of the same fit, or of another fit
        own, strange = (content.rfind(b"\nskpartial") % (len(content) + 1) for content in (whole, later))
        return kind, (whole[:own] + later[strange:]) if rng.random() < 0.5 else (later[:strange] + whole[own:])
    if kind == "longer":
        return kind, whole + rng.bytes(at) if rng.random() < 0.5 else rng.bytes(at) + whole
    if kind == "hole":
        return kind, whole[:at] + bytes(min(64, size - at)) + whole[at + 64 :]
    return kind, whole[at:] + whole[:at]


def outcomes(folder, n, seed=0):
    """How often each kind of damage was told, changed nothing, or, as never should be, changed the weights."""
    rng, count = np.random.default_rng(seed), {}
    others = strangers(folder / "others")
    expected = weights(classifier().fit(X, Y))
    work = folder / "work"
    ((_, later),) = killed(classifier(work), 3).items()
    shutil.rmtree(work)
    ((name, whole),) = killed(classifier(work), 2).items()
    for _ in range(n):
        kind, content = damage(rng, whole, others, later)
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_bytes(content)
        try:
            clf = classifier(work).fit(X, Y)
        except ValueError as error:
            outcome = "told" if re.search("The checkpoint '.*' is damaged .*: delete it", str(error)) else str(error)
        else:
            outcome = "nothing" if np.array_equal(weights(clf), expected) else "changed"
        count[kind, outcome] = count.get((kind, outcome), 0) + 1
    return count


def test_what_is_damaged_or_foreign_is_told_or_changes_nothing(tmp_path):
    count = outcomes(tmp_path, 150)
    assert sum(count.values()) == 150
    assert {outcome for _, outcome in count} <= {"told", "nothing"}, count
    assert {kind for kind, outcome in count if outcome == "told"} == {
        *("bit", "bits", "truncated", "foreign", "spliced", "line", "longer", "hole", "moved")
    }
    # All but flips that were taken back by another one, and files spliced at a byte from which on they are equal.
    assert sum(n for (_, outcome), n in count.items() if outcome == "told") >= 145


def test_files_of_other_stages_and_seeds_are_told(tmp_path):
    """The two stages of a network are not each other's, nor are those of fits with other seeds."""
    files = {}
    for seed in (0, 1):
        files[seed] = killed(on_images(tmp_path / str(seed), random_state=seed), 3, IMAGES, Y[:20])
        assert sorted(path.name for path in files[seed]) == ["all.pt", "head.pt"]
    expected = on_images().fit(IMAGES, Y[:20]).decision_function(IMAGES)
    (own, other) = ({path.name: content for path, content in files[seed].items()} for seed in (0, 1))
    (folder,) = (tmp_path / "0").iterdir()
    for name, content in (("all.pt", own["head.pt"]), ("head.pt", own["all.pt"]), *other.items()):
        (folder / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}' is damaged"):
            on_images(tmp_path / "0").fit(IMAGES, Y[:20])
        (folder / name).write_bytes(own[name])
    found = on_images(tmp_path / "0").fit(IMAGES, Y[:20])
    np.testing.assert_array_equal(found.decision_function(IMAGES), expected)


@pytest.mark.parametrize("change", ["learner", "epoch", "states", "generator", "shape"])
def test_content_of_another_form_is_told(tmp_path, change):
    """Whole files of the right name, as another version might have saved them."""
    clf = classifier(tmp_path, loss=LargeLoss("correct_permanently"))
    killed(clf, 2)
    original = torch.load

    def load(*args, **kwargs):
        content = original(*args, **kwargs)
        if change == "shape":
            state = content["learner"]["states"]["loss"]
            state["labels"] = state["labels"][:1]  # which would be copied to all rows
        elif change == "states":
            content["learner"]["states"] = {}
        else:
            content[change] = None
        return content

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", load)
        with pytest.raises(ValueError, match=r"head.pt' is damaged .*: delete it"):
            clf.fit(X, Y)
    np.testing.assert_array_equal(weights(clf.fit(X, Y)), weights(clf.set_params(checkpoint_dir=None).fit(X, Y)))


def test_where_a_warm_start_begins_makes_another_fit(tmp_path):
    """Of the network and of what was learned of the rows, not of the coefficients alone."""

    def begun(change=None, **more):
        clf = on_images(warm_start=True, loss=LargeLoss("correct_permanently", delta=0.1)).fit(IMAGES, Y[:20])
        if change == "network":
            clf.network_.body[0].bias.data += 0.1
        if change == "states":
            clf._states["loss"]["labels"] = -clf._states["loss"]["labels"]
        killed(clf.set_params(checkpoint_dir=tmp_path), 1, IMAGES, Y[:20])
        return len(list(tmp_path.iterdir()))

    assert [begun(), begun(), begun("network"), begun("states")] == [1, 1, 2, 3]


# ---------------------------------------------------------------------------------------------------- other lengths


@pytest.mark.parametrize("on", ["features", "images", "rounds"])
def test_more_epochs_go_on(tmp_path, on):
    """A fit for more epochs takes what one for fewer left, whether that was killed on the way or at its end."""
    data = (IMAGES, Y[:20]) if on == "images" else (X, Y)

    def make(folder, n):
        if on == "rounds":
            return classifier(folder, loss=LargeLoss(delta=0.05), solver=FullBatch(rounds=n))
        return (on_images if on == "images" else classifier)(folder, n)

    before = 1 if on == "images" else 0  # a convex round of the head alone
    expected = make(None, 6).fit(*data)
    for saved, n in ((1, 3), (3, 3)):
        killed(make(tmp_path, n), before + saved, *data)
        clf = make(tmp_path, 6)
        epochs = [epoch for _, epoch in saved_epochs(partial(clf.fit, *data))]
        assert epochs == list(range(saved + 1, 7))
        np.testing.assert_array_equal(clf.decision_function(data[0]), expected.decision_function(data[0]))
        assert len(clf.history_) == len(expected.history_)
        assert list(tmp_path.iterdir()) == []


def test_fewer_epochs_begin_anew_and_leave_what_has_gone_further(tmp_path):
    files = killed(classifier(tmp_path, 6), 5)
    expected = {n: weights(classifier(max_epochs=n).fit(X, Y)) for n in (3, 5, 6)}
    clf = classifier(tmp_path, 3).fit(X, Y)
    np.testing.assert_array_equal(weights(clf), expected[3])
    assert clf.n_iter_ == 3
    assert {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.glob("*/*")} == files
    # The shorter one is saved as well.
    assert sorted(path.name for path in killed(classifier(tmp_path, 3), 2)) == ["head-3.pt", "head.pt"]
    clf = classifier(tmp_path, 3).fit(X, Y)
    np.testing.assert_array_equal(weights(clf), expected[3])
    killed(classifier(tmp_path, 3), 2)
    np.testing.assert_array_equal(weights(classifier(tmp_path, 5).fit(X, Y)), expected[5])  # has reached just as many
    assert [path.name for path in tmp_path.glob("*/*")] == ["head-3.pt"]
    np.testing.assert_array_equal(weights(classifier(tmp_path, 6).fit(X, Y)), expected[6])
    np.testing.assert_array_equal(weights(classifier(tmp_path, 3).fit(X, Y)), expected[3])
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------- files and folders


def test_only_its_own_files_are_removed(tmp_path):
    killed(classifier(tmp_path), 2)
    (folder,) = tmp_path.iterdir()
    left = [folder / "notes.txt", folder / "all.pt", folder / "head.pt.bak", tmp_path / "head.pt"]
    for path in left:
        path.write_text("mine")
    (folder / "head.pt.abcd1234.part").write_text("of a fit that was killed while it saved")
    classifier(tmp_path).fit(X, Y)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(left)


def test_nothing_is_removed_through_a_link(tmp_path):
    real, checkpoints = tmp_path / "real", tmp_path / "checkpoints"
    killed(classifier(checkpoints), 2)
    (folder,) = checkpoints.iterdir()
    folder.rename(real)
    folder.symlink_to(real, target_is_directory=True)
    before = sorted(real.iterdir())
    with pytest.warns(UserWarning, match=r"could not be removed \(it is a link, which is not followed\): delete them"):
        clf = classifier(checkpoints).fit(X, Y)
    assert sorted(real.iterdir()) == before
    np.testing.assert_array_equal(weights(clf), weights(classifier().fit(X, Y)))
    # A file that is a link goes, and what it points at stays.
    folder.unlink()
    folder.mkdir()
    (folder / "head.pt").symlink_to(real / "head.pt")
    classifier(checkpoints).fit(X, Y)
    assert sorted(real.iterdir()) == before
    assert list(checkpoints.iterdir()) == []


def test_a_clean_up_that_fails_is_a_warning(tmp_path, monkeypatch):
    def refused(self, **how):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.warns(UserWarning, match=r"The fit has ended, but .* could not be removed \(Permission denied\)"):
        clf = classifier(tmp_path).fit(X, Y)
    np.testing.assert_array_equal(weights(clf), weights(classifier().fit(X, Y)))


def full(tmp_path, monkeypatch):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no device that is always full")
    monkeypatch.setattr(
        _checkpoints.tempfile, "mkstemp", lambda **how: (os.open("/dev/full", os.O_WRONLY), str(tmp_path / "part"))
    )
    return tmp_path


def full_at_the_end(tmp_path, monkeypatch):
    def sync(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", sync)
    return tmp_path


def read_only(tmp_path, monkeypatch):
    def make(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(_checkpoints.tempfile, "mkstemp", make)
    return tmp_path


def no_folder(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    return tmp_path / "file"


def below_a_file(tmp_path, monkeypatch):
    return no_folder(tmp_path, monkeypatch) / "folder"


def a_link_to_nothing(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "nothing" / "there")
    return tmp_path / "link"


DISKS = [full, full_at_the_end, read_only, no_folder, below_a_file, a_link_to_nothing]


@pytest.mark.parametrize("seeded", [True, False])
@pytest.mark.parametrize("disk", DISKS, ids=lambda disk: disk.__name__)
def test_a_disk_that_refuses_is_told_by_the_parameter(tmp_path, disk, seeded):
    with pytest.MonkeyPatch.context() as patch:
        folder = disk(tmp_path, patch)
        clf = classifier(folder, random_state=0 if seeded else None)
        with pytest.raises(OSError, match=r"^checkpoint_dir='.*' cannot be used \([A-Z].*\): free space"):
            clf.fit(X, Y)
        assert not hasattr(clf, "n_iter_")
        assert not list(tmp_path.rglob("*.part"))
    assert hasattr(clf.set_params(checkpoint_dir=tmp_path / "other").fit(X, Y), "n_iter_")


def test_what_was_saved_before_a_disk_was_full_is_kept(tmp_path):
    files = killed(classifier(tmp_path), 2)
    with pytest.MonkeyPatch.context() as patch:
        full_at_the_end(tmp_path, patch)
        with pytest.raises(OSError, match="checkpoint_dir"):
            classifier(tmp_path).fit(X, Y)
    assert {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.*")} == files
    np.testing.assert_array_equal(weights(classifier(tmp_path).fit(X, Y)), weights(classifier().fit(X, Y)))


def test_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    saved = saved_epochs(lambda: classifier("~/here").fit(X, Y))
    assert {path.parent for path, _ in saved} == {tmp_path / "here"}
    with pytest.raises(ValueError, match="checkpoint_dir must be a path whose home folder exists, got '~nobody-at-all"):
        classifier("~nobody-at-all/here").fit(X, Y)
    for wrong in ("", "a\0b", 3, b"here"):
        with pytest.raises(ValueError, match="checkpoint_dir must be None or the path of a folder, got "):
            classifier(wrong).fit(X, Y)


# ------------------------------------------------------------------------------------------------- several at once


def test_the_same_fit_saves_and_ends_many_times_at_once(tmp_path):
    errors, barrier = [], threading.Barrier(3)

    def work():
        try:
            barrier.wait()
            for epoch in range(1, 60):
                folder = CheckpointFolder(tmp_path / "deep" / "er", "fit", seeded=epoch % 3 > 0)
                folder.seed(7)
                checkpoint = folder.stage("head")
                found = checkpoint.load(100)
                assert found is None or found["numbers"].sum() == 10
                checkpoint.save({"epoch": epoch, "numbers": torch.ones(10)})
                folder.remove()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert list((tmp_path / "deep" / "er").iterdir()) == []


SCRIPT = """
import os, sys, warnings
import numpy as np

sys.path.append(sys.argv[3])
from test_damaged_checkpoints import X, Y, classifier, weights

warnings.simplefilter("error")
folder = sys.argv[1]
for i, (seed, *lengths) in enumerate([(0, 6, 6), (0, 4, 6), (None, 6, 6)] * int(sys.argv[2])):
    children = []
    for n in lengths:
        children.append(os.fork())
        if children[-1] == 0:
            clf = classifier(f"{folder}/checkpoints", n, random_state=seed).fit(X, Y)
            if seed == 0:
                np.save(f"{folder}/{i}-{n}.npy", weights(clf))
            os._exit(0)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
"""


def test_two_processes_fit_the_same_at_once(tmp_path, interpreters):
    (tmp_path / "fit.py").write_text(SCRIPT)
    assert interpreters[0].run(tmp_path / "fit.py", tmp_path, 6, Path(__file__).parent) == 0
    expected = {n: weights(classifier(max_epochs=n).fit(X, Y)) for n in (4, 6)}
    found = sorted(tmp_path.glob("*.npy"))
    assert len(found) == 18
    for path in found:
        np.testing.assert_array_equal(np.load(path), expected[int(path.stem.partition("-")[2])])
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_fits_without_a_seed_do_not_mix(tmp_path):
    """Each that was killed goes on by itself, the last one first."""
    rounds = []
    for _ in range(2):
        folder = tmp_path / str(len(rounds))
        rounds.append(killed(on_images(folder, random_state=None), 3, IMAGES, Y[:20]))
    for i in (0, 1):
        for path, content in rounds[i].items():
            (tmp_path / "both" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "both" / path).write_bytes(content)
            os.utime(tmp_path / "both" / path, (i, i))
    expected = [on_images(tmp_path / str(i), random_state=None).fit(IMAGES, Y[:20]) for i in (1, 0)]
    for each in expected:
        found = on_images(tmp_path / "both", random_state=None).fit(IMAGES, Y[:20])
        np.testing.assert_array_equal(found.decision_function(IMAGES), each.decision_function(IMAGES))
    assert list((tmp_path / "both").iterdir()) == []
