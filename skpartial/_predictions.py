"""Predictions of a fitted estimator: logits, probabilities, labels and their score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.special
import torch
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from skpartial import heads
from skpartial._checks import check_same_rows
from skpartial._chunks import HubImages, chunks_of, is_chunked, is_hub_dataset, is_pair
from skpartial._devices import choose_device
from skpartial._inputs import check_features
from skpartial._sklearn_compat import num_samples
from skpartial._task import predict_images
from skpartial.features._base import compute_dtype
from skpartial.features._choice import as_features
from skpartial.heads._module import rebuild_head
from skpartial.labels import LabelMatrix
from skpartial.labels._forms import check_label_names, plain
from skpartial.metrics import mean_average_precision
from skpartial.training._predict import predict_logits

__all__ = ["Predictions"]


class Predictions:
    """Base class of the classifiers: all methods that do not change the fitted state."""

    device: Any
    precision: str
    classes_: NDArray[Any]
    label_names_: NDArray[Any]
    head_parameters_: dict[str, Any] | None
    coef_: NDArray[Any]
    intercept_: NDArray[Any]
    member_coef_: NDArray[Any]
    member_intercept_: NDArray[Any]
    _binary: bool
    _head: heads.Head
    _head_context: heads.HeadContext
    _fitted_shape: tuple[int, int]
    _shift: float | NDArray[Any]

    #: How validation and `score` treat unknown entries. It does not depend on the labels: a subset must be treated like
    #: the whole.
    _unknown_in_scores: ClassVar[Literal["ignore", "absent"]] = "ignore"

    def decision_function(self, X: Any) -> NDArray[Any]:
        """Logits; a label is predicted where its logit is above 0.

        Parameters
        ----------
        X : array-like, DataFrame, sparse matrix or torch.Tensor, shape (n, d)
            Features.

        Returns
        -------
        ndarray of shape (n, L), or (n,) after a fit on 1-D y
            Always a NumPy array, whatever X was.
        """
        logits = self._logits(X)
        return logits[:, 0] if self._binary else logits

    def member_decision_function(self, X: Any) -> NDArray[Any]:
        """Logits of each member of an ensemble; `decision_function` returns their mean.

        Their standard deviation over the first axis measures the disagreement of the members, per row and label.

        Parameters
        ----------
        X : array-like, DataFrame, sparse matrix or torch.Tensor, shape (n, d)
            Features.

        Returns
        -------
        ndarray of shape (M, n, L)
            Logits; M is 1 if the head is not an ensemble.

        See Also
        --------
        skpartial.heads.Ensemble : Trains members side by side.
        """
        return self._logits(X, members=True)

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probabilities that labels are positive.

        Parameters
        ----------
        X : array-like, DataFrame, sparse matrix or torch.Tensor, shape (n, d)
            Features.

        Returns
        -------
        ndarray of shape (n, L), or (n, 2) after a fit on 1-D y
            Values in the open interval (0, 1). After a fit on 1-D y the columns are the two classes.
        """
        logits = self._logits(X)
        if self._binary:
            logits = np.column_stack([-logits[:, 0], logits[:, 0]])
        limits = np.finfo(logits.dtype)
        return np.clip(scipy.special.expit(logits), limits.tiny, 1 - limits.epsneg)

    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Logarithms of the probabilities that labels are positive.

        Parameters
        ----------
        X : array-like, DataFrame, sparse matrix or torch.Tensor, shape (n, d)
            Features.

        Returns
        -------
        ndarray of shape (n, L), or (n, 2) after a fit on 1-D y
            Finite values.
        """
        return np.log(self.predict_proba(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """Predicted labels.

        Parameters
        ----------
        X : array-like, DataFrame, sparse matrix or torch.Tensor, shape (n, d)
            Features.

        Returns
        -------
        ndarray of int64, shape (n, L), or of classes, shape (n,), after a fit on 1-D y
            1 where the probability is above one half, else 0: an indicator matrix, which all metrics of scikit-learn
            accept, unlike a matrix of 1 and -1.
        """
        present = self._logits(X) > 0
        if self._binary:
            return np.asarray(self.classes_[present[:, 0].astype(np.int64)])
        return present.astype(np.int64)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Mean average precision; accuracy for 1-D y.

        `PartialLabelClassifier` scores the known entries; `SinglePositiveClassifier` treats unknown as negative.

        Parameters
        ----------
        X : array-like, DataFrame, sparse matrix or torch.Tensor, shape (n, d)
            Features.
        y : array-like, DataFrame or sparse matrix, shape (n, L) or (n,)
            Labels in {-1, 0, 1}. A label without both positives and negatives is left out of the mean.
        sample_weight : array-like of shape (n,) or (n, L), or None, default=None
            Non-negative weights of rows or entries. Searches that train with weights score without them, unless
            scikit-learn's metadata routing is enabled and `set_score_request(sample_weight=True)` asks for them.

        Returns
        -------
        float
            Score in [0, 1].

        Raises
        ------
        ValueError
            If no label can be scored, or the labels differ from those of the fit.
        """
        check_is_fitted(self)
        return float(self._score_logits(self._logits(X), y, sample_weight))

    def _score_logits(self, logits: NDArray[Any], y: Any, sample_weight: Any = None) -> Any:
        """The value of `score` for logits (n, L); for (K, n, L) one per candidate, all with the same classes."""
        if self._binary:
            predicted = self.classes_[(logits[..., 0] > 0).astype(np.int64)]
            truth = plain(y, "y")
            check_same_rows(logits.shape[-2], num_samples(truth))
            scores = [
                accuracy_score(truth, candidate, sample_weight=sample_weight)
                for candidate in predicted.reshape(-1, predicted.shape[-1])
            ]
            return scores[0] if logits.ndim == 2 else np.array(scores)
        labels = LabelMatrix.encode(y)
        check_same_rows(logits.shape[-2], labels.n_rows)
        check_label_names(self.label_names_, labels.names, "y")
        return self._scorer(labels, sample_weight)(logits)

    def _scorer(self, labels: LabelMatrix, sample_weight: Any = None) -> Callable[[NDArray[Any]], Any]:
        """A function from logits to their mean average precision on these labels; for (K, n, L) one per candidate."""
        reading = self._unknown_in_scores
        if reading == "ignore" and not labels.has_absent:
            raise ValueError(
                "Labels without any known negative (-1) cannot be scored over known entries: every ranking of them is "
                "perfect. If 0 means absent, pass skpartial.labels.recode(y, present=1, absent=0); if only positives "
                "were recorded, use SinglePositiveClassifier, or "
                "skpartial.metrics.mean_average_precision_unknown_absent_scorer."
            )
        return lambda logits: mean_average_precision(labels, logits, unknown=reading, sample_weight=sample_weight)

    def _logits(self, X: Any, *, members: bool = False) -> NDArray[Any]:
        """Logits (n, L), or those of the members (M, n, L)."""
        check_is_fitted(self)
        if hasattr(self, "network_") and is_hub_dataset(X):
            X = HubImages(X)
        if is_chunked(X):
            # Chunks may include labels, as in training.
            chunks = (chunk[0] if is_pair(chunk) else chunk for chunk in chunks_of(X))
            return np.concatenate([self._logits(chunk, members=members) for chunk in chunks], axis=-2)
        # For linear heads the shift is in the intercepts.
        shift = np.zeros(()) if self.head_parameters_ is None else np.asarray(self._shift)
        if hasattr(self, "network_"):
            return predict_images(self, X, members=members) + shift.astype(np.float32)
        X = check_features(self, X, reset=False, maps=self._head.takes_maps)
        device = choose_device(self.device, X, predicting=True)
        dtype = compute_dtype(X, self.precision)
        if self.head_parameters_ is None:
            logits = self._linear_logits(X, dtype, device, members=members)
        else:
            head = rebuild_head(self._head, self._head_context, self.head_parameters_).to(device)
            dtype = next(head.parameters()).dtype
            features = as_features(X, dtype=dtype, device=device, max_resident_bytes=0)
            logits = predict_logits(head, features, members=members) + torch.as_tensor(shift).to(device, dtype)
        array: NDArray[Any] = logits.cpu().numpy()
        if not np.isfinite(array).all():
            raise ValueError(
                f"X holds values so large that predictions overflow {array.dtype}: scale X like the training features."
            )
        return array

    def _linear_logits(self, X: Any, dtype: torch.dtype, device: torch.device, *, members: bool) -> torch.Tensor:
        weight, bias = self.coef_[None], self.intercept_[None]
        if members and hasattr(self, "member_coef_"):
            weight, bias = self.member_coef_, self.member_intercept_
        dtype = torch.promote_types(dtype, torch.as_tensor(weight).dtype)
        # One pass over X: chunk by chunk if it has to be converted or moved, else in place.
        features = as_features(X, dtype=dtype, device=device, max_resident_bytes=0)
        flat = torch.as_tensor(weight.reshape(-1, weight.shape[-1])).to(device, dtype)
        logits = features.forward(flat).T + torch.as_tensor(bias.ravel()).to(device, dtype)
        return logits.unflatten(1, (len(weight), -1)).transpose(0, 1) if members else logits

    def _parameters(self) -> dict[str, Any]:
        """Parameters of the head as solvers take them."""
        if hasattr(self, "member_coef_"):
            weight, bias = self.member_coef_, self.member_intercept_
            return {"weight": weight.reshape(-1, weight.shape[-1]), "bias": bias.ravel()}
        if self.head_parameters_ is None:
            return {"weight": self.coef_, "bias": self.intercept_}
        parameters: dict[str, Any] = self.head_parameters_
        return parameters
