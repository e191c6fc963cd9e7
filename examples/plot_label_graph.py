"""
What a classifier learns of how labels belong together
======================================================

Scenes of digits in which some digits come in company. With half of the labels known, similarities of images and of
labels are learned along with the classifier, and the graph of the labels is drawn: who speaks for whom.
"""

# %%
# Digits in company
# -----------------
# Scenes are drawn at random, so that digits are independent. Here those are kept more often that have both of three and
# eight, or of one and seven, or none, and not both of zero and six.
import matplotlib

matplotlib.use("agg")  # write figures to files, with or without a screen
import matplotlib.pyplot as plt
import numpy as np

from skpartial import PartialLabelClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.labels import cooccurrence, drop_labels
from skpartial.metrics import mean_average_precision
from skpartial.regularizers import InteractiveSmoothness, label_relations


def in_company(n_samples, scans, seed):
    scenes = make_digit_scenes(n_samples, scans=scans, random_state=seed)
    present = scenes.target == 1
    together = [(3, 8), (1, 7)]
    odds = np.prod([np.where(present[:, i] == present[:, j], 1, 0.15) for i, j in together], axis=0)
    odds *= np.where(present[:, 0] & present[:, 6], 0.15, 1)
    kept = np.random.default_rng(seed).random(n_samples) < odds
    return scenes.data[kept], scenes.target[kept], scenes.label_names


X, complete, names = in_company(1600, "train", seed=0)
X_test, Y_test, _ = in_company(800, "test", seed=1)
Y = drop_labels(complete, known=0.5, random_state=0)
print(f"{len(X)} scenes for training, {(Y != 0).mean():.0%} of their labels known")

# %%
# Refine a linear probe
# ---------------------
# The regulariser is added to the loss. The probe is solved without it first, and refined with it.
probe = PartialLabelClassifier(alpha=0.01, random_state=0).fit(X, Y)
smooth = InteractiveSmoothness(n_atoms=1, n_neighbors_labels=4)
clf = PartialLabelClassifier(regularizer=smooth, alpha=0.01, random_state=0).fit(X, Y)
for name, model in (("linear probe", probe), ("with smoothness", clf)):
    score = mean_average_precision(Y_test, model.decision_function(X_test))
    print(f"{name:16} mean average precision {score:.3f}")

# %%
# The strongest relations
# -----------------------
# :func:`skpartial.regularizers.label_relations` names them. A weight is the part that a label of a similar scene has in
# the reconstruction of another label.
for source, target, weight in label_relations(clf, names, n_relations=6):
    print(f"{source} speaks for {target}: {weight:.2f}")

# %%
# The graph
# ---------
# On the left how often digits are known to be present together, which is all that the graph is told at first; on the
# right what is learned. The part that each label has in itself is left out.
counts = cooccurrence(Y).astype(float)
learned = clf.label_graph_.copy()
fig, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
for ax, title, matrix in zip(axes, ("known together, rows", "weight in the graph"), (counts, learned)):
    np.fill_diagonal(matrix, np.nan)
    image = ax.imshow(matrix, cmap="viridis")
    ax.set(title=title, xticks=range(10), yticks=range(10), xticklabels=names, yticklabels=names)
    ax.set(xlabel="label that is told of", ylabel="label that tells")
    ax.tick_params(axis="x", rotation=90)
    fig.colorbar(image, ax=ax, shrink=0.8)
plt.show()
