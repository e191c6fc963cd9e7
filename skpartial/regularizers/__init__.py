"""Regularisers: terms of the whole batch."""

from skpartial.regularizers._base import BatchContext, Regularizer
from skpartial.regularizers._transductive import TransductiveHinge

__all__ = ["BatchContext", "Regularizer", "TransductiveHinge"]
