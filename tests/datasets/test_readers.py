"""What all readers have in common."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
from PIL import Image

from skpartial import PartialLabelClassifier, datasets
from skpartial.datasets import load_coco_json, make_digit_scenes
from skpartial.images import Backbone
from skpartial.solvers import Minibatch

READERS = [name for name in datasets.__all__ if name.startswith("load_")]
# Files of one part have no split.
WITHOUT_SUBSET = {"load_annotations_csv", "load_coco_json", "load_libsvm"}


@pytest.mark.parametrize("name", READERS)
def test_one_signature(name):
    first, *others = inspect.signature(getattr(datasets, name)).parameters.values()
    assert first.name == "path"
    assert first.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert all(p.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD) for p in others)
    assert len(others) < 8
    by_name = {p.name: p for p in others}
    assert isinstance(by_name["sparse"].default, bool)
    assert ("subset" in by_name) == (name not in WITHOUT_SUBSET)
    if "subset" in by_name:
        assert others[0].name == "subset"
        assert others[0].default == "all"


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("path", [None, "", 3, ["a"]])
def test_what_is_no_path_is_refused(name, path):
    with pytest.raises(ValueError, match=r"^path must be a path, got"):
        getattr(datasets, name)(path)


@pytest.mark.parametrize("name", READERS)
def test_what_is_not_there_is_an_error_of_the_system(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.* does not exist.*\.$"):
        getattr(datasets, name)(tmp_path / "nowhere")


@pytest.mark.parametrize("name", READERS)
def test_the_documentation_has_what_it_needs(name):
    text = inspect.getdoc(getattr(datasets, name))
    for part in ("Parameters", "Returns", "Raises", "Examples", "target : ", "label_names : ", "DESCR : "):
        assert part in text
    assert "paths : " in text or "data : " in text


def test_what_is_read_goes_into_a_classifier(tmp_path):
    scenes = make_digit_scenes(40, random_state=0)
    names = [f"scene {i}.png" for i in range(40)]
    for name, image in zip(names, scenes.images):
        Image.fromarray(image).save(tmp_path / name)
    content = {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
        "categories": [{"id": j, "name": name} for j, name in enumerate(scenes.label_names)],
        "annotations": [{"image_id": int(i), "category_id": int(j)} for i, j in zip(*np.nonzero(scenes.target == 1))],
    }
    (tmp_path / "scenes.json").write_text(json.dumps(content))
    bunch = load_coco_json(tmp_path / "scenes.json", unannotated="absent", sparse=True)
    np.testing.assert_array_equal(bunch.target.toarray(), scenes.target)

    def fit(X, Y):
        backbone = Backbone("resnet18", weights=None, image_size=32, augment=None)
        clf = PartialLabelClassifier("an", backbone=backbone, solver=Minibatch(max_epochs=1), random_state=0)
        return clf.fit(X, Y).decision_function(X)

    rows = np.arange(40) < 30
    np.testing.assert_allclose(fit(bunch.paths[rows], bunch.target[rows]), fit(scenes.images[:30], scenes.target[:30]))
