"""
Learn which labels occur together
=================================

In these scenes some digits often appear together. Half of the labels are known. The classifier learns similarities of
images and of labels, and the example draws the graph of the labels: which label is evidence for which.
"""

# %%
# Digits that appear together
# ---------------------------
# In random scenes digits are independent. Here a scene is kept more often if it has both three and eight or neither,
# and both one and seven or neither. It is kept less often if it has both zero and six.
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
# The regulariser is a term added to the loss. The probe is first solved without it, and then refined with it.
probe = PartialLabelClassifier(alpha=0.01, random_state=0).fit(X, Y)
smooth = InteractiveSmoothness(n_atoms=1, n_neighbors_labels=4)
clf = PartialLabelClassifier(regularizer=smooth, alpha=0.01, random_state=0).fit(X, Y)
for name, model in (("linear probe", probe), ("with smoothness", clf)):
    score = mean_average_precision(Y_test, model.decision_function(X_test))
    print(f"{name:16} mean average precision {score:.3f}")

# %%
# The strongest relations
# -----------------------
# :func:`skpartial.regularizers.label_relations` names them. A weight says how much one label of similar scenes
# contributes to the reconstruction of another label.
for source, target, weight in label_relations(clf, names, n_relations=6):
    print(f"{source} is evidence for {target}: {weight:.2f}")

# %%
# The graph
# ---------
# The left panel shows how often two digits are known to be present together. The graph starts from these counts. The
# right panel shows the learned weights. The diagonal is left out.
counts = cooccurrence(Y).astype(float)
learned = clf.label_graph_.copy()
fig, axes = plt.subplots(1, 2, figsize=(7, 3.8), layout="constrained")
for ax, title, matrix in zip(axes, ("known together, rows", "weight in the graph"), (counts, learned)):
    np.fill_diagonal(matrix, np.nan)
    image = ax.imshow(matrix, cmap="viridis")
    ax.set(title=title, xticks=range(10), yticks=range(10), xticklabels=names, yticklabels=names)
    ax.set(xlabel="reconstructed label", ylabel="label of similar scenes")
    ax.tick_params(axis="x", rotation=90)
    fig.colorbar(image, ax=ax, location="bottom", shrink=0.8)
plt.show()
