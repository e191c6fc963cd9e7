"""Texts shared by the docstrings of several classes, and the decorator that inserts them."""

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
    """Class decorator that replaces each name in braces on a docstring line by its text, indented like that line."""

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
    Network that turns images into features, and how much of it is fine-tuned. A name or module is shorthand for a
    :class:`skpartial.images.Backbone`. With None, X holds features.
head : "linear", "gnn", "embedding" or Head, default="linear"
    Map from features to logits.
relabeling : Relabeling or None, default=None
    Rule that changes labels between epochs or rounds; it may also give soft targets and weights.
regularizer : Regularizer or None, default=None
    Term that is added to the loss of each batch; needs minibatches.
solver : "auto", "full_batch", "minibatch", FullBatch or Minibatch, default="auto"
    Optimisation algorithm. "auto" uses :class:`~skpartial.solvers.FullBatch` if the loss and head allow it (convex
    losses, and iterative ones in rounds) and it needs less than 4 GiB in addition to the features, else
    :class:`~skpartial.solvers.Minibatch`."""

_ALPHA = """\
alpha : float or "auto", default="auto"
    L2 penalty on the weights of each label, as in scikit-learn's SGDClassifier: the objective is loss + alpha / (2 L)
    ||W||^2. Intercepts are not penalised. A nonlinear head documents which of its parameters are penalised, for
    features scaled to a root mean square of 1. "auto" is proportional to the mean squared distance of the rows of X
    from their mean, weighted by `sample_weight`, so that a common factor of X does not matter; columns with different
    units should be standardised. (For feature maps, the mean is over all positions.) For n rows, the factor is c * (n /
    1000)^(-3/4), where c depends on the loss: for losses that ignore unknown entries, it is 3e-4 times the fourth root
    of the share of known entries (see :doc:`/user_guide/estimators`). Weights that are whole numbers count as repeated
    rows, and a stream of `partial_fit` as at least 10,000 rows. When a whole network is fine-tuned, "auto" is 1e-4.
    `alpha_` is the value used."""

_AFTER_ALPHA = """\
class_weight : None, "balanced", array-like of shape (L,) or (L, 2), dict or Series, default=None
    Class weights, which multiply the sample weights of entries. Shape (L,) holds the weights of positive entries,
    shape (L, 2) those of negative and positive entries. "balanced" gives the positives and negatives of each label
    the same total weight. Unknown entries have the weight of negatives if the loss treats them as negative, else 1. A
    dict or Series maps names of labels to the weights of positive entries, or, for 1-D y, classes to weights.
validation_fraction : float or None, default=None
    Fraction of rows that is held out to choose the epoch or round with the best mean average precision. A convex
    loss has only one round in the full-batch solver: its score is in `history_`, and there is nothing to choose.
warm_start : bool, default=False
    Whether `fit` starts from the coefficients of the previous fit. If the rows are the same in the same order, it also
    starts from the per-row state of the loss, regulariser and relabelling, which pickles keep. Rows are compared by
    all values of X, or for images on disk by path, size and modification time.
device : {"auto", "cpu", "cuda", "cuda:N"} or torch.device, default="auto"
    Device for the computation; "auto" uses CUDA if available.
precision : {"auto", "float32", "float64", "bfloat16"}, default="auto"
    Floating-point type for the computation; "auto" follows X. A backbone allows "float32" or "bfloat16" (by autocast);
    for it, "auto" is "bfloat16" on CUDA.
n_jobs : int or None, default=None
    Number of threads that read images; None means 1. Not used for features in memory.
checkpoint_dir : str, path or None, default=None
    Folder in which the state is saved after every epoch. Each fit has its own subfolder, identified by its data and
    parameters; "~" is the home directory. A fit that was killed resumes from there when it is called again, also
    with more epochs, and gives the same result as an uninterrupted fit. A completed fit removes its files.
store_state : bool or "auto", default="auto"
    Whether results of the size of y are kept after `fit`; "auto" keeps them if they take less than 100 MB. The per-row
    state for ``warm_start=True`` is kept whatever its size, unless this is False: then every fit starts without it.
