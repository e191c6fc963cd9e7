"""Regularisers: terms of the whole batch."""

from skpartial.regularizers._base import BatchContext, Regularizer
from skpartial.regularizers._pursuit import JointPursuit, joint_nnomp

__all__ = ["BatchContext", "JointPursuit", "Regularizer", "joint_nnomp"]
