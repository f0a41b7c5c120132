"""The package resemblyzer, of which only the weights are used: whether it is there, and where. Free of torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

_PACKAGE, _WEIGHTS = "resemblyzer", "pretrained.pt"


def weights_file() -> Path | None:
    """Return the weights that the package ships; None where it is not installed."""
    spec = find_spec(_PACKAGE)
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    found = [path for place in places if (path := Path(place) / _WEIGHTS).is_file()]
    return found[0] if found else None


def missing() -> str:
    """Say what speaker similarity needs that is not installed, and how to get it; empty if nothing."""
    if weights_file() is None:
        return f"the package {_PACKAGE}, which is not installed: pip install 'sepdash[speakers]'"
    return ""
