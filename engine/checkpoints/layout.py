"""Where checkpoints lie and what they say of themselves, for those who must not load torch.

Nothing is verified here; that is done by `engine.checkpoints.files`, when a checkpoint is used.
"""

from __future__ import annotations

import json
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
    try:
        values = json.loads((checkpoint / MANIFEST).read_text())["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return values if isinstance(values, dict) else {}
