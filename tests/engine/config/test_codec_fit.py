"""Which runs can be the codec of another, as far as configs say."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from engine.config.codec_fit import why_codec_does_not_fit
from presets.catalogue import Catalogue


def why(preset: str, *, key: str = "codec", rate_hz: int = 8_000) -> str:
    run = SimpleNamespace(data=SimpleNamespace(rate_hz=rate_hz))
    return why_codec_does_not_fit(run, Catalogue().read(preset), key=key)  # type: ignore[arg-type]


def test_a_codec_at_the_rate_of_the_run_fits() -> None:
    assert why("codec/small") == ""
    assert why("codec/base", rate_hz=22_050) == ""


def test_another_rate_says_both_ways_out() -> None:
    assert why("codec/small", rate_hz=16_000) == (
        "has a codec at 8000 Hz, but data.rate_hz = 16000; set it to 8000, or train a codec at 16000 Hz"
    )


@pytest.mark.parametrize("preset", ["ctc/small", "denoise/small", "ssl/hubert-small"])
def test_a_run_without_a_codec_is_refused(preset: str) -> None:
    assert "and has no codec; name a run of the recipe codec" in why(preset)


def test_other_settings_are_no_codec_and_what_can_not_be_read_is_nobody_s_guess() -> None:
    assert why("ctc/small", key="init_from") == ""
    assert why_codec_does_not_fit(SimpleNamespace(), {"loss": {"kind": "gone"}}, key="codec") == ""  # type: ignore[arg-type]