random_state : int, RandomState instance or None, default=None
    Seed for all random numbers.
verbose : int, default=0
    Above 0, print a line per epoch. Above 1, also show the progress within each minibatch epoch: as a bar if rich is
    installed, else as lines of text. For a bar over epochs use `sklearn.callback.ProgressBar`."""

CLASSIFIER_PARAMETERS = f"{_BEFORE_ALPHA}\n{_ALPHA}\n{_AFTER_ALPHA}"
PARAMETERS_BUT_ALPHA = f"{_BEFORE_ALPHA}\n{_AFTER_ALPHA}"

CV_PARAMETERS = """\
alphas : int or sequence of float and "auto", default=10
    Penalties to choose from. An int is the number of penalties, spaced evenly on a logarithmic scale from 1/100 to 100
    times the value of ``alpha="auto"`` on all rows.
cv : int, splitter, iterable of (train, test), or None, default=None
    Cross-validation splits. An int is the number of folds of a :class:`~skpartial.model_selection.PartialLabelKFold`,
    or of a :class:`~skpartial.model_selection.PartialLabelGroupKFold` if groups are passed to `fit`, with
    `random_state`. Folds of 1-D y are stratified by class. None means 5 folds.
scoring : str, callable or None, default=None
    Scorer; None is the classifier's own score: mean average precision, or accuracy for 1-D y."""

CV_ATTRIBUTES = """\
alphas_ : ndarray of float64, shape (n_alphas,)
    Penalties tried, as numbers.
scores_ : ndarray of float64, shape (n_alphas, n_folds)
    Score of each penalty on the held-out rows of every fold; NaN for folds that cannot be scored.
best_score_ : float
    Mean score of `alpha_` over folds; NaN if no fold can be scored. It is slightly optimistic, because `alpha_` was
    chosen by these scores."""

CLASSIFIER_ATTRIBUTES = """\
classes_ : ndarray of shape (L, 2), or (2,) after 1-D y
    [0, 1] for every label, whose names are in `label_names_`; the two classes if y was 1-D.
label_names_ : ndarray of str, shape (L,)
    Columns of y if it was a DataFrame, else "0", "1" and so on.
coef_ : ndarray of shape (L, d)
    Weights of a linear head.
intercept_ : ndarray of shape (L,)
    Intercepts of a linear head.
member_coef_ : ndarray of shape (M, L, d)
    Weights of each member of an ensemble of linear heads; `coef_` and `intercept_` are the means over members.
member_intercept_ : ndarray of shape (M, L)
    Intercepts of each member of an ensemble of linear heads.
head_parameters_ : dict of str to ndarray, or None
    Parameters of any other head.
alpha_ : float
    The penalty used: `alpha`, or the value that "auto" was resolved to.
n_iter_ : int
    Number of epochs run, or of steps of the full-batch solver.
history_ : list of dict
    One record per epoch or step: losses, seconds, and the validation score if there is one.
network_ : torch.nn.Module
    With a backbone, the whole network, on the CPU and in evaluation mode.
skipped_ : list of (int, str)
    With a backbone, rows that could not be read and the reason; empty unless the backbone has ``on_error="skip"``.
best_epoch_ : int
    The epoch chosen by validation, if there was any.
train_rows_ : ndarray of int64
    Indices in X of the training rows, if some rows were held out (`validation_fraction`) or skipped as unreadable
    images. The rows of `label_estimates_` and similar attributes are in this order.
labels_in_use_ : ndarray or csr_array of int8, shape (n, L)
    With a relabelling, the labels used at the end of training.
relabeled_ : ndarray of records
    After a curriculum, the weak labels in `labels_in_use_`: row, label, value, epoch and score of each.
targets_in_use_ : ndarray of shape (n, L)
    Soft targets used at the end of training, if a relabelling gave any; NaN where the label is used instead.
n_features_in_ : int
    Number of features d.
feature_names_in_ : ndarray of str, shape (d,)
    Names of the features, if X was a DataFrame."""
