"""Whether a run can judge the evaluations of another; free of torch.

Apart from the specs of recipes: settings of packages import those, before a config can be loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.config.errors import ConfigError, DataError
from engine.config.loading import load_config
from engine.data.files.rates import check_rates
from engine.metrics.judged import JUDGE
from engine.recipes.specs import spec_of


def why_no_judge(trained: Mapping[str, Any], *, key: str, rate_hz: int) -> str:
    """Return what is wrong with a run as the judge of another, as a clause about it; empty where nothing is known.

    Args:
        trained: plain values of its config.
        key: the setting that names it.
        rate_hz: of the speech that is judged.
    """
    if key != JUDGE:
        return ""
    try:
        other = load_config(trained)
        spec = spec_of(other.recipe)
    except ConfigError:
        # Of a package that is not installed, or an older program: nobody knows.
        return ""
    if not spec.transcribes:
        return (
            f"trains {other.recipe}, which transcribes nothing; name a run of a speech recogniser (transducer or "
            "ctc)"
        )
    try:
        check_rates(rate_hz, other.data.rate_hz, setting=key)
    except DataError as error:
        return f"hears at {other.data.rate_hz} Hz: {error.problems[0].message}"
    return ""
