"""
Memorised labels have large losses first
========================================

If unknown labels are treated as absent, most of these assumed absences are true and some are false. A classifier that
can fit everything learns the true ones first, and memorises the false ones later. In between, the false ones have large
losses. :class:`~skpartial.losses.LargeLoss` leaves out the entries with the largest losses, more of them in every
epoch. This example follows the losses of both kinds over the epochs, as in figure 1 of Kim et al. (CVPR 2022).
"""

# %%
# More features than rows
# -----------------------
# The data are digit scenes, with one present label recorded per image. The 500 training rows get 3,000 random features,
# so a linear classifier can memorise all labels.
import matplotlib

matplotlib.use("agg")  # write figures to files, with or without a screen
import matplotlib.pyplot as plt
import numpy as np
from sklearn.preprocessing import StandardScaler

from skpartial import SinglePositiveClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.inspection import LossTrace, LossTraceDisplay
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
print(f"{(train.target[Y == 0] == 1).mean():.0%} of the assumed absences are false")

# %%
# Epoch by epoch
# --------------
# The callback :class:`~skpartial.inspection.LossTrace` records the mean loss of true and of false absences after every
# epoch. The loss of an assumed absence with logit x is ``log(1 + exp(x))``. A callback of our own records the test
# scores.


class Watch:
    """Records the test score."""

    def __init__(self):
        self.scores = []

    def setup(self, estimator, context):
        """Nothing to do before a fit."""

    def teardown(self, estimator, context):
        """Nothing to do after one."""

    def on_fit_task_begin(self, estimator, context):
        """Nothing to do before an epoch."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        """Look at the classifier as it is now."""
        if context.task_name == "epoch":
            self.scores.append(fitted_estimator.score(X_test, test.target))


losses = {
    "assume absent (AN)": "an",
    "reject large losses (LL-R)": LargeLoss("reject", delta=0.008),
}
fits, scores = {}, {}
for name, loss in losses.items():
    solver = Minibatch(learning_rate=1 / N_FEATURES, batch_size=16, max_epochs=N_EPOCHS)
    watch = Watch()
    clf = SinglePositiveClassifier(loss, alpha=0, solver=solver, random_state=0)
    fits[name] = clf.set_callbacks(LossTrace(X, Y, train.target), watch).fit(X, Y)
    scores[name] = watch.scores
    print(f"{name}: mean average precision {max(watch.scores):.3f} at best, {watch.scores[-1]:.3f} in the end")

# %%
# The result
# ----------
# With AN, the loss of the false absences first rises: the classifier learns what the labels look like. Then it falls:
# the classifier memorises the false absences, and test scores fall, too. With large losses left out, the loss goes on
# rising, and the scores hold.
figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 6), height_ratios=(1.4, 1), sharex=True, layout="constrained")
traces = []
for (name, clf), style in zip(fits.items(), ("-", "--")):
    traces.append(LossTraceDisplay.from_estimator(clf, name=name, ax=top, linestyle=style))
    bottom.plot(np.arange(1, N_EPOCHS + 1), scores[name], style, color="black", label=name)
top.set(xlabel="", ylabel="mean loss of unknown entries")
top.set_ylim(top=50)
bottom.set(xlabel="epoch", ylabel="test score (mAP)")
top.legend(loc="upper right", fontsize="small")
bottom.legend(fontsize="small")
plt.show()

an, large = (trace.false_negative for trace in traces)
print(f"AN memorises from epoch {an.argmax() + 2} on: the loss of false absences falls from {an.max():.2f}", end=" ")
print(f"to {an[-1]:.2f}; with large losses left out it has risen to {large[-1]:.2f}")
