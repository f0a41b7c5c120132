"""The memory law holds for codecs, whose steps keep frames of a crop and sums of a codebook."""

from __future__ import annotations

from typing import Any

import pytest

from engine.recipes.registry import open_recipe
from tests.memory import assert_six_probes_predict_others, kept_by


@pytest.mark.parametrize("quantiser", ["fsq", "vq"])
def test_six_probes_predict_the_memory_of_other_batches(make: Any, quantiser: str) -> None:
    kept = kept_by(open_recipe(make(model={"quantiser": quantiser})))
    # A crop is in whole codes of 48 ms.
    assert_six_probes_predict_others(kept, error=0.03)
