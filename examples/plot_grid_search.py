"""
Grid search over losses on incomplete labels
============================================

:class:`~sklearn.model_selection.GridSearchCV` needs nothing special: the classifier's own score is the mean average
precision over the known entries of the held-out rows, so that incomplete labels serve for choosing as well as for
training. A loss is an object with parameters, which a grid reaches as ``loss__gamma``, and losses can themselves be the
values of a grid.
"""

# %%
# Data
# ----
# Of most images a label or two are known, if any, of every fifth image nine in ten. That is where the weight of a row,
# which :class:`~skpartial.losses.PartialBCE` makes depend on how many of its labels are known, can make a difference.
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
# Two grids: one over the parameter of partial-BCE, one over other losses. ``alpha``, the strength of the L2 penalty, is
# in both. The folds have about equally many known presences and known absences of every label.
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
# Each line is a loss; the shade is the standard error over the folds. ``alpha`` matters, and so does whether unknown
# entries are left out; ``gamma`` hardly does. Where a loss peaks depends on its weights: all losses divide by the
# number of entries, known or not, so that the same ``alpha`` is a stronger penalty next to a loss of little weight.
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
