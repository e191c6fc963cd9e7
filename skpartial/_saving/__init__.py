"""Estimators to files and back, without anything in a file being executed."""

from skpartial._saving._known import register_for_saving
from skpartial._saving._save import load, save

__all__ = ["load", "register_for_saving", "save"]
