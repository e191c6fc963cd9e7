"""
One label per image: learning from single positives
===================================================

A multi-class data set files every image under one class, although it may show more. Read as labels, each row has one
known presence, nothing is known of the other labels, and no absence is recorded anywhere. A loss that leaves unknown
entries out would learn that everything is always present: something has to be assumed about them.
:class:`~skpartial.SinglePositiveClassifier` assumes absence; this example compares that with other
assumptions, and with what complete labels would have given.
"""

# %%
# Classes, and the label matrix that they make
# --------------------------------------------
# :func:`~skpartial.labels.keep_single_positive` draws the one label that each image is filed under, and
# :func:`~skpartial.labels.from_classes` turns classes into labels: 1 where the class is, 0 (unknown) elsewhere.
import matplotlib

matplotlib.use("agg")  # write figures to files, with or without a screen
import matplotlib.pyplot as plt
import numpy as np

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.labels import describe, from_classes, keep_single_positive
from skpartial.losses import AssumeNegative, WeakAssumeNegative
from skpartial.metrics import f1, mean_average_precision
from skpartial.model_selection import TunedThresholdsCV

train = make_digit_scenes(2000, scans="train", random_state=0)
test = make_digit_scenes(2000, scans="test", random_state=1)

seen = keep_single_positive(train.target, random_state=1200).argmax(axis=1)
classes = np.array(train.label_names)[seen]
print("classes of the first images:", *classes[:6])

Y = from_classes(classes, classes=train.label_names)
print(describe(Y))

# %%
# Four assumptions
# ----------------
# With ten labels, the weight of an unknown entry in :class:`~skpartial.losses.WeakAssumeNegative` is 1/9: the nine
# assumed absences of a row weigh as much as its one presence.
losses = {
    "assume absent (AN)": AssumeNegative(),
    "AN, label smoothing 0.05": AssumeNegative(label_smoothing=0.05),
    "AN, smoothing of unknown 0.1": AssumeNegative(label_smoothing=(0.0, 0.1)),
    "AN, weak (WAN)": WeakAssumeNegative(),
}


def probe(**parameters):
    return SinglePositiveClassifier(threshold=0.5, **parameters)


models = {name: probe(loss=loss).fit(train.data, Y) for name, loss in losses.items()}

# %%
# By default a threshold of the classifier's own, from what it gives presences that it has not seen, takes the place of
# one half. Two other cures for predictions that leave the loss as it is: ``class_weight="balanced"`` lets the presences
# and the assumed absences of a label weigh the same, and :class:`~skpartial.model_selection.TunedThresholdsCV` chooses
# a threshold for each label.
models["AN, the default"] = SinglePositiveClassifier().fit(train.data, Y)
models["AN, balanced weights"] = probe(class_weight="balanced").fit(train.data, Y)
models["AN, tuned thresholds"] = TunedThresholdsCV(probe(), unknown="absent", random_state=0).fit(train.data, Y)
models["all labels known"] = PartialLabelClassifier(loss="bce").fit(train.data, train.target)

# %%
# Rankings and probabilities
# --------------------------
# Mean average precision sees only how images are ranked for each label. F1 also sees whether probabilities lie on the
# right side of one half: assumed absences draw them down, less so where they weigh little. With a threshold of one half
# 0.3 labels per image are predicted where 2.4 are present; the default, weak or balanced absences and tuned thresholds
# predict about as many as there are. Rankings hardly differ.
print(f"{'':30} {'mAP':>6} {'micro F1':>9} {'present per row':>15}")
results = {}
for name, model in models.items():
    labels = model.predict(test.data)
    results[name] = (
        mean_average_precision(test.target, model.decision_function(test.data)),
        f1(test.target, labels, average="micro"),
    )
    print(f"{name:30} {results[name][0]:6.3f} {results[name][1]:9.3f} {labels.sum(axis=1).mean():15.2f}")
print(f"{'present in truth':30} {'':6} {'':9} {(test.target == 1).sum(axis=1).mean():15.2f}")

# %%
# Choosing without complete labels
# --------------------------------
# Over known entries alone every ranking of positive-only labels is perfect. The classifier's ``score`` therefore reads
# unknown as absent (metrics do so by ``unknown="absent"``). It asks which label of an image gets
# recorded, rather than which are present: compare models that make the same assumption by it, such as several values
# of ``alpha``, not assumptions. Here it puts the weak form last, which complete labels put first. A small set of
# completely annotated images is the better guide.
held_out = from_classes(
    keep_single_positive(test.target, random_state=1200).argmax(axis=1), classes=range(len(test.label_names))
)
for name in losses:
    print(f"{name:30} {models[name].score(test.data, held_out):6.3f}")

# %%
fig, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
position = np.arange(len(results))
for shift, measure, label in ((-0.2, 0, "mean average precision"), (0.2, 1, "micro F1")):
    values = [result[measure] for result in results.values()]
    axes.barh(position + shift, values, height=0.38, label=label)
axes.set_yticks(position, list(results))
axes.invert_yaxis()
axes.set_xlim(0, 1)
fig.legend(loc="outside lower center", ncols=2)
axes.set_title("On test images, all labels known")
fig.savefig("single_positive.png", dpi=120)
print("The figure is in single_positive.png, in the working directory.")
