"""Texts that the docstrings of several classes share, and what puts them there."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from typing import TypeVar

__all__ = [
    "CLASSIFIER_ATTRIBUTES",
    "CLASSIFIER_PARAMETERS",
    "CV_ATTRIBUTES",
    "CV_PARAMETERS",
    "PARAMETERS_BUT_ALPHA",
    "fill",
]

T = TypeVar("T", bound=type)


def fill(**texts: str) -> Callable[[T], T]:
    """Decorate a class: each text takes the place of its name in braces on a line of the docstring, and its indent."""

    def decorate(cls: T) -> T:
        # Without docstrings, as under ``python -OO``, there is nothing to fill.
        for name, text in texts.items() if cls.__doc__ else ():
            cls.__doc__ = _put(str(cls.__doc__), name, text)
        return cls

    return decorate


def _put(docstring: str, name: str, text: str) -> str:
    def indented(place: re.Match[str]) -> str:
        return textwrap.indent(text, place[1])

    return re.sub(rf"^( *)\{{{name}\}}$", indented, docstring, flags=re.MULTILINE)


_BEFORE_ALPHA = """\
backbone : str, torch.nn.Module, Backbone or None, default=None
    The network that turns images into features, and what of it is fine-tuned: see
    :class:`skpartial.images.Backbone`, for which a name or module stands. None takes X for features.
head : "linear", "gnn", "embedding" or Head, default="linear"
    From features to logits.
relabeling : Relabeling or None, default=None
    What happens to labels between epochs or rounds; may answer with soft targets and weights.
regularizer : Regularizer or None, default=None
    A term of the batch added to the loss; needs minibatches.
solver : "auto", "full_batch", "minibatch", FullBatch or Minibatch, default="auto"
    How parameters move. "auto" takes `FullBatch` where loss and head allow it (convex losses, and iterative ones in
    rounds) and it needs less than 4 GiB beside the features, else `Minibatch`."""

_ALPHA = """\
alpha : float or "auto", default="auto"
    L2 penalty of the weights, as in scikit-learn's SGDClassifier, for each label: the objective is
    loss + alpha / (2 L) ||W||^2. Intercepts are free. A head that is not linear says what of it is penalised, for
    features scaled to a root mean square of 1. "auto" is relative to the mean squared distance of the rows of X from
    their mean (of feature maps: of all positions), weighted by `sample_weight`, so that the units of X do not matter:
    3e-4 times it for 1,000 rows, or what else suits the loss (its `traits().relative_alpha`), times the fourth root of
    the share of entries that are known, and for n rows times (n / 1000)^(-3/4); 1e-4 where a network is fine-tuned
    whole. `alpha_` tells what it was."""

_AFTER_ALPHA = """\
class_weight : None, "balanced", array-like of shape (L,) or (L, 2), dict or Series, default=None
    Weights that multiply the sample weights of entries: those of present entries (L,), or of absent and present
    ones (L, 2). "balanced" gives both signs of a label the same total. Unknown entries weigh as absent ones under a
    loss that reads them so, else 1. A dict or Series gives the weights of present entries by the names of labels,
    or for 1-D y by class.
validation_fraction : float or None, default=None
    Proportion of rows held out, by which the epoch or round with the best mean average precision is chosen. A
    convex loss under the full-batch solver has one round: its score is in `history_`, and nothing is chosen.
warm_start : bool, default=False
    Whether `fit` goes on from the coefficients of the last one and, for the same rows in the same order, from what
    loss, regulariser and relabelling have learned of them, which pickles keep. All numbers of X are compared, or of
    images on disk paths, sizes and times of change; other rows begin anew.
device : {"auto", "cpu", "cuda", "cuda:N"} or torch.device, default="auto"
    Where to compute; "auto" is CUDA where there is one.
precision : {"auto", "float32", "float64", "bfloat16"}, default="auto"
    Floating type to compute in; "auto" follows X. With a backbone "float32" or "bfloat16", by autocast, of which
    "auto" takes the latter on CUDA.
n_jobs : int or None, default=None
    Threads that read images, None is one; features in memory need none.
checkpoint_dir : str, path or None, default=None
    Folder where the state is saved after every epoch, in a subfolder of each fit's own, known by its data and
    parameters; "~" is the home directory. A fit that was killed goes on from there when it is called again, also for
    more epochs, and ends as one that was not; one that ends removes its files.
