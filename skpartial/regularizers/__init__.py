"""Regularisers: terms of the whole batch."""

from skpartial.regularizers._base import BatchContext, Regularizer

__all__ = ["BatchContext", "Regularizer"]
