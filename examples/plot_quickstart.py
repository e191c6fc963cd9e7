"""
A linear probe on a tenth of the labels
=======================================

Each image shows one to four of the ten handwritten digits. The ten labels say which. Only one label of each image is
known, as present or absent; nine are unknown. This example compares three ways to train on such labels:

- leave unknown entries out (:class:`~skpartial.PartialLabelClassifier` as it is);
- assume that unknown means absent (``loss="an"``);
- pass the matrix of -1, 0 and 1 to scikit-learn's ``MultiOutputClassifier``.

The test images show other handwriting, and all their labels are known.
"""

# %%
# Data: images, and features for a linear model
# ---------------------------------------------
# ``target`` is complete: 1 present, -1 absent. Training scenes and test scenes show different handwriting.
import matplotlib

matplotlib.use("agg")  # write figures to files, with or without a screen
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpartial import PartialLabelClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.labels import describe, drop_labels
from skpartial.metrics import average_precision_per_label, f1, mean_average_precision

train = make_digit_scenes(2000, scans="train", random_state=0)
test = make_digit_scenes(2000, scans="test", random_state=1)

# %%
# Keep a tenth of the labels
# --------------------------
# :func:`~skpartial.labels.drop_labels` makes the others unknown (0). :func:`~skpartial.labels.describe` counts what is
# left, and says what it allows.
Y = drop_labels(train.target, known=0.1, random_state=0)
print(describe(Y))

# %%
# Fit
# ---
# The classifier is a scikit-learn estimator, and takes features in any units. The first model is the reference: it is
# trained on all ten labels of every image.


def probe(loss):
    return PartialLabelClassifier(loss=loss)


models = {
    "all labels known": probe("bce").fit(train.data, train.target),
    "unknown left out": probe("iu").fit(train.data, Y),
    "unknown assumed absent": probe("an").fit(train.data, Y),
    "MultiOutputClassifier": make_pipeline(
        StandardScaler(), MultiOutputClassifier(LogisticRegression(C=0.1, max_iter=1000))
    ).fit(train.data, Y),
}

# %%
# scikit-learn's classifier has learned three classes for each label. "Unknown" is by far the most frequent one, so it
# predicts that nearly always. Below, its probability of the class 1 serves as its score.
naive = models["MultiOutputClassifier"]
print("classes of each label:", naive[-1].estimators_[0].classes_)
values, counts = np.unique(naive.predict(test.data), return_counts=True)
print("its predictions:", dict(zip(values.tolist(), counts.tolist())))


def scores_and_labels(model):
    if hasattr(model, "named_steps"):
        present = np.column_stack([probabilities[:, -1] for probabilities in model.predict_proba(test.data)])
        return present, (model.predict(test.data) == 1).astype(int)
    return model.decision_function(test.data), model.predict(test.data)


# %%
# Score
# -----
# Mean average precision measures how well images are ranked for each label, F1 how well labels are predicted. If
# unknown is assumed absent, every label seems rare, and hardly a probability reaches one half.
results = {}
print(f"\n{'':24} {'mAP':>6} {'micro F1':>9}")
for name, model in models.items():
    scores, labels = scores_and_labels(model)
    results[name] = average_precision_per_label(test.target, scores)
    mean = mean_average_precision(test.target, scores)
    print(f"{name:24} {mean:6.3f} {f1(test.target, labels, average='micro'):9.3f}")

# %%
# The estimator's own ``score`` is the same mean average precision. It also takes incomplete labels, and then counts
# only the known entries.
print("score:", round(models["unknown left out"].score(test.data, test.target), 3))

# %%
# Average precision of each label
# -------------------------------
fig, (top, bottom) = plt.subplots(2, 1, figsize=(7, 5.5), height_ratios=(1, 1.5), layout="constrained")
shown = train.images[:12].reshape(2, 6, 32, 32, 3).transpose(0, 2, 1, 3, 4).reshape(64, 192, 3)
top.imshow(shown)
top.set_axis_off()
top.set_title("Twelve of the training images")
for name, marker in zip(results, "ovsx"):
    bottom.plot(results[name], marker, label=name)
bottom.set_xticks(range(10), test.label_names)
bottom.set_ylabel("average precision")
bottom.set_ylim(0, 1)
bottom.legend(loc="lower left", fontsize=9)
bottom.set_title("On test images, all labels known")
fig.savefig("quickstart.png", dpi=120)
print("The figure is in quickstart.png, in the working directory.")
