"""Values of an older version: upgraded in one place, whoever reads them."""

from __future__ import annotations

from typing import Any

import pytest

from engine.config import old_names
from engine.config.loading import load_config

VALUES: dict[str, Any] = {
    "data": {"kind": "denoise", "train": "a", "valid": "b", "noise": "c"},
    "optimizer": {"lr": 0.01},
}


def test_values_of_this_version_come_back_as_they_are() -> None:
    assert old_names.upgraded(VALUES) == VALUES


def test_steps_run_in_order_before_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def rate(values: dict[str, Any]) -> dict[str, Any]:
        section = dict(values.get("optimizer", {}))
        if "rate" in section:
            section["speed"] = section.pop("rate")
        return {**values, "optimizer": section}

    def speed(values: dict[str, Any]) -> dict[str, Any]:
        section = dict(values["optimizer"])
        if "speed" in section:
            section["lr"] = section.pop("speed")
        return {**values, "optimizer": section}

    monkeypatch.setattr(old_names, "STEPS", (rate, speed))
    old = {**VALUES, "optimizer": {"rate": 0.01}}
    assert load_config(old) == load_config(VALUES)
    assert old["optimizer"] == {"rate": 0.01}
