"""What a classifier looks at: class activation maps, and how well they point at objects."""

from skpartial.inspection._activation_maps import class_activation_maps
from skpartial.inspection._pointing import PointingGame, pointing_game

__all__ = ["PointingGame", "class_activation_maps", "pointing_game"]
