"""
What training memorises, and how large losses tell
==================================================

Where unknown labels are read as absent, most of these assumed absences are true and some are false. A classifier that
could fit everything learns the true ones first, and only later memorises the false ones: in between, a false one shows
by its large loss. :class:`~skpartial.losses.LargeLoss` leaves out the entries of largest loss, more of them in every
epoch. This example follows the losses of both kinds over the epochs, as in figure 1 of Kim et al. (CVPR 2022).
"""

# %%
# More features than rows
# -----------------------
# Digit scenes, of which one present label an image was recorded. The 500 training rows get 3,000 random features, so
# that a linear classifier can memorise what it likes.
import matplotlib

matplotlib.use("agg")  # write figures to files, with or without a screen
import matplotlib.pyplot as plt
import numpy as np
from sklearn.preprocessing import StandardScaler

from skpartial import SinglePositiveClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.labels import keep_single_positive
from skpartial.losses import LargeLoss
from skpartial.solvers import Minibatch

N_FEATURES, N_EPOCHS = 3000, 30

train = make_digit_scenes(500, scans="train", random_state=0)
test = make_digit_scenes(2000, scans="test", random_state=1)
Y = keep_single_positive(train.target, random_state=1200)

rng = np.random.default_rng(0)
W = rng.standard_normal((train.data.shape[1], N_FEATURES)) / np.sqrt(train.data.shape[1])
b = 0.3 * rng.standard_normal(N_FEATURES)
scaler = StandardScaler().fit(train.data)
X, X_test = (np.maximum(0, scaler.transform(part.data) @ W + b).astype(np.float32) for part in (train, test))

# Only a simulation knows which of the unknown labels are absent, and which are not.
truly_absent = (Y == 0) & (train.target == -1)
truly_present = (Y == 0) & (train.target == 1)
print(f"{truly_present.sum() / (Y == 0).sum():.0%} of the assumed absences are false")

# %%
# Epoch by epoch
# --------------
# ``partial_fit`` trains one epoch, and goes on counting, so that the share of rejected entries grows as in ``fit``.
# The loss of an assumed absence with logit x is ``log(1 + exp(x))``.
losses = {
    "assume absent (AN)": "an",
    "reject large losses (LL-R)": LargeLoss("reject", delta=0.008),
}
curves = {}
for name, loss in losses.items():
    solver = Minibatch(learning_rate=1 / N_FEATURES, batch_size=16)
    clf = SinglePositiveClassifier(loss, alpha=0, solver=solver, random_state=0)
    epochs = []
    for _ in range(N_EPOCHS):
        clf.partial_fit(X, Y)
        loss_if_absent = np.logaddexp(0, clf.decision_function(X))
        epochs.append(
            (loss_if_absent[truly_absent].mean(), loss_if_absent[truly_present].mean(), clf.score(X_test, test.target))
        )
    curves[name] = np.array(epochs)
    scores = curves[name][:, 2]
    print(f"{name}: mean average precision {scores.max():.3f} at best, {scores[-1]:.3f} in the end")

# %%
# Under AN the loss of the false absences first rises, as the classifier learns what the labels look like, and then
# falls, as it memorises that these are said to be absent; test scores fall with it. With large losses left out it
# goes on rising, and the scores hold.
epochs = np.arange(1, N_EPOCHS + 1)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for (name, curve), style in zip(curves.items(), ("-", "--")):
    left.plot(epochs, curve[:, 0], style, color="tab:blue", label=f"truly absent, {name}")
    left.plot(epochs, curve[:, 1], style, color="tab:red", label=f"truly present, {name}")
    right.plot(epochs, curve[:, 2], style, color="black", label=name)
left.set(xlabel="epoch", ylabel="mean loss of unknown entries, read as absent", yscale="log")
right.set(xlabel="epoch", ylabel="mean average precision, test images")
left.legend(fontsize="x-small")
right.legend(fontsize="small")
plt.show()

an, large = curves.values()
peak = an[:, 1].argmax() + 1
print(f"AN memorises from epoch {peak + 1} on: the loss of false absences falls from {an[:, 1].max():.2f}", end=" ")
print(f"to {an[-1, 1]:.2f}; with large losses left out it has risen to {large[-1, 1]:.2f}")