store_state : bool or "auto", default="auto"
    Whether results of the size of y are kept after `fit`; "auto" keeps them below 100 MB. What ``warm_start=True``
    needs of each row is kept, of whatever size, unless this is False: then rows begin anew in every fit.
random_state : int, RandomState instance or None, default=None
    Seed of all random numbers.
verbose : int, default=0
    Above 0, a line is printed for every epoch; above 1, a bar is shown in every epoch of minibatches, too: with rich,
    or as lines of text. For bars of epochs use `sklearn.callback.ProgressBar`."""

CLASSIFIER_PARAMETERS = f"{_BEFORE_ALPHA}\n{_ALPHA}\n{_AFTER_ALPHA}"
PARAMETERS_BUT_ALPHA = f"{_BEFORE_ALPHA}\n{_AFTER_ALPHA}"

CV_PARAMETERS = """\
alphas : int or sequence of float and "auto", default=10
    Penalties to choose from. A number of them is spaced evenly in the logarithm, from a hundredth to a hundred times
    what ``alpha="auto"`` stands for on all rows.
cv : int, splitter, iterable of (train, test), or None, default=None
    How to split. An int is the number of folds of a :class:`~skpartial.model_selection.PartialLabelKFold`, or where
    `fit` is passed groups of a :class:`~skpartial.model_selection.PartialLabelGroupKFold`, with `random_state`; 1-D y
    gets folds with equal shares of both classes. None is 5.
scoring : str, callable or None, default=None
    Scorer; None is the classifier's own score: mean average precision, or for 1-D y accuracy."""

CV_ATTRIBUTES = """\
alphas_ : ndarray of float64, shape (n_alphas,)
    Penalties that were tried, in numbers.
scores_ : ndarray of float64, shape (n_alphas, n_folds)
    Score of each on the held-out rows of every fold; NaN for folds that cannot be scored.
best_score_ : float
    Mean score of `alpha_` over folds; NaN where no fold can be scored. Its alpha was chosen by it, so that it is
    slightly optimistic."""

CLASSIFIER_ATTRIBUTES = """\
classes_ : ndarray of shape (L, 2), or (2,) after 1-D y
    [0, 1] for every label; after 1-D y the two classes.
label_names_ : ndarray of str, shape (L,)
    Columns of y if it was a DataFrame, else "0", "1" and so on.
coef_ : ndarray of shape (L, d)
    Weights of a linear head.
intercept_ : ndarray of shape (L,)
    Intercepts of a linear head.
member_coef_ : ndarray of shape (M, L, d)
    Weights of each linear member, of an ensemble of these; `coef_` and `intercept_` are the means over members.
member_intercept_ : ndarray of shape (M, L)
    Their intercepts.
head_parameters_ : dict of str to ndarray, or None
    Parameters of another head.
alpha_ : float
    The penalty that was used: `alpha`, or what "auto" stood for.
n_iter_ : int
    Epochs, or steps of the full-batch solver, done.
history_ : list of dict
    A record for every epoch or step: losses, seconds, and the validation score if there is one.
network_ : torch.nn.Module
    The whole network, with a backbone; on the CPU and in evaluation mode.
skipped_ : list of (int, str)
    Rows that could not be read, with what is wrong, with a backbone; empty unless it has ``on_error="skip"``.
best_epoch_ : int
    The epoch chosen by validation, if there was one.
train_rows_ : ndarray of int64
    Rows of X that were trained on, to which the rows of `label_estimates_` and the like belong, where they are not
    all of them: with a `validation_fraction`, or with images that were skipped.
labels_in_use_ : ndarray or csr_array of int8, shape (n, L)
    Labels that were trained on in the end, if there was a relabelling.
relabeled_ : ndarray of records
    Weak labels among them after a curriculum: row, label, value, epoch and score of each.
targets_in_use_ : ndarray of shape (n, L)
    Soft targets that were trained on in the end, if a relabelling gave any; NaN where the label decides.
n_features_in_ : int
    Number of features d.
feature_names_in_ : ndarray of str, shape (d,)
    Names of the features, if X was a DataFrame."""
