"""The recorded home, put at a place of its own, and the old words beside the new ones."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent
# Where the home stood when it was recorded: in the store, in checkpoints and in presets.
PLACE = "/home/user"
HOME = ".local/share/sepdash"

# New name of a setting or a counter -> what it was called on 2026-11-22.
OLD_NAMES = {
    "items": "samples",
    "clips": "samples",
    "validation.clips": "validation.samples",
}
# Settings that stood in a flat section beside any kind, and the kind that reads them.
OF_ONE_KIND = {"loss.windows": "spectral", "loss.reduction": "spectral"}
_SPAN = re.compile(r"(\S+) items")


def place(user: Path) -> Path:
    """Write the recorded files below `user` as if it were /home/user; return sepdash's home there."""
    home = user / HOME
    shutil.copytree(RECORDED / "audio", user / "audio")
    shutil.copytree(RECORDED / "home", home)
    for path in home.rglob("*.toml"):
        path.write_text(path.read_text().replace(PLACE, str(user)))
    for path in home.rglob("manifest.json"):
        path.write_bytes(_moved(path.read_text(), user))
    dump = home / "runs.sql"
    connection = sqlite3.connect(home / "runs.db")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(dump.read_text().replace(PLACE, str(user)))
    connection.close()
    dump.unlink()
    return home


def _moved(manifest: str, user: Path) -> bytes:
    """Return a manifest for another place, signed as the version of 2026-11-22 signed it."""
    values = json.loads(manifest.replace(PLACE, str(user)))
    del values["signature"]
    signature = hashlib.sha256(_canonical(values)).hexdigest()
    return _canonical({**values, "signature": signature})


def _canonical(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, indent=1).encode()


def expected() -> Any:
    """Return what the version of 2026-11-22 printed about the home, in its words."""
    return json.loads((RECORDED / "expected.json").read_text())


def leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and value of everything in nested dicts; lists count as values."""
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, values


def in_old_words(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values as dotted keys, with today's names and clocks put back into old words."""
    return {OLD_NAMES.get(key, key): _old(value) for key, value in leaves(values)}


def _old(value: Any) -> Any:
    if isinstance(value, str):
        return "samples" if value == "items" else _SPAN.sub(r"\1 samples", value)
    return [_old(item) for item in value] if isinstance(value, list) else value


def assert_same_config(today: Mapping[str, Any], recorded: Mapping[str, Any], user: Path) -> None:
    """Check that a config means what it meant; settings that are younger than it may be beside it."""
    now, then = in_old_words(today), dict(leaves(recorded))
    kind = then["loss.kind"]
    without_effect = {key for key, owner in OF_ONE_KIND.items() if owner != kind}
    for key, value in then.items():
        if key not in without_effect:
            wanted = value.replace(PLACE, str(user)) if isinstance(value, str) else value
            assert key in now, f"{key} is gone; was it renamed? OLD_NAMES knows {OLD_NAMES}"
            assert_close(now[key], wanted, key)


def assert_close(now: Any, then: Any, key: str, *, tolerance: float = 1e-6) -> None:
    """Check equality, of numbers within a share of the value."""
    if isinstance(then, list):
        assert len(now) == len(then), f"{key}: {now}, was {then}"
        for one, other in zip(now, then, strict=True):
            assert_close(one, other, key, tolerance=tolerance)
    elif isinstance(then, Mapping):
        flat = in_old_words(now)
        for name, value in leaves(then):
            assert_close(flat[name], value, f"{key}.{name}", tolerance=tolerance)
    elif isinstance(then, float) and now is not None:
        assert math.isclose(now, then, rel_tol=tolerance, abs_tol=1e-9), f"{key}: {now}, was {then}"
    else:
        assert now == then, f"{key}: {now!r}, was {then!r}"
