"""
Train a network on images with one label each
=============================================

Each scene shows several handwritten digits, but only one of them is recorded. A small network learns them from a random
start. Its head looks for the regions where a digit shows best. The loss decides what the unrecorded digits mean. The
same network then learns from a tenth of all labels, presences and absences.
"""

from __future__ import annotations

import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torchvision.ops import Conv2dNormActivation

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.heads import WeldonPooling
from skpartial.images import Backbone
from skpartial.inspection import class_activation_maps
from skpartial.labels import drop_labels, keep_single_positive
from skpartial.losses import ROLE, AssumeNegative, IgnoreUnknown, LargeLoss
from skpartial.solvers import Minibatch

# %%
# Images
# ------
# A classifier takes images as they are, here an array of uint8. Test scenes show handwriting that training scenes do
# not.

train = make_digit_scenes(2000, scans="train", random_state=0)
test = make_digit_scenes(400, scans="test", random_state=1)
single = keep_single_positive(train.target, random_state=0)
print(f"{train.images.shape}, {(train.target == 1).sum(axis=1).mean():.2f} digits per scene, one of them recorded")

# %%
# A network
# ---------
# A backbone is the name of a network in torchvision, or your own module. This one has five convolutions with batch
# norms. A position of the last layer sees about one digit and its surroundings. The head scores every position and
# averages the best three.

torch.manual_seed(0)
network = nn.Sequential(
    Conv2dNormActivation(3, 16, 3),
    Conv2dNormActivation(16, 16, 3, stride=2),
    Conv2dNormActivation(16, 32, 3),
    Conv2dNormActivation(32, 32, 3, stride=2),
    Conv2dNormActivation(32, 64, 3),
)
settings = {
    "backbone": Backbone(network, image_size=32, augment=None),
    "head": WeldonPooling(k_max=3, k_min=0),
    "solver": Minibatch(learning_rate=2e-3, head_rate=1.0, max_epochs=20, batch_size=16, schedule="cosine"),
    "random_state": 0,
}

# %%
# What unrecorded digits mean
# ---------------------------
# AN reads them as absent. Large loss (rejected) reads them as absent unless the network insists. ROLE learns an
# estimate of every label along with the network. AN is told that more than half of the present labels are absent, and a
# network can learn these by heart.

losses = {
    "AN": AssumeNegative(),
    "ROLE": ROLE(expected_positives=2.4),
    "large loss": LargeLoss("reject", delta=0.005),
}
fitted, scores = {}, {}
for name, loss in losses.items():
    start = time.perf_counter()
    fitted[name] = SinglePositiveClassifier(loss, **settings).fit(train.images, single)
    scores[name] = fitted[name].score(test.images, test.target)
    print(f"{name:12s} mean average precision {scores[name]:.2f}, {time.perf_counter() - start:.0f} s")
print(f"{'by chance':12s} mean average precision {(test.target == 1).mean():.2f}")

# %%
# A tenth of all labels
# ---------------------
# Here, too, one label per scene is known, but three of four say that a digit is absent. So few presences are known that
# it takes more scenes. Unknown labels are left out.

more = make_digit_scenes(4000, scans="train", random_state=0)
tenth = drop_labels(more.target, known=0.1, random_state=0)
clf = PartialLabelClassifier(IgnoreUnknown(), **settings).fit(more.images, tenth)
print(f"{(tenth == 1).sum()} presences and {(tenth == -1).sum()} absences known")
print(f"mean average precision {clf.score(test.images, test.target):.2f}")

# %%
# Where it looks
# --------------
# Below each test scene is the map of the scores for one of its digits.

shown = [(int(np.flatnonzero(test.target[:, digit] == 1)[0]), digit) for digit in (2, 3, 5, 8)]
figure, axes = plt.subplots(2, len(shown), figsize=(8, 4.2), layout="constrained")
for column, (row, digit) in enumerate(shown):
    scene = test.images[row : row + 1]
    heat = class_activation_maps(fitted["large loss"], scene, labels=[digit])[0, 0]
    axes[0, column].imshow(scene[0])
    axes[1, column].imshow(scene[0], extent=(0, 1, 0, 1))
    axes[1, column].imshow(heat, extent=(0, 1, 0, 1), alpha=0.6, cmap="magma")
    axes[0, column].set_title(test.label_names[digit])
for axis in axes.flat:
    axis.set_axis_off()
figure.suptitle("Scores of a label by region (large loss)")
plt.show()
