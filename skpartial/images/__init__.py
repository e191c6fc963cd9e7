"""Images: their sources, the network that processes them, and a transformer to frozen features."""

from skpartial.images._backbones import Backbone, get
from skpartial.images._features import ImageFeatures
from skpartial.images._hdf5 import HDF5Images
from skpartial.images._store import FeatureStore

__all__ = ["Backbone", "FeatureStore", "HDF5Images", "ImageFeatures", "get"]
