"""The code of the pages for three kinds of tables, run on tables of their form in which something can be learned."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from skpartial import datasets
from skpartial.images import Backbone

GUIDE = Path(__file__).parent.parent / "docs" / "user_guide"
N_LABELS = 4


def run_page(name: str, **names: Any) -> dict[str, Any]:
    """Execute the one block of code of a page, at most ten lines beside its imports."""
    page = (GUIDE / f"{name}.rst").read_text(encoding="utf-8")
    (block,) = re.findall(r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)", page)
    code = re.sub(r"^   ", "", block, flags=re.MULTILINE)
    assert sum(bool(line) and not re.match("import|from", line) for line in code.splitlines()) <= 10
    namespace = dict(names)
    exec(compile(code.replace('"resnet50"', "backbone"), f"{name}.rst", "exec"), namespace)
    return namespace


@pytest.fixture
def truth() -> NDArray[np.bool_]:
    return np.random.default_rng(0).random((120, N_LABELS)) < 0.4


@pytest.fixture
def known() -> NDArray[np.bool_]:
    return np.random.default_rng(1).random((120, N_LABELS)) < 0.5


@pytest.fixture
def backbone() -> Backbone:
    """A network that sees the mean colour of each sixteenth of an image."""
    return Backbone(nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten()), None, image_size=32, mean=0.0, std=1.0)


def write_images(names: list[str], truth: NDArray[np.bool_]) -> None:
    """Noise, with a bright square in the corner of each label that is present."""
    rng = np.random.default_rng(2)
    for name, row in zip(names, truth):
        pixels = rng.integers(0, 120, (32, 32, 3)).astype(np.uint8)
        for j in np.flatnonzero(row):
            top, left = 16 * (j // 2), 16 * (j % 2)
            pixels[top : top + 10, left : left + 10] = 230
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(name)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.skipif(not hasattr(datasets, "load_chexpert"), reason="needs load_chexpert")
def test_radiologists_table(truth, known, backbone, capsys):
    findings = ["No Finding", "Edema", "Cardiomegaly", "Fracture"]
    truth[:, 0] = ~truth[:, 1:].any(axis=1)
    names = [f"train/patient{i // 3:05}/study{i % 3}/view1_frontal.png" for i in range(len(truth))]
    values = np.where(known, truth, np.nan).astype(object)
    values[:, 0] = np.where(truth[:, 0], 1.0, np.nan)
    values[0, 1] = -1.0
    columns = {"Path": names, "Sex": "Female", "Age": 50, "Frontal/Lateral": "Frontal", "AP/PA": "AP"}
    folder = Path("CheXpert-v1.0-small")
    write_images([str(folder / name) for name in names], truth)
    pd.DataFrame(columns).join(pd.DataFrame(values, columns=findings)).to_csv(folder / "train.csv", index=False)

    page = run_page("chexpert", backbone=backbone)

    xrays, train, test = page["xrays"], page["train"], page["test"]
    assert xrays.target[0, 1] == 0
    assert set(np.unique(xrays.target[:, 0])) == {-1, 1}
    assert not set(xrays.groups[train]) & set(xrays.groups[test])
    agreement = page["clf"].predict(page["X"][test]) == truth[test]
    assert agreement.mean() > 0.9
    assert "present" in capsys.readouterr().out


def test_species_records(truth, capsys):
    species = ["Parus major", "Pica pica", "Sitta europaea", "Turdus merula"]
    rng = np.random.default_rng(3)
    measured = truth @ rng.normal(size=(N_LABELS, 6)) + 0.3 * rng.normal(size=(len(truth), 6))
    sites = pd.DataFrame(measured, index=pd.Index([f"A{i}" for i in range(len(truth))], name="site"))
    sites.add_prefix("climate").to_csv("sites.csv")
    recorded = truth & (rng.random(truth.shape) < 0.6)
    rows, columns = np.nonzero(recorded)
    records = pd.DataFrame({"site": sites.index[rows], "species": np.array(species)[columns]})
    records.sample(frac=1, random_state=0).to_csv("records.csv", index=False)

    page = run_page("species")

    assert (page["Y"].loc[sites.index, species].to_numpy() == recorded).all()
    predicted = pd.DataFrame(page["clf"].predict(page["sites"].iloc[page["test"]]), columns=page["Y"].columns)
    overlooked = truth[page["test"]] & ~recorded[page["test"]]
    assert predicted[species].to_numpy()[overlooked].mean() > 0.6  # the threshold lies below one half
    assert predicted[species].to_numpy()[~truth[page["test"]]].mean() < 0.3
    assert page["likely"].shape == truth.shape
    assert 0 < float(capsys.readouterr().out) <= 1


def test_aerial_photographs(truth, known, backbone, capsys):
    names = [f"images/{i:04}.png" for i in range(len(truth))]
    write_images(names, truth)
    table = pd.DataFrame(np.where(known, truth, np.nan), columns=["airplane", "buildings", "cars", "water"])
    table.assign(image=names).set_index("image").to_csv("labels.csv")

    page = run_page("aerial", backbone=backbone)

    filled = page["filled"].to_numpy(dtype=float)
    assert (filled[known] == truth[known]).all()
    test = page["test"]
    unknown = ~known[test]
    assert np.mean((filled[test] > 0.5)[unknown] == truth[test][unknown]) > 0.9
    assert float(capsys.readouterr().out) > 0.9
