"""The transformer from images to frozen features."""

from __future__ import annotations

from typing import Any, Literal, Self, cast

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skpartial._checks import check_choice, check_n_jobs, check_whole
from skpartial._devices import autocast_dtype, choose_device
from skpartial._documentation import Documented
from skpartial._fingerprint import module_key
from skpartial._processes import ALONE, Processes
from skpartial._progress import progress_bar
from skpartial._seeding import seeded
from skpartial._unchanged import unchanged_on_failure
from skpartial._versioned import VersionedPickles
from skpartial._warnings import warn
from skpartial.images._backbones import Backbone, get
from skpartial.images._batches import ImageBatches, none_readable, readable_rows
from skpartial.images._network import Network
from skpartial.images._sources import ImageSource, as_source
from skpartial.images._store import Shelf, as_store, image_keys

__all__ = ["ImageFeatures", "extract"]


def extract(
    network: Network, batches: ImageBatches, batch_size: int, tell: Any = None, processes: Processes = ALONE
) -> NDArray[np.float32]:
    """Features (n, d) of all images under a network in evaluation mode; maps (n, C, h, w) if its head takes them."""
    if processes.size > 1:

        def of_rows(rows: Tensor) -> Tensor:
            return torch.from_numpy(extract(network, cast(ImageBatches, batches.take(rows)), batch_size, tell))

        return processes.compute(of_rows, torch.arange(batches.n_rows)).numpy()
    network.eval()
    found: NDArray[np.float32] | None = None
    parts = torch.arange(batches.n_rows).split(batch_size)
    with torch.inference_mode():
        for rows, images in zip(parts, batches.batches(parts)):
            block = network.features(images).float().cpu().numpy()
            if found is None:
                found = np.empty((batches.n_rows, *block.shape[1:]), dtype=np.float32)
            found[rows[0] : rows[-1] + 1] = block
            if tell is not None:
                tell(rows.numpy(), block)
    assert found is not None
    return found


