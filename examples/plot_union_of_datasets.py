"""
One model for several data sets with different labels
=====================================================

Three data sets have images of the same kind. Each is annotated completely, but for different labels. Together they form
one label matrix, in which whole blocks are unknown: labels that annotators never looked for are not absent. This
example trains one model on all data sets and leaves these blocks out. It compares the model with one that reads the
blocks as absences.
"""

# %%
# Three data sets
# ---------------
# The first was annotated for the digits zero to four. The second is larger, and was annotated for four to nine. The
# third is small, and was annotated for seven to nine, which are rare.
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
# All entries are unknown at first. Then each data set fills in its annotations. If data sets name the same label
# differently, rename it first. In pandas, use ``pd.concat`` and ``fillna(0)`` on label matrices. From a list of
# annotations, :func:`skpartial.labels.from_annotations` builds the same matrix.
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
# ``loss="iu"`` leaves unknown entries out and weighs all known ones equally. ``"partial_bce"`` would give the third
# data set more weight, because its rows have fewer known labels. The last model has complete annotations of all images.


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
# Assumed absences cost most if they are the majority. The first four labels were annotated in 400 of 2,200 images, and
# absence is assumed in all others. The ranking suffers, and the probabilities suffer more: these labels are hardly ever
# predicted.
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
