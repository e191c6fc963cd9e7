"""
One model for several data sets with different labels
=====================================================

Three data sets of images of one kind, each annotated completely, but for labels of its own. Put together, they make one
label matrix in which whole blocks are unknown: what the annotators of the one data set never looked for is not absent
from its images. One model is trained on all of them, leaving the blocks out, and compared with one to which the blocks
are absences.
"""

# %%
# Three data sets
# ---------------
# The first was annotated for the digits zero to four, the second, which is larger, for four to nine, and the third, a
# small one, for the rare ones, seven to nine.
import matplotlib

matplotlib.use("agg")  # write figures to files, with or without a screen
import matplotlib.pyplot as plt
import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpartial import PartialLabelClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.labels import describe
from skpartial.metrics import average_precision_per_label, f1, mean_average_precision

datasets = [
    (make_digit_scenes(400, scans="train", random_state=0), [0, 1, 2, 3, 4]),
    (make_digit_scenes(1500, scans="train", random_state=1), [4, 5, 6, 7, 8, 9]),
    (make_digit_scenes(300, scans="train", random_state=2), [7, 8, 9]),
]
test = make_digit_scenes(2000, scans="test", random_state=3)
names = test.label_names

# %%
# One label matrix
# ----------------
# It starts as unknown throughout, and takes each data set's annotations where they belong. Sets that name their labels
# differently need a table of names here. In pandas this is ``pd.concat`` and ``fillna(0)`` of label matrices, and
# :func:`skpartial.labels.from_annotations` builds the same matrix from a list of annotations.
X = np.vstack([scenes.data for scenes, _ in datasets])
Y = np.zeros((len(X), len(names)), dtype=np.int8)
start = 0
for scenes, columns in datasets:
    rows = slice(start, start + len(scenes.data))
    Y[rows, columns] = scenes.target[:, columns]
    start = rows.stop

print(describe(Y))

# %%
# Fit and score
# -------------
# ``loss="iu"`` leaves unknown entries out and weighs all known ones the same; ``"partial_bce"`` would
# weigh entries of the third data set more, because its rows have fewer known labels. The last model is what complete
# annotations of all images would have given.


def probe(loss):
    return make_pipeline(StandardScaler(), PartialLabelClassifier(loss=loss, alpha=0.001))


models = {
    "blocks left out": probe("iu").fit(X, Y),
    "blocks assumed absent": probe("an").fit(X, Y),
    "all labels known": probe("bce").fit(X, np.vstack([scenes.target for scenes, _ in datasets])),
}
precision, f1_score = {}, {}
print(f"{'':24} {'mAP':>6} {'macro F1':>9}")
for name, model in models.items():
    scores, labels = model.decision_function(test.data), model.predict(test.data)
    precision[name] = average_precision_per_label(test.target, scores)
    f1_score[name] = f1(test.target, labels, average=None)
    mean, mean_f1 = mean_average_precision(test.target, scores), f1_score[name].mean()
    print(f"{name:24} {mean:6.3f} {mean_f1:9.3f}")

print(f"\naverage precision{'':7} " + " ".join(f"{name:>5}" for name in names))
for name, values in precision.items():
    print(f"{name:24} " + " ".join(f"{value:5.2f}" for value in values))

# %%
# Per label
# ---------
# Assumed absences cost most where most rows are assumed: the first four labels were annotated in 400 of 2,200 images,
# and absence is assumed in the others, present or not. The ranking suffers, and the probabilities even more: those
# labels are hardly ever predicted.
fig = plt.figure(figsize=(8, 6), layout="constrained")
panels = fig.subplot_mosaic("LM\nLR", width_ratios=(0.6, 1))
left, middle, right = panels.values()
left.imshow(Y, aspect="auto", cmap="coolwarm", vmin=-1, vmax=1, interpolation="nearest")
left.set_xticks(range(10), names, rotation=90)
left.set_ylabel("image")
left.set_title("present (red), absent (blue)\nand unknown (grey)")
for axes, values, title in ((middle, precision, "average precision"), (right, f1_score, "F1")):
    for (name, value), marker in zip(values.items(), "osx"):
        axes.plot(value, marker, label=name)
    axes.set_xticks(range(10), names, rotation=90)
    axes.set_ylim(0, 1)
    axes.set_title(f"{title} on test images")
right.legend(loc="lower right")
fig.savefig("union_of_datasets.png", dpi=120)
print("The figure is in union_of_datasets.png, in the working directory.")
