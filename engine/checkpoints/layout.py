"""Where checkpoints lie and what they say of themselves, for those who must not load torch.

Nothing is verified here; that is done by `engine.checkpoints.files`, when a checkpoint is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
CHECKPOINTS = "checkpoints"


def list_checkpoints(path: Path) -> list[Path]:
    """Return the checkpoints at `path`: itself, or those of a run's folder or its `checkpoints`."""
    places = [path, *sorted(path.glob("*/")), *sorted(path.glob(f"{CHECKPOINTS}/*/"))]
    return [place for place in places if (place / MANIFEST).is_file()]


def trained_config(checkpoint: Path) -> dict[str, Any]:
    """Return the config that a checkpoint says it was trained with; empty where it can't be read."""
    config = _values(checkpoint).get("config")
    return config if isinstance(config, dict) else {}


def content_of(checkpoint: Path) -> str:
    """Return sixteen hex digits that name the content of a checkpoint; empty where there is none.

    They come from the hashes of its files, so that a copy elsewhere has the same.
    """
    values = _values(checkpoint)
    return content_name(values) if "files" in values else ""


def content_name(manifest: Mapping[str, Any]) -> str:
    """Return the name of the content that the values of a manifest list."""
    hashes = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:16]


def _values(checkpoint: Path) -> dict[str, Any]:
    try:
        values = json.loads((checkpoint / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
