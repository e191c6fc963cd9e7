"""
Train a network on images with one label each
=============================================

Scenes of handwritten digits, of which only one digit each was recorded, and a network that starts from nothing: the
first layers of a ResNet-18, with a head that looks for the region where a digit shows best. The loss decides what the
unrecorded digits mean. The same network learns from a tenth of all labels, of both signs.
"""

from __future__ import annotations

import time

import matplotlib.pyplot as plt
import numpy as np
import torch
import torchvision
from torch import nn

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
# A classifier takes images as they are: here an array of uint8. Training scenes and test scenes hold different scans.

train = make_digit_scenes(800, scans="train", random_state=0)
test = make_digit_scenes(400, scans="test", random_state=1)
single = keep_single_positive(train.target, random_state=0)
tenth = drop_labels(train.target, known=0.1, random_state=0)
print(f"{train.images.shape}, {(train.target == 1).sum(axis=1).mean():.2f} digits a scene")

# %%
# A network
# ---------
# A backbone is a name of torchvision, or a module of one's own. The stem and two stages of a ResNet-18 see about a
# digit at a time; their maps go to a head that scores every region and keeps the best.

torch.manual_seed(0)
stages = nn.Sequential(*list(torchvision.models.resnet18(weights=None).children())[:6])
settings = {
    "backbone": Backbone(stages, image_size=48, augment=None),
    "head": WeldonPooling(k_max=1, k_min=0),
    "solver": Minibatch(learning_rate=2e-3, head_rate=1.0, max_epochs=8, batch_size=16, schedule="cosine"),
    "random_state": 0,
}

# %%
# What unrecorded digits mean
# ---------------------------
# Absent (AN), absent unless the network insists (large loss, rejected), or what a label estimate says that is learned
# along with the network (ROLE); and for comparison, a tenth of all labels with what is unknown left out.

losses = {
    "one digit recorded: AN": AssumeNegative(),
    "large loss": LargeLoss("reject", delta=0.01),
    "ROLE": ROLE(expected_positives=2.4),
}
fitted, scores = {}, {}
for name, loss in losses.items():
    start = time.perf_counter()
    fitted[name] = SinglePositiveClassifier(loss, **settings).fit(train.images, single)
    scores[name] = fitted[name].score(test.images, test.target)
    print(f"{name:28s} mean average precision {scores[name]:.2f}, {time.perf_counter() - start:.0f} s")
name = "a tenth of all labels: IU"
scores[name] = (
    PartialLabelClassifier(IgnoreUnknown(), **settings).fit(train.images, tenth).score(test.images, test.target)
)
print(f"{name:28s} mean average precision {scores[name]:.2f}")
print(f"{'by chance':28s} mean average precision {(test.target == 1).mean():.2f}")

# %%
# Where it looks
# --------------
# The map of a label's scores, drawn over a test scene that holds the digit.

best = max(fitted, key=lambda name: scores[name])
shown = [int(np.flatnonzero(test.target[:, digit] == 1)[0]) for digit in (2, 3, 5, 8)]
figure, axes = plt.subplots(2, 4, figsize=(8, 4.2), layout="constrained")
for column, (row, digit) in enumerate(zip(shown, (2, 3, 5, 8))):
    scene = test.images[row : row + 1]
    heat = class_activation_maps(fitted[best], scene, labels=[digit])[0, 0]
    axes[0, column].imshow(scene[0])
    axes[1, column].imshow(scene[0], extent=(0, 1, 0, 1))
    axes[1, column].imshow(heat, extent=(0, 1, 0, 1), alpha=0.6, cmap="magma")
    axes[0, column].set_title(test.label_names[digit])
for axis in axes.flat:
    axis.set_axis_off()
figure.suptitle(f"Scores of a label by region ({best})")
plt.show()
