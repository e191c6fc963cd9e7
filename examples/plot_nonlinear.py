"""
Beyond linear: kernel maps
==========================

A linear classifier can separate more after a nonlinear map of the features. scikit-learn has two maps that approximate
a kernel, ``Nystroem`` and ``RBFSampler``. Put before a classifier of this package, they make a kernel machine for
incomplete labels, at the cost of a linear fit. This example shows how much that gains, and how to choose the width of
the kernel on known entries.
"""

# %%
# Labels that are not linear
# --------------------------
# The data are scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, with four labels: even, prime, below five, with
# a closed loop. Even digits have no pixels in common. Each looks different, so the images with a label lie in several
# places.
import matplotlib

matplotlib.use("agg")  # write figures to files, with or without a screen
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpartial import PartialLabelClassifier
from skpartial.labels import drop_labels
from skpartial.model_selection import PartialLabelKFold, PartialLabelShuffleSplit

digits = load_digits()
members = {"even": [0, 2, 4, 6, 8], "prime": [2, 3, 5, 7], "below five": [0, 1, 2, 3, 4], "loop": [0, 6, 8, 9]}
truth = np.column_stack([np.where(np.isin(digits.target, of), 1, -1) for of in members.values()])
train, test = next(PartialLabelShuffleSplit(test_size=0.4, random_state=0).split(digits.data, truth))
X, X_test, Y_test = digits.data[train], digits.data[test], truth[test]

# %%
# Linear, and after a map
# -----------------------
# The kernel is :math:`\exp(-\gamma \lVert x - z \rVert^2)`. The squared distance between two rows of d standardised
# features is about 2 d, so gamma is given in multiples of 1 / d. The penalty can stay as it is: ``alpha="auto"`` is
# relative to the spread of the mapped features.
d = X.shape[1]


def classifier(kernel_map=None):
    return make_pipeline(StandardScaler(), kernel_map or "passthrough", PartialLabelClassifier())


methods = {
    "linear": classifier(),
    "RBFSampler": classifier(RBFSampler(gamma=0.5 / d, n_components=1000, random_state=0)),
    "Nystroem": classifier(Nystroem(gamma=0.5 / d, n_components=500, random_state=0)),
}
shares = [0.03, 0.1, 0.3, 1.0]
scores = {name: [] for name in methods}
for share in shares:
    Y = truth[train] if share == 1 else drop_labels(truth[train], known=share, by="entry", random_state=0)
    for name, method in methods.items():
        scores[name].append(method.fit(X, Y).score(X_test, Y_test))
for name, values in scores.items():
    print(f"{name:12}", *(f"{value:.3f}" for value in values))

figure, axes = plt.subplots(figsize=(6, 4))
for name, values in scores.items():
    axes.plot(shares, values, marker="o", label=name)
axes.set(xscale="log", xlabel="share of the entries that are known", ylabel="mean average precision")
axes.set_xticks(shares, [f"{share:g}" for share in shares])
axes.legend()
figure.tight_layout()

# %%
# Nystroem uses training rows as landmarks. RBFSampler uses no data, and needs more components for the same quality.
#
# Choosing the width
# ------------------
# The width matters. Like other parameters, it can be chosen on known entries.
Y = drop_labels(truth[train], known=0.3, by="entry", random_state=0)
search = GridSearchCV(
    methods["Nystroem"],
    {"nystroem__gamma": [0.02 / d, 0.1 / d, 0.5 / d, 2.5 / d]},
    cv=PartialLabelKFold(3, random_state=0),
).fit(X, Y)
for gamma, score in zip(search.param_grid["nystroem__gamma"], search.cv_results_["mean_test_score"]):
    print(f"gamma = {gamma * d:4.2f} / d: {score:.3f} on held-out known entries")
print(f"chosen: {search.best_params_['nystroem__gamma'] * d:.2f} / d, {search.score(X_test, Y_test):.3f} on test rows")
