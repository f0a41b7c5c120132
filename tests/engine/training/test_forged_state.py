"""A resume from a state that something else wrote: refused in a message, or trained to the end."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.checkpoints.files import CheckpointError
from engine.checkpoints.layout import MANIFEST
from engine.config.counters import Counters
from engine.training.trainer import Trainer

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 7, 2**62, 2**70, 1e308, float("nan"), float("inf"), "", "x", "../../x",
    [], [[]], [1, 2], {}, {"a": {}}, {"(1.0,)": 0}, {"a": 10**9},
)  # fmt: skip


def places(values: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value inside some JSON, containers included."""
    inner = (
        values.items()
        if isinstance(values, dict)
        else enumerate(values)
        if isinstance(values, list)
        else ()
    )
    for key, value in inner:
        yield (*above, key)
        yield from places(value, (*above, key))


def put(values: Any, place: tuple[Any, ...], value: Any) -> None:
    for key in place[:-1]:
        values = values[key]
    values[place[-1]] = copy.deepcopy(value)


def sign(checkpoint: Path, state: Any, manifest: dict[str, Any]) -> None:
    """Write state and manifest with hashes that are right."""
    data = json.dumps(state).encode()
    (checkpoint / "state.json").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    manifest["files"]["state.json"] = {"size_bytes": len(data), "sha256": digest}
    text = json.dumps(manifest, sort_keys=True, indent=1)
    signature = hashlib.sha256(text.encode()).hexdigest()
    (checkpoint / MANIFEST).write_text(json.dumps({**manifest, "signature": signature}))


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_value_of_a_state_is_refused_or_goes_on(
    data: st.DataObject, tmp_path: Path, make_config: Any, line_recipe: Any, new_recorder: Any, stop_after: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: None
    )  # a disk is slow, and not what is tested
    config = make_config(
        schedule={"length": "6 updates"}, validation={"every": "2 updates"}, stop_when={"patience": "50 updates"}
    )  # fmt: skip
    whole, folder = tmp_path / "whole", tmp_path / "forged"

    def fit(run: Path, stop: Any) -> Any:
        recorder = new_recorder()
        return Trainer(config, line_recipe(), folder=run, observers=[recorder], control=stop).fit()

    if not whole.exists():
        fit(whole, stop_after(4))
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    (checkpoint,) = (folder / "checkpoints").glob("last-*")
    state = json.loads((checkpoint / "state.json").read_text())
    manifest = json.loads((checkpoint / MANIFEST).read_text())
    del manifest["signature"]
    inside = [
        *(("state", *place) for place in places(state)),
        *(("counters", *place) for place in places(manifest["counters"])),
        ("metrics",),
    ]
    place, value = data.draw(st.sampled_from(inside)), data.draw(st.sampled_from(ODD))
    put({"state": state, "counters": manifest["counters"], "metrics": manifest}, place, value)
    sign(checkpoint, state, manifest)
    refused, outcome = "", ""
    try:
        outcome = fit(folder, stop_after()).outcome
    except CheckpointError as error:
        refused = str(error)
    assert str(checkpoint) in refused or outcome in ("finished", "stopped")


@pytest.mark.parametrize(
    "values", [{"updates": "3"}, {"updates": -1}, {"updates": 2**63}, {"updates": True}, {"laps": 1}, {"epochs": None}]
)  # fmt: skip
def test_counters_that_are_none_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no number of its kind"):
        Counters.of(values)
    assert Counters.of({"samples": 3}).items == 3
