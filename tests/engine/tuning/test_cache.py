"""Results are kept by all that they depend on."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from engine.tuning import cache
from engine.tuning.cache import cache_key, keep_result, read_result
from engine.tuning.search import search
from engine.tuning.setups import Options


def test_a_result_is_read_back_as_it_was_kept(tmp_path, new_device, make_config) -> None:
    result = search(make_config(), Options(), measurer=new_device(), emit=lambda row: None)
    keep_result(tmp_path / "tuning", "abc", result=result)
    assert read_result(tmp_path / "tuning", "abc") == result
    assert (tmp_path / "tuning" / "abc.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "tuning").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (tmp_path / "tuning").iterdir()] == ["abc.json"]


@pytest.mark.parametrize("text", [None, "", "[]", "{", json.dumps({"rows": []})])
def test_what_can_not_be_read_is_as_good_as_nothing(tmp_path, text) -> None:
    if text is not None:
        (tmp_path / "abc.json").write_text(text)
    assert read_result(tmp_path, "abc") is None


def test_the_key_changes_with_all_that_matters(make_config, monkeypatch) -> None:
    config, options = make_config(), Options()
    keys = [
        cache_key(config, options, device_name="H200"),
        cache_key(config, options, device_name="A100"),
        cache_key(make_config(model={"width": 8}), options, device_name="H200"),
        cache_key(config, replace(options, free=0.2), device_name="H200"),
    ]
    assert cache_key(make_config(), Options(), device_name="H200") == keys[0]
    monkeypatch.setattr(cache, "version", lambda name: f"{name}-next")
    keys.append(cache_key(config, options, device_name="H200"))
    assert len(set(keys)) == len(keys)