class ImageFeatures(VersionedPickles, Documented, CallbackSupportMixin, TransformerMixin, BaseEstimator):
    """Compute features of images with a pretrained network, for linear probes.

    Parameters
    ----------
    backbone : str, torch.nn.Module or Backbone, default="resnet50"
        The network; a name or module is shorthand for a :class:`~skpartial.images.Backbone`. Its `finetune` and
        `augment` are not used.
    batch_size : int, default=64
        Number of images per batch.
    device : {"auto", "cpu", "cuda", "cuda:N"} or torch.device, default="auto"
        Device for the computation; "auto" uses CUDA if available.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Type for the computation; "auto" is bfloat16 (by autocast) on CUDA, else float32. Features are float32.
    n_jobs : int or None, default=None
        Number of threads that read images; None means 1, -1 means one per processor.
    memory : str, path-like, FeatureStore, joblib.Memory or None, default=None
        Folder in which features are cached per image, so that any subset of images, such as the folds of a search, can
        use them. They are identified by the weights, the image size, the precision and the image: files by path, size
        and modification time, other images by their pixels. A :class:`~skpartial.images.FeatureStore` also limits the
        size of the folder; with a joblib Memory, its folder is used.
    verbose : int, default=0
        Above 0, show the progress: as a bar if rich is installed, else as lines of text. `sklearn.callback.ProgressBar`
        also works.

    Attributes
    ----------
    n_features_out_ : int
        Number of features d.
    skipped_ : list
        Rows of the last `transform` that could not be read, as (row, message), if the backbone has ``on_error="skip"``.
        Their features are NaN, because a transformer cannot leave rows out.

    See Also
    --------
    skpartial.PartialLabelClassifier : Fine-tunes the same backbone.

    Examples
    --------
    >>> from skpartial.datasets import make_digit_scenes
    >>> from skpartial.images import Backbone, ImageFeatures
    >>> images = make_digit_scenes(20, random_state=0).images
    >>> ImageFeatures(Backbone("resnet18", weights=None, image_size=32)).fit_transform(images).shape
    (20, 512)
    """

    # Its documentation page is under the package's own name.
    _doc_link_template = Documented._doc_link_template.replace("{estimator_module}", "skpartial")

    def __init__(
        self,
        backbone: str | nn.Module | Backbone = "resnet50",
        *,
        batch_size: int = 64,
        device: Any = "auto",
        precision: Literal["auto", "float32", "bfloat16"] = "auto",
        n_jobs: int | None = None,
        memory: Any = None,
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.n_jobs = n_jobs
        self.memory = memory
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the network; no parameters are learned.

        Parameters
        ----------
        X : array of images or sequence of paths
            Only used to detect the kind of images.
        y : ignored

        Returns
        -------
        self
            The fitted transformer.
        """
        check_whole(self, "batch_size", self.batch_size, 1)
        check_n_jobs(self, self.n_jobs)
        check_choice(self, "precision", self.precision, ("auto", "float32", "bfloat16"))
        if not isinstance(self.verbose, bool | np.bool_):
            check_whole(self, "verbose", self.verbose, 0, "a bool or a whole number of at least 0")
        as_store(self.memory)
        backbone = get(self.backbone)
        # Without weights the network is random, but always the same.
        with seeded(0):
            loaded = backbone.load()
        as_source(X, loaded.image_size, loaded.channels)
        n_features = loaded.n_features(False, backbone.name)
        with unchanged_on_failure(self):
            self._loaded, self.n_features_out_ = loaded, n_features
            self._prefix = backbone.name.replace("/", "_").lower()
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Compute features.

        Parameters
        ----------
        X : array of n images, or sequence of n paths
            Arrays of shape (n, H, W, C), (n, C, H, W) or (n, H, W), uint8, uint16 or floating point in [0, 1], memory
            maps, tensors, or paths of files.

        Returns
        -------
        ndarray of float32, shape (n, d)
            Features; for networks with feature maps, the averages of the last maps over all positions.

        Raises
        ------
        ImageReadError
            If an image cannot be read, unless the backbone skips it; the message names the first one.
        """
        check_is_fitted(self, "n_features_out_")
        source = as_source(X, self._loaded.image_size, self._loaded.channels)
        store = as_store(self.memory)
        if store is None:
            features, failures = self._compute(X, source)
        else:
            features, failures = self._look_up(X, source, store.shelf(self._key(), self.n_features_out_))
        self.skipped_ = list(failures.items())
        if failures:
            warn(
                f"{len(failures)} images could not be read, so their features are NaN: {self.skipped_[0][1]} "
                "skipped_ lists them.",
            )
        return features

    def _key(self) -> str:
        """A key of everything that features depend on except the image."""
        loaded = self._loaded
        bfloat16 = autocast_dtype(self.precision, choose_device(self.device, None)) is not None
        prepared = loaded.image_size, loaded.normalize.mean.tolist(), loaded.normalize.std.tolist()
        return str(joblib.hash((module_key(loaded.module), prepared, bfloat16)))

    def _look_up(self, X: Any, source: ImageSource, shelf: Shelf) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Features of all images: cached ones, and others that are computed once each and cached."""
        keys = image_keys(source.identity(np.array([row])) for row in range(source.n_rows))
        features, found = shelf.read(keys)
        missing = np.flatnonzero(~found)
        if not len(missing):
            return features, {}
        _, first, inverse = np.unique(keys[missing], return_index=True, return_inverse=True)
        # In the order of X, so that the first unreadable image is named.
        order = np.argsort(first)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        rows = missing[first[order]]
        try:
            computed, failed = self._compute(X, source[rows], keep=lambda at, block: shelf.add(keys[rows[at]], block))
        finally:
            shelf.flush()  # including results from before an error
        features[missing] = computed[place[inverse]]
        failures = {int(row): failed[at] for row, at in zip(missing, place[inverse].tolist()) if at in failed}
        if len(failures) == source.n_rows:
            raise none_readable(failures)
        return features, failures

    @with_callbacks
    def _compute(self, X: Any, source: ImageSource, keep: Any = None) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Features of all images of the source, a part of X, and the errors of unreadable ones."""
        backbone = get(self.backbone)
        device = choose_device(self.device, None)
        n_rows, n_workers = source.n_rows, int(joblib.effective_n_jobs(self.n_jobs))
        rows: NDArray[np.int64] = np.arange(n_rows, dtype=np.int64)
        failures: dict[int, str] = {}
        if backbone.on_error == "skip":
            rows, failures = readable_rows(source, n_workers)
            if not len(rows) and keep is None:
                raise none_readable(failures)
            source = source[rows]
        if not len(rows):
            return np.full((n_rows, self.n_features_out_), np.nan, dtype=np.float32), failures
        network = backbone.network(self._loaded, None)
        network.autocast = autocast_dtype(self.precision, device)
        network.to(device)
        batches = ImageBatches(source, self.n_features_out_, torch.float32, device, n_workers=n_workers)
        context = self._init_callback_context(max_subtasks=-(-source.n_rows // self.batch_size))
        context.call_on_fit_task_begin(estimator=self, X=X, y=None, metadata=None)
        try:
            with progress_bar("ImageFeatures", len(rows), shown=bool(self.verbose), unit="images") as advance:

                def tell(at: NDArray[np.int64], block: NDArray[np.float32]) -> None:
                    if keep is not None:
                        keep(rows[at], block)
                    advance(len(at))
                    task = context.subcontext(task_name="batch")
                    task.call_on_fit_task_begin(estimator=self, X=X, y=None, metadata=None)
                    task.call_on_fit_task_end(estimator=self, X=X, y=None, metadata=None, reconstruction_attributes={})

                features = extract(network, batches, int(self.batch_size), tell)
        finally:
            network.to("cpu")
        context.call_on_fit_task_end(estimator=self, X=X, y=None, metadata=None, reconstruction_attributes={})
        if not failures:
            return features, failures
        whole = np.full((n_rows, self.n_features_out_), np.nan, dtype=np.float32)
        whole[rows] = features
        return whole, failures

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names of the features.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of str, shape (d,)
            Names such as "resnet50_0".
        """
        check_is_fitted(self, "n_features_out_")
        return np.asarray([f"{self._prefix}_{i}" for i in range(self.n_features_out_)], dtype=object)

    def __sklearn_tags__(self) -> Tags:
        """Tags: takes images, and fits nothing but the network."""
        tags: Tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.requires_fit = True
        return tags
