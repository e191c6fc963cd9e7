"""Draw the picture of the README: ``python docs/readme_picture.py`` writes ``docs/_static/readme.png``."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from skpartial import PartialLabelClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.labels import drop_labels

N_SHOWN = 4
GREEN, RED, GREY = "#1a7f37", "#b35900", "#d0d7de"


def draw_images(ax: Axes, images: NDArray[np.uint8]) -> None:
    for row, image in enumerate(images):
        ax.imshow(image, extent=(-1.75, -0.65, row + 0.48, row - 0.48), aspect="auto")


def draw_grid(ax: Axes, n_rows: int, names: list[str], title: str) -> None:
    for row in range(n_rows):
        for column in range(len(names)):
            ax.add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=GREY))
    ax.set_xlim(-1.8, len(names) - 0.4)
    ax.set_ylim(n_rows - 0.4, -0.6)
    ax.set_xticks(range(len(names)), names, rotation=45, ha="left", fontsize=9)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.set_yticks([])
    ax.set_title(title, fontsize=11, loc="left", pad=10)
    for spine in ax.spines.values():
        spine.set_visible(False)


def main() -> None:
    train = make_digit_scenes(4000, scans="train", random_state=0)
    new = make_digit_scenes(N_SHOWN, scans="test", random_state=1)
    Y = drop_labels(train.target, known=0.3, random_state=0)
    clf = PartialLabelClassifier().fit(train.data, Y)
    probabilities = clf.predict_proba(new.data)

    fig, (known, filled) = plt.subplots(1, 2, figsize=(10, 3.3), layout="constrained")
    draw_grid(known, N_SHOWN, train.label_names, "What is known: present ✓, absent ✗, or nobody looked")
    draw_images(known, train.images[:N_SHOWN])
    for row, column in zip(*np.nonzero(Y[:N_SHOWN])):
        sign, color = ("✓", GREEN) if Y[row, column] == 1 else ("✗", RED)
        known.text(column, row, sign, ha="center", va="center", color=color, fontsize=15)

    draw_grid(filled, N_SHOWN, train.label_names, "Predicted for new images (framed: what is on them)")
    draw_images(filled, new.images)
    for row, column in np.ndindex(probabilities.shape):
        p = probabilities[row, column]
        filled.add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, color=GREEN, alpha=0.75 * p, linewidth=0))
        filled.text(column, row, f"{p:.1f}".lstrip("0"), ha="center", va="center", fontsize=9)
    for row, column in zip(*np.nonzero(new.target == 1)):
        filled.add_patch(plt.Rectangle((column - 0.44, row - 0.44), 0.88, 0.88, fill=False, linewidth=1.5))
    path = Path(__file__).parent / "_static" / "readme.png"
    fig.savefig(path, dpi=110, pil_kwargs={"optimize": True}, metadata={"Software": None})
    print(f"{path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
