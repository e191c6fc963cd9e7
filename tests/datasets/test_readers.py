"""What all readers have in common."""

from __future__ import annotations

import inspect

import pytest

from skpartial import datasets

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
