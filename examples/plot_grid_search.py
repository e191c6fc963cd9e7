"""
Grid search over losses on incomplete labels
============================================

:class:`~sklearn.model_selection.GridSearchCV` works as it is. The classifier's own score is the mean average precision
over the known entries of the held-out rows, so incomplete labels are enough to choose parameters. A loss is an object
with parameters, which a grid reaches as ``loss__gamma``. Losses can also be values of a grid themselves.
"""

# %%
# Data
# ----
# A tenth of the labels is known in most images, and nine tenths in every fifth image. In
# :class:`~skpartial.losses.PartialBCE` the weight of a row depends on its share of known labels, so here it can make a
# difference.
import matplotlib

matplotlib.use("agg")  # write figures to files, with or without a screen
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skpartial import PartialLabelClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.labels import describe
from skpartial.losses import AssumeNegative, IgnoreUnknown, PartialBCE
from skpartial.model_selection import PartialLabelKFold

train = make_digit_scenes(1000, scans="train", random_state=0)
test = make_digit_scenes(2000, scans="test", random_state=1)

rng = np.random.RandomState(0)
proportion = rng.choice([0.1, 0.9], p=[0.8, 0.2], size=len(train.target))
Y = np.where(rng.random_sample(train.target.shape) < proportion[:, None], train.target, 0)
print(describe(Y))

# %%
# The grid
# --------
# One grid is over the parameter of partial-BCE, the other over other losses. Both contain ``alpha``, the strength of
# the L2 penalty. Each fold gets about as many known presences, and known absences, of a label as the others.
pipeline = Pipeline([("scale", StandardScaler()), ("classify", PartialLabelClassifier(loss=PartialBCE()))])
alpha = [1e-4, 1e-3, 1e-2, 1e-1]
search = GridSearchCV(
    pipeline,
    [
        {"classify__loss__gamma": [-1, 1, 3], "classify__alpha": alpha},
        {"classify__loss": [IgnoreUnknown(), AssumeNegative()], "classify__alpha": alpha},
    ],
    cv=PartialLabelKFold(3, random_state=0),
    n_jobs=2,
).fit(train.data, Y)

print("best:", search.best_params_)
print(f"mean average precision over held-out known entries: {search.best_score_:.3f}")
print(f"on images of other handwriting, all labels known: {search.score(test.data, test.target):.3f}")

# %%
# What matters
# ------------
# Each line is a loss; the shade is the standard error over the folds. ``alpha`` matters, and it matters that unknown
# entries are left out. ``gamma`` hardly matters. All losses divide by the number of entries, known or not. So the same
# ``alpha`` is a stronger penalty for a loss that gives entries little weight, and losses peak at different values.
results = search.cv_results_


def line_of(parameters):
    if "classify__loss" in parameters:
        return str(parameters["classify__loss"])
    return f"PartialBCE(gamma={parameters['classify__loss__gamma']})"


lines = np.array([line_of(parameters) for parameters in results["params"]])
strength = np.array([parameters["classify__alpha"] for parameters in results["params"]])
error = results["std_test_score"] / np.sqrt(search.n_splits_)

fig, axes = plt.subplots(figsize=(7, 4), layout="constrained")
print(f"\n{'alpha':26}" + " ".join(f"{value:>7g}" for value in alpha))
for name in dict.fromkeys(lines):
    of_line = lines == name
    mean = results["mean_test_score"][of_line]
    print(f"{name:26}" + " ".join(f"{value:7.3f}" for value in mean))
    axes.plot(strength[of_line], mean, "o-", label=name)
    axes.fill_between(strength[of_line], mean - error[of_line], mean + error[of_line], alpha=0.15)
axes.set_xscale("log")
axes.set_xlabel("alpha")
axes.set_ylabel("mean average precision, known entries")
axes.legend(loc="lower right")
fig.savefig("grid_search.png", dpi=120)
print("The figure is in grid_search.png, in the working directory.")
