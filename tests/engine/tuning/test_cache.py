"""Results are kept by all that they depend on."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from engine.tuning import cache
from engine.tuning.cache import Place, cache_key, keep_result, read_result, still_fits
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


PLACE = Place(("H200",), total_bytes=2**37, free_bytes=2**36, threads=8)


def test_the_key_changes_with_all_that_matters(make_config, monkeypatch) -> None:
    config, options = make_config(), Options()
    sizes = np.array([[1.0, 5.0], [2.0, 3.0]])
    keys = [
        cache_key(config, options, place=PLACE),
        cache_key(config, options, place=replace(PLACE, devices=("A100",))),
        cache_key(config, options, place=replace(PLACE, devices=("H200", "A100"))),
        cache_key(config, options, place=replace(PLACE, total_bytes=2**36)),
        cache_key(config, options, place=replace(PLACE, threads=4)),
        cache_key(make_config(model={"width": 8}), options, place=PLACE),
        cache_key(config, replace(options, free=0.2), place=PLACE),
        cache_key(config, options, place=PLACE, sizes=sizes),
        cache_key(config, options, place=PLACE, sizes=sizes + np.array([0, 1])),
    ]
    assert cache_key(make_config(), Options(), place=replace(PLACE, free_bytes=1)) == keys[0]
    assert cache_key(config, options, place=PLACE, sizes=sizes[::-1]) == keys[7]
    monkeypatch.setattr(cache, "version", lambda name: f"{name}-next")
    keys.append(cache_key(config, options, place=PLACE))
    assert len(set(keys)) == len(keys)


def test_a_result_holds_while_its_batches_fit_and_no_larger_ones_do(
    new_device, make_config
) -> None:
    result = search(make_config(), Options(), measurer=new_device(), emit=lambda row: None)
    options = Options()

    def fits(free_gib: float, options: Options = options) -> bool:
        now = replace(PLACE, total_bytes=8 * 2**30, free_bytes=int(free_gib * 2**30))
        return still_fits(result, now, options=options)

    needed = result.peak_bytes / 0.92 / 2**30 + 0.5
    assert [fits(8), fits(needed + 0.01), fits(needed - 0.01)] == [True, True, False]
    smaller = replace(result, cap_bytes=result.cap_bytes // 2)
    assert not still_fits(smaller, replace(PLACE, total_bytes=8 * 2**30), options=options)
    assert fits(1, replace(options, memory_bytes=2**30))
