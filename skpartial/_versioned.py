"""Pickles that record the version that wrote them, as scikit-learn's do."""

from __future__ import annotations

from typing import Any

from skpartial._warnings import warn
from skpartial.exceptions import InconsistentVersionWarning

__all__ = ["VersionedPickles"]

_KEY = "_skpartial_version"


class VersionedPickles:
    """Mixin that warns if an object is unpickled by a version other than the one that pickled it."""

    def __getstate__(self) -> dict[str, Any]:
        """State with the version."""
        state: Any = super().__getstate__()
        return {**state, _KEY: _version()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set the state, and warn if another version wrote it."""
        written = state.get(_KEY, "0.1.0 or before")
        if written != _version():
            warn(InconsistentVersionWarning(type(self).__name__, "skpartial", str(written), _version()))
        kept = {name: value for name, value in state.items() if name != _KEY}
        super().__setstate__(kept)  # type: ignore[misc]


def _version() -> str:
    import skpartial

    return str(skpartial.__version__)
