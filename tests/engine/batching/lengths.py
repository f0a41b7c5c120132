"""Sizes of items as tests draw them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


@st.composite
def item_sizes(draw: st.DrawFn, *, tokens: bool = False, most: int = 120) -> np.ndarray:
    """Return (N, D) sizes: N from 1 to `most`, seconds with many ties, tokens where asked for."""
    count = draw(st.integers(1, most))
    kind = draw(st.sampled_from(["spread", "few", "one long"]))
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    seconds = np.round(random.uniform(0.5, 20, count), 2)
    if kind == "few":
        seconds = random.choice([1.0, 2.5, 7.0], count)
    if kind == "one long":
        seconds = np.round(random.uniform(0.5, 3, count), 2)
        seconds[random.integers(count)] = 35.0
    if not tokens:
        return seconds[:, None]
    return np.stack([seconds, random.integers(0, 1 + np.ceil(seconds * 5)).astype(float)], axis=1)
