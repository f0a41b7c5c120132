"""The shipped presets against the schema, and what their descriptions promise."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from engine.config.counters import UpdateSize
from engine.config.loading import load_config
from presets.catalogue import Catalogue, to_toml

NAMES = [info.name for info in Catalogue().list()]


@pytest.mark.parametrize("name", NAMES)
def test_preset_makes_a_config(name: str) -> None:
    config = load_config(Catalogue().read(name))
    assert not Path(config.data.train).is_absolute()


@pytest.mark.parametrize("name", NAMES)
def test_full_config_written_as_toml_reads_back_as_the_same_run(name: str) -> None:
    config = load_config(Catalogue().read(name))
    again = load_config(tomllib.loads(to_toml(config.to_dict())))
    assert again.fingerprint == config.fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_restart_of_the_average_comes_before_the_end(name: str) -> None:
    config = load_config(Catalogue().read(name))
    size = UpdateSize(1, config.batch.items, audio_seconds=config.batch.items * config.segment_s)
    if config.ema.restart_at is not None:
        assert size.updates_in(config.ema.restart_at) < size.updates_in(config.schedule.length)


def test_demo_runs_are_matched_in_samples_on_every_clock() -> None:
    base, twice = (load_config(Catalogue().read(f"demo/{n}")) for n in ("baseline", "batch2x"))
    assert twice.batch.items == 2 * base.batch.items
    same = {"batch"}
    assert base.model_dump(exclude=same) == twice.model_dump(exclude=same)
    spans = [base.schedule.length, base.schedule.warmup, base.ema.per]
    spans += [base.validation.every, base.checkpoint.every]
    assert {span.clock for span in spans if span is not None} == {"items"}
    for config in (base, twice):
        for span in (config.schedule.length, config.validation.every, config.checkpoint.every):
            assert span.amount % config.batch.items == 0
