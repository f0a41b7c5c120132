"""Why the run that `codec` names can't be the codec of a run, from configs alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.config.codec import MelCodecLoss
from engine.config.errors import ConfigError
from engine.config.loading import load_config
from engine.config.schema import RunConfig

CODEC = "codec"


def why_codec_does_not_fit(config: RunConfig, trained: Mapping[str, Any], *, key: str) -> str:
    """Return what is wrong with a run as the one that `codec` names, as a clause about that run.

    Args:
        config: the run that uses the codec.
        trained: plain values of the config of the other run.
        key: the setting that names it.

    Returns:
        A clause that goes on after the name of the run; empty where nothing is known to be wrong.
    """
    if key != CODEC:
        return ""
    try:
        other = load_config(trained)
    except ConfigError:
        # Of a package that is not installed, or an older program: nobody knows.
        return ""
    if not isinstance(other.loss, MelCodecLoss) and not other.loss.uses_codec:
        return (
            f"trains {other.recipe} and has no codec; name a run of the recipe codec (`sepdash enqueue "
            "codec/small` trains one), or one that uses such a codec"
        )
    if other.data.rate_hz != config.data.rate_hz:
        return (
            f"has a codec at {other.data.rate_hz} Hz, but data.rate_hz = {config.data.rate_hz}; set it to "
            f"{other.data.rate_hz}, or train a codec at {config.data.rate_hz} Hz"
        )
    return ""
