"""Class activation maps: the regions of an image in which a label scores high."""

from __future__ import annotations

from typing import Any

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skpartial._base import BasePartialLabelClassifier
from skpartial._devices import choose_device
from skpartial._inputs import check_features
from skpartial.features._choice import as_features
from skpartial.heads._linear import LinearModule
from skpartial.heads._module import rebuild_head
from skpartial.heads._pooling import PooledModule
from skpartial.images._maps import visit_maps
from skpartial.inspection._plotting import chosen_labels

__all__ = ["class_activation_maps"]

# Bytes of a batch of maps, and of a piece that is enlarged at a time.
_PIECE_BYTES = 64 << 20


class _Maps:
    """Scores of the chosen labels in every region, written into one array."""

    def __init__(self, head: nn.Module, labels: NDArray[np.int64], size: tuple[int, int] | None) -> None:
        self.head, self.labels, self.size = head, torch.from_numpy(labels), size
        self.array: NDArray[np.float32] | None = None

    def add(self, rows: slice, n_rows: int, maps: Tensor) -> None:
        """Score the maps (b, C, h, w) of some of n rows."""
        labels = self.labels.to(maps.device)
        if isinstance(self.head, PooledModule):
            scores = self.head.score_maps(maps)[:, labels]
        else:
            assert isinstance(self.head, LinearModule)
            scores = torch.matmul(self.head.weight[labels], maps.flatten(2)).unflatten(2, maps.shape[2:])
        size = tuple(scores.shape[2:]) if self.size is None else self.size
        if self.array is None:
            self.array = np.empty((n_rows, len(labels), *size), dtype=np.float32)
        scores = scores.float()
        if not bool(torch.isfinite(scores).all()):
            raise ValueError("X holds values so large that maps overflow float32: scale X as in training.")
        # Enlarged maps of many labels take far more memory than those of the network.
        step = max(1, _PIECE_BYTES // (4 * len(labels) * size[0] * size[1]))
        for start, piece in zip(range(rows.start, rows.stop, step), scores.split(step)):
            if self.size is not None:
                piece = nn.functional.interpolate(piece, size=size, mode="bilinear", align_corners=False)
            self.array[start : start + len(piece)] = piece.cpu().numpy()


def _visit_rows(estimator: Any, X: Any, maps: _Maps, dtype: torch.dtype) -> None:
    """Add the maps in X."""
    X = check_features(estimator, X, reset=False, maps=True)
    device = choose_device(estimator.device, X, predicting=True)
    features = as_features(X, dtype=dtype, device=device, max_resident_bytes=0)
    maps.head.to(device)
    parts = torch.arange(features.n_rows).split(max(1, _PIECE_BYTES // max(1, features.row_bytes)))
    with torch.inference_mode():
        for rows, batch in zip(parts, features.batches(parts)):
            maps.add(slice(int(rows[0]), int(rows[-1]) + 1), features.n_rows, batch)


def _target_size(upsample: Any, image_size: tuple[int, int] | None) -> tuple[int, int] | None:
    """The size that maps are enlarged to; None leaves them unchanged."""
    if isinstance(upsample, bool):
        if upsample and image_size is None:
            raise ValueError(
                "upsample=True needs the size of the images, but estimator was fitted on feature maps: pass "
                "upsample=(height, width), or upsample=False for maps in their own size."
            )
        return image_size if upsample else None
    sides = upsample if isinstance(upsample, tuple | list) else ()
    if len(sides) != 2 or not all(isinstance(side, int | np.integer) and side > 0 for side in sides):
        raise ValueError(f"upsample must be True, False or a pair (height, width), got {upsample!r}.")
    return int(sides[0]), int(sides[1])


def class_activation_maps(
    estimator: Any, X: Any, *, labels: Any = None, upsample: bool | tuple[int, int] = True
) -> NDArray[np.float32]:
    r"""Class activation maps of a fitted classifier: the score of each label in each region of an image.

    .. math:: \mathrm{CAM}_j(r) = w_j \cdot f_r

    with the weights :math:`w_j` of a linear or pooled head and the features :math:`f_r` of region r in the last feature
    maps of a network, without intercepts. For ``head="linear"`` and ``AveragePooling(boost=1)``, the mean of a map over
    its regions plus the intercept is the logit.

    Parameters
    ----------
    estimator : PartialLabelClassifier or SinglePositiveClassifier
        Fitted with a backbone that ends in a global average pooling, or on feature maps with a head that pools them.
    X : array of images, sequence of n paths, or maps of shape (n, C, h, w)
        Images or maps, as for `estimator.predict`.
    labels : sequence of int or str, int, str or None, default=None
        Which labels, by position or by the names in `estimator.label_names_`; None for all.
    upsample : bool or (height, width), default=True
        Size to which maps are enlarged, bilinearly: True for the size of the network's input images, False for no
        change. For an estimator fitted on feature maps, pass False or a size.

    Returns
    -------
    ndarray of float32, shape (n, L', h, w) or (n, L', height, width)
        One map per image and per requested label (L' of them), in order. At image size this is large: 80 labels at 448
        pixels take 64 MB per image, so only request the labels that you need.

    Raises
    ------
    TypeError
        If `estimator` is not one of skpartial's classifiers.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ValueError
        If there are no maps (features of a transformer, or rows of features), the head is not a linear function of the
        regions, X does not fit the estimator, or `labels` or `upsample` is invalid.

    See Also
    --------
    pointing_game : Proportion of maps whose maximum is on an object.

    References
    ----------
    .. [1] B. Zhou, A. Khosla, A. Lapedriza, A. Oliva, A. Torralba, "Learning Deep Features for Discriminative
       Localization", CVPR 2016, equation 2.

    Examples
    --------
    A network with random weights, on images of digits with 32 x 32 pixels:

    >>> import numpy as np
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.datasets import make_digit_scenes
    >>> from skpartial.images import Backbone
    >>> from skpartial.inspection import class_activation_maps
    >>> scenes = make_digit_scenes(30, random_state=0)
    >>> backbone = Backbone("resnet18", weights=None, finetune="head", image_size=64)
    >>> clf = PartialLabelClassifier(backbone=backbone, random_state=0).fit(scenes.images, scenes.target)
    >>> class_activation_maps(clf, scenes.images, labels=[3, 8]).shape
    (30, 2, 64, 64)
    >>> maps = class_activation_maps(clf, scenes.images, upsample=False)
    >>> maps.shape
    (30, 10, 2, 2)
    >>> np.allclose(maps.mean((2, 3)) + clf.intercept_, clf.decision_function(scenes.images), atol=1e-5)
    True
    """
    if not isinstance(estimator, BasePartialLabelClassifier):
        raise TypeError(
            f"estimator must be a PartialLabelClassifier or a SinglePositiveClassifier, got {estimator!r}; for a "
            "pipeline, pass the last step, and the X that this step gets."
        )
    check_is_fitted(estimator)
    chosen = chosen_labels(estimator.label_names_.tolist(), labels)
    network = getattr(estimator, "network_", None)
    if network is None and not estimator._head.takes_maps:
        raise ValueError(
            f"estimator was fitted on rows of features with head={estimator._head!r}, which have no regions: fit it "
            "with a backbone, or on feature maps with a head that pools them."
        )
    if network is None:
        head: nn.Module = rebuild_head(estimator._head, estimator._head_context, estimator._parameters())
    else:
        head = network.head
    if not isinstance(head, LinearModule):
        raise ValueError(
            f"estimator has head={estimator._head!r}, which does not score labels per region: class activation maps "
            "need head='linear' with a backbone, or a pooled head such as skpartial.heads.AveragePooling()."
        )
    size = _target_size(upsample, None if network is None else network.image_size)
    maps = _Maps(head, chosen, size)
    if network is None:
        _visit_rows(estimator, X, maps, next(head.parameters()).dtype)
    else:
        device = choose_device(estimator.device, None, predicting=True)
        visit_maps(network, X, maps.add, device, int(joblib.effective_n_jobs(estimator.n_jobs)))
    assert maps.array is not None
    return maps.array
