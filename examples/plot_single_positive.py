"""
One label per image: learning from single positives
===================================================

A multi-class data set gives every image one class, although the image may show more. Read as labels, each row has one
known presence. Nothing is known of the other labels, and no absence is recorded anywhere. A loss that leaves unknown
entries out would learn that everything is always present, so it takes an assumption.
:class:`~skpartial.SinglePositiveClassifier` assumes absence. This example compares that with other assumptions, and
with complete labels.
"""

# %%
# From classes to a label matrix
# ------------------------------
# :func:`~skpartial.labels.keep_single_positive` draws the class of each image from its labels.
# :func:`~skpartial.labels.from_classes` makes a label matrix of classes: 1 for the class of a row, 0 (unknown)
# elsewhere.
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
# Above, the threshold is one half. By default the classifier estimates a threshold from its probabilities of held-out
# presences. Two other remedies also keep the loss. With ``class_weight="balanced"``, the presences and the assumed
# absences of a label have the same total weight. :class:`~skpartial.model_selection.TunedThresholdsCV` chooses a
# threshold for each label.
models["AN, the default"] = SinglePositiveClassifier().fit(train.data, Y)
models["AN, balanced weights"] = probe(class_weight="balanced").fit(train.data, Y)
models["AN, tuned thresholds"] = TunedThresholdsCV(probe(), unknown="absent", random_state=0).fit(train.data, Y)
models["all labels known"] = PartialLabelClassifier(loss="bce").fit(train.data, train.target)

# %%
# Rankings and probabilities
# --------------------------
# Mean average precision measures only how images are ranked for each label. Rankings hardly differ here. F1 also
# depends on the threshold. Assumed absences lower the probabilities, except if they have little weight. With a
# threshold of one half, AN predicts 0.3 to 0.4 labels per image, but 2.4 are present. The default threshold, weak or
# balanced absences and tuned thresholds predict 1.5 to 2.3.
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
# unknown as absent, as metrics do with ``unknown="absent"``. It measures which label of an image gets recorded, not
# which labels are present. Use it to compare models with the same assumption, such as several values of ``alpha``. Do
# not use it to compare assumptions: here it puts the weak form last, and complete labels put it first. A small set of
# completely annotated images is a better guide.
held_out = from_classes(
    keep_single_positive(test.target, random_state=1200).argmax(axis=1), classes=range(len(test.label_names))
)
for name in losses:
    print(f"{name:30} {models[name].score(test.data, held_out):6.3f}")

# %%
# All models
# ----------
# The last one was trained on complete labels.
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
