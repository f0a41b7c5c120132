"""Training in each batch mode: losses of a stopped and resumed run equal those of an unbroken one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.batching.batch import Split
from engine.events import Noticed
from engine.training.trainer import Trainer

CAP = {"cap_s": 12.0}
MODES: dict[str, dict[str, Any]] = {
    "exact": {"items": 5, "pool_updates": 2, **CAP},
    "fixed": {"micro_batch": 3},
    "duration": CAP,
    "1D-bucketing": {**CAP, "bin_ends_s": [2.0, 4.0]},
    "1D-bucketing-dyn": {**CAP, "bins": 3},
    "2D-bucketing": {**CAP, "bins": 2, "token_bins": 2},
    "2D-bucketing-fixed": {"bin_ends": [[2.5, 9], [9.0, 99]], "bin_items": [3, 2]},
    "2D-bucketing-singlet": {"bin_ends": [[9.0, 99]], "micro_batch": 2},
}


@pytest.mark.parametrize("mode", MODES)
def test_a_resumed_run_goes_on_as_if_never_stopped(
    mode: str, make_config, line_recipe, new_recorder, stop_after, tmp_path: Path
) -> None:
    class Lines(line_recipe):
        def sizes(self, split: Split) -> np.ndarray:
            seconds = np.round(np.random.default_rng(5).uniform(1, 5, self.num_items), 2)
            return np.stack([seconds, np.ceil(3 * seconds)], axis=1)

    batch = {"mode": mode, "accumulation": 1 if mode == "exact" else 2, **MODES[mode]}
    config = make_config(batch=batch, schedule={"length": "9 updates"}, ema={"enabled": False})

    def train(folder: str, updates: float) -> dict[int, float]:
        recorder = new_recorder()
        Trainer(
            config,
            Lines(),
            folder=tmp_path / folder,
            observers=[recorder],
            control=stop_after(updates),
        ).fit()
        return recorder.curve("loss")

    whole = train("whole", np.inf)
    parts = {**train("parts", 5), **train("parts", np.inf)}
    assert len(whole) == 9
    assert parts == whole


def test_items_that_are_not_trained_are_told_at_the_start(
    make_config, line_recipe, recorder, stop_after, tmp_path: Path
) -> None:
    class Lines(line_recipe):
        def sizes(self, split: Split) -> np.ndarray:
            return np.array([[1.0], [9.0], [2.0], [14.0]])

    batch = {"mode": "1D-bucketing", "cap_s": 6.0, "bin_ends_s": [2.0, 10.0]}
    config = make_config(batch=batch, schedule={"length": "2 updates"})
    recipe = Lines(num_items=4)
    Trainer(config, recipe, folder=tmp_path, observers=[recorder], control=stop_after()).fit()
    told = [event.message for event in recorder.of(Noticed) if event.kind == "batch-plan"]
    assert len(told) == 2
    assert "skipped items: 1 (no bucket is large enough; first: item 3)" in told[0]
    assert "single items above batch.cap_s = 6: 1" in told[1]
