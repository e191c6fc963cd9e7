"""
How to spend a budget for annotations
=====================================

A budget pays for a fixed number of correct labels. Should you spend it on a few labels of every image, or on all labels
of a few images? Or should every image get all its labels, many of them wrong? Durand et al. (CVPR 2019, figure 3 and
table 1) compare these ways at equal numbers of correct labels. This example does so on scenes of digits.
"""

# %%
# Four ways
# ---------
# Let p be the share of correct labels.
#
# - "partial": a share p of the labels of every image is known. The rest is unknown.
# - "dense": all labels are known for a share p of the images. Nothing is known of the other images.
# - "noisy": every label is given, and a share 1 - p of them is wrong. With less than half of them right, they mostly
#   say the opposite of the truth.
# - "one present": every label is given. One present label of each image is right, as if a search engine had found the
#   image by that label. All others are said to be absent. The images decide how many of these are wrong.
import matplotlib

matplotlib.use("agg")  # write figures to files, with or without a screen
import matplotlib.pyplot as plt
import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpartial import PartialLabelClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.labels import drop_labels, flip_labels, keep_dense_rows, keep_single_positive
from skpartial.model_selection import BatchedGridSearchCV, PartialLabelKFold

N_SEEDS = 3
SHARES = [0.1, 0.2, 0.4, 0.7, 1.0]

train = make_digit_scenes(1000, scans="train", random_state=0)
test = make_digit_scenes(2000, scans="test", random_state=1)

ways = {
    "partial": lambda share, seed: drop_labels(train.target, known=share, random_state=seed),
    "dense": lambda share, seed: keep_dense_rows(train.target, known=share, random_state=seed),
    "noisy": lambda share, seed: flip_labels(train.target, flipped=1 - share, random_state=seed),
}

# %%
# One classifier
# --------------
# Each way trains by cross-entropy over the known entries. With few labels the penalty matters as much as the labels do.
# So each way chooses its penalty by cross-validation on its own labels, right or wrong.
alphas = [1e-2, 1e-1, 1.0]


def score(Y, seed):
    """Mean average precision on test images, in percent."""
    search = BatchedGridSearchCV(
        make_pipeline(StandardScaler(), PartialLabelClassifier("iu", random_state=seed)),
        {"partiallabelclassifier__alpha": alphas},
        cv=PartialLabelKFold(3, shuffle=True, random_state=seed),
    )
    return 100 * search.fit(train.data, Y).score(test.data, test.target)


curves = {way: np.empty((len(SHARES), N_SEEDS)) for way in ways}
for seed in range(N_SEEDS):
    for way, labels in ways.items():
        curves[way][:, seed] = [score(labels(share, seed), seed) for share in SHARES]

single = [keep_single_positive(train.target, random_state=seed) for seed in range(N_SEEDS)]
one_present = np.array([score(np.where(Y == 1, 1, -1), seed) for seed, Y in enumerate(single)])
wrong = np.mean([(Y != 1) & (train.target == 1) for Y in single])
print(f"one present: {wrong:.1%} of the labels wrong, mean average precision {one_present.mean():.1f}")

# %%
# Results
# -------
# Shades are the standard deviation over three draws of labels. For a linear classifier on fixed features, "partial" and
# "dense" are equally good: it gains little from seeing more images. The source finds "partial" better for networks,
# which learn their features.
#
# Wrong labels cost much more than missing ones. A third of the labels, all right, is worth more than all labels with
# seven tenths of them right. A tenth or two of the labels are worth as much as "one present".
figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
print(f"{'correct labels':16}" + "".join(f"{share:>14.0%}" for share in SHARES))
for way, values in curves.items():
    mean, spread = values.mean(axis=1), values.std(axis=1, ddof=1)
    print(f"{way:16}" + "".join(f"{m:>8.1f} ± {s:3.1f}" for m, s in zip(mean, spread)))
    (drawn,) = axes.plot(SHARES, mean, "o-", label=way)
    axes.fill_between(SHARES, mean - spread, mean + spread, color=drawn.get_color(), alpha=0.2)
axes.errorbar(1 - wrong, one_present.mean(), one_present.std(ddof=1), fmt="s", color="black", label="one present")
axes.axhline(100 * (test.target == 1).mean(), color="grey", linestyle=":", label="by chance")
axes.set(xlabel="share of labels that are known and correct", ylabel="mean average precision, test images, %")
axes.legend()
plt.show()
