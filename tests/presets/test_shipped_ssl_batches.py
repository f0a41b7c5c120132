"""The shipped presets of self-supervised pre-training lose little audio to crops and padding."""

from __future__ import annotations

import numpy as np
import pytest

from engine.batching.open_plan import open_plan
from engine.batching.report import report_on
from engine.config.loading import load_config
from engine.config.unlabelled import UnlabelledData
from presets.catalogue import Catalogue
from tests.bench.batch_plans import librispeech_like

NAMES = [
    info.name
    for info in Catalogue().list()
    if Catalogue().read(info.name)["data"].get("kind") == "unlabelled"
]


@pytest.mark.parametrize("name", NAMES)
def test_crops_and_padding_take_less_than_a_tenth(name: str) -> None:
    config = load_config(Catalogue().read(name))
    assert isinstance(config.data, UnlabelledData)
    lengths_s = librispeech_like(20_000)
    # Longer utterances are cut into equal pieces.
    pieces = np.ceil(lengths_s / config.data.max_s).astype(int)
    sizes = np.repeat(lengths_s / pieces, pieces)[:, None]
    sizes = sizes[sizes[:, 0] >= config.data.min_s]
    report = report_on(open_plan(config, sizes, manifest=""), sizes)
    assert report.cropped_share + report.padding_share < 0.1
