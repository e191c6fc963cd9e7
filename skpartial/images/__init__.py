"""Images: where they come from, which network looks at them, and the transformer to frozen features."""

from skpartial.images._backbones import Backbone, get
from skpartial.images._features import ImageFeatures

__all__ = ["Backbone", "ImageFeatures", "get"]
