"""
Images without labels
=====================

Only 50 of 1,000 digit scenes were annotated. A classifier trained on these alone wastes the others. With a relabelling
they take part in training. This example compares three relabellings, looks at the labels that they give to the other
images, and shows where these are wrong.
"""

# %%
# 5% of the rows are labelled
# ---------------------------
# A row of zeros is an image without labels.
import textwrap

import matplotlib

matplotlib.use("agg")  # write figures to files, with or without a screen
import matplotlib.pyplot as plt
import numpy as np

from skpartial import PartialLabelClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.labels import describe
from skpartial.model_selection import PartialLabelShuffleSplit
from skpartial.relabeling import ClassDistribution, LabelSpreading, Propagation

train = make_digit_scenes(1000, scans="train", random_state=0)
test = make_digit_scenes(2000, scans="test", random_state=1)
X = train.data
labelled, _ = next(PartialLabelShuffleSplit(train_size=0.05, random_state=0).split(X, train.target))
Y = np.zeros_like(train.target)
Y[labelled] = train.target[labelled]
unlabelled = np.flatnonzero((Y == 0).all(axis=1))
print(f"{len(labelled)} labelled rows, {len(unlabelled)} without labels")
for note in describe(Y).notes[-2:]:
    print(textwrap.fill(note, 100))

# %%
# Without and with the others
# ---------------------------
# The loss ignores unknown entries, so without a relabelling the rows of zeros have no effect.
methods = {
    "labelled rows alone": None,
    "Propagation": Propagation(),
    "ClassDistribution": ClassDistribution(),
    "LabelSpreading": LabelSpreading(),
}
fitted, scores = {}, {}
for name, relabeling in methods.items():
    clf = PartialLabelClassifier("iu", relabeling=relabeling, alpha=1e-3, random_state=0).fit(X, Y)
    fitted[name], scores[name] = clf, clf.score(test.data, test.target)
    print(f"{name:20} {scores[name]:.3f}")
full = PartialLabelClassifier("iu", alpha=1e-3).fit(X, train.target).score(test.data, test.target)
print(f"{'all rows labelled':20} {full:.3f}")

# %%
# Labels of the nearest labelled row
# ----------------------------------
# With :class:`~skpartial.relabeling.Propagation` an image without labels inherits those of the nearest labelled image.
# Its weight is their similarity. The upper row shows images without labels, from the most to the least similar to a
# labelled image. Below each of them is this labelled image. Titles say what is present.
found = fitted["Propagation"]
order = unlabelled[np.argsort(-found.similarities_[unlabelled])]
shown = order[np.linspace(0, len(order) - 1, 4).astype(int)]
names = np.asarray(train.label_names)


def digits_of(labels):
    """The digits that are present, in words."""
    return " ".join(names[labels == 1])


figure, axes = plt.subplots(2, 4, figsize=(7, 4.6), layout="constrained")
for (above, below), row in zip(axes.T, shown):
    neighbor = found.neighbors_[row, 0]
    above.imshow(train.images[row].squeeze(), cmap="gray")
    above.set_title(f"{digits_of(train.target[row])}\nweight {found.similarities_[row]:.2f}", fontsize="medium")
    below.imshow(train.images[neighbor].squeeze(), cmap="gray")
    below.set_title(f"inherits\n{digits_of(Y[neighbor])}", fontsize="medium")
for axis in axes.flat:
    axis.set_axis_off()
plt.show()

# %%
# Near is not the same
# --------------------
# Only about half of the inherited presences are right, and a few more in the half of the rows with more weight. Soft
# targets are better. Those of :class:`~skpartial.relabeling.LabelSpreading` are close to the share of entries that are
# present, so doubtful entries stay doubtful in training. ``ClassDistribution`` needs a classifier that is good already.
# Here it confirms the mistakes of the first one.
truth = train.target[unlabelled] == 1
inherited = found.propagated_labels_[unlabelled] == 1
near = found.similarities_[unlabelled] > np.median(found.similarities_[unlabelled])
for name, rows in (("nearer half", near), ("farther half", ~near)):
    print(f"{name}: {truth[rows][inherited[rows]].mean():.0%} of the inherited presences are right")

spread = fitted["LabelSpreading"].spread_labels_[unlabelled]
edges = np.linspace(0, 1, 11)
bins = np.clip(np.digitize(spread, edges) - 1, 0, 9)
counts = np.bincount(bins.ravel(), minlength=10)
shares = np.bincount(bins.ravel(), truth.ravel(), minlength=10) / np.maximum(counts, 1)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.barh(list(scores), list(scores.values()), color=["tab:gray", "tab:blue", "tab:blue", "tab:blue"])
left.axvline(full, color="black", linestyle="--", label="all rows labelled")
left.set(xlabel="mean average precision, test images")
left.legend(fontsize="small")
right.plot([0, 1], [0, 1], color="tab:gray", linewidth=1)
right.plot((edges[:-1] + edges[1:])[counts > 20] / 2, shares[counts > 20], "o-")
right.set(xlabel="soft target of an entry without label", ylabel="share of these that are present")
plt.show()
