"""Training: what is trained on, what methods see of it between passes, the one loop, and what it goes on from."""

from skpartial._state import StateTensor, TrainingContext
from skpartial.labels._data import TrainingData

__all__ = ["StateTensor", "TrainingContext", "TrainingData"]
