"""Saving and loading of estimators, without executing anything in a file."""

from skpartial._saving._known import register_for_saving
from skpartial._saving._save import load, save

__all__ = ["load", "register_for_saving", "save"]
