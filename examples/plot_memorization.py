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
# Digit scenes, with one present label recorded per image. The 500 training rows get 3,000 random features, so
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
# A callback sees the classifier after every epoch. The loss of an assumed absence with logit x is ``log(1 + exp(x))``.


class Watch:
    """Notes the mean loss of true and of false absences, and the test score."""

    def __init__(self):
        self.rows = []

    def setup(self, estimator, context):
        """Nothing to do before a fit."""

    def teardown(self, estimator, context):
        """Nothing to do after one."""

    def on_fit_task_begin(self, estimator, context):
        """Nothing to do before an epoch."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        """Look at the classifier as it is now."""
        if context.task_name == "epoch":
            cost = np.logaddexp(0, fitted_estimator.decision_function(X))
            score = fitted_estimator.score(X_test, test.target)
            self.rows.append((cost[truly_absent].mean(), cost[truly_present].mean(), score))


losses = {
    "assume absent (AN)": "an",
    "reject large losses (LL-R)": LargeLoss("reject", delta=0.008),
}
curves = {}
for name, loss in losses.items():
    solver = Minibatch(learning_rate=1 / N_FEATURES, batch_size=16, max_epochs=N_EPOCHS)
    watch = Watch()
    SinglePositiveClassifier(loss, alpha=0, solver=solver, random_state=0).set_callbacks(watch).fit(X, Y)
    curves[name] = np.array(watch.rows)
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
