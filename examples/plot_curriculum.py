"""
What a curriculum labels, and how right it is
=============================================

With a tenth of the labels known, a classifier can label the rest itself, and begins with the entries that it is sure
of. This is curriculum labelling (Durand, Mehrasa and Mori, CVPR 2019). Its strategies differ in what counts as sure.
Only a simulation knows the truth. So this example shows on simulated data what each strategy labels, how much of it is
right, and how that changes from one relabelling to the next.
"""

# %%
# Scenes of digits, a tenth of the labels known
# ---------------------------------------------
# Every scene shows a few digits; the ten labels say which. Test scenes are labelled in full.
import matplotlib

matplotlib.use("agg")  # write figures to files, with or without a screen
import matplotlib.pyplot as plt
import numpy as np
from sklearn.preprocessing import StandardScaler

from skpartial import PartialLabelClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.labels import drop_labels
from skpartial.relabeling import Curriculum
from skpartial.solvers import FullBatch

train = make_digit_scenes(1000, scans="train", random_state=0)
test = make_digit_scenes(2000, scans="test", random_state=1)
scaler = StandardScaler().fit(train.data)
X, X_test = scaler.transform(train.data), scaler.transform(test.data)
Y = np.asarray(drop_labels(train.target, known=0.1, random_state=0))
unknown = Y == 0

# %%
# Every strategy, over six rounds
# -------------------------------
# Between convex rounds each strategy looks at all unknown entries anew. A subclass records the labels of each time. A
# fitted classifier has the final ones as ``relabeled_``.
ROUNDS = range(2, 7)
STRATEGIES = ("threshold", "proportion", "positives", "ensemble", "uncertainty", "calibrated", "all")


class Logged(Curriculum):
    """Notes the weak labels after every relabelling."""

    log: dict[str, list] = {name: [] for name in STRATEGIES}

    def relabel(self, context):
        """Relabel, and note what is labelled now."""
        answer = super().relabel(context)
        if context.epoch in ROUNDS:
            self.log[self.strategy].append(context.state["value"].cpu().numpy().copy())
        return answer


solver = FullBatch(rounds=ROUNDS[-1])
plain = PartialLabelClassifier(alpha=0.02, solver=solver, random_state=0).fit(X, Y)
print(f"{'no relabelling':>14}: mean average precision {plain.score(X_test, test.target):.3f}")
fitted = {}
for name in STRATEGIES:
    clf = PartialLabelClassifier(
        relabeling=Logged(name, epochs=list(ROUNDS)), alpha=0.02, solver=solver, random_state=0
    )
    fitted[name] = clf.fit(X, Y)
    print(f"{name:>14}: mean average precision {clf.score(X_test, test.target):.3f}")

# %%
# What is labelled, and how much of that is right
# -----------------------------------------------
# Bars to the right are entries labelled present, bars to the left entries labelled absent. Wrong labels are red. Most
# labels are absent in most scenes, so most easy entries are absences. ``"positives"`` labels presences only, which are
# rare.
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for place, clf in enumerate(fitted.values()):
    added = clf.relabeled_
    right = added["value"] == train.target[added["row"], added["label"]]
    for sign in (1, -1):
        n_right = (right & (added["value"] == sign)).sum() / unknown.sum()
        n_wrong = (~right & (added["value"] == sign)).sum() / unknown.sum()
        axes.barh(place, sign * n_right, color="tab:blue")
        axes.barh(place, sign * n_wrong, left=sign * n_right, color="tab:red")
    share = len(added) / unknown.sum()
    text = f" {share:.0%} labelled, {right.mean():.0%} of them right" if len(added) else " nothing labelled"
    axes.text(0.3, place, text, va="center")
axes.set_yticks(range(len(fitted)), list(fitted))
axes.axvline(0, color="black", lw=1)
axes.set(xlabel="share of the unknown entries: absent to the left, present to the right", xlim=(-1, 1.3))
axes.invert_yaxis()
plt.show()

# %%
# Over time
# ---------
# The first relabelling sees logits of a model trained on known labels. All later ones see a model that was also trained
# on its own guesses, which make it surer. With a threshold in logits, every round labels more, and less of it is right.
# By default a curriculum therefore labels once.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for name, values in Logged.log.items():
    shares = [(value[unknown] != 0).mean() for value in values]
    rights = [(value == train.target)[value != 0].mean() if value.any() else np.nan for value in values]
    left.plot(ROUNDS, shares, "o-", label=name)
    right.plot(ROUNDS, rights, "o-", label=name)
left.set(xlabel="round", ylabel="share of the unknown entries labelled", ylim=(0, 1.05))
right.set(xlabel="round", ylabel="share of these labels that is right")
for panel in (left, right):
    panel.set_xticks(ROUNDS)
figure.legend(*left.get_legend_handles_labels(), loc="outside right center", fontsize="small")
plt.show()

# %%
# The surest mistakes
# -------------------
# These are the wrong labels with the largest logits. Such a mistake stays, since the next round trains on it.
added = fitted["threshold"].relabeled_
wrong = added[added["value"] != train.target[added["row"], added["label"]]]
wrong = wrong[np.argsort(-np.abs(wrong["score"]), kind="stable")][:6]
figure, panels = plt.subplots(1, 6, figsize=(10, 2.1), layout="constrained")
for panel, entry in zip(panels, wrong):
    panel.imshow(train.images[entry["row"]])
    panel.set_title(
        f"{train.label_names[entry['label']]}: {'present' if entry['value'] == 1 else 'absent'}\n"
        f"logit {entry['score']:.1f}, round {entry['epoch']}",
        fontsize="small",
    )
    panel.axis("off")
plt.show()
