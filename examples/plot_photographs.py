"""
Find sky, water and trees on a photograph
=========================================

A photograph is cut into tiles. For a few tiles somebody has answered whether they show sky, water, trees or a building.
Most of these questions were never asked. A classifier answers them, and the example draws its answers over the
photograph.
"""

# %%
# A photograph, and what it shows
# -------------------------------
# scikit-learn contains the photograph. Outlines drawn by hand give the truth. A tile has a label if more than a tenth
# of it lies within the outline, so a tile can have several labels.
import matplotlib

matplotlib.use("agg")  # write figures to files, with or without a screen
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.path import Path
from sklearn.datasets import load_sample_image
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from skpartial import PartialLabelClassifier
from skpartial.labels import describe, drop_labels
from skpartial.metrics import average_precision_per_label

TILE = 16
photograph = load_sample_image("china.jpg")
height, width = (size // TILE * TILE for size in photograph.shape[:2])
photograph = photograph[:height, :width]

tower = [(205, 30), (220, 65), (262, 95), (318, 122), (318, 135), (328, 175), (322, 240), (352, 258), (343, 315)]
tower += [(372, 340), (330, 375), (320, 427), (285, 427), (260, 390), (200, 385), (170, 355), (75, 340), (66, 262)]
tower += [(95, 235), (83, 180), (118, 155), (95, 112), (160, 85), (193, 60)]
left_trees = [(0, 150), (40, 190), (75, 225), (50, 265), (25, 300), (75, 345), (150, 335), (170, 355), (200, 385)]
left_trees += [(260, 390), (285, 427), (0, 427)]
right_trees = [
    (330, 427),
    (330, 370),
    (385, 330),
    (450, 300),
    (520, 272),
    (560, 290),
    (548, 215),
    (575, 165),
    (605, 137),
]
right_trees += [(640, 150), (640, 427)]
rows, columns = np.mgrid[:height, :width]
points = np.column_stack([columns.ravel(), rows.ravel()])


def inside(outline):
    return Path(outline).contains_points(points).reshape(height, width)


shows = {"building": inside(tower)}
shows["trees"] = (inside(left_trees) | inside(right_trees)) & ~shows["building"]
free = ~(shows["building"] | shows["trees"])
shows["sky"] = free & (rows < 205)
shows["water"] = free & (rows >= 225)
names = list(shows)


def tiles(values):
    """Rows of tiles: shape (n tiles, pixels of a tile, channels)."""
    parts = values.reshape(height // TILE, TILE, width // TILE, TILE, -1).swapaxes(1, 2)
    return parts.reshape(-1, TILE * TILE, values.shape[-1])


complete = np.where(tiles(np.stack(list(shows.values()), axis=-1)).mean(axis=1) > 0.1, 1, -1)

# %%
# One question in ten is answered
# -------------------------------
# The features are simple: quantiles and spread of the colours red, green and blue in a tile, the same for their shares,
# and all products of these.
colours = tiles(photograph / 255)
colours = np.concatenate([colours, colours / (colours.sum(axis=2, keepdims=True) + 0.1)], axis=2)
X = np.concatenate([*np.quantile(colours, [0.1, 0.5, 0.9], axis=1), colours.std(axis=1)], axis=1)
X = make_pipeline(StandardScaler(), PolynomialFeatures(2, include_bias=False), StandardScaler()).fit_transform(X)
Y = drop_labels(complete, known=0.1, random_state=0, by="entry")
print(describe(Y))

# %%
# Answer the other questions
# --------------------------
# Scores are over the entries that were unknown in training.
clf = PartialLabelClassifier().fit(X, Y)
probabilities = clf.predict_proba(X)
unknown = np.where(Y == 0, complete, 0)
for name, precision in zip(names, average_precision_per_label(unknown, probabilities)):
    print(f"{name:10} average precision {precision:.2f}")

# %%
# The answers, over the photograph
# --------------------------------
# The darker the green, the more probable the label. A plus is a known presence, a cross a known absence.
fig, axes = plt.subplots(2, 2, figsize=(7, 5), layout="constrained")
shape = height // TILE, width // TILE
over = {"alpha": 0.6, "extent": (0, width, height, 0)}
for j, ax in enumerate(axes.flat):
    ax.imshow(photograph.mean(axis=2), cmap="gray", **over)
    ax.imshow(probabilities[:, j].reshape(shape), cmap="Greens", vmin=0, vmax=1, **over)
    for sign, mark in (1, "+"), (-1, "x"):
        row, column = np.nonzero(Y[:, j].reshape(shape) == sign)
        ax.plot(column * TILE + TILE / 2, row * TILE + TILE / 2, mark, color="black" if sign == 1 else "#b35900", ms=5)
    ax.set_title(names[j], fontsize=14)
    ax.set_axis_off()
fig.savefig("photographs.png", dpi=120)
