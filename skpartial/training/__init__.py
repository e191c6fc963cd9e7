"""Training: the training data, the contexts of methods between passes, the training loop, and checkpoints."""

from skpartial._state import StateTensor, TrainingContext
from skpartial.labels._data import TrainingData

__all__ = ["StateTensor", "TrainingContext", "TrainingData"]
