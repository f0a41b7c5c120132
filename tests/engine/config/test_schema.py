"""Every setting explains itself, spans name their clock, and counters convert between clocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config.counters import Counters, EpochsUnknown, UpdateSize
from engine.config.errors import nearest
from engine.config.fields import list_settings
from engine.config.span import CLOCKS, Span


def test_every_setting_has_help() -> None:
    settings = list_settings()
    assert len(settings) > 60
    assert [item.key for item in settings if not item.help.endswith(".")] == []


def test_every_number_has_bounds() -> None:
    numbers = [item for item in list_settings() if item.type_name in {"int", "float"}]
    assert [item.key for item in numbers if not item.bounds] == []


@pytest.mark.parametrize("suffix", ["_hz", "_s", "_db"])
def test_a_quantity_has_the_unit_of_its_name(suffix: str) -> None:
    units = {"_hz": "Hz", "_s": "s", "_db": "dB"}
    named = [item for item in list_settings() if item.key.endswith(suffix)]
    assert named
    assert {item.unit for item in named} == {units[suffix]}


def test_kind_selects_the_variant() -> None:
    keys = {item.key for item in list_settings({"data": "stems", "model": "conv_tasnet"})}
    assert {"data.targets", "model.features"} <= keys
    assert not {"data.noise", "model.width"} & keys


@given(st.integers(1, 10**9), st.sampled_from(CLOCKS))
def test_a_span_reads_back_what_it_prints(amount: int, clock: str) -> None:
    span = Span(float(amount), clock)  # type: ignore[arg-type]
    assert Span.parse(str(span)) == span


@pytest.mark.parametrize("text", ["", "1000", "updates", "-5 updates", "10 weeks", "1e3e updates"])
def test_text_that_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="like '1000 updates'"):
        Span.parse(text)


def test_counters_of_a_batch_of_32_in_micro_batches_of_16() -> None:
    size = UpdateSize(micro_batches=2, items=32, audio_seconds=64.0)
    counters = size.after(10)
    assert counters == Counters(10, 20, items=320, audio_seconds=640.0)
    assert counters.on(Span(1, "items")) == 320
    assert size.updates_in(Span(6400, "items")) == 200
    assert size.updates_in(Span(6400, "audio_seconds")) == 100
    assert size.updates_in(Span(6400, "micro_batches")) == 3200
    assert size.updates_in(Span(6400, "updates")) == 6400
    with pytest.raises(EpochsUnknown, match="3 epochs: the length of an epoch is unknown until"):
        size.updates_in(Span(3, "epochs"))


def test_epochs_are_whole_where_a_pass_ends() -> None:
    """49 shares of 1 / 49 are one epoch, whatever a sum of floats comes to."""
    size = UpdateSize(1, 4, audio_seconds=4.0, epochs=1 / 49)
    counters = Counters()
    for _ in range(98):
        counters = counters + size
    assert (
        counters == Counters(98, 98, items=392, audio_seconds=392.0, epochs=2.0) == size.after(98)
    )
    assert size.after(24).epochs == 0.489795918
    assert size.updates_in(Span(3, "epochs")) == pytest.approx(147, abs=1e-9)


def test_a_span_that_may_be_empty_is_a_span() -> None:
    kinds = {item.key: item.type_name for item in list_settings()}
    assert kinds["validation.full_every"] == kinds["validation.every"] == "span"


@pytest.mark.parametrize("typed", ["PESQ", "Pesk", "pesq"])
def test_a_hint_ignores_capitals(typed: str) -> None:
    assert nearest(typed, ["stoi", "pesq"]) == ", did you mean 'pesq'?"
    assert nearest(typed.lower(), ["STOI", "PESQ"]) == ", did you mean 'PESQ'?"
